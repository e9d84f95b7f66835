"""Results of a notebook: numbers, tables and figures in files, with their provenance.

`Results` writes one JSON file per notebook, `<output>/results/<name>.json`, and for every figure
`<output>/figures/<id>.png`, `.svg` and `.csv`. The report reads only these files. Nothing is written before
`save()`, so a run that fails does not change the earlier results. `save()` writes all files to one folder,
``results/.<name>.commit``, and moves them to their final paths, the JSON last. If the process is killed in between,
the next `read` or `save` moves the remaining files.

The JSON (sorted keys, UTF-8, floats rounded to 6 significant digits, no NaN and no infinity)::

    {
      "format": 2,
      "notebook": "01_task2_padim",
      "provenance": {
        "notebook_source": sha256 of notebooks/src/<name>.py,
        "modules": {"mmad_utils.detector": sha256 of its file, ...}, those that the kernel loaded,
        "lock": sha256 of requirements.lock,
        "data": {"synthetic/hazelnut": sha256 of the content, ...},
        "parameters": {"seed": 0, ...}
      },
      "values": {"padim_auroc": {"value": 0.987, "sd": 0.004 or null, "n": 5 or null, "unit": "",
                                 "single_run": true where given}},
      "tables": {"comparison": {"caption": "...", "columns": ["detector", "AUROC"], "rows": [["kNN", 0.97]],
                                "n": 5 where given, "single_run": true where given}},
      "figures": {"heatmaps": {"caption": "...", "alt": "...", "png": "figures/heatmaps.png",
                               "svg": "figures/heatmaps.svg", "csv": "figures/heatmaps.csv",
                               "sha256": {"png": "...", "svg": "...", "csv": "..."},
                               "n": 5 where given, "single_run": true where given}}
    }

Paths are relative to the output folder. Cells of a table are
strings, numbers, booleans or null. Keys and ids match [a-z0-9_]+; a figure's id belongs to one notebook.
``mmad_utils.course.provenance.stale_reasons(name)`` lists the reasons why a file is not up to date; the list is empty
if it is. The repository keeps reference results in ``report/results`` and ``figures``;
`python -m mmad_utils.course compare report/results build/default/results` compares two folders of such files.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import numbers
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmad_utils.course import project
from mmad_utils.files import atomic_path, locked, png_size

SIGNIFICANT_DIGITS = 6  # the last digits of a double differ between processors
KINDS = ("png", "svg", "csv")  # of files of a figure
SPREADS = ("sd", "std")  # the last word of a column of standard deviations
FORMAT = 2  # of the JSON; increased by a change that older code cannot read
DOTS_PER_INCH = 150  # a compromise between sharpness and the size of a page


class ResultsError(ValueError):
    """A result that cannot be recorded or read: a NaN, a figure without alt text, an id used twice."""


class Results:
    """Numbers, tables and figures of one notebook, written by `save`.

    Parameters
    ----------
    name : str
        The notebook's name without extension, as in ``01_task2_padim``.
    output : str or Path, optional
        Folder that gets ``results`` and ``figures``; default $MMAD_OUTPUT, else ``build/default``.
    provenance : mapping
        See `current_provenance`. Entries may be added to ``provenance["data"]`` until `save`.
    """

    def __init__(self, name: str, *, output: str | Path | None = None, provenance: Mapping[str, Any]):
        _check_id(name, {}, "notebook")
        self.name = name
        self.output = Path(output).absolute() if output else project.output_folder()
        self.provenance: dict[str, Any] = {"data": {}, **provenance}
        self.values: dict[str, dict[str, Any]] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.figures: dict[str, dict[str, Any]] = {}
        self._files: dict[str, bytes] = {}

    @property
    def path(self) -> Path:
        """The path of the JSON file."""
        return self.output / "results" / f"{self.name}.json"

    def value(
        self,
        key: str,
        mean: float,
        sd: float | None = None,
        n: int | None = None,
        unit: str = "",
        *,
        single_run: bool = False,
    ) -> None:
        """Record a number, or the mean of repeated measurements.

        Parameters
        ----------
        key : str
        mean : float
        sd : float, optional
            Standard deviation. Without `n` it is shown, but gives `compare` no tolerance. With a single seed (`n=1`)
            it is not defined and not recorded.
        n : int, optional
            Number of seeds of `mean` and `sd`, or number of measurements of a mean without `sd`. Omit it if `sd` is a
            spread between classes, folds or data sets.
        unit : str, default=""
        single_run : bool, default=False
            Whether the number is of a single run, or of the best of several runs, of a chaotic training. `compare`
            then checks the unit only.

        Raises
        ------
        ResultsError
            If the key is malformed or already used, or a number is NaN, infinite or not a number.
        """
        _check_id(key, self.values, "value")
        _check_count(n, f"value {key!r}")
        self.values[key] = {
            "value": _number(mean, f"value {key!r}"),
            "sd": None if sd is None or n == 1 else _number(sd, f"value {key!r}, sd"),
            "n": None if n is None else int(n),
            "unit": unit,
        } | ({"single_run": True} if single_run else {})

    def table(
        self, frame: pd.DataFrame, id: str, caption: str, *, n: int | None = None, single_run: bool = False
    ) -> None:
        """Record a table. An index that has a name becomes the first column; another index is dropped.

        Parameters
        ----------
        frame : pandas.DataFrame
        id, caption : str
        n : int, optional
            Number of seeds of each spread in the table: "0.91 ± 0.03", or a column "sd" or "AUROC sd". It gives
            `compare` the tolerance of the means. Omit it if the spread is not one of seeds. With `n=1` the columns
            "sd", "std", "AUROC sd" and so on may hold NaN, which is recorded as null.
        single_run : bool, default=False
            Whether the table shows a single run of a chaotic training, whose result differs between processors.
            `compare` then checks the columns and the number of rows only.

        Raises
        ------
        ResultsError
            If the id is malformed or already used, the caption or the table is empty, or two columns have the same
            name. Also if a cell is NaN or infinite; give the string "–" for a missing value.
        """
        _check_id(id, self.tables, "table")
        _check_text(caption, f"table {id!r}", "caption")
        if any(name is not None for name in frame.index.names):
            frame = frame.reset_index()
        columns = [str(column) for column in frame.columns]
        if not columns or not len(frame):
            raise ResultsError(f"table {id!r} is empty: {len(frame)} rows, {len(columns)} columns.")
        if isinstance(frame.columns, pd.MultiIndex) or len(set(columns)) < len(columns):
            raise ResultsError(f"table {id!r}: column names must be plain and differ, got {columns}.")
        undefined = {name for name in columns if n == 1 and name.split(" ")[-1] in SPREADS}
        rows = [
            [
                None
                if name in undefined and isinstance(cell, float) and math.isnan(cell)
                else _cell(cell, f"table {id!r}, row {row}, column {name!r}")
                for name, cell in zip(columns, cells)
            ]
            for row, cells in enumerate(frame.itertuples(index=False, name=None), start=1)
        ]
        comparison = _comparison(n, single_run, f"table {id!r}")
        self.tables[id] = {"caption": caption.strip(), "columns": columns, "rows": rows, **comparison}

    def figure(
        self,
        fig: Any,
        id: str,
        *,
        caption: str,
        alt: str,
        data: Any,
        n: int | None = None,
        single_run: bool = False,
    ) -> bytes:
        """Record a Matplotlib figure with its caption, text alternative and the numbers behind it.

        Parameters
        ----------
        fig : matplotlib.figure.Figure
            The caller should rasterise artists with very many points, to keep the SVG small.
        caption, alt : str
            The caption, and a description for readers who cannot see the figure. Neither may be empty.
        data : pandas.DataFrame or mapping of columns
            The numbers of the figure, written as CSV. An empty cell stands for a missing number.
        n, single_run
            Tolerance of `compare` for the CSV, as for `table`.

        Returns
        -------
        bytes
            The PNG, the same bytes for the same figure.

        Raises
        ------
        ResultsError
            If the id is malformed or already used by this or another notebook, or caption, alt text or data are
            missing.
        """
        _check_id(id, self.figures, "figure")
        _check_text(caption, f"figure {id!r}", "caption")
        _check_text(alt, f"figure {id!r}", "alt text")
        self._check_owner(id)
        frame = data if isinstance(data, pd.DataFrame) or data is None else pd.DataFrame(data)
        if frame is None or frame.empty:
            raise ResultsError(f"figure {id!r}: give the numbers of the figure as data=DataFrame.")
        named = any(name is not None for name in frame.index.names)
        csv = frame.to_csv(index=named, float_format=f"%.{SIGNIFICANT_DIGITS}g", lineterminator="\n")
        record: dict[str, Any] = {"caption": caption.strip(), "alt": alt.strip()}
        record |= _comparison(n, single_run, f"figure {id!r}")
        contents = dict(zip(KINDS, (png_bytes(fig), svg_bytes(fig), csv.encode())))
        record |= {kind: f"figures/{id}.{kind}" for kind in KINDS}
        record["sha256"] = {kind: hashlib.sha256(content).hexdigest() for kind, content in contents.items()}
        self._files |= {f"{id}.{kind}": content for kind, content in contents.items()}
        self.figures[id] = record
        return contents["png"]

    def save(self) -> Path:
        """Write the figures and the JSON, and remove figures that this notebook no longer draws.

        Another process that saves or reads the same results waits.
        """
        text = json.dumps(self.as_dict(), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        with locked(self.path):
            _finish_save(self.path)
            with atomic_path(_commit_folder(self.path)) as new:
                (new / "figures").mkdir(parents=True)
                for name, content in self._files.items():
                    (new / "figures" / name).write_bytes(content)
                (new / self.path.name).write_bytes(text.encode() + b"\n")
            _finish_save(self.path)
        return self.path

    def as_dict(self) -> dict[str, Any]:
        """The content of the JSON file."""
        return {
            "format": FORMAT,
            "notebook": self.name,
            "provenance": self.provenance,
            "values": self.values,
            "tables": self.tables,
            "figures": self.figures,
        }

    def _check_owner(self, id: str) -> None:
        """Raise an error for a figure id of another notebook, whose files would be overwritten."""
        for other in sorted(self.path.parent.glob("*.json")):
            if other != self.path and id in _figures_of(other):
                raise ResultsError(
                    f"figure {id!r} belongs to notebook {other.stem}; choose another id, "
                    f"or delete {other} if that notebook no longer draws it."
                )


def _check_id(id: str, taken: Mapping[str, Any], kind: str) -> None:
    if not isinstance(id, str) or not re.fullmatch("[a-z0-9_]+", id):
        raise ResultsError(f"{kind} {id!r}: use lower-case letters, digits and underscores only.")
    if id in taken:
        raise ResultsError(f"{kind} {id!r} is recorded twice; give the second one another name.")


def _check_count(n: Any, where: str) -> None:
    if n is not None and (isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1):
        raise ResultsError(f"{where}: n must be a positive whole number, got {n!r}.")


def _comparison(n: int | None, single_run: bool, where: str) -> dict[str, Any]:
    """The entries ``n`` and ``single_run`` of a table or figure, without default values."""
    _check_count(n, where)
    return ({} if n is None else {"n": int(n)}) | ({"single_run": True} if single_run else {})


def _check_text(text: str, where: str, what: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ResultsError(f"{where} has no {what}; write one sentence.")


def _number(number: Any, where: str) -> int | float:
    """The number rounded to the significant digits; integers are not changed."""
    if isinstance(number, np.ndarray) and number.ndim == 0:
        number = number[()]
    if isinstance(number, bool | np.bool_) or not isinstance(number, numbers.Real):
        raise ResultsError(f"{where}: expected a number, got {number!r} ({type(number).__name__}).")
    if isinstance(number, numbers.Integral):
        return int(number)
    if not math.isfinite(number):
        raise ResultsError(f"{where}: {number} is not a finite number. Find out where it comes from.")
    return float(f"{float(number):.{SIGNIFICANT_DIGITS}g}") + 0.0  # + 0.0 turns -0.0 into 0.0


def _cell(cell: Any, where: str) -> str | bool | int | float | None:
    """One cell of a table as a JSON value."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool | np.bool_):
        return bool(cell)
    return _number(cell, where)


