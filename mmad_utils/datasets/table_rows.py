"""Reading of table files as rows of text: encoding, separator, comments, and Excel sheets."""

from __future__ import annotations

import csv
import gzip
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from mmad_utils.datasets.record import DatasetError

__all__ = ["Rows", "count_lines", "open_rows"]

SEPARATORS = "\t;|, "  # in order of priority
SAMPLE_LINES, SAMPLE_CHARACTERS = 1000, 4_000_000  # limits of the sample in which separator and comments are detected
LONGEST_LINE = 20_000_000  # characters
BLOCK = 1 << 20  # bytes that are read at a time to count lines
# An Excel file must not unpack to more than MOST_UNPACKED bytes and to more than MOST_COMPRESSED times its size.
MOST_UNPACKED = 50_000_000
MOST_COMPRESSED = 30
OTHER_FORMATS = {".xls", ".ods", ".zip", ".json", ".pkl", ".feather", ".h5", ".mat", ".npz", ".npy", ".pdf", ".png"}
Rows = Iterator[tuple[int, Sequence[str]]]


def open_rows(
    path: Path, encoding: str, separator: str | None, notes: list[str]
) -> tuple[Callable[[], Rows], str, list[str]]:
    """Open a table file; return a function that reads its rows, the separator, and the comment above the first row.

    The function yields row numbers and cells, without comments. The cells of the comment directly above the first row
    may be the names of the columns.
    """
    if path.suffix.lower() in (".xlsx", ".xlsm"):
        sheet = _sheet(path, notes)
        return lambda: iter(sheet), "", []
    if path.suffix.lower() in OTHER_FORMATS:
        raise DatasetError(f"{path}: a {path.suffix} file is not a text table. Save it as CSV, .xlsx or Parquet.")
    encoding = _encoding(path, encoding)
    with _errors(path, encoding), _open(path, encoding) as file:
        lines = _sample(file)
    named = bool(lines) and lines[0].lower().startswith("sep=") and len(lines[0].strip("\r\n")) == 5
    if named:
        separator = separator or lines[0][4]
        notes.append(f"Row 1 names the separator {lines[0][4]!r}.")
    lines = [line for line in lines if line.strip()]
    hashes = [line.startswith("#") for line in lines]
    comments = 0 < sum(hashes) <= len(hashes) / 2
    if separator is None:
        separator = _separator([line for line in lines if not (comments and line.startswith("#"))])
    if comments:
        notes.append("Lines that begin with # are comments and are omitted.")
    above = lines[hashes.index(False) - 1] if comments and hashes[0] else ""
    cells = re.split(r"\s+" if separator == " " else re.escape(separator), above.strip("# \t\r\n")) if above else []
    return partial(_rows, path, encoding, separator, comments, named), separator, [cell.strip() for cell in cells]


def count_lines(path: Path) -> int:
    """The number of line feeds of a text file, at least 1; used for progress bars."""
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        return max(1, sum(block.count(b"\n") for block in iter(partial(file.read, BLOCK), b"")))


def _rows(path: Path, encoding: str, separator: str, comments: bool, named: bool) -> Rows:
    """The rows that are not empty, without the first row if it only defines the separator."""
    number = 0
    with _errors(path, encoding, lambda: number), _open(path, encoding) as file:
        lines = _lines(file)
        if separator == " ":
            lines = (re.sub(r"[ \t]+", " ", line.strip()) + "\n" for line in lines)
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        for number, cells in enumerate(reader, start=1):
            if (named and number == 1) or (comments and cells and cells[0].startswith("#")):
                continue
            if any(map(str.strip, cells)):
                yield number, cells


def _lines(file: IO[str]) -> Iterator[str]:
    """The lines of a file, with limited length, because a small gzip file can contain a very long line."""
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise csv.Error(f"a line of {LONGEST_LINE:,} characters or more")
        yield line


def _sample(file: IO[str]) -> list[str]:
    """The first lines: SAMPLE_LINES of them, or fewer if they have SAMPLE_CHARACTERS in total."""
    lines, size = [], 0
    for line in islice(_lines(file), SAMPLE_LINES):
        lines.append(line)
        size += len(line)
        if size >= SAMPLE_CHARACTERS:
            break
    return lines


def _open(path: Path, encoding: str) -> IO[str]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return opener(path, "rt", newline="", encoding=encoding)  # type: ignore[operator]


