"""Prediction of hidden tokens from the visible ones: the loss for training, and the residual for scoring."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["cut_and_paste", "hidden_loss", "residuals", "swap_columns"]

PARTS = 8  # groups of tokens that are hidden one after the other to score a sample


def hidden_loss(
    network: nn.Module, name: str, tokens: Tensor, generator: torch.Generator, share: tuple[float, float]
) -> Tensor:
    """Mean squared error of hidden tokens (He et al. 2022), a scalar.

    Parameters
    ----------
    network : CrossModalTransformer
    name : the modality
    tokens : (n, p, d)
    generator : torch.Generator on the CPU
    share : (low, high) in (0, 1)
        Share of the tokens to hide, drawn for each sample. At least one token is hidden, and of several at least one
        is visible.
    """
    n, p = tokens.shape[:2]
    part = share[0] + (share[1] - share[0]) * torch.rand(n, 1, generator=generator)
    counts = (part * p).ceil().clamp(1, max(1, p - 1))
    hide = (torch.rand(n, p, generator=generator).argsort(1) < counts).to(tokens.device)
    _, codes = network(name, tokens, hide)
    return (network.predict[name](codes) - tokens)[hide].square().mean()  # type: ignore[index, operator]


def residuals(network: nn.Module, name: str, tokens: Tensor) -> Tensor:
    """Tokens minus their prediction from other tokens, (n, p, d) to (n, p, d).

    The tokens are divided into at most ``PARTS`` fixed groups, which are hidden one after the other. The tokens of a
    group are spread over the image, so most neighbours of a hidden position are visible. Up to 8 columns are hidden
    one by one.
    """
    p = tokens.shape[1]
    result = torch.empty_like(tokens)
    for part in torch.randperm(p, generator=torch.Generator().manual_seed(0)).tensor_split(min(p, PARTS)):
        hide = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        hide[:, part] = True
        _, codes = network(name, tokens, hide)
        result[:, part] = (tokens - network.predict[name](codes))[:, part]  # type: ignore[index, operator]
    return result


def swap_columns(rows: Tensor, generator: torch.Generator, share: tuple[float, float] = (0.1, 0.5)) -> Tensor:
    """Replace a random part of the columns of each row by those of another row of the batch.

    Parameters
    ----------
    rows : (n, p, ...), n at least 2
    generator : torch.Generator on the CPU
    share : (low, high) in (0, 1]
        Share of the columns, drawn for each row; at least one is replaced.

    Returns
    -------
    (n, p, ...) tensor; every column holds values of that column

    References
    ----------
    J. Yoon, Y. Zhang, J. Jordon, M. van der Schaar (2020), VIME, NeurIPS: rows corrupted by the marginals.
    """
    n, p = rows.shape[:2]
    low, high = share
    part = low + (high - low) * torch.rand(n, 1, generator=generator)
    replaced = (torch.rand(n, p, generator=generator).argsort(1) < (part * p).ceil()).to(rows.device)
    other = rows[_others(n, generator).to(rows.device)]
    return torch.where(replaced.view(n, p, *[1] * (rows.ndim - 2)), other, rows)


def cut_and_paste(
    images: Tensor,
    generator: torch.Generator,
    *,
    area: tuple[float, float] = (0.02, 0.15),
    aspect: float = 3.3,
    from_others: bool = False,
) -> Tensor:
    """Paste a rectangle of each image at another position.

    Parameters
    ----------
    images : (n, c, h, w), pixels or a grid of features
    generator : torch.Generator on the CPU
    area : (low, high), share of the image's area
    aspect : float >= 1
        Ratio of the sides, between 1/aspect and aspect, uniform in its logarithm.
    from_others : bool
        Take the rectangle from another image of the batch instead of the same one.

    Returns
    -------
    (n, c, h, w) tensor

    References
    ----------
    C.-L. Li, K. Sohn, J. Yoon, T. Pfister (2021), CutPaste: self-supervised learning for anomaly detection and
    localization, CVPR, section 2.2, with the areas and ratios of the paper and without its colour jitter.
    """
    n, _, h, w = images.shape
    source = images[_others(n, generator).to(images.device)] if from_others else images
    result = images.clone()
    for i in range(n):
        size, ratio, *places = torch.rand(6, generator=generator).tolist()
        cells = (area[0] + (area[1] - area[0]) * size) * h * w
        stretch = aspect ** (2 * ratio - 1)
        height = min(h, max(1, round(math.sqrt(cells * stretch))))
        width = min(w, max(1, round(math.sqrt(cells / stretch))))
        y, x, to_y, to_x = (int(p * (s + 1)) for p, s in zip(places, (h - height, w - width) * 2))
        result[i, :, to_y : to_y + height, to_x : to_x + width] = source[i, :, y : y + height, x : x + width]
    return result


def _others(n: int, generator: torch.Generator) -> Tensor:
    """For each of n samples the row of another one: neighbours in a random order."""
    order = torch.randperm(n, generator=generator)
    others = torch.empty(n, dtype=torch.long)
    others[order] = order.roll(1)
    return others
