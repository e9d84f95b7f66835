"""Growth of time and memory with the number of rows, columns, images, positions and features.

    python benchmarks/growth.py [--repetitions 3]

Each method is measured on generated data with one thread, along one axis at a time over a factor of 32 or more. Each
repetition runs in a separate process. "bytes" is its peak resident memory minus the memory before its data were
generated. It includes data that the method must hold, and one batch of a stream. The features of images are random
maps of the shapes of ``efficientnet_lite0``, so that the backbone is not measured. Each repetition is a line of
benchmarks/runs/growth.jsonl with the load average of the machine before it.
"""

import argparse
import multiprocessing
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mmad_utils.detectors.baselines import KNNDistance
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.detectors.padim import PaDiM, PatchCore
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "growth.jsonl"
KEYS = ("method", "axis", "size", "repetition")
BATCH = 10_000  # rows of a stream
SIDE, CHANNELS = 28, (40, 112)  # of the maps of efficientnet_lite0, layers 2 and 3, at 224 pixels


class Clock:
    """Sum of the CPU seconds of calls, which with one thread depend little on other processes of the machine."""

    seconds = 0.0

    def __call__(self, work, *arguments):
        start = time.process_time()
        result = work(*arguments)
        self.seconds += time.process_time() - start
        return result


class RandomMaps:
    """Replacement of ``ImageEncoder``: random feature maps for each image, which is given as a number."""

    fingerprint = ""

    def __init__(self, side: int, channels: tuple[int, int]):
        self.grid_, self.channels = (side, side), channels

    def features(self, X):
        for start in range(0, len(X), 16):
            rng, side = np.random.default_rng(start), self.grid_[0]
            shapes = [(len(X[start : start + 16]), c, s, s) for c, s in zip(self.channels, (side, side // 2))]
            yield [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for shape in shapes]


def without_backbone(detector_class, positions: int, channels=CHANNELS, **parameters):
    """A detector of images with random feature maps."""

    class Measured(detector_class):
        def _make_encoder(self):
            return RandomMaps(round(positions**0.5), channels)

        def _check(self, X, *, reset):
            return X

    return Measured(image_size=8 * round(positions**0.5), random_state=0, **parameters)


def table(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns))


def gaussian_fit(clock, rows=20_000, columns=20):
    clock(GaussianAnomalyScorer().fit, table(rows, columns))


def gaussian_score(clock, rows=20_000, columns=20):
    detector = GaussianAnomalyScorer().fit(table(1_000, columns))
    clock(detector.anomaly_score, table(rows, columns))


def stream(clock, detector, rows, columns):
    rng = np.random.default_rng(0)
    for start in range(0, rows, BATCH):
        clock(detector.partial_fit, rng.normal(size=(min(BATCH, rows - start), columns)))


def gaussian_stream(clock, rows=20_000, columns=20):
    stream(clock, GaussianAnomalyScorer(), rows, columns)


def neighbours_stream(clock, rows=20_000, columns=20):
    stream(clock, KNNDistance(max_samples=1_000, random_state=0), rows, columns)


def neighbours_fit(clock, rows=4_000, columns=20):
    clock(KNNDistance().fit, table(rows, columns))


def neighbours_score(clock, rows=4_000, columns=20):
    detector, kept = object.__new__(KNNDistance), table(rows, columns)
    detector.set_state({"parameters": {}, "fitted": {"X_": kept, "n_features_in_": columns}})
    clock(detector.anomaly_score, table(1_000, columns))


def padim(positions=SIDE**2, features=100):
    channels = CHANNELS if features <= sum(CHANNELS) else (features // 2, features // 2)
    return without_backbone(PaDiM, positions, channels, n_features=features)


def padim_fit(clock, images=128, **sizes):
    clock(padim(**sizes).fit, np.arange(images))


def padim_fit_features(clock, features):
    padim_fit(clock, images=544, positions=36, features=features)


def padim_score(clock, positions):
    detector = padim(positions).fit(np.arange(128))
    clock(detector.anomaly_score, np.arange(16))


def patchcore_fit(clock, images=16, positions=SIDE**2):
    clock(without_backbone(PatchCore, positions).fit, np.arange(images))


def patchcore_stream(clock, images=128, positions=SIDE**2):
    clock(without_backbone(PatchCore, positions, max_patches=10_000).fit, np.arange(images))


def patchcore_score(clock, memory):
    detector = without_backbone(PatchCore, SIDE**2)
    detector._encoder, detector.fingerprint_ = RandomMaps(SIDE, CHANNELS), ""
    detector.memory_ = torch.from_numpy(table(memory, sum(CHANNELS))).float()
    clock(detector.anomaly_score, np.arange(16))


def doubled(first: int) -> list[int]:
    return [first * 2**i for i in range(6)]


SQUARES = [side**2 for side in (10, 14, 20, 28, 40, 58)]
PLAN = {
    "GaussianAnomalyScorer: fit": (gaussian_fit, {"rows": doubled(31_250), "columns": doubled(8)}),
    "GaussianAnomalyScorer: partial_fit": (gaussian_stream, {"rows": doubled(31_250)}),
    "GaussianAnomalyScorer: score": (gaussian_score, {"rows": doubled(31_250), "columns": doubled(8)}),
    "KNNDistance: fit": (neighbours_fit, {"rows": doubled(1_000), "columns": doubled(8)}),
    "KNNDistance(max_samples=1000): partial_fit": (neighbours_stream, {"rows": doubled(31_250)}),
    "KNNDistance: score of 1,000 rows": (neighbours_score, {"rows": doubled(1_000)}),
    "PaDiM: fit": (padim_fit, {"images": doubled(16), "positions": SQUARES}),
    "PaDiM: fit of 544 images at 36 positions": (padim_fit_features, {"features": doubled(16)}),
    "PaDiM: score of 16 images": (padim_score, {"positions": SQUARES}),
    "PatchCore: fit": (patchcore_fit, {"images": doubled(4), "positions": SQUARES}),
    "PatchCore(max_patches=10000): fit": (patchcore_stream, {"images": doubled(16)}),
    "PatchCore: score of 16 images": (patchcore_score, {"memory": doubled(250)}),
}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(method: str, axis: str, size: int) -> dict[str, float]:
    """Seconds and bytes, in a new process."""
    torch.set_num_threads(1)
    clock, before = Clock(), peak_bytes()
    with threadpool_limits(1):
        PLAN[method][0](clock, **{axis: size})
    return {"seconds": clock.seconds, "bytes": peak_bytes() - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    file, processes = RunFile(RUNS, KEYS), multiprocessing.get_context("fork")
    for repetition in range(options.repetitions):
        for method, (_, axes) in PLAN.items():
            for axis, size in ((axis, size) for axis, sizes in axes.items() for size in sizes):
                run = {"method": method, "axis": axis, "size": size, "repetition": repetition}
                if not file.find(run):
                    load = os.getloadavg()[0]
                    with processes.Pool(1) as pool:
                        found = pool.apply(measure, (method, axis, size))
                    print(method, axis, size, found, flush=True)
                    file.append(run | {"load": load} | found)


if __name__ == "__main__":
    main()
