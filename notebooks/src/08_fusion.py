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
# # Fusion: anomalies that no single modality shows
#
# A machine has a camera, a logbook and a vibration sensor. The image, the log entry and the vibration may each be
# normal, and the three may still belong to different states of the machine. A detector of one modality cannot find
# such a sample. The detectors of this notebook look at several modalities of the same object at once.
#
# **You will learn**
#
# - what a cross-modal anomaly is, and why a detector of one modality cannot find it;
# - how images, texts and series are encoded as vectors that can be joined;
# - early fusion (join the codes), late fusion (join the scores), and three methods in between: a shared latent space,
#   attention between modalities, and a graph;
# - how a network learns relations from exchanged parts of normal samples, and which test this training rehearses;
# - which component of each method contributes to its result;
# - what happens when modalities are missing or noisy, and what no detector can find then;
# - when to use which fusion.
#
# Key words, explained in English and Chinese in the [glossary](glossary.md): [mismatch](glossary.md#Mismatch), [early
# fusion](glossary.md#Early-fusion), [late fusion](glossary.md#Late-fusion),
# [cross-attention](glossary.md#Cross-attention), [ceiling](glossary.md#Ceiling).

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
seed: int = 1  # of the data and of every random draw; the defaults of the detectors were chosen on seed 0
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
import torch
from sklearn.linear_model import LogisticRegression

# %%
from mmad_utils import (
    CrossAttentionFusion,
    EarlyFusion,
    GraphFusion,
    KNNDistance,
    LateFusion,
    PCAResidual,
    PixelEncoder,
    RandomScore,
    SeriesEncoder,
    SharedLatentFusion,
    TextEncoder,
    metrics,
    plots,
)
from mmad_utils.course import notebook
from mmad_utils.datasets.paired import SHARES, TIMES, WORDS, add_noise, drop_parts, still_visible
from mmad_utils.multimodal.attention_fusion import shuffled

# %%
nb = notebook.start("08_fusion")
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
# One sample of each kind, normal first.

# %%
examples = {kind: int(np.flatnonzero(kinds == kind)[1]) for kind in ("normal", *SHARES)}
fig, axes = plt.subplots(len(examples), 2, figsize=(7, 8.6), width_ratios=(1, 5), layout="constrained")
for (kind, i), (left, right) in zip(examples.items(), axes):
    left.imshow(X_test["image"][i, :, :, 0], cmap="gray", vmin=0, vmax=255)
    left.axis("off")
    right.plot(X_test["series"][i], color=plots.NORMAL if kind == "normal" else plots.ANOMALY, lw=1.1)
    right.set_title(f"{kind}: “{X_test['text'][i]}”", loc="left", fontsize=8.5)
    right.set(ylim=(-3.6, 3.6), xticks=[0, 32, 64, 96], yticks=[-2, 0, 2])
axes[-1, 1].set_xlabel("step of the series")
nb.figure(fig, "fusion_samples", data=pd.DataFrame({kind: X_test["series"][i] for kind, i in examples.items()}))

# %% [markdown]
# Three of the kinds are broken *within* one part. In the other three each part is normal, and the parts do not belong
# together:
#
# - **mismatch**: one of the three parts shows another digit;
# - **shifted**: the tone comes at another time than the caption says;
# - **three digits**: the three parts show three different digits.
#
# The odd parts were *exchanged* among the samples of a kind. The images of the mismatches, taken alone, therefore have
# the distribution of normal images, and the same holds for captions and series and for the other two kinds. A detector
# of one part has an expected AUROC of 0.5 on them, by construction.

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
nb.table(encoder_table.reset_index().round(3), "fusion_encoders")
read = encoder_table["digit read"]
assert read["text", "TF-IDF"] > (0.9 if full_size else 0.5) and read["series", "features"] > 0.9
assert read["series", "convolutional autoencoder"] < read["series", "features"]
encoder_table.round(3)

# %% [markdown]
# The autoencoder is the worst reader here, and it is worth knowing why: it must copy the *phase* of each tone, which
# is random, before anything else pays. A power spectrum throws the phase away. An encoder is an opinion about what
# does not matter.
#
# ## 3. Single-modality baselines
#
# One detector per modality (a Gaussian with shrinkage on its codes), each tested on the broken part of its own and on
# the mismatches.

