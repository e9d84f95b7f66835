"""Files are written whole or not at all."""

import os

import pytest
from matplotlib import image
from sklearn.datasets import load_digits

from mmad_utils.files import atomic_path, png_size, write_atomic


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "file.txt"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(OSError, match="no space"), atomic_path(tmp_path / "folder") as new:
        new.mkdir()
        (new / "file.txt").write_text("half")
        raise OSError("no space left")
    assert list(tmp_path.iterdir()) == []
    with atomic_path(tmp_path / "folder") as new:
        new.mkdir()
        (new / "file.txt").write_text("whole")
        assert not (tmp_path / "folder").exists()
    assert [path.read_text() for path in tmp_path.glob("**/*.txt")] == ["whole"]
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_png_size_is_width_and_height(tmp_path):
    image.imsave(tmp_path / "image.png", load_digits().images[0][:5])
    assert png_size((tmp_path / "image.png").read_bytes()) == (8, 5)
    with pytest.raises(ValueError, match="not a PNG"):
        png_size(b"GIF89a")
