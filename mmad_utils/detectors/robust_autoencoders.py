"""Detectors for contaminated training data: the data are split into X = L + S, and the model is fitted to L only.

L is the part that the model reproduces: a low-rank matrix, or the part that an autoencoder can reconstruct. S holds
the few other entries, columns or rows. Both are estimated together, so that anomalies in S do not distort the model.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors.autoencoders import AutoEncoder
from mmad_utils.training import Adam, update

__all__ = ["RobustDeepAutoEncoder", "RobustPCA"]


@dataclass(eq=False, repr=False)
class RobustPCA(Detector):
    """Splits a table into a matrix of low rank and a sparse one; the score is the size of a row's sparse part.

    Principal component pursuit solves min ‖L‖_* + λ ‖S‖₁ subject to L + S = X, where ‖L‖_* is the sum of the singular
    values, by the alternating direction method of multipliers (ADMM). Columns should be scaled to equal spread
    before. X is not centred; a mean that is not 0 increases the rank of L by one.

    A new row x is split in the same way, with the row space of L held fixed. s solves min ‖s‖₁ subject to
    x − s ∈ ``span(components_)``. The iteration is the same, with a projection instead of the singular values. The
    score is ‖s‖₁. Large errors in a few columns therefore stay in these columns of s, while a least-squares
    projection would distribute them over all columns.

    Parameters
    ----------
    regularization : float or None, default=None
        λ; None is 1/√max(n, d), with which Candès et al. prove exact recovery.
    max_iter : int, default=5000
    tol : float, default=5e-6
        Training stops when ‖X − L − S‖_F ≤ tol ‖X‖_F.
    n_split_iter : int, default=100
        Iterations for new rows. The number is fixed, so that the score of a row does not depend on the other rows.
    contamination : float in (0, 0.5], default=0.05

    Attributes
    ----------
    low_rank_, sparse_ : (n, d) float64
        L and S of the training rows, in the units of X.
    components_ : (rank, d) float64, orthonormal rows that span the row space of L
    step_ : float, the penalty parameter μ of ADMM
    n_iter_ : int

    References
    ----------
    E. J. Candès, X. Li, Y. Ma, J. Wright (2011), Robust principal component analysis?, Journal of the ACM 58(3):
    algorithm 1 with its choices of λ and μ.

    Examples
    --------
    >>> import numpy as np
    >>> from mmad_utils import RobustPCA
    >>> rng = np.random.default_rng(0)
    >>> low_rank = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 20))
    >>> spikes = 10.0 * (rng.random((60, 20)) < 0.05)
    >>> detector = RobustPCA().fit(low_rank + spikes)
    >>> bool(np.allclose(detector.low_rank_, low_rank, atol=1e-3)), len(detector.components_)
    (True, 2)
    """

    regularization: float | None = None
    _: KW_ONLY
    max_iter: int = 5000
    tol: float = 5e-6
    n_split_iter: int = 100
    contamination: float = 0.05

    def _fit(self, X, y):
        if len(X) < 2:
            raise DetectorError(f"n_samples = {len(X)}: a low-rank part needs at least 2 training samples.")
        if self.regularization is not None and self.regularization <= 0:
            raise DetectorError(f"regularization is {self.regularization!r}; give a positive number or None.")
        size = np.abs(X).sum()
        self.step_ = X.size / (4 * size) if size > 0 else 1.0
        self.regularization_ = self.regularization or 1 / math.sqrt(max(X.shape))
        self.components_ = np.empty((0, X.shape[1]))

        def shrink_singular_values(matrix):
            left, values, right = np.linalg.svd(matrix, full_matrices=False)
            values = np.maximum(values - 1 / self.step_, 0)
            rank = int((values > 0).sum())
            self.components_ = right[:rank]
            return (left[:, :rank] * values[:rank]) @ right[:rank]

        self.low_rank_, self.sparse_, self.n_iter_, error = _split(
            X, shrink_singular_values, self.regularization_, self.step_, self.max_iter, self.tol
        )
        if error > self.tol:
            warnings.warn(
                f"after {self.n_iter_} iterations L + S still differs from X by {error:.1e} of its size: increase "
                "max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def split(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Low-rank and sparse part of new rows, each (n, d) float64; their sum is X."""
        X = self._check(X, reset=False)
        projection = self.components_.T @ self.components_
        low, *_ = _split(X, lambda rows: rows @ projection, self.regularization_, self.step_, self.n_split_iter, 0.0)
        return low, X - low

    def _score(self, X):
        return np.abs(self.split(X)[1]).sum(axis=1)


def _split(X, low_rank: Callable, regularization: float, step: float, max_iter: int, tol: float):
    """ADMM for X = L + S: L by the given proximal step, S by soft thresholding, then the multipliers.

    Returns
    -------
    L, S, number of iterations, ‖X − L − S‖_F / ‖X‖_F
    """
    size = np.linalg.norm(X) or 1.0
    sparse, multipliers = np.zeros_like(X), np.zeros_like(X)
    for iteration in range(1, max_iter + 1):  # noqa: B007  it is returned
        low = low_rank(X - sparse + multipliers / step)
        sparse = X - low + multipliers / step
        sparse = np.sign(sparse) * np.maximum(np.abs(sparse) - regularization / step, 0)
        rest = X - low - sparse
        multipliers += step * rest
        error = np.linalg.norm(rest) / size
        if error <= tol:
            break
    return low, sparse, iteration, error


