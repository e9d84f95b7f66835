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
# # Task 4 in depth: thresholds, settings and explanations of Isolation Forest
#
# A detector gives scores. Its user needs alarms, a known false-alarm rate, sensible settings and reasons for an alarm.
# This notebook measures how thresholds are set with and without test labels, how the settings of Isolation Forest
# change its scores and its running time, and how an alarm is explained.
#
# **You will learn**
#
# - why Isolation Forest does not need standardised columns;
# - why a threshold must not depend on the labels or the anomaly rate of the test set;
# - four ways to set a threshold for a nominal false-alarm rate, and when each holds its rate;
# - how the number of trees and the sub-sample size change the scores and the time;
# - how Shapley values explain an alarm, and how to test such an explanation.
#
# Reading time: about 35 minutes. Running time: about one minute. You should know how Isolation Forest computes its score
# ([notebook 02](02_task4_isolation_forest.ipynb)).
#
# These terms are explained in English and Chinese in the [glossary](glossary.md):
# [standardisation](glossary.md#Standardisation), [information leak](glossary.md#Information-leak), [false-alarm
# rate](glossary.md#False-alarm-rate), [conformal p-value](glossary.md#Conformal-p-value), [peaks over
# threshold](glossary.md#Peaks-over-threshold), [Shapley value](glossary.md#Shapley-value).

# %% [markdown]
# ## Parameters
#
# The default data need no download. With the data of the course, set `dataset` to `"thyroid"`.

# %% tags=["parameters"]
dataset: str = "breast_cancer"  # the table to study: any name that mmad_utils.datasets.load knows
seed: int = 0  # of every split and every random generator
n_estimators: int = 100  # trees in a forest, at least 2
contamination: float = 0.05  # share of the training rows above the threshold
n_splits: int = 5  # splits on which rules with and without test labels are compared, at least 1
n_threshold_splits: int = 30  # splits on which false-alarm rates are measured, at least 2
nominal_rates: list[float] = [0.02, 0.05, 0.1]  # nominal false-alarm rates, each below 0.2
tree_counts: list[int] = [1, 3, 10, 30, 100, 300]  # numbers of trees to compare, two or more
sample_sizes: list[int] = [2, 4, 8, 16, 32, 64, 128, 256]  # rows per tree; those above the table's size are left out
n_seeds: int = 5  # forests fitted for each number of trees and each sample size, at least 2
time_sizes: list[int] = [1000, 2000, 4000, 8000, 16000, 32000]  # rows of the tables that are timed, two or more

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import shap
from scipy import stats
from sklearn.ensemble import IsolationForest
from sklearn.metrics import precision_recall_fscore_support
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

# %%
from mmad_utils import metrics, plots
from mmad_utils.course import notebook
from mmad_utils.detectors.baselines import KNNDistance
from mmad_utils.detectors.gaussian import GaussianAnomalyScorer
from mmad_utils.thresholds import ConformalThreshold, PeaksOverThreshold, QuantileThreshold

nb = notebook.start("02b_thresholds_and_explanations")

# %% [markdown]
# The data and the split are those of notebook 02. Half of the normal rows train the detector; the other half and all
# anomalies test it.

# %%
data = nb.load(dataset, seed=seed).as_table()
X_train, X_test, y_test = data.X_train, data.X_test, data.y_test
columns = list(data.feature_names or [f"column {i + 1}" for i in range(X_train.shape[1])])

# %%
forest = IsolationForest(n_estimators=n_estimators, random_state=seed).fit(X_train)
scores = -forest.score_samples(X_test)
print(f"{dataset}: {len(X_train)} training rows, {len(X_test)} test rows, AUROC {metrics.auroc(y_test, scores):.3f}")

# %% [markdown]
# ## Standardisation
#
# Detectors that use distances need columns with similar scales. If a column is given in micrometres instead of
# millimetres, its values are 1000 times larger and it dominates the distance. A tree never compares two columns. It
# chooses a random value *between the smallest and the largest value of one column*, and this value changes in the same
# way as the column under any change of unit $x \mapsto a x + b$ with $a > 0$. With the same seed the trees and the
# scores are therefore the same.
#
# This does not hold for every monotone transformation. Ranks keep the order but remove the gaps between values, so an
# extreme value is only one rank above the next. A random cut then falls less often between the two. We compare four
# versions of the columns, with kNN as an example of a detector that uses distances.

# %%
ranks = QuantileTransformer(n_quantiles=min(1000, len(X_train)), random_state=seed).fit(X_train)
other_unit = np.where(np.arange(X_train.shape[1]) == 0, 1000.0, 1.0)
versions = {
    "as they are": lambda X: X,
    "first column × 1000": lambda X: X * other_unit,
    "standardised": StandardScaler().fit(X_train).transform,
    "ranks": ranks.transform,
}

# %% [markdown]
# Each version gets a new forest with the same seed, so that only the columns differ.

# %%
scaling, scores_by_version = [], {}
for name, change in versions.items():
    model = IsolationForest(n_estimators=n_estimators, random_state=seed).fit(change(X_train))
    scores_by_version[name] = -model.score_samples(change(X_test))
    neighbours = KNNDistance().fit(change(X_train)).anomaly_score(change(X_test))
    scaling.append([name, *(metrics.auroc(y_test, found) for found in (scores_by_version[name], neighbours))])
