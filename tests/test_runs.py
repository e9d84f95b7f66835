"""Run files."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmad_utils import runs
from mmad_utils.runs import RunFile, RunFileError, provenance


def test_a_run_is_written_as_it_ends_with_commit_machine_and_versions(tmp_path):
    file = RunFile(tmp_path / "new" / "runs.jsonl")
    file.append({"detector": "a", "dataset": "x", "seed": 0, "auroc": np.float64(0.123456789)})
    (line,) = (tmp_path / "new" / "runs.jsonl").read_text().splitlines()
    assert json.loads(line) == {"detector": "a", "dataset": "x", "seed": 0, "auroc": 0.123457} | provenance()
    assert all(provenance()[key] for key in ("commit", "machine", "versions"))


def test_a_run_is_found_by_what_identifies_it_and_the_last_of_several_counts(tmp_path):
    file = RunFile(tmp_path / "runs.jsonl", keys=("detector", "seed"))
    for auroc in (0.1, 0.2):
        file.append({"detector": "a", "seed": 0, "auroc": auroc})
    again = RunFile(tmp_path / "runs.jsonl", keys=("detector", "seed"))
    assert again.find({"detector": "a", "seed": 0, "other": 1})["auroc"] == 0.2
    assert again.find({"detector": "a", "seed": 1}) is None


def test_the_incomplete_last_line_of_a_killed_process_is_dropped(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text('{"seed": 0}\n{"se')
    file = RunFile(path, keys=("seed",))
    assert file.rows == [{"seed": 0}]
    file.append({"seed": 1})
    assert [row["seed"] for row in RunFile(path).rows] == [0, 1]


def test_runs_that_another_process_added_are_found_when_the_file_is_read_again(tmp_path):
    first, second = (RunFile(tmp_path / "runs.jsonl", keys=("seed",)) for _ in range(2))
    first.append({"seed": 0})
    second.append({"seed": 1})
    assert second.find({"seed": 0}) is None
    second.read_again()
    assert second.find({"seed": 0}) and [row["seed"] for row in second.rows] == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["runs.jsonl"]


@pytest.mark.parametrize(
    ("content", "message"), [("{}\nno\n", "line 2: not JSON"), ("3\n", "line 1: not a JSON object")]
)
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, content, message):
    path = tmp_path / "runs.jsonl"
    path.write_text(content)
    with pytest.raises(RunFileError, match=message):
        RunFile(path)
    assert path.read_text() == content


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(RunFileError, match="cannot be written"):
        RunFile(tmp_path)


def test_outside_a_checkout_the_version_stands_for_the_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "runs.py"))
    assert provenance.__wrapped__()["commit"].startswith("mmad ")


def test_without_git_and_without_a_description_of_the_processor_a_run_is_still_described(monkeypatch):
    known = provenance()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(runs, "Path", lambda path: Path("/missing" if path == "/proc/cpuinfo" else path))
    monkeypatch.setattr(runs.platform, "processor", lambda: "")
    monkeypatch.setattr(runs.platform, "machine", lambda: "odd machine")
    provenance.cache_clear()
    found = provenance()
    provenance.cache_clear()
    assert found["commit"].startswith("mmad ")
    assert found["machine"].startswith("odd machine, ")
    assert found["versions"] == known["versions"]
