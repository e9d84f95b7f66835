import numpy as np
import pytest
import torch
from scipy import special, stats
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from torch.nn import functional

import mmad_utils
from mmad_utils.datasets import load
from mmad_utils.detector import DetectorError
from mmad_utils.detectors.self_supervised import E3Outlier, GeometricTransformations, fit_dirichlet
from mmad_utils.detectors.transformations import transform

QUICK = {"epochs": 2, "width": 2, "latent_dim": 8, "random_state": 0}
DETECTORS = [
    GeometricTransformations(**QUICK),
    GeometricTransformations(score="dirichlet", flip=False, shift=0, **QUICK),
    *(E3Outlier(score=score, sets=("irregular", "patches"), **QUICK) for score in ("PL", "MP", "NE")),
    E3Outlier(sets=("patches",), n_estimators=2, **QUICK),
]


@pytest.fixture(scope="module")
def digits():
    return load("digits/3")


@pytest.fixture(scope="module")
def contaminated(digits):
    """Threes with a tenth of other digits among them, and which are which."""
    threes = np.concatenate([digits.X_train, digits.X_test[digits.y_test == 0]])
    others = digits.X_test[digits.y_test == 1][::80]
    return np.concatenate([threes, others]), np.repeat([0, 1], [len(threes), len(others)])


def answers(detector, X):
    """Probabilities (n, K, K), operation by operation, written out."""
    images = torch.from_numpy(X).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = [detector.logits(transform(images, grid)) for grid in detector.network_.grids]
    return torch.stack(logits, 1).double().softmax(2).numpy()


@pytest.mark.parametrize("detector", DETECTORS, ids=str)
def test_a_saved_detector_scores_as_before_and_the_same_seed_gives_the_same_bits(detector, digits, tmp_path):
    X = digits.X_train[:30]
    detector = clone(detector).fit(X)
    scores = detector.anomaly_score(X)
    assert scores.shape == (30,) and np.isfinite(scores).all()
    # After two epochs the entropies differ by a few float32 units only; how many coincide depends on the processor.
    assert len(np.unique(scores)) > 10
    np.testing.assert_array_equal(clone(detector).fit(X).anomaly_score(X), scores)
    assert not np.array_equal(clone(detector).set_params(random_state=1).fit(X).anomaly_score(X), scores)
    detector.save(tmp_path / "net")
    loaded = mmad_utils.Detector.load(tmp_path / "net")
    np.testing.assert_array_equal(loaded.anomaly_score(X), scores)
    np.testing.assert_array_equal(loaded.predict(X), detector.predict(X))


@pytest.mark.parametrize("score", ["simplified", "dirichlet"])
def test_training_on_quarter_turns_beats_the_untrained_network(score, digits):
    areas = []
    for epochs in (0, 60):
        detector = GeometricTransformations(flip=False, shift=0, score=score, epochs=epochs, random_state=0)
        areas.append(roc_auc_score(digits.y_test, detector.fit(digits.X_train).anomaly_score(digits.X_test)))
    assert areas[1] > max(0.85, areas[0] + 0.1)


def test_the_scores_are_those_of_the_papers_on_the_answers_written_out(digits):
    X = digits.X_train[:30]
    simple = GeometricTransformations(**QUICK).fit(X)
    p = answers(simple, X)
    assert p.shape == (30, 72, 72)
    right = np.diagonal(p, axis1=1, axis2=2)
    np.testing.assert_allclose(simple.anomaly_score(X), -np.log(right).sum(1), rtol=1e-4)
    e3 = E3Outlier(sets=("regular",), **QUICK).fit(X)
    p = answers(e3, X)
    expected = {
        "PL": -np.diagonal(p, axis1=1, axis2=2).mean(1),
        "MP": -p.max(2).mean(1),
        "NE": stats.entropy(p, axis=2).mean(1),
    }
    for score, reference in expected.items():
        np.testing.assert_allclose(e3.set_params(score=score).anomaly_score(X), reference, rtol=1e-4)


def test_the_dirichlet_score_orders_as_scipys_density_of_the_answers(digits):
    X = digits.X_train[:30]
    detector = GeometricTransformations(score="dirichlet", flip=False, shift=0, **QUICK).fit(X)
    alpha, p = detector.network_.alpha.numpy(), answers(detector, X)
    expected = [sum(stats.dirichlet.logpdf(one[i], alpha[i]) for i in range(4)) for one in p]
    difference = detector.score_samples(X) - expected
    np.testing.assert_allclose(difference, difference.mean(), rtol=1e-3, atol=1e-3)


def test_the_fixed_point_is_the_maximum_of_the_dirichlet_likelihood(rng):
    true = np.array([[0.3, 2.0, 5.0], [8.0, 0.1, 0.1]])
    samples = [np.maximum(rng.dirichlet(alpha, 4000), 1e-300) for alpha in true]
    found = fit_dirichlet(torch.tensor(np.array([np.log(s).mean(0) for s in samples]))).numpy()
    np.testing.assert_allclose(found, true, rtol=0.12)
    for alpha, sample in zip(found, samples):
        likelihood = [log_likelihood(sample, alpha * factor) for factor in (0.95, 1.0, 1.05)]
        assert likelihood[1] == max(likelihood)


