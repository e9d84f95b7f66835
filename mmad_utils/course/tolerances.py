"""Compare two sets of results files within stated tolerances.

`make report` rebuilds the committed results; `compare` says whether they are still the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmad_utils.course.results import ResultsError, read

# One machine repeats a run to the bit. Another processor sums in another order, and a forest or a network
# then takes another turn at a tie. The report draws no conclusion from a difference smaller than these.
TOLERANCE_RATIO = 0.02  # absolute, for numbers between -1 and 1: metrics, shares, correlations
TOLERANCE_PERCENT = 100 * TOLERANCE_RATIO  # absolute, for numbers whose unit is "%"
TOLERANCE_RELATIVE = 0.05  # for all other numbers
# Training a network is chaotic: after some hundred steps the smallest difference of rounding gives another network,
# as another seed would. A mean over seeds is therefore allowed to move by what its seeds differ anyway.
TOLERANCE_SPREADS = 2.0  # standard deviations of a single run, where one is recorded and that is more
TIMING_UNITS = frozenset({"s", "ms", "MB", "GB", "times"})  # belong to the machine: only presence is compared

_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_SPREAD = re.compile(r"±\s*(\d+(?:\.\d+)?)")
_COLUMN_UNIT = re.compile(r"\(([^()]+)\)\s*$")


def compare(old: str | Path, new: str | Path) -> list[str]:
    """Differences between two folders of results files beyond the tolerances at the top of this module.

    A file, key, table, figure, row or column that appears or vanishes is a difference, and so are a changed
    unit, count or text. Numbers inside text are held to the same tolerances; a mean with a standard deviation may
    move by two of them. Timings (unit or column in
    `TIMING_UNITS`), captions, alt texts, pictures and provenance are not compared.

    Returns
    -------
    list of str
        One sentence a difference, empty when there is none.
    """
    folders = [Path(old), Path(new)]
    for folder in folders:
        if not any(folder.glob("*.json")):
            raise ResultsError(f"{folder} holds no results (*.json); run `make report` first.")
    files = [{path.stem: read(path) for path in sorted(folder.glob("*.json"))} for folder in folders]
    return list(_compare_files(*files))


def _compare_files(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    yield from _membership(old, new, "notebook")
    for name in sorted(old.keys() & new.keys()):
        for section in ("values", "tables", "figures"):
            yield from _membership(old[name][section], new[name][section], f"{name}: {section[:-1]}")
        for key in sorted(old[name]["values"].keys() & new[name]["values"].keys()):
            yield from _compare_value(old[name]["values"][key], new[name]["values"][key], f"{name}: value {key!r}")
        for id in sorted(old[name]["tables"].keys() & new[name]["tables"].keys()):
            yield from _compare_table(old[name]["tables"][id], new[name]["tables"][id], f"{name}: table {id!r}")


def _membership(old: dict[str, Any], new: dict[str, Any], what: str) -> Iterator[str]:
    yield from (f"{what} {key!r} has vanished" for key in sorted(old.keys() - new.keys()))
    yield from (f"{what} {key!r} is new" for key in sorted(new.keys() - old.keys()))


def _compare_value(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    for field in ("unit", "n"):
        if old[field] != new[field]:
            yield f"{where}: {field} was {old[field]!r}, is {new[field]!r}"
    for field in ("value", "sd"):
        # The standard deviation is held to the tolerance of its mean: it is in the same units, and smaller.
        tolerance = _tolerance(old["value"], new["value"], old["unit"], old["sd"] or 0.0)
        if not _alike(old[field], new[field], tolerance):
            yield f"{where}: {field} was {old[field]}, is {new[field]} (tolerance {tolerance:.3g})"


def _compare_table(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterator[str]:
    if old["columns"] != new["columns"]:
        yield f"{where}: columns were {old['columns']}, are {new['columns']}"
    elif len(old["rows"]) != len(new["rows"]):
        yield f"{where}: had {len(old['rows'])} rows, has {len(new['rows'])}"
    else:
        for row, (before, after) in enumerate(zip(old["rows"], new["rows"]), start=1):
            for column, was, now in zip(old["columns"], before, after):
                unit = _COLUMN_UNIT.search(column)
                if not _cells_alike(was, now, unit.group(1) if unit else ""):
                    yield f"{where}, row {row} ({before[0]}), column {column!r}: was {was!r}, is {now!r}"


def _cells_alike(old: Any, new: Any, unit: str, sd: float = 0.0) -> bool:
    """Numbers and numbers in text within tolerance, all else equal; "0.91 ± 0.03" says its spread itself."""
    if isinstance(old, str) and isinstance(new, str):
        pairs = list(zip(_NUMBER.findall(old), _NUMBER.findall(new)))
        same_text = _NUMBER.sub("#", old) == _NUMBER.sub("#", new)
        sd = max(map(float, _SPREAD.findall(old)), default=0.0)
        return same_text and all(_cells_alike(float(a), float(b), unit, sd) for a, b in pairs)
    if _is_number(old) and _is_number(new):
        return _alike(old, new, _tolerance(old, new, unit, sd))
    return type(old) is type(new) and old == new


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _tolerance(old: float, new: float, unit: str, sd: float = 0.0) -> float:
    """The absolute tolerance for two numbers of this unit, with this standard deviation over seeds."""
    if unit in TIMING_UNITS:
        return math.inf
    size = max(abs(old), abs(new))
    plain = TOLERANCE_RATIO if size <= 1 else TOLERANCE_RELATIVE * size
    return max(TOLERANCE_PERCENT if unit == "%" else plain, TOLERANCE_SPREADS * sd)


def _alike(old: float | None, new: float | None, tolerance: float) -> bool:
    if old is None or new is None:
        return old is new
    return abs(old - new) <= tolerance + 1e-9  # the margin is for 0.98 - 0.96 > 0.02 in binary
