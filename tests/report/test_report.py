"""The report: keys become numbers, tables and figures; what is unknown, stale or typed stops the build."""

import base64
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_project import LANGUAGES, REPORT, ROOT, ReportProject

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import markup
from report.document import ReportError
from report.page import line_breaks, with_punctuation
from report.render import AtomicWriter


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Read by many tests, changed by none."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        demo = ReportProject(tmp_path_factory.mktemp("demo"), monkeypatch)
        demo.record_demo()
        yield demo


@pytest.fixture
def project(demo, tmp_path, monkeypatch):
    """A copy of the demo that a test may change."""
    shutil.copytree(demo.folder, tmp_path, dirs_exist_ok=True)
    return ReportProject(tmp_path, monkeypatch)


class Page(HTMLParser):
    """What a browser would find: elements with attributes, text, and the targets of links."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if not self.elements or self.elements[-1][0] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module", params=LANGUAGES)
def committed(request, tmp_path_factory):
    """The committed editions, with some result for every key that they name."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        project = ReportProject(tmp_path_factory.mktemp("committed"), monkeypatch)
        project.record_all_of(REPORT.read_text(encoding="utf-8"))
        return project.render_committed(request.param)


# ---- numbers ----


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0.99312, 0.0043), "0.993 ± 0.004"),
        ((0.9, 0.0123), "0.900 ± 0.012"),
        ((0.9876, 0.0012), "0.988 ± 0.001"),
        ((0.98761, 0.0001), "0.9876 ± 0.0001"),
        ((0.9876, 0.0), "0.988 ± 0.000"),
        ((0.99981, 3e-5), "1.000 ± 0.000"),
        ((52.3, 6.1, "s"), "52 ± 6\u00a0s"),
        ((4.86, None, "%"), "4.86%"),
        ((4.86, 0.4, "%"), "(4.9 ± 0.4)%"),
        ((100.0, None, "%"), "100%"),
        ((1839, None), "1,839"),
        ((1.0, None), "1.000"),
        ((-0.25, None), "\u22120.250"),
        ((12.345, None, "s"), "12.3\u00a0s"),
        ((4.2e-5, None), "4.2 × 10⁻⁵"),
    ],
)
def test_value_is_shown_as_a_journal_would_print_it(arguments, text):
    assert markup.format_value(*arguments) == text


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ([0.2, 0.0012, 0.0], ["0.200", "0.001", "0.000"]),
        ([0.2, 0.0004], ["0.2000", "0.0004"]),
        ([12.3, 0.04], ["12.30", "0.04"]),
        ([0.2, 0.00004], ["0.200", "4.0 × 10⁻⁵"]),
    ],
)
def test_the_numbers_of_a_column_have_as_many_decimals_as_the_smallest_needs(column, shown):
    assert markup.format_column(column) == shown


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
def test_shown_value_is_within_half_a_unit_of_the_recorded_one(value, sd):
    shown, _, deviation = markup.format_value(value, sd).partition(" ± ")
    unit = 10.0 ** -len(deviation.partition(".")[2])
    assert float(deviation.replace(",", "")) > 0
    assert abs(float(shown.replace(",", "").replace("\u2212", "-")) - value) <= unit / 2 * (1 + 1e-6)


def test_markup_in_recorded_texts_is_shown_as_text(project):
    hostile = "<img src=x onerror='alert(1)'>"
    record = project.results()
    record.value("auroc", 0.9, unit=hostile)
    record.table(pd.DataFrame({hostile: [hostile, "b"], "AUROC": [0.9, 0.8]}), "rows", f"A {hostile} caption.")
    figure = plt.figure(figsize=(1, 1))
    record.figure(
        figure, "shape", caption=f"$\\text{{{hostile}}}$ and {hostile}", alt=f'">{hostile}', data={"y": [1]}
    )
    plt.close(figure)
    record.save()
    page = Page(project.render("# T", "{{ value:01_demo.auroc }}", "{{ table:rows }}", "{{ figure:shape }}"))
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    assert page.text.count(hostile) == 5  # unit, caption, column, cell, caption of the figure
    assert page.text.replace("\xa0", " ").count(hostile) == 6  # a formula has spaces that do not break
    assert f'">{hostile}' in [image.get("alt") for image in page.all("img")]


