"""The unified detector against the best of each modality, its false alarms, its stream, and what labels buy.

    MMAD_DATA_HOME=... python benchmarks/unified.py [--image mvtec/hazelnut] [--table thyroid] [--seeds 5]

Data sets are taken on their own split, the seed is the detectors'. Parts:

accuracy   AUROC of the unified detectors (one scorer for both modalities) and of single-modality detectors
alarms     share of held-out normal samples below p = 5%: each seed holds out another fifth of all normal samples
stream     partial_fit over 20 batches against one fit: largest relative difference of means, covariances, distances
labels     AUROC of the table with 0 ... 50 labelled anomalies, which leave the test set for every arm, and the paired
           gain with its 95% interval (t) over the seeds
encoder    AUROC of what TabularEncoder could learn, on tables that a ruler does not solve; Gaussian scorer throughout
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler

from mmad_utils import (
    DenoisingAutoEncoder,
    DistanceToCenter,
    GaussianAnomalyScorer,
    HybridMultiModalAnomalyDetector,
    ImageEncoder,
    KNNDistance,
    MomentMatching,
    MultiModalAnomalyDetector,
    PaDiM,
    PatchCore,
    PCAResidual,
    SupervisedMultiModalAnomalyDetector,
    TabularEncoder,
)
from mmad_utils.datasets import Dataset, load
from mmad_utils.datasets.take import take
from mmad_utils.metrics import auroc

COUNTS = (0, 1, 5, 10, 20, 50)


def unified(seed: int, residuals: bool = True, **parameters) -> MultiModalAnomalyDetector:
    encoders = {"image": ImageEncoder(layers=(2, 3, 4)), "tabular": TabularEncoder(residuals=residuals)}
    return MultiModalAnomalyDetector(encoders, random_state=seed, **parameters)


def accuracy(image: Dataset, table: Dataset, seeds: int) -> pd.DataFrame:
    X = {"image": image.X_train, "tabular": table.X_train}
    tests = {"image": image.X_test, "tabular": table.X_test}
    labels = {"image": image.y_test, "tabular": table.y_test}
    rows = []
    for seed in range(seeds):
        pooled = {"scorer": GaussianAnomalyScorer(), "calibration_folds": 0}
        whole = {
            "unified": unified(seed, calibration_folds=0),  # calibration does not change an order
            "unified, scaled columns only": unified(seed, residuals=False, calibration_folds=0),
            "one Gaussian for all": unified(seed, **pooled),
            "one Gaussian, moments matched": unified(seed, alignment=MomentMatching(), **pooled),
        }
        for name, detector in whole.items():
            scores = detector.fit(X).anomaly_score(tests)
            rows += [(name, key, seed, auroc(labels[key], values)) for key, values in scores.items()]
        scaler = StandardScaler().fit(table.X_train)
        train, test = scaler.transform(table.X_train), scaler.transform(table.X_test)
        for name, detector in {
            "IsolationForest": IsolationForest(random_state=seed),
            "KNNDistance": KNNDistance(),
            "PCAResidual": PCAResidual(),
            "GaussianAnomalyScorer": GaussianAnomalyScorer(),
        }.items():
            rows.append((name, "tabular", seed, auroc(table.y_test, -detector.fit(train).score_samples(test))))
        ruler = DistanceToCenter("robust_arcsinh").fit(table.X_train)
        rows.append(("robust ruler", "tabular", seed, auroc(table.y_test, ruler.anomaly_score(table.X_test))))
        for detector in (
            PaDiM(random_state=seed),
            PaDiM(random_state=seed, per_position=False),
            PatchCore(random_state=seed),
        ):
            name = type(detector).__name__ + ("" if getattr(detector, "per_position", True) else ", one Gaussian")
            rows.append(
                (name, "image", seed, auroc(image.y_test, detector.fit(image.X_train).anomaly_score(image.X_test)))
            )
    frame = pd.DataFrame(rows, columns=["detector", "modality", "seed", "auroc"])
    return (
        frame.groupby(["detector", "modality"], sort=False)["auroc"].agg(["mean", "std", "count"]).unstack("modality")
    )


def alarms(image: Dataset, table: Dataset, seeds: int) -> pd.DataFrame:
    normals = {}
    for name, data in (("image", image), ("tabular", table)):
        rest = take(data.X_test, np.flatnonzero(data.y_test == 0))
        whole = isinstance(data.X_train, np.ndarray)
        normals[name] = np.concatenate([data.X_train, rest]) if whole else [*data.X_train, *rest]
    rows = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        fold = {name: rng.permutation(len(samples)) % 5 for name, samples in normals.items()}
        train = {name: take(normals[name], np.flatnonzero(fold[name] != 0)) for name in normals}
        held = {name: take(normals[name], np.flatnonzero(fold[name] == 0)) for name in normals}
        detector = unified(seed).fit(train)
        for name, predictions in detector.predict(held).items():
            conformal = (detector.p_values({name: held[name]})[name] <= 0.05).mean()
            rows.append((name, seed, len(predictions), (predictions == -1).mean(), conformal))
    frame = pd.DataFrame(rows, columns=["modality", "seed", "held out", "false alarms", "p ≤ 5%"])
    return frame.groupby("modality").agg(
        {"held out": "sum", "false alarms": ["mean", "std"], "p ≤ 5%": ["mean", "std"]}
    )


def stream(image: Dataset, table: Dataset, seeds: int) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        X = {"image": image.X_train, "tabular": table.X_train}
        latents = unified(seed, calibration_folds=0).fit(X).encode(X)
        for name, Z in latents.items():
            once, daily = GaussianAnomalyScorer().fit(Z), GaussianAnomalyScorer()
            for batch in np.array_split(np.random.default_rng(seed).permutation(Z), 20):
                daily.partial_fit(batch)
            pairs = [(once.anomaly_score(Z), daily.anomaly_score(Z))]
            pairs.append(tuple(scorer.statistics_.covariance("ledoit_wolf") for scorer in (once, daily)))
            spread = np.sqrt(np.trace(pairs[-1][0]))  # latents are centred, so their mean has no size of its own
            differences = [np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in pairs]
            rows.append((name, seed, np.linalg.norm(once.mean_ - daily.mean_) / spread, *differences))
    columns = ["modality", "seed", "mean", "distances", "covariance"]
    return pd.DataFrame(rows, columns=columns).drop(columns="seed").groupby("modality").max()


def labels(table: Dataset, seeds: int, counts=COUNTS) -> pd.DataFrame:
    rows = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(np.flatnonzero(table.y_test == 1))
        kept = np.setdiff1d(np.arange(len(table.y_test)), order[: max(counts)])
        test, y = {"tabular": table.X_test[kept]}, table.y_test[kept]
        encoders = {"tabular": TabularEncoder()}
        base = MultiModalAnomalyDetector(encoders, random_state=seed).fit({"tabular": table.X_train})
        detectors = {
            "hybrid": HybridMultiModalAnomalyDetector(base, random_state=seed),
            "hybrid, no restraint": HybridMultiModalAnomalyDetector(base, head_regularization=0, random_state=seed),
            "hybrid, focal": HybridMultiModalAnomalyDetector(base, loss="focal", random_state=seed),
            "supervised": SupervisedMultiModalAnomalyDetector(encoders, random_state=seed),
        }
        for count in counts:
            X = {"tabular": np.concatenate([table.X_train, table.X_test[order[:count]]])}
            given = {"tabular": np.repeat([0, 1], [len(table.X_train), count])}
            for name, detector in detectors.items():
                if name == "hybrid" or count == 10 or (count == 1 and name != "hybrid, focal"):
                    scores = detector.fit(X, given).anomaly_score(test)["tabular"]
                    rows.append((name, count, seed, auroc(y, scores)))
    frame = pd.DataFrame(rows, columns=["detector", "labels", "seed", "auroc"])
    base = frame[frame["labels"] == 0].set_index("seed")["auroc"]
    frame["gain"] = frame["auroc"] - frame["seed"].map(base)
    table_of = frame.groupby(["detector", "labels"], sort=False)
    shown = table_of.agg(mean=("auroc", "mean"), sd=("auroc", "std"), gain=("gain", "mean"))
    half = table_of["gain"].std() * stats.t.ppf(0.975, seeds - 1) / np.sqrt(seeds)
    return shown.assign(low=shown["gain"] - half, high=shown["gain"] + half)


def encoder(names, seeds: int) -> pd.DataFrame:
    """Each objective's features beside the scaled columns, and the columns alone."""
    rows = []
    for name in names:
        for seed in range(seeds):
            data = load(name, seed=seed).resplit(seed).as_table()
            masked = TabularEncoder(random_state=seed).fit(data.X_train)
            d = data.X_train.shape[1]
            train, test = (masked.transform(X) for X in (data.X_train, data.X_test))
            columns = train[:, :d], test[:, :d]
            denoiser = DenoisingAutoEncoder(random_state=seed).fit(columns[0])
            random = np.random.default_rng(seed).normal(size=(d, d)) / np.sqrt(d)
            untrained = TabularEncoder(random_state=seed, steps=0).fit(data.X_train)
            arms = {
                "scaled columns": columns,
                "random projection, tanh": [np.tanh(z @ random) for z in columns],
                "columns and random projection": [np.c_[z, np.tanh(z @ random)] for z in columns],
                "columns and denoising codes": [np.c_[z, denoiser.encode(z)] for z in columns],
                "masked columns, untrained": [untrained.transform(X) for X in (data.X_train, data.X_test)],
                "masked columns": (train, test),
            }
            for arm, (a, b) in arms.items():
                scaler = StandardScaler().fit(a)
                gaussian = GaussianAnomalyScorer().fit(scaler.transform(a))
                rows.append((arm, name, auroc(data.y_test, gaussian.anomaly_score(scaler.transform(b)))))
    frame = pd.DataFrame(rows, columns=["features", "data set", "auroc"])
    return frame.groupby(["features", "data set"], sort=False)["auroc"].agg(["mean", "std"]).unstack("data set")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image", default="mvtec/hazelnut")
    parser.add_argument("--table", default="thyroid")
    parser.add_argument("--hard-tables", default="tables/vowels,tables/optdigits,tables/satellite")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", default="accuracy,alarms,stream,labels,encoder")
    options = parser.parse_args()
    image, table = load(options.image), load(options.table)
    parts = {
        "accuracy": lambda: accuracy(image, table, options.seeds),
        "alarms": lambda: alarms(image, table, options.seeds),
        "stream": lambda: stream(image, table, options.seeds),
        "labels": lambda: labels(table, options.seeds),
        "encoder": lambda: encoder(options.hard_tables.split(","), options.seeds),
    }
    for part in options.parts.split(","):
        print(f"\n{part}\n{parts[part]().round(4).to_string() if part != 'stream' else parts[part]()}", flush=True)


if __name__ == "__main__":
    main()
