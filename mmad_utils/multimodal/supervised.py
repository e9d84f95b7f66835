"""Detectors trained with labels: a classifier on the shared latent space, alone or as a correction of a detector."""

# mypy: disable-error-code="override, index, assignment, attr-defined"
# Arguments and results are dicts, those of the base class are arrays.

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from torch import Tensor, nn
from torch.nn import functional as F

from mmad_utils.datasets.take import take
from mmad_utils.detector import DetectorError
from mmad_utils.multimodal.base import MultiModalDetector
from mmad_utils.multimodal.latent_space import DEFAULT_ENCODERS, LatentSpace, chosen_encoders, encode
from mmad_utils.training import NetworkState, limited_threads, seeded, train, update

__all__ = ["HybridMultiModalAnomalyDetector", "SupervisedMultiModalAnomalyDetector", "focal_loss"]


def focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Mean of (1 − p)^γ · −log p, with p the probability of the true label; γ = 0 is the cross-entropy.

    Samples that are classified with high confidence have almost no weight, so that many easy normal samples do not
    dominate a few anomalies.

    References
    ----------
    T.-Y. Lin, P. Goyal, R. Girshick, K. He, P. Dollár (2017), Focal loss for dense object detection, ICCV: eq. 4.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).mean()


@dataclass(kw_only=True, eq=False, repr=False)
class _HeadTrainer(NetworkState, MultiModalDetector):
    """Base class of the two detectors with labels: a classification head and its training."""

    loss: str = "bce"
    gamma: float = 2.0
    steps: int = 300
    batch_size: int = 128
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 1e-4
    weight_decay: float = 1e-3
    contamination: float = 0.05
    random_state: int | np.random.RandomState | None = None

    def _train(self, X, labels, rng):
        """Train ``network_`` on the modalities that have labelled anomalies."""
        if self.loss not in ("bce", "focal") or self.gamma < 0 or self.steps < 0:
            raise DetectorError(
                f"loss is {self.loss!r}, gamma {self.gamma!r} and steps {self.steps!r}; give 'bce' or 'focal', and "
                "gamma and steps of at least 0."
            )
        gamma = self.gamma if self.loss == "focal" else 0.0
        self.history_ = []
        with seeded(int(rng.randint(np.iinfo(np.int32).max))) as generator:
            self.network_ = self._build(labels)
            if not labels:
                return
            inputs = {name: self._inputs(X[name], name) for name in labels}
            branches, head = self.network_["branches"], self.network_["head"]
            optimizer = torch.optim.AdamW(
                [
                    {"params": branches.parameters(), "lr": self.encoder_learning_rate},
                    {"params": head.parameters(), "lr": self.learning_rate},
                ],
                weight_decay=self.weight_decay,
            )
            offsets = {name: torch.from_numpy(self._prior(X[name], name)).float() for name in labels}
            targets = {name: torch.from_numpy(given).float() for name, given in labels.items()}

            def step(modality, row):
                logits, wanted = [], []
                for i, name in enumerate(inputs):
                    rows = row[modality == i]
                    if len(rows):
                        logits.append(head(branches[name](inputs[name][rows]))[:, 0] + offsets[name][rows])
                        wanted.append(targets[name][rows])
                loss = focal_loss(torch.cat(logits), torch.cat(wanted), gamma)
                loss = loss + self._restraint(inputs, generator)
                update(optimizer, loss)
                return {"loss": loss.detach()}

            self.network_.train()
            data = _balanced_rows(labels, generator)
            epochs = -(-self.steps // -(-len(data[0]) // self.batch_size))
            with limited_threads(self.network_, self.batch_size):
                self.history_ = train(step, data, epochs=epochs, batch_size=self.batch_size, generator=generator)
            self.network_.eval()

    def _build(self, names) -> nn.ModuleDict:
        """Branches that are initially the maps of the latent space, and a head whose initial output is 0."""
        branches = {name: _Branch(self.space_, name) for name in names}
        last = nn.Linear(128, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        head = nn.Sequential(nn.Linear(self.latent_dim, 128), nn.ReLU(), nn.Dropout(0.2), last)
        return nn.ModuleDict({"branches": nn.ModuleDict(branches), "head": head})

    def _inputs(self, samples, name: str) -> Tensor:
        """Inputs of the branch: those of the encoder, or its features if it cannot be trained."""
        encoder = self.space_.encoders_[name]
        if hasattr(encoder, "module"):
            return encode(encoder.inputs, samples, name)
        return torch.from_numpy(self.space_.features({name: samples})[name]).float()

    def _prior(self, samples, name: str) -> np.ndarray:
        """The term that is added to the logit of each sample; 0 in this class."""
        return np.zeros(len(samples))

    def _restraint(self, inputs: Mapping[str, Tensor], generator: torch.Generator) -> Tensor | float:
        """The term that is added to the loss of each step; 0 in this class."""
        return 0.0

    def _score(self, X):
        scores = {}
        for name, samples in X.items():
            scores[name] = self._prior(samples, name)
            if name in self.network_["branches"]:
                inputs = self._inputs(samples, name)
                with torch.no_grad():
                    batches = [self.network_["branches"][name](batch) for batch in inputs.split(256)]
                    scores[name] = scores[name] + self.network_["head"](torch.cat(batches))[:, 0].double().numpy()
        return scores

    def _rebuild(self, weights):
        names = dict.fromkeys(key.split(".")[1] for key in weights if key.startswith("branches."))
        return self._build(names).eval()


@dataclass(eq=False, repr=False)
class SupervisedMultiModalAnomalyDetector(_HeadTrainer):
    """Encoder of each modality → shared latent space → one classification head, all trained on labels.

    The head is Linear 128, ReLU, Dropout 0.2, Linear 1. Its logit is the score. Clones of the encoders that have a
    ``module`` are trained with it, and so are the maps into the latent space. Every epoch has the same number of
    samples of each modality and, within a modality, of each class.

    Parameters
    ----------
    encoders, latent_dim : see ``MultiModalAnomalyDetector``
    loss : {"bce", "focal"}, default="bce"
    gamma : float >= 0, default=2.0
        γ of the focal loss.
    steps : int, default=300
        Updates of the weights.
    batch_size : int, default=128
    learning_rate, encoder_learning_rate : float, default=1e-3 and 1e-4
        Learning rates of Adam, for the head, and for the encoders and maps.
    weight_decay : float, default=1e-3
    contamination : float in (0, 0.5], default=0.05
        Share of the normal training samples above the threshold. ``calibrate`` on held-out samples gives a guarantee.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    network_ : torch.nn.ModuleDict of "branches" (one per modality) and "head"
    space_ : LatentSpace, fitted on the normal samples
    history_ : list of dict, the loss of each epoch
    """

    encoders: Any = None
    _: KW_ONLY
    latent_dim: int = 256

    def known_modalities(self):
        return tuple(self.encoders or DEFAULT_ENCODERS)

    def fit(self, X, y=None):
        """Learn from labelled samples.

        Parameters
        ----------
        X : dict of name -> samples, normal ones and anomalies
        y : dict of name -> (n,) int, 0 normal, 1 anomaly

        Raises
        ------
        DetectorError
            Labels are missing, of another length, or not 0 and 1; or a modality has only one class.
        """
        return super().fit(X, y)

    def _fit(self, X, y):
        labels = self._labels(X, y)
        rng = check_random_state(self.random_state)
        normals = {name: take(X[name], np.flatnonzero(labels[name] == 0)) for name in X}
        self.space_ = LatentSpace(chosen_encoders(self.encoders, X), self.latent_dim, rng).fit(normals)
        self._train(X, labels, rng)

    def _labels(self, X, y) -> dict[str, np.ndarray]:
        labels = check_labels(X, y, type(self).__name__)
        for name, given in labels.items():
            if not 0 < given.sum() < len(given) - 1:
                raise DetectorError(
                    f"modality {name!r} has {int((given == 0).sum())} normal samples and {int(given.sum())} "
                    "anomalies; a classifier needs at least 2 and 1: label more, or use the hybrid detector."
                )
        return labels


@dataclass(eq=False, repr=False)
class HybridMultiModalAnomalyDetector(_HeadTrainer):
    """The unsupervised detector, corrected by a classifier that is trained on a few labelled anomalies.

    First ``MultiModalAnomalyDetector`` is fitted to the normal samples; the logarithm of its score is the initial
    logit. Then a head with the initial output 0 and the encoders are fine-tuned on the labels. Without labelled
    anomalies the ranking is that of the unsupervised detector, also for a single modality without labels.

    The head is regularised to 0 where there is no sample. Without this term its output there is arbitrary. After
    training on one labelled anomaly it then classifies all samples that differ from this anomaly as normal, which is
    worse than training without labels.

    Parameters
    ----------
    detector : MultiModalAnomalyDetector
        It is cloned and fitted. A fitted one is used unchanged, with its encoders and latent space.
    head_regularization : float >= 0, default=1.0
        Weight of the head's mean squared output at differences of two latents, multiplied by a factor from 1 to 3.
    restraint : float
        Deprecated name of ``head_regularization``; will be removed in version 0.3.
    loss, gamma, steps, batch_size, learning_rate, encoder_learning_rate, weight_decay, contamination, random_state :
        see ``SupervisedMultiModalAnomalyDetector``

    Attributes
    ----------
    detector_ : the fitted unsupervised detector
    """

    detector: Any
    _: KW_ONLY
    head_regularization: float = 1.0
    restraint: str = "deprecated"

    @property
    def latent_dim(self) -> int:
        return self.detector.latent_dim

    def known_modalities(self):
        return self.detector.known_modalities()

    def fit(self, X, y=None):
        """Learn from normal samples and any number of labelled anomalies; ``y`` may omit modalities."""
        return super().fit(X, y)

    def _fit(self, X, y):
        self._head_weight = self.head_regularization
        if self.restraint != "deprecated":
            warnings.warn("restraint is now called head_regularization", FutureWarning, stacklevel=3)
            self._head_weight = self.restraint
        if not self._head_weight >= 0:
            raise DetectorError(f"head_regularization is {self._head_weight!r}; give a number of at least 0.")
        labels = check_labels(X, y or {}, type(self).__name__, partial=True)
        rng = check_random_state(self.random_state)
        normals = {name: take(X[name], np.flatnonzero(labels[name] == 0)) for name in X}
        self.detector_ = self.detector
        if not hasattr(self.detector, "space_"):
            seed = int(rng.randint(np.iinfo(np.int32).max))
            self.detector_ = clone(self.detector)
            if self.detector.random_state is None:
                self.detector_.set_params(random_state=seed)
            self.detector_.fit(normals)
        self.space_ = self.detector_.space_
        self._train(X, {name: given for name, given in labels.items() if given.any()}, rng)

    def _prior(self, samples, name):
        """Logarithm of the unsupervised score, shifted so that 5% of the normal samples are above 0."""
        surprise = self.detector_.anomaly_score({name: samples})[name]
        return np.log(np.maximum(np.logaddexp(0, surprise), 1e-300) / np.logaddexp(0, np.log(20)))

    def _restraint(self, inputs, generator):
        if not self._head_weight:
            return 0.0
        squares = []
        for name, rows in inputs.items():
            pairs = torch.randint(len(rows), (2, (self.batch_size + 1) // 2), generator=generator)
            one, other = (self.network_["branches"][name](rows[chosen]) for chosen in pairs)
            stretch = 1 + 2 * torch.rand((len(one), 1), generator=generator)
            squares.append(self.network_["head"](stretch * (one - other)).square().mean())
        return self._head_weight * torch.stack(squares).mean()


class _Branch(nn.Module):
    """Network from the inputs of a modality to its latents; initially equal to ``LatentSpace``."""

    def __init__(self, space: LatentSpace, name: str):
        super().__init__()
        encoder = space.encoders_[name]
        projection = torch.from_numpy(space.projections_[name]).float()
        self.module = encoder.module() if hasattr(encoder, "module") else nn.Identity()
        self.register_buffer("mean", torch.from_numpy(space.means_[name]).float())
        self.register_buffer("scale", torch.from_numpy(space.scales_[name]).float())
        self.map = nn.Linear(projection.shape[0], projection.shape[1], bias=False)
        self.map.weight = nn.Parameter(projection.T.contiguous())

    def forward(self, inputs: Tensor) -> Tensor:
        return self.map((self.module(inputs) - self.mean) / self.scale)


def check_labels(X: Mapping, y, who: str, *, partial: bool = False) -> dict[str, np.ndarray]:
    """Labels of every modality in ``X``, (n,) int; with ``partial`` a modality that ``y`` omits is normal.

    Raises
    ------
    DetectorError
        Not a dict, an unknown name, another length, values that are not 0 or 1.
    """
    if not isinstance(y, Mapping):
        raise DetectorError(f"{who} takes labels as a dict, {{'tabular': [0, 1, ...]}}, not {type(y).__name__}.")
    unknown = [name for name in y if name not in X]
    missing = [] if partial else [name for name in X if name not in y]
    if unknown or missing:
        raise DetectorError(
            f"{who}: labels for {', '.join(map(repr, unknown)) or 'nothing else'} have no samples, and samples of "
            f"{', '.join(map(repr, missing)) or 'no modality'} have no labels: give y the names of X."
        )
    labels = {}
    for name, samples in X.items():
        given = np.zeros(len(samples), dtype=np.int64) if name not in y else np.asarray(y[name])
        if given.shape != (len(samples),) or not np.isin(given, (0, 1)).all():
            raise DetectorError(
                f"{who}: the labels of modality {name!r} have shape {given.shape}, its samples are {len(samples)}; "
                "give one label per sample, 0 normal or 1 anomaly."
            )
        labels[name] = given.astype(np.int64)
    return labels


def _balanced_rows(labels: Mapping[str, np.ndarray], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(modality, row) of an epoch: every class of every modality has the number of samples of the largest."""
    groups = [
        (i, torch.from_numpy(np.flatnonzero(given == label)))
        for i, given in enumerate(labels.values())
        for label in (0, 1)
    ]
    n = max((len(rows) for _, rows in groups), default=0)
    modality, row = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, dtype=torch.int64)]
    for i, rows in groups:
        shuffled = rows[torch.randperm(len(rows), generator=generator)]
        row.append(shuffled.repeat(-(-n // len(rows)))[:n])
        modality.append(torch.full((n,), i))
    return torch.cat(modality), torch.cat(row)
