from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from sklearn.covariance import EllipticEnvelope, LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from mmad_utils import benchmark as module
from mmad_utils.benchmark import benchmark, fit_detector, main, make_detector, measure, measure_controls, summarise
from mmad_utils.datasets import load
from mmad_utils.detector import DetectorError
from mmad_utils.runs import RunFile


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMAD_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def computed(tmp_path, monkeypatch):
    """The names of the controls that are computed, with an empty cache."""
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path / "cache"))
    names, compute = [], module._control
    monkeypatch.setattr(module, "_control", lambda key, *rest: names.append(key) or compute(key, *rest))
    return names


def test_controls_of_the_same_data_and_seed_are_computed_once(computed, tmp_path, monkeypatch):
    data, other = load("digits/1"), load("digits/1", seed=1)
    first = measure_controls(data, 0)
    assert measure_controls(data, 0) == first and computed == list(module.CONTROLS)
    assert measure_controls(data, 1)["random_auroc"] != first["random_auroc"]
    assert measure_controls(other, 0)["knn_auroc"] != first["knn_auroc"]
    monkeypatch.setattr(module, "_source_hash", lambda: "of changed modules")
    assert measure_controls(data, 0) == first
    assert computed == 4 * list(module.CONTROLS)
    for path in (tmp_path / "cache").rglob("*.json"):
        path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:])
    assert measure_controls(data, 0) == first
    assert computed == 5 * list(module.CONTROLS), "a damaged entry is computed again"


def test_a_cache_that_cannot_be_written_is_said_once(computed, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="MMAD_CACHE_HOME") as warned:
        found = [measure_controls(load("digits/1"), seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] and len(warned) == 1 and len(computed) == 3 * len(module.CONTROLS)


def test_detectors_are_found_by_name_here_and_in_scikit_learn():
    assert make_detector("KNNDistance", n_neighbors=3).n_neighbors == 3
    assert isinstance(make_detector("EllipticEnvelope"), EllipticEnvelope)
    assert make_detector("LocalOutlierFactor").novelty


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("IsolatonForest", {}, "did you mean IsolationForest"),
        ("IsolationForest", {"n_tree": 5}, "has no parameter 'n_tree'; it has .*n_estimators"),
        ("Detector", {}, "no detector is called 'Detector'"),
    ],
)
def test_a_wrong_name_is_one_clear_error(name, parameters, message):
    with pytest.raises(DetectorError, match=message):
        make_detector(name, **parameters)


def test_a_measured_row_agrees_with_a_direct_computation():
    row = measure("EllipticEnvelope", "breast_cancer", 1)
    data = load("breast_cancer", seed=1).resplit(1)
    mean, sd = data.X_train.mean(0), data.X_train.std(0)
    squared_norm = np.square((data.X_test - mean) / sd).sum(1)
    assert row["norm_auroc"] == pytest.approx(roc_auc_score(data.y_test, squared_norm))
    direct = EllipticEnvelope(random_state=1).fit((data.X_train - mean) / sd)
    scores = -direct.score_samples((data.X_test - mean) / sd)
    assert row["auroc"] == pytest.approx(roc_auc_score(data.y_test, scores))
    assert 0.4 < row["random_auroc"] < 0.6
    residual = PCA(0.9).fit((data.X_train - mean) / sd)
    X = (data.X_test - mean) / sd
    error = np.square(X - residual.inverse_transform(residual.transform(X))).sum(1)
    assert row["pca_auroc"] == pytest.approx(roc_auc_score(data.y_test, error))
    nearest = NearestNeighbors(n_neighbors=5).fit((data.X_train - mean) / sd).kneighbors(X)[0][:, -1]
    assert row["knn_auroc"] == pytest.approx(roc_auc_score(data.y_test, nearest))
    gaussian = LedoitWolf().fit((data.X_train - mean) / sd).mahalanobis(X)
    assert row["gaussian_auroc"] == pytest.approx(roc_auc_score(data.y_test, gaussian))
    assert row["fit_seconds"] > 0 and row["peak_megabytes"] > 0


def test_each_seed_draws_its_own_split_and_the_same_seed_the_same():
    first, again, other = (measure("KNNDistance", "digits/1", seed)["auroc"] for seed in (0, 0, 1))
    assert first == again != other


