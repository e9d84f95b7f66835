"""Every notebook runs from top to bottom with the smoke profile, in a kernel and a folder of its own."""

import json
from pathlib import Path

import pytest
import yaml

from mmad_utils.course.runner import run

PROJECT_ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = list(yaml.safe_load((PROJECT_ROOT / "profiles" / "default.yaml").read_text()))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_runs_and_records_its_results(name, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    copy = run(name, profile="smoke", output=tmp_path)
    assert copy == tmp_path / "notebooks" / f"{name}.ipynb" and copy.exists()
    record = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    assert record["values"]
    for figure in record["figures"].values():
        assert all((tmp_path / figure[kind]).stat().st_size for kind in ("png", "svg", "csv"))
