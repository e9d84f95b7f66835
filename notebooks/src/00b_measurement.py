# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Measurement of anomaly detectors
#
# A detector gives each sample an anomaly score. This notebook explains how to measure the quality of the scores, how to
# set a threshold for alarms, and how certain the results are. The last part measures seven known difficulties, so
# that you can judge what the result of a benchmark shows and what it does not show.
#
# **You will learn**
#
# - what AUROC and average precision measure, and how the anomaly rate changes the precision;
# - how to set a threshold for a nominal false-alarm rate, and why training scores are not suitable for it;
# - why the maximal F1 is too optimistic;
# - how test sets and splits make a result uncertain, and how to estimate this;
# - how the costs of errors determine the threshold;
# - the seven challenges of deep anomaly detection, each with an easy and a hard case.
#
# Reading takes about 35 minutes, running takes less than half a minute. You need Python, NumPy, and the definitions of
# an anomaly and of an anomaly score (notebook 00). All data are generated or come with scikit-learn.
#
# The [glossary](glossary.md) explains the terms in English and Chinese, for example [AUROC](glossary.md#AUROC),
# [precision](glossary.md#Precision), [average precision](glossary.md#Average-precision), [false-alarm
# rate](glossary.md#False-alarm-rate), [conformal p-value](glossary.md#Conformal-p-value) and [false discovery
# rate](glossary.md#False-discovery-rate).

# %% tags=["parameters"]
seed: int = 0  # of the random generators
n_train: int = 600  # normal training samples in each generated data set, at least 200
n_test: int = 500  # test sets of section 1 have 20 times as many normal samples, at least 200
n_repeats: int = 50  # repetitions where a mean over many data sets is shown, at least 20
field_tables: list[str] = ["breast_cancer"]  # at least one; to download: tables/creditcard, tables/kddcup99

# %% [markdown]
# The detectors, metrics and plots come from scikit-learn and `mmad_utils`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay
from sklearn.neighbors import KernelDensity, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# %%
from mmad_utils import ConformalThreshold, QuantileThreshold, metrics, plots
from mmad_utils.course import notebook
from mmad_utils.datasets import Dataset
from mmad_utils.detectors.baselines import DistanceToCenter, KNNDistance, PCAResidual
from mmad_utils.metrics import evaluate

# %% [markdown]
# `notebook.start` checks the parameters, fixes the number of threads, and sets the style of the figures.

# %%
nb = notebook.start("00b_measurement")
rng = np.random.default_rng([seed, 5])

# %% [markdown]
# Three functions are used in all sections. `cloud` draws samples of a Gaussian distribution in two dimensions.
# `as_dataset` joins normal training samples, normal test samples and anomalies into one data set, in which label 1 is
# an anomaly.
# `auroc_of` fits a detector and returns its AUROC.


# %%
def cloud(n, center=(0.0, 0.0), spread=1.0):
    return rng.normal(center, spread, size=(n, 2))


# %%
def as_dataset(X_train, normal, anomalies):
    y_test = np.repeat([0, 1], [len(normal), len(anomalies)])
    return Dataset("generated", "tabular", X_train, np.vstack([normal, anomalies]), y_test)


def auroc_of(detector, dataset):
    return evaluate(detector.fit(dataset.X_train), dataset).auroc


# %% [markdown]
# ## 1. ROC and precision
#
# To measure the scores we need labels of the test samples. The labels are used for the metric only. They must not be
# used for training, for the choice of a method, or for the threshold.
#
# ### ROC curve
#
# Each threshold $\tau$ gives two rates. The **true-positive rate** (TPR) or **recall** is the share of anomalies with
# $s(x) > \tau$. The **false-positive rate** (FPR) or false-alarm rate is the share of normal samples with $s(x) >
# \tau$. The ROC curve shows TPR against FPR for all thresholds. The area under it is a probability (Hanley and
# McNeil 1982):
#
# $$\mathrm{AUROC} = P\big(s(x_{\text{anomaly}}) > s(x_{\text{normal}})\big) + \tfrac12 P(\text{tie}).$$
#
# ### Precision and recall
#
# A user who receives alarms needs to know how many of them are real. This share is the **precision**. It depends on
# the **anomaly rate** $\pi$, the share of anomalies among all samples. By Bayes' theorem,
#
# $$\text{precision} = \frac{\pi\,\mathrm{TPR}}{\pi\,\mathrm{TPR} + (1-\pi)\,\mathrm{FPR}}.$$
#
# TPR and FPR are each computed within one class, so the ROC curve does not depend on $\pi$. The precision does. We
# test one detector on two test sets that differ only in the anomaly rate: 50% and 1%.

