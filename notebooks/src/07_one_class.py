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
# # One-class networks: Deep SVDD and Deep SAD
#
# The networks of the last notebooks were trained for another task, such as reconstruction, and the score was derived
# from it. The output of a one-class network **is** the anomaly score: Deep SVDD maps the normal samples to one point,
# and the distance to this point is the score. Deep SAD adds a few labelled anomalies. The next notebook,
# [07b](07b_adversarial_one_class.ipynb), has two adversarial methods and compares all of them.
#
# **You will learn**
#
# - how Deep SVDD maps the normal samples into a small sphere;
# - how the soft boundary sets the radius of the sphere;
# - how such a network collapses to a constant, and which design choices prevent it;
# - what a few labelled anomalies contribute, and for which anomalies.
#
# Reading time: 24 minutes. Running time: 1 minute. Terms in English and Chinese: [glossary](glossary.md), above all
# [Deep SVDD](glossary.md#Deep-SVDD), [collapse](glossary.md#Collapse) and [semi-supervised
# learning](glossary.md#Semi-supervised-learning).

# %% [markdown]
# ## Parameters
#
# The defaults need no download.

# %% tags=["parameters"]
dataset: str = "injected/dependency/breast_cancer"  # the table of sections 1 and 2
digit: int = 3  # the normal digit of section 3
known_kind: int = 8  # the digit whose images are labelled in section 3
label_counts: list[int] = [0, 1, 5, 10, 20]  # labelled anomalies to compare; 0 and a positive number
nus: list[float] = [0.02, 0.1, 0.3]  # shares outside the soft boundary
seed: int = 0  # of every split and every random generator
n_seeds: int = 3  # splits and seeds where a mean is shown, at least 2
epochs: int = 100  # of the networks of section 1, at least 1
collapse_epochs: int = 150  # of section 2, at least 10

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from scipy.spatial import cKDTree
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

# %%
from mmad_utils import DeepSAD, DeepSVDD, metrics, networks, plots
from mmad_utils.course import notebook

nb = notebook.start("07_one_class")

# %% [markdown]
# In the anomalies of this table each column holds the value of some normal row. No column alone is unusual; only the
# relations between the columns are broken. All columns are standardised by the training rows.

# %%
table = nb.load(dataset, seed=seed).as_table()
scaler = StandardScaler().fit(table.X_train)
X_train, X_test, y_test = scaler.transform(table.X_train), scaler.transform(table.X_test), table.y_test
print(f"{table}\nAUROC of the squared length ‖x‖²: {metrics.auroc(y_test, np.square(X_test).sum(axis=1)):.2f}")

# %% [markdown]
# The squared length ‖x‖² is the squared distance to the centre of the training data. It is the baseline that needs no
# learning, and on this table it detects little.
#
# ## 1. Deep SVDD
#
# Support vector data description (Tax and Duin 2004) finds the smallest sphere that holds the normal samples. Without
# a kernel its score is the distance to the centre. Deep SVDD (Ruff et al. 2018) fixes the centre $c$ instead and
# learns the *space*. A network $\phi$ with weights $W$ maps a sample to a latent code, and the loss is
#
# $$\min_W\; \frac1n \sum_i d(x_i) + \frac\lambda2 \lVert W\rVert^2, \qquad d(x) = \lVert \phi(x; W) - c\rVert^2 .$$
#
# The score of a new sample is $d(x)$. Why is an anomaly far from $c$? To map *many different* normal samples to one
# point, the network must ignore the directions in which they differ and use what they have in common. An anomaly
# lacks the common part, so it is not mapped to $c$.
#
# ### One training step
#
# The step is done here with plain PyTorch. All rows are one batch. An untrained `DeepSVDD` (`epochs=0`) provides the
# initial weights, so that the result can be compared with that of the class.

# %% tags=["step"]
batch = torch.tensor(X_train, dtype=torch.float32)  # (n, d)
first = DeepSVDD(latent_dim=2, epochs=0, n_estimators=1, random_state=seed).fit(X_train)

