"""What the texts of this project may not say, and how long a sentence may be.

    python tests/plain_language.py notebooks/src/03_autoencoders.py ...    # the problems of these files, one per line

The texts of a file are its Markdown, docstrings, comments and strings of several words. Formulas, code and addresses
are left out.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LONGEST_SENTENCE = 35  # words

# What is not said: pattern, what is said instead, the folders or files to which the rule is limited.
LEARNING = ("notebooks/", "report/src/", "mmad_utils/detectors/", "mmad_utils/multimodal/", "benchmarks/")
WORDS: list[tuple[str, str, tuple[str, ...]]] = [
    (r"rulers?", "distance-to-centre baseline", ()),
    (r"pictures?|photos?|photographs?", "image (of samples) or figure (a plot)", ()),
    (r"promis\w+", "nominal false-alarm rate, holds its rate", ()),
    (r"dials?", "slider", ()),
    (r"games?|players?", "adversarial training, network", ()),
    (r"chance", "randomness, random generator", ()),
    (r"to the bit", "bitwise", ()),
    (r"places?", "position, location", ()),
    (r"cop(?:y|ies|ied|ying)", "reconstruction, reconstruct (clone, for an estimator)", LEARNING),
    (r"(?<!latent )codes", "latent codes", LEARNING),
    (r"(?:one|two|three|four|five|each|\d+|seconds|numbers?|minutes?) (?:\w+ )?an? (?:sample|row|image|pixel|column|"
     r"detector|method|run|epoch|seed|split|data ?set|table|class|cell|position|file|record|million)", "per", ()),
    (r"outshouts?|blind men|the voice", "a literal statement", ()),
]  # fmt: skip

# Where one of these words is the usual term, with the reason.
EXCEPTIONS = {
    r"(?:take|takes|took|taking) place": "happens",
    r"in place of|in-place|in place": "instead of; the usual term for a change without a copy",
    r"decimal places?|places? after the (?:decimal )?point": "digits",
    r"imgs, pictures, rgb": "names of folders that the reader of image folders recognises",
    r"(?:figure|point|category|exit|status|error|country|source|language|bar) codes": "codes that are not latent",
    r"generative adversarial game": "the term of game theory, where the theory is cited",
    r"(?:student|students'|executed|hard|deep|shallow|whole|stored) cop(?:y|ies)": "files and objects",
    r"cop(?:y|ies|ied) (?:of )?(?:the |a |this |these |your )?(?:notebook|file|folder|archive|array)s?": "files",
}

NOT_PROSE = re.compile(
    r"```.*?```|``.*?``|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\{\{.*?\}\}|\{[^{}]*\}|<!--.*?-->|<[^>]+>|https?://\S+",
    re.DOTALL,
)
ADDRESS = re.compile(r"\]\([^)]*\)|\]\[[^\]]*\]")
BREAK = re.compile(
    r"\n\s*\n|\n\s*(?:[-*+]|\d+\.)\s|\n\s*#+ |\n\s*>>> .*|\n\s*\.\.\. .*|\n[^\n]*\|[^\n]*"
    r"|\n\s*---+\s*\n|\n\w[\w, *]* : "
)
SENTENCE = re.compile(r"[.!?:;](?=[\s\"')*]|$)")


def prose(text: str) -> str:
    """The text without code, formulas and addresses; each of these counts as one word."""
    return ADDRESS.sub("]", NOT_PROSE.sub(" x ", text))


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text; headings, list items and paragraphs end one."""
    for part in BREAK.split("\n" + prose(text)):
        yield from (re.sub(r"\s+", " ", sentence).strip() for sentence in SENTENCE.split(part))


def problems_of(text: str, path: str) -> Iterator[str]:
    """What is wrong with one text, one line each."""
    plain = re.sub(r"\s+", " ", prose(text))
    for phrase in EXCEPTIONS:
        plain = re.sub(rf"\b(?:{phrase})\b", "", plain, flags=re.IGNORECASE)
    for pattern, instead, limited in WORDS:
        if limited and not path.startswith(limited):
            continue
        for found in re.finditer(rf"\b(?:{pattern})\b", plain, flags=re.IGNORECASE):
            around = plain[max(0, found.start() - 30) : found.end() + 30]
            yield f"'{found[0]}' in '...{around}...': say {instead}"
    for sentence in sentences(text):
        words = len(re.findall(r"\w[\w'’.-]*", sentence))
        if words > LONGEST_SENTENCE:
            yield f"a sentence of {words} words: '{sentence[:60]}...'"


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a file."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield content
    elif path.suffix in {".yaml", ".yml"}:
        yield from _strings(yaml.safe_load(content))
    elif path.suffix == ".py":
        yield from _texts_of_python(content)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)


def _texts_of_python(content: str) -> Iterator[str]:
    """Docstrings, strings of several words, and comments; those on successive lines are one text."""
    tree = ast.parse(content)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(p.value) if isinstance(p, ast.Constant) else "x" for p in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and id(node) not in inside and str(node.value).count(" ") > 1:
            yield str(node.value)
    lines: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("# %%", "# ---", "# fmt", "# type")):
            alone = token.line.lstrip().startswith("#")
            if lines and not (alone and token.start[0] == last + 1):
                yield "\n".join(lines)
                lines = []
            lines.append(token.string.lstrip("#").removeprefix(" "))
            last = token.start[0] if alone else 0
    yield "\n".join(lines)


def file_problems(path: Path) -> list[str]:
    """What is wrong with the texts of a file, one line each, without repetitions."""
    name = path.resolve().relative_to(ROOT).as_posix()
    return list(dict.fromkeys(f"{name}: {p}" for text in texts_of(path) for p in problems_of(text, name)))


if __name__ == "__main__":
    found = [problem for name in sys.argv[1:] for problem in file_problems(Path(name))]
    print(*found, f"{len(found)} problems", sep="\n")
    sys.exit(bool(found))