def png_bytes(fig: Any) -> bytes:
    """The figure as PNG bytes, without the software version in its metadata."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def css_width(png: bytes) -> int:
    """The width at which a page shows the PNG of `png_bytes`, in CSS pixels of 1/96 inch."""
    return png_size(png)[0] * 96 // DOTS_PER_INCH


def svg_bytes(fig: Any) -> bytes:
    """The figure as SVG bytes without date and creator, with ids that depend on the content only.

    Images are not combined into one, because Matplotlib then applies their opacity twice.
    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "mmad", "image.composite_image": False}):
        metadata = {"Date": None, "Creator": None}
        fig.savefig(buffer, format="svg", dpi=DOTS_PER_INCH, bbox_inches="tight", metadata=metadata)
    return buffer.getvalue()


def read(path: Path) -> dict[str, Any]:
    """Read one results file; an interrupted save is completed first.

    Raises
    ------
    ResultsError
        If the file is not one that `Results.save` wrote; the message names it.
    """
    if _commit_folder(path).is_dir():
        with locked(path):
            _finish_save(path)
    return _read(path)


def mixed_figures(record: Mapping[str, Any], output: Path) -> list[Path]:
    """The existing files of figures whose hash differs from the record, because another run wrote them.

    Parameters
    ----------
    record : the result of `read`; figures of an earlier version, without hashes, are not checked
    output : Path, the folder to which the paths of the record are relative
    """
    hashes = {
        entry[kind]: sha for entry in record["figures"].values() for kind, sha in entry.get("sha256", {}).items()
    }
    found = {output / relative: sha for relative, sha in hashes.items() if (output / relative).is_file()}
    return [path for path, sha in found.items() if hashlib.sha256(path.read_bytes()).hexdigest() != sha]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sections = [content[section] for section in ("provenance", "values", "tables", "figures")]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ResultsError(f"{path} is not a results file ({error!r}); delete it and run its notebook.") from None
    if not all(isinstance(section, dict) for section in sections):
        raise ResultsError(f"{path} is not a results file; delete it and run its notebook.")
    if content.get("format") != FORMAT:
        raise ResultsError(
            f"{path} has format {content.get('format')}, this version reads {FORMAT}: delete the folder "
            f"{path.parent} and run `make report` again."
        )
    try:
        _check_id(content.get("notebook"), {}, "notebook")
        for section, entries in zip(("value", "table", "figure"), sections[1:]):
            for id, entry in entries.items():
                _check_id(id, {}, section)
                if not isinstance(entry, dict):
                    raise ResultsError(f"{section} {id!r} is no record.")
        for id, entry in content["figures"].items():
            hashes = entry.get("sha256", {})
            if not isinstance(hashes, dict) or not hashes.keys() <= set(KINDS):
                raise ResultsError(f"figure {id!r} has the hashes {hashes!r}.")
            for kind in KINDS:
                if not re.fullmatch(rf"figures/[a-z0-9_]+\.{kind}", str(entry.get(kind))):
                    raise ResultsError(f"figure {id!r} has the file {entry.get(kind)!r}.")
    except ResultsError as error:
        raise ResultsError(f"{path} is not a results file ({error}); delete it and run its notebook.") from None
    return content


def _figures_of(path: Path) -> dict[str, Any]:
    """The figures of a results file; empty if the file does not exist or has another format."""
    try:
        return _read(path)["figures"]
    except (ResultsError, FileNotFoundError):
        return {}


def _commit_folder(path: Path) -> Path:
    """The folder that holds all files of a save until they are moved."""
    return path.with_name(f".{path.stem}.commit")


def _finish_save(path: Path) -> None:
    """Move the files of an interrupted save to their final paths, the JSON last; the caller holds the lock."""
    commit, figures = _commit_folder(path), path.parent.parent / "figures"
    if (commit / path.name).is_file():
        figures.mkdir(exist_ok=True)
        for file in sorted((commit / "figures").iterdir()):
            os.replace(file, figures / file.name)
        for id in _figures_of(path).keys() - _read(commit / path.name)["figures"].keys():
            for kind in KINDS:
                (figures / f"{id}.{kind}").unlink(missing_ok=True)
        os.replace(commit / path.name, path)
    if commit.is_dir():
        shutil.rmtree(commit)
