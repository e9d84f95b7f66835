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
# # One transformer for pictures and tables
#
# A transformer does not know what a picture is, or a table. It knows *tokens*: vectors in a row, each with a mark that
# says where it stands. Cut a picture into places and a table row into columns, and the same network can read both.
# This notebook trains one network on normal photographs and normal rows, and lets it find the anomalies of both.
#
# The architecture is the easy part. What such a network is *asked to learn* decides whether it learns anything: a
# recipe that looks sensible, and that a prototype of this course used, has a perfect solution that knows nothing.
#
# **You will learn**
#
# - how pictures and rows become tokens, and what the network adds to them;
# - why the naive recipe collapses, and how to see it in three numbers;
# - two tasks that cannot be solved without knowing the data: predict what is hidden, spot what was exchanged;
# - how a run is stopped and resumed to the bit;
# - what training adds to the score of the untrained network, and what it does not;
# - what attention shows, and what it does not explain;
# - why raw pixels are harder, and which hidden clues to look for before believing a good number.
#
# Key words, explained in English and Chinese in the [glossary](glossary.md): [token](glossary.md#Token),
# [attention](glossary.md#Attention), [collapse](glossary.md#Collapse), [synthetic
# negative](glossary.md#Synthetic-negative).

# %% [markdown]
# ## Parameters
#
# The defaults need no download. The course's data are `mvtec/hazelnut` and `thyroid`.

# %% tags=["parameters"]
pictures: str = "synthetic/hazelnut"  # normal photographs to learn from
table: str = "injected/dependency/digits/8"  # rows whose columns are plausible alone
grid: int = 7  # tokens a side of a picture
width: int = 64  # numbers of a code
epochs: int = 10  # of 20 updates for each modality
naive_epochs: int = 6  # of the recipe that collapses
n_seeds: int = 3  # networks where a mean is shown
n_pictures: int = 200  # normal photographs used at most
patch_size: int = 8  # px a side of a raw patch
seed: int = 0  # of every split and every random draw

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.ndimage import laplace
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from torch import nn

from mmad_utils import GaussianAnomalyScorer, MultiModalAnomalyTransformer, metrics, plots
from mmad_utils.course import notebook
from mmad_utils.datasets import read_image
from mmad_utils.multimodal.transformer_tasks import cut_and_paste

# %%
nb = notebook.start("10_transformer")

# %%
images, rows = nb.load(pictures, seed=seed), nb.load(table, seed=seed).as_table()
train = {"image": images.X_train[:n_pictures], "tabular": rows.X_train}
test = {"image": images.X_test, "tabular": rows.X_test}
truth = {"image": images.y_test, "tabular": rows.y_test}
tasks = {"image": pictures, "tabular": table}
print(images, rows, sep="\n")

# %% [markdown]
# ## 1. Samples as tokens
#
# - **A picture** is a grid of places. By default a token is what a frozen pretrained backbone says about the place
#   (several layers, averaged over the cell, each channel standardised). Later we try the pixels themselves: a strided
#   convolution whose kernel is as large as its stride, which is a linear map of patches that do not overlap.
# - **A row** is its columns, a token each: $e_j = x_j w_j + b_j$, with a vector $w_j$ and $b_j$ for each column. Before
#   that every column is scaled, $\operatorname{arcsinh}((x-\text{median})/\text{IQR})$, to tame long tails.
#
# To each token the network adds a vector for its position and one for its modality, and puts a class token in front:
#
# $$h^0 = [\,c,\; e_1 + p_1 + m,\; \dots,\; e_p + p_p + m\,].$$
#
# Then come layers of attention and perceptrons (normalised *before* each, "pre-norm", which trains without warm-up),
# the same ones for both modalities. A head for each modality predicts tokens from codes; one head for all gives a score
# from the class token.

# %%
options = {"grid": grid, "width": width, "random_state": seed}
untrained = MultiModalAnomalyTransformer(epochs=0, **options).fit(train)
shapes = untrained.shapes_
weights = {part: sum(w.numel() for w in module.parameters()) for part, module in untrained.network_.named_children()}
shared = sum(weights.get(part, 0) for part in ("layers", "norm", "score"))
print(f"tokens of a sample and numbers of a token: {shapes}")
print(f"{sum(p.numel() for p in untrained.network_.parameters()):,} weights, {shared:,} of them shared")

