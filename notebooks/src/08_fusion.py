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
# # Fusion: anomalies that no single view shows
#
# In an old story six blind men meet an elephant. One feels the trunk and says: a snake. One feels a leg and says: a
# tree. Each is right about what he touches, and none of them knows what stands before him. A machine with a camera, a
# logbook and a vibration sensor has the same problem. Its picture may be fine, its log entry may be fine, its
# vibration may be fine, and the three may belong to three different states.
#
# The detectors of the earlier notebooks judge *one* view. This one judges several views of the same thing at once.
#
# **You will learn**
#
# - what a joint anomaly is, and why a detector of one modality cannot find it however good it is;
# - how pictures, texts and series become numbers that can be put side by side;
# - early fusion (join the numbers), late fusion (join the verdicts), and three ways in between: a shared latent space,
#   attention between modalities, and a graph;
# - how to train a network on relations without a single anomaly: shuffle the pairs;
# - what happens when modalities are missing or noisy, and what *nobody* can find then;
# - when each of the fusions is the right one.
#
# Key words, explained in English and Chinese in the [glossary](glossary.md): [mismatch](glossary.md#Mismatch), [early
# fusion](glossary.md#Early-fusion), [late fusion](glossary.md#Late-fusion),
# [cross-attention](glossary.md#Cross-attention), [ceiling](glossary.md#Ceiling).

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
seed: int = 0  # of the data and of every random draw
n_seeds: int = 2  # data sets and seeds where a mean is shown
n_train: int = 898  # training samples to use, at most 898
attention_epochs: int = 60  # of cross-attention, the slowest method
latent_epochs: int = 80  # of the shared latent space
graph_epochs: int = 60  # of the graph and of its contrastive half
missing_shares: list[float] = [0.0, 0.15, 0.3, 0.45, 0.6]  # shares of missing parts to score with
noise_levels: list[float] = [0.0, 0.1, 0.2, 0.4]  # 0 is clean, 1 leaves little

# %%
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from mmad_utils import (
    CrossAttentionFusion,
    EarlyFusion,
    GraphFusion,
    LateFusion,
    PixelEncoder,
    RandomScore,
    SeriesEncoder,
    SharedLatentFusion,
    TextEncoder,
    metrics,
    plots,
)
from mmad_utils.course import notebook
from mmad_utils.datasets.paired import SHARES, WORDS, add_noise, drop_parts, still_visible

# %%
nb = notebook.start(
    "08_fusion",
    seed=seed,
    n_seeds=n_seeds,
    n_train=n_train,
    attention_epochs=attention_epochs,
    latent_epochs=latent_epochs,
    graph_epochs=graph_epochs,
    missing_shares=missing_shares,
    noise_levels=noise_levels,
)
full_size = n_train >= 898  # claims about learned methods hold with all training samples

# %% [markdown]
# ## 1. Three views of a digit
#
# Every sample of `paired_digits` is one handwritten digit, seen three times: its picture, a caption that somebody
# wrote about it, and a short series, the tone that a machine plays when it reads the digit. The caption names the
# digit (as a word or a numeral) and says when the tone comes, early or late. The pitch and timbre of the tone belong to
# the digit. Its phase, loudness, exact pitch and noise do not.

# %%
data = nb.load("paired_digits", seed=seed)
rows = np.arange(n_train)
X_train = {name: part[rows] for name, part in data.X_train.items()}
X_test, y_test = data.X_test, data.y_test
kinds = np.array(data.source["kinds_test"])
data

# %% [markdown]
# One sample of each kind, normal first. Cover the labels and try to find what is wrong.

# %%
examples = {kind: int(np.flatnonzero(kinds == kind)[1]) for kind in ("normal", *SHARES)}
fig, axes = plt.subplots(6, 2, figsize=(7, 7.4), width_ratios=(1, 5), layout="constrained")
for (kind, i), (left, right) in zip(examples.items(), axes):
    left.imshow(X_test["image"][i, :, :, 0], cmap="gray", vmin=0, vmax=255)
    left.axis("off")
    right.plot(X_test["series"][i], color=plots.NORMAL if kind == "normal" else plots.ANOMALY, lw=1.1)
    right.set_title(f"{kind}: “{X_test['text'][i]}”", loc="left", fontsize=8.5)
    right.set(ylim=(-3.6, 3.6), xticks=[0, 32, 64, 96], yticks=[-2, 0, 2])
