"""Runs that are killed at a random moment, and two processes at once: the results are those of an undisturbed run."""

import abc
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from random import Random

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import safetensors
import torch
import torch._dynamo  # which an optimiser imports at its first step, in each forked process anew
from local_server import local_server
from notebook_project import Project
from tqdm import tqdm

from mmad_utils import benchmark
from mmad_utils.course import results
from mmad_utils.course.project import ROOT
from mmad_utils.datasets import download
from mmad_utils.datasets.mvtec import synthetic
from mmad_utils.runs import RunFile
from mmad_utils.training import seeded, train, update

# Forked processes share tqdm's default lock, which a killed one may hold for ever. With this lock each has its own.
tqdm.set_lock(threading.RLock())
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
CONTENT = Random(0).randbytes(400_000)


class Run(abc.ABC):
    """One kind of run: ``work()`` in ``folder``, and what must be the same after any disturbance."""

    def __init__(self, folder):
        self.folder = folder

    @abc.abstractmethod
    def work(self):
        """Do it, from the beginning or from where a killed process left it."""

    def result(self):
        """Names and bytes of all files."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def check_killed(self):  # noqa: B027 (most kinds have nothing to check)
        """What must hold before the next run."""


class Training(Run):
    def work(self):
        with seeded(0) as generator:
            model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))
            optimizer = torch.optim.Adam(model.parameters())

            def step(batch):
                loss = (model(batch) - batch).square().mean()
                update(optimizer, loss)
                return {"loss": loss.detach()}

            train(
                step,
                (torch.arange(60.0).reshape(20, 3) / 60,),
                epochs=12,
                batch_size=8,
                generator=generator,
                checkpoint=self.folder / "checkpoint",
                stateful={"model": model, "optimizer": optimizer},
                after_epoch=lambda history: len(history) == 10,
            )

    def result(self):
        """Names of files, and the checksum of the checkpoint, in which safetensors orders metadata at random."""
        with safetensors.safe_open(self.folder / "checkpoint", framework="pt") as file:
            return [path.name for path in self.folder.iterdir()], file.metadata()["sha256"]


class SavedResults(Run):
    """Two versions of a notebook's results are saved by turns; between the saves there is one or the other."""

    def __init__(self, folder):
        super().__init__(folder)
        self.versions = []
        for number in (0, 1):
            record = results.Results("01_small", output=folder, provenance={"parameters": {}})
            record.value("number", number)
            for name in ("a", "b", f"only_{number}"):
                fig, axes = plt.subplots(figsize=(1, 1))
                axes.plot([0, 1], [0, number])
                data = pd.DataFrame({"number": [number]})
                record.figure(fig, name, caption="A line.", alt="It rises.", data=data)
                plt.close(fig)
            self.versions.append(record)

    def work(self):
        for i in range(5):
            self.versions[i % 2].save()

    def check_killed(self):
        path = self.versions[0].path
        if path.exists() or results._commit_folder(path).exists():
            record = results.read(path)
            assert results.mixed_figures(record, self.folder) == []
            number = record["values"]["number"]["value"]
            assert {p.stem for p in (self.folder / "figures").iterdir()} == {"a", "b", f"only_{number}"}
            assert all((self.folder / entry["csv"]).is_file() for entry in record["figures"].values())


class Download(Run):
    def __init__(self, folder, url):
        super().__init__(folder)
        self.url = url

    def work(self):
        known = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
        download.download(self.url, self.folder / "file.bin", known_hash=known)


class Generation(Run):
    def work(self):
        os.environ["MMAD_CACHE_HOME"] = str(self.folder)  # of this process, which ends with the work
        synthetic("hazelnut", size=64, n_train=2, n_test=7)


class Sweep(Run):
    def work(self):
        benchmark.run_apart = lambda call, *given: call(*given)  # in this process, which is killed
        runs = RunFile(self.folder / "runs.jsonl", benchmark.RUN_KEYS)
        benchmark.benchmark(["DistanceToCenter", "PCAResidual"], ["breast_cancer"], seeds=2, runs=runs)

    def result(self):
        names = [path.name for path in self.folder.iterdir()]
        rows = RunFile(self.folder / "runs.jsonl", benchmark.RUN_KEYS).rows
        return names, sorted((row["detector"], row["seed"], row["auroc"]) for row in rows)


