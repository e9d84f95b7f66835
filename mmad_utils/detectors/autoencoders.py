"""Reconstruction-based detectors: the score is the reconstruction error of an autoencoder.

An encoder maps a sample x to a latent code f(x), and a decoder maps the latent code to the reconstruction g(f(x)).
Both are trained on normal samples only. The anomaly score is the squared error ‖x − g(f(x))‖², which is small for
normal samples and larger for most others. The variants prevent the network from learning the identity by different
means: a latent code of few dimensions, noise on the input, or a penalty on the latent code. In
``generative_autoencoders`` the latent codes follow a known distribution. In ``robust_autoencoders`` a separate term
holds the part of the data that the network cannot reconstruct.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from mmad_utils import networks
from mmad_utils.detector import DetectorError
from mmad_utils.training import Adam, DeepDetector, update

__all__ = [
    "AutoEncoder",
    "ContractiveAutoEncoder",
    "DenoisingAutoEncoder",
    "SparseAutoEncoder",
    "StackedDenoisingAutoEncoder",
]


@dataclass(kw_only=True, eq=False, repr=False)
class AutoEncoder(DeepDetector):
    """Reconstructs samples from a latent code of few dimensions; the score is the squared reconstruction error.

    Loss and score are Σ_j (x_j − g(f(x))_j)², summed over all features, or over all pixels and channels.

    Parameters
    ----------
    latent_dim : int or None, default=None
        Length of the latent code. None is the square root of the number of features, rounded up.
    hidden : sequence of int, default=(128, 64)
        Widths of the encoder's hidden layers for tables; the decoder has them in reverse.
    dropout : float in [0, 1), default=0.1
        Share of the hidden units that are set to 0 during training, for tables. Without it the network can use a
        latent dimension for a few extreme training rows.
    network : callable(shape, latent_dim) -> (encoder, decoder), or None, default=None
        Your own pair of modules, for samples of shape (d,) or (C, H, W): ``(n, *shape) -> (n, latent_dim)`` and back.
        None takes those of ``mmad_utils.networks``. A function cannot be written to a file: to save such a detector,
        save ``network_.state_dict()``.

    other parameters
        Those of ``DeepDetector``; the defaults of learning_rate and epochs are 3e-3 and 100.

    Attributes
    ----------
    network_ : torch.nn.ModuleDict with "encoder" and "decoder"; for the others see ``DeepDetector``

    References
    ----------
    G. E. Hinton, R. R. Salakhutdinov (2006), Reducing the dimensionality of data with neural networks, Science.

    Examples
    --------
    >>> import numpy as np
    >>> from mmad_utils import AutoEncoder
    >>> line = np.linspace(-1, 1, 200)[:, None] * [1.0, 2.0, -1.0]
    >>> detector = AutoEncoder(latent_dim=1, epochs=30, random_state=0).fit(line)
    >>> bool(detector.anomaly_score([[1.0, -2.0, -1.0]]) > detector.anomaly_score(line).max())
    True
    """

    sigmoid_code = False  # whether a sigmoid maps the latent code into (0, 1)

    latent_dim: int | None = None
    hidden: Sequence[int] = (128, 64)
    dropout: float = 0.1
    network: Callable[..., tuple[nn.Module, nn.Module]] | None = None
    learning_rate: float = 3e-3
    epochs: int = 100

    def build(self, shape):
        """The encoder and the decoder."""
        encoder, decoder = self._pair(shape, networks.code_length(self.latent_dim, shape))
        encoder = nn.Sequential(encoder, nn.Sigmoid()) if self.sigmoid_code else encoder
        return nn.ModuleDict({"encoder": encoder, "decoder": decoder})

    def corrupt(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """The input of the network for a training batch; in this class the batch itself."""
        return batch

    def code_penalty(self, batch: Tensor, code: Tensor) -> Tensor | float:
        """The penalty that is added to the loss; in this class 0."""
        return 0.0

    def loss(self, batch, generator):
        """Squared error of the reconstruction from the corrupted samples, summed over features, plus the penalty."""
        code = self.network_["encoder"](self.corrupt(batch, generator))
        error = squared_error(self.network_["decoder"](code), batch).flatten(1).sum(1)
        return error.mean() + self.code_penalty(batch, code)

    def reconstruction(self, batch: Tensor) -> Tensor:
        """``(n, *shape) -> (n, *shape)``, the reconstruction g(f(x)) of samples in the network's units."""
        return self.network_["decoder"](self.network_["encoder"](batch))

    def batch_score(self, batch, generator):
        """Squared reconstruction error, summed over features."""
        return squared_error(self.reconstruction(batch), batch).flatten(1).sum(1)

    def batch_map(self, batch, generator):
        """Squared reconstruction error, summed over channels; the sum over the map is the score."""
        return squared_error(self.reconstruction(batch), batch).sum(1)

    def encode(self, X) -> np.ndarray:
        """Latent code of each sample, (n, latent_dim) float64."""
        return self._apply(lambda batch, generator: self.network_["encoder"](batch), X)

    def reconstruct(self, X) -> np.ndarray:
        """Reconstruction of each sample, in the shape and the units of X (images as uint8)."""
        return self._as_input(self._apply(lambda batch, generator: self.reconstruction(batch), X))

    def decode(self, codes) -> np.ndarray:
        """The decoded sample of each latent code, (n, latent_dim) -> shape and units of X (images as uint8)."""
        check_is_fitted(self)
        codes = np.asarray(codes, dtype=np.float64 if len(self.input_shape_) == 1 else np.float32)
        return self._as_input(
            self._apply(lambda batch, generator: self.network_["decoder"](batch), codes, check=False)
        )

    def _pair(self, shape, latent_dim) -> tuple[nn.Module, nn.Module]:
        if self.network is None:
            activation = self._hidden_activation if len(shape) == 1 else nn.LeakyReLU
            return (
                networks.encoder(shape, latent_dim, hidden=self.hidden, activation=activation),
                networks.decoder(shape, latent_dim, hidden=self.hidden[::-1], activation=activation),
            )
        encoder, decoder = self.network(shape, latent_dim)
        with torch.no_grad():
            code = encoder.eval()(torch.zeros(2, *shape))
        if code.shape != (2, latent_dim):
            raise DetectorError(
                f"the encoder of `network` maps samples of shape {tuple(shape)} to latent codes of shape "
                f"{tuple(code.shape[1:])}; expected ({latent_dim},)."
            )
        return encoder.train(), decoder

    def _hidden_activation(self) -> nn.Module:
        return nn.Sequential(nn.LeakyReLU(), nn.Dropout(self.dropout))

    def _apply(self, function, X, check=True) -> np.ndarray:
        check_is_fitted(self)
        if self.n_estimators > 1:
            raise DetectorError(
                f"n_estimators is {self.n_estimators}: each network has its own latent codes; call the method of one "
                "of estimators_."
            )
        return self._batches(function, self._check(X, reset=False) if check else X)

    def _as_input(self, outputs: np.ndarray) -> np.ndarray:
        if outputs.ndim == 2:
            return outputs
        return (255 * outputs.transpose(0, 2, 3, 1)).round().clip(0, 255).astype(np.uint8)