class _errors:
    """Context manager that converts errors of the readers to a `DatasetError` with location and remedy."""

    def __init__(self, path: Path, encoding: str, row: Callable[[], int] = lambda: 0):
        self.path, self.encoding, self.row = path, encoding, row

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, UnicodeError):
            raise DatasetError(
                f"{self.path}, after row {self.row()}: not a text in {self.encoding.removesuffix('-sig')} ({error}). "
                f"{_likely_encoding(self.path)} Other names are latin-1, big5, shift_jis, cp1251, utf-16."
            ) from error
        if isinstance(error, LookupError):
            raise DatasetError(f"{self.path}: {error}. Encodings are utf-8, cp1252, gb18030, utf-16, ...") from error
        if isinstance(error, csv.Error):
            raise DatasetError(
                f"{self.path}, after row {self.row()}: not a CSV file ({error}). Look for a quote that is not closed."
            ) from error
        if isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
            raise DatasetError(f"{self.path}: not a complete gzip file ({error}). Copy it again.") from error


def _bytes(path: Path, size: int) -> bytes:
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        return file.read(size)


def _encoding(path: Path, encoding: str) -> str:
    """The encoding to open a file with, considering a byte order mark."""
    with _errors(path, encoding):
        head = _bytes(path, 4096)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and encoding.lower() in ("utf-8", "utf8"):
        return "utf-16"
    if b"\0" in head and not encoding.lower().startswith(("utf-16", "utf16", "utf-32", "utf32")):
        first = head[:200]
        for guess, zeros in (("utf-16-le", first[1::2]), ("utf-16-be", first[::2])):
            if set(zeros) == {0}:
                raise DatasetError(f"{path}: not a text in {encoding}. Give encoding={guess!r}.")
        raise DatasetError(f"{path}: a binary file, not text. Save the table as CSV, .xlsx or Parquet.")
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding


def _likely_encoding(path: Path) -> str:
    """A sentence with the probable encoding; byte pairs of common Chinese characters indicate GB18030."""
    sample = _bytes(path, SAMPLE_CHARACTERS)
    runs = re.findall(rb"[\x80-\xff]+", sample)
    pairs = b"".join(run for run in runs if len(run) % 2 == 0)
    common = sum(0xB0 <= lead <= 0xD7 for lead in pairs[::2])
    if len(pairs) > 0.8 * sum(map(len, runs)) and common > 0.6 * len(pairs[::2]):
        return "It is probably Chinese: give encoding='gb18030'."
    try:
        sample.decode("cp1252")
    except UnicodeError:
        return "Give its encoding, or save it as UTF-8."
    return "It is probably from Windows in western Europe: give encoding='cp1252'."


def _separator(lines: list[str]) -> str:
    """The first separator that gives all rows of the sample the same number of cells, else most of the rows.

    The first row may have one cell less than the others, as in files with row names from R, or one more if that is
    empty.
    """
    if not lines:
        return ","
    found = {}
    for mark in SEPARATORS:
        cut = [re.sub(r"[ \t]+", " ", line.strip()) for line in lines] if mark == " " else lines
        try:
            first, *rest = csv.reader(cut, delimiter=mark, skipinitialspace=True)
        except csv.Error:
            continue
        body = [len(cells) for cells in rest] or [len(first)]
        ((width, rows),) = Counter(body).most_common(1)
        share = rows / len(body)
        header = len(first) - (len(first) == width + 1 and not first[-1].strip())
        numbers = header == 1 and _decimal_commas(lines[1:])  # a single column with decimal commas
        if width > 1 and share >= 0.5 and header in (width, width - 1) and not numbers:
            found[mark] = share, header == width
    if found:
        return max(found, key=lambda mark: found[mark])
    return ";" if _decimal_commas(lines[1:]) else ","


def _decimal_commas(lines: list[str]) -> bool:
    """Whether the lines are single numbers with a decimal comma."""
    return bool(lines) and all(re.fullmatch(r'"?-?\d+(,\d+)?"?', line.strip()) for line in lines)


def _sheet(path: Path, notes: list[str]) -> list[tuple[int, list[str]]]:
    """Read the rows of the first sheet of an Excel file as text."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
        if unpacked > max(MOST_UNPACKED, MOST_COMPRESSED * path.stat().st_size):
            raise ValueError(f"it unpacks to {unpacked:,} bytes")
        with pd.ExcelFile(path, engine="openpyxl") as book:
            name, *others = book.sheet_names
            sheet = pd.read_excel(book, sheet_name=name, header=None, dtype=object, na_filter=False)
    except ImportError as error:
        raise DatasetError(f"{path}: reading Excel files needs openpyxl: pip install openpyxl.") from error
    except Exception as error:  # openpyxl raises errors of many types for damaged files
        raise DatasetError(f"{path}: not a readable Excel file ({error}). Save it again, or as CSV.") from error
    if others:
        notes.append(f"Sheet {name!r} is read, the other {len(others)} are not.")
    rows = [(number, [_cell(cell) for cell in cells]) for number, cells in enumerate(sheet.to_numpy(), start=1)]
    return [(number, cells) for number, cells in rows if any(cells)]


def _cell(cell: Any) -> str:
    """A cell of Excel as text, as in a CSV file."""
    if cell is None or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    return str(cell).strip()
