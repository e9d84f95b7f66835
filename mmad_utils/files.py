"""Files and folders that are whole or not there at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_path", "png_size", "write_atomic"]


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` for a file or a folder; renamed when the block ends, removed where the block fails.

    The folder around it is made if it is missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write a file whole: another process sees the old content or the new, never a part of it."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


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
