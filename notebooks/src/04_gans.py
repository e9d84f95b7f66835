# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Generative adversarial networks: GAN, WGAN and BiGAN
#
# A generative adversarial network (GAN) consists of two networks. The **generator** turns random numbers into samples.
# The **critic** tries to tell generated samples from real ones. If all real samples are normal, the generator learns to
# produce normal samples. Notebook [04b](04b_gan_detectors.ipynb) builds anomaly detectors on such a generator. This
# notebook explains how it is trained.
#
# **You will learn**
#
# - to write both updates of a GAN, the critic's and the generator's, in plain PyTorch;
# - what the original loss and the Wasserstein loss measure;
# - how weight clipping and the gradient penalty limit the slope of the critic;
# - what mode collapse is, and when it happens;
# - which critic losses measure the progress of the training;
# - whether images change gradually between two random latent codes;
# - how BiGAN trains an encoder together with the generator.
#
# You need notebook 00, and the first section of notebook 03. Reading takes about 30 minutes, running about one minute.
# No GPU is needed.
#
# These terms are explained in English and Chinese in the [glossary](glossary.md): [generative adversarial
# network](glossary.md#Generative-adversarial-network), [generator](glossary.md#Generator),
# [critic](glossary.md#Critic), [mode collapse](glossary.md#Mode-collapse), [Wasserstein
# distance](glossary.md#Wasserstein-distance), [gradient penalty](glossary.md#Gradient-penalty).

# %% tags=["parameters"]
seed: int = 0  # of all random generators
gan_epochs: int = 240  # passes over the points in the plane; at least 8
digit: str = "digits/8"  # images with one normal class
n_seeds: int = 3  # training runs of WGAN-GP in section 4; at least 1
min_steps: int = 500  # batches for the GAN of images; at least 1
n_critic: int = 2  # updates of that critic for each update of the generator; at least 1

# %%
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from scipy.stats import spearmanr, wasserstein_distance
from torch import nn
from torch.nn.functional import logsigmoid

from mmad_utils import AnoGAN, BiGAN, plots
from mmad_utils.course import notebook

# %%
nb = notebook.start("04_gans")

# %% [markdown]
# ## 1. Generator, critic and their updates
#
# Let $x$ be a real sample and $z \sim \mathcal N(0, I)$ a random **latent code**. The generator turns a latent code
# into a sample, $G(z)$. The critic returns a number for each sample. In the original GAN (Goodfellow et al. 2014) this
# number becomes a probability $D$ that the sample is real. The two networks have opposite objectives:
#
# $$\min_G \max_D \; \mathbb E_x[\log D(x)] + \mathbb E_z[\log(1 - D(G(z)))].$$
#
# Suppose that the generator reproduces the distribution of the data exactly. Then the best critic returns ½ for every
# sample, and its loss, the negative of the objective, is $2 \log 2 \approx 1.39$.
#
# Our real data are points in the plane, in eight clusters on a circle. This is a standard test. A generator that
# finds only three of the eight clusters produces samples that are plausible one by one. In the plane we see what is
# missing.

# %% tags=["step"]
rng = np.random.default_rng(seed)
angles = 2 * np.pi * np.arange(8) / 8
centers = 1.5 * np.column_stack([np.cos(angles), np.sin(angles)])
points = centers[rng.integers(8, size=512)] + 0.05 * rng.normal(size=(512, 2))

# %% [markdown]
# Both networks are small perceptrons. The generator maps two random numbers to a point, and the critic maps a point to
# one number. The sigmoid that makes it a probability is part of the loss.


# %% tags=["step"]
def perceptron(n_in, n_out):
    hidden = [nn.Linear(n_in, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2)]
    return nn.Sequential(*hidden, nn.Linear(128, n_out))


generator, critic = perceptron(2, 2), perceptron(2, 1)

# %% [markdown]
# The package trains the same two networks in the class `AnoGAN`. We want to compare our updates with those of the class.
# So both must start from the same weights and use the same random numbers. An instance with `epochs=0` has the weights
# before training, and its attribute `seed_` is the seed of its random generator.

