"""The site around the report: every executed notebook and the glossary as pages, and the first page.

    python -m report.site    # build/default/report/{index,notebooks/*}.html from build/default

A page has the template of the report: formulas are MathML, images and text alternatives are included, and no other
file is loaded. Printed output is shown as text, a pandas table as a table; other HTML is omitted. Code is folded,
except cells tagged ``step``, which show the step of a method. The solution of an exercise is folded with its text and
its outputs. Cells that check a statement are hidden by default. The first page is written by `front.py`.
"""

import argparse
import copy
import html
import itertools
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import bleach
import mistune
import nbformat
from nbconvert import HTMLExporter, TemplateExporter
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from traitlets.config import Config

import mmad_utils
from mmad_utils.course import project
from mmad_utils.course.exercises import HINT, is_check, is_solution
from mmad_utils.course.reading import reading_of
from report import formulas, front, markup, reference
from report.document import ReportError, load_results
from report.page import WIDE, Writer, contents_list, line_breaks
from report.render import PROJECT_ROOT, frame, raw_cell

GLOSSARY = PROJECT_ROOT / "notebooks" / "glossary.md"
TERM = re.compile(r"^### (?P<english>.+)\n\n(?P<meaning>.+)\n\n\*\*(?P<chinese>.+)\*\*：(?P<sense>.+)$", re.MULTILINE)
TABLE_TAGS = {"table", "thead", "tbody", "tr", "th", "td", "caption"}
TABLE_ATTRIBUTES = {"th": ["colspan", "rowspan", "scope"], "td": ["colspan", "rowspan"]}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def slug_of(words: str) -> str:
    return re.sub(r"\W+", "-", words.lower()).strip("-")


class Lesson(Writer):
    """Writes the Markdown of a notebook or of the glossary as HTML, and collects its sections."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.linked: set[str] = set()  # classes of the library, at their first mention
        self.sections: list[tuple[int, str, str]] = []  # level, slug, words

    def write(self, source: str) -> str:
        tokens, _ = mistune.create_markdown(renderer=None, plugins=markup.PLUGINS).parse(source)
        return self.render_tokens([token for token in tokens if isinstance(token, dict)], mistune.BlockState())

    def formula(self, token: markup.Token) -> str:
        mathml = formulas.mathml(token["raw"], token["type"].removesuffix("_math"))
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
        """Convert links to notebooks, to the glossary and to their sections into links between the pages."""
        local = re.fullmatch(r"(?:\.\./notebooks/)?(\w+)\.(?:ipynb|md)(?:#(.+))?", url)
        if local:
            url = f"{local[1]}.html" + (f"#sec-{slug_of(local[2])}" if local[2] else "")
        return super().link(re.sub("</?a[^>]*>", "", text), url, title)

    def codespan(self, text: str) -> str:
        """Link the first mention of a class of the library to its reference."""
        shown = super().codespan(text)
        if text not in mmad_utils.__all__ or text in self.linked:
            return shown
        self.linked.add(text)
        return f'<a href="../reference/{reference.address(text)}">{shown}</a>'

    def block_html(self, source: str) -> str:
        """The folded hint of an exercise; other HTML is shown as text."""
        if source.strip() == HINT:
            return '<details class="hint"><summary>Hint</summary>\n'
        return "</details>\n" if source.strip() == "</details>" else super().block_html(source)


def code(cell: NotebookNode) -> str:
    """The code of a cell: unfolded if it shows the step of a method, hidden if it checks a statement."""
    text = highlight(cell.source, PythonLexer(), HtmlFormatter(nowrap=True))
    shown = f'<pre tabindex="0"><code>{text}</code></pre>\n'
    if is_solution(cell):
        return shown  # folded together with the other cells of the solution
    if is_check(cell):
        return f'<details class="code check" hidden><summary>Check</summary>\n{shown}</details>\n'
    state = " open" if "step" in cell.metadata.get("tags", []) else ""
    return f'<details class="code lesson"{state}><summary>Code</summary>\n{shown}</details>\n'


def output(item: NotebookNode, number: int) -> str:
    """One output of a cell: an image, a table, or text."""
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
    source = data.get("text/html", "")
    if "<table" in source and "<script" not in source:  # an estimator of scikit-learn has a table and a script
        table = re.sub("<style.*?</style>", "", source, flags=re.DOTALL)
        clean = bleach.clean(table, tags=TABLE_TAGS, attributes=TABLE_ATTRIBUTES, strip=True, strip_comments=True)
        wide = " wide" * (clean.partition("</tr>")[0].count("<th>") > WIDE)
        return f'<div class="scroll table{wide}" tabindex="0">{line_breaks(clean)}</div>\n'
    text = item.get("text") or data.get("text/plain") or "\n".join(item.get("traceback", []))
    return f'<pre class="output" tabindex="0">{html.escape(ANSI.sub("", text))}</pre>\n' if text.strip() else ""


def lesson(notebook: NotebookNode) -> tuple[Lesson, list[str]]:
    """The cells of an executed notebook as HTML, and its title and sections."""
    writer, parts, pictures = Lesson(), [], 0
    for solved, cells in itertools.groupby(notebook.cells, is_solution):
        written = []
        for cell in cells:
            if cell.cell_type == "markdown":
                written.append(writer.write(cell.source))
            elif cell.cell_type == "code" and cell.source.strip():
                written.append(code(cell))
                for item in [] if is_check(cell) else cell.outputs:
                    pictures += "image/png" in item.get("data", {})
                    written.append(output(item, pictures))
        if solved:
            written = ["".join(['<details class="solution"><summary>Solution</summary>\n', *written, "</details>\n"])]
        parts += written
    return writer, parts


def steps(before: tuple[str, str] | None, after: tuple[str, str] | None) -> str:
    """Links to the previous and next page and to the index; each page is (name, title)."""
    parts = ['<a href="../index.html">Index</a>']
    if before:
        parts.insert(0, f'<a rel="prev" href="{html.escape(before[0])}.html">← {html.escape(before[1])}</a>')
    if after:
        parts.append(f'<a rel="next" href="{html.escape(after[0])}.html">{html.escape(after[1])} →</a>')
    return f'<nav class="steps" aria-label="Notebooks">{" ".join(parts)}</nav>\n'


def tools(name: str) -> str:
    """The links above a notebook's page: its file, and buttons that show code and checks."""
    return (
        f'<p class="tools"><a download href="{html.escape(name)}.ipynb">Download the notebook</a>\n'
        '<button type="button" data-show="lesson" aria-pressed="false">Show all code</button>\n'
        '<button type="button" data-show="check" aria-pressed="false">Show checks</button></p>\n'
    )


