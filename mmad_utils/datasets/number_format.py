"""Numbers as text: decimal marks, thousands separators, units and currencies, detected for a whole column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from mmad_utils.datasets.record import DatasetError

__all__ = ["READABLE", "NumberFormat", "detect_format", "parse_numbers"]

# A column is numeric if this share of its cells are numbers. It is also numeric if at least half are numbers, at most
# MOST_WORDS distinct cells are not, and more than FEWEST_NUMBERS distinct cells are.
READABLE = 0.95
MOST_WORDS, FEWEST_NUMBERS = 5, 10
TRUTH = {"true": "1", "false": "0"}
PLAIN_TEXT = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms
PLAIN_TEXT |= {ord(space): " " for space in "\u00a0\u2007\u2009\u202f\u3000"}
PLAIN_TEXT |= {ord(minus): "-" for minus in "\u2212\u2013\ufe63"}
PLAIN_TEXT |= {ord(mark): "'" for mark in "\u2019\u02bc"} | {ord("\u03bc"): "µ", ord("℃"): "°C", ord("℉"): "°F"}
CURRENCY = r"(?:[A-Z]{0,2}[$¢-¥₠-₿]|USD|EUR|GBP|CHF|JPY|CNY|RMB|INR|SEK|NOK|DKK|PLN|CAD|AUD|HKD|BRL|Rs\.?|kr\.?)"
CELL = re.compile(
    rf"(?P<sign>[+-]?)\s?(?P<prefix>{CURRENCY})?\s?(?P<sign_after>[+-]?)"
    r"(?P<body>[.,]?\d(?:[\d.,']|\ (?=\d))*)(?P<exponent>[eE][+-]?\d+)?"
    r"\s?(?P<suffix>[^\W\d_][^\s\d()]{0,11}(?:(?<=[msMS])[23])?|[%‰°\"][^\s\d()]{0,11}|" + CURRENCY + r")?"
)
QUANTITIES = [  # units of one quantity, which a column must not mix
    frozenset(units.split())
    for units in (
        "% ‰ ppm ppb",
        "°C °F °K C F K",
        "µm mm cm dm m km nm in ft mi",
        "Pa hPa kPa MPa bar mbar psi",
        "mV V kV",
        "mA A",
        "W kW MW",
        "Hz kHz MHz GHz rpm",
        "ns µs ms s min h d",
        "µg mg g kg t lb oz",
        "ml mL l L",
        "N kN",
        "J kJ kWh",
        "B kB KB MB GB TB",
        "m/s km/h mph",
        "k M",
        "千 万 百万 亿 元",
        "$ US$ € £ ¥ USD EUR GBP CHF JPY CNY RMB",
    )
]
QUICK = 1000  # if there are more distinct cells, about this number is tested first; a quarter must be numbers
FEWEST_GROUPED = 10  # distinct cells such as 1,024 that suffice to infer a thousands separator without other evidence


@dataclass(frozen=True)
class NumberFormat:
    """Format in which a column writes numbers.

    Parameters
    ----------
    decimal : "." or ","
        The thousands separator may be the other mark, a space or an apostrophe.
    unit : str, the unit or currency of all cells, or ""
    """

    decimal: str = "."
    unit: str = ""


def parse_numbers(cells: pd.Series, number_format: NumberFormat) -> np.ndarray:
    """Numbers of n texts, (n,) float64; NaN if a cell is missing or is not a number of this format."""
    codes, distinct = pd.factorize(cells)
    values = np.array([*(_value(_split(str(cell)), number_format) for cell in distinct), np.nan])
    return values[codes]


def detect_format(
    cells: pd.Series, where: str, rows=None, *, decimal: str | None = None, marks: frozenset[str] | None = None
) -> NumberFormat | None:
    """Detect the number format of a text column; None if the column is not numeric.

    All distinct cells are used. A mark that is not followed by exactly three digits is a decimal mark. A mark that
    occurs twice, or before another mark, is a thousands separator. Ambiguous cells such as 1,024 are read in the same
    way as these cells. If all cells with a mark are ambiguous, the point is a decimal mark. The comma is then a
    thousands separator if the other numbers are whole and below 1000.

    Parameters
    ----------
    cells : (n,) Series of str, NaN if missing
    where : str, file and column for error messages
    rows : (n,) numbers of the rows in the file; default 1, 2, ...
    decimal : "." or ","; used instead of the evidence of the cells
    marks : decimal marks of other columns of the file, or None if the point is known to be the decimal mark
        If the decimal mark is the comma, 1.024 means 1024. Without evidence in the file, 1.024 is ambiguous.

    Raises
    ------
    DatasetError
        The units differ, both decimal marks occur, or the column can be read in two ways.
    """
    codes, distinct = pd.factorize(cells)
    if len(distinct) > QUICK:
        sample = [_split(str(cell)) for cell in distinct[:: len(distinct) // QUICK]]
        if sum(part is not None for part in sample) < len(sample) / 4:
            return None
    counts = np.bincount(codes[codes >= 0])
    parts = [_split(str(cell)) for cell in distinct]
    like = np.array([part is not None for part in parts])
    total = counts.sum()
    if not total or counts[like].sum() < total / 2 or any(part.code for part in parts if part):
        return None

    def location(index) -> str:
        position = int(np.flatnonzero(codes == index)[0])
        return f"row {position + 1 if rows is None else rows[position]}: {str(distinct[index])[:40]!r}"

    mostly = counts[like].sum() >= READABLE * total
    unit, others = _units(parts, counts)
    differing = [i for i, part in enumerate(parts) if part is not None and part.unit in others]
    if differing and mostly and any(({unit} | others) - {""} <= units for units in QUANTITIES):
        usual = next(i for i, part in enumerate(parts) if part and part.unit == unit)
        raise DatasetError(
            f"{where}, {location(differing[0])}, but {location(usual)}: the unit is not the same in all cells. "
            "Convert the column to one unit, or name it in text= to keep it as text."
        )
    bodies = [(i, part.body) for i, part in enumerate(parts) if part and part.unit == unit]
    if decimal is None:
        decimal = _decimal(bodies, counts, distinct, where, location, marks)
    found = NumberFormat(decimal, unit)
    read = np.array([not np.isnan(_value(part, found)) for part in parts])
    few_words = (~read).sum() <= MOST_WORDS and read.sum() > FEWEST_NUMBERS and counts[read].sum() >= total / 2
    return found if counts[read].sum() >= READABLE * total or few_words else None


class _Parts(NamedTuple):
    """The parts of a cell that can be a number; ``code`` is True for identifiers (leading zeros, many digits)."""

    sign: str
    body: str
    exponent: str
    unit: str
    code: bool


def _split(cell: str) -> _Parts | None:
    """The parts of a number, None for other text; true and false have the bodies 1 and 0."""
    if cell.lower() in TRUTH:
        return _Parts("", TRUTH[cell.lower()], "", "", False)
    text = cell.translate(PLAIN_TEXT).strip()
    if text.startswith("(") and text.endswith(")"):  # negative number in accounting
        text = f"-{text[1:-1]}"
    match = CELL.fullmatch(text)
    if not match or (match["sign"] and match["sign_after"]) or (match["prefix"] and match["suffix"]):
        return None
    code = bool(re.fullmatch(r"0\d+|\d{16,}", match["body"])) and not match["exponent"]
    sign, unit = match["sign"] or match["sign_after"], match["prefix"] or match["suffix"] or ""
    return _Parts(sign, match["body"], match["exponent"] or "", unit, code)


def _value(part: _Parts | None, number_format: NumberFormat) -> float:
    """Convert the parts of a cell to a number; NaN if they do not have this format."""
    if part is None or part.unit != number_format.unit:
        return np.nan
    plain = _without_thousands(part.body, number_format.decimal)
    return np.nan if plain is None else float(part.sign + plain + part.exponent)


def _without_thousands(body: str, decimal: str) -> str | None:
    whole, mark, fraction = body.partition(decimal)
    if (mark and fraction and not fraction.isdecimal()) or not (whole or fraction):
        return None
    if whole and not whole.isdecimal():
        separator = re.sub(r"\d", "", whole)[0]
        groups = r"\d{1,3}(?:S\d{3})+" if separator != "," else r"\d{1,3}(?:S\d{3})+|\d{1,2}(?:S\d\d)*S\d{3}"
        if not re.fullmatch(groups.replace("S", re.escape(separator)), whole):
            return None
        whole = whole.replace(separator, "")
    return f"{whole or 0}.{fraction or 0}"


def _units(parts, counts) -> tuple[str, set[str]]:
    """The most frequent unit, and all other units."""
    totals: dict[str, int] = {}
    for part, count in zip(parts, counts):
        if part:
            totals[part.unit] = totals.get(part.unit, 0) + int(count)
    unit = max(totals, key=lambda name: totals[name])
    return unit, set(totals) - {unit}


def _evidence(body: str) -> str:
    """The decimal mark of a number, or "?" and its mark if this may also separate thousands, or ""."""
    marks = re.sub(r"[^.,]", "", body)
    if not marks:
        return ""
    last, other = marks[-1], ",."[",.".index(marks[-1]) - 1]
    shown = last if len(marks) == 1 or (marks.count(last) == 1 and len(set(marks)) == 2) else other
    if len(marks) == 1 and re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", body):
        return f"?{last}"
    return shown if _without_thousands(body, shown) is not None else ""


def _decimal(bodies, counts, distinct, where: str, location, marks: frozenset[str] | None) -> str:
    """The decimal mark of a column, from the digits and marks of its distinct cells."""
    shown: dict[str, list[int]] = {}
    for index, body in bodies:
        shown.setdefault(_evidence(body), []).append(index)
    votes = {mark: int(counts[shown.get(mark, [])].sum()) for mark in (".", ",", "?.", "?,")}
    strong, weak = (".", ",") if votes["."] >= votes[","] else (",", ".")
    if votes[weak] > (1 - READABLE) * votes[strong]:
        raise DatasetError(
            f"{where}, {location(shown['.'][0])} has a decimal point, {location(shown[','][0])} a decimal comma. "
            "Write all numbers in one way, or choose with decimal='.' or decimal=','."
        )
    whole = [body for _, body in bodies if body.isdecimal()]
    grouped = bool(whole) and all(len(body) <= 3 for body in whole)
    for mark, other in ((",", "."), (".", ",")):
        vague = votes[f"?{mark}"]
        if not vague or (mark == "." and (marks is None or marks == {"."})):
            continue
        if votes[strong] and (strong == other or votes[strong] > (1 - READABLE) * vague):
            continue
        known = marks == {other} or (mark == "," and len(shown["?,"]) >= FEWEST_GROUPED)
        if not votes[strong] and grouped and known:
            return other
        index = shown[f"?{mark}"][0]
        cell = str(distinct[index])
        raise DatasetError(
            f"{where}, {location(index)} can be read in two ways: {cell.replace(mark, '')} if {mark!r} separates "
            f"thousands, {cell.replace(mark, '.')} if it is the decimal mark. Choose with decimal={other!r} or "
            f"decimal={mark!r}."
        )
    return strong
