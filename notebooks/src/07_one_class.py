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
# # One-class networks: Deep SVDD, Deep SAD, ALOCC and Fence GAN
#
# The detectors of the last notebooks learned something else (to reconstruct, to generate, to recognise a rotation)
# and used what they had learned to find anomalies. The four detectors of this notebook are trained **end to end**:
# the number that the network puts out *is* the score, and the loss asks for that number to be good.
#
# There is a price. A classifier needs two classes, and we have one. Each method invents what is missing in its own
# way, and each way has a trivial solution that must be kept out of reach. Half of this notebook is about that.
#
# **You will learn**
#
# - how Deep SVDD pulls the normal samples into a small sphere in a learned space, and how tight to make it;
# - how such a network collapses, and which guard keeps it from that;
# - what 0, 1, 5, 10 and 20 labelled anomalies buy, and for which anomalies;
# - how ALOCC lets a denoiser make the second class, and why too much training turns its score upside down;
# - how Fence GAN builds the second class around the data, and why it must start from outside;
# - how all of them compare with a ruler, with PCA and with neighbours, and on which data that comparison means
#   anything.
#
# Key words, explained in English and Chinese in the [glossary](glossary.md): [Deep SVDD](glossary.md#Deep-SVDD),
# [collapse](glossary.md#Collapse), [semi-supervised learning](glossary.md#Semi-supervised-learning).

# %% [markdown]
# ## Parameters
#
# The defaults need no download. With the course's data at hand, set `hard_datasets` to real tables such as
# `"tables/vowels"`.

# %% tags=["parameters"]
dataset: str = "injected/dependency/breast_cancer"  # the table of sections 1 and 2
digit: int = 3  # the normal digit of sections 3 and 4
known_kind: int = 8  # the digit whose pictures get the labels in section 3
hard_datasets: list[str] = [
    "injected/dependency/breast_cancer",
    "injected/dependency/digits/8",
]  # where a ruler fails
easy_dataset: str = "breast_cancer"  # where a ruler is enough
label_counts: list[int] = [0, 1, 5, 10, 20]  # labelled anomalies to compare
nus: list[float] = [0.02, 0.1, 0.3]  # shares outside the soft boundary
seed: int = 0  # of every split and every random draw
n_seeds: int = 3  # splits and seeds where a mean is shown
epochs: int = 100  # passes over the small tables of this notebook
table_epochs: int = 50  # of every network in the table of section 6
collapse_epochs: int = 150  # longer, to see what happens in the end
alocc_epochs: int = 150  # enough for the refiner to become good
fence_epochs: int = 100  # passes over the two moons of section 5

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.spatial import cKDTree
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from mmad_utils import ALOCC, DeepSAD, DeepSVDD, FenceGAN, benchmark, metrics, networks, plots
from mmad_utils.course import notebook

# %%
nb = notebook.start("07_one_class")

# %% [markdown]
# The table of the first two sections has anomalies of a mean kind: each of their columns holds a value of some normal
# row, so that no column alone gives anything away; only the relations between columns are broken. All columns are
# standardised by the training rows.

# %%
table = nb.load(dataset, seed=seed).as_table()
scaler = StandardScaler().fit(table.X_train)
X_train, X_test, y_test = scaler.transform(table.X_train), scaler.transform(table.X_test), table.y_test
ruler = metrics.auroc(y_test, np.square(X_test).sum(axis=1))
print(f"{table}\nAUROC of the squared length ‖x‖²: {ruler:.2f}")

# %% [markdown]
# ## 1. Deep SVDD: a small sphere in a learned space
#
# The classic of one-class learning (support vector data description, Tax and Duin 2004) looks for the smallest
# sphere that holds the normal samples. In the space of the raw features this is the ruler, give or take a kernel.
# Deep SVDD (Ruff et al. 2018) turns it around: fix the centre $c$ of the sphere, and learn the *space*. A network
# $\phi$ with weights $W$ maps samples to codes, and its loss is
#
# $$\min_W\; \frac1n \sum_i d(x_i) + \frac\lambda2 \lVert W\rVert^2, \qquad d(x) = \lVert \phi(x; W) - c\rVert^2 .$$
#
# The score of a new sample is $d(x)$. Why should an anomaly land far from $c$? Because the only cheap way to bring
# *many different* normal samples to one point is to ignore the directions in which they differ from each other, and
# to use what they have in common. A sample without that common part is not brought to $c$.
#
# With two coordinates in the learned space we can watch it.


# %%
def small(**parameters):
    """Deep SVDD with one network and batches for a small table."""
    return DeepSVDD(n_estimators=1, batch_size=32, random_state=seed, **parameters)


def codes_of(detector, X):
    with torch.no_grad():
        return detector.network_(torch.tensor(X)).numpy()


plane = {name: small(latent_dim=2, epochs=n).fit(X_train) for name, n in (("untrained", 0), ("trained", epochs))}
plane_auroc = {name: metrics.auroc(y_test, detector.anomaly_score(X_test)) for name, detector in plane.items()}

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
for axis, (name, detector) in zip(axes, plane.items()):
    center, radius = detector.network_.center.numpy(), detector.network_.radius.item()
    codes = codes_of(detector, X_test)
    for label, color, marker, size in ((0, plots.NORMAL, "o", 12), (1, plots.ANOMALY, "^", 26)):
        axis.scatter(*codes[y_test == label].T, s=size, c=color, marker=marker, label=["normal", "anomaly"][label])
    axis.add_patch(plt.Circle(center, radius, fill=False, color="black", lw=1.2, label="90% of the training samples"))
    axis.plot(*center, "k+", ms=9)
    reach = 1.1 * np.abs(codes - center).max()
    axis.set(xlim=center[0] + [-reach, reach], ylim=center[1] + [-reach, reach], aspect="equal")
    axis.set(title=f"{name}, AUROC {plane_auroc[name]:.2f}", xlabel="code 1", ylabel="code 2")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
nb.figure(
    fig,
    "svdd_sphere",
    data=pd.concat(
        {
            name: pd.DataFrame(codes_of(d, X_test), columns=["code 1", "code 2"]).assign(anomaly=y_test)
            for name, d in plane.items()
        },
        names=["network"],
    ).reset_index("network"),
)

