"""A report's tokens as HTML, for a browser.

The page is self-contained: it includes its figures, their numbers and the formulas, and loads no other file.
"""

import base64
import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mistune
from pybtex.backends.html import Backend
from pybtex.style.formatting.unsrt import Style

from mmad_utils.course.results import DOTS_PER_INCH
from report import labels, markup
from report.document import Report

LONG_CODE = 12  # lines; longer code is folded
WIDE = 8  # columns; tables with more columns have a smaller font


class Writer(mistune.HTMLRenderer):
    """mistune's HTML with formulas in MathML and tables that scroll sideways."""

    def __init__(self) -> None:
        super().__init__(escape=True)
        mistune.create_markdown(renderer=self, plugins=markup.PLUGINS)  # registers the plugins' methods here

    def render_token(self, token: markup.Token, state: mistune.BlockState) -> str:
        if token["type"] in ("inline_math", "block_math"):
            return self.formula(token)
        rendered = super().render_token(token, state)
        return f'<div class="scroll" tabindex="0">{rendered}</div>\n' if token["type"] == "table" else rendered

    def text(self, text: str) -> str:
        return line_breaks(super().text(text))

    def paragraph(self, text: str) -> str:
        return super().paragraph(with_punctuation(text))

    def block_text(self, text: str) -> str:
        return super().block_text(with_punctuation(text))

    def formula(self, token: markup.Token) -> str:
        block = token["type"] == "block_math"
        return f'<span class="formula">{token["mathml"]}</span>\n' if block else token["mathml"]


