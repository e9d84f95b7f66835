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
# # One detector for images and tables
#
# A factory takes images of its parts and records the state of its machines in tables. Two separate detectors have two
# scales of scores and two thresholds. This notebook builds one detector instead: an encoder for each modality, a
# **shared latent space** and **one scorer** for the latents of all modalities. Five difficulties of this design are
# well known: alignment, one distribution for all modalities, imbalance, an unstable covariance, and explanation. We
# measure each of them before and after a remedy.
#
# The modalities are *unpaired*: no image belongs to any row of the table, and their numbers may differ. Notebook
# [08](08_fusion.ipynb) treats paired modalities.
#
# **You will learn**
#
# - to train an encoder of tables without labels, by the prediction of hidden columns;
# - to compute the score of a Gaussian mixture and a conformal p-value, and to compare false-alarm rates;
# - to align unpaired modalities in three ways, and to measure the effect on detection;
# - to measure the effects of unequal sample sizes and of shrinkage;
# - to divide a squared distance among columns and pixels.
#
# Reading time: 30 minutes. Running time: 2 minutes.
#
# Terms in the [glossary](glossary.md), in English and Chinese: [encoder](glossary.md#Encoder), [shared latent
# space](glossary.md#Shared-latent-space), [alignment](glossary.md#Alignment),
# [moment matching](glossary.md#Moment-matching), [shrinkage](glossary.md#Shrinkage),
# [conformal p-value](glossary.md#Conformal-p-value), [calibration](glossary.md#Calibration).

# %% [markdown]
# ## Parameters
#
# The defaults need no download. The data of the course are `mvtec/hazelnut` and `thyroid`.

# %% tags=["parameters"]
image_dataset: str = "synthetic/hazelnut"  # images with masks of the defects
table_dataset: str = "breast_cancer"  # the table
hard_table: str = "injected/dependency/breast_cancer"  # a table whose anomalies break the relations between columns
n_images: int = 100  # training images used at most; at least 10
latent_dim: int = 256  # dimensions of the shared space
steps: int = 1000  # updates of the table encoder at most, at least 1
n_splits: int = 2  # random splits of the normal samples into training and test, at least 1
seed: int = 0  # of all random generators

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from torch import nn

# %%
from mmad_utils import GaussianAnomalyScorer, ImageEncoder, MultiModalAnomalyDetector, TabularEncoder, metrics, plots
from mmad_utils.course import notebook
from mmad_utils.datasets.take import take
from mmad_utils.training import seeded

nb = notebook.start("09_unified_framework")

# %% [markdown]
# ## The data
#
# Every modality has normal training samples and a test set with normal samples and anomalies. The two data sets are
# dictionaries with the keys `"image"` and `"tabular"`. `normal` holds the normal test samples.

# %%
image, table = nb.load(image_dataset, seed=seed), nb.load(table_dataset, seed=seed)
X = {"image": image.X_train[:n_images], "tabular": table.X_train}
X_test = {"image": image.X_test, "tabular": table.X_test}
y_test = {"image": image.y_test, "tabular": table.y_test}
normal = {name: take(X_test[name], np.flatnonzero(y_test[name] == 0)) for name in X}

# %%
sizes = {name: [len(X[name]), len(normal[name]), y_test[name].sum()] for name in X}
pd.DataFrame(sizes, index=["normal, training", "normal, test", "anomalies, test"])

# %% [markdown]
# ## 1. An encoder for each modality
#
# An encoder turns a sample into a vector of features.
#
# **Images.** A frozen pretrained network computes feature maps. We keep the mean and the maximum of three layers over
# the positions. The mean describes the whole image, and the maximum responds to a small defect.
#
# **Tables.** There is no pretrained network for an arbitrary table. A network with random weights is only a random
# projection. The table encoder therefore needs a task that has no labels: some columns of a row are hidden, and a
# network predicts them from the other columns. After the training each column is hidden in turn, and
#
# $$ r_j = z_j - \hat z_j(z_{-j}) $$
#
# is the difference between column $j$ and its prediction from the rest of the row ($z$ are the scaled columns). An
# anomaly has either an extreme value, which $z_j$ shows, or a value that does not agree with the other columns, which
# $r_j$ shows. The encoder returns both for each column.
#
# ### One training step of the table encoder
#
# The network is a perceptron. Its input has the visible values and, for each column, a mark that says whether the
# column is hidden. To compare with the class `TabularEncoder`, we load the initial weights of the class and use the
# same random generator.

