"""The texts of an edition in its language: fixed words, and the captions of recorded figures and tables.

Notebooks record in English. `src/captions.<language>.yaml` maps each English caption, text alternative, column, cell
and label of a figure to its translation, as gettext does. If an English sentence is changed, its translation is
missing, and the build reports it.
"""

import difflib
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "figure": "Figure {}",
        "table": "Table {}",
        "section": "Section {}",
        "end": ". ",
        "contents": "Contents",
        "skip": "Skip to the text",
        "source": "Source: notebook {}.",
        "numbers": "Numbers (CSV)",
        "bold": "Bold: ahead of all others by more than both standard deviations.",
        "computed": "Computed by",
        "spread": "mean ± standard deviation, n = {}",
        "enlarge": "Enlarge {}",
        "enlarged": "Enlarged figure",
        "close": "Close",
        "code": "Code",
        "units": {},
        "cells": {"True": "yes", "False": "no"},
    },
    "zh": {
        "figure": "图 {}",
        "table": "表 {}",
        "section": "第 {} 节",
        "end": "　",
        "contents": "目录",
        "skip": "跳到正文",
        "source": "来源：笔记本 {}。",
        "numbers": "图中数据（CSV）",
        "bold": "粗体：领先其余各行的幅度超过两者的标准差之和。",
        "computed": "计算自",
        "spread": "均值 ± 标准差，n = {}",
        "enlarge": "放大{}",
        "enlarged": "放大的插图",
        "close": "关闭",
        "code": "代码",
        "units": {"times": "倍", "s": "秒"},
        "cells": {"True": "是", "False": "否"},
    },
}
UNNUMBERED = ("abstract", "references")  # sections, by name
NUMBER = re.compile(r"\d+(?:\.\d+)?")
DATA_SET = (
    r"\b(?:breast_cancer|thyroid|(?:synthetic|mvtec|textures|digits|digit_scenes|mnist|tables|injected)(?:/\w+)+)"
)
VARIABLE = re.compile(rf"{DATA_SET}|{NUMBER.pattern}")  # the parts of a text that depend on the profile


@cache
def captions(language: str) -> dict[str, str]:
    """English -> translation; empty for English itself."""
    known: dict[str, str] = {}
    for path in (FOLDER / "src" / f"captions{profile}.{language}.yaml" for profile in ("", ".course")):
        known |= yaml.safe_load(path.read_text(encoding="utf-8")) if language != "en" else {}
    return known


@cache
def patterns(language: str) -> dict[str, str]:
    """The translated texts, by their English text without data sets and numbers."""
    return {VARIABLE.sub("{}", text): text for text in captions(language)}


def translation(text: str, language: str) -> str | None:
    """A text in the language; None if it is not translated.

    A text that differs from a translated one only in data sets and numbers has the same translation, in which these
    are replaced.
    """
    known = captions(language)
    if text in known:
        return known[text]
    like = patterns(language).get(VARIABLE.sub("{}", text))
    if like is None:
        return None
    old, new, there = (VARIABLE.findall(found) for found in (like, text, known[like]))
    if old == there:  # in the same order
        parts = iter(new)
        return VARIABLE.sub(lambda _: next(parts), known[like])
    pairs = set(zip(old, new))
    replaced = dict(pairs)
    if len(replaced) < len(pairs) or any(a != b and a not in there for a, b in pairs):
        return None
    return VARIABLE.sub(lambda part: replaced.get(part.group(), part.group()), known[like])


def translate(entry: dict[str, Any], language: str) -> tuple[dict[str, Any], list[str]]:
    """A recorded table or figure in the language, and a sentence for each text that is not translated.

    Names of columns and words in cells without a translation are not changed, because many are names of classes.
    """
    if language == "en":
        return entry, []
    known = captions(language)
    entry, missing = dict(entry), []
    for part in {"caption", "alt"} & entry.keys():
        translated = translation(entry[part], language)
        if translated is not None:
            entry[part] = translated
        elif entry[part].strip():
            near = difflib.get_close_matches(entry[part], known, n=1, cutoff=0.6)
            changed = f" It was '{near[0]}'." if near else ""
            missing.append(f"the {part} '{entry[part]}' is not translated.{changed}")
    if "rows" in entry:
        entry["columns"] = [known.get(column, column) for column in entry["columns"]]
        entry["rows"] = [[known.get(c, c) if isinstance(c, str) else c for c in row] for row in entry["rows"]]
    return entry, missing


def label(line: str, language: str) -> str | None:
    """A line of a figure's label in the language; None if it is not translated.

    Numbers are not translated; "{}" stands for each of them: "threshold {}". A name that is not translated is its own
    translation.
    """
    known, pattern = captions(language), NUMBER.sub("{}", line)
    if not re.search(r"[^\W\d_]", re.sub(r"\\[a-z]+", "", line)):  # a number, or one as Matplotlib sets powers of ten
        return line
    if re.fullmatch(rf"{DATA_SET}|feature_\d+", line):  # names are not translated
        return line
    if line in known:
        return known[line]
    if pattern in known:
        return known[pattern].format(*NUMBER.findall(line))
    return translation(line, language)
