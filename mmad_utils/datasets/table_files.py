"""Reading of the user's tables from CSV, Excel or Parquet, with all checks before any slow computation.

The header, the types of the columns and the formats of numbers are detected from the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
from pandas.api.types import is_float_dtype, is_numeric_dtype

from mmad_utils.datasets.input_files import check_numbers
from mmad_utils.datasets.number_format import NumberFormat, detect_format, parse_numbers
from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.samples import FEWEST, Samples, check_enough, find
from mmad_utils.datasets.table_labels import binary_labels
from mmad_utils.datasets.table_rows import count_lines, open_rows

__all__ = ["MISSING", "distinct_names", "iter_table", "read_table"]

MISSING = {  # pandas' words, and "?"
    "", "?", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "null", "NULL", "None", "NaT", "<NA>", "#N/A", "#NA",
    "#N/A N/A", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN",
}  # fmt: skip
HEAD = 100  # rows from which the header is detected
CHUNK = 50_000  # rows held as text at a time
MOST_UNREADABLE = 0.5  # largest share of unreadable cells of a column in a file to score
SHOWN = 5  # largest number of columns or rows in a note
SHORT = 60  # characters of a row in a note
POINT = re.compile(r"(?m)\.\d{0,2}$|\.\d{4}|\.\d*[eE]|^-?0?\.|\d{4}\.")  # a point that is a decimal mark
CODE = re.compile(r"\n[+-]?0\d")  # leading zero
LONG = re.compile(r"\n[+-]?\d{16,}\n")
PLAIN = set("0123456789.+-eE\nnaif")


def read_table(
    path: str | Path,
    label: str = "",
    encoding: str = "utf-8",
    least: int = FEWEST,
    *,
    separator: str | None = None,
    decimal: str | None = None,
    header: bool | None = None,
    normal_label: str | None = None,
    text: Sequence[str] = (),
    like: Any = None,
) -> Samples:
    """Read a table from CSV (also ``.csv.gz``), Excel (.xlsx) or Parquet.

    Separator, header and number formats are detected and reported in the notes. Missing cells are empty, "?", or a
    usual word for missing values (NA, NaN, null, None, ...). A column is numeric if all its cells are numbers of one
    format. If a few cells are not numbers, the column stays text, and ``ColumnEncoder`` treats these cells as
    missing. Integers with leading zeros or more than 15 digits are identifiers and stay text.

    Parameters
    ----------
    path : file
    label : str, name of the label column, default: no labels
        The labels are words in English or Chinese that mean normal (0, normal, good, ok, 正常, ...) or anomalous (1,
        anomaly, bad, NG, 异常, ...). The frequencies of the words have no influence.
    encoding : str, encoding as in Python: "utf-8", "cp1252", "gb18030", "utf-16", ...
    least : int, smallest number of normal rows; give 1 to score only
    separator : str, one character, or " " for runs of spaces
        Default: the separator that gives all rows the same number of cells.
    decimal : "." or ",", the decimal mark of all columns; default: detected for each column
    header : bool, whether the first row contains the column names; default: detected
    normal_label : str, the value of ``label`` that means normal; all other values are anomalies
    text : sequence of str, columns to keep as text
    like : fitted ``ColumnEncoder`` or a detector that has one, default None
        Its types and number formats are used instead of those detected in the file. Use it for a file to score.

    Raises
    ------
    DatasetError
        The file is missing or empty, has another encoding, or has rows of different lengths. There is no feature, or
        there are fewer than ``least`` normal rows. The label column does not exist, has missing cells, or its values
        have no known meaning. A numeric column has two units, or can be read in two ways. With ``like``: a column is
        missing, or more than half of its cells are unreadable.
    """
    path = find(path)
    _check_options(path, least, separator, decimal)
    kinds, formats = _learned(like)
    notes: list[str] = []
    kept = {str(name) for name in text} | {name for name, kind in kinds.items() if kind != "number"}
    label = str(label)
    again = None
    if path.suffix.lower() == ".parquet":
        frame, names = _parquet(path, notes)
    else:
        rows, separator, above = open_rows(path, encoding, separator, notes)
        columns, header = _header(rows, path, header, notes, above)
        written = {name for name, one in formats.items() if one.decimal == "," or one.unit}
        again = partial(_read, rows, columns, header, path, separator)
        frame, names = again({label} | kept | written if decimal != "," else set(columns))
    wanted = [(label, "label")] if label else []
    wanted += [(str(name), "text") for name in text] + [(name, "the detector") for name in kinds]
    for name, what in wanted:
        if name not in frame:
            raise _no_column(path, name, what, list(frame))
    y = None
    if label:
        y, note = binary_labels(frame.pop(label), names, f"{path}, column {label!r}", normal_label, label)
        notes.append(note)
    if not frame.shape[1]:
        raise DatasetError(f"{path}: no column but the label; a detector needs at least one.")
    frame = _numbers(frame, names, path, kept, decimal, separator, again, kinds, formats, notes)
    check_enough(len(frame) if y is None else int((y == 0).sum()), least, path, "rows")
    return Samples(path, "tabular", frame, y, names, tuple(notes))


def _check_options(path: Path, least: int, separator: str | None, decimal: str | None) -> None:
    if decimal not in (None, ".", ","):
        raise DatasetError(f"decimal={decimal!r}: give '.' or ','.")
    if separator is not None and (len(separator) != 1 or separator in '"\n\r'):
        raise DatasetError(
            f"separator={separator!r}: give one character, such as ',' or ';'; ' ' for runs of spaces."
        )
    if least < 1:
        raise DatasetError(f"least={least!r}: give the smallest number of normal rows, 1 or more.")
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, not a table; use read_pictures for images.")


def _learned(like: Any) -> tuple[dict[str, str], dict[str, NumberFormat]]:
    """The kinds of the columns and the number formats that an encoder, or a detector with one, has learned."""
    if like is None:
        return {}, {}
    encoder = getattr(like, "encoder_", like)
    return dict(encoder.kinds_), {name: NumberFormat(*pair) for name, pair in encoder.formats_.items()}


def iter_table(
    path: str | Path, encoder, encoding: str = "utf-8", separator: str | None = None
) -> Iterator[tuple[pd.DataFrame, float]]:
    """Read the columns of a fitted ``ColumnEncoder`` from a table in chunks, for tables that do not fit in memory.

    Yields
    ------
    frame : (n, columns of the encoder) DataFrame
        Its index is the number of the row in the file; the header of a text file is row 1.
    share : float in (0, 1]
        Share of the file that was read so far.

    Raises
    ------
    DatasetError
        Before the first chunk: the errors of `read_table`, or columns are missing. Later: a row has another length,
        the text has another encoding, or the file is damaged.
    """
    path = find(path)
    names = list(encoder.kinds_)
    if path.suffix.lower() == ".parquet":
        yield from _parquet_chunks(path, names)
        return
    notes: list[str] = []
    rows, separator, above = open_rows(path, encoding, separator, notes)
    columns, header = _header(rows, path, None, notes, above)
    _check_columns(path, names, columns)
    plain = {name for name in names if encoder.kinds_[name] == "number" and name not in encoder.formats_}
    lines = count_lines(path) if separator else 0  # 0 for an Excel sheet
    for chunk in _chunks(rows, len(columns), header, path, separator):
        numbers = [number for number, _ in chunk]
        frame: dict[str, Any] = {}
        for name in names:
            position = columns.index(name)
            cells = [row[position].strip() for _, row in chunk]
            values = _plain(cells) if name in plain else None
            frame[name] = pd.array(cells, dtype="str") if values is None else values
        yield pd.DataFrame(frame, index=numbers), min(1.0, numbers[-1] / lines) if lines else 1.0


def _parquet_chunks(path: Path, names: list[str]) -> Iterator[tuple[pd.DataFrame, float]]:
    try:
        file = pyarrow.parquet.ParquetFile(path)
        _check_columns(path, names, file.schema_arrow.names)
        read, total = 0, file.metadata.num_rows
        for group in range(file.num_row_groups):  # a single call would keep all groups in memory
            for batch in file.iter_batches(CHUNK, row_groups=[group], columns=names, use_threads=False):
                frame = batch.to_pandas(ignore_metadata=True, split_blocks=True)
                frame.index = pd.RangeIndex(read + 1, read + 1 + len(frame))
                read += len(frame)
                yield frame, read / total
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet file ({error}). Write it again.") from error
    if not read:
        raise DatasetError(f"{path}: no row.")


def _check_columns(path: Path, names: list[str], columns: list[str]) -> None:
    """Raise an error that lists all missing columns of a file."""
    missing = []
    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(name, [other for other in columns if other not in names])
            missing.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}, with which the detector was fitted.")


def distinct_names(header: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Make column names unique: rename columns without a name or with a duplicate name; return names and notes."""
    given = ["" if name is None else str(name).strip() for name in header]
    names: list[str] = []
    taken, used, notes = set(given), set(), []
    for number, name in enumerate(given, start=1):
        new = name or f"column {number}"
        while new in used or (new != name and new in taken):
            new = f"{new} ({number})"
        if new != name:
            reason = f"is called {name!r} like another" if name else "has no name"
            notes.append(f"Column {number} {reason}; here it is {new!r}.")
        names.append(new)
        used.add(new)
    if len(notes) > SHOWN:
        notes = [*notes[:SHOWN], f"{len(notes) - SHOWN} further columns without a unique name were renamed."]
    return names, notes


