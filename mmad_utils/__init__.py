"""mmad: multimodal anomaly detection, one contract for every detector.

Names are imported on first use, so that a notebook about tables does not wait for image backbones.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "ConformalThreshold": "thresholds",
    "DeepDetector": "training",
    "Detector": "detector",
    "DetectorError": "detector",
    "DistanceToCenter": "baselines",
    "GaussianAnomalyScorer": "gaussian",
    "ImageEncoder": "encoders",
    "KNNDistance": "baselines",
    "PCAResidual": "baselines",
    "PaDiM": "padim",
    "PatchCore": "padim",
    "PeaksOverThreshold": "thresholds",
    "PositionwiseGaussian": "gaussian",
    "QuantileThreshold": "thresholds",
    "RandomScore": "baselines",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmad_utils' has no attribute {name!r}")
    return getattr(import_module(f"mmad_utils.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
