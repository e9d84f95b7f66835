"""The examples in docstrings run and print what the docstrings show."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "mmad_utils").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_run_with_nothing_but_their_own_imports(name):
    module = importlib.import_module(name)
    examples = [test for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs={}) if test.examples]
    assert examples
    for example in examples:
        failed, _ = doctest.DocTestRunner().run(example)
        assert failed == 0, f"{example.name}: the captured output shows the difference"