# %%
names = ("image", "text", "series")
alone = {name: LateFusion(random_state=seed).fit({name: X_train[name]}) for name in names}
scores_alone = {name: detector.anomaly_score({name: X_test[name]}) for name, detector in alone.items()}
own_kind = dict(zip(names, ("damaged image", "nonsense text", "spiky series")))


def area(scores, kind, X_kinds=kinds):
    """AUROC of the normal test samples against one kind of anomaly or a group of kinds."""
    broken = ("normal", "damaged image", "nonsense text", "spiky series")
    groups = {
        "all": X_kinds != "",
        "all but mismatch": X_kinds != "mismatch",
        "broken parts": np.isin(X_kinds, broken),
    }
    rows = groups.get(kind, np.isin(X_kinds, ("normal", kind)))
    return metrics.auroc(X_kinds[rows] != "normal", scores[rows])


# %%
early = EarlyFusion(random_state=seed).fit(X_train)
early_score = early.anomaly_score(X_test)
panels = {**{f"{name} alone": scores_alone[name] for name in names}, "early fusion": early_score}
fig, axes = plt.subplots(1, 4, figsize=(7, 2.7), layout="constrained", sharey=True)
for axis, (name, scores) in zip(axes, panels.items()):
    ranks = pd.Series(scores).rank(pct=True).to_numpy()
    for kind, color, style in (("normal", plots.NORMAL, "-"), ("mismatch", plots.ANOMALY, "--")):
        axis.hist(ranks[kinds == kind], np.linspace(0, 1, 16), density=True, histtype="step", color=color, ls=style, lw=1.6, label=kind)  # fmt: skip
    axis.set(title=f"{name}\nAUROC {area(scores, 'mismatch'):.2f}", xlabel="rank of the score", xticks=[0, 0.5, 1])
axes[0].set_ylabel("density")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
nb.figure(
    fig,
    "fusion_elephant",
    single_run=True,
    data=pd.DataFrame(panels).assign(kind=kinds).query("kind in ('normal', 'mismatch')"),
)

# %% [markdown]
# In the first three panels the two outlines lie over each other. The fourth detector is one Gaussian for the joined
# codes of all parts (section 5). It learns from normal samples alone which parts go together.

# %%
blind = {name: area(scores, "mismatch") for name, scores in scores_alone.items()}
seen = {name: area(scores_alone[name], own_kind[name]) for name in names}
assert max(abs(value - 0.5) for value in blind.values()) < 0.1, "no part of a mismatch is strange"
assert min(seen.values()) > 0.95, "each detector sees what is broken in its own part"
assert area(early_score, "mismatch") > 0.75 or not full_size
pd.DataFrame({"own broken part": seen, "mismatch": blind}).round(3)

# %% [markdown]
# ## 4. Late fusion: join the scores
#
# Every modality has its own detector, and a rule joins the scores. But the scores have different units: a distance of
# 12 may be much for images and little for texts. They are first converted to **p-values**. The conformal p-value of a
# score is its rank among scores of normal samples that the detector has not been fitted on,
#
# $$p = \frac{1 + \#\{\text{calibration scores} \ge \text{score}\}}{n + 1},$$
#
# and it is uniform for normal samples, whatever the detector. The calibration scores come from cross-fitting: five
# times, four fifths are fitted on and one fifth is scored. P-values of different modalities are comparable, and the
# rules have statistical meanings:
#
# | rule | score | large if |
# |---|---|---|
# | sum | Fisher: $-\log P(\chi^2_{2k} > -2\sum\log p_m)$ | the scores together are unusual |
# | mean, weighted | $-\sum w_m \log p_m / \sum w_m$ | the same, with weights |
# | max | $-\log(1 - (1 - \min p)^k)$ | at least one score is unusual |
# | vote | share of modalities with $p \le 0.05$ | many scores are unusual |

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
nb.table(late.rename_axis("rule").reset_index().round(3), "fusion_late")
assert late[["mismatch", "shifted", "three digits"]].to_numpy().max() < 0.65, "the rules see no relation"
assert late.loc["max", "damaged image"] >= late.loc["vote", "damaged image"]
late.round(3)

