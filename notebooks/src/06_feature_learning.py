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
# # Feature learning: distances and clusters that a network arranges
#
# Nearest neighbours and mixtures are good old detectors with one weakness: they take the columns as they are. If ten
# columns are noise, ten elevenths of every distance are noise. So let a network choose the space, and let it choose
# with the detector in mind. This notebook follows three answers. REPEN learns a space in which *suspects are far from
# everybody*. Random distance prediction (RDP) learns to see pairs as a *random* network sees them. DAGMM learns a code
# and its *clusters* together.
#
# **You will learn**
#
# - how a base detector can teach a network, and that the network learns its teacher's mistakes too;
# - what it means to predict relations rather than points, and how that differs from contrastive learning;
# - what distances look like before and after learning;
# - how the energy of a deep mixture is made, what the number of clusters changes, and why pretraining matters;
# - which of this is worth its price beside nearest neighbours, and on which data that question cannot be answered.
#
# You need the concepts of notebook 00 and the autoencoder of notebook 03. Everything runs on data that come with
# scikit-learn.
#
# Key words, explained in English and Chinese in the [glossary](glossary.md): [contrastive
# learning](glossary.md#Contrastive-learning), [energy](glossary.md#Energy).

# %% [markdown]
# ## Parameters
#
# The names of the data sets are those of `mmad_utils.datasets`. With the course's data at hand, use real tables such
# as `"tables/optdigits"`, and set `paper_dataset` to `"thyroid"`.

# %% tags=["parameters"]
hard_datasets: list[str] = [
    "injected/dependency/breast_cancer",
    "injected/dependency/digits/8",
]  # a ruler fails there
easy_dataset: str = "breast_cancer"  # a table that a ruler solves
image_dataset: str = "digits/8"  # one digit is normal, the other nine are anomalies
paper_dataset: str = ""  # "thyroid" adds our own row to DAGMM's published table
seed: int = 0  # of every split and every random draw
n_seeds: int = 3  # splits and trainings of the tables of results
cluster_counts: list[int] = [1, 2, 4, 8]  # numbers of mixture components to compare

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from mmad_utils import DAGMM, RDP, REPEN, Detector, KNNDistance, PCAResidual, benchmark, metrics, plots
from mmad_utils.course import notebook
from mmad_utils.detectors.dagmm import sample_energy
from mmad_utils.detectors.feature_learning import outlier_candidates
from mmad_utils.training import DeepDetector

# %%
nb = notebook.start("06_feature_learning")

# %% [markdown]
# All tables of results below come from `benchmark.measure`: it draws a new split for each seed, scales the columns
# by the training half, fits, and puts controls beside the detector, among them a random score, the squared length of the
# scaled row ‖x‖², and the detector's own *untrained* network. `summary` averages over the seeds. `measured` keeps the
# runs of each setting, so that none is measured twice.


# %%
measured: dict[str, pd.DataFrame] = {}


def runs_of(detector, dataset, **parameters):
    """One row per seed."""
    setting = f"{detector} {dataset} {sorted(parameters.items())}"
    if setting not in measured:
        rows = [benchmark.measure(detector, dataset, seed + i, parameters) for i in range(n_seeds)]
        measured[setting] = pd.DataFrame(rows)
    return measured[setting]


# %%
def summary(detector, dataset, **parameters):
    """Mean and spread of the AUROC over the seeds, beside the untrained network and ‖x‖²."""
    runs = runs_of(detector, dataset, **parameters)
    untrained = runs["untrained_auroc"] if "untrained_auroc" in runs else pd.Series(np.nan, runs.index)
    return {
        "AUROC": runs["auroc"].mean(),
        "sd": runs["auroc"].std(),
        "untrained": untrained.mean(),
        "untrained sd": untrained.std(),
        "gain": (runs["auroc"] - untrained).mean(),
        "gain sd": (runs["auroc"] - untrained).std(),
        "ruler": runs["norm_auroc"].mean(),
        "random": runs["random_auroc"].mean(),
        "networks": runs["n_networks"].iloc[0],
        "fit (s)": runs["fit_seconds"].mean(),
    }


# %%
def printable(frame):
    """For the record: a dash where there is nothing to say."""
    return frame.astype(object).where(frame.notna(), "–").reset_index()


def scaled(dataset):
    """Training rows, test rows and test labels, columns scaled by the training rows."""
    data = nb.load(dataset, seed=seed).as_table()
    scaler = StandardScaler().fit(data.X_train)
    return scaler.transform(data.X_train), scaler.transform(data.X_test), data.y_test


# %% [markdown]
# ## 1. REPEN: a base detector as the teacher
#
# The idea of RAMODO, and of its instance REPEN (Pang et al. 2018), is to turn a score into training data. Any cheap
# detector scores the training rows. Rows with an extreme score become **outlier candidates** $x^-$, the rest **inlier
# candidates** $x^+$. Then a network $\varphi$ is trained so that the next detector in line, a nearest-neighbour
# distance
#
# $$f(x, Q) = \min_{q \in Q} \lVert \varphi(x) - \varphi(q) \rVert_2 ,$$
#
# separates the two by a margin $m$: it minimises $\max(0,\; m + f(x^+, Q) - f(x^-, Q))$, where $Q$ is a random set of
# inlier candidates. The final score is $f$ again, averaged over random subsamples of the training set. A subsample of
# a few dozen rows is enough to tell a crowded region from an empty one, and keeps the cost linear in the number of
# rows, where all pairs would cost its square.
#
# Which score is extreme? More than $\alpha$ standard deviations above the mean. Cantelli's inequality bounds the share
# of such rows for *every* distribution by $1/(1+\alpha^2)$, so $\alpha = \sqrt 3$ gives at most one quarter.