class Command(Run):
    """A Python command in a process group of its own."""

    root: Path  # of the project whose package it imports
    words: list[str]
    cwd: Path

    def start(self):
        path = os.pathsep.join([str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        options = {"cwd": self.cwd, "env": environment, "start_new_session": True}
        words = [sys.executable, "-m", *self.words]
        return subprocess.Popen(words, **options, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def work(self):
        process = self.start()
        errors = process.communicate()[1].decode()
        assert process.returncode == 0, errors


class Rules(Command):
    """A sweep by Snakemake: 12 cells in 4 jobs, two at a time, which must leave one record per cell."""

    root = ROOT

    def __init__(self, folder):
        super().__init__(folder)
        self.cwd = folder
        self.words = ["snakemake", "-s", str(ROOT / "Snakefile"), "sweep", "--configfile", "sweep.json", "-c", "2"]
        config = {"detectors": {"DistanceToCenter": {}, "PCAResidual": {}}, "datasets": ["breast_cancer", "digits/1"]}
        (folder / "sweep.json").write_text(json.dumps(config | {"folder": "out", "seeds": 3, "cells_per_job": 3}))

    def result(self):
        names = sorted(path.name for path in (self.folder / "out" / "cells").iterdir())
        rows = RunFile(self.folder / "out" / "runs.jsonl", benchmark.RUN_KEYS).rows
        return names, [[row[key] for key in (*benchmark.RUN_KEYS, "auroc")] for row in rows]


class Pipeline(Command):
    """A notebook from top to bottom."""

    def __init__(self, folder):
        super().__init__(folder)
        self.project = Project(folder / "project")
        self.root = self.cwd = self.project.root
        self.words = ["mmad_utils.course", "run", "small", "--output", str(self.folder / "out")]

    def result(self):
        out = self.folder / "out"
        names = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
        return names, (out / "results" / "small.json").read_bytes()


class Slow(BaseHTTPRequestHandler):
    """Serves ``CONTENT`` with Range, in pieces."""

    def do_GET(self):
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        try:
            for first in range(start, len(CONTENT), 20_000):
                self.wfile.write(CONTENT[first : first + 20_000])
                time.sleep(0.002)
        except OSError:
            pass  # the client was killed

    def log_message(self, *_):
        pass


@pytest.fixture
def make_run(tmp_path, request):
    """A function that makes a run of a kind in a new folder."""
    count = iter(range(10**6))
    with local_server(Slow) as server:
        url = f"http://127.0.0.1:{server.server_port}/file.bin"

        def make(kind):
            folder = tmp_path / str(next(count))
            folder.mkdir()
            return Download(folder, url) if kind is Download else kind(folder)

        yield make


def begin(run):
    """The run in a process of its own; forked, so that its imports are there already."""
    if isinstance(run, Command):
        return run.start()
    process = multiprocessing.get_context("fork").Process(target=run.work)
    process.start()
    return process


def kill(process):
    """Kill the process, and its children where it leads a group."""
    with_group = isinstance(process, subprocess.Popen)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if with_group else process.kill()
    if with_group:
        process.communicate()
    else:
        process.join()


def undisturbed(run):
    """What an undisturbed run gives, and the seconds it takes."""
    start = time.monotonic()
    process = begin(run)
    process.wait() if isinstance(process, subprocess.Popen) else process.join()
    assert (process.returncode if isinstance(process, subprocess.Popen) else process.exitcode) == 0
    return run.result(), time.monotonic() - start


def check_kills(make, kind, n, seed):
    expected, seconds = undisturbed(make(kind))
    random = Random(seed)
    for _ in range(n):
        run = make(kind)
        for _ in range(random.randint(1, 2)):  # killed once, or the next run too
            process = begin(run)
            time.sleep(random.uniform(0, seconds))
            kill(process)
            run.check_killed()
        assert undisturbed(run)[0] == expected


def check_pairs(make, kind, n):
    expected, _ = undisturbed(make(kind))
    for _ in range(n):
        run = make(kind)
        pair = [begin(run), begin(run)]
        for process in pair:
            process.wait() if isinstance(process, subprocess.Popen) else process.join()
        assert [p.returncode if isinstance(p, subprocess.Popen) else p.exitcode for p in pair] == [0, 0]
        assert run.result() == expected


FORKED = [Training, SavedResults, Download, Generation, Sweep]
named = partial(pytest.mark.parametrize, "kind", ids=lambda kind: kind.__name__)


@FORK
@named(FORKED)
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(make_run, kind):
    check_kills(make_run, kind, 2, seed=0)


@FORK
@named(FORKED)
def test_two_processes_at_once_end_as_one(make_run, kind):
    check_pairs(make_run, kind, 1)


@FORK
@named([Training, Generation])
def test_a_run_that_finds_everything_done_removes_the_lock_files_of_a_killed_one(make_run, kind):
    run = make_run(kind)
    expected, _ = undisturbed(run)
    folder = run.folder if kind is Training else run.folder / "synthetic"
    [written] = folder.iterdir()
    for name in (f".{written.name}.lock", f".{written.name}.4711.0123abcd.partial.lock"):
        (folder / name).touch()
    assert undisturbed(run)[0] == expected


@FORK
@pytest.mark.campaign
@pytest.mark.parametrize(("kind", "n"), [*((kind, 38) for kind in FORKED), (Pipeline, 10), (Rules, 5)])
def test_200_kills_change_no_result_and_leave_nothing(make_run, kind, n):
    check_kills(make_run, kind, n, seed=1)


@FORK
@pytest.mark.campaign
@pytest.mark.parametrize(("kind", "n"), [*((kind, 8) for kind in FORKED), (Pipeline, 2)])
def test_40_pairs_at_once_end_as_one(make_run, kind, n):
    check_pairs(make_run, kind, n)
