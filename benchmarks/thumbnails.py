"""Small defects in small images: deep detectors on thumbnails of generated images, with two ways to pool the error.

    python benchmarks/thumbnails.py [--detectors AutoEncoder,FAnoGAN] [--side 32] [--seeds 5]

The score of these detectors sums the error over all pixels, to which a defect of a few pixels contributes little. The
largest pixel of the same error map is PaDiM's score of an image. The PCA residual and ‖x‖² are pooled in the same two
ways; the other controls have no map and are the same in both. Each run is a line of
benchmarks/runs/thumbnails.jsonl, written at its end; runs in the file are not repeated.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.preprocessing import StandardScaler

from mmad_utils import PCAResidual
from mmad_utils.benchmark import make_detector, measure_controls, summarise
from mmad_utils.datasets import Dataset, load, read_image
from mmad_utils.metrics import auroc, average_precision
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "thumbnails.jsonl"
DETECTORS = (
    "AutoEncoder,DenoisingAutoEncoder,StackedDenoisingAutoEncoder,SparseAutoEncoder,ContractiveAutoEncoder,"
    "VariationalAutoEncoder,AdversarialAutoEncoder,RobustDeepAutoEncoder,AnoGAN,FAnoGAN,BiGAN,GANomaly"
)
POOLINGS = ("sum", "largest")


def thumbnails(paths, side: int) -> np.ndarray:
    small = [Image.fromarray(read_image(path)).resize((side, side), Image.Resampling.BOX) for path in paths]
    return np.stack([np.asarray(image) for image in small])


def runs(detector: str, dataset: str, side: int, seed: int):
    """Yield a row for the sum over the error map and one for its largest pixel."""
    data = load(dataset).resplit(seed, anomalies="report")
    data = replace(
        data, X_train=thumbnails(data.X_train, side), X_test=thumbnails(data.X_test, side), masks_test=None
    )
    fitted = make_detector(detector, random_state=seed).fit(data.X_train)
    untrained = make_detector(detector, random_state=seed, epochs=0).fit(data.X_train)
    controls = {"sum": measure_controls(data, seed)}
    controls["largest"] = controls["sum"] | largest_pixel_controls(data)
    for pooling in POOLINGS:
        scores, control = (_pooled(each, data.X_test, pooling) for each in (fitted, untrained))
        yield {
            **_identity(detector, dataset, side, seed, pooling),
            "split": "fresh",
            "anomalies": "report",
            "n_train": len(data.X_train),
            "n_test": len(data.y_test),
            "n_networks": fitted.get_params().get("n_estimators", 1),
            "auroc": auroc(data.y_test, scores),
            "average_precision": average_precision(data.y_test, scores),
            "untrained_auroc": auroc(data.y_test, control),
            **controls[pooling],
        }


def largest_pixel_controls(data: Dataset) -> dict[str, float]:
    """‖x‖² and PCA residual with the largest pixel of the map instead of the sum; pixels are standardised."""
    rows = data.as_table()
    scaler = StandardScaler().fit(rows.X_train)
    train, test = scaler.transform(rows.X_train), scaler.transform(rows.X_test)
    pca = PCAResidual().fit(train)
    centred = test - pca.mean_
    errors = {"norm": test, "pca": centred - centred @ pca.components_.T @ pca.components_}
    found = {}
    for key, error in errors.items():
        scores = np.square(error).reshape(data.X_test.shape).sum(axis=3).max(axis=(1, 2))
        found[f"{key}_auroc"] = auroc(data.y_test, scores)
        found[f"{key}_average_precision"] = average_precision(data.y_test, scores)
    return found


def _pooled(detector, images: np.ndarray, pooling: str) -> np.ndarray:
    return detector.anomaly_score(images) if pooling == "sum" else detector.anomaly_map(images).max(axis=(1, 2))


def _identity(detector: str, dataset: str, side: int, seed: int, pooling: str) -> dict:
    return {"detector": detector, "dataset": dataset, "seed": seed, "parameters": {"side": side, "pooling": pooling}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", default=DETECTORS)
    parser.add_argument("--datasets", default="synthetic/hazelnut,synthetic/zipper")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    file, rows = RunFile(RUNS, ("detector", "dataset", "seed", "parameters")), []
    for seed in range(options.seeds):
        for dataset in options.datasets.split(","):
            for detector in options.detectors.split(","):
                keys = [_identity(detector, dataset, options.side, seed, pooling) for pooling in POOLINGS]
                if not all(map(file.find, keys)):
                    for row in runs(detector, dataset, options.side, seed):
                        file.append(row)
                rows += [
                    {**file.find(key), "detector": f"{detector}, {key['parameters']['pooling']}"} for key in keys
                ]
    print(summarise(pd.DataFrame(rows)).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
