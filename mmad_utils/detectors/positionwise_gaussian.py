"""A Gaussian model of normal samples at each position of an image (``gaussian`` has one Gaussian of all rows).

The position-wise model (Defard et al. 2021) has the covariance Σ = XᵀX/(n-1) + εI at each of p positions,
where X holds the n centred embeddings of d channels there. It is stored in the smaller of two exact forms:

- *Samples*, while n < d: the centred X (n, d) and the Cholesky factor L (n, n) of K = XXᵀ + ε(n-1)I. Woodbury's
  identity gives d² = (‖δ‖² - ‖L⁻¹Xδ‖²)/ε, which loses all digits where δ lies in the span of X. The distance is
  therefore computed as the minimum of a ridge regression, d² = ‖δ - Xᵀw‖²/ε + (n-1)‖w‖² at w = K⁻¹Xδ. This sum has
  no cancellation, and an error of w has only a second-order effect.
- *Scatter*, for n >= d: mean and scatter matrix (d, d), merged batch by batch (Chan, Golub, LeVeque 1979), then
  its Cholesky factor. Both are float64, because errors of the factor have a first-order effect.

Per position, samples of 4 bytes take 4n(d + n) bytes and the scatter of 8 bytes takes 8d². Both are equal at n = d.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from mmad_utils.detectors.gaussian import GaussianAnomalyScorer

__all__ = ["GaussianAnomalyScorer", "PositionwiseGaussian"]

CHUNK_ELEMENTS = 2**22  # positions are processed in chunks of about this many covariance elements
CACHE_ELEMENTS = 2**17  # float64 numbers that stay in the cache of a core (1 MB) between two passes
FLOAT32_CONDITION = 1e5  # up to this ratio of ‖K‖ to ε(n-1), distances in float32 have an error of at most 1e-4


class PositionwiseGaussian:
    """One Gaussian at each position of an image, fitted at once or on successive batches.

    Embeddings are NumPy arrays or torch tensors. Statistics are on the device of the tensors, and results have the
    type of the input.

    Parameters
    ----------
    regularization : float > 0, default=0.01
        ε in Σ + εI, in squared units of the embeddings.

    Attributes
    ----------
    n_samples_ : int
        Samples seen so far.

    References
    ----------
    T. Defard, A. Setkov, A. Loesch, R. Audigier (2021), PaDiM, eq. 1 and 2.
    T. F. Chan, G. H. Golub, R. J. LeVeque (1979), Updating formulae and a pairwise algorithm for computing
    sample variances.
    """

    def __init__(self, regularization: float = 0.01):
        if not 0 < regularization < float("inf"):
            raise ValueError(f"regularization is {regularization!r}; give a positive number.")
        self.regularization = regularization
        self._chunks: list[_Chunk] = []

    @property
    def n_samples_(self) -> int:
        return self._chunks[0].n if self._chunks else 0

    @property
    def mean_(self) -> np.ndarray:
        """Mean embedding at each position, (p, d) float64."""
        return torch.cat([chunk.mean for chunk in self._chunks]).cpu().numpy()

    @property
    def covariance_(self) -> np.ndarray:
        """Σ + εI at each position, (p, d, d) float64; computed at each access and not stored."""
        covariance = torch.cat([chunk.covariance() for chunk in self._chunks])
        return covariance.cpu().numpy()

    def fit(self, embeddings) -> PositionwiseGaussian:
        """Fit a new model to ``embeddings`` (n, p, d) and factorise its covariances."""
        self._chunks = []
        self._add(embeddings, factorise=True)
        return self

    def partial_fit(self, embeddings) -> PositionwiseGaussian:
        """Update the statistics by a batch (n, p, d); the order and size of batches do not matter."""
        self._add(embeddings, factorise=False)
        return self

    def merge(self, other: PositionwiseGaussian) -> PositionwiseGaussian:
        """Add the statistics of ``other``, as if its samples had been given to ``partial_fit``."""
        if not self._chunks or not other._chunks:
            self._chunks = self._chunks or [chunk.copy() for chunk in other._chunks]
            return self
        self._check_shape(*other._shape)
        for chunk, addend in zip(self._chunks, other._chunks):
            chunk.merge(addend)
        return self

    def mahalanobis(self, embeddings):
        """Mahalanobis distance (not its square) of each embedding to the Gaussian at its position.

        Parameters
        ----------
        embeddings : (n, p, d) float array or tensor

        Returns
        -------
        (n, p) array or tensor of the same type and floating-point precision
        """
        if self.n_samples_ < 2:
            raise ValueError(f"a covariance needs at least 2 samples, {self.n_samples_} were given to fit.")
        batch = _as_tensor(embeddings)
        self._check_shape(*batch.shape[1:])
        distances = batch.new_empty(batch.shape[:2])
        size = len(self._chunks[0].mean)

        def score(i: int, chunk: _Chunk) -> None:
            chunk.factorise()
            positions = slice(i * size, (i + 1) * size)
            for rows, found in zip(batch.split(batch.shape[2]), distances.split(batch.shape[2])):
                found[:, positions] = chunk.squared_distance(rows[:, positions].transpose(0, 1)).sqrt().T

        _for_each(score, self._chunks, batch.device)
        return distances.numpy() if isinstance(embeddings, np.ndarray) else distances

    def leave_one_out(self, distances):
        """Distance of each training sample to the Gaussian of the other training samples.

        The scatter without sample k is S - n/(n-1) δδᵀ, where δ is the difference of the sample from the mean. By the
        Sherman-Morrison formula d² becomes (n-2) c² q / (1 - c q), with q = d²/(n-1) and c = n/(n-1). The result is
        exact for a regularization of ε(n-1)/(n-2); its relative difference from ε is about 1/n.

        Parameters
        ----------
        distances : array or tensor of any shape, the result of ``mahalanobis`` for the training samples

        Returns
        -------
        array or tensor of the same type and shape; unchanged with two samples, where one alone has no covariance
        """
        n = self.n_samples_
        if n < 3:
            return distances
        q = distances**2 * (n / (n - 1) ** 2)  # c·q of the docstring, below 1
        return ((n - 2) * n / (n - 1) * q / (1 - q).clip(1e-6)) ** 0.5

    def get_state(self) -> dict[str, Any]:
        """Parameters and statistics as plain values and tensors."""
        return {"regularization": self.regularization, "chunks": [chunk.state() for chunk in self._chunks]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the result of ``get_state`` on a new object."""
        self.regularization = state["regularization"]
        self._chunks = [_Chunk(**chunk).copy() for chunk in state["chunks"]]

    @property
    def _shape(self) -> tuple[int, int]:
        """(p, d)."""
        return sum(len(chunk.mean) for chunk in self._chunks), self._chunks[0].mean.shape[1]

    def _check_shape(self, p: int, d: int) -> None:
        if (p, d) != self._shape:
            raise ValueError(
                f"embeddings of {p} positions and {d} channels were given to a model of {self._shape[0]} "
                f"positions and {self._shape[1]} channels; use the same backbone, layers and image size."
            )

    def _add(self, embeddings, *, factorise: bool) -> None:
        batch = _as_tensor(embeddings)
        n, p, d = batch.shape
        if n == 0 or p == 0 or d == 0:
            raise ValueError(f"embeddings of shape {tuple(batch.shape)} are empty; give at least one sample.")
        if self._chunks:
            self._check_shape(p, d)
        if factorise and n < 2:
            raise ValueError("a covariance needs at least 2 samples, 1 was given.")
        if not bool(batch.sum().isfinite()):  # a fast check; a sum of large finite values may also overflow
            wrong = [i for i in range(p) if not bool(batch[:, i].isfinite().all())]
            if wrong:
                raise ValueError(f"embeddings hold NaN or infinity at position {wrong[0]}.")
        size = max(1, CHUNK_ELEMENTS // d**2)
        chunks = self._chunks or [_Chunk(self.regularization) for _ in range(0, p, size)]

        def learn(i: int, chunk: _Chunk) -> None:
            chunk.add(batch[:, i * size : (i + 1) * size].transpose(0, 1))
            if factorise:
                chunk.factorise()

        _for_each(learn, chunks, batch.device)
        self._chunks = chunks


class _Chunk:
    """Statistics of c adjacent positions, in one of the two forms of the module's docstring."""

    def __init__(self, regularization, n=0, mean=None, origin=None, rows=None, scatter=None, factor=None):
        self.regularization: float = regularization
        self.n: int = n
        self.mean: torch.Tensor = mean  # (c, d) float64
        self.origin: torch.Tensor = origin  # (c, d) float64, subtracted from the rows
        self.rows: list[torch.Tensor] = rows or []  # (c, n_i, d) each, while n < d
        self.scatter: torch.Tensor | None = scatter  # (c, d, d) float64, from n = d on, until factorised
        self.factor: torch.Tensor | None = factor  # upper: (c, n, n) Lᵀ of K, or (c, d, d) float64 Lᵀ of Σ

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def copy(self) -> _Chunk:
        """A clone in aligned memory, which makes results bitwise equal."""
        own = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in vars(self).items()}
        return _Chunk(**{**own, "rows": [rows.clone() for rows in self.rows]})

    def add(self, batch: torch.Tensor) -> None:
        """Add (c, m, d) samples."""
        m, d = batch.shape[1:]
        if self.n + m < d:
            self.factor = None
            if self.n == 0:
                rows, self.mean = _centre(batch)
                self.origin = self.mean
            else:
                rows = _minus(batch, self.origin)
                shift = rows.mean(1, dtype=torch.float64) + self.origin - self.mean
                self.mean = self.mean + shift * (m / (self.n + m))
            self.rows.append(rows)
            self.n += m
        else:
            self._merge_scatter(m, *_mean_and_scatter(batch))

    def merge(self, other: _Chunk) -> None:
        if other.rows:
            for rows in list(other.rows):
                self.add((rows + other.origin[:, None]).to(rows.dtype))
        else:
            self._merge_scatter(other.n, other.mean, other._scatter())

    def covariance(self) -> torch.Tensor:
        """Σ + εI, (c, d, d) float64."""
        covariance = self._scatter() / (self.n - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(self.regularization)
        return covariance

    def factorise(self) -> None:
        """Compute the Cholesky factor of the stored form."""
        if self.factor is not None:
            return
        if not self.rows:
            self.factor, self.scatter = _cholesky(self._scatter(), self.n - 1, self.regularization), None
            return
        X = self.rows[0]
        if len(self.rows) > 1:  # a single batch is already centred
            X = torch.cat(self.rows, dim=1)
            X -= (self.mean - self.origin)[:, None].to(X.dtype)
        self.rows, self.origin = [X], self.mean
        ridge = self.regularization * (self.n - 1)
        kernel = _kernel(X, ridge)
        if X.dtype == torch.float32 and bool((kernel.norm(dim=(1, 2)) > FLOAT32_CONDITION * ridge).any()):
            kernel = _kernel(X.to(torch.float64), ridge)
        self.factor = _cholesky(kernel)

    def squared_distance(self, batch: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distance of (c, b, d) samples, (c, b)."""
        assert self.factor is not None
        delta = _minus(batch.to(torch.promote_types(batch.dtype, self.factor.dtype)), self.mean).mT  # (c, d, b)
        if not self.rows:
            return torch.linalg.solve_triangular(self.factor.mT, delta, upper=False).square().sum(1)
        X, factor = self.rows[0].to(delta.dtype), self.factor.to(delta.dtype)
        w = torch.cholesky_solve(X @ delta, factor.mT)
        residual = torch.baddbmm(delta, X.mT, w, alpha=-1)
        return residual.square().sum(1) / self.regularization + (self.n - 1) * w.square().sum(1)

    def _scatter(self) -> torch.Tensor:
        """Σ (x - mean)(x - mean)ᵀ over the samples so far, (c, d, d) float64, from the stored form."""
        if self.scatter is not None:
            return self.scatter
        if self.rows:
            X = torch.cat(self.rows, dim=1) - (self.mean - self.origin)[:, None]
            return X.mT @ X
        assert self.factor is not None
        covariance = self.factor.mT @ self.factor
        covariance.diagonal(dim1=1, dim2=2).sub_(self.regularization)
        return covariance * (self.n - 1)

    def _merge_scatter(self, m: int, mean: torch.Tensor, scatter: torch.Tensor) -> None:
        """Add m samples by their mean (c, d) and scatter (c, d, d)."""
        if self.n:
            shift = mean - self.mean
            total = self.n + m
            scatter = scatter + self._scatter()
            scatter += (shift[:, :, None] * shift[:, None, :]) * (self.n * m / total)
            mean = self.mean + shift * (m / total)
        self.n += m
        self.mean, self.scatter, self.rows, self.factor = mean, scatter, [], None


def _for_each(work, chunks: list[_Chunk], device: torch.device) -> None:
    """Call ``work(i, chunk)`` for all chunks; on the CPU one thread per chunk, which is faster for small matrices."""
    threads = torch.get_num_threads()
    if threads == 1 or len(chunks) == 1 or device.type != "cpu":
        for i, chunk in enumerate(chunks):
            work(i, chunk)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, range(len(chunks)), chunks):
                pass
    finally:
        torch.set_num_threads(threads)


def _kernel(X: torch.Tensor, ridge: float) -> torch.Tensor:
    """XXᵀ + ridge I of (c, n, d) samples, (c, n, n)."""
    kernel = X @ X.mT
    kernel.diagonal(dim1=1, dim2=2).add_(ridge)
    return kernel


def _cholesky(matrix: torch.Tensor, divisor: float = 1, ridge: float = 0) -> torch.Tensor:
    """The factor Lᵀ of matrix / divisor + ridge I, (c, k, k), in row order, the memory layout of LAPACK's L."""
    factor = torch.empty_like(matrix)
    size = max(1, CACHE_ELEMENTS // matrix[0].numel())
    for part, found in zip(matrix.split(size), factor.split(size)):
        part = part / divisor
        part.diagonal(dim1=1, dim2=2).add_(ridge)
        found.copy_(torch.linalg.cholesky(part).mT)
    return factor


def _mean_and_scatter(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (c, d) of (c, m, d) samples and Σ (x - mean)(x - mean)ᵀ (c, d, d), in float64."""
    c, m, d = batch.shape
    mean = torch.empty(c, d, dtype=torch.float64, device=batch.device)
    scatter = mean.new_empty(c, d, d)
    size = max(1, CACHE_ELEMENTS // (m * d))
    for part, center, found in zip(batch.split(size), mean.split(size), scatter.split(size)):
        rows = part.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        torch.mean(rows, 1, out=center)
        rows -= center[:, None]
        torch.bmm(rows.mT, rows, out=found)
    return mean, scatter


def _centre(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(c, m, d) samples minus their mean, and the mean (c, d) float64, corrected for the rounding of a first mean."""
    centred = batch.clone(memory_format=torch.contiguous_format)
    high = centred.mean(1)
    low = centred.sub_(high[:, None]).mean(1)
    return centred.sub_(low[:, None]), high.to(torch.float64) + low.to(torch.float64)


def _minus(batch: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """(c, m, d) minus a float64 (c, d) mean, at the full precision of the batch's type."""
    high = mean.to(batch.dtype)
    low = (mean - high).to(batch.dtype)
    return (batch.contiguous() - high[:, None]).sub_(low[:, None])


def _as_tensor(embeddings) -> torch.Tensor:
    """(n, p, d) float32 or float64 tensor that shares the memory of the embeddings where it can."""
    tensor = (embeddings if isinstance(embeddings, torch.Tensor) else torch.from_numpy(embeddings)).detach()
    if tensor.ndim != 3:
        raise ValueError(f"embeddings have shape {tuple(tensor.shape)}; give (samples, positions, channels).")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32)
