import gzip
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import table_cases as cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmad_utils.datasets import samples, table_files, table_rows
from mmad_utils.datasets.date_format import parse_dates
from mmad_utils.datasets.folders import user_path
from mmad_utils.datasets.number_format import NumberFormat, detect_format, parse_numbers
from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.samples import find
from mmad_utils.datasets.table_files import distinct_names, iter_table, read_table
from mmad_utils.encoders.columns import ColumnEncoder, describe_columns

ROWS = [f"{i},{i * i % 7},{'b' if i % 3 else 'a'}" for i in range(40)]


@pytest.fixture
def write(tmp_path):
    def write(content, name="mine.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, label="", **options):
    return read_table(path, label, **{"least": 1} | options)


def values(column):
    return [None if pd.isna(cell) else cell for cell in column]


@pytest.mark.parametrize(
    ("content", "options", "expected"), [case[1:] for case in cases.RIGHT], ids=[case[0] for case in cases.RIGHT]
)
def test_a_file_is_read_rightly(write, content, options, expected):
    X = read(write(content), **options).X
    assert {name: values(X[name]) for name in expected} == expected


@pytest.mark.parametrize(
    ("content", "options", "message"), [case[1:] for case in cases.REFUSED], ids=[case[0] for case in cases.REFUSED]
)
def test_a_file_is_refused_with_the_cause(write, content, options, message):
    with pytest.raises(DatasetError, match=message):
        read(write(content), **options)


@pytest.mark.parametrize(("words", "expected"), cases.LABELS, ids=["/".join(case[0]) for case in cases.LABELS])
def test_words_decide_on_labels_before_the_majority_does(write, words, expected):
    path = write("x,y\n" + f"5,{words[0]}\n" + f"6,{words[1]}\n" * 3)
    if expected not in words:
        with pytest.raises(DatasetError, match=expected):
            read(path, "y")
    else:
        samples = read(path, "y")
        assert samples.y.tolist() == [0, 1, 1, 1] and "is normal" in samples.notes[0]


def test_labels_are_meant_by_the_user(write):
    path = write("x,y\n5,red\n6,blue\n7,green\n")
    assert read(path, "y", normal_label="blue").y.tolist() == [1, 0, 1]
    message = (
        r"mine\.csv, column 'y': no label is 'pink', given as normal_label; there are 'red' \(1\), 'blue' \(1\), "
    )
    with pytest.raises(DatasetError, match=message):
        read(path, "y", normal_label="pink")


def counted(**counts):
    return "x,y\n" + "".join(f"5,{word}\n" * count for word, count in counts.items())


def test_the_note_on_labels_has_the_values_and_their_rows(write):
    words = dict(zip("abcdef", range(9, 3, -1))) | {"good": 3, "ok": 1}
    samples = read(write(counted(**words)), "y")
    named = "'a', 'b', 'c', 'd', 'e', 'f'"
    assert samples.notes == (f"Label: {named} (39 rows) is the anomaly, 'good', 'ok' (4 rows) is normal.",)
    assert samples.y.dtype == np.int64
    assert f"Label: {named}, ... (41 rows) is" in read(write(counted(**words, g=2)), "y").notes[0]


def test_labels_of_unknown_meaning_are_listed_with_what_was_expected(write):
    shown = "'a' (9), 'b' (8), 'c' (7), 'd' (6), 'e' (5), 'f' (4)"
    expected = "expected 0 and 1, normal and anomaly, or synonyms of these. Give normal_label=."
    for n, more in ((6, ""), (7, ", ...")):
        with pytest.raises(DatasetError) as caught:
            read(write(counted(**dict(zip("abcdefg", range(9, 9 - n, -1))))), "y")
        message = f"{n} different labels: {shown}{more}. Which of them are normal is not known: {expected}"
        assert str(caught.value).endswith(message)


def test_words_of_a_label_may_have_capitals_spaces_and_marks(write):
    assert read(write("x,y\n1,crack\n2,No defect!\n3, dent.\n"), "y").y.tolist() == [1, 0, 1]


def test_one_word_for_an_anomaly_does_not_make_two_other_values_normal(write):
    with pytest.raises(DatasetError, match="Which of them are normal is not known"):
        read(write(counted(a=3, b=2, fault=1)), "y")


@pytest.mark.parametrize("name", ["is_ok", "Valid", "success?"])
def test_true_means_normal_in_a_column_called_ok(write, name):
    assert read(write(f"x,{name}\n5,True\n6,False\n"), name).y.tolist() == [0, 1]


def test_a_cell_that_is_no_number_is_a_gap_and_is_named(write):
    rows = [f"{50 + i / 10:.1f};1".replace(".", ",") for i in range(40)]
    rows[7] = "k.A.;1"
    samples = read(write("t;u\n" + "\n".join(rows)))
    assert describe_columns(samples.X)["kind"][0] == "number"
    assert any("1 of 40 cells are not numbers and count as missing (row 9: 'k.A.')" in note for note in samples.notes)
    encoded = ColumnEncoder({"t": "number"}).fit(samples.X).encode(samples.X)[0]
    assert encoded[7].tolist() == [0, 1]  # the middle, and the mark of a gap


def test_a_format_is_reported_with_an_example(write):
    notes = read(write("n;t\n1.034,50 €;1\n950,25 €;2\n")).notes
    assert notes == ("Column 'n': decimal comma, in '€'; '1.034,50 €' is 1034.5.",)


def test_no_header_is_said_with_the_first_row(write):
    note = read(write("".join(f"{i},tcp,{7 * i % 5}\n" for i in range(6)))).notes[0]
    assert note.startswith("Row 1 (0, tcp, 0) is data") and "header=True" in note


def test_a_gzip_file_is_read_and_half_a_one_is_refused(write):
    packed = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919) for i in range(2000)))
    assert read(write(packed, "mine.csv.gz")).X.shape == (2000, 2)
    with pytest.raises(DatasetError, match="not a complete gzip file"):
        read(write(packed[: len(packed) // 2], "mine.csv.gz"))


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "count": [1, 2, 30],
            "size": [1.5, np.nan, -2.25],
            "code": ["007", "012", "A12"],
            "when": pd.to_datetime(["2024-01-31 07:00", "2024-02-01 00:00", "2024-03-01 12:30"]),
        }
    )


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_excel_and_parquet_give_what_the_csv_file_gives(frame, suffix, tmp_path):
    frame.to_csv(tmp_path / "a.csv", index=False)
    if suffix == ".xlsx":
        frame.to_excel(tmp_path / "a.xlsx", index=False)
    else:
        frame.to_parquet(tmp_path / "a.parquet")
    expected, found = read(tmp_path / "a.csv").X, read(tmp_path / f"a{suffix}").X
    assert list(found) == list(expected)
    kinds = {"count": "number", "size": "number", "code": "category", "when": "date ISO8601"}
    encoder = ColumnEncoder(kinds).fit(expected)
    np.testing.assert_allclose(encoder.transform(found), encoder.transform(expected))


@pytest.mark.parametrize(("suffix", "kind"), [(".xlsx", "Excel"), (".parquet", "Parquet")])
def test_a_damaged_excel_or_parquet_file_is_refused(write, suffix, kind):
    with pytest.raises(DatasetError, match=f"not a readable {kind} file"):
        read(write(b"no such thing", f"mine{suffix}"))


def test_a_parquet_file_keeps_its_named_index_and_has_single_values(frame, tmp_path):
    path = tmp_path / "a.parquet"
    frame.set_index("code").to_parquet(path)
    samples = read(path)
    assert list(samples.X) == ["code", "count", "size", "when"] and samples.names.tolist() == [1, 2, 3]
    assert samples.X.index.tolist() == [0, 1, 2]
    frame.set_index(["code", "size"]).rename_axis(["code", None]).to_parquet(path)
    assert list(read(path).X) == ["code", "count", "when"]
    pd.DataFrame({"a": [True, None], "b": [1, 2]}).to_parquet(path)
    assert values(read(path).X["a"]) == [1, None]
    for cell in ([1, 2], {"a": 1}):
        pd.DataFrame({"a": [1, 2], "b": [None, cell]}).to_parquet(path)
        with pytest.raises(DatasetError, match=r"column 'b': contains lists, not single values\. Write each value"):
            read(path)
    frame[:0].to_parquet(path)
    with pytest.raises(DatasetError, match=r"a\.parquet: no row\.$"):
        read(path)


def test_columns_kept_as_text_are_stored_with_the_table(write):
    assert read(write("n,m\n12,1\n13,2\n"), text=["n"]).X.attrs["text"] == ["n"]


def test_five_columns_of_a_format_are_named_and_no_more_are_counted(write):
    notes = read(write("a;b;c;d;e\n" + "1,5;1,5;1,5;1,5;1,5\n" * 2)).notes
    assert notes == ("Columns 'a', 'b', 'c', 'd', 'e': decimal comma; '1,5' is 1.5.",)


def test_a_column_of_durations_stays_one(tmp_path):
    pd.DataFrame({"a": pd.to_timedelta([1, 2], unit="s")}).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet").X["a"].dtype.kind == "m"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["5", "", "NA"], False),  # a number above gaps
        (["NA", "x", "y"], False),  # a gap in the first row
        (["word", "", "NA"], True),
        (["5 kg,7", "6,8", "7,9"], False),
        (["5.5 kg,7", "6,8", "7,9"], False),
        (["5 x 7,7", "6,8", "7,9"], True),
        (["b", "a", "b"], False),
        (["b", "a", "c"], True),
        (["word,7", "1,8", "2,9", "3,9", "4,9", "x,9"], False),  # no more than 80% are numbers
        (["w,v,7,8", "A,B,9,9", "A,B,9,9"], False),  # as many words as numbers
        (["p,q,r,s", "p,q,A,B", "p,q,A,B"], False),  # as many words come again as do not
        (["p,w,v", "p,A,C", "p,B,D"], False),  # words that never come again show nothing
        (["2019,a", "5,b", "6,b", "7,c"], False),  # a single year is no sequence of years
    ],
)
def test_the_first_row_has_names_where_they_differ_in_kind_from_what_is_below(rows, expected):
    names, *body = (row.split(",") for row in rows)
    assert table_files._is_header(names, body) is expected


