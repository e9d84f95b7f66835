"""Dates as text: detection of the format of a column, and conversion to seconds."""

from __future__ import annotations

import functools
import itertools
import re

import numpy as np
import pandas as pd

__all__ = ["date_format", "has_day", "parse_dates"]

FIRST, LAST = np.datetime64("1678-01-01"), np.datetime64("2262-01-01")  # limits of nanoseconds in 64 bits
DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y",
    "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y",
    "%B %d, %Y", "%d. %B %Y", "%Y年%m月%d日", "%Y-%m", "%m/%Y",
)  # fmt: skip
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H时%M分", "%H时%M分%S秒")
ZONES = ("", "%z", " %z")
MIXED = "ISO8601"  # dates with and without time, or fractions of a second in some cells only
MIXED_TIMES = "%H:%M[:%S]"  # times of day with and without seconds
PARTS = {
    **dict.fromkeys(("%m", "%d", "%H", "%I"), r"\d{1,2}"), **dict.fromkeys(("%y", "%M", "%S"), r"\d\d"),
    "%Y": r"\d{4}", "%f": r"\d{1,9}", "%p": "[AaPp][Mm]", "%z": r"(?:Z|[+-]\d\d:?\d\d)", "%b": "[A-Za-z]{3}",
    "%B": "[A-Za-z]{3,9}",
}  # fmt: skip
SAMPLE = 20  # number of distinct cells that select the formats to try on all cells


def parse_dates(cells: pd.Series, form: str) -> np.ndarray:
    """Dates as seconds since 1970 (UTC), (n,) float64; NaN if missing, of another format, or outside 1678 to 2261."""
    if cells.dtype.kind == "M":
        dates = pd.to_datetime(cells, utc=True)
    else:
        codes, distinct = pd.factorize(cells)
        read = _timestamps(pd.Series(distinct, dtype="str"), form)
        dates = read.reindex(codes)  # the code -1 of a missing cell gives NaT
    stamps = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]")  # nanoseconds end in the year 2262
    seconds = np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 1e6)
    outside = has_day(form) & ((stamps < FIRST) | (stamps >= LAST))
    return np.where(outside, np.nan, seconds)


def date_format(cells: pd.Series, readable: float) -> tuple[str, str]:
    """The format that reads most cells, and another format that reads equally many; "" if there is none.

    The format must read at least the share ``readable`` of the cells. All distinct cells are used: a single cell such
    as 25/02/2024 shows that the day is first.
    """
    counts = cells.value_counts()
    distinct = pd.Series(counts.index)
    few = distinct.iloc[:: max(1, len(distinct) // SAMPLE)].tolist()
    forms = [form for form, pattern in _patterns().items() if any(pattern.fullmatch(cell) for cell in few)]
    weights = counts.to_numpy()
    shares = {form: _share(distinct, weights, form) for form in forms}
    if shares and max(shares.values()) < 1 and any(re.match(r"\d{4}-\d\d-\d\d", cell) for cell in few):
        shares[MIXED] = _share(distinct, weights, MIXED)
    if shares and max(shares.values()) < 1 and any(re.match(r"\d\d?:\d\d", cell) for cell in few):
        shares[MIXED_TIMES] = _share(distinct, weights, MIXED_TIMES)
    best = max(shares, key=lambda form: shares[form], default="")
    if not best or shares[best] < readable:
        return "", ""
    other = next((form for form in shares if form != best and shares[form] == shares[best]), "")
    return best, other


@functools.cache
def _patterns() -> dict[str, re.Pattern]:
    """All formats, each with a regular expression of its cells."""
    joined = [f"{day}{mark}{time}{zone}" for day, mark, time, zone in itertools.product(DAYS, " T", TIMES, ZONES)]

    def pattern(form: str) -> re.Pattern:
        return re.compile(re.sub("%[A-Za-z]", lambda part: PARTS[part[0]], form.replace(".", r"\.")))

    return {form: pattern(form) for form in (*DAYS, *TIMES, *joined)}


def has_day(form: str) -> bool:
    """Whether a format has a date, not only a time of day."""
    return form == MIXED or bool(re.search(r"%[Yy]", form))


def _timestamps(cells: pd.Series, form: str) -> pd.Series:
    """Timestamps in UTC, NaT where a cell does not have the format."""
    if form == MIXED_TIMES:
        cells = cells.where(cells.str.count(":") > 1, cells + ":00")
        cells, form = cells.where(cells.str.contains(".", regex=False), cells + ".0"), "%H:%M:%S.%f"
    return pd.to_datetime(cells, format=form, errors="coerce", utc=True)


def _share(cells: pd.Series, weights: np.ndarray, form: str) -> float:
    """Weighted share of the cells that a format reads; the years 9999 and 0001, which pandas may reject, count."""
    read = _timestamps(cells, form).notna().to_numpy()
    read = read | (cells.str.contains(r"\b(?:9999|0001)\b").to_numpy() & has_day(form))
    return float(weights[read].sum() / weights.sum())
