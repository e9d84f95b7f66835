"""The reference of the library, from its docstrings: one page per package, written by Sphinx with numpydoc.

    python -m report.reference    # build/default/report/reference/index.html

Pages load only local files; their theme is pydata-sphinx-theme, as in scikit-learn.
"""

import argparse
import ast
import io
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mmad_utils
from mmad_utils.course import project
from mmad_utils.files import remove

PACKAGE = Path(mmad_utils.__file__).parent
PACKAGES = ("datasets", "encoders", "detectors", "multimodal")  # `course` serves the notebooks only
ROUTED = ("fit", "partial_fit", "predict", "decision_function", "score", "transform", "inverse_transform")
INITIAL = re.compile(r"^(\s*)([A-Z]\.[ -])")
CONFIGURATION = {
    "project": "mmad",
    "extensions": ["sphinx.ext.autodoc", "numpydoc"],
    "root_doc": "index",
    "html_theme": "pydata_sphinx_theme",
    "html_title": "mmad",
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_theme_options": {
        "show_prev_next": False,
        "secondary_sidebar_items": ["page-toc"],
        "navbar_end": ["theme-switcher"],
        "footer_start": [],
        "footer_end": [],
        "logo": {"text": "mmad reference", "link": "../index.html"},
    },
    "html_context": {"default_mode": "auto"},
    "default_role": "py:obj",
    "add_module_names": False,
    "autodoc_typehints": "none",
    "autodoc_member_order": "bysource",
    "autodoc_default_options": {
        "members": True,
        "show-inheritance": True,
        "exclude-members": ", ".join(f"set_{method}_request" for method in ROUTED),
    },
    "numpydoc_show_class_members": False,
    "numpydoc_xref_param_type": False,
    "pygments_style": "default",
    "toc_object_entries_show_parents": "hide",
}


def modules(folder: Path) -> list[str]:
    """Names of the public modules in a folder of the package, ``detectors.padim``."""
    found = sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))
    return [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in found]


def summary(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def heading(words: str, line: str) -> str:
    return f"{words}\n{line * len(words)}\n\n"


def page(title: str, introduction: str, names: list[str]) -> str:
    """The source of one page: every public class and function of its modules."""
    parts = [heading(title, "="), introduction, "\n\n"]
    for name in names:
        parts += [heading(name, "-"), f".. automodule:: mmad_utils.{name}\n\n"]
    return "".join(parts)


def sources(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The sources of all pages, by name without extension."""
    pages = {
        "core": page("mmad_utils", "Base classes, training, networks, thresholds and metrics.", modules(PACKAGE))
    }
    for package in packages:
        folder = PACKAGE / package
        pages[package] = page(f"mmad_utils.{package}", summary(folder / "__init__.py"), modules(folder))
    listed = "\n".join(f"   {name}" for name in pages)
    classes = "\n".join(
        f"   * - :py:obj:`~{found.partition('#')[2]}`\n     - :doc:`{found.partition('.')[0]}`"
        for found in map(address, mmad_utils.__all__)
        if found.partition(".")[0] in pages
    )
    pages["index"] = (
        heading("Reference of mmad_utils", "=")
        + "Every class of the table below can be imported from ``mmad_utils``.\n\n"
        + f".. toctree::\n   :maxdepth: 2\n\n{listed}\n\n"
        + f".. list-table::\n   :header-rows: 1\n\n   * - class\n     - page\n{classes}\n"
    )
    return pages


def address(name: str) -> str:
    """The page and anchor of an exported name, ``detectors.html#mmad_utils.detectors.padim.PaDiM``."""
    module = getattr(mmad_utils, name).__module__
    package = module.split(".")[1]
    return f"{package if package in PACKAGES else 'core'}.html#{module}.{name}"


def separate_references(app, what, name, obj, options, lines: list[str]) -> None:
    """Make each reference of a docstring a paragraph of its own; Sphinx calls this for all docstrings.

    A line that begins with an initial is the first one of a reference if the line above ends with a full stop.
    Without a backslash, "G." would be the seventh item of a list.
    """
    for i in reversed(range(len(lines))):
        if INITIAL.match(lines[i]):
            lines[i] = INITIAL.sub(r"\1\\\2", lines[i])
            if i and lines[i - 1].endswith("."):
                lines.insert(i, "")


def build(target: Path, packages: Sequence[str] = PACKAGES) -> Path:
    """Write the pages of the packages into ``target``, which is replaced; returns the first page.

    Raises
    ------
    RuntimeError
        If Sphinx warns: a docstring is malformed.
    """
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    remove(target)
    warnings = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, patch_docutils(), docutils_namespace():
        source = Path(folder, "source")
        source.mkdir()
        for name, text in sources(packages).items():
            (source / f"{name}.rst").write_text(text, encoding="utf-8")
        trees = Path(folder, "trees")
        app = Sphinx(source, None, target, trees, "html", CONFIGURATION, status=None, warning=warnings)
        app.connect("autodoc-process-docstring", separate_references, priority=400)  # before numpydoc
        app.build()
    if warnings.getvalue():
        raise RuntimeError(warnings.getvalue())
    return target / "index.html"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m report.reference", description="Write the library's reference.")
    parser.add_argument("--output", type=Path, help="folder that gets index.html")
    options = parser.parse_args(arguments)
    try:
        build(options.output or project.output_folder() / "report" / "reference")
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
