"""Real photographs of brick, grass and gravel with a patch of another texture blended in."""

from __future__ import annotations

import numpy as np
import skimage.data

from .record import Dataset, DatasetError, origin

NAMES = ("brick", "grass", "gravel")
SIDE = 256  # pixels
N_TRAIN, N_GOOD, N_BAD = 60, 40, 40
EDGE = 8.0  # pixels over which a patch fades out


def textures(name: str, seed: int = 0) -> Dataset:
    """Crops of one photograph; the anomalies carry a soft-edged patch of one of the two other textures.

    Each photograph is 512×512 grey. By the seed it is cut into two halves: the 60 training crops of 256×256
    come from one, the 40 good and 40 bad test crops from the other, so that no pixel is seen in both. Within a
    half the crops overlap heavily and are varied by mirroring and by brightness (up to 8%); they are far from
    80 independent photographs, and `resplit` would mix the halves: take another seed of `load` instead.

    A patch has a random outline of 12 to 60 pixels' radius and is matched in mean and contrast to the pixels
    that it covers, so that brightness alone does not give it away. The mask holds exactly the pixels under the
    patch, its faded edge included; all others are untouched. Source: brick, grass and gravel of scikit-image
    (CC0); kinds_test names the texture of the patch.

    Parameters
    ----------
    name : "brick", "grass" or "gravel"
    seed : int >= 0

    Returns
    -------
    Dataset of uint8 arrays (n, 256, 256, 3) with masks
    """
    if name not in NAMES:
        raise DatasetError(f"textures/{name}: unknown; expected one of {', '.join(NAMES)}.")
    rng = np.random.default_rng([seed, NAMES.index(name)])
    photographs = {other: getattr(skimage.data, other)() for other in NAMES}
    whole = photographs.pop(name)
    halves = np.split(whole, 2, axis=int(rng.integers(2)))
    if rng.integers(2):
        halves.reverse()
    X_train = np.stack([crop(halves[0], rng) for _ in range(N_TRAIN)])
    X_test = np.stack([crop(halves[1], rng) for _ in range(N_GOOD + N_BAD)])
    masks = np.zeros(X_test.shape, dtype=bool)
    kinds = ["good"] * N_GOOD
    for i in range(N_GOOD, N_GOOD + N_BAD):
        foreign = sorted(photographs)[i % 2]
        X_test[i], masks[i] = blend(X_test[i], crop(photographs[foreign], rng), rng)
        kinds.append(foreign)
    return Dataset(
        f"textures/{name}",
        "image",
        np.repeat(X_train[..., None], 3, axis=-1),
        np.repeat(X_test[..., None], 3, axis=-1),
        np.repeat([0, 1], [N_GOOD, N_BAD]),
        masks,
        None,
        origin(f"textures/{name}", kinds_test=tuple(kinds)),
    )


def crop(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random 256×256 piece of a grey photograph, perhaps mirrored, its brightness changed by up to 8%."""
    top, left = (int(rng.integers(side - SIDE + 1)) for side in photograph.shape)
    piece = photograph[top : top + SIDE, left : left + SIDE]
    piece = piece[:: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]
    return np.clip(np.round(piece * rng.uniform(0.92, 1.08)), 0, 255).astype(np.uint8)


def patch(rng: np.random.Generator) -> np.ndarray:
    """(256, 256) opacity in [0, 1] of a patch: a circle whose radius is a random Fourier series of the angle."""
    radius = np.exp(rng.uniform(np.log(12), np.log(60)))
    margin = min(1.3 * radius + EDGE, SIDE / 2)
    row, column = rng.uniform(margin, SIDE - margin, size=2)
    y, x = np.mgrid[:SIDE, :SIDE]
    angle = np.arctan2(y - row, x - column)
    outline = 1 + sum(rng.normal(0, 0.3 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
    distance = radius * np.clip(outline, 0.5, 1.3) - np.hypot(y - row, x - column)  # positive inside
    return np.clip(distance / EDGE, 0, 1)


def blend(piece: np.ndarray, foreign: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A piece with a patch of a foreign texture, matched in mean and contrast, and the patch's exact mask."""
    opacity = patch(rng)
    mask = opacity > 0
    covered, covering = piece[mask].astype(np.float64), foreign[mask].astype(np.float64)
    matched = (covering - covering.mean()) / max(covering.std(), 1.0) * covered.std() + covered.mean()
    blended = piece.astype(np.float64)
    blended[mask] += opacity[mask] * (matched - covered)
    return np.clip(np.round(blended), 0, 255).astype(np.uint8), mask
