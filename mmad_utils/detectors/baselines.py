"""The rulers that every detector is held against: chance, distance to the centre, neighbours, a linear model."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state

from mmad_utils.detector import Detector, DetectorError
from mmad_utils.encoders.scaling import ColumnScaler

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
        As in ``ColumnScaler``.
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
        scaler = ColumnScaler(self.scaling).fit(X)
        self.center_, self.scale_ = scaler.center_, scaler.scale_

    def scale(self, X) -> np.ndarray:
        """The scaled rows z, (n, d)."""
        return ColumnScaler.scale(self, X)  # type: ignore[arg-type]

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