def test_value_key_shows_mean_and_standard_deviation(demo):
    page = Page(demo.render("# T", "It is {{ value:01_demo.auroc }} in {{value:01_demo.fit_time}}."))
    assert "It is 0.993 ± 0.004 in 12.3\u00a0s." in page.text
    assert "01_demo.auroc: mean ± standard deviation, n = 5" in [span.get("title") for span in page.all("span")]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("comparison; forest; AUROC", "It is 0.900."),
        ("by_share; digits; kNN; 0.1; mean", "It is 0.700 ± 0.010."),
        ("by_share; digits; kNN; 0.2; fit (s)", "It is 2.50\u00a0s."),
        ("by_share; scenes; kNN; 0.2; mean", "It is 0.500."),
    ],
)
def test_cell_of_a_table_is_shown_with_its_deviation_and_unit(project, key, text):
    record = project.results("02_other")
    rows = [["digits", 0.1, 0.7, 0.01, 1.5], ["digits", 0.2, 0.6, 0.02, 2.5], ["scenes", 0.2, 0.5, "–", 3.5]]
    frame = pd.DataFrame(rows, columns=["data", "share", "mean", "sd", "fit (s)"])
    frame.insert(1, "detector", "kNN")
    record.table(frame, "by_share", "Rows that only three cells tell apart.")
    record.save()
    assert text in Page(project.render("# T", f"It is {{{{ value:{key} }}}}.")).text


def test_lines_are_broken_in_long_names_and_not_in_hyphenated_ones():
    assert line_breaks("injected/dependency/digits") == "injected/<wbr>dependency/<wbr>digits"
    assert line_breaks("f-AnoGAN and DSEBM-e") == (
        '<span class="whole">f-AnoGAN</span> and <span class="whole">DSEBM-e</span>'
    )
    assert line_breaks("one-class <b>1/2</b> state-of-a-kind") == "one-class <b>1/<wbr>2</b> state-of-a-kind"


@pytest.mark.parametrize(("source", "whole"), [("$a$ and $b$。", "b"), ("- $a$, $b$", "a"), ("$a$ b", "")])
def test_a_punctuation_mark_stays_beside_its_formula(demo, source, whole):
    spans = re.findall(r'<span class="whole"><math alttext="(.)".*?</math>[。,]</span>', demo.render("# T", source))
    assert spans == list(whole)
    over_lines = '<math alttext="a\nb"></math>.'
    assert with_punctuation(over_lines) == f'<span class="whole">{over_lines}</span>'


def test_mean_and_standard_deviation_are_one_column():
    heads, rows, right, _ = markup.format_table(
        ["detector", "AUROC", "sd"], [["kNN", 0.9, 0.012], ["none", 0.5, "–"]]
    )
    assert heads == ["detector", "AUROC ± sd"] and right == [False, True]
    assert rows == [["kNN", "0.900 ± 0.012"], ["–", "0.500"]]


def test_a_mean_and_its_small_deviation_have_the_same_number_of_decimals():
    rows = markup.format_table(["detector", "AUROC", "sd"], [["a", 0.9, 0.012], ["b", 0.5, 0.0004]])[1]
    assert rows == [["a", "0.9000 ± 0.0120"], ["b", "0.5000 ± 0.0004"]]


@pytest.mark.parametrize(
    ("columns", "rows", "bold"),
    [
        (["detector", "AUROC", "sd"], [["a", 0.9, 0.02], ["b", 0.8, 0.02], ["c", 0.7, 0.1]], {(0, 1)}),
        (["detector", "AUROC", "sd"], [["a", 0.9, 0.06], ["b", 0.8, 0.05]], set()),
        (["detector", "AUROC", "sd"], [["a", 0.9, 0.02], ["baseline", 0.95, "–"]], {(1, 1)}),
        (["detector", "false-alarm rate", "sd"], [["a", 0.9, 0.02], ["b", 0.1, 0.02]], set()),
        (
            ["data", "detector", "AUROC", "sd"],
            [["x", "a", 0.9, 0.01], ["x", "b", 0.8, 0.01], ["y", "a", 0.5, 0.01], ["y", "b", 0.6, 0.01]],
            {(0, 2), (3, 2)},
        ),
    ],
    ids=["clear", "within the deviations", "one without a deviation", "lower is better", "by group"],
)
def test_best_is_bold_only_where_the_deviations_support_it(columns, rows, bold):
    assert markup.format_table(columns, rows)[3] == bold


