# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own data
#
# The data of the other notebooks are clean, with labels and a split. A file from a factory or a hospital contains
# numbers, words, dates and missing values, and often nobody knows which rows are anomalous. This notebook reads such a
# file, or a folder of images. It compares detectors, scores every sample, explains the highest scores, and saves a
# detector for later files.
#
# **You will learn**
#
# - how a date, a category or a missing value is encoded before a detector compares rows;
# - how to compare detectors within a time budget, with labels and without labels;
# - why agreement and stability, which can be measured without labels, are no evidence of quality;
# - how to set a nominal false-alarm rate, and what it means when the training rows contain anomalies;
# - how to find which values raised an alarm, for any detector.
#
# Reading takes about 30 minutes, running about one minute. You need the concepts of notebooks 00 and 00b. The
# data of the example come with scikit-learn.
#
# Terms, explained in English and Chinese in the [glossary](glossary.md): [calibration](glossary.md#Calibration),
# [conformal p-value](glossary.md#Conformal-p-value), [false-alarm rate](glossary.md#False-alarm-rate),
# [contamination](glossary.md#Contamination), [distance-to-centre
# baseline](glossary.md#Distance-to-centre-baseline).

# %% [markdown]
# ## Parameters
#
# To use a file of your own, change the cell below in JupyterLab, or run the notebook from a shell in any folder. Three
# commands lead from a file to daily scores. The first one fits and saves a detector. The second one prints how the
# detector was made. The third one scores a new file and is repeated every day:
#
# ```
# python -m mmad_utils.course run 11_your_data -p csv mine.csv -p label outcome -p output results
# python -m mmad_utils.score --describe results/detector.safetensors
# python -m mmad_utils.score results/detector.safetensors tomorrow.csv -o scores.csv
# ```
#
# Without `csv` and `images` the notebook writes an example file and uses it.

# %% tags=["parameters"]
csv: str = ""  # a table: .csv, .csv.gz, .xlsx or .parquet
images: str = ""  # or a folder of images; the names of its folders (good, bad, 正常, ...) are the labels
label: str = ""  # column of the labels, if there is one: 0 and 1, normal and anomaly, ok and NG, 正常 and 异常, ...
normal_label: str = ""  # the label of normal rows, if it is none of these
decimal: str = ""  # "." or ",", if a column of numbers can be read in two ways
encoding: str = "utf-8"  # of the CSV file
detectors: str = "quick"  # or "thorough", or class names with commas between them
minutes: float = 1.0  # time to compare the detectors
repeats: int = 3  # random halves on which each detector is compared, at least 1
max_samples: int | None = None  # for comparison and training, at least 20; None: 20,000 rows or 200 images
false_alarms: float = 0.05  # nominal false-alarm rate, at most 0.5
output: str = ""  # folder for the results, relative to the current one; "" is build/<profile>/your_data
seed: int = 0  # of every random draw

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import clear_output, display
from sklearn.decomposition import PCA

# %%
from mmad_utils import CalibratedDetector, ColumnEncoder, Detector, metrics, plots, ranking
from mmad_utils.calibrated import cross_fit_scores
from mmad_utils.course import alarm_page, notebook
from mmad_utils.course.results import png_bytes
from mmad_utils.datasets import user_files
from mmad_utils.datasets.folders import user_path
from mmad_utils.datasets.record import DatasetError, file_hash
from mmad_utils.datasets.take import take
from mmad_utils.detector import check_share, check_whole
from mmad_utils.encoders.columns import describe_columns, kinds_of
from mmad_utils.files import write_atomic

# %%
pd.set_option("display.html.use_mathjax", False)  # a column named $x$ is shown as text
nb = notebook.start("11_your_data")
folder = user_path(output) if output else nb.results.output / "your_data"

# %% [markdown]
# Invalid parameters are refused here, before any file is read.

# %%
check_share("minutes", minutes, np.inf)
check_share("false_alarms", false_alarms, 0.5)
check_whole("repeats", repeats, 1)
if max_samples is not None:
    check_whole("max_samples", max_samples, 20)

# %%
if csv and images:
    raise DatasetError("csv and images are both given: run the notebook once for each.")

