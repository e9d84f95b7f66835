"""Detectors based on generative adversarial networks: the score is the difference to the nearest generated sample.

``AdversarialDetector`` trains generator and critic with one of three losses. AnoGAN and f-AnoGAN add the latent code
for which the generated sample is nearest to a given sample. AnoGAN finds it by an optimisation for every sample,
f-AnoGAN by an encoder that is trained once. BiGAN and GANomaly, whose encoders are trained against the critic, are
in ``bidirectional_gans``.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmad_utils.detector import DetectorError
from mmad_utils.networks import code_length, decoder, encoder
from mmad_utils.training import DeepDetector, limited_threads, update

__all__ = ["AdversarialDetector", "AnoGAN", "FAnoGAN", "GenerativeDetector", "critic_loss", "gradient_penalty"]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "gan": partial(torch.optim.Adam, betas=(0.5, 0.999), fused=True),  # Radford et al. 2016
    "wgan": torch.optim.RMSprop,  # Arjovsky et al. 2017: momentum makes a clipped critic unstable
    "wgan-gp": partial(torch.optim.Adam, betas=(0.0, 0.9), fused=True),  # Gulrajani et al. 2017
}
LeakyReLU = partial(nn.LeakyReLU, 0.2)


def critic_loss(adversarial: str, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the critic from its outputs for real and for generated samples, (n, 1) each.

    For the original GAN the outputs are logits: −log σ(real) − log(1 − σ(fake)). Both Wasserstein versions use the
    outputs directly: mean(fake) − mean(real), an estimate of the negative distance between the two distributions.

    With real and fake exchanged it is the loss of the generator, and of an encoder that is trained with it. In the
    original GAN this is the non-saturating loss −log σ(fake) plus a term of the real samples. The second term is
    constant if only a generator is trained.
    """
    if adversarial == "gan":
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()
    return fake.mean() - real.mean()


def gradient_penalty(
    critic: Callable[..., Tensor], real: Sequence[Tensor], fake: Sequence[Tensor], generator: torch.Generator
) -> Tensor:
    """Mean of (‖∇ critic‖₂ − 1)² at random points between real and generated samples (Gulrajani et al. 2017, eq. 3).

    Parameters
    ----------
    critic : ``callable(*inputs) -> (n, 1)``
    real, fake : sequences of tensors (n, ...), the inputs of the critic; the norm is over all of them together
    generator : torch.Generator, draws one point between each pair of samples
    """
    share = torch.rand(len(real[0]), generator=generator).to(real[0])
    between = [
        torch.lerp(f.detach(), r.detach(), share.view(-1, *[1] * (r.ndim - 1))).requires_grad_()
        for r, f in zip(real, fake)
    ]
    gradients = torch.autograd.grad(critic(*between).sum(), between, create_graph=True)
    square = torch.cat([gradient.flatten(1) for gradient in gradients], 1).square().sum(1)
    return (square.add(1e-12).sqrt() - 1).square().mean()  # the square root has no gradient at 0


def generator_network(shape: Sequence[int], latent_dim: int, *, hidden: Sequence[int], width: int) -> nn.Sequential:
    """The generator, from latent codes to samples: ``networks.decoder`` with the last layer and initial weights set.

    For images the last layer is a sigmoid, because pixels lie in [0, 1]. For tables, whose columns have variance 1,
    the layers are initialised so that the variance of the latent codes is preserved (He et al. 2015). PyTorch's
    default initialisation reduces the variance in every layer, and all samples of an untrained generator would lie
    near one point.
    """
    network = decoder(shape, latent_dim, hidden=tuple(hidden)[::-1], width=width, activation=LeakyReLU)
    if len(shape) > 1:
        return network.append(nn.Sigmoid())
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, 0.2)
            nn.init.zeros_(layer.bias)
    return network


