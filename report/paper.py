"""The report as PDF, without LaTeX: nbconvert writes HTML, pandoc converts it to Typst, and Typst writes the PDF.

    jupyter nbconvert --config report/jupyter_nbconvert_config.py --to report.paper.PaperExporter REPORT.ipynb

Figures are read from the figures folder, as SVG if it contains no bitmap. Figures with translated labels are passed
to Typst as bytes. The Chinese font is that of `fonts.py`.
"""

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pypandoc
import typst
from nbconvert.exporters import Exporter
from nbconvert.exporters.exporter import ResourcesDict
from nbformat import NotebookNode
from traitlets import default

from mmad_utils.files import locked
from report import fonts, markup
from report.page import Page
from report.render import PROJECT_ROOT, ReportError, ReportPreprocessor

TEMPLATE = PROJECT_ROOT / "report" / "templates" / "mmad" / "paper.typ"
SCALE = 0.82  # of a figure, whose labels are then as large as the captions
CONTENTS = "CONTENTS-OF-THE-REPORT"  # a mark that pandoc does not change
IMAGE = re.compile(r'image\("(?P<path>[^"]+)"')


class Paper(Page):
    """HTML for pandoc: formulas in LaTeX, figures by path, tables with their captions inside."""

    held = ""  # the head of a table whose caption was read and whose rows come next

    def heading(self, text: str, level: int, slug: str = "", number: str = "") -> str:
        return "" if level == 1 else super().heading(text, level, slug, number)  # the template sets the title

    def formula(self, token: markup.Token) -> str:
        mode = "; mode=display" if token["type"] == "block_math" else ""
        return f'<script type="math/tex{mode}">{token["raw"].strip()}</script>'

    def block_code(self, code: str, info: str | None = None) -> str:
        return f'<pre class="{html.escape(info or "")}"><code>{html.escape(code)}</code></pre>\n'

    def value(self, name: str) -> str:
        return re.sub("<[^>]*>", "", super().value(name))

    def figure(self, name: str, entry: dict[str, Any], caption: str) -> str:
        width, _ = self.size(entry)
        return (
            f'<figure id="fig-{name}"><img src="{self.picture(entry)}" width="{width * SCALE:.0f}">'
            f"<figcaption>{caption} {self.source(entry)}</figcaption></figure>\n"
        )

    def picture(self, entry: dict[str, Any]) -> str:
        return entry["png" if "drawing" not in entry and b"<image" in self.file(entry, "svg") else "svg"]

    def contents(self) -> str:
        return f"<p>{CONTENTS}</p>\n"

    def recorded_table(self, name: str, entry: dict[str, Any], caption: str) -> str:
        heads, rows, right, note = self.cells(entry)

        def row(cells: Iterable[str], tag: str) -> str:
            parts = [
                f'<{tag} style="text-align: {"right" if number else "left"}">{cell}</{tag}>'
                for cell, number in zip(cells, right)
            ]
            return f"<tr>{''.join(parts)}</tr>"

        return (
            f'<table id="tab-{name}"><caption>{caption}{note} {self.source(entry)}</caption>\n'
            f"<thead>{row(heads, 'th')}</thead><tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody></table>\n"
        )

    def render_token(self, token: markup.Token, state: Any) -> str:
        if token["type"] == "caption":  # kept until the table that follows
            caption = self.caption(f"table:{token['raw']}", {"caption": token["children"]})
            self.held = f'<table id="tab-{token["raw"]}"><caption>{caption}</caption>'
            return ""
        text = super().render_token(token, state)
        if token["type"] == "table" and token.get("captioned"):
            inside = re.sub("^.*?<table>|</table>.*$", "", text, flags=re.DOTALL)
            inside = re.sub("<t[hd](?=>)", r"\g<0> style='text-align: left'", inside)
            return f"{self.held}{inside}</table>\n"
        return text


class PaperPreprocessor(ReportPreprocessor):
    """The preprocessor of the web page, with output for pandoc."""

    writer = Paper


class PaperExporter(Exporter):
    """nbconvert exporter: a report notebook as the bytes of a PDF."""

    output_mimetype = "application/pdf"

    @default("file_extension")
    def _file_extension(self) -> str:
        return ".pdf"

    def from_notebook_node(
        self, nb: NotebookNode, resources: Any = None, **kwargs: Any
    ) -> tuple[bytes, ResourcesDict]:
        """The PDF of the report; deterministic.

        Raises
        ------
        ReportError
            As for the web page, or if pandoc or Typst fails.
        """
        cells, resources = super().from_notebook_node(nb, resources, **kwargs)
        source = typst_source("".join(cell.source for cell in cells.cells), resources["report"])
        return set_pages(source, resources["report"]), resources


def typst_source(page: str, report: dict[str, Any]) -> str:
    """The body of the report in Typst, with the template before it."""
    options = ["--shift-heading-level-by=-1", "--wrap=none"]
    body = pypandoc.convert_text(page, "typst", format="html", extra_args=options)
    entries = {form: entry for entry in report["figures"] for form in (entry["png"], entry["svg"])}
    body = IMAGE.sub(lambda match: image(match["path"], entries[match["path"]]), body)
    body = body.replace(CONTENTS, f"#outline(title: [{report['words']['contents']}], depth: 2)")
    return f"{TEMPLATE.read_text(encoding='utf-8')}\n{body}"


def image(path: str, entry: dict[str, Any]) -> str:
    """The beginning of an image in Typst, with its text alternative."""
    picture = f'bytes(sys.inputs.at("{path}"))' if "drawing" in entry else f'"{path}"'
    return f"image({picture}, alt: {json.dumps(entry['alt'], ensure_ascii=False)}"


def set_pages(source: str, report: dict[str, Any], form: str = "pdf") -> Any:
    """The output of Typst for the source: a PDF, or with ``form="png"`` one image per page."""
    output = Path(report["output"])
    drawings = {entry["svg"]: entry["drawing"].decode() for entry in report["figures"] if "drawing" in entry}
    partial = output / f".report.{report['language']}.typ"  # Typst reads images from folders beside the source only
    with locked(partial):
        partial.write_text(source, encoding="utf-8")
        try:
            return typst.compile(
                str(partial),
                root=str(output),
                format=form,
                ppi=60.0,
                font_paths=[str(fonts.folder())],
                ignore_system_fonts=True,
                sys_inputs={"title": report["title"], "language": report["language"], **drawings},
            )
        except RuntimeError as error:
            raise ReportError(f"Typst cannot set the report: {error}") from None
        finally:
            partial.unlink(missing_ok=True)
