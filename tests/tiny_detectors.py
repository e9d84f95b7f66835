"""Every exported detector, found by discovery, with settings that train in a fraction of a second."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import mmad_utils
from mmad_utils import Detector, KNNDistance, MultiModalAnomalyDetector, TabularEncoder

SETTINGS: dict[str, Any] = {  # of each parameter of these names
    "adversary_hidden": (4,),
    "batch_size": 16,
    "depth": 1,
    "epochs": 1,
    "estimation_hidden": 4,
    "folds": 2,
    "calibration_folds": 2,
    "hidden": (8,),
    "latent_dim": 2,
    "max_iter": 200,
    "min_steps": 1,
    "n_critic": 1,
    "n_estimators": 1,
    "n_steps": 2,
    "n_subsamples": 2,
    "pretrain_epochs": 1,
    "pretraining_epochs": 1,
    "random_state": 0,
    "steps": 2,
    "steps_per_epoch": 2,
    "transforms": 1,
    "views": 1,
    "weights": "random",
}


def encoder() -> TabularEncoder:
    """Of any modality that is a table here."""
    return TabularEncoder(steps=2, hidden=(4,), random_state=0)


PAIRED: dict[str, Any] = {"encoders": {"left": encoder(), "right": encoder()}}
OWN: dict[str, Callable[[], dict[str, Any]]] = {  # what a detector needs besides, or has of another type
    "CalibratedDetector": lambda: {"detector": KNNDistance()},
    "CrossAttentionFusion": lambda: PAIRED | {"width": 8, "heads": 1, "layers": 1},
    "EarlyFusion": lambda: PAIRED,
    "GraphFusion": lambda: PAIRED | {"hidden": 8},
    "HybridMultiModalAnomalyDetector": lambda: {
        "detector": MultiModalAnomalyDetector({"tabular": encoder()}, latent_dim=2, calibration_folds=2)
    },
    "LateFusion": lambda: PAIRED,
    "ModalityMixture": lambda: {"weights": None},
    "MultiModalAnomalyDetector": lambda: {"encoders": {"tabular": encoder()}},
    "PaDiM": lambda: {"backbone": "resnet10t", "image_size": 32, "n_features": 4},
    "PatchCore": lambda: {"backbone": "resnet10t", "image_size": 32, "coreset_ratio": 0.1},
    "REPEN": lambda: {"cutoff": 1.0},
    "SharedLatentFusion": lambda: PAIRED | {"hidden": 8},
    "SupervisedMultiModalAnomalyDetector": lambda: {"encoders": {"tabular": encoder()}},
}


def detector_classes() -> list[type[Detector]]:
    """The exported classes that can be fitted."""
    found = [getattr(mmad_utils, name) for name in mmad_utils.__all__]
    return [
        cls for cls in found if isinstance(cls, type) and issubclass(cls, Detector) and not inspect.isabstract(cls)
    ]


def tiny(cls: type[Detector]) -> Detector:
    """One detector of the class with tiny settings."""
    parameters = inspect.signature(cls).parameters
    given = {key: value for key, value in SETTINGS.items() if key in parameters}
    return cls(**given | OWN.get(cls.__name__, dict)())


def samples(cls: type[Detector], table: np.ndarray) -> Any:
    """A table in the form that the class takes: itself, images whose pixels are its columns, or a dict."""
    if "tabular" in cls.modalities:
        return table
    if "multimodal" in cls.modalities:
        return {"tabular": table}
    if "paired" in cls.modalities:
        return {"left": table, "right": table[:, ::-1].copy()}
    return images(table)


def images(table: np.ndarray) -> np.ndarray:
    """(n, 8, 8, 3) uint8, each row repeated over the pixels; values are clipped to [-1, 1] and spread over 0…255."""
    pixels = np.resize((127.5 * (np.clip(table, -1, 1) + 1)).round().astype(np.uint8).T, (8 * 8 * 3, len(table))).T
    return pixels.reshape(len(table), 8, 8, 3)


def labels(cls: type[Detector], table: np.ndarray) -> Any:
    """Labels for the classes that learn from anomalies: the last quarter of the rows."""
    if not cls.__name__.startswith(("Supervised", "Hybrid")):
        return None
    return {"tabular": (np.arange(len(table)) >= 0.75 * len(table)).astype(int)}


def score_values(scores: Any) -> np.ndarray:
    """The scores of one modality or of all, (n,)."""
    return np.concatenate(list(scores.values())) if isinstance(scores, dict) else scores
