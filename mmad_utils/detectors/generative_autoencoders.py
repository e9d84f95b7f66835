"""Autoencoders whose latent codes follow a known distribution: variational and adversarial autoencoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmad_utils import networks
from mmad_utils.detector import DetectorError
from mmad_utils.detectors.autoencoders import AutoEncoder, squared_error
from mmad_utils.training import Adam, update

__all__ = ["AdversarialAutoEncoder", "VariationalAutoEncoder"]

SMALLEST_VARIANCE = 1e-5  # of the residuals of a VAE: about the rounding of an 8-bit pixel, (1/255)²


@dataclass(kw_only=True, eq=False, repr=False)
class VariationalAutoEncoder(AutoEncoder):
    """Variational autoencoder: maps a sample to a normal distribution of latent codes that is kept close to N(0, I).

    The encoder gives μ and log σ². Each step draws a latent code z = μ + σ ε with ε ~ N(0, I); by this
    reparametrisation the loss is differentiable in μ and σ. The decoder gives the mean of x | z ~ N(g(z), v I). The
    loss is the negative evidence lower bound with weight β,

        E_z[−log p(x | z)] + β KL(N(μ, diag(σ²)) ‖ N(0, I)),    KL = ½ Σ_k (μ_k² + σ_k² − log σ_k² − 1).

    The variance v is set to its optimal value for the current network, the mean squared residual of the batch
    (Rybkin et al. 2021). A fixed v would have the same effect as another β.

    Parameters
    ----------
    beta : float, default=1.0
        β: 1 is the bound of the paper; with 0 the distribution of latent codes is not constrained.
    scoring : {"reconstruction", "probability"}, default="reconstruction"
        ‖x − g(μ)‖²; or −E_z[log p(x | z)], An and Cho's reconstruction probability, from ``n_samples`` latent codes.
    n_samples, epochs : int, default=10 and 50

    other parameters
        Those of ``AutoEncoder``. Your own ``network`` is called for its encoder with twice the ``latent_dim``.

    Attributes
    ----------
    network_ : ModuleDict with "encoder", ``(n, *shape) -> (n, 2 latent_dim)``, "decoder", and a buffer ``variance``

    References
    ----------
    D. P. Kingma, M. Welling (2013), Auto-encoding variational Bayes: equation 10 and appendix B.
    J. An, S. Cho (2015), Variational autoencoder based anomaly detection using reconstruction probability.
    O. Rybkin, K. Daniilidis, S. Levine (2021), Simple and effective VAE training with calibrated decoders, ICML.
    I. Higgins et al. (2017), beta-VAE, ICLR.
    """

    beta: float = 1.0
    scoring: str = "reconstruction"
    n_samples: int = 10
    epochs: int = 50

    def build(self, shape):
        """Encoder, decoder and the variance of the residuals, which is 1 before training."""
        if self.scoring not in ("reconstruction", "probability") or self.n_samples < 1:
            raise DetectorError(
                f"scoring is {self.scoring!r} with {self.n_samples} samples; choose 'reconstruction', or "
                "'probability' with at least one sample."
            )
        latent_dim = networks.code_length(self.latent_dim, shape)
        network = nn.ModuleDict(
            {"encoder": self._pair(shape, 2 * latent_dim)[0], "decoder": self._pair(shape, latent_dim)[1]}
        )
        network.register_buffer("variance", torch.ones(()))
        return network

    def distribution(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, *shape)`` -> μ and log σ², each (n, latent_dim)."""
        mean, log_variance = self.network_["encoder"](batch).chunk(2, dim=1)
        return mean, log_variance

    def loss(self, batch, generator):
        """Negative evidence lower bound of the batch, without its constant, at the best variance of the residuals."""
        mean, log_variance = self.distribution(batch)
        errors = squared_error(self.network_["decoder"](self._draw(mean, log_variance, generator)), batch)
        return self._negative_log_likelihood(errors, self._best_variance(errors)).mean() + self.beta * (
            gaussian_divergence(mean, log_variance).mean()
        )

    def optimise(self, data, generator):
        """Minimise the loss by Adam, then store the variance of the residuals of all training samples for scoring."""
        history = super().optimise(data, generator)
        if history:
            with torch.no_grad():
                draws = [self._draw(*self.distribution(batch), generator) for batch in data.split(1024)]
                reconstructed = torch.cat([self.network_["decoder"](codes) for codes in draws])
                self.network_.variance.copy_(self._best_variance(squared_error(reconstructed, data)))
        return history

    def reconstruction(self, batch):
        """The reconstruction g(μ)."""
        return self.network_["decoder"](self.distribution(batch)[0])

    def batch_score(self, batch, generator):
        """Squared error of g(μ), or the negative reconstruction probability, by ``scoring``."""
        if self.scoring == "reconstruction":
            return super().batch_score(batch, generator)
        mean, log_variance = self.distribution(batch)
        total = torch.zeros(len(batch), dtype=batch.dtype, device=batch.device)
        for _ in range(self.n_samples):
            errors = squared_error(self.network_["decoder"](self._draw(mean, log_variance, generator)), batch)
            total += self._negative_log_likelihood(errors, self.network_.variance)
        return total / self.n_samples

    def encode(self, X):
        """μ of each sample, (n, latent_dim) float64."""
        return self._apply(lambda batch, generator: self.distribution(batch)[0], X)

    def encode_sd(self, X) -> np.ndarray:
        """σ of each sample, (n, latent_dim) float64."""
        return self._apply(lambda batch, generator: self.distribution(batch)[1].mul(0.5).exp(), X)

    def _draw(self, mean, log_variance, generator):
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
        return mean + torch.exp(log_variance / 2) * noise

    def _best_variance(self, errors):
        return errors.mean().clamp(min=SMALLEST_VARIANCE)

    def _negative_log_likelihood(self, errors, variance):
        return 0.5 * (errors / variance + torch.log(variance)).flatten(1).sum(1)