# %% tags=["step"]
data = torch.from_numpy(points).float()
one_batch = {"latent_dim": 2, "n_critic": 1, "batch_size": 512, "min_steps": 0, "n_steps": 0, "random_state": seed}
untrained = AnoGAN(epochs=0, **one_batch).fit(points)


# %% tags=["step"]
def reset_weights():
    """Set the first weights of the class; return its random generator and the first batch."""
    for name, network in (("generator", generator), ("critic", critic)):
        network.load_state_dict(untrained.network_[name].state_dict())
    randomness = torch.Generator().manual_seed(untrained.seed_)
    return randomness, data[torch.randperm(len(data), generator=randomness)]


# %% [markdown]
# ### The update of the critic
#
# The critic minimises the binary cross-entropy between real samples (label 1) and generated samples (label 0). With
# the sigmoid $\sigma$, $D = \sigma(\text{critic})$ and $1 - D = \sigma(-\text{critic})$. `detach` stops the gradient, so
# this update does not change the generator.

# %% tags=["step"]
randomness, real = reset_weights()
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.999))
fake = generator(torch.randn(512, 2, generator=randomness)).detach()

# %% tags=["step"]
critic_loss = -logsigmoid(critic(real)).mean() - logsigmoid(-critic(fake)).mean()
critic_optimizer.zero_grad()
critic_loss.backward()
critic_optimizer.step()
print(f"loss of the critic: {critic_loss:.3f}")

# %% [markdown]
# ### The update of the generator
#
# The objective asks the generator to minimise $\log(1 - D(G(z)))$. When the critic recognises all generated samples, the
# gradient of this term is almost zero. In practice the generator minimises $-\log D(G(z))$ instead. The optimum is the
# same, and the gradient stays large. Each update uses new latent codes.

# %% tags=["step"]
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
latent = torch.randn(512, 2, generator=randomness)

generator_loss = -logsigmoid(critic(generator(latent))).mean()
generator_optimizer.zero_grad()
generator_loss.backward()
generator_optimizer.step()
print(f"loss of the generator: {generator_loss:.3f}")

# %% [markdown]
# These two updates alternate until the end of the training. The class `AnoGAN(adversarial="gan")` does the same. After
# one update of each network, its loss and all its weights agree with ours. A cell that this page does not show
# compares them.


# %% tags=["claim"]
def compare_with_class(adversarial, **options):
    """Loss and weights after one update of each network: ours against those of the class."""
    fitted = AnoGAN(adversarial=adversarial, epochs=1, **one_batch, **options).fit(points)
    np.testing.assert_allclose(critic_loss.item(), fitted.history_[0]["critic"], rtol=1e-4)
    for name, network in (("generator", generator), ("critic", critic)):
        for ours, theirs in zip(network.parameters(), fitted.network_[name].parameters()):
            np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=options["learning_rate"] / 10)


# The first step of Adam and RMSProp moves a weight by about the learning rate, however small its gradient. The class
# adds numbers in another order; where a gradient is nearly zero, rounding changes such a step. A tenth is allowed.
compare_with_class("gan", learning_rate=1e-3)

# %% [markdown]
# ## 2. The Wasserstein distance and the slope of the critic
#
# With its best critic, the objective of the original GAN is the Jensen-Shannon divergence of the two distributions, up
# to constants. Arjovsky et al. (2017) showed a weakness of this divergence. For *all* pairs of distributions that do not
# overlap it has the same value, $\log 2$. It cannot say that one generator is closer to the data than another one.
#
# The Wasserstein distance can. It is the least cost of moving the mass of one distribution to the other, where the cost
# is mass times distance. It also has a second form:
#
# $$W(p, q) = \max_{\|D\|_L \le 1} \; \mathbb E_{x \sim p}[D(x)] - \mathbb E_{x \sim q}[D(x)].$$
#
# The maximum is over all functions $D$ whose slope is at most 1 everywhere (1-Lipschitz functions). A critic can
# approximate the best one. Its loss is then the difference of two means, without sigmoid and logarithm. What remains is
# to limit its slope. There are two methods.
#
# ### WGAN: clip the weights
#
# The WGAN of Arjovsky et al. (2017) sets every weight of the critic back to the interval $[-c, c]$ after each update.
# This bounds the slope, because the slope is at most a product of weights. The exact bound is not known. The paper uses
# RMSProp, since momentum made the training of a clipped critic unstable.

