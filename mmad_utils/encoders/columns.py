"""Columns of any type as numbers that a detector can compare, learned from training rows; what each becomes is said.

A number z of an ordinary cell is about as large as 1, whatever the column's unit, and a wild value grows only like a
logarithm, so that no single cell outshouts a row.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from pandas.tseries.api import guess_datetime_format
from sklearn.utils.validation import check_is_fitted

from mmad_utils.detector import DetectorError
from mmad_utils.encoders.base import Encoder

__all__ = ["ColumnEncoder", "describe_columns", "kinds_of"]

MOST_LEVELS = 10  # of a category that gets one 0/1 number a level
READABLE = 0.95  # share of a column's values that must read as a number or a date for it to be one
LARGEST = 1e150  # a number is cut there, so that its square is finite
DAY, WEEK = 86_400, 7 * 86_400  # seconds
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
    DataFrame, one row a column of the table: ``column``; ``kind``, what ``ColumnEncoder`` takes ("number",
    "category", "text", "date " and its format) or "" where the column is left out;
    ``missing``, share of the cells in [0, 1]; ``distinct`` values; ``becomes``, in words

    Raises
    ------
    DetectorError
        No column is left.
    """
    rows: list[dict[str, Any]] = []
    seen: dict[int, str] = {}
    for name, column in frame.items():
        kind, becomes = _kind(column)
        digest = int(pd.util.hash_pandas_object(column, index=False).sum())
        if kind and digest in seen and column.equals(frame[seen[digest]]):
            kind, becomes = "", f"left out: the same as {seen[digest]!r}"
        seen.setdefault(digest, str(name))
        unread = _values(column, kind).isna().sum() - column.isna().sum() if kind else 0
        if unread:
            becomes += f"; {unread} cells that are no {kind.split(' ')[0]} count as missing"
        missing, distinct = float(column.isna().mean()), int(column.nunique())
        if kind and (missing or unread):
            becomes += "; missing: the middle, and 1 in a column of its own"
        rows.append({"column": str(name), "kind": kind, "missing": missing, "distinct": distinct, "becomes": becomes})
    columns = pd.DataFrame(rows)
    if not (columns["kind"] != "").any():
        reasons = "; ".join(f"{row['column']!r} {row['becomes']}" for row in rows[:5])
        raise DetectorError(f"no column is left to learn from: {reasons}. Give columns that vary.")
    return columns


def _kind(column: pd.Series) -> tuple[str, str]:
    """The kind of a column and what it becomes; "" and the reason where it is left out."""
    known = column.dropna()
    distinct = known.nunique()
    if not distinct:
        return "", "left out: all cells are missing"
    if distinct == 1 and len(known) == len(column):
        return "", f"left out: every cell is {str(known.iloc[0])[:40]!r}"
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        counted = distinct == len(column) and (known.diff().iloc[1:] == 1).all()
        return ("", "left out: it counts the rows") if counted else ("number", BECOMES["number"])
    if _values(known, "number").notna().mean() >= READABLE:
        return "number", BECOMES["number"]
    date = _date_format(known)
    if date:
        return f"date {date}", BECOMES["date"]
    if distinct == len(known) > MOST_LEVELS:
        return "", "left out: text that is different in every row, such as a name or number of the case"
    kind = "category" if distinct <= MOST_LEVELS else "text"
    return kind, BECOMES[kind]


def _date_format(known: pd.Series) -> str:
    """The format in which the values are dates, or "": of day first and month first the one that reads more."""
    text = known.astype(str)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parsing dates", UserWarning)  # both orders are tried
        guesses = [guess_datetime_format(text.iloc[0], dayfirst=first) for first in (False, True)]
    shares = {guess: _values(text, f"date {guess}").notna().mean() for guess in guesses if guess}
    best = max(shares, key=lambda guess: shares[guess], default="")
    return best if best and shares[best] >= READABLE else ""


