"""The one training loop, and the base of every deep detector.

``train`` shuffles, steps, averages, watches for NaN, keeps the history, and can stop and resume; what a step does
(one optimiser or three, a penalty, an adversary) belongs to the caller. ``DeepDetector`` joins it to the detector
contract, so that a variant says only what differs: its network, its loss, its score.
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


SMALL_STEP = 2**24  # multiply-adds of a pass over a batch, less than a millisecond of one core: one thread does it


class TrainingError(RuntimeError):
    """Training cannot go on; the message says where it stopped and what to change."""


def resolve_device(device: str) -> torch.device:
    """``"auto"`` is the GPU where there is one; any other name is PyTorch's."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


@contextmanager
def seeded(random_state) -> Iterator[torch.Generator]:
    """Seed PyTorch for the block and restore its global state after it.

    Parameters
    ----------
    random_state : None, int or numpy.random.RandomState
        As in scikit-learn.

    Yields
    ------
    torch.Generator
        On the CPU, for the draws that the block makes itself; initialisation and dropout follow the same seed.
    """
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@contextmanager
def limited_threads(network: nn.Module, rows: int, shape: Sequence[int] = ()) -> Iterator[None]:
    """One thread for PyTorch while a small network is trained in the block; a large one keeps all.

    The threads of a small step wait for each other longer than they work, above all where other processes use the
    cores. The choice depends on the network and the batch only, never on the machine.

    Parameters
    ----------
    network : torch.nn.Module
    rows : int
        Samples a batch.
    shape : sequence of int, default=()
        Of a sample, (C, H, W) for images: the weights of a convolution are taken to be used at H W / 4 positions,
        which is exact for one that halves the image.
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
    """Adam for networks of small layers: the updates of ``torch.optim.Adam``, for all parameters at once.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  θ ← θ − lr (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)

    with β₁ = 0.9, β₂ = 0.999 and ε = 1e-8. On the CPU the results are bitwise those of PyTorch, which calls these
    operations for each parameter; with layers of a few hundred weights the calls take longer than the arithmetic.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
        Those that have no gradient at the first step stay as they are; later, no gradient is a gradient of 0.
    lr : float
    weight_decay : float, default=0.0
        λ in g + λ θ, which takes the place of g.

    References
    ----------
    D. P. Kingma, J. Ba (2015), Adam: a method for stochastic optimization, ICLR: algorithm 1.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0):
        self.parameters: list[Tensor] = list(parameters)
        self.lr, self.weight_decay, self.steps = lr, weight_decay, 0

    def zero_grad(self) -> None:
        """Forget the gradients."""
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
        """The parts of a flat tensor in the shapes of the parameters; they share its memory."""
        parts = flat.split([parameter.numel() for parameter in self.parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.parameters)]


def update(optimizer: torch.optim.Optimizer | Adam, loss: Tensor) -> None:
    """One step of the optimiser down the gradient of ``loss``."""
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
    """Run ``step`` over shuffled batches, epoch by epoch.

    Parameters
    ----------
    step : ``callable(*batch) -> dict`` of scalars
        Does one update and returns what to record; its first entry is the loss that is watched.
    data : sequence of tensors, each (n, ...)
        Shuffled together; every batch holds the same rows of each. Batches differ by at most one row in size, so
        none is too small for batch normalisation.
    epochs, batch_size : int
        Passes over the data; largest number of rows a batch.
    generator : torch.Generator
        Source of the shuffles (and of the caller's noise); part of the checkpoint.
    after_epoch : callable(history) -> bool, optional
        Is called after each epoch, and may add to its entry of the history; training ends early when it returns True.
    checkpoint : path, optional
        Written after every epoch, with what ``after_epoch`` changed. If it exists, training goes on from there, with
        the bits of an uninterrupted run. With an ``after_epoch``, a run that ended early is not continued. It needs
        ``stateful``.
    stateful : dict of objects with ``state_dict`` and ``load_state_dict``, optional
        Modules, optimisers and schedulers that the checkpoint holds.
    settings : dict of plain values, optional
        What else must be the same for a checkpoint to be gone on with; data, seed and batch size are checked anyway.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    list of dict
        For each epoch the mean of each recorded scalar over the samples.

    Raises
    ------
    TrainingError
        The loss became NaN or infinite; the checkpoint belongs to other data, settings or another seed.
    DetectorError
        The checkpoint is damaged or no such file.
    """
    n = len(data[0])
    if n == 0 or any(len(part) != n for part in data):
        raise TrainingError(f"data has lengths {[len(part) for part in data]}; they must be equal and not zero.")
    if batch_size < 1:
        raise TrainingError(f"batch_size is {batch_size}; give at least 1.")
    history: list[dict[str, float]] = []
    identity = {"n": n, "seed": generator.initial_seed(), "batch_size": batch_size, **(settings or {})}
    if checkpoint is not None and not stateful:
        raise TrainingError("a checkpoint needs `stateful`: name the modules and optimisers that it must hold.")
    ended = False
    if checkpoint is not None and Path(checkpoint).exists():
        history, ended = _resume(checkpoint, identity, generator, stateful or {})
    if len(history) > epochs:
        raise TrainingError(f"{checkpoint} has {len(history)} epochs, more than the {epochs} that are asked for.")
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
    """A function for ``after_epoch``: appends a line to a text file, with the losses and the time that is left."""
    start, first = time.monotonic(), 0

    def write(history):
        nonlocal first
        first = first or len(history)  # the first epoch of this process; a resumed run has earlier ones
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
    """The history of the checkpoint, and whether ``after_epoch`` ended that run; restores all that it holds."""
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
    except Exception as error:  # whatever a state of a wrong type leads to
        raise DetectorError(
            f"{checkpoint} does not hold the state of this run ({type(error).__name__}: {error}): delete the file."
        ) from error


