"""Geometric operations on square images, each stored as the input position of every output pixel.

An operation is a sampling grid of (side, side, 2) positions (x, y) in [-1, 1]. An output pixel has the input's value
at its position, by bilinear interpolation. Beyond the edge the image is mirrored, because a black border would reveal
the operation to the classifier. A set of K operations is a tensor (K, side, side, 2); its index is the class label.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["irregular_affine", "rearranged_patches", "regular_affine", "transform"]


def transform(images: Tensor, grids: Tensor) -> Tensor:
    """Apply an operation to each image, (n, C, side, side) and (n, side, side, 2), or one (side, side, 2) for all."""
    grids = grids.expand(len(images), *grids.shape[-3:])
    return functional.grid_sample(images, grids, mode="bilinear", padding_mode="reflection", align_corners=False)


def regular_affine(side: int, *, flip: bool = True, shift: float = 0.25, rotations: int = 4) -> Tensor:
    """Compositions of a reflection, a translation and a rotation, in this order; the first is the identity.

    Parameters
    ----------
    side : int, pixels
    flip : bool
        Whether to include reflections from left to right.
    shift : float in [0, 1)
        Translations by -shift, 0 and +shift of the side, rounded to pixels, along each axis; 0 for no translation.
    rotations : {1, 2, 4}
        No rotation, half turns, or quarter turns, counter-clockwise.

    Returns
    -------
    (K, side, side, 2) with K = (2 if flip else 1) · (9 if shift else 1) · rotations, 72 by default

    References
    ----------
    I. Golan, R. El-Yaniv (2018), Deep anomaly detection using geometric transformations, section 4.
    """
    step = 2 * round(shift * side) / side  # in these coordinates the image has width 2
    shifts = (0.0, -step, step) if step else (0.0,)
    choices = itertools.product((False, True) if flip else (False,), shifts, shifts, range(rotations))
    return torch.stack([_affine(side, f, x, y, 360 * r / rotations) for f, x, y, r in choices])


def irregular_affine(side: int, *, steps: int = 12) -> Tensor:
    """Rotations by multiples of 360/steps degrees except quarter turns, with and without reflection; 16 by default.

    References
    ----------
    S. Wang et al. (2019), Effective end-to-end unsupervised outlier detection via inlier priority of discriminative
    network, section 3.2.
    """
    angles = [360 * i / steps for i in range(steps) if 360 * i % (90 * steps)]
    return torch.stack([_affine(side, flip, 0.0, 0.0, angle) for flip in (False, True) for angle in angles])


def rearranged_patches(side: int) -> Tensor:
    """The quarters of the image in all orders except the original one, (23, side, side, 2) (Wang et al. 2019)."""
    half = side // 2
    quarters = _centres(side)[: 2 * half, : 2 * half].unflatten(0, (2, half)).unflatten(2, (2, half)).transpose(1, 2)
    pieces = quarters.flatten(0, 1)  # (4, half, half, 2)
    orders = list(itertools.permutations(range(4)))[1:]
    rows = [[torch.cat([pieces[a], pieces[b]], 1) for a, b in (order[:2], order[2:])] for order in orders]
    return torch.stack([torch.cat(pair) for pair in rows])


def _centres(side: int) -> Tensor:
    """(side, side, 2), the position (x, y) of every pixel's centre."""
    line = (2 * torch.arange(side) + 1) / side - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def _affine(side: int, flip: bool, right: float, down: float, degrees: float) -> Tensor:
    """Reflect, translate and rotate counter-clockwise; the grid is the inverse map, from output to input pixels."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = _centres(side).unbind(-1)
    x, y = cos * x - sin * y - right, sin * x + cos * y - down
    return torch.stack([-x if flip else x, y], dim=-1)
