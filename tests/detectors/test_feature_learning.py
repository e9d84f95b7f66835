from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils import RDP, REPEN, KNNDistance
from mmad_utils.detector import DetectorError
from mmad_utils.detectors.feature_learning import outlier_candidates, random_neighbour_distance
from mmad_utils.training import TrainingError

SMALL = [
    REPEN(latent_dim=4, n_subsamples=3, epochs=2, cutoff=1.0, random_state=0),
    RDP(latent_dim=4, hidden=(8,), epochs=1, n_estimators=1, random_state=0),
]


@parametrize_with_checks(SMALL)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def curve(rng):
    """Normal points along a curve in six dimensions, and anomalies in the same box."""

    def points(n):
        t = rng.uniform(-2, 2, n)
        X = np.stack([t, np.sin(2 * t), np.cos(2 * t), t**2 / 2 - 1, np.sin(t), np.cos(t)], axis=1)
        return X + 0.05 * rng.normal(size=X.shape)

    train, normal = points(400), points(200)
    anomalies = np.column_stack([rng.permutation(column) for column in points(200).T])
    return train, np.concatenate([normal, anomalies]), np.repeat([0, 1], 200)


def images(rng, n=40):
    return rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize("detector", [REPEN(latent_dim=4), RDP(latent_dim=4, n_estimators=2)], ids=["REPEN", "RDP"])
@pytest.mark.parametrize("kind", ["table", "images"])
def test_equal_seeds_give_bitwise_equal_results_and_a_saved_detector_scores_the_same(detector, kind, rng, tmp_path):
    X = images(rng) if kind == "images" else rng.normal(size=(60, 5))
    first, second, other = (
        type(detector)(**detector.get_params() | {"epochs": 2, "random_state": seed}).fit(X) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.anomaly_score(X), second.anomaly_score(X))
    assert not np.array_equal(first.anomaly_score(X), other.anomaly_score(X))
    first.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.decision_function(X), first.decision_function(X))


@pytest.mark.parametrize("detector", SMALL, ids=lambda detector: type(detector).__name__)
def test_a_loaded_network_has_the_memory_layout_of_the_fitted_one(detector, rng, tmp_path):
    fitted = clone(detector).set_params(epochs=1, n_estimators=1).fit(images(rng))
    fitted.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    for name, tensor in fitted.network_.state_dict().items():
        assert loaded.network_.state_dict()[name].stride() == tensor.stride(), name


def test_the_score_of_a_row_does_not_depend_on_its_batch(curve):
    train, test, _ = curve
    for detector in SMALL:
        scores = detector.fit(train).anomaly_score(test)
        np.testing.assert_allclose(detector.anomaly_score(test[:3]), scores[:3], rtol=1e-9)


@pytest.mark.parametrize("detector", [RDP(random_state=0), REPEN(random_state=0)], ids=["RDP", "REPEN"])
def test_foreign_and_truncated_files_are_refused(detector, rng, tmp_path):
    detector.set_params(epochs=1).fit(rng.normal(size=(60, 3)))
    detector.save(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(content[: len(content) // 2])
    (tmp_path / "foreign").write_bytes(b"something else entirely")
    for name in ("half", "foreign"):
        with pytest.raises(DetectorError, match="damaged or was not written by mmad_utils"):
            type(detector).load(tmp_path / name)
    other = RDP if isinstance(detector, REPEN) else REPEN
    with pytest.raises(DetectorError, match=f"not a {other.__name__}"):
        other.load(tmp_path / "whole")


# REPEN


def test_random_neighbour_distance_is_the_mean_of_nearest_distances(rng):
    points, subsamples = rng.normal(size=(20, 3)), rng.normal(size=(4, 5, 3))
    expected = np.mean([cdist(points, subsample).min(axis=1) for subsample in subsamples], axis=0)
    ours = random_neighbour_distance(torch.tensor(points), torch.tensor(subsamples))
    np.testing.assert_allclose(ours, expected)


def test_a_point_is_not_its_own_neighbour(rng):
    points = torch.tensor(rng.normal(size=(12, 3)))
    rows = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(i)) for i in range(3)])
    alone = KNNDistance(1).fit(points.numpy())
    expected = alone._training_scores(points.numpy())
    np.testing.assert_allclose(random_neighbour_distance(points, points[rows], rows), expected)


