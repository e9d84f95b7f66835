"""MVTec's layout, the course's layout, and the generated categories."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from mmad_utils.datasets import DatasetError, load, mvtec, synthetic


def _picture(path, size=(16, 12), colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour or (len(path.stem), 5, 6)).save(path)


def _mask(path, size=(16, 12), box=(2, 3, 5, 7)):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size)
    mask.paste(255, box)
    mask.save(path)


@pytest.fixture
def category(tmp_path):
    """MVTec's layout: 4 pictures to train, 3 good, 2 cracked and 1 cut one to test."""
    root = tmp_path / "mvtec" / "nut"
    for i in range(4):
        _picture(root / "train" / "good" / f"{i:03d}.png", colour=(i, 0, 0))
    for kind, count in (("good", 3), ("crack", 2), ("cut", 1)):
        for i in range(count):
            _picture(root / "test" / kind / f"{i:03d}.png", colour=(i, len(kind), 1))
            if kind != "good":
                _mask(root / "ground_truth" / kind / f"{i:03d}_mask.png")
    return root


@pytest.fixture
def course(tmp_path):
    """The course's layout: flat test folder and a file of labels."""
    root = tmp_path / "mvtec" / "hazelnut"
    for i in range(4):
        _picture(root / "train" / "good" / f"{i}.png", colour=(i, 0, 0))
    labels = {}
    for i, label in enumerate(["good", "bad", "good", "bad"]):
        _picture(root / "test" / f"{i}.png", colour=(i, 9, 9))
        labels[f"hazelnut/test/{i}.png"] = {"label": label, "original_category": "hazelnut"}
    (root / "image_anomaly_labels.json").write_text(json.dumps(labels))
    return root


def _load(root, **options):
    return load(f"mvtec/{root.name}", data_home=root.parent.parent, **options)


def test_the_mvtec_layout_gives_paths_kinds_and_masks(category):
    dataset = _load(category)
    assert [path.parent.name for path in dataset.X_test] == list(dataset.source["kinds_test"])
    assert dataset.source["kinds_test"] == ("crack", "crack", "cut", "good", "good", "good")
    assert dataset.y_test.tolist() == [1, 1, 1, 0, 0, 0] and len(dataset.X_train) == 4
    assert dataset.masks_test.shape == (6, 12, 16) and dataset.masks_test.dtype == bool
    assert dataset.masks_test.sum((1, 2)).tolist() == [12, 12, 12, 0, 0, 0]
    assert dataset.masks_test[0, 3:7, 2:5].all()


def test_another_seed_redraws_the_normals_and_keeps_anomalies_and_masks(category):
    first, second = _load(category), _load(category, seed=3)
    assert set(first.X_train) != set(second.X_train) and len(second.X_train) == 4
    assert {*first.X_train, *first.X_test} == {*second.X_train, *second.X_test}
    assert first.X_test[:3] == second.X_test[:3] and (first.masks_test == second.masks_test).all()


