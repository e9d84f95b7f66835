"""Fusion by networks: the base class, and a shared latent space by a product of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmad_utils import networks
from mmad_utils.detector import DetectorError
from mmad_utils.detectors.generative_autoencoders import gaussian_divergence
from mmad_utils.multimodal.paired import PairedDetector, pattern_scales, patterns_of, present_parts, standardised
from mmad_utils.training import DeepDetector, seeded

__all__ = ["DeepFusion", "SharedLatentFusion"]

LOG_VARIANCE = (-3.0, 6.0)  # bounds for a column given the latent code; columns have a mean variance of 1


@dataclass(kw_only=True, eq=False, repr=False)
class DeepFusion(PairedDetector, DeepDetector):
    """Base class of the fusions that train a network; a subclass defines ``build``, ``loss`` and ``batch_score``.

    A batch is the table of all features, 0 where a part is missing, followed by one column per modality that is 1
    where its part is present; ``parts(batch)`` splits it. In training ``drop(present)`` hides further parts at
    random, so that the network is also trained on samples with missing parts.

    A share of the training samples is held out. Its scores give the mean and spread for each pattern of missing parts
    (see ``pattern_scales``) and the threshold.

    Parameters
    ----------
    encoders : dict of name -> transformer, default None (see ``PairedDetector``)
    drop_rate : float in [0, 1), default=0.1
        Share of the parts that training hides.
    held_out : float in (0, 0.5], default=0.15
        Share of the training samples that are not trained on.
    other parameters
        Those of ``DeepDetector``.

    Attributes
    ----------
    widths_ : tuple of int, columns of each modality
    pattern_scales_ : (2^m - 1, 2) float64, mean and spread of the normal scores of each pattern of missing parts
    """

    modalities = ("paired",)
    least_modalities = 2

    encoders: Any = None
    drop_rate: float = 0.1
    held_out: float = 0.15

    def parts(self, batch: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features of each modality, (n, d_m), and which parts are present, (n, m) bool."""
        *codes, present = batch.split([*self.widths_, len(self.widths_)], dim=1)
        return list(codes), present > 0.5

    def drop(self, present: Tensor, generator: torch.Generator) -> Tensor:
        """(n, m) bool with further parts hidden; at least one part of each row remains."""
        hidden = torch.rand(present.shape, generator=generator).to(present.device) < self.drop_rate
        left = present & ~hidden
        return torch.where(left.any(dim=1, keepdim=True), left, present)

    def _table(self, X) -> np.ndarray:
        parts = self._encode(X)
        return np.concatenate([*(np.nan_to_num(codes) for codes in parts.values()), present_parts(parts)], axis=1)

    def _tensor(self, X):
        return torch.tensor(X if isinstance(X, np.ndarray) else self._table(X))

    def _fit(self, X, y):
        if not 0 <= self.drop_rate < 1 or not 0 < self.held_out <= 0.5:
            raise DetectorError(
                f"{type(self).__name__}: drop_rate is {self.drop_rate!r} and held_out {self.held_out!r}; give a "
                "drop_rate in [0, 1) and held_out in (0, 0.5]."
            )
        self._fit_encoders(X)
        self.widths_ = tuple(len(center) for center in self.code_means_.values())
        if self.n_estimators > 1:
            super()._fit(X, y)
            return
        table = self._table(X)
        with seeded(self.random_state) as generator:
            order = torch.randperm(len(table), generator=generator).numpy()
        calibration = np.sort(order[: max(1, round(self.held_out * len(table)))])
        training = np.setdiff1d(order, calibration)
        parts = table[training, -len(self.widths_) :].sum(axis=0).astype(int).tolist()
        if min(parts) < 2:
            raise DetectorError(
                f"{type(self).__name__}: {len(training)} of {len(table)} samples are trained on, and their "
                f"modalities have {parts} parts; give more samples, so that each modality has at least two parts."
            )
        super()._fit(table[training], y)
        self.pattern_scales_ = self._pattern_scales(table[calibration])
        self._calibration_scores = self._score(table[calibration])

    def _pattern_scales(self, table):
        present = table[:, -len(self.widths_) :] > 0.5
        patterns = patterns_of(len(self.widths_))
        raw = np.full((len(table), len(patterns)), np.nan)
        for i, pattern in enumerate(patterns):
            able = present[:, pattern].all(axis=1)
            if able.any():
                keep = np.concatenate([np.repeat(pattern, self.widths_), pattern])
                raw[able, i] = self._batches(self.batch_score, table[able] * keep)
        return pattern_scales(raw)

    def _training_scores(self, X):
        """Scores of the held-out samples, for one network: the threshold then has its nominal false-alarm rate."""
        if self.n_estimators > 1:
            return self._score(X)
        return self._calibration_scores

    def _score(self, X):
        if self.n_estimators > 1:
            return super()._score(X)
        table = X if isinstance(X, np.ndarray) else self._table(X)
        raw = self._batches(self.batch_score, table)
        return standardised(raw, table[:, -len(self.widths_) :] > 0.5, self.pattern_scales_)


