"""python -m mmad_utils.datasets."""

import subprocess
import sys

import numpy as np
import pytest

from mmad_utils.datasets import load, names
from mmad_utils.datasets.__main__ import main


def test_list_shows_every_pattern_with_what_is_at_hand(tmp_path, capsys):
    (tmp_path / "tables").mkdir()
    np.savez(tmp_path / "tables" / "mine.npz", X=np.zeros((4, 1)), y=[0, 0, 0, 1])
    (tmp_path / "mvtec" / "nut").mkdir(parents=True)
    assert main(["--data-home", str(tmp_path), "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert [line.split()[0] for line in lines] == [name for name, _, _ in names()]
    assert "always available" in rows["breast_cancer"] and "can be fetched" in rows["thyroid"]
    assert "mine" in rows["tables/<name>"] and "nut" in rows["mvtec/<category>"]


def test_check_prints_size_anomalies_licence_and_hash(capsys):
    assert main(["check", "breast_cancer"]) == 0
    printed = capsys.readouterr().out
    for part in (
        "178 normal",
        "179 normal, 212 anomalies",
        "30 float64",
        "CC BY 4.0",
        load("breast_cancer").source["sha256"],
    ):
        assert part in printed


def test_generate_writes_a_category_that_check_accepts(tmp_path, capsys):
    folder = tmp_path / "mvtec" / "made"
    numbers = ["--seed", "3", "--n-train", "2", "--n-test", "10", "--size", "64"]
    assert main(["generate", "synthetic/hazelnut", *numbers, "--output", str(folder)]) == 0
    assert main(["--data-home", str(tmp_path), "check", "mvtec/made"]) == 0
    printed = capsys.readouterr().out
    assert "2 normal" in printed and "4 normal, 6 anomalies" in printed and "64×64" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "breast_cancr"], "Did you mean 'breast_cancer'"),
        (["fetch", "breast_cancr"], "Did you mean 'breast_cancer'"),
        (["fetch", "digits/3"], "always available"),
        (["check", "tables/absent"], "not there"),
        (["generate", "textures/brick", "--output", "x"], "only synthetic/"),
        (["generate", "synthetic/walnut", "--output", "x"], "walnut"),
    ],
)
def test_an_error_is_one_message_and_status_two(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["--data-home", str(tmp_path), *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err and captured.out == ""
    assert not list(tmp_path.iterdir())


def test_the_module_runs_as_a_command_without_a_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mmad_utils.datasets",
        "--data-home",
        str(tmp_path),
        "check",
        "mvtec/nut",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "mvtec/nut/train/good" in done.stderr


def test_check_prints_the_sample_of_each_modality(capsys):
    assert main(["check", "paired_digits"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sample")]
    assert "image 8 × 8 × 1 uint8, text" in line


def test_fetch_prints_origin_and_licence_and_where_the_files_lie(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmad_utils.datasets.__main__.fetch", lambda name, home: [home / "a", home / "b"])
    assert main(["--data-home", str(tmp_path), "fetch", "thyroid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert "Thyroid" in lines[0] and "icence" in "".join(lines[:-2])
