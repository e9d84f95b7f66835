"""Detectors with conformal p-values: an encoder, a detector, and a calibration on held-out normal samples."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state
from tqdm.auto import tqdm

from mmad_utils.datasets.record import content_hash
from mmad_utils.datasets.take import take
from mmad_utils.detector import Detector, DetectorError, check_contamination, check_whole
from mmad_utils.thresholds import ConformalThreshold, TailProbability

__all__ = ["CalibratedDetector", "CrossFittedScores", "cross_fit_scores"]

REFERENCE = 30  # calibration rows whose values replace those of an explained row
GROUPS = 64  # columns, or groups of columns, that are replaced one after the other
CHUNK = 50_000  # rows encoded and scored at a time; all rows of a large table in encoded form may not fit in memory


class CalibratedDetector(Detector):
    """Detector with a controlled false-alarm rate, for tables with columns of any type or for images.

    The encoder and the detector are fitted on one half of the training samples. The other half is held out: its
    scores give the p-values and the threshold (split conformal prediction).

    Parameters
    ----------
    detector : Detector of numeric rows, or of images
    encoder : transformer with ``fit`` and ``transform``, or None, default=None
        ``ColumnEncoder`` for a table as pandas reads it.
    contamination : float in (0, 0.5], default=0.05
        Nominal false-alarm rate: the largest probability of an alarm on a new normal sample.
    random_state : int, RandomState or None, default=None
        Seed of the split into halves, and of the detector if it has a ``random_state``.

    Attributes
    ----------
    encoder_ : fitted transformer, or None
    detector_ : fitted detector
    tail_ : TailProbability of the scores of the other half
    lift_ : (float, float) or None
        Scores of samples with a cell of a new kind (see ``ColumnEncoder.encode``) are raised above all others. The
        first value is the lowest calibration score of the other samples. The second value is larger than their
        highest score; raised scores start there. None if the encoder does not report such cells, or if the share of
        such samples in the calibration half is more than half of ``contamination``.
    offset_ : float; -inf if the calibration half is too small for the nominal rate, so that there are no alarms
    reference_ : (at most 30, d) float64, encoded calibration rows without alarm, or None without ``encode``
    provenance_ : dict of str -> str, or None in files of earlier versions
        ``version`` of the package, and the SHA-256 hashes ``training_data`` and ``calibration_data`` of the samples.

    Notes
    -----
    A cell is of a new kind if it is missing in a column that had no missing cells in training, or if it holds a
    category that did not occur in training. A sample with such a cell gets a score above all others, whatever the
    detector is. An isolation forest alone would not find it, for example: it never splits a column that is constant
    in training. The calibration samples are scored in the same way, so the p-values stay valid.

    References
    ----------
    H. Papadopoulos et al. (2002), Inductive confidence machines for regression, ECML: the held-out calibration set.
    """

    modalities = ("tabular", "image")
    encoder_: Any
    lift_ = None  # not stored in files of earlier versions
    provenance_: Any = None
    reference_: Any = None

    def __init__(self, detector, encoder=None, contamination=0.05, random_state=None):
        self.detector = detector
        self.encoder = encoder
        self.contamination = contamination
        self.random_state = random_state

    def p_values(self, X) -> np.ndarray:
        """(n,) conformal p-values in (0, 1]; a normal sample has p ≤ α with probability at most α."""
        return self.tail_.p_values(self._raw(X))

    def assess(self, X) -> pd.DataFrame:
        """``score`` (as ``anomaly_score``), ``p_value`` and ``alarm`` (p ≤ contamination) of each sample."""
        return self._assessed(self._raw(X))

    def encode(self, X):
        """Input of ``detector_``, and which cells are of a new kind, (n, columns) bool, or None if not known."""
        if self.encoder_ is None or not hasattr(self.encoder_, "encode"):
            return X if self.encoder_ is None else self.encoder_.transform(X), None
        return self.encoder_.encode(X)

    def assess_encoded(self, encoded, new=None) -> pd.DataFrame:
        """``assess`` for samples that ``encode`` has encoded."""
        return self._assessed(self._lifted(*self._scores(encoded, new)))

    def _assessed(self, raw) -> pd.DataFrame:
        table = pd.DataFrame({"score": self.tail_.transform(raw), "p_value": self.tail_.p_values(raw)})
        return table.assign(alarm=table["p_value"] <= self.contamination)

    def score_drop(self, X: pd.DataFrame, others: pd.DataFrame | None = None) -> pd.DataFrame:
        """Mean decrease of the score of a row when the value of one column is replaced by values of other rows.

        It works for any detector with a ``ColumnEncoder``. The mean over the other rows is the first-order effect of
        a column in the sense of interventional Shapley values. The effects of several columns do not add up if the
        columns interact.

        Up to 64 columns are replaced one by one. More columns are replaced in 64 groups, and the 16 groups with the
        largest decrease are divided further. So the time grows linearly with the number of columns and not
        quadratically.

        Parameters
        ----------
        X : (k, columns) DataFrame, rows to explain
        others : (m, columns) DataFrame, rows without alarm; default: calibration rows, ``reference_``

        Returns
        -------
        (k, columns that are not left out) DataFrame with the index of X, in units of the score. A large value means
        that the cell makes the row anomalous; a negative value means that it makes the row more normal. NaN if the
        column was replaced only together with its group.
        """
        names = list(self.encoder_.kinds_)
        sources, columns = pd.Index(names).get_indexer(self.encoder_.sources_), np.arange(len(names))
        if others is None:
            encoded, new = self.reference_, np.zeros((len(self.reference_), len(names)), dtype=bool)
        else:
            encoded, new = self.encoder_.encode(others)
        changes = []
        for own, own_new in zip(*self.encoder_.encode(X)):
            score = self.score_encoded(own[None], own_new[None])[0]
            change, groups = np.full(len(names), np.nan), np.array_split(columns, min(len(names), GROUPS))
            while groups:
                changed = np.zeros((len(groups), len(names)), dtype=bool)
                for i, group in enumerate(groups):
                    changed[i, group] = True
                changed = np.repeat(changed, len(encoded), axis=0)
                replaced = np.where(changed[:, sources], np.tile(encoded, (len(groups), 1)), own)
                scores = self.score_encoded(replaced, np.where(changed, np.tile(new, (len(groups), 1)), own_new))
                drops = score - scores.reshape(len(groups), -1).mean(axis=1)
                single = [(group[0], drop) for group, drop in zip(groups, drops) if len(group) == 1]
                change[[column for column, _ in single]] = [drop for _, drop in single]
                largest = np.argsort(drops)[::-1][: GROUPS // 4]
                divided = [part for i in largest if len(groups[i]) > 1 for part in np.array_split(groups[i], 4)]
                groups = [part for part in divided if len(part)]
            changes.append(change)
        return pd.DataFrame(changes, index=X.index, columns=names)

    def score_encoded(self, encoded, new=None) -> np.ndarray:
        """``anomaly_score`` of samples that ``encoder_.encode`` has encoded, (n,) float64."""
        return self.tail_.transform(self._lifted(*self._scores(encoded, new)))

    def anomaly_map(self, X) -> np.ndarray:
        """Anomaly maps of images, (n, H, W), in the units of the detector."""
        return self.detector_.anomaly_map(X)

    def fit_on(self, train, calibration):
        """Fit on ``train`` and calibrate on ``calibration``, instead of splitting one set at random.

        Returns
        -------
        self
        """
        check_contamination(type(self).__name__, self.contamination)
        random = check_random_state(self.random_state).randint(2**31)
        self.encoder_ = None if self.encoder is None else clone(self.encoder).fit(train)
        detector = clone(self.detector)
        if "random_state" in detector.get_params():
            detector.set_params(random_state=random)
        self.detector_ = detector.fit(self.encode(train)[0])
        self.provenance_ = {"version": version("mmad"), "training_data": _samples_hash(train)}
        return self.recalibrate(calibration)

    def recalibrate(self, X):
        """Calibrate again on new normal samples; the encoder and the detector do not change.

        Parameters
        ----------
        X : samples that are confirmed as normal and that were not used to fit the detector
            Anomalies among them raise the threshold.

        Returns
        -------
        self
        """
        self.lift_ = None
        scores, new = self._in_chunks(X)
        if not new.all() and new.mean() <= self.contamination / 2:
            low, high = scores[~new].min(), scores[~new].max()
            self.lift_ = (float(low), float(high + ((high - low) / 2 or 1.0)))
            scores = self._lifted(scores, new)
        self.tail_ = TailProbability().fit(scores)
        threshold = ConformalThreshold(self.contamination).fit(scores).threshold_
        self.offset_ = -float(self.tail_.transform([threshold])[0])
        self.reference_ = None
        if hasattr(self.encoder_, "encode"):
            quiet = np.flatnonzero(scores <= threshold)
            chosen = quiet[np.linspace(0, len(quiet) - 1, min(REFERENCE, len(quiet)), dtype=int)]
            self.reference_ = self.encoder_.encode(take(X, chosen))[0]
        self.provenance_ = dict(self.provenance_ or {}) | {"calibration_data": _samples_hash(X)}
        return self

    def get_state(self):
        state = super().get_state()
        state["parameters"] |= {"detector": None, "encoder": None}  # stored as detector_ and encoder_
        return state

    def set_state(self, state):
        super().set_state(state)
        self.detector = clone(self.detector_)
        self.encoder = None if self.encoder_ is None else clone(self.encoder_)

    def _check(self, X, *, reset: bool):
        return X  # the encoder and the detector check their input

    def _fit(self, X, y):
        if len(X) < 4:
            raise DetectorError(f"n_samples = {len(X)}: give at least 4, two to fit on and two to calibrate on.")
        order = check_random_state(self.random_state).permutation(len(X))
        train, calibration = np.sort(order[: len(X) // 2]), np.sort(order[len(X) // 2 :])
        self.fit_on(take(X, train), take(X, calibration))

    def _offset(self, X) -> float:
        return self.offset_  # set by recalibrate

    def _score(self, X):
        return self.tail_.transform(self._raw(X))

    def _raw(self, X) -> np.ndarray:
        """Scores, (n,), higher is more anomalous; samples with a cell of a new kind are above all others."""
        return self._lifted(*self._in_chunks(X))

    def _lifted(self, scores, new) -> np.ndarray:
        if self.lift_ is None:
            return scores
        low, high = self.lift_
        return np.where(new, high + np.maximum(0, scores - low), scores)

    def _in_chunks(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the detector, (n,), and which samples have a cell of a new kind, (n,) bool."""
        scores, news = [], []
        for start in range(0, len(X), CHUNK):
            score, new = self._scores(*self.encode(X[start : start + CHUNK]))
            scores.append(score)
            news.append(new)
        return np.concatenate(scores), np.concatenate(news)

    def _scores(self, encoded, new) -> tuple[np.ndarray, np.ndarray]:
        scores = -self.detector_.score_samples(encoded)
        some = new is not None and new.any()  # any() over all cells is faster than over each row
        return scores, new.any(axis=1) if some else np.zeros(len(scores), dtype=bool)


