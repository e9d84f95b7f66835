"""Write the tables of benchmarks/README.md from the run files in benchmarks/runs.

    python benchmarks/page.py [--check]

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is a key of ``TABLES``. With ``--check``
nothing is written, and the exit status tells whether the page has the tables of the run files.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from ablations import gains

from mmad_utils.benchmark import margin, test_to_train
from mmad_utils.files import write_atomic
from mmad_utils.runs import RunFile

HERE = Path(__file__).resolve().parent
BLOCK = re.compile(r"(?P<head><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)
CONTROLS = {"random": "random score", "norm": "‖x‖²", "pca": "PCA residual", "gaussian": "Gaussian", "knn": "kNN (5)"}
SAME = ("DistanceToCenter", "PCAResidual", "GaussianAnomalyScorer", "KNNDistance")  # as detectors: the controls again
HARD = ("tables/vowels", "tables/optdigits", "tables/satellite")


def read(name: str) -> pd.DataFrame:
    """The runs of benchmarks/runs/NAME.jsonl, the last of a repeated one; parameters stand in the detector's name."""
    runs = pd.DataFrame(RunFile(HERE / "runs" / f"{name}.jsonl").rows)
    settings = [", ".join(f"{key}={value}" for key, value in given.items()) for given in runs["parameters"]]
    runs["detector"] = [f"{name}({given})" if given else name for name, given in zip(runs["detector"], settings)]
    return runs.drop_duplicates(["detector", "dataset", "seed"], keep="last")


def number(value: float, signed: bool = False) -> str:
    """Three digits as the page shows them: .917, +.013, and an empty cell for NaN."""
    return "" if np.isnan(value) else f"{value:{'+' if signed else ''}.3f}".replace("0.", ".", 1)


def interval(runs: pd.DataFrame, control: str, datasets: Sequence[str]) -> str:
    """Mean gain in AUROC over a control with its 95% interval; data sets are averaged within each seed."""
    runs = runs[runs["dataset"].isin(datasets)]
    if f"{control}_auroc" not in runs or runs[f"{control}_auroc"].isna().all():
        return ""
    gains = (runs["auroc"] - runs[f"{control}_auroc"]).groupby(runs["seed"]).mean()
    return f"{number(gains.mean(), signed=True)} ± {number(margin(gains, np.mean(test_to_train(runs))))}"


def with_controls(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of detectors, and before them the controls as detectors of their own."""
    first = runs.drop_duplicates(["dataset", "seed"])
    rows = [
        first.assign(detector=label, auroc=first[f"{key}_auroc"], n_networks=0) for key, label in CONTROLS.items()
    ]
    for row in rows:
        row["untrained_auroc"] = np.nan
    return pd.concat([*rows, runs], ignore_index=True)


def comparison(name: str, mean_over: Sequence[str], shown: Sequence[str] = ()) -> pd.DataFrame:
    """Controls and detectors: AUROC over data sets and on each, and gains over untrained network, kNN and ‖x‖²."""
    runs = with_controls(read(name))
    rows = []
    for detector, group in runs[~runs["detector"].isin(SAME)].groupby("detector", sort=False):
        means = group.groupby("dataset")["auroc"].mean()
        networks = int(group["n_networks"].iloc[0])
        rows.append({
            "detector": detector,
            "networks": str(networks or ""),
            "mean": number(means[means.index.isin(mean_over)].mean()),
            **{dataset.split("/")[-1]: number(means.get(dataset, np.nan)) for dataset in shown},
            "over untrained": interval(group, "untrained", mean_over),
            "over ‖x‖²": interval(group, "norm", mean_over) if detector != CONTROLS["norm"] else "",
            "over PCA": interval(group, "pca", mean_over) if detector != CONTROLS["pca"] else "",
            "over kNN": interval(group, "knn", mean_over) if detector != CONTROLS["knn"] else "",
        })  # fmt: skip
    return pd.DataFrame(rows)


def fusion(rows: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds of entries of benchmarks/runs/fusion.jsonl, with the standard deviation where it is not 0."""
    runs = pd.DataFrame(RunFile(HERE / "runs" / "fusion.jsonl", ("detector", "seed", "missing")).rows)
    runs["broken parts"] = runs[["damaged image", "nonsense text", "spiky series"]].mean(axis=1)
    groups = runs.groupby("detector")[list(columns)]
    mean, spread = groups.mean().loc[list(rows)], groups.std().loc[list(rows)]
    cells = {
        column: [
            f"{m:.1f}" * (m == m) if column == "CPU s" else number(m) + f" ± {number(sd)}" * (round(sd, 3) > 0)
            for m, sd in zip(mean[column], spread[column])
        ]
        for column in columns
    }
    return pd.DataFrame({"method": list(rows), **cells})


def ablation_gains() -> pd.DataFrame:
    """One row per part that was left out: AUROC with and without it, and the gain with its spread over the seeds."""
    runs = [run for run in RunFile(HERE / "runs" / "ablations.jsonl").rows if run["anomalies"] == "report"]
    table = gains(runs).reset_index()
    spread = [f" ± {number(sd)}" * (sd == sd) for sd in table["sd of seeds"]]
    return pd.DataFrame({
        "detector": table["detector"].str.removesuffix("()"),
        "trained on": table["training"],
        "part": table["without"],
        "with it": table["with it"].map(number),
        "without it": table["without it"].map(number),
        "gain": [number(gain, signed=True) + sd for gain, sd in zip(table["gain"], spread)],
        "runs above 0": [f"{above} of {n}" for above, n in zip(table["above 0"], table["pairs"])],
    })  # fmt: skip


FUSIONS = (
    *("random", "image", "text", "series", "late, sum", "late, max", "late, vote"),
    *("early, PCA residual", "early, kNN", "early, Gaussian"),
    *("shared latent, untrained", "cross-attention, untrained", "graph, untrained"),
    *("shared latent", "cross-attention", "graph", "late, max, with graph"),
)
FUSION_ABLATIONS = (
    *("shared latent", "shared latent, complete only", "shared latent, reconstruction"),
    *("cross-attention", "cross-attention, not aligned", "concatenation", "concatenation, not aligned"),
    *("graph", "graph, no edges"),
)
FIT_WITH_GAPS = ("late, max", "early, Gaussian", "shared latent", "cross-attention", "graph", "graph, no edges")
KINDS = ("broken parts", "shifted", "three digits", "all but mismatch", "mismatch")
MISSING = ("all", "missing, visible", "missing, all", "missing, ceiling", "missing at fit")

TABLES: dict[str, Callable[[], pd.DataFrame]] = {
    "tables": lambda: comparison("tables", HARD, (*HARD, "thyroid")),
    "ablations": lambda: ablation_gains(),
    "fusion": lambda: fusion(FUSIONS, (*KINDS, "CPU s")),
    "fusion-ablations": lambda: fusion(FUSION_ABLATIONS, KINDS),
    "fusion-missing": lambda: fusion(FIT_WITH_GAPS, MISSING),
}


def markdown(frame: pd.DataFrame) -> str:
    """A pipe table of text cells."""
    lines = [frame.columns, ["---"] * frame.shape[1], *frame.to_numpy()]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def render(page: str) -> str:
    """The page with every table made anew."""
    return BLOCK.sub(lambda block: block["head"] + markdown(TABLES[block["name"]]()) + block["tail"], page)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    path = HERE / "README.md"
    old = path.read_text(encoding="utf-8")
    new = render(old)
    if options.check:
        return int(new != old)
    write_atomic(path, new.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
