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
# # Variational and adversarial autoencoders, and a comparison of all autoencoders
#
# A plain autoencoder learns the latent codes of its training samples. It learns nothing about the latent codes between
# them. The variational and the adversarial autoencoder give the latent codes a known distribution. A random latent code
# then decodes to a plausible new sample. The second part of the notebook compares all autoencoders of the course with
# simple baselines and with untrained networks.
#
# **You will learn**
#
# - how a variational autoencoder is trained, with the reparametrisation and the divergence;
# - how the weight of the divergence changes the latent codes, up to posterior collapse;
# - how an adversarial autoencoder reaches a similar aim with a discriminator;
# - how to score by the reconstruction probability;
# - when a high AUROC shows that a network has learned, and when it does not.
#
# Reading takes about 30 minutes, running about 90 seconds. You need notebook 03 for the plain autoencoder and notebook
# 03b for the robust one. The data come with scikit-learn.
#
# Terms, explained in English and Chinese in the [glossary](glossary.md): [variational
# autoencoder](glossary.md#Variational-autoencoder), [posterior collapse](glossary.md#Posterior-collapse), [adversarial
# autoencoder](glossary.md#Adversarial-autoencoder), [latent space](glossary.md#Latent-space), [reconstruction
# error](glossary.md#Reconstruction-error), [untrained network](glossary.md#Untrained-network).

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
digit: int = 9  # the handwritten digit that is normal; the nine others are anomalies
hard_datasets: list[str] = ["injected/dependency/breast_cancer"]  # tables on which the distance to the centre fails
easy_dataset: str = "breast_cancer"  # a table on which the distance to the centre is enough
seed: int = 0  # of every split and every random draw
n_seeds: int = 2  # splits and trainings for the tables of results, at least 1
epochs: int = 50  # passes over the training data, at least 20
betas: list[float] = [0.0, 0.1, 1.0, 10.0, 100.0]  # weights of the divergence in the variational autoencoder
# The rows of the tables of results, "AutoEncoder" among them:
family: list[str] = [
    "AutoEncoder", "DenoisingAutoEncoder", "StackedDenoisingAutoEncoder", "SparseAutoEncoder",
    "ContractiveAutoEncoder", "VariationalAutoEncoder", "AdversarialAutoEncoder", "RobustPCA",
    "RobustDeepAutoEncoder",
]  # fmt: skip

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import binary_cross_entropy_with_logits

# %%
from mmad_utils import plots
from mmad_utils.benchmark import measure
from mmad_utils.course import notebook, widgets
from mmad_utils.detectors.autoencoders import AutoEncoder
from mmad_utils.detectors.generative_autoencoders import AdversarialAutoEncoder, VariationalAutoEncoder
from mmad_utils.metrics import evaluate

nb = notebook.start("03c_generative_autoencoders")

# %% [markdown]
# ## The data
#
# We use the handwritten digits of scikit-learn, grey images of 8×8 pixels. One digit is the normal class. Half of its
# images are the training set. The other half and all images of the other digits are the test set.

# %%
data = nb.load(f"digits/{digit}", seed=seed)
normal = data.X_test[data.y_test == 0]
data

# %% [markdown]
# As in notebook 03, we do the training step of each method by hand before we use its class. With `epochs=0` the class
# gives us its network before training. The function also returns the training images, shuffled by the random generator
# of the detector, so that our step can be compared with that of the class.


# %%
def start_of_training(detector):
    """The untrained network of a detector, the shuffled training images, and the detector's random generator."""
    detector.set_params(epochs=0).fit(data.X_train)
    generator = torch.Generator().manual_seed(detector.seed_)
    pixels = torch.from_numpy(data.X_train).permute(0, 3, 1, 2).float() / 255  # (90, 1, 8, 8) in [0, 1]
    return detector.network_.train(), pixels[torch.randperm(len(pixels), generator=generator)], generator


