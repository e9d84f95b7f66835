"""Copies of notebooks without solutions: nothing of a solution is left, and only its place fails."""

import nbformat
import pytest
from notebook_project import Project
from report_project import ROOT

from mmad_utils.course import __main__ as command_line
from mmad_utils.course import project as course_project
from mmad_utils.course.exercises import exercises_of, is_check, is_solution, student_copy

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TRIVIAL = 15  # characters; a shorter line, ")" or "# None.", says nothing


@pytest.fixture
def project(tmp_path, monkeypatch):
    project = Project(tmp_path / "project")
    monkeypatch.setattr(course_project, "ROOT", project.root)
    return project


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_line_of_a_solution_is_left_in_the_copy(path):
    whole = read(path)
    kept = {line.strip() for cell in whole.cells if not is_solution(cell) for line in cell.source.splitlines()}
    solved = {line.strip() for cell in whole.cells if is_solution(cell) for line in cell.source.splitlines()}
    secret = {line for line in solved - kept if len(line) > TRIVIAL}
    copy = nbformat.writes(student_copy(whole))
    text = "\n".join(cell.source for cell in nbformat.reads(copy, as_version=4).cells)
    assert len(secret) > 10
    assert [line for line in secret if line in text] == []
    assert '"solution"' not in copy
    assert "py:percent" not in copy, "JupyterLab would write a paired source beside the copy"


def test_outputs_of_a_notebook_that_ran_do_not_tell_the_answers(project):
    whole = read(project.notebook)
    for cell in whole.cells:
        if cell.cell_type == "code":
            cell.outputs = [nbformat.v4.new_output("stream", text="42")]
    assert not any(cell.get("outputs") for cell in student_copy(whole).cells)
    assert whole.cells[-1].outputs, "the notebook itself is left as it is"


def test_every_cell_of_a_solution_leaves_one_cell_to_write(project):
    whole = read(project.notebook)
    copy = student_copy(whole)
    shown = [cell for cell in whole.cells if not is_check(cell)]
    assert [cell.id for cell in copy.cells] == [cell.id for cell in shown]
    places = [cell for cell in copy.cells if "exercise" in cell.metadata.get("tags", [])]
    assert [cell.cell_type for cell in places] == ["code", "code", "markdown", "code", "code"]
    assert "2. Change: fewer draws" in places[1].source and "Exercise 2: your code here" in places[1].source
    assert places[2].source == "Your answer:"
    others = [(a.source, b.source) for a, b in zip(shown, copy.cells) if not is_solution(a)]
    assert all(a == b for a, b in others)


def test_the_copy_runs_and_fails_only_where_the_learner_must_write(project):
    written = project.command("-m", "mmad_utils.course", "student")
    assert written.returncode == 0, written.stderr
    path = project.root / "build" / "student" / "small.ipynb"
    assert path.with_name("glossary.md").exists(), "notebooks link to it"
    run = ("-m", "nbconvert", "--execute", "--to", "notebook", "--inplace", str(path))
    ran = project.command(*run, cwd=project.root)
    assert ran.returncode == 0, ran.stderr
    failed = {}
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                failed[output.evalue] = cell.metadata["tags"]
    assert failed.keys() == {f"Exercise {number}: your code here" for number in (1, 2, 3, 4)}
    assert all("exercise" in tags for tags in failed.values())
    assert not (project.root / "build" / "default").exists(), "the report's results are not touched"


def test_the_copy_is_the_notebook_again_with_the_solutions_written_in(project):
    whole = read(project.notebook)
    copy = student_copy(whole)
    solutions = [cell for exercise in exercises_of(whole) for cell in exercise.solution]
    places = [cell for cell in copy.cells if "exercise" in cell.metadata.get("tags", [])]
    for place, solution in zip(places, solutions, strict=True):
        place.source = solution.source
    assert [(cell.cell_type, cell.source) for cell in copy.cells] == [
        (cell.cell_type, cell.source) for cell in whole.cells if not is_check(cell)
    ]


def test_checks_of_statements_are_left_out_unless_asked_for(project, capsys):
    tags = [cell.metadata.get("tags", []) for cell in student_copy(read(project.notebook)).cells]
    assert ["claim"] not in tags and ["results"] not in tags
    assert command_line.main(["student", "--claims"]) == 0
    copy = read(project.root / "build" / "student" / "small.ipynb")
    tags = [cell.metadata.get("tags", []) for cell in copy.cells]
    assert ["claim"] in tags and ["results"] not in tags


def test_what_the_learner_wrote_is_kept(project, monkeypatch, capsys):
    assert command_line.main(["student"]) == 0
    path = project.root / "build" / "student" / "small.ipynb"
    path.write_text("mine")
    assert command_line.main(["student"]) == 0
    assert path.read_text() == "mine"
    assert "small.ipynb kept as it is; delete it for a fresh one" in capsys.readouterr().out


def test_no_copy_is_written_of_a_notebook_that_is_not_in_order(project, capsys):
    project.edit(lambda content: content.cells.pop())
    assert command_line.main(["student"]) == 1
    assert "run `make notebooks`" in capsys.readouterr().err
    project.write(project.notebook.with_name("src").joinpath("small.py").read_text().replace("2. Change", "2. Alter"))
    assert command_line.main(["student"]) == 1
    assert "exercises are numbered [1, 3, 4]" in capsys.readouterr().err
    assert not (project.root / "build").exists()
