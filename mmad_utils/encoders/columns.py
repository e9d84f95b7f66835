"""Encoding of table columns of any type as numeric features on a common scale.

``fit`` determines the type, the categories and the number format of every column, and ``transform`` uses them. The
value z of an ordinary cell is of the order of 1, for any unit of the column. For extreme cells, z grows
logarithmically.
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

MOST_LEVELS = 10  # largest number of levels of a category with one-hot encoding
LARGEST = 1e150  # numbers are clipped to this absolute value, so that their squares are finite
OUTLIER = float(np.arcsinh(1e6))  # z of a missing cell in a column without missing cells in training
DAY, WEEK = 86_400, 7 * 86_400  # seconds
SHOWN = 5  # largest number of cells in a warning
BECOMES = {
    "number": "arcsinh((x − median) / interquartile range)",
    "date": "days, scaled like a number; weekday and time of day as sine and cosine",
    "category": "0 or 1 for each value, and for any value not seen in training",
    "text": "rarity of the value, −log(its share), scaled like a number",
}


def describe_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Detect the kind of each column of a table, and describe its encoding.

    Returns
    -------
    DataFrame, one row per column of the table
        ``column`` : name; ``kind`` : "number", "category", "text", "date " and its format, or "" if the column is
        left out; ``missing`` : share of missing cells in [0, 1]; ``distinct`` : number of distinct values;
        ``becomes`` : the encoding in words.

    Raises
    ------
    DetectorError
        All columns are left out.
    DatasetError
        A text column can be read as numbers in two ways, or has two units.
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
            becomes += f"; {unread} cells that are not a {kind.split(' ')[0]} count as missing"
        if kind and (missing.any() or unread):
            becomes += "; missing: the median, and 1 in an indicator column"
        distinct = int(cells.nunique())
        rows.append(
            {"column": name, "kind": kind, "missing": float(missing.mean()), "distinct": distinct, "becomes": becomes}
        )
    columns = pd.DataFrame(rows)
    if not (columns["kind"] != "").any():
        reasons = "; ".join(f"{row['column']!r} {row['becomes']}" for row in rows[:5])
        raise DetectorError(f"no column is left: {reasons}. Give columns that vary.")
    return columns


def kinds_of(described: pd.DataFrame) -> dict[str, str]:
    """The kinds of the columns that ``describe_columns`` does not leave out, by name."""
    kept = described[described["kind"] != ""]
    return dict(zip(kept["column"], kept["kind"]))


@dataclass(eq=False, repr=False)
class ColumnEncoder(Encoder):
    """Encode a table of mixed types as float64 features.

    - number: z = arcsinh((x − median) / interquartile range). A missing cell becomes 0; if the column had missing
      cells in training, an indicator column is 1. If the interquartile range is 0, the standard deviation is used.
    - date: the number of days, encoded like a number; sine and cosine of the weekday and, unless all dates are at
      midnight, of the time of day. A date before 1678 or after 2261 counts as missing.
    - category: 0 or 1 for each of the 10 most frequent values, and one column for other values and missing cells.
    - text: −log of the share of training rows with the same value, encoded like a number. The share of a value that
      did not occur in training is 1/(n + 1).

    A cell that cannot be read as the type of its column counts as missing, with a warning of ``transform``. If a cell
    is missing in a column without missing cells in training, it becomes z = arcsinh(10⁶), an outlier. An indicator
    column would be constant in training, and an isolation forest or a scaled distance ignores constant columns.

    Parameters
    ----------
    kinds : dict of column name -> "number", "date <format>", "category" or "text", or None
        None: they are detected in the training rows by ``describe_columns``. Columns that are not in the dict are
        ignored.

    Attributes
    ----------
    kinds_ : dict of column name -> kind
    formats_ : dict of column name -> (decimal mark, unit) if they are not (".", "")
    learned_ : dict of column name -> learned values
    sources_ : list of str, the column of the table for each feature

    Raises
    ------
    DetectorError
        A column of ``fit`` is missing in ``transform``, or has another unit.
    """

    kinds: Any = None

    def fit(self, X, y=None):
        """Learn kinds, formats and scales from a DataFrame (or array) of training rows."""
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
        """Encode a DataFrame (n, columns) as features (n, d) float64."""
        return self.encode(X)[0]

    def encode(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Features, (n, d) float64, and which cells are of a new kind, (n, columns of ``kinds_``) bool.

        A cell is of a new kind if it is missing in a column without missing cells in training, or if it holds a
        category that did not occur in training.
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
                f"{', '.join(without)}. Convert the numbers if they have another unit.",
                stacklevel=3,
            )
        if count:
            warnings.warn(
                f"{count} cells cannot be read as the type that their column had in training and count as missing: "
                f"{'; '.join(unreadable)}{'; ...' if count > len(unreadable) else ''}",
                stacklevel=3,
            )
        return encoded, new

    def mismatches(self, X) -> list[str]:
        """Differences between the columns and those of training, one sentence per column; empty without differences.

        A column differs if it is missing, if more than half of its cells cannot be read as its kind, or if its
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
                    f"column {name!r} has numbers without a unit; in training it was in {self._unit(name)!r}"
                )
        return found

    def set_state(self, state):
        """Restore the state of ``get_state``; a file of an earlier version has no number formats."""
        super().set_state(state)
        if hasattr(self, "kinds_") and not hasattr(self, "formats_"):
            self.formats_ = {}

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names of the features, (d,): the column and the part of its encoding."""
        check_is_fitted(self)
        parts = [_names(name, kind, self.learned_[name]) for name, kind in self.kinds_.items()]
        return np.array([name for names in parts for name in names], dtype=object)

    def _unit(self, name: str) -> str:
        return self.formats_.get(name, (".", ""))[1]

    def _lacks_unit(self, X: pd.DataFrame, name: str) -> bool:
        """Whether a column is numeric and has no unit, although it had a unit in training."""
        return bool(self._unit(name)) and is_numeric_dtype(X[name]) and name not in X.attrs.get("number_formats", {})

    def _column(self, X: pd.DataFrame, name: str) -> pd.Series:
        if name not in X:
            raise DetectorError(f"the table has no column {name!r}, which it had in training. Add it.")
        return _cells(X[name])

    def _format(self, X: pd.DataFrame, name: str) -> NumberFormat:
        """The number format of a text column; columns from ``read_table`` contain plain numbers already."""
        given, learned = (
            X.attrs.get("number_formats", {}).get(name),
            self.formats_.get(name, (".", "")),
        )
        if given is None:
            return NumberFormat(*learned)
        if given[1] and learned[1] and given[1] != learned[1]:
            raise DetectorError(
                f"column {name!r} is in {given[1]!r}; in training it was in {learned[1]!r}. Convert it."
            )
        return NumberFormat()

    def _learn(self, X: pd.DataFrame, name: str) -> dict[str, Any]:
        """Learn the parameters of one column from the training rows."""
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
        """Features of one column, a list of (n,); which cells are of a new kind; and which are missing."""
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
    """Convert to a DataFrame whose column names are text and unique."""
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X))
    names, _ = distinct_names(list(frame.columns))
    if names == list(frame.columns):
        return frame
    frame = frame.copy(deep=False)
    frame.columns = names
    return frame


def _cells(column: pd.Series) -> pd.Series:
    """Convert a column of any dtype to float64, dates, or text with NaN for missing cells, as if read from a file."""
    if isinstance(column.dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object).infer_objects()
    if column.dtype == np.float64:
        return pd.Series(column.to_numpy(), copy=False)  # fast path
    if is_numeric_dtype(column.dtype):  # bool, nullable and Arrow's types too
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan))
    if is_datetime64_any_dtype(column.dtype):
        return pd.Series(pd.to_datetime(column, utc=True).to_numpy())
    if column.dtype.kind == "m":
        return pd.Series(column.dt.total_seconds().to_numpy(np.float64))
    words = column.astype(object).map(lambda cell: str(cell).strip(), na_action="ignore").reset_index(drop=True)
    return words.where(words.notna() & ~words.isin(MISSING), np.nan).astype("str")


def _digest(cells: pd.Series) -> tuple[str, int]:
    """A hash of a column; equal columns have equal hashes."""
    if is_numeric_dtype(cells):
        return "number", hash(cells.to_numpy().tobytes())
    return str(cells.dtype), int(pd.util.hash_pandas_object(cells, index=False).sum())


def _kind(cells: pd.Series, name: str, attrs: dict[Any, Any]) -> tuple[str, str, NumberFormat]:
    """The kind of a column, or "" if it is left out; its encoding or the reason; and its number format."""
    plain = NumberFormat()
    known = cells.dropna()
    distinct = known.nunique()
    if not distinct:
        return "", "left out: all cells are missing", plain
    if distinct == 1 and len(known) == len(cells):
        return "", f"left out: every cell is {str(known.iloc[0]).removesuffix('.0')[:40]!r}", plain
    if is_numeric_dtype(cells):
        counted = distinct == len(cells) and (np.diff(known) == 1).all()
        return ("", "left out: it is the row number", plain) if counted else ("number", BECOMES["number"], plain)
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
                f"; {other} reads equally many cells: give the kind 'date {other}' if it is right" if other else ""
            )
            return f"date {form}", BECOMES["date"] + doubt, plain
    if distinct == len(known) > MOST_LEVELS:
        return "", "left out: text that is different in every row, such as a name or an identifier", plain
    kind = "category" if distinct <= MOST_LEVELS else "text"
    return kind, BECOMES[kind], plain


def _values(cells: pd.Series, kind: str, number_format: NumberFormat) -> np.ndarray:
    """Numbers, or dates as seconds since 1970, (n,) float64; NaN if missing, infinite or unreadable."""
    if kind.startswith("date "):
        if is_numeric_dtype(cells):
            return np.full(len(cells), np.nan)
        return parse_dates(cells, kind.removeprefix("date "))
    if is_datetime64_any_dtype(cells):
        return np.full(len(cells), np.nan)
    values = cells.to_numpy() if is_numeric_dtype(cells) else parse_numbers(cells, number_format)
    if len(values) and values.min() >= -LARGEST and values.max() <= LARGEST:  # False if there is a NaN
        return values
    return np.clip(np.where(np.isfinite(values), values, np.nan), -LARGEST, LARGEST)


def _words(cells: pd.Series, levels=(), name: str = "") -> pd.Series:
    """Cells as text; a number becomes the equal level of training, for example 1.5 becomes "1.50"."""
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
    """−log of the share of a text in training, (n,) float64; NaN for missing cells."""
    codes, distinct = pd.factorize(_words(cells, learned["levels"], name))
    known = dict(zip(learned["levels"], learned["surprise"]))
    values = [float(known.get(word, learned.get("unseen", np.nan))) for word in distinct]
    return np.array([*values, np.nan])[codes]


def _names(name: str, kind: str, learned: dict[str, Any]) -> list[str]:
    """The names of the features of a column, in the order of ``ColumnEncoder.encode``."""
    if kind == "category":
        return [*(f"{name} = {level}" for level in learned["levels"]), f"{name} = other"]
    names = [name]
    if kind.startswith("date "):
        periods = ["weekday"] * has_day(kind) + ["time of day"] * learned["times"]
        names += [f"{name}, {wave} of {period}" for period in periods for wave in ("sine", "cosine")]
    return names + [f"{name} is missing"] * learned["gaps"]