# %% [markdown]
# ## 1. The variational autoencoder
#
# The encoder of a plain autoencoder maps each training sample to a point. Its loss says nothing about the points
# between them. Suppose that the latent code of a crescent moon is 1 and that of a full moon is 10. Does 5 decode to a
# half moon? The decoder was not trained for this latent code.
#
# The variational autoencoder (VAE, Kingma and Welling 2013) maps a sample to a normal distribution of latent codes,
# $z \sim \mathcal N(\mu(x), \operatorname{diag} \sigma^2(x))$. At each training step it draws a latent code from this
# distribution, and the decoder must reconstruct $x$ from it. A random draw has no derivative with respect to $\mu$ and
# $\sigma$. The **reparametrisation** solves this problem: $z = \mu + \sigma \varepsilon$ with $\varepsilon \sim
# \mathcal N(0, I)$ has the same distribution, and it has these derivatives. The loss is
#
# $$E_z\big[-\log p(x \mid z)\big] + \beta\, \mathrm{KL}\big(\mathcal N(\mu, \sigma^2) \,\Vert\, \mathcal N(0, I)\big),
# \qquad \mathrm{KL} = \tfrac12 \sum_k \big(\mu_k^2 + \sigma_k^2 - \log \sigma_k^2 - 1\big),$$
#
# with $\beta = 1$ in the paper. The first term is the squared error divided by its variance $v$, plus $\log v$. We use
# the mean squared error of the batch as $v$ (Rybkin et al. 2021). The second term, the **divergence**, keeps the
# distributions close to $\mathcal N(0, I)$. Noise in the latent code increases the error. Without the divergence, the
# network would therefore make $\sigma$ small and the distances between the means $\mu$ large. It would be a plain
# autoencoder.
#
# ### One training step

# %% tags=["step"]
network, batch, generator = start_of_training(VariationalAutoEncoder(random_state=seed))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
mean, log_variance = network["encoder"](batch).chunk(2, dim=1)  # μ and log σ², (90, 8) each

# %% [markdown]
# The reparametrisation draws the noise and scales it by $\sigma$. The decoder reconstructs the batch from the latent
# codes.

# %% tags=["step"]
noise = torch.randn(mean.shape, generator=generator)
latent = mean + torch.exp(log_variance / 2) * noise
errors = (network["decoder"](latent) - batch).square()
v = errors.mean()

# %% [markdown]
# Both terms of the loss have one value per sample.

# %% tags=["step"]
likelihood = 0.5 * (errors / v + torch.log(v)).flatten(1).sum(1)  # -log p(x | z), without its constant
divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
loss = likelihood.mean() + 1.0 * divergence.mean()  # β = 1

# %% tags=["step"]
optimizer.zero_grad()
loss.backward()
optimizer.step()

# %% tags=["claim"]
# One epoch of the class, with all images in one batch, gives the weights of our step. The operations are the same and
# in the same order. The tolerance allows for libraries that take sums in another order.


def has_weights_of(detector, network):
    """Whether the class reaches the weights of `network` in one epoch with one batch."""
    detector.set_params(epochs=1, batch_size=len(data.X_train)).fit(data.X_train)
    pairs = list(zip(detector.network_.parameters(), network.parameters(), strict=True))
    return all(torch.allclose(theirs, ours, atol=1e-6) for theirs, ours in pairs)


assert has_weights_of(VariationalAutoEncoder(beta=1.0, random_state=seed), network)

# %% [markdown]
# ### The weight of the divergence
#
# We train the class with different weights $\beta$. All other settings stay the same. For unseen normal digits we measure the standard deviation of the
# means $\mu$ and the mean of $\sigma$. The column "signal" is the share of the means in the total variance of the latent
# codes. The error is that of the reconstruction $g(\mu)$.

# %%
rows = []
for beta in betas:
    vae = VariationalAutoEncoder(beta=beta, epochs=3 * epochs, random_state=seed).fit(data.X_train)
    mu, sigma = vae.encode(normal), vae.encode_sd(normal)
    signal = 100 * (mu.var(0) / (mu.var(0) + (sigma**2).mean(0))).mean()
    error, area = vae.anomaly_score(normal).mean(), evaluate(vae, data).auroc
    rows.append([beta, mu.std(0).mean(), sigma.mean(), signal, error, area])

