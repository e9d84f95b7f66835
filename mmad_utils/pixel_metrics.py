"""Exact pixel metrics of anomaly maps, for up to about a hundred million pixels."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage


class MetricError(ValueError):
    """The labels, scores, masks or maps do not allow the metric to be computed."""


def pixel_metrics(masks, maps, *, max_fpr: float = 0.3) -> dict[str, float]:
    """Exact pixel AUROC, pixel average precision and AUPRO, computed without binned thresholds.

    The scores of the normal pixels are sorted once. All metrics follow from the ranks of the anomalous pixels among
    them. AUROC is the mean rank, divided by the number of normal pixels. The per-region overlap (PRO) at a threshold
    is a mean over the connected anomalous regions of all images (8-connectivity). It averages the share of the pixels
    of each region that are above the threshold. So with K regions, each pixel of a region of m pixels increases PRO
    by 1/(K m), at the false-positive rate at which the threshold reaches its score. AUPRO is the area under PRO up to
    `max_fpr`, divided by `max_fpr`. Between the ends of a tie, PRO is interpolated linearly.

    Parameters
    ----------
    masks : (n, H, W) bool, True on anomalous pixels
    maps : (n, H, W) float, higher is more anomalous; float32 stays float32
    max_fpr : float in (0, 1], false-positive rate up to which the area of AUPRO is computed

    Returns
    -------
    {"pixel_auroc", "pixel_average_precision", "aupro"}, each in [0, 1]

    Raises
    ------
    MetricError
        Shapes differ, a score is NaN or infinite, or the mask pixels are all normal or all anomalous.

    References
    ----------
    P. Bergmann et al. (2021), The MVTec Anomaly Detection Dataset, IJCV 129 (per-region overlap).
    """
    masks, maps = _check_maps(masks, maps)
    if not 0 < max_fpr <= 1:
        raise MetricError(f"max_fpr is {max_fpr}. Give a share in (0, 1]; the usual value is 0.3.")
    normal = maps[~masks]
    normal.sort()
    scores = maps[masks]
    order = np.argsort(scores)
    scores, weights = scores[order], _region_weights(masks)[order]
    starts = np.append(0, np.flatnonzero(np.diff(scores)) + 1)  # first index of each distinct score, ascending
    distinct, n_normal, n_anomalous = scores[starts], len(normal), len(scores)
    below = np.searchsorted(normal, distinct, side="left")
    above = n_normal - np.searchsorted(normal, distinct, side="right")
    found = np.diff(starts, append=n_anomalous)  # number of anomalous pixels of this score
    reached = n_anomalous - starts  # number of anomalous pixels of this score or a higher one

    ranks = below + 0.5 * (n_normal - below - above)
    precision = reached / (reached + n_normal - below)
    # From the false-positive rate `low` to `high`, PRO increases linearly by the weight of the score.
    low, high = above / n_normal, (n_normal - below) / n_normal
    end = np.minimum(high, max_fpr)
    share = np.divide(end - low, high - low, out=np.ones_like(low), where=high > low)
    area = np.where(low < max_fpr, share * (end - low) / 2 + max_fpr - end, 0.0)
    return {
        "pixel_auroc": float(found @ ranks / n_anomalous / n_normal),
        "pixel_average_precision": float(found @ precision / n_anomalous),
        "aupro": float(np.add.reduceat(weights, starts) @ area / max_fpr),
    }


def aupro(masks, maps, max_fpr: float = 0.3) -> float:
    """Area under the per-region overlap curve up to `max_fpr`, in [0, 1]; see `pixel_metrics`."""
    return pixel_metrics(masks, maps, max_fpr=max_fpr)["aupro"]


def pixel_auroc(masks, maps) -> float:
    """AUROC over all pixels of all images, in [0, 1]; see `pixel_metrics`."""
    return pixel_metrics(masks, maps)["pixel_auroc"]


def _region_weights(masks) -> np.ndarray:
    """For each anomalous pixel, in the order of maps[masks]: 1 / (number of regions · pixels of its region)."""
    weights, regions = [], 0
    for mask in masks:
        if mask.any():
            labels, n_labels = ndimage.label(mask, structure=np.ones((3, 3)))
            labels = labels[mask]
            weights.append(1 / np.bincount(labels, minlength=1)[labels])
            regions += n_labels
    return np.concatenate(weights) / regions


def _check_maps(masks, maps) -> tuple[np.ndarray, np.ndarray]:
    masks, maps = np.asarray(masks), np.asarray(maps)
    if masks.dtype != bool:
        raise MetricError(f"masks have type {masks.dtype}. Give bool, True on anomalous pixels, e.g. masks > 0.")
    if masks.ndim != 3 or maps.shape != masks.shape:
        raise MetricError(
            f"masks have shape {masks.shape} but maps {maps.shape}; both must be (n, H, W). "
            "Resize the maps to the size of the masks with resize_maps(maps, masks.shape[1:])."
        )
    if maps.dtype not in (np.float32, np.float64):
        maps = maps.astype(np.float32 if maps.dtype == np.float16 else np.float64)
    for i, scores in enumerate(maps):
        if not np.isfinite(scores).all():
            raise MetricError(f"Map {i} holds NaN or infinity. Check that image and the training of the detector.")
    if masks.all() or not masks.any():
        which = "anomalous" if masks.any() else "normal"
        raise MetricError(
            f"All pixels of the {len(masks)} masks are {which}: pixel metrics need normal and anomalous pixels. "
            "Use a test set with anomaly masks, or image metrics only."
        )
    return masks, maps


def resize_maps(maps, size: tuple[int, int]) -> np.ndarray:
    """Resize anomaly maps (n, h, w) to (n, H, W) float32 by bilinear interpolation, antialiased when reduced."""
    maps = np.asarray(maps, dtype=np.float32)
    if maps.shape[1:] == tuple(size):
        return maps
    resized = np.empty((len(maps), *size), np.float32)
    for i, one in enumerate(maps):
        tensor = torch.from_numpy(np.ascontiguousarray(one))[None, None]
        resized[i] = torch.nn.functional.interpolate(tensor, size, mode="bilinear", antialias=True)[0, 0].numpy()
    return resized