axes[-1, 1].set_xlabel("step of the series")
nb.figure(
    fig, "fusion_samples", data=pd.DataFrame({kind: X_test["series"][i] for kind, i in examples.items()}),
    caption="One sample of each kind: picture, caption and series.",
    alt="Six rows, each a small picture of a digit, a sentence and a curve with a burst of oscillation. In the rows of "
    "broken parts the picture is scrambled, the sentence is made of nonsense words, or the curve has spikes.",
)  # fmt: skip

# %% [markdown]
# Three of the kinds are broken *within* one part and can be seen there. The other two are not. In a **mismatch** each
# part is as good as any, but one of the three shows another digit. In a **shifted** sample the tone comes at a time
# that contradicts the caption.
#
# The mismatches were made with care. Their odd parts were *exchanged* among them: no part was made up, only the
# partners are wrong. So the pictures of the mismatches, taken alone, are distributed exactly as normal pictures are,
# and the same holds for captions and series. Whoever looks at one part has nothing to find, by construction.

# %%
pd.Series(kinds).value_counts().rename_axis("kind").to_frame("test samples")

# %% [markdown]
# ## 2. From pictures, words and waves to numbers
#
# Fusion needs numbers. An **encoder** for each modality is fitted on the normal training samples, without labels:
#
# - `PixelEncoder`: the first principal components of the pixels, and what they leave out;
# - `TextEncoder`: TF-IDF, counts of words, rare words weighing more: $\text{tf}\cdot\bigl(\ln\frac{1+n}{1+\text{df}} +
#   1\bigr)$, and the share of words that it has never seen. With the optional package it embeds sentences by MiniLM;
# - `SeriesEncoder`: moments, autocorrelations, energies over time and over frequency. For sound there are mel cepstra,
#   and convolutional and LSTM autoencoders can be chosen too.
#
# A quick check that they keep what matters: how often does a linear classifier read the digit from the codes? (The
# digits are used for this check only. No detector below sees them.)

# %%
encoders = {
    ("image", "pixels, PCA"): PixelEncoder(),
    ("text", "TF-IDF"): TextEncoder(),
    ("series", "features"): SeriesEncoder(),
    ("series", "mel cepstra"): SeriesEncoder("mel"),
    ("series", "convolutional autoencoder"): SeriesEncoder("convolution", epochs=20, random_state=seed),
}
named = (re.search(rf"\b(\d|{'|'.join(WORDS)})\b", text)[0] for text in X_train["text"])
digits = [WORDS.index(name) if name in WORDS else int(name) for name in named]
half = n_train // 2
readable = {}
for (part, name), encoder in encoders.items():
    codes = encoder.fit(X_train[part][:half]).transform(X_train[part])
    reader = LogisticRegression(max_iter=3000).fit(codes[:half], digits[:half])
    readable[part, name] = (codes.shape[1], reader.score(codes[half:], digits[half:]))

# %%
encoder_table = pd.DataFrame(readable, index=["columns", "digit read"]).T.rename_axis(["modality", "encoder"])
encoder_table["columns"] = encoder_table["columns"].astype(int)
nb.table(encoder_table.reset_index().round(3), "fusion_encoders", "Encoders, and how often a linear classifier reads the digit from their codes.")  # fmt: skip
read = encoder_table["digit read"]
assert read["text", "TF-IDF"] > (0.9 if full_size else 0.5) and read["series", "features"] > 0.9
assert read["series", "convolutional autoencoder"] < read["series", "features"]
encoder_table.round(3)

# %% [markdown]
# The autoencoder is the worst reader here, and it is worth knowing why: it must copy the *phase* of each tone, which
# is random, before anything else pays. A power spectrum throws the phase away. An encoder is an opinion about what
# does not matter.
#
# ## 3. The blind men
#
# One detector a modality (a Gaussian with shrinkage on its codes), each tested on the broken part of its own and on
# the mismatches.

# %%
names = ("image", "text", "series")
alone = {name: LateFusion(random_state=seed).fit({name: X_train[name]}) for name in names}
scores_alone = {name: detector.anomaly_score({name: X_test[name]}) for name, detector in alone.items()}
own_kind = dict(zip(names, ("damaged image", "nonsense text", "spiky series")))


def area(scores, kind, X_kinds=kinds):
    """AUROC of the normal test samples against one kind of anomaly, or against all."""
    rows = np.ones(len(X_kinds), bool) if kind == "all" else (X_kinds == "normal") | (X_kinds == kind)
    return metrics.auroc(X_kinds[rows] != "normal", scores[rows])