# %% [markdown]
# ## 1. Read and check the file
#
# The example is made from the breast cancer data of the earlier notebooks. Here each row is normal (benign) or an
# anomaly (malignant). The next function returns all rows of a data set with their labels.


# %%
def labelled_table(name: str, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """All rows of a data set, and their labels."""
    data = nb.load(name, seed=seed)
    X = pd.DataFrame(np.concatenate([data.X_train, data.X_test]), columns=list(data.feature_names))
    return X, np.concatenate([np.zeros(len(data.X_train), dtype=int), data.y_test])


# %% [markdown]
# The example has thirty malignant rows among the benign ones. It gets properties that files from practice have: missing
# values, a case number, a category, a date and a constant column. None of the added columns depends on the diagnosis.


# %%
def example_table() -> pd.DataFrame:
    """Breast cancer data in the form of a file from a hospital."""
    X, y = labelled_table("breast_cancer")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:30]]))
    n, table = len(chosen), X.iloc[chosen, :10].reset_index(drop=True)
    for name in ("mean texture", "mean symmetry"):
        table.loc[rng.random(n) < 0.06, name] = np.nan
    table.insert(0, "case", [f"C-{number}" for number in rng.permutation(n) + 1000])
    table["hospital"] = rng.choice(["north", "south", "harbour"], n, p=[0.6, 0.3, 0.1])
    table["examined"] = pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    return table.assign(unit="µm", diagnosis=np.where(y[chosen] == 1, "malignant", "benign"))


# %% [markdown]
# The reader determines the separator, the header and the number format of each column (decimal comma, thousands, units)
# from the whole file. It prints these decisions. It also prints each cell that is not a number although its column
# contains numbers; such a cell is a missing value.
#
# A file that can be read in two ways is refused. The message names the row and the parameter that decides. Examples are
# a column in which every cell looks like `1,024`, temperatures in both °C and °F, and labels with an unknown meaning.
#
# For a folder of images the reader recognises the layout by the names of folders and files. It prints how many normal
# images, anomalies and masks it found, and which files it ignored. If two layouts fit, it refuses the folder and
# describes both.

# %%
example = not (csv or images)
if images:
    samples = user_files.read_pictures(images)
elif csv:
    samples = user_files.read_table(csv, label, encoding, normal_label=normal_label or None, decimal=decimal or None)
else:
    write_atomic(folder / "example.csv", example_table().to_csv(index=False).encode())
    samples = user_files.read_table(folder / "example.csv", "diagnosis")

# %%
print(f"{samples.path.name}: {len(samples.X)} samples")
print(*samples.notes, sep="\n")

# %% [markdown]
# **Encoding the columns.** Detectors compare rows by distances or by splits of single columns. A distance depends
# mostly on the column with the largest numbers. `ColumnEncoder` therefore brings all columns to a similar scale. It
# subtracts the median, divides by the interquartile range and applies $\operatorname{arcsinh}$, which is linear near
# zero and logarithmic for large values. So one extreme value has a limited influence.
#
# A category becomes one column of zeros and ones per value. A date becomes a number of days, with weekday and time of
# day as sine and cosine. A column that is constant, duplicated, or text with a different value in each row is left out.
#
# The table below shows the kind of each column, the share of missing values and the encoding. A column without a kind is
# left out.

# %%
table = samples.modality == "tabular"
if table:
    columns = describe_columns(samples.X)
else:
    folders = pd.Series([str(Path(name).parent) for name in samples.names], name="folder")
    columns = folders.value_counts().rename("images").reset_index()
encoder = ColumnEncoder(kinds_of(columns)) if table else None
columns.round(3)

# %% tags=["claim"]
if example:
    kinds = columns.set_index("column")["kind"]
    assert set(kinds.index[kinds == ""]) == {"case", "unit"}  # an identifier and a constant are left out
    assert kinds["examined"] == "date %Y-%m-%d"

# %% [markdown]
# ## 2. Plot the samples
#
# At most `max_samples` samples are drawn at random for the comparison and for training. Section 5 scores all samples.

# %%
most = max_samples or (20_000 if table else 200)
rows = ranking.subsample(len(samples.X), samples.y, most=most, seed=seed)
X, y = take(samples.X, rows), None if samples.y is None else samples.y[rows]
print(f"{len(rows)} of {len(samples.X)} samples are used for comparison and training.")

