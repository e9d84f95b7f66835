"""From samples as they are read to p-values: numbers of columns, a detector, ranks among samples it has not seen."""

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

REFERENCE = 30  # rows whose values replace those of a row that is explained
GROUPS = 64  # columns, or groups of columns, that are tried at a time
CHUNK = 50_000  # rows encoded and scored at a time; a million rows fit into memory as read, not as numbers


class CalibratedDetector(Detector):
    """A detector that keeps its promise of false alarms, on tables of any types or on pictures.

    Half of the training samples teach the encoder and the detector. The other half, which these have not seen, turn
    scores into p-values and set the threshold.

    Parameters
    ----------
    detector : Detector of rows of numbers, or of pictures
    encoder : transformer with ``fit`` and ``transform``, or None, default=None
        ``ColumnEncoder`` for a table as pandas reads it.
    contamination : float in (0, 0.5], default=0.05
        Promised share of false alarms among new normal samples.
    random_state : int, RandomState or None, default=None
        Of the halves, and of a detector that has chance in it.

    Attributes
    ----------
    encoder_ : fitted transformer, or None
    detector_ : fitted detector
    tail_ : TailProbability of the scores of the other half
    lift_ : (float, float) or None
        Lowest score of the other half, and the score above its highest where that of a sample with a cell that is new
        in kind (``ColumnEncoder.encode``) begins; None if the encoder does not tell, or if such samples are more than
        half of the nominal false alarms in the other half.
    offset_ : float; -inf where the other half is too small for the promise, so that there is no alarm
    reference_ : (at most 30, d) float64, encoded calibration rows without alarm, or None without ``encode``
    provenance_ : dict of str -> str, or None in files of earlier versions
        ``version`` of the package, and the SHA-256 hashes ``training_data`` and ``calibration_data`` of the samples.

    Notes
    -----
    A gap in a column that had none in training, and a value of a category that training did not have, give a sample
    the largest tail probability, whatever the detector: an isolation forest, for example, never splits a column that
    is constant in training. The samples that calibrate are scored in the same way, so the p-values stay valid.

    References
    ----------
    H. Papadopoulos et al. (2002), Inductive confidence machines for regression, ECML: the split-off calibration set.
    """

    modalities = ("tabular", "image")
    encoder_: Any
    lift_ = None  # files of earlier versions have none
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
        """``score``, as ``anomaly_score``, ``p_value`` and ``alarm`` (p ≤ contamination) of each sample."""
        return self._assessed(self._raw(X))

    def encode(self, X):
        """What ``detector_`` takes, and which cells are new in kind, (n, columns) bool; None where nothing tells."""
        if self.encoder_ is None or not hasattr(self.encoder_, "encode"):
            return X if self.encoder_ is None else self.encoder_.transform(X), None
        return self.encoder_.encode(X)

    def assess_encoded(self, encoded, new=None) -> pd.DataFrame:
        """``assess`` of samples that ``encode`` has encoded."""
        return self._assessed(self._lifted(*self._scores(encoded, new)))

    def _assessed(self, raw) -> pd.DataFrame:
        table = pd.DataFrame({"score": self.tail_.transform(raw), "p_value": self.tail_.p_values(raw)})
        return table.assign(alarm=table["p_value"] <= self.contamination)

    def score_drop(self, X: pd.DataFrame, others: pd.DataFrame | None = None) -> pd.DataFrame:
        """By how much the score of a row falls when one of its values is taken from other rows, on average.

        It works for any detector with a ``ColumnEncoder``. The mean over other rows is the first-order effect of a
        column in the sense of interventional Shapley values; the effects of several columns do not add up where the
        columns interact.

        Up to 64 columns are tried one by one. More are tried in 64 groups that change together; the 16 groups with
        the largest fall are divided further, so that the time grows with the columns and not with their square.

        Parameters
        ----------
        X : (k, columns) DataFrame, rows to explain
        others : (m, columns) DataFrame, rows without alarm; default those of the calibration, ``reference_``

        Returns
        -------
        (k, columns that are not left out) DataFrame with the index of X, in units of the score; large is what made
        the row anomalous, negative what makes it normal, NaN where only the group of a column was tried
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
                copies = np.where(changed[:, sources], np.tile(encoded, (len(groups), 1)), own)
                scores = self.score_encoded(copies, np.where(changed, np.tile(new, (len(groups), 1)), own_new))
                falls = score - scores.reshape(len(groups), -1).mean(axis=1)
                single = [(group[0], fall) for group, fall in zip(groups, falls) if len(group) == 1]
                change[[column for column, _ in single]] = [fall for _, fall in single]
                largest = np.argsort(falls)[::-1][: GROUPS // 4]
                divided = [part for i in largest if len(groups[i]) > 1 for part in np.array_split(groups[i], 4)]
                groups = [part for part in divided if len(part)]
            changes.append(change)
        return pd.DataFrame(changes, index=X.index, columns=names)

    def score_encoded(self, encoded, new=None) -> np.ndarray:
        """``anomaly_score`` of samples that ``encoder_.encode`` has encoded, (n,) float64."""
        return self.tail_.transform(self._lifted(*self._scores(encoded, new)))

    def anomaly_map(self, X) -> np.ndarray:
        """(n, H, W) map of pictures, in the units of the detector."""
        return self.detector_.anomaly_map(X)

    def fit_on(self, train, calibration):
        """Fit on the first samples and calibrate on the second, instead of drawing halves.

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
        """Calibrate again on new normal samples; encoder and detector stay as they are.

        Parameters
        ----------
        X : samples that are confirmed as normal and from which the detector has not learned
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
        state["parameters"] |= {"detector": None, "encoder": None}  # the fitted ones have the same parameters
        return state

    def set_state(self, state):
        super().set_state(state)
        self.detector = clone(self.detector_)
        self.encoder = None if self.encoder_ is None else clone(self.encoder_)

    def _check(self, X, *, reset: bool):
        return X  # the encoder and the detector check what they get

    def _fit(self, X, y):
        if len(X) < 4:
            raise DetectorError(f"n_samples = {len(X)}: two to learn from and two to calibrate on are needed.")
        order = check_random_state(self.random_state).permutation(len(X))
        train, calibration = np.sort(order[: len(X) // 2]), np.sort(order[len(X) // 2 :])
        self.fit_on(take(X, train), take(X, calibration))

    def _offset(self, X) -> float:
        return self.offset_  # of the calibration

    def _score(self, X):
        return self.tail_.transform(self._raw(X))

    def _raw(self, X) -> np.ndarray:
        """Scores, (n,), higher is more anomalous; a sample with a cell that is new in kind is above all others."""
        return self._lifted(*self._in_chunks(X))

    def _lifted(self, scores, new) -> np.ndarray:
        if self.lift_ is None:
            return scores
        low, high = self.lift_
        return np.where(new, high + np.maximum(0, scores - low), scores)

    def _in_chunks(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Scores of the detector, (n,), and which samples have a cell that is new in kind, (n,) bool."""
        scores, news = [], []
        for start in range(0, len(X), CHUNK):
            score, new = self._scores(*self.encode(X[start : start + CHUNK]))
            scores.append(score)
            news.append(new)
        return np.concatenate(scores), np.concatenate(news)

    def _scores(self, encoded, new) -> tuple[np.ndarray, np.ndarray]:
        scores = -self.detector_.score_samples(encoded)
        some = new is not None and new.any()  # row by row takes longer
        return scores, new.any(axis=1) if some else np.zeros(len(scores), dtype=bool)


