"""Safe reading of untrusted files: `stat` before opening, and limits of size before memory is allocated."""

from __future__ import annotations

import gzip
import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any

from .record import DatasetError

__all__ = [
    "MAX_NUMBERS",
    "check_inside",
    "check_numbers",
    "check_regular",
    "printable",
    "read_compressed",
    "read_json",
]

MAX_NUMBERS = 50_000_000  # entries of an array in a file; default of $MMAD_MAX_NUMBERS
MAX_JSON = 100_000_000  # bytes
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def printable(name: object) -> str:
    """A name on one line: control characters and bytes that are not text are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def check_regular(path: str | Path, what: str = "file") -> os.stat_result:
    """The status of a regular file, or of the target of a link. The file is not opened.

    Raises
    ------
    DatasetError
        The file is missing or inaccessible, its name is invalid, or it is a folder, a named pipe, a socket or a
        device.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise DatasetError(f"{printable(path)}: no such {what}.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or a lone surrogate
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{printable(path)}: cannot be read ({reason}).") from error
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "no regular file")
        raise DatasetError(f"{printable(path)}: {kind}, not a {what}. Remove it, or give the {what} itself.")
    return status


def check_inside(path: Path, folder: Path) -> None:
    """Check that a link does not lead out of ``folder``.

    Raises
    ------
    DatasetError
    """
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise DatasetError(
            f"{printable(path)}: a link that leaves {printable(folder)}. Copy its target into the folder."
        )


def check_numbers(count: int, where: str, max_numbers: int | None = None) -> None:
    """Check that an array has at most ``max_numbers`` entries; None means $MMAD_MAX_NUMBERS, else 50 million.

    Raises
    ------
    DatasetError
    """
    if max_numbers is None:
        text = os.environ.get("MMAD_MAX_NUMBERS", str(MAX_NUMBERS))
        if not text.isdecimal():
            raise DatasetError(f"MMAD_MAX_NUMBERS={text!r}: expected a whole number, such as {MAX_NUMBERS}.")
        max_numbers = int(text)
    if count > max_numbers:
        raise DatasetError(
            f"{where}: {count:,} numbers; at most {max_numbers:,} are read. If there is enough memory, set the "
            "environment variable MMAD_MAX_NUMBERS to a larger number."
        )


def read_compressed(path: Path, size: int) -> bytes:
    """The first ``size`` bytes of a file, or all if it has fewer; decompressed if its name ends in .gz."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{printable(path)}: a damaged file ({error}). Delete it and fetch it again.") from error


def read_json(path: Path, expected: str) -> Any:
    """The content of a JSON file in UTF-8.

    Raises
    ------
    DatasetError
        The file is missing, larger than 100 MB, not UTF-8, not JSON, or nested too deeply. ``expected`` describes the
        content in the message.
    """
    if check_regular(path).st_size > MAX_JSON:
        raise DatasetError(f"{printable(path)}: more than {MAX_JSON:,} bytes; expected {expected}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{printable(path)}: expected {expected} ({error!r}).") from error
