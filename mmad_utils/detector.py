"""The base class of all detectors, and saving of fitted detectors without pickle.

A detector is a scikit-learn outlier estimator. It has scikit-learn's methods: ``score_samples`` (lower is
more anomalous) → ``offset_`` → ``decision_function`` → ``predict``. ``anomaly_score`` is ``score_samples`` with the
opposite sign: higher is more anomalous.

PyTorch is imported only if there are tensors; a detector without networks then needs a third of the memory to score.
skops, which imports all of scikit-learn, is imported only if a scikit-learn estimator is saved or loaded.
"""

from __future__ import annotations

import abc
import hashlib
import io
import json
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mmad_utils.files import write_atomic

__all__ = [
    "Detector",
    "DetectorError",
    "Stateful",
    "check_contamination",
    "check_share",
    "check_whole",
    "clear_errors",
    "finite_scores",
    "load_state",
    "save_state",
]

FILE_FORMAT = "3"  # format that save_state writes; increased by a change that older versions cannot read
# 1: the state of a TabularEncoder has the entries "weights" and "names"; 2: no estimators of scikit-learn.
READABLE_FORMATS = ("1", "2", FILE_FORMAT)
LONGEST_TEXT = 2**25  # characters of the JSON of a state; parsed, it needs up to 24 times the memory
DEEPEST = 100  # levels of nested values in a state
EXTREME = 1e15  # if a table has a larger absolute value, an error of a library is attributed to it
TRUSTED = [  # compiled types of scikit-learn that skops.io does not trust by default; they contain arrays
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
]


class DetectorError(ValueError):
    """An input, parameter or file that a detector cannot use; the message says how to correct it."""


