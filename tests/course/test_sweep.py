"""Sweeps: their settings, their records, and what a failed, killed or damaged cell leaves."""

import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mmad_utils import benchmark, runs
from mmad_utils.course import sweep as module
from mmad_utils.course.project import ROOT
from mmad_utils.course.sweep import SweepError, main, measure_cells, prepare, read, write_table

SMALL = {"datasets": ["breast_cancer"], "detectors": {"DistanceToCenter": {}, "PCAResidual": {}}, "seeds": 2}
MEASURED = dict.fromkeys(("auroc", "average_precision", "fit_seconds", "norm_auroc"), 0.5)


@pytest.fixture
def small(tmp_path):
    return SMALL | {"folder": str(tmp_path / "sweep")}


def fake_measure(detector, dataset, seed, parameters, own_split, anomalies):
    """A row without a measurement; the AUROC tells the cells apart."""
    split = "own" if own_split else "fresh"
    identity = dict(zip(benchmark.RUN_KEYS, (detector, dataset, seed, parameters, split, anomalies)))
    auroc = 0.5 + len(detector) / 100 + seed / 1000 + parameters.get("n_neighbors", 0) / 1e4
    return identity | MEASURED | {"auroc": auroc, "n_train": 10, "n_test": 10}


@pytest.fixture
def quick(monkeypatch):
    """Cells that take no time, in this process."""
    monkeypatch.setattr(benchmark, "measure", fake_measure)
    monkeypatch.setattr(benchmark, "run_apart", lambda function, *given, method: function(*given))
    monkeypatch.setattr(benchmark, "PRELOADED", [])


def run(sweep):
    """Prepare a sweep, and measure every batch that is not done."""
    lock = prepare(sweep)
    lock.release()
    for batch in (sweep.folder / "batches").glob("*.json"):
        if not batch.with_suffix(".done").exists():
            measure_cells(batch)
            batch.with_suffix(".done").touch()


def records(sweep):
    return {path: path.stat().st_mtime_ns for path in (sweep.folder / "cells").iterdir()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": ["digits/1"]}, "no entry 'dataset'; did you mean 'datasets'"),
        ({"datasets": None}, r"datasets: None; give a list of names"),
        ({"datasets": "digits/1"}, "datasets: 'digits/1'; give a list of names"),
        ({"detectors": ["PCAResidual"]}, r"detectors: \['PCAResidual'\]; give names with their grids"),
        ({"detectors": {"KNNDistance": 5}}, "KNNDistance: 5; give parameters with values"),
        ({"detectors": {"KNNDistance": {"n_neighbors": []}}}, "KNNDistance: n_neighbors has no value"),
        ({"detectors": {"KNNDistance": {"n_neighbors": float("nan")}}}, "KNNDistance: a value is not a text, finite"),
        (
            {"detectors": {"KNNDistance": {"n_neighbors": [5, 5]}}},
            "n_neighbors=5 on breast_cancer, seed 0 is .* twice",
        ),
        ({"datasets": ["digits/1", "digits/1"]}, "on digits/1, seed 0 is in the sweep twice"),
        ({"seeds": 0}, "seeds: 0; give a whole number from 1"),
        ({"seeds": True}, "seeds: True; give a whole number"),
        ({"anomalies": "half"}, "anomalies: 'half'; give one of all, select, report"),
    ],
)
def test_wrong_settings_are_one_clear_error(change, message):
    with pytest.raises(SweepError, match=message):
        read(SMALL | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detectors": {"PCAResiduals": {}}}, "no detector is called 'PCAResiduals'; did you mean PCAResidual"),
        (
            {"detectors": {"KNNDistance": {"neighbors": 3}}},
            "KNNDistance has no parameter 'neighbors'; it has .*n_neigh",
        ),
        ({"datasets": ["brest_cancer"]}, "Did you mean 'breast_cancer'"),
        ({"detectors": {"PaDiM": {}}}, "PaDiM takes images, but breast_cancer is a table"),
        ({"datasets": ["paired_digits"]}, "has several modalities"),
        ({"folder": "/dev/null/sweep"}, "/dev/null/sweep cannot be written"),
    ],
)
def test_wrong_names_and_folders_stop_before_a_job_is_written(small, tmp_path, change, message):
    with pytest.raises(SweepError, match=message):
        prepare(read(small | change))
    assert not list(tmp_path.rglob("batches"))


