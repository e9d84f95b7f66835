"""paired_digits: what agrees, what does not, and what a single part can give away."""

import re

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mmad_utils import LateFusion
from mmad_utils.datasets import DatasetError, load
from mmad_utils.datasets.paired import (
    BURST_LENGTH,
    NOISE,
    SHARES,
    TIMES,
    WORDS,
    add_noise,
    drop_parts,
    exchanged,
    paired_digits,
    still_visible,
    tone,
)

NAMES = {*WORDS, *"0123456789"}


@pytest.fixture(scope="module")
def data():
    return load("paired_digits")


def words_of(text):
    return re.findall(r"\w+", text)


def digit_in(text):
    named = [WORDS.index(word) if word in WORDS else int(word) for word in words_of(text) if word in NAMES]
    assert len(named) == 1, text
    return named[0]


def time_in(text):
    named = {time for time, phrases in TIMES.items() for phrase in phrases if re.search(rf"\b{phrase}\b", text)}
    assert len(named) == 1, text
    return named.pop()


def is_late(series):
    energy = np.square(series)
    return energy[-32:].sum() > energy[:32].sum()  # no late burst begins before step 32, no early one lasts to 64


def digit_of_pictures(pictures):
    """The true digit: every picture is one of scikit-learn's."""
    reference = load_digits()
    known = {
        np.round(image * 255 / 16).astype(np.uint8).tobytes(): t
        for image, t in zip(reference.images, reference.target)
    }
    return np.array([known.get(picture.tobytes(), -1) for picture in pictures])


def test_half_of_the_images_train_and_the_shares_are_those_of_the_argument(data):
    kinds = np.array(data.source["kinds_test"])
    assert {name: len(part) for name, part in data.X_train.items()} == dict.fromkeys(("image", "text", "series"), 898)
    assert data.modality == "paired" and len(data.y_test) == 899
    for kind, share in SHARES.items():
        assert (kinds == kind).sum() == round(share * 899)
    np.testing.assert_array_equal(data.y_test, kinds != "normal")
    few = paired_digits(0, shares={"mismatch": 0.1})
    assert set(few.source["kinds_test"]) == {"normal", "mismatch"} and few.y_test.sum() == 90


def test_the_parts_of_a_normal_sample_show_the_same_digit_at_the_time_that_the_caption_says(data):
    normal = data.y_test == 0
    for X in (data.X_train, {name: part[normal] for name, part in data.X_test.items()}):
        np.testing.assert_array_equal([digit_in(text) for text in X["text"]], digit_of_pictures(X["image"]))
        late = np.array([time_in(text) == "late" for text in X["text"]])
        assert (np.array([is_late(series) for series in X["series"]]) == late).mean() > 0.99


def test_a_mismatch_has_one_odd_part_and_the_parts_of_all_mismatches_are_distributed_as_normal_ones(data):
    kinds, parts = np.array(data.source["kinds_test"]), np.array(data.source["parts_test"])
    for part in ("image", "text", "series"):
        rows = (kinds == "mismatch") & (parts == part)
        pictures, texts = (
            digit_of_pictures(data.X_test["image"][rows]),
            [digit_in(t) for t in data.X_test["text"][rows]],
        )
        assert rows.sum() == 54
        assert (pictures == texts).all() if part == "series" else not (pictures == texts).any()
        np.testing.assert_array_equal(np.sort(pictures), np.sort(texts))  # exchanged, nothing added


def test_a_shifted_series_contradicts_the_caption_and_is_early_as_often_as_late(data):
    rows = np.array(data.source["kinds_test"]) == "shifted"
    late = np.array([time_in(text) == "late" for text in data.X_test["text"][rows]])
    heard = np.array([is_late(series) for series in data.X_test["series"][rows]])
    assert (heard != late).mean() > 0.97 and late.mean() == 0.5


