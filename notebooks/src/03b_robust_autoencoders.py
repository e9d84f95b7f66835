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
# # Robust autoencoders: anomalies in the training set
#
# Most detectors of this course are trained on normal samples only. In practice the training set is often **contaminated**.
# It contains a few anomalies, and nobody knows which samples these are. This notebook is about two methods that separate
# the anomalous part of the training data during training: robust PCA and the robust deep autoencoder. They are compared
# with simpler methods.
#
# **You will learn**
#
# - how robust PCA splits a table into a low-rank part and a sparse part, step by step;
# - how the robust deep autoencoder replaces the low-rank part by an autoencoder;
# - why an autoencoder that trains for too long ranks contaminated training samples badly;
# - how a stopping rule without labels, and a method without training, compare with the robust autoencoder;
# - how the choice of the penalty decides whether single values, columns or rows are separated.
#
# Reading takes about 30 minutes, running about 90 seconds. You need notebook 03, and the concepts of notebook 00. The
# data come with scikit-learn.
#
# Terms, explained in English and Chinese in the [glossary](glossary.md): [contamination](glossary.md#Contamination),
# [robust PCA](glossary.md#Robust-PCA), [robust autoencoder](glossary.md#Robust-autoencoder),
# [autoencoder](glossary.md#Autoencoder), [reconstruction error](glossary.md#Reconstruction-error), [principal component
# analysis](glossary.md#Principal-component-analysis).

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
digit: int = 9  # the handwritten digit that is normal; the nine others are anomalies
seed: int = 0  # of the split and of every random draw
shares: list[float] = [0.0, 0.05, 0.1, 0.2]  # shares of anomalies among the training samples, one of them above 0
robust_seeds: int = 3  # trainings for each of these shares, at least 1
epoch_counts: list[int] = [10, 20, 50, 100, 200]  # epochs of the plain and the robust autoencoder to compare

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

# %%
from mmad_utils import metrics, plots
from mmad_utils.course import notebook
from mmad_utils.detectors.autoencoders import AutoEncoder
from mmad_utils.detectors.baselines import PCAResidual
from mmad_utils.detectors.robust_autoencoders import RobustDeepAutoEncoder, RobustPCA

nb = notebook.start("03b_robust_autoencoders")

# %% [markdown]
# ## The data
#
# We use the handwritten digits of scikit-learn, grey images of 8×8 pixels. One digit is the normal class. Some methods
# need a table with one row per image and one column per pixel, with values from 0 (black) to 1 (white).


# %%
def flat(images):
    """(n, H, W, 1) uint8 -> (n, pixels) float64 in [0, 1]."""
    return images.reshape(len(images), -1) / 255.0


data = nb.load(f"digits/{digit}", seed=seed)
table = flat(data.X_train)
data

# %% [markdown]
# ## 1. Robust PCA
#
# Principal component analysis (PCA) minimises a squared error. A few values with large errors therefore have a large
# effect on its components. Candès et al. (2011) split the table $X$ into a matrix $L$ of low rank and a sparse matrix
# $S$, in which most entries are zero:
#
# $$\min_{L, S} \lVert L \rVert_* + \lambda \lVert S \rVert_1 \quad \text{subject to} \quad L + S = X .$$
#
# $\lVert L \rVert_*$ is the sum of the singular values. It is a convex substitute for the rank. In the same way
# $\lVert S \rVert_1$, the sum of the absolute values, is a convex substitute for the number of entries that are not
# zero. The weight $\lambda = 1 / \sqrt{\max(n, d)}$ is that of the paper.
#
# We take the training digits and set 5% of all pixels to white. Can the method separate these spikes from the digits?

# %%
spikes = np.random.default_rng(seed).random(table.shape) < 0.05
spiked = np.where(spikes, 1.0, table)

# %% [markdown]
# ### The algorithm
#
# The problem is solved by ADMM, the alternating direction method of multipliers. Each iteration has three steps:
#
# 1. $L$ is computed from $X - S$. Its singular values are reduced by $1/\mu$, and those below zero are set to zero.
# 2. $S$ is computed from $X - L$. Its absolute values are reduced by $\lambda/\mu$, and those below zero are set to zero.
# 3. The multipliers $Y$ are increased by $\mu$ times the difference $X - L - S$ that is left.
#
# The number $\mu$ is the step size. Both computations add $Y / \mu$, which corrects the differences of earlier
# iterations.

