"""One scaling of the columns of a table, for detectors and encoders alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from mmad_utils.detector import DetectorError, Stateful

__all__ = ["ColumnScaler", "nonzero_scale"]


def nonzero_scale(X, scale) -> np.ndarray:
    """The scale of each column, 1 where the column is constant.

    The spread of a constant column is rounding error, about 1e-16 of its value, not exactly zero. Divided by 1, a
    later value that differs from the constant still counts.

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
    """Center and scale each column, learned from normal samples.

    Parameters
    ----------
    scaling : {"none", "standard", "robust_arcsinh"}, default="standard"
        z = x − mean; or (x − mean) / standard deviation; or arcsinh((x − median) / interquartile range), which
        shortens long tails: linear near the median, logarithmic far from it.

    Attributes
    ----------
    center_, scale_ : (d,) float64, in the units of X
    """

    scaling: str = "standard"

    def fit(self, X, y=None):
        """Learn center and scale of the columns of a finite (n, d) float64 array.

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
            # More than half of the column may be one value; its standard deviation then says the spread.
            scale = np.where(high > low, high - low, X.std(axis=0))
        else:
            raise DetectorError(f"scaling is {self.scaling!r}; choose 'none', 'standard' or 'robust_arcsinh'.")
        self.scale_ = nonzero_scale(X, scale)
        return self

    def scale(self, X) -> np.ndarray:
        """The scaled rows z, (n, d) float64."""
        z = (X - self.center_) / self.scale_
        return np.arcsinh(z) if self.scaling == "robust_arcsinh" else z
