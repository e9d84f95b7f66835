import errno
import io
import json
import os
import pickle
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import skops.io
import torch
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import parametrize_with_checks

import mmad_utils
from mmad_utils import CalibratedDetector
from mmad_utils.detector import FILE_FORMAT, Detector, DetectorError, _checksum, load_state, save_state
from mmad_utils.thresholds import ConformalThreshold, QuantileThreshold


@dataclass(kw_only=True, eq=False, repr=False)
class SquaredDistance(Detector):
    """The smallest detector that keeps the contract."""

    contamination: float = 0.05

    def _fit(self, X, y):
        self.mean_ = X.mean(0)

    def _score(self, X):
        return np.square(X - self.mean_).sum(1)


def test_an_incomplete_detector_cannot_be_made_or_read_from_a_file(tmp_path):
    class Incomplete(Detector):
        def _fit(self, X, y):
            pass

    with pytest.raises(TypeError, match=r"abstract method '?_score"):
        Incomplete()
    save_state(tmp_path / "incomplete", {"detector": {"@object": "Detector", "state": {}}})
    with pytest.raises(DetectorError, match=r"does not fit Detector as it is now .* abstract methods"):
        Detector.load(tmp_path / "incomplete")


@parametrize_with_checks([SquaredDistance()])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_scores_and_labels_follow_scikit_learns_chain(rng):
    X = rng.normal(size=(200, 3))
    ours = SquaredDistance(contamination=0.1).fit(X)
    reference = IsolationForest(contamination=0.1, random_state=0).fit(X)
    for detector in (ours, reference):
        np.testing.assert_allclose(detector.decision_function(X), detector.score_samples(X) - detector.offset_)
        np.testing.assert_array_equal(detector.predict(X) == -1, detector.decision_function(X) < 0)
        assert (detector.predict(X) == -1).sum() == 20
    np.testing.assert_array_equal(ours.anomaly_score(X), -ours.score_samples(X))


def test_anomaly_score_is_higher_for_what_lies_farther_away(rng):
    detector = SquaredDistance().fit(rng.normal(size=(100, 2)))
    near, far = detector.anomaly_score([[0.0, 0.0], [9.0, 9.0]])
    assert far > near
    assert list(detector.predict([[0.0, 0.0], [9.0, 9.0]])) == [1, -1]


def test_threshold_ignores_labels(rng):
    X = rng.normal(size=(100, 2))
    offsets = {SquaredDistance().fit(X, y).offset_ for y in (None, np.zeros(100), np.ones(100))}
    assert len(offsets) == 1


def test_the_contamination_auto_is_used_and_refused_as_in_scikit_learn(rng):
    X = rng.normal(size=(60, 2))
    with pytest.raises(ValueError, match="contamination"):
        EllipticEnvelope(contamination="auto").fit(X)  # no constant threshold in its paper
    for detector in (SquaredDistance(contamination="auto"), CalibratedDetector(SquaredDistance(), None, "auto")):
        with pytest.raises(DetectorError, match=r"contamination is 'auto'.*IsolationForest, LocalOutlierFactor"):
            detector.fit(X)
    for detector, constant in ((IsolationForest(random_state=0), -0.5), (LocalOutlierFactor(novelty=True), -1.5)):
        auto, share = (clone(detector).set_params(contamination=value) for value in ("auto", 0.3))
        inside = [CalibratedDetector(one, random_state=0).fit(X) for one in (auto, share)]
        assert inside[0].detector_.offset_ == constant
        np.testing.assert_array_equal(inside[0].predict(X), inside[1].predict(X))  # of the calibration


@pytest.mark.parametrize("contamination", [0, -0.1, 0.6, "0.1", True, None])
def test_impossible_contamination_is_refused_before_fitting(contamination, rng):
    detector = SquaredDistance(contamination=contamination)
    with pytest.raises(DetectorError, match=r"contamination is .* in \(0, 0\.5\]"):
        detector.fit(rng.normal(size=(10, 2)))
    assert not hasattr(detector, "mean_")


def test_calibrate_takes_the_threshold_from_held_out_normals(rng):
    detector = SquaredDistance().fit(rng.normal(size=(30, 20)))
    held_out, fresh = rng.normal(size=(2, 4000, 20))
    detector.calibrate(QuantileThreshold(0.05), held_out)
    assert np.mean(detector.predict(fresh) == -1) == pytest.approx(0.05, abs=0.015)


