"""Files are written whole or not at all."""

import multiprocessing
import os

import pytest
from filelock import Timeout
from matplotlib import image
from sklearn.datasets import load_digits

from mmad_utils.files import atomic_path, locked, png_size, remove, write_atomic


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


def _die_while_writing(path):
    with atomic_path(path) as new:
        new.mkdir()
        os._exit(1)


def test_the_next_write_removes_what_killed_processes_left_and_nothing_else(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_die_while_writing, args=[tmp_path / "killed"])
    process.start()
    process.join()
    assert len(list(tmp_path.iterdir())) == 2, "the folder and its lock"
    (tmp_path / "notes.partial").write_text("somebody's")
    (tmp_path / ".notes.part").write_text("somebody's")
    with atomic_path(tmp_path / "slow") as held:
        held.write_text("in use")
        write_atomic(tmp_path / "file", b"new")
        assert held.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.part", "file", "notes.partial", "slow"]


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path):
    with locked(tmp_path / "a"), locked(tmp_path / "b"):
        with pytest.raises(Timeout), locked(tmp_path / "a", wait=False):
            pass
        assert sorted(path.name for path in tmp_path.iterdir()) == [".a.lock", ".b.lock"]
    assert list(tmp_path.iterdir()) == []


def test_removing_a_link_keeps_what_it_points_to(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("link", "nothing"):
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_png_size_is_width_and_height(tmp_path):
    image.imsave(tmp_path / "image.png", load_digits().images[0][:5])
    assert png_size((tmp_path / "image.png").read_bytes()) == (8, 5)
    with pytest.raises(ValueError, match="not a PNG"):
        png_size(b"GIF89a")
