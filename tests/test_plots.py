import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KernelDensity

from mmad_utils import plots
from mmad_utils.metrics import Evaluation, MetricError
from mmad_utils.ranking import average_ranks

Y = np.repeat([0, 1], [60, 20])
RNG = np.random.default_rng(0)
SCORES = RNG.normal(5 + 3 * Y)
WITH_THRESHOLD = Evaluation("Isolation Forest", Y, SCORES, predictions=SCORES > 7, threshold=7.0)
WITHOUT = Evaluation("a name that is rather long for a legend", Y, RNG.normal(9 + Y))
POINTS = RNG.normal(size=(80, 2)) + 3 * Y[:, None]
PICTURES = RNG.integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
MAPS = RNG.random((3, 10, 15)) + np.arange(3)[:, None, None]
MASKS = np.zeros((3, 40, 60), bool)
MASKS[1:, 10:20, 30:50] = True
TABLE = pd.DataFrame({"mean": [0.9, 0.8], "sd": [0.01, np.nan]}, index=["kNN", "random score"])
GROUPED = pd.concat([TABLE.assign(data=name) for name in ("thyroid", "vowels")])
TIMES = pd.DataFrame({"one": [0.1, 1.0, 10.0], "two": [0.1, 10.0, np.nan]}, index=[100, 1000, 10000])
RATES = pd.DataFrame({"training": [0.03, 0.2], "conformal": [0.01, 0.1]}, index=[0.01, 0.1])
FITTED = {
    "forest": IsolationForest(n_estimators=10, random_state=0).fit(POINTS),
    "KDE": KernelDensity().fit(POINTS),
}

RANKS = average_ranks(
    pd.DataFrame({f"{name} (a parameter=3)": 0.3 * i + RNG.normal(size=14) / 2 for i, name in enumerate("ABCDE")})
)

RUNS = pd.DataFrame(
    [
        (d, name, epochs, RNG.uniform())
        for d in "xy"
        for name in ("A", "B", "C")
        for epochs in (1, 5)
        for _ in range(3)
    ],
    columns=["data", "detector", "epochs", "AUROC"],
)

DRAWINGS = {
    "score_histogram": lambda: plots.score_histogram(WITH_THRESHOLD),
    "score_histogram, log": lambda: plots.score_histogram(WITHOUT, log=True),
    "roc_curves": lambda: plots.roc_curves([WITH_THRESHOLD, WITHOUT]),
    "precision_recall_curves": lambda: plots.precision_recall_curves([WITH_THRESHOLD, WITHOUT]),
    "confusion_matrix": lambda: plots.confusion_matrix(WITH_THRESHOLD),
    "image_rows": lambda: plots.image_rows({"grey": PICTURES[..., 0]}, ["a", "b", "c"]),
    "images": lambda: plots.images(PICTURES, ["a", "b", "c"], columns=2),
    "arrays": lambda: plots.arrays({"a": PICTURES[0], "b": MASKS[1], "c": MAPS[0]}, label="distance"),
    "heatmaps": lambda: plots.heatmaps(PICTURES, MAPS, MASKS, ["a", "b", "c"], columns=2),
    "decision_regions": lambda: plots.decision_regions(FITTED, POINTS, Y, resolution=30),
    "lines": lambda: plots.lines(RUNS, "epochs", "AUROC", by="detector", panels="data", ylim=(0, 1)),
    "lines, one": lambda: plots.lines(RUNS, "epochs", "AUROC", error=None),
    "scatter": lambda: plots.scatter(RUNS, "epochs", "AUROC", by="detector", panels="data"),
    "scatter, one": lambda: plots.scatter(RUNS, "epochs", "AUROC"),
    "embedding_scatter": lambda: plots.embedding_scatter(POINTS, Y),
    "comparison": lambda: plots.comparison(GROUPED, group="data", reference="random score"),
    "growth": lambda: plots.growth(TIMES),
    "critical_difference": lambda: plots.critical_difference(RANKS),
    "calibration": lambda: plots.calibration(RATES, n_normal=500),
}


