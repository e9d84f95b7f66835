"""Anomalies made from normal samples, so that a score can be trained where nobody has an anomaly.

Everything in them is normal by itself; only what stands beside what is wrong.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["cut_and_paste", "swap_columns"]


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
    """Cut a rectangle of each image and paste it at another place.

    Parameters
    ----------
    images : (n, c, h, w), pixels or a grid of features
    generator : torch.Generator on the CPU
    area : (low, high), share of the image's area
    aspect : float >= 1
        Ratio of the sides, between 1/aspect and aspect, uniform in its logarithm.
    from_others : bool
        Cut from another image of the batch instead of the same one.

    Returns
    -------
    (n, c, h, w) tensor

    References
    ----------
    C.-L. Li, K. Sohn, J. Yoon, T. Pfister (2021), CutPaste: self-supervised learning for anomaly detection and
    localization, CVPR, section 2.2; areas and ratios are theirs, the jitter of colours is left out.
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
    """For each of n samples another one: a random order, shifted by one."""
    order = torch.randperm(n, generator=generator)
    others = torch.empty(n, dtype=torch.long)
    others[order] = order.roll(1)
    return others
