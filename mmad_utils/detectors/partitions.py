"""Fit Gaussian detectors and score with any detector over the partitions of a Dask collection.

No partition is sent to the client. Statistics are computed for each partition and merged in pairs, and scores are
computed on the worker that holds the partition. With a ``dask.distributed.Client`` the results of a lost worker are
computed again. Dask is an optional dependency, ``pip install "mmad[dask]"``, and no other module imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted, validate_data

from mmad_utils.detector import Detector, DetectorError, check_contamination, clear_errors
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer, GaussianStatistics

try:
    import dask
except ImportError as error:
    raise ImportError(f'Dask cannot be imported ({error}): install it by pip install "mmad[dask]".') from error

__all__ = ["fit_partitions", "score_partitions"]


def fit_partitions(detector, X):
    """Fit a Gaussian detector on all partitions of a Dask collection.

    The result equals that of ``fit`` on all rows, in the order of the partitions, up to rounding. Workers return
    statistics and, for the threshold of ``GaussianAnomalyScorer``, the largest scores, a share ``contamination`` of
    all. For these scores X is computed a second time: call ``X.persist()`` before if the cluster has enough memory.

    Parameters
    ----------
    detector : GaussianAnomalyScorer or PositionwiseGaussian
        It is fitted in place.
    X : dask.array.Array (n, d) or dask.dataframe.DataFrame; for PositionwiseGaussian dask.array.Array (n, p, d)
        A partition may be empty or have one row only.

    Returns
    -------
    detector

    Raises
    ------
    DetectorError
        A partition has other columns than X, or a value that is not finite; the message names partition and row.
    """
    if hasattr(detector, "mahalanobis"):  # PositionwiseGaussian, whose module imports PyTorch
        learn, empty = dask.delayed(_positionwise), type(detector)(detector.regularization)
        parts = [learn(empty, *part) for part in _partitions(X)]
        (merged,) = dask.compute(_reduced(parts, _merge_positionwise))
        if merged.n_samples_ < 2:
            raise DetectorError(f"a covariance needs at least 2 samples, the partitions hold {merged.n_samples_}.")
        detector.set_state(merged.get_state())
        return detector
    if not isinstance(detector, GaussianAnomalyScorer):
        raise DetectorError(
            f"a {type(detector).__name__} has no statistics that can be merged over partitions; give a "
            "GaussianAnomalyScorer or a PositionwiseGaussian."
        )
    check_contamination(type(detector).__name__, detector.contamination)
    detector._check_parameters()
    learn = dask.delayed(_statistics)
    parts = [learn(clone(detector), *part) for part in _partitions(X)]
    ((n, statistics),) = dask.compute(_reduced(parts, _add, detector.half_life))
    if n == 0:
        raise DetectorError("all partitions are empty: give at least one row.")
    empty = X._meta if hasattr(X, "columns") else np.empty((0, X.shape[1]))
    validate_data(detector, empty, reset=True, skip_check_array=True)
    with clear_errors(type(detector).__name__, statistics.mean):
        detector._learn(statistics)
        detector.cholesky_  # noqa: B018  a singular covariance is an error of fit
    position = (n - 1) * detector.contamination  # of the threshold, from the largest score down
    sent, largest = dask.delayed(_same)(detector), dask.delayed(_largest_scores)
    parts = [largest(sent, int(position) + 2, *part) for part in _partitions(X)]
    (scores,) = dask.compute(_reduced(parts, _largest, int(position) + 2))
    detector.offset_ = -float(np.interp(position, np.arange(len(scores)), scores))
    return detector


def score_partitions(detector, X):
    """Lazy anomaly scores of all partitions of a Dask collection.

    Each worker receives the detector once, not once per partition. If the score of a sample depends on the other
    samples of the call, as for ``RandomScore``, it depends on the partition.

    Parameters
    ----------
    detector : fitted detector or scikit-learn estimator with ``score_samples``, or path of a saved detector
        The workers must be able to read the path; the first worker that needs the detector loads it.
    X : dask.array.Array of what the detector takes, dask.dataframe.DataFrame, or dask.bag.Bag of image paths
        A partition may be empty.

    Returns
    -------
    dask.array.Array (n,) float64, or for a DataFrame dask.dataframe.Series with its index; higher is more anomalous

    Raises
    ------
    DetectorError
        During the computation: a partition has other columns than X, or the detector raises an error for it. The
        message names the partition, and the row of a value that is not finite.
    """
    if isinstance(detector, (str, Path)):
        sent = dask.delayed(Detector.load)(str(detector))
    else:
        check_is_fitted(detector)
        sent = dask.delayed(_same)(detector)
    score = dask.delayed(_scores)
    scores = [score(sent, *part) for part in _partitions(X)]
    if hasattr(X, "columns"):
        from dask import dataframe

        meta = pd.Series(np.empty(0), index=X._meta.index, name="anomaly_score")
        return dataframe.from_delayed(scores, meta=meta, divisions=X.divisions)
    from dask import array

    rows = X.chunks[0] if hasattr(X, "chunks") else [np.nan] * len(scores)
    return array.concatenate([array.from_delayed(part, (n,), dtype=np.float64) for part, n in zip(scores, rows)])


def _partitions(X) -> Iterator[tuple[Any, int, Any]]:
    """Each partition, its number, and its expected columns: names, or the shape of a sample, or None."""
    columns: Any = list(X.columns) if hasattr(X, "columns") else None
    if hasattr(X, "rechunk"):
        X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))  # whole samples
        columns = X.shape[1:]
    for number, part in enumerate(np.ravel(X.to_delayed())):
        yield part, number, columns


def _reduced(parts: list[Any], merge: Callable, *arguments):
    """One delayed object from several, merged in adjacent pairs so that the order is kept."""
    merge = dask.delayed(merge)
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [merge(*pair, *arguments) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def _same(detector):
    """The detector itself; as a separate task it is sent to each worker once."""
    return detector


def _statistics(scorer, part, number, columns) -> tuple[int, GaussianStatistics]:
    """Number of rows, and their statistics."""
    with _located(part, number, columns):
        if len(part) == 0:
            return 0, GaussianStatistics()
        return len(part), scorer._statistics(clone(scorer)._check(part, reset=True))


def _add(first, second, half_life) -> tuple[int, GaussianStatistics]:
    (n, earlier), (m, later) = first, second
    if half_life is not None:
        earlier = earlier.scale_weights(0.5 ** (m / half_life))
    return n + m, earlier + later


def _largest_scores(scorer, k, part, number, columns) -> np.ndarray:
    """The k largest scores of a partition, all where it has fewer, in descending order."""
    with _located(part, number, columns):
        if len(part) == 0:
            return np.empty(0)
        with clear_errors(type(scorer).__name__, part):
            scores = scorer._score(scorer._check(part, reset=False))
        if not np.isfinite(scores).all():
            raise DetectorError("a score overflows: scale the columns and remove constant columns.")
        return _largest(scores, [], k)


def _largest(first, second, k) -> np.ndarray:
    return np.sort(np.concatenate([first, second]))[::-1][:k]


def _positionwise(empty, part, number, columns):
    with _located(part, number, columns):
        return type(empty)(empty.regularization).partial_fit(part) if len(part) else empty


def _merge_positionwise(first, second):
    """Merge into a new model, because another task may need the inputs."""
    return type(first)(first.regularization).merge(first).merge(second)


def _scores(detector, part, number, columns) -> np.ndarray | pd.Series:
    part = part if hasattr(part, "shape") else list(part)
    with _located(part, number, columns):
        scores = -np.asarray(detector.score_samples(part), dtype=np.float64) if len(part) else np.empty(0)
    return pd.Series(scores, index=part.index, name="anomaly_score") if isinstance(part, pd.DataFrame) else scores


@contextmanager
def _located(part, number, columns) -> Iterator[None]:
    """Check the columns, and add the partition and the first row that is not finite to errors of this block."""
    found = list(part.columns) if hasattr(part, "columns") else getattr(part, "shape", (0,))[1:]
    if columns is not None and found != columns:
        raise DetectorError(
            f"partition {number} has the columns {found}, but X has {columns}: give all partitions the same columns."
        )
    try:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # results are checked instead
            yield
    except (TypeError, ValueError) as error:
        raise DetectorError(f"partition {number}{_not_finite(part)}: {error}") from error


def _not_finite(part) -> str:
    """Position of the first value that is not finite, as ", row 3, column 'a'"; empty if all are finite."""
    frame = isinstance(part, pd.DataFrame)
    values = part.select_dtypes("number").to_numpy(np.float64, na_value=np.nan) if frame else np.asarray(part)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return ""
    row, *column = np.argwhere(~np.isfinite(values))[0].tolist()
    name = (
        repr(part.select_dtypes("number").columns[column[0]]) if frame else column[0] if len(column) == 1 else column
    )
    return f", row {row}, column {name}"
