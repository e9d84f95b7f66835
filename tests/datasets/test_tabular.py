"""Tables: every source of thyroid, one's own tables, and injected anomalies."""

import io
import os
import socket
import struct
import tracemalloc
import zipfile
import zlib
from functools import partial

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

from mmad_utils.datasets import Dataset, DatasetError, download, load, tabular
from mmad_utils.datasets.record import origin
from mmad_utils.datasets.tabular import _from_mixture, injected, read_arff, read_csv, read_matrices

HEADER = "feature_1,feature_2,feature_3,feature_4,feature_5,feature_6"


@pytest.fixture
def closed_port():
    """A port of this machine at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def thyroid_csv(tmp_path, rng):
    """The course layout with 20 training rows, 12 test rows, the last two of them anomalies."""
    folder = tmp_path / "thyroid"
    folder.mkdir()
    train, test = rng.random((20, 6)), rng.random((12, 6))
    np.savetxt(folder / "train-set.csv", train, delimiter=",", header=HEADER, comments="")
    labelled = np.column_stack([test, [0] * 10 + [1] * 2])
    np.savetxt(folder / "test-set.csv", labelled, delimiter=",", header=HEADER + ",label", comments="")
    return tmp_path, train, test


def _replace_cell(path, row, column, text):
    lines = path.read_text().splitlines()
    cells = lines[row - 1].split(",")
    cells[column] = text
    lines[row - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


def test_thyroid_csv_keeps_its_own_split_for_seed_zero(thyroid_csv):
    home, train, test = thyroid_csv
    dataset = load("thyroid", data_home=home)
    np.testing.assert_array_equal(dataset.X_train, train)
    np.testing.assert_array_equal(dataset.X_test, test)
    assert dataset.y_test.tolist() == [0] * 10 + [1] * 2
    assert (dataset.name, dataset.modality, dataset.feature_names) == ("thyroid", "tabular", tuple(HEADER.split(",")))
    assert dataset.source.items() >= origin("thyroid").items()
    other = load("thyroid", data_home=home, seed=1)
    assert other.X_train.shape == train.shape and not np.array_equal(other.X_train, train)


def test_thyroid_columns_are_found_by_name_whatever_their_order(thyroid_csv):
    home, train, _ = thyroid_csv
    path = home / "thyroid" / "train-set.csv"
    names = HEADER.split(",")[::-1]
    np.savetxt(path, train[:, ::-1], delimiter=",", header=",".join(names), comments="")
    np.testing.assert_array_equal(load("thyroid", data_home=home).X_train, train)


NUMBER = "is not a number. Correct it or remove the row."
FINITE = "is not a finite number. Fill it in or remove the row."


@pytest.mark.parametrize(
    ("text", "reason"),
    [("n/a", NUMBER), ("", NUMBER), ("NaN", FINITE), ("inf", FINITE), ("-inf", FINITE), ("1e999", FINITE)],
)
def test_a_cell_that_is_no_finite_number_is_named_with_file_row_and_column(thyroid_csv, text, reason):
    home, *_ = thyroid_csv
    path = home / "thyroid" / "test-set.csv"
    _replace_cell(path, 9, 2, text)
    with pytest.raises(DatasetError) as caught:
        load("thyroid", data_home=home)
    assert str(caught.value) == f"{path}, row 9, column feature_3: {text!r} {reason}"


@pytest.mark.parametrize("text", ["2", "-1", "0.5"])
def test_a_label_other_than_zero_and_one_is_named_with_file_and_row(thyroid_csv, text):
    home, *_ = thyroid_csv
    _replace_cell(home / "thyroid" / "test-set.csv", 5, 6, text)
    with pytest.raises(DatasetError, match=r"test-set\.csv, row 5, column label: .* is not a label"):
        load("thyroid", data_home=home)


def test_a_missing_column_is_named_with_what_was_expected(thyroid_csv):
    home, *_ = thyroid_csv
    path = home / "thyroid" / "test-set.csv"
    path.write_text(path.read_text().replace("feature_4", "TT4"))
    with pytest.raises(DatasetError) as caught:
        load("thyroid", data_home=home)
    names = HEADER.replace("feature_4", "TT4").split(",")
    assert str(caught.value) == (
        f"{path}, row 1: no column 'feature_4' (the header reads {', '.join(names)}, label).\n"
        "Expected the columns feature_1 … feature_6 (float), and in the test set label (0 normal, 1 anomaly)."
    )


def test_a_row_of_another_length_is_named(thyroid_csv):
    home, *_ = thyroid_csv
    path = home / "thyroid" / "train-set.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:6], lines[6] + ",0.5", *lines[7:]]))
    with pytest.raises(DatasetError, match=r"train-set\.csv, row 7: 7 cells below 6 column names"):
        load("thyroid", data_home=home)


def test_one_class_only_in_the_test_set_is_refused(thyroid_csv):
    home, *_ = thyroid_csv
    for row in (12, 13):
        _replace_cell(home / "thyroid" / "test-set.csv", row, 6, "0")
    with pytest.raises(DatasetError, match="test set holds only normal samples"):
        load("thyroid", data_home=home)


TRAINED_ON_ANOMALY = (
    r"train-set\.csv, row 12, column label: an anomaly in the training set\. "
    r"Training takes normal samples only: remove it\.$"
)


def test_an_anomaly_in_the_training_file_is_refused(thyroid_csv):
    home, *_ = thyroid_csv
    (home / "thyroid" / "train-set.csv").write_text((home / "thyroid" / "test-set.csv").read_text())
    with pytest.raises(DatasetError, match=TRAINED_ON_ANOMALY):
        load("thyroid", data_home=home)


def test_one_of_two_thyroid_files_is_not_enough(thyroid_csv):
    home, *_ = thyroid_csv
    (home / "thyroid" / "test-set.csv").unlink()
    with pytest.raises(
        DatasetError, match=rf"test-set\.csv: not there .*holds: train-set\.csv(.|\n)*Expected below {home} "
    ):
        load("thyroid", data_home=home)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty\."),
        (b"\n\n", r"empty\."),
        (b"a,b\n", r"no row below the header\."),
        (b"\xff\xfe\x00a", r"not a CSV file in UTF-8 \(.+\)\. Save it as one\."),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"x\.csv: {message}$"):
        read_csv(path)


def test_a_column_name_keeps_its_line_break_and_loses_its_margins(tmp_path):
    (tmp_path / "x.csv").write_bytes(b'" a\r\nb ", c\r\n1,2\r\n')
    assert read_csv(tmp_path / "x.csv")[0] == ["a\r\nb", "c"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2), min_size=1))
def test_csv_numbers_are_read_to_the_last_bit(tmp_path, rows):
    path = tmp_path / "x.csv"
    path.write_text("a,b\r\n" + "".join(f"{a!r},{b!r}\r\n\r\n" for a, b in rows), encoding="utf-8-sig")
    header, values = read_csv(path)
    assert header == ["a", "b"]
    np.testing.assert_array_equal(values, np.array(rows))


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_odds_and_adbench_files_are_split_one_class_by_the_seed(tmp_path, rng, suffix):
    folder = tmp_path / "thyroid"
    folder.mkdir()
    X, y = rng.random((21, 6)), np.r_[np.zeros(17), np.ones(4)]
    if suffix == ".mat":
        scipy.io.savemat(folder / "thyroid.mat", {"X": X, "y": y[:, None]})
    else:
        np.savez(folder / "38_thyroid.npz", X=X, y=y)
    first, second = (load("thyroid", data_home=tmp_path, seed=seed) for seed in (0, 1))
    assert len(first.X_train) == 8 and first.y_test.sum() == 4 and len(first.X_test) == 13
    assert not np.array_equal(first.X_train, second.X_train) and first.feature_names == tuple(HEADER.split(","))
    assert {row.tobytes() for row in first.X_test[first.y_test == 1]} == {row.tobytes() for row in X[y == 1]}


def test_a_matlab_7_3_file_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "thyroid").mkdir()
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM"
    (tmp_path / "thyroid" / "thyroid.mat").write_bytes(header + bytes(512))
    message = (
        r"thyroid\.mat: a MATLAB v7\.3 \(HDF5\) file, which is not read\. Save it in MATLAB with "
        r"save\(\.\.\., '-v7'\), or save X and y with numpy\.savez\.$"
    )
    with pytest.raises(DatasetError, match=message):
        load("thyroid", data_home=tmp_path)


SPARSE = r"mine\.npz: a sparse matrix, which is not read\. Save X\.toarray\(\) and y with numpy\.savez\.$"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"X": np.zeros((4, 2)), **{name: [1] for name in "abcdefghi"}},
            r"mine\.npz: no array 'y' \(it holds X, a, b, c, d, e, f, g\); expected X \(n, d\) and y \(n,\), 0 "
            r"normal, 1 anomaly\.$",
        ),
        ({}, r"no array 'X' \(it holds nothing\);"),
        ({"X": np.zeros((4, 2)), "y": np.zeros(3)}, "X has 4 rows, y has 3 labels"),
        (
            {"X": np.array([["a"], ["b"]]), "y": np.array([0, 1])},
            r"mine\.npz, field X: text; expected numbers \(real, of at most 64 bits\)\.$",
        ),
        ({"X": np.ones((2, 1), np.longdouble), "y": np.array([0, 1])}, "field X: float128; expected numbers"),
        (
            {"X": np.array([[1.0], [np.nan]]), "y": np.array([0, 1])},
            r"mine\.npz, row 2, column X\[:, 0\]: nan is not a finite number\. Fill it in or remove the row\.$",
        ),
        ({"X": np.zeros((2, 1)), "y": np.array([0, 3])}, "row 2, column label: 3 is not a label"),
        ({"X": np.array([[1], [2]], dtype=object), "y": np.array([0, 1])}, "field X: Python objects"),
        ({"X": np.ones((2, 1), complex), "y": np.array([0, 1])}, "field X: complex numbers"),
        ({"X": np.ones((2, 1), "m8[s]"), "y": np.array([0, 1])}, "field X: time differences"),
        ({"X": np.ones((2, 1)), "y": np.array([0, 1], "M8[D]")}, "field y: dates"),
        ({"X": np.ones((2, 1), [("a", float)]), "y": np.array([0, 1])}, "field X: records"),
        (
            {"X": np.ones((0, 3)), "y": np.array([])},
            r"mine\.npz, field X: an array of shape \(0, 3\); expected \(n, d\), not empty\.$",
        ),
        ({"X": np.ones((2, 0)), "y": np.array([0, 1])}, r"field X: an array of shape \(2, 0\)"),
        ({"X": np.ones((2, 3, 1)), "y": np.array([0, 1])}, r"field X: an array of shape \(2, 3, 1\)"),
        (
            {"X": np.ones((4, 3)), "y": np.eye(2)},
            r"field y: an array of shape \(2, 2\); expected \(n,\), not empty\.$",
        ),
        ({"X": np.ones((4, 3)), "y": np.ones((4, 1, 1))}, r"field y: an array of shape \(4, 1, 1\)"),
        ({"data": [1], "indices": [0], "indptr": [0, 1], "shape": [1, 1], "format": b"csr"}, SPARSE),
    ],
)
def test_matrices_that_do_not_fit_are_refused(tmp_path, arrays, message):
    (tmp_path / "tables").mkdir()
    np.savez(tmp_path / "tables" / "mine.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        load("tables/mine", data_home=tmp_path)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 40, b"PK\x03\x04 broken zip", b"\x80\x04N."])
def test_damaged_matrices_are_refused(tmp_path, suffix, content):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / f"mine{suffix}").write_bytes(content)
    with pytest.raises(
        DatasetError, match=rf"mine\{suffix}: not a readable \{suffix} file \(.+\)\. Fetch it again\.$"
    ):
        load("tables/mine", data_home=tmp_path)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("dtype", ["f4", "i1"])
def test_one_sample_of_one_number_is_a_table_in_double_precision(tmp_path, suffix, dtype):
    path, arrays = tmp_path / f"x{suffix}", {"X": np.array([[7]], dtype), "y": np.array([[1]])}
    np.savez(path, **arrays) if suffix == ".npz" else scipy.io.savemat(path, arrays)
    X, y = read_matrices(path)
    assert X.tolist() == [[7]] and y.tolist() == [1] and (X.dtype, y.dtype) == (np.float64, np.int64)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_an_array_in_an_npz_file_is_read_and_half_an_array_is_refused(tmp_path, version):
    arrays = {"X": np.eye(4, 2), "y": np.array([0, 1, 0, 1], "u1")}
    for missing in (0, 1):
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            for name, values in arrays.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, values, version)
                archive.writestr(f"{name}.npy", content.getvalue()[: len(content.getvalue()) - missing])
        if missing:
            with pytest.raises(DatasetError, match=r"x\.npz, field X: \d+ bytes for an array of shape \(4, 2\)\.$"):
                read_matrices(tmp_path / "x.npz")
        else:
            assert read_matrices(tmp_path / "x.npz")[0].tolist() == arrays["X"].tolist()


def write_npz_header(path, shape, compress_type=zipfile.ZIP_DEFLATED):
    """An .npz file that declares an X of this shape and holds none of its values."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", compress_type) as archive:
        archive.writestr("X.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())


def test_a_header_that_declares_gigabytes_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    write_npz_header(tmp_path / "x.npz", (1_000_000, 1000))
    with pytest.raises(DatasetError, match=r"field X: 1,000,000,000 numbers; at most 50,000,000.*MMAD_MAX_NUMBERS"):
        read_matrices(tmp_path / "x.npz")
    monkeypatch.setenv("MMAD_MAX_NUMBERS", "2000000000")
    with pytest.raises(DatasetError, match=r"field X: \d+ bytes for an array of shape \(1000000, 1000\)"):
        read_matrices(tmp_path / "x.npz")
    monkeypatch.setenv("MMAD_MAX_NUMBERS", "many")
    with pytest.raises(DatasetError, match="MMAD_MAX_NUMBERS='many'"):
        read_matrices(tmp_path / "x.npz")


@pytest.mark.parametrize("write", [np.savez_compressed, partial(scipy.io.savemat, do_compression=True)])
def test_a_limit_on_numbers_holds_for_what_a_file_decompresses_to(tmp_path, write):
    path = tmp_path / ("x.npz" if write is np.savez_compressed else "x.mat")
    arrays = {"X": np.zeros((3000, 10)), "y": np.repeat([0, 1], 1500)}
    write(path, **arrays) if path.suffix == ".npz" else write(path, arrays)
    assert path.stat().st_size < 3000 and read_matrices(path, max_numbers=30_000)[0].shape == (3000, 10)
    with pytest.raises(DatasetError, match=r"30,000 numbers; at most 29,999"):
        read_matrices(path, max_numbers=29_999)


@pytest.mark.parametrize("form", ["4", "5"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", ">f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path, rng, form, dtype, compressed):
    X, y = rng.integers(0, 99, (12, 3)).astype(dtype), np.repeat([0, 1], 6)
    options = {"format": form, "do_compression": compressed}
    variables = {"first": np.eye(3), "waves": 1j * np.eye(3), "X": X, "y": y, "word": "text"}
    scipy.io.savemat(tmp_path / "x.mat", variables, **options)
    read = scipy.io.loadmat(tmp_path / "x.mat")
    for ours, theirs in zip(read_matrices(tmp_path / "x.mat"), (read["X"], read["y"].ravel())):
        np.testing.assert_array_equal(ours, theirs)


def test_a_matlab_variable_that_decompresses_to_gigabytes_is_decompressed_to_its_shape_only(tmp_path):
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"X": np.ones((4, 2)), "y": np.array([0, 1, 0, 1])})
    plain = path.read_bytes()
    size = struct.unpack("<I", plain[132:136])[0]
    inner = zlib.compress(plain[128 : 136 + size] + bytes(50_000_000))
    path.write_bytes(plain[:128] + struct.pack("<2I", 15, len(inner)) + inner + plain[136 + size :])
    tracemalloc.start()
    X, _ = read_matrices(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert X.tolist() == np.ones((4, 2)).tolist() and peak < 5_000_000


def matlab_5(*variables, kind=14, order="<"):
    """A file of version 5 with matrices of parts (type, code, values); none is packed beside its type."""
    content = bytes(124) + (b"\0\1IM" if order == "<" else b"\1\0MI")
    for parts in variables:
        matrix = b""
        for form, code, values in parts:
            data = struct.pack(f"{order}{len(values)}{code}", *values)
            matrix += struct.pack(f"{order}2I", form, len(data)) + data + bytes(-len(data) % 8)
        content += struct.pack(f"{order}2I", kind, len(matrix)) + matrix
    return content


def matrix(name, shape, values, flags=6):
    return (6, "I", [flags, 0]), (5, "i", shape), (1, "B", name), (9, "d", values)


ROW = matrix(b"X", [1, 2], [3, 4])


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_name_of_one_letter_may_have_a_part_of_its_own(tmp_path, order):
    (tmp_path / "x.mat").write_bytes(matlab_5(ROW, matrix(b"y", [1, 1], [1]), order=order))
    X, y = read_matrices(tmp_path / "x.mat")
    assert X.tolist() == [[3, 4]] and y.tolist() == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (matlab_5(ROW), r"x\.mat: no array 'y' \(it holds X\);"),
        (matlab_5(), r"\(ValueError\('no variable in it'\)\)"),
        (matlab_5(ROW, kind=13), r"\(ValueError\('an element of type 13'\)\)"),
        (matlab_5(matrix(b"X", [1, -2], [])), r"\(ValueError\('a shape \(1, -2\)'\)\)"),
        (matlab_5(ROW)[:-1], r"\(ValueError\('a part that ends after its matrix'\)\)"),
        (
            matlab_5(matrix(b"X", [1, 2], [3, 4], flags=99)),
            r"x\.mat, field X: an unknown class; expected a full array of real numbers\.$",
        ),
    ],
)
def test_damaged_matlab_5_files_are_refused_with_the_cause(tmp_path, content, message):
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_matrices(tmp_path / "x.mat")