# %% [markdown]
# For broken parts the maximum is the best rule: one score is informative, and the others add noise to a sum. The weight
# of the image helps with images and costs with the other parts. The vote discards most of the information. *No* rule
# finds cross-modal anomalies. Each detector has seen its own part only, and the relations between the parts were lost
# before the rule was applied.
#
# ## 5. Early fusion: join the codes
#
# The other extreme puts all codes side by side and asks one detector. A Gaussian of the joined row holds the
# covariances *between* modalities, so it expects, say, high pitch where the caption says "nine". Two details matter:
#
# - **Scale.** The codes of each modality are divided by one number, so that their columns have mean variance 1.
#   Otherwise more than a hundred columns of text would dominate 33 of images.
# - **Gaps.** A missing part is filled in with its conditional mean given the others,
#   $\mu_g + \Sigma_{gp}\Sigma_{pp}^{-1}(x_p - \mu_p)$. A row with one part has fewer ways to be strange than a row
#   with three, so scores are standardised by what normal rows *with the same parts* get.

# %%
assert area(early_score, "mismatch") > max(late["mismatch"]) + 0.1, "covariances see relations"
{kind: round(area(early_score, kind), 3) for kind in SHARES}

# %% [markdown]
# Early fusion finds cross-modal anomalies in half a second of computation. A covariance is a *linear* relation: "more
# of this word, more of that frequency". That an image shows a three is not linear in its pixels.
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
# ### Attention, trained on exchanged parts
#
# The negatives of `CrossAttentionFusion` are made from normal samples: one part of each sample of a batch is replaced
# by that of another sample, and a classifier learns to tell true from exchanged. Each part is a token, and a token may
# attend only to the tokens of the *other* modalities. A contrastive loss brings the tokens of one sample together
# first ("align before fuse", Li et al. 2021).
#
# ### A graph
#
# `GraphFusion` makes every part a node. Edges join the parts of one sample, and a part with the five most similar parts
# of training samples, so that an image receives messages from the captions of similar images. Whether two parts belong
# together is a link to be predicted, and links between different samples are the negatives. Without the edges between
# samples, `n_neighbors=0`, a contrastive latent space as in CLIP remains.
#
# The last method of the table is late fusion with a *joint* score, that of the contrastive space, beside the three
# scores of single parts.
#
# ### The training rehearses mismatches
#
# A mismatch is a sample with one part of another sample, and so are the negatives of cross-attention. A link of a
# mismatch is a negative of the graph. **The training of these two methods rehearses this test.** Their AUROC on
# mismatches shows that a network can learn to classify anomalies that it was trained on; it says nothing about others.
# Early fusion and the shared latent space use no negatives and rehearse nothing.
#
# How much of each kind do the negatives contain? We exchange parts as `CrossAttentionFusion` does and read the digit
# and the time from the captions.

# %%
late_time = np.array([any(re.search(rf"\b{phrase}\b", text) for phrase in TIMES["late"]) for text in X_train["text"]])
labels = torch.tensor(np.stack([digits, late_time], axis=1))[:, None].repeat(1, 3, 1)  # (n, 3 parts, digit and time)
generator = torch.Generator().manual_seed(seed)
everything = torch.ones(labels.shape[:2], dtype=torch.bool)
mixed = torch.cat([shuffled(labels, everything, generator)[0] for _ in range(20)])
shown = np.sort(mixed[..., 0].numpy(), axis=1)
different = 1 + (np.diff(shown, axis=1) != 0).sum(axis=1)  # digits that the parts show
other_time = (mixed[:, 1, 1] != mixed[:, 2, 1]).numpy()  # text and series
negatives = pd.Series({
    "mismatch": np.mean((different == 2) & ~other_time), "mismatch and shifted": np.mean((different == 2) & other_time),
    "shifted": np.mean((different == 1) & other_time), "three digits": np.mean(different == 3),
    "no contradiction": np.mean((different == 1) & ~other_time),
}).rename("share")  # fmt: skip
nb.table(negatives.rename_axis("what the negative is").round(3).reset_index(), "fusion_negatives")
for key, kind in (("mismatch", "mismatch"), ("both", "mismatch and shifted"), ("shifted", "shifted")):
    nb.value(f"negatives_{key}", negatives[kind])
