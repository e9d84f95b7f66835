import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn
from torch.nn import functional

from mmad_utils import BiGAN, GANomaly
from mmad_utils.datasets import load
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors.bidirectional_gans import JointCritic

SMALL = {
    "epochs": 1,
    "min_steps": 0,
    "hidden": (8,),
    "latent_dim": 2,
    "width": 4,
    "n_estimators": 1,
    "random_state": 0,
}
DETECTORS = [BiGAN(**SMALL, n_critic=1), GANomaly(**SMALL)]


@parametrize_with_checks(DETECTORS)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@pytest.fixture
def line(rng):
    """Points near a line in three dimensions, (300, 3)."""
    return rng.normal(size=(300, 1)) * [1.0, 1.0, -1.0] + 0.05 * rng.normal(size=(300, 3))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def test_the_joint_critic_sees_whether_a_code_belongs_to_its_sample(rng):
    """Pairs (x, x) against pairs (x, −x): each part alone has the same distribution."""
    torch.manual_seed(0)
    critic = JointCritic(nn.Identity(), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1)))
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.02)
    for _ in range(200):
        x = torch.from_numpy(rng.normal(size=(64, 1))).float()
        loss = functional.softplus(-critic(x, x)).mean() + functional.softplus(critic(x, -x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert critic(torch.ones(1, 1), torch.ones(1, 1)) > 0 > critic(torch.ones(1, 1), -torch.ones(1, 1))


def test_encoder_and_generator_of_bigan_learn_together_and_against_the_critic(line):
    before = BiGAN(**SMALL | {"epochs": 0}).fit(line).network_
    after = BiGAN(**SMALL, n_critic=1).fit(line).network_
    for name in ("generator", "encoder"):
        assert not torch.equal(before[name][-1].weight, after[name][-1].weight)
    assert not torch.equal(before["critic"].top[-1].weight, after["critic"].top[-1].weight)


def test_in_bigan_the_encoder_can_learn_to_invert_the_generator_without_a_loss_that_says_so(line, rng):
    """The best of three seeds: of 16 runs on two instruction sets in the setting of notebook 04, 5 failed."""
    codes, anomalies = rng.normal(size=(500, 1)), rng.normal(size=(300, 3))
    options = {"latent_dim": 1, "hidden": (32, 32), "batch_size": 30, "n_critic": 2, "learning_rate": 2e-3}
    recovered, area = {}, {}
    for epochs in (0, 200):
        runs = []
        for seed in range(3):
            detector = BiGAN(epochs=epochs, min_steps=0, random_state=seed, **options).fit(line)
            again = detector.encode(detector.generate(codes))
            scores = detector.anomaly_score(np.concatenate([line, anomalies]))
            share = 1 - np.square(again - codes).mean() / codes.var()
            runs.append((share, roc_auc_score(np.repeat([0, 1], 300), scores)))
        recovered[epochs], area[epochs] = np.max(runs, axis=0)
    assert recovered[200] > max(0.5, recovered[0] + 0.3)
    assert area[200] > max(0.7, area[0] + 0.1)


def test_ganomaly_scores_by_the_distance_of_the_two_latent_codes(line):
    detector = GANomaly(**SMALL).fit(line)
    adversaries = detector.network_["players"]
    x = torch.from_numpy(line[:9])
    first = adversaries["encoder"](x)
    second = adversaries["second_encoder"](adversaries["decoder"](first))
    np.testing.assert_allclose(detector.anomaly_score(line[:9]), (first - second).abs().sum(1).detach().numpy())


def test_ganomaly_minimises_the_weighted_sum_of_its_three_losses(line):
    row = GANomaly(**SMALL, adversarial_weight=2.0, contextual_weight=3.0, encoding_weight=5.0).fit(line).history_[0]
    expected = 2 * row["adversarial"] + 3 * row["contextual"] + 5 * row["encoding"]
    assert row["loss"] == pytest.approx(expected, rel=1e-5) and min(row.values()) > 0


@pytest.mark.parametrize("weight", ["adversarial_weight", "contextual_weight", "encoding_weight"])
def test_each_loss_of_ganomaly_falls_most_when_it_is_the_only_one(weight, line):
    """The critic moves too, so the adversarial loss is compared with what the others leave of it."""
    weights = dict.fromkeys(("adversarial_weight", "contextual_weight", "encoding_weight"), 0.0)
    name = weight.removesuffix("_weight")
    options = SMALL | {"epochs": 30, "hidden": (16,)} | weights
    alone = GANomaly(**options | {weight: 1.0}).fit(line).history_[-1][name]
    without = GANomaly(**options).fit(line).history_[-1][name]
    assert alone < 0.7 * without


def test_the_critic_of_ganomaly_does_not_train_the_other_networks(line):
    """With all weights zero the adversaries have no gradient, though the critic learns."""
    weights = dict.fromkeys(("adversarial_weight", "contextual_weight", "encoding_weight"), 0.0)
    before, after = (GANomaly(**SMALL | {"epochs": n} | weights).fit(line).network_ for n in (0, 3))
    for first, second in zip(before["players"].parameters(), after["players"].parameters()):
        assert torch.equal(first, second)
    assert not torch.equal(before["critic"][-1].weight, after["critic"][-1].weight)


def test_ganomaly_tells_a_real_digit_from_others_and_its_untrained_network_less():
    data = load("digits/1")
    area = {}
    for epochs in (0, 30):
        detector = GANomaly(epochs=epochs, min_steps=400, width=8, n_estimators=1, random_state=0).fit(data.X_train)
        area[epochs] = roc_auc_score(data.y_test, detector.anomaly_score(data.X_test))
    assert area[30] > max(0.8, area[0] + 0.1)


@pytest.mark.parametrize("detector", DETECTORS, ids=["BiGAN", "GANomaly"])
def test_the_same_seed_gives_the_same_bits_and_a_file_keeps_them(detector, line, tmp_path):
    detector = type(detector)(**detector.get_params() | {"n_estimators": 2})
    scores = detector.fit(line).anomaly_score(line)
    np.testing.assert_array_equal(type(detector)(**detector.get_params()).fit(line).anomaly_score(line), scores)
    detector.save(tmp_path / "gan")
    loaded = Detector.load(tmp_path / "gan")
    assert type(loaded) is type(detector)
    np.testing.assert_array_equal(loaded.anomaly_score(line), scores)
    other = type(detector)(**detector.get_params() | {"random_state": 1}).fit(line)
    assert not np.array_equal(other.anomaly_score(line), scores)


@pytest.mark.parametrize("detector", DETECTORS, ids=["BiGAN", "GANomaly"])
def test_the_map_of_an_image_is_the_absolute_difference_to_what_is_made_of_it(detector, images):
    detector.fit(images)
    if isinstance(detector, BiGAN):
        made = detector.generate(detector.encode(images))
    else:
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        made = detector.cycle(batch)[1].detach().permute(0, 2, 3, 1).numpy()
    maps = detector.anomaly_map(images)
    assert maps.shape == images.shape[:3]
    np.testing.assert_allclose(maps, np.abs(images / 255 - made).sum(3), atol=1e-5)


@pytest.mark.parametrize("detector", DETECTORS, ids=["BiGAN", "GANomaly"])
def test_a_code_of_no_numbers_is_refused(detector, rng):
    with pytest.raises(DetectorError, match="latent_dim is 0: give at least 1"):
        clone(detector).set_params(latent_dim=0).fit(rng.normal(size=(20, 3)))


@pytest.mark.parametrize("detector", DETECTORS, ids=["BiGAN", "GANomaly"])
def test_an_image_that_cannot_be_halved_is_refused(detector, rng):
    with pytest.raises(DetectorError, match="7×7 cannot be halved"):
        detector.fit(rng.integers(0, 256, (5, 7, 7, 1), dtype=np.uint8))
