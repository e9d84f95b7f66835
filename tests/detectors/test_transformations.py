import numpy as np
import pytest
import torch
from scipy import ndimage

from mmad_utils.detectors.transformations import irregular_affine, rearranged_patches, regular_affine, transform


@pytest.fixture
def image(rng):
    return rng.random((8, 8)).astype(np.float32)


def applied(image, grids):
    return transform(torch.from_numpy(image).expand(len(grids), 1, 8, 8), grids)[:, 0].numpy()


def shifted(image, right, down):
    """Moved by whole pixels, the gap filled by mirroring at the edge."""
    return ndimage.shift(image, (down, right), order=0, mode="reflect")


def test_the_72_regular_operations_are_numpys_flip_then_shift_then_quarter_turns(image):
    expected = [
        np.rot90(shifted(np.fliplr(image) if flip else image, right, down), turns)
        for flip in (False, True)
        for right in (0, -2, 2)
        for down in (0, -2, 2)
        for turns in range(4)
    ]
    found = applied(image, regular_affine(8))
    assert found.shape == (72, 8, 8)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "n"),
    [({}, 72), ({"shift": 0}, 8), ({"flip": False, "shift": 0}, 4), ({"shift": 0, "rotations": 1}, 2),
     ({"rotations": 2}, 36), ({"flip": False, "rotations": 1}, 9)],
)  # fmt: skip
def test_fewer_operations_by_argument_are_all_different_and_begin_with_the_identity(image, arguments, n):
    found = applied(image, regular_affine(8, **arguments))
    np.testing.assert_allclose(found[0], image, atol=1e-6)
    assert len(np.unique(found.round(3).reshape(len(found), -1), axis=0)) == n


def test_half_turns_are_by_180_degrees(image):
    found = applied(image, regular_affine(8, flip=False, shift=0, rotations=2))
    np.testing.assert_allclose(found[1], image[::-1, ::-1], atol=1e-6)


def test_irregular_rotations_equal_scipys_linear_interpolation_with_mirrored_edges(image):
    found = applied(image, irregular_affine(8))
    assert len(found) == 16
    angles = [30, 60, 120, 150, 210, 240, 300, 330]
    for i, angle in enumerate(np.radians(angles)):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # of (row, column)
        offset = np.full(2, 3.5) - turn @ np.full(2, 3.5)
        for picture, result in ((image, found[i]), (np.fliplr(image), found[8 + i])):
            expected = ndimage.affine_transform(picture, turn, offset, order=1, mode="reflect")
            np.testing.assert_allclose(result, expected, atol=1e-4)


def test_the_quarters_of_the_image_come_in_all_23_other_orders(image):
    found = applied(image, rearranged_patches(8))
    places = {"a": (0, 0), "b": (0, 4), "c": (4, 0), "d": (4, 4)}
    quarters = {name: image[row : row + 4, column : column + 4] for name, (row, column) in places.items()}
    orders = set()
    for result in found:
        parts = [result[:4, :4], result[:4, 4:], result[4:, :4], result[4:, 4:]]
        names = [next(n for n, q in quarters.items() if np.allclose(part, q, atol=1e-5)) for part in parts]
        orders.add("".join(names))
    assert len(orders) == 23 and "abcd" not in orders and all(sorted(order) == list("abcd") for order in orders)


def test_a_constant_image_stays_constant_so_no_rim_gives_an_operation_away():
    flat = np.full((8, 8), 0.7, np.float32)
    grids = torch.cat([regular_affine(8), irregular_affine(8), rearranged_patches(8)])
    np.testing.assert_allclose(applied(flat, grids), 0.7, atol=1e-6)


def test_each_image_can_have_its_own_operation_or_all_the_same(rng):
    images = torch.from_numpy(rng.random((4, 3, 8, 8)).astype(np.float32))
    grids = regular_affine(8, flip=False, shift=0)
    own = transform(images, grids)
    for i in range(4):
        np.testing.assert_allclose(own[i], torch.rot90(images[i], i, (1, 2)), atol=1e-5)
        np.testing.assert_allclose(transform(images, grids[i])[i], own[i], atol=1e-6)