class Stateful:
    """Mixin of estimators that can be saved without pickle: their state as plain data, and its restoration."""

    def get_state(self) -> dict[str, Any]:
        """Parameters and fitted attributes (those whose names end in ``_``)."""
        fitted = {name: value for name, value in vars(self).items() if name.endswith("_") and name[0] != "_"}
        return {"parameters": self.get_params(deep=False), "fitted": fitted}  # type: ignore[attr-defined]

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state that ``get_state`` returned, on a new object.

        Raises
        ------
        DetectorError
            The state has an attribute whose name does not end in ``_``.
        """
        self.__init__(**state["parameters"])  # type: ignore[misc]
        for name, value in state["fitted"].items():
            if not name.isidentifier() or not name.endswith("_") or name.startswith("_"):
                raise DetectorError(f"the state of a {type(self).__name__} has no attribute {name!r}.")
            setattr(self, name, value)


class Detector(OutlierMixin, Stateful, BaseEstimator, abc.ABC):
    """Base class of all detectors.

    A subclass is a dataclass, decorated with ``@dataclass(kw_only=True, eq=False, repr=False)``, so that equality and
    repr are those of scikit-learn. Its fields are its parameters; one of them is ``contamination``. A variant
    declares only the fields that it adds, or whose default it changes. ``_fit(X, y)`` learns attributes that end in
    ``_``, and ``_score(X)`` returns one number per sample, higher is more anomalous. Both receive an ``X`` that
    ``_check`` has validated. A class attribute that is not a parameter has no annotation, or is a ``ClassVar``.

    Attributes
    ----------
    offset_ : float
        ``predict`` labels a sample as an anomaly if its ``score_samples`` is below ``offset_``. ``fit`` sets it to
        the ``contamination`` quantile of the training scores. ``calibrate`` sets it to a threshold that is fitted on
        held-out normal samples. Neither uses test labels.
    """

    modalities: tuple[str, ...] = ("tabular",)
    """Types of ``X``: "tabular", "image" (arrays), or both."""

    contamination: float

    def fit(self, X, y=None):
        """Fit the detector to normal samples.

        Parameters
        ----------
        X : (n, d) table or (n, H, W, C) uint8 images or sequence of n image paths
            Normal samples only, unless documented otherwise.
        y : ignored, unless documented otherwise

        Returns
        -------
        self

        Raises
        ------
        DetectorError
            X cannot be read as samples, or scores cannot be computed because its values are too large, too small or
            too similar.
        """
        check_contamination(type(self).__name__, self.contamination)
        with clear_errors(type(self).__name__, X):
            X = self._check(X, reset=True)
            self._fit(X, y)
            self.offset_ = self._offset(X)
        return self

    def score_samples(self, X) -> np.ndarray:
        """Score of each sample, (n,) float64; lower is more anomalous, as in scikit-learn."""
        return -self.anomaly_score(X)

    def anomaly_score(self, X) -> np.ndarray:
        """Score of each sample, (n,) float64; higher is more anomalous.

        Scores are finite. If the score of a sample overflows, it is replaced by the largest float64.
        """
        return finite_scores(self._checked_scores(X))

    def decision_function(self, X) -> np.ndarray:
        """``score_samples(X) - offset_``, (n,) float64; negative for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X) -> np.ndarray:
        """Labels, (n,) int: +1 for normal samples, -1 for anomalies."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def calibrate(self, threshold, X_normal):
        """Set ``offset_`` from normal samples that were not used in ``fit``.

        Parameters
        ----------
        threshold : QuantileThreshold, ConformalThreshold or PeaksOverThreshold
            Fitted on the anomaly scores of ``X_normal``.
        X_normal : as in ``fit``
            Held-out normal samples. Scores of training samples are too low on average to control the false-alarm
            rate.

        Returns
        -------
        self
        """
        threshold.fit(self.anomaly_score(X_normal))
        if not hasattr(threshold, "threshold_"):
            raise DetectorError(f"{threshold} has no single threshold; call its predict method on the scores.")
        self.offset_ = -float(threshold.threshold_)
        return self

    def save(self, path) -> None:
        """Save the fitted detector to a safetensors file; the parameters are stored as JSON in its header."""
        check_is_fitted(self)
        save_state(path, {"detector": {"@object": type(self).__name__, "state": self.get_state()}}, own=type(self))

    @classmethod
    def load(cls, path):
        """Load a detector that ``save`` wrote; ``Detector.load`` loads detectors of any class.

        Raises
        ------
        DetectorError
            The file does not contain a detector, or contains a detector of another class.
        """
        state = load_state(path).get("detector")
        if not isinstance(state, _SavedObject):
            raise DetectorError(f"{path} does not contain a detector; give a file that Detector.save wrote.")
        found = cls if state["@object"] == cls.__name__ else _exported_class(state["@object"], path)
        if not issubclass(found, cls):
            raise DetectorError(
                f"{path} contains a {found.__name__}, not a {cls.__name__}: use {found.__name__}.load."
            )
        return _decode_object(found, state["state"], path)

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state that ``get_state`` returned, on a new object."""
        super().set_state(state)
        offsets = getattr(self, "offset_", 0.0)
        for offset in offsets.values() if isinstance(offsets, dict) else [offsets]:
            if not isinstance(offset, (int, float)) or np.isnan(offset):
                raise DetectorError(f"the state of a {type(self).__name__} has the threshold {offset!r}.")

    def _check(self, X, *, reset: bool):
        """Validate a table; detectors of images override this method."""
        X = validate_data(self, X, dtype=np.float64, reset=reset)
        return np.require(X, requirements=["C", "W"])  # PyTorch accepts neither reversed nor read-only arrays

    @abc.abstractmethod
    def _fit(self, X, y) -> None:
        """Learn attributes that end in ``_`` from an ``X`` that ``_check`` has validated."""

    def _offset(self, X) -> float:
        """The threshold on ``score_samples``, from the training samples."""
        return self._quantile(self._training_scores(X))

    def _quantile(self, scores) -> float:
        """The ``contamination`` quantile of ``score_samples``, given anomaly scores."""
        overflown = np.flatnonzero(~np.isfinite(scores))
        if overflown.size:
            raise DetectorError(
                f"{type(self).__name__}: the score of training sample {overflown[0]} is {scores[overflown[0]]}: its "
                "values are too large, too small or too similar. Scale the columns and remove constant columns."
            )
        return float(np.quantile(-scores, self.contamination))

    def _checked_scores(self, X):
        """Validate the input and return the result of ``_score``."""
        check_is_fitted(self)
        with clear_errors(type(self).__name__, X):
            return self._score(self._check(X, reset=False))

    def _training_scores(self, X) -> np.ndarray:
        """Scores of the training samples, from which the threshold is set.

        A subclass can override it to score each sample without the sample itself, where this is fast.
        """
        return self._score(X)

    @abc.abstractmethod
    def _score(self, X) -> np.ndarray:
        """Score of each sample of a validated ``X``, (n,); higher is more anomalous."""