@dataclass(kw_only=True, eq=False, repr=False)
class RobustDeepAutoEncoder(AutoEncoder):
    """An autoencoder for contaminated training data X = L_D + S, trained to reconstruct L_D only.

    Training minimises ‖L_D − g(f(L_D))‖² + λ R(S) subject to L_D + S = X. It alternates some epochs on L_D = X − S
    with the proximal step S = prox(X − g(f(L_D))). This step shrinks the residuals by a threshold, in groups:

    - "l1" (R = ``‖S‖₁``): a group is one entry; for spikes, dead pixels, typing errors;
    - "columns" (R = ``‖S‖_{2,1}``): a group is a feature or pixel of all samples; for a broken sensor;
    - "rows" (R = ``‖Sᵀ‖_{2,1}``): a group is a sample; for anomalies among the training samples.

    For a residual of norm r, max(r − threshold, 0) of it goes into S. The norm of the residual that remains in the
    loss is at most the threshold, which limits the influence of an anomaly on the network.

    The score of a sample, new or of the training set, is ‖x − g(f(x))‖². In the paper a sample is an anomaly when its
    group in S is not zero. With increasing λ the groups become zero in the order of their residuals, so this score
    ranks samples as in the paper, without the ties at zero. With the default λ every row of S is non-zero, because λ
    was chosen for the ranking. On digits with 10% anomalies a sparse S needs 0.3 or more, and the ranking is worse.

    The advantage of the method is that long training does not reduce its accuracy. A plain autoencoder with fewer
    epochs (50) ranks contaminated training samples equally well, and so does the distance to the nearest other
    samples.

    Parameters
    ----------
    penalty : {"rows", "columns", "l1"}, default="rows"
    regularization : float, default=0.1
        The threshold, as the root mean square of the entries of a group, in standard deviations of all of X. For a
        group of m entries the paper's threshold is regularization · std(X) · √m. A smaller value moves
        more of X into S.
    n_rounds : int, default=10
        Number of proximal steps; ``epochs`` is divided among the rounds.
    epochs : int, default=200
        With few epochs S also holds the part of the normal samples that the network cannot reconstruct yet.

    other parameters
        Those of ``AutoEncoder``.

    Attributes
    ----------
    sparse_ : (n, d) or (n, H, W, C) float32
        S of the training samples, in the units of X, for images those of pixels in [0, 1]. L_D is X − S.
    threshold_ : float, the threshold of each group

    References
    ----------
    C. Zhou, R. C. Paffenroth (2017), Anomaly detection with robust deep autoencoders, KDD: the ℓ1 and the ℓ2,1 form.
    """

    penalty: str = "rows"
    regularization: float = 0.1
    n_rounds: int = 10
    epochs: int = 200

    def build(self, shape):
        """As for ``AutoEncoder``."""
        if self.penalty not in ("rows", "columns", "l1"):
            raise DetectorError(f"penalty is {self.penalty!r}; choose 'rows', 'columns' or 'l1'.")
        if self.regularization <= 0 or self.n_rounds < 1:
            raise DetectorError(
                f"regularization is {self.regularization!r} and n_rounds {self.n_rounds!r}; give a positive number "
                "and at least one round."
            )
        return super().build(shape)

    def optimise(self, data, generator):
        """Alternate between epochs on L_D and a proximal step for S."""
        optimizer = Adam(self.network_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        group = {"l1": 1, "columns": len(data), "rows": data[0].numel()}[self.penalty]
        self.threshold_ = float(self.regularization * data.std() * math.sqrt(group))
        sparse, history = torch.zeros_like(data), []

        def step(batch):
            loss = self.loss(batch, generator)
            update(optimizer, loss)
            return {"loss": loss.detach()}

        for epochs in np.array_split(np.arange(self.epochs), self.n_rounds):
            history += self.run(step, data - sparse, generator, epochs=len(epochs))
            with torch.no_grad():
                reconstructed = torch.cat([self.reconstruction(batch) for batch in (data - sparse).split(1024)])
            sparse = shrink(data - reconstructed, self.threshold_, self.penalty)
        as_input = sparse if sparse.ndim == 2 else sparse.permute(0, 2, 3, 1)
        self.sparse_ = as_input.cpu().numpy()
        return history


def shrink(residuals: Tensor, threshold: float, penalty: str) -> Tensor:
    """Proximal operator of threshold · ‖·‖₁, or of the ℓ2,1 norm over columns or rows; (n, ...) -> (n, ...).

    Each group e of entries becomes e · max(1 − threshold / ‖e‖₂, 0).
    """
    flat = residuals.flatten(1)
    norms = {"l1": flat.abs, "columns": lambda: flat.norm(dim=0), "rows": lambda: flat.norm(dim=1, keepdim=True)}
    return (flat * (1 - threshold / norms[penalty]().clamp(min=1e-30)).clamp(min=0)).reshape(residuals.shape)
