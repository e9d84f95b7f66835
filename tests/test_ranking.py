import itertools
from argparse import Namespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmad_utils import ColumnEncoder, DistanceToCenter, GaussianAnomalyScorer, KNNDistance, RandomScore, ranking
from mmad_utils.detector import DetectorError
from mmad_utils.ranking import AverageRanks, average_ranks


class Column(BaseEstimator):
    """Scores by one column as it is; learns nothing."""

    def __init__(self, number=0, factor=1.0):
        self.number = number
        self.factor = factor

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return -self.factor * X[:, self.number]


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(400, 3))


def test_with_labels_the_metrics_are_those_of_scikit_learn_on_unseen_normals_and_all_anomalies(X):
    y = (np.arange(400) < 40).astype(int)
    X[y == 1, 0] += 1
    table = ranking.compare({"first": Column(0)}, X, y, repeats=1, seed=3)
    halves = np.array_split(np.random.default_rng([3, 0]).permutation(np.flatnonzero(y == 0)), 2)
    tests = [np.concatenate([half, np.flatnonzero(y)]) for half in halves]
    areas = [roc_auc_score(y[rows], X[rows, 0]) for rows in tests]
    assert table.loc["first", "auroc"] == pytest.approx(np.mean(areas))
    assert table.loc["first", "auroc_sd"] == pytest.approx(np.std(areas, ddof=1))
    # 180 unseen normals stand for 360: with each counted twice the precision is that at the true share
    doubled = [np.concatenate([half, half, np.flatnonzero(y)]) for half in halves]
    precision = [average_precision_score(y[rows], X[rows, 0]) for rows in doubled]
    assert table.loc["first", "average_precision"] == pytest.approx(np.mean(precision))


def test_average_precision_is_that_at_the_rate_where_the_detector_will_work(X):
    y = (np.arange(400) < 40).astype(int)
    X[y == 1, 0] += 1
    table = ranking.compare({"first": Column(0)}, X, y, rate=40 / 580, repeats=1, seed=3)
    halves = np.array_split(np.random.default_rng([3, 0]).permutation(np.flatnonzero(y == 0)), 2)
    tripled = [np.concatenate([half, half, half, np.flatnonzero(y)]) for half in halves]  # 180 normals count as 540
    precision = [average_precision_score(y[rows], X[rows, 0]) for rows in tripled]
    assert table.loc["first", "average_precision"] == pytest.approx(np.mean(precision))


def test_with_labels_the_order_is_that_of_the_auroc(X):
    y = (np.arange(400) < 40).astype(int)
    X[y == 1, 0] += 3
    detectors = {"noise": Column(1), "the same noise": Column(1, 2.0), "signal": Column(0)}
    table = ranking.compare(detectors, X, y, repeats=1)
    assert table.index[0] == "signal" and table.index.name == "detector"


def rows_of(X):
    return {row.tobytes() for row in X}


def test_each_clone_is_fitted_on_one_half_and_measured_on_the_other(X):
    fitted, scored = [], []

    class Recorder(Column):
        def fit(self, X, y=None):
            fitted.append(X)
            return self

        def score_samples(self, X):
            scored.append(X)
            return super().score_samples(X)

    table = ranking.compare({"a": Recorder()}, X, repeats=1, seed=4)
    assert [len(train) for train in fitted] == [13, 12, 25, 25, 200, 200]  # a sixteenth, an eighth, all
    assert rows_of(fitted[-1]) | rows_of(fitted[-2]) == rows_of(X)
    areas = []
    for train, (everything, held, shuffled) in zip(fitted[-2:], (scored[-6:-3], scored[-3:])):
        np.testing.assert_array_equal(everything, X)
        assert rows_of(held) == rows_of(X) - rows_of(train)
        np.testing.assert_array_equal(np.sort(held, axis=0), np.sort(shuffled, axis=0))
        assert not rows_of(held) & rows_of(shuffled)
        areas.append(roc_auc_score(np.repeat([0, 1], 200), np.concatenate([held[:, 0], shuffled[:, 0]])))
    assert table.loc["a", "shuffled"] == pytest.approx(np.mean(areas))


