import inspect

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from mmad_utils import AnoGAN, FAnoGAN
from mmad_utils.datasets import load
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors.gans import AdversarialDetector, critic_loss, generator_network, gradient_penalty
from mmad_utils.training import update

SMALL = {"epochs": 1, "min_steps": 0, "hidden": (8,), "latent_dim": 2, "n_critic": 1, "width": 4, "random_state": 0}


@parametrize_with_checks([AnoGAN(n_steps=5, **SMALL), FAnoGAN(**SMALL)])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def ring(rng):
    """Points near a circle of radius 2, (300, 2)."""
    angle = rng.uniform(0, 2 * np.pi, 300)
    return 2 * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.05 * rng.normal(size=(300, 2))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)


def test_the_original_loss_is_the_cross_entropy_of_real_and_generated(rng):
    real, fake = (torch.from_numpy(rng.normal(size=(7, 1))) for _ in range(2))
    p_real, p_fake = (1 / (1 + np.exp(-logits.numpy())) for logits in (real, fake))
    expected = -np.log(p_real).mean() - np.log(1 - p_fake).mean()
    assert float(critic_loss("gan", real, fake)) == pytest.approx(expected)
    assert float(critic_loss("gan", fake, real)) == pytest.approx(-np.log(p_fake).mean() - np.log(1 - p_real).mean())


@pytest.mark.parametrize("adversarial", ["wgan", "wgan-gp"])
def test_the_wasserstein_losses_have_no_sigmoid_and_no_logarithm(adversarial, rng):
    real, fake = (torch.from_numpy(rng.normal(size=(7, 1))) for _ in range(2))
    assert float(critic_loss(adversarial, real, fake)) == pytest.approx(float(fake.mean() - real.mean()))


def test_the_gradient_penalty_of_a_linear_critic_is_the_squared_excess_of_its_norm(rng):
    weights = torch.tensor([3.0, 4.0], dtype=torch.float64)
    x = torch.from_numpy(rng.normal(size=(6, 2)))
    generator = torch.Generator().manual_seed(0)
    penalty = gradient_penalty(lambda x: x @ weights[:, None], [x], [x + 1], generator)
    assert float(penalty) == pytest.approx((5 - 1) ** 2)
    pairs = gradient_penalty(lambda x, z: x @ weights[:, None] + 12 * z, [x, x[:, :1]], [-x, x[:, 1:]], generator)
    assert float(pairs) == pytest.approx((13 - 1) ** 2)


def test_the_gradient_penalty_looks_between_real_and_generated_samples():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.square().sum(1, keepdim=True)

    real, fake = torch.zeros(500, 2), torch.ones(500, 2)
    gradient_penalty(critic, [real], [fake], torch.Generator().manual_seed(0))
    share = seen[0][:, 0]
    assert torch.equal(seen[0][:, 1], share)  # on the straight line
    assert 0 <= share.min() < 0.05 and 0.95 < share.max() <= 1 and abs(share.mean() - 0.5) < 0.05


def test_a_generator_of_tables_begins_with_the_spread_of_scaled_columns():
    torch.manual_seed(0)
    made = generator_network((20,), 16, hidden=(128, 128), width=8)(torch.randn(1000, 16))
    assert 0.5 < made.std() < 2
    pixels = generator_network((1, 8, 8), 16, hidden=(), width=8)(torch.randn(50, 16))
    assert pixels.shape == (50, 1, 8, 8) and pixels.min() > 0 and pixels.max() < 1


