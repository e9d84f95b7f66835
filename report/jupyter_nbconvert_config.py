"""Configuration of nbconvert (given by --config) that renders reports with render.py."""

import sys
from pathlib import Path

folder = Path(__file__).resolve().parent
sys.path.insert(0, str(folder.parent))

c = get_config()  # noqa: F821  traitlets defines it
c.NbConvertApp.writer_class = "report.render.AtomicWriter"
c.HTMLExporter.template_name = "mmad"
c.HTMLExporter.extra_template_basedirs = [str(folder / "templates")]
c.HTMLExporter.preprocessors = ["report.render.ReportPreprocessor"]
c.PaperExporter.preprocessors = ["report.paper.PaperPreprocessor"]
