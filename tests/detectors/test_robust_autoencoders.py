import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils.datasets import load
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors.autoencoders import AutoEncoder
from mmad_utils.detectors.baselines import PCAResidual
from mmad_utils.detectors.robust_autoencoders import RobustDeepAutoEncoder, RobustPCA, shrink


def small(**parameters):
    options = {"epochs": 2, "n_rounds": 2, "hidden": (4,), "latent_dim": 2, "random_state": 0} | parameters
    return RobustDeepAutoEncoder(**options)


def low_rank_and_spikes(rng, n=120, d=80, rank=4, share=0.05):
    """As in section 4.1 of Candès et al.: L = AB, and S with signs at random places."""
    low_rank = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d))
    sparse = rng.choice([-1.0, 1.0], (n, d)) * (rng.random((n, d)) < share)
    return low_rank, 3 * sparse


@parametrize_with_checks(
    [RobustPCA(max_iter=100), small(epochs=1), small(penalty="columns"), small(penalty="l1", n_estimators=2)]
)
def test_scikit_learns_checks_pass(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


# Robust PCA


@pytest.mark.parametrize("share", [0.02, 0.1])
@pytest.mark.parametrize("size", [100.0, 1.0, 1e-4])
def test_a_known_low_rank_and_a_sparse_matrix_are_recovered(share, size, rng):
    low_rank, sparse = (size * part for part in low_rank_and_spikes(rng, share=share))
    detector = RobustPCA().fit(low_rank + sparse)
    for found, true in ((detector.low_rank_, low_rank), (detector.sparse_, sparse)):
        assert np.linalg.norm(found - true) <= 1e-5 * np.linalg.norm(true)
    assert detector.components_.shape == (4, 80)


def test_the_parts_add_up_and_are_optimal(rng):
    low_rank, sparse = low_rank_and_spikes(rng, 30, 20, 2)
    X = low_rank + sparse + 0.1 * rng.normal(size=(30, 20))  # not exactly recoverable
    detector = RobustPCA(tol=1e-10, max_iter=20000).fit(X)
    np.testing.assert_allclose(detector.low_rank_ + detector.sparse_, X, atol=1e-8)

    def objective(low):
        return np.linalg.norm(low, "nuc") + np.abs(X - low).sum() / np.sqrt(30)

    best = objective(detector.low_rank_)
    for scale in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            assert objective(detector.low_rank_ + scale * rng.normal(size=X.shape)) >= best - 1e-7
        assert objective(detector.low_rank_ * (1 + scale)) >= best - 1e-7
        assert objective(detector.low_rank_ * (1 - scale)) >= best - 1e-7


def test_a_new_row_is_split_by_least_absolute_deviations(rng):
    low_rank, sparse = low_rank_and_spikes(rng, 60, 12, 2)
    detector = RobustPCA(n_split_iter=5000, tol=1e-5).fit(low_rank + sparse)
    basis = detector.components_
    new = rng.normal(size=(6, 12))
    low, rest = detector.split(new)
    np.testing.assert_allclose(low + rest, new)
    np.testing.assert_allclose(low @ basis.T @ basis, low, atol=1e-6)
    for row, score in zip(new, detector.anomaly_score(new)):  # min 1ᵀt subject to −t ≤ x − Bᵀc ≤ t
        k, d = basis.shape
        A = np.block([[-basis.T, -np.eye(d)], [basis.T, -np.eye(d)]])
        cost, limits = np.r_[np.zeros(k), np.ones(d)], np.r_[-row, row]
        best = linprog(cost, A_ub=A, b_ub=limits, bounds=[(None, None)] * k + [(0, None)] * d).fun
        assert score == pytest.approx(best, rel=1e-3)


def test_a_gross_error_stays_in_its_column(rng):
    low_rank, sparse = low_rank_and_spikes(rng)
    detector = RobustPCA().fit(low_rank + sparse)
    new = low_rank[:10].copy()
    new[:, 5] += 50
    rest = detector.split(new)[1]
    np.testing.assert_allclose(rest[:, 5], 50, rtol=0.01)
    assert np.abs(np.delete(rest, 5, axis=1)).max() < 0.5


def test_contamination_bends_the_principal_components_and_not_the_robust_ones(rng):
    low_rank, _ = low_rank_and_spikes(rng, 200, 40, 3)
    spoiled = rng.random((200, 40)) < 0.05
    train = low_rank + 30 * spoiled
    test = np.vstack(
        [low_rank[:100], low_rank[100:] + 3 * rng.normal(size=(100, 40)) * (rng.random((100, 40)) < 0.1)]
    )
    y = np.repeat([0, 1], 100)
    robust, plain = (roc_auc_score(y, d.fit(train).anomaly_score(test)) for d in (RobustPCA(), PCAResidual(3)))
    assert robust > 0.95 and robust > plain + 0.1


def test_a_saved_robust_pca_scores_as_before(rng, tmp_path):
    X = sum(low_rank_and_spikes(rng))
    detector = RobustPCA().fit(X)
    detector.save(tmp_path / "rpca")
    loaded = RobustPCA.load(tmp_path / "rpca")
    np.testing.assert_array_equal(loaded.anomaly_score(X), detector.anomaly_score(X))
    np.testing.assert_array_equal(loaded.sparse_, detector.sparse_)


def test_robust_pca_says_when_it_did_not_converge_and_refuses_bad_input(rng):
    X = sum(low_rank_and_spikes(rng))
    with pytest.warns(ConvergenceWarning, match="after 3 iterations"):
        RobustPCA(max_iter=3).fit(X)
    with pytest.raises(DetectorError, match="regularization is -1"):
        RobustPCA(regularization=-1).fit(X)
    with pytest.raises(DetectorError, match="at least 2 training samples"):
        RobustPCA().fit(X[:1])
    assert np.isfinite(RobustPCA().fit(np.ones((5, 3))).anomaly_score(np.ones((5, 3)))).all()
    np.testing.assert_array_equal(RobustPCA().fit(np.zeros((5, 3))).anomaly_score(np.ones((2, 3))), 3.0)


# Robust deep autoencoder


@pytest.mark.parametrize("penalty", ["l1", "columns", "rows"])
def test_shrinking_is_the_proximal_step_of_its_norm(penalty, rng):
    residuals, threshold = rng.normal(size=(3, 4)), 0.8
    norm = {
        "l1": lambda S: np.abs(S).sum(),
        "columns": lambda S: np.linalg.norm(S, axis=0).sum(),
        "rows": lambda S: np.linalg.norm(S, axis=1).sum(),
    }[penalty]

    def objective(flat):
        S = flat.reshape(3, 4)
        return threshold * norm(S) + 0.5 * np.square(S - residuals).sum()

    found = shrink(torch.tensor(residuals), threshold, penalty).numpy()
    best = minimize(objective, residuals.ravel(), method="Powell", options={"xtol": 1e-9, "ftol": 1e-12})
    assert objective(found.ravel()) <= best.fun + 1e-9
    assert (found == 0).any() or penalty != "l1"


def test_shrinking_images_groups_pixels_over_samples_and_samples_over_pixels(rng):
    residuals = torch.tensor(rng.normal(size=(5, 2, 3, 3)))
    for penalty, dims in (("columns", (0,)), ("rows", (1, 2, 3))):
        norms = residuals.square().sum(dims, keepdim=True).sqrt()
        expected = residuals * (1 - 2.0 / norms).clamp(min=0)
        torch.testing.assert_close(shrink(residuals, 2.0, penalty), expected)


@pytest.fixture
def plane(rng):
    """Rows near a curved sheet in 8 columns."""
    code = rng.normal(size=(400, 2))
    mix = rng.normal(size=(2, 8))
    X = np.tanh(code @ mix) + 0.02 * rng.normal(size=(400, 8))
    return (X - X.mean(0)) / X.std(0)


def test_rows_that_do_not_belong_go_into_the_sparse_part(plane, rng):
    anomalies = 1.5 * rng.normal(size=(30, 8))
    X = np.concatenate([plane[:270], anomalies])
    detector = RobustDeepAutoEncoder(regularization=0.5, epochs=40, latent_dim=2, hidden=(32,), random_state=0).fit(X)
    norms = np.linalg.norm(detector.sparse_, axis=1)
    assert roc_auc_score(np.repeat([0, 1], [270, 30]), norms) > 0.95
    assert np.median(norms[:270]) == 0 and np.median(norms[270:]) > 0
    assert detector.sparse_.shape == X.shape


def test_a_broken_column_goes_into_the_sparse_part(plane, rng):
    X = plane.copy()
    X[:, 3] = rng.normal(size=400)  # noise that has nothing to do with the others
    detector = RobustDeepAutoEncoder(penalty="columns", epochs=40, latent_dim=2, hidden=(32,), random_state=0).fit(X)
    norms = np.linalg.norm(detector.sparse_, axis=0)
    assert norms.argmax() == 3 and norms[3] > 2 * np.delete(norms, 3).max()


def test_spikes_go_into_the_sparse_part(plane, rng):
    spikes = rng.random(plane.shape) < 0.03
    detector = RobustDeepAutoEncoder(penalty="l1", epochs=40, latent_dim=2, hidden=(32,), random_state=0)
    detector.fit(plane + 4 * spikes)
    assert roc_auc_score(spikes.ravel(), np.abs(detector.sparse_).ravel()) > 0.95


def test_training_sees_the_data_without_the_sparse_part(plane, monkeypatch):
    seen = []
    loss = RobustDeepAutoEncoder.loss
    monkeypatch.setattr(
        RobustDeepAutoEncoder, "loss", lambda self, batch, g: (seen.append(batch.clone()), loss(self, batch, g))[1]
    )
    detector = small(epochs=3, n_rounds=3, batch_size=400, regularization=0.1).fit(plane)
    assert len(seen) == len(detector.history_) == 3
    first, last = (np.sort(batch.numpy(), axis=0) for batch in (seen[0], seen[2]))
    np.testing.assert_array_equal(first, np.sort(plane.astype(np.float32), axis=0))
    assert not np.allclose(first, last)
    assert (np.linalg.norm(detector.sparse_, axis=1) > 0).mean() > 0.5  # the threshold is low
    expected = np.square(detector.reconstruct(plane) - plane).sum(1)
    np.testing.assert_allclose(detector.anomaly_score(plane), expected)


def test_a_threshold_that_nothing_exceeds_leaves_the_plain_autoencoder(plane):
    robust = small(regularization=1e6, n_rounds=1).fit(plane)
    plain = AutoEncoder(epochs=2, hidden=(4,), latent_dim=2, random_state=0).fit(plane)
    assert not robust.sparse_.any()
    np.testing.assert_array_equal(robust.anomaly_score(plane), plain.anomaly_score(plane))


def test_the_threshold_follows_the_units_of_the_data(plane):
    one, other = (small(penalty="l1").fit(factor * plane).threshold_ for factor in (1, 8))
    assert one == pytest.approx(0.1 * plane.std(), rel=1e-2) and other == pytest.approx(8 * one)
    assert small(penalty="rows").fit(plane).threshold_ == pytest.approx(one * np.sqrt(8))
    assert small(penalty="columns").fit(plane).threshold_ == pytest.approx(one * np.sqrt(400))


@pytest.mark.parametrize("penalty", ["l1", "columns", "rows"])
@pytest.mark.parametrize("kind", ["table", "images"])
def test_a_saved_robust_autoencoder_scores_as_before_and_seeds_repeat(penalty, kind, plane, rng, tmp_path):
    X = plane if kind == "table" else rng.integers(0, 256, (30, 8, 8, 2), dtype=np.uint8)
    detector, again = (small(penalty=penalty).fit(X) for _ in range(2))
    np.testing.assert_array_equal(detector.anomaly_score(X), again.anomaly_score(X))
    np.testing.assert_array_equal(detector.sparse_, again.sparse_)
    assert detector.sparse_.shape == X.shape
    detector.save(tmp_path / "rda")
    loaded = Detector.load(tmp_path / "rda")
    np.testing.assert_array_equal(loaded.decision_function(X), detector.decision_function(X))
    np.testing.assert_array_equal(loaded.sparse_, detector.sparse_)


def test_anomalies_in_the_training_set_harm_it_less_than_the_plain_autoencoder():
    digits = load("digits/9", seed=0)
    hidden = np.random.default_rng(0).permutation(np.flatnonzero(digits.y_test == 1))[:10]
    X = np.concatenate([digits.X_train, digits.X_test[hidden]])
    y = np.repeat([0, 1], [len(digits.X_train), 10])
    plain, robust = (
        np.mean([roc_auc_score(y, cls(epochs=150, random_state=seed).fit(X).anomaly_score(X)) for seed in range(2)])
        for cls in (AutoEncoder, RobustDeepAutoEncoder)
    )
    assert robust > plain + 0.05


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"penalty": "l2"}, "penalty is 'l2'; choose 'rows', 'columns' or 'l1'"),
        ({"regularization": 0}, "regularization is 0"),
        ({"n_rounds": 0}, "n_rounds 0"),
    ],
)
def test_a_wrong_parameter_is_named(parameters, message, plane):
    with pytest.raises(DetectorError, match=message):
        small(**parameters).fit(plane)
