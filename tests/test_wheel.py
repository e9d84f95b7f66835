"""The wheel works in an environment of its own, from an empty folder, without the repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COURSE_TOOLS = [
    *("IPython", "ipykernel", "ipywidgets", "jupyter_client", "jupytext", "jupyterlab", "latex2mathml", "nbclient"),
    *("nbconvert", "nbformat", "papermill", "pybtex", "shap", "snakemake", "yaml"),
]
DATA = """
from mmad_utils.datasets import cache_home, data_home, load, mvtec
for name in ("breast_cancer", "digits/3", "digit_scenes/3", "textures/brick", "paired_digits",
             "injected/local/breast_cancer"):
    load(name)
generated = mvtec.synthetic("hazelnut", size=64, n_train=4, n_test=20)
print(cache_home(), data_home(), generated.X_train[0], sep="\\n")
"""
EVERY_DETECTOR = f"""
import sys
for name in {COURSE_TOOLS}: sys.modules[name] = None  # cannot be imported
"""
EVERY_DETECTOR += """
import warnings
import numpy as np
import mmad_utils
from mmad_utils.benchmark import BASES
from mmad_utils.datasets import load
from mmad_utils.detector import Detector

warnings.simplefilter("ignore")
paired = load("paired_digits")
table, digits = load("breast_cancer").X_train[:40], load("digits/3").X_train[:24]
images = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
both = {"image": images, "tabular": table}
small = {"calibration_folds": 2, "steps": 2, "epochs": 1,
         "n_estimators": 1, "min_steps": 2, "n_search": 2, "n_steps": 2, "pretraining_epochs": 1,
         "image_size": 64, "n_features": 10, "coreset_ratio": 0.5, "n_rounds": 1, "random_state": 0, "verbose": False}

def make(name, found):
    if name == "CalibratedDetector":
        return found(mmad_utils.KNNDistance())
    if name == "HybridMultiModalAnomalyDetector":
        detector = found(mmad_utils.MultiModalAnomalyDetector(calibration_folds=2))
    else:
        detector = found()
    known = detector.get_params(deep=False)
    return detector.set_params(**{key: value for key, value in small.items() if key in known})

def samples(detector):
    kinds = detector.modalities
    if "multimodal" in kinds:
        return both
    if "paired" in kinds:
        return {name: part[:30] for name, part in paired.X_train.items()}
    if "tabular" in kinds:
        return table
    return images if hasattr(detector, "backbone") else digits

done = 0
for name in mmad_utils.__all__:
    found = getattr(mmad_utils, name)
    if not (isinstance(found, type) and issubclass(found, Detector)) or name in BASES:
        continue
    detector = make(name, found)
    X = {"a": table, "b": table} if name == "ModalityMixture" else samples(detector)
    labelled = name.startswith(("Supervised", "Hybrid"))
    detector.fit(X, {key: np.arange(len(part)) % 4 == 0 for key, part in X.items()} if labelled else None)
    detector.save(f"{name}.safetensors")
    loaded = Detector.load(f"{name}.safetensors")
    scores, again = detector.anomaly_score(X), loaded.anomaly_score(X)
    if not isinstance(scores, dict):
        scores, again = {"": scores}, {"": again}
    for key in scores:
        np.testing.assert_allclose(again[key], scores[key], rtol=1e-6, atol=1e-8, err_msg=name)
    done += 1
import mmad_utils.ranking, mmad_utils.plots, mmad_utils.datasets.user_files
for name in mmad_utils.__all__: getattr(mmad_utils, name)
print(done, "detectors")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs Python in an environment that has the wheel and shares the other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    source = folder / "source"
    shutil.copytree(ROOT / "mmad_utils", source / "mmad_utils", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)  # a build leaves its folders beside the source
    subprocess.run([*build, str(folder), str(source)], check=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    packages = next((folder / "venv").glob("lib*/**/site-packages"))
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages)]
    subprocess.run([*install, str(wheel)], check=True)
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = folder / "empty"
    empty.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MMAD_", "PYTHON", "XDG_"))}
    environment = {**kept, "HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}

    def run(*words):
        python = folder / "venv" / "bin" / "python"
        return subprocess.run([python, *words], cwd=empty, env=environment, capture_output=True, text=True)

    run.packages, run.home = packages, folder / "home"
    return run


def test_the_installed_package_is_the_one_of_the_wheel(installed):
    ran = installed("-c", "import mmad_utils; print(mmad_utils.__file__)")
    assert Path(ran.stdout.strip()).is_relative_to(installed.packages), ran.stderr


def test_embedded_and_generated_data_load_and_lie_in_the_users_folders(installed):
    ran = installed("-c", DATA)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 3
    for folder in ran.stdout.splitlines():
        assert Path(folder).is_relative_to(installed.home)


def test_a_generated_category_is_written_and_checked(installed):
    sizes = ["--n-train", "4", "--n-test", "20", "--size", "64"]
    ran = installed("-m", "mmad_utils.datasets", "generate", "synthetic/hazelnut", *sizes, "--output", "d/mvtec/nut")
    assert ran.returncode == 0, ran.stderr
    ran = installed("-m", "mmad_utils.datasets", "--data-home", "d", "check", "mvtec/nut")
    assert ran.returncode == 0, ran.stderr


def test_every_detector_fits_saves_and_loads_without_the_tools_of_the_course(installed):
    ran = installed("-c", EVERY_DETECTOR)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.split()[-2]) >= 35


def test_the_commands_run(installed):
    measured = ["--detectors", "DistanceToCenter", "--datasets", "breast_cancer", "--seeds", "1"]
    for words in (["benchmark", *measured], ["datasets", "check", "breast_cancer"]):
        ran = installed("-m", f"mmad_utils.{words[0]}", *words[1:])
        assert ran.returncode == 0, ran.stderr
        assert "breast_cancer" in ran.stdout


def test_the_course_says_that_it_needs_the_repository(installed):
    ran = installed("-c", "import mmad_utils.course.notebook")
    assert ran.returncode == 1
    assert "needs the repository that holds them: clone it" in ran.stderr.splitlines()[-1]