def test_bold_is_explained_where_it_is_used(project):
    record = project.results("02_other")
    record.table(pd.DataFrame({"detector": ["a", "b"], "AUROC": [0.9, 0.5], "sd": [0.01, 0.01]}), "led", "Led.")
    record.save()
    page = project.render("# T", "{{ table:led }}", "{{ table:comparison }}")
    assert "<b>0.900 ± 0.010</b>" in page and page.count("Bold: ahead of all others") == 1


@pytest.mark.parametrize("name", ["00_concepts", "0: 3fa2", "2 of 3"])
def test_words_that_begin_with_a_digit_are_no_numbers(name):
    assert markup.format_table(["a", "b"], [[name, 4.2e-5], [name, 1200]])[2] == [False, True]


def test_number_column_is_aligned_and_has_equal_decimals(demo):
    page = Page(demo.render("# T", "{{ table:comparison }}"))
    assert "0.980" in page.text and "0.900" in page.text and "1,200" in page.text
    assert [cell.get("class") for cell in page.all("td")] == ["number"] * 4
    assert [cell.get("scope") for cell in page.all("th")] == ["col"] * 3 + ["row"] * 2


# ---- what stops the build ----


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("Is {{ value:01_demo.aurco }}.", ["no value '01_demo.aurco'", "'01_demo.auroc'", "`make report`"]),
        (
            "{{ value:comparison; fores; AUROC }}",
            ["no value 'comparison; fores; AUROC'", "'comparison; forest; AUROC'"],
        ),
        ("{{ figure:lines }}", ["no figure 'lines'", "'line'", "`make report`"]),
        ("{{ table:comparisons }}", ["no table 'comparisons'", "'comparison'"]),
        ("Known [@liu2008isolatoin].", ["no citation 'liu2008isolatoin'", "'liu2008isolation'"]),
        ("See {{ ref:line }}.", ["no section, or placed figure or table, 'line'"]),
        ("See {{ vlaue:01_demo.auroc }}.", ["no kind of key 'vlaue'", "'value'"]),
        ("In words {{ figure:line }}.", ["must stand alone"]),
        ("{{ caption:x }} No table follows.", ["must begin the paragraph before a Markdown table"]),
        ("It is <b>bold</b>.", ["<b>", "are not checked"]),
        ("![alt](picture.png)", ["insert figures by key"]),
        ("Is $\\foo x$.", ["\\foo"]),
        ("Is $x_{$.", ["malformed"]),
    ],
)
def test_mistake_is_named_with_cell_and_remedy(demo, cell, words):
    with pytest.raises(ReportError) as error:
        demo.render("# Title", cell)
    assert "cell 2 (" in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_all_mistakes_are_reported_at_once(demo):
    with pytest.raises(ReportError, match="2 problems") as error:
        demo.render("# T", "{{ value:01_demo.x }}", "{{ figure:y }}")
    assert "cell 2" in str(error.value) and "cell 3" in str(error.value)


TYPED = [
    "0.993",
    ".993",
    "1,839",
    "95%",
    "95 %",
    "5 percent",
    "95 per cent",
    "9 ± 4",
    "**0**.993",
    "98％",
    "0&#46;9",
]


@pytest.mark.parametrize("number", TYPED)
@pytest.mark.parametrize("place", ["It is {} here.", "- an item\n- {} too", "## {}", "| a |\n|---|\n| {} |", "*{}*"])
def test_typed_number_is_found(number, place):
    assert markup.typed_numbers(markup.parse(place.format(number)))


def test_typed_number_stops_the_build(demo):
    with pytest.raises(ReportError, match=r"cell 2 .* '0\.993' is typed in the text.*nb\.value"):
        demo.render("# T", "It is 0.993.")


@given(st.decimals(0, 10**6, places=3))
def test_every_typed_decimal_is_found(number):
    assert markup.typed_numbers(markup.parse(f"The result is {number}, as expected."))


def test_numbers_in_code_formulas_citations_and_counts_are_free(demo):
    text = "`0.5`, $0.5$, [@tan2019efficientnet], 3 tasks in 2021, F1.\n\n```\nx = 0.5  # 95%\n```\n\n$$\n0.5\n$$"
    assert "3 tasks in 2021" in demo.render("# T", text)