class Page(Writer):
    """HTML with the report's own marks, after `Report.collect` and `Report.check`."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.report, self.words = report, report.words

    def write(self, tokens: list[markup.Token]) -> str:
        return self.render_tokens(tokens, mistune.BlockState())

    def render_token(self, token: markup.Token, state: mistune.BlockState) -> str:
        match token["type"]:
            case "key" if token["raw"].startswith("value:"):
                return self.value(token["raw"].removeprefix("value:"))
            case "key":
                return self.link_to(token["raw"].removeprefix("ref:"))
            case "citation":
                return self.cite(token["cited"])
            case "placed_figure":
                return self.figure(token["raw"], token["entry"], self.caption(f"figure:{token['raw']}", token))
            case "placed_table":
                return self.recorded_table(token["raw"], token["entry"], self.caption(f"table:{token['raw']}", token))
            case "placed_contents":
                return self.contents()
            case "placed_references":
                return self.bibliography()
            case "caption":
                caption = self.caption(f"table:{token['raw']}", {"caption": token["children"]})
                name = html.escape(token["raw"])
                return f'<figure class="table prose" id="tab-{name}">\n<figcaption>{caption}</figcaption>\n'
            case "table":
                return super().render_token(token, state) + ("</figure>\n" if token.get("captioned") else "")
        return super().render_token(token, state)

    def heading(self, text: str, level: int, slug: str = "", number: str = "") -> str:
        if level == 1:
            return f"<h1>{text}</h1>\n"
        prefix = f'<span class="number">{number}</span> ' if number else ""
        return f'<h{level} id="sec-{slug}">{prefix}{text}</h{level}>\n'

    def block_code(self, code: str, info: str | None = None) -> str:
        lines = code.count("\n")
        opened = "" if lines > LONG_CODE else " open"
        return (
            f'<details class="code"{opened}><summary>{self.words["code"]}</summary>\n'
            f'<pre tabindex="0"><code>{html.escape(code)}</code></pre>\n</details>\n'
        )

    def link_to(self, name: str) -> str:
        anchor, label = self.report.numbers[self.report.named(name)[0]]
        return f'<a href="#{anchor}">{html.escape(label).replace(" ", "&nbsp;")}</a>'

    def value(self, name: str) -> str:
        entry = self.report.results["values"][name]
        unit = self.words["units"].get(entry["unit"], entry["unit"])
        text = markup.format_value(entry["value"], entry["sd"], unit)
        hint = f"{name}: {self.words['spread'].format(entry['n'])}" if entry["n"] else name
        return f'<span class="value" title="{html.escape(hint)}">{html.escape(text)}</span>'

    def figure(self, name: str, entry: dict[str, Any], caption: str) -> str:
        alt, (width, height) = html.escape(entry["alt"]), self.size(entry)
        csv = html.escape(Path(entry["csv"]).name)
        enlarge = html.escape(self.words["enlarge"].format(self.report.numbers[f"figure:{name}"][1]))
        rows = base64.b64encode(self.file(entry, "csv")).decode("ascii")
        return (
            f'<figure id="fig-{html.escape(name)}">\n'
            f'<div class="picture"><img src="{self.picture(entry)}" width="{width}" height="{height}" '
            f'alt="{alt}"><button class="zoom" type="button" aria-label="{enlarge}">'
            f"⤢</button></div>\n"
            f'<figcaption>{caption} <span class="source">{self.source(entry)} '
            f'<a download="{csv}" href="data:text/csv;charset=utf-8;base64,{rows}">'
            f"{self.words['numbers']}</a></span></figcaption>\n</figure>\n"
        )

    def source(self, entry: dict[str, Any]) -> str:
        return self.words["source"].format(html.escape(entry["notebook"])) if entry["notebook"] else ""

    def file(self, entry: dict[str, Any], form: str) -> bytes:
        return (self.report.output / entry[form]).read_bytes()

    def size(self, entry: dict[str, Any]) -> tuple[int, int]:
        """Width and height in CSS pixels, from the header of the PNG."""
        picture = self.file(entry, "png")
        width, height = (int.from_bytes(picture[at : at + 4]) * 96 // DOTS_PER_INCH for at in (16, 20))
        return width, height

    def picture(self, entry: dict[str, Any]) -> str:
        """Data URL of the smaller of PNG and SVG; of the PNG if the SVG contains a bitmap."""
        picture, drawing = self.file(entry, "png"), self.file(entry, "svg")
        if "drawing" in entry:  # with its labels translated
            picture, drawing = labels.raster(entry["drawing"]), entry["drawing"]
        if b"<image" in drawing or len(picture) <= len(drawing):
            return "data:image/png;base64," + base64.b64encode(picture).decode("ascii")
        return "data:image/svg+xml;base64," + base64.b64encode(drawing).decode("ascii")

    def recorded_table(self, name: str, entry: dict[str, Any], caption: str) -> str:
        heads, rows, right, note = self.cells(entry)

        def row(cells: Iterable[str], tag: str) -> str:
            parts = []
            for index, cell in enumerate(cells):
                kind = "th" if tag == "th" or (index == 0 and not right[0]) else "td"
                scope = ' scope="col"' if tag == "th" else ' scope="row"' if kind == "th" else ""
                align = ' class="number"' if right[index] else ""
                parts.append(f"<{kind}{scope}{align}>{cell}</{kind}>")
            return f"<tr>{''.join(parts)}</tr>"

        body = "\n".join(row(cells, "td") for cells in rows)
        label = self.report.numbers[f"table:{name}"][1]
        style = "table" + " prose" * bool(entry.get("prose")) + " wide" * (len(heads) > WIDE)
        # tabindex: a table that scrolls sideways must be reachable by keyboard
        return (
            f'<figure class="{style}" id="tab-{html.escape(name)}">\n'
            f'<figcaption>{caption}{note} <span class="source">{self.source(entry)}</span></figcaption>\n'
            f'<div class="scroll" tabindex="0" role="group" aria-label="{label}"><table>\n'
            f"<thead>{row(heads, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n</figure>\n"
        )

    def cells(self, entry: dict[str, Any]) -> tuple[list[str], list[list[str]], list[bool], str]:
        """Heads and rows in HTML, which columns are numeric, and a sentence that explains bold cells, if any."""
        heads, rows, right, bold = markup.format_table(entry["columns"], entry["rows"], self.words["cells"])
        shown = [[line_breaks(html.escape(cell)) for cell in row] for row in rows]
        for row, column in bold:
            shown[row][column] = f"<b>{shown[row][column]}</b>"
        return list(map(html.escape, heads)), shown, right, f" {self.words['bold']}" if bold else ""

    def caption(self, key: str, token: markup.Token) -> str:
        return f"<b>{self.report.numbers[key][1]}{self.words['end'].rstrip(' ')}</b> {self.write(token['caption'])}"

    def contents(self) -> str:
        return contents_list(
            self.words["contents"],
            (
                (level, slug, f'<span class="number">{number}</span> {html.escape(text)}')
                for level, slug, number, text in self.report.sections
            ),
        )

    def bibliography(self) -> str:
        entries = Style().format_bibliography(self.report.works, self.report.cited).entries
        items = [f'<li id="ref-{entry.key}">{entry.text.render(Backend("utf-8"))}</li>' for entry in entries]
        return '<ol class="references">\n' + "\n".join(items) + "\n</ol>\n"

    def cite(self, keys: list[str]) -> str:
        links = [f'<a href="#ref-{key}">{self.report.cited.index(key) + 1}</a>' for key in keys]
        return f'<span class="citation">[{", ".join(links)}]</span>'


def line_breaks(text: str) -> str:
    """HTML in which long names may be broken after a slash or an underscore, and f-AnoGAN or DSEBM-e may not."""
    text = re.sub(r"(?<![\w-])(?:\w-\w+|\w+-\w)(?![\w-])", r'<span class="whole">\g<0></span>', text)
    return re.sub(r"(?<=\w)([/_])(?=\w)", r"\1<wbr>", text)


def with_punctuation(text: str) -> str:
    """HTML in which no line is broken between a formula and the punctuation mark that follows it."""
    formula = r"<math\b(?:(?!</math>).)*</math>[.,;:)，。；：、）]"
    return re.sub(formula, r'<span class="whole">\g<0></span>', text, flags=re.DOTALL)


def contents_list(label: str, sections: Iterable[tuple[int, str, str]]) -> str:
    """Links to the sections down to level 3, each given as level, slug and HTML."""
    items = [
        f'<li class="level{level}"><a href="#sec-{slug}">{words}</a></li>'
        for level, slug, words in sections
        if level <= 3
    ]
    head = f'<nav aria-label="{label}" id="contents">\n<h2>{label}</h2>\n<ol>\n'
    return head + "\n".join(items) + "\n</ol>\n</nav>\n"