def test_a_number_with_thousands_or_a_decimal_comma_is_no_column_name():
    assert not table_files._is_header(["1,024", "7"], [["6", "8"], ["7", "9"]])


def test_the_columns_of_a_parquet_file_get_names_of_their_own(tmp_path):
    pd.DataFrame({"a": [1, 2], " a ": [3, 4]}).to_parquet(tmp_path / "a.parquet")
    found = read(tmp_path / "a.parquet")
    assert list(found.X) == ["a", "a (2)"]
    assert found.notes[0] == "Column 2 is called 'a' like another; here it is 'a (2)'."


def test_a_column_of_plain_numbers_with_a_word_has_one_note(write):
    found = read(write("value\n" + "\n".join(["5", "6", "k.A.", *map(str, range(50))]) + "\n"))
    assert found.notes == ("Column 'value': 1 of 53 cells are not numbers and count as missing (row 4: 'k.A.').",)


def test_numbers_are_words_where_training_had_a_column_of_words(tmp_path):
    learned = ColumnEncoder({"code": "category"}).fit(pd.DataFrame({"code": ["7", "12", "7"]}))
    pd.DataFrame({"code": [7, 12]}).to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", like=learned).X["code"].tolist() == ["7", "12"]


def encoder(formats=(), **kinds):
    return SimpleNamespace(kinds_=kinds, formats_=dict(formats))


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_the_rows_of_a_text_file_come_in_chunks_with_their_numbers(write, monkeypatch, suffix):
    monkeypatch.setattr("mmad_utils.datasets.table_files.CHUNK", 3)
    rows = [f'{i},"{i},5",{i}1,9' for i in range(5)]
    text = "\n".join(["a,t,k,z", *rows, "", 'NA,"5,5",51,9', "x,?,61,9", ""])
    path = write(gzip.compress(text.encode()) if suffix == ".csv.gz" else text, f"mine{suffix}")
    chunks = list(iter_table(path, encoder({"t": (",", "")}, k="category", t="number", a="number")))
    assert [list(chunk) for chunk, _ in chunks] == [["k", "t", "a"]] * 3
    assert [chunk.index.tolist() for chunk, _ in chunks] == [[2, 3, 4], [5, 6, 8], [9]]
    assert [share for _, share in chunks] == [4 / 9, 8 / 9, 1.0]
    assert [values(chunk["a"]) for chunk, _ in chunks] == [[0, 1, 2], [3, 4, None], ["x"]]
    assert chunks[0][0]["t"].dtype == pd.array([""], dtype="str").dtype
    assert chunks[0][0]["t"].tolist() == ["0,5", "1,5", "2,5"] and chunks[1][0]["k"].tolist() == ["31", "41", "51"]


