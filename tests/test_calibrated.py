import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.ensemble import IsolationForest

from mmad_utils import CalibratedDetector, ColumnEncoder, Detector, DistanceToCenter, GaussianAnomalyScorer, PaDiM
from mmad_utils.calibrated import cross_fit_scores
from mmad_utils.detector import DetectorError


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"a": rng.normal(size=600), "b": rng.exponential(size=600), "c": rng.choice(list("xyz"), 600)}
    )


@pytest.fixture
def detector():
    return CalibratedDetector(GaussianAnomalyScorer(), ColumnEncoder(), contamination=0.1, random_state=0)


def test_p_values_are_ranks_among_the_half_that_did_not_train(frame, detector):
    train, calibration, new = frame[:300], frame[300:500], frame[500:]
    detector.fit_on(train, calibration)
    encoder = ColumnEncoder().fit(train)
    gaussian = GaussianAnomalyScorer().fit(encoder.transform(train))
    held, scores = (gaussian.anomaly_score(encoder.transform(part)) for part in (calibration, new))
    expected = [(1 + (held >= score).sum()) / 201 for score in scores]
    np.testing.assert_allclose(detector.p_values(new), expected)
    np.testing.assert_array_equal(detector.predict(new) == -1, np.array(expected) <= 0.1)


def test_the_false_alarm_rate_on_new_rows_is_nominal(detector):
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(6000, 3)), columns=list("abc"))
    alarms = detector.fit(table[:2000]).predict(table[2000:]) == -1
    assert alarms.mean() == pytest.approx(0.1, abs=0.03)


def test_too_few_samples_for_the_nominal_rate_raise_no_alarm(frame):
    detector = CalibratedDetector(DistanceToCenter(), ColumnEncoder(), contamination=0.01).fit_on(
        frame[:20], frame[20:40]
    )
    assert detector.offset_ == -np.inf and (detector.predict(frame) == 1).all()
    with pytest.raises(DetectorError, match="n_samples = 3"):
        clone(detector).fit(frame[:3])


def test_a_saved_detector_gives_the_same_results_for_rows_as_read(frame, detector, tmp_path):
    detector.fit(frame).save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")
    np.testing.assert_array_equal(loaded.p_values(frame), detector.p_values(frame))
    np.testing.assert_array_equal(loaded.predict(frame), detector.predict(frame))
    again = clone(loaded).fit(frame)  # the parameters came along
    np.testing.assert_array_equal(again.anomaly_score(frame), detector.anomaly_score(frame))


