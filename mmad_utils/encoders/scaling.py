"""Scaling of the columns of a table, for detectors and encoders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from mmad_utils.detector import DetectorError, Stateful

__all__ = ["ColumnScaler", "nonzero_scale"]


def nonzero_scale(X, scale) -> np.ndarray:
    """The scale of each column, replaced by 1 for constant columns.

    The measured spread of a constant column is a rounding error of about 1e-16 of its value, not exactly zero. With
    the scale 1, a later value that differs from the constant contributes to distances.

    Parameters
    ----------
    X : (n, d)
    scale : (d,), in the units of X

    Returns
    -------
    (d,) float64
    """
    return np.where(X.max(axis=0) == X.min(axis=0), 1.0, scale)


@dataclass(eq=False, repr=False)
class ColumnScaler(Stateful, BaseEstimator):
    """Centre and scale each column, with parameters that are learned from normal samples.

    Parameters
    ----------
    scaling : {"none", "standard", "robust_arcsinh"}, default="standard"
        "none": z = x − mean. "standard": z = (x − mean) / standard deviation. "robust_arcsinh":
        z = arcsinh((x − median) / interquartile range), which is linear near the median and logarithmic far from it,
        and so shortens long tails.

    Attributes
    ----------
    center_, scale_ : (d,) float64, in the units of X
    """

    scaling: str = "standard"

    def fit(self, X, y=None):
        """Learn centre and scale of the columns of a finite (n, d) float64 array.

        Raises
        ------
        DetectorError
            Unknown ``scaling``.
        """
        if self.scaling == "none":
            self.center_, scale = X.mean(axis=0), np.ones(X.shape[1])
        elif self.scaling == "standard":
            self.center_, scale = X.mean(axis=0), X.std(axis=0)
        elif self.scaling == "robust_arcsinh":
            low, self.center_, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
            # The interquartile range is 0 if most values are equal; then the standard deviation is used.
            scale = np.where(high > low, high - low, X.std(axis=0))
        else:
            raise DetectorError(f"scaling is {self.scaling!r}; choose 'none', 'standard' or 'robust_arcsinh'.")
        self.scale_ = nonzero_scale(X, scale)
        return self

    def scale(self, X) -> np.ndarray:
        """The scaled rows z, (n, d) float64."""
        z = (X - self.center_) / self.scale_
        return np.arcsinh(z) if self.scaling == "robust_arcsinh" else z