@pytest.fixture(params=DRAWINGS, ids=str)
def draw(request):
    return DRAWINGS[request.param]


def png(fig):
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=50)
    return buffer.getvalue()


def test_every_public_function_is_tested_here():
    assert {name.split(",")[0] for name in DRAWINGS} | {"use_style"} == set(plots.__all__)


def test_each_returns_a_figure_that_pyplot_has_forgotten_and_leaves_settings_alone(draw):
    before, n_open = dict(mpl.rcParams), len(plt.get_fignums())
    fig = draw()
    assert isinstance(fig, mpl.figure.Figure)
    assert len(plt.get_fignums()) == n_open
    assert dict(mpl.rcParams) == before


def test_each_looks_the_same_twice_and_under_other_settings(draw):
    expected = png(draw())
    assert png(draw()) == expected
    with mpl.rc_context({"font.size": 20, "axes.grid": False, "lines.linewidth": 9, "legend.fontsize": 3}):
        fig = draw()
    assert png(fig) == expected


def test_nothing_leaves_the_figure_and_no_legend_or_title_covers_an_axis(draw):
    fig = draw()
    fig.draw_without_rendering()
    drawn, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert width <= plots.WIDTH
    assert drawn.x0 > -0.01 and drawn.y0 > -0.01 and drawn.x1 < width + 0.01 and drawn.y1 < height + 0.01
    for axis in fig.axes:
        assert not any(legend.get_window_extent().overlaps(axis.bbox) for legend in fig.legends)
        if axis.get_title():
            assert not any(axis.title.get_window_extent().overlaps(other.bbox) for other in fig.axes)


@pytest.mark.parametrize("name", ["score_histogram", "embedding_scatter", "decision_regions"])
def test_normal_is_blue_and_anomaly_is_orange_red(name):
    legend = DRAWINGS[name]().legends[0]
    colors = {
        text.get_text().split(" ")[0]: handle.get_facecolor()
        for handle, text in zip(legend.legend_handles, legend.get_texts())
        if not isinstance(handle, mpl.lines.Line2D)
    }
    assert set(colors) == {"normal", "anomaly"}
    for label, expected in (("normal", plots.NORMAL), ("anomaly", plots.ANOMALY)):
        np.testing.assert_allclose(np.ravel(colors[label])[:3], to_rgb(expected))


def test_normal_and_anomaly_differ_for_the_colour_blind():
    # Viénot, Brettel, Mollon (1999): linear RGB as seen without red or green cones.
    deuteranope = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    protanope = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    normal, anomaly = (np.array(to_rgb(color)) ** 2.2 for color in (plots.NORMAL, plots.ANOMALY))
    for cones in (deuteranope, protanope):
        assert np.linalg.norm(cones @ normal - cones @ anomaly) > 0.3


def test_roc_and_precision_recall_curves_show_the_areas_that_the_evaluation_reports():
    roc = plots.roc_curves([WITH_THRESHOLD]).axes[0].lines[0]
    x, y = roc.get_data()
    assert np.trapezoid(y, x) == pytest.approx(WITH_THRESHOLD.auroc)
    assert f"{WITH_THRESHOLD.auroc:.3f}" in roc.get_label()
    recall, precision = plots.precision_recall_curves([WITH_THRESHOLD]).axes[0].lines[0].get_data()
    assert -np.diff(recall) @ precision[:-1] == pytest.approx(WITH_THRESHOLD.average_precision)


def test_histogram_shows_all_of_each_class_and_the_threshold():
    fig = plots.score_histogram(WITH_THRESHOLD)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [
        "normal (n = 60)",
        "anomaly (n = 20)",
        "threshold 7",
    ]
    assert fig.axes[0].lines[-1].get_xdata()[0] == 7