# %% tags=["step"]
randomness, real = reset_weights()
critic_optimizer = torch.optim.RMSprop(critic.parameters(), lr=2e-3)
fake = generator(torch.randn(512, 2, generator=randomness)).detach()

critic_loss = critic(fake).mean() - critic(real).mean()
critic_optimizer.zero_grad()
critic_loss.backward()
critic_optimizer.step()
with torch.no_grad():
    for weights in critic.parameters():
        weights.clamp_(-0.1, 0.1)

# %% [markdown]
# The generator increases the output of the critic for its samples.

# %% tags=["step"]
generator_optimizer = torch.optim.RMSprop(generator.parameters(), lr=2e-3)
generator_loss = -critic(generator(torch.randn(512, 2, generator=randomness))).mean()
generator_optimizer.zero_grad()
generator_loss.backward()
generator_optimizer.step()

# %% tags=["claim"]
compare_with_class("wgan", learning_rate=2e-3, clip=0.1)  # the same tolerance, for the same reason

# %% [markdown]
# ### WGAN-GP: penalise the slope
#
# Clipping is a coarse method. Gulrajani et al. (2017) add a **gradient penalty** to the loss of the critic, which
# is why the method is called WGAN-GP. The penalty is $(\|\nabla D\| - 1)^2$, the squared difference between the slope
# and 1. It is evaluated at random points on straight lines between real and generated samples. `create_graph=True` is
# needed because the loss contains a gradient, and the loss itself is differentiated.

# %%
randomness, real = reset_weights()
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=5e-3, betas=(0.0, 0.9))
fake = generator(torch.randn(512, 2, generator=randomness)).detach()

# %% tags=["step"]
share = torch.rand(512, 1, generator=randomness)
between = torch.lerp(fake, real, share).requires_grad_()
(gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
penalty = (gradient.norm(dim=1) - 1).square().mean()

critic_loss = critic(fake).mean() - critic(real).mean()
critic_optimizer.zero_grad()
(critic_loss + 0.1 * penalty).backward()
critic_optimizer.step()

# %% [markdown]
# The update of the generator is the one of WGAN, with Adam.

# %% tags=["step"]
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=5e-3, betas=(0.0, 0.9))
generator_loss = -critic(generator(torch.randn(512, 2, generator=randomness))).mean()
generator_optimizer.zero_grad()
generator_loss.backward()
generator_optimizer.step()

# %% tags=["claim"]
compare_with_class("wgan-gp", learning_rate=5e-3, penalty=0.1)  # the same tolerance, for the same reason

# %% [markdown]
# ## 3. Mode collapse
#
# Now we train. A critic that learns faster than the generator should give it better information. We test this
# expectation. The original GAN is trained twice: once balanced, with one update of each network per batch, and once with
# a **strong critic**. A strong critic is updated on four batches for each update of the generator. Both Wasserstein
# versions get a strong critic.

# %%
versions = {
    "original, balanced": {"adversarial": "gan", "n_critic": 1, "learning_rate": 1e-3},
    "original, strong critic": {"adversarial": "gan", "n_critic": 4, "learning_rate": 5e-3},
    "WGAN, strong critic": {"adversarial": "wgan", "n_critic": 4, "learning_rate": 2e-3, "clip": 0.1},
    "WGAN-GP, strong critic": {"adversarial": "wgan-gp", "n_critic": 4, "learning_rate": 5e-3, "penalty": 0.1},
}

# %% [markdown]
# To follow the training we keep eight snapshots: the samples that the generator makes from the same 500 latent codes,
# after each eighth of the epochs. The function `after_epoch` is called by the training loop of the package.

# %%
interval = gan_epochs // 8  # epochs between two snapshots


class SnapshotGAN(AnoGAN):
    """Keeps the samples that the generator makes of fixed latent codes during the training."""

    def run(self, step, data, generator, **options):
        self.snapshots_, fixed = [], torch.randn(500, self.latent_dim, generator=torch.Generator().manual_seed(1))

        def after_epoch(history):
            if len(history) % interval == 0:
                self.snapshots_.append(self.network_["generator"](fixed).detach().numpy())

        return super().run(step, data, generator, after_epoch=after_epoch, **options)