@dataclass(kw_only=True, eq=False, repr=False)
class DenoisingAutoEncoder(AutoEncoder):
    """Reconstructs the clean input from a corrupted one.

    The identity does not minimise this loss, so the latent code may have many dimensions. To remove the noise, the
    network must learn where normal samples lie. For Gaussian noise of small variance s², the optimal g(f(x)) − x is
    s² times the gradient of the log-density of normal samples (Alain and Bengio 2014). It is a step towards normal
    samples, and its squared length is the score.

    Parameters
    ----------
    noise : {"gaussian", "masking"}, default="gaussian"
        "masking" sets each feature or pixel to 0 with probability ``corruption``, independently of the others.
        "gaussian" adds noise of mean 0.
    corruption : float, default=0.3
        For "masking" this probability. For "gaussian" the standard deviation of the noise: in the units of the
        columns, which should be standardised, and for images as a ratio to the standard deviation of all pixels of
        the batch. Samples are not corrupted when they are scored.
    dropout, epochs : 0.0, 50

    other parameters
        Those of ``AutoEncoder``.

    References
    ----------
    P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol (2008), Extracting and composing robust features with
    denoising autoencoders, ICML: section 2.3.
    G. Alain, Y. Bengio (2014), What regularized auto-encoders learn from the data-generating distribution, JMLR 15.
    """

    noise: str = "gaussian"
    corruption: float = 0.3
    dropout: float = 0.0
    epochs: int = 50

    def build(self, shape):
        """As for ``AutoEncoder``."""
        if self.noise not in ("gaussian", "masking"):
            raise DetectorError(f"noise is {self.noise!r}; choose 'gaussian' or 'masking'.")
        if self.corruption < 0 or (self.noise == "masking" and self.corruption >= 1):
            raise DetectorError(
                f"corruption is {self.corruption!r}: give at least 0, and for masking a probability below 1."
            )
        return super().build(shape)

    def corrupt(self, batch, generator):
        """The batch with noise."""
        if self.noise == "masking":
            return batch * (torch.rand(batch.shape, generator=generator) >= self.corruption).to(batch.device)
        scale = self.corruption * (batch.std() if batch.ndim > 2 else 1.0)
        return batch + scale * torch.randn(batch.shape, generator=generator).to(batch.device)


