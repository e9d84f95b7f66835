import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.baselines import DistanceToCenter, KNNDistance, PCAResidual, RandomScore

DETECTORS = [
    RandomScore(random_state=0),
    *(DistanceToCenter(scaling=scaling) for scaling in ("none", "standard", "robust_arcsinh")),
    KNNDistance(),
    KNNDistance(method="mean"),
    PCAResidual(),
    PCAResidual(n_components=1),
]


def known_failures(detector):
    if isinstance(detector, RandomScore):
        reason = "its score is random: it depends on the place of a row in X, not on the row"
        return dict.fromkeys(("check_methods_subset_invariance", "check_methods_sample_order_invariance"), reason)
    if isinstance(detector, KNNDistance):
        reason = (
            "the check wants the contamination among the training samples scored as new ones; the threshold leaves "
            "each out of its own neighbours, as LocalOutlierFactor's does, which the check exempts"
        )
        return dict.fromkeys(("check_outliers_train", "check_outliers_fit_predict"), reason)
    return {}


@parametrize_with_checks(
    [DETECTORS[i] for i in (0, 3, 4, 6)], expected_failed_checks=known_failures, xfail_strict=False
)
def test_baselines_pass_the_estimator_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_a_saved_baseline_scores_and_predicts_the_same_after_loading(detector, rng, tmp_path):
    detector.fit(rng.normal(size=(60, 4)))
    detector.save(tmp_path / "detector.safetensors")
    loaded = type(detector).load(tmp_path / "detector.safetensors")
    X = rng.normal(size=(20, 4))
    np.testing.assert_array_equal(loaded.score_samples(X), detector.score_samples(X))
    np.testing.assert_array_equal(loaded.predict(X), detector.predict(X))
    assert loaded.get_params() == detector.get_params()


