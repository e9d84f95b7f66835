"""Accuracy of kNN and PatchCore when they keep a bounded part of the training set.

    python benchmarks/bounded_memory.py

``KNNDistance`` keeps a random subset of the rows, on three tables. ``PatchCore`` builds its coreset in one pass, on
real hazelnuts. It is compared with coresets of the same size from all patches: 1% of 61,152 patches is about the same
number as 6% of 10,000. No parameter is chosen, and the test uses the half "report". Runs are lines of
benchmarks/runs/bounded.jsonl.
"""

import itertools
from pathlib import Path

from tqdm import tqdm

from mmad_utils.benchmark import RUN_KEYS, measure
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "bounded.jsonl"
TABLES = ("tables/vowels", "tables/optdigits", "tables/satellite")
PLAN = [
    *itertools.product(["KNNDistance"], TABLES, range(5), [{"max_samples": size} for size in (1000, 300, 100, 30)]),
    *itertools.product(
        ["PatchCore"],
        ["mvtec/hazelnut"],
        range(3),
        [
            {},
            {"max_patches": 10_000, "coreset_ratio": 0.06},
            {"coreset_ratio": 0.0016},
            {"max_patches": 10_000, "coreset_ratio": 0.01},
        ],
    ),
]


def main() -> None:
    file = RunFile(RUNS, RUN_KEYS)
    for detector, dataset, seed, parameters in tqdm(PLAN, unit="run"):
        key = dict(zip(RUN_KEYS, (detector, dataset, seed, parameters, "fresh", "report")))
        if not file.find(key):
            file.append(measure(detector, dataset, seed, parameters, anomalies="report"))


if __name__ == "__main__":
    main()
