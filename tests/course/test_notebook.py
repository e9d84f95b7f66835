"""Notebooks: strict parameters before a kernel starts, the same results from every runner, a readable failure."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
from notebook_project import SOURCE, Project

from mmad_utils.course import __main__ as command_line
from mmad_utils.course import kernel, notebook, notebook_files, provenance, reference, results, runner
from mmad_utils.course import project as course_project
from mmad_utils.course.notebook_files import NotebookError

MODULES = ["mmad_utils", "mmad_utils.metrics"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.delenv("MMAD_OUTPUT", raising=False)
    project = Project(tmp_path / "project")
    monkeypatch.setattr(course_project, "ROOT", project.root)
    return project


@pytest.fixture
def no_kernel(monkeypatch):
    """Fails the test when a notebook would be executed."""
    monkeypatch.setattr(runner, "_execute", lambda *arguments: pytest.fail("a kernel would have started"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of results and figures below a folder."""
    paths = [*(folder / "results").rglob("*.*"), *(folder / "figures").rglob("*.*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sede": 1}, "no parameter 'sede'. Did you mean 'seed'"),
        ({"seed": "1"}, r"'seed' takes int, got '1' \(str\)"),
        ({"seed": 1.5}, r"'seed' takes int, got 1.5 \(float\)"),
        ({"seed": True}, r"'seed' takes int, got True \(bool\)"),
        ({"seed": -1}, "'seed' is at least 0, got -1"),
        ({"title": 3}, r"'title' takes str, got 3 \(int\)"),
        ({"share": "half"}, r"'share' takes float, got 'half' \(str\)"),
        ({"columns": ["a", 1]}, r"'columns' takes list\[str\]"),
        ({"columns": "a"}, r"'columns' takes list\[str\]"),
    ],
)
def test_misspelt_and_mistyped_parameters_stop_the_run_before_a_kernel(project, no_kernel, values, message):
    with pytest.raises(NotebookError, match=message):
        runner.run("small", parameters=values)
    (project.root / "profiles" / "smoke.yaml").write_text(json.dumps({"small": values}))
    with pytest.raises(NotebookError, match=message):
        runner.run("small", profile="smoke")
    assert not (project.root / "build").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (' tags=["parameters"]', "", "0 cells are tagged 'parameters'"),
        ("axes.set_title(title)\n", "", "no code cell reads parameter 'title'"),
        ("axes.set_title(title)", "title = 'fixed'", "no code cell reads parameter 'title'"),
        ("seed: int = 0", "seed = 0", "not of the form 'name: type = value"),
        ("seed: int = 0", "seed: int = len('')", "'seed' must be a literal"),
        ("seed: int = 0", "seed: int = 'zero'", "'seed' takes int, got 'zero'"),
        ("seed: int", "seed: Seed", "'Seed' is not a type of a parameter"),
        ("fig, axes =", "fig, axes = =", "cell 5, line 1: not plain Python"),
    ],
)
def test_a_notebook_that_is_not_in_order_stops_the_run_before_a_kernel(project, no_kernel, old, new, message):
    assert old in SOURCE
    project.write(SOURCE.replace(old, new))
    with pytest.raises(NotebookError, match=message):
        runner.run("small")


def test_a_notebook_that_differs_from_its_source_stops_the_run(project, no_kernel):
    project.edit(lambda content: content.cells[3].update(source="share, columns"))
    with pytest.raises(NotebookError, match=r"differ in cell 4; run `make notebooks`"):
        runner.run("small")


def test_unknown_notebooks_and_profiles_are_answered_with_the_nearest_name(project, no_kernel):
    with pytest.raises(NotebookError, match="Did you mean 'small'"):
        runner.run("smal")
    with pytest.raises(NotebookError, match="Did you mean 'smoke'"):
        runner.run("small", profile="smok")


def test_an_integer_will_do_for_a_float(project, monkeypatch):
    monkeypatch.setattr(runner, "_execute", lambda *arguments: None)
    with pytest.raises(NotebookError, match="wrote no"):  # which is said after the run
        runner.run("small", profile="smoke")


