"""Length of a notebook: words, lines of code, and the reading time in minutes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median

import nbformat

from mmad_utils.course import notebook_files
from mmad_utils.course.exercises import is_check, is_solution

WORDS_PER_MINUTE = 200
LINES_PER_MINUTE = 10
NOT_WORDS = re.compile(r"\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|<[^>]*>|```.*?```", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """Length of the visible part of a notebook; checks, recorded results and solutions are not counted.

    Attributes
    ----------
    words : int
        Words of the Markdown, without formulas and addresses.
    cell_lines : tuple of int
        Lines of code of each cell, without empty ones.
    bookkeeping : int
        Lines of code of the course's own functions: ``nb.figure``, and the start of the notebook.
    """

    words: int
    cell_lines: tuple[int, ...]
    bookkeeping: int

    @property
    def lines(self) -> int:
        return sum(self.cell_lines)

    @property
    def words_per_line(self) -> float:
        return self.words / self.lines

    @property
    def median_cell(self) -> float:
        return median(self.cell_lines)

    @property
    def minutes(self) -> float:
        return self.words / WORDS_PER_MINUTE + self.lines / LINES_PER_MINUTE


def reading(name: str) -> Reading:
    """Count the words and lines of ``notebooks/<name>.ipynb``."""
    return reading_of(notebook_files.read_notebook(notebook_files.notebook_path(name)))


def reading_of(notebook: nbformat.NotebookNode) -> Reading:
    """Count the words and lines of a notebook."""
    shown = [cell for cell in notebook.cells if not (is_check(cell) or is_solution(cell))]
    code = [cell for cell in shown if cell.cell_type == "code"]
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    return Reading(
        words=sum(_words(cell) for cell in shown if cell.cell_type == "markdown"),
        cell_lines=tuple(sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code),
        bookkeeping=sum(bool(re.search(r"\bnb\.(?!load)|notebook\.start", line)) for line in lines),
    )


def _words(cell: nbformat.NotebookNode) -> int:
    return len(re.findall(r"\w[\w'’-]*", NOT_WORDS.sub(" x ", cell.source)))
