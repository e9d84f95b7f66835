from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from mmad_utils.detector import DetectorError, load_state, save_state
from mmad_utils.training import (
    Adam,
    DeepDetector,
    NetworkState,
    TrainingError,
    epoch_log,
    seeded,
    size_limited,
    train,
    update,
)


class SmallAutoEncoder(DeepDetector):
    """A variant as short as the contract allows."""

    def build(self, shape):
        d = int(np.prod(shape))
        return nn.Sequential(nn.Flatten(), nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, 1), nn.Linear(1, d))

    def batch_score(self, batch, generator):
        return (self.network_(batch) - batch.flatten(1)).square().sum(1)

    def loss(self, batch, generator):
        return self.batch_score(batch, generator).mean()


@dataclass(kw_only=True, eq=False, repr=False)
class Noisy(SmallAutoEncoder):
    """A variant with a parameter of its own, another default and a map."""

    noise: float = 0.1
    epochs: int = 2

    def loss(self, batch, generator):
        return super().loss(batch + self.noise * torch.randn(batch.shape, generator=generator), generator)

    def batch_map(self, batch, generator):
        return (self.network_(batch).reshape(batch.shape) - batch).square().sum(1)


@pytest.mark.parametrize("missing", ["build", "batch_score"])
def test_a_detector_without_network_or_score_cannot_be_made(missing):
    methods = {name: getattr(SmallAutoEncoder, name) for name in {"build", "batch_score"} - {missing}}
    with pytest.raises(TypeError, match=f"abstract method '?{missing}"):
        type("Incomplete", (DeepDetector,), methods)()


def test_training_without_a_loss_says_what_to_define(line):
    methods = {name: getattr(SmallAutoEncoder, name) for name in ("build", "batch_score")}
    with pytest.raises(NotImplementedError, match=r"define loss\(batch, generator\) or optimise"):
        type("WithoutLoss", (DeepDetector,), methods)().fit(line)


@parametrize_with_checks([Noisy(random_state=0), Noisy(n_estimators=2, epochs=1, random_state=0)])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def test_a_variant_names_only_its_own_parameters_and_has_all():
    detector = Noisy(noise=0.5, batch_size=7)
    assert detector.get_params() == SmallAutoEncoder(epochs=2, batch_size=7).get_params() | {"noise": 0.5}
    copy = clone(detector).set_params(noise=1.0, learning_rate=0.1)
    assert (copy.noise, copy.learning_rate, copy.batch_size, copy.epochs) == (1.0, 0.1, 7, 2)
    with pytest.raises(TypeError, match="unexpected keyword"):
        Noisy(nois=1)


def test_the_state_of_a_network_fills_one_that_is_built_anew_and_leaves_the_global_generator_alone():
    class Regression(NetworkState, BaseEstimator):
        def _rebuild(self, weights):
            return nn.Linear(self.n_features_in_, len(weights["bias"])).eval()

    fitted, loaded = Regression(), Regression()
    loaded.set_state(fitted.get_state())
    assert not hasattr(loaded, "network_")
    fitted.n_features_in_, fitted.network_ = 3, nn.Linear(3, 2)
    before = torch.get_rng_state()
    loaded.set_state(fitted.get_state())
    assert torch.equal(torch.get_rng_state(), before)
    assert loaded.n_features_in_ == 3 and not loaded.network_.training
    assert torch.equal(loaded.network_.weight, fitted.network_.weight)
    assert loaded.network_.weight.data_ptr() != fitted.network_.weight.data_ptr()


