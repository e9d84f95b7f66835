"""The small site around the report: every executed notebook and the glossary as pages, and an index with a search.

    python -m report.site    # build/default/report/{index,notebooks/*}.html from build/default/notebooks

A page is laid out by the report's own template: formulas are MathML, pictures and text alternatives are inside, and
nothing is asked for. What a notebook printed is shown as text, a table of pandas as a table; other HTML is left out.
"""

import argparse
import html
import re
import sys
from pathlib import Path
from typing import Any

import bleach
import mistune
import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from traitlets.config import Config

from mmad_utils.course import project
from report import markup
from report.document import ReportError
from report.page import Writer, contents_list
from report.render import PROJECT_ROOT, frame, raw_cell

GLOSSARY = PROJECT_ROOT / "notebooks" / "glossary.md"
TERM = re.compile(r"^### (?P<english>.+)\n\n(?P<meaning>.+)\n\n\*\*(?P<chinese>.+)\*\*：(?P<sense>.+)$", re.MULTILINE)
EDITIONS = (
    ("en", "Report in English", "Which detector when"),
    ("zh", "中文报告", "什么情形用哪种检测器"),
)
TABLE_TAGS = {"table", "thead", "tbody", "tr", "th", "td", "caption"}
TABLE_ATTRIBUTES = {"th": ["colspan", "rowspan", "scope"], "td": ["colspan", "rowspan"]}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def slug_of(words: str) -> str:
    return re.sub(r"\W+", "-", words.lower()).strip("-")


class Lesson(Writer):
    """The Markdown of a notebook or of the glossary as HTML; its sections are collected on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.sections: list[tuple[int, str, str]] = []  # level, slug, words

    def write(self, source: str) -> str:
        tokens, _ = mistune.create_markdown(renderer=None, plugins=markup.PLUGINS).parse(source)
        return self.render_tokens([token for token in tokens if isinstance(token, dict)], mistune.BlockState())

    def formula(self, token: markup.Token) -> str:
        mathml = markup.mathml(token["raw"], token["type"].removesuffix("_math"))
        return super().formula({**token, "mathml": mathml})

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        words = html.unescape(re.sub("<[^>]*>", "", text))
        if level == 1 and not self.title:
            self.title = words
            return f"<h1>{text}</h1>\n"
        slug = slug_of(words)
        if any(slug == other for _, other, _ in self.sections):
            slug = f"{slug}-{len(self.sections)}"
        self.sections.append((level, slug, words))
        return f'<h{level} id="sec-{slug}">{text}</h{level}>\n'

    def paragraph(self, text: str) -> str:
        language = ' lang="zh"' if text.endswith("。") else ""
        return f"<p{language}>{text}</p>\n"

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Links to notebooks, to the glossary and to their sections become links between the pages."""
        local = re.fullmatch(r"(?:\.\./notebooks/)?(\w+)\.(?:ipynb|md)(?:#(.+))?", url)
        if local:
            url = f"{local[1]}.html" + (f"#sec-{slug_of(local[2])}" if local[2] else "")
        return super().link(text, url, title)


def code(cell: NotebookNode) -> str:
    """The code of a cell, unfolded, but folded where it solves an exercise."""
    solution = "solution" in cell.metadata.get("tags", [])
    text = highlight(cell.source, PythonLexer(), HtmlFormatter(nowrap=True))
    opened, summary = ("", "Solution") if solution else (" open", "Code")
    return (
        f'<details class="code"{opened}><summary>{summary}</summary>\n'
        f'<pre tabindex="0"><code>{text}</code></pre>\n</details>\n'
    )


