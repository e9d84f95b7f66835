"""Early and late fusion."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from mmad_utils import EarlyFusion, GraphFusion, LateFusion
from mmad_utils.datasets import load
from mmad_utils.datasets.paired import drop_parts
from mmad_utils.detector import DetectorError


class Raw(TransformerMixin, BaseEstimator):
    """Tables as they are."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X, dtype=float)


TABLES = {"a": Raw(), "b": Raw(), "c": Raw()}


def tables(n, rng):
    """Three tables of two columns that show the same two numbers."""
    truth = rng.normal(size=(n, 2))
    return {name: truth + 0.2 * rng.normal(size=(n, 2)) for name in "abc"}


@pytest.fixture
def data(rng):
    """Training rows, test rows with parts exchanged in the second half, labels."""
    train, test = tables(500, rng), tables(400, rng)
    test["b"][200:] = np.roll(test["b"][200:], 1, axis=0)
    return train, test, np.repeat([0, 1], 200)


def test_early_sees_exchanged_parts_and_late_cannot(data):
    train, test, y = data
    early = EarlyFusion(encoders=TABLES, random_state=0).fit(train)
    assert roc_auc_score(y, early.anomaly_score(test)) > 0.95
    for rule in ("sum", "mean", "max", "vote"):
        late = LateFusion(rule, encoders=TABLES, random_state=0).fit(train)
        assert abs(roc_auc_score(y, late.anomaly_score(test)) - 0.5) < 0.15


def test_late_sees_a_strange_part_and_a_joint_voice_sees_both(data):
    train, test, y = data
    strange = {**test, "a": np.where(y[:, None] == 1, test["a"] + 4, test["a"])}
    late = LateFusion("max", encoders=TABLES, random_state=0).fit(train)
    assert roc_auc_score(y, late.anomaly_score(strange)) > 0.95
    joint = EarlyFusion(encoders=TABLES, random_state=0)
    both = LateFusion("max", joint=joint, encoders=TABLES, random_state=0).fit(train)
    assert roc_auc_score(y, both.anomaly_score(test)) > 0.9
    assert roc_auc_score(y, both.anomaly_score(strange)) > 0.95
    alone = {"a": test["a"], "b": None, "c": None}
    assert np.isnan(both.p_values(alone)["joint"]).all() and np.isfinite(both.anomaly_score(alone)).all()


def test_p_values_of_new_normal_samples_are_uniform_and_the_threshold_keeps_its_share(data, rng):
    train, test, y = data
    normal = {name: X[y == 0] for name, X in test.items()}
    detector = LateFusion(encoders=TABLES, contamination=0.1, random_state=0).fit(train)
    for p in detector.p_values(normal).values():
        assert p.min() > 0 and stats.kstest(p, "uniform").pvalue > 1e-3
    assert (detector.predict(normal) == -1).mean() == pytest.approx(0.1, abs=0.06)
    early = EarlyFusion(encoders=TABLES, contamination=0.1, random_state=0).fit(train)
    assert (early.predict(normal) == -1).mean() == pytest.approx(0.1, abs=0.06)


