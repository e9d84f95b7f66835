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
# # Autoencoders: the reconstruction error as an anomaly score
#
# An autoencoder is a network that is trained to reconstruct its own input. Between input and output it represents the
# sample by a latent code. The network is trained on normal samples only, and the anomaly score of a new sample is its
# reconstruction error. A sample that differs from all training samples is usually reconstructed badly.
#
# The method has one weakness. Nothing in its loss prevents the network from reconstructing anomalies well, too. The
# variants in this notebook restrict the network in different ways.
#
# **You will learn**
#
# - how an autoencoder is trained, step by step, and how it scores a sample;
# - how the length of the latent code affects the errors of normal samples and of anomalies;
# - why an untrained network is the control with which a trained network must be compared;
# - how denoising and stacked denoising autoencoders learn from corrupted samples;
# - how sparse and contractive autoencoders restrict a wide latent code by a penalty;
# - how to measure whether a latent code is robust to noise.
#
# Reading takes about 35 minutes, running less than one minute. You need PyTorch's layers and losses, and the concepts
# of notebook 00. The data come with scikit-learn. Two notebooks continue this one. Notebook 03b is about training data
# that contain anomalies. Notebook 03c is about latent codes with a given distribution, and compares all methods.
#
# Terms, explained in English and Chinese in the [glossary](glossary.md): [autoencoder](glossary.md#Autoencoder),
# [bottleneck](glossary.md#Bottleneck), [latent space](glossary.md#Latent-space), [reconstruction
# error](glossary.md#Reconstruction-error), [untrained network](glossary.md#Untrained-network), [denoising
# autoencoder](glossary.md#Denoising-autoencoder), [sparse autoencoder](glossary.md#Sparse-autoencoder), [contractive
# autoencoder](glossary.md#Contractive-autoencoder).

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
digit: int = 9  # the handwritten digit that is normal; the nine others are anomalies
seed: int = 0  # of the split and of every random draw
epochs: int = 50  # passes over the training data, at least 20
code_lengths: list[int] = [1, 2, 4, 8, 16, 32, 64]  # lengths of the latent code to compare

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch import nn

# %%
from mmad_utils import plots
from mmad_utils.course import notebook
from mmad_utils.detectors.autoencoders import (
    AutoEncoder,
    ContractiveAutoEncoder,
    DenoisingAutoEncoder,
    SparseAutoEncoder,
    StackedDenoisingAutoEncoder,
)
from mmad_utils.metrics import evaluate

nb = notebook.start("03_autoencoders")

# %% [markdown]
# ## The data
#
# We use the handwritten digits of scikit-learn, grey images of 8×8 pixels. They are small, so that each network below
# trains in about one second. One digit is the normal class. Half of its images are the training set. The other half
# and all images of the other digits are the test set. Training uses no labels.

# %%
data = nb.load(f"digits/{digit}", seed=seed)
normal, anomalies = (data.X_test[data.y_test == label] for label in (0, 1))
data

# %% [markdown]
# PyTorch expects images as numbers in $[0, 1]$, with the colour channel before the two sides. The class `AutoEncoder`
# converts its input in the same way.


# %%
def as_tensor(images):
    """(n, H, W, C) uint8 -> (n, C, H, W) float32 in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


pixels = as_tensor(data.X_train)
print("training images:", tuple(pixels.shape))

# %% [markdown]
# ## 1. The autoencoder
#
# An **encoder** $f$ maps a sample $x$ to a latent code $z = f(x)$ of a few numbers. A **decoder** $g$ maps the latent
# code to the reconstruction $g(f(x))$, which has the shape of the sample. Both are trained together to minimise the
# squared reconstruction error on the training set. The score of a new sample is the same error:
#
# $$\min_{f, g} \sum_{x} \lVert x - g(f(x)) \rVert^2, \qquad s(x) = \lVert x - g(f(x)) \rVert^2 .$$
#
# Why should this detect anomalies? The latent code is shorter than the sample, so the network cannot represent every
# image. This restriction is called the **bottleneck**. After training, the few numbers represent what most training
# samples have in common. A property that only an anomaly has is then missing in its reconstruction.
#
# ### One training step
#
# The detectors of this course hide the training loop in `fit`. Before we use a detector, we do its training step
# ourselves. The following function prepares such a step. It builds the network of the detector with the weights that
# `fit` would start from: with `epochs=0`, `fit` builds the network and does not train it. The function also shuffles
# the training images by the random generator of the detector. Our step can then be compared with that of the class.


# %% tags=["step"]
def start_of_training(detector):
    """The untrained network of a detector, the shuffled training images, and the detector's random generator."""
    detector.set_params(epochs=0).fit(data.X_train)
    generator = torch.Generator().manual_seed(detector.seed_)
    order = torch.randperm(len(pixels), generator=generator)
    return detector.network_.train(), pixels[order], generator


