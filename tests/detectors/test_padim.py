import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from mmad_utils.datasets.record import DatasetError
from mmad_utils.detector import Detector, DetectorError
from mmad_utils.detectors import padim
from mmad_utils.detectors.padim import PaDiM, PatchCore, _greedy_coreset, _stream_coreset
from mmad_utils.encoders.image import ImageEncoder
from mmad_utils.metrics import auroc
from mmad_utils.thresholds import QuantileThreshold

DETECTORS = [
    PaDiM(image_size=64, n_features=20, random_state=0),
    PaDiM(image_size=64, feature_selection="pca", n_features=20, random_state=0),
    PaDiM(image_size=64, feature_selection="semi_orthogonal", n_features=20, random_state=0),
    PaDiM(image_size=64, feature_selection="all"),
    PaDiM(image_size=64, per_position=False, n_features=20, random_state=0),
    PatchCore(image_size=64, coreset_ratio=0.1, random_state=0),
]
NAMES = ["random", "pca", "semi_orthogonal", "all", "global", "PatchCore"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMAD_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def scene():
    """Striped pictures; in every second test picture a patch of noise, whose place is known."""
    rng = np.random.default_rng(0)
    columns = np.arange(64)

    def stripes(n):
        phase, noise = rng.uniform(0, 1, (n, 1, 1)), rng.normal(0, 4, (n, 64, 64))
        wave = 128 + 60 * np.sin(columns / 4 + phase) + noise
        return np.repeat(wave.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)

    train, test = stripes(12), stripes(8)
    masks = np.zeros((8, 64, 64), bool)
    for i in range(1, 8, 2):
        row, column = rng.integers(4, 40, 2)
        masks[i, row : row + 20, column : column + 20] = True
        test[i][masks[i]] = rng.integers(0, 256, (400, 3))
    return train, test, masks


@pytest.mark.parametrize("detector", DETECTORS, ids=NAMES)
def test_a_foreign_patch_is_found_and_placed(detector, scene):
    train, test, masks = scene
    fitted = clone(detector).fit(train)
    scores, maps = fitted.anomaly_score(test), fitted.anomaly_map(test)
    assert auroc(masks.any((1, 2)).astype(int), scores) == 1
    assert maps.shape == (8, 64, 64) and maps.dtype == np.float32
    assert auroc(masks[1::2].ravel().astype(int), maps[1::2].ravel()) > 0.85


@pytest.mark.parametrize("detector", DETECTORS, ids=NAMES)
def test_the_batch_size_changes_nothing(detector, scene):
    train, test, _ = scene
    maps = [clone(detector).set_params(batch_size=b).fit(train).anomaly_map(test) for b in (3, 12)]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4)


