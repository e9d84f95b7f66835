import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils import DAGMM
from mmad_utils.detector import DetectorError
from mmad_utils.detectors.dagmm import mixture_statistics, sample_energy
from mmad_utils.training import TrainingError


def small(**parameters):
    return DAGMM(**{"epochs": 2, "pretrain_epochs": 2, "n_estimators": 1, "random_state": 0} | parameters)


@parametrize_with_checks([small(latent_dim=1, hidden=(4,), epochs=1, pretrain_epochs=1)])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def random_mixture(rng, k=3, d=4):
    roots = rng.normal(size=(k, d, d))
    weights = rng.dirichlet(np.ones(k))
    return weights, rng.normal(size=(k, d)), roots @ roots.swapaxes(1, 2) + 0.1 * np.eye(d)


def test_the_energy_is_the_negative_log_likelihood_of_scipy(rng):
    weights, means, covariances = random_mixture(rng)
    z = 3 * rng.normal(size=(50, 4))
    components = [multivariate_normal(mean, cov).logpdf(z) for mean, cov in zip(means, covariances)]
    expected = -logsumexp(np.transpose(components), axis=1, b=weights)
    ours = sample_energy(*(torch.tensor(part) for part in (z, weights, means, covariances)))
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_the_energy_far_from_every_component_grows_and_stays_finite(rng):
    mixture = [torch.tensor(part) for part in random_mixture(rng)]
    energies = sample_energy(torch.tensor([[10.0] * 4, [1e4] * 4, [1e8] * 4]).double(), *mixture)
    assert torch.isfinite(energies).all() and (energies.diff() > 0).all()


def test_the_gradient_of_the_energy_agrees_with_finite_differences(rng):
    weights, means, covariances = (torch.tensor(part) for part in random_mixture(rng, k=2, d=3))
    z = torch.tensor(rng.normal(size=(5, 3)), requires_grad=True)

    def energy_of_its_own_mixture(z):
        membership = torch.stack([z[:, 0].sigmoid(), 1 - z[:, 0].sigmoid()], dim=1)
        return sample_energy(z, *mixture_statistics(z, membership, 0.1))

    assert torch.autograd.gradcheck(lambda z: sample_energy(z, weights, means, covariances), z)
    assert torch.autograd.gradcheck(energy_of_its_own_mixture, z)


