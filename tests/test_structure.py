"""The modules import one another in one direction only."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import mmad_utils

PACKAGE = Path(mmad_utils.__file__).parent
# From the ground up; a module may import from its own floor and from those below.
FLOORS = [
    {"files", "detector", "training", "networks", "thresholds"},
    {"datasets"},
    {"encoders"},
    {"detectors"},
    {"multimodal"},
    {"metrics", "pixel_metrics", "plots", "runs", "benchmark", "ranking", "calibrated", "score"},
    {"course"},
]
# The list of exported classes, which a saved file may name and a command line may ask for.
WHOLE_PACKAGE = {"detector", "benchmark"}


def modules():
    """Name below ``mmad_utils`` -> path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports_of(name):
    """Modules of the package that a module imports, at its top or inside a function."""
    folder = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("mmad_utils").lstrip(".") for alias in node.names if ours(alias.name))
        elif isinstance(node, ast.ImportFrom) and (node.level or ours(node.module)):
            base = ".".join(filter(None, [folder if node.level else "", node.module or ""]))
            base = base.removeprefix("mmad_utils").lstrip(".")
            names = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            yield from (full if full in MODULES else base for full in names)


def ours(module):
    return module.split(".")[0] == "mmad_utils"


def floor(name):
    return next((number for number, rooms in enumerate(FLOORS) if name.split(".")[0] in rooms), None)


GRAPH = {name: set(imports_of(name)) - {name} for name in MODULES if name}


def test_every_module_has_a_floor():
    assert [name for name in GRAPH if floor(name) is None] == []


def test_imports_form_no_circle():
    graph = {name: {other for other in imported if other} for name, imported in GRAPH.items()}
    packages = {name for name in MODULES if MODULES[name].name == "__init__.py"}
    for name, imported in graph.items():  # a package's face hands on what lies below it
        imported -= {package for package in packages if name.startswith(f"{package}.")}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError and names the circle
    assert len(order) >= len(GRAPH)


def test_no_import_runs_up():
    upward = [
        (name, other)
        for name, imported in GRAPH.items()
        for other in imported
        if other and floor(other) > floor(name)
    ]
    assert upward == []


def test_only_the_list_of_exported_classes_needs_the_whole_package():
    assert {name for name, imported in GRAPH.items() if "" in imported} == WHOLE_PACKAGE


def test_few_files_lie_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= 14