# %%
group = np.full(len(samples.X), "all samples")
if samples.y is not None:
    group = np.where(samples.y == 1, "anomaly", "normal")
groups = {name: group == name for name in sorted(set(group), reverse=True)}  # normal samples first

# %% [markdown]
# For a table we plot the first two principal components of the encoded columns. They are the directions of largest
# variance. Look for groups, stripes and isolated points: many of them are errors in the file. For a folder we show
# five images.

# %%
if table:
    numbers = encoder.fit(X).transform(X)[:2000]
    numbers = np.column_stack([numbers, np.zeros(len(numbers))])  # PCA(2) needs two columns
    shown = pd.DataFrame(PCA(2, random_state=seed).fit_transform(numbers), columns=["component 1", "component 2"])
    shown = shown.assign(group=group[rows[:2000]]).sort_values("group", ascending=False)
    fig = plots.scatter(shown, "component 1", "component 2", by="group")
else:
    fig, shown = plots.images(X[:5]), pd.DataFrame({"image": samples.names[rows[:5]]})
overview = "Scatter plot of the first two principal components." if table else "Five of the images in a row."
nb.figure(fig, "your_overview", data=shown, overview=overview)

# %% [markdown]
# ## 3. Compare detectors
#
# Which detector fits these samples? A detector must not be evaluated on samples that it was trained on. In each repeat
# the normal samples are therefore divided into two random halves. One clone of each detector is trained on the first
# half, another clone on the second half. Each is evaluated on samples that it was not trained on.
#
# With labels, the measures are AUROC and average precision. Without labels, all rows are divided into halves, which
# assumes that anomalies are rare. Then only two properties of the scores can be measured:
#
# - **stability** is the rank correlation between the scores of the two clones, and `top` is the share of the highest
#   5% of scores that both have in common;
# - **agreement** is the rank correlation with the mean rank of the other detectors.
#
# A third measure, for tables only, needs no labels either. Permute each column separately among the rows that were not
# used for training. Every single value is then realistic, but the relations between the columns are destroyed.
# `shuffled` is the AUROC for distinguishing these rows from real rows. At 0.5 the detector does not use relations
# between columns. The measure does not show whether the anomalies in your file are of this kind.
#
# Two baselines are included. One is a random score. The other is the distance-to-centre baseline `DistanceToCenter`,
# with the score $\lVert z \rVert^2$ for the standardised row $z$. A detector that is not better than both has learned
# nothing useful. Each detector is first timed on a small part of the rows. A detector that would exceed the time
# budget is left out, with the reason in the table.

# %%
chosen = ranking.choose(detectors, samples.modality)
options = {"encoder": encoder, "rate": samples.rate, "repeats": repeats, "minutes": minutes, "seed": seed}
compared = ranking.compare(chosen, X, y, progress=True, **options)
clear_output()  # removes the progress bar

# %%
unneeded = [] if y is None else ["agreement", "stability", "top"]
compared_table = compared.loc[:, (compared != "").any()].drop(columns=unneeded, errors="ignore").round(3)
compared_table = compared_table.astype(object).where(compared_table.notna(), "–")
kept = next(name for name in compared.index if name != ranking.RANDOM_BASELINE)
print(f"Selected: {kept}. Time in seconds per repeat.")
compared_table

# %% tags=["claim"]
if example and detectors == "quick":  # 0.2 is about four standard deviations of the random score
    assert compared.loc[kept, "auroc"] > compared.loc[ranking.RANDOM_BASELINE, "auroc"] + 0.2

# %% [markdown]
# ## 4. Limits of a ranking without labels
#
# Can agreement and stability replace AUROC when there are no labels? We test this on a table with known anomalies. It
# is the breast cancer data again. An anomaly is generated from normal rows by drawing the value of each column from
# another row. Each value is normal by itself, and only the relations between the columns are wrong. The detectors are
# compared twice, once without the labels and once with them.

# %%
X_known, y_known = labelled_table("injected/dependency/breast_cancer", seed)
print(f"{len(X_known)} rows, of which {y_known.sum()} are anomalies")