def test_the_rows_of_a_sheet_come_in_chunks(tmp_path):
    pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}).to_excel(tmp_path / "a.xlsx", index=False)
    ((chunk, share),) = iter_table(tmp_path / "a.xlsx", encoder(b="category", a="number"))
    assert share == 1.0 and chunk.index.tolist() == [2, 3] and chunk["a"].tolist() == [1, 2]


def test_the_rows_of_a_parquet_file_come_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("mmad_utils.datasets.table_files.CHUNK", 3)
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"a": range(10), "b": 0, "c": range(10, 20)})
    frame.to_parquet(path, row_group_size=5)
    chunks = list(iter_table(path, encoder(c="number", a="number")))
    assert [list(chunk) for chunk, _ in chunks] == [["c", "a"]] * 4
    assert [chunk.index.tolist() for chunk, _ in chunks] == [[1, 2, 3], [4, 5], [6, 7, 8], [9, 10]]
    assert [share for _, share in chunks] == [0.3, 0.5, 0.8, 1.0]
    assert pd.concat([chunk["c"] for chunk, _ in chunks]).tolist() == list(range(10, 20))
    frame.set_index("b").to_parquet(path)
    assert list(next(iter_table(path, encoder(b="number", a="number")))[0]) == ["b", "a"]
    frame[:0].to_parquet(path)
    with pytest.raises(DatasetError, match=r"a\.parquet: no row\.$"):
        list(iter_table(path, encoder(a="number")))
    path.write_bytes(b"no such thing")
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        list(iter_table(path, encoder(a="number")))