# %%
rng = np.random.default_rng(seed)
shapes = {
    "normal": rng.normal(size=10_000),
    "exponential": rng.exponential(size=10_000),
    "heavy tails (t, 2)": rng.standard_t(2, size=10_000),
    "two clumps, 3 to 1": np.repeat([0.0, 1.0], [7_600, 2_400]),
}
shares = {name: outlier_candidates(torch.tensor(scores), 3**0.5).double().mean() for name, scores in shapes.items()}
assert all(0 < share <= 0.25 for share in shares.values()), "Cantelli's bound holds for every shape"
pd.Series({name: float(share) for name, share in shares.items()}, name="share of candidates").round(3).to_frame()

# %% [markdown]
# The bound is nearly reached by the two clumps, and is generous for the rest: usual scores give a few percent of
# candidates.
#
# ### Distances before and after
#
# To see what the network takes from its teacher we need a teacher whose knowledge we control. So: twelve columns of
# pure noise, and anomalies that differ in the *first* column alone, by 3.5 standard deviations. One teacher looks at
# the first column. The other looks at the second, where there is nothing to see. Both are ordinary detectors, handed
# to `REPEN` by the argument `base_detector`.


# %%
class OneColumn(Detector):
    """Distance to the mean in one column: a teacher with one idea."""

    def __init__(self, column=0, contamination=0.05):
        self.column = column
        self.contamination = contamination

    def _fit(self, X, y):
        self.center_ = X[:, self.column].mean()

    def _score(self, X):
        return np.abs(X[:, self.column] - self.center_)


train, test, y_toy = rng.normal(size=(600, 12)), rng.normal(size=(400, 12)), np.repeat([0, 1], 200)
test[y_toy == 1, 0] = rng.choice([-3.5, 3.5], 200) + 0.2 * rng.normal(size=200)

# %%
pupils = {
    "untrained": REPEN(epochs=0, random_state=seed),
    "right teacher": REPEN(base_detector=OneColumn(0), margin=3.0, random_state=seed),
    "wrong teacher": REPEN(base_detector=OneColumn(1), margin=3.0, random_state=seed),
}
distances = pd.DataFrame({name: pupil.fit(train).anomaly_score(test) for name, pupil in pupils.items()})
taught = pd.Series({name: metrics.auroc(y_toy, column) for name, column in distances.items()}, name="AUROC")
taught.round(3).to_frame().T

# %% [markdown]
# The same test rows, three networks that started from the same random weights. In units of the median distance of
# the normal rows:

# %%
relative = distances / distances[y_toy == 0].median()
fig, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 2.5), layout="constrained", sharey=True)
for axis, (name, values) in zip(axes, relative.items()):
    bins = np.linspace(values.min(), values.max(), 30)
    for label, color, text in ((0, plots.NORMAL, "normal"), (1, plots.ANOMALY, "anomaly")):
        axis.hist(values[y_toy == label], bins, color=color, alpha=0.45, label=text)
    axis.set(title=f"{name} ({taught[name]:.2f})", xlabel="neighbour distance")
axes[0].set_ylabel("test rows")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
nb.figure(fig, "repen_teachers", data=relative.assign(anomaly=y_toy))

# %% [markdown]
# Before learning, the one telling column is a twelfth of every distance. The right teacher makes the network stretch
# it, and anomalies move away from the crowd. The wrong teacher makes it stretch a column that says nothing, and part
# of what the untrained distance knew of the anomalies is lost. **A mistake of the base detector carries over**: the network cannot
# know better than the candidates it was shown.

# %%
assert taught["right teacher"] > taught["untrained"] + 0.05, "what the teacher knows, the network learns"
assert taught["wrong teacher"] < taught["untrained"] - 0.05, "what the teacher gets wrong, it learns as well"

# %% [markdown]
# ### Which teacher on real tables?
#
# In the paper the training data are unlabelled and contaminated: extreme rows are likely to be true anomalies, and
# the teacher is Sp, the nearest-neighbour distance in a random subsample. Our training rows are all normal, so the
# candidates are merely the *most extreme normal* rows. Sp finds these where columns have long tails. The local outlier
# factor (LOF) compares a row with its own neighbourhood and finds candidates everywhere. Here are five teachers; the
# column `teacher` is the teacher's own AUROC, `gain` is trained minus untrained.

# %%
teachers = {
    "LOF": ("lof", "LocalOutlierFactor"),
    "Sp": ("sp", None),
    "kNN": (KNNDistance(), "KNNDistance"),
    "PCA residual": (PCAResidual(), "PCAResidual"),
    "Isolation Forest": (IsolationForest(random_state=seed), "IsolationForest"),
}
rows = []
for dataset in hard_datasets:
    for name, (base, alone) in teachers.items():
        row = summary("REPEN", dataset, base_detector=base)
        own = summary(alone, dataset)["AUROC"] if alone else np.nan
        rows.append({"data set": dataset, "teacher of REPEN": name, "teacher": own} | row)
teaching = pd.DataFrame(rows).set_index(["data set", "teacher of REPEN"])[
    ["teacher", "untrained", "AUROC", "sd", "gain"]
]
nb.table(printable(teaching), "repen_base_detectors", n=n_seeds)
teaching.round(3)

# %% [markdown]
# Look at the column `gain`, not at `AUROC`. The untrained network is a random projection followed by neighbours'
# distances, and that is already a fair detector: kNN in disguise. On the small tables of the default profile learning
# moves it little in either direction, and no teacher helps on all of them. On the larger tables of the course's
# profile LOF is the teacher whose gain is positive on two tables of three, by more than the spread between seeds,
# while Sp gains nothing. That is why LOF is the default here, against the paper.