@pytest.mark.parametrize(
    ("fields", "message", "forms"),
    [
        ({"X": np.ones((4, 2)) * 1j}, "field X: complex numbers", "45"),
        ({"X": scipy.sparse.csc_matrix(np.eye(4))}, "field X: sparse", "45"),
        ({"X": {"a": 1}}, "field X: struct", "5"),  # version 4 has no structs
        ({"X": np.array(["ab", "cd", "ef", "gh"])}, "field X: char", "45"),
        ({"X": np.zeros((0, 2))}, r"field X: an array of shape \(0, 2\)", "45"),
        ({"y": np.eye(4)}, r"field y: an array of shape \(4, 4\)", "45"),
    ],
)
def test_matlab_fields_that_are_no_table_are_refused_by_name(tmp_path, fields, message, forms):
    path = tmp_path / "x.mat"
    for form in forms:
        scipy.io.savemat(path, {"X": np.ones((4, 2)), "y": np.array([0, 1, 0, 1])} | fields, format=form)
        with pytest.raises(DatasetError, match=message):
            read_matrices(path)


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".csv"])
def test_a_named_pipe_is_refused_before_it_is_opened(tmp_path, suffix):
    (tmp_path / "tables").mkdir()
    os.mkfifo(tmp_path / "tables" / f"mine{suffix}")
    with pytest.raises(DatasetError, match=r"a named pipe \(FIFO\), not a file"):
        load("tables/mine", data_home=tmp_path)