def test_calibrate_refuses_a_procedure_without_one_threshold(rng):
    X = rng.normal(size=(30, 2))
    with pytest.raises(DetectorError, match="no single threshold"):
        SquaredDistance().fit(X).calibrate(ConformalThreshold(procedure="benjamini-hochberg"), X)


def test_a_saved_detector_scores_as_before(tmp_path, rng):
    X = rng.normal(size=(50, 4))
    detector = SquaredDistance(contamination=0.2).fit(X)
    detector.save(tmp_path / "model.safetensors")
    restored = SquaredDistance.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(restored.decision_function(X), detector.decision_function(X))
    assert restored.get_params() == detector.get_params()
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_any_state_of_numbers_arrays_and_tensors_survives_the_file(tmp_path):
    state = {
        "a": [1, 2.5, "x", None, True, float("inf")],
        "b": (np.arange(6).reshape(2, 3), {"c": torch.ones(2, dtype=torch.float16)}),
        "d": {0: {"step": torch.tensor(3.0)}, 1: np.float64(0.1)},
        "names": np.array(["alpha", "beta"], dtype=object),
    }
    save_state(tmp_path / "s", state)
    found = load_state(tmp_path / "s")
    assert found["a"] == state["a"]
    np.testing.assert_array_equal(found["b"][0], state["b"][0])
    assert torch.equal(found["b"][1]["c"], state["b"][1]["c"])
    assert found["d"][0]["step"] == 3 and found["d"][1] == 0.1
    assert list(found["names"]) == ["alpha", "beta"]


def test_a_full_disk_is_one_clear_error_and_keeps_the_earlier_file(tmp_path, rng, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "detector"
    SquaredDistance().fit(rng.normal(size=(20, 3))).save(path)
    earlier = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DetectorError, match=r"cannot save to .*detector: OSError: .*No space left on device"):
        SquaredDistance().fit(rng.normal(size=(20, 3))).save(path)
    assert path.read_bytes() == earlier and [file.name for file in tmp_path.iterdir()] == ["detector"]


def test_what_only_pickle_could_write_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(DetectorError, match=r"cannot save fitted/pipeline: a FunctionTransformer .* pickle"):
        save_state(tmp_path / "s", {"fitted": {"pipeline": FunctionTransformer(lambda X: X)}})
    assert not list(tmp_path.iterdir())


def test_a_damaged_missing_or_foreign_file_is_one_clear_error(tmp_path):
    with pytest.raises(DetectorError, match="does not exist"):
        Detector.load(tmp_path / "nothing")
    (tmp_path / "noise").write_bytes(b"not a safetensors file at all")
    with pytest.raises(DetectorError, match="is damaged"):
        Detector.load(tmp_path / "noise")
    SquaredDistance().fit(np.eye(3)).save(tmp_path / "cut")
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-5])
    with pytest.raises(DetectorError, match="is damaged"):
        Detector.load(tmp_path / "cut")
    save_state(tmp_path / "other", {"x": 1})
    with pytest.raises(DetectorError, match="does not contain a detector"):
        Detector.load(tmp_path / "other")


def test_a_pickle_in_disguise_is_refused_and_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    for content in (pickle.dumps(Trap()), b"\x80\x04" + bytes(200)):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(DetectorError, match="is damaged or was not written by mmad_utils"):
            Detector.load(tmp_path / "model.safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_file_of_another_format_or_with_foreign_parameters_says_so(tmp_path):
    safetensors.torch.save_file({}, tmp_path / "old", metadata={"mmad": "{}", "format": "0"})
    with pytest.raises(DetectorError, match="has file format 0, this version of mmad_utils reads 1, 2, 3"):
        Detector.load(tmp_path / "old")
    detector = SquaredDistance().fit(np.eye(3))
    state = {"@object": "SquaredDistance", "state": detector.get_state()}
    state["state"]["parameters"]["power"] = 2
    save_state(tmp_path / "other", {"detector": state})
    with pytest.raises(DetectorError, match="does not fit SquaredDistance as it is now"):
        SquaredDistance.load(tmp_path / "other")


def test_a_state_can_set_only_fitted_attributes_and_a_threshold_that_is_a_number(tmp_path):
    for change in ({"_score_": 1.0}, {"fit": 1.0}, {"offset_": float("nan")}, {"offset_": "0"}):
        state = SquaredDistance().fit(np.eye(3)).get_state()
        state["fitted"] |= change
        save_state(tmp_path / "x", {"detector": {"@object": "SquaredDistance", "state": state}})
        with pytest.raises(DetectorError, match="the state of a SquaredDistance has"):
            SquaredDistance.load(tmp_path / "x")


@pytest.mark.parametrize(
    "estimator", [IsolationForest(n_estimators=5), LocalOutlierFactor(novelty=True), OneClassSVM()]
)
def test_an_estimator_of_scikit_learn_is_kept_in_the_same_file(rng, tmp_path, estimator):
    X = rng.normal(size=(200, 3))
    detector = CalibratedDetector(estimator, random_state=0).fit(X)
    detector.save(tmp_path / "kept")
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]
    np.testing.assert_array_equal(Detector.load(tmp_path / "kept").anomaly_score(X), detector.anomaly_score(X))


