"""Every notebook runs from top to bottom with the smoke profile, in a process and a folder of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT_ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = list(yaml.safe_load((PROJECT_ROOT / "profiles" / "default.yaml").read_text()))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_runs_and_records_its_results(name, tmp_path):
    command = ["-m", "mmad_utils.course", "run", name, "--profile", "smoke", "--output", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT_ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    record = json.loads((tmp_path / "results" / f"{name}.json").read_text())
    assert record["values"]
    for figure in record["figures"].values():
        assert all((tmp_path / figure[kind]).stat().st_size for kind in ("png", "svg", "csv"))
    assert (tmp_path / "notebooks" / f"{name}.ipynb").exists()
