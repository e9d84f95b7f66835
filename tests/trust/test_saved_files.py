"""Saved detectors from elsewhere: whatever was changed in the file, loading works or raises a DetectorError."""

import copy
import json
import resource
import struct
import sys
import tracemalloc
import warnings
from random import Random

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_detectors import encoder

from mmad_utils import (
    DAGMM,
    AutoEncoder,
    CalibratedDetector,
    ColumnEncoder,
    DeepSVDD,
    Detector,
    DetectorError,
    FlowDensity,
    GaussianAnomalyScorer,
    KNNDistance,
    MultiModalAnomalyDetector,
    PaDiM,
)
from mmad_utils.detector import load_state, save_state

SMALL = {"epochs": 0, "hidden": (4,), "random_state": 0}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The bytes of a few saved detectors, whose states hold every kind of entry."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("saved")
    X = rng.normal(size=(40, 3))
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(kind=rng.choice(["x", "y"], 40))
    detectors = [
        AutoEncoder(**SMALL).fit(X),
        CalibratedDetector(KNNDistance(), ColumnEncoder(), random_state=0).fit(frame),
        DAGMM(**SMALL | {"n_estimators": 2, "latent_dim": 2}).fit(X),
        DeepSVDD(**SMALL | {"n_estimators": 1}).fit(X),
        FlowDensity(**SMALL, transforms=1).fit(X),
        GaussianAnomalyScorer().fit(X),
        MultiModalAnomalyDetector({"tabular": encoder()}, latent_dim=4, calibration_folds=2, random_state=0).fit(
            {"tabular": X}
        ),
    ]
    contents = []
    for i, detector in enumerate(detectors):
        detector.save(folder / str(i))
        contents.append((folder / str(i)).read_bytes())
    return contents


def taken_apart(content):
    """Header, state and bytes of the tensors of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["mmad"]), content[8 + length :]


def put_together(header, state, tensors):
    """A file without a checksum, as of an earlier version: nothing but the checks of its content can refuse it."""
    metadata = {"mmad": json.dumps(state), "format": "2"}
    text = json.dumps({**header, "__metadata__": metadata}).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def places(value):
    """Every (container, key) of nested dicts and lists."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from places(item)


STRANGE: list = [
    None,
    True,
    -1,
    0,
    3,
    10**6,
    10**9,
    10**30,
    0.5,
    float("nan"),
    "",
    "x",
    "cuda:7",
    "../../x",
    "Detector",
]
STRANGE += [
    "KNNDistance",
    [],
    {},
    [10**9] * 3,
    [1] * 10_000,
    {"@array": "x"},
    {"@tensor": 5},
    {"@tuple": 3},
    {"@new": 1},
]
STRANGE += [{"@items": [[[], 1]]}, {"@strings": ["a"], "shape": [10**9]}, {"@object": "AutoEncoder", "state": {}}]


