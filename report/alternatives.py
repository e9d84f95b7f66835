"""Sentences with alternatives: the recorded results select the text of the report.

    {{ if:CONDITION }} text {{ elif:CONDITION }} text {{ else }} text {{ end }}

Without `else`, and if no condition holds, the text is empty. A condition has one of these forms, or joins several by
" and ". A block cannot contain another block::

    01b_image_detectors.auroc_mild              the value was recorded
    01_demo.a_auroc > 01_demo.b_auroc + 0.01    a comparison of values, cells of tables, or numbers
    01_task2_padim.dataset is synthetic/*       the parameter of the notebook's run, or one entry of its list

`{{ name:01_task2_padim.dataset }}` is replaced by the name of the data set in `src/names.yaml`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

NAMES = Path(__file__).resolve().parent / "src" / "names.yaml"
BLOCK = re.compile(r"\{\{\s*if:(?P<condition>[^{}]*?)\s*\}\}(?P<body>.*?)\{\{\s*end\s*\}\}", re.DOTALL)
BRANCH = re.compile(r"\{\{\s*(?:elif:(?P<condition>[^{}]*?)|(?P<otherwise>else))\s*\}\}")
NAME = re.compile(r"\{\{\s*name:(?P<parameter>[^{}]*?)\s*\}\}")
MARK = re.compile(r"\{\{\s*(?:if:[^{}]*|elif:[^{}]*|else|end)\s*\}\}")
NOTHING = "\0"  # replaces a block whose text is empty
EMPTY_LINE = re.compile("^\0\n", re.MULTILINE)  # would end a table
SEPARATORS = {"en": ", ", "zh": "、"}  # of the names of several data sets


@cache
def names() -> dict[str, dict[str, str]]:
    """The name of each data set in each language."""
    return yaml.safe_load(NAMES.read_text(encoding="utf-8"))


def branches(block: re.Match[str]) -> Iterator[tuple[str | None, str]]:
    """Condition (None for `else`) and text of each alternative."""
    condition: str | None = block["condition"]
    begin = 0
    for mark in BRANCH.finditer(block["body"]):
        yield condition, block["body"][begin : mark.start()].strip()
        condition, begin = mark["condition"], mark.end()
    yield condition, block["body"][begin:].strip()


def conditions(source: str) -> Iterator[str]:
    """Every condition of the source, in reading order."""
    for block in BLOCK.finditer(source):
        yield from (condition for condition, _ in branches(block) if condition is not None)


def _space(left: str, right: str) -> str:
    """A space between a Chinese character and a letter, digit or code, as in the rest of the Chinese text."""
    return " " if {"CHINESE", "LATIN"} == {_script(left), _script(right)} else ""


def _script(character: str) -> str:
    if "\u4e00" <= character <= "\u9fff":
        return "CHINESE"
    return "LATIN" if character == "`" or (character.isascii() and character.isalnum()) else ""


class Chooser:
    """Selects the alternatives of a source by the results, and inserts the names of data sets.

    Parameters
    ----------
    results : the return value of `document.load_results`
    language : language of the names

    Attributes
    ----------
    used : notebooks whose results were used in a condition
    """

    def __init__(self, results: Mapping[str, Any], language: str) -> None:
        self.results, self.language = results, language
        self.used: set[str] = set()

    def choose(self, source: str, problem: Callable[[str], None]) -> str:
        """The source with selected alternatives; `problem` is called with a sentence for each unknown condition."""

        def chosen(block: re.Match[str]) -> str:
            for condition, text in branches(block):
                try:
                    if condition is None or all(map(self._holds, condition.split(" and "))):
                        return text or NOTHING
                except KeyError as error:
                    problem(f"the condition '{condition}' names '{error.args[0]}', which is not in the results.")
            return NOTHING

        def named(mark: re.Match[str]) -> str:
            try:
                value = self._parameter(mark["parameter"])
            except KeyError as error:
                problem(f"{mark.group()} names '{error.args[0]}', which is not in the results.")
                return ""
            values = value if isinstance(value, list) else [value]
            text = SEPARATORS[self.language].join(names().get(v, {}).get(self.language, f"`{v}`") for v in values)
            before, after = mark.string[: mark.start()][-1:], mark.string[mark.end() :][:1]
            return _space(before, text[:1]) + text + _space(text[-1:], after)

        text = EMPTY_LINE.sub("", BLOCK.sub(chosen, source)).replace(NOTHING, "")
        text = NAME.sub(named, text)
        if MARK.search(text):
            problem("an alternative is not closed, or stands within another: {{ if:CONDITION }} text {{ end }}.")
        return text

    def _holds(self, condition: str) -> bool:
        condition = condition.strip()
        parts = condition.split(" is ")
        if len(parts) == 2:
            value = self._parameter(parts[0])
            return any(
                fnmatchcase(str(element), parts[1]) for element in (value if isinstance(value, list) else [value])
            )
        for sign in (" > ", " < "):
            left, found, right = condition.partition(sign)
            if found:
                difference = self._side(left) - self._side(right)
                return difference > 0 if sign == " > " else difference < 0
        if condition in self.results["values"]:
            self.used.add(self.results["values"][condition]["notebook"])
            return True
        return False

    def _side(self, text: str) -> float:
        """The number of a side of a comparison: a value's key or a number, with an optional added number."""
        key, _, margin = text.partition(" + ")
        try:
            return float(key) + float(margin or 0)
        except ValueError:
            value = self.results["values"][key]
        self.used.add(value["notebook"])
        return value["value"] + float(margin or 0)

    def _parameter(self, name: str) -> Any:
        """The value of `notebook.parameter` with which the results were made."""
        notebook, _, parameter = name.partition(".")
        try:
            value = self.results["provenance"][notebook]["parameters"][parameter]
        except KeyError:
            raise KeyError(name) from None
        self.used.add(notebook)
        return value
