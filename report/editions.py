"""The notebooks of the report's editions, each made from its percent-format source.

python -m report.editions sync
"""

import argparse
import re
import sys
from collections import Counter
from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).resolve().parent
LANGUAGES = ("en",)


def source_path(language: str) -> Path:
    return FOLDER / "src" / f"report.{language}.py"


def read(language: str) -> nbformat.NotebookNode:
    """The edition as its source says it, each cell named for its first line: the same source, the same notebook."""
    notebook = jupytext.read(source_path(language), fmt="py:percent")
    names: Counter[str] = Counter()
    for cell in notebook.cells:
        name = re.sub("[^a-z0-9]+", "-", cell.source.partition("\n")[0].lower()).strip("-")[:40] or "text"
        names[name] += 1
        cell["id"] = name if names[name] == 1 else f"{name}-{names[name]}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def sync() -> None:
    """Write report.<language>.ipynb wherever it differs from its source."""
    for language in LANGUAGES:
        path = FOLDER / f"report.{language}.ipynb"
        text = nbformat.writes(read(language), version=4) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m report.editions", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="write the notebooks from their sources")
    parser.parse_args(arguments)
    sync()
    return 0


if __name__ == "__main__":
    sys.exit(main())
