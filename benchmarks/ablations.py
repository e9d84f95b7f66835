"""Ablations of every deep detector: each part that its paper or this package describes as necessary is left out.

    MMAD_DATA_HOME=... python benchmarks/ablations.py [--seeds 3] [--only ALOCC,FenceGAN] [--anomalies report]

A part is left out by a parameter if there is one, otherwise by a subclass in this file. Both sides are trained with
the same seed and the same number of epochs, and have one network, unless the number of networks is the part that is
left out. Detectors of tables are measured on three tables, those of images on two sets of small images. Each seed
gives a new split of the normal samples. The test set contains one half of the anomalies. The other half is added to
the training set, without or with labels, of the detectors for such training sets.

Each run is one line of the file of runs; runs in this file are not repeated. The printed gain is the AUROC with the
part minus the AUROC without it. Its mean is over data sets and seeds. Also printed are its standard deviation over
the seeds (of the mean over the data sets) and over all pairs, and the number of pairs above 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from torch import nn

from mmad_utils import (
    ALOCC,
    DAGMM,
    RDP,
    REPEN,
    AdversarialAutoEncoder,
    AnoGAN,
    AutoEncoder,
    BiGAN,
    ContractiveAutoEncoder,
    DeepDetector,
    DeepSAD,
    DeepSVDD,
    DenoisingAutoEncoder,
    E3Outlier,
    FAnoGAN,
    FenceGAN,
    GANomaly,
    GeometricTransformations,
    RobustDeepAutoEncoder,
    SparseAutoEncoder,
    StackedDenoisingAutoEncoder,
    VariationalAutoEncoder,
)
from mmad_utils.datasets import Dataset, load
from mmad_utils.metrics import auroc, average_precision
from mmad_utils.runs import RunFile

TABLES = ("tables/vowels", "tables/optdigits", "tables/satellite")
IMAGES = ("digits/3", "digit_scenes/3")
CONTAMINATION = 0.1  # most anomalies among the training samples, as a share of the normal ones
LABELS = 5
LEVELS, FILTERED = 8, 0.05  # as in the program of RDP's authors
NEVER = 10**9  # steps of the critic for one of the generator, which then keeps its first weights
KEYS = ("detector", "without", "training", "dataset", "seed", "anomalies")


def linear_pair(shape, latent_dim):
    """A linear encoder and decoder, which span the principal components at the optimum (Bourlard, Kamp 1988)."""
    return nn.Linear(shape[0], latent_dim), nn.Linear(latent_dim, shape[0])


class WithoutAdversary(AdversarialAutoEncoder):
    """Only the first of the three updates of each step: the reconstruction."""

    def optimise(self, data, generator):
        return super(AdversarialAutoEncoder, self).optimise(data, generator)

    def run(self, step, data, generator, **options):
        return super().run(step, data, generator, min_steps=self.min_steps, **options)


class FrozenEncoder(BiGAN):
    """The encoder keeps its first weights, the generator is trained against the same critic of pairs."""

    def adversaries(self):
        return self.network_["generator"]


class ReconstructionScore(GANomaly):
    """The score is Σ|x − G(x)|, without the second encoder."""

    def batch_score(self, batch, generator):
        return (batch - self.cycle(batch)[1]).abs().flatten(1).sum(1)


class RandomCandidates(REPEN):
    """The outlier candidates are drawn at random instead of by a base detector."""

    def base_scores(self, data, generator):
        return nn.init.normal_(data.new_empty(len(data)), generator=generator)


class NoveltyScore(RDP):
    """Trained with both terms; the score is the novelty alone."""

    def batch_score(self, batch, generator):
        phi, eta = self.embed(batch)
        return (phi - eta).square().mean(dim=1)


class FilteredRDP(NoveltyScore):
    """The levels of the authors' code, github.com/billhhh/RDP.

    Each of 8 levels removes the 5% of the rows with the largest novelty and trains new networks on the others. The
    score is the novelty of the networks of the last level.
    """

    def optimise(self, data, generator):
        history = super().optimise(data, generator)
        for _ in range(LEVELS - 1):
            with torch.no_grad():
                novelty = self.batch_score(data, generator)
            data = data[novelty.argsort()[: len(data) - int(FILTERED * len(data))]]
            self.network_ = self.build(self.input_shape_).to(data.device)
            history += super().optimise(data, generator)
        return history


@dataclass(frozen=True)
class Ablation:
    """A detector and the same without a part.

    Attributes
    ----------
    detector : with all parts
    part : str, the part that is left out
    without : the detector without it
    training : {"normal", "contaminated", "labelled"}
        Samples of the training set: normal ones; also unlabelled anomalies; also a few labelled anomalies.
    """

    detector: DeepDetector
    part: str
    without: DeepDetector
    training: str = "normal"

    @property
    def name(self) -> str:
        return type(self.detector).__name__


def _of(detector: DeepDetector, training: str = "normal", /, **parts) -> list[Ablation]:
    """Ablations of one detector: each part with the changed parameters, or with another detector."""
    return [
        Ablation(detector, part.replace("_", " "), clone(detector).set_params(**change), training)
        if isinstance(change, dict)
        else Ablation(detector, part.replace("_", " "), change, training)
        for part, change in parts.items()
    ]


ABLATIONS: list[Ablation] = [
    *_of(AutoEncoder(), hidden_layers={"network": linear_pair}),
    *_of(DenoisingAutoEncoder(), noise={"corruption": 0.0}),
    *_of(DenoisingAutoEncoder(latent_dim=64), noise={"corruption": 0.0}),
    *_of(StackedDenoisingAutoEncoder(), pretraining={"pretraining_epochs": 0}),
    *_of(SparseAutoEncoder(), sparsity_penalty={"sparsity_weight": 0.0}),
    *_of(ContractiveAutoEncoder(), contraction_penalty={"contraction": 0.0}),
    *_of(VariationalAutoEncoder(), divergence_of_the_latent_codes={"beta": 0.0}),
    *_of(AdversarialAutoEncoder(), adversary=WithoutAdversary()),
    *_of(RobustDeepAutoEncoder(), "contaminated", sparse_part={"regularization": 1e6}),
    *_of(AnoGAN(), training_of_the_generator={"n_critic": NEVER}, discrimination_loss={"feature_weight": 0.0}),
    *_of(FAnoGAN(), training_of_the_generator={"n_critic": NEVER}, features_of_the_critic={"kappa": 0.0}),
    *_of(BiGAN(), training_of_the_encoder=FrozenEncoder(), averaged_weights={"averaging": 0.0}),
    *_of(
        GANomaly(n_estimators=1),
        score_by_the_second_code=ReconstructionScore(n_estimators=1),
        adversarial_loss={"adversarial_weight": 0.0},
    ),
    *_of(
        GeometricTransformations(),
        training={"epochs": 0},
        shifts_and_quarter_turns={"shift": 0.0, "rotations": 1},
    ),
    *_of(E3Outlier(), "contaminated", training={"epochs": 0}, rotations_and_patches={"sets": ("regular",)}),
    *_of(
        REPEN(),
        training={"epochs": 0},
        base_detector=RandomCandidates(),
        local_outlier_factor={"base_detector": "sp"},
    ),
    *_of(
        REPEN(),
        "contaminated",
        training={"epochs": 0},
        base_detector=RandomCandidates(),
        local_outlier_factor={"base_detector": "sp"},
    ),
    *_of(
        RDP(n_estimators=1),
        training={"epochs": 0},
        relation={"relation_weight": 0.0},
        novelty={"novelty_weight": 0.0},
        relation_in_the_score=NoveltyScore(n_estimators=1),
    ),
    *_of(RDP(n_estimators=1), all_training_rows=FilteredRDP(n_estimators=1)),
    *_of(RDP(n_estimators=1), "contaminated", all_training_rows=FilteredRDP(n_estimators=1)),
    *_of(
        DAGMM(n_estimators=1),
        training_of_the_mixture={"energy_weight": 0.0, "covariance_weight": 0.0},
        pretraining={"pretrain_epochs": 0},
    ),
    *_of(DeepSVDD(n_estimators=1), training={"epochs": 0}),
    *_of(DeepSAD(n_estimators=1), "labelled", labelled_anomalies={"eta": 0.0}),
    *_of(
        ALOCC(n_estimators=1),
        training_of_the_refiner={"refiner_learning_rate": 0.0},
        early_end={"stop_at": 0.0},
    ),
    *_of(
        FenceGAN(n_estimators=1),
        training_of_the_generator={"generator_learning_rate": 0.0},
        gradient_penalty={"gradient_penalty": 0.0},
    ),
    *(Ablation(cls(averaging=0.995), "averaged weights", cls(averaging=0.0)) for cls in (AnoGAN, FAnoGAN)),
    *(
        Ablation(cls(), "several networks", cls(n_estimators=1))
        for cls in (GANomaly, RDP, DAGMM, DeepSVDD, ALOCC, FenceGAN)
    ),
]


def training_set(data: Dataset, training: str, seed: int) -> tuple[Any, np.ndarray]:
    """Training samples and their labels, 1 for the added anomalies of the half "select"."""
    X = data.X_train
    if training == "normal":
        return X, np.zeros(len(X), int)
    select = data.half("select")
    anomalies = select.X_test[select.y_test == 1]
    most = LABELS if training == "labelled" else round(CONTAMINATION * len(X))
    drawn = np.random.default_rng(seed).permutation(len(anomalies))[:most]
    return np.concatenate([X, anomalies[drawn]]), np.repeat([0, 1], [len(X), len(drawn)])


def measure(
    detector: DeepDetector, dataset: str, seed: int, training: str = "normal", anomalies: str = "report"
) -> dict[str, float]:
    """AUROC and average precision on normal samples and on one half of the anomalies; sizes and seconds.

    For a contaminated training set also "auroc_training", the AUROC on this set itself.
    """
    data = load(dataset, seed=seed).resplit(seed)
    X, y = training_set(data, training, seed)
    X_test, y_test = (test := data.half(anomalies)).X_test, test.y_test
    if X.ndim == 2:
        scaler = StandardScaler().fit(X[y == 0] if training == "labelled" else X)
        X, X_test = scaler.transform(X), scaler.transform(X_test)
    start = time.perf_counter()
    seeding = {"random_state": seed} if "random_state" in detector.get_params() else {}
    fitted = clone(detector).set_params(**seeding).fit(X, y if training == "labelled" else None)
    scores = fitted.anomaly_score(X_test)
    seconds = time.perf_counter() - start
    own = {"auroc_training": auroc(y, fitted.anomaly_score(X))} if training == "contaminated" else {}
    return {
        "auroc": auroc(y_test, scores),
        **own,
        "average_precision": average_precision(y_test, scores),
        "n_train": len(X),
        "n_test": len(y_test),
        "seconds": seconds,
    }


def arms(ablations: list[Ablation], seeds: range, anomalies: str) -> Iterator[tuple[dict[str, Any], DeepDetector]]:
    """Key of each run and its detector, ordered by seed."""
    for seed in seeds:
        for ablation in ablations:
            for dataset in TABLES if "tabular" in ablation.detector.modalities else IMAGES:
                run = {"detector": repr(ablation.detector), "training": ablation.training, "dataset": dataset}
                run |= {"seed": seed, "anomalies": anomalies}
                yield run | {"without": ""}, ablation.detector
                yield run | {"without": ablation.part}, ablation.without


def gains(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """AUROC of each detector with and without a part, and the gain over data sets and seeds.

    For contaminated training sets also the gain on the training set itself.
    """
    frame = pd.DataFrame(rows, columns=[*KEYS, "auroc", "auroc_training"])
    keys = [key for key in KEYS if key != "without"]
    full = frame[frame["without"] == ""].set_index(keys)[["auroc", "auroc_training"]].add_prefix("with_")
    pairs = frame[frame["without"] != ""].join(full, on=keys).dropna(subset="with_auroc")
    pairs["gain"] = pairs["with_auroc"] - pairs["auroc"]
    pairs["gain_training"] = pairs["with_auroc_training"] - pairs["auroc_training"]
    names = ["detector", "training", "without"]
    groups = pairs.groupby(names, sort=False)["gain"]
    of_seeds = pairs.groupby([*names, "seed"])["gain"].mean()
    return pd.DataFrame(
        {
            "with it": pairs.groupby(names, sort=False)["with_auroc"].mean(),
            "without it": pairs.groupby(names, sort=False)["auroc"].mean(),
            "gain": groups.mean(),
            "sd of seeds": of_seeds.groupby(level=names).std(),
            "sd of pairs": groups.std(),
            "above 0": groups.agg(lambda gain: (gain > 0).sum()),
            "pairs": groups.size(),
            "gain on the training set": pairs.groupby(names, sort=False)["gain_training"].mean(),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="", help="class names, comma-separated")
    parser.add_argument("--part", default="", help="only this part")
    parser.add_argument(
        "--anomalies", choices=("report", "select"), default="report", help="half of the anomalies in the test set"
    )
    parser.add_argument("--runs", default="benchmarks/runs/ablations.jsonl", help="the file of runs")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    chosen = [a for a in ABLATIONS if (not only or a.name in only) and options.part in ("", a.part)]
    if not chosen or only - {ablation.name for ablation in chosen}:
        parser.error(f"no ablation of {options.only} without {options.part or 'any part'}.")
    runs, shown = RunFile(options.runs, KEYS), []
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for run, detector in arms(chosen, seeds, options.anomalies):
        found = runs.find(run)
        if found is None:
            measured = measure(detector, run["dataset"], run["seed"], run["training"], options.anomalies)
            found = runs.append(run | measured)
        shown.append(found)
    table = gains([row for i, row in enumerate(shown) if row not in shown[:i]])
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
