"""The slider: what a browser moves, and what a page shows that nothing can be moved on."""

import base64

import matplotlib.pyplot as plt
import nbformat
import pytest
from notebook_project import Project

from mmad_utils.course import project as course_project
from mmad_utils.course import results, runner
from mmad_utils.course.widgets import FigureSlider

SOURCE = """\
# %% tags=["parameters"]
seed: int = 0  # of the draw

# %%
from matplotlib import pyplot as plt
from mmad_utils.course import notebook, widgets

nb = notebook.start("small")

# %%
def draw(height):
    fig, axis = plt.subplots(figsize=(2, 1))
    axis.bar([0], [height])
    return fig

widgets.FigureSlider(draw, [1, 2, 3], label="height", alt=lambda height: f"A bar of height {height}.")

# %% tags=["results"]
nb.value("seed", float(seed))
nb.finish()
"""


def bar(height):
    fig, axis = plt.subplots(figsize=(2, 1))
    axis.bar([0], [height])
    axis.set_ylim(0, 10)
    return fig


@pytest.fixture
def moved():
    words = {"alt": lambda h: f'A "bar" of {h}.', "text": lambda h: f"{h} cm"}
    return FigureSlider(bar, [1, 5, 9], label="height", start=1, **words)


def test_moving_the_slider_redraws_the_figure_and_its_text_alternative(moved):
    before, opened = moved.picture.value, plt.get_fignums()
    moved.slider.value = 2
    assert moved.slider.label == "9 cm"
    assert moved.picture.value != before
    assert 'alt="A &quot;bar&quot; of 9."' in moved.picture.value
    moved.slider.value = 1
    assert moved.picture.value == before
    assert plt.get_fignums() == opened


def test_page_gets_the_first_figure_whatever_was_moved(moved):
    first = moved._repr_mimebundle_()
    moved.slider.value = 0
    data, about = moved._repr_mimebundle_()
    assert (data, about) == first
    fig = bar(5)
    assert base64.b64decode(data["image/png"]) == results.png_bytes(fig)
    plt.close(fig)
    assert data["text/plain"] == about["image/png"]["alt"] == 'A "bar" of 5.'
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == moved.model_id


def test_executed_notebook_holds_the_figure_and_no_state_of_the_widget(tmp_path, monkeypatch):
    project = Project(tmp_path / "project")
    project.write(SOURCE)
    monkeypatch.setattr(course_project, "ROOT", project.root)
    (project.root / "profiles" / "smoke.yaml").write_text("{}\n")
    executed = nbformat.read(runner.run("small"), as_version=4)
    [shown] = [out for cell in executed.cells for out in cell.get("outputs", []) if "data" in out]
    assert shown.metadata["image/png"]["alt"] == "A bar of height 1."
    assert base64.b64decode(shown.data["image/png"]).startswith(b"\x89PNG")
    assert "widgets" not in executed.metadata
