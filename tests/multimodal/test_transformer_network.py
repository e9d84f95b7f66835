import numpy as np
import pytest
import torch
from torch import nn

from mmad_utils.multimodal.tokens import from_patches, to_patches
from mmad_utils.multimodal.transformer_network import CrossModalTransformer
from mmad_utils.multimodal.transformer_tasks import hidden_loss, residuals

SHAPES = {"image": (9, 5), "tabular": (4, 1)}


@pytest.fixture
def network():
    return CrossModalTransformer(SHAPES, width=16, depth=2, n_heads=4, dropout=0.0).eval()


def tokens(name, n=6):
    return torch.randn(n, *SHAPES[name])


def test_a_linear_map_of_patches_is_a_strided_convolution():
    images = torch.randn(3, 3, 12, 12)
    convolution = nn.Conv2d(3, 8, kernel_size=4, stride=4)
    weight = convolution.weight.flatten(1)
    ours = to_patches(images, 4) @ weight.T + convolution.bias
    torch.testing.assert_close(ours, convolution(images).flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-5)
    assert torch.equal(from_patches(to_patches(images, 4), 4), images)


@pytest.mark.parametrize("name", SHAPES)
def test_a_hidden_token_cannot_be_seen(network, name):
    first = tokens(name)
    hide = torch.zeros(first.shape[:2], dtype=torch.bool)
    hide[:, [0, 2]] = True
    second = torch.where(hide[..., None], torch.randn_like(first), first)
    for ours, theirs in zip(network(name, first, hide), network(name, second, hide)):
        assert torch.equal(ours, theirs)
    assert not torch.equal(network(name, first)[0], network(name, second)[0])


@pytest.mark.parametrize("name", SHAPES)
def test_a_layer_is_pytorchs_own_pre_norm_encoder_layer(network, name):
    layer = network.layers[0]
    theirs = nn.TransformerEncoderLayer(
        16, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": layer.queries_keys_values.weight,
            "self_attn.in_proj_bias": layer.queries_keys_values.bias,
            "self_attn.out_proj.weight": layer.join.weight,
            "self_attn.out_proj.bias": layer.join.bias,
            "linear1.weight": layer.perceptron[0].weight,
            "linear1.bias": layer.perceptron[0].bias,
            "linear2.weight": layer.perceptron[2].weight,
            "linear2.bias": layer.perceptron[2].bias,
            **{f"norm1.{key}": value for key, value in layer.attention_norm.state_dict().items()},
            **{f"norm2.{key}": value for key, value in layer.perceptron_norm.state_dict().items()},
        }
    )
    x = torch.randn(3, 7, 16)
    torch.testing.assert_close(layer(x), theirs(x), rtol=1e-4, atol=1e-5)
    normed = layer.attention_norm(x)
    _, weights = theirs.self_attn(normed, normed, normed, need_weights=True)
    torch.testing.assert_close(layer.weights(x), weights, rtol=1e-4, atol=1e-5)


def test_attention_is_the_rollout_of_the_layers_in_float64(network):
    network = network.double()
    batch = tokens("image").double()
    x = network._sequence("image", batch, None)
    rollout = torch.eye(10, dtype=torch.float64)
    for layer in network.layers:
        rollout = (layer.weights(x) + torch.eye(10)) / 2 @ rollout
        x = layer(x)
    expected = rollout[:, 0, 1:] / rollout[:, 0, 1:].sum(1, keepdim=True)
    torch.testing.assert_close(network.attention("image", batch), expected)


@pytest.mark.parametrize("name", SHAPES)
def test_residuals_leave_no_token_in_sight_of_its_own_prediction(network, name):
    batch = tokens(name)
    with torch.no_grad():
        found = residuals(network, name, batch)
        changed = batch.clone()
        changed[:, 1] += 3.0
        other = residuals(network, name, changed)
    torch.testing.assert_close(other[:, 1], found[:, 1] + 3.0, rtol=1e-4, atol=1e-5)
    assert not torch.equal(other[:, 0], found[:, 0])


def test_the_loss_is_the_mean_squared_error_of_hidden_tokens_only(network):
    class Zero(nn.Module):
        """A network that predicts 0 and remembers what was hidden."""

        def __init__(self):
            super().__init__()
            self.predict = {"image": lambda codes: torch.zeros(len(codes), 9, 5)}

        def forward(self, name, batch, hide):
            self.hide = hide
            return None, batch

    zero, batch = Zero(), tokens("image", 200)
    loss = hidden_loss(zero, "image", batch, torch.Generator().manual_seed(0), (0.1, 0.5))
    hidden = zero.hide.numpy()
    assert loss.item() == pytest.approx(np.square(batch.numpy()[hidden]).mean(), rel=1e-5)
    counts = hidden.sum(1)
    assert counts.min() == 1 and counts.max() == 5  # a tenth of 9 to a half of 9, rounded up
    share = hidden.mean(0)
    assert share.max() - share.min() < 0.15, "every place is hidden as often"


def test_a_table_of_one_column_has_nothing_in_sight_and_still_a_prediction():
    network = CrossModalTransformer({"tabular": (1, 1)}, width=8, depth=1, n_heads=2, dropout=0.0)
    batch = torch.randn(5, 1, 1)
    assert hidden_loss(network, "tabular", batch, torch.Generator(), (0.1, 0.5)).isfinite()
    with torch.no_grad():
        predicted = batch - residuals(network, "tabular", batch)
    torch.testing.assert_close(predicted, predicted[:1].expand(5, 1, 1))
