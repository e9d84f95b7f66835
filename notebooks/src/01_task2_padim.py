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
# # Task 2: image anomaly detection with PaDiM
#
# A camera takes images of one kind of part. The training set has images of normal parts only, because defects such as
# cracks, cuts, holes and stray print are rare and differ from each other. The detector must find the images with a defect
# and show where the defect is. This notebook builds PaDiM, a detector that compares pretrained features with one Gaussian
# per image position.
#
# **You will learn**
#
# - why the distance between pixel values is a weak anomaly score
# - how a network that was trained on ImageNet gives a feature vector for each position of an image
# - how PaDiM computes a mean, a covariance and a Mahalanobis distance at each position
# - how the distances become a heatmap and an image score
# - how to evaluate scores of images and of pixels, and how to set a threshold without test images
#
# You should know what an anomaly score and a ROC curve are ([notebook 00](00_concepts.ipynb)), and what a covariance matrix
# is. Reading takes about 30 minutes, running about 1 minute. [Notebook 01b](01b_image_detectors.ipynb) compares PaDiM with
# other detectors and varies its settings.
#
# Terms in the [glossary](glossary.md), in English and Chinese: [backbone](glossary.md#Backbone),
# [mask](glossary.md#Mask), [covariance](glossary.md#Covariance), [Mahalanobis distance](glossary.md#Mahalanobis-distance),
# [heatmap](glossary.md#Heatmap), [pixel AUROC](glossary.md#Pixel-AUROC), [AUPRO](glossary.md#AUPRO).

# %% tags=["parameters"]
dataset: str = "synthetic/hazelnut"  # category of images
backbone: str = "efficientnet_lite0"  # pretrained network; this one needs no download; course: wide_resnet50_2
layers: list[int] = [2, 3]  # of the backbone, from 1 to 4; layer k has stride 2^(k + 1)
image_size: int = 224  # pixels per side of the square that the backbone sees, at least 64
n_features: int = 100  # features that PaDiM keeps at each position, at least 1
seed: int = 0  # of the selection of features and of the split for calibration

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.metrics import ConfusionMatrixDisplay
from torch.nn import functional as F

# %%
from mmad_utils import ConformalThreshold, DistanceToCenter, PaDiM, plots
from mmad_utils.course import notebook, widgets
from mmad_utils.course.published import published
from mmad_utils.datasets import read_image
from mmad_utils.detectors.positionwise_gaussian import PositionwiseGaussian
from mmad_utils.encoders.image import ImageEncoder
from mmad_utils.metrics import auroc, evaluate, pixel_metrics

nb = notebook.start("01_task2_padim")
as_written = dataset == "synthetic/hazelnut" and image_size == 224 and backbone == "efficientnet_lite0"

# %% [markdown]
# The statements about results hold for generated hazelnuts at the default settings. The notebook runs with other parameters
# as well; its numbers can then differ from the text.

# %% [markdown]
# ## 1. Data
#
# The data set has the layout of MVTec AD, the usual benchmark for this task (Bergmann et al., 2019). It has normal images for
# training, and normal and anomalous images for the test. Each anomalous image has a mask, which marks the pixels of the
# defect. Masks are used for evaluation only.
#
# By default the images are generated. The size and position of the nuts, their colours and the sizes of the defects agree
# with those of MVTec AD. Set `dataset="mvtec/hazelnut"` to use the real images.

# %%
data = nb.load(dataset)
kinds = np.array(data.source["kinds_test"])
counts = pd.Series(kinds).value_counts().rename_axis("kind").to_frame("test images")
print(f"{len(data.X_train)} training images, {len(data.X_test)} test images")
counts.T

# %%
defect_share = data.masks_test.mean(axis=(1, 2))  # share of the pixels of each test image
largest = [int(np.where(kinds == kind, defect_share, -1).argmax()) for kind in counts.index]
examples = [data.X_train[0], data.X_train[1], *(data.X_test[i] for i in largest)]
fig = plots.images(examples, ["training", "training", *counts.index])
nb.figure(fig, "padim_examples", data=counts.reset_index(), dataset_name=data.name)

# %% [markdown]
# Normal images differ from each other in the pose of the nut, its size and the light. A defect changes only a few per cent
# of the pixels. This is the main difficulty of the task: the variation between normal images is larger than the change that
# a defect makes.

