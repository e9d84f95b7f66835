"""The site: executed notebooks as pages; what they printed is shown as text, whatever it says."""

import re
import sys
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import nbformat
import pytest
from report_project import ROOT

from mmad_utils.course.widgets import FigureSlider

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import fonts, site

SCRIPT = ROOT / "report" / "templates" / "mmad" / "script.js"
HOSTILE = "<script>alert(1)</script>"


class Parsed(HTMLParser):
    """What a browser would run: the scripts, the attributes that handle events, and the links."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.handlers, self.links = set(), [], []
        self.feed(text.replace(SCRIPT.read_text(), ""))

    def handle_starttag(self, tag, attributes):
        self.handlers += [key for key, _ in attributes if key.startswith("on")]
        self.links += [value or "" for key, value in attributes if key in ("href", "src")]

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.add(data.strip())


def page_of(*cells):
    writer, parts = site.lesson(nbformat.v4.new_notebook(cells=list(cells)))
    return writer, "".join(parts)


def code(source="x", outputs=(), tags=()):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def test_title_and_sections_are_collected_and_named():
    writer, page = page_of(nbformat.v4.new_markdown_cell("# Title\n\n## One & two\n\n### Three\n\n## One & two"))
    assert writer.title == "Title"
    assert writer.sections == [(2, "one-two", "One & two"), (3, "three", "Three"), (2, "one-two-2", "One & two")]
    assert len(set(re.findall('id="([^"]+)"', page))) == 3


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_course_is_mathml(path):
    _, parts = site.lesson(nbformat.read(path, as_version=4))
    words = re.sub("<pre.*?</pre>|<code.*?</code>|<[^>]*>", "", "".join(parts), flags=re.DOTALL)
    assert "$" not in words  # left where a formula was not recognised


def test_a_formula_that_cannot_be_shown_stops_the_site_and_names_the_notebook(tmp_path, capsys):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(r"# One $\foo y$")])
    nbformat.write(notebook, tmp_path / "01_one.ipynb")
    assert site.main(["--executed", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert re.search(r"01_one: .*uses \\foo.*notebooks/src/01_one.py", capsys.readouterr().err)
    assert not (tmp_path / "index.html").exists()


@pytest.mark.parametrize(
    "cell",
    [
        nbformat.v4.new_markdown_cell(HOSTILE),
        code(outputs=[nbformat.v4.new_output("stream", text=HOSTILE)]),
        code(outputs=[nbformat.v4.new_output("execute_result", {"text/plain": HOSTILE})]),
        code(outputs=[nbformat.v4.new_output("error", traceback=["\x1b[31m" + HOSTILE])]),
        code(outputs=[nbformat.v4.new_output("execute_result", {"text/html": f"<b onclick='x'>{HOSTILE}</b>"})]),
        code(outputs=[nbformat.v4.new_output("display_data", {"text/html": f"<table><th>{HOSTILE}</th></table>"})]),
        code(source=f"print('{HOSTILE}')"),
        code(outputs=[nbformat.v4.new_output("display_data", {"image/png": f'"onclick="x">{HOSTILE}'})]),
        code(
            outputs=[
                nbformat.v4.new_output(
                    "display_data",
                    {"image/png": "AA=="},
                    metadata={"image/png": {"alt": f'">{HOSTILE}', "width": f'9" onclick="x">{HOSTILE}'}},
                )
            ]
        ),
        nbformat.v4.new_markdown_cell(
            r"# $\text{" + HOSTILE + r"}$" + f"\n\n## {HOSTILE}\n\n[a](javascript:alert(1))"
        ),
    ],
    ids=[
        "markdown",
        "stream",
        "text",
        "error",
        "html",
        "head of a table",
        "code",
        "image",
        "alternative",
        "headings",
    ],
)
def test_script_in_a_notebook_is_text_on_its_page(cell):
    writer, page = page_of(cell)
    names = {'2"><script>': writer}
    page += site.index(names, "") + site.contents(writer.sections) + site.steps(('"><script>', HOSTILE), None)
    parsed = Parsed(page)
    assert not parsed.scripts - {""} and not parsed.handlers and "\x1b" not in page
    assert not any(link.startswith("javascript") for link in parsed.links)


def test_tables_of_pandas_keep_their_cells_and_lose_their_styles():
    table = "<style scoped>x</style><table border='1'><tr style='a'><th></th><td colspan='2'>0.5</td></tr></table>"
    _, page = page_of(code(outputs=[nbformat.v4.new_output("execute_result", {"text/html": table})]))
    assert '<td colspan="2">0.5</td>' in page and "style" not in page and "border" not in page


def test_picture_brings_its_text_alternative():
    shown = nbformat.v4.new_output(
        "display_data", {"image/png": "AA=="}, metadata={"image/png": {"alt": 'A "line".'}}
    )
    _, page = page_of(code(outputs=[shown]))
    assert 'alt="A &quot;line&quot;."' in page and "data:image/png;base64,AA==" in page


def test_dial_is_a_picture_on_the_page_and_leaves_no_trace_of_the_widget():
    dial = FigureSlider(lambda _: plt.figure(figsize=(1, 1)), [1, 2], label="turn", alt="At {}.".format)
    data, about = dial._repr_mimebundle_()
    _, page = page_of(code(outputs=[nbformat.v4.new_output("display_data", data, metadata=about)]))
    assert f'<img src="data:image/png;base64,{data["image/png"]}"' in page and 'alt="At 1."' in page
    assert dial.model_id not in page and "widget" not in page


def test_solutions_are_folded_and_other_code_is_not():
    _, page = page_of(code("answer = 42", tags=["solution"]), code("y = 1"))
    assert [" open" in head for head in re.findall("<details[^>]*>", page)] == [False, True]


def test_links_between_notebooks_lead_to_their_pages():
    _, page = page_of(
        nbformat.v4.new_markdown_cell("[next](04_gans.ipynb#x) and [away](https://arxiv.org/abs/1.ipynb)")
    )
    assert 'href="04_gans.html#sec-x"' in page and 'href="https://arxiv.org/abs/1.ipynb"' in page


def test_without_executed_notebooks_it_says_what_to_do(tmp_path, capsys):
    assert site.main(["--executed", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert "holds no executed notebook; run `make report`" in capsys.readouterr().err
    assert not (tmp_path / "index.html").exists()


def test_failed_copies_of_notebooks_are_left_out(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One")])
    for name in ("01_one.ipynb", "02_two.failed.ipynb"):
        nbformat.write(notebook, tmp_path / name)
    assert [path.name for path in site.build(tmp_path, tmp_path)] == ["01_one.html", "glossary.html", "index.html"]


# ---- the glossary ----

SOURCE = site.GLOSSARY.read_text(encoding="utf-8")
TERMS = list(site.TERM.finditer(SOURCE))
NOTEBOOKS = sorted((ROOT / "notebooks" / "src").glob("*.py"))


def test_every_term_has_both_languages_a_sentence_in_each_and_a_notebook():
    assert len(TERMS) == len(re.findall("^### ", SOURCE, re.MULTILINE)) > 75
    for term in TERMS:
        sentence, links = re.fullmatch(r"(.+\.)((?: \[\d\db?\]\(\w+\.ipynb\))+)", term["meaning"]).groups()
        assert not any(map(fonts.is_chinese, term["english"] + sentence)), term["english"]
        assert term["sense"].endswith("。"), term["english"]
        for number, name in re.findall(r"\[(\d\db?)\]\((\w+)\.ipynb\)", links):
            assert name.startswith(f"{number}_") and (ROOT / "notebooks" / f"{name}.ipynb").exists()


@pytest.mark.parametrize("language", ["english", "chinese"])
def test_no_term_stands_twice(language):
    assert len({term[language].lower() for term in TERMS}) == len(TERMS)


def test_every_chinese_character_of_the_glossary_has_a_glyph():
    from fontTools.ttLib import TTFont

    glyphs = TTFont(fonts.folder() / "NotoSerifCJKsc-Regular.otf", lazy=True).getBestCmap()
    assert {ord(character) for character in filter(fonts.is_chinese, SOURCE)} <= glyphs.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_to_the_glossary_land_in_jupyterlab_and_on_the_site(path):
    anchors = re.findall(r"\(glossary\.md#([^)]*)\)", path.read_text(encoding="utf-8"))
    page = site.glossary(SOURCE)
    for anchor in anchors:
        assert anchor in {term["english"].replace(" ", "-") for term in TERMS}, "JupyterLab keeps capitals"
        assert f'id="sec-{site.slug_of(anchor)}"' in page


def test_chinese_paragraphs_say_their_language():
    page = site.glossary(SOURCE)
    assert page.count('<p lang="zh"><strong>') == len(TERMS)


def test_the_index_lists_every_term_in_both_languages():
    listed = site.terms(SOURCE)
    for term in TERMS:
        assert f'{term["english"]} <span lang="zh">{term["chinese"]}</span></a>' in listed