def test_mixture_statistics_are_one_m_step_of_scikit_learn(rng):
    z, membership = rng.normal(size=(200, 3)), rng.dirichlet(np.ones(4), size=200)
    reference = GaussianMixture(4, reg_covar=1e-3).fit(z)
    reference._m_step(z, np.log(membership))
    ours = mixture_statistics(torch.tensor(z), torch.tensor(membership), 1e-3)
    for part, expected in zip(ours, (reference.weights_, reference.means_, reference.covariances_)):
        np.testing.assert_allclose(part, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("case", ["a component without members", "identical rows", "a flat direction"])
def test_degenerate_components_give_no_nan(case, rng):
    z, membership = rng.normal(size=(50, 3)), np.full((50, 2), 0.5)
    if case == "a component without members":
        membership = np.tile([1.0, 0.0], (50, 1))
    elif case == "identical rows":
        z[:] = z[0]
    else:
        z[:, 2] = 1.0
    z, membership = (torch.tensor(part, requires_grad=True) for part in (z, membership))
    energy = sample_energy(z, *mixture_statistics(z, membership, 1e-3))
    energy.sum().backward()
    assert torch.isfinite(energy).all() and torch.isfinite(z.grad).all()


def test_rows_of_only_two_kinds_train_and_score_without_nan(rng):
    X = rng.normal(size=(2, 5))[rng.integers(0, 2, 60)]
    detector = small(n_components=4).fit(X)
    assert np.isfinite(detector.anomaly_score(np.concatenate([X, rng.normal(size=(9, 5)), np.zeros((1, 5))]))).all()


def test_the_representation_holds_code_relative_error_and_cosine(rng):
    X = rng.normal(size=(60, 5))
    detector = small(latent_dim=2).fit(X)
    network = detector.network_
    with torch.no_grad():
        z, errors = detector.represent(torch.tensor(X))
        z = (z * network.scale + network.mean).numpy()
        code = network["encoder"](torch.tensor(X))
        again = network["decoder"](code).numpy()
    np.testing.assert_allclose(z[:, :2], code)
    np.testing.assert_allclose(z[:, 2], np.linalg.norm(X - again, axis=1) / np.linalg.norm(X, axis=1))
    cosine = (X * again).sum(axis=1) / np.linalg.norm(X, axis=1) / np.linalg.norm(again, axis=1)
    np.testing.assert_allclose(z[:, 3], cosine)
    np.testing.assert_allclose(errors, np.square(X - again).sum(axis=1))


def test_the_loss_is_reconstruction_energy_and_penalty_in_their_weights(rng):
    detector = small(energy_weight=0.3, covariance_weight=0.7).fit(rng.normal(size=(60, 5)))
    for row in detector.history_:
        assert row["loss"] == pytest.approx(row["reconstruction"] + 0.3 * row["energy"] + 0.7 * row["penalty"])
    assert len(detector.history_) == 2


def test_the_penalty_keeps_variances_up(rng):
    X = rng.normal(size=(200, 5))
    variances = {}
    for weight in (0.0, 10.0):
        detector = small(covariance_weight=weight, learning_rate=0.01, epochs=30).fit(X)
        variances[weight] = float(detector.network_.covariances.diagonal(dim1=1, dim2=2).min())
    assert variances[10.0] > 2 * variances[0.0]


def test_the_mixture_that_scores_is_that_of_the_whole_training_set(rng):
    X = rng.normal(size=(300, 5))
    detector = small(batch_size=64).fit(X)
    with torch.no_grad():
        z = detector.represent(torch.tensor(X))[0]
        membership = detector.network_["estimation"](z).softmax(dim=1)
    expected = mixture_statistics(z, membership, detector.regularization)
    network = detector.network_
    for part, reference in zip((network.weights, network.means, network.covariances), expected):
        np.testing.assert_allclose(part, reference, atol=1e-4)  # made in float32, scored in float64


def test_training_beats_the_untrained_network(rng):
    mixing = rng.normal(size=(6, 24))

    def points(n):
        return (rng.normal(size=(n, 6)) @ mixing + 0.3 * rng.normal(size=(n, 24))) / 2.5

    train = points(400)
    test = np.concatenate([points(200), np.column_stack([rng.permutation(column) for column in points(200).T])])
    y = np.repeat([0, 1], 200)
    areas = [
        roc_auc_score(y, DAGMM(latent_dim=6, epochs=n, n_estimators=1, random_state=0).fit(train).anomaly_score(test))
        for n in (0, 50)
    ]
    assert areas[1] > max(0.9, areas[0] + 0.05)


@pytest.mark.parametrize("kind", ["table", "images"])
def test_equal_seeds_give_bitwise_equal_results_and_a_saved_detector_scores_the_same(kind, rng, tmp_path):
    X = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8) if kind == "images" else rng.normal(size=(60, 5))
    first, second, other = (small(n_estimators=2, random_state=seed).fit(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.anomaly_score(X), second.anomaly_score(X))
    assert not np.array_equal(first.anomaly_score(X), other.anomaly_score(X))
    first.save(tmp_path / "detector")
    np.testing.assert_array_equal(DAGMM.load(tmp_path / "detector").decision_function(X), first.decision_function(X))
    single = small().fit(X)
    single.save(tmp_path / "single")
    np.testing.assert_array_equal(DAGMM.load(tmp_path / "single").anomaly_score(X), single.anomaly_score(X))


@pytest.mark.parametrize("n_components, n", [(0, 30), (31, 30)])
def test_a_wrong_number_of_components_is_one_clear_error(n_components, n, rng):
    with pytest.raises(DetectorError, match=f"n_components is {n_components} and there are 30 training samples"):
        small(n_components=n_components).fit(rng.normal(size=(n, 3)))


def test_identical_rows_are_one_clear_error():
    with pytest.raises(DetectorError, match="are all equal"):
        small().fit(np.ones((30, 3)))


def test_a_loss_that_explodes_is_one_clear_error(rng):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        small(learning_rate=1e30, epochs=20).fit(rng.normal(size=(60, 4)))
