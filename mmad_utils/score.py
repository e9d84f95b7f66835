"""Score new samples with a saved detector: ``python -m mmad_utils.score DETECTOR FILE_OR_FOLDER -o scores.csv``.

A table is read, scored and written in chunks, so the memory does not grow with the size of the file. There are three
threads: one reads and encodes, one scores, one writes. The exit status is 0, or 1 if there are significantly more
alarms than the nominal false-alarm rate explains (see ``--level``), or 2 after an error.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats
from tqdm import tqdm

from mmad_utils.calibrated import CalibratedDetector
from mmad_utils.datasets.record import DatasetError
from mmad_utils.datasets.samples import find
from mmad_utils.datasets.table_files import iter_table
from mmad_utils.datasets.user_files import read_pictures
from mmad_utils.detector import Detector, DetectorError, check_share, check_whole
from mmad_utils.files import atomic_path

__all__ = ["Summary", "describe", "excess_probability", "score_file"]

IMAGES = 64  # images scored at a time
REASONS = 3  # columns listed for each explained row


@dataclass(frozen=True)
class Summary:
    """Number of scored samples and of alarms.

    Attributes
    ----------
    samples, alarms : int
    probability : float, probability of at least this number of alarms if all samples are normal
        See ``excess_probability``.
    """

    samples: int
    alarms: int
    probability: float


def excess_probability(alarms: int, samples: int, calibration: int, rate: float) -> float:
    """Probability of at least ``alarms`` alarms among normal samples, given the size of the calibration set.

    With m calibration scores and l = ⌊(m + 1) rate⌋, the false-alarm rate of a calibrated detector has the
    distribution Beta(l, m + 1 − l). The number of alarms is therefore beta-binomial. For large m this is close to the
    binomial distribution. With many samples and few calibration scores, the binomial distribution is too narrow.

    References
    ----------
    V. Vovk (2012), Conditional validity of inductive conformal predictors, ACML, proposition 2b.
    """
    least = int(np.floor((calibration + 1) * rate + 1e-9))
    if least == 0 or alarms == 0:
        return 1.0
    return float(stats.betabinom.sf(alarms - 1, samples, least, calibration + 1 - least))


def score_file(
    detector: CalibratedDetector,
    source: str | Path,
    output: str | Path,
    *,
    encoding: str = "utf-8",
    explained: int = 100,
    progress: bool = False,
) -> Summary:
    """Score a table (CSV, Excel, Parquet) or a folder of images, and write one CSV row per sample.

    The output has these columns:

    - ``sample``: number of the row in the file (the header of a text file is row 1), or image name;
    - ``score``, ``p_value`` and ``alarm`` (0 or 1);
    - ``reasons``: the columns with the largest decrease of the score when their value is replaced by values of
      calibration rows without alarm. Only the first ``explained`` rows with an alarm have reasons, because each
      explanation needs many scores.

    Parameters
    ----------
    detector : fitted CalibratedDetector
    source : file or folder
    output : file, written atomically; after an error it is not written
    encoding : str, encoding of a text file
    explained : int >= 0, number of rows with an alarm that have reasons
    progress : bool, show a progress bar with the remaining time

    Raises
    ------
    DatasetError, DetectorError
        The file cannot be read, or columns do not fit the detector; the message lists all such columns.
    """
    check_whole("explained", explained, 0)
    if not isinstance(detector, CalibratedDetector):
        raise DetectorError(f"a {type(detector).__name__} has no p-values: fit and save a CalibratedDetector.")
    source, output = find(source), Path(output).expanduser()
    if output.resolve() == source.resolve():
        raise DetectorError(f"{output} is the file that is scored: give another name for the output.")
    samples = alarms = 0
    chunks = _checked(_chunks(detector, source, encoding), source, detector)
    calibration = len(detector.tail_.calibration_)
    p_values = np.arange(1, calibration + 2) / (calibration + 1)  # all possible values
    alarm = pa.array((p_values <= detector.contamination).astype(np.int8))
    endings = pc.binary_join_element_wise(pa.array(p_values).cast("string"), alarm.cast("string"), ",")
    with atomic_path(output) as partial, partial.open("wb") as file, ThreadPoolExecutor(1) as writing:
        bar = tqdm(total=1.0, disable=not progress, bar_format="{l_bar}{bar}| {elapsed}, {remaining} left")
        written: Future[Any] = writing.submit(file.write, b"sample,score,p_value,alarm,reasons\n")
        for X, names, share, encoded in _ahead((*chunk, detector.encode(chunk[0])) for chunk in chunks):
            table = detector.assess_encoded(*encoded)
            found = np.flatnonzero(table["alarm"])
            reasons = np.full(len(table), None)
            rows = found[: max(0, explained - alarms)]
            if detector.reference_ is not None and len(rows):
                reasons[rows] = _reasons(detector, X.iloc[rows])
            rank = np.rint(table["p_value"].to_numpy() * len(p_values)).astype(np.int64) - 1
            written.result()
            written = writing.submit(_write, file, names, table["score"], endings.take(pa.array(rank)), reasons)
            samples, alarms = samples + len(table), alarms + len(found)
            bar.update(share - bar.n)
        written.result()
        bar.close()
    return Summary(samples, alarms, excess_probability(alarms, samples, calibration, detector.contamination))


def _write(file, names, scores, endings: pa.Array, reasons) -> None:
    """Write rows as CSV, joined from whole columns of text; a loop over rows would take longer than the scoring."""
    columns = [_quoted(names), pa.array(scores).cast("string"), endings, _quoted(reasons)]
    lines = pc.binary_join_element_wise(*columns, ",", null_handling="replace", null_replacement="")
    ended = pc.binary_join_element_wise(lines, "", "\n")
    file.write(ended.buffers()[2])  # the buffer holds all texts of the array, one after the other


def _quoted(cells) -> pa.Array:
    """Cells of CSV: texts in quotation marks, numbers without."""
    cells = pa.array(cells)
    if not pa.types.is_string(cells.type):
        return cells.cast("string")
    return pc.binary_join_element_wise("", pc.replace_substring(cells, '"', '""'), "", '"')


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yield the same items; a thread computes the next item while the caller uses the current one."""
    end = object()
    with ThreadPoolExecutor(1) as reading:
        following = reading.submit(next, items, end)
        while (item := following.result()) is not end:
            following = reading.submit(next, items, end)
            yield item


