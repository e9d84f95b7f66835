"""One-class classifiers that train a discriminator against made anomalies: ALOCC and Fence GAN.

A GAN's discriminator ends at a coin's toss, because the generator ends on the data. Both methods keep the generated
samples beside the data instead, so that what the discriminator tells apart is normal from not quite normal.
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

SMALLEST_SHARE = 1e-4  # of the mean variance, along every axis: fewer rows than columns span no covariance
SMALLEST_GAP = 1e-6  # of |α − D|, whose logarithm would be −∞ on the fence


@dataclass(kw_only=True, eq=False, repr=False)
class ALOCC(DeepDetector):
    """A refiner R that takes noise out of normal samples, and a discriminator D that tells its output from the data.

    R and D play (the paper's losses L_R+D and L_R; x̃ = x + noise, D is a probability)

        D: min  −log D(x) − log(1 − D(R(x̃)))          R: min  −log D(R(x̃)) + λ ‖x − R(x̃)‖²

    with the usual non-saturating form of R's first term. The scores are the logit of 1 − D(x) or of 1 − D(R(x)).

    D learns what is normal only while R is imperfect: once R's output is smoother than the data, D takes smooth for
    false and rough for true, and ranks anomalies, which are rough, backwards. Two things prevent it. R adds its
    correction to its input, so that it starts as the identity, its output as noisy as x̃ and *outside* of the data
    (a plain autoencoder starts from the mean, inside of them, and teaches D the opposite). And training stops, as in
    the paper, when the error of R falls below a fixed value, here a share ``stop_at`` of the noise.

    Parameters
    ----------
    scoring : {"D(R(x))", "D(x)"}, default="D(R(x))"
    noise : float > 0, default=1.0
        Standard deviation of the noise in units of that of the training data (of all values together).
    stop_at : float >= 0, default=0.9
        Training ends after the epoch in which the mean of ‖x − R(x̃)‖² is below this share of ‖x − x̃‖²; 0 never.
    refinement_weight : float >= 0, default=10.0
        λ, for errors that are the mean over the values of a sample, as a share of the variance of the data.
    refiner_learning_rate : float, default=1e-4
        ``learning_rate`` is that of D.
    latent_dim : int, default=16
        Of the refiner.
    hidden : sequence of int, default=(64, 32)
        Widths of the hidden layers, for tables.
    width : int, default=16
        Channels after the first convolution, for images.
    epochs, batch_size, n_estimators : 20, 128, 3
        The other parameters, and the meaning of these, are those of ``DeepDetector``.

    Notes
    -----
    The paper trains one network, ``n_estimators=1``. That three are averaged, the correction that R adds to its
    input, and the share ``stop_at`` are ours; so is the logit as a score, which ranks samples as 1 − D does.

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
        """R(x), (n, ...) -> (n, ...): the input and a correction."""
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
    """A generator that stands around the data instead of on them, and the discriminator that sees the fence.

    G minimises the paper's encirclement loss, which wants D(G(z)) = α, the height of the fence, and
    β times its dispersion loss, which keeps G's samples away from their centre μ:

        mean of log|α − D(G(z))|  +  β / mean of ‖G(z) − μ‖

    D minimises the weighted −log D(x) − γ log(1 − D(G(z))), with γ < 1 so that it never gives up real samples for
    the fence that has come close. The score is the logit of 1 − D(x).

    G must start wide: a fence that begins inside of the data never gets out. Its first samples are ``start_width``
    times as wide as the data, in two shapes by turns. One has the covariance of the data: without it D would take a
    sample that keeps the relations between the columns for normal, however far out it is, and rank breast cancer
    backwards. The other has independent columns of the same width: without it D would not know what lies off the
    data's axes. G learns to move both.

    Where D saturates, G has no gradient; in many columns it does so at once, because hardly a sample of a wide G
    looks like the data. A penalty on D's slope (Mescheder et al. 2018, there on the data alone) keeps it from that.
    It is ours; 0 gives the paper's loss.

    Parameters
    ----------
    alpha : float in (0, 1), default=0.5
        D on the fence.
    beta : float >= 0, default=1.0
        Weight of the dispersion, for distances in units of the mean standard deviation of the data.
    gamma : float > 0, default=0.5
        Weight of the generated samples in D's loss.
    start_width : float > 0, default=3.0
        Standard deviation of G's first samples in units of that of the data.
    gradient_penalty : float >= 0, default=0.1
        Weight of the squared slope of D's logit, for inputs in units of their standard deviation.
    generator_learning_rate : float, default=1e-4
        ``learning_rate`` is that of D.
    hidden : sequence of int, default=(64, 32)
        Widths of the hidden layers of D for tables; the first is that of G's one hidden layer.
    width : int, default=16
        Channels after the first convolution of D, for images.
    epochs, batch_size, n_estimators : 10, 128, 3
        The other parameters, and the meaning of these, are those of ``DeepDetector``.

    Notes
    -----
    The paper trains one network, ``n_estimators=1``. That three are averaged, the wide first samples of G and the
    penalty on D's slope are ours. On tables the training of G changes the AUROC by less than the spread over seeds
    (``benchmarks/ablations.py``): D learns from the first samples of G.

    Attributes
    ----------
    network_ : nn.ModuleDict of "generator" and "discriminator" (its output is the logit of D), buffers ``mean``
        (D,), ``scale`` (D,) and ``factor`` (D, D; of the covariance) of G's first samples; D values in a sample
    history_ : with "discrimination" D's mean on the generated samples, "spread" their mean distance from μ

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
        """Encirclement, and β times dispersion of distances in the given unit."""
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
                "give alpha in (0, 1), and the others above 0."
            )
        super()._fit(X, y)


def _spread(samples: Tensor) -> Tensor:
    """Mean distance of the samples from their mean."""
    rows = samples.flatten(1)
    return torch.linalg.vector_norm(rows - rows.mean(0), dim=1).mean()


def _squared_slope(discriminate: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Mean squared length of the gradient of the logit at the points, itself differentiable."""
    points = points.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminate(points).sum(), points, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
