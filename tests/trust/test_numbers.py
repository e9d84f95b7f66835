"""Every exported detector on tables at the edge of what can be computed: scores are finite, or the error is clear."""

import numpy as np
import pytest
from tiny_detectors import detector_classes, labels, samples, score_values, tiny

from mmad_utils import DAGMM, Detector, DetectorError, KNNDistance
from mmad_utils.detector import finite_scores
from mmad_utils.training import TrainingError

LARGEST = np.finfo(np.float64).max
ORDINARY = {"ordinary", "a constant column", "collinear columns", "duplicate rows", "one column", "zeros and ones"}


def situations():
    """Name -> rows to fit, rows to score."""
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(24, 4)), rng.normal(size=(6, 4))
    scales = 10.0 ** np.array([-150, -3, 3, 150])
    wide = rng.normal(size=(9, 9))
    return {
        "ordinary": (X, T),
        "a constant column": (X * [1, 1, 1, 0] + [0, 0, 0, 7], T),
        "all rows alike": (np.ones_like(X), T),
        "all zero": (np.zeros_like(X), T),
        "collinear columns": (X[:, :1] * [1.0, 2, -1, 0.5], T),
        "duplicate rows": (np.repeat(X[:8], 3, axis=0), T),
        "two distinct rows": (np.repeat(X[:2], 12, axis=0), T),
        "fewer rows than columns": (wide[:3], wide[3:]),
        "two rows": (X[:2], T),
        "one row": (X[:1], T),
        "one column": (X[:, :1], T[:, :1]),
        "zeros and ones": (1.0 * (X > 0), 1.0 * (T > 0)),
        "scale 1e-300": (X * 1e-300, T * 1e-300),
        "scale 1e-30": (X * 1e-30, T * 1e-30),
        "scale 1e30": (X * 1e30, T * 1e30),
        "scale 1e160": (X * 1e160, T * 1e160),
        "scale 1e300": (X * 1e300, T * 1e300),
        "columns of scales 1e-150 to 1e150": (X * scales, T * scales),
        "an offset of 1e15": (X + 1e15, T + 1e15),
        "a training row at 1e30": (np.r_[X, np.full((1, 4), 1e30)], T),
        "rows to score at 1e30 and 1e160": (X, np.r_[T, np.full((1, 4), 1e30), np.full((1, 4), -1e160)]),
        "rows to score at the largest float": (X, np.r_[T, np.full((1, 4), LARGEST), [[-LARGEST, 0, 0, LARGEST]]]),
    }


@pytest.fixture(scope="module", autouse=True)
def features_in_a_folder_of_their_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMAD_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def matrix():
    """Each class with all situations; of images, which have no scale, those of the scales only in the campaign."""
    names = list(situations())
    for cls in detector_classes():
        now = names[:12] if cls.modalities == ("image",) else names
        yield pytest.param(cls, now, id=cls.__name__)
        if now != names:
            yield pytest.param(cls, names[12:], id=f"{cls.__name__}-scales", marks=pytest.mark.campaign)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("cls", "names"), list(matrix()))
def test_scores_are_finite_or_the_error_is_clear(cls, names):
    wrong, known = [], situations()
    for name in names:
        X, T = known[name]
        try:
            detector = tiny(cls).fit(samples(cls, X), labels(cls, X))
            scores, sides = (score_values(f(samples(cls, T))) for f in (detector.anomaly_score, detector.predict))
        except (DetectorError, TrainingError) as error:
            if name in ORDINARY and cls.modalities != ("image",):
                wrong.append(f"{name}: {error}")
            continue
        except Exception as error:  # each is one cell of the matrix
            wrong.append(f"{name}: {error!r}")
            continue
        offsets = detector.offset_.values() if isinstance(detector.offset_, dict) else [detector.offset_]
        if not np.isfinite(scores).all() or np.isnan(list(offsets)).any():
            wrong.append(f"{name}: scores {scores}, thresholds {list(offsets)}")
        if (sides[scores == LARGEST] != -1).any() and np.isfinite(list(offsets)).all():
            wrong.append(f"{name}: a score that overflowed counts as normal")
    assert not wrong, "\n".join(wrong)


def test_a_score_that_overflows_in_any_direction_is_the_largest():
    np.testing.assert_array_equal(finite_scores([1.0, np.nan, np.inf, -np.inf]), [1.0, LARGEST, LARGEST, LARGEST])


def test_a_row_so_far_that_the_score_is_not_a_number_is_an_anomaly(rng):
    detector = DAGMM(epochs=1, pretrain_epochs=1, n_estimators=1, random_state=0).fit(rng.normal(size=(60, 4)))
    with np.errstate(all="ignore"):
        assert np.isnan(detector._score(np.full((1, 4), 1e160))).all()
    assert detector.anomaly_score([[1e160] * 4]) == LARGEST and detector.predict([[1e160] * 4]) == -1


def test_training_scores_that_overflow_set_no_threshold(rng):
    with pytest.raises(DetectorError, match=r"the largest is .*e\+160\. Scale the columns"):
        KNNDistance().fit(rng.normal(size=(20, 3)) * 1e160)


def test_what_scikit_learn_refuses_keeps_its_message(rng):
    detector = KNNDistance().fit(rng.normal(size=(20, 3)))
    for X, message in ((np.full((1, 3), np.nan), "contains NaN"), (np.zeros((1, 2)), "expecting 3 features")):
        with pytest.raises(DetectorError, match=message) as caught:
            detector.anomaly_score(X)
        assert "scale the columns" not in str(caught.value)


def test_every_exported_detector_is_found_and_has_tiny_settings():
    assert {"AnoGAN", "FAnoGAN", "BiGAN", "GANomaly", "AdversarialAutoEncoder"} <= {
        c.__name__ for c in detector_classes()
    }
    assert all(isinstance(tiny(cls), Detector) for cls in detector_classes())
