"""Accuracy and cost of the cross-modal transformer, trained and untrained, in one table.

    MMAD_DATA_HOME=... .venv/bin/python benchmarks/transformer.py [--seeds 5] [--only both,tables,pictures,patches]

``both`` is one network for mvtec/hazelnut and thyroid; ``tables`` is a network a table; ``pictures`` is generated
hazelnuts; ``patches`` is mvtec/hazelnut from raw pixels. A seed draws a table's split, the network and its batches;
data sets of pictures keep their own split. Two scores are measured: the default, and ``error``, which has no
covariance to fall back on and so shows what was learned. Beside each AUROC stand that of the untrained network and of
the Mahalanobis distance of the tokens themselves, and the mean difference of trained and untrained with its 95%
interval (Student's t over the seeds). Seconds are those of ``fit``; features of the backbone come from the cache.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from scipy import stats

from mmad_utils import GaussianAnomalyScorer, MultiModalAnomalyTransformer
from mmad_utils.datasets import load
from mmad_utils.metrics import auroc

TABLES = ("injected/dependency/digits/8", "tables/vowels")
RUNS = {
    "both": [({"image": "mvtec/hazelnut", "tabular": "thyroid"}, {})],
    "tables": [({"tabular": name}, {}) for name in TABLES],
    "pictures": [({"image": "synthetic/hazelnut"}, {})],
    "patches": [({"image": "mvtec/hazelnut"}, {"tokens": "patches", "image_size": 56})],
}


def tokens_alone(detector, name, data):
    """AUROC of the Mahalanobis distance of the tokens as they reach the network."""
    train, test = (detector._tokenisers[name].transform(X).double().numpy() for X in (data.X_train, data.X_test))
    width = train.shape[2] if name == "image" else train.shape[1]
    distances = GaussianAnomalyScorer().fit(train.reshape(-1, width)).anomaly_score(test.reshape(-1, width))
    return auroc(data.y_test, distances.reshape(len(test), -1).max(axis=1))


def measure(names, parameters, seed):
    """Rows of one seed, one a modality."""
    sets = {key: load(name, seed=seed if key == "tabular" else 0) for key, name in names.items()}
    sets = {key: data.as_table() if key == "tabular" else data for key, data in sets.items()}
    rows: dict = {}
    for kind, changes in (("untrained", {"epochs": 0}), ("trained", {})):
        detector = MultiModalAnomalyTransformer(random_state=seed, **{**parameters, **changes})
        clocks = time.perf_counter(), time.process_time()
        detector.fit({key: data.X_train for key, data in sets.items()})
        seconds = {"wall s": time.perf_counter() - clocks[0], "CPU s": time.process_time() - clocks[1]}
        for score in ("residual", "error"):
            scores = detector.set_params(score=score).anomaly_score({key: data.X_test for key, data in sets.items()})
            for key, data in sets.items():
                row = rows.setdefault((key, score), {"data": names[key], "score": score, "seed": seed})
                row |= {kind: auroc(data.y_test, scores[key]), "epoch": detector.best_epoch_, **seconds}
    for (key, _), row in rows.items():
        row["tokens"] = tokens_alone(detector, key, sets[key])
    return list(rows.values())


def summary(runs):
    """Means over the seeds, and the difference of trained and untrained."""
    rows = {}
    for name, part in runs.groupby(["data", "score"], sort=False):
        gain = part["trained"] - part["untrained"]
        n = len(gain)
        half = stats.t.ppf(0.975, n - 1) * gain.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        means = part[["trained", "untrained", "tokens", "wall s", "CPU s"]].mean()
        interval = f"{gain.mean():+.3f} [{gain.mean() - half:+.3f}, {gain.mean() + half:+.3f}]"
        rows[name] = {**means.round(3), "sd": round(part["trained"].std(ddof=1), 3), "gain": interval, "n": n}
    return pd.DataFrame(rows).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default=",".join(RUNS))
    options = parser.parse_args()
    for key in options.only.split(","):
        for names, parameters in RUNS[key]:
            rows = []
            for seed in range(options.seeds):
                rows += measure(names, parameters, seed)
                print(pd.DataFrame(rows[-2 * len(names) :]).round(4).to_string(header=False), flush=True)
            print(f"\n{key}\n{summary(pd.DataFrame(rows)).to_string()}\n", flush=True)


if __name__ == "__main__":
    main()
