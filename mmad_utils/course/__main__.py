"""Command line of the course: ``python -m mmad_utils.course COMMAND``; --help lists the commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmad_utils.course import licences, notebook_files, project
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.course.portable import SETTINGS, portable
from mmad_utils.course.reference import accept
from mmad_utils.course.results import ResultsError
from mmad_utils.course.runner import build_report, run
from mmad_utils.course.tolerances import compare
from mmad_utils.files import write_atomic


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status, 0 without an error."""
    parser = argparse.ArgumentParser(prog="python -m mmad_utils.course", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="execute one notebook")
    command.add_argument("name", metavar="NAME", help="as in 01_task2_padim")
    command.add_argument("--profile", default="default", help="profiles/PROFILE.yaml")
    command.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    command.add_argument("--output", type=Path, metavar="DIR", help="for results, figures and the executed copy")
    command = commands.add_parser("report", help="build the report of a profile, as `make report` does")
    command.add_argument("--profile", default="default", help="profiles/PROFILE.yaml")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="for all notebooks with this parameter"
    )
    commands.add_parser("check", help="check the form of all notebooks and profiles")
    commands.add_parser("sync", help="make notebooks and their sources equal; the file saved last is kept")
    command = commands.add_parser(
        "student", help="write copies without solutions to build/student, unless they exist"
    )
    command.add_argument("--claims", action="store_true", help="keep the cells that check statements of the text")
    command = commands.add_parser("compare", help="print differences beyond the tolerances; exit 1 if any")
    command.add_argument("old", type=Path, metavar="OLD_DIR")
    command.add_argument("new", type=Path, metavar="NEW_DIR")
    commands.add_parser("accept", help="replace the reference results, figures and pages by build/default")
    commands.add_parser("licences", help="update the list of licences in NOTICE; exit 1 if one is not allowed")
    command = commands.add_parser("portable", help="run the notebooks under other instruction sets, and compare")
    command.add_argument("names", nargs="*", metavar="NAME", help="default: all notebooks")
    command.add_argument("--settings", default=",".join(SETTINGS), help="default: %(default)s")
    command.add_argument("--jobs", type=int, default=2, help="notebooks that run at the same time, default 2")
    options = parser.parse_args(arguments)
    try:
        if options.command == "compare":
            differences = compare(options.old, options.new)
            print(*differences, sep="\n", end="\n" if differences else "")
            print(f"{len(differences)} differences beyond the tolerances between {options.old} and {options.new}.")
            return 1 if differences else 0
        if options.command == "portable":
            found = list(portable(options.settings.split(","), options.names, options.jobs))
            print(*found, f"{len(found)} differences or failures.", sep="\n")
            return 1 if found else 0
        if options.command == "licences":
            write_atomic(project.ROOT / "NOTICE", licences.notice(look_up=True).encode())
            return 0
        if options.command == "report":
            build_report(options.profile, options.set)
        if options.command == "run":
            notebook = notebook_files.read_notebook(notebook_files.notebook_path(options.name))
            known = notebook_files.parameters_of(notebook, options.name)
            given = {key: notebook_files.value_from_text(text, known.get(key)) for key, text in options.parameters}
            print(run(options.name, options.profile, given, options.output))
            return 0
        names = notebook_files.profile_values("default")
        if options.command == "accept":
            found = [f"{folder} renewed" for folder in accept()]
        elif options.command == "sync":
            found = [line for line in map(notebook_files.sync, names) if line]
        elif options.command == "student":
            found = [notebook_files.write_student_copy(name, options.claims) for name in names]
        else:
            found = list(notebook_files.problems())
    except (NotebookError, ResultsError, licences.LicenceError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(found) or f"{len(names)} notebooks, nothing to report.")
    return 1 if found and options.command == "check" else 0


if __name__ == "__main__":
    sys.exit(main())
