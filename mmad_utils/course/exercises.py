"""Exercises of a notebook: their form, and the notebook without their solutions.

An exercise is a Markdown cell with one such head, numbered from 1, followed by its solution in cells tagged
`solution`; code of the solution asserts what the task claims or asks::

    **2. Change: fewer training pictures.** Fit on 5 instead of 60. Which kind of defect suffers first, and why?

Every notebook has each kind: *predict* before you run, *change* what is there, *build* what is not.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import nbformat

KINDS = ("Predict", "Change", "Build")
HEAD = re.compile(rf"^\*\*(\d+)\. ({'|'.join(KINDS)}): (.+?)\*\*", flags=re.MULTILINE)


@dataclass
class Exercise:
    """One task and the cells that solve it, in their order."""

    number: int
    kind: str
    title: str
    solution: list[nbformat.NotebookNode] = field(default_factory=list)


def is_solution(cell: nbformat.NotebookNode) -> bool:
    return "solution" in cell.metadata.get("tags", [])


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
            found += [Exercise(int(number), kind, title) for number, kind, title in HEAD.findall(cell.source)]
    return found


def exercise_problems(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What is wrong with the exercises of a notebook whose code can be parsed, one sentence each."""
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
    for name in sorted(_names_only_in_solutions(notebook)):
        yield f"a cell that is no solution reads {name!r}, which only a solution defines"


def _names_only_in_solutions(notebook: nbformat.NotebookNode) -> set[str]:
    """Names that the notebook without solutions would miss."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    solved, other = (
        [node for cell in code if is_solution(cell) == wanted for node in ast.walk(ast.parse(cell.source))]
        for wanted in (True, False)
    )
    read = {node.id for node in other if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return (read & _defined(solved)) - _defined(other)


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


def without_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy without outputs, with an empty place to write for each cell of a solution.

    Code becomes a cell that raises NotImplementedError and is tagged `exercise` and `raises-exception`, so that
    Run All goes on below it; prose becomes "Your answer:".
    """
    student = copy.deepcopy(notebook)
    student.metadata.pop("jupytext", None)  # no paired source beside the copy
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