# %%
for dataset in hard_datasets:
    if dataset.startswith("injected/dependency/"):
        assert teaching.loc[dataset, "gain"].max() < 0.05, "no teacher helps much here"
if set(hard_datasets) == {"tables/vowels", "tables/optdigits", "tables/satellite"}:
    gains = teaching["gain"].unstack("teacher of REPEN")
    assert gains.loc[["tables/optdigits", "tables/satellite"], "LOF"].min() > 0
    assert gains["LOF"].mean() > gains["Sp"].mean()

# %% [markdown]
# ## 2. RDP: from points to relations
#
# An autoencoder is asked about a *point*: give me back this row. Wang et al. (2020) ask about a *relation*: how
# similar are these two rows, in the eyes of a random network $\eta$ that nobody ever trains? A second network
# $\varphi$ learns to answer,
#
# $$L_{\text{relation}} = \big(\langle\varphi(x), \varphi(x')\rangle - \langle\eta(x), \eta(x')\rangle\big)^2, \qquad
# L_{\text{novelty}} = \lVert \varphi(x) - \eta(x) \rVert^2 ,$$
#
# both divided by the number of outputs. Why a *random* target? A random map keeps distances roughly as they are
# (Johnson and Lindenstrauss), so to predict it, $\varphi$ must find out what the data look like. And the target is
# known everywhere, while $\varphi$ has practised on normal rows only: where it has never been, it is wrong. The error
# of the prediction is the score.
#
# Let us look at the errors for pairs. Thirty normal rows and ten anomalies of the test set, each against each, before
# and after learning:

# %%
X_train, X_test, y_test = scaled(hard_datasets[0])
shown = np.concatenate([np.flatnonzero(y_test == 0)[:30], np.flatnonzero(y_test == 1)[:10]])
many = torch.tensor(X_test[shown])


def pair_errors(epochs):
    """|⟨φ, φ'⟩ − ⟨η, η'⟩| / m for each pair of the rows shown."""
    detector = RDP(epochs=epochs, n_estimators=1, random_state=seed).fit(X_train)
    with torch.no_grad():
        phi, eta = detector.embed(many)
        return ((phi @ phi.T - eta @ eta.T).abs() / detector.latent_dim).numpy()


errors = {"before learning": pair_errors(0), "after learning": pair_errors(200)}

# %%
fig, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.6), layout="constrained", sharey=True)
for axis, (name, matrix) in zip(axes, errors.items()):
    drawn = axis.imshow(matrix, cmap="magma", vmin=0, vmax=0.4)
    axis.axhline(29.5, color="white", lw=1)
    axis.axvline(29.5, color="white", lw=1)
    axis.set(title=name, xticks=[14.5, 34.5], xticklabels=["normal", "anomaly"])
    axis.grid(False)
axes[0].set_yticks([14.5, 34.5], ["normal", "anomaly"], rotation=90, va="center")
fig.colorbar(drawn, ax=axes, label="error of the predicted relation", shrink=0.8)
nb.figure(
    fig,
    "rdp_relations",
    data=pd.concat(
        {name: pd.DataFrame(matrix) for name, matrix in errors.items()}, names=["state", "row"]
    ).reset_index(),
)

# %% [markdown]
# Before learning the errors say nothing about who is anomalous; they are large for pairs of long rows. After learning
# most of the square of normal pairs is dark. Bright stripes remain: some anomalies are seen wrongly in relation to
# *everybody*, and so is a normal row here and there. The score is the mean of such a stripe, plus the novelty of the
# point itself.

# %%
contrasts = {
    name: np.median(matrix[30:, :30]) / np.median(matrix[:30, :30][~np.eye(30, dtype=bool)])
    for name, matrix in errors.items()
}
if hard_datasets[0].startswith("injected/dependency/"):
    assert contrasts["after learning"] > 1.3 * contrasts["before learning"]
pd.Series(contrasts, name="error, anomaly-normal pairs / normal pairs").round(2).to_frame()

# %% [markdown]
# ### Beside contrastive learning
#
# Contrastive learning (Chen et al. 2020) also works on relations. It takes two *views* of every row, made by an
# augmentation, and asks that the two be similar and all other pairs dissimilar:
#
# | | what is predicted for a pair | where the answer comes from | what must be chosen |
# |---|---|---|---|
# | autoencoder | nothing: each point for itself | the row | width of the code |
# | contrastive | same row or not: the identity matrix | an augmentation | which changes do not matter |
# | RDP | a graded similarity | a random network | nothing about the data |
#
# For photographs we know changes that do not matter: crops, colours. For a table nobody does. The usual makeshift is
# to replace some entries by those of another row. In a few lines (the score is the dissimilarity to the most similar
# of 64 training rows):


# %%
class Contrastive(DeepDetector):
    """Two corrupted views of a row should be alike, those of different rows should not."""

    def build(self, shape):
        network = nn.Sequential(nn.Linear(shape[0], 64), nn.LeakyReLU(), nn.Linear(64, 32))
        network.register_buffer("references", torch.zeros(64, *shape))
        return network

    def views(self, batch, generator):
        swap = torch.rand(batch.shape, generator=generator) < 0.3
        others = batch[torch.randperm(len(batch), generator=generator)]
        return F.normalize(self.network_(torch.where(swap, others, batch)))

    def loss(self, batch, generator):
        similarity = self.views(batch, generator) @ self.views(batch, generator).T / 0.2
        return F.cross_entropy(similarity, torch.arange(len(batch)))

    def optimise(self, data, generator):
        self.network_.references = data[torch.randint(len(data), (64,), generator=generator)]
        return super().optimise(data, generator)

    def batch_score(self, batch, generator):
        points, references = (F.normalize(self.network_(part)) for part in (batch, self.network_.references))
        return 1 - (points @ references.T).amax(dim=1)