def output(item: NotebookNode, number: int) -> str:
    """One output of a cell: a picture, a table, or text."""
    data = item.get("data", {})
    if "image/png" in data:
        about = item.metadata.get("image/png", {})
        width = f' width="{html.escape(str(about["width"]))}"' if "width" in about else ""
        alternative = html.escape(str(about.get("alt", "Figure of the cell above.")))
        address = "data:image/png;base64," + html.escape(data["image/png"].replace("\n", ""))
        return (
            f'<figure><div class="picture"><img src="{address}"{width} alt="{alternative}">'
            f'<button class="zoom" type="button" aria-label="Enlarge figure {number}">⤢</button></div></figure>\n'
        )
    if "<table" in data.get("text/html", ""):
        table = re.sub("<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        clean = bleach.clean(table, tags=TABLE_TAGS, attributes=TABLE_ATTRIBUTES, strip=True, strip_comments=True)
        return f'<div class="scroll table" tabindex="0">{clean}</div>\n'
    text = item.get("text") or data.get("text/plain") or "\n".join(item.get("traceback", []))
    return f'<pre class="output" tabindex="0">{html.escape(ANSI.sub("", text))}</pre>\n' if text.strip() else ""


def lesson(notebook: NotebookNode) -> tuple[Lesson, list[str]]:
    """The cells of an executed notebook as HTML, and its title and sections."""
    writer, parts, pictures = Lesson(), [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(writer.write(cell.source))
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(code(cell))
            for item in cell.outputs:
                pictures += "image/png" in item.get("data", {})
                parts.append(output(item, pictures))
    return writer, parts


def steps(before: tuple[str, str] | None, after: tuple[str, str] | None) -> str:
    """Links to the neighbours and to the index; each neighbour is (name, title)."""
    parts = ['<a href="../index.html">Index</a>']
    if before:
        parts.insert(0, f'<a rel="prev" href="{html.escape(before[0])}.html">← {html.escape(before[1])}</a>')
    if after:
        parts.append(f'<a rel="next" href="{html.escape(after[0])}.html">{html.escape(after[1])} →</a>')
    return f'<nav class="steps" aria-label="Notebooks">{" ".join(parts)}</nav>\n'


def contents(sections: list[tuple[int, str, str]]) -> str:
    return contents_list("Contents", ((level, slug, html.escape(words)) for level, slug, words in sections))


def layout(title: str, parts: list[str]) -> str:
    """A whole page, by the template of the report."""
    config = Config({"HTMLExporter": {"template_name": "mmad", "preprocessors": []}})
    config.HTMLExporter.extra_template_basedirs = [str(PROJECT_ROOT / "report" / "templates")]
    cells = [raw_cell(f"part-{number}", part) for number, part in enumerate(parts)]
    code_style = f"{HtmlFormatter(style='default').get_style_defs('pre')}\n@media (prefers-color-scheme: dark) {{\n"
    code_style += HtmlFormatter(style="github-dark").get_style_defs("pre") + "\n}"
    report = {**frame("en", "".join(parts)), "title": title, "sources": [], "style": code_style}
    return HTMLExporter(config=config).from_notebook_node(
        nbformat.v4.new_notebook(cells=cells), resources={"report": report}
    )[0]


def glossary(source: str) -> str:
    """The page of the glossary."""
    writer = Lesson()
    title, sections = (writer.write(part) for part in re.split(r"(?=^## )", source, maxsplit=1, flags=re.MULTILINE))
    listed = contents([section for section in writer.sections if section[0] == 2])
    return layout(writer.title, [steps(None, None), title, listed, sections, steps(None, None)])


def terms(source: str) -> str:
    """The entry of the glossary in the index, with all its terms in both languages."""
    links = "".join(
        f'<li><a href="notebooks/glossary.html#sec-{slug_of(term["english"])}">{html.escape(term["english"])} '
        f'<span lang="zh">{html.escape(term["chinese"])}</span></a></li>\n'
        for term in TERM.finditer(source)
    )
    return (
        '<li class="entry"><a href="notebooks/glossary.html">Glossary <span lang="zh">术语表</span></a>\n'
        f'<ul class="terms">{links}</ul></li>'
    )


def index(lessons: dict[str, Lesson], glossary_source: str) -> str:
    """The first page: both editions, the notebooks and the glossary, and a search over titles, sections and terms."""
    editions = "\n".join(
        f'<li lang="{language}"><a href="report.{language}.html">{report}</a> '
        f'(<a href="report.{language}.pdf">PDF</a>)</li>\n'
        f'<li lang="{language}"><a href="which_detector.{language}.html">{which}</a></li>'
        for language, report, which in EDITIONS
    )
    notebooks = []
    for stem, writer in lessons.items():
        name = html.escape(stem)
        sections = "".join(
            f'<li><a href="notebooks/{name}.html#sec-{slug}">{html.escape(words)}</a></li>'
            for level, slug, words in writer.sections
            if level == 2
        )
        notebooks.append(
            f'<li class="entry"><a href="notebooks/{name}.html">{html.escape(writer.title)}</a> <code>{name}</code>\n'
            f"<ul>{sections}</ul></li>"
        )
    return layout(
        "Multimodal anomaly detection: the course",
        [
            "<h1>Multimodal anomaly detection: the course</h1>\n",
            f"<h2>The report</h2>\n<ul>{editions}</ul>\n<h2>The notebooks, as they ran, and the glossary</h2>\n",
            '<p role="search"><label>Search the titles <input type="search" id="search"></label> '
            '<span role="status" id="found"></span></p>\n',
            f'<ol class="entries">{"".join(notebooks)}{terms(glossary_source)}</ol>\n',
        ],
    )


def build(executed: Path, target: Path) -> list[Path]:
    """Write index.html and notebooks/*.html into `target`, from the executed notebooks in `executed`.

    Raises
    ------
    FileNotFoundError, ReportError
        No executed notebook; a formula that cannot be shown. Nothing is written then.
    """
    paths = sorted(path for path in executed.glob("[0-9]*.ipynb") if ".failed" not in path.name)
    if not paths:
        raise FileNotFoundError(f"{executed} holds no executed notebook; run `make report`.")
    pages = {}
    for path in paths:
        try:
            pages[path.stem] = lesson(nbformat.read(path, as_version=4))
        except ValueError as error:
            raise ReportError(f"{path.stem}: {error}: write it otherwise in notebooks/src/{path.stem}.py.") from None
    source = GLOSSARY.read_text(encoding="utf-8")
    titles = [(name, writer.title) for name, (writer, _) in pages.items()]
    (target / "notebooks").mkdir(parents=True, exist_ok=True)
    rendered = {}
    for at, (name, (writer, parts)) in enumerate(pages.items()):
        around = steps(titles[at - 1] if at else None, titles[at + 1] if at + 1 < len(titles) else None)
        page = layout(writer.title, [around, parts[0], contents(writer.sections), *parts[1:], around])
        rendered[target / "notebooks" / f"{name}.html"] = page
    rendered[target / "notebooks" / "glossary.html"] = glossary(source)
    rendered[target / "index.html"] = index({name: writer for name, (writer, _) in pages.items()}, source)
    for path, page in rendered.items():
        path.write_text(page, encoding="utf-8", newline="\n")
    return list(rendered)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m report.site", description="Write the site around the report.")
    parser.add_argument("--executed", type=Path, help="folder of the executed notebooks")
    parser.add_argument("--output", type=Path, help="folder that gets index.html")
    options = parser.parse_args(arguments)
    try:
        built = project.output_folder()
        build(options.executed or built / "notebooks", options.output or built / "report")
    except (FileNotFoundError, ReportError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
