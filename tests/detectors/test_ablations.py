"""Each part of a deep detector is left out, see benchmarks/ablations.py, on data that are embedded.

The bounds on the gain in AUROC, a mean over two seeds, come from five seeds: the mean gain that was measured,
and at least three standard deviations of a mean of two seeds on each side. Where 0 lies between them, the part
contributes nothing on these data; where the upper one is 0, the detector is better without it. For labels of Deep SAD
and for the sparse part of the robust autoencoder see the tests of their own files.
"""

from functools import lru_cache

import numpy as np
import pytest
from ablations import ABLATIONS, linear_pair, measure
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

import mmad_utils
from mmad_utils import AutoEncoder, DeepDetector

SEEDS = (0, 1)
SHORT_GAN = {"epochs": 1, "min_steps": 300}
SMALL = {  # parameters of both sides
    "AdversarialAutoEncoder": {"min_steps": 150, "epochs": 1},
    "AnoGAN": SHORT_GAN | {"n_steps": 40},
    "FAnoGAN": SHORT_GAN,
    "GANomaly": SHORT_GAN,
    "GeometricTransformations": {"epochs": 60, "width": 4},
    "E3Outlier": {"epochs": 30, "width": 4},
    "DeepSVDD": {"epochs": 50, "batch_size": 32},
    "ALOCC": {"epochs": 20, "batch_size": 32},
    "FenceGAN": {"epochs": 30, "batch_size": 32},
} | {name: {"batch_size": 32} for name in ("REPEN", "RDP", "DAGMM")}
BOUNDS = {
    ("DenoisingAutoEncoder", "noise"): (-0.03, 0.03),
    ("StackedDenoisingAutoEncoder", "pretraining"): (-0.03, 0.05),
    ("SparseAutoEncoder", "sparsity penalty"): (-0.1, 0.0),
    ("ContractiveAutoEncoder", "contraction penalty"): (-0.02, 0.02),
    ("VariationalAutoEncoder", "divergence of the latent codes"): (-0.06, 0.03),
    ("AdversarialAutoEncoder", "adversary"): (-0.1, 0.03),
    ("AnoGAN", "training of the generator"): (0.25, 0.7),
    ("AnoGAN", "discrimination loss"): (-0.04, 0.05),
    ("FAnoGAN", "training of the generator"): (0.08, 0.5),
    ("FAnoGAN", "features of the critic"): (-0.02, 0.03),
    ("GANomaly", "score by the second code"): (-0.25, 0.0),
    ("GANomaly", "adversarial loss"): (-0.05, 0.05),
    ("GeometricTransformations", "training"): (0.1, 1.0),
    ("GeometricTransformations", "shifts and quarter turns"): (-0.04, 0.06),
    ("E3Outlier", "training"): (0.1, 1.0),
    ("E3Outlier", "rotations and patches"): (-0.03, 0.03),
    ("REPEN", "training"): (-0.04, 0.04),
    ("REPEN", "base detector"): (-0.13, 0.0),
    ("REPEN", "local outlier factor"): (-0.03, 0.04),
    ("RDP", "training"): (0.18, 0.6),
    ("RDP", "relation"): (-0.09, 0.05),
    ("RDP", "novelty"): (0.03, 0.6),
    ("DAGMM", "training of the mixture"): (-0.07, 0.03),
    ("DeepSVDD", "training"): (0.1, 0.8),
    ("ALOCC", "training of the refiner"): (-0.02, 0.02),
    ("FenceGAN", "training of the generator"): (-0.02, 0.02),
}


@lru_cache
def areas(name: str, part: str, training: str, seeds: tuple[int, ...]) -> np.ndarray:
    """AUROC of each seed, without a part, or with all of them where the part is empty."""
    found = next(a for a in ABLATIONS if a.name == name and part in ("", a.part))
    small = SMALL.get(name, {})
    if part:
        small = {
            key: value for key, value in small.items() if getattr(found.without, key) == getattr(found.detector, key)
        }
    detector = clone(found.without if part else found.detector).set_params(**small)
    data = "injected/dependency/breast_cancer" if "tabular" in detector.modalities else "digits/3"
    return np.array([measure(detector, data, seed, training)["auroc"] for seed in seeds])


def gain(name: str, part: str, seeds: tuple[int, ...]) -> np.ndarray:
    """AUROC with a part less the AUROC without it, of each seed."""
    training = next(a.training for a in ABLATIONS if (a.name, a.part) == (name, part))
    return areas(name, "", training, seeds) - areas(name, part, training, seeds)


@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in BOUNDS))
def test_the_gain_by_each_part_is_within_the_measured_bounds(name):
    gains = {part: gain(name, part, SEEDS).mean() for other, part in BOUNDS if other == name}
    outside = {
        part: found for part, found in gains.items() if not BOUNDS[name, part][0] < found < BOUNDS[name, part][1]
    }
    assert not outside


def test_hidden_layers_follow_a_curve_that_no_linear_network_follows():
    def curve(n, rng):
        t = rng.uniform(-2, 2, n)
        X = np.stack([t, np.sin(2 * t), np.cos(2 * t), t**2 / 2 - 1, np.sin(t), np.cos(t)], axis=1)
        return X + 0.05 * rng.normal(size=X.shape)

    gains = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        train, normal, broken = curve(300, rng), curve(300, rng), rng.permuted(curve(300, rng), axis=0)
        deep, linear = (
            AutoEncoder(latent_dim=1, hidden=(32,), learning_rate=0.01, network=network, random_state=seed).fit(train)
            for network in (None, linear_pair)
        )
        y, test = np.repeat([0, 1], 300), np.concatenate([normal, broken])
        gains.append(roc_auc_score(y, deep.anomaly_score(test)) - roc_auc_score(y, linear.anomaly_score(test)))
    assert np.mean(gains) > 0.12  # five seeds: 0.26, standard deviation 0.02


def test_every_deep_detector_of_tables_and_small_images_has_an_ablation():
    exported = [getattr(mmad_utils, name) for name in mmad_utils.__all__]
    deep = {
        found.__name__
        for found in exported
        if isinstance(found, type)
        and issubclass(found, DeepDetector)
        and found.__module__.startswith("mmad_utils.detectors")
    }
    elsewhere = {"BiGAN", "DeepSAD", "RobustDeepAutoEncoder"}  # in tests of their own files
    assert {ablation.name for ablation in ABLATIONS} == deep
    assert {name for name, _ in BOUNDS} | {"AutoEncoder"} | elsewhere == deep
