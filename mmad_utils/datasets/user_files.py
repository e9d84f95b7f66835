"""Samples of one's own: a folder of pictures, read and checked before any slow work.

What can be mended is mended and said (`Samples.notes`); what cannot is one `DatasetError`: where, and what to do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mmad_utils.datasets.images import check_images
from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.samples import FEWEST, Samples, check_enough, find
from mmad_utils.datasets.table_files import read_table

__all__ = ["Samples", "find", "read_pictures", "read_table"]

GOOD = ("good", "normal", "ok")  # folders of normal pictures


def read_pictures(folder: str | Path, least: int = FEWEST) -> Samples:
    """A folder of pictures, subfolders included, each decoded once to be sure that it can be.

    Where some pictures lie in a folder called good, normal or ok and others do not, this labels them: those are
    normal, all others anomalies. Folders called ground_truth (MVTec's masks) are passed by. Sizes may differ; the
    detectors see every picture as one square.

    Parameters
    ----------
    folder : path
    least : int, normal pictures that must be there; 1 for a folder that is only to be scored

    Raises
    ------
    DatasetError
        Not a folder, no picture in it, a damaged or tiny one, fewer than ``least`` normal ones.
    """
    folder = find(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is a file; give the folder that holds the pictures.")
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _passed_by(path, folder)]
    paths = tuple(path for path in files if path.suffix.lower() in endings)
    if not paths:
        raise DatasetError(
            f"{folder}: no picture among {len(files)} files. Give a folder of PNG, JPEG or TIFF files."
        )
    sizes = set(check_images(paths))
    others = len(files) - len(paths)
    notes = [f"Left out, for they are no pictures: {others} of the files."] if others else []
    if len(sizes) > 1:
        (low, _), (high, _) = min(sizes), max(sizes)
        notes.append(f"{len(sizes)} sizes (heights of {low} to {high} pixels): each is resized to one square.")
    names = np.array([path.relative_to(folder).as_posix() for path in paths], dtype=object)
    good = np.array([path != folder / path.name and path.parent.name.lower() in GOOD for path in paths])
    y = None if good.all() or not good.any() else (~good).astype(np.int64)
    if y is not None:
        notes.append(f"Labels by folder: {int((y == 0).sum())} normal pictures, {int(y.sum())} anomalies.")
    check_enough(len(paths) if y is None else int((y == 0).sum()), least, folder, "pictures")
    return Samples(folder, "image", paths, y, names, tuple(notes))


def _passed_by(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == "ground_truth" for part in path.relative_to(folder).parts)