def as_written(executed: NotebookNode) -> NotebookNode:
    """The notebook without outputs."""
    notebook = copy.deepcopy(executed)
    notebook.metadata.pop("papermill", None)
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata = NotebookNode(tags=cell.metadata.get("tags", []))
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def contents(sections: list[tuple[int, str, str]]) -> str:
    return contents_list("Contents", ((level, slug, html.escape(words)) for level, slug, words in sections))


class PageExporter(HTMLExporter):
    """nbconvert's exporter without its second pass, which parses a page to add what these pages already have."""

    def from_notebook_node(self, nb, resources=None, **kw):
        return TemplateExporter.from_notebook_node(self, nb, self._init_resources(resources), **kw)


def layout(title: str, parts: list[str]) -> str:
    """A page in the template of the report."""
    config = Config({"HTMLExporter": {"template_name": "mmad", "preprocessors": []}})
    config.HTMLExporter.extra_template_basedirs = [str(PROJECT_ROOT / "report" / "templates")]
    cells = [raw_cell(f"part-{number}", part) for number, part in enumerate(parts)]
    code_style = f"{HtmlFormatter(style='default').get_style_defs('pre')}\n@media (prefers-color-scheme: dark) {{\n"
    code_style += HtmlFormatter(style="github-dark").get_style_defs("pre") + "\n}"
    report = {**frame("en", "".join(parts)), "title": title, "sources": [], "style": code_style}
    return PageExporter(config=config).from_notebook_node(
        nbformat.v4.new_notebook(cells=cells), resources={"report": report}
    )[0]


def glossary(source: str) -> str:
    """The page of the glossary."""
    writer = Lesson()
    title, sections = (writer.write(part) for part in re.split(r"(?=^## )", source, maxsplit=1, flags=re.MULTILINE))
    listed = contents([section for section in writer.sections if section[0] == 2])
    return layout(writer.title, [steps(None, None), title, listed, sections, steps(None, None)])


