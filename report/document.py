"""A report as a document: its numbering, its cross-references, and its HTML.

`Report.collect` walks the Markdown of every cell once, numbers what it places and notes what is wrong;
`Report.check` raises all of it at once; `Report.html` then writes each cell.
"""

import base64
import difflib
import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mistune
from nbconvert.utils.exceptions import ConversionException
from pybtex.backends.html import Backend
from pybtex.database import parse_file
from pybtex.style.formatting.unsrt import Style

from mmad_utils.notebook import defaults
from mmad_utils.notebook_files import NotebookError
from mmad_utils.results import DOTS_PER_INCH, ResultsError, current_provenance, read
from report import markup

PLACED = ("figure", "table", "contents", "references")  # keys that stand alone in a paragraph
WORDS = {
    "en": {
        "figure": "Figure",
        "table": "Table",
        "section": "Section",
        "contents": "Contents",
        "skip": "Skip to the text",
        "source": "Source: notebook",
        "numbers": "numbers in",
        "computed": "Computed by",
        "unnumbered": ("abstract", "references"),
    }
}


class ReportError(ConversionException):
    """What keeps the report from being built: one line a problem."""


def load_results(folder: Path) -> dict[str, Any]:
    """Every notebook's results: {"values", "tables", "figures"}, each by key, and "provenance" by notebook.

    Raises
    ------
    ReportError
        If a file is not one of results, or two notebooks record a table or a figure under one id.
    """
    results: dict[str, Any] = {"values": {}, "tables": {}, "figures": {}, "provenance": {}}
    for path in sorted(folder.glob("*.json")):
        try:
            record = read(path)
        except ResultsError as error:
            raise ReportError(f"{error} Delete it and run `make report`.") from None
        notebook = record["notebook"]
        results["provenance"][notebook] = record["provenance"]
        for key, value in record["values"].items():
            results["values"][f"{notebook}.{key}"] = {**value, "notebook": notebook}
        for kind in ("tables", "figures"):
            for key, entry in record[kind].items():
                if key in results[kind]:
                    other = results[kind][key]["notebook"]
                    raise ReportError(f"{kind[:-1]} '{key}' is recorded by both {other} and {notebook}.")
                results[kind][key] = {**entry, "notebook": notebook}
    return results


