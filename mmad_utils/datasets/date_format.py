"""Dates as text: which format a column has, and dates as seconds."""

from __future__ import annotations

import functools
import itertools
import re

import numpy as np
import pandas as pd

__all__ = ["date_format", "has_day", "parse_dates"]

FIRST, LAST = np.datetime64("1678-01-01"), np.datetime64("2262-01-01")  # what nanoseconds in 64 bits can hold
DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y",
    "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%d %B %Y",
    "%B %d, %Y", "%d. %B %Y", "%Y年%m月%d日", "%Y-%m", "%m/%Y",
)  # fmt: skip
TIMES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H时%M分", "%H时%M分%S秒")
ZONES = ("", "%z", " %z")
MIXED = "ISO8601"  # dates with and without time, or fractions of a second in some cells only
PARTS = {
    **dict.fromkeys(("%m", "%d", "%H", "%I"), r"\d{1,2}"), **dict.fromkeys(("%y", "%M", "%S"), r"\d\d"),
    "%Y": r"\d{4}", "%f": r"\d{1,9}", "%p": "[AaPp][Mm]", "%z": r"(?:Z|[+-]\d\d:?\d\d)", "%b": "[A-Za-z]{3}",
    "%B": "[A-Za-z]{3,9}",
}  # fmt: skip
SAMPLE = 20  # distinct cells that choose the formats to try on all


def parse_dates(cells: pd.Series, form: str) -> np.ndarray:
    """(n,) float64 seconds since 1970 (UTC); NaN where missing, of another format, or outside of 1678 to 2261."""
    codes, distinct = pd.factorize(cells)
    read = pd.to_datetime(pd.Series(distinct), format=form, errors="coerce", utc=True)  # no format for what is a date
    dates = read.reindex(codes)  # the code of a missing cell, -1, gives none
    stamps = dates.dt.tz_localize(None).to_numpy().astype("datetime64[us]")  # nanoseconds end in the year 2262
    seconds = np.where(np.isnat(stamps), np.nan, stamps.astype(np.int64) / 1e6)
    outside = has_day(form) & ((stamps < FIRST) | (stamps >= LAST))
    return np.where(outside, np.nan, seconds)


def date_format(cells: pd.Series, readable: float) -> tuple[str, str]:
    """The format that reads most cells, at least this share of them, or ""; and another one that reads as many.

    Every distinct cell counts: 25/02/2024 anywhere shows that the day comes first.
    """
    counts = cells.value_counts()
    distinct = pd.Series(counts.index)
    few = distinct.iloc[:: max(1, len(distinct) // SAMPLE)].tolist()
    forms = [form for form, pattern in _patterns().items() if any(pattern.fullmatch(cell) for cell in few)]
    weights = counts.to_numpy()
    shares = {form: _share(distinct, weights, form) for form in forms}
    if shares and max(shares.values()) < 1 and any(re.match(r"\d{4}-\d\d-\d\d", cell) for cell in few):
        shares[MIXED] = _share(distinct, weights, MIXED)
    best = max(shares, key=lambda form: shares[form], default="")
    if not best or shares[best] < readable:
        return "", ""
    other = next((form for form in shares if form != best and shares[form] == shares[best]), "")
    return best, other


@functools.cache
def _patterns() -> dict[str, re.Pattern]:
    """Every format, and what its cells look like."""
    joined = [f"{day}{mark}{time}{zone}" for day, mark, time, zone in itertools.product(DAYS, " T", TIMES, ZONES)]

    def pattern(form: str) -> re.Pattern:
        return re.compile(re.sub("%[A-Za-z]", lambda part: PARTS[part[0]], form.replace(".", r"\.")))

    return {form: pattern(form) for form in (*DAYS, *TIMES, *joined)}


def has_day(form: str) -> bool:
    """Whether a format has a date, not only a time of day."""
    return form == MIXED or bool(re.search(r"%[Yy]", form))


def _share(cells: pd.Series, weights: np.ndarray, form: str) -> float:
    """Weighted share of the cells that a format reads, with years that only some versions of pandas can hold."""
    read = pd.to_datetime(cells, format=form, errors="coerce", utc=True).notna().to_numpy()
    read = read | (cells.str.contains(r"\b(?:9999|0001)\b").to_numpy() & has_day(form))
    return float(weights[read].sum() / weights.sum())
