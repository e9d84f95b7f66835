"""The samples that the readers of the user's tables and image folders return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .folders import CHECKOUT, data_home, user_path
from .input_files import printable
from .record import DatasetError

__all__ = ["FEWEST", "Samples", "check_enough", "find"]

FEWEST = 20  # normal samples; half of them train, half set the threshold


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of a table or an image folder, with labels, names and notes.

    Attributes
    ----------
    path : Path, the file or folder
    modality : "tabular" or "image"
    X : (n, columns) DataFrame as pandas reads it, or tuple of n image paths
    y : (n,) int64, 0 normal, 1 anomaly, or None where there are no labels
    names : (n,) array, the row in the file (the header is row 1), or the image path inside the folder
    notes : tuple of str, what was corrected, omitted or assumed; one sentence each
    """

    path: Path
    modality: str
    X: Any
    y: np.ndarray | None
    names: np.ndarray
    notes: tuple[str, ...]

    @property
    def rate(self) -> float | None:
        """Share of anomalies; None without labels."""
        return None if self.y is None else float(self.y.mean())


def find(path: str | Path) -> Path:
    """Find a path given by the user: in the current folder, in the checkout, or in the data folder.

    The last two are for notebooks, whose current folder is another one.

    Raises
    ------
    DatasetError
        The path is in none of these folders, or its name is invalid (too long, or with a NUL).
    """
    folders = [user_path(), *filter(None, [CHECKOUT]), data_home()]
    try:
        given = Path(path).expanduser()
        found = next((folder / given for folder in folders if (folder / given).exists()), None)
    except (OSError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: ~name of an unknown user
        raise DatasetError(f"{printable(path)[:200]}: cannot be read ({error}).") from error
    if found is None:
        searched = ", ".join(dict.fromkeys(map(str, folders)))
        raise DatasetError(f"{printable(path)}: no such file or folder in {searched}. Give its full path.")
    return found


def check_enough(normal: int, least: int, path: Path, what: str, note: str = "") -> None:
    """Check that there are at least ``least`` normal samples; ``note`` is the end of the message.

    Raises
    ------
    DatasetError
    """
    if normal < least:
        raise DatasetError(
            f"{printable(path)}: {normal} normal {what}; at least {least} are needed, half to fit a detector and "
            f"half to set the threshold. {note}".rstrip()
        )
