"""What all fusions of paired modalities promise: checks, missing parts, seeds, files."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import IsolationForest

from mmad_utils import (
    CrossAttentionFusion,
    Detector,
    EarlyFusion,
    GraphFusion,
    LateFusion,
    SeriesEncoder,
    SharedLatentFusion,
    TextEncoder,
)
from mmad_utils.datasets import load
from mmad_utils.datasets.paired import drop_parts
from mmad_utils.detector import DetectorError
from mmad_utils.multimodal.paired import (
    pattern_index,
    pattern_scales,
    patterns_of,
    present_rows,
    rows_of,
    standardised,
)

TRAINED = [
    SharedLatentFusion(epochs=2, random_state=0),
    CrossAttentionFusion(epochs=2, random_state=0),
    GraphFusion(epochs=2, random_state=0),
]
ALL = [EarlyFusion(random_state=0), LateFusion(random_state=0), *TRAINED]


@pytest.fixture(scope="module")
def data():
    """200 samples to train and 80 to test of paired_digits."""
    dataset = load("paired_digits")
    return rows_of(dataset.X_train, np.arange(200)), rows_of(dataset.X_test, np.arange(80))


@pytest.mark.parametrize("detector", ALL, ids=lambda d: type(d).__name__)
def test_equal_seeds_give_bitwise_equal_results_and_the_file_keeps_every_score(data, detector, tmp_path):
    train, test = drop_parts(data[0], 0.2), drop_parts(data[1], 0.3)
    detector = clone(detector).fit(train)
    scores = detector.anomaly_score(test)
    assert scores.shape == (80,) and scores.dtype == np.float64 and np.isfinite(scores).all()
    np.testing.assert_array_equal(clone(detector).fit(train).anomaly_score(test), scores)
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert type(loaded) is type(detector)
    np.testing.assert_array_equal(loaded.decision_function(test), detector.decision_function(test))
    np.testing.assert_array_equal(np.unique(loaded.predict(test)), [-1, 1])


@pytest.mark.parametrize("detector", ALL, ids=lambda d: type(d).__name__)
def test_the_score_of_a_sample_does_not_depend_on_the_others_nor_on_how_missing_is_written(data, detector):
    train, test = data
    detector = clone(detector).fit(train)
    dropped = drop_parts(test, 0.4)
    scores = detector.anomaly_score(dropped)
    rows = np.array([3, 50, 17])
    np.testing.assert_allclose(detector.anomaly_score(rows_of(dropped, rows)), scores[rows], rtol=1e-9)
    series = np.stack([np.full(96, np.nan) if part is None else part for part in dropped["series"]])
    text = [np.nan if part is None else part for part in dropped["text"]]
    again = detector.anomaly_score({"text": text, "series": series, "image": dropped["image"]})
    np.testing.assert_allclose(again, scores, rtol=1e-9)
    without = detector.anomaly_score({**test, "text": None})
    np.testing.assert_array_equal(without, detector.anomaly_score({**test, "text": [None] * 80}))


@pytest.mark.parametrize("detector", ALL, ids=lambda d: type(d).__name__)
def test_what_stands_in_a_missing_part_of_a_table_has_no_influence(data, detector):
    """Scores of a sample without text are those of any sample with the same other parts."""
    train, test = data
    detector = clone(detector).fit(train)
    other = {**test, "text": test["text"][::-1]}
    hidden = [{**X, "text": [None if i % 2 else t for i, t in enumerate(X["text"])]} for X in (test, other)]
    first, second = (detector.anomaly_score(X) for X in hidden)
    np.testing.assert_array_equal(first[1::2], second[1::2])
    assert (first[::2] != second[::2]).mean() > 0.9


@pytest.mark.parametrize("detector", ALL, ids=lambda d: type(d).__name__)
def test_bad_input_is_one_clear_error(data, detector):
    train, test = data
    detector = clone(detector)
    name = type(detector).__name__
    with pytest.raises(DetectorError, match=f"{name} takes a dict of modalities"):
        detector.fit(train["series"])
    with pytest.raises(DetectorError, match=r"unknown modality 'txt'\. Did you mean 'text'"):
        detector.fit({"image": train["image"], "txt": train["text"]})
    with pytest.raises(DetectorError, match=r"the same number of samples, not \{'image': 200, 'text': 9"):
        detector.fit({**train, "text": train["text"][:9]})
    with pytest.raises(DetectorError, match="all modalities of row 4 are missing"):
        detector.fit({key: [None if i == 4 else part for i, part in enumerate(X)] for key, X in train.items()})
    with pytest.raises(DetectorError, match="modality 'text' has 1 parts; give two or more"):
        detector.fit({**train, "text": ["one", *[None] * 199]})
    with pytest.raises(DetectorError, match=r"contamination is 0\.7"):
        clone(detector).set_params(contamination=0.7).fit(train)
    with pytest.raises(DetectorError, match="all modalities are None; give at least one"):
        detector.fit({"image": None, "text": None})
    two = clone(detector).fit({"image": train["image"], "series": train["series"]})
    with pytest.raises(DetectorError, match="modality 'text' was absent in fit; fit again with it, or remove it"):
        two.anomaly_score(test)
    with pytest.raises(DetectorError, match=r"modality 'series' is not in the dict. If all .* missing, give .*None"):
        two.anomaly_score({"image": test["image"]})
    with pytest.raises(DetectorError, match="fitted on series of 96 steps, got 90"):
        two.anomaly_score({"image": test["image"], "series": test["series"][:, :90]})
    with pytest.raises(DetectorError, match=r"fitted on images of \(8, 8, 1\)"):
        two.anomaly_score({"image": test["image"][:, :7], "series": test["series"]})
    with pytest.raises(DetectorError, match="modality 'image' holds no samples"):
        two.anomaly_score({"image": test["image"][:0], "series": test["series"][:0]})


@pytest.mark.parametrize("detector", TRAINED, ids=lambda d: type(d).__name__)
def test_what_only_relations_can_show_needs_two_modalities(data, detector):
    with pytest.raises(DetectorError, match="needs at least 2 modalities, got image"):
        clone(detector).fit({"image": data[0]["image"]})
    with pytest.raises(DetectorError, match=r"modalities have \[1, 1\] parts; give more samples"):
        clone(detector).fit({name: data[0][name][:2] for name in ("image", "series")})
    with pytest.raises(DetectorError, match=r"drop_rate is 1.5"):
        clone(detector).set_params(drop_rate=1.5).fit(data[0])


def test_an_all_missing_modality_is_absent_at_fit(data):
    train, test = data
    detector = EarlyFusion(random_state=0).fit({**train, "text": None})
    assert detector.modalities_ == ("image", "series")
    with pytest.raises(DetectorError, match="'text' was absent in fit"):
        detector.anomaly_score(test)


def test_networks_can_be_averaged_and_untrained_ones_are_a_control(data):
    train, test = data
    detector = GraphFusion(epochs=1, n_estimators=2, random_state=0).fit(train)
    one, other = (estimator.anomaly_score(test) for estimator in detector.estimators_)
    (mean, sd), (mean_2, sd_2) = detector.scales_
    np.testing.assert_allclose(detector.anomaly_score(test), ((one - mean) / sd + (other - mean_2) / sd_2) / 2)
    assert GraphFusion(epochs=0, random_state=0).fit(train).history_ == []


def test_other_encoders_and_other_modalities_can_be_given(data, tmp_path):
    encoders = {"caption": TextEncoder(min_df=3), "sound": SeriesEncoder("mel")}
    X_train, X_test = ({"caption": X["text"], "sound": X["series"]} for X in data)
    detector = EarlyFusion(encoders=encoders, random_state=0).fit(X_train)
    assert not hasattr(encoders["caption"], "vocabulary_")  # cloned, not fitted in place
    detector.save(tmp_path / "detector")
    again = EarlyFusion.load(tmp_path / "detector")
    np.testing.assert_array_equal(again.anomaly_score(X_test), detector.anomaly_score(X_test))


def test_a_detector_of_scikit_learn_inside_can_be_saved(data, tmp_path):
    detector = EarlyFusion(IsolationForest(n_estimators=5, random_state=0), random_state=0).fit(data[0])
    detector.save(tmp_path / "detector")
    again = EarlyFusion.load(tmp_path / "detector")
    np.testing.assert_array_equal(again.anomaly_score(data[1]), detector.anomaly_score(data[1]))


def test_patterns_count_in_binary_and_the_last_is_complete():
    patterns = patterns_of(3)
    assert patterns.shape == (7, 3) and patterns[-1].all()
    np.testing.assert_array_equal(pattern_index(patterns), np.arange(7))


def test_scores_are_standardised_within_their_pattern(rng):
    raw = rng.normal(size=(500, 3)) * [1, 5, 2] + [0, 10, 3]
    raw[5:, 1] = np.nan  # too few samples can show this pattern
    scales = pattern_scales(raw)
    np.testing.assert_allclose(scales[[0, 2]], np.stack([raw.mean(0), raw.std(0)], axis=1)[[0, 2]])
    np.testing.assert_allclose(scales[1], [np.nanmean(raw), np.nanstd(raw)])
    present = np.array([[False, True], [True, True]])
    expected = [(4 - scales[0, 0]) / scales[0, 1], (4 - scales[2, 0]) / scales[2, 1]]
    np.testing.assert_allclose(standardised(np.array([4.0, 4.0]), present, scales), expected)


def test_missing_is_none_nan_or_an_array_of_nan():
    nan = np.nan
    np.testing.assert_array_equal(present_rows(np.array([[nan, nan], [1, nan]])), [False, True])
    np.testing.assert_array_equal(present_rows([None, "a", nan, np.full(3, nan), np.ones(2)]), [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(present_rows(np.zeros((2, 4, 4, 1), np.uint8)), [True, True])
    assert torch.tensor(present_rows(np.array(["x", None], dtype=object))).tolist() == [True, False]