def _no_column(path: Path, name: str, what: str, columns: list[str]) -> DatasetError:
    near = difflib.get_close_matches(name, columns)
    shown = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, columns[:20]))}."
    return DatasetError(f"{path}: no column {name!r}, which {what} names; {shown}")


def _parquet(path: Path, notes: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    try:
        metadata = pyarrow.parquet.read_metadata(path)
        check_numbers(metadata.num_rows * metadata.num_columns, str(path))
        frame = pd.read_parquet(path)
    except DatasetError:
        raise
    except (pyarrow.ArrowException, ValueError, OSError, TypeError, KeyError) as error:
        raise DatasetError(f"{path}: not a readable Parquet file ({error}). Write it again.") from error
    if not len(frame):
        raise DatasetError(f"{path}: no row.")
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    frame.columns, said = distinct_names(list(frame.columns))
    notes += said
    for name, column in frame.items():
        if column.dtype == object and column.map(lambda cell: isinstance(cell, (list, dict, np.ndarray))).any():
            raise DatasetError(
                f"{path}, column {name!r}: contains lists, not single values. Write each value to its own column."
            )
    return frame.reset_index(drop=True), np.arange(1, len(frame) + 1)


def _header(rows, path: Path, header: bool | None, notes: list[str], above: list[str]) -> tuple[list[str], bool]:
    """The column names, and whether the first row contains them."""
    sample = [[cell.strip() for cell in cells] for _, cells in islice(rows(), HEAD)]
    if not sample:
        raise DatasetError(f"{path}: empty. Expected a header and a row for each sample.")
    names, body = sample[0], sample[1:]
    lengths = {len(cells) for cells in body}
    full = lengths == {len(names) + 1} and any(cells[-1] for cells in body)  # row names, as written by R
    if lengths == {len(names) - 1} and not names[-1]:
        names = names[:-1]
    if (
        header is None
        and len(above) == len(names)
        and not any(map(_is_number, above))
        and any(map(_is_number, names))
    ):
        columns, said = distinct_names(above)
        notes += [f"The comment above the first row names the columns: {', '.join(above)[:SHORT]}.", *said]
        return columns, False
    numeric = sum(_is_number(name) for name in names)
    if header is None:
        header = full or not body or _is_header(names, body)
        if not header:
            notes.append(
                f"Row 1 ({', '.join(names)[:SHORT]}) is data like the rows below: there is no header, the columns "
                "are numbered. Give header=True if row 1 is a header."
            )
        elif numeric:
            notes.append(f"{numeric} column names in row 1 are numbers. Give header=False if row 1 is data.")
    elif not header:
        notes.append("No header: the columns are numbered.")
    if header and not body:
        raise DatasetError(f"{path}: no row below the header.")
    names = [""] + names if full else names
    columns, said = distinct_names(names if header else [f"column {i}" for i in range(1, len(names) + 1)])
    if full:
        said = ["The rows have one cell more than the header has names: the first is 'column 1'.", *said[1:]]
    notes += said
    return columns, bool(header)


def _is_header(names: list[str], body: list[list[str]]) -> bool:
    """Whether the first row contains names: a word above numbers, or words that do not occur in the rows below."""
    recurring = below = new = 0
    for name, cells in zip(names, zip(*(row[: len(names)] for row in body if len(row) >= len(names)))):
        known = [cell for cell in cells if cell not in MISSING]
        numbers = sum(map(_is_number, known)) > 0.8 * len(known)
        if _is_number(name) or (name in MISSING and name):
            below += numbers or not known or name in MISSING
        elif name and numbers:
            if name[0].isalpha() or not _number_like(name):
                return True
        elif name:
            recurring += name in known
            new += name not in known and len(set(known)) < len(known)
    values = [float(name) for name in names if _is_number(name)]
    counting = len(values) > 1 and all(np.diff(values) == 1) and len(values) >= len(list(filter(None, names))) - 1
    counting = counting and ((len(values) > 2 and values[0] in (0, 1)) or 1900 <= values[0] <= 2100)
    if recurring and recurring >= new:
        return False
    return counting or not below or (new > below)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def _number_like(cell: str) -> bool:
    """Whether a cell is a number with a decimal comma, thousands or a unit."""
    return detect_format(pd.Series([cell]), "", decimal=".") is not None


def _read(rows, columns, header, path, separator, text: set[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Read columns as int64 or float64 if all cells are plain numbers, else as str; columns of ``text`` as str."""
    blocks: list[list[Any]] = [[] for _ in columns]
    numbers: list[np.ndarray] = []
    points: set[str] = set()
    for chunk in _chunks(rows, len(columns), header, path, separator):
        numbers.append(np.array([number for number, _ in chunk]))
        for block, name, column in zip(blocks, columns, zip(*(row for _, row in chunk))):
            cells = list(map(str.strip, column))
            plain = None if name in text else _plain(cells)
            if (
                plain is not None
                and plain.dtype.kind == "f"
                and name not in points
                and POINT.search("\n".join(cells))
            ):
                points.add(name)
            block.append(pd.Series(cells, dtype="str") if plain is None else plain)
    mixed = {name for name, block in zip(columns, blocks) if len({isinstance(part, pd.Series) for part in block}) > 1}
    if mixed:  # the first rows were numbers, later rows are not: read these columns again as text
        chosen = [i for i, name in enumerate(columns) if name in mixed]
        for i in chosen:
            blocks[i] = []
        for chunk in _chunks(rows, len(columns), header, path, separator):
            for i in chosen:
                blocks[i].append(pd.Series([cells[i].strip() for _, cells in chunk], dtype="str"))
    frame = {}
    for name, block in zip(columns, blocks):
        whole = pd.concat(block, ignore_index=True) if isinstance(block[0], pd.Series) else np.concatenate(block)
        block.clear()
        frame[name] = whole
    table = pd.DataFrame(frame, copy=False)
    table.attrs["points"] = points
    return table, np.concatenate(numbers)


def _chunks(rows, width: int, header: bool, path: Path, separator: str):
    """Yield lists of at most CHUNK rows below the header; every row must have as many cells as the header."""
    found = rows()
    if header:
        next(found)
    while chunk := list(islice(found, CHUNK)):
        for i, (number, cells) in enumerate(chunk):
            if len(cells) != width:
                if len(cells) == width + 1 and not cells[-1].strip():
                    chunk[i] = number, cells[:-1]
                    continue
                raise DatasetError(
                    f"{path}, row {number}: {len(cells)} cells below {width} column names (separator {separator!r}). "
                    "Add or remove cells, put quotes around a cell that holds the separator, or give separator=."
                )
        yield chunk


def _plain(cells: list[str]) -> np.ndarray | None:
    """Numbers as int64 or float64, if every cell is missing or a number in Python's notation; else None."""
    known = ["" if cell in MISSING else cell for cell in cells]
    block = "\n" + "\n".join(known) + "\n"
    if not PLAIN.issuperset(block) or CODE.search(block):
        return None
    try:
        values = pd.to_numeric(pd.Series(known, dtype=object)).to_numpy()
    except (ValueError, OverflowError):
        return None
    if values.dtype.kind not in "if":
        return None
    large = values[np.isfinite(values)]
    return None if large.size and np.abs(large).max() >= 1e15 and LONG.search(block) else values


def _numbers(frame, names, path, kept, decimal, separator, again, kinds, formats, notes) -> pd.DataFrame:
    """Convert text columns that are numeric to numbers; formats are stored in ``frame.attrs["number_formats"]``."""
    columns = dict(frame.items())
    texts = {name for name, one in columns.items() if not is_numeric_dtype(one) and one.dtype.kind not in "mM"}
    for name in texts:
        cells = columns[name].astype(object)
        columns[name] = cells.where(~cells.isin(MISSING) & cells.notna(), np.nan).astype("str")
    candidates = [name for name in columns if name in texts and name not in kept]
    where = {name: f"{path}, column {name!r}" for name in columns}
    shown = frame.attrs.get("points", set())  # columns in which the point is certainly the decimal mark
    marks = _decimal_marks(columns, candidates, where, names, shown, separator)
    if decimal is None and marks is not None and marks != {"."} and separator != "," and again is not None:
        floats = [name for name, one in columns.items() if name not in texts and is_float_dtype(one.dtype)]
        points = [name for name in floats if name not in shown and name not in formats]
        if points:
            columns |= dict(again(set(points))[0][points].items())
            candidates += points
    found: dict[str, NumberFormat] = {}
    examples: dict[str, str] = {}
    for name in candidates:
        written = columns[name]
        if name in kinds:
            one = formats.get(name, NumberFormat())
        else:
            one = detect_format(written, where[name], names, decimal=decimal, marks=marks)
        if one is None:
            known = written.dropna()
            if len(known) and known.str.fullmatch(r"\d+").all():
                notes.append(f"Column {name!r} has leading zeros or more than 15 digits: it is kept as text.")
            continue
        columns[name], unreadable = _as_numbers(written, one)
        if len(unreadable):
            cells = ", ".join(f"row {names[i]}: {str(written.iloc[i])[:40]!r}" for i in unreadable[:SHOWN])
            said = f"{len(unreadable)} of {len(names)} cells are not numbers{f' in {one.unit!r}' if one.unit else ''}"
            if kinds and len(unreadable) > MOST_UNREADABLE * written.notna().sum():
                raise DatasetError(f"{where[name]}: {said} ({cells}). It was a column of numbers in training.")
            notes.append(f"Column {name!r}: {said} and count as missing ({cells}).")
        found[name], examples[name] = one, _example(written, one)
    notes += _said(found, examples)
    for name in columns.keys() - texts:
        if name in kept and kinds:
            columns[name] = columns[name].astype("str")
    new = pd.DataFrame(columns, copy=False)
    new.attrs["number_formats"] = {name: (one.decimal, one.unit) for name, one in found.items()}
    new.attrs["text"] = sorted(kept & set(columns))
    return new


def _decimal_marks(columns, candidates, where, names, shown, separator) -> frozenset[str] | None:
    """The decimal marks for which columns of the file are evidence; None if the point is known to be decimal."""
    marks = frozenset(".") if shown else frozenset() if separator == ";" else None
    for name in candidates:
        try:
            one = detect_format(columns[name], where[name], names, marks=marks)
        except DatasetError:
            continue  # raised by _numbers, when the marks of all columns are known
        if one is not None and one.decimal == ",":
            return (marks or frozenset()) | {","}
    return marks


def _as_numbers(cells: pd.Series, number_format: NumberFormat) -> tuple[pd.Series, np.ndarray]:
    """Convert cells to float64 if all are numbers, else to text with plain numbers; and positions of other cells."""
    values = parse_numbers(cells, number_format)
    unreadable = np.flatnonzero(np.isnan(values) & cells.notna().to_numpy())
    if not len(unreadable):
        return pd.Series(values), unreadable
    plain = pd.Series([repr(value) for value in values.tolist()], dtype=object)
    return plain.where(~np.isnan(values), cells.astype(object)).astype("str"), unreadable


def _example(cells: pd.Series, one: NumberFormat) -> str:
    """The longest cell that is a number, with its value; "" if all cells are in Python's notation."""
    distinct = pd.Series(cells.dropna().unique(), dtype="str")
    values = parse_numbers(distinct, one)
    readable = distinct[~np.isnan(values)]
    if not len(readable) or pd.to_numeric(readable, errors="coerce").notna().all():
        return ""
    longest = readable.str.len().to_numpy().argmax()
    return f"{readable.iloc[longest]!r} is {values[readable.index[longest]]:.15g}"


def _said(found: dict[str, NumberFormat], examples: dict[str, str]) -> list[str]:
    """One note for each number format that differs from Python's notation."""
    columns: dict[NumberFormat, list[str]] = {}
    for name, one in found.items():
        if examples[name]:
            columns.setdefault(one, []).append(name)
    notes = []
    for one, names in columns.items():
        shown = ", ".join(map(repr, names[:SHOWN])) + (
            f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        )
        what = f"decimal {'comma' if one.decimal == ',' else 'point'}{f', in {one.unit!r}' if one.unit else ''}"
        notes.append(f"Column{'s' * (len(names) > 1)} {shown}: {what}; {examples[names[0]]}.")
    return notes
