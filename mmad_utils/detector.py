"""The contract of every detector, and saving without pickle.

A detector is a scikit-learn outlier estimator. The chain is scikit-learn's: ``score_samples`` (lower is
more anomalous) → ``offset_`` → ``decision_function`` → ``predict``. ``anomaly_score`` is the same score with
the sign that people draw: higher is more anomalous.
"""

from __future__ import annotations

import abc
import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import skops.io
import torch
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mmad_utils.files import atomic_path

__all__ = ["Detector", "DetectorError", "Stateful", "check_share", "check_whole", "load_state", "save_state"]

FILE_FORMAT = "3"  # of what save_state writes; a change that older code cannot read raises it
# 1: the state of a TabularEncoder had "weights" and "names" of its own; 2: without estimators of scikit-learn.
READABLE_FORMATS = ("1", "2", FILE_FORMAT)
TRUSTED = [  # the compiled types of scikit-learn that skops.io asks about; they hold arrays
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
]


class DetectorError(ValueError):
    """A detector was given something that it cannot work with; the message says what to do."""


class Stateful:
    """What ``save`` needs of an estimator, to write it without pickle: its state as plain data, and back."""

    def get_state(self) -> dict[str, Any]:
        """Parameters, and fitted attributes (those that end in ``_``)."""
        fitted = {name: value for name, value in vars(self).items() if name.endswith("_") and name[0] != "_"}
        return {"parameters": self.get_params(deep=False), "fitted": fitted}  # type: ignore[attr-defined]

    def set_state(self, state: dict[str, Any]) -> None:
        """Undo ``get_state`` on a new object."""
        self.__init__(**state["parameters"])  # type: ignore[misc]
        for name, value in state["fitted"].items():
            setattr(self, name, value)