def test_a_category_without_ground_truth_has_no_masks(category):
    for path in sorted((category / "ground_truth").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (category / "ground_truth").rmdir()
    assert _load(category).masks_test is None


def test_masks_of_zero_and_one_are_read_like_those_of_zero_and_255(category):
    Image.fromarray(np.eye(12, 16, dtype=np.uint8)).save(category / "ground_truth" / "cut" / "000_mask.png")
    np.testing.assert_array_equal(_load(category).masks_test[2], np.eye(12, 16, dtype=bool))


def test_hidden_and_other_files_are_passed_over(category):
    (category / "train" / "good" / "._000.png").write_text("resource fork")
    (category / "train" / "good" / "notes.txt").write_text("notes")
    assert len(_load(category).X_train) == 4


def test_the_course_layout_takes_labels_from_the_file(course):
    dataset = _load(course)
    assert dataset.y_test.tolist() == [0, 1, 0, 1] and dataset.source["kinds_test"] == ("good", "bad") * 2
    assert dataset.masks_test is None and [path.name for path in dataset.X_test] == [f"{i}.png" for i in range(4)]


def test_one_labels_file_may_speak_of_several_categories(course):
    labels = json.loads((course / "image_anomaly_labels.json").read_text())
    labels["zipper/test/0.png"] = {"label": "bad", "original_category": "zipper"}
    (course / "image_anomaly_labels.json").unlink()
    (course.parent / "image_anomaly_labels.json").write_text(json.dumps(labels))
    assert _load(course).y_test.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("folder", ["ground_truth", "ground_truth/bad"])
def test_the_course_layout_may_have_masks(course, folder):
    for i in (1, 3):
        _mask(course / folder / f"{i}_mask.png")
    assert _load(course).masks_test.any((1, 2)).tolist() == [False, True, False, True]


def test_labelled_training_anomalies_stay_out_of_the_training_set(course):
    _picture(course / "train" / "bad" / "x.png")
    dataset = _load(course)
    assert dataset.source["anomalies_train"] == (course / "train" / "bad" / "x.png",)
    assert all(path.parent.name == "good" for path in dataset.X_train)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hazelnut/test/9.png": {"label": "bad"}}, r"entry 'hazelnut/test/9\.png': no such file"),
        ({"hazelnut/train/" + "a" * 999: {"label": "bad"}}, "no such file"),
        ({"hazelnut/train/\0": {"label": "bad"}}, "no such file"),
        ({"zipper/test/9.png": {"label": "bad"}}, r"entry 'zipper/test/9\.png': no such file"),
        ({"hazelnut/test/1.png": {"label": "broken"}}, r"entry 'hazelnut/test/1\.png': label 'broken'"),
        ({"hazelnut/test/1.png": None}, "expected"),
        ({"hazelnut/test/1.png": {}}, "expected"),
    ],
)
def test_a_labels_file_that_names_what_is_not_is_refused(course, change, message):
    path = course / "image_anomaly_labels.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=message) as caught:
        _load(course)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", '"x"', "[" * 100_000])
def test_a_labels_file_of_another_form_is_refused(course, text):
    (course / "image_anomaly_labels.json").write_text(text)
    with pytest.raises(DatasetError, match=r'expected \{"hazelnut/test/x\.png"'):
        _load(course)


def test_an_image_without_label_is_refused(course):
    _picture(course / "test" / "new.png")
    with pytest.raises(DatasetError, match=r"no entry 'hazelnut/test/new\.png', but the file is there"):
        _load(course)


def test_a_flat_test_folder_needs_its_labels(course):
    (course / "image_anomaly_labels.json").unlink()
    with pytest.raises(DatasetError, match=r"image_anomaly_labels\.json: not there(.|\n)*Expected below"):
        _load(course)


def test_a_missing_category_lists_what_there_is_and_what_is_expected(category):
    with pytest.raises(DatasetError) as caught:
        load("mvtec/bottle", data_home=category.parent.parent)
    message = str(caught.value)
    assert "holds: nut" in message and "mvtec/bottle/train/good/*.png" in message and "fetch mvtec/bottle" in message


def test_a_missing_data_folder_lists_what_is_expected(tmp_path):
    with pytest.raises(DatasetError, match=r"not there(.|\n)*MMAD_DATA_HOME(.|\n)*mvtec/nut/train/good"):
        load("mvtec/nut", data_home=tmp_path / "nowhere" / "at" / "all")


@pytest.mark.parametrize("part", ["train/good", "test/good", "test"])
def test_an_empty_category_is_refused(category, part):
    for path in (category / part).rglob("*.png"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no image there|only anomalies"):
        _load(category)


@pytest.mark.parametrize("part", ["train/good/002.png", "test/crack/001.png", "ground_truth/cut/000_mask.png"])
@pytest.mark.parametrize("damage", ["truncated", "text", "tiny"])
def test_a_bad_image_is_named_wherever_it_lies(category, part, damage):
    path = category / part
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "text":
        path.write_text("hello")
    else:
        _picture(path, size=(1, 1))
    with pytest.raises(DatasetError) as caught:
        _load(category)
    assert str(path) in str(caught.value)


def test_a_mask_of_another_size_than_its_image_is_refused(category):
    _mask(category / "ground_truth" / "crack" / "001_mask.png", size=(12, 16))
    with pytest.raises(DatasetError, match=r"001_mask\.png: the mask has 12×16 pixels, its image .* has 16×12"):
        _load(category)


def test_a_missing_mask_is_named(category):
    (category / "ground_truth" / "crack" / "000_mask.png").unlink()
    with pytest.raises(DatasetError, match=r"crack/000_mask\.png: no mask for .*crack/000\.png"):
        _load(category)


def test_test_images_of_several_sizes_cannot_have_masks(category):
    _picture(category / "test" / "good" / "001.png", size=(20, 20))
    with pytest.raises(DatasetError, match=r"good/001\.png: 20×20 pixels.*must all be of one size"):
        _load(category)


@pytest.mark.parametrize(("colour", "message"), [(0, "is empty"), (255, "covers the whole image")])
def test_a_mask_that_marks_nothing_or_everything_is_refused(category, colour, message):
    Image.new("L", (16, 12), colour).save(category / "ground_truth" / "cut" / "000_mask.png")
    with pytest.raises(DatasetError, match=rf"cut/000_mask\.png: the mask {message}.*cut/000\.png is anomalous"):
        _load(category)


def test_the_layout_of_btad_is_read_with_masks_called_like_their_images(category):
    for part in ("train", "test"):
        (category / part / "good").rename(category / part / "ok")
    (category / "test" / "crack").rename(category / "test" / "ko")
    (category / "ground_truth" / "crack").rename(category / "ground_truth" / "ko")
    for i in range(2):
        folder = category / "ground_truth" / "ko"
        Image.open(folder / f"{i:03d}_mask.png").save(folder / f"{i:03d}.bmp")
        (folder / f"{i:03d}_mask.png").unlink()
    dataset = _load(category)
    assert dataset.source["kinds_test"] == ("cut", "ko", "ko", "good", "good", "good") and len(dataset.X_train) == 4
    assert dataset.masks_test.sum((1, 2)).tolist() == [12, 12, 12, 0, 0, 0]


def test_two_layouts_in_one_category_are_refused(course):
    _picture(course / "test" / "crack" / "9.png")
    with pytest.raises(DatasetError, match="can be read in two ways"):
        _load(course)


@pytest.mark.parametrize("part", ["train/good/x.png", "test/crack/x.png", "ground_truth/cut/000_mask.png"])
def test_a_link_out_of_the_category_is_refused(category, tmp_path, part):
    _picture(tmp_path / "outside.png")
    (category / part).unlink(missing_ok=True)
    (category / part).symlink_to(tmp_path / "outside.png")
    with pytest.raises(DatasetError, match=r"a link that leaves .*nut"):
        _load(category)


def test_a_category_may_itself_be_a_link(category, tmp_path):
    (tmp_path / "mvtec" / "again").symlink_to(category)
    assert len(_load(tmp_path / "mvtec" / "again").X_train) == 4


def test_a_named_pipe_in_a_category_is_refused(category):
    os.mkfifo(category / "train" / "good" / "pipe.png")
    with pytest.raises(DatasetError, match=r"pipe\.png: a named pipe"):
        _load(category)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", "[1]", '{"test/cut/000.png": "much"}', '{"test/cut/000.png": [1]}']
)
def test_damaged_severities_are_refused(category, text):
    (category / "severity.json").write_text(text)
    with pytest.raises(DatasetError, match=r"severity\.json: expected"):
        _load(category)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated") / "mvtec" / "made"
    mvtec.generate("hazelnut", folder, seed=1, n_train=3, n_test=10, size=64)
    return folder


def test_a_generated_category_is_read_like_mvtec_with_severities(generated):
    dataset = _load(generated)
    assert len(dataset.X_train) == 3 and len(dataset.X_test) == 10 and dataset.y_test.sum() == 6
    assert set(dataset.source["kinds_test"]) == {"good", "crack", "cut", "hole", "print"}
    severity = np.array(dataset.source["severity_test"])
    assert ((severity > 0) == (dataset.y_test == 1)).all() and severity.max() <= 1
    assert (dataset.masks_test.any((1, 2)) == (dataset.y_test == 1)).all()


def test_synthetic_images_are_made_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path))
    small = {"size": 64, "n_train": 2, "n_test": 10}
    first = mvtec.synthetic("zipper", 1, **small)
    monkeypatch.setattr(synthetic, "write_category", lambda *_, **__: pytest.fail("made again"))
    again = mvtec.synthetic("zipper", 1, **small)
    assert again.source["sha256"] == first.source["sha256"] and again.source["synthetic"]
    assert all(tmp_path in path.parents for path in first.X_train)