# %% [markdown]
# On the left the code is a random projection, and the anomalies are as close to the centre as anybody. On the right
# the normal samples have moved together and the anomalies stayed behind: the sphere was not drawn around the data,
# the data were brought into the sphere.
#
# Look at the circle, too. It holds 90% of the *training* samples, and far fewer of the normal test samples: a network
# with thousands of weights brings its own 178 rows closer to the centre than any new row. A threshold from training
# scores promises nothing; `calibrate` on held-out normal rows does.


# %%
def relative_distance(detector):
    """Mean distance of the anomalies from the centre, in units of that of the normal test samples."""
    distance = np.linalg.norm(codes_of(detector, X_test) - detector.network_.center.numpy(), axis=1)
    return distance[y_test == 1].mean() / distance[y_test == 0].mean()


assert relative_distance(plane["trained"]) > max(1.3, 1.15 * relative_distance(plane["untrained"]))
assert plane_auroc["trained"] > plane_auroc["untrained"] + 0.1
inside = np.linalg.norm(
    codes_of(plane["trained"], X_test[y_test == 0]) - plane["trained"].network_.center.numpy(), axis=1
)
assert (inside < plane["trained"].network_.radius.item()).mean() < 0.85, "new normal samples are farther out"
{name: round(relative_distance(detector), 2) for name, detector in plane.items()}

# %% [markdown]
# ### How tight? The soft boundary
#
# The paper's second objective has a radius $R$ that is learned too:
#
# $$\min_{R, W}\; R^2 + \frac1{\nu n} \sum_i \max\bigl(0,\, d(x_i) - R^2\bigr) + \frac\lambda2\lVert W\rVert^2 .$$
#
# A large $R$ costs directly, a small one through the samples that it leaves outside. For a given network the best
# $R^2$ can be written down: set the derivative to zero, and it is where exactly the share $\nu$ of the distances lies
# above, the $(1 - \nu)$ quantile. Inserted into the loss, what remains is the mean of the *largest* share $\nu$ of the
# distances. So $\nu$ is a dial between "all samples count" ($\nu = 1$, the one-class objective) and "the worst ones
# count". We check it with a generic search over $R^2$.

# %%
distances = torch.tensor(np.random.default_rng(seed).exponential(size=1000))
for nu in nus:
    best = min(r + (distances - r).relu().mean().item() / nu for r in np.linspace(0, 8, 8001))
    worst = distances.sort(descending=True).values[: round(nu * 1000)].mean().item()
    assert abs(best - worst) < 0.01 * best, "the soft boundary is the mean of the largest share nu"

# %% [markdown]
# In two dimensions the boundary can be drawn. The data are two moons; anomalies are drawn at random from the rest of
# the square, at least 0.35 away from every training sample. The alarm threshold of each detector is its own sphere.


# %%
def moons(n, seed):
    return (make_moons(n, noise=0.08, random_state=seed)[0] - [0.5, 0.25]) / [0.87, 0.5]


moons_train = moons(600, seed)
elsewhere = np.random.default_rng(seed).uniform(-3.5, 3.5, (3000, 2))
elsewhere = elsewhere[cKDTree(moons_train).query(elsewhere)[0] > 0.35][:400]
moons_test, moons_y = np.concatenate([moons(400, seed + 1), elsewhere]), np.repeat([0, 1], 400)

# %%
spheres = {}
for nu in nus:
    options = {"objective": "soft-boundary", "nu": nu, "contamination": nu, "epochs": 60, "batch_size": 64}
    spheres[f"ν = {nu:g}"] = DeepSVDD(n_estimators=1, random_state=seed, **options).fit(moons_train)
fig = plots.decision_regions(spheres, moons_test, moons_y, columns=3)
tightness = pd.DataFrame({
    "training samples outside": [(d.predict(moons_train) == -1).mean() for d in spheres.values()],
    "normal test samples outside": [(d.predict(moons_test[:400]) == -1).mean() for d in spheres.values()],
    "anomalies outside": [(d.predict(moons_test[400:]) == -1).mean() for d in spheres.values()],
}, index=pd.Index(nus, name="ν"))  # fmt: skip
nb.figure(fig, "svdd_tightness", data=tightness.reset_index())

# %% [markdown]
# From left to right the line tightens. It is tightest at the largest $\nu$, where it cuts into the moons themselves:
# more anomalies are outside, and so are more normal samples.

# %%
nb.table(tightness.reset_index().round(3), "svdd_tightness")
assert np.allclose(tightness["training samples outside"], nus, atol=0.01)
assert tightness["normal test samples outside"].is_monotonic_increasing
tightness.round(3)

# %% [markdown]
# ## 2. Collapse, and how it is guarded against
#
# Look at the loss again. It is zero for every network that maps *everything* to $c$. Such a network has learned
# nothing, and nothing in the loss is against it: no anomalies, no reconstruction. Three doors lead there.
#
# - **Biases.** With all weights zero and the last bias equal to $c$, the output is $c$ for every input.
# - **The centre at 0.** Without biases, all weights zero give the output 0. If $c = 0$, that is the solution.
# - **Bounded activations.** A saturated tanh is a constant, and a constant is as good as a bias.
#
# Weight decay even pushes towards the first two, because zero weights are what it likes best. So Deep SVDD has no
# bias in any layer, LeakyReLU activations, and a centre (the mean output of the initial network) whose coordinates
# are kept at least 0.1 away from 0. Our network also normalises its hidden layers over the batch, without learned
# scale and shift: small weights in front of a normalisation have no effect at all.
#
# We open two of the doors. The weight decay is 0.01, large on purpose, so that nobody has to wait.


# %%
class PlainSVDD(DeepSVDD):
    """Deep SVDD without normalised layers."""

    bias = False

    def build(self, shape):
        network = networks.encoder(shape, self.latent_dim, hidden=self.hidden, bias=self.bias)
        network.register_buffer("center", torch.zeros(self.latent_dim))
        network.register_buffer("radius", torch.zeros(()))
        return network


class WithBias(PlainSVDD):
    bias = True


class CenterAtZero(PlainSVDD):
    def place_center(self, data):
        return torch.zeros(self.latent_dim)


# %% [markdown]
# What to watch is the spread of the codes of the *test* samples, anomalies included. A guarded network keeps a
# spread; a collapsed one maps them all to the same point.

