import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmad_utils.detector import DetectorError
from mmad_utils.thresholds import ConformalThreshold, PeaksOverThreshold, QuantileThreshold, TailProbability


def test_quantile_threshold_leaves_the_given_share_above(rng):
    scores = rng.normal(size=1000)
    assert QuantileThreshold(0.1).fit(scores).predict(scores).mean() == pytest.approx(0.1)


def test_a_score_equal_to_the_threshold_is_no_alarm():
    quantile = QuantileThreshold(0.5).fit([1.0, 2.0, 3.0])
    peaks = PeaksOverThreshold().fit(np.arange(101.0))
    for threshold in (quantile, peaks):
        assert threshold.predict([threshold.threshold_, threshold.threshold_ + 1e-6]).tolist() == [False, True]


@given(n=st.integers(1, 60), alpha=st.floats(0.02, 0.9), seed=st.integers(0, 10_000))
def test_conformal_threshold_and_p_values_say_the_same(n, alpha, seed):
    rng = np.random.default_rng(seed)
    calibration, scores = rng.integers(0, 20, n).astype(float), rng.integers(-2, 22, 50).astype(float)
    threshold = ConformalThreshold(alpha).fit(calibration)
    np.testing.assert_array_equal(threshold.predict(scores), threshold.p_values(scores) <= alpha + 1e-9)
    direct = [(1 + np.sum(calibration >= score)) / (n + 1) for score in scores]
    np.testing.assert_allclose(threshold.p_values(scores), direct)


@settings(max_examples=20)
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


def test_conformal_thresholds_of_nineteen_scores_by_hand():
    scores = np.arange(1, 20, dtype=np.float32)
    fitted = ConformalThreshold(0.05).fit(scores)
    assert fitted.threshold_ == 19 and fitted.calibration_.dtype == np.float64
    assert fitted.predict([19.0, 19.5]).tolist() == [False, True]
    np.testing.assert_allclose(fitted.p_values([19.5, 19.0, 10.0, 0.0]), [1 / 20, 2 / 20, 11 / 20, 1])
    assert ConformalThreshold(0.1).fit(scores).threshold_ == 18
    assert ConformalThreshold(0.05).fit(scores[:18]).threshold_ == np.inf
    together = ConformalThreshold(0.1, "benjamini-hochberg").fit(scores)
    # of the p-values 1/20, 1/20, 3/20, 1 the third is above 3/4 of 0.1, the second at 2/4 of 0.1
    assert together.predict([30.0, 0.0, 18.0, 20.0]).tolist() == [True, False, False, True]
    assert not hasattr(together, "threshold_")
    assert QuantileThreshold().fit(np.arange(101)).threshold_ == pytest.approx(95)


def test_too_few_calibration_scores_never_alarm_because_the_nominal_rate_cannot_be_held(rng):
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


def test_peaks_over_threshold_solves_its_equation_for_at_least_ten_excesses():
    fitted = PeaksOverThreshold(0.01).fit(np.arange(101.0))
    assert fitted.tail_start_ == 90  # above it lie ten scores
    shape, _, scale = stats.genpareto.fit(np.arange(1.0, 11.0), floc=0)
    expected = 90 + scale / shape * ((0.01 * 101 / 10) ** -shape - 1)  # Siffer et al. (2017), eq. 1
    assert fitted.threshold_ == pytest.approx(expected)


def test_tail_probability_is_minus_the_log_of_the_rank_linear_between_and_beyond_the_scores(rng):
    scores = np.arange(40.0) ** 2
    tail = TailProbability().fit(rng.permutation(scores))
    at_ranks = -np.log(np.arange(40, 0, -1) / 41)
    np.testing.assert_allclose(tail.transform(scores), at_ranks)
    between = (scores[1:] + scores[:-1]) / 2
    np.testing.assert_allclose(tail.transform(between), (at_ranks[1:] + at_ranks[:-1]) / 2)
    excess = np.mean(scores[-4:] - scores[-4])  # of the largest tenth
    beyond = [scores[0] - excess, scores[-1] + 2 * excess]
    np.testing.assert_allclose(tail.transform(beyond), [at_ranks[0] - 1, at_ranks[-1] + 2])
    np.testing.assert_array_equal(tail.p_values(between), ConformalThreshold().fit(scores).p_values(between))
    restored = TailProbability()
    restored.set_state(tail.get_state())
    np.testing.assert_array_equal(restored.transform(beyond), tail.transform(beyond))