scaling = pd.DataFrame(scaling, columns=["columns", "Isolation Forest", "kNN distance"]).set_index("columns")
scaling.round(3)

# %% [markdown]
# The AUROC of Isolation Forest stays the same under a change of unit and under standardisation. The scores also agree
# row by row, except for rare rounding effects, because the trees compare 32-bit numbers. Ranks lower the AUROC in the
# breast cancer data and in thyroid. The kNN distance changes with every version. It does not always improve: in the
# breast cancer data the unscaled columns, which the area dominates, are better for kNN than the standardised ones. This
# is a property of these data and not a general rule. **Standardise the columns for detectors that use distances. For
# Isolation Forest it is not necessary.**

# %% tags=["claim"]
# Rounding to 32 bits moves single values across a cut, hence not exactly equal.
for name in ("first column × 1000", "standardised"):
    assert np.corrcoef(scores_by_version["as they are"], scores_by_version[name])[0, 1] > 0.99
    assert abs(scaling.loc[name, "Isolation Forest"] - scaling.loc["as they are", "Isolation Forest"]) < 0.01
assert scaling["kNN distance"].nunique() > 1
if dataset in ("breast_cancer", "thyroid"):
    assert scaling.loc["ranks", "Isolation Forest"] < scaling.loc["as they are", "Isolation Forest"]

# %% [markdown]
# ## Thresholds that use test labels
#
# An alarm needs a threshold. Many tutorials use this recipe: "5% of the test rows are anomalies, so set contamination
# to 0.05." Only one number is taken from the test labels. It is an information leak nevertheless, for three reasons.
#
# 1. **The number is unknown in use.** There are no labels of future rows, so the result cannot be repeated outside the
#    benchmark.
# 2. **It has another meaning.** With normal training rows, `contamination` is the false-alarm rate. It is unrelated to
#    the anomaly rate of the test set.
# 3. **It can improve the reported metric.** The more a rule knows about the test set, the higher its $F_1$ can be.
#
# We compare four rules on the same scores:
#
# | rule | threshold | uses from the test set |
# |---|---|---|
# | training quantile | the `contamination` quantile of the training scores | nothing |
# | rate as contamination | the same, with the anomaly rate of the test set | the anomaly rate |
# | as many alarms as anomalies | the quantile of the *test* scores at this rate | the anomaly rate and all rows |
# | best F1 | the threshold with the highest $F_1$ on the test set | every label |


# %%
def thresholds_by_rule(train, test, y):
    """The thresholds of the four rules, from training scores, test scores and test labels."""
    return {
        "training quantile": np.quantile(train, 1 - contamination),
        "rate as contamination": np.quantile(train, 1 - y.mean()),
        "as many alarms as anomalies": np.quantile(test, 1 - y.mean()),
        "best F1": np.nextafter(metrics.max_f1(y, test)[1], -np.inf),
    }


# %% [markdown]
# $F_1$ is the harmonic mean of the precision (share of alarms that are anomalies) and the recall (share of anomalies
# that raise an alarm). The false-alarm rate is the share of normal rows that raise an alarm.


# %%
def alarm_metrics(y, alarms):
    """F1, precision, recall and false-alarm rate."""
    precision, recall, f1, _ = precision_recall_fscore_support(y, alarms, average="binary", zero_division=0)
    return {"F1": f1, "precision": precision, "recall": recall, "false-alarm rate": alarms[y == 0].mean()}


# %% [markdown]
# A threshold is estimated from few scores in the tail and varies between splits, so we average over several splits. The
# scores of each split are kept for the next experiment.

# %%
rules, scored = [], []
for i in range(n_splits):
    split = nb.load(dataset, seed=seed + i).as_table()
    model = IsolationForest(n_estimators=n_estimators, random_state=seed + i).fit(split.X_train)
    train, test = -model.score_samples(split.X_train), -model.score_samples(split.X_test)
    scored.append((train, test, split.y_test))
    for rule, threshold in thresholds_by_rule(train, test, split.y_test).items():
        rules.append({"rule": rule, **alarm_metrics(split.y_test, test > threshold)})
leak = pd.DataFrame(rules).groupby("rule", sort=False).mean()
leak.round(3)

# %% [markdown]
# The detector is the same in every row, and only the threshold differs. The rule that uses every label has the highest
# $F_1$. The rule that uses the anomaly rate and the test scores comes within 0.05 of it. The difference between the
# first and the last row is the gain in $F_1$ that comes from the test labels alone. No user of the detector has it.
#
# The second rule shows the confusion of meanings. It sets the false-alarm rate to the anomaly rate of the test set, and
# this is what it gets. In the breast cancer data more than half of the normal rows raise an alarm. (scikit-learn refuses
# a `contamination` above 0.5.) In thyroid the anomaly rate is near 5%, so the error does not become visible.

# %% tags=["claim"]
assert leak["F1"].idxmax() == "best F1"
assert leak.loc["best F1", "F1"] > leak.loc["training quantile", "F1"]
if dataset in ("breast_cancer", "thyroid"):
    assert leak.loc["as many alarms as anomalies", "F1"] > leak.loc["best F1", "F1"] - 0.05