def test_the_own_split_of_a_data_set_is_kept_where_that_is_asked_for():
    data = load("digits/1")
    rows = [measure("KNNDistance", "digits/1", seed, own_split=True) for seed in (0, 1)]
    assert rows[0]["norm_auroc"] == rows[1]["norm_auroc"]  # the same split, whatever the seed
    scaled, shaped = fit_detector(make_detector("KNNDistance"), data)
    assert rows[1]["auroc"] == pytest.approx(roc_auc_score(shaped.y_test, -scaled.score_samples(shaped.X_test)))


def test_a_detector_of_tables_gets_small_images_as_rows():
    fitted, data = fit_detector(make_detector("PCAResidual"), load("digits/0"))
    assert data.modality == "tabular" and data.X_train.shape[1] == 64
    assert np.isfinite(fitted.score_samples(data.X_test)).all()


def test_a_detector_of_images_refuses_a_table():
    with pytest.raises(DetectorError, match="PaDiM takes images, but breast_cancer is a table"):
        fit_detector(make_detector("PaDiM"), load("breast_cancer"))


def test_paired_modalities_are_measured_elsewhere():
    with pytest.raises(DetectorError, match=r"several modalities; use benchmarks/fusion\.py"):
        measure("EarlyFusion", "paired_digits", 0)


def test_the_two_halves_of_the_anomalies_are_measured_apart():
    rows = {part: measure("KNNDistance", "breast_cancer", 0, anomalies=part) for part in ("select", "report", "all")}
    assert rows["select"]["n_test"] + rows["report"]["n_test"] - rows["all"]["n_test"] == 179  # normals twice
    mean = (rows["select"]["auroc"] + rows["report"]["auroc"]) / 2  # of halves of 106 anomalies each
    assert rows["all"]["auroc"] == pytest.approx(mean)


def test_the_number_of_averaged_networks_is_recorded():
    settings = {"epochs": 1, "n_estimators": 2}
    assert measure("DeepSVDD", "breast_cancer", 0, settings)["n_networks"] == 2
    assert measure("KNNDistance", "breast_cancer", 0)["n_networks"] == 0


def test_the_table_has_mean_and_spread_over_the_seeds_and_the_file_every_run(tmp_path, capsys):
    arguments = [
        "--detectors",
        "DistanceToCenter",
        "--datasets",
        "breast_cancer",
        "--first-seed",
        "3",
        "--seeds",
        "2",
    ]
    assert main([*arguments, "--runs", str(tmp_path / "runs.jsonl")]) == 0
    runs = RunFile(tmp_path / "runs.jsonl").rows
    assert [run["seed"] for run in runs] == [3, 4]
    areas = [run["auroc"] for run in runs]
    assert f"{np.mean(areas):.3f} ±{np.std(areas, ddof=1):.3f}" in capsys.readouterr().out


def test_one_failing_run_loses_no_other_and_those_on_file_are_not_repeated(tmp_path, monkeypatch):
    runs = RunFile(tmp_path / "runs.jsonl", module.RUN_KEYS)
    settings = {"seeds": 1, "parameters": {"n_components": 40}, "runs": runs}
    with pytest.raises(DetectorError, match=r"1 of 2 runs failed:\nPCAResidual breast_cancer 0: DetectorError"):
        benchmark(["PCAResidual"], ["breast_cancer", "digits/1"], **settings)  # 30 columns, and 64
    assert [run["dataset"] for run in RunFile(runs.path).rows] == ["digits/1"]
    monkeypatch.setattr(module, "measure", None)
    assert benchmark(["PCAResidual"], ["digits/1"], **settings).to_dict("records") == runs.rows


@pytest.mark.parametrize(("limit", "seen"), [(None, "2"), ("1", "1")])
def test_the_cores_are_divided_among_the_processes_unless_the_environment_says_otherwise(limit, seen, monkeypatch):
    for name in module.THREAD_LIMITS:
        monkeypatch.delenv(name, raising=False)
    if limit is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)
    threads = []
    run = {"detector": "KNNDistance", "dataset": "digits/1", "seed": 0}
    monkeypatch.setattr(module, "run_apart", lambda *_: threads.append(module.os.environ["OMP_NUM_THREADS"]) or run)
    benchmark(["KNNDistance"], ["digits/1"], seeds=1, jobs=2)
    assert threads == [seen] and module.os.environ.get("OMP_NUM_THREADS") == limit