def check_whole(name: str, value, least: int) -> None:
    """Raise a `DetectorError` that contains ``name`` if a parameter is not a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise DetectorError(f"{name}={value!r}: give a whole number, {least} or more.")


def check_share(name: str, value, most: float) -> None:
    """Raise a `DetectorError` that contains ``name`` if a parameter is not a number in (0, most]."""
    if not 0 < value <= most:
        raise DetectorError(f"{name}={value!r}: give a number in (0, {most:g}].")


def check_contamination(who: str, value) -> None:
    """Raise a `DetectorError` if a contamination is not a number in (0, 0.5]; "auto" is not accepted.

    In scikit-learn "auto" is the threshold of the paper that introduced the score. IsolationForest and
    LocalOutlierFactor have such a constant; EllipticEnvelope has none and does not accept "auto".
    """
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 < value <= 0.5:
        raise DetectorError(
            f"{who}: contamination is {value!r}; give the share of training samples above the threshold, in "
            "(0, 0.5]. 'auto' is accepted only by detectors of scikit-learn whose paper defines a constant threshold "
            "(IsolationForest, LocalOutlierFactor)."
        )


@contextmanager
def clear_errors(who: str, X) -> Iterator[None]:
    """Convert errors of libraries in this block to a `DetectorError`, for invalid input or a failed computation.

    Warnings of overflow are suppressed in the block, because the scores are checked afterwards.
    """
    try:
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            yield
    except (ArithmeticError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error).__name__ != "_LinAlgError":  # PyTorch's LinAlgError
            raise
        if isinstance(error, ValueError) and type(error) not in (ValueError, np.linalg.LinAlgError):
            raise  # an error of this package or of scikit-learn, which has its own message
        largest = _largest(X)
        if type(error) is ValueError and not EXTREME < largest < np.inf:
            raise DetectorError(str(error)) from error
        raise DetectorError(
            f"{who} cannot be computed on these values ({error}); the largest is {largest:.3g}. Scale the columns "
            "and remove constant columns."
        ) from error


def _largest(X) -> float:
    """The largest absolute value of a table, or of several tables in a dict; 0 for other inputs."""
    parts = X.values() if isinstance(X, Mapping) else [X]
    arrays = [np.asarray(part) for part in parts if hasattr(part, "shape")]
    return max((float(np.abs(array).max(initial=0)) for array in arrays if array.dtype.kind in "fiu"), default=0.0)


def finite_scores(scores) -> np.ndarray:
    """Scores as float64, where values that are not finite are replaced by the largest float64."""
    scores = np.asarray(scores, dtype=np.float64)
    return np.where(np.isfinite(scores), scores, np.finfo(np.float64).max)


def save_state(path, state: dict[str, Any], own: type | None = None) -> None:
    """Write nested dicts, lists, numbers, strings, arrays and tensors atomically to one safetensors file.

    Objects in the state must be of a class that ``mmad_utils`` exports, of the class ``own``, or estimators of
    scikit-learn. An estimator is stored as an array of bytes in the same file, in the format of ``skops.io``.

    Raises
    ------
    DetectorError
        The state contains an object that only pickle could write (a function, an estimator of another package), or
        ``load_state`` could not read the file, or the file cannot be written. An earlier file is kept in these cases.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        text = json.dumps(_encode(state, "", arrays, own))
        _decode(_parse(text, path), dict(arrays), path)
        metadata = {"mmad": text, "format": FILE_FORMAT, "sha256": _checksum(text, arrays)}
        # safetensors' save_file has a temporary file of its own, which would remain if the process were killed.
        write_atomic(path, safetensors.numpy.save(arrays, metadata=metadata))
    except (OSError, RecursionError, TypeError, safetensors.SafetensorError) as error:
        raise DetectorError(f"cannot save to {path}: {type(error).__name__}: {error}.") from error


