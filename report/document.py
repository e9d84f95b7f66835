"""A report as a document: its numbering, its cross-references, and its problems.

`Report.collect` reads the Markdown of every cell once, numbers its figures, tables and sections, and collects
problems. `Report.check` raises one error with all problems. Then `page.py` writes each cell.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbconvert.utils.exceptions import ConversionException
from pybtex.database import parse_file

from mmad_utils.course.notebook_files import NotebookError
from mmad_utils.course.provenance import stale_reasons
from mmad_utils.course.results import ResultsError, mixed_figures, read
from mmad_utils.course.tolerances import output_folder
from report import appendix, formulas, labels, markup
from report.language import UNNUMBERED, WORDS, translate

PLACED = ("figure", "table", "contents", "references")  # keys that stand alone in a paragraph


class ReportError(ConversionException):
    """The report cannot be built; the message has one line per problem."""


def load_results(folder: Path) -> dict[str, Any]:
    """Every notebook's results: {"values", "tables", "figures"}, each by key, and "provenance" by notebook.

    Raises
    ------
    ReportError
        If a file is not a results file, a figure is from another run, or two notebooks record a table or a figure
        with the same id.
    """
    results: dict[str, Any] = {"values": {}, "tables": {}, "figures": {}, "provenance": {}}
    for path in sorted(folder.glob("*.json")):
        try:
            record = read(path)
        except ResultsError as error:
            raise ReportError(f"{error} Delete it and run `make report`.") from None
        for file in mixed_figures(record, output_folder(folder)):
            raise ReportError(f"{file} is not the figure that {path} describes: run its notebook again.")
        notebook = record["notebook"]
        results["provenance"][notebook] = record["provenance"]
        for key, value in record["values"].items():
            results["values"][f"{notebook}.{key}"] = {**value, "notebook": notebook}
        for kind in ("tables", "figures"):
            for key, entry in record[kind].items():
                if key in results[kind]:
                    other = results[kind][key]["notebook"]
                    raise ReportError(f"{kind[:-1]} '{key}' is recorded by both {other} and {notebook}.")
                results[kind][key] = {**entry, "notebook": notebook}
        for key, table in record["tables"].items():
            results["values"].update(cells(key, table["columns"], table["rows"], notebook))
    results["tables"].update(appendix.tables(results["provenance"], folder.parent / "notebooks"))
    return results


def cells(table: str, columns: list[str], rows: list[list[Any]], notebook: str) -> dict[str, dict[str, Any]]:
    """The numbers of a recorded table as values, each named "table; row; column".

    The name of a row is its first cells, as many as distinguish it from every other row. A standard deviation in the
    next column and a unit in the column's name are included.
    """
    depth = next(
        (n for n in range(1, len(columns)) if len({tuple(row[:n]) for row in rows}) == len(rows)), len(columns)
    )
    found = {}
    for row in rows:
        for at in range(depth, len(columns)):
            if isinstance(row[at], bool) or not isinstance(row[at], int | float):
                continue
            spread = row[at + 1] if columns[at + 1 :] and columns[at + 1].split(" ")[-1] in markup.SPREADS else None
            found["; ".join([table, *map(str, row[:depth]), columns[at]])] = {
                "value": row[at],
                "sd": spread if isinstance(spread, int | float) else None,
                "n": None,
                "unit": next((unit for unit in ("s", "%") if columns[at].endswith(f" ({unit})")), ""),
                "notebook": notebook,
            }
    return found


class Report:
    """Keys, figures, tables and citations of a report, in reading order."""

    def __init__(
        self, results: dict[str, Any], output: Path, bibliography: Path, language: str, profile: str = "default"
    ) -> None:
        self.results, self.output, self.profile = results, output, profile
        self.language, self.words = language, WORDS[language]
        self.works = parse_file(str(bibliography), bib_format="bibtex")
        self.title = ""
        self.sections: list[tuple[int, str, str, str]] = []  # level, slug, number, HTML of the heading
        self.numbers: dict[str, tuple[str, str]] = {}  # "figure:id" -> ("fig-id", "Figure 1")
        self.cited: list[str] = []
        self.used: set[str] = set()  # notebooks whose results appear
        self.figures: list[dict[str, Any]] = []  # in reading order, in the language of the edition
        self.references: list[tuple[str, str]] = []  # (cell, id) of every cross-reference
        self.problems: list[str] = []
        self.cell = ""
        self._counts = {"figure": 0, "table": 0}
        self._section = [0, 0, 0]

    def problem(self, text: str, remedy: str = "") -> None:
        self.problems.append(f"{self.cell}: {text}" + (f" {remedy}" if remedy else ""))

    def unknown(self, what: str, key: str, known: Iterable[str], remedy: str = "") -> None:
        near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.3)
        self.problem(f"no {what} '{key}'" + (f"; did you mean '{near[0]}'?" if near else "."), remedy)

    def collect(self, tokens: list[markup.Token]) -> None:
        """Number the figures, tables and citations of the tokens, and collect their problems."""
        for number in markup.typed_numbers(tokens):
            self.problem(
                f"the number '{number}' is typed in the text.",
                "Record it in a notebook with nb.value(...) and name its key: {{ value:notebook.key }}.",
            )
        for index, token in enumerate(tokens):
            children = token.get("children", [])
            if token["type"] != "paragraph" or children[0]["type"] != "key":
                continue
            kind, _, name = children[0]["raw"].partition(":")
            if kind in PLACED and len(children) == 1:
                token.update(type=f"placed_{kind}", raw=name)
                del token["children"]
            elif (
                kind == "caption"
                and len(children) > 1
                and [after["type"] for after in tokens[index + 1 :]][1:2] == ["table"]
            ):
                children[1]["raw"] = children[1]["raw"].lstrip()
                token.update(type="caption", raw=name, children=children[1:])
                tokens[index + 2]["captioned"] = True
        for token in markup.walk(tokens):
            match token["type"]:
                case "heading":
                    self._collect_heading(token)
                case "citation":
                    for key in token["cited"]:
                        if key not in self.works.entries:
                            self.unknown("citation", key, self.works.entries, "See report/references.bib.")
                        elif key not in self.cited:
                            self.cited.append(key)
                case "key":
                    self._collect_key(token["raw"])
                case "caption":
                    self._number("table", token["raw"])
                case "placed_figure" | "placed_table" as placed:
                    self._collect_placed(placed.removeprefix("placed_"), token)
                case "inline_math" | "block_math":
                    try:
                        token["mathml"] = formulas.mathml(token["raw"], token["type"].removesuffix("_math"))
                    except ValueError as error:
                        self.problem(f"{error}.")
                        token["mathml"] = ""
                case "block_html" | "inline_html" | "image":
                    self.problem(
                        f"{token.get('raw') or 'a Markdown image'} stands in the text.",
                        "HTML and images are not checked: write Markdown, and insert figures by key.",
                    )

    def _collect_heading(self, token: markup.Token) -> None:
        level, text = token["attrs"]["level"], markup.plain_text(token["children"], "")
        slug, number = token["attrs"]["slug"], ""
        if level == 1:
            self.title = text
        elif slug not in UNNUMBERED:
            depth = min(level, 4) - 2
            self._section[depth] += 1
            self._section[depth + 1 :] = [0] * (2 - depth)
            number = ".".join(map(str, self._section[: depth + 1]))
        if f"section:{slug}" in self.numbers:
            self.problem(f"'{slug}' is the name of two sections.", f"Name one of them: {text} {{#other-name}}.")
        if level > 1:
            self.numbers[f"section:{slug}"] = (
                f"sec-{slug}",
                self.words["section"].format(number) if number else text,
            )
            self.sections.append((level, slug, number, text))
        token["attrs"]["number"] = number

    def _collect_key(self, key: str) -> None:
        kind, _, name = key.partition(":")
        if kind == "value":
            if name in self.results["values"]:
                self.used.add(self.results["values"][name]["notebook"])
            else:
                self.unknown("value", name, self.results["values"], "After a change, run `make report`.")
        elif kind == "ref":
            self.references.append((self.cell, name))
        elif kind in PLACED:
            self.problem(f"{{{{ {key} }}}} must stand alone in a paragraph.")
        elif kind == "caption":
            self.problem(f"{{{{ {key} }}}} must begin the paragraph before a Markdown table.")
        else:
            kinds = ("value", "ref", "caption", *PLACED)
            self.unknown("kind of key", kind, kinds, f"In {{{{ {key} }}}}; see report/markup.py.")

    def _collect_placed(self, kind: str, token: markup.Token) -> None:
        name, known = token["raw"], self.results[f"{kind}s"]
        if name not in known:
            return self.unknown(kind, name, known, "After a change, run `make report`.")
        if known[name]["notebook"]:  # the tables of the appendix come from none
            self.used.add(known[name]["notebook"])
        self._number(kind, name)
        token["entry"], untranslated = translate(known[name], self.language)
        for missing in untranslated:
            self.problem(f"{kind} '{name}': {missing}", f"Add it to report/src/captions.{self.language}.yaml.")
        token["caption"] = markup.parse_line(token["entry"]["caption"])
        for caption_token in markup.walk(token["caption"]):
            if caption_token["type"] in ("inline_math", "citation", "key"):
                self.collect([caption_token])
        if kind == "figure":
            self.figures.append(token["entry"])
            missing = [known[name][form] for form in ("png", "svg") if not (self.output / known[name][form]).exists()]
            if missing:
                self.problem(f"the figure's file {missing[0]} is missing.", "Run `make report`.")
            elif self.language != "en":
                self._translate_labels(name, token["entry"])
            if not known[name]["alt"].strip():
                self.problem(f"figure '{name}' has no text alternative.", "Give nb.figure(...) its alt.")

    def _translate_labels(self, name: str, entry: dict[str, Any]) -> None:
        """Add to the entry its drawing with labels in the language of the edition."""
        entry["drawing"], untranslated = labels.translate((self.output / entry["svg"]).read_bytes(), self.language)
        for line in untranslated:
            self.problem(
                f"figure '{name}': the label '{line}' is not translated.",
                f"Add it to report/src/captions.{self.language}.yaml; a name that stays is its own translation.",
            )

    def _number(self, kind: str, name: str) -> None:
        if f"{kind}:{name}" in self.numbers:
            self.problem(f"{kind} '{name}' is placed twice.")
        self._counts[kind] += 1
        self.numbers[f"{kind}:{name}"] = (f"{kind[:3]}-{name}", self.words[kind].format(self._counts[kind]))

    def check(self) -> None:
        """Raise one ReportError with all problems, after the last cell was collected."""
        for cell, name in self.references:
            self.cell = cell
            meant = self.named(name)
            if not meant:
                names = {key.partition(":")[2] for key in self.numbers}
                self.unknown("section, or placed figure or table,", name, names)
            elif len(meant) > 1:
                self.problem(f"'{name}' names {' and '.join(meant)}: write which, as in {{{{ ref:{meant[0]} }}}}.")
        self.cell = "results"
        for notebook in sorted(self.used):
            self._check_fresh(notebook)
        if self.problems:
            count = len(self.problems)
            heading = f"The report cannot be built ({count} problem{'s' if count > 1 else ''}):"
            raise ReportError("\n  ".join([heading, *self.problems]))

    def _check_fresh(self, notebook: str) -> None:
        """Compare the provenance with the current files."""
        try:
            reasons = stale_reasons(notebook, self.profile, self.output)
        except NotebookError as error:
            return self.problem(str(error), "Delete its results, or restore the notebook.")
        for reason in reasons:
            self.problem(f"the results of {notebook} are stale: {reason}.", "Run `make report`.")

    def named(self, name: str) -> list[str]:
        """Possible targets of a reference: "padim_roc" is "figure:padim_roc" if no other object has that name."""
        return [key for key in self.numbers if name in (key, key.partition(":")[2])]
