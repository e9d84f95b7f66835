"""The commands that the README and notebook 11 print for a file of the user."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmad_utils import score
from mmad_utils.course import notebook_files
from mmad_utils.detector import DetectorError, check_share, check_whole

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def printed_commands(text):
    """The code block that begins with the run of notebook 11."""
    blocks = re.findall(r"```\n(.*?)```", re.sub(r"(?m)^# ?", "", text), re.DOTALL)
    return next(block for block in blocks if "run 11_your_data" in block).splitlines()


def test_three_commands_lead_from_a_file_in_another_folder_to_scores(tmp_path, monkeypatch, capsys):
    commands = printed_commands((PROJECT_ROOT / "README.md").read_text())
    assert commands == printed_commands((PROJECT_ROOT / "notebooks" / "src" / "11_your_data.py").read_text())
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(160, 3)), columns=["a", "b", "c"])
    table.assign(outcome=["anomaly"] * 5 + ["ok"] * 155).to_csv(tmp_path / "mine.csv", index=False)
    table.assign(a=table["a"] + 20).to_csv(tmp_path / "tomorrow.csv", index=False)
    fit, *others = [shlex.split(command)[1:] for command in commands]
    quick = shlex.split(f"--profile smoke -p detectors DistanceToCenter,PCAResidual --output {tmp_path / 'run'}")
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "OMP_NUM_THREADS": "1"}
    fit = [sys.executable, *fit, *quick]
    ran = subprocess.run(fit, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert {"detector.safetensors", "scores.csv"} <= {path.name for path in (tmp_path / "results").iterdir()}
    monkeypatch.chdir(tmp_path)
    assert [command[:2] for command in others] == [["-m", "mmad_utils.score"]] * 2
    assert [score.main(command[2:]) for command in others] == [0, 1]
    assert "'a': number" in capsys.readouterr().out
    assert len(pd.read_csv("scores.csv")) == 160


@pytest.mark.parametrize(
    ("name", "value"), [("false_alarms", 5), ("repeats", 0), ("max_samples", -5), ("minutes", 0.0)]
)
def test_notebook_11_refuses_a_parameter_out_of_range_by_name_before_it_reads_the_file(name, value):
    notebook = notebook_files.read_notebook(notebook_files.source_path("11_your_data"))
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    checks = next(i for i, source in enumerate(cells) if "check_share(" in source and "import" not in source)
    assert checks < next(i for i, source in enumerate(cells) if "read_table(" in source)
    given = notebook_files.defaults("11_your_data") | {
        "np": np,
        "check_share": check_share,
        "check_whole": check_whole,
    }
    exec(cells[checks], given)
    with pytest.raises(DetectorError, match=f"^{name}={value}"):
        exec(cells[checks], given | {name: value})
