"""The shared latent space, and what all fusions by networks share."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmad_utils import SharedLatentFusion
from mmad_utils.datasets import load
from mmad_utils.detector import DetectorError
from mmad_utils.multimodal.deep_fusion import product_of_experts


@pytest.fixture(scope="module")
def data():
    return load("paired_digits")


@pytest.fixture(scope="module")
def trained(data):
    return SharedLatentFusion(epochs=15, random_state=0).fit(data.X_train)


def test_the_product_of_experts_is_the_normalised_product_of_their_densities():
    mean = torch.tensor([[[0.5], [-1.0], [7.0]]], dtype=torch.float64)
    log_variance = torch.log(torch.tensor([[[0.5], [2.0], [0.1]]], dtype=torch.float64))
    present = torch.tensor([[True, True, False]])
    z = torch.linspace(-10, 10, 200001, dtype=torch.float64)
    density = torch.exp(-0.5 * (z**2 + (z - 0.5) ** 2 / 0.5 + (z + 1) ** 2 / 2))
    density /= density.sum()
    expected_mean = (z * density).sum()
    expected_variance = ((z - expected_mean) ** 2 * density).sum()
    joint_mean, joint_log_variance = product_of_experts(mean, log_variance, present)
    assert joint_mean.item() == pytest.approx(expected_mean.item(), abs=1e-6)
    assert joint_log_variance.exp().item() == pytest.approx(expected_variance.item(), abs=1e-6)
    prior = product_of_experts(mean, log_variance, torch.zeros(1, 3, dtype=torch.bool))
    assert prior[0].item() == 0 and prior[1].item() == 0


def test_training_finds_mismatches_that_the_untrained_network_does_not(data, trained):
    kinds = np.array(data.source["kinds_test"])
    rows = np.isin(kinds, ("normal", "mismatch"))
    untrained = SharedLatentFusion(epochs=0, random_state=0).fit(data.X_train)
    before, after = (
        roc_auc_score(kinds[rows] == "mismatch", detector.anomaly_score(data.X_test)[rows])
        for detector in (untrained, trained)
    )
    assert after > 0.65 and after > before + 0.1
    assert trained.history_[-1]["loss"] < trained.history_[0]["loss"]


def test_the_threshold_is_learned_on_samples_that_were_not_trained_on(data, trained):
    false_alarms = (trained.predict(data.X_test)[data.y_test == 0] == -1).mean()
    assert false_alarms == pytest.approx(trained.contamination, abs=0.04)


def test_the_score_is_the_likelihood_of_each_part_given_the_others(data, trained):
    table = trained._table({name: part[:7] for name, part in data.X_test.items()})
    codes, present = trained.parts(torch.tensor(table))
    present[0] = torch.tensor([True, False, True])
    present[1] = torch.tensor([False, True, False])
    batch = torch.cat([*codes, present], dim=1)
    with torch.no_grad():
        score = trained.batch_score(batch, torch.Generator()).numpy()
        mean, log_variance = trained.experts(codes)
        expected = np.zeros(7)
        for i in range(7):
            there = [m for m in range(3) if present[i, m]]
            for m in there:
                asked = [k for k in there if k != m] or [m]
                precision = torch.exp(-log_variance[i, asked])
                z = (mean[i, asked] * precision).sum(0) / (1 + precision.sum(0))
                residual = codes[m][i] - trained.network_["decoders"][m](z[None])[0]
                log_v = trained.network_["log_variances"][m].clamp(-3, 6)
                expected[i] += float(0.5 * (residual**2 / log_v.exp() + log_v).sum())
    np.testing.assert_allclose(score, expected, rtol=1e-9)


def test_hidden_parts_leave_at_least_one_and_have_the_given_share():
    detector = SharedLatentFusion(drop_rate=0.5)
    present = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) < 0.7
    present = present[present.any(dim=1)]
    left = detector.drop(present, torch.Generator().manual_seed(1))
    assert left.any(dim=1).all() and not (left & ~present).any()
    whole = present.all(dim=1)
    assert left[whole].double().mean().item() == pytest.approx((0.5 * 3 + 0.5**3 * 3) / 3, abs=0.03)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"scoring": "elbo"}, "choose 'cross' or 'reconstruction'"), ({"held_out": 0.0}, r"held_out 0\.0")],
)
def test_a_wrong_parameter_is_named_with_what_to_give(data, parameters, message):
    with pytest.raises(DetectorError, match=message):
        SharedLatentFusion(epochs=1, **parameters).fit({name: part[:50] for name, part in data.X_train.items()})
