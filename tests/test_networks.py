import pytest
import torch
from torch import nn

from mmad_utils.detector import DetectorError
from mmad_utils.networks import code_length, decoder, encoder, mlp


@pytest.mark.parametrize("shape", [(6,), (1, 8, 8), (3, 16, 24), (1, 28, 28), (3, 64, 64), (1, 10, 10)])
def test_codes_have_their_size_and_the_way_back_has_the_shape_of_the_sample(shape):
    batch = torch.rand(5, *shape)
    codes = encoder(shape, 7)(batch)
    assert codes.shape == (5, 7)
    assert decoder(shape, 7)(codes).shape == batch.shape


@pytest.mark.parametrize("shape", [(1, 9, 8), (1, 8, 7), (1, 4, 4), (3, 2, 2)])
def test_images_that_cannot_be_halved_are_refused_with_the_remedy(shape):
    for network in (encoder, decoder):
        with pytest.raises(DetectorError, match=rf"images of {shape[1]}×{shape[2]} cannot be halved: crop or pad"):
            network(shape, 3)


def test_without_bias_and_with_an_odd_activation_zero_stays_zero():
    for shape in ((6,), (1, 8, 8)):
        network = encoder(shape, 4, bias=False)
        assert torch.equal(network(torch.zeros(2, *shape)), torch.zeros(2, 4))


def test_a_perceptron_has_activations_between_its_layers_only():
    layers = [type(layer) for layer in mlp([3, 5, 2], nn.Tanh)]
    assert layers == [nn.Linear, nn.Tanh, nn.Linear]


def test_a_code_is_as_long_as_asked_for_or_the_root_of_the_features_rounded_up():
    assert code_length(7, (3, 32, 32)) == 7
    assert [code_length(None, shape) for shape in ((1,), (6,), (36,), (3, 32, 32))] == [1, 3, 6, 56]
    assert code_length(None, (3, 32, 32), most=32) == 32 and code_length(40, (3, 32, 32), most=32) == 40
    with pytest.raises(DetectorError, match="latent_dim is 0: give at least 1"):
        code_length(0, (6,))