# %%
share = defect_share[data.y_test == 1]
print(f"pixels in a defect: median {np.median(share):.1%}, minimum {share.min():.2%}, maximum {share.max():.1%}")

# %% tags=["claim"]
assert np.median(share) < 0.2  # a defect is much smaller than the image, for each data set of the course

# %% [markdown]
# ## 2. A baseline: the distance between pixels
#
# An image of 256 × 256 pixels with three colours is a row of 196,608 numbers. So it can be treated like a row of a table. The
# simplest detector takes the mean of each pixel over the training images. Its score is the squared distance to the mean
# image, where each pixel is divided by its standard deviation.
#
# A full covariance matrix of the pixels cannot be estimated. It would have $196608^2 / 2 \approx 2 \cdot 10^{10}$ entries,
# and with 200 images its rank is at most 199.


# %%
def pixels(X, size=64):
    """Resize images to size × size pixels; return one row of numbers in [0, 1] per image."""
    resized = [np.asarray(Image.fromarray(read_image(x)).resize((size, size))) for x in X]
    return np.stack(resized).reshape(len(X), -1) / 255


baseline = DistanceToCenter(scaling="standard").fit(pixels(data.X_train))
baseline_auroc = auroc(data.y_test, baseline.anomaly_score(pixels(data.X_test)))
print(f"AUROC of the distance to the mean image: {baseline_auroc:.3f}")

# %% [markdown]
# This AUROC is low. A normal nut that points in another direction differs from the mean image in more pixels than a cracked
# nut does. A better description of an image depends little on pose and light, and strongly on local structure. Networks
# that were trained to classify many kinds of objects compute such descriptions.

# %% [markdown]
# ## 3. Pretrained features
#
# The *backbone* is a network that was trained on ImageNet. Its last layers are removed, and the values that it computes in
# between are used as features. Layer $k$ has a grid with a stride of $2^{k+1}$ pixels. At each grid position it has a
# vector that describes the neighbourhood: edges and colours in early layers, textures and parts of objects in later layers.
# The weights of the backbone do not change in this notebook.

# %%
all_layers = ImageEncoder(backbone, layers=(1, 2, 3), image_size=image_size)
example = int(defect_share.argmax())  # the image with the largest defect
maps = next(all_layers.features([data.X_test[example]]))
shapes = [(layer, *features.shape[1:]) for layer, features in zip(all_layers.layers, maps)]
sizes = pd.DataFrame(shapes, columns=["layer", "features", "rows of the grid", "columns of the grid"])
sizes

# %% [markdown]
# The figure shows the feature of each layer that varies most over the image.

# %%
panels = {"image": read_image(data.X_test[example])}
for layer, features in zip(all_layers.layers, maps):
    index = int(features[0].flatten(1).std(1).argmax())
    panels[f"layer {layer}, feature {index}"] = features[0, index]
fig = plots.arrays(panels)
nb.figure(fig, "padim_features", data=sizes)

# %% [markdown]
# Early layers have a high resolution and respond to edges. Later layers have a low resolution and respond to larger
# structures. A scratch changes edges, and a missing tooth of a zipper changes a larger structure. Therefore PaDiM uses two
# layers. The coarse map is enlarged to the grid of the fine one, and the two vectors at a position are concatenated. The
# result is the *embedding* of that position.

# %%
encoder = ImageEncoder(backbone, layers=layers, image_size=image_size)
embedding = next(encoder.embeddings([data.X_test[example]]))  # (1, positions, features)
print(f"{embedding.shape[1]} positions with {embedding.shape[2]} features each")

# %% tags=["claim"]
assert embedding.shape[1:] == (np.prod(encoder.grid_), sum(encoder.channels))

# %% [markdown]
# ## 4. PaDiM: one Gaussian per position
#
# PaDiM (Defard et al., 2021) assumes that the embeddings $x_{ij}$ of normal images at position $(i, j)$ follow a
# multivariate normal distribution with mean $\mu_{ij}$ and covariance
#
# $$\Sigma_{ij} = \frac{1}{n-1} \sum_{k=1}^{n} (x_{ij}^{k} - \mu_{ij})(x_{ij}^{k} - \mu_{ij})^{\top} + \epsilon I .$$
#
# Here $n$ is the number of training images. The term $\epsilon I$ keeps the matrix invertible when $n$ is smaller than the
# number of features. As in the paper, $\epsilon = 0.01$, and a random subset of 100 features is kept, which reduces memory
# and time.