# %%
quick, settings = ranking.choose("quick", "tabular"), {"encoder": ColumnEncoder(), "repeats": repeats, "seed": seed}
without_labels = ranking.compare(quick, X_known, **settings).drop(ranking.RANDOM_BASELINE)
with_labels = ranking.compare(quick, X_known, y_known, **settings)
measures = without_labels[["agreement", "stability", "shuffled"]].assign(AUROC=with_labels["auroc"])
measures.round(3)

# %%
values = measures.melt("AUROC", var_name="measure", value_name="value without labels", ignore_index=False)
axes = {"x": "value without labels", "y": "AUROC", "xlim": (0.5, 1.03), "ylim": (0.45, 1.05)}
fig = plots.scatter(values.reset_index(), by="detector", panels="measure", **axes)
for axis in fig.axes:
    axis.axhline(0.5, color="0.6", lw=1)
nb.figure(fig, "your_ranking_without_labels", data=measures.reset_index())

# %% [markdown]
# The distance-to-centre baseline is the most stable detector, but its AUROC is only a little above 0.5. It considers
# each column separately, and each column has normal values. Agreement ranks the PCA residual last, although it finds
# nearly every anomaly. The reason is that most of the other detectors measure something else.
#
# High stability means that a detector gives similar scores after training on other samples. High agreement means that
# it gives scores similar to those of the other detectors. Neither means that the scores are correct. The measure
# `shuffled` orders the detectors best in this table, because its artificial anomalies are of the same kind as the true
# ones.
#
# In the example of section 3 the order is reversed. Malignant tumours have large values, and the relations between
# their columns are less unusual. There the distance-to-centre baseline is among the best. The PCA residual, nearly
# perfect here, is close to a random score. A few labels give more information than all three measures.

# %% tags=["claim"]
if example:  # on your own samples the notebook does not stop here
    baseline = measures.loc["DistanceToCenter"]
    assert baseline["stability"] == measures["stability"].max() and baseline["AUROC"] < 0.65
    assert measures["agreement"].idxmin() == "PCAResidual" and measures.loc["PCAResidual", "AUROC"] > 0.95
    correlations = measures.corr("spearman")["AUROC"]
    assert correlations["stability"] < 0 < correlations["agreement"] < correlations["shuffled"]
if example and detectors == "quick":
    assert compared.loc["DistanceToCenter", "auroc"] > 0.9 and compared.loc["PCAResidual", "auroc"] < 0.7

# %% [markdown]
# ## 5. Score every sample
#
# The selected detector now scores the whole file. The normal samples (without labels: all samples) are divided into two
# halves. One clone is trained on the first half and calibrated on the second. The other clone uses the halves in the
# opposite order. Each sample is scored by the clone that was not trained on it.
#
# Calibration converts a score $s$ into a conformal p-value. It counts how many of the $m$ calibration scores $s_i$ are
# at least as high:
#
# $$p = \frac{1 + \#\{i : s_i \ge s\}}{m + 1}.$$
#
# An alarm is raised if $p \le \alpha$, where $\alpha$ is the parameter `false_alarms`. If the calibration samples are
# normal and come from the same distribution as new normal samples, the false-alarm rate is at most $\alpha$ for any
# detector. A sample that is itself in the calibration half is counted once, so its p-value is its rank divided by $m$.
#
# Large files are scored in chunks. A file of a million rows therefore needs little more memory than its table.

# %%
calibrated = CalibratedDetector(chosen[kept], encoder, contamination=false_alarms)
scored = cross_fit_scores(calibrated, samples.X, samples.y, most=most, seed=seed, progress=True)
clear_output()
print(f"{scored.alarms.sum()} of {len(samples.X)} samples raise an alarm.")

# %% [markdown]
# By the formula no p-value is below $1 / (m + 1)$. A small file may therefore have no alarm at a low nominal rate.

# %%
smallest = 1 / (len(scored.detectors[0].tail_.calibration_) + 1)
too_few = f"No p-value can be below {smallest:.3f} with so few samples: no alarm." if smallest > false_alarms else ""
print(too_few or f"The smallest possible p-value is {smallest:.4f}.")

# %% [markdown]
# **Is the nominal rate reached?** With labels we can count the alarms among normal samples.
#
# Without labels the count is no test. The anomalies are then among the calibration samples. The share of alarms equals
# the nominal rate *by construction*, whether the file contains anomalies or not (exercise 4). In this case
# `false_alarms` is the share of rows that you are willing to inspect, and only the order of the scores is informative.