@dataclass(kw_only=True, eq=False, repr=False)
class StackedDenoisingAutoEncoder(DenoisingAutoEncoder):
    """Denoising autoencoders, each trained on the output of the previous one; then all layers are fine-tuned.

    Layer k of the encoder and the corresponding layer of the decoder learn to reconstruct h_{k−1} from a corrupted
    h_{k−1}, where h_{k−1} is the output of the layers below for *clean* samples. Only the input of the layer in
    training is corrupted. In the end all layers are trained together to reconstruct clean samples, without noise.

    Parameters
    ----------
    pretraining_epochs : int, default=10
        For each layer, before the ``epochs`` of fine-tuning. ``epochs=0`` leaves out both and gives the untrained
        network.
    dropout : float, default=0.1

    other parameters
        Those of ``DenoisingAutoEncoder``. Encoder and decoder of your own ``network`` must be ``nn.Sequential`` with
        equally many layers that have weights.

    References
    ----------
    P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol (2010), Stacked denoising autoencoders, JMLR 11:
    section 3.5.
    """

    pretraining_epochs: int = 10
    dropout: float = 0.1

    def loss(self, batch, generator):
        """Loss of fine-tuning: the reconstruction error of clean samples."""
        return self.batch_score(batch, generator).mean()

    def optimise(self, data, generator):
        """Pretrain layer by layer, then fine-tune; the history holds the epochs of the first layer, the second, …"""
        history = [] if self.epochs == 0 else self._pretrain(data, generator)
        return history + super().optimise(data, generator)

    def _pretrain(self, clean, generator):
        history = []
        for layer, mirror in self._levels():
            optimizer = Adam([*layer.parameters(), *mirror.parameters()], lr=self.learning_rate)

            def step(batch, layer=layer, mirror=mirror, optimizer=optimizer):
                reconstructed = mirror(layer(self.corrupt(batch, generator)))
                loss = squared_error(reconstructed, batch).flatten(1).sum(1).mean()
                update(optimizer, loss)
                return {"loss": loss.detach()}

            history += self.run(step, clean, generator, epochs=self.pretraining_epochs)
            with torch.no_grad():
                clean = torch.cat([layer(batch) for batch in clean.split(1024)])
        return history

    def _levels(self) -> list[tuple[nn.Sequential, nn.Sequential]]:
        """Each layer of the encoder with its activation, and the corresponding layer of the decoder."""
        encoder, decoder = self.network_["encoder"], self.network_["decoder"]
        down, up = _layers(encoder), [part[::-1] for part in _layers(decoder[::-1])]
        if len(down) != len(up):
            raise DetectorError(
                f"the encoder has {len(down)} layers with weights and the decoder {len(up)}: give both "
                "the same number of layers."
            )
        return list(zip(down, up))


@dataclass(kw_only=True, eq=False, repr=False)
class SparseAutoEncoder(AutoEncoder):
    """Penalises latent units that are active for many samples, so that the latent code may have many dimensions.

    The latent code is a = sigmoid(f(x)), and p̂_j is the mean activation of unit j over the batch. The loss is

        ‖x − g(a)‖² + λ Σ_j KL(p ‖ p̂_j),    KL(p ‖ q) = p log(p/q) + (1 − p) log((1 − p)/(1 − q)).

    Parameters
    ----------
    latent_dim : int, default=64
    activity : float in (0, 1), default=0.05
        p, the target of the mean activation.
    sparsity_weight : float, default=0.3
        λ. With 0 and a ``weight_decay`` only the squared weights Σ W² are penalised.
    epochs : int, default=50

    other parameters
        Those of ``AutoEncoder``.

    References
    ----------
    A. Ng (2011), Sparse autoencoder, CS294A lecture notes: section 3.
    """

    sigmoid_code = True

    latent_dim: int | None = 64
    activity: float = 0.05
    sparsity_weight: float = 0.3
    epochs: int = 50

    def build(self, shape):
        """As for ``AutoEncoder``."""
        if not 0 < self.activity < 1:
            raise DetectorError(f"activity is {self.activity!r}; give a mean activation in (0, 1).")
        return super().build(shape)

    def code_penalty(self, batch, code):
        """λ Σ_j KL(p ‖ p̂_j), with p̂_j the mean of column j of the latent code, in nats."""
        p, q = self.activity, code.mean(0).clamp(1e-6, 1 - 1e-6)  # the penalty of an inactive unit is finite
        divergence = p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))
        return self.sparsity_weight * divergence.sum()


