import numpy as np
import pandas as pd
import pytest

from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.table_files import read_table
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
    assert "different in every row" in reasons["id"] and "row number" in reasons["row"]
    assert "the same as 'length'" in reasons["again"] and "2 cells that are not a number" in reasons["mixed"]


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
    with pytest.warns(UserWarning, match="row 52, column 'x': 'inf'"):
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


def test_an_encoder_of_an_earlier_version_has_no_formats_and_reads_files(tmp_path):
    table = pd.DataFrame({"a": np.arange(30.0), "b": np.arange(30.0) ** 2})
    state = ColumnEncoder().fit(table).get_state()
    del state["fitted"]["formats_"]
    encoder = ColumnEncoder()
    encoder.set_state(state)
    table.to_csv(tmp_path / "a.csv", index=False)
    read = read_table(tmp_path / "a.csv", like=encoder).X
    np.testing.assert_array_equal(encoder.transform(read), ColumnEncoder().fit_transform(table))


def test_a_gap_in_a_column_without_gaps_is_an_outlier_and_new_in_kind():
    train = pd.DataFrame({"t": np.arange(50.0) ** 2, "g": [np.nan, *np.arange(49.0)]})
    encoder = ColumnEncoder().fit(train)
    encoded, new = encoder.encode(pd.DataFrame({"t": [np.nan, 4.0], "g": [3.0, np.nan]}))
    assert encoded[0, 0] > 10 > np.abs(encoder.transform(train)).max()
    assert new.tolist() == [[True, False], [False, False]]


def test_a_value_of_a_category_that_training_did_not_have_is_new_in_kind():
    encoder = ColumnEncoder({"c": "category"}).fit(pd.DataFrame({"c": list("aab")}))
    assert encoder.encode(pd.DataFrame({"c": ["a", "z", None]}))[1][:, 0].tolist() == [False, True, True]


def test_an_unreadable_cell_is_a_gap_and_the_warning_names_it():
    encoder = ColumnEncoder({"t": "number", "when": "date %Y-%m-%d"}).fit(
        pd.DataFrame({"t": ["1", "2", "4"], "when": ["2024-01-01", "2024-01-02", "2024-01-05"]})
    )
    new = pd.DataFrame({"t": ["3", "ERR"], "when": ["2024-01-03", "soon"]}, index=[5, 6])
    with pytest.warns(UserWarning, match="2 cells .* row 6, column 't': 'ERR'; row 6, column 'when': 'soon'"):
        assert encoder.encode(new)[1].tolist() == [[False, False], [True, True]]


def test_types_of_training_are_kept():
    train = pd.DataFrame({"code": ["007", "012", "A12"] * 9, "size": ["1,5", "2,25", "1.034,5"] * 9})
    encoder = ColumnEncoder().fit(train)
    assert encoder.kinds_ == {"code": "category", "size": "number"} and encoder.formats_ == {"size": (",", "")}
    read_by_pandas = pd.DataFrame({"code": [7, 12], "size": ["1,5", "2,25"]})
    np.testing.assert_array_equal(encoder.transform(read_by_pandas), encoder.transform(train[:2]))
    twice = ColumnEncoder({"version": "category"}).fit(pd.DataFrame({"version": ["1.1", "1.10", "b"]}))
    with pytest.raises(DetectorError, match="could be any of"):
        twice.transform(pd.DataFrame({"version": [1.1]}))


def test_another_unit_is_refused():
    train, new = pd.DataFrame({"t": ["95 C", "96 C"]}), pd.DataFrame({"t": [203.0]})
    encoder = ColumnEncoder({"t": "number"}).fit(train)
    new.attrs["number_formats"] = {"t": (".", "F")}
    with pytest.raises(DetectorError, match="is in 'F'; in training it was in 'C'"):
        encoder.transform(new)


def test_a_file_without_the_units_of_training_is_refused_and_a_frame_of_numbers_gets_a_note(tmp_path):
    widths, others = np.arange(10, 50), np.arange(40) % 7
    pd.DataFrame({"w": [f"{w} mm" for w in widths], "b": others}).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame({"w": widths, "b": others}).to_csv(tmp_path / "new.csv", index=False)
    with_unit, without = read_table(tmp_path / "train.csv").X, read_table(tmp_path / "new.csv").X
    encoder, plain = (ColumnEncoder({"w": "number"}).fit(table) for table in (with_unit, without))
    assert encoder.formats_ == {"w": (".", "mm")} and not encoder.mismatches(with_unit.iloc[3:9])
    assert "without a unit; in training it was in 'mm'" in encoder.mismatches(without)[0]
    with pytest.raises(DatasetError, match="40 of 40 cells are not numbers in 'mm'"):
        read_table(tmp_path / "new.csv", like=encoder)
    with pytest.warns(UserWarning, match=r"40 rows have numbers without a unit .* which is assumed: 'w' \('mm'\)"):
        np.testing.assert_array_equal(encoder.transform(without), encoder.transform(with_unit))
    with pytest.raises(DatasetError, match="40 of 40 cells are not numbers"):
        read_table(tmp_path / "train.csv", like=plain)
    texts = pd.read_csv(tmp_path / "train.csv")
    assert (
        "was a number in training, and 40 of 40 cells cannot be read as one, such as '10 mm'"
        in plain.mismatches(texts)[0]
    )


