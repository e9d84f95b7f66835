"""LaTeX formulas as MathML with the spaces that TeX sets."""

import html
import re
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import convert_to_element

SUBSTITUTIONS = (
    (r"\\arg(?![A-Za-z])", r"\\operatorname{arg}"),
    (r"\\big[lr](?=\s*\\[lr]Vert)", ""),
)  # in LaTeX that latex2mathml does not know

# latex2mathml writes most symbols as numbers
OPENING, CLOSING = ("&#x00028;", "[", "&#x0007B;"), ("&#x00029;", "]", "&#x0007D;")
BEFORE_TERM = (*OPENING, "&#x0003D;", "&#x0002C;")  # and = ,
MINUS, NORM = "&#x02212;", "&#x02016;"
COLONS = {":": ("0.278em", "0.278em"), "&#x0003A;": ("0em", "0.167em")}  # spaces before and after : and \colon
ROWS = ("math", "mrow", "mtd", "msqrt")
LIMITS = ("min", "max", "inf", "sup", "lim")
THIN = "0.167em"


def mathml(latex: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML, which browsers show with no script and no network.

    Raises
    ------
    ValueError
        If the formula is malformed or uses a command that latex2mathml does not know.
    """
    latex = latex.strip()
    try:
        known = latex
        for pattern, replacement in SUBSTITUTIONS:
            known = re.sub(pattern, replacement, known)
        formula = convert_to_element(known, display=display)
    except Exception as error:  # latex2mathml raises many unrelated types
        raise ValueError(f"the formula ${latex}$ is malformed ({type(error).__name__})") from error
    for element in list(formula.iter()):
        _space(element)
        if display == "block" and element.tag == "msub" and element[0].text in LIMITS:
            element.tag = "munder"
    # latex2mathml names symbols by number (&#x0003C;); its own convert() would also unescape < and & of \text
    markup = re.sub("&amp;(#x[0-9A-Fa-f]+;)", r"&\1", tostring(formula, encoding="unicode"))
    left = re.search(r">(\\[A-Za-z]+)<", markup)
    if left:
        raise ValueError(f"the formula ${latex}$ uses {left.group(1)}, which latex2mathml does not know")
    return markup.replace("<math ", f'<math alttext="{html.escape(latex)}" ', 1)


def _space(parent: Element) -> None:
    """Set the spaces between the elements of one row."""
    row = list(parent)
    for before, element, after in zip([None, *row], row, [*row[1:], None]):
        opens = after is not None and after.text in OPENING
        if element.text == NORM:  # otherwise as high as its exponent
            element.set("stretchy", "false")
        elif element.text == MINUS and before is not None and before.text in BEFORE_TERM:  # the sign of a term
            element.set("form", "prefix")
        elif element.tag == "mi" and element.text in COLONS:
            element.tag = "mo"
            _surround(element, *COLONS[element.text])
        elif element.tag == "mo" and re.fullmatch("[A-Za-z]{2,}", element.text or ""):  # max, and \operatorname
            _surround(element, THIN, "0em" if opens else THIN)
        elif _is_function(element) and parent.tag in ROWS:
            at = list(parent).index(element)
            if after is not None and not opens:
                parent.insert(at + 1, Element("mspace", width=THIN))
            if before is not None and (before.tag in ("mi", "mn", "msub", "msup", "mfrac") or before.text in CLOSING):
                parent.insert(at, Element("mspace", width=THIN))


def _is_function(element: Element) -> bool:
    r"""\log, \log_2 or \log^2."""
    name = element[0] if element.tag in ("msub", "msup") else element
    return name.tag == "mi" and bool(re.fullmatch("[a-z]{2,}", name.text or ""))


def _surround(operator: Element, before: str, after: str) -> None:
    operator.set("lspace", before)
    operator.set("rspace", after)