@pytest.mark.parametrize(("adversarial", "optimizer"), [("gan", "Adam"), ("wgan", "RMSprop"), ("wgan-gp", "Adam")])
def test_each_loss_has_its_optimiser_and_only_wgan_clips(adversarial, optimizer, ring, monkeypatch):
    made = []
    original = torch.optim.Optimizer.__init__
    monkeypatch.setattr(
        torch.optim.Optimizer, "__init__", lambda self, *a, **k: (made.append(self), original(self, *a, **k))[1]
    )
    detector = FAnoGAN(adversarial=adversarial, clip=0.02, **SMALL).fit(ring)
    assert [type(one).__name__ for one in made[:2]] == [optimizer] * 2
    if optimizer == "Adam":
        assert made[0].defaults["betas"] == ((0.5, 0.999) if adversarial == "gan" else (0.0, 0.9))
    largest = max(float(weights.abs().max()) for weights in detector.network_["critic"].parameters())
    assert (largest <= 0.02 + 1e-9) == (adversarial == "wgan")


def test_the_generator_learns_once_in_n_critic_batches(ring):
    class Counting(FAnoGAN):
        def fake(self, codes):
            taught.append(torch.is_grad_enabled())
            return super().fake(codes)

    taught = []
    Counting(**SMALL | {"n_critic": 3, "batch_size": 50, "epochs": 2}).fit(ring)
    assert taught.count(False) == 12 and taught.count(True) == 4


