"""A detector of unpaired modalities: one encoder per modality → shared latent space → one scorer."""

# mypy: disable-error-code="override, index, assignment, attr-defined"
# Arguments and results are dicts, those of the base class are arrays.

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from mmad_utils.datasets.take import take
from mmad_utils.detector import DetectorError
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.multimodal.base import MultiModalDetector
from mmad_utils.multimodal.latent_space import DEFAULT_ENCODERS, LatentSpace, chosen_encoders
from mmad_utils.multimodal.scorers import ModalityMixture
from mmad_utils.thresholds import TailProbability

__all__ = ["MultiModalAnomalyDetector"]

SMOOTHING = 4.0  # px, standard deviation of the Gaussian over an anomaly map


@dataclass(eq=False, repr=False)
class MultiModalAnomalyDetector(MultiModalDetector):
    """Detector of anomalies in images, tables and other modalities, with one scorer and one scale of the scores.

    The samples of different modalities need not be paired, and their numbers may differ. Each modality is encoded,
    its features are standardised and mapped to ``latent_dim`` latents, and one scorer scores all of them. Each score
    is compared with the scores of held-out normal samples of the same modality. The result is −log of the probability
    that a normal sample has at least this score. A score of 3 has the same meaning for an image and for a row, and
    all modalities have the same threshold.

    Parameters
    ----------
    encoders : dict of name -> encoder or None, default=None
        None takes ``ImageEncoder`` for "image", ``TabularEncoder`` for "tabular", ``TextEncoder`` for "text" and
        ``SeriesEncoder`` for "series", for the modalities of the training data. Any object with ``fit(X)`` and
        ``transform(X) -> (n, d) float64`` is an encoder. Encoders are cloned and not changed.
    latent_dim : int >= 1, default=256
    scorer : object with ``fit`` and ``score_samples``, default=ModalityMixture()
        It is fitted on the latents of all modalities together: as {name: (n, latent_dim)} if it is a
        ``MultiModalDetector``, otherwise as one array.
    alignment : MomentMatching, AdversarialAlignment, ContrastiveAlignment or None, default=None
        Maps the latents of each modality before the scorer.
    balance : bool, default=True
        Repeat the samples of the smaller modalities, so that a scorer of one array gets the same number of each.
    calibration_folds : int >= 2, or 0, default=5
        For each fold the whole detector is fitted on the other folds and scores the samples of this fold, so that
        every normal sample has a held-out score. With 0 there is no calibration: scores are then the scorer's own,
        and each modality has its own threshold, from training scores.
    contamination : float in (0, 0.5], default=0.05
        Probability of a false alarm, for every modality.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    space_ : LatentSpace
    alignment_ : fitted alignment or None
    scorer_ : fitted scorer
    calibration_ : dict of name -> TailProbability
    held_out_scores_ : dict of name -> (n,) float64, the scorer's own scores, in the order of the training samples

    References
    ----------
    V. Vovk (2015), Cross-conformal predictors, Annals of Mathematics and Artificial Intelligence 74: held-out folds.
    """

    encoders: Any = None
    _: KW_ONLY
    latent_dim: int = 256
    scorer: Any = None
    alignment: Any = None
    balance: bool = True
    calibration_folds: int = 5
    contamination: float = 0.05
    random_state: int | np.random.RandomState | None = None

    def known_modalities(self):
        return tuple(self.encoders or DEFAULT_ENCODERS)

    def encode(self, X) -> dict[str, np.ndarray]:
        """Latents, the inputs of the scorer, {name: (n, latent_dim)} float64."""
        check_is_fitted(self)
        return self._latents(self._check(X, reset=False))

    def p_values(self, X) -> dict[str, np.ndarray]:
        """Conformal p-values, {name: (n,)} in (0, 1]: small is anomalous."""
        check_is_fitted(self)
        if not self.calibration_:
            raise DetectorError("p-values need held-out scores: set calibration_folds to 2 or more.")
        raw = self._raw_scores(self._latents(self._check(X, reset=False)))
        return {name: self.calibration_[name].p_values(scores) for name, scores in raw.items()}

    def attention(self, X) -> dict[str, np.ndarray]:
        """Weights of the modalities for each sample, {name: (n, modalities)}: see ``ModalityMixture``."""
        latents = self.encode(X)
        if not isinstance(self.scorer_, ModalityMixture):
            raise DetectorError("attention over modalities needs scorer=ModalityMixture().")
        return self.scorer_.responsibilities(latents)

    def partial_fit(self, X, y=None):
        """Update the scorer by a batch of normal samples; encoders, maps and calibration do not change.

        The first batch fits everything. A modality may be absent from later ones.
        """
        if not hasattr(self, "scorer_"):
            return self.fit(X)
        if not hasattr(self.scorer_, "partial_fit"):
            raise DetectorError(f"{type(self.scorer_).__name__} has no partial_fit: use a scorer with one.")
        latents = self.encode(X)
        mixed = isinstance(self.scorer_, MultiModalDetector)
        self.scorer_.partial_fit(latents if mixed else np.concatenate(list(latents.values())))
        return self

    def recalibrate(self, X_normal):
        """Recompute the scale of the scores, after ``partial_fit``, from normal samples that were not used to fit."""
        raw = self._raw_scores(self.encode(X_normal))
        self.calibration_ |= {name: TailProbability().fit(scores) for name, scores in raw.items()}
        self.offset_.update(dict.fromkeys(raw, float(np.log(self.contamination))))
        return self

    def explain(self, X) -> dict[str, np.ndarray]:
        """Share of each column in the squared Mahalanobis distance, {name: (n, d)}; they may be negative.

        The distance δᵀΣ⁻¹δ is the sum over features of the products of the entries of δ and Σ⁻¹δ. The products of the
        features of a column are added. With ``ModalityMixture`` the shares of a sample sum to ``squared_distance``.
        With one Gaussian for all modalities they do not: the distance between the modalities' means belongs to no
        column.

        Raises
        ------
        DetectorError
            The features of the encoder belong to no columns, or the scorer has no Gaussian.
        """
        shares = {}
        for name, (features, gradient, center) in self._divided(X).items():
            owners = getattr(self.space_.encoders_[name], "owners_", None)
            if owners is None:
                raise DetectorError(
                    f"the features of modality {name!r} belong to no columns: give an encoder with shares."
                )
            products = (features - center) * gradient
            shares[name] = np.stack([products[:, owners == i].sum(axis=1) for i in np.unique(owners)], axis=1)
        return shares

    def anomaly_map(self, X) -> dict[str, np.ndarray]:
        """Share of each pixel in the squared Mahalanobis distance, {name: (n, H, W)}, slightly smoothed.

        For modalities whose encoder has ``shares``, such as ``ImageEncoder``; raises as ``explain`` does.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        maps = {}
        for name, (_, gradient, center) in self._divided(X).items():
            encoder = self.space_.encoders_[name]
            if not hasattr(encoder, "shares"):
                raise DetectorError(f"modality {name!r} has no pixels; give anomaly_map the images only.")
            maps[name] = gaussian_filter(encoder.shares(X[name], gradient, center), sigma=(0, SMOOTHING, SMOOTHING))
        return maps

    def squared_distance(self, X) -> dict[str, np.ndarray]:
        """Squared Mahalanobis distance to the Gaussian of each modality, {name: (n,)}."""
        return {name: self._gaussian(name).anomaly_score(latents) ** 2 for name, latents in self.encode(X).items()}

    def _fit(self, X, y) -> None:
        if self.latent_dim < 1 or self.calibration_folds < 0 or self.calibration_folds == 1:
            raise DetectorError(
                f"latent_dim is {self.latent_dim!r} and calibration_folds {self.calibration_folds!r}; give at least "
                "1 latent dimension, and 0 or at least 2 folds."
            )
        least = max(2, 2 * self.calibration_folds)
        for name, samples in X.items():
            if len(samples) < least:
                raise DetectorError(
                    f"modality {name!r} has {len(samples)} samples; {self.calibration_folds} calibration folds need "
                    f"at least {least}: give more, or set calibration_folds lower."
                )
        rng = check_random_state(self.random_state)
        self.space_ = LatentSpace(chosen_encoders(self.encoders, X), self.latent_dim, rng).fit(X)
        latents = self.space_.transform(X)
        self.alignment_ = self._seeded(self.alignment, rng)
        if self.alignment_ is not None:
            latents = self.alignment_.fit(latents).transform(latents)
        self.scorer_ = self._seeded(ModalityMixture() if self.scorer is None else self.scorer, rng)
        if isinstance(self.scorer_, MultiModalDetector):
            self.scorer_.fit(latents)
        else:
            self.scorer_.fit(np.concatenate(self._balanced(latents, rng)))
        self.held_out_scores_ = self._held_out(X, rng) if self.calibration_folds else {}
        self.calibration_ = {name: TailProbability().fit(scores) for name, scores in self.held_out_scores_.items()}

    def _offset(self, X) -> dict[str, float]:
        if not self.calibration_:
            return super()._offset(X)
        return dict.fromkeys(X, float(np.log(self.contamination)))

    def _score(self, X) -> dict[str, np.ndarray]:
        raw = self._raw_scores(self._latents(X))
        return (
            {name: self.calibration_[name].transform(scores) for name, scores in raw.items()}
            if self.calibration_
            else raw
        )

    def _latents(self, X) -> dict[str, np.ndarray]:
        latents = self.space_.transform(X)
        return latents if self.alignment_ is None else self.alignment_.transform(latents)

    def _raw_scores(self, latents) -> dict[str, np.ndarray]:
        if isinstance(self.scorer_, MultiModalDetector):
            return self.scorer_.anomaly_score(latents)
        return {
            name: -np.asarray(self.scorer_.score_samples(rows), dtype=np.float64) for name, rows in latents.items()
        }

    def _held_out(self, X, rng) -> dict[str, np.ndarray]:
        """The scorer's score of every training sample, from detectors fitted without its fold."""
        folds = {name: rng.permutation(len(samples)) % self.calibration_folds for name, samples in X.items()}
        scores = {name: np.empty(len(samples)) for name, samples in X.items()}
        seed = int(rng.randint(np.iinfo(np.int32).max))
        other = clone(self).set_params(calibration_folds=0, random_state=seed)
        for fold in range(self.calibration_folds):
            other.fit({name: take(samples, np.flatnonzero(folds[name] != fold)) for name, samples in X.items()})
            held = {name: np.flatnonzero(folds[name] == fold) for name in X}
            for name, values in other.anomaly_score({name: take(X[name], held[name]) for name in X}).items():
                scores[name][held[name]] = values
        return scores

    def _balanced(self, latents, rng) -> list[np.ndarray]:
        n = max(len(rows) for rows in latents.values()) if self.balance else 0
        return [
            rows if len(rows) >= n else rows[np.resize(rng.permutation(len(rows)), n)] for rows in latents.values()
        ]

    def _seeded(self, estimator, rng):
        """A clone, with a seed if it has a ``random_state`` that is None."""
        seed = int(rng.randint(np.iinfo(np.int32).max))
        if estimator is None:
            return None
        estimator = clone(estimator, safe=False)
        if hasattr(estimator, "get_params"):
            free = [
                key for key, value in estimator.get_params().items() if key.endswith("random_state") and value is None
            ]
            estimator.set_params(**dict.fromkeys(free, seed))
        return estimator

    def _gaussian(self, name: str) -> GaussianAnomalyScorer:
        if isinstance(self.scorer_, ModalityMixture):
            return self.scorer_.components_[name]
        if isinstance(self.scorer_, GaussianAnomalyScorer):
            return self.scorer_
        raise DetectorError(
            f"{type(self.scorer_).__name__} has no Mahalanobis distance to divide; use ModalityMixture or "
            "GaussianAnomalyScorer."
        )

    def _divided(self, X) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Features (n, d), share of each in the squared distance, (n, d), and features of the Gaussian's mean."""
        check_is_fitted(self)
        features = self.space_.features(self._check(X, reset=False))
        parts: dict[str, Any] = {}
        for name, rows in features.items():
            gaussian = self._gaussian(name)
            matrix = self.space_.projections_[name] / self.space_.scales_[name][:, None]
            offset = -self.space_.means_[name] @ matrix
            if self.alignment_ is not None:
                matrix = matrix @ self.alignment_.matrices_[name]
                offset = offset @ self.alignment_.matrices_[name] + self.alignment_.offsets_[name]
            nearest = self.space_.means_[name]
            nearest = nearest + np.linalg.lstsq(matrix.T, gaussian.mean_ - offset - nearest @ matrix, rcond=None)[0]
            parts[name] = rows, gaussian.gradient(rows @ matrix + offset) @ matrix.T, nearest
        return parts