@dataclass(kw_only=True, eq=False, repr=False)
class GenerativeDetector(DeepDetector):
    """Base class of the detectors with a generator: the networks and the least number of training steps.

    Parameters
    ----------
    latent_dim : int or None, default=16
        Length of a latent code. None is the square root of the number of features, rounded up, at most 32.
    hidden : sequence of int, default=(128, 128)
        Widths of the hidden layers of critics and encoders, for tables. Generators have them in reverse.
    width : int, default=32
        Channels after the first convolution, for images.
    min_steps : int, default=1500
        Least number of batches. Adversarial training needs many steps also on few samples, so ``epochs`` is increased
        until there are this many batches. ``epochs=0`` is not changed.
    """

    latent_dim: int | None = 16
    hidden: Sequence[int] = (128, 128)
    width: int = 32
    min_steps: int = 1500
    epochs: int = 40

    def build_generator(self, shape) -> nn.Module:
        """The network from latent codes to samples."""
        return generator_network(shape, self._code_length(shape), hidden=self.hidden, width=self.width)

    def build_encoder(self, shape) -> nn.Module:
        """The network from samples to latent codes."""
        return encoder(shape, self._code_length(shape), hidden=self.hidden, width=self.width, activation=LeakyReLU)

    def build_critic(self, shape) -> nn.Module:
        """The network from a sample to one number."""
        return encoder(shape, 1, hidden=self.hidden, width=self.width, activation=LeakyReLU)

    def _code_length(self, shape) -> int:
        return code_length(self.latent_dim, shape, most=32)

    def run(self, step, data, generator, **options):
        return super().run(step, data, generator, min_steps=self.min_steps, **options)


