"""How good is a detector, really? Every combination of detectors, data sets and seeds, beside its controls.

``python -m mmad_utils.benchmark --detectors IsolationForest,KNNDistance --datasets thyroid --seeds 5`` fits and
scores each on fresh splits and prints a row each. Beside every detector stand a random score, the squared length
‖x‖² of the same inputs, and the detector's own untrained network where it has one: what they reach, nobody learned.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy import stats
from sklearn.base import clone
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.discovery import all_estimators
from tqdm import tqdm

import mmad_utils
from mmad_utils.datasets import Dataset, DatasetError, load, read_image
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors.baselines import DistanceToCenter, RandomScore
from mmad_utils.files import write_atomic
from mmad_utils.metrics import evaluate

__all__ = ["benchmark", "fit_detector", "make_detector", "measure", "summarise"]

BASES = ("Detector", "DeepDetector")  # exported, but no detectors themselves
CONTROLS = ("untrained", "norm")  # over which a gain is shown
THUMBNAIL = 32  # px a side; ‖x‖² of a photograph is that of its thumbnail


def make_detector(name: str, **parameters) -> Any:
    """A new detector by class name: one of ``mmad_utils``, or any scikit-learn estimator with ``score_samples``.

    Raises
    ------
    DetectorError
        Unknown name or parameter; the message gives the nearest right one.
    """
    known = _scikit_learn_detectors()
    if name in mmad_utils.__all__:  # of this package, only the module that is asked for is loaded
        known[name] = getattr(mmad_utils, name)
    if name not in known or not _is_detector(name, known[name]):
        known |= {key: getattr(mmad_utils, key) for key in mmad_utils.__all__}
        right = [key for key, found in known.items() if _is_detector(key, found)]
        near = difflib.get_close_matches(name, right, n=3, cutoff=0.4)
        raise DetectorError(f"no detector is called {name!r}; did you mean {', '.join(near) or sorted(right)}?")
    detector = known[name](**({"novelty": True} if name == "LocalOutlierFactor" else {}))
    unknown = [key for key in parameters if key not in detector.get_params()]
    if unknown:
        raise DetectorError(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(detector.get_params())}.")
    return detector.set_params(**parameters)


def _scikit_learn_detectors() -> dict[str, Any]:
    """scikit-learn's estimators with ``score_samples``, by name."""
    found = {key: estimator for key, estimator in all_estimators() if hasattr(estimator, "score_samples")}
    return found | {"LocalOutlierFactor": LocalOutlierFactor}


def _is_detector(name: str, found: Any) -> bool:
    ours = isinstance(found, type) and issubclass(found, Detector)
    return ours and name not in BASES if name in mmad_utils.__all__ else True


def fit_detector(detector, dataset: Dataset) -> tuple[Any, Dataset]:
    """Fit a clone on the data set, in the form of input that the detector takes.

    Tables go through a ``StandardScaler``; small images are flattened for a detector of tables.

    Returns
    -------
    fitted estimator (a pipeline for tables), data set in the form that it takes
    """
    modalities = getattr(detector, "modalities", ("tabular",))
    if dataset.modality not in modalities:
        if dataset.modality == "tabular":
            raise DetectorError(f"{type(detector).__name__} takes {modalities[0]}s, but {dataset.name} is a table.")
        dataset = dataset.as_table()
    fitted = clone(detector)
    if dataset.modality == "tabular":
        fitted = make_pipeline(StandardScaler(), fitted)
    return fitted.fit(dataset.X_train), dataset


def measure(
    name: str, dataset_name: str, seed: int, parameters: dict[str, Any] | None = None, own_split: bool = False
) -> dict[str, Any]:
    """One detector on one data set and one seed: metrics of the detector and of its controls, time, memory.

    The seed is the detector's ``random_state`` and draws the split, unless the data set's own is to be kept. Memory
    is the peak of this process, libraries included, so it means something only in a fresh one.
    """
    dataset = load(dataset_name) if own_split else load(dataset_name, seed=seed).resplit(seed)
    if dataset.modality == "paired":
        raise DetectorError(f"{dataset_name} holds several modalities; benchmarks/fusion.py measures on such data.")
    detector = _with_seed(make_detector(name, **(parameters or {})), seed)
    start = time.perf_counter()
    fitted, shaped = fit_detector(detector, dataset)
    fit_seconds = time.perf_counter() - start
    start = time.perf_counter()
    evaluation = evaluate(fitted, shaped, maps=False)
    score_seconds = time.perf_counter() - start
    row: dict[str, Any] = {
        "detector": name,
        "dataset": dataset_name,
        "seed": seed,
        "auroc": evaluation.auroc,
        "average_precision": evaluation.average_precision,
        "f1": evaluation.f1,
        "f1_at_rate": evaluation.f1_at_rate,
        "fit_seconds": fit_seconds,
        "score_seconds": score_seconds,
        "peak_megabytes": _peak_megabytes(),
    }
    last = fitted[-1] if isinstance(fitted, Pipeline) else fitted
    if hasattr(last, "anomaly_map") and dataset.masks_test is not None:
        row |= evaluate(fitted, shaped).pixel or {}
    controls = {"random": (RandomScore(random_state=seed), shaped), "norm": (DistanceToCenter("none"), shaped)}
    if "epochs" in detector.get_params():
        controls["untrained"] = (clone(detector).set_params(epochs=0), shaped)
    for key, (control, data) in controls.items():
        if key != "untrained":
            data = _as_rows(data)
        control_evaluation = evaluate(*fit_detector(control, data), maps=False)
        row[f"{key}_auroc"] = control_evaluation.auroc
        row[f"{key}_average_precision"] = control_evaluation.average_precision
        row[f"{key}_f1"] = control_evaluation.f1
        row[f"{key}_f1_at_rate"] = control_evaluation.f1_at_rate
    return row


