"""The page of benchmark results is what its run files give."""

import json
from pathlib import Path

import numpy as np
import page
import pytest

ROOT = Path(page.__file__).resolve().parent
RUN_FILES = sorted((ROOT / "runs").glob("*.jsonl"))


def test_every_table_of_the_page_is_the_one_that_the_run_files_give():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {block["name"] for block in page.BLOCK.finditer(text)} == set(page.TABLES)
    assert page.render(text) == text, "run `python benchmarks/page.py`"


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_every_run_says_which_unchanged_commit_which_machine_and_which_versions_made_it(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        assert run["commit"] and not run["commit"].endswith("+")
        assert run["machine"] and "torch" in run["versions"]


def test_a_cell_is_the_mean_over_the_seeds_and_then_over_the_data_sets():
    lines = (ROOT / "runs" / "tables.jsonl").read_text(encoding="utf-8").splitlines()
    runs = [json.loads(line) for line in lines]
    found = [
        np.mean([run["auroc"] for run in runs if run["detector"] == "DeepSVDD" and run["dataset"] == name])
        for name in page.HARD
    ]
    table = page.TABLES["tables"]().set_index("detector")
    assert table.loc["DeepSVDD", "mean"] == f"{np.mean(found):.3f}".lstrip("0")


def test_the_comparison_of_tables_has_the_standing_controls():
    assert set(page.CONTROLS.values()) <= set(page.TABLES["tables"]()["detector"])