def test_arff_numbers_stay_numbers_and_nominal_values_become_text(tmp_path):
    path = tmp_path / "x.arff"
    path.write_bytes(b"% gr\xf6\xdfe\n@relation x\n@attribute a real\n@attribute b {u,v}\n@data\n1.5,u\n?,v\n")
    frame = read_arff(path)
    np.testing.assert_array_equal(frame["a"], [1.5, np.nan])
    assert frame["a"].dtype == np.float64 and frame["b"].iloc[1] == "v"
    path.write_text("@relation x\n@attribute a real\n@data\n")
    with pytest.raises(DatasetError, match=r"x\.arff: no row of data\.$"):
        read_arff(path)


def matlab_4(name, values, form=0, columns=None, code="d", order="<"):
    """One variable of version 4: header, name and values, as MathWorks describes the format."""
    head = (form, len(values) // (columns or 1), columns or 1, 0, len(name) + 1)
    content = struct.pack(f"{order}5i", *head) + name.encode() + b"\0"
    return content + struct.pack(f"{order}{len(values)}{code}", *values)


@pytest.mark.parametrize(("form", "code"), [(0, "d"), (10, "f"), (20, "i"), (30, "h"), (40, "H"), (50, "B")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_matlab_4_is_read_in_both_orders(tmp_path, form, code, order):
    form += 1000 if order == ">" else 0
    content = matlab_4("X", [1, 2, 3, 4, 5, 6], form, 2, code, order) + matlab_4("y", [0, 1, 0], form, 1, code, order)
    (tmp_path / "x.mat").write_bytes(content)
    X, y = read_matrices(tmp_path / "x.mat")
    assert X.tolist() == [[1, 4], [2, 5], [3, 6]] and y.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (matlab_4("X", [1, 2], 9), r"field X: an unknown class; expected a full array of real numbers\.$"),
        (matlab_4("X", [1, 2], 60), r"\('no header of a MATLAB file'\)"),
        (matlab_4("X", [1, 2], 1000), r"\('no header of a MATLAB file'\)"),  # of the other order
        (matlab_4("X", [1, 2], 2000), r"\('no header of a MATLAB file'\)"),  # numbers of a VAX
        (matlab_4("X" * 1000, [1, 2]), r"\('no header of a MATLAB file'\)"),
        (matlab_4("Z" * 999, [1, 2]), r"no array 'X' \(it holds Z+\); expected X"),
        (b"short", r"\('no variable in it'\)"),
    ],
)
def test_damaged_matlab_4_files_are_refused_with_file_and_field(tmp_path, content, message):
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(DatasetError, match=rf"x\.mat.*{message}"):
        read_matrices(tmp_path / "x.mat")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("date 'yyyy-MM-dd'", r"x\.arff, attribute a: neither numbers nor nominal values\.$"),
        (
            "string",
            r"x\.arff: not a readable ARFF file of numbers and nominal values \(.+\)\. Convert it to a CSV file, and "
            r"load it as tables/<name>\.$",
        ),
    ],
)
def test_arff_attributes_that_are_neither_numbers_nor_nominal_are_refused(tmp_path, kind, message):
    path = tmp_path / "x.arff"
    path.write_text(f"@relation x\n@attribute a {kind}\n@attribute c {{1,2}}\n@data\n2020-01-01,1\n2020-01-02,2\n")
    with pytest.raises(DatasetError, match=message):
        read_arff(path)


