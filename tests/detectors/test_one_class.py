import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmad_utils.detector import DetectorError
from mmad_utils.detectors.one_class import ALOCC, FenceGAN, _squared_slope
from mmad_utils.training import TrainingError

SMALL = {"hidden": (8,), "epochs": 2, "random_state": 0, "n_estimators": 1}
BOTH = [ALOCC(latent_dim=2, **SMALL), FenceGAN(**SMALL)]


@parametrize_with_checks([*BOTH, ALOCC(latent_dim=2, scoring="D(x)", **SMALL | {"n_estimators": 2, "epochs": 1})])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def curve(n, rng):
    """Points on a curve in six dimensions, which no single column and no linear relation gives away."""
    t = rng.uniform(0, 2 * np.pi, n)
    return np.stack([f(k * t) for k in (1, 2, 3) for f in (np.cos, np.sin)], axis=1) + 0.05 * rng.normal(size=(n, 6))


@pytest.fixture
def data(rng):
    """Training points, test points and labels; each column of an anomaly is that of some normal point."""
    train, test = curve(500, rng), curve(600, rng)
    test[300:] = rng.permuted(test[300:], axis=0)
    return train, test, np.repeat([0, 1], 300)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (40, 8, 8, 2), dtype=np.uint8)


@pytest.mark.parametrize(
    "detector", [ALOCC(n_estimators=1), ALOCC(n_estimators=1, scoring="D(x)"), FenceGAN()], ids=str
)
def test_training_beats_the_untrained_network_and_the_distance_to_centre(data, detector):
    train, test, y = data
    areas = {}
    for epochs in (0, 60):
        detector.set_params(epochs=epochs, n_estimators=1, batch_size=64, random_state=0).fit(train)
        areas[epochs] = roc_auc_score(y, detector.anomaly_score(test))
    baseline = roc_auc_score(y, np.square(test).sum(1))
    assert areas[60] > max(areas[0], baseline) + 0.1


@pytest.mark.parametrize("detector", [ALOCC(latent_dim=2), FenceGAN(), ALOCC(latent_dim=2, scoring="D(x)")], ids=str)
def test_equal_seeds_give_bitwise_equal_results_and_the_file_keeps_every_score(data, detector, tmp_path):
    train, test, _ = data
    detector.set_params(**SMALL | {"n_estimators": 2}).fit(train)
    again = clone(detector).fit(train)
    np.testing.assert_array_equal(again.anomaly_score(test), detector.anomaly_score(test))
    other = clone(detector).set_params(random_state=1).fit(train)
    assert not np.array_equal(other.anomaly_score(test), detector.anomaly_score(test))
    detector.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.decision_function(test), detector.decision_function(test))


@pytest.mark.parametrize("detector", BOTH, ids=str)
def test_images_are_refined_generated_and_scored(images, detector):
    detector = clone(detector).fit(images)
    scores = detector.anomaly_score(images)
    assert scores.shape == (40,) and np.isfinite(scores).all()
    generator = torch.Generator().manual_seed(0)
    batch = torch.rand(3, 2, 8, 8)
    made = detector.refine(batch) if isinstance(detector, ALOCC) else detector.generate(3, generator)
    assert made.shape == (3, 2, 8, 8)


def test_the_scores_of_alocc_are_those_of_the_discriminator_before_and_after_refinement(data):
    detector = BOTH[0]
    X = torch.tensor(data[1])
    plain = clone(detector).set_params(scoring="D(x)").fit(data[0])
    refined = clone(detector).set_params(scoring="D(R(x))").fit(data[0])
    refiner, discriminator = refined.network_["refiner"], refined.network_["discriminator"]
    with torch.no_grad():
        np.testing.assert_allclose(plain.anomaly_score(data[1]), -discriminator(X)[:, 0])
        np.testing.assert_allclose(refined.anomaly_score(data[1]), -discriminator(X + refiner(X))[:, 0])


def test_the_refiner_takes_noise_out_if_it_is_not_stopped(data):
    detector = ALOCC(epochs=40, refiner_learning_rate=1e-3, stop_at=0, n_estimators=1, random_state=0).fit(data[0])
    assert len(detector.history_) == 40
    shares = [row["refinement"] for row in detector.history_]
    assert shares[0] > 0.7 and shares[-1] < 0.6 < shares[0]


def test_alocc_stops_once_the_refiner_is_good_enough(data):
    detector = ALOCC(epochs=60, refiner_learning_rate=1e-3, stop_at=0.8, n_estimators=1, random_state=0).fit(data[0])
    shares = [row["refinement"] for row in detector.history_]
    assert len(shares) < 60 and shares[-1] < 0.8 <= min(shares[:-1], default=1)


def test_the_score_of_alocc_does_not_invert_where_a_refiner_that_starts_inside_of_the_data_makes_it_invert(data):
    """The reason for the correction: far away points are the clearest anomalies."""

    class Inside(ALOCC):
        def refine(self, batch):
            return self.network_["refiner"](batch)

    train, _, _ = data
    far = 2.5 * train
    y = np.repeat([0, 1], len(train))
    areas = [
        roc_auc_score(y, kind(scoring="D(x)", epochs=20, random_state=0).fit(train).anomaly_score(np.r_[train, far]))
        for kind in (ALOCC, Inside)
    ]
    assert areas[0] > 0.9 and areas[1] < 0.6