def load_state(path) -> dict[str, Any]:
    """Read a file that ``save_state`` wrote; objects are returned as ``{"@object": class name, "state": ...}``.

    The structure and the checksum are checked. A file of an earlier version has no checksum; this gives a warning.

    Raises
    ------
    DetectorError
        The file does not exist, is damaged, or was not written by ``save_state``.
    """
    try:
        if not Path(path).is_file():
            raise DetectorError(f"{path} does not exist or is not a file; give a file that save wrote.")
        _check_header(path)
        with safetensors.safe_open(path, framework="np") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            found = metadata["format"]
            if found not in READABLE_FORMATS:
                raise DetectorError(
                    f"{path} has file format {found}, this version of mmad_utils reads "
                    f"{', '.join(READABLE_FORMATS)}: use the version that wrote it, or fit the detector again."
                )
            text = metadata["mmad"]
            content = _parse(text, path)
            arrays = {name: file.get_tensor(name) for name in names}
    except DetectorError:
        raise
    except Exception as error:  # from safetensors, from the disk, or from a dtype that NumPy does not have
        raise DetectorError(f"{path} is damaged or was not written by mmad_utils ({error}).") from error
    if "sha256" not in metadata:
        warnings.warn(
            f"{path} has no checksum because an earlier version of mmad_utils wrote it; damage of the file cannot be "
            "detected. Save it again.",
            stacklevel=2,
        )
    elif metadata["sha256"] != _checksum(text, arrays):
        raise DetectorError(f"{path} is damaged: its content does not match the stored checksum. Save it again.")
    state = _decode(content, arrays, path)
    if not isinstance(state, dict):
        raise DetectorError(f"{path} is damaged or was not written by mmad_utils (it contains no state).")
    return state


class _SavedObject(dict):
    """``{"@object": class name, "state": dict}`` as read; the type distinguishes it from an ordinary dict."""


def _check_header(path) -> None:
    """Raise a `DetectorError` if the header is longer than ``save_state`` writes, before it is parsed."""
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > 3 * LONGEST_TEXT:
        raise DetectorError(f"{path} is damaged or was not written by mmad_utils (a header of {length:,} bytes).")


