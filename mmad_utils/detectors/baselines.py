"""Baselines: random scores, distance to the centre, nearest neighbours, and principal components."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_random_state

from mmad_utils.detector import Detector, DetectorError, check_contamination, check_whole, clear_errors
from mmad_utils.encoders.scaling import ColumnScaler

__all__ = ["DistanceToCenter", "KNNDistance", "PCAResidual", "RandomScore"]


@dataclass(eq=False, repr=False)
class RandomScore(Detector):
    """Uniform random scores: the random baseline of a test set.

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

    Each column contributes separately, so an anomaly that differs only in the relation between columns is not found.

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
    >>> from mmad_utils import DistanceToCenter
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
    """Distance to the nearest normal samples. Columns should be scaled to equal spread before.

    Parameters
    ----------
    n_neighbors : int, default=5
        Fewer are used where the training set is smaller.
    method : {"largest", "mean"}, default="largest"
        Distance to the k-th neighbour (Ramaswamy et al.), or the mean of the k distances (Angiulli and Pizzuti).
    contamination : float in (0, 0.5], default=0.05
        Share of the kept training samples above the threshold. No sample counts as its own neighbour: the distances
        of training samples would then be too small, and the false-alarm rate of new normal samples too high.
    max_samples : int >= 2 or None, default=None
        Number of training samples that are kept, a uniform random subset also of a stream (Sugiyama and Borgwardt;
        Vitter). It bounds the memory and the time to score a row. Distances become larger, and the ranking may lose
        accuracy. None keeps all samples.
    random_state : int or None, default=None
        Seed of the subset. The subset for an int does not depend on how the stream is divided into batches.

    Attributes
    ----------
    X_ : (m, d) float64, the training samples that are kept
    keys_ : (m,) float64, their random keys, which are the smallest of all training samples
    n_samples_ : int, training samples seen

    References
    ----------
    S. Ramaswamy, R. Rastogi, K. Shim (2000), Efficient algorithms for mining outliers from large data sets.
    F. Angiulli, C. Pizzuti (2002), Fast outlier detection in high dimensional spaces.
    M. Sugiyama, K. Borgwardt (2013), Rapid distance-based outlier detection via sampling.
    J. S. Vitter (1985), Random sampling with a reservoir.
    """

    n_neighbors: int = 5
    _: KW_ONLY
    method: str = "largest"
    contamination: float = 0.05
    max_samples: int | None = None
    random_state: int | None = None

    def partial_fit(self, X, y=None):
        """Learn from one more batch of normal rows; without ``max_samples`` all are kept."""
        check_contamination(type(self).__name__, self.contamination)
        with clear_errors(type(self).__name__, X):
            seen = getattr(self, "n_samples_", 0)
            X = self._check(X, reset=not seen)
            self._check_parameters()
            self._learn(X, seen)
            if len(self.X_) > 1:
                self.offset_ = self._offset(X)
        return self

    def _training_scores(self, X):
        return self._summary(self._search.kneighbors(n_neighbors=min(self.n_neighbors, len(self.X_) - 1))[0])

    def set_state(self, state):
        super().set_state(state)
        if "keys_" not in state["fitted"]:  # in files of earlier versions, which kept all samples
            self.n_samples_ = len(self.X_)
            self.keys_ = np.random.Generator(np.random.PCG64(self.random_state)).random(len(self.X_))
        self._search = NearestNeighbors().fit(self.X_)

    def _fit(self, X, y):
        self._check_parameters()
        if len(X) < 2:
            raise DetectorError(f"n_samples = {len(X)}: neighbours need at least 2 training samples.")
        self._learn(X, seen=0)

    def _check_parameters(self):
        if self.n_neighbors < 1 or self.method not in ("largest", "mean"):
            raise DetectorError(
                f"n_neighbors is {self.n_neighbors!r} and method {self.method!r}; give at least 1 neighbour, and "
                "'largest' or 'mean'."
            )
        if self.max_samples is not None:
            check_whole("max_samples", self.max_samples, 2)

    def _learn(self, X, seen):
        """Keep the rows with the smallest keys; the i-th row of a stream has the i-th random number as its key."""
        keys = np.random.Generator(np.random.PCG64(self.random_state).advance(seen)).random(len(X))
        self.n_samples_ = seen + len(X)
        if seen:
            X, keys = np.concatenate([self.X_, X]), np.concatenate([self.keys_, keys])
        if self.max_samples is not None and self.max_samples < len(X):
            kept = np.sort(np.argpartition(keys, self.max_samples)[: self.max_samples])
            X, keys = X[kept], keys[kept]
        self.X_: np.ndarray = X
        self.keys_ = keys
        self._search = NearestNeighbors().fit(X)

    def _score(self, X):
        return self._summary(self._search.kneighbors(X, n_neighbors=min(self.n_neighbors, len(self.X_)))[0])

    def _summary(self, distances):
        return distances[:, -1] if self.method == "largest" else distances.mean(axis=1)


@dataclass(eq=False, repr=False)
class PCAResidual(Detector):
    """Squared distance to the subspace of the first principal components.

    Columns should be scaled to equal spread before. The score is large where a sample violates the linear relations
    between the columns. It is small for a sample that satisfies them, at any distance from the training samples.

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
