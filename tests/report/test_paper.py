"""The report as PDF: whole in both languages, numbered, linked, the same bytes every time, and set without LaTeX."""

import functools
import io
import re
import sys

import nbformat
import pytest
from pypdf import PdfReader
from pypdf.generic import ArrayObject, ContentStream
from report_project import LANGUAGES, REPORT, ROOT, ReportProject

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import fonts
from report.alternatives import Chooser
from report.document import ReportError, load_results
from report.paper import set_pages


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        demo = ReportProject(tmp_path_factory.mktemp("demo"), monkeypatch)
        demo.record_demo()
        yield demo


@pytest.fixture(scope="module", params=LANGUAGES)
def edition(request, tmp_path_factory):
    """(language, PDF, source) of a committed edition, with some result for every key that it names."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = ReportProject(tmp_path_factory.mktemp("paper"), monkeypatch)
        project.record_all_of(REPORT.read_text(encoding="utf-8"))
        path = REPORT.with_name(f"report.{request.param}.ipynb")
        pdf, _ = project.paper().from_filename(str(path))
        chooser = Chooser(load_results(project.folder / "results"), request.param)
        cells = nbformat.read(path, as_version=4).cells
        source = "".join(chooser.choose(cell.source, pytest.fail) for cell in cells)
        return request.param, PdfReader(io.BytesIO(pdf)), source


@functools.cache
def text_of(reader):
    return re.sub(r"\s", "", "".join(page.extract_text() for page in reader.pages))


def shown_glyphs(reader):
    """The number of every glyph on every page; fonts number theirs from 1, 0 is the box of a missing one."""
    for page in reader.pages:
        for operands, operator in ContentStream(page.get_contents(), reader).operations:
            if operator in (b"Tj", b"TJ"):
                parts = operands[0] if operator == b"TJ" else operands
                for part in parts:
                    if isinstance(part, str | bytes):
                        code = getattr(part, "original_bytes", part)
                        yield from (int.from_bytes(code[at : at + 2]) for at in range(0, len(code), 2))


def tags(element):
    """The tags of the PDF, which screen readers follow."""
    element = element.get_object()
    if isinstance(element, list):
        for part in element:
            yield from tags(part)
    elif isinstance(element, dict):
        yield element
        yield from tags(element.get("/K", ArrayObject()))


def test_every_chinese_character_of_the_source_is_in_the_text_of_the_pdf(edition):
    language, reader, source = edition
    written = set(filter(fonts.is_chinese, source))
    assert len(written) > 500 or language == "en"
    assert written - set(text_of(reader)) == set()


def test_whole_sentences_of_the_source_are_in_the_text_of_the_pdf(edition):
    language, reader, _ = edition
    sentence = {"en": "No number in this text was typed.", "zh": "文中的数字都不是手工输入的。"}
    assert sentence[language].replace(" ", "") in text_of(reader).replace("‐", "")


def test_no_glyph_is_missing(edition):
    glyphs = list(shown_glyphs(edition[1]))
    assert len(glyphs) > 10_000 and 0 not in glyphs


def test_every_chinese_character_has_a_glyph_in_both_fonts(edition):
    from fontTools.ttLib import TTFont

    shown = {ord(character) for character in filter(fonts.is_chinese, text_of(edition[1]))}
    for name in ("NotoSerifCJKsc-Regular.otf", "NotoSansCJKsc-Regular.otf"):
        assert shown <= TTFont(fonts.folder() / name, lazy=True).getBestCmap().keys()


def test_figures_and_tables_bear_the_numbers_of_the_web_page(edition):
    language, reader, _ = edition
    text, count = text_of(reader), REPORT.read_text(encoding="utf-8").count("{{ figure:")
    for number in range(1, count + 1):
        assert {"en": f"Figure{number}.", "zh": f"图{number}　".strip()}[language] in text


def test_contents_sections_and_citations_can_be_clicked(edition):
    reader = edition[1]
    links = [link.get_object() for page in reader.pages for link in page.get("/Annots", [])]
    inside = [link for link in links if "/Dest" in link or link.get("/A", {}).get("/S") == "/GoTo"]
    assert len(inside) > 100
    outside = {link["/A"]["/URI"] for link in links if "/URI" in link.get("/A", {})}
    assert outside and all(re.match(r"https://(doi\.org|arxiv\.org)/", address) for address in outside)
    assert len(reader.outline) > 8


def test_the_pdf_names_its_language_and_title(edition):
    language, reader, _ = edition
    assert reader.trailer["/Root"]["/Lang"].startswith(language)
    assert reader.metadata.title


def test_images_have_text_alternatives(edition):
    reader = edition[1]
    figures = REPORT.read_text(encoding="utf-8").count("{{ figure:")
    tagged = [tag for tag in tags(reader.trailer["/Root"]["/StructTreeRoot"]) if tag.get("/S") == "/Figure"]
    assert len(tagged) == figures and all(tag["/Alt"] for tag in tagged)


def test_the_same_report_is_the_same_bytes_and_leaves_no_file_behind(demo):
    report = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# T\n\n{{ value:01_demo.auroc }} $x^2$\n\n{{ figure:line }}", id="a")]
    )
    first, second = (demo.paper().from_notebook_node(report)[0] for _ in range(2))
    assert first == second and first.startswith(b"%PDF")
    assert not list(demo.folder.glob("*.typ"))


def test_what_typst_cannot_set_is_said_in_one_sentence(demo):
    report = {"output": str(demo.folder), "title": "T", "language": "en", "figures": []}
    with pytest.raises(ReportError, match=r"Typst cannot set the report: .*unknown variable: nothing_like_it"):
        set_pages("#nothing_like_it", report)
    assert not list(demo.folder.glob(".*.typ"))


@pytest.mark.parametrize("text", ["a & b < c #d @e $", '`x_1 <- "y"`', "10 * 2_3 [not a link] ~ \\"])
def test_signs_that_mean_something_to_typst_are_set_as_written(demo, text):
    report = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# T\n\n{text}", id="a")])
    pdf, _ = demo.paper().from_notebook_node(report)
    shown = text_of(PdfReader(io.BytesIO(pdf)))
    assert text.replace("`", "").replace(" ", "") in shown.replace("“", '"').replace("”", '"')
