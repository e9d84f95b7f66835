"""Handwritten digits laid at random places over photographs: position and ground vary, so pixels alone say little."""

from __future__ import annotations

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_digits

from .images import digit_of, one_digit_normal
from .record import Dataset
from .textures import NAMES

SIDE = 32  # pixels of a scene
DIGIT_SIDE = 24  # pixels of the digit in it


def digit_scenes(digit: str, seed: int = 0) -> Dataset:
    """Digits in white ink on pieces of photographs; the given digit is normal, the nine others are anomalies.

    Each of the 1797 digits of ``digits/<k>`` is enlarged from 8 to 24 pixels and laid at a random place over a
    random 32×32 piece of one of three photographs, once: a scene is ``ground + ink · (255 − ground)`` with ink in
    [0, 1]. Places and grounds come from the seed and know nothing of the label. Half of the normal digits train; the
    pieces of ground of training and test scenes may overlap, the digits never do.

    Source: the digits of Alpaydin and Kaynak (1998) in scikit-learn; brick, grass and gravel of scikit-image (CC0).

    Parameters
    ----------
    digit : "0" to "9"
    seed : int >= 0

    Returns
    -------
    Dataset of uint8 arrays (n, 32, 32, 1); kinds_test names the digit
    """
    normal = digit_of(digit, "digit_scenes")
    rng = np.random.default_rng(seed)
    data = load_digits()
    photographs = [getattr(skimage.data, name)() for name in NAMES]
    X = np.stack([scene(picture / 16, photographs[rng.integers(len(photographs))], rng) for picture in data.images])
    return one_digit_normal(f"digit_scenes/{normal}", X[..., None], data.target, normal, seed)


def scene(digit: np.ndarray, photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(8, 8) ink in [0, 1] enlarged and laid over a piece of a (H, W) uint8 photograph, as (32, 32) uint8."""
    enlarged = Image.fromarray(digit.astype(np.float32)).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
    top, left = (int(rng.integers(side - SIDE + 1)) for side in photograph.shape)
    ground = photograph[top : top + SIDE, left : left + SIDE].astype(np.float64)
    row, column = rng.integers(SIDE - DIGIT_SIDE + 1, size=2)
    ink = np.zeros((SIDE, SIDE))
    ink[row : row + DIGIT_SIDE, column : column + DIGIT_SIDE] = np.asarray(enlarged).clip(0, 1)
    return np.round(ground + ink * (255 - ground)).astype(np.uint8)