def _parse(text: str, path) -> Any:
    """Parse the JSON of a state; its length is limited, because parsed objects need many times the memory."""
    if len(text) > LONGEST_TEXT:
        raise DetectorError(
            f"{path}: the state without its arrays has {len(text):,} characters; at most {LONGEST_TEXT:,} can be "
            "read. Remove text columns with long values or with many different values."
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DetectorError(f"{path} is damaged or was not written by mmad_utils ({error}).") from error


def _checksum(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the JSON, and of names, types (as PyTorch names them), shapes and bytes of the arrays."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} torch.{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _is_tensor(value) -> bool:
    """Whether the value is a dense PyTorch tensor; PyTorch is not imported for the test."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and value.layout == torch.strided


def _tensor(array: np.ndarray):
    """Copy an array to a new tensor, whose memory alignment is PyTorch's: BLAS results can depend on alignment."""
    import torch

    return torch.from_numpy(array).clone()


def _encode(value, where: str, arrays: dict[str, np.ndarray], own: type | None):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item(), where, arrays, own)
    if isinstance(value, Path):
        return str(value)
    name = where if where not in arrays else f"{where}#{len(arrays)}"  # a key may hold a slash
    if _is_tensor(value):
        arrays[name] = value.detach().cpu().numpy().copy()
        return {"@tensor": name}
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "U" or (value.dtype.kind == "O" and all(isinstance(item, str) for item in value.flat)):
            return {"@strings": [str(item) for item in value.ravel()], "shape": list(value.shape)}
        if value.dtype.kind in "biufc":
            arrays[name] = np.array(value, order="C")
            return {"@array": name}
    if isinstance(value, tuple):
        return {"@tuple": [_encode(item, f"{where}/{i}", arrays, own) for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [_encode(item, f"{where}/{i}", arrays, own) for i, item in enumerate(value)]
    if isinstance(value, dict):
        keys = [key.item() if isinstance(key, np.generic) else key for key in value]
        if keys == ["@object", "state"] and isinstance(value["@object"], str):
            return {"@object": value["@object"], "state": _encode(value["state"], where, arrays, own)}
        if all(isinstance(key, str) and not key.startswith("@") for key in keys):
            return {key: _encode(item, f"{where}/{key}", arrays, own) for key, item in zip(keys, value.values())}
        if all(isinstance(key, (str, int, float)) for key in keys):
            pairs = zip(keys, value.values())
            return {"@items": [[key, _encode(item, f"{where}/{key}", arrays, own)] for key, item in pairs]}
    elif hasattr(value, "get_state") and type(value) in (own, _exported(type(value).__name__)):
        state = {"@object": type(value).__name__, "state": value.get_state()}
        return _encode(state, where, arrays, type(value))
    elif isinstance(value, BaseEstimator) and type(value).__module__.startswith("sklearn."):
        content = _skops_bytes(value)
        if content is not None:
            arrays[name] = np.frombuffer(content, dtype=np.uint8)
            return {"@skops": name}
    raise DetectorError(
        f"cannot save {where.strip('/')}: a {type(value).__name__} could only be written by pickle, which can "
        "execute any code when it is read. Use numbers, strings, arrays, detectors of this package or of "
        "scikit-learn, and an int as random_state."
    )


def _skops_bytes(estimator) -> bytes | None:
    """A scikit-learn estimator in the format of ``skops.io``; None if it contains a type that is not trusted."""
    import skops.io

    try:
        content = skops.io.dumps(estimator)
    except skops.io.exceptions.UnsupportedTypeException:
        return None
    return content if set(skops.io.get_untrusted_types(data=content)) <= set(TRUSTED) else None


def _from_skops(content: bytes, path) -> BaseEstimator:
    """Restore an estimator from ``_skops_bytes``; compressed content is refused, to limit its size."""
    import skops.io

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > len(content):
                raise ValueError("its parts are compressed")
        return skops.io.loads(content, trusted=TRUSTED)
    except Exception as error:  # from the zip, JSON and NumPy files in it, or from types that are not trusted
        raise DetectorError(f"{path}: it contains no estimator that can be trusted ({error}).") from error


def _decode(value, arrays: dict[str, np.ndarray], path, depth: int = 0):
    """Restore a value from ``_encode``, in place where possible; each array is used once, so none share memory."""
    if depth > DEEPEST:
        raise DetectorError(f"{path} is damaged or cannot be written: its state is nested more than {DEEPEST} deep.")
    if isinstance(value, list):
        value[:] = (_decode(item, arrays, path, depth + 1) for item in value)
        return value
    if not isinstance(value, dict):
        return value
    try:
        match value:
            case {"@tensor": str(name), **others} if not others:
                return _tensor(arrays.pop(name))
            case {"@array": str(name), **others} if not others:
                return arrays.pop(name)
            case {"@skops": str(name), **others} if not others:
                return _from_skops(arrays.pop(name).tobytes(), path)
            case {"@strings": list(items), "shape": list(shape), **others} if not others:
                if not all(isinstance(item, str) for item in items):
                    raise TypeError("an array of strings holds something else")
                return np.array(items, dtype=object).reshape(shape)
            case {"@tuple": list(items), **others} if not others:
                return tuple(_decode(items, arrays, path, depth + 1))
            case {"@items": list(items), **others} if not others:
                return {key: _decode(item, arrays, path, depth + 1) for key, item in items}
            case {"@object": str(), "state": dict(state), **others} if not others:
                _decode_values(state, arrays, path, depth)
                return _SavedObject(value)
        if any(key.startswith("@") for key in value):
            raise ValueError(f"unknown entry {min(value)!r}")
        _decode_values(value, arrays, path, depth)
        return value
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DetectorError):
            raise
        raise DetectorError(f"{path} is damaged or was not written by mmad_utils ({error!r}).") from error


def _decode_values(value: dict[str, Any], arrays: dict[str, np.ndarray], path, depth: int) -> None:
    for key, item in value.items():
        value[key] = _decode(item, arrays, path, depth + 1)


def _decode_object(cls: type[Any], state, path):
    """Make an object of the class with the state, after the objects within the state."""

    def restore(item):
        if isinstance(item, _SavedObject):
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
    except DetectorError:
        raise
    except Exception as error:  # parameters or attributes of a wrong type can raise any error
        raise DetectorError(
            f"{path} does not fit {cls.__name__} as it is now ({type(error).__name__}: {error}): fit and save the "
            "detector again."
        ) from error
    return new


def _exported(name: str) -> Any:
    """The object of this name that ``mmad_utils`` exports, or None."""
    import mmad_utils

    return getattr(mmad_utils, name) if name in mmad_utils.__all__ else None


def _exported_class(name: str, path) -> type:
    """The class of this name that ``mmad_utils`` exports; a file cannot name other classes."""
    found = _exported(name)
    if not (isinstance(found, type) and hasattr(found, "set_state")):
        raise DetectorError(f"{path} contains a {name}, which mmad_utils does not have; use the load of that class.")
    return found