@pytest.mark.parametrize("averaging", [0.0, 0.7])
def test_the_generator_that_scores_is_the_moving_average_of_those_that_played(averaging, ring, monkeypatch):
    played = []

    def recording(optimizer, loss):
        update(optimizer, loss)
        played.append([weights.detach().double() for weights in optimizer.param_groups[0]["params"]])

    monkeypatch.setattr("mmad_utils.detectors.gans.update", recording)
    detector = AnoGAN(**SMALL | {"n_critic": 1, "epochs": 4}, averaging=averaging).fit(ring)
    expected, *later = played[1::2]
    for weights in later:
        expected = [averaging * mean + (1 - averaging) * now for mean, now in zip(expected, weights)]
    for mean, scoring in zip(expected, detector.network_["generator"].parameters()):
        np.testing.assert_allclose(scoring.detach(), mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("adversarial", ["gan", "wgan", "wgan-gp"])
def test_the_generator_learns_where_the_samples_lie(adversarial, rng):
    cloud, codes = rng.normal([3, -1], [0.5, 2], (400, 2)), rng.normal(size=(1000, 4))
    options = {
        "learning_rate": 3e-3,
        "latent_dim": 4,
        "hidden": (32,),
        "n_critic": 2,
        "n_steps": 0,
        "clip": 0.1,
        "min_steps": 0,
    }
    miss = {}
    for epochs in (0, 80):
        detector = AnoGAN(adversarial=adversarial, epochs=epochs, random_state=0, **options).fit(cloud)
        miss[epochs] = np.linalg.norm(detector.generate(codes).mean(0) - [3, -1])
    assert miss[80] < 1.5 < 3 < miss[0]


def test_the_search_finds_the_nearest_point_that_the_generator_can_make(rng):
    detector = AnoGAN(**SMALL | {"epochs": 0}, n_steps=400, feature_weight=0.0, radius=None).fit(
        rng.normal(size=(20, 3))
    )
    with torch.no_grad():
        detector.network_["generator"] = nn.Linear(2, 3, dtype=torch.float64)
    X = rng.normal(size=(5, 3))
    W, b = (p.detach().numpy() for p in detector.network_["generator"].parameters())
    for x, score, code in zip(X, detector.anomaly_score(X), detector.encode(X)):
        best = min(
            minimize(lambda z, x=x: np.abs(x - W @ z - b).sum(), start, method="Nelder-Mead").fun
            for start in rng.normal(size=(5, 2))
        )
        assert score == pytest.approx(best, rel=0.02)
        assert np.abs(x - W @ code - b).sum() == pytest.approx(score)


@pytest.mark.parametrize("radius", [0.5, 1.0])
def test_the_search_stays_in_the_ball_of_typical_codes_unless_it_is_free(ring, radius):
    far = 10 * ring[:9]  # the generator would leave the ball for them
    detector = AnoGAN(**SMALL, n_steps=50, search_rate=1.0).fit(ring)
    bound = radius * np.sqrt(SMALL["latent_dim"])
    bounded, free = (
        np.linalg.norm(detector.set_params(radius=value).encode(far), axis=1) for value in (radius, None)
    )
    assert bounded.max() == pytest.approx(bound)
    assert free.max() > bound


def test_the_score_of_anogan_weighs_residual_against_discrimination_loss(ring):
    detector = AnoGAN(feature_weight=0.3, n_steps=5, **SMALL).fit(ring)
    x = torch.from_numpy(ring[:9])
    codes = torch.from_numpy(detector.encode(ring[:9]))
    generator, critic = detector.network_["generator"], detector.network_["critic"]
    made, features = generator(codes).detach(), nn.Sequential(*list(critic)[:-1])
    residual = np.abs(ring[:9] - made.numpy()).sum(1)
    discrimination = (features(x) - features(made)).abs().sum(1).detach().numpy()
    np.testing.assert_allclose(detector.anomaly_score(ring[:9]), 0.7 * residual + 0.3 * discrimination)


def test_a_search_uses_one_thread_and_computes_the_features_of_the_samples_once(ring):
    detector = AnoGAN(n_steps=5, **SMALL).fit(ring)
    seen = []
    detector.network_["critic"][0].register_forward_hook(
        lambda layer, inputs, output: seen.append((inputs[0].requires_grad, torch.get_num_threads()))
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        detector.encode(ring[:9])
    finally:
        torch.set_num_threads(before)
    assert seen == [(False, 1), *[(True, 1)] * 5, (False, 2), (False, 2)]


def test_more_steps_and_more_starts_of_the_search_do_not_raise_the_loss_on_average(ring):
    detector = AnoGAN(**SMALL | {"epochs": 5, "hidden": (32,)}, n_starts=4).fit(ring)
    loss = {steps: detector.set_params(n_steps=steps).anomaly_score(ring).mean() for steps in (0, 10, 100)}
    assert loss[100] < loss[10] < loss[0]
    several = detector.anomaly_score(ring)
    one = AnoGAN(**SMALL | {"epochs": 5, "hidden": (32,)}, n_starts=4, n_steps=100).fit(ring)
    one.network_.starts = one.network_.starts[:1]
    assert (several <= one.anomaly_score(ring) + 1e-6).all()


def test_a_search_does_not_depend_on_the_position_of_a_row_in_a_large_table(ring):
    detector = AnoGAN(**SMALL, n_steps=20).fit(ring)
    many = np.tile(ring[:3], (400, 1))  # more than are scored at once
    np.testing.assert_allclose(detector.anomaly_score(many), np.tile(detector.anomaly_score(ring[:3]), 400))


def test_the_score_of_f_anogan_is_residual_plus_kappa_times_feature(ring):
    detector = FAnoGAN(kappa=0.4, **SMALL).fit(ring)
    x = torch.from_numpy(ring[:9])
    nets = detector.network_
    made = nets["generator"](nets["encoder"](x))
    features = nn.Sequential(*list(nets["critic"])[:-1])
    residual = (x - made).square().mean(1)
    feature = (features(x) - features(made)).square().mean(1)
    np.testing.assert_allclose(detector.anomaly_score(ring[:9]), (residual + 0.4 * feature).detach().numpy())


def test_the_encoder_is_trained_against_a_frozen_generator_and_critic(ring):
    trained = [FAnoGAN(mapping=mapping, **SMALL).fit(ring).network_ for mapping in ("izi_f", "izi", "ziz")]
    for name in ("generator", "critic"):
        for nets in zip(*(network[name].parameters() for network in trained)):
            assert torch.equal(nets[0], nets[1]) and torch.equal(nets[0], nets[2])
    first, second, third = (network["encoder"][-1].weight for network in trained)
    assert not torch.equal(first, second) and not torch.equal(second, third)


@pytest.mark.parametrize("mapping", ["izi", "izi_f", "ziz"])
def test_each_mapping_lowers_its_own_loss(mapping, ring):
    detector = FAnoGAN(mapping=mapping, **SMALL | {"epochs": 20, "hidden": (32,)}).fit(ring)
    losses = [row["encoder"] for row in detector.history_ if "encoder" in row]
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("detector", [AnoGAN(n_steps=5, **SMALL), FAnoGAN(**SMALL)], ids=str)
def test_the_same_seed_gives_the_same_bits_and_a_file_keeps_them(detector, ring, tmp_path):
    scores = detector.fit(ring).anomaly_score(ring)
    np.testing.assert_array_equal(type(detector)(**detector.get_params()).fit(ring).anomaly_score(ring), scores)
    detector.save(tmp_path / "gan")
    loaded = Detector.load(tmp_path / "gan")
    assert type(loaded) is type(detector)
    np.testing.assert_array_equal(loaded.anomaly_score(ring), scores)
    other = type(detector)(**detector.get_params() | {"random_state": 1}).fit(ring)
    assert not np.array_equal(other.anomaly_score(ring), scores)


@pytest.mark.parametrize("detector", [AnoGAN(n_steps=5, **SMALL), FAnoGAN(**SMALL)], ids=str)
def test_images_are_encoded_generated_and_mapped(detector, images):
    detector.fit(images)
    codes = detector.encode(images)
    assert codes.shape == (12, 2)
    made = detector.generate(codes)
    assert made.shape == images.shape and made.min() >= 0 and made.max() <= 1
    maps, residual = detector.anomaly_map(images), images[..., 0] / 255 - made[..., 0]
    expected = np.abs(residual) if isinstance(detector, AnoGAN) else residual**2
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_a_real_digit_is_told_from_others():
    data = load("digits/0")
    detector = FAnoGAN(min_steps=400, width=8, n_critic=2, random_state=0).fit(data.X_train)
    assert roc_auc_score(data.y_test, detector.anomaly_score(data.X_test)) > 0.95


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"adversarial": "lsgan"}, "adversarial is 'lsgan'; choose one of gan, wgan, wgan-gp"),
        ({"mapping": "zizi"}, "mapping is 'zizi'; choose one of izi_f, izi, ziz"),
        ({"n_critic": 0}, "n_critic is 0"),
        ({"averaging": 1.0}, "averaging is 1.0; give a decay of at least 0 and below 1"),
        ({"latent_dim": 0}, "latent_dim is 0: give at least 1"),
    ],
)
def test_a_wrong_parameter_is_named_with_the_choices(parameters, message, ring):
    with pytest.raises(DetectorError, match=message):
        FAnoGAN(**parameters).fit(ring)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_starts": 0}, "n_starts is 0; give at least 1"),
        ({"radius": 0}, "radius is 0; give a positive number, or None"),
    ],
)
def test_a_search_without_a_start_or_a_region_to_search_in_is_refused(parameters, message, ring):
    with pytest.raises(DetectorError, match=message):
        AnoGAN(**SMALL | parameters).fit(ring)


def test_an_image_that_cannot_be_halved_is_refused(rng):
    with pytest.raises(DetectorError, match="7×7 cannot be halved"):
        FAnoGAN(**SMALL).fit(rng.integers(0, 256, (5, 7, 7, 1), dtype=np.uint8))


def test_a_table_of_two_rows_in_batches_of_one_is_enough():
    detector = FAnoGAN(**SMALL | {"batch_size": 1}).fit(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert np.isfinite(detector.anomaly_score(np.array([[5.0, 5.0]]))).all()


def test_small_data_get_more_epochs_until_there_are_enough_steps(ring):
    for epochs, expected in ((0, 0), (1, 4), (9, 9)):  # 300 rows are three batches of 100
        detector = AnoGAN(**SMALL | {"epochs": epochs, "min_steps": 10}, n_steps=0, batch_size=100).fit(ring)
        assert len(detector.history_) == expected


def test_every_parameter_is_seen_by_scikit_learn():
    for found in (AnoGAN, FAnoGAN):
        assert set(inspect.signature(AdversarialDetector).parameters) < set(found().get_params())
