import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label
from sklearn import metrics as reference
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from mmad_utils import metrics
from mmad_utils.metrics import (
    Evaluation,
    MetricError,
    bootstrap_interval,
    evaluate,
    pixel_metrics,
    resize_maps,
)

NAMED = {
    "auroc": metrics.auroc,
    "average_precision": metrics.average_precision,
    "max_f1": lambda y, scores: metrics.max_f1(y, scores)[0],
    "f1_at_rate": metrics.f1_at_rate,
    "fpr95": metrics.fpr_at_tpr,
}


@st.composite
def labelled_scores(draw):
    """Labels of both classes and scores with heavy ties."""
    n = draw(st.integers(2, 40))
    y = draw(arrays(int, n, elements=st.integers(0, 1)).filter(lambda y: 0 < y.sum() < len(y)))
    return y, draw(arrays(float, n, elements=st.integers(0, 6).map(float)))


@st.composite
def masks_and_maps(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(2, 9)))
    masks = draw(arrays(bool, shape).filter(lambda masks: masks.any() and not masks.all()))
    levels = draw(st.sampled_from([3, 1000]))  # heavy ties, hardly any
    kind = draw(st.sampled_from([np.float32, np.float64]))
    return masks, draw(arrays(int, shape, elements=st.integers(0, levels))).astype(kind) / 7


# ---------------------------------------------------------------------------------------------- samples


@settings(max_examples=50)
@given(labelled_scores())
def test_curve_metrics_equal_their_definition_over_all_thresholds(sample):
    y, scores = sample
    f1s = {t: 2 * (scores[y == 1] >= t).sum() / ((scores >= t).sum() + y.sum()) for t in np.unique(scores)}
    best, threshold = metrics.max_f1(y, scores)
    assert best == pytest.approx(max(f1s.values()))
    assert metrics.max_f1(y, scores > 3) == metrics.max_f1(y, (scores > 3).astype(float))
    assert f1s[threshold] == pytest.approx(best)
    false_alarms = [
        (scores[y == 0] >= threshold).mean()
        for threshold in np.unique(scores)
        if (scores[y == 1] >= threshold).mean() >= 0.95
    ]
    assert metrics.fpr_at_tpr(y, scores, 0.95) == pytest.approx(min(false_alarms))


@settings(max_examples=50)
@given(labelled_scores())
def test_auroc_and_average_precision_equal_scikit_learn(sample):
    assert metrics.auroc(*sample) == pytest.approx(reference.roc_auc_score(*sample))
    assert metrics.average_precision(*sample) == pytest.approx(reference.average_precision_score(*sample))


@settings(max_examples=20)
@given(labelled_scores(), st.integers(0, 2**32 - 1))
def test_no_metric_depends_on_the_order_of_the_samples(sample, seed):
    y, scores = sample
    order = np.random.default_rng(seed).permutation(len(y))
    for metric in NAMED.values():
        assert metric(y, scores) == pytest.approx(metric(y[order], scores[order]))


def test_f1_at_the_true_rate_is_the_mean_over_random_breaking_of_ties():
    y, scores = np.array([1, 0, 1, 0, 0, 1, 0]), np.array([3.0, 2, 2, 2, 1, 1, 0])
    rng, f1s = np.random.default_rng(0), []
    for _ in range(4000):
        chosen = np.lexsort([rng.random(7), -scores])[:3]  # as many alarms as anomalies
        f1s.append(y[chosen].mean())  # precision, recall and F1 are one number then
    assert metrics.f1_at_rate(y, scores) == pytest.approx((1 + 2 / 3) / 3)  # 1 sure, 2 of the 3 tied
    assert metrics.f1_at_rate(y, scores) == pytest.approx(np.mean(f1s), abs=0.01)
    assert metrics.f1_at_rate(y, np.ones(7)) == pytest.approx(3 / 7)


def test_confusion_and_f1_of_a_hand_worked_case():
    y, alarms = [0, 0, 0, 1, 1], [False, True, False, True, False]
    np.testing.assert_array_equal(metrics.confusion(y, alarms), [[2, 1], [1, 1]])
    assert metrics.f1_score(y, alarms) == 0.5
    assert metrics.f1_score(y, [False] * 5) == 0.0
    np.testing.assert_array_equal(metrics.confusion([0, 0], [0, 0]), [[2, 0], [0, 0]])


