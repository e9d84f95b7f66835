"""Distance to the nearest normal sample in the feature space of a random network of infinite width."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from sklearn.utils import gen_batches

from mmad_utils.detector import Detector, DetectorError, check_whole

__all__ = ["ArcSineKernelDistance"]

MATRIX_CELLS = 2**22  # distances that are computed together


@dataclass(eq=False, repr=False)
class ArcSineKernelDistance(Detector):
    """Distance to the nearest normal samples between the outputs of a random network of infinite width.

    Let a layer have random features erf(aᵀx + b) with a ~ N(0, w/d · I) and b ~ N(0, v). In the limit of infinitely
    many features its inner products are the arc-sine kernel (Williams 1998, equation 11)

        k(x, y) = 2/π · arcsin(2 c(x, y) / √((1 + 2 c(x, x)) (1 + 2 c(y, y)))),   c(x, y) = w/d · xᵀy + v.

    The anomaly score is k(x, x) + k(y, y) − 2 k(x, y), the squared distance in this feature space, with y the
    ``n_neighbors``-th nearest training sample. erf is nearly linear for the usual values of standardised columns and
    saturates for large ones. A single extreme column therefore contributes less than to the Euclidean distance. No
    parameter is trained, and the score is deterministic. Columns should be standardised before.

    The kernel is from the literature; its use as an anomaly score in this form is a choice of this project. Its
    accuracy is higher than that of ``KNNDistance`` on the tables for which it was developed, and not on six others
    (benchmarks/README.md). Deep Isolation Forest (Xu et al. 2023) applies Isolation Forests to the outputs of random
    networks of finite width.

    Parameters
    ----------
    n_neighbors : int, default=1
        Fewer are used where the training set is smaller.
    weight_variance : float > 0, default=1.0
        w.
    bias_variance : float >= 0, default=0.25
        v.
    contamination : float in (0, 0.5], default=0.05
        Share of the training samples above the threshold; no sample counts as its own neighbour.

    Attributes
    ----------
    features_ : (n, d + 1) float64
        The training samples x as √2 (√(w/d) x, √v) / √(1 + 2 c(x, x)): k is 2/π times the arc sine of inner products.

    Raises
    ------
    DetectorError
        A parameter out of its range, or fewer than two training samples.

    References
    ----------
    C. K. I. Williams (1998), Computation with infinite neural networks, Neural Computation 10(5).
    H. Xu, G. Pang, Y. Wang, Y. Wang (2023), Deep isolation forest for anomaly detection, IEEE TKDE 35(12).

    Examples
    --------
    >>> import numpy as np
    >>> from mmad_utils import ArcSineKernelDistance
    >>> detector = ArcSineKernelDistance().fit(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    >>> scores = detector.anomaly_score(np.array([[0.1, 0.0], [3.0, 3.0], [3.0, 300.0]]))
    >>> bool(scores[0] < scores[1]), bool(scores[2] < 2)  # an extreme column does not dominate
    (True, True)
    """

    n_neighbors: int = 1
    _: KW_ONLY
    weight_variance: float = 1.0
    bias_variance: float = 0.25
    contamination: float = 0.05

    def _fit(self, X, y):
        check_whole("n_neighbors", self.n_neighbors, 1)
        if not (0 < self.weight_variance < np.inf and 0 <= self.bias_variance < np.inf):
            raise DetectorError(
                f"weight_variance is {self.weight_variance!r}, bias_variance {self.bias_variance!r}; give a finite "
                "variance above 0, and one of at least 0."
            )
        if len(X) < 2:
            raise DetectorError(f"n_samples = {len(X)}: neighbours need at least 2 training samples.")
        self.features_ = self._features(X)

    def _features(self, X):
        """(n, d) -> (n, d + 1), each row of a length below 1."""
        columns = np.sqrt(2 * self.weight_variance / X.shape[1]) * X
        rows = np.column_stack([columns, np.full(len(X), np.sqrt(2 * self.bias_variance))])
        largest = np.maximum(1, np.abs(rows).max(axis=1, keepdims=True))  # prevents an overflow of the squares
        rows /= largest
        return rows / np.sqrt(largest**-2.0 + np.square(rows).sum(axis=1, keepdims=True))

    def _training_scores(self, X):
        return self._nearest(self.features_, without_itself=True)

    def _score(self, X):
        return self._nearest(self._features(X))

    def _nearest(self, features, *, without_itself: bool = False):
        """Squared distance of each row to its n_neighbors-th nearest training sample."""
        k = min(self.n_neighbors, len(self.features_) - without_itself) - 1
        own, trained = (np.arcsin(np.square(each).sum(axis=1).clip(max=1)) for each in (features, self.features_))
        scores = np.empty(len(features))
        for rows in gen_batches(len(features), max(1, MATRIX_CELLS // len(trained))):
            distances = trained - 2 * np.arcsin((features[rows] @ self.features_.T).clip(-1, 1))
            if without_itself:
                distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
            scores[rows] = own[rows] + np.partition(distances, k, axis=1)[:, k]
        return 2 / np.pi * scores.clip(min=0)