# %% [markdown]
# For small images the encoder has a convolution with stride 2 and a linear layer. The decoder has a linear layer and a
# transposed convolution. The length of the latent code is by default the square root of the number of pixels, here 8.

# %% tags=["step"]
network, batch, _ = start_of_training(AutoEncoder(random_state=seed))
network

# %% [markdown]
# One step computes the reconstructions of a batch, the loss, the gradient of the loss with respect to all weights, and
# an update of the weights by the optimiser Adam. Here the batch is the whole training set. The loss is summed over the
# pixels and averaged over the images.

# %% tags=["step"]
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
latent = network["encoder"](batch)  # (90, 8)
reconstruction = network["decoder"](latent)  # (90, 1, 8, 8)
loss = (reconstruction - batch).square().flatten(1).sum(1).mean()

# %% [markdown]
# `backward` computes the gradient of the loss, and `step` updates the weights. `zero_grad` removes the gradient of an
# earlier step.

# %% tags=["step"]
optimizer.zero_grad()
loss.backward()
optimizer.step()

# %% tags=["step"]
after = (network["decoder"](network["encoder"](batch)) - batch).square().flatten(1).sum(1).mean()
print(f"loss before the step {loss:.2f}, after it {after:.2f}")

# %% [markdown]
# Training repeats this step for every batch of 64 images. An epoch is one pass over all batches.

# %% tags=["claim"]
# One epoch of the class, with all images in one batch, gives the weights of our step. The operations are the same and
# in the same order. The tolerance allows for libraries that take sums in another order.


def has_weights_of(detector, network):
    """Whether the class reaches the weights of `network` in one epoch with one batch."""
    detector.set_params(epochs=1, batch_size=len(pixels)).fit(data.X_train)
    pairs = list(zip(detector.network_.parameters(), network.parameters(), strict=True))
    return all(torch.allclose(theirs, ours, atol=1e-6) for theirs, ours in pairs)


assert has_weights_of(AutoEncoder(random_state=seed), network)
assert after < loss

# %% [markdown]
# ### Reconstructions and error maps
#
# Now we train the class for all epochs. The **error map** of an image holds the squared error of each pixel. The sum
# of the map is the score, so the map shows which pixels contribute to it.

# %%
detector = AutoEncoder(epochs=epochs, random_state=seed).fit(data.X_train)
shown = np.concatenate([normal[:4], anomalies[np.linspace(0, len(anomalies) - 1, 6).astype(int)]])
reconstructions, maps = detector.reconstruct(shown), detector.anomaly_map(shown)

# %%
rows = {"input": shown[..., 0], "reconstruction": reconstructions[..., 0], "error": maps}
titles = ["normal"] * 4 + ["anomaly"] * 6
fig = plots.image_rows(rows, titles, colors={"normal": plots.NORMAL, "anomaly": plots.ANOMALY})
scores = pd.DataFrame({"score": detector.anomaly_score(shown), "anomaly": [0] * 4 + [1] * 6})
nb.figure(fig, "autoencoder_reconstructions", data=scores)

# %% [markdown]
# The normal digits are reconstructed well, and their error is small. The reconstructions of the anomalies resemble the
# normal digit. Their error is large at the pixels where the two digits differ. The table shows the mean scores of the
# whole test set.

# %%
mean_scores = {"normal": detector.anomaly_score(normal).mean(), "anomaly": detector.anomaly_score(anomalies).mean()}
pd.Series(mean_scores, name="mean score").round(2).to_frame()

# %% tags=["claim"]
# The anomalies have more than twice the error; that the map sums to the score holds up to the rounding of float32.
assert mean_scores["anomaly"] > 2 * mean_scores["normal"]
assert np.allclose(maps.sum(axis=(1, 2)), detector.anomaly_score(shown), rtol=1e-4)

# %% [markdown]
# ### The length of the latent code
#
# How narrow must the bottleneck be? We train autoencoders with latent codes from one number up to as many numbers as
# there are pixels. Each trained network is compared with the **untrained network**, the same network with its initial
# weights. The untrained network is the control of every deep detector in this course. If it reaches the same AUROC as
# the trained network, the training has contributed nothing.

# %%
rows = []
for length in code_lengths:
    untrained = AutoEncoder(latent_dim=length, epochs=0, random_state=seed).fit(data.X_train)
    trained = AutoEncoder(latent_dim=length, epochs=epochs, random_state=seed).fit(data.X_train)
    errors = [trained.anomaly_score(part).mean() for part in (normal, anomalies)]
    rows.append([length, evaluate(trained, data).auroc, evaluate(untrained, data).auroc, *errors])