# %%
guards = {"guarded": DeepSVDD, "with biases": WithBias, "centre at 0": CenterAtZero}
checkpoints = sorted({0, *np.geomspace(5, collapse_epochs, 6).astype(int).tolist()})
rows = []
for name, kind in guards.items():
    for n in checkpoints:
        options = {"weight_decay": 0.01, "batch_size": 32, "n_estimators": 1, "random_state": seed}
        detector = kind(epochs=n, **options).fit(X_train)
        spread = codes_of(detector, X_test).std(axis=0).mean()
        rows.append((name, n, spread, metrics.auroc(y_test, detector.anomaly_score(X_test))))
collapse = pd.DataFrame(rows, columns=["network", "epochs", "spread of the codes", "AUROC"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), layout="constrained")
for (name, part), marker, line in zip(collapse.groupby("network", sort=False), plots.MARKERS, plots.LINES):
    axes[0].plot(part["epochs"], part["spread of the codes"], marker=marker, ls=line, ms=4.5, label=name)
    axes[1].plot(part["epochs"], part["AUROC"], marker=marker, ls=line, ms=4.5)
axes[0].set(xlabel="epochs", ylabel="spread of the codes", yscale="log")
axes[1].set(xlabel="epochs", ylabel="AUROC", ylim=(0.35, 1.0))
axes[1].axhline(0.5, color="0.6", lw=1)
fig.legend(loc="outside upper center", ncols=3)
nb.figure(fig, "svdd_collapse", data=collapse)

# %% [markdown]
# All three networks lower their loss, and for a while all three detect. Then the unguarded ones find the door: their
# codes shrink to a point, anomalies and all, and the ranking goes with them. Note what a *low loss* is worth here.

# %%
last = collapse[collapse["epochs"] == checkpoints[-1]].set_index("network")
nb.value("collapse_auroc_guarded", last.loc["guarded", "AUROC"])
nb.value("collapse_auroc_center_at_zero", last.loc["centre at 0", "AUROC"])
for unguarded in ("with biases", "centre at 0"):
    assert last.loc["guarded", "spread of the codes"] > 10 * last.loc[unguarded, "spread of the codes"]
    assert last.loc["guarded", "AUROC"] > last.loc[unguarded, "AUROC"] + 0.05
last.round(5)

# %% [markdown]
# ## 3. Deep SAD: what a few labelled anomalies buy
#
# Often somebody has met an anomaly before, and kept it. Deep SAD (Ruff et al. 2020) adds those few samples
# $\tilde x_j$ to the loss, with the *inverse* of their distance:
#
# $$\frac1n\sum_i d(x_i) \;+\; \eta\,\frac1m \sum_j \frac1{d(\tilde x_j)} .$$
#
# The inverse is large when a labelled anomaly is near $c$ and fades once it is far away, so one of them cannot
# dominate. What is *not* done is as important: the anomalies are not described as a class. The normal samples alone
# have a centre, and anything else, also of a kind that nobody has met, should be far from it.
#
# This can be tested. Normal is one digit. The labelled anomalies all show *one* other digit, the known kind. Test
# them on this kind (other pictures of it) and, separately, on the eight kinds that never got a label. Beside Deep SAD
# runs a logistic regression on the same labels, the plain supervised answer.


# %%
def known_and_new(split_seed):
    """Standardised pictures of one split, their labels and kinds, and the order in which anomalies get labels."""
    data = nb.load(f"digits/{digit}", seed=split_seed).as_table()
    scale = StandardScaler().fit(data.X_train)
    kinds = np.array(data.source["kinds_test"])
    order = np.random.default_rng(split_seed).permutation(np.flatnonzero(kinds == str(known_kind)))
    return scale.transform(data.X_train), scale.transform(data.X_test), data.y_test, kinds, order[: max(label_counts)]


def areas_of(scores, y, kinds, labelled):
    """AUROC of the known kind, without the samples that may get a label, and of the new kinds."""
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
        sad = DeepSAD(random_state=seed + i).fit(X, marks)
        found = {"Deep SAD": sad.anomaly_score(test)}
        if m:
            model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(X, marks)
            found["logistic regression"] = model.decision_function(test)
        for name, scores in found.items():
            areas = areas_of(scores, y, kinds, labelled)
            rows += [(name, kind, m, i, area) for kind, area in areas.items()]
