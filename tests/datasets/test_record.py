"""The record itself: splits, checks, hashes, names."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from mmad_utils.datasets import Dataset, DatasetError, concrete_names, load, names, one_class_split, record
from mmad_utils.datasets.folders import cache_home, data_home
from mmad_utils.datasets.record import ENTRY_KEYS, content_hash, manifest


@settings(max_examples=40)
@given(st.lists(st.sampled_from([0, 1]), min_size=2, max_size=60), st.integers(0, 2**32))
def test_half_of_the_normals_train_and_everything_else_is_tested(labels, seed):
    y = np.array(labels)
    train, test = one_class_split(y, seed)
    assert not y[train].any() and len(train) == (y == 0).sum() // 2
    assert sorted([*train, *test]) == list(range(len(y)))


def test_breast_cancer_splits_the_benign_samples_and_keeps_all_malignant_ones_for_testing():
    dataset, reference = load("breast_cancer"), load_breast_cancer()
    assert dataset.X_train.shape == (178, 30) and dataset.y_test.sum() == (reference.target == 0).sum() == 212
    rows = {row.tobytes() for row in np.concatenate([dataset.X_train, dataset.X_test])}
    assert rows == {row.tobytes() for row in reference.data}
    assert dataset.feature_names == tuple(reference.feature_names)
    assert dataset.source["kinds_test"] == tuple("malignant" if label else "benign" for label in dataset.y_test)


def test_digits_are_real_images_with_one_class_normal():
    dataset, reference = load("digits/3"), load_digits()
    assert dataset.X_train.dtype == np.uint8 and dataset.X_train.shape[1:] == (8, 8, 1)
    assert len(dataset.X_train) == (reference.target == 3).sum() // 2
    threes = {
        np.round(image * 255 / 16).astype(np.uint8).tobytes() for image in reference.images[reference.target == 3]
    }
    assert {image.tobytes() for image in dataset.X_train} <= threes
    kinds = np.array(dataset.source["kinds_test"])
    assert ((kinds == "3") == (dataset.y_test == 0)).all()


def test_the_same_seed_gives_the_same_content_and_another_seed_another():
    first, again, other = (load("breast_cancer", seed=seed).source["sha256"] for seed in (0, 0, 1))
    assert first == again != other


@settings(max_examples=40)
@given(st.integers(0, 1000))
def test_resplit_redraws_normals_into_the_same_sizes_and_leaves_anomalies_in_place(seed):
    dataset = load("breast_cancer")
    again = dataset.resplit(seed)
    assert again.X_train.shape == dataset.X_train.shape and (again.y_test == dataset.y_test).all()
    anomalies = dataset.y_test == 1
    assert (again.X_test[anomalies] == dataset.X_test[anomalies]).all()

    def pool(d):
        return sorted(row.tobytes() for row in np.concatenate([d.X_train, d.X_test[~anomalies]]))

    assert pool(again) == pool(dataset)


def test_resplit_changes_the_split_and_the_hash_but_never_the_original():
    dataset = load("breast_cancer")
    before = dataset.source["sha256"]
    assert dataset.resplit(5).source["sha256"] != before
    assert dataset.source["sha256"] == before == content_hash(dataset.X_train, dataset.X_test, dataset.y_test, None)


@pytest.mark.parametrize("name", ["digits/3", "paired_digits", "injected/local/breast_cancer"])
def test_the_halves_of_the_anomalies_are_disjoint_and_together_all_of_them(name):
    dataset = load(name)
    parts = {part: dataset.half(part) for part in ("select", "report")}

    def anomalies(part):
        X = part.X_test if isinstance(part.X_test, dict) else {"": part.X_test}
        return [b"".join(x[i].tobytes() for x in X.values()) for i in np.flatnonzero(part.y_test)]

    assert sorted(anomalies(parts["select"]) + anomalies(parts["report"])) == sorted(anomalies(dataset))
    assert abs(parts["select"].y_test.sum() - parts["report"].y_test.sum()) <= 1
    for part in parts.values():
        assert (part.y_test == 0).sum() == (dataset.y_test == 0).sum()
        kinds = np.array(part.source["kinds_test"])
        for kind in set(kinds[part.y_test == 1]):
            whole = np.array(dataset.source["kinds_test"]) == kind
            assert abs((kinds == kind).sum() - whole.sum() / 2) <= 1


def test_the_halves_are_the_same_for_every_split():
    rows = [load("digits/3", seed=seed).resplit(seed, anomalies="report") for seed in (0, 7)]
    first, second = (split.X_test[split.y_test == 1] for split in rows)
    assert np.array_equal(first, second) and not np.array_equal(rows[0].X_train, rows[1].X_train)


def test_a_half_that_does_not_exist_is_refused():
    with pytest.raises(DatasetError, match="give 'select', 'report' or 'all'"):
        load("digits/3").resplit(0, anomalies="test")
    single = Dataset("x", "tabular", np.zeros((2, 1)), np.zeros((2, 1)), np.array([0, 1]))
    with pytest.raises(DatasetError, match="x has one anomaly"):
        single.half("select")


def test_images_become_a_table_of_pixels_between_zero_and_one():
    dataset = load("digits/0")
    table = dataset.as_table()
    assert table.modality == "tabular" and table.X_train.shape[1] == 64 == len(table.feature_names)
    assert (table.X_test == dataset.X_test.reshape(len(dataset.X_test), -1) / 255).all()
    assert table.as_table() is table


def test_files_do_not_become_a_table(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (9, 9)).save(path)
    with pytest.raises(DatasetError, match="not a table"):
        Dataset("x", "image", (path,), (path, path), np.array([0, 1])).as_table()


def test_hash_of_files_depends_on_their_bytes_and_not_on_their_names(tmp_path):
    for name, colour in (("a.png", 10), ("b.png", 10), ("c.png", 11)):
        Image.new("L", (9, 9), colour).save(tmp_path / name)
    a, b, c = (content_hash((tmp_path / name,)) for name in ("a.png", "b.png", "c.png"))
    assert a == b != c


def test_arrays_of_objects_are_identified_by_their_values():
    cells = [["a", 1000.5], ["b", 2000.5]]
    first, again = (np.array([[text, float(str(number))] for text, number in cells], dtype=object) for _ in range(2))
    assert content_hash(first) == content_hash(again)
    again[1, 1] = 2000.25
    assert content_hash(first) != content_hash(again)
    assert content_hash(first) != content_hash(first.T)


def test_hash_notices_a_file_that_changed(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    before = content_hash((path,))
    path.write_bytes(b"other")
    assert content_hash((path,)) != before


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 0, 0], "only normal samples"),
        ([1, 1, 1], "only anomalies"),
        ([0, 1, 2], "row 3, column label: 2 is not a label"),
        ([0, 1, np.nan], "nan is not a label"),
        ([0, 1], "2 entries for 3 test samples"),
        (["a", "b", "c"], "not text"),
        ([], "no test sample"),
    ],
)
def test_labels_that_cannot_be_measured_on_are_refused(y, message):
    with pytest.raises(DatasetError, match=message):
        Dataset("x", "tabular", np.zeros((2, 1)), np.zeros((3, 1)), np.array(y))


def test_a_data_set_without_training_samples_is_refused():
    with pytest.raises(DatasetError, match="no normal sample to train on"):
        Dataset("x", "tabular", np.zeros((0, 1)), np.zeros((2, 1)), np.array([0, 1]))


def test_a_misspelt_name_gets_the_nearest_right_one(tmp_path):
    with pytest.raises(DatasetError, match="Did you mean 'breast_cancer'"):
        load("breast_cancr", data_home=tmp_path)
    with pytest.raises(DatasetError, match="There are: breast_cancer, digits/<k>"):
        load("nothing like it at all", data_home=tmp_path)


@pytest.mark.parametrize("name", ["mvtec/..", "tables//etc", "mvtec/a\\b", "", "digits", "digits/12", "digits/x"])
def test_names_that_lead_elsewhere_are_refused(name, tmp_path):
    with pytest.raises(DatasetError):
        load(name, data_home=tmp_path)


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_a_seed_is_a_whole_number_from_zero(seed):
    with pytest.raises(DatasetError, match="seed must be an integer"):
        load("breast_cancer", seed=seed)


def test_every_data_set_of_the_manifest_says_where_it_comes_from():
    assert [entry["name"] for entry in manifest()] == [name for name, _, _ in names()]
    for entry in manifest():
        assert entry["source"] and entry["licence"] and entry["modality"] in ("tabular", "image", "paired")
        for file in entry["files"]:
            algorithm, _, digest = (file["hash"] or "sha256:" + "0" * 64).partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64}[algorithm]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"other": []}', "is damaged (KeyError('datasets'))"),
        ('{"datasets": ["breast_cancer"]}', "is damaged"),
        (json.dumps({"datasets": [dict.fromkeys(ENTRY_KEYS - {"fetch"}, "x")]}), "is damaged ('x' has no 'fetch')"),
    ],
)
def test_a_manifest_that_is_missing_or_damaged_is_one_clear_error(content, message, monkeypatch, tmp_path):
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(record, "resources", SimpleNamespace(files=lambda package: tmp_path))
    manifest.cache_clear()
    try:
        with pytest.raises(DatasetError, match=f"{re.escape(f'{path} {message}')}.*install the package again"):
            load("breast_cancer")
    finally:
        manifest.cache_clear()


def test_every_concrete_name_belongs_to_an_entry_of_the_manifest(tmp_path):
    prefixes = tuple(name.split("<")[0] for name, _, _ in names())
    assert all(name.startswith(prefixes) for name in concrete_names(tmp_path))


def test_folders_come_from_argument_then_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MMAD_DATA_HOME", str(tmp_path / "environment"))
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path / "cache"))
    assert data_home() == tmp_path / "environment" and data_home(tmp_path) == tmp_path
    assert cache_home() == tmp_path / "cache"
    monkeypatch.delenv("MMAD_DATA_HOME")
    assert data_home().name == "data"