def _values(column: pd.Series, kind: str) -> pd.Series:
    """Numbers as float64, dates as seconds since 1970, text as str; NaN where missing, infinite or unreadable."""
    if kind == "number":
        numbers = pd.to_numeric(column, errors="coerce").astype(np.float64).replace([np.inf, -np.inf], np.nan)
        return numbers.clip(-LARGEST, LARGEST)
    if kind.startswith("date "):
        dates = pd.to_datetime(column.astype("string"), format=kind.removeprefix("date "), errors="coerce", utc=True)
        return (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return column.astype(object).map(str, na_action="ignore")


@dataclass(eq=False, repr=False)
class ColumnEncoder(Encoder):
    """A table of mixed types as float64 numbers.

    - number: z = arcsinh((x − median) / interquartile range); a gap becomes 0, and 1 in a further column if
      training had gaps. Where half the cells are equal, the standard deviation stands for the interquartile range.
    - date: days as a number, sine and cosine of the weekday and, unless all are at midnight, of the time of day.
    - category: 0 or 1 for each of the 10 most frequent values, and one column for any other value or a gap.
    - text: −log of the share of training rows with that value, as a number; for an unseen value of 1/(n + 1).

    Parameters
    ----------
    kinds : dict of column name -> "number", "date <format>", "category" or "text", or None
        None finds them by ``describe_columns`` in the training rows. Other columns are ignored.

    Attributes
    ----------
    kinds_ : dict of column name -> kind
    learned_ : dict of column name -> what was learned of it
    sources_ : list of str, the column of the table that each number comes from

    Raises
    ------
    DetectorError
        A column of ``fit`` is missing in ``transform``.
    """

    kinds: Any = None

    def fit(self, X, y=None):
        """Learn from a DataFrame of training rows."""
        described = describe_columns(X) if self.kinds is None else None
        self.kinds_ = dict(self.kinds) if described is None else kinds_of(described)
        self.learned_ = {name: _learn(self._column(X, name), kind) for name, kind in self.kinds_.items()}
        self.sources_ = [name for name in self.kinds_ for _ in range(len(self._encode(X.iloc[:1], name)))]
        return self

    def transform(self, X) -> np.ndarray:
        """(n, columns) DataFrame -> (n, d) float64."""
        check_is_fitted(self)
        return np.column_stack([number for name in self.kinds_ for number in self._encode(X, name)])

    def _column(self, X, name: str) -> pd.Series:
        if name not in X:
            raise DetectorError(f"the table has no column {name!r}; it was there in training. Add it.")
        return _values(X[name], self.kinds_[name])

    def _encode(self, X, name: str) -> list[np.ndarray]:
        """The numbers of one column, each (n,)."""
        column, kind, learned = self._column(X, name), self.kinds_[name], self.learned_[name]
        if kind == "category":
            levels = [(column == level).to_numpy(np.float64) for level in learned["levels"]]
            return [*levels, 1 - np.sum(levels, axis=0)]
        if kind == "text":
            column = column.map(dict(zip(learned["levels"], learned["surprise"])), na_action="ignore").where(
                column.isin(learned["levels"]) | column.isna(), learned["unseen"]
            )
        seconds = column.to_numpy(np.float64)
        gap = np.isnan(seconds)
        z = np.arcsinh((seconds - learned["middle"]) / learned["spread"])
        parts = [z]
        if kind.startswith("date "):
            periods = [WEEK, DAY] if learned["times"] else [WEEK]
            angles = [2 * np.pi * (seconds % period) / period for period in periods]
            parts += [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
        return [np.where(gap, 0.0, part) for part in parts] + ([gap.astype(np.float64)] if learned["gaps"] else [])


def kinds_of(described: pd.DataFrame) -> dict[str, str]:
    """The kinds of the columns that ``describe_columns`` does not leave out, by name."""
    kept = described[described["kind"] != ""]
    return dict(zip(kept["column"], kept["kind"]))


def _learn(column: pd.Series, kind: str) -> dict[str, Any]:
    """What the training rows say about one column."""
    if kind == "category":
        return {"levels": [str(level) for level in column.value_counts().index[:MOST_LEVELS]]}
    learned: dict[str, Any] = {"gaps": bool(column.isna().any())}
    if kind == "text":
        counts = column.value_counts()
        surprise = -np.log(counts.to_numpy() / len(column))
        learned |= {"levels": [str(level) for level in counts.index], "surprise": surprise}
        learned["unseen"] = float(np.log(len(column) + 1))
        column = column.map(dict(zip(learned["levels"], surprise)), na_action="ignore").astype(np.float64)
    known = column.dropna().to_numpy(np.float64)
    if kind.startswith("date "):
        learned["times"] = bool((known % DAY != 0).any())
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75]) if known.size else (0.0, 0.0, 0.0)
    spread = high - low or (known.std() if known.size else 0.0)
    return learned | {"middle": float(middle), "spread": float(spread) or 1.0}
