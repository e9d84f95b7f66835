"""Multimodal anomaly detection: detectors with one common interface, encoders, data sets, metrics and plots.

Names are imported on first use, so that a notebook about tables does not have to import the image backbones.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "ALOCC": "detectors.one_class",
    "AdversarialAlignment": "multimodal.alignment",
    "AdversarialAutoEncoder": "detectors.generative_autoencoders",
    "AnoGAN": "detectors.gans",
    "ArcSineKernelDistance": "detectors.kernel_distance",
    "AutoEncoder": "detectors.autoencoders",
    "BiGAN": "detectors.bidirectional_gans",
    "CalibratedDetector": "calibrated",
    "ColumnEncoder": "encoders.columns",
    "ColumnScaler": "encoders.scaling",
    "ConformalThreshold": "thresholds",
    "ContractiveAutoEncoder": "detectors.autoencoders",
    "ContrastiveAlignment": "multimodal.alignment",
    "CrossAttentionFusion": "multimodal.attention_fusion",
    "DAGMM": "detectors.dagmm",
    "DeepDetector": "training",
    "DeepSAD": "detectors.deep_svdd",
    "DeepSVDD": "detectors.deep_svdd",
    "DenoisingAutoEncoder": "detectors.autoencoders",
    "Detector": "detector",
    "DetectorError": "detector",
    "DistanceToCenter": "detectors.baselines",
    "E3Outlier": "detectors.self_supervised",
    "EarlyFusion": "multimodal.fusion",
    "EnergyModel": "multimodal.scorers",
    "FAnoGAN": "detectors.gans",
    "FenceGAN": "detectors.one_class",
    "FlowDensity": "multimodal.scorers",
    "GANomaly": "detectors.bidirectional_gans",
    "GaussianAnomalyScorer": "detectors.gaussian",
    "GaussianStatistics": "detectors.gaussian",
    "GeometricTransformations": "detectors.self_supervised",
    "GraphFusion": "multimodal.graph_fusion",
    "HybridMultiModalAnomalyDetector": "multimodal.supervised",
    "ImageEncoder": "encoders.image",
    "KNNDistance": "detectors.baselines",
    "LateFusion": "multimodal.fusion",
    "LatentSpace": "multimodal.latent_space",
    "ModalityMixture": "multimodal.scorers",
    "MomentMatching": "multimodal.alignment",
    "MultiModalAnomalyDetector": "multimodal.unified",
    "MultiModalAnomalyTransformer": "multimodal.transformer",
    "PCAResidual": "detectors.baselines",
    "PaDiM": "detectors.padim",
    "PatchCore": "detectors.padim",
    "PeaksOverThreshold": "thresholds",
    "PixelEncoder": "encoders.image",
    "PositionwiseGaussian": "detectors.positionwise_gaussian",
    "QuantileThreshold": "thresholds",
    "RDP": "detectors.feature_learning",
    "REPEN": "detectors.feature_learning",
    "RandomScore": "detectors.baselines",
    "RobustDeepAutoEncoder": "detectors.robust_autoencoders",
    "RobustPCA": "detectors.robust_autoencoders",
    "SeriesEncoder": "encoders.sequences",
    "SharedLatentFusion": "multimodal.deep_fusion",
    "SparseAutoEncoder": "detectors.autoencoders",
    "StackedDenoisingAutoEncoder": "detectors.autoencoders",
    "SupervisedMultiModalAnomalyDetector": "multimodal.supervised",
    "TabularEncoder": "encoders.tabular",
    "TailProbability": "thresholds",
    "TextEncoder": "encoders.sequences",
    "VariationalAutoEncoder": "detectors.generative_autoencoders",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmad_utils' has no attribute {name!r}")
    return getattr(import_module(f"mmad_utils.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
