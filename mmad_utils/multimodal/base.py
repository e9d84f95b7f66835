"""Base class of detectors of several modalities: inputs and outputs are dicts.

The samples of ``{"image": images, "tabular": rows}`` need not be paired. Each modality has its own samples, in any
number, its own scores and its own threshold.
"""

# mypy: disable-error-code="override, index, assignment, attr-defined"
# Arguments and results are dicts, those of the base class are arrays.

from __future__ import annotations

import abc
import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmad_utils.detector import Detector, DetectorError, finite_scores

__all__ = ["MultiModalDetector", "check_modalities"]


def check_modalities(X, known=None, *, who: str) -> dict[str, Any]:
    """Check that ``X`` is a dict of modalities that are not empty and, where ``known`` is given, among those names.

    The content of a modality (a table, images, texts) is checked by its encoder.

    Raises
    ------
    DetectorError
        Not a dict, no modality, an unknown name (with the nearest known one), no samples.
    """
    if not isinstance(X, Mapping):
        raise DetectorError(
            f"{who} takes a dict of modalities, {{'image': ..., 'tabular': ...}}, not {type(X).__name__}."
        )
    if not X:
        raise DetectorError(f"{who}: the dict holds no modality; give at least one.")
    for name, samples in X.items():
        if known is not None and name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DetectorError(f"{who}: unknown modality {name!r}.{hint} Known are {', '.join(map(repr, known))}.")
        if samples is None or isinstance(samples, str) or not hasattr(samples, "__len__") or len(samples) == 0:
            raise DetectorError(f"{who}: modality {name!r} holds no samples; give some, or remove the name.")
    return dict(X)


class MultiModalDetector(Detector):
    """Base class of the detectors whose ``X`` is a dict of unpaired modalities.

    A subclass defines ``_fit(X, y)`` and ``_score(X)``, whose arguments and results are dicts. ``known_modalities()``
    returns the names that ``fit`` accepts. After ``fit`` only the names of the training data are accepted.

    Attributes
    ----------
    modalities_ : tuple of str, the names seen in ``fit``
    offset_ : dict of float, the threshold of each modality on ``score_samples``
    """

    modalities = ("multimodal",)
    modalities_: tuple[str, ...]

    @abc.abstractmethod
    def known_modalities(self) -> tuple[str, ...]:
        """Names of the modalities that ``fit`` accepts."""

    def score_samples(self, X) -> dict[str, np.ndarray]:
        """Scores of each modality, (n,) float64 each; lower is more anomalous."""
        return {name: -scores for name, scores in self.anomaly_score(X).items()}

    def anomaly_score(self, X) -> dict[str, np.ndarray]:
        """Scores of each modality, (n,) float64 each; higher is more anomalous."""
        return {name: finite_scores(values) for name, values in self._checked_scores(X).items()}

    def decision_function(self, X) -> dict[str, np.ndarray]:
        """``score_samples`` minus each modality's ``offset_``; negative is an anomaly."""
        return {name: scores - self.offset_[name] for name, scores in self.score_samples(X).items()}

    def predict(self, X) -> dict[str, np.ndarray]:
        """+1 for normal, -1 for an anomaly, (n,) int for each modality."""
        return {name: np.where(values < 0, -1, 1) for name, values in self.decision_function(X).items()}

    def calibrate(self, threshold, X_normal):
        """Set each modality's ``offset_`` from normal samples that were not used to fit, as in ``Detector``."""
        for name, scores in self.anomaly_score(X_normal).items():
            threshold.fit(scores)
            if not hasattr(threshold, "threshold_"):
                raise DetectorError(f"{threshold} has no single threshold: call its predict on the scores instead.")
            self.offset_[name] = -float(threshold.threshold_)
        return self

    def _offset(self, X) -> dict[str, float]:
        return {name: self._quantile(scores) for name, scores in self._training_scores(X).items()}

    def _check(self, X, *, reset: bool):
        X = check_modalities(X, self.known_modalities() if reset else self.modalities_, who=type(self).__name__)
        if reset:
            self.modalities_ = tuple(X)
        return X
