"""Detectors that learn to copy normal samples, and distrust what they cannot copy.

An encoder maps a sample x to a code f(x), a decoder maps the code back to g(f(x)). Trained on normal samples only,
the pair copies them well and other samples badly: the squared error ‖x − g(f(x))‖² is the anomaly score. The
variants differ in what keeps the pair from learning to copy everything: a narrow code, noise on the input, a penalty
on the code; in ``generative_autoencoders`` a distribution of codes; in ``robust_autoencoders`` a second place for
what does not fit.
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
    """Copies samples through a narrow code; the score is the squared error of the copy.

    Loss and score are Σ_j (x_j − g(f(x))_j)², over all features, or all pixels and channels.

    Parameters
    ----------
    latent_dim : int or None, default=None
        Length of the code. None is the square root of the number of features, rounded up.
    hidden : sequence of int, default=(128, 64)
        Widths of the encoder's hidden layers for tables; the decoder has them in reverse.
    dropout : float in [0, 1), default=0.1
        Of the hidden units of tables, in training: it keeps a few extreme training rows from a code of their own.
    network : callable(shape, latent_dim) -> (encoder, decoder), or None, default=None
        Your own pair of modules, for samples of shape (d,) or (C, H, W): ``(n, *shape) -> (n, latent_dim)`` and back.
        None takes those of ``mmad_utils.networks``. A function cannot be written to a file: to keep such a detector,
        keep ``network_.state_dict()``.

    The other parameters are those of ``DeepDetector``; the defaults of learning_rate and epochs are 3e-3 and 100.

    Attributes
    ----------
    network_ : torch.nn.ModuleDict with "encoder" and "decoder"; for the others see ``DeepDetector``

    References
    ----------
    G. E. Hinton, R. R. Salakhutdinov (2006), Reducing the dimensionality of data with neural networks, Science.

    Examples
    --------
    >>> import numpy as np
    >>> line = np.linspace(-1, 1, 200)[:, None] * [1.0, 2.0, -1.0]
    >>> detector = AutoEncoder(latent_dim=1, epochs=30, random_state=0).fit(line)
    >>> bool(detector.anomaly_score([[1.0, -2.0, -1.0]]) > detector.anomaly_score(line).max())
    True
    """

    sigmoid_code = False  # whether codes are squashed into (0, 1)

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
        """What the network sees of a batch in training; here the batch itself."""
        return batch

    def code_penalty(self, batch: Tensor, code: Tensor) -> Tensor | float:
        """Is added to the loss; here nothing."""
        return 0.0

    def loss(self, batch, generator):
        """Mean squared error of the copies of the corrupted samples, summed over features, plus the penalty."""
        code = self.network_["encoder"](self.corrupt(batch, generator))
        error = squared_error(self.network_["decoder"](code), batch).flatten(1).sum(1)
        return error.mean() + self.code_penalty(batch, code)

    def reconstruction(self, batch: Tensor) -> Tensor:
        """``(n, *shape) -> (n, *shape)``, the reconstruction g(f(x)) of samples in the network's units."""
        return self.network_["decoder"](self.network_["encoder"](batch))

    def batch_score(self, batch, generator):
        """Squared error of the copy, summed over features."""
        return squared_error(self.reconstruction(batch), batch).flatten(1).sum(1)

    def batch_map(self, batch, generator):
        """Squared error of the copy, summed over channels; its sum is the score."""
        return squared_error(self.reconstruction(batch), batch).sum(1)

    def encode(self, X) -> np.ndarray:
        """Code of each sample, (n, latent_dim) float64."""
        return self._apply(lambda batch, generator: self.network_["encoder"](batch), X)

    def reconstruct(self, X) -> np.ndarray:
        """Copy of each sample, in the shape and the units of X (images as uint8)."""
        return self._as_input(self._apply(lambda batch, generator: self.reconstruction(batch), X))

    def decode(self, codes) -> np.ndarray:
        """The sample of each code, (n, latent_dim) -> in the shape and the units of X (images as uint8)."""
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
                f"the encoder of `network` maps samples of shape {tuple(shape)} to codes of shape "
                f"{tuple(code.shape[1:])}; expected ({latent_dim},)."
            )
        return encoder.train(), decoder

    def _hidden_activation(self) -> nn.Module:
        return nn.Sequential(nn.LeakyReLU(), nn.Dropout(self.dropout))

    def _apply(self, function, X, check=True) -> np.ndarray:
        check_is_fitted(self)
        if self.n_estimators > 1:
            raise DetectorError("several networks share no code: ask one of estimators_.")
        return self._batches(function, self._check(X, reset=False) if check else X)

    def _as_input(self, outputs: np.ndarray) -> np.ndarray:
        if outputs.ndim == 2:
            return outputs
        return (255 * outputs.transpose(0, 2, 3, 1)).round().clip(0, 255).astype(np.uint8)


