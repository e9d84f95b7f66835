"""Reading and checking of image files and masks, and the data sets of handwritten digits."""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageOps

from .download import fetch
from .input_files import check_numbers, check_regular, printable, read_compressed
from .record import Dataset, DatasetError, not_found, one_class_split, origin
from .textures import NAMES

SMALLEST_SIDE = 8  # pixels
MAX_PIXELS = 40_000_000
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # raster formats that need no external program
SUFFIXES = {
    ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
}  # fmt: skip


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open a file of one of `FORMATS`; the header is read, the pixels are not decoded yet.

    Errors here and in the block are converted to a `DatasetError` that contains the name of the file.
    """
    check_regular(path, "image file")
    name = printable(path)
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.width * file.height > max_pixels:
                raise DatasetError(_too_large(f"{file.width}×{file.height} pixels", max_pixels))
            yield file
    except DatasetError as error:
        raise DatasetError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{name}: {_too_large('more pixels than Pillow reads', max_pixels)}") from error
    except Exception as error:  # decoders raise errors of any type for damaged bytes
        raise DatasetError(f"{name}: not a readable image ({error}). Replace or remove the file.") from error


def _too_large(size: str, max_pixels: int) -> str:
    return f"{size}, at most {max_pixels:,} are decoded. Scale the image down, or give a larger max_pixels."


def read_image(image: str | Path | np.ndarray, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read any image as 8-bit RGB, as an image viewer shows it.

    16-bit values are scaled by 1/257 (65535 becomes 255), grey is repeated in three channels, CMYK and
    palettes are converted, transparent pixels are composed over white, and the EXIF orientation is applied.

    Parameters
    ----------
    image : path or array
        A file in the format BMP, GIF, JPEG, PNG, PPM, TIFF or WebP. An array has shape (H, W), (H, W, 1), (H, W, 3)
        or (H, W, 4), and holds uint8, uint16, bool, or floats in [0, 1].
    max_pixels : int, default=40,000,000
        If the header of a file states more pixels, an error is raised before decoding. Pillow has its own limit,
        178,956,970 (``PIL.Image.MAX_IMAGE_PIXELS`` changes it).

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    DatasetError
        The file is missing, not a regular file, not an image or truncated, or it has too many pixels, or pixel
        values of another range.
    """
    if isinstance(image, np.ndarray):
        return _rgb(_from_array(image))
    with _opened(Path(image), max_pixels) as file:
        ImageOps.exif_transpose(file, in_place=True)
        return _rgb(file)


def read_mask(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a mask of defects: every pixel that is not zero, or not black, is a defect.

    This holds for 0 and 1, 0 and 255, class numbers, colours, palettes and 16-bit values. The opacity is ignored.

    Parameters
    ----------
    path : a BMP, GIF, PNG, PPM, TIFF or WebP file
    max_pixels : int, as in `read_image`

    Returns
    -------
    (H, W) bool, True on the defect

    Raises
    ------
    DatasetError
        As for `read_image`. Also for a JPEG, because its compression changes zeros, and for a file with 16 bits per
        colour channel, because Pillow reads it as 8 bits, which changes small values to zero.
    """
    with _opened(Path(path), max_pixels) as file:
        if file.format in ("JPEG", "MPO"):
            raise DatasetError("a mask in JPEG, which does not preserve zeros exactly. Make it again as PNG.")
        if file.mode in ("LA", "RGB", "RGBA") and any(_sixteen_bits(tile[3]) for tile in getattr(file, "tile", ())):
            raise DatasetError("a mask with 16 bits per colour. Save it with 8 bits, or as 16-bit grey.")
        ImageOps.exif_transpose(file, in_place=True)
        if file.mode not in ("1", "L", "F") and not file.mode.startswith("I"):
            file = file.convert("L" if file.mode == "LA" else "RGB")
        values = np.asarray(file)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise DatasetError("a mask with values that are not finite. Save it with 8 bits.")
        return (values != 0).reshape(*values.shape[:2], -1).any(2)


def _sixteen_bits(arguments: object) -> bool:
    """Whether the arguments of a decoder mean 16 bits per channel: "RGB;16B", or for PPM a maximum above 255."""
    parts = arguments if isinstance(arguments, tuple) else (arguments,)
    wide = any(isinstance(part, str) and re.search(r";16[BLN]", part) for part in parts)
    return wide or (len(parts) == 2 and isinstance(parts[1], int) and parts[1] > 255)


def has_few_colours(path: Path, max_pixels: int = MAX_PIXELS) -> bool:
    """Whether an image file has at most three colours, as a mask has; it raises the errors of `read_image`."""
    with _opened(path, max_pixels) as file:
        return file.convert("RGB").getcolors(3) is not None


def check_mask(mask: np.ndarray, path: Path, image: Path) -> None:
    """Check that the mask of an anomalous image is not empty and does not cover the whole image.

    Raises
    ------
    DatasetError
    """
    if mask.any() and not mask.all():
        return
    found = "covers the whole image" if mask.any() else "is empty (every pixel is 0 or black, whatever its opacity)"
    raise DatasetError(
        f"{printable(path)}: the mask {found}, but {printable(image)} is anomalous. Correct or remove the mask, or "
        "the label of the image."
    )


def _from_array(array: np.ndarray) -> Image.Image:
    """A Pillow image of the same 8-bit values."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise DatasetError(f"an image array has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}.")
    if array.dtype == np.uint16:
        array = np.round(array / 257)
    elif array.dtype == bool or np.issubdtype(array.dtype, np.floating):
        if not (np.min(array) >= 0 and np.max(array) <= 1):  # also refuses NaN
            raise DatasetError("an image array of floats holds values in [0, 1]; scale it first.")
        array = np.round(array * 255.0)
    elif array.dtype != np.uint8:
        raise DatasetError(f"an image array is uint8, uint16, bool or float in [0, 1], not {array.dtype}.")
    return Image.fromarray(np.ascontiguousarray(array, dtype=np.uint8))