assert negatives["mismatch"] > 0.5 > 0.06 > negatives["shifted"] and negatives["three digits"] == 0
negatives.to_frame().round(3)

# %% [markdown]
# Six of ten negatives are mismatches, and three of ten are mismatches in which the time is wrong as well. One negative in
# thirty is only shifted, when the exchanged part happens to show the same digit. Three different digits do not occur,
# since one exchanged part leaves two that agree. For the graph, whose negatives are single links, three digits are
# three links of that kind.
#
# No kind is entirely new to both methods. The parts of these samples share the digit and the time and nothing else, and
# exchanging parts yields every pair of parts that normal samples have. Each cross-modal anomaly with normal parts is
# such a combination. We therefore report **shifted samples, three digits and broken parts first**, and mark mismatches
# as rehearsed.


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
    """Late and early fusion, early fusion with other detectors, and late fusion with a joint score."""
    joint = GraphFusion(n_neighbors=0, epochs=graph_epochs, random_state=seed)
    return {
        "late, sum": LateFusion("sum", random_state=seed),
        "late, max": LateFusion("max", random_state=seed),
        "early, PCA": EarlyFusion(PCAResidual(), random_state=seed),
        "early, kNN": EarlyFusion(KNNDistance(), random_state=seed),
        "early": EarlyFusion(random_state=seed),
        "late, max, joint": LateFusion("max", joint=joint, folds=3, random_state=seed),
    }


# %%
def ablated(seed):
    """The learned fusions, each without one of its components."""
    attention = {"random_state": seed, "epochs": attention_epochs}
    latent = {"random_state": seed, "epochs": latent_epochs}
    return {
        "shared latent, complete only": SharedLatentFusion(subsets=False, **latent),
        "shared latent, reconstruction": SharedLatentFusion(scoring="reconstruction", **latent),
        "cross-attention, not aligned": CrossAttentionFusion(alignment=0.0, **attention),
        "concatenation": CrossAttentionFusion(attention=False, **attention),
        "concatenation, not aligned": CrossAttentionFusion(attention=False, alignment=0.0, **attention),
    }


# %% [markdown]
# ## 7. Methods and kinds of anomaly
#
# All methods in one table, over several seeds, each of which makes a new data set. A random score, single modalities,
# a PCA residual and kNN on the joined codes, and untrained networks are the controls. `all but mismatch` has all
# anomalies that are not mismatches; `broken parts` joins the three kinds that are broken within one part.

# %%
columns = [*(kind for kind in SHARES if kind != "mismatch"), "all but mismatch", "mismatch"]
fitted, tests, measured = {}, {}, []
for s in range(seed, seed + n_seeds):
    made = tests[s] = nb.load("paired_digits", seed=s)
    train = {name: part[rows] for name, part in made.X_train.items()}
    these = np.array(made.source["kinds_test"])
    scored = {"random score": RandomScore(s).fit(train["series"]).anomaly_score(made.X_test["series"])}
    for name in names:
        one = LateFusion(random_state=s).fit({name: train[name]})
        scored[f"{name} alone"] = one.anomaly_score({name: made.X_test[name]})
    for name, detector in {**simple(s), **learned(s), **ablated(s)}.items():
        scored[name] = detector.fit(train).anomaly_score(made.X_test)
        fitted[name, s] = detector
    for name, detector in learned(s, trained=False).items():
        scored[f"{name}, untrained"] = detector.fit(train).anomaly_score(made.X_test)
    kinds_shown = ["broken parts", *columns]
    measured += [(name, kind, area(v, kind, these)) for kind in kinds_shown for name, v in scored.items()]

