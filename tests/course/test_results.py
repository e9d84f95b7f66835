"""Results: nothing half-written, nothing without a text, the same bytes for the same inputs, and what has changed."""

from __future__ import annotations

import copy
import io
import json
import math
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import typst
from hypothesis import given
from hypothesis import strategies as st

from mmad_utils.course import project as course_project
from mmad_utils.course.__main__ import main
from mmad_utils.course.provenance import current_provenance
from mmad_utils.course.results import Results, ResultsError, mixed_figures, read
from mmad_utils.course.tolerances import TOLERANCE_RATIO, TOLERANCE_RELATIVE, compare, output_folder

MODULES = ["mmad_utils.a", "mmad_utils.datasets.b"]
PROVENANCE = {"notebook_source": "a", "modules": {}, "lock": "c", "parameters": {"seed": 0}}


def line_plot(noise=0.0):
    """A figure with every kind of artist that carries generated ids in SVG, and its numbers."""
    fig, axes = plt.subplots(figsize=(4, 3))
    x = np.linspace(0, 1, 20)
    axes.plot(x, x**2 + noise, marker="o")
    axes.fill_between(x, x, hatch="/")
    axes.imshow(np.arange(12.0).reshape(3, 4), extent=(0, 0.2, 0, 0.2))
    axes.set(xticks=[0, 1], yticks=[0, 1])  # each tick takes time, and most tests here save this figure
    plt.close(fig)
    return fig, pd.DataFrame({"x": x, "y": x**2})


def filled(folder, name="01_small"):
    record = Results(name, output=folder, provenance=PROVENANCE)
    record.value("auroc", np.float32(0.987654321), sd=0.01, n=5)
    record.value("seconds", 12, unit="s")
    frame = pd.DataFrame({"AUROC": [0.9, 0.8], "n": [3, 4], "fit (s)": [1.0, 2.0], "kept": [True, False]})
    record.table(frame.set_index(pd.Index(["kNN", "PCA"], name="detector")), "comparison", "Two detectors.")
    fig, data = line_plot()
    record.figure(fig, f"curve_{name[:2]}", caption="A curve.", alt="It bends upwards.", data=data)
    return record


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_inputs_give_the_same_bytes(tmp_path):
    filled(tmp_path / "a").save()
    filled(tmp_path / "b").save()
    first = files(tmp_path / "a")
    assert sorted(first) == [
        "figures/curve_01.csv",
        "figures/curve_01.png",
        "figures/curve_01.svg",
        "results/01_small.json",
    ]
    assert first == files(tmp_path / "b")
    for trace in (b"Matplotlib v", b"matplotlib.org", b"<dc:date>"):
        assert trace not in first["figures/curve_01.png"] + first["figures/curve_01.svg"]


def test_a_drawing_shows_an_image_over_another_as_the_png_does(tmp_path):
    fig, axes = plt.subplots(figsize=(2, 2))
    axes.imshow(np.full((2, 2), 200.0), cmap="gray", vmin=0, vmax=255)
    axes.imshow(np.zeros((2, 2)), cmap="inferno", alpha=0.6)
    record = Results("01_small", output=tmp_path, provenance=PROVENANCE)
    record.figure(fig, "overlay", caption="Two.", alt="One over another.", data=pd.DataFrame({"x": [0]}))
    record.save()
    page = b"#set page(width: auto, height: auto, margin: 0pt)\n#image(bytes(sys.inputs.drawing))"
    drawing = (tmp_path / "figures" / "overlay.svg").read_text()
    shown = io.BytesIO(typst.compile(page, format="png", sys_inputs={"drawing": drawing}))
    for file in (tmp_path / "figures" / "overlay.png", shown):
        pixels = plt.imread(file)
        height, width = pixels.shape[:2]
        assert pixels[height // 2, width // 2, 0] == pytest.approx(0.4 * 200 / 255, abs=0.01)


def test_the_json_says_what_was_recorded(tmp_path):
    record = filled(tmp_path)
    record.provenance["data"]["thyroid"] = "d"
    content = read(record.save())
    assert content["notebook"] == "01_small"
    assert content["provenance"] == {**PROVENANCE, "data": {"thyroid": "d"}}
    assert content["values"] == {
        "auroc": {"value": 0.987654, "sd": 0.01, "n": 5, "unit": ""},
        "seconds": {"value": 12, "sd": None, "n": None, "unit": "s"},
    }
    assert content["tables"]["comparison"] == {
        "caption": "Two detectors.",
        "columns": ["detector", "AUROC", "n", "fit (s)", "kept"],
        "rows": [["kNN", 0.9, 3, 1.0, True], ["PCA", 0.8, 4, 2.0, False]],
    }
    assert content["figures"]["curve_01"]["alt"] == "It bends upwards."
    data = pd.read_csv(tmp_path / content["figures"]["curve_01"]["csv"])
    np.testing.assert_allclose(data, line_plot()[1], rtol=1e-5)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e-12, 1e-12))