# %% [markdown]
# And RDP taken apart: only the relation, only the novelty, a linear target, one target instead of five.


# %%
def contrastive_row(dataset):
    """The same columns as `summary` for the contrastive detector."""
    X_train, X_test, y_test = scaled(dataset)
    areas = []
    for epochs in (0, 100):
        found = [Contrastive(epochs=epochs, random_state=seed + i).fit(X_train) for i in range(n_seeds)]
        areas.append([metrics.auroc(y_test, one.anomaly_score(X_test)) for one in found])
    untrained, trained = np.array(areas)
    means = {"AUROC": trained.mean(), "untrained": untrained.mean(), "gain": (trained - untrained).mean()}
    return means | {"sd": trained.std(ddof=1)}


# %%
variants = {
    "RDP": {},
    "relation only": {"novelty_weight": 0.0},
    "novelty only": {"relation_weight": 0.0},
    "linear target": {"target_hidden": ()},
    "one target": {"n_estimators": 1},
}
relations = []
for dataset in hard_datasets:
    for name, setting in variants.items():
        relations.append({"data set": dataset, "method": name} | summary("RDP", dataset, **setting))
    relations.append({"data set": dataset, "method": "contrastive"} | contrastive_row(dataset))
relations = pd.DataFrame(relations).set_index(["data set", "method"])[["untrained", "AUROC", "sd", "gain"]]
nb.table(relations, "rdp_ablation", n=n_seeds)
relations.round(3)

# %% [markdown]
# RDP's prediction error learns a great deal: compare `untrained` with `AUROC`. Most of it is the novelty term's
# doing. The relation alone is the weaker half, because a product of two outputs is dominated by long rows, for which
# it is large whether they are normal or not. Averaging several random targets costs time and buys steadiness.

# %%
for dataset in hard_datasets:
    assert relations.loc[(dataset, "RDP"), "gain"] > 0.1, "the score is learned, not inherited from random weights"
    assert (
        relations.loc[(dataset, "novelty only"), "AUROC"] > relations.loc[(dataset, "relation only"), "AUROC"] - 0.02
    )

# %% [markdown]
# ## 3. DAGMM: clusters of codes and errors
#
# An autoencoder throws away either the code or the error when it scores. Zong et al. (2018) keep both. The
# **compression network** maps a row $x$ to its code $z_c$ and its reconstruction $x'$, and from these builds
#
# $$z = \Big[\,z_c,\; \frac{\lVert x - x' \rVert}{\lVert x \rVert},\; \cos(x, x')\Big].$$
#
# The **estimation network** gives soft memberships $\hat\gamma_{ik}$ of $K$ clusters, and these *define* weights
# $\hat\phi_k$, means $\hat\mu_k$ and covariances $\hat\Sigma_k$ of a Gaussian mixture, as one M-step of the EM
# algorithm would. The score is the energy, the negative log-likelihood
#
# $$E(z) = -\log \sum_{k=1}^K \hat\phi_k\, \mathcal N(z;\, \hat\mu_k, \hat\Sigma_k),$$
#
# and everything is trained at once on $\lVert x - x'\rVert^2 + \lambda_1 E(z) + \lambda_2 \sum_{k,j}
# 1/\hat\Sigma_{kjj}$. The last term is there because a likelihood has no upper bound: a cluster that shrinks to a
# point makes it infinite.
#
# ### The energy landscape
#
# With a code of one number, $z$ has three coordinates. Leaving the cosine out of a Gaussian mixture is exact: the
# marginal is the mixture of the remaining means and covariances. So we can draw the landscape over code and
# reconstruction error, in standardised units. To know what we should see, we take data with one true degree of
# freedom: a curve in three columns. Anomalies have the same columns, shuffled, so that each value is plausible alone.


# %%
def curve(n):
    t = rng.uniform(-2, 2, n)
    return np.stack([t, np.sin(2 * t), np.cos(2 * t)], axis=1) + 0.05 * rng.normal(size=(n, 3))


curve_train, on_curve = curve(600), curve(200)
off_curve = np.column_stack([rng.permutation(column) for column in curve(200).T])
curve_test = np.vstack([on_curve, off_curve])
landscapes = {
    name: DAGMM(latent_dim=1, epochs=epochs, n_estimators=1, random_state=seed).fit(curve_train)
    for name, epochs in (("untrained", 0), ("trained", 50))
}
valley = {name: metrics.auroc(y_toy, detector.anomaly_score(curve_test)) for name, detector in landscapes.items()}
assert valley["trained"] > max(0.9, valley["untrained"] + 0.2)


# %%
def code_and_error(detector, X):
    with torch.no_grad():
        return detector.represent(torch.tensor(X))[0][:, :2].numpy()


def energy_at(detector, points):
    net = detector.network_
    return sample_energy(torch.tensor(points), net.weights, net.means[:, :2], net.covariances[:, :2, :2]).numpy()