def test_all_anomalies_are_found_only_below_the_lowest_of_them():
    y, scores = np.array([0, 0, 1, 0, 1]), np.arange(5.0)
    assert metrics.fpr_at_tpr(y, scores, 1) == 1 / 3 and metrics.fpr_at_tpr(y, scores, 0.5) == 0


# -------------------------------------------------------------------------------------------- bootstrap


@settings(max_examples=15)
@given(labelled_scores(), st.sampled_from(sorted(NAMED)), st.integers(0, 1000))
def test_the_vectorised_bootstrap_equals_the_metric_of_each_resample(sample, name, seed):
    by_name = bootstrap_interval(name, *sample, n_resamples=10, random_state=seed)
    by_function = bootstrap_interval(NAMED[name], *sample, n_resamples=10, random_state=seed)
    np.testing.assert_allclose(by_name, by_function, rtol=1e-10)


def test_resamples_in_several_batches_are_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr(metrics, "CELLS", 100)
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [30, 15])
    scores, values = rng.normal(y), []
    for name, metric in NAMED.items():
        values.clear()
        by_function = bootstrap_interval(
            lambda y, scores, metric=metric: values.append(metric(y, scores)) or values[-1], y, scores, n_resamples=7
        )
        assert bootstrap_interval(name, y, scores, n_resamples=7) == pytest.approx(by_function)
        assert len(values) == 7


def test_the_interval_ends_at_the_quantiles_of_a_thousand_resamples_of_seed_zero():
    y, scores, numbers = np.array([0, 1]), np.array([0.0, 1.0]), iter(range(10_000))
    assert bootstrap_interval(lambda y, scores: next(numbers), y, scores) == pytest.approx((24.975, 974.025))
    assert next(numbers) == 1000
    assert bootstrap_interval(lambda y, scores: next(numbers), y, scores, level=0.8, n_resamples=101) == (1011, 1091)
    y, scores = np.repeat([0, 1], 20), np.random.default_rng(0).normal(size=40)
    assert bootstrap_interval("auroc", y, scores) == bootstrap_interval("auroc", y, scores, random_state=0)


def test_resamples_keep_the_number_of_anomalies():
    y, seen = np.repeat([0, 1], [30, 3]), set()
    bootstrap_interval(lambda y, scores: seen.add(int(y.sum())) or 0.0, y, np.arange(33.0), n_resamples=50)
    assert seen == {3}


def test_the_interval_covers_the_true_auroc_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    y, truth = np.repeat([0, 1], [80, 60]), 0.7602499389065233  # normal distribution at 1/sqrt(2)
    covered = []
    for i in range(200):
        low, high = bootstrap_interval("auroc", y, rng.normal(y, 1.0), n_resamples=300, level=0.9, random_state=i)
        covered.append(low <= truth <= high)
    assert 0.84 <= np.mean(covered) <= 0.96


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [50, 20])
    scores = rng.normal(y)
    first, again, other = (bootstrap_interval("auroc", y, scores, random_state=seed) for seed in (1, 1, 2))
    assert first == again != other


# ----------------------------------------------------------------------------------------------- pixels


def slow_aupro(masks, maps, max_fpr):
    """The definition: one point per threshold, a share per region, the trapezoid rule up to max_fpr."""
    regions = [
        (i, labels == k)
        for i, labels in enumerate(label(mask, connectivity=2) for mask in masks)
        for k in range(1, labels.max() + 1)
    ]
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        fpr.append((maps[~masks] >= threshold).mean())
        pro.append(np.mean([(maps[i][region] >= threshold).mean() for i, region in regions]))
    end = np.interp(max_fpr, fpr, pro)  # at equal fpr: the last, which is the highest
    inside = np.array(fpr) <= max_fpr
    return np.trapezoid([*np.array(pro)[inside], end], [*np.array(fpr)[inside], max_fpr]) / max_fpr


