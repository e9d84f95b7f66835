"""Notebook files: their parameters and the checks of these, and the pair of .ipynb and percent-format source.

A notebook `notebooks/NAME.ipynb` (no outputs) is paired with `notebooks/src/NAME.py`. One cell is tagged
`parameters`. It holds typed literals with comments, ``seed: int = 0  # of every random draw``, which are the default
profile. If a comment contains ``at least 2``, smaller values raise an error.
`python -m mmad_utils.course check` runs `problems`; `sync` makes each pair equal; `student` writes copies
without solutions.
"""

from __future__ import annotations

import ast
import difflib
import fnmatch
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import jupytext
import nbformat
import yaml
from jupytext.combine import combine_inputs_with_outputs
from jupytext.config import load_jupytext_config, notebook_formats
from jupytext.paired_paths import InconsistentPath, paired_paths

from mmad_utils.course import project
from mmad_utils.course.exercises import exercise_problems, is_check, is_solution, student_copy

MAXIMAL_CELL_LINES = 15  # longest cell that fits on a screen together with its text
RECORDING = ("nb.value", "nb.table", "nb.finish")  # calls that are allowed in the cell tagged "results" only
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LEAST = re.compile(r"#.*\bat least (\d+(?:\.\d+)?)")  # of a parameter, in its comment
SCALARS: dict[str, Any] = {"int": int, "float": (float, int), "str": str, "bool": bool}


class NotebookError(ValueError):
    """A notebook or a parameter is invalid, or the execution of a notebook failed."""


@dataclass(frozen=True)
class Parameter:
    """One line of the parameters cell."""

    annotation: ast.expr
    default: Any
    commented: bool
    minimum: float | None = None

    def accepts(self, value: Any) -> bool:
        """Whether the value is of the annotated type; an int is accepted as a float."""
        return _is_of_type(value, self.annotation)


def _is_of_type(value: Any, annotation: ast.expr) -> bool:
    """Whether a plain value fits an annotation made of int, float, str, bool, None, list[...], dict and |."""
    match annotation:
        case ast.Name(id="dict"):
            return isinstance(value, dict)
        case ast.Name(id=name) if name in SCALARS:
            return isinstance(value, SCALARS[name]) and (name == "bool" or not isinstance(value, bool))
        case ast.Constant(value=None):
            return value is None
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _is_of_type(value, left) or _is_of_type(value, right)
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return isinstance(value, list) and all(_is_of_type(element, item) for element in value)
    raise NotebookError(
        f"{ast.unparse(annotation)!r} is not a type of a parameter; "
        "use int, float, str, bool, list[...], dict or a union of them with None."
    )


def notebook_path(name: str) -> Path:
    return project.ROOT / "notebooks" / f"{name}.ipynb"


def source_path(name: str) -> Path:
    return project.ROOT / "notebooks" / "src" / f"{name}.py"


def captions_path(name: str) -> Path:
    return project.ROOT / "notebooks" / "captions" / f"{name}.yaml"


def captions(name: str) -> dict[str, dict[str, dict[str, str]]]:
    """The texts of a notebook's figures (``caption``, ``alt``) and tables (``caption``), by kind and id.

    Raises
    ------
    NotebookError
        If the file is missing or of another form.
    """
    path = captions_path(name)
    content = _read_yaml(path) if path.is_file() else None
    expected = {"figures": {"caption", "alt"}, "tables": {"caption"}}
    if not isinstance(content, dict) or set(content) - set(expected):
        raise NotebookError(
            f"{path}: expected 'figures: {{ID: {{caption, alt}}}}' and 'tables: {{ID: {{caption}}}}'."
        )
    for kind, keys in expected.items():
        for id, texts in (content.setdefault(kind, {}) or {}).items():
            if (
                not isinstance(texts, dict)
                or set(texts) != keys
                or not all(isinstance(t, str) for t in texts.values())
            ):
                raise NotebookError(f"{path}: {kind}, {id}: expected the texts {', '.join(sorted(keys))}.")
        content[kind] = content[kind] or {}
    return content


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise NotebookError(f"{path} is not YAML: {error}") from None


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """An .ipynb or percent-format file as a notebook."""
    try:
        if path.suffix == ".py":
            return jupytext.read(path, fmt="py:percent")
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        names = sorted(other.stem for other in path.parent.glob(f"*{path.suffix}"))
        raise NotebookError(f"there is no notebook {path}.{_nearest(path.stem, names)}") from None
    except Exception as error:  # nbformat and jupytext raise many types for an unreadable file
        raise NotebookError(f"{path} is not a readable notebook: {error}") from error


