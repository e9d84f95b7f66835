"""The base class of the encoders."""

from __future__ import annotations

from sklearn.base import BaseEstimator, TransformerMixin

from mmad_utils.detector import Stateful

__all__ = ["Encoder"]


class Encoder(TransformerMixin, Stateful, BaseEstimator):
    """Base class of the encoders of one modality: transformers that can be saved as part of a detector."""