@dataclass(kw_only=True, eq=False, repr=False)
class AdversarialDetector(GenerativeDetector):
    """Base class of the detectors that train a generator, from random latent codes to samples, against a critic.

    A subclass defines ``codes`` and ``parts``, and ``batch_score`` combines the parts. ``network_`` holds two
    networks: "generator", from latent codes to samples, and "critic", from a sample to one number. The last hidden
    layer of the critic gives the features.

    Parameters
    ----------
    adversarial : {"gan", "wgan", "wgan-gp"}, default="wgan-gp"
        The original GAN (Goodfellow et al. 2014) with the non-saturating loss of the generator; the Wasserstein GAN
        with clipped weights (Arjovsky et al. 2017: no sigmoid, no logarithm, RMSProp); the same with a gradient
        penalty instead of the clipping (Gulrajani et al. 2017). Each has its own optimiser.
    n_critic : int, default=5
        Number of batches on which the critic is trained for each one on which the generator is trained.
    penalty : float, default=10
        Weight of the gradient penalty of "wgan-gp".
    clip : float, default=0.01
        Largest absolute weight of the critic of "wgan".
    averaging : float in [0, 1), default=0
        Decay of a moving average of the weights of `adversaries`, updated at each of their steps. The scores use the
        averaged weights. In adversarial training the weights move around the equilibrium, and their average is nearer
        to it than the last weights (Yazıcı et al. 2019). 0 keeps the last weights.

    References
    ----------
    Y. Yazıcı, C.-S. Foo, S. Winkler, K.-H. Yap, G. Piliouras, V. Chandrasekhar (2019), The unusual effectiveness of
    averaging in GAN training, ICLR.
    """

    adversarial: str = "wgan-gp"
    n_critic: int = 5
    penalty: float = 10.0
    clip: float = 0.01
    averaging: float = 0.0

    def build(self, shape):
        self._choice("adversarial", OPTIMIZERS)
        if self.n_critic < 1:
            raise DetectorError(f"n_critic is {self.n_critic!r}; give at least 1.")
        if not 0 <= self.averaging < 1:
            raise DetectorError(f"averaging is {self.averaging!r}; give a decay of at least 0 and below 1.")
        return nn.ModuleDict({"generator": self.build_generator(shape), "critic": self.build_critic(shape)})

    def _choice(self, name: str, known: Iterable[str]) -> None:
        if getattr(self, name) not in known:
            raise DetectorError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(known)}.")

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """A latent code for each row of the batch, (n, latent_dim), from the standard normal distribution."""
        return torch.randn(len(batch), self._code_length(batch.shape[1:]), generator=generator).to(batch)

    def real(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the critic for real samples."""
        return (batch,)

    def fake(self, codes: Tensor) -> tuple[Tensor, ...]:
        """The inputs of the critic for generated samples."""
        return (self.network_["generator"](codes),)

    def adversaries(self) -> nn.Module:
        """The networks that are trained against the critic."""
        return self.network_["generator"]

    def optimise(self, data, generator):
        critic, adversaries = self.network_["critic"], self.adversaries()
        to_critic = OPTIMIZERS[self.adversarial](critic.parameters(), lr=self.learning_rate)
        to_adversaries = OPTIMIZERS[self.adversarial](adversaries.parameters(), lr=self.learning_rate)
        average = AveragedModel(adversaries, multi_avg_fn=get_ema_multi_avg_fn(self.averaging))
        steps, record = count(1), {"critic": data.new_zeros(()), "generator": data.new_zeros(())}

        def step(batch):
            with torch.no_grad():
                real, fake = self.real(batch), self.fake(self.draw(batch, generator))
            loss = critic_loss(self.adversarial, *critic(*map(torch.cat, zip(real, fake))).chunk(2))
            record["critic"] = loss.detach()
            if self.adversarial == "wgan-gp":
                loss = loss + self.penalty * gradient_penalty(critic, real, fake, generator)
            update(to_critic, loss)
            if self.adversarial == "wgan":
                with torch.no_grad():
                    for weights in critic.parameters():
                        weights.clamp_(-self.clip, self.clip)
            if next(steps) % self.n_critic == 0:
                critic.requires_grad_(False)
                real, fake = self.real(batch), self.fake(self.draw(batch, generator))
                loss = critic_loss(self.adversarial, critic(*fake), critic(*real))
                update(to_adversaries, loss)
                average.update_parameters(adversaries)
                critic.requires_grad_(True)
                record["generator"] = loss.detach()
            return record

        history = self.run(step, data, generator)
        adversaries.load_state_dict(average.module.state_dict())
        return history

    @abc.abstractmethod
    def codes(self, batch: Tensor) -> Tensor:
        """Latent codes whose generated samples are near to the given ones, (n, ...) -> (n, latent_dim)."""

    @abc.abstractmethod
    def parts(self, batch: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of generated to real samples in the values and in the critic's features, (n,) each."""

    def encode(self, X) -> np.ndarray:
        """The latent code of each sample, (n, latent_dim) float64."""
        check_is_fitted(self, "network_")
        return self._batches(lambda batch, generator: self.codes(batch), self._check(X, reset=False))

    def generate(self, codes) -> np.ndarray:
        """The samples generated from latent codes, (n, latent_dim): (n, d) float64, or (n, H, W, C) in [0, 1]."""
        check_is_fitted(self, "network_")
        generator = self.network_["generator"]
        with torch.no_grad():
            made = generator(torch.as_tensor(np.asarray(codes)).to(next(generator.parameters())))
        return (made if made.ndim == 2 else made.permute(0, 2, 3, 1)).double().cpu().numpy()


@dataclass(kw_only=True, eq=False, repr=False)
class AnoGAN(AdversarialDetector):
    """Optimises, for each sample, the latent code whose generated sample is nearest to it (Schlegl et al. 2017).

    The score is the final loss of this search, A = (1 − λ) R + λ D (eq. 6). R = Σ|x − G(z)| is the residual loss
    (eq. 3) and D = Σ|f(x) − f(G(z))| the discrimination loss (eq. 5), with the critic's last hidden layer as f. The
    optimiser is Adam, whose step size decreases to 0 on a cosine schedule. Every search starts from the same few
    latent codes and keeps the best result, so a score does not depend on the other rows.

    The search is limited to the region in which the generator was trained. For latent codes far from all that were
    drawn in training, the generator produces anomalies too. Without the limit, the residuals of anomalies become
    smaller with every step of the search.

    Parameters
    ----------
    feature_weight : float in [0, 1], default=0.1
        λ.
    n_steps : int, default=200
        Steps of a search.
    n_starts : int, default=1
        Number of initial latent codes.
    search_rate : float, default=0.1
        Initial learning rate of Adam for z.
    radius : float or None, default=1
        Largest norm of a latent code, in units of √latent_dim, the typical norm of a random one. None sets no limit.
        For a latent_dim of 1 or 2 norms vary more, and 2 is a better value.

    Other parameters are those of AdversarialDetector, GenerativeDetector and DeepDetector. The paper trains the
    original GAN and does not bound the search, ``adversarial="gan", radius=None``; the default loss is that of the
    "iterative" baseline in the paper of f-AnoGAN.

    References
    ----------
    T. Schlegl, P. Seeböck, S. M. Waldstein, U. Schmidt-Erfurth, G. Langs (2017), Unsupervised anomaly detection with
    generative adversarial networks to guide marker discovery, IPMI.
    """

    feature_weight: float = 0.1
    n_steps: int = 200
    n_starts: int = 1
    search_rate: float = 0.1
    radius: float | None = 1.0

    def build(self, shape):
        if self.n_starts < 1:
            raise DetectorError(f"n_starts is {self.n_starts!r}; give at least 1.")
        if self.radius is not None and self.radius <= 0:
            raise DetectorError(f"radius is {self.radius!r}; give a positive number, or None for no limit.")
        networks = super().build(shape)
        networks.register_buffer("starts", torch.randn(self.n_starts, self._code_length(shape)))
        return networks

    def parts(self, batch, codes):
        return self._parts(batch, self.network_["critic"][:-1](batch), codes)

    def _parts(self, batch: Tensor, features: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Residual and discrimination loss, with the critic's features of the batch, which a search computes once."""
        made = self.network_["generator"](codes)
        difference = features - self.network_["critic"][:-1](made)
        return (batch - made).abs().flatten(1).sum(1), difference.abs().sum(1)

    def _loss(self, parts: tuple[Tensor, Tensor]) -> Tensor:
        residual, discrimination = parts
        return (1 - self.feature_weight) * residual + self.feature_weight * discrimination

    def codes(self, batch):
        with limited_threads(self.network_, self.batch_size, batch.shape[1:]):  # many small steps, as in training
            ends = torch.stack([self._search(batch, start) for start in self.network_.starts])
        losses = torch.stack([self._loss(self.parts(batch, codes)) for codes in ends])
        return ends[losses.argmin(0), torch.arange(len(batch))]

    @torch.enable_grad()
    def _search(self, batch: Tensor, start: Tensor) -> Tensor:
        codes = start.to(batch).expand(len(batch), -1).clone().requires_grad_()
        optimizer = torch.optim.Adam([codes], lr=self.search_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(self.n_steps, 1))
        with torch.no_grad():
            features = self.network_["critic"][:-1](batch)
        for _ in range(self.n_steps):
            (codes.grad,) = torch.autograd.grad(self._loss(self._parts(batch, features, codes)).sum(), codes)
            optimizer.step()
            schedule.step()
            if self.radius is not None:
                codes.detach().renorm_(2, 0, self.radius * math.sqrt(len(start)))
        return codes.detach()

    def batch_score(self, batch, generator):
        return self._loss(self.parts(batch, self.codes(batch)))

    def batch_map(self, batch, generator):
        return (batch - self.network_["generator"](self.codes(batch))).abs().sum(1)


@dataclass(kw_only=True, eq=False, repr=False)
class FAnoGAN(AdversarialDetector):
    """Trains a GAN, then an encoder for the frozen generator (f-AnoGAN, Schlegl et al. 2019).

    The score is A = R + κ D (eq. 4). R is the mean square of the residual x − G(E(x)), and D the mean square of the
    difference of the critic's features f.

    Parameters
    ----------
    mapping : {"izi_f", "izi", "ziz"}, default="izi_f"
        Loss of the encoder. "izi" (image to z to image, eq. 2): R of the training samples. "izi_f" (eq. 3): R + κ D.
        "ziz" (eq. 1): the squared difference of E(G(z)) and z for random z, without training samples.
    kappa : float, default=1
        κ.

    Other parameters are those of AdversarialDetector, GenerativeDetector and DeepDetector. ``epochs`` and
    ``min_steps`` apply to the GAN and to the encoder separately.

    References
    ----------
    T. Schlegl, P. Seeböck, S. M. Waldstein, G. Langs, U. Schmidt-Erfurth (2019), f-AnoGAN: Fast unsupervised anomaly
    detection with generative adversarial networks, Medical Image Analysis 54.
    """

    mapping: str = "izi_f"
    kappa: float = 1.0

    def build(self, shape):
        self._choice("mapping", ("izi_f", "izi", "ziz"))
        networks = super().build(shape)
        networks["encoder"] = self.build_encoder(shape)
        return networks

    def optimise(self, data, generator):
        history = super().optimise(data, generator)
        generate, encode = self.network_["generator"].requires_grad_(False), self.network_["encoder"]
        self.network_["critic"].requires_grad_(False)
        optimizer = torch.optim.Adam(encode.parameters(), lr=self.learning_rate, fused=True)

        def step(batch):
            if self.mapping == "ziz":
                codes = self.draw(batch, generator)
                loss = (encode(generate(codes)) - codes).square().mean()
            else:
                residual, feature = self.parts(batch, encode(batch))
                loss = (residual + self.kappa * feature if self.mapping == "izi_f" else residual).mean()
            update(optimizer, loss)
            return {"encoder": loss.detach()}

        return history + self.run(step, data, generator)

    def codes(self, batch):
        return self.network_["encoder"](batch)

    def parts(self, batch, codes):
        made, features = self.network_["generator"](codes), self.network_["critic"][:-1]
        residual, feature = batch - made, features(batch) - features(made)
        return residual.square().flatten(1).mean(1), feature.square().mean(1)

    def batch_score(self, batch, generator):
        residual, feature = self.parts(batch, self.codes(batch))
        return residual + self.kappa * feature

    def batch_map(self, batch, generator):
        return (batch - self.network_["generator"](self.codes(batch))).square().mean(1)
