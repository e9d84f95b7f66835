"""Gaussian models of normal samples: one at each position of an image (that of all rows is in ``gaussian_scorer``).

The position-wise model (Defard et al. 2021) has the covariance Σ = XᵀX/(n-1) + εI at each of p positions,
where X holds the n centred embeddings of d channels there. Two exact forms are kept, whichever is smaller:

- *Samples*, while n < d: the centred X (n, d) and the Cholesky factor L (n, n) of K = XXᵀ + ε(n-1)I. Woodbury's
  identity gives d² = (‖δ‖² - ‖L⁻¹Xδ‖²)/ε, which loses all digits where δ lies in the span of X. The same
  number is the minimum of a ridge regression, d² = ‖δ - Xᵀw‖²/ε + (n-1)‖w‖² at w = K⁻¹Xδ: a sum without
  cancellation, in which an error of w counts only by its square.
- *Scatter*, from n = d on: mean and scatter matrix (d, d), merged batch by batch (Chan, Golub, LeVeque 1979),
  then its Cholesky factor, all in float64, because here errors of the factor count in full.

Samples of 4 bytes take 4n(d + n) bytes a position, the scatter of 8 bytes 8d²: equal at n = d.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from mmad_utils.detectors.gaussian import GaussianAnomalyScorer

__all__ = ["GaussianAnomalyScorer", "PositionwiseGaussian"]

CHUNK_ELEMENTS = 2**22  # positions are worked on in chunks of about this many covariance elements
CACHE_ELEMENTS = (
    2**17
)  # float64 numbers of a few positions that stay in the cache of a core (1 MB) between two passes
FLOAT32_CONDITION = 1e5  # up to this ratio of ‖K‖ to ε(n-1) float32 gives distances to 1e-4 or better


class PositionwiseGaussian:
    """One Gaussian at each position of an image, learned from a stream.

    Embeddings are NumPy arrays or torch tensors; statistics stay on the device of the tensors, and results
    are of the kind that was given.

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
            raise ValueError(f"regularization is {regularization!r}; give a positive number, it makes Σ invertible.")
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
        """Σ + εI at each position, (p, d, d) float64; made when asked for, never stored."""
        covariance = torch.cat([chunk.covariance() for chunk in self._chunks])
        return covariance.cpu().numpy()

    def fit(self, embeddings) -> PositionwiseGaussian:
        """Forget everything, learn from ``embeddings`` (n, p, d) and factorise."""
        self._chunks = []
        self._add(embeddings, factorise=True)
        return self

    def partial_fit(self, embeddings) -> PositionwiseGaussian:
        """Learn from one more batch (n, p, d); the order and size of batches do not matter."""
        self._add(embeddings, factorise=False)
        return self

    def merge(self, other: PositionwiseGaussian) -> PositionwiseGaussian:
        """Take in the statistics of ``other``, as if its samples had been given to ``partial_fit``."""
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
        (n, p) array or tensor of the same kind and floating type
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
        """What the distances of training samples would be if each were not among the samples.

        The scatter without sample k is S - n/(n-1) δδᵀ, δ its difference from the mean, so by Sherman and Morrison
        d² becomes (n-2) c² q / (1 - c q) with q = d²/(n-1) and c = n/(n-1). Exact for a regularization of
        ε(n-1)/(n-2), which differs from ε by one part in n.

        Parameters
        ----------
        distances : array or tensor of any shape, as ``mahalanobis`` gives them for samples it was fitted on

        Returns
        -------
        of the same kind and shape; unchanged with two samples, where nothing would be left to fit
        """
        n = self.n_samples_
        if n < 3:
            return distances
        q = distances**2 * (n / (n - 1) ** 2)  # c·q in the text, below 1
        return ((n - 2) * n / (n - 1) * q / (1 - q).clip(1e-6)) ** 0.5

    def get_state(self) -> dict[str, Any]:
        """Parameters and statistics as plain values and tensors."""
        return {"regularization": self.regularization, "chunks": [chunk.state() for chunk in self._chunks]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Undo ``get_state`` on a new object."""
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
            raise ValueError(f"embeddings of shape {tuple(batch.shape)} hold nothing to learn from.")
        if self._chunks:
            self._check_shape(p, d)
        if factorise and n < 2:
            raise ValueError("a covariance needs at least 2 samples, 1 was given.")
        if not bool(batch.sum().isfinite()):  # one cheap number; a sum of large values may also overflow
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
    """Statistics of c neighbouring positions, in one of the two forms that the module's docstring names."""

    def __init__(self, regularization, n=0, mean=None, origin=None, rows=None, scatter=None, factor=None):
        self.regularization: float = regularization
        self.n: int = n
        self.mean: torch.Tensor = mean  # (c, d) float64
        self.origin: torch.Tensor = origin  # (c, d) float64, what rows are relative to
        self.rows: list[torch.Tensor] = rows or []  # (c, n_i, d) each, while n < d
        self.scatter: torch.Tensor | None = scatter  # (c, d, d) float64, from n = d on, until factorised
        self.factor: torch.Tensor | None = factor  # upper: (c, n, n) Lᵀ of K, or (c, d, d) float64 Lᵀ of Σ

    def state(self) -> dict[str, Any]:
        return dict(vars(self))

    def copy(self) -> _Chunk:
        """Independent of the original, and in aligned memory, where results are the same to the bit."""
        own = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in vars(self).items()}
        return _Chunk(**{**own, "rows": [rows.clone() for rows in self.rows]})

    def add(self, batch: torch.Tensor) -> None:
        """Take in (c, m, d) samples."""
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
        """Compute the Cholesky factor of the form that is kept."""
        if self.factor is not None:
            return
        if not self.rows:
            self.factor, self.scatter = _cholesky(self._scatter(), self.n - 1, self.regularization), None
            return
        X = self.rows[0]
        if len(self.rows) > 1:  # a single batch is centred already
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
        """Σ (x - mean)(x - mean)ᵀ over the samples so far, (c, d, d) float64, from whatever is kept."""
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
        """Take in m samples by their mean (c, d) and scatter (c, d, d)."""
        if self.n:
            shift = mean - self.mean
            total = self.n + m
            scatter = scatter + self._scatter()
            scatter += (shift[:, :, None] * shift[:, None, :]) * (self.n * m / total)
            mean = self.mean + shift * (m / total)
        self.n += m
        self.mean, self.scatter, self.rows, self.factor = mean, scatter, [], None


