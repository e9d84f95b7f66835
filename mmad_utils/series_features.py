"""Numbers that describe a series: statistics, spectra, and the mel cepstra of sound."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

from mmad_utils.detector import DetectorError

__all__ = ["mel_cepstra", "mel_filters", "series_features"]

BANDS = 24  # of the spectrum
WINDOWS = 6  # of the energy over time
LAGS = (1, 2, 4, 8)  # of the autocorrelation
FLOOR = 1e-10  # energies below count as this much before the logarithm


def series_features(X: np.ndarray) -> np.ndarray:
    """Statistical and spectral features of each series.

    Mean, standard deviation, skewness, excess kurtosis, smallest and largest value, largest step, slope of the
    straight line, share of sign changes about the mean; autocorrelation at four lags; log energy in six windows of
    time; log energy in up to 24 bands of the spectrum of the whole series (Hann window, bands of equal width), and
    its centre of mass.

    Parameters
    ----------
    X : (n, length) float64, at least 12 steps

    Returns
    -------
    (n, d) float64, finite for any finite series (of a constant one skewness, kurtosis and autocorrelation are 0)
    """
    length = X.shape[1]
    if length < 2 * WINDOWS:
        raise DetectorError(f"series of {length} steps are too short; give at least {2 * WINDOWS}.")
    mean, sd = X.mean(axis=1, keepdims=True), X.std(axis=1, keepdims=True)
    centred = X - mean
    z = np.divide(centred, sd, out=np.zeros_like(X), where=sd > 1e-9 * (1 + np.abs(mean)))
    t = np.arange(length) - (length - 1) / 2
    statistics = [
        mean[:, 0],
        sd[:, 0],
        (z**3).mean(axis=1),
        (z**4).mean(axis=1) - 3 * (z != 0).any(axis=1),
        X.min(axis=1),
        X.max(axis=1),
        np.abs(np.diff(X, axis=1)).max(axis=1),
        centred @ t / (t @ t),
        (np.diff(np.signbit(centred), axis=1)).mean(axis=1),
    ]
    autocorrelation = [(z[:, lag:] * z[:, :-lag]).sum(axis=1) / length for lag in LAGS]
    energy = [np.square(part).mean(axis=1) for part in np.array_split(centred, WINDOWS, axis=1)]
    power = np.square(np.abs(fft.rfft(centred * signal.windows.hann(length, sym=False))))[:, 1:] / length
    bands = [part.sum(axis=1) for part in np.array_split(power, min(BANDS, power.shape[1]), axis=1)]
    total = power.sum(axis=1)
    centre = power @ np.arange(1, power.shape[1] + 1) / np.maximum(total, FLOOR) / power.shape[1]
    logs = np.log(np.maximum(np.stack([*energy, *bands], axis=1), FLOOR))
    return np.column_stack([*statistics, *autocorrelation, centre, logs])


def mel_filters(n_filters: int, n_fft: int, sampling_rate: float) -> np.ndarray:
    """Triangular filters with centres equally spaced in mel = 2595 log10(1 + f / 700), (n_filters, n_fft // 2 + 1).

    Each rises from 0 at the centre of the last filter to 1 at its own and falls to 0 at the next; the first begins at
    0 Hz, the last ends at half the sampling rate.
    """
    mel = np.linspace(0, 2595 * np.log10(1 + sampling_rate / 2 / 700), n_filters + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.linspace(0, sampling_rate / 2, n_fft // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return np.minimum(rising, falling).clip(0, None)


def mel_cepstra(
    X: np.ndarray, sampling_rate: float, *, n_coefficients: int = 13, n_filters: int = 20, frame: int | None = None
) -> np.ndarray:
    """Mel-frequency cepstral coefficients of each frame: the cosine transform of the log energies of mel filters.

    Parameters
    ----------
    X : (n, length) float64
    sampling_rate : float, Hz
    n_coefficients, n_filters : int
    frame : int, steps of a frame (Hann window, moved on by half of it); default 25 ms, at most half the series and at
        least 16 steps

    Returns
    -------
    (n, frames, n_coefficients) float64

    References
    ----------
    S. B. Davis, P. Mermelstein (1980), IEEE Transactions on Acoustics, Speech, and Signal Processing 28(4).
    """
    length = X.shape[1]
    frame = frame or max(16, min(round(0.025 * sampling_rate), length // 2))
    if length < frame:
        raise DetectorError(f"series of {length} steps are shorter than a frame of {frame}.")
    n_fft = max(frame, 4 * n_filters)  # short frames are padded with zeros, so that no filter is empty
    frames = np.lib.stride_tricks.sliding_window_view(X, frame, axis=1)[:, :: frame // 2]
    power = np.square(np.abs(fft.rfft(frames * signal.windows.hann(frame, sym=False), n_fft)))
    energy = power @ mel_filters(n_filters, n_fft, sampling_rate).T
    return fft.dct(np.log(np.maximum(energy, FLOOR)), norm="ortho")[..., :n_coefficients]
