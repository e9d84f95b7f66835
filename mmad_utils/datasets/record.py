"""The class `Dataset`, with its checks, its content hash, and the manifest of data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ENTRY_KEYS = {"name", "modality", "description", "source", "licence", "synthetic", "layout", "files", "fetch"}

HALVES = ("select", "report")  # disjoint halves of the anomalies

Samples = np.ndarray | tuple[Path, ...] | Mapping[str, np.ndarray]


class DatasetError(ValueError):
    """Data that cannot be used; the message says what is wrong, where, and what to do."""


class FilesMissingError(DatasetError):
    """Missing files of a data set."""


@lru_cache(maxsize=1)
def manifest() -> tuple[dict[str, Any], ...]:
    """The entries of manifest.json: description, source, licence and files of each data set.

    Raises
    ------
    DatasetError
        The file, which is part of the package, is missing or damaged.
    """
    path = resources.files(__package__) / "manifest.json"
    remedy = "install the package again (in a checkout: git checkout mmad_utils/datasets/manifest.json)."
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["datasets"]
        incomplete = [entry for entry in entries if not entry.keys() >= ENTRY_KEYS]
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is damaged ({error!r}): {remedy}") from error
    if incomplete:
        missing = sorted(ENTRY_KEYS - incomplete[0].keys())
        raise DatasetError(f"{path} is damaged ({incomplete[0].get('name')!r} has no {missing[0]!r}): {remedy}")
    return tuple(entries)


def about(name: str) -> dict[str, Any]:
    """The entry of a data set in the manifest; placeholders such as <category> are replaced by parts of the name."""
    entries = {entry["name"]: entry for entry in manifest()}
    if name in entries:
        return entries[name]
    pattern = next(p for p in entries if "<" in p and name.startswith(p[: p.index("<")]))
    entry: Any = entries[pattern]
    for placeholder, part in zip(pattern.split("/"), name.split("/")):
        if placeholder.startswith("<"):
            entry = _replaced(entry, placeholder, part)
    return entry


def _replaced(value: Any, old: str, new: str) -> Any:
    """Replace a substring in all strings of a JSON value."""
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value


def origin(name: str, **known: Any) -> dict[str, Any]:
    """The `source` of a Dataset: origin, licence and synthetic from the manifest, and further entries."""
    entry = about(name)
    return {"origin": entry["source"], "licence": entry["licence"], "synthetic": entry["synthetic"], **known}


def not_found(name: str, path: Path, home: Path) -> FilesMissingError:
    """The error for missing files: the present content of the folder, and the expected files."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    present = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(present[:12]) + (", ..." if len(present) > 12 else "")
    return FilesMissingError(f"{path}: not there ({parent} holds: {shown or 'nothing'}).\n{how_to_get(name, home)}")


def how_to_get(name: str, home: Path) -> str:
    """The expected files of a data set, and the command that fetches them, if there is one."""
    entry = about(name)
    lines = [f"Expected below {home} (set MMAD_DATA_HOME for another folder):"]
    lines += [f"  {line}" for line in entry["layout"]]
    if entry["fetch"]:
        lines.append(f"{entry['fetch']}: python -m mmad_utils.datasets fetch {name}")
    return "\n".join(lines)


