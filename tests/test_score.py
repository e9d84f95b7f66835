import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from sklearn.ensemble import IsolationForest

from mmad_utils import CalibratedDetector, ColumnEncoder, Detector, GaussianAnomalyScorer, PaDiM
from mmad_utils.detector import DetectorError
from mmad_utils.score import excess_probability, main, score_file


def rows(n, seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    table["kind"] = rng.choice(["x", "y"], n)
    table["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 2000, n), unit="h")
    return table


@pytest.fixture(scope="module")
def detector():
    return CalibratedDetector(GaussianAnomalyScorer(), ColumnEncoder(), random_state=0).fit(rows(2000, 0))


@pytest.fixture
def kept(detector, tmp_path):
    detector.save(tmp_path / "detector.safetensors")
    return str(tmp_path / "detector.safetensors")


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".xlsx"])
def test_a_file_read_in_chunks_has_the_scores_of_the_table(detector, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr("mmad_utils.datasets.table_files.CHUNK", 70)
    table, path = rows(200, 1), tmp_path / f"new{suffix}"
    table.loc[3, "b"] = 50.0
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False)
    summary = score_file(detector, path, tmp_path / "scores.csv")
    scores = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    np.testing.assert_allclose(scores["p_value"], detector.p_values(table))
    np.testing.assert_allclose(scores["score"], detector.anomaly_score(table))
    assert (summary.samples, summary.alarms) == (200, scores["alarm"].sum())
    first = 1 if suffix == ".parquet" else 2  # below the header
    assert scores["sample"].tolist() == list(range(first, 200 + first))
    assert scores.loc[3, "reasons"].startswith("b = 50")
    assert not scores.loc[scores["alarm"] == 0, "reasons"].any()


def test_only_so_many_rows_get_reasons_as_stated(detector, tmp_path):
    table = rows(100, 1)
    table["a"] += 30 * (np.arange(100) % 2)
    table.to_csv(tmp_path / "new.csv", index=False)
    score_file(detector, tmp_path / "new.csv", tmp_path / "scores.csv", explained=7)
    scores = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    explained = scores["reasons"] != ""
    assert explained.sum() == 7 and scores.loc[explained, "reasons"].str.startswith("a = ").mean() > 0.7


def test_rows_get_reasons_where_every_row_has_an_alarm(detector, tmp_path):
    rows(50, 1).assign(b=np.nan).to_csv(tmp_path / "new.csv", index=False)
    assert score_file(detector, tmp_path / "new.csv", tmp_path / "scores.csv").alarms == 50
    assert pd.read_csv(tmp_path / "scores.csv")["reasons"].str.startswith("b = ").all()


def test_names_and_values_with_quotes_and_commas_are_read_back_as_they_were(tmp_path):
    name, one = 'width, "left"\nmm', rows(200, 0).rename(columns={"b": 'width, "left"\nmm'})
    detector = CalibratedDetector(GaussianAnomalyScorer(), ColumnEncoder(), random_state=0).fit(one)
    one.head(20).assign(**{name: 50.0}).to_parquet(tmp_path / "new.parquet")
    score_file(detector, tmp_path / "new.parquet", tmp_path / "scores.csv")
    assert pd.read_csv(tmp_path / "scores.csv")["reasons"].str.startswith(f"{name} = 50").all()


