"""Thresholds on anomaly scores, each with the false-alarm rate that it controls.

All are fitted on scores of normal samples only. They use neither test labels nor the anomaly rate of a test set.
"""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator

from mmad_utils.detector import DetectorError

__all__ = ["ConformalThreshold", "PeaksOverThreshold", "QuantileThreshold", "TailProbability"]


def _scores_of_normals(scores, least: int = 1) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or len(scores) < least:
        raise DetectorError(f"a threshold needs at least {least} scores of normal samples, got shape {scores.shape}.")
    if not np.isfinite(scores).all():
        raise DetectorError(f"score {int(np.argmin(np.isfinite(scores)))} of the normal samples is not finite.")
    return scores


def _p_values(calibration: np.ndarray, scores) -> np.ndarray:
    n = len(calibration)
    return (1 + n - np.searchsorted(calibration, scores)) / (n + 1)


class QuantileThreshold(BaseEstimator):
    """Threshold at a quantile of the scores of normal samples.

    Fitted on training scores, the threshold is too low, because a model fits its own training data best. Fitted on
    held-out normal scores, its false-alarm rate is right on average.

    Parameters
    ----------
    contamination : float in (0, 1), default=0.05
        Share of the given scores that are above the threshold.

    Attributes
    ----------
    threshold_ : float, in the units of the scores
    """

    def __init__(self, contamination=0.05):
        self.contamination = contamination

    def fit(self, scores):
        """Learn ``threshold_`` from (n,) anomaly scores of normal samples."""
        if not 0 < self.contamination < 1:
            raise DetectorError(f"contamination is {self.contamination!r}; it must lie in (0, 1).")
        self.threshold_ = float(np.quantile(_scores_of_normals(scores), 1 - self.contamination))
        return self

    def predict(self, scores) -> np.ndarray:
        """(n,) bool, True where the score is above the threshold."""
        return np.asarray(scores) > self.threshold_


class ConformalThreshold(BaseEstimator):
    """Alarms from conformal p-values, with a nominal false-alarm rate that holds for any detector and any n.

    The p-value of a sample is the rank of its score among n held-out normal scores,
    p = (1 + #{calibration scores ≥ score}) / (n + 1). For a new normal sample P(p ≤ α) ≤ α.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.05
        Nominal false-alarm rate: the share of false alarms among normal samples. With ``"benjamini-hochberg"`` it is
        the nominal share of false alarms among the alarms (false discovery rate).
    procedure : {"none", "benjamini-hochberg"}, default="none"
        ``"benjamini-hochberg"`` decides on all samples of a call of ``predict`` together, so there is no single
        ``threshold_``.

    Attributes
    ----------
    calibration_ : (n,) float64, sorted
    threshold_ : float
        Only for ``procedure="none"``; infinite if n < 1/alpha - 1, because n is then too small for the nominal rate.

    References
    ----------
    Y. Benjamini, Y. Hochberg (1995), Controlling the false discovery rate.
    S. Bates et al. (2023), Testing for outliers with conformal p-values, Annals of Statistics 51(1).
    """

    def __init__(self, alpha=0.05, procedure="none"):
        self.alpha = alpha
        self.procedure = procedure

    def fit(self, scores):
        """Store (n,) anomaly scores of held-out normal samples as calibration scores."""
        if not 0 < self.alpha < 1:
            raise DetectorError(f"alpha is {self.alpha!r}; it must lie in (0, 1).")
        if self.procedure not in ("none", "benjamini-hochberg"):
            raise DetectorError(f"procedure is {self.procedure!r}; choose 'none' or 'benjamini-hochberg'.")
        self.calibration_ = np.sort(_scores_of_normals(scores))
        if self.procedure == "none":
            n = len(self.calibration_)
            exceeding = int(np.floor(self.alpha * (n + 1) + 1e-9)) - 1  # calibration scores above an alarm, at most
            self.threshold_ = float(self.calibration_[n - 1 - exceeding]) if exceeding >= 0 else np.inf
        return self

    def p_values(self, scores) -> np.ndarray:
        """(n,) p-values in (0, 1]; small is anomalous."""
        return _p_values(self.calibration_, scores)

    def predict(self, scores) -> np.ndarray:
        """(n,) bool, True for an alarm."""
        if self.procedure == "none":
            return np.asarray(scores) > self.threshold_
        return stats.false_discovery_control(self.p_values(scores)) <= self.alpha


