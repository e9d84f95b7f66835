"""What a report needs is known before anything slow starts: parameters, data sets, weights."""

import os

import pytest
from notebook_project import SOURCE, Project

from mmad_utils.course import inputs, notebook_files, runner
from mmad_utils.course import project as course_project
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.datasets import DatasetError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small notebook with two parameters that name data sets, in a folder without data and without a network."""
    project = Project(tmp_path / "project")
    monkeypatch.setattr(course_project, "ROOT", project.root)
    source = SOURCE.replace('title: str = "Draws"', 'title: str = "digits/3"')
    project.write(source.replace('["a", "b"]', '["breast_cancer"]'))
    monkeypatch.setenv("MMAD_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("MMAD_SET", "")

    def no_network(name, home):
        raise DatasetError(f"no connection. Put {name} below {home}.")

    monkeypatch.setattr(inputs, "fetch", no_network)
    return project


@pytest.fixture
def started(monkeypatch):
    """The command lines with which this process would have been replaced."""
    commands = []
    monkeypatch.setattr(runner.os, "execv", lambda path, command: commands.append(command))
    monkeypatch.setattr(runner.os, "chdir", lambda folder: None)
    return commands


def test_values_of_the_command_line_reach_the_notebooks_that_have_the_parameter(project, started):
    (project.root / "Snakefile").write_text("")
    runner.build_report("smoke", ["seed=3", "columns=[digits/1, digits/2]"])
    assert started and os.environ["MMAD_SET"] == "seed=3\ncolumns=[digits/1, digits/2]"
    values = notebook_files.parameter_values("small", "smoke")
    assert values["seed"] == 3 and values["columns"] == ["digits/1", "digits/2"] and values["share"] == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sede=3", "no notebook has a parameter 'sede'. Did you mean 'seed'"),
        ("seed=three", "SET, small: parameter 'seed' takes int, got 'three'"),
        ("seed=-1", "'seed' is at least 0"),
        ("seed", "expected PARAMETER=VALUE"),
        ("title=mvtec/zipper", r"mvtec/zipper \(small.title\): no connection. Put mvtec/zipper below .*data"),
        ("title=thyriod", r"thyriod \(small.title\): unknown data set .*Did you mean 'thyroid'"),
        ("columns=[textures/brik]", r"textures/brik \(small.columns\): there is no such data set"),
        ("title=mvtec/../../etc", "unknown data set"),
    ],
)
def test_a_report_is_refused_before_anything_starts(project, started, value, message):
    with pytest.raises(NotebookError, match=message):
        runner.build_report("smoke", [value])
    assert not started


def test_all_that_is_missing_is_named_at_once(project, started):
    with pytest.raises(NotebookError) as refused:
        runner.build_report("smoke", ["title=mvtec/bottle", "columns=[mvtec/zipper]"])
    assert "mvtec/bottle (small.title)" in str(refused.value) and "mvtec/zipper (small.columns)" in str(refused.value)


def test_the_inputs_of_notebooks_whose_results_are_up_to_date_are_not_checked(project, started, monkeypatch):
    (project.root / "Snakefile").write_text("")
    monkeypatch.setattr(runner, "stale_reasons", lambda name, profile, output: [])
    runner.build_report("smoke", ["title=mvtec/bottle"])
    assert started


def test_a_missing_data_set_is_fetched(project, started, monkeypatch):
    fetched = []
    monkeypatch.setattr(inputs, "fetch", lambda name, home: fetched.append(name))
    monkeypatch.setenv("MMAD_SET", "title=mvtec/zipper")

    def load(name):
        if not fetched:
            raise inputs.FilesMissingError("not there")

    monkeypatch.setattr(inputs, "load", load)
    inputs.require_inputs(["small"], "smoke")
    assert fetched == ["mvtec/zipper"]