columns = ["code length", "trained", "untrained", "error, normal", "error, anomaly"]
bottleneck = pd.DataFrame(rows, columns=columns).set_index("code length")
bottleneck.round(3)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.7), layout="constrained")
by_length = bottleneck.rename(index=str)
colors = [plots.NORMAL, plots.ANOMALY]
by_length[["error, normal", "error, anomaly"]].plot(ax=left, style=["o-", "^--"], color=colors, ylim=(0, None))
left.set_ylabel("mean squared error")
by_length[["trained", "untrained"]].plot(ax=right, style=["o-", "s--"], ylabel="AUROC")
for axis in (left, right):
    axis.set_xticks(range(len(by_length)), by_length.index)
    axis.set_xlabel("length of the latent code")
nb.figure(fig, "bottleneck", data=bottleneck.reset_index())

# %% [markdown]
# A longer latent code reduces the error of the normal digits, and also that of the anomalies. What matters for
# detection is the *difference* between the two curves. A single number is too short for the different ways of writing
# a digit. In this experiment even the longest latent code detects well, because training stops long before the network
# can reconstruct everything. On the ring data of the next section this is different.
#
# In practice only the curve of the normal samples is known during training. How well the network reconstructs
# anomalies cannot be observed. The variants below address this problem.

# %% tags=["claim"]
# 0.05 is far below the differences that are seen here; the comparisons of lengths need at least two of them.
assert (bottleneck["trained"] > bottleneck["untrained"] + 0.05).all(), "training improves on the untrained network"
if len(bottleneck) > 1:
    assert bottleneck["error, normal"].iloc[-1] < bottleneck["error, normal"].iloc[0]
    assert bottleneck["error, anomaly"].iloc[-1] < bottleneck["error, anomaly"].iloc[0]
    assert bottleneck["trained"].max() > bottleneck["trained"].iloc[0], "one number is not the best length"

# %% [markdown]
# ## 2. The denoising autoencoder
#
# Vincent et al. (2008) changed the task. The network receives a corrupted sample $q(x)$ and must reconstruct the
# *clean* sample:
#
# $$\min_{f, g} \sum_x \lVert x - g(f(q(x))) \rVert^2 .$$
#
# Only the input is corrupted, the target is not. **Masking noise** sets each pixel to zero with a given probability.
# **Gaussian noise** adds a random number to each pixel. A network that only passes its input through has a large loss
# in this task. To remove the noise, the network must represent which pixel values belong together in normal samples.
# For this reason the latent code may be long.
#
# ### One training step
#
# Compared with the plain autoencoder, one line is new. It draws the mask that sets 30% of the pixels to zero.

# %% tags=["step"]
network, batch, generator = start_of_training(DenoisingAutoEncoder(random_state=seed))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
kept = torch.rand(batch.shape, generator=generator) >= 0.3
reconstruction = network["decoder"](network["encoder"](batch * kept))
loss = (reconstruction - batch).square().flatten(1).sum(1).mean()  # the target is the clean batch

# %% tags=["step"]
optimizer.zero_grad()
loss.backward()
optimizer.step()

# %% tags=["claim"]
assert has_weights_of(DenoisingAutoEncoder(noise="masking", corruption=0.3, random_state=seed), network)

# %% [markdown]
# ### Restored images
#
# We compare a denoising and a plain autoencoder. Both have a latent code with 64 numbers for 64 pixels. Both receive
# unseen normal digits in which 30% of the pixels were set to zero.

# %%
options = {"latent_dim": 64, "epochs": 4 * epochs, "random_state": seed}
denoiser = DenoisingAutoEncoder(noise="masking", corruption=0.3, **options).fit(data.X_train)
plain = AutoEncoder(**options).fit(data.X_train)

# %%
clean = normal[:8]
corrupted = clean * (np.random.default_rng(seed).random(clean.shape) >= 0.3)
restored = {"denoising AE": denoiser.reconstruct(corrupted), "plain AE": plain.reconstruct(corrupted)}

# %%
images = {"clean": clean, "corrupted": corrupted} | restored
fig = plots.image_rows({name: part[..., 0] for name, part in images.items()})
distances = pd.DataFrame(
    {name: np.sqrt(np.mean((part / 255 - clean / 255) ** 2, axis=(1, 2, 3))) for name, part in images.items()}
).drop(columns="clean")
nb.figure(fig, "denoising", data=distances)

# %% [markdown]
# The plain autoencoder also reconstructs the missing pixels as missing. The denoising autoencoder restores most of
# them. The table shows the distance to the clean image, as a root mean square over the pixels, where white is 1.

# %%
distances.mean().rename("distance to the clean image").round(3).to_frame()

