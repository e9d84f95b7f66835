"""A project in a temporary folder, with one notebook's results, from which the tests render reports."""

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import yaml
from nbconvert import Exporter, HTMLExporter
from traitlets.config import Config, PyFileConfigLoader

from mmad_utils.course import notebook_files, project, provenance, results

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "report" / "report.en.ipynb"
LANGUAGES = ("en", "zh")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome: apt-get install chromium")
sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report.alternatives import conditions  # noqa: E402

SOURCE = '# %% tags=["parameters"]\nseed: int = 0  # of every random draw\n'


class ReportProject:
    """Files under `folder`, as `make report` would find them under the project's root."""

    def __init__(self, folder: Path, monkeypatch):
        self.folder = folder
        monkeypatch.setattr(project, "ROOT", folder)
        captions = {
            "A *line*, $y = x$.": "一条*线*，$y = x$。",
            'It "rises".': "它在“上升”。",
            "A table.": "一张表。",
        }
        committed = (ROOT / "report" / "src" / "captions.zh.yaml").read_text(encoding="utf-8")
        captions = {**yaml.safe_load(committed), **captions}
        monkeypatch.setattr("report.language.captions", lambda language: captions)
        (folder / "notebooks" / "src").mkdir(parents=True, exist_ok=True)
        (folder / "mmad_utils").mkdir(exist_ok=True)
        (folder / "mmad_utils" / "new.py").write_text("")
        (folder / "profiles").mkdir(exist_ok=True)
        (folder / "profiles" / "default.yaml").write_text("01_demo: {}\n")
        (folder / "requirements.lock").write_text("numpy==2\n")

    def results(self, name: str = "01_demo", parameters: Iterable[str] = ()) -> results.Results:
        """Fresh results of a notebook, which is made for them, with more parameters that name data sets."""
        more = "".join(f'{parameter}: str = "thyroid"  # a data set\n' for parameter in parameters)
        (self.folder / "notebooks" / "src" / f"{name}.py").write_text(SOURCE + more)
        current = provenance.current_provenance(name, notebook_files.defaults(name), ["mmad_utils.new"])
        return results.Results(name, output=self.folder, provenance={**current, "data": {"digits/3": "0" * 64}})

    def record_demo(self) -> None:
        """Two values, two tables and two figures of 01_demo."""
        record = self.results()
        record.value("auroc", 0.99312, sd=0.0043, n=5)
        record.value("fit_time", 12.34, unit="s")
        frame = pd.DataFrame({"detector": ["ruler", "forest"], "AUROC": [0.98, 0.9], "alarms": [1200, 3]})
        record.table(frame, "comparison", "Detectors compared [@liu2008isolation].")
        record.table(frame, "more", "More of the same.")
        draw_line(record, "line")
        draw_picture(record, "picture")
        record.save()

    def record_all_of(self, text: str) -> None:
        """Something for every key that a report names."""
        for side in re.split(r" and | [<>] ", " and ".join(conditions(text))):
            text += f"{{{{ value:{side} }}}}" if "; " in side else ""
        records: dict[str, results.Results] = {}
        parameters: dict[str, set[str]] = {}
        for name, key in re.findall(r"name:(\w+)\.(\w+)", text) + re.findall(r"(\d\w+)\.(\w+) is ", text):
            parameters.setdefault(name, set()).add(key)
        keys = re.findall(r"value:(\w+)\.(\w+)", text)
        keys += [key for condition in conditions(text) for key in re.findall(r"(\d\w+)\.(\w+)(?! is )\b", condition)]
        for name, key in sorted(set(keys)):
            if name not in records:
                records[name] = self.results(name, sorted(parameters.get(name, ())))
            records[name].value(key, 0.9876, sd=0.0123, n=5)
        record = records.setdefault("99_pictures", self.results("99_pictures"))
        for key in sorted(set(re.findall(r"\{\{\s*figure:(\w+)", text))):
            draw_line(record, key)
        for key in sorted(set(re.findall(r"(?:\{\{\s*table:(?!appendix_)|value:(?=\w+;))(\w+)", text))):
            cells = re.findall(rf"value:{key}; (.+?) \}}\}}", text)
            record.table(table_of_cells(cells or ["ruler; AUROC"]), key, "A table.")
        for record in records.values():
            record.save()

    def render(self, *cells: str) -> str:
        """The HTML of a report with these Markdown cells, as nbconvert writes it."""
        report = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(cell) for cell in cells])
        for number, cell in enumerate(report.cells):
            cell["id"] = f"cell-{number}"
        return self.exporter().from_notebook_node(report)[0]

    def render_committed(self, language: str = "en", document: str = "report") -> str:
        return self.exporter().from_filename(str(REPORT.with_name(f"{document}.{language}.ipynb")))[0]

    def exporter(self) -> HTMLExporter:
        return HTMLExporter(config=self.config())

    def paper(self) -> Exporter:
        from report.paper import PaperExporter

        return PaperExporter(config=self.config())

    def config(self) -> Config:
        config = PyFileConfigLoader("jupyter_nbconvert_config.py", path=str(ROOT / "report")).load_config()
        config.merge(Config({"ReportPreprocessor": {"output": str(self.folder)}}))
        return config


def table_of_cells(keys: list[str]) -> pd.DataFrame:
    """A table with all these cells, named "row; column"; no cell of a row's name can be done without."""
    rows, columns = zip(*((tuple(row), column) for *row, column in (key.split("; ") for key in keys)))
    names = sorted({*rows, *((*row[:-1], "another") for row in rows)})
    frame = pd.DataFrame(names, columns=[f"name {number}" for number in range(len(names[0]))])
    return frame.assign(**dict.fromkeys(columns, 0.9876))


def draw_line(record: results.Results, key: str) -> None:
    fig, axes = plt.subplots(figsize=(3, 2))
    axes.plot([1, 3, 2])
    record.figure(fig, key, caption="A *line*, $y = x$.", alt='It "rises".', data={"y": [1, 3, 2]})
    plt.close(fig)


def draw_picture(record: results.Results, key: str) -> None:
    fig, axes = plt.subplots(figsize=(3, 2))
    axes.imshow([[0, 1], [1, 0]])
    record.figure(fig, key, caption="A picture.", alt="A chessboard.", data={"y": [0, 1]})
    plt.close(fig)
