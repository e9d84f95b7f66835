"""The frame of a course notebook: parameters in, results out, the same from every runner.

In a notebook::

    nb = notebook.start("01_task2_padim", dataset=dataset, seed=seed)   # every parameter, by its name
    data = nb.load(dataset, seed=seed)                                  # the data's hash enters the provenance
    fig = plots.score_histogram(evaluation)
    nb.figure(fig, "padim_scores", caption="...", alt="...", data=evaluation_frame)   # in the cell that drew fig
    nb.finish()                                                         # last code cell: writes the results

Results go to $MMAD_OUTPUT if it is set; else to the project's own ``report/results`` and ``figures`` if the
cells that ran are the committed ones; else (other parameters, edited cells, a copy without solutions) to
``build/changed-<hash>``, so that trying something out never touches the report. ``papermill`` and Run All in
JupyterLab give the same results as::

    python -m mmad_utils.notebook run 01_task2_padim --profile smoke -p seed 3
    python -m mmad_utils.notebook check     # the form of all notebooks and profiles
    python -m mmad_utils.notebook sync      # notebooks and their percent-format sources
    python -m mmad_utils.notebook student   # copies without solutions, to build/student
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmad_utils import notebook_files
from mmad_utils.datasets.record import PROJECT_ROOT, Dataset
from mmad_utils.notebook_files import NotebookError
from mmad_utils.results import Results, css_width, current_provenance, read

SECONDS_BETWEEN_LINES = 5.0  # of progress; a shorter time would drown a log of several notebooks
LINES_OF_CELL = 12  # shown of a cell that failed, so that the message stays on one screen


class Notebook:
    """A running notebook; made by `start`."""

    def __init__(self, name: str, parameters: dict[str, Any]):
        self.name = name
        self.parameters = parameters
        self.results = Results(name, provenance=current_provenance(name, parameters))

    def load(self, name: str, seed: int = 0) -> Dataset:
        """`mmad_utils.datasets.load`; the data's hash enters the provenance of the results."""
        from mmad_utils.datasets import load

        dataset = load(name, seed=seed)
        key = name if seed == 0 else f"{name} (seed {seed})"
        self.results.provenance["data"][key] = dataset.source["sha256"]
        return dataset

    def value(self, key: str, mean: float, sd: float | None = None, n: int | None = None, unit: str = "") -> None:
        """Record a number: see `Results.value`."""
        self.results.value(key, mean, sd=sd, n=n, unit=unit)

    def table(self, frame: Any, id: str, caption: str) -> None:
        """Record a table: see `Results.table`."""
        self.results.table(frame, id, caption)

    def figure(self, fig: Any, id: str, *, caption: str, alt: str, data: Any) -> None:
        """Record a figure (see `Results.figure`), show it with its text alternative, and close it.

        Call it in the cell that draws the figure: the notebook then shows the recorded picture, once. A figure
        left open at the end of a cell is shown by Jupyter itself.
        """
        import matplotlib.pyplot as plt
        from IPython import get_ipython
        from IPython.display import Image, display

        png = self.results.figure(fig, id, caption=caption, alt=alt, data=data)
        plt.close(fig)
        if get_ipython() is not None:
            display(Image(png, width=css_width(png), alt=alt))

    def finish(self) -> None:
        """Write the results; the last code cell of every notebook."""
        results = self.results
        if not (results.values or results.tables or results.figures):
            raise NotebookError(f"{self.name} recorded no value, table or figure before nb.finish().")
        as_committed = self.parameters == defaults(self.name) and _ran_as_committed(self.name)
        changed = PROJECT_ROOT / "build" / f"changed-{_short_hash(self.name, self.parameters)}"
        results.output = Path(os.environ.get("MMAD_OUTPUT") or (PROJECT_ROOT if as_committed else changed)).absolute()
        path = results.save()
        print(f"{len(results.values)} values, {len(results.tables)} tables, {len(results.figures)} figures: {path}")


def start(name: str, **parameters: Any) -> Notebook:
    """Begin a notebook: check its parameters, fix the number of threads, set the style of the figures.

    Parameters
    ----------
    name : str
        The notebook's name without extension.
    **parameters
        Every parameter of its parameters cell, ``seed=seed``.

    Raises
    ------
    NotebookError
        If a parameter is missing, unknown or of the wrong type.
    """
    from mmad_utils.plots import use_style

    known = notebook_files.parameters_of(notebook_files.read_notebook(notebook_files.source_path(name)), name)
    notebook_files.check_values(parameters, known, name)
    missing = [key for key in known if key not in parameters]
    if missing:
        raise NotebookError(f"{name}: give notebook.start also {missing[0]}={missing[0]}.")
    use_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    use_style()
    return Notebook(name, parameters)


