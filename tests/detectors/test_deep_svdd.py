import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.deep_svdd import DeepSAD, DeepSVDD
from mmad_utils.training import TrainingError

SMALL = {"hidden": (8,), "latent_dim": 4, "epochs": 2, "random_state": 0}


@parametrize_with_checks(
    [
        DeepSVDD(**SMALL, n_estimators=1),
        DeepSVDD(**SMALL, n_estimators=2, objective="soft-boundary", pretraining_epochs=1),
        DeepSAD(**SMALL, n_estimators=1),
    ]
)
@pytest.mark.filterwarnings("ignore:y holds labels other than 0 and 1")
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def curve(n, rng):
    """Points on a curve in six dimensions, which no single column and no linear relation gives away."""
    t = rng.uniform(0, 2 * np.pi, n)
    return np.stack([f(k * t) for k in (1, 2, 3) for f in (np.cos, np.sin)], axis=1) + 0.05 * rng.normal(size=(n, 6))


@pytest.fixture
def data(rng):
    """Training points, test points and labels; each column of an anomaly is that of some normal point."""
    train, test = curve(600, rng), curve(600, rng)
    test[300:] = rng.permuted(test[300:], axis=0)
    return train, test, np.repeat([0, 1], 300)


@pytest.mark.parametrize("objective", ["one-class", "soft-boundary"])
def test_training_beats_the_untrained_network_and_the_distance_to_centre(data, objective):
    train, test, y = data
    areas = {}
    for epochs in (0, 30):
        detector = DeepSVDD(objective=objective, epochs=epochs, n_estimators=1, random_state=0).fit(train)
        assert len(detector.history_) == epochs
        areas[epochs] = roc_auc_score(y, detector.anomaly_score(test))
    baseline = roc_auc_score(y, np.square(test).sum(1))
    assert areas[30] > max(areas[0], baseline) + 0.15


def test_the_score_is_the_squared_distance_to_the_centre_in_float64(data):
    train, test, _ = data
    one = DeepSVDD(**SMALL, n_estimators=1).fit(train)
    soft = DeepSVDD(**SMALL, n_estimators=1, objective="soft-boundary").fit(train)
    for detector, squared_radius in ((one, 0.0), (soft, soft.network_.radius.item() ** 2)):
        x = test
        first, norm, _, last = detector.network_
        x = x @ first.weight.detach().numpy().T
        x = (x - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
        x = np.where(x > 0, x, 0.01 * x) @ last.weight.detach().numpy().T
        expected = np.square(x - detector.network_.center.numpy()).sum(1) - squared_radius
        np.testing.assert_allclose(detector.anomaly_score(test), expected, rtol=1e-9)


def test_nothing_that_is_learned_can_shift_the_codes_and_the_centre_keeps_away_from_zero(data):
    detector = DeepSVDD(epochs=1, n_estimators=1, center_margin=0.3, random_state=0).fit(data[0])
    names = [name for name, _ in detector.network_.named_parameters()]
    assert names and all(name.endswith("weight") for name in names)
    assert all(module.bias is None for module in detector.network_.modules() if hasattr(module, "bias"))
    assert detector.network_.center.abs().min() == pytest.approx(0.3)
    # without input there is nothing but the statistics of the batch: zeros map to zeros in the initial network
    untrained = clone(detector).set_params(epochs=0).fit(data[0]).network_
    assert untrained(torch.zeros(1, 6, dtype=torch.float64)).abs().max() == 0


def test_the_centre_is_the_mean_output_of_the_initial_network_where_it_is_far_from_zero(data):
    detector = DeepSVDD(epochs=3, n_estimators=1, center_margin=0.0, random_state=0).fit(data[0])
    untrained = clone(detector).set_params(epochs=0).fit(data[0]).network_
    mean = untrained(torch.tensor(data[0])).mean(0)
    np.testing.assert_allclose(detector.network_.center, mean.detach(), atol=1e-6)


@pytest.mark.parametrize("nu", [0.05, 0.3])
def test_the_soft_boundary_leaves_the_share_nu_of_the_training_samples_outside(data, nu):
    detector = DeepSVDD(**SMALL, n_estimators=1, objective="soft-boundary", nu=nu).fit(data[0])
    assert (detector.anomaly_score(data[0]) > 0).mean() == pytest.approx(nu, abs=0.01)


def test_the_quantile_is_the_best_radius_of_the_soft_boundary(rng):
    distances = rng.exponential(size=200)
    detector = DeepSVDD(objective="soft-boundary", nu=0.13)
    radii = np.linspace(0, 6, 20001)
    best = min(r + np.maximum(0, distances - r).mean() / 0.13 for r in radii)
    assert detector._objective(torch.tensor(distances)).item() == pytest.approx(best, rel=1e-4)


def test_the_gradient_of_the_soft_boundary_is_that_of_the_distances_outside():
    distances = torch.arange(10.0, requires_grad=True)
    DeepSVDD(objective="soft-boundary", nu=0.25)._objective(distances).backward()
    np.testing.assert_allclose(distances.grad, np.where(np.arange(10) > 6.75, 1 / (0.25 * 10), 0))


def test_the_loss_of_deep_sad_is_the_distance_of_the_unlabelled_and_the_inverse_distance_of_the_labelled(rng):
    detector = DeepSAD(eta=3.0, latent_dim=2, hidden=(4,)).set_params(batch_size=8)
    detector.network_ = detector.build((3,)).eval()
    detector.network_.center.fill_(1.0)
    batch, detector._anomalies = torch.tensor(rng.normal(size=(10, 3))).float().tensor_split([8])
    loss = detector.loss(batch, torch.Generator()).item()
    unlabelled, labelled = (detector.distance(part).detach().double() for part in (batch, detector._anomalies))
    assert loss == pytest.approx(float(unlabelled.mean() + 3 * (1 / labelled).mean()), rel=1e-4)


def test_labelled_anomalies_help_to_find_their_like_and_do_not_set_the_threshold(rng):
    """Normal and anomalous samples differ in one column that does not stand out: only a label can say which."""
    train, test = rng.normal(size=(400, 8)), rng.normal(size=(400, 8))
    test[:200, 0] += 1.5
    few = rng.normal(size=(10, 8))
    few[:, 0] += 1.5
    X, y = np.concatenate([few, train]), np.repeat([1, 0], [10, 400])
    detector = DeepSAD(epochs=20, n_estimators=2, random_state=0)
    truth = np.repeat([1, 0], 200)
    without = roc_auc_score(truth, clone(detector).fit(train).anomaly_score(test))
    assert roc_auc_score(truth, detector.fit(X, y).anomaly_score(test)) > without + 0.05
    assert (detector.predict(train) == -1).mean() == pytest.approx(detector.contamination, abs=0.003)
    np.testing.assert_array_equal(detector.anomalous_, y == 1)


def test_without_labels_deep_sad_is_deep_svdd_to_the_bit(data):
    sad, svdd = DeepSAD(**SMALL).fit(data[0]), DeepSVDD(**SMALL).fit(data[0])
    for y in (None, np.zeros(600)):
        np.testing.assert_array_equal(clone(sad).fit(data[0], y).anomaly_score(data[1]), sad.anomaly_score(data[1]))
    np.testing.assert_allclose(sad.anomaly_score(data[1]), svdd.anomaly_score(data[1]), rtol=1e-4)


@pytest.mark.parametrize("detector", [DeepSVDD(**SMALL), DeepSAD(**SMALL, pretraining_epochs=1)], ids=str)
def test_equal_seeds_give_bitwise_equal_results_and_the_file_keeps_every_score(data, detector, tmp_path):
    train, test, _ = data
    y = np.arange(len(train)) < 5
    detector.fit(train, y)
    again = clone(detector).fit(train, y)
    np.testing.assert_array_equal(again.anomaly_score(test), detector.anomaly_score(test))
    detector.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.decision_function(test), detector.decision_function(test))


