"""mmad: multimodal anomaly detection, one contract for every detector.

Names are imported on first use, so that a notebook about tables does not wait for image backbones.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "ALOCC": "one_class",
    "AdversarialAlignment": "alignment",
    "AdversarialAutoEncoder": "generative_autoencoders",
    "AnoGAN": "gans",
    "AutoEncoder": "autoencoders",
    "BiGAN": "bidirectional_gans",
    "CalibratedDetector": "calibrated",
    "ColumnEncoder": "column_encoder",
    "ConformalThreshold": "thresholds",
    "ContractiveAutoEncoder": "autoencoders",
    "ContrastiveAlignment": "alignment",
    "CrossAttentionFusion": "attention_fusion",
    "DAGMM": "dagmm",
    "DeepDetector": "training",
    "DeepSAD": "deep_svdd",
    "DeepSVDD": "deep_svdd",
    "DenoisingAutoEncoder": "autoencoders",
    "Detector": "detector",
    "DetectorError": "detector",
    "DistanceToCenter": "baselines",
    "E3Outlier": "self_supervised",
    "EarlyFusion": "fusion",
    "EnergyModel": "scorers",
    "FAnoGAN": "gans",
    "FenceGAN": "one_class",
    "FlowDensity": "scorers",
    "GANomaly": "bidirectional_gans",
    "GaussianAnomalyScorer": "gaussian_scorer",
    "GaussianStatistics": "gaussian_scorer",
    "GeometricTransformations": "self_supervised",
    "GraphFusion": "graph_fusion",
    "HybridMultiModalAnomalyDetector": "supervised",
    "ImageEncoder": "encoders",
    "KNNDistance": "baselines",
    "LateFusion": "fusion",
    "LatentSpace": "latent_space",
    "ModalityMixture": "scorers",
    "MomentMatching": "alignment",
    "MultiModalAnomalyDetector": "unified",
    "MultiModalAnomalyTransformer": "transformer",
    "PCAResidual": "baselines",
    "PaDiM": "padim",
    "PatchCore": "padim",
    "PeaksOverThreshold": "thresholds",
    "PixelEncoder": "pixel_encoder",
    "PositionwiseGaussian": "gaussian",
    "QuantileThreshold": "thresholds",
    "RDP": "feature_learning",
    "REPEN": "feature_learning",
    "RandomScore": "baselines",
    "RobustDeepAutoEncoder": "robust_autoencoders",
    "RobustPCA": "robust_autoencoders",
    "SeriesEncoder": "sequence_encoders",
    "SharedLatentFusion": "deep_fusion",
    "SparseAutoEncoder": "autoencoders",
    "StackedDenoisingAutoEncoder": "autoencoders",
    "SupervisedMultiModalAnomalyDetector": "supervised",
    "TabularEncoder": "tabular_encoder",
    "TailProbability": "thresholds",
    "TextEncoder": "sequence_encoders",
    "VariationalAutoEncoder": "generative_autoencoders",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmad_utils' has no attribute {name!r}")
    return getattr(import_module(f"mmad_utils.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
