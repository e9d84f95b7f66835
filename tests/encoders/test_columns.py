import numpy as np
import pandas as pd
import pytest

from mmad_utils.detector import DetectorError, load_state, save_state
from mmad_utils.encoders.columns import ColumnEncoder, describe_columns, kinds_of


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    n = 200
    return pd.DataFrame(
        {
            "length": rng.normal(5, 2, n),
            "gappy": np.where(rng.random(n) < 0.1, np.nan, rng.exponential(size=n)),
            "site": rng.choice(["north", "south"], n),
            "zip": rng.choice([f"z{i}" for i in range(30)], n),
            "day": pd.date_range("2024-01-31", periods=n).strftime("%d/%m/%Y"),
            "moment": pd.date_range("2024-01-31", periods=n, freq="7h").strftime("%Y-%m-%d %H:%M:%S"),
            "mixed": [*map(str, rng.integers(0, 9, n - 2)), "broken", "n.a."],
            "ok": rng.choice([True, False], n),
            "unit": "mm",
            "empty": np.nan,
            "id": [f"case {i}" for i in range(n)],
            "row": np.arange(n),
            "again": 0.0,
        }
    ).assign(again=lambda table: table["length"])


def test_every_column_gets_its_kind_and_what_says_nothing_is_left_out(frame):
    described = describe_columns(frame).set_index("column")
    assert described["kind"].to_dict() == {
        "length": "number", "gappy": "number", "site": "category", "zip": "text", "day": "date %d/%m/%Y",
        "moment": "date %Y-%m-%d %H:%M:%S", "mixed": "number", "ok": "number",
        "unit": "", "empty": "", "id": "", "row": "", "again": "",
    }  # fmt: skip
    reasons = described["becomes"]
    assert "every cell is 'mm'" in reasons["unit"] and "all cells are missing" in reasons["empty"]
    assert "different in every row" in reasons["id"] and "counts the rows" in reasons["row"]
    assert "the same as 'length'" in reasons["again"] and "2 cells that are no number" in reasons["mixed"]


def test_a_table_of_constants_is_refused_with_the_reason():
    with pytest.raises(DetectorError, match=r"no column is left.*every cell is '1'"):
        describe_columns(pd.DataFrame({"a": [1] * 9, "b": [np.nan] * 9}))


def test_numbers_are_arcsinh_of_the_distance_to_the_median_in_interquartile_ranges(frame):
    x = frame["length"].to_numpy()
    low, middle, high = np.percentile(x, [25, 50, 75])
    encoded = ColumnEncoder({"length": "number"}).fit_transform(frame)
    np.testing.assert_allclose(encoded[:, 0], np.arcsinh((x - middle) / (high - low)))


def test_gaps_become_the_middle_and_are_told_in_a_column_of_their_own(frame):
    encoder = ColumnEncoder({"gappy": "number"}).fit(frame)
    value, gap = encoder.transform(frame).T
    missing = frame["gappy"].isna().to_numpy()
    np.testing.assert_array_equal(gap, missing)
    assert (value[missing] == 0).all() and encoder.sources_ == ["gappy", "gappy"]


def test_categories_are_one_hot_and_an_unseen_value_has_a_column(frame):
    encoder = ColumnEncoder({"site": "category"}).fit(frame)
    rows = encoder.transform(pd.DataFrame({"site": ["north", "south", "moon", None]}))
    assert rows.sum(axis=1).tolist() == [1, 1, 1, 1]
    assert rows[:, -1].tolist() == [0, 0, 1, 1]


def test_the_rarer_a_text_the_higher_its_number_and_an_unseen_one_is_the_highest():
    frame = pd.DataFrame({"word": ["often"] * 60 + ["seldom"] * 20 + list("abcdefghijklm")})
    encoder = ColumnEncoder({"word": "text"}).fit(frame)
    often, seldom, once, unseen = encoder.transform(pd.DataFrame({"word": ["often", "seldom", "a", "new"]}))[:, 0]
    assert often < seldom < once < unseen


def test_dates_carry_the_day_the_weekday_and_the_time_of_day():
    days = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=28).strftime("%Y-%m-%d")})
    encoded = ColumnEncoder().fit_transform(days)
    assert encoded.shape == (28, 3)  # at midnight all: no time of day
    np.testing.assert_allclose(encoded[:7, 1:], encoded[7:14, 1:], atol=1e-9)
    assert (np.diff(encoded[:, 0]) > 0).all()
    hours = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=96, freq="h").strftime("%Y-%m-%d %H:%M:%S")})
    encoded = ColumnEncoder().fit_transform(hours)
    assert encoded.shape == (96, 5)
    np.testing.assert_allclose(encoded[:24, 3:], encoded[24:48, 3:], atol=1e-9)


def test_only_training_rows_teach(frame):
    encoder = ColumnEncoder(kinds_of(describe_columns(frame)))
    before = encoder.fit(frame[:100]).transform(frame[:100])
    wild = frame.copy()
    wild.loc[100:, "length"] = 1e9
    np.testing.assert_array_equal(encoder.fit(wild[:100]).transform(wild[:100]), before)


@pytest.mark.filterwarnings("error")
def test_wild_values_stay_finite():
    x = [*np.arange(50.0), 1e308, -1e308, np.inf, np.nan]
    encoded = ColumnEncoder().fit_transform(pd.DataFrame({"x": x}))
    assert np.isfinite(encoded).all() and np.abs(encoded).max() < 1000
    same = ColumnEncoder().fit_transform(pd.DataFrame({"x": [1e308, -1e308] * 20}))
    assert np.isfinite(same).all()


def test_a_new_table_may_have_other_columns_but_not_fewer(frame):
    encoder = ColumnEncoder({"length": "number", "site": "category"}).fit(frame)
    assert encoder.transform(frame[["site", "length", "zip"]]).shape[0] == 200
    with pytest.raises(DetectorError, match="no column 'site'"):
        encoder.transform(frame[["length"]])


def test_a_saved_encoder_gives_the_same_numbers(frame, tmp_path):
    encoder = ColumnEncoder().fit(frame)
    save_state(tmp_path / "encoder.safetensors", {"encoder": encoder.get_state()})
    other = ColumnEncoder()
    other.set_state(load_state(tmp_path / "encoder.safetensors")["encoder"])
    np.testing.assert_array_equal(other.transform(frame), encoder.transform(frame))