# %%
def train(options, random_state):
    shared = {"latent_dim": 2, "epochs": gan_epochs, "min_steps": 0, "n_steps": 0, "random_state": random_state}
    return SnapshotGAN(**shared, **options).fit(points)


runs = {version: train(options, seed) for version, options in versions.items()}

# %% [markdown]
# We describe each snapshot by two numbers. The first is the number of clusters that contain at least 1% of the
# generated points. The second is the distance between generated and real points. In one dimension the Wasserstein
# distance is computed by sorting. So we use the **sliced** Wasserstein distance. It projects both sets of points on
# sixteen directions and averages the sixteen distances.


# %% tags=["step"]
def clusters_found(made):
    distance = np.linalg.norm(made[:, None] - centers, axis=2)
    near = distance.argmin(axis=1)[distance.min(axis=1) < 0.25]
    return int((np.bincount(near, minlength=8) >= 5).sum())


# %%
def sliced_distance(made, real):
    angles = np.pi * np.arange(16) / 16
    directions = np.stack([np.cos(angles), np.sin(angles)])
    return np.mean([wasserstein_distance(p, q) for p, q in zip((made @ directions).T, (real @ directions).T)])


# %%
def progress_of(run):
    """One row for each snapshot."""
    frame = pd.DataFrame({"epoch": interval * np.arange(1, len(run.snapshots_) + 1)})
    frame["clusters"] = [clusters_found(made) for made in run.snapshots_]
    frame["sliced distance"] = [sliced_distance(made, points) for made in run.snapshots_]
    frame["critic loss"] = [run.history_[epoch - 1]["critic"] for epoch in frame["epoch"]]
    return frame


progress = pd.concat({version: progress_of(run) for version, run in runs.items()}, names=["version"])
progress = progress.reset_index("version")

# %%
final = progress.groupby("version", sort=False).last()
final.round(3)

# %%
snapshots = [
    pd.DataFrame(made, columns=["x1", "x2"]).assign(
        version=version.replace(", ", "\n"), epoch=(i + 1) * interval, kind=kind
    )
    for version, run in runs.items()
    for i in (0, 1, 3, 7)
    for kind, made in (("real", points), ("generated", run.snapshots_[i]))
]

# %%
grid = sns.relplot(
    pd.concat(snapshots), x="x1", y="x2", hue="kind", row="version", col="epoch", height=1.75, s=6, linewidth=0,
    palette=["0.8", plots.COLORS[0]], legend=False, facet_kws={"margin_titles": True}, rasterized=True,
)  # fmt: skip
grid.set_titles(row_template="{row_name}", col_template="epoch {col_name}").set(xlim=(-3, 3), ylim=(-3, 3))
nb.figure(grid.figure, "gan_snapshots", single_run=True, data=progress)

# %% [markdown]
# - First row: the balanced original GAN finds the circle quickly.
# - Second row: the same method with a strong critic. The critic recognises generated points with certainty, so its
#   gradient tells the generator little about the direction to go. The generator covers only a part of the clusters.
#   This is **mode collapse**.
# - Third and fourth row: both Wasserstein versions keep improving with a strong critic. They are slower, because
#   the generator is updated on every fourth batch only.
#
# None of the four generators leaves the space *between* the clusters empty. A generator is a continuous function. It
# maps a connected set of latent codes to a connected set of points.

# %% tags=["claim"]
# One run each, so a wide margin: the ratio of the first two distances was 2.8 and 4.1 on two processors.
strong = final["sliced distance"]["original, strong critic"]
if gan_epochs >= 200:
    assert strong > 1.5 * final["sliced distance"]["WGAN-GP, strong critic"], "WGAN-GP works with a strong critic"
if gan_epochs >= 60:
    assert strong > 1.5 * final["sliced distance"]["original, balanced"], "the original GAN needs the balance"
    assert final["clusters"]["original, balanced"] > final["clusters"]["original, strong critic"]