# %%
rates = sorted({0.01, 0.05, 0.1, false_alarms})
shares = {name: [(scored.p_values[which] <= rate).mean() for rate in rates] for name, which in groups.items()}
alarm_rates = pd.DataFrame(shares, index=pd.Index(rates, name="nominal rate"))
alarm_rates.round(3)

# %% tags=["claim"]
if example:
    spread = 4 * np.sqrt(np.array(rates) / groups["normal"].sum())  # four standard deviations of a count
    assert (alarm_rates["normal"] <= np.array(rates) + spread).all()
    assert alarm_rates.loc[false_alarms, "anomaly"] > 0.4

# %% [markdown]
# The score in the next figure is $-\log p$, interpolated linearly between the calibration scores. Above the highest
# calibration score the p-value is constant, so there the score is extrapolated by an exponential tail.

# %%
edges = np.linspace(scored.scores.min(), scored.scores.max(), 41)
counts = pd.DataFrame({"from": edges[:-1], "to": edges[1:]})
counts[list(groups)] = np.column_stack([np.histogram(scored.scores[which], edges)[0] for which in groups.values()])

# %%
fig_scores, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
for name, color in zip(groups, (plots.NORMAL, plots.ANOMALY)):
    axis.stairs(counts[name], edges, fill=True, color=color, alpha=0.5, label=f"{name} ({counts[name].sum()})")
threshold = -np.log(false_alarms)
axis.axvline(threshold, color="black", ls="--", lw=1.2, label=f"alarm at p = {false_alarms:g}")
axis.set(xlabel="score, −log p", ylabel="samples", yscale="log", ylim=(0.7, None))
axis.legend()
described = (
    f"Histogram of {len(samples.X)} scores and threshold {threshold:.1f}; {scored.alarms.sum()} raise an alarm."
)
nb.figure(fig_scores, "your_scores", data=counts, described=described)

# %% [markdown]
# ## 6. Explain the highest scores
#
# An alarm is more useful if the user knows its reason. For a table we ask about each value: by how much would the score
# decrease if this value came from a row without an alarm? The answer is the mean over thirty such rows. Only scores are
# needed, so the method works for any detector.
#
# These score drops do not add up if columns interact. If two values are each normal but inconsistent with each other,
# replacing either of them lowers the score.
#
# For images the detector computes an anomaly map instead.

# %%
top = np.argsort(-scored.scores, kind="stable")[:5]
if table:
    drops = alarm_page.score_drop(scored, samples.X, top, seed=seed)
    reasons, heatmaps = alarm_page.first_alarms(scored, drops, samples.X, samples.names), []
else:
    reasons = alarm_page.scores_table(scored, samples.names, samples.y).iloc[top]
    maps = np.concatenate([scored.detectors[scored.fold[i]].anomaly_map(take(samples.X, [i])) for i in top])
    fig = plots.heatmaps(take(samples.X, top), maps, titles=[f"{score:.1f}" for score in scored.scores[top]])
    heatmaps = [(png_bytes(fig), "Five images with the highest scores, and their anomaly maps below.")]
    display(fig)
reasons.round(3)

# %% tags=["claim"]
if example and detectors == "quick":  # three of five rows: the added columns do not depend on the diagnosis
    measurements = set(samples.X.columns) - {"case", "hospital", "examined", "unit"}
    assert drops.idxmax(axis=1).isin(measurements).mean() >= 0.6

# %% [markdown]
# ## 7. Save the results
#
# Three files are written to the output folder.
#
# - `scores.csv` has one line per sample. Row 1 of your file is its header.
# - `detector.safetensors` contains the first of the two clones, with its encoder and its calibration. The format stores
#   data and no program, so loading a file from an unknown source cannot run code.
# - `report.html` is a page for other people. Names and cells from your file are displayed as text and are never
#   interpreted as HTML.

# %%
scores = alarm_page.scores_table(scored, samples.names, samples.y)
write_atomic(folder / "scores.csv", scores.to_csv(index=False, float_format="%.6g").encode())

# %%
saved = scored.detectors[0]
if samples.path.is_file():
    saved.provenance_["file"] = f"{samples.path.name}, SHA-256 {file_hash(samples.path)}"
saved.save(folder / "detector.safetensors")

