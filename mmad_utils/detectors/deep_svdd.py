"""One-class classification by the distance to a centre in a learned space: Deep SVDD and Deep SAD.

Deep SVDD learns a mapping φ with φ(x) close to a fixed centre c for normal samples x; the distance to c is the score.
The constant mapping φ = c would minimise the loss, and all scores would be 0. Three choices prevent this solution: no
layer has a bias, no activation is bounded, and no coordinate of c is near 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d
from torch import Tensor, nn

from mmad_utils import networks
from mmad_utils.detector import DetectorError
from mmad_utils.training import Adam, DeepDetector, update

__all__ = ["DeepSAD", "DeepSVDD"]

SMALLEST_DISTANCE = 1e-6  # keeps 1/d of a labelled anomaly finite at the centre


@dataclass(kw_only=True, eq=False, repr=False)
class DeepSVDD(DeepDetector):
    """Distance to the centre of a hypersphere in a learned space.

    With d(x) = ‖φ(x) − c‖², the one-class objective is the mean of d over the normal samples (equation 4 of the
    paper) and the score is d. The soft boundary (equation 3) minimises

        R² + 1/(ν n) Σ max(0, d(x) − R²)

    and its score is d − R². For a given φ the optimal R² is the (1 − ν) quantile of d. R² is set to this quantile in
    every batch, so the loss is the mean of the largest share ν of the distances.

    The network is a perceptron for tables and strided convolutions for images. Its hidden layers are normalised over
    the batch without learned scale and shift, as in the authors' code. c is the mean output of the initial network.

    Parameters
    ----------
    objective : {"one-class", "soft-boundary"}, default="one-class"
    nu : float in (0, 1), default=0.1
        Share of the training samples that the soft boundary leaves outside.
    latent_dim : int, default=32
    hidden : sequence of int, default=(64, 32)
        Widths of the hidden layers, for tables.
    width : int, default=16
        Channels after the first convolution, for images.
    center_margin : float >= 0, default=0.1
        Coordinates of c that are closer to 0 are moved to this distance, because a network whose weights go to zero
        has the output 0.
    pretraining_epochs : int, default=0
        Epochs in which the network is first trained as the encoder of an autoencoder.
    epochs, batch_size, weight_decay, n_estimators : 30, 128, 1e-6, 5
        The other parameters, and the meaning of these, are those of ``DeepDetector``.

    Notes
    -----
    The paper trains one network, ``n_estimators=1``, which is pretrained as the encoder of an autoencoder. The
    average of five networks and the default without pretraining are choices of this project. The paper finds R² by a
    line search after every few epochs.

    Attributes
    ----------
    network_ : nn.Sequential with buffers ``center`` (latent_dim,) and ``radius``, a scalar in units of the latent
        space: the (1 − ν) quantile of the training distances, whichever the objective

    Raises
    ------
    DetectorError
        Unknown objective, nu out of range, batches of one sample.

    References
    ----------
    L. Ruff, R. Vandermeulen, N. Goernitz, L. Deecke, S. A. Siddiqui, A. Binder, E. Müller, M. Kloft (2018), Deep
    one-class classification, ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from mmad_utils import DeepSVDD
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = DeepSVDD(epochs=5, random_state=0).fit(X)
    >>> bool(detector.anomaly_score([[9.0, -9.0, 9.0]]) > detector.anomaly_score([[0.1, 0.0, 0.1]]))
    True
    """

    objective: str = "one-class"
    nu: float = 0.1
    latent_dim: int = 32
    hidden: Sequence[int] = (64, 32)
    width: int = 16
    center_margin: float = 0.1
    pretraining_epochs: int = 0
    epochs: int = 30
    batch_size: int = 128
    weight_decay: float = 1e-6
    n_estimators: int = 5

    def build(self, shape):
        layers: list[nn.Module] = []
        for layer in networks.encoder(shape, self.latent_dim, hidden=self.hidden, width=self.width, bias=False):
            layers.append(layer)
            if isinstance(layer, nn.Linear):
                layers.append(nn.BatchNorm1d(layer.out_features, affine=False))
            elif isinstance(layer, nn.Conv2d):
                layers.append(nn.BatchNorm2d(layer.out_channels, affine=False))
        network = nn.Sequential(*layers[:-1])  # the latent codes are not normalised
        network.register_buffer("center", torch.zeros(self.latent_dim))
        network.register_buffer("radius", torch.zeros(()))
        return network

    def distance(self, batch: Tensor) -> Tensor:
        """Squared distance to the centre, (n, ...) -> (n,)."""
        return (self.network_(batch) - self.network_.center).square().sum(1)

    def loss(self, batch, generator):
        return self._objective(self.distance(batch))

    def _objective(self, distances: Tensor) -> Tensor:
        if self.objective == "one-class":
            return distances.mean()
        squared_radius = distances.detach().quantile(1 - self.nu)
        return squared_radius + (distances - squared_radius).relu().mean() / self.nu

    def batch_score(self, batch, generator):
        distances = self.distance(batch)
        return distances if self.objective == "one-class" else distances - self.network_.radius.square()

    def optimise(self, data, generator):
        if self.pretraining_epochs:
            self._pretrain(data, generator)
        self.network_.eval()
        with torch.no_grad():
            self.network_.center.copy_(self.place_center(data))
        self.network_.train()
        history = super().optimise(data, generator)
        with torch.no_grad():
            self.network_.eval()
            self.network_.radius.copy_(self.distance(data).quantile(1 - self.nu).sqrt())
        return history

    def place_center(self, data: Tensor) -> Tensor:
        """c, (latent_dim,): the mean output of the current network, with no coordinate near 0."""
        center = self.network_(data).mean(0)
        away = torch.where(center < 0, -self.center_margin, self.center_margin)
        return torch.where(center.abs() < self.center_margin, away, center)

    def _pretrain(self, data, generator):
        """Train the network as the encoder of an autoencoder; the decoder is not kept."""
        decoder = networks.decoder(self.input_shape_, self.latent_dim, hidden=self.hidden[::-1], width=self.width)
        both = nn.Sequential(self.network_, decoder.to(data.device))
        optimizer = Adam(both.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)

        def step(batch):
            loss = (both(batch) - batch).square().mean()
            update(optimizer, loss)
            return {"reconstruction": loss.detach()}

        self.run(step, data, generator, epochs=self.pretraining_epochs)

    def _fit(self, X, y):
        if self.objective not in ("one-class", "soft-boundary") or not 0 < self.nu < 1:
            raise DetectorError(
                f"objective is {self.objective!r} and nu {self.nu!r}; choose 'one-class' or 'soft-boundary', and "
                "give nu, the share of training samples outside the boundary, in (0, 1)."
            )
        if self.batch_size < 2:
            raise DetectorError("batch_size is 1: batch normalisation needs at least 2 samples; give at least 2.")
        super()._fit(X, y)


@dataclass(kw_only=True, eq=False, repr=False)
class DeepSAD(DeepSVDD):
    """Deep SVDD that also maximises the distance of a few labelled anomalies to the centre.

    With d(x) = ‖φ(x) − c‖², the loss is

        mean of d over the unlabelled samples  +  η · mean of 1/d over the labelled anomalies

    (equation 7 of the paper, where the labelled samples are anomalies). In the paper both terms are sums over all
    n + m samples, so its η is n/m times the η of this class. With the paper's scale, five anomalies among a thousand
    samples would have almost no weight. Every batch holds the labelled anomalies, or a new random subset of
    ``batch_size`` of them where there are more. Without labelled anomalies this is Deep SVDD.

    Parameters
    ----------
    eta : float >= 0, default=1.0
        Weight of the labelled anomalies.
    objective : as in DeepSVDD, for the unlabelled samples
        The other parameters are those of ``DeepSVDD`` too. Five networks are averaged; the paper trains one.

    Attributes
    ----------
    anomalous_ : (n,) bool, whether a training sample is a labelled anomaly; these do not influence the threshold

    References
    ----------
    L. Ruff, R. A. Vandermeulen, N. Görnitz, A. Binder, E. Müller, K.-R. Müller, M. Kloft (2020), Deep
    semi-supervised anomaly detection, ICLR.
    """

    eta: float = 1.0

    def fit(self, X, y=None):
        """Learn from unlabelled samples, most of them normal, and a few labelled anomalies.

        Parameters
        ----------
        X : (n, d) table or (n, H, W, C) uint8 images
        y : (n,) of 0 and 1, or None
            1 is a labelled anomaly, 0 an unlabelled or normal sample. With None no sample is labelled. Any other
            label counts as 0, with a warning.

        Returns
        -------
        self

        Raises
        ------
        DetectorError
            All samples are labelled anomalies.
        ValueError
            y has another length, or a missing value.
        """
        return super().fit(X, y)

    def loss(self, batch, generator):
        drawn = torch.randperm(len(self._anomalies), generator=generator)[: self.batch_size]
        # one pass for both, so that the same statistics normalise them
        both = torch.cat([batch, self._anomalies[drawn.to(batch.device)]])
        unlabelled, labelled = self.distance(both).tensor_split([len(batch)])
        loss = self._objective(unlabelled)
        return loss + self.eta * (1 / (labelled + SMALLEST_DISTANCE)).mean() if len(labelled) else loss

    def optimise(self, data, generator):
        anomalous = torch.from_numpy(self.anomalous_).to(data.device)
        self._anomalies = data[anomalous]
        history = super().optimise(data[~anomalous], generator)
        del self._anomalies
        return history

    def _fit(self, X, y):
        self.anomalous_ = np.zeros(len(X), dtype=bool) if y is None else self._labels(X, y)
        super()._fit(X, y)

    def _training_scores(self, X):
        return self._score(X[~self.anomalous_])

    def _labels(self, X, y) -> np.ndarray:
        """True where y is 1."""
        y = column_or_1d(y)
        check_consistent_length(X, y)
        assert_all_finite(y, input_name="y")
        if not np.isin(y, (0, 1)).all():
            warnings.warn(
                f"y holds labels other than 0 and 1: {np.setdiff1d(y, (0, 1))[:5]}. Only the label 1 is an anomaly; "
                "all others are treated as unlabelled.",
                stacklevel=4,
            )
        if (y == 1).all():
            raise DetectorError("y labels all samples as anomalies: give unlabelled or normal samples (0) too.")
        return y == 1