class Report:
    """One pass over the notebook collects and numbers; a second one writes HTML."""

    def __init__(self, results: dict[str, Any], output: Path, bibliography: Path, language: str) -> None:
        self.results, self.output, self.words = results, output, WORDS[language]
        self.works = parse_file(str(bibliography), bib_format="bibtex")
        self.title = ""
        self.sections: list[tuple[int, str, str, str]] = []  # level, slug, number, HTML of the heading
        self.numbers: dict[str, tuple[str, str]] = {}  # "figure:id" -> ("fig-id", "Figure 1")
        self.cited: list[str] = []
        self.used: set[str] = set()  # notebooks whose results appear
        self.references: list[tuple[str, str]] = []  # (cell, id) of every cross-reference
        self.problems: list[str] = []
        self.cell = ""
        self._counts = {"figure": 0, "table": 0}
        self._section = [0, 0, 0]
        writer = mistune.create_markdown(renderer=_HTML(self), plugins=markup.PLUGINS)
        self._to_html = writer.renderer

    def problem(self, text: str, remedy: str = "") -> None:
        self.problems.append(f"{self.cell}: {text}" + (f" {remedy}" if remedy else ""))

    def unknown(self, what: str, key: str, known: Iterable[str], remedy: str = "") -> None:
        near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.3)
        self.problem(f"no {what} '{key}'" + (f"; did you mean '{near[0]}'?" if near else "."), remedy)

    # ---- first pass ----

    def collect(self, tokens: list[markup.Token]) -> None:
        """Number what the tokens place and cite, and note what is wrong with them."""
        for number in markup.typed_numbers(tokens):
            self.problem(
                f"the number '{number}' is typed in the text.",
                "Record it in a notebook with nb.value(...) and name its key: {{ value:notebook.key }}.",
            )
        for index, token in enumerate(tokens):
            children = token.get("children", [])
            if token["type"] != "paragraph" or children[0]["type"] != "key":
                continue
            kind, _, name = children[0]["raw"].partition(":")
            if kind in PLACED and len(children) == 1:
                token.update(type=f"placed_{kind}", raw=name)
                del token["children"]
            elif (
                kind == "caption"
                and len(children) > 1
                and [after["type"] for after in tokens[index + 1 :]][1:2] == ["table"]
            ):
                children[1]["raw"] = children[1]["raw"].lstrip()
                token.update(type="caption", raw=name, children=children[1:])
                tokens[index + 2]["captioned"] = True
        for token in markup.walk(tokens):
            match token["type"]:
                case "heading":
                    self._collect_heading(token)
                case "citation":
                    for key in token["cited"]:
                        if key not in self.works.entries:
                            self.unknown("citation", key, self.works.entries, "See report/references.bib.")
                        elif key not in self.cited:
                            self.cited.append(key)
                case "key":
                    self._collect_key(token["raw"])
                case "caption":
                    self._number("table", token["raw"])
                case "placed_figure" | "placed_table" as placed:
                    self._collect_placed(placed.removeprefix("placed_"), token)
                case "inline_math" | "block_math":
                    try:
                        token["mathml"] = markup.mathml(token["raw"], token["type"].removesuffix("_math"))
                    except ValueError as error:
                        self.problem(f"{error}.")
                        token["mathml"] = ""
                case "block_html" | "inline_html" | "image":
                    self.problem(
                        f"{token.get('raw') or 'a Markdown image'} stands in the text.",
                        "HTML and images would escape the checks: write Markdown, place figures by key.",
                    )

    def _collect_heading(self, token: markup.Token) -> None:
        level, text = token["attrs"]["level"], markup.plain_text(token["children"], "")
        slug = re.sub(r"\W+", "-", text.lower()).strip("-")
        if level > 3:  # "Data" and "Results" come back under several headings
            slug = f"{next((above for depth, above, _, _ in self.sections[::-1] if depth == 3), '')}-{slug}"
        number = ""
        if level == 1:
            self.title = text
        elif slug not in self.words["unnumbered"]:
            depth = min(level, 4) - 2
            self._section[depth] += 1
            self._section[depth + 1 :] = [0] * (2 - depth)
            number = ".".join(map(str, self._section[: depth + 1]))
        if f"section:{slug}" in self.numbers:
            self.problem(f"'{text}' is the name of two sections.")
        if level > 1:
            self.numbers[f"section:{slug}"] = (
                f"sec-{slug}",
                f"{self.words['section']} {number}" if number else text,
            )
            self.sections.append((level, slug, number, text))
        token["attrs"].update(slug=slug, number=number)

    def _collect_key(self, key: str) -> None:
        kind, _, name = key.partition(":")
        if kind == "value":
            if name in self.results["values"]:
                self.used.add(self.results["values"][name]["notebook"])
            else:
                self.unknown("value", name, self.results["values"], "After a change, run `make report`.")
        elif kind == "ref":
            self.references.append((self.cell, name))
        elif kind in PLACED:
            self.problem(f"{{{{ {key} }}}} must stand alone in a paragraph.")
        elif kind == "caption":
            self.problem(f"{{{{ {key} }}}} must begin the paragraph before a Markdown table.")
        else:
            kinds = ("value", "ref", "caption", *PLACED)
            self.unknown("kind of key", kind, kinds, f"In {{{{ {key} }}}}; see report/markup.py.")

    def _collect_placed(self, kind: str, token: markup.Token) -> None:
        name, known = token["raw"], self.results[f"{kind}s"]
        if name not in known:
            return self.unknown(kind, name, known, "After a change, run `make report`.")
        self.used.add(known[name]["notebook"])
        self._number(kind, name)
        token["caption"] = markup.parse_line(known[name]["caption"])
        for caption_token in markup.walk(token["caption"]):
            if caption_token["type"] in ("inline_math", "citation", "key"):
                self.collect([caption_token])
        if kind == "figure":
            missing = [known[name][form] for form in ("png", "svg") if not (self.output / known[name][form]).exists()]
            if missing:
                self.problem(f"the figure's file {missing[0]} is missing.", "Run `make report`.")
            if not known[name]["alt"].strip():
                self.problem(f"figure '{name}' has no text alternative.", "Give nb.figure(...) its alt.")

    def _number(self, kind: str, name: str) -> None:
        if f"{kind}:{name}" in self.numbers:
            self.problem(f"{kind} '{name}' is placed twice.")
        self._counts[kind] += 1
        self.numbers[f"{kind}:{name}"] = (f"{kind[:3]}-{name}", f"{self.words[kind]} {self._counts[kind]}")

    def check(self) -> None:
        """Raise one ReportError with all that is wrong, after the last cell was collected."""
        for cell, name in self.references:
            self.cell = cell
            meant = self.named(name)
            if not meant:
                names = {key.partition(":")[2] for key in self.numbers}
                self.unknown("section, or placed figure or table,", name, names)
            elif len(meant) > 1:
                self.problem(f"'{name}' names {' and '.join(meant)}: write which, as in {{{{ ref:{meant[0]} }}}}.")
        self.cell = str(Path("report") / "results")
        for notebook in sorted(self.used):
            self._check_fresh(notebook)
        if self.problems:
            count = len(self.problems)
            heading = f"The report cannot be built ({count} problem{'s' if count > 1 else ''}):"
            raise ReportError("\n  ".join([heading, *self.problems]))

    def _check_fresh(self, notebook: str) -> None:
        """Compare the provenance with the files as they are now."""
        recorded = self.results["provenance"][notebook]
        try:
            current = current_provenance(notebook, defaults(notebook))
        except NotebookError as error:
            return self.problem(str(error), "Delete its results, or restore the notebook.")
        for key in sorted(current):
            if recorded.get(key) != current[key]:
                self.problem(f"the results of {notebook} are stale, made with another {key}.", "Run `make report`.")

    # ---- second pass ----

    def html(self, tokens: list[markup.Token]) -> str:
        return self._to_html.render_tokens(tokens, mistune.BlockState())

    def named(self, name: str) -> list[str]:
        """What a reference may mean: "padim_roc" is "figure:padim_roc" if nothing else bears that name."""
        return [key for key in self.numbers if name in (key, key.partition(":")[2])]

    def link(self, name: str) -> str:
        anchor, label = self.numbers[self.named(name)[0]]
        return f'<a href="#{anchor}">{html.escape(label).replace(" ", "&nbsp;")}</a>'

    def value(self, name: str) -> str:
        entry = self.results["values"][name]
        text = markup.format_value(entry["value"], entry["sd"], entry["unit"])
        hint = f"{name}: mean ± standard deviation, n = {entry['n']}" if entry["n"] else name
        return f'<span class="value" title="{html.escape(hint)}">{html.escape(text)}</span>'

    def figure(self, name: str, caption: list[markup.Token]) -> str:
        entry = self.results["figures"][name]
        picture, drawing = ((self.output / entry[form]).read_bytes() for form in ("png", "svg"))
        width, height = (int.from_bytes(picture[at : at + 4]) * 96 // DOTS_PER_INCH for at in (16, 20))
        return (
            f'<figure id="fig-{name}">\n<img src="{_data_uri(picture, drawing)}" width="{width}" height="{height}"'
            f' alt="{html.escape(entry["alt"])}">\n'
            f"<figcaption>{self.caption(f'figure:{name}', caption)} {self._source(entry)}</figcaption>\n</figure>\n"
        )

    def table(self, name: str, caption: list[markup.Token]) -> str:
        entry = self.results["tables"][name]
        columns = [markup.format_column(cells) for cells in zip(*entry["rows"])]
        right = [bool(cells) and all(re.match(r"[−–]?[\d.]|–$|nan", cell) for cell in cells) for cells in columns]

        def row(cells: Iterable[str], tag: str) -> str:
            parts = []
            for index, cell in enumerate(cells):
                kind = "th" if tag == "th" or (index == 0 and not right[0]) else "td"
                scope = ' scope="col"' if tag == "th" else ' scope="row"' if kind == "th" else ""
                align = ' class="number"' if index < len(right) and right[index] else ""
                parts.append(f"<{kind}{scope}{align}>{html.escape(cell)}</{kind}>")
            return f"<tr>{''.join(parts)}</tr>"

        body = "\n".join(row(cells, "td") for cells in zip(*columns))
        label = self.numbers[f"table:{name}"][1]
        # tabindex: a table that scrolls sideways must be reachable by keyboard
        return (
            f'<figure class="table" id="tab-{name}">\n'
            f"<figcaption>{self.caption(f'table:{name}', caption)} {self._source(entry)}</figcaption>\n"
            f'<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table>\n'
            f"<thead>{row(map(str, entry['columns']), 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n"
            f"</table></div>\n</figure>\n"
        )

    def caption(self, key: str, caption: list[markup.Token]) -> str:
        return f"<b>{self.numbers[key][1]}.</b> {self.html(caption)}"

    def _source(self, entry: dict[str, Any]) -> str:
        numbers = f", {self.words['numbers']} {entry['csv']}" if "csv" in entry else ""
        return f'<span class="source">{self.words["source"]} {entry["notebook"]}{numbers}.</span>'

    def contents(self) -> str:
        items = [
            f'<li class="level{level}"><a href="#sec-{slug}">'
            f'<span class="number">{number}</span> {html.escape(text)}</a></li>'
            for level, slug, number, text in self.sections
            if level <= 3
        ]
        label = self.words["contents"]
        return f'<nav aria-label="{label}">\n<h2>{label}</h2>\n<ol>\n' + "\n".join(items) + "\n</ol>\n</nav>\n"

    def bibliography(self) -> str:
        entries = Style().format_bibliography(self.works, self.cited).entries
        items = [f'<li id="ref-{entry.key}">{entry.text.render(Backend("utf-8"))}</li>' for entry in entries]
        return '<ol class="references">\n' + "\n".join(items) + "\n</ol>\n"

    def cite(self, keys: list[str]) -> str:
        links = [f'<a href="#ref-{key}">{self.cited.index(key) + 1}</a>' for key in keys]
        return f'<span class="citation">[{", ".join(links)}]</span>'


class _HTML(mistune.HTMLRenderer):
    """mistune's HTML with the report's own marks."""

    def __init__(self, report: Report) -> None:
        super().__init__(escape=True)
        self.report = report

    def render_token(self, token: markup.Token, state: mistune.BlockState) -> str:
        report = self.report
        match token["type"]:
            case "key" if token["raw"].startswith("value:"):
                return report.value(token["raw"].removeprefix("value:"))
            case "key":
                return report.link(token["raw"].removeprefix("ref:"))
            case "citation":
                return report.cite(token["cited"])
            case "placed_figure":
                return report.figure(token["raw"], token["caption"])
            case "placed_table":
                return report.table(token["raw"], token["caption"])
            case "placed_contents":
                return report.contents()
            case "placed_references":
                return report.bibliography()
            case "inline_math":
                return token["mathml"]
            case "block_math":
                return f'<span class="formula">{token["mathml"]}</span>\n'
            case "caption":
                caption = report.caption(f"table:{token['raw']}", token["children"])
                return f'<figure class="table prose" id="tab-{token["raw"]}">\n<figcaption>{caption}</figcaption>\n'
            case "table":
                scroll = f'<div class="scroll" tabindex="0">{super().render_token(token, state)}</div>\n'
                return scroll + ("</figure>\n" if token.get("captioned") else "")
        return super().render_token(token, state)

    def heading(self, text: str, level: int, slug: str = "", number: str = "") -> str:
        if level == 1:
            return f"<h1>{text}</h1>\n"
        prefix = f'<span class="number">{number}</span> ' if number else ""
        return f'<h{level} id="sec-{slug}">{prefix}{text}</h{level}>\n'


def _data_uri(picture: bytes, drawing: bytes) -> str:
    """The smaller of the PNG and the SVG; the PNG where the SVG only wraps photographs."""
    if b"<image" in drawing or len(picture) <= len(drawing):
        return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
    return "data:image/svg+xml;base64," + base64.b64encode(drawing).decode("ascii")
