"""Mutated files: every reader returns something or raises DatasetError, in bounded time and memory.

`make test` runs the hypothesis profile "readers", always the same examples; `make fuzz` runs "fuzz", new ones.
"""

import gzip
import io
import json
import os
import signal
import struct
import sys
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmad_utils.datasets import DatasetError, load
from mmad_utils.datasets.download import extract_category
from mmad_utils.datasets.image_folders import read_labels_file, read_pictures
from mmad_utils.datasets.images import read_idx, read_image, read_mask
from mmad_utils.datasets.mvtec import read_split
from mmad_utils.datasets.table_files import read_table
from mmad_utils.datasets.tabular import read_arff, read_csv, read_matrices

SECONDS = 20
BYTES = 1_000_000_000  # beyond the size of the file
EXAMPLES = settings(
    max_examples=25, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
settings.register_profile("readers", EXAMPLES)
settings.register_profile("fuzz", EXAMPLES, max_examples=500, derandomize=False)
PROFILE = settings.get_profile(os.environ.get("MMAD_HYPOTHESIS_PROFILE", "readers"))
pytestmark = pytest.mark.filterwarnings("ignore")  # of decoders, about damaged bytes


class TooSlow(BaseException):
    """Not an Exception, so that no reader takes it for damaged bytes."""


@contextmanager
def limits(size):
    """Fail where the block takes more than SECONDS, or, on Linux, more than BYTES of memory beyond ``size``."""

    def too_slow(*_):
        raise TooSlow(f"more than {SECONDS} s")

    linux = sys.platform == "linux"
    if linux:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory begins anew
        before = memory("VmRSS")
    handler = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    assert not linux or memory("VmHWM") - before < BYTES + size


def memory(key):
    """Bytes of this process: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def image(kind, mode="RGB", **options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def array(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


LABELS = array(np.repeat([0, 1], 6))


def npz(X):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", X)
        archive.writestr("y.npy", LABELS)
    return buffer.getvalue()


VARIABLES = {"X": np.arange(24.0).reshape(12, 2), "y": np.repeat([0, 1], 6)}


def mat(names="Xy", **options):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {name: VARIABLES[name] for name in names}, **options)
    return buffer.getvalue()


def compressed_mat(X):
    """A MATLAB file with a variable that is compressed after it was mutated."""
    inner = zlib.compress(X)
    return mat("y") + struct.pack("<2I", 15, len(inner)) + inner


def tar(compression, members=("nut/a.png", "nut/b/c.png", "other/d")):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = 10
            archive.addfile(info, io.BytesIO(bytes(10)))
    return buffer.getvalue()


def zipped(members=("nut/a.png", "nut/b/c.png", "other/d")):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in members:
            archive.writestr(name, bytes(10))
    return buffer.getvalue()


ROWS = pd.DataFrame({"a": np.arange(40.0) / 4, "b": [f"x{i % 3}" for i in range(40)], "c": [True, False] * 20})
SHEET = "xl/worksheets/sheet1.xml"


def excel():
    buffer = io.BytesIO()
    ROWS.to_excel(buffer, index=False)
    return buffer.getvalue()


def workbook(sheet):
    """An Excel file with a sheet that is compressed after it was mutated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(excel())) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, sheet if name == SHEET else old.read(name))
    return buffer.getvalue()


def same(content):
    return content


def read_idx_images(path):
    return read_idx(path, 3)


def read_archive(path):
    folder = path.with_name("unpacked")
    return extract_category(path, "nut", folder / str(len(list(folder.iterdir()))))


def read_visa_split(path):
    return read_split(path, "nut")


def read_labels(path):
    return read_labels_file(path, "nut")


def load_table(path):
    return load(f"tables/{path.stem}", data_home=path.parents[1])


def read_folder(path):
    return read_pictures(path.parent, least=1)


