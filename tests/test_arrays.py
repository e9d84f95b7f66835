"""Arrays that are reversed or must not be written to."""

import numpy as np
import pytest

from mmad_utils import AutoEncoder, KNNDistance


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("detector", [KNNDistance(), AutoEncoder(epochs=1, hidden=(4,), random_state=0)], ids=repr)
def test_reversed_and_read_only_tables_give_the_same_scores(detector):
    X = np.random.default_rng(0).normal(size=(40, 3))
    expected = detector.fit(X).score_samples(X)
    fixed = X[::-1, ::-1].copy()[::-1, ::-1]
    fixed.flags.writeable = False
    np.testing.assert_array_equal(detector.fit(fixed).score_samples(fixed), expected)
    np.testing.assert_allclose(detector.score_samples(X[::-1]), expected[::-1], rtol=1e-5)


@pytest.mark.filterwarnings("error::UserWarning")
def test_reversed_and_read_only_images_give_the_same_scores():
    images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    detector = AutoEncoder(epochs=1, random_state=0)
    expected = detector.fit(images).score_samples(images)
    fixed = images[::-1].copy()[::-1]
    fixed.flags.writeable = False
    np.testing.assert_array_equal(detector.fit(fixed).score_samples(fixed), expected)
