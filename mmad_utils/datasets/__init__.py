"""Data sets by name: `load` returns a `Dataset` with normal training samples and labelled test samples."""

from __future__ import annotations

import difflib
from numbers import Integral
from pathlib import Path
from typing import Any

from . import folders, images, mvtec, paired, record, tabular, textures
from .download import OPENML_TABLES
from .folders import cache_home, data_home
from .images import check_images, read_image
from .record import Dataset, DatasetError, one_class_split

__all__ = [
    "Dataset",
    "DatasetError",
    "cache_home",
    "check_images",
    "data_home",
    "load",
    "names",
    "one_class_split",
    "read_image",
]


LONGEST_NAME = 200  # bytes


def load(name: str, *, data_home: str | Path | None = None, seed: int = 0) -> Dataset:
    """Load a data set by name; see `names` for the available data sets.

    Parameters
    ----------
    name : for example "breast_cancer", "digits/3", "mvtec/hazelnut" or "injected/local/breast_cancer"
    data_home : folder of the user's and of downloaded data; default: $MMAD_DATA_HOME, else data/
    seed : int >= 0, seed of the split and of generated data
        If the files define a split, seed 0 keeps it. Any other seed draws a new split of the normal samples into
        sets of the same sizes.

    Returns
    -------
    Dataset

    Raises
    ------
    DatasetError
        Unknown name, missing files (the message says which files are expected where), damaged files, no network.

    Examples
    --------
    >>> from mmad_utils.datasets import load
    >>> load("breast_cancer")
    Dataset('breast_cancer', tabular, 178 normal to train, 179 normal and 212 anomalies to test)
    """
    _check_name(name)
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise DatasetError(f"{name}: seed must be an integer from 0, not {seed!r}.")
    home = folders.data_home(data_home)
    match name.split("/"):
        case ["breast_cancer"]:
            return tabular.breast_cancer(seed)
        case ["thyroid"]:
            return tabular.thyroid(home, seed)
        case ["tables", "openml", number]:
            return tabular.openml_table(number, home, seed)
        case ["tables", stem]:
            return tabular.table(stem, home, seed)
        case ["injected", kind, *base] if base and base[0] != "injected":
            return tabular.injected(kind, load("/".join(base), data_home=data_home, seed=seed), seed)
        case ["digits", digit]:
            return images.digits(digit, seed)
        case ["mnist", digit]:
            return images.mnist(digit, home, seed)
        case ["digit_scenes", digit]:
            return images.digit_scenes(digit, seed)
        case ["paired_digits"]:
            return paired.paired_digits(seed)
        case ["textures", texture]:
            return textures.textures(texture, seed)
        case ["synthetic", category]:
            return mvtec.synthetic(category, seed)
        case [family, category] if family in mvtec.FAMILIES:
            return mvtec.read(family, category, home, seed)
    raise _unknown(name, home)


def names() -> list[tuple[str, str, str]]:
    """Name pattern, modality and description of every data set."""
    return [(entry["name"], entry["modality"], entry["description"]) for entry in record.manifest()]


def describe(name: str, home: Path) -> dict[str, Any]:
    """The entry of a data set in the manifest; raises an error for a name that does not exist."""
    _check_name(name)
    try:
        return record.about(name)
    except StopIteration:
        raise _unknown(name, home) from None


def concrete_names(home: Path) -> list[str]:
    """All names that `load` accepts; for the user's own data, the names of the files and folders below `home`."""
    tables = {path.stem for path in (home / "tables").glob("*.*") if path.suffix in (".npz", ".mat", ".csv")}
    categories = {f"mvtec/{category}" for category in ("hazelnut", "zipper")}
    for family in mvtec.FAMILIES:
        found = (path for path in (home / family).glob("*") if path.is_dir() and path.name != "split_csv")
        categories |= {f"{family}/{path.name}" for path in found}
    return [
        "breast_cancer",
        "thyroid",
        *(f"digits/{k}" for k in range(10)),
        *(f"mnist/{k}" for k in range(10)),
        *(f"digit_scenes/{k}" for k in range(10)),
        *(f"synthetic/{category}" for category in ("hazelnut", "zipper")),
        *(f"textures/{texture}" for texture in textures.NAMES),
        "paired_digits",
        *(f"injected/{kind}/breast_cancer" for kind in tabular.KINDS),
        *sorted(categories),
        *(f"tables/{table}" for table in sorted({"vowels", "optdigits", "satellite", *OPENML_TABLES} | tables)),
    ]


def _check_name(name: str) -> None:
    """Raise a `DatasetError` if a name is not text, too long, or not a relative path."""
    if not isinstance(name, str) or len(name.encode(errors="replace")) > LONGEST_NAME:
        shown = f"{name[:40]!r}..., {len(name)} characters" if isinstance(name, str) else repr(name)[:60]
        raise DatasetError(f"{shown}: the name of a data set is a text of at most {LONGEST_NAME} bytes.")
    if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise DatasetError(f"unknown data set {name!r}: names are words separated by /, such as 'digits/3'.")


def _unknown(name: str, home: Path) -> DatasetError:
    """The error for a name that does not exist, with the most similar name."""
    near = difflib.get_close_matches(name, concrete_names(home), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return DatasetError(f"unknown data set {name!r}.{hint} There are: {', '.join(n for n, _, _ in names())}.")
