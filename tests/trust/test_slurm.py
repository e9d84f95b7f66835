"""A sweep on a real Slurm of two nodes, one of which is killed, gives what a local run gives: `make slurm`."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm_cluster

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
folder: build/sweep
datasets: [breast_cancer, digits/1]
seeds: 3
cells_per_job: 3
detectors: {DistanceToCenter: {}, AutoEncoder: {epochs: 2}}
"""
NOT_COMPARED = {"fit_seconds", "score_seconds", "control_seconds", "peak_megabytes", "commit", "machine", "versions"}


def start(folder, *options):
    """A sweep in a folder with the profiles of the project."""
    folder.mkdir()
    (folder / "profiles").symlink_to(ROOT / "profiles")
    (folder / "sweep.yaml").write_text(SWEEP)
    words = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "sweep", "--configfile", "sweep.yaml"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = (folder / "log").open("wb")
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([*words, *options], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)


def records(folder):
    """File name -> what does not depend on the run: bytes of the record without times, memory and provenance."""
    rows = {path.name: json.loads(path.read_bytes()) for path in (folder / "build/sweep/cells").glob("*.json")}
    return {name: json.dumps({k: v for k, v in row.items() if k not in NOT_COMPARED}) for name, row in rows.items()}


@pytest.mark.slurm
def test_a_sweep_on_slurm_that_loses_a_node_equals_a_local_one(tmp_path):
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    if importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None:
        pytest.skip("the extra 'cluster' is not installed")
    local = start(tmp_path / "local")
    assert local.wait(300) == 0, (tmp_path / "local" / "log").read_text()
    with slurm_cluster.cluster(tmp_path) as cluster:
        profile = ["--workflow-profile", "profiles/slurm", "--seconds-between-status-checks", "1"]
        remote = start(tmp_path / "remote", *profile)
        while not (jobs := cluster.jobs_on("n1")) and remote.poll() is None:
            time.sleep(0.1)
        time.sleep(4)  # the job has begun to import
        cluster.kill_node("n1")
        assert remote.wait(300) == 0, (tmp_path / "remote" / "log").read_text()
        restarted = [facts for job in jobs for facts in cluster.facts(job)]
    assert [(facts["Restarts"], facts["NodeList"]) for facts in restarted] == [("1", "n2")]
    assert records(tmp_path / "remote") == records(tmp_path / "local")
    assert len(records(tmp_path / "local")) == 12
