import numpy as np
import pytest
from scipy.special import erf
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils import ArcSineKernelDistance, DetectorError
from mmad_utils.detectors import kernel_distance


def known_failures(_):
    reason = "as for KNNDistance, the threshold leaves each training sample out of its own neighbours"
    return dict.fromkeys(("check_outliers_train", "check_outliers_fit_predict"), reason)


@parametrize_with_checks([ArcSineKernelDistance()], expected_failed_checks=known_failures, xfail_strict=False)
def test_it_passes_the_estimator_checks_of_scikit_learn(estimator, check):
    check(estimator)


def distances(X, Y, w, v):
    """Squared distances by Williams's equation 11, one pair at a time, (n of Y, n of X)."""

    def kernel(x, y):
        xx, yy, xy = (w / len(x) * a @ b + v for a, b in ((x, x), (y, y), (x, y)))
        return 2 / np.pi * np.arcsin(2 * xy / np.sqrt((1 + 2 * xx) * (1 + 2 * yy)))

    return np.array([[kernel(x, x) + kernel(y, y) - 2 * kernel(x, y) for x in X] for y in Y])


@pytest.mark.parametrize(("w", "v", "k"), [(1.0, 0.25, 1), (3.0, 0.0, 2), (0.2, 2.0, 50)])
def test_the_score_is_the_squared_distance_to_the_kth_nearest_sample(w, v, k, rng):
    X, new = rng.normal(size=(20, 3)), rng.normal(size=(7, 3))
    detector = ArcSineKernelDistance(k, weight_variance=w, bias_variance=v).fit(X)
    expected = np.sort(distances(X, new, w, v), axis=1)[:, min(k, 20) - 1]
    np.testing.assert_allclose(detector.anomaly_score(new), expected, rtol=1e-9)


def test_a_wide_random_layer_has_these_distances(rng):
    X, new = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    weights, biases = rng.normal(0, 0.5, (4, 200_000)), rng.normal(0, 0.5, 200_000)
    features = [erf(rows @ weights + biases) for rows in (X, new)]
    expected = [min(np.square(y - x).mean() for x in features[0]) for y in features[1]]
    np.testing.assert_allclose(ArcSineKernelDistance().fit(X).anomaly_score(new), expected, rtol=0.03)


def test_the_threshold_leaves_each_training_sample_out(rng, monkeypatch):
    monkeypatch.setattr(kernel_distance, "MATRIX_CELLS", 50)  # several batches
    X = rng.normal(size=(20, 2))
    pairs = distances(X, X, 1.0, 0.25)
    np.fill_diagonal(pairs, np.inf)
    detector = ArcSineKernelDistance(contamination=0.1).fit(X)
    assert detector.offset_ == pytest.approx(-np.quantile(pairs.min(axis=1), 0.9), rel=1e-6)


def test_a_single_extreme_column_has_a_bounded_effect(rng):
    X = rng.normal(size=(30, 8))
    new = np.zeros((2, 8))
    new[:, 0] = 1e3, 1e200
    scores = ArcSineKernelDistance().fit(X).anomaly_score(new)
    assert scores[1] == pytest.approx(scores[0], rel=1e-2) and scores[1] < 2


def test_a_saved_detector_scores_the_same_after_loading(rng, tmp_path):
    detector = ArcSineKernelDistance(2).fit(rng.normal(size=(30, 3)))
    detector.save(tmp_path / "detector.safetensors")
    new = rng.normal(size=(9, 3))
    loaded = ArcSineKernelDistance.load(tmp_path / "detector.safetensors")
    np.testing.assert_array_equal(loaded.score_samples(new), detector.score_samples(new))


@pytest.mark.parametrize(
    ("settings", "n", "message"),
    [
        ({"n_neighbors": 0}, 5, "n_neighbors=0"),
        ({"weight_variance": 0.0}, 5, "weight_variance is 0.0"),
        ({"bias_variance": float("nan")}, 5, "bias_variance nan"),
        ({}, 1, "at least 2"),
    ],
)
def test_wrong_parameters_and_too_few_samples_are_refused(settings, n, message, rng):
    with pytest.raises(DetectorError, match=message):
        ArcSineKernelDistance(**settings).fit(rng.normal(size=(n, 2)))
