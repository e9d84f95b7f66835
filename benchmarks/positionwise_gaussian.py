"""Time and memory of fitting PaDiM's position-wise Gaussians, against the usual way.

    python benchmarks/positionwise_gaussian.py [--threads 2] [--positions 3136] [--samples 209] [--channels 550]
        [--repetitions 3]

The usual way keeps all embeddings, computes np.cov at each position in a loop and inverts it explicitly, in
float64. Each repetition of a side runs in a process of its own on the same embeddings, and the sides alternate;
"bytes" is its peak resident memory after the fit less that before, when the embeddings (float32) were already there.
Each repetition is a line of benchmarks/runs/positionwise_gaussian.jsonl with the load average of the machine before
it.

The bar, at the default sizes: at least 15 times faster, at most 2.1 GB beyond the embeddings, and distances
within a relative 1e-4 of float64.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmad_utils.detectors.positionwise_gaussian import PositionwiseGaussian
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "positionwise_gaussian.jsonl"
SIDES = ("mmad", "reference")
KEYS = ("side", "samples", "positions", "channels", "threads", "repetition")
REGULARIZATION = 0.01
CHECKED = 24  # positions whose distances are compared with float64


def embeddings(n: int, p: int, d: int, seed: int) -> np.ndarray:
    """Float32 (n, p, d): unequal scales, eight common factors and a mean at each position, and noise."""
    result = np.empty((n, p, d), np.float32)
    for i in range(p):
        place = np.random.default_rng([0, i])
        mean, loadings = place.normal(2, 1, d), place.normal(0, 0.5, (8, d))
        scale = place.uniform(0.1, 1.5, d)
        rng = np.random.default_rng([seed, i])
        result[:, i] = mean + rng.normal(size=(n, 8)) @ loadings + rng.normal(size=(n, d)) * scale
    return result


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reference_fit(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and inverse covariance of each position."""
    _, p, d = X.shape
    inverse = np.empty((p, d, d))
    for i in range(p):
        inverse[i] = np.linalg.inv(np.cov(X[:, i], rowvar=False) + REGULARIZATION * np.eye(d))
    return X.mean(0, dtype=np.float64), inverse


def run(side: str, n: int, p: int, d: int) -> dict:
    """Fit in this process: seconds, bytes, and for ours the largest relative error of a distance."""
    PositionwiseGaussian().fit(np.random.default_rng(0).normal(size=(8, 4, 32)))  # libraries load here
    np.linalg.inv(np.cov(np.random.default_rng(0).normal(size=(32, 8))) + np.eye(32))
    X = embeddings(n, p, d, seed=1)
    before, start = peak_bytes(), time.perf_counter()
    if side == "reference":
        reference_fit(X)
        return {"seconds": time.perf_counter() - start, "bytes": peak_bytes() - before}
    model = PositionwiseGaussian(REGULARIZATION).fit(X)
    measured = {"seconds": time.perf_counter() - start, "bytes": peak_bytes() - before}
    new = np.concatenate([embeddings(12, p, d, seed=2), X[:4]])  # unseen ones, and some in the span
    found = model.mahalanobis(new)
    places = np.linspace(0, p - 1, min(p, CHECKED)).astype(int)
    mean, inverse = reference_fit(X[:, places])
    delta = new[:, places] - mean
    expected = np.sqrt(np.einsum("npd,pde,npe->np", delta, inverse, delta))
    measured["error"] = float(np.abs(found[:, places] / expected - 1).max())
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--positions", type=int, default=56 * 56)
    parser.add_argument("--samples", type=int, default=209)
    parser.add_argument("--channels", type=int, default=550)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        torch.set_num_threads(options.threads)
        print(json.dumps(run(options.side, options.samples, options.positions, options.channels)))
        return
    environment = {**os.environ} | {
        f"{name}_NUM_THREADS": str(options.threads) for name in ("OMP", "MKL", "OPENBLAS")
    }
    file, rows = RunFile(RUNS, KEYS), []
    for repetition in range(options.repetitions):
        for side in SIDES:
            key = {name: getattr(options, name) for name in KEYS[1:-1]} | {"side": side, "repetition": repetition}
            if not (row := file.find(key)):
                load = os.getloadavg()[0]
                command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
                output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                row = file.append(key | {"load": load} | json.loads(output.stdout))
            rows.append(row)
    print(pd.DataFrame(rows).drop(columns=list(KEYS[1:])).groupby("side").median(numeric_only=True).T.to_string())


if __name__ == "__main__":
    main()
