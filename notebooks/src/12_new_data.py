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
# A detector was fitted, calibrated and saved. Every day a new file arrives. This notebook scores such files and shows how
# to decide what a change in them means: a fault of the recording, a slow change of the process, or an anomaly.
#
# All data are generated, so that the true cause of each change is known.
#
# **You will learn**
#
# - how many alarms per day are compatible with the nominal false-alarm rate;
# - how to test each column for drift, and why the tests must be corrected for the number of columns;
# - how to tell a broken sensor, a new category, a renamed column, a slow drift and an incident apart;
# - what recalibration on confirmed normal rows changes, and what it does not;
# - how much a few confirmed anomalies improve the detector.
#
# Key words, explained in English and Chinese in the [glossary](glossary.md): [calibration](glossary.md#Calibration),
# [conformal p-value](glossary.md#Conformal-p-value), [false-alarm rate](glossary.md#False-alarm-rate),
# [control limits](glossary.md#Control-limits), [drift](glossary.md#Drift).

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
rows_per_day: int = 500  # rows of a daily file
n_training: int = 4000  # normal rows; half train the detector, half calibrate it
n_days: int = 50  # clean days per seed
false_alarms: float = 0.05  # nominal rate of alarms among normal rows
level: float = 0.05  # of the drift tests of one day
n_seeds: int = 10  # detectors, each with days of its own, at least 2
label_counts: list[int] = [5, 20]  # confirmed anomalies
seed: int = 0  # of every random draw

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats

# %%
from mmad_utils import (
    CalibratedDetector,
    ColumnEncoder,
    Detector,
    GaussianAnomalyScorer,
    HybridMultiModalAnomalyDetector,
    MultiModalAnomalyDetector,
    TabularEncoder,
    metrics,
    plots,
)  # fmt: skip
from mmad_utils.course import notebook
from mmad_utils.datasets.record import DatasetError
from mmad_utils.files import write_atomic
from mmad_utils.score import describe, score_file

# %%
nb = notebook.start("12_new_data")
folder = nb.results.output / "new_data"

# %% [markdown]
# ## 1. The saved detector
#
# The rows are measurements of three machines. Temperature, pressure and current rise with the load; the other columns are
# independent of it. There is no column of the date: in tomorrow's file every date is later than all dates of training, and
# a detector that has learned from dates raises an alarm for that reason alone.