def test_rounding_is_useful_and_last_bits_do_not_show(number, noise):
    record = Results("x", output="unused", provenance=PROVENANCE)
    record.value("a", number)
    written = record.values["a"]["value"]
    assert written == pytest.approx(number, rel=1e-5, abs=0)
    json.dumps(written, allow_nan=False)
    record.value("b", written * (1 + noise))
    assert record.values["b"]["value"] == pytest.approx(written, rel=1e-5, abs=0)
    assert float(repr(written)) == written
    assert math.copysign(1, written) == 1 or written < 0, "no negative zero"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan"), None, "1", True, 1j])
def test_what_is_no_finite_number_is_refused(tmp_path, number):
    record = filled(tmp_path)
    with pytest.raises(ResultsError, match="value 'bad'"):
        record.value("bad", number)
    if number is not None:
        with pytest.raises(ResultsError, match="value 'bad', sd"):
            record.value("bad", 1.0, sd=number)
    assert "bad" not in record.values


@pytest.mark.parametrize("n", [0, -1, 2.0, True])
def test_a_count_is_a_positive_whole_number(tmp_path, n):
    with pytest.raises(ResultsError, match="n must be a positive"):
        filled(tmp_path).value("bad", 1.0, n=n)


def test_the_spread_of_a_single_seed_is_not_recorded(tmp_path):
    record = Results("01_small", output=tmp_path, provenance=PROVENANCE)
    record.value("auroc", 0.9, sd=float("nan"), n=1)
    frame = pd.DataFrame({"detector": ["kNN"], "AUROC": [0.9], "AUROC sd": [float("nan")]})
    record.table(frame, "one", "A table.", n=1)
    assert record.values["auroc"]["sd"] is None and record.tables["one"]["rows"] == [["kNN", 0.9, None]]
    with pytest.raises(ResultsError, match="nan is not a finite number"):
        record.value("other", 0.9, sd=float("nan"), n=2)
    with pytest.raises(ResultsError, match="column 'AUROC sd'"):
        record.table(frame, "two", "A table.", n=2)


def test_a_table_with_nan_names_row_and_column(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, math.nan]})
    with pytest.raises(ResultsError, match="table 'bad', row 2, column 'b'"):
        filled(tmp_path).table(frame, "bad", "Caption.")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])),
        pd.DataFrame({"a": [[1, 2]]}),
    ],
)
def test_a_table_that_has_no_plain_cells_is_refused(tmp_path, frame):
    with pytest.raises(ResultsError, match="table 'bad'"):
        filled(tmp_path).table(frame, "bad", "Caption.")


@pytest.mark.parametrize("id", ["", "Upper", "a-b", "a b", "../a", "a.b", "ä", 3])
def test_keys_and_ids_are_plain_names(tmp_path, id):
    record = filled(tmp_path)
    fig, data = line_plot()
    for call in (
        lambda: record.value(id, 1.0),
        lambda: record.table(data, id, "Caption."),
        lambda: record.figure(fig, id, caption="Caption.", alt="Alt.", data=data),
    ):
        with pytest.raises(ResultsError, match="lower-case letters, digits and underscores"):
            call()


def test_a_name_is_taken_once(tmp_path):
    record = filled(tmp_path)
    fig, data = line_plot()
    for call in (
        lambda: record.value("auroc", 1.0),
        lambda: record.table(data, "comparison", "Caption."),
        lambda: record.figure(fig, "curve_01", caption="Caption.", alt="Alt.", data=data),
    ):
        with pytest.raises(ResultsError, match="recorded twice"):
            call()


