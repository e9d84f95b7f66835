"""Self-supervised detectors for images: a classifier predicts which geometric operation was applied.

The labels need no annotation, because the operations are applied by the detector. To classify the operation, the
network must learn features of the normal images, such as their orientation. On an anomaly its prediction is less
certain, and this uncertainty is the score.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.transformations import irregular_affine, rearranged_patches, regular_affine, transform
from mmad_utils.training import DeepDetector

__all__ = ["E3Outlier", "GeometricTransformations", "fit_dirichlet"]

SMALLEST_SIDE = 8  # px


@dataclass(kw_only=True, eq=False, repr=False)
class OperationClassifier(DeepDetector):
    """Base class of the two detectors: a network that classifies the operation, trained by cross-entropy.

    At each step ``views`` random operations, not all K, are applied to every image of the batch. Each view also gets
    a small random affine map. Without it the network would memorise a few hundred images, and its answers would not
    generalise to new ones.

    The network has four convolutions with batch normalisation, the maximum over all positions, ``latent_dim``
    features, and a linear layer to K logits. Because of the maximum, the position of a feature has no effect.
    """

    modalities = ("image",)

    latent_dim: int = 64
    width: int = 8
    views: int = 4
    jitter: float = 0.1
    learning_rate: float = 3e-3

    @abc.abstractmethod
    def operations(self, side: int) -> Tensor:
        """The sampling grids of the operations, (K, side, side, 2)."""

    def build(self, shape):
        grids = self.operations(shape[1])
        layers: list[nn.Module] = []
        channels = [shape[0], self.width, 2 * self.width, 4 * self.width, self.latent_dim]
        for (c_in, c_out), kernel, stride in zip(pairwise(channels), (5, 3, 3, 3), (2, 2, 2, 1)):
            convolution = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(c_out), nn.LeakyReLU(0.1)]
        encoder = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten()).to(memory_format=torch.channels_last)
        network = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(self.latent_dim, len(grids))})
        network.register_buffer("grids", grids, persistent=False)
        return network

    def logits(self, images: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, K)."""
        return self.network_["head"](self.network_["encoder"](images))

    def loss(self, batch, generator):
        n = self.views * len(batch)
        which = torch.randint(len(self.network_.grids), (n,), generator=generator)
        noise = self.jitter * (2 * torch.rand(n, 3, 2, generator=generator) - 1)
        which, noise = which.to(batch.device), noise.to(batch.device)
        grids = self.network_.grids[which]
        moved = grids.flatten(1, 2) @ (torch.eye(2, device=batch.device) + noise[:, :2]) + noise[:, 2:]
        images = transform(batch.repeat(self.views, 1, 1, 1), moved.view_as(grids))
        return functional.cross_entropy(self.logits(images), which)

    def log_probabilities(self, batch: Tensor) -> Tensor:
        """log p(T_j | T_i(x)), (n, K, K): axis 1 is the applied operation i, axis 2 the predicted operation j."""
        answers = [self.logits(transform(batch, grid)) for grid in self.network_.grids]
        return torch.stack(answers, 1).log_softmax(2)

    def _check(self, X, *, reset):
        name, shape = type(self).__name__, np.shape(X)
        if len(shape) != 4:
            raise DetectorError(f"{name} needs images, uint8 of shape (n, H, W, C); got an array of shape {shape}.")
        if shape[1] != shape[2] or shape[1] < SMALLEST_SIDE:
            raise DetectorError(
                f"{name} needs square images of at least {SMALLEST_SIDE} px per side, because it rotates them by "
                f"90°; got {shape[1]}×{shape[2]}: crop, pad or enlarge them."
            )
        return super()._check(X, reset=reset)


