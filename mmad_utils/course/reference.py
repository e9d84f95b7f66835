"""The reference results that the repository keeps: results, figures and pages of the default profile."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmad_utils.course import notebook_files, project
from mmad_utils.course.provenance import stale_reasons
from mmad_utils.course.results import ResultsError

PAGES = ("report.en.html", "report.zh.html")


def accept() -> list[Path]:
    """Replace the reference by the results, figures and pages of ``build/default``; returns the three folders.

    Raises
    ------
    ResultsError
        If a result or a page is missing or stale; nothing is replaced.
    """
    build = project.build_home() / "default"
    for name in notebook_files.profile_values("default"):
        for reason in stale_reasons(name, "default", build):
            raise ResultsError(f"{reason}: run `make report` first.")
    for page in PAGES:
        if not (build / "report" / page).is_file():
            raise ResultsError(f"{build / 'report' / page} is missing: run `make report` first.")
    folders = {build / "results": project.ROOT / "report" / "results", build / "figures": project.ROOT / "figures"}
    for source, target in folders.items():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, copy_function=shutil.copyfile)
    for page in PAGES:
        shutil.copyfile(build / "report" / page, project.ROOT / "report" / page)
    return [*folders.values(), project.ROOT / "report"]