def test_the_exit_status_tells_of_alarms_beyond_the_nominal_rate(kept, tmp_path, capsys):
    source, output = tmp_path / "new.csv", tmp_path / "scores.csv"
    rows(1000, 3).to_csv(source, index=False)
    assert main([kept, str(source), "-o", str(output)]) == 0
    shifted = rows(1000, 3)
    shifted["a"] += 2
    shifted.to_csv(source, index=False)
    assert main([kept, str(source), "-o", str(output)]) == 1
    assert "1000 samples" in capsys.readouterr().out
    assert main([kept, str(tmp_path / "nothing.csv")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_file_that_does_not_fit_is_refused_column_by_column(kept, tmp_path, capsys):
    source, output = tmp_path / "new.csv", tmp_path / "scores.csv"
    rows(50, 1).rename(columns={"a": "A1", "kind": "kinds"}).to_csv(source, index=False)
    assert main([kept, str(source), "-o", str(output)]) == 2
    assert "no column 'a', 'kind' (did you mean 'kinds'?)" in capsys.readouterr().err
    rows(50, 1).assign(b="1,5", c="off").to_csv(source, index=False)
    assert main([kept, str(source), "-o", str(output)]) == 2
    error = capsys.readouterr().err
    assert "column 'b' was a number in training, and 50 of 50 cells" in error and "such as 'off'" in error
    assert not output.exists()


def test_an_error_in_a_later_row_leaves_no_output(kept, tmp_path):
    source = tmp_path / "new.csv"
    source.write_text(rows(80, 1).to_csv(index=False) + "1,2\n")
    (tmp_path / "scores").mkdir()
    assert main([kept, str(source), "-o", str(tmp_path / "scores" / "out.csv")]) == 2
    assert not list((tmp_path / "scores").iterdir())
    assert main([kept, str(source), "-o", str(source)]) == 2


def test_a_description_names_version_columns_data_and_detector(kept, capsys):
    assert main(["--describe", kept]) == 0
    text = capsys.readouterr().out
    made = Detector.load(kept).provenance_
    for part in (
        "GaussianAnomalyScorer",
        "'kind': category",
        "'a': number",
        "calibration samples: 1000",
        *made.values(),
    ):
        assert part in text


def test_images_are_scored_by_name(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    paths = sorted(tmp_path.glob("*.png"))
    detector = CalibratedDetector(PaDiM(image_size=32, n_features=5), random_state=0).fit(paths)
    assert score_file(detector, tmp_path, tmp_path / "scores.csv").samples == 8
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["sample"].tolist() == [path.name for path in paths]
    np.testing.assert_allclose(scores["p_value"], detector.p_values(paths))
    with pytest.raises(DetectorError, match=r"takes images, and .* is a file"):
        score_file(detector, tmp_path / "scores.csv", tmp_path / "other.csv")


def test_the_excess_probability_includes_the_randomness_of_the_calibration():
    rng = np.random.default_rng(0)
    m, n, rate = 99, 400, 0.05
    calibration = np.sort(rng.random((4000, m)), axis=1)
    alarms = rng.binomial(n, 1 - calibration[:, m - 5])  # the 5th largest of 99 is the threshold at 5%
    for k in (20, 30, 45):
        expected = (alarms >= k).mean()
        assert excess_probability(k, n, m, rate) == pytest.approx(expected, abs=0.03)
    assert excess_probability(30, n, 10**7, rate) == pytest.approx(stats.binom.sf(29, n, rate), rel=0.01)
    assert excess_probability(0, n, m, rate) == excess_probability(3, n, 9, rate) == 1


@pytest.mark.parametrize("base", [GaussianAnomalyScorer(), IsolationForest(n_estimators=20)])
def test_clean_rows_hold_the_nominal_rate_and_faults_are_found(base):
    shares = []
    for seed in range(10):
        one = CalibratedDetector(base, ColumnEncoder(), random_state=seed).fit(rows(4000, 100 + seed))
        new = rows(1000, 200 + seed)
        shares.append(one.assess(new)["alarm"].mean())
        broken, changed = new.assign(b=np.nan), new.assign(kind="z")
        assert one.assess(broken)["alarm"].mean() >= 0.99 and one.assess(changed)["alarm"].mean() >= 0.99
    assert np.mean(shares) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("describe", [False, True])
def test_a_detector_without_p_values_is_refused(tmp_path, capsys, describe):
    uncalibrated = GaussianAnomalyScorer().fit(np.random.default_rng(0).normal(size=(50, 2)))
    uncalibrated.save(tmp_path / "kept")
    words = ["--describe"] if describe else [str(tmp_path / "new.csv"), "--output", str(tmp_path / "scores.csv")]
    assert main([str(tmp_path / "kept"), *words]) == 2
    assert "contains a GaussianAnomalyScorer, not a CalibratedDetector" in capsys.readouterr().err
    with pytest.raises(DetectorError, match="a GaussianAnomalyScorer has no p-values"):
        score_file(uncalibrated, tmp_path / "new.csv", tmp_path / "scores.csv")


def test_a_command_without_a_source_is_refused(kept, capsys):
    with pytest.raises(SystemExit):
        main([kept])
    assert "give the file or folder to score, or --describe" in capsys.readouterr().err