# %%
train, many = cloud(n_train), 20 * n_test
detector = DistanceToCenter().fit(train)
half = as_dataset(train, cloud(many), cloud(many, (2.5, 1.0)))
rare = as_dataset(train, cloud(many), cloud(many // 100, (2.5, 1.0)))
# %%
half_result = evaluate(detector, half, name="50% anomalies")
rare_result = evaluate(detector, rare, name="1% anomalies")
both = pd.DataFrame([result.as_row() for result in (half_result, rare_result)]).set_index("name")
both[["auroc", "average_precision"]].round(3)

# %% [markdown]
# The AUROC is similar in both rows, because the detector is the same. The **average precision** is the area under
# the precision–recall curve. It is high for 50% anomalies and low for 1%. Both metrics are correct, but they answer
# different questions. In most applications anomalies are rare, as in the second test set.

# %% tags=["claim"]
roc_gap = abs(half_result.auroc - rare_result.auroc)  # within the standard error for many // 100 anomalies
assert roc_gap < 0.08, "AUROC does not depend on the anomaly rate"
assert rare_result.average_precision < half_result.average_precision - 0.3, "average precision does"

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
for result, color, line in ((half_result, plots.COLORS[0], "-"), (rare_result, plots.COLORS[2], "--")):
    look = {"curve_kwargs": {"color": color, "ls": line}, "name": result.name}
    RocCurveDisplay.from_predictions(result.y, result.scores, ax=left, **look)
    PrecisionRecallDisplay.from_predictions(result.y, result.scores, ax=right, drop_intermediate=True, **look)
left.plot([0, 1], [0, 1], color="0.6", lw=1)
left.set(xlabel="false-positive rate", ylabel="true-positive rate (recall)", title="ROC")
right.set(xlabel="recall", ylabel="precision", title="precision and recall")
right.legend(loc="center", bbox_to_anchor=(0.6, 0.58), fontsize=8, handlelength=1.4)
nb.figure(fig, "roc_and_pr", data=both.reset_index())

# %% [markdown]
# The two ROC curves are almost equal, and the two precision–recall curves are far apart. If you read "AUROC 0.99" in
# a paper, look for the anomaly rate and compute the precision.
#
# The formula predicts the precision on the *rare* test set from the rates of the *balanced* one. We take the threshold
# that 5% of the normal samples exceed. The same function is used again below for other rates.


# %%
def at_false_alarms(result, rate):
    """The threshold that a share of the normal samples exceeds, and the recall with it."""
    threshold = float(np.quantile(result.scores[result.y == 0], 1 - rate))
    return threshold, float((result.scores[result.y == 1] > threshold).mean())


# %%
threshold, recall = at_false_alarms(half_result, 0.05)
anomaly_rate = rare.y_test.mean()
predicted = anomaly_rate * recall / (anomaly_rate * recall + (1 - anomaly_rate) * 0.05)
precision = rare.y_test[rare_result.scores > threshold].mean()
print(f"recall {recall:.2f}, predicted precision {predicted:.3f}, measured precision {precision:.3f}")

# %% [markdown]
# The threshold was set on test labels here, to compare the formula with a measurement. With 5% false alarms and 1%
# anomalies, most alarms are false.

# %% tags=["claim"]
assert abs(predicted - precision) < 0.05 and precision < 0.25, "with 5% false positives most alarms are false"

# %% [markdown]
# ## 2. Thresholds
#
# A curve needs no threshold, but an alarm does. In use there are no test labels, and the anomaly rate is unknown.
# There are normal samples, and a false-alarm rate that the user accepts. This **nominal rate** $\alpha$ can be set in
# three ways:
#
# - **Training quantile**: the score that a share $\alpha$ of the *training* samples exceeds. It is too low, because a
#   model fits its own training data best and new normal samples get higher scores.
# - **Held-out quantile**: the same quantile of normal samples that were not used for training. For many samples its
#   mean rate is correct.
# - **Conformal**: with $n$ held-out normal scores $s_i$, the p-value of a sample with score $s$ is $p = (1 + \#\{i :
#   s_i \ge s\})/(n + 1)$. An alarm is raised if $p \le \alpha$.
#
# The conformal threshold satisfies $P(p \le \alpha) \le \alpha$ for a new normal sample, for *every* detector and every
# $n$. The only condition is that held-out and new samples are exchangeable, that is, their joint distribution does
# not depend on their order.
#
# We compare the nominal with the measured rate. The detector is a kernel density estimate with narrow kernels in five
# dimensions, which overfits.

# %%
rng = np.random.default_rng([seed, 6])
nominal_rates = [0.01, 0.02, 0.05, 0.1, 0.2]


# %% [markdown]
# One repetition draws new data, fits the detector, and sets the three thresholds.


# %%
def measured_rates(n=100):
    train, held_out, new = (rng.normal(size=(size, 5)) for size in (n, n, 1000))
    detector = KernelDensity(bandwidth=0.8).fit(train)
    on_train, on_held_out, on_new = (-detector.score_samples(X) for X in (train, held_out, new))
    for rate in nominal_rates:
        yield rate, "training quantile", QuantileThreshold(rate).fit(on_train).predict(on_new).mean()
        yield rate, "held-out quantile", QuantileThreshold(rate).fit(on_held_out).predict(on_new).mean()
        yield rate, "conformal", ConformalThreshold(rate).fit(on_held_out).predict(on_new).mean()


# %% [markdown]
# The table shows the mean over `n_repeats` data sets.

# %%
names = ["nominal false-alarm rate", "threshold", "measured false-alarm rate"]
repeated = pd.DataFrame([row for _ in range(n_repeats) for row in measured_rates()], columns=names)
rates = repeated.pivot_table(index=names[0], columns="threshold", values=names[2], sort=False)
rates.round(3)

# %% [markdown]
# The same on logarithmic axes, with the nominal rate itself as a fourth line:

# %%
diagonal = pd.DataFrame({names[0]: nominal_rates, "threshold": "nominal", names[2]: nominal_rates})
curves = pd.concat([repeated, diagonal])
fig = plots.lines(curves, names[0], names[2], by="threshold", error=None, xscale="log", yscale="log", height=3.2)
percent = [f"{rate:.0%}" for rate in nominal_rates]
fig.axes[0].set(xticks=nominal_rates, xticklabels=percent, yticks=nominal_rates, yticklabels=percent)
nb.figure(fig, "threshold_rates", data=rates)

# %% [markdown]
# At a nominal rate of 5%, the training quantile gives several times as many false alarms. The held-out quantile is
# close, but slightly too high at small rates. The conformal threshold holds the nominal rate on average over the
# repetitions, even 1% with a hundred samples.

# %% tags=["claim"]
assert rates.loc[0.05, "training quantile"] > 0.15, "training scores give too many false alarms"
nominal = rates.index.to_numpy()
error = np.sqrt(nominal * (1 - nominal) / (100 * n_repeats))  # standard error from the held-out samples
assert (rates["conformal"] <= nominal + 3.5 * error).all(), "the conformal threshold holds every nominal rate"
assert (rates["conformal"] <= rates["held-out quantile"] + 1e-9).all()

# %% [markdown]
# ### F1 and maximal F1
#
# The $F_1$ score is the harmonic mean of precision and recall, $F_1 =
# 2\,\mathrm{TP}/(2\,\mathrm{TP}+\mathrm{FP}+\mathrm{FN})$. TP, FP and FN are the numbers of true positives, false
# positives and false negatives. $F_1$ needs a threshold. Many papers report the *maximal* $F_1$ over all thresholds,
# which is chosen with the labels of the same test set.
#
# To measure the effect, we draw small test sets of 200 normal samples and 20 anomalies. On each of them we choose the
# best threshold, and apply it to a second test set of the same distribution. A conformal threshold is the comparison.

# %%
detector = DistanceToCenter().fit(cloud(n_train))
conformal = ConformalThreshold(0.02).fit(detector.anomaly_score(cloud(n_train)))


def small_test():
    y = np.repeat([0, 1], [200, 20])
    return y, detector.anomaly_score(np.vstack([cloud(200), cloud(20, (2.5, 1.0))]))


# %%
def f1_scores():
    (y, scores), (y_new, scores_new) = small_test(), small_test()
    best, threshold = metrics.max_f1(y, scores)
    return best, metrics.f1_score(y_new, scores_new >= threshold), metrics.f1_score(y, conformal.predict(scores))


# %%
names = ["maximal", "same threshold, new data", "conformal"]
f1_table = pd.DataFrame([f1_scores() for _ in range(2 * n_repeats)], columns=names)
f1_table.agg(["mean", "std"]).round(3)

# %% [markdown]
# The maximal $F_1$ is an upper limit, and the same threshold is worse on new data. The tables of this course show
# $F_1$ at the threshold of the detector, and the maximal $F_1$ under its own name.

# %% tags=["claim"]
assert f1_table["maximal"].mean() > f1_table["same threshold, new data"].mean() + 0.02, "the maximum is too high"
assert f1_table["maximal"].mean() > f1_table["conformal"].mean(), "also higher than with a conformal threshold"

# %% [markdown]
# ## 3. Uncertainty of a result
#
# A test set is a random sample, so every metric is uncertain. The **bootstrap** draws the test samples many times with
# replacement and computes the metric on each draw. The interval that contains the middle 95% of these values
# estimates the uncertainty (Efron and Tibshirani 1993). The number of *anomalies* matters most, because it is small.


# %%
def interval_with(n_anomalies):
    result = evaluate(detector, as_dataset(train, cloud(2000), cloud(n_anomalies, (2.5, 1.0))))
    low, high = result.interval("auroc", n_resamples=300, random_state=seed)
    return {"anomalies": n_anomalies, "AUROC": result.auroc, "low": low, "high": high, "width": high - low}


# %%
test_sets = pd.DataFrame([interval_with(n) for n in (10, 40, 160) for _ in range(20)])
intervals = test_sets.groupby("anomalies").mean()
intervals.round(3)

# %% [markdown]
# The table shows means over twenty test sets. With ten anomalies the interval is wider than most differences between
# methods in papers. Its width is about proportional to $1/\sqrt{n}$: four times as many anomalies halve it.

# %% tags=["claim"]
assert ((test_sets["low"] <= test_sets["AUROC"]) & (test_sets["AUROC"] <= test_sets["high"])).all()
ratio = intervals.loc[10, "width"] / intervals.loc[160, "width"]  # 4 in theory; 20 test sets of each size
assert 2 < ratio < 6, "sixteen times as many anomalies, less than half the width"

# %% [markdown]
# ### Splits
#
# The result also depends on the split into training and test samples. `resplit` draws a new split of the same size.
# The data are 30 measurements of breast tumours: benign ones are normal, malignant ones are anomalies. The detector is
# the distance to the nearest benign tumours. Beside AUROC we compute the recall with 1% false alarms, because people
# can inspect only a few alarms.

# %%
tumours = nb.load("breast_cancer", seed=seed)
neighbours = make_pipeline(StandardScaler(), KNNDistance())
# %%
rows = []
for split in map(tumours.resplit, range(10)):
    result = evaluate(neighbours.fit(split.X_train), split)
    rows.append([result.auroc, at_false_alarms(result, 0.01)[1]])
recalls = pd.DataFrame(rows, columns=["AUROC", "recall at 1% false alarms"])
recalls.agg(["mean", "std"]).round(3)

# %% [markdown]
# The recall varies much more between splits than the AUROC. A single split cannot show a difference of a few
# hundredths in recall. Comparisons in this course therefore use several splits or seeds, and state mean and standard deviation.
#
# A high AUROC does not mean that most anomalies are found. The histogram shows one split. More than a third of the
# malignant tumours score below the threshold. The reason is that AUROC is an average over all false-alarm rates, also
# over those that no user accepts.

# %%
result = evaluate(neighbours.fit(tumours.X_train), tumours)
threshold, _ = at_false_alarms(result, 0.01)
fig = plots.score_histogram(metrics.Evaluation("kNN", result.y, result.scores, threshold=threshold), log=True)
fig.axes[0].set_xticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
fig.axes[0].minorticks_off()
nb.figure(fig, "challenge_recall", data=pd.DataFrame({"y": result.y, "score": result.scores}))

# %% tags=["claim"]
mean_auroc, mean_recall = recalls.mean()
assert mean_auroc > 0.9 and mean_recall < 0.75, "the AUROC is high although many anomalies are missed"
assert recalls["recall at 1% false alarms"].std() > recalls["AUROC"].std(), "recall varies more than AUROC"

# %% [markdown]
# ## 4. Costs and the threshold
#
# The two errors have different costs. Let $c_m$ be the cost of a missed anomaly, $c_f$ the cost of a false alarm, and
# $\pi$ the anomaly rate. An alarm has the lower expected cost if
#
# $$P(\text{anomaly} \mid x)\, c_m > P(\text{normal} \mid x)\, c_f .$$
#
# With the densities $p_a$ and $p_n$ of anomalies and normal samples this is a threshold on the likelihood ratio:
#
# $$\frac{p_a(x)}{p_n(x)} > \frac{(1-\pi)\,c_f}{\pi\, c_m}.$$
#
# The rarer the anomalies, the higher the threshold. The more a miss costs, the lower the threshold. A one-class
# detector does not know $p_a$. It uses a nominal false-alarm rate instead.
#
# As an example, let normal samples follow $\mathcal N(0, 1)$ and anomalies $\mathcal N(\delta, 1)$ with $\delta = 2.5$.
# The likelihood ratio is $\exp(\delta x - \delta^2/2)$. We compute the threshold on $x$ for several ratios $c_m /
# c_f$, at an anomaly rate of 1%.

# %%
delta, anomaly_rate = 2.5, 0.01
costs = pd.DataFrame({"cost ratio": [1, 10, 100, 1000]})
odds = (1 - anomaly_rate) / (anomaly_rate * costs["cost ratio"])
costs["threshold"] = (np.log(odds) + delta**2 / 2) / delta
costs["recall"] = stats.norm.sf(costs["threshold"] - delta)
costs["false-alarm rate"] = stats.norm.sf(costs["threshold"])
costs.round(3)

# %% [markdown]
# If a miss costs as much as a false alarm, most anomalies should be ignored. If it costs a thousand times as much, a
# large share of all samples should be inspected. The scores are the same in all rows. The threshold follows from the
# costs and the anomaly rate, not from the detector.

# %% tags=["claim"]
assert costs["threshold"].is_monotonic_decreasing, "the higher the cost of a miss, the lower the threshold"
assert costs["recall"].iloc[0] < 0.35 and costs["recall"].iloc[-1] > 0.95
assert costs["false-alarm rate"].iloc[-1] > 0.3

# %% [markdown]
# ## 5. Real tables
#
# Three detectors are now measured on real tables, with the three metrics of the sections above. By default there is
# one table, from medicine. `field_tables=["tables/creditcard", "tables/kddcup99"]` uses a table of card payments with
# a few frauds and a table of network connections with a few attacks. Both are downloaded from OpenML. At most 5,000
# normal rows are used for training and 10,000 for testing, with all anomalies.


# %%
def part_of(table):
    rng = np.random.default_rng(seed)
    train = rng.permutation(len(table.X_train))[:5000]
    normal = rng.permutation(np.flatnonzero(table.y_test == 0))[:10_000]
    return as_dataset(table.X_train[train], table.X_test[normal], table.X_test[table.y_test == 1])


parts = {name: part_of(nb.load(name)) for name in field_tables}

# %% [markdown]
# All columns are scaled to mean 0 and standard deviation 1.

# %%
methods = {
    "isolation forest": IsolationForest(random_state=seed),
    "kNN": KNNDistance(),
    "distance to the centre": DistanceToCenter(),
}
# %%
rows = []
for (table, part), (name, method) in [(a, b) for a in parts.items() for b in methods.items()]:
    result = evaluate(make_pipeline(StandardScaler(), method).fit(part.X_train), part)
    recall = at_false_alarms(result, 0.01)[1]
    rows.append([table, name, part.y_test.mean(), result.auroc, result.average_precision, recall])
names = ["table", "detector", "anomaly rate", "AUROC", "average precision", "recall at 1% false alarms"]
measured = pd.DataFrame(rows, columns=names)
measured.round(3)

# %% [markdown]
# AUROC does not depend on the anomaly rate, and average precision does. Here more than half of the test rows are
# anomalies, so the average precision is high. In a table with few anomalies most alarms can be false although AUROC is
# high. In use, the recall at an accepted false-alarm rate is the relevant metric.
#
# ## 6. What a benchmark shows: seven challenges
#
# A benchmark result is valid for its data, its training setting, its anomaly rate, its kinds of anomaly, and its
# split. Pang et al. (2021) list seven challenges of deep anomaly detection that a single number may not show. The first
# one, **low recall**, was measured in section 3. Each of the other six has a small experiment with an easy and a hard
# case.
#
# ### High dimension
#
# An image has many thousands of values, and an anomaly may change only a few of them. We take two informative columns,
# in which anomalies are shifted by four standard deviations, and add columns of noise.

# %%
rng = np.random.default_rng([seed, 7])


def with_noise_columns(points, d):
    return np.hstack([points, rng.normal(size=(len(points), d - 2))])


# %% tags=["step"]
rows = []
for d in (2, 10, 30, 100, 300):
    sets = [with_noise_columns(cloud(n, c), d) for n, c in ((300, (0, 0)), (200, (0, 0)), (200, (2.8, 2.8)))]
    distances = np.linalg.norm(sets[0] - sets[1][0], axis=1)
    rows.append([d, auroc_of(KNNDistance(), as_dataset(*sets)), distances.max() / distances.min()])
noise_columns = pd.DataFrame(rows, columns=["columns", "AUROC of kNN", "farthest / nearest distance"])
noise_columns.round(3)

# %% [markdown]
# In many dimensions all distances become nearly equal (Beyer et al. 1999), as the last column shows. The two
# informative columns then have little influence on the distance. Notebooks 01 and 06 use pretrained or learned
# features instead of all columns.

# %% tags=["claim"]
assert noise_columns["AUROC of kNN"].iloc[0] > 0.97 and noise_columns["AUROC of kNN"].iloc[-1] < 0.85
assert noise_columns["farthest / nearest distance"].iloc[-1] < 2, "in 300 dimensions all distances are similar"

# %% [markdown]
# ### Conditional anomalies
#
# An anomaly can be a combination of values that are normal one by one. `injected/dependency/breast_cancer` has such
# anomalies: the values of real benign tumours, permuted within each column. A detector that measures each column
# separately cannot detect them.

# %%
dependency = nb.load("injected/dependency/breast_cancer", seed=seed)
by_center = auroc_of(DistanceToCenter(), dependency)
by_relations = auroc_of(make_pipeline(StandardScaler(), PCAResidual(n_components=0.9)), dependency)
print(f"AUROC: PCA residual {by_relations:.3f}, distance to the centre {by_center:.3f}")

# %% [markdown]
# Two of the thirty columns show the reason. The perimeter of a normal cell nucleus is about $2\pi$ times its radius.
# The PCA residual uses this relation, and the distance to the centre does not.

# %%
pair = [dependency.feature_names.index(name) for name in ("mean radius", "mean perimeter")]
relation = pd.DataFrame(dependency.X_test[:, pair], columns=["mean radius", "mean perimeter"])
relation["label"] = np.array(["normal", "anomaly"])[dependency.y_test]
fig = plots.scatter(relation.sort_values("label", ascending=False), "mean radius", "mean perimeter", by="label")
nb.figure(fig, "challenge_conditional", data=relation)

# %% tags=["claim"]
assert by_center < 0.75 < 0.95 < by_relations, "the distance to the centre ignores relations between columns"

# %% [markdown]
# ### Data efficiency
#
# Anomalies are rare, and sometimes normal samples are rare too: a new product may have only twenty good parts. We
# measure how AUROC grows with the number of training samples. Handwritten eights are normal, and all other digits are
# anomalies.

# %%
eights = nb.load("digits/8", seed=seed).as_table()
rows = []
for size in [size for size in (3, 5, 10, 20, 40, 80) for _ in range(10)]:
    chosen = rng.choice(len(eights.X_train), size, replace=False)
    detector = KNNDistance(n_neighbors=2).fit(eights.X_train[chosen])
    rows.append([size, evaluate(detector, eights).auroc])
efficiency = pd.DataFrame(rows, columns=["normal samples", "AUROC"]).groupby("normal samples")["AUROC"]
efficiency = efficiency.agg(["mean", "std"])
efficiency.round(3)

# %% [markdown]
# Ten eights already give a high AUROC, and the last doubling still increases it. A network with many weights needs more
# samples than kNN. Pretrained features (notebook 01) and a few labelled anomalies (notebook 07) reduce this need.

# %% tags=["claim"]
assert efficiency["mean"].iloc[-1] > efficiency["mean"].iloc[0] + 0.05, "more normal samples increase AUROC"
assert efficiency["std"].iloc[0] > efficiency["std"].iloc[-1], "and reduce its variation"

# %% [markdown]
# ### Noise and anomalies
#
# A rare sample is not always relevant to the user. Here two sensors sometimes give very wrong readings, which are known
# to be harmless. The fault to be detected is a small shift of sensor 1. Both have low density, and the harmless readings
# have the lower one.

# %%
quiet, jumps, fault = cloud(400), cloud(30, spread=6.0), cloud(20, (4.0, 0.0), 0.3)
detector = KNNDistance(n_neighbors=20).fit(np.vstack([cloud(400), cloud(30, spread=6.0)]))
against_quiet = evaluate(detector, as_dataset(quiet, quiet, fault)).auroc
against_jumps = evaluate(detector, as_dataset(jumps, jumps, fault)).auroc
# %% [markdown]
# The same readings in one table, and the twenty with the highest scores:

# %%
readings = pd.DataFrame(np.vstack([quiet, jumps, fault]), columns=["sensor 1", "sensor 2"])
readings["label"] = np.repeat(["normal, with wrong readings", "fault"], [430, 20])
top = np.argsort(-detector.anomaly_score(readings[["sensor 1", "sensor 2"]].to_numpy()))[:20]
print(f"AUROC against usual readings {against_quiet:.3f}, against wrong readings {against_jumps:.3f}")

# %% [markdown]
# The circles mark the twenty highest scores.

# %%
fig = plots.scatter(readings, "sensor 1", "sensor 2", by="label")
fig.axes[0].scatter(*readings.iloc[top, :2].to_numpy().T, s=70, facecolor="none", edgecolor="black")
nb.figure(fig, "challenge_noise", data=readings.assign(top_20=readings.index.isin(top)))

# %% [markdown]
# The data alone do not tell which rare readings are relevant. This needs labels or rules. Notebook 03b explains methods
# that model the noise separately (robust PCA, robust autoencoders).

# %% tags=["claim"]
faults_on_top = (readings["label"].iloc[top] == "fault").sum()
assert against_quiet > 0.95 and against_jumps < 0.5 and faults_on_top <= 5, "noise gets the highest scores"

# %% [markdown]
# ### Complex anomalies
#
# Some objects have several **modalities**, for example an image and a text. An anomaly can be a pair that does not
# match. Here a sample is the image of a digit and the word that names it. In an anomaly the word names another digit.
# A word is encoded as ten columns, of which one is 100.

# %%
images, words = load_digits(return_X_y=True)
order = rng.permutation(len(words))
train_rows, test_rows = order[:1000], order[1000:]
wrong = (words[test_rows] + rng.integers(1, 10, len(test_rows))) % 10


# %%
def pairs_of(rows, digits):
    return np.hstack([images[rows], 100 * np.eye(10)[digits]])


normal, mismatch = pairs_of(test_rows, words[test_rows]), pairs_of(test_rows, wrong)
pairs = as_dataset(pairs_of(train_rows, words[train_rows]), normal, mismatch)

# %% [markdown]
# We fit kNN to the image, to the word, and to both. The last score is the sum of the ranks of the first two.

# %%
modalities = {"image": slice(0, 64), "word": slice(64, 74), "both": slice(0, 74)}
scores = {
    name: KNNDistance().fit(pairs.X_train[:, part]).anomaly_score(pairs.X_test[:, part])
    for name, part in modalities.items()
}
# %%
scores["sum of ranks"] = stats.rankdata(scores["image"]) + stats.rankdata(scores["word"])
pair_auroc = pd.Series({name: metrics.auroc(pairs.y_test, score) for name, score in scores.items()}, name="AUROC")
pair_auroc.to_frame().round(3)

# %%
shown = (images[test_rows[:5]].reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8)
titles = [f"right: {right}, wrong: {other}" for right, other in zip(words[test_rows[:5]], wrong)]
nb.figure(plots.images(shown, titles), "challenge_complex", data=pd.DataFrame({"title": titles}))

# %% [markdown]
# Image and word are each normal, so a detector of one modality has an AUROC of about 0.5. The sum of the ranks has the
# same problem. Only a model of both modalities detects the mismatch. This is the topic of notebooks 08 to 10.

# %% tags=["claim"]
assert pair_auroc["both"] > 0.95 and pair_auroc.drop("both").max() < 0.6, "only both modalities show the mismatch"

# %% [markdown]
# ### Explanation
#
# A user needs to know which measurement caused an alarm. **Occlusion** answers this for any detector: replace one column
# by the mean of the nearest training samples, and compute how much the score drops. To test it, we take real benign
# tumours and increase one random column of each by five standard deviations.

# %%
scaler = StandardScaler().fit(tumours.X_train)
benign_train, benign = scaler.transform(tumours.X_train), scaler.transform(tumours.X_test[tumours.y_test == 0])
changed = rng.integers(0, benign.shape[1], len(benign))
X = benign + 5 * np.eye(benign.shape[1])[changed]
# %% [markdown]
# The replacement of a column is its mean in the five nearest training samples.

# %%
detector = KNNDistance().fit(benign_train)
nearest = NearestNeighbors(n_neighbors=5).fit(benign_train).kneighbors(X, return_distance=False)
typical = benign_train[nearest].mean(axis=1)

# %% [markdown]
# The drop of the score is computed for each column in turn.

# %%
drops = np.empty_like(X)
for column in range(X.shape[1]):
    occluded = X.copy()
    occluded[:, column] = typical[:, column]
    drops[:, column] = detector.anomaly_score(X) - detector.anomaly_score(occluded)
# %%
explained = float((drops.argmax(axis=1) == changed).mean())
print(
    f"The changed column has the largest drop in {explained:.0%} of the samples; guessing gives {1 / X.shape[1]:.0%}."
)

# %% [markdown]
# The six largest drops of one sample:

# %%
example = int(np.flatnonzero(drops.argmax(axis=1) == changed)[0])
largest = pd.Series(drops[example], index=tumours.feature_names, name="drop").sort_values()[-6:]
fig, axis = plt.subplots(figsize=(5.6, 2.4), layout="constrained")
axis.barh(largest.index, largest, color=5 * [plots.NORMAL] + [plots.ANOMALY])
axis.set(xlabel="drop of the anomaly score when the column is replaced")
nb.figure(fig, "challenge_explanation", data=largest.rename_axis("column").reset_index())

# %% [markdown]
# Here one column is the cause. If the fault is a relation between columns, several columns have large drops. For images
# the explanation is a heatmap of the pixels (notebook 01).

# %% tags=["claim"]
assert explained > 0.8, "occlusion names the column if one column is changed"

# %% [markdown]
# ## In this notebook
#
# - **AUROC** does not depend on the anomaly rate. **Precision** does, and it is low if anomalies are rare.
# - Thresholds are set on held-out normal samples, never on test labels. The conformal threshold holds the nominal
#   false-alarm rate for every detector. The maximal $F_1$ is an upper limit.
# - With few anomalies a metric is uncertain. Use intervals, several splits, and several seeds.
# - The costs of the errors and the anomaly rate determine the threshold.
# - A benchmark result is valid for its own data and setting. Seven challenges show cases that a single number hides.
#
# ## Exercises
#
# Try each exercise before you open its solution.
#
# **1. Build: AUROC from pairs.** Compute the AUROC of `rare_result` as the share of pairs (anomaly, normal sample)
# in which the anomaly has the higher score. Then apply an increasing function to the scores. What changes?
#
# <details><summary>Hint</summary>
#
# Compare the two arrays of scores by broadcasting, `a[:, None] > b`. For the function take `np.log1p`.
#
# </details>

# %% tags=["solution"]
of_anomalies, of_normal = (rare_result.scores[rare.y_test == label] for label in (1, 0))
by_pairs = (of_anomalies[:, None] > of_normal).mean()
assert np.isclose(by_pairs, rare_result.auroc)
# The order of the scores stays the same, so AUROC does too. A threshold must be transformed with the scores.
assert np.isclose(metrics.auroc(rare.y_test, np.log1p(rare_result.scores)), rare_result.auroc)
print(f"AUROC from pairs {by_pairs:.6f}")

# %% [markdown]
# **2. On paper: the false-positive rate for half precision.** One per cent of the samples are anomalies, and your
# detector finds 80% of them. Which false-positive rate gives a precision of one half?
#
# <details><summary>Hint</summary>
#
# A precision of one half means as many false alarms as true ones. Use the formula of section 1.
#
# </details>

# %% [markdown] tags=["solution"]
# $\pi\,\mathrm{TPR} = (1-\pi)\,\mathrm{FPR}$, hence $\mathrm{FPR} = 0.01 \cdot 0.8 / 0.99 \approx 0.0081$. The rate must be
# below 1%.

# %% tags=["solution"]
needed = 0.01 * 0.8 / 0.99
assert np.isclose(0.01 * 0.8 / (0.01 * 0.8 + 0.99 * needed), 0.5)
print(f"false-positive rate {needed:.2%}")

# %% [markdown]
# **3. Predict: an anomaly rate of 10%.** Build a test set like `rare`, with `many // 10` anomalies. Predict whether AUROC
# and average precision are below, between or above those of `rare` and `half`. Then run it.
#
# <details><summary>Hint</summary>
#
# Which of the two metrics contains $\pi$?
#
# </details>

# %% tags=["solution"]
tenth = as_dataset(train, cloud(many), cloud(many // 10, (2.5, 1.0)))
tenth_result = evaluate(DistanceToCenter().fit(train), tenth)
print(f"AUROC {tenth_result.auroc:.3f}, average precision {tenth_result.average_precision:.3f}")
assert rare_result.average_precision < tenth_result.average_precision < half_result.average_precision
assert abs(tenth_result.auroc - half_result.auroc) < 0.03  # equal up to the sampling error

# %% [markdown]
# **4. Change: fewer held-out samples.** Repeat the experiment of section 2 with `measured_rates(20)`. What is the
# measured rate of the conformal threshold for a nominal rate of 1%, and why?
#
# <details><summary>Hint</summary>
#
# What is the smallest p-value that 20 held-out samples can give?
#
# </details>

# %% tags=["solution"]
few = pd.DataFrame([row for _ in range(20) for row in measured_rates(20)], columns=repeated.columns)
few_rates = (
    few[few["threshold"] == "conformal"].groupby("nominal false-alarm rate")["measured false-alarm rate"].mean()
)
print(few_rates.round(3).to_string())  # the smallest p-value is 1/21 = 4.8%, so there are no alarms at 1% and 2%
assert few_rates.loc[0.01] == 0 < few_rates.loc[0.05]

# %% [markdown]
# **5. Build: control of the false discovery rate.** `ConformalThreshold(procedure="benjamini-hochberg")` limits the share
# of false alarms *among the alarms*. Fit it for 10% on scores of `many` normal samples, and apply it to a test set with
# 1% anomalies around (4.5, 1). Why does it raise fewer alarms than `procedure="none"`?
#
# <details><summary>Hint</summary>
#
# Fit a threshold of each procedure on the same scores. Count the alarms and the share of normal samples among them.
#
# </details>

# %% tags=["solution"]
detector = DistanceToCenter().fit(train)
held_out_scores = detector.anomaly_score(cloud(many))
far = as_dataset(train, cloud(many), cloud(many // 100, (4.5, 1.0)))
scores = detector.anomaly_score(far.X_test)
for procedure in ("none", "benjamini-hochberg"):
    alarms = ConformalThreshold(0.1, procedure).fit(held_out_scores).predict(scores)
    print(f"{procedure}: {alarms.sum()} alarms, {1 - far.y_test[alarms].mean():.0%} of them false")
assert 1 - far.y_test[alarms].mean() < 0.3  # the limit of 10% holds for the mean over many test sets

# %% [markdown] tags=["solution"]
# One hundred of a thousand normal samples have $p \le 0.1$, whatever the anomalies are. The procedure of Benjamini and
# Hochberg requires smaller p-values if few samples have small ones. The false alarms then stay a tenth of the alarms.

# %% tags=["results"]
nb.value("auroc_half", half_result.auroc)
nb.value("auroc_rare", rare_result.auroc)
nb.value("average_precision_half", half_result.average_precision)
nb.value("average_precision_rare", rare_result.average_precision)
nb.value("precision_rare", precision)
nb.value("false_alarms_training_quantile", rates.loc[0.05, "training quantile"], n=n_repeats)
nb.value("false_alarms_conformal", rates.loc[0.05, "conformal"], n=n_repeats)
nb.value("f1_maximal", f1_table["maximal"].mean(), f1_table["maximal"].std(), len(f1_table))
nb.value("f1_same_threshold", f1_table.iloc[:, 1].mean(), f1_table.iloc[:, 1].std(), len(f1_table))
nb.value("interval_width_10_anomalies", intervals.loc[10, "width"])
nb.value("interval_width_160_anomalies", intervals.loc[160, "width"])
nb.value("recall_at_1_percent", recalls.iloc[:, 1].mean(), recalls.iloc[:, 1].std(), len(recalls))
nb.value("knn_300_columns", noise_columns["AUROC of kNN"].iloc[-1])
nb.value("pair_auroc_both", pair_auroc["both"])
nb.value("explained_alarms", 100 * explained, unit="%")
nb.table(measured.round(3), "field_tables", single_run=True)
few_and_many, grown = noise_columns["AUROC of kNN"].iloc[[0, -1]], efficiency["mean"].iloc[[-1, 0]]
guessing = 1 / X.shape[1]
challenges = [
    ("low recall", "AUROC; recall at 1% false alarms", *recalls.mean(), "00b"),
    ("high dimension", "kNN with 2 and with 300 columns", *few_and_many, "01, 06"),
    ("conditional anomalies", "PCA residual; distance to the centre", by_relations, by_center, "02"),
    ("data efficiency", "kNN on 80 and on 3 eights", *grown, "07"),
    ("noise and anomalies", "AUROC against usual and against wrong readings", against_quiet, against_jumps, "03b"),
    ("complex anomalies", "kNN on image and word; on the image", pair_auroc["both"], pair_auroc["image"], "08"),
    ("explanation", "changed column named; by guessing", explained, guessing, "02b"),
]
challenges = pd.DataFrame(challenges, columns=["challenge", "shown", "easy", "hard", "notebook"])
nb.table(challenges, "challenges")
nb.finish()

# %% [markdown]
# ## References
#
# - S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023). Testing for outliers with conformal p-values.
#   *Annals of Statistics* 51(1).
# - Y. Benjamini, Y. Hochberg (1995). Controlling the false discovery rate. *Journal of the Royal
#   Statistical Society B* 57(1).
# - K. Beyer, J. Goldstein, R. Ramakrishnan, U. Shaft (1999). When is "nearest neighbor" meaningful? *ICDT*.
# - B. Efron, R. Tibshirani (1993). *An introduction to the bootstrap*. Chapman & Hall.
# - J. Hanley, B. McNeil (1982). The meaning and use of the area under a ROC curve. *Radiology* 143(1).
# - G. Pang, C. Shen, L. Cao, A. van den Hengel (2021). Deep learning for anomaly detection: a review. *ACM
#   Computing Surveys* 54(2).
# - T. Saito, M. Rehmsmeier (2015). The precision-recall plot is more informative than the ROC plot when
#   evaluating binary classifiers on imbalanced datasets. *PLoS ONE* 10(3).
