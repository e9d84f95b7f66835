"""Tabular data sets: breast cancer, thyroid, the user's tables, OpenML tables, and tables with injected anomalies."""

from __future__ import annotations

import csv
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from numpy.lib import format as npy
from scipy.io import arff

from .download import OPENML_TABLES, fetch
from .input_files import check_numbers, check_regular, printable
from .record import Dataset, DatasetError, about, check_labels, not_found, one_class_split, origin

LABEL_NAMES = ("label", "y", "class", "target", "outlier")
KINDS = ("local", "global", "clustered", "dependency")
KIND_NAMES = {
    "c": "complex numbers",
    "m": "time differences",
    "M": "dates",
    "O": "Python objects, which only pickle could read",
    "S": "text",
    "U": "text",
    "V": "records",
}  # description of NumPy's kinds of types
MATLAB_MATRIX, MATLAB_COMPRESSED = 14, 15  # types of an element in a MATLAB file
MATLAB_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATLAB_NUMBERS = ("double", "single", *(f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")))
MATLAB_CLASSES = dict(enumerate(("cell", "struct", "object", "char", "sparse", *MATLAB_NUMBERS, "function"), start=1))
MAT_HEADER = 1000  # largest size of a variable in bytes, without its numbers
THYROID_FEATURES = tuple(f"feature_{i}" for i in range(1, 7))


def breast_cancer(seed: int) -> Dataset:
    """569 fine-needle aspirates with 30 features of the cell nuclei; benign is normal, malignant is the anomaly.

    Source: W. H. Wolberg, W. N. Street, O. L. Mangasarian (1993), Breast Cancer Wisconsin (Diagnostic), UCI; the
    version in scikit-learn.
    """
    from sklearn.datasets import load_breast_cancer  # imported here because it takes a second

    data = load_breast_cancer()
    y = data.target == 0
    kinds = np.where(y, "malignant", "benign")
    return _one_class("breast_cancer", data.data, y, data.feature_names, seed, kinds=kinds)


def thyroid(home: Path, seed: int) -> Dataset:
    """Thyroid function of 3772 patients with six real measurements; 93 patients with hyperfunction are anomalies.

    The columns are age, TSH, T3, TT4, T4U and FTI, in the order of UCI's file, each scaled to [0, 1]. ODDS selected
    the learning set of ann-thyroid and the six real ones of its 21 attributes. The hyperfunction class (class 1) is
    the anomaly; normal and subnormal function (classes 3 and 2) are normal. The course's CSV files, ODDS's .mat file
    and ADBench's .npz file contain this selection. OpenML 40497 contains the whole learning set, unscaled; this
    function then selects the columns and scales them to [0, 1] by minimum and maximum.

    The CSV files define a split, which seed 0 keeps; any other seed draws a new split of the normal samples. The
    other sources are split by the seed, with half of the normal samples for training.

    Source: R. Quinlan (1987), Thyroid Disease, UCI; S. Rayana (2016), ODDS Library.
    """
    folder = home / "thyroid"
    train, test = folder / "train-set.csv", folder / "test-set.csv"
    if train.exists() or test.exists():
        for path in (train, test):
            if not path.exists():
                raise not_found("thyroid", path, home)
        dataset = _thyroid_csv(train, test)
        return dataset if seed == 0 else dataset.resplit(seed)
    ready = sorted([*folder.glob("*.mat"), *folder.glob("*.npz")])
    if ready:
        X, y = read_matrices(ready[0])
        if X.shape[1] != 6:
            raise DatasetError(f"{ready[0]}: X has {X.shape[1]} columns, the thyroid selection has 6.")
    else:
        path = folder / "openml-40497.arff"
        if not path.exists():
            fetch("thyroid", home)
        X, y = _thyroid_arff(path)
    return _one_class("thyroid", X, y, THYROID_FEATURES, seed)


def _thyroid_csv(train: Path, test: Path) -> Dataset:
    """Read the course's two files, with their split."""
    rows = {}
    for path in (train, test):
        header, values = read_csv(path)
        needed = (*THYROID_FEATURES, "label") if path == test else THYROID_FEATURES
        missing = [name for name in needed if name not in header]
        if missing:
            raise DatasetError(
                f"{path}, row 1: no column {missing[0]!r} (the header reads {', '.join(header)}).\n"
                "Expected the columns feature_1 … feature_6 (float), and in the test set label "
                "(0 normal, 1 anomaly)."
            )
        rows[path] = values[:, [header.index(name) for name in THYROID_FEATURES]]
        if "label" in header:
            labels = check_labels(values[:, header.index("label")], str(path), first_row=2)
            if path == train and labels.any():
                raise DatasetError(
                    f"{path}, row {labels.argmax() + 2}, column label: an anomaly in the training set. "
                    "Training takes normal samples only: remove it."
                )
    return Dataset("thyroid", "tabular", rows[train], rows[test], labels, None, THYROID_FEATURES, origin("thyroid"))


def _thyroid_arff(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """ODDS's selection, computed from the learning set of ann-thyroid at OpenML."""
    frame = read_arff(path)
    classes = frame.iloc[:, -1].map(lambda value: str(value).removesuffix(".0"))
    features = frame.iloc[:, :-1].apply(pd.to_numeric, errors="coerce")
    real = features.loc[:, features.nunique() > 2]  # the other 15 attributes are binary
    if real.shape[1] != 6 or not {"1", "2", "3"} >= set(classes):
        raise DatasetError(
            f"{path}: not ann-thyroid: {real.shape[1]} real attributes instead of 6, classes "
            f"{', '.join(sorted(set(classes)))} instead of 1, 2, 3. Delete it and fetch again."
        )
    X = _finite(real.to_numpy(), str(path), tuple(real.columns))
    return (X - X.min(0)) / np.ptp(X, axis=0), (classes == "1").to_numpy()


def table(stem: str, home: Path, seed: int) -> Dataset:
    """Read a table from data_home/tables: .npz or .mat with X and y, or CSV with a label column.

    The label column of a CSV file is called label, y, class, target or outlier (case is ignored). 0 is normal and 1
    is the anomaly; all other columns are features. A missing file is downloaded if the manifest has its address.
    """
    name, folder = f"tables/{stem}", home / "tables"
    path = next((p for s in (".npz", ".mat", ".csv") if (p := folder / f"{stem}{s}").exists()), None)
    if path is None and stem in OPENML_TABLES:
        return openml_table(OPENML_TABLES[stem], home, seed, name=name)
    if path is None:
        if not any(file["url"] for file in about(name)["files"]):
            raise not_found(name, folder / f"{stem}.npz", home)
        path = fetch(name, home)[0]
    if path.suffix == ".csv":
        header, values = read_csv(path)
        found = [i for i, column in enumerate(header) if column.lower() in LABEL_NAMES]
        if len(found) != 1:
            raise DatasetError(
                f"{path}, row 1: {'no' if not found else 'more than one'} column of labels (the header reads "
                f"{', '.join(header)}). Call exactly one label, y, class, target or outlier: 0 normal, 1 anomaly."
            )
        y = check_labels(values[:, found[0]], str(path), first_row=2)
        X = np.delete(values, found[0], axis=1)
        columns = [column for i, column in enumerate(header) if i != found[0]]
    else:
        X, y = read_matrices(path)
        columns = [f"feature_{i + 1}" for i in range(X.shape[1])]
    return _one_class(name, X, y, columns, seed)


def openml_table(number: str, home: Path, seed: int, *, name: str | None = None) -> Dataset:
    """Load an OpenML table with two classes; it is downloaded on first use.

    The classes are in the column that is called label, y, class, target or outlier, else in the last column. Labels 0
    and 1 are used directly; of two other classes, the rarer class is the anomaly. Nominal features are one-hot
    encoded.

    For KDD Cup 1999 ("tables/kddcup99") all normal connections are used, and a random subset of the attacks that is
    1% of the table. In the file, 80% are attacks. The subset "SA" of scikit-learn is built in the same way.
    """
    path = home / "tables" / "openml" / f"{number}.arff"
    name = name or f"tables/openml/{number}"
    if not (number.isascii() and number.isdecimal()):
        raise DatasetError(f"{name}: expected OpenML's number, such as tables/openml/40497.")
    if not path.exists():
        fetch(name, home)
    frame = read_arff(path)
    label = next((c for c in frame.columns if c.lower() in LABEL_NAMES), frame.columns[-1])
    classes = frame.pop(label).map(lambda value: str(value).removesuffix(".0"))
    kinds = classes
    if name == "tables/kddcup99":
        frame, kinds, classes = _few_attacks(frame, classes, seed, str(path))
    counts = classes.value_counts()
    if len(counts) != 2:
        raise DatasetError(
            f"{path}, column {label}: {len(counts)} classes ({', '.join(map(str, counts.index[:6]))}), expected "
            "2. Convert it to a CSV file with labels 0 (normal) and 1 (anomaly), and load it as tables/<name>."
        )
    anomaly = "1" if set(counts.index) == {"0", "1"} else counts.index[-1]
    features = pd.get_dummies(frame)
    X = _finite(features.to_numpy(np.float64), str(path), tuple(features.columns))
    return _one_class(name, X, (classes == anomaly).to_numpy(), features.columns, seed, kinds=kinds.to_numpy())


def _few_attacks(
    frame: pd.DataFrame, kinds: pd.Series, seed: int, where: str
) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Select all normal connections of KDD Cup 1999 and 1% attacks; return features, kinds, and classes 0 and 1."""
    normal = (kinds.str.rstrip(".") == "normal").to_numpy()
    if normal.all() or not normal.any():
        raise DatasetError(f"{where}: expected connections of the class normal and of attacks, as KDD Cup 1999 has.")
    attacks = np.flatnonzero(~normal)
    few = np.random.default_rng(seed).choice(attacks, min(len(attacks), max(1, normal.sum() // 99)), replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(normal), few]))
    classes = pd.Series(np.where(normal[rows], "0", "1"))
    return frame.iloc[rows], kinds.iloc[rows], classes


def injected(kind: str, base: Dataset, seed: int) -> Dataset:
    """Inject anomalies of one kind into the normal samples of `base`; they are one tenth of the test set.

    Han et al. (2022) fit a Gaussian mixture to the normal samples, with the number of components chosen by BIC, and
    draw anomalies from a modified distribution:

    - local: every covariance is multiplied by 5; the anomalies surround the normal clusters;
    - clustered: every mean is multiplied by 5; the anomalies form separate, distant clusters;
    - global: each column is uniform between 1.1 times its minimum and 1.1 times its maximum, without a mixture;
    - dependency: each column is drawn independently, so that only the dependence between columns is removed.

    A mixture has 1 to 9 components. The number is limited so that there are more samples than columns per component.

    There are two differences to the paper. The normal samples are the real samples of `base`, not samples of the
    fitted model. And for dependency, the paper fits a vine copula to the normal samples and draws the anomalies from
    kernel estimates of the single columns. Here, the columns of the held-out normal samples are permuted
    independently. This preserves the distribution of every column exactly: all values are real, and only their
    combinations are wrong.

    Parameters
    ----------
    kind : "local", "global", "clustered" or "dependency"
    base : any table, or array images, which are flattened; its own anomalies are not used

    Source: S. Han, X. Hu, H. Huang, M. Jiang, Y. Zhao (2022), ADBench: Anomaly Detection Benchmark, NeurIPS,
    section 3.2 and appendix.
    """
    if kind not in KINDS:
        raise DatasetError(f"injected/{kind}/{base.name}: unknown kind; expected one of {', '.join(KINDS)}.")
    base = base.as_table()
    train, held_out = np.asarray(base.X_train), np.asarray(base.X_test)[base.y_test == 0]
    normals = np.concatenate([train, held_out])
    n = max(1, round(len(held_out) / 9))
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind == "global":
        anomalies = rng.uniform(1.1 * normals.min(0), 1.1 * normals.max(0), (n, normals.shape[1]))
    elif kind == "dependency":
        anomalies = np.column_stack([rng.permutation(column) for column in held_out.T])[:n]
    else:
        anomalies = _from_mixture(normals, n, rng, kind)
    y = np.repeat([0, 1], [len(held_out), n])
    source = origin(f"injected/{kind}/{base.name}", base=dict(base.source))
    source |= {"licence": base.source["licence"], "kinds_test": ("normal",) * len(held_out) + (kind,) * n}
    return Dataset(
        f"injected/{kind}/{base.name}", "tabular", train, np.concatenate([held_out, anomalies]), y, None,
        base.feature_names, source,
    )  # fmt: skip


def _from_mixture(normals: np.ndarray, n: int, rng: np.random.Generator, kind: str) -> np.ndarray:
    """Draw n samples from the Gaussian mixture of the normal samples, with means or covariances times 5."""
    from sklearn.mixture import GaussianMixture  # imported here because it takes a second

    scale = normals.std(0)
    scale[scale == 0] = 1
    seed = int(rng.integers(2**31))
    mixtures = (
        GaussianMixture(k, reg_covar=1e-4, random_state=seed).fit(normals / scale)
        for k in range(1, 1 + min(9, max(1, len(normals) // (1 + normals.shape[1]))))
    )
    mixture = min(mixtures, key=lambda mixture: mixture.bic(normals / scale))
    means = mixture.means_ * (5 if kind == "clustered" else 1)
    covariances = mixture.covariances_ * (5 if kind == "local" else 1)
    components = rng.choice(len(means), size=n, p=mixture.weights_)
    draws = [rng.multivariate_normal(means[k], covariances[k], method="cholesky") for k in components]
    return np.array(draws) * scale


def read_csv(path: Path) -> tuple[list[str], np.ndarray]:
    """Read the header and the numbers, (n, columns) float64, of a CSV file; every cell is checked.

    Raises
    ------
    DatasetError
        A cell is not a finite number. The message contains file, row (the header is row 1) and column of the first
        such cell.
    """
    check_regular(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, cells) for number, cells in enumerate(csv.reader(file), start=1) if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: not a CSV file in UTF-8 ({error}). Save it as one.") from error
    if len(lines) < 2:
        raise DatasetError(f"{path}: {'empty' if not lines else 'no row below the header'}.")
    header = [cell.strip() for cell in lines[0][1]]
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise DatasetError(f"{path}, row {number}: {len(cells)} cells below {len(header)} column names.")
    return header, np.array(
        [[_number(cell, path, number, name) for name, cell in zip(header, cells)] for number, cells in lines[1:]]
    )


def _number(cell: str, path: Path, row: int, column: str) -> float:
    """Convert a cell to a finite number."""
    try:
        number = float(cell)
    except ValueError as error:
        where = f"{path}, row {row}, column {column}"
        raise DatasetError(f"{where}: {cell!r} is not a number. Correct it or remove the row.") from error
    if not math.isfinite(number):
        where = f"{path}, row {row}, column {column}"
        raise DatasetError(f"{where}: {cell!r} is not a finite number. Fill it in or remove the row.")
    return number


def read_matrices(path: Path, max_numbers: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read X, (n, d) float64, and y, (n,) int64, from an .npz or .mat file, with checks and without pickle.

    Types and shapes are checked in the headers before memory is allocated for the values.

    Parameters
    ----------
    path : file
    max_numbers : int, or None for the limit in $MMAD_MAX_NUMBERS, whose default is 50 million
        If the header of an array states more numbers, an error is raised before reading.

    Raises
    ------
    DatasetError
        The file is damaged or not a regular file, or has no X or y. X is not (n, d), or y is not (n,), (n, 1) or
        (1, n). An array is empty, too large, not finite, or not of real numbers (complex, times, text, objects,
        sparse). The lengths differ.
    """
    check_regular(path)
    where = printable(path)
    read = _mat_fields if path.suffix == ".mat" else _npz_fields
    try:
        content = read(path, max_numbers)
    except DatasetError:
        raise
    except Exception as error:  # the readers raise errors of any type for damaged bytes
        raise DatasetError(f"{where}: not a readable {path.suffix} file ({error!r}). Fetch it again.") from error
    X, y = content["X"], content["y"].ravel()
    if len(X) != len(y):
        raise DatasetError(f"{where}: X has {len(X)} rows, y has {len(y)} labels.")
    columns = tuple(f"X[:, {i}]" for i in range(X.shape[1]))
    return _finite(np.asarray(X, np.float64), where, columns), check_labels(y, where)


def _check_shape(where: str, key: str, shape: tuple[int, ...], max_numbers: int | None) -> None:
    """Check the shape in a header: a table for X, a vector for y."""
    count = math.prod(shape)
    if key == "X":
        fits, expected = len(shape) == 2, "(n, d)"
    else:
        fits, expected = len(shape) == 1 or (len(shape) == 2 and 1 in shape), "(n,)"
    if not fits or count < 1:
        raise DatasetError(f"{where}, field {key}: an array of shape {shape}; expected {expected}, not empty.")
    check_numbers(count, f"{where}, field {key}", max_numbers)


def _missing(where: str, key: str, names: Iterable[str]) -> DatasetError:
    names = set(names)
    if {"data", "indices", "indptr"} <= names:
        return DatasetError(f"{where}: a sparse matrix, which is not read. Save X.toarray() and y with numpy.savez.")
    shown = ", ".join(map(printable, sorted(names)[:8])) or "nothing"
    return DatasetError(
        f"{where}: no array {key!r} (it holds {shown}); expected X (n, d) and y (n,), 0 normal, 1 anomaly."
    )


def _npz_fields(path: Path, max_numbers: int | None) -> dict[str, np.ndarray]:
    """Read X and y from an .npz file."""
    where, content = printable(path), {}
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for key in ("X", "y"):
            if key not in members:
                raise _missing(where, key, members)
            info = members[key]
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DatasetError(f"{where}, field {key}: a compression that NumPy does not write.")
            with archive.open(info) as file:
                major, _ = npy.read_magic(file)
                shape, _, dtype = npy.read_array_header_1_0(file) if major == 1 else npy.read_array_header_2_0(file)
                start = file.tell()
            if dtype.kind not in "biuf" or dtype.itemsize > 8:
                kind = KIND_NAMES.get(dtype.kind, str(dtype))
                raise DatasetError(f"{where}, field {key}: {kind}; expected numbers (real, of at most 64 bits).")
            _check_shape(where, key, shape, max_numbers)
            if info.file_size < start + math.prod(shape) * dtype.itemsize:
                raise DatasetError(f"{where}, field {key}: {info.file_size:,} bytes for an array of shape {shape}.")
        for key in ("X", "y"):
            with archive.open(members[key]) as file:
                content[key] = npy.read_array(file, allow_pickle=False)
    return content


def _mat_fields(path: Path, max_numbers: int | None) -> dict[str, np.ndarray]:
    """Read X and y from a MATLAB file of version 4 to 7.

    The format is documented in MathWorks, MAT-File Format. SciPy's compiled reader is not used, because some damaged
    files make it crash the process.
    """
    where = printable(path)
    with path.open("rb") as file:
        head = file.read(128)
        if head.startswith(b"MATLAB 7.3"):
            raise DatasetError(
                f"{where}: a MATLAB v7.3 (HDF5) file, which is not read. Save it in MATLAB with save(..., '-v7'), or "
                "save X and y with numpy.savez."
            )
        order = {b"IM": "<", b"MI": ">"}.get(head[126:])
        file.seek(128 if order else 0)
        variables = _matlab_5(file, order) if order else _matlab_4(file)
        names, content = [], {}
        for name, kind, shape, values in variables:
            names.append(name)
            if name in ("X", "y"):
                if kind not in MATLAB_NUMBERS:
                    raise DatasetError(f"{where}, field {name}: {kind}; expected a full array of real numbers.")
                _check_shape(where, name, shape, max_numbers)
                content[name] = values().reshape(shape, order="F")
    if not names:
        raise ValueError("no variable in it")
    for key in ("X", "y"):
        if key not in content:
            raise _missing(where, key, names)
    return content


Variable = tuple[
    str, str, tuple[int, ...], Callable[[], np.ndarray]
]  # name, class, shape, function that reads the values


def _matlab_5(file: BinaryIO, order: str) -> Iterator[Variable]:
    """Yield the variables of a file of version 5 to 7; values are read and decompressed only by the function."""
    while len(tag := file.read(8)) == 8:
        kind, size = struct.unpack(f"{order}2I", tag)
        start = file.tell()
        if kind not in (MATLAB_MATRIX, MATLAB_COMPRESSED):
            raise ValueError(f"an element of type {kind}")

        def content(count: int, start=start, size=size, compressed=kind == MATLAB_COMPRESSED) -> memoryview:
            file.seek(start)
            if not compressed:
                return memoryview(file.read(min(count, size)))
            packed = file.read(size)
            return memoryview(zlib.decompressobj().decompress(packed, 8 + count))[
                8:
            ]  # the tag of the matrix is first

        head = content(MAT_HEADER)
        flags, at = _part(head, 0, order)
        (flag,) = struct.unpack_from(f"{order}I", flags)
        dimensions, at = _part(head, at, order)
        shape = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
        name, at = _part(head, at, order)
        if min(shape) < 0:
            raise ValueError(f"a shape {shape}")

        def values(at=at, shape=shape, content=content) -> np.ndarray:
            whole = content(at + 8 + 8 * math.prod(shape))
            form = MATLAB_TYPES[struct.unpack_from(f"{order}I", whole, at)[0] & 0xFFFF]
            return np.frombuffer(_part(whole, at, order)[0], np.dtype(order + form))

        name_of_class = MATLAB_CLASSES.get(flag & 0xFF, "an unknown class")
        yield bytes(name).decode("latin-1"), "complex numbers" if flag & 0x800 else name_of_class, shape, values
        file.seek(start + size)


def _part(content: memoryview, at: int, order: str) -> tuple[memoryview, int]:
    """The data of a part of a matrix of version 5, and the offset of the next part."""
    kind, size = struct.unpack_from(f"{order}2I", content, at)
    if kind >> 16:  # up to four bytes, stored in the tag
        size, start, end = kind >> 16, at + 4, at + 8
    else:
        start, end = at + 8, at + 8 + size + -size % 8
    if start + size > len(content):
        raise ValueError("a part that ends after its matrix")
    return content[start : start + size], end


def _matlab_4(file: BinaryIO) -> Iterator[Variable]:
    """Yield the variables of a file of version 4."""
    while len(head := file.read(20)) == 20:
        form, order = min((struct.unpack(f"{order}I", head[:4])[0], order) for order in "<>")
        rows, columns, imaginary, length = struct.unpack(f"{order}4I", head[4:])
        if form // 1000 != "<>".index(order) or form // 10 % 10 > 5 or length > MAT_HEADER:
            raise ValueError("no header of a MATLAB file")
        name = file.read(length).rstrip(b"\0").decode("latin-1")
        dtype = np.dtype(order + ("f8", "f4", "i4", "i2", "u2", "u1")[form // 10 % 10])
        start, count = file.tell(), rows * columns

        def values(start=start, size=count * dtype.itemsize, dtype=dtype) -> np.ndarray:
            file.seek(start)
            return np.frombuffer(file.read(size), dtype)

        kind = {0: "double", 1: "char", 2: "sparse"}.get(form % 10, "an unknown class")
        yield name, "complex numbers" if imaginary else kind, (rows, columns), values
        file.seek(start + count * dtype.itemsize * (2 if imaginary else 1))


def read_arff(path: Path) -> pd.DataFrame:
    """Read an ARFF file of numbers and nominal values; nominal values are returned as text.

    Raises
    ------
    DatasetError
        The file is damaged or not a regular file, has no row, or has an attribute of dates, texts or relations.
    """
    check_regular(path)
    where = printable(path)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            rows, _ = arff.loadarff(file)
        kinds = {name: rows.dtype[name].kind for name in rows.dtype.names}
        if not kinds:
            raise ValueError("no attribute")
        frame = pd.DataFrame(rows)
    except Exception as error:  # SciPy's reader raises errors of any type for damaged lines
        raise DatasetError(
            f"{where}: not a readable ARFF file of numbers and nominal values ({error!r}). Convert it to a CSV file, "
            "and load it as tables/<name>."
        ) from error
    if not len(frame):
        raise DatasetError(f"{where}: no row of data.")
    for name, kind in kinds.items():
        if kind == "S":
            frame[name] = frame[name].str.decode("ascii")
        elif kind != "f":
            raise DatasetError(f"{where}, attribute {printable(name)}: neither numbers nor nominal values.")
    return frame


def _finite(X: np.ndarray, where: str, columns: tuple[str, ...]) -> np.ndarray:
    """Return X; raise an error with row and column of the first number that is not finite."""
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        raise DatasetError(
            f"{where}, row {row + 1}, column {columns[column]}: {X[row, column]} is not a finite number. "
            "Fill it in or remove the row."
        )
    return X


def _one_class(
    name: str,
    X: np.ndarray,
    y: np.ndarray,
    columns: Iterable[object],
    seed: int,
    kinds: np.ndarray | None = None,
) -> Dataset:
    """Data set of a table, split by the seed, with half of the normal samples for training."""
    train, test = one_class_split(y, seed)
    known = {} if kinds is None else {"kinds_test": tuple(str(kind) for kind in kinds[test])}
    return Dataset(
        name, "tabular", X[train], X[test], y[test], None, tuple(map(str, columns)), origin(name, **known)
    )  # fmt: skip
