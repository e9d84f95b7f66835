# ---
# jupyter:
#   jupytext:
#     formats: ipynb,src//py:percent
#     notebook_metadata_filter: report,-kernelspec
#     text_representation:
#       extension: .py
#       format_name: percent
#   report:
#     language: en
# ---

# %% [markdown]
# # Anomaly detection in images and tables: one problem, two modalities, and a common framework

# %% [markdown]
# ## Abstract
#
# Anomaly detection finds samples that deviate from the normal ones, such as a cracked nut on a conveyor belt or a
# patient whose blood values match no healthy pattern. This report follows two tasks of the course from the raw data to
# the measured results. In the first task, image defects are detected with pretrained convolutional features, a
# Gaussian model for each image position, and the Mahalanobis distance. In the second task, anomalies in a medical
# table are detected with Isolation Forest. On {{ name:01_task2_padim.dataset }} the image detector has an AUROC of
# {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}. On the table, Isolation Forest has an AUROC of
# {{ value:02_task4_isolation_forest.isolation_forest_auroc }}, and the distance to the centre of the training data has
# {{ value:02_task4_isolation_forest.distance_to_centre_standardised_auroc }}. This comparison says as much about the
# data as about the method. The two tasks have the same goal, the same protocol and the same kind of score. Almost
# every step between the data and the score is different. Five families of deep methods are implemented from their
# papers and evaluated with one protocol. More than one of them is behind nearest neighbours or behind its own
# untrained network. A common framework of modality encoders, a shared latent space and one scorer is then built and
# measured without labels, with many labels, and with a few labels. Held-out p-values give unrelated modalities one
# scale. Where the modalities describe the same object, a joint model detects contradictions between them that no
# single modality shows. For a tone at another time than the caption says, cross-attention has an AUROC of
# {{ value:08_fusion.shifted_attention_auroc }}; its training uses exchanged parts. For one part of another object, a
# shared latent space has an AUROC of {{ value:08_fusion.mismatch_latent_auroc }}; it is trained on unaltered normal
# samples only.
#
# No number in this text was typed. Each number is read from the files that the notebooks of the course write when they
# run. If a number is missing or out of date, the report is not built.

# %% [markdown]
# {{ contents }}

# %% [markdown]
# ## What anomaly detection is
#
# ### Definition
#
# Let $p^{+}$ be the distribution of normal samples on a space $\mathcal{X}$. An anomaly is an observation that
# deviates so much from $p^{+}$ that another mechanism is likely to have produced it
# [@chandola2009survey; @ruff2021unifying]. If $p^{+}$ has a density, the set of anomalies can be written as
#
# $$\mathcal{A} = \{\, x \in \mathcal{X} : p^{+}(x) \le \tau \,\}, \qquad \tau \ge 0.$$
#
# A detector is any function $s \colon \mathcal{X} \to \mathbb{R}$, the *anomaly score*, that is larger where $p^{+}$ is
# smaller. Most detectors do not estimate the density itself, because an order of the samples is sufficient. To turn
# the order into alarms, a threshold is needed. The threshold is a separate problem with its own errors.
#
# Almost every method depends on three assumptions:
#
# 1. **Few.** Anomalies are rare. Otherwise they would be a second class.
# 2. **Different.** Anomalies have values, or combinations of values, that are rare among normal samples.
# 3. **Separable.** In some available representation, not necessarily the raw one, anomalies are separated from normal
#    samples by a distance or by a region of low density.
#
# The first assumption can be checked. The second can only be assumed. The third requires most of the work: whether a
# common framework, the subject of {{ ref:framework }}, is useful depends on the representation.
#
# ### What the training data may contain
#
# The terms for the amount of supervision are not used consistently, and the same setting has several names in the
# literature. This report uses the following terms.
#
# - **Unsupervised**, in the strict sense: the training set has no labels and may contain anomalies. The detector must
#   tolerate some *contamination*.
# - **One-class**: the training set contains normal samples only. Many authors call this semi-supervised, and much of
#   the industrial literature calls it unsupervised. The selection of normal samples is itself a kind of label. Both
#   tasks of this report are of this type.
# - **Semi-supervised**, in the other common sense: many unlabelled or normal samples and a few labelled anomalies.
# - **Supervised**: labelled samples of both classes. This is an imbalanced classification problem, and kinds of
#   anomaly that have not been labelled yet may be missed.
#
# In every setting, the labels of the test set may be used for the final metric only. If they are used to set a
# threshold or the expected share of anomalies, this is an information leak. {{ ref:task-4 }} measures its effect.
#
# ### Kinds of anomaly
#
# A *point anomaly* is unusual by itself, for example a part with a hole. A *contextual anomaly* is unusual only at its
# location or time: a high temperature is normal in July but not in January. A *collective anomaly* is a group of
# samples that are normal one by one, for example a heartbeat that stays flat for one second. {{ ref:anomaly_kinds }}
# shows an example of each. No detector is best for all kinds. A suitable detector has a model of normality that
# matches the kind of anomaly to be found.

# %% [markdown]
# {{ figure:anomaly_kinds }}

# %% [markdown]
# ### How detection is evaluated {#how-detection-is-judged}
#
# The area under the ROC curve (AUROC) is the probability that a random anomaly has a higher score than a random normal
# sample. It depends neither on a threshold nor on the rate of anomalies. This is an advantage for comparisons and a
# disadvantage in practice: if anomalies are rare, even a small false-positive rate produces many false alarms.
# Precision and recall describe the alarms themselves. A curve that dominates in ROC space also dominates in
# precision-recall space. This does not hold for the areas under the curves [@davis2006roc]. With strong imbalance the
# precision-recall plot is more informative [@saito2015precision]. In {{ ref:roc_and_pr }} a detector with an AUROC of
# {{ value:00b_measurement.auroc_rare }} has an average precision of only
# {{ value:00b_measurement.average_precision_rare }}.
#
# Metrics at a threshold, such as F1 and the confusion matrix, depend on how the threshold was chosen. Four valid rules
# use normal data only:
#
# - A quantile of the training scores. It is optimistic because the detector was fitted to these samples.
# - The same quantile of held-out normal scores.
# - Conformal p-values, $p(x) = (1 + k) / (1 + m)$, where $k$ of $m$ held-out normal scores are at least $s(x)$. They
#   hold a nominal false-alarm rate in finite samples. With the procedure of Benjamini and Hochberg [@benjamini1995fdr]
#   they also bound the expected share of false alarms among all alarms [@bates2023conformal].
# - Peaks over threshold: a generalised Pareto model of the upper tail, for false-alarm rates that are too small to be
#   counted in the sample [@siffer2017spot].
#
# For images, the score of every pixel can be compared with a mask. Pixel AUROC gives more weight to large defects,
# because each pixel counts once. AUPRO averages the overlap over the connected defects, so that a small scratch has
# the same weight as a large stain [@bergmann2019mvtec].

# %% [markdown]
# {{ figure:roc_and_pr }}

# %% [markdown]
# ### Families of methods
#
# *Statistical* methods fit a density or its first moments: Gaussian and mixture models, kernel density estimates
# [@parzen1962density], and the Mahalanobis distance [@mahalanobis1936distance] with a robust [@rousseeuw1999mcd] or a
# shrunken covariance [@ledoit2004covariance]. *Distance and density* methods use neighbours. Examples are the distance
# to the $k$-th neighbour [@ramaswamy2000knn], and the local outlier factor, which compares the density at a point with
# the density at its neighbours [@breunig2000lof]. *Isolation* methods count the random cuts that are needed to
# separate a sample from the others [@liu2008isolation]. *Boundary* methods, such as the one-class support vector
# machine, enclose the normal samples [@scholkopf2001support]. *Reconstruction* methods learn to reconstruct normal
# samples through a bottleneck and use the reconstruction error as the score. They include principal components,
# autoencoders, variational autoencoders [@kingma2013vae], and adversarial networks such as OCGAN [@perera2019ocgan].
# *Deep representation* methods use learned or pretrained features, to which one of the methods above is applied
# [@ruff2021unifying; @pang2021review]. {{ ref:family_gallery_moons }} shows the regions that eight methods accept on
# the same data, and {{ ref:table:family_gallery }} their AUROC.

# %% [markdown]
# {{ figure:family_gallery_moons }}

# %% [markdown]
# {{ table:family_gallery }}