def _rgb(image: Image.Image) -> np.ndarray:
    """A Pillow image of any mode as (H, W, 3) uint8."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise DatasetError("pixels outside 0..65535; save the image with 8 or 16 bits per channel.")
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))  # rounded
    elif image.mode == "F":
        raise DatasetError("floating-point pixels; save the image with 8 or 16 bits per channel.")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))


def check_images(paths: Sequence[Path], max_pixels: int = MAX_PIXELS) -> list[tuple[int, int]]:
    """Height and width of every file; each file is decoded once, to check that it is readable.

    Raises
    ------
    DatasetError
        A file is not an image, is truncated, has a side below 8 pixels, or has more than ``max_pixels`` pixels. The
        error is for the first such file in the given order.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(_checked_size, max_pixels=max_pixels), paths))


def _checked_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Height and width of an image file that can be decoded and is not tiny."""
    status = check_regular(path, "image file")
    height, width = _decoded_size(path, max_pixels, status.st_size, status.st_mtime_ns)
    if min(height, width) < SMALLEST_SIDE:
        raise DatasetError(
            f"{printable(path)}: {width}×{height} pixels; an image needs at least {SMALLEST_SIDE} per side. "
            "Replace or remove the file."
        )
    return height, width


@lru_cache(maxsize=100_000)
def _decoded_size(path: Path, max_pixels: int, size: int, modified_ns: int) -> tuple[int, int]:
    """Height and width; size and modification time are arguments, so that a changed file is read again."""
    height, width, _ = read_image(path, max_pixels).shape
    return height, width


def digits(digit: str, seed: int = 0) -> Dataset:
    """Handwritten digits of 8×8 pixels; the given digit is normal, the nine others are anomalies.

    Values 0..16 are scaled to 0..255. Source: E. Alpaydin, C. Kaynak (1998), Optical Recognition of
    Handwritten Digits, UCI; the 1797 images that are included in scikit-learn.
    """
    from sklearn.datasets import load_digits  # imported here because it takes a second

    normal = digit_of(digit, "digits")
    data = load_digits()
    X = np.round(data.images[..., None] * (255 / 16)).astype(np.uint8)
    return one_digit_normal(f"digits/{normal}", X, data.target, normal, seed)


def mnist(digit: str, home: Path, seed: int = 0) -> Dataset:
    """Handwritten digits of 28×28 pixels; the given digit is normal, the nine others are anomalies.

    If all four of torchvision's files are present, seed 0 uses the training images of the digit and the whole test
    set. Any other seed draws a new split of the normal samples into sets of the same sizes. If only the two t10k
    files are present, half of their normal samples are for training.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-based learning applied to document
    recognition, Proceedings of the IEEE.
    """
    normal = digit_of(digit, "mnist")
    name = f"mnist/{normal}"
    folders = (home / "mnist", home / "MNIST" / "raw", home / "mnist" / "MNIST" / "raw")
    folder = next((f for f in folders if _idx_file(f, "t10k-images-idx3-ubyte")), None)
    if folder is None:
        fetch(name, home)
        folder = folders[0]
    X, target = _idx_pair(folder, "t10k", name, home)
    if not _idx_file(folder, "train-images-idx3-ubyte"):
        return one_digit_normal(name, X, target, normal, seed)
    X_train, y_train = _idx_pair(folder, "train", name, home)
    known = origin(name, kinds_test=tuple(map(str, target)))
    dataset = Dataset(name, "image", X_train[y_train == normal], X, (target != normal).astype(np.int64), source=known)
    return dataset if seed == 0 else dataset.resplit(seed)


def _idx_file(folder: Path, stem: str) -> Path | None:
    """The compressed (.gz) or uncompressed file of an idx array, or None."""
    return next((p for p in (folder / f"{stem}.gz", folder / stem) if p.exists()), None)


def _idx_pair(folder: Path, part: str, name: str, home: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, side, side, 1) and digits (n,) of one part of MNIST."""
    arrays = []
    for stem, dimensions in ((f"{part}-images-idx3-ubyte", 3), (f"{part}-labels-idx1-ubyte", 1)):
        path = _idx_file(folder, stem)
        if path is None:
            raise not_found(name, folder / f"{stem}.gz", home)
        arrays.append(read_idx(path, dimensions))
    images, target = arrays
    if len(images) != len(target):
        raise DatasetError(
            f"{folder}: {len(images)} {part} images but {len(target)} labels. Delete the files and fetch them again."
        )
    return images[..., None].copy(), target


