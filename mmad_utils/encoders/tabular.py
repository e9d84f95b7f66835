"""Self-supervised encoder of tables, which predicts each column from the other columns."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from mmad_utils.detector import DetectorError
from mmad_utils.encoders.base import Encoder
from mmad_utils.encoders.scaling import ColumnScaler
from mmad_utils.networks import mlp
from mmad_utils.training import Adam, NetworkState, limited_threads, seeded, train, update

__all__ = ["TabularEncoder"]

MASKED_ENTRIES = 2**18  # entries of a batch in which each column is masked in turn
STEPS_A_LOOK = 20  # updates between two evaluations on the held-out rows
PATIENCE = 10  # evaluations without improvement after which the training ends


@dataclass(kw_only=True, eq=False, repr=False)
class TabularEncoder(NetworkState, Encoder):
    """Features of a table: the scaled columns, and the residual of each column given the other columns.

    A perceptron is trained on rows in which a random subset of the columns is masked. Its inputs are the masked row
    and the mask, and it minimises the squared error of the predicted masked entries. After training, each column is
    masked alone. The difference between its value and the prediction is the residual.

    The two types of features correspond to two types of anomalies in a table. A value that is extreme by itself has
    a large scaled column. A value that is inconsistent with the other values of its row has a large residual. Each
    feature belongs to one column, so a squared distance in feature space is the sum of contributions of the columns.

    Parameters
    ----------
    scaling : {"robust_arcsinh", "standard", "none"}, default="robust_arcsinh"
        Scaling of the columns, see ``ColumnScaler``. The default reduces long tails.
    hidden : sequence of int, default=(128, 128)
        Widths of the hidden layers.
    mask_share : float in [0, 1), default=0.3
        Share of the columns that are masked in training; one further column is always masked.
    residuals : bool, default=True
        If False, the features are only the scaled columns. Use it for tables on which the distance-to-centre baseline
        is sufficient.
    steps : int, default=2000
        Largest number of updates of the weights; with 0 the network stays untrained.
    validation_share : float in [0, 1), default=0.2
        Share of held-out rows. The weights with the smallest residuals on these rows are kept. Training ends after
        ``PATIENCE`` evaluations without improvement. With 0, all rows are used for training, without early stopping.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    network_ : torch.nn.Module, scaled rows (n, d) to features (n, 2d)
    scaler_ : ColumnScaler
    history_ : list of dict, the mean squared error of masked entries, one dict per epoch

    References
    ----------
    J. Yoon, Y. Zhang, J. Jordon, M. van der Schaar (2020), VIME: extending the success of self- and semi-supervised
    learning to tabular domain, NeurIPS: prediction of masked columns.
    S. L. Lauritzen (1996), Graphical models, section 5.1: for Gaussian rows, the residual is the conditional
    residual, whose variance is the reciprocal of the diagonal element of the precision matrix.
    """

    scaling: str = "robust_arcsinh"
    hidden: Sequence[int] = (128, 128)
    mask_share: float = 0.3
    residuals: bool = True
    steps: int = 2000
    validation_share: float = 0.2
    batch_size: int = 256
    learning_rate: float = 1e-3
    random_state: int | np.random.RandomState | None = None

    def fit(self, X, y=None):
        """Learn scales and dependences of the columns from normal rows, (n, d)."""
        if self.steps < 0 or not 0 <= self.mask_share < 1 or not 0 <= self.validation_share < 1:
            raise DetectorError(
                f"steps is {self.steps!r}, mask_share {self.mask_share!r} and validation_share "
                f"{self.validation_share!r}; give at least 0 steps, and shares in [0, 1)."
            )
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self.scaler_ = ColumnScaler(self.scaling).fit(X)
        data = torch.from_numpy(self.scaler_.scale(X)).float()
        with seeded(self.random_state) as generator:
            self.network_ = _ColumnPredictor(X.shape[1], self.hidden)
            self.history_ = self._train(data, generator) if self.residuals else []
        self.network_.eval().double()
        self.network_.fit_scale(data.double())
        return self

    def transform(self, X) -> np.ndarray:
        """Features of rows (n, d): the scaled columns, then their residuals, (n, 2d).

        Without ``residuals``, the features are (n, d).
        """
        with torch.no_grad():
            return self._module()(self._scaled(X)).numpy()

    @property
    def owners_(self) -> np.ndarray:
        """The column that each feature belongs to, (2d,) int."""
        return np.tile(np.arange(self.n_features_in_), 2 if self.residuals else 1)

    def inputs(self, X) -> Tensor:
        """Input of ``module``: scaled rows, (n, d) float32."""
        return self._scaled(X).float()

    def module(self) -> nn.Module:
        """A copy of the network from ``inputs`` to the features of ``transform``, for further training."""
        return copy.deepcopy(self._module()).float()

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state of ``get_state`` on a new object; in format 1, weights and names are separate entries."""
        fitted = dict(state.get("fitted", {}))
        if "weights" in state:
            fitted["network_"] = state["weights"]
        if state.get("names") is not None:
            fitted["feature_names_in_"] = state["names"]
        super().set_state({"parameters": state["parameters"], "fitted": fitted})

    def _rebuild(self, weights):
        return _ColumnPredictor(self.n_features_in_, self.hidden).eval().double()

    def _module(self) -> nn.Module:
        return self.network_ if self.residuals else nn.Identity()

    def _scaled(self, X) -> Tensor:
        check_is_fitted(self)
        return torch.from_numpy(self.scaler_.scale(validate_data(self, X, dtype=np.float64, reset=False)))

    def _train(self, data: Tensor, generator: torch.Generator) -> list[dict[str, float]]:
        network = self.network_
        optimizer = Adam(network.parameters(), lr=self.learning_rate)

        def step(batch):
            hidden = torch.rand(batch.shape, generator=generator) < self.mask_share
            hidden[torch.arange(len(batch)), torch.randint(batch.shape[1], (len(batch),), generator=generator)] = True
            loss = (network.predict(batch, hidden) - batch)[hidden].square().mean()
            update(optimizer, loss)
            return {"loss": loss.detach()}

        order = torch.randperm(len(data), generator=generator)
        held_out, rows = order.tensor_split([int(self.validation_share * len(data))])
        batches = -(-len(rows) // self.batch_size)
        best: dict[str, Any] = {"loss": torch.inf, "weights": copy.deepcopy(network.state_dict()), "looks": 0}

        def look(history) -> bool:
            """Keep the weights if the held-out error decreased; return True after ``PATIENCE`` calls without this."""
            if len(held_out) == 0 or len(history) % -(-STEPS_A_LOOK // batches):
                return False
            with torch.no_grad():
                loss = network.residuals(data[held_out]).square().mean().item()
            better = loss < best["loss"]
            if better:
                best.update(loss=loss, weights=copy.deepcopy(network.state_dict()))
            best["looks"] = 0 if better else best["looks"] + 1
            return best["looks"] >= PATIENCE

        epochs = -(-self.steps // batches)
        with limited_threads(network, self.batch_size):
            history = train(
                step, (data[rows],), epochs=epochs, batch_size=self.batch_size, generator=generator, after_epoch=look
            )
        if best["loss"] < torch.inf:
            network.load_state_dict(best["weights"])
        return history


class _ColumnPredictor(nn.Module):
    """Network that predicts masked columns from the others; its output is the rows and their scaled residuals."""

    def __init__(self, d: int, hidden):
        super().__init__()
        self.layers = mlp([2 * d, *hidden, d])
        self.register_buffer("center", torch.zeros(d))
        self.register_buffer("scale", torch.ones(d))

    def predict(self, rows: Tensor, hidden: Tensor) -> Tensor:  # (..., d), (..., d) bool -> (..., d)
        return self.layers(torch.cat([rows.masked_fill(hidden, 0), hidden.to(rows.dtype)], dim=-1))

    def residuals(self, rows: Tensor) -> Tensor:  # (n, d) -> (n, d), each column masked in turn
        d = rows.shape[1]
        one_each = torch.eye(d, dtype=torch.bool, device=rows.device)
        parts = []
        for batch in rows.split(max(1, MASKED_ENTRIES // d**2)):
            repeated = batch[:, None].expand(-1, d, d)
            predicted = self.predict(repeated, one_each.expand(len(batch), d, d)).diagonal(dim1=1, dim2=2)
            parts.append(batch - predicted)
        return torch.cat(parts)

    def fit_scale(self, rows: Tensor) -> None:
        """Set centre and scale to median and interquartile range of the residuals, which can have long tails."""
        with torch.no_grad():
            scaler = ColumnScaler("robust_arcsinh").fit(self.residuals(rows).numpy())
        self.center, self.scale = torch.from_numpy(scaler.center_), torch.from_numpy(scaler.scale_)

    def forward(self, rows: Tensor) -> Tensor:  # (n, d) -> (n, 2d)
        return torch.cat([rows, torch.asinh((self.residuals(rows) - self.center) / self.scale)], dim=1)