# %% [markdown]
# ## Two tasks, two modalities
#
# ### Task 2: anomalies in images {#task-2}
#
# #### Data {#task-2-data}
#
# An inspection camera takes images of parts of one kind. The training set contains images of good parts only. The test
# set contains good and defective parts, and a mask marks each defect. This is the protocol of MVTec AD
# [@bergmann2019mvtec]. {{ if:01_task2_padim.dataset is synthetic/* }}The report is built from data that anyone can
# generate or already has. The images of hazelnuts and zippers are generated, with defects of known position and
# severity. The images of brick, grass and gravel are real, with patches of foreign texture blended in. The same
# notebook runs on MVTec AD itself if one parameter is changed.{{ else }}This report follows
# {{ name:01_task2_padim.dataset }} step by step. For comparison it also measures:
# {{ name:01b_image_detectors.other_datasets }}.{{ end }} A colour image of this size is a point in a space of
# $256 \times 256 \times 3 = 196\,608$ dimensions, and there are at most a few hundred training samples. Neighbouring
# pixels are highly correlated. The relevant information, for example an edge that should not be there, is a pattern
# over many pixels.
#
# #### Method {#task-2-method}
#
# PaDiM [@defard2021padim] needs no training in the usual sense. A network trained on ImageNet turns the image into
# feature maps of several depths. The network is a small EfficientNet [@tan2019efficientnet] here, and among others a
# wide residual network [@zagoruyko2016wide] in the original work. The maps are resized to a common grid and
# concatenated, so that every position $(i, j)$ has a vector $x_{ij}$ that describes fine texture and wider context. A
# random subset of $d$ components is kept. For every position the mean $\mu_{ij}$ and the covariance
#
# $$
# \Sigma_{ij} = \frac{1}{n-1} \sum_{k=1}^{n}
# (x^{(k)}_{ij} - \mu_{ij})(x^{(k)}_{ij} - \mu_{ij})^{\top} + \varepsilon I
# $$
#
# are estimated from the $n$ normal images. The term $\varepsilon I$ keeps $\Sigma_{ij}$ invertible even when there are
# fewer images than features. The score of a position is the Mahalanobis distance
#
# $$d_{ij} = \sqrt{(x_{ij} - \mu_{ij})^{\top} \, \Sigma_{ij}^{-1} \, (x_{ij} - \mu_{ij})}.$$
#
# The map of these distances, enlarged and smoothed, is the heatmap. Its maximum is the score of the image, because a
# single defect makes the part defective.
#
# Two alternatives test this design. The first is a single Gaussian for all positions, which does not use the position
# of a patch. It suits textures. It is worse on aligned objects, where the same feature can be normal at the rim and
# anomalous at the centre. The second is PatchCore [@roth2022patchcore], which replaces the Gaussian by a subsampled
# memory of normal patches. Its score is the distance to the nearest of them.
#
# #### Characteristics {#task-2-characteristics}
#
# The model is a table of means and covariances. It is fitted in one pass, the heatmap explains its score, and new
# normal images are added by merging statistics. Its memory grows with the size of the grid and with the square of $d$.
# The method assumes that the position is informative. This holds for a camera in a fixture and fails for parts in
# arbitrary orientation. If there are fewer training images than features, the matrix of centred features is smaller
# than the covariance. The distance can then be computed exactly from that matrix without a covariance.
#
# #### Results {#task-2-results}
#
# {{ ref:figure:padim_comparison }} and {{ ref:table:padim_comparison }} show the detectors on each category, together
# with a random score and the distance between pixels. On hazelnut the position-wise Gaussian has an image AUROC of
# {{ value:01b_image_detectors.hazelnut_padim_image_auroc }} and a pixel AUROC of
# {{ value:01b_image_detectors.hazelnut_padim_pixel_auroc }}. Its AUPRO, the stricter measure of overlap, is
# {{ value:01b_image_detectors.hazelnut_padim_aupro }}. {{ if:01b_image_detectors.zipper_padim_image_auroc }} On zipper
# they are {{ value:01b_image_detectors.zipper_padim_image_auroc }},
# {{ value:01b_image_detectors.zipper_padim_pixel_auroc }} and
# {{ value:01b_image_detectors.zipper_padim_aupro }}.{{ else }} Zipper was not measured.{{ end }}
# {{ if:01b_image_detectors.brick_padim_image_auroc }} On brick they are
# {{ value:01b_image_detectors.brick_padim_image_auroc }}, {{ value:01b_image_detectors.brick_padim_pixel_auroc }} and
# {{ value:01b_image_detectors.brick_padim_aupro }}.{{ end }}
#
# Hazelnuts have no fixed orientation.
# {{ if:01b_image_detectors.hazelnut_patchcore_image_auroc > 01b_image_detectors.hazelnut_padim_image_auroc + 0.02 }}There
# the models that do not use the position are ahead: one Gaussian for all positions has an image AUROC of
# {{ value:01b_image_detectors.hazelnut_global_gaussian_image_auroc }}, and PatchCore has
# {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}.{{ elif:01b_image_detectors.hazelnut_padim_image_auroc > 01b_image_detectors.hazelnut_patchcore_image_auroc + 0.02 }}Nevertheless
# PaDiM is ahead of PatchCore, which has an image AUROC of
# {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}; one Gaussian for all positions has
# {{ value:01b_image_detectors.hazelnut_global_gaussian_image_auroc }}.{{ else }}Nevertheless PaDiM is level with the
# models that do not use the position: one Gaussian for all positions has an image AUROC of
# {{ value:01b_image_detectors.hazelnut_global_gaussian_image_auroc }}, and PatchCore has
# {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}.{{ end }}
# {{ if:01b_image_detectors.zipper_padim_image_auroc and 01b_image_detectors.zipper_padim_image_auroc > 01b_image_detectors.zipper_global_gaussian_image_auroc + 0.02 }}A
# zipper has the same position in every image, and there the single Gaussian has only
# {{ value:01b_image_detectors.zipper_global_gaussian_image_auroc }}.{{ end }} PaDiM on a network with random weights
# has {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }} on hazelnut. The difference is the
# contribution of the pretraining.

# %% [markdown]
# {{ figure:padim_comparison }}

# %% [markdown]
# {{ table:padim_comparison }}

# %% [markdown]
# {{ ref:padim_published }} compares published results on the two categories of MVTec AD with ours. It contains PaDiM
# and PatchCore, EfficientAD [@batzner2024efficientad], which trains a small student network, and Dinomaly
# [@guo2025dinomaly], which trains a decoder on the tokens of a vision transformer. The published results were measured
# by anomalib [@akcay2022anomalib] or by the authors of PatchCore [@roth2022patchcore]. Images, networks and numbers of
# seeds differ from row to row, so that the table is not a ranking.

# %% [markdown]
# {{ table:padim_published }}

# %% [markdown]
# {{ figure:padim_heatmaps }}

# %% [markdown]
# The heatmaps in {{ ref:padim_heatmaps }} are the main advantage of the method: an inspector sees at once which part
# of the image caused an alarm. They also show two limits. The grid is coarser than the image, so that the response to
# a thin defect is wider than the defect. The smoothing reduces noise and also lowers the maximum of a small defect.
# {{ ref:padim_roc }} shows all thresholds. {{ if:01b_image_detectors.auroc_mild }}{{ ref:padim_severity }} shows the
# score against the severity of a defect. Parts with a mild defect have an AUROC of
# {{ value:01b_image_detectors.auroc_mild }} against the good images. The same parts with a severe defect have
# {{ value:01b_image_detectors.auroc_severe }}. The mean score of the cuts, the thinnest defects, stays below the
# dashed line even at the highest severity. The hazelnuts of the test set have clearly visible defects. The AUROC on
# the test set therefore says nothing about mild defects.{{ else }}The severity of the defects is not known
# here.{{ end }}
#
# The threshold is as important as the score. At a nominal false-alarm rate of one in twenty, the threshold from the
# training scores has a false-alarm rate of {{ value:01_task2_padim.in_sample_threshold_false_alarms }} on the good
# test images. The Gaussian has many features and was fitted to few images, so that the distances of the training
# images are much smaller than those of new images. If each training image is scored by a model without it, which has a
# closed form for a Gaussian, the rate is {{ value:01_task2_padim.leave_one_out_false_alarms }}. With held-out good
# images and conformal p-values it is {{ value:01_task2_padim.calibrated_false_alarms }}.
# {{ if:01_task2_padim.in_sample_threshold_false_alarms > 01_task2_padim.leave_one_out_false_alarms + 0.3 }}There are
# too few good test images to distinguish the last two rates from the nominal rate. The first rate is clearly too
# high.{{ else }}There are too few good test images to distinguish any of the three rates from the nominal
# rate.{{ end }}

# %% [markdown]
# {{ figure:padim_roc }}

# %% [markdown]
# {{ if:01b_image_detectors.auroc_mild }}{{ figure:padim_severity }}{{ end }}