# %%
joint = GraphFusion(epochs=graph_epochs, random_state=seed).fit(X_train)
scores_joint = joint.anomaly_score(X_test)
panels = {**{f"{name} alone": scores_alone[name] for name in names}, "all three (graph)": scores_joint}
fig, axes = plt.subplots(1, 4, figsize=(7, 2.7), layout="constrained", sharey=True)
for axis, (name, scores) in zip(axes, panels.items()):
    ranks = pd.Series(scores).rank(pct=True).to_numpy()
    for kind, color, style in (("normal", plots.NORMAL, "-"), ("mismatch", plots.ANOMALY, "--")):
        axis.hist(ranks[kinds == kind], np.linspace(0, 1, 16), density=True, histtype="step", color=color, ls=style, lw=1.6, label=kind)  # fmt: skip
    axis.set(title=f"{name}\nAUROC {area(scores, 'mismatch'):.2f}", xlabel="rank of the score", xticks=[0, 0.5, 1])
axes[0].set_ylabel("density")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
nb.figure(
    fig, "fusion_elephant", single_run=True,
    data=pd.DataFrame(panels).assign(kind=kinds).query("kind in ('normal', 'mismatch')"),
    caption="The blind men and the elephant: scores of normal samples and mismatches, by each modality alone and by "
    "all three together.",
    alt="Four histograms. For image, text and series alone the outlines of normal samples and mismatches lie over each "
    "other. For all three together the mismatches lie to the right of nearly all normal samples.",
)  # fmt: skip

# %% [markdown]
# Three times the two outlines lie over each other, as they must. In the fourth panel somebody has compared the parts.

# %%
blind = {name: area(scores, "mismatch") for name, scores in scores_alone.items()}
seen = {name: area(scores_alone[name], own_kind[name]) for name in names}
assert max(abs(value - 0.5) for value in blind.values()) < 0.1, "no part of a mismatch is strange"
assert min(seen.values()) > 0.95, "each detector sees what is broken in its own part"
assert area(scores_joint, "mismatch") > 0.9 or not full_size
pd.DataFrame({"own broken part": seen, "mismatch": blind}).round(3)

# %% [markdown]
# ## 4. Late fusion: join the verdicts
#
# Every modality has its own detector, and a rule joins the scores. But the scores have different units: a distance of
# 12 may be much for pictures and little for texts. They are first made **p-values**. The conformal p-value of a score
# is its rank among scores of normal samples that the detector has not been fitted on,
#
# $$p = \frac{1 + \#\{\text{calibration scores} \ge \text{score}\}}{n + 1},$$
#
# and it is uniform for normal samples, whatever the detector. The calibration scores come from cross-fitting: five
# times, four fifths are fitted on and one fifth is scored. Now the voices speak one language, and rules have meanings:
#
# | rule | score | it asks |
# |---|---|---|
# | sum | Fisher: $-\log P(\chi^2_{2k} > -2\sum\log p_m)$ | is the evidence of all voices together too much? |
# | mean, weighted | $-\sum w_m \log p_m / \sum w_m$ | the same, with trust |
# | max | $-\log(1 - (1 - \min p)^k)$ | does *any* voice cry? |
# | vote | share of voices with $p \le 0.05$ | how many cry? |

# %%
rules = {
    "sum": LateFusion("sum", random_state=seed),
    "weighted": LateFusion("weighted", weights={"image": 2.0, "text": 1.0, "series": 1.0}, random_state=seed),
    "max": LateFusion("max", random_state=seed),
    "vote": LateFusion("vote", random_state=seed),
}
late = pd.DataFrame(
    {rule: {kind: area(d.fit(X_train).anomaly_score(X_test), kind) for kind in SHARES} for rule, d in rules.items()}
).T
nb.table(late.rename_axis("rule").reset_index().round(3), "fusion_late", "AUROC of the rules of late fusion by kind of anomaly.")  # fmt: skip
assert late["mismatch"].max() < 0.6 and late["shifted"].max() < 0.63, "verdicts hold no relation"
assert late.loc["max", "damaged image"] >= late.loc["vote", "damaged image"]
late.round(3)