# %% tags=["step"]
rng = np.random.default_rng(seed)
kept = rng.permutation(embedding.shape[2])[:n_features].copy()
train = torch.cat([batch[:, :, kept] for batch in encoder.embeddings(data.X_train)]).double()  # (n, p, d)

# %% [markdown]
# The training of PaDiM is the computation of a mean and a covariance matrix at each position. The operator `@` multiplies
# the matrices of all positions at once.

# %% tags=["step"]
mean = train.mean(0)  # (p, d)
centred = (train - mean).transpose(0, 1)  # (p, n, d)
covariance = centred.mT @ centred / (len(train) - 1)  # (p, d, d)
covariance += 0.01 * torch.eye(train.shape[2]).double()

# %% [markdown]
# The anomaly score of a position is its Mahalanobis distance
#
# $$M(x_{ij}) = \sqrt{(x_{ij} - \mu_{ij})^{\top} \Sigma_{ij}^{-1} (x_{ij} - \mu_{ij})} .$$
#
# It measures a deviation in units of the standard deviation in its direction. A deviation along a direction in which normal
# images vary much gives a small distance. The same deviation along a direction in which they vary little gives a large one.

# %% tags=["step"]
delta = embedding[0, :, kept].double() - mean  # (p, d)
squared = (delta * torch.linalg.solve(covariance, delta)).sum(1)
distance = squared.sqrt().reshape(encoder.grid_)

# %% [markdown]
# These few lines are the method. They hold the embeddings of all training images in memory. `PositionwiseGaussian` in
# `mmad_utils` computes the same numbers from batches, and keeps only means and covariances.

# %% tags=["claim"]
# The class works in float32 and merges batches, so the distances agree to four digits.
gaussian = PositionwiseGaussian(regularization=0.01)
for batch in encoder.embeddings(data.X_train):
    gaussian.partial_fit(batch[:, :, kept])
by_class = gaussian.mahalanobis(embedding[:, :, kept])[0].double()
assert torch.allclose(by_class, squared.sqrt(), rtol=1e-4)
one = np.cov(train[:, 0].numpy(), rowvar=False) + 0.01 * np.eye(train.shape[2])
assert np.allclose(one, covariance[0].numpy())

# %%
panels = {"image": read_image(data.X_test[example]), "true mask": data.masks_test[example]}
fig = plots.arrays(panels | {"Mahalanobis distance": distance}, label="distance")
nb.figure(fig, "padim_distance_map", data=pd.DataFrame(distance.numpy()).round(3))

# %% [markdown]
# The distance is largest at the defect, although the detector has seen neither a defect nor a mask.

# %% tags=["step"]
inside = np.asarray(Image.fromarray(data.masks_test[example]).resize(encoder.grid_[::-1]))
ratio = float(distance.numpy()[inside].mean() / distance.numpy()[~inside].mean())
print(f"The mean distance inside the mask is {ratio:.1f} times that outside.")

# %% tags=["claim"]
assert not as_written or ratio > 1.3

# %% [markdown]
# ## 5. From distances to a heatmap and an image score
#
# The grid of distances is enlarged to the size of the image by bilinear interpolation, and smoothed by a Gaussian filter
# with a standard deviation of 4 pixels. The result is the *heatmap*. **The score of an image is the maximum of its heatmap**,
# because one defect makes a part anomalous, however normal the rest of it is.

# %% tags=["step"]
enlarged = F.interpolate(distance[None, None], (image_size, image_size), mode="bilinear")[0, 0]
heatmap = gaussian_filter(enlarged.numpy(), sigma=4)
print(f"score of this image: {heatmap.max():.1f}")

# %% [markdown]
# The class `PaDiM` contains all of these steps: features, selection, Gaussians, heatmap and score. It selects another random
# subset of features than the cells above, so its scores are slightly different.

# %% tags=["step"]
settings = {"backbone": backbone, "layers": layers, "image_size": image_size, "n_features": n_features}
padim = PaDiM(**settings, random_state=seed).fit(data.X_train)
evaluation = evaluate(padim, data, name="PaDiM")
pd.Series(evaluation.as_row()).drop("name").astype(float).round(3).to_frame("PaDiM").T

