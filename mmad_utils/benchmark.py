"""Measure every combination of detectors, data sets and seeds, and control scores on the same splits.

``python -m mmad_utils.benchmark --detectors IsolationForest,DeepSVDD --datasets thyroid --seeds 5`` fits and scores
each detector on new splits. It prints one row per detector and data set. There are up to six controls:

- a random score,
- the squared length ‖x‖² of the same inputs,
- the PCA residual,
- a Gaussian,
- the distance to the nearest neighbours,
- the untrained network of the detector, if the detector has a network.

The command needs neither a checkout nor Snakemake. To measure a grid of parameters, or to run on a cluster, use
``mmad_utils.course.sweep``, which calls the functions of this module.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import itertools
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
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
from mmad_utils.datasets import Dataset, DatasetError, cache_home, load, read_image
from mmad_utils.datasets.folders import read_cached, write_cached
from mmad_utils.datasets.record import content_hash
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors.baselines import DistanceToCenter, KNNDistance, PCAResidual, RandomScore
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.files import locked
from mmad_utils.metrics import evaluate
from mmad_utils.runs import RunFile, RunFileError, provenance

__all__ = [
    "benchmark",
    "check_inputs",
    "fit_detector",
    "input_for",
    "make_detector",
    "margin",
    "measure",
    "measure_controls",
    "named",
    "print_table",
    "run_apart",
    "summarise",
]

BASES = ("Detector", "DeepDetector")  # exported base classes, which are not detectors
CONTROLS: dict[str, Any] = {  # measured on the same split as each detector; image files are reduced to thumbnails
    "random": RandomScore(),
    "norm": DistanceToCenter("none"),
    "pca": PCAResidual(),
    "gaussian": GaussianAnomalyScorer(),
    "knn": KNNDistance(),
}
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
GAINS = ("untrained", "norm", "pca", "gaussian", "knn")  # controls to which the AUROC is compared
THUMBNAIL = 32  # px a side
RUN_KEYS = ("detector", "dataset", "seed", "parameters", "split", "anomalies")
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# Imported before a process is forked. An optimiser imports torch._dynamo at its first step, within the measured fit.
PRELOADED = ["mmad_utils.training", "mmad_utils.metrics", "pandas", "sklearn.ensemble", "torch._dynamo"]


def make_detector(name: str, **parameters) -> Any:
    """Make a detector by class name, from ``mmad_utils`` or from scikit-learn's estimators with ``score_samples``.

    Raises
    ------
    DetectorError
        Unknown name or parameter; the message lists similar or all valid names.
    """
    known = _scikit_learn_detectors()
    if name in mmad_utils.__all__:  # loads one module of this package, not all of them
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
    """Fit a clone of the detector on the data set, converted to the input format of the detector.

    Tables are standardised with a ``StandardScaler``; small images are flattened for a detector of tables.

    Returns
    -------
    fitted estimator (a pipeline for tables), data set in the input format of the detector
    """
    dataset = input_for(detector, dataset)
    fitted = clone(detector)
    if dataset.modality == "tabular":
        fitted = make_pipeline(StandardScaler(), fitted)
    return fitted.fit(dataset.X_train), dataset


def input_for(detector, dataset: Dataset) -> Dataset:
    """Convert the data set to the input format of the detector, see `fit_detector`.

    Raises
    ------
    DetectorError
        The detector takes images and the data set is a table, or the data set holds several modalities.
    """
    if dataset.modality == "paired":
        raise DetectorError(f"{dataset.name} has several modalities; use benchmarks/fusion.py for such data.")
    modalities = getattr(detector, "modalities", ("tabular",))
    if dataset.modality in modalities:
        return dataset
    if dataset.modality == "tabular":
        raise DetectorError(f"{type(detector).__name__} takes {modalities[0]}s, but {dataset.name} is a table.")
    return dataset.as_table()


def check_inputs(detectors, datasets, anomalies: str = "all") -> None:
    """Load each data set once; raise an error if it does not exist or if a detector cannot take it."""
    for name in datasets:
        dataset = load(name).half(anomalies)
        for detector in detectors:
            input_for(detector, dataset)


def measure(
    name: str,
    dataset_name: str,
    seed: int,
    parameters: dict[str, Any] | None = None,
    own_split: bool = False,
    anomalies: str = "all",
) -> dict[str, Any]:
    """Measure one detector on one data set with one seed: metrics of detector and controls, time and memory.

    Parameters
    ----------
    name, dataset_name : str
    seed : int >= 0
        The detector's ``random_state``, and the seed of the split unless ``own_split`` is True.
    parameters : dict, optional
        Parameters of the detector.
    own_split : bool, default=False
        Keep the split that the data set provides.
    anomalies : {"all", "select", "report"}, default="all"
        Which anomalies are in the test set, see ``Dataset.half``.

    Returns
    -------
    dict
        The keys that identify the run, ``n_train``, ``n_test``, the metrics, ``<control>_auroc`` and
        ``<control>_average_precision`` of each control, ``fit_seconds``, ``score_seconds``, ``control_seconds``, and
        ``peak_megabytes``. The last is the peak memory of this process, libraries included; it is a measurement of
        the detector only if the process is new.
    """
    dataset = load(dataset_name) if own_split else load(dataset_name, seed=seed).resplit(seed)
    dataset = dataset.half(anomalies)
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
        "parameters": parameters or {},
        "split": "own" if own_split else "fresh",
        "anomalies": anomalies,
        "n_train": len(dataset.X_train),
        "n_test": len(dataset.y_test),
        "n_networks": detector.get_params().get("n_estimators", 1) if "epochs" in detector.get_params() else 0,
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
    start = time.perf_counter()
    row |= measure_controls(shaped, seed)
    if "epochs" in detector.get_params():
        row |= _control("untrained", clone(detector).set_params(epochs=0), shaped)
    return row | {"control_seconds": time.perf_counter() - start}


def measure_controls(dataset: Dataset, seed: int) -> dict[str, float]:
    """Compute ``<control>_auroc`` and ``<control>_average_precision`` of each of ``CONTROLS`` on a data set.

    Results are cached in ``cache_home()/controls``. The cache key is a hash of the content of the data set, the seed,
    the versions of the packages and the source of this package.
    """
    content = content_hash(dataset.X_train, dataset.X_test, dataset.y_test)
    made_by = json.dumps([content, seed, provenance()["versions"], version("scipy"), _source_hash()])
    path = cache_home() / "controls" / f"{hashlib.sha256(made_by.encode()).hexdigest()}.json"
    if (known := read_cached(path)) is not None:
        return json.loads(known)
    rows = _as_rows(dataset)
    found: dict[str, float] = {}
    for key, control in CONTROLS.items():
        found |= _control(key, _with_seed(clone(control), seed), rows)
    write_cached(path, json.dumps(found).encode())
    return found


@lru_cache(maxsize=1)
def _source_hash() -> str:
    """SHA-256 of all modules of the package."""
    return content_hash(sorted(Path(mmad_utils.__file__).parent.rglob("*.py")))


def _control(key: str, control, dataset: Dataset) -> dict[str, float]:
    evaluation = evaluate(*fit_detector(control, dataset), maps=False)
    return {f"{key}_auroc": evaluation.auroc, f"{key}_average_precision": evaluation.average_precision}


def benchmark(
    detectors,
    datasets,
    *,
    seeds: int = 5,
    first_seed: int = 0,
    jobs: int = 1,
    parameters=None,
    own_split: bool = False,
    anomalies: str = "all",
    runs: RunFile | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Measure every combination of detector, data set and seed, each in its own process.

    Parameters
    ----------
    detectors, datasets : sequences of names
    seeds, first_seed : int
        The seeds are first_seed … first_seed + seeds - 1.
    jobs : int
        Number of processes that run at the same time. The cores are divided among them, unless ``OMP_NUM_THREADS``
        sets the number of threads of each.
    parameters : dict, set on every detector
    own_split : bool, use the split that the data set provides (that of seed 0) instead of one split per seed
    anomalies : {"all", "select", "report"}, see ``Dataset.half``
    runs : RunFile, optional
        Each run is appended when it ends, and a run that the file contains is not repeated. The file is locked:
        another process that measures into it waits.
    progress : bool, show a progress bar

    Returns
    -------
    DataFrame, one row per combination, in the order given

    Raises
    ------
    DetectorError, DatasetError
        A name is invalid; raised before the first run. DetectorError is also raised if runs failed, after all other
        runs have ended and were written to ``runs``.
    """
    if seeds < 1 or jobs < 1 or first_seed < 0:
        raise DetectorError(f"seeds={seeds}, jobs={jobs}, first_seed={first_seed}; give at least 1, 1 and 0.")
    check_inputs([make_detector(name, **(parameters or {})) for name in detectors], datasets, anomalies)
    combinations = list(itertools.product(detectors, datasets, range(first_seed, first_seed + seeds)))
    split = "own" if own_split else "fresh"
    keys = [dict(zip(RUN_KEYS, (*each, parameters or {}, split, anomalies))) for each in combinations]
    found: dict[int, dict[str, Any]] = {}
    failed = []
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with _only_process(runs), _threads(threads), ThreadPoolExecutor(jobs) as pool:
        if runs is not None:
            runs.read_again()
            found = {i: row for i, key in enumerate(keys) if (row := runs.find(key))}
        futures = {
            pool.submit(run_apart, measure, *each, parameters, own_split, anomalies): i
            for i, each in enumerate(combinations)
            if i not in found
        }
        for future in tqdm(as_completed(futures), total=len(futures), disable=not progress, unit="run"):
            i = futures[future]
            if error := future.exception():
                failed.append(f"{' '.join(map(str, combinations[i]))}: {error}")
            else:
                found[i] = future.result() if runs is None else runs.append(future.result())
    if failed:
        raise DetectorError("\n".join([f"{len(failed)} of {len(combinations)} runs failed:", *failed]))
    return pd.DataFrame([found[i] for i in range(len(combinations))])