def _for_each(work, chunks: list[_Chunk], device: torch.device) -> None:
    """``work(i, chunk)`` for all: on the CPU one chunk a thread, which many small matrices need to run fast."""
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
    """The factor Lᵀ of matrix / divisor + ridge I, (c, k, k), in row order, which is how LAPACK leaves L."""
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
    """(c, m, d) samples less their mean, and that mean (c, d) float64: rounding is itself averaged away."""
    centred = batch.clone(memory_format=torch.contiguous_format)
    high = centred.mean(1)
    low = centred.sub_(high[:, None]).mean(1)
    return centred.sub_(low[:, None]), high.to(torch.float64) + low.to(torch.float64)


def _minus(batch: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """(c, m, d) minus a float64 (c, d) mean, to the last digit of the batch's own type."""
    high = mean.to(batch.dtype)
    low = (mean - high).to(batch.dtype)
    return (batch.contiguous() - high[:, None]).sub_(low[:, None])


def _as_tensor(embeddings) -> torch.Tensor:
    """(n, p, d) float32 or float64 tensor that shares the memory of the embeddings where it can."""
    tensor = (embeddings if isinstance(embeddings, torch.Tensor) else torch.from_numpy(embeddings)).detach()
    if tensor.ndim != 3:
        raise ValueError(f"embeddings have shape {tuple(tensor.shape)}; give (samples, positions, channels).")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(torch.float32)
