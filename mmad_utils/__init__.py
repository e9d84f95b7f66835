"""mmad: multimodal anomaly detection, one contract for every detector."""

from mmad_utils.baselines import DistanceToCenter, KNNDistance, PCAResidual, RandomScore
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.thresholds import ConformalThreshold, PeaksOverThreshold, QuantileThreshold

__all__ = [
    "ConformalThreshold",
    "Detector",
    "DetectorError",
    "DistanceToCenter",
    "KNNDistance",
    "PCAResidual",
    "PeaksOverThreshold",
    "QuantileThreshold",
    "RandomScore",
]
