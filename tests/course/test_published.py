"""Published values: each has a source that can be cited, and a table shows each once."""

import re

from mmad_utils.course import project
from mmad_utils.course.published import PUBLISHED, published


def test_every_source_outside_the_course_is_in_the_bibliography():
    entries = set(
        re.findall(r"@\w+\{(\w+),", (project.ROOT / "report" / "references.bib").read_text(encoding="utf-8"))
    )
    assert {row.key for row in PUBLISHED} - {""} <= entries
    assert all(row.key or row.source == "prototypes of the course" for row in PUBLISHED)


def test_a_table_shows_every_value_of_its_data_sets_once():
    for data in (("hazelnut", "zipper"), ("thyroid",)):
        cells = [cell for row in published(*data).itertuples(index=False) for cell in row if isinstance(cell, float)]
        assert sorted(cells) == sorted(row.value for row in PUBLISHED if row.data in data)
        assert all(0 < cell <= 1 for cell in cells)