def test_random_scores_repeat_with_a_seed_differ_between_seeds_and_leave_the_global_generator_alone(rng):
    X = rng.normal(size=(200, 3))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (RandomScore(random_state=seed).fit(X).anomaly_score(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert abs(np.corrcoef(a, c)[0, 1]) < 0.25
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_standard_distance_is_the_mahalanobis_distance_with_a_diagonal_covariance(rng):
    X = rng.normal(3, [1, 5, 0.1], (100, 3))
    covariance = EmpiricalCovariance().fit(X)
    covariance.precision_ = np.diag(1 / np.diag(covariance.covariance_))
    detector = DistanceToCenter(scaling="standard").fit(X)
    np.testing.assert_allclose(detector.anomaly_score(X), covariance.mahalanobis(X), rtol=1e-10)


def test_unscaled_distance_is_the_squared_distance_to_the_mean(rng):
    X, new = rng.normal(size=(50, 3)), rng.normal(size=(10, 3))
    expected = cdist(new, X.mean(axis=0)[None], "sqeuclidean")[:, 0]
    np.testing.assert_allclose(DistanceToCenter(scaling="none").fit(X).anomaly_score(new), expected)


def test_robust_scaling_is_arcsinh_of_the_distance_to_the_median_in_interquartile_ranges():
    X = np.arange(9.0)[:, None]  # median 4, quartiles 2 and 6
    detector = DistanceToCenter(scaling="robust_arcsinh").fit(X)
    np.testing.assert_allclose(detector.anomaly_score([[4.0], [8.0]]), [0, np.arcsinh(1.0) ** 2])


@settings(max_examples=40)
@given(
    scale=st.floats(0.01, 100),
    shift=st.floats(-100, 100),
    scaling=st.sampled_from(["standard", "robust_arcsinh"]),
)
def test_scaled_distances_do_not_change_with_the_units_of_a_column(scale, shift, scaling):
    X = np.random.default_rng(0).normal(size=(50, 2))
    other = X * [scale, 1] + [shift, 0]
    scores = [DistanceToCenter(scaling=scaling).fit(data).anomaly_score(data) for data in (X, other)]
    np.testing.assert_allclose(*scores, rtol=1e-6)


@pytest.mark.parametrize("scaling", ["none", "standard", "robust_arcsinh"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_a_constant_column_adds_nothing_until_a_test_value_differs(scaling, value, rng):
    X = np.column_stack([rng.normal(size=99), np.full(99, value)])
    detector = DistanceToCenter(scaling=scaling).fit(X)
    usual, different = detector.anomaly_score([[X[:, 0].mean(), value], [X[:, 0].mean(), value + 1]])
    assert usual < 0.1
    assert 0.5 < different < 2


def test_a_column_that_is_mostly_one_value_is_scaled_by_its_standard_deviation():
    X = np.append(np.zeros(90), np.full(10, 5.0))[:, None]  # both quartiles are 0
    score = DistanceToCenter(scaling="robust_arcsinh").fit(X).anomaly_score([[5.0]])
    np.testing.assert_allclose(score, np.arcsinh(5.0 / X.std()) ** 2)


@pytest.mark.parametrize("method", ["largest", "mean"])
@pytest.mark.parametrize("k", [1, 5, 1000])
def test_neighbour_distances_equal_the_sorted_full_distance_matrix(method, k, rng):
    X, new = rng.normal(size=(40, 3)), rng.normal(size=(15, 3))
    nearest = np.sort(cdist(new, X), axis=1)[:, :k]
    expected = nearest[:, -1] if method == "largest" else nearest.mean(axis=1)
    np.testing.assert_allclose(KNNDistance(k, method=method).fit(X).anomaly_score(new), expected)


def test_the_neighbour_threshold_leaves_each_training_sample_out_and_so_keeps_the_false_alarm_rate(rng):
    X = rng.normal(size=(1000, 2))
    nearest = np.sort(cdist(X, X), axis=1)[:, 1:]  # without itself
    detector = KNNDistance(2, contamination=0.1).fit(X)
    assert detector.offset_ == pytest.approx(np.quantile(-nearest[:, 1], 0.1))
    assert (detector.predict(rng.normal(size=(5000, 2))) == -1).mean() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("cuts", [[], [1, 2, 50], range(20, 200, 20)])
def test_a_bounded_subset_of_a_stream_does_not_depend_on_how_it_is_cut(cuts, rng, tmp_path):
    X, new = rng.normal(size=(200, 3)), rng.normal(size=(20, 3))
    once = KNNDistance(max_samples=30, random_state=4).fit(X)
    stream = KNNDistance(max_samples=30, random_state=4)
    for batch in np.split(X, cuts):
        stream.partial_fit(batch)
        stream.save(tmp_path / "detector")
        stream = KNNDistance.load(tmp_path / "detector")
    np.testing.assert_array_equal(stream.X_, once.X_)
    assert stream.offset_ == once.offset_ and stream.n_samples_ == 200
    np.testing.assert_array_equal(once.anomaly_score(new), KNNDistance().fit(once.X_).anomaly_score(new))


def test_the_subset_is_drawn_uniformly_by_its_seed(rng):
    X = np.arange(100.0)[:, None]
    kept = np.array([KNNDistance(max_samples=20, random_state=seed).fit(X).X_[:, 0] for seed in range(200)])
    counts = np.bincount(kept.astype(int).ravel(), minlength=100)  # each binomial(200, 0.2): 40 ± 5.7
    assert all(len(set(rows)) == 20 for rows in kept) and counts.min() > 18 and counts.max() < 64


def test_a_stream_without_a_bound_equals_one_fit_also_after_a_file_of_an_earlier_version(rng):
    X, new = rng.normal(size=(60, 3)), rng.normal(size=(9, 3))
    old = KNNDistance.__new__(KNNDistance)
    old.set_state({"parameters": {"n_neighbors": 3}, "fitted": {"X_": X[:40], "n_features_in_": 3, "offset_": 0.0}})
    expected = KNNDistance(3).fit(X)
    for detector in (old, KNNDistance(3).partial_fit(X[:1]).partial_fit(X[1:40])):
        np.testing.assert_array_equal(detector.partial_fit(X[40:]).anomaly_score(new), expected.anomaly_score(new))
        assert detector.offset_ == expected.offset_


@pytest.mark.parametrize("n_components", [1, 3, 0.8, "mle"])
def test_pca_residual_is_the_squared_reconstruction_error_of_scikit_learn(n_components, rng):
    X = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    pca = PCA(n_components).fit(X)
    expected = np.square(X - pca.inverse_transform(pca.transform(X))).sum(axis=1)
    np.testing.assert_allclose(PCAResidual(n_components).fit(X).anomaly_score(X), expected, rtol=1e-6)


def test_pca_residual_sees_a_broken_relation_that_the_distance_to_the_center_cannot(rng):
    x = rng.normal(size=500)
    X = np.column_stack([x, x + 0.01 * rng.normal(size=500)])
    new = np.array([[3.0, 3.0], [0.5, -0.5]])  # far but in line; near but out of line
    far, broken = PCAResidual(1).fit(X).anomaly_score(new)
    assert broken > 100 * far
    far, broken = DistanceToCenter().fit(X).anomaly_score(new)
    assert broken < far


@pytest.mark.parametrize(
    "detector",
    [DistanceToCenter(scaling="cubic"), KNNDistance(0), KNNDistance(method="median"), KNNDistance(max_samples=1)],
    ids=str,
)
def test_a_wrong_parameter_is_named_with_the_choices(detector, rng):
    with pytest.raises(DetectorError, match=r"cubic|n_neighbors|max_samples=1"):
        detector.fit(rng.normal(size=(20, 2)))