@dataclass(kw_only=True, eq=False, repr=False)
class AdversarialAutoEncoder(AutoEncoder):
    """Adversarial autoencoder: adversarial training makes the distribution of the latent codes similar to N(0, I).

    Each step updates encoder and decoder by the reconstruction error, then the discriminator to separate latent codes
    from draws of N(0, I), then the encoder to make the two indistinguishable. The score is the squared reconstruction
    error, as for the baseline in the f-AnoGAN paper.

    Parameters
    ----------
    adversary_hidden : sequence of int, default=(64, 64)
        Widths of the discriminator's hidden layers.
    min_steps : int, default=400
        Least number of batches. Adversarial training needs many steps, so ``epochs``, 50 by default, is increased on
        small data until there are this many batches.

    other parameters
        Those of ``AutoEncoder``; all three optimisers have the same learning rate.

    Attributes
    ----------
    network_ : ModuleDict with "encoder", "decoder" and "discriminator", (n, latent_dim) -> (n, 1), logit of a draw
    history_ : also with "discriminator" and "encoder", the losses of the adversarial training

    References
    ----------
    A. Makhzani, J. Shlens, N. Jaitly, I. Goodfellow, B. Frey (2015), Adversarial autoencoders: section 2.
    """

    adversary_hidden: Sequence[int] = (64, 64)
    min_steps: int = 400
    epochs: int = 50

    def build(self, shape):
        """Encoder, decoder and discriminator."""
        network = super().build(shape)
        widths = [networks.code_length(self.latent_dim, shape), *self.adversary_hidden, 1]
        network["discriminator"] = networks.mlp(widths, nn.LeakyReLU)
        return network

    def optimise(self, data, generator):
        """Train by steps of three updates: autoencoder, discriminator, encoder."""
        encoder, decoder, discriminator = (self.network_[part] for part in ("encoder", "decoder", "discriminator"))
        groups = ([*encoder.parameters(), *decoder.parameters()], discriminator.parameters(), encoder.parameters())
        reconstructor, adversary, encoder_optimizer = (
            Adam(group, lr=self.learning_rate, weight_decay=self.weight_decay) for group in groups
        )

        def classification_loss(codes, is_draw):
            logits = discriminator(codes)
            return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, is_draw))

        def step(batch):
            loss = self.loss(batch, generator)
            update(reconstructor, loss)
            codes = encoder(batch).detach()
            draws = torch.randn(codes.shape, generator=generator).to(codes.device)
            apart = classification_loss(draws, 1.0) + classification_loss(codes, 0.0)
            update(adversary, apart)
            alike = classification_loss(encoder(batch), 1.0)
            update(encoder_optimizer, alike)
            return {"loss": loss.detach(), "discriminator": apart.detach(), "encoder": alike.detach()}

        return self.run(step, data, generator, min_steps=self.min_steps)


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, diag(σ²)) ‖ N(0, I)) of each row, (n, k) and (n, k) -> (n,), in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
