"""The network of the cross-modal transformer, from tokens of any modality to latent codes.

Each modality has an embedding of its tokens, a vector for each position, a vector for the modality, and a head that
predicts hidden tokens. The layers, the class token and the score head are shared by all modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmad_utils.networks import AttentionLayer

__all__ = ["CrossModalTransformer"]

INITIAL_SCALE = 0.02  # standard deviation of the learned vectors that are added to tokens, as in BERT and ViT


class CrossModalTransformer(nn.Module):
    """Transformer encoder for the tokens of several modalities.

    Parameters
    ----------
    shapes : {name: (p, d)}
        Tokens of a sample, and length of a token. Tokens of length 1 are the columns of a table, and each column has
        its own embedding and prediction. Longer tokens are the positions of an image, which share one embedding and
        one prediction.
    width, depth, n_heads : int
        Length of a latent code; layers; attention heads, a divisor of ``width``.
    dropout : float in [0, 1)

    References
    ----------
    A. Dosovitskiy et al. (2021), An image is worth 16×16 words, ICLR: patches as tokens, class token, positions.
    Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko (2021), Revisiting deep learning models for tabular data,
    NeurIPS: a column as a token.
    R. Xiong et al. (2020), On layer normalization in the transformer architecture, ICML: normalise before.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], *, width: int, depth: int, n_heads: int, dropout: float
    ):
        super().__init__()
        self.embed = nn.ModuleDict({name: _embedding(p, d, width) for name, (p, d) in shapes.items()})
        self.predict = nn.ModuleDict({name: _prediction(p, d, width) for name, (p, d) in shapes.items()})
        self.position = nn.ParameterDict({name: _vectors(p, width) for name, (p, _) in shapes.items()})
        self.modality = nn.ParameterDict({name: _vectors(width) for name in shapes})
        self.hidden = nn.ParameterDict({name: _vectors(width) for name in shapes})
        self.class_token = _vectors(width)
        self.layers = nn.ModuleList(AttentionLayer(width, n_heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)

    def forward(self, name: str, tokens: Tensor, hide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latent codes of the class token, (n, width), and of the tokens, (n, p, width).

        Parameters
        ----------
        name : the modality
        tokens : (n, p, d)
        hide : (n, p) bool or None
            True replaces the token by a learned vector; the network then has only its position.
        """
        x = self._sequence(name, tokens, hide)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return x[:, 0], x[:, 1:]

    def attention(self, name: str, tokens: Tensor) -> Tensor:
        """Attention of the class token to the tokens through all layers: (n, p), rows sum to 1.

        This is attention rollout (Abnar and Zuidema 2020, Quantifying attention flow in transformers, ACL). In each
        layer the attention, averaged over heads, and the residual connection have weight 1/2 each. The matrices of
        the layers are multiplied.
        """
        x = self._sequence(name, tokens, None)
        row = F.one_hot(torch.zeros(len(x), dtype=torch.long, device=x.device), x.shape[1]).to(x)[:, None]
        weights = []
        for layer in self.layers:
            weights.append(layer.weights(x))  # type: ignore[operator]
            x = layer(x)
        for attention in reversed(weights):
            row = (row + row @ attention) / 2
        seen = row[:, 0, 1:]
        return seen / seen.sum(1, keepdim=True)

    def _sequence(self, name, tokens, hide):
        embedded = self.embed[name](tokens)
        if hide is not None:
            embedded = torch.where(hide[..., None], self.hidden[name], embedded)
        embedded = embedded + self.position[name] + self.modality[name]
        return torch.cat([self.class_token.expand(len(tokens), 1, -1), embedded], dim=1)


class _ColumnEmbedding(nn.Module):
    """Embedding ``x w_j + b_j`` of the number x of column j, (n, p, 1) -> (n, p, width).

    w and b have the same initial scale. The layers normalise their inputs, and ``x w_j`` alone would lose the
    magnitude of x.
    """

    def __init__(self, p: int, width: int):
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.randn(p, width) / math.sqrt(width)) for _ in range(2))

    def forward(self, tokens):
        return tokens * self.weight + self.bias


class _ColumnPrediction(nn.Module):
    """Prediction ``h·w_j + b_j`` from the latent code h of column j, (n, p, width) -> (n, p, 1)."""

    def __init__(self, p: int, width: int):
        super().__init__()
        self.weight, self.bias = _vectors(p, width), nn.Parameter(torch.zeros(p))

    def forward(self, codes):
        return ((codes * self.weight).sum(-1) + self.bias)[..., None]


def _embedding(p: int, d: int, width: int) -> nn.Module:
    return _ColumnEmbedding(p, width) if d == 1 else nn.Linear(d, width)


def _prediction(p: int, d: int, width: int) -> nn.Module:
    return _ColumnPrediction(p, width) if d == 1 else nn.Linear(width, d)


def _vectors(*shape: int) -> nn.Parameter:
    return nn.Parameter(INITIAL_SCALE * torch.randn(*shape))