def one_class_split(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split at random: half of the normal samples for training; the other half and all anomalies for testing.

    Parameters
    ----------
    y : (n,) int, 0 normal, 1 anomaly
    seed : int >= 0

    Returns
    -------
    train, test : sorted row numbers; for an odd number of normal samples, the smaller half is for training
    """
    normals = np.flatnonzero(np.asarray(y) == 0)
    shuffled = np.random.default_rng(seed).permutation(normals)
    train = np.sort(shuffled[: len(normals) // 2])
    return train, np.setdiff1d(np.arange(len(y)), train)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Data set with normal training samples, and normal and anomalous test samples.

    Attributes
    ----------
    name : as given to `load`
    modality : "tabular", "image" or "paired"
    X_train : normal samples only
        (n, d) float64, or (n, H, W, C) uint8, or a tuple of image paths. For paired modalities, a dict of such arrays
        (or of texts, (n,) str) whose rows belong together.
    X_test : the same type
    y_test : (n,) int64, 0 normal, 1 anomaly
    masks_test : (n, H, W) bool, True on the anomalous pixels, or None
    feature_names : d names of the columns of a table, or None
    source : dict
        "origin", "licence", "synthetic" (bool), and "sha256", the hash of X_train, X_test, y_test and the masks.
        Optionally "kinds_test" (one word per test sample, such as "good" or "crack") and "severity_test" (one float
        per test sample, 0 for normal samples).

    Raises
    ------
    DatasetError
        Lengths differ, there are no training samples, a label is not 0 or 1, or there is only one class.
    """

    name: str
    modality: str
    X_train: Samples
    X_test: Samples
    y_test: np.ndarray
    masks_test: np.ndarray | None = None
    feature_names: tuple[str, ...] | None = None
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "y_test", check_labels(self.y_test, self.name))
        n = count(self.X_test, self.name)
        for what, values in (
            ("y_test", self.y_test),
            ("masks_test", self.masks_test),
            ("kinds_test", self.source.get("kinds_test")),
            ("severity_test", self.source.get("severity_test")),
        ):
            if values is not None and len(values) != n:
                raise DatasetError(f"{self.name}: {what} has {len(values)} entries for {n} test samples.")
        if not count(self.X_train, self.name):
            raise DatasetError(f"{self.name}: no normal sample to train on; at least one is needed.")
        if self.y_test.min() == self.y_test.max():
            only = "normal samples (label 0)" if self.y_test[0] == 0 else "anomalies (label 1)"
            raise DatasetError(
                f"{self.name}: the test set holds only {only}. "
                "The metrics need both: add test samples of the other class."
            )
        digest = content_hash(self.X_train, self.X_test, self.y_test, self.masks_test)
        object.__setattr__(self, "source", {**self.source, "sha256": digest})

    def __repr__(self) -> str:
        anomalies = int(self.y_test.sum())
        return (
            f"Dataset({self.name!r}, {self.modality}, {count(self.X_train, self.name)} normal to train, "
            f"{len(self.y_test) - anomalies} normal and {anomalies} anomalies to test)"
        )

    def resplit(self, seed: int, anomalies: str = "all") -> Dataset:
        """Draw a new split: pool the normal samples and split them at random into sets of the same sizes.

        The anomalies stay in the test set. Every test position keeps its label, mask, kind and severity, which are
        the same for all normal samples.

        Parameters
        ----------
        seed : int >= 0
            Seed of the permutation of the normal samples.
        anomalies : {"all", "select", "report"}, default="all"
            "select" and "report" keep one of two disjoint halves of the anomalies, as `half` does.
        """
        n_train = count(self.X_train, self.name)
        rows = np.arange(n_train + len(self.y_test))  # of the training samples followed by the test samples
        normals = np.flatnonzero(np.concatenate([np.zeros(n_train, int), self.y_test]) == 0)
        order = np.random.default_rng(seed).permutation(len(normals))
        rows[:n_train], rows[normals[n_train:]] = normals[np.sort(order[:n_train])], normals[np.sort(order[n_train:])]
        pool = _joined(self.X_train, self.X_test)
        drawn = replace(self, X_train=_taken(pool, rows[:n_train]), X_test=_taken(pool, rows[n_train:]))
        return drawn.half(anomalies)

    def half(self, part: str) -> Dataset:
        """The data set with one of two disjoint halves of its anomalies, or with all of them.

        Choose parameters on the anomalies of "select", and report results on those of "report". The halves are the
        same for every seed of `resplit`. If the kinds of anomalies are known, each kind is divided into halves.

        Parameters
        ----------
        part : {"select", "report", "all"}
            If the number of anomalies is odd, "select" has one more.

        Raises
        ------
        DatasetError
            ``part`` has another value, or there are fewer than two anomalies.
        """
        if part == "all":
            return self
        if part not in HALVES:
            raise DatasetError(f"anomalies={part!r}: give 'select', 'report' or 'all'.")
        anomalies = np.flatnonzero(self.y_test)
        if len(anomalies) < 2:
            raise DatasetError(f"{self.name} has one anomaly; two halves need at least two. Give anomalies='all'.")
        shuffled = np.random.default_rng(0).permutation(anomalies)
        if self.source.get("kinds_test") is not None:
            shuffled = shuffled[np.argsort(np.asarray(self.source["kinds_test"])[shuffled], kind="stable")]
        kept = np.sort(np.concatenate([np.flatnonzero(self.y_test == 0), shuffled[HALVES.index(part) :: 2]]))
        known = {key: tuple(values[i] for i in kept) for key, values in self.source.items() if key.endswith("_test")}
        return replace(
            self,
            X_test=_taken(self.X_test, kept),
            y_test=self.y_test[kept],
            masks_test=None if self.masks_test is None else self.masks_test[kept],
            source={**self.source, **known},
        )

    def as_table(self) -> Dataset:
        """Flatten array images to a table, (n, H*W*C) float64 in [0, 1]; a table is returned unchanged.

        Raises
        ------
        DatasetError
            The images are files, which are too large for a table, or there are several modalities.
        """
        if self.modality == "tabular":
            return self
        if self.modality == "paired":
            raise DatasetError(
                f"{self.name} holds several modalities, not a table: use a detector of paired modalities."
            )
        if not isinstance(self.X_train, np.ndarray) or not isinstance(self.X_test, np.ndarray):
            raise DatasetError(
                f"{self.name} is a list of image files, not a table. "
                "Use a detector for images, or compute features with ImageEncoder first."
            )
        height, width, channels = self.X_train.shape[1:]
        return replace(
            self,
            modality="tabular",
            X_train=self.X_train.reshape(len(self.X_train), -1) / 255.0,
            X_test=self.X_test.reshape(len(self.X_test), -1) / 255.0,
            masks_test=None,
            feature_names=tuple(
                f"pixel_{i}_{j}" + (f"_{k}" if channels > 1 else "")
                for i in range(height)
                for j in range(width)
                for k in range(channels)
            ),
        )