# %% tags=["step"]
weight, mu = 1 / np.sqrt(max(spiked.shape)), spiked.size / (4 * np.abs(spiked).sum())  # λ and μ
L, S, Y = np.zeros((3, *spiked.shape))
iterations = 0
while np.linalg.norm(spiked - L - S) > 5e-6 * np.linalg.norm(spiked):
    left, values, right = np.linalg.svd(spiked - S + Y / mu, full_matrices=False)
    L = (left * np.maximum(values - 1 / mu, 0)) @ right
    rest = spiked - L + Y / mu
    S = np.sign(rest) * np.maximum(np.abs(rest) - weight / mu, 0)
    Y += mu * (spiked - L - S)
    iterations += 1

# %% tags=["step"]
print(f"{iterations} iterations, rank of L {np.linalg.matrix_rank(L)}, {np.mean(S != 0):.0%} of S is not zero")

# %% [markdown]
# The class `RobustPCA` does the same. We compare its low-rank part with the reconstruction by an ordinary PCA of the same
# rank. The table shows how far each is from the pixels without spikes. The spiked pixels themselves have the smallest mean
# distance, because 95% of them are exact. Of the two reconstructions, that of robust PCA is the closer one.

# %% tags=["step"]
robust = RobustPCA().fit(spiked)
rank = len(robust.components_)
pca = PCA(rank).fit(spiked)
linear = pca.inverse_transform(pca.transform(spiked))

# %% tags=["step"]
estimates = {"spiked": spiked, "PCA of the same rank": linear, "robust PCA": robust.low_rank_}
errors = pd.Series({name: np.abs(each - table).mean() for name, each in estimates.items()})
errors = errors.rename("mean distance to the clean pixels").rename_axis("estimate")
errors.round(4).to_frame()

# %% tags=["claim"]
# The same iterations, so L and S agree up to rounding. Robust PCA is better than PCA by a fifth at least.
assert iterations == robust.n_iter_
assert np.allclose(L, robust.low_rank_, atol=1e-6) and np.allclose(S, robust.sparse_, atol=1e-6)
assert errors["robust PCA"] < 0.8 * errors["PCA of the same rank"]

# %%
rows = {"clean": table, "spiked": spiked, "PCA": linear, "L": robust.low_rank_, "S": robust.sparse_}
fig = plots.image_rows({name: each[:9].reshape(-1, 8, 8).clip(0, None) for name, each in rows.items()})
nb.figure(fig, "robust_pca", data=errors.reset_index(), rank=rank)

# %% [markdown]
# PCA spreads each spike over the whole digit. In robust PCA most of the spikes are in $S$. How well does $S$ find them?
# We treat each pixel as a sample, the spikes as anomalies and the entry of $S$ as the score.

# %% tags=["step"]
spikes_area = metrics.auroc(spikes.ravel().astype(int), robust.sparse_.ravel())
print(f"AUROC of the entries of S for the spikes: {spikes_area:.3f}")

# %% [markdown]
# A new row is split by the same iteration, with one difference. In step 1 the row is projected onto the rows of
# $L$ instead. The anomaly score of the row is the sum of the absolute values of its sparse part.

# %% tags=["claim"]
assert spikes_area > 0.9

# %% [markdown]
# ## 2. Contaminated training data
#
# From now on, the anomalies are whole images. Some of the training samples are digits of the other classes. No method
# sees the labels. The following function mixes a given share of anomalies into the training set. It returns two sets
# on which a method can be measured:
#
# - the **training samples themselves**: which samples of the given data are anomalies?
# - **fresh samples**: normal digits and anomalies that were not in the training set.


# %%
def contaminated(share, seed):
    """Training samples of which a share are anomalies, their labels, and fresh samples with their labels."""
    count = round(share / (1 - share) * len(data.X_train))
    order = np.random.default_rng(seed).permutation(np.flatnonzero(data.y_test == 1))
    fresh = np.concatenate([np.flatnonzero(data.y_test == 0), order[count:]])
    X = np.concatenate([data.X_train, data.X_test[order[:count]]])
    y = np.repeat([0, 1], [len(data.X_train), count])
    return X, y, data.X_test[fresh], data.y_test[fresh]


# %%
X, y, _, _ = contaminated(0.1, seed)
print(f"{len(X)} training samples, {y.sum()} of them anomalies")

