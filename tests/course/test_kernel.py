"""The folder of a kernel's sockets; that no TCP port is open is tested where a notebook runs."""

import os
import stat
import tempfile
from pathlib import Path

import pytest
import zmq

from mmad_utils.course import kernel
from mmad_utils.course.notebook_files import NotebookError

pytestmark = pytest.mark.skipif(not kernel.HAS_UNIX_SOCKETS, reason="needs Unix sockets")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A short folder for temporary files."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_the_folder_is_private_and_gone_afterwards(temporary):
    with kernel.runtime_folder(Path("a")) as folder, kernel.runtime_folder(Path("b")) as other:
        assert folder != other
        assert folder.parent == temporary
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(temporary):
    with kernel.runtime_folder(Path("a")) as folder:
        pass
    folder.mkdir()
    (folder / "kernel-ipc-1").touch()
    with kernel.runtime_folder(Path("a")) as again:
        assert again == folder
        assert list(again.iterdir()) == []


def test_a_link_instead_of_the_folder_is_not_followed(temporary, tmp_path):
    (tmp_path / "kept").touch()
    with kernel.runtime_folder(Path("a")) as folder:
        pass
    folder.symlink_to(tmp_path)
    with kernel.runtime_folder(Path("a")):
        assert not folder.is_symlink()
    assert (tmp_path / "kept").exists()


def test_the_path_of_a_socket_stays_below_the_limit_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    with kernel.runtime_folder(Path("a")) as folder:
        assert len(os.fsencode(folder / kernel.SOCKET)) < kernel.LONGEST_PATH


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/missing")
    with pytest.raises(NotebookError, match=r"/tmp/missing/mmad-.* is needed for the kernel's sockets: No such file"):
        kernel.runtime_folder(Path("a")).__enter__()


def test_a_forked_process_does_not_write_to_the_sockets_of_its_parent():
    sent = []

    class Socket:
        context = zmq.Context.instance()
        send_multipart = staticmethod(sent.append)

    thread = kernel._IOPubThread(Socket(), pipe=True)
    thread._really_send(["parent"])
    thread._master_pid = -1
    thread._really_send(["child"])
    assert sent == [["parent"]]
