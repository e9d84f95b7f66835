import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from mmad_utils.datasets import load
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors.autoencoders import (
    AutoEncoder,
    ContractiveAutoEncoder,
    DenoisingAutoEncoder,
    SparseAutoEncoder,
    StackedDenoisingAutoEncoder,
    squared_jacobian_norm,
)
from mmad_utils.detectors.generative_autoencoders import (
    AdversarialAutoEncoder,
    VariationalAutoEncoder,
    gaussian_divergence,
)
from mmad_utils.training import TrainingError, seeded

CLASSES = [
    AutoEncoder,
    DenoisingAutoEncoder,
    StackedDenoisingAutoEncoder,
    SparseAutoEncoder,
    ContractiveAutoEncoder,
    VariationalAutoEncoder,
    AdversarialAutoEncoder,
]
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def small(cls, **parameters):
    """A detector with a tiny network that is trained for two epochs."""
    options = {"epochs": 2, "hidden": (4,), "latent_dim": 2, "random_state": 0} | parameters
    if cls is AdversarialAutoEncoder:  # by default it takes at least 400 steps
        options = {"min_steps": 0} | options
    return cls(**options)


@pytest.fixture
def curve(rng):
    """Rows near a bent line in three columns, of mean 0 and standard deviation 1."""
    t = rng.uniform(-1, 1, 300)
    X = np.stack([t, t**2, np.sin(3 * t)], 1) + 0.03 * rng.normal(size=(300, 3))
    return (X - X.mean(0)) / X.std(0)


@pytest.fixture
def small_images(rng):
    """Bright bars at one of 8 heights."""
    X = rng.integers(0, 40, (48, 8, 8, 1), dtype=np.uint8)
    for image, row in zip(X, rng.integers(0, 8, 48)):
        image[row] = 220
    return X


@parametrize_with_checks([small(cls, epochs=1) for cls in CLASSES])
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


@every_class
def test_training_beats_the_untrained_network_where_the_distance_to_the_centre_fails(cls, curve, rng):
    broken = np.stack([rng.permutation(column) for column in curve[200:].T], 1)  # each column alone is as before
    test, y = np.concatenate([curve[200:], broken]), np.repeat([0, 1], 100)
    latent_dim = 32 if cls in (SparseAutoEncoder, ContractiveAutoEncoder) else 1
    areas = []
    for epochs in (0, 50):
        detector = cls(epochs=epochs, hidden=(32,), latent_dim=latent_dim, learning_rate=0.01, random_state=0)
        areas.append(roc_auc_score(y, detector.fit(curve[:200]).anomaly_score(test)))
    assert areas[1] > max(0.75, areas[0] + 0.1)
    assert roc_auc_score(y, np.square(test).sum(1)) < 0.65


@every_class
@pytest.mark.parametrize("kind", ["table", "images"])
def test_a_saved_detector_scores_as_before_and_equal_seeds_give_bitwise_equal_results(
    cls, kind, curve, small_images, tmp_path
):
    X = curve if kind == "table" else small_images
    detector, again, other = (small(cls, random_state=seed).fit(X) for seed in (1, 1, 2))
    np.testing.assert_array_equal(again.anomaly_score(X), detector.anomaly_score(X))
    assert not np.array_equal(other.anomaly_score(X), detector.anomaly_score(X))
    detector.save(tmp_path / "net")
    loaded = Detector.load(tmp_path / "net")
    assert type(loaded) is cls
    np.testing.assert_array_equal(loaded.decision_function(X), detector.decision_function(X))
    np.testing.assert_array_equal(loaded.reconstruct(X), detector.reconstruct(X))


@every_class
def test_the_map_of_an_image_sums_to_its_score_and_shows_where_it_was_changed(cls, small_images):
    changed = small_images.copy()
    changed[:, :, 5:7] = 130
    detector = cls(epochs=25, batch_size=16, learning_rate=0.01, random_state=0).fit(small_images)
    maps = detector.anomaly_map(changed)
    assert maps.shape == (48, 8, 8)
    np.testing.assert_allclose(maps.sum((1, 2)), detector.anomaly_score(changed), rtol=1e-5)
    assert maps[:, :, 5:7].mean() > 1.5 * np.delete(maps, (5, 6), axis=2).mean()