# %% [markdown]
# ## 3. The robust deep autoencoder
#
# Zhou and Paffenroth (2017) replaced the low-rank matrix by a part that an autoencoder can reconstruct, $X = L_D + S$:
#
# $$\min_{f, g, S} \lVert L_D - g(f(L_D)) \rVert^2 + \lambda R(S) \quad \text{subject to} \quad L_D + S = X .$$
#
# Training alternates between two parts. First, the autoencoder is trained on $L_D = X - S$ for some epochs. Then $S$ is
# computed from the residuals $e = X - g(f(L_D))$, which are reduced by a threshold $\tau$. The reduction is applied
# to each group $g$ of entries:
#
# $$S_g = e_g \max\!\big(1 - \tau / \lVert e_g \rVert_2,\ 0\big).$$
#
# For a group with a small residual, $S_g = 0$. In any other group, the difference between $L_D$ and the
# reconstruction has the norm $\tau$. This limits the influence of an anomaly. However large the residual of a group is,
# only a residual of norm $\tau$ remains in the next training.
#
# The penalty $R(S)$ determines the groups. It depends on the kind of anomaly that one expects:
#
# | $R(S)$ | one group is | suitable for |
# |---|---|---|
# | $\lVert S \rVert_1$ | one entry | spikes, dead pixels, typing errors |
# | $\lVert S \rVert_{2,1}$ | one column: a feature over all samples | a broken sensor, noise in one channel |
# | $\lVert S^\top \rVert_{2,1}$ | one row: a sample over all features | anomalous samples |
#
# ### The training steps
#
# We do two rounds by hand, with one step of training in each. The groups are the rows, because whole images are
# anomalous. With `epochs=0` the class gives us its network before training. The threshold is 0.1 standard deviations
# of all pixels, times the square root of the 64 pixels of a group.

# %% tags=["step"]
pixels = torch.from_numpy(X).permute(0, 3, 1, 2).float() / 255  # (100, 1, 8, 8)
untrained = RobustDeepAutoEncoder(epochs=0, random_state=seed).fit(X)
network = untrained.network_.train()

# %% [markdown]
# The generator shuffles the samples as the class does, so that the results can be compared. It starts from the seed that
# the class has derived from `random_state`.

# %% tags=["step"]
generator = torch.Generator().manual_seed(untrained.seed_)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
threshold = 0.1 * pixels.std() * 64**0.5

# %% [markdown]
# At the start $S$ is zero. In each round the network does a step on $L_D$. The residuals are those of all samples, and
# each is reduced by the threshold.

# %% tags=["step"]
sparse = torch.zeros_like(pixels)
for _ in range(2):
    remaining = pixels - sparse  # L_D
    batch = remaining[torch.randperm(len(pixels), generator=generator)]
    reconstruction = network["decoder"](network["encoder"](batch))
    loss = (reconstruction - batch).square().flatten(1).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    residual = (pixels - network["decoder"](network["encoder"](remaining))).detach()
    norms = residual.flatten(1).norm(dim=1)
    sparse = residual * (1 - threshold / norms).clamp(min=0)[:, None, None, None]

# %% tags=["claim"]
# Two rounds of one epoch with one batch in the class give the same S. The tolerance allows for another order of sums.
two_rounds = RobustDeepAutoEncoder(n_rounds=2, epochs=2, batch_size=len(X), random_state=seed).fit(X)
assert np.allclose(two_rounds.sparse_, sparse.permute(0, 2, 3, 1).numpy(), atol=1e-5)

# %% [markdown]
# `RobustDeepAutoEncoder` does the same in 10 rounds of 20 epochs. Its score is the reconstruction error, as for the
# plain autoencoder.
#
# ## 4. The number of epochs
#
# With what should the robust autoencoder be compared? It trains for 200 epochs. A plain autoencoder that trains for so
# long may memorise the anomalies, so that their error becomes small. We therefore measure both after different numbers of
# epochs. We add two methods that need no labels.
#
# - **kNN**: the distance to the fifth nearest of the *other* training samples. It needs no training.
# - **A stopping rule** for the plain autoencoder. Every fifth training sample is held out. A network that memorises has a
#   smaller error on the samples that it is trained on. Training stops when the held-out error is 1.2 times the training
#   error.
#
# The factor 1.2 was chosen on the digits 0, 3 and 8. A common rule is to stop when the held-out error no longer
# decreases. It does not help here, because this error still decreases after 200 epochs.

# %%
MAX_RATIO = 1.2  # of the held-out error to the training error