def test_values_of_the_command_line_take_the_type_of_their_parameter(project):
    known = notebook_files.parameters_of(notebook_files.read_notebook(project.notebook), "small")
    texts = {"seed": "3", "share": "1e-3", "title": "3", "columns": "['a']"}
    values = {key: notebook_files.value_from_text(text, known[key]) for key, text in texts.items()}
    assert values == {"seed": 3, "share": 1e-3, "title": "3", "columns": ["a"]}
    notebook_files.check_values(values, known, "test")
    assert notebook_files.value_from_text("true", None) is True
    assert notebook_files.value_from_text("[mvtec/zipper, textures/brick]", None) == [
        "mvtec/zipper",
        "textures/brick",
    ]


def test_start_reads_the_parameters_from_the_variables_of_the_notebook(project):
    exec(
        "nb = notebook.start('small')",
        variables := {"notebook": notebook, "seed": 1, "share": 0.5, "title": "Draws", "columns": ["a"]},
    )
    assert variables["nb"].parameters == {"seed": 1, "share": 0.5, "title": "Draws", "columns": ["a"]}
    with pytest.raises(NotebookError, match="run the cell of the parameters first; 'seed' is not defined"):
        exec("notebook.start('small')", {"notebook": notebook})
    variables["seed"] = "1"
    with pytest.raises(NotebookError, match="'seed' takes int"):
        exec("notebook.start('small')", variables)


def test_a_started_notebook_shows_the_whole_text_of_a_cell(project):
    exec("notebook.start('small')", {"notebook": notebook, **notebook_files.defaults("small")})
    assert "x" * 200 in pd.DataFrame({"text": ["x" * 200]}).to_html()


def test_captions_are_filled_in_and_errors_in_them_are_named(project):
    exec("nb = notebook.start('small')", variables := {"notebook": notebook, **notebook_files.defaults("small")})
    nb = variables["nb"]
    frame = pd.DataFrame({"a": [1.0]})
    nb.table(frame, "summary")
    assert nb.results.tables["summary"]["caption"] == "Mean and spread, seed 0."
    with pytest.raises(NotebookError, match=r"small\.yaml: tables, unknown: there is no 'unknown'"):
        nb.table(frame, "unknown")
    project.captions.write_text("tables: {summary: {caption: 'Of {n_words}.'}}")
    with pytest.raises(NotebookError, match="there is no 'n_words'"):
        nb.table(frame, "summary")
    for text in ("tables: [", "tables: {a: b}", "tables: {a: {caption: 1}}", "words: {}"):
        project.captions.write_text(text)
        with pytest.raises(NotebookError, match=r"small\.yaml"):
            notebook_files.captions("small")
    project.captions.unlink()
    with pytest.raises(NotebookError, match="expected 'figures"):
        notebook_files.captions("small")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.cells[3].update(execution_count=1), "cell 4: clear the outputs"),
        (
            lambda content: content.cells[3].update(source="share, columns\n" * 16),
            "cell 4: more than 15 lines",
        ),
        (lambda content: content.cells[3].update(source="share, columns"), "differ in cell 4"),
        (lambda content: content.cells.pop(-2), "differ in cell 16"),
        (lambda content: content.cells[3].update(id=content.cells[4]["id"]), "id of its own"),
        (lambda content: content.metadata.pop("kernelspec"), "needs the kernel 'python3'"),
        (lambda content: content.metadata.update(jupytext={"formats": "ipynb,py:light"}), "does not pair"),
    ],
)
@pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")
def test_check_names_what_is_wrong_with_a_notebook(project, change, message):
    assert list(notebook_files.problems()) == []
    content = json.loads(project.notebook.read_text())
    node = nbformat.from_dict(content)
    change(node)
    project.notebook.write_text(json.dumps(node))
    assert any(message in problem for problem in notebook_files.problems())
    assert command_line.main(["check"]) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: int = 0  # of the draw, at least 0", "seed: int = 0", "'seed' has no comment"),
        ('notebook.start("small"', 'notebook.start("other"', "expected one call notebook.start('small'"),
        ("**2. Change: fewer", "**Change: fewer", "exercises are numbered [1, 3, 4]"),
        ("**2. Change: fewer", "**2. Build: fewer", "no exercise '**1. Change: title.** task'"),
        ("assert counted_draws", "counted_draws", "exercise 3 has no solution with an assertion"),
        ("# **1. Predict: the mean.**", "#", "a solution stands above every exercise"),
        ("\nnb.finish()", "\nprint(fewer_draws)\nnb.finish()", "reads 'fewer_draws', which only a solution defines"),
        ("if seed == 13", "if summary is None", "reads 'summary', which only a check defines"),
        (' tags=["claim"]', "", "cell 6: tag a cell that checks a statement 'claim'"),
        (' tags=["results"]', "", "move nb.value(...) to the cell tagged 'results'"),
        (' tags=["results"]', "", "expected one cell tagged 'results', the last one with code"),
        ("<details>", "", "exercise 1 has no hint"),
        ("**4. On paper", "**4. Build", "no exercise '**1. On paper: title.** task'"),
        ('nb.figure(fig, "draws"', 'nb.figure(fig, "other"', "figure 'other' has no entry in small.yaml"),
        ('nb.figure(fig, "draws"', "print(fig", "small.yaml, figures: 'draws' is not used"),
    ],
)
def test_check_reads_the_code(project, old, new, message):
    project.write(SOURCE.replace(old, new))
    assert any(message in problem for problem in notebook_files.problems())