# %% tags=["claim"]
# The steps above, with the features that the class selected, give the score of the class up to rounding in float32.
selected = padim.gaussian_.mahalanobis(embedding[:, :, padim.selection_]).reshape(1, 1, *encoder.grid_)
smooth = gaussian_filter(F.interpolate(selected, (image_size, image_size), mode="bilinear")[0, 0].numpy(), sigma=4)
assert np.isclose(smooth.max(), evaluation.scores[example], rtol=1e-4)

# %%
order = np.argsort(-evaluation.scores)
anomalous, normal = order[evaluation.y[order] == 1], order[evaluation.y[order] == 0]
picks = [*anomalous[np.linspace(0, len(anomalous) - 1, 4).astype(int)], normal[0]]
titles = [f"{kinds[i]}\n{evaluation.scores[i]:.1f}" for i in picks]
fig = plots.heatmaps([data.X_test[i] for i in picks], evaluation.maps[picks], data.masks_test[picks], titles)
nb.figure(fig, "padim_heatmaps", data={"image": picks, "kind": kinds[picks], "score": evaluation.scores[picks]})

# %% [markdown]
# The first four images have defects, ordered from the highest to the lowest score. The last image is the normal one with the
# highest score.
#
# The mean of the heatmap would be another possible image score. It averages a small defect with many normal positions:

# %% tags=["step"]
means = evaluation.maps.mean(axis=(1, 2))
print(f"AUROC with the maximum {evaluation.auroc:.3f}, with the mean {auroc(data.y_test, means):.3f}")

# %% tags=["claim"]
if as_written:
    assert evaluation.auroc > auroc(data.y_test, means)
    assert evaluation.auroc > max(baseline_auroc, 0.5) + 0.1, "PaDiM should beat the distance between pixels by far"

# %% [markdown]
# ## 6. Evaluation of image scores
#
# The scores of normal and anomalous images should not overlap. Where they overlap, every threshold makes errors. The ROC
# curve shows these errors for all thresholds.

# %%
fig = plots.score_histogram(evaluation)
nb.figure(fig, "padim_scores", data={"score": evaluation.scores, "anomaly": evaluation.y})

# %% [markdown]
# ### Threshold from the training scores
#
# The test set must not determine the threshold. A first idea is to choose the threshold so that 5% of the *training* scores
# lie above it. The nominal false-alarm rate is then 5%. The measured rate on normal test images is:

# %%
normal_images = [x for x, y in zip(data.X_test, data.y_test) if y == 0]
in_sample = padim.anomaly_score(data.X_train)
in_sample_rate = np.mean(padim.anomaly_score(normal_images) > np.quantile(in_sample, 0.95))
print(f"{in_sample_rate:.0%} of {len(normal_images)} normal test images raise an alarm")

# %% [markdown]
# The threshold is useless, because the Gaussians are overfitted to the training images. The number of
# images is not much larger than the number of features. So each training image has a strong influence on the mean and the
# covariance, and its distance is too small.
#
# ### Leave-one-out scores
#
# A better threshold uses the score of each training image under a model that was fitted without it. For a Gaussian no
# second fit is necessary. Without image $k$ the scatter matrix loses one term of rank one, and the Sherman–Morrison formula
# gives the distance $d_{-k}$ from the distance $d$:
#
# $$d_{-k}^2 = \frac{(n-2)\, c^2 q}{1 - c\,q}, \qquad q = \frac{d^2}{n-1}, \quad c = \frac{n}{n-1} .$$
#
# `fit` sets its threshold from these leave-one-out scores.

# %%
leave_one_out_rate = np.mean(padim.predict(normal_images) == -1)
print(f"false-alarm rate with leave-one-out scores: {leave_one_out_rate:.0%}")

# %% tags=["claim"]
assert not as_written or leave_one_out_rate < in_sample_rate - 0.3

# %% [markdown]
# ### Conformal threshold
#
# A guarantee that does not depend on the detector needs normal images that were not used to fit it (Bates et al., 2023). The
# conformal threshold for a nominal rate of 5% gives at most 5% false alarms, on average over random splits. [Notebook
# 02](02_task4_isolation_forest.ipynb) measures this average.