def test_confusion_matrix_shows_counts_and_shares_of_the_truth():
    words = [text.get_text() for text in plots.confusion_matrix(WITH_THRESHOLD).axes[0].texts]
    table = WITH_THRESHOLD.confusion
    assert words[0] == f"{table[0, 0]}\n{table[0, 0] / 60:.1%}"
    assert words[3] == f"{table[1, 1]}\n{table[1, 1] / 20:.1%}"


def test_each_row_of_images_has_its_own_white_and_its_name_on_the_left():
    rows = {"input": np.full((4, 8, 8), 255), "error": np.full((4, 8, 8), 0.5)}
    fig = plots.image_rows(rows, ["normal"] * 3 + ["anomaly"], colors={"anomaly": plots.ANOMALY})
    axes = np.array(fig.axes).reshape(2, 4)
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["input", "error"]
    assert [axis.images[0].get_clim() for axis in axes[:, 3]] == [(0, 255), (0, 0.5)]
    assert [axis.get_title() for axis in axes[0]] == ["normal"] * 3 + ["anomaly"]
    assert axes[0, 3].title.get_color() == plots.ANOMALY


def test_heatmaps_share_one_colour_scale_and_outline_the_mask_beside():
    fig = plots.heatmaps(PICTURES, MAPS, MASKS)
    overlays = [axis.images[1] for axis in fig.axes if len(axis.images) == 2]
    assert len(overlays) == 3
    assert {overlay.get_clim() for overlay in overlays} == {overlays[0].get_clim()}
    assert overlays[0].get_clim()[1] == pytest.approx(MAPS.max())
    assert [len(axis.collections) for axis in fig.axes[:3]] == [0, 2, 2]  # the first has no anomaly
    outline = fig.axes[1].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([*outline.min(axis=0), *outline.max(axis=0)], [29.5, 9.5, 49.5, 19.5], atol=0.51)


def test_arrays_are_shown_in_colours_of_one_scale_masks_and_images_as_they_are():
    fig = plots.arrays({"image": PICTURES[0], "mask": MASKS[1], "one": MAPS[0], "two": MAPS[1]}, limits=(0, 3))
    image, mask, *maps = [axis.images[0] for axis in fig.axes]
    np.testing.assert_array_equal(image.get_array(), PICTURES[0])
    assert mask.get_cmap().name == "gray"
    assert [shown.get_clim() for shown in maps] == [(0, 3), (0, 3)]
    assert [axis.get_title() for axis in fig.axes] == ["image", "mask", "one", "two"]


def test_images_can_be_paths_and_grey(tmp_path):
    plt.imsave(tmp_path / "a.png", PICTURES[0])
    shown = plots.images([tmp_path / "a.png"]).axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, PICTURES[0])
    grey = plots.images(PICTURES[:, :, :, :1]).axes[0].images[0].get_array()
    np.testing.assert_array_equal(grey, np.repeat(PICTURES[0, :, :, :1], 3, axis=2))


def test_decision_regions_draw_the_threshold_where_there_is_one():
    fig = plots.decision_regions(FITTED, POINTS, Y, resolution=30)
    sets = [axis.findobj(mpl.contour.ContourSet) for axis in fig.axes[:2]]
    assert [sum(not each.filled for each in found) for found in sets] == [1, 0]


def test_the_shades_of_decision_regions_are_an_image_in_vector_graphics(tmp_path):
    plots.decision_regions(FITTED, POINTS, Y, resolution=30).savefig(tmp_path / "regions.svg")
    svg = (tmp_path / "regions.svg").read_text()
    assert svg.count("<image") == len(FITTED)


def test_comparison_draws_means_and_deviations_in_the_order_of_the_frame():
    axis = plots.comparison(TABLE, "AUROC").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "random score",
        "kNN",
    ]  # from the bottom
    line, _, (bars,) = axis.containers[0]
    np.testing.assert_array_equal(line.get_data(), [[0.9, 0.8], [1, 0]])
    np.testing.assert_allclose(bars.get_segments()[0][:, 0], [0.89, 0.91])


