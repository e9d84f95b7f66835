"""Every fusion on `paired_digits`: AUROC by kind of anomaly and with parts missing, beside controls.

    python benchmarks/fusion.py [--seeds 5] [--missing 0.3] [--methods early,graph,...]

Each seed makes new data and seeds the detectors. Normal samples are tested against each kind of anomaly, and against
all. "missing" drops each part with the given probability when scoring (a fit on complete samples), in two ways:
"all" keeps every label, also those of anomalies whose wrong part is no longer there to be seen; "visible" leaves
those out (`paired.still_visible`). "ceiling" is what a detector would reach on "all" that finds every visible
anomaly. "at fit" drops parts of the training samples only.

The bars: mismatch of the best single modality at most .55, of late fusion at most .60, of the best intermediate
fusion at least .97; the best fusion loses at most .05 with 30% missing ("visible" against complete, and "at fit").
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from mmad_utils import CrossAttentionFusion, EarlyFusion, GraphFusion, LateFusion, RandomScore, SharedLatentFusion
from mmad_utils.datasets import Dataset, load
from mmad_utils.datasets.paired import SHARES, drop_parts, still_visible
from mmad_utils.metrics import auroc


def methods(seed: int) -> dict:
    """Name -> detector; the names of single modalities stand for late fusion of that one."""
    deep = {
        "shared latent": SharedLatentFusion,
        "cross-attention": CrossAttentionFusion,
        "graph": GraphFusion,
    }
    return {
        "random": RandomScore(seed),
        **{name: LateFusion(random_state=seed) for name in ("image", "text", "series")},
        **{f"late, {rule}": LateFusion(rule, random_state=seed) for rule in ("sum", "max", "vote")},
        "early": EarlyFusion(random_state=seed),
        **{f"{name}, untrained": kind(epochs=0, random_state=seed) for name, kind in deep.items()},
        **{name: kind(random_state=seed) for name, kind in deep.items()},
        "contrastive": GraphFusion(n_neighbors=0, random_state=seed),
        "late, max, with graph": LateFusion("max", joint=GraphFusion(random_state=seed), folds=3, random_state=seed),
    }


def by_kind(dataset: Dataset, scores: np.ndarray) -> dict[str, float]:
    """AUROC of the normal samples against each kind of anomaly, and against all."""
    kinds = np.array(dataset.source["kinds_test"])
    areas = {}
    for kind in SHARES:
        rows = (kinds == "normal") | (kinds == kind)
        areas[kind] = auroc(dataset.y_test[rows], scores[rows])
    return {**areas, "all": auroc(dataset.y_test, scores)}


def measure(name: str, detector, seed: int, share: float) -> dict[str, float]:
    """One detector on the data of one seed."""
    dataset = load("paired_digits", seed=seed)
    X_train, X_test = dataset.X_train, dataset.X_test
    if name == "random":
        return by_kind(dataset, detector.fit(X_train["series"]).anomaly_score(X_test["series"]))
    if name in X_train:
        fitted = detector.fit({name: X_train[name]})
        return by_kind(dataset, fitted.anomaly_score({name: X_test[name]}))
    start = time.process_time()
    areas = by_kind(dataset, detector.fit(X_train).anomaly_score(X_test))
    areas["CPU s"] = time.process_time() - start
    normal = dataset.y_test == 0
    areas["false alarms"] = float((detector.predict(X_test)[normal] == -1).mean())
    dropped = drop_parts(X_test, share, seed)
    visible, scores = still_visible(dataset, dropped), detector.anomaly_score(dropped)
    areas["missing, all"] = auroc(dataset.y_test, scores)
    areas["missing, ceiling"] = auroc(dataset.y_test, dataset.y_test * visible)
    areas["missing, visible"] = auroc(dataset.y_test[visible], scores[visible])
    if "with" not in name and "untrained" not in name:
        detector.fit(drop_parts(X_train, share, seed + 1000))
        areas["missing at fit"] = auroc(dataset.y_test, detector.anomaly_score(X_test))
    return areas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--missing", type=float, default=0.3, help="share of the parts that are missing")
    parser.add_argument("--methods", default=",".join(name.replace(", ", "-") for name in methods(0)))
    options = parser.parse_args()
    chosen = options.methods.split(",")
    rows = {
        (name, seed): measure(name, detector, seed, options.missing)
        for seed in range(options.seeds)
        for name, detector in methods(seed).items()
        if name.replace(", ", "-") in chosen
    }
    frame = pd.DataFrame(rows).T.rename_axis(["method", "seed"])
    groups = frame.groupby("method", sort=False)
    for title, table in (("mean", groups.mean()), ("standard deviation", groups.std())):
        print(f"\n{title} over {options.seeds} seeds\n{table.to_string(float_format='{:.3f}'.format, na_rep='')}")


if __name__ == "__main__":
    main()