def test_a_file_to_score_may_begin_with_its_separator_and_end_without_a_line_feed(write):
    path = write("sep=;\na;b,c\n1;2\n3;4")
    ((chunk, share),) = iter_table(path, encoder({"b,c": (".", "")}, **{"b,c": "number"}))
    assert chunk["b,c"].tolist() == ["2", "4"] and chunk.index.tolist() == [3, 4] and share == 1.0
    path = write("a;b,c\n1;2,3\n4;5,6\n")
    ((chunk, _),) = iter_table(path, encoder(**{"a;b": "category", "c": "number"}), separator=",")
    assert chunk["a;b"].tolist() == ["1;2", "4;5"] and chunk["c"].tolist() == [3, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"mine\.csv: empty\. Expected a header"),
        ("a,b\n1,2\n3\n", r"mine\.csv, row 3: 1 cells below 2 column names \(separator ','\)"),
    ],
)
def test_a_damaged_file_to_score_is_named_with_its_row(write, content, message):
    with pytest.raises(DatasetError, match=message):
        list(iter_table(write(content), encoder(a="number")))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_all_columns_that_a_file_to_score_lacks_are_named(tmp_path, suffix):
    frame, path = pd.DataFrame({"kind": [1, 2], "size": 3}), tmp_path / f"a{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    message = r"no column 'kinds' \(did you mean 'kind'\?\), 'sizes', with which the detector was fitted\.$"
    with pytest.raises(DatasetError, match=rf"a\{suffix}: {message}"):
        list(iter_table(path, encoder(size="number", kinds="number", sizes="number")))


def test_columns_get_names_of_their_own():
    names, notes = distinct_names(["x", "x", "", " y ", None, "x (2)"])
    assert names == ["x", "x (2) (2)", "column 3", "y", "column 5", "x (2)"]
    assert notes == [
        "Column 2 is called 'x' like another; here it is 'x (2) (2)'.",
        "Column 3 has no name; here it is 'column 3'.",
        "Column 5 has no name; here it is 'column 5'.",
    ]
    assert distinct_names(["", "column 1"])[0] == ["column 1 (1)", "column 1"]
    assert len(distinct_names([""] * 5)[1]) == 5
    notes = distinct_names([""] * 7)[1]
    assert len(notes) == 6 and notes[-1] == "2 further columns without a unique name were renamed."