def test_an_estimator_that_holds_foreign_code_is_not_loaded(tmp_path):
    content = bytearray(skops.io.dumps(FunctionTransformer(os.system)))
    array = {"where": torch.frombuffer(content, dtype=torch.uint8)}
    metadata = {"mmad": json.dumps({"detector": {"@skops": "where"}}), "format": FILE_FORMAT}
    safetensors.torch.save_file(array, tmp_path / "evil", metadata=metadata)
    with pytest.raises(DetectorError, match="no estimator that can be trusted"):
        Detector.load(tmp_path / "evil")


def test_names_that_begin_as_those_of_the_format_survive(tmp_path):
    state = {"kinds": {"@items": "number", "@array": "text", "@skops": "category"}}
    save_state(tmp_path / "s", state)
    assert load_state(tmp_path / "s") == state


def test_a_file_cannot_name_a_class_outside_the_package(tmp_path):
    for name in ("Path", "os", "__builtins__", "DetectorError"):
        text = json.dumps({"detector": {"@object": name, "state": {}}})
        safetensors.torch.save_file({}, tmp_path / "evil", metadata={"mmad": text, "format": FILE_FORMAT})
        with pytest.raises(DetectorError, match="mmad_utils does not have"):
            Detector.load(tmp_path / "evil")


def test_every_exported_name_exists():
    assert all(hasattr(mmad_utils, name) for name in mmad_utils.__all__)
    assert list(mmad_utils.__all__) == sorted(mmad_utils.__all__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "it contains no state"),
        ("{", "is damaged or was not written by mmad_utils"),
        ('{"x": {"@strings": [1], "shape": [1]}}', "an array of strings holds something else"),
        ('{"x": "' + "a" * 600 + '"}', "has 609 characters; at most 500 can be read"),
    ],
)
def test_a_state_that_cannot_be_one_is_refused(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr("mmad_utils.detector.LONGEST_TEXT", 500)
    metadata = {"mmad": text, "format": FILE_FORMAT, "sha256": _checksum(text, {})}
    safetensors.torch.save_file({}, tmp_path / "state", metadata=metadata)
    with pytest.raises(DetectorError, match=message):
        load_state(tmp_path / "state")


def test_an_estimator_whose_parts_are_compressed_is_not_read(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 100_000)
    array = {"where": np.frombuffer(content.getvalue(), dtype=np.uint8)}
    text = json.dumps({"detector": {"@skops": "where"}})
    metadata = {"mmad": text, "format": FILE_FORMAT, "sha256": _checksum(text, array)}
    safetensors.numpy.save_file(array, tmp_path / "bomb", metadata=metadata)
    with pytest.raises(DetectorError, match="its parts are compressed"):
        Detector.load(tmp_path / "bomb")


def test_an_estimator_that_scikit_learn_cannot_describe_is_not_saved(tmp_path):
    with pytest.raises(DetectorError, match="could only be written by pickle"):
        save_state(tmp_path / "s", {"estimator": FunctionTransformer(threading.Lock())})
    assert not list(tmp_path.iterdir())


def test_a_path_is_kept_as_text(tmp_path):
    save_state(tmp_path / "s", {"folder": Path("a") / "b"})
    assert load_state(tmp_path / "s") == {"folder": str(Path("a") / "b")}