# %%
ranked_by = "agreement and stability, which do not show whether the scores are correct" if y is None else "AUROC"
ranking_text = f"Ranked by {ranked_by}, on samples that were not used for training."
alarm_text = ", ".join(f"{share:.1%} of {name}" for name, share in alarm_rates.loc[false_alarms].items())
alarm_text = f"Alarms: {alarm_text}, at a nominal rate of {false_alarms:.1%}. {too_few}"

# %%
sections = [
    ("Data", f"{len(samples.X)} samples. Detector: {kept}.", *samples.notes, columns),
    ("Detectors", ranking_text, compared_table.reset_index()),
    ("Alarms", alarm_text, (png_bytes(fig_scores), described)),
    ("The five highest scores", reasons, *heatmaps),
]
alarm_page.write_page(folder / "report.html", f"Anomalies in {samples.path.name}", sections)
print(f"scores.csv, detector.safetensors and report.html are in {folder}")

# %% [markdown]
# ## In this notebook
#
# - Columns of all types were encoded on one scale. The encoder was fitted on training rows only, and columns without
#   information were left out and reported.
# - With labels, detectors are ranked by AUROC. Without labels, they can only be ranked by agreement and stability. On
#   the table of section 4 the most stable detector was nearly as poor as a random score.
# - Each sample was scored by a detector that was not trained on it. With labels we checked that the nominal
#   false-alarm rate holds.
# - An alarm is explained by replacing one value at a time and computing the score again.
#
# ## Exercises
#
# **1. Predict: anomalies without labels.** The Gaussian detector finds the anomalies of section 4. Do not give the
# labels to `cross_fit_scores`, so that the anomalies are also used for training and calibration. Does it find more
# anomalies or fewer?
#
# <details><summary>Hint</summary>
#
# Compare two measures: AUROC, which depends on the order of the scores only, and the share of anomalies with an alarm,
# which also depends on the calibration. Think about the highest calibration scores.
#
# </details>

# %% tags=["solution"]
gaussian = CalibratedDetector(quick["GaussianAnomalyScorer"], ColumnEncoder())
cases = {"with labels": y_known, "without labels": None}
results = {name: cross_fit_scores(gaussian, X_known, labels, seed=seed) for name, labels in cases.items()}
areas = {name: metrics.auroc(y_known, one.scores) for name, one in results.items()}
found = {name: one.alarms[y_known == 1].mean() for name, one in results.items()}
assert found["without labels"] <= found["with labels"] or not example
pd.DataFrame({"AUROC": areas, "share of anomalies found": found}).round(3)

# %% [markdown] tags=["solution"]
# It finds fewer. Anomalies among the calibration samples have high scores, so the threshold rises. AUROC decreases less,
# as long as anomalies are rare.

# %% [markdown]
# **2. Change: another kind of anomaly.** Load `injected/global/breast_cancer` in section 4. Which detector does not
# recognise shuffled columns? Does it recognise these anomalies?
#
# <details><summary>Hint</summary>
#
# The values of these anomalies are drawn uniformly from a range slightly larger than that of each column. Compare the columns `auroc` and
# `shuffled` of the result of `ranking.compare`.
#
# </details>

# %% tags=["solution"]
X_other, y_other = labelled_table("injected/global/breast_cancer", seed)
other = ranking.compare(quick, X_other, y_other, encoder=ColumnEncoder(), repeats=1, seed=seed)
assert other.loc["DistanceToCenter", "auroc"] > 0.95 > other.loc["DistanceToCenter", "shuffled"] or not example
other[["auroc", "shuffled"]].round(3)

# %% [markdown] tags=["solution"]
# `DistanceToCenter` does not recognise shuffled columns, but it recognises these anomalies. Values drawn from the whole
# range of a column are far from the centre. Which detector is suitable depends on the kind of anomaly that will occur,
# and no measure without labels gives this information.

# %% [markdown]
# **3. Build: scores for a new file.** Load the saved detector and compute p-values with it, as for a new file. For which
# samples do they differ from those in `scores.csv`?
#
# <details><summary>Hint</summary>
#
# `Detector.load` returns the first clone. `scored.fold` is 0 for the samples that this clone scored, and 1 for those
# that it was trained on.
#
# </details>