# The rate is set on training rows; a detector that fits these better than new rows has more false alarms on new ones.
assert abs(leak.loc["rate as contamination", "false-alarm rate"] - y_test.mean()) < 0.15

# %% [markdown]
# ### Thresholds that depend on prevalence
#
# With the last three rules the alarm of a normal row depends on the *other* rows of the test set. To show this, we keep
# the detector and change only the anomaly rate of the test set: we remove random anomalies or random normal rows until
# the rate has a given value. The false-alarm rate of a valid rule must stay the same.


# %%
def at_rate(y, rate, rng):
    """Row numbers of the largest random part of a test set with this anomaly rate."""
    normals, anomalies = rng.permutation(np.flatnonzero(y == 0)), rng.permutation(np.flatnonzero(y == 1))
    total = min(len(normals) / (1 - rate), len(anomalies) / rate)
    return np.concatenate([normals[: round(total * (1 - rate))], anomalies[: max(1, round(total * rate))]])


# %% [markdown]
# This is repeated five times for each split and rate, because the result depends on which rows are removed.

# %%
rng, prevalence = np.random.default_rng(seed), []
for rate in (0.02, 0.05, 0.1, 0.2, 0.4):
    for train, test, y in scored * 5:
        rows = at_rate(y, rate, rng)
        for rule, threshold in thresholds_by_rule(train, test[rows], y[rows]).items():
            false_alarm_rate = (test[rows][y[rows] == 0] > threshold).mean()
            prevalence.append({"anomaly rate": rate, "rule": rule, "false-alarm rate": false_alarm_rate})
prevalence = pd.DataFrame(prevalence)

# %%
fig = plots.lines(prevalence, "anomaly rate", "false-alarm rate", by="rule", error=None)
mean_rates = prevalence.pivot_table(index="anomaly rate", columns="rule", values="false-alarm rate")[leak.index]
nb.figure(fig, "contamination_leak", data=mean_rates.reset_index())

# %% [markdown]
# The training quantile gives a flat line: the alarm of a normal row does not depend on the other rows. With the anomaly
# rate as contamination, the false-alarm rate follows the anomaly rate.

# %% tags=["claim"]
assert np.ptp(mean_rates["training quantile"]) < 0.05
assert mean_rates["rate as contamination"].iloc[-1] - mean_rates["rate as contamination"].iloc[0] > 0.2

# %% [markdown]
# ## Thresholds for a nominal false-alarm rate
#
# Without labelled anomalies we can still control the false-alarm rate, because normal rows are available. There are four
# common ways to set a threshold for a nominal rate $\alpha$:
#
# - **Training quantile**: the $1-\alpha$ quantile of the scores of the training rows. It needs no further data. A
#   detector may fit its training rows better than new rows, and then the threshold is too low.
# - **Held-out quantile**: the same quantile for normal rows that were not used for training. Here it costs half of
#   the training rows.
# - **Conformal**: with $n$ held-out scores $s_1, \dots, s_n$, a new row has the p-value
#   $$p(x) = \frac{1 + \#\{i : s_i \ge s(x)\}}{n + 1}.$$ It raises an alarm if $p(x) \le \alpha$. If the new normal row is
#   exchangeable with the held-out rows, its rank among them is uniform, so a false alarm has probability at most
#   $\alpha$. This holds for *any* detector, distribution and $n$.
# - **Peaks over threshold**: by extreme value theory, the excesses over a high level follow a generalised Pareto
#   distribution. It is fitted to the highest held-out scores. Its quantile can lie beyond the largest of them.
#
# We compute the last two by hand, on one half of the training rows, for $\alpha = 0.05$. First the p-values:

# %%
fitted_on, held_out_rows = np.array_split(np.random.default_rng(seed).permutation(X_train), 2)
half_forest = IsolationForest(n_estimators=n_estimators, random_state=seed).fit(fitted_on)
held_out, new = -half_forest.score_samples(held_out_rows), -half_forest.score_samples(X_test)
p_values = (1 + (held_out[:, None] >= new).sum(axis=0)) / (len(held_out) + 1)
pd.Series(p_values).groupby(np.where(y_test == 1, "anomaly", "normal")).quantile([0.1, 0.5, 0.9]).unstack().round(3)

# %% [markdown]
# Then the tail: the excesses over the 80% quantile are fitted. The excesses are 20% of the scores, so the tail
# probability $\alpha$ among all scores is $\alpha / 0.2$ among the excesses.

# %%
level = np.quantile(held_out, 0.8)
excesses = held_out[held_out > level] - level
shape, _, scale = stats.genpareto.fit(excesses, floc=0)
tail_threshold = level + stats.genpareto.isf(0.05 * len(held_out) / len(excesses), shape, scale=scale)
print(f"80% quantile {level:.3f}, threshold {tail_threshold:.3f}, largest held-out score {held_out.max():.3f}")

# %% tags=["claim"]
assert np.array_equal(p_values, ConformalThreshold(0.05).fit(held_out).p_values(new))
assert np.isclose(tail_threshold, PeaksOverThreshold(risk=0.05, level=0.8).fit(held_out).threshold_)

# %% [markdown]
# The classes of `mmad_utils.thresholds` do the same. We now measure the false-alarm rate of all four thresholds on many
# splits.