@dataclass(kw_only=True, eq=False, repr=False)
class DenoisingAutoEncoder(AutoEncoder):
    """Sees a corrupted sample and must give back the clean one.

    Copying the input no longer helps, so the code may even be wide: to undo the noise, the network must know where
    normal samples lie. For Gaussian noise of small variance s², the best g(f(x)) − x is s² times the gradient of the
    log-density of normal samples (Alain and Bengio 2014): a step back to them, whose squared length is the score.

    Parameters
    ----------
    noise : {"gaussian", "masking"}, default="gaussian"
        "masking" sets each feature or pixel to 0 with probability ``corruption``, independently: a binomial number of
        them. "gaussian" adds noise of mean 0.
    corruption : float, default=0.3
        That probability; or the noise's standard deviation, for columns, which should be standardised, and for images
        its ratio to the standard deviation of all pixels of the batch. Scoring corrupts nothing.
    dropout, epochs : 0.0, 50

    The other parameters are those of ``AutoEncoder``.

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
    """Denoising autoencoders, each trained on the codes of the one below; then the whole stack is fine-tuned.

    Layer k and its mirror image in the decoder learn to give back h_{k−1}, the output of the layers below for *clean*
    samples, from a corrupted h_{k−1}. Only the layer in training sees noise. In the end all layers are trained
    together to copy clean samples, without noise.

    Parameters
    ----------
    pretraining_epochs : int, default=10
        For each layer, before the ``epochs`` of fine-tuning. ``epochs=0`` leaves out both: the untrained control.
    dropout : float, default=0.1

    The other parameters are those of ``DenoisingAutoEncoder``. Encoder and decoder of your own ``network`` must be
    ``nn.Sequential`` with equally many layers that have weights.

    References
    ----------
    P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol (2010), Stacked denoising autoencoders, JMLR 11:
    section 3.5.
    """

    pretraining_epochs: int = 10
    dropout: float = 0.1

    def loss(self, batch, generator):
        """Of fine-tuning: the error for clean samples."""
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
                copy = mirror(layer(self.corrupt(batch, generator)))
                loss = squared_error(copy, batch).flatten(1).sum(1).mean()
                update(optimizer, loss)
                return {"loss": loss.detach()}

            history += self.run(step, clean, generator, epochs=self.pretraining_epochs)
            with torch.no_grad():
                clean = torch.cat([layer(batch) for batch in clean.split(1024)])
        return history

    def _levels(self) -> list[tuple[nn.Sequential, nn.Sequential]]:
        """Each layer of the encoder, its activation after it, with its mirror, the activation before it."""
        encoder, decoder = self.network_["encoder"], self.network_["decoder"]
        down, up = _layers(encoder), [part[::-1] for part in _layers(decoder[::-1])]
        if len(down) != len(up):
            raise DetectorError(
                f"the encoder has {len(down)} layers with weights and the decoder {len(up)}: mirror it."
            )
        return list(zip(down, up))


@dataclass(kw_only=True, eq=False, repr=False)
class SparseAutoEncoder(AutoEncoder):
    """Keeps most code units silent for most samples, so that the code may be wide.

    The code is a = sigmoid(f(x)). With the mean activation p̂_j of unit j over the batch, the loss is
    ‖x − g(a)‖² + λ Σ_j KL(p ‖ p̂_j), where KL(p ‖ q) = p log(p/q) + (1 − p) log((1 − p)/(1 − q)).

    Parameters
    ----------
    latent_dim : int, default=64
    activity : float in (0, 1), default=0.05
        p, the mean activation that is wished for.
    sparsity_weight : float, default=0.3
        λ. With 0 and a ``weight_decay`` this is the simpler form, a penalty on Σ W².
    epochs : int, default=50

    The other parameters are those of ``AutoEncoder``.

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
            raise DetectorError(f"activity is {self.activity!r}; a mean of sigmoids lies in (0, 1).")
        return super().build(shape)

    def code_penalty(self, batch, code):
        """λ Σ_j KL(p ‖ p̂_j), with p̂_j the mean of column j of the code, in nats."""
        p, q = self.activity, code.mean(0).clamp(1e-6, 1 - 1e-6)  # a silent unit must cost much, not infinitely much
        divergence = p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))
        return self.sparsity_weight * divergence.sum()