# %%
places = pd.concat(
    pd.DataFrame(code_and_error(detector, curve_test), columns=["code", "error"]).assign(network=name, anomaly=y_toy)
    for name, detector in landscapes.items()
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.4), layout="constrained")
for axis, (name, detector) in zip(axes, landscapes.items()):
    z = code_and_error(detector, curve_test)
    low, high = np.quantile(z, [0.0, 0.97], axis=0) + [[-0.4, -0.4], [0.4, 0.4]]
    sides = np.linspace(low[0], high[0], 80), np.linspace(low[1], high[1], 80)
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    energy = energy_at(detector, grid).reshape(80, 80)
    axis.contourf(*sides, energy, levels=np.quantile(energy, np.linspace(0, 1, 12)), cmap="Greys", alpha=0.6)
    for label, color, marker in ((0, plots.NORMAL, "o"), (1, plots.ANOMALY, "^")):
        look = {"s": 14, "c": color, "marker": marker, "lw": 0.3, "edgecolors": "white"}
        axis.scatter(*z[y_toy == label].T, label=["normal", "anomaly"][label], **look)
    axis.set(
        title=f"{name} ({valley[name]:.2f})", xlabel="code $z_c$", xlim=(low[0], high[0]), ylim=(low[1], high[1])
    )
    axis.grid(False)
axes[0].set_ylabel("relative error $z_r$")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, markerscale=1.5)
nb.figure(fig, "dagmm_landscape", single_run=True, data=places)

# %% [markdown]
# Training digs a valley where the codes of normal rows lie and their errors are small, and most anomalies stay above
# it: it is the reconstruction error that tells them apart, for they have codes like anybody's. This is DAGMM's best
# idea, and it can be measured: take the trained network on the first hard data set, and the energy of the code alone,
# of the two features of the error alone, and of both.

# %%
X_train, X_test, y_test = scaled(hard_datasets[0])
parts = {"code alone": [0, 1, 2, 3], "errors alone": [4, 5], "both": list(range(6))}
rows = []
for i in range(n_seeds):
    detector = DAGMM(n_estimators=1, random_state=seed + i).fit(X_train)
    net = detector.network_
    with torch.no_grad():
        z = detector.represent(torch.tensor(X_test))[0]
    for name, kept in parts.items():
        energy = sample_energy(z[:, kept], net.weights, net.means[:, kept], net.covariances[:, kept][:, :, kept])
        rows.append({"part of z": name, "AUROC": metrics.auroc(y_test, energy.numpy())})
pieces = pd.DataFrame(rows).groupby("part of z")["AUROC"].agg(["mean", "std"]).loc[list(parts)]
if hard_datasets[0].startswith("injected/dependency/"):
    assert pieces.loc["errors alone", "mean"] > pieces.loc["code alone", "mean"]
nb.table(pieces.reset_index(), "dagmm_parts", n=n_seeds)
pieces.round(3)

# %% [markdown]
# ### How many clusters? And does pretraining matter?
#
# $K$ must be chosen before training, without labels. We vary it, count the clusters that hold at least one twentieth
# of the rows, and do the same without pretraining the autoencoder.


# %%
def used_clusters(dataset, **parameters):
    """Clusters with a weight of at least 1/20, mean over the seeds; and the final reconstruction error."""
    X_train = scaled(dataset)[0]
    fits = [DAGMM(n_estimators=1, random_state=seed + i, **parameters).fit(X_train) for i in range(n_seeds)]
    used = np.mean([(one.network_.weights > 0.05).sum() for one in fits])
    return {"clusters used": used, "squared error": np.mean([one.history_[-1]["reconstruction"] for one in fits])}


rows = []
for dataset in hard_datasets:
    settings = {f"K = {k}": {"n_components": k} for k in cluster_counts}
    settings["K = 2, no pretraining"] = {"n_components": 2, "pretrain_epochs": 0}
    settings["K = 2, mixture not trained"] = {"n_components": 2, "energy_weight": 0.0, "covariance_weight": 0.0}
    for name, setting in settings.items():
        found = summary("DAGMM", dataset, n_estimators=1, **setting) | used_clusters(dataset, **setting)
        rows.append({"data set": dataset, "setting": name} | found)
columns = ["untrained", "AUROC", "sd", "clusters used", "squared error"]
mixtures = pd.DataFrame(rows).set_index(["data set", "setting"])[columns]
nb.table(mixtures, "dagmm_clusters", n=n_seeds)
mixtures.round(3)

# %% [markdown]
# $K$ hardly matters: with more clusters than the data have, the estimation network
# shares the rows out among equals, and a mixture of equal Gaussians is one Gaussian. That also says how little
# "cluster" there is in such tables. Pretraining is another matter. Without it the energy pulls at an encoder that
# does not reconstruct yet, and the squared error at the end is larger. What that does to the AUROC differs from table
# to table; where the error carries the information, it hurts.

# %%
for dataset in hard_datasets:
    with_it, without = mixtures.loc[(dataset, "K = 2")], mixtures.loc[(dataset, "K = 2, no pretraining")]
    if dataset.startswith("injected/dependency/"):
        assert with_it["squared error"] < without["squared error"], "pretraining leaves a better autoencoder"
        assert np.ptp(mixtures.loc[[(dataset, f"K = {k}") for k in cluster_counts], "AUROC"]) < 0.06

# %% [markdown]
# ### The published table, and why ours may not stand in it
#
# Precision, recall and $F_1$ as published. `DAGMM` is trained from end to end at once; `DAGMM-p` starts from a
# pretrained autoencoder, as ours does. Their **threshold is the anomaly rate of the data**: with 2.5% anomalies among
# the thyroid rows they flag the 2.5% with the highest energy. Nobody has that rate at work. They train on a random
# half of all rows with the anomalies taken out, test on the other half, and report means over 20 runs.