def use_threads(count: int) -> None:
    """Fix the number of threads, for sums are taken in another order with another number."""
    import sklearn  # noqa: F401  loads the OpenMP and BLAS libraries that are limited here
    import torch
    from threadpoolctl import threadpool_limits

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(count)  # for processes started from the notebook, and libraries loaded later
    threadpool_limits(count)
    torch.set_num_threads(count)


def defaults(name: str) -> dict[str, Any]:
    """The values of the parameters cell: the default profile."""
    source = notebook_files.read_notebook(notebook_files.source_path(name))
    return {key: parameter.default for key, parameter in notebook_files.parameters_of(source, name).items()}


def _ran_as_committed(name: str) -> bool:
    """Whether this kernel has run the code cells of the notebook's source, all of them and no others."""
    from IPython import get_ipython

    shell = get_ipython()
    source = notebook_files.read_notebook(notebook_files.source_path(name))
    cells = {cell.source.strip() for cell in source.cells if cell.cell_type == "code"}
    return shell is None or {ran.strip() for ran in shell.history_manager.input_hist_raw} - {""} == cells


def stale_reasons(name: str) -> list[str]:
    """Why the committed results of a notebook are not those of the files as they are now; empty if they are.

    Compared are the hashes of its source, of `mmad_utils` and of the lock file, and the parameters. The data of
    the default profile follow from these.
    """
    path = PROJECT_ROOT / "report" / "results" / f"{name}.json"
    if not path.exists():
        return [f"{path} is missing"]
    recorded = read(path)["provenance"]
    current = current_provenance(name, defaults(name))
    return [f"{path} was made with another {key}" for key in sorted(current) if recorded.get(key) != current[key]]


def _short_hash(name: str, parameters: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([name, parameters], sort_keys=True).encode()).hexdigest()[:8]


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
        Values that go before those of the profile.
    output : path, optional
        Folder for results, figures and the executed copy. Default: for the default profile as it is, the project
        itself with the copy in ``build/default``; else ``build/<profile>``, with a hash where parameters are given.

    Returns
    -------
    Path
        The executed copy.

    Raises
    ------
    NotebookError
        Before a kernel starts if the notebook, the profile or a parameter is not right; after a cell has failed
        with one screen that says where, why, with which parameters, and how to run just this again.
    """
    given = dict(parameters or {})
    notebook = notebook_files.read_notebook(notebook_files.notebook_path(name))
    values = {**notebook_files.profile_values(profile).get(name, {}), **given}
    notebook_files.check_parameters(notebook, name, values)
    notebook_files.require_in_step(name)
    build = PROJECT_ROOT / "build" / (f"{profile}-{_short_hash(name, values)}" if given else profile)
    folder = Path(output).absolute() if output else build
    target = folder if output or given or profile != "default" else PROJECT_ROOT
    copy = folder / f"{name}.ipynb"
    started = time.time_ns()
    _execute(notebook, name, values, copy, target, _command(name, profile, given, output))
    results = target / "report" / "results" / f"{name}.json"
    if not results.exists() or results.stat().st_mtime_ns < started:
        raise NotebookError(f"{name} ran to its end but wrote no {results}; nb.finish() must be its last code.")
    return copy


def _execute(notebook: Any, name: str, values: dict[str, Any], copy: Path, target: Path, command: str) -> None:
    """Execute by papermill into `copy`, written whole; a failed one stays beside it as NAME.failed.ipynb."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    copy.parent.mkdir(parents=True, exist_ok=True)
    partial, failed = (copy.with_name(f"{prefix}{name}{suffix}.ipynb") for prefix, suffix in _COPIES)
    progress = {
        "desc": name,
        "file": _Lines(),
        "mininterval": SECONDS_BETWEEN_LINES,
        "bar_format": "{desc}: {n_fmt} of {total_fmt} cells, {elapsed}",
    }
    try:
        with _kernel_environment(target):
            papermill.execute_notebook(
                notebook_files.notebook_path(name),
                partial,
                values,
                kernel_name="python3",
                cwd=notebook_files.notebook_path(name).parent,
                progress_bar=progress,
                request_save_on_cell_execute=False,
                store_widget_state=False,  # a page shows the picture that every widget brings
            )
        os.replace(partial, copy)
        failed.unlink(missing_ok=True)
    except papermill.PapermillExecutionError as error:
        os.replace(partial, failed)
        screen = _screen(error, notebook, name)
    except DeadKernelError:
        screen = f"{name}: the kernel died without a message, most often for lack of memory."
    else:
        return
    finally:
        partial.unlink(missing_ok=True)
    shown = ", ".join(f"{key}={value!r}" for key, value in {**defaults(name), **values}.items())
    where = f"Executed so far: {failed}\n" if failed.exists() else ""
    raise NotebookError(f"{screen}\n\nParameters: {shown}\n{where}Run it again: {command}")


