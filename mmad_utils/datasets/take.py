"""Select rows of samples of any kind: arrays, DataFrames, lists of paths or of texts."""

from __future__ import annotations

import numpy as np

__all__ = ["take"]


def take(samples, rows):
    """Select rows (bool or int) of samples.

    A DataFrame or an array keeps its type; other samples, and arrays (n,) of objects such as paths, become a list.
    """
    if hasattr(samples, "iloc"):
        return samples.iloc[rows]
    if isinstance(samples, np.ndarray) and (samples.ndim > 1 or samples.dtype.kind != "O"):
        return samples[rows]
    samples = list(samples)
    return [samples[i] for i in (np.flatnonzero(rows) if np.asarray(rows).dtype == bool else rows)]