def test_wrong_names_stop_before_anything_runs(capsys, monkeypatch):
    monkeypatch.setattr(module, "run_apart", None)
    assert main(["--detectors", "KNNDistance", "--datasets", "brest_cancer"]) == 2
    assert "breast_cancer" in capsys.readouterr().err
    assert main(["--detectors", "KNNDistance", "--datasets", "breast_cancer", "--runs", "/dev/null/runs.jsonl"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(DetectorError, match="give at least 1"):
        benchmark(["KNNDistance"], ["breast_cancer"], seeds=0)


def runs_of(rng, split="fresh", **columns):
    """A frame as `benchmark` returns it, of one detector and five seeds."""
    identity = {"detector": "a", "dataset": "x", "seed": range(5), "split": split, "n_train": 100, "n_test": 150}
    return pd.DataFrame(identity | {"auroc": rng.uniform(0.8, 0.9, 5), "average_precision": 0.1} | columns)


def test_summary_keeps_the_order_and_counts_the_seeds(rng):
    runs = runs_of(rng)
    table = summarise(pd.concat([runs.assign(detector="b"), runs]))
    assert list(table["detector"]) == ["b", "a"] and list(table["n"]) == [5, 5]
    assert table["auroc_sd"].tolist() == pytest.approx([runs["auroc"].std()] * 2)


def test_with_one_split_the_gain_over_a_control_has_the_interval_of_a_paired_t_test(rng):
    runs = runs_of(rng, split="own", untrained_auroc=rng.uniform(0.5, 0.7, 5))
    row = summarise(runs).iloc[0]
    low, high = stats.ttest_rel(runs["auroc"], runs["untrained_auroc"]).confidence_interval(0.95)
    assert row["above_untrained"] == pytest.approx((low + high) / 2)
    assert row["above_untrained_margin"] == pytest.approx((high - low) / 2)


def test_on_fresh_splits_the_interval_is_the_corrected_resampled_one(rng):
    runs = runs_of(rng, knn_auroc=rng.uniform(0.7, 0.8, 5))
    gain = runs["auroc"] - runs["knn_auroc"]
    variance = (1 / 5 + 150 / 100) * gain.var()  # Nadeau and Bengio, equation 13
    margin = stats.t(df=4).ppf(0.975) * np.sqrt(variance)
    assert summarise(runs).iloc[0]["above_knn_margin"] == pytest.approx(margin)


def test_the_corrected_interval_covers_the_true_gain_where_the_plain_one_does_not(rng):
    """Resplits of one sample; the measure is a mean difference, whose true value is 0."""
    covered = {"fresh": [], "own": []}
    for _ in range(300):
        sample, rows = rng.normal(size=60), []
        for seed in range(5):
            train, test = np.split(rng.permutation(60), 2)
            rows.append({"seed": seed, "auroc": sample[test].mean() - 0.2 * sample[train].mean(), "knn_auroc": 0.0})
        frame = pd.DataFrame(rows).assign(detector="a", dataset="x", average_precision=0.1, n_train=30, n_test=30)
        for split, inside in covered.items():
            row = summarise(frame.assign(split=split)).iloc[0]
            inside.append(abs(row["above_knn"]) <= row["above_knn_margin"])
    assert np.mean(covered["fresh"]) > 0.9 > 0.85 > np.mean(covered["own"])


def test_photographs_become_thumbnails_for_the_controls(tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (40, 50), (255 * number // 2, 0, 0)).save(paths[-1])
    digits = load("digits/3")
    source = {key: value for key, value in digits.source.items() if not key.endswith("_test")}
    dataset = replace(digits, X_train=paths[:1], X_test=paths[1:], y_test=np.array([0, 1]), source=source)
    table = module._as_rows(dataset)
    assert table.X_train.shape == (1, 3 * module.THUMBNAIL**2)
    red = table.X_test.reshape(2, -1, 3)[..., 0]
    assert (red == red[:, :1]).all() and table.X_train.max() < red[0, 0] < red[1, 0]


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("0.5", 0.5), ("null", None), ("ledoit_wolf", "ledoit_wolf")])
def test_a_parameter_of_the_command_line_is_json_or_text(text, value):
    assert module._parse(text) == value