def _nearest(name: str, names: Iterable[str]) -> str:
    """A sentence with the nearest known name."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(names) or 'none'}."


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _parse(cell: nbformat.NotebookNode, where: str) -> ast.Module:
    try:
        return ast.parse(cell.source)
    except SyntaxError as error:
        raise NotebookError(f"{where}, line {error.lineno}: not plain Python ({error.msg}).") from None


def parameters_of(notebook: nbformat.NotebookNode, name: str) -> dict[str, Parameter]:
    """The parameters of a notebook, in the order of its parameters cell.

    Raises
    ------
    NotebookError
        If not exactly one cell is tagged ``parameters``, or it holds anything but ``name: type = literal``.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in _tags(cell)]
    if len(tagged) != 1:
        raise NotebookError(
            f"{name}: {len(tagged)} cells are tagged 'parameters', there must be one. "
            'Give the cell that holds the parameters the tag ("# %% tags=["parameters"]" in the source).'
        )
    parameters = {}
    lines = tagged[0].source.splitlines()
    for node in _parse(tagged[0], f"{name}, parameters cell").body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=key), annotation=annotation, value=ast.expr() as literal):
                pass
            case _:
                raise NotebookError(
                    f"{name}, parameters cell, line {node.lineno}: "
                    f"{ast.unparse(node)!r} is not of the form 'name: type = value  # comment'."
                )
        try:
            default = ast.literal_eval(literal)
        except ValueError:
            raise NotebookError(f"{name}: parameter {key!r} must be a literal value.") from None
        last = (node.end_lineno or node.lineno) - 1
        above = lines[node.lineno - 2] if node.lineno > 1 else ""
        commented = "#" in lines[last][node.end_col_offset :] or above.lstrip().startswith("#")
        least = LEAST.search(lines[last][node.end_col_offset :])
        parameters[key] = Parameter(annotation, default, commented, float(least[1]) if least else None)
        check_values({key: default}, parameters, f"{name}, parameters cell")
    return parameters


def defaults(name: str) -> dict[str, Any]:
    """The values of the parameters cell: the default profile."""
    source = read_notebook(source_path(name))
    return {key: parameter.default for key, parameter in parameters_of(source, name).items()}


def parameter_values(name: str, profile: str) -> dict[str, Any]:
    """Every parameter of a notebook with its value in a profile."""
    return {**defaults(name), **changed_values(name, profile)}


def changed_values(name: str, profile: str) -> dict[str, Any]:
    """The parameters that a profile sets; those of $MMAD_SET take precedence."""
    return {**profile_values(profile).get(name, {}), **overrides(name)}


def check_values(values: Mapping[str, Any], parameters: Mapping[str, Parameter], where: str) -> None:
    """Check that parameters are known, have the right type, and are not below their minimum.

    Raises
    ------
    NotebookError
        With the nearest known name, or with the expected and the given type.
    """
    for key, value in values.items():
        if key not in parameters:
            raise NotebookError(f"{where}: there is no parameter {key!r}.{_nearest(key, parameters)}")
        if not parameters[key].accepts(value):
            expected = ast.unparse(parameters[key].annotation)
            raise NotebookError(
                f"{where}: parameter {key!r} takes {expected}, got {value!r} ({type(value).__name__})."
            )
        minimum = parameters[key].minimum
        if minimum is not None and isinstance(value, int | float) and value < minimum:
            raise NotebookError(f"{where}: parameter {key!r} is at least {minimum:g}, got {value!r}.")


def unread_parameters(notebook: nbformat.NotebookNode, name: str) -> list[str]:
    """Parameters that no code cell reads."""
    read: set[str] = set()
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and "parameters" not in _tags(cell):
            nodes = ast.walk(_parse(cell, f"{name}, cell {number}"))
            read |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return [key for key in parameters_of(notebook, name) if key not in read]


