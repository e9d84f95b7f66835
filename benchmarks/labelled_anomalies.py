"""What a few labelled anomalies buy: Deep SAD with 0, 1, 5, 10, 20 of them, on one and the same test set.

    python benchmarks/labelled_anomalies.py [--datasets tables/vowels,...] [--counts 0,1,5,10,20] [--seeds 5]

For each seed the data are split one-class (half of the normals train). A random order of the test anomalies says
which ones get a label: the first m of them, so that 5 labels hold the 1. The largest count is taken out of the test
set for every arm, so all arms are tested on the same samples. The detector has its default parameters; columns are
standardised by the normal training samples, as everywhere.

The bar: 5 labels against 0 gain at least .05 AUROC, mean over the three tables, 95% interval above 0.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.preprocessing import StandardScaler

from mmad_utils import DeepSAD
from mmad_utils.datasets import Dataset, load
from mmad_utils.metrics import auroc


def arms(dataset: Dataset, counts: list[int], seed: int) -> tuple[Dataset, np.ndarray]:
    """The data set without the anomalies that get a label, and those anomalies in the order of their labels."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(dataset.y_test == 1))
    labelled, kept = order[: max(counts)], np.setdiff1d(np.arange(len(dataset.y_test)), order[: max(counts)])
    smaller = replace(dataset, X_test=dataset.X_test[kept], y_test=dataset.y_test[kept], source={})
    return smaller, dataset.X_test[labelled]


def measure(name: str, counts: list[int], seed: int, **parameters) -> dict[int, float]:
    """AUROC for each number of labelled anomalies."""
    dataset, anomalies = arms(load(name, seed=seed).resplit(seed).as_table(), counts, seed)
    scaler = StandardScaler().fit(dataset.X_train)
    X_train, X_test, anomalies = map(scaler.transform, (dataset.X_train, dataset.X_test, anomalies))
    areas = {}
    for count in counts:
        X, y = np.concatenate([X_train, anomalies[:count]]), np.repeat([0, 1], [len(X_train), count])
        detector = DeepSAD(random_state=seed, **parameters).fit(X, y)
        areas[count] = auroc(dataset.y_test, detector.anomaly_score(X_test))
    return areas


def gain_interval(gains: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds and data sets of paired gains (seeds, data sets), and its 95% interval over the seeds (t)."""
    of_seed = gains.mean(axis=1)
    half = stats.t.ppf(0.975, len(of_seed) - 1) * of_seed.std(ddof=1) / np.sqrt(len(of_seed))
    return of_seed.mean(), of_seed.mean() - half, of_seed.mean() + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--datasets", default="tables/vowels,tables/optdigits,tables/satellite")
    parser.add_argument("--counts", default="0,1,5,10,20")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    counts = [int(count) for count in options.counts.split(",")]
    runs = {
        (name, seed): measure(name, counts, seed)
        for name in options.datasets.split(",")
        for seed in range(options.seeds)
    }
    frame = pd.DataFrame(runs).T.rename_axis(["data set", "seed"])
    shown = frame.groupby("data set", sort=False).agg(["mean", "std"])
    shown.loc["mean"] = shown.mean()
    print(shown.to_string(float_format="{:.3f}".format))
    for count in counts[1:]:
        gains = (frame[count] - frame[counts[0]]).unstack("data set").to_numpy()
        print(
            "{} against {}: {:+.3f}, 95% interval {:+.3f} to {:+.3f}".format(count, counts[0], *gain_interval(gains))
        )


if __name__ == "__main__":
    main()