def test_stability_and_top_compare_the_two_clones_and_agreement_uses_the_clone_not_fitted_on_a_sample(X):
    class FromMedian(Column):
        def fit(self, X, y=None):
            self.median_ = np.median(X[:, 0])
            return self

        def score_samples(self, X):
            return -np.abs(X[:, 0] - self.median_)

    X = X[:60]
    table = ranking.compare({"median": FromMedian(), "first": Column(0), "second": Column(1)}, X, repeats=1, seed=11)
    halves = np.array_split(np.random.default_rng([11, 0]).permutation(60), 2)
    scores = [np.abs(X[:, 0] - np.median(X[half, 0])) for half in halves]
    assert table.loc["median", "stability"] == pytest.approx(stats.spearmanr(*scores).statistic)
    highest = [set(np.argsort(one)[-3:]) for one in scores]
    lowest = [set(np.argsort(one)[:3]) for one in scores]
    assert table.loc["median", "top"] == len(highest[0] & highest[1]) / 3 != len(lowest[0] & lowest[1]) / 3
    ranks = np.empty(60)
    for half, other in zip(halves, scores[::-1]):
        ranks[half] = stats.rankdata(other)[half]
    others = stats.rankdata(X[:, 0]) + stats.rankdata(X[:, 1])
    assert table.loc["median", "agreement"] == pytest.approx(stats.spearmanr(ranks, others).statistic)
    assert table.index.tolist() == (table["agreement"] + table["stability"]).sort_values().index[::-1].tolist()
    assert list(table) == ["agreement", "stability", "top", "shuffled", "seconds", "repeats", "left_out"]


def test_every_clone_has_its_own_seed_set_by_the_seed_of_the_comparison(X):
    seeds = []

    class Seeded(Column):
        def __init__(self, random_state=None):
            self.random_state = random_state
            self.number, self.factor = 0, 1.0

        def fit(self, X, y=None):
            seeds.append(self.random_state)
            return self

    runs = []
    for seed in (1, 1, 2):
        seeds.clear()
        ranking.compare({"a": Seeded()}, X, repeats=2, seed=seed)
        runs.append(seeds[-4:])
    assert runs[0] == runs[1] and len({*runs[0], *runs[2]}) == 8
    assert all(type(one) is int and 0 <= one < 2**31 for one in runs[0])


@pytest.mark.parametrize("kind", [list, np.asarray])
def test_samples_that_are_no_table_are_not_shuffled(X, kind):
    class Image(Column):
        def score_samples(self, X):
            return -np.array([image[0, 0, 0] for image in X])

    table = ranking.compare({"a": Image()}, kind(X[:, :, None, None]), repeats=1)
    assert "shuffled" not in table and table.loc["a", "stability"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("early", "late", "whole"),
    [
        ((1, 16), (2, 8), 16),  # linear
        ((1, 16), (4, 8), 256),  # quadratic
        ((1, 16), (8, 8), 512),  # no more than quadratic
        ((4, 16), (1, 8), 1),  # no less than constant
        ((1, 16), (0, 8), 0),
        ((0, 16), (2, 8), 16),  # too short to measure: linear
        ((1, 8), (2, 8), 16),  # both trials on the same rows
    ],
)
def test_the_time_for_all_samples_follows_a_power_law(early, late, whole):
    assert ranking._power_law([early, late]) == pytest.approx(whole)


def test_agreement_is_spearmans_correlation_with_the_mean_rank_of_the_others(X):
    detectors = {f"column {i}": Column(i) for i in range(3)}
    table = ranking.compare(detectors, X, repeats=1)
    ranks = stats.rankdata(X, axis=0)
    expected = stats.spearmanr(X[:, 0], ranks[:, 1] + ranks[:, 2]).statistic
    assert table.loc["column 0", "agreement"] == pytest.approx(expected)
    assert table["stability"].min() == pytest.approx(1) and (table["top"] == 1).all()


