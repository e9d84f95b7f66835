"""Early fusion of the features of paired modalities, and late fusion of their scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from scipy import linalg, stats
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.multimodal.paired import (
    PairedDetector,
    pattern_index,
    pattern_scales,
    patterns_of,
    present_parts,
    rows_of,
    standardised,
)
from mmad_utils.thresholds import ConformalThreshold

__all__ = ["EarlyFusion", "LateFusion"]


@dataclass(eq=False, repr=False)
class EarlyFusion(PairedDetector):
    """Concatenates the features of all modalities and scores the rows by one detector.

    Missing parts are imputed by their conditional mean under one Gaussian of all columns. The score is standardised
    by the cross-fitted scores of normal training rows with the same missing parts. Training uses no negatives, so no
    kind of anomaly is simulated.

    Parameters
    ----------
    detector : estimator with ``fit`` and ``score_samples``, default None
        None is a GaussianAnomalyScorer, which models the linear relations between the modalities.
    encoders : dict of name -> transformer, default None (see ``PairedDetector``)
    folds : int, default=5
        Folds of the cross-fitting.
    contamination : float in (0, 0.5], default=0.05
    random_state : int, RandomState or None, default=None
        Seed of the folds.

    Attributes
    ----------
    detector_ : the fitted detector
    mean_, covariance_ : (d,) and (d, d) float64, Ledoit and Wolf's estimate from the rows, gaps filled with the mean
    pattern_scales_ : (2^m - 1, 2) float64, mean and spread of the normal scores of each pattern of missing parts
    """

    detector: Any = None
    _: KW_ONLY
    encoders: Any = None
    folds: int = 5
    contamination: float = 0.05
    random_state: int | np.random.RandomState | None = None

    def _fit(self, X, y):
        self._fit_encoders(X)
        parts = self._encode(X)
        rows, present = np.concatenate(list(parts.values()), axis=1), present_parts(parts)
        self.covariance_, self.mean_ = ledoit_wolf(np.nan_to_num(rows))[0], np.nan_to_num(rows).mean(axis=0)
        patterns = patterns_of(len(parts))
        raw = np.full((len(rows), len(patterns)), np.nan)
        for training, held_out in folds_of(len(rows), self.folds, self.random_state):
            detector = clone(self._detector()).fit(self._filled(rows[training]))
            for i, pattern in enumerate(patterns):
                able = held_out[present[held_out][:, pattern].all(axis=1)]
                if able.size:
                    raw[able, i] = -detector.score_samples(self._filled(self._hidden(rows[able], parts, ~pattern)))
        self.pattern_scales_ = pattern_scales(raw)
        complete = raw[np.arange(len(rows)), pattern_index(present)]
        self._held_out = standardised(complete, present, self.pattern_scales_)
        self.detector_ = clone(self._detector()).fit(self._filled(rows))

    def _detector(self):
        return GaussianAnomalyScorer() if self.detector is None else self.detector

    def _training_scores(self, X):
        """Cross-fitted scores: the threshold then has its nominal false-alarm rate for new normal samples."""
        return self._held_out

    def _score(self, X):
        parts = self._encode(X)
        rows = np.concatenate(list(parts.values()), axis=1)
        raw = -self.detector_.score_samples(self._filled(rows))
        return standardised(raw, present_parts(parts), self.pattern_scales_)

    def _hidden(self, rows, parts, gone):
        """The rows with NaN for the parts that are ``gone``, (m,) bool."""
        widths = [codes.shape[1] for codes in parts.values()]
        return np.where(np.repeat(gone, widths), np.nan, rows)

    def _filled(self, rows):
        """Impute NaN by conditional means μ_g + Σ_gp Σ_pp⁻¹ (x_p − μ_p), with gaps g and present columns p."""
        filled = rows - self.mean_
        gaps = np.isnan(filled)
        for gone in np.unique(gaps, axis=0):
            if gone.any():
                same = np.flatnonzero((gaps == gone).all(axis=1))
                known = self.covariance_[np.ix_(~gone, ~gone)]
                weights = linalg.solve(known, self.covariance_[np.ix_(~gone, gone)], assume_a="pos")
                filled[np.ix_(same, gone)] = filled[np.ix_(same, ~gone)] @ weights
        return filled + self.mean_


@dataclass(eq=False, repr=False)
class LateFusion(PairedDetector):
    """One detector per modality, and a rule that combines their scores.

    The scores of different detectors have different units. Each is first converted to a conformal p-value, its rank
    among cross-fitted scores of the training samples. For normal samples all p-values are then uniform in (0, 1].
    With e = −log p of the k detectors that score a sample, the score is

    - "sum": Fisher's −log P(χ²_2k > 2 Σ e); "mean": Σ e / k; "weighted": Σ w e / Σ w;
    - "max": −log(1 − (1 − min p)^k), the smallest of k p-values;
    - "vote": the share of the detectors with p ≤ ``alpha``.

    A rule over separate scores cannot find an anomaly whose parts are each normal; ``joint`` adds the score of a
    detector of all parts together.

    Parameters
    ----------
    rule : {"sum", "mean", "max", "weighted", "vote"}, default="sum"
    detector : estimator, dict of name -> estimator, or None
        None is a GaussianAnomalyScorer for each modality.
    weights : dict of name -> float > 0, for "weighted"; the name of the joint detector is "joint"
    joint : PairedDetector or None, default=None
        Scores the samples with at least two parts. CrossAttentionFusion and GraphFusion are trained on exchanged
        parts; see there.
    alpha : float in (0, 1), default=0.05, for "vote"
    encoders : dict of name -> transformer, default None (see ``PairedDetector``)
    folds : int, default=5
        Folds of the cross-fitting; encoders of the single modalities are fitted once, on all training samples.
    contamination : float in (0, 0.5], default=0.05
    random_state : int, RandomState or None, default=None
        Seed of the folds.

    Attributes
    ----------
    detectors_ : dict of name -> fitted detector
    joint_ : the fitted joint detector, or None
    calibration_ : dict of detector name -> (n,) float64, sorted cross-fitted scores

    References
    ----------
    R. A. Fisher (1925), Statistical methods for research workers, section 21.1.
    J. Kittler, M. Hatef, R. P. W. Duin, J. Matas (1998), On combining classifiers, IEEE TPAMI 20(3).
    S. Bates et al. (2023), Testing for outliers with conformal p-values, Annals of Statistics 51(1).
    """

    rule: str = "sum"
    _: KW_ONLY
    detector: Any = None
    weights: Any = None
    joint: Any = None
    alpha: float = 0.05
    encoders: Any = None
    folds: int = 5
    contamination: float = 0.05
    random_state: int | np.random.RandomState | None = None

    def p_values(self, X) -> dict[str, np.ndarray]:
        """Conformal p-value of each detector, (n,) float64 in (0, 1], NaN where its parts are missing."""
        return self._p_values(self._voices(self._check(X, reset=False)))

    def _fit(self, X, y):
        self._fit_encoders(X)
        self._check_rule()
        parts = self._encode(X)
        n = len(next(iter(parts.values())))
        scores, self.detectors_ = {}, {}
        for name, codes in parts.items():
            rows = np.flatnonzero(~np.isnan(codes[:, 0]))
            scores[name] = np.full(n, np.nan)
            for training, held_out in folds_of(len(rows), self.folds, self.random_state):
                fitted = clone(self._detector(name)).fit(codes[rows[training]])
                scores[name][rows[held_out]] = -fitted.score_samples(codes[rows[held_out]])
            self.detectors_[name] = clone(self._detector(name)).fit(codes[rows])
        self.joint_ = None
        if self.joint is not None:
            rows = np.flatnonzero(present_parts(parts).sum(axis=1) >= 2)
            scores["joint"] = np.full(n, np.nan)
            for training, held_out in folds_of(len(rows), self.folds, self.random_state):
                fitted = clone(self.joint).fit(rows_of(X, rows[training]))
                scores["joint"][rows[held_out]] = fitted.anomaly_score(rows_of(X, rows[held_out]))
            self.joint_ = clone(self.joint).fit(X)
        self.calibration_ = {name: np.sort(values[np.isfinite(values)]) for name, values in scores.items()}
        self._held_out = scores

    def _check_rule(self):
        if self.rule not in ("sum", "mean", "max", "weighted", "vote"):
            raise DetectorError(
                f"LateFusion: rule is {self.rule!r}; choose 'sum', 'mean', 'max', 'weighted' or 'vote'."
            )
        voices = (*self.modalities_, *(("joint",) if self.joint is not None else ()))
        weights = self.weights or {}
        if self.rule == "weighted" and (set(weights) != set(voices) or min(weights.values()) <= 0):
            raise DetectorError(f"LateFusion: weights are {weights}; give a number above 0 for each of {voices}.")
        if not 0 < self.alpha < 1:
            raise DetectorError(f"LateFusion: alpha is {self.alpha!r}; give a level in (0, 1).")

    def _detector(self, name):
        detector = self.detector.get(name) if isinstance(self.detector, Mapping) else self.detector
        return GaussianAnomalyScorer() if detector is None else detector

    def _training_scores(self, X):
        """Cross-fitted scores: the threshold then has its nominal false-alarm rate for new normal samples."""
        return self._joined(self._p_values(self._held_out))

    def _voices(self, X):
        parts = self._encode(X)
        scores = {}
        for name, codes in parts.items():
            present = ~np.isnan(codes[:, 0])
            scores[name] = np.full(len(codes), np.nan)
            if present.any():
                scores[name][present] = -self.detectors_[name].score_samples(codes[present])
        if self.joint_ is not None:
            able = present_parts(parts).sum(axis=1) >= 2
            scores["joint"] = np.full(len(able), np.nan)
            if able.any():
                scores["joint"][able] = self.joint_.anomaly_score(rows_of(X, np.flatnonzero(able)))
        return scores

    def _p_values(self, scores):
        return {
            name: np.where(
                np.isnan(values), np.nan, ConformalThreshold().fit(self.calibration_[name]).p_values(values)
            )
            for name, values in scores.items()
        }

    def _score(self, X):
        return self._joined(self._p_values(self._voices(X)))

    def _joined(self, p_values):
        p = np.stack(list(p_values.values()), axis=1)
        evidence, k = -np.log(p), np.isfinite(p).sum(axis=1)
        if self.rule == "sum":
            return -stats.chi2.logsf(2 * np.nansum(evidence, axis=1), 2 * k)
        if self.rule == "max":
            return -np.log(-np.expm1(k * np.log1p(-np.nanmin(p, axis=1) * (1 - 1e-15))))
        if self.rule == "vote":
            return (p <= self.alpha).sum(axis=1) / k
        weights = np.array([1.0 if self.rule == "mean" else self.weights[name] for name in p_values])
        return np.nansum(evidence * weights, axis=1) / (np.isfinite(p) @ weights)


def folds_of(n: int, folds: int, random_state):
    """(training, held-out) row numbers of each fold, shuffled; at most n folds."""
    if folds < 2:
        raise DetectorError(f"folds is {folds!r}; give at least 2.")
    if n < 2:
        raise DetectorError(f"cross-fitting needs at least 2 samples, got {n}.")
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    return KFold(min(folds, n), shuffle=True, random_state=seed).split(np.empty((n, 1)))
