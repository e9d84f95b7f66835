"""Files and folders that are whole or not there at all, and locks for work that one process does at a time."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["atomic_path", "locked", "png_size", "remove", "write_atomic"]

TEMPORARY = re.compile(r"(\..+\.\d+\.[0-9a-f]{8})\.partial(\.lock)?")  # names that atomic_path makes


@contextmanager
def locked(path: str | Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of ``path``; other processes and threads that ask for it wait.

    The lock is the file ``.<name>.lock`` beside ``path``, and ends with the process. The file is removed when the
    block ends; filelock gives no lock on a file that was removed meanwhile.

    Parameters
    ----------
    path : str or Path
        Need not exist. The folder around it is made if it is missing.
    wait : bool, default=True
        False raises ``filelock.Timeout`` where another process holds the lock.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name.lstrip('.')}.lock")
    with FileLock(file, blocking=wait):
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps an open file; filelock removes it there
                file.unlink()


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` for a file or a folder; renamed when the block ends, removed where the block fails.

    The folder around it is made if it is missing. What killed processes left there of such paths is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path.parent)
    temporary = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    with locked(temporary):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            remove(temporary)


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write a file whole: another process sees the old content or the new, never a part of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing happens where there is none. A link is removed, not what it points to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders of ``atomic_path`` that no process holds the lock of."""
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
        The bytes are no PNG.
    """
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("not a PNG: its signature is missing.")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