@pytest.mark.parametrize("cutoff", [0.5, 1.0, 1.7321, 3.0])
def test_the_share_of_outlier_candidates_keeps_cantellis_bound(cutoff, rng):
    for scores in (rng.normal(size=5000), rng.exponential(size=5000), rng.standard_t(2, size=5000)):
        candidates = outlier_candidates(torch.tensor(scores), cutoff)
        assert 0 < candidates.double().mean() <= 1 / (1 + cutoff**2)
        assert scores[candidates.numpy()].min() > scores[~candidates.numpy()].max()


@dataclass(kw_only=True, eq=False, repr=False)
class OneColumn(KNNDistance):
    """A base detector that looks at one column only."""

    column: int = 0

    def _score(self, X):
        return np.abs(X[:, self.column])

    _training_scores = _score


def test_training_repen_beats_the_untrained_network_where_its_base_detector_looks_at_the_right_column(rng):
    train, test, y = rng.normal(size=(600, 12)), rng.normal(size=(400, 12)), np.repeat([0, 1], 200)
    test[y == 1, 0] = rng.choice([-3.5, 3.5], 200)
    areas = {}
    for epochs, column in ((0, 0), (30, 0), (30, 1)):
        detector = REPEN(base_detector=OneColumn(column=column), margin=3.0, epochs=epochs, random_state=0).fit(train)
        assert len(detector.history_) == epochs
        areas[epochs, column] = roc_auc_score(y, detector.anomaly_score(test))
    assert areas[30, 0] > max(0.9, areas[0, 0] + 0.05)
    assert areas[30, 1] < areas[0, 0], "the mistake of a base detector that looks elsewhere carries over"


class Constant(KNNDistance):
    """A base detector that tells nobody apart."""

    def _score(self, X):
        return np.ones(len(X))

    _training_scores = _score


@pytest.mark.parametrize("parameters", [{"base_detector": Constant()}, {"cutoff": 100.0}])
def test_no_outlier_candidates_is_one_clear_error(parameters, rng):
    with pytest.raises(DetectorError, match="0 of 50 samples are outlier candidates, so no triplet can be drawn"):
        REPEN(random_state=0, **parameters).fit(rng.normal(size=(50, 3)))


@pytest.mark.parametrize("base", ["knn", None, 3])
def test_an_unknown_base_detector_is_named_with_the_choices(base, rng):
    with pytest.raises(DetectorError, match="give 'lof', 'sp' or an estimator with score_samples"):
        REPEN(base_detector=base).fit(rng.normal(size=(50, 3)))


def test_base_scores_are_those_of_the_base_detector(rng):
    X = rng.normal(size=(80, 3)).astype(np.float32)
    data, generator = torch.from_numpy(X), torch.Generator().manual_seed(0)
    lof = LocalOutlierFactor(20).fit(X.astype(np.float64)).negative_outlier_factor_
    np.testing.assert_allclose(REPEN().base_scores(data, generator), -lof, rtol=1e-5)
    forest = IsolationForest(n_estimators=20, random_state=0)
    expected = -forest.fit(X.astype(np.float64)).score_samples(X.astype(np.float64))
    np.testing.assert_allclose(REPEN(base_detector=forest).base_scores(data, generator), expected, rtol=1e-5)
    everyone = REPEN(base_detector="sp", subsample_size=80, n_subsamples=2).base_scores(data, generator)
    np.testing.assert_allclose(everyone, np.sort(cdist(X, X), axis=1)[:, 1], rtol=1e-4)


def test_candidates_move_apart_from_the_others_as_the_margin_asks(curve):
    train, _, _ = curve
    gaps = {}
    for epochs in (0, 60):
        detector = REPEN(epochs=epochs, random_state=0).fit(train)
        scores = detector.anomaly_score(train)
        lof = -LocalOutlierFactor(20).fit(train).negative_outlier_factor_
        candidates = outlier_candidates(torch.tensor(lof), detector.cutoff).numpy()
        gaps[epochs] = scores[candidates].mean() / scores[~candidates].mean()
    assert gaps[60] > 1.2 * gaps[0]


