"""A Gaussian model of rows: statistics that can be updated, merged and discounted, and the Mahalanobis distance.

A Gaussian needs the sum of weights, the mean and the scatter. The Ledoit-Wolf shrinkage also needs the sum of
‖x − mean‖⁴. To update this sum when the mean changes, the vector Σ‖x − mean‖²(x − mean) is needed as well. With these
five statistics, the sum of the statistics of parts equals those of the whole, for both estimators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from mmad_utils.detector import Detector, DetectorError, clear_errors

__all__ = ["GaussianAnomalyScorer", "GaussianStatistics"]

CHUNK_ELEMENTS = 2**20  # table entries that are processed together; limits the memory of temporary arrays
LEAST_ROWS = 256  # least rows processed together: to add the statistics of a part takes d² operations


class GaussianStatistics:
    """Weighted moments of rows, (n, d), about their mean; all float64.

    Attributes
    ----------
    n : float, sum of the weights (the number of rows without a half-life)
    mean : (d,)
    scatter : (d, d), Σ w c cᵀ with c = x − mean
    third : (d,), Σ w ‖c‖² c
    fourth : float, Σ w ‖c‖⁴

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample
    variances: mean and scatter. The third and fourth moments follow in the same way, by expanding ‖c + δ‖⁴.
    """

    def __init__(self, n=0.0, mean=None, scatter=None, third=None, fourth=0.0):
        self.n, self.mean, self.scatter, self.third, self.fourth = n, mean, scatter, third, fourth

    @classmethod
    def of(cls, X: np.ndarray, weights: np.ndarray | None = None) -> GaussianStatistics:
        """Statistics of rows (n, d) with weights (n,), default 1."""
        weights = np.ones(len(X)) if weights is None else weights
        return reduce(add, (cls._of_chunk(X[rows], weights[rows]) for rows in _chunks(X)))

    @classmethod
    def _of_chunk(cls, X: np.ndarray, weights: np.ndarray) -> GaussianStatistics:
        n = float(weights.sum())
        if n == 0:  # all weights have become 0
            return cls()
        mean = weights @ X / n
        centred = X - mean
        mean = mean + weights @ centred / n  # corrects the rounding error of the first sum
        centred = X - mean
        squares = np.square(centred).sum(axis=1)
        return cls(
            n, mean, (centred * weights[:, None]).T @ centred, weights * squares @ centred, weights @ squares**2
        )

    def __add__(self, other: GaussianStatistics) -> GaussianStatistics:
        """Statistics of the rows of both."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        mean = self.mean + (other.mean - self.mean) * (other.n / n)
        a, b = self._about(mean), other._about(mean)
        return GaussianStatistics(n, mean, *(first + second for first, second in zip(a, b)))

    def scale_weights(self, factor: float) -> GaussianStatistics:
        """The statistics with every weight multiplied by ``factor``."""
        if not self.n:
            return self
        parts = (self.scatter, self.third, self.fourth)
        return GaussianStatistics(self.n * factor, self.mean, *(part * factor for part in parts))

    def covariance(self, estimator: str) -> np.ndarray:
        """Covariance, (d, d), normalised by n: ``"empirical"``, or ``"ledoit_wolf"``, shrunk to a multiple of I."""
        covariance = self.scatter / self.n
        if estimator == "empirical":
            return covariance
        d = len(self.mean)
        sphere = np.trace(covariance) / d
        # Ledoit and Wolf (2004), lemmas 3.2 to 3.4: squared distance to the multiple of I, and its variance.
        distance = (np.square(covariance).sum() - d * sphere**2) / d
        noise = (self.fourth / self.n - np.square(covariance).sum()) / (d * self.n)
        shrinkage = min(max(noise, 0.0), distance) / distance if distance > 0 else 0.0
        shrunk = (1 - shrinkage) * covariance
        shrunk.flat[:: d + 1] += shrinkage * sphere
        return shrunk

    def _about(self, point: np.ndarray):
        """Scatter, third and fourth moment about another point."""
        shift = self.mean - point
        square = shift @ shift
        trace = np.trace(self.scatter)
        towards = self.scatter @ shift
        return (
            self.scatter + self.n * np.outer(shift, shift),
            self.third + 2 * towards + (trace + self.n * square) * shift,
            self.fourth + 4 * shift @ self.third + 2 * square * trace + 4 * shift @ towards + self.n * square**2,
        )

    def get_state(self) -> dict[str, Any]:
        return dict(vars(self))

    def set_state(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(eq=False, repr=False)
class GaussianAnomalyScorer(Detector):
    """Mahalanobis distance to the normal samples.

    The model is fitted on all rows (``fit``), on successive batches (``partial_fit``), or merged from models of parts
    (``merge``), with the same result. With a ``half_life`` it adapts to a drift: the weight of a row decreases with
    the number of later rows, independently of the division into batches.

    Parameters
    ----------
    covariance : {"ledoit_wolf", "empirical"}, default="ledoit_wolf"
        Estimator of the covariance; shrinkage keeps it invertible when n < d.
    contamination : float in (0, 0.5], default=0.05
        Share of the training scores above the threshold; after ``partial_fit`` those of the last batch.
    half_life : float > 0 or None, default=None
        Number of later rows after which a row has half its weight; rows are in the order of time. With None all rows
        have the same weight.
    regularization : float >= 0, default=0
        ε in Σ + εI, in squared units of X. The covariance in ``statistics_`` does not contain it.

    Attributes
    ----------
    mean_ : (d,) float64, in the units of X
    cholesky_ : (d, d) float64, lower factor of the covariance
    statistics_ : GaussianStatistics

    Raises
    ------
    DetectorError
        The empirical covariance is singular (columns that are constant or depend on others, or n <= d).

    References
    ----------
    P. C. Mahalanobis (1936), On the generalized distance in statistics.
    O. Ledoit, M. Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices.
    """

    covariance: str = "ledoit_wolf"
    _: KW_ONLY
    contamination: float = 0.05
    half_life: float | None = None
    regularization: float = 0.0

    _cholesky: np.ndarray | None = field(init=False, default=None)  # not a parameter; computed on first use

    def partial_fit(self, X, y=None):
        """Learn from one more batch of normal rows."""
        with clear_errors(type(self).__name__, X):
            X = self._check(X, reset=not hasattr(self, "statistics_"))
            self._check_parameters()
            old = getattr(self, "statistics_", GaussianStatistics())
            if self.half_life is not None:
                old = old.scale_weights(0.5 ** (len(X) / self.half_life))
            self._learn(old + self._statistics(X))
            singular = self.covariance == "empirical" and not self.regularization
            if self.statistics_.n > (X.shape[1] if singular else 1):
                self.offset_ = self._quantile(self._score(X))
        return self

    def merge(self, other: GaussianAnomalyScorer):
        """Add the statistics of ``other``, as if this model had been fitted on its rows too.

        The threshold does not change. With a ``half_life`` the rows of ``other`` keep the weights that they have
        there.
        """
        if len(other.mean_) != len(self.mean_):
            raise DetectorError(
                f"cannot merge {len(other.mean_)} columns into {len(self.mean_)}: fit both on the same columns."
            )
        self._learn(self.statistics_ + other.statistics_)
        return self

    @property
    def cholesky_(self) -> np.ndarray:
        if self._cholesky is None:
            try:
                covariance = self.statistics_.covariance(self.covariance)
                covariance.flat[:: len(covariance) + 1] += self.regularization
                self._cholesky = np.linalg.cholesky(covariance)
            except np.linalg.LinAlgError as error:
                raise DetectorError(
                    f"the {self.covariance} covariance of {self.statistics_.n:g} samples and {len(self.mean_)} "
                    "columns is singular; use covariance='ledoit_wolf' and remove columns that are constant."
                ) from error
        return self._cholesky

    def log_density(self, X) -> np.ndarray:
        """Logarithm of the Gaussian density at each row, (n,) float64."""
        X = self._check(X, reset=False)
        log_volume = np.log(np.diagonal(self.cholesky_)).sum() + 0.5 * X.shape[1] * np.log(2 * np.pi)
        return -0.5 * self._score(X) ** 2 - log_volume

    def gradient(self, X) -> np.ndarray:
        """Σ⁻¹(x − mean), (n, d). Its products with x − mean, per column, sum to the squared distance."""
        X = self._check(X, reset=False)
        whitened = self._whitened(X)
        return solve_triangular(self.cholesky_, whitened, lower=True, trans="T").T

    def set_state(self, state) -> None:
        super().set_state(state)
        self._cholesky = None

    def _fit(self, X, y) -> None:
        self._check_parameters()
        self._learn(self._statistics(X))
        self.cholesky_  # noqa: B018  a singular covariance is an error of fit

    def _score(self, X) -> np.ndarray:
        return np.concatenate([np.sqrt(np.square(self._whitened(X[rows])).sum(axis=0)) for rows in _chunks(X)])

    def _whitened(self, X) -> np.ndarray:
        return solve_triangular(self.cholesky_, (X - self.mean_).T, lower=True, overwrite_b=True)

    def _statistics(self, X) -> GaussianStatistics:
        age = np.arange(len(X))[::-1]
        return GaussianStatistics.of(X, None if self.half_life is None else 0.5 ** (age / self.half_life))

    def _learn(self, statistics: GaussianStatistics) -> None:
        self.statistics_, self.mean_, self._cholesky = statistics, statistics.mean, None

    def _check_parameters(self) -> None:
        if self.covariance not in ("ledoit_wolf", "empirical"):
            raise DetectorError(f"covariance is {self.covariance!r}; give one of ledoit_wolf, empirical.")
        if not 0 <= self.regularization < np.inf:
            raise DetectorError(f"regularization is {self.regularization!r}; give a number of at least 0.")
        if self.half_life is not None and not self.half_life > 0:
            raise DetectorError(f"half_life is {self.half_life!r}; give a positive number of rows, or None.")


def _chunks(X: np.ndarray) -> Iterator[slice]:
    """Slices of the rows of a table (n, d), of about ``CHUNK_ELEMENTS`` entries each."""
    size = max(LEAST_ROWS, CHUNK_ELEMENTS // X.shape[1])
    return (slice(start, start + size) for start in range(0, len(X), size))
