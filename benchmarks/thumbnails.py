"""Small defects in small pictures: deep detectors on thumbnails of the generated parts, and where their score looks.

    python benchmarks/thumbnails.py [--detectors AutoEncoder,FAnoGAN] [--side 32] [--seeds 5] [--json FILE]

The score of these detectors sums the error over all pixels, and a defect of a few pixels drowns in the rest. Beside
it stands the largest pixel of the same error map, which is how PaDiM scores a picture. Printed are AUROC, mean and
standard deviation over the seeds (of the split and of the detector), and the gain over the untrained network and over
‖x‖² with its 95% interval.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from mmad_utils.benchmark import make_detector, summarise
from mmad_utils.datasets import load, read_image
from mmad_utils.metrics import auroc, average_precision

DETECTORS = (
    "AutoEncoder,DenoisingAutoEncoder,StackedDenoisingAutoEncoder,SparseAutoEncoder,ContractiveAutoEncoder,"
    "VariationalAutoEncoder,AdversarialAutoEncoder,RobustDeepAutoEncoder,AnoGAN,FAnoGAN,BiGAN,GANomaly"
)


def thumbnails(pictures, side: int) -> np.ndarray:
    small = [Image.fromarray(read_image(item)).resize((side, side), Image.Resampling.BOX) for item in pictures]
    return np.stack([np.asarray(picture) for picture in small])


def runs(detector: str, dataset: str, side: int, seed: int):
    """Yield a row for the sum over the map and one for its largest pixel."""
    data = load(dataset).resplit(seed)
    X_train, X_test = thumbnails(data.X_train, side), thumbnails(data.X_test, side)
    fitted = make_detector(detector, random_state=seed).fit(X_train)
    untrained = make_detector(detector, random_state=seed, epochs=0).fit(X_train)
    norm = auroc(data.y_test, np.square(X_test / 255).sum(axis=(1, 2, 3)))
    found = {
        "sum": [each.anomaly_score(X_test) for each in (fitted, untrained)],
        "largest": [each.anomaly_map(X_test).max(axis=(1, 2)) for each in (fitted, untrained)],
    }
    for pooling, (scores, control) in found.items():
        yield {
            "detector": f"{detector}, {pooling}",
            "dataset": dataset,
            "seed": seed,
            "auroc": auroc(data.y_test, scores),
            "average_precision": average_precision(data.y_test, scores),
            "untrained_auroc": auroc(data.y_test, control),
            "norm_auroc": norm,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detectors", default=DETECTORS)
    parser.add_argument("--datasets", default="synthetic/hazelnut,synthetic/zipper")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="append one line a run")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        for dataset in options.datasets.split(","):
            for detector in options.detectors.split(","):
                for row in runs(detector, dataset, options.side, seed):
                    rows.append(row)
                    if options.json:
                        with options.json.open("a") as file:
                            file.write(json.dumps(row) + "\n")
    print(summarise(pd.DataFrame(rows)).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