def test_two_notebooks_cannot_hold_the_same_figure(tmp_path):
    filled(tmp_path).save()
    record = Results("02_other", output=tmp_path, provenance=PROVENANCE)
    fig, data = line_plot()
    with pytest.raises(ResultsError, match="belongs to notebook 01_small"):
        record.figure(fig, "curve_01", caption="Caption.", alt="Alt.", data=data)
    filled(tmp_path).save()  # the owner may draw it again


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ({"alt": ""}, "no alt text"),
        ({"alt": "  "}, "no alt text"),
        ({"alt": None}, "no alt text"),
        ({"caption": ""}, "no caption"),
        ({"data": None}, "give the numbers of the figure"),
        ({"data": pd.DataFrame()}, "give the numbers of the figure"),
        ({"data": {}}, "give the numbers of the figure"),
    ],
)
def test_a_figure_needs_alt_text_caption_and_numbers(tmp_path, missing, message):
    fig, data = line_plot()
    with pytest.raises(ResultsError, match=message):
        filled(tmp_path).figure(fig, "bad", **{"caption": "Caption.", "alt": "Alt.", "data": data, **missing})


def test_nothing_is_written_before_save_and_a_failed_save_keeps_the_earlier_file(tmp_path, monkeypatch):
    record = filled(tmp_path)
    assert not files(tmp_path)
    record.save()
    before = files(tmp_path)
    fuller = filled(tmp_path)
    fuller.value("more", 1.0)

    def no_space(old, new):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(OSError, match="No space"):
        fuller.save()
    assert files(tmp_path) == before


def test_saving_removes_the_figures_that_are_no_longer_drawn(tmp_path):
    filled(tmp_path).save()
    filled(tmp_path, "02_other").save()
    record = Results("01_small", output=tmp_path, provenance=PROVENANCE)
    record.value("auroc", 0.9)
    record.save()
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"curve_02.{kind}" for kind in ("csv", "png", "svg")
    ]


@pytest.mark.parametrize("id", ["../../thesis", "a/b", "A", "", "a b"])
def test_an_old_file_with_other_ids_is_refused_and_nothing_outside_is_deleted(tmp_path, id):
    victim = tmp_path / "thesis.csv"
    victim.write_text("mine")
    old = filled(tmp_path / "project" / "build")
    content = json.loads(old.save().read_text())
    content["figures"][id] = content["figures"].pop("curve_01")
    old.path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=r"is not a results file .*use lower-case letters"):
        read(old.path)
    filled(tmp_path / "project" / "build").save()
    assert victim.exists() and read(old.path)["figures"].keys() == {"curve_01"}