@pytest.mark.parametrize(
    "name",
    [
        'tables/a"b', "tables/a'b", "tables/a\nb", "tables/a\0b", "tables/\udc80", "tables/" + "a" * 300,
        "tables/" + "好" * 90, "injected/local/" * 400 + "breast_cancer", "tables/../x", "mvtec/a\0", "", "/",
        "injected/local/injected/global/breast_cancer", "mvtec/" + "a" * 250, "tables/openml/²", None, 3, b"digits/3",
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_one_is_refused_at_once(tmp_path, name):
    with pytest.raises(DatasetError):
        load(name, data_home=tmp_path)


@pytest.mark.parametrize("label", ["label", "Y", "Class", "target", "outlier"])
def test_a_table_of_ones_own_finds_its_label_column(tmp_path, label):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "mine.csv").write_text(f"a,{label},b\n" + "1,0,2\n3,0,4\n5,1,6\n")
    dataset = load("tables/mine", data_home=tmp_path)
    assert dataset.feature_names == ("a", "b") and dataset.X_test[dataset.y_test == 1].tolist() == [[5, 6]]
    assert (dataset.name, dataset.modality) == ("tables/mine", "tabular") and "kinds_test" not in dataset.source
    (tmp_path / "tables" / "mine.csv").write_text(f"a,{label},b\n" + "1,0,2\n3,2,4\n")
    with pytest.raises(DatasetError, match=r"mine\.csv, row 3, column label: 2 is not a label"):
        load("tables/mine", data_home=tmp_path)


def test_a_table_in_two_formats_is_read_from_the_npz_file_and_has_numbered_columns(tmp_path):
    (tmp_path / "tables").mkdir()
    for number, suffix in enumerate((".csv", ".mat", ".npz")):
        path, X = tmp_path / "tables" / f"mine{suffix}", np.full((4, 2), float(number))
        arrays = {"X": X, "y": np.array([0, 0, 1, 1])}
        if suffix == ".csv":
            np.savetxt(path, np.column_stack(list(arrays.values())), delimiter=",", header="a,b,y", comments="")
        else:
            np.savez(path, **arrays) if suffix == ".npz" else scipy.io.savemat(path, arrays)
        dataset = load("tables/mine", data_home=tmp_path)
        assert dataset.X_train.tolist() == [[number, number]]
    assert dataset.feature_names == ("feature_1", "feature_2")


@pytest.mark.parametrize(("header", "found"), [("a,b,c", "no"), ("a,y,label", "more than one")])
def test_a_table_needs_exactly_one_label_column(tmp_path, header, found):
    (tmp_path / "tables").mkdir()
    path = tmp_path / "tables" / "mine.csv"
    path.write_text(header + "\n1,0,1\n")
    with pytest.raises(DatasetError) as caught:
        load("tables/mine", data_home=tmp_path)
    assert str(caught.value) == (
        f"{path}, row 1: {found} column of labels (the header reads {header.replace(',', ', ')}). Call exactly one "
        "label, y, class, target or outlier: 0 normal, 1 anomaly."
    )


def test_a_table_that_is_not_there_lists_what_is(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "other.csv").write_text("a,label\n1,0\n")
    with pytest.raises(
        DatasetError, match=rf"missing\.npz: not there .*other\.csv(.|\n)*{tmp_path} (.|\n)*tables/missing\.csv"
    ):
        load("tables/missing", data_home=tmp_path)


def test_a_table_that_can_be_fetched_is_fetched_when_it_is_missing(tmp_path, monkeypatch):
    def fetch(name, home):
        np.savez(home / "vowels.npz", X=np.ones((4, 2)), y=np.array([0, 0, 1, 1]))
        return [home / "vowels.npz", home / name]

    monkeypatch.setattr(tabular, "fetch", fetch)
    assert load("tables/vowels", data_home=tmp_path).X_test.tolist() == [[1, 1]] * 3


def _ann_thyroid(path, rng, n=60, kind="{1,2,3}"):
    """An ARFF file like ann-thyroid's: six real attributes among binary ones, classes 1, 2, 3."""
    real = {0, 16, 17, 18, 19, 20}
    columns = [rng.random(n) if i in real else rng.integers(0, 2, n) for i in range(21)]
    columns[1] = np.where(columns[1] == 1, "t", "f")
    classes = rng.permutation([1] * 5 + [2] * 9 + [3] * (n - 14))
    kinds = ["numeric", "{t,f}", *["numeric"] * 19]
    lines = ["@relation thyroid-ann", *(f"@attribute V{i} {one}" for i, one in enumerate(kinds, start=1))]
    lines += [f"@attribute Class {kind}", "@data"]
    lines += [",".join(map(str, row)) + f",{c}" for row, c in zip(zip(*columns), classes)]
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n")
    return np.column_stack([columns[i] for i in sorted(real)]), classes


@pytest.mark.parametrize("kind", ["{1,2,3}", "numeric"])
def test_openml_thyroid_becomes_the_odds_selection(tmp_path, rng, kind):
    X, classes = _ann_thyroid(tmp_path / "thyroid" / "openml-40497.arff", rng, kind=kind)
    dataset = load("thyroid", data_home=tmp_path)
    scaled = (X - X.min(0)) / (X.max(0) - X.min(0))
    assert dataset.X_train.shape == (27, 6) and dataset.y_test.sum() == 5
    np.testing.assert_allclose(dataset.X_test[dataset.y_test == 1], scaled[classes == 1])


@pytest.mark.parametrize(("real", "classes"), [(1, "1, 4"), (1, "1, 2"), (6, "1, 4")])
def test_another_arff_file_is_not_taken_for_thyroid(tmp_path, real, classes):
    path = tmp_path / "thyroid" / "openml-40497.arff"
    path.parent.mkdir()
    head = "@relation x\n" + "".join(f"@attribute a{i} numeric\n" for i in range(real))
    rows = [f"{f'{value},' * real}{classes[-(value % 2)]}\n" for value in range(4)]
    path.write_text(head + f"@attribute c {{{classes}}}\n@data\n" + "".join(rows))
    message = (
        rf"openml-40497\.arff: not ann-thyroid: {real} real attributes instead of 6, classes {classes} instead of "
        r"1, 2, 3\. Delete it and fetch again\.$"
    )
    with pytest.raises(DatasetError, match=message):
        load("thyroid", data_home=tmp_path)


def test_a_gap_in_the_thyroid_table_is_refused(tmp_path, rng):
    path = tmp_path / "thyroid" / "openml-40497.arff"
    _ann_thyroid(path, rng)
    head, data = path.read_text().split("@data\n")
    path.write_text(head + "@data\n?" + data[data.index(",") :])
    with pytest.raises(DatasetError, match=r"openml-40497\.arff, row 1, column V1: nan is not a finite number"):
        load("thyroid", data_home=tmp_path)


def _arff(home, text):
    path = home / "tables" / "openml" / "7.arff"
    path.parent.mkdir(parents=True)
    path.write_text("@relation x\n" + text)


def test_an_openml_table_takes_the_rarer_class_as_anomaly(tmp_path):
    _arff(tmp_path, "@attribute a numeric\n@attribute k {u,v,w}\n@attribute class {good,bad}\n@data\n"
          "1,u,good\n2,v,good\n3,w,bad\n4,u,good\n")  # fmt: skip
    dataset = load("tables/openml/7", data_home=tmp_path)
    assert dataset.feature_names == ("a", "k_u", "k_v", "k_w")
    assert dataset.X_test[dataset.y_test == 1].tolist() == [[3, 0, 0, 1]]
    assert set(dataset.source["kinds_test"]) == {"good", "bad"} and "/d/7" in dataset.source["origin"]
    splits = [load("tables/openml/7", data_home=tmp_path, seed=seed).X_train.tolist() for seed in range(6)]
    assert splits == [load("tables/openml/7", data_home=tmp_path, seed=seed).X_train.tolist() for seed in range(6)]
    assert any(split != splits[0] for split in splits) and dataset.name == "tables/openml/7"


@pytest.mark.parametrize("kind", ["{0,1}", "numeric"])
def test_openml_labels_zero_and_one_are_taken_as_they_are(tmp_path, kind):
    _arff(tmp_path, f"@attribute a numeric\n@attribute y {kind}\n@data\n1,0\n2,0\n3,1\n4,1\n5,1\n")
    assert load("tables/openml/7", data_home=tmp_path).y_test.sum() == 3


@pytest.mark.parametrize("columns", [("CLASS", "a", "b"), ("a", "b", "kind")])
def test_the_classes_of_openml_are_in_a_column_called_so_or_in_the_last(tmp_path, columns):
    kinds = {"CLASS": "{u,v}", "kind": "{u,v}", "a": "numeric", "b": "numeric"}
    rows = [(1, "u"), (2, "v"), (3, "u")]
    lines = [",".join(str(row[name not in "ab"]) for name in columns) for row in rows]
    head = "".join(f"@attribute {name} {kinds[name]}\n" for name in columns)
    _arff(tmp_path, head + "@data\n" + "\n".join(lines))
    dataset = load("tables/openml/7", data_home=tmp_path)
    assert dataset.feature_names == ("a", "b") and dataset.X_test[dataset.y_test == 1].tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "@attribute a numeric\n@attribute y {0,1,2,3,4,5,6}\n@data\n" + "".join(f"1,{i}\n" for i in range(7)),
            r"7\.arff, column y: 7 classes \(0, 1, 2, 3, 4, 5\), expected 2\. Convert it to a CSV file with labels 0 "
            r"\(normal\) and 1 \(anomaly\), and load it as tables/<name>\.$",
        ),
        ("@attribute a numeric\n@attribute y {0,1}\n@data\n1,0\n?,0\n3,1\n", r"7\.arff, row 2, column a: nan"),
        ("@attribute a string\n@attribute y {0,1}\n@data\nx,0\n", "not a readable ARFF"),
        ("no arff at all", "not a readable ARFF"),
    ],
)
def test_an_openml_table_that_does_not_fit_is_refused(tmp_path, text, message):
    _arff(tmp_path, text)
    with pytest.raises(DatasetError, match=message):
        load("tables/openml/7", data_home=tmp_path)