def test_the_cells_are_every_data_set_with_every_combination_of_values_and_every_seed():
    grids = {"KNNDistance": {"n_neighbors": [1, 5], "contamination": 0.1}, "PCAResidual": [None, {"n_components": 2}]}
    sweep = read({"datasets": ["digits/1", "digits/2"], "detectors": grids, "seeds": 3, "first_seed": 4})
    settings = [{"n_neighbors": 1, "contamination": 0.1}, {"n_neighbors": 5, "contamination": 0.1}]
    settings += [{}, {"n_components": 2}]
    assert [cell["parameters"] for cell in sweep.cells[:12:3]] == settings
    assert [cell["seed"] for cell in sweep.cells] == [4, 5, 6] * 8
    assert [cell["dataset"] for cell in sweep.cells] == ["digits/1"] * 12 + ["digits/2"] * 12
    assert set(sweep.cells[0]) == set(benchmark.RUN_KEYS)
    assert [cell for batch in sweep.batches.values() for cell in batch] == sweep.cells
    assert max(map(len, sweep.batches.values())) == sweep.cells_per_job == 20


def test_a_record_is_the_row_of_the_benchmark_with_its_provenance(small):
    sweep = read(small | {"seeds": 1, "detectors": {"KNNDistance": {"n_neighbors": 3}}, "anomalies": "select"})
    run(sweep)
    (path,) = records(sweep)
    row = json.loads(path.read_bytes())
    direct = benchmark.measure("KNNDistance", "breast_cancer", 0, {"n_neighbors": 3}, anomalies="select")
    assert list(row) == [*direct, "commit", "machine", "versions"]
    same = [key for key in direct if not key.endswith(("seconds", "megabytes"))]
    assert [row[key] for key in same] == [runs.with_provenance(direct)[key] for key in same]


def test_a_finished_sweep_measures_nothing_again_and_a_larger_one_only_what_is_new(small, quick):
    run(read(small))
    before = records(read(small))
    larger = read(small | {"seeds": 3, "cells_per_job": 4})
    run(larger)
    assert len(records(larger)) == 6 and before.items() <= records(larger).items()


@pytest.mark.parametrize("content", [b"", b'{"auroc": 0.5', b'{"auroc": 0.5}\n', b"[]\n", b"\xff"])
def test_a_damaged_record_is_measured_again_and_no_other(small, quick, capsys, content):
    sweep = read(small)
    run(sweep)
    before = records(sweep)
    damaged = next(iter(before))
    whole = damaged.read_bytes()
    damaged.write_bytes(content)
    run(sweep)
    assert f"{damaged} is damaged" in capsys.readouterr().err
    assert damaged.read_bytes() == whole
    assert {path for path, time in records(sweep).items() if time != before[path]} == {damaged}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a forked process")
