"""Data sets of images with masks: MVTec AD, MVTec AD 2 and LOCO, BTAD, MPDD, VisA, and generated categories."""

from __future__ import annotations

import csv
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mmad_utils.files import remove_abandoned

from .download import disk_error
from .folders import cache_home
from .image_folders import LABELS_FILE, folder_label, read_labels_file
from .images import SUFFIXES, check_images, check_mask, read_mask
from .input_files import check_inside, check_regular, printable, read_json
from .record import Dataset, DatasetError, how_to_get, not_found, origin

FAMILIES = ("mvtec", "mvtec_ad_2", "mvtec_loco", "visa", "btad", "mpdd")


def read(family: str, category: str, home: Path, seed: int = 0) -> Dataset:
    """Read a category of a data set from the folder data_home/<family>; see `read_category` and `read_visa`.

    Seed 0 keeps the split of the data set; any other seed draws a new split of the normal samples.
    """
    name, root = f"{family}/{category}", home / family / category
    if not root.is_dir():
        raise not_found(name, root, home)
    reader = read_visa if family == "visa" and not (root / "train").is_dir() else read_category
    dataset = reader(root, name, how_to_get(name, home))
    return dataset if seed == 0 else dataset.resplit(seed)


def read_category(root: Path, name: str, remedy: str = "") -> Dataset:
    """Read a category in the layout of MVTec AD, AD 2 or LOCO, of BTAD or of the course; check all images and masks.

    Two layouts are supported:

    - MVTec's: train/good, test/good, test/<defect>, ``ground_truth/<defect>/*_mask.png``;
    - the course's: images directly in test/, with labels in image_anomaly_labels.json, in the folder of the category
      or in its parent folder, as ``{"<category>/test/x.png": {"label": "good" or "bad", ...}}``. Masks are optional,
      as ``ground_truth/*_mask.png``.

    Without a folder ground_truth, ``masks_test`` is None. The folder of normal images may also be called ok (BTAD) or
    normal, and a mask may have the name of its image (x.png instead of x_mask.png). The test folder of MVTec AD 2 is
    test_public, which contains ground_truth; its test sets without labels are not read. The masks of an image may be
    in a folder with the name of the image (MVTec LOCO); their union is the mask. Every nonzero pixel of a mask is a
    defect. Folders called validation are not read. Links must not leave the folder of the category.

    Labelled anomalies for training (train/bad) are not part of ``X_train``, which contains only normal images. Their
    paths are in ``source["anomalies_train"]``.

    Sources: P. Bergmann et al. (2019), MVTec AD, CVPR; P. Bergmann et al. (2022), Beyond dents and scratches, IJCV;
    L. Heckler-Kram et al. (2025), The MVTec AD 2 dataset; P. Mishra et al. (2021), VT-ADL, ISIE; S. Jezek et al.
    (2021), Deep learning-based defect detection of metal parts, ICUMT.
    """
    test = root / "test" if (root / "test").is_dir() else root / "test_public"
    test = test if test.is_dir() else root / "test"
    truth = test / "ground_truth" if (test / "ground_truth").is_dir() else root / "ground_truth"
    labels = next((p for p in (root / LABELS_FILE, root.parent / LABELS_FILE) if p.exists()), None)
    flat, sorted_test = _pictures(test, root), _sorted_by_folder(test, root)
    if flat and labels is None:
        raise DatasetError(f"{root / LABELS_FILE}: not there, but {test} contains images.\n{remedy}")
    if flat and sorted_test:
        raise DatasetError(
            f"{test} can be read in two ways: the images in it are labelled by {LABELS_FILE}, those in "
            f"its folders, such as {printable(sorted_test[0][0])}, by the names of the folders. Keep one of the two."
        )
    tested = _labelled(labels, root, flat) if flat and labels else sorted_test
    normal = [folder.name for folder in _folders(root / "train") if folder_label(folder.name) == 0]
    if len(normal) > 1:
        raise DatasetError(f"{root / 'train'}: two folders of normal images, {' and '.join(normal)}. Keep one.")
    train_folder = root / "train" / (normal[0] if normal else "good")
    train, bad = _pictures(train_folder, root), _pictures(root / "train" / "bad", root)
    for folder, found in ((train_folder, train), (test, tested)):
        if not found:
            raise DatasetError(f"{folder}: no image there ({', '.join(sorted(SUFFIXES))}).\n{remedy}")
    paths, kinds = [path for path, _ in tested], tuple(kind for _, kind in tested)
    sizes = check_images([*train, *paths, *bad])[len(train) :]
    known: dict[str, Any] = {"kinds_test": kinds} | ({"anomalies_train": tuple(bad)} if bad else {})
    if (root / "severity.json").exists():
        known["severity_test"] = _severities(root, paths)
    masks = _masks(truth, root, tested, sizes) if truth.is_dir() else None
    y = np.array([kind != "good" for kind in kinds], dtype=np.int64)
    return Dataset(name, "image", tuple(train), tuple(paths), y, masks, None, origin(name, **known))