def test_openml_wants_a_number(tmp_path):
    with pytest.raises(
        DatasetError, match=r"^tables/openml/thyroid: expected OpenML's number, such as tables/openml/40497\.$"
    ):
        load("tables/openml/thyroid", data_home=tmp_path)


def _ruler_and_neighbours(dataset):
    """AUROC of ||x||² of standardised columns, of kNN (5), and of one Gaussian."""
    mean, std = dataset.X_train.mean(0), dataset.X_train.std(0)
    train, test = (dataset.X_train - mean) / std, (dataset.X_test - mean) / std
    neighbours = NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0].mean(1)
    gaussian = GaussianMixture(1, reg_covar=1e-3, random_state=0).fit(train)
    scores = ((test**2).sum(1), neighbours, -gaussian.score_samples(test))
    return [roc_auc_score(dataset.y_test, score) for score in scores]


@pytest.mark.parametrize("kind", ["local", "global", "clustered", "dependency"])
def test_injected_anomalies_are_a_tenth_of_the_test_set_and_normals_stay_real(kind):
    base, dataset = load("breast_cancer", seed=2), load(f"injected/{kind}/breast_cancer", seed=2)
    assert dataset.y_test.mean() == pytest.approx(0.1, abs=0.005)
    np.testing.assert_array_equal(dataset.X_train, base.X_train)
    np.testing.assert_array_equal(dataset.X_test[dataset.y_test == 0], base.X_test[base.y_test == 0])
    assert dataset.source["kinds_test"] == tuple(kind if label else "normal" for label in dataset.y_test)
    assert dataset.source["synthetic"] and dataset.source["base"] == base.source
    assert dataset.source["licence"] == base.source["licence"] and dataset.feature_names == base.feature_names
    assert (dataset.name, dataset.modality) == (f"injected/{kind}/breast_cancer", "tabular")
    assert load(f"injected/{kind}/breast_cancer", seed=2).source["sha256"] == dataset.source["sha256"]


