"""Time and memory of fitting PaDiM's position-wise Gaussians, against the usual way.

    python benchmarks/positionwise_gaussian.py [--threads 2] [--positions 3136] [--samples 209] [--channels 550]

The usual way keeps all embeddings, computes np.cov at each position in a loop and inverts it explicitly, in
float64. Each side runs in a process of its own on the same embeddings; "beyond" is its peak resident memory
after the fit less that before, when the embeddings (float32) were already there.

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

import numpy as np
import torch

from mmad_utils.detectors.positionwise_gaussian import PositionwiseGaussian

REGULARIZATION = 0.01
CHECKED = 24  # positions whose distances are compared with float64
SCATTER_POSITIONS = 98  # the scatter form is scored on so many positions, its time scaled up


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


def seconds_per_image(model: PositionwiseGaussian, new: np.ndarray, batch: int) -> float:
    start = time.perf_counter()
    for first in range(0, len(new), batch):
        model.mahalanobis(new[first : first + batch])
    return (time.perf_counter() - start) / len(new)


def run(side: str, n: int, p: int, d: int) -> dict:
    """Fit in this process; seconds, bytes, and for ours also the error and the time of scoring."""
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
    measured["one by one"] = seconds_per_image(model, new, 1)
    measured["batches of 16"] = seconds_per_image(model, new, 16)
    few = min(p, SCATTER_POSITIONS)
    scatter = PositionwiseGaussian(REGULARIZATION).fit(embeddings(d + 50, few, d, seed=1))
    new = np.ascontiguousarray(new[:, :few])
    measured["scatter one by one"] = seconds_per_image(scatter, new, 1) * p / few
    measured["scatter batches of 16"] = seconds_per_image(scatter, new, 16) * p / few
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--positions", type=int, default=56 * 56)
    parser.add_argument("--samples", type=int, default=209)
    parser.add_argument("--channels", type=int, default=550)
    parser.add_argument("--side", choices=["ours", "reference"], help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.side:
        torch.set_num_threads(a.threads)
        print(json.dumps(run(a.side, a.samples, a.positions, a.channels)))
        return
    threads = {f"{name}_NUM_THREADS": str(a.threads) for name in ("OMP", "MKL", "OPENBLAS")}
    size = a.samples * a.positions * a.channels * 4
    print(f"{a.samples} embeddings of {a.channels} × {a.positions} ({size / 1e9:.2f} GB), {a.threads} threads")
    sides = {}
    for side in ("ours", "reference"):
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        output = subprocess.run(command, env={**os.environ, **threads}, check=True, capture_output=True, text=True)
        sides[side] = json.loads(output.stdout)
        found = sides[side]
        print(f"{side}: fit {found['seconds']:.2f} s, peak {found['bytes'] / 1e9:.2f} GB beyond the embeddings")
    ours = sides["ours"]
    print(f"ratio: {sides['reference']['seconds'] / ours['seconds']:.1f} times faster")
    print(f"largest relative error against float64 ({CHECKED} positions): {ours['error']:.1e}")
    for form in ("", "scatter "):
        print(
            f"scoring, {form or 'samples '}form: {ours[form + 'one by one'] * 1e3:.0f} ms an image one by one, "
            f"{ours[form + 'batches of 16'] * 1e3:.0f} ms in batches of 16"
        )


if __name__ == "__main__":
    main()