# %%
half = len(data.X_train) // 2
shuffled = np.random.default_rng(seed).permutation(len(data.X_train))
fit_on, held_out = ([data.X_train[i] for i in part] for part in (shuffled[half:], shuffled[:half]))
calibrated = PaDiM(**settings, random_state=seed).fit(fit_on).calibrate(ConformalThreshold(0.05), held_out)
calibrated_evaluation = evaluate(calibrated, data, name="PaDiM, calibrated", maps=False)

# %%
decisions = pd.DataFrame(calibrated_evaluation.confusion, ["normal", "anomaly"], ["no alarm", "alarm"])
decisions.rename_axis("test images")

# %% tags=["claim"]
# Three standard deviations of a binomial proportion, for the sampling of the test images and of the held-out images.
calibrated_rate = np.mean(calibrated.predict(normal_images) == -1)
if as_written:
    assert calibrated_rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 * (1 / len(normal_images) + 1 / len(held_out)))

# %% [markdown]
# With 40 normal test images, a measured rate of 0% and one of 5% are both compatible with the nominal rate. Only the first
# threshold is clearly wrong. The price of the guarantee is that half of the training images are not used for the fit.
#
# ### Effect of the threshold
#
# In JupyterLab, move the slider with the arrow keys. The left panel counts the alarms among all test images. The right panel
# shows one anomalous image: the white line is the outline of the region above the threshold. If the region is empty, the
# image raises no alarm. On a web page only the threshold that `fit` has set is shown.


# %%
def at_threshold(threshold):
    """Confusion matrix of the test set, and the region of one image above the threshold."""
    fig, (counted, shown) = plt.subplots(1, 2, figsize=(4.4, 1.9), layout="constrained")
    alarms, heat = evaluation.scores > threshold, evaluation.maps[picks[1]]
    ConfusionMatrixDisplay.from_predictions(data.y_test, alarms, cmap="Blues", colorbar=False, ax=counted)
    counted.set(xlabel="", ylabel="", xticklabels=["no alarm", "alarm"], yticklabels=["normal", "anomaly"])
    counted.grid(visible=False)
    shown.imshow(read_image(data.X_test[picks[1]]).mean(axis=2), cmap="gray", vmin=-150, vmax=255)
    shown.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=thresholds[-1])
    if heat.max() > threshold:
        shown.contour(heat, [threshold], colors="white", linewidths=1)
    shown.set_axis_off()
    return fig


# %%
def in_words(threshold):
    """Text alternative of the figure at a threshold."""
    false, true = (int((evaluation.scores > threshold)[data.y_test == label].sum()) for label in (0, 1))
    return f"Threshold {threshold:.1f}: {true} anomalous and {false} normal images raise an alarm; one heatmap."


thresholds = np.linspace(*np.quantile(evaluation.scores, [0.02, 1]), 31)
start = int(np.abs(thresholds + padim.offset_).argmin())
widgets.FigureSlider(at_threshold, thresholds, label="threshold", start=start, text="{:.1f}".format, alt=in_words)

# %% [markdown]
# ## 7. Evaluation of pixel scores
#
# The heatmap has a score for each pixel, which is compared with the mask. Two metrics are usual:
#
# - **Pixel AUROC** is the probability that a random pixel of a defect has a higher score than a random normal pixel. Large
#   defects have more pixels and count more. Nearly all pixels are normal and far from a defect, so the value is usually high.
# - **AUPRO** takes for each connected defect the share of its pixels above the threshold, and averages over the defects.
#   This mean is integrated over the false-positive rate from 0 to 0.3 and divided by 0.3. Each defect has the same weight.

