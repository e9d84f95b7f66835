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
# So far the data came clean, with labels and a split. Yours will not. A file from a shop floor or a clinic has numbers,
# words, dates and gaps in any mixture, and mostly nobody has said which rows are wrong. This notebook takes such a file,
# or a folder of pictures, and returns scores, alarms with reasons, a detector to keep, and a page to hand on. At each
# step it says what was done, and at one step it says what cannot be done.
#
# **You will learn**
#
# - what becomes of a date, a category or a gap before a detector can compare rows;
# - how to compare detectors within a time budget, with labels and without;
# - why agreement and stability, all that one can measure without labels, are no proof of quality;
# - how to promise a rate of false alarms, and what the promise means when the rows are mixed;
# - how to say of any alarm, for any detector, which values raised it.
#
# Key words, explained in English and Chinese in the [glossary](glossary.md): [calibration](glossary.md#Calibration),
# [conformal p-value](glossary.md#Conformal-p-value), [false-alarm rate](glossary.md#False-alarm-rate),
# [contamination](glossary.md#Contamination).

# %% [markdown]
# ## Parameters
#
# Run it on a file of your own, from JupyterLab by changing this cell, or from a shell in any folder. Three commands lead
# from a file to a daily score: the first fits and saves a detector, the second prints what it was made from, and the third,
# to be repeated every day, scores a new file:
#
# ```
# python -m mmad_utils.course run 11_your_data -p csv mine.csv -p label outcome -p output results
# python -m mmad_utils.score --describe results/detector.safetensors
# python -m mmad_utils.score results/detector.safetensors tomorrow.csv -o scores.csv
# ```
#
# Without `csv` and `images` it writes an example and takes that.

# %% tags=["parameters"]
csv: str = ""  # a table: .csv, .csv.gz, .xlsx or .parquet
images: str = ""  # or a folder of images; folders called good, bad, 正常, ... label them, as do public layouts
label: str = ""  # the column of labels, if there is one: 0 and 1, normal and anomaly, ok and NG, 正常 and 异常, ...
normal_label: str = ""  # the label of normal rows, if its meaning is not known
decimal: str = ""  # "." or ",", if a column of numbers can be read in two ways
encoding: str = "utf-8"  # of the CSV file
detectors: str = "quick"  # or "thorough", or class names with commas between them
minutes: float = 1.0  # to compare the detectors
repeats: int = 3  # random halves that each detector is compared on
max_samples: int | None = None  # to compare and learn from; None: 20,000 rows or 200 pictures
false_alarms: float = 0.05  # promised share of alarms among normal samples
output: str = ""  # folder for what is written, relative to the current one; "" is build/<profile>/your_data
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
from mmad_utils.course import notebook
from mmad_utils.course.alarm_page import first_alarms, score_drop, scores_table, write_page
from mmad_utils.course.results import png_bytes
from mmad_utils.datasets import user_files as your_data
from mmad_utils.datasets.folders import user_path
from mmad_utils.datasets.record import DatasetError, file_hash
from mmad_utils.datasets.take import take
from mmad_utils.detector import check_share, check_whole
from mmad_utils.encoders.columns import describe_columns, kinds_of
from mmad_utils.files import write_atomic

# %%
pd.set_option("display.max_colwidth", None)
pd.set_option("display.html.use_mathjax", False)  # a column called $x$ is no formula
nb = notebook.start("11_your_data")
if csv and images:
    raise DatasetError("csv and images are both given: run the notebook once for each.")
folder = user_path(output) if output else nb.results.output / "your_data"

# %%
check_share("minutes", minutes, np.inf)
check_share("false_alarms", false_alarms, 0.5)
check_whole("repeats", repeats, 1)
if max_samples is not None:
    check_whole("max_samples", max_samples, 20)

# %% [markdown]
# ## 1. Read and check
#
# The example is the breast cancer table of the earlier notebooks, made as ugly as files are: thirty tumours among the
# benign samples, a hospital in words, a day of the examination, a number of the case, a column that never changes, and
# gaps. Nothing that was added knows anything of the disease.


