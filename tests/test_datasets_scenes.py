"""Digits laid over photographs."""

import numpy as np
import pytest
import skimage.data
from sklearn.datasets import load_digits

from mmad_utils.datasets import DatasetError, load
from mmad_utils.datasets.scenes import DIGIT_SIDE, SIDE, scene


def test_every_digit_is_laid_once_and_the_given_one_is_normal():
    dataset, target = load("digit_scenes/3"), load_digits().target
    assert dataset.X_train.shape == ((target == 3).sum() // 2, SIDE, SIDE, 1) and dataset.X_train.dtype == np.uint8
    assert len(dataset.X_train) + len(dataset.X_test) == len(target)
    kinds = np.array(dataset.source["kinds_test"])
    assert ((kinds == "3") == (dataset.y_test == 0)).all()


def test_the_same_seed_gives_the_same_scenes_another_seed_others_and_the_normal_class_changes_no_pixel():
    first, again, other, four = (load(f"digit_scenes/{k}", seed=seed) for k, seed in ((3, 0), (3, 0), (3, 1), (4, 0)))
    assert first.source["sha256"] == again.source["sha256"] != other.source["sha256"]
    pools = [{x.tobytes() for x in np.concatenate([d.X_train, d.X_test])} for d in (first, four)]
    assert pools[0] == pools[1]


def test_an_empty_page_leaves_a_piece_of_the_photograph_as_it_is(rng):
    photograph = skimage.data.brick()
    ground = scene(np.zeros((8, 8)), photograph, rng)
    pieces = np.lib.stride_tricks.sliding_window_view(photograph, (SIDE, SIDE))
    assert (pieces == ground).all((2, 3)).any()


def test_full_ink_is_a_white_square_of_24_pixels_at_every_place_in_turn(rng):
    black = np.zeros((64, 64), np.uint8)
    places = set()
    for _ in range(600):
        rows, columns = np.nonzero(scene(np.ones((8, 8)), black, rng) == 255)
        assert len(rows) == DIGIT_SIDE**2 and np.ptp(rows) == np.ptp(columns) == DIGIT_SIDE - 1
        places.add((rows.min(), columns.min()))
    assert {row for row, _ in places} == {column for _, column in places} == set(range(SIDE - DIGIT_SIDE + 1))


@pytest.mark.parametrize("name", ["digit_scenes/x", "digit_scenes/12"])
def test_a_name_that_is_no_digit_is_refused(name):
    with pytest.raises(DatasetError, match="expected one digit, digit_scenes/0 to digit_scenes/9"):
        load(name)