# %%
columns = ["beta", "sd of mu", "mean sigma", "signal (%)", "error, normal", "AUROC"]
by_beta = pd.DataFrame(rows, columns=columns).set_index("beta")
by_beta.round(3)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.7), layout="constrained")
named = by_beta.rename(index="{:g}".format)
named[["mean sigma", "sd of mu"]].plot(ax=left, style=["o-", "s--"], logy=True, ylabel="in units of the latent code")
named["error, normal"].plot(ax=right, style="o-", ylim=(0, None), ylabel="squared error of normal digits")
for axis in (left, right):
    axis.set_xlabel(r"weight $\beta$ of the divergence")
nb.figure(fig, "divergence_effect", data=by_beta.reset_index())

# %% [markdown]
# Without the divergence, $\sigma$ is nearly zero compared with the spread of the means. As $\beta$ grows, $\sigma$
# grows relative to it. With a very large $\beta$ every digit has the distribution $\mathcal N(0, I)$, so the latent
# code contains no information about the digit. This is **posterior collapse**. The reconstruction is then the mean
# training digit for every input.

# %% tags=["claim"]
# The limits are far from the measured values, which are 0.003 for β = 0 and above 0.99 for β = 100.
if len(by_beta) > 1:
    assert by_beta["signal (%)"].is_monotonic_decreasing
    assert by_beta["mean sigma"].iloc[0] < 0.5 and by_beta["mean sigma"].iloc[-1] > 0.8
    assert by_beta["error, normal"].iloc[-1] > 1.5 * by_beta["error, normal"].iloc[0]

# %% [markdown]
# ## 2. Latent codes between training samples
#
# Now we test the example of the moons. We generate images of 16×16 pixels. The phase is 0 for the new moon and 1 for
# the full moon.

# %%
side = np.linspace(-1.15, 1.15, 16)
across, down = np.meshgrid(side, side)


# %%
def moon(phase):
    """A moon of phase 0 (new) to 1 (full), (16, 16, 1) uint8; its edges are soft."""
    terminator = np.cos(np.pi * phase) * np.sqrt(np.clip(1 - down**2, 0, None))
    disc = 1 / (1 + np.exp(25 * (np.hypot(across, down) - 1)))
    return (255 * disc / (1 + np.exp(25 * (terminator - across)))).round().astype(np.uint8)[..., None]


# %%
moons = np.stack([moon(phase) for phase in np.random.default_rng(seed).uniform(0.15, 1, 200)])

# %% [markdown]
# A plain and a variational autoencoder are trained on 200 moons of random phases, with a latent code of two numbers. Then
# we take 25 points on the straight line from the latent code of a crescent to that of a full moon, and decode them. We
# do this twice, with different random seeds. The weight $\beta = 40$ is large.

# %%
walks = {}
for i in range(2):
    options = {"latent_dim": 2, "epochs": 3 * epochs, "random_state": seed + i}
    detectors = {"plain AE": AutoEncoder(**options), "variational AE": VariationalAutoEncoder(beta=40.0, **options)}
    for name, each in detectors.items():
        start, end = each.fit(moons).encode(np.stack([moon(0.25), moon(0.95)]))
        walks[name, i] = each.decode(np.linspace(start, end, 25))

# %% [markdown]
# Is a decoded image a moon? We measure its distance to the nearest true moon of any phase, as a root mean square over
# the pixels, where white is 1. The table shows the mean over the images between the two ends, for both seeds.


# %%
def distance_to_moons(images):
    """Distance of each image to each moon of 91 phases, (n, 91)."""
    every_moon = np.stack([moon(phase) for phase in np.linspace(0.1, 1, 91)])
    return np.sqrt(np.square(images[:, None] / 255.0 - every_moon / 255.0).mean((2, 3, 4)))


# %%
distances = {key: distance_to_moons(walk) for key, walk in walks.items()}
nearest = pd.DataFrame({f"{name} {i}": each[::3].min(1) for (name, i), each in distances.items()})