def describe(detector: CalibratedDetector) -> str:
    """Text with the parameters, the data and the columns of a detector, one fact per line."""
    made = detector.provenance_ or {}
    lines = [
        f"detector: {detector.detector_}",
        f"parameters: {detector.detector_.get_params()}",
        f"nominal false-alarm rate: {detector.contamination:g}",
        f"calibration samples: {len(detector.tail_.calibration_)}",
        *(
            f"{name.replace('_', ' ')}: {made.get(name, 'not recorded')}"
            for name in dict.fromkeys(["version", "training_data", "calibration_data", *made])
        ),
    ]
    if detector.encoder_ is None:
        return "\n".join([*lines, "samples: images"])
    kinds, formats = detector.encoder_.kinds_, detector.encoder_.formats_
    lines.append(f"columns: {len(kinds)}")
    for name, kind in kinds.items():
        decimal, unit = formats.get(name, (".", ""))
        lines.append(f"  {name!r}: {kind}" + ", decimal comma" * (decimal == ",") + f", in {unit!r}" * bool(unit))
    return "\n".join(lines)


def _chunks(detector, source: Path, encoding: str) -> Iterator[tuple[Any, Any, float]]:
    """Yield samples, their names, and the share of the source that was read so far."""
    if detector.encoder_ is None and not source.is_dir():
        raise DetectorError(
            f"the detector has no encoder, so it takes images, and {source} is a file. For a table, fit "
            "CalibratedDetector with a ColumnEncoder."
        )
    if detector.encoder_ is not None and source.is_dir():
        raise DetectorError(f"the detector takes tables, and {source} is a folder.")
    if source.is_dir():
        images = read_pictures(source, least=1)
        for start in range(0, len(images.X), IMAGES):
            stop = min(start + IMAGES, len(images.X))
            names = [_safe(str(name), "./") for name in images.names[start:stop]]
            yield list(images.X[start:stop]), names, stop / len(images.X)
    else:
        for frame, share in iter_table(source, detector.encoder_, encoding):
            yield frame, frame.index.to_numpy(), share


def _checked(chunks, source: Path, detector) -> Iterator[tuple[Any, Any, float]]:
    """Yield the same chunks; raise an error before the first one is scored if its columns do not fit."""
    first = next(chunks)
    mismatches = [] if detector.encoder_ is None else detector.encoder_.mismatches(first[0])
    if mismatches:
        raise DatasetError(f"{source} does not fit the detector: {'; '.join(mismatches)}.")
    yield first
    yield from chunks


def _reasons(detector, X: pd.DataFrame) -> list[str]:
    """For each row, the columns with the largest decrease of the score, with their values."""
    found = []
    for (_, row), (_, drop) in zip(X.iterrows(), detector.score_drop(X).iterrows()):
        largest = drop[drop > 0].sort_values(ascending=False).index[:REASONS]
        found.append(_safe("; ".join(f"{name} = {str(row[name])[:40]} ({drop[name]:+.1f})" for name in largest), "'"))
    return found


def _safe(cell: str, prefix: str) -> str:
    """A cell with a prefix if a spreadsheet would read it as a formula."""
    return prefix + cell if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmad_utils.score", description=__doc__.split("\n\n")[0])
    parser.add_argument("detector", help="file that CalibratedDetector.save or notebook 11 wrote")
    parser.add_argument("source", nargs="?", help="table (CSV, Excel, Parquet) or folder of images")
    parser.add_argument("-o", "--output", default="scores.csv", help="file for the scores; default scores.csv")
    parser.add_argument("--describe", action="store_true", help="only print parameters and data of the detector")
    parser.add_argument("--encoding", default="utf-8", help="encoding of a text file; default utf-8")
    parser.add_argument("--explained", type=int, default=100, help="alarms that have reasons; default 100")
    parser.add_argument(
        "--level", type=float, default=0.01, help="significance level for exit status 1; default 0.01"
    )
    given = parser.parse_args(arguments)
    if not given.describe and given.source is None:
        parser.error("give the file or folder to score, or --describe")
    warnings.showwarning = lambda message, *_, **__: print(f"note: {message}", file=sys.stderr)
    try:
        check_share("level", given.level, 1)
        detector = Detector.load(given.detector)
        if not isinstance(detector, CalibratedDetector):
            raise DetectorError(f"{given.detector} contains a {type(detector).__name__}, not a CalibratedDetector.")
        if given.describe:
            print(describe(detector))
            return 0
        options = {"encoding": given.encoding, "explained": given.explained}
        summary = score_file(detector, given.source, given.output, progress=True, **options)
    except (DatasetError, DetectorError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{summary.samples} samples, {summary.alarms} alarms ({summary.alarms / summary.samples:.2%}, nominal "
        f"{detector.contamination:.2%}); probability of this many without anomalies: {summary.probability:.3g}"
    )
    return int(summary.probability < given.level)


if __name__ == "__main__":
    sys.exit(main())
