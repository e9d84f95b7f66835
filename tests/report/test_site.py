"""The site: executed notebooks as pages; what they printed is shown as text, whatever it says."""

import re
import sys
from html.parser import HTMLParser
from itertools import product

import matplotlib.pyplot as plt
import nbformat
import pytest
import yaml
from report_project import ROOT

import mmad_utils
from mmad_utils.course.exercises import HINT
from mmad_utils.course.widgets import FigureSlider

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import fonts, front, reference, site
from report.document import ReportError, load_results

SCRIPT = ROOT / "report" / "templates" / "mmad" / "script.js"
HOSTILE = "<script>alert(1)</script>"


class Parsed(HTMLParser):
    """What a browser would run: the scripts, the attributes that handle events, and the links."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.handlers, self.links, self.json = set(), [], [], False
        self.feed(text.replace(SCRIPT.read_text(), ""))

    def handle_starttag(self, tag, attributes):
        self.json = ("type", "application/json") in attributes
        self.handlers += [key for key, _ in attributes if key.startswith("on")]
        self.links += [value or "" for key, value in attributes if key in ("href", "src")]

    def handle_data(self, data):
        if self.cdata_elem == "script" and not self.json:
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
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "01_one.ipynb")
    assert site.main(["--built", str(tmp_path), "--output", str(tmp_path)]) == 1
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
    cards = [front.card('2"><script>', writer.title, "", {"figures": {}, "values": {}}, ROOT)]
    found = front.sections(f"<main>{page}</main>", '"><script>')
    page += site.index(cards, found, "") + site.contents(writer.sections) + site.steps(('"><script>', HOSTILE), None)
    page += site.tools('"><script>')
    parsed = Parsed(page)
    assert not parsed.scripts - {""} and not parsed.handlers and "\x1b" not in page
    assert not any(link.startswith("javascript") for link in parsed.links)


def test_tables_of_pandas_keep_their_cells_and_lose_their_styles():
    table = "<style scoped>x</style><table border='1'><tr style='a'><th></th><td colspan='2'>0.5</td></tr></table>"
    _, page = page_of(code(outputs=[nbformat.v4.new_output("execute_result", {"text/html": table})]))
    assert '<td colspan="2">0.5</td>' in page and "style" not in page and "border" not in page


def test_an_estimator_is_shown_as_text():
    estimator = mmad_utils.PCAResidual()
    data = {"text/html": estimator._repr_html_(), "text/plain": repr(estimator)}
    _, page = page_of(code(outputs=[nbformat.v4.new_output("execute_result", data)]))
    assert "<script" in data["text/html"] and "PCAResidual()" in page and "copyToClipboard" not in page


def test_image_brings_its_text_alternative():
    shown = nbformat.v4.new_output(
        "display_data", {"image/png": "AA=="}, metadata={"image/png": {"alt": 'A "line".'}}
    )
    _, page = page_of(code(outputs=[shown]))
    assert 'alt="A &quot;line&quot;."' in page and "data:image/png;base64,AA==" in page


def test_a_slider_is_an_image_on_the_page_and_leaves_no_trace_of_the_widget():
    slider = FigureSlider(lambda _: plt.figure(figsize=(1, 1)), [1, 2], label="turn", alt="At {}.".format)
    data, about = slider._repr_mimebundle_()
    _, page = page_of(code(outputs=[nbformat.v4.new_output("display_data", data, metadata=about)]))
    assert f'<img src="data:image/png;base64,{data["image/png"]}"' in page and 'alt="At 1."' in page
    assert slider.model_id not in page and "widget" not in page


def test_code_is_folded_but_for_the_step_of_a_method_and_checks_are_hidden():
    tags = ([], ["step"], ["claim"], ["results"])
    shown = [nbformat.v4.new_output("stream", text="printed")]
    _, page = page_of(*(code(f"x = {number}", shown, tag) for number, tag in enumerate(tags)))
    assert re.findall(r'<details class="code (\w+)"( \w+)?>', page) == [
        ("lesson", ""),
        ("lesson", " open"),
        ("check", " hidden"),
        ("check", " hidden"),
    ]
    assert page.count("printed") == 2


def test_the_whole_solution_of_an_exercise_is_folded():
    shown = [nbformat.v4.new_output("stream", text="printed")]
    text = nbformat.v4.new_markdown_cell("It *falls*.", metadata={"tags": ["solution"]})
    exercise = nbformat.v4.new_markdown_cell("**2. Predict: it.** Does it fall?")
    _, page = page_of(code("x = 1", shown, ["solution"]), text, exercise, code("y = 2", [], ["solution"]))
    _, first, second = page.split('<details class="solution"><summary>Solution</summary>\n')
    first, task = first.split("</details>\n")
    assert "printed" in first and "<em>falls</em>" in first and "Does it fall?" in task
    assert second.count("<pre") == 1 and second.endswith("</details>\n")


def test_the_hint_of_an_exercise_is_folded():
    _, page = page_of(
        nbformat.v4.new_markdown_cell(
            f"**1. Build: it.** How?\n\n{HINT}\n\nWith $x$ and *care*.\n\n</details>\n\nEnd."
        )
    )
    assert re.search(
        r'<details class="hint"><summary>Hint</summary>\n<p>With <math.*<em>care</em>\.</p>\n</details>', page
    )


def test_the_first_mention_of_a_class_leads_to_its_reference():
    _, page = page_of(nbformat.v4.new_markdown_cell("`PaDiM`, `PaDiM`, [`RDP`](04_gans.ipynb), `fit`"))
    assert page.count('href="../reference/detectors.html#mmad_utils.detectors.padim.PaDiM"') == 1
    assert page.count("<a") == 2


def test_the_downloaded_notebook_is_the_one_before_it_ran():
    cells = [
        code("a: int = 1", tags=["parameters"]),
        code("a = 2", tags=["injected-parameters"]),
        code("a", [nbformat.v4.new_output("stream", text="2")]),
    ]
    ran = nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {"duration": 3}})
    written = site.as_written(ran)
    assert [cell.source for cell in written.cells] == ["a: int = 1", "a"]
    assert not any(cell.outputs for cell in written.cells) and "papermill" not in written.metadata
    assert ran.cells[2].outputs


def test_a_finding_without_its_result_stops_the_site():
    values = {"01_x.a": {"value": 0.5, "sd": 0.1, "unit": ""}}
    assert front.filled_in("<It> is {{ value:01_x.a }}.", values) == "&lt;It&gt; is 0.50 ± 0.10."
    with pytest.raises(ReportError, match=r"front\.yaml: no value '01_x\.b'"):
        front.filled_in("{{ value:01_x.b }}", values)


def test_sections_for_the_search_hold_prose_and_lead_to_their_headings():
    page = "<main><h1>T</h1><p>a</p><pre>code</pre><h2 id='s'>S</h2><p>b <math>x</math></p><ul><li>c</li></ul></main>"
    assert list(front.sections(page, "x.html")) == [
        {"title": "T", "page": "T", "url": "x.html", "text": "a"},
        {"title": "S", "page": "T", "url": "x.html#s", "text": "b c"},
    ]
    assert list(front.sections("<p>no main</p>", "x.html")) == []


def test_the_texts_of_the_first_page_name_what_there_is():
    texts = front.texts()
    names = set(yaml.safe_load((ROOT / "profiles" / "default.yaml").read_text()))
    assert set(texts["notebooks"]) == names
    results = load_results(ROOT / "report" / "results")
    for entry in texts["notebooks"].values():
        assert entry["figure"] in results["figures"]
        for part, language in product((entry["question"], entry["finding"]), front.LANGUAGES):
            front.filled_in(part[language], results["values"])


def test_every_module_has_a_heading_on_the_page_of_its_package():
    for package, text in reference.sources().items():
        modules = re.findall(r"automodule:: mmad_utils\.(\S+)", text)
        assert all(f"\n\n{name}\n{'-' * len(name)}\n\n" in text for name in modules), package


def test_references_are_paragraphs_that_begin_with_an_initial():
    lines = ["References", "----------", "G. Hinton,", "R. Salakhutdinov (2006), Science.", "A. Ng (2011), Notes."]
    reference.separate_references(None, "class", "AutoEncoder", None, None, lines)
    assert lines[2:] == [r"\G. Hinton,", r"\R. Salakhutdinov (2006), Science.", "", r"\A. Ng (2011), Notes."]


def test_every_exported_name_has_its_anchor_in_the_reference(tmp_path):
    index = reference.build(tmp_path / "reference", packages=("encoders",))
    names = [name for name in mmad_utils.__all__ if reference.address(name).startswith("encoders.")]
    for name in names:
        page, anchor = reference.address(name).split("#")
        assert f'id="{anchor}"' in index.with_name(page).read_text(encoding="utf-8")
    assert len(names) > 4
    pages = [path.read_text(encoding="utf-8") for path in index.parent.glob("*.html")]
    assert not any(re.search(r'(?:src|href)="https?://', page) for page in pages), "no file of another host"


def test_links_between_notebooks_lead_to_their_pages():
    _, page = page_of(
        nbformat.v4.new_markdown_cell("[next](04_gans.ipynb#x) and [away](https://arxiv.org/abs/1.ipynb)")
    )
    assert 'href="04_gans.html#sec-x"' in page and 'href="https://arxiv.org/abs/1.ipynb"' in page


def test_without_executed_notebooks_it_says_what_to_do(tmp_path, capsys):
    assert site.main(["--built", str(tmp_path), "--output", str(tmp_path)]) == 1
    assert "holds no executed notebook; run `make report`" in capsys.readouterr().err
    assert not (tmp_path / "index.html").exists()


def test_failed_copies_of_notebooks_are_left_out(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One")])
    (tmp_path / "notebooks").mkdir()
    for name in ("01_one.ipynb", "02_two.failed.ipynb"):
        nbformat.write(notebook, tmp_path / "notebooks" / name)
    written = [path.name for path in site.build(tmp_path, tmp_path / "report")]
    assert written == ["01_one.html", "01_one.ipynb", "glossary.html", "index.html"]


# ---- the glossary ----

SOURCE = site.GLOSSARY.read_text(encoding="utf-8")
TERMS = list(site.TERM.finditer(SOURCE))
NOTEBOOKS = sorted((ROOT / "notebooks" / "src").glob("*.py"))


def test_every_term_has_both_languages_a_sentence_in_each_and_a_notebook():
    assert len(TERMS) == len(re.findall("^### ", SOURCE, re.MULTILINE)) > 75
    for term in TERMS:
        sentence, links = re.fullmatch(r"(.+\.)((?: \[\d\d[a-z]?\]\(\w+\.ipynb\))+)", term["meaning"]).groups()
        assert not any(map(fonts.is_chinese, term["english"] + sentence)), term["english"]
        assert term["sense"].endswith("。"), term["english"]
        for number, name in re.findall(r"\[(\d\d[a-z]?)\]\((\w+)\.ipynb\)", links):
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
