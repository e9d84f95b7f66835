"""Write the tables and figures of benchmarks/README.md from the run files in benchmarks/runs.

    python benchmarks/page.py [--check]

A table is between ``<!-- table: NAME -->`` and ``<!-- end -->``; NAME is a key of ``TABLES``. A table without a run
file is replaced by a note. The figures are SVG files in benchmarks/figures, and benchmarks/speed.csv has the times of
the comparison with other libraries, which the appendix of the report shows. With ``--check`` nothing is written, and
the exit status is 0 if the page has the tables of the run files.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import choices
import numpy as np
import pandas as pd
from ablations import gains
from matplotlib.figure import Figure

from mmad_utils import plots
from mmad_utils.benchmark import margin, named, test_to_train
from mmad_utils.course.results import svg_bytes
from mmad_utils.files import write_atomic
from mmad_utils.runs import RunFile

HERE = Path(__file__).resolve().parent
RUNS = HERE / "runs"
BLOCK = re.compile(r"(?P<head><!-- table: (?P<name>[\w-]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)
CONTROLS = {"random": "random score", "norm": "‖x‖²", "pca": "PCA residual", "gaussian": "Gaussian", "knn": "kNN (5)"}
GAINS = {"untrained": "over untrained", "norm": "over ‖x‖²", "pca": "over PCA", "knn": "over kNN"}
LABELLED_GAINS = {"unlabelled": "over no label"} | GAINS
SAME = ("DistanceToCenter", "PCAResidual", "GaussianAnomalyScorer", "KNNDistance")  # detectors that are also controls
IDENTITY = (  # entries of a run that are not measured
    *("part", "detector", "dataset", "seed", "parameters", "split", "anomalies", "rate", "labels", "missing"),
    *("training", "without", "trained_on", "tokens", "score", "task", "setting", "threads", "repetition"),
    *("method", "axis", "size"),
)
HARD = ("tables/vowels", "tables/optdigits", "tables/satellite")
REPORT = tuple(f"tables/report_{name}" for name in ("aloi", "campaign", "cover", "magic_gamma", "musk", "stamps"))
DIGITS = tuple(f"digits/{k}" for k in range(10))
SCENES = tuple(f"digit_scenes/{k}" for k in (2, 3, 4, 5, 6, 7, 9))  # no flip or half turn maps these to themselves


def read(name: str) -> pd.DataFrame:
    """The runs of benchmarks/runs/NAME.jsonl, of repeated ones the last; empty if the file does not exist."""
    path = RUNS / f"{name}.jsonl"
    runs = pd.DataFrame(RunFile(path).rows if path.exists() else [])
    return runs[~runs[runs.columns.intersection(IDENTITY)].astype(str).duplicated(keep="last")]


def number(value: float, signed: bool = False) -> str:
    """Three digits in the format of the page: .917, +.013, and an empty cell for NaN."""
    return "" if np.isnan(value) else f"{value:{'+' if signed else ''}.3f}".replace("0.", ".", 1)


def spread(runs: pd.DataFrame, measure: str = "auroc") -> str:
    """Mean ± standard deviation over the seeds; data sets are averaged within each seed."""
    if measure not in runs:
        return ""
    of_seeds = runs.groupby("seed")[measure].mean()
    sd = number(of_seeds.std())
    return number(of_seeds.mean()) + f" ± {sd}" * (sd != "")


def interval(runs: pd.DataFrame, control: str, datasets: Sequence[str]) -> str:
    """Mean gain in AUROC over a control with its 95% interval; data sets are averaged within each seed."""
    runs = runs[runs["dataset"].isin(datasets)]
    if f"{control}_auroc" not in runs or runs[f"{control}_auroc"].isna().all():
        return ""
    gains = (runs["auroc"] - runs[f"{control}_auroc"]).groupby(runs["seed"]).mean()
    half = number(margin(gains, np.mean(test_to_train(runs)) if "n_test" in runs else 0.0))
    return number(gains.mean(), signed=True) + f" ± {half}" * (half != "")


def with_controls(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of detectors, preceded by the controls as rows of the same form."""
    kept = ["dataset", "seed", "split", "n_train", "n_test", *(f"{key}_auroc" for key in CONTROLS)]
    first = runs.drop_duplicates(["dataset", "seed"])
    first = first[[column for column in kept if column in first]]
    rows = [first.assign(detector=label, auroc=first[f"{key}_auroc"]) for key, label in CONTROLS.items()]
    return pd.concat([*rows, runs], ignore_index=True)


