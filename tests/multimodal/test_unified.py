import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from mmad_utils import KNNDistance
from mmad_utils.detector import DetectorError
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.encoders.image import ImageEncoder
from mmad_utils.encoders.tabular import TabularEncoder
from mmad_utils.multimodal.alignment import AdversarialAlignment, ContrastiveAlignment, MomentMatching
from mmad_utils.multimodal.scorers import EnergyModel, FlowDensity, ModalityMixture
from mmad_utils.multimodal.unified import MultiModalAnomalyDetector
from mmad_utils.thresholds import ConformalThreshold, TailProbability

TABLE = {"residuals": False}


@pytest.fixture
def tables(rng):
    """Two tables as two modalities: the smaller one is wider."""
    a, b = rng.normal(size=(5, 5)), rng.normal(size=(8, 8))
    return lambda n, m: {"left": rng.normal(size=(n, 5)) @ a + 3, "right": rng.normal(size=(m, 8)) @ b - 1}


def detector(**changes):
    encoders = {"left": TabularEncoder(**TABLE), "right": TabularEncoder(**TABLE)}
    return MultiModalAnomalyDetector(encoders, **{"latent_dim": 12, "random_state": 0, **changes})


def anomalies(X, rng):
    return {name: rng.permuted(rows, axis=0) for name, rows in X.items()}


def test_one_threshold_gives_the_nominal_false_alarm_rate_on_every_modality(tables):
    fitted = detector().fit(tables(600, 200))
    new = tables(4000, 4000)
    assert len(set(fitted.offset_.values())) == 1
    for name, predictions in fitted.predict(new).items():
        assert abs((predictions == -1).mean() - 0.05) < 0.025, name
    for name, values in fitted.p_values(new).items():
        assert abs((values <= 0.2).mean() - 0.2) < 0.06, name


def test_alone_a_modality_scores_half_its_squared_mahalanobis_distance(tables):
    X, new = {"left": tables(300, 1)["left"]}, {"left": tables(50, 1)["left"]}
    fitted = detector(calibration_folds=0).fit(X)
    Z, Z_new = fitted.encode(X)["left"], fitted.encode(new)["left"]
    covariance = np.cov(Z.T, ddof=0) + 0.3 * np.eye(12)
    delta = Z_new - Z.mean(0)
    expected = 0.5 * np.einsum("nd,de,ne->n", delta, np.linalg.inv(covariance), delta)
    np.testing.assert_allclose(fitted.anomaly_score(new)["left"], expected, rtol=1e-9)


def test_shares_sum_to_the_squared_distance_and_name_the_column(tables):
    X = tables(300, 300)
    for alignment in (None, MomentMatching()):
        fitted = detector(alignment=alignment, calibration_folds=0).fit(X)
        new = tables(20, 20)
        new["right"][:, 6] += 30
        shares, squared = fitted.explain(new), fitted.squared_distance(new)
        for name in new:
            assert shares[name].shape == new[name].shape
            np.testing.assert_allclose(shares[name].sum(1), squared[name], rtol=1e-8)
        assert (shares["right"].argmax(1) == 6).mean() > 0.8


def test_partial_fit_over_batches_equals_one_fit(tables):
    X = tables(400, 200)
    daily = detector(calibration_folds=0).fit(X)
    Z = daily.encode(X)
    daily.scorer_ = ModalityMixture().fit({name: rows[:20] for name, rows in Z.items()})
    for i in range(1, 10):
        daily.partial_fit({name: rows[20 * i : 20 * (i + 1)] for name, rows in X.items()})
    once = ModalityMixture().fit({name: rows[:200] for name, rows in Z.items()})
    for name, scores in once.anomaly_score(Z).items():
        np.testing.assert_allclose(daily.scorer_.anomaly_score(Z)[name], scores, rtol=1e-9)
    with pytest.raises(DetectorError, match="IsolationForest has no partial_fit"):
        detector(scorer=IsolationForest(n_estimators=2), calibration_folds=0).fit(X).partial_fit(X)


