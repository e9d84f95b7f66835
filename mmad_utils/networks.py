"""Small networks of the deep detectors: a perceptron for tables, strided convolutions for small images.

``encoder`` and ``decoder`` choose between the two by the shape of one sample, (d,) or (C, H, W). To use another
network, override the method ``build`` of a detector.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from mmad_utils.detector import DetectorError

__all__ = ["AttentionLayer", "code_length", "decoder", "encoder", "mlp"]

SMALLEST_GRID = 4  # px a side; images are halved while they are larger and even


def mlp(widths: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU, bias: bool = True) -> nn.Sequential:
    """Linear layers of the given widths, an activation between them and none after the last."""
    layers: list[nn.Module] = []
    for d_in, d_out in pairwise(widths):
        layers += [nn.Linear(d_in, d_out, bias=bias), activation()]
    return nn.Sequential(*layers[:-1])


def code_length(latent_dim: int | None, shape: Sequence[int], most: int = sys.maxsize) -> int:
    """Length of the latent code: ``latent_dim``, or the rounded-up square root of the number of features if None.

    The default is at most ``most``.

    Raises
    ------
    DetectorError
        The length is less than one.
    """
    length = min(math.ceil(math.sqrt(math.prod(shape))), most) if latent_dim is None else latent_dim
    if length < 1:
        raise DetectorError(f"latent_dim is {length!r}: give at least 1, the length of the latent code.")
    return length


class AttentionLayer(nn.Module):
    """Pre-norm transformer layer: attention between tokens, then a perceptron at each token, both residual.

    PyTorch's own layer computes the same but does not return its attention weights.

    Parameters
    ----------
    width : int, length of a token vector; a multiple of ``heads``
    heads : int
    dropout : float in [0, 1)
    """

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, allowed: Tensor | None = None) -> Tensor:
        """(n, p, width) -> (n, p, width); ``allowed`` (n, 1, p, p) bool: True where a token may attend to another."""
        queries, keys, values = self._split(x)
        heads = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
        x = x + self.dropout(self.join(heads.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.perceptron(self.perceptron_norm(x)))

    def weights(self, x: Tensor) -> Tensor:
        """Attention weights of each token (rows) to each token (columns), mean over the heads, (n, p, p)."""
        queries, keys, _ = self._split(x)
        return (queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])).softmax(-1).mean(1)

    def _split(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (3, n, heads, p, width / heads)."""
        n, p, width = x.shape
        parts = self.queries_keys_values(self.attention_norm(x)).view(n, p, 3, self.heads, width // self.heads)
        return parts.permute(2, 0, 3, 1, 4)


def encoder(
    shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (64, 32),
    width: int = 16,
    activation: Callable[[], nn.Module] = nn.LeakyReLU,
    bias: bool = True,
) -> nn.Sequential:
    """Network from samples to latent codes.

    Parameters
    ----------
    shape : (d,) or (C, H, W)
    latent_dim : int
    hidden : widths of the hidden layers, for tables
    width : int
        Channels after the first convolution, for images; they double with each halving of the image.
    activation : callable without arguments
    bias : bool
        If False, no layer has a bias. With biases, a one-class network can map all samples to one point.

    Returns
    -------
    nn.Sequential, ``(n, *shape) -> (n, latent_dim)``; ``network[:-1]``, without the last layer, gives the features.

    Raises
    ------
    DetectorError
        The image cannot be halved: a side is odd, or is at most ``SMALLEST_GRID``.
    """
    if len(shape) == 1:
        return mlp([shape[0], *hidden, latent_dim], activation, bias)
    channels, grid = _channels(shape, width), _grids(shape)[-1]
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise([shape[0], *channels]):
        layers += [nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=bias), activation()]
    last = nn.Linear(channels[-1] * grid[0] * grid[1], latent_dim, bias=bias)
    return nn.Sequential(*layers, nn.Flatten(), last)


def decoder(
    shape: Sequence[int],
    latent_dim: int,
    *,
    hidden: Sequence[int] = (32, 64),
    width: int = 16,
    activation: Callable[[], nn.Module] = nn.LeakyReLU,
) -> nn.Sequential:
    """Network from latent codes to samples, ``(n, latent_dim) -> (n, *shape)``; see ``encoder``.

    There is no activation after the last layer.
    """
    if len(shape) == 1:
        return mlp([latent_dim, *hidden, shape[0]], activation)
    channels, grid = _channels(shape, width)[::-1], _grids(shape)[-1]
    first = nn.Linear(latent_dim, channels[0] * grid[0] * grid[1])
    layers: list[nn.Module] = [first, nn.Unflatten(1, (channels[0], *grid))]
    for c_in, c_out in pairwise([*channels, shape[0]]):
        layers += [activation(), nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _grids(shape: Sequence[int]) -> list[tuple[int, int]]:
    """(H, W) and its repeated halves, until a side is odd or at most ``SMALLEST_GRID``."""
    grids = [(int(shape[1]), int(shape[2]))]
    while all(side % 2 == 0 for side in grids[-1]) and min(grids[-1]) > SMALLEST_GRID:
        grids.append((grids[-1][0] // 2, grids[-1][1] // 2))
    if len(grids) == 1:
        raise DetectorError(
            f"images of {shape[1]}×{shape[2]} cannot be halved: crop or pad them to sides that are even and larger "
            f"than {SMALLEST_GRID}, preferably to a power of two."
        )
    return grids


def _channels(shape: Sequence[int], width: int) -> list[int]:
    return [width * 2**i for i in range(len(_grids(shape)) - 1)]