def comparison(
    runs: pd.DataFrame, mean_over: Sequence[str], shown: Sequence[str] = (), over: Mapping[str, str] = GAINS
) -> pd.DataFrame:
    """Controls and detectors: AUROC over data sets and on each, and the gains over controls.

    A detector that lacks one of the data sets has no mean.
    """
    runs = with_controls(runs)
    rows = []
    for detector, group in runs[~runs["detector"].isin(SAME)].groupby("detector", sort=False):
        means = group.groupby("dataset")["auroc"].mean()
        whole = set(mean_over) <= set(means.index)
        networks = group["n_networks"].fillna(0).iloc[0] if "n_networks" in group else 0
        rows.append({
            "detector": detector,
            "networks": f"{networks:.0f}" if networks else "",
            "mean": number(means[list(mean_over)].mean()) if whole else "",
            **{dataset.split("/")[-1]: number(means.get(dataset, np.nan)) for dataset in shown},
            **{
                title: interval(group, key, mean_over) if whole and detector != CONTROLS.get(key) else ""
                for key, title in over.items()
            },
        })  # fmt: skip
    table = pd.DataFrame(rows)
    return table if (table["networks"] != "").any() else table.drop(columns="networks")


def spreads(columns: Mapping[str, tuple[pd.DataFrame, str]]) -> pd.DataFrame:
    """One row per detector, one column per title: mean ± standard deviation of a measure of some runs."""
    cells = {
        title: pd.Series({name: spread(group, measure) for name, group in runs.groupby("detector", sort=False)})
        for title, (runs, measure) in columns.items()
    }
    names = list(dict.fromkeys(name for column in cells.values() for name in column.index))
    table = pd.DataFrame(cells).reindex(names).fillna("")
    return table.rename_axis("detector").reset_index()


def hazelnut(runs: pd.DataFrame) -> pd.DataFrame:
    """Image and pixel AUROC on the data set's own split and on fresh ones."""
    runs = named(runs)
    columns = {}
    for split, title in (("own", "own split"), ("fresh", "fresh splits")):
        if len(part := runs[runs["split"] == split]):
            columns[f"image AUROC, {title}"] = with_controls(part), "auroc"
            columns[f"pixel AUROC, {title}"] = with_controls(part), "pixel_auroc"
    return spreads(columns)


def bounded_images(runs: pd.DataFrame) -> pd.DataFrame:
    """Image and pixel AUROC on each data set."""
    runs = with_controls(named(runs))
    return spreads({
        f"{name}, {title} AUROC": (runs[runs["dataset"] == name], measure)
        for name in runs["dataset"].unique()
        for title, measure in (("image", "auroc"), ("pixel", "pixel_auroc"))
    })  # fmt: skip