# %% tags=["claim"]
# At most 80% of the other distances, where less than 70% is usual.
assert distances["denoising AE"].mean() < 0.8 * distances["plain AE"].mean()
assert distances["denoising AE"].mean() < 0.8 * distances["corrupted"].mean()

# %% [markdown]
# ### The step back to the data
#
# What does a denoiser learn? For Gaussian noise with a small variance $\sigma^2$, the best denoiser satisfies
# (Alain and Bengio 2014)
#
# $$g(f(x)) - x \approx \sigma^2 \nabla \log p(x).$$
#
# The step from a point to its reconstruction is thus proportional to the gradient of the log-density of normal samples.
# It points towards regions of higher density. The squared length of this step is the anomaly score.
#
# In two dimensions the steps can be drawn. The training samples lie on a ring. The latent code has 32 numbers, many
# more than the two coordinates of a sample, so there is no bottleneck.

# %% tags=["step"]
rng = np.random.default_rng(seed)
angles = rng.uniform(0, 2 * np.pi, 500)
ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) + rng.normal(0, 0.03, (500, 2))

# %% tags=["step"]
wide = {"latent_dim": 32, "hidden": (64,), "dropout": 0.0, "epochs": max(30, epochs), "random_state": seed}
plain_ring = AutoEncoder(**wide).fit(ring)
denoising_ring = DenoisingAutoEncoder(corruption=0.25, **wide).fit(ring)

# %% tags=["step"]
side = np.linspace(-1.6, 1.6, 17)
grid = np.stack([axis.ravel() for axis in np.meshgrid(side, side)], axis=1)
steps = {"plain AE": plain_ring.reconstruct(grid) - grid, "denoising AE": denoising_ring.reconstruct(grid) - grid}

# %%
fig, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.5), layout="constrained", sharex=True, sharey=True)
for axis, (name, step) in zip(axes, steps.items()):
    axis.plot(*ring.T, ".", ms=2, color=plots.NORMAL)
    axis.quiver(*grid.T, *step.T, angles="xy", scale_units="xy", scale=1, width=0.004, color="0.3")
    axis.set(title=name, aspect="equal", xlim=(-1.8, 1.8), ylim=(-1.8, 1.8))
frame = pd.DataFrame(np.hstack([grid, *steps.values()]), columns=["x", "y", "plain dx", "plain dy", "dx", "dy"])
nb.figure(fig, "denoising_field", data=frame)

# %% [markdown]
# The plain autoencoder reconstructs a large part of the plane well, because nothing restricts it. Its steps are short
# even in the middle of the ring, where there is no training sample, and the score there is small. The steps of the
# denoising autoencoder lead to the ring from both sides.

# %% tags=["claim"]
# Of the grid points away from the ring and its centre, 90% at least move closer to the ring.
radius = np.linalg.norm(grid, axis=1)
off = (np.abs(radius - 1) > 0.3) & (radius > 0.2)
lengths = {name: np.linalg.norm(step[off], axis=1).mean() for name, step in steps.items()}
closer = np.abs(np.linalg.norm(grid + steps["denoising AE"], axis=1) - 1)[off] < np.abs(radius - 1)[off]
assert lengths["denoising AE"] > 2 * lengths["plain AE"]
assert closer.mean() > 0.9

# %% [markdown]
# ### The stacked denoising autoencoder
#
# Deep networks were once difficult to train from random initial weights. Vincent et al. (2010) trained them one layer
# at a time. Each layer and its mirror image in the decoder form a denoising autoencoder. Once it is trained, its output
# for *clean* samples is the training set of the next layer. **Only the layer in training receives noise.** This is the
# pretraining. After it, all layers are trained together on clean samples, which is called fine-tuning.
#
# Our network has two levels. We do one step of pretraining for each level, with masking noise.

# %% tags=["step"]
network, batch, generator = start_of_training(StackedDenoisingAutoEncoder(random_state=seed))
encoder, decoder = network["encoder"], network["decoder"]
inputs = pixels  # the training set of the first level
for layer, mirror in [(encoder[:3], decoder[1:]), (encoder[3:], decoder[:1])]:
    optimizer = torch.optim.Adam([*layer.parameters(), *mirror.parameters()], lr=3e-3)
    noisy = batch * (torch.rand(batch.shape, generator=generator) >= 0.3)
    loss = (mirror(layer(noisy)) - batch).square().flatten(1).sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    inputs = layer(inputs).detach()  # the training set of the next level
    order = torch.randperm(len(inputs), generator=generator)
    batch = inputs[order]

# %% [markdown]
# The first part of the encoder ends with `Flatten`, so the decoder's part begins with `Unflatten`. A step of
# fine-tuning is that of the plain autoencoder.

# %% tags=["step"]
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
batch = pixels[order]
loss = (decoder(encoder(batch)) - batch).square().flatten(1).sum(1).mean()
optimizer.zero_grad()
loss.backward()
optimizer.step()

