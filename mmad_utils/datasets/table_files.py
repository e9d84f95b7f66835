"""A table of one's own from CSV, Excel or Parquet, read and checked before any slow work.

Decided from the whole file: whether there is a header, and which columns are numbers in which format.
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
HEAD = 100  # rows that show whether there is a header
CHUNK = 50_000  # rows held as text at a time
MOST_UNREADABLE = 0.5  # share of a column's cells; with more a file to score is refused
SHOWN = 5  # columns or rows that a note names
SHORT = 60  # characters of the names or cells of a row in a note
POINT = re.compile(r"(?m)\.\d{0,2}$|\.\d{4}|\.\d*[eE]|^-?0?\.|\d{4}\.")  # a point that separates no thousands
CODE = re.compile(r"\n[+-]?0\d")  # a leading zero
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
    """A table of numbers, categories, dates and gaps from CSV (also ``.csv.gz``), Excel (.xlsx) or Parquet.

    Separator, header and the number format of each column are decided from the file and reported in the notes. Gaps
    are empty cells, "?" and the usual words for missing (NA, NaN, null, None, ...). A column is numeric where all
    cells are numbers of one format; where a few are not, it stays text, and ``ColumnEncoder`` takes these as gaps.
    Integers with leading zeros or more than 15 digits are codes and stay text.

    Parameters
    ----------
    path : file
    label : str, column of labels, default none
        Words that mean normal (0, normal, good, ok, 正常, ...) or anomalous (1, anomaly, bad, NG, 异常, ...) in
        English or Chinese decide, however many rows have them.
    encoding : str, as Python names it: "utf-8", "cp1252", "gb18030", "utf-16", ...
    least : int, normal rows that must be there; 1 for a file that is only to be scored
    separator : str, one character, " " for runs of spaces; default the one that gives all rows equally many cells
    decimal : "." or ",", the decimal mark of all columns; default decided for each column
    header : bool, whether the first row has the column names; default noticed
    normal_label : str, the value of ``label`` that means normal; all others are anomalies
    text : sequence of str, columns to keep as text
    like : fitted ``ColumnEncoder`` or a detector that has one, default None
        Its types and number formats are used instead of what this file suggests: for a file to score.

    Raises
    ------
    DatasetError
        Not there, empty, not in that encoding, ragged, no feature, fewer than ``least`` normal rows, no such label, a
        label with gaps or of unknown meaning, a column of numbers with two units or readable in two ways; with
        ``like`` a column is missing or more than half of its cells are unreadable.
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
        raise DatasetError(f"least={least!r}: give the number of normal rows that must be there, 1 or more.")
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, not a table; pictures are read by read_pictures.")


def _learned(like: Any) -> tuple[dict[str, str], dict[str, NumberFormat]]:
    """The kind of each column that an encoder, or a detector with one, has learned, and the formats of numbers."""
    if like is None:
        return {}, {}
    encoder = getattr(like, "encoder_", like)
    return dict(encoder.kinds_), {name: NumberFormat(*pair) for name, pair in encoder.formats_.items()}


def iter_table(
    path: str | Path, encoder, encoding: str = "utf-8", separator: str | None = None
) -> Iterator[tuple[pd.DataFrame, float]]:
    """The rows of a table in chunks, for a fitted ``ColumnEncoder``: only its columns, and not all rows in memory.

    Yields
    ------
    (n, columns of the encoder) DataFrame whose index is the row in the file (the header of a text file is row 1), and
    the share of the file that was read so far, in (0, 1]

    Raises
    ------
    DatasetError
        Before the first chunk: as `read_table`, or columns are missing. Later: a row of another length, not a text in
        that encoding, a damaged file.
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
    lines = count_lines(path) if separator else 0  # a sheet has none
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
        for group in range(file.num_row_groups):  # all groups in one call would stay in memory
            for batch in file.iter_batches(CHUNK, row_groups=[group], columns=names, use_threads=False):
                frame = batch.to_pandas(ignore_metadata=True, split_blocks=True)
                frame.index = pd.RangeIndex(read + 1, read + 1 + len(frame))
                read += len(frame)
                yield frame, read / total
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: not a readable Parquet file ({error}). Write it anew.") from error
    if not read:
        raise DatasetError(f"{path}: no row.")


def _check_columns(path: Path, names: list[str], columns: list[str]) -> None:
    """Refuse a file that lacks columns, and name all of them."""
    missing = []
    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(name, [other for other in columns if other not in names])
            missing.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    if missing:
        raise DatasetError(f"{path}: no column {', '.join(missing)}, which the detector has learned from.")


def distinct_names(header: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Names of their own for columns that have none or one that is taken, and what was done."""
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
        notes = [*notes[:SHOWN], f"{len(notes) - SHOWN} further columns without a name of their own got one."]
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
        raise DatasetError(f"{path}: not a readable Parquet file ({error}). Write it anew.") from error
    if not len(frame):
        raise DatasetError(f"{path}: no row.")
    named = [name for name in frame.index.names if name is not None]
    frame = frame.reset_index(level=named) if named else frame
    frame.columns, said = distinct_names(list(frame.columns))
    notes += said
    for name, column in frame.items():
        if column.dtype == object and column.map(lambda cell: isinstance(cell, (list, dict, np.ndarray))).any():
            raise DatasetError(
                f"{path}, column {name!r}: holds lists, not single values. Give it columns of its own."
            )
    return frame.reset_index(drop=True), np.arange(1, len(frame) + 1)