def padim_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Image and pixel AUROC, and the number of runs in which a setting is better than the defaults."""
    runs = named(runs)
    table = spreads(
        {"image AUROC": (with_controls(runs), "auroc"), "pixel AUROC": (with_controls(runs), "pixel_auroc")}
    )
    pairs = runs.set_index(["dataset", "seed"])
    defaults = pairs[pairs["detector"] == "PaDiM"]
    for measure, title in (("auroc", "image: runs above the defaults"), ("pixel_auroc", "pixel: runs above")):
        above = {
            name: f"{(group[measure] > defaults[measure].reindex(group.index)).sum()} of {len(group)}"
            for name, group in pairs[pairs["detector"] != "PaDiM"].groupby("detector")
        }
        table[title] = table["detector"].map(above).fillna("")
    return table


def contaminated(runs: pd.DataFrame) -> pd.DataFrame:
    """AUROC and both average precisions on the training samples themselves, mean over the classes of a data set."""
    runs = runs[runs["rate"] == 0.1]
    families = runs["dataset"].str.split("/").str[0]
    measures = {"AUROC": "auroc", "AUPR-in": "aupr_in", "AUPR-out": "aupr_out"}
    return spreads({
        f"{family}, {title}": (runs[families == family], measure)
        for family in families.unique()
        for title, measure in measures.items()
    })  # fmt: skip


def classes(runs: pd.DataFrame) -> pd.DataFrame:
    """AUROC on the training samples themselves for each normal class, mean over seeds."""
    runs = runs[runs["rate"] == 0.1]
    means = runs.pivot_table(index="detector", columns="dataset", values="auroc", sort=False)
    return means.map(number).rename(columns=lambda name: name.split("/")[-1]).reset_index()


def thumbnails(runs: pd.DataFrame) -> pd.DataFrame:
    """AUROC by the sum over the error map and by its largest pixel, and gains over the mean of the data sets."""
    poolings = runs["parameters"].map(lambda given: given["pooling"])
    tables = []
    for pooling in ("sum", "largest"):
        part = with_controls(runs[poolings == pooling])
        groups = dict(iter(part.groupby("detector", sort=False)))
        datasets = list(part["dataset"].unique())
        cells = {
            **{
                f"{dataset.split('/')[-1]}, {pooling}": [spread(g[g["dataset"] == dataset]) for g in groups.values()]
                for dataset in datasets
            },
            f"over untrained, {pooling}": [interval(group, "untrained", datasets) for group in groups.values()],
            f"over PCA, {pooling}": [
                interval(group, "pca", datasets) if name != CONTROLS["pca"] else "" for name, group in groups.items()
            ],
        }
        tables.append(pd.DataFrame(cells, index=list(groups)))
    return pd.concat(tables, axis=1).fillna("").rename_axis("detector").reset_index()


def beside(runs: pd.DataFrame, parts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """This package and another library: medians over the repetitions, and medians of the ratios of the pairs.

    ``parts`` gives for each title the measured parts whose times are added. This package is before the slash.
    """
    rows = []
    groups = runs.groupby([runs["setting"].map(setting_words), "threads"], sort=False)
    for (setting, threads), group in groups:
        row = {"setting": setting, "library": group["peer_library"].iloc[-1], "threads": threads}
        for title, names in parts.items():
            ours, theirs = both(group, names, "seconds")
            our_cpu, their_cpu = both(group, names, "cpu")
            row[f"{title}, s"] = f"{ours.median():.2f} / {theirs.median():.2f}"
            row[f"{title}: times faster"] = f"{(theirs / ours).median():.1f} ({(their_cpu / our_cpu).median():.1f})"
        for measure, title in (("auroc", "AUROC"), ("average_precision", "AP"), ("aupro", "AUPRO")):
            if f"mmad_{measure}" in group and group[f"mmad_{measure}"].notna().any():
                means = [number(group[f"{side}_{measure}"].mean()) for side in ("mmad", "peer")]
                row[title] = " / ".join(means)
        if "difference" in group:
            row["largest relative difference"] = f"{group['difference'].max():.0e}"
        rows.append(row | {"repetitions": len(group), "load average": loads(group)})
    return pd.DataFrame(rows).fillna("")


def both(runs: pd.DataFrame, names: Sequence[str], kind: str) -> tuple[pd.Series, pd.Series]:
    """Sum of the times of some measured parts in each pair, of this package and of the other library."""
    ours, theirs = (sum(runs[f"{side}_{name}_{kind}"] for name in names) for side in ("mmad", "peer"))
    return ours, theirs


def speed() -> pd.DataFrame:
    """One row per part, setting and number of threads: medians of the seconds and of the ratios, sd of the ratios."""
    pairs = []
    for task, parts in PARTS.items():
        runs = TABLES[f"bench-{task}"].runs()
        for title, names in parts.items() if len(runs) else ():
            ours, theirs = both(runs, names, "seconds")
            what = [f"{title}: {setting_words(setting)}" for setting in runs["setting"]]
            columns = {"what": what, "threads": runs["threads"], "library": runs["peer_library"]}
            pairs.append(pd.DataFrame(columns | {"mmad": ours, "peer": theirs, "ratio": theirs / ours}))
    groups = pd.concat(pairs).groupby(["what", "threads", "library"], sort=False)
    return groups.median().assign(sd=groups["ratio"].std()).reset_index()


def beside_memory(runs: pd.DataFrame) -> pd.DataFrame:
    """Memory of the fit of PaDiM's Gaussians beyond the embeddings: largest of the repetitions."""
    rows = []
    for (setting, threads), group in runs.groupby([runs["setting"].map(setting_words), "threads"], sort=False):
        ours, theirs = group["mmad_fit_bytes"].max(), group["peer_fit_bytes"].max()
        cells = {"mmad, GB": f"{ours / 1e9:.2f}", "library, GB": f"{theirs / 1e9:.2f}"}
        rows.append({"setting": setting, "threads": threads} | cells | {"times less": f"{theirs / ours:.1f}"})
    return pd.DataFrame(rows)