@dataclass(kw_only=True, eq=False, repr=False)
class ContractiveAutoEncoder(AutoEncoder):
    """Makes the code insensitive to small changes of the input.

    The code is a = sigmoid(f(x)), and the loss ‖x − g(a)‖² + λ ‖J(x)‖²_F with the Jacobian J = ∂a/∂x. The copy asks
    for sensitivity in the directions in which normal samples vary, the penalty allows it in no other.

    Parameters
    ----------
    latent_dim : int, default=64
    hidden : sequence of int, default=()
        None, as in the paper: encoder and decoder are one layer with weights W and Wᵀ, also for images as rows of
        pixels, and the penalty has a closed form. (A decoder with weights of its own could undo any shrinking of the
        encoder's.) With hidden layers, or a ``network`` of your own, the exact penalty costs a backward pass a unit.
    dropout, epochs : 0.0, 50
    contraction : float, default=1.0
        λ.

    The other parameters are those of ``AutoEncoder``.

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

    For one linear layer and a sigmoid it is Σ_j (a_j (1 − a_j))² Σ_i W_ji², which costs no more than the code. For
    any other network, which must treat each sample alone, it takes one backward pass a code unit.

    Encoder: ``(n, *shape) -> (n, k)``, batch: ``(n, *shape)``, code: its output for the batch, where it is known.
    """
    leaves = [module for module in encoder.modules() if not any(True for _ in module.children())]
    match [leaf for leaf in leaves if not isinstance(leaf, nn.Flatten)]:
        case [nn.Linear() as linear, nn.Sigmoid()]:
            code = encoder(batch) if code is None else code
            return (code * (1 - code)).square() @ linear.weight.square().sum(1)
    jacobian = torch.func.jacrev(lambda sample: encoder(sample[None])[0])
    return torch.func.vmap(jacobian, randomness="different")(batch).flatten(1).square().sum(1)


def squared_error(copy: Tensor, batch: Tensor) -> Tensor:
    """Of each entry, ``(n, *shape)``; the shapes are compared, for the decoder may be a caller's."""
    if copy.shape != batch.shape:
        raise DetectorError(
            f"the decoder gives samples of shape {tuple(copy.shape[1:])} for inputs of {tuple(batch.shape[1:])}."
        )
    return (copy - batch).square()


def _layers(network: Sequence[nn.Module]) -> list[nn.Sequential]:
    """A sequence of modules cut before each that has weights."""
    starts = [i for i, module in enumerate(network) if any(True for _ in module.parameters())]
    return [nn.Sequential(*network[start:end]) for start, end in zip(starts, [*starts[1:], len(network)])]
