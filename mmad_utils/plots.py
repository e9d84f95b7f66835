"""Plots of scores, anomaly maps and comparisons; each function returns a Figure.

In all figures, normal samples are blue and anomalies orange-red. Other groups differ in line style or marker as well
as in colour. Figures are closed in pyplot; a notebook shows a figure if it is the last expression of a cell.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import cycle, repeat
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from scipy import stats
from sklearn.metrics import precision_recall_curve, roc_curve

from mmad_utils.datasets.images import read_image
from mmad_utils.metrics import Evaluation, MetricError, resize_maps, threshold_of

if TYPE_CHECKING:
    from mmad_utils.ranking import AverageRanks

__all__ = [
    "arrays",
    "calibration",
    "comparison",
    "confusion_matrix",
    "critical_difference",
    "decision_regions",
    "embedding_scatter",
    "growth",
    "heatmaps",
    "image_rows",
    "images",
    "lines",
    "precision_recall_curves",
    "roc_curves",
    "scatter",
    "score_histogram",
    "use_style",
]

NORMAL, ANOMALY = "#0072B2", "#D55E00"  # blue and vermilion of Okabe and Ito
COLORS = ["#332288", "#44AA99", "#AA4499", "#999933", "#882255", "#117733", "#88CCEE", "#CC6677"]  # Paul Tol
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))]
DASHES = ["", (4, 2), (6, 2, 1, 2), (1, 1.5), (5, 1, 1, 1, 1, 1), (2, 1), (8, 2)]  # like LINES, for seaborn
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
WIDTH = 7.0  # inches, the width of the report's text
RASTERIZED_FROM = 2000  # points; each point of an SVG file takes about 300 bytes
STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "axes.prop_cycle": plt.cycler(color=COLORS),
}


def use_style() -> None:
    """Use the style of this module for all figures, also those that a notebook draws with matplotlib."""
    mpl.rcParams.update(STYLE)


def _styled(draw):
    """Decorator: draw in the style of this module, whatever the settings of the caller are."""

    @functools.wraps(draw)
    def styled(*args, **kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def _subplots(rows=1, columns=1, *, height, width=WIDTH, **options) -> tuple[Figure, np.ndarray]:
    """A figure that is closed in pyplot, and its axes, (rows, columns)."""
    fig, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False, **options)
    plt.close(fig)
    return fig, axes


@_styled
def score_histogram(evaluation: Evaluation, *, log: bool = False, bins: int = 40) -> Figure:
    """Histograms of the anomaly scores of each class, as shares of the class, and the threshold.

    With `log`, the score axis is logarithmic, for positive scores with a long tail.
    """
    scores, names = evaluation.scores, np.where(evaluation.y == 1, "anomaly", "normal")
    if log and scores.min() <= 0:
        raise MetricError(f"log=True needs positive scores; the lowest is {scores.min():.3g}. Leave log out.")
    fig, ((axis,),) = _subplots(height=2.8)
    counts = {name: int((names == name).sum()) for name in ("normal", "anomaly")}
    sns.histplot(
        x=scores, hue=names, hue_order=["normal", "anomaly"], palette=[NORMAL, ANOMALY], bins=bins, ax=axis,
        stat="percent", common_norm=False, element="step", alpha=0.35, log_scale=log, legend=False,
    )  # fmt: skip
    handles: list[Any] = [
        mpl.patches.Patch(facecolor=(color, 0.35), edgecolor=color, label=f"{name} (n = {counts[name]})")
        for name, color in (("normal", NORMAL), ("anomaly", ANOMALY))
    ]
    if evaluation.threshold is not None and np.isfinite(evaluation.threshold):
        label = f"threshold {evaluation.threshold:.3g}"
        handles.append(axis.axvline(evaluation.threshold, color="black", ls="--", lw=1.2, label=label))
    axis.set(xlabel=f"anomaly score of {evaluation.name}", ylabel="share of the class")
    axis.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


@_styled
def roc_curves(evaluations: Sequence[Evaluation]) -> Figure:
    """ROC curves, with the area under each curve in the legend."""
    fig, ((axis,),) = _subplots(height=3.6)
    for evaluation, look in zip(evaluations, _looks()):
        false, true, _ = roc_curve(evaluation.y, evaluation.scores, drop_intermediate=False)
        axis.plot(false, true, label=f"{evaluation.name} ({evaluation.auroc:.3f})", **look)
    axis.plot([0, 1], [0, 1], color="0.6", lw=1, label="random score (0.500)")
    axis.set(xlabel="false-positive rate", ylabel="true-positive rate (recall)")
    return _unit_square_with_legend(fig, axis, "AUROC")


@_styled
def precision_recall_curves(evaluations: Sequence[Evaluation]) -> Figure:
    """Precision-recall curves, with their average precision; the anomaly rate is that of a random score."""
    fig, ((axis,),) = _subplots(height=3.6)
    for evaluation, look in zip(evaluations, _looks()):
        precision, recall, _ = precision_recall_curve(evaluation.y, evaluation.scores)
        found = recall > 0  # without the point at recall 0, which scikit-learn adds
        recall, precision = np.append(recall[found], 0), np.append(precision[found], precision[found][-1])
        label = f"{evaluation.name} ({evaluation.average_precision:.3f})"
        axis.plot(recall, precision, drawstyle="steps-post", label=label, **look)
    for rate in sorted({float(evaluation.y.mean()) for evaluation in evaluations}):
        axis.axhline(rate, color="0.6", lw=1, label=f"random score ({rate:.3f})")
    axis.set(xlabel="recall", ylabel="precision")
    return _unit_square_with_legend(fig, axis, "average precision")


@_styled
def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Confusion matrix at the threshold of the detector: counts, and shares of each true class (colour)."""
    table = evaluation.confusion
    if table is None:
        raise MetricError(f"{evaluation.name} has no threshold, so there are no alarms. Use a detector with offset_.")
    shares = table / table.sum(axis=1, keepdims=True)
    text = [[f"{n}\n{share:.1%}" for n, share in zip(*rows)] for rows in zip(table, shares)]
    fig, ((axis,),) = _subplots(height=2.6, width=3.6)
    sns.heatmap(
        shares, annot=np.array(text), fmt="", vmin=0, vmax=1, cmap="Blues", cbar=False, square=True, ax=axis,
        xticklabels=["no alarm", "alarm"], yticklabels=["normal", "anomaly"], linewidths=1, annot_kws={"size": 10},
    )  # fmt: skip
    axis.set(ylabel="truth", title=evaluation.name)
    axis.tick_params(length=0, labelrotation=0)
    return fig


