"""Reading pictures of every kind, refusing what is none; digits, MNIST and textures."""

import gzip
import io
import os
import struct
import subprocess
import zlib

import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from mmad_utils.datasets import DatasetError, check_images, load, read_image, textures
from mmad_utils.datasets.images import DIGIT_SIDE, SCENE_SIDE, read_idx, read_mask, scene
from mmad_utils.datasets.textures import SIDE, blend, crop, patch


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 256 * 16).astype(np.uint16).reshape(64, 64)
    expected = np.round(values / 257)[..., None].repeat(3, 2)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected)
    np.testing.assert_array_equal(read_image(values), expected)


def test_big_endian_sixteen_bits_are_read_alike(tmp_path):
    values = np.array([[0, 257 * 9], [257 * 200, 65535]], dtype=">u2")
    Image.frombytes("I;16B", (2, 2), values.tobytes()).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[:, :, 1].tolist() == [[0, 9], [200, 255]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (77, 0), (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("I", 257 * 40, (40, 40, 40)),
    ],
)
def test_every_mode_is_shown_as_a_viewer_shows_it(tmp_path, mode, colour, expected):
    path = tmp_path / "a.tif"
    Image.new(mode, (9, 8), colour).save(path)
    image = read_image(path)
    assert image.shape == (8, 9, 3) and image.dtype == np.uint8 and (image == expected).all()


def test_a_palette_keeps_its_colours_and_its_transparent_entry_is_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "opaque.png").tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert read_image(tmp_path / "clear.png").tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_a_photograph_taken_upright_is_shown_upright(tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = image.getexif()
    exif[0x0112] = 6  # rotate by 90°
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (20, 10, 3)


def test_arrays_of_every_kind_become_rgb(rng):
    grey = rng.integers(0, 256, (9, 8), dtype=np.uint8)
    expected = grey[..., None].repeat(3, 2)
    for array in (grey, grey[..., None], expected, grey / 255):
        np.testing.assert_array_equal(read_image(array), expected)
    assert read_image(np.eye(8, dtype=bool)).max() == 255


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.zeros((2, 2, 2), np.uint8),
        np.full((8, 8), 2.0),
        np.full((8, 8), np.nan),
        np.zeros((8, 8), int),
    ],
)
def test_arrays_of_another_range_shape_or_type_are_refused(array):
    with pytest.raises(DatasetError, match="image array"):
        read_image(array)


def test_floating_point_files_are_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DatasetError, match=r"a\.tif: floating-point pixels"):
        read_image(tmp_path / "a.tif")


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(DatasetError, match=r"notes\.png: not a readable image"):
        read_image(tmp_path / "notes.png")
    with pytest.raises(DatasetError, match=r"absent\.png: no such image"):
        read_image(tmp_path / "absent.png")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"]), st.floats(0, 0.9), st.integers(0, 2**32))
def test_a_truncated_image_is_refused_whatever_its_format(tmp_path, kind, share, seed):
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(buffer.getvalue()[: int(share * len(buffer.getvalue()))])
    with pytest.raises(DatasetError, match="not a readable image"):
        read_image(path)


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "GIF"]), st.integers(0, 2**32))
def test_damaged_bytes_give_an_image_or_the_one_error(tmp_path, kind, seed):
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for position in rng.integers(0, min(len(content), 200), 5):
        content[position] = rng.integers(256)
    path = tmp_path / "a.img"
    path.write_bytes(content)
    try:
        assert read_image(path).dtype == np.uint8
    except DatasetError as error:
        assert str(path) in str(error)