@dataclass(kw_only=True, eq=False, repr=False)
class ContractiveAutoEncoder(AutoEncoder):
    """Penalises the sensitivity of the latent code to small changes of the input.

    The latent code is a = sigmoid(f(x)), and the loss is ‖x − g(a)‖² + λ ‖J(x)‖²_F with the Jacobian J = ∂a/∂x. The
    reconstruction error keeps the latent code sensitive in the directions in which normal samples vary. The penalty
    reduces its sensitivity in all other directions.

    Parameters
    ----------
    latent_dim : int, default=64
    hidden : sequence of int, default=()
        By default there is no hidden layer, as in the paper: encoder and decoder are one layer with weights W and Wᵀ,
        also for images (as rows of pixels), and the penalty has a closed form. A decoder with separate weights could
        compensate for small weights of the encoder. With hidden layers, or a ``network`` of your own, the exact
        penalty needs one backward pass per latent unit.
    dropout, epochs : 0.0, 50
    contraction : float, default=1.0
        λ.

    other parameters
        Those of ``AutoEncoder``.

    References
    ----------
    S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio (2011), Contractive auto-encoders: explicit invariance
    during feature extraction, ICML: the penalty, and its closed form for sigmoid units.
    """

    sigmoid_code = True

    latent_dim: int | None = 64
    hidden: Sequence[int] = ()
    dropout: float = 0.0
    contraction: float = 1.0
    epochs: int = 50

    def _pair(self, shape, latent_dim):
        if self.network is not None:
            return super()._pair(shape, latent_dim)
        widths = [math.prod(shape), *self.hidden, latent_dim]
        encoder = networks.mlp(widths, self._hidden_activation)
        decoder = (
            networks.mlp(widths[::-1], self._hidden_activation) if self.hidden else _Transposed(encoder[0].weight)
        )
        return nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, shape))

    def code_penalty(self, batch, code):
        """λ times the mean of ‖J(x)‖²_F over the batch."""
        return self.contraction * squared_jacobian_norm(self.network_["encoder"], batch, code).mean()


class _Transposed(nn.Module):
    """A linear layer with the transposed weights of another one, (out, in)."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight
        self.bias = nn.Parameter(torch.zeros(weight.shape[1]))

    def forward(self, code):
        return functional.linear(code, self.weight.T, self.bias)


def squared_jacobian_norm(encoder: nn.Module, batch: Tensor, code: Tensor | None = None) -> Tensor:
    """‖∂a/∂x‖²_F of an encoder at each sample, (n,), differentiable in its weights.

    For one linear layer and a sigmoid it is Σ_j (a_j (1 − a_j))² Σ_i W_ji², which costs no more than the latent code.
    Any other network needs one backward pass per latent unit; its output for a sample must not depend on the rest of
    the batch.

    Parameters
    ----------
    encoder : ``(n, *shape) -> (n, k)``
    batch : ``(n, *shape)``
    code : (n, k), optional
        The encoder's output for the batch, where it was computed before.
    """
    leaves = [module for module in encoder.modules() if not any(True for _ in module.children())]
    match [leaf for leaf in leaves if not isinstance(leaf, nn.Flatten)]:
        case [nn.Linear() as linear, nn.Sigmoid()]:
            code = encoder(batch) if code is None else code
            return (code * (1 - code)).square() @ linear.weight.square().sum(1)
    jacobian = torch.func.jacrev(lambda sample: encoder(sample[None])[0])
    return torch.func.vmap(jacobian, randomness="different")(batch).flatten(1).square().sum(1)


def squared_error(reconstructed: Tensor, batch: Tensor) -> Tensor:
    """Squared error of each entry, ``(n, *shape)``; an error where the decoder of a caller gives another shape."""
    if reconstructed.shape != batch.shape:
        raise DetectorError(
            f"the decoder gives samples of shape {tuple(reconstructed.shape[1:])} for inputs of "
            f"{tuple(batch.shape[1:])}; give a decoder whose output has the shape of the input."
        )
    return (reconstructed - batch).square()


def _layers(network: Sequence[nn.Module]) -> list[nn.Sequential]:
    """A sequence of modules split before each module that has weights."""
    starts = [i for i, module in enumerate(network) if any(True for _ in module.parameters())]
    return [nn.Sequential(*network[start:end]) for start, end in zip(starts, [*starts[1:], len(network)])]
