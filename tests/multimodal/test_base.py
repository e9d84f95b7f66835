"""Dicts in, dicts out: what is refused, and how rows are taken."""

import numpy as np
import pandas as pd
import pytest

from mmad_utils.datasets.take import take
from mmad_utils.detector import DetectorError
from mmad_utils.multimodal.alignment import _TrainedAlignment
from mmad_utils.multimodal.base import MultiModalDetector, check_modalities


class Norm(MultiModalDetector):
    """The length of a row, in two modalities."""

    def __init__(self, contamination=0.1):
        self.contamination = contamination

    def known_modalities(self):
        return ("left", "right")

    def _fit(self, X, y):
        self.seen_ = tuple(X)

    def _score(self, X):
        return {name: np.linalg.norm(rows, axis=1) for name, rows in X.items()}


def test_a_subclass_must_define_its_modalities_or_its_objective():
    class Incomplete(MultiModalDetector):
        _fit, _score = Norm._fit, Norm._score

    with pytest.raises(TypeError, match=r"abstract method '?known_modalities"):
        Incomplete()
    with pytest.raises(TypeError, match=r"abstract method '?objective"):
        _TrainedAlignment()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((3, 2)), "takes a dict of modalities.*not ndarray"),
        ({}, "holds no modality"),
        ({"lift": np.ones((3, 2))}, "unknown modality 'lift'. Did you mean 'left'"),
        ({"left": []}, "modality 'left' holds no samples"),
        ({"left": "one text"}, "modality 'left' holds no samples"),
    ],
)
def test_a_wrong_dict_is_one_clear_error(X, message):
    with pytest.raises(DetectorError, match=message):
        check_modalities(X, ("left", "right"), who="Norm")


def test_each_modality_has_its_own_threshold_and_its_share_of_alarms(rng):
    X = {"left": rng.normal(size=(200, 3)), "right": 100 * rng.normal(size=(50, 2))}
    detector = Norm().fit(X)
    assert detector.modalities_ == detector.seen_ == ("left", "right")
    shares = {name: (alarms == -1).mean() for name, alarms in detector.predict(X).items()}
    assert shares == {"left": 0.1, "right": 0.1}


def test_a_modality_that_was_absent_at_fit_is_refused_later(rng):
    detector = Norm().fit({"left": rng.normal(size=(20, 3))})
    with pytest.raises(DetectorError, match=r"unknown modality 'right'\. .*Known are 'left'"):
        detector.anomaly_score({"right": rng.normal(size=(2, 3))})


def test_contamination_is_checked_as_in_every_detector(rng):
    with pytest.raises(DetectorError, match=r"contamination is 0\.9"):
        Norm(contamination=0.9).fit({"left": rng.normal(size=(20, 3))})


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_rows_are_taken_from_tables_arrays_lists_and_arrays_of_objects(rows):
    expected = [["a", "b", "c"][i] for i in (np.flatnonzero(rows) if rows.dtype == bool else rows)]
    assert list(take(np.array(["a", "b", "c"]), rows)) == expected
    assert take(["a", "b", "c"], rows) == take(np.array(["a", "b", "c"], dtype=object), rows) == expected
    taken = take(pd.DataFrame({"letter": ["a", "b", "c"], "number": [1, 2, 3]}), rows)
    assert list(taken["letter"]) == expected and list(taken) == ["letter", "number"]
