"""Downloads: verified by hash, resumed after an interruption, written atomically, by one process at a time.

pooch verifies the hashes. Its downloader is not used, because it cannot resume a ``.part`` file.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
import requests
from tqdm import tqdm

from mmad_utils.files import atomic_path, locked, remove_abandoned

from .input_files import printable
from .record import DatasetError, about, how_to_get

OPENML = "https://www.openml.org/api/v1/json"
OPENML_TABLES = {"creditcard": "1597", "kddcup99": "1113"}  # numbers at OpenML of the named tables
ARCHIVES = (".gz", ".tar", ".xz", ".zip")
TIMEOUT = 30  # seconds without a response


def download(url: str, path: Path, *, known_hash: str | None = None, remedy: str = "") -> Path:
    """Download one file from `url` to `path`, atomically.

    Another process that downloads the same file waits.

    Parameters
    ----------
    url : http or https address
    path : path of the file; an existing file with the right hash is kept
    known_hash : "sha256:..." or "md5:...", or None
        With a hash, an interrupted transfer is resumed (HTTP Range) from `path` + ".part". Without a hash it starts
        again, because the two parts might not belong together.
    remedy : what the user can do by hand; added to error messages

    Raises
    ------
    DatasetError
        No network, an HTTP error, a wrong hash, no space on the disk, a folder that cannot be written to.
    """
    part = path.with_name(path.name + ".part")
    try:
        with locked(path):
            if path.exists() and (known_hash is None or pooch.hashes.hash_matches(path, known_hash)):
                return path
            _transfer(url, part, known_hash)
            if known_hash is not None and not pooch.hashes.hash_matches(part, known_hash):
                part.unlink()
                raise DatasetError(
                    f"{url}: wrong checksum, expected {known_hash}. The file was discarded: it is damaged or has "
                    f"changed at its source.\n{remedy}"
                )
            os.replace(part, path)
    except requests.HTTPError as error:
        raise DatasetError(f"{url}: the server refused ({error}).\n{remedy}") from error
    except requests.RequestException as error:
        if known_hash is None:
            part.unlink(missing_ok=True)
        kept = f" {part.stat().st_size:,} bytes are kept; run again to resume." if part.exists() else ""
        raise DatasetError(f"{url}: no connection ({type(error).__name__}).{kept}\n{remedy}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            part.unlink(missing_ok=True)
        raise disk_error(error, path.parent) from error
    return path


def disk_error(error: OSError, folder: Path) -> DatasetError:
    """The error for a full disk or a folder that cannot be written to, with the remedy."""
    if error.errno == errno.ENOSPC:
        return DatasetError(
            f"{folder}: no space left on the disk. Free some, or choose another disk with MMAD_DATA_HOME "
            "(data) or MMAD_CACHE_HOME (generated images). No incomplete file was kept."
        )
    return DatasetError(
        f"{error.filename or folder}: cannot be written ({error.strerror or error}). Choose another folder with "
        "MMAD_DATA_HOME (data) or MMAD_CACHE_HOME (generated images)."
    )


def check_space(folder: Path, needed: int) -> None:
    """Raise a `DatasetError` if the disk of `folder` has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(
            f"{folder}: no space on the disk, {needed / 1e6:,.0f} MB needed and {free / 1e6:,.0f} MB free. "
            "Free some, or choose another disk with MMAD_DATA_HOME."
        )


def _transfer(url: str, part: Path, known_hash: str | None) -> None:
    """Download the missing bytes to `part`; all bytes if the server cannot resume or there is no hash."""
    start = part.stat().st_size if known_hash is not None and part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # no bytes after `start`: `part` is the whole file, or another file
            if pooch.hashes.hash_matches(part, known_hash):
                return None
            part.unlink()
            return _transfer(url, part, known_hash)
        response.raise_for_status()
        if response.status_code != 206:
            start = 0
        length = int(response.headers.get("Content-Length", 0))
        check_space(part.parent, length)
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(total=start + length or None, initial=start, unit="B", unit_scale=True, desc=part.stem) as bar,
        ):
            for chunk in response.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        if length and part.stat().st_size != start + length:
            raise requests.ConnectionError("the transfer ended early")


def openml(number: str, path: Path, remedy: str = "") -> Path:
    """Download the ARFF file of an OpenML data set to `path`, and its description to a .json file beside it.

    The address and the MD5 sum are from OpenML's documented API (https://www.openml.org/apis).
    """
    description_path = download(f"{OPENML}/data/{number}", path.with_suffix(".json"), remedy=remedy)
    try:
        description = json.loads(description_path.read_text(encoding="utf-8"))["data_set_description"]
        url, md5 = str(description["url"]), description.get("md5_checksum")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        description_path.unlink()
        raise DatasetError(f"{OPENML}/data/{number}: not a description of a data set.\n{remedy}") from error
    return download(url, path, known_hash=f"md5:{md5}" if md5 else None, remedy=remedy)


