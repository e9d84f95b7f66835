"""The data set `paired_digits`: image, caption and series of a digit, with anomalies within and between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .record import Dataset, DatasetError, one_class_split, origin

SERIES_LENGTH = 96
BURST_LENGTH = 48  # steps of the tone in the series; the other steps contain only noise
ONSETS = {"early": (0, 16), "late": (32, 48)}  # half-open range of the first step of the tone
NOISE = 0.25  # standard deviation of the noise in the series; the tones have amplitudes 0.7 to 1.3
TYPO_RATE = 0.03  # share of misspelt words among those that name neither the digit nor the time

SHARES = {
    "damaged image": 0.08,
    "nonsense text": 0.08,
    "spiky series": 0.08,
    "mismatch": 0.18,
    "shifted": 0.10,
    "three digits": 0.08,
}
"""Kinds of anomaly and their share of the test samples; the others are normal."""

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TIMES = {
    "early": ("early", "at once", "right away", "from the start", "without waiting", "in the beginning"),
    "late": ("late", "after a pause", "with a delay", "towards the end", "after some silence", "in the end"),
}
TEMPLATES = (
    "{digit} in {adjective} ink, {writer}, the sound comes {time}",
    "the {writer} wrote a {adjective} {digit} and {time} it rang",
    "{time} we heard it, the {adjective} sign on the {place} is {digit}",
    "on the {place} there is {digit}, {adjective} and clear, tone {time}",
    "I read {digit}, the {writer} may disagree, signal {time}",
    "a {adjective} figure on the {place}: {digit}; it begins {time}",
    "{digit}",
    "it must be {digit}, said the {writer}",
    "{time}, says the {writer}, and the number on the {place} is {digit}",
    "{adjective} handwriting, number {digit}, recorded {time}",
    "the {place} shows {digit} and the {writer} hears it {time}",
    "number {digit}, tone {time}, found by the {writer} near the {place}",
)
FILLERS = {
    "adjective": (
        "thin",
        "thick",
        "plain",
        "hasty",
        "careful",
        "faint",
        "dark",
        "narrow",
        "wide",
        "slanted",
        "small",
    ),
    "place": ("form", "envelope", "cheque", "label", "ticket", "door", "page", "box", "list", "board", "receipt"),
    "writer": ("clerk", "teacher", "child", "postman", "nurse", "cashier", "student", "farmer", "driver", "baker"),
}
SYLLABLES = ("bla", "fru", "kol", "mip", "nar", "osk", "pel", "qua", "rit", "sno", "tup", "vex", "wim", "yol", "zed")


def paired_digits(seed: int = 0, *, shares: Mapping[str, float] = SHARES) -> Dataset:
    """Image, caption and series of a handwritten digit; the three parts of a normal sample agree.

    - "image": (n, 8, 8, 1) uint8, the 1797 images of ``digits/<k>``, each used once;
    - "text": (n,) str, a caption. It contains the digit (as a word or a numeral) and the time of the tone, early or
      late. It follows one of several templates with filler words and typing errors;
    - "series": (n, 96) float64, a tone of 48 steps that begins early or late. The digit determines its pitch and its
      timbre; phase, amplitude, exact pitch, exact onset and noise are random.

    Half of the images are for training. The kinds of the anomalies (`kinds_test`) are:

    - "damaged image", "nonsense text", "spiky series": one part is damaged; this part alone suffices to detect it;
    - "mismatch": one of the three parts shows another digit. These parts are exchanged among the mismatches, so that
      each part alone has exactly the distribution of normal parts;
    - "shifted": the tone is early and the caption says late, or the reverse; onsets are exchanged in the same way;
    - "three digits": image, caption and series show three different digits, exchanged in the same way; the times
      agree.

    Parameters
    ----------
    seed : int >= 0
    shares : mapping of kind -> share of the test samples, with a sum below 1

    Returns
    -------
    Dataset of modality "paired"
        `source` contains `kinds_test` ("normal" for normal samples) and `parts_test`, the wrong part: "image",
        "text" or "series". It is "series" for shifted samples, and "" for normal samples and for "three digits".

    Raises
    ------
    DatasetError
        A kind is unknown, a share is negative, or the shares leave no normal samples.

    Notes
    -----
    Images: E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI. Captions and series are
    generated.

    The parts of a normal sample share only the digit (all three) and the time (caption and series). All other
    attributes are drawn independently. If the parts of an anomaly are each distributed as normal parts, they
    therefore disagree in the digit, in the time, or in both. A method that is trained on exchanged parts sees most
    of these combinations in training. If one part at a time is exchanged, as in ``CrossAttentionFusion``, two parts
    always agree in the digit, and "three digits" does not occur. If pairs of parts of different samples are the
    negatives, as in ``GraphFusion``, every such combination occurs. A series reversed in time is not a further kind:
    the envelope is symmetric and the phase random, so it equals a series with the other onset.

    The captions and series of "three digits" are drawn from a separate random generator. If their share is set to 0,
    all other samples stay bitwise the same.
    """
    from sklearn.datasets import load_digits  # imported here because it takes a second

    rng = np.random.default_rng(seed)
    data = load_digits()
    images = np.round(data.images[..., None] * (255 / 16)).astype(np.uint8)
    train, test = one_class_split(np.zeros(len(images), int), seed)
    rng.shuffle(test)  # the images are sorted by writer
    kinds = _kinds(len(test), shares, rng)
    X_train, _ = _views(images[train], data.target[train], np.full(len(train), "normal"), rng)
    X_test, odd = _views(images[test], data.target[test], kinds, rng)
    _damage(X_test, kinds, rng)
    _contradict(X_test, data.target[test], np.flatnonzero(kinds == "three digits"), np.random.default_rng([seed, 1]))
    broken = {"damaged image": "image", "nonsense text": "text", "spiky series": "series", "shifted": "series"}
    parts = np.array([broken.get(kind, part) for kind, part in zip(kinds, odd)])
    known = origin("paired_digits", kinds_test=tuple(kinds.tolist()), parts_test=tuple(parts.tolist()))
    return Dataset("paired_digits", "paired", X_train, X_test, (kinds != "normal").astype(np.int64), source=known)


def caption(digit: int, time: str, rng: np.random.Generator) -> str:
    """A random sentence that contains a digit and the time of its tone ("early" or "late")."""
    words = {name: str(rng.choice(choices)) for name, choices in FILLERS.items()}
    name = WORDS[digit] if rng.random() < 0.7 else str(digit)
    when = str(rng.choice(TIMES[time]))
    sentence = str(rng.choice(TEMPLATES))
    if "{time}" not in sentence:
        sentence += str(rng.choice([", {time}", " and it sounds {time}", " ({time})"]))
    pieces = [_typo(piece, rng) if "{" not in piece else piece for piece in sentence.split()]
    return " ".join(pieces).format(digit=name, time=when, **{key: _typo(word, rng) for key, word in words.items()})


def tone(digit: int, onset: int, rng: np.random.Generator) -> np.ndarray:
    """A series with the tone of a digit that begins at step ``onset``, (96,) float64.

    The pitch is 3, 5, 7, 9 or 11 periods per tone (digit // 2). The timbre is a pure sine for even digits, and a sine
    with a strong second harmonic for odd digits.
    """
    t = np.arange(BURST_LENGTH) / BURST_LENGTH
    periods = (3 + 2 * (digit // 2)) * rng.uniform(0.95, 1.05)
    phase, second = rng.uniform(0, 2 * np.pi, 2)
    wave = np.sin(2 * np.pi * periods * t + phase)
    if digit % 2:
        wave = 0.75 * (wave + np.sin(4 * np.pi * periods * t + second))
    series = NOISE * rng.standard_normal(SERIES_LENGTH)
    series[onset : onset + BURST_LENGTH] += rng.uniform(0.7, 1.3) * np.sqrt(np.sin(np.pi * t)) * wave
    return series


def drop_parts(X: Mapping[str, Any], share: float, seed: int = 0) -> dict[str, list]:
    """Copy samples and remove each part (None) with probability ``share``, but never all parts of a sample.

    A sample that would lose all its parts keeps one, drawn at random.
    """
    rng = np.random.default_rng(seed)
    n = len(next(iter(X.values())))
    missing = rng.random((n, len(X))) < share
    missing[np.arange(n), rng.integers(len(X), size=n)] &= ~missing.all(axis=1)
    return {
        name: [None if lost else sample for sample, lost in zip(samples, gone)]
        for (name, samples), gone in zip(X.items(), missing.T)
    }


def still_visible(dataset: Dataset, X: Mapping[str, Any]) -> np.ndarray:
    """Which test samples are still anomalous after ``drop_parts``, (n,) bool; True for normal samples.

    A damaged part must be present. A mismatch needs the wrong part and one other part, a sample of "three digits" any
    two parts, and a shifted sample series and caption.
    """
    present = {name: np.array([part is not None for part in samples]) for name, samples in X.items()}
    kinds, parts = np.array(dataset.source["kinds_test"]), np.array(dataset.source["parts_test"])
    wrong = np.select([parts == name for name in present], list(present.values()), True)
    enough = np.select(
        [np.isin(kinds, ("mismatch", "three digits")), kinds == "shifted"],
        [sum(present.values()) >= 2, present["text"] & present["series"]],
        True,
    )
    return wrong & enough


def add_noise(X: Mapping[str, Any], level: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Copy samples and add noise to every part; ``level`` is 0 (no noise) to 1 (strong noise).

    Pixels get normal noise with standard deviation 128 · level and are clipped. Series get normal noise with standard
    deviation 2 · level. Each letter of a caption is replaced by a random letter with probability 0.3 · level.
    """
    rng = np.random.default_rng(seed)
    pixels = X["image"] + 128 * level * rng.standard_normal(X["image"].shape)
    letters = [
        "".join(_letter(rng) if letter.isalpha() and rng.random() < 0.3 * level else letter for letter in text)
        for text in X["text"]
    ]
    series = X["series"] + 2 * level * rng.standard_normal(X["series"].shape)
    return {"image": np.round(pixels.clip(0, 255)).astype(np.uint8), "text": np.array(letters), "series": series}


def _kinds(n: int, shares: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    """The kind of each test sample, in random order."""
    unknown = sorted(set(shares) - set(SHARES))
    if unknown:
        raise DatasetError(f"paired_digits: unknown kind {unknown[0]!r}. Kinds are {', '.join(SHARES)}.")
    if min(shares.values(), default=0) < 0 or sum(shares.values()) >= 1:
        raise DatasetError(f"paired_digits: shares {dict(shares)}; give numbers from 0 that add up to less than 1.")
    kinds = np.full(n, "normal", dtype="<U13")
    start = 0
    for kind, share in shares.items():
        count = round(share * n)
        kinds[start : start + count] = kind
        start += count
    return rng.permutation(kinds)


def _views(images, digits, kinds, rng) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The three parts of each sample, also of mismatched and shifted samples; and the wrong part of each mismatch."""
    n = len(digits)
    texts, series, odd = digits.copy(), digits.copy(), np.full(n, "", dtype="<U6")
    for part, rows in zip(("image", "text", "series"), np.array_split(np.flatnonzero(kinds == "mismatch"), 3)):
        odd[rows] = part
        other = exchanged(digits[rows], rng)
        if part != "series":  # for a wrong image, caption and series agree on another digit
            texts[rows] = other
        if part != "text":
            series[rows] = other
    late_text = _halves(n, rng)
    shifted = np.flatnonzero(kinds == "shifted")
    late_text[shifted] = _halves(len(shifted), rng)
    late_series = late_text ^ (kinds == "shifted")
    times = np.array(list(ONSETS))
    captions = [caption(digit, time, rng) for digit, time in zip(texts, times[late_text.astype(int)])]
    tones = [
        tone(digit, int(rng.integers(*ONSETS[time])), rng)
        for digit, time in zip(series, times[late_series.astype(int)])
    ]
    return {"image": images.copy(), "text": np.array(captions), "series": np.stack(tones)}, odd


def _halves(n: int, rng: np.random.Generator) -> np.ndarray:
    """Random array, (n,) bool, of which half is True."""
    return rng.permutation(np.arange(n) % 2 == 1)


def exchanged(labels: np.ndarray, rng: np.random.Generator, *others: np.ndarray) -> np.ndarray:
    """Random permutation of labels that differs at each position from ``labels`` and from each of ``others``.

    ``others`` are permutations of the same labels.

    Raises
    ------
    DatasetError
        A label is so frequent that there may be no such permutation. Without ``others``, this is more than half of
        the labels.
    """
    forbidden = np.stack([labels, *others])
    if len(labels) and 2 * len(forbidden) * np.bincount(labels).max() > len(labels):
        raise DatasetError(
            f"paired_digits: {len(labels)} samples cannot exchange parts; give their kind a larger share."
        )
    mixed = rng.permutation(labels)
    while (equal := (mixed == forbidden).any(axis=0)).any():
        i = int(rng.choice(np.flatnonzero(equal)))
        fitting = (mixed != forbidden[:, i, None]).all(axis=0) & (forbidden != mixed[i]).all(axis=0)
        j = int(rng.choice(np.flatnonzero(fitting)))
        mixed[i], mixed[j] = mixed[j], mixed[i]
    return mixed


def _contradict(X: dict[str, np.ndarray], digits: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> None:
    """Replace caption and series of these samples, in place, by those of two other digits with equal times."""
    texts = exchanged(digits[rows], rng)
    series = exchanged(digits[rows], rng, texts)
    times = np.array(list(ONSETS))[_halves(len(rows), rng).astype(int)]
    captions = [caption(digit, time, rng) for digit, time in zip(texts, times)]
    tones = [tone(digit, int(rng.integers(*ONSETS[time])), rng) for digit, time in zip(series, times)]
    sentences = X["text"].astype(object)  # strings of any length
    for i, sentence, values in zip(rows, captions, tones):
        sentences[i], X["series"][i] = sentence, values
    X["text"] = sentences.astype(str)


def _damage(X: dict[str, np.ndarray], kinds: np.ndarray, rng: np.random.Generator) -> None:
    """Damage one part of the samples of the first three kinds, in place."""
    for i in np.flatnonzero(kinds == "damaged image"):  # a block of pixels is shuffled
        top, left = rng.integers(0, 3, 2)
        block = X["image"][i, top : top + 6, left : left + 6]
        block[:] = rng.permutation(block.reshape(-1, 1)).reshape(block.shape)
    texts = X["text"].astype(object)
    for i in np.flatnonzero(kinds == "nonsense text"):  # the same number of words, all meaningless
        texts[i] = " ".join("".join(rng.choice(SYLLABLES, rng.integers(1, 4))) for _ in texts[i].split())
    X["text"] = texts.astype(str)
    for i in np.flatnonzero(kinds == "spiky series"):
        where = rng.choice(SERIES_LENGTH, 4, replace=False)
        X["series"][i, where] += rng.choice([-1, 1], 4) * rng.uniform(1.5, 3, 4)


def _typo(word: str, rng: np.random.Generator) -> str:
    """The word, at random with one wrong letter."""
    if len(word) < 3 or rng.random() >= TYPO_RATE:
        return word
    i = int(rng.integers(len(word)))
    return word[:i] + _letter(rng) + word[i + 1 :]


def _letter(rng: np.random.Generator) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[rng.integers(26)]