@every_class
@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 20, 3), (64, 64, 3)])
def test_images_of_many_sizes_are_taken_and_reconstructions_look_like_them(cls, shape, rng):
    X = rng.integers(0, 256, (6, *shape), dtype=np.uint8)
    detector = small(cls, epochs=1).fit(X)
    assert detector.reconstruct(X).shape == X.shape and detector.reconstruct(X).dtype == np.uint8
    assert detector.encode(X).shape == (6, 2)
    assert detector.anomaly_map(X).shape == X.shape[:3]


def test_loss_and_score_are_the_squared_reconstruction_error(curve):
    detector = small(AutoEncoder).fit(curve)
    weights = {name: value.numpy() for name, value in detector.network_.state_dict().items()}
    hidden = curve
    for part in ("encoder", "decoder"):
        for layer in ("0", "2"):
            hidden = hidden @ weights[f"{part}.{layer}.weight"].T + weights[f"{part}.{layer}.bias"]
            hidden = np.where((hidden > 0) | (layer == "2"), hidden, 0.01 * hidden)  # LeakyReLU after the first
    expected = np.square(curve - hidden).sum(1)
    np.testing.assert_allclose(detector.reconstruct(curve), hidden, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(detector.anomaly_score(curve), expected, rtol=1e-9)
    np.testing.assert_allclose(detector.loss(torch.tensor(curve), None).item(), expected.mean())


def test_a_linear_autoencoder_finds_the_principal_components(rng):
    X = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) * [3, 2, 1, 1, 0.5, 0.5]
    X = (X - X.mean(0)) / X.std()
    detector = AutoEncoder(latent_dim=2, hidden=(), epochs=300, batch_size=100, learning_rate=0.02, random_state=0)
    pca = PCA(2).fit(X)
    best = np.square(X - pca.inverse_transform(pca.transform(X))).sum(1)
    score = detector.fit(X).anomaly_score(X)
    assert best.mean() <= score.mean() < 1.02 * best.mean()
    assert np.corrcoef(score, best)[0, 1] > 0.99


@every_class
def test_latent_codes_are_decoded_to_the_reconstructions(cls, curve, small_images):
    for X in (curve, small_images):
        detector = small(cls).fit(X)
        np.testing.assert_allclose(detector.decode(detector.encode(X)), detector.reconstruct(X), atol=1e-6)


def test_the_default_code_has_the_square_root_of_the_number_of_features(rng):
    for shape, length in (((12,), 4), ((36,), 6), ((8, 8, 1), 8), ((8, 8, 3), 14)):
        X = rng.integers(0, 256, (5, *shape)).astype(np.uint8 if len(shape) == 3 else float)
        assert AutoEncoder(epochs=0).fit(X).encode(X).shape == (5, length)


