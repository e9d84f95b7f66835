"""A transformer that detects anomalies in images and in tables, trained on normal samples only.

A sample is divided into tokens (``tokens``), and all modalities share one stack of layers (``transformer_network``).
Batches of images and of rows alternate in training. The network has two tasks: it predicts hidden tokens from the
visible ones, and it separates normal samples from samples with an exchanged part (``synthetic_negatives``).

The targets are fixed numbers. If the network could learn the tokens, or had the same target score for all normal
samples, constant tokens or a constant score would minimise the loss.
"""

# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.encoders import backbones
from mmad_utils.multimodal.base import MultiModalDetector
from mmad_utils.multimodal.tokens import PictureTokens, TableTokens
from mmad_utils.multimodal.transformer_network import CrossModalTransformer
from mmad_utils.multimodal.transformer_tasks import cut_and_paste, hidden_loss, residuals, swap_columns
from mmad_utils.multimodal.transformer_training import best_epoch, fingerprint, train_alternating
from mmad_utils.training import NetworkState, resolve_device, seeded

__all__ = ["MultiModalAnomalyTransformer"]

TRAINING = (
    *("steps_per_epoch", "epochs", "batch_size", "learning_rate", "weight_decay"),
    *("checkpoint", "log", "verbose"),
)  # parameters that are passed to train_alternating
SCORED_TOGETHER = 64  # samples per batch; fixed, so that a score does not depend on the number of samples
SCORES = ("residual", "error", "latent", "head")