# %% tags=["step"]
hard = nb.load(hard_table, seed=seed).as_table()
initial = TabularEncoder(steps=0, random_state=seed).fit(hard.X_train)
rows, d = initial.inputs(hard.X_train), hard.X_train.shape[1]  # scaled columns, (n, d)
network = nn.Sequential(nn.Linear(2 * d, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, d))
network.load_state_dict(initial.network_.layers.state_dict())
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

# %% [markdown]
# Each column is hidden with probability 0.3, and one more column of each row is hidden in any case. The loss is the
# mean squared error at the hidden entries. The visible entries have no part in the loss, because the network could
# simply return its input there.

# %% tags=["step"]
with seeded(seed) as generator:
    for _ in range(2):  # the class splits the rows, and then shuffles them
        rows = rows[torch.randperm(len(rows), generator=generator)]
    hidden = torch.rand(rows.shape, generator=generator) < 0.3
    hidden[torch.arange(len(rows)), torch.randint(d, (len(rows),), generator=generator)] = True

# %% tags=["step"]
predicted = network(torch.cat([rows.masked_fill(hidden, 0), hidden.float()], dim=1))
loss = (predicted - rows)[hidden].square().mean()

# %% tags=["step"]
optimizer.zero_grad()
loss.backward()
optimizer.step()
print(f"loss before the step: {loss.item():.3f}")

# %% tags=["claim"]
# The class, limited to one step on all rows, has the same loss and the same weights up to rounding in float32.
one_step = TabularEncoder(steps=1, validation_share=0, batch_size=len(rows), random_state=seed).fit(hard.X_train)
assert np.isclose(one_step.history_[0]["loss"], loss.item(), rtol=1e-5)
for ours, theirs in zip(network.parameters(), one_step.network_.layers.parameters()):
    assert torch.allclose(ours.double(), theirs, atol=1e-5)

# %% [markdown]
# The class repeats this step up to `steps` times. It measures the error on held-out rows and keeps the weights with
# the lowest error.
#
# ### What the training adds
#
# `hard_table` is a test for this encoder. Each value of its anomalies is plausible alone, and only the relation to
# the other columns is wrong. The score is the squared length of the standardised features. We compare three encoders:
# the scaled columns alone, the columns with the residuals of an untrained network, and those with the residuals of the
# trained network.


# %%
def squared_length_auroc(encoder):
    features, tested = encoder.fit(hard.X_train).transform(hard.X_train), encoder.transform(hard.X_test)
    scores = np.square((tested - features.mean(axis=0)) / features.std(axis=0)).sum(axis=1)
    return metrics.auroc(hard.y_test, scores)


learned = pd.Series({
    "scaled columns": squared_length_auroc(TabularEncoder(random_state=seed, residuals=False)),
    "untrained": squared_length_auroc(TabularEncoder(random_state=seed, steps=0)),
    "trained": squared_length_auroc(TabularEncoder(random_state=seed, steps=steps)),
})  # fmt: skip
learned.round(3).to_frame("AUROC")

# %% [markdown]
# The scaled columns rank these anomalies little better than at random. The residuals of the untrained network change
# little. The residuals of the trained network find almost all anomalies: the network has learned the relations between
# the columns.

# %% tags=["claim"]
# 0.15 is far above the spread of an AUROC on this test set, and the measured gain is larger than 0.3.
assert learned["trained"] > max(learned["scaled columns"], learned["untrained"]) + 0.15

# %% [markdown]
# ## 2. A shared latent space and one scorer
#
# The features of both encoders are standardised and multiplied by a random matrix with orthonormal rows or columns.
# An image and a row thus become vectors of the same dimension. The default scorer is a Gaussian mixture with one
# component per modality. The component of a training sample is known, so that no EM algorithm is needed.


# %%
def detector(**parameters):
    encoders = {"image": ImageEncoder(layers=(2, 3, 4)), "tabular": TabularEncoder(steps=steps)}
    return MultiModalAnomalyDetector(encoders, **{"latent_dim": latent_dim, "random_state": seed} | parameters)


def auroc_by_modality(fitted, X=X_test, y=y_test):
    return {name: metrics.auroc(y[name], scores) for name, scores in fitted.anomaly_score(X).items()}


