"""Convert a report notebook, which contains the keys of results, into one self-contained HTML page.

The notebook has Markdown cells only, in the grammar of `markup.py`. Every number, table and figure is read from
`build/<profile>/results/*.json`, which the course notebooks write. `document.py` numbers them, `page.py` writes
them as HTML, and the template in `templates/mmad` defines the layout. nbconvert finds both through
`jupyter_nbconvert_config.py`, from any folder::

    jupyter nbconvert --config report/jupyter_nbconvert_config.py --to html report/report.en.ipynb

Unknown keys, stale results and typed numbers are reported in one message, and nothing is written.
"""

import base64
import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

from nbconvert.exporters.exporter import ResourcesDict
from nbconvert.preprocessors import Preprocessor
from nbconvert.writers import FilesWriter
from nbformat import NotebookNode
from traitlets import Bool, Unicode, default

from mmad_utils.course import project
from mmad_utils.files import write_atomic
from report import alternatives, fonts, markup
from report.document import Report, ReportError, load_results
from report.language import WORDS
from report.page import Page

PROJECT_ROOT = Path(__file__).resolve().parents[1]
SCRIPT = PROJECT_ROOT / "report" / "templates" / "mmad" / "script.js"


class _MessageOnly(logging.Filter):
    """Show a ReportError by its message only, without the traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], ReportError):
            record.msg, record.args = str(record.exc_info[1]), ()
            record.exc_info = None
        return True


class ReportPreprocessor(Preprocessor):
    """nbconvert preprocessor: Markdown cells with keys in, raw HTML cells with results out."""

    enabled = Bool(True).tag(config=True)
    writer = Page  # the class that writes the tokens
    profile = Unicode("default", help="The profile whose results are shown.").tag(config=True)
    output = Unicode(help="Folder that holds results and figures.").tag(config=True)
    bibliography = Unicode(str(PROJECT_ROOT / "report" / "references.bib")).tag(config=True)

    @default("output")
    def _default_output(self) -> str:
        return str(project.output_folder(self.profile))

    def preprocess(self, nb: NotebookNode, resources: ResourcesDict) -> tuple[NotebookNode, ResourcesDict]:
        """Replace the cells; `resources["report"]` has the title, the words and the sources for the template.

        Raises
        ------
        ReportError
            If a key, citation or formula is unknown, a result stale, or a number typed.
        """
        self.log.addFilter(_MessageOnly())
        language = nb.metadata.get("report", {}).get("language", "en")
        output = Path(self.output)
        results = load_results(output / "results")
        report = Report(results, output, Path(self.bibliography), language, self.profile)
        trees, chooser = [], alternatives.Chooser(results, language)
        for index, cell in enumerate(nb.cells, start=1):
            first_line = cell.source.strip().partition("\n")[0][:40]
            report.cell = f"cell {index} ('{first_line}')"
            if cell.cell_type != "markdown":
                report.problem("this is not a Markdown cell.", "A report contains no code: move it to a notebook.")
            source = chooser.choose(cell.source, report.problem)
            trees.append(markup.parse(source) if cell.cell_type == "markdown" else [])
            report.collect(trees[-1])
        report.used |= chooser.used
        report.check()
        writer = self.writer(report)
        nb.cells = [raw_cell(cell.id, writer.write(tree)) for cell, tree in zip(nb.cells, trees)]
        sources = [(name, _digest(results["provenance"][name])) for name in sorted(report.used)]
        resources["language_code"] = language
        resources["report"] = {
            **frame(language, "".join(cell.source for cell in nb.cells)),
            "figures": report.figures,
            "output": str(output.absolute()),
            "title": report.title,
            "sources": sources,
        }
        return nb, resources


def frame(language: str, body: str) -> dict[str, Any]:
    """Values for the template: words, the script with its hash, and the font of the Chinese characters."""
    script = SCRIPT.read_text(encoding="utf-8")
    words = WORDS[language]
    return {
        "language": language,
        "words": words,
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "font_face": partial(fonts.face, body + "".join(map(str, words.values()))),
    }


def raw_cell(id: str, source: str) -> NotebookNode:
    raw = {"id": id, "cell_type": "raw", "metadata": {"raw_mimetype": "text/html"}, "source": source}
    return NotebookNode(raw)


def _digest(provenance: dict[str, Any]) -> str:
    return str(provenance.get("notebook_source", ""))[:12]


class AtomicWriter(FilesWriter):
    """Writes atomically, so that an interrupted build does not change the last report."""

    def write(
        self, output: str | bytes, resources: ResourcesDict, notebook_name: str | None = None, **kwargs: Any
    ) -> str:
        folder = self.build_directory or resources.get("metadata", {}).get("path", "")
        target = Path(folder) / f"{notebook_name}{resources.get('output_extension', '')}"
        write_atomic(target, output if isinstance(output, bytes) else output.encode())
        return str(target)
