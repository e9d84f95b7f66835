"""Conversion of a label column to 0 and 1, by the meaning of its words."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from mmad_utils.datasets.record import DatasetError

__all__ = ["binary_labels"]

NORMAL_WORDS = """
0 normal good ok okay benign inlier pass passed healthy regular nominal legit legitimate genuine clean intact no n

false none negative no_defect no_fault non-defective no_anomaly
正常 良好 良 良品 合格 好 否 无 无异常 阴性 健康 通过
"""
ANOMALOUS_WORDS = """
1 anomaly anomalous abnormal bad ng nok ko fail failed failure fault faulty defect defective attack malignant

malicious outlier fraud fraudulent sick yes y true positive error
异常 不良 不良品 不合格 次品 缺陷 故障 攻击 坏 是 有 阳性 欺诈
"""
NORMAL, ANOMALOUS = set(NORMAL_WORDS.split()), set(ANOMALOUS_WORDS.split())
TRUTH = {"0", "1", "true", "false", "yes", "no", "y", "n", "是", "否"}  # in a column called "ok" 1 is normal


def binary_labels(
    column: pd.Series, rows: np.ndarray, where: str, normal_label: str | None, name: str
) -> tuple[np.ndarray, str]:
    """Labels 0 and 1 by the meaning of the words, and a note with the meaning of each word."""
    missing = np.flatnonzero(column.isna() | (column.astype(str).str.strip() == ""))
    if missing.size:
        raise DatasetError(f"{where}, row {rows[missing[0]]}: no label. Fill it in or remove the row.")
    values = column.astype(str).str.strip().str.removesuffix(".0")
    counts = values.value_counts()
    shown = ", ".join(f"{value!r} ({n})" for value, n in counts.head(6).items()) + ", ..." * (len(counts) > 6)
    if normal_label is not None:
        normal = {str(normal_label).strip()} & set(counts.index)
        if not normal:
            raise DatasetError(f"{where}: no label is {normal_label!r}, given as normal_label; there are {shown}.")
    else:
        normal = _normal_words(list(counts.index), name)
    anomalous = [value for value in counts.index if value not in normal]
    if not normal or not anomalous:
        raise DatasetError(
            f"{where}: {len(counts)} different labels: {shown}. Which of them are normal is not known: expected 0 "
            "and 1, normal and anomaly, or synonyms of these. Give normal_label=."
        )
    y = values.isin(anomalous).to_numpy(np.int64)
    taken = ", ".join(map(repr, anomalous[:6])) + ", ..." * (len(anomalous) > 6)
    note = (
        f"Label: {taken} ({y.sum()} rows) is the anomaly, {', '.join(map(repr, sorted(normal)))} "
        f"({(y == 0).sum()} rows) is normal."
    )
    return y, note


def _normal_words(values: list[str], name: str) -> set[str]:
    """The values of a label column that mean normal; empty if their meaning is not known."""
    words = {value: value.lower().strip(" .!").replace(" ", "_") for value in values}
    digits = (
        set() if set(words.values()) == {"0", "1"} else {"0", "1"}
    )  # ambiguous beside other values such as 2 or -1
    normal = {value for value, word in words.items() if word in NORMAL - digits}
    anomalous = {value for value, word in words.items() if word in ANOMALOUS - digits}
    if len(values) == 2 and TRUTH.issuperset(words.values()):
        about = set(re.split(r"[\W_]+", name.lower()))
        if about & (NORMAL | {"valid", "success"}) - TRUTH:  # a column "ok" or "is_normal"
            return anomalous
        return normal
    if len(values) == 2 and not normal and len(anomalous) == 1:
        return set(values) - anomalous
    return normal