def _pictures(folder: Path, root: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name; empty if there is none. Links must not leave ``root``."""
    if not folder.is_dir():
        return []
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    for path in found:
        check_inside(path, root)
    return found


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _sorted_by_folder(test: Path, root: Path) -> list[tuple[Path, str]]:
    """Path and kind of each test image in MVTec's layout; the kind is the name of the folder, or "good" if normal."""
    return [
        (path, "good" if folder_label(folder.name) == 0 else folder.name)
        for folder in _folders(test)
        if folder.name != "ground_truth"
        for path in _pictures(folder, root)
    ]


def _severities(root: Path, paths: list[Path]) -> tuple[float, ...]:
    """Severity of the anomaly of each test image, from severity.json; 0 if there is no entry."""
    path = root / "severity.json"
    severity = read_json(path, '{"test/crack/000.png": 0.5, ...}')
    try:
        return tuple(float(severity.get(p.relative_to(root).as_posix(), 0)) for p in paths)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DatasetError(f'{path}: expected {{"test/crack/000.png": 0.5, ...}} ({error}).') from error


def _labelled(labels: Path, root: Path, flat: list[Path]) -> list[tuple[Path, str]]:
    """Path and kind ("good" or "bad") of each test image in the course's layout."""
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


def _masks(folder: Path, root: Path, tested: list[tuple[Path, str]], sizes: list[tuple[int, int]]) -> np.ndarray:
    """Masks, (n, H, W) bool, False for good images; each anomaly needs a mask, or a folder of masks with its name."""
    for (path, _), size in zip(tested, sizes):
        if size != sizes[0]:
            raise DatasetError(
                f"{path}: {size[1]}×{size[0]} pixels, {tested[0][0]} has {sizes[0][1]}×{sizes[0][0]}. "
                "Test images with masks must all be of one size."
            )
    files = {path.with_suffix(""): path for part in (folder, *_folders(folder)) for path in _pictures(part, root)}

    def mask(sample: tuple[Path, str]) -> np.ndarray:
        path, kind = sample
        if kind == "good":
            return np.zeros(sizes[0], dtype=bool)
        names = [base / f"{path.stem}{end}" for base in (folder / kind, folder) for end in ("_mask", "")]
        found = next((files[name] for name in names if name in files), None)
        parts = _pictures(folder / kind / path.stem, root) if found is None else []
        if parts:
            return _read_masks(parts, path, sizes[0])
        if found is None:
            raise DatasetError(f"{names[0]}.png: no mask for {path}. Add it, or remove {folder} to use no masks.")
        return _read_masks([found], path, sizes[0])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(mask, tested)))


def _read_masks(paths: list[Path], image: Path, size: tuple[int, int]) -> np.ndarray:
    """The union of masks, (H, W) bool, of an anomalous image; it must not be empty or cover the whole image."""
    union = np.zeros(size, dtype=bool)
    for path in paths:
        mask = read_mask(path)
        if mask.shape != size:
            raise DatasetError(
                f"{path}: the mask has {mask.shape[1]}×{mask.shape[0]} pixels, its image {image} has "
                f"{size[1]}×{size[0]}. Scale one to the size of the other (masks without interpolation)."
            )
        union |= mask
    check_mask(union, paths[0], image)
    return union