# %% [markdown]
# ## 4. What the loss of the critic measures
#
# A useful loss changes together with the quality of the result. In both Wasserstein versions the critic's loss is minus
# an estimate of the distance. It should rise towards 0 as the generator improves. In the original GAN it should rise
# towards 1.39. We compare the absolute value of each loss with the sliced distance.

# %%
progress["|critic loss|"] = progress["critic loss"].abs()
curves = progress.melt(["version", "epoch"], ["|critic loss|", "sliced distance"], "curve", "value")
grid = sns.relplot(
    curves, x="epoch", y="value", hue="curve", style="curve", markers=True, col="version", col_wrap=2, kind="line",
    height=2.0, aspect=1.35, facet_kws={"sharey": False},
)  # fmt: skip
grid.set_titles("{col_name}").set(ylim=(0, None))
nb.figure(grid.figure, "gan_critic_losses", single_run=True, data=progress)

# %% [markdown]
# In WGAN-GP both curves fall together, so the loss measures the progress. The original GAN has no such measure.
#
# The critic of the clipped WGAN first needs some time to learn. Then its loss falls, too, but on a scale of its own.
# Clipping to $c$ allows some largest slope, and this slope is unknown.
#
# In the balanced original GAN the loss should rise towards 1.39 as the generator improves. It falls instead, because the
# critic improves as well. This curve does not show that the training succeeded.
#
# One run of each version is a single random result. We repeat WGAN-GP with other seeds. For each run we compute the rank
# correlation of loss and distance over its eight snapshots.


# %%
def rank_correlation(run):
    frame = progress_of(run)
    return spearmanr(frame["critic loss"].abs(), frame["sliced distance"]).statistic


version = "WGAN-GP, strong critic"
repeated = [runs[version], *(train(versions[version], seed + i) for i in range(1, n_seeds))]
correlations = pd.Series([rank_correlation(run) for run in repeated], name="rank correlation").rename_axis("run")
correlations.to_frame().round(2)

# %% [markdown]
# On average the correlation is positive. It differs between the runs.

# %% tags=["claim"]
if gan_epochs >= 200:  # eight snapshots give a rough estimate; 0.3 is far below the mean of three runs
    assert correlations.mean() > 0.3, "the loss of WGAN-GP follows the distance"

# %% [markdown]
# The two methods leave different critics. After clipping, the largest weight is the clipping value. With the gradient
# penalty, single weights are larger.

# %%
largest = {
    name: max(float(w.detach().abs().max()) for w in run.network_["critic"].parameters())
    for name, run in runs.items()
}
pd.Series(largest, name="largest absolute weight of the critic").to_frame().round(2)

# %% tags=["claim"]
# 1e-6 allows for the rounding of 0.1 to float32.
assert largest["WGAN, strong critic"] <= 0.1 + 1e-6 < largest["WGAN-GP, strong critic"]

# %% [markdown]
# ## 5. Images: interpolation in the latent space
#
# The same class trains a generator of images. The data are handwritten digits of 8×8 pixels, and one digit is normal.
# For images the class uses convolutions instead of perceptrons; losses and updates are the same.
#
# A detector must find a latent code for each image. This is possible if similar latent codes give similar images. We test
# it as Schlegl et al. (2019) did. We draw two random latent codes and generate images along the straight line between
# them, in eight equal steps.

# %%
X_train = nb.load(digit, seed=seed).X_train
image_gan = AnoGAN(min_steps=min_steps, n_critic=n_critic, n_steps=0, random_state=seed).fit(X_train)

# %%
steps = np.linspace(0, 1, 9)[:, None]
ends = rng.normal(size=(2, 2, image_gan.latent_dim))
walks = {f"line {i}": image_gan.generate((1 - steps) * a + steps * b) for i, (a, b) in enumerate(ends, start=1)}
changes = pd.DataFrame(
    {name: np.sqrt(np.square(np.diff(walk, axis=0)).mean(axis=(1, 2, 3))) for name, walk in walks.items()}
)
fig = plots.image_rows(walks, titles=[f"{share:.3g}" for share in steps[:, 0]])
nb.figure(fig, "gan_walks", data=changes)

# %% [markdown]
# The images change gradually. We measure each of the eight changes as the root of the mean squared difference of the
# pixels. If an image jumped somewhere, one of the eight changes would be several times the mean change.