@dataclass(kw_only=True, eq=False, repr=False)
class SharedLatentFusion(DeepFusion):
    """A multimodal variational autoencoder: one latent code for all parts, inferred from any subset of them.

    Each modality has an encoder that gives an expert N(μ_m, diag(σ_m²)) for the latent code z, and a decoder. The
    posterior given some parts is the product of their experts and of the prior N(0, I): precisions add, and the
    factor of a missing part is left out. The loss is a sum over subsets: all parts, each part alone, and one random
    subset. Its terms are

        E_z[Σ_m −log p(x_m | z)] + β KL(q(z | subset) ‖ N(0, I)),    x_m | z ~ N(g_m(z), diag(v_m)), v_m learned,

    with m over *all* parts of the sample. For β = 1 each term is a bound on −log p(all parts), whatever the subset
    (Sutter et al.). In Wu and Goodman's loss the sum is over the parts of the subset only, so the latent code of a
    text is not trained to predict the image.

    The score is the negative log-likelihood of each part given the others: Σ_m −log p(x_m | z̄), z̄ the mean of the
    posterior without part m (with only one part, its own posterior). Training uses no negatives, so no kind of
    anomaly is simulated.

    Parameters
    ----------
    latent_dim : int, default=16
    hidden : int, default=64
    beta : float, default=1.0
    scoring : {"cross", "reconstruction"}, default="cross"
        "reconstruction" uses one z̄ for all parts, the mean of the posterior given all parts, including part m.
    subsets : bool, default=True
        False trains on the bound of all parts together only, as an ablation: no part is trained to predict another.
    other parameters
        Those of ``DeepFusion``.

    Notes
    -----
    From the papers: the product of experts, the bounds of the subsets. Of this project: the score, and the Gaussian
    decoders of the encoders' features. Ablations, AUROC on the anomaly kinds of ``paired_digits``:
    benchmarks/README.md, "Fusion of paired modalities".

    References
    ----------
    M. Wu, N. Goodman (2018), Multimodal generative models for scalable weakly-supervised learning, NeurIPS:
    product of experts (section 2.2) and sub-sampled training (equation 4).
    T. M. Sutter, I. Daunhawer, J. E. Vogt (2021), Generalized multimodal ELBO, ICLR: theorem 1.
    """

    latent_dim: int = 16
    hidden: int = 64
    beta: float = 1.0
    scoring: str = "cross"
    subsets: bool = True
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 3e-3

    def build(self, shape):
        """Encoders, decoders, and the log variances of the columns."""
        if self.scoring not in ("cross", "reconstruction"):
            raise DetectorError(f"scoring is {self.scoring!r}; choose 'cross' or 'reconstruction'.")
        return nn.ModuleDict(
            {
                "encoders": nn.ModuleList(networks.mlp([d, self.hidden, 2 * self.latent_dim]) for d in self.widths_),
                "decoders": nn.ModuleList(networks.mlp([self.latent_dim, self.hidden, d]) for d in self.widths_),
                "log_variances": nn.ParameterList(torch.zeros(d) for d in self.widths_),
            }
        )

    def experts(self, codes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Means and log variances of all experts, (n, m, latent_dim) each."""
        given = [encoder(x).chunk(2, dim=1) for encoder, x in zip(self.network_["encoders"], codes)]
        mean, log_variance = (torch.stack(values, dim=1) for values in zip(*given))
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def negative_log_likelihood(self, codes: list[Tensor], z: Tensor) -> Tensor:
        """−log p(x_m | z) of each modality, without its constant, (n, m)."""
        columns = zip(self.network_["decoders"], self.network_["log_variances"], codes)
        return torch.stack(
            [
                0.5 * ((x - decoder(z)).square() / bounded.exp() + bounded).sum(dim=1)
                for decoder, bounded, x in ((g, v.clamp(*LOG_VARIANCE), x) for g, v, x in columns)
            ],
            dim=1,
        )

    def loss(self, batch, generator):
        """Sum of the bounds of the subsets."""
        codes, present = self.parts(batch)
        mean, log_variance = self.experts(codes)
        total = torch.zeros((), device=batch.device)
        singles = torch.eye(len(codes), dtype=torch.bool, device=batch.device)
        some = torch.rand(present.shape, generator=generator).to(present.device) < 0.5
        smaller = (*(present & one for one in singles), present & some) if self.subsets else ()
        for subset in (present, *smaller):
            joint_mean, joint_log_variance = product_of_experts(mean, log_variance, subset)
            noise = torch.randn(joint_mean.shape, generator=generator).to(batch.device)
            errors = self.negative_log_likelihood(codes, joint_mean + torch.exp(joint_log_variance / 2) * noise)
            divergence = gaussian_divergence(joint_mean, joint_log_variance)
            total = total + (errors * present).sum(dim=1).mean() + self.beta * divergence.mean()
        return total

    def batch_score(self, batch, generator):
        """Negative log-likelihood of each part given the others, or given all parts, by ``scoring``."""
        codes, present = self.parts(batch)
        mean, log_variance = self.experts(codes)
        if self.scoring == "reconstruction":
            z = product_of_experts(mean, log_variance, present)[0]
            return (self.negative_log_likelihood(codes, z) * present).sum(dim=1)
        score = torch.zeros(len(batch), dtype=batch.dtype, device=batch.device)
        alone = present.sum(dim=1, keepdim=True) == 1
        for m in range(len(codes)):
            others = present.clone()
            others[:, m] &= alone[:, 0]
            z = product_of_experts(mean, log_variance, others)[0]
            score = score + self.negative_log_likelihood(codes, z)[:, m] * present[:, m]
        return score


def product_of_experts(mean: Tensor, log_variance: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Product of N(0, I) and of the experts of the present parts: precisions add, and weight the means.

    Parameters
    ----------
    mean, log_variance : (n, m, k)
    present : (n, m) bool

    Returns
    -------
    mean and log variance of the product, (n, k) each
    """
    precision = torch.exp(-log_variance) * present[..., None]
    total = 1 + precision.sum(dim=1)
    return (mean * precision).sum(dim=1) / total, -torch.log(total)