# %% [markdown]
# ### Task 4: anomalies in tables {#task-4}
#
# #### Data {#task-4-data}
#
# A table has one row per sample and one column per measurement.
# {{ if:02_task4_isolation_forest.dataset is breast_cancer }}The course uses a thyroid data set with six columns. The
# report is built from the Wisconsin breast cancer data of scikit-learn, whose benign cases are the normal
# class.{{ elif:02_task4_isolation_forest.dataset is thyroid }}The report is built from the course’s thyroid data, with
# six measurements of each patient. Patients with hyperfunction are the anomalies.{{ else }}The report is built from
# {{ name:02_task4_isolation_forest.dataset }}.{{ end }} There are {{ value:02_task4_isolation_forest.n_train }} normal
# training samples and {{ value:02_task4_isolation_forest.n_test }} test samples. Columns have units and no neighbours:
# a permutation of the columns changes nothing, while a permutation of the pixels destroys an image. There is no
# pretrained network for such columns.
#
# #### Method {#task-4-method}
#
# Isolation Forest [@liu2008isolation] builds trees on small random subsamples. A tree repeatedly selects a random
# column and a random cut within the range of this column, until each sample is alone or a depth limit is reached.
# Samples in sparse regions are isolated after few cuts. Let $h(x)$ be the depth at which $x$ is isolated, averaged
# over the trees. Let $c(\psi)$ be the mean depth of an unsuccessful search in a binary search tree of $\psi$ samples.
# The score is
#
# $$
# s(x) = 2^{-\mathbb{E}[h(x)] / c(\psi)}, \qquad c(\psi) = 2 H_{\psi - 1} - \frac{2(\psi - 1)}{\psi},
# \qquad H_k = \sum_{i=1}^{k} \frac{1}{i}.
# $$
#
# It lies between zero and one and is larger for more anomalous samples. The trees are invariant to the scale of a
# column, so that standardisation changes the scores of the forest by rounding only. The columns are standardised
# because the other detectors in {{ ref:isolation_forest_comparison }} need it.
#
# #### Characteristics {#task-4-characteristics}
#
# Each tree uses a subsample of fixed size $\psi$, so that the cost of building the trees does not depend on the number
# of samples. Building $t$ trees costs $O(t \, \psi \, \log \psi)$. Scoring $n$ samples costs $O(n \, t \, \log \psi)$,
# which is linear in $n$ and not $O(n \, \log n)$. When $n$ doubles, the measured fit time is
# {{ value:02b_thresholds_and_explanations.fit_time_per_doubling }} as long. The method assumes no distribution, but
# every cut is parallel to an axis. Anomalies whose columns are all within their usual ranges, and only their
# combination is unusual, are therefore difficult for the forest. Shapley values can be computed exactly for trees
# [@lundberg2020trees], and {{ ref:isolation_forest_shap }} shows the columns that contribute to an alarm.
#
# #### Thresholds without test labels {#task-4-threshold}
#
# Many tutorials set the parameter `contamination` to the share of anomalies in the test set. This value comes from the
# labels. It sets the rate of alarms among *normal* samples to the rate of anomalies in the test set, although the two
# rates are unrelated. On this test set the false-alarm rate is then
# {{ value:02b_thresholds_and_explanations.false_alarm_rate_leak }}; with a quantile of the training scores it is
# {{ value:02b_thresholds_and_explanations.false_alarm_rate_no_leak }}. A threshold that maximises F1 on the test
# labels is also invalid. It increases F1 by {{ value:02b_thresholds_and_explanations.leak_f1_gain }}, which cannot be
# reached in use, where the labels are not known ({{ ref:table:contamination_leak }}). The AUROC does not change,
# because the order of the samples does not change. {{ ref:thresholds }} compares the valid thresholds at the same
# nominal false-alarm rate, {{ value:02b_thresholds_and_explanations.nominal_false_alarm_rate }}. The measured rate of
# the training quantile is {{ value:02b_thresholds_and_explanations.false_alarm_rate_training_quantile }}, and that of
# the conformal threshold is {{ value:02b_thresholds_and_explanations.false_alarm_rate_conformal }}.

# %% [markdown]
# {{ table:contamination_leak }}

# %% [markdown]
# {{ table:thresholds }}

# %% [markdown]
# #### Results {#task-4-results}
#
# {{ ref:isolation_forest_scores }} shows the scores. {{ ref:isolation_forest_comparison }} compares the forest with
# other detectors, a random score and the distance-to-centre baseline over
# {{ value:02_task4_isolation_forest.n_splits }} splits of the data. The baseline is the distance to the centre of the
# training data. It learns only a centre and a scale for each column. Its AUROC is
# {{ value:02_task4_isolation_forest.distance_to_centre_standardised_auroc }}, and that of Isolation Forest is
# {{ value:02_task4_isolation_forest.isolation_forest_auroc }}.
# {{ if:02_task4_isolation_forest.dataset is breast_cancer }}The notebook applies the same test to the thyroid data of
# the course if one parameter is changed.{{ end }} Where the baseline is as good as a detector, the anomalies are
# simply far from the centre. A high score then shows that the detector works. It does not show that the detector has
# learned the structure of the normal class.

# %% [markdown]
# {{ figure:isolation_forest_scores }}

# %% [markdown]
# {{ table:isolation_forest_comparison }}

# %% [markdown]
# {{ ref:isolation_forest_published }} compares published results on thyroid with ours. ADBench [@han2022adbench] fits
# the detectors to data that contain anomalies, and we fit them to normal samples only. The F1 of DAGMM
# [@zong2018dagmm] is for a threshold at the share of anomalies. The prototypes of the course were reported without
# their protocol. The table is therefore not a ranking.

# %% [markdown]
# {{ table:isolation_forest_published }}

# %% [markdown]
# To test whether a detector has learned, a table is needed on which the distance to the centre fails. Following
# ADBench [@han2022adbench], anomalies are made from normal samples by breaking the dependence between columns. Each
# column alone has its usual distribution, and only the combination is abnormal. On this table the distance to the
# centre has an AUROC of {{ value:02_task4_isolation_forest.hard_distance_to_centre_auroc }} and Isolation Forest has
# {{ value:02_task4_isolation_forest.hard_isolation_forest_auroc }}. The best detector of
# {{ ref:isolation_forest_hard_comparison }} has {{ value:02_task4_isolation_forest.hard_best_detector_auroc }}. A
# benchmark for tables should contain both kinds of anomaly, and the distance-to-centre baseline.

# %% [markdown]
# {{ table:isolation_forest_hard_comparison }}

# %% [markdown]
# {{ figure:isolation_forest_shap }}

# %% [markdown]
# ## Differences and agreements of the two tasks {#how-the-two-tasks-differ-and-agree}
#
# {{ caption:tasks_compared }} Comparison of the two tasks.
#
# | | Task 2: images | Task 4: tables |
# |---|---|---|
# | Raw sample | hundreds of thousands of redundant pixels on a grid | a row of six to a few dozen measurements |
# | Structure | neighbourhood, scale, position | none; columns can be exchanged |
# | Representation | from a network pretrained on other images | the columns themselves, standardised |
# | Model of normality | a Gaussian for each position | an ensemble of random partitions |
# | Assumption | features are near Gaussian, parts are aligned | anomalies are isolated by few axis-parallel cuts |
# | Score | Mahalanobis distance, maximum over positions | mean depth of isolation |
# | Localisation | heatmap over pixels | contribution of each column |
# | Cost | mostly that of the network, lower with a GPU | seconds on one core |
# | Metrics | image and pixel AUROC, AUPRO, average precision | AUROC, average precision, F1 at a valid threshold |
#
# ### Differences
#
# {{ ref:tasks_compared }} summarises this section. The main difference is the source of the representation. The image
# detector uses a network that was trained on a million other images and whose features describe texture and shape.
# With these features, a simple model of normality is sufficient. For tables there is no such source: the third column
# of one hospital says nothing about the third column of another. The detector itself must therefore model what is
# unusual. Results about methods do not carry over: a Gaussian may be sufficient for deep image features and not for
# blood values.
#
# The second difference is locality. The score of an image is the maximum of thousands of local scores, and has an
# extreme-value distribution. The score of a table row is one global number. The scales and tails of the two scores are
# not comparable. This matters as soon as both are ranked together.
#
# ### Agreements
#
# Both tasks are one-class problems with the same protocol: fit on normal samples, compute scores, choose a threshold
# on normal samples, and use the test labels for the metric only. Both produce a real-valued score with the same
# orientation, so that thresholds, curves, intervals and calibration are shared without change. Both can show the
# source of an alarm, by pixel or by column. In software, both have the same interface: `fit`, `anomaly_score`,
# `predict`. Most of a reliable evaluation depends on this interface only. This is the first sense in which a unified
# framework is feasible.

# %% [markdown]
# ## Families of deep methods {#deep-methods-family-by-family}
#
# Notebooks 03 to 07 of the course implement deep methods from their papers: autoencoders, adversarial networks,
# self-supervised tasks, learned features and one-class networks. Each was evaluated with the same protocol. It uses
# several splits and four controls: a *random score*; the *squared length* $\lVert x \rVert^2$, which is the squared
# distance to the centre; the detector’s own network *before training*; and two simple detectors that do learn. These
# are the distance to the fifth nearest neighbour (kNN) and the residual of a principal component analysis (PCA).
# {{ ref:deep_families }} summarises the outcome in words, and the sections below give the numbers.

# %% [markdown]
# {{ caption:deep_families }} Five families of deep methods, and the outcome of the evaluation.
#
# | Family | Training task | Score | Good results | Poor results |
# |---|---|---|---|---|
# | Autoencoders | reconstruct | reconstruction error | dependent columns, aligned images | level with PCA on both; memorise anomalies in the training set after long training |
# | Adversarial networks | generate samples like the normal ones | residual to a generated sample | dependent columns | behind PCA there, at many hundred times its cost |
# | Self-supervised tasks | predict an operation | negative log-probability of the correct operation | digits on textured backgrounds, unlabelled images | classes that the operations do not change |
# | Learned features | predict distances, or fit a mixture | prediction error, energy | many columns with non-linear relations | REPEN: no better than its untrained network |
# | One-class networks | map samples close to a centre, or discriminate normal from altered samples | distance, output of the discriminator | dependent columns; a few labels | behind the distance to the centre where this is sufficient |

