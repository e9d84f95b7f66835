import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from mmad_utils import Detector, MultiModalAnomalyTransformer, QuantileThreshold
from mmad_utils.detector import DetectorError, load_state
from mmad_utils.multimodal.base import MultiModalDetector
from mmad_utils.training import TrainingError

SMALL = {
    "tokens": "patches", "image_size": 16, "grid": 4, "width": 16, "depth": 1, "n_heads": 2, "epochs": 2,
    "steps_per_epoch": 5, "batch_size": 16, "random_state": 0,
}  # fmt: skip


def curve(n, rng):
    """Rows on a curve in six dimensions, which no single column and no linear relation gives away."""
    t = rng.uniform(0, 2 * np.pi, n)
    return np.stack([f(k * t) for k in (1, 2, 3) for f in (np.cos, np.sin)], axis=1) + 0.05 * rng.normal(size=(n, 6))


def pictures(n, rng):
    """Stripes of any phase, 16 px a side."""
    phase, x = rng.uniform(0, 2 * np.pi, (n, 1, 1)), np.arange(16)
    stripes = (
        128 + 80 * np.sin(x[None, None, :] * 0.8 + x[None, :, None] * 0.4 + phase) + 8 * rng.normal(size=(n, 16, 16))
    )
    return np.repeat(stripes.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)


@pytest.fixture
def X(rng):
    return {"image": pictures(40, rng), "tabular": curve(60, rng)}


@pytest.fixture
def fitted(X):
    return MultiModalAnomalyTransformer(**SMALL).fit(X)


def test_training_beats_the_untrained_network_and_the_mahalanobis_distance_of_the_rows(rng):
    train, test = curve(600, rng), curve(400, rng)
    test[200:] = rng.permuted(test[200:], axis=0)
    y = np.repeat([0, 1], 200)
    areas = []
    for epochs in (0, 10):
        detector = MultiModalAnomalyTransformer(epochs=epochs, width=32, batch_size=64, random_state=0)
        areas.append(roc_auc_score(y, detector.fit({"tabular": train}).anomaly_score({"tabular": test})["tabular"]))
    covariance = LedoitWolf().fit(train)
    assert areas[1] > max(areas[0], roc_auc_score(y, covariance.mahalanobis(test))) + 0.1


def test_training_finds_patches_that_do_not_go_on_with_their_neighbours(rng):
    train, test = pictures(200, rng), pictures(80, rng)
    test[40:, 4:8, 8:12] = pictures(40, rng)[:, 4:8, 8:12]
    y = np.repeat([0, 1], 40)
    options = SMALL | {"width": 48, "steps_per_epoch": 40, "batch_size": 32, "head_weight": 0.0}
    areas = {}
    for epochs in (0, 8):
        detector = MultiModalAnomalyTransformer(**options | {"epochs": epochs}).fit({"image": train})
        areas[epochs] = roc_auc_score(y, detector.anomaly_score({"image": test})["image"])
    assert areas[8] > areas[0] + 0.04
    maps = detector.anomaly_map({"image": test[40:]})
    assert maps.shape == (40, 16, 16)
    assert maps[:, 4:8, 8:12].mean() > 1.2 * maps.mean()


def test_the_score_is_the_mahalanobis_distance_of_the_residuals_and_of_an_image_its_worst_place(fitted, X):
    scores = fitted.anomaly_score(X)
    maps = fitted._distances("image", fitted._tokenisers["image"].transform(X["image"]))
    np.testing.assert_array_equal(scores["image"], maps.max(1))
    rows = fitted._tokenisers["tabular"].transform(X["tabular"])
    residuals = np.empty((60, 6))
    with torch.no_grad():
        for j in range(6):  # six columns: each is hidden alone
            hide = torch.zeros(60, 6, dtype=torch.bool)
            hide[:, j] = True
            codes = fitted.network_("tabular", rows, hide)[1]
            residuals[:, j] = (rows - fitted.network_.predict["tabular"](codes))[:, j, 0].numpy()
    gaussian = fitted.gaussians_["tabular"]
    inverse = np.linalg.inv(gaussian.cholesky_ @ gaussian.cholesky_.T)
    delta = residuals - gaussian.mean_
    expected = np.sqrt(np.einsum("nd,de,ne->n", delta, inverse, delta))
    np.testing.assert_allclose(scores["tabular"], expected, rtol=1e-3)
    trained = fitted.set_params(score="error").anomaly_score(X)["tabular"]
    covariance = gaussian.statistics_.covariance("empirical")
    np.testing.assert_allclose(trained, np.sqrt((delta**2 / np.diag(covariance)).sum(1)), rtol=1e-3)


