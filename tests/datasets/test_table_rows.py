"""The rows of a file as texts: separator, comments, encoding, sheets, and what is refused."""

import gzip
import sys
import zipfile
from datetime import datetime

import pandas as pd
import pytest

from mmad_utils.datasets import table_rows
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


COMMENTS = "Lines that begin with # are comments and are omitted."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2\n", ([(1, ["a", "b"]), (2, ["1", "2"])], ",", [], [])),
        ("a, b\n\n1, 2\n", ([(1, ["a", "b"]), (3, ["1", "2"])], ",", [], [])),
        ("a\tb\n1\t 2\n", ([(1, ["a", "b"]), (2, ["1", "2"])], "\t", [], [])),
        ('a; b\n1; "x; y"\n2; "z; w"\n', ([(1, ["a", "b"]), (2, ["1", "x; y"]), (3, ["2", "z; w"])], ";", [], [])),
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
        ("sep=;\nsep=,b\n", ([(2, ["sep=,b"])], ";", [], ["Row 1 names the separator ';'."])),
        ("sep=1;b\n2;3\n", ([(1, ["sep=1", "b"]), (2, ["2", "3"])], ";", [], [])),
        ("sep=\nx\n", ([(1, ["sep="]), (2, ["x"])], ",", [], [])),
        ("t\n1,5\n", ([(1, ["t"]), (2, ["1,5"])], ";", [], [])),
        ("t\nthe red car\na green car\n", ([(1, ["t"]), (2, ["the red car"]), (3, ["a green car"])], ",", [], [])),
        ("a b;c\n1 2;3\nx y z;4\n", ([(1, ["a b", "c"]), (2, ["1 2", "3"]), (3, ["x y z", "4"])], ";", [], [])),
        ("a b;c\n1 2 3;4\nx;5\n", ([(1, ["a b", "c"]), (2, ["1 2 3", "4"]), (3, ["x", "5"])], ";", [], [])),
        ("t\n1,5\n2,5\n", ([(1, ["t"]), (2, ["1,5"]), (3, ["2,5"])], ";", [], [])),
        ("x y\nr1 1 2\nr2 3 4\n", ([(1, ["x", "y"]), (2, ["r1", "1", "2"]), (3, ["r2", "3", "4"])], " ", [], [])),
        ("t\nred\nblue\n", ([(1, ["t"]), (2, ["red"]), (3, ["blue"])], ",", [], [])),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ([(1, ["a", "b"]), (2, ["1,5", "2,5"]), (3, ["3,5", "4,5"])], ";", [], [])),
        ("a,b\n1,2,\n3,4,\n", ([(1, ["a", "b"]), (2, ["1", "2", ""]), (3, ["3", "4", ""])], ",", [], [])),
    ],
)
def test_rows_separator_and_comments(rows, content, expected):
    assert rows(content) == expected


def test_a_separator_that_half_of_the_rows_have_is_found_and_one_of_fewer_is_not(rows):
    assert rows("a;b\n1;2\n3;4\nx\n5;6;7\n")[1] == ";"
    assert rows("a;b\n1;2\n3;4\nx\n5;6;7\ny;8;9;10\n")[1] == ","


def test_cells_that_are_too_long_for_other_separators_do_not_matter(rows):
    cells = ["x" * 1000] * 140
    assert rows(";".join(map(str, range(140))) + "\n" + ";".join(cells) + "\n")[0][1] == (2, cells)


def test_the_first_bytes_decide_whether_a_file_is_text(rows):
    assert rows(b"a,b\n" + b"1,2\n" * 1023 + b"\0,3\n")[0][-1] == (1025, ["\0", "3"])
    with pytest.raises(DatasetError, match=r"a\.csv: a binary file"):
        rows(b"a,b\n" + b"1,2\n" * 1022 + b"1,2\0")


@pytest.mark.parametrize(("encoding", "guess"), [("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be")])
def test_a_hundred_letters_show_the_order_of_bytes(rows, encoding, guess):
    with pytest.raises(DatasetError, match=f"Give encoding='{guess}'"):
        rows(("a" * 100 + "好\n").encode(encoding))


@pytest.mark.parametrize(
    ("leads", "single", "chinese"),
    [
        (b"\xb0" * 7 + b"\xff" * 3, 0, True),  # more than 60% of the pairs are common characters
        (b"\xd7" * 7 + b"\xff" * 3, 0, True),
        (b"\xb0" * 6 + b"\xaf\xaf\xd8\xd8", 0, False),
        (b"\xc0" * 8, 3, True),  # more than 80% of the bytes are in pairs
        (b"\xc0" * 8, 4, False),
    ],
)
def test_pairs_of_bytes_of_common_characters_are_chinese(rows, leads, single, chinese):
    pairs = [bytes([lead, 0xA1]) for lead in leads] + [b"\xfe"] * single
    with pytest.raises(DatasetError) as caught:
        rows(b",".join(pairs) + b"\n")
    assert ("encoding='gb18030'" in str(caught.value)) is chinese


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
        (b"a,b\n\0\0\0\1", "utf-8", r"a\.csv: a binary file, not text\. Save the table as CSV, \.xlsx or Parquet\.$"),
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
    with pytest.raises(DatasetError, match=r"a\.csv\.gz: not a complete gzip file \(.+\)\. Copy it again\.$"):
        rows(damage(gzip.compress(b"a,b\n1,2\n" * 99)), "a.csv.gz")


@pytest.mark.parametrize("suffix", [".xls", ".JSON", ".npz"])
def test_other_formats_are_refused_before_they_are_read(tmp_path, suffix):
    message = rf"a\{suffix}: a \{suffix} file is not a text table\. Save it as CSV, \.xlsx or Parquet\.$"
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
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as archive:
        archive.writestr("content.xml", "of LibreOffice")
    for damaged in (path, tmp_path / "b.xlsx"):
        with pytest.raises(
            DatasetError, match=rf"{damaged.name}: not a readable Excel file \(.+\)\. Save it again, or as CSV\.$"
        ):
            open_rows(damaged, "utf-8", None, notes)


def test_numbers_of_a_sheet_without_header_stay_as_they_are(tmp_path):
    pd.DataFrame([[1, 2], [3, 4.5]]).to_excel(tmp_path / "a.xlsx", header=False, index=False)
    read, *_ = open_rows(tmp_path / "a.xlsx", "utf-8", None, [])
    assert list(read()) == [(1, ["1", "2"]), (2, ["3", "4.5"])]


def test_an_excel_file_is_refused_by_its_unpacked_size_and_what_it_has_of_its_own(tmp_path, monkeypatch):
    path = tmp_path / "a.xlsx"
    pd.DataFrame([[1, 2]]).to_excel(path)
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    monkeypatch.setattr(table_rows, "MOST_UNPACKED", 0)
    open_rows(path, "utf-8", None, [])  # not much compressed
    monkeypatch.setattr(table_rows, "MOST_COMPRESSED", 0)
    with pytest.raises(
        DatasetError, match=rf"a\.xlsx: not a readable Excel file \(it unpacks to {unpacked:,} bytes\)"
    ):
        open_rows(path, "utf-8", None, [])
    monkeypatch.setattr(table_rows, "MOST_UNPACKED", unpacked)
    open_rows(path, "utf-8", None, [])


def test_a_missing_reader_of_excel_files_is_named_with_the_command(tmp_path, monkeypatch):
    pd.DataFrame([[1, 2]]).to_excel(tmp_path / "a.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DatasetError, match=r"a\.xlsx: reading Excel files needs openpyxl: pip install openpyxl\.$"):
        open_rows(tmp_path / "a.xlsx", "utf-8", None, [])