def beside_one_thread(runs: pd.DataFrame) -> pd.DataFrame:
    """The same fit with several threads and with one: medians, and the median of the ratios of CPU time."""
    rows = []
    for (_, threads), group in runs.groupby([runs["setting"].map(str), "threads"], sort=False):
        cells = {"beside": "a process on all cores" if group["setting"].iloc[0]["busy"] else "nothing"}
        for side, title in (("peer", "one thread"), ("mmad", f"{threads} threads")):
            cells |= {f"{title}, s": f"{group[f'{side}_fit_seconds'].median():.2f}"}
            cells |= {f"{title}, CPU s": f"{group[f'{side}_fit_cpu'].median():.2f}"}
        ratio = (group["mmad_fit_cpu"] / group["peer_fit_cpu"]).median()
        rows.append(cells | {"ratio of CPU time": f"{ratio:.2f}", "repetitions": len(group)})
    return pd.DataFrame(rows)


TARGETS = {"rows": 10_000_000, "images": 1_000_000}  # of which the growth is predicted


def growth(runs: pd.DataFrame) -> pd.DataFrame:
    """Exponents of CPU time and memory over all sizes and over the largest three, and predictions by the latter."""
    rows = []
    for (method, axis), part in runs.groupby(["method", "axis"], sort=False):
        medians = part.groupby("size")[["seconds", "bytes"]].median().clip(lower=[1e-4, 1e6], axis=1)
        sizes = medians.index.to_numpy(dtype=float)
        row = {"method": method, "grows with": f"{axis}, {sizes[0]:,.0f} to {sizes[-1]:,.0f}"}
        for title, measure, shown in (("time", "seconds", duration), ("memory", "bytes", memory)):
            logs, last = np.log(sizes), medians[measure].iloc[-1]
            every, largest = (np.polyfit(logs[i:], np.log(medians[measure])[i:], 1)[0] for i in (0, -3))
            factor = (TARGETS[axis] / sizes[-1]) ** max(largest, 0) if axis in TARGETS else None
            row |= {
                f"{title}, largest": shown(last),
                f"{title}, exponents": f"{every:.2f}, {largest:.2f}".replace("-0.00", "0.00"),
                f"{title}, predicted": shown(last * factor) if factor else "",
            }
        rows.append(row | {"repetitions": part["repetition"].nunique(), "load average": loads(part)})
    return pd.DataFrame(rows)