@pytest.mark.parametrize(
    ("content", "options", "notes"),
    [
        (
            "# a\n#x,y\n1,2\n3,4\n5,6\n",
            {},
            (
                "Lines that begin with # are comments and are omitted.",
                "The comment above the first row names the columns: x, y.",
            ),
        ),
        ("1,2\n3,4\n", {"header": False}, ("No header: the columns are numbered.",)),
        (
            "1,2\n3,4\n5,7\n",
            {},
            (
                "Row 1 (1, 2) is data like the rows below: there is no header, the columns are numbered. Give "
                "header=True if row 1 is a header.",
            ),
        ),
        (
            "site,2019,2020\nBonn,5,6\nKiel,7,9\n",
            {},
            ("2 column names in row 1 are numbers. Give header=False if row 1 is data.",),
        ),
        ("1,2\n3,4\n", {"header": True}, ()),
        (
            "x y\nr1 1 2\nr2 3 4\n",
            {},
            ("The rows have one cell more than the header has names: the first is 'column 1'.",),
        ),
        (
            "x x\nr1 1 2\nr2 3 4\n",
            {},
            (
                "The rows have one cell more than the header has names: the first is 'column 1'.",
                "Column 3 is called 'x' like another; here it is 'x (3)'.",
            ),
        ),
        ("a;b\n5 kg;1\n6 kg;2\n", {}, ("Column 'a': decimal point, in 'kg'; '5 kg' is 5.",)),
        (
            "a;b;c;d;e;f;g\n" + ";".join(["1,5"] * 7) + "\n" + ";".join(["2,5"] * 7) + "\n",
            {},
            ("Columns 'a', 'b', 'c', 'd', 'e' and 2 more: decimal comma; '1,5' is 1.5.",),
        ),
        ("sep=;\na;b\n1;2\n", {}, ("Row 1 names the separator ';'.",)),
        (
            "n,t\n007,1\n012,2\n",
            {},
            ("Column 'n' has leading zeros or more than 15 digits: it is kept as text.",),
        ),
        (
            "a;b;c\n1,5;2,5 kg;1.500,5\n2,5;3,25 kg;2,5\n",
            {},
            (
                "Columns 'a', 'c': decimal comma; '1,5' is 1.5.",
                "Column 'b': decimal comma, in 'kg'; '3,25 kg' is 3.25.",
            ),
        ),
    ],
)
def test_what_was_decided_is_in_the_notes(write, content, options, notes):
    assert read(write(content), **options).notes == notes


def test_other_formats_are_refused_with_a_remedy(write):
    with pytest.raises(DatasetError, match="Save it as CSV"):
        read(write("{}", "mine.json"))


def test_twelve_thousand_columns_are_read(write):
    names = ",".join(f"c{i}" for i in range(12_000))
    X = read(write(names + "\n" + ",".join(["1"] * 12_000) + "\n" + ",".join(["2"] * 12_000))).X
    assert X.shape == (2, 12_000) and (X.to_numpy() == [[1], [2]]).all()


def test_a_file_larger_than_a_chunk_is_read_as_a_whole(write, monkeypatch):
    monkeypatch.setattr("mmad_utils.datasets.table_files.CHUNK", 7)
    rows = [f"{i},{i if i < 30 else 'x'},{i}" for i in range(40)]
    samples = read(write("a,b,c\n" + "\n".join(rows)))
    assert samples.X["a"].tolist() == list(range(40)) and samples.names.tolist() == list(range(2, 42))
    assert samples.X["b"].tolist()[28:31] == ["28.0", "29.0", "x"] and samples.X["c"].dtype.kind == "i"


def test_a_column_of_words_keeps_the_numbers_among_them_as_they_were_written(write, monkeypatch):
    monkeypatch.setattr("mmad_utils.datasets.table_files.CHUNK", 3)
    grades = ["1.50", "2.50", "3.50", "good", "fair", "good", "fair"]
    samples = read(write("a,grade\n" + "".join(f"{i},{grade}\n" for i, grade in enumerate(grades))))
    assert samples.X["grade"].tolist() == grades


@pytest.mark.parametrize("text", ["a,b,\n1,2\n3,4\n", "a;b;\n1,0;2\n3,0;4\n", "a\tb\t\n1\t2\n3\t4\n"])
def test_a_separator_at_the_end_of_the_header_alone_is_no_column(text, write):
    pd.testing.assert_frame_equal(read(write(text)).X, pd.DataFrame({"a": [1, 3], "b": [2, 4]}), check_dtype=False)


def test_rows_that_are_shorter_than_the_header_are_refused(write):
    with pytest.raises(DatasetError, match=r"row 2: 2 cells below 3 column names"):
        read(write("a,b,c\n1,2\n3,4\n"), separator=",")


UNREADABLE = (
    r"mine\.csv, column 't': 2 of 2 cells are not numbers in '°C' \(row 2: '95 F', row 3: '96 F'\)\. It was a column "
    r"of numbers in training\.$"
)