def read_visa(root: Path, name: str, remedy: str = "") -> Dataset:
    """Read a category of VisA in its original layout, split as in visa/split_csv/1cls.csv (one-class protocol).

    A category that is sorted into train, test and ground_truth is read by `read_category`.
    If the test images differ in size, ``masks_test`` is None.

    Source: Y. Zou, J. Jeong, L. Pemula, D. Zhang, O. Dabeer (2022), SPot-the-Difference, ECCV.
    """
    split = root.parent / "split_csv" / "1cls.csv"
    if not split.is_file():
        raise DatasetError(f"{split}: not there; it lists the training and the test images.\n{remedy}")
    rows = read_split(split, root.name)
    if not rows:
        raise DatasetError(f"{split}: no row of the object {root.name!r}.\n{remedy}")
    paths: dict[str, list[Path]] = {"train": [], "test": []}
    defects: list[list[Path]] = []  # masks of each test image
    for number, (part, label, image, mask) in rows.items():
        given = [root.parent / file for file in (image, mask) if file]
        for path in given:
            check_inside(path, root)
            if not path.is_file():
                raise DatasetError(f"{split}, row {number}: {path} does not exist.\n{remedy}")
        if (label == "anomaly") != bool(mask) or (part, label) == ("train", "anomaly"):
            raise DatasetError(
                f"{split}, row {number}: only anomalies have a mask, and they must be in the test set."
            )
        paths[part].append(given[0])
        if part == "test":
            defects.append(given[1:])
    sizes = check_images([*paths["train"], *paths["test"]])[len(paths["train"]) :]
    y = np.array([len(mask) for mask in defects], dtype=np.int64)
    masks = None
    if len(set(sizes)) == 1:
        masks = np.zeros((len(y), *sizes[0]), dtype=bool)
        for i in np.flatnonzero(y):
            masks[i] = _read_masks(defects[i], paths["test"][i], sizes[i])
    known = origin(name, kinds_test=tuple("bad" if anomaly else "good" for anomaly in y))
    return Dataset(name, "image", tuple(paths["train"]), tuple(paths["test"]), y, masks, None, known)


def read_split(path: Path, category: str) -> dict[int, tuple[str, str, str, str]]:
    """Read the rows of a category from VisA's split file: row -> split, label, image, mask.

    Raises
    ------
    DatasetError
        The file has another format.
    """
    check_regular(path)
    names, found = ["object", "split", "label", "image", "mask"], {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, strict=True), start=1):
                if number == 1:
                    if row != names:
                        raise ValueError(f"row 1 reads {','.join(row)[:80]!r}")
                elif row and row[0] == category:
                    if len(row) != 5 or row[1] not in ("train", "test") or row[2] not in ("normal", "anomaly"):
                        raise ValueError(f"row {number} reads {','.join(row)[:80]!r}")
                    if not all(file == "" or file.isprintable() for file in row[3:]) or not row[3]:
                        raise ValueError(f"row {number} names no image")
                    found[number] = (row[1], row[2], row[3], row[4])
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(f"{printable(path)}: expected the columns {','.join(names)} ({error}).") from error
    return found


def synthetic(category: str, seed: int = 0, *, size: int = 256, n_train: int = 200, n_test: int = 100) -> Dataset:
    """Generated images of a category, written to a folder below ``cache_home()`` on first use.

    Two fifths of the test images are good. The name of the folder contains the seed, the numbers, the size and a hash
    of the source of the generator, so that images of an earlier version are not used.
    """
    source = b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("synthetic*.py")))
    version = hashlib.sha256(source).hexdigest()[:8]
    folder = cache_home() / "synthetic" / f"{category}-seed{seed}-{n_train}+{n_test}-{size}px-{version}"
    if folder.is_dir():
        remove_abandoned(folder)
    else:
        try:
            generate(category, folder, seed=seed, n_train=n_train, n_test=n_test, size=size)
        except DatasetError:
            if not folder.is_dir():  # another process may have written it in the meantime
                raise
    return read_category(folder, f"synthetic/{category}")


def generate(
    category: str, folder: Path, *, seed: int = 0, n_train: int = 200, n_test: int = 100, size: int = 256
) -> None:
    """Write a synthetic category to `folder`, atomically.

    Raises
    ------
    DatasetError
        The category is unknown, the numbers or the size are too small, or the folder exists or cannot be written.
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