# %%
runs = pd.DataFrame(measured, columns=["method", "kind", "AUROC"])
table = runs.pivot_table("AUROC", "method", "kind", sort=False)
spread = runs.groupby(["method", "kind"], sort=False)["AUROC"].std().unstack()
shown = table.drop(index=list(ablated(seed)))
rehearsed = ["late, max, joint", "cross-attention", "graph", "contrastive"]


def with_spread(means):
    """Cells as text, mean ± standard deviation over the seeds."""
    cells = means.map("{:.2f}".format)
    return cells + " ± " + spread.loc[means.index, means.columns].map("{:.2f}".format) if n_seeds > 1 else cells


summary = ["broken parts", "shifted", "three digits", "all but mismatch", "mismatch"]
nb.table(with_spread(shown[summary]).reset_index(), "fusion_by_kind", n=n_seeds)
with_spread(shown[summary])

# %%
shown = shown[columns]
fig, axis = plt.subplots(figsize=(7, 0.9 + 0.27 * len(shown)), layout="constrained")
axis.imshow(shown, cmap="cividis", vmin=0.4, vmax=1.0, aspect="auto")
for i, row in enumerate(shown.to_numpy()):
    for j, value in enumerate(row):
        mark = "*" if shown.index[i] in rehearsed and shown.columns[j] == "mismatch" else ""
        axis.text(j, i, f"{value:.2f}{mark}", ha="center", va="center", fontsize=8.5, color="white" if value < 0.72 else "black")  # fmt: skip
axis.set_xticks(range(len(shown.columns)), [kind.replace(" ", "\n") for kind in shown.columns])
axis.set_yticks(range(len(shown)), shown.index)
axis.xaxis.tick_top()
axis.grid(False)
nb.figure(
    fig, "fusion_by_kind", data=shown.join(spread.loc[shown.index, columns], rsuffix=" sd").reset_index(), n=n_seeds
)

# %% [markdown]
# **Broken parts.** Late fusion with the maximum is best: one score reacts, and the maximum keeps it. The methods that
# compare parts lose here, since a broken part is only indirectly a contradiction.
#
# **Shifted samples** are the hardest kind. Only two parts are concerned, and of these one phrase and one onset.
# Cross-attention is clearly ahead of early fusion and the shared latent space. Its negatives do contain the wrong time,
# mostly beside a wrong digit. The joint score of late fusion is one of four and is diluted by the others.
#
# **Three digits** contradict each other in every pair of parts, more than a mismatch does. Every method that looks at
# relations finds more of them than of mismatches, also early fusion and the shared latent space, which have seen no
# negatives. That cross-attention finds them shows that its score extends to contradictions that it was not trained on;
# it is not a hard test.
#
# **Mismatches**, rehearsed: the networks that exchange parts are near 1. The two methods that do not rehearse them,
# early fusion and the shared latent space, are the fair comparison between each other; single modalities and late
# fusion stay near 0.5.

# %%
learned_names = list(learned(seed))
single = [f"{name} alone" for name in names]
relations = ["shifted", "three digits", "mismatch"]
assert table.loc[[*single, "late, sum", "late, max"], relations].to_numpy().max() < 0.65
if full_size and n_seeds >= 2:
    assert table.loc["cross-attention", "shifted"] > table.loc["shared latent", "shifted"] + 0.05
    assert (
        table.loc[["early", "shared latent"], "three digits"] > table.loc[["early", "shared latent"], "mismatch"]
    ).all()
    assert table.loc["late, max", ["damaged image", "nonsense text", "spiky series"]].min() > 0.97
for name in learned_names:
    gain = table.loc[name, "three digits"] - table.loc[f"{name}, untrained", "three digits"]
    assert gain > 0.1 or not full_size, "training is what finds contradictions"

# %%
recorded = {"single": "text alone", "late": "late, max", "early": "early", "latent": "shared latent",
            "attention": "cross-attention", "graph": "graph", "contrastive": "contrastive", "joint": "late, max, joint",
            "attention_untrained": "cross-attention, untrained", "concatenation": "concatenation"}  # fmt: skip
