"""The page of benchmark results is what its run files give."""

import json
import re
from pathlib import Path

import numpy as np
import page
import pandas as pd
import pytest

ROOT = Path(page.__file__).resolve().parent
RUN_FILES = sorted((ROOT / "runs").glob("*.jsonl"))
MEASURED = [name for name, table in page.TABLES.items() if not table.runs().empty]
NO_CONTROLS = {  # tables of times, of alarms and of differences between arms
    *("bench-padim", "bench-memory", "bench-patchcore", "bench-deep", "bench-pixels", "bench-threads"),
    *("unified-alarms", "unified-stream", "choices", "choices-contaminated", "ablations", "growth"),
}
LINEAR = {"early, PCA residual", "early, kNN", "early, Gaussian"}  # of paired modalities
CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
NUMBER = re.compile(r"\d*\.\d+|± *\d|\b\d+ *(?:s|ms|seconds|minutes|times|GB|MB)\b")


def runs(**columns) -> pd.DataFrame:
    """Two detectors on two data sets with two seeds, and controls."""
    rows = [
        {
            "detector": detector,
            "dataset": dataset,
            "seed": seed,
            "parameters": {},
            "split": "fresh",
            "n_train": 100,
            "n_test": 50,
            "auroc": 0.9 + 0.02 * seed,
            "untrained_auroc": 0.5,
            **{f"{key}_auroc": 0.6 for key in page.CONTROLS},
            **columns,
        }
        for detector in ("A", "B")
        for dataset in ("digits/0", "digits/1")
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)


def labels(table: pd.DataFrame) -> set[str]:
    return {*table.columns, *table.iloc[:, 0]}


def test_every_table_of_the_page_is_the_one_that_the_run_files_give():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {block["name"] for block in page.BLOCK.finditer(text)} == set(page.TABLES)
    assert page.render(text) == text, "run `python benchmarks/page.py`"


def test_the_figures_of_the_page_and_the_table_of_the_report_are_those_of_the_run_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\(figures/(\w+)\.svg\)", text)) == sorted(page.FIGURES)
    assert {path.stem for path in (ROOT / "figures").glob("*.svg")} == set(page.FIGURES)
    assert (ROOT / "speed.csv").read_text(encoding="utf-8") == page.speed_csv(), "run `python benchmarks/page.py`"


def test_the_text_between_the_tables_has_no_measured_number():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = NUMBER.findall(CODE.sub("", page.BLOCK.sub("", text)))
    assert not found, "results stand in tables that page.py writes; settings stand in `code`"


