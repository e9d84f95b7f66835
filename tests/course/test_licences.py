"""NOTICE: the licence of every package of the lock file, the same text on every platform."""

import json
import sys
from importlib.metadata import PathDistribution

import pytest

from mmad_utils.course import __main__ as command_line
from mmad_utils.course import licences, project
from mmad_utils.course.licences import LicenceError

LOCK = "installed==1.0 \\\n    --hash=sha256:0\nwindows-only==2.0 ; sys_platform == 'win32' \\\n    --hash=sha256:1\n"
NOTICE = f"About mmad.\n\n{licences.HEADING}- installed 1.0: MIT\n- windows-only 2.0: ISC\n"


def package(folder, name, version="1.0", *, metadata="License-Expression: MIT"):
    """A package with these metadata, and nothing else, in a folder of packages."""
    path = folder / f"{name}-{version}.dist-info"
    path.mkdir(parents=True)
    (path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}\n\nText.\n")
    return PathDistribution(path)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """The only folder with packages, beside a lock file of two, of which one is installed."""
    (tmp_path / "requirements.lock").write_text(LOCK)
    (tmp_path / "NOTICE").write_text(NOTICE)
    monkeypatch.setattr(project, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    package(tmp_path / "packages", "Installed")
    return tmp_path / "packages"


def test_notice_lists_the_packages_of_the_lock_file_with_the_licences_of_their_metadata():
    assert licences.notice() == (project.ROOT / "NOTICE").read_text(encoding="utf-8")


def test_notice_keeps_its_introduction_and_the_packages_of_other_platforms(packages):
    assert licences.notice() == NOTICE


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("License-Expression: mit or apache-2.0", "MIT OR Apache-2.0"),
        ("License: BSD 3-Clause License\nClassifier: License :: OSI Approved :: BSD License", "BSD-3-Clause"),
        ("License: Copyright by many people\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
        (
            "Classifier: License :: OSI Approved :: BSD License\n"
            "Classifier: License :: OSI Approved :: Apache Software License",
            "Apache-2.0 AND LicenseRef-BSD",
        ),
    ],
)
def test_the_licence_comes_from_the_expression_then_the_name_then_the_classifiers(tmp_path, metadata, expected):
    assert licences.licence_of(package(tmp_path, "some", metadata=metadata)) == expected


@pytest.mark.parametrize(
    "metadata",
    [
        "Summary: none",
        "License: \n",
        "License: Copyright by many people",
        "License: UNKNOWN\nClassifier: License :: OSI Approved",
        "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: OSI Approved :: Odd License",
    ],
)
def test_a_package_without_a_known_licence_is_named(packages, metadata):
    text = f"Metadata-Version: 2.4\nName: Installed\nVersion: 1.0\n{metadata}\n"
    (packages / "Installed-1.0.dist-info" / "METADATA").write_text(text)
    with pytest.raises(LicenceError, match=r"^installed 1\.0: no known licence in "):
        licences.notice()


def test_where_the_metadata_state_a_licence_the_table_of_other_statements_does_not_count(tmp_path):
    assert licences.licence_of(package(tmp_path / "a", "skops", metadata="Summary: none")) == "MIT"
    assert licences.licence_of(package(tmp_path / "b", "skops", metadata="License: GPL-3.0-only")) == "GPL-3.0-only"
    assert licences.licence_of(package(tmp_path, "pypandoc-binary")) == "MIT AND GPL-2.0-or-later"


@pytest.mark.parametrize(
    ("name", "expression", "refused"),
    [
        ("some", "MIT AND BSD-3-Clause", []),
        ("some", "GPL-3.0-only", ["GPL-3.0-only"]),
        ("some", "MIT AND GPL-3.0-only", ["GPL-3.0-only"]),
        ("some", "GPL-3.0-only OR MIT", []),
        ("some", "MIT AND (GPL-3.0-only OR Apache-2.0)", ["GPL-3.0-only"]),
        ("some", "LicenseRef-NVIDIA-Proprietary", ["LicenseRef-NVIDIA-Proprietary"]),
        ("nvidia-cublas", "LicenseRef-NVIDIA-Proprietary", []),
        ("nvidia-cublas", "GPL-2.0-or-later", ["GPL-2.0-or-later"]),
        ("pypandoc-binary", "MIT AND GPL-2.0-or-later", []),
    ],
)
def test_a_licence_outside_the_list_is_refused_unless_the_package_is_an_exception(name, expression, refused):
    assert licences.refused_licences(name, expression) == refused


def test_the_command_refuses_a_licence_that_does_not_fit_and_leaves_notice_as_it_was(packages, capsys):
    text = "Metadata-Version: 2.4\nName: installed\nVersion: 1.0\nLicense-Expression: GPL-3.0-only\n"
    (packages / "Installed-1.0.dist-info" / "METADATA").write_text(text)
    assert command_line.main(["licences"]) == 1
    assert capsys.readouterr().err == "installed 1.0: GPL-3.0-only is not an allowed licence\n"
    assert (packages.parent / "NOTICE").read_text() == NOTICE


@pytest.mark.parametrize("content", [None, b"", b"Name: installed\n", b"Name: \xff\nVersion: 1.0\n"])
def test_missing_and_damaged_metadata_are_one_line_that_names_the_folder(packages, content):
    path = packages / "damaged-1.0.dist-info"
    path.mkdir()
    if content is not None:
        (path / "METADATA").write_bytes(content)
    with pytest.raises(LicenceError) as error:
        licences.notice()
    assert str(error.value) == f"{path}: its metadata are missing or damaged; install the package again"


def test_a_package_that_is_neither_installed_nor_listed_is_named(packages):
    (packages.parent / "NOTICE").write_text(NOTICE.replace("- windows-only 2.0: ISC\n", "- windows-only 1.9: ISC\n"))
    with pytest.raises(LicenceError, match=r"^windows-only 2\.0 is not in NOTICE: run "):
        licences.notice()
    (packages.parent / "NOTICE").write_text("About mmad.\n")
    with pytest.raises(LicenceError, match=r"^NOTICE lacks the line 'Packages of requirements\.lock"):
        licences.notice()


def test_the_command_reads_the_wheel_of_a_package_that_is_neither_installed_nor_listed(packages, monkeypatch):
    (packages.parent / "NOTICE").write_text(f"About mmad.\n\n{licences.HEADING}")

    def download(missing, folder):
        assert missing == [("windows-only", "2.0")]
        package(folder / "wheel", "windows_only", "2.0", metadata="License: ISC license")
        return [folder / "wheel"]

    monkeypatch.setattr(licences, "download_wheels", download)
    assert command_line.main(["licences"]) == 0
    assert (packages.parent / "NOTICE").read_text() == NOTICE


def test_pip_is_asked_for_wheels_of_any_platform_and_its_failure_is_shown(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text(f"#!{sys.executable}\nimport json, sys\nsys.exit(json.dumps(sys.argv[1:]))\n")
    fake.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(LicenceError, match=r"^pip could not download windows-only 2\.0:\n") as error:
        licences.download_wheels([("windows-only", "2.0")], tmp_path)
    words = json.loads(str(error.value).partition("\n")[2])
    assert words[:3] == ["-m", "pip", "download"]
    assert words[-1] == "windows-only==2.0"
    assert words[words.index("--only-binary") + 1] == ":all:"
    assert "win_amd64" in words


def test_every_licence_that_is_stated_here_belongs_to_a_package_of_the_lock_file():
    names = {name for name, _ in licences.locked_packages()}
    assert licences.STATED_ELSEWHERE.keys() | licences.BUNDLED.keys() <= names