def test_three_digits_are_three_and_the_times_agree(data):
    rows = np.array(data.source["kinds_test"]) == "three digits"
    X = {name: part[rows] for name, part in data.X_test.items()}
    images, texts = digit_of_pictures(X["image"]), np.array([digit_in(text) for text in X["text"]])
    late = np.array([time_in(text) == "late" for text in X["text"]])
    assert rows.sum() == 72 and not (images == texts).any()
    np.testing.assert_array_equal(np.sort(images), np.sort(texts))  # exchanged, nothing added
    assert (np.array([is_late(series) for series in X["series"]]) == late).mean() > 0.97 and late.mean() == 0.5
    heard = heard_digits(data.X_train)(X["series"])
    for shown in (images, texts):
        assert (heard == shown).mean() < 0.1  # the reading is right for nine series of ten


def heard_digits(X):
    """A classifier that reads the digit of series from the spectra of their bursts, as a function."""

    def spectra(series):
        return sum(np.abs(np.fft.rfft(half)) for half in np.split(series, 2, axis=1))

    reader = LogisticRegression(max_iter=2000).fit(spectra(X["series"]), [digit_in(text) for text in X["text"]])
    return lambda series: reader.predict(spectra(series))


def test_three_digits_leave_all_other_samples_as_they_are_without_them(data):
    kinds = np.array(data.source["kinds_test"])
    without = paired_digits(0, shares={kind: share for kind, share in SHARES.items() if kind != "three digits"})
    others = kinds != "three digits"
    np.testing.assert_array_equal(kinds[others], np.array(without.source["kinds_test"])[others])
    assert set(np.array(without.source["kinds_test"])[~others]) == {"normal"}
    for name in data.X_test:
        np.testing.assert_array_equal(data.X_train[name], without.X_train[name])
        np.testing.assert_array_equal(data.X_test[name][others], without.X_test[name][others])


@pytest.mark.parametrize("kind", ["mismatch", "shifted", "three digits"])
def test_a_detector_of_one_part_scores_cross_modal_anomalies_as_normal_samples(kind):
    areas = {name: [] for name in ("image", "text", "series")}
    for dataset in map(paired_digits, range(3)):
        kinds = np.array(dataset.source["kinds_test"])
        rows = np.isin(kinds, ("normal", kind))
        for name in areas:
            fitted = LateFusion(random_state=0).fit({name: dataset.X_train[name]})
            scores = fitted.anomaly_score({name: dataset.X_test[name][rows]})
            areas[name].append(roc_auc_score(kinds[rows] == kind, scores))
    for values in areas.values():
        assert np.mean(values) == pytest.approx(0.5, abs=0.08)  # over three standard errors of 72 samples


def test_an_order_that_differs_from_two_others_has_the_same_labels(rng):
    for _ in range(50):
        labels = rng.permutation(np.arange(60) % 8)
        first = exchanged(labels, rng)
        second = exchanged(labels, rng, first)
        assert (np.sort(second) == np.sort(labels)).all() and not ((second == labels) | (second == first)).any()
    with pytest.raises(DatasetError, match="cannot exchange parts"):
        exchanged(np.array([1, 1, 2, 2, 3, 3]), rng, np.array([2, 2, 3, 3, 1, 1]))


def test_exchanged_labels_are_the_same_labels_none_in_its_place(rng):
    for _ in range(50):
        labels = rng.integers(0, 4, 40)
        mixed = exchanged(labels, rng)
        assert (np.sort(mixed) == np.sort(labels)).all() and not (mixed == labels).any()
    with pytest.raises(DatasetError, match="cannot exchange parts; give their kind a larger share"):
        exchanged(np.array([1, 1, 2]), rng)


def test_captions_vary_and_the_digit_stands_at_many_places(data):
    texts = data.X_train["text"]
    assert len(set(texts)) > 0.95 * len(texts)
    places = [next(i for i, word in enumerate(words_of(text)) if word in NAMES) for text in texts]
    assert len(set(places)) > 6


def test_the_digit_can_be_learned_from_the_spectrum_of_a_series_and_not_from_its_values(rng):
    digits = np.arange(1200) % 10
    series = np.stack([tone(digit, 0, rng) for digit in digits])
    spectra = np.abs(np.fft.rfft(series[:, :BURST_LENGTH]))
    accuracy = {
        name: LogisticRegression(max_iter=2000).fit(X[:800], digits[:800]).score(X[800:], digits[800:])
        for name, X in (("spectrum", spectra), ("values", series))
    }
    assert accuracy["spectrum"] > 0.9 > 0.3 > accuracy["values"]
    assert series[:, BURST_LENGTH:].std() == pytest.approx(NOISE, rel=0.03)