# %% [markdown]
# The network has two hidden layers and two outputs, so that the learned space can be plotted. Its layers have no
# biases; section 2 explains why. The hidden layers are normalised over the batch, without learned scale and shift.

# %% tags=["step"]
network = nn.Sequential(
    nn.Linear(batch.shape[1], 64, bias=False), nn.BatchNorm1d(64, affine=False), nn.LeakyReLU(),
    nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32, affine=False), nn.LeakyReLU(),
    nn.Linear(32, 2, bias=False),
)  # fmt: skip
_ = network.load_state_dict(first.network_.state_dict(), strict=False)  # all but the centre and the radius

# %% [markdown]
# The centre is the mean output of the initial network. Coordinates near 0 are moved to ±0.1.

# %% tags=["step"]
with torch.no_grad():
    center = network.eval()(batch).mean(0)  # (2,)
center = torch.where(center.abs() < 0.1, torch.where(center < 0, -0.1, 0.1), center)

# %% [markdown]
# The loss is the mean squared distance to the centre.

# %% tags=["step"]
distance = (network.train()(batch) - center).square().sum(1)  # d(x), (n,)
loss = distance.mean()
print(f"mean squared distance to the centre: {loss:.4f}")

# %% [markdown]
# The weights are updated by Adam, with a small weight decay $\lambda$.

# %% tags=["step"]
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-6)
optimizer.zero_grad()
loss.backward()
optimizer.step()

# %% tags=["claim"]
# The class shuffles the rows, so its float32 sums have another order: the loss agrees to 5 digits, and the scores to
# 1 per thousand, because Adam divides small gradients by their own size.
once = DeepSVDD(latent_dim=2, epochs=1, batch_size=len(X_train), n_estimators=1, random_state=seed).fit(X_train)
assert np.isclose(loss.item(), once.history_[0]["loss"], rtol=1e-5)
own_distance = (network.eval()(batch) - center).square().sum(1).detach().numpy()
assert np.allclose(own_distance, once.anomaly_score(X_train), rtol=1e-3, atol=1e-5)

# %% [markdown]
# `DeepSVDD` repeats this step on shuffled batches. Its outputs are the latent codes.


# %% tags=["step"]
def latent_codes(detector, X):
    """Outputs of the network, (n, latent_dim)."""
    with torch.no_grad():
        return detector.network_(torch.tensor(X)).numpy()


# %% [markdown]
# We compare an untrained and a trained network, each with two outputs.

# %% tags=["step"]
plane = {}
for name, n in (("untrained", 0), ("trained", epochs)):
    options = {"latent_dim": 2, "batch_size": 32, "n_estimators": 1, "random_state": seed}
    plane[name] = DeepSVDD(epochs=n, **options).fit(X_train)

# %% [markdown]
# The latent codes of the test samples are taken relative to the centre. The unit is the radius of the sphere that
# holds 90% of the *training* samples.

# %% tags=["step"]
points = []
for name, detector in plane.items():
    sphere = detector.network_
    codes = (latent_codes(detector, X_test) - sphere.center.numpy()) / sphere.radius.item()
    area = metrics.auroc(y_test, detector.anomaly_score(X_test))
    part = pd.DataFrame(codes, columns=["latent code 1", "latent code 2"])
    part = part.assign(sample=np.where(y_test == 1, "anomaly", "normal"), network=f"{name}, AUROC {area:.2f}")
    points.append(part.sort_values("sample", ascending=False))
points = pd.concat(points, ignore_index=True)

# %%
fig = plots.scatter(points, "latent code 1", "latent code 2", by="sample", panels="network", height=3.6)
for axis in fig.axes:
    axis.set(xlim=(-5, 5), ylim=(-5, 5), aspect="equal")
    axis.add_patch(plt.Circle((0, 0), 1, fill=False))
nb.figure(fig, "svdd_sphere", data=points)

# %% [markdown]
# Before training the latent code is a random projection, and anomalies are as close to the centre as normal samples.
# After training the normal samples are near the centre, and many anomalies are not.
#
# The circle holds 90% of the training samples and fewer of the normal test samples. A network with thousands of
# weights maps its own training rows closer to the centre than new rows. A threshold from training scores
# therefore raises too many alarms. `calibrate` on held-out normal rows corrects this.

