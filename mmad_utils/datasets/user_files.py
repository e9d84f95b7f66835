"""Samples of one's own: a CSV file or a folder of pictures, read and checked before any slow work.

What can be mended is mended and said (`Samples.notes`); what cannot is one `DatasetError`: where, and what to do.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mmad_utils.datasets.folders import CHECKOUT, data_home
from mmad_utils.datasets.images import check_images
from mmad_utils.datasets.record import DatasetError

__all__ = ["Samples", "find", "read_pictures", "read_table"]

FEWEST = 20  # normal samples; half of them train, half set the threshold
SEPARATORS = ";\t|,"  # of two that cut alike the first: a comma may be a decimal mark
HEAD = 50  # rows that decide on the separator and the decimal mark
GOOD = ("good", "normal", "ok")  # folders of normal pictures


@dataclass(frozen=True, eq=False)
class Samples:
    """What was read.

    Attributes
    ----------
    path : Path, the file or folder
    modality : "tabular" or "image"
    X : (n, columns) DataFrame as pandas reads it, or tuple of n image paths
    y : (n,) int64, 0 normal, 1 anomaly, or None where there are no labels
    names : (n,) array, the row in the file (the header is row 1), or the picture's path inside the folder
    notes : tuple of str, what was mended, left out or assumed; one sentence each
    """

    path: Path
    modality: str
    X: Any
    y: np.ndarray | None
    names: np.ndarray
    notes: tuple[str, ...]

    @property
    def rate(self) -> float | None:
        """Share of the anomalies, None without labels."""
        return None if self.y is None else float(self.y.mean())


def find(path: str | Path) -> Path:
    """A path of the user's: as given, or inside the project or the folder of the data, for a notebook runs elsewhere.

    Raises
    ------
    DatasetError
        It is in none of them.
    """
    given = Path(path).expanduser()
    folders = [Path.cwd(), *filter(None, [CHECKOUT]), data_home()]
    for folder in folders:
        if (folder / given).exists():
            return folder / given
    raise DatasetError(f"{given}: no such file or folder in {', '.join(map(str, folders))}. Give its whole path.")


def read_table(path: str | Path, label: str = "", encoding: str = "utf-8", least: int = FEWEST) -> Samples:
    """A CSV file with a header: numbers, categories, dates, gaps, in any mixture.

    The separator (comma, semicolon, tab or bar) is the one that cuts the first rows alike. Gaps are empty cells, "?",
    and what pandas takes for missing (NA, NaN, null, ...). Where semicolons separate, 1,5 is one and a half.

    Parameters
    ----------
    path : file
    label : str, column of labels, default none
        Of 0 and 1 (or False and True) the second is the anomaly, of two other values the rarer one.
    encoding : str, as Python names it: "utf-8", "cp1252", "latin-1", "utf-16", ...
    least : int, normal rows that must be there; 1 for a file that is only to be scored

    Raises
    ------
    DatasetError
        Not there, empty, not in that encoding, ragged, without header, no feature, fewer than ``least`` normal rows,
        no such label, or a label with gaps or with more or fewer than two values.
    """
    path, encoding = find(path), "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, not a CSV file; pictures are read by read_pictures.")
    header, separator, decimal, names = _check_rows(path, encoding)
    columns, notes = _distinct(header)
    try:
        frame = pd.read_csv(
            path, sep=separator, decimal=decimal, encoding=encoding, header=0, names=columns, index_col=False,
            na_values=["?"], skipinitialspace=True, low_memory=False,
        )  # fmt: skip
    except pd.errors.ParserError as error:
        raise DatasetError(f"{path}: pandas cannot read it ({error}). Save it anew as a plain CSV file.") from error
    if len(frame) != len(names):
        raise DatasetError(
            f"{path}: {len(names)} rows by the quotes, {len(frame)} by the lines. Put the cells in order that hold "
            "quotes, line breaks or nothing but spaces."
        )
    y = None
    if label:
        if label not in frame:
            near = difflib.get_close_matches(label, columns, n=1)
            raise DatasetError(
                f"{path}: no column {label!r}; {f'did you mean {near[0]!r}' if near else 'there are '}"
                f"{'' if near else ', '.join(map(repr, columns[:20]))}{'?' if near else '.'}"
            )
        y, note = _labels(frame.pop(label), names, f"{path}, column {label!r}")
        notes.append(note)
    if not frame.shape[1]:
        raise DatasetError(f"{path}: no column but the label; a detector needs at least one.")
    _check_enough(len(frame) if y is None else int((y == 0).sum()), least, path, "rows")
    return Samples(path, "tabular", frame, y, names, tuple(notes))


def read_pictures(folder: str | Path, least: int = FEWEST) -> Samples:
    """A folder of pictures, subfolders included, each decoded once to be sure that it can be.

    Where some pictures lie in a folder called good, normal or ok and others do not, this labels them: those are
    normal, all others anomalies. Folders called ground_truth (MVTec's masks) are passed by. Sizes may differ; the
    detectors see every picture as one square.

    Parameters
    ----------
    folder : path
    least : int, normal pictures that must be there; 1 for a folder that is only to be scored

    Raises
    ------
    DatasetError
        Not a folder, no picture in it, a damaged or tiny one, fewer than ``least`` normal ones.
    """
    folder = find(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file; give the folder that holds the pictures.")
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _passed_by(path, folder)]
    paths = tuple(path for path in files if path.suffix.lower() in endings)
    if not paths:
        raise DatasetError(
            f"{folder}: no picture among {len(files)} files. Give a folder of PNG, JPEG or TIFF files."
        )
    sizes = set(check_images(paths))
    others = len(files) - len(paths)
    notes = [f"Left out, for they are no pictures: {others} of the files."] if others else []
    if len(sizes) > 1:
        (low, _), (high, _) = min(sizes), max(sizes)
        notes.append(f"{len(sizes)} sizes (heights of {low} to {high} pixels): each is resized to one square.")
    names = np.array([path.relative_to(folder).as_posix() for path in paths], dtype=object)
    good = np.array([path != folder / path.name and path.parent.name.lower() in GOOD for path in paths])
    y = None if good.all() or not good.any() else (~good).astype(np.int64)
    if y is not None:
        notes.append(f"Labels by folder: {int((y == 0).sum())} normal pictures, {int(y.sum())} anomalies.")
    _check_enough(len(paths) if y is None else int((y == 0).sum()), least, folder, "pictures")
    return Samples(folder, "image", paths, y, names, tuple(notes))


def _passed_by(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "ground_truth" for part in path.relative_to(folder).parts)


def _check_enough(normal: int, least: int, path: Path, what: str) -> None:
    if normal < least:
        raise DatasetError(
            f"{path}: {normal} normal {what}; at least {least} are needed, half to learn from and half to set a "
            "threshold."
        )


def _check_rows(path: Path, encoding: str) -> tuple[list[str], str, str, np.ndarray]:
    """Header, separator, decimal mark, and the number of each row, which must have as many cells as the header."""
    numbers: list[int] = []
    row = 0
    try:
        separator, decimal = _dialect(path, encoding)
        rows = _rows(path, encoding, separator)
        header = [cell.strip() for cell in next(rows, (0, []))[1]]
        if not header:
            raise DatasetError(f"{path}: empty. Expected a header and a row for each sample.")
        for row, cells in rows:
            if len(cells) != len(header):
                raise DatasetError(
                    f"{path}, row {row}: {len(cells)} cells below {len(header)} column names (separator "
                    f"{separator!r}). Add or remove cells, or put quotes around a cell that holds the separator."
                )
            numbers.append(row)
    except LookupError as error:
        raise DatasetError(f"{path}: {error}. Encodings are utf-8, cp1252, latin-1, utf-16, ...") from error
    except UnicodeError as error:
        raise DatasetError(
            f"{path}, after row {row}: not a text in {encoding.removesuffix('-sig')} ({error}). Give its encoding: "
            "cp1252 (Windows, western Europe), latin-1, gb18030 (Chinese), utf-16, ...; or save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise DatasetError(f"{path}, after row {row}: not a CSV file ({error}). Save it anew as one.") from error
    if not numbers:
        raise DatasetError(f"{path}: no row below the header.")
    if all(_is_number(cell) for cell in header):
        raise DatasetError(f"{path}, row 1: only numbers, no column names. Add a header.")
    return header, separator, decimal, np.array(numbers)


def _rows(path: Path, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, with their numbers."""
    with path.open(newline="", encoding=encoding) as file:
        for number, cells in enumerate(csv.reader(file, delimiter=separator, skipinitialspace=True), start=1):
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield number, cells


def _dialect(path: Path, encoding: str) -> tuple[str, str]:
    """Separator and decimal mark."""
    heads = {}
    for separator in SEPARATORS:
        heads[separator] = [cells for _, cells in zip(range(HEAD), (c for _, c in _rows(path, encoding, separator)))]

    def fit(separator):
        lengths = [len(cells) for cells in heads[separator]] or [0]
        return lengths[0] > 1 and len(set(lengths)) == 1, lengths[0]

    best = max(SEPARATORS, key=fit)
    comma = best != "," and any(re.fullmatch(r"-?\d+,\d+", cell.strip()) for row in heads[best] for cell in row)
    return best, "," if comma else "."


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _distinct(header: list[str]) -> tuple[list[str], list[str]]:
    """Names of their own for columns that have none or one that is taken, and what was done."""
    names: list[str] = []
    notes = []
    for number, name in enumerate(header, start=1):
        new = name or f"column {number}"
        while new in names or (new != name and new in header):
            new = f"{new} ({number})"
        if new != name:
            reason = f"is called {name!r} like another" if name else "has no name"
            notes.append(f"Column {number} {reason}; here it is {new!r}.")
        names.append(new)
    return names, notes


def _labels(column: pd.Series, rows: np.ndarray, where: str) -> tuple[np.ndarray, str]:
    """Labels 0 and 1 of any column with two values, and which value was taken for what."""
    missing = np.flatnonzero(column.isna())
    if missing.size:
        raise DatasetError(f"{where}, row {rows[missing[0]]}: no label. Fill it in or remove the row.")
    values = column.map(lambda value: str(value).strip().removesuffix(".0"))
    counts = values.value_counts()
    if len(counts) != 2:
        shown = ", ".join(f"{value!r} ({n})" for value, n in counts.head(6).items())
        raise DatasetError(
            f"{where}: {len(counts)} different labels: {shown}{', ...' if len(counts) > 6 else ''}. Expected two: "
            "0 normal and 1 anomaly, or any two of which the rarer is the anomaly. Or give no label."
        )
    if set(counts.index) in ({"0", "1"}, {"False", "True"}):
        anomaly = max(counts.index)
    elif counts.iloc[0] == counts.iloc[1]:
        raise DatasetError(
            f"{where}: {counts.index[0]!r} and {counts.index[1]!r} are equally frequent, so neither is known to "
            "be the anomaly. Write 0 for normal and 1 for anomaly."
        )
    else:
        anomaly = counts.index[-1]
    normal = next(value for value in counts.index if value != anomaly)
    note = (
        f"Label: {anomaly!r} ({counts[anomaly]} rows) is the anomaly, {normal!r} ({counts[normal]} rows) is normal."
    )
    return (values == anomaly).to_numpy(np.int64), note