@_styled
def images(images, titles: Sequence[str] | None = None, *, columns: int = 5) -> Figure:
    """Images in a grid.

    Parameters
    ----------
    images : (n, H, W, C) uint8 or sequence of paths or of (H, W, C) uint8
    titles : n strings
    columns : int
    """
    return _image_grid(images, titles, columns, rows_each=1)[0]


@_styled
def image_rows(
    rows: Mapping[str, Any], titles: Sequence[str] = (), *, colors: Mapping[str, str] | None = None
) -> Figure:
    """Rows of small images, with the name of each row to its left.

    Parameters
    ----------
    rows : {name: (n, H, W) or (n, H, W, C) array}
        Images of one channel are grey: zero is black, the maximum of the row is white. All rows have n images.
    titles : n strings, optional
        Titles above the images of the first row.
    colors : {title: colour}, optional
        Colours of the titles.

    Returns
    -------
    Figure

    Raises
    ------
    MetricError
        The rows have different numbers of images, or no images.
    """
    lengths = {name: len(images) for name, images in rows.items()}
    if len(set(lengths.values())) != 1 or not all(lengths.values()):
        raise MetricError(f"rows have {lengths} images: give rows of the same length.")
    n, height, width = np.shape(next(iter(rows.values())))[:3]
    fig, axes = _subplots(len(rows), n, height=0.3 + len(rows) * (WIDTH - 1) / n * height / width)
    for line, (name, images) in zip(axes, rows.items()):
        white = max(float(np.max(images)), 1e-9)
        for axis, image in zip(line, images):
            axis.imshow(image, cmap="gray", vmin=0, vmax=white)
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, size=8.5, color=(colors or {}).get(title, "black"))
    return fig


