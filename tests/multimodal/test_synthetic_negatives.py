import numpy as np
import pytest
import torch

from mmad_utils.multimodal.transformer_tasks import cut_and_paste, swap_columns


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_swapped_columns_are_those_of_one_other_row(generator):
    rows = torch.arange(50.0)[:, None] + 100 * torch.arange(10)  # every entry says where it comes from
    mixed = swap_columns(rows[..., None], generator)[..., 0]
    assert torch.equal((mixed // 100), (rows // 100)), "a value stays in its column"
    changed = mixed != rows
    counts = changed.sum(1)
    assert counts.min() >= 1 and counts.max() <= 5
    for i in range(50):
        assert len((mixed[i, changed[i]] % 100).unique()) == 1


def test_the_pasted_rectangle_comes_from_the_same_image_and_is_of_the_papers_size(generator):
    images = torch.arange(20 * 64 * 64).reshape(20, 1, 64, 64)
    pasted = cut_and_paste(images, generator)
    for before, after in zip(images[:, 0], pasted[:, 0]):
        y, x = np.nonzero((before != after).numpy())
        height, width = np.ptp(y) + 1, np.ptp(x) + 1
        assert height * width == len(y), "a full rectangle"
        assert 0.015 < len(y) / 64**2 < 0.17 and 1 / 3.6 < height / width < 3.6
        moved = (after[y, x] - before[y, x]).unique()
        assert len(moved) == 1, "moved as a whole"


def test_from_others_pastes_the_place_of_another_image(generator):
    images = torch.arange(8).view(8, 1, 1, 1).expand(8, 2, 14, 14)
    pasted = cut_and_paste(images, generator, from_others=True)
    for i in range(8):
        found = pasted[i].unique().tolist()
        assert len(found) == 2 and i in found


def test_nothing_is_written_into_the_input_and_equal_seeds_paste_alike():
    images = torch.randn(4, 3, 16, 16)
    before = images.clone()
    first, second = (cut_and_paste(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(images, before) and torch.equal(first, second)
    assert not torch.equal(first, images)