class PeaksOverThreshold(BaseEstimator):
    """Threshold beyond the observed scores: the tail is extrapolated by a generalised Pareto distribution.

    Parameters
    ----------
    risk : float in (0, 1 - level), default=1e-3
        Probability that a normal sample exceeds the threshold; may be smaller than 1/n.
    level : float in (0, 1), default=0.9
        Quantile at which the tail begins.

    Attributes
    ----------
    threshold_ : float, in the units of the scores
    tail_start_ : float, in the units of the scores
    shape_, scale_ : float
        Maximum-likelihood parameters of the generalised Pareto distribution of the excesses.

    References
    ----------
    A. Siffer et al. (2017), Anomaly detection in streams with extreme value theory, KDD, eq. 1.
    """

    def __init__(self, risk=1e-3, level=0.9):
        self.risk = risk
        self.level = level

    def fit(self, scores):
        """Learn ``threshold_`` from (n,) anomaly scores of held-out normal samples."""
        if not 0 < self.risk < 1 - self.level < 1:
            raise DetectorError(f"risk {self.risk!r} and level {self.level!r}: risk must lie in (0, 1 - level).")
        scores = _scores_of_normals(scores)
        self.tail_start_ = float(np.quantile(scores, self.level))
        excesses = scores[scores > self.tail_start_] - self.tail_start_
        if len(excesses) < 10:
            raise DetectorError(
                f"only {len(excesses)} of {len(scores)} scores lie in the tail, and at least 10 are needed to fit "
                "it: give more normal samples or lower the level."
            )
        shape, _, scale = stats.genpareto.fit(excesses, floc=0)
        self.shape_, self.scale_ = float(shape), float(scale)
        tail = self.risk * len(scores) / len(excesses)
        self.threshold_ = self.tail_start_ + float(stats.genpareto.isf(tail, self.shape_, scale=self.scale_))
        return self

    def predict(self, scores) -> np.ndarray:
        """(n,) bool, True where the score is above the threshold."""
        return np.asarray(scores) > self.threshold_


class TailProbability(BaseEstimator):
    """−log of the probability that a normal sample has at least this score, comparable between detectors.

    At the k-th largest of n calibration scores it is −log(k / (n + 1)), as for conformal p-values. Between the
    calibration scores it is interpolated linearly, so that different scores stay different. Beyond the largest score
    it is extrapolated as for an exponential tail with the mean excess of the largest tenth. A value above −log α is
    an alarm at level α. ``p_values`` are the conformal p-values, without interpolation.

    Attributes
    ----------
    calibration_ : (n,) float64, sorted
    scale_ : float > 0, mean excess of the tail, in the units of the scores
    """

    def fit(self, scores):
        """Store (n,) anomaly scores of held-out normal samples, n >= 2, and learn ``scale_``."""
        self.calibration_ = np.sort(_scores_of_normals(scores, 2))
        tail = self.calibration_[-max(2, len(self.calibration_) // 10) :]
        self.scale_ = float((tail - tail[0]).mean()) or float(np.ptp(self.calibration_)) or 1.0
        return self

    def transform(self, scores) -> np.ndarray:
        """(n,) float64, increasing with the score; about one normal sample in twenty has a value above 3."""
        scores, n = np.asarray(scores, dtype=np.float64), len(self.calibration_)
        knots, first = np.unique(self.calibration_, return_index=True)
        surprise = np.interp(scores, knots, -np.log((n - first) / (n + 1)))
        outside = scores - np.clip(scores, knots[0], knots[-1])
        return surprise + outside / self.scale_

    def p_values(self, scores) -> np.ndarray:
        """(n,) conformal p-values in (0, 1], see ``ConformalThreshold``; small is anomalous."""
        return _p_values(self.calibration_, scores)

    def get_state(self):
        return {"scale": self.scale_, "calibration": self.calibration_}

    def set_state(self, state) -> None:
        self.scale_, self.calibration_ = state["scale"], state["calibration"]
