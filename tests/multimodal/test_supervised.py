import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from mmad_utils.detector import DetectorError
from mmad_utils.encoders.image import ImageEncoder
from mmad_utils.encoders.tabular import TabularEncoder
from mmad_utils.multimodal.supervised import (
    HybridMultiModalAnomalyDetector,
    SupervisedMultiModalAnomalyDetector,
    focal_loss,
)
from mmad_utils.multimodal.unified import MultiModalAnomalyDetector

ENCODERS = {"left": TabularEncoder(steps=20), "right": TabularEncoder(residuals=False)}


@pytest.fixture
def data(rng):
    """Anomalies of "left" lie where normal rows are rare but not absent, in one direction."""

    def draw(n, m):
        X = {"left": rng.normal(size=(n + m, 5)), "right": rng.normal(size=(n, 8))}
        X["left"][n:, 1] += 2.5
        return X, {"left": np.repeat([0, 1], [n, m]), "right": np.zeros(n, dtype=int)}

    return draw


def unsupervised():
    return MultiModalAnomalyDetector(ENCODERS, latent_dim=12, calibration_folds=2, random_state=0)


def test_focal_loss_is_the_formula_and_without_gamma_the_cross_entropy(rng):
    logits, labels = torch.tensor(rng.normal(size=20)), torch.tensor(rng.integers(0, 2, 20)).double()
    p = torch.where(labels == 1, logits.sigmoid(), 1 - logits.sigmoid())
    assert focal_loss(logits, labels, 2.0).item() == pytest.approx((-((1 - p) ** 2) * p.log()).mean().item())
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert focal_loss(logits, labels, 0.0).item() == pytest.approx(expected.item())


def test_a_few_labels_help_and_a_modality_without_them_keeps_its_order(data):
    X, y = data(200, 8)
    new, labels = data(200, 200)
    base = unsupervised().fit({name: rows[y[name] == 0] for name, rows in X.items()})
    hybrid = HybridMultiModalAnomalyDetector(base, steps=100, random_state=0).fit(X, y)
    before, after = base.anomaly_score(new), hybrid.anomaly_score(new)
    assert roc_auc_score(labels["left"], after["left"]) > roc_auc_score(labels["left"], before["left"]) + 0.05
    np.testing.assert_array_equal(after["right"].argsort(), before["right"].argsort())


def test_one_label_is_no_worse_than_none_where_the_head_is_restrained(data):
    X, y = data(200, 40)
    one = {"left": np.where(np.cumsum(y["left"]) <= 1, y["left"], 0)}
    kept = {name: rows[(y["left"] == 0) | (one["left"] == 1)] if name == "left" else rows for name, rows in X.items()}
    one["left"] = one["left"][(y["left"] == 0) | (one["left"] == 1)]
    new, labels = data(200, 200)
    areas = {}
    for restraint in (0.0, 1.0):
        fitted = HybridMultiModalAnomalyDetector(unsupervised(), head_regularization=restraint, random_state=0).fit(
            kept, one
        )
        areas[restraint] = roc_auc_score(labels["left"], fitted.anomaly_score(new)["left"])
    before = unsupervised().fit({name: X[name][y[name] == 0] for name in X}).anomaly_score(new)["left"]
    assert areas[1.0] > areas[0.0] + 0.01
    assert areas[1.0] > roc_auc_score(labels["left"], before) - 0.01


def test_without_labelled_anomalies_the_hybrid_is_the_unsupervised_detector(data):
    X, _ = data(80, 0)
    new, _ = data(30, 30)
    base = unsupervised().fit(X)
    for y in (None, {"left": np.zeros(80, dtype=int)}):
        hybrid = HybridMultiModalAnomalyDetector(unsupervised(), random_state=0).fit(X, y)
        for name, scores in hybrid.anomaly_score(new).items():
            np.testing.assert_array_equal(scores.argsort(), base.anomaly_score(new)[name].argsort())