for kind, start in (("shifted", "shifted"), ("three digits", "three_digits"), ("mismatch", "mismatch"),
                    ("all but mismatch", "not_mismatch")):  # fmt: skip
    for key, name in recorded.items():
        sd = spread.loc[name, kind] if n_seeds > 1 else None
        nb.value(f"{start}_{key}_auroc", table.loc[name, kind], sd=sd, n=n_seeds)

# %% [markdown]
# ### Ablations
#
# What does each component contribute? Each row leaves one out.
#
# - *Shared latent, complete only* trains on the bound of all parts together, without the bounds of subsets: no part
#   learns to predict another. *Reconstruction* has the subsets, but scores each part given all parts, itself included.
# - *Cross-attention, not aligned* has no contrastive loss. *Concatenation* has it, and replaces the attention layers by
#   a perceptron on the concatenated tokens.
# - *Contrastive* is the graph without edges between samples.

# %%
components = {
    "shared latent": ["shared latent, complete only", "shared latent, reconstruction"],
    "cross-attention": ["cross-attention, not aligned", "concatenation", "concatenation, not aligned"],
    "graph": ["contrastive"],
}
order = [name for method, variants in components.items() for name in (method, *variants)]
ablations = table.loc[order, ["shifted", "three digits", "all but mismatch", "mismatch"]]
nb.table(with_spread(ablations).reset_index(), "fusion_ablations", n=n_seeds)
with_spread(ablations)

# %% [markdown]
# - **Shared latent space.** The bounds of subsets are the mechanism. Without them every kind loses, three digits and
#   mismatches most. The score of each part given the others contributes on shifted samples and mismatches only.
# - **Cross-attention.** The contrastive loss contributes most. Without it the network learns one of the two relations,
#   digit or time, and which one depends on the seed. The attention contributes nothing beyond the spread of seeds: the
#   perceptron on concatenated tokens is no worse, in a quarter of the time. With three tokens per sample, attention has
#   little to select from.
# - **Graph.** The edges between samples contribute nothing beyond the spread of seeds: the contrastive loss does the
#   work.
#
# benchmarks/README.md has the same table over five seeds.

# %%
if full_size and n_seeds >= 2:
    change = {
        name: table.loc[method] - table.loc[name] for method, variants in components.items() for name in variants
    }
    assert change["shared latent, complete only"]["three digits"] > 0.05
    assert change["cross-attention, not aligned"]["all but mismatch"] > 0.02
    assert change["concatenation"]["all but mismatch"] < 0.02, "attention does not pay"
    assert abs(change["contrastive"]["all but mismatch"]) < 0.04, "neither do the edges"

# %% [markdown]
# ## 8. Missing modalities
#
# A sensor fails, or a caption was never written. Every method here accepts `None`. We drop parts of the *test* samples
# at random; each sample keeps at least one. A sample whose wrong part is missing has become normal: what is left of it
# agrees, and no detector can find it. So two numbers are shown: AUROC over all samples with their old labels, with the
# **ceiling** that a perfect detector would reach (the visible anomalies first, the others in any order); and AUROC over
# the samples whose anomaly is still visible. Mismatches are left out, since two of the methods rehearse them.

# %%
lines = ["late, max, joint", "early", "shared latent", "cross-attention", "graph"]
rows_missing = []
for s, made in tests.items():
    rest = np.array(made.source["kinds_test"]) != "mismatch"
    for share in missing_shares:
        dropped = drop_parts(made.X_test, share, s)
        seen = rest & still_visible(made, dropped)
        rows_missing.append(("ceiling", s, share, metrics.auroc(made.y_test[rest], (made.y_test * seen)[rest]), 1.0))
        for name in lines:
            scores = fitted[name, s].anomaly_score(dropped)
            areas = [metrics.auroc(made.y_test[group], scores[group]) for group in (rest, seen)]
            rows_missing.append((name, s, share, *areas))