def _samples_hash(X) -> str:
    """SHA-256 of a DataFrame's names and cells, of an array, or of image files."""
    if isinstance(X, pd.DataFrame):
        return content_hash({str(name): pd.util.hash_array(X[name].to_numpy()) for name in X})
    return content_hash(X if isinstance(X, np.ndarray) else [Path(path) for path in X])


@dataclass(frozen=True, eq=False)
class CrossFittedScores:
    """Every sample judged by a detector that has not learned from it.

    Attributes
    ----------
    detectors : two fitted CalibratedDetector; the first is the one to keep
    fold : (n,) int, which of the two detectors scored a sample
    scores : (n,) float64, −log of the tail probability, comparable between the two; 3 is about one normal in twenty
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
    """Judge all samples, the training ones too, without letting any judge itself.

    The normal samples (without labels: all) fall into two random halves. One detector learns from the first and is
    calibrated on the second, its twin the other way round; each judges the half that it has not learned from, and
    the first the labelled anomalies, from which neither learns.

    Parameters
    ----------
    detector : CalibratedDetector, is cloned
    X : DataFrame, or sequence of n image paths
    y : (n,) int, 0 normal, 1 anomaly, or None
    most : int, samples that the two learn from and are calibrated on together, drawn at random
    seed : int
    progress : bool, show a bar
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
    with tqdm(total=len(X), disable=not progress, unit="sample", desc="judging all") as bar:
        for number, one in enumerate((first, second)):
            rows = np.flatnonzero(which == number)
            for part in np.array_split(rows, max(1, -(-len(rows) // CHUNK))):
                raw = one._raw(take(X, part))
                scores[part], p[part] = one.tail_.transform(raw), one.tail_.p_values(raw)
                bar.update(len(part))
            own = taken[1 - number]  # these are among those they are compared with: count each once, not twice
            p[own] = (np.rint(p[own] * (len(own) + 1)) - 1) / len(own)
    return CrossFittedScores((first, second), which, scores, p, p <= detector.contamination)
