"""Provenance of a notebook's results: hashes of its inputs, and a check whether recorded results are up to date.

Results depend on the notebook's source, its parameters, its data, the lock file and the modules of ``mmad_utils``
that its kernel loaded. They do not depend on the other modules.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmad_utils.course import notebook_files, project
from mmad_utils.course.results import ResultsError, read

PACKAGE = "mmad_utils"


def loaded_modules() -> list[str]:
    """Names of the modules of ``mmad_utils`` that this process has loaded, sorted."""
    return sorted(name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}."))


def module_hashes(modules: Iterable[str]) -> dict[str, str | None]:
    """The sha256 of each module's file, None if the file does not exist."""
    return {name: _sha256(path) if (path := _module_path(name)) else None for name in modules}


def current_provenance(name: str, parameters: Mapping[str, Any], modules: Iterable[str] = ()) -> dict[str, Any]:
    """The current provenance of a notebook, without the data, whose hash is known when they are loaded.

    Returns
    -------
    dict
        ``notebook_source``, ``captions``, ``lock`` (sha256, hexadecimal), ``parameters``, ``modules``
        (sha256 by module name).
    """
    return {
        "notebook_source": _sha256(notebook_files.source_path(name)),
        "captions": _sha256(path) if (path := notebook_files.captions_path(name)).is_file() else None,
        "lock": _sha256(project.ROOT / "requirements.lock"),
        "parameters": dict(parameters),
        "modules": module_hashes(modules),
    }


def stale_reasons(name: str, profile: str = "default", output: Path | None = None) -> list[str]:
    """Reasons why the results of a notebook are not up to date; empty if they are.

    Parameters
    ----------
    name : str
        The notebook's name without extension.
    profile : str
        It defines the parameters with which the results must have been made.
    output : path, optional
        The folder that holds ``results``; default: the one of the profile.

    Returns
    -------
    list of str
        One sentence per reason. The data are determined by the parameters and the modules, and are not checked.
    """
    path = (output or project.output_folder(profile)) / "results" / f"{name}.json"
    if not path.exists():
        return [f"{path} is missing"]
    try:
        recorded = read(path)["provenance"]
    except ResultsError as error:
        return [str(error)]
    made_with = recorded.get("modules", {})
    current = current_provenance(name, notebook_files.parameter_values(name, profile), made_with)
    changed = [module for module in sorted(made_with) if made_with[module] != current["modules"][module]]
    others = sorted(key for key in current if key != "modules" and recorded.get(key) != current[key])
    return [f"{path} was made with another {what}" for what in [*others, *changed]]


def refresh_state(name: str, profile: str) -> Path:
    """Update the file that Snakemake compares: it changes if and only if the results of a notebook are stale.

    Returns
    -------
    Path
        ``build/<profile>/state/<name>``.
    """
    folder = project.build_home() / profile
    results, state = folder / "results" / f"{name}.json", folder / "state" / name
    reasons = stale_reasons(name, profile, folder)
    if not reasons:
        state.parent.mkdir(parents=True, exist_ok=True)
        state.touch()
        before = results.stat().st_mtime - 1
        os.utime(state, (before, before))
        return state
    now = current_provenance(name, notebook_files.parameter_values(name, profile), _all_modules())
    text = json.dumps([reasons, now], indent=1, sort_keys=True)
    if not state.exists() or state.read_text(encoding="utf-8") != text:
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(text, encoding="utf-8")
    return state


def _module_path(name: str) -> Path | None:
    base = project.ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _all_modules() -> list[str]:
    paths = sorted((project.ROOT / PACKAGE).rglob("*.py"))
    return [".".join(path.relative_to(project.ROOT).with_suffix("").parts) for path in paths]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
