"""The first page of the site: an introduction, the notebooks as a gallery, and a search over all texts.

Its texts are in `src/front.yaml`: an introduction, and for each notebook a figure, a question and a finding, in both
languages. A finding contains numbers by key, as the report does: ``{{ value:01_task2_padim.auroc }}``.
"""

import base64
import html
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from bs4 import BeautifulSoup
from PIL import Image

import mmad_utils
from report import markup, reference
from report.document import ReportError

TEXTS = Path(__file__).resolve().parent / "src" / "front.yaml"
LANGUAGES = ("en", "zh")
THUMBNAIL = 480  # pixels, twice the width of a card
VALUE = re.compile(r"\{\{\s*value:([^{}]+?)\s*\}\}")
HEADINGS = ["h1", "h2", "h3", "h4"]


@cache
def texts() -> dict[str, Any]:
    return yaml.safe_load(TEXTS.read_text(encoding="utf-8"))


def in_both(entry: Mapping[str, str]) -> Iterator[str]:
    """A text in both languages, as paragraphs."""
    for language in LANGUAGES:
        yield f'<p lang="{language}">{entry[language]}</p>\n'


def filled_in(text: str, values: Mapping[str, dict[str, Any]]) -> str:
    """The text with numbers instead of keys.

    Raises
    ------
    ReportError
        If no result has the key.
    """

    def number(key: re.Match[str]) -> str:
        if key[1] not in values:
            raise ReportError(f"{TEXTS.name}: no value '{key[1]}'.")
        entry = values[key[1]]
        return markup.format_value(entry["value"], entry["sd"], entry["unit"])

    return VALUE.sub(number, html.escape(text))


def thumbnail(path: Path) -> str:
    """The image as a small PNG in a data URL."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        small = image.quantize(64)
    file = io.BytesIO()
    small.save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def card(name: str, title: str, times: str, results: dict[str, Any], folder: Path) -> str:
    """One notebook: its title, figure, question, finding and times."""
    entry = texts()["notebooks"].get(name)
    parts = [f'<h3><a href="notebooks/{html.escape(name)}.html">{html.escape(title)}</a></h3>\n']
    if entry:
        figure = results["figures"].get(entry["figure"])
        if figure:
            alt = html.escape(figure["alt"])
            parts.append(f'<img src="{thumbnail(folder / figure["png"])}" alt="{alt}" loading="lazy">\n')
        for text in (entry["question"], entry["finding"]):
            parts += in_both({language: filled_in(text[language], results["values"]) for language in LANGUAGES})
    parts.append(f'<p class="times"><code>{html.escape(name)}</code> {times}</p>\n')
    return f'<li class="card">{"".join(parts)}</li>\n'


def ways() -> str:
    """The three entry points: reading, learning, using."""
    items = [f"<li><h2>{way['title']}</h2>{''.join(in_both(way['text']))}</li>\n" for way in texts()["ways"]]
    return f'<ul class="ways">{"".join(items)}</ul>\n'


def sections(page: str, address: str) -> Iterator[dict[str, str]]:
    """The sections of a page for the search: title, address and text, without code, tables and formulas."""
    # most of the elements of a page, and those that would divide a word
    short = re.sub(r"<(pre|math)\b.*?</\1>|</?span\b[^>]*>|<wbr>", "", page, flags=re.DOTALL)
    main = BeautifulSoup(short, "html.parser").main
    if main is None:
        return
    for element in main.find_all(["nav", "details", "table", "button", "script"]):
        element.decompose()
    heading = main.find("h1")
    top = heading.get_text(" ", strip=True) if heading else address
    for heading in main.find_all(HEADINGS):
        words = []
        for element in heading.find_next_siblings():
            if element.name in HEADINGS:
                break
            words.append(element.get_text(" ", strip=True))
        anchor = f"#{heading['id']}" if heading.get("id") else ""
        yield {
            "title": heading.get_text(" ", strip=True),
            "page": top,
            "url": address + anchor,
            "text": re.sub(r"\s+", " ", " ".join(words)),
        }


def of_reference() -> Iterator[dict[str, str]]:
    """The classes of the library for the search."""
    for name in mmad_utils.__all__:
        text = (getattr(mmad_utils, name).__doc__ or "").partition("\n")[0]
        yield {"title": name, "page": "Reference", "url": f"reference/{reference.address(name)}", "text": text}


def search(found: Iterable[Mapping[str, str]]) -> str:
    """The search field, the list of results, and the texts that the page's script searches."""
    index = json.dumps(list(found), ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return (
        '<p role="search"><label>Search all texts <span lang="zh">搜索全文</span> '
        '<input type="search" id="search"></label> <span role="status" id="found"></span></p>\n'
        f'<ol id="hits" hidden></ol>\n<script type="application/json" id="texts">{index}</script>\n'
    )