def test_recalibrated_on_drifted_normals_the_false_alarm_rate_is_nominal_again(tables):
    def drifted(n):
        return {name: rows + 5 for name, rows in tables(n, n).items()}

    fitted = detector().fit(tables(400, 400)).partial_fit(drifted(400))
    new = drifted(4000)
    before = {name: (values == -1).mean() for name, values in fitted.predict(new).items()}
    after = {name: (values == -1).mean() for name, values in fitted.recalibrate(drifted(1000)).predict(new).items()}
    assert max(abs(rate - 0.05) for rate in after.values()) < 0.02 < max(abs(rate - 0.05) for rate in before.values())


@pytest.mark.parametrize(
    "scorer",
    [
        GaussianAnomalyScorer(),
        KNNDistance(),
        IsolationForest(n_estimators=50),
        KernelDensity(),
        EnergyModel(epochs=2),
        FlowDensity(epochs=1, transforms=1, hidden=(8,)),
    ],
    ids=lambda scorer: type(scorer).__name__,
)
def test_any_scorer_with_fit_and_score_samples_serves(tables, scorer):
    X, new = tables(60, 60), tables(30, 30)
    far = {name: rows + 40 for name, rows in new.items()}
    fitted = detector(scorer=scorer, calibration_folds=2).fit(X)
    again = clone(fitted).fit(X)
    for name, scores in fitted.anomaly_score(new).items():
        assert scores.shape == (30,) and np.isfinite(scores).all()
        assert fitted.anomaly_score(far)[name].mean() > scores.mean()
        np.testing.assert_array_equal(again.anomaly_score(new)[name], scores)


def test_balance_decides_for_a_scorer_that_knows_no_modalities(tables, rng):
    X = tables(60, 600)
    widths = [detector(scorer=GaussianAnomalyScorer(), balance=b, calibration_folds=0).fit(X).scorer_ for b in (0, 1)]
    means = [np.linalg.norm(scorer.mean_) for scorer in widths]
    assert widths[0].statistics_.n == 660 and widths[1].statistics_.n == 1200
    assert np.isfinite(means).all()


def modality_auroc(latents):
    """How well a linear classifier tells the modalities apart."""
    Z, y = np.concatenate(list(latents.values())), np.repeat([0, 1], [len(rows) for rows in latents.values()])
    half = np.arange(len(y)) % 2 == 0
    return roc_auc_score(
        y[~half], LogisticRegression(max_iter=2000).fit(Z[half], y[half]).decision_function(Z[~half])
    )


def test_moment_matching_and_the_adversary_hide_the_modality_and_contrast_does_not(rng):
    latents = {"a": rng.normal(size=(300, 4)) + 2, "b": rng.normal(size=(200, 4)) * [1, 2, 1, 1] - 2}
    assert modality_auroc(latents) > 0.95
    matched = MomentMatching().fit(latents).transform(latents)
    for rows in matched.values():
        np.testing.assert_allclose(rows.mean(0), 0, atol=1e-9)
        assert np.abs(np.cov(rows.T) - np.eye(4)).max() < 0.1
    assert modality_auroc(matched) < 0.65
    adversarial = AdversarialAlignment(steps=100, random_state=0).fit(latents)
    assert modality_auroc(adversarial.transform(latents)) < 0.75
    contrast = ContrastiveAlignment(steps=60, random_state=0).fit(latents)
    assert contrast.history_[-1]["objective"] < contrast.history_[0]["objective"]
    assert contrast.transform(latents)["a"].shape == (300, 4)