# %%
images = {name: walks[name, 0][::3, ..., 0] for name in ("plain AE", "variational AE")}
fig = plots.image_rows(images)
nb.figure(fig, "moon_walk", single_run=True, data=nearest)

# %%
means = nearest[1:-1].mean()
pd.DataFrame({name: [means[f"{name} {i}"] for i in range(2)] for name in images}).rename_axis("seed").round(3)

# %% [markdown]
# The noise in the latent codes of the variational autoencoder makes similar images out of neighbouring latent codes.
# Along the line the phases are therefore in their order, and the half moon lies near the middle. All phases were in the
# training set. For phases that are missing there, no autoencoder can know the images, see exercise 2.

# %% tags=["claim"]
off = {name: np.mean([means[f"{name} {i}"] for i in range(2)]) for name in images}
middle = np.linspace(0.1, 1, 91)[distances["variational AE", 0].argmin(1)[12]]
assert off["variational AE"] < 0.6 * off["plain AE"]
assert 0.4 < middle < 0.8, "between crescent and full moon"

# %% [markdown]
# In JupyterLab you can move along the line with the slider, by mouse or arrow keys. Does the border between light and
# dark move, or does one image change gradually into the other? A printed page shows only the middle of the line.


# %%
def at_step(k):
    """The two decoded images at one of the 25 points."""
    fig, axes = plt.subplots(1, 2, figsize=(3.6, 1.9), layout="constrained")
    for axis, name in zip(axes, images):
        axis.imshow(walks[name, 0][k, ..., 0], cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"{name}\ndistance {distances[name, 0][k].min():.3f}")
        axis.set_axis_off()
    return fig


# %%
def in_words(k):
    """The text alternative of the figure."""
    parts = [f"{name} {distances[name, 0][k].min():.3f}" for name in images]
    return f"Two moons decoded at point {k} of 24. Distances to a true moon: {', '.join(parts)}."


widgets.FigureSlider(at_step, range(25), label="point on the line", start=12, alt=in_words)

# %% [markdown]
# ## 3. The adversarial autoencoder
#
# The adversarial autoencoder (AAE, Makhzani et al. 2015) has the same aim as the divergence: the latent codes of the
# training samples should be distributed as $\mathcal N(0, I)$. It uses a second network, the **discriminator**. It
# receives random draws from $\mathcal N(0, I)$ and latent codes, and learns to classify them. The encoder learns to
# produce latent codes that the discriminator classifies as draws. This needs no formula for a divergence. Any
# distribution can be used from which samples can be drawn.
#
# ### One training step
#
# A step consists of three updates, each with an optimiser of its own. The first update is that of the plain
# autoencoder.

# %% tags=["step"]
network, batch, generator = start_of_training(AdversarialAutoEncoder(random_state=seed))
encoder, decoder, discriminator = (network[part] for part in ("encoder", "decoder", "discriminator"))

# %% tags=["step"]
autoencoder_optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
loss = (decoder(encoder(batch)) - batch).square().flatten(1).sum(1).mean()
loss.backward()
autoencoder_optimizer.step()

# %% [markdown]
# The second update trains the discriminator with the cross entropy of a classifier. Its target is 1 for draws and 0 for
# latent codes. The call of `detach` keeps this loss from changing the encoder.

# %% tags=["step"]
discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3)
latent = encoder(batch).detach()
of_draws, of_latent = discriminator(torch.randn(latent.shape, generator=generator)), discriminator(latent)

# %% tags=["step"]
discriminator_loss = binary_cross_entropy_with_logits(of_draws, torch.ones_like(of_draws))
discriminator_loss = discriminator_loss + binary_cross_entropy_with_logits(of_latent, torch.zeros_like(of_latent))
discriminator_loss.backward()
discriminator_optimizer.step()

# %% [markdown]
# The third update trains the encoder. Its loss is small when the discriminator classifies the latent codes as draws, so
# the target is 1. Only the weights of the encoder are updated.