# %%
published = pd.DataFrame(
    [
        ("OC-SVM", 0.3639, 0.4239, 0.3887, 0.5397, 0.4082, 0.4581, 0.7457, 0.8523, 0.7954),
        ("DSEBM-e", 0.1319, 0.1319, 0.1319, 0.4667, 0.4565, 0.4601, 0.7369, 0.7477, 0.7423),
        ("PAE", 0.1894, 0.2062, 0.1971, 0.4393, 0.4437, 0.4403, 0.7276, 0.7397, 0.7336),
        ("DAGMM-p", 0.4723, 0.4725, 0.4713, 0.4909, 0.4679, 0.4787, 0.7579, 0.7710, 0.7644),
        ("DAGMM", 0.4766, 0.4834, 0.4782, 0.4909, 0.5078, 0.4983, 0.9297, 0.9442, 0.9369),
    ],
    columns=[
        "method",
        *[f"{d} {m}" for d in ("Thyroid", "Arrhythmia", "KDDCup") for m in ("precision", "recall", "F1")],
    ],
).set_index("method")
nb.table(published.reset_index(), "dagmm_published")
published

# %% [markdown]
# Two things to read from it. On KDDCup pretraining costs the paper's authors much, on the two small tables nothing:
# whether to pretrain is not settled by this paper, and our cell above agrees that it depends on the table. And on
# Thyroid every number is low, although a ruler nearly solves that table by AUROC: $F_1$ at a 2.5% rate is a harsh
# measure. Our own row needs that table, which does not come with scikit-learn. With `paper_dataset="thyroid"` the
# next cell measures it, with the threshold of the paper (`f1_at_rate`) and with an honest one (`f1`, the 95% quantile
# of the training scores). Our split differs: half of the normals train, the other half and *all* anomalies test, and
# columns are standardised. Arrhythmia and KDDCup are not part of this course's data.

# %%
ours = pd.DataFrame()
if paper_dataset:
    runs = pd.DataFrame([benchmark.measure("DAGMM", paper_dataset, seed + i) for i in range(n_seeds)])
    measures = ["f1_at_rate", "f1", "auroc", "norm_auroc", "untrained_auroc"]
    ours = runs[measures].agg(["mean", "std"] if n_seeds > 1 else ["mean"])
    nb.table(ours.reset_index(), "dagmm_paper_row")
    assert (runs["norm_auroc"] > 0.9).all(), "a ruler solves this table"
ours.round(3) if paper_dataset else "no row of our own: paper_dataset is empty"

# %% [markdown]
# ## 4. All together, where it can be told
#
# Now the three detectors as they come, one set of parameters for all data, beside the linear model and the
# neighbours. By default `RDP` averages five networks and `DAGMM` three, `REPEN` has one; an average is usually better
# than one of its members, so RDP and DAGMM also stand here with one network. First a table that a ruler solves.

# %%
detectors = ["REPEN", "RDP", "DAGMM", "KNNDistance", "GaussianAnomalyScorer", "PCAResidual"]
one_network = {f"{name}, one network": {"n_estimators": 1} for name in ("RDP", "DAGMM")}
tables = [easy_dataset, *hard_datasets, image_dataset]
rows = [
    {"data set": d, "detector": name} | summary(name.partition(",")[0], d, **one_network.get(name, {}))
    for d in tables
    for name in [*detectors, *one_network]
]
results = pd.DataFrame(rows).set_index(["data set", "detector"])
easy = results.loc[easy_dataset, ["random", "ruler", "untrained", "AUROC", "sd"]]
easy.round(3)

# %% [markdown]
# The ruler does it, the untrained networks do it too, and training moves a detector by little or makes it worse. **Such a table cannot show learning.** Whoever reports only its AUROC has shown that
# the program runs. The medical table of the course, thyroid, is another of this kind: set `easy_dataset` to it.

# %%
if easy_dataset in ("breast_cancer", "thyroid"):
    assert easy["ruler"].min() > 0.9
    assert easy["AUROC"].max() - easy["ruler"].mean() < 0.08, "nothing is gained over a ruler here"

# %% [markdown]
# Then the data on which the ruler fails, or at least does not suffice. The rulers as rows of the same table:

# %%
hard = results.drop(index=easy_dataset)
blocks = {}
for dataset, block in hard.groupby(level="data set", sort=False):
    block = block.droplevel("data set")
    controls = pd.DataFrame({"AUROC": {"random": block["random"].mean(), "‖x‖²": block["ruler"].mean()}})
    untrained = block.drop(index=list(one_network))[["untrained", "untrained sd", "networks"]].dropna()
    untrained = untrained.set_axis(["AUROC", "sd", "networks"], axis=1).rename(index="{}, untrained".format)
    columns = ["networks", "AUROC", "sd", "gain", "gain sd", "fit (s)"]
    blocks[dataset] = pd.concat([controls.assign(networks=0), untrained, block[columns]])[columns]
board = pd.concat(blocks, names=["data set", "detector"])
nb.table(printable(board), "feature_learning_comparison", n=n_seeds)
board.round(3)

# %%
picture = board.reset_index("data set").rename(columns={"AUROC": "mean"})
panels = picture.assign(panel=picture["data set"].str.replace("injected/dependency/", "dependency\n"))
fig = plots.comparison(panels, "AUROC", group="panel", reference="‖x‖²")
nb.figure(fig, "feature_learning_comparison", n=n_seeds, data=picture[["data set", "mean", "sd"]].reset_index())

# %% [markdown]
# RDP and DAGMM have learned: each is far above its own untrained network and above ‖x‖². REPEN stands where its
# untrained network stands. The simple methods: on dependency anomalies the PCA residual is as good as the best
# network or better, within milliseconds. On the digits, 64 columns with curved relations, the average of RDP's five
# networks is ahead of kNN and of PCA; one network alone is level with kNN and behind PCA.
#
# ### Which part of each method contributes?
#
# An ablation leaves out one part and keeps everything else: splits, seeds, epochs, and the number of networks on both
# sides. The runs were made above. A gain is the AUROC with the part less the AUROC without it.

