import json

import numpy as np
import pytest
from sklearn.covariance import EllipticEnvelope
from sklearn.metrics import roc_auc_score

from mmad_utils import benchmark as module
from mmad_utils.benchmark import benchmark, fit_detector, main, make_detector, measure, summarise
from mmad_utils.datasets import load
from mmad_utils.detector import DetectorError


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
    with pytest.raises(DetectorError, match=r"several modalities; benchmarks/fusion\.py measures"):
        measure("EarlyFusion", "paired_digits", 0)


def test_the_table_has_mean_and_spread_over_the_seeds(tmp_path, capsys):
    arguments = ["--detectors", "DistanceToCenter", "--datasets", "breast_cancer", "--seeds", "2"]
    assert main([*arguments, "--json", str(tmp_path / "runs.json")]) == 0
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [run["seed"] for run in runs] == [0, 1]
    areas = [run["auroc"] for run in runs]
    assert f"{np.mean(areas):.3f} ±{np.std(areas, ddof=1):.3f}" in capsys.readouterr().out


def test_wrong_names_stop_before_anything_runs(capsys, monkeypatch):
    monkeypatch.setattr(module, "ProcessPoolExecutor", None)
    assert main(["--detectors", "KNNDistance", "--datasets", "brest_cancer"]) == 2
    assert "breast_cancer" in capsys.readouterr().err
    with pytest.raises(DetectorError, match="must be at least 1"):
        benchmark(["KNNDistance"], ["breast_cancer"], seeds=0)


def test_summary_keeps_the_order_and_counts_the_seeds():
    import pandas as pd

    rows = [
        {"detector": d, "dataset": "x", "seed": s, "auroc": 0.5 + s, "average_precision": 0.1}
        for d in ("b", "a")
        for s in (0, 1)
    ]
    table = summarise(pd.DataFrame(rows))
    assert list(table["detector"]) == ["b", "a"] and list(table["n"]) == [2, 2]
    assert table["auroc"].tolist() == [1.0, 1.0] and table["auroc_sd"].iloc[0] == pytest.approx(np.sqrt(0.5))


def test_the_gain_over_a_control_has_the_interval_of_a_paired_t_test(rng):
    import pandas as pd
    from scipy import stats

    auroc, untrained = rng.uniform(0.8, 0.9, 5), rng.uniform(0.5, 0.7, 5)
    runs = pd.DataFrame({"detector": "a", "dataset": "x", "seed": range(5), "auroc": auroc, "average_precision": 0.1})
    row = summarise(runs.assign(untrained_auroc=untrained)).iloc[0]
    low, high = stats.ttest_rel(auroc, untrained).confidence_interval(0.95)
    assert row["above_untrained"] == pytest.approx((low + high) / 2)
    assert row["above_untrained_margin"] == pytest.approx((high - low) / 2)
