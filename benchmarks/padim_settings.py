"""Which settings should PaDiM have by default? Chosen on generated and texture pictures, never on MVTec's.

Prints image and pixel AUROC of each setting, averaged over five data sets that are always at hand, so that the labels
of mvtec/* stay untouched until the settings are fixed. Run from the project's root:

    .venv/bin/python benchmarks/padim_settings.py
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from tqdm import tqdm

from mmad_utils import PaDiM
from mmad_utils.datasets import load
from mmad_utils.metrics import auroc, pixel_auroc, resize_maps

DATASETS = ("synthetic/hazelnut", "synthetic/zipper", "textures/brick", "textures/grass", "textures/gravel")
SEEDS = 2
SETTINGS = {
    "defaults": {},
    "layers 1, 2, 3": {"layers": (1, 2, 3)},
    "50 features": {"n_features": 50},
    "all 152 features": {"feature_selection": "all"},
    "semi-orthogonal": {"feature_selection": "semi_orthogonal"},
    "regularization 0.001": {"covariance_regularization": 0.001},
    "regularization 0.1": {"covariance_regularization": 0.1},
    "smoothing 2": {"smoothing": 2.0},
    "smoothing 8": {"smoothing": 8.0},
    "one Gaussian": {"per_position": False},
}


def measure(setting, dataset, seed):
    """Image and pixel AUROC of one fit."""
    maps = PaDiM(random_state=seed, **setting).fit(dataset.X_train).anomaly_map(dataset.X_test)
    full = resize_maps(maps, dataset.masks_test.shape[1:])
    return auroc(dataset.y_test, maps.max(axis=(1, 2))), pixel_auroc(dataset.masks_test, full)


def main():
    datasets = [load(name) for name in DATASETS]
    rows = {}
    for name, setting in tqdm(SETTINGS.items(), unit="setting"):
        runs = [[measure(setting, dataset, seed) for seed in range(SEEDS)] for dataset in datasets]
        image, pixel = np.mean(runs, axis=(0, 1))
        rows[name] = {"image AUROC": image, "pixel AUROC": pixel}
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == "__main__":
    main()