@_styled
def arrays(
    named: Mapping[str, Any], *, limits: tuple[float, float] | None = None, label: str | None = None
) -> Figure:
    """Images, masks and anomaly maps in one row, with their names as titles.

    Parameters
    ----------
    named : {name: array}
        (H, W, C) images are shown as they are, (H, W) bool in black and white, other (H, W) arrays in colours.
    limits : (low, high), optional
        Values at the ends of the colour scale; default: minimum and maximum of each array.
    label : str, optional
        Label of a colour bar for the last array; without a label, no colour bar is drawn.
    """
    width = min(WIDTH, 2.4 * len(named))
    fig, axes = _subplots(1, len(named), width=width, height=0.95 * width / len(named) + 0.25)
    low, high = limits or (None, None)
    for axis, (name, array) in zip(axes[0], named.items()):
        array = np.asarray(array)
        scale = {"cmap": "gray"} if array.dtype == bool else {"cmap": "inferno", "vmin": low, "vmax": high}
        shown = axis.imshow(array, **({} if array.ndim == 3 else scale))
        axis.set_title(name)
        axis.set_axis_off()
    if label is not None:
        fig.colorbar(shown, ax=axes[0], label=label, shrink=0.8)
    return fig


@_styled
def heatmaps(
    images, maps, masks=None, titles: Sequence[str] | None = None, *, columns: int = 5, limits=None
) -> Figure:
    """Images with the outline of the true anomaly, and below them the same images overlaid with the anomaly map.

    Parameters
    ----------
    images : (n, H, W, C) uint8 or sequence of paths
    maps : (n, h, w) float, higher is more anomalous; any resolution
    masks : (n, H, W) bool or None
    titles : n strings
    columns : int
    limits : (low, high) scores at the ends of the colour scale, default: the 5th percentile and the maximum
        All images have the same colour scale, so their colours are comparable.
    """
    maps = np.asarray(maps, dtype=np.float32)
    low, high = (np.quantile(maps, 0.05), maps.max()) if limits is None else limits
    fig, axes, shown = _image_grid(images, titles, columns, rows_each=2, extra_height=0.75)
    for i, image in enumerate(shown):
        size = image.shape[:2]
        axes[1][i].imshow(image.mean(axis=2), cmap="gray", vmin=-150, vmax=255)  # pale grey below the colours
        one = resize_maps(maps[i : i + 1], size)[0]
        drawn = axes[1][i].imshow(one, cmap="inferno", alpha=0.6, vmin=low, vmax=high)
        if masks is not None and masks[i].any():
            rows, cols = (np.linspace(0, length - 1, n) for length, n in zip(size, masks[i].shape))
            for color, line in (("black", 2.2), ("white", 1.1)):
                axes[0][i].contour(cols, rows, masks[i], levels=[0.5], colors=color, linewidths=line)
    fig.colorbar(drawn, ax=fig.axes, label="anomaly score", location="bottom", fraction=0.05, pad=0.01, aspect=50)
    return fig


