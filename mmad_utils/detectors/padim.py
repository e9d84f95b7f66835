"""Anomalies in images from pretrained features: PaDiM and PatchCore.

Both score patches. A patch holds the features of all layers at one position of the finest layer's grid. The score of
PaDiM is the distance of a patch to the Gaussian of the normal patches at its position. The score of PatchCore is the
distance to the nearest patch of a coreset, a small subset of the normal patches of all positions.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from sklearn.random_projection import SparseRandomProjection, johnson_lindenstrauss_min_dim
from sklearn.utils.validation import check_is_fitted

from mmad_utils.detector import Detector, DetectorError, check_whole
from mmad_utils.detectors.positionwise_gaussian import PositionwiseGaussian
from mmad_utils.encoders import backbones
from mmad_utils.encoders.image import ImageEncoder, check_pictures, join_layers

__all__ = ["PaDiM", "PatchCore"]

DIRECTIONS = 16  # in which patches are first compared
EXACT = 16  # patches with the largest bounds, whose distance to the whole coreset is computed first
ROUNDING = 1e-5  # relative margin of a bound, above the rounding error of a distance in float32
PCA_PATCHES = 256  # patches of each image from which "pca" is computed
CANDIDATES = 8192  # patches whose distance to a growing coreset is kept up to date


@dataclass(eq=False, repr=False)
class _PatchDetector(Detector):
    """Base class of PaDiM and PatchCore: the encoder, the checks, and the map of patch distances."""

    modalities = ("image",)

    backbone: str = "efficientnet_lite0"
    _: KW_ONLY
    layers: tuple[int, ...] = (2, 3)
    blocks: tuple[int, ...] | None = None
    image_size: int = 224
    smoothing: float = 4.0
    contamination: float = 0.05
    weights: str | Path | None = None
    device: str = "auto"
    batch_size: int = 16
    cache: bool = True
    random_state: int | None = None

    def anomaly_map(self, X) -> np.ndarray:
        """Anomaly score of each pixel, at the input size of the network.

        Parameters
        ----------
        X : (n, H, W, C) uint8 array or sequence of n image paths

        Returns
        -------
        (n, image_size, image_size) float32
            Patch distances, enlarged bilinearly and smoothed by a Gaussian of ``smoothing`` pixels.
        """
        check_is_fitted(self)
        maps = [self._draw(batch) for batch in self._patch_distances(self._check(X, reset=False))]
        return np.concatenate(maps)

    def set_state(self, state) -> None:
        """Restore the result of ``get_state`` on a new object; the backbone must have the same weights as in fit."""
        super().set_state(state)
        who, known = type(self).__name__, state["fitted"]["fingerprint_"]
        backbones.check_saved(self.backbone, self.weights, self.image_size, known, who=who)
        self._encoder = self._make_encoder()
        self._encoder.require_weights(known, who=who)

    @abc.abstractmethod
    def _patch_distances(self, X) -> Iterator[torch.Tensor]:
        """Distances of each patch, in batches of (b, h, w)."""

    def _make_encoder(self) -> ImageEncoder:
        return ImageEncoder(
            self.backbone,
            layers=self.layers,
            blocks=self.blocks,
            image_size=self.image_size,
            weights=self.weights,
            device=self.device,
            batch_size=self.batch_size,
            cache=self.cache,
            random_state=self.random_state or 0,
        )

    def _start_fit(self) -> np.random.Generator:
        """Make the encoder, and return the random generator of the fit."""
        if self.smoothing < 0:
            raise DetectorError(f"smoothing is {self.smoothing!r}; give a standard deviation of 0 or more pixels.")
        self._encoder = self._make_encoder()
        self.fingerprint_ = self._encoder.fingerprint
        return np.random.default_rng(self.random_state)

    def _draw(self, distances: torch.Tensor) -> np.ndarray:
        """(b, h, w) patch distances as (b, image_size, image_size) maps."""
        rows, columns = map(self._enlarger, distances.shape[1:])
        batch = len(distances)
        return rows.expand(batch, -1, -1).bmm(distances.float()).bmm(columns.T.expand(batch, -1, -1)).numpy()

    def _enlarger(self, size: int) -> torch.Tensor:
        """(image_size, size) matrix that enlarges a line of distances bilinearly and smooths it.

        Both operations are linear, and equal along rows and columns, so that two products replace them.
        """
        enlarged = F.interpolate(torch.eye(size)[None], self.image_size, mode="linear", align_corners=False)[0].T
        return torch.from_numpy(gaussian_filter(enlarged.numpy(), sigma=(self.smoothing, 0)))

    def _check(self, X, *, reset: bool):
        return check_pictures(X, least=2 if reset else 1)


@dataclass(kw_only=True, eq=False, repr=False)
class PaDiM(_PatchDetector):
    """Patch distribution modelling: a Gaussian at each position, Mahalanobis distance as the score.

    Images are processed in batches, and only the statistics of their features are kept. With fewer images than
    features, the selected features themselves need less memory and are kept instead: see
    ``detectors.positionwise_gaussian``.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        See ``ImageEncoder``.
    layers : tuple of int in 1..4, default=(2, 3)
        Layers whose features form a patch; the first has the finest grid. Layer 1 gives a map of twice the resolution
        at four times the cost.
    blocks : tuple of int or None, default=None
        Blocks of a plain vision transformer, instead of ``layers``; see ``ImageEncoder``.
    n_features : int, default=100
        Largest number of features that are kept of each patch; all where the layers have fewer.
    feature_selection : {"random", "pca", "semi_orthogonal", "all"}, default="random"
        A random subset of the channels (Defard et al.), the directions of largest variance over all patches, a
        random matrix with orthonormal columns (Kim et al.), or everything.
    per_position : bool, default=True
        False fits one Gaussian to the patches of all positions together.
    covariance_regularization : float > 0, default=0.01
        ε in Σ + εI, in squared units of the features.
    image_size : int, default=224
        Side of the square that the network sees, in pixels.
    smoothing : float >= 0, default=4.0
        Standard deviation of the Gaussian that smooths the map, in pixels.
    contamination : float in (0, 0.5], default=0.05
        Share of the training images above the threshold. Each is scored by the Gaussian of the other images, in
        closed form, because the Gaussian is fitted to the image itself and its own distance is too small.
        ``calibrate`` on held-out images gives a guarantee.
    weights : path, "random" or None, default=None
        See ``ImageEncoder``.
    device : str, default="auto"
    batch_size : int, default=16
    cache : bool, default=True
        Store features on disk, see ``ImageEncoder``. Without it a fit computes them twice, or three times for "pca".
    random_state : int or None, default=None
        Seed of the selection (and of ``weights="random"``).

    Attributes
    ----------
    selection_ : (k,) int64 channels, (d, k) float32 projection, or None for all
    gaussian_ : PositionwiseGaussian
    fingerprint_ : str, SHA-256 of the backbone's weights

    References
    ----------
    T. Defard, A. Setkov, A. Loesch, R. Audigier (2021), PaDiM: a patch distribution modeling framework for
    anomaly detection and localization.
    J.-H. Kim, D.-H. Kim, S. Yi, T. Lee (2021), Semi-orthogonal embedding for efficient unsupervised anomaly
    segmentation.
    """

    n_features: int = 100
    feature_selection: str = "random"
    per_position: bool = True
    covariance_regularization: float = 0.01

    def _fit(self, X, y) -> None:
        if self.feature_selection not in ("random", "pca", "semi_orthogonal", "all"):
            raise DetectorError(
                f"feature_selection is {self.feature_selection!r}; give 'random', 'pca', 'semi_orthogonal' or 'all'."
            )
        if self.n_features < 1:
            raise DetectorError(f"n_features is {self.n_features!r}; give a positive number.")
        gaussian = PositionwiseGaussian(self.covariance_regularization)
        rng = self._start_fit()
        self.selection_ = self._select(X, rng)
        for batch in self._embeddings(X):
            gaussian.partial_fit(batch)
        self.gaussian_ = gaussian

    def _score(self, X) -> np.ndarray:
        return np.concatenate([self._draw(batch).max(axis=(1, 2)) for batch in self._patch_distances(X)])

    def _training_scores(self, X) -> np.ndarray:
        if not self.per_position:  # one image hardly changes the Gaussian of all patches
            return self._score(X)
        left_out = (self.gaussian_.leave_one_out(batch) for batch in self._patch_distances(X))
        return np.concatenate([self._draw(batch).max(axis=(1, 2)) for batch in left_out])

    def _patch_distances(self, X) -> Iterator[torch.Tensor]:
        h, w = self._encoder.grid_
        for batch in self._embeddings(X):
            yield self.gaussian_.mahalanobis(batch).reshape(-1, h, w)

    def _embeddings(self, X) -> Iterator[torch.Tensor]:
        """Selected features, in batches: (b, positions, k), or (b * positions, 1, k) for one Gaussian."""
        for features in self._encoder.features(X):
            batch = join_layers(self._reduce(features), self._encoder.grid_)
            yield batch if self.per_position else batch.flatten(0, 1)[:, None]

    def _select(self, X, rng: np.random.Generator) -> torch.Tensor | None:
        """Channels to keep, or the matrix that projects them; drawn at random or computed from training images."""
        d = sum(self._encoder.channels)
        k = min(self.n_features, d)
        if self.feature_selection == "all":
            return None
        if self.feature_selection == "random":
            return torch.from_numpy(np.sort(rng.choice(d, size=k, replace=False)))
        if self.feature_selection == "semi_orthogonal":
            return torch.from_numpy(np.linalg.qr(rng.normal(size=(d, k)))[0].astype(np.float32, order="C"))
        patches = PositionwiseGaussian()
        for batch in self._encoder.embeddings(X):
            position = rng.integers(batch.shape[1], size=(len(batch), PCA_PATCHES))
            chosen = batch[torch.arange(len(batch))[:, None], torch.from_numpy(position)]
            patches.partial_fit(chosen.flatten(0, 1)[:, None])
        variances, directions = torch.linalg.eigh(torch.from_numpy(patches.covariance_[0]))
        return directions[:, variances.argsort(descending=True)[:k]].to(torch.float32).contiguous()

    def _reduce(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Select features layer by layer before the interpolation; both are linear, so the order does not matter."""
        if self.selection_ is None:
            return features
        starts = np.cumsum([0, *self._encoder.channels])
        if self.selection_.ndim == 1:
            parts = [self.selection_ - start for start in starts[:-1]]
            parts = [part[(part >= 0) & (part < layer.shape[1])] for part, layer in zip(parts, features)]
            return [layer[:, part] for part, layer in zip(parts, features) if len(part)]
        grid = self._encoder.grid_
        total = torch.zeros(())
        for layer, a in zip(features, starts):
            projected = torch.einsum("bchw,ck->bkhw", layer, self.selection_[a : a + layer.shape[1]])
            total = total + F.interpolate(projected, grid, mode="nearest")
        return [total]