def log_likelihood(sample, alpha):
    constant = special.gammaln(alpha.sum()) - special.gammaln(alpha).sum()
    return len(sample) * constant + ((alpha - 1) * np.log(sample)).sum()


def test_a_classifier_that_is_always_sure_gives_finite_dirichlet_parameters():
    log_p = torch.full((3, 3), -80.0, dtype=torch.float64)
    log_p.fill_diagonal_(-1e-30)
    alpha = fit_dirichlet(log_p)
    assert torch.isfinite(alpha).all() and (alpha > 0).all()


def test_the_gradients_are_those_of_autograd(digits):
    X = digits.X_train[:6]
    detector = E3Outlier(sets=("patches",), **QUICK).fit(X)
    images = torch.from_numpy(X).permute(0, 3, 1, 2).float() / 255
    found = detector.gradients(X)
    assert found.shape == (6, 23, 8)
    weight = detector.network_["head"].weight
    for i in range(6):
        views = transform(images[i].expand(23, -1, -1, -1), detector.network_.grids)
        loss = functional.cross_entropy(detector.logits(views), torch.arange(23))
        np.testing.assert_allclose(found[i], torch.autograd.grad(loss, weight)[0], atol=1e-6)


def test_an_isolation_forest_works_on_the_features(contaminated):
    X, y = contaminated
    baseline = make_pipeline(E3Outlier(sets=("patches",), epochs=3, random_state=0), IsolationForest(random_state=0))
    assert roc_auc_score(y, -baseline.fit(X).score_samples(X)) > 0.6
    two = E3Outlier(sets=("patches",), n_estimators=2, **QUICK).fit(X)
    assert two.transform(X).shape == (len(X), 16)
    with pytest.raises(DetectorError, match="call the method of one of"):
        two.gradients(X)


def test_each_step_shows_every_image_after_as_many_operations_as_there_are_views(digits, monkeypatch):
    sizes = []
    original = GeometricTransformations.logits
    monkeypatch.setattr(
        GeometricTransformations, "logits", lambda self, images: sizes.append(len(images)) or original(self, images)
    )
    detector = GeometricTransformations(views=3, shift=0, **QUICK | {"epochs": 1, "batch_size": 20})
    detector.fit(digits.X_train[:40])
    assert sizes[:2] == [60, 60] and set(sizes[2:]) == {40}


@pytest.mark.parametrize("detector", [GeometricTransformations(), E3Outlier()], ids=str)
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((9, 64)), "images, uint8"),
        (np.zeros((9, 8, 8), np.uint8), "images, uint8"),
        (np.zeros((9, 8, 12, 1), np.uint8), "square images of at least 8 px per side.*got 8×12"),
        (np.zeros((9, 6, 6, 1), np.uint8), "at least 8 px per side"),
        (np.zeros((9, 8, 8, 1)), "must be uint8"),
        (np.zeros((9, 8, 8, 1), np.uint8), "are all equal"),
    ],
)
def test_what_is_no_set_of_square_images_is_refused(detector, X, message):
    with pytest.raises(DetectorError, match=message):
        clone(detector).fit(X)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (GeometricTransformations(rotations=3), "rotations is 3"),
        (GeometricTransformations(shift=1.5), "shift 1.5"),
        (GeometricTransformations(score="NE"), "choose 'simplified' or 'dirichlet'"),
        (GeometricTransformations(flip=False, shift=0, rotations=1), "the identity is the only operation"),
        (E3Outlier(score="simplified"), "choose 'PL', 'MP' or 'NE'"),
        (E3Outlier(sets=("regular", "cubic")), "choose from regular, irregular, patches"),
        (E3Outlier(sets=()), "choose from"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named_with_the_choices(detector, message, digits):
    with pytest.raises(DetectorError, match=message):
        detector.fit(digits.X_train)


def test_odd_sides_can_be_turned_but_not_quartered(rng):
    X = rng.integers(0, 256, (12, 9, 9, 3), dtype=np.uint8)
    assert GeometricTransformations(**QUICK).fit(X).anomaly_score(X).shape == (12,)
    with pytest.raises(DetectorError, match="cannot be divided into quarters: crop or pad"):
        E3Outlier(**QUICK).fit(X)


def test_a_foreign_or_truncated_file_is_one_clear_error(digits, tmp_path):
    detector = E3Outlier(**QUICK).fit(digits.X_train[:10])
    detector.save(tmp_path / "net")
    with pytest.raises(DetectorError, match="contains a E3Outlier, not a GeometricTransformations"):
        GeometricTransformations.load(tmp_path / "net")
    whole = (tmp_path / "net").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DetectorError, match="damaged"):
        E3Outlier.load(tmp_path / "half")
