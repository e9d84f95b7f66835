import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from mmad_utils import CrossAttentionFusion
from mmad_utils.datasets import load
from mmad_utils.detector import DetectorError
from mmad_utils.multimodal.attention_fusion import contrastive_loss, others_only, shuffled
from mmad_utils.networks import AttentionLayer


def test_training_finds_mismatches_that_the_untrained_network_does_not():
    data = load("paired_digits")
    kinds = np.array(data.source["kinds_test"])
    rows = np.isin(kinds, ("normal", "mismatch"))
    areas = [
        roc_auc_score(
            kinds[rows] == "mismatch",
            CrossAttentionFusion(epochs=epochs, random_state=0).fit(data.X_train).anomaly_score(data.X_test)[rows],
        )
        for epochs in (0, 20)
    ]
    assert areas[1] > 0.8 and areas[1] > areas[0] + 0.2


def test_a_shuffled_sample_has_one_part_of_another_sample_in_the_same_place(rng):
    tokens = torch.arange(40.0).reshape(40, 1, 1).expand(40, 3, 2).clone()
    present = torch.tensor(rng.random((40, 3)) < 0.7)
    mixed, foreign = shuffled(tokens, present, torch.Generator().manual_seed(0))
    changed = (mixed != tokens).all(dim=2)
    assert (changed.sum(dim=1) <= 1).all() and not (changed & ~present).any()
    np.testing.assert_array_equal(foreign, changed.any(dim=1) & (present.sum(dim=1) > 1))
    owners = mixed[..., 0][changed].long()
    assert present[owners, torch.nonzero(changed)[:, 1]].all()
    assert foreign.double().mean() > 0.3


def test_a_batch_of_one_has_nobody_to_exchange_with():
    tokens, present = torch.ones(1, 3, 2), torch.ones(1, 3, dtype=torch.bool)
    assert not shuffled(tokens, present, torch.Generator())[1].any()
    assert contrastive_loss(tokens, present, 0.1) == 0


def test_the_contrastive_loss_is_its_formula(rng):
    tokens = torch.tensor(rng.normal(size=(5, 2, 4)))
    present = torch.ones(5, 2, dtype=torch.bool)
    present[3, 1] = False
    rows = [0, 1, 2, 4]
    t = functional.normalize(tokens, dim=2).numpy()
    cosines = t[rows, 0] @ t[rows, 1].T / 0.3
    p, q = (np.exp(c) / np.exp(c).sum(axis=1, keepdims=True) for c in (cosines, cosines.T))
    expected = -(np.log(np.diag(p)).mean() + np.log(np.diag(q)).mean()) / 2
    assert contrastive_loss(tokens, present, 0.3).item() == pytest.approx(expected)


def test_no_modality_attends_to_itself_and_none_to_missing_ones(rng):
    layer = AttentionLayer(8, 2, 0.0).double().eval()
    x = torch.tensor(rng.normal(size=(2, 4, 8)), requires_grad=True)
    present = torch.tensor([[True, True, True], [True, False, True]])
    attended = []
    layer.join.register_forward_hook(lambda module, inputs, output: attended.append(inputs[0]))
    layer(x, others_only(present))
    for row, token, sees in ((0, 2, [True, True, False, True]), (1, 0, [True, True, False, True])):
        gradient = torch.autograd.grad(attended[0][row, token].sum(), x, retain_graph=True)[0]
        through_values = gradient[row].abs().sum(dim=1) > 0
        through_query = torch.zeros(4, dtype=torch.bool)
        through_query[token] = True  # the query is the token's own
        np.testing.assert_array_equal(through_values | through_query, torch.tensor(sees) | through_query)


@pytest.mark.parametrize("parameters", [{"width": 30}, {"n_shuffled": 0}, {"temperature": 0.0}])
def test_a_wrong_parameter_is_named_with_what_to_give(parameters):
    train = {name: part[:50] for name, part in load("paired_digits").X_train.items()}
    with pytest.raises(DetectorError, match="give a width that is a multiple of heads, n_shuffled of at least 1"):
        CrossAttentionFusion(epochs=1, **parameters).fit(train)