def fetch(name: str, home: Path) -> list[Path]:
    """Download the files of a data set that the manifest lists; return the paths of the files or folders.

    Raises
    ------
    DatasetError
        No file can be fetched (the message says which files to put where), or the download fails.
    """
    remedy = how_to_get(name, home)
    parts = name.split("/")
    if name == "thyroid":
        return [openml("40497", home / "thyroid" / "openml-40497.arff", remedy)]
    number = OPENML_TABLES.get(name.removeprefix("tables/"), parts[2] if name.startswith("tables/openml/") else None)
    if number:
        return [openml(number, home / "tables" / "openml" / f"{number}.arff", remedy)]
    files = [file for file in about(name)["files"] if file["url"]]
    if not files:
        raise DatasetError(f"{name} cannot be fetched by this package.\n{remedy}")
    if PurePosixPath(files[0]["path"]).suffix in ARCHIVES:
        return [_category(parts[0], parts[1], files[0], home, remedy)]
    return [download(file["url"], home / file["path"], known_hash=file["hash"], remedy=remedy) for file in files]


def _category(family: str, category: str, file: dict[str, Any], home: Path, remedy: str) -> Path:
    """Extract one category from the archive of all categories; the archive is kept for further categories."""
    archive, folder = home / file["path"], home / family / category
    if category in (archive.name, *file.get("also", [])):
        raise DatasetError(f"{family}/{category} is no category.\n{remedy}")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, archive.parent) from error
    remove_abandoned(folder)
    with locked(folder):
        if not folder.is_dir():
            if not archive.exists():
                part = archive.with_name(archive.name + ".part")
                check_space(archive.parent, file["bytes"] - (part.stat().st_size if part.exists() else 0))
            download(file["url"], archive, known_hash=file["hash"], remedy=remedy)
            for also in file.get("also", []):  # folders that all categories need
                with locked(archive.parent / also):
                    if not (archive.parent / also).is_dir():
                        extract_category(archive, also, archive.parent / also, file.get("inside", ""))
            extract_category(archive, category, folder, file.get("inside", ""))
    return folder


def extract_category(archive: Path, category: str, folder: Path, inside: str = "") -> Path:
    """Extract `inside`/`category`/... from a tar or zip archive to `folder`, atomically.

    Raises
    ------
    DatasetError
        The archive is damaged, has no such category or has members outside its folder, or the disk is full.
    """
    unpack = _unpack_zip if archive.suffix == ".zip" else _unpack_tar
    try:
        with atomic_path(folder) as new:
            unpack(archive, PurePosixPath(inside, category), new)
            if not new.is_dir() or not any(new.iterdir()):
                raise DatasetError(f"{archive}: holds no category {category!r}.")
    except DatasetError:
        raise
    except gzip.BadGzipFile as error:
        raise DatasetError(f"{archive}: a damaged archive ({error}). Delete it and fetch again.") from error
    except OSError as error:
        raise disk_error(error, folder.parent) from error
    except Exception as error:  # tarfile, zipfile and the decompressors raise many types of errors for damaged bytes
        raise DatasetError(f"{archive}: a damaged archive ({error}). Delete it and fetch again.") from error
    return folder


def _unpack_tar(archive: Path, prefix: PurePosixPath, new: Path) -> None:
    """Extract the members below `prefix` of a tar archive to the folder `new`."""

    def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in tar:
            if PurePosixPath(member.name).is_relative_to(prefix):
                check_space(new.parent, member.size)
                yield member

    def below(member: tarfile.TarInfo, target: str) -> tarfile.TarInfo | None:
        """The member with a name relative to the prefix, checked by the standard library."""
        name = str(PurePosixPath(member.name).relative_to(prefix))
        return tarfile.data_filter(member.replace(name=name, deep=False), target)

    with tarfile.open(archive) as tar:
        tar.extractall(new, members=members(tar), filter=below)


def _unpack_zip(archive: Path, prefix: PurePosixPath, new: Path) -> None:
    """Extract the members below `prefix` of a zip archive to the folder `new`; links become regular files."""
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            path = PurePosixPath(member.filename)
            if not member.is_dir() and path.is_relative_to(prefix):
                target = new / path.relative_to(prefix)
                if ".." in path.parts:
                    raise DatasetError(f"{archive}: {printable(path)} lies outside of its folder.")
                check_space(new.parent, member.file_size)
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