def test_responsibilities_are_the_posterior_of_the_mixture(rng):
    latents = {"a": rng.normal(size=(200, 2)), "b": rng.normal(size=(100, 2)) + 1}
    mixture = ModalityMixture(regularization=0).fit(latents)
    reference = GaussianMixture(2)
    reference.weights_ = np.array([2 / 3, 1 / 3])
    reference.means_ = np.stack([rows.mean(0) for rows in latents.values()])
    reference.covariances_ = np.stack([np.cov(rows.T, ddof=0) for rows in latents.values()])
    reference.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(reference.covariances_))
    # scikit-learn wants the upper factor of the precision
    reference.precisions_cholesky_ = np.stack(
        [np.linalg.inv(np.linalg.cholesky(covariance)).T for covariance in reference.covariances_]
    )
    for name, rows in latents.items():
        np.testing.assert_allclose(mixture.responsibilities(latents)[name], reference.predict_proba(rows), atol=1e-9)
        gap = mixture.score_samples(latents)[name] - reference.score_samples(rows)
        np.testing.assert_allclose(gap, gap[0], atol=1e-9)


def test_the_energy_model_learns_what_the_gaussian_cannot(rng):
    ring = rng.normal(size=(600, 2))
    ring *= 3 / np.linalg.norm(ring, axis=1, keepdims=True)
    hole, new = 0.3 * rng.normal(size=(200, 2)), ring[:200] + 0.1 * rng.normal(size=(200, 2))
    y = np.repeat([0, 1], 200)
    areas = [
        roc_auc_score(y, EnergyModel(epochs=n, random_state=0).fit(ring).anomaly_score(np.r_[new, hole]))
        for n in (0, 60)
    ]
    assert areas[0] < 0.1 and areas[1] > 0.9


def test_the_flow_is_a_density_and_learns(rng):
    X = rng.normal(size=(300, 2)) * [1, 0.2] + [0, 2]
    flow = FlowDensity(epochs=40, transforms=2, hidden=(16,), random_state=0).fit(X)
    assert flow.history_[-1]["loss"] < flow.history_[0]["loss"]
    side = np.linspace(-6, 6, 121)
    grid = np.stack(np.meshgrid(side, side + 2), -1).reshape(-1, 2)
    assert np.exp(flow.score_samples(grid)).sum() * 0.01 == pytest.approx(1, abs=0.1)


def test_tail_probability_rises_and_agrees_with_conformal_p_values(rng):
    scores = rng.exponential(size=200)
    tail = TailProbability().fit(scores)
    line = np.linspace(-1, 30, 500)
    assert (np.diff(tail.transform(line)) > 0).all()
    conformal = ConformalThreshold(0.05).fit(scores)
    np.testing.assert_array_equal(tail.p_values(line), conformal.p_values(line))
    np.testing.assert_allclose(np.exp(-tail.transform(scores)), tail.p_values(scores) - 1 / 201, atol=1e-12)


def test_a_third_modality_needs_an_encoder_only(tables, rng):
    class Lengths(BaseEstimator):
        def fit(self, X):
            return self

        def transform(self, X):
            return np.array([[len(text), text.count("a")] for text in X], dtype=float)

    X = tables(60, 60) | {"text": ["banana" * int(n) for n in rng.integers(1, 9, 60)]}
    encoders = {"left": TabularEncoder(**TABLE), "right": TabularEncoder(**TABLE), "text": Lengths()}
    fitted = MultiModalAnomalyDetector(encoders, latent_dim=12, calibration_folds=2, random_state=0).fit(X)
    scores = fitted.anomaly_score({"text": ["banana", "b" * 40]})["text"]
    assert scores[1] > scores[0]
    assert fitted.attention({"text": ["banana"]})["text"].argmax() == 2
    with pytest.raises(DetectorError, match="belong to no columns"):
        fitted.explain({"text": ["banana"]})
    with pytest.raises(DetectorError, match="no pixels"):
        fitted.anomaly_map({"text": ["banana"]})


