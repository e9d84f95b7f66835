"""All fusions on `paired_digits`: AUROC by kind of anomaly and with missing parts, with controls and ablations.

    python benchmarks/fusion.py [--first-seed 1] [--seeds 5] [--missing 0.3] [--methods early,graph] [--json FILE]

Each seed gives new data and is the seed of the detectors. The defaults of the detectors were chosen on seed 0, which
is not measured. Normal samples are compared with each kind of anomaly, with all, and with all but "mismatch". The
training of cross-attention and graph exchanges parts of samples, which gives anomalies of the kind "mismatch".

"missing" drops each part with the given probability when samples are scored (the fit has complete samples). "all"
keeps every label, also those of anomalies whose wrong part is missing; "visible" excludes these
(`paired.still_visible`). "ceiling" is the AUROC on "all" of a detector that finds every visible anomaly. "at fit"
drops parts of the training samples only.

Each run is a line of the file, written at its end; runs in the file are not repeated.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mmad_utils import (
    CrossAttentionFusion,
    EarlyFusion,
    GraphFusion,
    KNNDistance,
    LateFusion,
    PCAResidual,
    RandomScore,
    SharedLatentFusion,
)
from mmad_utils.datasets import Dataset, load
from mmad_utils.datasets.paired import SHARES, drop_parts, still_visible
from mmad_utils.metrics import auroc
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "fusion.jsonl"
KEYS = ("detector", "dataset", "seed", "missing")
DEEP = {
    "shared latent": SharedLatentFusion,
    "cross-attention": CrossAttentionFusion,
    "graph": GraphFusion,
}
ABLATIONS = {
    "shared latent, complete only": partial(SharedLatentFusion, subsets=False),
    "shared latent, reconstruction": partial(SharedLatentFusion, scoring="reconstruction"),
    "cross-attention, not aligned": partial(CrossAttentionFusion, alignment=0.0),
    "concatenation": partial(CrossAttentionFusion, attention=False),
    "concatenation, not aligned": partial(CrossAttentionFusion, attention=False, alignment=0.0),
    "graph, no edges": partial(GraphFusion, n_neighbors=0),
}
MISSING_AT_FIT = ("late, sum", "late, max", "early, Gaussian", *DEEP, "graph, no edges")


def methods(seed: int) -> dict:
    """Name -> detector; the name of a modality stands for late fusion of this modality alone."""
    return {
        "random": RandomScore(seed),
        **{name: LateFusion(random_state=seed) for name in ("image", "text", "series")},
        **{f"late, {rule}": LateFusion(rule, random_state=seed) for rule in ("sum", "max", "vote")},
        "early, PCA residual": EarlyFusion(PCAResidual(), random_state=seed),
        "early, kNN": EarlyFusion(KNNDistance(), random_state=seed),
        "early, Gaussian": EarlyFusion(random_state=seed),
        **{f"{name}, untrained": kind(epochs=0, random_state=seed) for name, kind in DEEP.items()},
        **{name: kind(random_state=seed) for name, kind in {**DEEP, **ABLATIONS}.items()},
        "late, max, with graph": LateFusion("max", joint=GraphFusion(random_state=seed), folds=3, random_state=seed),
    }


def by_kind(dataset: Dataset, scores: np.ndarray) -> dict[str, float]:
    """AUROC for each kind of anomaly, for all but mismatches, and for all."""
    kinds = np.array(dataset.source["kinds_test"])
    others = [kind for kind in SHARES if kind != "mismatch"]
    groups = {kind: [kind] for kind in SHARES} | {"all but mismatch": others, "all": [*SHARES]}
    rows = {name: np.isin(kinds, ["normal", *group]) for name, group in groups.items()}
    return {name: auroc(dataset.y_test[chosen], scores[chosen]) for name, chosen in rows.items()}


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
    if name in MISSING_AT_FIT:
        detector.fit(drop_parts(X_train, share, seed + 1000))
        areas["missing at fit"] = auroc(dataset.y_test, detector.anomaly_score(X_test))
    return areas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--missing", type=float, default=0.3, help="share of the parts that are missing")
    parser.add_argument("--methods", default=",".join(name.replace(", ", "-") for name in methods(0)))
    parser.add_argument("--json", type=Path, default=RUNS, help="file of the runs")
    options = parser.parse_args()
    chosen = options.methods.split(",")
    file, rows = RunFile(options.json, KEYS), []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name, detector in methods(seed).items():
            if name.replace(", ", "-") in chosen:
                run = {"detector": name, "dataset": "paired_digits", "seed": seed, "missing": options.missing}
                rows.append(file.find(run) or file.append(run | measure(name, detector, seed, options.missing)))
    frame = pd.DataFrame(rows).drop(columns=["dataset", "seed", "missing", "commit", "machine", "versions"])
    groups = frame.groupby("detector", sort=False)
    for title, table in (("mean", groups.mean()), ("standard deviation", groups.std())):
        print(f"\n{title} over {options.seeds} seeds\n{table.to_string(float_format='{:.3f}'.format, na_rep='')}")


if __name__ == "__main__":
    main()
