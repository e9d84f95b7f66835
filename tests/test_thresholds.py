import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmad_utils.detector import DetectorError
from mmad_utils.thresholds import ConformalThreshold, PeaksOverThreshold, QuantileThreshold


def test_quantile_threshold_leaves_the_given_share_above(rng):
    scores = rng.normal(size=1000)
    assert QuantileThreshold(0.1).fit(scores).predict(scores).mean() == pytest.approx(0.1)


@given(n=st.integers(1, 60), alpha=st.floats(0.02, 0.9), seed=st.integers(0, 10_000))
def test_conformal_threshold_and_p_values_say_the_same(n, alpha, seed):
    rng = np.random.default_rng(seed)
    calibration, scores = rng.integers(0, 20, n).astype(float), rng.integers(-2, 22, 50).astype(float)
    threshold = ConformalThreshold(alpha).fit(calibration)
    np.testing.assert_array_equal(threshold.predict(scores), threshold.p_values(scores) <= alpha + 1e-9)
    direct = [(1 + np.sum(calibration >= score)) / (n + 1) for score in scores]
    np.testing.assert_allclose(threshold.p_values(scores), direct)


@given(alpha=st.sampled_from([0.02, 0.05, 0.1, 0.3]), n=st.integers(20, 200), seed=st.integers(0, 1000))
def test_conformal_false_alarm_rate_is_kept_for_any_law_of_scores(alpha, n, seed):
    rng = np.random.default_rng(seed)
    repeats = 2000
    scores = np.exp(3 * rng.standard_normal((repeats, n + 1)))  # heavy tails: no moments need exist
    alarms = [ConformalThreshold(alpha).fit(row[:-1]).predict(row[-1:])[0] for row in scores]
    assert np.sum(alarms) <= stats.binom.ppf(1 - 1e-6, repeats, alpha)


def test_benjamini_hochberg_keeps_the_false_discovery_rate_and_finds_more_than_bonferroni(rng):
    proportions, found, bonferroni = [], 0, 0
    for _ in range(200):
        threshold = ConformalThreshold(0.1, procedure="benjamini-hochberg").fit(rng.normal(size=2000))
        scores = np.concatenate([rng.normal(size=180), rng.normal(4, 1, size=20)])
        alarms = threshold.predict(scores)
        proportions.append(alarms[:180].sum() / max(alarms.sum(), 1))
        found += alarms[180:].sum()
        bonferroni += (threshold.p_values(scores) <= 0.1 / 200)[180:].sum()
    assert np.mean(proportions) <= 0.1 + 3 * np.std(proportions) / np.sqrt(200)
    assert found > 1.2 * bonferroni


def test_too_few_calibration_scores_never_alarm_rather_than_break_the_promise(rng):
    threshold = ConformalThreshold(0.01).fit(rng.normal(size=50))
    assert threshold.threshold_ == np.inf
    assert not threshold.predict([1e9]).any()


def test_peaks_over_threshold_extrapolates_beyond_the_data(rng):
    risk = 1e-4
    for law in (stats.norm, stats.expon, stats.t(4)):
        thresholds = [
            PeaksOverThreshold(risk).fit(law.rvs(size=2000, random_state=rng)).threshold_ for _ in range(10)
        ]
        true_risks = law.sf(thresholds)
        assert risk / 4 < np.median(true_risks) < risk * 4


def test_peaks_over_threshold_recovers_an_exact_pareto_tail(rng):
    scores = stats.genpareto.rvs(0.2, scale=2.0, size=200_000, random_state=rng)
    fitted = PeaksOverThreshold(1e-5, level=0.5).fit(scores)
    assert fitted.shape_ == pytest.approx(0.2, abs=0.02)
    assert fitted.threshold_ == pytest.approx(stats.genpareto.isf(1e-5, 0.2, scale=2.0), rel=0.1)


@pytest.mark.parametrize(
    ("threshold", "scores", "message"),
    [
        (QuantileThreshold(1.5), [1.0, 2.0], "contamination is 1.5"),
        (QuantileThreshold(), [], "at least 1 scores"),
        (QuantileThreshold(), [1.0, np.nan], "score 1 .* not finite"),
        (ConformalThreshold(0.0), [1.0], "alpha is 0.0"),
        (ConformalThreshold(procedure="bonferroni"), [1.0], "choose 'none' or 'benjamini-hochberg'"),
        (PeaksOverThreshold(risk=0.2), np.arange(99.0), r"risk must lie in \(0, 1 - level\)"),
        (PeaksOverThreshold(), np.arange(50.0), "only 5 of 50 scores lie in the tail"),
    ],
)
def test_impossible_arguments_are_one_clear_error(threshold, scores, message):
    with pytest.raises(DetectorError, match=message):
        threshold.fit(scores)


def test_peaks_over_threshold_predicts_what_lies_above_its_threshold(rng):
    threshold = PeaksOverThreshold(risk=1e-2).fit(rng.normal(size=1000))
    at = threshold.threshold_
    np.testing.assert_array_equal(threshold.predict([at - 1e-9, at, at + 1e-9]), [False, False, True])
