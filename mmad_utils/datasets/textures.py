"""Real images of brick, grass and gravel; anomalies contain a blended patch of another texture."""

from __future__ import annotations

import numpy as np
import skimage.data

from .record import Dataset, DatasetError, origin

NAMES = ("brick", "grass", "gravel")
SIDE = 256  # pixels
N_TRAIN, N_GOOD, N_BAD = 60, 40, 40
EDGE = 8.0  # width in pixels of the soft edge of a patch


def textures(name: str, seed: int = 0) -> Dataset:
    """Random crops of one image; the anomalies contain a soft-edged patch of one of the two other textures.

    Each image is grey and has 512×512 pixels. The seed chooses how it is cut into two halves. The 60 training crops
    of 256×256 pixels are from one half, the 40 good and 40 bad test crops from the other half, so no pixel is in both
    sets. Within a half, the crops overlap strongly; they are mirrored at random, and their brightness is changed by
    up to 8%. They are therefore not independent images. `resplit` would mix the halves: use another seed of `load`
    instead.

    A patch has a random outline with a radius of 12 to 60 pixels. Its mean and contrast are matched to the pixels
    that it covers, so that it cannot be detected by brightness alone. The mask contains exactly the pixels of the
    patch, including its soft edge; all other pixels are unchanged. Source: brick, grass and gravel of scikit-image
    (CC0). ``kinds_test`` contains the texture of the patch.

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
    sources = {other: getattr(skimage.data, other)() for other in NAMES}
    whole = sources.pop(name)
    halves = np.split(whole, 2, axis=int(rng.integers(2)))
    if rng.integers(2):
        halves.reverse()
    X_train = np.stack([crop(halves[0], rng) for _ in range(N_TRAIN)])
    X_test = np.stack([crop(halves[1], rng) for _ in range(N_GOOD + N_BAD)])
    masks = np.zeros(X_test.shape, dtype=bool)
    kinds = ["good"] * N_GOOD
    for i in range(N_GOOD, N_GOOD + N_BAD):
        foreign = sorted(sources)[i % 2]
        X_test[i], masks[i] = blend(X_test[i], crop(sources[foreign], rng), rng)
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


def crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random 256×256 crop of a grey image, mirrored at random, with its brightness changed by up to 8%."""
    top, left = (int(rng.integers(side - SIDE + 1)) for side in image.shape)
    piece = image[top : top + SIDE, left : left + SIDE]
    piece = piece[:: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]
    return np.clip(np.round(piece * rng.uniform(0.92, 1.08)), 0, 255).astype(np.uint8)


def patch(rng: np.random.Generator) -> np.ndarray:
    """Opacity of a patch, (256, 256) in [0, 1]: a disc whose radius is a random Fourier series of the angle."""
    radius = np.exp(rng.uniform(np.log(12), np.log(60)))
    margin = min(1.3 * radius + EDGE, SIDE / 2)
    row, column = rng.uniform(margin, SIDE - margin, size=2)
    y, x = np.mgrid[:SIDE, :SIDE]
    angle = np.arctan2(y - row, x - column)
    outline = 1 + sum(rng.normal(0, 0.3 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 6))
    distance = radius * np.clip(outline, 0.5, 1.3) - np.hypot(y - row, x - column)  # positive inside
    return np.clip(distance / EDGE, 0, 1)


def blend(piece: np.ndarray, foreign: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blend a patch of another texture into a crop, with matched mean and contrast; return image and exact mask."""
    opacity = patch(rng)
    mask = opacity > 0
    covered, covering = piece[mask].astype(np.float64), foreign[mask].astype(np.float64)
    matched = (covering - covering.mean()) / max(covering.std(), 1.0) * covered.std() + covered.mean()
    blended = piece.astype(np.float64)
    blended[mask] += opacity[mask] * (matched - covered)
    return np.clip(np.round(blended), 0, 255).astype(np.uint8), mask