each = pd.DataFrame(rows_missing, columns=["method", "seed", "share missing", "all", "visible"])
missing = each.groupby(["method", "share missing"], sort=False)[["all", "visible"]].mean().reset_index()

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.3), layout="constrained", sharey=True)
looks = list(zip(plots.MARKERS, plots.LINES, plots.COLORS))
for name, (marker, line, color) in zip(lines, looks):
    part = missing[missing["method"] == name]
    for axis, column in zip(axes, ("all", "visible")):
        axis.plot(part["share missing"], part[column], marker=marker, ls=line, color=color, ms=4.5, label=name)
ceiling = missing[missing["method"] == "ceiling"]
axes[0].plot(ceiling["share missing"], ceiling["all"], color="0.4", lw=1, label="ceiling")
axes[0].set(title="all but mismatches", xlabel="share of parts missing", ylabel="AUROC", ylim=(0.5, 1.01))
axes[1].set(title="anomalies that are still visible", xlabel="share of parts missing")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
nb.figure(fig, "fusion_missing", data=missing)

# %% [markdown]
# Left, every line falls because the ceiling does.
#
# Right, only the anomalies that can still be found count. Cross-attention and the graph *compare* parts, and a sample
# with one part left has nothing to compare: its broken part is not found. Late fusion with a joint score, early fusion
# and the shared latent space also model each part by itself. Their lines rise, because more and more of the visible
# anomalies are broken parts, which are easy.

# %%
at = min(missing_shares, key=lambda share: abs(share - 0.3))
by_share = missing.pivot(index="method", columns="share missing", values="visible").loc[lines]
loss = by_share[min(missing_shares)] - by_share[at]
by_seed = each.pivot(index=["method", "seed"], columns="share missing", values="visible").loc["cross-attention"]
losses, ceiling_at = (
    by_seed[min(missing_shares)] - by_seed[at],
    each.query("method == 'ceiling'").groupby("share missing")["all"],
)
last = by_share[max(missing_shares)]
if full_size and max(missing_shares) >= 0.6:
    assert last[["late, max, joint", "early", "shared latent"]].min() > last[["cross-attention", "graph"]].max()
sd = {"loss": losses.std(), "ceiling": ceiling_at.std()[at]} if n_seeds > 1 else {"loss": None, "ceiling": None}
nb.value("missing_loss_visible", losses.mean(), sd=sd["loss"], n=n_seeds)
nb.value("missing_ceiling", ceiling_at.mean()[at], sd=sd["ceiling"], n=n_seeds)
nb.table(missing.round(3), "fusion_missing")
loss.round(3)

# %% [markdown]
# Parts may be missing at *fit* as well: encoders learn from the parts that are there, the latent space multiplies fewer
# experts, the networks mask.

# %%
gappy = drop_parts(X_train, 0.3, seed + 1)
at_fit = {}
for name, detector in {"early": EarlyFusion(random_state=seed), "graph": learned(seed)["graph"]}.items():
    at_fit[name] = {"complete": area(fitted[name, seed].anomaly_score(X_test), "all but mismatch"),
                    "30% missing at fit": area(detector.fit(gappy).anomaly_score(X_test), "all but mismatch")}  # fmt: skip
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
        noisy_rows.append((name, level, *(area(scores, kind) for kind in ("all but mismatch", "mismatch"))))
