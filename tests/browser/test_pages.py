"""The pages in a real browser with the network cut: whole, silent, readable, and usable by keyboard."""

import sys
from itertools import product
from urllib.parse import unquote

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from report_project import BROWSER, LANGUAGES, REPORT, ROOT, ReportProject, needs_browser

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import reference, site
from report.editions import DOCUMENTS

pytestmark = needs_browser
PAGES = [
    *(f"{document}.{language}.html" for document, language in product(DOCUMENTS, LANGUAGES)),
    *("index.html", "notebooks/glossary.html", "notebooks/01_demo.html", "notebooks/02_other.html"),
]
REFERENCE = ["reference/index.html", "reference/encoders.html"]  # written by Sphinx: pages of several files
LESSON = """# A demo

Some words, xylophone, and $x^2$.

## First section

| a | b |
|---|---|
| 1 | 2 |

## Second section
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All editions and the site around them, from made-up results and two made-up notebooks."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = ReportProject(tmp_path_factory.mktemp("project"), monkeypatch)
        sources = [REPORT.with_name(f"{document}.en.ipynb") for document in DOCUMENTS]
        project.record_all_of("".join(source.read_text(encoding="utf-8") for source in sources))
        for document, language in product(DOCUMENTS, LANGUAGES):
            page = project.render_committed(language, document)
            (folder / f"{document}.{language}.html").write_text(page, encoding="utf-8")
        picture = next((project.folder / "figures").glob("*.png")).read_bytes()
    built = tmp_path_factory.mktemp("built")
    (built / "notebooks").mkdir()
    for name in ("01_demo", "02_other"):
        nbformat.write(demo_notebook(name, picture), built / "notebooks" / f"{name}.ipynb")
    site.build(built, folder)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        (folder / "notebooks" / f"{path.stem}.html").touch()  # other pages lead there
    reference.build(folder / "reference", packages=("encoders",))
    return folder


def demo_notebook(name, picture):
    import base64

    shown = {"image/png": base64.b64encode(picture).decode(), "text/plain": "<Image>"}
    outputs = [
        nbformat.v4.new_output("display_data", shown, metadata={"image/png": {"alt": "A line.", "width": 300}}),
        nbformat.v4.new_output("execute_result", {"text/html": "<table><tr><td>1</td></tr></table>"}),
        nbformat.v4.new_output("stream", text="done"),
    ]
    code = nbformat.v4.new_code_cell("x: int = 1  # a comment\nprint(f'{x}', None)", outputs=outputs)
    check = nbformat.v4.new_code_cell("assert x", metadata={"tags": ["claim"]})
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell(LESSON.replace("A demo", name)), code, check]
    )


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, folder):
    """Opens a page without a network; what it asks for and complains of is kept."""
    contexts = []

    def visit(name, width=1300, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto((folder / name).as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1300, 390])
def test_page_is_whole_without_a_network(visit, folder, name, width):
    page = visit(name, width)
    page.wait_for_timeout(200)
    asked = [url for url in page.asked if not url.startswith("data:")]
    assert asked == [(folder / name).as_uri()], "nothing but the page itself"
    assert page.complaints == []
    empty = "boxes => boxes.filter(box => box.getBoundingClientRect().width < 2).length"
    assert page.eval_on_selector_all("main math", empty) == 0
    assert page.eval_on_selector_all("main img", "images => images.filter(i => !i.naturalWidth).length") == 0
    sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert sideways <= 0, "the page must not scroll sideways"


def test_formulas_and_figures_are_there(visit):
    page = visit("report.zh.html")
    assert page.locator("main math").count() > 30
    assert page.locator("main figure img").count() > 10
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert page.evaluate("""document.fonts.check('16px "Report CJK"', '异常检测')""")


def test_every_chinese_text_is_set_in_the_type_that_the_page_brings(visit):
    families = visit("report.zh.html").evaluate("""[...document.querySelectorAll('main *')]
        .filter(element => [...element.childNodes].some(node => node.nodeType === 3 && /[一-鿿]/.test(node.data)))
        .map(element => getComputedStyle(element).fontFamily)""")
    assert len(families) > 100 and {family.partition(",")[0] for family in families} == {'"Report CJK"'}


@pytest.mark.parametrize("name", PAGES + REFERENCE)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, name, scheme):
    colours = {"runOnly": ["color-contrast", "link-in-text-block"]}  # no other rule depends on the colours
    rules = {} if scheme == "light" else colours
    violations = Axe().run(visit(name, scheme=scheme), options=rules).response["violations"]
    serious = [
        f"{found['id']}: {found['nodes'][0]['html'][:120]} {found['nodes'][0]['failureSummary']}"
        for found in violations
        if found["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("name", PAGES)
def test_dark_readers_get_a_dark_page(visit, name):
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    assert min(visit(name).evaluate(brightness)) > 240
    assert max(visit(name, scheme="dark").evaluate(brightness)) < 50


@pytest.mark.parametrize("name", PAGES)
def test_every_link_inside_a_page_or_between_pages_lands(visit, folder, name):
    page = visit(name)
    links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
    local = [link.partition("#") for link in links if link.startswith("file:")]
    assert local
    for address, _, anchor in local:
        target = folder / address.removeprefix(folder.as_uri() + "/")
        assert target.exists() or target.suffix == ".pdf", address
        assert not anchor or f'id="{unquote(anchor)}"' in target.read_text(encoding="utf-8"), anchor


def test_contents_follow_the_reader(visit):
    page = visit("report.en.html")
    current = page.locator("#contents [aria-current=location]")
    expect(current).to_have_attribute("href", "#sec-abstract")
    page.evaluate("document.getElementById('sec-autoencoders').scrollIntoView()")
    expect(current).to_have_attribute("href", "#sec-autoencoders")
    page.click("#contents a[href='#sec-conclusions']")
    expect(current).to_have_attribute("href", "#sec-conclusions")
    assert 0 <= page.locator("#sec-conclusions").bounding_box()["y"] < 300


def test_figure_is_enlarged_by_keyboard_and_closed_by_escape(visit):
    page = visit("report.en.html")
    button = page.locator("button.zoom").first
    button.focus()
    page.keyboard.press("Enter")
    enlarged = page.locator("dialog[open] img")
    assert enlarged.get_attribute("alt") == page.locator("main figure img").first.get_attribute("alt")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.className") == "zoom"


def test_code_is_folded_until_the_reader_asks_for_it(visit):
    page = visit("notebooks/01_demo.html")
    code = page.locator("details.lesson pre")
    assert not code.is_visible()
    page.click("details.lesson summary")
    assert code.is_visible()
    page.reload()
    page.locator("button[data-show=lesson]").focus()
    page.keyboard.press("Enter")
    assert code.is_visible()
    page.keyboard.press("Enter")
    assert not code.is_visible()


def test_checks_of_statements_are_shown_when_asked_for(visit):
    page = visit("notebooks/01_demo.html")
    check = page.locator("details.check")
    assert not check.is_visible()
    page.click("button[data-show=check]")
    assert check.is_visible() and "assert x" in check.inner_text()


def test_search_finds_words_of_titles_and_texts_in_both_languages(visit):
    page = visit("index.html")
    hits = page.locator("#hits li")
    assert hits.count() == 0
    page.fill("#search", "second SECTION")
    assert page.locator("#hits li a").all_inner_texts()[:2] == ["Second section"] * 2
    page.fill("#search", "words xylophone")
    assert hits.count() == 2 and "Some words" in hits.first.inner_text()
    page.fill("#search", "孤立森林")
    assert hits.count() > 1
    page.fill("#search", "PixelEncoder")
    assert page.locator("#hits a").first.get_attribute("href").startswith("reference/encoders.html#")
    page.fill("#search", "qwxz")
    assert hits.count() == 0 and page.inner_text("#found") == "0 found"


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_needs_no_network(visit, name):
    page = visit(name)
    page.wait_for_timeout(200)
    assert all(url.startswith(("file:", "data:")) for url in page.asked)
    assert page.complaints == []
    assert page.locator("main h1").count() == 1


def test_notebooks_lead_to_the_next_and_the_previous_one(visit):
    page = visit("notebooks/01_demo.html")
    page.click("a[rel=next] >> nth=0")
    assert page.url.endswith("02_other.html")
    page.click("a[rel=prev] >> nth=0")
    assert page.url.endswith("01_demo.html")