# %% tags=["step"]
encoder_optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
of_latent = discriminator(encoder(batch))
encoder_loss = binary_cross_entropy_with_logits(of_latent, torch.ones_like(of_latent))

# %% tags=["step"]
encoder_optimizer.zero_grad()  # removes the gradients of the first update
encoder_loss.backward()
encoder_optimizer.step()

# %% tags=["claim"]
assert has_weights_of(AdversarialAutoEncoder(min_steps=0, random_state=seed), network)

# %% [markdown]
# ### Random latent codes
#
# We draw 200 latent codes from $\mathcal N(0, I)$ and decode them with three autoencoders. For the plain autoencoder
# nothing connects this distribution with the training samples.

# %%
options = {"epochs": 2 * epochs, "batch_size": 16, "random_state": seed}
generators = {
    "plain AE": AutoEncoder(**options),
    "variational AE": VariationalAutoEncoder(**options),
    "adversarial AE": AdversarialAutoEncoder(**options),
}

# %%
draws = np.random.default_rng(seed).normal(size=(200, 8))
decoded = {name: each.fit(data.X_train).decode(draws) for name, each in generators.items()}

# %% [markdown]
# A decoded image should look like a normal digit. We measure its distance to the nearest training digit, and compare it
# with that of unseen normal digits.


# %%
def distance_to_training(images):
    """Mean distance to the nearest training image, in pixel values from 0 to 1."""
    train, new = (part.reshape(len(part), -1) / 255.0 for part in (data.X_train, images))
    return NearestNeighbors(n_neighbors=1).fit(train).kneighbors(new)[0].mean()


# %%
rows = {
    name: [distance_to_training(decoded[name]), each.encode(normal).std(0).mean(), evaluate(each, data).auroc]
    for name, each in generators.items()
} | {"unseen normal digits": [distance_to_training(normal), np.nan, np.nan]}
columns = ["distance to a training digit", "sd of the latent codes", "AUROC"]
random_codes = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("autoencoder")
random_codes.round(3).astype(object).fillna("–")

# %%
fig = plots.image_rows({name: part[:10, ..., 0] for name, part in decoded.items()})
nb.figure(fig, "random_codes", data=random_codes.iloc[:-1].reset_index())

# %% [markdown]
# The decoder of the plain autoencoder was not trained for most of these latent codes. The images of the other two are
# closer to the training digits. They are blurred nevertheless. Methods for sharper images are the subject of notebook 04.

# %% tags=["claim"]
near = random_codes["distance to a training digit"]
assert near["variational AE"] < near["plain AE"] and near["adversarial AE"] < near["plain AE"]

# %% [markdown]
# ## 4. Two scores of the variational autoencoder
#
# The first score is the reconstruction error of $g(\mu)$. The second is based on the **reconstruction probability** (An
# and Cho 2015). The score is $-E_z[\log p(x \mid z)]$, estimated from 10 draws of the latent code. It is large if the
# reconstruction depends strongly on the drawn latent code, even if the reconstruction of $\mu$ is good.

# %%
scored = {kind: VariationalAutoEncoder(scoring=kind, epochs=epochs, random_state=seed)
          for kind in ("reconstruction", "probability")}  # fmt: skip
areas = pd.Series({kind: evaluate(each.fit(data.X_train), data).auroc for kind, each in scored.items()}, name="AUROC")
areas.rename_axis("score").round(3).to_frame()

# %% [markdown]
# On these data the two scores rank the samples nearly alike.

# %% tags=["claim"]
assert abs(areas["reconstruction"] - areas["probability"]) < 0.05

# %% [markdown]
# ## 5. Comparison of all autoencoders
#
# Now we measure every detector of notebooks 03, 03b and 03c with its default parameters, on new splits. The default
# parameters are the same for all data sets. The columns of tables are standardised. Each detector is compared with
#
# - a random score;
# - the squared distance to the centre $\lVert x \rVert^2$, which needs no learning;
# - the residual of PCA, a Gaussian, and kNN, the distance to the fifth nearest neighbour;
# - its own untrained network.
#
# The data sets are the digits, tables on which the distance to the centre fails, and one table on which it is enough.
# The test set contains one half of the anomalies. The default parameters were chosen on other splits of digits and
# tables, but with all anomalies in the test set. The results are therefore not free of selection.