# %%
unified = detector().fit(X)
unified_auroc = auroc_by_modality(unified)
pd.Series(unified_auroc, name="AUROC").round(3).to_frame()

# %% [markdown]
# ### The distance of the mixture by hand
#
# For the component of the table we compute mean and covariance of the latents, and then the squared Mahalanobis
# distance $d^2 = (z-\mu)^\top \Sigma^{-1} (z-\mu)$ of the test rows. The term $0.3\,I$ regularises the covariance.
# A constant cancels from the negative log density, and the score of a sample is $d^2/2$, or less where another
# component gives the sample a higher density.

# %% tags=["step"]
space = unified.space_
P, encoder = space.projections_["tabular"], space.encoders_["tabular"]


def standardised(rows):
    return (encoder.transform(rows) - space.means_["tabular"]) / space.scales_["tabular"]


latents = standardised(X["tabular"]) @ P
mean, covariance = latents.mean(axis=0), np.cov(latents.T, bias=True) + 0.3 * np.eye(latent_dim)

# %% tags=["step"]
gap = standardised(X_test["tabular"]) @ P - mean
squared = (gap * np.linalg.solve(covariance, gap.T).T).sum(axis=1)
print(f"median squared distance of the test rows: {np.median(squared):.1f}")

# %% tags=["claim"]
only_rows = {"tabular": X_test["tabular"]}
assert np.allclose(squared, unified.squared_distance(only_rows)["tabular"])
mixture = unified.scorer_.anomaly_score(unified.encode(only_rows))["tabular"]
assert (mixture <= squared / 2 + 1e-6).all() and np.isclose(np.median(mixture), np.median(squared / 2))
assert min(unified_auroc.values()) > 0.75, "the detector works on both modalities"

# %% [markdown]
# ### Variation between splits
#
# The AUROC above belongs to one split of the normal samples into training and test. We now pool the normal samples of
# each data set, split them again, and fit the detector anew for each split.

# %%
results = []
for split in range(seed, seed + n_splits):
    images, rows = image.resplit(split), table.resplit(split)
    fitted = detector(random_state=split).fit({"image": images.X_train[:n_images], "tabular": rows.X_train})
    tested, truth = {"image": images.X_test, "tabular": rows.X_test}, {"image": images.y_test, "tabular": rows.y_test}
    results.append(auroc_by_modality(fitted, tested, truth))
by_split = pd.DataFrame(results).agg(["mean", "std"]).fillna(0.0)  # a single split has no standard deviation
by_split.round(3)

# %% tags=["claim"]
assert by_split.loc["mean"].min() > 0.75

# %% [markdown]
# ## 3. One distribution and one threshold for all modalities
#
# A simpler scorer stacks the latents of all modalities and fits a single Gaussian. We use the 95% quantile of the
# stacked training scores as the threshold. The nominal false-alarm rate is 5%. We count the false alarms among the
# normal test samples, and compare with the mixture and its p-values.

# %%
pooled = detector(scorer=GaussianAnomalyScorer(), calibration_folds=0, balance=False).fit(X)
threshold = np.quantile(np.concatenate(list(pooled.anomaly_score(X).values())), 0.95)
alarms = pd.DataFrame({
    "one Gaussian, one threshold": {k: (v > threshold).mean() for k, v in pooled.anomaly_score(normal).items()},
    "mixture, held-out p-values": {k: (v == -1).mean() for k, v in unified.predict(normal).items()},
}).rename_axis("modality")  # fmt: skip
alarms.round(3)

# %% [markdown]
# The single threshold misses the nominal rate in both modalities. There are two reasons. First, training scores are
# lower than the scores of new samples, above all for images: there are fewer training images than latent dimensions.
# Second, the scores of two modalities have different scales.
#
# ### Conformal p-values
#
# One method removes both causes. The whole detector is fitted five times, each time without one fifth of the samples,
# and scores that fifth. Every normal sample then has a *held-out* score $s_i$. A new sample with score $s$ is compared
# with the held-out scores of its own modality:
#
# $$ p = \frac{1 + \#\{i : s_i \ge s\}}{n + 1} $$
#
# This is the conformal p-value. The detector reports $-\log p$, with interpolation between the ranks. One threshold,
# $-\log 0.05 \approx 3$, serves all modalities.

