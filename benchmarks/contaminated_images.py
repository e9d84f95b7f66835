"""Sorting out unlabelled images: E3Outlier and its rivals, trained on inliers and outliers together.

    python benchmarks/contaminated_images.py [--datasets mnist/0,mnist/1] [--rates 0.1,0.2] [--seeds 1]

The protocol of Wang et al. (2019): all images of one class and, for a rate ρ of the whole, images drawn at random
from the other classes, train *and* are scored; labels are seen by the metrics only. AUPR-in takes the inliers as the
class to find, AUPR-out the outliers. `python -m mmad_utils.benchmark` trains on normal images only and cannot measure
this. One line a run is written to --json as it ends; the table shows, over the seeds, the means over the data sets.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest

from mmad_utils import DAGMM, AutoEncoder, E3Outlier, RobustDeepAutoEncoder
from mmad_utils.datasets import load
from mmad_utils.detectors.baselines import DistanceToCenter, RandomScore
from mmad_utils.metrics import auroc, average_precision

AUTOENCODER_STEPS = 700  # of 64 images; on digit_scenes their AUROC no longer changes after 600
CLASSES = (2, 3, 4, 5, 6, 7, 9)  # of digit_scenes: digits that no flip or half turn maps to themselves


def contaminated(name: str, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All normal images of a data set with a share `rate` of outliers among them, and the labels."""
    dataset = load(name, seed=seed)
    inliers = np.concatenate([dataset.X_train, dataset.X_test[dataset.y_test == 0]])
    others = dataset.X_test[dataset.y_test == 1]
    n = round(len(inliers) * rate / (1 - rate))
    outliers = others[np.random.default_rng(seed).choice(len(others), n, replace=False)]
    return np.concatenate([inliers, outliers]), np.repeat([0, 1], [len(inliers), n])


def runs(detector: str, X: np.ndarray, seed: int):
    """Yield (row of the table, scores, seconds) of one detector; one training may give several rows."""
    rows = X.reshape(len(X), -1) / 255
    epochs = round(AUTOENCODER_STEPS * 64 / len(X))
    start = time.perf_counter()
    if detector == "rulers":
        yield "random", RandomScore(seed).fit(rows).anomaly_score(rows), 0.0
        yield "‖x‖²", DistanceToCenter("none").fit(rows).anomaly_score(rows), time.perf_counter() - start
        start = time.perf_counter()
        yield "Isolation Forest", forest_scores(rows, seed), time.perf_counter() - start
    elif detector == "CAE":
        cae = AutoEncoder(epochs=epochs, random_state=seed).fit(X)
        yield "CAE", cae.anomaly_score(X), time.perf_counter() - start
        yield "CAE-IF", forest_scores(cae.encode(X), seed), time.perf_counter() - start
    elif detector == "RDAE":
        rdae = RobustDeepAutoEncoder(epochs=epochs, random_state=seed)
        yield "RDAE", rdae.fit(X).anomaly_score(X), time.perf_counter() - start
    elif detector == "DAGMM":
        yield "DAGMM", DAGMM(random_state=seed).fit(rows).anomaly_score(rows), time.perf_counter() - start
    elif detector == "untrained":
        yield "E3Outlier untrained", E3Outlier(epochs=0, random_state=seed).fit(X).anomaly_score(X), 0.0
    else:
        e3 = E3Outlier(random_state=seed).fit(X)
        seconds = time.perf_counter() - start
        yield "SSD-IF", forest_scores(e3.transform(X), seed), seconds
        for score in ("PL", "MP", "NE"):
            yield f"E3Outlier {score}", e3.set_params(score=score).anomaly_score(X), seconds


def forest_scores(features: np.ndarray, seed: int) -> np.ndarray:
    return -IsolationForest(random_state=seed).fit(features).score_samples(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default=",".join(f"digit_scenes/{k}" for k in CLASSES))
    parser.add_argument("--rates", default="0.1")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--detectors", default="rulers,CAE,RDAE,DAGMM,untrained,E3Outlier")
    parser.add_argument("--json", type=Path, help="append one line a run")
    options = parser.parse_args()
    records = []
    for seed in range(options.seeds):
        for rate in map(float, options.rates.split(",")):
            for name in options.datasets.split(","):
                X, y = contaminated(name, rate, seed)
                for detector in options.detectors.split(","):
                    for row, scores, seconds in runs(detector, X, seed):
                        key = {
                            "family": name.split("/")[0],
                            "rate": rate,
                            "detector": row,
                            "name": name,
                            "seed": seed,
                        }
                        records.append(
                            key
                            | {
                                "auroc": auroc(y, scores),
                                "aupr_in": average_precision(1 - y, -scores),
                                "aupr_out": average_precision(y, scores),
                                "seconds": seconds,
                            }
                        )
                        if options.json:
                            with options.json.open("a") as file:
                                file.write(json.dumps(records[-1]) + "\n")
    frame = pd.DataFrame(records)
    means = frame.groupby(["family", "rate", "detector", "seed"], sort=False).mean(numeric_only=True)
    table = means.groupby(["family", "rate", "detector"], sort=False).agg(["mean", "std"])
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
