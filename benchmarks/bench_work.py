"""The tasks that benchmarks/bench.py measures, by this package ("mmad") and by another library ("peer").

    python benchmarks/bench_work.py TASK SIDE SEED SETTING FOLDER

A process runs one task once. SETTING is a JSON object with the arguments of the function of that name. The output in
FOLDER is measures.json, and result.npy if both sides compute the same array. Data are generated, and each library is
called once, before the measurement starts.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from scipy import ndimage
from sklearn.preprocessing import StandardScaler

import mmad_utils
from mmad_utils.datasets import load
from mmad_utils.detectors.padim import PaDiM, PatchCore
from mmad_utils.detectors.positionwise_gaussian import PositionwiseGaussian
from mmad_utils.metrics import auroc, pixel_metrics

GRID, IMAGE_SIZE, BATCH = 56, 224, 32  # positions of an image, its side in pixels, images that are scored together
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY, HIDDEN, DROPOUT = 50, 64, 1e-3, 1e-5, 64, 0.2  # of both sides
CODE, OUTPUTS = 8, 32  # latent code of the autoencoders, outputs of the other networks
LIBRARIES = ("anomalib", "pyod", "deepod", "torchmetrics")  # the first imported one is recorded
BORDER = 16  # pixels at the edge of a map, where the smoothing of the two sides differs


@contextmanager
def measured(measures: dict, part: str) -> Iterator[None]:
    """Add seconds, CPU seconds and the increase of the peak resident memory in bytes (Linux only)."""
    gc.collect()
    before = peak_bytes(reset=True)
    start, cpu = time.perf_counter(), time.process_time()
    yield
    measures[f"{part}_seconds"] = time.perf_counter() - start
    measures[f"{part}_cpu"] = time.process_time() - cpu
    if before:
        measures[f"{part}_bytes"] = peak_bytes() - before


def peak_bytes(reset: bool = False) -> int:
    """Largest resident memory of this process since the last reset; 0 if the system does not provide it."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def embeddings(n: int, p: int, d: int, seed: int) -> np.ndarray:
    """Float32 (n, p, d): unequal scales, eight common factors and a mean at each position, and noise."""
    result = np.empty((n, p, d), np.float32)
    for i in range(p):
        position, rng = np.random.default_rng([0, i]), np.random.default_rng([seed, i])
        mean, loadings = position.normal(2, 1, d), position.normal(0, 0.5, (8, d))
        scale = position.uniform(0.1, 1.5, d).astype(np.float32)
        factors = (rng.normal(size=(n, 8)) @ loadings + mean).astype(np.float32)
        result[:, i] = factors + rng.standard_normal((n, d), np.float32) * scale
    return result


def padim(side: str, seed: int, *, samples: int, channels: int, images: int = 64):
    """Fit PaDiM's Gaussians to embeddings of 56² positions, then compute maps of other images (no backbone)."""
    data = embeddings(samples, GRID**2, channels, 2 * seed + 1)
    new = embeddings(images, GRID**2, channels, 2 * seed + 2)
    small = torch.rand(8, GRID**2, 4)
    measures: dict = {}
    if side == "mmad":
        detector = PaDiM(image_size=IMAGE_SIZE)
        _padim_maps(detector, PositionwiseGaussian().fit(small), small)
        with measured(measures, "fit"):
            gaussian = PositionwiseGaussian().fit(data)
        with measured(measures, "score"):
            maps = _padim_maps(detector, gaussian, torch.from_numpy(new))
    else:
        from anomalib.models.components import MultiVariateGaussian
        from anomalib.models.image.padim.anomaly_map import AnomalyMapGenerator

        data, new, small = (_as_maps(torch.as_tensor(each)) for each in (data, new, small))
        draw, gaussian = AnomalyMapGenerator(sigma=4), MultiVariateGaussian()
        _anomalib_maps(draw, gaussian.fit(small), small)
        with measured(measures, "fit"):
            fitted = gaussian.fit(data)
        with measured(measures, "score"):
            maps = _anomalib_maps(draw, fitted, new)
    return measures, maps[:, BORDER:-BORDER, BORDER:-BORDER]


def _as_maps(rows: torch.Tensor) -> torch.Tensor:
    """(n, p, d) embeddings as contiguous (n, d, h, w)."""
    return rows.mT.contiguous().unflatten(2, (GRID, GRID))


def _padim_maps(detector: PaDiM, gaussian: PositionwiseGaussian, new: torch.Tensor) -> np.ndarray:
    distances = (gaussian.mahalanobis(batch).unflatten(1, (GRID, GRID)) for batch in new.split(BATCH))
    return np.concatenate([detector._draw(batch) for batch in distances])


