import numpy as np
import pytest
from scipy import fft, signal, stats

from mmad_utils.series_features import mel_cepstra, mel_filters, series_features


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