@_styled
def decision_regions(detectors: Mapping[str, Any], X, y=None, *, columns: int = 4, resolution: int = 120) -> Figure:
    """Decision regions of detectors that were fitted on two columns, one panel per detector.

    A darker shade is more anomalous. The shade is the rank of the score within the panel, because the scores of
    different detectors have different units. The line is the threshold, if the detector has one.

    Parameters
    ----------
    detectors : {name: fitted estimator with score_samples}
    X : (n, 2) float, the samples to draw
    y : (n,) int, 0 normal, 1 anomaly, default: all normal
    columns, resolution : int, number of panels per row; number of grid points per side
    """
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or X.shape[1] != 2:
        raise MetricError(f"X has shape {X.shape}; decision regions can be drawn for two columns only.")
    y = np.zeros(len(X), int) if y is None else np.asarray(y)
    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.15 * (high - low)
    sides = [np.linspace(a, b, resolution) for a, b in zip(low - margin, high + margin)]
    grid = np.stack([side.ravel() for side in np.meshgrid(*sides)], axis=1)
    columns = min(columns, len(detectors))
    rows = -(-len(detectors) // columns)
    fig, axes = _subplots(rows, columns, height=WIDTH / columns * rows + 0.35, sharex=True, sharey=True)
    shades = mpl.colors.LinearSegmentedColormap.from_list("shades", ["white", "0.6"])
    for (name, detector), axis in zip(detectors.items(), axes.flat):
        scores = -detector.score_samples(grid)
        ranks = stats.rankdata(scores) / len(scores)
        levels = np.linspace(0, 1, 11)
        filled = axis.contourf(*sides, ranks.reshape(resolution, resolution), levels=levels, cmap=shades)
        filled.set_rasterized(True)
        threshold = threshold_of(detector)
        if threshold is not None and scores.min() < threshold < scores.max():
            margins = (scores - threshold).reshape(resolution, resolution)
            axis.contour(*sides, margins, levels=[0], colors="black", linewidths=1.2)
        _scatter(axis, X, y, size=9, rasterized=len(X) * len(detectors) >= RASTERIZED_FROM)
        axis.set_title(name)
        axis.grid(False)
    for axis in axes.flat[len(detectors) :]:
        axis.set_axis_off()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    handles.append(mpl.lines.Line2D([], [], color="black", lw=1.2))
    fig.legend(handles, [*labels, "threshold"], loc="outside lower center", ncols=3, markerscale=1.6)
    return fig


@_styled
def lines(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    by: str | None = None,
    panels: str | None = None,
    error: Any = "sd",
    height: float = 2.8,
    **axes: Any,
) -> Figure:
    """Line plot of the mean of ``y`` over ``x``, with error bars.

    Parameters
    ----------
    frame : DataFrame in long form
        One row per measurement. Rows with equal values of ``x``, ``by`` and ``panels`` are averaged.
    x, y : str
        Names of numeric columns.
    by, panels : str, optional
        Names of columns. Each value of ``by`` is a line with its own colour, marker and dashes. Each value of
        ``panels`` is a panel; the panels are side by side and share their axes.
    error : seaborn's ``errorbar``, default="sd"
        None draws no error bars.
    height : float, default=2.8
        Height of the figure, in inches.
    **axes
        Passed to ``Axes.set``, as in ``ylim=(0, 1), xscale="log"``.

    Returns
    -------
    Figure
    """
    groups = frame[by].nunique() if by else 1
    styles = {"markers": MARKERS[:groups], "dashes": DASHES[:groups], "style": by} if by else {"marker": MARKERS[0]}
    aspect = WIDTH / height / (frame[panels].nunique() if panels else 1)
    grid = sns.relplot(
        frame, x=x, y=y, hue=by, palette=COLORS[:groups] if by else None, col=panels, kind="line", errorbar=error,
        err_style="bars", height=height, aspect=aspect, facet_kws={"legend_out": False}, **styles,
    )  # fmt: skip
    return _finished(grid, axes)


@_styled
def scatter(
    frame: pd.DataFrame, x: str, y: str, *, by: str | None = None, panels: str | None = None, height: float = 3.0,
    colors: Sequence[str] = (NORMAL, ANOMALY), **axes: Any,
) -> Figure:  # fmt: skip
    """Scatter plot with one point per row of ``frame``; the parameters are those of `lines`.

    ``colors`` are the colours of the values of ``by`` in their order of appearance; the default is for normal and
    anomaly. If there are more values than colours, `COLORS` is used. From `RASTERIZED_FROM` points on they are stored
    as pixels in vector graphics.
    """
    groups = frame[by].nunique() if by else 1
    palette = list(colors)[:groups] if groups <= len(colors) else COLORS[:groups]
    styles = {"style": by, "hue": by, "palette": palette, "markers": MARKERS[:groups]} if by else {}
    aspect = WIDTH / height / (frame[panels].nunique() if panels else 1)
    drawn = {"s": 18, "linewidth": 0, "rasterized": len(frame) >= RASTERIZED_FROM}
    grid = sns.relplot(frame, x=x, y=y, col=panels, height=height, aspect=aspect, facet_kws={"legend_out": False},
                       **drawn, **styles)  # fmt: skip
    return _finished(grid, axes)


def _finished(grid: sns.FacetGrid, axes: Mapping[str, Any]) -> Figure:
    """The figure of a seaborn grid, with short titles and the legend above; it is closed in pyplot."""
    grid.set_titles("{col_name}").set(**axes)
    fig, legend = grid.figure, grid.legend
    fig.set_layout_engine("constrained")
    if legend is not None:
        handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
        legend.remove()
        fig.legend(handles, names, loc="outside upper center", ncols=min(len(names), 4))
    plt.close(fig)
    return fig


@_styled
def embedding_scatter(points, y, *, names: tuple[str, str] = ("component 1", "component 2")) -> Figure:
    """Scatter plot of samples in two dimensions, (n, 2), such as the first two principal components."""
    points, y = np.asarray(points), np.asarray(y)
    if points.ndim != 2 or points.shape[1] != 2 or len(y) != len(points):
        raise MetricError(f"points have shape {points.shape} and y has shape {y.shape}; expected (n, 2) and (n,).")
    fig, ((axis,),) = _subplots(height=3.8, width=5.2)
    _scatter(axis, points, y, size=14)
    axis.set(xlabel=names[0], ylabel=names[1])
    fig.legend(loc="outside upper center", ncols=2)
    return fig


@_styled
def comparison(
    frame: pd.DataFrame, metric: str = "AUROC", *, group: str | None = None, reference: str | None = None
) -> Figure:
    """Mean of a metric for each detector, with error bars of one standard deviation.

    Parameters
    ----------
    frame : DataFrame
        The index holds the names of the detectors; the columns are `mean` and, optionally, `sd`. Detectors are drawn
        in the order of the frame.
    metric : str, the label of the axis
    group : str, name of a column (such as the data set); one panel is drawn per value
    reference : str, a detector whose mean is drawn as a dashed line
    """
    groups = [("", frame)] if group is None else list(frame.groupby(group, sort=False))
    names = list(dict.fromkeys(frame.index))[::-1]
    fig, axes = _subplots(1, len(groups), height=0.95 + 0.23 * len(names), sharey=True)
    for (title, part), axis in zip(groups, axes[0]):
        heights = [names.index(name) for name in part.index]
        spread = part["sd"].fillna(0) if "sd" in part else None
        axis.errorbar(part["mean"], heights, xerr=spread, fmt="o", ms=5, color=COLORS[0], elinewidth=1.4, capsize=2.5)
        if reference is not None:
            line = axis.axvline(part["mean"][reference], color="0.4", ls="--", lw=1, zorder=0)
        axis.set(xlabel=metric, title=title)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(-0.6, len(names) - 0.4)
    if reference is not None:
        fig.legend([line], [reference], loc="outside upper right")
    return fig


@_styled
def growth(frame: pd.DataFrame, *, xlabel: str = "training samples n", ylabel: str = "seconds") -> Figure:
    """Time against size on logarithmic axes; the legend contains the exponent of the fitted power law.

    Parameters
    ----------
    frame : DataFrame, index: sizes; one column of times per method (NaN if not measured)
    """
    fig, ((axis,),) = _subplots(height=3.2)
    for name, look, marker in zip(frame.columns, _looks(), cycle(MARKERS)):
        times = frame[name].dropna()
        n = np.asarray(times.index, dtype=float)
        exponent = np.polyfit(np.log(n), np.log(times.to_numpy()), 1)[0]
        axis.plot(n, times, marker=marker, ms=4.5, label=rf"{name}  $\propto n^{{{exponent:.2f}}}$", **look)
    axis.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    fig.legend(loc="outside right upper")
    return fig


@_styled
def calibration(frame: pd.DataFrame, *, n_normal: int | None = None) -> Figure:
    """Measured against nominal false-alarm rate.

    Parameters
    ----------
    frame : DataFrame, index: nominal rates in (0, 1); one column of measured rates for each kind of threshold
    n_normal : int, number of normal test samples
        If given, the 95% interval of the measured rate is shaded, for a true rate equal to the nominal rate
        (binomial distribution).
    """
    fig, ((axis,),) = _subplots(height=3.4)
    nominal = np.asarray(frame.index, dtype=float)
    line = np.geomspace(nominal.min(), nominal.max(), 100)
    if n_normal is not None:
        low, high = (stats.binom.ppf(q, n_normal, line) / n_normal for q in (0.025, 0.975))
        axis.fill_between(line, low, high, color="0.88", lw=0, label=f"95% interval, n = {n_normal}")
    axis.plot(line, line, color="0.4", lw=1, label="measured = nominal")
    for name, look, marker in zip(frame.columns, _looks(), cycle(MARKERS)):
        axis.plot(nominal, frame[name], marker=marker, ms=4.5, label=name, **look)
    axis.set(xscale="log", yscale="log", xlabel="nominal false-alarm rate", ylabel="measured false-alarm rate")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(LogLocator(subs=(1, 2, 5)))
        one.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
        one.set_minor_formatter(NullFormatter())
    fig.legend(loc="outside right upper")
    return fig


@_styled
def critical_difference(compared: AverageRanks) -> Figure:
    """Average ranks of detectors; bars connect groups without a significant difference (Demšar 2006).

    The best detector is at the top. Each detector has its own row, unlike in the paper, where all names are along one
    axis; this leaves space for long names.
    """
    ranks = compared.ranks
    fig, ((axis,),) = _subplots(height=0.75 + 0.25 * len(ranks))
    rows = {name: row for row, name in enumerate(ranks.index)}
    axis.plot(ranks, range(len(ranks)), "o", ms=5, color=COLORS[0])
    for i, names in enumerate(compared.cliques):
        ends = [rows[names[0]] - 0.2, rows[names[-1]] + 0.2]
        at = 1.02 + 0.02 * i  # as a share of the width of the axis
        axis.plot([at, at], ends, color="0.2", lw=3, transform=axis.get_yaxis_transform(), clip_on=False)
    axis.set(xlabel=f"average rank on {compared.n_datasets} data sets", xlim=(0.8, len(ranks) + 0.2))
    axis.set_xticks(range(1, len(ranks) + 1))
    axis.set_yticks(range(len(ranks)), [f"{name}  {rank:.2f}" for name, rank in ranks.items()])
    axis.set_ylim(len(ranks) - 0.5, -0.5)
    return fig


def _looks():
    """Yield colour and line style of each curve; the pairs repeat after 40 curves."""
    return ({"color": color, "ls": line} for color, line in zip(cycle(COLORS), cycle(LINES)))


def _unit_square_with_legend(fig, axis, title) -> Figure:
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    fig.legend(loc="outside right upper", title=title, alignment="left")
    return fig


def _scatter(axis, points, y, *, size, **drawn) -> None:
    for label, name, color, marker in ((0, "normal", NORMAL, "o"), (1, "anomaly", ANOMALY, "^")):
        if (y == label).any():
            x1, x2 = points[y == label].T
            area = size * (1 + label)  # a triangle looks smaller than a disc
            axis.scatter(x1, x2, s=area, c=color, marker=marker, lw=0.3, edgecolors="white", label=name, **drawn)


def _image_grid(images, titles, columns, *, rows_each, extra_height=0.0):
    """Show images in bands of `rows_each` rows with `columns` images; return figure, axes (rows_each, n), images."""
    if not len(images) or (titles is not None and len(titles) != len(images)):
        raise MetricError(f"{len(images)} images, titles {titles}: give at least one image, and a title for each.")
    images = [read_image(image) for image in images]
    columns = min(columns, len(images))
    bands = -(-len(images) // columns)
    side = min(WIDTH / columns, 2.4)
    tallest = side * max(image.shape[0] / image.shape[1] for image in images)
    height = bands * (rows_each * tallest + (titles is not None) * 0.22) + extra_height
    fig, axes = _subplots(bands * rows_each, columns, width=side * columns, height=height)
    for axis in axes.flat:
        axis.set_axis_off()
    axes = axes.reshape(bands, rows_each, columns).swapaxes(0, 1).reshape(rows_each, -1)
    for axis, image, title in zip(axes[0], images, titles if titles is not None else repeat("")):
        axis.imshow(image)
        axis.set_title(title)
    return fig, axes, images