@pytest.mark.parametrize("detector", [DETECTORS[0], DETECTORS[2], DETECTORS[5]], ids=["random", "QR", "PatchCore"])
def test_the_seed_alone_decides(detector, scene):
    train, test, _ = scene
    scores = [clone(detector).set_params(random_state=s).fit(train).anomaly_score(test) for s in (0, 0, 1)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


def test_padim_is_the_mahalanobis_distance_at_each_position(scene):
    train, test, _ = scene
    encoder = ImageEncoder(layers=(1, 2), image_size=64)
    X, new = (torch.cat(list(encoder.embeddings(x))).double().numpy() for x in (train, test))
    padim = PaDiM(layers=(1, 2), feature_selection="all", image_size=64, covariance_regularization=0.1).fit(train)
    found = torch.cat(list(padim._patch_distances(test))).flatten(1).numpy()
    for p in (0, 77, 255):
        precision = np.linalg.inv(np.cov(X[:, p], rowvar=False) + 0.1 * np.eye(X.shape[2]))
        delta = new[:, p] - X[:, p].mean(0)
        expected = np.sqrt(np.einsum("nd,de,ne->n", delta, precision, delta))
        np.testing.assert_allclose(found[:, p], expected, rtol=1e-4)


def test_selection_before_interpolation_is_selection_after_it(scene):
    train = scene[0]
    for selection in ("random", "semi_orthogonal", "pca"):
        padim = PaDiM(image_size=64, n_features=30, feature_selection=selection, random_state=0).fit(train)
        (found,) = padim._embeddings(train)
        (whole,) = padim._encoder.embeddings(train)
        expected = whole[..., padim.selection_] if selection == "random" else whole @ padim.selection_
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
        if selection != "random":
            gram = padim.selection_.T @ padim.selection_
            torch.testing.assert_close(gram, torch.eye(30), rtol=0, atol=1e-5)


def test_pca_keeps_more_variance_than_chance(scene):
    kept = {}
    for selection in ("random", "semi_orthogonal", "pca"):
        padim = PaDiM(image_size=64, n_features=20, feature_selection=selection, random_state=0).fit(scene[0])
        (embeddings,) = padim._embeddings(scene[0])
        kept[selection] = embeddings.flatten(0, 1).var(0).sum()
    assert kept["pca"] > 1.5 * max(kept["random"], kept["semi_orthogonal"])


def test_the_image_score_is_the_maximum_of_the_map(scene):
    train, test, _ = scene
    padim = clone(DETECTORS[0]).fit(train)
    np.testing.assert_allclose(padim.anomaly_score(test), padim.anomaly_map(test).max((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 2.5, 4.0])
def test_the_map_is_enlarged_bilinearly_and_then_smoothed(scene, smoothing):
    train, test, _ = scene
    padim = clone(DETECTORS[0]).set_params(smoothing=smoothing).fit(train)
    distances = torch.cat(list(padim._patch_distances(test)))
    enlarged = torch.nn.functional.interpolate(distances[:, None], (64, 64), mode="bilinear")[:, 0].numpy()
    expected = gaussian_filter(enlarged, sigma=(0, smoothing, smoothing))
    np.testing.assert_allclose(padim.anomaly_map(test), expected, rtol=1e-5)


def test_smoothing_of_zero_leaves_the_distances(scene):
    train, test, _ = scene
    padim = clone(DETECTORS[0]).set_params(smoothing=0).fit(train)
    distances = torch.cat(list(padim._patch_distances(test)))
    assert padim.anomaly_map(test).max() <= distances.max() * (1 + 1e-6)


def test_patchcore_finds_the_nearest_memory_and_weighs_by_equation_7(scene):
    train, test, _ = scene
    model = clone(DETECTORS[5]).fit(train)
    memory = model.memory_.double().numpy()
    assert len(memory) == round(0.1 * 12 * 64)
    for patches, score in zip(model._patches(test), model.anomaly_score(test)):
        distances = np.linalg.norm(patches.double().numpy()[:, None] - memory, axis=2)
        found, nearest = padim._CoresetSearch(model.memory_).nearest(patches)
        np.testing.assert_array_equal(nearest, distances.argmin(1))
        np.testing.assert_allclose(found, distances.min(1), rtol=1e-5)
        worst = distances.min(1).argmax()
        crowd = np.argsort(np.linalg.norm(memory - memory[nearest[worst]], axis=1))[:9]
        share = 1 / np.exp(distances[worst, crowd] - distances[worst].min()).sum()
        assert score == pytest.approx(distances[worst].min() * (1 - share), rel=1e-4)


@pytest.mark.parametrize("columns", [5, 60])
@pytest.mark.parametrize("size", [1, 2, 3, 200])
def test_the_farthest_patch_is_the_one_that_a_search_of_all_finds(rng, size, columns):
    memory = torch.from_numpy(rng.normal(size=(size, columns)))
    search = padim._CoresetSearch(memory)
    for outlier in (1.0, 10.0):
        patches = torch.from_numpy(rng.normal(size=(100, columns)))
        patches[7] *= outlier
        nearest, rows = torch.cdist(patches, memory).min(1)
        distance, row, patch = search.farthest(patches)
        assert distance == pytest.approx(float(nearest.max())) and row == rows[nearest.argmax()]
        assert torch.equal(patch, patches[nearest.argmax()])


def test_remembering_everything_gives_training_images_distance_zero(scene):
    model = PatchCore(image_size=64, coreset_ratio=1.0, random_state=0).fit(scene[0][:3])
    assert model.anomaly_map(scene[0][:3]).max() < 1e-3


@pytest.mark.parametrize("candidates", [1, 30, 8192])
@pytest.mark.parametrize("columns", [2, 20])
def test_the_coreset_is_that_of_the_plain_greedy_algorithm(rng, monkeypatch, candidates, columns):
    monkeypatch.setattr(padim, "CANDIDATES", candidates)
    points = rng.normal(size=(600, columns)).astype(np.float32)
    expected = [5]
    for _ in range(59):
        distance = np.linalg.norm(points[:, None] - points[expected], axis=2).min(axis=1)
        expected.append(int(distance.argmax()))
    assert _greedy_coreset(torch.from_numpy(points), 60, first=5).tolist() == sorted(expected)


def test_the_coreset_covers_better_than_chance(rng):
    points = torch.from_numpy(rng.normal(size=(600, 8)).astype(np.float32) ** 3)
    chosen = _greedy_coreset(points, 40, first=7)
    assert len(set(chosen.tolist())) == 40 and 7 in chosen

    def radius(rows):
        return torch.cdist(points, points[rows]).min(1).values.max()

    by_chance = [radius(torch.from_numpy(rng.choice(600, 40, replace=False))) for _ in range(20)]
    assert radius(chosen) < min(by_chance)


def test_a_coreset_in_one_pass_covers_nearly_as_well_and_holds_no_more_than_its_buffer(rng):
    images = torch.from_numpy(rng.normal(size=(60, 10, 8)).astype(np.float32) ** 3)
    points, buffer = images.flatten(0, 1), torch.empty(150, 8)
    found = _stream_coreset(iter(images), buffer, torch.eye(8), 40, rng)

    def radius(chosen):
        return torch.cdist(points, chosen).min(1).values.max()

    assert found.shape == (40, 8) and set(map(tuple, found.tolist())) <= set(map(tuple, points.tolist()))
    by_chance = min(radius(points[torch.from_numpy(rng.choice(600, 40, replace=False))]) for _ in range(20))
    assert radius(found) < min(by_chance, 1.5 * radius(points[_greedy_coreset(points, 40, first=7)]))


def test_a_bounded_fit_of_patchcore_finds_the_patch_and_a_bound_that_is_not_reached_changes_nothing(scene):
    train, test, masks = scene
    exact = clone(DETECTORS[5]).fit(train)
    bounded = clone(DETECTORS[5]).set_params(max_patches=300).fit(train)  # of 12 images with 64 patches
    assert len(bounded.memory_) == 30
    assert auroc(masks.any((1, 2)).astype(int), bounded.anomaly_score(test)) == 1
    same = clone(DETECTORS[5]).set_params(max_patches=768).fit(train)
    np.testing.assert_array_equal(same.memory_, exact.memory_)
    with pytest.raises(DetectorError, match="cannot hold the 7 patches of the coreset and the 64 of an image"):
        clone(DETECTORS[5]).set_params(max_patches=70).fit(train)


def test_without_a_cache_no_feature_is_written(scene, tmp_path):
    PaDiM(image_size=64, n_features=5, cache=False, random_state=0).fit(scene[0])
    assert not list(tmp_path.rglob("*.npy"))


def test_a_coreset_of_identical_points_is_still_a_set():
    assert sorted(_greedy_coreset(torch.ones(6, 2), 6, first=3).tolist()) == list(range(6))


@pytest.mark.parametrize("detector", DETECTORS, ids=NAMES)
def test_a_saved_detector_scores_the_same(detector, scene, tmp_path):
    train, test, _ = scene
    fitted = clone(detector).fit(train)
    fitted.save(tmp_path / "model")
    again = Detector.load(tmp_path / "model")
    assert type(again) is type(fitted) and again.offset_ == fitted.offset_
    np.testing.assert_array_equal(again.anomaly_score(test), fitted.anomaly_score(test))


def test_loading_with_other_weights_is_refused(scene, tmp_path, monkeypatch):
    PaDiM(image_size=64, weights="random", random_state=1).fit(scene[0]).save(tmp_path / "model")
    monkeypatch.setattr(PaDiM, "_make_encoder", lambda self: ImageEncoder(image_size=64, layers=(2, 3)))
    with pytest.raises(DetectorError, match="other weights"):
        PaDiM.load(tmp_path / "model")


def test_the_training_threshold_scores_each_image_without_itself(scene):
    train, n = scene[0], len(scene[0])
    settings = {"image_size": 64, "n_features": 20, "random_state": 0}
    padim = PaDiM(**settings, contamination=0.25, covariance_regularization=0.1).fit(train)
    without = PaDiM(**settings, covariance_regularization=0.1 * (n - 1) / (n - 2))
    alone = [without.fit(np.delete(train, k, axis=0)).anomaly_score(train[k : k + 1])[0] for k in range(n)]
    assert -padim.offset_ == pytest.approx(np.quantile(alone, 0.75), rel=1e-3)
    assert -padim.offset_ > 1.2 * padim.anomaly_score(train).max(), "with itself a picture looks far too normal"


def test_calibration_replaces_the_training_threshold(scene):
    train, test, masks = scene
    padim = PaDiM(image_size=64, n_features=20, random_state=0).fit(train)
    normal = test[~masks.any((1, 2))]
    padim.calibrate(QuantileThreshold(0.5), normal)
    assert (padim.predict(normal) == -1).mean() == 0.5


def test_paths_and_arrays_score_alike(scene, tmp_path):
    train, test, _ = scene
    paths = []
    for i, picture in enumerate(test):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(picture).save(paths[-1])
    padim = clone(DETECTORS[0]).fit(train)
    np.testing.assert_array_equal(padim.anomaly_score([str(p) for p in paths]), padim.anomaly_score(test))
    np.testing.assert_array_equal(padim.anomaly_score(tuple(paths)), padim.anomaly_score(test))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("picture.png", "list of image paths"),
        (np.zeros((4, 64, 64, 3)), "uint8"),
        (np.zeros((4, 64), np.uint8), "uint8"),
        (np.zeros((1, 64, 64, 3), np.uint8), "at least 2"),
        ([], "at least 2"),
        (["nowhere/0.png", "nowhere/1.png"], "nowhere"),
        ([1, 2], "contains a int"),
    ],
)
def test_wrong_images_are_refused_before_the_backbone_is_built(X, message, monkeypatch):
    monkeypatch.setattr(padim, "ImageEncoder", lambda *_, **__: pytest.fail("slow work was started"))
    with pytest.raises((DetectorError, DatasetError), match=message):
        PaDiM().fit(X)