class Detector(OutlierMixin, Stateful, BaseEstimator, abc.ABC):
    """Base of every detector.

    A subclass is a dataclass, decorated with ``@dataclass(kw_only=True, eq=False, repr=False)`` to keep the
    identity and the repr of scikit-learn. Its fields are its parameters, ``contamination`` among them. A variant
    declares only the fields that it adds, or to which it gives another default. ``_fit(X, y)`` learns attributes
    that end in ``_``, and ``_score(X)`` returns one number per sample, higher is more anomalous. Both get an ``X``
    that ``_check`` has validated. A class attribute that is no parameter has no annotation, or is a ``ClassVar``.

    Attributes
    ----------
    offset_ : float
        ``predict`` calls a sample an anomaly when its ``score_samples`` is below. ``fit`` takes the
        ``contamination`` quantile of the training scores; ``calibrate`` takes a threshold fitted on held-out
        normal samples. Neither sees a test label.
    """

    modalities: tuple[str, ...] = ("tabular",)
    """What ``X`` may be: "tabular", "image" (arrays), or both."""

    contamination: float

    def fit(self, X, y=None):
        """Learn what normal samples look like.

        Parameters
        ----------
        X : (n, d) table or (n, H, W, C) uint8 images or sequence of n image paths
            Normal samples only, unless the class says otherwise.
        y : ignored, unless the class says otherwise

        Returns
        -------
        self
        """
        if not 0 < self.contamination <= 0.5:
            raise DetectorError(
                f"{type(self).__name__}: contamination is {self.contamination!r}; give the share of training "
                "samples to put above the threshold, in (0, 0.5]."
            )
        X = self._check(X, reset=True)
        self._fit(X, y)
        self.offset_ = self._offset(X)
        return self

    def score_samples(self, X) -> np.ndarray:
        """Score of each sample, (n,) float64; lower is more anomalous, as in scikit-learn."""
        return -self.anomaly_score(X)

    def anomaly_score(self, X) -> np.ndarray:
        """Score of each sample, (n,) float64; higher is more anomalous."""
        check_is_fitted(self)
        return np.asarray(self._score(self._check(X, reset=False)), dtype=np.float64)

    def decision_function(self, X) -> np.ndarray:
        """``score_samples(X) - offset_``, (n,) float64; negative is an anomaly."""
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:
        """+1 for normal, -1 for an anomaly, (n,) int."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def calibrate(self, threshold, X_normal):
        """Set ``offset_`` from normal samples that were not used to fit.

        Parameters
        ----------
        threshold : QuantileThreshold, ConformalThreshold or PeaksOverThreshold
            Is fitted on the anomaly scores of ``X_normal``.
        X_normal : as in ``fit``
            Normal samples; training scores are too low on average to promise a false-alarm rate.

        Returns
        -------
        self
        """
        threshold.fit(self.anomaly_score(X_normal))
        if not hasattr(threshold, "threshold_"):
            raise DetectorError(f"{threshold} has no single threshold: call its predict on the scores instead.")
        self.offset_ = -float(threshold.threshold_)
        return self

    def save(self, path) -> None:
        """Write the fitted detector to one safetensors file (parameters as JSON in its header)."""
        check_is_fitted(self)
        save_state(path, {"detector": self})

    @classmethod
    def load(cls, path):
        """Read a detector that ``save`` wrote. ``Detector.load`` reads any of them.

        Raises
        ------
        DetectorError
            The file is no detector, or one of another class.
        """
        state = load_state(path).get("detector")
        if not isinstance(state, dict) or "@object" not in state:
            raise DetectorError(f"{path} does not hold a detector; give a file that Detector.save wrote.")
        found = cls if state["@object"] == cls.__name__ else _exported_class(state["@object"], path)
        if not issubclass(found, cls):
            raise DetectorError(f"{path} holds a {found.__name__}, not a {cls.__name__}; use {found.__name__}.load.")
        return _decode_object(found, state["state"], path)

    def _check(self, X, *, reset: bool):
        """Validated input; tables here, image detectors override it."""
        X = validate_data(self, X, dtype=np.float64, reset=reset)
        return np.require(X, requirements=["C", "W"])  # PyTorch takes no reversed and no read-only array

    @abc.abstractmethod
    def _fit(self, X, y) -> None:
        """Learn attributes that end in ``_`` from an ``X`` that ``_check`` has validated."""

    def _offset(self, X) -> float:
        """The threshold on ``score_samples``, from the training samples."""
        return float(np.quantile(-self._training_scores(X), self.contamination))

    def _training_scores(self, X) -> np.ndarray:
        """What sets the threshold: scores of the training samples, without themselves where that is cheap."""
        return self._score(X)

    @abc.abstractmethod
    def _score(self, X) -> np.ndarray:
        """Score of each sample of a validated ``X``, (n,); higher is more anomalous."""


def check_whole(name: str, value, least: int) -> None:
    """Refuse a parameter that is no whole number of at least ``least``, under the name that the user gave it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise DetectorError(f"{name}={value!r}: give a whole number, {least} or more.")


def check_share(name: str, value, most: float) -> None:
    """Refuse a parameter that is no number in (0, most], under the name that the user gave it."""
    if not 0 < value <= most:
        raise DetectorError(f"{name}={value!r}: give a number in (0, {most:g}].")


def save_state(path, state: dict[str, Any]) -> None:
    """Write nested dicts, lists, numbers, strings, arrays and tensors to one safetensors file, atomically.

    An estimator of scikit-learn is one array of bytes in the same file, in the format of ``skops.io``.

    Raises
    ------
    DetectorError
        Something in it (a function, an estimator of another package) could only be written by pickle.
    """
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_encode(state, "", tensors))
    with atomic_path(path) as partial:
        safetensors.torch.save_file(tensors, partial, metadata={"mmad": text, "format": FILE_FORMAT})


