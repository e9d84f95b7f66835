import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.detectors.positionwise_gaussian import PositionwiseGaussian


def reference_distances(train, test, regularization):
    """A loop over positions in float64: np.cov and an explicit inverse."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    columns = []
    for p in range(train.shape[1]):
        covariance = np.cov(train[:, p], rowvar=False) + regularization * np.eye(train.shape[2])
        delta = test[:, p] - train[:, p].mean(0)
        columns.append(np.sqrt(np.einsum("nd,de,ne->n", delta, np.linalg.inv(covariance), delta)))
    return np.stack(columns, axis=1)


def relative_error(found, expected):
    return np.max(np.abs(found / expected - 1))


@parametrize_with_checks([GaussianAnomalyScorer(), GaussianAnomalyScorer(covariance="empirical")])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_scorer_is_the_mahalanobis_distance_of_scipy(rng):
    X, new = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(5, 4))
    estimate = LedoitWolf().fit(X)
    expected = [mahalanobis(x, estimate.location_, estimate.precision_) for x in new]
    np.testing.assert_allclose(GaussianAnomalyScorer().fit(X).anomaly_score(new), expected, rtol=1e-9)


def test_scorer_names_the_remedy_for_a_singular_covariance(rng):
    X = rng.normal(size=(20, 3))
    X[:, 2] = 0
    with pytest.raises(DetectorError, match="ledoit_wolf"):
        GaussianAnomalyScorer(covariance="empirical").fit(X)
    with pytest.raises(DetectorError, match="give one of"):
        GaussianAnomalyScorer(covariance="oas").fit(X)


@settings(max_examples=60)
@given(
    n=st.integers(2, 24),
    d=st.integers(1, 16),
    cuts=st.lists(st.integers(1, 23), max_size=4),
    offset=st.sampled_from([0.0, 5.0, -300.0]),
    seed=st.integers(0, 2**20),
)
def test_statistics_in_any_batches_are_those_of_numpy(n, d, cuts, offset, seed):
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(n, 3, d)) + offset).astype(np.float32)
    model = PositionwiseGaussian(0.01)
    for batch in np.split(X, sorted({cut for cut in cuts if cut < n})):
        model.partial_fit(batch)
    assert model.n_samples_ == n
    np.testing.assert_allclose(model.mean_, X.astype(np.float64).mean(0), rtol=1e-6, atol=1e-6)
    for p in range(3):
        expected = np.cov(X[:, p].astype(np.float64), rowvar=False).reshape(d, d) + 0.01 * np.eye(d)
        np.testing.assert_allclose(model.covariance_[p], expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 14), min_size=2, max_size=4),
    d=st.integers(2, 16),
    score_between=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_merged_statistics_equal_statistics_of_the_whole(sizes, d, score_between, seed):
    rng = np.random.default_rng(seed)
    parts = [(rng.normal(size=(n, 2, d)) * 3 + 1).astype(np.float32) for n in sizes]
    new = rng.normal(size=(5, 2, d)).astype(np.float32)
    merged = PositionwiseGaussian()
    for part in parts:
        merged.merge(PositionwiseGaussian().partial_fit(part))
        if score_between and merged.n_samples_ > 1:
            merged.mahalanobis(new)  # what is factorised must still take in more
    expected = reference_distances(np.concatenate(parts), new, 0.01)
    assert relative_error(merged.mahalanobis(new), expected) < 1e-4


def test_merging_leaves_the_other_model_alone(rng):
    X, Y = rng.normal(size=(2, 6, 2, 9)).astype(np.float32)
    other = PositionwiseGaussian().fit(Y)
    before = other.mahalanobis(X)
    PositionwiseGaussian().merge(other).merge(PositionwiseGaussian().fit(X)).mahalanobis(Y)
    np.testing.assert_array_equal(other.mahalanobis(X), before)


@pytest.mark.parametrize("regularization", [1e4, 1.0, 1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("n", [12, 39, 40, 90])  # samples form, its last n, scatter form
def test_distances_match_float64_for_any_regularization_and_direction(rng, n, regularization):
    d = 40
    factors = rng.normal(size=(n, 4, 1)) * 3  # one strong common factor: badly conditioned
    X = (rng.normal(size=(n, 4, d)) + factors + 10).astype(np.float32)
    centre = X.astype(np.float64).mean(0)
    along = (centre + 2 * np.ones(d)).astype(np.float32)[None]  # in the span of the samples
    new = np.concatenate([X[:3], along, rng.normal(size=(3, 4, d)).astype(np.float32)])
    found = PositionwiseGaussian(regularization).fit(X).mahalanobis(new)
    covariance = np.stack([np.cov(X[:, p].astype(np.float64), rowvar=False) for p in range(4)])
    values, vectors = np.linalg.eigh(covariance)
    projected = np.einsum("npd,pde->npe", new - centre, vectors)
    expected = np.sqrt((projected**2 / (np.maximum(values, 0) + regularization)).sum(2))
    assert found.dtype == np.float32
    assert relative_error(found, expected) < 1e-4


def test_more_positions_than_fit_one_chunk_change_nothing(rng, monkeypatch):
    X, new = rng.normal(size=(8, 11, 5)), rng.normal(size=(12, 11, 5))
    whole = PositionwiseGaussian().fit(X).mahalanobis(new)
    monkeypatch.setattr("mmad_utils.detectors.positionwise_gaussian.CHUNK_ELEMENTS", 75)  # three positions a chunk
    np.testing.assert_allclose(PositionwiseGaussian().fit(X).mahalanobis(new), whole, rtol=1e-12)


def test_the_smaller_form_is_kept(rng):
    def stored(n, d=30):
        state = PositionwiseGaussian().fit(rng.normal(size=(n, 2, d)).astype(np.float32)).get_state()
        (chunk,) = state["chunks"]
        tensors = [chunk["factor"], *chunk["rows"]]
        return sum(tensor.nbytes for tensor in tensors) // 2

    assert stored(10) == 4 * 10 * (30 + 10)
    assert stored(29) == 4 * 29 * (30 + 29)
    assert stored(30) == stored(500) == 8 * 30 * 30


def test_one_position_and_few_bytes_per_number_are_enough(rng):
    X = rng.normal(size=(6, 1, 3)).astype(np.float16)
    found = PositionwiseGaussian().fit(X).mahalanobis(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference_distances(X, X, 0.01), rtol=1e-4)


def test_the_mean_of_float32_samples_is_exact_beyond_float32(rng):
    X = (rng.normal(size=(7, 2, 9)) + 1000).astype(np.float32)
    model = PositionwiseGaussian().fit(X)
    np.testing.assert_allclose(model.mean_, X.astype(np.float64).mean(0), rtol=0, atol=1e-6)


def test_merged_samples_keep_the_type_of_the_embeddings(rng):
    parts = rng.normal(size=(2, 5, 2, 30)).astype(np.float32)
    first, second = (PositionwiseGaussian().partial_fit(part) for part in parts)
    (chunk,) = first.merge(second).get_state()["chunks"]
    assert [rows.dtype for rows in chunk["rows"]] == [torch.float32, torch.float32]


def test_results_are_of_the_kind_that_was_given(rng):
    X = rng.normal(size=(5, 3, 4))
    model = PositionwiseGaussian().fit(torch.from_numpy(X))
    tensor = model.mahalanobis(torch.from_numpy(X))
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
    np.testing.assert_allclose(model.mahalanobis(X.astype(np.float32)), tensor, rtol=1e-5)
    few = PositionwiseGaussian().fit(X[:3].astype(np.float32))
    assert few.mahalanobis(X.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(few.mahalanobis(X), reference_distances(X[:3], X, 0.01), rtol=1e-4)


def test_fit_forgets_and_never_changes_its_input(rng):
    X, Y = rng.normal(size=(2, 6, 3, 10))
    original = X.copy()
    again = PositionwiseGaussian().fit(Y).fit(X)
    np.testing.assert_array_equal(again.mahalanobis(Y), PositionwiseGaussian().fit(X).mahalanobis(Y))
    np.testing.assert_array_equal(X, original)
    with pytest.raises(ValueError, match="at least 2 samples"):
        again.fit(X[:1])
    assert again.n_samples_ == 0 and again.get_state()["chunks"] == []


@pytest.mark.parametrize("n", [6, 30])
def test_state_restores_the_model_and_lets_it_go_on(rng, n):
    X, more = rng.normal(size=(n, 3, 10)), rng.normal(size=(8, 3, 10))
    model = PositionwiseGaussian(0.2).fit(X)
    copy = object.__new__(PositionwiseGaussian)
    state = PositionwiseGaussian(0.2).fit(X).get_state()
    copy.set_state(state)
    for value in state["chunks"][0].values():
        if isinstance(value, torch.Tensor):
            value.zero_()  # the copy has memory of its own
    np.testing.assert_array_equal(copy.mahalanobis(more), model.mahalanobis(more))
    expected = reference_distances(np.concatenate([X, more]), X, 0.2)
    np.testing.assert_allclose(copy.partial_fit(more).mahalanobis(X), expected, rtol=1e-9)
    np.testing.assert_array_equal(copy.fit(X).mahalanobis(more), model.mahalanobis(more))
    copy.set_state(PositionwiseGaussian(0.2).partial_fit(X).get_state())  # before a factor is computed
    np.testing.assert_array_equal(copy.mahalanobis(more), model.mahalanobis(more))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 4)), r"\(samples, positions, channels\)"),
        (np.zeros((0, 2, 3)), "are empty; give at least one sample"),
        (np.zeros((3, 0, 2)), "are empty; give at least one sample"),
        (np.zeros((3, 2, 0)), "are empty; give at least one sample"),
        (np.zeros((1, 2, 3)), "at least 2 samples"),
        (np.where(np.arange(24).reshape(4, 2, 3) == 10, np.nan, 1.0), "position 1"),
    ],
)
def test_bad_embeddings_are_refused_with_the_reason(X, message):
    with pytest.raises(ValueError, match=message):
        PositionwiseGaussian().fit(X)


def test_misuse_of_the_model_is_explained(rng):
    model = PositionwiseGaussian().partial_fit(rng.normal(size=(1, 2, 3)))
    with pytest.raises(ValueError, match="at least 2 samples"):
        model.mahalanobis(rng.normal(size=(1, 2, 3)))
    with pytest.raises(ValueError, match=r"2 positions and 4 channels .* of 2 positions and 3 channels; use"):
        model.partial_fit(rng.normal(size=(1, 2, 4)))
    with pytest.raises(ValueError, match="3 positions"):
        model.merge(PositionwiseGaussian().fit(rng.normal(size=(2, 3, 3))))
    with pytest.raises(ValueError, match="positive"):
        PositionwiseGaussian(0.0)


@pytest.mark.parametrize(("n", "d"), [(12, 5), (6, 9), (3, 4)])
def test_leave_one_out_equals_fitting_without_the_sample(n, d, rng):
    X = rng.normal(size=(n, 3, d))
    model = PositionwiseGaussian(regularization=0.3).fit(X)
    ours = model.leave_one_out(model.mahalanobis(X))
    for k in range(n):
        without = PositionwiseGaussian(regularization=0.3 * (n - 1) / (n - 2)).fit(np.delete(X, k, axis=0))
        np.testing.assert_allclose(ours[k], without.mahalanobis(X[k : k + 1])[0], rtol=1e-6)


def test_leave_one_out_stays_finite_and_of_two_samples_nothing_is_left_out(rng):
    model = PositionwiseGaussian().fit(rng.normal(size=(12, 3, 5)))
    largest = 11 / np.sqrt(12)  # of a training sample, where rounding may give more
    assert np.isfinite(model.leave_one_out(np.array([largest, 2 * largest]))).all()
    two = PositionwiseGaussian().fit(rng.normal(size=(2, 3, 5)))
    np.testing.assert_array_equal(two.leave_one_out(np.ones((2, 3))), np.ones((2, 3)))


def test_threads_change_no_bit_and_their_number_is_left_alone(rng, monkeypatch):
    monkeypatch.setattr("mmad_utils.detectors.positionwise_gaussian.CHUNK_ELEMENTS", 75)
    X, new = rng.normal(size=(2, 4, 20, 5)).astype(np.float32)
    before = torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found[threads] = PositionwiseGaussian().fit(X).mahalanobis(new)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[1], found[2])
