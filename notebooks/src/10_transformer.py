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
# # One transformer for images and tables
#
# A transformer reads *tokens*: a set of vectors, each with a mark of its position. An image can be divided into cells
# and a row of a table into columns, and then the same network can read both. This notebook trains one transformer on
# normal images and normal rows, and uses it to detect anomalies in both.
#
# The training task is more important than the architecture. A simple and plausible training task has a trivial solution:
# a network that ignores its input has a loss near 0. We train this network first, measure how it collapses, and
# then replace the task.
#
# **You will learn**
#
# - how images and rows become tokens, and how an attention layer computes;
# - why targets that depend on the trained weights collapse, and how to measure the collapse;
# - to train with two tasks that need knowledge of normal data: hidden tokens and synthetic negatives;
# - to resume an interrupted training run with bitwise equal results;
# - to measure what training adds to the score of the untrained network;
# - what attention maps show, and why they do not explain an anomaly;
# - to check a data set for properties that separate normal images from anomalies without any defect.
#
# Reading time: 40 minutes. Running time: 3 minutes.
#
# Terms in the [glossary](glossary.md), in English and Chinese: [token](glossary.md#Token),
# [transformer](glossary.md#Transformer), [attention](glossary.md#Attention), [collapse](glossary.md#Collapse),
# [synthetic negative](glossary.md#Synthetic-negative), [untrained network](glossary.md#Untrained-network).

# %% [markdown]
# ## Parameters
#
# The defaults need no download. The data of the course are `mvtec/hazelnut` and `thyroid`.

# %% tags=["parameters"]
image_dataset: str = "synthetic/hazelnut"  # images with masks of the defects
table_dataset: str = "injected/dependency/digits/8"  # rows whose anomalies break the relations between columns
grid: int = 7  # tokens per side of an image, at least 2
width: int = 64  # dimensions of a latent code, a multiple of 4
epochs: int = 10  # of 20 updates per modality, at least 1
naive_epochs: int = 6  # of the training task that collapses, at least 2
n_seeds: int = 3  # networks, where a mean is shown, at least 2
n_images: int = 200  # training images used at most, at least 10
patch_size: int = 8  # px per side of a patch of pixels
seed: int = 0  # of all random generators

# %%
import copy
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import nn

# %%
from mmad_utils import GaussianAnomalyScorer, MultiModalAnomalyTransformer, metrics, plots
from mmad_utils.course import notebook
from mmad_utils.datasets import read_image
from mmad_utils.multimodal.transformer_tasks import cut_and_paste, swap_columns

nb = notebook.start("10_transformer")

# %%
image, table = nb.load(image_dataset, seed=seed), nb.load(table_dataset, seed=seed).as_table()
train = {"image": image.X_train[:n_images], "tabular": table.X_train}
test = {"image": image.X_test, "tabular": table.X_test}
y_test = {"image": image.y_test, "tabular": table.y_test}
dataset = {"image": image_dataset, "tabular": table_dataset}
print(image, table, sep="\n")

# %% [markdown]
# ## 1. Samples as tokens
#
# - **Images.** An image is divided into a grid of cells. A token holds the features that a frozen pretrained backbone
#   computes for one cell: several layers, averaged over the cell, each channel standardised. Section 6 uses the pixels
#   instead.
# - **Rows.** A token is the value of one column. Each column is scaled with
#   $\operatorname{arcsinh}((x-\text{median})/\text{IQR})$, which reduces long tails, and then standardised.
#
# The network maps each token to a vector of the same dimension, with a linear layer for images and with
# $e_j = x_j w_j + b_j$ for column $j$ of a row. It adds a vector for the position and one for the modality, and puts a
# class token in front:
#
# $$h^0 = [\,c,\; e_1 + p_1 + m,\; \dots,\; e_p + p_p + m\,].$$
#
# The layers are shared by both modalities. Each modality has its own head that predicts tokens from latent codes. One
# shared head computes a score from the latent code of the class token.

# %%
options = {"grid": grid, "width": width, "random_state": seed}
untrained = MultiModalAnomalyTransformer(epochs=0, **options).fit(train)

# %%
weights = {part: sum(w.numel() for w in module.parameters()) for part, module in untrained.network_.named_children()}
shared = sum(weights.get(part, 0) for part in ("layers", "norm", "score"))
every = sum(w.numel() for w in untrained.network_.parameters())
print(f"{every:,} weights, of which {shared:,} are shared by both modalities")
pd.DataFrame(untrained.shapes_, index=["tokens per sample", "numbers per token"])

# %% [markdown]
# The figure shows the tokens of one image and of one row. A third of them is hidden, as in the training task of section 3.

# %%
to_tokens = {name: tokeniser.transform for name, tokeniser in untrained._tokenisers.items()}
values = to_tokens["tabular"](train["tabular"][:1])[0, :, 0].numpy()
dark = np.random.default_rng(seed).random(len(values)) < 1 / 3