# %% [markdown]
# ### Autoencoders
#
# An autoencoder reconstructs its input from a short latent code [@hinton2006reducing]. The score is the squared
# reconstruction error,
#
# $$s(x) = \lVert x - g(f(x)) \rVert^2 .$$
#
# Nothing prevents the network from reconstructing anomalies too, and with a longer latent code it does. The variants
# address this weakness. The denoising autoencoder [@vincent2008denoising] reconstructs clean samples from corrupted
# ones. It thereby learns a step back towards the data. In the limit of little noise, this step follows the gradient of
# the log-density [@alain2014regularized]. Layer-wise stacking of such autoencoders was an early way to train deep
# networks [@vincent2010stacked]. Sparse [@ng2011sparse] and contractive [@rifai2011contractive] autoencoders may have
# long latent codes, but penalise their activity or their sensitivity. Variational [@kingma2013vae] and adversarial
# [@makhzani2015aae] autoencoders prescribe a distribution of the latent codes. Robust PCA [@candes2011rpca] and the
# robust deep autoencoder [@zhou2017rda] separate the part of the data that does not fit.
#
# {{ ref:autoencoder_comparison }} shows all of them. On digits the plain autoencoder has an AUROC of
# {{ value:03c_generative_autoencoders.autoencoder_digits_trained }}, and the same network before training has
# {{ value:03c_generative_autoencoders.autoencoder_digits_untrained }}. The difference is due to learning. On a table
# whose anomalies break the dependence between columns it has
# {{ value:03c_generative_autoencoders.autoencoder_hard_trained }}, and the distance to the centre has
# {{ value:03c_generative_autoencoders.distance_to_center_hard }}. The best of the family there, robust PCA with
# {{ value:03c_generative_autoencoders.best_autoencoder_hard }}, is not a network. Plain PCA is close to it
# ({{ ref:autoencoders_injected_dependency_breast_cancer }}), because nearly linear relations do not need a network. On
# {{ name:03c_generative_autoencoders.easy_dataset }} training changes the AUROC of the autoencoder from
# {{ value:03c_generative_autoencoders.autoencoder_easy_untrained }}
# {{ if:03c_generative_autoencoders.autoencoder_easy_untrained > 03c_generative_autoencoders.autoencoder_easy_trained }}*down*
# to{{ else }}to{{ end }} {{ value:03c_generative_autoencoders.autoencoder_easy_trained }}. Under any map that shrinks
# its input, large values have large errors. On this table the score of an untrained network therefore orders samples
# like the distance to the centre.

# %% [markdown]
# {{ figure:autoencoder_comparison }}

# %% [markdown]
# {{ table:autoencoders_injected_dependency_breast_cancer }}

# %% [markdown]
# Training sets often contain anomalies. At the largest share of anomalies among the training samples, a plain
# autoencoder that trains for 200 epochs memorises them. When it is used to find the anomalies in the training set
# itself, it has an AUROC of {{ value:03b_robust_autoencoders.contaminated_plain_ae }}. The robust autoencoder, after
# as many epochs, has {{ value:03b_robust_autoencoders.contaminated_robust_ae }} ({{ ref:figure:contamination }}).
# However, the plain one has {{ value:03b_robust_autoencoders.contaminated_short_ae }} after 50 epochs, and
# {{ value:03b_robust_autoencoders.contaminated_stopped_ae }} with a stopping rule that needs no labels. The distance
# to the fifth nearest of the other samples, which needs no training, has
# {{ value:03b_robust_autoencoders.contaminated_knn }}. The robust autoencoder thus solves a problem that is caused by
# too long training. Its advantage is that the right number of epochs need not be known
# ({{ ref:figure:contamination_epochs }}).

# %% [markdown]
# {{ figure:contamination }}

# %% [markdown]
# {{ figure:contamination_epochs }}

# %% [markdown]
# ### Adversarial networks
#
# A generator that is trained to generate normal samples [@goodfellow2014gan; @arjovsky2017wgan; @gulrajani2017wgangp]
# cannot generate an anomaly. AnoGAN [@schlegl2017anogan] searches the latent space of the generator for the best
# reconstruction, with hundreds of gradient steps for each sample. f-AnoGAN [@schlegl2019fanogan] trains an encoder
# that computes the latent code directly. To the residual of the pixels it adds the residual of the critic’s features
# $h$,
#
# $$s(x) = \frac{1}{n} \lVert x - G(E(x)) \rVert^2 + \frac{\kappa}{n_h} \lVert h(x) - h(G(E(x))) \rVert^2 .$$
#
# BiGAN trains encoder and generator together against one critic [@donahue2017bigan; @zenati2018gan]. Two choices in
# BiGAN are ours: the weights are averaged over the last few hundred updates [@yazici2019averaging], and the score is
# the reconstruction error alone. GANomaly compares latent codes instead of pixels [@akcay2018ganomaly].
#
# A search that is too long is harmful. Among latent codes with much larger norms than those of the training, it finds
# reconstructions of anomalies, too. With four times as many steps the AUROC on a digit is
# {{ value:04b_gan_detectors.anogan_digit_auroc_long_free_search }}. It is
# {{ value:04b_gan_detectors.anogan_digit_auroc_long_search_in_ball }} if the norm of the latent code is limited to
# that of random ones, which is our addition. The encoder is {{ value:04b_gan_detectors.f_anogan_speedup }} as fast as
# the search and is no worse. On dependent columns f-AnoGAN has an AUROC of
# {{ value:04b_gan_detectors.f_anogan_dependency_auroc }}, BiGAN {{ value:04b_gan_detectors.bigan_dependency_auroc }}
# and GANomaly {{ value:04b_gan_detectors.ganomaly_dependency_auroc }}. All three are far above their untrained
# networks, and PCA is ahead of all three. Each uses one network here. GANomaly’s second latent code changes the AUROC
# by {{ value:04b_gan_detectors.ganomaly_gain_by_second_code }}, compared with the residual of the same networks.
# {{ if:04b_gan_detectors.tables is breast_cancer and gan_comparison; breast_cancer; FAnoGAN; untrained > gan_comparison; breast_cancer; FAnoGAN; AUROC and gan_comparison; breast_cancer; BiGAN; untrained > gan_comparison; breast_cancer; BiGAN; AUROC and gan_comparison; breast_cancer; GANomaly; untrained > gan_comparison; breast_cancer; GANomaly; AUROC }}On
# breast cancer each of the three is below its own untrained network after training
# ({{ ref:gan_comparison }}).{{ elif:04b_gan_detectors.tables is thyroid }}On thyroid f-AnoGAN has
# {{ value:gan_comparison; thyroid; FAnoGAN; AUROC }}, and its untrained network has
# {{ value:gan_comparison; thyroid; FAnoGAN; untrained }} ({{ ref:gan_comparison }}).{{ else }}{{ ref:gan_comparison }}
# shows the other tables.{{ end }} {{ ref:f_anogan_table }} repeats F1 and AUC of the main table of the f-AnoGAN paper
# with our images. Some results are reproduced. f-AnoGAN is not behind the search. The critic alone is the worst of the
# trained methods: it was trained to discriminate real from generated samples, and an anomaly is neither. Other results
# are not reproduced. f-AnoGAN has an AUC of {{ value:04b_gan_detectors.f_anogan_auc }}, but a plain autoencoder and
# BiGAN have no less. Of the methods that the paper did not include, PCA has
# {{ value:04b_gan_detectors.pca_auc_beside_f_anogan }} and the squared length ‖x‖² has
# {{ value:f_anogan_table; training; ‖x‖²; AUC }}. The protocols differ. The paper uses patches of retinal scans, a
# large generator, and lesions that are small in the image. We use whole digits of eight by eight pixels, fewer than a
# hundred training samples, and a short training. The paper also chose its thresholds on the test labels, which is
# marked in the table. Compared with the valid threshold, which is further down in the table, this increases F1 by
# {{ value:04b_gan_detectors.f_anogan_f1_gained_by_test_labels }}. This is a mean over the paper’s six methods; for
# f-AnoGAN the increase is close to zero.

# %% [markdown]
# {{ table:gan_comparison }}

# %% [markdown]
# {{ table:f_anogan_table }}

# %% [markdown]
# ### Self-supervised tasks
#
# An image is rotated by a multiple of a right angle, and a classifier is trained to predict the angle. For this it
# must learn the usual orientation of the normal images, and for anomalies its prediction is uncertain. With operations
# $T_1, \dots, T_K$ the simplified score of Golan and El-Yaniv [@golan2018geometric] is
#
# $$s(x) = -\frac{1}{K} \sum_{k=1}^{K} \log p\big(k \mid T_k(x)\big).$$
#
# This family has the largest lead over the others, on the data that are most difficult for them: digits at random
# positions on textured backgrounds, where the background varies more than the digit. Quarter turns have an AUROC of
# {{ value:05_self_supervised.quarter_turns_auroc }}, and their untrained network has
# {{ value:05_self_supervised.untrained_network_auroc }}. An autoencoder, whose latent code mostly describes the
# background, has {{ value:05_self_supervised.autoencoder_auroc }}. kNN and PCA on pixels are hardly better
# ({{ ref:scenes_comparison }}). The cases in which the family fails can be predicted: a rotated zero is still a zero.
# Digits that are symmetric under a half turn have a mean AUROC of {{ value:05_self_supervised.symmetric_auroc }}, and
# the other digits have {{ value:05_self_supervised.asymmetric_auroc }}. The classification accuracy on held-out
# *normal* images predicts the AUROC, with a rank correlation of
# {{ value:05_self_supervised.symmetry_rank_correlation }} over the ten digits ({{ ref:symmetry }}). This check needs
# no anomalies.

