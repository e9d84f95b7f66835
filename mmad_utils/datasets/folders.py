"""Folders of data and cache: in the checkout if the package is used from one, else the platform's user folders."""

from __future__ import annotations

import os
import warnings
import zlib
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from mmad_utils.files import write_atomic

__all__ = ["CHECKOUT", "cache_home", "data_home", "read_cached", "user_path", "write_cached"]

UNWRITABLE: set[Path] = set()  # cache folders for which the warning was given


def _checkout() -> Path | None:
    """The folder of the checkout, or None if the package is installed without one."""
    root = Path(__file__).resolve().parents[2]
    settings = root / "pyproject.toml"
    return root if settings.is_file() and 'name = "mmad"' in settings.read_text(encoding="utf-8") else None


CHECKOUT = _checkout()


def user_path(path: str | Path = "") -> Path:
    """Resolve a path given by the user: ``~`` is the home folder, relative paths start in the current folder.

    The current folder is $MMAD_CURRENT_FOLDER if set, else that of the process. ``python -m mmad_utils.course run``
    sets this variable because its kernel runs in the folder of the notebook.
    """
    return Path(os.environ.get("MMAD_CURRENT_FOLDER") or Path.cwd()) / Path(path).expanduser()


def data_home(path: str | Path | None = None) -> Path:
    """The folder of the user's and of downloaded data: the argument, else $MMAD_DATA_HOME, else the default.

    The default is ``data/`` in the checkout. For an installed package it is the platform's folder for user data.
    """
    default = CHECKOUT / "data" if CHECKOUT else user_data_path("mmad")
    return Path(path or os.environ.get("MMAD_DATA_HOME") or default).expanduser()


def cache_home() -> Path:
    """The folder of cached files that the package computes: $MMAD_CACHE_HOME, else the default.

    The default is ``data/cache`` in the checkout. For an installed package it is the platform's folder for the user
    cache.
    """
    default = CHECKOUT / "data" / "cache" if CHECKOUT else user_cache_path("mmad")
    return Path(os.environ.get("MMAD_CACHE_HOME") or default).expanduser()


def read_cached(path: Path) -> bytes | None:
    """Read a file that ``write_cached`` wrote; None if it is missing or unreadable, or its checksum is wrong."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    content, checksum = raw[:-4], raw[-4:]
    return content if zlib.crc32(content).to_bytes(4, "big") == checksum else None


def write_cached(path: Path, content: bytes) -> None:
    """Write a file below ``cache_home()`` atomically, with a checksum.

    If this fails, each process gives one warning, and then writes no further files.
    """
    home = cache_home()
    if home in UNWRITABLE:
        return
    try:
        write_atomic(path, content + zlib.crc32(content).to_bytes(4, "big"))
    except OSError as error:
        UNWRITABLE.add(home)
        warnings.warn(
            f"the cache cannot be written: {error}. Features and controls are computed each time. Free some disk "
            "space, or set MMAD_CACHE_HOME to a folder that can be written.",
            stacklevel=3,
        )
