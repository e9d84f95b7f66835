"""Samples as tokens, (n, p, d) float32: one token per column of a row, or per position of an image.

Centres and spreads of the tokens are computed from normal samples and then fixed. A network that predicts tokens can
therefore not reduce its loss by changing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils import check_array
from torch import Tensor

from mmad_utils.datasets.images import read_image
from mmad_utils.detector import DetectorError
from mmad_utils.encoders.image import ImageEncoder, check_pictures
from mmad_utils.encoders.scaling import ColumnScaler, nonzero_scale

__all__ = ["PictureTokens", "TableTokens", "from_patches", "to_patches"]


class TableTokens:
    """One token of one number for each column: arcsinh((x − median) / interquartile range), standardised.

    The first step reduces long tails (``ColumnScaler``). The second gives every column the same weight in a mean
    squared error. A constant column becomes 0.
    """

    def fit(self, X) -> TableTokens:
        X = check_array(X, dtype=np.float64, ensure_min_samples=2, input_name="the modality 'tabular'")
        self.scaler = ColumnScaler("robust_arcsinh").fit(X)
        z = self.scaler.scale(X)
        self.mean, self.std = z.mean(axis=0), nonzero_scale(X, z.std(axis=0))
        return self

    def transform(self, X) -> Tensor:
        """(n, columns, 1)"""
        X = check_array(X, dtype=np.float64, input_name="the modality 'tabular'")
        if X.shape[1] != len(self.mean):
            raise DetectorError(f"'tabular' was fitted on {len(self.mean)} columns, got {X.shape[1]}.")
        return torch.from_numpy((self.scaler.scale(X) - self.mean) / self.std).float()[..., None]

    def get_state(self) -> dict[str, Any]:
        return {"scaler": self.scaler, "mean": self.mean, "std": self.std}

    def set_state(self, state: dict[str, Any]) -> None:
        self.scaler, self.mean, self.std = state["scaler"], state["mean"], state["std"]


class PictureTokens:
    """One token for each cell of a ``grid`` × ``grid``: features of a frozen backbone, or the pixels.

    Parameters
    ----------
    source : {"backbone", "patches"}
        Backbone: the layers' feature maps, averaged over the cells and concatenated, each channel standardised.
        Patches: all pixels of the cell, each colour standardised. (A strided convolution whose kernel is as large as
        its stride is a linear map of these patches.)
    grid : int
        Cells per side. For patches it must divide ``image_size``.
    backbone, layers, image_size, weights, device : see ``ImageEncoder``
        ``image_size`` is also the side in pixels to which images are resized for patches.
    """

    def __init__(self, source: str, *, grid: int, image_size: int, layers: Sequence[int], **encoder):
        if source not in ("backbone", "patches"):
            raise DetectorError(f"tokens is {source!r}; choose 'backbone' or 'patches'.")
        if grid < 1 or (source == "patches" and image_size % grid):
            raise DetectorError(
                f"grid is {grid} and image_size {image_size}: for patches give a grid that divides image_size."
            )
        self.source, self.grid, self.image_size = source, grid, image_size
        self.encoder = None
        if source == "backbone":
            self.encoder = ImageEncoder(image_size=image_size, layers=layers, **encoder)
            if grid > min(self.encoder.grid_):
                raise DetectorError(
                    f"grid is {grid}, but the finest of layers={tuple(layers)} has {self.encoder.grid_} cells at "
                    f"image_size={image_size}: give a smaller grid or a larger image_size."
                )

    @property
    def patch(self) -> int:
        """Side of a token in elements of ``images``: pixels of a patch, 1 for features."""
        return 1 if self.encoder else self.image_size // self.grid

    def fit(self, X) -> PictureTokens:
        raw = self._raw(check_pictures(X, least=2))
        self.mean, self.std = raw.mean((0, 2, 3), keepdim=True), raw.std((0, 2, 3), keepdim=True)
        self.std = torch.where(self.std > 0, self.std, 1.0)
        return self

    def transform(self, X) -> Tensor:
        """(n, grid², d), cells in row order"""
        return self.tokens((self._raw(check_pictures(X)) - self.mean) / self.std)

    def images(self, tokens: Tensor) -> Tensor:
        """Tokens in the layout (n, c, h, w): features on their grid, or standardised pixels."""
        return from_patches(tokens, self.patch)

    def tokens(self, images: Tensor) -> Tensor:
        """Undo ``images``."""
        return to_patches(images, self.patch)

    def get_state(self) -> dict[str, Any]:
        state = {"mean": self.mean, "std": self.std}
        return state | {"fingerprint": self.encoder.fingerprint} if self.encoder else state

    def set_state(self, state: dict[str, Any]) -> None:
        self.mean, self.std = state["mean"], state["std"]
        if self.encoder:
            self.encoder.require_weights(state["fingerprint"], who="transformer")

    def _raw(self, X) -> Tensor:
        """(n, c, h, w): features averaged over the cells, or pixels in [0, 1]."""
        if self.encoder:
            batches = (
                torch.cat([F.adaptive_avg_pool2d(layer, self.grid) for layer in maps], dim=1)
                for maps in self.encoder.features(X)
            )
            return torch.cat(list(batches))
        size = (self.image_size, self.image_size)
        pictures = (torch.tensor(read_image(item)).permute(2, 0, 1)[None].float() / 255 for item in X)
        return torch.cat([F.interpolate(x, size, mode="bilinear", antialias=True) for x in pictures])


def to_patches(images: Tensor, side: int) -> Tensor:
    """Divide (n, c, h, w) into patches in row order, (n, h/side · w/side, c · side²)."""
    n, c, h, w = images.shape
    cells = images.reshape(n, c, h // side, side, w // side, side).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(n, (h // side) * (w // side), c * side * side)


def from_patches(patches: Tensor, side: int) -> Tensor:
    """Inverse of ``to_patches`` for square images, (n, g², c · side²) to (n, c, g · side, g · side)."""
    n, p, d = patches.shape
    g = round(p**0.5)
    cells = patches.reshape(n, g, g, d // side**2, side, side).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(n, d // side**2, g * side, g * side)
