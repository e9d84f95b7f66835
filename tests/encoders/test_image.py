import time

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import skimage.data
import timm
import torch
from PIL import Image

from mmad_utils.detector import DetectorError
from mmad_utils.encoders.image import BackboneError, ImageEncoder, join_layers

TINY = "mobilenetv3_small_050"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MMAD_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def pictures(rng):
    return rng.integers(0, 256, size=(5, 40, 50, 3), dtype=np.uint8)


def small(**changes):
    return ImageEncoder(**{"image_size": 64, **changes})


def all_features(encoder, X):
    return [torch.cat(layer) for layer in zip(*encoder.features(X))]


def cache_files(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.npy"))


def test_bundled_weights_know_a_cat_and_an_espresso():
    probabilities = ImageEncoder().classify([skimage.data.chelsea(), skimage.data.coffee()])
    cats, espresso = slice(281, 286), 967  # ImageNet's class numbers
    assert probabilities.shape == (2, 1000)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert probabilities[0, cats].sum() > 0.8
    assert probabilities[1].argmax() == espresso and probabilities[1, espresso] > 0.5


@pytest.mark.parametrize("backbone", ["efficientnet_lite0", "resnet10t", "convnext_atto"])
def test_layer_k_has_stride_two_to_the_k_plus_one(backbone, pictures):
    encoder = ImageEncoder(backbone, layers=(1, 2, 3, 4), image_size=64, weights="random", cache=False)
    (layers,) = encoder.features(pictures[:2])
    assert [tuple(layer.shape) for layer in layers] == [
        (2, c, size, size) for c, size in zip(encoder.channels, (16, 8, 4, 2))
    ]
    assert encoder.grid_ == (16, 16)


def test_features_are_those_of_timms_own_extractor(pictures):
    encoder = small(layers=(1, 3), cache=False)
    reference = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 3)).eval()
    reference.load_state_dict(encoder.network.state_dict(), strict=False)
    with torch.inference_mode():
        expected = reference(encoder._prepare(list(pictures)))
    for found, layer in zip(all_features(encoder, pictures), expected):
        torch.testing.assert_close(found, layer, rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_batch_mates(pictures):
    together = all_features(small(cache=False, batch_size=5), pictures)
    one_by_one = all_features(small(cache=False, batch_size=1), pictures)
    for a, b in zip(together, one_by_one):
        assert torch.equal(a, b)


def test_embeddings_join_layers_position_by_position(pictures):
    encoder = small(layers=(2, 3))
    (embeddings,) = encoder.embeddings(pictures)
    fine, coarse = all_features(encoder, pictures)
    h, w = encoder.grid_
    assert embeddings.shape == (5, h * w, sum(encoder.channels))
    row, column = 3, 5
    assert torch.equal(embeddings[:, row * w + column, : fine.shape[1]], fine[:, :, row, column])
    constant = join_layers([fine, torch.full_like(coarse, 7.0)])
    assert torch.equal(constant[:, :, fine.shape[1] :], torch.full((5, h * w, coarse.shape[1]), 7.0))


def test_cached_features_are_the_computed_ones_to_the_bit(pictures, tmp_path, monkeypatch):
    fresh = all_features(small(cache=False), pictures)
    first = all_features(small(), pictures)
    assert len(cache_files(tmp_path)) == 5 * 2
    again = small()
    monkeypatch.setattr(again, "_forward", lambda pictures: pytest.fail("computed again"))
    for a, b, c in zip(fresh, first, all_features(again, pictures)):
        assert torch.equal(a, b) and torch.equal(b, c)


def test_an_image_is_known_again_as_array_and_as_file(pictures, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path)
    from_files = all_features(small(), paths)
    count = len(cache_files(tmp_path))
    from_arrays = all_features(small(), pictures)
    assert len(cache_files(tmp_path)) == count
    assert all(torch.equal(a, b) for a, b in zip(from_files, from_arrays))


def test_the_cache_tells_weights_sizes_and_layers_apart(pictures, tmp_path):
    settings = [{}, {"image_size": 96}, {"weights": "random"}, {"weights": "random", "random_state": 1}]
    for i, changes in enumerate(settings, start=1):
        all_features(small(layers=(2,), **changes), pictures[:1])
        assert len(cache_files(tmp_path)) == i
    all_features(small(layers=(2, 3)), pictures[:1])  # only layer 3 is new
    assert len(cache_files(tmp_path)) == len(settings) + 1


@pytest.mark.parametrize("damage", [lambda raw: raw[:100], lambda raw: b"", lambda raw: raw[:-9] + b"x" + raw[-8:]])
def test_a_damaged_cache_file_is_computed_again(pictures, tmp_path, damage):
    expected = all_features(small(), pictures[:1])
    for path in cache_files(tmp_path):
        path.write_bytes(damage(path.read_bytes()))
    found = all_features(small(), pictures[:1])
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
    assert all(torch.equal(a, b) for a, b in zip(all_features(small(), pictures[:1]), expected))


def test_a_cache_that_cannot_be_written_is_done_without(pictures, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="MMAD_CACHE_HOME") as warned:
        all_features(small(), pictures[:1])
        found = all_features(small(), pictures[:1])
    assert len(warned) == 1
    assert torch.equal(found[0], all_features(small(cache=False), pictures[:1])[0])


def test_random_weights_follow_their_seed_and_leave_the_global_one_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, same, other = (small(weights="random", random_state=s).fingerprint for s in (1, 1, 2))
    assert torch.rand(1) == expected
    assert first == same != other


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("where", ["argument", "data_home"])
def test_weights_are_read_from_a_local_file(tmp_path, suffix, where):
    state = small(backbone=TINY, weights="random", random_state=3).network.state_dict()
    path = tmp_path / "data" / "backbones" / f"{TINY}{suffix}"
    path.parent.mkdir(parents=True)
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        safetensors.torch.save_file(state, path)
    found = small(backbone=TINY, weights=path if where == "argument" else None)
    assert found.fingerprint == small(backbone=TINY, weights="random", random_state=3).fingerprint


def test_without_a_network_the_error_comes_fast_and_says_what_to_put_where(tmp_path, monkeypatch):
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("mmad_utils.encoders.backbones.huggingface_hub.try_to_load_from_cache", lambda *_: None)
    start = time.monotonic()
    with pytest.raises(BackboneError, match=r"model\.safetensors .*backbones.resnet18\.safetensors.*weights="):
        ImageEncoder("resnet18")
    assert time.monotonic() - start < 30


def test_wrong_weights_files_are_refused(tmp_path):
    with pytest.raises(BackboneError, match="does not exist"):
        small(weights=tmp_path / "none.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    with pytest.raises(BackboneError, match="cannot be read"):
        small(weights=tmp_path / "broken.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(BackboneError, match="contains no state dict"):
        small(weights=tmp_path / "list.pth")
    other = small(backbone=TINY, weights="random").network.state_dict()
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match="not a state dict of 'efficientnet_lite0'"):
        small(weights=tmp_path / "other.safetensors")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code in a weights file was run",))


def test_code_in_a_weights_file_never_runs(tmp_path):
    torch.save({"conv_stem.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(BackboneError, match="cannot be read"):
        small(weights=tmp_path / "trap.pth")


def test_an_unknown_backbone_gets_the_nearest_name():
    with pytest.raises(BackboneError, match="wide_resnet50_2"):
        ImageEncoder("wide_resnet50")


@pytest.mark.parametrize("layers", [(), (0,), (5,), (3, 2), (2, 2)])
def test_impossible_layers_are_refused(layers):
    with pytest.raises(BackboneError, match=r"\[1, 2, 3, 4\]"):
        small(layers=layers)


def test_a_size_that_the_backbone_cannot_take_is_refused():
    with pytest.raises(BackboneError, match="trained at 160"):
        ImageEncoder("test_vit_relpos", layers=(3,), image_size=64, weights="random")


def test_transform_is_mean_and_maximum_of_each_layer(pictures):
    encoder = small()
    expected = np.concatenate(
        [pool for layer in all_features(encoder, pictures) for pool in (layer.mean((2, 3)), layer.amax((2, 3)))],
        axis=1,
    )
    found = encoder.fit(pictures).transform(pictures)
    assert found.dtype == np.float64 and found.shape == (5, 2 * sum(encoder.channels))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_shares_of_the_pixels_sum_to_the_linear_score(pictures, rng):
    encoder = small()
    features = encoder.transform(pictures)
    gradients, center = rng.normal(size=features.shape), features.mean(axis=0)
    shares = encoder.shares(pictures, gradients, center)
    assert shares.shape == (5, 64, 64)
    np.testing.assert_allclose(shares.sum((1, 2)), ((features - center) * gradients).sum(1), rtol=0.05, atol=0.5)


def test_a_saved_encoder_wants_the_weights_it_had(pictures):
    encoder = small(weights="random", random_state=1)
    state = encoder.get_state()
    again = object.__new__(ImageEncoder)
    again.set_state(state)
    np.testing.assert_array_equal(again.transform(pictures), encoder.transform(pictures))
    with pytest.raises(DetectorError, match="fitted with other weights"):
        again.set_state(state | {"fingerprint": "0" * 64})