# %%
def write_example(path: Path) -> Path:
    """Breast cancer as a file from a clinic."""
    data, rng = nb.load("breast_cancer"), np.random.default_rng(seed)
    X, y = np.concatenate([data.X_train, data.X_test]), np.concatenate([np.zeros(len(data.X_train)), data.y_test])
    kept = rng.permutation(np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:30]]))
    n = len(kept)
    table = pd.DataFrame(X[kept, :10], columns=list(data.feature_names)[:10])
    for name in ("mean texture", "mean symmetry"):
        table.loc[rng.random(n) < 0.06, name] = np.nan
    table.insert(0, "case", [f"C-{number}" for number in rng.permutation(n) + 1000])
    table["hospital"] = rng.choice(["north", "south", "harbour"], n, p=[0.6, 0.3, 0.1])
    days = pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    table["examined"], table["unit"] = days.strftime("%Y-%m-%d"), "µm"
    table["diagnosis"] = np.where(y[kept] == 1, "malignant", "benign")
    write_atomic(path, table.to_csv(index=False).encode())
    return path


# %% [markdown]
# The separator, the header and the number format of each column (decimal comma, thousands, units) are decided from the
# whole file. What was decided is printed below, and so is every cell that is no number in a column of numbers: it counts as
# a gap. A file that can be read in two ways is refused, with the row and the parameter that decides: `1,024` in all cells of
# a column, temperatures in °C and °F, or labels whose meaning is not known.
#
# Of a folder of images the layout is recognised by the names of folders and files, and printed with the numbers of normal,
# anomalous and mask files and what was passed over. A folder that can be read in two ways is refused, with both readings.

# %%
example = not (csv or images)
if images:
    samples = your_data.read_pictures(images)
elif example:
    samples = your_data.read_table(write_example(folder / "example.csv"), "diagnosis")
else:
    samples = your_data.read_table(csv, label, encoding, normal_label=normal_label or None, decimal=decimal or None)
    nb.results.provenance["data"][samples.path.name] = file_hash(samples.path)
print(f"{samples.path.name}: {len(samples.X)} samples")
print(*samples.notes, sep="\n")
nb.value("samples", len(samples.X))

# %% [markdown]
# A detector wants numbers that can be compared: a distance that adds metres to millions hears only the millions. Each
# column therefore becomes numbers of about the same size, and a wild value counts like its logarithm. What is the same in
# every row, different in every row, or there twice, is left out.

# %%
table = samples.modality == "tabular"
if table:
    columns = describe_columns(samples.X)
    encoder = ColumnEncoder(kinds_of(columns))
else:
    folders = pd.Series([str(Path(name).parent) for name in samples.names]).value_counts()
    columns = folders.rename_axis("folder").reset_index(name="pictures")
    encoder = None
nb.table(columns.round(3), "your_columns")
columns.round(3)

# %%
if example:
    left_out = columns.loc[columns["kind"] == "", "column"]
    assert set(left_out) == {"case", "unit"}, "a number of the case and a constant say nothing"
    assert columns.set_index("column").loc["examined", "kind"] == "date %Y-%m-%d"

# %% [markdown]
# ## 2. Look
#
# Before any detector, a look. Of a table we draw the two directions in which its numbers vary most: groups, stripes and
# stragglers show here, and often they are errors of the file. Of pictures we show some.

# %%
most = max_samples or (20_000 if table else 200)
rows = ranking.subsample(len(samples.X), samples.y, most=most, seed=seed)
X, y = take(samples.X, rows), None if samples.y is None else samples.y[rows]
print(f"{len(rows)} of {len(samples.X)} samples are drawn to compare detectors on and to learn from.")
groups = {"all samples": np.ones(len(samples.X), dtype=bool)}
if samples.y is not None:
    groups = {"normal": samples.y == 0, "anomaly": samples.y == 1}

