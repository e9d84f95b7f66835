"""The appendix made by the machine: data, packages, parameters, run times, hashes, the computer."""

import csv
import hashlib
import json
import re
import sys

import pytest
from report_project import ROOT

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import appendix

MADE = {
    "notebook_source": "a" * 64,
    "modules": {"mmad_utils.a": "b" * 64},
    "lock": "c" * 64,
    "data": {"digits/3": "d" * 64, "digits/3 (seed 1)": "e" * 64, "injected/dependency/digits/8": "f" * 64},
    "parameters": {"seed": 0, "dataset": "digits/3"},
}


@pytest.fixture
def tables(tmp_path):
    executed = {"metadata": {"papermill": {"duration": 12.6}}}
    (tmp_path / "01_one.ipynb").write_text(json.dumps(executed))
    return appendix.tables({"01_one": MADE, "02_two": MADE}, tmp_path)


def test_data_sets_come_with_origin_and_licence(tables):
    rows = tables["appendix_data"]["rows"]
    assert [row[0] for row in rows] == ["digits/<k>", "injected/<kind>/<base>"]
    assert rows[0][3] == "CC BY 4.0" and "scikit-learn" in rows[0][2]


def test_content_is_given_by_seed(tables):
    rows = dict(tables["appendix_hashes"]["rows"])
    assert rows == {"digits/3": "0: dddddddddddd, 1: eeeeeeeeeeee", "injected/dependency/digits/8": "0: ffffffffffff"}


def test_packages_have_the_versions_of_the_lock(tables):
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    rows = tables["appendix_packages"]["rows"]
    assert {"torch", "scikit-learn", "typst"} <= {name for name, _ in rows}
    pinned = {line.split(" ")[0] for line in lines}
    assert {f"{name}=={version}" for name, version in rows} <= pinned


def test_run_time_is_that_of_the_executed_notebook_or_unknown(tables):
    hash_of_modules = hashlib.sha256(json.dumps(MADE["modules"]).encode()).hexdigest()
    assert [row[:2] for row in tables["appendix_runs"]["rows"]] == [["01_one", 13], ["02_two", None]]
    assert tables["appendix_runs"]["rows"][0][2:] == ["a" * 12, hash_of_modules[:12], "c" * 12]


def test_parameters_are_listed_by_notebook(tables):
    assert tables["appendix_parameters"]["rows"][0] == ["01_one", 'dataset = "digits/3", seed = 0']


def test_the_computer_is_named_without_its_owner(tables):
    parts = dict(tables["appendix_computer"]["rows"])
    assert parts.keys() == {"system", "processor", "cores", "memory", "Python"} and all(parts.values())


def test_times_beside_other_libraries_are_those_of_one_thread(tables):
    with (ROOT / "benchmarks" / "speed.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["threads"] for row in rows} == {"1", "2"}
    shown = {row[0]: row[1:] for row in tables["appendix_speed"]["rows"]}
    assert shown == {
        row["what"]: [row["library"], *(float(row[key]) for key in ("mmad", "peer", "ratio"))]
        for row in rows
        if row["threads"] == "1"
    }


def test_every_data_set_of_the_committed_results_is_in_the_manifest():
    records = [json.loads(path.read_text()) for path in (ROOT / "report" / "results").glob("*.json")]
    names = {name.partition(" (seed")[0] for record in records for name in record["provenance"]["data"]}
    listed = [re.sub("<[a-z]+>", "[^ ]+", row[0]) for row in appendix.tables(
        {record["notebook"]: record["provenance"] for record in records}, ROOT
    )["appendix_data"]["rows"]]  # fmt: skip
    assert [name for name in names if not any(re.fullmatch(pattern, name) for pattern in listed)] == []


def test_without_results_there_is_no_empty_table(tmp_path):
    assert "appendix_data" not in appendix.tables({}, tmp_path)