def test_the_settings_of_the_project_pair_notebooks_with_their_sources(project):
    assert notebook_files.is_paired("small")
    (project.root / "pyproject.toml").write_text("")
    assert not notebook_files.is_paired("small")
    assert any("[tool.jupytext] of pyproject.toml" in problem for problem in notebook_files.problems())


def test_check_holds_profiles_and_notebooks_together(project):
    (project.root / "notebooks" / "src" / "unlisted.py").write_text("x = 1\n")
    (project.root / "profiles" / "default.yaml").write_text("small: {seed: 1}\n")
    assert any("unlisted is not listed" in problem for problem in notebook_files.problems())
    assert any("must leave the parameters" in problem for problem in notebook_files.problems())
    (project.root / "profiles" / "smoke.yaml").write_text("small: {sede: 1}\n")
    assert any("Did you mean 'seed'" in problem for problem in notebook_files.problems())


def test_sync_lets_the_file_saved_last_win_and_keeps_the_ids(project):
    source = project.root / "notebooks" / "src" / "small.py"
    ids = [cell["id"] for cell in nbformat.read(project.notebook, as_version=4).cells]
    assert notebook_files.sync("small") is None
    source.write_text(SOURCE.replace("size=(20,", "size=(30,"))
    os.utime(project.notebook, (1, 1))
    assert notebook_files.sync("small") == "small.ipynb written from small.py"
    after = nbformat.read(project.notebook, as_version=4)
    assert "size=(30," in after.cells[3].source
    assert sum(cell["id"] == id for cell, id in zip(after.cells, ids)) >= len(ids) - 1
    project.edit(lambda content: content.cells[3].update(source="share = 2"))
    os.utime(source, (1, 1))
    assert notebook_files.sync("small") == "small.py written from small.ipynb"
    assert "share = 2" in source.read_text()
    assert notebook_files.sync("small") is None


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A project whose notebook was executed, the finished process, and the TCP ports that it opened."""
    project = Project(tmp_path_factory.mktemp("executed") / "project")
    done, ports = threading.Event(), set()
    watching = threading.Thread(target=watch_ports, args=(done, ports))
    watching.start()
    try:
        ran = project.command("-m", "mmad_utils.course", "run", "small")
    finally:
        done.set()
        watching.join()
    assert ran.returncode == 0, ran.stderr
    return project, ran, ports


def watch_ports(done, ports):
    """Collect the TCP ports on which children of this process listen, and the commands of these children."""
    while not done.wait(0.1):
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                found = process.net_connections("tcp")
                ports |= {(*process.cmdline(), c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN}


@pytest.mark.skipif(not kernel.HAS_UNIX_SOCKETS, reason="needs Unix sockets")
def test_no_tcp_port_is_open_while_a_notebook_runs(small_run):
    assert small_run[2] == set()


def test_a_kernel_records_the_modules_that_it_loaded(small_run):
    project, *_ = small_run
    modules = results.read(project.root / "build" / "default" / "results" / "small.json")["provenance"]["modules"]
    assert {"mmad_utils", "mmad_utils.course.notebook", "mmad_utils.datasets.images"} <= modules.keys()
    assert "mmad_utils.detectors.gans" not in modules
    assert all(modules.values())


def test_every_runner_gives_the_same_results_and_other_parameters_leave_them_alone(small_run, tmp_path):
    project, ran, _ = small_run
    assert "small: 17 of 17 cells" in ran.stderr
    built = project.root / "build" / "default"
    expected = contents(built)
    assert sorted(expected) == [f"figures/draws.{kind}" for kind in ("csv", "png", "svg")] + ["results/small.json"]
    executed = nbformat.read(built / "notebooks" / "small.ipynb", as_version=4)
    pictures = [out for cell in executed.cells for out in cell.get("outputs", []) if "data" in out]
    assert len(pictures) == 1, "the figure is shown once"
    assert pictures[0]["metadata"]["image/png"]["alt"] == "Lines that wander about zero."

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    papermill = ("-m", "papermill", str(project.notebook), "out.ipynb", "--no-progress-bar")
    assert project.command(*papermill, cwd=elsewhere, MMAD_OUTPUT=str(elsewhere)).returncode == 0
    assert contents(elsewhere) == expected

    changed = project.command(*papermill, "-p", "seed", "3", cwd=elsewhere)
    assert changed.returncode == 0, changed.stderr
    assert contents(built) == expected
    [folder] = (project.root / "build").glob("changed-*")
    record = json.loads((folder / "results" / "small.json").read_text())
    assert record["provenance"]["parameters"]["seed"] == 3
    assert list(record["provenance"]["data"]) == ["digits/3 (seed 3)"]

    run_all = ("-m", "nbconvert", "--execute", "--to", "notebook", "--output-dir", str(elsewhere))
    assert project.command(*run_all, str(project.notebook), cwd=elsewhere).returncode == 0
    assert contents(built) == expected


def test_a_failure_prints_one_screen_and_leaves_earlier_results_as_they_were(project):
    earlier = project.root / "there" / "results" / "small.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    ran = project.command(
        "-m",
        "mmad_utils.course",
        "run",
        "small",
        "--profile",
        "smoke",
        "-p",
        "seed",
        "13",
        "--output",
        "there",
    )
    assert ran.returncode == 1
    screen = ran.stderr[ran.stderr.index("small failed") :]
    assert len(screen.splitlines()) <= 24
    for part in (
        "small failed in cell 7 of 17",
        'load("nonsense")',
        "Error: ",
        "in mmad_utils/datasets/",
        "seed=13, share=1, title='Draws'",
        "-m mmad_utils.course run small --profile smoke -p seed 13 --output there",
    ):
        assert part in screen
    assert "Traceback" not in ran.stderr
    assert [path.name for path in (project.root / "there" / "notebooks").iterdir()] == ["small.failed.ipynb"]
    assert earlier.read_text() == "{}"


def record_results(project):
    current = provenance.current_provenance("small", notebook_files.defaults("small"), MODULES)
    record = results.Results("small", provenance=current)
    record.value("x", 1.0)
    return record.save()


def test_results_are_stale_when_something_that_made_them_changes(project):
    assert provenance.stale_reasons("small")[0].endswith("is missing")
    record_results(project)
    assert provenance.stale_reasons("small") == []
    (project.root / "requirements.lock").write_text("numpy==3\n")
    assert [reason.endswith("another lock") for reason in provenance.stale_reasons("small")] == [True]
    (project.root / "mmad_utils" / "metrics.py").write_text("")
    (project.root / "mmad_utils" / "detectors" / "gans.py").write_text("")  # which the notebook does not load
    project.write(SOURCE.replace("seed: int = 0", "seed: int = 1"))
    endings = [reason.split()[-1] for reason in provenance.stale_reasons("small")]
    assert endings == ["lock", "notebook_source", "parameters", "mmad_utils.metrics"]


def test_results_of_another_version_are_stale(project):
    path = record_results(project)
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    assert "this version reads 2" in provenance.stale_reasons("small")[0]


def test_the_state_for_snakemake_changes_exactly_when_the_results_are_stale(project):
    state = provenance.refresh_state("small", "default")
    missing = state.read_text()
    path = record_results(project)
    assert provenance.refresh_state("small", "default").read_text() == missing
    assert state.stat().st_mtime < path.stat().st_mtime, "Snakemake takes the results as newer"
    for text in ("x = 1", "x = 2"):
        (project.root / "mmad_utils" / "metrics.py").write_text(text)
        before = state.read_text()
        assert provenance.refresh_state("small", "default").read_text() != before
    assert state.stat().st_mtime >= path.stat().st_mtime


def test_results_go_elsewhere_where_the_project_cannot_be_written_to(project, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(course_project, "is_writable", lambda folder: not folder.is_relative_to(project.root))
    monkeypatch.setattr(course_project, "user_cache_path", lambda name: tmp_path / name)
    exec("nb = notebook.start('small')", variables := {"notebook": notebook, **notebook_files.defaults("small")})
    nb = variables["nb"]
    assert str(tmp_path / "mmad" / "build") in capsys.readouterr().out
    nb.value("x", 1.0)
    nb.finish()
    assert (tmp_path / "mmad" / "build" / "default" / "results" / "small.json").exists()


def test_an_output_folder_that_cannot_be_written_to_stops_the_run(project, no_kernel, monkeypatch):
    monkeypatch.setattr(course_project, "is_writable", lambda folder: False)
    with pytest.raises(NotebookError, match="not writable: give another one with --output"):
        runner.run("small", output=project.root / "there")


def test_the_reference_is_renewed_from_fresh_results_only(project, monkeypatch):
    with pytest.raises(results.ResultsError, match="is missing: run `make report` first"):
        reference.accept()
    path = record_results(project)
    (path.parents[1] / "report").mkdir()
    (project.root / "report").mkdir()
    for page in reference.PAGES:
        (path.parents[1] / "report" / page).write_text(page)
    (project.root / "figures").mkdir()
    (project.root / "figures" / "vanished.png").write_text("")
    reference.accept()
    assert (project.root / "report" / "results" / "small.json").read_text() == path.read_text()
    assert (project.root / "report" / "report.en.html").read_text() == "report.en.html"
    assert not list((project.root / "figures").iterdir())


def test_the_projects_own_notebooks_and_profiles_are_in_order():
    assert list(notebook_files.problems()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [("small: [", "is not YAML"), ("- small", "expected 'NOTEBOOK:"), ("small: 3", "expected 'NOTEBOOK:")],
)
def test_a_damaged_profile_is_named(project, no_kernel, content, message):
    (project.root / "profiles" / "smoke.yaml").write_text(content)
    with pytest.raises(NotebookError, match=message):
        runner.run("small", profile="smoke")


def test_a_damaged_notebook_is_named(project, no_kernel):
    project.notebook.write_text("{")
    with pytest.raises(NotebookError, match=r"small\.ipynb is not a readable notebook"):
        runner.run("small")


def test_a_parameter_may_be_a_dict(project):
    project.write(SOURCE.replace("seed: int = 0", "seed: dict = {}"))
    known = notebook_files.parameters_of(notebook_files.read_notebook(project.notebook), "small")
    assert known["seed"].accepts({"a": 1}) and not known["seed"].accepts([1])


def test_the_command_to_run_it_again_has_all_that_was_given():
    words = runner._command("small", "smoke", {"title": "a b", "columns": ["c"]}, "out")
    assert words.endswith("run small --profile smoke -p title 'a b' -p columns '['\"'\"'c'\"'\"']' --output out")


def test_the_sync_command_says_what_it_wrote(project, monkeypatch, capsys):
    os.utime(project.notebook, (1, 1))
    assert command_line.main(["sync"]) == 0
    assert capsys.readouterr().out == "1 notebooks, nothing to report.\n"
    project.edit(lambda content: content.cells[3].update(source="share = 2"))
    assert command_line.main(["sync"]) == 0
    assert capsys.readouterr().out == "small.py written from small.ipynb\n"
