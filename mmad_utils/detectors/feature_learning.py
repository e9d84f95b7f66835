"""Detectors that learn features from distances: REPEN and random distance prediction (RDP).

Both work on tables and on small images. A related method that learns features and clusters together is in ``dagmm``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor, nn
from torch.nn import functional as F

from mmad_utils.detector import DetectorError
from mmad_utils.networks import encoder
from mmad_utils.training import Adam, DeepDetector, update

__all__ = [
    "RDP",
    "REPEN",
    "outlier_candidates",
    "random_neighbour_distance",
]


def random_neighbour_distance(points: Tensor, subsamples: Tensor, own_rows: Tensor | None = None) -> Tensor:
    """Distance to the nearest neighbour in a random subsample, averaged over several subsamples.

    Parameters
    ----------
    points : (n, d)
    subsamples : (m, s, d)
        m subsamples of s points. A small s (8 in the papers) suffices to separate sparse from dense regions.
    own_rows : (m, s) int, optional
        Rows of ``points`` that the subsamples hold. No point is then its own neighbour.

    Returns
    -------
    (n,), in the units of the points

    References
    ----------
    M. Sugiyama, K. Borgwardt (2013), Rapid distance-based outlier detection via sampling (Sp, one subsample).
    G. Pang, K. M. Ting, D. Albrecht (2015), LeSiNN: detecting anomalies by identifying least similar nearest
    neighbours (the average over subsamples).
    """
    distances = torch.cdist(points, subsamples.flatten(0, 1), compute_mode="donot_use_mm_for_euclid_dist")
    if own_rows is not None:
        distances[own_rows.flatten(), torch.arange(own_rows.numel())] = torch.inf
    return distances.unflatten(1, subsamples.shape[:2]).amin(dim=2).mean(dim=1)


def outlier_candidates(scores: Tensor, cutoff: float) -> Tensor:
    """Mask of the scores above mean + cutoff · standard deviation, (n,) -> (n,) bool.

    By Cantelli's inequality their share is at most 1 / (1 + cutoff²) for every distribution of scores.

    Raises
    ------
    DetectorError
        There is no candidate, or fewer than two other samples, so that no triplet can be drawn.
    """
    candidates = scores > scores.mean() + cutoff * scores.std()
    if not 1 <= candidates.sum() <= len(scores) - 2:
        raise DetectorError(
            f"{int(candidates.sum())} of {len(scores)} samples are outlier candidates, so no triplet can be drawn: "
            f"the base detector gives scores from {scores.min():.3g} to {scores.max():.3g}, the cutoff is {cutoff:g} "
            "standard deviations above their mean. Give a lower cutoff or another base_detector."
        )
    return candidates


def _subsample_rows(n: int, count: int, size: int, generator: torch.Generator) -> Tensor:
    """(count, size) row numbers, distinct within a subsample unless there are fewer than ``size`` rows."""
    if size > n:
        return torch.randint(n, (count, size), generator=generator)
    return torch.rand(count, n, generator=generator).topk(size, dim=1).indices


@dataclass(kw_only=True, eq=False, repr=False)
class REPEN(DeepDetector):
    """Representation for random-neighbour distances, learned from the candidates of a base detector.

    A base detector scores the training samples. Those with extreme scores are outlier candidates x⁻, the others
    inlier candidates x⁺. Each step draws a set Q of inlier candidates and takes the distance of a sample to its
    nearest neighbour in Q, in the space of the network φ. φ is trained so that this distance is larger for an outlier
    candidate than for an inlier candidate:

        max(0, margin + f(x⁺, Q) − f(x⁻, Q)),   f(x, Q) = min_{q ∈ Q} ‖φ(x) − φ(q)‖₂

    Outlier candidates are drawn with a probability that increases with their base score, and members of Q with one
    that decreases with it. The score is the mean of f over random subsamples of the training set.

    With normal samples only, the candidates are the most extreme *normal* samples, and the network learns the errors
    of the base detector. The paper's base detector, Sp, selects the samples that are far from all others, mainly in
    columns with long tails. The default here is the local outlier factor: it compares a sample with its own
    neighbourhood, and so selects candidates in every region of the data.

    Parameters
    ----------
    base_detector : "lof", "sp" or an estimator with fit and score_samples, default="lof"
        Local outlier factor with 20 neighbours; average distance to the nearest neighbour in random subsamples; or
        any detector with scikit-learn's interface, which gets images as rows of pixels. It is not needed after
        ``fit``.
    cutoff : float, default=1.7321
        Outlier candidates have a base score more than this many standard deviations above the mean. With √3 they are
        at most a quarter of the samples (Cantelli).
    margin : float, default=1.0
        In the units of the learned space, in which the distance of neighbours is about 1 before training.
    latent_dim : int, default=64
    hidden : sequence of int, default=()
        Widths of the hidden layers, for tables.
    n_queries : int, default=64
        Size of Q.
    subsample_size, n_subsamples : int, default=64 and 20
        Size and number of the random subsamples, for the score and for "sp".

    other parameters
        Those of ``DeepDetector``; the default of epochs is 30, of batch_size 256.

    Notes
    -----
    The base detector "lof" and the 64 rows of a subsample are choices of this project. The paper's base detector is
    "sp", and its subsamples have 8 rows.

    References
    ----------
    G. Pang, L. Cao, L. Chen, H. Liu (2018), Learning representations of ultrahigh-dimensional data for random
    distance-based outlier detection, KDD: eq. 3 (loss), algorithm 1 (candidates).
    """

    base_detector: Any = "lof"
    cutoff: float = 1.7321
    margin: float = 1.0
    latent_dim: int = 64
    hidden: Sequence[int] = ()
    n_queries: int = 64
    subsample_size: int = 64
    n_subsamples: int = 20
    epochs: int = 30
    batch_size: int = 256

    def build(self, shape):
        """φ, with the embedded subsamples for the score as a buffer."""
        phi = nn.Sequential(*encoder(shape, self.latent_dim, hidden=self.hidden), nn.ReLU())
        phi.register_buffer("subsamples", torch.zeros(self.n_subsamples, self.subsample_size, self.latent_dim))
        return phi

    def base_scores(self, data: Tensor, generator: torch.Generator) -> Tensor:
        """Anomaly scores of the training samples by the base detector, (n, ...) -> (n,) float32."""
        rows = data.flatten(1)
        if isinstance(self.base_detector, str) and self.base_detector == "sp":
            drawn = _subsample_rows(len(data), self.n_subsamples, self.subsample_size, generator)
            return random_neighbour_distance(rows, rows[drawn], drawn)
        X = rows.double().cpu().numpy()
        if isinstance(self.base_detector, str) and self.base_detector == "lof":
            lof = LocalOutlierFactor(min(20, len(X) - 1)).fit(X)
            return torch.from_numpy(-lof.negative_outlier_factor_).to(data)
        if not hasattr(self.base_detector, "score_samples"):
            raise DetectorError(
                f"base_detector is {self.base_detector!r}; give 'lof', 'sp' or an estimator with score_samples."
            )
        scores = clone(self.base_detector).fit(X).score_samples(X)
        return torch.from_numpy(-np.asarray(scores)).to(data)

    def optimise(self, data, generator):
        """Draw candidates, train φ on triplets, keep the embedded subsamples."""
        phi = self.network_
        scores = self.base_scores(data, generator)
        candidates = outlier_candidates(scores, self.cutoff)
        outliers, inliers = data[candidates], data[~candidates]
        extremity = (scores[candidates] - scores.mean()).cpu()
        centrality = (scores[~candidates].max() - scores[~candidates]).cpu() + 1e-6
        optimizer = Adam(phi.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)

        def step(rows):
            negatives = outliers[torch.multinomial(extremity, len(rows), True, generator=generator)]
            queries = torch.multinomial(centrality, min(self.n_queries, len(inliers)), generator=generator)
            distances = torch.cdist(phi(torch.cat([inliers[rows], negatives])), phi(inliers[queries]))
            itself = F.pad(rows[:, None] == queries.to(rows), (0, 0, 0, len(rows)))  # no sample is its own neighbour
            nearest = distances.masked_fill(itself, torch.inf).amin(dim=1)
            loss = F.relu(self.margin + nearest[: len(rows)] - nearest[len(rows) :]).mean()
            update(optimizer, loss)
            return {"loss": loss.detach()}

        history = self.run(step, torch.arange(len(inliers), device=data.device), generator)
        rows = _subsample_rows(len(data), self.n_subsamples, self.subsample_size, generator)
        with torch.no_grad():
            phi.subsamples = phi(data)[rows]
        return history

    def batch_score(self, batch, generator):
        """Random-neighbour distance in the learned space."""
        return random_neighbour_distance(self.network_(batch), self.network_.subsamples)


@dataclass(kw_only=True, eq=False, repr=False)
class RDP(DeepDetector):
    """Random distance prediction: a network learns to predict the outputs and inner products of a random network.

    η is a random network that is not trained; its outputs are standardised over the training set. φ is trained to
    predict the inner products of η and its outputs:

        relation  (⟨φ(x), φ(x')⟩ / m − ⟨η(x), η(x')⟩ / m)²      novelty  ‖φ(x) − η(x)‖² / m

    with m the number of outputs and x' another sample of the batch. φ learns the prediction near the training
    samples, so both deviations are larger elsewhere. The score is their weighted sum, with the relation averaged over
    reference samples x' of the training set. The scores of several networks, each with its own η, are averaged.

    Parameters
    ----------
    latent_dim : int, default=32
        m.
    hidden, target_hidden : sequences of int, default=(64,) and (64,)
        Widths of the hidden layers of φ and of η, for tables. Without hidden layers, η is a linear random projection.
    relation_weight, novelty_weight : float, default=1 and 1
        Weights of the two terms, in the loss and in the score.
    n_references : int, default=64

    other parameters
        Those of ``DeepDetector``; the default of epochs is 50, of batch_size 256, of learning_rate 3e-3, of
        n_estimators 5.

    Notes
    -----
    The paper averages several networks too. The authors' code (github.com/billhhh/RDP) averages 30, each the last of
    8 levels. Every level removes the 5% of the rows with the largest novelty and trains new networks on the others,
    because the paper's training data are contaminated. The authors' score is the novelty alone, and their loss uses
    inner products of outputs of unit ℓ1 norm. Here all training rows are kept, the score has both terms, and outputs
    are standardised. The relation changes the AUROC by less than the spread over seeds; the novelty alone is as good
    (``benchmarks/ablations.py``, which also compares the authors' levels).

    References
    ----------
    H. Wang, G. Pang, C. Shen, C. Ma (2020), Unsupervised representation learning by predicting random distances,
    IJCAI: eq. 2 (relation) and 4 (novelty). Both terms are divided by m to have the same scale.
    Y. Burda, H. Edwards, A. Storkey, O. Klimov (2019), Exploration by random network distillation, ICLR: the novelty.
    """

    latent_dim: int = 32
    hidden: Sequence[int] = (64,)
    target_hidden: Sequence[int] = (64,)
    relation_weight: float = 1.0
    novelty_weight: float = 1.0
    n_references: int = 64
    epochs: int = 50
    batch_size: int = 256
    learning_rate: float = 3e-3
    n_estimators: int = 5

    def build(self, shape):
        """φ and η, the scale of η's outputs and the reference samples."""
        network = nn.ModuleDict(
            {
                "phi": encoder(shape, self.latent_dim, hidden=self.hidden),
                "eta": encoder(shape, self.latent_dim, hidden=self.target_hidden).requires_grad_(False),
            }
        )
        network.register_buffer("mean", torch.zeros(self.latent_dim))
        network.register_buffer("scale", torch.ones(self.latent_dim))
        # Images have their channels last in memory; in another layout convolutions may round differently.
        references = torch.zeros(self.n_references, *shape[1:], shape[0]).movedim(-1, 1)
        network.register_buffer("references", references)
        return network

    def optimise(self, data, generator):
        """Compute mean and scale of η on the training set, draw the references, train φ."""
        network = self.network_
        target = network["eta"](data)
        network.mean, network.scale = target.mean(dim=0), target.std(dim=0).clamp_min(1e-6)
        network.references.copy_(data[torch.randint(len(data), (self.n_references,), generator=generator)])
        return super().optimise(data, generator)

    def embed(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """φ and the standardised η of a batch, each (n, m)."""
        network = self.network_
        return network["phi"](batch), (network["eta"](batch) - network.mean) / network.scale

    def loss(self, batch, generator):
        """Weighted sum of both deviations; the samples x' are a random permutation of the batch."""
        phi, eta = self.embed(batch)
        partners = torch.randperm(len(batch), generator=generator)
        relation = (phi * phi[partners]).mean(dim=1) - (eta * eta[partners]).mean(dim=1)
        novelty = (phi - eta).square().mean()
        return self.relation_weight * relation.square().mean() + self.novelty_weight * novelty

    def batch_score(self, batch, generator):
        """The same deviations for each sample, with the reference samples as x'."""
        phi, eta = self.embed(batch)
        phi_references, eta_references = self.embed(self.network_.references)
        relation = (phi @ phi_references.T - eta @ eta_references.T) / self.latent_dim
        novelty = (phi - eta).square().mean(dim=1)
        return self.relation_weight * relation.square().mean(dim=1) + self.novelty_weight * novelty