def test_a_baseline_fails_on_broken_dependencies_where_a_gaussian_succeeds():
    measured = np.mean(
        [_ruler_and_neighbours(load("injected/dependency/breast_cancer", seed=s)) for s in range(3)], 0
    )
    ruler, neighbours, gaussian = measured
    assert ruler < 0.65 and neighbours > 0.8 and gaussian > 0.98


@pytest.mark.parametrize("kind", ["local", "global", "clustered"])
def test_the_other_injected_kinds_lie_off_the_normals(kind):
    _, neighbours, _ = _ruler_and_neighbours(load(f"injected/{kind}/breast_cancer"))
    assert neighbours > 0.9


def test_local_anomalies_are_wider_by_the_root_of_five_and_clustered_ones_five_times_as_far(rng):
    centre, spread = np.array([10.0, -2000.0, 7.0]), np.array([1.0, 100.0, 0.0])  # the last column is constant
    normals = centre + spread * rng.normal(size=(150, 3))
    local, clustered = (
        _from_mixture(normals, 800, np.random.default_rng(0), kind) for kind in ("local", "clustered")
    )
    mean, std = normals.mean(0), normals.std(0)
    np.testing.assert_allclose(local.mean(0), mean, rtol=0.05)
    np.testing.assert_allclose(local.std(0), np.sqrt(5 * np.array([*std[:2] ** 2, 1e-4])), rtol=0.1)
    np.testing.assert_allclose(clustered.mean(0), 5 * mean, rtol=0.05)
    np.testing.assert_allclose(clustered.std(0)[:2], std[:2], rtol=0.1)


