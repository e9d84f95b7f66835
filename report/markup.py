"""The report's Markdown: its grammar, the check for typed numbers, and number formatting.

The report adds two marks to Markdown with tables and `$...$` formulas::

    {{ value:01b_image_detectors.auroc_mild }}         a number that a notebook recorded
    {{ value:one_class_comparison; breast_cancer; DeepSVDD; AUROC }}   a cell of a table: its row by the first columns
    {{ figure:padim_heatmaps }}  {{ table:baselines }} alone in a paragraph: inserted and numbered here.
    {{ caption:tasks }} Text.                          begins a paragraph: numbers the Markdown table below it.
    {{ ref:padim_heatmaps }}                           "Figure 1", "Table 2" or "Section 3.1", as a link;
                                                       ref:figure:id or ref:table:id if both have that id.
    {{ contents }}  {{ references }}                   the contents list, the works cited.
    {{ name:01_task2_padim.dataset }}                  the name, from src/names.yaml, of the data set that is the
                                                       parameter of a notebook.
    {{ if:CONDITION }} text {{ else }} text {{ end }}  the text that the results select: see `alternatives.py`.
    [@defard2021padim; @roth2022patchcore]             numbered citations
    ## Tables {#task-4}                                the name of a section, for ref:task-4; without it, its words
"""

import html
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mistune
from mistune.plugins.math import INLINE_MATH_PATTERN

from mmad_utils.course.results import SPREADS


def math_over_lines(markdown: mistune.Markdown) -> None:
    """The mistune plugin for a formula in the text that continues in the next line, as JupyterLab allows."""
    markdown.inline.specification["inline_math"] = INLINE_MATH_PATTERN.replace(r"[^$\\\n]", r"[^$\\]")


PLUGINS: list[Any] = ["math", "mistune.plugins.math.math_in_list", math_over_lines, "table"]

TYPED_NUMBER = re.compile(
    r"\d+(?:[.,]\d+)+"  # 0.993 and 1,839
    r"|(?<![\w.])\.\d+"  # .993
    r"|±\s*\d+"
    r"|\d+\s*(?:[%‰％]|per\s?cent\b)"
    r"|百分之\S+"
)

KEY = r"\{\{\s*(?P<named>[^{}]*?)\s*\}\}"
CITATION = r"\[(?P<cited>@[^\[\]]+)\]"
SECTION_NAME = re.compile(r"\s*\{#([\w-]+)\}\s*$")

HIGHER_IS_BETTER = ("AUROC", "AP", "AUPRO", "F1")  # the last word of a column in which the highest mean is the best
NUMERIC = re.compile(r"[−\d.,±×/%() ⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+|–|nan")  # a cell of a column of numbers
NO_WORDS: Mapping[str, str] = {}

Token = dict[str, Any]


def _marks(markdown: mistune.Markdown) -> None:
    """The mistune plugin for keys and citations."""

    def key(inline, match, state):
        state.append_token({"type": "key", "raw": match.group("named")})
        return match.end()

    def citation(inline, match, state):
        cited = [part.strip().removeprefix("@") for part in match.group("cited").split(";")]
        state.append_token({"type": "citation", "raw": match.group(), "cited": cited})
        return match.end()

    markdown.inline.register("key", KEY, key, before="link")
    markdown.inline.register("citation", CITATION, citation, before="link")


_PARSER = mistune.create_markdown(renderer=None, plugins=[*PLUGINS, _marks])


def parse(source: str) -> list[Token]:
    """The syntax tree of a Markdown cell, as mistune's tokens."""
    parsed, _ = _PARSER.parse(source)
    tokens = [token for token in parsed if isinstance(token, dict)]
    for token in tokens:
        if token["type"] == "heading":
            token["attrs"]["slug"] = _take_section_name(token["children"])
    return tokens


def _take_section_name(children: list[Token]) -> str:
    """The `{#name}` at the end of a heading, which is removed; otherwise a name made of its words."""
    last = children[-1] if children else {}
    named = SECTION_NAME.search(last.get("raw", "")) if last.get("type") == "text" else None
    if named:
        last["raw"] = last["raw"][: named.start()]
        return named.group(1)
    return re.sub(r"\W+", "-", plain_text(children, "").lower()).strip("-")


def parse_line(source: str) -> list[Token]:
    """The inline tokens of one line, such as a caption."""
    tokens = parse(" ".join(source.split()))
    return tokens[0].get("children", []) if tokens else []


def walk(tokens: Sequence[Token]) -> Iterator[Token]:
    """Every token in reading order."""
    for token in tokens:
        yield token
        yield from walk(token.get("children", ()))


def plain_text(tokens: Sequence[Token], hidden: str = "\0") -> str:
    """The words of the text; code, formulas, keys and citations become `hidden`."""
    parts = []
    for token in tokens:
        if "children" in token:
            parts.append(plain_text(token["children"], hidden))
        elif token["type"] == "text":
            parts.append(html.unescape(token["raw"]))
        else:
            parts.append(" " if token["type"] in ("softbreak", "linebreak") else hidden)
    return "".join(parts)


def typed_numbers(tokens: Sequence[Token]) -> list[str]:
    """Decimals and percentages typed in the prose, outside code, formulas and citations."""
    blocks = ("paragraph", "block_text", "heading", "table_cell")
    texts = [plain_text(token["children"]) for token in walk(tokens) if token["type"] in blocks]
    return [number for text in texts for number in TYPED_NUMBER.findall(text)]