def test_the_rules_are_their_formulas(data):
    train, test, _ = data
    dropped = {
        name: np.where(np.arange(400)[:, None] % 3 == i, np.nan, X) for i, (name, X) in enumerate(test.items())
    }
    dropped["a"][::6] = test["a"][::6]  # some rows have all three
    weights = {"a": 1.0, "b": 2.0, "c": 0.5}
    for rule in ("sum", "mean", "max", "weighted", "vote"):
        detector = LateFusion(rule, weights=weights, alpha=0.2, encoders=TABLES, random_state=0).fit(train)
        p = np.stack(list(detector.p_values(dropped).values()), axis=1)
        for i, score in enumerate(detector.anomaly_score(dropped)[:60]):
            seen = p[i][np.isfinite(p[i])]
            w = np.array(list(weights.values()))[np.isfinite(p[i])]
            expected = {
                "sum": -np.log(stats.combine_pvalues(seen, "fisher").pvalue),
                "mean": -np.log(seen).mean(),
                "max": -np.log(stats.combine_pvalues(seen, "tippett").pvalue),
                "weighted": -(np.log(seen) * w).sum() / w.sum(),
                "vote": (seen <= 0.2).mean(),
            }[rule]
            assert score == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_gaps_are_filled_with_the_conditional_mean_of_a_gaussian(data):
    train, test, _ = data
    detector = EarlyFusion(encoders=TABLES, random_state=0).fit(train)
    rows = np.concatenate([test["a"], np.full((400, 2), np.nan), test["c"]], axis=1)
    filled = detector._filled(rows)
    mean, covariance, known = detector.mean_, detector.covariance_, [0, 1, 4, 5]
    gain = covariance[2:4][:, known] @ np.linalg.inv(covariance[np.ix_(known, known)])
    np.testing.assert_allclose(filled[:, 2:4], mean[2:4] + (rows[:, known] - mean[known]) @ gain.T)
    np.testing.assert_allclose(filled[:, known], rows[:, known])
    assert np.abs(filled[:, 2:4] - test["a"]).mean() < 0.4  # the other parts do say what is missing


def test_rows_with_different_parts_have_comparable_scores(data):
    """Normal rows with one part and normal rows with three get the same scores on average."""
    train, test, y = data
    normal = {name: X[y == 0] for name, X in test.items()}
    detector = EarlyFusion(encoders=TABLES, random_state=0).fit(train)
    complete, single = detector.anomaly_score(normal), detector.anomaly_score({**normal, "b": None, "c": None})
    assert abs(complete.mean() - single.mean()) < 0.25 and 0.7 < complete.std() / single.std() < 1.4


def test_missing_parts_at_fit_cost_little(data):
    train, test, y = data
    dropped = drop_parts(train, 0.3)
    early = EarlyFusion(encoders=TABLES, random_state=0)
    complete, incomplete = (roc_auc_score(y, early.fit(X).anomaly_score(test)) for X in (train, dropped))
    assert complete - incomplete < 0.05


def test_any_detector_does(data):
    train, test, y = data
    detector = EarlyFusion(OneClassSVM(gamma=0.5, nu=0.05), encoders=TABLES, random_state=0).fit(train)
    assert roc_auc_score(y, detector.anomaly_score(test)) > 0.8
    late = LateFusion(detector={"a": OneClassSVM(nu=0.05)}, encoders=TABLES, random_state=0).fit(train)
    assert {name: type(d).__name__ for name, d in late.detectors_.items()} == {
        "a": "OneClassSVM",
        "b": "GaussianAnomalyScorer",
        "c": "GaussianAnomalyScorer",
    }


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (LateFusion("product"), "choose 'sum', 'mean', 'max', 'weighted' or 'vote'"),
        (LateFusion("weighted"), "give a number above 0 for each of"),
        (LateFusion("weighted", weights={"image": 1, "text": 0, "series": 1}), "above 0"),
        (LateFusion("vote", alpha=1.0), "alpha is 1.0"),
        (LateFusion(folds=1), "folds is 1; give at least 2"),
        (EarlyFusion(folds=0), "folds is 0; give at least 2"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_to_give(detector, message):
    train = load("paired_digits").X_train
    with pytest.raises(DetectorError, match=message):
        detector.fit({name: X[:30] for name, X in train.items()})


def test_a_joint_voice_is_saved_with_the_others(tmp_path):
    train = {name: X[:60] for name, X in load("paired_digits").X_train.items()}
    detector = LateFusion("max", joint=GraphFusion(epochs=1, random_state=0), folds=2, random_state=0).fit(train)
    detector.save(tmp_path / "detector")
    loaded = LateFusion.load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.anomaly_score(train), detector.anomaly_score(train))