def test_images_have_maps_whose_pixels_sum_to_the_squared_distance(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path))
    pictures = rng.integers(100, 130, (12, 64, 64, 3), dtype=np.uint8)
    new = pictures[:2].copy()
    new[1, 40:56, 8:24] = 255
    encoder = ImageEncoder(image_size=64, weights="random")
    fitted = MultiModalAnomalyDetector({"image": encoder}, latent_dim=16, calibration_folds=2, random_state=0).fit(
        {"image": pictures}
    )
    maps = fitted.anomaly_map({"image": new})["image"]
    assert maps.shape == (2, 64, 64)
    np.testing.assert_allclose(maps.sum((1, 2)), fitted.squared_distance({"image": new})["image"], rtol=0.05)
    fitted.save(tmp_path / "detector")
    loaded = MultiModalAnomalyDetector.load(tmp_path / "detector")
    np.testing.assert_allclose(
        loaded.anomaly_score({"image": new})["image"], fitted.anomaly_score({"image": new})["image"], rtol=1e-12
    )


def test_equal_seeds_give_bitwise_equal_results_and_the_file_keeps_every_score(tables, tmp_path):
    X, new = tables(60, 60), tables(30, 30)
    encoders = {"left": TabularEncoder(steps=20), "right": TabularEncoder(steps=20)}
    make = {"latent_dim": 12, "calibration_folds": 2, "alignment": MomentMatching()}
    fitted = MultiModalAnomalyDetector(encoders, random_state=0, **make).fit(X)
    again, other = (MultiModalAnomalyDetector(encoders, random_state=s, **make).fit(X) for s in (0, 1))
    fitted.save(tmp_path / "detector")
    loaded = MultiModalAnomalyDetector.load(tmp_path / "detector")
    for name, scores in fitted.anomaly_score(new).items():
        np.testing.assert_array_equal(again.anomaly_score(new)[name], scores)
        np.testing.assert_allclose(loaded.anomaly_score(new)[name], scores, rtol=1e-12)
        assert not np.array_equal(other.anomaly_score(new)[name], scores)
        np.testing.assert_allclose(loaded.p_values(new)[name], fitted.p_values(new)[name])


@pytest.mark.parametrize(
    "X, message",
    [
        ({"rigt": np.zeros((9, 8))}, "Did you mean 'right'"),
        ({"left": np.zeros((9, 4))}, "modality 'left': X has 4 features"),
        ({}, "holds no modality"),
        ({"left": []}, "holds no samples"),
    ],
)
def test_wrong_input_is_one_clear_error(tables, X, message):
    fitted = detector(calibration_folds=0).fit(tables(40, 40))
    with pytest.raises(DetectorError, match=message):
        fitted.anomaly_score(X)


def test_a_modality_absent_at_fit_is_unknown_at_scoring(tables):
    fitted = detector(calibration_folds=0).fit({"left": tables(40, 40)["left"]})
    with pytest.raises(DetectorError, match="unknown modality 'right'"):
        fitted.anomaly_score(tables(5, 5))


def test_too_few_samples_and_wrong_parameters_are_refused_before_slow_work(tables):
    with pytest.raises(DetectorError, match="has 6 samples; 5 calibration folds need at least 10"):
        detector().fit(tables(40, 6))
    with pytest.raises(DetectorError, match="0 or at least 2 folds"):
        detector(calibration_folds=1).fit(tables(40, 40))
    with pytest.raises(DetectorError, match="set calibration_folds"):
        detector(calibration_folds=0).fit(tables(40, 40)).p_values(tables(5, 5))


def test_without_arguments_each_modality_gets_its_default_encoder(tables, tmp_path):
    X = {"tabular": tables(40, 1)["left"], "text": ["one two", "two three", "three one"] * 10}
    detector = MultiModalAnomalyDetector(random_state=0).fit(X)
    assert isinstance(detector.space_.encoders_["tabular"], TabularEncoder)
    assert detector.modalities_ == ("tabular", "text")
    detector.save(tmp_path / "detector.safetensors")
    loaded = MultiModalAnomalyDetector.load(tmp_path / "detector.safetensors")
    for name, scores in detector.anomaly_score(X).items():
        assert (loaded.anomaly_score(X)[name] == scores).all()
    with pytest.raises(DetectorError, match="unknown modality 'picture'"):
        MultiModalAnomalyDetector().fit({"picture": X["tabular"]})