@settings(max_examples=100)
@given(masks_and_maps(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_pixel_metrics_equal_slow_direct_ones_ties_or_not(sample, max_fpr):
    masks, maps = sample
    result = pixel_metrics(masks, maps, max_fpr=max_fpr)
    y, scores = masks.ravel(), maps.ravel()
    assert result["pixel_auroc"] == pytest.approx(reference.roc_auc_score(y, scores))
    assert result["pixel_average_precision"] == pytest.approx(reference.average_precision_score(y, scores))
    assert result["aupro"] == pytest.approx(slow_aupro(masks, maps, max_fpr), abs=1e-12)


def test_pixel_metrics_of_float32_noise_equal_scikit_learn():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(4, 64, 64)).astype(np.float32)
    masks = rng.random((4, 64, 64)) < 0.1
    result = pixel_metrics(masks, maps + masks)
    scores = (maps + masks).ravel()
    assert result["pixel_auroc"] == pytest.approx(reference.roc_auc_score(masks.ravel(), scores), rel=1e-12)
    expected = reference.average_precision_score(masks.ravel(), scores)
    assert result["pixel_average_precision"] == pytest.approx(expected, rel=1e-12)


def test_aupro_weighs_each_region_alike_where_pixel_auroc_weighs_each_pixel():
    masks, maps = np.zeros((1, 20, 20), bool), np.zeros((1, 20, 20))
    masks[0, :10, :10] = True  # a large region, found
    masks[0, 15, 15] = True  # a small one, missed
    maps[0, :10, :10] = 1
    missed = -1.0
    maps[0, 15, 15] = missed
    result = pixel_metrics(masks, maps)
    assert result["aupro"] == pytest.approx(0.5)
    assert result["pixel_auroc"] == pytest.approx(100 / 101)


def test_pixels_that_touch_at_a_corner_are_one_region():
    diagonal = np.eye(3, dtype=bool)[None]
    maps = np.where(diagonal, 1.0, 0.0)
    maps[0, 2, 2] = -1
    assert metrics.aupro(diagonal, maps) == pytest.approx(2 / 3)  # three regions would give the same
    joined = np.concatenate([diagonal, np.zeros((1, 3, 3), bool)])
    joined[1, 0, 0] = True
    scores = np.concatenate([maps, np.where(joined[1:], 1.0, 0.0)])
    assert metrics.aupro(joined, scores) == pytest.approx((2 / 3 + 1) / 2)  # four regions would give 3/4


def test_a_perfect_map_scores_one_a_constant_map_a_half_and_aupro_of_a_constant_map_half_of_max_fpr():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2:4, 2:4] = True
    assert all(value == pytest.approx(1) for value in pixel_metrics(masks, masks.astype(float)).values())
    constant = pixel_metrics(masks, np.ones(masks.shape), max_fpr=0.3)
    assert constant["pixel_auroc"] == 0.5
    assert constant["aupro"] == pytest.approx(0.15)
    assert metrics.pixel_auroc(masks, np.ones(masks.shape)) == 0.5


def test_pixel_metrics_leave_their_input_as_it_was():
    rng = np.random.default_rng(0)
    masks, maps = rng.random((2, 9, 9)) < 0.3, rng.random((2, 9, 9)).astype(np.float32)
    before = masks.copy(), maps.copy()
    pixel_metrics(masks, maps)
    np.testing.assert_array_equal(masks, before[0])
    np.testing.assert_array_equal(maps, before[1])


@settings(max_examples=30)
@given(st.integers(2, 9), st.integers(2, 9))
def test_enlarged_maps_keep_a_linear_ramp_inside_and_never_leave_the_range(height, factor):
    ramp = np.tile(np.arange(height, dtype=np.float32)[:, None], (1, 3))[None]
    large = resize_maps(ramp, (height * factor, 3))
    centres = (np.arange(height * factor) + 0.5) / factor - 0.5  # half-pixel centres, no shift
    np.testing.assert_allclose(large[0, :, 1], np.clip(centres, 0, height - 1), atol=1e-5)
    assert large.dtype == np.float32


# ------------------------------------------------------------------------------------------- evaluation


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [200, 40])
    return types.SimpleNamespace(
        X_train=rng.normal(size=(300, 3)),
        X_test=rng.normal(size=(240, 3)) + 2 * y[:, None],
        y_test=y,
        masks_test=None,
    )


@pytest.mark.parametrize(
    "estimator",
    [
        IsolationForest(random_state=0),
        IsolationForest(contamination=0.1, random_state=0),
        LocalOutlierFactor(novelty=True),
        OneClassSVM(nu=0.1),
        EllipticEnvelope(random_state=0),
        make_pipeline(StandardScaler(), OneClassSVM(nu=0.1)),
        make_pipeline(StandardScaler(), LocalOutlierFactor(novelty=True, contamination=0.05)),
    ],
    ids=str,
)
def test_predictions_equal_the_estimators_own(estimator, dataset):
    evaluation = evaluate(estimator.fit(dataset.X_train), dataset)
    alarms = estimator.predict(dataset.X_test) == -1
    assert 0 < alarms.sum() < len(alarms)
    np.testing.assert_array_equal(evaluation.predictions, alarms)
    np.testing.assert_array_equal(evaluation.scores > evaluation.threshold, alarms)
    assert evaluation.f1 == pytest.approx(reference.f1_score(dataset.y_test, alarms))
    assert evaluation.auroc > 0.8