@dataclass(kw_only=True, eq=False, repr=False)
class GeometricTransformations(OperationClassifier):
    """Classifier of 72 compositions of flips, shifts and quarter turns (Golan & El-Yaniv 2018).

    With T_1 … T_K the operations and p(T_j | ·) the classifier's probabilities, the anomaly score is

    - ``score="simplified"``: −Σ_i log p(T_i | T_i(x));
    - ``score="dirichlet"``: −Σ_i Σ_j (α_ij − 1) log p(T_j | T_i(x)), equation 1 of the paper without constants. The
      probabilities after operation i on normal samples are modelled by a Dirichlet distribution with parameters α_i,
      fitted to the training samples by Minka's fixed-point iteration. It includes frequent confusions of operations.

    Parameters
    ----------
    flip : bool, default=True
    shift : float in [0, 1), default=0.25
        Translation as a share of the side; with 0 there are no translations.
    rotations : {1, 2, 4}, default=4
        The three defaults give 72 operations; ``flip=False, shift=0`` gives only the four quarter turns.
    score : {"simplified", "dirichlet"}, default="simplified"
    latent_dim, width : int, defaults 64 and 8
        Features before the last layer; channels after the first convolution.
    views : int, default=4
        Operations drawn for each image at each step.
    jitter : float, default=0.1
        Size of the random affine map of each view. The entries of its 2×2 matrix differ from the identity, and its
        translation from 0, by at most this value; the side of the image has length 2. With 0 there is no such map.

    other parameters
        Those of ``DeepDetector``; the default of epochs is 300, of learning_rate 3e-3.

    Attributes
    ----------
    network_ : ModuleDict of ``encoder`` and ``head``; buffers ``grids`` (K, side, side, 2) and ``alpha`` (K, K)
    history_, offset_, ... : see ``DeepDetector``

    Raises
    ------
    DetectorError
        A table; images that are not square, smaller than 8 px, or of an odd side; an unknown score or set of
        operations.

    References
    ----------
    I. Golan, R. El-Yaniv (2018), Deep anomaly detection using geometric transformations, NeurIPS.
    T. Minka (2000), Estimating a Dirichlet distribution.
    """

    flip: bool = True
    shift: float = 0.25
    rotations: int = 4
    score: str = "simplified"
    epochs: int = 300

    def operations(self, side):
        if self.rotations not in (1, 2, 4) or not 0 <= self.shift < 1:
            raise DetectorError(
                f"rotations is {self.rotations!r}, shift {self.shift!r}; give 1, 2 or 4 rotations, and a "
                "shift in [0, 1)."
            )
        if self.score not in ("simplified", "dirichlet"):
            raise DetectorError(f"score is {self.score!r}; choose 'simplified' or 'dirichlet'.")
        grids = regular_affine(side, flip=self.flip, shift=self.shift, rotations=self.rotations)
        if len(grids) == 1:
            raise DetectorError("the identity is the only operation: allow flips, shifts or rotations.")
        return grids

    def build(self, shape):
        network = super().build(shape)
        k = len(network.grids)
        network.register_buffer("alpha", torch.eye(k, dtype=torch.float64) + 1)  # the simplified score
        return network

    def optimise(self, data, generator):
        history = super().optimise(data, generator)
        if self.score == "dirichlet":
            self.network_.eval()
            with torch.no_grad():
                answers = torch.cat([self.log_probabilities(batch) for batch in data.split(256)])
            self.network_.alpha = fit_dirichlet(answers.double().mean(0))
        return history

    def batch_score(self, batch, generator):
        answers = self.log_probabilities(batch)
        if self.score == "simplified":
            return -answers.diagonal(dim1=1, dim2=2).sum(1)
        return -((self.network_.alpha - 1) * answers).sum((1, 2))


def fit_dirichlet(mean_log: Tensor, *, iterations: int = 500, tolerance: float = 1e-5) -> Tensor:
    """Maximum-likelihood parameters of Dirichlet distributions, (m, k) float64.

    Minka's fixed point: ψ(α_j) ← ψ(Σ α) + mean log p_j, with ψ inverted by five Newton steps from his starting value.

    Parameters
    ----------
    mean_log : (m, k) float64
        Mean over the observations of log p, the sufficient statistic; one row for each of m distributions.
    iterations, tolerance
        Largest number of iterations; the iteration stops when no α changes by more than this share.
    """
    alpha = mean_log.exp() / mean_log.exp().sum(1, keepdim=True) * mean_log.shape[1]
    for _ in range(iterations):
        target = torch.digamma(alpha.sum(1, keepdim=True)) + mean_log
        new = torch.where(target >= -2.22, target.exp() + 0.5, -1 / (target + np.euler_gamma))
        for _ in range(5):
            new = new - (torch.digamma(new) - target) / torch.polygamma(1, new)
        change = ((new - alpha).abs() / alpha).max()
        alpha = new
        if change < tolerance:
            break
    return alpha


