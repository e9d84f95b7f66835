"""The kernel of `runner.run`, which uses Unix sockets in a private folder instead of TCP ports.

Every user of a machine can connect to its TCP ports. On Windows, which has no Unix sockets, TCP ports are used.

``python -m mmad_utils.course.kernel`` starts IPython's kernel without the TCP port for the output of forked
processes; that output is dropped.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ipykernel import iostream, kernelapp
from jupyter_client import AsyncKernelManager

from mmad_utils.course.notebook import short_hash
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.files import remove

HAS_UNIX_SOCKETS = os.name == "posix"
LONGEST_PATH = 103  # bytes of the path of a Unix socket on macOS; Linux allows 107
SOCKET = "kernel-ipc-5"  # the last of five


class KernelManager(AsyncKernelManager):
    """Starts this module's kernel, with its connection file and its sockets in ``$JUPYTER_RUNTIME_DIR``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.connection_file = str(Path(os.environ["JUPYTER_RUNTIME_DIR"], "kernel.json"))
        if HAS_UNIX_SOCKETS:
            self.transport = "ipc"

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [sys.executable, "-P", "-m", __name__, "-f", self.connection_file, *(extra_arguments or [])]


@contextmanager
def runtime_folder(owner: Path) -> Iterator[Path]:
    """An empty folder that only this user can open, with a path that is short enough for sockets.

    Its name is computed from ``owner``, whose lock the caller holds. The next run removes the files of a killed run.
    """
    name = f"mmad-{os.getuid() if HAS_UNIX_SOCKETS else ''}-{short_hash(str(owner), {})}"
    folder = Path(tempfile.gettempdir(), name)
    if HAS_UNIX_SOCKETS and len(os.fsencode(folder / SOCKET)) > LONGEST_PATH:
        folder = Path("/tmp", name)
    try:
        remove(folder)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise NotebookError(f"{folder} is needed for the kernel's sockets: {error.strerror}.") from error
    try:
        yield folder
    finally:
        remove(folder)


class _IOPubThread(iostream.IOPubThread):
    """The thread that publishes the output of this process."""

    def _setup_pipe_in(self) -> None:
        self._pipe_flag = False

    def _really_send(self, *arguments: Any, **options: Any) -> None:
        if self._is_master_process():
            super()._really_send(*arguments, **options)


if __name__ == "__main__":
    if HAS_UNIX_SOCKETS:
        kernelapp.IOPubThread = _IOPubThread  # type: ignore[misc]
    kernelapp.launch_new_instance()
