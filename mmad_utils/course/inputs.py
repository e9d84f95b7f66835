"""Check the inputs of a profile's notebooks before a run: data sets, files and weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mmad_utils.course import notebook_files
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.datasets import DatasetError, concrete_names, data_home, describe, load, user_files
from mmad_utils.datasets.download import fetch
from mmad_utils.datasets.record import FilesMissingError


def require_inputs(names: Iterable[str], profile: str) -> None:
    """Read every data set and load every backbone that a parameter of the notebooks names; download missing ones.

    Raises
    ------
    NotebookError
        One message with all missing or damaged inputs, the parameters that name them, and the remedy.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    for name in names:
        source = notebook_files.read_notebook(notebook_files.source_path(name))
        parameters = notebook_files.parameters_of(source, name)
        for key, value in notebook_files.parameter_values(name, profile).items():
            for kind, text in _inputs(key, value, parameters[key].default):
                wanted.setdefault((kind, text), []).append(f"{name}.{key}")
    problems = []
    for (kind, text), places in wanted.items():
        error = _problem(kind, text)
        if error:
            problems.append(f"{text} ({', '.join(places)}): {error}")
    if problems:
        remedy = 'Or give the parameter another value, as in make report SET="other_images=textures/brick".'
        raise NotebookError("\n\n".join([f"The profile {profile!r} needs what is not here:", *problems, remedy]))


def _inputs(key: str, value: Any, default: Any) -> Iterator[tuple[str, str]]:
    """Kind and name of the input that a parameter names: a data set, a file or a backbone, by its default."""
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str) or not text:
            continue
        if key == "backbone":
            yield "backbone", text
        elif key in ("csv", "images"):
            yield key, text
        elif _is_data_set(default[0] if isinstance(default, list) and default else default) or _is_data_set(text):
            yield "data set", text


def _is_data_set(text: Any) -> bool:
    try:
        describe(text, data_home())
    except DatasetError:
        return False
    return True


def _problem(kind: str, text: str) -> str:
    """The reason why an input cannot be used, or None."""
    from mmad_utils.encoders.backbones import BackboneError
    from mmad_utils.encoders.image import ImageEncoder

    try:
        match kind:
            case "backbone":
                ImageEncoder(text)
            case "csv" | "images":
                user_files.find(text)
            case _:
                _read(text)
    except (BackboneError, DatasetError) as error:
        return str(error)
    return ""


def _read(name: str) -> None:
    """Load a data set, and download it first if its files are missing; data sets without files are not checked."""
    entry = describe(name, data_home())
    if name.startswith("injected/"):
        return _read(name.split("/", 2)[2])
    if not entry["layout"]:  # generated or embedded: always available
        if name not in concrete_names(data_home()):
            raise DatasetError("there is no such data set.")
        return None
    try:
        load(name)
    except FilesMissingError:
        if not entry["fetch"]:
            raise
        fetch(name, data_home())
        load(name)
    return None
