"""Samples of one's own, as the readers of tables and of image folders return them."""

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
    """What was read.

    Attributes
    ----------
    path : Path, the file or folder
    modality : "tabular" or "image"
    X : (n, columns) DataFrame as pandas reads it, or tuple of n image paths
    y : (n,) int64, 0 normal, 1 anomaly, or None where there are no labels
    names : (n,) array, the row in the file (the header is row 1), or the picture's path inside the folder
    notes : tuple of str, what was mended, left out or assumed; one sentence each
    """

    path: Path
    modality: str
    X: Any
    y: np.ndarray | None
    names: np.ndarray
    notes: tuple[str, ...]

    @property
    def rate(self) -> float | None:
        """Share of the anomalies, None without labels."""
        return None if self.y is None else float(self.y.mean())


def find(path: str | Path) -> Path:
    """A path of the user's: as given, or inside the project or the folder of the data, for a notebook runs elsewhere.

    Raises
    ------
    DatasetError
        It is in none of them, or its name is none (a NUL in it, too long).
    """
    folders = [user_path(), *filter(None, [CHECKOUT]), data_home()]
    try:
        given = Path(path).expanduser()
        found = next((folder / given for folder in folders if (folder / given).exists()), None)
    except (OSError, TypeError, ValueError, RuntimeError) as error:  # RuntimeError: ~name of nobody
        raise DatasetError(f"{printable(path)[:200]}: cannot be read ({error}).") from error
    if found is None:
        searched = ", ".join(map(str, folders))
        raise DatasetError(f"{printable(path)}: no such file or folder in {searched}. Give its whole path.")
    return found


def check_enough(normal: int, least: int, path: Path, what: str, note: str = "") -> None:
    """Refuse fewer than ``least`` normal samples; ``note`` ends the message.

    Raises
    ------
    DatasetError
    """
    if normal < least:
        raise DatasetError(
            f"{printable(path)}: {normal} normal {what}; at least {least} are needed, half to learn from and half to "
            f"set a threshold. {note}".rstrip()
        )