def _decimals(magnitude: float) -> int:
    """Three decimals up to 1 (an AUROC), about three digits above it."""
    return next((digits for limit, digits in ((1, 3), (10, 2), (100, 1)) if magnitude <= limit), 0)


def _fixed(number: float, decimals: int) -> str:
    return f"{number:,.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def format_number(number: float) -> str:
    """A number alone: 1,839 · 0.993 · 12.3 · 4.2 × 10⁻⁵."""
    if isinstance(number, int):
        return f"{number:,}".replace("-", "\N{MINUS SIGN}")
    if 0 < abs(number) < 0.0005 or abs(number) >= 1e7:
        mantissa, exponent = f"{number:.1e}".split("e")
        power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{mantissa} × 10{power}".replace("-", "\N{MINUS SIGN}")
    return _fixed(number, _decimals(abs(number)))


def format_value(value: float, sd: float | None = None, unit: str = "") -> str:
    """A recorded value in the format of the text: 0.993 ± 0.004, 12.3 s, 4.9%.

    The standard deviation has one significant digit, or two if the first is a 1, and the value has the same number of
    decimals. There are at most three decimals, or four if the deviation would be rounded to 0 with three. A deviation
    that would also be 0 with four has as many decimals as a value alone: 0.990 ± 0.000.
    """
    if sd is None:
        text = format_number(int(value) if unit == "%" and value == int(value) else value)
    else:
        decimals = _decimals(abs(value))
        if sd >= 0.00005:
            first = float(f"{sd:.1g}")
            decimals = -math.floor(math.log10(first)) + (f"{sd:e}"[0] == "1")
            decimals = min(max(decimals, 0), 3 if sd >= 0.0005 else 4)
        text = f"{_fixed(value, decimals)} ± {_fixed(sd, decimals)}"
    if not unit:
        return text
    if unit == "%":
        return f"({text})%" if sd is not None else f"{text}%"
    return f"{text}\N{NO-BREAK SPACE}{unit}"


def format_column(cells: Sequence[Any], words: Mapping[str, str] = NO_WORDS) -> list[str]:
    """The cells of one table column, its numbers with the same number of decimals; `words` for True and False.

    There is one decimal more if the smallest number would otherwise be rounded to 0. If this is not enough, each
    number is written as if it were alone.
    """
    numbers = [cell for cell in cells if isinstance(cell, int | float) and not isinstance(cell, bool)]
    floats = any(isinstance(number, float) for number in numbers)
    decimals = _decimals(max(map(abs, numbers))) if floats else 0
    smallest = min((abs(number) for number in numbers if number), default=1.0)
    decimals += 0.5 * 10 ** -(decimals + 1) <= smallest < 0.5 * 10**-decimals
    vanishing = smallest < 0.5 * 10**-decimals

    def show(cell: Any) -> str:
        if cell is None or cell == "none":
            return "–"
        if isinstance(cell, bool):
            return words.get(str(cell), str(cell))
        if isinstance(cell, int | float):
            return format_number(cell) if vanishing else _fixed(cell, decimals)
        return str(cell)

    return [show(cell) for cell in cells]


def format_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], words: Mapping[str, str] = NO_WORDS
) -> tuple[list[str], list[list[str]], list[bool], set[tuple[int, int]]]:
    """Heads, rows, whether each column is numeric, and the (row, column) of the best cells, see `leaders`.

    A mean and the `SPREADS` beside it become one column, with the same number of decimals. A first column with
    repeated values divides the rows into groups.
    """
    heads: list[str] = []
    shown: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    groups = [row[0] for row in rows]
    if len(set(groups)) == len(groups):
        groups = [""] * len(groups)
    raw = list(zip(*rows))
    for number, (column, cells) in enumerate(zip(columns, raw)):
        if shown and column.split(" ")[-1] in SPREADS:
            if heads[-1].split(" ")[-1] in HIGHER_IS_BETTER:
                bold |= {(row, len(shown) - 1) for row in leaders(groups, raw[number - 1], cells)}
            heads[-1] += " ± sd"
            both = format_column([*raw[number - 1], *cells], words)
            means, spreads = both[: len(cells)], both[len(cells) :]
            shown[-1] = [mean if "–" in spread else f"{mean} ± {spread}" for mean, spread in zip(means, spreads)]
        else:
            heads.append(column)
            shown.append(format_column(cells, words))
    right = [all(NUMERIC.fullmatch(cell) for cell in cells) for cells in shown]
    return heads, [list(row) for row in zip(*shown)], right, bold


def leaders(groups: Sequence[Any], means: Sequence[Any], spreads: Sequence[Any]) -> list[int]:
    """The row of each group whose mean exceeds every other by more than the sum of the two standard deviations.

    Rows without a deviation, such as a deterministic baseline, have the deviation 0. A group of one row has no such
    row.
    """
    found = []
    for group in dict.fromkeys(groups):
        members = [row for row, own in enumerate(groups) if own == group and isinstance(means[row], int | float)]
        if len(members) < 2:
            continue
        deviation = {row: spreads[row] if isinstance(spreads[row], int | float) else 0.0 for row in members}
        best, *others = sorted(members, key=lambda row: -means[row])
        if all(means[best] - means[row] > deviation[best] + deviation[row] for row in others):
            found.append(best)
    return found
