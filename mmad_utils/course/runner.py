"""Execute a notebook from top to bottom by papermill, in a fresh kernel."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmad_utils.course import notebook_files, project
from mmad_utils.course.inputs import require_inputs
from mmad_utils.course.notebook import short_hash
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.course.provenance import stale_reasons
from mmad_utils.files import locked, remove

SECONDS_BETWEEN_LINES = 5.0  # of progress; a shorter time would give too many lines in a log of several notebooks
LINES_OF_CELL = 12  # shown of a cell that failed, so that the message stays on one screen


def run(
    name: str,
    profile: str = "default",
    parameters: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
) -> Path:
    """Execute a notebook from top to bottom in a fresh kernel.

    Parameters
    ----------
    name : str
        The notebook's name without extension.
    profile : str
        ``profiles/<profile>.yaml`` gives the parameters that differ from the notebook's own.
    parameters : mapping, optional
        Values that take precedence over those of the profile.
    output : path, optional
        Folder that gets ``results``, ``figures`` and the executed copy in ``notebooks``. Default:
        ``build/<profile>``, with a hash if parameters are given.

    Returns
    -------
    Path
        The executed copy.

    Raises
    ------
    NotebookError
        Before a kernel starts, if the notebook, the profile or a parameter is invalid. After a cell has failed, with
        the cell, the error, the parameters, and the command that runs the notebook again.
    """
    given = dict(parameters or {})
    notebook = notebook_files.read_notebook(notebook_files.notebook_path(name))
    values = {**notebook_files.changed_values(name, profile), **given}
    notebook_files.check_parameters(notebook, name, values)
    notebook_files.require_in_step(name)
    build = project.build_home() / (f"{profile}-{short_hash(name, values)}" if given else profile)
    folder = Path(output).absolute() if output else build
    if not project.is_writable(folder):
        raise NotebookError(f"{folder} is not writable: give another one with --output DIR.")
    copy = folder / "notebooks" / f"{name}.ipynb"
    with locked(copy):  # another process that runs the same notebook waits
        started = time.time_ns()
        _execute(notebook, name, values, copy, folder, _command(name, profile, given, output))
    results = folder / "results" / f"{name}.json"
    if not results.exists() or results.stat().st_mtime_ns < started:
        raise NotebookError(f"{name} ran without error but wrote no {results}; nb.finish() must be its last code.")
    return copy


def build_report(profile: str, values: Iterable[str] = ()) -> None:
    """Replace this process by Snakemake, which builds the report; a second build in the same checkout waits.

    The lock is a lock of the Snakefile, which ends with the process. Snakemake's own lock remains after a killed
    process.

    Parameters
    ----------
    profile : str
        ``profiles/<profile>.yaml``
    values : iterable of "parameter=value"
        They take precedence over those of the profile, in every notebook that has the parameter.

    Raises
    ------
    NotebookError
        Before anything is built: a parameter that no notebook has, a value of the wrong type, or data sets or weights
        that are missing and cannot be downloaded. Only the inputs of notebooks that have to run are checked.
    """
    import fcntl

    os.environ["MMAD_SET"] = "\n".join(values)
    names = list(notebook_files.profile_values("default"))
    notebook_files.check_overrides(names)
    require_inputs([name for name in names if stale_reasons(name, profile, project.build_home() / profile)], profile)
    snakefile = os.open(project.ROOT / "Snakefile", os.O_RDONLY)
    try:
        fcntl.flock(snakefile, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another report is being built in this checkout; waiting for it.", file=sys.stderr, flush=True)
        fcntl.flock(snakefile, fcntl.LOCK_EX)
    os.set_inheritable(snakefile, True)
    options = ["-c", "2", "--quiet", "rules", "host", "--rerun-incomplete", "--nolock", "--workflow-profile", "none"]
    options += ["--config", f"profile={profile}", "--", "report"]
    os.chdir(project.ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *options])


def _execute(notebook: Any, name: str, values: dict[str, Any], copy: Path, target: Path, command: str) -> None:
    """Execute by papermill into `copy`, written atomically; a failed copy is kept as NAME.failed.ipynb."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    from mmad_utils.course.kernel import KernelManager, runtime_folder

    copy.parent.mkdir(parents=True, exist_ok=True)
    partial, failed = (copy.with_name(f"{prefix}{name}{suffix}.ipynb") for prefix, suffix in _COPIES)
    progress = {
        "desc": name,
        "file": _Lines(),
        "mininterval": SECONDS_BETWEEN_LINES,
        "bar_format": "{desc}: {n_fmt} of {total_fmt} cells, {elapsed}",
    }
    try:
        ipython = copy.with_name(f".{name}.ipython")
        with runtime_folder(copy) as runtime, _kernel_environment(target, ipython, runtime):
            papermill.execute_notebook(
                notebook_files.notebook_path(name),
                partial,
                values,
                kernel_name="python3",
                kernel_manager_class=KernelManager,
                cwd=notebook_files.notebook_path(name).parent,
                progress_bar=progress,
                request_save_on_cell_execute=False,
                store_widget_state=False,  # a page shows the image that every widget contains
            )
        os.replace(partial, copy)
        failed.unlink(missing_ok=True)
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        screen = _screen(error, notebook, name)
    except DeadKernelError:
        screen = f"{name}: the kernel ended without a message, most often for lack of memory."
    else:
        return
    finally:
        partial.unlink(missing_ok=True)
    shown = ", ".join(f"{key}={value!r}" for key, value in {**notebook_files.defaults(name), **values}.items())
    where = f"Executed so far: {failed}\n" if failed.exists() else ""
    raise NotebookError(f"{screen}\n\nParameters: {shown}\n{where}Run it again: {command}")


