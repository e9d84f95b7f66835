"""Downloads from a server on this machine: checked, continued, atomic, with clear errors."""

import errno
import hashlib
import io
import json
import socket
import tarfile
import zipfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from local_server import local_server
from PIL import Image

from mmad_utils.datasets import DatasetError, download, load, record

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves server.files with Range; breaks off after server.break_after bytes, once."""

    def do_GET(self):
        content = self.server.files.get(self.path)
        if content is None:
            return self.send_error(404)
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted and self.server.resumable else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop, self.server.break_after = self.server.break_after, None
        self.server.sent += len(content[start:][:stop])  # before the client can have it all
        self.wfile.write(content[start:][:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with local_server(Handler) as server:
        server.files, server.ranges, server.sent = {"/data.bin": CONTENT}, [], 0
        server.break_after, server.resumable = None, True
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server


def _files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("known_hash", [SHA256, "md5:" + hashlib.md5(CONTENT).hexdigest(), None])
def test_a_file_arrives_whole_and_is_not_fetched_twice(server, tmp_path, known_hash):
    path = tmp_path / "deep" / "data.bin"
    for _ in range(2):
        download.download(server.url + "/data.bin", path, known_hash=known_hash)
    assert path.read_bytes() == CONTENT and _files(tmp_path) == ["data.bin"] and len(server.ranges) == 1


def test_a_broken_transfer_is_continued_where_it_ended(server, tmp_path):
    path = tmp_path / "data.bin"
    server.break_after = 120_000
    with pytest.raises(DatasetError, match="bytes are kept; run again to resume"):
        download.download(server.url + "/data.bin", path, known_hash=SHA256)
    assert _files(tmp_path) == ["data.bin.part"]
    kept = (tmp_path / "data.bin.part").stat().st_size
    assert 0 < kept <= 120_000
    download.download(server.url + "/data.bin", path, known_hash=SHA256)
    assert path.read_bytes() == CONTENT and _files(tmp_path) == ["data.bin"]
    assert server.ranges == [None, f"bytes={kept}-"] and server.sent == 120_000 + len(CONTENT) - kept


def test_without_a_hash_a_broken_transfer_leaves_nothing(server, tmp_path):
    server.break_after = 120_000
    with pytest.raises(DatasetError, match="no connection"):
        download.download(server.url + "/data.bin", tmp_path / "data.bin")
    assert _files(tmp_path) == []


def test_a_server_that_cannot_continue_sends_everything_again(server, tmp_path):
    server.resumable = False
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    download.download(server.url + "/data.bin", tmp_path / "data.bin", known_hash=SHA256)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"x" * (len(CONTENT) + 5))
    download.download(server.url + "/data.bin", tmp_path / "data.bin", known_hash=SHA256)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_part_that_is_the_whole_file_is_not_fetched_again(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    download.download(server.url + "/data.bin", tmp_path / "data.bin", known_hash=SHA256)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and server.sent == 0 and _files(tmp_path) == ["data.bin"]


def test_two_that_fetch_the_same_file_at_once_fetch_it_once(server, tmp_path):
    fetch = partial(download.download, server.url + "/data.bin", tmp_path / "data.bin", known_hash=SHA256)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(fetch) for _ in range(2)]:
            assert future.result().read_bytes() == CONTENT
    assert server.ranges == [None] and _files(tmp_path) == ["data.bin"]


def test_a_wrong_checksum_is_named_and_the_file_discarded(server, tmp_path):
    with pytest.raises(DatasetError, match=r"wrong checksum, expected sha256:0000(.|\n)*do it by hand"):
        download.download(
            server.url + "/data.bin",
            tmp_path / "data.bin",
            known_hash="sha256:" + "0" * 64,
            remedy="do it by hand",
        )
    assert _files(tmp_path) == []


def test_a_file_that_the_server_does_not_have_is_named(server, tmp_path):
    with pytest.raises(DatasetError, match=r"/none\.bin: the server refused \(404"):
        download.download(server.url + "/none.bin", tmp_path / "none.bin")
    assert _files(tmp_path) == []


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(DatasetError, match=r"no connection(.|\n)*put it there"):
        download.download(f"http://127.0.0.1:{port}/x", tmp_path / "x", remedy="put it there")
    assert _files(tmp_path) == []


def test_too_small_a_disk_is_noticed_before_the_transfer(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage(100_000))
    with pytest.raises(DatasetError, match="no space on the disk, 0 MB needed and 0 MB free"):
        download.download(server.url + "/data.bin", tmp_path / "data.bin", known_hash=SHA256)
    assert _files(tmp_path) == []


def test_a_disk_that_fills_during_the_transfer_keeps_nothing(tmp_path, monkeypatch):
    def fill(url, part, resume):
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_transfer", fill)
    with pytest.raises(DatasetError, match=r"no space left on the disk(.|\n)*MMAD_DATA_HOME"):
        download.download("http://127.0.0.1/x", tmp_path / "x", known_hash=SHA256)
    assert _files(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, server):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DatasetError, match=r"cannot be written(.|\n)*MMAD_DATA_HOME"):
        download.download(server.url + "/data.bin", tmp_path / "file" / "data.bin")


def test_data_that_cannot_be_written_are_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_transfer", lambda *_, **__: pytest.fail("transferred"))
    (tmp_path / "home").write_text("not a folder")
    for name in ("thyroid", "tables/vowels", "mvtec/hazelnut"):
        with pytest.raises(DatasetError, match=r"cannot be written(.|\n)*MMAD_DATA_HOME"):
            download.fetch(name, tmp_path / "home")


def test_a_table_that_the_manifest_knows_is_fetched_on_first_use(server, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    np.savez(buffer, X=np.arange(5.0)[:, None], y=[0, 0, 0, 0, 1])
    server.files["/40_vowels.npz"] = buffer.getvalue()
    file = {"path": "tables/vowels.npz", "url": server.url + "/40_vowels.npz", "hash": None, "bytes": None}
    entry = record.about("tables/vowels") | {"files": [file]}
    monkeypatch.setattr(download, "about", lambda name: entry)
    dataset = load("tables/vowels", data_home=tmp_path)
    assert dataset.X_test[dataset.y_test == 1].tolist() == [[4]] and _files(tmp_path) == ["vowels.npz"]


ARFF = b"@relation x\n@attribute a numeric\n@attribute class {0,1}\n@data\n1,0\n2,0\n3,1\n"


def test_an_openml_table_is_fetched_through_the_api_and_checked(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "OPENML", server.url)
    description = {"url": server.url + "/7.arff", "md5_checksum": hashlib.md5(ARFF).hexdigest()}
    server.files |= {"/data/7": json.dumps({"data_set_description": description}).encode(), "/7.arff": ARFF}
    dataset = load("tables/openml/7", data_home=tmp_path)
    assert dataset.X_test[dataset.y_test == 1].tolist() == [[3]]
    load("tables/openml/7", data_home=tmp_path)
    assert len(server.ranges) == 2 and _files(tmp_path) == ["7.arff", "7.json"]


def test_an_answer_that_is_no_description_is_refused_and_forgotten(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "OPENML", server.url)
    server.files["/data/7"] = b"<html>sorry</html>"
    with pytest.raises(DatasetError, match="not a description of a data set"):
        load("tables/openml/7", data_home=tmp_path)
    assert _files(tmp_path) == []


def _archive(names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 3
            tar.addfile(entry, io.BytesIO(b"abc"))
    return buffer.getvalue()


@pytest.fixture
def mvtec_archive(server, monkeypatch):
    """The manifest with MVTec's archive on the local server instead."""
    content = _archive(["nut/train/good/000.png", "nut/test/good/000.png", "bottle/train/good/000.png", "readme.txt"])
    server.files["/mvtec.tar.xz"] = content
    file = {
        "path": "mvtec/all.tar.xz",
        "url": server.url + "/mvtec.tar.xz",
        "hash": "sha256:" + hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    entry = record.about("mvtec/nut") | {"files": [file]}
    monkeypatch.setattr(download, "about", lambda name: entry)
    return server


def test_one_category_is_taken_out_of_the_archive_which_is_kept(mvtec_archive, tmp_path):
    (folder,) = download.fetch("mvtec/nut", tmp_path)
    assert folder == tmp_path / "mvtec" / "nut" and (folder / "train" / "good" / "000.png").read_bytes() == b"abc"
    assert sorted(path.name for path in (tmp_path / "mvtec").iterdir()) == ["all.tar.xz", "nut"]
    download.fetch("mvtec/bottle", tmp_path)
    assert len(mvtec_archive.ranges) == 1


def test_a_category_that_the_archive_does_not_hold_is_refused(mvtec_archive, tmp_path):
    with pytest.raises(DatasetError, match="holds no category 'walnut'"):
        download.fetch("mvtec/walnut", tmp_path)
    assert sorted(path.name for path in (tmp_path / "mvtec").iterdir()) == ["all.tar.xz"]


def test_a_damaged_archive_leaves_no_folder(tmp_path):
    (tmp_path / "a.tar.xz").write_bytes(_archive(["nut/a.png"])[:60])
    with pytest.raises(DatasetError, match="a damaged archive"):
        download.extract_category(tmp_path / "a.tar.xz", "nut", tmp_path / "nut")
    assert _files(tmp_path) == ["a.tar.xz"]


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.tar.xz").write_bytes(_archive(["nut/../../../outside.png"]))
    with pytest.raises(DatasetError):
        download.extract_category(tmp_path / "a.tar.xz", "nut", tmp_path / "in" / "nut")
    assert _files(tmp_path) == ["a.tar.xz"]


def test_what_cannot_be_fetched_says_what_to_put_where(tmp_path):
    with pytest.raises(DatasetError, match=r"cannot be fetched(.|\n)*tables/mine\.csv"):
        download.fetch("tables/mine", tmp_path)


def _image(colour, size=(12, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def _mask(box):
    buffer, mask = io.BytesIO(), Image.new("L", (12, 8))
    mask.paste(255, box)
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def _packed(members, kind):
    """An archive of {name: bytes}: "zip", or "" or a compression for tar."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


FIRST, SECOND, THIRD, BAD = (_image((i, 0, 0)) for i in range(4))
MASK, LEFT = _mask((4, 0, 8, 8)), _mask((3, 0, 4, 8))
SPLIT = b"""object,split,label,image,mask
nut,train,normal,nut/Data/Images/Normal/0.JPG,
nut,test,normal,nut/Data/Images/Normal/1.JPG,
nut,test,anomaly,nut/Data/Images/Anomaly/0.JPG,nut/Data/Masks/Anomaly/0.png
bolt,train,normal,bolt/Data/Images/Normal/0.JPG,
"""
FAMILIES = {  # family: kind of archive, its members, kinds of the test images, pixels of the anomaly's mask
    "visa": (
        "",
        {
            "nut/Data/Images/Normal/0.JPG": FIRST, "nut/Data/Images/Normal/1.JPG": SECOND,
            "nut/Data/Images/Anomaly/0.JPG": BAD, "nut/Data/Masks/Anomaly/0.png": MASK, "split_csv/1cls.csv": SPLIT,
        },
        ("good", "bad"),
        32,
    ),
    "btad": (
        "zip",
        {
            "BTech_Dataset_transformed/nut/train/ok/0.png": FIRST,
            "BTech_Dataset_transformed/nut/test/ok/1.png": SECOND,
            "BTech_Dataset_transformed/nut/test/ko/0.png": BAD,
            "BTech_Dataset_transformed/nut/ground_truth/ko/0.png": MASK,
            "BTech_Dataset_transformed/bolt/train/ok/0.png": THIRD,
        },
        ("ko", "good"),
        32,
    ),
    "mvtec_ad_2": (
        "gz",
        {
            "mvtec_ad_2/nut/train/good/0.png": FIRST, "mvtec_ad_2/nut/validation/good/0.png": THIRD,
            "mvtec_ad_2/nut/test_public/good/1.png": SECOND, "mvtec_ad_2/nut/test_public/bad/0_regular.png": BAD,
            "mvtec_ad_2/nut/test_public/ground_truth/bad/0_regular_mask.png": MASK,
            "mvtec_ad_2/nut/test_private/7.png": THIRD,
        },
        ("bad", "good"),
        32,
    ),
    "mvtec_loco": (
        "xz",
        {
            "nut/train/good/0.png": FIRST, "nut/validation/good/0.png": THIRD, "nut/test/good/1.png": SECOND,
            "nut/test/logical_anomalies/0.png": BAD, "nut/ground_truth/logical_anomalies/0/000.png": MASK,
            "nut/ground_truth/logical_anomalies/0/001.png": LEFT,
        },
        ("good", "logical_anomalies"),
        40,
    ),
}  # fmt: skip


@pytest.fixture(params=FAMILIES)
def family(request, server, monkeypatch):
    """A small archive of a family on the local server, under the manifest's own entry."""
    kind, members, _, _ = FAMILIES[request.param]
    content = _packed(members | {"notes": CONTENT[:200_000]}, kind)
    entry = record.about(f"{request.param}/nut")
    file = entry["files"][0]
    server.files["/archive"] = content
    local = {"url": server.url + "/archive", "hash": "sha256:" + hashlib.sha256(content).hexdigest(), "bytes": 1}
    monkeypatch.setattr(download, "about", lambda name: entry | {"files": [file | local]})
    return request.param


def test_a_category_of_each_family_is_fetched_and_loaded(family, server, tmp_path):
    download.fetch(f"{family}/nut", tmp_path)
    dataset = load(f"{family}/nut", data_home=tmp_path)
    _, _, kinds, pixels = FAMILIES[family]
    assert dataset.source["kinds_test"] == kinds and [path.read_bytes() for path in dataset.X_train] == [FIRST]
    assert dataset.masks_test.sum(axis=(1, 2)).tolist() == [0 if kind == "good" else pixels for kind in kinds]
    download.fetch(f"{family}/nut", tmp_path)
    assert len(server.ranges) == 1


def test_a_broken_transfer_of_an_archive_is_continued(family, server, tmp_path):
    server.break_after = 120_000
    with pytest.raises(DatasetError, match="bytes are kept; run again to resume"):
        download.fetch(f"{family}/nut", tmp_path)
    (part,) = (path for path in tmp_path.rglob("*") if path.is_file())
    kept = part.stat().st_size
    download.fetch(f"{family}/nut", tmp_path)
    assert kept > 0 and server.ranges == [None, f"bytes={kept}-"] and load(f"{family}/nut", data_home=tmp_path)


def test_two_that_fetch_a_category_at_once_transfer_its_archive_once(family, server, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(download.fetch, [f"{family}/nut"] * 2, [tmp_path] * 2))
    assert found == [[tmp_path / family / "nut"]] * 2 and len(server.ranges) == 1
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".part", ".partial", ".lock"))]