@pytest.mark.parametrize("cls", [AutoEncoder, VariationalAutoEncoder, SparseAutoEncoder, StackedDenoisingAutoEncoder])
def test_the_caller_can_bring_a_network(cls, curve, tmp_path):
    def network(shape, latent_dim):
        return nn.Sequential(nn.Linear(*shape, latent_dim), nn.Tanh()), nn.Sequential(nn.Linear(latent_dim, *shape))

    detector = small(cls, network=network).fit(curve)
    assert any(isinstance(module, nn.Tanh) for module in detector.network_["encoder"].modules())
    assert np.isfinite(detector.anomaly_score(curve)).all()
    with pytest.raises(DetectorError, match="could only be written by pickle"):
        detector.save(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_networks_of_the_wrong_shape_are_refused(curve):
    def too_wide(shape, latent_dim):
        return nn.Linear(*shape, latent_dim + 1), nn.Linear(latent_dim + 1, *shape)

    def too_narrow(shape, latent_dim):
        return nn.Linear(*shape, latent_dim), nn.Linear(latent_dim, 1)

    with pytest.raises(DetectorError, match=r"codes of shape \(3,\); expected \(2,\)"):
        small(AutoEncoder, network=too_wide).fit(curve)
    with pytest.raises(DetectorError, match=r"gives samples of shape \(1,\) for inputs of \(3,\)"):
        small(AutoEncoder, network=too_narrow).fit(curve)
    with pytest.raises(DetectorError, match=r"gives samples of shape \(1,\) for inputs of \(3,\)"):
        small(AutoEncoder, network=too_narrow, epochs=0).fit(curve)


# Denoising


@pytest.mark.parametrize("corruption", [0.3, 0.8])
def test_masking_zeroes_a_binomial_number_of_features_and_changes_no_other(corruption):
    detector = DenoisingAutoEncoder(noise="masking", corruption=corruption)
    batch = torch.full((4000, 20), 2.0)
    zeroed = (detector.corrupt(batch, torch.Generator().manual_seed(0)) == 0).sum(1).numpy()
    assert set(detector.corrupt(batch, torch.Generator()).unique().tolist()) <= {0.0, 2.0}
    counts = np.bincount(zeroed, minlength=21)
    expected = 4000 * stats.binom.pmf(range(21), 20, corruption)
    kept = expected > 5
    assert counts[~kept].sum() < 60
    assert stats.chisquare(counts[kept], expected[kept] * counts[kept].sum() / expected[kept].sum()).pvalue > 1e-3


def test_gaussian_noise_has_the_standard_deviation_that_was_asked_for():
    noise = DenoisingAutoEncoder(corruption=0.7).corrupt(torch.zeros(20000), torch.Generator().manual_seed(0))
    assert stats.kstest(noise.numpy() / 0.7, "norm").pvalue > 1e-3


def test_gaussian_noise_of_images_is_measured_in_their_own_contrast(rng):
    images = torch.from_numpy(0.6 + 0.05 * rng.normal(size=(50, 1, 20, 20)))
    noise = DenoisingAutoEncoder(corruption=0.7).corrupt(images, torch.Generator().manual_seed(0)) - images
    assert stats.kstest(noise.numpy().ravel() / (0.7 * 0.05), "norm").pvalue > 1e-3


@pytest.mark.parametrize("noise", ["gaussian", "masking"])
def test_the_loss_compares_the_reconstruction_of_the_corrupted_sample_with_the_clean_one(noise, curve):
    detector = small(DenoisingAutoEncoder, noise=noise, corruption=0.5).fit(curve)
    batch = torch.tensor(curve)
    seen = detector.corrupt(batch, torch.Generator().manual_seed(3))
    assert not torch.equal(seen, batch)
    expected = (detector.reconstruction(seen) - batch).square().sum(1).mean()
    assert detector.loss(batch, torch.Generator().manual_seed(3)).item() == pytest.approx(expected.item())
    np.testing.assert_allclose(  # scoring adds no noise
        detector.anomaly_score(curve), np.square(detector.reconstruct(curve) - curve).sum(1)
    )


def test_a_denoiser_with_a_wide_code_steps_back_to_the_data(rng):
    angle = rng.uniform(0, 2 * np.pi, 300)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    detector = DenoisingAutoEncoder(latent_dim=32, hidden=(32,), corruption=0.2, learning_rate=0.01, random_state=0)
    detector.set_params(epochs=60, batch_size=50).fit(ring)
    away = ring * rng.choice([0.75, 1.25], (300, 1))
    assert np.abs(np.linalg.norm(detector.reconstruct(away), axis=1) - 1).mean() < 0.15


def test_a_stack_trains_each_layer_on_clean_codes_of_the_one_below_and_corrupts_only_its_input(curve, monkeypatch):
    seen = []
    corrupt = StackedDenoisingAutoEncoder.corrupt

    def spy(self, batch, generator):
        seen.append(batch)
        return corrupt(self, batch, generator)

    monkeypatch.setattr(StackedDenoisingAutoEncoder, "corrupt", spy)
    detector = small(StackedDenoisingAutoEncoder, hidden=(7, 5), pretraining_epochs=1, batch_size=300, epochs=3)
    detector.fit(curve)
    assert [tuple(batch.shape) for batch in seen] == [(300, 3), (300, 7), (300, 5)]  # none in fine-tuning
    assert len(detector.history_) == 3 + 3
    expected = np.sort(curve.astype(np.float32), axis=0)
    np.testing.assert_array_equal(np.sort(seen[0].numpy(), axis=0), expected)


def test_pretraining_changes_only_the_layer_in_training_and_its_mirror(curve):
    detector = small(StackedDenoisingAutoEncoder, hidden=(7, 5), epochs=0).fit(curve)
    levels = detector._levels()
    widths = [[m for m in part if isinstance(m, nn.Linear)] for level in levels for part in level]
    shapes = [(linear.in_features, linear.out_features) for (linear,) in widths]
    assert shapes == [(3, 7), (7, 3), (7, 5), (5, 7), (5, 2), (2, 5)]
    for inner, outer in zip(levels[1:], levels):  # composed, the levels are the whole autoencoder
        assert inner[1][-1].out_features == outer[1][-1].in_features
    batch = torch.tensor(curve)
    code = batch
    for layer, _ in levels:
        code = layer(code)
    for _, mirror in levels[::-1]:
        code = mirror(code)
    assert torch.equal(code, detector.reconstruction(batch))


def test_a_stack_without_mirror_is_refused(curve):
    def lopsided(shape, latent_dim):
        return nn.Sequential(nn.Linear(3, 5), nn.Linear(5, latent_dim)), nn.Sequential(nn.Linear(latent_dim, 3))

    with pytest.raises(DetectorError, match="2 layers with weights and the decoder 1: give both"):
        small(StackedDenoisingAutoEncoder, network=lopsided).fit(curve)


def test_pretraining_starts_fine_tuning_lower(curve):
    first = []
    for epochs in (0, 20):
        detector = StackedDenoisingAutoEncoder(pretraining_epochs=epochs, hidden=(16,), dropout=0.0, corruption=0.1)
        detector.set_params(epochs=1, learning_rate=0.01, random_state=0).fit(curve)
        first.append(detector.history_[-1]["loss"])
    assert first[1] < 0.7 * first[0]


# Sparse and contractive


@pytest.mark.parametrize("p", [0.05, 0.3])
def test_the_sparsity_penalty_is_the_divergence_of_scipy_and_finite_for_silent_units(p):
    detector, means = SparseAutoEncoder(activity=p, sparsity_weight=1.0), [0.01, 0.05, 0.3, 0.5, 0.99]
    expected = sum(stats.entropy([p, 1 - p], [a, 1 - a]) for a in means)
    assert detector.code_penalty(None, torch.tensor([means, means])).item() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(detector.code_penalty(None, torch.tensor([[0.0, 1.0]])))


def test_the_sparse_loss_is_the_error_plus_the_divergence_of_the_mean_activations(curve):
    detector = small(SparseAutoEncoder, activity=0.1, sparsity_weight=0.7).fit(curve)
    codes = detector.encode(curve)
    assert ((codes > 0) & (codes < 1)).all()
    divergence = sum(stats.entropy([0.1, 0.9], [a, 1 - a]) for a in codes.mean(0))
    expected = detector.anomaly_score(curve).mean() + 0.7 * divergence
    assert detector.loss(torch.tensor(curve), None).item() == pytest.approx(expected)


def test_the_sparsity_penalty_brings_the_mean_activation_to_its_target(curve):
    means = [
        SparseAutoEncoder(sparsity_weight=weight, epochs=30, learning_rate=0.01, random_state=0)
        .fit(curve)
        .encode(curve)
        .mean()
        for weight in (0.0, 10.0)
    ]
    assert means[0] > 0.2 and means[1] == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("kind", ["one layer", "three layers", "relu", "convolutions", "pixels"])
def test_the_jacobian_norm_is_that_of_autograds_full_jacobian(kind):
    with seeded(0):
        shape = (2, 8, 8) if kind in ("convolutions", "pixels") else (5,)
        encoder = {
            "one layer": nn.Sequential(nn.Sequential(nn.Linear(5, 7)), nn.Sigmoid()),
            "three layers": nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Sigmoid(), nn.Linear(6, 4)),
            "relu": nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4), nn.Sigmoid()),
            "convolutions": nn.Sequential(
                nn.Conv2d(2, 3, 4, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3), nn.Sigmoid()
            ),
            "pixels": nn.Sequential(nn.Flatten(), nn.Linear(128, 6), nn.Sigmoid()),
        }[kind].double()
        batch = torch.randn(4, *shape, dtype=torch.float64)
    ours = squared_jacobian_norm(encoder, batch)
    expected = [
        torch.autograd.functional.jacobian(lambda x: encoder(x[None])[0], sample).square().sum() for sample in batch
    ]
    torch.testing.assert_close(ours, torch.stack(expected))
    assert torch.autograd.gradcheck(  # the penalty must be differentiable in the weights
        lambda weight: torch.func.functional_call(
            _Penalty(encoder), {"encoder." + next(iter(encoder.state_dict())): weight}, (batch,)
        ),
        (next(encoder.parameters()).detach().clone().requires_grad_(),),
    )