# %%
mixture = {"n_components": 2, "n_estimators": 1}
ablated = {
    "REPEN: training": ("REPEN", {}, {"epochs": 0}),
    "REPEN: LOF instead of the paper's Sp": ("REPEN", {"base_detector": "lof"}, {"base_detector": "sp"}),
    "RDP: relation": ("RDP", {}, {"relation_weight": 0.0}),
    "RDP: novelty": ("RDP", {}, {"novelty_weight": 0.0}),
    "DAGMM: training of the mixture": ("DAGMM", mixture, mixture | {"energy_weight": 0.0, "covariance_weight": 0.0}),
    "DAGMM: pretraining": ("DAGMM", mixture, mixture | {"pretrain_epochs": 0}),
}
rows = []
for part, (name, given, changed) in ablated.items():
    both = [
        np.mean([runs_of(name, d, **setting)["auroc"] for d in hard_datasets], axis=0) for setting in (given, changed)
    ]
    gain = both[0] - both[1]
    row = {"part": part}
    for name, values in (("with it", both[0]), ("without it", both[1]), ("gain", gain)):
        row |= {name: values.mean(), f"{name} sd": values.std(ddof=1)}
    rows.append(row)
ablations = pd.DataFrame(rows).set_index("part")
nb.table(ablations.reset_index().round(3), "feature_learning_ablations", n=n_seeds)
ablations.round(3)

# %%
for key, part in (
    ("rdp_gain_by_relation", "RDP: relation"),
    ("dagmm_gain_by_mixture", "DAGMM: training of the mixture"),
):
    nb.value(key, ablations.loc[part, "gain"], sd=ablations.loc[part, "gain sd"], n=n_seeds)

# %% [markdown]
# Of the six parts two contribute on these tables by more than the spread over the splits: RDP's novelty and DAGMM's
# pretraining, which is not in the paper's own DAGMM. RDP's relation, its paper's idea, does not contribute. Nor does
# the training of DAGMM's mixture: the energy under memberships that nobody trained ranks as well. REPEN's training
# and the choice of its base detector change little.

# %%
for dataset in hard_datasets:
    if dataset.startswith("injected/dependency/"):
        for name in ("RDP", "DAGMM"):
            assert hard.loc[(dataset, name), "gain"] > 0.05, "trained beats untrained"
            assert hard.loc[(dataset, name), "AUROC"] > hard.loc[(dataset, name), "ruler"] + 0.1
        assert abs(ablations.loc["REPEN: training", "gain"]) < 0.05
        assert ablations.loc["RDP: novelty", "gain"] > 0.05 > ablations.loc["RDP: relation", "gain"]
        assert ablations.loc["DAGMM: training of the mixture", "gain"] < 0.03
        simple = board.loc[(dataset, ["KNNDistance", "PCAResidual"]), "AUROC"].max()
        assert simple > board.loc[(dataset, ["REPEN", "RDP", "DAGMM"]), "AUROC"].max() - 0.1
if image_dataset == "digits/8":
    assert hard.loc[(image_dataset, "RDP"), "AUROC"] > hard.loc[(image_dataset, "KNNDistance"), "AUROC"]

# %% [markdown]
# ## 5. Good and bad points
#
# | | good | bad |
# |---|---|---|
# | distances (REPEN, RDP) | simple, and any teacher or target will do (sections 1 and 2) | what the teacher gets wrong is learned (the wrong teacher, section 1) |
# | | subsamples instead of all pairs keep the cost linear in the rows (next cell) | a learned distance is no better than kNN here, and a linear model beats both (section 4) |
# | clusters (DAGMM) | code and error together tell more than the code (parts of $z$, section 3) | $K$ has no right answer and little effect (section 3) |
# | | a proper likelihood, one number for everything | without a pretrained autoencoder the copies are worse (section 3) |
#
# The claim about cost, measured: time to score rows against all training rows, and against subsamples.