def test_anomalies_of_a_mixture_lie_around_its_components_by_their_share(rng):
    normals = np.concatenate([rng.normal(-500, 10, (135, 1)), rng.normal(500, 10, (15, 1))])
    local = _from_mixture(normals, 500, rng, "local")
    assert (np.abs(np.abs(local) - 500) < 150).all() and 0.05 < (local > 0).mean() < 0.15


def test_a_mixture_has_at_most_nine_components_and_each_more_samples_than_columns(rng, monkeypatch):
    tried = []

    class Recorded(GaussianMixture):
        def fit(self, X):
            tried.append(self.n_components)
            return super().fit(X)

    monkeypatch.setattr("sklearn.mixture.GaussianMixture", Recorded)
    for n, most in ((40, 9), (11, 3), (2, 1)):
        tried.clear()
        assert _from_mixture(rng.normal(size=(n, 2)), 5, rng, "local").shape == (5, 2)
        assert tried == list(range(1, most + 1))


@pytest.mark.parametrize(("held_out", "n"), [(1, 1), (13, 1), (14, 2), (9000, 1000)])
def test_global_anomalies_are_a_ninth_of_the_normals_and_fill_the_widened_range(rng, held_out, n):
    y = np.repeat([0, 1], [held_out, 1])
    X = rng.uniform(-1, 2, (held_out + 1, 2))
    dataset = injected("global", Dataset("breast_cancer", "tabular", X[:1], X, y, source=origin("breast_cancer")), 0)
    anomalies = dataset.X_test[dataset.y_test == 1]
    assert len(anomalies) == n
    if n == 1000:
        np.testing.assert_allclose([anomalies.min(0), anomalies.max(0)], [[-1.1] * 2, [2.2] * 2], atol=0.03)