def _only_process(runs: RunFile | None):
    """Lock a run file, so that one process at a time measures into it."""
    return nullcontext() if runs is None else locked(runs.path.with_name(f"{runs.path.name}.benchmark"))


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Limit the processes that are started in this block to n threads each, unless the environment limits them."""
    names = [name for name in THREAD_LIMITS if name not in os.environ]
    os.environ |= dict.fromkeys(names, str(n))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def run_apart(function: Callable, *arguments: Any, method: str = START_METHOD) -> Any:
    """Call a function in a separate process, and return its result.

    The separate process has its own memory peak. If it is killed, the calling process continues.

    Parameters
    ----------
    function, arguments : picklable
    method : {"forkserver", "fork", "spawn"}
        The fork server imports the libraries once. ``fork`` is for a parent process that has imported them already
        and has a single thread.

    Raises
    ------
    DetectorError
        The call raised an error, whose type and text are in the message, or its process was killed.
    """
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        process.join()
        kill = " (it was killed, most often for lack of memory)" if process.exitcode == -9 else ""
        error = f"its process ended with exit status {process.exitcode}{kill}."
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()
        receiver.close()
    if error:
        raise DetectorError(error)
    return result


def _send_result(sender, function, arguments) -> None:
    try:
        sender.send((function(*arguments), ""))
    except Exception as error:
        sender.send((None, f"{type(error).__name__}: {error}"))


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Average every measure over the seeds, one row per detector and data set.

    AUROC and average precision also have their standard deviation. ``above_<control>`` is the mean difference in
    AUROC to a control on the same split and seed, and ``above_<control>_margin`` is the half width of its 95%
    confidence interval. Splits of one pool of samples overlap, so the variance s² / n is too small. For new splits
    the variance is therefore (1/n + n_test/n_train) s² (corrected resampled t interval). This interval covers the
    sampling of the training set and the randomness of training, but not the choice of the data set. If all seeds use
    one split, the interval is Student's t and covers only the randomness of training.

    References
    ----------
    C. Nadeau, Y. Bengio (2003), Inference for the generalization error, Machine Learning 52, equation 13.
    """
    measures = runs.select_dtypes("number").columns.drop(["seed", "n_train", "n_test"], errors="ignore")
    gains = {f"above_{key}": runs["auroc"] - runs[f"{key}_auroc"] for key in GAINS if f"{key}_auroc" in runs}
    runs = runs.assign(**gains, ratio=test_to_train(runs))
    groups = runs.groupby(["detector", "dataset"], sort=False)
    table, n = groups[[*measures, *gains]].mean(), groups.size()
    for key in ("auroc", "average_precision"):
        table.insert(table.columns.get_loc(key) + 1, f"{key}_sd", groups[key].std(ddof=1))
    for key in gains:
        margins = [margin(group[key], group["ratio"].mean()) for _, group in groups]
        table[f"{key}_margin"] = margins
    return table.assign(n=n).reset_index()


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """Append the parameters of each run to the name of its detector, as in "KNNDistance(n_neighbors=1)"."""
    settings = [", ".join(f"{key}={value}" for key, value in given.items()) for given in runs["parameters"]]
    names = [f"{name}({given})" if given else name for name, given in zip(runs["detector"], settings)]
    return runs.assign(detector=names)