def _header(rows, path: Path, header: bool | None, notes: list[str], above: list[str]) -> tuple[list[str], bool]:
    """Column names, and whether the first row has them."""
    sample = [[cell.strip() for cell in cells] for _, cells in islice(rows(), HEAD)]
    if not sample:
        raise DatasetError(f"{path}: empty. Expected a header and a row for each sample.")
    names, body = sample[0], sample[1:]
    lengths = {len(cells) for cells in body}
    full = lengths == {len(names) + 1} and any(cells[-1] for cells in body)  # as R writes row names
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
                "are numbered. Give header=True if it is one."
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
    """Whether the first row has names: a word above numbers, or words that do not come again below them."""
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
    """The columns as int64 or float64 where all cells are plain numbers, else (and those of ``text``) as str."""
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
    if mixed:  # the first rows were numbers, later ones are not: read these columns once more, as text
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
    """Lists of at most CHUNK rows below the header, every one with as many cells as the header."""
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
    """int64 or float64, if every cell is a gap or a number as Python writes it."""
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
    """Columns of text as numbers where they are; the formats are kept in ``frame.attrs["number_formats"]``."""
    columns = dict(frame.items())
    texts = {name for name, one in columns.items() if not is_numeric_dtype(one) and one.dtype.kind not in "mM"}
    for name in texts:
        cells = columns[name].astype(object)
        columns[name] = cells.where(~cells.isin(MISSING) & cells.notna(), np.nan).astype("str")
    candidates = [name for name in columns if name in texts and name not in kept]
    where = {name: f"{path}, column {name!r}" for name in columns}
    shown = frame.attrs.get("points", set())  # columns in which the point is the decimal mark without doubt
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
            said = f"{len(unreadable)} of {len(names)} cells are no numbers{f' in {one.unit!r}' if one.unit else ''}"
            if kinds and len(unreadable) > MOST_UNREADABLE * written.notna().sum():
                raise DatasetError(f"{where[name]}: {said} ({cells}). It was a column of numbers in training.")
            notes.append(f"Column {name!r}: {said} and count as gaps ({cells}).")
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
    """The decimal marks that columns of the file show; None where the point is known to be decimal."""
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
    """float64 if all cells are numbers, else text with plain numbers; and the positions of the other cells."""
    values = parse_numbers(cells, number_format)
    unreadable = np.flatnonzero(np.isnan(values) & cells.notna().to_numpy())
    if not len(unreadable):
        return pd.Series(values), unreadable
    plain = pd.Series([repr(value) for value in values.tolist()], dtype=object)
    return plain.where(~np.isnan(values), cells.astype(object)).astype("str"), unreadable


def _example(cells: pd.Series, one: NumberFormat) -> str:
    """The longest cell that is a number, and its value; "" where Python reads it in the same way."""
    distinct = pd.Series(cells.dropna().unique(), dtype="str")
    values = parse_numbers(distinct, one)
    readable = distinct[~np.isnan(values)]
    if not len(readable) or pd.to_numeric(readable, errors="coerce").notna().all():
        return ""
    longest = readable.str.len().to_numpy().argmax()
    return f"{readable.iloc[longest]!r} is {values[readable.index[longest]]:.15g}"


def _said(found: dict[str, NumberFormat], examples: dict[str, str]) -> list[str]:
    """One note for each format that is not Python's."""
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