def read_idx(path: Path, dimensions: int, max_numbers: int | None = None) -> np.ndarray:
    """Read an array of bytes from an idx file, compressed or not: (n,) labels or (n, side, side) square images.

    Parameters
    ----------
    path : file
    dimensions : 1 or 3
    max_numbers : int, or None for the limit in $MMAD_MAX_NUMBERS, whose default is 50 million
        If the header states more numbers, an error is raised before reading.

    Raises
    ------
    DatasetError
        The file is damaged, empty or not a regular file. The array has another type or number of dimensions, or its
        images are not square. There are too few or too many bytes, or more than ``max_numbers`` numbers.
    """
    check_regular(path)
    size = 4 + 4 * dimensions
    header = read_compressed(path, size)
    where = printable(path)
    if len(header) < size or header[:4] != bytes([0, 0, 8, dimensions]):
        raise DatasetError(
            f"{where}: a damaged idx file (it begins with {header[:4].hex()}, expected 000008{dimensions:02x} and "
            f"{dimensions} sizes). Delete it and fetch it again."
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if not math.prod(shape) or len(set(shape[1:])) > 1:
        raise DatasetError(f"{where}: an array {shape}; expected {'square images' if dimensions == 3 else 'labels'}.")
    check_numbers(math.prod(shape), where, max_numbers)
    content = read_compressed(path, size + math.prod(shape) + 1)[size:]
    if len(content) != math.prod(shape):
        found = f"{len(content):,} bytes" if len(content) < math.prod(shape) else "more bytes"
        raise DatasetError(
            f"{where}: a damaged idx file ({found} for an array {shape}). Delete it and fetch it again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def digit_of(text: str, family: str) -> int:
    """The digit in the name of a data set."""
    if len(text) != 1 or text not in "0123456789":
        raise DatasetError(f"{family}/{text}: expected one digit, {family}/0 to {family}/9.")
    return int(text)


def one_digit_normal(name: str, X: np.ndarray, target: np.ndarray, normal: int, seed: int) -> Dataset:
    """Data set with one normal class, which the seed splits into halves; all other classes are anomalies."""
    y = (target != normal).astype(np.int64)
    train, test = one_class_split(y, seed)
    source = origin(name, kinds_test=tuple(map(str, target[test])))
    return Dataset(name, "image", X[train], X[test], y[test], source=source)


SCENE_SIDE = 32  # pixels of a scene
DIGIT_SIDE = 24  # pixels of the digit in it


def digit_scenes(digit: str, seed: int = 0) -> Dataset:
    """White digits on crops of textures; the given digit is normal, the nine others are anomalies.

    Each of the 1797 digits of ``digits/<k>`` is used once. It is enlarged from 8 to 24 pixels and drawn at a random
    position on a random 32×32 crop of one of three texture images. A scene is ``ground + ink · (255 − ground)`` with
    ink in [0, 1]. Positions and crops depend on the seed, not on the label. Half of the normal digits are for
    training. The crops of training and test scenes may overlap; the digits differ.

    Source: the digits of Alpaydin and Kaynak (1998) in scikit-learn; brick, grass and gravel of scikit-image (CC0).

    Parameters
    ----------
    digit : "0" to "9"
    seed : int >= 0

    Returns
    -------
    Dataset of uint8 arrays (n, 32, 32, 1); ``kinds_test`` contains the digit
    """
    from sklearn.datasets import load_digits  # imported here because it takes a second

    normal = digit_of(digit, "digit_scenes")
    rng = np.random.default_rng(seed)
    data = load_digits()
    textures = [getattr(skimage.data, name)() for name in NAMES]
    X = np.stack([scene(image / 16, textures[rng.integers(len(textures))], rng) for image in data.images])
    return one_digit_normal(f"digit_scenes/{normal}", X[..., None], data.target, normal, seed)


def scene(digit: np.ndarray, texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw an enlarged digit, (8, 8) ink in [0, 1], on a crop of a (H, W) uint8 texture; returns (32, 32) uint8."""
    enlarged = Image.fromarray(digit.astype(np.float32)).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
    top, left = (int(rng.integers(side - SCENE_SIDE + 1)) for side in texture.shape)
    ground = texture[top : top + SCENE_SIDE, left : left + SCENE_SIDE].astype(np.float64)
    row, column = rng.integers(SCENE_SIDE - DIGIT_SIDE + 1, size=2)
    ink = np.zeros((SCENE_SIDE, SCENE_SIDE))
    ink[row : row + DIGIT_SIDE, column : column + DIGIT_SIDE] = np.asarray(enlarged).clip(0, 1)
    return np.round(ground + ink * (255 - ground)).astype(np.uint8)
