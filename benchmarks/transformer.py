"""The cross-modal transformer, trained and untrained, for both modalities together and for each separately.

    MMAD_DATA_HOME=... python benchmarks/transformer.py [--seeds 5] [--only joint,rows,images,patches]

``joint`` trains one network for mvtec/hazelnut and thyroid, and a separate one for each; ``rows`` is a network for
each of two other tables; ``images`` is generated hazelnuts; ``patches`` is mvtec/hazelnut from raw pixels. A seed
determines a table's split, the network and its batches; data sets of images have a fixed split. The test uses the
half "report" of the anomalies. Two scores are measured: the default, and ``error``, which uses only the variances of
the residuals. Each AUROC is compared with that of the untrained network, of the Mahalanobis distance of the tokens,
and of the controls. Each run is a line of benchmarks/runs/transformer.jsonl, written at its end; runs in the file are
not repeated.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from mmad_utils import GaussianAnomalyScorer, MultiModalAnomalyTransformer
from mmad_utils.benchmark import measure_controls
from mmad_utils.datasets import Dataset, load
from mmad_utils.metrics import auroc
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "transformer.jsonl"
KEYS = ("dataset", "trained_on", "tokens", "score", "seed")
SCORES = ("residual", "error")
HAZELNUT, THYROID = {"image": "mvtec/hazelnut"}, {"tabular": "thyroid"}
GROUPS: dict[str, list[tuple[dict, dict]]] = {
    "joint": [(HAZELNUT | THYROID, {}), (HAZELNUT, {}), (THYROID, {})],
    "rows": [({"tabular": name}, {}) for name in ("injected/dependency/digits/8", "tables/vowels")],
    "images": [({"image": "synthetic/hazelnut"}, {})],
    "patches": [(HAZELNUT, {"tokens": "patches", "image_size": 56})],
}


def keys(names: dict, parameters: dict, seed: int) -> list[dict]:
    """Keys of the runs of one network, one for each modality and score."""
    same = {"trained_on": list(names.values()), "tokens": parameters.get("tokens", "backbone"), "seed": seed}
    return [{"dataset": name, "score": score, **same} for score in SCORES for name in names.values()]


def data(modality: str, name: str, seed: int) -> Dataset:
    """A data set with the half "report" of its anomalies; a table on the split of the seed."""
    return (
        load(name).half("report") if modality == "image" else load(name, seed=seed).resplit(seed, "report").as_table()
    )


def tokens_alone(detector: MultiModalAnomalyTransformer, modality: str, dataset: Dataset) -> float:
    """AUROC of the Mahalanobis distance of the tokens, the inputs of the network."""
    tokeniser = detector._tokenisers[modality]
    train, test = (tokeniser.transform(X).double().numpy() for X in (dataset.X_train, dataset.X_test))
    width = train.shape[2] if modality == "image" else train.shape[1]
    distances = GaussianAnomalyScorer().fit(train.reshape(-1, width)).anomaly_score(test.reshape(-1, width))
    return auroc(dataset.y_test, distances.reshape(len(test), -1).max(axis=1))


def measure(names: dict, parameters: dict, seed: int) -> Iterator[dict]:
    """The runs of one network, in the order of `keys`."""
    sets = {modality: data(modality, name, seed) for modality, name in names.items()}
    train = {modality: dataset.X_train for modality, dataset in sets.items()}
    test = {modality: dataset.X_test for modality, dataset in sets.items()}
    untrained = MultiModalAnomalyTransformer(random_state=seed, epochs=0, **parameters).fit(train)
    start = time.process_time()
    trained = MultiModalAnomalyTransformer(random_state=seed, **parameters).fit(train)
    seconds = time.process_time() - start
    same = {
        modality: {
            "split": "own" if modality == "image" else "fresh",
            "anomalies": "report",
            "n_train": len(dataset.X_train),
            "n_test": len(dataset.y_test),
            "best_epoch": trained.best_epoch_,
            "fit_cpu_seconds": seconds,
            "tokens_auroc": tokens_alone(trained, modality, dataset),
            **measure_controls(dataset, seed),
        }
        for modality, dataset in sets.items()
    }
    for score in SCORES:
        scores, control = (each.set_params(score=score).anomaly_score(test) for each in (trained, untrained))
        for key, modality in zip(keys(names, parameters, seed)[SCORES.index(score) * len(names) :], sets):
            y = sets[modality].y_test
            yield {
                **key,
                "auroc": auroc(y, scores[modality]),
                "untrained_auroc": auroc(y, control[modality]),
                **same[modality],
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default=",".join(GROUPS))
    options = parser.parse_args()
    file, rows = RunFile(RUNS, KEYS), []
    for seed in range(options.seeds):
        for group in options.only.split(","):
            for names, parameters in GROUPS[group]:
                expected = keys(names, parameters, seed)
                if not all(map(file.find, expected)):
                    for row in measure(names, parameters, seed):
                        file.append(row)
                rows += map(file.find, expected)
    frame = pd.DataFrame(rows).assign(trained_on=lambda runs: runs["trained_on"].map(", ".join))
    shown = frame.groupby(list(KEYS[:-1]), sort=False)[
        ["auroc", "untrained_auroc", "tokens_auroc", "fit_cpu_seconds"]
    ]
    print(shown.mean().round(3).to_string())


if __name__ == "__main__":
    main()