@pytest.mark.parametrize("loss", ["bce", "focal"])
def test_the_supervised_detector_learns_from_labels_and_trains_its_encoder(data, loss):
    X, y = data(200, 40)
    new, labels = data(200, 200)
    X, y, new = ({"left": part["left"]} for part in (X, y, new))
    options = {"latent_dim": 12, "loss": loss, "random_state": 0}
    areas = {}
    for steps in (0, 150):
        fitted = SupervisedMultiModalAnomalyDetector(ENCODERS, steps=steps, **options).fit(X, y)
        areas[steps] = roc_auc_score(labels["left"], fitted.anomaly_score(new)["left"])
    assert areas[150] > areas[0] + 0.3
    head = fitted.network_["head"]
    assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Dropout", "Linear"]
    assert head[0].out_features == 128 and head[2].p == 0.2
    trained, frozen = fitted.network_["branches"]["left"].module, fitted.space_.encoders_["left"].network_
    assert not torch.equal(trained.layers[0].weight, frozen.layers[0].weight.float())


def test_equal_seeds_give_bitwise_equal_results_and_the_file_keeps_every_score(data, tmp_path):
    X, y = data(60, 6)
    new, _ = data(20, 20)
    hybrid = HybridMultiModalAnomalyDetector(unsupervised(), steps=10, random_state=0).fit(X, y)
    again = clone(hybrid).fit(X, y)
    hybrid.save(tmp_path / "detector")
    loaded = HybridMultiModalAnomalyDetector.load(tmp_path / "detector")
    for name, scores in hybrid.anomaly_score(new).items():
        np.testing.assert_array_equal(again.anomaly_score(new)[name], scores)
        np.testing.assert_allclose(loaded.anomaly_score(new)[name], scores, rtol=1e-6)


def test_a_backbone_is_fine_tuned_on_a_copy(rng):
    pictures = rng.integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    encoder = ImageEncoder(image_size=32, weights="random", cache=False, fine_tune=True)
    before = encoder.fingerprint
    options = {"latent_dim": 8, "steps": 2, "encoder_learning_rate": 1e-3, "random_state": 0}
    fitted = SupervisedMultiModalAnomalyDetector({"image": encoder}, **options).fit(
        {"image": pictures}, {"image": np.repeat([0, 1], 6)}
    )
    tuned = fitted.network_["branches"]["image"].module.network.state_dict()
    changed = [key for key, value in encoder.network.state_dict().items() if not torch.equal(value, tuned[key])]
    assert any("weight" in key for key in changed) and not any("running" in key for key in changed)
    assert encoder.fingerprint == before


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda y: None, "takes labels as a dict"),
        (lambda y: {"left": y["left"]}, "'right' have no labels"),
        (lambda y: y | {"other": [1]}, "'other' have no samples"),
        (lambda y: y | {"left": y["left"][:5]}, "shape \\(5,\\)"),
        (lambda y: y | {"left": y["left"] + 1}, "0 normal or 1 anomaly"),
        (lambda y: y, "modality 'right' has 60 normal samples and 0"),
    ],
)
def test_wrong_labels_are_one_clear_error(data, change, message):
    X, y = data(60, 6)
    with pytest.raises(DetectorError, match=message):
        SupervisedMultiModalAnomalyDetector(ENCODERS, latent_dim=12).fit(X, change(y))


def test_the_old_name_of_the_head_regularization_still_works_with_a_warning(data):
    X, labels = data(60, 3)
    new = HybridMultiModalAnomalyDetector(unsupervised(), head_regularization=0.5, steps=5, random_state=0)
    old = HybridMultiModalAnomalyDetector(unsupervised(), restraint=0.5, steps=5, random_state=0)
    with pytest.warns(FutureWarning, match="now called head_regularization"):
        scores = old.fit(X, labels).anomaly_score(X)
    np.testing.assert_array_equal(scores["left"], new.fit(X, labels).anomaly_score(X)["left"])
