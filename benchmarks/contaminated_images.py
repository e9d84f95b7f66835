"""Detectors trained and tested on the same contaminated images: E3Outlier, autoencoders and baselines.

    MMAD_DATA_HOME=... python benchmarks/contaminated_images.py [--datasets mnist/0,mnist/1] [--rate 0.1] [--seeds 5]

The protocol of Wang et al. (2019): the set has all images of one class and, as a share ρ of the whole, random images
of the other classes. A detector is trained on this set and scores the same set. Only the metrics use labels. In
AUPR-in the inliers are the positive class, in AUPR-out the outliers. `python -m mmad_utils.benchmark` trains on
normal images only and cannot measure this. Each run is a line of benchmarks/runs/contaminated.jsonl, written at its
end; runs in the file are not repeated.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from mmad_utils import DAGMM, AutoEncoder, E3Outlier, RobustDeepAutoEncoder
from mmad_utils.datasets import load
from mmad_utils.detectors.baselines import DistanceToCenter, PCAResidual, RandomScore
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.metrics import auroc, average_precision
from mmad_utils.runs import RunFile
from mmad_utils.training import update

RUNS = Path(__file__).resolve().parent / "runs" / "contaminated.jsonl"
LONG = 700  # updates of 64 images, the budget of the robust autoencoder
MAX_RATIO = 1.2  # held-out error / training error, chosen on the digits 0, 3 and 8 with seed 10 (notebook 03b)
CLASSES = (2, 3, 4, 5, 6, 7, 9)  # of digit_scenes: digits that no flip or half turn maps to themselves
GROUPS = {
    "baselines": ("random score", "‖x‖²", "PCA residual", "Gaussian", "kNN (5)", "Isolation Forest"),
    "CAE": ("CAE, 700 steps", "CAE-IF"),
    "CAE short": ("CAE, 50 epochs", "CAE, stopping rule"),
    "RDAE": ("RDAE",),
    "DAGMM": ("DAGMM",),
    "untrained": ("CAE untrained", "E3Outlier untrained"),
    "E3Outlier": ("SSD-IF", "E3Outlier PL", "E3Outlier MP", "E3Outlier NE"),
}


class StoppedAutoEncoder(AutoEncoder):
    """Trains on 80% of the samples until the error on the others is MAX_RATIO times the training error."""

    def optimise(self, data, generator):
        optimizer = torch.optim.Adam(self.network_.parameters(), lr=self.learning_rate)
        held_out = torch.arange(len(data)) % 5 == 0

        def step(batch):
            loss = self.loss(batch, generator)
            update(optimizer, loss)
            return {"loss": loss.detach()}

        @torch.no_grad()
        def memorises(history):
            self.network_.eval()
            error = torch.cat([self.batch_score(batch, generator) for batch in data.split(1024)])
            self.network_.train()
            return error[held_out].mean() > MAX_RATIO * error[~held_out].mean()

        return self.run(step, data[~held_out], generator, after_epoch=memorises)


def contaminated(name: str, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All normal images of a data set with a share `rate` of outliers among them, and the labels."""
    dataset = load(name, seed=seed)
    inliers = np.concatenate([dataset.X_train, dataset.X_test[dataset.y_test == 0]])
    others = dataset.X_test[dataset.y_test == 1]
    n = round(len(inliers) * rate / (1 - rate))
    outliers = others[np.random.default_rng(seed).choice(len(others), n, replace=False)]
    return np.concatenate([inliers, outliers]), np.repeat([0, 1], [len(inliers), n])


def scores(group: str, X: np.ndarray, seed: int):
    """Yield (row of the table, scores, further entries) of a group; one training may give several rows."""
    rows = X.reshape(len(X), -1) / 255
    epochs = round(LONG * 64 / len(X))
    if group == "baselines":
        yield "random score", RandomScore(seed).fit(rows).anomaly_score(rows), {}
        yield "‖x‖²", DistanceToCenter("none").fit(rows).anomaly_score(rows), {}
        yield "PCA residual", PCAResidual().fit(rows).anomaly_score(rows), {}
        yield "Gaussian", GaussianAnomalyScorer().fit(rows).anomaly_score(rows), {}
        yield (
            "kNN (5)",
            NearestNeighbors(n_neighbors=5).fit(rows).kneighbors()[0][:, -1],
            {},
        )  # among the other samples
        yield "Isolation Forest", forest_scores(rows, seed), {}
    elif group == "CAE":
        cae = AutoEncoder(epochs=epochs, random_state=seed).fit(X)
        yield "CAE, 700 steps", cae.anomaly_score(X), {"epochs": epochs}
        yield "CAE-IF", forest_scores(cae.encode(X), seed), {"epochs": epochs}
    elif group == "CAE short":
        yield "CAE, 50 epochs", AutoEncoder(epochs=50, random_state=seed).fit(X).anomaly_score(X), {"epochs": 50}
        cae = StoppedAutoEncoder(epochs=epochs, random_state=seed).fit(X)
        yield "CAE, stopping rule", cae.anomaly_score(X), {"epochs": len(cae.history_)}
    elif group == "RDAE":
        rdae = RobustDeepAutoEncoder(epochs=epochs, random_state=seed).fit(X)
        in_S = np.abs(rdae.sparse_).reshape(len(X), -1).any(axis=1).mean()
        yield "RDAE", rdae.anomaly_score(X), {"epochs": epochs, "rows_in_S": float(in_S)}
    elif group == "DAGMM":
        yield "DAGMM", DAGMM(random_state=seed).fit(rows).anomaly_score(rows), {}
    elif group == "untrained":
        yield "CAE untrained", AutoEncoder(epochs=0, random_state=seed).fit(X).anomaly_score(X), {}
        yield "E3Outlier untrained", E3Outlier(epochs=0, random_state=seed).fit(X).anomaly_score(X), {}
    else:
        e3 = E3Outlier(random_state=seed).fit(X)
        yield "SSD-IF", forest_scores(e3.transform(X), seed), {}
        for score in ("PL", "MP", "NE"):
            yield f"E3Outlier {score}", e3.set_params(score=score).anomaly_score(X), {}


def forest_scores(features: np.ndarray, seed: int) -> np.ndarray:
    return -IsolationForest(random_state=seed).fit(features).score_samples(features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default=",".join(f"digit_scenes/{k}" for k in CLASSES))
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--groups", default=",".join(GROUPS), help=f"of {', '.join(GROUPS)}")
    options = parser.parse_args()
    file, found = RunFile(RUNS, ("detector", "dataset", "seed", "rate")), []
    for seed in range(options.seeds):
        for name in options.datasets.split(","):
            X, y = contaminated(name, options.rate, seed)
            for group in options.groups.split(","):
                keys = [
                    {"detector": row, "dataset": name, "seed": seed, "rate": options.rate} for row in GROUPS[group]
                ]
                start = time.perf_counter()
                for key, (row, values, facts) in zip(
                    keys, scores(group, X, seed) if not all(map(file.find, keys)) else ()
                ):
                    assert row == key["detector"]
                    measures = {
                        "auroc": auroc(y, values),
                        "aupr_in": average_precision(1 - y, -values),
                        "aupr_out": average_precision(y, values),
                        "seconds": time.perf_counter() - start,
                    }
                    file.append(key | measures | facts)
                found += map(file.find, keys)
    frame = pd.DataFrame(found).assign(family=lambda rows: rows["dataset"].str.split("/").str[0])
    means = frame.groupby(["family", "detector", "seed"], sort=False).mean(numeric_only=True).drop(columns="rate")
    print(means.groupby(["family", "detector"], sort=False).agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main()
