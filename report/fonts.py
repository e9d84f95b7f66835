"""The Chinese font: Noto Serif CJK SC (SIL Open Font License), from the package mplfonts.

The PDF uses the font file. The web page contains only the characters that it shows, so that it is displayed correctly
on a computer without a Chinese font.
"""

import base64
import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fontTools import subset

FAMILY = "Noto Serif CJK SC"
RANGE = "U+2E80-9FFF, U+FF00-FFEF"  # as in is_chinese


def folder() -> Path:
    """The folder of the fonts of mplfonts.

    Raises
    ------
    FileNotFoundError
        If the package is not installed.
    """
    found = find_spec("mplfonts")  # importing it would change Matplotlib's settings
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("The package mplfonts brings the Chinese font: pip install --editable '.[pdf]'")
    return Path(found.submodule_search_locations[0]) / "fonts"


def is_chinese(character: str) -> bool:
    """Whether a character is an ideograph or full-width punctuation."""
    return "\u2e80" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef"


@cache
def part(characters: str) -> str:
    """The font with these characters only, as WOFF in base64; deterministic."""
    options = subset.Options(layout_features=[], hinting=False, notdef_outline=True, recalc_timestamp=False)
    options.flavor = "woff"
    font = subset.load_font(str(folder() / "NotoSerifCJKsc-Regular.otf"), options, lazy=True)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=characters)
    subsetter.subset(font)
    buffer = io.BytesIO()
    subset.save_font(font, buffer, options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def face(text: str) -> str:
    """A CSS rule with the Chinese characters of the text; empty if it has none."""
    characters = "".join(sorted(filter(is_chinese, set(text))))
    if not characters:
        return ""
    address = f"data:font/woff;base64,{part(characters)}"
    return (
        f'@font-face {{ font-family: "Report CJK"; src: url("{address}") format("woff"); unicode-range: {RANGE}; }}'
    )