def test_several_networks_average_their_standardised_scores_and_survive_the_file(line, tmp_path):
    detector = Noisy(n_estimators=3, random_state=0).fit(line)
    scores = np.array([one.anomaly_score(line) for one in detector.estimators_])
    assert not np.allclose(scores[0], scores[1])
    expected = ((scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(detector.anomaly_score(line), expected)
    assert len(detector.history_) == 2
    again = Noisy(n_estimators=3, random_state=0).fit(line)
    np.testing.assert_array_equal(again.anomaly_score(line), detector.anomaly_score(line))
    detector.save(tmp_path / "nets")
    np.testing.assert_array_equal(
        Noisy.load(tmp_path / "nets").decision_function(line), detector.decision_function(line)
    )


@pytest.mark.parametrize("n_estimators", [1, 2])
def test_a_map_of_images_has_their_size_and_here_sums_to_the_score(rng, n_estimators):
    images = rng.integers(0, 256, (20, 8, 6, 3), dtype=np.uint8)
    detector = Noisy(n_estimators=n_estimators, random_state=0).fit(images)
    maps = detector.anomaly_map(images)
    assert maps.shape == (20, 8, 6)
    if n_estimators == 1:
        np.testing.assert_allclose(maps.sum((1, 2)), detector.anomaly_score(images), rtol=1e-5)
    assert not hasattr(SmallAutoEncoder(), "anomaly_map")


def test_a_table_has_no_map(line):
    with pytest.raises(DetectorError, match="only images have a map"):
        Noisy(random_state=0).fit(line).anomaly_map(line)


@pytest.mark.parametrize("X", [np.zeros((9, 3)), np.ones((9, 8, 8, 1), np.uint8), np.ones((1, 8, 8, 1), np.uint8)])
def test_training_samples_without_differences_are_refused(X):
    with pytest.raises(DetectorError, match="are all equal, or there is only one: give at least two that differ"):
        SmallAutoEncoder().fit(X)


def test_a_single_row_can_be_scored_but_not_fitted(line):
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        SmallAutoEncoder().fit(line[:1])
    detector = SmallAutoEncoder(epochs=1, batch_size=1, random_state=0).fit(line[:9])
    assert detector.anomaly_score(line[:1]).shape == (1,)


def test_a_file_of_another_shape_is_one_clear_error(line, tmp_path):
    detector = SmallAutoEncoder(epochs=1, random_state=0).fit(line)
    detector.input_shape_ = (5,)
    detector.save(tmp_path / "net")
    with pytest.raises(DetectorError, match="does not fit SmallAutoEncoder as it is now"):
        SmallAutoEncoder.load(tmp_path / "net")


@pytest.fixture
def line(rng):
    return (rng.normal(size=(300, 1)) * [1.0, 2.0, -1.0] + 0.05 * rng.normal(size=(300, 3))).astype(np.float32)


def test_training_beats_the_untrained_network(line, rng):
    test = np.concatenate([line[200:], rng.normal(size=(100, 3))])
    y = np.repeat([0, 1], 100)
    areas = []
    for epochs in (0, 60):
        detector = SmallAutoEncoder(epochs=epochs, learning_rate=0.01, random_state=0).fit(line[:200])
        assert len(detector.history_) == epochs
        areas.append(roc_auc_score(y, detector.anomaly_score(test)))
    assert areas[1] > max(0.95, areas[0] + 0.05)


def test_the_same_seed_gives_the_same_network_to_the_bit_and_leaves_global_state_alone(line):
    before = torch.get_rng_state()
    first, second, other = (SmallAutoEncoder(epochs=3, random_state=seed).fit(line) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first.anomaly_score(line), second.anomaly_score(line))
    assert not np.array_equal(first.anomaly_score(line), other.anomaly_score(line))


def test_a_saved_network_scores_as_before(tmp_path, line):
    detector = SmallAutoEncoder(epochs=3, random_state=0).fit(line)
    detector.save(tmp_path / "net")
    np.testing.assert_array_equal(
        SmallAutoEncoder.load(tmp_path / "net").decision_function(line), detector.decision_function(line)
    )


def test_images_reach_the_network_as_channels_first_in_zero_to_one(rng):
    images = rng.integers(0, 256, (20, 8, 6, 3), dtype=np.uint8)
    seen = []

    class Spy(SmallAutoEncoder):
        def loss(self, batch, generator):
            seen.append(batch)
            return super().loss(batch, generator)

    detector = Spy(epochs=1, batch_size=20, random_state=0).fit(images)
    assert detector.input_shape_ == (3, 8, 6) and seen[0].shape == (20, 3, 8, 6)
    expected = np.sort(images.ravel() / np.float32(255))
    np.testing.assert_allclose(np.sort(seen[0].numpy().ravel()), expected, rtol=1e-6)
    with pytest.raises(DetectorError, match=r"fitted on samples of shape \(3, 8, 6\)"):
        detector.predict(images[:, :, :5])
    with pytest.raises(DetectorError, match="images must be uint8"):
        detector.fit(images / 255.0)


def _run(tmp_path, epochs, data, checkpoint="run", stop_after=None):
    with seeded(3) as generator:
        model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 3))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

        def step(batch):
            noisy = batch + 0.1 * torch.randn(batch.shape, generator=generator)
            loss = (model(noisy) - batch).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return {"loss": loss.detach()}

        history = train(
            step,
            (data,),
            epochs=epochs,
            batch_size=32,
            generator=generator,
            checkpoint=tmp_path / checkpoint,
            stateful={"model": model, "optimizer": optimizer},
            after_epoch=(lambda h: len(h) == stop_after) if stop_after else None,
        )
    return history, model