# %% tags=["claim"]
lengths = np.hypot(points["latent code 1"], points["latent code 2"])
by_sample = lengths.groupby([points["network"], points["sample"]], sort=False).mean().unstack()
ratios = (by_sample["anomaly"] / by_sample["normal"]).to_numpy()  # untrained, trained
assert ratios[1] > max(1.3, 1.15 * ratios[0])
plane_auroc = [metrics.auroc(y_test, detector.anomaly_score(X_test)) for detector in plane.values()]
assert plane_auroc[1] > plane_auroc[0] + 0.1
trained_normal = points["network"].str.startswith("trained") & (points["sample"] == "normal")
assert (lengths[trained_normal] < 1).mean() < 0.85, "new normal samples are farther out than training samples"

# %% [markdown]
# ### The soft boundary
#
# The paper's second objective also learns a radius $R$:
#
# $$\min_{R, W}\; R^2 + \frac1{\nu n} \sum_i \max\bigl(0,\, d(x_i) - R^2\bigr) + \frac\lambda2\lVert W\rVert^2 .$$
#
# A large $R$ is expensive, and a small one leaves many samples outside. For a given network the best $R^2$ is the
# $(1 - \nu)$ quantile of the distances (exercise 4). Hence $\nu$ is the share of training samples outside, and the
# loss is the mean of the *largest* share $\nu$ of the distances.
#
# In two dimensions the boundary can be plotted. The data are two moons, and anomalies are uniform in the rest of the
# square.


# %%
def moons(n, seed):
    return (make_moons(n, noise=0.08, random_state=seed)[0] - [0.5, 0.25]) / [0.87, 0.5]


# %% [markdown]
# Points closer than 0.35 to a training sample are removed, and 400 of the others are the anomalies.

# %%
moons_train = moons(600, seed)
elsewhere = np.random.default_rng(seed).uniform(-3.5, 3.5, (3000, 2))
elsewhere = elsewhere[cKDTree(moons_train).query(elsewhere)[0] > 0.35][:400]
moons_test, moons_y = np.concatenate([moons(400, seed + 1), elsewhere]), np.repeat([0, 1], 400)

# %%
spheres = {}
for nu in nus:
    options = {"objective": "soft-boundary", "nu": nu, "contamination": nu, "epochs": 60, "batch_size": 64}
    spheres[f"ν = {nu:g}"] = DeepSVDD(n_estimators=1, random_state=seed, **options).fit(moons_train)

# %% [markdown]
# For each $\nu$ we count the share of each group outside the boundary.

# %%
groups = {"training samples": moons_train, "normal test samples": moons_test[:400], "anomalies": moons_test[400:]}
tightness = pd.DataFrame({
    f"{name} outside": [(sphere.predict(rows) == -1).mean() for sphere in spheres.values()]
    for name, rows in groups.items()
}, index=pd.Index(nus, name="ν"))  # fmt: skip

# %%
fig = plots.decision_regions(spheres, moons_test, moons_y, columns=3)
nb.figure(fig, "svdd_tightness", data=tightness.reset_index())
tightness.round(3)

# %% [markdown]
# The larger $\nu$, the closer the boundary is to the data. At the largest $\nu$ it cuts into the moons: more anomalies
# are outside, and more normal samples too.

# %% tags=["claim"]
assert np.allclose(tightness["training samples outside"], nus, atol=0.01)  # of 600 samples
assert tightness["normal test samples outside"].is_monotonic_increasing

# %% [markdown]
# ## 2. Collapse
#
# The loss is zero for every network that maps *all* inputs to $c$. Such a network detects nothing, and the loss does
# not penalise it. There are three ways to reach it.
#
# - **Biases.** With all weights 0 and the last bias equal to $c$, the output is $c$ for every input.
# - **Centre at 0.** Without biases, all weights 0 give the output 0. This is the solution if $c = 0$.
# - **Bounded activations.** A saturated tanh is constant and acts as a bias.
#
# Weight decay favours the first two, because it favours small weights. Deep SVDD therefore has no biases, uses
# LeakyReLU, and keeps the coordinates of $c$ away from 0. Our network also normalises its hidden layers over the
# batch. Small weights before a normalisation have no effect.
#
# The experiment below removes the normalisation and one further measure at a time. The weight decay is large (0.01),
# so that the effect appears early.


