"""Scorers of a shared latent space.

Any object with scikit-learn's ``fit`` and ``score_samples`` is a scorer: ``GaussianAnomalyScorer`` (one Gaussian for
all), ``KNNDistance``, scikit-learn's ``KernelDensity``, ``IsolationForest`` or a pipeline. This module adds three: a
mixture with one component per modality, a normalizing flow, and an energy-based model.
"""

# mypy: disable-error-code="override, index, assignment, attr-defined"

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import zuko
from scipy.special import logsumexp, softmax
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.multimodal.base import MultiModalDetector
from mmad_utils.networks import mlp
from mmad_utils.training import DeepDetector

__all__ = ["EnergyModel", "FlowDensity", "ModalityMixture"]


@dataclass(kw_only=True, eq=False, repr=False)
class ModalityMixture(MultiModalDetector):
    """A mixture of Gaussians with one component per modality, p(z) = Σ_m w_m N(z; μ_m, Σ_m).

    The score of a sample of modality k is −log p(z) / (w_k N(μ_k; μ_k, Σ_k)), relative to the maximum of the
    component of its own modality. It is half the squared Mahalanobis distance, unless another component has a higher
    density at the sample. Without the division the score would contain the log-determinant of the covariance. With
    more dimensions than samples this term depends on the number of samples, and scores of detectors fitted on parts
    of the data would not be comparable.

    The components need not be estimated by expectation-maximisation, because the component of every training sample
    is known. ``X`` is a dict of latents of one width, {name: (n, d)}.

    Parameters
    ----------
    weights : dict of name -> float or None, default=None
        w_m, up to a common factor; None takes the shares of the samples.
    covariance, regularization, half_life : see ``GaussianAnomalyScorer``
        By default the empirical covariance plus 0.3, in squared units of the latents, whose variance is about 1.
    contamination : float in (0, 0.5], default=0.05

    Attributes
    ----------
    components_ : dict of name -> GaussianAnomalyScorer
    """

    weights: Any = None
    covariance: str = "empirical"
    regularization: float = 0.3
    half_life: Any = None
    contamination: float = 0.05

    def known_modalities(self):
        return tuple(self.weights) if self.weights is not None else None

    def partial_fit(self, X, y=None):
        """Update the components by a batch, {name: (n, d)}; a modality may be absent. Thresholds do not change."""
        check_is_fitted(self)
        for name, latents in self._check(X, reset=False).items():
            self.components_[name].partial_fit(latents)
        return self

    def responsibilities(self, X) -> dict[str, np.ndarray]:
        """Posterior probability of each component for each sample, {name: (n, modalities)}.

        softmax(log w_m + log N(z; μ_m, Σ_m)): the attention of a sample over the modalities, in the order of
        ``modalities_``.
        """
        check_is_fitted(self)
        return {name: softmax(self._joint(latents), axis=1) for name, latents in self._check(X, reset=False).items()}

    def _fit(self, X, y):
        if self.weights is not None and min(self.weights.values()) <= 0:
            raise DetectorError(f"weights are {self.weights!r}; give positive numbers.")
        names = ("covariance", "regularization", "half_life", "contamination")
        options = {name: getattr(self, name) for name in names}
        self.components_ = {name: GaussianAnomalyScorer(**options).fit(latents) for name, latents in X.items()}

    def _score(self, X):
        scores = {}
        for i, (name, component) in enumerate(self.components_.items()):
            if name in X:
                peak = self._joint(component.mean_[None])[0, i]
                scores[name] = peak - logsumexp(self._joint(X[name]), axis=1)
        return {name: scores[name] for name in X}

    def _joint(self, latents) -> np.ndarray:
        """log w_m + log N(z; μ_m, Σ_m), (n, modalities)."""
        given = self.weights or {name: component.statistics_.n for name, component in self.components_.items()}
        weights = np.array([given[name] for name in self.modalities_], dtype=np.float64)
        densities = [self.components_[name].log_density(latents) for name in self.modalities_]
        return np.stack(densities, axis=1) + np.log(weights / weights.sum())


@dataclass(kw_only=True, eq=False, repr=False)
class FlowDensity(DeepDetector):
    """A normalizing flow: −log p(z) by an invertible network that maps the data to a standard Gaussian.

    With many more dimensions than samples a flow overfits: put a ``PCA`` before it in a pipeline.

    Parameters
    ----------
    transforms : int, default=3
        Autoregressive layers.
    hidden : sequence of int, default=(64, 64)

    References
    ----------
    G. Papamakarios, T. Pavlakou, I. Murray (2017), Masked autoregressive flow for density estimation, NeurIPS.
    F. Rozet et al. (2022), Zuko: normalizing flows in PyTorch (the implementation).
    """

    modalities = ("tabular",)

    transforms: int = 3
    hidden: Sequence[int] = (64, 64)
    epochs: int = 50
    batch_size: int = 128
    learning_rate: float = 3e-3

    def build(self, shape):
        return zuko.flows.MAF(shape[0], transforms=self.transforms, hidden_features=tuple(self.hidden))

    def loss(self, batch, generator):
        return self.batch_score(batch, generator).mean()

    def batch_score(self, batch, generator):
        return -self.network_().log_prob(batch)


@dataclass(kw_only=True, eq=False, repr=False)
class EnergyModel(DeepDetector):
    """Energy-based model E(z) = −log q(z) − f(z): a Gaussian q, corrected by a network f.

    f is trained to separate the data from samples of q; at the optimum q·exp(f) is the density of the data
    (noise-contrastive estimation). Before training f is 0, and the energy is that of the Gaussian.

    Parameters
    ----------
    hidden : sequence of int, default=(64, 64)

    References
    ----------
    M. Gutmann, A. Hyvärinen (2010), Noise-contrastive estimation, AISTATS: eq. 3, with as many noise samples as data.
    Y. LeCun, S. Chopra, R. Hadsell, M. Ranzato, F. Huang (2006), A tutorial on energy-based learning.
    """

    modalities = ("tabular",)

    hidden: Sequence[int] = (64, 64)
    epochs: int = 50
    batch_size: int = 128
    weight_decay: float = 1e-4

    def build(self, shape):
        network = mlp([shape[0], *self.hidden, 1])
        for parameter in network[-1].parameters():
            nn.init.zeros_(parameter)
        network.register_buffer("mean", torch.zeros(shape[0]))
        network.register_buffer("cholesky", torch.eye(shape[0]))
        return network

    def optimise(self, data, generator):
        """Fit q, then train f."""
        gaussian = GaussianAnomalyScorer().fit(data.double().cpu().numpy())
        self.network_.mean = torch.from_numpy(gaussian.mean_).to(data)
        self.network_.cholesky = torch.from_numpy(gaussian.cholesky_).to(data)
        return super().optimise(data, generator)

    def correction(self, batch):
        """f(z), (n, d) -> (n,), in units of the whitened space."""
        return self.network_(self._whitened(batch))[:, 0]

    def loss(self, batch, generator):
        normal = torch.randn(batch.shape, generator=generator).to(batch)
        noise = self.network_(normal)[:, 0]
        return F.softplus(-self.correction(batch)).mean() + F.softplus(noise).mean()

    def batch_score(self, batch, generator):
        """−log q(z) − f(z), up to a constant."""
        return 0.5 * self._whitened(batch).square().sum(1) - self.correction(batch)

    def _whitened(self, batch):
        centred = (batch - self.network_.mean).mT
        return torch.linalg.solve_triangular(self.network_.cholesky, centred, upper=False).mT