@pytest.mark.parametrize(
    ("scores", "scale"),
    [([0.0, 1.0, 3.0], 1.0), ([0.0, 5.0, 5.0], 5.0), ([2.0, 2.0], 1.0)],
    ids=["the mean excess of two scores", "the range where these are equal", "one where all are equal"],
)
def test_the_scale_of_the_tail_is_positive(scores, scale):
    tail = TailProbability().fit(scores)
    highest = np.sum(np.array(scores) == max(scores))
    assert tail.scale_ == scale
    assert tail.transform([max(scores)]) == pytest.approx(-np.log(highest / (len(scores) + 1)))


@pytest.mark.parametrize(
    ("threshold", "scores", "message"),
    [
        (QuantileThreshold(1.5), [1.0, 2.0], "contamination is 1.5"),
        (QuantileThreshold(0.0), [1.0, 2.0], "contamination is 0.0"),
        (QuantileThreshold(1.0), [1.0, 2.0], "contamination is 1.0"),
        (QuantileThreshold(), [], "at least 1 scores"),
        (QuantileThreshold(), [1.0, np.nan], "score 1 .* not finite"),
        (QuantileThreshold(), [[1.0, 2.0]], r"got shape \(1, 2\)"),
        (ConformalThreshold(0.0), [1.0], "alpha is 0.0"),
        (ConformalThreshold(1.0), [1.0], "alpha is 1.0"),
        (ConformalThreshold(procedure="bonferroni"), [1.0], "choose 'none' or 'benjamini-hochberg'"),
        (PeaksOverThreshold(risk=0.2), np.arange(99.0), r"risk must lie in \(0, 1 - level\)"),
        (PeaksOverThreshold(risk=0.0), np.arange(99.0), r"risk 0\.0 and level 0\.9: risk must"),
        (PeaksOverThreshold(risk=0.25, level=0.75), np.arange(99.0), "risk 0.25 and level 0.75"),
        (PeaksOverThreshold(level=0.0), np.arange(99.0), "level 0.0"),
        (PeaksOverThreshold(level=-0.5), np.arange(99.0), "level -0.5"),
        (PeaksOverThreshold(), np.arange(50.0), "only 5 of 50 scores lie .* fit it: give more normal .* the level"),
        (PeaksOverThreshold(), [1.0], "only 0 of 1 scores"),
        (PeaksOverThreshold(), [], "at least 1 scores"),
        (TailProbability(), [1.0], "at least 2 scores"),
    ],
)
def test_impossible_arguments_are_one_clear_error(threshold, scores, message):
    with pytest.raises(DetectorError, match=message):
        threshold.fit(scores)


def test_the_tail_is_interpolated_between_calibration_scores_and_continued_beyond_them(rng):
    calibration = np.round(rng.normal(size=300), 1)  # with ties
    tail = TailProbability().fit(calibration)
    scores = np.concatenate([rng.normal(size=200), tail.calibration_, [-9.0, 9.0]])
    p = np.array([(1 + (calibration >= score).sum()) / 301 for score in scores])
    knots = np.unique(calibration)
    curve = np.interp(scores, knots, [-np.log((calibration >= knot).sum() / 301) for knot in knots])
    beyond = scores - np.clip(scores, knots[0], knots[-1])
    np.testing.assert_array_equal(tail.p_values(scores), p)
    np.testing.assert_allclose(tail.transform(scores), curve + beyond / tail.scale_, atol=1e-12)
    np.testing.assert_array_equal(TailProbability().fit([2.0, 2.0]).p_values([1.0, 2.0, 3.0]), [1, 1, 1 / 3])


def test_peaks_over_threshold_predicts_what_lies_above_its_threshold(rng):
    threshold = PeaksOverThreshold(risk=1e-2).fit(rng.normal(size=1000))
    at = threshold.threshold_
    np.testing.assert_array_equal(threshold.predict([at - 1e-9, at, at + 1e-9]), [False, False, True])
