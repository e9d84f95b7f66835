"""Generated images: a severity from faint to plain, the layout of MVTec AD, the same bytes from a seed."""

import hashlib
import json

import numpy as np
import pytest
from skimage.io import imread

from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.synthetic import DEFECTS, write_category
from mmad_utils.datasets.synthetic import draw as photograph

EVERY_DEFECT = [(category, defect) for category, defects in DEFECTS.items() for defect in defects]


def draw(category, seed, size=128, defect=None, severity=1.0):
    return photograph(category, np.random.default_rng(seed), size, defect, severity)


def contents(folder):
    """Relative path -> sha256 of every file in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("category", DEFECTS)
@pytest.mark.parametrize("size", [64, 97, 256])
def test_a_sound_object_has_an_image_of_the_size_asked_for_and_an_empty_mask(category, size):
    image, mask = draw(category, 0, size)
    assert image.shape == (size, size, 3) and image.dtype == np.uint8
    assert mask.shape == (size, size) and mask.dtype == bool and not mask.any()


@pytest.mark.parametrize(("category", "defect"), EVERY_DEFECT)
@pytest.mark.parametrize("size", [64, 97])
def test_only_pixels_in_the_mask_differ_from_the_sound_object(category, defect, size):
    for seed in range(2):
        good, _ = draw(category, seed, size)
        for severity in (0.02, 1.0):
            bad, mask = draw(category, seed, size, defect, severity)
            assert mask.any()
            np.testing.assert_array_equal(bad[~mask], good[~mask])


@pytest.mark.parametrize(("category", "defect"), EVERY_DEFECT)
def test_most_pixels_in_the_mask_of_a_plain_defect_have_changed(category, defect):
    for seed in range(2):
        good, _ = draw(category, seed)
        bad, mask = draw(category, seed, defect=defect)
        assert (bad != good).any(axis=2)[mask].mean() > 0.9


@pytest.mark.parametrize(("category", "defect"), EVERY_DEFECT)
def test_the_damage_grows_with_severity(category, defect):
    seeds, severities = range(3), (0.05, 0.3, 1.0)
    change = np.empty((len(seeds), len(severities)))
    area = np.empty_like(change)
    for row, seed in enumerate(seeds):
        good, _ = draw(category, seed, 96)
        for column, severity in enumerate(severities):
            bad, mask = draw(category, seed, 96, defect, severity)
            change[row, column] = np.abs(bad.astype(float) - good).sum()
            area[row, column] = mask.sum()
    assert (np.diff(change, axis=1) > 0).all()
    assert (np.diff(area.mean(axis=0)) > 0).all()
    assert (change[:, -1] > 5 * change[:, 0]).all()


@pytest.mark.parametrize(("category", "defect"), EVERY_DEFECT)
def test_a_plain_defect_stands_out_and_covers_a_small_part_of_the_image(category, defect):
    for seed in range(2):
        good, _ = draw(category, seed)
        bad, mask = draw(category, seed, defect=defect)
        assert np.abs(bad.astype(float) - good).max(axis=2)[mask].mean() > 15
        assert 0.0005 < mask.mean() < 0.2


@pytest.mark.parametrize("category", DEFECTS)
def test_images_vary_from_seed_to_seed_and_repeat_with_the_seed(category):
    first, again, other = draw(category, 1)[0], draw(category, 1)[0], draw(category, 2)[0]
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(float) - other).mean() > 3


def test_the_hazelnut_is_brown_on_a_dark_ground_and_the_cap_moves_with_the_pose():
    pictures = [draw("hazelnut", seed)[0].astype(float) for seed in range(8)]
    for picture in pictures:
        red, green, blue = picture[56:72, 56:72].mean(axis=(0, 1))
        assert red > 1.2 * green > 1.2 * blue * 0.9
        assert picture[:10, :10].mean() < 60 < red
    outlines = np.stack([picture[..., 0] > 65 for picture in pictures])
    assert 0.15 < outlines.mean() < 0.45
    assert outlines.any(axis=0).sum() > 1.2 * outlines.all(axis=0).sum()


def test_the_outline_of_every_hazelnut_is_centred():
    for seed in range(3):
        outline = draw("hazelnut", seed, 64)[0][..., 0] > 50
        assert np.abs(np.argwhere(outline).mean(axis=0) / 63 - 0.5).max() < 0.05


def test_the_teeth_of_the_zipper_repeat_along_it():
    picture = draw("zipper", 3, 256)[0].mean(axis=2)
    profile = picture[:, 112:144].mean(axis=1)
    spectrum = np.abs(np.fft.rfft(profile - profile.mean()))
    assert 15 <= spectrum[5:60].argmax() + 5 <= 40  # 16 to 18 teeth a side, or both sides together


def test_noise_of_the_sensor_is_independent_from_pixel_to_pixel():
    picture = draw("hazelnut", 0, 256)[0][:24, :24].astype(float)
    across = np.diff(picture, axis=1)
    assert 0.5 < across.std() < 4


@pytest.fixture(scope="module", params=list(DEFECTS))
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / request.param
    write_category(folder, request.param, seed=5, n_train=3, n_test_good=2, n_test_bad=11, size=64)
    return request.param, folder


def test_a_category_is_written_in_the_layout_of_mvtec(written):
    category, folder = written
    assert sorted(path.name for path in folder.iterdir()) == [
        "ground_truth",
        "severity.json",
        "test",
        "train",
    ]
    assert len(list((folder / "train" / "good").glob("*.png"))) == 3
    assert len(list((folder / "test" / "good").glob("*.png"))) == 2
    assert {path.name for path in (folder / "test").iterdir()} == {"good", *DEFECTS[category]}
    bad = [path for path in sorted((folder / "test").rglob("*.png")) if path.parent.name != "good"]
    assert len(bad) == 11
    for path in bad:
        mask = imread(folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png")
        assert imread(path).shape == (64, 64, 3)
        assert mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}


FAINTEST = {"hazelnut": 0.4, "zipper": 0.0}


def test_severity_json_names_every_bad_image_with_a_severity_in_range(written):
    category, folder = written
    severities = json.loads((folder / "severity.json").read_text())
    bad = {
        str(p.relative_to(folder).as_posix()) for p in (folder / "test").glob("*/*.png") if p.parent.name != "good"
    }
    assert set(severities) == bad
    faintest = FAINTEST[category]
    assert all(faintest < severity <= 1 for severity in severities.values())
    assert max(severities.values()) - min(severities.values()) > (1 - faintest) / 2


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(written, tmp_path):
    category, folder = written
    sizes = {"n_train": 3, "n_test_good": 2, "n_test_bad": 11, "size": 64}
    write_category(tmp_path / "again", category, seed=5, **sizes)
    write_category(tmp_path / "other", category, seed=6, **sizes)
    assert contents(tmp_path / "again") == contents(folder)
    other = contents(tmp_path / "other")
    assert all(other[name] != digest for name, digest in contents(folder).items())


def test_an_image_does_not_depend_on_how_many_others_are_written(written, tmp_path):
    category, folder = written
    write_category(tmp_path / "more", category, seed=5, n_train=5, n_test_good=4, n_test_bad=11, size=64)
    expected, more = contents(folder), contents(tmp_path / "more")
    assert {name: more[name] for name in expected} == expected


def test_no_two_images_of_a_category_are_the_same(written):
    _, folder = written
    digests = [digest for name, digest in contents(folder).items() if "ground_truth" not in name]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("category", DEFECTS)
def test_an_unknown_defect_is_refused_with_the_known_ones(category):
    with pytest.raises(DatasetError, match=f"unknown defect 'rust' of {category}.*{DEFECTS[category][0]}"):
        draw(category, 0, defect="rust")


@pytest.mark.parametrize("severity", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_severity_outside_zero_to_one_is_refused(severity):
    with pytest.raises(DatasetError, match=r"severity is .* above 0 and at most 1"):
        draw("hazelnut", 0, defect="cut", severity=severity)


@pytest.mark.parametrize("category", DEFECTS)
def test_a_size_below_64_is_refused(category):
    with pytest.raises(DatasetError, match=r"size is 63 pixels\. Expected at least 64"):
        draw(category, 0, size=63)


def test_an_unknown_category_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(DatasetError, match=r"unknown category 'walnut'.*hazelnut, zipper"):
        write_category(tmp_path / "walnut", "walnut")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [{"n_train": 0}, {"n_test_good": 0}, {"n_test_bad": 3}, {"size": 32}])
def test_too_small_numbers_are_refused_and_nothing_is_written(numbers, tmp_path):
    with pytest.raises(DatasetError, match="at least"):
        write_category(tmp_path / "hazelnut", "hazelnut", **numbers)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DatasetError, match="exists already"):
        write_category(tmp_path, "zipper", n_train=1, n_test_good=1, n_test_bad=5, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_an_interrupted_run_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr("mmad_utils.datasets.synthetic.json.dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_category(tmp_path / "zipper", "zipper", n_train=1, n_test_good=1, n_test_bad=5, size=64)
    assert list(tmp_path.iterdir()) == []