@pytest.mark.parametrize("changed", ["requirements.lock", "mmad_utils/new.py", "notebooks/src/01_demo.py"])
def test_stale_result_stops_the_build(project, changed):
    project.render("# T", "{{ value:01_demo.auroc }}")
    with (project.folder / changed).open("a") as file:
        file.write("# changed\n")
    with pytest.raises(ReportError, match=r"results of 01_demo are stale.*make report"):
        project.render("# T", "{{ value:01_demo.auroc }}")


def test_result_of_other_parameters_stops_the_build(project):
    record = project.results("02_other")
    record.provenance["parameters"] = {"seed": 1}
    record.value("x", 1)
    record.save()
    with pytest.raises(ReportError, match=r"results of 02_other are stale: .*made with another parameters"):
        project.render("# T", "{{ value:02_other.x }}")


def test_results_that_no_key_names_may_be_stale(project):
    (project.folder / "requirements.lock").write_text("numpy==3\n")
    assert "free" in project.render("# T", "The text is free of results.")


def test_table_recorded_by_two_notebooks_stops_the_build(project):
    record = project.results("02_other")
    assert (project.folder / "results" / "01_demo.json").exists()
    record.tables["comparison"] = {"caption": "c", "columns": ["a"], "rows": [[1]]}
    record.save()
    with pytest.raises(ReportError, match="'comparison' is recorded by both 01_demo and 02_other"):
        project.render("# T")


def test_missing_figure_file_stops_the_build(project):
    (project.folder / "figures" / "line.svg").unlink()
    with pytest.raises(ReportError, match=r"figures/line\.svg is missing"):
        project.render("# T", "{{ figure:line }}")


def test_code_cell_stops_the_build(demo):
    report = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    with pytest.raises(ReportError, match="not a Markdown cell"):
        demo.exporter().from_notebook_node(report)


# ---- numbering ----


def test_figures_and_tables_are_numbered_as_they_appear(demo):
    text = [
        "# T",
        "See {{ ref:line }}, {{ ref:more }} and {{ ref:table:own }}.",
        "{{ figure:picture }}",
        "{{ figure:line }}",
    ]
    own = "{{ caption:own }} My own.\n\n| a | b |\n|---|---|\n| c | d |"
    page = Page(demo.render(*text, own, "{{ table:more }}"))
    assert "See Figure\u00a02, Table\u00a02 and Table\u00a01." in page.text
    assert page.text.index("Figure 1. A picture.") < page.text.index("Figure 2. A line")
    assert "Table 1. My own." in page.text and "Table 2. More of the same." in page.text


def test_sections_are_numbered_and_listed(demo):
    page = Page(demo.render("# T", "{{ contents }}", "## Abstract", "## One\n\n### Half", "## Two\n\n{{ ref:half }}"))
    assert re.search(r"Contents\s+Abstract\s+1 One\s+1\.1 Half\s+2 Two\s", page.text)
    assert "Section\u00a01.1" in page.text


def test_a_section_may_be_named_and_two_of_one_name_are_refused(demo):
    page = Page(demo.render("# T", "## Data {#first}", "## Data {#second}", "See {{ ref:second }}."))
    assert "See Section\u00a02." in page.text and "{#" not in page.text
    with pytest.raises(ReportError, match="'data' is the name of two sections"):
        demo.render("# T", "## Data", "## Data")


def test_numbers_behind_a_figure_are_in_the_page(demo):
    link = Page(demo.render("# T", "{{ figure:line }}")).all("a")[-1]
    assert link["download"] == "line.csv"
    rows = base64.b64decode(link["href"].partition("base64,")[2])
    assert rows == (demo.folder / "figures" / "line.csv").read_bytes()


def test_long_code_is_folded_and_short_code_is_not(demo):
    text = "```\n" + "x = 1\n" * 30 + "```\n\n```\ny = 2\n```"
    page = Page(demo.render("# T", text))
    assert ["open" in details for details in page.all("details")] == [False, True]


def test_works_are_numbered_as_cited_and_only_those_listed(demo):
    page = Page(
        demo.render("# T", "A [@roth2022patchcore]. B [@liu2008isolation; @roth2022patchcore].", "{{ references }}")
    )
    assert "A [1]. B [2, 1]." in page.text
    assert page.text.index("Karsten Roth") < page.text.index("Fei\u00a0Tony Liu")
    assert "Chandola" not in page.text


# ---- the page ----


