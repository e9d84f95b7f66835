"""Texts use plain technical English: no word of the list in plain_language.py, no long sentence."""

import pytest
from plain_language import LONGEST_SENTENCE, ROOT, file_problems, problems_of, texts_of

FILES = sorted(
    path
    for pattern in (
        "*.md",
        "data/*.md",
        "benchmarks/*.md",
        "benchmarks/*.py",
        "mmad_utils/**/*.py",
        "notebooks/*.md",
        "notebooks/src/*.py",
        "notebooks/captions/*.yaml",
        "report/*.py",
        "report/src/*.en.py",
    )
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_texts_are_plain(path):
    assert file_problems(path) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The ruler is beaten.", "say distance-to-centre baseline"),
        ("Five pictures.", "say image"),
        ("It gives one number a sample.", "say per"),
        ("The training goes by turns: a game.", "say adversarial training"),
        ("word " * (LONGEST_SENTENCE + 1) + ".", f"a sentence of {LONGEST_SENTENCE + 1} words"),
    ],
)
def test_a_problem_is_found_and_named(text, found):
    [problem] = problems_of(text, "notebooks/src/x.py")
    assert found in problem


@pytest.mark.parametrize(
    "text",
    [
        "It takes place; the array is changed in place.",
        "`ruler` and ``picture`` are names, $ruler$ is a formula.",
        "- " + "word " * 30 + "\n- " + "word " * 30,
        "word " * 30 + ": " + "word " * 30,
    ],
)
def test_usual_terms_code_lists_and_clauses_are_no_problems(text):
    assert list(problems_of(text, "notebooks/src/x.py")) == []


def test_docstrings_comments_and_messages_of_a_module_are_read(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        '"""A docstring here."""\nx = 1  # one\n# two\n# three\nraise ValueError(f"in {x} a message")\ny = "b"\n'
    )
    assert list(texts_of(path)) == ["A docstring here.", "in x a message", "one", "two\nthree"]


def test_every_markdown_file_and_module_is_covered():
    assert len(FILES) > 120