# %%
ratio = changes.max() / changes.mean()
print(f"largest change divided by mean change: {ratio.max():.2f}")

# %% tags=["claim"]
assert ratio.max() < 3, "no single step holds most of the change (it would be a ratio near 8)"

# %% [markdown]
# ## 6. BiGAN: an encoder in adversarial training
#
# A GAN has no network that maps a sample to its latent code. BiGAN (Donahue et al. 2017; ALI, Dumoulin et al. 2017) adds
# an encoder $E$ and trains it together with the generator. Its critic receives **pairs**: a sample with its latent code,
# $(x, E(x))$, or a latent code with its sample, $(G(z), z)$. Encoder and generator are trained so that the critic cannot
# distinguish the two kinds of pairs. Donahue et al. prove that at the optimum $E = G^{-1}$. No term of the loss compares
# $x$ with $G(E(x))$.
#
# The data of this section are points near a line in three dimensions. One number is enough as a latent code.

# %%
line_rng = np.random.default_rng(seed)
line = line_rng.normal(size=(300, 1)) * [1.0, 1.0, -1.0] + 0.05 * line_rng.normal(size=(300, 3))
latent = line_rng.normal(size=(1000, 1))

# %% [markdown]
# Here are both updates with the original loss, as in the paper. Weights and seed come from an untrained instance again.

# %%
small = {"latent_dim": 1, "hidden": (32, 32), "learning_rate": 2e-3, "averaging": 0.0, "min_steps": 0}
whole = small | {"adversarial": "gan", "batch_size": 300, "random_state": seed}
fresh = BiGAN(epochs=0, **whole).fit(line)
G, E, D = (fresh.network_[name].float() for name in ("generator", "encoder", "critic"))
randomness = torch.Generator().manual_seed(fresh.seed_)
x = torch.from_numpy(line).float()[torch.randperm(300, generator=randomness)]

# %% [markdown]
# The update of the critic:

# %% tags=["step"]
optimizer = torch.optim.Adam(D.parameters(), lr=2e-3, betas=(0.5, 0.999))
z = torch.randn(300, 1, generator=randomness)
critic_loss = -logsigmoid(D(x, E(x).detach())).mean() - logsigmoid(-D(G(z).detach(), z)).mean()
optimizer.zero_grad()
critic_loss.backward()
optimizer.step()

# %% [markdown]
# The update of encoder and generator, with the labels exchanged:

# %% tags=["step"]
optimizer = torch.optim.Adam([*G.parameters(), *E.parameters()], lr=2e-3, betas=(0.5, 0.999))
z = torch.randn(300, 1, generator=randomness)
pair_loss = -logsigmoid(-D(x, E(x))).mean() - logsigmoid(D(G(z), z)).mean()
optimizer.zero_grad()
pair_loss.backward()
optimizer.step()

# %% tags=["claim"]
# The second loss is computed after the update of the critic, so it checks that update, too. Rounding of float32: 1e-4.
fitted = BiGAN(epochs=1, **whole).fit(line)
np.testing.assert_allclose(critic_loss.item(), fitted.history_[0]["critic"], rtol=1e-4)
np.testing.assert_allclose(pair_loss.item(), fitted.history_[0]["generator"], rtol=1e-4)
for name, network in (("generator", G), ("encoder", E)):
    for ours, theirs in zip(network.parameters(), fitted.network_[name].parameters()):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=2e-4)  # a tenth of a step, as above

# %% [markdown]
# Does the encoder learn to invert the generator? We generate a sample from each random latent code, encode it, and
# compare. $R^2$ is the share of the variance of the latent code that is recovered. We do this before training, and after
# five training runs that differ only in their seed. These runs use the WGAN-GP loss, the default of the class.


# %%
def recovered(epochs, random_state):
    bigan = BiGAN(epochs=epochs, batch_size=30, n_critic=2, random_state=random_state, **small).fit(line)
    encoded = bigan.encode(bigan.generate(latent))
    return 1 - np.square(encoded - latent).mean() / latent.var(), encoded


