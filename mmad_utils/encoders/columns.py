"""Columns of any type as numbers that a detector can compare, learned from training rows.

``fit`` decides on the type, the categories and the number format of every column, and ``transform`` keeps to them. A
value z of an ordinary cell is about as large as 1, whatever the column's unit, and grows only like a logarithm.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype
from sklearn.utils.validation import check_is_fitted

from mmad_utils.datasets.date_format import date_format, has_day, parse_dates
from mmad_utils.datasets.number_format import READABLE, NumberFormat, detect_format, parse_numbers
from mmad_utils.datasets.table_files import MISSING, MOST_UNREADABLE, distinct_names
from mmad_utils.detector import DetectorError
from mmad_utils.encoders.base import Encoder

__all__ = ["ColumnEncoder", "as_table", "describe_columns", "kinds_of"]

MOST_LEVELS = 10  # of a category that gets one 0/1 number per level
LARGEST = 1e150  # a number is cut there, so that its square is finite
OUTLIER = float(np.arcsinh(1e6))  # z of a gap in a column that had none in training: a million interquartile ranges
DAY, WEEK = 86_400, 7 * 86_400  # seconds
SHOWN = 5  # cells that a warning names
BECOMES = {
    "number": "arcsinh((x − median) / interquartile range)",
    "date": "days, scaled like a number; weekday and time of day as sine and cosine",
    "category": "0 or 1 for each value, and for any value not seen in training",
    "text": "how rare the value is, −log(its share), scaled like a number",
}


def describe_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """What each column is and what becomes of it.

    Returns
    -------
    DataFrame, one row per column of the table: ``column``; ``kind``, what ``ColumnEncoder`` takes ("number",
    "category", "text", "date " and its format) or "" where the column is left out;
    ``missing``, share of the cells in [0, 1]; ``distinct`` values; ``becomes``, in words

    Raises
    ------
    DetectorError
        No column is left.
    DatasetError
        A column of text can be read as numbers in two ways, or in two units.
    """
    frame = as_table(frame)
    rows: list[dict[str, Any]] = []
    seen: dict[tuple[str, int], list[str]] = {}
    for name in frame:
        cells = _cells(frame[name])
        kind, becomes, number_format = _kind(cells, name, frame.attrs)
        same = _digest(cells)
        twin = next((other for other in seen.get(same, ()) if cells.equals(_cells(frame[other]))), None)
        if kind and twin is not None:
            kind, becomes = "", f"left out: the same as {twin!r}"
        seen.setdefault(same, []).append(name)
        missing = cells.isna().to_numpy()
        values = _values(cells, kind, number_format) if kind not in ("", "category", "text") else np.zeros(len(cells))
        unread = int((np.isnan(values) & ~missing).sum())
        if unread:
            becomes += f"; {unread} cells that are no {kind.split(' ')[0]} count as missing"
        if kind and (missing.any() or unread):
            becomes += "; missing: the middle, and 1 in a column of its own"
        distinct = int(cells.nunique())
        rows.append(
            {"column": name, "kind": kind, "missing": float(missing.mean()), "distinct": distinct, "becomes": becomes}
        )
    columns = pd.DataFrame(rows)
    if not (columns["kind"] != "").any():
        reasons = "; ".join(f"{row['column']!r} {row['becomes']}" for row in rows[:5])
        raise DetectorError(f"no column is left to learn from: {reasons}. Give columns that vary.")
    return columns


def kinds_of(described: pd.DataFrame) -> dict[str, str]:
    """The kinds of the columns that ``describe_columns`` does not leave out, by name."""
    kept = described[described["kind"] != ""]
    return dict(zip(kept["column"], kept["kind"]))


@dataclass(eq=False, repr=False)
class ColumnEncoder(Encoder):
    """A table of mixed types as float64 numbers.

    - number: z = arcsinh((x − median) / interquartile range); a gap becomes 0, and 1 in a further column if
      training had gaps. Where half the cells are equal, the standard deviation stands for the interquartile range.
    - date: days as a number, sine and cosine of the weekday and, unless all are at midnight, of the time of day. A
      date before 1678 or after 2261 is a gap.
    - category: 0 or 1 for each of the 10 most frequent values, and one column for any other value or a gap.
    - text: −log of the share of training rows with that value, as a number; for an unseen value of 1/(n + 1).

    A cell that cannot be read as the type of its column is a gap, and ``transform`` warns of it. A gap in a column
    that had none in training becomes z = arcsinh(10⁶), an outlier: a column that marks gaps would be constant in
    training, and an isolation forest or a scaled distance ignores a constant column.

    Parameters
    ----------
    kinds : dict of column name -> "number", "date <format>", "category" or "text", or None
        None finds them by ``describe_columns`` in the training rows. Other columns are ignored.

    Attributes
    ----------
    kinds_ : dict of column name -> kind
    formats_ : dict of column name -> (decimal mark, unit) where they are not (".", "")
    learned_ : dict of column name -> what was learned of it
    sources_ : list of str, the column of the table that each number comes from

    Raises
    ------
    DetectorError
        A column of ``fit`` is missing in ``transform``, or has another unit.
    """

    kinds: Any = None

    def fit(self, X, y=None):
        """Learn from a DataFrame (or array) of training rows."""
        X = as_table(X)
        if self.kinds is None:
            self.kinds_ = kinds_of(describe_columns(X))
        else:
            self.kinds_ = {str(name): kind for name, kind in dict(self.kinds).items()}
        self.formats_: dict[str, tuple[str, str]] = {}
        self.learned_ = {name: self._learn(X, name) for name in self.kinds_}
        widths = {name: len(_names(name, self.kinds_[name], self.learned_[name])) for name in self.kinds_}
        self.sources_ = [name for name, width in widths.items() for _ in range(width)]
        return self

    def transform(self, X) -> np.ndarray:
        """(n, columns) DataFrame -> (n, d) float64."""
        return self.encode(X)[0]

    def encode(self, X) -> tuple[np.ndarray, np.ndarray]:
        """The numbers, (n, d) float64, and which cells are new in kind, (n, columns of ``kinds_``) bool.

        New is a gap in a column that had none in training, and a value of a category that training did not have.
        """
        check_is_fitted(self)
        X = as_table(X)
        encoded, new = np.empty((len(X), len(self.sources_))), np.zeros((len(X), len(self.kinds_)), dtype=bool)
        unreadable: list[str] = []
        count = position = 0
        for number, name in enumerate(self.kinds_):
            cells = self._column(X, name)
            parts, new[:, number], gaps = self._encode(cells, name, self._format(X, name))
            for part in parts:
                encoded[:, position] = part
                position += 1
            bad = np.flatnonzero(gaps & cells.notna().to_numpy() if gaps.any() else [])
            count += len(bad)
            for i in bad[: SHOWN - len(unreadable)]:
                unreadable.append(f"row {X.index[i]}, column {name!r}: {str(cells.iloc[i])[:40]!r}")
        without = [f"{name!r} ({self._unit(name)!r})" for name in self.kinds_ if self._lacks_unit(X, name)]
        if without:
            warnings.warn(
                f"{len(X)} rows have numbers without a unit in columns that had one in training, which is assumed: "
                f"{', '.join(without)}",
                stacklevel=3,
            )
        if count:
            warnings.warn(
                f"{count} cells cannot be read as the type that their column had in training and count as gaps: "
                f"{'; '.join(unreadable)}{'; ...' if count > len(unreadable) else ''}",
                stacklevel=3,
            )
        return encoded, new

    def mismatches(self, X) -> list[str]:
        """Why columns do not fit those of training, one sentence per column; an empty list where all do.

        A column does not fit if it is missing, if more than half of its cells cannot be read as its kind, or if its
        numbers have no unit and had one in training.
        """
        check_is_fitted(self)
        X, found = as_table(X), []
        for name, kind in self.kinds_.items():
            if name not in X:
                found.append(f"column {name!r} is missing")
                continue
            cells = _cells(X[name])
            gaps = self._encode(cells, name, self._format(X, name))[2]
            bad = np.flatnonzero(gaps & cells.notna().to_numpy())
            if len(bad) > MOST_UNREADABLE * len(cells):
                unit = f" in {self._unit(name)!r}" if self._unit(name) else ""
                found.append(
                    f"column {name!r} was a {kind.split(' ')[0]}{unit} in training, and {len(bad)} of {len(cells)} "
                    f"cells cannot be read as one, such as {str(cells.iloc[bad[0]])[:40]!r}"
                )
            elif self._lacks_unit(X, name):
                found.append(
                    f"column {name!r} has numbers without a unit, in training it was in {self._unit(name)!r}"
                )
        return found

    def set_state(self, state):
        """Undo ``get_state``; a file of an earlier version has no formats of numbers."""
        super().set_state(state)
        if hasattr(self, "kinds_") and not hasattr(self, "formats_"):
            self.formats_ = {}

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """(d,) names of the numbers: the column, and which part of it."""
        check_is_fitted(self)
        parts = [_names(name, kind, self.learned_[name]) for name, kind in self.kinds_.items()]
        return np.array([name for names in parts for name in names], dtype=object)

    def _unit(self, name: str) -> str:
        return self.formats_.get(name, (".", ""))[1]

    def _lacks_unit(self, X: pd.DataFrame, name: str) -> bool:
        """Whether a column holds numbers as such, without the unit that the cells of training had."""
        return bool(self._unit(name)) and is_numeric_dtype(X[name]) and name not in X.attrs.get("number_formats", {})

    def _column(self, X: pd.DataFrame, name: str) -> pd.Series:
        if name not in X:
            raise DetectorError(f"the table has no column {name!r}; it was there in training. Add it.")
        return _cells(X[name])

    def _format(self, X: pd.DataFrame, name: str) -> NumberFormat:
        """How numbers are written in a column of text; ``read_table`` leaves plain ones and says what they were."""
        given, learned = (
            X.attrs.get("number_formats", {}).get(name),
            self.formats_.get(name, (".", "")),
        )
        if given is None:
            return NumberFormat(*learned)
        if given[1] and learned[1] and given[1] != learned[1]:
            raise DetectorError(
                f"column {name!r} is in {given[1]!r}, in training it was in {learned[1]!r}. Convert it."
            )
        return NumberFormat()

    def _learn(self, X: pd.DataFrame, name: str) -> dict[str, Any]:
        """What the training rows say about one column."""
        cells, kind = self._column(X, name), self.kinds_[name]
        given = X.attrs.get("number_formats", {}).get(name)
        number_format = NumberFormat()
        if kind == "number" and given is not None:
            self.formats_[name] = tuple(given)
        elif kind == "number" and not is_numeric_dtype(cells):
            number_format = detect_format(cells, f"column {name!r}") or number_format
            self.formats_[name] = (number_format.decimal, number_format.unit)
        if self.formats_.get(name) == (".", ""):
            del self.formats_[name]
        if kind == "category":
            values = _words(cells)
            levels = [str(level) for level in values.value_counts().index[:MOST_LEVELS]]
            return {"levels": levels, "others": bool((~values.isin(levels)).any())}
        learned: dict[str, Any] = {}
        if kind == "text":
            values = _words(cells)
            counts = values.value_counts()
            learned = {
                "levels": [str(level) for level in counts.index],
                "surprise": -np.log(counts.to_numpy() / len(X)),
            }
            learned["unseen"] = float(np.log(len(X) + 1))
        values = _surprise(cells, learned) if kind == "text" else _values(cells, kind, number_format)
        known = values[~np.isnan(values)]
        learned["gaps"] = len(known) < len(values)
        if kind.startswith("date "):
            learned["times"] = bool((known % DAY != 0).any())
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75]) if known.size else (0.0, 0.0, 0.0)
        spread = high - low or (known.std() if known.size else 0.0)
        return learned | {"middle": float(middle), "spread": float(spread) or 1.0}

    def _encode(self, cells: pd.Series, name: str, number_format: NumberFormat):
        """The numbers of one column, a list of (n,); which cells are new in kind; and which are gaps."""
        kind, learned = self.kinds_[name], self.learned_[name]
        if kind == "category":
            words = _words(cells, learned["levels"], name)
            other = ~words.isin(learned["levels"]).to_numpy(bool)
            parts = [(words == level).to_numpy(np.float64, na_value=0.0) for level in learned["levels"]]
            return (
                [*parts, other.astype(np.float64)],
                other & (not learned.get("others", True)),
                cells.isna().to_numpy(),
            )
        values = _surprise(cells, learned, name) if kind == "text" else _values(cells, kind, number_format)
        gaps = np.isnan(values)
        z = values - learned["middle"]
        z /= learned["spread"]
        np.arcsinh(z, out=z)
        if gaps.any():
            z[gaps] = 0.0 if learned["gaps"] else OUTLIER
        parts = [z]
        if kind.startswith("date "):
            periods = [WEEK] * has_day(kind) + [DAY] * learned["times"]
            angles = [2 * np.pi * (values % period) / period for period in periods]
            waves = [np.where(gaps, 0.0, wave(angle)) for angle in angles for wave in (np.sin, np.cos)]
            parts += waves
        parts += [gaps.astype(np.float64)] if learned["gaps"] else []
        return parts, gaps & (not learned["gaps"]), gaps


def as_table(X) -> pd.DataFrame:
    """A DataFrame whose columns have different names, all of them text."""
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X))
    names, _ = distinct_names(list(frame.columns))
    if names == list(frame.columns):
        return frame
    frame = frame.copy(deep=False)
    frame.columns = names
    return frame


def _cells(column: pd.Series) -> pd.Series:
    """A column of any dtype as float64, dates, or text with NaN for gaps, as the same column of a file would be."""
    if isinstance(column.dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object).infer_objects()
    if column.dtype == np.float64:
        return pd.Series(column.to_numpy(), copy=False)  # quick: a large file has many of these
    if is_numeric_dtype(column.dtype):  # bool, nullable and Arrow's types too
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan))
    if is_datetime64_any_dtype(column.dtype):
        return pd.Series(pd.to_datetime(column, utc=True).to_numpy())
    if column.dtype.kind == "m":
        return pd.Series(column.dt.total_seconds().to_numpy(np.float64))
    words = column.astype(object).map(lambda cell: str(cell).strip(), na_action="ignore").reset_index(drop=True)
    return words.where(words.notna() & ~words.isin(MISSING), np.nan).astype("str")


def _digest(cells: pd.Series) -> tuple[str, int]:
    """Equal for equal columns."""
    if is_numeric_dtype(cells):
        return "number", hash(cells.to_numpy().tobytes())
    return str(cells.dtype), int(pd.util.hash_pandas_object(cells, index=False).sum())


def _kind(cells: pd.Series, name: str, attrs: dict[Any, Any]) -> tuple[str, str, NumberFormat]:
    """The kind of a column, "" where it is left out; what it becomes or why not; and how its numbers are written."""
    plain = NumberFormat()
    known = cells.dropna()
    distinct = known.nunique()
    if not distinct:
        return "", "left out: all cells are missing", plain
    if distinct == 1 and len(known) == len(cells):
        return "", f"left out: every cell is {str(known.iloc[0]).removesuffix('.0')[:40]!r}", plain
    if is_numeric_dtype(cells):
        counted = distinct == len(cells) and (np.diff(known) == 1).all()
        return ("", "left out: it counts the rows", plain) if counted else ("number", BECOMES["number"], plain)
    if is_datetime64_any_dtype(cells):
        return "date ISO8601", BECOMES["date"], plain
    if name not in attrs.get("text", ()):
        given = "." if name in attrs.get("number_formats", {}) else None
        found = detect_format(cells, f"column {name!r}", decimal=given)
        if found is not None:
            what = ", decimal comma" * (found.decimal == ",") + f", in {found.unit!r}" * bool(found.unit)
            return "number", BECOMES["number"] + what, found
        form, other = date_format(cells, READABLE)
        if form:
            doubt = (
                f"; {other} would read as many cells: give the kind 'date {other}' if it is right" if other else ""
            )
            return f"date {form}", BECOMES["date"] + doubt, plain
    if distinct == len(known) > MOST_LEVELS:
        return "", "left out: text that is different in every row, such as a name or number of the case", plain
    kind = "category" if distinct <= MOST_LEVELS else "text"
    return kind, BECOMES[kind], plain


def _values(cells: pd.Series, kind: str, number_format: NumberFormat) -> np.ndarray:
    """Numbers, or dates as seconds since 1970, (n,) float64; NaN where missing, infinite or unreadable."""
    if kind.startswith("date "):
        if is_numeric_dtype(cells):
            return np.full(len(cells), np.nan)
        return parse_dates(cells, kind.removeprefix("date "))
    if is_datetime64_any_dtype(cells):
        return np.full(len(cells), np.nan)
    values = cells.to_numpy() if is_numeric_dtype(cells) else parse_numbers(cells, number_format)
    if len(values) and values.min() >= -LARGEST and values.max() <= LARGEST:  # not so with NaN
        return values
    return np.clip(np.where(np.isfinite(values), values, np.nan), -LARGEST, LARGEST)


def _words(cells: pd.Series, levels=(), name: str = "") -> pd.Series:
    """Texts; a number becomes the level of training that is equal to it: 1.5 is the code "1.50"."""
    if is_datetime64_any_dtype(cells):
        return cells.astype("str")
    if not is_numeric_dtype(cells):
        return cells
    equal: dict[float, list[str]] = {}
    for level in levels:
        try:
            equal.setdefault(float(level), []).append(level)
        except ValueError:
            continue
    codes, distinct = pd.factorize(cells)
    words: list[Any] = []
    for value in distinct:
        same = equal.get(value) or [
            str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(float(value))
        ]
        if len(same) > 1:
            raise DetectorError(
                f"column {name!r}: {value:g} could be any of {same}, which were different in training. Read the file "
                "with read_table(..., like=detector), or give the column as text."
            )
        words.append(same[0])
    return pd.Series(np.array([*words, np.nan], dtype=object)[codes], dtype="str")


def _surprise(cells: pd.Series, learned: dict[str, Any], name: str = "") -> np.ndarray:
    """−log of the share of a text in training, (n,) float64; NaN for a gap."""
    codes, distinct = pd.factorize(_words(cells, learned["levels"], name))
    known = dict(zip(learned["levels"], learned["surprise"]))
    values = [float(known.get(word, learned.get("unseen", np.nan))) for word in distinct]
    return np.array([*values, np.nan])[codes]


def _names(name: str, kind: str, learned: dict[str, Any]) -> list[str]:
    """The names of the numbers that a column becomes, in the order of ``ColumnEncoder.encode``."""
    if kind == "category":
        return [*(f"{name} = {level}" for level in learned["levels"]), f"{name} = other"]
    names = [name]
    if kind.startswith("date "):
        periods = ["weekday"] * has_day(kind) + ["time of day"] * learned["times"]
        names += [f"{name}, {wave} of {period}" for period in periods for wave in ("sine", "cosine")]
    return names + [f"{name} is missing"] * learned["gaps"]
