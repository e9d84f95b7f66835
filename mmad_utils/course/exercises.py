"""Exercises and checks of a notebook: their form, and the copy of the notebook for students.

An exercise is a Markdown cell with a head of the following form, numbered from 1, and a hint. Its solution follows in
cells tagged ``solution``; the code of the solution asserts the answer::

    **2. Change: fewer training images.** Fit on 5 instead of 60. Which kind of defect is detected worse, and why?

    <details><summary>Hint</summary>

    Look at the covariance of 5 samples.

    </details>

Every notebook has each kind: *Predict* the result before running, *Change* a setting, *Build* something new, and
solve something *On paper*.

Cells tagged ``claim`` check a statement of the text. The last code cell, tagged ``results``, records values and
tables. Students' copies have neither, so other cells must not use names that these cells define.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import nbformat

KINDS = ("Predict", "Change", "Build", "On paper")
CHECKS = {"claim", "results"}  # tags of cells that are not shown to readers
HINT = "<details><summary>Hint</summary>"
HEAD = re.compile(rf"^\*\*(\d+)\. ({'|'.join(KINDS)}): (.+?)\*\*", flags=re.MULTILINE)


@dataclass
class Exercise:
    """One task and the cells of its solution, in order."""

    number: int
    kind: str
    title: str
    task: str
    solution: list[nbformat.NotebookNode] = field(default_factory=list)


def is_solution(cell: nbformat.NotebookNode) -> bool:
    return "solution" in cell.metadata.get("tags", [])


def is_check(cell: nbformat.NotebookNode) -> bool:
    """Whether the cell checks a statement or records results."""
    return bool(CHECKS & set(cell.metadata.get("tags", [])))


def exercises_of(notebook: nbformat.NotebookNode) -> list[Exercise]:
    """The exercises of a notebook; a solution belongs to the last head above it.

    Raises
    ------
    ValueError
        A solution stands above every exercise.
    """
    found: list[Exercise] = []
    for cell in notebook.cells:
        if is_solution(cell):
            if not found:
                raise ValueError("a solution stands above every exercise")
            found[-1].solution.append(cell)
        elif cell.cell_type == "markdown":
            heads = list(HEAD.finditer(cell.source))
            ends = [head.start() for head in heads[1:]] + [len(cell.source)]
            found += [Exercise(int(h[1]), h[2], h[3], cell.source[h.end() : end]) for h, end in zip(heads, ends)]
    return found


def exercise_problems(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """The problems of the exercises of a notebook whose code can be parsed, one sentence each."""
    try:
        exercises = exercises_of(notebook)
    except ValueError as error:
        yield str(error)
        return
    if [exercise.number for exercise in exercises] != list(range(1, len(exercises) + 1)):
        yield f"exercises are numbered {[exercise.number for exercise in exercises]}"
    for kind in KINDS:
        if all(exercise.kind != kind for exercise in exercises):
            yield f"there is no exercise '**1. {kind}: title.** task'"
    for exercise in exercises:
        code = [ast.parse(cell.source) for cell in exercise.solution if cell.cell_type == "code"]
        if not any(isinstance(node, ast.Assert) for tree in code for node in ast.walk(tree)):
            yield f"exercise {exercise.number} has no solution with an assertion in cells tagged 'solution'"
        if HINT not in exercise.task:
            yield f"exercise {exercise.number} has no hint: {HINT} ... </details>"
    for kind, hidden in (("solution", is_solution), ("check", is_check)):
        for name in sorted(_names_only_in(notebook, hidden)):
            yield f"a cell that is no {kind} reads {name!r}, which only a {kind} defines"


def _names_only_in(notebook: nbformat.NotebookNode, hidden: Callable[[nbformat.NotebookNode], bool]) -> set[str]:
    """Names that only hidden cells define and other cells use."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    inside, outside = (
        [node for cell in code if hidden(cell) == wanted for node in ast.walk(ast.parse(cell.source))]
        for wanted in (True, False)
    )
    read = {node.id for node in outside if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return (read & _defined(inside)) - _defined(outside)


def _defined(nodes: Iterable[ast.AST]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.alias(name=name, asname=alias):
                names.add(alias or name.partition(".")[0])
    return names


def student_copy(notebook: nbformat.NotebookNode, claims: bool = False) -> nbformat.NotebookNode:
    """The student copy of a notebook: without outputs and checks, with a cell to fill in for each solution cell.

    A code cell of a solution becomes a cell that raises NotImplementedError. It is tagged ``exercise`` and
    ``raises-exception``, so that Run All continues after it. A Markdown cell becomes "Your answer:". With ``claims``
    the cells tagged ``claim`` are kept.
    """
    student = copy.deepcopy(notebook)
    student.metadata.pop("jupytext", None)  # the copy has no paired source
    kept = {"claim"} if claims else set()
    student.cells = [c for c in student.cells if not is_check(c) or kept & set(c.metadata["tags"])]
    for cell in student.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    for exercise in exercises_of(student):
        for cell in exercise.solution:
            if cell.cell_type == "code":
                task = f"# {exercise.number}. {exercise.kind}: {exercise.title}"
                message = f"Exercise {exercise.number}: your code here"
                cell.source = f'{task}\nraise NotImplementedError("{message}")  # write in place of this line'
                cell.metadata["tags"] = ["exercise", "raises-exception"]
            else:
                cell.source = "Your answer:"
                cell.metadata["tags"] = ["exercise"]
    return student