_COPIES = ((".", ".partial"), ("", ".failed"))


class _Lines:
    """A stream for tqdm that ends every state of the progress with a newline, readable in a log."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def _kernel_environment(target: Path) -> Iterator[None]:
    """What the kernel inherits: this package, this interpreter's kernel, no start-up files of the user."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as ipython:
        os.environ.update(
            MMAD_OUTPUT=str(target),
            PYTHONPATH=os.pathsep.join(filter(None, [str(PROJECT_ROOT), before.get("PYTHONPATH")])),
            PYTHONHASHSEED="0",
            OMP_NUM_THREADS=before.get("OMP_NUM_THREADS") or "1",
            JUPYTER_PREFER_ENV_PATH="1",
            IPYTHONDIR=ipython,
            PYDEVD_DISABLE_FILE_VALIDATION="1",
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _screen(error: Any, notebook: Any, name: str) -> str:
    """Where and why a cell failed, in a few lines."""
    sources = [cell.source for cell in notebook.cells]
    number = f"cell {sources.index(error.source) + 1} of {len(sources)}" if error.source in sources else "a cell"
    lines = error.source.splitlines()
    shown = lines[:LINES_OF_CELL] + ["..."] * (len(lines) > LINES_OF_CELL)
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    frames = re.findall(r"^File (.+?):(\d+), in (\w+)", text, flags=re.MULTILINE)
    ours = [frame for frame in frames if (PROJECT_ROOT / "mmad_utils") in Path(frame[0]).expanduser().parents]
    place = ""
    if ours:
        path, line, function = ours[-1]
        place = f"\n  in {Path(path).expanduser().relative_to(PROJECT_ROOT)}, line {line}, {function}"
    cell = "\n".join(f"    {line}" for line in shown)
    return f"{name} failed in {number}:\n\n{cell}\n\n{error.ename}: {error.evalue[:2000]}{place}"


def _command(name: str, profile: str, given: Mapping[str, Any], output: str | Path | None) -> str:
    """The command line of this run."""
    words = [sys.executable, "-m", "mmad_utils.notebook", "run", name, "--profile", profile]
    for key, value in given.items():
        words += ["-p", key, value if isinstance(value, str) else repr(value)]
    if output:
        words += ["--output", str(output)]
    return shlex.join(words)


def _value_from_text(text: str, key: str, known: Mapping[str, notebook_files.Parameter]) -> Any:
    """A value of the command line as its parameter's type wants it."""
    if key in known and known[key].accepts(text):
        return text
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(arguments: list[str] | None = None) -> int:
    """Command line: ``python -m mmad_utils.notebook run|check|sync|student``."""
    parser = argparse.ArgumentParser(prog="python -m mmad_utils.notebook")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="execute one notebook")
    command.add_argument("name", metavar="NAME", help="as in 01_task2_padim")
    command.add_argument("--profile", default="default", help="profiles/PROFILE.yaml")
    command.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    command.add_argument("--output", type=Path, metavar="DIR", help="for results, figures and executed copy")
    commands.add_parser("check", help="check the form of all notebooks and profiles")
    commands.add_parser("sync", help="make notebooks and their sources equal; the one saved last wins")
    commands.add_parser("student", help="write copies without solutions to build/student, unless they are there")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            notebook = notebook_files.read_notebook(notebook_files.notebook_path(options.name))
            known = notebook_files.parameters_of(notebook, options.name)
            given = {key: _value_from_text(text, key, known) for key, text in options.parameters}
            print(run(options.name, options.profile, given, options.output))
            return 0
        names = notebook_files.profile_values("default")
        if options.command == "sync":
            found = [line for line in map(notebook_files.sync, names) if line]
        elif options.command == "student":
            found = [notebook_files.write_student_copy(name) for name in names]
        else:
            found = list(notebook_files.problems())
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(found) or f"{len(names)} notebooks, nothing to report.")
    return 1 if found and options.command == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
