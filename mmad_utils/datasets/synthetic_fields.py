"""Functions of all image generators: random fields, soft edges, and the camera model."""

from collections.abc import Callable

import numpy as np
from scipy import fft, ndimage

Render = Callable[..., np.ndarray]


def random_field(rng: np.random.Generator, shape: tuple[int, int], correlation: tuple[float, float]) -> np.ndarray:
    """Periodic random field of zero mean and unit variance: white noise filtered by a Gaussian.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (rows, columns)
    correlation : (rows, columns), standard deviation of the Gaussian, in cells

    Returns
    -------
    (rows, columns) float32
    """
    spectrum = fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    rows = np.exp(-2 * (np.pi * correlation[0] * fft.fftfreq(shape[0])) ** 2)
    columns = np.exp(-2 * (np.pi * correlation[1] * fft.rfftfreq(shape[1])) ** 2)
    spectrum *= (rows[:, None] * columns).astype(np.float32)
    spectrum[0, 0] = 0
    field = fft.irfft2(spectrum, s=shape)
    return field / field.std()


def sample(texture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear interpolation in a periodic texture; positions are in cells."""
    height, width = texture.shape
    top_row, left = np.floor(rows), np.floor(columns)
    down, right = rows - top_row, columns - left
    row, column = top_row.astype(np.int32) % height, left.astype(np.int32) % width
    next_column = (column + 1) % width
    flat, upper, lower = texture.ravel(), row * width, (row + 1) % height * width
    top = flat[upper + column] * (1 - right) + flat[upper + next_column] * right
    bottom = flat[lower + column] * (1 - right) + flat[lower + next_column] * right
    return top + (bottom - top) * down


def step(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Smooth step: 0 below `low`, 1 above `high`, cubic in between (decreasing if low > high)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def polyline(rng: np.random.Generator, x: np.ndarray, spacing: float) -> np.ndarray:
    """Random polygonal line over x in [-2, 2], with values in [-1, 1]."""
    knots = np.arange(-2, 2 + spacing, spacing)
    knots = knots + rng.uniform(-0.45, 0.45, len(knots)) * spacing
    return np.interp(x, knots, rng.uniform(-1, 1, len(knots))).astype(np.float32)


def blend(image: np.ndarray, colour: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Blend a colour into an image, both (..., 3), with coverage (...) in [0, 1]."""
    return image + (colour - image) * coverage[..., None]


def photograph(
    render: Render, rng: np.random.Generator, size: int, defect: str | None, severity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Render an image of a scene, with sensor noise, and the mask of the defect.

    The scene, the defect and the sensor have separate random generators. Images of an object with and without the
    defect therefore differ only in the defect.

    Parameters
    ----------
    render : callable (scene_rng, size, defect, severity, defect_rng) -> (size, size, 3) in [0, 1]
    rng : numpy.random.Generator
        Generator of the three seeds.
    size : int, pixels
    defect : str or None
    severity : float in (0, 1]

    Returns
    -------
    image : (size, size, 3) uint8
    mask : (size, size) bool
        True where the noise-free images with and without the defect differ. The other pixels are equal.
    """
    scene, damage, sensor = (int(seed) for seed in rng.integers(2**63, size=3))
    image = render(np.random.default_rng(scene), size, None, severity, np.random.default_rng(damage))
    mask = np.zeros((size, size), bool)
    if defect is not None:
        damaged = render(np.random.default_rng(scene), size, defect, severity, np.random.default_rng(damage))
        mask = _difference(image, damaged)
        image = np.where(mask[..., None], damaged, image)
    noise = np.random.default_rng(sensor).standard_normal((size, size, 3), dtype=np.float32)
    noisy = image + noise * np.sqrt(0.003**2 + 0.008**2 * np.clip(image, 0, 1))
    return np.round(np.clip(noisy, 0, 1) * 255).astype(np.uint8), mask


def _difference(image: np.ndarray, damaged: np.ndarray) -> np.ndarray:
    """Pixels that differ by more than two grey levels (or half the largest difference), with small gaps closed."""
    difference = np.abs(damaged - image).max(axis=2)
    mask = difference > min(2 / 255, difference.max() / 2)
    return mask | ndimage.binary_closing(mask)