# %%
def draw_rows(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Normal rows."""
    load = rng.normal(size=n)
    table = pd.DataFrame(
        {
            "temperature": 60 + 5 * load + rng.normal(size=n),
            "pressure": 2 + 0.2 * load + 0.1 * rng.normal(size=n),
            "current": 10 + 2 * load + 0.5 * rng.normal(size=n),
            "vibration": rng.lognormal(0, 0.3, n),
        }
    )
    for number in range(1, 8):
        table[f"sensor {number}"] = rng.normal(size=n)
    return table.assign(machine=rng.choice(["A", "B", "C"], n))


# %% [markdown]
# The Gaussian detector sees relations between columns. `CalibratedDetector` fits it on one half of the rows and turns its
# scores into p-values with the other half. A saved detector records what it was made from.


# %%
def fit_detector(table: pd.DataFrame, random_state: int) -> CalibratedDetector:
    base = GaussianAnomalyScorer()
    return CalibratedDetector(base, ColumnEncoder(), contamination=false_alarms, random_state=random_state).fit(table)


training = draw_rows(n_training, np.random.default_rng([seed, 0]))
fit_detector(training, seed).save(folder / "detector.safetensors")
detector = Detector.load(folder / "detector.safetensors")
print(describe(detector))

# %% [markdown]
# ## 2. Alarms per day
#
# Of $n$ normal rows about $\alpha n$ raise an alarm. The usual control chart for a share (p chart) has binomial limits
# around $\alpha$. They assume that the false-alarm rate is exactly $\alpha$. The rate of a detector that was calibrated
# with $m$ scores is itself random: with $l = \lfloor (m + 1)\alpha \rfloor$ it follows a Beta$(l, m + 1 - l)$
# distribution, so the number of alarms is beta-binomial (Vovk 2012). We measure how many clean days lie outside each pair
# of limits with a nominal level of 0.3%, over several detectors.


# %%
def control_limits(n: int, calibration: int) -> pd.DataFrame:
    """Lower and upper limit of the share of alarms among n normal rows, at 0.3%."""
    least = np.floor((calibration + 1) * false_alarms)
    laws = {
        "binomial": stats.binom(n, false_alarms),
        "beta-binomial": stats.betabinom(n, least, calibration + 1 - least),
    }
    limits = {name: [law.ppf(0.0015) / n, law.ppf(0.9985) / n] for name, law in laws.items()}
    return pd.DataFrame(limits, index=["lower", "upper"])


limits = control_limits(rows_per_day, len(detector.tail_.calibration_))
limits.round(4)

# %%
shares, drawn_limits = [], limits.T
for number in range(n_seeds):
    rng = np.random.default_rng([seed, 1, number])
    other = fit_detector(draw_rows(n_training, rng), number)
    days = [draw_rows(rows_per_day, rng) for _ in range(n_days)]
    shares.append([other.assess(day)["alarm"].mean() for day in days])
shares = np.array(shares)
outside = {name: ((shares < low) | (shares > high)).mean(axis=1) for name, (low, high) in drawn_limits.iterrows()}

# %%
nb.value("clean_alarm_share", shares.mean(), sd=shares.mean(axis=1).std(ddof=1), n=n_seeds)
for name, share in outside.items():
    nb.value(f"outside_{name.replace('-', '_')}", share.mean(), sd=share.std(ddof=1), n=n_seeds)
assert abs(shares.mean() - false_alarms) < 0.02, "the nominal rate holds on new clean rows"
assert outside["beta-binomial"].mean() < 0.03, "few clean days lie outside the limits"
pd.DataFrame(outside).agg(["mean", "std"]).round(4)

# %% [markdown]
# The beta-binomial limits are the wider ones. With many calibration scores and short days the two pairs nearly agree;
# exercise 1 takes few calibration scores. The chart below has clean days, then days on which the mean of `vibration` rises
# by a tenth of its standard deviation per day.

# %%
rng = np.random.default_rng([seed, 2])
n_clean = n_drifting = 15
chart = []
for day in range(n_clean + n_drifting):
    table = draw_rows(rows_per_day, rng)
    table["vibration"] += 0.03 * max(0, day - n_clean + 1)
    chart.append({"day": day + 1, "alarms": detector.assess(table)["alarm"].mean()})
chart = pd.DataFrame(chart)

# %%
fig, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
axis.plot(chart["day"], chart["alarms"], "o-", ms=3, color=plots.NORMAL, label="share of alarms")
for (name, (low, high)), style in zip(drawn_limits.iterrows(), (":", "--")):
    axis.axhline(low, color="0.3", ls=style, lw=1, label=f"{name} limits")
    axis.axhline(high, color="0.3", ls=style, lw=1)
axis.axvline(n_clean + 0.5, color=plots.ANOMALY, lw=1)
axis.set(xlabel="day", ylabel="share of alarms")
axis.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
nb.figure(fig, "new_data_chart", data=chart, single_run=True)

# %% [markdown]
# ## 3. Drift of each column
#
# Alarms look at single rows. A small shift of a whole column changes few rows enough for an alarm. It is found by a test of
# the day against training rows: for numbers the two-sample Kolmogorov–Smirnov test, for categories the $\chi^2$ test.
#
# With $d$ columns tested at level $\alpha$, a clean day has a finding with probability $1 - (1 - \alpha)^d$ if the columns
# are independent. Holm's correction compares the smallest p-value with $\alpha / d$, the next with $\alpha / (d - 1)$, and
# so on until one is too large; the probability of any false finding is then at most $\alpha$.


# %%
def drift_p_values(reference: pd.DataFrame, day: pd.DataFrame) -> pd.Series:
    """One p-value per column."""
    p = {}
    for name in reference:
        if reference[name].dtype.kind == "f":
            known = day[name].dropna()
            p[name] = stats.ks_2samp(reference[name], known).pvalue if len(known) else 0.0
        else:
            counts = pd.crosstab(
                np.repeat([0, 1], [len(reference), len(day)]),
                np.r_[reference[name].astype(str), day[name].astype(str)],
            )
            p[name] = stats.chi2_contingency(counts).pvalue
    return pd.Series(p)


def holm(p: pd.Series) -> list[str]:
    """The columns with drift at ``level``."""
    ordered = p.sort_values()
    passed = ordered.to_numpy() <= level / np.arange(len(p), 0, -1)
    return list(ordered.index[np.cumprod(passed).astype(bool)])


# %% [markdown]
# What does it cost to leave the correction out? We test clean days, with new training rows for each seed, and count the
# days with at least one finding.

# %%
findings = np.zeros((2, n_seeds, n_days // 2))
for number in range(n_seeds):
    rng = np.random.default_rng([seed, 3, number])
    reference = draw_rows(n_training, rng)
    for day in range(n_days // 2):
        p = drift_p_values(reference, draw_rows(rows_per_day, rng))
        findings[:, number, day] = (p <= level).any(), bool(holm(p))
rates = pd.DataFrame(findings.mean(axis=2).T, columns=["without correction", "Holm"])
nb.value(
    "false_drift_uncorrected", rates["without correction"].mean(), sd=rates["without correction"].std(), n=n_seeds
)
nb.value("false_drift_holm", rates["Holm"].mean(), sd=rates["Holm"].std(), n=n_seeds)
rates.agg(["mean", "std"]).round(3)

# %%
assert rates["without correction"].mean() > rates["Holm"].mean() + 0.15
assert rates["Holm"].mean() < 0.2

# %% [markdown]
# Without the correction a large share of clean days has a finding, so that nobody can act on one. With it the share is near
# the level of a single test.
#
# ## 4. Five daily files
#
# Each of five files has one fault that is generated:
#
# - **broken sensor**: `temperature` is empty from the first row on;
# - **new category**: a third of the rows comes from a machine D;
# - **renamed column**: `pressure` is now called `pressure_bar`;
# - **slow drift**: `vibration` is higher by half a standard deviation;
# - **incident**: in one row of ten the temperature no longer follows the load. Every temperature is a usual one.

# %%
rng = np.random.default_rng([seed, 4])
files = {name: draw_rows(rows_per_day, rng) for name in ("clean", "broken sensor", "new category", "renamed column")}
files |= {name: draw_rows(rows_per_day, rng) for name in ("slow drift", "incident")}
files["broken sensor"]["temperature"] = np.nan
files["new category"].loc[rng.random(rows_per_day) < 1 / 3, "machine"] = "D"
files["renamed column"] = files["renamed column"].rename(columns={"pressure": "pressure_bar"})
files["slow drift"]["vibration"] += 0.15
changed = np.arange(rows_per_day) % 10 == 0
incident = files["incident"]
incident.loc[changed, "temperature"] = rng.permutation(draw_rows(changed.sum(), rng)["temperature"])

# %% [markdown]
# `score_file` does what `python -m mmad_utils.score detector.safetensors new.csv -o scores.csv` does in a shell. Both read
# a file in chunks and refuse it before the first row if a column is missing. `excess` is the probability of at least so
# many alarms in a file of normal rows. `named first` is the column named most often as the first reason.


# %%
def page_of(name: str, table: pd.DataFrame) -> dict[str, object]:
    """One line about a file: refused, or alarms, their first reason, and columns with drift."""
    source, output = folder / f"{name}.csv", folder / f"{name}_scores.csv"
    write_atomic(source, table.to_csv(index=False).encode())
    try:
        summary = score_file(detector, source, output)
    except DatasetError as error:
        return {"file": name, "refused": str(error).split(": ")[-1]}
    scores = pd.read_csv(output, keep_default_na=False)
    reasons = scores.loc[scores["reasons"] != "", "reasons"].str.split(" = ").str[0]
    return {
        "file": name, "alarms": summary.alarms / summary.samples, "excess": summary.probability,
        "named first": reasons.mode().iloc[0], "drift": ", ".join(holm(drift_p_values(training, table))),
    }  # fmt: skip


page = pd.DataFrame([page_of(name, table) for name, table in files.items()]).set_index("file")
page = page.astype(object).where(page.notna(), "–")
page

# %%
shown = page.map(lambda cell: f"{cell:.3g}" if isinstance(cell, float) else cell)
nb.table(shown, "new_data_page", single_run=True)
assert "pressure" in page.loc["renamed column", "refused"]
assert page.loc["broken sensor", "alarms"] >= 0.99 and page.loc["broken sensor", "named first"] == "temperature"
assert page.loc["new category", "named first"] == "machine" and page.loc["new category", "excess"] < 1e-6
assert "vibration" in page.loc["slow drift", "drift"] and page.loc["slow drift", "alarms"] < 0.2
assert page.loc["incident", "excess"] < 0.01 and "temperature" not in page.loc["incident", "drift"]

# %% [markdown]
# How the page tells them apart:
#
# | file | alarms | reason | drift |
# |---|---|---|---|
# | broken sensor | all rows | always the same column | that column |
# | new category | the share of rows that have it | the category | that column |
# | renamed column | none, the file is refused | the message names the column | – |
# | slow drift | near the nominal rate | in more rows the drifting column than the others | that column |
# | incident | more than the limits allow | columns that no longer fit together | none |
#
# The share of alarms alone would not tell them apart. A gap in a column that had none in training and a category that
# training did not have get the smallest p-value, whatever the detector. We count the rows that are found.

# %%
gaps = detector.assess(files["broken sensor"])["alarm"].mean()
new = (files["new category"]["machine"] == "D").to_numpy()
unseen = detector.assess(files["new category"][new])["alarm"].mean()
assert gaps >= 0.99 and unseen >= 0.99
nb.value("broken_sensor_found", gaps)
nb.value("new_category_found", unseen)

# %% [markdown]
# ## 5. Recalibration
#
# The drift of `vibration` has a harmless cause: a new bearing. A person confirms a day of rows as normal. `recalibrate`
# computes the calibration scores from these rows; encoder and detector stay as they are. We compare, on further days, the
# share of false alarms and the share of incident rows that are found.


# %%
def incident_rows(n: int, rng: np.random.Generator, shift: float) -> pd.DataFrame:
    """Rows with a temperature that does not follow the load."""
    table = draw_rows(n, rng)
    table["temperature"] = rng.permutation(table["temperature"].to_numpy())
    table["vibration"] += shift
    return table


results = []
for number in range(n_seeds):
    rng = np.random.default_rng([seed, 5, number])
    other, shift = fit_detector(draw_rows(n_training, rng), number), 0.6
    confirmed, later = (draw_rows(rows_per_day, rng) for _ in range(2))
    confirmed["vibration"] += shift
    later["vibration"] += shift
    incidents = incident_rows(rows_per_day, rng, shift)
    for when in ("before", "after"):
        if when == "after":
            other.recalibrate(confirmed)
        alarms, found = (other.assess(table)["alarm"].mean() for table in (later, incidents))
        results.append({"recalibration": when, "false alarms": alarms, "incidents found": found})

# %%
recalibrated = pd.DataFrame(results).groupby("recalibration").agg(["mean", "std"]).loc[["before", "after"]]
flat = recalibrated.set_axis([" ".join(pair) for pair in recalibrated.columns], axis=1)
nb.table(flat.round(3), "new_data_recalibration", n=n_seeds)
for when, row in flat.iterrows():
    nb.value(f"false_alarms_{when}", row["false alarms mean"], sd=row["false alarms std"], n=n_seeds)
    nb.value(f"incidents_{when}", row["incidents found mean"], sd=row["incidents found std"], n=n_seeds)
assert flat.loc["before", "false alarms mean"] > 2 * false_alarms
assert abs(flat.loc["after", "false alarms mean"] - false_alarms) < 0.03
flat.round(3)

# %% [markdown]
# The rate of false alarms returns to its nominal value. The order of the scores is unchanged, so recalibration only moves
# the threshold up: fewer incidents are found. To find as many as before, fit the detector again on rows from after the
# change.
#
# ## 6. A few confirmed anomalies
#
# People look at alarms and confirm some as anomalies. `HybridMultiModalAnomalyDetector` begins with the scores of an
# unsupervised detector and learns a correction from the labels. The incident here is a leak: pressure, vibration and two
# sensors move together, each by less than one and a half standard deviations. We measure AUROC on new rows with 0 and with a few
# labels.


# %%
def leak_rows(n: int, rng: np.random.Generator) -> pd.DataFrame:
    table = draw_rows(n, rng)
    table[["sensor 1", "sensor 2"]] += 1.3
    return table.assign(pressure=table["pressure"] - 0.2, vibration=table["vibration"] + 0.3)


areas = []
for number in range(min(n_seeds, 5)):
    rng = np.random.default_rng([seed, 6, number])
    normal, tested = draw_rows(1000, rng), pd.concat([draw_rows(500, rng), leak_rows(500, rng)])
    encoder, truth = ColumnEncoder().fit(normal), np.repeat([0, 1], 500)
    unlabelled = MultiModalAnomalyDetector({"tabular": TabularEncoder(steps=100)}, random_state=number)
    unlabelled.fit({"tabular": encoder.transform(normal)})
    for count in (0, *label_counts):
        rows = pd.concat([normal, leak_rows(count, rng)])
        hybrid = HybridMultiModalAnomalyDetector(unlabelled, random_state=number)
        hybrid.fit({"tabular": encoder.transform(rows)}, {"tabular": np.repeat([0, 1], [1000, count])})
        scores = hybrid.anomaly_score({"tabular": encoder.transform(tested)})["tabular"]
        areas.append({"labelled anomalies": count, "AUROC": metrics.auroc(truth, scores)})

# %%
labelled = pd.DataFrame(areas).groupby("labelled anomalies")["AUROC"].agg(["mean", "std", "count"])
nb.table(labelled.round(3), "new_data_labels", n=int(labelled["count"].min()))
for count, row in labelled.iterrows():
    nb.value(f"labels_{count}_auroc", row["mean"], sd=row["std"], n=int(row["count"]))
gain = labelled.loc[max(label_counts), "mean"] - labelled.loc[0, "mean"]
assert gain > 2 * labelled["std"].max() / np.sqrt(labelled["count"].min()), "the labels improve the order"
labelled.round(3)

# %% [markdown]
# The labels improve the order of rows like the labelled ones. They say nothing of other kinds of anomalies, for which the
# unsupervised score remains.
#
# ## In this notebook
#
# - The nominal rate holds on new clean rows; the control limits must allow for the finite calibration.
# - Drift tests need a correction for the number of columns.
# - Alarms, reasons, drift tests and the check of the columns together tell five faults apart.
# - Recalibration restores the rate of false alarms and finds fewer anomalies; labels improve the order.
#
# ## Exercises
#
# **1. Predict: few calibration scores.** The detector is calibrated with 100 scores instead of 2000, and a day has 5000
# rows. By what factor are the beta-binomial limits farther apart than the binomial ones?

# %% tags=["solution"]
few = control_limits(5000, 100)
widths = few.loc["upper"] - few.loc["lower"]
assert widths["beta-binomial"] > 3 * widths["binomial"]
few.round(3)

# %% [markdown] tags=["solution"]
# The false-alarm rate of such a detector varies by about two percentage points around 5%, far more than the count of
# 5000 rows does. Binomial limits would call most of these detectors out of control on clean days.

# %% [markdown]
# **2. Change: anomalies among the confirmed rows.** Recalibrate with a day on which every tenth row is an incident that
# nobody noticed. What happens to the threshold?

# %% tags=["solution"]
rng = np.random.default_rng([seed, 7])
clean, mixed = (Detector.load(folder / "detector.safetensors") for _ in range(2))
day = draw_rows(rows_per_day, rng)
clean.recalibrate(day)
mixed.recalibrate(pd.concat([day[rows_per_day // 10 :], incident_rows(rows_per_day // 10, rng, 0.0)]))
tested = draw_rows(2000, rng)
alarms = {name: one.assess(tested)["alarm"].mean() for name, one in (("clean", clean), ("mixed", mixed))}
assert alarms["mixed"] < alarms["clean"]
alarms

# %% [markdown] tags=["solution"]
# It rises, because the incidents have the highest calibration scores. There are fewer false alarms than the nominal rate
# says, and fewer anomalies are found.

# %% [markdown]
# **3. Build: the Benjamini–Hochberg procedure.** Holm's correction bounds the probability of any false finding. That of
# Benjamini and Hochberg bounds the expected share of false findings among all findings. Write it with
# `scipy.stats.false_discovery_control`, and compare both on days on which five columns shift slightly.

# %% tags=["solution"]
rng = np.random.default_rng([seed, 8])
found = []
for _ in range(20):
    day = draw_rows(rows_per_day, rng)
    day[[f"sensor {number}" for number in range(1, 6)]] += 0.13
    p = drift_p_values(training, day)
    found.append([len(holm(p)), (stats.false_discovery_control(p) <= level).sum()])
found = pd.DataFrame(found, columns=["Holm", "Benjamini–Hochberg"]).mean()
assert found["Benjamini–Hochberg"] >= found["Holm"]
found

# %% [markdown] tags=["solution"]
# Benjamini–Hochberg finds at least as many columns, as every p-value that passes Holm's limits passes its own.

# %%
nb.finish()

# %% [markdown]
# ## References
#
# - V. Vovk (2012). Conditional validity of inductive conformal predictors. *ACML*.
# - S. Holm (1979). A simple sequentially rejective multiple test procedure. *Scandinavian Journal of Statistics* 6.
# - Y. Benjamini, Y. Hochberg (1995). Controlling the false discovery rate. *Journal of the Royal Statistical Society B* 57.
# - S. Rabanser, S. Günnemann, Z. C. Lipton (2019). Failing loudly: an empirical study of methods for detecting dataset
#   shift. *NeurIPS*.
