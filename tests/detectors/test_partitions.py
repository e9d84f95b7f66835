"""Partitions of a Dask collection give what one process gives, also where a worker is killed."""

import itertools
import logging
import os
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

dask = pytest.importorskip("dask", reason="the extra dask is not installed")

import cloudpickle  # noqa: E402
import distributed  # noqa: E402
from dask import array as dask_array  # noqa: E402
from dask import bag as dask_bag  # noqa: E402
from dask import dataframe as dask_dataframe  # noqa: E402

from mmad_utils.detector import DetectorError  # noqa: E402
from mmad_utils.detectors import partitions  # noqa: E402
from mmad_utils.detectors.baselines import KNNDistance  # noqa: E402
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer  # noqa: E402
from mmad_utils.detectors.partitions import fit_partitions, score_partitions  # noqa: E402
from mmad_utils.detectors.positionwise_gaussian import PositionwiseGaussian  # noqa: E402

NAMES = list("abcd")
CUTS = [0, 40, 40, 41, 120, 121, 200, 260, 300]  # partition 1 is empty, 2 and 4 have one row


@pytest.fixture(scope="module")
def client():
    """Of two worker processes; one that is killed is started again."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**options, silence_logs=logging.CRITICAL) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def in_this_process():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def rows(rng):
    return rng.exponential(size=(300, 4)) @ rng.normal(size=(4, 4)) + 20


def pieces(rows):
    return [rows[start:stop] for start, stop in itertools.pairwise(CUTS)]


def loaded(part, marker):
    """A partition; the process that first loads it with a marker is killed."""
    if marker is not None and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return part


def array(parts, fatal=None, marker=None):
    """A dask.array of the parts; loading the part with the number ``fatal`` kills a process."""
    load = dask.delayed(loaded)
    delayed = [load(part, marker if i == fatal else None) for i, part in enumerate(parts)]
    shape = (np.nan, *parts[0].shape[1:])  # of known lengths Dask would leave out 0
    return dask_array.concatenate([dask_array.from_delayed(part, shape, dtype=float) for part in delayed])


def frame(parts, names=NAMES):
    frames = [pd.DataFrame(part, columns=names) for part in parts]
    return dask_dataframe.from_delayed([dask.delayed(part) for part in frames], meta=frames[0], verify_meta=False)


class Counter(BaseEstimator):
    """Scores a row by how many times this object has scored."""

    def fit(self, X):
        self.calls_ = 0
        return self

    def score_samples(self, X):
        self.calls_ += 1
        return np.full(len(X), -self.calls_)


def test_the_detector_is_sent_once_to_each_worker(client, rows):
    with client.as_current():
        calls = score_partitions(Counter().fit(rows), array(np.split(rows, 12))).compute()[::25]
    assert sorted(calls)[-1] > 1
    assert (calls == 1).sum() <= len(client.scheduler_info()["workers"])


def test_a_fit_and_scores_of_two_processes_equal_those_of_one_although_a_worker_is_killed(client, rows, tmp_path):
    once, marker = GaussianAnomalyScorer().fit(rows), tmp_path / "killed"
    with client.as_current():
        fitted = fit_partitions(GaussianAnomalyScorer(), array(pieces(rows)))
        scores = score_partitions(fitted, array(pieces(rows), fatal=6, marker=marker)).compute()
    assert marker.exists()
    np.testing.assert_allclose(fitted.cholesky_, once.cholesky_, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(scores, once.anomaly_score(rows), rtol=1e-10)
    assert fitted.offset_ == pytest.approx(once.offset_, rel=1e-10)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("half_life", [None, 30])
@pytest.mark.parametrize("make", [array, frame])
def test_empty_partitions_and_those_of_one_row_count_as_their_rows(rows, make, half_life):
    fitted = fit_partitions(GaussianAnomalyScorer(half_life=half_life, contamination=0.1), make(pieces(rows)))
    X = rows if make is array else pd.DataFrame(rows, columns=NAMES)
    once = GaussianAnomalyScorer(half_life=half_life, contamination=0.1).fit(X)
    np.testing.assert_allclose(fitted.anomaly_score(X), once.anomaly_score(X), rtol=1e-10)
    assert fitted.offset_ == pytest.approx(once.offset_, rel=1e-10)
    assert fitted.n_features_in_ == 4 and hasattr(fitted, "feature_names_in_") == (make is frame)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("d", [3, 400])  # kept as a scatter matrix, and as samples
def test_a_gaussian_at_each_position_is_that_of_one_process(rng, d):
    X = rng.normal(size=(300, 2, d)) + 5
    fitted = fit_partitions(PositionwiseGaussian(0.1), array(pieces(X)))
    once = PositionwiseGaussian(0.1).fit(X)
    assert fitted.n_samples_ == 300
    np.testing.assert_allclose(fitted.mahalanobis(X[:9]), once.mahalanobis(X[:9]), rtol=1e-10)


@pytest.mark.usefixtures("in_this_process")
def test_columns_that_lie_in_several_chunks_are_brought_together(rows):
    X = dask_array.from_array(rows, chunks=(100, 3))
    fitted = fit_partitions(GaussianAnomalyScorer(), X)
    expected = GaussianAnomalyScorer().fit(rows).anomaly_score(rows)
    np.testing.assert_allclose(score_partitions(fitted, X), expected, rtol=1e-10)


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("make", [array, frame])
def test_any_detector_scores_partitions_where_they_are(rows, make, tmp_path):
    X = rows if make is array else pd.DataFrame(rows, columns=NAMES)
    forest = make_pipeline(StandardScaler(), IsolationForest(n_estimators=5, random_state=0)).fit(X)
    np.testing.assert_allclose(score_partitions(forest, make(pieces(rows))), -forest.score_samples(X))
    neighbours = KNNDistance().fit(X)
    neighbours.save(tmp_path / "detector")
    scores = score_partitions(tmp_path / "detector", make(pieces(rows)))
    np.testing.assert_array_equal(scores, neighbours.anomaly_score(X))
    if make is frame:
        assert scores.compute().index.tolist() == [i for part in pieces(rows) for i in range(len(part))]


class Lengths(BaseEstimator):
    def fit(self, X):
        self.fitted_ = True
        return self

    def score_samples(self, paths):
        return [-len(path) for path in paths]


@pytest.mark.usefixtures("in_this_process")
def test_paths_of_images_are_scored_from_a_bag():
    bag = dask_bag.from_sequence(["a", "bb", "ccc", "dd", "e"], npartitions=2).map(str.upper)
    assert score_partitions(Lengths().fit([]), bag).compute().tolist() == [1, 2, 3, 2, 1]


def broken(rows):
    rows = rows.copy()
    rows[43, 2] = np.nan
    return rows


@pytest.mark.usefixtures("in_this_process")
def test_a_value_that_is_not_finite_is_located(rows):
    parts = pieces(broken(rows))
    for make, column in ((array, "2"), (frame, "'c'")):
        fitted = GaussianAnomalyScorer().fit(rows if make is array else pd.DataFrame(rows, columns=NAMES))
        message = rf"partition 3, row 2, column {column}: Input X contains NaN"
        with pytest.raises(DetectorError, match=message):
            fit_partitions(GaussianAnomalyScorer(), make(parts))
        with pytest.raises(DetectorError, match=message):
            score_partitions(fitted, make(parts)).compute()
    X = broken(rows).reshape(300, 2, 2)
    with pytest.raises(DetectorError, match=r"partition 3, row 2, column \[1, 0\]: embeddings hold NaN"):
        fit_partitions(PositionwiseGaussian(), array(pieces(X)))


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("names", [["a", "b", "d", "c"], ["a", "b", "c", "e"]])
def test_a_partition_with_other_columns_is_named(rows, names):
    parts = [pd.DataFrame(rows, columns=NAMES), pd.DataFrame(rows, columns=names)]
    X = dask_dataframe.from_delayed([dask.delayed(part) for part in parts], meta=parts[0], verify_meta=False)
    for run in (
        lambda: fit_partitions(GaussianAnomalyScorer(), X),
        score_partitions(KNNDistance().fit(parts[0]), X).compute,
    ):
        with pytest.raises(
            DetectorError, match=r"partition 1 has the columns \['a', 'b'.*but X has \['a', 'b', 'c', 'd'\]"
        ):
            run()


@pytest.mark.usefixtures("in_this_process")
def test_what_cannot_be_fitted_over_partitions_is_refused_with_the_reason(rows):
    X = dask_array.from_array(rows, chunks=(100, 4))
    for detector, parts, message in (
        (KNNDistance(), X, "KNNDistance has no statistics that can be merged"),
        (GaussianAnomalyScorer(contamination=0.7), X, "contamination"),
        (GaussianAnomalyScorer(half_life=0), X, "half_life"),
        (GaussianAnomalyScorer("empirical"), array([np.ones((9, 4))] * 2), "singular"),
        (
            GaussianAnomalyScorer(),
            array([rows * 1e160]),
            "partition 0: GaussianAnomalyScorer cannot be computed on these values",
        ),
        (GaussianAnomalyScorer(), array([rows[:0]] * 2), "all partitions are empty"),
        (PositionwiseGaussian(), array([np.ones((1, 2, 3)), np.ones((0, 2, 3))]), "the partitions hold 1"),
    ):
        with pytest.raises(DetectorError, match=message):
            fit_partitions(detector, parts)


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(ImportError, match=r'pip install "mmad\[dask\]"'):
        runpy.run_path(partitions.__file__)