def terms(source: str) -> str:
    """Links to all terms of the glossary, in both languages."""
    links = "".join(
        f'<li><a href="notebooks/glossary.html#sec-{slug_of(term["english"])}">{html.escape(term["english"])} '
        f'<span lang="zh">{html.escape(term["chinese"])}</span></a></li>\n'
        for term in TERM.finditer(source)
    )
    return f'<ul class="terms">{links}</ul>\n'


def times(executed: NotebookNode) -> str:
    """Reading time and run time of the notebook."""
    seconds = executed.metadata.get("papermill", {}).get("duration") or 0
    return f"{reading_of(executed).minutes:.0f} min to read, {seconds / 60:.1f} min to run"


def index(cards: Iterable[str], found: Iterable[Mapping[str, str]], glossary_source: str) -> str:
    """The first page."""
    introduction = "".join(front.in_both(front.texts()["introduction"]))
    return layout(
        "mmad: multimodal anomaly detection",
        [
            f"<h1>mmad: multimodal anomaly detection</h1>\n{introduction}{front.ways()}",
            front.search(found),
            '<h2 id="notebooks">Notebooks <span lang="zh">笔记本</span></h2>\n',
            f'<ol class="gallery">\n{"".join(cards)}</ol>\n',
            '<h2><a href="notebooks/glossary.html">Glossary <span lang="zh">术语表</span></a></h2>\n',
            terms(glossary_source),
        ],
    )


def build(built: Path, target: Path) -> list[Path]:
    """Write index.html and notebooks/*.html into ``target``, from the files in ``built``.

    Parameters
    ----------
    built : Path
        ``build/<profile>``: executed notebooks, results and figures. The search includes the pages of the report in
        ``target``.
    target : Path

    Raises
    ------
    FileNotFoundError, ReportError
        No executed notebook; a formula that cannot be shown; a key without a result. Nothing is written.
    """
    paths = sorted(path for path in (built / "notebooks").glob("[0-9]*.ipynb") if ".failed" not in path.name)
    if not paths:
        raise FileNotFoundError(f"{built / 'notebooks'} holds no executed notebook; run `make report`.")
    executed = {path.stem: nbformat.read(path, as_version=4) for path in paths}
    pages = {}
    for name, notebook in executed.items():
        try:
            pages[name] = lesson(notebook)
        except ValueError as error:
            raise ReportError(f"{name}: {error}: change it in notebooks/src/{name}.py.") from None
    source = GLOSSARY.read_text(encoding="utf-8")
    titles = [(name, writer.title) for name, (writer, _) in pages.items()]
    rendered = {}
    for at, (name, (writer, parts)) in enumerate(pages.items()):
        around = steps(titles[at - 1] if at else None, titles[at + 1] if at + 1 < len(titles) else None)
        above = [around, tools(name), parts[0], contents(writer.sections)]
        rendered[f"notebooks/{name}.html"] = layout(writer.title, [*above, *parts[1:], around])
        rendered[f"notebooks/{name}.ipynb"] = nbformat.writes(as_written(executed[name]))
    rendered["notebooks/glossary.html"] = glossary(source)
    results = load_results(built / "results")
    cards = [
        front.card(name, writer.title, times(executed[name]), results, built) for name, (writer, _) in pages.items()
    ]
    reports = {path.name: path.read_text(encoding="utf-8") for path in sorted(target.glob("*.??.html"))}
    found = [
        section
        for address, page in {**rendered, **reports}.items()
        if address.endswith(".html")
        for section in front.sections(page, address)
    ]
    rendered["index.html"] = index(cards, [*found, *front.of_reference()], source)
    (target / "notebooks").mkdir(parents=True, exist_ok=True)
    for address, page in rendered.items():
        (target / address).write_text(page, encoding="utf-8", newline="\n")
    return [target / address for address in rendered]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m report.site", description="Write the site around the report.")
    parser.add_argument("--built", type=Path, help="folder of executed notebooks, results and figures")
    parser.add_argument("--output", type=Path, help="folder that gets index.html")
    options = parser.parse_args(arguments)
    try:
        built = options.built or project.output_folder()
        build(built, options.output or built / "report")
    except (FileNotFoundError, ReportError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