@dataclass(kw_only=True, eq=False, repr=False)
class MultiModalAnomalyTransformer(NetworkState, MultiModalDetector):
    """Cross-modal transformer for unpaired images and rows, ``{"image": images, "tabular": rows}``.

    It is trained on batches of the modalities in alternation, to minimise

        mean squared error of the hidden tokens  +  ``head_weight`` · cross-entropy of the score head,

    where a random share of the tokens of each sample is hidden. The head separates normal samples (0) from synthetic
    negatives (1): rows with columns of other rows, and images with a pasted rectangle. The rectangle is from another
    position of the image (patches) or from the features of another image (backbone tokens).

    Both modalities have the same kind of ``score``; higher is more anomalous:

    - ``"residual"``: every token is hidden once, an eighth of the tokens at a time, and predicted from the others.
      The residuals r of normal samples have mean μ and covariance Σ (Ledoit and Wolf), and the score is the
      Mahalanobis distance of r. A row has one residual of p columns. A position of an image has one residual of d
      numbers, with the same μ and Σ for all positions, and the image's score is the largest of its positions.
    - ``"error"``: the same with the diagonal of Σ only: the prediction error in units of its standard deviation over
      normal samples.
    - ``"latent"``: the Mahalanobis distance of the class token's latent code.
    - ``"head"``: the output of the score head, a logit.

    For Gaussian rows and perfect linear predictions the residual is r = D Σ⁻¹(x − μ), D diagonal, and its Mahalanobis
    distance is that of x itself. Before training, the score is therefore near the Mahalanobis distance of the tokens.
    Training adds the nonlinear relations.

    Parameters
    ----------
    tokens : {"backbone", "patches"}, default="backbone"
        Images as features of a frozen pretrained network, or as patches of pixels with a strided convolution.
    grid : int, default=7
        Tokens per side of an image.
    backbone, layers, image_size, weights : see ``ImageEncoder``
    width, depth, n_heads, dropout : 64, 2, 4, 0.0
        Length of a latent code, layers, attention heads, dropout.
    epochs : int, default=10
        0 gives the untrained network, which is the control of all comparisons.
    steps_per_epoch : int, default=20
        Updates for *each* modality in an epoch, independent of its number of samples.
    batch_size, learning_rate, weight_decay : 32, 1e-3, 0.01
        Samples per update, and the parameters of AdamW.
    mask_share : (low, high), default=(0.1, 0.5)
        Range of the share of tokens that are hidden in training, drawn for each sample.
    head_weight : float >= 0, default=0.1
    score : {"residual", "error", "latent", "head"}, default="residual"
    validation : float in [0, 0.5], default=0.1
        Share of the normal samples that are held out from training. The network of the epoch with the smallest
        prediction error on them is kept, and their scores give the threshold. With 0 the last network is kept, and
        the training scores give the threshold.
    checkpoint : path or None, default=None
        A file with the last and the best network, written after every epoch, atomically.
    resume : bool, default=False
        Continue from ``checkpoint`` if it exists, up to ``epochs`` in all. The result is bitwise equal to that of a
        run without interruption.
    log : path or None, default=None
        A text file to which one line per epoch is written.
    contamination : float in (0, 0.5], default=0.05
    device : str, default="auto"
    random_state : int, RandomState or None, default=None
    verbose : bool, default=False
        Show a progress bar with the remaining time.

    Attributes
    ----------
    network_ : CrossModalTransformer, the best one
    history_ : list of dict, one per epoch: ``loss``, for each modality ``<name> hidden`` (mean squared error of
        hidden tokens) and ``<name> head`` (cross-entropy), and ``validation`` (the error of hidden tokens of held-out
        normal samples)
    best_epoch_ : int, number of epochs of the kept network
    gaussians_ : dict of GaussianAnomalyScorer, one per modality, unless the score is the head's

    Raises
    ------
    DetectorError
        A parameter out of range; modalities that are unknown, absent in ``fit``, of another width, or of fewer than
        4 samples; a checkpoint that exists without ``resume``, is damaged, or is not a checkpoint.
    TrainingError
        A checkpoint of another run (data, settings or seed); a loss that is not finite.

    References
    ----------
    K. He et al. (2022), Masked autoencoders are scalable vision learners, CVPR.
    C.-L. Li, K. Sohn, J. Yoon, T. Pfister (2021), CutPaste, CVPR.
    Z. You et al. (2022), A unified model for multi-class anomaly detection, NeurIPS: why a network that gets the
    token itself as input learns the identity, which reconstructs anomalies too.

    Examples
    --------
    >>> import numpy as np
    >>> from mmad_utils import MultiModalAnomalyTransformer
    >>> rows = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = MultiModalAnomalyTransformer(epochs=2, random_state=0).fit({"tabular": rows})
    >>> detector.anomaly_score({"tabular": rows[:3]})["tabular"].shape
    (3,)
    """

    tokens: str = "backbone"
    grid: int = 7
    backbone: str = "efficientnet_lite0"
    layers: Sequence[int] = (2, 3)
    image_size: int = 224
    weights: Any = None
    width: int = 64
    depth: int = 2
    n_heads: int = 4
    dropout: float = 0.0
    epochs: int = 10
    steps_per_epoch: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    mask_share: tuple = (0.1, 0.5)
    head_weight: float = 0.1
    score: str = "residual"
    validation: float = 0.1
    checkpoint: Any = None
    resume: bool = False
    log: Any = None
    contamination: float = 0.05
    device: str = "auto"
    random_state: int | np.random.RandomState | None = None
    verbose: bool = False

    def known_modalities(self):
        return ("image", "tabular")

    def anomaly_map(self, X) -> np.ndarray:
        """Distance of the residual at each position of images, enlarged bilinearly: (n, image_size, image_size).

        Parameters
        ----------
        X : images, or ``{"image": images}``
        """
        check_is_fitted(self)
        X = self._check(X if isinstance(X, dict) else {"image": X}, reset=False)
        if "image" not in X:
            raise DetectorError(f"only images have a map, and X holds {', '.join(map(repr, X))}: give 'image' only.")
        if self.score not in ("residual", "error"):
            raise DetectorError(f"score={self.score!r} has no map; give 'residual' or 'error'.")
        distances = self._distances("image", self._tokenisers["image"].transform(X["image"]))
        size = (self.image_size, self.image_size)
        grid = torch.from_numpy(distances).view(-1, 1, self.grid, self.grid)
        return F.interpolate(grid, size, mode="bilinear", align_corners=False)[:, 0].numpy()

    def attention(self, X) -> dict[str, np.ndarray]:
        """Attention of the class token to the tokens (attention rollout), shares that sum to 1 for each sample.

        Parameters
        ----------
        X : dict of modalities

        Returns
        -------
        dict: ``"image"`` (n, grid, grid), ``"tabular"`` (n, columns). A high attention is no proof that a token
        influences the score: compare it with ``anomaly_map``.
        """
        check_is_fitted(self)
        shares = {}
        for name, samples in self._check(X, reset=False).items():
            tokens = self._tokenisers[name].transform(samples)
            seen = self._batches(partial(self.network_.attention, name), tokens)
            shares[name] = seen.reshape(-1, self.grid, self.grid) if name == "image" else seen
        return shares

    def losses(self, name: str, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of the loss for a batch of a modality, (n, p, d); they are summed and recorded."""
        parts = {"hidden": hidden_loss(self.network_, name, batch, generator, self.mask_share)}
        if self.head_weight:
            normal, source = batch.tensor_split(2)
            negative = self.negatives(name, source, generator)
            logits = self.network_.score(self.network_(name, torch.cat([normal, negative]))[0])[:, 0]
            truth = torch.arange(len(batch), device=batch.device) >= len(normal)
            parts["head"] = self.head_weight * F.binary_cross_entropy_with_logits(logits, truth.to(logits))
        return parts

    def negatives(self, name: str, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Synthetic anomalies of a modality made from a batch of its tokens, (n, p, d)."""
        if name == "tabular":
            return swap_columns(batch, generator)
        tokeniser: Any = self._tokenisers[name]
        pasted = cut_and_paste(tokeniser.images(batch), generator, from_others=self.tokens == "backbone")
        return tokeniser.tokens(pasted)

    def build(self, shapes: dict[str, tuple[int, ...]]) -> Any:
        """The network for tokens of these shapes, {name: (p, d)}."""
        return CrossModalTransformer(
            shapes, width=self.width, depth=self.depth, n_heads=self.n_heads, dropout=self.dropout
        )

    def _fit(self, X, y):
        self._check_parameters()
        self._tokenisers = {name: self._tokeniser(name) for name in X}
        data = {name: self._tokenisers[name].fit(samples).transform(samples) for name, samples in X.items()}
        for name, tokens in data.items():
            if len(tokens) < 4 or (tokens[:1] == tokens).all():
                raise DetectorError(
                    f"{name!r} holds {len(tokens)} samples with nothing to learn from: give 4 or more that differ."
                )
        self.shapes_ = {name: tuple(tokens.shape[1:]) for name, tokens in data.items()}
        with seeded(self.random_state) as generator:
            trained, held_out = {}, {}
            for name, tokens in data.items():
                order = torch.randperm(len(tokens), generator=generator)
                n = math.ceil(self.validation * len(tokens))
                held_out[name], trained[name] = tokens[order[:n]], tokens[order[n:]]
            self.network_ = self.build(self.shapes_).to(resolve_device(self.device))
            self.network_, self.history_ = train_alternating(
                self.network_,
                self.losses,
                partial(self._validation_loss, held_out) if self.validation else None,
                trained,
                generator=generator,
                settings=self._settings(trained, held_out),
                **{key: getattr(self, key) for key in TRAINING},
            )
        self.network_.eval()
        self.best_epoch_ = best_epoch(self.history_)
        self.gaussians_ = {}
        if self.score != "head":
            for name, tokens in trained.items():
                vectors = self._vectors(name, tokens)
                self.gaussians_[name] = GaussianAnomalyScorer().fit(vectors.reshape(-1, vectors.shape[-1]))
        self._held_out = held_out if self.validation else trained

    def _training_scores(self, X):
        return {name: self._scores(name, tokens) for name, tokens in self.__dict__.pop("_held_out").items()}

    def _score(self, X):
        tokens = {name: self._tokenisers[name].transform(samples) for name, samples in X.items()}
        return {name: self._scores(name, part) for name, part in tokens.items()}

    def _settings(self, trained, held_out) -> dict[str, Any]:
        """All settings that the weights depend on, except the seed and the number of epochs."""
        free = {"epochs", "score", "checkpoint", "resume", "log", "contamination", "device", "verbose"}
        free |= {"random_state", "weights"}  # their effects are in the seed and in the tokens
        parameters = {key: value for key, value in self.get_params().items() if key not in free}
        return parameters | {"data": fingerprint(trained, held_out)}

    def _validation_loss(self, held_out) -> float:
        """Mean squared residual of held-out normal samples, averaged over the modalities."""
        return float(np.mean([np.square(self._residuals(name, tokens)).mean() for name, tokens in held_out.items()]))

    def _scores(self, name: str, tokens: Tensor) -> np.ndarray:
        if self.score == "head":
            head = lambda batch: self.network_.score(self.network_(name, batch)[0])[:, 0]  # noqa: E731
            return self._batches(head, tokens)
        distances = self._distances(name, tokens)
        return distances if distances.ndim == 1 else distances.max(axis=1)

    def _distances(self, name: str, tokens: Tensor) -> np.ndarray:
        """Distances to the normal samples, (n,), or (n, p) for the positions of images."""
        vectors, gaussian = self._vectors(name, tokens), self.gaussians_[name]
        if self.score == "error":
            variances = gaussian.statistics_.covariance("empirical").diagonal()
            return np.sqrt((np.square(vectors - gaussian.mean_) / np.where(variances > 0, variances, 1.0)).sum(-1))
        return gaussian.anomaly_score(vectors.reshape(-1, vectors.shape[-1])).reshape(vectors.shape[:-1])

    def _vectors(self, name: str, tokens: Tensor) -> np.ndarray:
        """Vectors that the Gaussian models: (n, d), or (n, p, d) for the positions of images."""
        if self.score == "latent":
            return self._batches(lambda batch: self.network_(name, batch)[0], tokens)
        residuals = self._residuals(name, tokens)
        return residuals if name == "image" else residuals[..., 0]

    def _residuals(self, name: str, tokens: Tensor) -> np.ndarray:
        return self._batches(partial(residuals, self.network_, name), tokens)

    def _batches(self, function: Callable[[Tensor], Tensor], tokens: Tensor) -> np.ndarray:
        device = next(self.network_.parameters()).device
        with torch.no_grad():
            parts = [function(batch.to(device)).cpu() for batch in tokens.split(SCORED_TOGETHER)]
        return torch.cat(parts).double().numpy()

    def _tokeniser(self, name: str) -> PictureTokens | TableTokens:
        if name == "tabular":
            return TableTokens()
        return PictureTokens(
            self.tokens,
            grid=self.grid,
            image_size=self.image_size,
            layers=self.layers,
            backbone=self.backbone,
            weights=self.weights,
            device=self.device,
        )

    def _check_parameters(self) -> None:
        low, high = self.mask_share
        p = self
        checks = {
            f"score={p.score!r}: choose from {', '.join(SCORES)}": p.score in SCORES,
            f"mask_share={p.mask_share!r}: give 0 < low <= high < 1": 0 < low <= high < 1,
            f"validation={p.validation!r}: give a share in [0, 0.5]": 0 <= p.validation <= 0.5,
            f"n_heads={p.n_heads!r}: give a divisor of width={p.width}": p.n_heads > 0 and p.width % p.n_heads == 0,
            f"head_weight={p.head_weight!r}: give 0 or more": p.head_weight >= 0,
            "score='head' needs head_weight above 0": p.score != "head" or p.head_weight > 0,
            f"epochs={p.epochs!r}: give 0 or more": p.epochs >= 0,
            f"steps_per_epoch={p.steps_per_epoch!r}: give at least 1": p.steps_per_epoch >= 1,
            f"batch_size={p.batch_size!r}: give at least 4": p.batch_size >= 4,
            "a checkpoint needs an int as random_state": p.checkpoint is None or isinstance(p.random_state, int),
        }
        wrong = [message for message, right in checks.items() if not right]
        if wrong:
            raise DetectorError(f"{type(self).__name__}: {wrong[0]}.")
        if self.checkpoint is not None and not self.resume and Path(self.checkpoint).exists():
            raise DetectorError(
                f"{self.checkpoint} exists: give resume=True to continue from it, or another path for a new run."
            )

    def get_state(self):
        """State of the base class, with the centres and spreads of the tokens."""
        tokenisers = {name: tokeniser.get_state() for name, tokeniser in self._tokenisers.items()}
        return super().get_state() | {"tokenisers": tokenisers}

    def set_state(self, state):
        """Restore the result of ``get_state`` on a new object."""
        super().set_state(state)
        saved = state["tokenisers"]
        if self.tokens == "backbone" and "image" in self.modalities_:
            known, who = saved["image"]["fingerprint"], type(self).__name__
            backbones.check_saved(self.backbone, self.weights, self.image_size, known, who=who)
        self._tokenisers = {name: self._tokeniser(name) for name in self.modalities_}
        for name, tokeniser in self._tokenisers.items():
            tokeniser.set_state(saved[name])

    def _rebuild(self, weights):
        return self.build(self.shapes_).to(resolve_device(self.device)).eval()
