"""Labelled anomalies of the benchmark are never tested."""

import labelled_anomalies
import numpy as np
import pytest

from mmad_utils.datasets import load


class Recorder:
    """Takes the place of a detector; records what it is fitted on."""

    n_estimators = 1

    def __init__(self, **parameters):
        pass

    def fit(self, X, y):
        self.fits.append((X, y))
        return self

    def anomaly_score(self, X):
        return X[:, 0]

    decision_function = anomaly_score


@pytest.fixture
def fits(monkeypatch):
    monkeypatch.setattr(Recorder, "fits", [], raising=False)
    monkeypatch.setattr(labelled_anomalies, "DeepSAD", Recorder)
    monkeypatch.setattr(labelled_anomalies, "LogisticRegression", Recorder)
    runs = list(labelled_anomalies.measure("breast_cancer", 0))
    assert [run["parameters"] for run in runs] == [
        key["parameters"] for key in labelled_anomalies.keys("breast_cancer", 0)
    ]
    return Recorder.fits


def test_labels_are_drawn_from_the_half_that_is_not_tested_and_more_labels_hold_the_fewer(fits):
    whole = load("breast_cancer", seed=0).resplit(0)
    mean, scale = whole.X_train.mean(axis=0), whole.X_train.std(axis=0)
    tested = (whole.half("report").X_test - mean) / scale
    labelled = [X[y == 1] for X, y in fits]
    assert {len(rows) for rows in labelled} == set(labelled_anomalies.COUNTS)
    most = max(labelled, key=len)
    assert np.abs(most[:, None] - tested).max(axis=2).min() > 1e-6
    for rows in labelled:
        np.testing.assert_array_equal(rows, most[: len(rows)])