# %%
def nominal_thresholds(alpha, fitted_on, held_out):
    """The four fitted thresholds for a nominal rate alpha, from scores of normal rows."""
    return {
        "training quantile": QuantileThreshold(alpha).fit(fitted_on),
        "held-out quantile": QuantileThreshold(alpha).fit(held_out),
        "conformal": ConformalThreshold(alpha).fit(held_out),
        "peaks over threshold": PeaksOverThreshold(risk=alpha, level=0.8).fit(held_out),
    }


# %% [markdown]
# Two detectors are compared: Isolation Forest, and a Gaussian model (the Mahalanobis distance to the mean), which
# estimates many parameters. Its columns are standardised, and its covariance is the empirical one.


# %%
def two_detectors(number):
    """Unfitted detectors for one split."""
    return {
        "Isolation Forest": IsolationForest(n_estimators=n_estimators, random_state=seed + number),
        "Gaussian": make_pipeline(StandardScaler(), GaussianAnomalyScorer(covariance="empirical")),
    }


# %% [markdown]
# In each split one half of the training rows fits the detectors and the other half is held out. The recall is recorded
# too, because a threshold that never raises an alarm also holds any nominal rate.

# %%
held = []
for i in range(n_threshold_splits):
    split = data.resplit(seed + i)
    fit_rows, held_rows = np.array_split(np.random.default_rng(seed + i).permutation(split.X_train), 2)
    for name, model in two_detectors(i).items():
        model.fit(fit_rows)
        fitted_scores, held_scores, test = (-model.score_samples(X) for X in (fit_rows, held_rows, split.X_test))
        for alpha in nominal_rates:
            for kind, threshold in nominal_thresholds(alpha, fitted_scores, held_scores).items():
                alarms = threshold.predict(test)
                held.append((name, kind, alpha, *(alarms[split.y_test == label].mean() for label in (0, 1))))
held = pd.DataFrame(held, columns=["detector", "threshold", "nominal rate", "measured rate", "recall"])

# %% [markdown]
# The standard deviation describes a single user, who has one split: a rule that is right on average can be wrong by a
# few percent when it is built from few rows.

# %%
by_threshold = held.groupby(["detector", "threshold", "nominal rate"], sort=False)
thresholds = by_threshold["measured rate"].agg(**{"measured rate": "mean", "sd": "std"})
thresholds["recall"] = by_threshold["recall"].mean()
thresholds.round(3)

# %% [markdown]
# In the figure the grey line marks equal rates. Above it there are more false alarms than the nominal rate, below it
# fewer. The two panels have different vertical axes.

# %%
grid = sns.relplot(
    held, x="nominal rate", y="measured rate", hue="threshold", style="threshold", col="detector", kind="line",
    markers=True, errorbar="se", height=2.9, palette=plots.COLORS[:4], facet_kws={"sharey": False},
)  # fmt: skip
for axis in grid.set_titles("{col_name}").axes.flat:
    axis.axline((0, 0), slope=1, color="0.5", lw=1, zorder=0)
lowest = nominal_rates[0]
measured = thresholds.loc[("Gaussian", "training quantile", lowest), "measured rate"]
shown = {"data": thresholds.reset_index(), "n": n_threshold_splits, "lowest": lowest, "measured": measured}
nb.figure(grid.figure, "isolation_forest_thresholds", **shown)

# %% [markdown]
# With Isolation Forest all four measured rates are close to the nominal rate, also that of the training quantile. Random
# trees do not adapt their cuts to the rows, so they hardly overfit. This is a property of the forest. The Gaussian
# estimates a covariance matrix from its training rows. With many columns for the number of rows, as in the breast cancer
# data, the training rows get much lower scores than new rows, and the training quantile exceeds its nominal rate several
# times. The thresholds from held-out rows are close to the nominal rate for both detectors.
#
# The conformal threshold has a proof, and its measured rate is at or below the nominal rate up to sampling error. It is
# conservative when there are few held-out rows: with 89 scores no p-value is below 1/90, so a nominal rate of 1% gives
# no alarm at all.

# %% tags=["claim"]
by_kind = thresholds["measured rate"].unstack("threshold")
gap = by_kind.sub(by_kind.index.get_level_values("nominal rate"), axis=0).abs()
if n_threshold_splits >= 8:  # with fewer splits the mean rates have standard errors above 0.01
    assert gap.loc["Isolation Forest"].to_numpy().max() < 0.05
    assert gap[["held-out quantile", "peaks over threshold"]].to_numpy().max() < 0.05
if dataset == "breast_cancer":
    assert (by_kind.loc["Gaussian", "training quantile"] > 3 * np.array(nominal_rates)).all()
conformal = thresholds.xs("conformal", level="threshold").reset_index()
sampling_error = 4 * conformal["sd"] / np.sqrt(n_threshold_splits)  # four standard errors of the mean
if n_threshold_splits >= 8:
    assert (conformal["measured rate"] <= conformal["nominal rate"] + sampling_error).all()

# %% [markdown]
# ## Number of trees and sub-sample size
#
# The score is an average over $t$ random trees. Its standard deviation between forests with different seeds therefore
# decreases like that of any mean of independent values, as $1/\sqrt t$. The expected score does not depend on $t$: more
# trees reduce the randomness and do not change what is estimated.
#
# The sub-sample size $\psi$ also changes the expected score. For each setting we fit `n_seeds` forests to the same rows.


