"""Samples of one's own: a CSV file or a folder of pictures, read and checked before any slow work.

What can be mended is mended and said (`Samples.notes`); what cannot is one `DatasetError`: where, and what to do.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from mmad_utils.datasets.image_folders import read_pictures
from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.samples import FEWEST, Samples, check_enough, find

__all__ = ["Samples", "find", "read_pictures", "read_table"]

SEPARATORS = ";\t|,"  # of two that cut alike the first: a comma may be a decimal mark
HEAD = 50  # rows that decide on the separator and the decimal mark


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
    check_enough(len(frame) if y is None else int((y == 0).sum()), least, path, "rows")
    return Samples(path, "tabular", frame, y, names, tuple(notes))


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
