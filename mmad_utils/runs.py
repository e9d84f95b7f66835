"""Run files: one JSON line per measured run, with the commit, the machine and the package versions of the run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mmad_utils.files import locked

__all__ = ["RunFile", "RunFileError", "provenance", "with_provenance"]

PACKAGES = ("numpy", "scikit-learn", "torch")
DIGITS = 6  # significant digits of the floats in a run file


class RunFileError(ValueError):
    """A run file that cannot be read or written; the message names the file and the line."""


class RunFile:
    """A file of runs to which one line is appended when a run ends; an interrupted measurement can be resumed.

    Several processes may append to one file. ``rows`` are its runs when it was opened or last read with
    ``read_again``, and those that this object has appended since.

    Parameters
    ----------
    path : str or Path
        Created if it does not exist; its name usually ends in ``.jsonl``.
    keys : sequence of str
        Names of the entries that identify a run, for ``find``.

    Raises
    ------
    RunFileError
        The path is a folder, its folder cannot be written to, or a line is not a JSON object. An incomplete last
        line, which a killed process leaves, is removed without an error.
    """

    def __init__(self, path: str | Path, keys: Iterable[str] = ("detector", "dataset", "seed")):
        self.path, self.keys = Path(path), tuple(keys)
        self.read_again()

    def read_again(self) -> None:
        """Read the file again, with the runs that other processes have appended."""
        try:
            with locked(self.path):
                self.path.touch()
                self._read()
        except OSError as error:
            raise RunFileError(f"{self.path} cannot be written ({error.strerror}): give another file.") from error

    def _read(self) -> None:
        """Parse all complete lines; truncate an incomplete line at the end."""
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        self.rows: list[dict[str, Any]] = [
            _parsed(self.path, i, line) for i, line in enumerate(whole.splitlines(), 1)
        ]
        self._found = {self._key(row): row for row in self.rows}
        if whole != content:
            os.truncate(self.path, len(whole))

    def find(self, run: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last run with the same values of ``keys``, or None if there is none."""
        return self._found.get(self._key(run))

    def append(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Append a run and its provenance as one line; return the run as it was written."""
        whole = with_provenance(row)
        with locked(self.path), self.path.open("ab") as file:
            file.write(json.dumps(whole, ensure_ascii=False).encode() + b"\n")
        self.rows.append(whole)
        self._found[self._key(whole)] = whole
        return whole

    def _key(self, run: Mapping[str, Any]) -> str:
        return json.dumps([run.get(key) for key in self.keys], sort_keys=True)


def with_provenance(row: Mapping[str, Any]) -> dict[str, Any]:
    """A run as it is stored in JSON: floats rounded, provenance added."""
    return json.loads(json.dumps({key: _rounded(value) for key, value in row.items()} | provenance()))


@lru_cache(maxsize=1)
def provenance() -> dict[str, str]:
    """``commit`` (with ``+`` if the package has been changed since), ``machine`` (processor, cores), ``versions``."""
    folder = Path(__file__).resolve().parent
    commit = _git(folder, "rev-parse", "--short=10", "HEAD")
    changed = bool(commit) and bool(_git(folder, "status", "--porcelain", "--untracked-files=no", "--", str(folder)))
    versions = [f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    return {
        "commit": commit + "+" * changed if commit else f"mmad {version('mmad')}",
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "versions": ", ".join(versions),
    }


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command; empty if git is not installed or the folder is not in a checkout."""
    try:
        ran = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _processor() -> str:
    """The processor's model and its widest vector instructions, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    vectors = next(
        (name for flag, name in (("avx512f", " with AVX-512"), ("avx2", " with AVX2")) if flag in flags), ""
    )
    return facts.get("model name", platform.machine()) + vectors


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise RunFileError(f"{path}, line {number}: not JSON ({error}). Remove the line or the file.") from error
    if not isinstance(row, dict):
        raise RunFileError(f"{path}, line {number}: not a JSON object. Remove the line or the file.")
    return row