# %% tags=["claim"]
stacked = StackedDenoisingAutoEncoder(noise="masking", corruption=0.3, pretraining_epochs=1, random_state=seed)
assert has_weights_of(stacked, network)

# %% [markdown]
# `StackedDenoisingAutoEncoder` repeats these steps. We compare the fine-tuning after pretraining with a training from
# random weights.

# %%
tuning = pd.DataFrame(index=pd.RangeIndex(1, epochs + 1, name="epoch"))
for name, pretraining in (("pretrained", 2 * epochs), ("random weights", 0)):
    stacked = StackedDenoisingAutoEncoder(
        noise="masking", pretraining_epochs=pretraining, epochs=epochs, random_state=seed
    ).fit(data.X_train)
    tuning[name] = [record["loss"] for record in stacked.history_[-epochs:]]

# %%
axis = tuning.plot(style=["-", "--"], ylim=(0, None), figsize=(5, 2.6))
axis.set(xlabel="epoch of fine-tuning", ylabel="squared error")
nb.figure(axis.figure, "stacked_fine_tuning", data=tuning.reset_index())

# %% [markdown]
# The pretrained network starts with an error that the other network reaches only after many epochs. With current
# optimisers and initial weights the other network reaches it, too. For this reason such pretraining is rare today.

# %% tags=["claim"]
assert tuning["pretrained"].iloc[0] < 0.7 * tuning["random weights"].iloc[0]

# %% [markdown]
# ## 3. Sparse and contractive autoencoders
#
# Instead of a short latent code we can use a long one and add a **penalty** on it to the loss. The networks of this
# section differ in the penalty only. Each has one layer with a sigmoid and 64 latent units for 64 pixels. Every
# autoencoder of the course accepts a network of your own as a function that returns encoder and decoder. The class
# `SparseAutoEncoder` adds the sigmoid itself.