def test_a_truncated_image_is_named_before_the_backbone_is_built(scene, tmp_path, monkeypatch):
    paths = [tmp_path / "good.png", tmp_path / "cut.png"]
    for path in paths:
        Image.fromarray(scene[0][0]).save(path)
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    monkeypatch.setattr(padim, "ImageEncoder", lambda *_, **__: pytest.fail("slow work was started"))
    with pytest.raises(DatasetError, match=r"cut\.png"):
        PatchCore().fit(paths)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (PaDiM(feature_selection="lasso"), "semi_orthogonal"),
        (PaDiM(n_features=0), "n_features"),
        (PaDiM(covariance_regularization=0), "regularization"),
        (PaDiM(contamination=0.7), "contamination"),
        (PatchCore(coreset_ratio=0), "coreset_ratio"),
        (PatchCore(n_neighbors=0), "n_neighbors"),
        (PatchCore(max_patches=0), "max_patches"),
        (PatchCore(smoothing=-1), "smoothing"),
    ],
)
def test_wrong_parameters_are_refused_before_the_backbone_is_built(detector, message, scene, monkeypatch):
    monkeypatch.setattr(padim, "ImageEncoder", lambda *_, **__: pytest.fail("slow work was started"))
    with pytest.raises(ValueError, match=message):
        detector.fit(scene[0])