def test_the_head_learns_to_tell_synthetic_negatives_and_scores_by_its_logit(rng):
    train = curve(300, rng)
    options = {"head_weight": 1.0, "score": "head", "width": 32, "batch_size": 48, "epochs": 8, "random_state": 0}
    detector = MultiModalAnomalyTransformer(**options).fit({"tabular": train})
    test = np.concatenate([curve(200, rng), rng.permuted(curve(200, rng), axis=0)])
    scores = detector.anomaly_score({"tabular": test})["tabular"]
    assert roc_auc_score(np.repeat([0, 1], 200), scores) > 0.8
    heads = [epoch["tabular head"] for epoch in detector.history_]
    assert heads[-1] < 0.9 * heads[0]
    with pytest.raises(DetectorError, match="has no map"):
        MultiModalAnomalyTransformer(**SMALL | {"score": "head"}).fit({"image": pictures(9, rng)}).anomaly_map(
            pictures(2, rng)
        )


@pytest.mark.parametrize("score", ["residual", "error", "latent", "head"])
def test_equal_seeds_give_bitwise_equal_results_and_the_file_keeps_every_score(X, score, tmp_path):
    detector = MultiModalAnomalyTransformer(**SMALL, score=score).fit(X)
    again, other = clone(detector).fit(X), clone(detector).set_params(random_state=1).fit(X)
    detector.save(tmp_path / "transformer")
    loaded = Detector.load(tmp_path / "transformer")
    assert isinstance(loaded, MultiModalDetector) and loaded.history_ == detector.history_
    for name, scores in detector.decision_function(X).items():
        np.testing.assert_array_equal(again.decision_function(X)[name], scores)
        np.testing.assert_array_equal(loaded.decision_function(X)[name], scores)
        assert not np.array_equal(other.decision_function(X)[name], scores)


def test_the_best_epoch_is_that_of_the_held_out_normals_and_their_scores_set_the_threshold(X):
    losses = iter([3.0, 1.0, 2.0])

    class Scripted(MultiModalAnomalyTransformer):
        def _validation_loss(self, held_out):
            assert {name: len(tokens) for name, tokens in held_out.items()} == {"image": 12, "tabular": 18}
            return next(losses)

    detector = Scripted(**SMALL | {"epochs": 3, "validation": 0.3}).fit(X)
    assert detector.best_epoch_ == 2
    stopped = MultiModalAnomalyTransformer(**SMALL | {"epochs": 2, "validation": 0.3}).fit(X)
    for ours, theirs in zip(detector.network_.parameters(), stopped.network_.parameters()):
        assert torch.equal(ours, theirs)
    scores = detector.anomaly_score(X)["tabular"]
    assert -detector.offset_["tabular"] > np.quantile(scores, 0.85), "18 held-out rows, the highest scores among them"
    detector.calibrate(QuantileThreshold(0.5), X)
    assert (detector.predict(X)["tabular"] == -1).mean() == pytest.approx(0.5)


def test_without_validation_the_last_network_is_kept(X):
    detector = MultiModalAnomalyTransformer(**SMALL, validation=0.0).fit(X)
    assert detector.best_epoch_ == 2 and "validation" not in detector.history_[0]


def test_attention_is_shares_over_places_and_columns(fitted, X):
    shares = fitted.attention(X)
    assert shares["image"].shape == (40, 4, 4) and shares["tabular"].shape == (60, 6)
    for values in shares.values():
        np.testing.assert_allclose(values.reshape(len(values), -1).sum(1), 1, rtol=1e-5)
        assert values.min() >= 0


def test_both_modalities_are_trained_by_turns_on_equally_many_batches(X):
    seen = []

    class Spy(MultiModalAnomalyTransformer):
        def losses(self, name, batch, generator):
            seen.append((name, len(batch)))
            return super().losses(name, batch, generator)

    Spy(**SMALL).fit(X)
    assert seen == [("image", 16), ("tabular", 16)] * 10