# %%
baselines = ["PCAResidual", "GaussianAnomalyScorer", "KNNDistance"]
names = [f"digits/{digit}", *hard_datasets, easy_dataset]
for name in names:
    for i in range(n_seeds):
        nb.load(name, seed=i)
measured = [
    measure(detector, name, i, anomalies="report")
    for name in names
    for detector in baselines + family
    for i in range(n_seeds)
]

# %% [markdown]
# The random score and the distance to the centre were measured beside every detector. They become rows of their own. The
# columns "untrained", "fit (s)" and "score (s)" are empty where they do not apply.

# %%
CENTER = "distance to centre ‖x‖²"
runs = pd.DataFrame(measured)
for key, label in (("norm", CENTER), ("random", "random score")):
    rows = runs[runs["detector"] == "AutoEncoder"]
    rows = rows.assign(detector=label, auroc=rows[f"{key}_auroc"], untrained_auroc=np.nan)
    runs = pd.concat([rows.assign(fit_seconds=np.nan, score_seconds=np.nan), runs])


# %%
def result_table(name):
    """AUROC, that of the untrained network, and times of each detector on one data set."""
    part = runs[runs["dataset"] == name].groupby("detector", sort=False)
    table = part[["auroc", "untrained_auroc", "fit_seconds", "score_seconds"]].mean()
    table.insert(1, "sd", part["auroc"].std(ddof=1))
    table.columns = ["AUROC", "sd", "untrained", "fit (s)", "score (s)"]
    return table


# %%
tables = {name: result_table(name) for name in names}
tables[names[0]].rename_axis(columns=names[0]).round(3).astype(object).fillna("–")

# %%
tables[hard_datasets[0]].rename_axis(columns=hard_datasets[0]).round(3).astype(object).fillna("–")

# %%
everything = pd.concat(tables, names=["data set"]).reset_index("data set").rename(columns={"AUROC": "mean"})
everything["panel"] = everything["data set"].str.replace("injected/dependency/", "dependency,\n")
fig = plots.comparison(everything, "AUROC", group="panel", reference=CENTER)
for axis, name in zip(fig.axes, names):
    untrained = tables[name]["untrained"][::-1].reset_index(drop=True)
    axis.plot(untrained, untrained.index, "x", color="0.45", ms=5)
nb.figure(fig, "autoencoder_comparison", n=n_seeds, data=everything.drop(columns="panel").reset_index())

# %% [markdown]
# The dots are the trained detectors, the crosses the untrained networks, and the dashed line is the distance to the
# centre.
#
# ### When a good score does not show learning
#
# In `breast_cancer`, and in the table `thyroid` of the course, the anomalies have large values. The distance to the
# centre finds them. So does a network with random weights: a large sample has a large error under *any* map that
# shrinks it. The trained networks are not better. Such a table shows that a detector works, but not that it has
# learned. To compare methods, use data on which the distance to the centre fails.

# %%
gains = {}
for name, table in tables.items():
    gains[name] = {
        "best autoencoder": table["AUROC"][family].max(),
        "best untrained network": table["untrained"].max(),
        CENTER: table.loc[CENTER, "AUROC"],
        "best of PCA, Gaussian and kNN": table["AUROC"][baselines].max(),
        "AutoEncoder": table.loc["AutoEncoder", "AUROC"],
        "AutoEncoder, untrained": table.loc["AutoEncoder", "untrained"],
    }
gains = pd.DataFrame(gains)
gains.round(3)

# %% tags=["claim"]
# The statements hold for the data sets that are named here; the margin of 0.05 is above the spread over splits.
easy, hard = gains[easy_dataset], gains[hard_datasets]
if easy_dataset in ("breast_cancer", "thyroid"):
    assert easy[CENTER] > 0.9
    assert easy["best autoencoder"] - max(easy[CENTER], easy["best untrained network"]) < 0.05