def _samples_hash(X) -> str:
    """SHA-256 of the column names and cells of a DataFrame, of an array, or of image files."""
    if isinstance(X, pd.DataFrame):
        return content_hash({str(name): pd.util.hash_array(X[name].to_numpy()) for name in X})
    is_table = isinstance(X, np.ndarray) and (X.ndim > 1 or X.dtype.kind not in "OU")
    return content_hash(X if is_table else [Path(path) for path in X])


@dataclass(frozen=True, eq=False)
class CrossFittedScores:
    """Scores of all samples; the detector that scores a sample was not fitted on it.

    Attributes
    ----------
    detectors : two fitted CalibratedDetector; use the first one for new samples
    fold : (n,) int, index of the detector that scored the sample
    scores : (n,) float64, −log of the tail probability, comparable between the two detectors
        About one normal sample in twenty has a score above 3.
    p_values : (n,) float64 in (0, 1]
    alarms : (n,) bool
    """

    detectors: tuple[CalibratedDetector, CalibratedDetector]
    fold: np.ndarray
    scores: np.ndarray
    p_values: np.ndarray
    alarms: np.ndarray


def cross_fit_scores(
    detector: CalibratedDetector, X, y=None, *, most: int = 20_000, seed: int = 0, progress=False
) -> CrossFittedScores:
    """Score all samples with two detectors (cross-fitting); the detector that scores a sample was not fitted on it.

    The normal samples (without labels: all samples) are divided at random into two halves. One detector is fitted on
    the first half and calibrated on the second half; the other detector the other way round. Each detector scores the
    half that it was not fitted on. The first detector also scores the labelled anomalies, which are not used to fit
    either detector.

    Parameters
    ----------
    detector : CalibratedDetector; it is cloned
    X : DataFrame, or sequence of n image paths
    y : (n,) int, 0 normal, 1 anomaly, or None
    most : int, number of random samples that are used to fit and calibrate the two detectors
    seed : int
    progress : bool, show a progress bar
    """
    check_whole("most", most, 4)
    rng = np.random.default_rng(seed)
    normal = rng.permutation(len(X) if y is None else np.flatnonzero(np.asarray(y) == 0))
    halves = np.sort(normal[: len(normal) // 2]), np.sort(normal[len(normal) // 2 :])
    taken = [np.sort(rng.permutation(half)[: max(2, most // 2)]) for half in halves]
    samples = [take(X, rows) for rows in taken]
    first = clone(detector).set_params(random_state=seed).fit_on(*samples)
    second = clone(detector).set_params(random_state=seed + 1).fit_on(*samples[::-1])
    which = np.zeros(len(X), dtype=np.int64)
    which[halves[0]] = 1
    scores, p = np.empty(len(X)), np.empty(len(X))
    with tqdm(total=len(X), disable=not progress, unit="sample", desc="scoring all samples") as bar:
        for number, one in enumerate((first, second)):
            rows = np.flatnonzero(which == number)
            for part in np.array_split(rows, max(1, -(-len(rows) // CHUNK))):
                raw = one._raw(take(X, part))
                scores[part], p[part] = one.tail_.transform(raw), one.tail_.p_values(raw)
                bar.update(len(part))
            own = taken[1 - number]  # each of these is itself a calibration sample: count it once, not twice
            p[own] = (np.rint(p[own] * (len(own) + 1)) - 1) / len(own)
    return CrossFittedScores((first, second), which, scores, p, p <= detector.contamination)