# %%
if table:
    numbers = encoder.fit(X).transform(X)[:2000]
    points = PCA(2).fit_transform(np.column_stack([numbers, np.zeros(len(numbers))]))  # two even of a single number
    behind = pd.DataFrame(points, columns=["component 1", "component 2"])
    fig, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    for (name, which), color, marker in zip(groups.items(), (plots.NORMAL, plots.ANOMALY), "o^"):
        axis.plot(*points[which[rows[:2000]]].T, marker, ms=3, color=color, label=name)
    axis.set(xlabel="component 1", ylabel="component 2")
    axis.legend()
else:
    fig, behind = plots.images(X[:5]), pd.DataFrame({"picture": samples.names[rows[:5]]})
overview = "Scatter plot of the first two principal components." if table else "Some of the pictures, side by side."
nb.figure(fig, "your_overview", data=behind, overview=overview)

# %% [markdown]
# ## 3. Compare detectors
#
# Which detector? Each runs twice in every repeat: one copy learns from a random half of the normal samples, its twin from
# the other, and each is judged where it has not learned. With labels that gives AUROC and average precision. Without, all
# rows take part, on the assumption that anomalies are few, and only two things can be measured:
#
# - **stability**, the rank correlation between the scores of the two copies, and how many of the highest twentieth they
#   share (`top`);
# - **agreement**, the rank correlation with the mean rank of the other detectors.
#
# For tables there is a third, which needs no labels either: shuffle each column by itself among the rows not learned
# from. Every value is then a real one, and only their company is wrong. `shuffled` is the AUROC of telling such rows from
# real ones. It does not say how many such anomalies your file has, but who would see them: one half means blind.
#
# Two controls are among the detectors: a random score, and the ruler, `DistanceToCenter`, the squared length
# $\lVert z \rVert^2$ of the standardised row. What does not beat them has learned nothing. Each detector is first timed on a fraction of the
# rows; who would not finish in time is left out, and the reason stands in the table.

# %%
chosen = ranking.choose(detectors, samples.modality)
options = {"encoder": encoder, "repeats": repeats, "minutes": minutes, "seed": seed}
compared = ranking.compare(chosen, X, y, rate=samples.rate, progress=True, **options)
clear_output()  # the bar has done its duty
compared.round(3)

# %%
hidden_by_labels = ["agreement", "stability", "top"] if samples.y is not None else []
reported = compared.drop(columns=["seconds", *hidden_by_labels], errors="ignore").round(3).astype(object)
reported = reported.where(reported.notna(), "–")
if not compared["left_out"].any():
    reported = reported.drop(columns="left_out")
nb.table(reported, "your_ranking")
kept = next(name for name in compared.index if name != ranking.RANDOM_BASELINE)
print(f"Kept: {kept}.")

# %%
if samples.y is not None:
    nb.value("kept_auroc", compared.loc[kept, "auroc"], sd=compared.loc[kept, "auroc_sd"])
    nb.value("kept_average_precision", compared.loc[kept, "average_precision"], n=2 * repeats)
if example and detectors == "quick":
    assert compared.loc[kept, "auroc"] > compared.loc[ranking.RANDOM_BASELINE, "auroc"] + 0.2, (
        "it beats a random score"
    )

# %% [markdown]
# ## 4. What a ranking without labels cannot tell
#
# Suppose nobody had labelled your rows. Could agreement and stability take the place of AUROC? Here is a table where we
# know better: breast cancer again, with anomalies made from normal rows by drawing each column by itself. Each value of
# theirs is a normal one; only the relations between the columns are broken. The detectors are compared twice, without
# the labels and with them.

# %%
hidden = nb.load("injected/dependency/breast_cancer", seed=seed)
X_hidden = pd.DataFrame(np.concatenate([hidden.X_train, hidden.X_test]), columns=list(hidden.feature_names))
y_hidden = np.concatenate([np.zeros(len(hidden.X_train), dtype=int), hidden.y_test])
quick = ranking.choose("quick", "tabular")
blind = ranking.compare(quick, X_hidden, encoder=ColumnEncoder(), repeats=repeats, seed=seed)
seeing = ranking.compare(quick, X_hidden, y_hidden, encoder=ColumnEncoder(), repeats=repeats, seed=seed)
lesson = blind[["agreement", "stability", "shuffled"]].assign(AUROC=seeing["auroc"]).drop(ranking.RANDOM_BASELINE)
nb.table(lesson.round(3), "your_blind_ranking")
lesson.round(3)

