"""An encoder of small pictures that needs no pretrained network: the principal components of their pixels."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from mmad_utils.detector import DetectorError
from mmad_utils.sequence_encoders import Encoder

__all__ = ["PixelEncoder"]


class PixelEncoder(Encoder):
    """Pixels in [0, 1], projected on their first principal components, and what the projection leaves out.

    The last column is the distance to the subspace. For pictures of some dozen pixels a side; larger ones need an
    encoder that knows about position, such as ``ImageEncoder``.

    Parameters
    ----------
    n_components : int, default=32
        Fewer are used where there are fewer samples or pixels.

    Attributes
    ----------
    shape_ : (H, W, C)
    mean_ : (H W C,) float64
    components_ : (n_components, H W C) float64, orthonormal rows
    """

    def __init__(self, n_components=32):
        self.n_components = n_components

    def fit(self, X, y=None):
        """Learn the components of (n, H, W, C) uint8 pictures."""
        pixels = self._pixels(X)
        pca = PCA(min(self.n_components, *pixels.shape), svd_solver="full").fit(pixels)
        self.shape_ = np.asarray(X).shape[1:]
        self.mean_, self.components_ = pca.mean_, pca.components_
        return self

    def transform(self, X) -> np.ndarray:
        """(n, H, W, C) uint8 -> (n, n_components + 1) float64."""
        check_is_fitted(self)
        pixels = self._pixels(X)
        if np.asarray(X).shape[1:] != self.shape_:
            raise DetectorError(f"PixelEncoder: fitted on pictures of {self.shape_}, got {np.asarray(X).shape[1:]}.")
        centred = pixels - self.mean_
        codes = centred @ self.components_.T
        return np.column_stack([codes, np.linalg.norm(centred - codes @ self.components_, axis=1)])

    def _pixels(self, X) -> np.ndarray:
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise DetectorError(f"PixelEncoder takes pictures of one size: {error}.") from error
        if X.dtype != np.uint8 or X.ndim != 4 or 0 in X.shape:
            raise DetectorError(f"PixelEncoder takes uint8 pictures (n, H, W, C), got {X.dtype} {X.shape}.")
        return X.reshape(len(X), -1) / 255.0
