"""Patch tokens of timm's vision transformers, with random weights and few, narrow blocks."""

from http.server import BaseHTTPRequestHandler

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from local_server import local_server

from mmad_utils import MultiModalAnomalyDetector, PaDiM, PatchCore
from mmad_utils.encoders.image import BackboneError, ImageEncoder

DINO_V2, DINO_V3 = "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"
CLIP, PLAIN = "vit_base_patch16_clip_224.openai", "vit_tiny_patch16_224"
NAMES = [DINO_V2, DINO_V3, CLIP, PLAIN]
PREFIX = {DINO_V2: 5, DINO_V3: 5, CLIP: 1, PLAIN: 1}  # class token and registers
CHANNELS, DEPTH = 48, 4


@pytest.fixture(autouse=True)
def small_networks(tmp_path, monkeypatch):
    create = timm.create_model

    def shrunk(name, **options):
        return create(name, depth=DEPTH, embed_dim=CHANNELS, num_heads=3, **options)

    monkeypatch.setattr(timm, "create_model", shrunk)
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MMAD_DATA_HOME", str(tmp_path / "data"))


def encoder_of(name, *, sides=4, **changes):
    size = sides * (14 if "patch14" in name else 16)
    options = {"weights": "random", "cache": False, "blocks": (2, 4), "device": "cpu"}
    return ImageEncoder(name, image_size=size, **options | changes)