label_runs = pd.DataFrame(rows, columns=["detector", "anomalies", "labels", "split", "AUROC"])
labels = label_runs.groupby(["anomalies", "detector", "labels"])["AUROC"].agg(["mean", "std"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", sharey=True)
for axis, kind in zip(axes, ("known kind", "new kinds")):
    for name, marker, line in zip(("Deep SAD", "logistic regression"), plots.MARKERS, plots.LINES):
        part = labels.loc[kind, name]
        axis.errorbar(part.index, part["mean"], part["std"], marker=marker, ls=line, capsize=3, label=name)
    axis.set(title=f"anomalies of {'the ' if kind == 'known kind' else ''}{kind}", xlabel="labelled anomalies")
    axis.set_xticks(label_counts)
axes[0].set_ylabel("AUROC")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
nb.figure(fig, "sad_labels", n=n_seeds, data=labels.reset_index())

# %% [markdown]
# On the left, labels pay, and the first handful pays most; there the supervised model is the better one. On the right
# it is not: it knows the one direction that leads from normal to the known kind, and anomalies elsewhere are none of
# its business. Deep SAD keeps what the normal samples taught it. Labels help against anomalies *like them*; they are
# a supplement to a one-class detector, never its replacement.

# %%
most = max(label_counts)
mean = labels["mean"]
assert mean["known kind", "Deep SAD", most] > mean["known kind", "Deep SAD", 0] + 0.02
assert mean["new kinds", "Deep SAD", most] > mean["new kinds", "logistic regression", most] + 0.01
assert mean["new kinds", "Deep SAD", most] > mean["new kinds", "Deep SAD", 0] - 0.03
nb.value("sad_gain_known_kind", mean["known kind", "Deep SAD", most] - mean["known kind", "Deep SAD", 0])
nb.value("sad_gain_new_kinds", mean["new kinds", "Deep SAD", most] - mean["new kinds", "Deep SAD", 0])
nb.table(labels.reset_index().round(3), "sad_labels", n=n_seeds)
labels["mean"].unstack("labels").round(3)

# %% [markdown]
# ## 4. ALOCC: let a denoiser make the second class
#
# Sabokrou et al. (2018) train two networks against each other. The **refiner** $R$ gets a noisy sample $\tilde x = x +
# \varepsilon$ and should give back the clean one. The **discriminator** $D$ tells the refiner's output from real
# samples:
#
# $$\max_D\; \mathbb E \log D(x) + \mathbb E \log\bigl(1 - D(R(\tilde x))\bigr), \qquad
#   \min_R\; \mathbb E \log\bigl(1 - D(R(\tilde x))\bigr) + \lambda\,\lVert x - R(\tilde x)\rVert^2 .$$
#
# Only normal samples are used; the second class is whatever $R$ gets wrong. Two scores come out of it: $1 - D(x)$ and
# $1 - D(R(x))$. The paper prefers the second, because $R$ repairs normal samples and distorts anomalies, so that $D$
# can tell them apart more easily.
#
# First the pictures. Here the refiner is the paper's, a denoising autoencoder that must squeeze its input through a
# bottleneck. We let it train until it is good, and watch both scores on the way.


# %%
class Watched(ALOCC):
    """Notes both scores of the test set after every fifth epoch."""

    def run(self, step, data, generator, *, after_epoch, **options):
        self.curve_ = []

        def watch(history):
            if len(history) % 5 == 1:
                with torch.no_grad():
                    scores = [-self.discriminate(batch) for batch in (pictures_batch, self.refine(pictures_batch))]
                areas = [metrics.auroc(pictures.y_test, score) for score in scores]
                self.curve_.append((len(history), history[-1]["refinement"], *areas))
            return after_epoch(history)

        return super().run(step, data, generator, after_epoch=watch, **options)


class Bottleneck(Watched):
    """R as in the paper: all of its output comes through the code."""

    def refine(self, batch):
        return self.network_["refiner"](batch)


# %%
pictures = nb.load(f"digits/{digit}", seed=seed)
pictures_batch = torch.tensor(pictures.X_test).permute(0, 3, 1, 2) / 255
options = {"epochs": alocc_epochs, "stop_at": 0, "refiner_learning_rate": 1e-3, "batch_size": 32, "n_estimators": 1}
refiners = {
    "through a bottleneck": Bottleneck(random_state=seed, **options).fit(pictures.X_train),
    "as a correction": Watched(random_state=seed, **options).fit(pictures.X_train),
}

# %% [markdown]
# Three normal pictures and three anomalies, and what the bottleneck refiner makes of each, with the number that $D$
# gives to either.

# %%
kinds = np.array(pictures.source["kinds_test"])
others = [str((digit + step) % 10) for step in (3, 6, 8)]
normals = np.flatnonzero(pictures.y_test == 0)[[5, 25, 45]]
shown = np.concatenate([normals, [np.flatnonzero(kinds == kind)[5] for kind in others]])
with torch.no_grad():
    batch = pictures_batch[shown]
    refined = refiners["through a bottleneck"].refine(batch)
    before, after = (refiners["through a bottleneck"].discriminate(b).sigmoid().numpy() for b in (batch, refined))
fig, axes = plt.subplots(2, 6, figsize=(7, 2.9), layout="constrained")
for i, axis in enumerate(axes.T):
    for one, picture, value, name in zip(axis, (batch, refined), (before, after), ("D(x)", "D(R(x))")):
        one.imshow(picture[i, 0], cmap="gray_r", vmin=0, vmax=1)
        one.set(xticks=[], yticks=[])
        one.set_xlabel(f"{name} = {value[i]:.2f}")
        one.grid(False)
    axis[0].set_title(["normal", "anomaly"][pictures.y_test[shown[i]]])
axes[0, 0].set_ylabel("x")
axes[1, 0].set_ylabel("R(x)")
nb.figure(
    fig, "alocc_refined", data=pd.DataFrame({"anomaly": pictures.y_test[shown], "D(x)": before, "D(R(x))": after})
)

# %% [markdown]
# The refiner does what it should. Normal digits come back as they were, a little smoother. Anomalies come back as
# something between themselves and the normal digit: the error of reconstruction is larger.

# %%
with torch.no_grad():
    all_refined = refiners["through a bottleneck"].refine(pictures_batch)
error = (all_refined - pictures_batch).square().mean((1, 2, 3)).numpy()
ratio = error[pictures.y_test == 1].mean() / error[pictures.y_test == 0].mean()
assert ratio > 1.3, "anomalies are refined worse"
print(f"reconstruction error of anomalies / of normal pictures: {ratio:.2f}")

# %% [markdown]
# ### Upside down
#
# And the scores? Here is their AUROC after every fifth epoch, for two refiners. One is the bottleneck. The other adds
# its output to its input, $R(x) = x + f(x)$, and so starts as the identity.

# %%
curves = pd.concat(
    {
        name: pd.DataFrame(d.curve_, columns=["epoch", "refinement", "D(x)", "D(R(x))"])
        for name, d in refiners.items()
    },
    names=["refiner"],
).reset_index("refiner")
fig, axes = plt.subplots(1, 2, figsize=(7, 3.1), layout="constrained", sharey=True)
for axis, (name, part) in zip(axes, curves.groupby("refiner", sort=False)):
    for key, line in (("D(x)", "-"), ("D(R(x))", "--")):
        axis.plot(part["epoch"], part[key], ls=line, label=f"AUROC of {key}")
    axis.plot(part["epoch"], part["refinement"], ls=":", color="0.4", label="error of R, share of the noise")
    axis.axhline(0.5, color="0.8", lw=1)
    axis.set(title=f"R {name}", xlabel="epoch", ylim=(0, 1.1))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
nb.figure(fig, "alocc_inversion", data=curves)

# %% [markdown]
# On the left, $D(x)$ first learns and then turns over: in the end nearly every anomaly looks *more* normal than the
# normal digits. This is no accident of a seed. A good denoiser's output is smoother than real data, so what $D$ comes
# to know as false is smooth, and what it comes to know as real is rough. Anomalies are rough. The authors stop the
# training when the reconstruction of normal samples is good enough; the curve shows why *longer* is worse.
#
# On the right, the refiner's first outputs are the noisy samples themselves, which lie *around* the data. $D$ meets
# what is off the data before it meets what is too smooth. This is how `ALOCC` in this package does it, and it also
# stops, when the error falls below the share `stop_at` of the noise. (Chosen on tables: on `thyroid` D turned over
# once the error had fallen below about 0.6; 0.9 keeps a distance.)

# %%
bottleneck, correction = (part for _, part in curves.groupby("refiner", sort=False))
peak, end = bottleneck["D(x)"].max(), bottleneck["D(x)"].iloc[-1]
nb.value("alocc_bottleneck_peak_auroc", peak)
nb.value("alocc_bottleneck_last_auroc", end)
nb.value("alocc_correction_last_auroc", correction["D(x)"].iloc[-1])
assert end < peak - 0.3 and end < 0.5, "the paper's refiner turns the score over"
assert correction["D(x)"].iloc[-1] > 0.85 and correction["D(R(x))"].iloc[-1] > 0.85
print(f"bottleneck: D(x) from {peak:.2f} to {end:.2f}; correction: {correction['D(x)'].iloc[-1]:.2f}")

# %% [markdown]
# ### D(x) or D(R(x))?
#
# With the correction the two scores are near each other. Each dot below is a test picture.

# %%
with torch.no_grad():
    judge = refiners["as a correction"]
    pairs = torch.stack([-judge.discriminate(pictures_batch), -judge.discriminate(judge.refine(pictures_batch))], 1)
rows = np.concatenate([np.flatnonzero(pictures.y_test == 0), np.flatnonzero(pictures.y_test == 1)[::8]])
fig = plots.embedding_scatter(pairs[rows], pictures.y_test[rows], names=("−logit of D(x)", "−logit of D(R(x))"))
fig.axes[0].axline((0, 0), slope=1, color="0.6", lw=1, zorder=0)
nb.figure(
    fig,
    "alocc_two_scores",
    single_run=True,
    data=pd.DataFrame(pairs[rows].numpy(), columns=["D(x)", "D(R(x))"]).assign(anomaly=pictures.y_test[rows]),
)

# %% [markdown]
# What the refiner changes, it changes for both kinds alike. The paper's gain from $D(R(x))$ needs an $R$ that distorts
# anomalies, and such an $R$ is the one that turns $D$ over: here the two go together.

# %%
correlation = np.corrcoef(pairs.numpy().T)[0, 1]
assert correlation > 0.7
print(f"correlation of the two scores: {correlation:.2f}")

# %% [markdown]
# ## 5. Fence GAN: build the second class around the data
#
# A plain GAN wants its samples *on* the data. When it succeeds, the discriminator sees the same points with both
# labels and learns nothing there; what it answers elsewhere is left to chance. Ngo et al. (2019) want the samples *around* the data, and
# change the generator's loss:
#
# $$\mathcal L_G = \frac1N\sum_i \log\bigl|\alpha - D(G(z_i))\bigr| \;+\;
#   \beta \Bigl/ \frac1N\sum_i \lVert G(z_i) - \mu\rVert .$$
#
# The first term (encirclement) is smallest where $D = \alpha$: not on the data, where $D$ is near 1, and not far away,
# where it is near 0. The second (dispersion) spreads the samples around their mean $\mu$, so that they do not all
# stand at one gate. $D$'s own loss weighs generated samples by $\gamma < 1$.
#
# Three generators on the two moons: a plain GAN, a fence, and a fence whose first samples lie *inside* of the data.


# %%
class PlainGAN(FenceGAN):
    """The same networks with the loss of a GAN (non-saturating)."""

    def generator_loss(self, generated, unit=1.0):
        return F.softplus(-self.discriminate(generated)).mean()


options = {"hidden": (128, 64), "gradient_penalty": 0.03, "generator_learning_rate": 3e-4, "batch_size": 64}
options |= {"epochs": fence_epochs, "n_estimators": 1}
fences = {
    "plain GAN": PlainGAN(gamma=1.0, start_width=2.0, **options),
    "fence": FenceGAN(start_width=2.0, **options),
    "fence from inside": FenceGAN(start_width=0.2, **options),
}
repetitions = {"plain GAN": 3 * n_seeds, "fence": n_seeds, "fence from inside": n_seeds}  # the first varies most
runs = {
    name: [clone(detector).set_params(random_state=seed + i).fit(moons_train) for i in range(repetitions[name])]
    for name, detector in fences.items()
}
fence_aurocs = {
    name: np.array([metrics.auroc(moons_y, d.anomaly_score(moons_test)) for d in fitted])
    for name, fitted in runs.items()
}

# %%
side = np.linspace(-4, 4, 120)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
fig, axes = plt.subplots(1, 3, figsize=(7, 2.9), layout="constrained", sharex=True, sharey=True)
generated = {}
for axis, (name, (detector, *_)) in zip(axes, runs.items()):
    D = 1 / (1 + np.exp(detector.anomaly_score(grid).reshape(120, 120)))
    shade = axis.contourf(side, side, D, levels=np.linspace(0, 1, 11), cmap="Greys_r")
    generated[name] = detector.generate(300, torch.Generator().manual_seed(seed)).detach().numpy()
    axis.plot(*moons_train[::2].T, ".", ms=2.5, color=plots.NORMAL, label="data")
    axis.plot(*generated[name].T, "x", ms=3.5, mew=0.9, color="#CC79A7", label="generated")
    axis.set(title=f"{name}\nAUROC {fence_aurocs[name][0]:.2f}", xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    axis.grid(False)
fig.colorbar(shade, ax=axes, label="D(x)", shrink=0.8, ticks=[0, 0.5, 1])
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, markerscale=2)
nb.figure(
    fig,
    "fence_boundary",
    data=pd.concat(
        {name: pd.DataFrame(points, columns=["x1", "x2"]) for name, points in generated.items()}, names=["generator"]
    ).reset_index("generator"),
    single_run=True,
)

# %% [markdown]
# Left: the plain GAN's samples are on the data or between them, and what $D$ says of the rest of the plane was never
# asked of it. The picture shows one run. Other seeds give other answers, from no better than a coin to nearly as good
# as the fence, and no normal sample tells which of them you have; the table shows the spread over seeds.
# Middle: the fence surrounds both moons and $D$ has learned their outline. Right: the same losses, started from a
# clump in the middle. $D$ learns that the *middle* is false; everything beyond the data looks real to it, and the
# score is upside down. The encirclement loss cannot repair that, since on the way out the data are in the way.

# %%
for name, key in (("plain GAN", "plain"), ("fence", "fence"), ("fence from inside", "inside")):
    areas = fence_aurocs[name]
    nb.value(f"moons_auroc_{key}", areas.mean(), sd=areas.std(ddof=1), n=len(areas))
fence_table = pd.DataFrame({
    "generator": list(fence_aurocs), "seeds": list(repetitions.values()),
    "AUROC": [areas.mean() for areas in fence_aurocs.values()],
    "sd": [areas.std(ddof=1) for areas in fence_aurocs.values()],
}).set_index("generator")  # fmt: skip
assert fence_aurocs["fence from inside"].max() < 0.6
if fence_epochs >= 100:
    assert fence_aurocs["fence"].min() > 0.9
    assert fence_aurocs["fence"].mean() > fence_aurocs["plain GAN"].mean(), "the fence is better on average"
    if n_seeds >= 2:
        assert fence_aurocs["plain GAN"].std(ddof=1) > 2 * fence_aurocs["fence"].std(ddof=1), "its spread is smaller"
fence_table.round(3)

# %% [markdown]
# How high is the fence, and how far away? A smaller $\alpha$ asks for samples that $D$ is more certain about, so the
# fence moves out. A larger weight of the dispersion moves it out too. Here on one round cloud of points:

# %%
settings = {f"α = {alpha}": {"alpha": alpha} for alpha in (0.3, 0.5, 0.7)} | {"α = 0.5, β = 5": {"beta": 5.0}}
rows = []
for name, setting in settings.items():
    options = {"start_width": 2.0, "generator_learning_rate": 1e-3, "epochs": 50, "n_estimators": 1}
    for i in range(seed, seed + n_seeds):
        detector = FenceGAN(random_state=i, gradient_penalty=0.3, **options, **setting)
        points = np.random.default_rng(i).normal(size=(400, 2))
        end = detector.fit(points).history_[-1]
        rows.append(
            {"setting": name, "D on the fence": end["discrimination"], "distance from the centre": end["spread"]}
        )
heights = pd.DataFrame(rows).groupby("setting", sort=False).agg(["mean", "std"])
heights.columns = [name if kind == "mean" else f"{name} sd" for name, kind in heights.columns]
nb.table(heights.reset_index().round(3), "fence_height", n=n_seeds)
width = heights["distance from the centre"]
assert width["α = 0.3"] > width["α = 0.5"] > width["α = 0.7"], "the lower the fence, the wider"
assert width["α = 0.5, β = 5"] > width["α = 0.5"], "the more dispersion, the wider"
heights.round(2)

# %% [markdown]
# ## 6. The table: compared with what?
#
# `benchmark.measure` fits a detector on a fresh split and scores the test set. Beside it stand a random score,
# ‖x‖² of the same inputs and the same network without training. PCA and neighbours run as detectors of their own.
# The tables here have few training rows (87 to 178 by default), so the networks get smaller batches and more epochs
# than is their default; all three get the same.
#
# By default `DeepSVDD` averages the scores of five networks, `ALOCC` and `FenceGAN` those of three; the papers train
# one. An average of several networks is usually better than one of them, whatever the method, so on the tables with
# broken relations each detector is measured a second time with **one network**. The column `networks` says how many
# there are. Compare methods at equal numbers.

# %%
learned = ["DeepSVDD", "ALOCC", "FenceGAN"]
few_rows = {"epochs": table_epochs, "batch_size": 32}
arms: dict[str, dict] = {"PCAResidual": {}, "GaussianAnomalyScorer": {}, "KNNDistance": {}}
arms |= dict.fromkeys(learned, few_rows)
arms |= {f"{key}, one network": few_rows | {"n_estimators": 1} for key in learned}


def compare(name):
    """All detectors on one data set, one row a detector and seed."""
    nb.load(name, seed=seed)
    rows = [
        benchmark.measure(key.partition(",")[0], name, seed + i, parameters) | {"detector": key}
        for key, parameters in arms.items()
        if name in hard_datasets or "n_estimators" not in parameters
        for i in range(n_seeds)
    ]
    return pd.DataFrame(rows)


measured = pd.concat([compare(name) for name in [*hard_datasets, easy_dataset]], ignore_index=True)


# %%
def summary(runs):
    """Mean and sd of the AUROC of every detector and of the controls, and the seconds of a fit."""
    table = runs.groupby("detector", sort=False).agg(
        AUROC=("auroc", "mean"),
        sd=("auroc", "std"),
        untrained=("untrained_auroc", "mean"),
        networks=("n_networks", "first"),
        seconds=("fit_seconds", "mean"),
    )
    once = runs[runs["detector"] == runs["detector"].iloc[0]]
    for name, key in (("‖x‖²", "norm_auroc"), ("random score", "random_auroc")):
        controls = pd.DataFrame(
            {"AUROC": once[key].mean(), "sd": once[key].std(), "networks": 0, "seconds": 0.0}, [name]
        )
        table = pd.concat([controls, table])
    return table.rename(columns={"seconds": "fit (s)"}).rename_axis("detector")


# %%
results = pd.concat(
    {name: summary(part) for name, part in measured.groupby("dataset", sort=False)}, names=["data set"]
)
nb.table(
    results.reset_index()
    .round(3)
    .assign(untrained=[round(v, 3) if v == v else "none" for v in results["untrained"]]),
    "one_class_comparison",
    n=n_seeds,
)
results.loc[hard_datasets].round(3)

# %%
picture = results.loc[hard_datasets].rename(columns={"AUROC": "mean"}).reset_index("data set")
picture["panel"] = picture["data set"].str.replace("injected/dependency/", "dependency\n")
fig = plots.comparison(picture, "AUROC", group="panel", reference="‖x‖²")
nb.figure(fig, "one_class_comparison", n=n_seeds, data=picture.reset_index().drop(columns="panel"))

# %% [markdown]
# On tables with broken relations all three networks are ahead of the ruler and of their own untrained networks: here
# something has been *learned*. PCA and the nearest neighbours need a hundredth of the time, and each of them is ahead
# of some network. Deep SVDD owes much of its lead over the neighbours to the average of five: with one network its
# mean over the two tables is level with theirs. ALOCC and Fence GAN lose less.
#
# ALOCC is best here. Its noise breaks the relations between the columns and leaves each column plausible, and so does
# the recipe by which these anomalies were made: it was trained on nearly the task on which it is tested. Half of Fence
# GAN's first samples are of that kind too. On real tables (`hard_datasets=["tables/vowels", "tables/optdigits",
# "tables/satellite"]`) that advantage is gone.

# %%
means = results["AUROC"].unstack("detector").loc[hard_datasets].mean()
for name in hard_datasets:
    area = results.loc[name]
    if name.startswith(("injected/dependency/", "tables/")) and n_seeds >= 2:
        for key in learned:
            assert area.loc[key, "AUROC"] > 0.6, "never inverted"
        assert area.loc["DeepSVDD", "AUROC"] > area.loc["‖x‖²", "AUROC"] + 0.1
        assert area.loc["DeepSVDD", "AUROC"] > area.loc["DeepSVDD", "untrained"] + 0.1
untrained = results["untrained"].unstack("detector").loc[hard_datasets].mean()
for key in learned:
    nb.value(f"{key.lower()}_hard_auroc", means[key], n=n_seeds)
    nb.value(f"{key.lower()}_hard_untrained_auroc", untrained[key], n=n_seeds)
    nb.value(f"{key.lower()}_hard_auroc_one_network", means[f"{key}, one network"], n=n_seeds)
if hard_datasets == ["injected/dependency/breast_cancer", "injected/dependency/digits/8"]:
    assert means["DeepSVDD"] > means["DeepSVDD, one network"] + 0.03, "the average of five is better than one"
    assert means["DeepSVDD, one network"] < means["KNNDistance"] + 0.08, "one network is near the neighbours"
nb.value("knn_hard_auroc", means["KNNDistance"], n=n_seeds)
nb.value("norm_hard_auroc", means["‖x‖²"], n=n_seeds)

# %% [markdown]
# ### Which part of each method contributes?
#
# An ablation trains the same networks once more without one part, with the same seeds, splits and epochs, and one
# network on both sides:
#
# - Deep SVDD without training: $\phi$ keeps its first weights;
# - Deep SAD without labels, on the known kind of section 3 (digits instead of these tables, five networks);
# - ALOCC with a refiner that keeps its first weights, so that $D$ sees noisy samples;
# - Fence GAN with a generator that keeps its first weights, so that $D$ sees the wide start only.


# %%
def paired(key, part, changed=None):
    """Gain of a part on the hard tables: one row for each table and split."""
    full = measured[measured["detector"] == f"{key}, one network"].set_index(["dataset", "seed"])
    rows = []
    for name, i in full.loc[hard_datasets].index:
        options = few_rows | {"n_estimators": 1} | (changed or {})
        area = full.loc[(name, i), "untrained_auroc"]
        if changed:
            area = benchmark.measure(key, name, i, options)["auroc"]
        rows.append({"part": part, "split": i, "with it": full.loc[(name, i), "auroc"], "without it": area})
    return pd.DataFrame(rows)


# %%
known = label_runs[(label_runs["anomalies"] == "known kind") & (label_runs["detector"] == "Deep SAD")]
known = known.set_index(["labels", "split"])
labelled = {"with it": known["AUROC"][max(label_counts)], "without it": known["AUROC"][0]}
parts = [
    paired("DeepSVDD", "Deep SVDD: training"),
    pd.DataFrame(labelled).reset_index().assign(part="Deep SAD: labels of the known kind"),
    paired("ALOCC", "ALOCC: training of the refiner", {"refiner_learning_rate": 0.0}),
    paired("FenceGAN", "Fence GAN: training of the generator", {"generator_learning_rate": 0.0}),
]

# %%
of_splits = pd.concat(parts).groupby(["part", "split"], sort=False)[["with it", "without it"]].mean()
of_splits["gain"] = of_splits["with it"] - of_splits["without it"]
ablations = of_splits.groupby("part", sort=False).agg(["mean", "std"])
ablations.columns = [name if kind == "mean" else f"{name} sd" for name, kind in ablations.columns]
nb.table(ablations.reset_index().round(3), "one_class_ablations", n=n_seeds)
ablations.round(3)

# %%
recorded = {"alocc_gain_by_refiner": "ALOCC: training of the refiner"}
recorded["fencegan_gain_by_generator"] = "Fence GAN: training of the generator"
for key, part in recorded.items():
    nb.value(key, ablations.loc[part, "gain"], sd=ablations.loc[part, "gain sd"], n=n_seeds)
if all(name.startswith("injected/dependency/") for name in hard_datasets):
    assert ablations.loc["Deep SVDD: training", "gain"] > 0.1
    assert abs(ablations.loc["ALOCC: training of the refiner", "gain"]) < 0.1
    assert abs(ablations.loc["Fence GAN: training of the generator", "gain"]) < 0.05

# %% [markdown]
# The training of Deep SVDD and the labels of Deep SAD contribute. ALOCC's refiner contributes a few hundredths at most,
# Fence GAN's generator nothing: each discriminator learns most of what it knows from the samples that its partner makes
# before it has learned anything, which are noisy copies of the data in one case and a wide cloud around them in the
# other. In two dimensions Fence GAN's generator finds the outline of the data (section 5); in thirty it hardly moves
# before the discriminator has learned. What is left of the method here is to tell the data from a wide cloud around
# them.

# %% [markdown]
# ### Where nothing can be shown
#
# The same table on breast cancer. Published one-class networks are often tested on this kind of data, where anomalies
# are simply *large*.

# %%
easy = results.loc[easy_dataset]
if easy_dataset in ("breast_cancer", "thyroid"):
    assert easy.loc["‖x‖²", "AUROC"] > easy.loc[learned, "AUROC"].max() - 0.03, "the ruler is as good as any network"
    nb.value("easy_norm_auroc", easy.loc["‖x‖²", "AUROC"], sd=easy.loc["‖x‖²", "sd"], n=n_seeds)
    nb.value("easy_best_network_auroc", easy.loc[learned, "AUROC"].max(), n=n_seeds)
easy.round(3)

# %% [markdown]
# No network beats the squared length by more than its own scatter. A high number on this table shows that the code
# runs; it cannot show that the network has learned anything. The same holds for `thyroid`. Whoever reports only such
# data has not tested the idea.
#
# ## 7. Good and bad points
#
# | | | seen in |
# |---|---|---|
# | + | The loss is the task: no detour over reconstruction, and the score comes with it | section 1, the sphere |
# | + | Labels of anomalies fit in without a new method, and do not blind it to new kinds | section 3 |
# | + | Fast to score: one pass, nothing to keep but the weights | section 6, against the neighbours' stored samples |
# | − | A trivial solution is always near; a low loss proves nothing | section 2, collapse |
# | − | The invented second class decides; where it is wrong, the score is worthless or upside down | section 4, 5 |
# | − | Adversarial training has no natural end: when to stop is a choice that no normal sample can check | section 4 |
# | − | Small tables do not need it | section 6, PCA and neighbours |
#
# The lecture adds one more: generated samples cannot imitate *every* anomaly. They need not; they must only surround
# the data. In two dimensions that takes a few hundred samples (section 5). In sixty it takes more than anybody can
# draw, and Fence GAN lives on how well $D$ continues what it sees between them.

# %% [markdown]
# ## In this notebook
#
# - Deep SVDD learns the space in which the normal samples fill a small sphere. The best radius is a quantile, and
#   $\nu$ says how many samples may stay outside.
# - The loss has a trivial solution. No biases, unbounded activations, a centre away from 0 and normalised layers keep
#   it out of reach.
# - A few labelled anomalies help against their like; a one-class loss keeps the detector alert for all others.
# - ALOCC's discriminator learns from the refiner's *mistakes*. Without mistakes it learns the reverse.
# - Fence GAN's samples must start outside; then their discriminator knows the outline of the data.
# - On data that a ruler solves, none of this can be seen.
#
# ## Exercises
#
# **1. Predict: a bounded activation.** The third door to collapse is an activation that saturates. Take
# `PlainSVDD`, let its output pass through a tanh, and put the centre at (1, 1, …). Can a network without any bias
# reach it? Predict, then compare the mean distance of normal test samples before and after training.


# %% tags=["solution"]
class Saturated(PlainSVDD):
    """The output passes through a tanh, and the centre is where it saturates."""

    def build(self, shape):
        network = super().build(shape)
        network.append(nn.Tanh())
        return network

    def place_center(self, data):
        return torch.ones(self.latent_dim)


saturated = Saturated(epochs=collapse_epochs, batch_size=32, n_estimators=1, random_state=seed).fit(X_train)
inputs = X_test[y_test == 0]
saturated_distance = saturated.anomaly_score(inputs).mean() / saturated.latent_dim
open_distance = clone(saturated).set_params(epochs=0).fit(X_train).anomaly_score(inputs).mean() / saturated.latent_dim
assert saturated_distance < open_distance
print(f"mean squared distance a coordinate: {open_distance:.2f} untrained, {saturated_distance:.2f} trained")

# %% [markdown] tags=["solution"]
# It can, almost exactly: tanh of anything large is 1, and LeakyReLU features are positive on both sides of 0, so that
# large weights bring every normal sample to the centre. A bounded output turns "far along a direction" into "at the
# centre".

# %% [markdown]
# **2. Change: pretraining.** `pretraining_epochs` trains the network first as the encoder of an autoencoder, as the
# paper does. Does it help on our table? Compare 0 and 50 epochs over `n_seeds` seeds.

# %% tags=["solution"]
rows = []
for pretraining in (0, 50):
    for i in range(n_seeds):
        detector = DeepSVDD(
            pretraining_epochs=pretraining, epochs=epochs, batch_size=32, n_estimators=1, random_state=seed + i
        )
        rows.append((pretraining, metrics.auroc(y_test, detector.fit(X_train).anomaly_score(X_test))))
pretrained = pd.DataFrame(rows, columns=["pretraining epochs", "AUROC"]).groupby("pretraining epochs")["AUROC"]
assert (pretrained.mean() > 0.75).all()
pretrained.agg(["mean", "std"]).round(3)

# %% [markdown] tags=["solution"]
# It does not help here, it rather costs a little: with normalised layers the initial network is a good enough start.
# The paper needed pretraining on larger images.

# %% [markdown]
# **3. Build: contaminated training data.** In practice the "normal" rows hold a few anomalies that nobody noticed. Mix
# half of the test anomalies into the training set of section 1, unlabelled, and test on the others. Then label them
# for Deep SAD. What does a label change?

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
{name: round(area, 3) for name, area in found.items()}

# %% [markdown] tags=["solution"]
# Unlabelled, the anomalies pull their own kind into the sphere. Labelled, they do not, and may even help. Removing
# them would already give most of the difference ("clean").

# %% [markdown]
# **4. Predict: the width of the first fence.** Fit `FenceGAN` with `start_width` 1, 3 and 10 on the table of section
# 1. Its anomalies are no larger than normal rows. Which width finds them best?

# %% tags=["solution"]
widths, options = {}, {"epochs": epochs, "batch_size": 32, "n_estimators": 1, "random_state": seed}
for start_width in (1.0, 3.0, 10.0):
    detector = FenceGAN(start_width=start_width, **options).fit(X_train)
    widths[start_width] = metrics.auroc(y_test, detector.anomaly_score(X_test))
assert widths[1.0] > max(widths[3.0], widths[10.0]) + 0.02
{width: round(area, 3) for width, area in widths.items()}

# %% [markdown] tags=["solution"]
# The narrow one. Samples of three or ten times the width of the data are told apart by their size alone, and what $D$
# learns from them is close to a ruler, which is blind to these anomalies. Samples as wide as the data can be told
# apart only by their broken relations. For anomalies that are large the order would be the reverse: the second class
# decides.

# %%
nb.finish()

# %% [markdown]
# ## References
#
# - L. Ruff, R. Vandermeulen, N. Görnitz, L. Deecke, S. A. Siddiqui, A. Binder, E. Müller, M. Kloft (2018). Deep
#   one-class classification. *ICML*.
# - L. Ruff, R. A. Vandermeulen, N. Görnitz, A. Binder, E. Müller, K.-R. Müller, M. Kloft (2020). Deep semi-supervised
#   anomaly detection. *ICLR*.
# - M. Sabokrou, M. Khalooei, M. Fathy, E. Adeli (2018). Adversarially learned one-class classifier for novelty
#   detection. *CVPR*.
# - P. C. Ngo, A. A. Winarto, C. K. L. Kou, S. Park, F. Akram, H. K. Lee (2019). Fence GAN: towards better anomaly
#   detection. *ICTAI*.
# - D. M. J. Tax, R. P. W. Duin (2004). Support vector data description. *Machine Learning* 54.
# - L. Mescheder, A. Geiger, S. Nowozin (2018). Which training methods for GANs do actually converge? *ICML*.
