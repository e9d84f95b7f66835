"""Generated images of industrial parts in MVTec AD's layout, with exact masks and adjustable severity."""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from mmad_utils.datasets import synthetic_hazelnut, synthetic_zipper
from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.synthetic_fields import photograph
from mmad_utils.files import atomic_path, locked

_PARTS = {"hazelnut": synthetic_hazelnut, "zipper": synthetic_zipper}
DEFECTS = {category: part.DEFECTS for category, part in _PARTS.items()}
_MINIMUM_SIZE = 64


def draw(
    category: str, rng: np.random.Generator, size: int = 256, defect: str | None = None, severity: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Generate an image of one part, with a defect or without.

    Parameters
    ----------
    category : {"hazelnut", "zipper"}
    rng : numpy.random.Generator
        The same state gives the same part, pose, light and sensor noise for all defects and severities.
    size : int, default=256
        Width and height in pixels, at least 64.
    defect : str or None, default=None
        "crack", "cut", "hole" or "print" of a hazelnut; "broken_teeth", "split_teeth", "squeezed_teeth",
        "fabric_border" or "fabric_interior" of a zipper.
    severity : float in (0, 1], default=1.0
        A larger value makes the defect more visible.

    Returns
    -------
    image : (size, size, 3) uint8
    mask : (size, size) bool
        The pixels that the defect changed; all other pixels equal those of the part without a defect.

    Raises
    ------
    DatasetError
        The category or the defect is unknown, the severity is outside (0, 1], or the size is below 64.

    References
    ----------
    P. Bergmann et al. (2019), MVTec AD: the categories that the images resemble.
    """
    _check(category, size, defect, severity)
    return photograph(_PARTS[category].render, rng, size, defect, severity)


def write_category(
    folder: str | os.PathLike,
    category: str,
    *,
    seed: int = 0,
    n_train: int = 200,
    n_test_good: int = 40,
    n_test_bad: int = 60,
    size: int = 256,
) -> None:
    """Write a category of generated images in the layout of MVTec AD.

    `folder` contains train/good, test/good, test/<defect>, ground_truth/<defect> and severity.json, which maps
    "test/<defect>/000.png" to the severity. Within each defect the severities are spread evenly, from 0.4 to 1 for
    hazelnuts and from 0 to 1 for zippers. The images are written to a temporary folder beside `folder`, which is
    renamed at the end. Another process that writes the same folder waits.

    Parameters
    ----------
    folder : path
        Must not exist, or must be empty.
    category : {"hazelnut", "zipper"}
    seed : int, default=0
        Every image uses its own child of this seed, so it does not depend on the other images.
    n_train, n_test_good, n_test_bad : int, at least 1 (the last at least one for each defect)
    size : int, default=256
        Width and height in pixels, at least 64.

    Raises
    ------
    DatasetError
        The category is unknown, the numbers or the size are too small, or the folder is not empty.
    """
    _check(category, size, None, 1.0)
    defects = DEFECTS[category]
    if n_train < 1 or n_test_good < 1 or n_test_bad < len(defects):
        raise DatasetError(
            f"n_train={n_train}, n_test_good={n_test_good}, n_test_bad={n_test_bad}: expected at least one good "
            f"image to train and one to test, and {len(defects)} bad ones, one for each defect of {category}."
        )
    folder = Path(folder)
    with locked(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(f"{folder} exists already. Remove it, or name another folder.")
        with atomic_path(folder) as new:
            _write_images(new, category, seed, n_train, n_test_good, n_test_bad, size)


def _write_images(new: Path, category: str, seed: int, n_train: int, n_test_good: int, n_test_bad: int, size: int):
    """Write the files of `write_category`."""
    defects, faintest = DEFECTS[category], _PARTS[category].FAINTEST
    root = np.random.SeedSequence(seed)
    train_seed, good_seed, *bad_seeds = root.spawn(2 + len(defects))
    for part, part_seed, count in (("train", train_seed, n_train), ("test", good_seed, n_test_good)):
        for index, child in enumerate(part_seed.spawn(count)):
            image, _ = draw(category, np.random.default_rng(child), size)
            _write(new / part / "good" / f"{index:03d}.png", image)
    severities = {}
    for number, (defect, defect_seed) in enumerate(zip(defects, bad_seeds)):
        count = n_test_bad // len(defects) + (number < n_test_bad % len(defects))
        for index, child in enumerate(defect_seed.spawn(count)):
            rng = np.random.default_rng(child)
            severity = round(faintest + (1 - faintest) * (index + 1 - rng.uniform(0, 0.99)) / count, 4)
            image, mask = draw(category, rng, size, defect, severity)
            name = f"test/{defect}/{index:03d}.png"
            _write(new / name, image)
            _write(new / "ground_truth" / defect / f"{index:03d}_mask.png", mask.astype(np.uint8) * 255)
            severities[name] = severity
    (new / "severity.json").write_text(json.dumps(severities, indent=1, sort_keys=True) + "\n")


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, compress_level=1)  # half of the default's time or less, files up to 15% larger


def _check(category: str, size: int, defect: str | None, severity: float) -> None:
    """Raise a `DatasetError` for invalid arguments."""
    if category not in DEFECTS:
        raise DatasetError(f"unknown category {category!r}. Expected one of {', '.join(DEFECTS)}.")
    if defect is not None and defect not in DEFECTS[category]:
        expected = ", ".join(DEFECTS[category])
        raise DatasetError(f"unknown defect {defect!r} of {category}. Expected None or one of {expected}.")
    if not 0 < severity <= 1:
        raise DatasetError(f"severity is {severity}. Expected a number above 0 and at most 1.")
    if size < _MINIMUM_SIZE:
        raise DatasetError(f"size is {size} pixels. Expected at least {_MINIMUM_SIZE}.")
