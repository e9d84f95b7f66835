"""Fixtures that more than one test file uses."""

import numpy as np
import pytest
import torch
from hypothesis import Phase, settings

# No example has a time limit: on a busy machine some take many times longer.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
# `make mutate` runs a test until it fails once: always the same examples, and no search for a smaller one.
settings.register_profile(
    "mutate", derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate]
)


# The fixtures of these files take seconds: one process builds them for all tests of the file.
ONE_PROCESS = {
    "test_fusion_ablations.py",
    "test_padim.py",
    "test_pages.py",
    "test_paper.py",
    "test_report.py",
    "test_synthetic.py",
    "test_wheel.py",
}


def pytest_collection_modifyitems(items):
    """Run what takes longest first: at the end one process would work on it alone."""
    items.sort(key=lambda item: ("notebooks" not in item.path.parts, item.path.name not in ONE_PROCESS))
    for item in items:
        if item.path.name in ONE_PROCESS:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_networks_every_time():
    """A network that a test builds itself draws its weights from PyTorch's global generator."""
    torch.manual_seed(0)