def write_png(path, width, height, bits=8, pixels=b""):
    """An RGB PNG by its specification; without ``pixels`` only the header is true."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    header = struct.pack(">2I5B", width, height, bits, 2, 0, 0, 0)
    with path.open("ab") as file:
        for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")):
            checksum = struct.pack(">I", zlib.crc32(name + content))
            file.write(struct.pack(">I", len(content)) + name + content + checksum)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "found"), [(10_000, "10000×10000 pixels"), (60_000, "more pixels than Pillow")])
def test_the_size_is_checked_by_the_header_before_pixels_are_decoded(tmp_path, width, found):
    write_png(tmp_path / "a.png", width, width)
    for read in (read_image, read_mask, lambda path: check_images([path])):
        with pytest.raises(DatasetError, match=rf"a\.png: {found}.*at most 40,000,000 are decoded"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["pipe", "folder", "/dev/zero"])
def test_what_is_no_regular_file_is_refused_before_it_is_opened(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for read in (read_image, read_mask, lambda path: check_images([path])):
        with pytest.raises(DatasetError, match=r"a named pipe|a folder|a device"):
            read(tmp_path / name)


def test_postscript_and_other_formats_that_start_programs_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("another program was started"))
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(DatasetError, match="not a readable image"):
        read_image(tmp_path / "a.png")


def test_the_first_image_of_a_photograph_in_several_is_read(tmp_path):
    image = Image.new("RGB", (20, 10), (9, 9, 9))
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (20, 10))])
    assert read_image(tmp_path / "a.jpg").shape == (10, 20, 3)


MARKED = np.zeros((10, 12), bool)
MARKED[2:5, 3:9] = True


@pytest.mark.parametrize(
    ("kind", "dtype", "value"),
    [
        ("png", "u1", 1), ("png", "u1", 255), ("png", "u1", 7), ("bmp", "u1", 2), ("tif", "u1", 3),
        ("gif", "u1", 200), ("png", "?", True), ("png", "u2", 1), ("png", "u2", 65535), ("tif", "u2", 3),
        ("tif", "i4", 5), ("tif", "f4", 0.1), ("pgm", "u1", 1), ("pgm", "u2", 1), ("png", "u1", (0, 255, 0)),
        ("png", "u1", (0, 0, 1)), ("bmp", "u1", (1, 0, 0)), ("png", "u1", (0, 1, 0, 0)),
        ("png", "u1", (9, 9, 9, 255)), ("png", "u1", (1, 0)), ("png", "u1", (5, 255)),
    ],
)  # fmt: skip
def test_every_pixel_of_a_mask_that_is_not_zero_is_a_defect(tmp_path, kind, dtype, value):
    values = np.multiply.outer(MARKED, np.asarray(value)).astype(dtype)
    Image.fromarray(values).save(tmp_path / f"m.{kind}")
    np.testing.assert_array_equal(read_mask(tmp_path / f"m.{kind}"), MARKED)


def test_the_opacity_of_a_mask_says_nothing(tmp_path):
    opaque = np.dstack([*[MARKED * np.uint8(9)] * 3, np.full(MARKED.shape, 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MARKED)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 3)])
def test_a_mask_with_a_palette_is_read_by_its_colours(tmp_path, colour):
    image = Image.fromarray(MARKED.astype(np.uint8))
    image.putpalette([0, 0, 0, *colour])
    image.save(tmp_path / "m.png")
    assert Image.open(tmp_path / "m.png").mode == "P"
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MARKED)


def test_masks_whose_zeros_would_not_be_kept_are_refused(tmp_path):
    Image.fromarray(MARKED.astype(np.uint8)).save(tmp_path / "m.jpg")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    values = np.zeros((9, 9, 3), ">u2")
    values[3, 3] = 1
    rows = b"".join(b"\0" + row.tobytes() for row in values)  # each begins with the filter, none
    write_png(tmp_path / "deep.png", 9, 9, bits=16, pixels=rows)
    for name, message in (("m.jpg", "a mask in JPEG"), ("nan.tif", "not finite"), ("deep.png", "16 bits per colour")):
        with pytest.raises(DatasetError, match=message):
            read_mask(tmp_path / name)
    assert read_image(tmp_path / "deep.png").shape == (9, 9, 3)


def test_many_images_are_checked_and_the_first_bad_one_is_named(tmp_path):
    paths = [tmp_path / f"{i:02d}.png" for i in range(40)]
    for i, path in enumerate(paths):
        Image.new("RGB", (10 + i, 9)).save(path)
    assert check_images(paths) == [(9, 10 + i) for i in range(40)]
    Image.new("RGB", (1, 1)).save(paths[17])
    paths[30].write_bytes(paths[30].read_bytes()[:40])
    with pytest.raises(DatasetError, match=r"17\.png: 1×1 pixels; an image needs at least 8"):
        check_images(paths)


def _write_idx(folder, part, pictures, digits, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix else bytes
    head = struct.pack(">4i", 0x803, *pictures.shape)
    (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(head + pictures.tobytes()))
    head = struct.pack(">2i", 0x801, len(digits))
    (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(head + digits.tobytes()))


@pytest.fixture
def mnist(rng):
    digits = np.repeat(np.arange(10, dtype=np.uint8), 4)
    return rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), digits


@pytest.mark.parametrize(("folder", "suffix"), [("mnist", ".gz"), ("MNIST/raw", ""), ("MNIST/raw", ".gz")])
def test_the_t10k_pair_alone_is_split_one_class(tmp_path, mnist, folder, suffix):
    pictures, digits = mnist
    _write_idx(tmp_path / folder, "t10k", pictures, digits, suffix)
    dataset = load("mnist/7", data_home=tmp_path)
    assert dataset.X_train.shape == (2, 28, 28, 1) and len(dataset.X_test) == 38 and dataset.y_test.sum() == 36
    sevens = {picture.tobytes() for picture in pictures[digits == 7]}
    assert {picture.tobytes() for picture in dataset.X_train} <= sevens


def test_all_four_mnist_files_keep_their_split_for_seed_zero(tmp_path, mnist):
    pictures, digits = mnist
    _write_idx(tmp_path / "mnist", "t10k", pictures, digits)
    _write_idx(tmp_path / "mnist", "train", pictures[::-1], digits[::-1])
    dataset = load("mnist/7", data_home=tmp_path)
    np.testing.assert_array_equal(dataset.X_test[..., 0], pictures)
    assert len(dataset.X_train) == 4 and len(load("mnist/7", data_home=tmp_path, seed=1).X_train) == 4


@pytest.mark.parametrize("damage", [lambda b: b[:30], lambda b: b"garbage", lambda b: gzip.compress(b"\0" * 40)])
def test_damaged_idx_files_are_refused_by_name(tmp_path, mnist, damage):
    _write_idx(tmp_path / "mnist", "t10k", *mnist)
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"t10k-images-idx3-ubyte\.gz: a damaged (idx )?file"):
        load("mnist/7", data_home=tmp_path)


@pytest.mark.parametrize(
    ("shape", "length", "message"),
    [
        ((60_000, 300, 300), 10, "5,400,000,000 numbers; at most 50,000,000"),
        ((2**32 - 1,) * 3, 10, "numbers; at most"),
        ((0, 28, 28), 0, r"an array \(0, 28, 28\); expected square images"),
        ((4, 28, 14), 4 * 28 * 14, r"an array \(4, 28, 14\); expected square images"),
        ((4, 28, 28), 4 * 28 * 28 - 1, r"3,135 bytes for an array \(4, 28, 28\)"),
        ((4, 28, 28), 4 * 28 * 28 + 1, "more bytes for an array"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_header_of_an_idx_file_is_checked_before_it_is_read(tmp_path, shape, length, message, suffix):
    content = struct.pack(">4I", 0x803, *shape) + bytes(length)
    path = tmp_path / f"idx{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DatasetError, match=message):
        read_idx(path, 3)


def test_images_without_their_labels_are_not_enough(tmp_path, mnist):
    _write_idx(tmp_path / "mnist", "t10k", *mnist)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetError, match=r"t10k-labels-idx1-ubyte\.gz: not there"):
        load("mnist/7", data_home=tmp_path)


def test_a_patch_changes_only_the_pixels_under_its_mask_and_most_of_those(rng):
    for _ in range(20):
        piece, foreign = rng.integers(60, 200, (2, SIDE, SIDE), dtype=np.uint8)
        blended, mask = blend(piece, foreign, rng)
        assert (blended == piece)[~mask].all() and (blended != piece)[mask].mean() > 0.9
        assert 100 < mask.sum() < 0.4 * SIDE**2
        assert abs(blended[mask].mean() - piece[mask].mean()) < 5


def test_patches_vary_in_size_and_fade_at_their_edge(rng):
    areas = [patch(rng) for _ in range(40)]
    covered = [(opacity > 0).sum() for opacity in areas]
    assert max(covered) > 8 * min(covered)
    assert all(((opacity > 0) & (opacity < 1)).any() for opacity in areas)


@pytest.mark.parametrize("name", ["brick", "grass", "gravel"])
def test_textures_are_crops_of_the_real_photograph_with_exact_masks(name, monkeypatch):
    import pooch
    import skimage.data

    monkeypatch.setattr(pooch.Pooch, "fetch", lambda *_, **__: pytest.fail("a download"))
    dataset = load(f"textures/{name}")
    assert dataset.X_train.shape == (60, SIDE, SIDE, 3) and dataset.masks_test.shape == (80, SIDE, SIDE)
    assert (dataset.masks_test.any((1, 2)) == dataset.y_test).all() and dataset.y_test.sum() == 40
    assert set(dataset.source["kinds_test"]) == {"good", "brick", "grass", "gravel"} - {name}
    photograph = getattr(skimage.data, name)()
    assert abs(dataset.X_train.mean() - photograph.mean()) < 12
    assert load(f"textures/{name}").source["sha256"] == dataset.source["sha256"]
    assert load(f"textures/{name}", seed=1).source["sha256"] != dataset.source["sha256"]


def test_train_and_test_crops_of_a_texture_share_no_pixel(monkeypatch):
    import skimage.data

    columns = np.arange(512 * 512).reshape(512, 512)
    monkeypatch.setattr(skimage.data, "brick", lambda: columns)
    halves = []
    monkeypatch.setattr(textures, "crop", lambda half, rng: halves.append(half) or crop(half % 2, rng))
    load("textures/brick")
    train, test = halves[:60], halves[60:140]
    assert not set(train[0].ravel()) & set(test[0].ravel())
    assert all((half == train[0]).all() for half in train) and all((half == test[0]).all() for half in test)


def test_an_unknown_texture_is_refused_with_the_three_that_there_are():
    with pytest.raises(DatasetError, match="expected one of brick, grass, gravel"):
        load("textures/brik")


def test_every_digit_is_laid_once_and_the_given_one_is_normal():
    dataset, target = load("digit_scenes/3"), load_digits().target
    assert (
        dataset.X_train.shape == ((target == 3).sum() // 2, SCENE_SIDE, SCENE_SIDE, 1)
        and dataset.X_train.dtype == np.uint8
    )
    assert len(dataset.X_train) + len(dataset.X_test) == len(target)
    kinds = np.array(dataset.source["kinds_test"])
    assert ((kinds == "3") == (dataset.y_test == 0)).all()


def test_the_same_seed_gives_the_same_scenes_another_seed_others_and_the_normal_class_changes_no_pixel():
    first, again, other, four = (load(f"digit_scenes/{k}", seed=seed) for k, seed in ((3, 0), (3, 0), (3, 1), (4, 0)))
    assert first.source["sha256"] == again.source["sha256"] != other.source["sha256"]
    pools = [{x.tobytes() for x in np.concatenate([d.X_train, d.X_test])} for d in (first, four)]
    assert pools[0] == pools[1]


def test_an_empty_page_leaves_a_piece_of_the_photograph_as_it_is(rng):
    photograph = skimage.data.brick()
    ground = scene(np.zeros((8, 8)), photograph, rng)
    pieces = np.lib.stride_tricks.sliding_window_view(photograph, (SCENE_SIDE, SCENE_SIDE))
    assert (pieces == ground).all((2, 3)).any()


def test_full_ink_is_a_white_square_of_24_pixels_at_every_place_in_turn(rng):
    black = np.zeros((64, 64), np.uint8)
    places = set()
    for _ in range(600):
        rows, columns = np.nonzero(scene(np.ones((8, 8)), black, rng) == 255)
        assert len(rows) == DIGIT_SIDE**2 and np.ptp(rows) == np.ptp(columns) == DIGIT_SIDE - 1
        places.add((rows.min(), columns.min()))
    assert {row for row, _ in places} == {column for _, column in places} == set(range(SCENE_SIDE - DIGIT_SIDE + 1))


@pytest.mark.parametrize("name", ["digit_scenes/x", "digit_scenes/12"])
def test_a_name_that_is_no_digit_is_refused(name):
    with pytest.raises(DatasetError, match="expected one digit, digit_scenes/0 to digit_scenes/9"):
        load(name)


def test_mnist_images_with_another_number_of_labels_are_refused(tmp_path, mnist):
    pictures, digits = mnist
    _write_idx(tmp_path / "mnist", "t10k", pictures, digits[:-1])
    with pytest.raises(DatasetError, match="40 t10k images but 39 labels"):
        load("mnist/7", data_home=tmp_path)
