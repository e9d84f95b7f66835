"""The rulers that every detector is held against: chance, distance to the centre, neighbours, a linear model."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state

from mmad_utils.detector import Detector, DetectorError

__all__ = ["DistanceToCenter", "KNNDistance", "PCAResidual", "RandomScore"]


@dataclass(eq=False, repr=False)
class RandomScore(Detector):
    """Uniform random scores: what chance reaches on a test set.

    Parameters
    ----------
    random_state : int, RandomState or None, default=None
        With an int, the same number of rows always gets the same scores.
    contamination : float in (0, 0.5], default=0.05

    Attributes
    ----------
    offset_ : float
    """

    random_state: int | np.random.RandomState | None = None
    _: KW_ONLY
    contamination: float = 0.05

    def _fit(self, X, y):
        pass

    def _score(self, X):
        return check_random_state(self.random_state).uniform(size=len(X))


@dataclass(eq=False, repr=False)
class DistanceToCenter(Detector):
    """Squared distance to the mean of the normal samples, ‖z‖², where z is the scaled row.

    It looks at each column alone, so it sees no anomaly that breaks only the relation between columns.

    Parameters
    ----------
    scaling : {"none", "standard", "robust_arcsinh"}, default="standard"
        z = x − mean; or (x − mean) / standard deviation; or arcsinh((x − median) / interquartile range), which
        tames long tails: linear near the median, logarithmic far from it. A column without spread in training
        is divided by 1, so a test value that differs from the constant still counts.
    contamination : float in (0, 0.5], default=0.05

    Attributes
    ----------
    center_, scale_ : (d,) float64, in the units of X

    Examples
    --------
    >>> import numpy as np
    >>> detector = DistanceToCenter(scaling="none").fit(np.array([[0.0, 0.0], [2.0, 0.0]]))
    >>> detector.anomaly_score(np.array([[1.0, 0.0], [4.0, 4.0]]))
    array([ 0., 25.])
    """

    scaling: str = "standard"
    _: KW_ONLY
    contamination: float = 0.05

    def _fit(self, X, y):
        if self.scaling == "none":
            center, scale = X.mean(axis=0), np.ones(X.shape[1])
        elif self.scaling == "standard":
            center, scale = X.mean(axis=0), X.std(axis=0)
        elif self.scaling == "robust_arcsinh":
            low, center, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
            # More than half of the column may be one value; its standard deviation then says the spread.
            scale = np.where(high > low, high - low, X.std(axis=0))
        else:
            raise DetectorError(f"scaling is {self.scaling!r}; choose 'none', 'standard' or 'robust_arcsinh'.")
        # The spread of a constant column is rounding error, about 1e-16 of its value, not exactly zero.
        constant = X.max(axis=0) == X.min(axis=0)
        self.center_, self.scale_ = center, np.where(constant, 1.0, scale)

    def scale(self, X) -> np.ndarray:
        """The scaled rows z, (n, d)."""
        z = (X - self.center_) / self.scale_
        return np.arcsinh(z) if self.scaling == "robust_arcsinh" else z

    def _score(self, X):
        return np.square(self.scale(X)).sum(axis=1)


@dataclass(eq=False, repr=False)
class KNNDistance(Detector):
    """Distance to the nearest normal samples. Columns should be scaled alike before.

    Parameters
    ----------
    n_neighbors : int, default=5
        Fewer are used where the training set is smaller.
    method : {"largest", "mean"}, default="largest"
        Distance to the k-th neighbour (Ramaswamy et al.), or the mean of the k distances (Angiulli and Pizzuti).
    contamination : float in (0, 0.5], default=0.05
        Share of the training samples above the threshold, each without itself among its neighbours: counted as
        its own nearest neighbour it would look too normal, and new normal samples would raise many alarms.

    Attributes
    ----------
    X_ : (n, d) float64, the training samples

    References
    ----------
    S. Ramaswamy, R. Rastogi, K. Shim (2000), Efficient algorithms for mining outliers from large data sets.
    F. Angiulli, C. Pizzuti (2002), Fast outlier detection in high dimensional spaces.
    """

    n_neighbors: int = 5
    _: KW_ONLY
    method: str = "largest"
    contamination: float = 0.05

    def _training_scores(self, X):
        return self._summary(self._search.kneighbors(n_neighbors=min(self.n_neighbors, len(self.X_) - 1))[0])

    def set_state(self, state):
        super().set_state(state)
        self._search = NearestNeighbors().fit(self.X_)

    def _fit(self, X, y):
        if self.n_neighbors < 1 or self.method not in ("largest", "mean"):
            raise DetectorError(
                f"n_neighbors is {self.n_neighbors!r} and method {self.method!r}; give at least 1 neighbour, and "
                "'largest' or 'mean'."
            )
        if len(X) < 2:
            raise DetectorError(f"n_samples = {len(X)}: neighbours need at least 2 training samples.")
        self.X_ = X
        self._search = NearestNeighbors().fit(X)

    def _score(self, X):
        return self._summary(self._search.kneighbors(X, n_neighbors=min(self.n_neighbors, len(self.X_)))[0])

    def _summary(self, distances):
        return distances[:, -1] if self.method == "largest" else distances.mean(axis=1)


@dataclass(eq=False, repr=False)
class PCAResidual(Detector):
    """Squared distance to the subspace of the first principal components. Columns should be scaled alike before.

    It sees a sample that breaks the linear relations between the columns, and none that keeps them, however far.

    Parameters
    ----------
    n_components : int, float in (0, 1) or "mle", default=0.9
        As in scikit-learn's PCA: a number of components, or the share of the variance that they must explain.
    contamination : float in (0, 0.5], default=0.05

    Attributes
    ----------
    mean_ : (d,) float64
    components_ : (n_components, d) float64, orthonormal rows

    References
    ----------
    J. E. Jackson, G. S. Mudholkar (1979), Control procedures for residuals associated with principal component
    analysis, Technometrics 21(3): the Q statistic.
    """

    n_components: float | str = 0.9
    _: KW_ONLY
    contamination: float = 0.05

    def _fit(self, X, y):
        if len(X) < 2:
            raise DetectorError(f"n_samples = {len(X)}: principal components need at least 2 training samples.")
        pca = PCA(self.n_components, svd_solver="full").fit(X)
        self.mean_, self.components_ = pca.mean_, pca.components_

    def _score(self, X):
        centred = X - self.mean_
        return np.square(centred - centred @ self.components_.T @ self.components_).sum(axis=1)
