import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from mmad_utils.detector import DetectorError, load_state, save_state
from mmad_utils.encoders.tabular import TabularEncoder


def curve(n, rng):
    t = rng.uniform(0, 2 * np.pi, n)
    return np.stack([f(k * t) for k in (1, 2) for f in (np.cos, np.sin)], axis=1) + 0.05 * rng.normal(size=(n, 4))


@pytest.fixture
def data(rng):
    train, test = curve(500, rng), curve(400, rng)
    test[200:] = rng.permuted(test[200:], axis=0)
    return train, test, np.repeat([0, 1], 200)


def test_training_shows_broken_relations_that_the_untrained_network_does_not(data):
    train, test, y = data
    areas = []
    for steps in (0, 800):
        encoder = TabularEncoder(steps=steps, random_state=0).fit(train)
        areas.append(roc_auc_score(y, np.square(encoder.transform(test)[:, 4:]).sum(1)))
    assert areas[1] > areas[0] + 0.15


def test_features_are_the_scaled_columns_and_what_the_others_do_not_say(data):
    train, test, _ = data
    encoder = TabularEncoder(steps=50, random_state=0).fit(train)
    low, middle, high = np.quantile(train, [0.25, 0.5, 0.75], axis=0)
    features = encoder.transform(test)
    np.testing.assert_allclose(features[:, :4], np.arcsinh((test - middle) / (high - low)), atol=1e-12)
    changed = test.copy()
    changed[:, 2] += 1  # what the others say of column 2 stays
    z, z_changed = (np.arcsinh((X - middle) / (high - low))[:, 2] for X in (test, changed))
    scale, center = encoder.network_.scale[2].item(), encoder.network_.center[2].item()
    residual, residual_changed = (np.sinh(encoder.transform(X)[:, 6]) * scale + center for X in (test, changed))
    np.testing.assert_allclose(residual_changed - residual, z_changed - z, atol=1e-6)


def test_equal_seeds_give_equal_bits_and_the_file_keeps_them(data, tmp_path):
    train, test, _ = data
    encoder = TabularEncoder(steps=40, random_state=3).fit(train)
    np.testing.assert_array_equal(clone(encoder).fit(train).transform(test), encoder.transform(test))
    assert not np.array_equal(
        TabularEncoder(steps=40, random_state=4).fit(train).transform(test), encoder.transform(test)
    )
    save_state(tmp_path / "file", encoder.get_state())
    state = load_state(tmp_path / "file")
    state["fitted"]["scaler_"] = encoder.scaler_
    loaded = TabularEncoder()
    loaded.set_state(state)
    np.testing.assert_array_equal(loaded.transform(test), encoder.transform(test))


def test_a_state_with_separate_weights_and_names_of_columns_still_loads(data):
    train, test = (pd.DataFrame(part, columns=list("abcd")) for part in data[:2])
    for encoder in (TabularEncoder(steps=5, random_state=0), TabularEncoder(steps=5, random_state=0).fit(train)):
        state = encoder.get_state()
        if fitted := state.pop("fitted"):
            weights, names = fitted.pop("network_"), fitted.pop("feature_names_in_")
            state |= {"fitted": fitted, "names": names, "weights": weights}
        loaded = TabularEncoder()
        loaded.set_state(state)
        assert loaded.get_params() == encoder.get_params() and hasattr(loaded, "network_") == bool(fitted)
    np.testing.assert_array_equal(loaded.transform(test), encoder.transform(test))
    assert loaded.feature_names_in_.tolist() == list("abcd")


def test_a_row_does_not_depend_on_the_rows_beside_it(data):
    train, test, _ = data
    encoder = TabularEncoder(steps=20, random_state=0).fit(train)
    np.testing.assert_allclose(encoder.transform(test[:1]), encoder.transform(test)[:1], rtol=1e-9)


def test_training_stops_when_held_out_rows_are_predicted_no_better(rng):
    noise = rng.normal(size=(300, 4))
    assert len(TabularEncoder(random_state=0, steps=3000).fit(noise).history_) < 1000


def test_without_residuals_the_scaled_columns_stay_alone(data):
    encoder = TabularEncoder(residuals=False).fit(data[0])
    assert encoder.transform(data[1]).shape == data[1].shape and len(encoder.owners_) == 4
    assert isinstance(encoder.module(), torch.nn.Identity)


def test_the_module_gives_the_features_of_transform(data):
    encoder = TabularEncoder(steps=20, random_state=0).fit(data[0])
    found = encoder.module()(encoder.inputs(data[1])).detach().numpy()
    np.testing.assert_allclose(found, encoder.transform(data[1]), atol=1e-4)


@pytest.mark.parametrize("change", [{"steps": -1}, {"mask_share": 1.0}, {"validation_share": -0.1}])
def test_wrong_parameters_are_refused(data, change):
    with pytest.raises(DetectorError, match="give at least 0 steps"):
        TabularEncoder(**change).fit(data[0])


def test_another_width_is_refused(data):
    with pytest.raises(ValueError, match="3 features"):
        TabularEncoder(steps=1).fit(data[0]).transform(data[1][:, :3])