# %%
sizes, seconds = [1_000, 4_000, 16_000], {"kNN": [], "REPEN": []}
for n in sizes:
    cloud = rng.normal(size=(n, 24))
    for name, detector in (("kNN", KNNDistance()), ("REPEN", REPEN(epochs=0, base_detector="sp", random_state=seed))):
        detector.fit(cloud[: n // 2])
        times = []
        for _ in range(3):  # the shortest is the least disturbed by other processes
            start = time.perf_counter()
            detector.anomaly_score(cloud[n // 2 :])
            times.append(time.perf_counter() - start)
        seconds[name].append(min(times))
costs = pd.DataFrame(seconds, index=pd.Index(sizes, name="rows"))
assert costs["REPEN"].iloc[-1] / costs["REPEN"].iloc[0] < 0.5 * costs["kNN"].iloc[-1] / costs["kNN"].iloc[0]
(costs / costs.iloc[0]).round(1)

# %% [markdown]
# Sixteen times as many rows, half of them to learn from and half to score: the subsamples' cost grows by about that
# factor, the cost of all pairs by much more.
#
# ## Results

# %%
first = hard_datasets[0]
for name in ("REPEN", "RDP", "DAGMM"):
    row = hard.loc[(first, name)]
    nb.value(f"{name.lower()}_auroc", row["AUROC"], sd=row["sd"], n=n_seeds)
    nb.value(f"{name.lower()}_gain", row["gain"], sd=row["gain sd"], n=n_seeds)
    nb.value(f"{name.lower()}_easy_auroc", easy.loc[name, "AUROC"], sd=easy.loc[name, "sd"], n=n_seeds)
    nb.value(f"{name.lower()}_fit_seconds", row["fit (s)"], unit="s")
for name in ("RDP", "DAGMM"):
    row = hard.loc[(first, f"{name}, one network")]
    nb.value(f"{name.lower()}_auroc_one_network", row["AUROC"], sd=row["sd"], n=n_seeds)
nb.value("ruler_auroc", hard.loc[first, "ruler"].mean(), n=n_seeds)
nb.value("ruler_easy_auroc", easy["ruler"].mean(), n=n_seeds)
nb.value("knn_auroc", hard.loc[(first, "KNNDistance"), "AUROC"], n=n_seeds)
nb.value("pca_auroc", hard.loc[(first, "PCAResidual"), "AUROC"], n=n_seeds)
for name in ("untrained", "right teacher", "wrong teacher"):
    nb.value(f"repen_{name.replace(' ', '_')}_auroc", taught[name])

# %% [markdown]
# ## In this notebook
#
# - REPEN learns from the candidates of a base detector. A good teacher moves anomalies away, a wrong one hides them.
#   With normal training rows the candidates are extreme normals, and a local teacher serves better than a global one.
# - RDP predicts relations in the eyes of a random network. Its error learns a great deal; most of that is the novelty
#   of the point.
# - DAGMM scores code and error together. $K$ matters little, pretraining leaves a better autoencoder, and a published
#   $F_1$ that knows the anomaly rate is not comparable with an honest one.
# - On a table that a ruler solves, untrained networks shine too. On the others, kNN and PCA are the ones to beat.
#
# ## Exercises
#
# **1. Predict: half of the rows as outliers.** The share of candidates depends on `cutoff`. Before you run it: what
# happens to the right teacher's pupil of section 1 if the cutoff falls to 0, so that about half of the rows are outlier
# candidates?

# %% tags=["solution"]
eager = REPEN(base_detector=OneColumn(0), margin=3.0, cutoff=0.0, random_state=seed).fit(train)
eager_auroc = metrics.auroc(y_toy, eager.anomaly_score(test))
assert eager_auroc > taught["wrong teacher"]
pd.Series({"cutoff √3": taught["right teacher"], "cutoff 0": eager_auroc}).round(3)

# %% [markdown] tags=["solution"]
# The column that matters is still the one that separates the two groups, so the pupil still learns it. The candidates
# near the border are mislabelled only mildly: they are no outliers, but they *are* on the right side of the teacher's
# ranking.

# %% [markdown]
# **2. Change: a target that is not deep.** RDP's target is random, but must it be deep? Compare the novelty alone with
# a linear target, a target of one hidden layer and one of three, on the first hard data set.

# %% tags=["solution"]
depths = {"linear": (), "one hidden layer": (64,), "three hidden layers": (64, 64, 64)}
areas = {
    name: summary("RDP", first, target_hidden=hidden, novelty_weight=1.0, relation_weight=0.0)["AUROC"]
    for name, hidden in depths.items()
}
assert min(areas.values()) > hard.loc[first, "ruler"].mean()
pd.Series(areas, name="AUROC").round(3).to_frame()

# %% [markdown] tags=["solution"]
# Even a linear target serves: what makes the error grow off the data is that $\varphi$ has practised on the data only,
# not that $\eta$ is complicated.

# %% [markdown]
# **3. Build: a teacher from the same notebook.** RAMODO is a recipe: any score may follow any teacher. Let RDP be the
# teacher of REPEN. Does the pupil outgrow it on the first hard data set?

# %% tags=["solution"]
X_train, X_test, y_test = scaled(first)
teacher = RDP(random_state=seed)
pupil = REPEN(base_detector=teacher, random_state=seed).fit(X_train)
chain = {
    "teacher (RDP)": metrics.auroc(y_test, teacher.fit(X_train).anomaly_score(X_test)),
    "pupil (REPEN)": metrics.auroc(y_test, pupil.anomaly_score(X_test)),
}
if first.startswith("injected/dependency/"):
    assert chain["pupil (REPEN)"] < chain["teacher (RDP)"], "a few extreme normals do not carry all that RDP knows"
pd.Series(chain, name="AUROC").round(3).to_frame()

# %% [markdown] tags=["solution"]
# No. The teacher knows more than the few candidates can tell. If you trust a teacher, use its score.

# %%
nb.finish()

# %% [markdown]
# ## References
#
# - G. Pang, L. Cao, L. Chen, H. Liu (2018). Learning representations of ultrahigh-dimensional data for random
#   distance-based outlier detection. *KDD*.
# - M. Sugiyama, K. Borgwardt (2013). Rapid distance-based outlier detection via sampling. *NeurIPS*.
# - M. M. Breunig, H.-P. Kriegel, R. T. Ng, J. Sander (2000). LOF: identifying density-based local outliers. *SIGMOD*.
# - H. Wang, G. Pang, C. Shen, C. Ma (2020). Unsupervised representation learning by predicting random distances.
#   *IJCAI*.
# - Y. Burda, H. Edwards, A. Storkey, O. Klimov (2019). Exploration by random network distillation. *ICLR*.
# - T. Chen, S. Kornblith, M. Norouzi, G. Hinton (2020). A simple framework for contrastive learning of visual
#   representations. *ICML*.
# - B. Zong, Q. Song, M. R. Min, W. Cheng, C. Lumezanu, D. Cho, H. Chen (2018). Deep autoencoding Gaussian mixture
#   model for unsupervised anomaly detection. *ICLR*.