# %% [markdown]
# {{ figure:scenes_comparison }}

# %% [markdown]
# {{ figure:symmetry }}

# %% [markdown]
# E3Outlier [@wang2019e3outlier] applies the same task to unlabelled images, and ranks the training images themselves.
# It works because inliers are the majority and determine the updates: when training starts, the summed gradient of the
# inliers is {{ value:05_self_supervised.gradient_ratio_start }} times that of the outliers. On digits on textured
# backgrounds with a tenth of outliers it has an AUROC of {{ value:05_self_supervised.unlabelled_e3_pl_auroc }}. An
# Isolation Forest on the same features has {{ value:05_self_supervised.unlabelled_ssd_if_auroc }}, and a convolutional
# autoencoder has {{ value:05_self_supervised.unlabelled_cae_auroc }}. {{ ref:unlabelled_table }} compares this with
# the paper’s results on MNIST. The order of the methods on textured backgrounds is that of the paper, but the
# experiments differ. The paper uses thousands of larger images, a wide residual network and ten classes. We use two
# hundred small images of one class. On centred digits the table shows no difference between the methods, because the
# distance to the centre is sufficient there. The script `benchmarks/contaminated_images.py` has a protocol closer to
# that of the paper, on the ten thousand test digits of MNIST.

# %% [markdown]
# {{ table:unlabelled_table }}

# %% [markdown]
# ### Learned features
#
# REPEN [@pang2018repen] uses a base detector to select outlier candidates. It learns a space in which a candidate is
# further from a random normal sample than a neighbour of that sample. RDP [@wang2020rdp] predicts the output of a
# random network for each sample, and the inner products of these outputs for pairs of samples. The prediction error is
# the score. DAGMM [@zong2018dagmm] concatenates the latent code of an autoencoder with its reconstruction errors and
# fits a mixture to both. The score is the energy
#
# $$E(z) = -\log \sum_{k=1}^{K} \phi_k \, \mathcal{N}\big(z; \mu_k, \Sigma_k\big).$$
#
# {{ ref:feature_learning_comparison }} shows how small the gain by training can be. Compared with its own untrained
# network, RDP gains {{ value:06b_dagmm.rdp_gain }} on dependent columns and DAGMM gains
# {{ value:06b_dagmm.dagmm_gain }}: both have learned. REPEN gains {{ value:06b_dagmm.repen_gain }}. Its untrained
# network roughly preserves distances, so that the detector is close to kNN. On the same table kNN has an AUROC of
# {{ value:06b_dagmm.knn_auroc }}, DAGMM {{ value:06b_dagmm.dagmm_auroc }} and PCA {{ value:06b_dagmm.pca_auroc }}. RDP
# averages five networks and DAGMM three; with one network they have {{ value:06b_dagmm.rdp_auroc_one_network }} and
# {{ value:06b_dagmm.dagmm_auroc_one_network }}. On both dependent tables the prediction of relations, which is the
# main idea of the RDP paper, changes the AUROC by {{ value:06b_dagmm.rdp_gain_by_relation }}. The training of DAGMM’s
# mixture changes it by {{ value:06b_dagmm.dagmm_gain_by_mixture }}. REPEN depends on its base detector. In a generated
# example where only one column is informative, it has {{ value:06_feature_learning.repen_informative_base_auroc }}
# with a base detector that uses this column and {{ value:06_feature_learning.repen_uninformative_base_auroc }} with
# one that does not.
#
# {{ ref:dagmm_published }} repeats the published results of DAGMM. They show that an F1 score is not informative
# without its protocol. The threshold is set from the anomaly rate of the data, which is not known in use, and F1
# depends on this rate. On thyroid, a table that the distance to the centre nearly solves by AUROC, all F1 scores are
# low. {{ if:06b_dagmm.paper_dataset is thyroid }}There our own DAGMM has an F1 of
# {{ value:dagmm_paper_row; mean; f1_at_rate }} with the anomaly rate as threshold, and of
# {{ value:dagmm_paper_row; mean; f1 }} with a threshold from the training scores.{{ else }}The course profile of the
# notebook adds our own row with both thresholds.{{ end }} Arrhythmia and KDDCup are not part of the course’s data, and
# nothing is claimed about their columns.

# %% [markdown]
# {{ figure:feature_learning_comparison }}

# %% [markdown]
# {{ table:dagmm_published }}

# %% [markdown]
# ### One-class networks
#
# Deep SVDD [@ruff2018deepsvdd] learns a space in which the normal samples are close to a fixed centre $c$,
#
# $$\min_{W} \; \frac{1}{n} \sum_{i=1}^{n} \lVert \phi_W(x_i) - c \rVert^2 + \frac{\lambda}{2} \lVert W \rVert^2,
# \qquad s(x) = \lVert \phi_W(x) - c \rVert^2 .$$
#
# A constant network minimises the first term and detects nothing. {{ ref:svdd_collapse }} shows this collapse. The
# paper prevents it by layers without biases, unbounded activations and a centre away from the origin. With these
# measures, training ends at an AUROC of {{ value:07_one_class.collapse_auroc_guarded }}; with the centre at the origin
# it ends at {{ value:07_one_class.collapse_auroc_center_at_zero }}. ALOCC [@sabokrou2018alocc] trains a refiner, which
# denoises samples, against a discriminator. With the refiner of the paper, the AUROC of the score rises to
# {{ value:07b_adversarial_one_class.alocc_bottleneck_peak_auroc }}. It then *reverses* to
# {{ value:07b_adversarial_one_class.alocc_bottleneck_last_auroc }}. The output of a good refiner is smoother than real
# data, so that the discriminator learns to classify rough samples as real. A refiner that only corrects its input does
# not have this fault and ends at {{ value:07b_adversarial_one_class.alocc_correction_last_auroc }}. The generator of
# Fence GAN [@ngo2019fencegan] is trained to generate samples around the data instead of within them. If the generated
# samples start inside the data, the score is reversed: on two moons its AUROC is below one half in
# {{ value:07b_adversarial_one_class.moons_runs_reversed }} of the training runs, and
# {{ value:07b_adversarial_one_class.moons_auroc_fence }} if they start outside.
#
# On dependent columns, as a mean over two tables, ALOCC has an AUROC of
# {{ value:07b_adversarial_one_class.alocc_hard_auroc }}, Deep SVDD
# {{ value:07b_adversarial_one_class.deepsvdd_hard_auroc }} and Fence GAN
# {{ value:07b_adversarial_one_class.fencegan_hard_auroc }}. kNN has
# {{ value:07b_adversarial_one_class.knn_hard_auroc }}, and the distance to the centre has
# {{ value:07b_adversarial_one_class.norm_hard_auroc }} ({{ ref:table:one_class_comparison }}). Deep SVDD averages five
# networks and the other two average three, which is our addition. With one network each, as in the papers, ALOCC has
# {{ value:07b_adversarial_one_class.alocc_hard_auroc_one_network }}, Deep SVDD
# {{ value:07b_adversarial_one_class.deepsvdd_hard_auroc_one_network }} and Fence GAN
# {{ value:07b_adversarial_one_class.fencegan_hard_auroc_one_network }}. The lead of ALOCC has a limitation. Its noise
# breaks the relations between columns, and the anomalies of these tables were made by breaking the same relations. The
# training of ALOCC’s refiner changes the AUROC by {{ value:07b_adversarial_one_class.alocc_gain_by_refiner }}, and
# that of Fence GAN’s generator by {{ value:07b_adversarial_one_class.fencegan_gain_by_generator }}. On these tables
# both discriminators thus learn mostly from the samples of networks that are not trained yet. On
# {{ name:07b_adversarial_one_class.easy_dataset }}
# {{ if:07b_adversarial_one_class.easy_best_network_auroc > 07b_adversarial_one_class.easy_norm_auroc }}the best
# network is ahead of the distance to the centre:{{ else }}no network is ahead of the distance to the centre:{{ end }}
# the best network has {{ value:07b_adversarial_one_class.easy_best_network_auroc }}, and the distance has
# {{ value:07b_adversarial_one_class.easy_norm_auroc }}.

# %% [markdown]
# {{ figure:svdd_collapse }}

# %% [markdown]
# {{ table:one_class_comparison }}

# %% [markdown]
# A few labelled anomalies improve the result. Deep SAD [@ruff2020deepsad] moves them away from the centre. Labels of
# one kind of anomaly change its AUROC on that kind by {{ value:07_one_class.sad_gain_known_kind }} and on kinds
# without labels by {{ value:07_one_class.sad_gain_new_kinds }}. A classifier is best on the labelled kind and behind
# Deep SAD on new kinds ({{ ref:figure:sad_labels }}). This is the empirical motivation of the hybrid setting in
# {{ ref:framework }}.

# %% [markdown]
# {{ figure:sad_labels }}