# %%
example = read_image(train["image"][0])
side = example.shape[0] / grid
hidden = np.random.default_rng(seed).permutation(grid**2)[: grid**2 // 3]
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), layout="constrained", width_ratios=[1, 1.3])
axes[0].imshow(example)
for place in hidden:
    corner = (place % grid * side, place // grid * side)
    axes[0].add_patch(plt.Rectangle(corner, side, side, color="white", lw=0))
axes[0].set(
    xticks=np.arange(grid + 1) * side - 0.5, yticks=np.arange(grid + 1) * side - 0.5, title="a picture's tokens"
)
axes[0].tick_params(labelleft=False, labelbottom=False, length=0)
values = untrained._tokenisers["tabular"].transform(train["tabular"][:1])[0, :, 0].numpy()
dark = np.random.default_rng(seed).random(len(values)) < 1 / 3
axes[1].bar(np.arange(len(values)), np.where(dark, np.nan, values), color=plots.NORMAL, width=0.8)
axes[1].plot(np.flatnonzero(dark), np.zeros(dark.sum()), "x", color="0.4", ms=4, label="hidden")
axes[1].set(title="a row's tokens", xlabel="column", ylabel="scaled value")
axes[1].legend(loc="upper right")
nb.figure(fig, "transformer_tokens", data=pd.DataFrame({"value": values, "hidden": dark}))

# %% [markdown]
# Both sides show the task of section 3, too: what is hidden must be told from what is in sight.
#
# ## 2. A recipe that collapses
#
# The prototype reasoned like this. *Let the class token sum up the sample; reconstruct the tokens from it; the error is
# an anomaly score. And let the score head say 0 for every normal sample, so that it says more for others.* With tokens
# $e$ from the network's own embedding, class code $z$ and head $s$:
#
# $$L = \bigl\lVert e - g(z)\bigr\rVert^2 \;-\; \log\bigl(1 - \sigma(s(z))\bigr).$$
#
# Here it is, on our network.


# %%
class Naive(MultiModalAnomalyTransformer):
    """Reconstructs its own tokens from the class token, and pushes the score of every normal sample to 0."""

    def build(self, shapes):
        network = super().build(shapes)
        network.reconstruct = nn.Linear(self.width, self.width)
        return network

    def losses(self, name, batch, generator):
        code, _ = self.network_(name, batch)
        own = self.network_.embed[name](batch)
        error = (own - self.network_.reconstruct(code)[:, None]).square().mean()
        return {"reconstruction": error, "score": -nn.functional.logsigmoid(-self.network_.score(code)).mean()}

    def watch(self, samples):
        """Spread of own tokens, of the score, and the reconstruction error of each sample."""
        found = {}
        for name, X in samples.items():
            tokens = self._tokenisers[name].transform(X)
            with torch.no_grad():
                own, (code, _) = self.network_.embed[name](tokens), self.network_(name, tokens)
                error = (own - self.network_.reconstruct(code)[:, None]).square().mean((1, 2))
                found[name] = (own.std(0).mean().item(), self.network_.score(code)[:, 0].sigmoid(), error)
        return found


# %% [markdown]
# We stop it after a growing number of epochs and look at the *test* samples, anomalies included: how much do the
# network's own tokens still differ between samples, what does the score head say, and what are both scores worth?

# %%
rows_of_collapse = []
for n in sorted({0, 1, naive_epochs // 2, naive_epochs}):
    naive = Naive(epochs=n, validation=0.0, learning_rate=3e-3, score="head", head_weight=1.0, **options).fit(train)
    for name, (spread, score, error) in naive.watch(test).items():
        rows_of_collapse.append({
            "data": tasks[name], "epochs": n, "spread of own tokens": spread, "mean score": score.mean().item(),
            "spread of the score": score.std().item(), "AUROC of the score": metrics.auroc(truth[name], score),
            "AUROC of the error": metrics.auroc(truth[name], error),
        })  # fmt: skip
collapse = pd.DataFrame(rows_of_collapse)
nb.table(collapse.round(4), "transformer_collapse")
collapse.round(3)

# %%
fig, axes = plt.subplots(1, 3, figsize=(7, 2.8), layout="constrained")
keys = ("spread of own tokens", "mean score", "AUROC of the score")
for (name, part), marker, line in zip(collapse.groupby("data", sort=False), plots.MARKERS, plots.LINES):
    for axis, key in zip(axes, keys):
        axis.plot(part["epochs"], part[key], marker=marker, ls=line, ms=4.5, label=name)
for axis, key in zip(axes, keys):
    axis.set(xlabel="epochs", title=key)
axes[0].set_ylim(bottom=0)
axes[1].set_yscale("log")
axes[2].set_ylim(0, 1)
axes[2].axhline(0.5, color="0.6", lw=1)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
nb.figure(fig, "transformer_collapse", data=collapse)

# %% [markdown]
# Everything goes as the loss wants it, and that is the trouble. The target $e$ is made by the weights that are trained:
# the cheapest way to reconstruct a token is to make all tokens *alike*, and their spread falls. The score of 0 for every
# sample is had by one large negative bias, without a look at the input. The second term has no second class; it is the
# trivial solution of Deep SVDD (notebook 07) in another dress.
#
# Look at the last column of the table, too. On pictures the *error* still ranks well while everything shrinks. The
# reconstruction has become a constant, and the error is how far the tokens of a picture are from that constant: a ruler,
# laid on the features of the frozen backbone. On rows whose columns are plausible alone a ruler is worth nothing, and
# there the error is at chance. A prototype judged by its AUROC on friendly data alone can look as if it had learned
# something.

# %%
first, last = (collapse[collapse["epochs"] == n].set_index("data") for n in (0, naive_epochs))
shrunk = (last["spread of own tokens"] / first["spread of own tokens"]).rename("spread left")
nb.value("naive_spread_left_image", shrunk[pictures])
nb.value("naive_spread_left_tabular", shrunk[table])
nb.value("naive_mean_score", last["mean score"].mean())
assert (last["mean score"] < 0.1).all(), "the head says 0 whatever it sees"
if naive_epochs >= 6:
    assert (shrunk < 0.5).all(), "the targets shrink"
shrunk.round(3)

# %% [markdown]
# ## 3. Fixed targets, and a second class
#
# Two changes close both doors.
#
# **Predict what is hidden.** Hide a random part of the tokens (10% to 50%) and predict *the tokens as they came in*,
# standardised numbers that no weight can change, from those in sight (masked autoencoding, He et al. 2022):
#
# $$L_\text{hidden} = \operatorname{mean}_{j \in \text{hidden}} \lVert x_j - \hat x_j(x_\text{in sight})\rVert^2 .$$
#
# Predicting the mean costs 1. Any lower loss is knowledge about how tokens go together.
#
# **Spot what was exchanged.** Give the score head a second class, made from normal samples: a row with columns of another
# row; a picture with a rectangle pasted in (CutPaste, Li et al. 2021). Every piece is normal, only the company is wrong.

# %%
pair = torch.stack([torch.tensor(read_image(path)).permute(2, 0, 1) for path in train["image"][:4]])
generator = torch.Generator().manual_seed(seed)
both = torch.cat([cut_and_paste(pair, generator), cut_and_paste(pair, generator, from_others=True)])
titles = ["same picture"] * 4 + ["other picture"] * 4
fig = plots.images(both.permute(0, 2, 3, 1).numpy(), titles, columns=4)
nb.figure(fig, "transformer_negatives", data=pd.DataFrame({"negative": titles}))

# %% [markdown]
# On backbone tokens the rectangle is cut from the grid of features. The training goes by turns, one batch of pictures,
# one batch of rows, the same number of each whatever the sizes of the sets. A tenth of the *normal* samples is held out:
# the network of the epoch that predicts their hidden tokens best is kept. No test sample and no label has a say.

# %%
folder = tempfile.TemporaryDirectory()
log = Path(folder.name) / "training.log"
detector = MultiModalAnomalyTransformer(epochs=epochs, log=log, verbose=True, **options).fit(train)
print(*log.read_text().splitlines()[-3:], f"kept: epoch {detector.best_epoch_}", sep="\n")

# %%
history = pd.DataFrame(detector.history_, index=pd.RangeIndex(1, epochs + 1, name="epoch"))
fig, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
curves = {"image hidden": "pictures", "tabular hidden": "rows", "validation": "held-out normals, both"}
for (key, name), line in zip(curves.items(), plots.LINES):
    axes[0].plot(history[key], ls=line, label=name)
axes[0].axvline(detector.best_epoch_, color="0.6", lw=1)
axes[0].set(xlabel="epoch", ylabel="squared error of hidden tokens", ylim=(0, None))
axes[0].legend()
for name, key, line in (("pictures", "image head", "-"), ("rows", "tabular head", "--")):
    axes[1].plot(history[key] / detector.head_weight, ls=line, label=name)
axes[1].axhline(np.log(2), color="0.6", lw=1)
axes[1].annotate("guessing", (1, np.log(2)), xytext=(0, 3), textcoords="offset points", color="0.4")
axes[1].set(xlabel="epoch", ylabel="cross-entropy of the score head", ylim=(0, 0.9))
axes[1].legend(loc="lower left")
nb.figure(fig, "transformer_history", data=history.reset_index())

# %% [markdown]
# Both errors of hidden tokens leave 1, the price of knowing only the mean, and the held-out normals follow. The head is
# slower: it must find out from one code a sample whether anything was exchanged.

# %%
for name in ("image", "tabular"):
    nb.value(f"hidden_error_{name}", history[f"{name} hidden"].iloc[-1])
if epochs >= 10:
    assert history["image hidden"].iloc[-1] < 0.75 * history["image hidden"].iloc[0], "pictures are predictable"
    assert history["validation"].min() < history["validation"].iloc[0], "and not by heart only"

# %% [markdown]
# ### Stopped and resumed
#
# A long run dies: a power cut, a closed lid, somebody's `kill`. After every epoch the whole state goes into one file:
# the last network, the best one, the optimiser's moments, the state of every random generator, the history. The file is
# written beside the old one and then renamed, so that there is never half a file. Whoever resumes ends with the same
# weights *to the bit*. (The tests kill a process with SIGKILL at random moments; here we stop politely, to save time.)

# %%
small = options | {"width": 16, "depth": 1, "n_heads": 2, "steps_per_epoch": 5}
only_rows = {"tabular": train["tabular"]}
path = Path(folder.name) / "run.safetensors"
MultiModalAnomalyTransformer(epochs=2, checkpoint=path, **small).fit(only_rows)
resumed = MultiModalAnomalyTransformer(epochs=5, checkpoint=path, resume=True, **small).fit(only_rows)
whole = MultiModalAnomalyTransformer(epochs=5, **small).fit(only_rows)
pairs = zip(resumed.network_.parameters(), whole.network_.parameters())
assert all(torch.equal(ours, theirs) for ours, theirs in pairs) and resumed.history_ == whole.history_
try:
    MultiModalAnomalyTransformer(epochs=5, checkpoint=path, resume=True, learning_rate=0.1, **small).fit(only_rows)
except RuntimeError as error:
    print(str(error).replace(folder.name, "..."))

# %% [markdown]
# The last lines show what happens when somebody resumes with other settings: one clear refusal, before any work.
#
# ## 4. The score, and what training adds to it
#
# For scoring every token is hidden once, an eighth of them at a time, and the **residual** $r = x - \hat x$ is what the
# others do not explain. The score is the Mahalanobis distance of the residual to those of normal samples, with one
# Gaussian for the columns of a row, and one for all places of a picture, where the worst place counts.
#
# What would an *untrained* network score? Its predictions are near zero, so that $r \approx x$: it starts at the
# Mahalanobis distance of the tokens. That is a strong detector already. And if the data were Gaussian, nothing could be
# gained: a perfect linear prediction has $r = D\,\Sigma^{-1}(x - \mu)$ with a diagonal $D$, and the Mahalanobis distance
# of that is *the same number*. What training can add is what is not linear. So we do not ask whether the AUROC is high,
# but whether it is higher than both controls, with several networks.
#
# A second score makes the learning visible. `score="error"` throws the covariance away and keeps the variances: the plain
# error of prediction. Untrained, it is a ruler, blind to relations; whatever it gains is the network's own merit.


# %%
def tokens_alone(name):
    """Scores of the test samples by the Mahalanobis distance of their tokens, without any network."""
    to_tokens = detector._tokenisers[name].transform
    seen, new = (to_tokens(X).double().numpy() for X in (train[name], test[name]))
    size = seen.shape[2] if name == "image" else seen.shape[1]
    distances = GaussianAnomalyScorer().fit(seen.reshape(-1, size)).anomaly_score(new.reshape(-1, size))
    return distances.reshape(len(new), -1).max(axis=1)


def areas(kind, i, scores):
    return [(tasks[name], kind, i, metrics.auroc(truth[name], scores[name])) for name in tasks]


found = areas("tokens, no network", 0, {name: tokens_alone(name) for name in tasks})
for i in range(n_seeds):
    changes = options | {"random_state": seed + i}
    trained = detector if i == 0 else MultiModalAnomalyTransformer(epochs=epochs, **changes).fit(train)
    initial = MultiModalAnomalyTransformer(epochs=0, **changes).fit(train)
    for kind, one in (("untrained", initial), ("trained", trained)):
        for score, text in (("residual", ""), ("error", ", error only"), ("head", ", score head")):
            found += areas(kind + text, i, one.set_params(score=score).anomaly_score(test))
        one.set_params(score="residual")
found = pd.DataFrame(found, columns=["data", "score", "seed", "AUROC"])

# %%
rng = np.random.default_rng(seed)
chance = []
for i in range(20):
    chance += areas("random", i, {name: rng.random(len(y)) for name, y in truth.items()})
runs = pd.concat([pd.DataFrame(chance, columns=found.columns), found])
comparison = runs.groupby(["data", "score"], sort=False)["AUROC"].agg(["mean", "std"]).rename(columns={"std": "sd"})
frame = comparison.reset_index("data")
fig = plots.comparison(frame, "AUROC", group="data", reference="untrained")
nb.figure(fig, "transformer_comparison", n=n_seeds, data=frame.reset_index())

# %% [markdown]
# Read it in pairs. By the error alone, the trained network leaves its untrained copy behind on both kinds of data: it has
# learned how columns and places go together. By the Mahalanobis distance of the residual the two are close, because
# there the covariance already knows the linear part of the same relations: on the rows training adds a little, on the
# pictures nothing, and the frozen backbone with one Gaussian does all the work. Both numbers are true; the second is the
# one to compare with other detectors. The score head alone is the weaker detector: it knows the exchanges that it was
# trained on, and on pictures its cross-entropy has barely left the line of guessing.
#
# On thyroid the rows say something else: the untrained network is not behind. Anomalies there lie far from the centre
# (notebook 02), the error of an untrained network grows with that distance, and training makes large values easier to
# predict, too. Such a table shows that a detector works, not that it has learned.

# %%
wide = found.pivot(index=["data", "seed"], columns="score", values="AUROC")
nb.table(comparison.fillna(0.0).reset_index().round(4), "transformer_comparison", n=n_seeds)
gains = {}
for text, key in (("", "residual"), (", error only", "error")):
    gain = (wide[f"trained{text}"] - wide[f"untrained{text}"]).groupby("data").agg(["mean", "std"])
    for name, data in tasks.items():
        nb.value(f"auroc_{key}_trained_{name}", *comparison.loc[(data, f"trained{text}")], n=n_seeds)
        nb.value(f"auroc_{key}_untrained_{name}", *comparison.loc[(data, f"untrained{text}")], n=n_seeds)
        nb.value(f"gain_{key}_{name}", *gain.loc[data], n=n_seeds)
    gains[key] = gain["mean"]
for name, data in tasks.items():
    nb.value(f"auroc_head_trained_{name}", *comparison.loc[(data, "trained, score head")], n=n_seeds)
gains = pd.DataFrame(gains)
if epochs >= 10:
    assert gains.loc[pictures, "error"] > 0, "places of a picture go together, and the network knows how"
    assert not table.startswith("injected/dependency") or gains.loc[table, "error"] > 0.1, "so do columns"
    assert table != "thyroid" or comparison.loc[(table, "untrained, error only"), "mean"] > 0.95
gains.round(4)

# %% [markdown]
# ### The report for both tasks
#
# The threshold is the 95% quantile of the scores of *held-out* normals. The course asks for five numbers a task:

# %%
lines = {}
for name, predictions in detector.predict(test).items():
    alarm = predictions == -1
    precision, recall, f1, _ = precision_recall_fscore_support(truth[name], alarm, average="binary", zero_division=0)
    auroc = metrics.auroc(truth[name], detector.anomaly_score({name: test[name]})[name])
    lines[tasks[name]] = {
        "AUROC": auroc, "precision": precision, "recall": recall, "F1": f1,
        "accuracy": accuracy_score(truth[name], alarm), "false alarms": alarm[truth[name] == 0].mean(),
    }  # fmt: skip
report = pd.DataFrame(lines).T.rename_axis("task")
nb.table(report.reset_index().round(3), "transformer_report")
report.round(3)

# %% [markdown]
# Read recall, precision and the last column together. A tenth of few samples makes a coarse threshold: where the false
# alarms are far from 5%, only more held-out normals help. Accuracy says the least: with few anomalies a detector that
# never raises an alarm has a high one.
#
# ## 5. Where it looks, and where the anomaly is
#
# Attention can be followed through the layers (rollout, Abnar and Zuidema 2020): how much of each token reaches the
# class token? It is a popular picture. Beside it we draw the distance of the residual at each place.

# %%
severe = np.argsort(-detector.anomaly_score({"image": test["image"]})["image"] * truth["image"])[:4]
shown = [test["image"][i] for i in severe]
looks = detector.attention({"image": shown})["image"]
fig = plots.heatmaps(shown, looks, images.masks_test[severe], columns=4)
fig.axes[-1].set_xlabel("attention of the class token (share)")
nb.figure(fig, "transformer_attention", data=pd.DataFrame(looks.reshape(len(looks), -1).T))

# %%
maps = detector.anomaly_map(shown)
fig = plots.heatmaps(shown, maps, images.masks_test[severe], columns=4)
nb.figure(fig, "transformer_maps", data=pd.DataFrame(maps[:, ::16, ::16].reshape(len(maps), -1).T))

# %% [markdown]
# Attention shows from which positions the class token takes information, the residual which positions were predicted
# badly. We compare both with the masks by the pixel AUROC, beside a map that never looks at the picture: the closeness of
# a pixel to the middle of the picture.

# %%
looks = detector.attention({"image": test["image"]})["image"]
size = images.masks_test.shape[1:]
pixel = {
    name: metrics.pixel_auroc(images.masks_test, metrics.resize_maps(m.astype(np.float32), size))
    for name, m in (("attention", looks), ("residual", detector.anomaly_map(test["image"])))
}
y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij")
closeness = np.broadcast_to(-np.hypot(y, x), images.masks_test.shape)
pixel["middle"] = metrics.pixel_auroc(images.masks_test, closeness)
for name, value in pixel.items():
    nb.value(f"pixel_auroc_{name}", value)
if epochs >= 10:
    assert pixel["residual"] > pixel["attention"] + (0.05 if pictures.startswith("synthetic/") else 0.0)
    assert pixel["residual"] > pixel["middle"] or pictures != "mvtec/hazelnut"
pixel

# %% [markdown]
# On generated hazelnuts attention is far behind the residual. On the photographs of MVTec AD it can have a pixel AUROC
# above 0.9 without knowing anything about defects. There each nut lies in the middle of a dark image and every defect lies
# on a nut, so that a map that is bright on the object, or in the middle of every picture, already separates most defective
# pixels from the background. The value of attention also differs strongly between seeds of the network; that of the
# residual does not. Compare a localisation with a map that cannot know the defect before you call it an explanation.

# %%
columns = detector.attention({"tabular": test["tabular"]})["tabular"]
names = rows.feature_names or [str(j) for j in range(columns.shape[1])]
part = pd.DataFrame({y: columns[truth["tabular"] == y].mean(0) for y in (0, 1)}, index=names)
top = part.sort_values(0, ascending=False).head(12)[::-1]
fig, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
places = np.arange(len(top))
axis.barh(places + 0.2, top[0], 0.38, color=plots.NORMAL, label="normal rows")
axis.barh(places - 0.2, top[1], 0.38, color=plots.ANOMALY, label="anomalies")
axis.axvline(1 / columns.shape[1], color="0.5", lw=1, ls="--", label="all alike")
axis.set_yticks(places, top.index)
axis.set(xlabel="share of the attention")
fig.legend(loc="outside upper center", ncols=3)
nb.figure(
    fig,
    "transformer_columns",
    data=part.rename(columns={0: "normal", 1: "anomaly"}).rename_axis("column").reset_index(),
)

# %% [markdown]
# The columns that get attention are much the same for normal rows and for anomalies: it is a habit of the network, not
# an answer to the question what is wrong with *this* row.
#
# ## 6. Without a pretrained backbone
#
# Does the same network learn from pixels alone? Tokens are now patches; everything else stays.

# %%
raw_options = options | {"tokens": "patches", "image_size": patch_size * grid}
only_pictures = {"image": train["image"]}
raw = MultiModalAnomalyTransformer(epochs=epochs, **raw_options).fit(only_pictures)
raw_area = metrics.auroc(truth["image"], raw.anomaly_score({"image": test["image"]})["image"])
backbone_area = comparison.loc[(pictures, "trained"), "mean"]
nb.value("auroc_raw_patches", raw_area)
print(f"raw patches {raw_area:.3f}, backbone tokens {backbone_area:.3f}")

# %% [markdown]
# The backbone saw a million photographs and brings what edges and textures look like. A few hundred pictures do not teach
# that; what the network learns from pixels is mostly that neighbours look alike. On the generated hazelnuts this is almost
# enough, because their defects are plainly visible: a white print or a dark hole differs from its neighbours in the pixels.
#
# Before believing a number on *any* set of photographs, ask what else differs between the normal pictures and the
# others. Two clues that know nothing about defects: how sharp a picture is (spread of its Laplacian), how bright it is.
# In the course's hazelnuts some pictures were reduced from twice the size and are sharper than others, and 28 of the 78
# training images and 23 of the 33 test images show peeled kernels on a yellow ground, on which defects are easy to find. A
# detector can score well, or badly, for such reasons.


# %%
def clue(path, what):
    grey = read_image(path).mean(axis=2)
    return laplace(grey).std() if what == "sharpness" else grey.mean()


clues = {}
for what in ("sharpness", "brightness"):
    values = np.array([clue(path, what) for path in test["image"]])
    usual = np.median([clue(path, what) for path in train["image"]])
    clues[what] = metrics.auroc(truth["image"], np.abs(values - usual))
nb.table(pd.DataFrame({"clue": list(clues), "AUROC": list(clues.values())}).round(3), "transformer_clues")
if epochs >= 10:
    assert max(clues.values()) < backbone_area, "the detector knows more than these clues"
clues

# %% [markdown]
# ## In this notebook
#
# - Pictures and rows became tokens of one transformer, trained by turns, with one rule for the score of both.
# - Targets that the network makes itself, and a score with one class only, are solved by knowing nothing. It shows in
#   the spread of the tokens, not in the loss.
# - Hidden tokens and exchanged parts are tasks that need knowledge of normal data.
# - The residual's Mahalanobis distance starts at that of the tokens; training adds what is not linear. The plain error of
#   prediction shows the learning, and most of the AUROC on pictures comes from the frozen backbone.
# - Attention shows where a network gathers; residuals show what surprised it.

# %% [markdown]
# ## Exercises
#
# **1. Predict: a relation that is not linear.** A table has two columns with $x_2 = x_1^2$ plus a little noise, $x_1$
# symmetric around 0. Will the untrained network find rows with a wrong $x_2$? The trained one?

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
{f"{n} epochs": round(area, 3) for n, area in curved.items()}

# %% [markdown] tags=["solution"]
# The columns are uncorrelated: a Gaussian sees nothing wrong as long as each value is common. The network learns $x_1^2$.

# %% [markdown]
# **2. Change: hide less.** Train on the rows only, hiding 5% of the tokens (`mask_share=(0.05, 0.05)`), and compare
# with the default. What happens to the error of hidden tokens, and what to the AUROC?

# %% tags=["solution"]
by_share = {}
for text, change in (("default", {}), ("5% hidden", {"mask_share": (0.05, 0.05)})):
    one = MultiModalAnomalyTransformer(epochs=epochs, **options, **change).fit(only_rows)
    area = metrics.auroc(truth["tabular"], one.anomaly_score({"tabular": test["tabular"]})["tabular"])
    by_share[text] = {"AUROC": area, "hidden error": one.history_[-1]["tabular hidden"]}
if epochs >= 10 and table.startswith("injected/dependency"):
    assert by_share["5% hidden"]["hidden error"] > by_share["default"]["hidden error"]
pd.DataFrame(by_share).T.round(3)

# %% [markdown] tags=["solution"]
# Less is hidden, so each step learns less: the error of hidden tokens stays larger. AUROC hardly notices.

# %% [markdown]
# **3. Build: rows without pictures.** How well does the network that saw rows only find their anomalies, compared with
# the one that saw pictures, too? Did the pictures help?

# %% tags=["solution"]
with_pictures = comparison.loc[(table, "trained"), "mean"]
assert abs(with_pictures - by_share["default"]["AUROC"]) < 0.05 or epochs < 10
print(f"rows only {by_share['default']['AUROC']:.3f}, both modalities {with_pictures:.3f}")

# %% [markdown] tags=["solution"]
# Neither helped nor harmed: the pictures are other data and share little with rows.

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

# %%
folder.cleanup()
nb.finish()