def test_the_losses_of_fence_gan_are_the_formulas_of_the_paper(rng):
    detector = FenceGAN(alpha=0.4, beta=7.0, gamma=0.2, hidden=(4,))
    detector.network_ = detector.build((3,))
    real, made = torch.tensor(rng.normal(size=(2, 6, 3))).float()
    with torch.no_grad():
        true, false = (expit(detector.discriminate(part).double().numpy()) for part in (real, made))
        points = made.double().numpy()
        spread = np.linalg.norm(points - points.mean(0), axis=1).mean()
        expected = np.log(np.abs(0.4 - false)).mean() + 7.0 / spread
        assert detector.generator_loss(made).item() == pytest.approx(expected, rel=1e-4)
        expected = -np.log(true).mean() - 0.2 * np.log(1 - false).mean()
        assert detector.discriminator_loss(real, made).item() == pytest.approx(expected, rel=1e-5)


def test_the_fence_starts_wider_than_the_data_in_every_column(rng):
    X = rng.normal(size=(300, 4)) * [0.1, 1, 10, 0] + [5, 0, -3, 2]
    detector = FenceGAN(epochs=0, n_estimators=1, random_state=0).fit(X)
    samples = detector.generate(2000, torch.Generator().manual_seed(0)).detach().numpy()
    assert (samples.std(0)[:3] > 2.5 * X.std(0)[:3]).all()
    assert (np.abs(samples.mean(0) - X.mean(0))[:3] < 2 * X.std(0)[:3]).all()
    assert np.isfinite(samples).all()


def test_the_first_samples_keep_and_break_the_relations_between_columns_by_turns(rng):
    x = rng.normal(size=(500, 1))
    X = np.concatenate([x, x + 0.1 * rng.normal(size=(500, 1))], axis=1)
    detector = FenceGAN(epochs=0, n_estimators=1, random_state=0).fit(X)
    with torch.no_grad():
        for parameter in detector.network_["generator"].parameters():
            parameter.zero_()
        samples = detector.generate(4000, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose(np.cov(samples[::2].T), 9 * np.cov(X.T), rtol=0.1)
    np.testing.assert_allclose(np.cov(samples[1::2].T), 9 * np.diag(X.var(0)), rtol=0.1, atol=0.6)


def test_far_samples_that_keep_the_relations_are_anomalies_too(rng):
    """Malignant cells are large in every measurement at once."""
    factor = rng.normal(size=(1, 10))
    train, test = (rng.normal(size=(400, 1)) @ factor + 0.1 * rng.normal(size=(400, 10)) for _ in range(2))
    test[200:] += 4 * factor
    detector = FenceGAN(epochs=40, batch_size=64, random_state=0).fit(train)
    assert roc_auc_score(np.repeat([0, 1], 200), detector.anomaly_score(test)) > 0.8


def test_the_encirclement_loss_moves_the_discrimination_of_generated_samples_to_alpha(rng):
    X = rng.normal(size=(400, 2))
    options = {"epochs": 50, "gamma": 0.5, "start_width": 2.0, "n_estimators": 1, "random_state": 0}
    heights = {
        alpha: FenceGAN(alpha=alpha, generator_learning_rate=1e-3, **options).fit(X).history_[-1]["discrimination"]
        for alpha in (0.3, 0.7)
    }
    assert heights[0.3] < heights[0.7] - 0.1
    assert all(abs(height - alpha) < 0.2 for alpha, height in heights.items())


def test_dispersion_spreads_the_samples(rng):
    X = rng.normal(size=(400, 2))
    options = {"epochs": 30, "generator_learning_rate": 3e-3, "n_estimators": 1, "random_state": 0}
    tight, wide = (FenceGAN(beta=beta, **options).fit(X).history_[-1]["spread"] for beta in (0.0, 100.0))
    assert wide > 1.5 * tight


def test_the_slope_of_a_quadratic_is_its_gradient(rng):
    points = torch.tensor(rng.normal(size=(5, 3)))
    slope = _squared_slope(lambda batch: batch.square().sum(1), points)
    assert slope.item() == pytest.approx(float((2 * points).square().sum(1).mean()))


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (ALOCC(scoring="D"), r"choose 'D\(x\)' or 'D\(R\(x\)\)'"),
        (ALOCC(noise=0), "a standard deviation above 0"),
        (FenceGAN(alpha=1.0), r"give alpha in \(0, 1\)"),
        (FenceGAN(gamma=0.0), "gamma 0.0"),
        (FenceGAN(start_width=-1), "start_width -1"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named_with_what_to_give(data, detector, message):
    with pytest.raises(DetectorError, match=message):
        detector.fit(data[0])


@pytest.mark.parametrize("detector", BOTH, ids=str)
def test_bad_input_is_one_clear_error(data, images, detector, tmp_path):
    detector = clone(detector)
    with pytest.raises(DetectorError, match="are all equal"):
        detector.fit(np.ones((9, 3)))
    with pytest.raises(DetectorError, match="cannot be halved"):
        detector.fit(images[:, :3, :3])
    with pytest.raises(TrainingError, match=r"loss is .* lower the learning rate"):
        clone(detector).set_params(learning_rate=1e30).fit(data[0])
    path = tmp_path / "detector"
    detector.fit(data[0]).save(path)
    other = {"ALOCC": FenceGAN, "FenceGAN": ALOCC}[type(detector).__name__]
    with pytest.raises(DetectorError, match=f"contains a {type(detector).__name__}, not a {other.__name__}"):
        other.load(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DetectorError, match="damaged or was not written"):
        type(detector).load(path)