# %% [markdown]
# ### Conclusions from the five families {#what-the-five-families-teach}
#
# - **A trained network must be compared with the untrained one.** On tables with large anomalies, untrained networks
#   are as good as trained ones. A published score on such a table is no evidence for a method.
# - **Simple detectors are the reference.** On every table here PCA or kNN is close to the best network, and takes
#   milliseconds. A network is worth its cost where neither works: on images whose content moves, and on relations that
#   are neither local nor linear.
# - **The result depends on the training task.** Rotations detect anomalies in classes with an orientation, and broken
#   relations detect broken relations. The relevant property of a method is not its depth, but which anomalies resemble
#   its training task.
# - **Failure can often be predicted without anomalies.** Signs are operations that cannot be told apart, latent codes
#   that shrink to a point, and a refiner whose output is too smooth.
# - **Published numbers depend on their protocol.** Thresholds from test labels, anomaly rates that are assumed to be
#   known, and different data explain more of the differences between two tables than the methods do.
#
# Three further detectors were tried in order to improve on kNN on tables: diffusion time estimation, deep isolation
# forest, and random feature maps in the form of `ArcSineKernelDistance`. None of them was better on tables that had
# not been looked at before. The last one was ahead of kNN on the tables on which it was chosen
# (`benchmarks/README.md`). A choice that is based on few tables does not carry over to others.

# %% [markdown]
# ## Feasibility of a unified framework {#framework}
#
# ### Architecture
#
# The framework has three layers. *Modality encoders* $f_m \colon \mathcal{X}_m \to \mathbb{R}^{q}$ map an image, a row
# or another kind of sample to a vector of common length $q$. In the *shared latent space* $\mathbb{R}^{q}$ the normal
# samples should be compact. A *unified scorer* measures the distance from the normal samples there, in the simplest
# case by one Gaussian,
#
# $$s(x_1, \dots, x_M) = (z - \mu)^{\top} \Sigma^{-1} (z - \mu), \qquad z = g\big(f_1(x_1), \dots, f_M(x_M)\big),$$
#
# with a fusion $g$: concatenation, a mean over the modalities that are present, or attention between them.
#
# Two cases must be distinguished. In the first case the modalities come from *unrelated sources*, such as hazelnuts
# and patients. Then there is no joint distribution to learn. Each sample has one part, and $g$ has nothing to join.
# Software, calibration and reporting can be shared. In the second case the modalities describe *the same object*, such
# as the image of a part and its process parameters. Then a joint model can detect what no single modality shows: a
# normal image and normal parameters that do not match. For the first case the course uses images
# ({{ name:09_unified_framework.image_dataset }}) and rows ({{ name:09_unified_framework.table_dataset }}), in
# notebooks `09_unified_framework` and `09b_labels_and_drift`. For the second case it uses images, captions and tones
# (`08_fusion`, {{ ref:paired }}). Notebook `10_transformer` uses one network for images and rows
# ({{ ref:one-transformer }}).
#
# ### Training
#
# *Unsupervised.* The image encoder is pretrained and stays frozen. The table encoder needs a training task, because an
# untrained network is only a random projection; it is measured as a control. The task is to predict hidden columns
# from the others, as in VIME [@yoon2020vime]. The features are the scaled columns, and the difference of each column
# from its prediction by the other columns. By the length of these features, anomalies that break the dependence
# between columns are detected with an AUROC of {{ value:09_unified_framework.encoder_trained_auroc }}, and with the
# untrained network of {{ value:09_unified_framework.encoder_untrained_auroc }}.
# {{ if:02_task4_isolation_forest.distance_to_centre_standardised_auroc > 09_unified_framework.unified_tabular_splits_auroc }}The
# difference is due to learning, but the encoder also has a disadvantage. On{{ else }}The difference is due to
# learning. On{{ end }} {{ name:09_unified_framework.table_dataset }} itself, the distance to the centre has an AUROC
# of {{ value:02_task4_isolation_forest.distance_to_centre_standardised_auroc }} over several splits, and the whole
# detector has {{ value:09_unified_framework.unified_tabular_splits_auroc }}. On
# {{ name:09_unified_framework.image_dataset }} the detector has
# {{ value:09_unified_framework.unified_image_splits_auroc }}, PaDiM has
# {{ value:01b_image_detectors.hazelnut_padim_image_auroc }} and PatchCore has
# {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}. The latter two keep the features of each position,
# and the unified detector pools them. The results of the prototypes of the course are in {{ ref:padim_published }} and
# {{ ref:isolation_forest_published }}.
#
# *Supervised.* A classification head learns from labelled anomalies. It is best on these kinds of anomaly and can be
# worse on new kinds. This is visible only if the test set has kinds that are held out from training.
#
# *Hybrid.* The unsupervised detector is trained first, and labels then correct it. This is the usual case in practice.
# {{ ref:implementation }} reports measurements of both.
#
# ### Advantages
#
# - A new modality needs only an encoder. With ten lines for a Fourier transform, the sound of a machine is the third
#   modality of the same detector. Its AUROC is {{ value:09b_labels_and_drift.third_modality_auroc }} on an easy fault.
# - Ranks among held-out normal samples are p-values [@vovk2015cross], which have the same scale by construction. The
#   alarms of all modalities can be ranked together and share one budget.
# - The model can be updated. Twenty daily updates equal one fit up to a relative difference of
#   {{ value:09b_labels_and_drift.stream_relative_difference }}. If the normal state drifts, a model with forgetting
#   separates the first state from the current one with an AUROC of
#   {{ value:09b_labels_and_drift.drift_auroc_half_life }}. A model without forgetting has
#   {{ value:09b_labels_and_drift.drift_auroc_all }}.
# - One evaluation protocol makes results comparable and information leaks easier to detect.
#
# Shared knowledge, which is often named first, is not an advantage here. With ten training images of another kind
# ({{ name:09b_labels_and_drift.other_images }}), the latent space of the old domain instead of their own changes the
# AUROC by {{ value:09b_labels_and_drift.transfer_image_gain }}{{ if:09b_labels_and_drift.transfer_tabular_gain }}.
# With twenty rows of a new table the change is {{ value:09b_labels_and_drift.transfer_tabular_gain }}{{ end }}. The
# pretrained backbone does transfer, but it is used in both cases.

# %% [markdown]
# ### Five challenges {#challenges}
#
# {{ ref:framework_challenges }} gives the measured value before and after the mitigation.
#
# 1. **Alignment.** Encoders that are trained separately have outputs in unrelated coordinates, and equal dimension
#    does not imply equal meaning. In a space of sixteen latent variables, a classifier predicts the modality of a
#    vector with an AUROC of {{ value:09_unified_framework.modality_auroc_none }}.
# 2. **Distribution.** One Gaussian and one threshold for all samples do not hold a nominal false-alarm rate of one in
#    twenty. In the worse modality the rate is
#    {{ value:09_unified_framework.alarms_one_gaussian_worst }}{{ if:unified_alarms; tabular; one Gaussian, one threshold < 0.03 }},
#    and rows hardly ever raise an alarm{{ end }}. Scores of training samples differ from scores of new samples, and
#    one scale does not fit two modalities.
# 3. **Imbalance.** With ten times as many images as rows, the images could dominate the model of normality. The effect
#    is small: the median distance of a normal row is {{ value:09_unified_framework.imbalance_none_ratio }} times that
#    of a normal image, and the AUROC of the table is {{ value:09_unified_framework.imbalance_none_auroc }}.
# 4. **Dimension.** The covariance of hundreds of latent variables has tens of thousands of entries, and a hundred
#    images cannot determine them. With the empirical matrix, the distance of a new normal image is
#    {{ value:09_unified_framework.distance_ratio_empirical }} times that of a training image.
# 5. **Explanation.** A distance in a latent space does not show a pixel or a column. A common solution is to name the
#    column with the largest standardised value. If one value of a row is exchanged, this names the right column with a
#    frequency of {{ value:09_unified_framework.explained_by_z }}.
#
# {{ caption:framework_challenges }} The five challenges, measured before and after the mitigation.
#
# | Challenge | Measure | Before | Mitigation | After |
# |---|---|---|---|---|
# | Alignment | AUROC of a classifier of the modality | {{ value:09_unified_framework.modality_auroc_none }} | moment matching | {{ value:09_unified_framework.modality_auroc_moments }} |
# | Distribution | false-alarm rate of the worse modality; nominal rate: one in twenty | {{ value:09_unified_framework.alarms_one_gaussian_worst }} | a Gaussian for each modality, held-out p-values | {{ value:09_unified_framework.alarms_unified_worst }} |
# | Imbalance | AUROC of the small table | {{ value:09_unified_framework.imbalance_none_auroc }} | balanced samples | {{ value:09_unified_framework.imbalance_balanced_auroc }} |
# | Dimension | distance of a new normal image, relative to that of a training image | {{ value:09_unified_framework.distance_ratio_empirical }} | shrinkage | {{ value:09_unified_framework.distance_ratio_shrunk }} |
# | Explanation | share of exchanged values whose column is named | {{ value:09_unified_framework.explained_by_z }} | exact shares of the distance | {{ value:09_unified_framework.explained_by_share }} |

