"""The rows of a file as texts: separator, comments, encoding, sheets, and what is refused."""

import gzip
from datetime import datetime

import pandas as pd
import pytest

from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.table_rows import _cell, count_lines, open_rows


@pytest.fixture
def rows(tmp_path):
    def rows(content, name="a.csv", encoding="utf-8", separator=None):
        """Rows with their numbers, separator, cells of the comment above, notes."""
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        notes = []
        read, separator, above = open_rows(path, encoding, separator, notes)
        found = [(number, list(cells)) for number, cells in read()]
        assert found == [(number, list(cells)) for number, cells in read()]  # a second time from the start
        return found, separator, above, notes

    return rows


COMMENTS = "Lines that begin with # are comments and left out."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n", ([(1, ["a", "b"]), (2, ["1", "2"])], ",", [], [])),
        ("a, b\n\n1, 2\n", ([(1, ["a", "b"]), (3, ["1", "2"])], ",", [], [])),
        ("a\tb\n1\t 2\n", ([(1, ["a", "b"]), (2, ["1", " 2"])], "\t", [], [])),
        (" a  b   c\n 1 \t 2  3 \n", ([(1, ["a", "b", "c"]), (2, ["1", "2", "3"])], " ", [], [])),
        (
            "SEP=;\r\na;b\r\n1;2\r\n",
            ([(2, ["a", "b"]), (3, ["1", "2"])], ";", [], ["Row 1 names the separator ';'."]),
        ),
        ("sep=,\na,b\n1,2\n", ([(2, ["a", "b"]), (3, ["1", "2"])], ",", [], ["Row 1 names the separator ','."])),
        ("# X , Y\na,b\n1,2\n", ([(2, ["a", "b"]), (3, ["1", "2"])], ",", ["X", "Y"], [COMMENTS])),
        (
            "sep=,\na;b,c\n1;2,3\n",
            ([(2, ["a;b", "c"]), (3, ["1;2", "3"])], ",", [], ["Row 1 names the separator ','."]),
        ),
        ("#x  y\n1 2\n3 4\n", ([(2, ["1", "2"]), (3, ["3", "4"])], " ", ["x", "y"], [COMMENTS])),
        ("#x|y\n1|2\n3|4\n", ([(2, ["1", "2"]), (3, ["3", "4"])], "|", ["x", "y"], [COMMENTS])),
        ("# p\n# x,y\n1,2\n3,4\n", ([(3, ["1", "2"]), (4, ["3", "4"])], ",", ["x", "y"], [COMMENTS])),
        ("a,b\n1,2\n#3,4\n5,6\n", ([(1, ["a", "b"]), (2, ["1", "2"]), (4, ["5", "6"])], ",", [], [COMMENTS])),
        ("#1,a\n#2,b\n3,c\n", ([(1, ["#1", "a"]), (2, ["#2", "b"]), (3, ["3", "c"])], ",", [], [])),
        ('a,b\n"1,5","x\r\ny"\n', ([(1, ["a", "b"]), (2, ["1,5", "x\r\ny"])], ",", [], [])),
        (
            "# p; q; r\n#;;\na,b\n1,2\n3,4\n",
            ([(3, ["a", "b"]), (4, ["1", "2"]), (5, ["3", "4"])], ",", [";;"], [COMMENTS]),
        ),
        ("t\n1,5\n2,5\n", ([(1, ["t"]), (2, ["1,5"]), (3, ["2,5"])], ";", [], [])),
        ("x y\nr1 1 2\nr2 3 4\n", ([(1, ["x", "y"]), (2, ["r1", "1", "2"]), (3, ["r2", "3", "4"])], " ", [], [])),
        ("t\nred\nblue\n", ([(1, ["t"]), (2, ["red"]), (3, ["blue"])], ",", [], [])),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ([(1, ["a", "b"]), (2, ["1,5", "2,5"]), (3, ["3,5", "4,5"])], ";", [], [])),
        ("a,b\n1,2,\n3,4,\n", ([(1, ["a", "b"]), (2, ["1", "2", ""]), (3, ["3", "4", ""])], ",", [], [])),
    ],
)
def test_rows_separator_and_comments(rows, content, expected):
    assert rows(content) == expected


def test_a_separator_that_is_given_is_used(rows):
    assert rows("a,b;c\n1,2;3\n", separator=";")[:2] == ([(1, ["a,b", "c"]), (2, ["1,2", "3"])], ";")
    assert rows("sep=;\na,b\n1,2\n", separator=",")[1] == ","