def test_a_file_to_score_is_read_as_the_training_file_was(write):
    train = read(write("code;t\n" + "".join(f"{i % 5 + 1}.{i % 3}0;{i},5 °C\n" for i in range(60))), text=["code"])
    encoder = ColumnEncoder({"code": "category", "t": "number"}).fit(train.X)
    assert encoder.formats_ == {"t": (",", "°C")}
    new = read(write("code;t\n1.10;1.024 °C\n2.00;2.048 °C\n"), like=encoder).X
    assert new["code"].tolist() == ["1.10", "2.00"] and new["t"].tolist() == [1024, 2048]
    some = read(write("code;t\n1.10;1,0 °C\n2.00;2,0 °C\n1.10;95 F\n"), like=encoder)
    assert some.X["t"].tolist() == ["1.0", "2.0", "95 F"], "the encoder decides on a few cells that are no numbers"
    with pytest.raises(DatasetError, match=UNREADABLE):
        read(write("code;t\n1.10;95 F\n2.00;96 F\n"), like=encoder)
    with pytest.raises(DatasetError, match=r"no column 't', which the detector names; there are 'code', 'u'\.$"):
        read(write("code;u\n1.10;95\n2.00;96\n"), like=encoder)


NUMBERS = st.lists(st.integers(-(10**9), 10**9).map(lambda i: i / 100), min_size=3, max_size=8)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(NUMBERS, st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'")]), st.sampled_from(["", " kg", "%"]))
def test_numbers_come_back_from_any_format(numbers, marks, unit):
    decimal, thousands = marks
    table = str.maketrans({".": decimal, ",": thousands})
    cells = pd.Series([f"{number:,.2f}".translate(table) + unit for number in numbers])
    found = detect_format(cells, "column")
    assert found == NumberFormat(decimal, unit.strip())
    np.testing.assert_array_equal(parse_numbers(cells, found), numbers)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_frame_comes_back_from_a_csv_file(data, tmp_path_factory):
    separator = data.draw(st.sampled_from([",", ";", "\t", "|"]))
    word = st.text(st.characters(codec="utf-8", categories=("Ll", "Lu")), min_size=1, max_size=6).map(
        lambda w: f"{w}_"
    )
    n = data.draw(st.integers(2, 6))
    frame = pd.DataFrame(
        {
            "x": data.draw(
                st.lists(st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda v: v + 0.5), min_size=n, max_size=n)
            ),
            "i": data.draw(st.lists(st.integers(-1000, 1000), min_size=n, max_size=n)),
            "w": data.draw(st.lists(word, min_size=n, max_size=n)),
        }
    )
    path = tmp_path_factory.mktemp("round") / "trip.csv"
    frame.to_csv(path, index=False, sep=separator)
    X = read(path).X
    np.testing.assert_array_equal(X["x"], frame["x"])
    assert X["i"].tolist() == frame["i"].tolist() and X["w"].tolist() == frame["w"].tolist()


def table(header="x,y,kind", rows=ROWS):
    return "\n".join([header, *rows]) + "\n"


def test_a_good_file_is_read_as_pandas_reads_it_with_the_rows_of_the_file(write):
    samples = read_table(write(table()))
    assert samples.modality == "tabular" and samples.X.shape == (40, 3) and samples.y is None and samples.notes == ()
    assert samples.X["x"].tolist() == list(range(40))
    assert samples.names.tolist() == list(range(2, 42))  # the header is row 1


def test_rows_are_counted_over_blank_lines(write):
    rows = [ROWS[0], "", *ROWS[1:]]
    assert read_table(write(table(rows=rows))).names[:2].tolist() == [2, 4]


def test_quotes_hide_separators_and_line_breaks(write):
    rows = ['1,2,"a, b\nc"', *ROWS]
    samples = read_table(write(table(rows=rows)))
    assert samples.X["kind"].iloc[0] == "a, b\nc" and samples.names[1] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("x,y\n", "no row below"),
        (table(rows=[*ROWS, "1,2"]), r"row 42: 2 cells below 3"),
        (table(rows=["1,2,3,4", *ROWS]), r"row 2: 4 cells below 3"),
        (table(rows=ROWS[:5]), r"mine\.csv: 5 normal rows; at least 20"),
        (table(rows=['"open,1,2', *ROWS]), r"after row 1: .*quote"),
    ],
)
def test_a_file_that_cannot_be_mended_is_refused_with_the_place(write, text, message):
    with pytest.raises(DatasetError, match=message):
        read_table(write(text))


def test_one_column_is_a_table(write):
    assert read_table(write(table("x", [str(i) for i in range(30)]))).X.shape == (30, 1)