def test_values_of_dependency_anomalies_are_held_out_values_of_their_own_column():
    base, dataset = load("breast_cancer"), load("injected/dependency/breast_cancer")
    held_out, anomalies = base.X_test[base.y_test == 0], dataset.X_test[dataset.y_test == 1]
    for column, values in zip(held_out.T, anomalies.T):
        assert np.isin(values, column).all()
    assert not {row.tobytes() for row in anomalies} & {row.tobytes() for row in held_out}


UNKNOWN_KIND = r"^injected/globl/breast_cancer: unknown kind; expected one of local, global, clustered, dependency\.$"


def test_images_can_be_a_base_and_an_unknown_kind_is_refused():
    dataset = load("injected/dependency/digits/1")
    assert dataset.X_train.shape[1] == 64 and dataset.feature_names[0] == "pixel_0_0"
    with pytest.raises(DatasetError, match=UNKNOWN_KIND):
        load("injected/globl/breast_cancer")


def test_without_a_network_thyroid_says_what_to_put_where(tmp_path, monkeypatch, closed_port):
    monkeypatch.setattr(download, "OPENML", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(DatasetError, match=r"no connection(.|\n)*thyroid/train-set\.csv(.|\n)*thyroid\.mat"):
        load("thyroid", data_home=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_compression_that_numpy_does_not_write_is_refused(tmp_path):
    write_npz_header(tmp_path / "x.npz", (3, 2), zipfile.ZIP_BZIP2)
    with pytest.raises(DatasetError, match="field X: a compression that NumPy does not write"):
        read_matrices(tmp_path / "x.npz")


def test_a_thyroid_file_of_another_selection_is_refused(tmp_path):
    (tmp_path / "thyroid").mkdir()
    np.savez(tmp_path / "thyroid" / "thyroid.npz", X=np.ones((60, 5)), y=np.arange(60) < 9)
    with pytest.raises(DatasetError, match="X has 5 columns, the thyroid selection has 6"):
        load("thyroid", data_home=tmp_path)