def test_a_killed_and_a_failed_cell_are_named_and_lose_no_other(small, monkeypatch, capsys):
    def measure(detector, dataset, seed, *given):
        if (detector, seed) == ("PCAResidual", 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if (detector, seed) == ("PCAResidual", 1):
            raise ZeroDivisionError("of a detector")
        return fake_measure(detector, dataset, seed, *given)

    sweep = read(small)
    monkeypatch.setattr(benchmark, "PRELOADED", [])
    monkeypatch.setattr(benchmark, "measure", measure)
    with pytest.raises(SweepError) as caught:
        run(sweep)
    assert str(caught.value).splitlines() == [
        "2 of 4 cells failed:",
        "PCAResidual on breast_cancer, seed 0: its process ended with exit status -9 "
        "(it was killed, most often for lack of memory).",
        "PCAResidual on breast_cancer, seed 1: ZeroDivisionError: of a detector",
    ]
    before = records(sweep)
    assert len(before) == 2
    assert main(["cells", str(next((sweep.folder / "batches").glob("*.json")))]) == 1
    assert "error: 2 of 4 cells failed:" in capsys.readouterr().err
    with pytest.raises(SweepError, match=r"2 cells have no record, such as PCAResidual on breast_cancer, seed 0"):
        write_table(sweep.plan)
    monkeypatch.setattr(benchmark, "measure", fake_measure)
    run(sweep)
    assert len(records(sweep)) == 4 and before.items() <= records(sweep).items()


def test_a_full_disk_is_one_clear_error_and_earlier_cells_are_kept(small, quick, monkeypatch):
    sweep, write = read(small), module.write_atomic

    def write_two(path, content):
        if path.parent.name == "cells" and len(list(path.parent.glob("*"))) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(module, "write_atomic", write_two)
    with pytest.raises(SweepError, match=r"cannot be written \(No space left on device\); earlier cells are kept"):
        run(sweep)
    assert len(records(sweep)) == 2


def test_a_second_sweep_in_the_folder_is_refused_while_the_first_works(small, quick):
    lock = prepare(read(small))
    with pytest.raises(SweepError, match=r"another sweep works in .*sweep: wait for it, or give another folder"):
        prepare(read(small | {"seeds": 1}))
    lock.release()
    prepare(read(small)).release()


def test_the_table_is_that_of_the_benchmark_with_one_row_per_setting(small, quick, capsys):
    sweep = read(small | {"detectors": {"KNNDistance": {"n_neighbors": [1, 5]}}})
    run(sweep)
    assert main(["table", str(sweep.plan)]) == 0
    rows = [json.loads(line) for line in (sweep.folder / "runs.jsonl").read_text().splitlines()]
    assert [{key: row[key] for key in sweep.cells[0]} for row in rows] == sweep.cells
    table = pd.read_csv(sweep.folder / "table.csv")
    assert list(table["detector"]) == ["KNNDistance(n_neighbors=1)", "KNNDistance(n_neighbors=5)"]
    pd.testing.assert_frame_equal(table, benchmark.summarise(benchmark.named(pd.DataFrame(rows))), check_dtype=False)
    assert "No critical-difference figure: 1 data sets are too few" in capsys.readouterr().out
    assert not list(sweep.folder.glob("critical*"))


def test_enough_data_sets_give_the_figure_and_its_numbers(small, quick):
    sweep = read(small | {"datasets": [f"digits/{k}" for k in range(6)], "seeds": 1})
    run(sweep)
    write_table(sweep.plan)
    (pair,) = pd.read_csv(sweep.folder / "critical_difference.csv").to_dict("records")
    assert (pair["first"], pair["first_rank"], pair["n_datasets"]) == ("DistanceToCenter", 1.0, 6)
    assert pair["p"] == pair["p_holm"] == pytest.approx(2 / 2**6) and np.isnan(pair["friedman_p"])
    assert pair["different"]
    assert all((sweep.folder / f"critical_difference.{form}").stat().st_size > 0 for form in ("svg", "png"))


def snakemake(folder, *words):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "sweep", *words]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


def test_snakemake_reads_the_settings_and_writes_the_table(small, quick, tmp_path):
    """The cells have records, because each process that imports PyTorch takes seconds; `make kill` measures them."""
    run(read(small))
    (tmp_path / "sweep.yaml").write_text(json.dumps(small))
    ran = snakemake(tmp_path, "--configfile", "sweep.yaml")
    assert ran.returncode == 0, ran.stderr
    assert "DistanceToCenter" in ran.stdout and (read(small).folder / "table.csv").exists()


def test_snakemake_names_what_is_wrong_with_the_settings(tmp_path):
    ran = snakemake(tmp_path, "--config", "datasets=[digits/1]")
    assert ran.returncode == 1 and "error: detectors: None; give names with their grids" in ran.stderr


@pytest.mark.parametrize(
    ("answer", "status", "state"),
    [
        ("JobId=7 JobState=RUNNING Reason=None", 0, "running"),
        ("JobId=7 JobState=PENDING Reason=BeginTime", 0, "running"),
        ("JobId=7 JobState=COMPLETED Reason=None", 0, "success"),
        ("JobId=7 JobState=FAILED Reason=NonZeroExitCode", 0, "failed"),
        ("JobId=7 JobState=OUT_OF_MEMORY Reason=OutOfMemory", 0, "failed"),
        ("slurm_load_jobs error: Invalid job id specified", 1, "failed"),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1, "running"),
    ],
)
def test_the_state_of_a_slurm_job_is_told_as_snakemake_asks_for_it(tmp_path, answer, status, state):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\n[ \"$*\" = '--oneliner show job 7' ] && echo '{answer}'\nexit {status}\n")
    scontrol.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    words = [ROOT / "profiles" / "slurm" / "job_status.sh", "7"]
    told = subprocess.run(words, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert told.stdout == f"{state}\n"
    assert ("Unable to contact" in told.stderr) == ("Unable to contact" in answer)
