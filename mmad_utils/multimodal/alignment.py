"""Alignment of unpaired modalities: maps after which their latents have similar distributions.

An alignment has one affine map z ↦ zA_m + b_m per modality; the classes differ in the objective of the map. Because
the maps are affine, a distance between aligned latents can be divided among the features before the map.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn import functional as F

from mmad_utils.detector import DetectorError, Stateful
from mmad_utils.detectors.gaussian import GaussianStatistics
from mmad_utils.networks import mlp
from mmad_utils.training import Adam, limited_threads, seeded, train, update

__all__ = ["AdversarialAlignment", "ContrastiveAlignment", "MomentMatching"]

Latents = dict[str, np.ndarray]


class MomentMatching(Stateful, BaseEstimator):
    """Closed-form alignment: every modality is whitened, so that its latents have mean 0 and covariance I.

    Attributes
    ----------
    matrices_, offsets_ : dict of name -> (d, d) and (d,) float64

    References
    ----------
    B. Sun, K. Saenko (2016), Deep CORAL: correlation alignment for deep domain adaptation: second moments. There one
    domain is mapped to the other; here both are mapped to a common distribution.
    """

    matrices_: dict[str, np.ndarray]
    offsets_: dict[str, np.ndarray]

    def fit(self, latents: Latents):
        """Learn the maps from {name: (n, d)} latents of normal samples; lengths may differ."""
        self.matrices_, self.offsets_ = {}, {}
        for name, rows in latents.items():
            statistics = GaussianStatistics.of(rows)
            values, directions = np.linalg.eigh(statistics.covariance("ledoit_wolf"))
            if values[0] <= 0:
                raise DetectorError(f"the {len(rows)} latents of modality {name!r} are all equal; give more samples.")
            self.matrices_[name] = (directions / np.sqrt(values)) @ directions.T
            self.offsets_[name] = -statistics.mean @ self.matrices_[name]
        return self

    def transform(self, latents: Latents) -> Latents:
        """Aligned latents, {name: (n, d)}."""
        return {name: rows @ self.matrices_[name] + self.offsets_[name] for name, rows in latents.items()}


@dataclass(kw_only=True, eq=False, repr=False)
class _TrainedAlignment(MomentMatching, abc.ABC):
    """Base class of the trained alignments: maps that are initially the identity, and balanced batches.

    Parameters
    ----------
    anchor : float >= 0, default=1.0
        Weight of the mean squared change of the latents by the maps; it keeps the maps close to the identity.
    steps, batch_size, learning_rate : of Adam; each modality gives ``batch_size`` samples per step
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    history_ : list of dict, the mean of each term of the loss, one dict per epoch
    """

    anchor: float = 1.0
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-3
    random_state: int | np.random.RandomState | None = None

    @abc.abstractmethod
    def objective(self, mapped: list[Tensor], helper: nn.Module, generator: torch.Generator) -> Tensor:
        """Scalar to minimise, from a batch of each modality, (b, d) each."""

    def helper(self, d: int, n_modalities: int) -> nn.Module:
        """A network that is trained together with the maps, if any."""
        return nn.Identity()

    def fit(self, latents: Latents):
        n = max(len(rows) for rows in latents.values())
        d = next(iter(latents.values())).shape[1]
        means = {name: rows.mean(axis=0) for name, rows in latents.items()}
        # One scale per modality keeps the proportions of its latents.
        scales = {name: float((rows - means[name]).std()) or 1.0 for name, rows in latents.items()}
        with seeded(self.random_state) as generator:
            data = []
            for name, rows in latents.items():
                order = torch.cat([torch.randperm(len(rows), generator=generator) for _ in range(-(-n // len(rows)))])
                data.append(torch.from_numpy((rows - means[name]) / scales[name]).float()[order[:n]])
            maps = [nn.Linear(d, d) for _ in latents]
            for layer in maps:
                nn.init.eye_(layer.weight)
                nn.init.zeros_(layer.bias)
            helper = self.helper(d, len(data))
            optimizer = Adam(nn.ModuleList([*maps, helper]).parameters(), lr=self.learning_rate)

            def step(*batches):
                mapped = [layer(batch) for layer, batch in zip(maps, batches)]
                changes = [F.mse_loss(new, old) for new, old in zip(mapped, batches)]
                objective, anchor = self.objective(mapped, helper, generator), torch.stack(changes).mean()
                update(optimizer, objective + self.anchor * anchor)
                return {"objective": objective.detach(), "change": anchor.detach()}

            epochs = -(-self.steps // -(-n // self.batch_size))
            with limited_threads(nn.ModuleList([*maps, helper]), self.batch_size):
                self.history_ = train(step, data, epochs=epochs, batch_size=self.batch_size, generator=generator)
        self.matrices_, self.offsets_ = {}, {}
        for name, layer in zip(latents, maps):
            matrix = layer.weight.detach().double().numpy().T / scales[name]
            self.matrices_[name] = matrix
            self.offsets_[name] = layer.bias.detach().double().numpy() - means[name] @ matrix
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class ContrastiveAlignment(_TrainedAlignment):
    """Contrastive alignment (NT-Xent): two noisy views of a sample attract, all other samples repel.

    Contrastive learning aligns modalities by *pairs*, two views of one object. Unpaired modalities have no pairs, so
    both views of a pair here come from one modality. The loss increases the distances between samples. It has no term
    that aligns the modalities, and it is smaller when the modalities are well separated.

    Parameters
    ----------
    temperature : float > 0, default=0.2
    noise : float > 0, default=0.3
        Standard deviation of the difference between the views, in units of the latents' standard deviation.

    References
    ----------
    T. Chen, S. Kornblith, M. Norouzi, G. Hinton (2020), A simple framework for contrastive learning, ICML: eq. 1.
    """

    temperature: float = 0.2
    noise: float = 0.3

    def objective(self, mapped, helper, generator):
        latents = torch.cat(mapped)
        views = [latents + self.noise * torch.randn(latents.shape, generator=generator) for _ in range(2)]
        both = F.normalize(torch.cat(views), dim=1)
        similarity = both @ both.T / self.temperature
        similarity.fill_diagonal_(-torch.inf)
        n = len(latents)
        return F.cross_entropy(similarity, torch.arange(2 * n).roll(n))


@dataclass(kw_only=True, eq=False, repr=False)
class AdversarialAlignment(_TrainedAlignment):
    """Adversarial alignment: the maps are trained against a discriminator of the modalities (gradient reversal).

    Parameters
    ----------
    strength : float >= 0, default=1.0
        Weight of the reversed gradient.

    References
    ----------
    Y. Ganin et al. (2016), Domain-adversarial training of neural networks, JMLR 17: eq. 18.
    """

    strength: float = 1.0

    def helper(self, d, n_modalities):
        return mlp([d, 64, n_modalities])

    def objective(self, mapped, helper, generator):
        latents = torch.cat([_ReverseGradient.apply(rows, self.strength) for rows in mapped])
        modality = torch.repeat_interleave(torch.arange(len(mapped)), torch.tensor([len(rows) for rows in mapped]))
        return F.cross_entropy(helper(latents), modality)


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, strength):
        ctx.strength = strength
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.strength * gradient, None
