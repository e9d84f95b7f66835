"""Checks of files that others wrote, before they are opened."""

import gzip
import os

import pytest

from mmad_utils.datasets import input_files
from mmad_utils.datasets.input_files import (
    check_inside,
    check_numbers,
    check_regular,
    printable,
    read_compressed,
    read_json,
)
from mmad_utils.datasets.record import DatasetError


def test_a_name_is_printed_on_one_line():
    assert printable("a b\n\udc80ü") == r"a b\n\udc80ü"


def test_a_regular_file_gives_its_status_and_a_link_that_of_its_target(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    os.symlink("a", tmp_path / "link")
    assert check_regular(tmp_path / "a").st_size == check_regular(tmp_path / "link").st_size == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none: no such table."),
        ("a\0b", r"a\x00b: cannot be read (embedded null byte)."),
        ("a/b", "a/b: cannot be read (Not a directory)."),
        ("folder", "folder: a folder, not a table. Remove it, or give the table itself."),
        ("pipe", "pipe: a named pipe (FIFO), not a table."),
        ("/dev/null", "/dev/null: a device, not a table."),
    ],
)
def test_what_is_no_regular_file_is_refused_by_its_kind(tmp_path, name, message):
    (tmp_path / "a").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError) as caught:
        check_regular(tmp_path / name, "table")
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(message)


def test_a_kind_of_file_without_a_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(input_files, "KINDS", ())
    with pytest.raises(DatasetError, match=r"no regular file, not a file. Remove it, or give the file itself"):
        check_regular(tmp_path)


def test_a_link_may_not_leave_its_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").touch()
    os.symlink("a", folder / "inside")
    os.symlink("../outside", folder / "leaves")
    os.symlink("folder", tmp_path / "alias")
    check_inside(folder / "inside", folder)
    check_inside(tmp_path / "alias" / "a", folder)
    check_inside(folder / "a", tmp_path / "alias")
    with pytest.raises(DatasetError, match=r"leaves: a link that leaves .*folder\. Copy its target"):
        check_inside(folder / "leaves", folder)


def test_more_numbers_than_the_limit_are_refused(monkeypatch):
    monkeypatch.delenv("MMAD_MAX_NUMBERS", raising=False)
    check_numbers(50_000_000, "x")
    check_numbers(7, "x", 7)
    for count, limit, most in ((50_000_001, None, "50,000,000"), (8, 7, "7")):
        with pytest.raises(
            DatasetError,
            match=f"^x: {count:,} numbers; at most {most} are read.*MMAD_MAX_NUMBERS to a larger number.$",
        ):
            check_numbers(count, "x", limit)
    monkeypatch.setenv("MMAD_MAX_NUMBERS", "60000000")
    check_numbers(60_000_000, "x")
    monkeypatch.setenv("MMAD_MAX_NUMBERS", "-1")
    with pytest.raises(DatasetError, match=r"^MMAD_MAX_NUMBERS='-1': expected a whole number, such as 50000000\.$"):
        check_numbers(1, "x")


def test_the_first_bytes_of_a_file_are_read_and_decompressed(tmp_path):
    plain, packed = tmp_path / "a.idx", tmp_path / "a.idx.gz"
    plain.write_bytes(b"0123456789")
    packed.write_bytes(gzip.compress(b"0123456789" * 1000))
    assert read_compressed(plain, 4) == read_compressed(packed, 4) == b"0123"
    assert read_compressed(plain, 99) == b"0123456789" and len(read_compressed(packed, 99_999)) == 10_000
    content = packed.read_bytes()
    for damaged in (content[:-9], b"no gzip", content[:10] + b"\xff" * 20):
        packed.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"a\.idx\.gz: a damaged file \(.+\)\. Delete it and fetch it again\."):
            read_compressed(packed, 99_999)


def test_json_is_read_as_utf_8_or_refused_with_what_was_expected(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_bytes('{"größe": [1, null]}'.encode())
    assert read_json(path, "a table") == {"größe": [1, None]}
    for content in (b"{", b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"a\.json: expected a table \(\w+Error"):
            read_json(path, "a table")
    monkeypatch.setattr(input_files, "MAX_JSON", 3)
    path.write_bytes(b"123")
    assert read_json(path, "a number") == 123
    path.write_bytes(b"1234")
    with pytest.raises(DatasetError, match=r"a\.json: more than 3 bytes; expected a number"):
        read_json(path, "a number")
