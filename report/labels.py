"""Translation of the labels of a figure.

Notebooks label their figures in English. Matplotlib writes each line of a label into the SVG as a comment with its
text and a group with its glyphs. This module replaces the glyphs at the same position, with the same size, rotation
and colour. `language.py` has the translations. Row labels and legends keep the edge on which they are aligned, other
labels their centre.
"""

from collections.abc import Iterator
from functools import cache
from xml.etree import ElementTree

import typst
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.path import Path
from matplotlib.textpath import TextPath, text_to_path

from mmad_utils.course.results import DOTS_PER_INCH
from report import fonts
from report.language import label

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
STEADY = {"legend": 0.0, "ytick": 1.0}  # the fixed point: 0 the left edge, 0.5 the centre, 1 the right edge
COMMANDS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


def translate(drawing: bytes, language: str) -> tuple[bytes, list[str]]:
    """An SVG of Matplotlib in the language, and the lines of its labels that are not translated, in English.

    A label with path effects has no text in the SVG; its id is among these lines.
    """
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = _parse(drawing)
    groups = [group for group in root.iter(f"{{{SVG}}}g") if group.get("id", "").startswith("text_")]
    missing = [group.get("id", "") for group in groups if all(part.tag is not ElementTree.Comment for part in group)]
    for comment, glyphs, steady in _labels(root):
        english = comment.text.strip()
        words = label(english, language)
        if words is None:
            missing.append(english)
        elif words != english:
            comment.text = f" {words} "
            for glyph in glyphs.findall(f"{{{SVG}}}use"):
                glyphs.remove(glyph)
            ElementTree.SubElement(glyphs, f"{{{SVG}}}path", d=_drawn(words, english, steady))
    return ElementTree.tostring(root, encoding="utf-8"), missing


def raster(drawing: bytes) -> bytes:
    """An SVG as PNG, in the resolution of the notebooks' PNG files; deterministic."""
    page = b"#set page(width: auto, height: auto, margin: 0pt)\n#image(bytes(sys.inputs.drawing))"
    return typst.compile(page, format="png", ppi=float(DOTS_PER_INCH), sys_inputs={"drawing": drawing.decode()})


def lines(drawing: bytes) -> list[str]:
    """Every line of every label of an SVG of Matplotlib."""
    return [comment.text.strip() for comment, _, _ in _labels(_parse(drawing))]


def _parse(drawing: bytes) -> ElementTree.Element:
    return ElementTree.fromstring(
        drawing, ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    )


def _labels(
    element: ElementTree.Element, steady: float = 0.5
) -> Iterator[tuple[ElementTree.Element, ElementTree.Element, float]]:
    """(comment, group of glyphs, fixed point) of every line of a label inside the element."""
    kind = element.get("id", "").rpartition("_")[0]
    steady = STEADY.get(kind, steady)
    children = list(element)
    for child, following in zip(children, children[1:] + children[-1:]):
        if child.tag is not ElementTree.Comment:
            yield from _labels(child, steady)
        elif kind == "text":
            yield child, following, steady


def _drawn(words: str, english: str, steady: float) -> str:
    """The outlines of the words as data of an SVG path, in the coordinates of the English glyphs."""
    new, old = _outlines(words), _outlines(english)
    box, place = new.get_extents(), old.get_extents()
    shift = place.x0 + steady * place.width - (box.x0 + steady * box.width)
    parts = []
    for points, command in new.iter_segments(simplify=False):
        moved = (points.reshape(-1, 2) + (shift, 0)).ravel() if command != Path.CLOSEPOLY else []
        parts.append(COMMANDS[command] + " ".join(f"{number:.1f}" for number in moved))
    return "".join(parts)


def _outlines(text: str) -> Path:
    return TextPath((0, 0), text, size=text_to_path.FONT_SCALE, prop=_type())


@cache
def _type() -> FontProperties:
    """The font of the figures, and a font for Chinese characters."""
    file = fonts.folder() / "NotoSansCJKsc-Regular.otf"
    fontManager.addfont(file)
    return FontProperties(family=["DejaVu Sans", FontProperties(fname=file).get_name()])
