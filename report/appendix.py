"""The tables of the appendix: data sets, versions, parameters, run times, the computer, and other libraries' times.

No notebook records them. They are computed from the provenance of the results, the manifest of the data sets,
`requirements.lock`, the executed notebooks, the computer that builds the report, and `benchmarks/speed.csv`. A report
contains them like any other table.
"""

import csv
import hashlib
import json
import os
import platform
import re
import tomllib
from pathlib import Path
from typing import Any

from mmad_utils.course.project import ROOT as PROJECT_ROOT
from mmad_utils.datasets.record import manifest

DIGITS = 12  # of a sha256: enough to distinguish files


def tables(provenance: dict[str, dict[str, Any]], executed: Path) -> dict[str, dict[str, Any]]:
    """Tables by id, in the format of `Results`; cells with sentences may have line breaks."""
    found = {
        "appendix_data": (
            "Data sets of this report, from the manifest of mmad_utils.datasets.",
            ["data set", "what", "origin", "licence"],
            _data(provenance),
        ),
        "appendix_hashes": (
            f"Content of the data sets, by the seed of their split: the first {DIGITS} digits of its sha256.",
            ["data set", "sha256"],
            _hashes(provenance),
        ),
        "appendix_packages": (
            "Versions of the packages, from requirements.lock.",
            ["package", "version"],
            _packages(),
        ),
        "appendix_parameters": (
            "Parameters of the notebooks.",
            ["notebook", "parameters"],
            [[name, _listed(recorded["parameters"])] for name, recorded in sorted(provenance.items())],
        ),
        "appendix_runs": (
            "Run time of each notebook as it was executed last on the computer below, and what made its results. "
            f"The latter are the first {DIGITS} digits of the sha256 of its source, of the modules of mmad_utils "
            "that it loaded and of requirements.lock.",
            ["notebook", "run time (s)", "source", "mmad_utils", "lock"],
            [
                [name, _seconds(executed / f"{name}.ipynb"), *_sources(made)]
                for name, made in sorted(provenance.items())
            ],
        ),
        "appendix_computer": (
            "The computer that built this report; make report runs the notebooks on the same one.",
            ["part", "is"],
            _computer(),
        ),
        "appendix_speed": (
            "Seconds of this package and of other libraries for the same work on one thread, and their ratio: "
            "medians over the repetitions. Measured by make bench; benchmarks/README.md has the settings, the "
            "computer, two threads and memory. The other library's pixel AUROC and average precision are "
            "torchmetrics'.",
            ["work", "library", "this package (s)", "library (s)", "times faster"],
            _speed(PROJECT_ROOT / "benchmarks" / "speed.csv"),
        ),
    }
    return {
        key: {"caption": caption, "columns": columns, "rows": rows, "notebook": None, "prose": True}
        for key, (caption, columns, rows) in found.items()
        if rows
    }


def _names(provenance: dict[str, dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Data set -> {seed: sha256}, over all notebooks."""
    names: dict[str, dict[str, str]] = {}
    for recorded in provenance.values():
        for key, digest in recorded["data"].items():
            name, _, seed = key.removesuffix(")").partition(" (seed ")
            names.setdefault(name, {})[seed or "0"] = digest
    return names


def _data(provenance: dict[str, dict[str, Any]]) -> list[list[str]]:
    """One row for each entry of the manifest with a data set of the report."""
    rows = []
    for entry in manifest():
        pattern = re.sub("<[a-z]+>", "[^ ]+", entry["name"])
        if any(re.fullmatch(pattern, name) for name in _names(provenance)):
            rows.append([entry["name"], entry["description"], entry["source"], entry["licence"]])
    return rows


def _hashes(provenance: dict[str, dict[str, Any]]) -> list[list[str]]:
    return [
        [name, ", ".join(f"{seed}: {digest[:DIGITS]}" for seed, digest in sorted(by_seed.items()))]
        for name, by_seed in sorted(_names(provenance).items())
    ]


def _packages() -> list[list[str]]:
    """The packages of pyproject.toml, with their versions in the lock file."""
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["course"], *extras["report"]]
    lock = (PROJECT_ROOT / "requirements.lock").read_text(encoding="utf-8")
    versions = dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)", lock, re.MULTILINE))
    names = sorted(re.match(r"[\w.-]+", line)[0] for line in lines)  # type: ignore[index]
    return [[name, versions[name]] for name in names if name in versions]


def _listed(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(parameters.items()))


def _seconds(notebook: Path) -> int | None:
    """Run time of papermill, or None if there is no executed copy."""
    if not notebook.exists():
        return None
    duration = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("papermill", {}).get("duration")
    return None if duration is None else round(duration)


def _sources(recorded: dict[str, Any]) -> list[str]:
    modules = hashlib.sha256(json.dumps(recorded["modules"], sort_keys=True).encode()).hexdigest()
    return [digest[:DIGITS] for digest in (recorded["notebook_source"], modules, recorded["lock"])]


def _computer() -> list[list[str]]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    rows = [
        ["system", f"{platform.system()} {platform.machine()}"],
        ["processor", _processor()],
        ["cores", str(os.cpu_count())],
        ["memory", f"{memory:.0f} GiB" if memory else "–"],
        ["Python", platform.python_version()],
    ]
    return rows


def _speed(table: Path) -> list[list[Any]]:
    """The rows of one thread of the table that `benchmarks/page.py` writes."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["threads"] == "1"]
    return [[r["what"], r["library"], float(r["mmad"]), float(r["peer"]), float(r["ratio"])] for r in rows]


def _processor() -> str:
    """The processor's name, if the system provides it."""
    information = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", information.read_text()) if information.exists() else None
    return named[1] if named else platform.processor() or platform.machine()