# %%
example = read_image(train["image"][0]).copy()
side = len(example) / grid
for cell in np.random.default_rng(seed).permutation(grid**2)[: grid**2 // 3]:
    top, left = int(cell // grid * side), int(cell % grid * side)
    example[top : int(top + side), left : int(left + side)] = 255

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), layout="constrained", width_ratios=[1, 1.3])
axes[0].imshow(example)
edges = np.arange(grid + 1) * side - 0.5
axes[0].set(xticks=edges, yticks=edges, xticklabels=[], yticklabels=[], title="tokens of an image")
axes[1].bar(np.arange(len(values)), np.where(dark, np.nan, values), color=plots.NORMAL)
axes[1].plot(np.flatnonzero(dark), np.zeros(dark.sum()), "x", color="0.4", ms=4, label="hidden")
axes[1].set(title="tokens of a row", xlabel="column", ylabel="scaled value")
axes[1].legend(loc="upper right")
nb.figure(fig, "transformer_tokens", data=pd.DataFrame({"value": values, "hidden": dark}))

# %% [markdown]
# ### An attention layer
#
# Each token gives a query $q$, a key $k$ and a value $v$ by linear maps. A token receives the weighted mean of the
# values of all tokens. The weights are the softmax of $q^\top k / \sqrt{d}$ over the keys. This is done in several
# *heads*, each with its own part of the vectors. A perceptron at each token follows. Both parts normalise their input
# (pre-norm) and add their output to it.

# %% tags=["step"]
network = copy.deepcopy(untrained.network_)