@pytest.mark.parametrize(
    "estimator", [KernelDensity(), GaussianMixture(2), make_pipeline(StandardScaler(), KernelDensity())]
)
def test_an_estimator_without_threshold_has_metrics_of_ranking_only(estimator, dataset):
    evaluation = evaluate(estimator.fit(dataset.X_train), dataset)
    assert evaluation.predictions is evaluation.threshold is evaluation.f1 is evaluation.confusion is None
    assert evaluation.auroc > 0.8
    assert "f1" not in evaluation.as_row()
    with pytest.raises(MetricError, match="no threshold"):
        evaluation.interval("f1")


def test_an_evaluation_is_named_after_the_last_step_of_a_pipeline(dataset):
    pipeline = make_pipeline(StandardScaler(), OneClassSVM()).fit(dataset.X_train)
    assert evaluate(pipeline, dataset).name == "OneClassSVM"
    longer = make_pipeline(StandardScaler(), StandardScaler(), OneClassSVM()).fit(dataset.X_train)
    evaluation = evaluate(longer, dataset)
    assert evaluation.name == "OneClassSVM" and evaluation.threshold == -longer[-1].offset_.item()
    assert evaluation.y.dtype == np.int64
    assert evaluate(pipeline, dataset, name="mine").name == "mine"


def test_a_row_and_its_intervals_agree_with_the_functions(dataset):
    evaluation = evaluate(IsolationForest(random_state=0).fit(dataset.X_train), dataset)
    row = evaluation.as_row()
    assert list(row) == ["name", "auroc", "average_precision", "f1", "max_f1", "f1_at_rate", "fpr95"]
    for name, metric in NAMED.items():
        assert row[name] == metric(dataset.y_test, evaluation.scores)
    for name in [*NAMED, "f1"]:
        options = {"n_resamples": 200, "random_state": 3}
        metric, of = (metrics.f1_score, evaluation.predictions) if name == "f1" else (name, evaluation.scores)
        low, high = evaluation.interval(name, **options)
        assert (low, high) == bootstrap_interval(metric, dataset.y_test, of, **options)
        assert low <= row[name] <= high


class Localiser:
    """Scores and maps that a test hands in."""

    def __init__(self, maps):
        self.maps = maps

    def score_samples(self, X):
        return -self.maps.max(axis=(1, 2))

    def anomaly_map(self, X):
        return self.maps


@pytest.fixture
def image_dataset():
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 32, 32), bool)
    masks[3:, 8:16, 8:16] = True
    maps = (masks[:, ::4, ::4] + 0.3 * rng.random((6, 8, 8))).astype(np.float32)
    y = masks.any(axis=(1, 2)).astype(int)
    return types.SimpleNamespace(X_test=np.zeros((6, 32, 32, 3), np.uint8), y_test=y, masks_test=masks), maps


def test_small_maps_are_enlarged_to_the_masks_and_measured_at_full_resolution(image_dataset):
    dataset, maps = image_dataset
    evaluation = evaluate(Localiser(maps), dataset)
    assert evaluation.maps.shape == dataset.masks_test.shape
    assert evaluation.pixel == pixel_metrics(dataset.masks_test, resize_maps(maps, (32, 32)))
    assert evaluation.as_row()["aupro"] == evaluation.pixel["aupro"] > 0.8