def test_one_column_that_is_the_label_is_none(write):
    with pytest.raises(DatasetError, match=r"mine\.csv: no column but the label; a detector needs at least one\.$"):
        read_table(write(table("x", ["0", "1"] * 30)), label="x")


def test_of_labels_0_and_1_the_anomaly_is_1_even_if_it_is_frequent(write):
    rows = [f"{i},{int(i % 3 > 0)}" for i in range(90)]
    assert read_table(write(table("x,label", rows)), label="label").y.mean() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b", "c"], r"3 different labels: 'a' \(10\)"),
        (["a"], "1 different labels"),
        (["a", "b"], "Which of them are normal is not known"),
        (["a", "b", ""], "row 4: no label"),
    ],
)
def test_labels_that_are_not_two_kinds_are_refused(write, labels, message):
    rows = [f"{i},{labels[i % len(labels)]}" for i in range(30)]
    with pytest.raises(DatasetError, match=message):
        read_table(write(table("x,label", rows)), label="label")


def test_a_wrong_label_gets_the_nearest_name(write):
    many = write(",".join(f"v{i}" for i in range(30)) + "\n" + ",".join("1" * 30) + "\n", "many.csv")
    with pytest.raises(DatasetError, match=r"no column '_', which label names; there are 'v0', .*'v19'\.$"):
        read(many, "_")
    with pytest.raises(DatasetError, match=r"no column 'knid', which label names; did you mean 'kind'\?$"):
        read_table(write(table()), label="knid")


def test_a_missing_file_and_a_folder_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MMAD_CURRENT_FOLDER", "/a")
    monkeypatch.setenv("MMAD_DATA_HOME", "/b")
    monkeypatch.setattr(samples, "CHECKOUT", None)
    with pytest.raises(DatasetError, match=r"^x\.csv: no such file or folder in /a, /b\. Give its full path\.$"):
        find("x.csv")
    with pytest.raises(DatasetError, match=r"^a{200}: cannot be read \(.+\)\.$"):
        find("a" * 5000)
    with pytest.raises(DatasetError, match=r" is a folder, not a table; use read_pictures for images\.$"):
        read_table(tmp_path)


def test_too_few_normal_samples_are_refused_with_the_number_that_is_needed():
    samples.check_enough(20, 20, Path("x"), "rows")
    with pytest.raises(DatasetError) as caught:
        samples.check_enough(19, 20, Path("x"), "rows")
    needed = "at least 20 are needed, half to fit a detector and half to set the threshold."
    assert str(caught.value) == f"x: 19 normal rows; {needed}"