# %%
def forests(**options):
    """AUROC (mean, sd) and the mean sd of a score over forests that differ only in their seed."""
    models = [IsolationForest(random_state=seed + i, **options).fit(X_train) for i in range(n_seeds)]
    scores = np.array([-model.score_samples(X_test) for model in models])
    areas = [metrics.auroc(y_test, one) for one in scores]
    return {"mean": np.mean(areas), "sd": np.std(areas, ddof=1), "score sd": scores.std(axis=0, ddof=1).mean()}


# %%
by_trees = pd.DataFrame({t: forests(n_estimators=t) for t in tree_counts}).T.rename_axis("trees")
exponent = np.polyfit(np.log(by_trees.index.astype(float)), np.log(by_trees["score sd"]), 1)[0]
print(f"sd of a score ∝ t^{exponent:.2f}")
by_trees.rename(columns={"mean": "AUROC", "sd": "AUROC sd"}).round(4)

# %% [markdown]
# The exponent comes from a straight line through the logarithms. Then the sub-sample size is varied, with
# `n_estimators` trees.

# %%
sizes = [size for size in sample_sizes if size <= len(X_train)]
by_rows = pd.DataFrame({size: forests(n_estimators=n_estimators, max_samples=size) for size in sizes}).T

# %%
fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 2.7), layout="constrained")
axes[0].errorbar(by_trees.index, by_trees["mean"], by_trees["sd"], marker="o", ms=4, capsize=2.5)
axes[1].plot(by_trees.index, by_trees["score sd"], marker="o", ms=4)
axes[2].errorbar(by_rows.index, by_rows["mean"], by_rows["sd"], marker="o", ms=4, capsize=2.5)
axes[0].set(xscale="log", xlabel="trees t", ylabel="AUROC")
axes[1].set(xscale="log", yscale="log", xlabel="trees t", ylabel="sd of a score between seeds")
axes[2].set(xscale="log", xlabel="rows per tree ψ", ylabel="AUROC")
settings = pd.concat({"trees": by_trees, "rows per tree": by_rows}, names=["setting", "value"]).reset_index()
nb.figure(fig, "isolation_forest_trees", data=settings)

# %% [markdown]
# In the middle panel the slope on logarithmic axes is near −½. To halve the standard deviation of a score, four times
# as many trees are needed; a hundred trees are usually enough. In the right panel a tree on two rows gives an AUROC of
# exactly one half: its only cut separates the two rows, so every row has the same path length. A few dozen rows per tree
# are already enough here.

# %% tags=["claim"]
# The standard deviations are estimated from few seeds, hence the wide interval around -0.5.
if n_seeds >= 3 and max(tree_counts) >= 100 * min(tree_counts):
    assert -0.65 < exponent < -0.35
    assert by_trees["sd"].iloc[-1] < by_trees["sd"].iloc[0]
if 2 in by_rows.index:
    assert by_rows.loc[2, "mean"] == 0.5
if dataset in ("breast_cancer", "thyroid") and 32 in by_rows.index:
    assert by_rows["mean"].max() - by_rows.loc[32, "mean"] < 0.03

# %% [markdown]
# ## Running time
#
# The complexity of Isolation Forest is often given as $O(n \log n)$. For the method of the paper this is wrong. Each of
# $t$ trees is grown on $\psi$ rows to depth $\log_2 \psi$, so training takes $O(t\,\psi \log \psi)$. **The number of rows
# $n$ does not appear.** For scoring, each of $n$ rows passes $t$ trees of depth at most $\log_2 \psi$: $O(n\,t \log
# \psi)$, linear in $n$. Training takes $O(t\,n \log n)$ only if every tree uses all rows.
#
# Measured times vary, so we also count nodes, which do not. A tree on $\psi$ rows has at most $2\psi - 1$ nodes.