def attention_layer(layer, x, heads=4):  # x (n, p, width)
    n, p, width = x.shape
    parts = layer.queries_keys_values(layer.attention_norm(x)).view(n, p, 3, heads, width // heads)
    q, k, v = parts.permute(2, 0, 3, 1, 4)  # (n, heads, p, width / heads) each
    attention = (q @ k.transpose(2, 3) / (width // heads) ** 0.5).softmax(dim=-1)
    x = x + layer.join((attention @ v).transpose(1, 2).flatten(2))
    return x + layer.perceptron(layer.perceptron_norm(x))


# %% [markdown]
# The whole network for rows: embedding, position, modality, class token, layers, and a last normalisation. A hidden
# token is replaced by a learned vector, so that the network knows its position and not its value.


# %% tags=["step"]
def latent_codes(x, hide):  # x (n, p, 1), hide (n, p) -> class token and tokens, (n, 1 + p, width)
    embed = network.embed["tabular"]
    x = torch.where(hide[..., None], network.hidden["tabular"], x * embed.weight + embed.bias)
    x = x + network.position["tabular"] + network.modality["tabular"]
    x = torch.cat([network.class_token.expand(len(x), 1, -1), x], dim=1)
    for layer in network.layers:
        x = attention_layer(layer, x)
    return network.norm(x)


# %% tags=["claim"]
# The class computes the same latent codes; the sums in another order differ by rounding in float32.
some = to_tokens["tabular"](train["tabular"][:8])
hide = torch.rand(some.shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.3
with torch.no_grad():
    ours, (of_class, of_tokens) = latent_codes(some, hide), untrained.network_("tabular", some, hide)
assert torch.allclose(ours, torch.cat([of_class[:, None], of_tokens], dim=1), atol=1e-5)

# %% [markdown]
# ## 2. A training task that collapses
#
# The prototype of this course used the following task. The class token summarises the sample. The tokens are
# reconstructed from the class token, and the error is an anomaly score. The score head is trained to return 0 for every
# normal sample, and a higher value is expected for anomalies. With the embedded tokens $e$, the latent code $z$ of
# the class token, a linear map $g$ and the score head $s$, the loss is
#
# $$L = \bigl\lVert e - g(z)\bigr\rVert^2 \;-\; \log\bigl(1 - \sigma(s(z))\bigr).$$
#
# We use it with our network.


# %%
class Naive(MultiModalAnomalyTransformer):
    """Reconstructs its own embedded tokens from the class token; the score of every normal sample shall be 0."""

    def build(self, shapes):
        network = super().build(shapes)
        network.reconstruct = nn.Linear(self.width, self.width)
        return network

    def losses(self, name, batch, generator):
        z, _ = self.network_(name, batch)
        error = (self.network_.embed[name](batch) - self.network_.reconstruct(z)[:, None]).square().mean()
        return {"reconstruction": error, "score": -F.logsigmoid(-self.network_.score(z)).mean()}


# %% [markdown]
# We stop the training after different numbers of epochs and measure three quantities on the *test* samples, anomalies
# included. They are the standard deviation of the embedded tokens between samples, the output of the score head, and
# the AUROC of both scores.


# %%
def measure(naive, name):
    network, tokens = naive.network_, to_tokens[name](test[name])
    with torch.no_grad():
        embedded, (z, _) = network.embed[name](tokens), network(name, tokens)
        error = (embedded - network.reconstruct(z)[:, None]).square().mean((1, 2))
        score = network.score(z)[:, 0].sigmoid()
    return {
        "spread of own tokens": embedded.std(0).mean().item(),
        "mean score": score.mean().item(),
        "spread of the score": score.std().item(),
        "AUROC of the score": metrics.auroc(y_test[name], score),
        "AUROC of the error": metrics.auroc(y_test[name], error),
    }


# %%
rows = []
for n in sorted({0, 1, naive_epochs // 2, naive_epochs}):
    naive = Naive(epochs=n, validation=0.0, learning_rate=3e-3, score="head", head_weight=1.0, **options).fit(train)
    rows += [{"data": dataset[name], "epochs": n, **measure(naive, name)} for name in train]
collapse = pd.DataFrame(rows)
collapse.round(3)

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 2.8), layout="constrained")
looks = {"palette": plots.COLORS[:2], "dashes": plots.DASHES[:2], "markers": plots.MARKERS[:2]}
for axis, key in zip(axes, ("spread of own tokens", "mean score", "AUROC of the score")):
    sns.lineplot(collapse, x="epochs", y=key, hue="data", style="data", ax=axis, legend=axis is axes[0], **looks)
    axis.set(title=key, ylabel="", yscale="log" if key == "mean score" else "linear")
axes[0].set_ylim(bottom=0)
axes[2].set_ylim(0, 1)
axes[2].axhline(0.5, color="0.6", lw=1)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
axes[0].get_legend().remove()
nb.figure(fig, "transformer_collapse", data=collapse)

# %% [markdown]
# The loss decreases as it should, but the network does not learn the data. The target $e$ depends on the weights that
# are trained. The reconstruction error is small if all embedded tokens are similar, and their spread decreases towards 0. The
# score head reaches 0 for every sample with one large negative bias and ignores its input. The second term of the loss has no
# second class. Deep SVDD has the same trivial solution (notebook [07](07_one_class.ipynb)).
#
# The last column of the table shows a risk. On images the *error* has a high AUROC while the tokens collapse. The
# reconstruction has become almost constant, and the error is a distance to a centre in the features of the frozen
# backbone. On rows whose columns are plausible alone, the distance-to-centre baseline does not work, and the AUROC of
# the error is near 0.5. A high AUROC on an easy data set does not show that a network has learned.

# %% tags=["claim"]
first, last = (collapse[collapse["epochs"] == n].set_index("data") for n in (0, naive_epochs))
shrunk = last["spread of own tokens"] / first["spread of own tokens"]
assert (last["mean score"] < 0.1).all(), "the head returns 0 for any input"
if naive_epochs >= 6:
    assert (shrunk < 0.5).all(), "the targets shrink"

# %% [markdown]
# ## 3. Fixed targets and a second class
#
# Two changes remove the trivial solutions.
#
# **Hidden tokens.** We hide a random share (10% to 50%) of the tokens and predict the *input* tokens at these positions
# from the visible ones (masked autoencoding, He et al. 2022). The targets are standardised numbers that do not depend
# on the weights:
#
# $$L_\text{hidden} = \operatorname{mean}_{j \in \text{hidden}} \lVert x_j - \hat x_j(x_\text{visible})\rVert^2 .$$
#
# A constant prediction of the mean has a loss of 1. A lower loss needs knowledge of the relations between tokens.
#
# **Synthetic negatives.** The score head gets a second class, made from normal samples. In a row, some columns are
# replaced by those of another row. In an image, a rectangle is replaced by another part (CutPaste, Li et al. 2021).
# Every part is normal, and only the combination is not.

# %%
four = torch.stack([torch.tensor(read_image(path)).permute(2, 0, 1) for path in train["image"][:4]])
generator = torch.Generator().manual_seed(seed)
both = torch.cat([cut_and_paste(four, generator), cut_and_paste(four, generator, from_others=True)])

# %%
titles = ["same image"] * 4 + ["other image"] * 4
fig = plots.images(both.permute(0, 2, 3, 1).numpy(), titles, columns=4)
nb.figure(fig, "transformer_negatives", data=pd.DataFrame({"negative": titles}))

# %% [markdown]
# With backbone tokens the rectangle is cut from the grid of features.
#
# ### One training step
#
# We take 32 rows and the network of section 1. First we choose the hidden tokens and compute the error of their prediction.

# %% tags=["step"]
batch, generator = to_tokens["tabular"](train["tabular"][:32]), torch.Generator().manual_seed(seed)
n, p = batch.shape[:2]
share = 0.1 + 0.4 * torch.rand(n, 1, generator=generator)
hide = torch.rand(n, p, generator=generator).argsort(dim=1) < (share * p).ceil()

# %% tags=["step"]
predicted = network.predict["tabular"](latent_codes(batch, hide)[:, 1:])
hidden_loss = (predicted - batch)[hide].square().mean()

# %% [markdown]
# Half of the batch stays normal (label 0), the other half becomes synthetic negatives (label 1). The score head
# classifies the class tokens. Its cross-entropy has the weight 0.1.

# %% tags=["step"]
normal, source = batch.tensor_split(2)
both = torch.cat([normal, swap_columns(source, generator)])
class_tokens = latent_codes(both, torch.zeros(both.shape[:2], dtype=torch.bool))[:, 0]
labels = (torch.arange(n) >= len(normal)).float()
head_loss = F.binary_cross_entropy_with_logits(network.score(class_tokens)[:, 0], labels)

# %% tags=["step"]
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
optimizer.zero_grad()
(hidden_loss + 0.1 * head_loss).backward()
optimizer.step()
print(f"error of hidden tokens {hidden_loss.item():.3f}, cross-entropy of the score head {head_loss.item():.3f}")

# %% tags=["claim"]
# The class has the same losses with the same weights and the same random numbers, and after one step the same weights.
same = copy.deepcopy(untrained)
parts = same.losses("tabular", batch, torch.Generator().manual_seed(seed))
assert torch.isclose(parts["hidden"], hidden_loss, rtol=1e-4)
assert torch.isclose(parts["head"], 0.1 * head_loss, rtol=1e-4)
optimizer = torch.optim.AdamW(same.network_.parameters(), lr=1e-3, weight_decay=0.01)
sum(parts.values()).backward()
optimizer.step()
# The first step of Adam has the size of the learning rate. Rounding may change its sign where a gradient is almost 0.
close = [torch.isclose(a, b, atol=1e-4) for a, b in zip(network.parameters(), same.network_.parameters())]
assert torch.cat([each.flatten() for each in close]).float().mean() > 0.98

# %% [markdown]
# ### Training
#
# The training alternates between one batch of images and one batch of rows. Both modalities get the same number of
# updates, whatever the sizes of the data sets. A tenth of the *normal* training samples is held out. The weights of
# the epoch with the lowest error on their hidden tokens are kept. No test sample and no label of an anomaly is used.

# %%
folder = tempfile.TemporaryDirectory()
log = Path(folder.name) / "training.log"
detector = MultiModalAnomalyTransformer(epochs=epochs, log=log, **options).fit(train)
print(*log.read_text().splitlines()[-3:], f"kept: epoch {detector.best_epoch_}", sep="\n")

# %%
history = pd.DataFrame(detector.history_, index=pd.RangeIndex(1, epochs + 1, name="epoch"))
errors = history[["image hidden", "tabular hidden", "validation"]]
cross_entropies = history[["image head", "tabular head"]] / detector.head_weight

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
names = ["images", "rows", "held-out normal samples"]
errors.set_axis(names, axis=1).plot(ax=axes[0], style=plots.LINES[:3], ylim=(0, None))
cross_entropies.set_axis(names[:2], axis=1).plot(ax=axes[1], style=plots.LINES[:2], ylim=(0, 0.9))
axes[0].axvline(detector.best_epoch_, color="0.6", lw=1)
axes[0].set_ylabel("squared error of hidden tokens")
axes[1].axhline(np.log(2), color="0.6", lw=1)
axes[1].set_ylabel("cross-entropy of the score head")
nb.figure(fig, "transformer_history", data=history.reset_index())

# %% [markdown]
# The errors of hidden tokens decrease from about 1, the error of a constant prediction, and the error on held-out
# samples decreases as well. The cross-entropy of the score head decreases more slowly. The grey line at $\log 2$ is the
# cross-entropy of a random guess.

# %% tags=["claim"]
if epochs >= 10:
    assert history["image hidden"].iloc[-1] < 0.75 * history["image hidden"].iloc[0], (
        "tokens of images are predictable"
    )
    assert history["validation"].min() < history["validation"].iloc[0], "also those of held-out samples"

# %% [markdown]
# ### Interrupted and resumed training
#
# A long run can be interrupted. After every epoch the class writes its whole state to one file: the last network, the best
# network, the state of the optimiser, the states of the random generators and the history. The file is written under
# another name and then renamed, so that it is never incomplete. A resumed run ends with bitwise equal weights.

# %%
small = options | {"width": 16, "depth": 1, "n_heads": 2, "steps_per_epoch": 5}
only_rows = {"tabular": train["tabular"]}
path = Path(folder.name) / "run.safetensors"

# %% [markdown]
# The first run stops after two of five epochs. The second continues it, and the third is not interrupted.

# %%
MultiModalAnomalyTransformer(epochs=2, checkpoint=path, **small).fit(only_rows)
resumed = MultiModalAnomalyTransformer(epochs=5, checkpoint=path, resume=True, **small).fit(only_rows)
whole = MultiModalAnomalyTransformer(epochs=5, **small).fit(only_rows)

# %%
pairs = list(zip(resumed.network_.parameters(), whole.network_.parameters()))
print(f"weights are bitwise equal: {all(torch.equal(ours, theirs) for ours, theirs in pairs)}")

# %% [markdown]
# A run with other settings must not be resumed from this file. The class refuses it before any training.

# %%
try:
    MultiModalAnomalyTransformer(epochs=5, checkpoint=path, resume=True, learning_rate=0.1, **small).fit(only_rows)
except RuntimeError as error:
    print(str(error).replace(folder.name, "..."))

# %% tags=["claim"]
assert all(torch.equal(ours, theirs) for ours, theirs in pairs) and resumed.history_ == whole.history_

# %% [markdown]
# ## 4. What training adds to the score
#
# For scoring, every token is hidden once, an eighth of them at a time. The **residual** $r = x - \hat x$ is the part of
# a token that the other tokens do not predict.

# %% tags=["step"]
tokens, network = to_tokens["tabular"](test["tabular"]), detector.network_
p = tokens.shape[1]

# %% [markdown]
# The parts are random but always the same, so that most neighbours of a hidden token are visible.

# %% tags=["step"]
residual = torch.empty_like(tokens)
for part in torch.randperm(p, generator=torch.Generator().manual_seed(0)).tensor_split(min(p, 8)):
    hide = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    hide[:, part] = True
    with torch.no_grad():
        predicted = network.predict["tabular"](latent_codes(tokens, hide)[:, 1:])
    residual[:, part] = (tokens - predicted)[:, part]

# %% [markdown]
# The default score, `score="residual"`, is the Mahalanobis distance of the residual to the residuals of normal
# training samples. A row has one residual with all its columns. An image has one residual per position, with one Gaussian
# for all positions, and the score is the largest distance.
#
# What does an *untrained* network reach with this score? Its predictions are near 0, so that $r \approx x$, and its score is
# the Mahalanobis distance of the tokens. This is a strong detector without any training. If the data were Gaussian,
# training could not improve it. The perfect linear prediction has the residual $r = D\,\Sigma^{-1}(x - \mu)$ with a
# diagonal matrix $D$, and its Mahalanobis distance equals that of $x$ (exercise 4). With the default score, training can
# only add relations that are not linear.
#
# The score `"error"` uses the variances of the residuals without their covariances. Without training it is a
# distance-to-centre baseline and has no information about relations. Its improvement by training shows what the network
# has learned. The score `"head"` is the output of the score head.

# %% tags=["claim"]
from mmad_utils.multimodal.transformer_tasks import residuals

with torch.no_grad():
    assert torch.allclose(residual, residuals(detector.network_, "tabular", tokens), atol=1e-4)
by_hand = detector.gaussians_["tabular"].anomaly_score(residual[..., 0].double().numpy())
assert np.allclose(by_hand, detector.anomaly_score({"tabular": test["tabular"]})["tabular"], rtol=1e-3)


# %% tags=["step"]
def tokens_alone(name):
    """Mahalanobis distance of the tokens of the test samples, without a network."""
    seen, new = (to_tokens[name](X).double().numpy() for X in (train[name], test[name]))
    size = seen.shape[2] if name == "image" else seen.shape[1]
    distances = GaussianAnomalyScorer().fit(seen.reshape(-1, size)).anomaly_score(new.reshape(-1, size))
    return distances.reshape(len(new), -1).max(axis=1)


# %% tags=["step"]
def aurocs(score, i, scores):
    return [(dataset[name], score, i, metrics.auroc(y_test[name], scores[name])) for name in dataset]


# %% tags=["step"]
rng = np.random.default_rng(seed)
rows = []
for i in range(20):
    rows += aurocs("random", i, {name: rng.random(len(y)) for name, y in y_test.items()})

# %% tags=["step"]
rows += aurocs("tokens, no network", 0, {name: tokens_alone(name) for name in dataset})

# %% [markdown]
# Each of the `n_seeds` networks is scored in three ways, before and after the training. The random score and the
# tokens without a network are the other baselines.

# %% tags=["step"]
for i in range(n_seeds):
    changes = options | {"random_state": seed + i}
    trained = detector if i == 0 else MultiModalAnomalyTransformer(epochs=epochs, **changes).fit(train)
    initial = MultiModalAnomalyTransformer(epochs=0, **changes).fit(train)
    for kind, one in (("untrained", initial), ("trained", trained)):
        for score, text in (("residual", ""), ("error", ", error only"), ("head", ", score head")):
            rows += aurocs(kind + text, i, one.set_params(score=score).anomaly_score(test))
        one.set_params(score="residual")
runs = pd.DataFrame(rows, columns=["data", "score", "seed", "AUROC"])

# %%
comparison = runs.groupby(["data", "score"], sort=False)["AUROC"].agg(["mean", "std"]).rename(columns={"std": "sd"})
frame = comparison.reset_index("data")
fig = plots.comparison(frame, "AUROC", group="data", reference="untrained")
nb.figure(fig, "transformer_comparison", n=n_seeds, data=frame.reset_index())

# %% [markdown]
# The gain is the AUROC of the trained network minus that of the untrained network with the same seed.

# %% tags=["step"]
wide = runs[runs["score"] != "random"].pivot(index=["data", "seed"], columns="score", values="AUROC")
gain = pd.DataFrame({
    "residual": wide["trained"] - wide["untrained"],
    "error": wide["trained, error only"] - wide["untrained, error only"],
    "head": wide["trained, score head"] - wide["untrained, score head"],
}).rename_axis(columns="gain in AUROC")  # fmt: skip
gain.groupby("data").mean().round(4)

# %% [markdown]
# What training adds, on the default data:
#
# - **`error`**: much on rows, and a little on images. The network has learned relations between columns and between
#   positions.
# - **`residual`**: about two hundredths on rows, and nothing on images. The covariance of the untrained residuals already
#   has the linear part of the relations. On images the detector is the frozen backbone with one Gaussian. This is the
#   gain that matters for the comparison with other detectors.
# - **`head`**: much on rows. On images the trained head alone is a weak detector, and its cross-entropy is still close
#   to that of a random guess. A head has information only about the kinds of change on which it was trained.
#
# On thyroid the error of the untrained network is already a strong score. The anomalies are far from the centre
# (notebook [02](02_task4_isolation_forest.ipynb)), and the error of an untrained network increases with this distance.
# Training makes large values easier to predict. Such a table can show that a detector works, but not that it has
# learned.

# %% tags=["claim"]
means = gain.groupby("data").mean()
if epochs >= 10:
    assert means.loc[image_dataset, "error"] > 0, "the network predicts positions of an image from other positions"
    assert not table_dataset.startswith("injected/dependency") or means.loc[table_dataset, "error"] > 0.1
    # A gain of 0.005 is twice the standard deviation between seeds on the rows.
    assert not table_dataset.startswith("injected/dependency") or means.loc[table_dataset, "residual"] > 0.005
    assert image_dataset != "synthetic/hazelnut" or abs(means.loc[image_dataset, "residual"]) < 0.01
    assert table_dataset != "thyroid" or comparison.loc[(table_dataset, "untrained, error only"), "mean"] > 0.95

# %% [markdown]
# ### Evaluation with a threshold
#
# The threshold is the 95% quantile of the scores of *held-out* normal samples. The nominal false-alarm rate is 5%.

# %%
lines = {}
for name, predictions in detector.predict(test).items():
    y, alarm = y_test[name], predictions == -1
    precision, recall, f1, _ = precision_recall_fscore_support(y, alarm, average="binary", zero_division=0)
    auroc = metrics.auroc(y, detector.anomaly_score({name: test[name]})[name])
    lines[dataset[name]] = {"AUROC": auroc, "precision": precision, "recall": recall, "F1": f1}
    lines[dataset[name]] |= {"accuracy": accuracy_score(y, alarm), "false alarms": alarm[y == 0].mean()}
evaluation = pd.DataFrame(lines).T.rename_axis("task")
evaluation.round(3)

# %% [markdown]
# Compare precision and recall with the last column, the false-alarm rate. A tenth of a small training set gives an imprecise
# threshold. If the false-alarm rate is far from 5%, more held-out normal samples are needed. Accuracy has little
# information here: with few anomalies a detector without any alarm has a high accuracy.
#
# ## 5. Attention and residuals
#
# *Attention rollout* (Abnar and Zuidema 2020) multiplies the attention of all layers. It estimates how much of each token
# reaches the class token. It is often shown as an explanation. We compare it with the distance of the residual at each
# position.

# %%
severe = np.argsort(-detector.anomaly_score({"image": test["image"]})["image"] * y_test["image"])[:4]
shown, masks = [test["image"][i] for i in severe], image.masks_test[severe]

# %%
attended = detector.attention({"image": shown})["image"]
fig = plots.heatmaps(shown, attended, masks, columns=4)
fig.axes[-1].set_xlabel("attention of the class token (share)")
nb.figure(fig, "transformer_attention", data=pd.DataFrame(attended.reshape(len(attended), -1).T))

# %%
maps = detector.anomaly_map(shown)
fig = plots.heatmaps(shown, maps, masks, columns=4)
nb.figure(fig, "transformer_maps", data=pd.DataFrame(maps[:, ::16, ::16].reshape(len(maps), -1).T))

# %% [markdown]
# We compare both maps with the masks of the defects by the pixel AUROC. The baseline is a map that does not depend on the
# image: its value decreases with the distance of a pixel from the centre of the image.

# %%
size = image.masks_test.shape[1:]
y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")

# %%
maps = {
    "attention": detector.attention({"image": test["image"]})["image"].astype(np.float32),
    "residual": detector.anomaly_map(test["image"]).astype(np.float32),
    "centre of the image": np.broadcast_to(-np.hypot(y, x), image.masks_test.shape).astype(np.float32),
}

# %%
pixel = {name: metrics.pixel_auroc(image.masks_test, metrics.resize_maps(m, size)) for name, m in maps.items()}
pd.Series(pixel, name="pixel AUROC").round(3).to_frame()

# %% [markdown]
# On generated hazelnuts attention is far behind the residual. On the images of MVTec AD it can have a pixel AUROC above
# 0.9 without information about defects. Each nut is in the centre of a dark image, and every defect is on a nut. A map
# that is bright on the object, or in the centre of every image, therefore separates most defective pixels from the
# background. The value of attention also varies strongly between seeds of the network, and that of the residual does not.
# Compare an explanation with a map that does not depend on the image before you use it.

# %% tags=["claim"]
if epochs >= 10:
    assert pixel["residual"] > pixel["attention"] + (0.05 if image_dataset.startswith("synthetic/") else 0.0)
    assert pixel["residual"] > pixel["centre of the image"] or image_dataset != "mvtec/hazelnut"

# %%
attended = detector.attention({"tabular": test["tabular"]})["tabular"]
names = table.feature_names or [str(j) for j in range(attended.shape[1])]
kinds = {"normal": 0, "anomaly": 1}
part = pd.DataFrame({kind: attended[y_test["tabular"] == y].mean(axis=0) for kind, y in kinds.items()}, index=names)

# %%
fig, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
part.sort_values("normal").tail(12).plot.barh(ax=axis, color=[plots.NORMAL, plots.ANOMALY], width=0.8, legend=False)
axis.axvline(1 / len(part), color="0.5", lw=1, ls="--", label="equal shares")
axis.set(xlabel="share of the attention", ylabel="column")
fig.legend(loc="outside upper center", ncols=3)
nb.figure(fig, "transformer_columns", data=part.rename_axis("column").reset_index())

# %% [markdown]
# The columns with much attention are nearly the same for normal rows and for anomalies. Attention is a property of the
# network. It does not indicate which column of *this* row is wrong.
#
# ## 6. Without a pretrained backbone
#
# Does the same network learn from pixels alone? The tokens are now patches of pixels, and everything else stays the same.

# %%
raw = MultiModalAnomalyTransformer(epochs=epochs, tokens="patches", image_size=patch_size * grid, **options)
raw = raw.fit({"image": train["image"]})

# %%
raw_auroc = metrics.auroc(y_test["image"], raw.anomaly_score({"image": test["image"]})["image"])
backbone_auroc = comparison.loc[(image_dataset, "trained"), "mean"]
pd.Series({"patches of pixels": raw_auroc, "backbone": backbone_auroc}, name="AUROC").round(3).to_frame()

# %% [markdown]
# The backbone was trained on a million images and has features for edges and textures. A few hundred images are not enough
# to learn them. From pixels the network learns mainly that neighbouring patches are similar. On the generated
# hazelnuts this is almost enough, because their defects differ clearly from their neighbourhood in the pixels.
#
# ### Properties of a data set that reveal the anomalies
#
# Before you trust a result, check which other properties separate normal images from anomalies. We test two that
# have no information about defects: the sharpness (standard deviation of the Laplacian) and the brightness. The score
# is the distance from the median of the training images.
#
# In the hazelnuts of the course some images were reduced from twice the size and are sharper than others. Of the 78
# training images, 28 show peeled kernels on a yellow background. Of the 33 test images, 23 do, and defects on them are easy
# to detect. A detector can have a high or a low AUROC for such reasons.

# %%
from scipy.ndimage import laplace


def properties(paths):
    grey = [read_image(path).mean(axis=2) for path in paths]
    return pd.DataFrame({"sharpness": [laplace(g).std() for g in grey], "brightness": [g.mean() for g in grey]})


# %%
distance = (properties(test["image"]) - properties(train["image"]).median()).abs()
clues = distance.apply(lambda scores: metrics.auroc(y_test["image"], scores)).rename("AUROC").rename_axis("property")
clues.round(3).to_frame()

# %% tags=["claim"]
if epochs >= 10:
    assert clues.max() < backbone_auroc, "the detector uses more information than these properties"

# %% [markdown]
# ## In this notebook
#
# - Images and rows became tokens of one transformer. It is trained on batches of both in turn, and the rule for the
#   score is the same.
# - Targets that depend on the trained weights, and a score with one class only, have trivial solutions. The collapse
#   is visible in the spread of the tokens, not in the loss.
# - The prediction of hidden tokens and the detection of exchanged parts need knowledge of normal data.
# - The default score of the untrained network is the Mahalanobis distance of the tokens. Training adds relations that
#   are not linear: a little on rows, nothing on images, where the frozen backbone and one Gaussian reach the same score.
# - Attention shows from which tokens the class token takes information. Residuals show which tokens were not predicted.

# %% [markdown]
# ## Exercises
#
# **1. Predict: a relation that is not linear.** A table has two columns with $x_2 = x_1^2$ plus a little noise, and $x_1$
# is symmetric around 0. Does the untrained network detect rows with a wrong $x_2$? Does the trained network?
#
# <details><summary>Hint</summary>
#
# Compute the correlation of $x_1$ and $x_2$.
#
# </details>

# %% tags=["solution"]
rng = np.random.default_rng(seed)
x = rng.uniform(-1, 1, (700, 1))
square = np.hstack([x, x**2 + 0.02 * rng.normal(size=x.shape)])
wrong = np.hstack([square[500:600, :1], rng.permutation(square[500:600, 1:])])
y = np.repeat([0, 1], 100)
curved = {}
for n in (0, epochs):
    one = MultiModalAnomalyTransformer(epochs=n, width=32, random_state=seed).fit({"tabular": square[:500]})
    curved[n] = metrics.auroc(y, one.anomaly_score({"tabular": np.vstack([square[600:], wrong])})["tabular"])
assert curved[epochs] > curved[0] + 0.1 or epochs < 10
pd.Series(curved, name="AUROC").rename_axis("epochs").round(3).to_frame()

# %% [markdown] tags=["solution"]
# The columns are uncorrelated, so that a Gaussian has no information about their relation. The trained network predicts
# $x_1^2$.

# %% [markdown]
# **2. Change: fewer hidden tokens.** Train on rows only and hide 5% of the tokens (`mask_share=(0.05, 0.05)`). Compare the
# error of hidden tokens and the AUROC with those of the default.
#
# <details><summary>Hint</summary>
#
# How many predictions does one training step learn from?
#
# </details>

# %% tags=["solution"]
by_share = {}
for text, change in (("default", {}), ("5% hidden", {"mask_share": (0.05, 0.05)})):
    one = MultiModalAnomalyTransformer(epochs=epochs, **options, **change).fit(only_rows)
    auroc = metrics.auroc(y_test["tabular"], one.anomaly_score({"tabular": test["tabular"]})["tabular"])
    by_share[text] = {"AUROC": auroc, "hidden error": one.history_[-1]["tabular hidden"]}
if epochs >= 10 and table_dataset.startswith("injected/dependency"):
    assert by_share["5% hidden"]["hidden error"] > by_share["default"]["hidden error"]
pd.DataFrame(by_share).T.round(3)

# %% [markdown] tags=["solution"]
# Each step learns from fewer predictions, and the error of hidden tokens stays larger. The AUROC changes little.

# %% [markdown]
# **3. Build: a network for rows only.** Train a network on rows only. Compare its AUROC with that of the network that was
# trained on both modalities. Do the images help?
#
# <details><summary>Hint</summary>
#
# `fit` takes a dictionary with one or both modalities.
#
# </details>

# %% tags=["solution"]
alone = MultiModalAnomalyTransformer(epochs=epochs, **options).fit(only_rows)
rows_only = metrics.auroc(y_test["tabular"], alone.anomaly_score({"tabular": test["tabular"]})["tabular"])
with_images = comparison.loc[(table_dataset, "trained"), "mean"]
assert abs(with_images - rows_only) < 0.05 or epochs < 10
print(f"AUROC with rows only {rows_only:.3f}, with both modalities {with_images:.3f}")

# %% [markdown] tags=["solution"]
# The images neither help nor harm. They are other data and have little in common with the rows.

# %% [markdown]
# **4. On paper: the residual of a Gaussian.** Let $r = D\,\Sigma^{-1}(x-\mu)$ with an invertible diagonal matrix $D$ and
# $\operatorname{Cov}(x) = \Sigma$. Show that the Mahalanobis distance of $r$ equals that of $x$.
#
# <details><summary>Hint</summary>
#
# $\operatorname{Cov}(Ax) = A\,\Sigma\,A^\top$.
#
# </details>

# %% [markdown] tags=["solution"]
# With $A = D\Sigma^{-1}$ the covariance of $r$ is $A\Sigma A^\top$. Its inverse is
# $A^{-\top}\Sigma^{-1}A^{-1}$. Therefore
# $r^\top \operatorname{Cov}(r)^{-1} r = (x-\mu)^\top A^\top A^{-\top}\Sigma^{-1}A^{-1}A\,(x-\mu)
# = (x-\mu)^\top\Sigma^{-1}(x-\mu)$.

# %% tags=["solution"]
x = np.random.default_rng(seed).normal(size=(300, 4)) @ np.triu(np.ones((4, 4)))
precision = np.linalg.inv(np.cov(x.T))
r = (x - x.mean(axis=0)) @ precision / np.diag(precision)  # what the other columns do not predict
of_x, of_r = (GaussianAnomalyScorer("empirical").fit(rows).anomaly_score(rows) for rows in (x, r))
assert np.allclose(of_x, of_r)

# %% [markdown]
# ## References
#
# - A. Vaswani et al. (2017), Attention is all you need, NeurIPS.
# - A. Dosovitskiy et al. (2021), An image is worth 16×16 words, ICLR.
# - Y. Gorishniy, I. Rubachev, V. Khrulkov, A. Babenko (2021), Revisiting deep learning models for tabular data, NeurIPS.
# - K. He et al. (2022), Masked autoencoders are scalable vision learners, CVPR.
# - C.-L. Li, K. Sohn, J. Yoon, T. Pfister (2021), CutPaste: self-supervised learning for anomaly detection and
#   localization, CVPR.
# - Z. You et al. (2022), A unified model for multi-class anomaly detection, NeurIPS.
# - S. Abnar, W. Zuidema (2020), Quantifying attention flow in transformers, ACL.
# - R. Xiong et al. (2020), On layer normalization in the transformer architecture, ICML.

# %% tags=["results"]
folder.cleanup()
first, last = (collapse[collapse["epochs"] == n].set_index("data") for n in (0, naive_epochs))
spread = last["spread of own tokens"] / first["spread of own tokens"]
for name, data in dataset.items():
    nb.value(f"naive_spread_left_{name}", spread[data])
    nb.value(f"hidden_error_{name}", history[f"{name} hidden"].iloc[-1])
    nb.value(f"auroc_head_trained_{name}", *comparison.loc[(data, "trained, score head")], n=n_seeds)
    for text, key in (("", "residual"), (", error only", "error")):
        nb.value(f"auroc_{key}_trained_{name}", *comparison.loc[(data, f"trained{text}")], n=n_seeds)
        nb.value(f"auroc_{key}_untrained_{name}", *comparison.loc[(data, f"untrained{text}")], n=n_seeds)
        nb.value(f"gain_{key}_{name}", gain.loc[data, key].mean(), gain.loc[data, key].std(), n=n_seeds)
nb.value("naive_mean_score", last["mean score"].mean())
for name, key in (("attention", "attention"), ("residual", "residual"), ("centre of the image", "middle")):
    nb.value(f"pixel_auroc_{key}", pixel[name])
nb.value("auroc_raw_patches", raw_auroc)
nb.table(collapse.round(4), "transformer_collapse")
nb.table(comparison.fillna(0.0).reset_index().round(4), "transformer_comparison", n=n_seeds)
nb.table(evaluation.reset_index().round(3), "transformer_report")
nb.table(clues.reset_index().round(3), "transformer_clues")
nb.finish()