def _is_start(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "notebook.start"


def check_parameters(notebook: nbformat.NotebookNode, name: str, values: Mapping[str, Any]) -> None:
    """Check the parameters before a kernel starts; raises `NotebookError`."""
    check_values(values, parameters_of(notebook, name), name)
    unread = unread_parameters(notebook, name)
    if unread:
        raise NotebookError(f"{name}: no code cell reads parameter {unread[0]!r}; use it or remove it.")


def value_from_text(text: str, parameter: Parameter | None) -> Any:
    """A value of the command line, converted to the parameter's type: 3, 1e-3, true, words, [a, b]."""
    if parameter is not None and parameter.accepts(text):
        return text
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        listed = text.startswith("[") and text.endswith("]")
        return [part.strip() for part in text[1:-1].split(",")] if listed else text


def overrides(name: str) -> dict[str, Any]:
    """The parameters of a notebook that `make report SET=...` sets: $MMAD_SET has a line ``key=value`` for each."""
    lines = os.environ.get("MMAD_SET", "").splitlines()
    known = parameters_of(read_notebook(source_path(name)), name) if lines else {}
    given = dict(line.partition("=")[::2] for line in lines)
    return {key: value_from_text(text, known[key]) for key, text in given.items() if key in known}


def check_overrides(names: Iterable[str]) -> None:
    """Check that every parameter in $MMAD_SET exists in a notebook, and that its value is valid.

    Raises
    ------
    NotebookError
        The parameter is in no notebook, or its value is not valid.
    """
    known = {name: parameters_of(read_notebook(source_path(name)), name) for name in names}
    every = {key for parameters in known.values() for key in parameters}
    for line in os.environ.get("MMAD_SET", "").splitlines():
        key, sign, _ = line.partition("=")
        if not sign:
            raise NotebookError(f"SET={line!r}: expected PARAMETER=VALUE, several with a space between them.")
        if key not in every:
            raise NotebookError(f"SET={line!r}: no notebook has a parameter {key!r}.{_nearest(key, sorted(every))}")
    for name, parameters in known.items():
        check_values(overrides(name), parameters, f"SET, {name}")


def profile_values(profile: str) -> dict[str, dict[str, Any]]:
    """``profiles/<profile>.yaml``: for each notebook the parameters that differ from its own."""
    path = project.ROOT / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        names = sorted(other.stem for other in path.parent.glob("*.yaml"))
        raise NotebookError(f"there is no profile {path}.{_nearest(profile, names)}")
    content = _read_yaml(path)
    if not isinstance(content, dict) or not all(isinstance(values, dict) for values in content.values()):
        raise NotebookError(f"{path}: expected 'NOTEBOOK: {{parameter: value}}' for each notebook.")
    return content


def first_difference(name: str) -> str | None:
    """The first difference between the notebook and its source, or None."""
    pair = [read_notebook(source_path(name)), read_notebook(notebook_path(name))]
    cells = [[(c.cell_type, c.source.strip(), sorted(_tags(c))) for c in notebook.cells] for notebook in pair]
    for number, (source, executed) in enumerate(zip(*cells), start=1):
        if source != executed:
            return f"cell {number}"
    lengths = [len(part) for part in cells]
    return None if lengths[0] == lengths[1] else f"cell {min(lengths) + 1}"


def is_paired(name: str) -> bool:
    """Whether jupytext pairs the notebook with ``notebooks/src/<name>.py``; JupyterLab then saves both.

    The pairs follow from ``[tool.jupytext]`` in pyproject.toml, or from a setting in the notebook's own metadata.
    """
    path = str(notebook_path(name))
    formats = notebook_formats(read_notebook(notebook_path(name)), load_jupytext_config(path), path)
    try:
        paired = paired_paths(path, {"extension": ".ipynb"}, formats)
    except InconsistentPath:
        return False
    return str(source_path(name)) in [other for other, _ in paired]


def require_in_step(name: str) -> None:
    """Raise `NotebookError` if the notebook and its source differ."""
    difference = first_difference(name)
    if difference:
        raise NotebookError(
            f"{name}: the notebook and notebooks/src/{name}.py differ in {difference}; run `make notebooks`."
        )


def sync(name: str) -> str | None:
    """Make notebook and source equal, with the content of the file saved last; returns what was written."""
    notebook, source = notebook_path(name), source_path(name)
    if notebook.exists() and source.exists() and first_difference(name) is None:
        return None
    if not source.exists() or (notebook.exists() and notebook.stat().st_mtime > source.stat().st_mtime):
        jupytext.write(read_notebook(notebook), source, fmt="py:percent")
        return f"{source.name} written from {notebook.name}"
    combined = read_notebook(source)
    combined.metadata["kernelspec"] = KERNEL
    if notebook.exists():  # keeps the ids of unchanged cells
        combined = combine_inputs_with_outputs(combined, read_notebook(notebook), fmt="ipynb")
    nbformat.write(combined, notebook)
    return f"{notebook.name} written from {source.name}"


def write_student_copy(name: str, claims: bool = False) -> str:
    """Write ``build/student/<name>.ipynb``, the notebook without solutions, unless it exists; returns what was done.

    The glossary, to which it links, is copied to the same folder. With ``claims`` the copy also has the cells that
    check statements.
    """
    path = project.build_home() / "student" / f"{name}.ipynb"
    if path.exists():
        return f"{path} kept as it is; delete it for a fresh one"
    require_in_step(name)
    notebook = read_notebook(notebook_path(name))
    for problem in exercise_problems(notebook):
        raise NotebookError(f"{name}: {problem}")
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(student_copy(notebook, claims), path)
    shutil.copy(project.ROOT / "notebooks" / "glossary.md", path.parent)
    return f"{path} written"


def problems() -> Iterator[str]:
    """All problems of the notebooks and profiles, one sentence each."""
    names = profile_values("default")
    files = {
        path.stem for path in [*notebook_path("x").parent.glob("*.ipynb"), *source_path("x").parent.glob("*.py")]
    }
    for name in sorted(files - names.keys()):
        yield f"{name} is not listed in profiles/default.yaml"
    for name in names:
        try:
            yield from _problems_of(name)
        except NotebookError as error:
            yield str(error)


def _problems_of(name: str) -> Iterator[str]:
    notebook = read_notebook(notebook_path(name))
    for profile in sorted(path.stem for path in (project.ROOT / "profiles").glob("*.yaml")):
        values = profile_values(profile).get(name, {})
        check_parameters(notebook, f"{name}, profile {profile}", values)
        if profile == "default" and values:
            yield f"{name}: profiles/default.yaml must leave the parameters to the notebook's own cell"
    if notebook.metadata.get("kernelspec", {}).get("name") != KERNEL["name"]:
        yield f"{name}: papermill needs the kernel {KERNEL['name']!r} in the metadata; run `make notebooks`"
    if not is_paired(name):
        yield (
            f"{name}: jupytext does not pair the notebook with notebooks/src/{name}.py; set formats in "
            "[tool.jupytext] of pyproject.toml and remove the key jupytext.formats from the notebook's metadata"
        )
    for key, parameter in parameters_of(notebook, name).items():
        if not parameter.commented:
            yield f"{name}: parameter {key!r} has no comment"
    saved = json.loads(notebook_path(name).read_text(encoding="utf-8"))
    ids = [
        cell.get("id") for cell in saved["cells"]
    ]  # from the file itself, because nbformat repairs them on reading
    if None in ids or len(set(ids)) < len(ids):
        yield f"{name}: every cell needs an id of its own (nbformat 4.5)"
    starts = []
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue
        nodes = list(ast.walk(_parse(cell, f"{name}, cell {number}")))
        starts += [node for node in nodes if _is_start(node)]
        if cell.outputs or cell.execution_count is not None:
            yield f"{name}, cell {number}: clear the outputs before committing"
        yield from (f"{name}, cell {number}: {problem}" for problem in _problems_of_cell(cell, nodes))
    if [ast.unparse(argument) for start in starts for argument in start.args] != [repr(name)]:
        yield f"{name}: expected one call notebook.start({name!r})"
    last = [cell for cell in notebook.cells if cell.cell_type == "code"][-1]
    if [cell for cell in notebook.cells if "results" in _tags(cell)] != [last]:
        yield f"{name}: expected one cell tagged 'results', the last one with code"
    yield from (f"{name}: {problem}" for problem in exercise_problems(notebook))
    yield from _caption_problems(name, notebook)
    difference = first_difference(name)
    if difference:
        yield f"{name}: the notebook and notebooks/src/{name}.py differ in {difference}; run `make notebooks`"


def _problems_of_cell(cell: nbformat.NotebookNode, nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The problems of a code cell for readers of the notebook."""
    if not is_check(cell) and len(cell.source.splitlines()) > MAXIMAL_CELL_LINES:
        yield f"more than {MAXIMAL_CELL_LINES} lines of code"
    asserts = any(isinstance(node, ast.Assert) for node in nodes)
    if asserts and not (is_check(cell) or is_solution(cell)):
        yield "tag a cell that checks a statement 'claim'"
    calls = {ast.unparse(node.func) for node in nodes if isinstance(node, ast.Call)}
    for call in sorted(calls & set(RECORDING)):
        if "results" not in _tags(cell):
            yield f"move {call}(...) to the cell tagged 'results'"


def _caption_problems(name: str, notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Captions without their figure or table, and figures or tables without a caption."""
    written = captions(name)
    unused = {(kind, id) for kind, texts in written.items() for id in texts}
    for cell in notebook.cells:
        for node in ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ():
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="nb"), attr="figure" | "table" as method)):
                    given = {word.arg: word.value for word in node.keywords}
                    id = given.get("texts", node.args[1])
                case _:
                    continue
            parts = id.values if isinstance(id, ast.JoinedStr) else [id]
            pattern = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
            found = {(f"{method}s", other) for other in fnmatch.filter(written[f"{method}s"], pattern)}
            if not found:
                yield f"{name}: {method} {pattern!r} has no entry in {captions_path(name).name}"
            unused -= found
    yield from (f"{name}: {captions_path(name).name}, {kind}: {id!r} is not used" for kind, id in sorted(unused))