@pytest.mark.parametrize("name", ["visa/split_csv", "visa/VisA_20220922.tar"])
def test_a_file_beside_the_categories_is_no_category(name, tmp_path):
    with pytest.raises(DatasetError, match="is no category"):
        download.fetch(name, tmp_path)


def test_a_data_set_behind_a_link_for_browsers_says_what_to_put_where(tmp_path):
    with pytest.raises(DatasetError, match=r"cannot be fetched(.|\n)*mpdd/tube/train/good(.|\n)*needs a browser"):
        download.fetch("mpdd/tube", tmp_path)


@pytest.mark.parametrize("name", ["nut/../../outside.png", "nut/../nut/inside.png"])
def test_a_zip_archive_cannot_write_outside_its_folder(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(_packed({name: b"abc"}, "zip"))
    with pytest.raises(DatasetError, match="lies outside"):
        download.extract_category(tmp_path / "a.zip", "nut", tmp_path / "in" / "nut")
    assert _files(tmp_path) == ["a.zip"]


CREDIT = b"@relation c\n@attribute V1 numeric\n@attribute Class {'0','1'}\n@data\n" + b"1,'0'\n" * 5 + b"9,'1'\n"
KDD = b"@relation k\n@attribute service {http,smtp}\n@attribute bytes numeric\n"
KDD += b"@attribute label {normal,smurf,land}\n@data\n"
KDD += b"".join(b"http,%d,normal\n" % i for i in range(297)) + b"".join(b"smtp,%d,smurf\n" % i for i in range(900))
KDD += b"http,2,land\n" * 100


@pytest.mark.parametrize(("name", "content"), [("creditcard", CREDIT), ("kddcup99", KDD)])
def test_a_named_table_of_openml_is_fetched_by_its_number(server, tmp_path, monkeypatch, name, content):
    monkeypatch.setattr(download, "OPENML", server.url)
    number = download.OPENML_TABLES[name]
    description = {"url": server.url + "/table.arff", "md5_checksum": hashlib.md5(content).hexdigest()}
    server.files[f"/data/{number}"] = json.dumps({"data_set_description": description}).encode()
    server.files["/table.arff"] = content
    assert download.fetch(f"tables/{name}", tmp_path) == [tmp_path / "tables" / "openml" / f"{number}.arff"]
    dataset = load(f"tables/{name}", data_home=tmp_path)
    assert dataset.name == f"tables/{name}" and len(server.ranges) == 2
    assert dataset.y_test.sum() == {"creditcard": 1, "kddcup99": 3}[name]


@pytest.mark.parametrize("normal", [b"normal", b"normal."])
def test_kdd_cup_keeps_all_normal_connections_and_the_seed_draws_the_attacks(tmp_path, normal):
    (tmp_path / "tables" / "openml").mkdir(parents=True)
    (tmp_path / "tables" / "openml" / "1113.arff").write_bytes(KDD.replace(b"normal", normal))
    drawn = [load("tables/kddcup99", data_home=tmp_path, seed=seed) for seed in (0, 0, 1)]
    for dataset in drawn:
        assert dataset.feature_names == ("bytes", "service_http", "service_smtp")
        values = np.concatenate([dataset.X_train[:, 0], dataset.X_test[dataset.y_test == 0, 0]])
        np.testing.assert_array_equal(np.sort(values), np.arange(297))
        kinds = np.array(dataset.source["kinds_test"])[dataset.y_test == 1]
        assert set(kinds) <= {"smurf", "land"} and len(kinds) == 3
    assert drawn[0].source["sha256"] == drawn[1].source["sha256"] != drawn[2].source["sha256"]


def test_a_table_without_attacks_is_not_kdd_cup(tmp_path):
    (tmp_path / "tables" / "openml").mkdir(parents=True)
    (tmp_path / "tables" / "openml" / "1113.arff").write_bytes(ARFF)
    with pytest.raises(DatasetError, match=r"1113\.arff: expected connections of the class normal"):
        load("tables/kddcup99", data_home=tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda content: b"no archive", lambda content: content[:20] + bytes(10) + content[30:]]
)
def test_an_archive_that_is_none_or_is_damaged_inside_leaves_no_folder(tmp_path, damage):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("nut/a.png")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"abc"))
    (tmp_path / "a.tar.gz").write_bytes(damage(buffer.getvalue()))
    with pytest.raises(DatasetError, match="a damaged archive"):
        download.extract_category(tmp_path / "a.tar.gz", "nut", tmp_path / "nut")
    assert _files(tmp_path) == ["a.tar.gz"]


def test_a_category_that_is_there_is_not_taken_out_again(mvtec_archive, tmp_path):
    (tmp_path / "mvtec" / "nut").mkdir(parents=True)
    file = download.about("mvtec/nut")["files"][0]
    assert download._category("mvtec", "nut", file, tmp_path, "") == tmp_path / "mvtec" / "nut"
    assert mvtec_archive.ranges == []