def test_one_image_detector_alone_is_measured_on_labelled_images():
    class NameLength(BaseEstimator):
        def fit(self, X, y=None):
            return self

        def score_samples(self, X):
            return -np.array([len(path) for path in X], dtype=float)

    paths, y = [f"{'x' * (i % 7 + 5 * (i > 30))}.png" for i in range(40)], np.arange(40) > 30
    table = ranking.compare({"one": NameLength()}, paths, y.astype(int), repeats=2)
    lengths = np.array([len(path) for path in paths])
    assert table.loc["one", "auroc"] == pytest.approx(roc_auc_score(y, lengths), abs=0.1)
    assert "agreement" not in table and table.loc["one", "left_out"] == ""


def test_a_random_score_neither_agrees_nor_is_stable_nor_has_a_vote(X):
    table = ranking.compare({"a": Column(0), "b": Column(0, 2.0), "RandomScore": RandomScore()}, X, repeats=2)
    assert (table.loc[["a", "b"], "agreement"] > 0.999).all()
    assert table.loc["RandomScore", ["agreement", "stability"]].abs().max() < 0.15
    assert table.index[-1] == "RandomScore"


def test_shuffled_columns_are_seen_by_those_who_look_at_relations():
    x = np.random.default_rng(0).normal(size=300)
    frame = pd.DataFrame({"a": x, "b": x + 0.1 * np.random.default_rng(1).normal(size=300)})
    detectors = {"relations": GaussianAnomalyScorer(), "columns": DistanceToCenter()}
    table = ranking.compare(detectors, frame, encoder=ColumnEncoder(), repeats=1)
    assert table.loc["relations", "shuffled"] > 0.9 > 0.7 > table.loc["columns", "shuffled"]


def test_a_comparison_repeats_with_its_seed(X):
    detectors = {"forest": IsolationForest(n_estimators=10), "near": KNNDistance()}
    a, b = (ranking.compare(detectors, X, repeats=1, seed=1).drop(columns="seconds") for _ in range(2))
    pd.testing.assert_frame_equal(a, b)


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(ranking, "perf_counter", lambda: Clock.now)
    return Clock


def slow(clock, seconds_a_row):
    class Slow(Column):
        def fit(self, X, y=None):
            clock.now += seconds_a_row * len(X)
            return self

    return Slow()


def test_who_would_not_finish_in_time_is_left_out_with_the_reason(X, clock):
    detectors = {"a slow one": slow(clock, 1.0), "quick": slow(clock, 0.01)}
    table = ranking.compare(detectors, X, repeats=1, minutes=2)
    assert table.index.tolist() == ["quick", "a slow one"] and table.loc["quick", "left_out"] == ""
    assert table.loc["a slow one", "left_out"] == "needs about 400 s, 40 s were left"
    assert table.loc["a slow one", "repeats"] == 0
    assert table.loc["quick", "seconds"] == pytest.approx(4) and clock.now < 120


def test_the_bar_shows_the_seconds_to_come_and_ends_full(X, clock, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, disable, bar_format):
            self.totals, self.disable, self.n = [total], disable, 0
            bars.append(self)

        total = property(lambda self: self.totals[-1], lambda self, total: self.totals.append(total))

        def update(self, seconds):
            self.n += seconds

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(ranking, "tqdm", Bar)
    detectors = {"a": slow(clock, 0.01), "b": slow(clock, 0.02)}
    for progress in (True, False):
        ranking.compare(detectors, X, repeats=3, minutes=9, progress=progress)
    assert [bar.disable for bar in bars] == [False, True]
    assert bars[0].totals == pytest.approx([3 * (4 + 8)] * 7) and bars[0].n == pytest.approx(36)


def test_repeats_stop_when_time_is_up(X, clock):
    table = ranking.compare({"one": slow(clock, 0.1)}, X, repeats=50, minutes=3)
    assert 1 <= table.loc["one", "repeats"] <= 4 and clock.now <= 180