def benchmark(
    detectors, datasets, *, seeds: int = 5, jobs: int = 1, parameters=None, own_split=False, progress=False
) -> pd.DataFrame:
    """Measure every combination, each in its own process.

    Parameters
    ----------
    detectors, datasets : sequences of names
    seeds : int, the seeds are 0 … seeds - 1
    jobs : int, processes at a time; each gets its share of the cores
    parameters : dict, set on every detector
    own_split : bool, keep the split that the data set comes with (that of seed 0) instead of one a seed
    progress : bool, show a bar

    Returns
    -------
    DataFrame, one row a combination, in the order given

    Raises
    ------
    DetectorError, DatasetError
        A wrong name, before anything runs.
    """
    if seeds < 1 or jobs < 1:
        raise DetectorError(f"seeds is {seeds} and jobs {jobs}; both must be at least 1.")
    for name in detectors:
        make_detector(name, **(parameters or {}))
    for name in datasets:
        load(name)
    combinations = itertools.product(detectors, datasets, range(seeds))
    tasks = [(*combination, parameters, own_split) for combination in combinations]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    before = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ |= dict.fromkeys(before, threads)
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
            futures = {pool.submit(measure, *task): i for i, task in enumerate(tasks)}
            done = tqdm(as_completed(futures), total=len(tasks), disable=not progress, unit="run")
            rows = {futures[future]: future.result() for future in done}
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
    return pd.DataFrame([rows[i] for i in range(len(tasks))])


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean of every measure over the seeds, one row a detector and data set; AUROC and AP also with their sd.

    ``above_untrained`` and ``above_norm`` are the mean gain in AUROC over the same seed's untrained network and ‖x‖²,
    ``…_margin`` the half width of its 95% confidence interval (Student's t).
    """
    runs = runs.drop(columns="seed")
    for control in CONTROLS:
        if f"{control}_auroc" in runs:
            runs[f"above_{control}"] = runs["auroc"] - runs[f"{control}_auroc"]
    groups = runs.groupby(["detector", "dataset"], sort=False)
    table, n = groups.mean(), groups.size()
    for key in ("auroc", "average_precision"):
        table.insert(table.columns.get_loc(key) + 1, f"{key}_sd", groups[key].std(ddof=1))
    for key in [f"above_{control}" for control in CONTROLS if f"above_{control}" in table]:
        table[f"{key}_margin"] = stats.t.ppf(0.975, n - 1) * groups[key].std(ddof=1) / np.sqrt(n)
    return table.assign(n=n).reset_index()


def _with_seed(detector, seed: int):
    return detector.set_params(random_state=seed) if "random_state" in detector.get_params() else detector


def _as_rows(dataset: Dataset) -> Dataset:
    """The data set as a table, photographs as thumbnails, for the rulers that know only numbers."""
    if isinstance(dataset.X_train, np.ndarray):
        return dataset.as_table()

    def thumbnails(paths):
        small = [Image.fromarray(read_image(path)).resize((THUMBNAIL, THUMBNAIL)) for path in paths]
        return np.stack([np.asarray(image) for image in small])

    arrays = {"X_train": thumbnails(dataset.X_train), "X_test": thumbnails(dataset.X_test)}
    return replace(dataset, **arrays, masks_test=None).as_table()


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _print(table: pd.DataFrame) -> None:
    shown = table.copy()
    for key in ("auroc", "average_precision"):
        sd = shown.pop(f"{key}_sd").map(lambda value: "" if np.isnan(value) else f" ±{value:.3f}")
        shown[key] = shown[key].map("{:.3f}".format) + sd
    for key in [name for name in shown if name.startswith("above_") and not name.endswith("_margin")]:
        margin = shown.pop(f"{key}_margin").map(lambda value: "" if np.isnan(value) else f" ±{value:.3f}")
        shown[key] = shown[key].map(lambda value: "-" if np.isnan(value) else f"{value:+.3f}") + margin
    shown = shown.rename(columns=lambda name: name.replace("average_precision", "ap").replace("_seconds", " s"))
    shown = shown.rename(columns={"peak_megabytes": "peak MB"})
    print(shown.to_string(index=False, float_format="{:.3f}".format, na_rep="-"))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmad_utils.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--detectors", required=True, help="class names, comma-separated")
    parser.add_argument("--datasets", required=True, help="names as `python -m mmad_utils.datasets list` shows them")
    parser.add_argument("--seeds", type=int, default=5, help="number of splits and seeds (default: 5)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of every detector"
    )
    parser.add_argument(
        "--own-split", action="store_true", help="keep each data set's own split: only the detector's seed changes"
    )
    parser.add_argument("--json", type=Path, help="also write every single run to this file")
    options = parser.parse_args(arguments)
    try:
        pairs = [item.partition("=") for item in options.set]
        parameters = {key: _parse(value) for key, _, value in pairs}
        names, datasets = (text.split(",") for text in (options.detectors, options.datasets))
        runs = benchmark(
            names,
            datasets,
            seeds=options.seeds,
            jobs=options.jobs,
            parameters=parameters,
            own_split=options.own_split,
            progress=True,
        )
    except (DetectorError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _print(summarise(runs))
    if options.json:
        text = json.dumps(json.loads(runs.to_json(orient="records")), indent=1)
        write_atomic(options.json, f"{text}\n".encode())
    return 0


def _parse(text: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    sys.exit(main())