# %%
held_out = unified.held_out_scores_["tabular"]
scores = unified.scorer_.anomaly_score(unified.encode(X_test))["tabular"]
p_values = (1 + (held_out >= scores[:, None]).sum(axis=1)) / (len(held_out) + 1)
print(f"smallest p-value {p_values.min():.4f}; {np.mean(p_values <= 0.05):.0%} of the test rows have at most 0.05")

# %% tags=["claim"]
assert np.allclose(p_values, unified.p_values(X_test)["tabular"])
# The single threshold misses 5% by more than 20 percentage points in one modality, the p-values in none.
worst = (alarms - 0.05).abs().max()
assert worst["one Gaussian, one threshold"] > 0.2 > worst["mixture, held-out p-values"]

# %% [markdown]
# ## 4. Alignment
#
# Two modalities in one space need not have the same distribution. To measure the difference, we train a classifier
# that predicts the modality of a latent vector. It knows the mean and covariance of each modality. Its AUROC on
# held-out normal samples is 0.5 if the modalities have the same distribution, and 1 if they are fully separated.
#
# Alignment maps the latents of each modality so that their distributions become similar. We compare three methods,
# in 16 latent dimensions: in 256 dimensions each modality has fewer samples than dimensions and fills a subspace of
# its own, so that no affine map makes the distributions equal.

# %%
narrow = {"scorer": GaussianAnomalyScorer(), "latent_dim": 16, "calibration_folds": 0}
not_aligned = detector(**narrow).fit(X)
latents16 = not_aligned.encode(X)
n = min(len(part) for part in latents16.values())

# %%
centred = {name: part[:n] - part[:n].mean(axis=0) for name, part in latents16.items()}
batches = [torch.from_numpy(part / part.std()).float() for part in centred.values()]

# %% [markdown]
# ### Moment matching
#
# Moment matching gives each modality the mean 0 and the covariance $I$. The solution has a closed form: subtract the
# mean and multiply by $\Sigma^{-1/2}$. We take $\Sigma$ from the Ledoit-Wolf estimator (section 6).

# %% tags=["step"]
centre = latents16["tabular"].mean(axis=0)
values, directions = np.linalg.eigh(LedoitWolf().fit(latents16["tabular"]).covariance_)
matched = (latents16["tabular"] - centre) @ (directions / np.sqrt(values)) @ directions.T

# %% [markdown]
# ### Adversarial alignment
#
# A discriminator predicts the modality from the mapped latents, and the maps are trained against it. The
# discriminator minimises the cross-entropy, and the maps maximise it. A second term of the loss of the maps, the mean
# squared change of the latents, keeps the information about the sample. The maps are linear and
# start at the identity. Here is one step of both updates.


# %%
def identity_maps():
    maps = nn.ModuleList(nn.Linear(16, 16) for _ in batches)
    for layer in maps:
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    return maps


# %%
with seeded(seed) as generator:
    maps = identity_maps()
    discriminator = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 2))

# %% [markdown]
# The batch has the same number of samples of each modality.

# %%
modality = torch.repeat_interleave(torch.arange(2), n)
mapped = torch.cat([layer(batch) for layer, batch in zip(maps, batches)])
cross_entropy = F.cross_entropy(discriminator(mapped), modality)
change = F.mse_loss(mapped, torch.cat(batches))

# %%
optimizers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (discriminator, maps)]

# %% tags=["step"]
cross_entropy.backward(inputs=list(discriminator.parameters()), retain_graph=True)
(change - cross_entropy).backward(inputs=list(maps.parameters()))
for optimizer in optimizers:
    optimizer.step()
print(f"cross-entropy before the step: {cross_entropy.item():.3f}")

# %% [markdown]
# ### Contrastive alignment
#
# Contrastive learning makes two views of one sample similar and different samples dissimilar. Paired modalities give
# two views of one object. Unpaired modalities do not, and both views are the same sample with different noise. The
# loss is the cross-entropy of the correct partner among all other views (NT-Xent).

# %%
maps, generator = identity_maps(), torch.Generator().manual_seed(seed)
optimizer = torch.optim.Adam(maps.parameters(), lr=1e-3)
mapped = torch.cat([layer(batch) for layer, batch in zip(maps, batches)])
views = [mapped + 0.3 * torch.randn(mapped.shape, generator=generator) for _ in range(2)]

