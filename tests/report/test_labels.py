"""The labels of a figure in the language of an edition: in place, whole, and the same bytes every time."""

import io
import re
import sys
from xml.etree import ElementTree

import matplotlib.patheffects
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image
from report_project import REPORT, ROOT, ReportProject

sys.path.insert(0, str(ROOT))  # report/ is no installed package

from report import labels
from report.document import ReportError
from report.labels import SVG, raster, translate
from report.language import label

WORDS = {
    "score of the forest": "孤立森林的异常分数，很长的一行",
    "share of the class": "比例",
    "image alone": "仅图像",
    "nearest neighbours": "近邻法",
    "a much longer detector": "检测器",
    "{}% anomalies (AP = {})": "异常占 {}%（AP = {}）",
    "AUROC {}": "AUROC {}",
    "AUROC": "AUROC",
}
COLOURS = {"x": "#ff0000", "y": "#00ff00", "title": "#0000ff", "row": "#ff00ff", "legend": "#00ffff"}


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr("report.language.captions", lambda language: WORDS)


def svg(figure):
    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": "test"}):
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    plt.close(figure)
    return buffer.getvalue()


@pytest.fixture
def drawing():
    """A figure with a label of each kind, each in a colour of its own."""
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    axes.plot([0, 1], [1, 10], color="black", label="a much longer detector")
    axes.set_title("image alone\nAUROC 0.46", color=COLOURS["title"])
    axes.set_xlabel("score of the forest", color=COLOURS["x"])
    axes.set_ylabel("share of the class", color=COLOURS["y"])
    axes.set_yticks([3], ["nearest neighbours"], color=COLOURS["row"])
    axes.legend(labelcolor=COLOURS["legend"])
    return svg(figure)


def ink(drawing, colour):
    """Left, top, right and bottom of what has the colour, in pixels."""
    pixels = np.asarray(Image.open(io.BytesIO(raster(drawing))).convert("RGB")).astype(int)
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    rows, columns = np.nonzero(np.abs(pixels - wanted).max(axis=2) < 100)
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


def along(box, rotated):
    return (box[1], box[3]) if rotated else (box[0], box[2])


@pytest.mark.parametrize(("kind", "rotated"), [("x", False), ("y", True), ("title", False)])
def test_labels_of_axes_and_titles_keep_their_centre(drawing, kind, rotated):
    old, new = (along(ink(picture, COLOURS[kind]), rotated) for picture in (drawing, translate(drawing, "zh")[0]))
    assert sum(old) / 2 == pytest.approx(sum(new) / 2, abs=1.5)
    assert kind == "title" or abs((old[1] - old[0]) - (new[1] - new[0])) > 10, "the words have another length"


def test_legends_keep_their_left_edge_and_rows_their_right_one(drawing):
    translated, missing = translate(drawing, "zh")
    assert missing == []
    for kind, kept, free in (("legend", 0, 2), ("row", 2, 0)):
        old, new = ink(drawing, COLOURS[kind]), ink(translated, COLOURS[kind])
        assert new[kept] == pytest.approx(old[kept], abs=1.5) and abs(new[free] - old[free]) > 10


@pytest.mark.parametrize("kind", COLOURS)
def test_labels_keep_size_line_and_colour(drawing, kind):
    old, new = (ink(picture, COLOURS[kind]) for picture in (drawing, translate(drawing, "zh")[0]))
    across = (0, 2) if kind == "y" else (1, 3)
    assert np.abs(old - new)[list(across)].max() <= 6, "within a quarter of the size of the type"


def test_glyphs_that_other_labels_use_are_still_there(drawing):
    root = ElementTree.fromstring(translate(drawing, "zh")[0])
    used = {use.get("{http://www.w3.org/1999/xlink}href")[1:] for use in root.iter(f"{{{SVG}}}use")}
    assert used <= {element.get("id") for element in root.iter()}


def test_numbers_stay_and_a_drawing_without_words_is_drawn_as_it_was():
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.semilogy([-5, 5], [1e-3, 1e3])
    axes.set_title("−0.25 · 12%")
    drawing = svg(figure)
    translated, missing = translate(drawing, "zh")
    assert missing == [] and raster(translated) == raster(drawing)


@pytest.mark.parametrize(
    ("english", "words"),
    [
        ("50% anomalies (AP = 0.93)", "异常占 50%（AP = 0.93）"),
        ("AUROC 1.00", "AUROC 1.00"),
        ("AUROC", "AUROC"),
        ("$\\mathdefault{10^{-1}}$", "$\\mathdefault{10^{-1}}$"),
        ("images alone", None),
        ("50% anomalies", None),
        ("$x$", None),
    ],
)
def test_a_label_is_known_by_its_words_whatever_its_numbers(english, words):
    assert label(english, "zh") == words


def test_the_same_drawing_gives_the_same_bytes(drawing):
    first, second = (translate(drawing, "zh")[0] for _ in range(2))
    assert first == second and raster(first) == raster(second)


def test_a_label_that_path_effects_made_a_shape_is_not_overlooked():
    figure = plt.figure(figsize=(2, 1))
    effects = [matplotlib.patheffects.withStroke(linewidth=2, foreground="white")]
    figure.text(0.5, 0.5, "AUROC", path_effects=effects)
    assert translate(svg(figure), "zh")[1] == ["text_1"]


def test_an_unknown_label_stops_the_edition_and_is_named_with_its_figure(tmp_path, monkeypatch):
    project = ReportProject(tmp_path, monkeypatch)
    figure, axes = plt.subplots(figsize=(3, 2))
    axes.set_xlabel("a strange word")
    record = project.results()
    record.figure(figure, "strange", caption="A *line*, $y = x$.", alt='It "rises".', data={"y": [1]})
    record.save()
    report = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# T\n\n{{ figure:strange }}", id="a")])
    assert project.exporter().from_notebook_node(report)
    report.metadata["report"] = {"language": "zh"}
    with pytest.raises(ReportError, match=r"figure 'strange': the label 'a strange word' is not translated") as error:
        project.exporter().from_notebook_node(report)
    assert "captions.zh.yaml" in str(error.value)
    plt.close(figure)


def test_no_entry_of_a_legend_of_the_report_grows_into_the_next(monkeypatch):
    monkeypatch.undo()
    for name in re.findall(r"\{\{ figure:(\w+)", REPORT.read_text(encoding="utf-8")):
        root = labels._parse((ROOT / "figures" / f"{name}.svg").read_bytes())
        for comment, _, steady in labels._labels(root):
            english = comment.text.strip()
            words = label(english, "zh")
            if steady == labels.STEADY["legend"]:
                old, new = (labels._outlines(text).get_extents().width for text in (english, words))
                assert new < old + 120, f"{name}: {words}"  # in % of the type's size, of which 200 part columns