@pytest.mark.parametrize(
    "encoding", ["utf-8", "UTF8", "utf-16", "utf-16-le", "utf16", "utf-32-be", "utf32", "gb18030", "latin-1"]
)
@pytest.mark.parametrize("name", ["a.csv", "A.CSV.GZ"])
def test_rows_are_decoded_and_decompressed(rows, encoding, name):
    content = "a,b\nü,2\n".encode(encoding)
    packed = gzip.compress(content) if name.endswith("GZ") else content
    assert rows(packed, name, encoding)[0] == [(1, ["a", "b"]), (2, ["ü", "2"])]


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_decides(rows, mark):
    assert rows("a,b\n1,2\n".encode(mark))[0] == [(1, ["a", "b"]), (2, ["1", "2"])]
    assert rows("\ufeffa,b\n1,2\n".encode(), encoding="utf8")[0][0] == (1, ["a", "b"])
    assert rows("\ufeffa,b\n1,2\n".encode("utf-16-be"), encoding="UTF8")[0][0] == (1, ["a", "b"])


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (
            "größe,b\n1,2\n".encode("cp1252"),
            "utf-8",
            "It is probably from Windows in western Europe: give encoding='cp1252'. Other names are",
        ),
        (
            ("温度,压力\n" * 9).encode("gb18030"),
            "utf-8",
            "It is probably Chinese: give encoding='gb18030'. Other names are",
        ),
        (b"a,b\n1,\x81\n", "utf-8", "Give its encoding, or save it as UTF-8. Other names are latin-1"),
        ("a,b\n1,2\n".encode("utf-16-le"), "utf-8", r"a\.csv: not a text in utf-8\. Give encoding='utf-16-le'\.$"),
        ("a,b\n1,2\n".encode("utf-16-be"), "cp1252", r"a\.csv: not a text in cp1252\. Give encoding='utf-16-be'\.$"),
        (b"a,b\n\0\0\0\1", "utf-8", r"a\.csv: a binary file, no text\. Save the table as CSV, \.xlsx or Parquet\.$"),
        (
            b"a,b\n1,2\n",
            "klingon",
            r"a\.csv: unknown encoding: klingon\. Encodings are utf-8, cp1252, gb18030, utf-16,",
        ),
        (b'"a,b\n1,2\n', "utf-8", r"a\.csv, after row 0: not a CSV file"),
        (
            b'a,b\n1,2\n"x,2\n',
            "utf-8",
            r"a\.csv, after row 2: not a CSV file \(.*\)\. Look for a quote that is not closed\.$",
        ),
    ],
)
def test_what_is_no_table_of_text_is_refused_with_the_remedy(rows, content, encoding, message):
    with pytest.raises(DatasetError, match=message):
        rows(content, encoding=encoding)


def test_text_that_ends_to_be_in_its_encoding_is_refused_with_the_row(rows, monkeypatch):
    monkeypatch.setattr("mmad_utils.datasets.table_rows.SAMPLE_CHARACTERS", 10)
    content = b"a,b\n" + b"1,2\n" * 20_000 + b"\xff,3\n"
    with pytest.raises(DatasetError, match=r"after row 1\d{4}: not a text in utf-8 \("):
        rows(content)


@pytest.mark.parametrize(
    "damage", [lambda packed: packed[:-9], lambda packed: packed[:12] + b"\xff" * 9, lambda packed: b"a"]
)
def test_half_a_gzip_file_is_refused(rows, damage):
    with pytest.raises(DatasetError, match=r"a\.csv\.gz: not a whole gzip file \(.+\)\. Copy it again\.$"):
        rows(damage(gzip.compress(b"a,b\n1,2\n" * 99)), "a.csv.gz")


@pytest.mark.parametrize("suffix", [".xls", ".JSON", ".npz"])
def test_other_formats_are_refused_before_they_are_read(tmp_path, suffix):
    message = rf"a\{suffix}: a \{suffix} file is no table of text\. Save it as CSV, \.xlsx or Parquet\.$"
    with pytest.raises(DatasetError, match=message):
        open_rows(tmp_path / f"a{suffix}", "utf-8", None, [])


def test_lines_are_counted_for_the_share_that_was_read(tmp_path):
    for content, lines in ((b"a\nb\n", 2), (b"a\r\nb", 1), (b"", 1), (b"a\n" * 700_000, 700_000)):
        (tmp_path / "a.csv").write_bytes(content)
        (tmp_path / "a.csv.GZ").write_bytes(gzip.compress(content, 1))
        assert count_lines(tmp_path / "a.csv") == count_lines(tmp_path / "a.csv.GZ") == lines


def test_a_cell_of_excel_is_written_as_in_a_text_file():
    cells = [None, pd.NaT, float("nan"), 0.5, 7, " a ", False]  # whole numbers are integers by then
    expected = ["", "", "", "0.5", "7", "a", "False"]
    assert [_cell(cell) for cell in cells] == expected


@pytest.mark.parametrize("name", ["a.XLSX", "a.xlsm"])
def test_the_first_sheet_of_an_excel_file_is_read_as_text(tmp_path, name):
    path, notes = tmp_path / name, []
    cells = [["a", "b"], [1.0, "NA"], [None, None], [1.5, datetime(2024, 2, 25)], [1e15, True], [float("nan"), "x"]]
    with pd.ExcelWriter(tmp_path / "a.xlsx") as writer:
        pd.DataFrame(cells, dtype=object).to_excel(writer, sheet_name="one", header=False, index=False)
        pd.DataFrame([[1]]).to_excel(writer, sheet_name="two")
    (tmp_path / "a.xlsx").rename(path)
    read, separator, above = open_rows(path, "utf-8", None, notes)
    expected = [["a", "b"], ["1", "NA"], ["1.5", "2024-02-25 00:00:00"], ["1000000000000000", "True"], ["", "x"]]
    assert list(read()) == list(read()) == list(zip([1, 2, 4, 5, 6], expected))
    assert (separator, above, notes) == ("", [], ["Sheet 'one' is read, the other 1 are not."])
    path.write_bytes(b"PK")
    with pytest.raises(DatasetError, match=rf"{name}: not a readable Excel file \(.+\)\. Save it anew, or as CSV\.$"):
        open_rows(path, "utf-8", None, notes)