def test_a_broken_part_is_broken_and_the_others_are_not(data):
    kinds = np.array(data.source["kinds_test"])
    assert (digit_of_pictures(data.X_test["image"][kinds == "damaged image"]) == -1).mean() > 0.95
    assert (digit_of_pictures(data.X_test["image"][kinds != "damaged image"]) >= 0).all()
    assert not set(words_of(" ".join(data.X_test["text"][kinds == "nonsense text"]))) & NAMES
    peaks = np.abs(np.diff(data.X_test["series"], axis=1)).max(axis=1)
    rows = (kinds == "spiky series") | (kinds == "normal")
    assert roc_auc_score(kinds[rows] != "normal", peaks[rows]) > 0.7


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones(data):
    again, other = load("paired_digits"), load("paired_digits", seed=1)
    assert data.source["sha256"] == again.source["sha256"] != other.source["sha256"]
    assert data.source["kinds_test"] == again.source["kinds_test"]


def test_resplit_redraws_whole_normal_samples_and_keeps_anomalies_in_place(data):
    again, anomalies = data.resplit(3), data.y_test == 1
    for name in data.X_test:
        np.testing.assert_array_equal(again.X_test[name][anomalies], data.X_test[name][anomalies])
    np.testing.assert_array_equal(
        [digit_in(t) for t in again.X_train["text"]], digit_of_pictures(again.X_train["image"])
    )
    assert again.source["sha256"] != data.source["sha256"]


def test_dropped_parts_have_the_given_share_and_no_sample_loses_all(data):
    dropped = drop_parts(data.X_test, 0.6, seed=0)
    missing = np.array([[part is None for part in samples] for samples in dropped.values()])
    assert not missing.all(axis=0).any()
    assert missing.mean() == pytest.approx(0.6 - 0.6**3 / 3, abs=0.03)
    assert [a is None for a in drop_parts(data.X_test, 0.6)["text"]] == [a is None for a in dropped["text"]]
    kept = next(i for i, part in enumerate(dropped["series"]) if part is not None)
    np.testing.assert_array_equal(dropped["series"][kept], data.X_test["series"][kept])


def test_an_anomaly_is_visible_while_what_makes_it_one_is_there(data):
    kinds, parts = np.array(data.source["kinds_test"]), np.array(data.source["parts_test"])
    assert still_visible(data, data.X_test).all()
    no_text = {**data.X_test, "text": [None] * 899}
    np.testing.assert_array_equal(still_visible(data, no_text), (parts != "text") & (kinds != "shifted"))
    only_series = {**no_text, "image": [None] * 899}
    np.testing.assert_array_equal(still_visible(data, only_series), np.isin(kinds, ("normal", "spiky series")))


def test_noise_grows_with_its_level_and_level_zero_changes_nothing(data):
    none = add_noise(data.X_test, 0.0)
    assert all((none[name] == data.X_test[name]).all() for name in none)
    weak, strong = add_noise(data.X_test, 0.2), add_noise(data.X_test, 0.8)
    for name in ("image", "series"):
        distance = [np.abs(X[name].astype(float) - data.X_test[name]).mean() for X in (weak, strong)]
        assert 0 < distance[0] < distance[1]
    assert (weak["text"] == data.X_test["text"]).mean() > (strong["text"] == data.X_test["text"]).mean()


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"mismach": 0.1}, "unknown kind 'mismach'"),
        ({"mismatch": -0.1}, "from 0"),
        ({"mismatch": 1.0}, "less than 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares, message):
    with pytest.raises(DatasetError, match=message):
        paired_digits(0, shares=shares)


def test_modalities_of_different_length_and_the_wish_for_a_table_are_clear_errors(data):
    with pytest.raises(DatasetError, match=r"as many samples each, not \{'image': 899, 'text': 898"):
        type(data)("x", "paired", data.X_train, {**data.X_test, "text": data.X_test["text"][1:]}, data.y_test)
    with pytest.raises(DatasetError, match="several modalities, not a table"):
        data.as_table()