class StoppedAutoEncoder(AutoEncoder):
    """Trains on four of five samples until the error on the others is MAX_RATIO times as large."""

    def run(self, step, data, generator):
        held_out = torch.arange(len(data)) % 5 == 0

        def memorises(history):
            with torch.no_grad():
                errors = self.batch_score(data, generator)
            return errors[held_out].mean() > MAX_RATIO * errors[~held_out].mean()

        return super().run(step, data[~held_out], generator, after_epoch=memorises)


# %%
def neighbour_distance(rows, new=None):
    """Distance to the fifth nearest row; without `new`, of each row to the others."""
    return NearestNeighbors(n_neighbors=5).fit(rows).kneighbors(new)[0][:, -1]


# %% [markdown]
# Each measurement below is a training of its own on training data with 10% anomalies. The AUROC measures how well the
# training samples themselves are ranked. Labels are used for the AUROC only.

# %%
rows, stops = [], []
for i in range(robust_seeds):
    X, y, _, _ = contaminated(0.1, seed + i)
    for count in epoch_counts:
        for name, kind in (("plain AE", AutoEncoder), ("robust AE", RobustDeepAutoEncoder)):
            scores = kind(epochs=count, random_state=seed + i).fit(X).anomaly_score(X)
            rows.append([name, count, metrics.auroc(y, scores)])
    rows.append(["kNN", 0, metrics.auroc(y, neighbour_distance(flat(X)))])
    stops.append(len(StoppedAutoEncoder(epochs=200, random_state=seed + i).fit(X).history_))
over_epochs = pd.DataFrame(rows, columns=["detector", "epochs", "AUROC"])
over_epochs = over_epochs.groupby(["detector", "epochs"])["AUROC"].agg(["mean", "std"])

# %%
means, sds = (over_epochs[column].drop("kNN").unstack(0) for column in ("mean", "std"))
fig, axis = plt.subplots(figsize=(5.2, 2.9), layout="constrained")
for name, style in (("plain AE", "s--"), ("robust AE", "o-")):
    axis.errorbar(means.index, means[name], sds[name], fmt=style, capsize=3, label=name)
axis.axhline(over_epochs.loc["kNN", "mean"].item(), color="0.4", ls=":", label="kNN")
axis.axvline(np.mean(stops), color="C2", lw=1, label="stopping rule (mean)")
axis.set(xscale="log", xlabel="epochs", ylabel="AUROC")
axis.set_xticks(epoch_counts, epoch_counts)
axis.minorticks_off()
axis.legend(fontsize=8)
recorded = over_epochs.reset_index().rename(columns={"std": "sd"})
nb.figure(fig, "contamination_epochs", data=recorded, n=robust_seeds, share=0.1)

# %% [markdown]
# The plain autoencoder is best after about 50 epochs, and the stopping rule stops it near this number. After that it
# memorises the anomalies and its AUROC falls. The robust autoencoder needs long training, and its AUROC does not fall.
# In the end it is about as good as the plain autoencoder at its best.
#
# ## 5. Different shares of anomalies
#
# Now we vary the share of anomalies. The plain autoencoder has three versions: 200 epochs, 50 epochs, and the stopping
# rule. Methods without a network are kNN, Isolation Forest and the residual of PCA.


# %%
def with_network(X, X_fresh, seed):
    """Scores of training and fresh samples by autoencoders, {name: (training, fresh)}."""
    detectors = {
        "plain AE, 200 epochs": AutoEncoder(epochs=200, random_state=seed),
        "plain AE, 50 epochs": AutoEncoder(epochs=50, random_state=seed),
        "plain AE, stopped": StoppedAutoEncoder(epochs=200, random_state=seed),
        "robust AE": RobustDeepAutoEncoder(random_state=seed),
    }
    return {name: (each.fit(X).anomaly_score(X), each.anomaly_score(X_fresh)) for name, each in detectors.items()}


# %%
def without_network(train, fresh, seed):
    """The same for methods without a network, on rows of pixels."""
    forest, pca = IsolationForest(random_state=seed).fit(train), PCAResidual().fit(train)
    return {
        "Isolation Forest": (-forest.score_samples(train), -forest.score_samples(fresh)),
        "PCA residual": (-pca.score_samples(train), -pca.score_samples(fresh)),
        "kNN": (neighbour_distance(train), neighbour_distance(train, fresh)),
    }


