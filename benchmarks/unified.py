"""The unified detector: accuracy, false alarms, streams, labelled anomalies, and the features of its table encoder.

    MMAD_DATA_HOME=... python benchmarks/unified.py [--parts accuracy,alarms,stream,labels,encoder] [--seeds 5]

accuracy   AUROC of one scorer for mvtec/hazelnut and thyroid, trained and untrained; both on their own split
           with all anomalies, since the settings were chosen on other data
alarms     share of normal samples that raise an alarm at 5%: each seed holds out another fifth of the normal samples
stream     partial_fit over 20 batches against one fit: relative difference of means, covariances and distances
labels     AUROC on thyroid with 0 ... 20 labelled anomalies: labels from the half "select", tests on "report"
encoder    AUROC of a Gaussian on what TabularEncoder could learn, on tables that the distance to the centre does not
           solve; fresh splits, half "report"

Each run is a line of benchmarks/runs/unified.jsonl; the lines of a part and seed are written when all are measured,
and a part and seed that the file has is not repeated.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler

from mmad_utils import (
    DenoisingAutoEncoder,
    DistanceToCenter,
    GaussianAnomalyScorer,
    HybridMultiModalAnomalyDetector,
    ImageEncoder,
    MomentMatching,
    MultiModalAnomalyDetector,
    SupervisedMultiModalAnomalyDetector,
    TabularEncoder,
)
from mmad_utils.benchmark import measure_controls
from mmad_utils.datasets import Dataset, load
from mmad_utils.datasets.take import take
from mmad_utils.metrics import auroc
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "unified.jsonl"
IMAGES, TABLE = "mvtec/hazelnut", "thyroid"
HARD = ("tables/vowels", "tables/optdigits", "tables/satellite")
COUNTS = (0, 1, 5, 10, 20)


def unified(seed: int, **parameters) -> MultiModalAnomalyDetector:
    """The detector without calibration, which does not change the ranking; `parameters` of it or of the encoder."""
    given = {key: parameters.pop(key) for key in ("residuals", "steps") if key in parameters}
    encoders = {"image": ImageEncoder(layers=(2, 3, 4)), "tabular": TabularEncoder(**given)}
    return MultiModalAnomalyDetector(encoders, random_state=seed, **{"calibration_folds": 0, **parameters})


def accuracy(seed: int) -> Iterator[dict]:
    sets = {"image": load(IMAGES), "tabular": load(TABLE)}
    controls = {modality: measure_controls(dataset, seed) for modality, dataset in sets.items()}
    train, test = ({modality: getattr(each, X) for modality, each in sets.items()} for X in ("X_train", "X_test"))
    arms = {
        "unified": unified(seed),
        "unified, untrained table encoder": unified(seed, steps=0),
        "unified, scaled columns only": unified(seed, residuals=False),
        "one Gaussian for both": unified(seed, scorer=GaussianAnomalyScorer()),
        "one Gaussian, moments matched": unified(seed, scorer=GaussianAnomalyScorer(), alignment=MomentMatching()),
    }
    found = {name: detector.fit(train).anomaly_score(test) for name, detector in arms.items()}
    scaler = StandardScaler().fit(train["tabular"])
    forest = IsolationForest(random_state=seed).fit(scaler.transform(train["tabular"]))
    found["Isolation Forest"] = {"tabular": -forest.score_samples(scaler.transform(test["tabular"]))}
    distance = DistanceToCenter("robust_arcsinh").fit(train["tabular"])
    found["robust distance to the centre"] = {"tabular": distance.anomaly_score(test["tabular"])}
    for name, scores in found.items():
        for modality, values in scores.items():
            dataset = sets[modality]
            key = {"detector": name, "dataset": dataset.name, "split": "own", "anomalies": "all"}
            yield key | {"auroc": auroc(dataset.y_test, values)} | controls[modality]


def alarms(seed: int) -> Iterator[dict]:
    names, normals = {"image": IMAGES, "tabular": TABLE}, {}
    for modality, name in names.items():
        data = load(name)
        rest = take(data.X_test, np.flatnonzero(data.y_test == 0))
        whole = isinstance(data.X_train, np.ndarray)
        normals[modality] = np.concatenate([data.X_train, rest]) if whole else [*data.X_train, *rest]
    rng = np.random.default_rng(seed)
    fold = {modality: rng.permutation(len(samples)) % 5 for modality, samples in normals.items()}
    train, held = (
        {modality: take(X, np.flatnonzero((fold[modality] == 0) == out)) for modality, X in normals.items()}
        for out in (False, True)
    )
    detector = MultiModalAnomalyDetector(unified(seed).encoders, random_state=seed).fit(train)
    for modality, predictions in detector.predict(held).items():
        conformal = (detector.p_values({modality: held[modality]})[modality] <= 0.05).mean()
        measures = {"false_alarms": float((predictions == -1).mean()), "conformal_alarms": float(conformal)}
        yield {"detector": "unified", "dataset": names[modality], "held_out": len(predictions), **measures}


def stream(seed: int) -> Iterator[dict]:
    names = {"image": IMAGES, "tabular": TABLE}
    X = {modality: load(name).X_train for modality, name in names.items()}
    for modality, Z in unified(seed).fit(X).encode(X).items():
        once, daily = GaussianAnomalyScorer().fit(Z), GaussianAnomalyScorer()
        for batch in np.array_split(np.random.default_rng(seed).permutation(Z), 20):
            daily.partial_fit(batch)
        a, b = (scorer.statistics_.covariance("ledoit_wolf") for scorer in (once, daily))
        distances = once.anomaly_score(Z), daily.anomaly_score(Z)
        yield {
            "detector": "GaussianAnomalyScorer",
            "dataset": names[modality],
            # the latents are centred, so the norm of their mean is near 0 and is replaced by their spread
            "mean_difference": float(np.linalg.norm(once.mean_ - daily.mean_) / np.sqrt(np.trace(a))),
            "covariance_difference": float(np.linalg.norm(a - b) / np.linalg.norm(a)),
            "distance_difference": float(np.linalg.norm(np.subtract(*distances)) / np.linalg.norm(distances[0])),
        }


def labels(seed: int) -> Iterator[dict]:
    table = load(TABLE)
    select, test = table.half("select"), table.half("report")
    labelled = np.random.default_rng(seed).permutation(select.X_test[select.y_test == 1])[: max(COUNTS)]
    base = MultiModalAnomalyDetector({"tabular": TabularEncoder()}, random_state=seed)
    base.fit({"tabular": table.X_train})
    detectors = {
        "hybrid": HybridMultiModalAnomalyDetector(base, random_state=seed),
        "hybrid, head not regularised": HybridMultiModalAnomalyDetector(
            base, head_regularization=0, random_state=seed
        ),
        "hybrid, focal loss": HybridMultiModalAnomalyDetector(base, loss="focal", random_state=seed),
        "supervised": SupervisedMultiModalAnomalyDetector({"tabular": TabularEncoder()}, random_state=seed),
    }
    same = {"dataset": TABLE, "split": "own", "anomalies": "report"} | measure_controls(test, seed)
    for count in COUNTS:
        X = {"tabular": np.concatenate([table.X_train, labelled[:count]])}
        given = {"tabular": np.repeat([0, 1], [len(table.X_train), count])}
        for name, detector in detectors.items():
            if count or name == "hybrid":
                area = auroc(test.y_test, detector.fit(X, given).anomaly_score({"tabular": test.X_test})["tabular"])
                yield {"detector": name, "labels": count, "auroc": area, **same}
                if count == 0:
                    same["unlabelled_auroc"] = area


def encoder(seed: int) -> Iterator[dict]:
    for name in HARD:
        data = load(name, seed=seed).resplit(seed, "report").as_table()
        d = data.X_train.shape[1]
        masked = TabularEncoder(random_state=seed).fit(data.X_train)
        untrained = TabularEncoder(random_state=seed, steps=0).fit(data.X_train)
        encoded = [masked.transform(X) for X in (data.X_train, data.X_test)]
        columns = [Z[:, :d] for Z in encoded]
        denoiser = DenoisingAutoEncoder(random_state=seed).fit(columns[0])
        random = np.random.default_rng(seed).normal(size=(d, d)) / np.sqrt(d)
        arms = {
            "scaled columns": columns,
            "columns and random projection": [np.c_[Z, np.tanh(Z @ random)] for Z in columns],
            "columns and denoising latent codes": [np.c_[Z, denoiser.encode(Z)] for Z in columns],
            "masked columns, untrained": [untrained.transform(X) for X in (data.X_train, data.X_test)],
            "masked columns": encoded,
        }
        same = sizes(data) | measure_controls(data, seed)
        for arm, (train, test) in arms.items():
            scaler = StandardScaler().fit(train)
            gaussian = GaussianAnomalyScorer().fit(scaler.transform(train))
            area = auroc(data.y_test, gaussian.anomaly_score(scaler.transform(test)))
            yield {"detector": arm, "dataset": name, "auroc": area, **same}


def sizes(data: Dataset) -> dict:
    return {"split": "fresh", "anomalies": "report", "n_train": len(data.X_train), "n_test": len(data.y_test)}


PARTS: dict[str, Callable[[int], Iterator[dict]]] = {
    "accuracy": accuracy,
    "alarms": alarms,
    "stream": stream,
    "labels": labels,
    "encoder": encoder,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", default=",".join(PARTS))
    options = parser.parse_args()
    file = RunFile(RUNS, ("part", "seed"))
    for seed in range(options.seeds):
        for part in options.parts.split(","):
            if not file.find({"part": part, "seed": seed}):
                for row in list(PARTS[part](seed)):
                    file.append({"part": part, "seed": seed} | row)
    frame = pd.DataFrame(file.rows)
    for part in options.parts.split(","):
        rows = frame[(frame["part"] == part) & (frame["seed"] < options.seeds)].dropna(axis=1, how="all")
        names = [name for name in ("detector", "labels", "dataset") if name in rows]
        shown = rows.groupby(names, sort=False).mean(numeric_only=True).drop(columns="seed")
        print(f"\n{part}\n{shown.to_string(float_format='{:.4g}'.format)}")


if __name__ == "__main__":
    main()
