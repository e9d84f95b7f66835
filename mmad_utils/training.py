"""The training loop, and the base class of all deep detectors.

``train`` shuffles the data, calls a step for each batch, averages the recorded values and raises an error if the loss
is not finite. It returns the history, can stop early, and can resume from a checkpoint. The step is given by the
caller; it may use several optimisers, a penalty or an adversarial network. ``DeepDetector`` uses the loop for
detectors, so that a variant defines only its network, its loss and its score.
"""

from __future__ import annotations

import abc
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn
from tqdm.auto import tqdm

from mmad_utils.detector import Detector, DetectorError, Stateful, load_state, save_state
from mmad_utils.files import remove_abandoned

__all__ = [
    "Adam",
    "DeepDetector",
    "NetworkState",
    "TrainingError",
    "epoch_log",
    "limited_threads",
    "resolve_device",
    "seeded",
    "size_limited",
    "train",
    "update",
]


SMALL_STEP = 2**24  # multiply-adds of a forward pass, below a millisecond on one core; smaller steps use one thread


class TrainingError(RuntimeError):
    """Training cannot continue; the message says where it stopped and what to change."""


def resolve_device(device: str) -> torch.device:
    """The device of a name: ``"auto"`` is the GPU if there is one, else the CPU; other names are PyTorch's."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


@contextmanager
def seeded(random_state) -> Iterator[torch.Generator]:
    """Seed PyTorch during a block, and restore its global random state afterwards.

    Parameters
    ----------
    random_state : None, int or numpy.random.RandomState
        As in scikit-learn.

    Yields
    ------
    torch.Generator
        Generator on the CPU, for the random numbers of the block; initialisation and dropout use the same seed.
    """
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@contextmanager
def limited_threads(network: nn.Module, rows: int, shape: Sequence[int] = ()) -> Iterator[None]:
    """Limit PyTorch to one thread during a block that trains a small network; for a large network do nothing.

    In a small step, the synchronisation of threads takes longer than the computation, in particular if other
    processes use the cores. The choice depends only on the network and the batch, not on the machine.

    Parameters
    ----------
    network : torch.nn.Module
    rows : int
        Samples per batch.
    shape : sequence of int, default=()
        Shape of a sample, (C, H, W) for images. It is assumed that the weights of a convolution are used at H W / 4
        positions, which is exact for a convolution that halves the image.
    """
    positions = max(1, math.prod(shape[1:]) // 4)
    weights = sum(weight.numel() * (positions if weight.ndim == 4 else 1) for weight in network.parameters())
    threads = torch.get_num_threads()
    if rows * weights > SMALL_STEP:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Adam:
    """Adam for networks with small layers: the updates of ``torch.optim.Adam``, for all parameters at once.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  θ ← θ − lr (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)

    with β₁ = 0.9, β₂ = 0.999 and ε = 1e-8. On the CPU the results are bitwise equal to those of PyTorch. PyTorch
    calls these operations for each parameter; for layers of a few hundred weights, the calls take longer than the
    arithmetic.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
        A parameter without a gradient at the first step is never updated. At later steps, a missing gradient is 0.
    lr : float
    weight_decay : float, default=0.0
        λ of the penalty: g is replaced by g + λ θ.

    References
    ----------
    D. P. Kingma, J. Ba (2015), Adam: a method for stochastic optimization, ICLR: algorithm 1.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0):
        self.parameters: list[Tensor] = list(parameters)
        self.lr, self.weight_decay, self.steps = lr, weight_decay, 0

    def zero_grad(self) -> None:
        """Remove the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters by their gradients."""
        if self.steps == 0:
            self.parameters = [parameter for parameter in self.parameters if parameter.grad is not None]
            self._mean = torch.cat([torch.zeros_like(parameter).flatten() for parameter in self.parameters])
            self._square, self._denominator = torch.zeros_like(self._mean), torch.empty_like(self._mean)
            self._means = self._like_parameters(self._mean)
            self._denominators = self._like_parameters(self._denominator)
        self.steps += 1
        gradients = (torch.zeros_like(each) if each.grad is None else each.grad for each in self.parameters)
        gradient = torch.cat([each.flatten() for each in gradients])
        if self.weight_decay:
            values = torch.cat([parameter.flatten() for parameter in self.parameters])
            gradient.add_(values, alpha=self.weight_decay)
        self._mean.lerp_(gradient, 1 - 0.9)
        self._square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        torch.sqrt(self._square, out=self._denominator)
        self._denominator.div_((1 - 0.999**self.steps) ** 0.5).add_(1e-8)
        size = -self.lr / (1 - 0.9**self.steps)
        torch._foreach_addcdiv_(self.parameters, self._means, self._denominators, size)

    def _like_parameters(self, flat: Tensor) -> list[Tensor]:
        """Views of a flat tensor in the shapes of the parameters."""
        parts = flat.split([parameter.numel() for parameter in self.parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.parameters)]