def test_every_link_inside_the_report_has_one_target(committed):
    page = Page(committed)
    targets = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    inside = [link["href"][1:] for link in page.all("a") if link["href"].startswith("#")]
    assert len(targets) == len(set(targets))
    assert inside and set(inside) <= set(targets)


def test_page_asks_no_other_address(committed):
    page = Page(committed)
    for tag, attrs in page.elements:
        for name in ("src", "srcset", "data", "poster", "action", "background", "style"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, name)
        if "href" in attrs and tag != "a":
            assert attrs["href"].startswith("data:")
    assert not re.search(r'url\((?!"data:)|@import|fetch\(|XMLHttpRequest', committed)
    assert {"iframe", "object", "embed", "video"}.isdisjoint(tag for tag, _ in page.elements)
    assert page.all("script") == [{}], "one script, inside the page"
    outside = [link["href"] for link in page.all("a") if not link["href"].startswith(("#", "data:"))]
    assert outside and all(re.match(r"https://(doi\.org|arxiv\.org)/", link) for link in outside)


def test_every_image_has_a_text_alternative_and_the_page_a_language(committed):
    page = Page(committed)
    assert page.all("html")[0]["lang"] == ("zh" if "参考文献" in committed else "en")
    pictures = [image for image in page.all("img") if image["src"] != "data:,"]  # what the enlarged one starts as
    assert pictures and all(image["alt"].strip() for image in pictures)
    assert page.all("a")[0] == {"class": "skip", "href": "#text"}
    assert len(page.all("h1")) == len(page.all("title")) == 1


def test_formulas_are_mathml_and_no_mark_is_left(committed):
    page = Page(committed)
    assert len(page.all("math")) > 30
    assert "$" not in page.text and "{{" not in page.text and "[@" not in page.text and "\\" not in page.text


def test_photograph_is_embedded_as_png_and_drawing_in_its_smaller_form(demo):
    images = Page(demo.render("# T", "{{ figure:picture }}", "{{ figure:line }}")).all("img")
    kinds = [image["src"].partition(";")[0] for image in images]
    files = [(demo.folder / "figures" / f"line.{form}").read_bytes() for form in ("png", "svg")]
    assert kinds[0] == "data:image/png"
    assert base64.b64decode(images[1]["src"].partition(",")[2]) == min(files, key=len)
    assert images[1]["alt"] == 'It "rises".'


def test_same_inputs_give_the_same_bytes(demo):
    cells = ["# T", "{{ value:01_demo.auroc }} [@liu2008isolation]", "{{ figure:line }}", "{{ references }}"]
    assert demo.render(*cells) == demo.render(*cells)


# ---- the files ----


def test_interrupted_write_leaves_the_last_report_whole(tmp_path, monkeypatch):
    page = tmp_path / "report.en.html"
    page.write_text("old")
    writer = AtomicWriter(build_directory=str(tmp_path))
    with monkeypatch.context() as context:
        context.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            writer.write("new", {"output_extension": ".html"}, "report.en")
    assert page.read_text() == "old" and list(tmp_path.iterdir()) == [page]
    writer.write("new", {"output_extension": ".html"}, "report.en")
    assert page.read_text() == "new" and list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(("text", "status"), [("Is $x^2$ [@liu2008isolation].", 0), ("Is 0.5.", 1)])
def test_nbconvert_alone_renders_a_report_or_says_in_one_message_why_not(tmp_path, text, status):
    report = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T\n\n" + text)])
    nbformat.write(report, tmp_path / "r.ipynb")
    config = f"--config={REPORT.parent / 'jupyter_nbconvert_config.py'}"
    command = [sys.executable, "-m", "nbconvert", config, "--to", "html", "r.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == status, run.stderr
    if status == 0:
        assert "<math" in (tmp_path / "r.html").read_text(encoding="utf-8")
    else:
        assert "'0.5' is typed in the text" in run.stderr and "Traceback" not in run.stderr
        assert not (tmp_path / "r.html").exists()


def test_every_entry_of_the_bibliography_can_be_printed(demo):
    keys = re.findall(r"@\w+\{(\w+),", (REPORT.parent / "references.bib").read_text(encoding="utf-8"))
    page = Page(demo.render("# T", f"All [{'; '.join('@' + key for key in keys)}].", "{{ references }}"))
    assert len([item for item in page.all("li") if item.get("id", "").startswith("ref-")]) == len(keys) > 20
    assert "{" not in page.text and "}" not in page.text