SPLIT = b"object,split,label,image,mask\nnut,train,normal,nut/a.JPG,\nnut,test,anomaly,nut/b.JPG,nut/b.png\n"
IDX = struct.pack(">4I", 0x803, 3, 4, 4) + bytes(48)
ARFF = b"@relation x\n@attribute a numeric\n@attribute 'b c' {u, v}\n@data\n1,u\n2.5,v\n?,v\n% note\n4,u\n"
CSV = b'a,"b ""c""",label\r\n1,2,0\r\n3.5,-4e3,1\r\n'
JSON = json.dumps({"nut/test/a.png": {"label": "good"}, "nut/test/b.png": {"label": "bad", "x": [1, None]}}).encode()
IMAGES = {
    "png": image("PNG"), "palette.png": image("PNG", "P"), "deep.png": image("PNG", "I;16"), "jpg": image("JPEG"),
    "progressive.jpg": image("JPEG", progressive=True), "cmyk.jpg": image("JPEG", "CMYK"), "gif": image("GIF"),
    "tif": image("TIFF"), "lzw.tif": image("TIFF", compression="tiff_lzw"), "webp": image("WEBP"),
    "deflated.tif": image("TIFF", "L", compression="tiff_adobe_deflate"), "bmp": image("BMP"), "ppm": image("PPM"),
    "jpeg.tif": image("TIFF", compression="jpeg"), "g4.tif": image("TIFF", "1", compression="group4"),
    "pgm": image("PPM", "L"),
}  # fmt: skip
# name of the file: what is mutated, how it then becomes the file, the reader
READERS = (
    {f"image.{end}": (content, same, read_image) for end, content in IMAGES.items()}
    | {f"mask.{end}": (IMAGES[end], same, read_mask) for end in ("png", "palette.png", "deep.png", "gif", "lzw.tif")}
    | {
        "folder.png": (IMAGES["png"], same, read_folder),
        "bytes.npz": (npz(array(np.eye(12, 2))), same, read_matrices),
        "array.npz": (array(np.eye(12, 2)), npz, read_matrices),
        "objects.npz": (array(np.array([[{}]] * 12, dtype=object)), npz, read_matrices),
        "table.npz": (array(np.eye(12, 2)), npz, load_table),
        "plain.mat": (mat(), same, read_matrices),
        "version4.mat": (mat(format="4"), same, read_matrices),
        "compressed.mat": (mat(do_compression=True), same, read_matrices),
        "recompressed.mat": (mat("X")[128:], compressed_mat, read_matrices),
        "idx": (IDX, same, read_idx_images),
        "inner.gz": (IDX, gzip.compress, read_idx_images),
        "outer.gz": (gzip.compress(IDX), same, read_idx_images),
        "table.arff": (ARFF, same, read_arff),
        "table.csv": (CSV, same, read_csv),
        "own.csv": (ROWS.to_csv(index=False).encode(), same, read_table),
        "own.xlsx": (excel(), same, read_table),
        "sheet.xlsx": (zipfile.ZipFile(io.BytesIO(excel())).read(SHEET), workbook, read_table),
        "own.parquet": (ROWS.to_parquet(), same, read_table),
        "labels.json": (JSON, same, read_labels),
        "archive.tar.gz": (tar("gz"), same, read_archive),
        "archive.tar.xz": (tar("xz"), same, read_archive),
        "archive.tar": (tar(""), same, read_archive),
        "archive.zip": (zipped(), same, read_archive),
        "split.csv": (SPLIT, same, read_visa_split),
    }
)
WORDS = [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80", b"'", b"{" * 99]
EDITS = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "delete", "repeat", "cut"]), st.floats(0, 1), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


def mutated(content, edits):
    """A file after edits: overwrite, insert, delete, repeat a part or cut the end, at a relative position."""
    for kind, position, number in edits:
        at = int(position * position * len(content))  # mostly near the head, where sizes stand
        word = bytes([number]) if number < 128 else WORDS[number % len(WORDS)]
        match kind:
            case "set":
                content = content[:at] + word + content[at + len(word) :]
            case "insert":
                content = content[:at] + word + content[at:]
            case "delete":
                content = content[:at] + content[at + number % 16 + 1 :]
            case "repeat":
                content = content[:at] + content[at : at + 64] * (number % 32) + content[at:]
            case "cut":
                content = content[:at]
    return content


@pytest.mark.parametrize("name", READERS)
def test_a_mutated_file_is_read_or_refused_within_bounds(tmp_path, name):
    content, wrap, read = READERS[name]
    path = tmp_path / "tables" / name
    (tmp_path / "tables" / "unpacked").mkdir(parents=True)
    path.write_bytes(wrap(content))
    read_whole(read, path)

    @PROFILE
    @given(EDITS)
    def attempt(edits):
        path.write_bytes(wrap(mutated(content, edits)))
        with limits(path.stat().st_size):
            try:
                read(path)
            except DatasetError as error:
                assert str(error)

    attempt()
    assert not [other for other in tmp_path.iterdir() if other.name != "tables"]


def read_whole(read, path):
    """The file that is not mutated can be read, or is refused for its objects alone."""
    try:
        read(path)
    except DatasetError as error:
        assert "objects" in path.name and "Python objects" in str(error)


NAMES = st.lists(st.sampled_from(["tables", "injected", "local", "mvtec", "digits", "", "..", "a\n"]), max_size=99)


@PROFILE
@given(st.text(max_size=300) | NAMES.map("/".join))
def test_a_name_of_any_kind_is_refused_by_a_documented_error(tmp_path, name):
    with limits(0), pytest.raises(DatasetError):
        load(name, data_home=tmp_path)