def load(path):
    """What happened: the detector, or its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Detector.load(path)
        except DetectorError as error:
            return error


def mutated(content, random):
    """A file with changed bytes, or with a changed state or header."""
    if random.random() < 0.3:
        position, new = random.randrange(len(content)), random.randbytes(random.randrange(9))
        return content[:position] + new + content[position + random.choice([0, len(new), 50]) :]
    header, state, tensors = taken_apart(content)
    for _ in range(random.randint(1, 3)):
        found = list(places(random.choice([state, state, header])))
        if not found:
            break
        container, key = random.choice(found)
        match random.choice(["value", "value", "remove", "rename", "nest", "swap"]):
            case "remove":
                del container[key]
            case "rename" if isinstance(container, dict):
                container[random.choice(["@object", "state", "_score", "__class__", "fit", "x_"])] = container.pop(
                    key
                )
            case "nest":
                for _ in range(random.choice([1, 200])):
                    container[key] = [container[key]]
            case "swap":
                other, place = random.choice(found)
                container[key] = copy.deepcopy(other[place])
            case _:
                container[key] = copy.deepcopy(random.choice(STRANGE))
    return put_together(header, state, tensors)


def check_mutations(files, folder, n):
    folder.mkdir()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(
        max_examples=n, derandomize=True, deadline=20_000, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.integers(0, 2**32))
    def check(seed):
        path, random = folder / "detector", Random(seed)
        path.write_bytes(mutated(random.choice(files), random))
        assert isinstance(load(path), (Detector, DetectorError))
        assert [file.name for file in folder.iterdir()] == ["detector"]

    check()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 2**30


def test_a_mutated_file_is_loaded_or_refused(files, tmp_path):
    check_mutations(files, tmp_path / "one", 300)


@pytest.mark.campaign
def test_many_mutated_files_are_loaded_or_refused(files, tmp_path):
    check_mutations(files, tmp_path / "one", 5000)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": [20_000, 20_000]},
        {"hidden": [1] * 100_000},
        {"latent_dim": 10**9},
        {"hidden": "x"},
        {"device": "cuda:99"},
        {"no_such_parameter": 1},
    ],
)
def test_parameters_that_do_not_fit_the_tensors_are_refused_before_a_network_is_built(files, tmp_path, change):
    header, state, tensors = taken_apart(files[0])
    state["detector"]["state"]["parameters"] |= change
    (tmp_path / "d").write_bytes(put_together(header, state, tensors))
    tracemalloc.start()
    assert isinstance(load(tmp_path / "d"), DetectorError)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("change", [{"backbone": "eva_giant_patch14_224"}, {"image_size": 100_000}, {"backbone": 3}])
def test_a_backbone_is_checked_before_it_is_built(tmp_path, monkeypatch, rng, change):
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path / "cache"))
    images = rng.integers(256, size=(4, 32, 32, 3), dtype=np.uint8)
    detector = PaDiM(backbone="resnet10t", weights="random", image_size=32, n_features=2, random_state=0).fit(images)
    state = detector.get_state()
    state["parameters"] |= change
    save_state(tmp_path / "d", {"detector": {"@object": "PaDiM", "state": state}})
    with pytest.raises(DetectorError):
        PaDiM.load(tmp_path / "d")


def test_nothing_is_downloaded_to_load_a_detector(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("MMAD_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("downloads"))
    parameters = PaDiM(backbone="resnet10t").get_params()
    state = {"parameters": parameters, "fitted": {"fingerprint_": "0" * 64}}
    save_state(tmp_path / "d", {"detector": {"@object": "PaDiM", "state": state}})
    with pytest.raises(DetectorError, match="loading a detector does not download"):
        Detector.load(tmp_path / "d")


def test_a_changed_number_is_found_by_the_checksum(files, tmp_path):
    content = bytearray(files[5])
    content[-5] ^= 1
    (tmp_path / "d").write_bytes(content)
    with pytest.raises(DetectorError, match="does not match the stored checksum"):
        Detector.load(tmp_path / "d")


def test_a_file_of_an_earlier_version_is_loaded_with_a_warning(files, tmp_path):
    (tmp_path / "d").write_bytes(put_together(*taken_apart(files[5])))
    with pytest.warns(UserWarning, match="has no checksum"):
        assert isinstance(Detector.load(tmp_path / "d"), GaussianAnomalyScorer)


@pytest.mark.parametrize("random_state", [np.random.RandomState(0), torch.Generator(), np.random.default_rng(0)])
def test_what_could_not_be_loaded_is_refused_when_it_is_saved(tmp_path, rng, random_state):
    detector = CalibratedDetector(KNNDistance()).fit(rng.normal(size=(40, 2)))
    detector.random_state = random_state
    with pytest.raises(DetectorError, match=r"cannot save .*random_state"):
        detector.save(tmp_path / "d")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "value",
    [
        1j,
        np.datetime64("2020"),
        np.array([1, None]),
        {(1, 2): 3},
        b"x",
        torch.eye(2).to_sparse(),
        {"a": {2.5: object()}},
    ],
)
def test_values_without_a_place_in_the_file_are_refused(tmp_path, value):
    with pytest.raises(DetectorError, match="cannot save"):
        save_state(tmp_path / "d", {"x": value})
    assert not list(tmp_path.iterdir())


def test_names_of_columns_may_look_like_marks_of_the_format(tmp_path):
    state = {"@items": {"@array": 1.0}, "a": {"b": np.zeros(2)}, "a/b": np.ones(3), "@object": [np.arange(2)], 3: "x"}
    save_state(tmp_path / "d", {"columns": state})
    found = load_state(tmp_path / "d")["columns"]
    assert found.keys() == state.keys() and found["@items"] == {"@array": 1.0} and found[3] == "x"
    for one, other in ((found["a"]["b"], np.zeros(2)), (found["a/b"], np.ones(3)), (found["@object"][0], [0, 1])):
        np.testing.assert_array_equal(one, other)


def test_a_state_that_is_nested_too_deep_or_in_itself_is_refused(tmp_path):
    deep: list = []
    for _ in range(200):
        deep = [deep]
    circle: dict = {}
    circle["self"] = circle
    for value, message in ((deep, "nested more than"), (circle, "cannot save")):
        with pytest.raises(DetectorError, match=message):
            save_state(tmp_path / "d", {"x": value})