# %% tags=["step"]
both = F.normalize(torch.cat(views), dim=1)
similarity = (both @ both.T / 0.2).fill_diagonal_(-torch.inf)
contrast = F.cross_entropy(similarity, torch.arange(len(both)).roll(len(mapped)))
contrast.backward()
optimizer.step()

# %% [markdown]
# The classes repeat these steps on random batches. They are fitted below, each in a new detector.

# %%
from mmad_utils import AdversarialAlignment, ContrastiveAlignment, MomentMatching


def modality_auroc(latents, X_held):
    stack = [np.concatenate(list(part.values())) for part in (latents, X_held)]
    names = [np.repeat([0, 1], [len(rows) for rows in part.values()]) for part in (latents, X_held)]
    classifier = QuadraticDiscriminantAnalysis(reg_param=0.1).fit(stack[0], names[0])
    return metrics.auroc(names[1], classifier.decision_function(stack[1]))


# %%
aligned = {"not aligned": not_aligned}
for name, alignment in {
    "contrastive": ContrastiveAlignment(),
    "adversarial": AdversarialAlignment(),
    "moment matching": MomentMatching(),
}.items():
    aligned[name] = detector(alignment=alignment, **narrow).fit(X)

# %%
results = {
    name: {"modality": modality_auroc(fitted.encode(X), fitted.encode(normal)), **auroc_by_modality(fitted)}
    for name, fitted in aligned.items()
}
alignments = pd.DataFrame(results).T.rename_axis("alignment")
alignments.round(3)

# %% [markdown]
# The first column is the AUROC of the classifier of modalities, and the other two columns are the AUROC of the
# detection. The methods change the first column much, and the detection by a few hundredths only. The aligned
# distribution has no information that the single modalities did not have before. Alignment is useful where
# information is transferred between modalities, for example pairs or labels.
#
# On breast cancer and generated hazelnuts, moment matching makes the classifier wrong more often. On thyroid and the
# hazelnuts of MVTec AD the classifier still separates nearly all samples. The six columns of thyroid give twelve
# features, so that the latents have no variance in four of the sixteen directions. No linear map creates variance there.

# %% tags=["claim"]
assert np.allclose(matched, MomentMatching().fit(latents16).transform(latents16)["tabular"])
one_step = AdversarialAlignment(steps=1, batch_size=n, random_state=seed)
one_step.fit({name: part[:n] for name, part in latents16.items()})
assert np.isclose(one_step.history_[0]["objective"], cross_entropy.item(), rtol=1e-4)
generator = torch.Generator().manual_seed(seed)
assert torch.isclose(ContrastiveAlignment().objective(batches, nn.Identity(), generator), contrast)
assert alignments.loc["not aligned", "modality"] > 0.9
if table_dataset == "breast_cancer":
    assert alignments.loc["moment matching", "modality"] < 0.9
# A detector with another seed moves by a few hundredths as well; 0.1 is a change that would matter.
assert (alignments[list(X)].max() - alignments[list(X)].min()).max() < 0.1

# %% [markdown]
# ## 5. Imbalance
#
# Now a tenth as many rows as images are available. A single Gaussian might then describe the images only, because they are the
# majority. We compare the median score of normal test rows with that of normal test images. `balance=True` repeats the
# samples of the smaller modality. For the mixture, the ratio is that of the medians of $-\log p$.

