"""A shared latent space: one encoder per modality, with latents of the same width for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.base import clone

from mmad_utils.detector import DetectorError
from mmad_utils.encoders.image import ImageEncoder
from mmad_utils.encoders.scaling import nonzero_scale
from mmad_utils.encoders.sequences import SeriesEncoder, TextEncoder
from mmad_utils.encoders.tabular import TabularEncoder

__all__ = ["DEFAULT_ENCODERS", "LatentSpace", "chosen_encoders"]


DEFAULT_ENCODERS: dict[str, type] = {
    "image": ImageEncoder,
    "tabular": TabularEncoder,
    "text": TextEncoder,
    "series": SeriesEncoder,
}


def chosen_encoders(encoders: Mapping[str, Any] | None, names: Iterable[str]) -> dict[str, Any]:
    """The given encoder of each of these modalities, or the default encoder."""
    return {name: encoders[name] if encoders else DEFAULT_ENCODERS[name]() for name in names}


class LatentSpace:
    """Encoders, and for each an affine map from its standardised features to ``latent_dim`` latents.

    The map is a random matrix with orthonormal rows or columns. For an encoder with fewer features than latents the
    map preserves distances. For one with more features it is a random projection.

    Parameters
    ----------
    encoders : dict of name -> object with ``fit(X)`` and ``transform(X) -> (n, d) float64``
        They are cloned and not changed. One whose ``random_state`` is None gets a seed.
    latent_dim : int
    rng : numpy.random.RandomState

    Attributes
    ----------
    encoders_ : dict, the fitted clones
    means_, scales_ : dict of name -> (d,), of the features of the normal samples
    projections_ : dict of name -> (d, latent_dim), orthonormal

    References
    ----------
    J.-H. Kim, D.-H. Kim, S. Yi, T. Lee (2021), Semi-orthogonal embedding for efficient unsupervised anomaly
    segmentation: the random map.
    """

    def __init__(self, encoders: Mapping[str, Any], latent_dim: int, rng: np.random.RandomState):
        self.latent_dim = latent_dim
        self.encoders_: dict[str, Any] = {}
        self.projections_: dict[str, np.ndarray] = {}
        self._seeds = {name: [int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=2)] for name in encoders}
        for name, encoder in encoders.items():
            encoder = clone(encoder, safe=False)
            if getattr(encoder, "random_state", 0) is None:
                encoder.random_state = self._seeds[name][0]
            self.encoders_[name] = encoder

    def fit(self, X: Mapping[str, Any]) -> LatentSpace:
        """Fit the encoders and the maps of the modalities in ``X``; the other encoders are removed."""
        self.means_, self.scales_ = {}, {}
        self.encoders_ = {name: self.encoders_[name] for name in X}
        for name, samples in X.items():
            encode(self.encoders_[name].fit, samples, name)
            features = self.features({name: samples})[name]
            if len(features) < 2:
                raise DetectorError(f"modality {name!r} has {len(features)} sample; a distribution needs at least 2.")
            self.means_[name] = features.mean(axis=0)
            self.scales_[name] = nonzero_scale(features, features.std(axis=0))
            rng = np.random.default_rng(self._seeds[name][1])
            sides = sorted((features.shape[1], self.latent_dim), reverse=True)
            basis = np.linalg.qr(rng.normal(size=sides))[0]
            self.projections_[name] = basis if features.shape[1] >= self.latent_dim else basis.T
        return self

    def features(self, X: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Features of the encoders, {name: (n, d)} float64."""
        return {name: encode(self.encoders_[name].transform, samples, name) for name, samples in X.items()}

    def project(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Latents of features, {name: (n, latent_dim)}."""
        return {
            name: (rows - self.means_[name]) / self.scales_[name] @ self.projections_[name]
            for name, rows in features.items()
        }

    def transform(self, X: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Latents of samples, {name: (n, latent_dim)}."""
        return self.project(self.features(X))

    def get_state(self) -> dict[str, Any]:
        return dict(vars(self))

    def set_state(self, state: dict[str, Any]) -> None:
        known = {"latent_dim", "encoders_", "projections_", "means_", "scales_", "_seeds"}
        if not state.keys() <= known:
            raise DetectorError(f"the state of a LatentSpace has no entry {min(state.keys() - known)!r}.")
        vars(self).update(state)


def encode(method, samples, name: str):
    """Call ``method(samples)`` of an encoder; its errors name the modality."""
    try:
        return method(samples)
    except ValueError as error:
        raise DetectorError(f"modality {name!r}: {error}") from error