class _Penalty(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch):
        return squared_jacobian_norm(self.encoder, batch)


def test_contraction_makes_the_code_less_sensitive(curve):
    norms = []
    for weight in (0.0, 10.0):
        detector = ContractiveAutoEncoder(contraction=weight, latent_dim=16, epochs=20, learning_rate=0.01)
        detector.set_params(random_state=0).fit(curve)
        norms.append(squared_jacobian_norm(detector.network_["encoder"], torch.tensor(curve)).mean().item())
    assert norms[1] < norms[0] / 2


def test_the_contractive_decoder_shares_the_weights_of_the_encoder_also_after_training(curve):
    network = small(ContractiveAutoEncoder, hidden=()).fit(curve).network_
    weight = network["encoder"][0][1][0].weight
    assert network["decoder"][0].weight is weight
    torch.testing.assert_close(
        network["decoder"](torch.eye(2, dtype=torch.float64)), weight + network["decoder"][0].bias
    )


# Variational


def test_the_divergence_of_the_latent_codes_is_that_of_torch_distributions():
    mean, log_variance = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    codes = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(codes, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(gaussian_divergence(mean, log_variance), expected)


def test_gradients_reach_mean_and_deviation_through_the_draw(curve):
    detector = small(VariationalAutoEncoder, beta=0.0).fit(curve)
    detector.loss(torch.tensor(curve), torch.Generator().manual_seed(0)).backward()
    last = detector.network_["encoder"][-1].weight.grad  # rows: first those of μ, then those of log σ²
    assert (last.abs().sum(1) > 0).all()


def test_drawn_codes_have_the_mean_and_deviation_of_the_encoder(curve):
    detector = small(VariationalAutoEncoder).fit(curve)
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 1.0]])
    generator = torch.Generator().manual_seed(0)
    draws = detector._draw(mean.expand(5000, 2), log_variance.expand(5000, 2), generator)
    scaled = (draws - mean) / (log_variance / 2).exp()
    assert stats.kstest(scaled.flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("kind", ["table", "images"])
def test_the_variational_loss_is_the_negative_evidence_bound_at_the_best_variance(kind, curve, small_images):
    X = curve if kind == "table" else small_images
    detector = small(VariationalAutoEncoder, beta=0.5).fit(X)
    batch = detector._tensor(X)
    with torch.no_grad():
        mean, log_variance = detector.distribution(batch)
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1), dtype=mean.dtype)
        copy = detector.network_["decoder"](mean + noise * (log_variance / 2).exp())
        loss = detector.loss(batch, torch.Generator().manual_seed(1)).item()
    residuals = (batch - copy).numpy()
    sd = np.sqrt(np.square(residuals).mean())
    log_density = stats.norm.logpdf(residuals, scale=sd).reshape(len(X), -1).sum(1).mean()
    constant = 0.5 * np.log(2 * np.pi) * residuals[0].size
    divergence = gaussian_divergence(mean, log_variance).mean().item()
    assert loss == pytest.approx(-log_density - constant + 0.5 * divergence, rel=1e-4)


