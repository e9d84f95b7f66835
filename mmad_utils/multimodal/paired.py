"""Base class of all fusions of paired modalities: checks, encoders, and missing parts.

``X`` is ``{"image": images, "text": texts, "series": series}`` with n samples each; row i of every modality belongs
to the same sample. A missing part is None (or a row of NaN). A modality without any part is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from sklearn.base import clone

from mmad_utils.datasets.take import take
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.encoders.image import PixelEncoder
from mmad_utils.encoders.sequences import SeriesEncoder, TextEncoder
from mmad_utils.multimodal.base import check_modalities

__all__ = ["PairedDetector"]


class PairedDetector(Detector):
    """Base class of the detectors of paired modalities: checks, encoders, scales, missing parts.

    A subclass has the parameter ``encoders``, a dict of name -> transformer with ``fit`` and ``transform``. None
    stands for a PixelEncoder of "image", a TextEncoder of "text" and a SeriesEncoder of "series". Its ``_fit`` begins
    with ``_fit_encoders``. The features of each modality are centred and divided by one number, so that the mean
    variance of their columns is 1. All modalities then have the same scale, and the proportions of the columns of a
    modality are unchanged.

    Attributes
    ----------
    modalities_ : tuple of str, the names seen in ``fit``
    encoders_ : dict of name -> fitted encoder
    code_means_ : dict of name -> (d,) float64
    code_scales_ : dict of name -> float
    """

    modalities = ("paired",)
    encoders: Mapping[str, Any] | None
    least_modalities = 1

    def _check(self, X, *, reset: bool):
        """The dict in the order of ``modalities_``; a modality that is None as a list of None."""
        who = type(self).__name__
        learnable = tuple(self.encoders or default_encoders())
        known = learnable if reset else self.modalities_
        if isinstance(X, Mapping):
            for name in X:
                if name in learnable and name not in known:
                    raise DetectorError(
                        f"{who}: modality {name!r} was absent in fit; fit again with it, or remove it."
                    )
            given = {name: samples for name, samples in X.items() if samples is not None}
            if X and not given:
                raise DetectorError(f"{who}: all modalities are None; give at least one.")
            X = {name: given.get(name, (None,)) for name in X}
        check_modalities(X, known, who=who)
        missing = [name for name in known if name not in X and not reset]
        if missing:
            raise DetectorError(
                f"{who}: modality {missing[0]!r} is not in the dict. If all of its parts are missing, give "
                f"{{{missing[0]!r}: None}}."
            )
        lengths = {name: len(samples) for name, samples in given.items()}
        n = max(lengths.values())
        if min(lengths.values()) < n:
            raise DetectorError(f"{who}: paired modalities need the same number of samples, not {lengths}.")
        if reset and len(given) < self.least_modalities:
            raise DetectorError(f"{who} needs at least {self.least_modalities} modalities, got {', '.join(given)}.")
        checked = {name: given.get(name, [None] * n) for name in known if name in (given if reset else X)}
        empty = np.flatnonzero(~np.any([present_rows(samples) for samples in checked.values()], axis=0))
        if empty.size:
            raise DetectorError(f"{who}: all modalities of row {empty[0]} are missing; remove such rows.")
        return checked

    def _fit_encoders(self, X) -> None:
        encoders = self.encoders or default_encoders()
        self.modalities_ = tuple(X)
        self.encoders_, self.code_means_, self.code_scales_ = {}, {}, {}
        for name, samples in X.items():
            present = present_rows(samples)
            if present.sum() < 2:
                raise DetectorError(
                    f"{type(self).__name__}: modality {name!r} has {present.sum()} parts; give two or more."
                )
            encoder = clone(encoders[name])
            codes = np.asarray(encoder.fit(take(samples, present)).transform(take(samples, present)), np.float64)
            self.encoders_[name], self.code_means_[name] = encoder, codes.mean(axis=0)
            self.code_scales_[name] = float(np.sqrt(codes.var(axis=0).mean())) or 1.0

    def _encode(self, X) -> dict[str, np.ndarray]:
        """Features of each modality, (n, d) float64, with rows of NaN where the part is missing."""
        parts = {}
        for name, samples in X.items():
            present = present_rows(samples)
            parts[name] = np.full((len(present), len(self.code_means_[name])), np.nan)
            if present.any():
                codes = self.encoders_[name].transform(take(samples, present))
                parts[name][present] = (codes - self.code_means_[name]) / self.code_scales_[name]
        return parts


def default_encoders() -> dict[str, Any]:
    """The default encoder of each modality; none needs a pretrained network."""
    return {"image": PixelEncoder(), "text": TextEncoder(), "series": SeriesEncoder()}


def present_rows(samples) -> np.ndarray:
    """Which samples are present, (n,) bool: not None, not NaN, not an array of NaN only."""
    if isinstance(samples, np.ndarray) and samples.dtype.kind == "f":
        return ~np.all(np.isnan(samples.reshape(len(samples), -1)), axis=1)
    if isinstance(samples, np.ndarray) and samples.dtype.kind != "O":
        return np.ones(len(samples), dtype=bool)
    return np.array([not _is_missing(sample) for sample in samples], dtype=bool)


def _is_missing(sample) -> bool:
    if isinstance(sample, (float, np.ndarray)):
        values = np.asarray(sample)
        return values.dtype.kind == "f" and bool(np.isnan(values).all())
    return sample is None


def patterns_of(n_modalities: int) -> np.ndarray:
    """All patterns with at least one part, (2^m - 1, m) bool, in binary order; the last is complete."""
    return np.array([row for row in product((False, True), repeat=n_modalities) if any(row)])


def pattern_index(present: np.ndarray) -> np.ndarray:
    """The row number in ``patterns_of`` of each row of (n, m) present parts, (n,) int."""
    return present @ (1 << np.arange(present.shape[1])[::-1]) - 1


def pattern_scales(scores: np.ndarray) -> np.ndarray:
    """Mean and spread of the raw scores of normal samples for each pattern of missing parts, (p, 2).

    The raw score of a sample with one part is smaller on average than that of one with three. The scores of samples
    of different patterns are comparable after each is standardised by the scores of normal samples with the same
    parts.

    Parameters
    ----------
    scores : (n, p) float64
        Column p is the score from the parts of pattern p only; NaN where the sample lacks one of them. A pattern with
        fewer than 10 samples gets the values of all patterns together.
    """
    together = [np.nanmean(scores), np.nanstd(scores) or 1.0]
    columns = (column[np.isfinite(column)] for column in scores.T)
    return np.array([[seen.mean(), seen.std() or 1.0] if len(seen) >= 10 else together for seen in columns])


def standardised(scores: np.ndarray, present: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(n,) raw scores minus the mean of their pattern, divided by its spread."""
    mean, spread = scales[pattern_index(present)].T
    return (scores - mean) / spread


def present_parts(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n, m) bool of encoded parts."""
    return np.stack([~np.isnan(codes[:, 0]) for codes in parts.values()], axis=1)


def rows_of(X, rows):
    """The dict of these rows of each modality."""
    return {name: take(samples, rows) for name, samples in X.items()}
