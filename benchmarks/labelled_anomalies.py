"""Deep SAD with 0, 1, 5, 10 and 20 labelled anomalies, on the same test set.

    MMAD_DATA_HOME=... python benchmarks/labelled_anomalies.py [--datasets tables/vowels,...] [--seeds 5]

Labelled anomalies are the first ones of the half "select" in a random order, so that 5 labels include the first. The
test set for every number of labels has the normal test samples and the half "report". The detectors have their
default parameters; columns are standardised by the normal training samples. Deep SAD is compared with a logistic
regression on the same rows and labels, and with the controls, which use no labels. Each run is a line of
benchmarks/runs/labelled.jsonl, written at its end; runs in the file are not repeated.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mmad_utils import DeepSAD
from mmad_utils.benchmark import measure_controls
from mmad_utils.datasets import load
from mmad_utils.metrics import auroc
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "labelled.jsonl"
DATASETS = ("tables/vowels", "tables/optdigits", "tables/satellite")
COUNTS = (0, 1, 5, 10, 20)
KEYS = ("detector", "dataset", "seed", "parameters")


def keys(name: str, seed: int) -> list[dict]:
    """Keys of the runs of one data set and seed."""
    arms = [("DeepSAD", count) for count in COUNTS] + [("LogisticRegression", count) for count in COUNTS[1:]]
    return [
        {"detector": detector, "dataset": name, "seed": seed, "parameters": {"labels": count}}
        for detector, count in arms
    ]


def measure(name: str, seed: int) -> Iterator[dict]:
    """The runs of one data set and seed, in the order of `keys`; a gain is over Deep SAD without labels."""
    whole = load(name, seed=seed).resplit(seed).as_table()
    select, test = whole.half("select"), whole.half("report")
    labelled = np.random.default_rng(seed).permutation(select.X_test[select.y_test == 1])[: max(COUNTS)]
    scaler = StandardScaler().fit(test.X_train)
    X_train, X_test, labelled = map(scaler.transform, (test.X_train, test.X_test, labelled))
    same = {"split": "fresh", "anomalies": "report", "n_train": len(X_train), "n_test": len(X_test)}
    same |= measure_controls(test, seed)
    for key in keys(name, seed):
        count = key["parameters"]["labels"]
        X, y = np.concatenate([X_train, labelled[:count]]), np.repeat([0, 1], [len(X_train), count])
        if key["detector"] == "DeepSAD":
            detector = DeepSAD(random_state=seed)
            untrained = DeepSAD(random_state=seed, epochs=0).fit(X, y).anomaly_score(X_test)
            scores = detector.fit(X, y).anomaly_score(X_test)
            own = {"untrained_auroc": auroc(test.y_test, untrained), "n_networks": detector.n_estimators}
        else:
            scores = LogisticRegression(class_weight="balanced").fit(X, y).decision_function(X_test)
            own = {"n_networks": 0}
        row = {**key, **same, **own, "auroc": auroc(test.y_test, scores)}
        yield row
        if count == 0:
            same["unlabelled_auroc"] = row["auroc"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    file, rows = RunFile(RUNS, KEYS), []
    for seed in range(options.seeds):
        for name in options.datasets.split(","):
            if not all(map(file.find, keys(name, seed))):
                for row in measure(name, seed):
                    file.append(row)
            rows += map(file.find, keys(name, seed))
    frame = pd.DataFrame(rows).assign(labels=lambda runs: [given["labels"] for given in runs["parameters"]])
    print(frame.groupby(["detector", "labels", "dataset"], sort=False)["auroc"].agg(["mean", "std"]).round(3))


if __name__ == "__main__":
    main()