def test_the_reconstruction_probability_is_the_mean_log_density_under_drawn_codes(curve):
    detector = VariationalAutoEncoder(scoring="probability", n_samples=4000, epochs=5, hidden=(8,), random_state=0)
    detector.fit(curve[:100])
    sd = np.sqrt(detector.network_.variance.item())
    rng = np.random.default_rng(1)
    mean, code_sd = detector.encode(curve[:5]), detector.encode_sd(curve[:5])
    draws = rng.normal(mean, code_sd, (4000, *mean.shape))
    copies = np.stack([detector.decode(codes) for codes in draws])
    log_density = stats.norm.logpdf(curve[:5], copies, sd).sum(2)
    constant = 0.5 * np.log(2 * np.pi) * 3
    error = log_density.std(0) / np.sqrt(4000)
    assert (np.abs(-log_density.mean(0) - constant - detector.anomaly_score(curve[:5])) < 7 * error).all()


def test_without_the_divergence_the_deviations_shrink(curve):
    sds = [
        VariationalAutoEncoder(beta=beta, latent_dim=1, hidden=(16,), epochs=25, learning_rate=0.01, random_state=0)
        .fit(curve)
        .encode_sd(curve)
        .mean()
        for beta in (0.0, 1.0, 100.0)
    ]
    assert sds[0] < sds[1] < sds[2] and sds[2] > 0.9


def test_a_constant_column_does_not_break_the_variance(curve):
    X = np.column_stack([curve, np.full(len(curve), 3.0)])
    for scoring in ("reconstruction", "probability"):
        detector = VariationalAutoEncoder(scoring=scoring, epochs=5, random_state=0).fit(X)
        assert np.isfinite(detector.anomaly_score(X)).all() and (detector.network_.variance > 0).all()


