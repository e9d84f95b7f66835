"""Folders of pictures with masks: MVTec AD, anything laid out like it, and the generated categories."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .download import disk_error
from .folders import cache_home
from .image_folders import LABELS_FILE, folder_label, read_labels_file
from .images import SUFFIXES, check_images, check_mask, read_mask
from .input_files import check_inside, printable, read_json
from .record import Dataset, DatasetError, how_to_get, not_found, origin


def mvtec(category: str, home: Path, seed: int = 0) -> Dataset:
    """One category of MVTec AD, or any folder laid out like one.

    Two layouts are read. MVTec's: train/good, test/good, test/<defect>, ground_truth/<defect>/*_mask.png. The
    course's: pictures directly in test/, labelled in image_anomaly_labels.json, which lies in the category or
    beside it, as {"<category>/test/x.png": {"label": "good" or "bad", ...}}; masks are optional there, as
    ground_truth/*_mask.png. Without a folder ground_truth, masks_test is None. The folder of normal images may also
    be called ok (BTAD) or normal, and a mask like its image (x.png instead of x_mask.png). Every pixel of a mask that
    is not zero is a defect. No link may leave the category's folder.

    Seed 0 keeps the folders' split; any other seed redraws the normals. Labelled anomalies to train on
    (train/bad) are not part of X_train, which is normal; their paths are source["anomalies_train"].

    Source: P. Bergmann, M. Fauser, D. Sattlegger, C. Steger (2019), MVTec AD, CVPR.
    """
    root = home / "mvtec" / category
    if not root.is_dir():
        raise not_found(f"mvtec/{category}", root, home)
    dataset = read_category(root, f"mvtec/{category}", how_to_get(f"mvtec/{category}", home))
    return dataset if seed == 0 else dataset.resplit(seed)


def read_category(root: Path, name: str, remedy: str = "") -> Dataset:
    """A folder in MVTec's, BTAD's or the course's layout, every picture and mask checked; see `mvtec`."""
    labels = next((p for p in (root / LABELS_FILE, root.parent / LABELS_FILE) if p.exists()), None)
    flat, sorted_test = _pictures(root / "test", root), _sorted_by_folder(root / "test", root)
    if flat and labels is None:
        raise DatasetError(f"{root / LABELS_FILE}: not there, but {root / 'test'} holds pictures.\n{remedy}")
    if flat and sorted_test:
        raise DatasetError(
            f"{root / 'test'} can be read in two ways: the pictures in it are labelled by {LABELS_FILE}, those in "
            f"its folders, such as {printable(sorted_test[0][0])}, by the folders' names. Keep one of the two."
        )
    tested = _labelled(labels, root, flat) if flat and labels else sorted_test
    normal = [folder.name for folder in _folders(root / "train") if folder_label(folder.name) == 0]
    if len(normal) > 1:
        raise DatasetError(f"{root / 'train'}: two folders of normal pictures, {' and '.join(normal)}. Keep one.")
    train_folder = root / "train" / (normal[0] if normal else "good")
    train, bad = _pictures(train_folder, root), _pictures(root / "train" / "bad", root)
    for folder, found in ((train_folder, train), (root / "test", tested)):
        if not found:
            raise DatasetError(f"{folder}: no picture there ({', '.join(sorted(SUFFIXES))}).\n{remedy}")
    paths, kinds = [path for path, _ in tested], tuple(kind for _, kind in tested)
    sizes = check_images([*train, *paths, *bad])[len(train) :]
    known: dict[str, Any] = {"kinds_test": kinds} | ({"anomalies_train": tuple(bad)} if bad else {})
    if (root / "severity.json").exists():
        known["severity_test"] = _severities(root, paths)
    masks = _masks(root, tested, sizes) if (root / "ground_truth").is_dir() else None
    y = np.array([kind != "good" for kind in kinds], dtype=np.int64)
    return Dataset(name, "image", tuple(train), tuple(paths), y, masks, None, origin(name, **known))


def _pictures(folder: Path, root: Path) -> list[Path]:
    """The picture files directly in a folder, sorted by name; none if it is not there. No link may leave ``root``."""
    if not folder.is_dir():
        return []
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    for path in found:
        check_inside(path, root)
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _sorted_by_folder(test: Path, root: Path) -> list[tuple[Path, str]]:
    """Path and kind of each test picture in MVTec's layout: the folder's name; "good" for BTAD's ok and the like."""
    return [
        (path, "good" if folder_label(folder.name) == 0 else folder.name)
        for folder in _folders(test)
        for path in _pictures(folder, root)
    ]


def _severities(root: Path, paths: list[Path]) -> tuple[float, ...]:
    """How severe the anomaly of each test picture is, from severity.json; 0 where it says nothing."""
    path = root / "severity.json"
    severity = read_json(path, '{"test/crack/000.png": 0.5, ...}')
    try:
        return tuple(float(severity.get(p.relative_to(root).as_posix(), 0)) for p in paths)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DatasetError(f'{path}: expected {{"test/crack/000.png": 0.5, ...}} ({error}).') from error


def _labelled(labels: Path, root: Path, flat: list[Path]) -> list[tuple[Path, str]]:
    """Path and kind ("good" or "bad") of each test picture in the course's layout."""
    kinds = read_labels_file(labels, root.name)
    expected = {f"{root.name}/test/{path.name}": path for path in flat}
    for key in kinds:
        in_train = key.startswith(f"{root.name}/train/") and os.path.isfile(root.parent / key)
        if key not in expected and not in_train:
            raise DatasetError(f"{labels}, entry {key!r}: no such file. Correct the name or remove the entry.")
    for key in expected:
        if key not in kinds:
            raise DatasetError(f"{labels}: no entry {key!r}, but the file is there. Add its label.")
    return [(path, kinds[key]) for key, path in expected.items()]


def _masks(root: Path, tested: list[tuple[Path, str]], sizes: list[tuple[int, int]]) -> np.ndarray:
    """(n, H, W) bool; all False for good pictures. Every anomaly needs its mask."""
    folder = root / "ground_truth"
    for (path, _), size in zip(tested, sizes):
        if size != sizes[0]:
            raise DatasetError(
                f"{path}: {size[1]}×{size[0]} pixels, {tested[0][0]} has {sizes[0][1]}×{sizes[0][0]}. "
                "Test pictures with masks must all be of one size."
            )
    files = {path.with_suffix(""): path for part in (folder, *_folders(folder)) for path in _pictures(part, root)}

    def mask(sample: tuple[Path, str]) -> np.ndarray:
        path, kind = sample
        if kind == "good":
            return np.zeros(sizes[0], dtype=bool)
        names = [base / f"{path.stem}{end}" for base in (folder / kind, folder) for end in ("_mask", "")]
        found = next((files[name] for name in names if name in files), None)
        if found is None:
            raise DatasetError(f"{names[0]}.png: no mask for {path}. Add it, or remove {folder} to do without masks.")
        return _read_mask(found, path, sizes[0])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(mask, tested)))


def _read_mask(path: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, True on the defect of an anomalous image; as large as the image, not empty and not all of it."""
    mask = read_mask(path)
    if mask.shape != size:
        raise DatasetError(
            f"{path}: the mask has {mask.shape[1]}×{mask.shape[0]} pixels, its image {image} has "
            f"{size[1]}×{size[0]}. Scale one to the size of the other (masks without interpolation)."
        )
    check_mask(mask, path, image)
    return mask


def synthetic(category: str, seed: int = 0, *, size: int = 256, n_train: int = 200, n_test: int = 100) -> Dataset:
    """Generated photographs of a category, made on first use and kept below cache_home().

    Of the test pictures two fifths are good. The folder's name carries seed, numbers, size and a hash of the
    generator's source, so that a changed generator never meets pictures of the old one.
    """
    source = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("synthetic*.py")))
    version = hashlib.sha256(source).hexdigest()[:8]
    folder = cache_home() / "synthetic" / f"{category}-seed{seed}-{n_train}+{n_test}-{size}px-{version}"
    if not folder.is_dir():
        try:
            generate(category, folder, seed=seed, n_train=n_train, n_test=n_test, size=size)
        except DatasetError:
            if not folder.is_dir():  # another process may have made the same meanwhile
                raise
    return read_category(folder, f"synthetic/{category}")


def generate(
    category: str, folder: Path, *, seed: int = 0, n_train: int = 200, n_test: int = 100, size: int = 256
) -> None:
    """Write a synthetic category to `folder`, which appears only when it is whole.

    Raises
    ------
    DatasetError
        Unknown category, numbers or size too small, a folder that is there already or cannot be written.
    """
    from .synthetic import write_category

    good = round(0.4 * n_test)
    try:
        write_category(
            folder,
            category,
            seed=seed,
            n_train=n_train,
            n_test_good=good,
            n_test_bad=n_test - good,
            size=size,
        )
    except OSError as error:
        raise disk_error(error, folder.parent) from error