# %%
def one_layer(shape, latent_dim):
    """An encoder and a decoder of one layer each."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), latent_dim))
    return encoder, nn.Sequential(nn.Linear(latent_dim, math.prod(shape)), nn.Unflatten(1, shape))


# %% [markdown]
# ### The sparse autoencoder
#
# Let $a_j(x)$ be the activation of latent unit $j$. The unit is *active* near 1 and *inactive* near 0. Let $\hat p_j$
# be its mean activation over the samples. Ng (2011) asks for a small mean activation $p$, such as 0.05. The penalty is
# a Kullback-Leibler divergence between the wanted and the measured mean:
#
# $$\lambda \sum_j \mathrm{KL}(p \,\Vert\, \hat p_j), \qquad
# \mathrm{KL}(p \,\Vert\, q) = p \log \frac pq + (1 - p) \log \frac{1 - p}{1 - q}.$$
#
# Each sample is then represented by the few units that are active for it.

# %%
network, batch, _ = start_of_training(SparseAutoEncoder(network=one_layer, random_state=seed))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
activation = network["encoder"](batch)  # (90, 64), in (0, 1)
p, p_hat = 0.05, activation.mean(0)
divergence = p * torch.log(p / p_hat) + (1 - p) * torch.log((1 - p) / (1 - p_hat))

# %% [markdown]
# The divergence has one value per latent unit. Its sum is added to the reconstruction error.

# %% tags=["step"]
error = (network["decoder"](activation) - batch).square().flatten(1).sum(1).mean()
loss = error + 1.0 * divergence.sum()  # λ = 1
optimizer.zero_grad()
loss.backward()
optimizer.step()

# %% tags=["claim"]
assert has_weights_of(SparseAutoEncoder(network=one_layer, sparsity_weight=1.0, random_state=seed), network)

# %% [markdown]
# A simpler penalty is **weight decay**, $\lambda \sum_{ij} W_{ij}^2$ on the weights. It makes no unit inactive.
#
# ### The contractive autoencoder
#
# Rifai et al. (2011) penalise the Jacobian of the encoder, $J_{ji} = \partial a_j / \partial x_i$. It is the
# sensitivity of each latent unit to each pixel:
#
# $$\lambda \sum_x \lVert J(x) \rVert_F^2, \qquad \lVert J \rVert_F^2 = \sum_j \big(a_j (1 - a_j)\big)^2 \sum_i W_{ji}^2
# \ \text{ for one sigmoid layer.}$$
#
# A small reconstruction error requires sensitivity in the directions in which normal digits vary. In all other
# directions sensitivity only increases the penalty.
#
# The decoder uses the transposed weights of the encoder. With weights of its own, it could compensate for smaller
# weights of the encoder. The penalty would then be small although the network had learned nothing.

# %%
network, batch, _ = start_of_training(ContractiveAutoEncoder(random_state=seed))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
weight = network["encoder"][0][1][0].weight  # W, (64, 64)
activation = network["encoder"](batch)
contraction = ((activation * (1 - activation)).square() @ weight.square().sum(1)).mean()

# %% tags=["step"]
error = (network["decoder"](activation) - batch).square().flatten(1).sum(1).mean()
loss = error + 1.0 * contraction  # λ = 1
optimizer.zero_grad()
loss.backward()
optimizer.step()

# %% tags=["claim"]
assert has_weights_of(ContractiveAutoEncoder(contraction=1.0, random_state=seed), network)

# %% [markdown]
# ### Comparison of the penalties
#
# We train four networks: without penalty, with weight decay, sparse, and contractive. The weight $\lambda$ of the
# sparse autoencoder is larger here than the default of the class, so that its effect is clearly visible.

# %%
options = {"latent_dim": 64, "epochs": 3 * epochs, "random_state": seed}
penalized = {
    "no penalty": SparseAutoEncoder(network=one_layer, sparsity_weight=0.0, **options),
    "weight decay": SparseAutoEncoder(network=one_layer, sparsity_weight=0.0, weight_decay=1e-3, **options),
    "sparse": SparseAutoEncoder(network=one_layer, sparsity_weight=1.0, **options),
    "contractive": ContractiveAutoEncoder(contraction=1.0, **options),
}
activations = {name: each.fit(data.X_train).encode(normal) for name, each in penalized.items()}

# %% [markdown]
# How are the two penalties related? The slope of the sigmoid is $a(1 - a)$. It is at most 1/4, and nearly 0 where $a$
# is near 0 or 1, in the two *flat parts* of the curve. An inactive unit lies in a flat part, so its row of the
# Jacobian is small. A sparse autoencoder should therefore also be contractive. To test this, we compute the Jacobian of
# each encoder by automatic differentiation. Its singular values are the sensitivities in its own directions, from the
# most to the least sensitive one.


# %% tags=["step"]
def jacobians(detector, images):
    """∂ latent code / ∂ pixels at each image, (n, code length, pixels)."""
    encoder = detector.network_["encoder"]
    jacobian = torch.func.jacrev(lambda sample: encoder(sample[None])[0])
    return torch.func.vmap(jacobian)(as_tensor(images)).flatten(2).detach()


spectra = pd.DataFrame(
    {name: torch.linalg.svdvals(jacobians(each, normal)).mean(0).numpy() for name, each in penalized.items()},
    index=pd.RangeIndex(1, 65, name="direction"),
)

# %%
rows = {}
for name, each in penalized.items():
    flat = (activations[name] < 0.1) | (activations[name] > 0.9)
    errors, area = each.anomaly_score(normal), evaluate(each, data).auroc
    rows[name] = [activations[name].mean(), 100 * flat.mean(), (spectra[name] ** 2).sum(), errors.mean(), area]
columns = ["mean activation", "units in the flat part (%)", "squared Jacobian norm", "error, normal", "AUROC"]
penalties = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("penalty")
penalties.round(3)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.9), layout="constrained")
styles = ["-", ":", "--", "-."]
for values, style in zip(activations.values(), styles):
    shape = {"bins": 20, "binrange": (0, 1), "element": "step", "fill": False}
    sns.histplot(values.ravel(), stat="percent", ls=style, ax=left, **shape)
left.set(xlabel="activation $a$", ylabel="% of units and samples", yscale="log")
spectra.plot(ax=right, style=styles, logy=True, ylim=(1e-4, None), ylabel="mean singular value", legend=False)
fig.legend(right.lines, spectra.columns, loc="outside upper center", ncols=4)
nb.figure(fig, "sparse_and_contractive", data=spectra.reset_index())

# %% [markdown]
# Both penalties reduce the singular values, in different ways. The sparse autoencoder moves its units into the flat
# part. The contractive autoencoder leaves them in the middle and reduces the *weights* where the reconstruction does
# not need them. The rule "a sparse autoencoder is nearly contractive" holds in this direction only. A contractive
# latent code need not be sparse.

# %% tags=["claim"]
# The sparse mean activation is near p = 0.05. The factor 0.5 is far from the measured one, which is below 0.1.
flat_units, norms = penalties["units in the flat part (%)"], penalties["squared Jacobian norm"]
assert abs(penalties.loc["sparse", "mean activation"] - 0.05) < 0.05
assert flat_units["sparse"] > 60 > flat_units["contractive"]
assert max(norms["sparse"], norms["contractive"]) < 0.5 * norms["no penalty"]
assert norms["weight decay"] < norms["no penalty"]

# %% [markdown]
# ### Robustness to noise
#
# The denoising autoencoder is trained to make the reconstruction $g(f(x))$ insensitive to noise. The contractive
# autoencoder is trained to make the latent code $f(x)$ insensitive. The difference matters when the latent code is the
# input of another method. We add Gaussian noise $\varepsilon$ to unseen digits and measure two quantities. The first is
# the change of the latent code, relative to the variance of the latent codes of different digits:
#
# $$\frac{E \lVert f(x + \varepsilon) - f(x) \rVert^2}{\sum_j \mathrm{Var}\, f_j(x)} .$$
#
# The second is the squared distance of the reconstruction to the clean image, $\lVert g(f(x + \varepsilon)) - x
# \rVert^2$.


# %%
def under_noise(detector, level):
    """Relative change of the latent code, and squared error of the reconstruction."""
    clean = as_tensor(normal)
    noisy = clean + level * torch.from_numpy(np.random.default_rng(seed).normal(size=clean.shape)).float()
    with torch.no_grad():
        code, changed = (detector.network_["encoder"](part) for part in (clean, noisy))
        error = (detector.reconstruction(noisy) - clean).square().sum((1, 2, 3)).mean()
    return float((changed - code).square().sum(1).mean() / code.var(0).sum()), float(error)


# %% [markdown]
# `DenoisingAutoEncoder` adds no sigmoid to a network of your own, so the function below adds it to `one_layer`.


# %%
def one_sigmoid_layer(shape, latent_dim):
    """As `one_layer`, with a sigmoid."""
    encoder, decoder = one_layer(shape, latent_dim)
    return nn.Sequential(encoder, nn.Sigmoid()), decoder


# %%
denoising = DenoisingAutoEncoder(network=one_sigmoid_layer, corruption=0.3, **options).fit(data.X_train)
compared = {"no penalty": penalized["no penalty"], "denoising": denoising, "contractive": penalized["contractive"]}
levels = [0.05, 0.1, 0.2, 0.3]
rows = [[name, level, *under_noise(each, level)] for name, each in compared.items() for level in levels]
columns = ["autoencoder", "noise", "change of the latent code", "error of the reconstruction"]
robustness = pd.DataFrame(rows, columns=columns)

# %%
fig, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.8), layout="constrained")
for axis, column in zip(axes, columns[2:]):
    by_noise = robustness.pivot(index="noise", columns="autoencoder", values=column)[list(compared)]
    by_noise.plot(ax=axis, style=["o-", "s--", "^-."], ylim=(0, None), legend=axis is axes[0])
    axis.set(xlabel="sd of the noise (white = 1)", ylabel=column)
nb.figure(fig, "code_robustness", data=robustness)

# %% [markdown]
# The latent code of the contractive autoencoder changes least. The denoising autoencoder restores the image better.
# Each method is robust in the quantity that its loss contains.

# %% tags=["claim"]
change, errors = (robustness.pivot(index="noise", columns="autoencoder", values=column) for column in columns[2:])
assert (change["contractive"] < change["denoising"]).all()
assert (change["denoising"] < change["no penalty"]).all()
assert (errors["denoising"] < errors["contractive"]).all()

# %% [markdown]
# ## In this notebook
#
# - An autoencoder scores a sample by its reconstruction error. The error map shows which pixels contribute.
# - A longer latent code reduces the error of normal samples and of anomalies. The training loss contains only the former.
# - An untrained network is the control of a trained one.
# - A **denoising** autoencoder learns the step from a corrupted sample to the normal samples. The squared length of the
#   step is the score. It needs no bottleneck.
# - **Stacked** denoising autoencoders are trained layer by layer, with noise for the layer in training only.
# - **Sparse** and **contractive** latent codes are both insensitive to small changes. The first has most units in the
#   flat part of the sigmoid, the second has small weights in directions that the reconstruction does not need.
#
# ## Exercises
#
# **1. Predict: the sign of the difference.** The error map of an anomaly has two kinds of bright pixels: ink that the
# normal digit does not have, and ink that is missing. Which sign does $x - g(f(x))$ have for each? Which kind has the
# larger mean square for the digits that are not normal?
#
# <details><summary>Hint</summary>
#
# Ink is bright, so its pixel values are large. Take the positive and the negative part of the difference by `clip`.
#
# </details>

# %% tags=["solution"]
model = AutoEncoder(epochs=epochs, random_state=seed).fit(data.X_train)
difference = anomalies.astype(float) - model.reconstruct(anomalies)
surplus, missing = np.square(difference.clip(0, None)).mean(), np.square(difference.clip(None, 0)).mean()
assert digit != 9 or surplus > missing
print(f"mean squares: additional ink (positive) {surplus:.0f}, missing ink (negative) {missing:.0f}")

# %% [markdown]
# **2. Change: the mean of five networks.** With `n_estimators=5` a detector averages the scores of five networks. Does
# this help the sparse autoencoder on the digits, compared with the mean AUROC of three single networks?
#
# <details><summary>Hint</summary>
#
# Fit `SparseAutoEncoder` with three different values of `random_state`. Then fit it once with `n_estimators=5`.
#
# </details>

# %% tags=["solution"]
models = [SparseAutoEncoder(epochs=epochs, random_state=seed + i) for i in range(3)]
single = np.mean([evaluate(model.fit(data.X_train), data).auroc for model in models])
five = SparseAutoEncoder(epochs=epochs, n_estimators=5, random_state=seed).fit(data.X_train)
several = evaluate(five, data).auroc
assert several > single - 0.02
print(f"AUROC of one network {single:.3f}, of the mean of five {several:.3f}")

# %% [markdown]
# **3. Build: a corruption of your own.** Write an autoencoder that sees each image without one of its columns, chosen at
# random. Override the method `corrupt` only.
#
# <details><summary>Hint</summary>
#
# `corrupt(batch, generator)` receives a tensor (n, 1, 8, 8). Draw one column per image by `torch.randint` and multiply
# the batch by a mask.
#
# </details>


# %% tags=["solution"]
class ColumnEraser(AutoEncoder):
    """Sees digits without one of their columns of pixels."""

    def corrupt(self, batch, generator):
        width = batch.shape[3]
        erased = torch.randint(width, (len(batch),), generator=generator)
        return batch * (torch.arange(width) != erased[:, None])[:, None, None, :]


erased_area = evaluate(ColumnEraser(epochs=epochs, random_state=seed).fit(data.X_train), data).auroc
assert erased_area > 0.85
print(f"AUROC {erased_area:.3f}")

# %% [markdown]
# **4. On paper: the Jacobian of a sigmoid layer.** Let $a = \sigma(Wx + b)$ with the sigmoid $\sigma$ applied to each
# unit. Show that $\lVert J \rVert_F^2 = \sum_j (a_j (1 - a_j))^2 \sum_i W_{ji}^2$.
#
# <details><summary>Hint</summary>
#
# First show $\sigma'(t) = \sigma(t)(1 - \sigma(t))$. Then use the chain rule for one entry $\partial a_j / \partial
# x_i$.
#
# </details>

# %% [markdown] tags=["solution"]
# From $\sigma(t) = 1 / (1 + e^{-t})$ follows $\sigma'(t) = e^{-t} / (1 + e^{-t})^2 = \sigma(t) (1 - \sigma(t))$. With
# $t_j = \sum_i W_{ji} x_i + b_j$ the chain rule gives $J_{ji} = \sigma'(t_j) W_{ji} = a_j (1 - a_j) W_{ji}$. The
# squared Frobenius norm is the sum of all $J_{ji}^2$. The factor $(a_j (1 - a_j))^2$ does not depend on $i$, so it
# stands before the inner sum.

# %% tags=["solution"]
contractive = penalized["contractive"]
weight = contractive.network_["encoder"][0][1][0].weight.detach()
a = contractive.network_["encoder"](as_tensor(normal)).detach()
closed_form = (a * (1 - a)).square() @ weight.square().sum(1)
assert torch.allclose(closed_form, jacobians(contractive, normal).square().sum((1, 2)), rtol=1e-4)

# %% tags=["results"]
sorted_maps = np.sort(maps[4:].reshape(len(maps) - 4, -1), axis=1)
nb.value("error_in_brightest_pixels", (sorted_maps[:, -8:].sum(1) / sorted_maps.sum(1)).mean())
nb.value("best_bottleneck", bottleneck["trained"].max())
nb.value(
    "error_lost_to_longer_codes", 1 - bottleneck["error, anomaly"].iloc[-1] / bottleneck["error, anomaly"].iloc[0]
)
nb.table(penalties, "code_penalties")
nb.finish()

# %% [markdown]
# ## References
#
# - G. Alain, Y. Bengio (2014). What regularized auto-encoders learn from the data-generating distribution. *Journal of
#   Machine Learning Research* 15.
# - G. E. Hinton, R. R. Salakhutdinov (2006). Reducing the dimensionality of data with neural networks. *Science* 313.
# - A. Ng (2011). Sparse autoencoder. *CS294A lecture notes*, Stanford.
# - S. Rifai, P. Vincent, X. Muller, X. Glorot, Y. Bengio (2011). Contractive auto-encoders: explicit invariance during
#   feature extraction. *ICML*.
# - P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol (2008). Extracting and composing robust features with denoising
#   autoencoders. *ICML*.
# - P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio, P.-A. Manzagol (2010). Stacked denoising autoencoders. *Journal of
#   Machine Learning Research* 11.
