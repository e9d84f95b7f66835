"""Atomic writing of files and folders, and file locks between processes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["atomic_path", "locked", "png_size", "remove", "remove_abandoned", "write_atomic"]

TEMPORARY = re.compile(r"(\..+\.\d+\.[0-9a-f]{8})\.partial(\.lock)?")  # names that atomic_path makes


@contextmanager
def locked(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of ``path`` during a block; other processes and threads that request it wait.

    The lock is held on the file ``.<name>.lock`` in the same folder, and is released when the process ends. The lock
    file is removed when the block ends. filelock does not grant a lock on a file that was removed in the meantime.

    Parameters
    ----------
    path : str or Path
        Need not exist. Its parent folder is created if it is missing.
    wait : bool, default=True
        If False, ``filelock.Timeout`` is raised when another process holds the lock.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name.lstrip('.')}.lock")
    with FileLock(file, blocking=wait):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows cannot remove an open file; filelock removes it there
                file.unlink()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to ``path`` at the end of the block, or remove it if the block fails.

    The temporary path is in the folder of ``path``, which is created if it is missing. The block may write a file or
    a folder there. Temporary files that killed processes left in this folder are removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_temporary(path.parent)
    temporary = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    with locked(temporary):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            remove(temporary)


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write a file atomically: other processes read the old content or the new content, never a part of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists. Of a symbolic link, the link is removed and not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes left beside ``path``: its lock file, and temporary files in its folder.

    ``atomic_path`` removes such temporary files before it writes. A process that finds ``path`` complete writes
    nothing, but the one that wrote it may have been killed before it removed its lock file.
    """
    with suppress(Timeout, OSError), locked(path, wait=False):
        _remove_temporary(path.parent)


def _remove_temporary(folder: Path) -> None:
    """Remove the temporary files and folders of ``atomic_path`` whose lock no process holds."""
    found = {match[1] for name in os.listdir(folder) if (match := TEMPORARY.fullmatch(name))}
    for name in found:
        temporary = folder / f"{name}.partial"
        with suppress(Timeout, OSError), locked(temporary, wait=False):
            remove(temporary)


def png_size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels, from its header.

    Raises
    ------
    ValueError
        The bytes are not a PNG.
    """
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("not a PNG: its signature is missing.")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