def count(X: Samples, where: str) -> int:
    """Number of samples; several modalities must have the same number."""
    if not isinstance(X, Mapping):
        return len(X)
    lengths = {name: len(samples) for name, samples in X.items()}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"{where}: paired modalities need as many samples each, not {lengths or 'no modality'}.")
    return next(iter(lengths.values()))


def _joined(first: Samples, second: Samples) -> Samples:
    """Concatenate two sets of samples."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {name: np.concatenate([first[name], second[name]]) for name in first}
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.concatenate([first, second])
    return (*first, *second)


def _taken(X: Samples, rows: np.ndarray) -> Samples:
    """Select samples by their positions."""
    if isinstance(X, Mapping):
        return {name: samples[rows] for name, samples in X.items()}
    return X[rows] if isinstance(X, np.ndarray) else tuple(X[i] for i in rows)


def check_labels(y: Any, where: str, first_row: int = 1) -> np.ndarray:
    """Labels as (n,) int64; for values other than 0 and 1, the error contains the row, counted from `first_row`."""
    try:
        labels = np.asarray(y, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: labels must be 0 (normal) or 1 (anomaly), not text ({error}).") from error
    if not labels.size:
        raise DatasetError(f"{where}: no test sample; normal ones and anomalies are needed.")
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if wrong.size:
        raise DatasetError(
            f"{where}, row {wrong[0] + first_row}, column label: {labels[wrong[0]]:g} is not a label. "
            "Expected 0 (normal) or 1 (anomaly)."
        )
    return labels.astype(np.int64)


@lru_cache(maxsize=100_000)
def _bytes_hash(path: Path, size: int, modified_ns: int) -> bytes:
    """Hash (SHA-256) of a file; size and modification time are arguments, so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def file_hash(path: Path) -> str:
    """Hash (SHA-256, hexadecimal) of the bytes of a file; cached as long as the file does not change."""
    status = path.stat()
    return _bytes_hash(path, status.st_size, status.st_mtime_ns).hex()


def content_hash(*parts: Samples | Sequence[Path] | None) -> str:
    """SHA-256 over arrays (type, shape, bytes), dicts of them, and files (bytes, not names), in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        if part is None:
            digest.update(b"none")
        elif isinstance(part, Mapping):
            for name, samples in part.items():
                digest.update(f"{name}{content_hash(samples)}".encode())
        elif isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            if part.dtype.kind == "O":  # its bytes are addresses
                part = pd.util.hash_array(part.ravel())
            digest.update(
                np.ascontiguousarray(part).tobytes() if part.dtype.kind == "U" else np.ascontiguousarray(part).data
            )
        else:
            digest.update(f"files{len(part)}".encode())
            for path in part:
                digest.update(bytes.fromhex(file_hash(Path(path))))
    return digest.hexdigest()
