import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from mmad_utils import ColumnEncoder, DistanceToCenter, GaussianAnomalyScorer, KNNDistance, RandomScore, ranking
from mmad_utils.detector import DetectorError


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
    detectors = {"slow": slow(clock, 1.0), "quick": slow(clock, 0.01)}
    table = ranking.compare(detectors, X, repeats=1, minutes=2)
    assert table.index.tolist() == ["quick", "slow"] and table.loc["quick", "left_out"] == ""
    assert table.loc["slow", "left_out"].startswith("needs about 400 s") and table.loc["slow", "repeats"] == 0
    assert clock.now < 120


def test_repeats_stop_when_time_is_up(X, clock):
    table = ranking.compare({"one": slow(clock, 0.1)}, X, repeats=50, minutes=3)
    assert 1 <= table.loc["one", "repeats"] <= 4 and clock.now <= 180


def test_no_detector_in_time_is_an_error(X, clock):
    with pytest.raises(DetectorError, match=r"within 0.1 minutes .*Give more minutes"):
        ranking.compare({"slow": slow(clock, 1.0)}, X, minutes=0.1)


def test_a_detector_whose_scores_are_all_equal_is_left_out(X):
    table = ranking.compare({"a": Column(0), "constant": Column(0, 0.0)}, X, repeats=1)
    assert "all equal" in table.loc["constant", "left_out"] and table.index[-1] == "constant"


def test_drawn_rows_keep_the_anomalies(X):
    y = (np.arange(1000) % 100 == 0).astype(int)
    rows = ranking.subsample(1000, y, most=100, seed=0)
    assert len(rows) == 100 and y[rows].sum() == 10 and (np.diff(rows) > 0).all()
    assert len(ranking.subsample(50, most=100)) == 50 and len(ranking.subsample(1000, most=100)) == 100


def test_detectors_are_chosen_by_set_or_by_name():
    assert list(ranking.choose("quick", "image")) == ["PaDiM", "PatchCore"]
    assert list(ranking.choose("KNNDistance, IsolationForest", "tabular")) == [
        "KNNDistance", "IsolationForest", "RandomScore",
    ]  # fmt: skip
    assert len(ranking.choose("thorough", "tabular")) > len(ranking.choose("quick", "tabular"))
    with pytest.raises(DetectorError, match="did you mean KNNDistance"):
        ranking.choose("KNNDistanc", "tabular")
    with pytest.raises(DetectorError, match="PaDiM does not take tables"):
        ranking.choose("PaDiM", "tabular")


@pytest.mark.parametrize(
    ("name", "value"), [("repeats", 0), ("repeats", 1.5), ("minutes", 0), ("minutes", -1), ("rate", 5)]
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
    with pytest.raises(DetectorError, match="encoding needs about 400 s"):
        ranking.compare({"a": Column(0)}, frame, encoder=SlowEncoder(), minutes=3)
    assert clock.now < 180
    table = ranking.compare({"a": Column(0)}, frame, encoder=SlowEncoder(), repeats=9, minutes=25)
    assert table.loc["a", "repeats"] == 3