def test_images_go_through_convolutions_without_bias_and_labels_work_too(rng):
    images = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    detector = DeepSAD(epochs=1, n_estimators=1, pretraining_epochs=1, random_state=0).fit(images, np.arange(40) < 3)
    assert any(isinstance(module, nn.Conv2d) for module in detector.network_)
    assert all(name.endswith("weight") for name, _ in detector.network_.named_parameters())
    assert np.isfinite(detector.anomaly_score(images)).all()


def test_pretraining_starts_from_other_weights_and_keeps_only_the_encoder(data):
    plain = DeepSVDD(**SMALL, n_estimators=1).fit(data[0])
    pretrained = clone(plain).set_params(pretraining_epochs=3).fit(data[0])
    assert pretrained.network_.state_dict().keys() == plain.network_.state_dict().keys()
    assert not np.allclose(pretrained.anomaly_score(data[1]), plain.anomaly_score(data[1]))


@pytest.mark.parametrize("wrong", [{"objective": "soft"}, {"nu": 0.0}, {"nu": 1}])
def test_a_wrong_objective_or_share_is_named_with_the_choices(data, wrong):
    with pytest.raises(DetectorError, match="choose 'one-class' or 'soft-boundary'"):
        DeepSVDD(**wrong).fit(data[0])


def test_batches_of_one_are_refused(data):
    with pytest.raises(DetectorError, match="batch normalisation needs at least 2 samples"):
        DeepSVDD(batch_size=1).fit(data[0])


def test_a_loss_that_is_not_finite_stops_training(data):
    with pytest.raises(TrainingError, match=r"loss is .* in epoch 1"):
        DeepSVDD(**SMALL, learning_rate=1e30).fit(data[0])


def test_identical_rows_are_refused():
    with pytest.raises(DetectorError, match="are all equal"):
        DeepSVDD(**SMALL).fit(np.ones((9, 3)))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.ones(600), "labels all samples as anomalies"),
        (np.zeros(10), "inconsistent numbers of samples"),
        (np.r_[np.nan, np.zeros(599)], "y contains NaN"),
        (np.zeros((600, 2)), "y should be a 1d array"),
    ],
)
def test_labels_that_cannot_be_used_are_one_clear_error(data, y, message):
    with pytest.raises(ValueError, match=message):
        DeepSAD(**SMALL).fit(data[0], y)


def test_labels_of_another_convention_are_not_taken_silently(data):
    with pytest.warns(UserWarning, match=r"labels other than 0 and 1: \[-1\]. Only the label 1 is an anomaly"):
        DeepSAD(**SMALL, n_estimators=1).fit(data[0], np.where(np.arange(600) < 5, -1, 0))


def test_a_file_of_another_class_and_a_truncated_one_are_clear_errors(data, tmp_path):
    path = tmp_path / "detector"
    DeepSVDD(**SMALL).fit(data[0]).save(path)
    with pytest.raises(DetectorError, match="contains a DeepSVDD, not a DeepSAD"):
        DeepSAD.load(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DetectorError, match="damaged or was not written"):
        DeepSVDD.load(path)