@contextmanager
def size_limited(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Raise a DetectorError when modules made in this block outgrow ``weights``, before their memory is filled.

    Twice the number of tensors and of elements is allowed, as a module may register a tensor again.
    """
    thread, tensors, elements = threading.get_ident(), 2 * len(weights) + 64, 2**20
    elements += 2 * sum(tensor.numel() for tensor in weights.values())

    def count(module, name, tensor):
        nonlocal tensors, elements
        if tensor is None or threading.get_ident() != thread:
            return
        tensors, elements = tensors - 1, elements - tensor.numel()
        if tensors < 0 or elements < 0:
            raise DetectorError("the parameters ask for a larger network than the one that was saved with them.")

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
    """Saves the fitted attribute ``network_`` as its tensors, and loads them into a network that is built anew.

    It stands before the base class that is ``Stateful``: ``class DeepDetector(NetworkState, Detector)``. A subclass
    defines ``_rebuild``. Without ``network_``, before ``fit`` for example, the state is that of the base class.
    """

    network_: Any  # an nn.Module, or an nn.ModuleDict of several

    @abc.abstractmethod
    def _rebuild(self, weights: Mapping[str, Tensor]) -> nn.Module:
        """A network with the layers, dtype, device and mode of the fitted one, and any weights.

        The parameters and the other fitted attributes are restored before. The caller fills in ``weights``; where
        the layers depend on them, their names and shapes can be read here.
        """

    def get_state(self) -> dict[str, Any]:
        """As the base class, with the network as its tensors."""
        state = super().get_state()
        if "network_" in state["fitted"]:
            state["fitted"]["network_"] = self.network_.state_dict()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Undo ``get_state`` on a new object; PyTorch's global random generator stays as it is.

        Raises
        ------
        DetectorError
            ``_rebuild`` makes a network that is larger than the tensors of the state.
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
    """Base of the detectors that train a network; works on tables and on small images.

    A variant defines ``build``, ``loss`` and ``batch_score`` (and ``batch_map`` where it can localise), and overrides
    ``optimise`` where one optimiser is not enough. It is a dataclass and declares only the parameters that it adds,
    or to which it gives another default.

    Images come in as uint8 (n, H, W, C) and reach the network as float32 (n, C, H, W) in [0, 1]; tables reach it
    as (n, d), unscaled: put a ``StandardScaler`` before it in a pipeline. Tables are trained on in float32 and
    scored in float64, so that the score of a row does not depend on its batch.

    Parameters
    ----------
    epochs : int, default=50
        Passes over the training data. 0 leaves the network untrained, the control that every deep detector
        should be compared with.
    batch_size : int, default=64
    learning_rate, weight_decay : float, default=1e-3 and 0
        Of Adam.
    n_estimators : int, default=1
        Networks trained from different seeds. Their scores, each standardised by mean and standard deviation of its
        training scores, are averaged: what one network sees by chance evens out.
    contamination : float in (0, 0.5], default=0.05
        Share of the training scores above the threshold.
    device : str, default="auto"
    random_state : int, RandomState or None, default=None
        With an int, two fits on one machine agree to the bit.
    verbose : bool, default=False

    Attributes
    ----------
    network_ : torch.nn.Module, everything that is trained (with one estimator)
    estimators_ : list of detectors with one network each (with several)
    history_ : list of dict, the mean of each recorded scalar, one dict an epoch; of several networks, the mean
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
        """The network for samples of this shape, (d,) or (C, H, W); several go into one ``nn.ModuleDict``."""

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Scalar to minimise; ``generator`` is for the noise that the loss draws, if any.

        It is not abstract: a variant that overrides ``optimise`` may do without it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss: define loss(batch, generator) or optimise.")

    @abc.abstractmethod
    def batch_score(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """(n, ...) -> (n,), higher is more anomalous; ``generator`` starts anew at every call from outside."""

    def optimise(self, data: Tensor, generator: torch.Generator) -> list[dict[str, float]]:
        """Train ``network_`` on ``data``; returns the history. Here: Adam on ``loss``."""
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
        """``train`` with this detector's epochs and batch size.

        On small data ``epochs`` is raised until there are ``min_steps`` batches; only ``epochs=0`` stays as it is.
        """
        batches = math.ceil(len(data) / max(self.batch_size, 1))
        epochs = max(self.epochs, math.ceil(min_steps / batches)) if self.epochs else 0
        options = {"epochs": epochs, "batch_size": self.batch_size, "verbose": self.verbose} | options
        return train(step, (data,), generator=generator, **options)

    @available_if(lambda self: hasattr(self, "batch_map"))
    def anomaly_map(self, X) -> np.ndarray:
        """How anomalous each pixel is, (n, H, W) float64; of several networks the plain mean of their maps."""
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
                f"the {len(X)} training samples hold nothing to learn from: give at least two that differ."
            )
        return X

    def _tensor(self, X: np.ndarray) -> Tensor:
        data = torch.tensor(np.ascontiguousarray(X))  # a copy; PyTorch takes no reversed array
        return data.permute(0, 3, 1, 2).float().div_(255) if X.ndim == 4 else data

    def _fit(self, X, y):
        data = self._tensor(X).float()
        if not torch.isfinite(data).all():
            raise DetectorError("X holds values beyond the range of float32: scale it.")
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
        """The network without dropout, in float64 for tables; it is changed in place."""
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