def duration(seconds: float) -> str:
    """Two digits in the largest unit in which the value is at least 1."""
    units = (("years", 31_557_600), ("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1), ("ms", 1e-3))
    name, size = next((unit for unit in units if seconds >= unit[1]), units[-1])
    return f"{two_digits(seconds / size)} {name}"


def memory(size: float) -> str:
    """Two digits in MB, GB or TB."""
    name, unit = next(((n, u) for n, u in (("TB", 1e12), ("GB", 1e9)) if size >= u), ("MB", 1e6))
    return f"{two_digits(size / unit)} {name}"


def two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{float(f'{value:.2g}'):,.0f}"


def setting_words(setting: Mapping[str, object]) -> str:
    """The setting of a pair in words: "AutoEncoder, vowels", "209 samples, 100 channels"."""
    words = {"detector": "{}", "dataset": "{}", "size": "of {}²", "ratio": "coreset ratio {}"}
    named = {True: ", AUPRO too", False: ""}
    parts = [
        named[value] if isinstance(value, bool) else words.get(key, f"{{}} {key}").format(str(value).split("/")[-1])
        for key, value in setting.items()
    ]
    return ", ".join(part for part in parts if part).replace(", of", " of").replace(", ,", ",")


def loads(runs: pd.DataFrame) -> str:
    """Smallest and largest load average before the pairs; above the number of cores, times are too long."""
    return f"{runs['load'].min():.1f} to {runs['load'].max():.1f}"


def unified_accuracy(runs: pd.DataFrame) -> pd.DataFrame:
    """One scorer for both modalities, and detectors of single modalities."""
    images, table = (runs[runs["dataset"] == name] for name in ("mvtec/hazelnut", "thyroid"))
    specialists = read("hazelnut")
    if len(specialists):
        specialists = named(specialists[specialists["split"] == "own"])
    return spreads({
        "mvtec/hazelnut": (pd.concat([with_controls(images), specialists]), "auroc"),
        "thyroid": (with_controls(table), "auroc"),
    })  # fmt: skip


def unified_alarms(runs: pd.DataFrame) -> pd.DataFrame:
    """Share of held-out normal samples below the threshold and below a p-value of 5%."""
    rows = runs.assign(detector=runs["dataset"])
    table = spreads({"alarms of predict": (rows, "false_alarms"), "p-value ≤ .05": (rows, "conformal_alarms")})
    held_out = rows.groupby("detector")["held_out"].sum().astype(int)
    return table.assign(**{"held-out samples": table["detector"].map(held_out)}).rename(columns={"detector": "data"})


def unified_stream(runs: pd.DataFrame) -> pd.DataFrame:
    """Largest relative difference over the seeds between a fit in 20 batches and one fit."""
    kinds = ("mean", "covariance", "distance")
    largest = runs.groupby("dataset")[[f"{kind}_difference" for kind in kinds]].max()
    cells = largest.map("{:.0e}".format).rename(columns=lambda name: name.removesuffix("_difference"))
    return cells.rename_axis("data").reset_index()


def unified_labels(runs: pd.DataFrame) -> pd.DataFrame:
    """AUROC for each number of labelled anomalies, and the gain over the detector without labels."""
    names = [f"{name}, {count:.0f} labelled" for name, count in zip(runs["detector"], runs["labels"])]
    runs = with_controls(runs.assign(detector=names))
    rows = [
        {"detector": name, "AUROC": spread(group), "over no label": interval(group, "unlabelled", ["thyroid"])}
        for name, group in runs.groupby("detector", sort=False)
    ]
    return pd.DataFrame(rows)


def transformer(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each data set, training, kind of tokens and score; gains over the controls of the mechanism."""
    runs = runs.assign(joint=runs["trained_on"].map(len) > 1)
    keys = ["dataset", "score", "seed"]
    alone = runs[~runs["joint"] & (runs["tokens"] == "backbone")].set_index(keys)["auroc"].rename("separate_auroc")
    runs = runs.join(alone, on=keys)
    rows = []
    for (dataset, tokens, joint, score), group in runs.groupby(["dataset", "tokens", "joint", "score"], sort=False):
        others = [name for name in group["trained_on"].iloc[0] if name != dataset]
        rows.append({
            "data": f"{dataset}, raw patches" if tokens == "patches" else dataset,
            "trained with": ", ".join(others),
            "score": score,
            "AUROC": spread(group),
            "over untrained": interval(group, "untrained", [dataset]),
            "over tokens": interval(group, "tokens", [dataset]),
            "over a separate network": interval(group, "separate", [dataset]) if joint else "",
            **{label: number(group[f"{key}_auroc"].mean()) for key, label in CONTROLS.items()},
        })  # fmt: skip
    return pd.DataFrame(rows)


def fusion(runs: pd.DataFrame, rows: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds of entries of benchmarks/runs/fusion.jsonl, with the standard deviation where it is not 0."""
    runs["broken parts"] = runs[["damaged image", "nonsense text", "spiky series"]].mean(axis=1)
    groups = runs.groupby("detector")[list(columns)]
    mean, deviation = groups.mean().loc[list(rows)], groups.std().loc[list(rows)]
    cells = {
        column: [
            f"{m:.1f}" * (m == m) if column == "CPU s" else number(m) + f" ± {number(sd)}" * (round(sd, 3) > 0)
            for m, sd in zip(mean[column], deviation[column])
        ]
        for column in columns
    }
    return pd.DataFrame({"method": list(rows), **cells})


def ablation_gains(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per part that was left out: AUROC with and without it, and the gain with its spread over the seeds."""
    table = gains(runs.to_dict("records")).reset_index()
    deviation = [f" ± {number(sd)}" * (sd == sd) for sd in table["sd of seeds"]]
    return pd.DataFrame({
        "detector": table["detector"].str.removesuffix("()"),
        "trained on": table["training"],
        "part": table["without"],
        "with it": table["with it"].map(number),
        "without it": table["without it"].map(number),
        "gain": [number(gain, signed=True) + sd for gain, sd in zip(table["gain"], deviation)],
        "runs above 0": [f"{above} of {n}" for above, n in zip(table["above 0"], table["pairs"])],
    })  # fmt: skip


def choice(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per alternative of a default: mean AUROC of both on the half "select"."""
    table = choices.summary(runs)
    for column in ("default AUROC", "alternative AUROC"):
        table[column] = table[column].map(number)
    return table.assign(**{"replaces the default": table["replaces the default"].map({True: "yes", False: "no"})})


FUSIONS = (
    *("random", "image", "text", "series", "late, sum", "late, max", "late, vote"),
    *("early, PCA residual", "early, kNN", "early, Gaussian"),
    *("shared latent, untrained", "cross-attention, untrained", "graph, untrained"),
    *("shared latent", "cross-attention", "graph", "late, max, with graph"),
)
FUSION_CONTROLS = ("random", "early, PCA residual", "early, kNN", "early, Gaussian")
FUSION_UNTRAINED = ("shared latent, untrained", "cross-attention, untrained", "graph, untrained")
FUSION_ABLATIONS = (
    *(*FUSION_CONTROLS, *FUSION_UNTRAINED),
    *("shared latent", "shared latent, complete only", "shared latent, reconstruction"),
    *("cross-attention", "cross-attention, not aligned", "concatenation", "concatenation, not aligned"),
    *("graph", "graph, no edges"),
)
FIT_WITH_GAPS = (
    *(*FUSION_CONTROLS[1:], *FUSION_UNTRAINED, "late, max"),
    *("shared latent", "cross-attention", "graph", "graph, no edges"),
)
KINDS = ("broken parts", "shifted", "three digits", "all but mismatch", "mismatch")
MISSING = ("all", "missing, visible", "missing, all", "missing, ceiling", "missing at fit")


@dataclass(frozen=True)
class Table:
    """A run file, the function that makes a table of its runs, and which of the runs it takes."""

    file: str
    make: Callable[[pd.DataFrame], pd.DataFrame]
    part: Callable[[pd.DataFrame], pd.Series] | None = None

    def runs(self) -> pd.DataFrame:
        """The runs of the table; empty if they are not measured yet."""
        runs = read(self.file)
        return runs if runs.empty or self.part is None else runs[self.part(runs)].dropna(axis=1, how="all")


def column(name: str, value: str) -> Callable[[pd.DataFrame], pd.Series]:
    """The runs whose entry of this name is the value."""
    return lambda runs: runs[name] == value


def side(pixels: int) -> Callable[[pd.DataFrame], pd.Series]:
    """The runs on thumbnails of this width."""
    return lambda runs: runs["parameters"].map(lambda given: given["side"] == pixels)


PARTS = {  # task of benchmarks/bench.py: parts of the comparison, each the sum of measured times
    "padim": {"PaDiM, fit": ["fit"], "PaDiM, score": ["score"]},
    "patchcore": {"PatchCore, coreset": ["fit"], "PatchCore, score": ["score"]},
    "deep": {"fit and score": ["fit", "score"]},
    "pixels": {"pixel metrics": ["score"]},
}
TABLES = {
    **{
        f"bench-{task}": Table("bench", partial(beside, parts=parts), column("task", task))
        for task, parts in PARTS.items()
    },
    "bench-memory": Table("bench", beside_memory, column("task", "padim")),
    "bench-threads": Table("bench", beside_one_thread, column("task", "threads")),
    "growth": Table("growth", growth),
    "bounded": Table("bounded", lambda runs: comparison(named(runs), HARD, HARD), column("detector", "KNNDistance")),
    "bounded-images": Table("bounded", bounded_images, column("detector", "PatchCore")),
    "padim-settings": Table("padim_settings", padim_settings),
    "hazelnut": Table("hazelnut", hazelnut),
    "turned": Table("turned", lambda runs: comparison(named(runs), SCENES, SCENES)),
    "contaminated": Table("contaminated", contaminated),
    "contaminated-mnist": Table("contaminated", classes, lambda runs: runs["dataset"].str.startswith("mnist/")),
    "digits": Table("digits", lambda runs: comparison(named(runs), DIGITS)),
    "thumbnails-64": Table("thumbnails", thumbnails, side(64)),
    "thumbnails-32": Table("thumbnails", thumbnails, side(32)),
    "tables": Table("tables", lambda runs: comparison(named(runs), HARD, (*HARD, "thyroid"))),
    "report": Table("report", lambda runs: comparison(named(runs), REPORT, REPORT)),
    "choices": Table("choices", choice),
    "choices-contaminated": Table("choices_contaminated", choice),
    "ablations": Table("ablations", ablation_gains, column("anomalies", "report")),
    "labelled": Table("labelled", lambda runs: comparison(named(runs), HARD, HARD, LABELLED_GAINS)),
    "fusion": Table("fusion", lambda runs: fusion(runs, FUSIONS, (*KINDS, "CPU s"))),
    "fusion-ablations": Table("fusion", lambda runs: fusion(runs, FUSION_ABLATIONS, KINDS)),
    "fusion-missing": Table("fusion", lambda runs: fusion(runs, FIT_WITH_GAPS, MISSING)),
    "unified-accuracy": Table("unified", unified_accuracy, column("part", "accuracy")),
    "unified-encoder": Table("unified", lambda runs: comparison(runs, HARD, HARD), column("part", "encoder")),
    "unified-labels": Table("unified", unified_labels, column("part", "labels")),
    "unified-alarms": Table("unified", unified_alarms, column("part", "alarms")),
    "unified-stream": Table("unified", unified_stream, column("part", "stream")),
    "transformer": Table("transformer", transformer),
}


def growth_of(axis: str) -> Figure:
    """CPU time of the methods that grow with this axis."""
    runs = read("growth")
    runs = runs[runs["axis"] == axis]
    times = runs.pivot_table(index="size", columns="method", values="seconds", aggfunc="median")
    return plots.growth(times, xlabel=axis, ylabel="CPU seconds")


def speed_figure() -> Figure:
    """The median ratios of `speed` with their sd on a logarithmic axis, one panel per number of threads."""
    table = speed()
    table["threads"] = ["one thread" if n == 1 else f"{n} threads" for n in table["threads"]]
    figure = plots.comparison(
        table.set_index("what").rename(columns={"ratio": "mean"}), "times faster", group="threads"
    )
    for axis in figure.axes:
        axis.set_xscale("log", nonpositive="clip")
        axis.axvline(1, color="0.4", ls="--", lw=1, zorder=0)
    return figure


def speed_csv() -> str:
    """The table `speed` as the text of a CSV file."""
    return speed().round(4).to_csv(index=False)


FIGURES: dict[str, tuple[str, Callable[[], Figure]]] = {  # the table whose runs are drawn, and how
    "speed": ("bench-padim", speed_figure),
    "growth_rows": ("growth", partial(growth_of, "rows")),
    "growth_images": ("growth", partial(growth_of, "images")),
}


def markdown(frame: pd.DataFrame) -> str:
    """A pipe table of text cells."""
    lines = [frame.columns, ["---"] * frame.shape[1], *frame.to_numpy()]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def block(name: str) -> str:
    """A table and the name of its run file, or a note that there are no runs."""
    table = TABLES[name]
    runs, file = table.runs(), f"runs/{table.file}.jsonl"
    if runs.empty:
        return f"Not yet measured: no runs in `{file}`.\n"
    seeds = f", seeds {', '.join(map(str, sorted(runs['seed'].unique())))}" if "seed" in runs else ""
    return markdown(table.make(runs)) + f"\n{len(runs)} runs in [{file}]({file}){seeds}.\n"


def render(page: str) -> str:
    """The page with all tables recomputed."""
    return BLOCK.sub(lambda found: found["head"] + block(found["name"]) + found["tail"], page)


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
    for name, (measured, draw) in FIGURES.items():
        if not TABLES[measured].runs().empty:
            write_atomic(HERE / "figures" / f"{name}.svg", svg_bytes(draw()))
    if not TABLES["bench-padim"].runs().empty:
        write_atomic(HERE / "speed.csv", speed_csv().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