SCRIPT = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_transformer import SMALL, curve, pictures
from mmad_utils import MultiModalAnomalyTransformer
rng = np.random.default_rng(0)
X = {"image": pictures(40, rng), "tabular": curve(60, rng)}
options = SMALL | {"epochs": int(sys.argv[3]), "dropout": 0.1}
MultiModalAnomalyTransformer(**options, checkpoint=sys.argv[2], resume=True, log=sys.argv[2] + ".log").fit(X)
"""


def test_a_killed_run_ends_with_the_weights_of_one_that_never_was(tmp_path):
    rng = np.random.default_rng(0)
    X = {"image": pictures(40, rng), "tabular": curve(60, rng)}
    epochs, path, log, moment = 30, tmp_path / "run", tmp_path / "run.log", rng.uniform(0, 0.1)
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, os.path.dirname(__file__), str(path), str(epochs)])
    deadline = time.monotonic() + 120
    while not log.exists() or not log.read_text():  # until it has learned something
        assert run.poll() is None and time.monotonic() < deadline, "the run ended before it was killed"
        time.sleep(0.002)
    time.sleep(moment)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, f"the run ended before the kill after {moment:.3f} s"
    options = SMALL | {"epochs": epochs, "dropout": 0.1}
    broken = MultiModalAnomalyTransformer(**options, checkpoint=path, resume=True, log=log).fit(X)
    whole = MultiModalAnomalyTransformer(**options).fit(X)
    assert broken.history_ == whole.history_ and len(whole.history_) == epochs
    for ours, theirs in zip(broken.network_.parameters(), whole.network_.parameters()):
        assert torch.equal(ours, theirs), f"killed after {moment:.3f} s"
    assert "epoch 30/30: loss" in log.read_text().splitlines()[-1]
    assert broken.offset_ == whole.offset_


def test_a_finished_run_can_be_given_more_epochs_but_not_fewer_or_other_settings(X, tmp_path):
    path = tmp_path / "run"
    detector = MultiModalAnomalyTransformer(**SMALL, checkpoint=path, log=tmp_path / "log").fit(X)
    with pytest.raises(DetectorError, match="exists: give resume=True"):
        detector.fit(X)
    detector.set_params(resume=True, epochs=4).fit(X)
    whole = MultiModalAnomalyTransformer(**SMALL | {"epochs": 4}).fit(X)
    assert detector.history_ == whole.history_
    assert len((tmp_path / "log").read_text().splitlines()) == 4
    with pytest.raises(TrainingError, match="has 4 epochs, more than the 3"):
        clone(detector).set_params(epochs=3).fit(X)
    for change, named in (
        ({"learning_rate": 0.1}, "learning_rate 0.001 there, 0.1 here"),
        ({"width": 32}, "width 16 there, 32 here"),
        ({"random_state": 1}, "seed"),
    ):
        with pytest.raises(TrainingError, match=f"belongs to another run.*{named}"):
            clone(detector).set_params(**change).fit(X)
    with pytest.raises(TrainingError, match="data"):
        detector.fit({**X, "tabular": X["tabular"] + np.eye(60, 6)})
    assert set(load_state(path)["states"]) == {"last", "best", "optimizer"}


def test_a_damaged_or_foreign_checkpoint_is_one_clear_error(X, fitted, tmp_path):
    path = tmp_path / "run"
    detector = MultiModalAnomalyTransformer(**SMALL, checkpoint=path, resume=True).fit(X)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DetectorError, match="damaged or was not written"):
        detector.fit(X)
    path.write_text("not a checkpoint")
    with pytest.raises(DetectorError, match="damaged or was not written"):
        detector.fit(X)
    fitted.save(path)
    with pytest.raises(TrainingError, match="belongs to another run"):
        detector.fit(X)
    with pytest.raises(DetectorError, match="a checkpoint needs an int"):
        detector.set_params(random_state=None).fit(X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": "pixels"}, "choose 'backbone' or 'patches'"),
        ({"grid": 5}, "give a grid that divides image_size"),
        ({"score": "cls"}, "choose from residual, error, latent, head"),
        ({"mask_share": (0.5, 0.1)}, "0 < low <= high < 1"),
        ({"validation": 0.9}, r"a share in \[0, 0.5\]"),
        ({"n_heads": 3}, "a divisor of width=16"),
        ({"head_weight": -1.0}, "head_weight=-1.0"),
        ({"head_weight": 0.0, "score": "head"}, "head_weight above 0"),
        ({"epochs": -1}, "epochs=-1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch=0"),
        ({"batch_size": 2}, "batch_size=2"),
        ({"contamination": 0.7}, "contamination is 0.7"),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_named_with_what_to_give(X, change, message):
    with pytest.raises(DetectorError, match=message):
        MultiModalAnomalyTransformer(**SMALL | change).fit(X)


def test_a_loss_that_is_not_finite_names_its_modality(X):
    with pytest.raises(TrainingError, match=r"loss of '(image|tabular)' is .*lower the learning rate"):
        MultiModalAnomalyTransformer(**SMALL | {"learning_rate": 1e30}).fit(X)


def test_wrong_modalities_are_named(X, fitted, rng):
    detector = MultiModalAnomalyTransformer(**SMALL)
    for wrong, message in (
        ({"tablar": X["tabular"]}, "unknown modality 'tablar'. Did you mean 'tabular'"),
        ({}, "holds no modality"),
        (X["tabular"], "takes a dict of modalities"),
        ({**X, "tabular": X["tabular"][:0]}, "'tabular' holds no samples"),
        ({"tabular": X["tabular"][:3]}, "'tabular' holds 3 samples"),
        ({"tabular": np.ones((9, 2))}, "nothing to learn from"),
        ({"image": X["image"][:3]}, "'image' holds 3 samples"),
        ({"image": X["image"] / 255.0}, "uint8 images"),
        ({"image": "a path"}, "'image' holds no samples"),
    ):
        with pytest.raises(DetectorError, match=message):
            detector.fit(wrong)
    with pytest.raises(ValueError, match="NaN"):
        detector.fit({"tabular": np.full((9, 2), np.nan)})
    only = clone(detector).fit({"tabular": X["tabular"]})
    for call in (only.anomaly_score, only.predict, only.attention, only.anomaly_map):
        with pytest.raises(DetectorError, match="unknown modality 'image'"):
            call(X)
    with pytest.raises(DetectorError, match="only images have a map"):
        fitted.anomaly_map({"tabular": X["tabular"]})
    with pytest.raises(DetectorError, match="fitted on 6 columns, got 4"):
        fitted.anomaly_score({"tabular": X["tabular"][:, :4]})
    assert list(fitted.anomaly_score({"image": X["image"][:2]})) == ["image"], "one modality can be scored alone"


def test_the_score_of_a_sample_does_not_depend_on_what_stands_beside_it(fitted, X):
    whole = fitted.anomaly_score(X)
    for name, samples in X.items():
        alone = fitted.anomaly_score({name: samples[7:8]})[name]
        np.testing.assert_allclose(alone, whole[name][7:8], rtol=1e-4)


def test_backbone_tokens_are_the_features_averaged_over_the_cells_and_standardised(rng, tmp_path):
    from mmad_utils import ImageEncoder

    images = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    options = SMALL | {"tokens": "backbone", "image_size": 64, "weights": "random", "epochs": 1, "steps_per_epoch": 1}
    detector = MultiModalAnomalyTransformer(**options).fit({"image": images})
    tokens = detector._tokenisers["image"].transform(images).numpy().reshape(8, 4, 4, -1)
    layer = next(ImageEncoder(layers=(2, 3), image_size=64, weights="random", cache=False).features(images))[
        0
    ].numpy()
    cells = layer.reshape(8, layer.shape[1], 4, 2, 4, 2).mean((3, 5)).transpose(0, 2, 3, 1)
    expected = (cells - cells.mean((0, 1, 2))) / cells.std((0, 1, 2), ddof=1)
    np.testing.assert_allclose(tokens[..., : layer.shape[1]], expected, rtol=1e-3, atol=1e-4)
    detector.save(tmp_path / "file")
    loaded = MultiModalAnomalyTransformer.load(tmp_path / "file")
    np.testing.assert_array_equal(loaded.anomaly_map(images), detector.anomaly_map(images))
    with pytest.raises(DetectorError, match=r"the finest of layers=\(2, 3\) has \(8, 8\) cells"):
        clone(detector).set_params(grid=16).fit({"image": images})
