"""What a data set is to the rest of the package: one frozen record, its checks and its content hash."""

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

ENTRY_KEYS = {"name", "modality", "description", "source", "licence", "synthetic", "layout", "files", "fetch"}

HALVES = ("select", "report")  # of the anomalies

Samples = np.ndarray | tuple[Path, ...] | Mapping[str, np.ndarray]


class DatasetError(ValueError):
    """Data that cannot be used: the message says what is wrong, where, and what to do."""


class FilesMissingError(DatasetError):
    """Files of a data set that are not there."""


@lru_cache(maxsize=1)
def manifest() -> tuple[dict[str, Any], ...]:
    """The entries of manifest.json: what each data set is, where it comes from, where its files lie.

    Raises
    ------
    DatasetError
        The file, which is a part of the package, is missing or damaged.
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
    """The manifest's entry of a data set, with the name itself where the pattern has <category> or the like."""
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
    """A JSON value with a part of every text in it replaced."""
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value


def origin(name: str, **known: Any) -> dict[str, Any]:
    """The `source` of a Dataset: origin, licence and synthetic from the manifest, and what else is known."""
    entry = about(name)
    return {"origin": entry["source"], "licence": entry["licence"], "synthetic": entry["synthetic"], **known}


def not_found(name: str, path: Path, home: Path) -> FilesMissingError:
    """The error for files that are not there: what the folder holds instead, and what belongs where."""
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    present = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(present[:12]) + (", ..." if len(present) > 12 else "")
    return FilesMissingError(f"{path}: not there ({parent} holds: {shown or 'nothing'}).\n{how_to_get(name, home)}")


def how_to_get(name: str, home: Path) -> str:
    """What to put where for a data set, and whether a command fetches it."""
    entry = about(name)
    lines = [f"Expected below {home} (set MMAD_DATA_HOME for another folder):"]
    lines += [f"  {line}" for line in entry["layout"]]
    if entry["fetch"]:
        lines.append(f"{entry['fetch']}: python -m mmad_utils.datasets fetch {name}")
    return "\n".join(lines)


def one_class_split(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Half of the normal samples to train; the other half and every anomaly to test.

    Parameters
    ----------
    y : (n,) int, 0 normal, 1 anomaly
    seed : int >= 0

    Returns
    -------
    train, test : sorted row numbers. Of an odd number of normals the smaller half trains.
    """
    normals = np.flatnonzero(np.asarray(y) == 0)
    shuffled = np.random.default_rng(seed).permutation(normals)
    train = np.sort(shuffled[: len(normals) // 2])
    return train, np.setdiff1d(np.arange(len(y)), train)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Normal samples to train on; normal and anomalous ones to test on.

    Attributes
    ----------
    name : as given to `load`
    modality : "tabular", "image" or "paired"
    X_train : normal samples only: (n, d) float64, or (n, H, W, C) uint8, or a tuple of image paths; paired, a dict of
        such arrays (or of texts, (n,) str) whose rows belong together
    X_test : the same kind
    y_test : (n,) int64, 0 normal, 1 anomaly
    masks_test : (n, H, W) bool, True on the anomalous pixels, or None
    feature_names : d names of the columns of a table, or None
    source : what is known of the origin: "origin", "licence", "synthetic" (bool), "sha256" (of X_train,
        X_test, y_test and the masks, computed here), and where known "kinds_test" (one word a test sample,
        such as "good" or "crack") and "severity_test" (one float a test sample, 0 for normal ones)

    Raises
    ------
    DatasetError
        Lengths that differ, no training samples, a label other than 0 and 1, one class only.
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
                "A detector is measured on both: add test samples of the other class."
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
        """The normals of train and test pooled and redrawn into the same two sizes.

        The anomalies stay in the test set, and every test position keeps its label, mask, kind and
        severity (these are the same for all normals).

        Parameters
        ----------
        seed : int >= 0
            Of the permutation of the normals.
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

        Whoever chooses a parameter by the anomalies of "select" can report on those of "report". The halves are the
        same for every seed of `resplit`, and each kind of anomaly is halved, where kinds are known.

        Parameters
        ----------
        part : {"select", "report", "all"}
            Of an odd number of anomalies "select" has one more.

        Raises
        ------
        DatasetError
            Another part, or fewer than two anomalies.
        """
        if part == "all":
            return self
        if part not in HALVES:
            raise DatasetError(f"anomalies={part!r}: give 'select', 'report' or 'all'.")
        anomalies = np.flatnonzero(self.y_test)
        if len(anomalies) < 2:
            raise DatasetError(f"{self.name} has one anomaly; two are needed for two halves.")
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
        """Array images flattened to (n, H*W*C) float64 in [0, 1]; a table is returned as it is.

        Raises
        ------
        DatasetError
            If the images are files: they are too large for a table. If it holds several modalities.
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
                "Use a detector for images, or describe each file by an ImageEncoder first."
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
    """Number of samples; of several modalities, the number that all of them must share."""
    if not isinstance(X, Mapping):
        return len(X)
    lengths = {name: len(samples) for name, samples in X.items()}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"{where}: paired modalities need as many samples each, not {lengths or 'no modality'}.")
    return next(iter(lengths.values()))


def _joined(first: Samples, second: Samples) -> Samples:
    """All samples of both."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {name: np.concatenate([first[name], second[name]]) for name in first}
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return np.concatenate([first, second])
    return (*first, *second)


def _taken(X: Samples, rows: np.ndarray) -> Samples:
    """The samples in these places."""
    if isinstance(X, Mapping):
        return {name: samples[rows] for name, samples in X.items()}
    return X[rows] if isinstance(X, np.ndarray) else tuple(X[i] for i in rows)


def check_labels(y: Any, where: str, first_row: int = 1) -> np.ndarray:
    """Labels as (n,) int64; anything but 0 and 1 is refused with its row, counted from `first_row`."""
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
    """SHA-256 of a file; its size and time are arguments so that a changed file is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; read once while the file does not change."""
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
            digest.update(
                np.ascontiguousarray(part).tobytes() if part.dtype.kind == "U" else np.ascontiguousarray(part).data
            )
        else:
            digest.update(f"files{len(part)}".encode())
            for path in part:
                digest.update(bytes.fromhex(file_hash(Path(path))))
    return digest.hexdigest()
