import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance, LedoitWolf

from mmad_utils.detector import DetectorError
from mmad_utils.detectors import gaussian
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer, GaussianStatistics

ESTIMATORS = {"ledoit_wolf": LedoitWolf, "empirical": EmpiricalCovariance}


@pytest.fixture
def rows(rng):
    return rng.exponential(size=(300, 6)) @ rng.normal(size=(6, 6)) + 50


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_covariances_are_those_of_scikit_learn(rows, estimator):
    for X in (rows, rows[:5]):
        expected = ESTIMATORS[estimator]().fit(X)
        statistics = GaussianStatistics.of(X)
        assert relative(statistics.mean, expected.location_) < 1e-12
        assert relative(statistics.covariance(estimator), expected.covariance_) < 1e-9


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_twenty_batches_equal_one_fit(rows, estimator):
    once, daily = GaussianAnomalyScorer(estimator).fit(rows), GaussianAnomalyScorer(estimator)
    for batch in np.array_split(rows, 20):
        daily.partial_fit(batch)
    assert relative(daily.mean_, once.mean_) < 1e-12
    assert relative(daily.cholesky_, once.cholesky_) < 1e-10
    np.testing.assert_allclose(daily.anomaly_score(rows), once.anomaly_score(rows), rtol=1e-10)


@pytest.mark.parametrize("half_life", [None, 5, 0.1])  # of the last, the first weights are 0
def test_rows_that_are_worked_on_in_parts_change_nothing(rows, half_life, monkeypatch):
    fitted = GaussianAnomalyScorer(half_life=half_life, regularization=1e-3).fit(rows)
    scores = fitted.anomaly_score(rows)
    monkeypatch.setattr(gaussian, "LEAST_ROWS", 16)
    monkeypatch.setattr(gaussian, "CHUNK_ELEMENTS", 100)
    parts = GaussianAnomalyScorer(half_life=half_life, regularization=1e-3).fit(rows)
    assert relative(parts.cholesky_, fitted.cholesky_) < 1e-10
    np.testing.assert_allclose(parts.anomaly_score(rows), scores, rtol=1e-10)


def test_merged_statistics_equal_statistics_of_the_whole(rows):
    whole = GaussianAnomalyScorer().fit(rows)
    merged = GaussianAnomalyScorer().fit(rows[:40]).merge(GaussianAnomalyScorer().fit(rows[40:]))
    np.testing.assert_allclose(merged.anomaly_score(rows), whole.anomaly_score(rows), rtol=1e-10)
    with pytest.raises(DetectorError, match="cannot merge 3 columns into 6"):
        whole.merge(GaussianAnomalyScorer().fit(rows[:, :3]))


def test_fading_weights_do_not_depend_on_how_the_stream_is_cut(rows):
    weights = 0.5 ** (np.arange(len(rows))[::-1] / 30)
    expected = np.cov(rows.T, aweights=weights, ddof=0)
    for parts in (1, 7, 20):
        scorer = GaussianAnomalyScorer("empirical", half_life=30)
        for batch in np.array_split(rows, parts):
            scorer.partial_fit(batch)
        assert relative(scorer.statistics_.covariance("empirical"), expected) < 1e-10


def test_a_scorer_that_forgets_follows_a_drift(rng):
    stream = rng.normal(size=(2000, 3)) + np.linspace(0, 8, 2000)[:, None]
    new = rng.normal(size=(200, 3)) + 8
    scores = []
    for half_life in (None, 100):
        scorer = GaussianAnomalyScorer(half_life=half_life)
        for batch in np.array_split(stream, 20):
            scorer.partial_fit(batch)
        scores.append(np.median(scorer.anomaly_score(new)))
    assert scores[1] < 0.8 * scores[0] or scores[1] < 2.0
    assert np.linalg.norm(scorer.mean_ - 8) < 2


def test_gradient_divides_the_squared_distance(rows):
    scorer = GaussianAnomalyScorer().fit(rows)
    shares = scorer.gradient(rows) * (rows - scorer.mean_)
    np.testing.assert_allclose(shares.sum(1), scorer.anomaly_score(rows) ** 2, rtol=1e-9)


def test_log_density_is_that_of_scipy(rows):
    from scipy.stats import multivariate_normal

    scorer = GaussianAnomalyScorer().fit(rows)
    expected = multivariate_normal(scorer.mean_, scorer.statistics_.covariance("ledoit_wolf")).logpdf(rows)
    np.testing.assert_allclose(scorer.log_density(rows), expected, rtol=1e-9)


def test_a_half_life_of_nothing_is_refused(rows):
    with pytest.raises(DetectorError, match="half_life is 0"):
        GaussianAnomalyScorer(half_life=0).fit(rows)
