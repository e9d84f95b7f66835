"""Metrics of anomaly scores for images, rows and pixels, and `evaluate`, which computes them.

In all functions, labels are 0 (normal) and 1 (anomaly), and a higher score is more anomalous.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import metrics as sklearn_metrics
from sklearn.pipeline import Pipeline

from mmad_utils.pixel_metrics import MetricError, aupro, pixel_auroc, pixel_metrics, resize_maps

if TYPE_CHECKING:
    from mmad_utils.datasets import Dataset

__all__ = [
    "Evaluation",
    "MetricError",
    "aupro",
    "auroc",
    "average_precision",
    "bootstrap_interval",
    "confusion",
    "evaluate",
    "f1_at_rate",
    "f1_score",
    "fpr_at_tpr",
    "max_f1",
    "pixel_auroc",
    "pixel_metrics",
    "resize_maps",
    "threshold_of",
]

CELLS = 2_000_000  # samples of bootstrap resamples that are processed at once


def auroc(y, scores) -> float:
    """Area under the ROC curve: the probability that an anomaly scores above a normal sample (a tie counts half).

    Parameters
    ----------
    y : (n,) int, 0 normal, 1 anomaly
    scores : (n,) float, higher is more anomalous

    Returns
    -------
    float in [0, 1]; 0.5 for random scores.

    Raises
    ------
    MetricError
        There is only one class, a score is NaN or infinite, or the lengths differ. All metrics below raise it too.
    """
    return float(sklearn_metrics.roc_auc_score(*_check(y, scores)))


def average_precision(y, scores) -> float:
    """Mean precision over the steps in recall, in [0, 1]; for random scores it is about the anomaly rate."""
    return float(sklearn_metrics.average_precision_score(*_check(y, scores)))


def max_f1(y, scores) -> tuple[float, float]:
    """The largest F1 of all thresholds, and that threshold (an alarm is a score >= threshold).

    The threshold is chosen by the test labels. The value is therefore an upper limit of F1 and not an estimate for
    new samples.
    """
    true_positives, false_positives, thresholds = _counts(*_check(y, scores))
    f1 = _f1(true_positives, false_positives)[0]
    best = int(f1.argmax())
    return float(f1[best]), float(thresholds[best])


def f1_at_rate(y, scores) -> float:
    """F1 if the number of alarms equals the number of anomalies; it then equals precision and recall.

    If samples tie at the threshold, the expected value over a random choice among them is returned. The result
    therefore does not depend on the order of the samples.
    """
    return float(_f1_at_rate(*_counts(*_check(y, scores))[:2])[0])


def fpr_at_tpr(y, scores, tpr: float = 0.95) -> float:
    """False-positive rate at the highest threshold whose true-positive rate is at least `tpr`."""
    if not 0 < tpr <= 1:
        raise MetricError(f"tpr is {tpr}. Give a share in (0, 1].")
    return float(_fpr_at_tpr(*_counts(*_check(y, scores))[:2], tpr)[0])


def f1_score(y, predictions) -> float:
    """F1 of alarms: 2 TP / (2 TP + FP + FN), with the anomalies as the positive class."""
    table = confusion(y, predictions)
    _check_both_classes(np.asarray(y))
    return float(2 * table[1, 1] / (2 * table[1, 1] + table[0, 1] + table[1, 0]))


def confusion(y, predictions) -> np.ndarray:
    """Confusion matrix, (2, 2) int: rows are the true class, columns the prediction, normal before anomaly.

    Parameters
    ----------
    y : (n,) int, 0 normal, 1 anomaly
    predictions : (n,) bool, True for an alarm
    """
    y, predictions = _check_labels(y), np.asarray(predictions)
    if predictions.shape != y.shape:
        raise MetricError(f"y has shape {y.shape} but predictions {predictions.shape}. Give one per sample.")
    if not np.isin(predictions, (0, 1)).all():
        raise MetricError("predictions are neither bool nor 0/1. For a detector pass predict(X) == -1.")
    return sklearn_metrics.confusion_matrix(y, predictions, labels=[0, 1])


def bootstrap_interval(
    metric: str | Callable[[np.ndarray, np.ndarray], float],
    y,
    scores,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    random_state: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval, stratified by class: every resample has as many anomalies as the data.

    Parameters
    ----------
    metric : "auroc", "average_precision", "max_f1", "f1_at_rate" or "fpr95", or a function of (y, scores)
        The named metrics are computed for many resamples at once; a function is called for each resample.
    y, scores : (n,)
    n_resamples : int
    level : float in (0, 1), confidence level
    random_state : int

    Returns
    -------
    (low, high)

    References
    ----------
    B. Efron and R. J. Tibshirani (1993), An introduction to the bootstrap, chapter 13.
    """
    y, scores = _check(y, scores)
    if isinstance(metric, str) and metric not in _FROM_COUNTS:
        raise MetricError(f"There is no metric {metric!r}. Choose one of {', '.join(_FROM_COUNTS)}.")
    rng = np.random.default_rng(random_state)
    normal, anomalous = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    values: list[float] = []
    while len(values) < n_resamples:
        batch = min(n_resamples - len(values), max(1, CELLS // len(y)))
        drawn = np.hstack([rng.choice(group, (batch, len(group))) for group in (normal, anomalous)])
        if isinstance(metric, str):
            cells = drawn + len(y) * np.arange(batch)[:, None]
            weights = np.bincount(cells.ravel(), minlength=batch * len(y)).reshape(batch, len(y))
            values.extend(_FROM_COUNTS[metric](*_counts(y, scores, weights)[:2]))
        else:
            values.extend(metric(y[rows], scores[rows]) for rows in drawn)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _counts(y, scores, weights=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and false positives, (b, t) each, at the t distinct scores in descending order; and those scores.

    Row b counts each sample weights[b] times, as in a bootstrap resample.
    """
    weights = np.ones_like(y)[None] if weights is None else weights
    order = np.argsort(-scores)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # last index of each tie
    weights, labels = weights[:, order], y[order]
    true_positives = np.cumsum(weights * labels, axis=1)[:, ends]
    false_positives = np.cumsum(weights * (1 - labels), axis=1)[:, ends]
    return true_positives, false_positives, scores[order][ends]


def _auroc(tp, fp):
    tp, fp = (np.pad(counts, ((0, 0), (1, 0))) for counts in (tp, fp))
    return np.trapezoid(tp, fp) / (tp[:, -1] * fp[:, -1])


def _average_precision(tp, fp):
    found = np.diff(tp, prepend=0)
    return (found * tp / np.maximum(tp + fp, 1)).sum(axis=1) / tp[:, -1]


def _f1(tp, fp):
    return 2 * tp / (tp + fp + tp[:, -1:])


def _f1_at_rate(tp, fp):
    """The number of anomalies among the first k alarms, linear between the ends of a tie, divided by k."""
    k = int(tp[0, -1])
    return np.array([np.interp(k, np.append(0, t + f), np.append(0, t)) for t, f in zip(tp, fp)]) / k


def _fpr_at_tpr(tp, fp, tpr):
    first = (tp >= tpr * tp[:, -1:]).argmax(axis=1)
    return fp[np.arange(len(fp)), first] / fp[:, -1]


_FROM_COUNTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
    "max_f1": lambda tp, fp: _f1(tp, fp).max(axis=1),
    "f1_at_rate": _f1_at_rate,
    "fpr95": lambda tp, fp: _fpr_at_tpr(tp, fp, 0.95),
}


def _check_labels(y) -> np.ndarray:
    y = np.asarray(y)
    if y.ndim != 1 or not np.isin(y, (0, 1)).all():
        raise MetricError("y must be one label per sample, 0 normal or 1 anomaly. For +1/-1 pass (y == -1).")
    return y.astype(np.int64)


def _check_both_classes(y) -> None:
    if y.min(initial=1) == y.max(initial=0):
        raise MetricError(
            f"All {len(y)} labels are {y[0]}: the metric compares normal samples with anomalies, so the test "
            "set needs both. Use another split."
        )
    if not len(y):
        raise MetricError("There are no samples. Give at least one normal sample and one anomaly.")


def _check(y, scores) -> tuple[np.ndarray, np.ndarray]:
    """Labels as int64 and scores as float64, or a MetricError."""
    y, scores = _check_labels(y), np.asarray(scores, dtype=np.float64)
    if scores.shape != y.shape:
        raise MetricError(f"y has shape {y.shape} but scores {scores.shape}. Give one score per sample.")
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise MetricError(
            f"The score of sample {row} is {scores[row]}. Check that sample and the training: a diverged loss or a "
            "constant column gives such scores."
        )
    _check_both_classes(y)
    return y, scores


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores and predictions of a fitted detector on a test set, and all metrics of them.

    Attributes
    ----------
    name : str
    y : (n,) int, 0 normal, 1 anomaly
    scores : (n,) float, higher is more anomalous
    predictions : (n,) bool, True for an alarm, or None if the detector has no threshold
    threshold : float or None; an alarm is a score above it
    maps, masks : (n, H, W) float32 and bool, or None without localisation
    """

    name: str
    y: np.ndarray
    scores: np.ndarray
    predictions: np.ndarray | None = None
    threshold: float | None = None
    maps: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __post_init__(self):
        _check(self.y, self.scores)

    @cached_property
    def auroc(self) -> float:
        return auroc(self.y, self.scores)

    @cached_property
    def average_precision(self) -> float:
        return average_precision(self.y, self.scores)

    @cached_property
    def f1(self) -> float | None:
        """F1 of the predictions, at the threshold of the detector."""
        return None if self.predictions is None else f1_score(self.y, self.predictions)

    @cached_property
    def max_f1(self) -> float:
        return max_f1(self.y, self.scores)[0]

    @cached_property
    def f1_at_rate(self) -> float:
        return f1_at_rate(self.y, self.scores)

    @cached_property
    def fpr95(self) -> float:
        """False-positive rate at a true-positive rate of 95%."""
        return fpr_at_tpr(self.y, self.scores, 0.95)

    @cached_property
    def confusion(self) -> np.ndarray | None:
        return None if self.predictions is None else confusion(self.y, self.predictions)

    @cached_property
    def pixel(self) -> dict[str, float] | None:
        return None if self.maps is None or self.masks is None else pixel_metrics(self.masks, self.maps)

    def as_row(self) -> dict[str, Any]:
        """The metrics as one row of a table; `f1` only with a threshold, pixel metrics only with maps."""
        keys = ["name", "auroc", "average_precision", "f1", "max_f1", "f1_at_rate", "fpr95"]
        row = {key: getattr(self, key) for key in keys if getattr(self, key) is not None}
        return row | (self.pixel or {})

    def interval(self, metric: str, **options) -> tuple[float, float]:
        """Bootstrap interval of a metric by name, also of "f1"; `options` are passed to `bootstrap_interval`."""
        if metric != "f1":
            return bootstrap_interval(metric, self.y, self.scores, **options)
        if self.predictions is None:
            raise MetricError(f"{self.name} has no threshold, so there is no F1. Use 'max_f1' or 'f1_at_rate'.")
        return bootstrap_interval(f1_score, self.y, self.predictions, **options)


def threshold_of(detector) -> float | None:
    """The anomaly score above which a fitted estimator, or the last step of a pipeline, raises an alarm."""
    offset = getattr(detector[-1] if isinstance(detector, Pipeline) else detector, "offset_", None)
    return None if offset is None else -float(np.squeeze(offset))


def evaluate(
    detector, dataset: Dataset, *, name: str | None = None, maps: bool | np.ndarray | None = None
) -> Evaluation:
    """Score the test set with a fitted detector.

    Parameters
    ----------
    detector : fitted estimator or pipeline with `score_samples`, from this package or from scikit-learn
        Its threshold is `-offset_` (of the last step of a pipeline). Without `offset_` there are no predictions.
    dataset : Dataset
    name : str, default: the class name of the detector, or of the last step of a pipeline
    maps : None, bool or (n, h, w) float
        None: compute maps if the detector has `anomaly_map` and the data set has masks. True: raise an error if this
        is not possible. False: compute no maps. An array is used as the maps. Maps are enlarged to the size of the
        masks (bilinear), so the pixel metrics are those of the full resolution. Other implementations often reduce
        the masks to the size of the maps instead, which gives higher values.

    Returns
    -------
    Evaluation
    """
    last = detector[-1] if isinstance(detector, Pipeline) else detector
    name = type(last).__name__ if name is None else name
    if not hasattr(detector, "score_samples"):
        raise MetricError(f"{name} has no score_samples. For LocalOutlierFactor, set novelty=True.")
    masks = dataset.masks_test
    can_localise = hasattr(detector, "anomaly_map") and masks is not None
    if maps is True and not can_localise:
        what = "the data set has no masks" if masks is None else f"{name} has no anomaly_map"
        raise MetricError(f"maps=True, but {what}. Omit maps to compute image metrics only.")
    y = _check_labels(dataset.y_test)
    _check_both_classes(y)
    scores = -np.asarray(detector.score_samples(dataset.X_test), dtype=np.float64)
    threshold = threshold_of(detector)
    if maps is None or isinstance(maps, bool):
        localise = can_localise if maps is None else maps
        maps = detector.anomaly_map(dataset.X_test) if localise else None
    if maps is not None:
        if masks is None:
            raise MetricError("Maps were given, but the data set has no masks. Omit maps.")
        maps = resize_maps(maps, masks.shape[1:])
    return Evaluation(
        name=name,
        y=y,
        scores=scores,
        predictions=None if threshold is None else scores > threshold,
        threshold=threshold,
        maps=maps,
        masks=None if maps is None else masks,
    )