def test_maps_can_be_left_out_given_or_insisted_on(image_dataset, dataset):
    images, maps = image_dataset
    without = evaluate(Localiser(maps), images, maps=False)
    assert without.pixel is without.maps is without.masks is None
    assert evaluate(Localiser(maps), images, maps=True).pixel == evaluate(Localiser(maps), images).pixel is not None
    assert evaluate(Localiser(maps), images, maps=-maps).pixel["pixel_auroc"] < 0.2
    forest = IsolationForest(n_estimators=2).fit(dataset.X_train)
    with pytest.raises(MetricError, match=r"^maps=True, but the data set has no masks"):
        evaluate(forest, dataset, maps=True)
    with pytest.raises(MetricError, match=r"^Maps were given, but the data set has no masks. Omit maps.$"):
        evaluate(forest, dataset, maps=maps)
    with pytest.raises(MetricError, match=r"^maps=True, but IsolationForest has no anomaly_map"):
        evaluate(forest, images, maps=True)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("y", "scores", "message"),
    [
        ([0, 0], [1, 2], r"^All 2 labels are 0: .* so the test set needs both\. Use another split\.$"),
        ([0], [1], "^All 1 labels are 0"),
        ([1, 1], [1, 2], "All 2 labels are 1"),
        ([], [], r"^There are no samples\. Give at least one normal sample and one anomaly\.$"),
        ([0, 1, 1], [1, np.nan, 2], r"score of sample 1 is nan.* a diverged loss or .* gives such scores\.$"),
        ([0, 1, 1], [1, 2, np.inf], "score of sample 2 is inf"),
        ([0, 1], [1, 2, 3], "one score per sample"),
        ([0, 1], [[1], [2]], "one score per sample"),
        ([-1, 1], [1, 2], r"^y must be .* For \+1/-1 pass \(y == -1\)\.$"),
    ],
)
def test_unusable_labels_or_scores_are_refused_with_the_remedy(y, scores, message):
    for metric in [*NAMED.values(), lambda y, scores: bootstrap_interval("auroc", y, scores)]:
        with pytest.raises(MetricError, match=message):
            metric(np.array(y, int), np.array(scores, float))


def test_unusable_predictions_are_refused_with_the_remedy():
    with pytest.raises(MetricError, match=r"^predictions are .* For a detector pass predict\(X\) == -1\.$"):
        metrics.confusion([0, 1], [1, -1])
    with pytest.raises(MetricError, match="one per sample"):
        metrics.confusion([0, 1], [True])
    with pytest.raises(MetricError, match="both"):
        metrics.f1_score([0, 0], [True, False])
    with pytest.raises(MetricError, match="Choose one of auroc, average_precision, max_f1"):
        bootstrap_interval("accuracy", [0, 1], [0.0, 1.0])
    for tpr in (0, 1.5, 95):
        with pytest.raises(MetricError, match=f"tpr is {tpr}. Give a share in"):
            metrics.fpr_at_tpr([0, 1], [0.0, 1.0], tpr)


def test_unusable_masks_or_maps_are_refused_with_the_remedy():
    masks, maps = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), np.float32)
    with pytest.raises(MetricError, match="All pixels of the 2 masks are normal"):
        pixel_metrics(masks, maps)
    with pytest.raises(MetricError, match="are anomalous"):
        pixel_metrics(~masks, maps)
    masks[0, 0, 0] = True
    with pytest.raises(MetricError, match="resize_maps"):
        pixel_metrics(masks, maps[:, :2])
    with pytest.raises(MetricError, match="Give bool"):
        pixel_metrics(masks.astype(np.uint8), maps)
    with pytest.raises(MetricError, match="max_fpr"):
        pixel_metrics(masks, maps, max_fpr=30)
    maps[1, 2, 3] = np.nan
    with pytest.raises(MetricError, match="Map 1"):
        pixel_metrics(masks, maps)


def test_one_class_only_in_the_test_set_is_refused_before_any_scoring(dataset):
    class Untouched:
        def score_samples(self, X):
            raise AssertionError("scored")

    normal_only = types.SimpleNamespace(X_test=dataset.X_test[:5], y_test=dataset.y_test[:5], masks_test=None)
    with pytest.raises(MetricError, match="All 5 labels are 0"):
        evaluate(Untouched(), normal_only)


def test_an_estimator_that_cannot_score_new_samples_is_refused_with_the_remedy(dataset):
    with pytest.raises(MetricError, match="novelty=True"):
        evaluate(LocalOutlierFactor().fit(dataset.X_train), dataset)


def test_an_evaluation_with_a_nan_score_cannot_be_made():
    with pytest.raises(MetricError, match="nan"):
        Evaluation("broken", np.array([0, 1]), np.array([0.0, np.nan]))


def test_maps_of_any_float_type_give_the_metrics_of_float32(rng):
    masks = rng.random((3, 8, 8)) < 0.2
    maps = rng.random((3, 8, 8)).astype(np.float16)
    assert pixel_metrics(masks, maps) == pixel_metrics(masks, maps.astype(np.float32))


def test_maps_of_a_data_set_without_masks_are_refused(dataset):
    with pytest.raises(MetricError, match="the data set has no masks"):
        evaluate(IsolationForest(n_estimators=2).fit(dataset.X_train), dataset, maps=np.zeros((1, 2, 2)))
