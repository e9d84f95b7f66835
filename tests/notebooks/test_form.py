"""What a learner reads: how long a notebook takes, and how its code and prose are proportioned."""

from statistics import median

import pytest
import yaml
from report_project import ROOT

from mmad_utils.course.reading import reading

NOTEBOOKS = list(yaml.safe_load((ROOT / "profiles" / "default.yaml").read_text()))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_read_in_forty_minutes_and_explains_its_code(name):
    found = reading(name)
    assert found.minutes <= 40
    assert found.words_per_line >= 8
    assert found.median_cell <= 6
    assert max(found.cell_lines) <= 15
    assert found.bookkeeping <= 0.05 * found.lines


def test_there_are_ten_words_of_prose_for_each_line_of_code():
    found = [reading(name) for name in NOTEBOOKS]
    assert median(one.words_per_line for one in found) >= 10
    assert median(lines for one in found for lines in one.cell_lines) <= 5