def test_a_resumed_run_equals_an_unbroken_one_to_the_bit(tmp_path, line):
    data = torch.from_numpy(line)
    history, model = _run(tmp_path, 6, data, "whole")
    _run(tmp_path, 6, data, "broken", stop_after=2)
    resumed_history, resumed = _run(tmp_path, 6, data, "broken")
    assert resumed_history == history and len(history) == 6
    for ours, theirs in zip(resumed.parameters(), model.parameters()):
        assert torch.equal(ours, theirs)


def test_a_run_that_stopped_early_does_not_go_on_when_it_is_resumed(tmp_path, line):
    first, model = _run(tmp_path, 6, torch.from_numpy(line), stop_after=4)
    again, resumed = _run(tmp_path, 6, torch.from_numpy(line), stop_after=4)
    assert again == first and len(first) == 4
    for ours, theirs in zip(resumed.parameters(), model.parameters()):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_network_is_refused(tmp_path, line):
    _run(tmp_path, 1, torch.from_numpy(line))
    state = load_state(tmp_path / "run")
    del state["states"]["model"]["0.weight"]
    save_state(tmp_path / "run", state)
    with pytest.raises(DetectorError, match="does not contain the state of this run"):
        _run(tmp_path, 2, torch.from_numpy(line))


def test_a_network_that_outgrows_its_tensors_is_refused_while_it_is_built():
    weights = nn.Linear(3, 2).state_dict()
    with size_limited(weights):
        nn.Linear(3, 2)
    with pytest.raises(DetectorError, match="a larger network"), size_limited(weights):
        nn.Linear(3000, 2000)
    with pytest.raises(DetectorError, match="a larger network"), size_limited(weights):
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(100)))
    nn.Linear(3000, 2000)


def test_a_checkpoint_of_other_data_is_refused(tmp_path, line):
    _run(tmp_path, 1, torch.from_numpy(line))
    with pytest.raises(TrainingError, match="belongs to another run"):
        _run(tmp_path, 2, torch.from_numpy(line[:100]))


def test_a_checkpoint_holds_what_after_epoch_added_and_refuses_other_settings_and_fewer_epochs(tmp_path):
    model = nn.Linear(1, 1)
    options = {"batch_size": 2, "checkpoint": tmp_path / "run", "stateful": {"model": model}}

    def run(epochs, settings):
        def note(history):
            history[-1]["note"] = float(len(history))

        generator = torch.Generator().manual_seed(0)
        step = lambda batch: {"loss": 1.0}  # noqa: E731
        data = (torch.zeros(4),)
        return train(step, data, epochs=epochs, generator=generator, after_epoch=note, settings=settings, **options)

    run(2, {"width": 3})
    assert [entry["note"] for entry in run(3, {"width": 3})] == [1.0, 2.0, 3.0]
    with pytest.raises(TrainingError, match="width 3 there, 4 here"):
        run(3, {"width": 4})
    with pytest.raises(TrainingError, match="has 3 epochs, more than the 2"):
        run(2, {"width": 3})


