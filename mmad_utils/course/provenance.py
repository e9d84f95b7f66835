"""What made a notebook's results: hashes of its files, and whether recorded results are still those of the files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmad_utils.course import project
from mmad_utils.course.notebook_files import defaults
from mmad_utils.course.results import read


def current_provenance(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hashes of what makes a notebook's results, as the files are now (all but the data, known when loaded).

    Returns
    -------
    dict
        ``notebook_source``, ``mmad_utils``, ``lock`` (sha256, hexadecimal), ``parameters``.
    """
    modules = hashlib.sha256()
    for path in sorted((project.ROOT / "mmad_utils").rglob("*.py")):
        modules.update(f"{path.relative_to(project.ROOT).as_posix()}\0{_sha256(path)}\n".encode())
    return {
        "notebook_source": _sha256(project.ROOT / "notebooks" / "src" / f"{name}.py"),
        "mmad_utils": modules.hexdigest(),
        "lock": _sha256(project.ROOT / "requirements.lock"),
        "parameters": dict(parameters),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stale_reasons(name: str) -> list[str]:
    """Why the committed results of a notebook are not those of the files as they are now; empty if they are.

    Compared are the hashes of its source, of `mmad_utils` and of the lock file, and the parameters. The data of
    the default profile follow from these.
    """
    path = project.ROOT / "report" / "results" / f"{name}.json"
    if not path.exists():
        return [f"{path} is missing"]
    recorded = read(path)["provenance"]
    current = current_provenance(name, defaults(name))
    return [f"{path} was made with another {key}" for key in sorted(current) if recorded.get(key) != current[key]]