def test_a_detector_of_images_assesses_and_is_saved(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    detector = CalibratedDetector(PaDiM(image_size=32, n_features=5), random_state=0).fit(paths)
    detector.save(tmp_path / "detector.safetensors")
    loaded = Detector.load(tmp_path / "detector.safetensors")
    np.testing.assert_allclose(loaded.anomaly_score(paths[:2]), detector.anomaly_score(paths[:2]))
    assert loaded.anomaly_map(paths[:2]).shape == (2, 32, 32)


def test_numbers_stored_as_objects_give_the_results_of_numbers(frame):
    X = frame[["a", "b"]].to_numpy()
    plain, objects = (
        CalibratedDetector(GaussianAnomalyScorer(), random_state=0).fit(values) for values in (X, X.astype(object))
    )
    np.testing.assert_array_equal(objects.p_values(X[:50].astype(object)), plain.p_values(X[:50]))
    again = CalibratedDetector(GaussianAnomalyScorer(), random_state=0).fit(X.astype(object))
    assert objects.provenance_ == again.provenance_


def test_image_files_are_identified_by_their_content(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    as_list, as_objects, as_text = (
        CalibratedDetector(PaDiM(image_size=32, n_features=5), random_state=0)
        .fit(kind)
        .provenance_["calibration_data"]
        for kind in (paths, np.array(paths), np.array([str(path) for path in paths]))
    )
    assert as_list == as_objects == as_text


def test_every_row_is_scored_by_a_detector_that_was_not_fitted_on_it(frame, detector):
    frame.loc[7, "a"] = 100.0
    fitted = cross_fit_scores(detector, frame, seed=0)
    own = fitted.detectors[fitted.fold[7]]
    assert fitted.scores[7] == pytest.approx(own.anomaly_score(frame[7:8])[0])
    assert np.bincount(fitted.fold).tolist() == [300, 300]
    np.testing.assert_array_equal(fitted.alarms, fitted.p_values <= 0.1)
    assert fitted.scores.argmax() == 7


def test_a_calibrating_row_has_its_rank_among_all_of_them_as_p_value(frame, detector):
    fitted = cross_fit_scores(detector, frame, seed=0)
    for number in (0, 1):
        own = fitted.fold == number
        ranks = rankdata(-fitted.detectors[number].anomaly_score(frame[own]), method="max")
        np.testing.assert_allclose(fitted.p_values[own], ranks / own.sum())
    assert fitted.alarms.mean() == pytest.approx(0.1)


def test_labelled_anomalies_teach_nobody(frame, detector):
    y = np.zeros(600, dtype=int)
    y[:100] = 1
    wild = frame.copy()
    wild.loc[:99, "a"] += 1e6
    scores = cross_fit_scores(detector, frame, y, seed=0).scores[100:]
    np.testing.assert_array_equal(cross_fit_scores(detector, wild, y, seed=0).scores[100:], scores)


def test_chunks_do_not_change_the_scores(frame, detector, monkeypatch):
    whole = cross_fit_scores(detector, frame, seed=0)
    monkeypatch.setattr("mmad_utils.calibrated.CHUNK", 70)
    np.testing.assert_allclose(cross_fit_scores(detector, frame, seed=0).scores, whole.scores)


def test_a_sample_teaches_where_there_are_too_many_rows(frame, detector):
    fitted = cross_fit_scores(detector, frame, most=100, seed=0)
    assert [len(one.tail_.calibration_) for one in fitted.detectors] == [50, 50]
    assert len(fitted.scores) == 600


@pytest.mark.parametrize("base", [GaussianAnomalyScorer(), IsolationForest(n_estimators=20)])
@pytest.mark.parametrize("cell", [("a", None), ("c", "new"), ("c", None)])
def test_a_cell_that_is_new_in_kind_gives_the_smallest_p_value(frame, base, cell):
    detector = CalibratedDetector(base, ColumnEncoder(), random_state=0).fit(frame)
    row = frame[:1].astype({cell[0]: object})
    row.loc[0, cell[0]] = cell[1]
    assert detector.p_values(row) == 1 / (len(detector.tail_.calibration_) + 1)
    assert detector.anomaly_score(row) > detector.anomaly_score(frame).max()


def test_new_kinds_of_cells_that_are_common_do_not_decide():
    table = pd.DataFrame({"a": np.random.default_rng(0).normal(size=400), "c": [f"x{i % 40}" for i in range(400)]})
    detector = CalibratedDetector(DistanceToCenter(), ColumnEncoder({"a": "number", "c": "category"}))
    detector.fit_on(table[:9], table[9:])
    assert detector.lift_ is None and np.isfinite(detector.anomaly_score(table)).all()


@pytest.mark.parametrize(("name", "value"), [("contamination", 5), ("most", -5), ("most", 2.5)])
def test_a_parameter_out_of_range_is_refused_by_name(frame, detector, name, value):
    with pytest.raises(DetectorError, match=f"{name}(=| is ){value}"):
        if name == "most":
            cross_fit_scores(detector, frame, most=value)
        else:
            cross_fit_scores(detector.set_params(contamination=value), frame)


def test_recalibration_changes_the_threshold_and_keeps_the_detector(detector):
    rng = np.random.default_rng(2)
    old, drifted = (pd.DataFrame(rng.normal(shift, size=(4000, 3)), columns=list("abc")) for shift in (0, 1))
    detector.fit(old)
    fitted, training = detector.detector_, detector.provenance_["training_data"]
    assert detector.assess(drifted[2000:])["alarm"].mean() > 0.2
    detector.recalibrate(drifted[:2000])
    assert detector.assess(drifted[2000:])["alarm"].mean() == pytest.approx(0.1, abs=0.03)
    np.testing.assert_array_equal(detector.predict(drifted) == -1, detector.assess(drifted)["alarm"])
    assert detector.detector_ is fitted and detector.provenance_["training_data"] == training