def load_state(path) -> dict[str, Any]:
    """Read what ``save_state`` wrote; objects stay ``{"@object": class name, "state": ...}``."""
    if not Path(path).is_file():
        raise DetectorError(f"{path} does not exist; give a file that save wrote.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = metadata["format"]
            if found not in READABLE_FORMATS:
                raise DetectorError(
                    f"{path} has file format {found}, this version of mmad_utils reads "
                    f"{', '.join(READABLE_FORMATS)}: use the version that wrote it, or fit and save again."
                )
            # A tensor of the file is a view of its buffer at any offset; BLAS may round differently in memory that is
            # not aligned, so each gets memory of its own.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        text = metadata["mmad"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise DetectorError(f"{path} is damaged or was not written by mmad_utils ({error}).") from error
    return _decode(json.loads(text), tensors, path)


def _encode(value, where: str, tensors: dict[str, torch.Tensor]):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, torch.Tensor):
        tensors[where] = value.detach().cpu().contiguous().clone()
        return {"@tensor": where}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OU":
            return {"@strings": [str(item) for item in value.ravel()], "shape": list(value.shape)}
        tensors[where] = torch.from_numpy(np.array(value, order="C"))
        return {"@array": where}
    if isinstance(value, tuple):
        return {"@tuple": [_encode(item, f"{where}/{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [_encode(item, f"{where}/{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("@") for key in value):
            return {key: _encode(item, f"{where}/{key}", tensors) for key, item in value.items()}
        return {"@items": [[key, _encode(item, f"{where}/{key}", tensors)] for key, item in value.items()]}
    if hasattr(value, "get_state") and hasattr(value, "set_state"):
        state = _encode(value.get_state(), f"{where}/state", tensors)
        return {"@object": type(value).__name__, "state": state}
    if isinstance(value, BaseEstimator) and type(value).__module__.startswith("sklearn."):
        content = _skops_bytes(value)
        if content is not None:
            tensors[where] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            return {"@skops": where}
    raise DetectorError(
        f"cannot save {where.strip('/')}: a {type(value).__name__} could only be written by pickle, which may "
        "run any code when read. Give numbers, strings, arrays, a detector of this package or of scikit-learn."
    )


def _skops_bytes(estimator) -> bytes | None:
    """An estimator of scikit-learn in the format of ``skops.io``; None where it holds a type that is not trusted."""
    try:
        content = skops.io.dumps(estimator)
    except skops.io.exceptions.UnsupportedTypeException:
        return None
    return content if set(skops.io.get_untrusted_types(data=content)) <= set(TRUSTED) else None


def _decode(value, tensors: dict[str, torch.Tensor], path):
    if isinstance(value, list):
        return [_decode(item, tensors, path) for item in value]
    if not isinstance(value, dict):
        return value
    if "@tensor" in value:
        return tensors[value["@tensor"]]
    if "@array" in value:
        return tensors[value["@array"]].numpy()
    if "@skops" in value:
        try:
            return skops.io.loads(tensors[value["@skops"]].numpy().tobytes(), trusted=TRUSTED)
        except (skops.io.exceptions.UntrustedTypesFoundException, KeyError, OSError, TypeError, ValueError) as error:
            raise DetectorError(
                f"{path}: it holds no estimator that can be trusted ({error})."
            ) from error
    if "@strings" in value:
        return np.array(value["@strings"], dtype=object).reshape(value["shape"])
    if "@tuple" in value:
        return tuple(_decode(item, tensors, path) for item in value["@tuple"])
    if "@items" in value:
        return {key: _decode(item, tensors, path) for key, item in value["@items"]}
    return {key: _decode(item, tensors, path) for key, item in value.items()}


def _decode_object(cls: type[Any], state, path):
    def restore(item):
        if isinstance(item, dict) and item.keys() == {"@object", "state"}:
            found = cls if item["@object"] == cls.__name__ else _exported_class(item["@object"], path)
            return _decode_object(found, item["state"], path)
        if isinstance(item, dict):
            return {key: restore(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return type(item)(restore(entry) for entry in item)
        return item

    state = restore(state)
    try:
        new = object.__new__(cls)
        new.set_state(state)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        raise DetectorError(
            f"{path} does not fit {cls.__name__} as it is now ({error}): fit it again and save it anew."
        ) from error
    return new


def _exported_class(name: str, path) -> type:
    """A class that ``mmad_utils`` exports: a file can name nothing else."""
    import mmad_utils

    found = getattr(mmad_utils, name, None)
    if not (isinstance(found, type) and hasattr(found, "set_state")):
        raise DetectorError(f"{path} holds a {name}, which mmad_utils does not have; load it with that class's load.")
    return found