known_hard = ("injected/dependency/", "tables/vowels", "tables/optdigits", "tables/satellite")
for name in [name for name in hard_datasets if name.startswith(known_hard)]:
    assert hard.loc["AutoEncoder", name] > hard.loc["AutoEncoder, untrained", name] + 0.05
    assert hard.loc["AutoEncoder", name] > hard.loc[CENTER, name] + 0.05
on_digits = tables[names[0]].loc[family]
assert (on_digits["AUROC"] > on_digits["untrained"].fillna(0)).all()
assert on_digits["AUROC"].max() > 0.93

# %% [markdown]
# ### Strengths and weaknesses of autoencoders
#
# Strengths:
#
# - The idea is simple. It needs no label, no density and no distance.
# - It applies to any kind of data. The table above shows images and tables.
# - The error map shows which pixels contribute to the score (notebook 03).
#
# Weaknesses:
#
# - The loss is not made for detection. A longer latent code reduces the error of anomalies, too (notebook 03).
# - A network that trains for long memorises the anomalies of its training set (notebook 03b).
# - A simple method may be as good. Where columns depend on each other nearly linearly, PCA needs no network.
#
# Notebooks 05, 06 and 07 continue from here. They train features for the score itself, or use tasks that are more
# difficult for anomalies than reconstruction.
#
# ## In this notebook
#
# - The latent code of a **variational autoencoder** is a distribution. The divergence keeps it close to $\mathcal N(0,
#   I)$. Without the divergence the network is a plain autoencoder. With too much of it, the latent code contains no
#   information.
# - An **adversarial autoencoder** replaces the divergence by a discriminator.
# - Random latent codes of both decode to plausible samples.
# - The reconstruction probability is a score that uses the distribution of the latent code.
# - On data on which the distance to the centre is enough, an untrained network is as good as a trained one. Always show
#   both.
#
# ## Exercises
#
# **1. Predict: the score after posterior collapse.** Train a variational autoencoder with $\beta = 1000$. Which simple
# distance orders the test samples nearly as its score does?
#
# <details><summary>Hint</summary>
#
# What is the reconstruction of every sample after the collapse?
#
# </details>

# %% tags=["solution"]
collapsed = VariationalAutoEncoder(beta=1000.0, epochs=3 * epochs, random_state=seed).fit(data.X_train)
difference = (data.X_test - data.X_train.mean(0)) / 255
to_mean = pd.Series(np.square(difference).sum((1, 2, 3)))
correlation = to_mean.corr(pd.Series(collapsed.anomaly_score(data.X_test)), method="spearman")
assert correlation > 0.9
print(f"rank correlation with the squared distance to the mean training digit: {correlation:.3f}")

# %% [markdown]
# **2. Change: training without half moons.** Leave the phases from 0.35 to 0.85 out of the training set of section 2.
# Decode the line of the variational autoencoder again. How far from a moon are the images between the ends?
#
# <details><summary>Hint</summary>
#
# Build the training set from two calls of `np.linspace`. Use `distance_to_moons`.
#
# </details>

# %% tags=["solution"]
outer = np.concatenate([np.linspace(0.15, 0.35, 100), np.linspace(0.85, 1, 100)])
vae = VariationalAutoEncoder(latent_dim=2, beta=40.0, epochs=3 * epochs, random_state=seed)
start, end = vae.fit(np.stack([moon(phase) for phase in outer])).encode(np.stack([moon(0.25), moon(0.95)]))
gap = distance_to_moons(vae.decode(np.linspace(start, end, 9))).min(1)[1:-1].mean()
with_all = nearest["variational AE 0"][1:-1].mean()
assert gap > with_all
print(f"distance without half moons {gap:.3f}, with all phases {with_all:.3f}")

# %% [markdown] tags=["solution"]
# Between the two groups of training samples the decoder mixes the images of both. It has no information about half moons.