NUMBERS, WORDS = [1.0, 2.5, 2.5, 40.0, None, 7.0], ["a", "b", None, "a", "c", "b"]
DAYS = ["2024-01-31", "2024-02-01", None, "2024-02-29", "2024-03-05", "2024-03-09"]


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        (NUMBERS, pd.array([1.0, 2.5, 2.5, 40.0, None, 7.0], dtype="Float64")),
        (NUMBERS, pd.arrays.SparseArray([1.0, 2.5, 2.5, 40.0, np.nan, 7.0])),
        (NUMBERS, pd.Categorical(NUMBERS)),
        (NUMBERS, np.array(NUMBERS, dtype=object)),
        ([True, False, None, True, True, False], pd.array([True, False, None, True, True, False], dtype="boolean")),
        (WORDS, pd.Categorical(WORDS)),
        (WORDS, pd.array(WORDS, dtype="string")),
        (DAYS, pd.to_datetime(pd.Series(DAYS))),
        (DAYS, pd.to_datetime(pd.Series(DAYS)).astype("datetime64[s]")),
        (DAYS, pd.to_datetime(pd.Series(DAYS), utc=True)),
        (DAYS, pd.Series(pd.to_datetime(pd.Series(DAYS)).dt.date, dtype=object)),
    ],
    ids=str,
)
def test_a_column_of_any_dtype_is_what_the_same_column_of_a_file_is(cells, column, tmp_path):
    other = [3.5, 1.25, 9.0, 4.0, 2.0, 8.5]
    pd.DataFrame({"x": cells, "other": other}).to_csv(tmp_path / "file.csv", index=False)
    in_file = read_table(tmp_path / "file.csv", least=1).X
    encoder = ColumnEncoder().fit(in_file)
    given = pd.DataFrame({"x": column, "other": other})
    np.testing.assert_array_equal(encoder.transform(given), encoder.transform(in_file))
    assert ColumnEncoder().fit(given).kinds_["x"].split()[0] == encoder.kinds_["x"].split()[0]


@pytest.mark.parametrize("far", ["9999-12-31", "0001-01-01"])
def test_dates_beyond_64_bits_are_gaps(far):
    days = pd.DataFrame({"until": ["2024-01-05", far, "2024-03-01", "2024-03-03"] * 9})
    described = describe_columns(days)
    assert (
        described["kind"][0] == "date %Y-%m-%d"
        and "9 cells that are not a date count as missing" in described["becomes"][0]
    )
    with pytest.warns(UserWarning, match=f"column 'until': '{far}'"):
        assert ColumnEncoder().fit(days).transform(days)[1, -1] == 1


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["01/02/2024", "03/04/2024", "25/02/2024"], "date %d/%m/%Y"),
        (["01/02/2024", "03/04/2024", "02/25/2024"], "date %m/%d/%Y"),
        (["1.2.24", "3.4.24", "25.2.24"], "date %d.%m.%y"),
        (["2024-01-01T07:00:00Z", "2024-01-01T08:00:00+02:00", "2024-01-02T08:00:00Z"], "date %Y-%m-%dT%H:%M:%S%z"),
        (["2024-01-01", "2024-01-01 07:00:00", "2024-01-02"], "date ISO8601"),
        (["07:30", "18:15", "23:59"], "date %H:%M"),
        (["2:30 PM", "11:15 AM", "1:00 AM"], "date %I:%M %p"),
        (["2024年1月31日", "2024年2月1日", "2024年3月1日"], "date %Y年%m月%d日"),
        (["31-Jan-2024", "01-Feb-2024", "02-Mar-2024"], "date %d-%b-%Y"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3"], "category"),
    ],
)
def test_any_cell_may_tell_how_dates_are_written(cells, kind):
    assert describe_columns(pd.DataFrame({"when": cells * 9}))["kind"][0] == kind


def test_an_ambiguous_order_of_day_and_month_is_said():
    described = describe_columns(pd.DataFrame({"when": ["01/02/2024", "03/04/2024", "05/06/2024"]}))
    assert described["kind"][0] == "date %d/%m/%Y" and "%m/%d/%Y reads equally many" in described["becomes"][0]


def test_names_that_are_numbers_or_come_twice_are_columns():
    X = np.random.default_rng(0).normal(size=(30, 3))
    expected = ColumnEncoder().fit_transform(pd.DataFrame(X, columns=["a", "b", "c"]))
    for names in ([0, 1, 2], ["a", "a", "b"]):
        frame = pd.DataFrame(X, columns=names)
        np.testing.assert_array_equal(ColumnEncoder().fit_transform(frame), expected)
    np.testing.assert_array_equal(ColumnEncoder().fit(X).transform(X[::-1]), expected[::-1])


def test_the_numbers_have_names_and_come_as_a_frame(frame):
    encoder = ColumnEncoder({"gappy": "number", "site": "category", "day": "date %d/%m/%Y"}).set_output(
        transform="pandas"
    )
    found = encoder.fit(frame).transform(frame)
    assert list(found) == [
        "gappy", "gappy is missing", "site = north", "site = south", "site = other",
        "day", "day, sine of weekday", "day, cosine of weekday",
    ] or list(found)[2:4] == ["site = south", "site = north"]  # fmt: skip
    np.testing.assert_array_equal(found, encoder.encode(frame)[0])


def test_a_text_that_only_some_rows_have_is_encoded():
    rows = pd.DataFrame({"t": np.arange(50.0) ** 2, "remark": [None] * 49 + ["loose screw"]})
    encoder = ColumnEncoder(kinds_of(describe_columns(rows))).fit(rows[:40])
    assert encoder.transform(rows).shape == (50, 2)


def test_a_duration_is_its_seconds_and_a_missing_column_is_named():
    table = pd.DataFrame({"a": pd.to_timedelta(np.arange(30), unit="min"), "b": np.arange(30.0)})
    encoder = ColumnEncoder({"a": "number", "b": "number"}).fit(table)
    seconds = pd.DataFrame({"a": 60.0 * np.arange(30), "b": np.arange(30.0)})
    np.testing.assert_array_equal(encoder.transform(table), encoder.transform(seconds))
    assert encoder.mismatches(table[["b"]]) == ["column 'a' is missing"]
