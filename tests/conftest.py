"""Fixtures that more than one test file uses."""

import numpy as np
import pytest
import torch


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_networks_every_time():
    """A network that a test builds itself draws its weights from PyTorch's global generator."""
    torch.manual_seed(0)
