"""Sweeps: data sets × detectors × parameters × seeds, one record per cell; Snakemake runs them, also on a cluster.

``snakemake sweep --configfile sweep.yaml`` reads the settings (`read`), prepares the folder (`prepare`), runs
``python -m mmad_utils.course.sweep cells BATCH`` for each batch of cells that is incomplete, and then
``... table PLAN``. A cell holds the settings of a run of ``mmad_utils.benchmark``. Its record is
``cells/<hash of the cell>.json``, which is written atomically: a killed sweep loses only the cells in measurement,
and no cell has two records. Records are kept when the code changes, and contain the commit that made them.

``mmad_utils.benchmark`` has its own loop over processes, because it must work in an installed wheel, without
Snakemake and this checkout. Both measure by `benchmark.measure` in one process per cell.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mmad_utils.files import atomic_path, locked, write_atomic

__all__ = ["Sweep", "SweepError", "measure_cells", "prepare", "read", "write_table"]

DEFAULTS: dict[str, Any] = {
    "folder": "build/sweep",  # for all files that are written
    "datasets": None,
    "detectors": None,  # name -> grid (parameter -> one value or a list of values), or a list of grids
    "seeds": 5,
    "first_seed": 0,
    "anomalies": "all",
    "split": "fresh",
    "cells_per_job": 20,  # a job imports the libraries once
    "threads": 1,
}
CHOICES = {"anomalies": ("all", "select", "report"), "split": ("fresh", "own")}
LEAST = {"seeds": 1, "first_seed": 0, "cells_per_job": 1, "threads": 1}
RANKED_BY = "auroc"
START_METHOD = "fork" if sys.platform == "linux" else "spawn"  # of a job, which has the imports and one thread


class SweepError(ValueError):
    """Settings, a folder or a record are invalid, or cells failed."""


@dataclass(frozen=True)
class Sweep:
    """The cells of a sweep, in the order of its table, and the settings of its jobs."""

    folder: Path
    cells: list[dict[str, Any]]
    cells_per_job: int
    threads: int

    @property
    def plan(self) -> Path:
        """The list of all cells, input of `write_table`."""
        return self.folder / "plan.json"

    @property
    def batches(self) -> dict[str, list[dict[str, Any]]]:
        """Name (a hash of the cells) -> the cells of one job."""
        parts = [self.cells[i : i + self.cells_per_job] for i in range(0, len(self.cells), self.cells_per_job)]
        return {_hash(part): part for part in parts}


def read(config: Mapping[str, Any]) -> Sweep:
    """Read the sweep of a configuration file; `prepare` checks the names in it.

    Parameters
    ----------
    config : mapping
        ``datasets`` and ``detectors``, and the entries that differ from ``DEFAULTS``.

    Raises
    ------
    SweepError
        An unknown, missing or wrong entry.
    """
    for key in config:
        if key not in DEFAULTS:
            near = difflib.get_close_matches(str(key), DEFAULTS, n=1, cutoff=0)
            raise SweepError(f"a sweep has no entry {key!r}; did you mean {near[0]!r}? It has {', '.join(DEFAULTS)}.")
    given = DEFAULTS | dict(config)
    for key, least in LEAST.items():
        if not isinstance(given[key], int) or isinstance(given[key], bool) or given[key] < least:
            raise SweepError(f"{key}: {given[key]!r}; give a whole number from {least}.")
    for key, values in CHOICES.items():
        if given[key] not in values:
            raise SweepError(f"{key}: {given[key]!r}; give one of {', '.join(values)}.")
    datasets, detectors = given["datasets"], given["detectors"]
    if not isinstance(datasets, list) or not datasets or not all(isinstance(name, str) for name in datasets):
        raise SweepError(f"datasets: {datasets!r}; give a list of names, such as [breast_cancer, digits/3].")
    if not isinstance(detectors, dict) or not detectors:
        raise SweepError(f"detectors: {detectors!r}; give names with their grids, such as KNNDistance: {{}}.")
    seeds = range(given["first_seed"], given["first_seed"] + given["seeds"])
    settings = [(name, one) for name, grids in detectors.items() for one in _settings(name, grids)]
    common = {"split": given["split"], "anomalies": given["anomalies"]}
    cells = [
        {"detector": detector, "dataset": dataset, "seed": seed, "parameters": parameters, **common}
        for dataset, (detector, parameters), seed in itertools.product(datasets, settings, seeds)
    ]
    names = [_hash(cell) for cell in cells]
    if len(set(names)) < len(names):
        twice = next(cell for cell, name in zip(cells, names) if names.count(name) > 1)
        raise SweepError(f"{_label(twice)} is in the sweep twice: remove the repeated data set or value.")
    return Sweep(Path(given["folder"]), cells, given["cells_per_job"], given["threads"])


def _settings(detector: str, grids: Any) -> Iterator[dict[str, Any]]:
    """All combinations of the values of each grid; an empty grid has one, the defaults."""
    for grid in grids if isinstance(grids, list) else [grids]:
        if not isinstance(grid or {}, dict) or not all(isinstance(key, str) for key in grid or {}):
            raise SweepError(f"{detector}: {grid!r}; give parameters with values, such as n_neighbors: [1, 5].")
        try:
            json.dumps(grid, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SweepError(
                f"{detector}: a value is not a text, finite number, truth value or list ({error})."
            ) from None
        values = {key: value if isinstance(value, list) else [value] for key, value in (grid or {}).items()}
        empty = [key for key, value in values.items() if not value]
        if empty:
            raise SweepError(f"{detector}: {empty[0]} has no value.")
        yield from (dict(zip(values, chosen)) for chosen in itertools.product(*values.values()))


def prepare(sweep: Sweep) -> FileLock:
    """Check names and folder before the measurements, and write the lists of cells that the jobs read.

    A batch is complete if ``batches/<name>.done`` exists. This file is created or removed here by the records.

    Returns
    -------
    FileLock
        The process holds it until it ends, so that only one sweep at a time uses a folder.

    Raises
    ------
    SweepError
        The folder cannot be written or another sweep uses it; a detector, data set or parameter does not exist, or
        they cannot be combined.
    """
    lock = FileLock(sweep.folder / ".sweep.lock", blocking=False)
    try:
        sweep.folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        missing = {_hash(cell): cell for cell in sweep.cells if _record(sweep.folder, cell) is None}
        if missing:
            _check_names(missing.values())
        _write_changed(sweep.plan, sweep.cells)
        for name, cells in sweep.batches.items():
            done = sweep.folder / "batches" / f"{name}.done"
            _write_changed(done.with_suffix(".json"), cells)
            if any(_hash(cell) in missing for cell in cells):
                done.unlink(missing_ok=True)
            elif not done.exists():
                done.touch()
    except Timeout:
        raise SweepError(f"another sweep works in {sweep.folder}: wait for it, or give another folder.") from None
    except OSError as error:
        raise SweepError(f"{sweep.folder} cannot be written ({error.strerror}): give another folder.") from error
    return lock


def _check_names(cells: Iterable[Mapping[str, Any]]) -> None:
    from mmad_utils.benchmark import check_inputs
    from mmad_utils.datasets import DatasetError
    from mmad_utils.detector import DetectorError

    datasets = {cell["dataset"]: cell["anomalies"] for cell in cells}
    try:
        detectors = _detectors(cells)
        for name, anomalies in datasets.items():
            check_inputs(detectors, [name], anomalies)
    except (DetectorError, DatasetError) as error:
        raise SweepError(str(error)) from error


def _detectors(cells: Iterable[Mapping[str, Any]]) -> list[Any]:
    """One detector for each setting."""
    from mmad_utils.benchmark import make_detector

    settings = {_hash([cell["detector"], cell["parameters"]]): cell for cell in cells}
    return [make_detector(cell["detector"], **cell["parameters"]) for cell in settings.values()]


def measure_cells(batch: Path) -> None:
    """Measure the cells of a batch that have no record; a second job of the same batch waits for the first.

    Raises
    ------
    SweepError
        Cells failed, after all others have been measured; or a record cannot be written.
    """
    folder, cells = batch.parents[1], json.loads(batch.read_bytes())
    failed = []
    with locked(batch):
        missing = [cell for cell in cells if _record(folder, cell) is None]
        if missing:
            from mmad_utils import benchmark
            from mmad_utils.detector import DetectorError
            from mmad_utils.runs import with_provenance

            _detectors(missing)  # imports their modules, before the processes are forked
            for name in benchmark.PRELOADED:
                import_module(name)
        for cell in missing:
            given = [cell[key] for key in ("detector", "dataset", "seed", "parameters")]
            given += [cell["split"] == "own", cell["anomalies"]]
            try:
                row = benchmark.run_apart(benchmark.measure, *given, method=START_METHOD)
            except DetectorError as error:
                failed.append(f"{_label(cell)}: {error}")
                continue
            path = _path(folder, cell)
            try:
                write_atomic(path, json.dumps(with_provenance(row)).encode() + b"\n")
            except OSError as error:
                raise SweepError(f"{path} cannot be written ({error.strerror}); earlier cells are kept.") from error
    if failed:
        raise SweepError("\n".join([f"{len(failed)} of {len(cells)} cells failed:", *failed]))


def write_table(plan: Path) -> None:
    """Write runs.jsonl, table.csv and, with enough data sets, the critical-difference figure and its numbers.

    Raises
    ------
    SweepError
        A cell has no record.
    """
    import pandas as pd

    from mmad_utils import benchmark, plots, ranking
    from mmad_utils.detector import DetectorError

    folder, cells = plan.parent, json.loads(plan.read_bytes())
    found = [(cell, _record(folder, cell)) for cell in cells]
    missing = [_label(cell) for cell, row in found if row is None]
    if missing:
        raise SweepError(f"{len(missing)} cells have no record, such as {missing[0]}: run the sweep again.")
    rows = [row for _, row in found if row]
    runs = benchmark.named(pd.DataFrame(rows))
    table = benchmark.summarise(runs)
    write_atomic(folder / "runs.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    write_atomic(folder / "table.csv", table.to_csv(index=False).encode())
    benchmark.print_table(table)
    commits = runs["commit"].unique()
    if len(commits) > 1:
        print(f"Measured by {len(commits)} versions of the code: {', '.join(commits)}.")
    figure = folder / "critical_difference"
    for ending in (".csv", ".svg", ".png"):
        figure.with_suffix(ending).unlink(missing_ok=True)
    try:
        compared = ranking.average_ranks(table.pivot(index="dataset", columns="detector", values=RANKED_BY))
    except DetectorError as error:
        print(f"No critical-difference figure: {error}")
        return
    numbers = compared.pairs.assign(n_datasets=compared.n_datasets, friedman_p=compared.friedman_p)
    write_atomic(figure.with_suffix(".csv"), numbers.to_csv(index=False).encode())
    drawn = plots.critical_difference(compared)
    for ending in (".svg", ".png"):
        with atomic_path(figure.with_suffix(ending)) as path:
            drawn.savefig(path, format=ending[1:])
    print(f"Critical-difference figure: {figure}.svg")


def _record(folder: Path, cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a cell, or None. A damaged file is removed, so that the cell is measured again."""
    path = _path(folder, cell)
    try:
        row = json.loads(path.read_bytes())
        if isinstance(row, dict) and all(row.get(key) == value for key, value in cell.items()) and RANKED_BY in row:
            return row
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    print(f"{path} is damaged: {_label(cell)} is measured again.", file=sys.stderr)
    path.unlink()
    return None


def _path(folder: Path, cell: Mapping[str, Any]) -> Path:
    return folder / "cells" / f"{_hash(cell)}.json"


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def _label(cell: Mapping[str, Any]) -> str:
    settings = "".join(f" {key}={value}" for key, value in cell["parameters"].items())
    return f"{cell['detector']}{settings} on {cell['dataset']}, seed {cell['seed']}"


def _write_changed(path: Path, content: Any) -> None:
    """Write JSON, unless the file is equal, because Snakemake compares modification times."""
    text = json.dumps(content).encode()
    if not path.is_file() or path.read_bytes() != text:
        write_atomic(path, text)


def main(arguments: list[str]) -> int:
    """Run ``cells BATCH`` or ``table PLAN``; returns the exit status."""
    command, path = arguments
    try:
        {"cells": measure_cells, "table": write_table}[command](Path(path))
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