# %%
rows = []
for share in shares:
    for i in range(robust_seeds):
        X, y, X_fresh, y_fresh = contaminated(share, seed + i)
        found = with_network(X, X_fresh, seed + i) | without_network(flat(X), flat(X_fresh), seed + i)
        for name, (own, new) in found.items():
            area = metrics.auroc(y, own) if y.any() else np.nan
            rows.append([100 * share, name, area, metrics.auroc(y_fresh, new)])

# %%
runs = pd.DataFrame(rows, columns=["share (%)", "detector", "training samples", "fresh samples"])
contamination = runs.groupby(["share (%)", "detector"], sort=False).agg(["mean", "std"])
contamination.columns = [name if kind == "mean" else f"{name} sd" for name, kind in contamination.columns]

# %%
long = runs.melt(["share (%)", "detector"], var_name="samples", value_name="AUROC").dropna()
fig = plots.lines(long, "share (%)", "AUROC", by="detector", panels="samples", error=None, height=3.2)
for axis in fig.axes:
    axis.set_xlabel("anomalies among the training samples (%)")
nb.figure(fig, "contamination", data=contamination.reset_index(), n=robust_seeds)

# %%
worst = contamination.loc[100 * max(shares)]
worst.round(3)

# %% [markdown]
# The left panel shows the training samples themselves, the right one fresh samples. The table shows the largest share.
#
# On the training samples, the plain autoencoder after 200 epochs has memorised the anomalies. Its AUROC is far below that
# of the robust autoencoder. After 50 epochs, or with the stopping rule, it is about as good as the robust
# autoencoder. kNN has no training at all and is as good as any of them.
#
# On fresh samples, memorising matters less. The ability to reconstruct one anomaly helps little to reconstruct another
# one. There, long training is even the best for the autoencoders.
#
# The robust autoencoder thus solves a problem that is caused by too long training. Its advantage is that one does not
# need to know when to stop.

# %% tags=["claim"]
# 0.03 and 0.06 are about three standard deviations of the robust autoencoder over the seeds.
for share in [share for share in shares if share > 0]:
    area = contamination.loc[100 * share, "training samples"]
    assert area["robust AE"] > area["plain AE, 200 epochs"] + 0.03
    assert abs(area["robust AE"] - area["plain AE, 50 epochs"]) < 0.06
    assert area["kNN"] > area["robust AE"] - 0.03
assert worst.loc["robust AE", "training samples"] > 0.85

# %% [markdown]
# ## 6. Sparsity of S
#
# In the paper a sample is called an anomaly when its row of $S$ is not zero. This needs a weight $\lambda$ for which most
# rows are zero. The default of the class is smaller, because the ranking is better with it. Then *every* row of $S$ is
# different from zero. We count these rows, and the anomalies among them, for 10% anomalies and three values of
# `regularization`, called λ in the table.

# %%
rows = []
for i in range(robust_seeds):
    X, y, _, _ = contaminated(0.1, seed + i)
    for strength in (0.1, 0.3, 0.5):
        detector = RobustDeepAutoEncoder(regularization=strength, random_state=seed + i).fit(X)
        nonzero = np.abs(detector.sparse_).reshape(len(X), -1).any(axis=1)
        precision = y[nonzero].mean() if nonzero.any() else np.nan
        area = metrics.auroc(y, detector.anomaly_score(X))
        rows.append([strength, 100 * nonzero.mean(), 100 * precision, area])
titles = ["λ", "rows in S (%)", "anomalies among them (%)", "AUROC"]
sparsity = pd.DataFrame(rows, columns=titles).groupby("λ").agg(["mean", "std"])
sparsity.columns = [name if kind == "mean" else f"{name} sd" for name, kind in sparsity.columns]
sparsity.round(2)

# %% [markdown]
# With a large $\lambda$, the few rows in $S$ belong to anomalies, but most anomalies are not among them. The network
# memorises these as a plain autoencoder does, and the AUROC is lower. We therefore rank the samples by the
# reconstruction error, and use the small $\lambda$.

# %% tags=["claim"]
assert sparsity.loc[0.1, "rows in S (%)"] == 100
assert sparsity["rows in S (%)"].is_monotonic_decreasing
assert sparsity.loc[0.1, "AUROC"] > sparsity.loc[0.5, "AUROC"]

# %% [markdown]
# ## 7. Content of S
#
# ### Rows
#
# Which training samples have the largest rows in $S$? We use the largest share of anomalies. No label is used for the
# order of the samples.

