"""The base class of the encoders."""

from __future__ import annotations

from sklearn.base import BaseEstimator, TransformerMixin

from mmad_utils.detector import Stateful

__all__ = ["Encoder"]


class Encoder(TransformerMixin, Stateful, BaseEstimator):
    """Base of the encoders of one modality: transformers that ``save`` of a detector can write."""