# %%
fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 2.6), sharey=True, layout="constrained")
for axis, measure in zip(axes, ("stability", "agreement", "shuffled")):
    for (name, row), marker, color in zip(lesson.iterrows(), plots.MARKERS, plots.COLORS):
        axis.plot(row[measure], row["AUROC"], marker, color=color, label=name)
    axis.axhline(0.5, color="0.6", lw=1)
    axis.set(xlabel=measure)
axes[0].set(ylabel="AUROC, with the labels")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
nb.figure(fig, "your_blind_ranking", data=lesson.reset_index())

# %% [markdown]
# The distance to the centre is the most stable of all, and hardly better than chance: it looks at each column alone, and
# each column is in order. Agreement puts the PCA residual last, which finds nearly every anomaly, because it is outvoted
# by detectors that look at something else. Stability says that a detector would answer the same tomorrow, agreement that
# it says what the others say; that the answer is *right*, neither can say. The shuffled columns come nearer, for they
# pose a question with a known answer, but about one kind of anomaly only.
#
# In the example of section 3 the roles are exchanged: tumours are large rather than inconsistent, the ruler is among the
# best, and the PCA residual, first here, guesses. A few labels are worth more than all three measures.

# %%
ruler, order = lesson.loc["DistanceToCenter"], lesson.corr("spearman")["AUROC"]
if example:  # on your own samples nothing stops here
    assert ruler["stability"] == lesson["stability"].max() and ruler["AUROC"] < 0.65
    assert lesson["agreement"].idxmin() == "PCAResidual" and lesson.loc["PCAResidual", "AUROC"] > 0.95
    assert order["stability"] < 0 < order["agreement"] < order["shuffled"]
if example and detectors == "quick":
    assert compared.loc["DistanceToCenter", "auroc"] > 0.9 > 0.7 > compared.loc["PCAResidual", "auroc"]
nb.value("most_stable_auroc", ruler["AUROC"], n=2 * repeats)
nb.value("most_stable_stability", ruler["stability"], n=repeats)
nb.value("best_hidden_auroc", lesson["AUROC"].max(), n=2 * repeats)

# %% [markdown]
# ## 5. Judge every sample
#
# The detector that is kept now judges the whole file. The normal samples (without labels: all) fall into two halves; one
# copy learns from the first and is calibrated on the second, its twin the other way round, and each sample is judged by
# the copy that has not learned from it. The calibration turns a score into a p-value: $p$ is the share of normal
# samples, not learned from, that score as high. Alarm where $p \le$ `false_alarms` keeps the promise for any detector.
#
# Large files are scored in chunks, so that a million rows need little more memory than the file itself.

# %%
calibrated = CalibratedDetector(chosen[kept], encoder, contamination=false_alarms)
judgement = cross_fit_scores(calibrated, samples.X, samples.y, most=most, seed=seed, progress=True)
clear_output()
smallest = 1 / len(judgement.detectors[0].tail_.calibration_)
too_few = f"With so few samples no p-value is below {smallest:.3f}: no alarm." if smallest > false_alarms else ""
if too_few:
    print(too_few)
nb.value("alarms", int(judgement.alarms.sum()), n=len(samples.X))

# %% [markdown]
# Do the alarms keep the promise? With labels we can count. Without, the count is no test: the anomalies are among the
# samples that calibrate, so the share of alarms is the promised one *by construction*, whether there is any anomaly or
# none. Then `false_alarms` is simply how many rows you are ready to look at, and the order is what you get.

# %%
promises = sorted({0.01, 0.05, 0.1, false_alarms})
promised = pd.DataFrame(
    {name: [(judgement.p_values[which] <= promise).mean() for promise in promises] for name, which in groups.items()},
    index=pd.Index(promises, name="promise"),
)
nb.table(promised.round(3), "your_promises")
promised.round(3)