def test_no_detector_in_time_is_an_error(X, clock):
    with pytest.raises(DetectorError, match=r"within 0.1 minutes .*\)\. Give more minutes or fewer samples\.$"):
        ranking.compare({"slow": slow(clock, 1.0)}, X, minutes=0.1)


def test_a_detector_whose_scores_are_all_equal_is_left_out(X):
    table = ranking.compare({"a": Column(0), "constant": Column(0, 0.0)}, X, repeats=1)
    reason = "its scores are all equal or not finite"
    assert table.loc["constant", "left_out"] == reason and table.index[-1] == "constant"


def test_drawn_rows_keep_the_anomalies(X):
    y = (np.arange(1000) % 100 == 0).astype(int)
    rows = ranking.subsample(1000, y, most=100, seed=0)
    assert len(rows) == 100 and y[rows].sum() == 10 and (np.diff(rows) > 0).all()
    assert ranking.subsample(50, most=50).tolist() == list(range(50)) and len(ranking.subsample(9, most=2)) == 2


def test_drawn_rows_are_sorted_distinct_set_by_the_seed_and_at_most_half_anomalies(X):
    few = (np.arange(1000) >= 800).astype(int)
    for y in (None, few, 1 - few):
        rows, again, other = (ranking.subsample(1000, y, most=101, seed=seed) for seed in (0, 0, 1))
        assert len(rows) == 101 and (np.diff(rows) > 0).all() and rows[0] >= 0 and rows[-1] < 1000
        assert np.array_equal(rows, again) and not np.array_equal(rows, other)
        assert y is None or y[rows].sum() == 50
    assert np.array_equal(ranking.subsample(1000, most=99), ranking.subsample(1000, most=99, seed=0))


def test_detectors_are_chosen_by_set_or_by_name():
    assert list(ranking.choose("quick", "image")) == ["PaDiM", "PatchCore"]
    assert list(ranking.choose("KNNDistance, IsolationForest", "tabular")) == [
        "KNNDistance", "IsolationForest", "RandomScore",
    ]  # fmt: skip
    assert len(ranking.choose("thorough", "tabular")) > len(ranking.choose("quick", "tabular"))
    with pytest.raises(DetectorError, match="did you mean KNNDistance"):
        ranking.choose("KNNDistanc", "tabular")
    with pytest.raises(DetectorError, match="KNNDistance does not take images alone"):
        ranking.choose("KNNDistance", "image")
    with pytest.raises(DetectorError, match="PaDiM does not take tables"):
        ranking.choose("PaDiM", "tabular")


@pytest.mark.parametrize(
    ("name", "value"), [("repeats", 0), ("repeats", 1.5), ("minutes", 0), ("minutes", -1), ("rate", 1.5)]
)
def test_a_parameter_out_of_range_is_refused_by_name(X, name, value):
    with pytest.raises(DetectorError, match=f"^{name}={value}"):
        ranking.compare({"a": Column(0)}, X, **{name: value})
    with pytest.raises(DetectorError, match=r"^most=-5"):
        ranking.subsample(10, most=-5)


def test_the_time_of_encoding_counts(X, clock):
    class SlowEncoder(BaseEstimator):
        def fit(self, X):
            clock.now += len(X)
            return self

        def transform(self, X):
            return X.to_numpy()

    frame = pd.DataFrame(X, columns=list("abc"))
    with pytest.raises(DetectorError, match="encoding needs about 400 s, 105 s were left"):
        ranking.compare({"a": Column(0)}, frame, encoder=SlowEncoder(), minutes=3)
    assert clock.now < 180
    table = ranking.compare({"a": Column(0)}, frame, encoder=SlowEncoder(), repeats=9, minutes=25)
    assert table.loc["a", "repeats"] == 3


def rank_scores(rng, n, *shifts):
    """Scores of detectors on n data sets, each with the difficulty of the data set and a shift of its own."""
    base = rng.normal(size=n)
    columns = {name: base + shift + 0.3 * rng.normal(size=n) for name, shift in zip("abcdef", shifts)}
    return pd.DataFrame(columns, index=[f"set {i}" for i in range(n)])