# %% [markdown]
# For broken parts the maximum is the best rule: one voice knows, and the others only add noise to a sum. Trusting the
# picture twice helps with pictures and costs with the others. The vote throws most of the information away. And *no* rule finds the mismatches. This is not a weakness of the rules. Each
# voice has been asked about its own part, and everything about the relations was lost before the rule began.
#
# ## 5. Early fusion: join the numbers
#
# The other extreme puts all codes side by side and asks one detector. A Gaussian of the joined row holds the
# covariances *between* modalities, so it expects, say, high pitch where the caption says "nine". Two details matter:
#
# - **Loudness.** More than a hundred columns of text would outvote 33 of pixels. The codes of each modality are divided by one number,
#   so that their columns have mean variance 1.
# - **Gaps.** A missing part is filled in with its conditional mean given the others,
#   $\mu_g + \Sigma_{gp}\Sigma_{pp}^{-1}(x_p - \mu_p)$. A row with one part has fewer ways to be strange than a row
#   with three, so scores are standardised by what normal rows *with the same parts* get.

# %%
early = EarlyFusion(random_state=seed).fit(X_train)
early_score = early.anomaly_score(X_test)
assert area(early_score, "mismatch") > max(late["mismatch"]) + 0.1, "covariances see relations"
{kind: round(area(early_score, kind), 3) for kind in SHARES}

# %% [markdown]
# Far better, and for half a second of work. What is left to gain? A covariance is a *linear* relation: "more of this
# word, more of that frequency". That a picture is a three is not linear in its pixels.
#
# ## 6. In between: let a network learn the relation
#
# ### A shared latent space
#
# A multimodal variational autoencoder (Wu and Goodman 2018) has one hidden code $z$ for all parts. Each modality's
# encoder is an **expert** that says where $z$ may lie, $\mathcal N(\mu_m, \sigma_m^2)$, and experts are joined by
# multiplying their densities with the prior:
#
# $$q(z \mid x_1, \dots, x_M) \propto \mathcal N(z; 0, 1) \prod_m \mathcal N(z; \mu_m, \sigma_m^2)
#   \quad\Rightarrow\quad \frac1{\sigma^2} = 1 + \sum_m \frac1{\sigma_m^2},\quad
#   \mu = \sigma^2 \sum_m \frac{\mu_m}{\sigma_m^2}.$$
#
# A missing part is a missing factor: nothing needs to be filled in. The score asks each part *of the others*: how
# unlikely is this caption given the code that picture and series agree on?
#
# ### Attention, trained on shuffled pairs
#
# How can a network learn what "belongs together" means without an anomaly? Make the negatives. Take a batch of normal
# samples, replace one part of each by that of another sample, and train a classifier to tell true from shuffled. In
# `CrossAttentionFusion` each part is a token, and a token may attend only to the tokens of the *other* modalities. A
# contrastive loss first brings the tokens of one sample together ("align before fuse", Li et al. 2021).
#
# ### A graph
#
# `GraphFusion` makes every part a node. Edges join the parts of one sample, and a part with the five most similar parts
# of training samples. Messages run along the edges: a picture hears *what pictures like it are called*. Whether two
# parts belong together is then a link to be predicted, and links between different samples are the negatives.
# Without the edges between samples, `n_neighbors=0`, what is left is a contrastive latent space as in CLIP.
#
# The last method of the table is a union: late fusion with a *fourth voice*, the contrastive space, beside the three
# detectors of single parts.


# %%
def learned(seed, trained=True):
    """The learned fusions with this notebook's epochs, or the same networks without training."""
    passes = [latent_epochs, attention_epochs, graph_epochs, graph_epochs] if trained else [0] * 4
    return {
        "shared latent": SharedLatentFusion(epochs=passes[0], random_state=seed),
        "cross-attention": CrossAttentionFusion(epochs=passes[1], random_state=seed),
        "graph": GraphFusion(epochs=passes[2], random_state=seed),
        "contrastive": GraphFusion(n_neighbors=0, epochs=passes[3], random_state=seed),
    }


def simple(seed):
    """Late and early fusion, and late fusion in which the contrastive space is a fourth voice."""
    fourth = GraphFusion(n_neighbors=0, epochs=graph_epochs, random_state=seed)
    return {
        "late, sum": LateFusion("sum", random_state=seed),
        "late, max": LateFusion("max", random_state=seed),
        "early": EarlyFusion(random_state=seed),
        "late, max, joint": LateFusion("max", joint=fourth, folds=3, random_state=seed),
    }


# %% [markdown]
# ## 7. The table: method × kind of anomaly
#
# Everything in one table, over several seeds (each makes a new data set). Chance, single modalities and untrained
# copies stand beside the methods, because a number means nothing alone.

