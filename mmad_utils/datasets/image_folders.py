"""Image folders: detection of the layout, of normal and anomalous images, and of masks.

The labels are read from folder names. A layout with two possible interpretations raises an error that describes both.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .images import MAX_PIXELS, SUFFIXES, check_images, has_few_colours, read_mask
from .input_files import printable, read_json
from .record import DatasetError
from .samples import FEWEST, Samples, check_enough, find

__all__ = ["folder_label", "read_labels_file", "read_pictures"]

LABELS_FILE = "image_anomaly_labels.json"


def _words_of(*lines: str) -> set[str]:
    return {word.strip() for line in lines for word in line.split(",")}


NORMAL = _words_of(
    "normal, good, ok, okay, pass, passed, benign, inlier, inliers, healthy, intact, flawless, nominal, nodefect",
    "nondefective, defectfree, defect free, no defect, no defects, non defective, without defect, without defects",
    "fault free, 正常, 良品, 良, 合格, 好, 正品, 完好, 无缺陷, 無缺陷, 无瑕疵, 無瑕疵, 无异常, 無異常, 优良, 優良",
    "优, 優",
)
ANOMALOUS = _words_of(
    "bad, anomaly, anomalies, anomalous, abnormal, defect, defects, defective, faulty, fault, faults, ng, n g, ko",
    "nok, broken, damaged, damage, reject, rejects, rejected, fail, failed, failure, failures, outlier, outliers",
    "malignant, flaw, flaws, flawed, unhealthy, not good, no good, not ok, not normal, non normal, with defect",
    "with defects, 异常, 異常, 不良, 缺陷, 有缺陷, 瑕疵, 有瑕疵, 次, 次品, 废品, 廢品, 残次, 坏, 壞, 不合格, 不正常",
    "非正常, 损坏, 損壞, 破损, 破損, 故障, 报废",
)
UNKNOWN = _words_of(  # folder names that do not tell whether the images are normal
    "unlabeled, unlabelled, unknown, unsorted, unchecked, new, other, others, misc, rest, todo, review",
    "positive, negative, pos, neg, 未标注, 未标记, 未知, 待定, 待检, 其他",
)
SPLITS = _words_of(
    "train, training, test, testing, val, valid, validation, trainset, testset, test public, train set, test set",
    "validation set, 训练, 訓練, 训练集, 訓練集, 测试, 測試, 测试集, 測試集, 验证, 驗證, 验证集, 驗證集",
)
MASKS = _words_of("gt, gts, label, labels, annotation, annotations, seg, segmentation, segmentations")
MASK_PARTS = re.compile(
    r"\b(masks?|groundtruths?|ground truths?)\b|掩码|掩碼|掩膜|掩模|蒙版|标注|標註|标签|標籤|真值|分割"
)
IMAGES = _words_of(
    "images, image, img, imgs, pictures, rgb, data, 图像, 图片, 影像"
)  # folders without a meaning for labels
FILLERS = re.compile(
    r"( (images?|imgs?|samples?|parts?|pictures?|items?|products?|data|set))+$"
    r"|(样本|樣本|图片|圖片|图像|影像|照片|数据|产品|零件|件|图|类|品)+$"
)
MASK_OF = re.compile(
    r"(?P<stem>.+)[ _.-](masks?|label|gt|seg|ground[ _-]?truth)|(mask|gt)[ _.-](?P<after>.+)"
    r"|(?P<name>.+?)[ _.-]?(掩码|掩膜|掩模|标注)",
    re.IGNORECASE,
)
MASK_ALONE = re.compile(r"(.+[ _.-](masks?|gt|ground[ _-]?truth)|.+(掩码|掩膜|掩模))$", re.IGNORECASE)
NEGATION = re.compile(r"(no|non|not|un|without) |[无無非未不]")
SYSTEM_FILES = {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"}


@lru_cache(maxsize=100_000)
def _words(name: str) -> str:
    """A folder name in lower case without digits and punctuation: "01_Good-Parts" becomes "good parts"."""
    return re.sub(r"[\W\d_]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


@lru_cache(maxsize=100_000)
def folder_label(name: str) -> int | None:
    """Label of a folder name: 0 if it means normal (good, ok, 正常), 1 if anomalous (defect, ng, 缺陷), else None.

    Digits, punctuation, case, and words such as "images" or 样本 at the end are ignored.
    """
    words = _words(name)
    for form in (words, FILLERS.sub("", words).strip()):
        if form in NORMAL:
            return 0
        if form in ANOMALOUS:
            return 1
    return None


def _mentions(name: str, known: set[str]) -> bool:
    """Whether a name contains one of the words; for example, "normal_light" contains "normal"."""
    words = _words(name)
    return any(word in known for word in words.split()) or any(
        len(word) > 1 and not word.isascii() and word in words for word in known
    )


def _is_split(name: str) -> bool:
    return _words(name) in SPLITS


def _is_mask_folder(name: str) -> bool:
    return _words(name) in MASKS or bool(MASK_PARTS.search(_words(name)))


def read_pictures(folder: str | Path, least: int = FEWEST, max_pixels: int = MAX_PIXELS) -> Samples:
    """Read a folder of images with its subfolders; every image is decoded once, to check that it is readable.

    Labels are read from one of three sources:

    - folder names at any depth, in English or Chinese. Names such as good, normal, ok or 正常 mean normal; names such
      as bad, defect, ng, ko or 缺陷 mean anomalous. Other folders beside a folder of normal images are anomalous, as
      in MVTec AD;
    - image_anomaly_labels.json (the layout of the course);
    - the masks, if every image has a mask and no folder name is a label (KolektorSDD). An image with an empty mask is
      normal.

    Masks are not samples. Masks are files in folders such as ground_truth, Masks or 掩码, and files in the folder of
    an image x that are called x_mask, x_label or x_gt.

    The first note contains the layout and the number of files of each kind, the second the omitted files. Links
    are followed within the folder; links that leave it are omitted. Images may have different sizes.

    Parameters
    ----------
    folder : path
    least : int, smallest number of normal images; 1 for a folder that is only scored
    max_pixels : int, limit for each image; see `read_image`

    Raises
    ------
    DatasetError
        The path is not a folder, it has no image, or an image is damaged, tiny or too large. There are fewer than
        ``least`` normal images. The layout has two interpretations. Labels and masks contradict each other.
    """
    root = find(folder)
    if not root.is_dir():
        raise DatasetError(f"{printable(root)} is a file; give the folder that contains the images.")
    files, passed = scan(root)
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = Counter(path.suffix.lower() or path.name for path in files if path.suffix.lower() not in SUFFIXES)
    for suffix, count in others.most_common(5):
        passed[f"{count} {suffix}"] = []
    if len(others) > 5:
        passed[f"{sum(others.values()) - sum(n for _, n in others.most_common(5))} files of other kinds"] = []
    said = _said(passed)
    if not images:
        raise DatasetError(
            f"{printable(root)}: no image among {len(files)} files. Give a folder of PNG, JPEG, TIFF, BMP, GIF, "
            f"PPM or WebP files. {said}".rstrip()
        )
    found = recognise(root, images, max_pixels)
    paths = tuple(root / image for image in found.images)
    sizes = set(check_images(paths, max_pixels))
    y = None if found.labels is None else np.array(found.labels, dtype=np.int64)
    anomalies = 0 if y is None else int(y.sum())
    counts = f"{len(paths)} images without labels" if y is None else f"{len(paths) - anomalies} normal images"
    notes = [
        f"Layout: {found.layout}: {counts}, {anomalies} anomalous images, {len(found.masks)} masks.",
        *found.notes,
    ]
    notes += [said] if said else []
    if len(sizes) > 1:
        (low, _), (high, _) = min(sizes), max(sizes)
        notes.append(f"{len(sizes)} sizes (heights of {low} to {high} pixels): each is resized to one square.")
    check_enough(len(paths) - anomalies, least, root, "images", said)
    names = np.array([printable(image) for image in found.images], dtype=object)
    return Samples(root, "image", paths, y if anomalies else None, names, tuple(notes))


def _said(passed: dict[str, list[str]]) -> str:
    """One sentence about the files that were passed over, with the first names of each kind."""
    parts = []
    for what, names in passed.items():
        shown = f" ({', '.join(map(printable, names[:3]))}{', ...' if len(names) > 3 else ''})" if names else ""
        parts.append(f"{f'{len(names)} ' if names else ''}{what}{shown}")
    return f"Passed over: {'; '.join(parts)}." if parts else ""


def scan(root: Path) -> tuple[list[PurePosixPath], dict[str, list[str]]]:
    """The regular files below a folder, sorted and relative to it; and the paths that were passed over, by kind.

    A link is followed if its target is inside ``root`` and is not read under its own name. So no file is read twice,
    and circular links end.

    Raises
    ------
    DatasetError
        A folder cannot be read.
    """
    real_root = os.path.realpath(root)
    files: dict[str, PurePosixPath] = {}  # real path -> path below root
    folders: set[str] = set()
    passed: dict[str, list[str]] = defaultdict(list)
    waiting, links = [PurePosixPath()], list[PurePosixPath]()
    while waiting or links:
        if not waiting:
            link = links.pop(0)
            target = os.path.realpath(root / link)
            if not Path(target).is_relative_to(real_root):
                passed["links that leave the folder"].append(str(link))
            elif not os.path.exists(target):
                passed["links that lead nowhere"].append(str(link))
            elif target in folders or target in files:
                passed["links to what is read under its own name"].append(str(link))
            elif os.path.isdir(target):
                waiting.append(link)
            elif os.path.isfile(target):
                files[target] = link
            else:
                passed["pipes, sockets or devices"].append(str(link))
            continue
        folder = waiting.pop()
        real = os.path.realpath(root / folder)
        if real in folders:
            continue
        folders.add(real)
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            raise DatasetError(f"{printable(root / folder)}: cannot be read ({error.strerror}).") from error
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name in SYSTEM_FILES:
                passed["hidden files or folders"].append(str(path))
            elif entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                waiting.append(path)
            elif entry.is_file():
                files[os.path.join(real, entry.name)] = path
            else:
                passed["pipes, sockets or devices"].append(str(path))
    return sorted(files.values()), passed


@dataclass
class Layout:
    """The recognised layout of an image folder; the paths are relative to the folder."""

    layout: str
    images: list[PurePosixPath]
    labels: list[int] | None
    masks: list[PurePosixPath]
    notes: list[str] = field(default_factory=list)


def recognise(root: Path, files: Sequence[PurePosixPath], max_pixels: int = MAX_PIXELS) -> Layout:
    """Separate masks from images, and find the label of each image; see `read_pictures`.

    Parameters
    ----------
    root : Path
    files : image files and masks, relative to root, sorted
    max_pixels : int, limit for each mask

    Raises
    ------
    DatasetError
        The layout has two interpretations, or labels and masks contradict each other.
    """
    is_mask = _mask_files(files)
    masks, images = ([path for path in files if (path in is_mask) == wanted] for wanted in (True, False))
    where = printable(root)
    if not images:
        raise _two_readings(
            where,
            f"all {len(files)} images lie in folders, or have names, of masks, such as {printable(files[0])}",
            "they are masks, and the images are missing",
            "they are images, and the name means something else: give the inner folder, or rename",
        )
    _check_one_set(where, images, masks)
    listed = _listed_labels(root, images)
    named = _named_labels(where, images, listed)
    _check_no_hidden_masks(where, root, images, named or {}, max_pixels)
    pairs, alone = _pair(masks, images, named)
    notes = [f"{len(alone)} masks fit no image by name (first: {printable(alone[0])})."] if alone else []
    if named is not None:
        notes += _check_marks(where, root, pairs, named, max_pixels)
        labels = [named[image] for image in images]
        return Layout(_layout_name(images, masks, bool(listed)), images, labels, masks, notes)
    if not pairs:
        _check_unlabelled(where, images)
        return Layout("no folder name says normal or anomalous", images, None, masks, notes)
    having = set(pairs.values())
    without = [image for image in images if image not in having]
    if without:
        raise _two_readings(
            where, f"{len(having)} of {len(images)} images have a mask, {printable(without[0])} has none",
            "images without a mask are normal", "their masks are missing",
        )  # fmt: skip
    marks = _marks(root, pairs, max_pixels)
    for mask, found in marks.items():
        if isinstance(found, DatasetError):
            raise found
        if found == "everything":
            raise DatasetError(
                f"{printable(root / mask)}: the mask covers the whole image, so it does not say whether the image is "
                "normal. Correct it, or sort the images into folders called good and bad."
            )
    defective = {pairs[mask] for mask, found in marks.items() if found == "a part"}
    layout = "KolektorSDD (a mask for every image; an empty mask means normal)"
    return Layout(layout, images, [int(image in defective) for image in images], masks, notes)


def _two_readings(where: str, seen: str, one: str, other: str) -> DatasetError:
    return DatasetError(
        f"{where}: {seen}. Two readings: (1) {one}; (2) {other}. Rename or move the files so that one is left, for "
        "instance into folders called good and bad."
    )


def _marks(root: Path, masks: Iterable[PurePosixPath], max_pixels: int) -> dict[PurePosixPath, str | DatasetError]:
    """What each mask marks as a defect: "nothing", "a part" or "everything"; or the error that reading it raised."""

    def marked(mask: PurePosixPath) -> str | DatasetError:
        try:
            values = read_mask(root / mask, max_pixels)
        except DatasetError as error:
            return error
        return "everything" if values.all() else "a part" if values.any() else "nothing"

    masks = list(masks)
    with ThreadPoolExecutor() as pool:
        return dict(zip(masks, pool.map(marked, masks)))


def _check_marks(
    where: str,
    root: Path,
    pairs: dict[PurePosixPath, PurePosixPath],
    labels: dict[PurePosixPath, int],
    max_pixels: int,
) -> list[str]:
    """Raise an error if the mask of a normal image marks a defect; return notes on missing or unusable masks."""
    marks = _marks(root, pairs, max_pixels)
    for mask, found in marks.items():
        if found in ("a part", "everything") and not labels[pairs[mask]]:
            raise _two_readings(
                where, f"{printable(pairs[mask])} and {printable(mask)} contradict each other",
                "the image is normal, as its folder or label says", "it is anomalous, as its mask marks a defect",
            )  # fmt: skip
    useless = [mask for mask, found in marks.items() if labels[pairs[mask]] and found != "a part"]
    anomalous, with_mask = sum(labels.values()), len({image for image in pairs.values() if labels[image]})
    notes = []
    if useless:
        first = f"{printable(useless[0])}: {marks[useless[0]]}"
        notes.append(f"{len(useless)} masks of anomalous images do not mark a part of the image (first: {first}).")
    if 0 < with_mask < anomalous:
        notes.append(f"{with_mask} of {anomalous} anomalous images have a mask.")
    return notes


def _mask_files(files: Sequence[PurePosixPath]) -> set[PurePosixPath]:
    """Files in mask folders, files named like the mask of an image in the same folder, and files x_mask or x_gt."""
    beside = {(path.parent, path.stem.casefold()) for path in files}

    def is_mask(path: PurePosixPath) -> bool:
        of = _mask_stem(path)
        companion = of != path.stem and (path.parent, of.casefold()) in beside
        folder = any(_is_mask_folder(part) and folder_label(part) is None for part in path.parts[:-1])
        return folder or companion or bool(MASK_ALONE.match(path.stem))

    return {path for path in files if is_mask(path)}


def _mask_stem(path: PurePosixPath) -> str:
    """The name of the image that belongs to a mask: "000" for "000_mask.png", and also for "000.png"."""
    match = MASK_OF.fullmatch(path.stem)
    return next(filter(None, match.group("stem", "after", "name"))) if match else path.stem


def _check_no_hidden_masks(
    where: str, root: Path, images: Sequence[PurePosixPath], labels: dict[PurePosixPath, int], max_pixels: int
) -> None:
    """Raise an error if one of two images with the same name has at most three colours, as a mask has.

    Images of one name in one folder (x.jpg, x.png) are compared, and anomalous images of one name in two folders.
    """
    groups: dict[Any, list[PurePosixPath]] = defaultdict(list)
    for image in images:
        groups[image.parent, image.stem.casefold()].append(image)
        if labels.get(image):
            groups[None, image.stem.casefold()].append(image)
    for group in groups.values():
        if len(group) > 1:
            few = [image for image in group if has_few_colours(root / image, max_pixels)]
            if 0 < len(few) < len(group):
                other = next(image for image in group if image not in few)
                raise _two_readings(
                    where, f"{printable(few[0])} has the name of {printable(other)} and at most three colours",
                    "it is a mask; then call its folder masks, or the file x_mask", "it is an image like the other",
                )  # fmt: skip


def _check_one_set(where: str, images: Sequence[PurePosixPath], masks: Sequence[PurePosixPath]) -> None:
    """Raise an error for several data sets in one folder, each with its own folders such as train, test or masks."""
    prefixes = set()
    for path, marks in [*((path, _is_split) for path in images), *((path, _is_mask_folder) for path in masks)]:
        at = next((i for i, part in enumerate(path.parts[:-1]) if marks(part)), None)
        before = path.parts[:at] if at is not None else ()
        if at is not None and not any(folder_label(part) is not None or _is_split(part) for part in before):
            prefixes.add("/".join(part for part in before if _words(part) not in IMAGES))
    if len(prefixes) > 1:
        names = sorted(prefix or "." for prefix in prefixes)
        shown = ", ".join(map(printable, names[:6])) + (", ..." if len(names) > 6 else "")
        raise _two_readings(
            where, f"{len(names)} data sets side by side: {shown}",
            "they are separate data sets: give the folder of one", "all together are one",
        )  # fmt: skip


def read_labels_file(path: Path, category: str) -> dict[str, str]:
    """Read the labels of one category in the course's format: {"<category>/test/x.png": "good" or "bad"}.

    A file in the parent folder may contain the labels of all categories; only those of ``category`` are returned.

    Raises
    ------
    DatasetError
        The file has another format, or a label has another value.
    """
    expected = f'{{"{category}/test/x.png": {{"label": "good" or "bad"}}, ...}}'
    entries = read_json(path, expected)
    try:
        kinds = {str(key): entry["label"] for key, entry in entries.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path}: expected {expected} ({error!r}).") from error
    if path.parent.name != category:
        kinds = {key: kind for key, kind in kinds.items() if key.startswith(f"{category}/")}
    for key, kind in kinds.items():
        if kind not in ("good", "bad"):
            raise DatasetError(f"{path}, entry {printable(key)!r}: label {kind!r}; expected 'good' or 'bad'.")
    return kinds


def _listed_labels(root: Path, images: Sequence[PurePosixPath]) -> dict[PurePosixPath, int]:
    """Labels from image_anomaly_labels.json in the folder or its parent folder; empty if there are none."""
    root = Path(os.path.abspath(root))
    path = next((p for p in (root / LABELS_FILE, root.parent / LABELS_FILE) if p.exists()), None)
    kinds = {} if path is None else read_labels_file(path, root.name)
    labels = {PurePosixPath(*PurePosixPath(key).parts[1:]): int(kind == "bad") for key, kind in kinds.items()}
    known = set(images)
    for image in labels:
        if image not in known:
            raise DatasetError(f"{path}, entry '{root.name}/{printable(image)}': no such file. Correct the name.")
    for image in images:
        if labels and image not in labels and image.parent.name == "test":
            raise DatasetError(f"{path}: no entry '{root.name}/{printable(image)}', but the file is there.")
    return labels


def _named_labels(
    where: str, images: Sequence[PurePosixPath], listed: dict[PurePosixPath, int]
) -> dict[PurePosixPath, int] | None:
    """The label of each image, from the folder names of its path and from the labels file; None without labels."""
    folders = {image.parent: _path_label(where, image) for image in images}
    normal_in = set()  # folders that contain a folder of normal images
    for image in images:
        called = [folder_label(part) for part in image.parts[:-1]]
        if 0 in called:
            normal_in.add(tuple(_kinds(image.parts[: called.index(0)])))
    labels, open_ = {}, []
    for image in images:
        label = folders[image.parent]
        if image in listed:
            if label is not None and label != listed[image]:
                raise _two_readings(
                    where, f"the labels file contradicts the folder of {printable(image)}",
                    "the label of the file", "the name of the folder",
                )  # fmt: skip
            label = listed[image]
        if label is None:
            label = _label_beside_normal(where, image, normal_in, folders.values())
        if label is None:
            open_.append(image)
        else:
            labels[image] = label
    if not labels:
        return None
    if open_:
        first = printable(open_[0])
        example = next(iter(labels))
        raise _two_readings(
            where,
            f"{len(labels)} images have a label, such as {printable(example)} "
            f"({'anomalous' if labels[example] else 'normal'}), but {len(open_)} have none, such as {first}",
            "these are normal"
            if all(labels.values())
            else "these are anomalous, as they are in no folder of normal ones",
            f"they have no label, and {LABELS_FILE} or a folder name is missing",
        )
    return labels


def _path_label(where: str, image: PurePosixPath) -> int | None:
    """The label of the folder names of a path, which must not contradict each other."""
    known = {part: label for part in image.parts[:-1] if (label := folder_label(part)) is not None}
    if len(set(known.values())) > 1:
        good, bad = (next(part for part, label in known.items() if label == wanted) for wanted in (0, 1))
        raise _two_readings(
            where, f"{printable(image)} lies in {printable(good)!r} and in {printable(bad)!r}",
            "it is normal", "it is anomalous",
        )  # fmt: skip
    return next(iter(known.values()), None)


def _kinds(parts: Iterable[str]) -> list[str]:
    """The folders of a path without those of a split, so that test/crack has the same parent as train/good."""
    return [part for part in parts if not _is_split(part)]


def _label_beside_normal(
    where: str, image: PurePosixPath, normal_in: set, labels: Iterable[int | None]
) -> int | None:
    """1 if a folder of the path is beside a folder of normal images, as for the defects of MVTec AD; else None."""
    kinds = _kinds(image.parts[:-1])
    at = next((i for i in range(len(kinds)) if tuple(kinds[:i]) in normal_in), None)
    if at is None or _words(kinds[at]) in IMAGES:
        return None
    kind = kinds[at]
    doubtful = _mentions(kind, NORMAL) and not _mentions(kind, ANOMALOUS)
    if _mentions(kind, UNKNOWN) or doubtful or (1 in labels and len(kinds) == len(image.parts) - 1):
        raise _two_readings(
            where, f"the folder {printable(kind)!r} lies beside one of normal images, but its name is no label",
            "its images are anomalous, as all that is not in the folder of normal ones", "they have another meaning",
        )  # fmt: skip
    return 1


def _check_unlabelled(where: str, images: Sequence[PurePosixPath]) -> None:
    """Raise an error if folder names may be labels, but are not among the known names."""
    parts = {part for image in images for part in image.parts[:-1]}
    known = NORMAL | ANOMALOUS | UNKNOWN
    suspicious = sorted(part for part in parts if _mentions(part, known) or NEGATION.match(_words(part)))
    if {image.parent.name for image in images} == {"0", "1"}:
        suspicious = ["0"]
    if suspicious and len(parts) > 1:
        raise _two_readings(
            where, f"the folder {printable(suspicious[0])!r} has a name that may be a label",
            "its name says whether its images are normal", "the name has another meaning, and no image has a label",
        )  # fmt: skip


def _pair(
    masks: Sequence[PurePosixPath], images: Sequence[PurePosixPath], labels: dict[PurePosixPath, int] | None
) -> tuple[dict[PurePosixPath, PurePosixPath], list[PurePosixPath]]:
    """The image of each mask, found by folders and name, and the masks without an image."""
    by_key: dict[Any, list[PurePosixPath]] = defaultdict(list)
    for image in images:
        by_key[_key(image), image.stem.casefold()].append(image)
        if labels is None or labels[image]:  # for masks in other folders
            by_key[image.stem.casefold()].append(image)
    pairs, alone = dict[PurePosixPath, PurePosixPath](), list[PurePosixPath]()
    known = {_key(image) for image in images}
    for mask in masks:
        folder, stems = _key(mask), [mask.stem.casefold(), _mask_stem(mask).casefold()]
        keys: list[Any] = [(folder, stem) for stem in stems]
        keys += [(folder[:-1], folder[-1])] if folder else []  # MVTec LOCO: a folder of masks for each image
        fitting = (
            _anomalous(by_key[key], labels) for key in [*keys, *(stems if folder not in known or not folder else ())]
        )
        one = next((found[0] for found in fitting if len(found) == 1), None)
        if one is None:
            alone.append(mask)
        else:
            pairs[mask] = one
    return pairs, alone


def _anomalous(images: list[PurePosixPath], labels: dict[PurePosixPath, int] | None) -> list[PurePosixPath]:
    """The anomalous images among several, because masks mostly belong to anomalous images."""
    return images if labels is None or len(images) < 2 else [image for image in images if labels[image]]


def _key(path: PurePosixPath) -> tuple[str, ...]:
    """The folders of an image or mask that distinguish it from others of the same name."""
    return tuple(
        part.casefold()
        for part in path.parts[:-1]
        if not _is_split(part) and not _is_mask_folder(part) and _words(part) not in IMAGES
    )


def _layout_name(images: Sequence[PurePosixPath], masks: Sequence[PurePosixPath], listed: bool) -> str:
    """The public data set that has this layout, or "folders of normal and anomalous images"."""
    if listed:
        return f"the course's ({LABELS_FILE})"
    folders = {part for path in images for part in path.parts[:-1]}
    words, mask_words = {_words(part) for part in folders}, {_words(p) for path in masks for p in path.parts[:-1]}
    called = sorted(part for part in folders if folder_label(part) is not None)
    if words & {"images", "image"} and mask_words & {"masks", "mask"}:
        name = "VisA"
    elif words & SPLITS and "ok" in words and "ko" in words:
        name = "BTAD"
    elif words & SPLITS and "good" in words:
        name = "MVTec AD"
    else:
        name = "folders of normal and anomalous images"
    return f"{name} ({', '.join(map(printable, called))})"