# %%
noise = np.random.default_rng(seed).random(data.masks_test.shape, dtype=np.float32)
rows = {"PaDiM": evaluation.pixel, "random scores": pixel_metrics(data.masks_test, noise)}
pixel_table = pd.DataFrame(rows).T.drop(columns="pixel_average_precision")
pixel_table.rename(columns={"pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}).round(3)

# %% [markdown]
# Random scores have a pixel AUROC of 0.5, but an AUPRO of only 0.15, the mean of a diagonal from 0 to 0.3. So an AUPRO of 0.9
# is harder to reach than a pixel AUROC of 0.9.

# %% tags=["claim"]
assert abs(pixel_table.loc["random scores", "aupro"] - 0.15) < 0.02
assert not as_written or (evaluation.pixel["aupro"] > 0.5 and evaluation.pixel["pixel_auroc"] > 0.9)

# %% [markdown]
# ## 8. Mean embeddings compared with position-wise embeddings
#
# Is it necessary to model each position? A simpler description of an image is the mean of its embeddings over all positions.
# The figure shows the first two principal components of this mean, in standard deviations of the training images.

# %%
pooled_train, pooled_test = (
    torch.cat([batch.mean(1) for batch in encoder.embeddings(X)]).numpy() for X in (data.X_train, data.X_test)
)
components = PCA(2, whiten=True, random_state=seed).fit(pooled_train).transform(pooled_test)
fig = plots.embedding_scatter(components, data.y_test)
frame = pd.DataFrame(components, columns=["component_1", "component_2"]).assign(anomaly=data.y_test)
nb.figure(fig, "padim_components", data=frame)

# %% [markdown]
# Normal and anomalous images are mixed. The first components describe pose and light. A defect of a few per cent of the
# positions hardly changes the mean. The distance to the centre in all dimensions of the mean embedding is better than the
# distance between pixels, and worse than PaDiM:

# %%
pooled = DistanceToCenter("standard").fit(pooled_train)
pooled_auroc = auroc(data.y_test, pooled.anomaly_score(pooled_test))
print(f"AUROC: pixels {baseline_auroc:.3f}, mean embedding {pooled_auroc:.3f}, PaDiM {evaluation.auroc:.3f}")

# %% tags=["claim"]
assert not as_written or evaluation.auroc > pooled_auroc > baseline_auroc

# %% [markdown]
# ## 9. Missed defects
#
# The AUROC of all anomalous images together does not show which defects are missed. The table compares each kind of defect
# with all normal images.

# %%
normal_scores = evaluation.scores[data.y_test == 0]
by_kind = {}
for kind in np.unique(kinds[data.y_test == 1]):
    scores = evaluation.scores[(kinds == kind) & (data.y_test == 1)]
    labels = np.repeat([0, 1], [len(normal_scores), len(scores)])
    by_kind[kind] = auroc(labels, np.concatenate([normal_scores, scores]))
by_kind = pd.Series(by_kind, name="AUROC")
by_kind.to_frame().T.round(3)

# %% [markdown]
# The anomalous images with the lowest scores show what limits the detector.

# %%
missed = np.argsort(np.where(evaluation.y == 1, evaluation.scores, np.inf))[:5]
higher = [(normal_scores > evaluation.scores[i]).mean() for i in missed]
titles = [f"{kinds[i]}\n{r:.0%} higher" for i, r in zip(missed, higher)]
images = [data.X_test[i] for i in missed]
limits = (np.quantile(evaluation.maps, 0.05), np.quantile(evaluation.maps, 0.9995))
fig = plots.heatmaps(images, evaluation.maps[missed], data.masks_test[missed], titles, limits=limits)
frame = pd.DataFrame({"image": missed, "kind": kinds[missed], "score": evaluation.scores[missed]})
nb.figure(fig, "padim_misses", data=frame.assign(normal_above=higher))

# %% [markdown]
# There are two possible reasons for a low score: the heatmap is low at the defect, or the maximum lies elsewhere. The table
# compares the maximum inside the mask with the maximum of the whole heatmap.

# %%
inside_maximum = np.array([evaluation.maps[i][data.masks_test[i]].max() for i in missed], dtype=float)
maximum = evaluation.maps[missed].max(axis=(1, 2)).astype(float)
typical = np.median(evaluation.maps[evaluation.y == 0].max(axis=(1, 2)))
print(f"median of the maximum of normal images: {typical:.1f}")
shown = {"share of pixels": defect_share[missed], "maximum inside the mask": inside_maximum, "maximum": maximum}
pd.DataFrame({"kind": kinds[missed], **shown}).round(3)

# %% tags=["claim"]
assert (inside_maximum <= maximum + 1e-6).all()
if as_written:
    assert by_kind.idxmin() == "cut"
    assert np.median(defect_share[missed]) <= np.median(share) and (kinds[missed] == "cut").mean() >= 0.6
    assert np.median(inside_maximum / maximum) > 0.9, "the maximum is at the defect"

# %% [markdown]
# Cuts, the thinnest kind, have the lowest AUROC, and most of the missed defects are cuts. The maximum of the heatmap lies inside the mask, so the position is
# found. But the maximum is hardly higher than that of a normal image.
#
# A Gaussian that has seen many parts of the nut at one position has a large covariance, and the change that a thin defect
# makes is small compared with it. Position-wise statistics suit parts with a fixed pose. Notebook 01b measures this.

# %% [markdown]
# ## 10. Published results
#
# The table shows published results of PaDiM on the two categories of MVTec AD that the course uses. They depend strongly on
# the backbone. Our AUROC was measured on generated images with a small backbone, so it cannot be ranked among them. Notebook
# 01b has the table with more methods.

# %%
published("hazelnut", "zipper").query("method == 'PaDiM'").set_index("method")

# %% [markdown]
# ## In this notebook
#
# - The distance between pixels is a weak score, because normal images differ in pose and light.
# - A pretrained network gives an embedding for each position of an image.
# - PaDiM fits one Gaussian per position. The Mahalanobis distance at each position gives the heatmap, and the maximum of the
#   heatmap gives the image score.
# - A threshold from training scores misses the nominal false-alarm rate. Leave-one-out scores and held-out images give
#   usable thresholds.
# - Pixel AUROC is high for most detectors; AUPRO gives each defect the same weight.
# - The missed defects are thin cuts, at positions where normal images vary much.

# %% [markdown]
# ## Exercises
#
# **1. Predict: a coarser image.** The images are resized to half the side before the network sees them. Which metric
# decreases more, the AUROC of images or the AUPRO?
#
# <details><summary>Hint</summary>
#
# Count the positions of the grid, and compare the size of a grid cell with the size of a defect.
#
# </details>

# %% tags=["solution"]
smaller = settings | {"image_size": max(64, image_size // 2)}
coarse = evaluate(PaDiM(**smaller, random_state=seed).fit(data.X_train), data)
assert not as_written or coarse.pixel["aupro"] < evaluation.pixel["aupro"] - 0.02
print(f"AUROC {coarse.auroc:.3f} instead of {evaluation.auroc:.3f}")
print(f"AUPRO {coarse.pixel['aupro']:.3f} instead of {evaluation.pixel['aupro']:.3f}")

# %% [markdown] tags=["solution"]
# The grid has a quarter of the positions, and the AUPRO decreases. The AUROC of images changes less than it does from seed to
# seed, because the defects are larger than a cell of the coarse grid.

# %% [markdown]
# **2. Change: the smoothing.** Smooth the heatmaps additionally with standard deviations of 4 and 16 pixels. The scores of
# which images decrease most?
#
# <details><summary>Hint</summary>
#
# Apply `gaussian_filter(evaluation.maps, sigma=(0, s, s))`, and compare the maxima with those without smoothing: small
# defects, large defects, normal images.
#
# </details>

# %% tags=["solution"]
smoothed = {s: gaussian_filter(evaluation.maps, sigma=(0, s, s)).max(axis=(1, 2)) for s in (0, 4, 16)}
decrease = 1 - smoothed[16] / smoothed[0]
small = (data.y_test == 1) & (defect_share < np.median(share))
groups = np.select([small, data.y_test == 1], ["small defect", "large defect"], "normal")
by_group = pd.Series(decrease).groupby(groups).mean()
assert not as_written or by_group["small defect"] > by_group["large defect"] > by_group["normal"]
areas = ", ".join(f"{s} pixels {auroc(data.y_test, scores):.3f}" for s, scores in smoothed.items())
print(f"AUROC after smoothing: {areas}")
by_group.to_frame("relative decrease of the score").round(3)

# %% [markdown] tags=["solution"]
# Smoothing lowers narrow peaks most. The scores of small defects decrease most, those of large defects less, and those of
# normal images least. A small amount of smoothing is part of PaDiM, so that a single noisy position does not determine the
# maximum. For defects of this size, even strong smoothing hardly changes the AUROC.

# %% [markdown]
# **3. Build: leave-one-out by refitting.** Check the formula of section 6 at the central position. Remove the first training
# image, compute the mean and the covariance of the others, and compare its Mahalanobis distance with the formula.
#
# <details><summary>Hint</summary>
#
# The formula is exact if the covariance of the others is regularised with $\epsilon\,(n-1)/(n-2)$.
#
# </details>

# %% tags=["solution"]
center, n = train.shape[1] // 2, len(train)
x, others = train[0, center].numpy(), train[1:, center].numpy()
epsilon = 0.01 * (n - 1) / (n - 2)
refitted = np.cov(others, rowvar=False).reshape(len(x), -1) + epsilon * np.eye(len(x))
difference = x - others.mean(0)
direct = np.sqrt(difference @ np.linalg.solve(refitted, difference))
d0 = x - mean[center].numpy()
q, c = d0 @ np.linalg.solve(covariance[center].numpy(), d0) / (n - 1), n / (n - 1)
closed_form = np.sqrt((n - 2) * c**2 * q / (1 - c * q))
assert np.isclose(direct, closed_form)
print(f"distance with the image {np.sqrt(q * (n - 1)):.2f}, without {direct:.2f}, by the formula {closed_form:.2f}")

# %% [markdown]
# **4. On paper: multiplication of the features by a matrix.** Show that the Mahalanobis distance does not change when the
# features are multiplied by an invertible matrix $A$, if $\epsilon = 0$. What follows for the scaling of features?
#
# <details><summary>Hint</summary>
#
# Write the mean and the covariance of $y = Ax$ in terms of those of $x$.
#
# </details>

# %% [markdown] tags=["solution"]
# If $y = Ax$ then $\mu_y = A\mu$ and $\Sigma_y = A \Sigma A^{\top}$, so
#
# $$(y-\mu_y)^{\top}\Sigma_y^{-1}(y-\mu_y) = (x-\mu)^{\top}A^{\top}A^{-\top}\Sigma^{-1}A^{-1}A(x-\mu)
# = (x-\mu)^{\top}\Sigma^{-1}(x-\mu) .$$
#
# Scaling the features has no effect if $\epsilon = 0$. With $\epsilon > 0$ it has one, because $\epsilon$ is in squared units
# of the features.

# %% tags=["solution"]
rng = np.random.default_rng(seed)
x, A = rng.normal(size=(50, 1, 5)), rng.normal(size=(5, 5))
original = PositionwiseGaussian(regularization=1e-12).fit(x).mahalanobis(x)
multiplied = PositionwiseGaussian(regularization=1e-12).fit(x @ A).mahalanobis(x @ A)
assert np.allclose(original, multiplied, rtol=1e-4)

# %% tags=["results"]
nb.value("padim_auroc", evaluation.auroc)
nb.value("padim_average_precision", evaluation.average_precision)
for key, value in evaluation.pixel.items():
    nb.value(f"padim_{key}", value)
nb.value("pixel_values", read_image(data.X_train[0]).size)
nb.value("pixel_distance_auroc", baseline_auroc)
nb.value("pooled_features_auroc", pooled_auroc)
nb.value("in_sample_threshold_false_alarms", in_sample_rate, n=len(normal_images))
nb.value("leave_one_out_false_alarms", leave_one_out_rate, n=len(normal_images))
nb.value("calibrated_false_alarms", calibrated_rate, n=len(normal_images))
nb.value("calibrated_recall", calibrated_evaluation.confusion[1, 1] / data.y_test.sum())
nb.finish()

# %% [markdown]
# ## References
#
# - P. Bergmann, M. Fauser, D. Sattlegger, C. Steger (2019). MVTec AD: a comprehensive real-world dataset for unsupervised
#   anomaly detection. CVPR.
# - T. Defard, A. Setkov, A. Loesch, R. Audigier (2021). PaDiM: a patch distribution modeling framework for anomaly detection
#   and localization. ICPR workshops.
# - M. Tan, Q. Le (2019). EfficientNet: rethinking model scaling for convolutional neural networks. ICML.
# - S. Akcay, D. Ameln, A. Vaidya, B. Lakshmanan, N. Ahuja, U. Genc (2022). Anomalib: a deep learning library for anomaly
#   detection. ICIP. Tables: https://github.com/openvinotoolkit/anomalib
# - S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023). Testing for outliers with conformal p-values. Annals of Statistics.