# %%
fitted, measured = {}, []
for s in range(seed, seed + n_seeds):
    made = nb.load("paired_digits", seed=s)
    train = {name: part[rows] for name, part in made.X_train.items()}
    these = np.array(made.source["kinds_test"])
    scored = {"random score": RandomScore(s).fit(train["series"]).anomaly_score(made.X_test["series"])}
    for name in names:
        one = LateFusion(random_state=s).fit({name: train[name]})
        scored[f"{name} alone"] = one.anomaly_score({name: made.X_test[name]})
    for name, detector in {**simple(s), **learned(s)}.items():
        scored[name] = detector.fit(train).anomaly_score(made.X_test)
        fitted[name, s] = detector
    for name, detector in learned(s, trained=False).items():
        scored[f"{name}, untrained"] = detector.fit(train).anomaly_score(made.X_test)
    measured += [(name, kind, area(v, kind, these)) for name, v in scored.items() for kind in (*SHARES, "all")]

# %%
runs = pd.DataFrame(measured, columns=["method", "kind", "AUROC"])
table = runs.pivot_table("AUROC", "method", "kind", sort=False)
spread = runs.pivot_table("AUROC", "method", "kind", aggfunc="std", sort=False)
nb.table(table.reset_index().round(3), "fusion_by_kind", f"AUROC by kind of anomaly, mean over {n_seeds} seeds.")
table.round(3)

# %%
shown = table[[*SHARES, "all"]]
fig, axis = plt.subplots(figsize=(7, 0.9 + 0.27 * len(shown)), layout="constrained")
axis.imshow(shown, cmap="cividis", vmin=0.4, vmax=1.0, aspect="auto")
for i, row in enumerate(shown.to_numpy()):
    for j, value in enumerate(row):
        axis.text(
            j, i, f"{value:.2f}", ha="center", va="center", fontsize=8.5, color="white" if value < 0.72 else "black"
        )
axis.set_xticks(range(len(shown.columns)), [kind.replace(" ", "\n") for kind in shown.columns])
axis.set_yticks(range(len(shown)), shown.index)
axis.xaxis.tick_top()
axis.grid(False)
nb.figure(
    fig, "fusion_by_kind", data=table.reset_index(),
    caption=f"AUROC of every method on every kind of anomaly, mean over {n_seeds} seeds. Bright is good.",
    alt="A table of shaded numbers. Single modalities are bright for one kind only. Late fusion is bright for the three "
    "kinds of broken parts. The trained networks are bright for mismatches, their untrained copies are not.",
)  # fmt: skip

# %% [markdown]
# Read the columns. The broken parts are the business of the verdicts: late fusion with the maximum is perfect there.
# In the column of the mismatches it is at chance, with all single modalities, and the trained networks are near 1. Their
# untrained copies are not, so the relation has been *learned*. The shared latent space stands between: it models
# everything, the style of a stroke as well as the digit, and pays for it.
#
# The shifted samples are the hardest. Only two parts are concerned, and of these only one word and one onset. The
# networks had no reason to prefer this relation over the digit, which tells pairs apart better.

# %%
intermediate = ["shared latent", "cross-attention", "graph", "contrastive"]
single = [f"{name} alone" for name in names]
best = table.loc[intermediate, "mismatch"].idxmax()
assert table.loc[single, "mismatch"].max() < 0.6 and table.loc[["late, sum", "late, max"], "mismatch"].max() < 0.6
if full_size and n_seeds >= 2:
    assert table.loc[best, "mismatch"] > 0.97
    assert table.loc["cross-attention", "mismatch"] > table.loc["early", "mismatch"]
for name in intermediate:
    gain = table.loc[name, "mismatch"] - table.loc[f"{name}, untrained", "mismatch"]
    assert gain > 0.1 or not full_size, "training is what finds mismatches"

# %%
for key, name in (("single", table.loc[single, "mismatch"].idxmax()), ("late", "late, sum"), ("early", "early"),
                  ("best", best), ("latent", "shared latent"), ("attention", "cross-attention"), ("graph", "graph")):  # fmt: skip
    sd = spread.loc[name, "mismatch"] if n_seeds > 1 else None
    nb.value(f"mismatch_{key}_auroc", table.loc[name, "mismatch"], sd=sd, n=n_seeds)
nb.value("mismatch_untrained_auroc", table.loc[f"{best}, untrained", "mismatch"], n=n_seeds)

# %% [markdown]
# ### Does the alignment matter?
#
# Cross-attention has two losses. Without the contrastive one it must discover from "true or shuffled?" alone that a
# picture and a word have something in common. A quarter of the training is enough to see what happens.