# %%
if example:
    spread = 4 * np.sqrt(np.array(promises) / groups["normal"].sum())  # of a count, four standard deviations
    assert (promised["normal"] <= np.array(promises) + spread).all(), "the promise is kept"
    assert promised.loc[false_alarms, "anomaly"] > 0.4, "and anomalies are found"

# %%
threshold = -np.log(false_alarms)
fig, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
bins = np.linspace(judgement.scores.min(), judgement.scores.max(), 41)
for (name, which), color in zip(groups.items(), (plots.NORMAL, plots.ANOMALY)):
    axis.hist(
        judgement.scores[which], bins, color=color, alpha=0.5, label=f"{name} ({which.sum()})", histtype="stepfilled"
    )
axis.axvline(threshold, color="black", ls="--", lw=1.2, label=f"alarm at p = {false_alarms:g}")
axis.set(xlabel="score, −log p", ylabel="samples", yscale="log", ylim=(0.7, None))
axis.legend()
described = (
    f"Histogram of the scores of {len(samples.X)} samples on a logarithmic axis; {int(judgement.alarms.sum())} lie beyond "
    f"the dashed line at {threshold:.1f} and raise an alarm."
)
histogram = (png_bytes(fig), described)
counts = {name: np.histogram(judgement.scores[which], bins)[0] for name, which in groups.items()}
nb.figure(fig, "your_scores", data=pd.DataFrame({"from": bins[:-1], "to": bins[1:], **counts}), described=described)

# %% [markdown]
# ## 6. Why these?
#
# An alarm without a reason will be ignored by the third. For a table we ask of each value: by how much would the score
# fall if this value came from another row, one without alarm? That works for any detector, for it only asks for scores.
# (Falls do not add up where columns act together: of two values that do not fit, either may be the wrong one.) For
# pictures the detector draws its map.

# %%
top = np.argsort(-judgement.scores, kind="stable")[:5]
if table:
    changes = score_drop(judgement, samples.X, top, seed=seed)
    reasons = first_alarms(judgement, changes, samples.X, samples.names)
    heatmaps = []
else:
    reasons = scores_table(judgement, samples.names, samples.y).iloc[top]
    maps = np.concatenate([judgement.detectors[judgement.fold[i]].anomaly_map(take(samples.X, [i])) for i in top])
    fig = plots.heatmaps(take(samples.X, top), maps, titles=[f"{score:.1f}" for score in judgement.scores[top]])
    heatmaps = [(png_bytes(fig), "The five highest scores, and below each the map of where it is anomalous.")]
    display(fig)
reasons.round(3)

# %%
if example and detectors == "quick":
    original = set(samples.X.columns) - {"case", "hospital", "examined", "unit"}
    first_cause = changes.idxmax(axis=1)
    assert first_cause.isin(original).mean() >= 0.6, (
        "mostly measurements raise the alarms, not the noise that was added"
    )

# %% [markdown]
# ## 7. Write it down
#
# Three files. `scores.csv` has a line for each sample (row 1 of your file is its header). `detector.safetensors` holds
# the first of the two copies with its encoder and its calibration; it is data and no program, so it may be read from
# anywhere without fear. `report.html` is the page to hand on. Names and cells of your file are other people's text: the
# page shows them as text, whatever they contain.

# %%
scores = scores_table(judgement, samples.names, samples.y)
write_atomic(folder / "scores.csv", scores.to_csv(index=False, float_format="%.6g").encode())
keep = judgement.detectors[0]
if samples.path.is_file():
    keep.provenance_["file"] = f"{samples.path.name}, SHA-256 {file_hash(samples.path)}"
keep.save(folder / "detector.safetensors")
told = "With labels: detectors are ranked by AUROC on samples that they have not learned from."
if samples.y is None:
    told = (
        "Without labels: the order is that of agreement and stability, which cannot tell whether a detector is right."
    )
