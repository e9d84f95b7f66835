import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.user_files import find, read_pictures, read_table

ROWS = [f"{i},{i * i % 7},{'b' if i % 3 else 'a'}" for i in range(40)]


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


def table(header="x,y,kind", rows=ROWS):
    return "\n".join([header, *rows]) + "\n"


def test_a_good_file_is_read_as_pandas_reads_it_with_the_rows_of_the_file(write):
    samples = read_table(write(table()))
    assert samples.X.shape == (40, 3) and samples.y is None and samples.notes == ()
    assert samples.X["x"].tolist() == list(range(40))
    assert samples.names.tolist() == list(range(2, 42))  # the header is row 1


def test_rows_are_counted_over_blank_lines(write):
    rows = [ROWS[0], "", *ROWS[1:]]
    assert read_table(write(table(rows=rows))).names[:2].tolist() == [2, 4]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_found(write, separator):
    samples = read_table(write(table().replace(",", separator)))
    assert list(samples.X) == ["x", "y", "kind"]


def test_a_decimal_comma_is_read_where_semicolons_separate(write):
    rows = [f"{i},5;{i}" for i in range(40)]
    assert read_table(write(table("x, mm;y", rows))).X.iloc[3].tolist() == [3.5, 3]


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
        (table("1,2,3"), "Add a header"),
        (table(rows=ROWS[:5]), "5 normal rows; at least 20"),
        (table(rows=['"open,1,2', *ROWS]), r"row \d+: \d+ cells|by the quotes"),
    ],
)
def test_a_file_that_cannot_be_mended_is_refused_with_the_place(write, text, message):
    with pytest.raises(DatasetError, match=message):
        read_table(write(text))


def test_another_encoding_is_named_as_the_remedy_and_then_read(write):
    path = write(table("größe,y,kind"), encoding="latin-1")
    with pytest.raises(DatasetError, match=r"not a text in utf-8 .* cp1252"):
        read_table(path)
    assert read_table(path, encoding="latin-1").X.columns[0] == "größe"
    with pytest.raises(DatasetError, match="Encodings are"):
        read_table(path, encoding="klingon")


def test_utf16_and_a_byte_order_mark_are_read(write):
    assert read_table(write(table(), encoding="utf-16"), encoding="utf-16").X.columns[0] == "x"
    assert read_table(write(table(), encoding="utf-8-sig")).X.columns[0] == "x"


def test_one_column_is_a_table(write):
    assert read_table(write(table("x", [str(i) for i in range(30)]))).X.shape == (30, 1)


def test_one_column_that_is_the_label_is_none(write):
    with pytest.raises(DatasetError, match="no column but the label"):
        read_table(write(table("x", ["0", "1"] * 30)), label="x")


def test_columns_that_share_a_name_or_have_none_get_names_of_their_own_and_it_is_said(write):
    samples = read_table(write(table("x,x,")))
    assert list(samples.X) == ["x", "x (2)", "column 3"]
    assert "'x' like another" in samples.notes[0] and "no name" in samples.notes[1]


def test_of_two_labels_the_rarer_is_the_anomaly_and_it_is_said(write):
    samples = read_table(write(table()), label="kind")
    assert samples.y.sum() == sum(row.endswith("a") for row in ROWS)
    assert "'a' (14 rows) is the anomaly" in samples.notes[0] and "kind" not in samples.X
    assert samples.rate == pytest.approx(14 / 40)


def test_of_labels_0_and_1_the_anomaly_is_1_even_if_it_is_frequent(write):
    rows = [f"{i},{int(i % 3 > 0)}" for i in range(90)]
    assert read_table(write(table("x,label", rows)), label="label").y.mean() == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b", "c"], r"3 different labels: 'a' \(10\)"),
        (["a"], "1 different labels"),
        (["a", "b"], "equally frequent"),
        (["a", "b", ""], "row 4: no label"),
    ],
)
def test_labels_that_are_not_two_kinds_are_refused(write, labels, message):
    rows = [f"{i},{labels[i % len(labels)]}" for i in range(30)]
    with pytest.raises(DatasetError, match=message):
        read_table(write(table("x,label", rows)), label="label")


def test_a_wrong_label_gets_the_nearest_name(write):
    with pytest.raises(DatasetError, match="did you mean 'kind'"):
        read_table(write(table()), label="knid")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DatasetError, match="Give its whole path"):
        find("nowhere.csv")
    with pytest.raises(DatasetError, match="is a folder"):
        read_table(tmp_path)


def test_markup_in_a_header_stays_text(write):
    assert read_table(write(table("<script>alert(1)</script>,y,z"))).X.columns[0] == "<script>alert(1)</script>"


@pytest.fixture
def pictures(tmp_path):
    def pictures(folder, count, size=(16, 16)):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", size, (i, 0, 0)).save(tmp_path / folder / f"{size[0]}_{i}.png")
        return tmp_path

    return pictures


def test_a_flat_folder_of_mixed_sizes_is_read_and_said(pictures):
    pictures(".", 15)
    samples = read_pictures(pictures(".", 10, (20, 12)))
    assert len(samples.X) == 25 and samples.y is None and samples.modality == "image"
    assert any("2 sizes" in note for note in samples.notes)


def test_folders_label_their_pictures_and_masks_are_passed_by(pictures):
    for folder, count in (("train/good", 20), ("test/good", 2), ("test/crack", 3), ("ground_truth/crack", 3)):
        root = pictures(folder, count)
    samples = read_pictures(root)
    assert samples.y.sum() == 3 and len(samples.y) == 25
    assert all("crack" in name for name in samples.names[samples.y == 1])


def test_a_folder_without_pictures_a_damaged_one_and_too_few_are_refused(pictures, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match="no picture among 1 files"):
        read_pictures(tmp_path)
    pictures(".", 3)
    with pytest.raises(DatasetError, match="3 normal pictures; at least 20"):
        read_pictures(tmp_path)
    assert len(read_pictures(tmp_path, least=1).X) == 3
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"bad\.png: not a readable image"):
        read_pictures(tmp_path)


def test_what_pandas_calls_missing_and_a_question_mark_are_gaps(write):
    rows = ["?,1,a", "NA,2,a", ",3,a", *ROWS]
    samples = read_table(write(table(rows=rows)))
    assert samples.X["x"].isna().sum() == 3 and pd.api.types.is_numeric_dtype(samples.X["x"])
    assert np.isfinite(samples.X["x"].dropna()).all()