def test_lines_differ_in_colour_marker_and_dashes_and_show_means():
    fig = plots.lines(RUNS, "epochs", "AUROC", by="detector", panels="data")
    assert [axis.get_title() for axis in fig.axes] == ["x", "y"]
    means = RUNS[(RUNS["data"] == "x") & (RUNS["detector"] == "A")].groupby("epochs")["AUROC"].mean()
    drawn = [line for line in fig.axes[0].lines if len(line.get_ydata()) == 2]
    np.testing.assert_allclose(drawn[0].get_ydata(), means)
    [legend] = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["A", "B", "C"]
    # Matplotlib has no public getter of a dash pattern: the line style of every pattern is "--".
    looks = [(line.get_color(), line.get_marker(), str(line._dash_pattern)) for line in legend.legend_handles]
    assert all(len(set(values)) == 3 for values in zip(*looks))


def test_scatter_has_one_point_per_row_and_the_colours_of_normal_and_anomaly():
    frame = RUNS[RUNS["detector"] != "C"]
    fig = plots.scatter(frame, "epochs", "AUROC", by="detector")
    [points] = fig.axes[0].collections
    assert len(points.get_offsets()) == len(frame)
    assert {mpl.colors.to_hex(color) for color in points.get_facecolors()} == {
        plots.NORMAL.lower(),
        plots.ANOMALY.lower(),
    }


@pytest.mark.parametrize(("points", "images"), [(plots.RASTERIZED_FROM - 1, 0), (plots.RASTERIZED_FROM, 1)])
def test_a_scatter_plot_of_many_points_is_an_image_inside_vector_graphics(rng, tmp_path, points, images):
    x, y = rng.normal(size=(2, points))
    fig = plots.scatter(pd.DataFrame({"x": x, "y": y}), "x", "y")
    fig.savefig(tmp_path / "scatter.svg")
    svg = (tmp_path / "scatter.svg").read_text()
    assert svg.count("<image") == images
    assert (svg.count("<use") > points) == (not images)


def test_growth_names_the_exponent_and_leaves_out_what_was_not_measured():
    lines = plots.growth(TIMES).axes[0].lines
    assert "n^{1.00}" in lines[0].get_label()
    assert "n^{2.00}" in lines[1].get_label()
    assert len(lines[1].get_xdata()) == 2


def test_a_critical_difference_figure_shows_each_rank_and_joins_the_cliques():
    axis = plots.critical_difference(RANKS).axes[0]
    dots, *bars = axis.lines
    assert dots.get_xdata().tolist() == RANKS.ranks.tolist()
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == [f"{name}  {rank:.2f}" for name, rank in RANKS.ranks.items()]
    joined = [
        RANKS.ranks.index[round(low + 0.2) : round(high - 0.2) + 1].tolist()
        for low, high in map(Line2D.get_ydata, bars)
    ]
    assert joined == RANKS.cliques and len(joined) > 1


def test_unusable_input_is_refused_with_the_remedy():
    with pytest.raises(MetricError, match="Leave log out"):
        plots.score_histogram(Evaluation("x", Y, SCORES - 100), log=True)
    with pytest.raises(MetricError, match="no threshold"):
        plots.confusion_matrix(WITHOUT)
    with pytest.raises(MetricError, match="two columns only"):
        plots.decision_regions(FITTED, np.zeros((5, 3)))
    with pytest.raises(MetricError, match=r"\(n, 2\)"):
        plots.embedding_scatter(np.zeros((5, 2)), Y)
    with pytest.raises(MetricError, match="a title for each"):
        plots.images(PICTURES, ["only one"])
    with pytest.raises(MetricError, match="of the same length"):
        plots.image_rows({"three": PICTURES, "two": PICTURES[:2]})


def test_use_style_sets_the_look_of_the_figures_a_notebook_draws_itself():
    with mpl.rc_context():
        plots.use_style()
        assert mpl.rcParams["axes.spines.top"] is False