@dataclass(kw_only=True, eq=False, repr=False)
class E3Outlier(OperationClassifier):
    """Detector of outliers in unlabelled, contaminated images by a self-supervised classifier (Wang et al. 2019).

    The network is trained on inliers and outliers together. Because the inliers are many, the gradients fit them
    first ("inlier priority"), and the predictions for the few outliers stay uncertain. With P^(t)(x^(y)) the
    probability of operation t after operation y was applied, the anomaly score is minus the mean over y of

    - ``score="PL"``: the probability of the right answer, P^(y)(x^(y));
    - ``score="MP"``: the largest probability, max_t P^(t)(x^(y));
    - ``score="NE"``: the negative entropy, Σ_t P^(t)(x^(y)) log P^(t)(x^(y)).

    Parameters
    ----------
    sets : tuple of "regular", "irregular", "patches", default all three
        72 compositions of flips, shifts and quarter turns; 16 other rotations; 23 orders of the image's quarters.
    score : {"PL", "MP", "NE"}, default="PL"
        The paper reports NE. For a short training of a small network PL has the highest accuracy of the three.
    latent_dim, width, views, jitter : see ``GeometricTransformations``

    other parameters
        Those of ``DeepDetector``; the default of epochs is 100, of batch_size 32, of learning_rate 3e-3. ``fit``
        takes the contaminated samples without labels.

    Attributes
    ----------
    network_ : ModuleDict of ``encoder`` and ``head``; buffer ``grids`` (K, side, side, 2), K = 111 by default
    history_, offset_, ... : see ``DeepDetector``

    Raises
    ------
    DetectorError
        A table; images that are not square, smaller than 8 px, or of an odd side; an unknown score or set.

    References
    ----------
    S. Wang, Y. Zeng, X. Liu, E. Zhu, J. Yin, C. Xu, M. Kloft (2019), Effective end-to-end unsupervised outlier
    detection via inlier priority of discriminative network, NeurIPS; scores: equations 8 to 10.

    Examples
    --------
    The paper's baseline SSD-IF is an Isolation Forest on the learned features:

    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.pipeline import make_pipeline
    >>> from mmad_utils import E3Outlier
    >>> baseline = make_pipeline(E3Outlier(random_state=0), IsolationForest(random_state=0))
    """

    sets: tuple[str, ...] = ("regular", "irregular", "patches")
    score: str = "PL"
    epochs: int = 100
    batch_size: int = 32

    def operations(self, side):
        makers: dict[str, Callable[[int], Tensor]] = {
            "regular": regular_affine,
            "irregular": irregular_affine,
            "patches": rearranged_patches,
        }
        if not self.sets or not set(self.sets) <= set(makers):
            raise DetectorError(f"sets is {self.sets!r}; choose from {', '.join(makers)}.")
        if self.score not in ("PL", "MP", "NE"):
            raise DetectorError(f"score is {self.score!r}; choose 'PL', 'MP' or 'NE'.")
        if "patches" in self.sets and side % 2:
            raise DetectorError(
                f"images of {side} px cannot be divided into quarters: crop or pad them to an even side."
            )
        return torch.cat([makers[name](side) for name in self.sets])

    def batch_score(self, batch, generator):
        logp = self.log_probabilities(batch)
        if self.score == "PL":
            return -logp.diagonal(dim1=1, dim2=2).exp().mean(1)
        if self.score == "MP":
            return -logp.amax(2).exp().mean(1)
        return -(logp.exp() * logp).sum(2).mean(1)

    def transform(self, X) -> np.ndarray:
        """Learned features of each image without operation, (n, latent_dim) float64; concatenated over networks."""
        check_is_fitted(self)
        if self.n_estimators > 1:
            return np.hstack([estimator.transform(X) for estimator in self.estimators_])
        return self._batches(lambda batch, generator: self.network_["encoder"](batch), self._check(X, reset=False))

    def gradients(self, X) -> np.ndarray:
        """Gradient of each sample's loss with respect to the weights of the last layer, (n, K, latent_dim) float64.

        The loss is the mean cross-entropy over the K operations. With the probabilities P and the features h of x^(y)
        its gradient is the mean over y of (P(x^(y)) − e_y) h(x^(y))ᵀ. The sum over a group of samples is the
        influence of the group on an update. By inlier priority the inliers have the larger influence (section 3.3).
        """
        check_is_fitted(self)
        if self.n_estimators > 1:
            raise DetectorError(
                f"n_estimators is {self.n_estimators}: each network has its own gradients; call the method of one of "
                "estimators_."
            )

        def mean_outer(batch, generator):
            total = torch.zeros(len(batch), *self.network_["head"].weight.shape, device=batch.device)
            for y, grid in enumerate(self.network_.grids):
                features = self.network_["encoder"](transform(batch, grid))
                error = self.network_["head"](features).softmax(1)
                error[:, y] -= 1
                total += error[:, :, None] * features[:, None]
            return total / len(self.network_.grids)

        return self._batches(mean_outer, self._check(X, reset=False))