# %% [markdown]
# **3. Build: the bound as a score.** Write a variational autoencoder whose score is the negative evidence lower bound: the
# reconstruction probability plus the divergence of the sample. Override `batch_score`.
#
# <details><summary>Hint</summary>
#
# `self.distribution(batch)` returns $\mu$ and $\log \sigma^2$. With `scoring="probability"` the method of the base class
# returns the first term.
#
# </details>


# %% tags=["solution"]
class BoundAutoEncoder(VariationalAutoEncoder):
    """Scores by the negative evidence lower bound."""

    def batch_score(self, batch, generator):
        mean, log_variance = self.distribution(batch)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)
        return super().batch_score(batch, generator) + divergence


bound = BoundAutoEncoder(scoring="probability", epochs=epochs, random_state=seed).fit(data.X_train)
assert abs(evaluate(bound, data).auroc - areas["probability"]) < 0.05
print(f"AUROC {evaluate(bound, data).auroc:.3f}, without the divergence {areas['probability']:.3f}")

# %% [markdown]
# **4. On paper: the divergence of two normal distributions.** Show that $\mathrm{KL}\big(\mathcal N(\mu, \sigma^2)
# \,\Vert\, \mathcal N(0, 1)\big) = \tfrac12 (\mu^2 + \sigma^2 - \log \sigma^2 - 1)$ for one number.
#
# <details><summary>Hint</summary>
#
# The divergence is $E_z[\log q(z) - \log p(z)]$ for $z$ from $q = \mathcal N(\mu, \sigma^2)$. Insert the two densities.
#
# </details>

# %% [markdown] tags=["solution"]
# $\log q(z) = -\tfrac12 \log(2\pi\sigma^2) - (z - \mu)^2 / (2\sigma^2)$ and $\log p(z) = -\tfrac12 \log(2\pi) - z^2 / 2$.
# Under $q$, $E[(z - \mu)^2] = \sigma^2$ and $E[z^2] = \mu^2 + \sigma^2$. The difference of the expectations is
# $-\tfrac12 \log \sigma^2 - \tfrac12 + \tfrac12 (\mu^2 + \sigma^2)$.

# %% tags=["solution"]
mu, sigma = torch.tensor(0.7), torch.tensor(0.4)
by_torch = torch.distributions.kl_divergence(
    torch.distributions.Normal(mu, sigma), torch.distributions.Normal(0.0, 1.0)
)
assert torch.isclose(by_torch, 0.5 * (mu**2 + sigma**2 - torch.log(sigma**2) - 1))

# %% tags=["results"]
nb.table(by_beta, "divergence_weight")
for name, table in tables.items():
    id = "autoencoders_" + "".join(c if c.isalnum() else "_" for c in name.lower())
    nb.table(table.astype(object).fillna("–"), id, texts="autoencoders", n=n_seeds, name=name)
for name, short in ((names[0], "digits"), (hard_datasets[0], "hard"), (easy_dataset, "easy")):
    nb.value(f"autoencoder_{short}_trained", gains.loc["AutoEncoder", name], n=n_seeds)
    nb.value(f"autoencoder_{short}_untrained", gains.loc["AutoEncoder, untrained", name], n=n_seeds)
    nb.value(f"distance_to_center_{short}", gains.loc[CENTER, name], n=n_seeds)
    nb.value(f"best_autoencoder_{short}", gains.loc["best autoencoder", name], n=n_seeds)
    nb.value(f"best_simple_{short}", gains.loc["best of PCA, Gaussian and kNN", name], n=n_seeds)
nb.finish()

# %% [markdown]
# ## References
#
# - J. An, S. Cho (2015). Variational autoencoder based anomaly detection using reconstruction probability. SNU Data
#   Mining Center.
# - D. P. Kingma, M. Welling (2013). Auto-encoding variational Bayes. *arXiv* 1312.6114.
# - A. Makhzani, J. Shlens, N. Jaitly, I. Goodfellow, B. Frey (2015). Adversarial autoencoders. *arXiv* 1511.05644.
# - O. Rybkin, K. Daniilidis, S. Levine (2021). Simple and effective VAE training with calibrated decoders. *ICML*.