def test_a_path_of_the_user_starts_from_the_folder_in_which_the_command_was_typed(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text("a\n1\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_path("results") == Path.cwd() / "results"
    monkeypatch.setenv("MMAD_CURRENT_FOLDER", str(tmp_path))
    assert user_path("results") == tmp_path / "results" and find("mine.csv") == tmp_path / "mine.csv"
    assert user_path("~/results") == tmp_path / "home" / "results"
    assert user_path(tmp_path.parent) == tmp_path.parent


def test_markup_in_a_header_stays_text(write):
    assert read_table(write(table("<script>alert(1)</script>,y,z"))).X.columns[0] == "<script>alert(1)</script>"


def test_an_empty_column_is_no_column_of_codes(write):
    samples = read(write("a;b\n1,5;\n2,5;\n"), decimal=",")
    assert samples.X["b"].isna().all() and not any("'b'" in note for note in samples.notes)


def test_what_pandas_calls_missing_and_a_question_mark_are_gaps(write):
    rows = ["?,1,a", "NA,2,a", ",3,a", *ROWS]
    samples = read_table(write(table(rows=rows)))
    assert samples.X["x"].isna().sum() == 3 and pd.api.types.is_numeric_dtype(samples.X["x"])
    assert np.isfinite(samples.X["x"].dropna()).all()


def test_times_of_day_with_and_without_seconds_are_one_column(write):
    cells = [f"{h:02d}:{m:02d}" + (":15" if m else "") for h in range(10) for m in (0, 30)] + ["7:05", "10:00:59.5"]
    table = read(write("t\n" + "\n".join(cells) + "\n")).X
    encoder = ColumnEncoder().fit(table)
    assert encoder.kinds_ == {"t": "date %H:%M[:%S]"}
    new = pd.DataFrame({"t": ["07:30", "07:30:15", "07:30:15.5", "7.30", "noon", "24:00"]})
    with pytest.warns(UserWarning, match="3 cells cannot be read"):
        _, is_new = encoder.encode(new)
    assert is_new.ravel().tolist() == [False, False, False, True, True, True]
    seconds = parse_dates(new["t"], "%H:%M[:%S]") % 86_400
    assert seconds[:3].tolist() == [27_000, 27_015, 27_015.5] and np.isnan(seconds[3:]).all()


def test_a_parquet_file_that_is_damaged_or_empty_is_refused_when_it_is_scored(tmp_path):
    frame = pd.DataFrame({"a": np.arange(5000.0), "b": np.arange(5000.0)})
    frame.to_parquet(tmp_path / "damaged.parquet")
    content = bytearray((tmp_path / "damaged.parquet").read_bytes())
    content[4:2000] = bytes(1996)
    (tmp_path / "damaged.parquet").write_bytes(content)
    frame[:0].to_parquet(tmp_path / "empty.parquet")
    for name, message in (("damaged", "not a readable Parquet file"), ("empty", "no row")):
        with pytest.raises(DatasetError, match=message):
            list(table_files._parquet_chunks(tmp_path / f"{name}.parquet", ["a", "b"]))
        with pytest.raises(DatasetError, match=message):
            read(tmp_path / f"{name}.parquet")


def test_a_column_of_lists_is_refused_by_name(tmp_path):
    pd.DataFrame({"a": [1, 2], "b": [[1], [2, 3]]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="column 'b': contains lists"):
        read(tmp_path / "a.parquet")


def test_the_first_of_several_sheets_is_read_and_the_others_are_counted(tmp_path):
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame({"code": [7.0, None, 2.5], "size": [1.0, 2.0, 3.0]}).to_excel(
            book, sheet_name="one", index=False
        )
        pd.DataFrame({"x": [1]}).to_excel(book, sheet_name="two", index=False)
    samples = read(tmp_path / "a.xlsx")
    assert "Sheet 'one' is read, the other 1 are not." in samples.notes
    assert list(samples.X) == ["code", "size"]
    np.testing.assert_array_equal(samples.X["code"].astype(float), [7, np.nan, 2.5])


def test_many_columns_without_a_name_are_counted():
    names, notes = table_files.distinct_names([""] * 40)
    assert len(set(names)) == 40
    assert notes[-1] == f"{40 - table_files.SHOWN} further columns without a unique name were renamed."
    assert len(notes) == table_files.SHOWN + 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<v>1.5</v>", b"<v>1e999</v>"),
        (b"<v>1.5</v>", b"<v>many</v>"),
        (b"</sheetData>", b""),
        (b"<worksheet", b"<!-- " + b" " * 60_000_000 + b" --><worksheet"),
    ],
    ids=["infinite", "no number", "no XML", "large"],
)
def test_an_excel_file_with_a_damaged_sheet_is_refused(tmp_path, old, new):
    pd.DataFrame({"a": [1.5] * 30}).to_excel(tmp_path / "a.xlsx", index=False)
    with zipfile.ZipFile(tmp_path / "a.xlsx") as book, zipfile.ZipFile(tmp_path / "b.xlsx", "w", 8) as damaged:
        for name in book.namelist():
            damaged.writestr(name, book.read(name).replace(old, new, 1) if "sheet1" in name else book.read(name))
    with pytest.raises(DatasetError, match="not a readable Excel file"):
        read(tmp_path / "b.xlsx")


def test_a_parquet_file_with_more_numbers_than_the_limit_is_refused(tmp_path, monkeypatch):
    pd.DataFrame({"a": np.zeros(1000), "b": np.zeros(1000)}).to_parquet(tmp_path / "a.parquet")
    monkeypatch.setenv("MMAD_MAX_NUMBERS", "1999")
    with pytest.raises(DatasetError, match=r"a\.parquet: 2,000 numbers; at most 1,999 are read"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("head", ["", "a,b\n" + "1,2\n" * 1200], ids=["in the sample", "later"])
def test_a_line_without_an_end_is_refused_before_all_of_it_is_read(write, monkeypatch, head):
    monkeypatch.setattr(table_rows, "LONGEST_LINE", 50_000)
    path = write(gzip.compress((head + "7" * 500_000).encode()), "long.csv.gz")
    with pytest.raises(DatasetError, match=r"long\.csv\.gz, after row .*\(a line of 50,000 characters or more"):
        read(path)