def test_average_ranks_and_p_values_are_those_of_scipy(rng):
    scores = rank_scores(rng, 20, 0.0, 1.0, 0.3)
    compared = average_ranks(scores)
    by_hand = [np.mean([stats.rankdata(-row)[k] for row in scores.to_numpy()]) for k in range(3)]
    assert compared.ranks.to_dict() == pytest.approx(dict(zip("abc", by_hand)))
    assert list(compared.ranks.index) == ["b", "c", "a"] and compared.n_datasets == 20
    assert compared.friedman_p == pytest.approx(stats.friedmanchisquare(*scores.to_numpy().T).pvalue)
    for row in compared.pairs.itertuples():
        assert row.p == pytest.approx(stats.wilcoxon(scores[row.first], scores[row.second]).pvalue)
        assert (row.first_rank, row.second_rank) == (compared.ranks[row.first], compared.ranks[row.second])
        assert row.first_rank <= row.second_rank


def test_holm_multiplies_the_smallest_by_all_and_keeps_the_order():
    assert ranking._holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])
    assert ranking._holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])


def test_equal_detectors_differ_at_most_at_the_rate_alpha(rng):
    found = [average_ranks(rank_scores(rng, 12, 0, 0, 0)).pairs["different"].any() for _ in range(100)]
    assert np.mean(found) < 0.1


def test_where_friedman_does_not_reject_no_pair_differs(monkeypatch, rng):
    scores = rank_scores(rng, 12, 0.0, 0.0, 2.0)
    assert average_ranks(scores).pairs["different"].any()
    monkeypatch.setattr(ranking.stats, "friedmanchisquare", lambda *_: Namespace(pvalue=0.06))
    assert not average_ranks(scores).pairs["different"].any()


def test_detectors_that_are_the_same_share_a_rank_and_do_not_differ(rng):
    scores = rank_scores(rng, 8, 0.0).assign(b=lambda frame: frame["a"])
    compared = average_ranks(scores)
    assert compared.ranks.tolist() == [1.5, 1.5] and compared.pairs["p"].tolist() == [1.0]
    assert compared.cliques == [["a", "b"]]


@pytest.mark.parametrize(
    ("differ", "cliques"),
    [
        ([], [["a", "b", "c", "d"]]),
        (["ad"], [["a", "b", "c"], ["b", "c", "d"]]),
        (["ab", "ac", "ad"], [["b", "c", "d"]]),
        (["ab", "bc", "cd"], []),
        (["ab", "cd"], [["b", "c"]]),
    ],
)
def test_a_clique_joins_neighbours_of_which_no_two_differ(differ, cliques):
    ranks = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"))
    pairs = pd.DataFrame(itertools.combinations("abcd", 2), columns=["first", "second"])
    pairs["different"] = [first + second in differ for first, second in pairs.to_numpy()]
    assert AverageRanks(ranks, 9, 0.05, 0.01, pairs).cliques == cliques


@pytest.mark.parametrize(
    ("n", "k", "message"),
    [
        (9, 1, "1 detectors: give at least two"),
        (5, 2, "5 data sets are too few: with 2 detectors, at least 6"),
        (6, 3, "6 data sets are too few: with 3 detectors, at least 7"),
    ],
)
def test_too_few_detectors_or_data_sets_are_refused(rng, n, k, message):
    with pytest.raises(DetectorError, match=message):
        average_ranks(rank_scores(rng, n, *range(k)))


@pytest.mark.parametrize(("n", "k"), [(6, 2), (7, 3)])
def test_the_fewest_data_sets_suffice_for_a_difference(rng, n, k):
    constant = pd.DataFrame({name: rng.normal(size=n) + 100 * i for i, name in enumerate("abc"[:k])})
    assert average_ranks(constant).pairs["different"].all()


def test_a_missing_score_is_named(rng):
    scores = rank_scores(rng, 8, 0.0, 1.0)
    scores.loc["set 3", "b"] = np.nan
    with pytest.raises(DetectorError, match="b has no score on set 3"):
        average_ranks(scores)