def update(optimizer: torch.optim.Optimizer | Adam, loss: Tensor) -> None:
    """Make one step of the optimiser to minimise ``loss``."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def train(
    step: Callable[..., Mapping[str, Any]],
    data: Sequence[Tensor],
    *,
    epochs: int,
    batch_size: int,
    generator: torch.Generator,
    after_epoch: Callable[[list[dict[str, float]]], Any] | None = None,
    checkpoint: str | Path | None = None,
    stateful: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    verbose: bool = False,
) -> list[dict[str, float]]:
    """Train: call ``step`` for shuffled batches, in a loop over epochs.

    Parameters
    ----------
    step : ``callable(*batch) -> dict`` of scalars
        Makes one update and returns the values to record. The first entry is the loss, which must stay finite.
    data : sequence of tensors, each (n, ...)
        Shuffled together; every batch has the same rows of each tensor. The sizes of batches differ by at most one
        row, so no batch is too small for batch normalisation.
    epochs, batch_size : int
        Number of passes over the data; largest number of rows per batch.
    generator : torch.Generator
        Random generator of the shuffling (and of the noise in ``step``); its state is part of the checkpoint.
    after_epoch : callable(history) -> bool, optional
        Called after each epoch; it may add entries to the last dict of the history. If it returns True, training
        stops.
    checkpoint : path, optional
        File that is written after every epoch, after the call of ``after_epoch``. If it exists, training resumes from
        it, and the result is bitwise that of an uninterrupted run. If ``after_epoch`` stopped the run, it is not
        resumed. A checkpoint needs ``stateful``.
    stateful : dict of objects with ``state_dict`` and ``load_state_dict``, optional
        Modules, optimisers and schedulers that are stored in the checkpoint.
    settings : dict of plain values, optional
        Further values that must be equal to those of the checkpoint to resume. The number of samples, the seed and
        the batch size are always checked.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    list of dict
        For each epoch the mean of each recorded scalar over the samples.

    Raises
    ------
    TrainingError
        The loss is NaN or infinite, or the checkpoint belongs to other data, other settings or another seed.
    DetectorError
        The checkpoint is damaged, or the file is not a checkpoint.
    """
    n = len(data[0])
    if n == 0 or any(len(part) != n for part in data):
        raise TrainingError(f"data has lengths {[len(part) for part in data]}; they must be equal and not zero.")
    if batch_size < 1:
        raise TrainingError(f"batch_size is {batch_size}; give at least 1.")
    history: list[dict[str, float]] = []
    identity = {"n": n, "seed": generator.initial_seed(), "batch_size": batch_size, **(settings or {})}
    if checkpoint is not None and not stateful:
        raise TrainingError("a checkpoint needs `stateful`: give the modules and optimisers to store in it.")
    ended = False
    if checkpoint is not None and Path(checkpoint).exists():
        remove_abandoned(Path(checkpoint))
        history, ended = _resume(checkpoint, identity, generator, stateful or {})
    if len(history) > epochs:
        raise TrainingError(
            f"{checkpoint} has {len(history)} epochs, more than the {epochs} requested. Increase epochs or delete it."
        )
    if ended and after_epoch is not None:
        return history
    bar = tqdm(range(len(history), epochs), initial=len(history), total=epochs, disable=not verbose, unit="epoch")
    for epoch in bar:
        sums: dict[str, float] = {}
        for rows in torch.randperm(n, generator=generator).tensor_split(math.ceil(n / batch_size)):
            record = step(*(part.index_select(0, rows.to(part.device)) for part in data))
            for key, value in record.items():
                sums[key] = sums.get(key, 0.0) + float(value) * len(rows)
        history.append({key: total / n for key, total in sums.items()})
        watched, loss = next(iter(history[-1].items()))
        bar.set_postfix({watched: f"{loss:.4g}"})
        if not math.isfinite(loss):
            largest = max(float(part.abs().max()) for part in data)
            raise TrainingError(
                f"{watched} is {loss} in epoch {epoch + 1} of {epochs}: lower the learning rate or scale the input "
                f"(its largest absolute value is {largest:.3g})."
            )
        stop = after_epoch is not None and after_epoch(history)
        if checkpoint is not None:
            states = {name: thing.state_dict() for name, thing in (stateful or {}).items()}
            done = {"identity": identity, "history": history, "rng": _rng_states(generator), "states": states}
            save_state(checkpoint, done | {"ended": bool(stop)})
        if stop:
            break
    return history


def epoch_log(path: str | Path, epochs: int) -> Callable[[list[dict[str, float]]], None]:
    """Function for ``after_epoch`` that appends a line to a text file, with the losses and the remaining time."""
    start, first = time.monotonic(), 0

    def write(history):
        nonlocal first
        first = first or len(history)  # first epoch of this process; a resumed run has earlier epochs
        seconds = (time.monotonic() - start) / (len(history) - first + 1) * (epochs - len(history))
        losses = ", ".join(f"{key} {value:.4g}" for key, value in history[-1].items())
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(
                f"{datetime.now():%Y-%m-%d %H:%M:%S} epoch {len(history)}/{epochs}: {losses}; {seconds:.0f} s left\n"
            )

    return write


def _rng_states(generator: torch.Generator) -> dict[str, Any]:
    devices = [torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())]
    return {"generator": generator.get_state(), "cpu": torch.get_rng_state(), "cuda": devices}


def _resume(checkpoint, identity, generator, stateful) -> tuple[list[dict[str, float]], bool]:
    """Restore the states of a checkpoint; return its history, and whether ``after_epoch`` stopped that run."""
    saved = load_state(checkpoint)
    try:
        theirs = {**saved.get("identity", {}), "states": sorted(saved.get("states", {}))}
        ours = {**identity, "states": sorted(stateful)}
        if theirs != ours:
            keys = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
            differences = ", ".join(f"{key} {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in keys)
            raise TrainingError(
                f"{checkpoint} belongs to another run ({differences}): give another path or delete the file."
            )
        for name, thing in stateful.items():
            thing.load_state_dict(saved["states"][name])
        generator.set_state(saved["rng"]["generator"])
        torch.set_rng_state(saved["rng"]["cpu"])
        for i, state in enumerate(saved["rng"]["cuda"]):
            torch.cuda.set_rng_state(state, i)
        return list(saved["history"]), bool(saved.get("ended", False))
    except TrainingError:
        raise
    except Exception as error:  # a state of a wrong type can raise any error
        raise DetectorError(
            f"{checkpoint} does not contain the state of this run ({type(error).__name__}: {error}): delete the file."
        ) from error


@contextmanager
def size_limited(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise a `DetectorError` if modules that are built in this block are larger than ``weights``.

    The limits are twice the numbers of tensors and of elements, because a module may register a tensor again. The
    error is raised while the modules are built, before they use much memory.
    """
    thread, tensors, elements = threading.get_ident(), 2 * len(weights) + 64, 2**20
    elements += 2 * sum(tensor.numel() for tensor in weights.values())

    def count(module, name, tensor):
        nonlocal tensors, elements
        if tensor is None or threading.get_ident() != thread:
            return
        tensors, elements = tensors - 1, elements - tensor.numel()
        if tensors < 0 or elements < 0:
            raise DetectorError(
                "the parameters define a larger network than the one that was saved with them: the file is damaged."
            )

    handles = [
        nn.modules.module.register_module_parameter_registration_hook(count),
        nn.modules.module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class NetworkState(Stateful, abc.ABC):
    """Mixin that saves the fitted attribute ``network_`` as tensors, and loads them into a rebuilt network.

    It must precede the base class that is ``Stateful``: ``class DeepDetector(NetworkState, Detector)``. A subclass
    defines ``_rebuild``. Without ``network_``, for example before ``fit``, the state is that of the base class.
    """

    network_: Any  # nn.Module, or nn.ModuleDict of several networks

    @abc.abstractmethod
    def _rebuild(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """Build a network with the layers, dtype, device and mode of the fitted one, and arbitrary weights.

        The parameters and the other fitted attributes are restored before the call. The caller loads ``weights``; if
        the layers depend on them, this method can read their names and shapes.
        """

    def get_state(self) -> dict[str, Any]:
        """State of the base class, with the network as tensors."""
        state = super().get_state()
        if "network_" in state["fitted"]:
            state["fitted"]["network_"] = self.network_.state_dict()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state that ``get_state`` returned, on a new object.

        PyTorch's global random generator is not changed.

        Raises
        ------
        DetectorError
            ``_rebuild`` builds a network that is larger than the tensors of the state.
        """
        fitted = dict(state["fitted"])
        weights = fitted.pop("network_", None)
        super().set_state({**state, "fitted": fitted})
        if weights is not None:
            with seeded(0), size_limited(weights):
                self.network_ = self._rebuild(weights)
            self.network_.load_state_dict(weights)


@dataclass(kw_only=True, eq=False, repr=False)
class DeepDetector(NetworkState, Detector):
    """Base class of detectors that train a network, for tables and small images.

    A variant defines ``build``, ``loss`` and ``batch_score``, and ``batch_map`` if it can localise anomalies. It
    overrides ``optimise`` if one optimiser is not enough. It is a dataclass and declares only the parameters that it
    adds, or whose default it changes.

    Images are given as uint8 (n, H, W, C), and the network receives float32 (n, C, H, W) in [0, 1]. The network
    receives tables as (n, d), unscaled: put a ``StandardScaler`` before the detector in a pipeline. For tables,
    training uses float32 and scoring float64, so that the score of a row does not depend on its batch.

    Parameters
    ----------
    epochs : int, default=50
        Number of passes over the training data. With 0 the network stays untrained; this is a control for every deep
        detector.
    batch_size : int, default=64
    learning_rate, weight_decay : float, default=1e-3 and 0
        Parameters of Adam.
    n_estimators : int, default=1
        Number of networks, trained from different seeds. The scores of each network are standardised by the mean and
        standard deviation of its training scores, and then averaged. This reduces the variance due to initialisation
        and shuffling.
    contamination : float in (0, 0.5], default=0.05
        Share of the training scores above the threshold.
    device : str, default="auto"
    random_state : int, RandomState or None, default=None
        With an int, two fits on one machine are bitwise equal.
    verbose : bool, default=False

    Attributes
    ----------
    network_ : torch.nn.Module, all trained parts (if n_estimators is 1)
    estimators_ : list of detectors with one network each (if n_estimators is larger)
    history_ : list of dict, the mean of each recorded scalar, one dict per epoch; averaged over the networks
    input_shape_ : tuple of int, (d,) or (C, H, W)
    """

    modalities = Detector.modalities + ("image",)

    epochs: int = 50
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    n_estimators: int = 1
    contamination: float = 0.05
    device: str = "auto"
    random_state: int | np.random.RandomState | None = None
    verbose: bool = False

    @abc.abstractmethod
    def build(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the network for samples of a shape, (d,) or (C, H, W); several networks as an ``nn.ModuleDict``."""

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Scalar to minimise; ``generator`` is the random generator for noise in the loss.

        The method is not abstract, because a variant that overrides ``optimise`` may not need it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss: define loss(batch, generator) or optimise.")

    @abc.abstractmethod
    def batch_score(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Scores of a batch, (n, ...) -> (n,), higher is more anomalous.

        ``generator`` is seeded again at every call of ``anomaly_score``.
        """

    def optimise(self, data: Tensor, generator: torch.Generator) -> list[dict[str, float]]:
        """Train ``network_`` on ``data`` and return the history; the default minimises ``loss`` with Adam."""
        optimizer = Adam(self.network_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)

        def step(batch):
            loss = self.loss(batch, generator)
            update(optimizer, loss)
            return {"loss": loss.detach()}

        return self.run(step, data, generator)

    def run(
        self,
        step: Callable[..., Mapping[str, Any]],
        data: Tensor,
        generator: torch.Generator,
        *,
        min_steps: int = 0,
        **options,
    ):
        """Call ``train`` with the epochs and the batch size of this detector.

        For small data, ``epochs`` is increased until there are at least ``min_steps`` batches, unless it is 0.
        """
        batches = math.ceil(len(data) / max(self.batch_size, 1))
        epochs = max(self.epochs, math.ceil(min_steps / batches)) if self.epochs else 0
        options = {"epochs": epochs, "batch_size": self.batch_size, "verbose": self.verbose} | options
        return train(step, (data,), generator=generator, **options)

    @available_if(lambda self: hasattr(self, "batch_map"))
    def anomaly_map(self, X) -> np.ndarray:
        """Anomaly maps, (n, H, W) float64; for several networks, the unweighted mean of their maps."""
        check_is_fitted(self)
        X = self._check(X, reset=False)
        if len(self.input_shape_) == 1:
            raise DetectorError(f"this {type(self).__name__} was fitted on a table; only images have a map.")
        if self.n_estimators > 1:
            return np.mean([estimator.anomaly_map(X) for estimator in self.estimators_], axis=0)
        return self._batches(self.batch_map, X)  # type: ignore[attr-defined]

    def _check(self, X, *, reset):
        if getattr(X, "ndim", 2) != 4:
            X = validate_data(self, X, dtype=np.float64, reset=reset, ensure_min_samples=2 if reset else 1)
            shape: tuple[int, ...] = X.shape[1:]
        else:
            X = np.asarray(X)
            if X.dtype != np.uint8 or 0 in X.shape:
                raise DetectorError(
                    f"images must be uint8 (n, H, W, C), got {X.dtype} {X.shape}: scale them to 0..255."
                )
            shape = (X.shape[3], *X.shape[1:3])
        if not reset:
            if shape != self.input_shape_:
                raise DetectorError(f"fitted on samples of shape {self.input_shape_}, got {shape}.")
        elif len(X) < 2 or (X[:1] == X).all():
            raise DetectorError(
                f"the {len(X)} training samples are all equal, or there is only one: give at least two that differ."
            )
        return X

    def _tensor(self, X: np.ndarray) -> Tensor:
        data = torch.tensor(np.ascontiguousarray(X))  # copied, because PyTorch does not accept reversed arrays
        return data.permute(0, 3, 1, 2).float().div_(255) if X.ndim == 4 else data

    def _fit(self, X, y):
        data = self._tensor(X).float()
        if not torch.isfinite(data).all():
            raise DetectorError("X has values beyond the range of float32: scale it.")
        self.input_shape_ = tuple(data.shape[1:])
        if self.n_estimators > 1:
            seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=self.n_estimators)
            self.estimators_ = [clone(self).set_params(n_estimators=1, random_state=int(seed)) for seed in seeds]
            for estimator in self.estimators_:
                estimator.fit(X, y)
            epochs = zip(*(estimator.history_ for estimator in self.estimators_))
            self.history_ = [{key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for rows in epochs]
            scores = [estimator._training_scores(X) for estimator in self.estimators_]
            self.scales_ = np.array([[score.mean(), score.std() or 1.0] for score in scores])
            return
        with seeded(self.random_state) as generator:
            device = resolve_device(self.device)
            self.network_ = self.build(self.input_shape_).to(device)
            with limited_threads(self.network_, min(self.batch_size, len(data)), self.input_shape_):
                self.history_ = self.optimise(data.to(device), generator)
            self.seed_ = int(generator.initial_seed())
        self._prepare_scoring(self.network_)

    def _prepare_scoring(self, network: nn.Module) -> nn.Module:
        """Set the network to evaluation mode, and to float64 for tables, in place; return it."""
        return network.eval().double() if len(self.input_shape_) == 1 else network.eval()

    def _score(self, X):
        if self.n_estimators > 1:
            scores = zip(self.estimators_, self.scales_)
            return np.mean([(estimator._score(X) - mean) / sd for estimator, (mean, sd) in scores], axis=0)
        return self._batches(self.batch_score, X)

    def _batches(self, function: Callable[[Tensor, torch.Generator], Tensor], X) -> np.ndarray:
        device = next(self.network_.parameters()).device
        generator = torch.Generator().manual_seed(self.seed_)
        with torch.no_grad():
            batches = self._tensor(X).split(1024)
            return torch.cat([function(b.to(device), generator).cpu() for b in batches]).double().numpy()

    def _rebuild(self, weights):
        shape = tuple(self.input_shape_)
        if len(shape) == 1 and shape[0] > sum(tensor.numel() for tensor in weights.values()):
            raise DetectorError(f"the network has fewer weights than the {shape[0]} columns of its input.")
        return self._prepare_scoring(self.build(shape).to(resolve_device(self.device)))
