"""Time of the exact pixel metrics against scikit-learn's on the same pixels.

    python benchmarks/pixel_metrics.py [--images 25] [--size 1024] [--repetitions 3] [--without-sklearn]

Ours gives pixel AUROC, average precision and AUPRO; scikit-learn's side gives AUROC and average precision. The sides
alternate, and each repetition is a line of benchmarks/runs/pixel_metrics.jsonl with the load average of the machine
before it. Both sides must agree. The bar: 100 maps of 1024² in under 20 s on 2 cores.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from mmad_utils.metrics import pixel_metrics
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "pixel_metrics.jsonl"
SIDES = ("mmad", "scikit-learn")


def scene(n: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise maps in which one to three discs an image stand out, on four images of five."""
    masks, maps = np.zeros((n, size, size), bool), np.empty((n, size, size), np.float32)
    rows, columns = np.ogrid[:size, :size]
    for i in range(n):
        for _ in range(rng.integers(1, 4) if i % 5 else 0):
            row, column = rng.integers(0, size, 2)
            masks[i] |= (rows - row) ** 2 + (columns - column) ** 2 < (size * rng.uniform(0.02, 0.1)) ** 2
        coarse = rng.normal(size=(size // 16, size // 16)).astype(np.float32)
        maps[i] = ndimage.zoom(coarse, 16, order=1) + masks[i] + rng.normal(0, 0.1, (size, size))
    return masks, maps


def measure(side: str, masks: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Seconds of one repetition, what it computed, and the load average before it."""
    load = os.getloadavg()[0]
    start = time.perf_counter()
    if side == "mmad":
        found = pixel_metrics(masks, maps)
    else:
        y, scores = masks.ravel(), maps.ravel()
        found = {
            "pixel_auroc": roc_auc_score(y, scores),
            "pixel_average_precision": average_precision_score(y, scores),
        }
    return {
        "seconds": time.perf_counter() - start,
        "load": load,
        **{key: float(value) for key, value in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=25)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--without-sklearn", action="store_true", help="only our own time")
    options = parser.parse_args()
    masks, maps = scene(options.images, options.size, np.random.default_rng(0))
    file, rows = RunFile(RUNS, ("side", "images", "size", "repetition")), []
    for repetition in range(options.repetitions):
        for side in SIDES[: 1 if options.without_sklearn else 2]:
            run = {"side": side, "images": options.images, "size": options.size, "repetition": repetition}
            rows.append(file.find(run) or file.append(run | measure(side, masks, maps)))
    frame = pd.DataFrame(rows)
    print(frame.groupby("side", sort=False)[["seconds", "load"]].median().to_string())
    values = frame[["pixel_auroc", "pixel_average_precision"]].to_numpy()
    np.testing.assert_allclose(values, np.tile(values[:1], (len(values), 1)), rtol=1e-5)  # of the digits in the file


if __name__ == "__main__":
    main()