@pytest.mark.parametrize("path", ["../../etc/passwd", "figures/../x.png", "figures/a.svg", None])
def test_a_figure_outside_its_folder_is_refused_when_read(tmp_path, path):
    content = json.loads(filled(tmp_path).save().read_text())
    content["figures"]["curve_01"]["png"] = path
    (tmp_path / "results" / "01_small.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=r"is not a results file .*has the file"):
        read(tmp_path / "results" / "01_small.json")


def test_results_of_a_name_that_leads_elsewhere_cannot_be_made(tmp_path):
    with pytest.raises(ResultsError, match=r"notebook .\.\./x"):
        Results("../x", output=tmp_path, provenance={})


def test_a_save_that_was_killed_half_way_is_completed_by_the_next_read(tmp_path, monkeypatch):
    path = filled(tmp_path).save()
    fuller = filled(tmp_path)
    fuller.value("more", 1.0)
    moved, replace = [], os.replace

    def dies(old, new):
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(new)
        replace(old, new)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        fuller.save()
    monkeypatch.undo()
    assert "more" not in json.loads(path.read_text())["values"]
    record = read(path)
    assert "more" in record["values"] and mixed_figures(record, tmp_path) == []
    assert sorted(item.name for item in path.parent.iterdir()) == ["01_small.json"]


def test_a_figure_of_another_run_is_found_by_its_hash(tmp_path):
    record = read(filled(tmp_path).save())
    (tmp_path / "figures" / "curve_01.csv").write_text("x\n1\n")
    assert mixed_figures(record, tmp_path) == [tmp_path / "figures" / "curve_01.csv"]


def test_output_comes_from_the_environment_where_it_is_not_given(tmp_path, monkeypatch):
    monkeypatch.setenv("MMAD_OUTPUT", str(tmp_path))
    assert Results("x", provenance={}).path == tmp_path / "results" / "x.json"


def test_a_damaged_results_file_is_named(tmp_path):
    path = filled(tmp_path).save()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ResultsError, match=r"01_small\.json is not a results file"):
        read(path)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ("notebooks/src/x.py", "notebook_source"),
        ("mmad_utils/a.py", "modules"),
        ("mmad_utils/datasets/b.py", "modules"),
        ("requirements.lock", "lock"),
    ],
)
def test_one_byte_upstream_changes_its_part_of_the_provenance(tmp_path, monkeypatch, changed, key):
    monkeypatch.setattr(course_project, "ROOT", tmp_path)
    for name in ("notebooks/src/x.py", "mmad_utils/a.py", "mmad_utils/datasets/b.py", "requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "mmad_utils" / "never_loaded.py").write_text("not a module of this notebook")
    before = current_provenance("x", {"seed": 0}, MODULES)
    assert before == current_provenance("x", {"seed": 0}, MODULES)
    with (tmp_path / changed).open("a") as stream:
        stream.write(" ")
    after = current_provenance("x", {"seed": 0}, MODULES)
    assert {name for name in before if before[name] != after[name]} == {key}


def test_a_module_that_is_gone_changes_the_provenance(tmp_path, monkeypatch):
    monkeypatch.setattr(course_project, "ROOT", tmp_path)
    for name in ("notebooks/src/x.py", "mmad_utils/a.py", "requirements.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    before = current_provenance("x", {}, ["mmad_utils.a"])["modules"]["mmad_utils.a"]
    (tmp_path / "mmad_utils" / "a.py").rename(tmp_path / "mmad_utils" / "b.py")
    assert before is not None and current_provenance("x", {}, ["mmad_utils.a"])["modules"]["mmad_utils.a"] is None


def test_a_file_of_another_version_is_refused_with_its_folder(tmp_path):
    path = filled(tmp_path).save()
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(ResultsError, match=r"has format 1, this version reads 2: delete the folder .*results"):
        read(path)


@pytest.fixture
def two_folders(tmp_path):
    """Old and new results, and a function that changes the new ones and says what differs."""
    old, new = (filled(tmp_path / name).save().parent for name in ("old", "new"))
    path = new / "01_small.json"
    original = read(path)

    def differences(change):
        content = copy.deepcopy(original)
        change(content)
        path.write_text(json.dumps(content))
        return compare(old, new)

    differences.folders = (old, new)
    return differences


def test_equal_results_do_not_differ(two_folders, capsys):
    assert two_folders(lambda content: None) == []
    assert main(["compare", *map(str, two_folders.folders)]) == 0
    assert "0 differences" in capsys.readouterr().out


def test_every_difference_is_printed_and_fails(two_folders, capsys):
    two_folders(lambda content: (content["values"].pop("auroc"), content["tables"].pop("comparison")))
    assert main(["compare", *map(str, two_folders.folders)]) == 1
    printed = capsys.readouterr().out
    assert "01_small: value 'auroc' has vanished" in printed
    assert "01_small: table 'comparison' has vanished" in printed


@pytest.mark.parametrize(("section", "key"), [("values", "auroc"), ("tables", "comparison"), ("figures", "curve_01")])
def test_what_appears_or_vanishes_is_a_difference(two_folders, section, key):
    assert any("vanished" in line for line in two_folders(lambda content: content[section].pop(key)))
    added = two_folders(lambda content: content[section].update(new=content[section][key]))
    assert [line.endswith("'new' is new") for line in added] == [True]


@pytest.mark.parametrize(
    ("field", "value", "differs"),
    [
        ("value", 0.987654 - 0.9 * TOLERANCE_RATIO, False),
        ("value", 0.987654 - 1.1 * TOLERANCE_RATIO, True),
        ("sd", 0.01 + 0.9 * TOLERANCE_RATIO, False),
        ("sd", 0.1, True),  # ten times as large, beyond the limit for five seeds
        ("sd", None, True),
        ("n", 6, True),
        ("unit", "%", True),
    ],
)
def test_values_are_held_to_their_tolerance(two_folders, field, value, differs):
    found = two_folders(lambda content: content["values"]["auroc"].update({field: value}))
    assert bool(found) == differs


def test_timings_are_compared_by_presence_only(two_folders):
    def slower(content):
        content["values"]["seconds"]["value"] = 1e6
        for row in content["tables"]["comparison"]["rows"]:
            row[3] *= 1000

    assert two_folders(slower) == []
    assert two_folders(lambda content: content["values"].pop("seconds"))


@pytest.mark.parametrize(
    ("column", "cell", "differs"),
    [
        (0, "LOF", True),
        (1, 0.9 + 0.9 * TOLERANCE_RATIO, False),
        (1, 0.9 + 1.1 * TOLERANCE_RATIO, True),
        (1, "0.9", True),
        (1, None, True),
        (2, 3 * (1 + 0.9 * TOLERANCE_RELATIVE), False),
        (2, 4, True),
        (4, False, True),
        (4, 1, True),
    ],
)
def test_cells_are_held_to_their_tolerance(two_folders, column, cell, differs):
    def change(content):
        content["tables"]["comparison"]["rows"][0][column] = cell

    found = two_folders(change)
    assert bool(found) == differs
    assert all("table 'comparison', row 1" in line for line in found)


def test_numbers_in_text_are_held_to_the_same_tolerance(tmp_path):
    def one_cell(folder, text):
        record = Results("x", output=tmp_path / folder, provenance=PROVENANCE)
        record.table(pd.DataFrame({"AUROC": [text]}), "t", "Caption.")
        return record.save().parent

    old = one_cell("a", "0.971 ± 0.004")
    assert not compare(old, one_cell("b", "0.965 ± 0.006"))
    assert compare(old, one_cell("c", "0.921 ± 0.004"))
    assert compare(old, one_cell("d", "0.971 (0.004)"))


def recorded(folder, mean, sd, n, *, table=True, name="x", **options):
    """Folder of results with one mean and spread as a value, in a cell, in two columns and behind a figure."""
    record = Results(name, output=folder, provenance=PROVENANCE)
    record.value("auroc", mean, sd=sd, n=n, **options)
    if table:
        columns = pd.DataFrame({"AUROC": [mean], "sd": [sd]})
        record.table(pd.DataFrame({"AUROC": [f"{mean:.4f} ± {sd:.4f}"]}), "cell", "Caption.", n=n, **options)
        record.table(columns, "columns", "Caption.", n=n, **options)
        record.figure(line_plot()[0], "f", caption="C.", alt="A.", data=columns, n=n, **options)
    return record.save().parent


@pytest.mark.parametrize("n", [3, 5, 20])
def test_a_mean_of_seeds_may_move_as_with_other_seeds(tmp_path, n):
    allowed = 2 * 0.08 * math.sqrt(2 / n)
    old = recorded(tmp_path / "a", 0.7, 0.08, n)
    within = recorded(tmp_path / "b", 0.7 + 0.97 * allowed, 0.08, n)
    beyond = recorded(tmp_path / "c", 0.7 + 1.03 * allowed, 0.08, n)
    assert not compare(old, within) and not compare(within, old)
    assert len(compare(old, beyond)) == len(compare(beyond, old)) == 4  # value, cell, column, figure


@pytest.mark.parametrize(("n", "limit"), [(3, 44.71), (5, 8.72), (10, 3.48)])  # sqrt of 99.95% quantiles of F
def test_a_spread_of_seeds_may_change_as_the_f_test_allows(tmp_path, n, limit):
    old = recorded(tmp_path / "a", 0.7, 0.03, n)
    assert not compare(old, recorded(tmp_path / "b", 0.7, 0.03 * limit * 0.99, n))
    assert len(compare(old, recorded(tmp_path / "c", 0.7, 0.03 * limit * 1.01, n))) == 4


@pytest.mark.parametrize(("n", "differs"), [(2, False), (10, True)])  # 0.0049 may stand behind 0.00
def test_a_spread_that_was_rounded_in_text_may_be_larger_than_it_reads(tmp_path, n, differs):
    def one_cell(folder, text):
        record = Results("x", output=tmp_path / folder, provenance=PROVENANCE)
        record.table(pd.DataFrame({"AUROC": [text]}), "t", "Caption.", n=n)
        return record.save().parent

    assert bool(compare(one_cell("a", "0.51 ± 0.00"), one_cell("b", "0.52 ± 0.03"))) == differs


def test_two_means_of_seeds_from_one_distribution_rarely_differ(tmp_path, rng):
    old, new = (Results("x", output=tmp_path / name, provenance=PROVENANCE) for name in ("a", "b"))
    for i in range(400):
        for record in (old, new):
            runs = rng.normal(0.5, 0.1, size=5)
            record.value(f"v{i}", runs.mean(), sd=runs.std(ddof=1), n=5)
    found = compare(old.save().parent, new.save().parent)
    assert len(found) < 0.15 * 400  # a test of about 5%, with an estimated spread
    assert len(found) > 0.04 * 400, "and the tolerances are not empty"


def test_a_spread_between_classes_gives_no_tolerance(tmp_path):
    old = recorded(tmp_path / "a", 0.7, 0.1, None)
    assert len(compare(old, recorded(tmp_path / "b", 0.73, 0.1, None))) == 4


def test_a_single_run_is_compared_by_its_shape_only(tmp_path):
    old = recorded(tmp_path / "a", 0.7, 0.1, 5, single_run=True)
    new = recorded(tmp_path / "b", 0.1, 0.1, 5, single_run=True)
    assert not compare(old, new)
    not_marked = recorded(tmp_path / "c", 0.7, 0.1, 5)
    found = compare(old, not_marked)
    assert len(found) == 4 and all("single_run was True, is False" in line for line in found)


def test_marks_of_the_comparison_are_stored_only_where_given(tmp_path):
    plain, marked = filled(tmp_path / "a"), Results("x", output=tmp_path / "b", provenance=PROVENANCE)
    fig, data = line_plot()
    marked.value("v", 0.5, n=5, single_run=True)
    marked.table(data, "t", "C.", n=5, single_run=True)
    marked.figure(fig, "f", caption="C.", alt="A.", data=data, n=5, single_run=True)
    for one in (marked.values["v"], marked.tables["t"], marked.figures["f"]):
        assert one["n"] == 5 and one["single_run"] is True
    for one in (*plain.tables.values(), *plain.figures.values()):
        assert not {"n", "single_run"} & one.keys()
    assert not any("single_run" in one for one in plain.values.values())
    with pytest.raises(ResultsError, match="table 'u': n must be a positive"):
        marked.table(data, "u", "C.", n=0)


def test_the_numbers_behind_figures_are_compared(two_folders):
    old, new = two_folders.folders
    csv = output_folder(new) / "figures" / "curve_01.csv"
    text = csv.read_text()
    frame = pd.read_csv(csv)
    frame.assign(y=frame["y"] - 0.9 * TOLERANCE_RATIO).to_csv(csv, index=False)
    assert compare(old, new) == []
    frame.assign(y=frame["y"] - 1.1 * TOLERANCE_RATIO).to_csv(csv, index=False)
    assert len(compare(old, new)) == len(frame)
    assert "figure 'curve_01', row 1 (0), column 'y'" in compare(old, new)[0]
    frame.iloc[1:].to_csv(csv, index=False)
    assert compare(old, new) == ["01_small: figure 'curve_01': had 20 rows, has 19"]
    csv.write_text(text.replace("x,y", "x,z"))
    assert "columns were ['x', 'y'], are ['x', 'z']" in compare(old, new)[0]


@pytest.mark.parametrize("damage", [lambda csv: csv.unlink(), lambda csv: csv.write_text("")])
def test_a_figure_without_its_numbers_is_an_error_that_names_the_file(two_folders, damage, capsys):
    damage(output_folder(two_folders.folders[1]) / "figures" / "curve_01.csv")
    assert main(["compare", *map(str, two_folders.folders)]) == 1
    assert "curve_01.csv, the numbers behind a figure, cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("layout", ["results", "report/results"])
def test_figures_are_found_in_both_layouts(tmp_path, layout):
    assert output_folder(tmp_path / layout) == tmp_path


def test_rows_columns_and_notebooks_that_change_are_differences(two_folders):
    assert two_folders(lambda content: content["tables"]["comparison"]["rows"].pop())
    assert two_folders(lambda content: content["tables"]["comparison"]["columns"].__setitem__(1, "AP"))
    old, new = two_folders.folders
    (new / "02_other.json").write_text((old / "01_small.json").read_text())
    assert "notebook '02_other' is new" in compare(old, new)
    assert "notebook '02_other' has vanished" in compare(new, old)


def test_comparing_with_an_empty_folder_is_an_error(two_folders, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(two_folders.folders[0]), str(tmp_path / "empty")]) == 1
    assert "holds no results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(values=[]), "is not a results file; delete it"),
        (lambda record: record["values"].update(a=3), "value 'a' is no record"),
        (lambda record: record["figures"]["draws"].update(sha256=["x"]), r"has the hashes \['x'\]"),
        (lambda record: record["figures"]["draws"].update(sha256={"exe": "x"}), "has the hashes"),
    ],
)
def test_a_record_of_another_form_is_refused_when_read(tmp_path, change, message):
    made = filled(tmp_path)
    made.save()
    path = made.path
    record = json.loads(path.read_text())
    record["figures"]["draws"] = next(iter(record["figures"].values()))
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ResultsError, match=message):
        read(path)
