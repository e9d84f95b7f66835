"""README states what was measured: numbers by key, and the notebooks with their reading times."""

import re

import yaml
from report_project import ROOT

from mmad_utils.course.reading import reading
from report import markup
from report.document import load_results

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[(\w+)\]\(notebooks/(\w+)\.ipynb\) \| .+ \| (\d+) \| [\d.]+ \|$", TEXT, re.MULTILINE)


def test_numbers_are_those_of_the_results():
    values = load_results(ROOT / "report" / "results")["values"]
    stated = re.findall(r"<!-- value:(\S+) -->(.+?)<!-- end -->", TEXT)
    assert stated
    for key, text in stated:
        entry = values[key]
        assert text == markup.format_value(entry["value"], entry["sd"], entry["unit"]), key


def test_every_notebook_is_listed_with_its_reading_time():
    assert [name for name, _, _ in ROWS] == list(yaml.safe_load((ROOT / "profiles" / "default.yaml").read_text()))
    for name, target, minutes in ROWS:
        assert name == target
        assert abs(int(minutes) - reading(name).minutes) <= 2, name
