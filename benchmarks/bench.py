"""Compare time, memory and results of this package with other libraries.

    python benchmarks/bench.py [--tasks padim,deep] [--threads 1,2] [--repetitions 3] [--runs FILE]

``make bench`` builds the environment of the other libraries first (benchmarks/.venv, versions in
benchmarks/peers.lock). The tasks of both sides are in benchmarks/bench_work.py. A pair is one repetition of a task by
both sides, each in a separate process, with the same data, seed and number of threads. The side that runs first
alternates. A pair is one line of the run file, with seconds, CPU seconds, memory, results, their largest relative
difference, and the load average of the machine before it. Pairs in the file are not repeated; remove the file to
measure all pairs again.

A pair whose data are missing, or that needs more memory than is free, is reported and skipped. If a side fails, this
is reported, the other pairs are measured, and the exit status is 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmad_utils.datasets import DatasetError, load
from mmad_utils.runs import RunFile

HERE = Path(__file__).resolve().parent
RUNS = HERE / "runs" / "bench.jsonl"
PEERS = HERE / ".venv" / "bin" / "python"
KEYS = ("task", "setting", "threads", "repetition")
DETECTORS = ("AutoEncoder", "VariationalAutoEncoder", "DeepSVDD", "RDP", "REPEN")
TABLES = ("tables/vowels", "tables/optdigits", "tables/satellite")
SETTINGS: dict[str, list[dict]] = {
    "threads": [{"busy": busy} for busy in (False, True)],
    "deep": [{"detector": detector, "dataset": table} for detector in DETECTORS for table in TABLES],
    "padim": [
        {"samples": samples, "channels": channels}
        for samples, channels in ((209, 100), (1000, 100), (209, 250), (209, 550))
    ],
    "patchcore": [{"images": 60, "ratio": 0.01}],
    "pixels": [
        {"images": images, "size": 1024, "regions": regions} for images, regions in ((10, True), (100, False))
    ],
}


class SideError(RuntimeError):
    """One side failed; the message is the end of its output."""


def pairs(tasks: list[str], threads: list[int], repetitions: int) -> Iterator[dict]:
    """The pairs to measure: all settings once per repetition, so that a load of the machine affects all equally."""
    for repetition in range(repetitions):
        for task in tasks:
            for setting in SETTINGS[task]:
                for count in threads:
                    if task != "threads" or count > 1:
                        yield {"task": task, "setting": setting, "threads": count, "repetition": repetition}


def measure(pair: dict, python: dict[str, Path]) -> dict:
    """One repetition by both sides."""
    row = pair | {"load": os.getloadavg()[0]}
    found = {}
    for side in ("mmad", "peer")[:: -1 if pair["repetition"] % 2 else 1]:
        threads = 1 if pair["task"] == "threads" and side == "peer" else pair["threads"]
        measures, found[side] = run(pair, side, threads, python["mmad" if pair["task"] == "threads" else side])
        row |= {f"{side}_{name}": value for name, value in measures.items()}
    if found["mmad"] is not None:
        row["difference"] = float(np.abs(found["mmad"] - found["peer"]).max() / np.abs(found["peer"]).max())
    return row


def run(pair: dict, side: str, threads: int, python: Path) -> tuple[dict, np.ndarray | None]:
    """Run one side in a separate process: its measures, and the array that both sides compute."""
    count = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    environment = os.environ | count | {"PYTHONPATH": str(HERE.parent)}
    with tempfile.TemporaryDirectory() as folder:
        work = [pair["task"], side, str(pair["repetition"]), json.dumps(pair["setting"]), folder]
        command = [str(python), str(HERE / "bench_work.py"), *work]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SideError(f"{side}: " + " ".join(done.stderr.strip().splitlines()[-1:] or ["it was killed"]))
        result = Path(folder) / "result.npy"
        measures = json.loads((Path(folder) / "measures.json").read_text())
        return measures, np.load(result) if result.exists() else None


def obstacle(pair: dict) -> str:
    """The reason why a pair cannot be measured here, or an empty text."""
    setting = pair["setting"]
    if "dataset" in setting:
        try:
            load(setting["dataset"])
        except DatasetError as error:
            return str(error)
    needed, free = memory(pair["task"], setting), available()
    return f"it needs {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} GB are free" if needed > free else ""


def memory(task: str, setting: dict) -> float:
    """Upper bound of the bytes that the other side needs, from the sizes of its arrays."""
    if task == "padim":
        return 4 * 56**2 * setting["channels"] * (4.5 * setting["channels"] + 2 * setting["samples"])
    return 64 * setting["images"] * setting["size"] ** 2 if task == "pixels" else 0


def available() -> float:
    """Free memory in bytes; infinite if the system does not provide it."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return np.inf
    return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(SETTINGS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=RUNS, help="file of the runs")
    parser.add_argument("--peers", type=Path, default=PEERS, help="Python with the other libraries")
    options = parser.parse_args()
    tasks = options.tasks.split(",")
    if unknown := set(tasks) - SETTINGS.keys():
        parser.error(f"unknown task {min(unknown)!r}; choose from {', '.join(SETTINGS)}.")
    if not options.peers.exists():
        parser.error(f"{options.peers} does not exist: `make bench` builds the environment of the other libraries.")
    file, failed, told = RunFile(options.runs, KEYS), False, set()
    for pair in pairs(tasks, [int(count) for count in options.threads.split(",")], options.repetitions):
        if file.find(pair):
            continue
        name = f"{pair['task']} {' '.join(map(str, pair['setting'].values()))}"
        if problem := obstacle(pair):
            if name not in told:
                print(f"{name}: left out: {problem}", flush=True)
            told.add(name)
            continue
        try:
            row = file.append(measure(pair, {"mmad": Path(sys.executable), "peer": options.peers}))
        except SideError as error:
            print(f"{name}: failed: {error}", flush=True)
            failed = True
            continue
        seconds = {
            key: f"{value:.2f}" for key, value in row.items() if key.endswith("_seconds") or key.endswith("_auroc")
        }
        print(name, f"threads {pair['threads']}, repetition {pair['repetition']}:", seconds, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