# %% tags=["solution"]
loaded = Detector.load(folder / "detector.safetensors")
again = loaded.p_values(take(samples.X, range(20)))
held_out = scored.fold[:20] == 0
assert np.allclose(again[held_out], scored.p_values[:20][held_out], atol=2 * smallest)
columns_of_result = {"sample": samples.names[:20], "scores.csv": scored.p_values[:20], "loaded detector": again}
pd.DataFrame(columns_of_result).assign(trained_on=~held_out).round(3)

# %% [markdown] tags=["solution"]
# For samples that this clone scored, the p-values are almost equal. The small difference arises because such a sample is
# one of its own calibration samples, and `cross_fit_scores` counts it only once. The clone was trained on the other
# samples; their p-values in `scores.csv` come from the other clone.
#
# A new file is read by `user_files.read_table("tomorrow.csv", least=1, like=loaded)`. It uses the types, units and number
# formats of the training file, and its `X` is the argument of `p_values`. A missing value in a column without missing
# values in training, and a new category, get the smallest p-value.

# %% [markdown]
# **4. On paper: the share of alarms without labels.** Without labels each half of $m$ samples is scored by the clone that
# is calibrated on the same half. The p-value of a sample is then its rank from above divided by $m$. Show that exactly
# $\lfloor \alpha m \rfloor$ samples of each half raise an alarm if no two scores are equal. Why is this count no
# evidence for anomalies?
#
# <details><summary>Hint</summary>
#
# The p-values of one half are the numbers $1/m, 2/m, \dots, 1$ in some order.
#
# </details>

# %% [markdown] tags=["solution"]
# The highest score has rank 1, the next one rank 2, and so on, so the p-values are $1/m, 2/m, \dots, 1$. Alarms are
# those with $k / m \le \alpha$, that is $k \le \alpha m$, and there are $\lfloor \alpha m \rfloor$ such integers
# $k \ge 1$. The count depends on $\alpha$ and $m$ only. It is the same with and without anomalies.

# %% tags=["solution"]
unlabelled = results["without labels"]
for half in (0, 1):
    in_half = unlabelled.fold == half
    expected = np.floor(0.05 * in_half.sum() + 1e-9)  # 1e-9 for rounding errors of the product
    assert unlabelled.alarms[in_half].sum() == expected or not example
    print(f"half {half}: {unlabelled.alarms[in_half].sum()} alarms, expected {expected:.0f}")

# %% tags=["results"]
if csv:
    nb.results.provenance["data"][samples.path.name] = file_hash(samples.path)
nb.value("samples", len(samples.X))
if samples.y is not None:
    nb.value("kept_auroc", compared.loc[kept, "auroc"], sd=compared.loc[kept, "auroc_sd"])
    nb.value("kept_average_precision", compared.loc[kept, "average_precision"], n=2 * repeats)
most_stable = measures.loc["DistanceToCenter"]
nb.value("most_stable_auroc", most_stable["AUROC"], n=2 * repeats)
nb.value("most_stable_stability", most_stable["stability"], n=repeats)
nb.value("best_hidden_auroc", measures["AUROC"].max(), n=2 * repeats)
nb.value("alarms", int(scored.alarms.sum()), n=len(samples.X))
nb.table(columns.round(3), "your_columns")
nb.table(compared_table.drop(columns="seconds"), "your_ranking")
nb.table(measures.round(3), "your_ranking_without_labels")
nb.table(alarm_rates.round(3), "your_alarm_rates")
nb.finish()

# %% [markdown]
# ## References
#
# - V. Vovk, A. Gammerman, G. Shafer (2005). *Algorithmic Learning in a Random World*. Springer.
# - S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023). Testing for outliers with conformal p-values. *Annals of
#   Statistics* 51(1).
# - M. Q. Ma, Y. Zhao, X. Zhang, L. Akoglu (2023). The need for unsupervised outlier model selection: a review and
#   evaluation of internal evaluation strategies. *SIGKDD Explorations* 25(1).
# - S. Han, X. Hu, H. Huang, M. Jiang, Y. Zhao (2022). ADBench: anomaly detection benchmark. *NeurIPS*.
# - D. Janzing, L. Minorics, P. Blöbaum (2020). Feature relevance quantification in explainable AI: a causal problem.
#   *AISTATS*.