@dataclass(kw_only=True, eq=False, repr=False)
class PatchCore(_PatchDetector):
    """Distance of the patches to the nearest patch of a coreset of normal patches.

    Parameters
    ----------
    backbone, blocks, image_size, smoothing, contamination, weights, device, batch_size, cache : see ``PaDiM``
    layers : tuple of int in 1..4, default=(2, 3)
        Layers whose features, averaged over 3×3 neighbours, form a patch.
    coreset_ratio : float in (0, 1], default=0.01
        Share of the training patches in the coreset, which is chosen to cover all patches (greedy k-centre).
    n_neighbors : int >= 1, default=9
        Coreset patches around the nearest one that determine the weight of the image score; with 1 it has no weight.
    max_patches : int or None, default=None
        Largest number of patches in memory during a fit. With more training patches the coreset is built in one pass:
        each time ``max_patches`` are in memory, the greedy choice of ``coreset_ratio`` of them is kept (a coreset of
        coresets, Malkomes et al.). Memory and the time per image are then bounded. None keeps all patches.
    random_state : int or None, default=None
        Seed of the projection and of the first patch chosen.

    Attributes
    ----------
    memory_ : (m, d) float32, the patches of the coreset
    fingerprint_ : str, SHA-256 of the backbone's weights

    References
    ----------
    K. Roth, L. Pemula, J. Zepeda, B. Schölkopf, T. Brox, P. Gehler (2022), Towards total recall in industrial
    anomaly detection, algorithm 1, eq. 6 and 7.
    G. Malkomes, M. Kusner, W. Chen, K. Weinberger, B. Moseley (2015), Fast distributed k-center clustering with
    outliers on massive data.
    M. Minoux (1978), Accelerated greedy algorithms for maximizing submodular set functions.
    """

    coreset_ratio: float = 0.01
    n_neighbors: int = 9
    max_patches: int | None = None

    def _fit(self, X, y) -> None:
        if not 0 < self.coreset_ratio <= 1:
            raise DetectorError(f"coreset_ratio is {self.coreset_ratio!r}; give a share in (0, 1].")
        if self.n_neighbors < 1:
            raise DetectorError(f"n_neighbors is {self.n_neighbors!r}; give at least 1.")
        if self.max_patches is not None:
            check_whole("max_patches", self.max_patches, 2)
        rng = self._start_fit()
        h, w = self._encoder.grid_
        d = sum(self._encoder.channels)
        n = len(X) * h * w
        k = min(d, int(johnson_lindenstrauss_min_dim(n, eps=0.9)))
        projection = np.eye(d, dtype=np.float32)
        if k < d:
            seed = int(rng.integers(2**31))
            sparse = SparseRandomProjection(n_components=k, random_state=seed).fit(np.zeros((1, d)))
            projection = sparse.components_.toarray().T.astype(np.float32)
        if self.max_patches is not None and self.max_patches < n:
            size = max(1, round(self.coreset_ratio * self.max_patches))
            if size + h * w > self.max_patches:
                raise DetectorError(
                    f"max_patches={self.max_patches} cannot hold the {size} patches of the coreset and the {h * w} "
                    "of an image; give more, or a smaller coreset_ratio."
                )
            buffer = torch.empty(self.max_patches, d)
            self.memory_ = _stream_coreset(self._patches(X), buffer, torch.from_numpy(projection), size, rng)
            return
        projected = torch.cat([patches @ torch.from_numpy(projection) for patches in self._patches(X)])
        chosen = _greedy_coreset(projected, max(1, round(self.coreset_ratio * n)), int(rng.integers(n)))
        del projected
        self.memory_ = torch.cat(
            [patches[chosen[chosen // (h * w) == i] % (h * w)] for i, patches in enumerate(self._patches(X))]
        )

    def _score(self, X) -> np.ndarray:
        search = _CoresetSearch(self.memory_)
        return np.array([self._image_score(search, *search.farthest(patches)) for patches in self._patches(X)])

    def _patch_distances(self, X) -> Iterator[torch.Tensor]:
        search = _CoresetSearch(self.memory_)
        for patches in self._patches(X):
            yield search.nearest(patches)[0].reshape(1, *self._encoder.grid_)

    def _patches(self, X) -> Iterator[torch.Tensor]:
        """Locally aware patch features of each image, (h*w, d)."""
        for features in self._encoder.features(X):
            pooled = [F.avg_pool2d(layer, 3, stride=1, padding=1) for layer in features]
            yield from join_layers(pooled, mode="bilinear")

    def _image_score(self, search: _CoresetSearch, distance: float, nearest: int, patch: torch.Tensor) -> float:
        """Largest patch distance, reduced where the nearest coreset patch has near neighbours (eq. 7)."""
        if self.n_neighbors == 1 or len(self.memory_) == 1:
            return distance
        neighbours = search.neighbours(nearest, min(self.n_neighbors, len(self.memory_)))
        to_neighbours = (self.memory_[neighbours] - patch).norm(dim=1)
        return float(distance * (1 - to_neighbours.double().softmax(0)[0]))


class _CoresetSearch:
    """Search for the nearest coreset patches.

    Parameters
    ----------
    memory : (m, d) float tensor on the CPU, the patches of the coreset
    """

    def __init__(self, memory: torch.Tensor):
        self.memory, self.squares = memory, memory.square().sum(1)
        # One step of the power method from rows at equal steps: directions in which the coreset has a large extent.
        start = memory[:: max(1, len(memory) // DIRECTIONS)][:DIRECTIONS]
        self.directions = torch.linalg.qr(memory.T @ (memory @ start.T))[0]  # (d, k)
        self.short = memory @ self.directions
        self.short_squares = self.short.square().sum(1)

    def nearest(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distance of the patches (p, d) to the nearest coreset patch, and its row, (p,) each."""
        rows = _nearest_rows(patches, self.memory, self.squares)
        return self._distances(patches, rows), rows

    def farthest(self, patches: torch.Tensor) -> tuple[float, int, torch.Tensor]:
        """Distance of the most distant of the patches to the coreset, row of its nearest one, and its features.

        The coreset patch that is nearest in a few directions is usually near in all of them. Its distance is an upper
        bound of the distance to the coreset. The distances of the patches with the largest bounds are computed
        first. The others whose bound is not above the largest of these distances are left out.
        """
        candidates = _nearest_rows(patches @ self.directions, self.short, self.short_squares)
        bounds = self._distances(patches, candidates)
        largest = bounds.topk(min(EXACT, len(bounds))).indices
        first = self._farthest(patches[largest])
        bounds[largest] = 0
        left = patches[bounds * (1 + ROUNDING) > first[0]]
        return max(first, self._farthest(left), key=lambda found: found[0]) if len(left) else first

    def neighbours(self, row: int, count: int) -> torch.Tensor:
        """Rows of the coreset patches nearest to that of ``row``, which comes first, also before its duplicates."""
        distances = torch.mv(self.memory, self.memory[row]).mul_(-2).add_(self.squares)  # squared, minus a constant
        distances[row] = -torch.inf
        return distances.topk(count, largest=False).indices

    def _farthest(self, patches: torch.Tensor) -> tuple[float, int, torch.Tensor]:
        """The result of `farthest`, by the distances of all patches."""
        distances, rows = self.nearest(patches)
        i = int(distances.argmax())
        return float(distances[i]), int(rows[i]), patches[i]

    def _distances(self, patches: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Distance of patch i to the coreset patch ``rows[i]``, for all i, (p,)."""
        return self.memory.index_select(0, rows).sub_(patches).norm(dim=1)


def _nearest_rows(points: torch.Tensor, rows: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """For each of the points (p, d), the nearest of the rows (m, d) with these squared lengths, as (p,) int64."""
    distances = torch.addmm(squares, points, rows.T, alpha=-2)  # squared, minus the square of the point itself
    return torch.from_numpy(distances.numpy().argmin(1))  # NumPy's search is many times faster than PyTorch's


def _stream_coreset(
    patches: Iterable[torch.Tensor], buffer: torch.Tensor, projection: torch.Tensor, size: int, rng
) -> torch.Tensor:
    """Coreset, (size, d), from one pass over the patches (p, d) of each image; ``buffer`` (m, d) holds candidates."""
    count = 0

    def chosen() -> torch.Tensor:
        return buffer[_greedy_coreset(buffer[:count] @ projection, size, int(rng.integers(count)))]

    for image in patches:
        if count + len(image) > len(buffer):
            buffer[:size], count = chosen(), size
        buffer[count : count + len(image)] = image
        count += len(image)
    return chosen()


def _greedy_coreset(points: torch.Tensor, size: int, first: int) -> torch.Tensor:
    """Rows of a coreset that covers all points (greedy k-centre; Roth et al., algorithm 1).

    Each choice is the point that is farthest from the earlier choices. This distance never increases, so its last
    known value is an upper bound (lazy greedy, Minoux 1978). Only the distances of the `CANDIDATES` points with the
    largest bounds are kept up to date, until one of the other points may be farther.
    """
    squares = points.square().sum(1)
    chosen = torch.full((size,), first)
    bound = torch.mv(points, points[first]).mul_(-2).add_(squares).add_(squares[first])
    bound[first] = -torch.inf
    known = torch.ones(len(points), dtype=torch.int64, device=points.device)  # choices that the bound accounts for
    count = 1
    while count < size:
        largest, candidates = bound.topk(min(CANDIDATES, len(points)))
        candidates = candidates.sort().values  # of equally far points the first is chosen
        near, lengths, distance = points[candidates], squares[candidates], bound[candidates]
        for start in range(int(known[candidates].min()), count, 1024):
            missing = chosen[start : min(start + 1024, count)]
            update = torch.addmm(squares[missing], near, points[missing].T, alpha=-2).amin(1).add_(lengths)
            distance = torch.minimum(distance, update)
        while count < size:
            farthest = int(distance.argmax())
            if distance[farthest] < largest[-1] and len(candidates) < len(points):
                break
            chosen[count] = candidates[farthest]
            count += 1
            update = torch.mv(near, near[farthest]).mul_(-2).add_(lengths).add_(lengths[farthest])
            distance = torch.minimum(distance, update)
            distance[farthest] = -torch.inf
        bound[candidates], known[candidates] = distance, count
    return chosen.sort().values
