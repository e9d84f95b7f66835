"""Choose the settings of PaDiM on generated and texture images, not on images of MVTec AD.

    python benchmarks/padim_settings.py [--jobs 2]

Each setting differs from the defaults in one parameter, or in two related ones. It is measured on five data sets that
are always available, on two splits (seeds 10 and 11) and the half "select" of the anomalies. Results are reported on
the half "report" and on mvtec/*. Runs are lines of benchmarks/runs/padim_settings.jsonl.
"""

import argparse
from pathlib import Path

import pandas as pd

from mmad_utils.benchmark import RUN_KEYS, benchmark
from mmad_utils.runs import RunFile

RUNS = Path(__file__).resolve().parent / "runs" / "padim_settings.jsonl"
DATASETS = ("synthetic/hazelnut", "synthetic/zipper", "textures/brick", "textures/grass", "textures/gravel")
FIRST_SEED, SEEDS = 10, 2
SETTINGS: dict[str, dict] = {
    "defaults": {},
    "layers 1, 2, 3": {"layers": [1, 2, 3]},
    "50 features": {"n_features": 50},
    "all features": {"feature_selection": "all"},
    "semi-orthogonal features": {"feature_selection": "semi_orthogonal"},
    "ε = 0.001": {"covariance_regularization": 0.001},
    "ε = 0.1": {"covariance_regularization": 0.1},
    "smoothing 2": {"smoothing": 2.0},
    "smoothing 8": {"smoothing": 8.0},
    "one Gaussian for all positions": {"per_position": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    file, rows = RunFile(RUNS, RUN_KEYS), {}
    for name, parameters in SETTINGS.items():
        runs = benchmark(
            ["PaDiM"],
            DATASETS,
            seeds=SEEDS,
            first_seed=FIRST_SEED,
            jobs=options.jobs,
            parameters=parameters,
            anomalies="select",
            runs=file,
            progress=True,
        )
        rows[name] = runs[["auroc", "pixel_auroc"]].mean()
    print(pd.DataFrame(rows).T.round(3).to_string())


if __name__ == "__main__":
    main()