# %%
few = X | {"tabular": X["tabular"][: max(10, len(X["image"]) // 10)]}
results = {}
for name, options in {
    "one Gaussian": {"scorer": GaussianAnomalyScorer(), "balance": False, "calibration_folds": 0},
    "one Gaussian, balanced": {"scorer": GaussianAnomalyScorer(), "balance": True, "calibration_folds": 0},
    "mixture, p-values": {},
}.items():
    fitted = detector(**options).fit(few)
    medians = {key: np.median(scores) for key, scores in fitted.anomaly_score(normal).items()}
    results[name] = {"rows / images": medians["tabular"] / medians["image"], **auroc_by_modality(fitted)}
imbalance = pd.DataFrame(results).T.rename_axis("scorer")
imbalance.round(3)

# %% [markdown]
# The effect of the imbalance is small here. In a space of this dimension the rows and the images overlap little, and
# one Gaussian can describe both. Balancing does not help: ten rows that are repeated ten times are still ten
# different rows, but the estimator of the covariance treats them as a hundred. Compare the AUROC of the table before
# you balance.

# %% tags=["claim"]
assert np.ptp(imbalance["tabular"]) < 0.15, "no scorer fails with few rows"

# %% [markdown]
# ## 6. An unstable covariance
#
# A covariance matrix of 256 latents has 32,896 different entries, and 100 images cannot determine them. The empirical
# covariance is singular. With a very small number on its diagonal it can be inverted, but the distances are not
# reliable. Ledoit and Wolf shrink the matrix towards a multiple of the identity,
#
# $$ \hat\Sigma = (1 - \rho)\, S + \rho\, \tfrac{\operatorname{tr} S}{d}\, I , $$
#
# with a weight $\rho$ that they estimate from the data. We compare the Mahalanobis distances under both matrices.

# %% tags=["step"]
trained, tested = unified.encode(X)["image"], unified.encode(X_test)["image"]


def distances(matrix, rows):
    return np.linalg.norm(np.linalg.solve(np.linalg.cholesky(matrix), (rows - trained.mean(axis=0)).T), axis=0)


covariances = {
    "empirical + 1e-9": np.cov(trained.T, bias=True) + 1e-9 * np.eye(latent_dim),
    "Ledoit-Wolf": LedoitWolf().fit(trained).covariance_,
}

# %% tags=["step"]
results = {}
for name, matrix in covariances.items():
    ratio = np.median(distances(matrix, tested)[image.y_test == 0]) / np.median(distances(matrix, trained))
    auroc = metrics.auroc(image.y_test, distances(matrix, tested))
    condition = np.log10(np.linalg.cond(matrix))
    results[name] = {"log10(condition number)": condition, "new / training distance": ratio, "AUROC": auroc}
shrinkage = pd.DataFrame(results).T.rename_axis("covariance")
shrinkage.round(3)

# %% [markdown]
# Under the empirical matrix a new *normal* image is thousands of times farther from the mean than a training image. It
# has components outside the span of the training images, where the empirical variance is zero. With shrinkage the ratio is
# close to 1, and a threshold can be set.

# %% tags=["claim"]
assert shrinkage.loc["empirical + 1e-9", "new / training distance"] > 100
assert shrinkage.loc["Ledoit-Wolf", "new / training distance"] < 10

# %% [markdown]
# ## 7. Explanation
#
# Latents have no names, and a distance between latents does not say which column or pixel is unusual. But the map from
# named features to latents is linear here. Let $\delta$ be the difference of the standardised features from the mean,
# and $g = P\,\Sigma^{-1} P^\top \delta$ half the gradient of the squared distance. Then
#
# $$ d^2 = \delta^\top P\, \Sigma^{-1} P^\top \delta = \sum_j \delta_j\, g_j . $$
#
# The squared distance is a sum over features. Every feature of the table encoder belongs to one column, so that it is also a
# sum over columns. The shares are exact: they sum to the squared distance.
#
# **Does the largest share name the right column?** We take normal rows and replace one value of each row by that of
# another row. The column with the largest share is compared with a common explanation, the column with the largest
# absolute scaled value.

# %%
rng = np.random.default_rng(seed)
n, d = normal["tabular"].shape
damaged, column = normal["tabular"].copy(), rng.integers(d, size=n)
damaged[np.arange(n), column] = normal["tabular"][rng.permutation(n), column]

# %% tags=["step"]
delta = standardised(damaged)
gradient = np.linalg.solve(covariance, (delta @ P - mean).T).T @ P.T
shares = (delta * gradient)[:, :d] + (delta * gradient)[:, d:]  # a column has two features, z and r

# %%
scaled = encoder.transform(damaged)[:, :d]

# %%
hits = pd.Series({
    "largest |z|": (np.abs(scaled).argmax(axis=1) == column).mean(),
    "largest share": (shares.argmax(axis=1) == column).mean(),
})  # fmt: skip
hits.round(2).to_frame("frequency of the right column")

# %% [markdown]
# The shares name the changed column much more often than the largest scaled value. The method `explain` computes the
# same shares. The figure shows them for the test row with the highest score.

# %% tags=["claim"]
explained = unified.explain({"tabular": damaged})["tabular"]
assert np.allclose(shares, explained, atol=1e-6 * np.abs(explained).max())
assert np.allclose(explained.sum(axis=1), unified.squared_distance({"tabular": damaged})["tabular"])
if table_dataset == "breast_cancer":  # 179 rows: the standard deviation of a frequency is at most 0.04
    assert hits["largest share"] > hits["largest |z|"] + 0.1

# %%
rows = {"tabular": X_test["tabular"]}
highest = int(np.argmax(unified.anomaly_score(rows)["tabular"]))
names = table.feature_names or [f"column {i}" for i in range(d)]
every_share = pd.Series(unified.explain(rows)["tabular"][highest], index=names, name="share").rename_axis("column")
top = every_share.sort_values().tail(8)

# %%
fig, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
(100 * top / every_share.sum()).plot.barh(ax=axis, color=plots.ANOMALY)
axis.set(xlabel="share of the squared distance (%)", ylabel="")
nb.figure(fig, "unified_explain", data=top.reset_index(), single_run=True)

# %% [markdown]
# ### Shares of pixels
#
# The squared distance of an image is divided among its pixels in the same way. The share of a mean belongs to all
# positions equally, and the share of a maximum to the position of the maximum.

# %%
found = np.flatnonzero(image.y_test == 1)
shown = found[np.argsort(-unified.anomaly_score({"image": take(image.X_test, found)})["image"])[:5]]
chosen = take(image.X_test, shown)
maps = unified.anomaly_map({"image": chosen})["image"]
masks = None if image.masks_test is None else image.masks_test[shown]

# %%
fig = plots.heatmaps(chosen, maps, masks)
nb.figure(fig, "unified_maps", data=pd.DataFrame({"image": shown, "total": maps.sum(axis=(1, 2))}))

# %% tags=["claim"]
# The maps are smoothed, which moves up to 2% of the sum beyond the border of the image.
assert np.allclose(maps.sum(axis=(1, 2)), unified.squared_distance({"image": chosen})["image"], rtol=0.02)

# %% [markdown]
# ## In this notebook
#
# - The prediction of hidden columns trains a table encoder without labels. The residuals find anomalies that break the
#   relations between columns.
# - The latents of images and rows can be separated almost perfectly. Scores become comparable by ranks among held-out
#   normal samples of the same modality, not by the shared space.
# - One Gaussian with one threshold misses the nominal false-alarm rate. A mixture with held-out p-values holds it.
# - Alignment makes the distributions of the modalities similar and changes the detection little.
# - Balancing does not help here. Shrinkage is necessary with fewer samples than dimensions.
# - A squared Mahalanobis distance can be divided exactly among columns and pixels.
#
# Notebook [09b](09b_labels_and_drift.ipynb) continues with a third modality, other scorers, drift, labels and transfer.
#
# ## Exercises
#
# **1. Predict: a threshold from training scores.** With `calibration_folds=0` the mixture takes its thresholds from
# training scores. Which share of new normal images raises a false alarm? Predict first, then measure.
#
# <details><summary>Hint</summary>
#
# Compare the number of training images with the number of latent dimensions.
#
# </details>

# %% tags=["solution"]
training = detector(calibration_folds=0).fit(X)
training_alarms = (training.predict({"image": normal["image"]})["image"] == -1).mean()
assert training_alarms > alarms.loc["image", "mixture, held-out p-values"]
print(f"false-alarm rate {training_alarms:.2f}")

# %% [markdown] tags=["solution"]
# Nearly all of them. With fewer images than dimensions, the training images are much closer to the mean than new ones.

# %% [markdown]
# **2. Change: fewer latent dimensions.** Fit the detector on images with a half and a quarter of `latent_dim`. How does the
# AUROC change?
#
# <details><summary>Hint</summary>
#
# A random projection changes a distance by an error that decreases with the square root of the dimension.
#
# </details>

# %% tags=["solution"]
fewer = {}
for width in (latent_dim // 4, latent_dim // 2):
    fitted = detector(latent_dim=width, calibration_folds=0).fit({"image": X["image"]})
    fewer[width] = auroc_by_modality(fitted, {"image": X_test["image"]})["image"]
assert 0.6 < fewer[latent_dim // 4] < fewer[latent_dim // 2] + 0.02
pd.Series(fewer, name="AUROC").rename_axis("dimensions").round(3).to_frame()

# %% [markdown] tags=["solution"]
# The AUROC decreases gradually, because the projection keeps the distances less exactly.

# %% [markdown]
# **3. Build: a text encoder.** Write an encoder that counts the letters of a text, and fit the detector with the modality
# `"text"`. Which lines of the detector must change?
#
# <details><summary>Hint</summary>
#
# An encoder is any object with `fit(X)` and `transform(X)`; `transform` returns a float array with one row per sample.
#
# </details>


# %% tags=["solution"]
class Letters:
    def fit(self, X):
        return self

    def transform(self, X):
        return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in X], dtype=float)


words = ["the part is in order " * int(n) for n in np.random.default_rng(seed).integers(1, 5, 40)]
texts = MultiModalAnomalyDetector({"text": Letters()}, latent_dim=latent_dim, random_state=seed).fit({"text": words})
unusual, usual = texts.anomaly_score({"text": ["zzz xxx qqq", words[0]]})["text"]
assert unusual > usual

# %% [markdown] tags=["solution"]
# No line of the detector changes.

# %% [markdown]
# **4. On paper: the smallest p-value.** There are $n$ held-out normal scores. What is the smallest possible conformal
# p-value? How many normal samples does a nominal false-alarm rate of 1% need?
#
# <details><summary>Hint</summary>
#
# The count in the numerator of $p$ can be zero.
#
# </details>

# %% [markdown] tags=["solution"]
# If no held-out score is as high as $s$, then $p = 1/(n+1)$. An alarm at level $\alpha$ needs $1/(n+1) \le \alpha$, so
# $n \ge 1/\alpha - 1$. For $\alpha = 0.01$ this is $n \ge 99$.

# %% tags=["solution"]
smallest = 1 / (len(held_out) + 1)
far = {"tabular": 1000 * table.X_test[:1]}  # more anomalous than every held-out row
assert np.isclose(unified.p_values(far)["tabular"], smallest)
assert np.ceil(1 / 0.01 - 1) == 99

# %% [markdown]
# ## References
#
# - V. Vovk (2015). Cross-conformal predictors. *Annals of Mathematics and Artificial Intelligence* 74.
# - O. Ledoit, M. Wolf (2004). A well-conditioned estimator for large-dimensional covariance matrices. *Journal of
#   Multivariate Analysis* 88.
# - J. Yoon, Y. Zhang, J. Jordon, M. van der Schaar (2020). VIME. *NeurIPS*.
# - B. Sun, K. Saenko (2016). Deep CORAL. *ECCV workshops*.
# - Y. Ganin et al. (2016). Domain-adversarial training of neural networks. *JMLR* 17.
# - T. Chen, S. Kornblith, M. Norouzi, G. Hinton (2020). A simple framework for contrastive learning. *ICML*.

# %% tags=["results"]
nb.value("encoder_trained_auroc", learned["trained"])
nb.value("encoder_untrained_auroc", learned["untrained"])
for name in by_split:
    nb.value(f"unified_{name}_splits_auroc", *by_split[name], n=n_splits)
nb.value("alarms_one_gaussian_worst", alarms["one Gaussian, one threshold"].max())
nb.value("alarms_unified_worst", alarms["mixture, held-out p-values"].max())
nb.value("modality_auroc_none", alignments.loc["not aligned", "modality"])
nb.value("modality_auroc_moments", alignments.loc["moment matching", "modality"])
for name, key in (("one Gaussian", "none"), ("one Gaussian, balanced", "balanced"), ("mixture, p-values", "mixture")):
    nb.value(f"imbalance_{key}_ratio", imbalance.loc[name, "rows / images"])
    nb.value(f"imbalance_{key}_auroc", imbalance.loc[name, "tabular"])
for name, key in (("empirical + 1e-9", "empirical"), ("Ledoit-Wolf", "shrunk")):
    nb.value(f"distance_ratio_{key}", shrinkage.loc[name, "new / training distance"])
nb.value("explained_by_z", hits["largest |z|"])
nb.value("explained_by_share", hits["largest share"])
nb.table(alarms.reset_index().round(3), "unified_alarms")
nb.table(alignments.reset_index().round(3), "unified_alignment")
n_few = {"n_rows": len(few["tabular"]), "n_training_images": len(few["image"])}
nb.table(imbalance.reset_index().round(3), "unified_imbalance", **n_few)
nb.table(shrinkage.reset_index().round(3), "unified_covariance")
nb.finish()