# %%
def timed(n, psi, rng):
    """Seconds to fit and to score n random rows of ten columns (the best of three runs), and the number of nodes."""
    X = rng.normal(size=(n, 10))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model = IsolationForest(n_estimators=n_estimators // 2, max_samples=psi, random_state=seed).fit(X)
        fitted = time.perf_counter()
        model.score_samples(X)
        seconds.append((fitted - start, time.perf_counter() - fitted))
    return *np.min(seconds, axis=0), sum(tree.tree_.node_count for tree in model.estimators_)


# %% [markdown]
# For every $n$ we fit two forests: one with at most 256 rows per tree, and one in which every tree uses all rows. The
# best of three runs is used, because other programs on the computer can only add time.

# %%
psi, rng, growth = min(256, *time_sizes), np.random.default_rng(seed), []
for n in time_sizes:
    (fit, score, nodes), (fit_all, _, nodes_all) = timed(n, psi, rng), timed(n, n, rng)
    growth.append((n, fit, fit_all, score, nodes, nodes_all))

# %%
names = ["n", f"fit, ψ = {psi}", "fit, ψ = n", f"score, ψ = {psi}", f"nodes, ψ = {psi}", "nodes, ψ = n"]
growth = pd.DataFrame(growth, columns=names).set_index("n")
growth.round(3)

# %% [markdown]
# On logarithmic axes a power law $n^a$ is a straight line with slope $a$. Slope zero means that the time does not depend
# on $n$. Slope one means that twice as many rows take twice the time.

# %%
fig = plots.growth(growth.iloc[:, :3], xlabel="rows n")
in_seconds = growth.rename(columns=lambda name: name if name.startswith("nodes") else f"{name} (s)").reset_index()
nb.figure(fig, "isolation_forest_time", data=in_seconds, trees=n_estimators // 2)

# %% [markdown]
# With fixed $\psi$ the number of nodes does not depend on $n$; with $\psi = n$ it grows. The times agree with this apart
# from constant costs. For few rows, scoring consists mostly of a fixed cost per tree, so its line is first flat and then
# linear. Fitting with fixed $\psi$ is not completely flat for large $n$: scikit-learn draws the sub-sample with a weight
# for every row, which adds $O(t\,n)$ with a small constant. This cost belongs to the implementation and not to the
# method.

# %% tags=["claim"]
fixed, full = growth.iloc[:, 3], growth.iloc[:, 4]
assert fixed.max() <= n_estimators // 2 * (2 * psi - 1)
if n_estimators >= 50 and max(time_sizes) >= 4 * min(time_sizes):
    assert fixed.max() / fixed.min() < 1.5  # random trees on other rows differ by less than this
    assert full.iloc[-1] / full.iloc[0] > 1.5

# %% [markdown]
# ## Explanations with Shapley values
#
# A user who gets an alarm wants to know the reason. A forest of a hundred trees is too large to read, but the score can
# be split among the columns. **Shapley values** split the difference between the path length of a row and the mean path
# length:
#
# $$E[h(x)] = \phi_0 + \sum_{j=1}^{d} \phi_j(x)$$
#
# Here $E[h(x)]$ is the mean path length of the row over the trees, $\phi_0$ is the mean path length of the training rows
# of the trees, and $d$ is the number of columns. The contribution $\phi_j$ is the change of the path length when column
# $j$ becomes known, averaged over all orders of the columns. It is negative where the column makes the row more
# anomalous. For trees the values can be computed exactly (Lundberg et al. 2020). We explain the five highest scores of
# the test set.

# %%
explained_rows = np.argsort(-scores)[:5]
explainer = shap.TreeExplainer(forest)
contributions = explainer.shap_values(X_test[explained_rows])  # (5, d), in cuts
base = float(np.squeeze(explainer.expected_value))

# %% [markdown]
# An explanation must add up. By $s = 2^{-E[h]/c(\psi)}$ the mean path length of each row is $-c(\psi) \log_2 s$, where
# $c(\psi)$ is the average path length in a tree of $\psi$ rows (notebook 02).

# %%
psi_trees = forest.max_samples_
c = 2 * (np.log(psi_trees - 1) + np.euler_gamma) - 2 * (psi_trees - 1) / psi_trees
sums = {"base + contributions (cuts)": base + contributions.sum(axis=1)}
sums["mean path length (cuts)"] = -c * np.log2(scores[explained_rows])
pd.DataFrame(sums, index=[f"alarm {i + 1}" for i in range(len(explained_rows))]).round(2)

# %% tags=["claim"]
# shap reads the sizes of the leaves in single precision.
assert np.allclose(sums["base + contributions (cuts)"], sums["mean path length (cuts)"], atol=0.01)

# %% [markdown]
# The figure shows the eight columns with the largest contributions. Other columns are summed in the last row, so that
# each column of the figure adds up to the path length minus the base. The colours are scaled to the single columns; the
# sum can exceed this scale.

# %%
top = np.argsort(np.abs(contributions).mean(axis=0))[::-1][:8]
explained = pd.DataFrame(contributions[:, top].T, index=[columns[j] for j in top])
if X_train.shape[1] > len(top):
    explained.loc["all others"] = contributions.sum(axis=1) - contributions[:, top].sum(axis=1)
explained.columns = [f"alarm {i + 1}" for i in range(len(explained_rows))]

# %%
fig, axis = plt.subplots(figsize=(plots.WIDTH, 3.6), layout="constrained")
limit = np.abs(contributions[:, top]).max()
colors = sns.blend_palette([plots.ANOMALY, "white", plots.NORMAL], as_cmap=True)
sns.heatmap(
    explained.set_axis([f"alarm {i + 1}\ns = {s:.2f}" for i, s in enumerate(scores[explained_rows])], axis=1),
    vmin=-limit, vmax=limit, cmap=colors, annot=True, fmt=".2f", ax=axis, linewidths=1,
    cbar_kws={"label": "change of path length (cuts)"},
)  # fmt: skip
axis.tick_params(length=0)
nb.figure(fig, "isolation_forest_shap", data=explained.rename_axis("column").reset_index(), column=columns[top[0]])

# %% [markdown]
# Orange-red cells shorten the path and make the row more anomalous; blue cells lengthen it. In the breast cancer data
# the contributions are spread over many columns: thirty correlated columns describe the same large nucleus, and each
# gets a share. An explanation by columns says *where* a row is unusual. It does not say what caused it.
#
# ### Test of an explanation
#
# If the explanation is right, the score must decrease when the columns with the most negative contributions get typical
# values. We replace three columns by their training median and compare with the replacement of random columns.


# %%
def score_drop(row, replaced):
    """Decrease of a row's score when the given columns get the median of the training rows."""
    changed = X_test[row].copy()
    changed[replaced] = np.median(X_train, axis=0)[replaced]
    return scores[row] + forest.score_samples(changed[None])[0]


# %% [markdown]
# For random columns we average over twenty draws. In tables with few columns fewer than three are replaced, so that both
# choices can differ.

# %%
rng, n_columns = np.random.default_rng(seed), X_train.shape[1]
n_replaced = min(3, n_columns // 2)
by_shap = [score_drop(row, phi.argsort()[:n_replaced]) for row, phi in zip(explained_rows, contributions)]

# %%
draws = [[score_drop(row, rng.permutation(n_columns)[:n_replaced]) for _ in range(20)] for row in explained_rows]
drops = pd.DataFrame({"columns chosen by SHAP": by_shap, "random columns": np.mean(draws, axis=1)}, explained.columns)
drops.round(3)

# %% [markdown]
# On average the score decreases more with the columns chosen by SHAP than with random ones.

# %% tags=["claim"]
if n_estimators >= 50:  # very small forests use each column in few cuts
    assert drops["columns chosen by SHAP"].mean() > drops["random columns"].mean()

# %% [markdown]
# ## In this notebook
#
# - A change of unit does not change the scores of Isolation Forest; a rank transformation does.
# - A threshold that uses the test labels or their anomaly rate gives a higher $F_1$ than a user can obtain. The alarms of
#   normal rows then depend on the anomalies in the test set.
# - The false-alarm rate can be controlled with normal rows alone. Thresholds from held-out scores hold the nominal rate
#   for every detector; thresholds from training scores only for a detector that does not overfit.
# - The standard deviation of a score decreases as $1/\sqrt t$ with the number of trees $t$. The training time does not
#   depend on the number of rows, and the scoring time is linear in it.
# - Shapley values split the path length exactly among the columns. Replacing the columns with the most negative values
#   lowers the score.
#
# ## Exercises
#
# **1. Predict: the default threshold.** By default (`contamination="auto"`) Isolation Forest raises an alarm where
# $s > 0.5$. Predict the false-alarm rate on normal test rows. Is it near 5%, and would it be the same on another table?
#
# <details><summary>Hint</summary>
#
# $s = 0.5$ means that the path has the average length of a random tree. Does this say anything about the share of normal
# rows?
#
# </details>

# %% tags=["solution"]
default_alarms = forest.predict(X_test) == -1
assert np.array_equal(default_alarms, scores > 0.5)
if dataset == "breast_cancer" and n_estimators >= 50:
    assert 0.05 < default_alarms[y_test == 0].mean() < 0.15 and default_alarms[y_test == 1].mean() > 0.8
print(f"false-alarm rate {default_alarms[y_test == 0].mean():.3f}, recall {default_alarms[y_test == 1].mean():.3f}")

# %% [markdown] tags=["solution"]
# The value 0.5 is related to the average path length of random trees and not to a share of normal rows. The false-alarm
# rate therefore depends on the distribution of the normal rows and differs between tables.

# %% [markdown]
# **2. Change: fewer held-out rows.** Set the held-out quantile for a nominal rate of 10% from the first 10, 20, 40 and
# 80 held-out rows. How do the mean and the standard deviation of the measured false-alarm rate change?
#
# <details><summary>Hint</summary>
#
# Fit one forest per split, as in the text, and reuse its scores for all four numbers.
#
# </details>

# %% tags=["solution"]
fewer = []
for i in range(n_threshold_splits):
    split = data.resplit(seed + i)
    fit_rows, held_rows = np.array_split(np.random.default_rng(seed + i).permutation(split.X_train), 2)
    model = IsolationForest(n_estimators=n_estimators, random_state=seed + i).fit(fit_rows)
    held_scores, test = -model.score_samples(held_rows), -model.score_samples(split.X_test[split.y_test == 0])
    for n in (10, 20, 40, 80):
        alarms = QuantileThreshold(0.1).fit(held_scores[:n]).predict(test)
        fewer.append({"held-out rows": n, "false-alarm rate": alarms.mean()})
fewer = pd.DataFrame(fewer).groupby("held-out rows")["false-alarm rate"].agg(["mean", "std"])
if n_threshold_splits >= 20:  # fewer splits do not give an accurate standard deviation
    assert fewer["std"].loc[10] > fewer["std"].loc[80]
fewer.round(3)

# %% [markdown] tags=["solution"]
# With few held-out rows the standard deviation is larger. The mean is too high as well: on average, the interpolated
# 90% quantile of ten scores lies below the 90% quantile of all normal rows.

# %% [markdown]
# **3. Build: the false discovery rate.** A nominal false-alarm rate says nothing about the share of *alarms* that are
# false. `ConformalThreshold(alpha, procedure="benjamini-hochberg")` bounds the expected share of false alarms among all
# alarms (the false discovery rate) by alpha. Measure this share over the splits for alpha = 0.2.
#
# <details><summary>Hint</summary>
#
# `predict` needs all test scores at once. Count the alarms with label 0 and divide by the number of alarms.
#
# </details>

# %% tags=["solution"]
discoveries = []
for i in range(n_splits):
    split = data.resplit(seed + i)
    fit_rows, held_rows = np.array_split(np.random.default_rng(seed + i).permutation(split.X_train), 2)
    model = IsolationForest(n_estimators=n_estimators, random_state=seed + i).fit(fit_rows)
    threshold = ConformalThreshold(0.2, procedure="benjamini-hochberg").fit(-model.score_samples(held_rows))
    alarms = threshold.predict(-model.score_samples(split.X_test))
    false_share = (split.y_test[alarms] == 0).sum() / max(alarms.sum(), 1)
    discoveries.append({"false discovery rate": false_share, "recall": alarms[split.y_test == 1].mean()})
discoveries = pd.DataFrame(discoveries)
assert discoveries["false discovery rate"].mean() <= 0.3  # 0.2 in expectation; the mean of few splits varies
discoveries.mean().round(3).to_frame("mean over the splits")

# %% [markdown] tags=["solution"]
# The share stays near or below alpha. It is lower where anomalies are common, because the bound is alpha times the share
# of normal rows in the test set.

# %% [markdown]
# **4. Build: explain a missed anomaly.** Take the anomaly with the lowest score and compute its Shapley values. Which
# columns make it look normal?
#
# <details><summary>Hint</summary>
#
# Positive contributions lengthen the path.
#
# </details>

# %% tags=["solution"]
missed = np.flatnonzero(y_test == 1)[scores[y_test == 1].argmin()]
phi = explainer.shap_values(X_test[missed : missed + 1])[0]
assert scores[missed] < np.median(scores[y_test == 1]) and phi.max() > 0
changes = pd.Series(phi, index=columns, name="change of path length (cuts)").sort_values()
changes.iloc[[0, 1, -2, -1]].round(2).to_frame()

# %% [markdown] tags=["solution"]
# A missed anomaly has positive contributions: these values are so common that they lengthen the path. A lower threshold
# would also alarm many normal rows. Other columns, or a detector that models relations, may help.

# %% [markdown]
# **5. On paper: Shapley values of two columns.** The mean path length is 8 cuts if no column is known, 6 if only the
# first is known, 7 if only the second is known, and 3 if both are known. Compute $\phi_1$ and $\phi_2$.
#
# <details><summary>Hint</summary>
#
# There are two orders of the columns. In each order, note the change of the path length when column 1 becomes known.
#
# </details>

# %% [markdown] tags=["solution"]
# In the order 1, 2 column 1 changes the length from 8 to 6, in the order 2, 1 from 7 to 3. So
# $\phi_1 = \frac12(-2 - 4) = -3$. In the same way $\phi_2 = \frac12((3 - 6) + (7 - 8)) = -2$. The sum is $-5 = 3 - 8$.

# %% tags=["solution"]
none, first, second, both = 8, 6, 7, 3
phi_1, phi_2 = ((first - none) + (both - second)) / 2, ((second - none) + (both - first)) / 2
assert (phi_1, phi_2) == (-3, -2) and phi_1 + phi_2 == both - none

# %% [markdown]
# ## References
#
# - F. T. Liu, K. M. Ting, Z.-H. Zhou (2008). Isolation Forest. *IEEE International Conference on Data Mining*.
# - S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023). Testing for outliers with conformal p-values. *Annals
#   of Statistics* 51(1).
# - A. Siffer, P.-A. Fouque, A. Termier, C. Largouët (2017). Anomaly detection in streams with extreme value
#   theory. *KDD*.
# - S. M. Lundberg et al. (2020). From local explanations to global understanding with explainable AI for trees.
#   *Nature Machine Intelligence* 2.
# - Y. Benjamini, Y. Hochberg (1995). Controlling the false discovery rate. *Journal of the Royal Statistical Society B*
#   57(1).

# %% tags=["results"]
nb.table(scaling, "scaling")
nb.table(leak, "contamination_leak")
nb.value("leak_f1_gain", leak.loc["best F1", "F1"] - leak.loc["training quantile", "F1"], n=n_splits)
nb.value("false_alarm_rate_no_leak", leak.loc["training quantile", "false-alarm rate"], n=n_splits)
nb.value("false_alarm_rate_leak", leak.loc["rate as contamination", "false-alarm rate"], n=n_splits)
nb.table(thresholds.reset_index(), "thresholds", n=n_threshold_splits)
nominal = min(nominal_rates, key=lambda alpha: abs(alpha - contamination))
nb.value("nominal_false_alarm_rate", nominal)
for kind in ("training quantile", "conformal"):
    mean, sd = thresholds.loc[("Isolation Forest", kind, nominal), ["measured rate", "sd"]]
    nb.value(f"false_alarm_rate_{kind.replace(' ', '_')}", mean, sd=sd, n=n_threshold_splits)
gaussian = thresholds.loc[("Gaussian", "training quantile", nominal), "measured rate"]
nb.value("gaussian_false_alarm_rate_training_quantile", gaussian)
nb.value("score_spread_exponent", exponent, n=n_seeds)
doubling = 2 ** np.polyfit(np.log(growth.index.astype(float)), np.log(growth.iloc[:, :3].to_numpy()), 1)[0]
for key, factor in zip(("fit_time", "fit_all_rows_time", "score_time"), doubling):
    nb.value(f"{key}_per_doubling", factor, unit="times")
nb.value("shap_replacement_score_drop", drops["columns chosen by SHAP"].mean(), n=5)
nb.value("random_replacement_score_drop", drops["random columns"].mean(), n=5)
nb.finish()