def test_the_log_gets_a_line_an_epoch_with_the_losses_and_the_time_left(tmp_path):
    write = epoch_log(tmp_path / "log", 4)
    history = [{"loss": 0.25}, {"loss": 0.125, "validation": 2.0}]
    write(history[:1])
    write(history)
    first, second = (tmp_path / "log").read_text().splitlines()
    assert "epoch 1/4: loss 0.25; " in first and first.endswith("s left")
    assert "epoch 2/4: loss 0.125, validation 2; " in second


def test_every_row_is_seen_once_an_epoch_in_batches_of_nearly_equal_size():
    seen = []
    train(
        lambda batch: seen.append(batch) or {"loss": 0.0},
        (torch.arange(65),),
        epochs=1,
        batch_size=32,
        generator=torch.Generator().manual_seed(0),
    )
    assert sorted(len(batch) for batch in seen) == [21, 22, 22]
    assert sorted(torch.cat(seen).tolist()) == list(range(65))


def test_history_is_the_mean_over_samples():
    history = train(
        lambda batch: {"loss": batch.mean(), "size": len(batch)},
        (torch.arange(10.0),),
        epochs=2,
        batch_size=3,
        generator=torch.Generator().manual_seed(0),
    )
    assert [row["loss"] for row in history] == pytest.approx([4.5, 4.5])


def test_a_loss_that_is_not_a_number_stops_the_run_and_says_where():
    losses = iter([1.0, float("nan")])
    with pytest.raises(TrainingError, match="loss is nan in epoch 2 of 9: lower the learning rate"):
        train(
            lambda batch: {"loss": next(losses)},
            (torch.zeros(4),),
            epochs=9,
            batch_size=4,
            generator=torch.Generator().manual_seed(0),
        )


def test_tables_beyond_float32_are_refused(line):
    with pytest.raises(DetectorError, match="beyond the range of float32"):
        SmallAutoEncoder(epochs=1).fit(line.astype(np.float64) * 1e39)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((torch.ones(3, 2), torch.ones(4)), {}, r"data has lengths \[3, 4\]"),
        ((torch.ones(0, 2),), {}, r"data has lengths \[0\]"),
        ((torch.ones(3, 2),), {"batch_size": 0}, "batch_size is 0; give at least 1"),
        ((torch.ones(3, 2),), {"checkpoint": "missing"}, "a checkpoint needs `stateful`"),
    ],
)
def test_training_that_cannot_begin_is_refused(data, options, message):
    settings = {"epochs": 1, "batch_size": 2, "generator": torch.Generator(), **options}
    with pytest.raises(TrainingError, match=message):
        train(lambda batch: pytest.fail("a step was made"), data, **settings)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_updates_for_all_parameters_at_once_are_bitwise_those_of_pytorch(weight_decay):
    found = []
    for kind in (torch.optim.Adam, Adam):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(12, 33), nn.LeakyReLU(), nn.Linear(33, 1))
        unused = nn.Linear(2, 2)
        optimizer = kind([*network.parameters(), *unused.parameters()], lr=1e-2, weight_decay=weight_decay)
        for _ in range(50):
            update(optimizer, network(torch.randn(7, 1, 4, 4)).square().mean())
        found.append([weight.detach() for weight in (*network.parameters(), *unused.parameters())])
    assert all(torch.equal(theirs, ours) for theirs, ours in zip(*found))


@pytest.mark.parametrize(("width", "threads"), [(8, 1), (2048, 2)])
def test_a_small_network_is_trained_with_one_thread_and_a_large_one_with_all(width, threads, line):
    seen = []

    class Watched(SmallAutoEncoder):
        def build(self, shape):
            return nn.Sequential(nn.Linear(shape[0], width), nn.Linear(width, width), nn.Linear(width, shape[0]))

        def loss(self, batch, generator):
            seen.append(torch.get_num_threads())
            if len(seen) == 2:
                raise KeyboardInterrupt
            return super().loss(batch, generator)

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyboardInterrupt):
            Watched(epochs=2).fit(line)
        assert seen == [threads] * 2 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
