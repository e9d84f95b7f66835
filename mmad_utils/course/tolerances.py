"""Compare two sets of results files within tolerances.

`make report` rebuilds the committed results; `compare` lists their differences.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy.special import fdtri

from mmad_utils.course.results import ResultsError, read

# Runs on one machine are bitwise equal. On another processor the order of summation differs, and a forest or a
# network may then resolve a tie differently. The report draws no conclusion from a difference below these tolerances.
TOLERANCE_RATIO = 0.02  # absolute, for numbers between -1 and 1: metrics, shares, correlations
TOLERANCE_PERCENT = 100 * TOLERANCE_RATIO  # absolute, for numbers whose unit is "%"
TOLERANCE_RELATIVE = 0.05  # for all other numbers
# The training of a network is chaotic: after some hundred steps the smallest difference of rounding has the effect of
# another seed. A mean over n seeds may therefore change as it would with n other seeds. The difference of two such
# means has the standard deviation sd * sqrt(2 / n). A spread between classes or data sets is not related to this
# change. It gives no tolerance; only a spread that is recorded with its number of seeds n does.
TOLERANCE_SPREADS = 2.0  # number of these standard deviations, if that is more than the tolerances above
# The standard deviation of n seeds is an estimate as well. The ratio of two such variances has the F distribution
# with n - 1 and n - 1 degrees of freedom; a ratio outside of its central 99.9% is a difference. The level is low
# because a build has more than a thousand of them.
TOLERANCE_F_LEVEL = 0.001
TIMING_UNITS = frozenset({"s", "ms", "MB", "GB", "times"})  # depend on the machine: only presence is compared

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_SPREAD = re.compile(r"±\s*$")  # the text before a number that is a standard deviation
_SPREAD_COLUMN = re.compile(r"(?:(?P<mean>.+)[ _])?(?:sd|std)")  # "AUROC sd" belongs to "AUROC", "sd" to its left
_COLUMN_UNIT = re.compile(r"\(([^()]+)\)\s*$")


def compare(old: str | Path, new: str | Path) -> list[str]:
    """Differences between two folders of results files beyond the tolerances at the top of this module.

    An added or removed file, key, table, figure, row or column is a difference, and so is a changed unit, count or
    text. The same tolerances apply to numbers in a text and to the numbers of a figure (its CSV). If the standard
    deviation over n seeds is recorded, the tolerance of a mean is the change that n other seeds would cause. Of a
    single run (``single_run``) only the unit, or columns and the number of rows, are compared. Timings (unit
    or column in `TIMING_UNITS`), captions, alt texts, images and provenance are not compared.

    Parameters
    ----------
    old, new : str or Path
        Folders of results files. The paths of figures in these files are relative to the output folder: the parent of
        ``results``, or of ``report/results``.

    Returns
    -------
    list of str
        One sentence per difference; empty if there is none.
    """
    folders = [Path(old), Path(new)]
    for folder in folders:
        if not any(folder.glob("*.json")):
            raise ResultsError(f"{folder} holds no results (*.json); run `make report` first.")
    files = [{path.stem: read(path) for path in sorted(folder.glob("*.json"))} for folder in folders]
    return list(_compare_files(files[0], files[1], output_folder(old), output_folder(new)))


def output_folder(results: str | Path) -> Path:
    """The folder to which the paths in results files are relative, given the folder of these files."""
    parent = Path(results).absolute().parent
    return parent.parent if parent.name == "report" else parent


def _compare_files(old: dict[str, Any], new: dict[str, Any], old_output: Path, new_output: Path) -> Iterator[str]:
    yield from _membership(old, new, "notebook")
    for name in sorted(old.keys() & new.keys()):
        for section in ("values", "tables", "figures"):
            yield from _membership(old[name][section], new[name][section], f"{name}: {section[:-1]}")
        for key in sorted(old[name]["values"].keys() & new[name]["values"].keys()):
            yield from _compare_value(old[name]["values"][key], new[name]["values"][key], f"{name}: value {key!r}")
        for section in ("tables", "figures"):
            for id in sorted(old[name][section].keys() & new[name][section].keys()):
                where = f"{name}: {section[:-1]} {id!r}"
                before, after = old[name][section][id], new[name][section][id]
                if section == "figures":
                    before, after = (_with_numbers(*one) for one in ((before, old_output), (after, new_output)))
                yield from _compare_table(before, after, where)


def _with_numbers(figure: dict[str, Any], output: Path) -> dict[str, Any]:
    """The record of a figure, with the columns and rows of its CSV."""
    path = output / figure["csv"]
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            columns, *rows = csv.reader(stream)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}, the numbers behind a figure, cannot be read: {error!r}") from None
    return {**figure, "columns": columns, "rows": rows}


def _membership(old: dict[str, Any], new: dict[str, Any], what: str) -> Iterator[str]:
    yield from (f"{what} {key!r} has vanished" for key in sorted(old.keys() - new.keys()))
    yield from (f"{what} {key!r} is new" for key in sorted(new.keys() - old.keys()))


def _compare_value(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    for field, default in (("unit", ""), ("n", None), ("single_run", False)):
        if old.get(field, default) != new.get(field, default):
            yield f"{where}: {field} was {old.get(field, default)!r}, is {new.get(field, default)!r}"
    if old.get("single_run"):
        return
    tolerance = _tolerance(old["value"], new["value"], old["unit"])
    n = old["n"] or 1
    if not _means_alike(old["value"], new["value"], old["sd"], new["sd"], n, tolerance):
        yield f"{where}: value was {old['value']}, is {new['value']} (sd {old['sd']} and {new['sd']}, n {old['n']})"
    if not _spreads_alike(old["sd"], new["sd"], n, tolerance):
        yield f"{where}: sd was {old['sd']}, is {new['sd']} (n {old['n']})"


def _compare_table(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    for field, default in (("n", None), ("single_run", False)):
        if old.get(field, default) != new.get(field, default):
            yield f"{where}: {field} was {old.get(field, default)!r}, is {new.get(field, default)!r}"
    if old["columns"] != new["columns"]:
        yield f"{where}: columns were {old['columns']}, are {new['columns']}"
    elif len(old["rows"]) != len(new["rows"]):
        yield f"{where}: had {len(old['rows'])} rows, has {len(new['rows'])}"
    elif not old.get("single_run"):
        yield from _compare_rows(old, new, where)


def _compare_rows(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    columns, n = old["columns"], old.get("n") or 1
    spread_of = _spread_columns(columns)
    for row, (before, after) in enumerate(zip(old["rows"], new["rows"]), start=1):
        for j, (column, was, now) in enumerate(zip(columns, before, after)):
            unit = _COLUMN_UNIT.search(column)
            sds = (before[spread_of[j]], after[spread_of[j]]) if j in spread_of else (None, None)
            if not _cells_alike(was, now, unit.group(1) if unit else "", n, sds, j in spread_of.values()):
                yield f"{where}, row {row} ({before[0]}), column {column!r}: was {was!r}, is {now!r}"


def _spread_columns(columns: list[str]) -> dict[int, int]:
    """{position of a column of means: position of the column of their standard deviations}."""
    found: dict[int, int] = {}
    for j, column in enumerate(columns):
        match = _SPREAD_COLUMN.fullmatch(column)
        if match and match["mean"] in columns:
            found[columns.index(match["mean"])] = j
        elif match and match["mean"] is None and j:
            found[j - 1] = j
    return found


def _cells_alike(old: Any, new: Any, unit: str, n: int, sds: tuple[Any, Any], is_spread: bool = False) -> bool:
    """Whether numbers, also those in a text, are equal within the tolerance, and everything else is equal.

    `sds` are the standard deviations of the two cells if a column holds them; "0.91 ± 0.03" contains its own.
    """
    if isinstance(old, str) and isinstance(new, str):
        if _NUMBER.sub("#", old) != _NUMBER.sub("#", new):
            return False
        a, b = list(_NUMBER.finditer(old)), list(_NUMBER.finditer(new))
        spread = [bool(_SPREAD.search(old[: match.start()])) for match in a]
        numbers = [(float(before.group()), float(after.group())) for before, after in zip(a, b)]
        followers = [numbers[i + 1] if i + 1 < len(a) and spread[i + 1] else sds for i in range(len(a))]
        return all(
            _spreads_alike(*pair, n, _tolerance(*pair, unit), _rounding(before.group()))
            if itself
            else _cells_alike(*pair, unit, n, follower, is_spread)
            for pair, follower, itself, before in zip(numbers, followers, spread, a)
        )
    if _is_number(old) and _is_number(new):
        tolerance = _tolerance(old, new, unit)
        if is_spread:
            return _spreads_alike(old, new, n, tolerance)
        return _means_alike(old, new, _as_number(sds[0]), _as_number(sds[1]), n, tolerance)
    return type(old) is type(new) and old == new


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _as_number(cell: Any) -> float | None:
    """The number in a standard-deviation cell; None if there is no number."""
    try:
        return None if cell is None else float(cell)
    except ValueError:
        return None


def _tolerance(old: float, new: float, unit: str) -> float:
    """The absolute tolerance for two numbers of this unit, independent of their spread."""
    if unit in TIMING_UNITS:
        return math.inf
    size = max(abs(old), abs(new))
    plain = TOLERANCE_RATIO if size <= 1 else TOLERANCE_RELATIVE * size
    return TOLERANCE_PERCENT if unit == "%" else plain


def _means_alike(
    old: float, new: float, old_sd: float | None, new_sd: float | None, n: int, tolerance: float
) -> bool:
    """Whether two means of n seeds differ by at most the change that n other seeds would cause."""
    if n > 1 and old_sd is not None and new_sd is not None:
        pooled = math.sqrt((old_sd**2 + new_sd**2) / 2)
        tolerance = max(tolerance, TOLERANCE_SPREADS * pooled * math.sqrt(2 / n))
    return abs(old - new) <= tolerance + 1e-9  # the margin is for 0.98 - 0.96 > 0.02 in binary


def _spreads_alike(old: float | None, new: float | None, n: int, tolerance: float, rounding: float = 0.0) -> bool:
    """Whether two standard deviations of n seeds can be estimates of the same value, within their rounding."""
    if old is None or new is None:
        return old is new
    if n > 1:
        smaller, larger = min(old, new) + rounding, max(0.0, max(old, new) - rounding)
        if larger**2 <= fdtri(n - 1, n - 1, 1 - TOLERANCE_F_LEVEL / 2) * smaller**2:
            return True
    return abs(old - new) <= tolerance + 1e-9


def _rounding(number: str) -> float:
    """Half a unit of the last decimal of a number in text: 0.005 of "0.03"."""
    return 0.5 * 10.0 ** -len(number.partition(".")[2])