_COPIES = ((".", ".partial"), ("", ".failed"))


class _Lines:
    """A stream for tqdm that ends every progress message with a newline, for log files."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def _kernel_environment(target: Path, ipython: Path, runtime: Path) -> Iterator[None]:
    """Environment of the kernel: this package, this interpreter's kernel, no start-up files of the user.

    ``ipython`` is an empty folder inside this block; a killed run may have left it.
    """
    before = dict(os.environ)
    remove(ipython)
    ipython.mkdir()
    os.environ.update(
        MMAD_OUTPUT=str(target),
        MMAD_CURRENT_FOLDER=os.getcwd(),
        PYTHONPATH=os.pathsep.join(filter(None, [str(project.ROOT), before.get("PYTHONPATH")])),
        PYTHONHASHSEED="0",
        OMP_NUM_THREADS=before.get("OMP_NUM_THREADS") or "1",
        JUPYTER_PREFER_ENV_PATH="1",
        JUPYTER_RUNTIME_DIR=str(runtime),
        IPYTHONDIR=str(ipython),
        PYDEVD_DISABLE_FILE_VALIDATION="1",
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        remove(ipython)


def _screen(error: Any, notebook: Any, name: str) -> str:
    """The cell that failed, its error and its position, in a few lines."""
    sources = [cell.source for cell in notebook.cells]
    number = f"cell {sources.index(error.source) + 1} of {len(sources)}" if error.source in sources else "a cell"
    lines = error.source.splitlines()
    shown = lines[:LINES_OF_CELL] + ["..."] * (len(lines) > LINES_OF_CELL)
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    frames = re.findall(r"^File (.+?):(\d+), in (\w+)", text, flags=re.MULTILINE)
    ours = [frame for frame in frames if (project.ROOT / "mmad_utils") in Path(frame[0]).expanduser().parents]
    place = ""
    if ours:
        path, line, function = ours[-1]
        place = f"\n  in {Path(path).expanduser().relative_to(project.ROOT)}, line {line}, {function}"
    cell = "\n".join(f"    {line}" for line in shown)
    return f"{name} failed in {number}:\n\n{cell}\n\n{error.ename}: {error.evalue[:2000]}{place}"


def _command(name: str, profile: str, given: Mapping[str, Any], output: str | Path | None) -> str:
    """The command line of this run."""
    words = [sys.executable, "-m", "mmad_utils.course", "run", name, "--profile", profile]
    for key, value in given.items():
        words += ["-p", key, value if isinstance(value, str) else repr(value)]
    if output:
        words += ["--output", str(output)]
    return shlex.join(words)