# %% [markdown]
# ### Five mitigations {#mitigations}
#
# 1. **Training in stages.** The encoders are trained first. Each is compared with its untrained network and with the
#    best detector of its own modality. The modalities are joined after that.
# 2. **Mixture distributions.** A Gaussian for each modality, with p-values from held-out folds, holds the nominal
#    rate: the false-alarm rate in the worse modality is {{ value:09_unified_framework.alarms_unified_worst }}. It does
#    not solve the imbalance, with an AUROC of {{ value:09_unified_framework.imbalance_mixture_auroc }} on the small
#    table.
#    {{ if:09_unified_framework.imbalance_none_auroc > 09_unified_framework.imbalance_balanced_auroc + 0.01 }}Neither
#    does balancing: repeating the few samples is worse than no change, because repeated rows add no
#    information.{{ else }}Balancing, which repeats the few samples, gives
#    {{ value:09_unified_framework.imbalance_balanced_auroc }}.{{ end }} More flexible densities are kernels, flows
#    [@papamakarios2017maf] and energies. They are
#    {{ if:unified_scorers; one Gaussian; image > unified_scorers; normalizing flow; image + 0.1 }}near the Gaussian on
#    rows and far behind it on images ({{ ref:unified_scorers }}). They use only twenty principal components, and a
#    defect is mostly outside the span of the normal images.{{ else }}compared with the Gaussian in
#    {{ ref:unified_scorers }}. They use only twenty principal components.{{ end }}
# 3. **Adversarial training** [@ganin2016dann], contrastive pairs [@chen2020simclr] and moment matching
#    [@sun2016deepcoral] are intended to give the latent codes of the modalities the same distribution.
#    {{ if:09_unified_framework.modality_auroc_moments < 0.9 }}Moment matching has the largest effect, and adversarial
#    training a smaller one. Unpaired sources offer only contrastive pairs of two noisy versions of one sample, and
#    these have no effect. The AUROC of the detection changes by a few hundredths ({{ ref:unified_alignment }}). This
#    is less than the loss by sixteen latent variables instead of the full width without any alignment.{{ else }}Here
#    none of them does: after moment matching a classifier still has an AUROC of
#    {{ value:09_unified_framework.modality_auroc_moments }}, because a table of few columns leaves some of the sixteen
#    latent variables without variance. The AUROC of the detection changes by a few hundredths
#    ({{ ref:unified_alignment }}).{{ end }}
# 4. **Attention.** Between unrelated sources it is trivial, because every sample has one part. Between parts of one
#    object it is among the best methods to compare them, after an alignment ({{ ref:paired }}). It is not an
#    explanation ({{ ref:one-transformer }}). An exact explanation is a decomposition of the distance. Let $\delta$ be
#    the difference from the mean in features that belong to columns or pixels, and $g$ the gradient. Then
#    $d^2 = \sum_j \delta_j g_j$ holds exactly. It names the right column with a frequency of
#    {{ value:09_unified_framework.explained_by_share }}, and produces the maps of {{ ref:unified_maps }}.
# 5. **Regularisation.** The shrinkage of Ledoit and Wolf [@ledoit2004covariance] has one parameter, which is computed
#    from the data. It reduces the distance of a new normal image from
#    {{ value:09_unified_framework.distance_ratio_empirical }} to
#    {{ value:09_unified_framework.distance_ratio_shrunk }} times that of a training image.

# %% [markdown]
# {{ table:unified_alignment }}

# %% [markdown]
# {{ table:unified_scorers }}

# %% [markdown]
# {{ figure:unified_maps }}

# %% [markdown]
# ### Parts of one object {#paired}
#
# In notebook `08_fusion` every sample has three parts: the image of a digit, a caption and a tone. Some anomalies have
# a broken part. In the other anomalies each part is distributed as in normal samples, and only the combination is
# wrong. In a *mismatch* one part belongs to another digit. In a *shifted* sample the tone comes at another time than
# the caption says. In *three digits* each part belongs to a different digit.
#
# The training of the methods differs. Early fusion, one Gaussian over the concatenated latent codes, is fitted to
# unaltered normal samples. So is a shared latent space, which is a product of experts [@wu2018mvae]. Cross-attention
# and a graph of parts are trained to discriminate normal samples from samples with exchanged parts. This has an
# important consequence. A mismatch is a sample with an exchanged part: **the training task of these two methods is the
# same as this test**, as the training of ALOCC breaks the same dependencies as its test. Of the negative samples of
# cross-attention, a share of {{ value:08_fusion.negatives_mismatch }} are mismatches,
# {{ value:08_fusion.negatives_both }} are mismatches that are also shifted, and
# {{ value:08_fusion.negatives_shifted }} are only shifted. Three digits do not occur. The negative samples of the
# graph are single pairs of parts, so that it has seen every kind of contradiction.
#
# On shifted samples the caption alone has an AUROC of {{ value:08_fusion.shifted_single_auroc }}. Rules that combine
# scores of single parts [@kittler1998combining] cannot be better than a random score: late fusion has
# {{ value:08_fusion.shifted_late_auroc }}. Early fusion models linear relations and has
# {{ value:08_fusion.shifted_early_auroc }}, the shared latent space has {{ value:08_fusion.shifted_latent_auroc }},
# and the graph has {{ value:08_fusion.shifted_graph_auroc }}. Cross-attention has
# {{ value:08_fusion.shifted_attention_auroc }} ({{ value:08_fusion.shifted_attention_untrained_auroc }} untrained).
# The attention itself contributes little: a perceptron on the concatenated tokens, trained in the same way, has
# {{ value:08_fusion.shifted_concatenation_auroc }}. Over all anomalies except mismatches they have
# {{ value:08_fusion.not_mismatch_attention_auroc }} and {{ value:08_fusion.not_mismatch_concatenation_auroc }}. Three
# digits are easier, because every pair of parts is contradictory. Early fusion has
# {{ value:08_fusion.three_digits_early_auroc }} there, the shared latent space
# {{ value:08_fusion.three_digits_latent_auroc }} and cross-attention
# {{ value:08_fusion.three_digits_attention_auroc }}. On mismatches, the two methods that are not trained on them have
# {{ value:08_fusion.mismatch_early_auroc }} and {{ value:08_fusion.mismatch_latent_auroc }}. Cross-attention and the
# graph, which are trained on them, have {{ value:08_fusion.mismatch_attention_auroc }} and
# {{ value:08_fusion.mismatch_graph_auroc }}.
#
# No fusion is best on all kinds ({{ ref:fusion_by_kind }}). Late fusion with the maximum is best on broken parts,
# where attention and graph are behind. With a joint score in addition to those of the parts, it has
# {{ value:08_fusion.not_mismatch_joint_auroc }} over all anomalies except mismatches. Early fusion, which is fitted in
# a second, has {{ value:08_fusion.not_mismatch_early_auroc }}.

# %% [markdown]
# {{ figure:fusion_scores }}

# %% [markdown]
# {{ table:fusion_by_kind }}

# %% [markdown]
# In use, parts may be missing. Some contradictions then cannot be detected by any method, because the remaining parts
# agree. With about a third of the parts missing, a *perfect* detector has an AUROC of
# {{ value:08_fusion.missing_ceiling }} over all anomalies except mismatches. Over the anomalies that are still
# visible, the loss of cross-attention is {{ value:08_fusion.missing_loss_visible }}. With more parts missing the loss
# is larger, because cross-attention compares parts, and a single part cannot be compared. Methods that also model each
# part by itself do not have this loss ({{ ref:fusion_missing }}).

# %% [markdown]
# {{ figure:fusion_missing }}

# %% [markdown]
# ### One transformer for images and tables {#one-transformer}
#
# The input of a transformer [@vaswani2017attention] is a set of tokens, so that one network can process the positions
# of an image and the columns of a row. A simple training task reconstructs the network’s own tokens from their summary
# and minimises the score of every normal sample. This task has a trivial solution that contains no information. At the
# end of the training the spread of the tokens is {{ value:10_transformer.naive_spread_left_image }} of its initial
# value on images and {{ value:10_transformer.naive_spread_left_tabular }} on rows. The output of the score head is
# {{ value:10_transformer.naive_mean_score }} for every input ({{ ref:transformer_collapse }}). The reconstruction
# error can still rank images well, because it has become the distance of frozen features to a constant. The AUROC
# alone does not show the collapse.
#
# Two changes prevent both collapses. First, the network predicts the hidden tokens of its input, which no weight can
# change [@he2022mae]. Second, the score head has a second class, made of normal samples with exchanged columns or
# pasted patches [@li2021cutpaste]. By the error of prediction alone, training changes the AUROC by
# {{ value:10_transformer.gain_error_tabular }} on rows and by {{ value:10_transformer.gain_error_image }} on
# images{{ if:10_transformer.auroc_error_untrained_tabular > 0.95 }}. The anomalous rows are detected by their distance
# to the centre, which the untrained network also measures{{ end }}. The default score is the Mahalanobis distance of
# the residuals, which uses the linear relations without any training. With it the change is
# {{ value:10_transformer.gain_residual_tabular }} on rows and {{ value:10_transformer.gain_residual_image }} on
# images. {{ if:10_transformer.gain_residual_image < 0.01 }}On images there is no gain: the detector, with an AUROC of
# {{ value:10_transformer.auroc_residual_trained_image }}, is as good as its frozen backbone.{{ else }}The detector
# then has {{ value:10_transformer.auroc_residual_trained_image }} on images.{{ end }} From raw pixels the network has
# {{ value:10_transformer.auroc_raw_patches }}. The score head, trained on the altered samples, has
# {{ value:10_transformer.auroc_head_trained_image }} on images ({{ ref:transformer_comparison }}).
#
# Attention is not an explanation either [@abnar2020rollout]. Compared with the masks of the defects, the attention of
# the class token has a pixel AUROC of {{ value:10_transformer.pixel_auroc_attention }}, and the residual has
# {{ value:10_transformer.pixel_auroc_residual }}. A fixed map that is bright in the centre of every image has
# {{ value:10_transformer.pixel_auroc_middle }}. Attention shows from which positions the network takes information.
# The residual shows which positions it predicts badly.