@pytest.fixture
def pictures(rng):
    return rng.integers(0, 256, size=(4, 56, 56, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sides", [3, 5])
def test_maps_have_one_token_for_each_patch_at_any_size_that_patches_divide(name, sides, pictures):
    encoder = encoder_of(name, sides=sides)
    assert encoder.grid_ == (sides, sides) and encoder.channels == (CHANNELS, CHANNELS)
    (maps,) = encoder.features(pictures)
    assert [tuple(layer.shape) for layer in maps] == 2 * [(4, CHANNELS, sides, sides)]
    assert encoder.transform(pictures).shape == (4, 4 * CHANNELS)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_timms_forward_intermediates_without_class_token_and_registers(name, pictures):
    encoder = encoder_of(name)
    options = {} if name == DINO_V3 else {"img_size": encoder.image_size}  # DINOv3 has no fixed positions
    reference = timm.create_model(name, pretrained=False, **options).eval()
    state = encoder.network.state_dict()
    if "pos_embed" in state:
        count = reference.pos_embed.shape[1] - encoder.grid_[0] ** 2
        state["pos_embed"] = timm.layers.resample_abs_pos_embed(
            state["pos_embed"], encoder.grid_, num_prefix_tokens=count
        )
    reference.load_state_dict(state)
    with torch.inference_mode():
        pairs = reference.forward_intermediates(
            encoder._prepare(list(pictures)),
            indices=[1, 3],
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
    for layer, (patches, prefix) in zip(next(encoder.features(pictures)), pairs):
        assert prefix.shape[1] == PREFIX[name]
        tokens = layer.flatten(2).transpose(1, 2)
        torch.testing.assert_close(tokens, patches, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_token_of_a_patch_has_the_position_of_the_patch(name, rng):
    encoder = encoder_of(name, blocks=(1,))
    side = encoder.image_size // 4
    plain = np.full((encoder.image_size, encoder.image_size, 3), 128, dtype=np.uint8)
    changed = plain.copy()
    changed[2 * side : 3 * side, side : 2 * side] = rng.integers(0, 256, size=(side, side, 3))
    (before,), (after,) = (next(encoder.features([picture])) for picture in (plain, changed))
    difference = (after - before).norm(dim=1)[0]
    assert divmod(int(difference.argmax()), 4) == (2, 1)
    assert (
        int((encoder.embeddings([changed]).__next__() - before.flatten(2).transpose(1, 2)).norm(dim=2).argmax()) == 9
    )


def test_without_positions_exchanged_patches_exchange_their_tokens(pictures):
    encoder = encoder_of(DINO_V2)
    torch.nn.init.zeros_(encoder.network.pos_embed)
    exchanged = pictures.copy()
    exchanged[:, :14, 14:28], exchanged[:, 42:, 28:42] = pictures[:, 42:, 28:42], pictures[:, :14, 14:28]
    expected = [layer.clone() for layer in next(encoder.features(pictures))]
    for found, layer in zip(next(encoder.features(exchanged)), expected):
        layer[:, :, 0, 1], layer[:, :, 3, 2] = layer[:, :, 3, 2].clone(), layer[:, :, 0, 1].clone()
        torch.testing.assert_close(found, layer, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [DINO_V2, DINO_V3])
def test_tokens_do_not_depend_on_other_images_of_the_batch(name, pictures):
    together, alone = (encoder_of(name, batch_size=size) for size in (4, 1))
    for a, b in zip(next(together.features(pictures)), zip(*alone.features(pictures))):
        assert torch.equal(a, torch.cat(b))


def test_layer_k_is_the_block_at_k_quarters_of_the_depth(pictures):
    by_layer = encoder_of(PLAIN, layers=(1, 2, 4), blocks=None)
    by_block = encoder_of(PLAIN, blocks=(1, 2, 4))
    for a, b in zip(next(by_layer.features(pictures)), next(by_block.features(pictures))):
        assert torch.equal(a, b)


def test_the_cache_returns_the_tokens_and_distinguishes_blocks(pictures, tmp_path, monkeypatch):
    fresh = next(encoder_of(DINO_V2).features(pictures))
    next(encoder_of(DINO_V2, cache=True).features(pictures))
    names = sorted({path.name.rpartition("-")[2] for path in (tmp_path / "cache").rglob("*.npy")})
    assert names == ["block2.npy", "block4.npy"]
    again = encoder_of(DINO_V2, cache=True)
    monkeypatch.setattr(again, "_forward", lambda pictures: pytest.fail("computed again"))
    for a, b in zip(next(again.features(pictures)), fresh):
        assert torch.equal(a, b)
    monkeypatch.undo()


@pytest.mark.parametrize("blocks", [(), (0,), (DEPTH + 1,), (3, 2), (2, 2)])
def test_impossible_blocks_are_refused(blocks):
    with pytest.raises(BackboneError, match=f"increasing numbers from 1 to {DEPTH}"):
        encoder_of(PLAIN, blocks=blocks)


def test_blocks_of_a_convolutional_network_are_refused(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(BackboneError, match="give layers, not blocks"):
        ImageEncoder(blocks=(2,), cache=False)


@pytest.mark.parametrize(("size", "near"), [(60, 56), (8, 14)])
def test_a_size_that_the_patches_do_not_divide_is_refused_before_weights_are_read(size, near):
    with pytest.raises(BackboneError, match=rf"multiple of 14, such as {near}\..*trained at 518"):
        ImageEncoder(DINO_V2, image_size=size, weights="not there")


def test_weights_come_from_a_local_file_and_those_of_another_network_are_refused(tmp_path, pictures):
    with_registers = encoder_of(DINO_V2, random_state=3)
    safetensors.torch.save_file(with_registers.network.state_dict(), tmp_path / "reg4.safetensors")
    loaded = encoder_of(DINO_V2, weights=tmp_path / "reg4.safetensors", sides=5)
    assert loaded.fingerprint == with_registers.fingerprint
    with pytest.raises(BackboneError, match=r"not a state dict of 'vit_small_patch14_dinov2': .*2 tensors"):
        encoder_of("vit_small_patch14_dinov2", weights=tmp_path / "reg4.safetensors")


class Hub(BaseHTTPRequestHandler):
    """Answers as Hugging Face does for model.safetensors of one repository; counts what it sends."""

    def do_HEAD(self):
        self.send_response(200 if self.path == self.server.path else 404)
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def do_GET(self):
        self.server.transfers += 1
        self.do_HEAD()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with local_server(Hub) as server:
        server.path, server.transfers = f"/timm/{DINO_V2}.lvd142m/resolve/main/model.safetensors", 0
        template = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def test_weights_are_downloaded_once(hub):
    published = encoder_of(DINO_V2, random_state=3)
    hub.content = safetensors.torch.save(published.network.state_dict())
    for _ in range(2):
        assert encoder_of(DINO_V2, weights=None).fingerprint == published.fingerprint
        assert hub.transfers == 1


@pytest.mark.parametrize("detector", [PaDiM(n_features=10), PatchCore(coreset_ratio=0.2)])
def test_detectors_find_the_changed_patch_and_are_saved_with_their_blocks(detector, rng, tmp_path):
    detector.set_params(
        backbone=DINO_V2, blocks=(1, 2), image_size=112, weights="random", random_state=0, smoothing=0
    )
    normal = (
        rng.integers(0, 64, size=(112, 112, 3), dtype=np.uint8) + np.arange(8, dtype=np.uint8)[:, None, None, None]
    )
    bad = normal[:1].copy()
    bad[0, 70:84, 14:28] = 255 - bad[0, 70:84, 14:28]
    detector.fit(normal)
    found = detector.anomaly_map(bad)[0]
    row, column = np.array(np.unravel_index(found.argmax(), found.shape)) // 14
    reach = isinstance(detector, PatchCore)  # it averages 3×3 tokens
    assert abs(row - 5) <= reach and abs(column - 1) <= reach
    detector.save(tmp_path / "saved")
    again = type(detector).load(tmp_path / "saved")
    np.testing.assert_array_equal(again.anomaly_score(bad), detector.anomaly_score(bad))


def test_the_unified_detector_takes_tokens(pictures, rng):
    normal = rng.integers(0, 40, size=(12, 56, 56, 3), dtype=np.uint8)
    detector = MultiModalAnomalyDetector({"image": encoder_of(DINO_V2)}, calibration_folds=0, random_state=0)
    scores = detector.fit({"image": normal}).anomaly_score({"image": np.concatenate([normal, pictures])})["image"]
    assert scores[:12].max() < scores[12:].min()