# %% tags=["step"]
X, y, _, _ = contaminated(max(shares), seed)
S_rows = RobustDeepAutoEncoder(random_state=seed).fit(X).sparse_
size = np.linalg.norm(S_rows.reshape(len(X), -1), axis=1)
order = np.argsort(size)[::-1]
hits = y[order[: y.sum()]].mean()
print(f"of the {y.sum()} samples with the largest rows in S, {hits:.0%} are anomalies; of all samples {y.mean():.0%}")

# %%
first, last = order[:10], order[::-1][:10]
rows = {"largest S": X[first, ..., 0], "|S|": np.abs(S_rows[first, ..., 0]), "smallest S": X[last, ..., 0]}
fig = plots.image_rows(rows)
nb.figure(fig, "sparse_rows", data=pd.DataFrame({"size": size, "anomaly": y}))

# %% tags=["claim"]
assert hits > 0.5 > y.mean()

# %% [markdown]
# ### Columns and entries
#
# Suppose that one pixel of the camera is broken and flickers between black and white. It is wrong in *all* samples,
# and no sample is an anomaly. The penalty over columns collects this error in one column of $S$. Spikes at random
# positions belong to the $\ell_1$ penalty.

# %%
rng = np.random.default_rng(seed)
broken = data.X_train.copy()
broken[:, 4, 6] = rng.choice([0, 255], broken[:, 4, 6].shape)
columns_ae = RobustDeepAutoEncoder(penalty="columns", latent_dim=4, regularization=0.3, random_state=seed).fit(broken)
by_pixel = np.sqrt(np.square(columns_ae.sparse_[..., 0]).sum(0))

