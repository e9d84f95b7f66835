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
# # New data
#
# A detector was fitted, calibrated and saved. A new file arrives every day. This notebook scores such files. It shows how
# to find out what a change in them means: a fault of the recording, a slow change of the process, or an anomaly. All
# data are generated, so the true cause of each change is known.
#
# **You will learn**
#
# - how many alarms per day are compatible with the nominal false-alarm rate;
# - how to test each column for drift, and why the tests must be corrected for the number of columns;
# - how to distinguish a broken sensor, a new category, a renamed column, a slow drift and an incident;
# - what recalibration on confirmed normal rows changes, and what it does not change;
# - how much a few confirmed anomalies improve a detector.
#
# Reading takes about 25 minutes, running about two minutes. You need the false-alarm rate from notebook 00b and
# hypothesis tests with p-values. Notebook 11 fits and saves a detector for a file of your own.
#
# Terms, explained in English and Chinese in the [glossary](glossary.md): [calibration](glossary.md#Calibration),
# [conformal p-value](glossary.md#Conformal-p-value), [false-alarm rate](glossary.md#False-alarm-rate), [control
# limits](glossary.md#Control-limits), [drift](glossary.md#Drift), [false discovery
# rate](glossary.md#False-discovery-rate), [hybrid detector](glossary.md#Hybrid-detector).

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
rows_per_day: int = 500  # rows of a daily file, at least 300
n_training: int = 4000  # normal rows, at least 1000; half train the detector, half calibrate it
n_days: int = 50  # clean days per seed, at least 20
false_alarms: float = 0.05  # nominal rate of alarms among normal rows, from 0.01 to 0.1
level: float = 0.05  # of the drift tests of one day, at most 0.2
n_seeds: int = 10  # detectors, each with its own days, at least 2
label_counts: list[int] = [5, 20]  # confirmed anomalies, at least one count
seed: int = 0  # of every random draw

# %%
import numpy as np
import pandas as pd
from scipy import stats

# %%
from mmad_utils import CalibratedDetector, ColumnEncoder, Detector, GaussianAnomalyScorer, metrics, plots
from mmad_utils.course import notebook
from mmad_utils.datasets.record import DatasetError
from mmad_utils.detector import check_share, check_whole
from mmad_utils.encoders.tabular import TabularEncoder
from mmad_utils.files import write_atomic
from mmad_utils.multimodal.supervised import HybridMultiModalAnomalyDetector
from mmad_utils.multimodal.unified import MultiModalAnomalyDetector
from mmad_utils.score import describe, score_file

# %%
nb = notebook.start("12_new_data")
folder = nb.results.output / "new_data"

# %% [markdown]
# Parameters that are too small for the statements below are refused.

# %%
check_whole("rows_per_day", rows_per_day, 300)
check_whole("n_training", n_training, 1000)
check_whole("n_days", n_days, 20)
check_whole("n_seeds", n_seeds, 2)
check_whole("label_counts, smallest", min(label_counts, default=0), 1)

# %%
check_share("false_alarms", false_alarms, 0.1)
check_share("level", level, 0.2)

# %% [markdown]
# ## 1. The saved detector
#
# The rows are measurements of three machines. Temperature, pressure and current increase with the load, which is not
# measured. The other columns are independent of the load. The table has no column with the date. Every date in a new
# file is later than all training dates, so a detector that was trained on dates would raise an alarm for each row.