@pytest.mark.parametrize(
    "sentence", ["AUROC .93", "gains 0.013", "3.3% of", "± 2", "44 times faster", "took 19 minutes"]
)
def test_a_measured_number_in_a_sentence_is_found(sentence):
    assert NUMBER.search(sentence)


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_every_run_says_which_unchanged_commit_which_machine_and_which_versions_made_it(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        run = json.loads(line)
        assert run["commit"] and not run["commit"].endswith("+")
        assert run["machine"] and "torch" in run["versions"]


@pytest.mark.parametrize("name", sorted(set(MEASURED) - NO_CONTROLS))
def test_every_measured_table_of_results_has_the_standing_controls(name):
    table = page.TABLES[name]
    wanted = LINEAR if table.file == "fusion" else set(page.CONTROLS.values())
    assert wanted <= labels(table.make(table.runs()))


def test_without_a_run_file_a_table_says_that_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RUNS", tmp_path)
    old = "<!-- table: digits -->\n| AutoEncoder | .991 |\n<!-- end -->"
    assert page.render(old) == (
        "<!-- table: digits -->\nNot yet measured: no runs in `runs/digits.jsonl`.\n<!-- end -->"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_cell_is_the_mean_over_the_seeds_and_then_over_the_data_sets():
    lines = (ROOT / "runs" / "tables.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found = [
        np.mean([run["auroc"] for run in rows if run["detector"] == "DeepSVDD" and run["dataset"] == name])
        for name in page.HARD
    ]
    table = page.TABLES["tables"].make(page.read("tables")).set_index("detector")
    assert table.loc["DeepSVDD", "mean"] == f"{np.mean(found):.3f}".lstrip("0")


def test_a_detector_that_lacks_a_data_set_has_no_mean_over_the_data_sets():
    table = runs()
    table = table[(table["detector"] == "A") | (table["dataset"] == "digits/0")]
    rows = page.comparison(table, ("digits/0", "digits/1"), ("digits/0",)).set_index("detector")
    assert rows.loc["A", ["mean", "0"]].tolist() == [".910", ".910"]
    assert rows.loc["B", ["mean", "0", "over kNN"]].tolist() == ["", ".910", ""]
    assert rows.loc["A", "over kNN"].startswith("+.310 ± ")


def test_a_spread_is_over_seeds_of_means_over_data_sets():
    table = runs()
    table.loc[table["dataset"] == "digits/1", "auroc"] -= 0.1
    assert page.spread(table) == ".860 ± .014"  # seeds: .85 and .87


def test_thumbnails_stand_in_one_row_for_both_poolings_with_their_own_controls():
    parts = [
        runs(parameters={"side": 64, "pooling": pooling}, pca_auroc=area)
        for pooling, area in (("sum", 0.7), ("largest", 0.8))
    ]
    table = page.thumbnails(pd.concat(parts, ignore_index=True))
    assert set(page.CONTROLS.values()) <= labels(table)
    rows = table.set_index("detector")
    assert rows.loc["PCA residual", ["0, sum", "0, largest"]].tolist() == [".700 ± .000", ".800 ± .000"]
    assert rows.loc["A", "1, sum"] == ".910 ± .014"
    assert rows.loc["A", "over untrained, largest"].startswith("+.410 ± ")


def test_of_a_repeated_run_the_last_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RUNS", tmp_path)
    table = runs(parameters={"side": 32})
    (tmp_path / "a.jsonl").write_text(
        pd.concat([table.assign(auroc=0.1), table]).to_json(orient="records", lines=True)
    )
    assert page.read("a")["auroc"].tolist() == table["auroc"].tolist()


def test_a_part_that_a_run_file_lacks_is_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RUNS", tmp_path)
    (tmp_path / "thumbnails.jsonl").write_text('{"parameters": {"side": 32, "pooling": "sum"}}\n')
    assert page.TABLES["thumbnails-64"].runs().empty and len(page.TABLES["thumbnails-32"].runs()) == 1
    assert page.block("thumbnails-64").startswith("Not yet measured")


def test_images_with_anomalies_among_them_have_a_column_for_each_data_set_and_metric():
    table = page.contaminated(runs(rate=0.1, aupr_in=0.95, aupr_out=0.4)).set_index("detector")
    assert list(table.columns) == ["digits, AUROC", "digits, AUPR-in", "digits, AUPR-out"]
    assert table.loc["A"].tolist() == [".910 ± .014", ".950 ± .000", ".400 ± .000"]


def test_each_class_has_a_column():
    table = page.classes(runs(rate=0.1))
    assert table.columns.tolist() == ["detector", "0", "1"]
    assert table.to_numpy().tolist() == [["A", ".910", ".910"], ["B", ".910", ".910"]]


def test_a_setting_of_padim_is_compared_with_the_defaults_run_by_run():
    better = runs(detector="PaDiM", parameters={"smoothing": 8.0}, auroc=0.915, pixel_auroc=0.7)
    defaults = runs(detector="PaDiM", pixel_auroc=0.8)
    table = page.padim_settings(pd.concat([defaults[:4], better[:4]], ignore_index=True))
    row = table.set_index("detector").loc["PaDiM(smoothing=8.0)"]
    assert row.tolist() == [".915 ± .000", ".700 ± .000", "2 of 4", "0 of 4"]


def test_a_joint_network_is_compared_with_the_one_that_was_trained_alone():
    same = runs(detector="-", tokens="backbone", score="error", tokens_auroc=0.85)[:4]
    alone = same.assign(trained_on=[[name] for name in same["dataset"]])
    joint = same.assign(trained_on=[["digits/0", "digits/1"]] * 4, auroc=same["auroc"] + 0.05)
    table = page.transformer(pd.concat([joint, alone], ignore_index=True))
    assert set(page.CONTROLS.values()) <= set(table.columns)
    assert [cell[:5] for cell in table["over a separate network"]] == ["+.050", "+.050", "", ""]
    assert [cell[:5] for cell in table["over tokens"]] == ["+.110", "+.110", "+.060", "+.060"]
    assert table["trained with"].tolist() == ["digits/1", "digits/0", "", ""]


def pair(repetition: int, mmad: float, peer: float, **entries) -> dict:
    """A line of bench.jsonl with these seconds of both sides."""
    sides = {"mmad": mmad, "peer": peer}
    times = {
        f"{side}_{part}_{kind}": seconds
        for side, seconds in sides.items()
        for part in ("fit", "score")
        for kind in ("seconds", "cpu")
    }
    row = {
        "setting": {"samples": 209, "channels": 100},
        "threads": 1,
        "peer_library": "other 1.0",
        "load": 1.0 + repetition,
    }
    return row | {"repetition": repetition} | times | entries


def test_times_are_medians_and_ratios_are_medians_of_the_ratios_of_pairs():
    rows = [pair(i, *seconds) for i, seconds in enumerate([(1, 10), (2, 30), (9, 20)])]
    (row,) = page.beside(pd.DataFrame(rows), {"both": ["fit", "score"]}).to_dict("records")
    assert (row["both, s"], row["both: times faster"]) == ("4.00 / 40.00", "10.0 (10.0)")
    assert row["setting"] == "209 samples, 100 channels" and row["load average"] == "1.0 to 3.0"


def test_speed_has_a_row_per_part_setting_and_number_of_threads_with_the_spread_of_the_ratios(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RUNS", tmp_path)
    rows = [pair(i, s, 12, threads=threads, task="padim") for threads in (1, 2) for i, s in enumerate([2, 3, 4])]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = page.speed()
    assert list(zip(table["what"], table["threads"])) == [
        (f"PaDiM, {part}: 209 samples, 100 channels", threads) for part in ("fit", "score") for threads in (1, 2)
    ]
    assert set(table["mmad"]) == {3.0} and set(table["peer"]) == {12.0} and set(table["library"]) == {"other 1.0"}
    assert set(table["ratio"]) == {4.0}
    assert table["sd"].tolist() == pytest.approx([np.std([6, 4, 3], ddof=1)] * 4)


def test_settings_threads_and_measures_that_one_setting_lacks_stay_apart():
    pixels = {"images": 10, "size": 64}
    rows = [
        pair(0, 1, 5, setting=pixels | {"regions": True}, mmad_aupro=0.5, peer_aupro=0.25),
        pair(0, 1, 5, setting=pixels | {"regions": False}),
        pair(0, 1, 2, setting=pixels | {"regions": False}, threads=2),
    ]
    table = page.beside(pd.DataFrame(rows), {"metrics": ["score"]})
    assert table["setting"].tolist() == ["10 images of 64², AUPRO too", "10 images of 64²", "10 images of 64²"]
    assert table["AUPRO"].tolist() == [".500 / .250", "", ""]
    assert table["metrics: times faster"].tolist() == ["5.0 (5.0)", "5.0 (5.0)", "2.0 (2.0)"]


def test_cpu_time_of_several_threads_is_compared_with_that_of_one():
    rows = [pair(i, 3, 2, setting={"busy": i > 2}, threads=2) for i in range(6)]
    table = page.beside_one_thread(pd.DataFrame(rows))
    assert table["beside"].tolist() == ["nothing", "a process on all cores"]
    assert set(table["ratio of CPU time"]) == {"1.50"} and set(table["2 threads, s"]) == {"3.00"}


def test_growth_is_the_slope_on_logarithmic_scales_and_predicts_by_it():
    rows = [
        {
            "method": "a",
            "axis": axis,
            "size": size,
            "repetition": i,
            "seconds": size**2 * s,
            "bytes": 3e6,
            "load": 1.0,
        }
        for axis in ("rows", "columns")
        for size in (1_000, 2_000, 8_000, 32_000)
        for i, s in enumerate((1e-9, 2e-9, 9e-9))
    ]
    table = page.growth(pd.DataFrame(rows)).set_index("grows with")
    assert table.loc["rows, 1,000 to 32,000", "time, exponents"] == "2.00, 2.00"
    assert table.loc["rows, 1,000 to 32,000", "time, predicted"] == "2.3 days"  # 2e-9 * 1e7² s
    assert table.loc["rows, 1,000 to 32,000", "memory, predicted"] == "3.0 MB"  # constant in the largest three
    assert table.loc["columns, 1,000 to 32,000", "time, predicted"] == ""
    assert table["time, largest"].tolist() == ["2.0 s"] * 2
