"""One-class classifiers that train a discriminator against generated anomalies: ALOCC and Fence GAN.

At the optimum of a GAN, generated samples have the distribution of the data, and the discriminator's output is 1/2
everywhere. Both methods here keep the generated samples at a small distance from the data. The discriminator then
learns to separate normal samples from samples near them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmad_utils import networks
from mmad_utils.detector import DetectorError
from mmad_utils.training import Adam, DeepDetector, update

__all__ = ["ALOCC", "FenceGAN"]

SMALLEST_SHARE = 1e-4  # ridge as a share of the mean variance: with fewer rows than columns Σ is singular
SMALLEST_GAP = 1e-6  # added to |α − D|, whose logarithm is −∞ at D = α


@dataclass(kw_only=True, eq=False, repr=False)
class ALOCC(DeepDetector):
    """A refiner R removes noise from normal samples, and a discriminator D separates its output from the data.

    R and D minimise the paper's losses L_R+D and L_R, with x̃ = x + noise and D a probability:

        D: min  −log D(x) − log(1 − D(R(x̃)))          R: min  −log D(R(x̃)) + λ ‖x − R(x̃)‖²

    with the usual non-saturating form of R's first term. The scores are the logit of 1 − D(x) or of 1 − D(R(x)).

    D separates normal samples from anomalies only while R is imperfect. Once R's output is smoother than the data, D
    classifies smooth samples as generated and noisy samples as real. It then ranks anomalies in the wrong order. Two
    choices prevent this. R adds its correction to its input, so it is initially close to the identity. Its first
    outputs are as noisy as x̃ and lie *outside* of the data; the first outputs of a plain autoencoder lie near the
    mean, inside of the data. Training stops, as in the paper, when the error of R is below a fixed value, here a
    share ``stop_at`` of the noise.

    Parameters
    ----------
    scoring : {"D(R(x))", "D(x)"}, default="D(R(x))"
    noise : float > 0, default=1.0
        Standard deviation of the noise, in units of the standard deviation of all training values together.
    stop_at : float >= 0, default=0.9
        Training ends after the epoch in which the mean of ‖x − R(x̃)‖² is below this share of the mean of ‖x − x̃‖².
        With 0 all epochs are run.
    refinement_weight : float >= 0, default=10.0
        λ, for errors that are averaged over the values of a sample and divided by the variance of the data.
    refiner_learning_rate : float, default=1e-4
        ``learning_rate`` is that of D.
    latent_dim : int, default=16
        Length of the refiner's latent code.
    hidden : sequence of int, default=(64, 32)
        Widths of the hidden layers, for tables.
    width : int, default=16
        Channels after the first convolution, for images.
    epochs, batch_size, n_estimators : 20, 128, 3
        The other parameters, and the meaning of these, are those of ``DeepDetector``.

    Notes
    -----
    The paper trains one network, ``n_estimators=1``. Four choices are of this project: the average of three networks,
    the correction that R adds to its input, the share ``stop_at``, and the logit as a score. The logit ranks samples
    in the same order as 1 − D.

    Attributes
    ----------
    network_ : nn.ModuleDict of "refiner" and "discriminator" (its output is the logit of D)
    history_ : with "refinement", the error of R as a share of the noise

    Raises
    ------
    DetectorError
        Unknown scoring, noise that is not positive.

    References
    ----------
    M. Sabokrou, M. Khalooei, M. Fathy, E. Adeli (2018), Adversarially learned one-class classifier for novelty
    detection, CVPR.

    Examples
    --------
    >>> import numpy as np
    >>> from mmad_utils import ALOCC
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = ALOCC(epochs=5, random_state=0).fit(X)
    >>> bool(detector.anomaly_score([[9.0, -9.0, 9.0]]) > detector.anomaly_score([[0.1, 0.0, 0.1]]))
    True
    """

    scoring: str = "D(R(x))"
    noise: float = 1.0
    stop_at: float = 0.9
    refinement_weight: float = 10.0
    refiner_learning_rate: float = 1e-4
    latent_dim: int = 16
    hidden: Sequence[int] = (64, 32)
    width: int = 16
    epochs: int = 20
    batch_size: int = 128
    n_estimators: int = 3

    def build(self, shape):
        coding = networks.encoder(shape, self.latent_dim, hidden=self.hidden, width=self.width)
        decoding = networks.decoder(shape, self.latent_dim, hidden=self.hidden[::-1], width=self.width)
        discriminator = networks.encoder(shape, 1, hidden=self.hidden, width=self.width)
        return nn.ModuleDict({"refiner": nn.Sequential(coding, decoding), "discriminator": discriminator})

    def refine(self, batch: Tensor) -> Tensor:
        """R(x), (n, ...) -> (n, ...): the input plus a correction."""
        return batch + self.network_["refiner"](batch)

    def discriminate(self, batch: Tensor) -> Tensor:
        """Logit of D, (n, ...) -> (n,); higher is more normal."""
        return self.network_["discriminator"](batch)[:, 0]

    def batch_score(self, batch, generator):
        return -self.discriminate(batch if self.scoring == "D(x)" else self.refine(batch))

    def optimise(self, data, generator):
        variance = data.var()
        sd = self.noise * variance.sqrt()
        refiner, discriminator = (self.network_[key].parameters() for key in ("refiner", "discriminator"))
        refiner_optimizer = Adam(refiner, lr=self.refiner_learning_rate, weight_decay=self.weight_decay)
        optimizer = Adam(discriminator, lr=self.learning_rate, weight_decay=self.weight_decay)

        def step(batch):
            noise = sd * torch.randn(batch.shape, generator=generator).to(batch.device)
            refined = self.refine(batch + noise)
            real, false = self.discriminate(batch), self.discriminate(refined.detach())
            loss = F.softplus(-real).mean() + F.softplus(false).mean()  # −log D(x) − log(1 − D(R(x̃)))
            update(optimizer, loss)
            error = (batch - refined).square().mean()
            fooling = F.softplus(-self.discriminate(refined)).mean()
            update(refiner_optimizer, fooling + self.refinement_weight * error / variance)
            shares = {"refinement": error.detach() / noise.square().mean(), "fooling": fooling.detach()}
            return {"loss": loss.detach(), **shares}

        return self.run(step, data, generator, after_epoch=lambda history: history[-1]["refinement"] < self.stop_at)

    def _fit(self, X, y):
        if self.scoring not in ("D(x)", "D(R(x))") or not self.noise > 0:
            raise DetectorError(
                f"scoring is {self.scoring!r} and noise {self.noise!r}; choose 'D(x)' or 'D(R(x))', and a standard "
                "deviation above 0."
            )
        super()._fit(X, y)


@dataclass(kw_only=True, eq=False, repr=False)
class FenceGAN(DeepDetector):
    """A generator G of samples around the data, and a discriminator D that separates them from the data.

    G minimises the sum of two losses of the paper. The encirclement loss is smallest where D(G(z)) = α. The
    dispersion loss, with weight β, increases the distance of G's samples from their centre μ:

        mean of log|α − D(G(z))|  +  β / mean of ‖G(z) − μ‖

    D minimises −log D(x) − γ log(1 − D(G(z))). With γ < 1 real samples have the larger weight, so D keeps classifying
    them as real when generated samples are near. The score is the logit of 1 − D(x).

    G must start with a large spread: samples that start inside of the data stay there. Its first samples have
    ``start_width`` times the spread of the data. Half of them have the covariance of the data. Without these, D would
    classify distant samples that satisfy the relations between the columns as normal, and it would rank the breast
    cancer table in the wrong order. The other half has independent columns of the same spread. Without these, D would
    have no training samples away from the principal axes of the data. G transforms both halves.

    Where D saturates, the gradient of G is 0. With many columns this happens at the start of training, because almost
    no sample of a G with large spread is similar to the data. A penalty on the gradient of D (Mescheder et al. 2018,
    there on the data alone) prevents it. The penalty is a choice of this project; 0 gives the paper's loss.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.5
        α, the target of D for generated samples.
    beta : float >= 0, default=1.0
        β, for distances in units of the mean standard deviation of the data.
    gamma : float > 0, default=0.5
        γ, the weight of the generated samples in D's loss.
    start_width : float > 0, default=3.0
        Standard deviation of G's first samples in units of that of the data.
    gradient_penalty : float >= 0, default=0.1
        Weight of the squared gradient norm of D's logit, for inputs in units of their standard deviation.
    generator_learning_rate : float, default=1e-4
        ``learning_rate`` is that of D.
    hidden : sequence of int, default=(64, 32)
        Widths of the hidden layers of D for tables; the first is also the width of G's single hidden layer.
    width : int, default=16
        Channels after the first convolution of D, for images.
    epochs, batch_size, n_estimators : 10, 128, 3
        The other parameters, and the meaning of these, are those of ``DeepDetector``.

    Notes
    -----
    The paper trains one network, ``n_estimators=1``. Three choices are of this project: the average of three
    networks, the large spread of G's first samples, and the gradient penalty. On tables the training of G changes the
    AUROC by less than the spread over seeds (``benchmarks/ablations.py``): D learns from the first samples of G.

    Attributes
    ----------
    network_ : nn.ModuleDict of "generator" and "discriminator" (its output is the logit of D), buffers ``mean``
        (p,), ``scale`` (p,) and ``factor`` (p, p; of the covariance) of G's first samples, for p values per sample
    history_ : also with "discrimination", the mean of D on the generated samples, and "spread", their mean distance
        from μ

    Raises
    ------
    DetectorError
        alpha, gamma or start_width out of range.

    References
    ----------
    P. C. Ngo, A. A. Winarto, C. K. L. Kou, S. Park, F. Akram, H. K. Lee (2019), Fence GAN: towards better anomaly
    detection, ICTAI.

    Examples
    --------
    >>> import numpy as np
    >>> from mmad_utils import FenceGAN
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = FenceGAN(epochs=5, random_state=0).fit(X)
    >>> bool(detector.anomaly_score([[9.0, -9.0, 9.0]]) > detector.anomaly_score([[0.1, 0.0, 0.1]]))
    True
    """

    alpha: float = 0.5
    beta: float = 1.0
    gamma: float = 0.5
    start_width: float = 3.0
    gradient_penalty: float = 0.1
    generator_learning_rate: float = 1e-4
    hidden: Sequence[int] = (64, 32)
    width: int = 16
    epochs: int = 10
    batch_size: int = 128
    n_estimators: int = 3

    def build(self, shape):
        d = math.prod(shape)
        network = nn.ModuleDict(
            {
                "generator": networks.mlp([d, self.hidden[0], d]),
                "discriminator": networks.encoder(shape, 1, hidden=self.hidden, width=self.width),
            }
        )
        network.register_buffer("mean", torch.zeros(d))
        network.register_buffer("scale", torch.ones(d))
        network.register_buffer("factor", torch.eye(d))
        return network

    def generate(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples of G, ``(n, *shape)``."""
        network = self.network_
        z = torch.randn((n, len(network.mean)), generator=generator).to(network.mean)
        moved = z + network["generator"](z)
        related = torch.arange(n, device=z.device)[:, None] % 2 == 0
        samples = network.mean + torch.where(related, moved @ network.factor.T, network.scale * moved)
        return samples.reshape(n, *self.input_shape_)

    def discriminate(self, batch: Tensor) -> Tensor:
        """Logit of D, (n, ...) -> (n,); higher is more normal."""
        return self.network_["discriminator"](batch)[:, 0]

    def batch_score(self, batch, generator):
        return -self.discriminate(batch)

    def discriminator_loss(self, real: Tensor, generated: Tensor) -> Tensor:
        """The mean of −log D(x), and γ times the mean of −log(1 − D(G(z)))."""
        missed, passed = F.softplus(-self.discriminate(real)), F.softplus(self.discriminate(generated))
        return missed.mean() + self.gamma * passed.mean()

    def generator_loss(self, generated: Tensor, unit: float = 1.0) -> Tensor:
        """Encirclement loss plus β times the dispersion loss, for distances in the given unit."""
        gap = (self.alpha - self.discriminate(generated).sigmoid()).abs()
        return (gap + SMALLEST_GAP).log().mean() + self.beta * unit / _spread(generated)

    def optimise(self, data, generator):
        rows = data.flatten(1)
        unit = float(rows.std(0).mean())
        self.network_.mean.copy_(rows.mean(0))
        self.network_.scale.copy_(self.start_width * rows.std(0))
        covariance = torch.cov(rows.T.double()).reshape(rows.shape[1], -1)
        ridge = SMALLEST_SHARE * covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
        self.network_.factor.copy_(self.start_width * torch.linalg.cholesky(covariance + ridge))
        parameters = {key: self.network_[key].parameters() for key in ("generator", "discriminator")}
        optimizer = Adam(parameters["discriminator"], lr=self.learning_rate, weight_decay=self.weight_decay)
        generator_optimizer = Adam(parameters["generator"], lr=self.generator_learning_rate)

        def step(batch):
            generated = self.generate(len(batch), generator)
            loss = self.discriminator_loss(batch, generated.detach())
            slope = _squared_slope(self.discriminate, torch.cat([batch, generated]))
            update(optimizer, loss + self.gradient_penalty * unit**2 * slope)
            fence = self.generator_loss(generated, unit)
            update(generator_optimizer, fence)
            with torch.no_grad():
                height = self.discriminate(generated).sigmoid().mean()
            shown = {"generator": fence.detach(), "discrimination": height, "spread": _spread(generated).detach()}
            return {"loss": loss.detach(), **shown}

        return self.run(step, data, generator)

    def _fit(self, X, y):
        if not (0 < self.alpha < 1 and self.gamma > 0 and self.start_width > 0):
            raise DetectorError(
                f"alpha is {self.alpha!r}, gamma {self.gamma!r}, start_width {self.start_width!r}; "
                "give alpha in (0, 1), and gamma and start_width above 0."
            )
        super()._fit(X, y)


def _spread(samples: Tensor) -> Tensor:
    """Mean distance of the samples from their mean."""
    rows = samples.flatten(1)
    return torch.linalg.vector_norm(rows - rows.mean(0), dim=1).mean()


def _squared_slope(discriminate: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Mean squared norm of the gradient of the logit at the points; it is differentiable in the weights."""
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(points).sum(), points, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