# Adversarial


def test_the_adversary_makes_the_latent_codes_standard_normal(curve):
    detector, plain = (
        cls(latent_dim=1, hidden=(16,), learning_rate=0.01, epochs=40, random_state=0).fit(curve)
        for cls in (AdversarialAutoEncoder, AutoEncoder)
    )
    distance, plain_distance = (stats.kstest(d.encode(curve)[:, 0], "norm").statistic for d in (detector, plain))
    assert distance < 0.25 and distance < plain_distance
    assert set(detector.history_[0]) == {"loss", "discriminator", "encoder"}


def test_the_adversary_gets_more_epochs_on_small_data(curve):
    for epochs, expected in ((0, 0), (1, 4), (9, 9)):  # 300 rows are three batches of 100
        detector = AdversarialAutoEncoder(epochs=epochs, min_steps=10, batch_size=100, random_state=0).fit(curve)
        assert len(detector.history_) == expected


# Bad input


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (AutoEncoder(latent_dim=0), "latent_dim is 0"),
        (DenoisingAutoEncoder(noise="salt"), "noise is 'salt'; choose 'gaussian' or 'masking'"),
        (DenoisingAutoEncoder(noise="masking", corruption=1.0), "a probability below 1"),
        (DenoisingAutoEncoder(corruption=-1.0), "corruption is -1.0"),
        (SparseAutoEncoder(activity=0.0), "activity is 0.0"),
        (VariationalAutoEncoder(scoring="likelihood"), "scoring is 'likelihood'"),
        (VariationalAutoEncoder(scoring="probability", n_samples=0), "with 0 samples"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_parameter_is_named_before_training(detector, message, curve):
    with pytest.raises(DetectorError, match=message):
        detector.fit(curve)


@every_class
def test_images_that_cannot_be_halved_are_refused(cls, rng):
    X = rng.integers(0, 256, (6, 9, 9, 1), dtype=np.uint8)
    if cls is ContractiveAutoEncoder:  # its encoder halves nothing
        assert np.isfinite(small(cls).fit(X).anomaly_score(X)).all()
        return
    with pytest.raises(DetectorError, match="images of 9×9 cannot be halved"):
        small(cls).fit(X)


@every_class
def test_one_training_sample_is_refused_and_one_sample_a_batch_is_not(cls, curve):
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        small(cls).fit(curve[:1])
    assert np.isfinite(small(cls, batch_size=1).fit(curve[:10]).anomaly_score(curve)).all()


@every_class
def test_a_constant_column_is_harmless(cls, curve):
    X = np.column_stack([curve, np.full(len(curve), 3.0)])
    assert np.isfinite(small(cls).fit(X).anomaly_score(X)).all()


@every_class
def test_a_loss_that_is_not_finite_stops_with_the_epoch(cls, curve):
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) in epoch \d+ of"):
        small(cls, epochs=3, learning_rate=1e30).fit(curve * 1e10)


def test_files_of_another_class_or_shape_and_broken_files_are_one_clear_error(curve, tmp_path):
    path = tmp_path / "net"
    small(AutoEncoder).fit(curve).save(path)
    with pytest.raises(DetectorError, match="contains a AutoEncoder, not a VariationalAutoEncoder"):
        VariationalAutoEncoder.load(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DetectorError, match="damaged or was not written"):
        AutoEncoder.load(path)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(DetectorError, match="damaged or was not written"):
        AutoEncoder.load(path)
    detector = small(AutoEncoder).fit(curve)
    detector.hidden = (5,)
    detector.save(path)
    with pytest.raises(DetectorError, match="does not fit AutoEncoder as it is now"):
        AutoEncoder.load(path)


def test_several_networks_have_no_common_code(curve):
    detector = small(AutoEncoder, n_estimators=2).fit(curve)
    for function in (detector.encode, detector.reconstruct, detector.decode):
        with pytest.raises(DetectorError, match="of one of estimators_"):
            function(curve)
    assert detector.estimators_[0].encode(curve).shape == (300, 2)


def test_an_autoencoder_finds_other_digits():
    digits = load("digits/3", seed=0)
    detector = AutoEncoder(random_state=0).fit(digits.X_train)
    assert roc_auc_score(digits.y_test, detector.anomaly_score(digits.X_test)) > 0.95
