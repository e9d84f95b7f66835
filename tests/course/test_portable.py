"""Comparing the notebooks under other instruction sets, without running them."""

import json

import pytest

from mmad_utils.course import __main__ as command_line
from mmad_utils.course import portable, project
from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.course.results import FORMAT


@pytest.fixture
def natural(tmp_path, monkeypatch):
    """A project with results of the natural instruction set, on an x86 processor on which all settings work."""
    monkeypatch.setattr(project, "ROOT", tmp_path)
    monkeypatch.setattr(portable.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(portable, "probe", lambda setting: setting)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "default.yaml").write_text("small: {}\nother: {}\n")
    write(tmp_path / "build" / "default" / "results", 1.0)
    return tmp_path / "build"


def write(folder, number):
    """Results of two notebooks with one value each."""
    folder.mkdir(parents=True)
    for name in ("small", "other"):
        value = {"value": number, "sd": None, "n": None, "unit": ""}
        record = {"format": FORMAT, "notebook": name, "provenance": {}, "values": {"a": value}}
        (folder / f"{name}.json").write_text(json.dumps(record | {"tables": {}, "figures": {}}))


def test_failures_and_differences_of_each_setting_are_reported(natural, monkeypatch, capsys):
    setting = next(iter(portable.SETTINGS))

    def run_all(setting, names, jobs):
        write(natural / "portable" / setting / "results", 2.0)
        return [f"{setting}: {names} failed with {jobs} jobs"]

    monkeypatch.setattr(portable, "run_all", run_all)
    assert command_line.main(["portable", "small", "--settings", setting, "--jobs", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{setting}: ['small'] failed with 3 jobs"
    assert lines[1].startswith(f"{setting}: small: ") and "a" in lines[1]
    assert lines[2:] == ["2 differences or failures."]


def test_a_notebook_that_fails_is_named_with_its_setting(natural, monkeypatch):
    setting = next(iter(portable.SETTINGS))
    monkeypatch.setattr(portable.sys, "executable", "/bin/false")
    assert portable.run_all(setting, ["small"], 1) == [f"{setting}: "]


def test_a_setting_without_an_effect_on_this_processor_is_left_out(natural, monkeypatch, capsys):
    without, effective, *_ = portable.SETTINGS
    monkeypatch.setattr(portable, "probe", lambda setting: setting if setting == portable.SETTINGS[effective] else {})
    monkeypatch.setattr(portable, "run_all", lambda setting, names, jobs: [f"{setting} ran"])
    monkeypatch.setattr(portable, "compare", lambda old, new: [])
    assert list(portable.portable([without, effective], [], 1)) == [f"{effective} ran"]
    assert f"{without}: left out, same as natural" in capsys.readouterr().err
    with pytest.raises(NotebookError, match=f"of the settings {without}, none has an effect on this processor"):
        next(portable.portable([without], [], 1))


def test_a_probe_that_fails_is_shown(monkeypatch):
    monkeypatch.setattr(portable, "PROBE", "raise SystemExit('no such instruction')")
    with pytest.raises(NotebookError, match="does not work on this computer:\nno such instruction"):
        portable.probe({})
    monkeypatch.setattr(portable, "PROBE", "import os; print('noise'); print('{\"a\": ' + os.environ['A'] + '}')")
    assert portable.probe({"A": "3"}) == {"a": 3}


def test_other_processors_and_missing_results_are_refused(natural, monkeypatch):
    for path in (natural / "default" / "results").iterdir():
        path.unlink()
    with pytest.raises(NotebookError, match="holds no results to compare with"):
        next(portable.portable([], [], 1))
    monkeypatch.setattr(portable.platform, "machine", lambda: "arm64")
    with pytest.raises(NotebookError, match="this is a arm64"):
        next(portable.portable([], [], 1))