# %%
spiked_images = (255 * spiked).round().astype(np.uint8).reshape(data.X_train.shape)
entries_ae = RobustDeepAutoEncoder(penalty="l1", random_state=seed).fit(spiked_images)
entries = np.abs(entries_ae.sparse_[..., 0])
entries_area = metrics.auroc(spikes.ravel().astype(int), entries.ravel())
print(f"AUROC of the entries of S for the spikes: {entries_area:.3f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.6), layout="constrained", width_ratios=[1, 2.2])
bar = {"label": "norm of the column of S"}
sns.heatmap(by_pixel, ax=left, square=True, cmap="viridis", xticklabels=False, yticklabels=False, cbar_kws=bar)
pair = np.vstack([np.hstack(list(part[:6])) for part in (spiked_images[..., 0] / 255, entries)])
right.imshow(pair, cmap="gray")
right.set(title="training digits with spikes, and |S|", xticks=[], yticks=[])
left.set(title="one broken pixel")
right.grid(False)
nb.figure(fig, "group_anomalies", data=pd.DataFrame(by_pixel))

# %% tags=["claim"]
# The next column after that of the broken pixel is smaller by a quarter at least.
assert by_pixel.argmax() == 4 * 8 + 6
assert by_pixel.max() > 1.3 * np.sort(by_pixel.ravel())[-2]
assert entries_area > 0.85

# %% [markdown]
# ## In this notebook
#
# - **Robust PCA** splits a table into a low-rank part and a sparse part. It separates spikes that an ordinary PCA spreads
#   over the whole sample.
# - The **robust deep autoencoder** replaces the low-rank part by an autoencoder. The penalty on $S$ decides whether
#   entries, columns or rows are separated.
# - A plain autoencoder memorises the anomalies of its training set when it trains for long. On fresh samples this matters
#   little.
# - A plain autoencoder that stops early ranks contaminated training samples about as well as the robust one. kNN does so
#   without any training.
#
# ## Exercises
#
# **1. Predict: a very large threshold.** Let `regularization=100`. What does $S$ contain, and to which detector of section
# 5 is the robust autoencoder then equal?
#
# <details><summary>Hint</summary>
#
# Compare $\tau$ with the norm of the residual of a group.
#
# </details>

# %% tags=["solution"]
X, y, _, _ = contaminated(0.1, seed)
huge = RobustDeepAutoEncoder(regularization=100, random_state=seed).fit(X)
plain = AutoEncoder(epochs=200, random_state=seed).fit(X)
assert not huge.sparse_.any()
assert np.allclose(huge.anomaly_score(X), plain.anomaly_score(X), rtol=1e-4)

# %% [markdown] tags=["solution"]
# Every residual is below the threshold, so $S = 0$ in all rounds. The network is trained on $X$ for 200 epochs. This is
# the plain autoencoder with 200 epochs, with the same scores.

# %% [markdown]
# **2. Change: more spikes.** Set 30% instead of 5% of the pixels to white in section 1. How well does $S$ of robust PCA
# find them?
#
# <details><summary>Hint</summary>
#
# The theory of Candès et al. needs a *sparse* $S$. Measure the AUROC of the entries of $S$ as in section 1.
#
# </details>

# %% tags=["solution"]
many = np.random.default_rng(seed).random(table.shape) < 0.3
many_robust = RobustPCA().fit(np.where(many, 1.0, table))
many_area = metrics.auroc(many.ravel().astype(int), many_robust.sparse_.ravel())
assert many_area < spikes_area
print(f"AUROC with 5% spikes {spikes_area:.3f}, with 30% {many_area:.3f}")

# %% [markdown]
# **3. Build: trimming.** A simple robust method has two stages. Train a plain autoencoder for 50 epochs, and remove the
# 20% of the training samples with the largest errors. Train a second autoencoder for 200 epochs on the rest. How well
# does it rank all training samples?
#
# <details><summary>Hint</summary>
#
# Use `np.quantile` of the scores of the first autoencoder. Score all training samples by the second one.
#
# </details>

# %% tags=["solution"]
first_scores = AutoEncoder(epochs=50, random_state=seed).fit(X).anomaly_score(X)
trimmed = X[first_scores <= np.quantile(first_scores, 0.8)]
second = AutoEncoder(epochs=200, random_state=seed).fit(trimmed)
trimmed_area = metrics.auroc(y, second.anomaly_score(X))
assert trimmed_area > metrics.auroc(y, plain.anomaly_score(X))
print(f"AUROC with trimming {trimmed_area:.3f}, without {metrics.auroc(y, plain.anomaly_score(X)):.3f}")

# %% [markdown]
# **4. On paper: soft thresholding.** Show that $\tfrac12 (s - e)^2 + \tau |s|$ is smallest at $s = \operatorname{sign}(e)
# \max(|e| - \tau, 0)$. This is step 2 of the algorithm of robust PCA for one entry.
#
# <details><summary>Hint</summary>
#
# Look for the minimum among $s > 0$, among $s < 0$ and at $s = 0$.
#
# </details>

# %% [markdown] tags=["solution"]
# For $s > 0$ the derivative is $s - e + \tau$. It is zero at $s = e - \tau$, which is positive only if $e > \tau$. For $s
# < 0$ the derivative is $s - e - \tau$, zero at $s = e + \tau$, which is negative only if $e < -\tau$. If $|e| \le
# \tau$, the function falls for all $s < 0$ and rises for all $s > 0$, so the minimum is at $s = 0$. The function is
# convex, so in each case the point found is the only minimum.

# %% tags=["solution"]
tau, grid = 0.7, np.linspace(-3, 3, 6001)
for e in (-2.0, -0.5, 0.3, 1.5):
    best = grid[np.argmin(0.5 * (grid - e) ** 2 + tau * np.abs(grid))]
    assert abs(best - np.sign(e) * max(abs(e) - tau, 0)) < 1e-3

# %% tags=["results"]
nb.value("robust_pca_spikes_auroc", spikes_area)
nb.value("robust_autoencoder_spikes_auroc", entries_area)
nb.value("robust_autoencoder_precision", 100 * hits, unit="%")
for name, key in {
    "robust AE": "robust_ae",
    "plain AE, 200 epochs": "plain_ae",
    "plain AE, 50 epochs": "short_ae",
    "plain AE, stopped": "stopped_ae",
    "kNN": "knn",
    "Isolation Forest": "isolation_forest",
}.items():
    mean, sd = worst.loc[name, ["training samples", "training samples sd"]]
    nb.value(f"contaminated_{key}", mean, sd=sd, n=robust_seeds)
nb.table(contamination.reset_index().astype(object).fillna("–"), "contamination", n=robust_seeds)
nb.table(sparsity.reset_index().round(3), "robust_sparsity", n=robust_seeds, share=0.1)
nb.finish()

# %% [markdown]
# ## References
#
# - E. J. Candès, X. Li, Y. Ma, J. Wright (2011). Robust principal component analysis? *Journal of the ACM* 58(3).
# - C. Zhou, R. C. Paffenroth (2017). Anomaly detection with robust deep autoencoders. *KDD*.