# %%
def draw_rows(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Normal rows of the three machines."""
    load = rng.normal(size=n)
    table = pd.DataFrame({"temperature": 60 + 5 * load + rng.normal(size=n)})
    table["pressure"] = 2 + 0.2 * load + 0.1 * rng.normal(size=n)
    table["current"] = 10 + 2 * load + 0.5 * rng.normal(size=n)
    table["vibration"] = rng.lognormal(0, 0.3, n)
    for number in range(1, 8):
        table[f"sensor {number}"] = rng.normal(size=n)
    return table.assign(machine=rng.choice(["A", "B", "C"], n))


# %% [markdown]
# Several faults below raise the values of `vibration`. One function generates them all.


# %%
def shift_vibration(table: pd.DataFrame, amount: float) -> pd.DataFrame:
    """The same rows with a higher vibration; the standard deviation of normal rows is about 0.3."""
    return table.assign(vibration=table["vibration"] + amount)


# %% [markdown]
# The Gaussian detector computes the Mahalanobis distance, so it takes relations between columns into account. This is
# needed here: a normal temperature together with a normal current can be anomalous if they belong to different loads.
# `CalibratedDetector` fits it on one half of the rows. The scores of the other half are used to convert new scores into
# p-values.


# %%
def fit_detector(table: pd.DataFrame, random_state: int) -> CalibratedDetector:
    base = GaussianAnomalyScorer()
    return CalibratedDetector(base, ColumnEncoder(), contamination=false_alarms, random_state=random_state).fit(table)


# %% [markdown]
# The detector is saved and loaded again, as on a machine that only scores files. A saved detector records its parameters, the package version and hashes of its training data. They show later which
# data a score depends on.

# %%
training = draw_rows(n_training, np.random.default_rng([seed, 0]))
fit_detector(training, seed).save(folder / "detector.safetensors")
detector = Detector.load(folder / "detector.safetensors")
print(describe(detector))

# %% [markdown]
# ## 2. Alarms per day
#
# Of $n$ normal rows about $\alpha n$ raise an alarm, where $\alpha$ is the nominal rate. How far may a day deviate from
# this number before something has changed? A control chart for a share (p chart) answers with a lower and an upper
# **control limit**. Its usual limits are quantiles of the binomial distribution with probability $\alpha$.
#
# The binomial limits assume that the false-alarm rate is exactly $\alpha$. But the threshold was estimated from $m$
# calibration scores, so the rate of a given detector is random. With $l = \lfloor (m + 1)\alpha \rfloor$ it follows a
# $\mathrm{Beta}(l, m + 1 - l)$ distribution. The number of alarms then has a beta-binomial distribution (Vovk 2012).


# %%
def control_limits(n: int, m: int) -> pd.DataFrame:
    """Limits of the share of alarms among n normal rows that a day exceeds with probability 0.3%."""
    least = np.floor((m + 1) * false_alarms)
    laws = {"binomial": stats.binom(n, false_alarms), "beta-binomial": stats.betabinom(n, least, m + 1 - least)}
    return pd.DataFrame({name: law.ppf([0.0015, 0.9985]) / n for name, law in laws.items()}, index=["lower", "upper"])


limits = control_limits(rows_per_day, len(detector.tail_.calibration_))
limits.round(4)

# %% [markdown]
# We check both pairs of limits on clean days. Each seed has a new detector with its own training rows and days.

# %%
shares = np.empty((n_seeds, n_days))
for number in range(n_seeds):
    rng = np.random.default_rng([seed, 1, number])
    other = fit_detector(draw_rows(n_training, rng), number)
    days = [draw_rows(rows_per_day, rng) for _ in range(n_days)]
    shares[number] = [other.assess(day)["alarm"].mean() for day in days]

# %%
outside = {name: ((shares < low) | (shares > high)).mean(axis=1) for name, (low, high) in limits.items()}
outside = pd.DataFrame(outside)
print(f"share of alarms: {shares.mean():.4f}, nominal {false_alarms:g}. Share of days outside the limits:")
outside.agg(["mean", "std"]).round(4)

# %% [markdown]
# The nominal rate holds on clean days. The expected share of days outside the limits is 0.003. The days of one detector
# are not independent: if its true rate is far from $\alpha$, all its days are affected.

# %% tags=["claim"]
m = len(detector.tail_.calibration_)
deviation = np.sqrt(false_alarms * (1 / m + 1 / (rows_per_day * n_days)) / n_seeds)  # sd of the mean share
assert abs(shares.mean() - false_alarms) < 5 * deviation
assert outside["beta-binomial"].mean() < 0.03  # ten times the nominal share, as the days are not independent

# %% [markdown]
# The beta-binomial limits are wider. The two pairs are similar if there are many calibration scores and few rows per
# day. Exercises 1 and 4 are about the opposite case.
#
# The chart below begins with clean days. Then the mean of `vibration` rises by a tenth of its standard deviation per
# day. The share of alarms crosses the upper limit only after several days.

# %%
rng = np.random.default_rng([seed, 2])
n_clean = n_drifting = 15
chart = []
for day in range(n_clean + n_drifting):
    table = shift_vibration(draw_rows(rows_per_day, rng), 0.03 * max(0, day - n_clean + 1))
    chart.append({"day": day + 1, "alarms": detector.assess(table)["alarm"].mean()})
chart = pd.DataFrame(chart)

# %%
fig = plots.lines(chart, "day", "alarms", height=2.6, ylabel="share of alarms")
for (name, both), style in zip(limits.items(), (":", "--")):
    fig.axes[0].hlines(both, 1, len(chart), color="0.3", ls=style, lw=1, label=f"{name} limits")
fig.axes[0].axvline(n_clean + 0.5, color=plots.ANOMALY, lw=1, label="start of the drift")
fig.legend(loc="outside upper center", ncols=3)
nb.figure(fig, "new_data_chart", data=chart, single_run=True)

# %% [markdown]
# ## 3. Drift of each column
#
# An alarm refers to a single row. A small shift of a whole column changes hardly any row enough for an alarm. It is
# found by a test that compares the column on one day with the column in the training rows. For numbers we use the
# two-sample Kolmogorov–Smirnov test, for categories the $\chi^2$ test.


# %%
def drift_p_values(reference: pd.DataFrame, day: pd.DataFrame) -> pd.Series:
    """One p-value per column."""
    p = {}
    for name in reference:
        if reference[name].dtype.kind == "f":
            values = day[name].dropna()
            p[name] = stats.ks_2samp(reference[name], values).pvalue if len(values) else 0.0
        else:
            counts = pd.concat([reference[name].value_counts(), day[name].value_counts()], axis=1).fillna(0)
            p[name] = stats.chi2_contingency(counts).pvalue
    return pd.Series(p)


# %% [markdown]
# With $d$ independent columns tested at level $\alpha$, a clean day has a finding with probability
# $1 - (1 - \alpha)^d$. **Holm's correction** compares the smallest p-value with $\alpha / d$, the next one with
# $\alpha / (d - 1)$, and so on, until one p-value is too large. The probability of any false finding is then at most
# $\alpha$.


# %%
def holm(p: pd.Series) -> list[str]:
    """The columns with drift at ``level``."""
    ordered = p.sort_values()
    passed = ordered.to_numpy() <= level / np.arange(len(p), 0, -1)
    return list(ordered.index[np.cumprod(passed).astype(bool)])


# %% [markdown]
# How often do the tests report drift without the correction? We test clean days, with new training rows for each seed,
# and count the days with at least one finding.

# %%
findings = np.zeros((2, n_seeds, n_days // 2))
for number in range(n_seeds):
    rng = np.random.default_rng([seed, 3, number])
    reference = draw_rows(n_training, rng)
    for day in range(n_days // 2):
        p = drift_p_values(reference, draw_rows(rows_per_day, rng))
        findings[:, number, day] = (p <= level).any(), bool(holm(p))

# %%
rates = pd.DataFrame(findings.mean(axis=2).T, columns=["without correction", "Holm"])
rates.agg(["mean", "std"]).round(3)

# %% [markdown]
# Without the correction, nearly half of the clean days have a finding. Such tests are not useful in practice. With
# the correction, the share is near the level $\alpha$.

# %% tags=["claim"]
assert rates["without correction"].mean() > rates["Holm"].mean() + 0.15  # expected: 0.46 and at most 0.05
assert rates["Holm"].mean() < 0.2

# %% [markdown]
# ## 4. Five files with faults
#
# Besides a clean file, we generate five files with one fault each:
#
# - **broken sensor**: `temperature` is missing in all rows;
# - **new category**: one third of the rows comes from a machine D;
# - **renamed column**: the header says `pressure_bar` instead of `pressure`;
# - **slow drift**: `vibration` is higher by half a standard deviation;
# - **incident**: in one row of ten the temperature does not follow the load. Each temperature is a usual one.

# %%
rng = np.random.default_rng([seed, 4])
names = ["clean", "broken sensor", "new category", "renamed column", "slow drift", "incident"]
files = {name: draw_rows(rows_per_day, rng) for name in names}

# %%
files["broken sensor"]["temperature"] = np.nan
files["new category"].loc[rng.random(rows_per_day) < 1 / 3, "machine"] = "D"
files["renamed column"] = files["renamed column"].rename(columns={"pressure": "pressure_bar"})
files["slow drift"] = shift_vibration(files["slow drift"], 0.15)
changed = np.arange(rows_per_day) % 10 == 0
files["incident"].loc[changed, "temperature"] = rng.permutation(draw_rows(changed.sum(), rng)["temperature"])

# %% [markdown]
# `score_file` does the same as this command in a shell:
#
# ```
# python -m mmad_utils.score detector.safetensors new.csv -o scores.csv
# ```
#
# The exit status of the command is 1 if the file has more alarms than the nominal rate explains, so that a scheduler
# can notify a person. The function and the command refuse a file with a missing column before they score its first
# row.
#
# For each file we collect the share of
# alarms, their first reason, and the columns with drift. The first reason is the column that is named most often at the
# head of the list of reasons. The excess probability is the probability that a file of normal rows has at least as many
# alarms.


# %%
def summarise(name: str, table: pd.DataFrame) -> dict[str, object]:
    """One row of the overview of all files."""
    source, output = folder / f"{name}.csv", folder / f"{name}_scores.csv"
    write_atomic(source, table.to_csv(index=False).encode())
    try:
        summary = score_file(detector, source, output)
    except DatasetError as error:
        return {"file": name, "refused": str(error).split(": ")[-1]}
    reasons = pd.read_csv(output)["reasons"].dropna().str.split(" = ").str[0]
    drift = ", ".join(holm(drift_p_values(training, table)))
    row = {"file": name, "share of alarms": summary.alarms / summary.samples}
    return row | {"excess probability": summary.probability, "first reason": reasons.mode().iloc[0], "drift": drift}


# %%
overview = pd.DataFrame([summarise(name, table) for name, table in files.items()]).set_index("file")
shown = overview.map(lambda cell: f"{cell:.3g}" if isinstance(cell, float) else cell)
shown = shown.where(overview.notna(), "–")
shown

# %% tags=["claim"]
assert "pressure" in overview.loc["renamed column", "refused"]
assert overview.loc["broken sensor", "share of alarms"] >= 0.99
assert overview.loc["broken sensor", "first reason"] == "temperature"
assert overview.loc["new category", "first reason"] == "machine"
assert overview.loc["new category", "excess probability"] < 1e-6
assert "vibration" in overview.loc["slow drift", "drift"] and overview.loc["slow drift", "share of alarms"] < 0.2
assert (
    overview.loc["incident", "excess probability"] < 0.01 and "temperature" not in overview.loc["incident", "drift"]
)

# %% [markdown]
# The columns of the overview together distinguish the faults:
#
# | file | alarms | reason | drift |
# |---|---|---|---|
# | broken sensor | all rows | always the same column | that column |
# | new category | the rows with the new value | the category | that column |
# | renamed column | none, the file is refused | the message names the column | – |
# | slow drift | near the nominal rate | the drifting column more often than others | that column |
# | incident | more than the limits allow | columns that are inconsistent with each other | none |
#
# The share of alarms alone is not sufficient. An excess probability must also be read with care: one clean file in
# thirty has a value below 0.03, so a single such file is no evidence of a fault.
#
# A missing value in a column without missing values in training gets the smallest p-value, whatever the detector. The
# same holds for a category that did not occur in training. We check that such rows raise an alarm.

# %%
gaps = detector.assess(files["broken sensor"])["alarm"].mean()
new_machine = files["new category"].query("machine == 'D'")
unseen = detector.assess(new_machine)["alarm"].mean()
print(f"share of rows with an alarm: broken sensor {gaps:.1%}, new machine {unseen:.1%}")

# %% tags=["claim"]
assert gaps >= 0.99 and unseen >= 0.99

# %% [markdown]
# ## 5. Recalibration
#
# Suppose that the drift of `vibration` has a harmless cause, such as a new bearing. An expert confirms that the rows of
# one day are normal. `recalibrate` computes the calibration scores from these rows. The encoder and the detector are not
# changed. We measure two shares on further rows: false alarms among normal rows, and incident rows with an alarm.


# %%
def incident_rows(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows with a temperature that does not follow the load."""
    table = draw_rows(n, rng)
    return table.assign(temperature=rng.permutation(table["temperature"].to_numpy()))


# %%
measured = []
for number in range(n_seeds):
    rng = np.random.default_rng([seed, 5, number])
    other = fit_detector(draw_rows(n_training, rng), number)
    tables = draw_rows(rows_per_day, rng), draw_rows(rows_per_day, rng), incident_rows(rows_per_day, rng)
    confirmed, later, incidents = (shift_vibration(table, 0.6) for table in tables)
    for when in ("before", "after"):
        if when == "after":
            other.recalibrate(confirmed)
        alarms, found = (other.assess(table)["alarm"].mean() for table in (later, incidents))
        measured.append({"recalibration": when, "false alarms": alarms, "incidents found": found})

# %%
recalibrated = pd.DataFrame(measured).groupby("recalibration").agg(["mean", "std"]).loc[["before", "after"]]
recalibrated = recalibrated.set_axis([" ".join(pair) for pair in recalibrated.columns], axis=1)
recalibrated.round(3)

# %% tags=["claim"]
assert recalibrated.loc["before", "false alarms mean"] > 2 * false_alarms
assert abs(recalibrated.loc["after", "false alarms mean"] - false_alarms) < 0.03  # sd of one detector: about 0.014
assert recalibrated.loc["after", "incidents found mean"] < recalibrated.loc["before", "incidents found mean"]

# %% [markdown]
# Before recalibration, about three times as many normal rows raise an alarm as intended. Afterwards the false-alarm
# rate has returned to its nominal value. Recalibration does not change the order of the scores; it only
# raises the threshold. Therefore fewer incidents are found. To find as many as before, fit the detector again on
# rows that were recorded after the change.
#
# ## 6. A few confirmed anomalies
#
# Experts inspect alarms and confirm some of them as anomalies. Such labels are few, because each of them costs working
# time. Can they improve the detector? `HybridMultiModalAnomalyDetector` starts from the scores
# of an unsupervised detector and learns a correction from the labels. Notebook 09b explains the method.
#
# The incident is now a leak. Pressure, vibration and two sensors change together. Each changes by less than one and a
# half standard deviations, so a single column shows little.


# %%
def leak_rows(n: int, rng: np.random.Generator) -> pd.DataFrame:
    table = shift_vibration(draw_rows(n, rng), 0.3)
    table[["sensor 1", "sensor 2"]] += 1.3
    return table.assign(pressure=table["pressure"] - 0.2)


# %% [markdown]
# We measure AUROC on new rows, with no label and with a few labelled anomalies.

# %%
areas = []
for number in range(min(n_seeds, 5)):
    rng = np.random.default_rng([seed, 6, number])
    normal, tested = draw_rows(1000, rng), pd.concat([draw_rows(500, rng), leak_rows(500, rng)])
    encoder = ColumnEncoder().fit(normal)
    unsupervised = MultiModalAnomalyDetector({"tabular": TabularEncoder(steps=100)}, random_state=number)
    unsupervised.fit({"tabular": encoder.transform(normal)})
    for count in (0, *label_counts):
        rows = encoder.transform(pd.concat([normal, leak_rows(count, rng)]))
        hybrid = HybridMultiModalAnomalyDetector(unsupervised, random_state=number)
        hybrid.fit({"tabular": rows}, {"tabular": np.repeat([0, 1], [1000, count])})
        scores = hybrid.anomaly_score({"tabular": encoder.transform(tested)})["tabular"]
        areas.append({"labelled anomalies": count, "AUROC": metrics.auroc(np.repeat([0, 1], 500), scores)})

# %%
labelled = pd.DataFrame(areas).groupby("labelled anomalies")["AUROC"].agg(["mean", "std", "count"])
labelled.round(3)

# %% tags=["claim"]
gain = labelled.loc[max(label_counts), "mean"] - labelled.loc[0, "mean"]
assert gain > 2 * labelled["std"].max() / np.sqrt(labelled["count"].min())  # two standard errors

# %% [markdown]
# The labels improve AUROC for anomalies of the labelled kind. They give no information about other kinds of anomalies.
# For these the detector still depends on the unsupervised score.
#
# ## In this notebook
#
# - The nominal false-alarm rate holds on new clean rows. Control limits must take the number of calibration scores into
#   account.
# - Drift tests need a correction for the number of columns.
# - The share of alarms, their reasons, the drift tests and the check of the column names together distinguish five faults.
# - Recalibration restores the false-alarm rate and finds fewer anomalies.
# - A few labels improve the detection of anomalies of the same kind.
#
# ## Exercises
#
# **1. Predict: few calibration scores.** The detector is calibrated with 100 scores instead of 2000, and a day has 5000
# rows. By what factor are the beta-binomial limits farther apart than the binomial ones?
#
# <details><summary>Hint</summary>
#
# Compare the standard deviation of the false-alarm rate, about $\sqrt{\alpha (1 - \alpha) / m}$, with that of the share
# among $n$ rows. Then call `control_limits(5000, 100)`.
#
# </details>

# %% tags=["solution"]
few = control_limits(5000, 100)
widths = few.loc["upper"] - few.loc["lower"]
factor = widths["beta-binomial"] / widths["binomial"]
assert factor > 3
print(f"factor {factor:.1f}")
few.round(3)

# %% [markdown] tags=["solution"]
# The false-alarm rate of such a detector has a standard deviation of about two percentage points. The share among 5000
# rows has a standard deviation of only 0.3 percentage points at a fixed rate. With binomial limits, most of these
# detectors would be out of control on clean days.

# %% [markdown]
# **2. Change: anomalies among the confirmed rows.** Recalibrate with a day on which every tenth row is an incident that
# nobody noticed. What happens to the threshold?
#
# <details><summary>Hint</summary>
#
# Load the saved detector twice. Recalibrate one with clean rows and the other with rows that include `incident_rows`.
# Compare the share of alarms among new normal rows.
#
# </details>

# %% tags=["solution"]
rng = np.random.default_rng([seed, 7])
clean, mixed = (Detector.load(folder / "detector.safetensors") for _ in range(2))
day, n_incidents = draw_rows(rows_per_day, rng), rows_per_day // 10
clean.recalibrate(day)
mixed.recalibrate(pd.concat([day[n_incidents:], incident_rows(n_incidents, rng)]))
new_rows = draw_rows(2000, rng)
clean_share, mixed_share = (one.assess(new_rows)["alarm"].mean() for one in (clean, mixed))
assert mixed_share < clean_share
print(f"false alarms: {clean_share:.1%} after clean rows, {mixed_share:.1%} after rows with incidents")

# %% [markdown] tags=["solution"]
# The threshold rises, because the incidents have the highest calibration scores. The false-alarm rate is below its
# nominal value, and fewer anomalies are found.

# %% [markdown]
# **3. Build: the Benjamini–Hochberg procedure.** Holm's correction bounds the probability of any false finding. The
# procedure of Benjamini and Hochberg bounds the expected share of false findings among all findings. Implement it
# with `scipy.stats.false_discovery_control`. Compare both on days on which five columns have a small shift.
#
# <details><summary>Hint</summary>
#
# `false_discovery_control` returns adjusted p-values. A column has drift if its adjusted p-value is at most `level`.
#
# </details>

# %% tags=["solution"]
rng = np.random.default_rng([seed, 8])
counts = []
for _ in range(20):
    day = draw_rows(rows_per_day, rng)
    day[[f"sensor {number}" for number in range(1, 6)]] += 0.13
    p = drift_p_values(training, day)
    counts.append([len(holm(p)), (stats.false_discovery_control(p) <= level).sum()])
by_method = pd.DataFrame(counts, columns=["Holm", "Benjamini–Hochberg"])
assert (by_method["Benjamini–Hochberg"] >= by_method["Holm"]).all()
by_method.mean().to_frame("columns with drift per day").round(2)

# %% [markdown] tags=["solution"]
# Benjamini–Hochberg finds at least as many columns as Holm. It compares the $k$-th smallest p-value with
# $k \alpha / d$, and Holm compares it with $\alpha / (d - k + 1)$, which is never larger.

# %% [markdown]
# **4. On paper: the variance of the number of alarms.** Let the false-alarm rate $R$ have mean $\alpha$ and variance
# $\alpha (1 - \alpha) / (m + 2)$, as the beta distribution has if $(m + 1) \alpha$ is a whole number. Given $R$, the
# number of alarms among $n$ rows is binomial. Show that its variance is larger than $n \alpha (1 - \alpha)$ by the
# factor $(m + 1 + n) / (m + 2)$. For which $n$ is the factor 2?
#
# <details><summary>Hint</summary>
#
# Law of total variance: $\operatorname{Var} A = \mathbb{E}[\operatorname{Var}(A \mid R)] + \operatorname{Var}
# (\mathbb{E}[A \mid R])$. Use $\mathbb{E}[R^2] = \operatorname{Var} R + \alpha^2$.
#
# </details>

# %% [markdown] tags=["solution"]
# Let $v = \alpha (1 - \alpha)$. Then $\mathbb{E}[n R (1 - R)] = n (\alpha - \alpha^2 - v / (m + 2))
# = n v (m + 1) / (m + 2)$ and $\operatorname{Var}(n R) = n^2 v / (m + 2)$. The sum is $n v (m + 1 + n) / (m + 2)$. The
# factor is 2 for $n = m + 3$: if a day has as many rows as there are calibration scores, the variance is doubled. For
# $m = 100$ and $n = 5000$ the standard deviation is $\sqrt{5101 / 102} \approx 7.1$ times larger, which agrees with
# exercise 1.

# %% tags=["solution"]
m, n, alpha = 99, 5000, 0.05  # (m + 1) alpha = 5
ratio = stats.betabinom(n, 5, m + 1 - 5).var() / stats.binom(n, alpha).var()
assert np.isclose(ratio, (m + 1 + n) / (m + 2))
print(f"ratio of the variances {ratio:.2f}")

# %% tags=["results"]
nb.value("clean_alarm_share", shares.mean(), sd=shares.mean(axis=1).std(ddof=1), n=n_seeds)
for name, days_outside in outside.items():
    nb.value(f"outside_{name.replace('-', '_')}", days_outside.mean(), sd=days_outside.std(), n=n_seeds)
for key, name in [("uncorrected", "without correction"), ("holm", "Holm")]:
    nb.value(f"false_drift_{key}", rates[name].mean(), sd=rates[name].std(), n=n_seeds)
nb.table(shown, "new_data_files", single_run=True)
nb.value("broken_sensor_found", gaps)
nb.value("new_category_found", unseen)
nb.table(recalibrated.round(3), "new_data_recalibration", n=n_seeds)
for when, row in recalibrated.iterrows():
    nb.value(f"false_alarms_{when}", row["false alarms mean"], sd=row["false alarms std"], n=n_seeds)
    nb.value(f"incidents_{when}", row["incidents found mean"], sd=row["incidents found std"], n=n_seeds)
nb.table(labelled.round(3), "new_data_labels", n=int(labelled["count"].min()))
for count, row in labelled.iterrows():
    nb.value(f"labels_{count}_auroc", row["mean"], sd=row["std"], n=int(row["count"]))
nb.finish()

# %% [markdown]
# ## References
#
# - V. Vovk (2012). Conditional validity of inductive conformal predictors. *ACML*.
# - S. Holm (1979). A simple sequentially rejective multiple test procedure. *Scandinavian Journal of Statistics* 6.
# - Y. Benjamini, Y. Hochberg (1995). Controlling the false discovery rate. *Journal of the Royal Statistical Society B* 57.
# - S. Rabanser, S. Günnemann, Z. C. Lipton (2019). Failing loudly: an empirical study of methods for detecting dataset
#   shift. *NeurIPS*.