def _anomalib_maps(draw, fitted, new: torch.Tensor) -> np.ndarray:
    mean, inverse = fitted
    maps = [
        draw(embedding=batch, mean=mean, inv_covariance=inverse, image_size=(IMAGE_SIZE, IMAGE_SIZE))
        for batch in new.split(BATCH)
    ]
    return torch.cat(maps)[:, 0].numpy()


class _PreparedPatches(PatchCore):
    """PatchCore on precomputed patches (p, d) of each image."""

    def _start_fit(self):
        return np.random.default_rng(self.random_state)

    def _patches(self, X):
        yield from X


def patchcore(side: str, seed: int, *, images: int, ratio: float):
    """Choose a coreset of real patches, then score test images by their nearest patch (no backbone)."""
    data = load("synthetic/hazelnut").resplit(seed).half("report")
    source = PatchCore(layers=(2, 3, 4), random_state=seed)
    source._encoder = source._make_encoder()
    train, test = ([patches.clone() for patches in source._patches(X)] for X in (data.X_train[:images], data.X_test))
    measures: dict = {}
    if side == "mmad":
        detector = _PreparedPatches(coreset_ratio=ratio, random_state=seed)
        grid, channels = source._encoder.grid_, source._encoder.channels
        detector._encoder = SimpleNamespace(grid_=grid, channels=channels)
        detector._fit(train[:2], None)
        detector._score(test[:2])
        with measured(measures, "fit"):
            detector._fit(train, None)
        with measured(measures, "score"):
            scores = detector._score(test)
    else:
        from anomalib.models.components import KCenterGreedy
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        torch.manual_seed(seed)
        model = PatchcoreModel(layers=["layer2", "layer3"], backbone="resnet18", pre_trained=False)
        train, test = torch.cat(train), torch.stack(test)
        model.memory_bank = KCenterGreedy(train[:2000], ratio).sample_coreset()
        _anomalib_scores(model, test[:2])
        with measured(measures, "fit"):
            model.memory_bank = KCenterGreedy(train, ratio).sample_coreset()
        with measured(measures, "score"):
            scores = _anomalib_scores(model, test)
    return measures | {"auroc": auroc(data.y_test, scores)}, None


def _anomalib_scores(model, images: torch.Tensor) -> np.ndarray:
    scores = []
    for batch in images.split(BATCH):
        patches = batch.flatten(0, 1)
        distances, nearest = model.nearest_neighbors(patches, n_neighbors=1)
        shape = batch.shape[:2]
        scores.append(model.compute_anomaly_score(distances.view(shape), nearest.view(shape), patches))
    return torch.cat(scores).numpy()


def deep(side: str, seed: int, *, detector: str, dataset: str):
    """Fit a network to a table and score its test set, with the same settings on both sides."""
    data = load(dataset, seed=seed).resplit(seed).half("report")
    scaler = StandardScaler().fit(data.X_train)
    train, test = scaler.transform(data.X_train), scaler.transform(data.X_test)
    make = _our_network if side == "mmad" else _peer_network
    make(detector, seed, epochs=1).fit(train[:200])
    measures: dict = {}
    model = make(detector, seed)
    with measured(measures, "fit"):
        model.fit(train)
    with measured(measures, "score"):
        scores = model.anomaly_score(test) if side == "mmad" else model.decision_function(test)
    network = model.network_ if side == "mmad" else getattr(model, "net", None) or model.model
    weights = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return measures | {"auroc": auroc(data.y_test, scores), "weights": weights}, None


def _our_network(name: str, seed: int, epochs: int = EPOCHS):
    given: dict = {"epochs": epochs, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE}
    given |= {"weight_decay": WEIGHT_DECAY, "hidden": (HIDDEN,), "n_estimators": 1, "random_state": seed}
    if name in ("AutoEncoder", "VariationalAutoEncoder"):
        given |= {"latent_dim": CODE, "dropout": DROPOUT}
    else:
        given |= {"latent_dim": OUTPUTS}
    if name == "RDP":
        given |= {"target_hidden": (HIDDEN,)}
    return getattr(mmad_utils, name)(**given)


