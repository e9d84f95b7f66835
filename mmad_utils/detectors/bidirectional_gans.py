"""Adversarial detectors whose encoder is trained against the critic: BiGAN and GANomaly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mmad_utils.detectors.gans import OPTIMIZERS, AdversarialDetector, GenerativeDetector, LeakyReLU, critic_loss
from mmad_utils.networks import encoder, mlp
from mmad_utils.training import update

__all__ = ["BiGAN", "GANomaly", "JointCritic"]


class JointCritic(nn.Module):
    """The critic of pairs of a sample and its latent code: (n, ...) and (n, latent_dim) -> (n, 1)."""

    def __init__(self, of_sample: nn.Module, top: nn.Sequential):
        super().__init__()
        self.of_sample = of_sample
        self.top = top

    def features(self, sample: Tensor, codes: Tensor) -> Tensor:
        """The last hidden layer."""
        return self.top[:-1](torch.cat([self.of_sample(sample), codes], 1))

    def forward(self, sample: Tensor, codes: Tensor) -> Tensor:
        return self.top[-1](self.features(sample, codes))


@dataclass(kw_only=True, eq=False, repr=False)
class BiGAN(AdversarialDetector):
    """Trains a generator and an encoder against one critic (Donahue et al. 2017; Dumoulin et al. 2017 as ALI).

    The critic sees pairs: samples with their latent codes, (x, E(x)), or latent codes with their samples, (G(z), z).
    Encoder and generator are trained to make both kinds of pairs indistinguishable. At the optimum the encoder
    inverts the generator (Donahue et al., theorem 2), though no term of the loss compares x with G(E(x)).

    The score is that of Zenati et al. (2018), eq. 2: A = (1 − λ) Σ|x − G(E(x))| + λ Σ|f(x, E(x)) − f(G(E(x)), E(x))|,
    with the critic's last hidden layer as f.

    Parameters
    ----------
    feature_weight : float in [0, 1], default=0.0
        λ. With 0 the score is the reconstruction error alone.

    Other parameters are those of AdversarialDetector, GenerativeDetector and DeepDetector, with the defaults
    latent_dim=None, n_critic=1, averaging=0.995 and min_steps=4000. ``latent_dim`` should not exceed the dimension of
    the samples: a deterministic encoder cannot fill a space larger than theirs, and the critic would always know
    which latent codes were encoded.

    Notes
    -----
    One step of the critic for each step of the generator and the encoder is the papers' choice. Four things are not.
    The loss is the Wasserstein loss with a gradient penalty (the papers use the original loss). The weights are a
    moving average (the papers score with the last weights). The default of latent_dim is None. The default of
    feature_weight is 0, which was ahead of 0.1 on the tables on which defaults are chosen
    (``benchmarks/choices.py``). The papers' version is
    ``BiGAN(adversarial="gan", averaging=0, feature_weight=0.1)``.

    References
    ----------
    J. Donahue, P. Krähenbühl, T. Darrell (2017), Adversarial feature learning, ICLR.
    V. Dumoulin et al. (2017), Adversarially learned inference, ICLR.
    H. Zenati, C. S. Foo, B. Lecouat, G. Manek, V. R. Chandrasekhar (2018), Efficient GAN-based anomaly detection.
    """

    feature_weight: float = 0.0
    latent_dim: int | None = None
    n_critic: int = 1
    averaging: float = 0.995
    min_steps: int = 4000

    def build(self, shape):
        networks = super().build(shape)
        networks["encoder"] = self.build_encoder(shape)
        return networks

    def build_critic(self, shape):
        length, wide = self._code_length(shape), self.hidden[-1]
        if len(shape) == 1:
            return JointCritic(nn.Identity(), mlp([shape[0] + length, *self.hidden, 1], LeakyReLU))
        of_sample = encoder(shape, wide, width=self.width, activation=LeakyReLU).append(LeakyReLU())
        return JointCritic(of_sample, mlp([wide + length, wide, 1], LeakyReLU))

    def real(self, batch):
        return batch, self.network_["encoder"](batch)

    def fake(self, codes):
        return self.network_["generator"](codes), codes

    def adversaries(self):
        return nn.ModuleList([self.network_["generator"], self.network_["encoder"]])

    def codes(self, batch):
        return self.network_["encoder"](batch)

    def parts(self, batch, codes):
        made, features = self.network_["generator"](codes), self.network_["critic"].features
        return (batch - made).abs().flatten(1).sum(1), (features(batch, codes) - features(made, codes)).abs().sum(1)

    def batch_score(self, batch, generator):
        residual, feature = self.parts(batch, self.codes(batch))
        return (1 - self.feature_weight) * residual + self.feature_weight * feature

    def batch_map(self, batch, generator):
        return (batch - self.network_["generator"](self.codes(batch))).abs().sum(1)


@dataclass(kw_only=True, eq=False, repr=False)
class GANomaly(GenerativeDetector):
    """Encodes, decodes and encodes again; the score compares both latent codes (Akcay et al. 2018).

    The score is A = ‖G_E(x) − E(G(x))‖₁ (eq. 6), where G_E and E are the two encoders and G(x) the decoded G_E(x).
    Encoders and decoder minimise (eq. 5) the weighted sum of three losses, each a mean over its elements:
    adversarial, the squared difference of the critic's features of x and G(x) (eq. 1); contextual, ``|x − G(x)|``
    (eq. 2); encoding, the squared difference of the two latent codes (eq. 3). The critic minimises the loss of the
    original GAN.

    Parameters
    ----------
    adversarial_weight, contextual_weight, encoding_weight : float, default=1, 50 and 1
        As in the paper.

    Other parameters are those of GenerativeDetector and DeepDetector; the default of latent_dim is 32, of
    n_estimators 3.

    Notes
    -----
    The paper trains one network, ``n_estimators=1``; that three are averaged is ours. On the table of notebook 04b
    the second latent code gives a worse score than the residual ``Σ|x − G(x)|`` of the same networks, and the
    adversarial loss changes nothing (``benchmarks/ablations.py``).

    References
    ----------
    S. Akcay, A. Atapour-Abarghouei, T. P. Breckon (2018), GANomaly: Semi-supervised anomaly detection via adversarial
    training, ACCV.
    """

    latent_dim: int | None = 32
    adversarial_weight: float = 1.0
    contextual_weight: float = 50.0
    encoding_weight: float = 1.0
    n_estimators: int = 3

    def build(self, shape):
        adversaries = {
            "encoder": self.build_encoder(shape),
            "decoder": self.build_generator(shape),
            "second_encoder": self.build_encoder(shape),
        }
        return nn.ModuleDict({"players": nn.ModuleDict(adversaries), "critic": self.build_critic(shape)})

    def cycle(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First latent code, (n, latent_dim), decoded sample, (n, ...), second latent code, (n, latent_dim)."""
        adversaries = self.network_["players"]
        first = adversaries["encoder"](batch)
        made = adversaries["decoder"](first)
        return first, made, adversaries["second_encoder"](made)

    def optimise(self, data, generator):
        critic, adversaries = self.network_["critic"], self.network_["players"]
        optimizer = partial(OPTIMIZERS["gan"], lr=self.learning_rate)
        to_adversaries, to_critic = optimizer(adversaries.parameters()), optimizer(critic.parameters())

        def step(batch):
            first, made, second = self.cycle(batch)
            adversarial = (critic[:-1](batch).detach() - critic[:-1](made)).square().mean()
            contextual, encoding = (batch - made).abs().mean(), (first - second).square().mean()
            loss = (
                self.adversarial_weight * adversarial
                + self.contextual_weight * contextual
                + self.encoding_weight * encoding
            )
            update(to_adversaries, loss)
            loss_of_critic = critic_loss("gan", critic(batch), critic(made.detach()))
            update(to_critic, loss_of_critic)
            record = {"loss": loss, "adversarial": adversarial, "contextual": contextual, "encoding": encoding}
            return {key: value.detach() for key, value in (record | {"critic": loss_of_critic}).items()}

        return self.run(step, data, generator)

    def batch_score(self, batch, generator):
        first, _, second = self.cycle(batch)
        return (first - second).abs().sum(1)

    def batch_map(self, batch, generator):
        return (batch - self.cycle(batch)[1]).abs().sum(1)
