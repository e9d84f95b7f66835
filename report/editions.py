"""The editions of the report and of the page "which detector when": their notebooks, and a check of the translation.

    python -m report.editions sync              # report.*.ipynb from src/report.*.py, and so on.
    python -m report.editions check             # same sections, keys, figures, tables and citations, cell by cell.
    python -m report.editions accept [CELL ...] # these cells (or all) were compared and are equivalent.
                                                # --document which_detector: cells of the other document.

Cell k of the Chinese source is the translation of cell k of the English one. Its `checked="..."` holds short hashes
of the two texts at the time of the last comparison by a person. After an edit of either text the pair is stale until
it is accepted again.
"""

import argparse
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import jupytext
import nbformat

from report import alternatives, markup

FOLDER = Path(__file__).resolve().parent
DOCUMENTS = ("report", "which_detector")
LANGUAGES = ("en", "zh")
CELL_HEAD = re.compile(r'^# %% \[markdown\](?: checked="[^"]*")?$', re.MULTILINE)


def source_path(language: str, document: str = "report") -> Path:
    return FOLDER / "src" / f"{document}.{language}.py"


def read(language: str, document: str = "report") -> nbformat.NotebookNode:
    """The notebook of an edition, made from its source; ids of cells are computed from their first lines."""
    notebook = jupytext.read(source_path(language, document), fmt="py:percent")
    names: Counter[str] = Counter()
    for cell in notebook.cells:
        name = re.sub("[^a-z0-9]+", "-", cell.source.partition("\n")[0].lower()).strip("-")[:40] or "text"
        names[name] += 1
        cell["id"] = name if names[name] == 1 else f"{name}-{names[name]}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def sync() -> None:
    """Write <document>.<language>.ipynb wherever it differs from its source."""
    for document, language in product(DOCUMENTS, LANGUAGES):
        path = FOLDER / f"{document}.{language}.ipynb"
        text = nbformat.writes(read(language, document), version=4) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8", newline="\n")


def skeleton(source: str) -> Counter[str]:
    """The parts that must be equal in both languages: sections, keys, citations, links, formulas, code, table sizes.

    Sentences with alternatives must have the same conditions in the same order, and each alternative the same parts.
    """
    parts = _parts(alternatives.BLOCK.sub("", source))
    for number, block in enumerate(alternatives.BLOCK.finditer(source), start=1):
        for condition, text in alternatives.branches(block):
            where = f"alternative {number} ({condition or 'else'})"
            parts += [where, *(f"{part} in {where}" for part in _parts(text))]
    return Counter(parts)


def _parts(source: str) -> list[str]:
    parts: list[str] = []
    for token in markup.walk(markup.parse(source)):
        match token["type"]:
            case "heading":
                level, slug = token["attrs"]["level"], token["attrs"]["slug"]
                parts.append(f"section {slug}, level {level}" if level > 1 else "title")
            case "key":
                parts.append(f"{{{{ {token['raw']} }}}}")
            case "citation":
                parts.extend(f"@{key}" for key in token["cited"])
            case "link":
                parts.append(f"link to {token['attrs']['url']}")
            case "block_math" | "block_code" | "table_row" | "table_cell" | "list_item" as kind:
                parts.append(kind.replace("_", " "))
    return parts


def fingerprint(english: str, other: str) -> str:
    return " ".join(hashlib.sha256(text.encode()).hexdigest()[:8] for text in (english, other))


def differences(english: list[nbformat.NotebookNode], other: list[nbformat.NotebookNode]) -> Iterator[str]:
    """One sentence for each pair of cells whose parts differ, or that was not compared after an edit."""
    for number, (cell, twin) in enumerate(zip(english, other), start=1):
        where = f"cell {number} ('{cell.source.strip().partition(chr(10))[0][:40]}')"
        first, second = skeleton(cell.source), skeleton(twin.source)
        if first != second:
            missing, extra = ", ".join(first - second), ", ".join(second - first)
            parts = [f"lacks {missing}" if missing else "", f"has {extra} as well" if extra else ""]
            yield f"{where}: the translation {' and '.join(filter(None, parts))}."
        now, checked = fingerprint(cell.source, twin.source), twin.metadata.get("checked", "")
        if now != checked:
            pairs = zip(("English text", "translation"), now.split(), [*checked.split(), "", ""])
            edited = " and the ".join(side for side, new, old in pairs if new != old)
            yield f"{where}: the {edited} changed since they were compared; read both, then accept {number}."
    if len(english) != len(other):
        yield f"{len(english)} cells in English, {len(other)} in the translation."


def accept(language: str, numbers: list[int], document: str = "report") -> None:
    """Write the hashes of these pairs (of all, if none are given) into the translation's source."""
    english, other = read("en", document).cells, read(language, document).cells
    path = source_path(language, document)
    text = path.read_text(encoding="utf-8")
    heads = list(CELL_HEAD.finditer(text))
    for number, head in reversed(list(enumerate(heads, start=1))):
        if number <= len(english) and (not numbers or number in numbers):
            checked = fingerprint(english[number - 1].source, other[number - 1].source)
            text = f'{text[: head.start()]}# %% [markdown] checked="{checked}"{text[head.end() :]}'
    path.write_text(text, encoding="utf-8", newline="\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m report.editions")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync", help="write the notebooks from their sources")
    commands.add_parser("check", help="print the differences between the editions; exit 1 if there are any")
    command = commands.add_parser("accept", help="record that pairs of cells were compared")
    command.add_argument("cells", type=int, nargs="*", metavar="CELL")
    command.add_argument("--document", choices=DOCUMENTS, default="report")
    options = parser.parse_args(arguments)
    if options.command == "sync":
        sync()
        return 0
    if options.command == "accept":
        for language in LANGUAGES[1:]:
            accept(language, options.cells, options.document)
        return 0
    found = [
        f"{document}.{language}: {text}"
        for document, language in product(DOCUMENTS, LANGUAGES[1:])
        for text in differences(read("en", document).cells, read(language, document).cells)
    ]
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