# %%
class PlainSVDD(DeepSVDD):
    """Deep SVDD without normalised layers."""

    bias = False

    def build(self, shape):
        network = networks.encoder(shape, self.latent_dim, hidden=self.hidden, bias=self.bias)
        network.register_buffer("center", torch.zeros(self.latent_dim))
        network.register_buffer("radius", torch.zeros(()))
        return network


# %%
class WithBias(PlainSVDD):
    bias = True


class CenterAtZero(PlainSVDD):
    def place_center(self, data):
        return torch.zeros(self.latent_dim)


# %% [markdown]
# The quantity to observe is the spread of the latent codes of all *test* samples, anomalies included. It is 0 for a
# collapsed network.

# %%
checkpoints = sorted({0, *np.geomspace(5, collapse_epochs, 6).astype(int).tolist()})
rows = []
for name, kind in {"Deep SVDD": DeepSVDD, "with biases": WithBias, "centre at 0": CenterAtZero}.items():
    for n in checkpoints:
        options = {"weight_decay": 0.01, "batch_size": 32, "n_estimators": 1, "random_state": seed}
        detector = kind(epochs=n, **options).fit(X_train)
        spread = latent_codes(detector, X_test).std(axis=0).mean()
        rows.append((name, n, spread, metrics.auroc(y_test, detector.anomaly_score(X_test))))