shares = ", ".join(f"{promised.loc[false_alarms, name]:.1%} of {name}" for name in promised)
raised = f"{judgement.alarms.sum()} of {len(samples.X)} samples raise an alarm ({shares}), at a promise of {false_alarms:.1%}."
sections = [
    ("What was read", f"{len(samples.X)} samples. Detector: {kept}.", *samples.notes, columns),
    ("Detectors", told, reported.reset_index()),
    ("Alarms", f"{raised} {too_few}", histogram),
    ("The five highest scores", reasons, *heatmaps),
]
write_page(folder / "report.html", f"Anomalies in {samples.path.name}", sections)
print(f"scores.csv, detector.safetensors and report.html are in {folder}")

# %% [markdown]
# ## In this notebook
#
# - Every column became numbers of one size, learned from training rows only; what says nothing was left out, and said.
# - With labels, detectors are ranked by what they find; without, by agreement and stability, which the ruler of one more
#   table led astray.
# - Each sample was judged by a detector that had not learned from it, and the promise of false alarms held.
# - Reasons come from asking the detector again with one value changed.
#
# ## Exercises
#
# **1. Predict: anomalies that nobody labelled.** Take the table of section 4, whose anomalies the Gaussian sees. Hide the
# labels from `cross_fit_scores`, so that the anomalies help to train and to calibrate. Will it find more of them, or fewer?

# %% tags=["solution"]
gaussian = CalibratedDetector(quick["GaussianAnomalyScorer"], ColumnEncoder())
with_labels = cross_fit_scores(gaussian, X_hidden, y_hidden, seed=seed)
without = cross_fit_scores(gaussian, X_hidden, seed=seed)
areas = {name: metrics.auroc(y_hidden, one.scores) for name, one in (("with", with_labels), ("without", without))}
recalls = {name: one.alarms[y_hidden == 1].mean() for name, one in (("with", with_labels), ("without", without))}
assert recalls["without"] <= recalls["with"] or not example
pd.DataFrame({"AUROC": areas, "anomalies found": recalls}).round(3)

# %% [markdown] tags=["solution"]
# Fewer, above all at the threshold: anomalies that calibrate raise the bar for their like. The order suffers less, as
# long as they are few.

# %% [markdown]
# **2. Change: another kind of anomaly.** In section 4, load `injected/global/breast_cancer`. Who is blind to shuffled
# columns; is it blind to these?

# %% tags=["solution"]
other = nb.load("injected/global/breast_cancer", seed=seed)
X_other = pd.DataFrame(np.concatenate([other.X_train, other.X_test]), columns=list(other.feature_names))
y_other = np.concatenate([np.zeros(len(other.X_train), dtype=int), other.y_test])
order = ranking.compare(quick, X_other, y_other, encoder=ColumnEncoder(), repeats=1, seed=seed)
assert order.loc["DistanceToCenter", "auroc"] > 0.95 > order.loc["DistanceToCenter", "shuffled"] or not example
order[["auroc", "shuffled"]].round(3)

# %% [markdown] tags=["solution"]
# No. Values drawn from the whole range of a column are seen by the ruler too, blind as it is to shuffling. What a
# detector should see depends on what will go wrong, and no number of this table knows that.

# %% [markdown]
# **3. Build: tomorrow's file.** Load the detector that was saved and judge samples with it, as tomorrow's file would be
# judged. Where do its p-values differ from those in `scores.csv`?

# %% tags=["solution"]
loaded = Detector.load(folder / "detector.safetensors")
again = loaded.p_values(take(samples.X, range(20)))
mine = judgement.fold[:20] == 0
assert np.allclose(again[mine], judgement.p_values[:20][mine], atol=2 * smallest)
pd.DataFrame({"sample": samples.names[:20], "scores.csv": judgement.p_values[:20], "loaded": again}).round(3)

# %% [markdown] tags=["solution"]
# They are as good as the same for the samples that this copy judged: there each is among those that it is compared
# with, and `cross_fit_scores` does not count it twice. From the others the copy has learned, and their judge was its twin. A new
# file is read by `your_data.read_table("tomorrow.csv", least=1, like=loaded)`, which keeps to the types, units and number formats
# of the training file; its `X` is what `p_values` takes. A gap in a column that had none in training, and a category that
# training did not have, get the smallest p-value.

# %%
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
