"""Paths: the folder of the project, and the folders below it to which the course writes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from mmad_utils.datasets.folders import CHECKOUT

if CHECKOUT is None:
    raise ImportError(
        "mmad_utils.course serves the notebooks and needs the repository that holds them: clone it and run "
        "`make lab` there. All other parts of mmad_utils work without it."
    )
ROOT: Path = CHECKOUT


def build_home() -> Path:
    """The folder of everything that is built: ``build/``, or the user's cache where the project is read-only."""
    build = ROOT / "build"
    return build if is_writable(build) else user_cache_path("mmad") / "build"


def is_writable(folder: Path) -> bool:
    """Whether a file can be created in ``folder``, or in the nearest folder above it that exists."""
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def output_folder(profile: str = "default") -> Path:
    """The folder of the results of a profile: $MMAD_OUTPUT, else ``build/<profile>``."""
    return Path(os.environ.get("MMAD_OUTPUT") or build_home() / profile).absolute()