# %% [markdown]
# {{ figure:transformer_collapse }}

# %% [markdown]
# {{ figure:transformer_comparison }}

# %% [markdown]
# ## Implementation
#
# The package `mmad_utils` contains the parts that both tasks use: data sets with known origin and checksums, a common
# interface for all detectors, thresholds, metrics and the recording of results. Detectors follow the conventions of
# scikit-learn, so that an estimator of that library can be evaluated in the same way. The code below runs without
# changes, given a list of images `X_image`, a table `X_tabular`, new rows `X_new` and labels `y` of the table.
#
# ### Unsupervised
#
# ```python
# from mmad_utils import ImageEncoder, MultiModalAnomalyDetector, TabularEncoder
#
# encoders = {"image": ImageEncoder(layers=(2, 3, 4)), "tabular": TabularEncoder()}
# detector = MultiModalAnomalyDetector(encoders, random_state=0)
# detector.fit({"image": X_image, "tabular": X_tabular})  # normal, unpaired
# scores = detector.anomaly_score({"tabular": X_new})  # −log p
# alarms = detector.predict({"tabular": X_new})  # −1 where p is below 0.05
# columns = detector.explain({"tabular": X_new})  # share of each column in d²
# ```
#
# The encoders are trained first, without labels. The scorer is a Gaussian for each modality. Five refits, each without
# a fifth of the samples, give the held-out scores for the p-values. A sample can be scored if a modality is missing.
#
# ### Supervised
#
# ```python
# from mmad_utils import SupervisedMultiModalAnomalyDetector
#
# encoders = {"tabular": TabularEncoder()}
# classifier = SupervisedMultiModalAnomalyDetector(encoders, random_state=0)
# classifier.fit({"tabular": X_tabular}, {"tabular": y})  # 0 normal, 1 anomaly
# scores = classifier.anomaly_score({"tabular": X_new})
# ```
#
# A small head and the encoder are trained together, on as many anomalies as normal samples. The loss is cross-entropy
# or the focal loss [@lin2017focal], and its input is the logit. The course’s outline has a sigmoid before the loss.
# Its output rounds to zero and one, and the gradient vanishes.
#
# ### Hybrid
#
# ```python
# from mmad_utils import HybridMultiModalAnomalyDetector
#
# encoders = {"image": ImageEncoder(layers=(2, 3, 4)), "tabular": TabularEncoder()}
# detector = MultiModalAnomalyDetector(encoders)
# hybrid = HybridMultiModalAnomalyDetector(detector, random_state=0)
# labels = {"tabular": y}  # a modality without labels is left out
# hybrid.fit({"image": X_image, "tabular": X_tabular}, labels)
# scores = hybrid.anomaly_score({"image": X_image, "tabular": X_new})
# ```
#
# The first stage learns from the normal samples. The logarithm of its score is the initial logit of the second stage.
# The second stage fine-tunes encoder and head on the labels. A penalty keeps the output of the head near 0 where there
# are no samples. Without labels, the order of the scores is that of the first stage.
#
# On {{ name:09_unified_framework.table_dataset }} ({{ ref:unified_labels }}) the hybrid detector has an AUROC of
# {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }} without labels. It has
# {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }} with five labels,
# {{ value:09b_labels_and_drift.hybrid_10_labels_auroc }} with ten and
# {{ value:09b_labels_and_drift.hybrid_50_labels_auroc }} with fifty. With one label it has
# {{ value:09b_labels_and_drift.hybrid_1_labels_auroc }} with the penalty and
# {{ value:09b_labels_and_drift.unpenalised_1_labels_auroc }} without
# it{{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }}. The latter
# is less than without any label, because the head extrapolates from a single anomaly{{ end }}. On a table with one
# kind of anomaly and with many labels, the classifier alone is close to the hybrid detector. On new kinds it is behind
# ({{ ref:figure:sad_labels }}). Anomalies that are labelled are removed from the test set of every method.

# %% [markdown]
# {{ figure:unified_labels }}

# %% [markdown]
# ## Conclusions and outlook
#
# ### Conclusions
#
# 1. In protocol, score and evaluation, the two tasks are one problem. In representation they are two problems.
#    Protocol, score and evaluation should be unified first.
# 2. For images, pretrained features with a position-wise Gaussian are an accurate, fast and explainable detector.
#    {{ if:01b_image_detectors.auroc_mild }}It misses mild defects, and it assumes that the parts are
#    aligned.{{ else }}It assumes that the parts are aligned.{{ end }}
# 3. For tables, Isolation Forest is a good default. On easy data the distance to the centre is as good, and on
#    dependent columns other detectors are better. A result without these references cannot be interpreted.
# 4. Deep methods are worth their cost where the content of an image moves, or where relations are neither local nor
#    linear. On the other tables of this report PCA or nearest neighbours are as good. On the easiest table an
#    untrained network is as good.
# 5. Thresholds from test labels increase the reported results. Valid thresholds have no additional cost.
# 6. A unified framework is feasible. For unrelated sources its gain is one calibrated scale, and not shared knowledge.
#    Alignment and transfer hardly changed the
#    detection{{ if:09_unified_framework.imbalance_none_auroc > 09_unified_framework.imbalance_balanced_auroc + 0.01 }},
#    and balancing made it worse{{ end }}.
# 7. A joint model is justified where the modalities describe the same object. No combination of scores of single parts
#    detects contradictions between the parts. Networks trained on exchanged parts detect nearly all exchanged parts,
#    but this test is the same as their training task. On samples that are only shifted in time, cross-attention is
#    ahead of methods that are trained on normal samples only.
# 8. A unified network must also be compared with the untrained network. The transformer learned how positions depend
#    on each other{{ if:10_transformer.gain_residual_image < 0.01 }}, but this does not improve its default score on
#    images{{ end }}.
#
# ### Outlook
#
# Stronger encoders, such as vision transformers and networks pretrained on many tables, can improve the
# representation, which limits the results. Flows and energy-based models were tried here on twenty principal
# components. They need more samples, and a treatment of defects outside the span of normal data. Exact updates with
# forgetting are available. When to recalibrate without learning the anomalies is an open question. Explanations should
# be tested like detectors, against known causes.
#
# ### Practical advice
#
# - Start with the distance-to-centre baseline and one classical detector. Keep both in every table. For a network, add
#   the untrained network.
# - *Normal samples only:* one-class methods. *A few labels, even one:* the hybrid detector. *Many reliable labels and
#   stable kinds of anomaly:* a classifier.
# - *Unrelated modalities:* one detector per modality, held-out p-values, one threshold. *Parts of one object:* the
#   same with one additional joint score. *Parts often missing:* keep the scores of the single parts, and report the
#   ceiling.
# - Build each modality alone, then join them. Check that joining does not reduce the result of either modality.
# - *Your own file or folder:* notebook `11_your_data` compares detectors on it and sets the threshold. Without labels
#   it can rank them only by their stability and their agreement, and this can be misleading. Where relations between
#   columns are broken, the most stable detector has an AUROC of {{ value:11_your_data.most_stable_auroc }}, and the
#   best one has {{ value:11_your_data.best_hidden_auroc }}. A few labels are sufficient to decide.
# - State the false-alarm rate that the user can accept, set the threshold on held-out normal data, and report the rate
#   on the test set.
# - Report several seeds with their spread, and show the worst errors as images.
# - Monitor the scores of normal samples in use. If their distribution changes, the threshold is no longer valid.

# %% [markdown]
# ## Provenance of this report {#provenance}
#
# This appendix is generated automatically. {{ ref:appendix_data }} lists the data sets with origin and licence, and
# {{ ref:appendix_hashes }} the hashes of their content. {{ ref:appendix_packages }} lists the versions of the
# packages, {{ ref:appendix_parameters }} the parameters of the notebooks, and {{ ref:appendix_runs }} their run times
# and the sources of their results. {{ ref:appendix_computer }} describes the computer. If one byte of a source, of the
# package, of the lock file or of a parameter changes, the results are stale. The report is then not built until they
# are computed again. {{ ref:appendix_speed }} compares the times of this package with those of other libraries. It is
# not measured again when the report is built.

# %% [markdown]
# {{ table:appendix_data }}

# %% [markdown]
# {{ table:appendix_hashes }}

# %% [markdown]
# {{ table:appendix_packages }}

# %% [markdown]
# {{ table:appendix_parameters }}

# %% [markdown]
# {{ table:appendix_runs }}

# %% [markdown]
# {{ table:appendix_computer }}

# %% [markdown]
# {{ table:appendix_speed }}

# %% [markdown]
# ## References
#
# {{ references }}
