"""The measurements beside other libraries: which pairs, both sides in turn, and what is written."""

import json
import sys

import bench
import bench_work
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from mmad_utils.datasets import load

WORK = """
import json, os, pathlib, sys
name, side, seed, setting, folder = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(f"{{side}} {{os.environ['OMP_NUM_THREADS']}} ")
if {fails!r} == side:
    raise ImportError("No module named 'other'")
seconds = {{"mmad": 1.0, "peer": 3.0}}[side] + int(seed)
pathlib.Path(folder, "measures.json").write_text(json.dumps({{"fit_seconds": seconds}}))
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs the command line on tasks that take no time; returns exit status, rows and the order of the sides."""
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "SETTINGS", {"deep": [{"detector": "RDP"}], "threads": [{"busy": True}]})
    runs, log = tmp_path / "bench.jsonl", tmp_path / "log"

    def call(*options, fails=""):
        (tmp_path / "bench_work.py").write_text(WORK.format(log=str(log), fails=fails))
        log.write_text("")
        monkeypatch.setattr(sys, "argv", ["bench.py", "--runs", str(runs), "--peers", sys.executable, *options])
        status = bench.main()
        return status, [json.loads(line) for line in runs.read_text().splitlines()], log.read_text().split()

    return call


def test_both_sides_take_turns_in_the_first_position_and_a_pair_is_measured_once(call):
    options = ["--tasks", "deep", "--threads", "2", "--repetitions", "2"]
    status, rows, order = call(*options)
    assert status == 0 and order == ["mmad", "2", "peer", "2", "peer", "2", "mmad", "2"]
    assert [(row["mmad_fit_seconds"], row["peer_fit_seconds"]) for row in rows] == [(1, 3), (2, 4)]
    assert {row["task"] for row in rows} == {"deep"} and all(row["load"] >= 0 and row["machine"] for row in rows)
    assert call(*options) == (0, rows, [])


def test_several_threads_are_compared_with_one_thread(call):
    _, rows, order = call("--tasks", "threads", "--repetitions", "1")
    assert order == ["mmad", "2", "peer", "1"] and [row["threads"] for row in rows] == [2]


def test_a_side_that_fails_is_reported_and_the_other_pairs_are_measured(call, capsys):
    options = ["--threads", "2", "--repetitions", "1"]
    status, rows, _ = call(*options, fails="peer")
    assert (status, rows) == (1, [])
    assert "deep RDP: failed: peer: ImportError: No module named 'other'" in capsys.readouterr().out
    assert [row["task"] for row in call(*options)[1]] == ["deep", "threads"]


def test_without_the_other_libraries_the_message_names_the_command_that_installs_them(tmp_path, call, capsys):
    with pytest.raises(SystemExit):
        call("--peers", str(tmp_path / "python"))
    assert "`make bench` builds" in capsys.readouterr().err


def test_a_table_that_is_missing_and_too_little_memory_are_obstacles(tmp_path, monkeypatch):
    monkeypatch.setenv("MMAD_DATA_HOME", str(tmp_path))
    pair = {"task": "deep", "setting": {"detector": "RDP", "dataset": "tables/vowels"}}
    assert "tables/vowels" in bench.obstacle(pair) and "Expected below" in bench.obstacle(pair)
    large = {"task": "padim", "setting": {"samples": 209, "channels": 550}}
    monkeypatch.setattr(bench, "available", lambda: 10e9)
    assert "10 GB are free" in bench.obstacle(large)
    monkeypatch.setattr(bench, "available", lambda: 30e9)
    assert bench.obstacle(large) == ""


def test_memory_is_the_rise_of_the_peak_in_the_block():
    if not bench_work.peak_bytes(reset=True):
        pytest.skip("the system does not tell the peak of resident memory")
    measures = {}
    np.ones(2**23)
    with bench_work.measured(measures, "fit"):
        np.ones(2**23)
    assert 0.9 < measures["fit_bytes"] / 2**26 < 1.5 and measures["fit_seconds"] > 0


def test_a_fit_and_its_scores_are_measured_and_the_half_that_is_reported_is_tested(monkeypatch):
    monkeypatch.setattr(bench_work, "EPOCHS", 1)
    measures, _ = bench_work.deep("mmad", 0, detector="AutoEncoder", dataset="breast_cancer")
    assert measures["fit_cpu"] > 0 and measures["score_cpu"] > 0
    data = load("breast_cancer").resplit(0).half("report")
    scaler = StandardScaler().fit(data.X_train)
    scores = bench_work._our_network("AutoEncoder", 0).fit(scaler.transform(data.X_train))
    scores = scores.anomaly_score(scaler.transform(data.X_test))
    assert measures["auroc"] == roc_auc_score(data.y_test, scores)


@pytest.mark.parametrize("detector", bench.DETECTORS)
def test_every_network_has_one_hidden_layer_of_the_common_width(detector):
    network = bench_work._our_network(detector, 0).build((30,))
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert {bench_work.HIDDEN} < {layer.in_features for layer in layers} <= {30, bench_work.HIDDEN, bench_work.CODE}