# %%
trained = sorted((recovered(5 * gan_epochs // 6, seed + i) for i in range(5)), key=lambda run: -run[0])
inversion = {"untrained": recovered(0, seed), "best of five": trained[0], "worst of five": trained[-1]}

# %%
frames = [
    pd.DataFrame({"z": latent[:, 0], "E(G(z))": encoded[:, 0], "network": f"{name}, $R^2$ = {share:.2f}"})
    for name, (share, encoded) in inversion.items()
]
fig = plots.scatter(pd.concat(frames), "z", "E(G(z))", panels="network")
for axis in fig.axes:
    axis.axline((0, 0), slope=1, color="0.5")
nb.figure(fig, "bigan_inversion", single_run=True, data=pd.concat(frames))

# %% [markdown]
# After a good run the points lie along the diagonal: the encoder inverts the generator. Not every run is equally good.
# Which runs are good depends on the seed and on the processor, and no loss shows it. The theorem describes the optimum.
# Adversarial training need not reach it; often the weights circle around it.
#
# An average reduces this randomness. One can average several networks (`n_estimators`), or the weights of one network
# over its last few hundred updates (`averaging`; Yazıcı et al. 2019). The runs above use the last weights, as in the
# paper. The default of our BiGAN is the average.

# %% tags=["claim"]
if gan_epochs >= 200:
    assert inversion["best of five"][0] > inversion["untrained"][0], "the encoder can come closer to the inverse"

# %% [markdown]
# ## In this notebook
#
# - A GAN alternates two updates. The critic learns to tell real from generated samples; the generator learns to raise
#   the critic's output for its samples.
# - The original GAN needs a balance of both networks. With a strong critic it showed mode collapse.
# - A critic with limited slope estimates the Wasserstein distance. WGAN limits the slope by clipping weights, WGAN-GP by
#   a penalty on the gradient.
# - Both Wasserstein versions work with a strong critic. The loss of WGAN-GP follows the distance to the data.
# - The generated images change gradually along lines in the latent space.
# - BiGAN's encoder can learn to invert the generator, although no loss compares a sample with its reconstruction.
#   Notebook [04b](04b_gan_detectors.ipynb) uses latent codes of samples to detect anomalies.
#
# ## Exercises
#
# **1. Predict: two divergences.** Let $p$ put all its mass at 0 and $q$ all its mass at $t$. Predict the Jensen-Shannon
# divergence and the Wasserstein distance for $t = 2, 1, 0.1, 0$. Then compute them. Which of the two has a useful
# derivative in $t$?
#
# <details><summary>Hint</summary>
#
# `scipy.spatial.distance.jensenshannon` returns the square root of the divergence. For $t \ne 0$ the two distributions
# are `[1, 0]` and `[0, 1]` on the two points.
#
# </details>

# %% tags=["solution"]
from scipy.spatial.distance import jensenshannon

rows = []
for t in (2.0, 1.0, 0.1, 0.0):
    divergence = jensenshannon([1, 0], [0, 1] if t else [1, 0]) ** 2
    rows.append({"t": t, "Jensen-Shannon": divergence, "Wasserstein": wasserstein_distance([0], [t])})
divergences = pd.DataFrame(rows)
assert np.allclose(divergences["Jensen-Shannon"], [np.log(2)] * 3 + [0])
assert np.allclose(divergences["Wasserstein"], divergences["t"])
divergences.round(3)

# %% [markdown] tags=["solution"]
# The Jensen-Shannon divergence is $\log 2$ for all $t \ne 0$; its derivative is 0. The Wasserstein distance is $|t|$. Its
# derivative always points towards the data.

# %% [markdown]
# **2. Change: a smaller clipping value.** Train WGAN for 30 epochs with `clip=0.01` and with `clip=0.1`. How does the size of
# the critic's loss change, and why does this not mean that the generator is better?
#
# <details><summary>Hint</summary>
#
# The loss is a difference of outputs of the critic, and the output of a network with three layers scales with the product
# of three weights.
#
# </details>

# %% tags=["solution"]
shared = {"latent_dim": 2, "epochs": 30, "min_steps": 0, "n_steps": 0, "random_state": seed}
sizes = {}
for clip in (0.01, 0.1):
    clipped = AnoGAN(**shared, **versions["WGAN, strong critic"] | {"clip": clip}).fit(points)
    sizes[clip] = abs(clipped.history_[-1]["critic"])
assert sizes[0.01] < 0.1 * sizes[0.1]
pd.Series(sizes, name="|critic loss|").rename_axis("clip").to_frame()

# %% [markdown] tags=["solution"]
# The loss shrinks by far more than a factor of ten. A smaller clipping value allows only a smaller slope, and the loss is
# the distance in units of this slope. Losses of critics with different clipping values cannot be compared.

# %% [markdown]
# **3. Build: the exact distance.** For two sets of equal size the Wasserstein distance is the mean distance of the best
# one-to-one assignment. Compute it between 500 real points and the last snapshot of WGAN-GP. Compare it with the sliced
# distance of the same points.
#
# <details><summary>Hint</summary>
#
# Use `scipy.optimize.linear_sum_assignment` on the matrix of all distances. A projection never makes a distance larger.
#
# </details>

# %% tags=["solution"]
from scipy.optimize import linear_sum_assignment

made = runs["WGAN-GP, strong critic"].snapshots_[-1]
cost = np.linalg.norm(points[:500, None] - made[None], axis=2)
exact = cost[linear_sum_assignment(cost)].mean()
sliced = sliced_distance(made, points[:500])
assert exact >= sliced
print(f"exact {exact:.3f}, sliced {sliced:.3f}")

# %% [markdown] tags=["solution"]
# The exact distance is larger. Each projection shortens the distances, and the best assignment of a projection may differ
# from the best assignment in the plane.

# %% [markdown]
# **4. On paper: the best critic.** Let $p(x)$ be the density of real samples and $q(x)$ the density of generated ones. Which
# $D(x)$ maximises $p \log D + q \log(1 - D)$? Show that the loss of this critic is $2 \log 2$ where $p = q$.
#
# <details><summary>Hint</summary>
#
# Maximise for each $x$ separately: set the derivative with respect to the number $D$ to 0.
#
# </details>

# %% [markdown] tags=["solution"]
# The derivative is $p / D - q / (1 - D)$. It is 0 for $D = p / (p + q)$. The second derivative is negative, so this is
# the maximum. For $p = q$ it is $D = ½$, and the loss is $-\log ½ - \log(1 - ½) = 2 \log 2$.

# %% tags=["solution"]
p, q = 0.8, 0.3
D = np.linspace(0.001, 0.999, 999)
best = D[np.argmax(p * np.log(D) + q * np.log(1 - D))]
assert abs(best - p / (p + q)) < 0.001, "the grid has steps of 0.001"
assert np.isclose(-2 * logsigmoid(torch.tensor(0.0)).item(), 2 * np.log(2))
print(f"best D on a grid: {best:.3f}, p / (p + q) = {p / (p + q):.3f}")

# %% tags=["results"]
nb.table(final[["clusters", "sliced distance", "critic loss"]].round(3), "gan_training_runs", single_run=True)
nb.value("gan_walk_roughness", ratio.max())
nb.value("bigan_best_share_of_latent_recovered", inversion["best of five"][0], single_run=True)
nb.finish()

# %% [markdown]
# ## References
#
# - I. Goodfellow et al. (2014). Generative adversarial nets. *NeurIPS*.
# - M. Arjovsky, S. Chintala, L. Bottou (2017). Wasserstein generative adversarial networks. *ICML*.
# - I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville (2017). Improved training of Wasserstein GANs.
#   *NeurIPS*.
# - T. Schlegl, P. Seeböck, S. M. Waldstein, G. Langs, U. Schmidt-Erfurth (2019). f-AnoGAN: Fast unsupervised anomaly
#   detection with generative adversarial networks. *Medical Image Analysis* 54.
# - J. Donahue, P. Krähenbühl, T. Darrell (2017). Adversarial feature learning. *ICLR*. (BiGAN)
# - V. Dumoulin et al. (2017). Adversarially learned inference. *ICLR*. (ALI)
# - Y. Yazıcı, C.-S. Foo, S. Winkler, K.-H. Yap, G. Piliouras, V. Chandrasekhar (2019). The unusual effectiveness of
#   averaging in GAN training. *ICLR*.