collapse = pd.DataFrame(rows, columns=["network", "epochs", "spread of the latent codes", "AUROC"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
looks = {"hue": "network", "style": "network", "markers": plots.MARKERS[:3], "dashes": plots.DASHES[:3]}
for axis, quantity in zip(axes, ("spread of the latent codes", "AUROC")):
    sns.lineplot(collapse, x="epochs", y=quantity, palette=plots.COLORS[:3], ax=axis, **looks)
axes[0].set(yscale="log")
axes[0].legend_.set_title(None)
axes[1].legend_.remove()
nb.figure(fig, "svdd_collapse", data=collapse)

# %% [markdown]
# All three networks lower their loss, and at first all three detect. Then the latent codes of the two changed networks
# shrink to a point, for normal samples and anomalies alike, and the AUROC falls. A low loss does not show that the
# network detects anything.

# %% tags=["claim"]
last = collapse[collapse["epochs"] == checkpoints[-1]].set_index("network")
for changed in ("with biases", "centre at 0"):
    spreads = last["spread of the latent codes"]
    assert spreads["Deep SVDD"] > 10 * spreads[changed]
    assert last.loc["Deep SVDD", "AUROC"] > last.loc[changed, "AUROC"] + 0.05

# %% [markdown]
# ## 3. Deep SAD: a few labelled anomalies
#
# Often a few anomalies are known. Deep SAD (Ruff et al. 2020) adds these samples $\tilde x_j$ to the loss with the
# *inverse* of their distance:
#
# $$\frac1n\sum_i d(x_i) \;+\; \eta\,\frac1m \sum_j \frac1{d(\tilde x_j)} .$$
#
# The inverse is large where a labelled anomaly is near $c$ and small where it is far away, so that one anomaly cannot
# dominate. The anomalies are not modelled as a class. Only the normal samples have a centre, and every other sample
# should be far from it, also of a kind without labels.
#
# This can be tested. One digit is normal. The labelled anomalies all show *one* other digit, the known kind. The test
# uses other images of this kind and, separately, the eight kinds without labels.


# %%
def known_and_new(split_seed):
    """Standardised images of one split, labels, kinds, and the anomalies to be labelled, in random order."""
    data = nb.load(f"digits/{digit}", seed=split_seed).as_table()
    scale = StandardScaler().fit(data.X_train)
    kinds = np.array(data.source["kinds_test"])
    order = np.random.default_rng(split_seed).permutation(np.flatnonzero(kinds == str(known_kind)))
    return scale.transform(data.X_train), scale.transform(data.X_test), data.y_test, kinds, order[: max(label_counts)]


# %% [markdown]
# ### One training step
#
# The step of Deep SVDD needs one more term. The data are the normal rows and the labelled anomalies, and the untrained
# network is that of the class.

# %% tags=["step"]
train, test, _, _, labelled = known_and_new(seed)
X, marks = np.concatenate([train, test[labelled]]), np.repeat([0, 1], [len(train), len(labelled)])
network = DeepSAD(epochs=0, n_estimators=1, random_state=seed).fit(X, marks).network_.float().train()

# %% [markdown]
# All rows are in one batch, so that the same statistics normalise both groups. The mean distance of the normal rows
# and the mean inverse distance of the anomalies are added ($\eta = 1$).

# %% tags=["step"]
distance = (network(torch.tensor(X, dtype=torch.float32)) - network.center).square().sum(1)
loss = distance[marks == 0].mean() + (1 / distance[marks == 1]).mean()  # η = 1

# %% [markdown]
# The update is the same as before.

# %% tags=["step"]
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-6)
optimizer.zero_grad()
loss.backward()
optimizer.step()
print(f"loss {loss:.4f}, of it for the {len(labelled)} labels {(1 / distance[marks == 1]).mean():.4f}")

# %% tags=["claim"]
# As for Deep SVDD: the same sums in another order, in float32.
once = DeepSAD(epochs=1, batch_size=len(X), n_estimators=1, random_state=seed).fit(X, marks)
assert np.isclose(loss.item(), once.history_[0]["loss"], rtol=1e-4)
own_distance = (network.eval()(torch.tensor(X, dtype=torch.float32)) - network.center).square().sum(1)
assert np.allclose(own_distance.detach().numpy(), once.anomaly_score(X), rtol=1e-2)

# %% [markdown]
# ### Known and new kinds
#
# Beside Deep SAD a logistic regression learns from the same labels. It is the supervised alternative.


# %%
def areas_of(scores, y, kinds, labelled):
    """AUROC of the known kind, without the samples that may be labelled, and of the new kinds."""
    known = kinds == str(known_kind)
    rest = np.setdiff1d(np.arange(len(y)), labelled)
    parts = {"known kind": rest[(y == 0)[rest] | known[rest]], "new kinds": rest[~known[rest]]}
    return {name: metrics.auroc(y[rows], scores[rows]) for name, rows in parts.items()}


# %%
rows = []
for i in range(n_seeds):
    train, test, y, kinds, labelled = known_and_new(seed + i)
    for m in label_counts:
        X, marks = np.concatenate([train, test[labelled[:m]]]), np.repeat([0, 1], [len(train), m])
        found = {"Deep SAD": DeepSAD(random_state=seed + i).fit(X, marks).anomaly_score(test)}
        if m:
            model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(X, marks)
            found["logistic regression"] = model.decision_function(test)
        for name, scores in found.items():
            areas = areas_of(scores, y, kinds, labelled)
            rows += [(name, kind, m, i, area) for kind, area in areas.items()]
columns = ["detector", "anomalies", "labelled anomalies", "split", "AUROC"]
label_runs = pd.DataFrame(rows, columns=columns)

# %%
labels = label_runs.groupby(["anomalies", "detector", "labelled anomalies"])["AUROC"].agg(["mean", "std"])
fig = plots.lines(label_runs, "labelled anomalies", "AUROC", by="detector", panels="anomalies")
nb.figure(fig, "sad_labels", n=n_seeds, data=labels.reset_index())

# %% [markdown]
# On the known kind labels help, the first few most, and the supervised model is better. On new kinds it is worse: it has
# learned only the direction from the normal class to the known kind. Deep SAD keeps what it learned from the normal
# samples. Labels help against anomalies *similar to them*. They supplement a one-class detector and do not replace
# it.

# %% tags=["claim"]
most, means_of_labels = max(label_counts), labels["mean"]
sad_known, sad_new = means_of_labels["known kind", "Deep SAD"], means_of_labels["new kinds", "Deep SAD"]
assert sad_known[most] > sad_known[0] + 0.02
assert sad_new[most] > means_of_labels["new kinds", "logistic regression"][most] + 0.01
assert sad_new[most] > sad_new[0] - 0.03

# %% [markdown]
# ## 4. Advantages and limits
#
# | | | section |
# |---|---|---|
# | + | The output of the network is the score; no reconstruction is needed | 1 |
# | + | Labelled anomalies are easily added, and new kinds are still detected | 3 |
# | + | Scoring is one pass of the network and stores only the weights, while kNN stores samples | 1 |
# | − | A trivial solution exists; a low loss proves nothing | 2 |
# | − | Training scores are smaller than scores of new normal samples; calibration needs held-out rows | 1 |
# | − | On small tables PCA is as good and much faster | [07b](07b_adversarial_one_class.ipynb) |
#
# ## In this notebook
#
# - Deep SVDD learns a space in which the normal samples fill a small sphere. The best radius is a quantile, set by
#   $\nu$.
# - Its loss has a trivial solution. No biases, unbounded activations, a centre away from 0 and normalised layers
#   exclude it.
# - A few labelled anomalies help against similar ones. The one-class loss still detects other kinds.
#
# ## Exercises
#
# **1. Predict: a bounded activation.** Let the output of `PlainSVDD` pass through a tanh and put the centre at
# (1, 1, …). Can a network without biases reach this centre? Predict, then compare the mean distance of the normal
# test samples before and after training.
#
# <details><summary>Hint</summary>
#
# What is tanh of a large number? Override `build` and `place_center`.
#
# </details>


# %% tags=["solution"]
class Saturated(PlainSVDD):
    """The output passes through a tanh, and the centre is where the tanh saturates."""

    def build(self, shape):
        network = super().build(shape)
        network.append(nn.Tanh())
        return network

    def place_center(self, data):
        return torch.ones(self.latent_dim)


# %% tags=["solution"]
saturated = Saturated(epochs=collapse_epochs, batch_size=32, n_estimators=1, random_state=seed).fit(X_train)
inputs = X_test[y_test == 0]
saturated_distance = saturated.anomaly_score(inputs).mean() / saturated.latent_dim
open_distance = clone(saturated).set_params(epochs=0).fit(X_train).anomaly_score(inputs).mean() / saturated.latent_dim
assert saturated_distance < open_distance
print(f"mean squared distance per coordinate: {open_distance:.2f} untrained, {saturated_distance:.2f} trained")

# %% [markdown] tags=["solution"]
# It can, almost exactly. tanh of any large number is 1, and LeakyReLU features are positive on both sides of 0. Large
# weights therefore map every normal sample to the centre.

# %% [markdown]
# **2. Change: pretraining.** With `pretraining_epochs` the network is first trained as the encoder of an autoencoder,
# as in the paper. Does it help on our table? Compare 0 and 50 epochs over `n_seeds` seeds.
#
# <details><summary>Hint</summary>
#
# Use the settings of section 1 without `latent_dim`, and one `random_state` per seed.
#
# </details>

# %% tags=["solution"]
rows = []
for pretraining in (0, 50):
    for i in range(n_seeds):
        options = {"epochs": epochs, "batch_size": 32, "n_estimators": 1, "random_state": seed + i}
        detector = DeepSVDD(pretraining_epochs=pretraining, **options).fit(X_train)
        rows.append((pretraining, metrics.auroc(y_test, detector.anomaly_score(X_test))))
pretrained = pd.DataFrame(rows, columns=["pretraining epochs", "AUROC"]).groupby("pretraining epochs")["AUROC"]
assert (pretrained.mean() > 0.75).all()
pretrained.agg(["mean", "std"]).round(3)

# %% [markdown] tags=["solution"]
# It does not help here and costs a little. With normalised layers the initial network is a good start. The paper needed
# pretraining on larger images.

# %% [markdown]
# **3. Build: contaminated training data.** In practice the "normal" rows include a few undetected anomalies. Add half
# of the test anomalies to the training set of section 1 without labels, and test on the others. Then label them for
# Deep SAD. What does the label change?
#
# <details><summary>Hint</summary>
#
# `DeepSAD().fit(X, y)` takes labels 0 and 1. Compare clean, contaminated and labelled training data.
#
# </details>

# %% tags=["solution"]
hidden, tested = np.array_split(np.random.default_rng(seed).permutation(np.flatnonzero(y_test == 1)), 2)
kept = np.concatenate([np.flatnonzero(y_test == 0), tested])
mixed, marks = np.concatenate([X_train, X_test[hidden]]), np.repeat([0, 1], [len(X_train), len(hidden)])
options = {"epochs": epochs, "batch_size": 32, "n_estimators": 3, "random_state": seed}
fits = {
    "clean": DeepSAD(**options).fit(X_train),
    "contaminated": DeepSAD(**options).fit(mixed),
    "labelled": DeepSAD(**options).fit(mixed, marks),
}
found = {name: metrics.auroc(y_test[kept], d.anomaly_score(X_test[kept])) for name, d in fits.items()}
assert found["labelled"] > found["contaminated"] - 0.02
pd.DataFrame({"AUROC": found}).round(3)

# %% [markdown] tags=["solution"]
# Without labels the anomalies are mapped into the sphere and take similar ones with them. With labels they are not. To
# remove them gives most of the difference already ("clean").

# %% [markdown]
# **4. On paper: the best radius.** Show that for given distances $d_1, \dots, d_n$ the soft-boundary loss is smallest
# where $R^2$ is the $(1 - \nu)$ quantile. Show that the loss is then the mean of the largest share $\nu$ of the distances.
#
# <details><summary>Hint</summary>
#
# What is the derivative of $R^2 + \frac1{\nu n}\sum_i \max(0, d_i - R^2)$ with respect to $R^2$?
#
# </details>

# %% [markdown] tags=["solution"]
# Let $r = R^2$, and let $m(r)$ be the number of distances above $r$. Each of them contributes the slope $-1$ to the
# sum, so the derivative is $1 - m(r) / (\nu n)$. It is negative while more than $\nu n$ distances are above $r$ and
# positive afterwards. The minimum is where $m(r) = \nu n$, the $(1 - \nu)$ quantile. There the loss is
# $r + \frac1{\nu n}\sum_{d_i > r}(d_i - r) = r + \frac1{\nu n}\sum_{d_i > r} d_i - r$, which is the mean of the $\nu n$
# largest distances.

# %% tags=["solution"]
d = torch.tensor(np.random.default_rng(seed).exponential(size=1000))
for nu in nus:
    best = min(r + (d - r).relu().mean().item() / nu for r in np.linspace(0, 8, 8001))  # a search on a grid
    largest = d.sort(descending=True).values[: round(nu * 1000)].mean().item()
    assert abs(best - largest) < 0.01 * best
    print(f"ν = {nu:g}: smallest loss {best:.3f}, mean of the largest distances {largest:.3f}")

# %% tags=["results"]
nb.table(tightness.reset_index().round(3), "svdd_tightness")
nb.value("collapse_auroc_guarded", last.loc["Deep SVDD", "AUROC"])
nb.value("collapse_auroc_center_at_zero", last.loc["centre at 0", "AUROC"])
nb.value("sad_gain_known_kind", sad_known[most] - sad_known[0])
nb.value("sad_gain_new_kinds", sad_new[most] - sad_new[0])
recorded_labels = labels.reset_index().rename(columns={"labelled anomalies": "labels"})
nb.table(recorded_labels.round(3), "sad_labels", n=n_seeds)
nb.finish()

# %% [markdown]
# ## References
#
# - L. Ruff, R. Vandermeulen, N. Görnitz, L. Deecke, S. A. Siddiqui, A. Binder, E. Müller, M. Kloft (2018). Deep
#   one-class classification. *ICML*.
# - L. Ruff, R. A. Vandermeulen, N. Görnitz, A. Binder, E. Müller, K.-R. Müller, M. Kloft (2020). Deep semi-supervised
#   anomaly detection. *ICLR*.
# - D. M. J. Tax, R. P. W. Duin (2004). Support vector data description. *Machine Learning* 54.