def test_a_full_disk_while_generating_is_one_clear_error(monkeypatch, tmp_path):
    import errno

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DatasetError, match=r"no space left on the disk(.|\n)*MMAD_CACHE_HOME"):
        mvtec.generate("hazelnut", tmp_path / "out", n_train=1, n_test=10, size=64)
    assert not list(tmp_path.iterdir())


def test_images_are_not_drawn_for_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(synthetic, "draw", lambda *_, **__: pytest.fail("drawn"))
    with pytest.raises(DatasetError, match=r"cannot be written(.|\n)*MMAD_CACHE_HOME"):
        load("synthetic/hazelnut")


def test_a_category_that_cannot_be_generated_is_refused():
    with pytest.raises(DatasetError, match="hazelnut, zipper"):
        load("synthetic/walnut")


@pytest.fixture
def visa(tmp_path):
    """VisA's layout: 2 images to train, 1 normal and 1 anomalous one to test."""
    root = tmp_path / "visa" / "nut"
    for i in range(3):
        _picture(root / "Data" / "Images" / "Normal" / f"{i}.JPG", colour=(i, 0, 0))
    _picture(root / "Data" / "Images" / "Anomaly" / "0.JPG", colour=(9, 9, 9))
    _mask(root / "Data" / "Masks" / "Anomaly" / "0.png")
    (root.parent / "split_csv").mkdir()
    rows = ["object,split,label,image,mask", *(f"nut,train,normal,nut/Data/Images/Normal/{i}.JPG," for i in (0, 1))]
    rows += ["nut,test,normal,nut/Data/Images/Normal/2.JPG,"]
    rows += ["nut,test,anomaly,nut/Data/Images/Anomaly/0.JPG,nut/Data/Masks/Anomaly/0.png", "bolt,train,normal,gone,"]
    (root.parent / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    return root


def _load_visa(root, **options):
    return load("visa/nut", data_home=root.parent.parent, **options)


def test_visa_is_split_as_its_table_says(visa):
    dataset = _load_visa(visa)
    assert [path.name for path in dataset.X_train] == ["0.JPG", "1.JPG"] and dataset.y_test.tolist() == [0, 1]
    assert dataset.masks_test.sum(axis=(1, 2)).tolist() == [0, 12]
    assert {path.name for path in _load_visa(visa, seed=1).X_train} <= {"0.JPG", "1.JPG", "2.JPG"}


def test_visa_with_test_images_of_several_sizes_has_no_masks(visa):
    _picture(visa / "Data" / "Images" / "Normal" / "2.JPG", size=(20, 12))
    assert _load_visa(visa).masks_test is None


def test_visa_that_was_sorted_into_train_and_test_is_read_like_mvtec(visa, category):
    visa.rename(visa.with_name("raw"))
    category.rename(visa)
    assert len(_load_visa(visa).X_train) == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("object,split", "object,part", "expected the columns object,split,label,image,mask"),
        ("nut,train,normal", "nut,training,normal", "row 2 reads 'nut,training"),
        ("nut/Data/Images/Normal/0.JPG", "", "row 2 names no image"),
        ("nut/Data/Images/Normal/0.JPG", "nut/gone.JPG", "row 2: .*gone.JPG does not exist"),
        ("nut/Data/Images/Normal/0.JPG", "../secret.png", "leaves"),
        (",nut/Data/Masks/Anomaly/0.png", ",", "row 5: only anomalies have a mask"),
        ("nut,test,anomaly", "nut,train,anomaly", "row 5: only anomalies have a mask"),
        ("nut,", "nuts,", "no row of the object 'nut'"),
    ],
)
def test_a_table_of_the_split_that_does_not_fit_is_refused(visa, old, new, message):
    path = visa.parent / "split_csv" / "1cls.csv"
    _picture(visa.parent.parent / "secret.png")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=message):
        _load_visa(visa)


def test_visa_without_its_table_says_what_belongs_where(visa):
    (visa.parent / "split_csv" / "1cls.csv").unlink()
    with pytest.raises(DatasetError, match=r"1cls\.csv: not there(.|\n)*fetch visa/nut"):
        _load_visa(visa)


def test_two_folders_of_normal_images_are_refused(category):
    _picture(category / "train" / "ok" / "000.png")
    with pytest.raises(DatasetError, match=r"two folders of normal images, good and ok\. Keep one"):
        _load(category)