def margin(values, test_to_train: float) -> float:
    """Half width of the 95% interval of a mean over splits of one pool, see `summarise`; NaN for one value.

    Parameters
    ----------
    values : (n,) float, one per seed
    test_to_train : float >= 0
        n_test / n_train of the splits. Give 0 if the values are independent; the interval is then Student's t.
    """
    n = len(values)
    error = np.std(values, ddof=1) * np.sqrt(1 / n + test_to_train) if n > 1 else np.nan
    return float(stats.t.ppf(0.975, n - 1) * error)


def test_to_train(runs: pd.DataFrame) -> pd.Series | float:
    """n_test / n_train of each run; 0 for runs whose seeds all use the same split."""
    return (runs["n_test"] / runs["n_train"]).where(runs["split"] == "fresh", 0.0)


def _with_seed(detector, seed: int):
    return detector.set_params(random_state=seed) if "random_state" in detector.get_params() else detector


def _as_rows(dataset: Dataset) -> Dataset:
    """Convert a data set to a table for the controls; image files are reduced to thumbnails first."""
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


def print_table(table: pd.DataFrame) -> None:
    """Print a table of `summarise`: mean ± standard deviation, and gains ± the half widths of their intervals."""
    hidden = [f"{key}_average_precision" for key in (*CONTROLS, "untrained")]
    shown = table.drop(columns=hidden, errors="ignore")
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
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmad_utils.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("--detectors", required=True, help="class names, comma-separated")
    parser.add_argument("--datasets", required=True, help="names as `python -m mmad_utils.datasets list` shows them")
    parser.add_argument("--seeds", type=int, default=5, help="number of splits and seeds (default: 5)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that run at the same time (default: 1)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of every detector"
    )
    parser.add_argument(
        "--own-split", action="store_true", help="use the split of the data set; only the detector's seed varies"
    )
    parser.add_argument("--first-seed", type=int, default=0, help="the first of the seeds (default: 0)")
    parser.add_argument(
        "--anomalies",
        choices=("all", "select", "report"),
        default="all",
        help="anomalies of the test set: all, or one of two halves (select: to choose parameters; report: to report)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="FILE",
        help="append one JSON line per run; runs that the file contains are not repeated",
    )
    options = parser.parse_args(arguments)
    try:
        pairs = [item.partition("=") for item in options.set]
        runs = benchmark(
            options.detectors.split(","),
            options.datasets.split(","),
            seeds=options.seeds,
            first_seed=options.first_seed,
            jobs=options.jobs,
            parameters={key: _parse(value) for key, _, value in pairs},
            own_split=options.own_split,
            anomalies=options.anomalies,
            runs=RunFile(options.runs, RUN_KEYS) if options.runs else None,
            progress=True,
        )
    except (DetectorError, DatasetError, RunFileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_table(summarise(runs))
    return 0


def _parse(text: str):
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    sys.exit(main())