def _peer_network(name: str, seed: int, epochs: int = EPOCHS):
    """pyod's autoencoders, deepod's other networks."""
    given: dict = {"batch_size": BATCH_SIZE, "lr": LEARNING_RATE, "random_state": seed, "verbose": 0, "device": "cpu"}
    if name in ("AutoEncoder", "VariationalAutoEncoder"):
        from pyod.models import auto_encoder, vae

        given |= {"epoch_num": epochs, "dropout_rate": DROPOUT, "batch_norm": False, "preprocessing": False}
        given |= {"optimizer_params": {"weight_decay": WEIGHT_DECAY}}
        if name == "AutoEncoder":
            return auto_encoder.AutoEncoder(hidden_neuron_list=[HIDDEN, CODE], **given)
        return vae.VAE(encoder_neuron_list=[HIDDEN], decoder_neuron_list=[HIDDEN], latent_dim=CODE, **given)
    from deepod.models.tabular import RDP, REPEN, DeepSVDD, repen

    # NumPy 2.4 does not convert an array of one row number to a number, which deepod's REPEN requires.
    def choice(n, size, p=None):
        return np.random.choice(n, p=p)  # noqa: NPY002

    repen.np = SimpleNamespace(**vars(np) | {"random": SimpleNamespace(**vars(np.random) | {"choice": choice})})
    given |= {"epochs": epochs, "hidden_dims": str(HIDDEN), "rep_dim": OUTPUTS}
    return {"DeepSVDD": DeepSVDD, "RDP": RDP, "REPEN": REPEN}[name](**given)


def pixels(side: str, seed: int, *, images: int, size: int, regions: bool):
    """Pixel AUROC and average precision, with ``regions`` also AUPRO; this package always computes all three."""
    masks, maps = scene(images, size, np.random.default_rng(seed))
    measures: dict = {}
    if side == "mmad":
        with measured(measures, "score"):
            found = pixel_metrics(masks, maps)
        values = list(found.values())[: 3 if regions else 2]
    else:
        from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

        metrics = [BinaryAUROC(), BinaryAveragePrecision()]
        if regions:
            from anomalib.metrics.aupro import _AUPRO

            metrics.append(_AUPRO())
        scores, target = torch.from_numpy(maps), torch.from_numpy(masks).int()
        with measured(measures, "score"):
            for metric in metrics:
                metric.update(scores, target)
            values = [float(metric.compute()) for metric in metrics]
    return measures | dict(zip(("auroc", "average_precision", "aupro"), values)), np.array(values)


def scene(n: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Masks with one to three discs on 80% of the images, and smooth noise maps in [0, 1], higher in the discs."""
    masks, maps = np.zeros((n, size, size), bool), np.empty((n, size, size), np.float32)
    rows, columns = np.ogrid[:size, :size]
    for i in range(n):
        for _ in range(rng.integers(1, 4) if i % 5 else 0):
            row, column = rng.integers(0, size, 2)
            masks[i] |= (rows - row) ** 2 + (columns - column) ** 2 < (size * rng.uniform(0.02, 0.1)) ** 2
        coarse = rng.normal(size=(size // 16, size // 16)).astype(np.float32)
        maps[i] = ndimage.zoom(coarse, 16, order=1) + masks[i]
        maps[i] += 0.1 * rng.standard_normal((size, size), np.float32)
    maps -= maps.min()
    maps /= maps.max()
    return masks, maps


def threads(side: str, seed: int, *, busy: bool):
    """Fit a variational autoencoder to 1839 rows of 6 columns; with ``busy`` another process uses all cores."""
    X = np.random.default_rng(seed).normal(size=(1839, 6))
    mmad_utils.VariationalAutoEncoder(epochs=1, random_state=seed).fit(X[:200])
    measures: dict = {}
    with _other_work() if busy else _nothing(), measured(measures, "fit"):
        mmad_utils.VariationalAutoEncoder(random_state=seed).fit(X)
    return measures, None


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _other_work() -> Iterator[None]:
    """A process that multiplies matrices on all cores until the block ends."""
    code = "import numpy as np\na = np.ones((800, 800))\nprint(flush=True)\nwhile True: a @ a"
    cores = {f"{name}_NUM_THREADS": str(os.cpu_count()) for name in ("OMP", "MKL", "OPENBLAS")}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **cores}) as other:
        try:
            other.stdout.readline()  # it has started
            yield
        finally:
            other.kill()


TASKS = {"padim": padim, "patchcore": patchcore, "deep": deep, "pixels": pixels, "threads": threads}


def main() -> None:
    name, side, seed, setting, folder = sys.argv[1:]
    measures, result = TASKS[name](side, int(seed), **json.loads(setting))
    if result is not None:
        np.save(Path(folder) / "result.npy", result)
    if side == "peer" and (library := next((name for name in LIBRARIES if name in sys.modules), "")):
        measures["library"] = f"{library} {version(library)}"
    (Path(folder) / "measures.json").write_text(json.dumps(measures))


if __name__ == "__main__":
    main()
