"""Start and end of a course notebook: check its parameters and record its results.

In a notebook::

    nb = notebook.start("01_task2_padim")              # reads and checks the parameters of the notebook.
    data = nb.load(dataset, seed=seed)                 # the hash of the data is stored in the provenance.
    fig = plots.score_histogram(evaluation)
    nb.figure(fig, "padim_scores", data=scores)        # in the cell that draws fig.

and in its last code cell, which is tagged ``results``::

    nb.value("auroc", evaluation.auroc)
    nb.table(frame, "padim_table")
    nb.finish()                                        # writes the results

Captions and text alternatives are in ``notebooks/captions/NAME.yaml``.

Results are written to $MMAD_OUTPUT if it is set. Otherwise they are written to ``build/default`` if the cells that
ran are the committed ones, and to ``build/changed-<hash>`` with other parameters or edited cells, so that the results
of the report do not change. A student's copy has no cell tagged ``results`` and writes none. If the project's folder
is not writable, ``build`` is in the user's cache folder, and `start` prints its path. ``papermill`` and Run All in
JupyterLab give the same results as the first of these commands::

    python -m mmad_utils.course run 01_task2_padim --profile smoke -p seed 3
    python -m mmad_utils.course check     # the form of all notebooks and profiles.
    python -m mmad_utils.course sync      # notebooks and their percent-format sources.
    python -m mmad_utils.course student   # copies without solutions, to build/student.
    python -m mmad_utils.course compare   # differences between two folders of results.
    python -m mmad_utils.course accept    # replace the reference results by build/default.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmad_utils.course import notebook_files, project
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.course.provenance import current_provenance, loaded_modules, module_hashes
from mmad_utils.course.results import Results, css_width
from mmad_utils.datasets.record import Dataset


class Notebook:
    """A running notebook; created by `start`."""

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

    def value(self, key: str, mean: float, sd: float | None = None, n: int | None = None, **options: Any) -> None:
        """Record a number: see `Results.value`."""
        self.results.value(key, mean, sd=sd, n=n, **options)

    def table(
        self, frame: Any, id: str, *, texts: str = "", n: int | None = None, single_run: bool = False, **words: Any
    ) -> None:
        """Record a table: see `Results.table`. Its caption is read in the same way as that of a figure.

        `texts` is the entry with the caption, if it is not `id`.
        """
        self.results.table(frame, id, n=n, single_run=single_run, **self._texts("tables", texts or id, words))

    def figure(
        self, fig: Any, id: str, *, data: Any, n: int | None = None, single_run: bool = False, **words: Any
    ) -> None:
        """Record a figure, show it with its text alternative, and close it.

        Call it in the cell that draws the figure, so that the notebook shows the recorded image once. Jupyter shows a
        figure that is still open at the end of a cell.

        Parameters
        ----------
        fig : matplotlib.figure.Figure
        id : str
            Its entry in ``figures`` of ``notebooks/captions/NAME.yaml`` has ``caption`` and ``alt``, in which
            ``{seed}`` stands for the notebook's parameter ``seed``.
        data, n, single_run
            See `Results.figure`.
        **words
            Replace ``{word}`` in the caption and in the text alternative.

        Raises
        ------
        NotebookError
            If there is no such entry, or it holds a ``{word}`` that is not given.
        """
        import matplotlib.pyplot as plt
        from IPython import get_ipython
        from IPython.display import Image, display

        texts = self._texts("figures", id, words)
        png = self.results.figure(fig, id, data=data, n=n, single_run=single_run, **texts)
        plt.close(fig)
        if get_ipython() is not None:
            display(Image(png, width=css_width(png), alt=texts["alt"]))

    def finish(self) -> None:
        """Write the results; the last code cell of every notebook."""
        results = self.results
        if not (results.values or results.tables or results.figures):
            raise NotebookError(f"{self.name} recorded no value, table or figure before nb.finish().")
        results.provenance["modules"] = module_hashes(loaded_modules())
        as_committed = self.parameters == notebook_files.defaults(self.name) and _ran_as_committed(self.name)
        changed = f"changed-{short_hash(self.name, self.parameters)}"
        results.output = project.output_folder("default" if as_committed else changed)
        path = results.save()
        print(f"{len(results.values)} values, {len(results.tables)} tables, {len(results.figures)} figures: {path}")

    def _texts(self, kind: str, id: str, words: Mapping[str, Any]) -> dict[str, str]:
        """Caption (and text alternative) of a figure or table, with the words filled in."""
        path = notebook_files.captions_path(self.name)
        try:
            texts = notebook_files.captions(self.name)[kind][id]
            return {key: text.format(**self.parameters, **words) for key, text in texts.items()}
        except KeyError as error:
            raise NotebookError(f"{path}: {kind}, {id}: there is no {error.args[0]!r}.") from None


def start(name: str) -> Notebook:
    """Start a notebook: check its parameters, fix the number of threads, set the style of figures and tables.

    Parameters
    ----------
    name : str
        The notebook's name without extension. The values of its parameters are read from the caller's variables.

    Raises
    ------
    NotebookError
        If a parameter is missing or of the wrong type.
    """
    from mmad_utils.plots import use_style

    known = notebook_files.parameters_of(notebook_files.read_notebook(notebook_files.source_path(name)), name)
    frame = inspect.currentframe()
    variables = frame.f_back.f_globals if frame and frame.f_back else {}
    for key in known:
        if key not in variables:
            raise NotebookError(f"{name}: run the cell of the parameters first; {key!r} is not defined.")
    parameters = {key: variables[key] for key in known}
    notebook_files.check_values(parameters, known, name)
    output = project.output_folder()
    if not project.is_writable(output):
        raise NotebookError(f"{output} is not writable: set MMAD_OUTPUT to a folder that is.")
    if not output.is_relative_to(project.ROOT) and "MMAD_OUTPUT" not in os.environ:
        print(f"{project.ROOT} is not writable; results go to {output.parent}.")
    use_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))
    use_style()
    pd.set_option("display.max_colwidth", None)
    return Notebook(name, parameters)


def use_threads(count: int) -> None:
    """Fix the number of threads, because it changes the order of summation and so the rounding."""
    import sklearn  # noqa: F401  loads the OpenMP and BLAS libraries that are limited here
    import torch
    from threadpoolctl import threadpool_limits

    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(count)  # for processes started from the notebook, and libraries loaded later
    threadpool_limits(count)
    torch.set_num_threads(count)


def _ran_as_committed(name: str) -> bool:
    """Whether this kernel has run exactly the code cells of the notebook's source."""
    from IPython import get_ipython

    shell = get_ipython()
    source = notebook_files.read_notebook(notebook_files.source_path(name))
    cells = {cell.source.strip() for cell in source.cells if cell.cell_type == "code"}
    return shell is None or {ran.strip() for ran in shell.history_manager.input_hist_raw} - {""} == cells


def short_hash(name: str, parameters: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([name, parameters], sort_keys=True).encode()).hexdigest()[:8]