# %%
short = max(1, attention_epochs // 4)
unaligned = CrossAttentionFusion(alignment=0.0, epochs=short, random_state=seed).fit(X_train)
aligned = CrossAttentionFusion(epochs=short, random_state=seed).fit(X_train)
alignment = {
    name: area(d.anomaly_score(X_test), "mismatch") for name, d in (("without", unaligned), ("with", aligned))
}
print(
    f"loss of true against shuffled without alignment: {unaligned.history_[-1]['loss']:.3f} (log 2 = {np.log(2):.3f})"
)
assert alignment["with"] > alignment["without"] + 0.1 or not full_size
{name: round(value, 3) for name, value in alignment.items()}

# %% [markdown]
# The loss stays at log 2, a coin. Comparing two parts is a product of what each of them says, and as long as neither
# says anything, the gradient of the product is near zero. The contrastive loss compares *all* pairs of a batch at once
# and has a gradient from the first step.
#
# ## 8. Missing modalities
#
# A sensor fails, a caption was never written. Every method here accepts `None`. We drop parts of the *test* samples at
# random (each sample keeps at least one), and must first ask a question of principle: **is a mismatch whose odd part is
# missing still an anomaly?** What is left of it agrees. No detector can find it, and none should. So two numbers are
# shown: AUROC over all samples with their old labels, which falls for everybody, with the ceiling that a perfect
# detector would reach (the visible anomalies first, the others in any order); and over the samples whose anomaly is
# still visible.

# %%
lines = {
    name: fitted[name, seed] for name in ("late, max, joint", "early", "shared latent", "cross-attention", "graph")
}
rows_missing = []
for share in missing_shares:
    dropped = drop_parts(X_test, share, seed)
    visible = still_visible(data, dropped)
    rows_missing.append(("ceiling", share, metrics.auroc(y_test, y_test * visible), 1.0))
    for name, detector in lines.items():
        scores = detector.anomaly_score(dropped)
        rows_missing.append(
            (name, share, metrics.auroc(y_test, scores), metrics.auroc(y_test[visible], scores[visible]))
        )
missing = pd.DataFrame(rows_missing, columns=["method", "share missing", "all", "visible"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.3), layout="constrained", sharey=True)
looks = list(zip(plots.MARKERS, plots.LINES, plots.COLORS))
for name, (marker, line, color) in zip(lines, looks):
    part = missing[missing["method"] == name]
    for axis, column in zip(axes, ("all", "visible")):
        axis.plot(part["share missing"], part[column], marker=marker, ls=line, color=color, ms=4.5, label=name)
ceiling = missing[missing["method"] == "ceiling"]
axes[0].plot(ceiling["share missing"], ceiling["all"], color="0.4", lw=1, label="ceiling")
axes[0].set(title="all anomalies", xlabel="share of parts missing", ylabel="AUROC", ylim=(0.5, 1.01))
axes[1].set(title="anomalies that are still visible", xlabel="share of parts missing")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
nb.figure(
    fig, "fusion_missing", data=missing,
    caption="AUROC when parts of the test samples are missing: over all samples, with the ceiling of a perfect "
    "detector, and over the samples whose anomaly is still visible.",
    alt="Two panels. Over all anomalies every line falls together with the ceiling. Over the visible anomalies the lines "
    "stay level up to 30 percent; then cross-attention and the graph fall and the others rise a little.",
)  # fmt: skip

# %% [markdown]
# Left, every line falls because the ceiling does. (Near the right end a line may lie a little above it: the order of
# what cannot be seen is luck.) Whoever reports only the left panel blames the detector for the sensor.
#
# Right, with a third of the parts missing all methods find nearly as much of what can be found as before. Beyond that
# they part. Cross-attention and the graph *compare* parts, and a sample with one part left has nothing to compare: its
# broken part goes unnoticed. Late fusion with a joint voice, early fusion and the shared latent space also know what
# each part looks like by itself. Their lines even rise, because what stays visible is more and more often a broken
# part, which is the easy kind.

# %%
at = min(missing_shares, key=lambda share: abs(share - 0.3))
by_share = missing.pivot(index="method", columns="share missing", values="visible").loc[list(lines)]
loss = by_share[min(missing_shares)] - by_share[at]
most = by_share[min(missing_shares)].idxmax()
assert loss[most] < 0.05 or not full_size, "the best fusion loses little of what can be seen"
last = by_share[max(missing_shares)]
if full_size and max(missing_shares) >= 0.6:
    assert last[["late, max, joint", "early", "shared latent"]].min() > last[["cross-attention", "graph"]].max()
nb.value("missing_loss_visible", loss[most])
nb.value("missing_ceiling", ceiling.set_index("share missing")["all"][at])
nb.table(missing.round(3), "fusion_missing", "AUROC with missing parts, over all and over still visible anomalies.")
loss.round(3)

# %% [markdown]
# Parts may be missing at *fit* as well: encoders learn from the parts that are there, the latent space multiplies fewer
# experts, the networks mask.

# %%
gappy = drop_parts(X_train, 0.3, seed + 1)
at_fit = {}
for name, detector in {"early": EarlyFusion(random_state=seed), "graph": learned(seed)["graph"]}.items():
    at_fit[name] = {"complete": area(fitted[name, seed].anomaly_score(X_test), "all"),
                    "30% missing at fit": area(detector.fit(gappy).anomaly_score(X_test), "all")}  # fmt: skip
assert all(row["30% missing at fit"] > row["complete"] - 0.1 for row in at_fit.values()) or not full_size
pd.DataFrame(at_fit).T.round(3)

# %% [markdown]
# ## 9. Noise
#
# The same noise on training and test samples: grain on the pixels, random letters in the captions, noise on the series.
# The question is which way of fusing loses the relation first.

# %%
noisy_rows = []
for level in noise_levels:
    train, test = add_noise(X_train, level, seed), add_noise(X_test, level, seed + 1)
    contenders = {"late, max": LateFusion("max", random_state=seed), "early": EarlyFusion(random_state=seed),
                  "shared latent": learned(seed)["shared latent"], "contrastive": learned(seed)["contrastive"]}  # fmt: skip
    for name, detector in contenders.items():
        scores = detector.fit(train).anomaly_score(test)
        noisy_rows.append((name, level, area(scores, "mismatch"), area(scores, "all")))
noise = pd.DataFrame(noisy_rows, columns=["method", "noise", "mismatch", "all"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.0), layout="constrained", sharey=True)
for (name, part), (marker, line, color) in zip(noise.groupby("method", sort=False), looks):
    for axis, column in zip(axes, ("mismatch", "all")):
        axis.plot(part["noise"], part[column], marker=marker, ls=line, color=color, ms=4.5, label=name)
axes[0].set(title="mismatches", xlabel="noise level", ylabel="AUROC", ylim=(0.4, 1.01))
axes[1].set(title="all anomalies", xlabel="noise level")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
nb.figure(
    fig, "fusion_noise", data=noise,
    caption="AUROC against the level of noise on all parts, in training and test.",
    alt="Two panels. On mismatches late fusion stays at one half; the other lines start high and fall with the noise, "
    "the contrastive one starts highest and falls least.",
)  # fmt: skip

# %% [markdown]
# Noise is paid for by every method that looks at relations, and the contrastive space keeps most. It learns only what
# the parts have in common, and noise is not shared. Early fusion and the latent space model all that is in a part, noise
# included. On the right even late fusion falls, because a broken part drowns in noise like everything else.

# %%
clean = noise[noise["noise"] == min(noise_levels)].set_index("method")["mismatch"]
dirty = noise[noise["noise"] == max(noise_levels)].set_index("method")["mismatch"]
nb.table(noise.round(3), "fusion_noise", "AUROC against noise, on mismatches and on all anomalies.")
assert (dirty < clean)[["early", "shared latent", "contrastive"]].all() or not full_size
assert abs(dirty["late, max"] - 0.5) < 0.12, "late fusion has nothing to lose here"
pd.DataFrame({"clean": clean, "noisiest": dirty}).round(3)

# %% [markdown]
# ## 10. When is which fusion the right one?
#
# | fusion | take it when | beware |
# |---|---|---|
# | late | anomalies are inside single parts; teams or vendors own the detectors; modalities are often missing; you must say *which* part is strange | blind to every mismatch, by construction |
# | early | relations are near linear, data are few, it must be running by tonight | loudness, gaps, many columns |
# | shared latent | one model for everything; parts must be predicted from others | it models style as well as content |
# | cross-attention | relations are complex and samples many | needs alignment first; slow; the score says little about broken parts |
# | graph, contrastive | the question is "do these belong together?" | what only one part shows is a by-product |
# | late with a joint voice | you do not know which anomalies will come | cross-fitting trains the joint detector several times; each voice dilutes the others a little |
#
# ## In this notebook
#
# - A joint anomaly is in the relation, not in the parts. Each part of a mismatch is normal, so single modalities, and
#   every rule that joins their verdicts, are at chance.
# - Early fusion sees linear relations. A network that is trained to tell true pairs from shuffled ones sees the others,
#   and it needs no anomaly for that.
# - Alignment first: attention on tokens with nothing in common does not learn to compare them.
# - With missing parts some anomalies cannot be seen any more. Say what the ceiling is before you blame a method.
# - No fusion is best for all kinds. Verdicts for the parts, a joint voice for the relations.
#
# ## Exercises
#
# **1. Predict: two witnesses of three.** Leave out the picture. Will caption and series alone find the mismatches whose
# odd part is the picture? And the others?

# %% tags=["solution"]
two = GraphFusion(n_neighbors=0, epochs=graph_epochs, random_state=seed)
two_scores = two.fit({"text": X_train["text"], "series": X_train["series"]}).anomaly_score(
    {"text": X_test["text"], "series": X_test["series"]}
)
odd = np.array(data.source["parts_test"])
normal = kinds == "normal"
by_odd = {part: metrics.auroc((~normal)[keep], two_scores[keep])
          for part in names for keep in [normal | ((kinds == "mismatch") & (odd == part))]}  # fmt: skip
assert by_odd["image"] < 0.65 and (min(by_odd["text"], by_odd["series"]) > 0.8 or not full_size)
{part: round(value, 3) for part, value in by_odd.items()}

# %% [markdown] tags=["solution"]
# Where the picture is odd, caption and series agree with each other: nothing to see. The other two are found as
# before.

# %% [markdown]
# **2. Change: ask without listening.** `SharedLatentFusion(scoring="reconstruction")` reconstructs each part from the
# code of *all* parts, itself among them, as an ordinary autoencoder would. Predict what that does to mismatches.

# %% tags=["solution"]
asked = fitted["shared latent", seed]
cross = area(asked.anomaly_score(X_test), "mismatch")
reconstruction = SharedLatentFusion(epochs=latent_epochs, scoring="reconstruction", random_state=seed).fit(X_train)
listening = area(reconstruction.anomaly_score(X_test), "mismatch")
assert cross > listening or not full_size
print(f"asking the others: {cross:.3f}, asking all: {listening:.3f}")

# %% [markdown] tags=["solution"]
# Worse: the odd part has its say in the code and draws it to a compromise from which every part is rebuilt half well.
# Ask a witness about *somebody else*.

# %% [markdown]
# **3. Build: name the culprit.** For a mismatch it helps to know *which* part is odd. Use `fitted["graph", seed]`:
# score each sample three times, each time with one part hidden. What happens to the score when the odd part is the
# hidden one?

# %% tags=["solution"]
graph = fitted["graph", seed]
mismatches = {name: part[kinds == "mismatch"] for name, part in X_test.items()}
without = np.stack([graph.anomaly_score({**mismatches, name: None}) for name in names], axis=1)
named = np.array(names)[without.argmin(axis=1)]
accuracy = (named == odd[kinds == "mismatch"]).mean()
assert accuracy > 0.5 or not full_size
print(f"culprit named rightly: {accuracy:.2f} (chance 0.33)")

# %% [markdown] tags=["solution"]
# The score falls to normal when the odd part is hidden, because the other two agree. Leaving out one witness at a time
# is an explanation that works for every detector that accepts missing parts.

# %%
nb.finish()

# %% [markdown]
# ## References
#
# - M. Wu, N. Goodman (2018). Multimodal generative models for scalable weakly-supervised learning. *NeurIPS*.
# - T. M. Sutter, I. Daunhawer, J. E. Vogt (2021). Generalized multimodal ELBO. *ICLR*.
# - A. Vaswani et al. (2017). Attention is all you need. *NeurIPS*.
# - J. Li et al. (2021). Align before fuse: vision and language representation learning with momentum distillation.
#   *NeurIPS*.
# - R. Arandjelović, A. Zisserman (2017). Look, listen and learn. *ICCV*.
# - A. Radford et al. (2021). Learning transferable visual models from natural language supervision. *ICML*.
# - W. Hamilton, R. Ying, J. Leskovec (2017). Inductive representation learning on large graphs. *NeurIPS*.
# - J. Kittler, M. Hatef, R. P. W. Duin, J. Matas (1998). On combining classifiers. *IEEE TPAMI* 20(3).
# - S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023). Testing for outliers with conformal p-values. *Annals of
#   Statistics* 51(1).
# - T. Baltrušaitis, C. Ahuja, L.-P. Morency (2019). Multimodal machine learning: a survey and taxonomy. *IEEE TPAMI*
#   41(2).