noise = pd.DataFrame(noisy_rows, columns=["method", "noise", "all but mismatch", "mismatch"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(7, 3.0), layout="constrained", sharey=True)
for (name, part), (marker, line, color) in zip(noise.groupby("method", sort=False), looks):
    for axis, column in zip(axes, ("all but mismatch", "mismatch")):
        axis.plot(part["noise"], part[column], marker=marker, ls=line, color=color, ms=4.5, label=name)
axes[0].set(title="all but mismatches", xlabel="noise level", ylabel="AUROC", ylim=(0.4, 1.01))
axes[1].set(title="mismatches (contrastive: rehearsed)", xlabel="noise level")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
nb.figure(fig, "fusion_noise", data=noise)

# %% [markdown]
# Every method loses with noise, late fusion too, since a broken part is less visible in a noisy part. The contrastive
# space learns only what the parts have in common, and noise is not shared; early fusion and the latent space model all
# that is in a part, noise included. On mismatches the contrastive space has also been trained on this kind of anomaly,
# so that the right panel does not compare it fairly with the others.

# %%
clean = noise[noise["noise"] == min(noise_levels)].set_index("method")["mismatch"]
dirty = noise[noise["noise"] == max(noise_levels)].set_index("method")["mismatch"]
nb.table(noise.round(3), "fusion_noise")
assert (dirty < clean)[["early", "shared latent", "contrastive"]].all() or not full_size
assert abs(dirty["late, max"] - 0.5) < 0.12, "late fusion does not see mismatches at any level"
pd.DataFrame({"clean": clean, "noisiest": dirty}).round(3)

# %% [markdown]
# ## 10. When is which fusion the right one?
#
# | fusion | take it when | beware |
# |---|---|---|
# | late | anomalies are inside single parts; detectors belong to different teams; modalities are often missing; the report must say *which* part is anomalous | sees no cross-modal anomaly, by construction |
# | early | relations are near linear, data are few, fitting must be quick | scales, missing parts, many columns |
# | shared latent | anomalies are not known in advance, and relations are not linear; parts must be predicted from others | models style as well as content |
# | cross-attention | the anomalies are exchanged parts, as its negatives are | rehearses that test; needs alignment; slow; weak on broken parts |
# | graph, contrastive | the same | the same, except that it is fast |
# | late with a joint score | both broken parts and exchanged parts may occur | cross-fitting trains the joint detector several times; each score dilutes the others |
#
# ## In this notebook
#
# - A cross-modal anomaly is in the relation, not in the parts. Single modalities, and every rule that joins their
#   scores, have an AUROC near 0.5.
# - Early fusion and the shared latent space find part of these anomalies and are trained on normal samples only.
# - Cross-attention and the graph are trained on exchanged parts. They find nearly all mismatches, which are made in the
#   same way: this test is rehearsed. On shifted samples cross-attention is far ahead of early fusion, the graph is not.
#   A third of the negatives have a wrong time, nearly all of them beside a wrong digit.
# - On data whose normal parts share only the digit and the time, exchanged parts yield every cross-modal anomaly, and no
#   kind is entirely new. "Three digits" is new to cross-attention, and easier than a mismatch.
# - With missing parts some anomalies cannot be seen any more. Report the ceiling beside the result.
# - No fusion is best for all kinds.
#
# ## Exercises
#
# **1. Predict: without the image.** Leave out the image. Will caption and series alone find the mismatches whose odd part
# is the image? And the others?

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
# Where the image is odd, caption and series agree with each other, and nothing can be found. The other two are found as
# before.

# %% [markdown]
# **2. Change: another score.** `SharedLatentFusion(scoring="reconstruction")` reconstructs each part from the code of
# *all* parts, itself included, as an ordinary autoencoder does. Predict what that does to mismatches.

# %% tags=["solution"]
cross, reconstruction = (
    area(fitted[name, seed].anomaly_score(X_test), "mismatch")
    for name in ("shared latent", "shared latent, reconstruction")
)
assert cross > reconstruction or not full_size
print(f"given the other parts: {cross:.3f}, given all parts: {reconstruction:.3f}")

# %% [markdown] tags=["solution"]
# Worse: the odd part contributes to the code from which it is reconstructed, and its error becomes smaller.

# %% [markdown]
# **3. Build: find the odd part.** For a mismatch it helps to know *which* part is odd. Use `fitted["graph", seed]`:
# score each sample three times, each time with one part hidden. What happens to the score when the odd part is the
# hidden one?

# %% tags=["solution"]
graph = fitted["graph", seed]
mismatches = {name: part[kinds == "mismatch"] for name, part in X_test.items()}
without = np.stack([graph.anomaly_score({**mismatches, name: None}) for name in names], axis=1)
named = np.array(names)[without.argmin(axis=1)]
accuracy = (named == odd[kinds == "mismatch"]).mean()
assert accuracy > 0.5 or not full_size
print(f"odd part found: {accuracy:.2f} (at random 0.33)")

# %% [markdown] tags=["solution"]
# The score falls to that of normal samples when the odd part is hidden, because the other two agree. Hiding one part at
# a time explains every detector that accepts missing parts.

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