def test_the_base_detector_serves_for_fitting_and_is_saved(rng, tmp_path):
    X = rng.normal(size=(60, 3))
    foreign = REPEN(base_detector=IsolationForest(n_estimators=5, random_state=0), epochs=1, random_state=0).fit(X)
    ours = REPEN(base_detector=KNNDistance(), epochs=1, random_state=0).fit(X)
    scores = ours.anomaly_score(X)
    ours.base_detector = None  # not needed any more
    np.testing.assert_array_equal(ours.anomaly_score(X), scores)
    foreign.save(tmp_path / "detector")
    np.testing.assert_array_equal(REPEN.load(tmp_path / "detector").anomaly_score(X), foreign.anomaly_score(X))


def test_fewer_samples_than_a_subsample_are_drawn_with_repetition(rng):
    detector = REPEN(cutoff=1.0, subsample_size=64, epochs=1, random_state=0).fit(rng.normal(size=(25, 3)))
    assert np.isfinite(detector.anomaly_score(rng.normal(size=(5, 3)))).all()


# RDP


def test_the_score_is_both_deviations_in_float64(rng):
    X = rng.normal(size=(60, 4))
    detector = RDP(latent_dim=5, n_references=7, relation_weight=2.0, novelty_weight=3.0, n_estimators=1, epochs=2)
    network = detector.set_params(random_state=0).fit(X).network_
    with torch.no_grad():
        phi, eta = (network[key](torch.tensor(X)).numpy() for key in ("phi", "eta"))
        phi_r, eta_r = (network[key](network.references).numpy() for key in ("phi", "eta"))
    eta, eta_r = ((part - network.mean.numpy()) / network.scale.numpy() for part in (eta, eta_r))
    relation = np.square(phi @ phi_r.T / 5 - eta @ eta_r.T / 5).mean(axis=1)
    novelty = np.square(phi - eta).sum(axis=1) / 5
    np.testing.assert_allclose(detector.anomaly_score(X), 2 * relation + 3 * novelty, rtol=1e-10)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_each_term_alone_learns(weights, curve):
    train, test, y = curve
    detector = RDP(relation_weight=weights[0], novelty_weight=weights[1], n_estimators=1, random_state=0)
    areas = [
        roc_auc_score(y, detector.set_params(epochs=epochs).fit(train).anomaly_score(test)) for epochs in (0, 40)
    ]
    assert areas[1] > max(0.8, areas[0] + 0.1)


def test_the_target_stays_as_it_was_drawn_and_differs_between_members(rng):
    X = rng.normal(size=(60, 4))
    weights = {
        epochs: RDP(epochs=epochs, n_estimators=1, random_state=0).fit(X).network_["eta"][0].weight
        for epochs in (0, 3)
    }
    assert torch.equal(weights[0], weights[3])
    members = RDP(epochs=0, n_estimators=2, random_state=0).fit(X).estimators_
    assert not torch.equal(*(member.network_["eta"][0].weight for member in members))


def test_a_target_without_hidden_layers_is_a_linear_projection(rng):
    eta = (
        RDP(target_hidden=(), epochs=0, n_estimators=1, random_state=0).fit(rng.normal(size=(60, 4))).network_["eta"]
    )
    a, b = (torch.tensor(rng.normal(size=(9, 4))) for _ in range(2))
    with torch.no_grad():
        np.testing.assert_allclose(eta(a) + eta(b), eta(a + b) + eta(torch.zeros(1, 4).double()), rtol=1e-9)


def test_a_loss_that_explodes_is_one_clear_error(rng):
    X = rng.normal(size=(60, 4))
    with pytest.raises(TrainingError, match="lower the learning rate"):
        RDP(learning_rate=1e30, epochs=50, n_estimators=1, random_state=0).fit(X)
