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
# # Which detector when
#
# This page lists typical situations. For each it gives a first choice, its result in the notebooks of this course, the
# result of the simplest alternative, and its limits. Every number is read from the results of the notebooks when this
# page is built. Without further specification a number is the area under the ROC curve (AUROC), for which a random
# score has one half. The value after ± is the standard deviation over splits or seeds. Fit times are from the computer
# that ran the notebooks. The data sets are small. The *order* of the detectors is therefore more informative than the
# values, which must be measured on your own data.

# %% [markdown]
# {{ contents }}

# %% [markdown]
# ## At a glance {#at-a-glance}
#
# {{ caption:situations }} First choices. The column "compared with" gives the distance to the centre, the untrained network or another simple alternative, as named. A dash in the column "fit" means that no time was recorded.
#
# | situation | first choice | AUROC | compared with | fit |
# |---|---|---|---|---|
# | [Images of parts, few good ones](#sec-photographs) | PatchCore | {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }} | random weights {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }} | – |
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}| [Textures](#sec-textures) | PatchCore | {{ value:01b_image_detectors.gravel_patchcore_image_auroc }} | random weights {{ value:01b_image_detectors.gravel_random_weights_image_auroc }} | – |{{ end }}
# | [Small images, centred](#sec-centred) | PCA residual | {{ value:autoencoders_digits_9; PCAResidual; AUROC }} | distance to centre {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }} | {{ value:autoencoders_digits_9; PCAResidual; fit (s) }} |
# | [Small images, varying position](#sec-moving) | quarter turns | {{ value:scenes_table; quarter turns; AUROC }} | untrained {{ value:scenes_table; untrained network; AUROC }} | {{ value:scenes_table; quarter turns; fit (s) }} |
# | [Tables, anomalies far from the centre](#sec-far-out) | distance to centre | {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | Isolation Forest {{ value:isolation_forest_comparison; Isolation Forest; AUROC }} | {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }} |
# | [Tables, broken dependencies](#sec-dependencies) | PCA residual | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} | distance to centre {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }} | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }} |
# | [Contaminated data](#sec-contaminated) | kNN | {{ value:contamination; 20.0; kNN; training samples }} | plain autoencoder {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }} | – |
# | [A few labelled anomalies](#sec-few-labels) | hybrid detector | {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }} | without labels {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }} | – |
# | [Parts that do not match](#sec-mismatch) | early fusion | {{ value:08_fusion.not_mismatch_early_auroc }} | late fusion {{ value:08_fusion.not_mismatch_late_auroc }} | – |
# | [Missing parts](#sec-missing) | early fusion | {{ value:fusion_missing; early; 0.6; visible }} | cross-attention {{ value:fusion_missing; cross-attention; 0.6; visible }} | – |
# | [Images and unrelated rows](#sec-unpaired) | one detector each, p-values | images {{ value:09_unified_framework.unified_image_splits_auroc }}, rows {{ value:09_unified_framework.unified_tabular_splits_auroc }} | PatchCore {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}, distance to centre {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | – |
# | [Streams that drift](#sec-drift) | Gaussian with forgetting | {{ value:09b_labels_and_drift.drift_auroc_half_life }} | without forgetting {{ value:09b_labels_and_drift.drift_auroc_all }} | – |

# %% [markdown]
# ## Images {#pictures}
#
# ### Images of parts, few good ones {#photographs}
#
# - **First choice:** `PatchCore` where parts have arbitrary positions, `PaDiM` where each part has the same position.
# - **Result:** PatchCore has {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }} on
#   {{ name:01_task2_padim.dataset }}, which have no fixed orientation. PaDiM has
#   {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}
#   there{{ if:01b_image_detectors.zipper_padim_image_auroc }}, and
#   {{ value:01b_image_detectors.zipper_padim_image_auroc }} on zippers, which have a fixed one{{ end }}. With random
#   instead of pretrained weights, PaDiM has {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }} on
#   hazelnuts. The distance between pixels has {{ value:01b_image_detectors.hazelnut_pixel_distance_image_auroc }}.
# - {{ if:01b_image_detectors.auroc_mild }}**Limits:** mild defects, on which PaDiM has
#   {{ value:01b_image_detectors.auroc_mild }}.{{ else }}**Not known:** the severity of the defects.{{ end }} With five
#   good hazelnuts for training, PaDiM has {{ value:01b_image_detectors.auroc_with_fewest_images }}.
# - **See** [notebook 01b](notebooks/01b_image_detectors.html).
#
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}
# ### Textures {#textures}
#
# - **First choice:** `PatchCore`. One Gaussian for all positions is cheaper and close to it, because positions have no
#   meaning in a texture.
# - **Result:** PatchCore has {{ value:01b_image_detectors.brick_patchcore_image_auroc }} on brick,
#   {{ value:01b_image_detectors.gravel_patchcore_image_auroc }} on gravel and
#   {{ value:01b_image_detectors.grass_patchcore_image_auroc }} on grass. The single Gaussian has
#   {{ value:01b_image_detectors.brick_global_gaussian_image_auroc }},
#   {{ value:01b_image_detectors.gravel_global_gaussian_image_auroc }} and
#   {{ value:01b_image_detectors.grass_global_gaussian_image_auroc }}. Random weights have
#   {{ value:01b_image_detectors.gravel_random_weights_image_auroc }} on gravel.
# - **Limits:** the outlines of the anomalies in grass, with an AUPRO of
#   {{ value:01b_image_detectors.grass_patchcore_aupro }}.
# - **See** [notebook 01b](notebooks/01b_image_detectors.html).
# {{ end }}
#
# ### Small images, centred on a plain background {#centred}
#
# - **First choice:** `PCAResidual`. Use an autoencoder only if it is better on your data.
# - **Result:** the PCA residual has {{ value:autoencoders_digits_9; PCAResidual; AUROC }} on handwritten digits,
#   fitted in {{ value:autoencoders_digits_9; PCAResidual; fit (s) }}. The best autoencoder, stacked and denoising, has
#   {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; AUROC }} in
#   {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; fit (s) }} (untrained
#   {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; untrained }}). The distance to the centre has
#   {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }}.
# - **Limits:** none were found here, but no network is clearly better than PCA. On another digit f-AnoGAN has
#   {{ value:f_anogan_table; training; f-AnoGAN; AUC }} and PCA has {{ value:f_anogan_table; training; PCA; AUC }}.
# - **See** notebooks [03c](notebooks/03c_generative_autoencoders.html) and [04b](notebooks/04b_gan_detectors.html).
#
# ### Small images, varying position and background {#moving}
#
# - **First choice:** `GeometricTransformations`, which predicts the rotation of an image. Four quarter turns are
#   sufficient.
# - **Result:** it has {{ value:scenes_table; quarter turns; AUROC }} on digits on textured backgrounds, fitted in
#   {{ value:scenes_table; quarter turns; fit (s) }}. Its untrained network has
#   {{ value:scenes_table; untrained network; AUROC }}, an autoencoder {{ value:scenes_table; autoencoder; AUROC }} and
#   the squared length of the pixel vector {{ value:scenes_table; ‖x‖²; AUROC }}.
# - **Limits:** classes that a rotation does not change. On digits that are symmetric under a half turn it has
#   {{ value:05_self_supervised.symmetric_auroc }}. The accuracy of the predicted rotations on held-out *normal* images
#   shows this in advance.
# - **See** [notebook 05](notebooks/05_self_supervised.html).

# %% [markdown]
# ## Tables {#tables}
#
# ### Anomalies that are far from the centre {#far-out}
#
# - **First choice:** `DistanceToCenter`, the distance-to-centre baseline. If its result is sufficient, no other
#   detector is needed.
# - **Result:** the baseline has {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} on
#   {{ name:02_task4_isolation_forest.dataset }}, fitted in
#   {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }}. Isolation Forest has
#   {{ value:isolation_forest_comparison; Isolation Forest; AUROC }} in
#   {{ value:isolation_forest_comparison; Isolation Forest; fit (s) }}, and the one-class SVM has
#   {{ value:isolation_forest_comparison; one-class SVM; AUROC }}.
# -
#   {{ if:03c_generative_autoencoders.autoencoder_easy_untrained + 0.01 > 03c_generative_autoencoders.autoencoder_easy_trained }}**Not
#   recommended:** networks.{{ else }}**Compared with networks:** {{ end }} An autoencoder has
#   {{ value:03c_generative_autoencoders.autoencoder_easy_trained }} after training and
#   {{ value:03c_generative_autoencoders.autoencoder_easy_untrained }} before.
# - **See** notebooks [02](notebooks/02_task4_isolation_forest.html) and
#   [03c](notebooks/03c_generative_autoencoders.html).
#
# ### Columns that are normal alone and abnormal in combination {#dependencies}
#
# - **First choice:** `PCAResidual`, or a Gaussian mixture if there are many rows and few columns.
# - **Result:** the PCA residual has
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; PCA residual; AUROC }} on two tables,
#   fitted in {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }}.
#   The distance to the centre has
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }}
#   and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; distance to centre, standardised; AUROC }}.
#   The mixture has
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Gaussian mixture; AUROC }} and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Gaussian mixture; AUROC }}.
# - **Not recommended:** Isolation Forest, because each cut uses a single column. It has
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Isolation Forest; AUROC }} and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Isolation Forest; AUROC }}. The best
#   network, ALOCC, has {{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; AUROC }} on the first
#   table in {{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; fit (s) }}. However, it is
#   trained on broken dependencies, which is also what the test contains.
# - **See** notebooks [02](notebooks/02_task4_isolation_forest.html), [06b](notebooks/06b_dagmm.html) and
#   [07b](notebooks/07b_adversarial_one_class.html).

# %% [markdown]
# ## Labels {#labels}
#
# ### Unlabelled data with anomalies among the training samples {#contaminated}
#
# - **First choice:** the distance of each sample to the nearest *other* samples (kNN) for rows or small images, and
#   `E3Outlier` for images with a varying background.
# - **Result:** kNN has {{ value:contamination; 20.0; kNN; training samples }} on its own training digits, a fifth of
#   which are anomalies. Isolation Forest has {{ value:contamination; 20.0; Isolation Forest; training samples }}, a
#   robust autoencoder {{ value:contamination; 20.0; robust AE; training samples }} and a plain one after 50 epochs
#   {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }}. E3Outlier has
#   {{ value:05_self_supervised.unlabelled_e3_pl_auroc }} on digits on textured backgrounds, a tenth of which are
#   anomalies. The squared length of the pixel vector has {{ value:05_self_supervised.unlabelled_norm_auroc }} there,
#   and a convolutional autoencoder {{ value:05_self_supervised.unlabelled_cae_auroc }}.
# - **Not recommended:** an autoencoder that is trained for long. After 200 epochs it has memorised such anomalies and
#   has {{ value:contamination; 20.0; plain AE, 200 epochs; training samples }}.
# - **See** notebooks [03b](notebooks/03b_robust_autoencoders.html) and [05](notebooks/05_self_supervised.html).
#
# ### A few labelled anomalies {#few-labels}
#
# - **First choice:** `HybridMultiModalAnomalyDetector`, or `DeepSAD` for one modality.
# - **Result:** the hybrid detector has {{ value:09b_labels_and_drift.hybrid_1_labels_auroc }} with one label,
#   {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }} with five and
#   {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }} without labels. With ten labels, Deep SAD has
#   {{ value:sad_labels; known kind; Deep SAD; 10; mean }} on the labelled kind and
#   {{ value:sad_labels; new kinds; Deep SAD; 10; mean }} on kinds without labels. Logistic regression has
#   {{ value:sad_labels; known kind; logistic regression; 10; mean }} and
#   {{ value:sad_labels; new kinds; logistic regression; 10; mean }}.
# - {{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }}**Not
#   recommended:**{{ else }}**Compared with:**{{ end }} a head without a penalty where there are no samples. With a
#   single label and without the penalty of the hybrid detector, it has
#   {{ value:09b_labels_and_drift.unpenalised_1_labels_auroc }}{{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }},
#   which is less than without labels{{ end }}.
# - **See** notebooks [07](notebooks/07_one_class.html) and [09b](notebooks/09b_labels_and_drift.html).

# %% [markdown]
# ## Several modalities, and time {#several-modalities}
#
# ### Parts of one object that do not match {#mismatch}
#
# - **First choice:** `EarlyFusion()`, one Gaussian for the concatenated latent codes. It is fitted in a second, to
#   normal samples only.
# - **Result:** early fusion has {{ value:08_fusion.not_mismatch_early_auroc }} over all kinds of anomaly except
#   mismatches, and late fusion has {{ value:08_fusion.not_mismatch_late_auroc }}. On mismatches early fusion has
#   {{ value:08_fusion.mismatch_early_auroc }}, and the shared latent space has
#   {{ value:08_fusion.mismatch_latent_auroc }}.
# - **Limits:** parts that are shifted in time. Early fusion has {{ value:08_fusion.shifted_early_auroc }}, and
#   cross-attention has {{ value:08_fusion.shifted_attention_auroc }}.
# - **Note on cross-attention and graph:** their training exchanges parts of samples, which is the same as the test on
#   mismatches. They have {{ value:08_fusion.mismatch_attention_auroc }} and {{ value:08_fusion.mismatch_graph_auroc }}
#   there. Over all other kinds they have {{ value:08_fusion.not_mismatch_attention_auroc }} and
#   {{ value:08_fusion.not_mismatch_graph_auroc }}. Use them if the expected anomalies are exchanged parts.
# - **See** [notebook 08](notebooks/08_fusion.html).
#
# ### Parts that are often missing {#missing}
#
# - **First choice:** the same. Report also the ceiling, which no detector can exceed. With three tenths of the parts
#   missing the ceiling is {{ value:fusion_missing; ceiling; 0.3; all }}, and early fusion has
#   {{ value:fusion_missing; early; 0.3; all }}. Mismatches are not included.
# - **Result:** with six tenths missing, early fusion has {{ value:fusion_missing; early; 0.6; visible }} on anomalies
#   that are still visible. Late fusion with a joint score has
#   {{ value:fusion_missing; late, max, joint; 0.6; visible }}.
# - **Not recommended:** methods that only compare parts. Cross-attention has
#   {{ value:fusion_missing; cross-attention; 0.6; visible }}, and the graph has
#   {{ value:fusion_missing; graph; 0.6; visible }}.
# - **See** [notebook 08](notebooks/08_fusion.html).
#
# ### Images and rows from unrelated sources {#unpaired}
#
# - **First choice:** the best detector of each modality, with alarms ranked by held-out p-values.
#   `MultiModalAnomalyDetector` provides the common scale.
# - **Result:** the unified detector has {{ value:09_unified_framework.unified_image_splits_auroc }} on
#   {{ name:09_unified_framework.image_dataset }}, where PaDiM has
#   {{ value:01b_image_detectors.hazelnut_padim_image_auroc }} and PatchCore
#   {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}. It has
#   {{ value:09_unified_framework.unified_tabular_splits_auroc }} on {{ name:09_unified_framework.table_dataset }},
#   where the distance to the centre has
#   {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }}. At a nominal rate of one in
#   twenty, its false-alarm rate is {{ value:unified_alarms; image; mixture, held-out p-values }} on images. One
#   Gaussian and one threshold for all samples have {{ value:unified_alarms; image; one Gaussian, one threshold }}.
# - **Limits:** knowledge is not shared. The latent space of the old domain changes the AUROC on ten images of a new
#   one by {{ value:09b_labels_and_drift.transfer_image_gain }}. One transformer for both modalities has
#   {{ value:10_transformer.auroc_residual_trained_image }} on images, and
#   {{ value:10_transformer.auroc_residual_untrained_image }} before its training.
# - **See** notebooks [09](notebooks/09_unified_framework.html), [09b](notebooks/09b_labels_and_drift.html) and
#   [10](notebooks/10_transformer.html).
#
# ### A stream whose normal state drifts {#drift}
#
# - **First choice:** `GaussianAnomalyScorer(half_life=...)` with `partial_fit` for each day.
# - **Result:** with forgetting, the state of the first day, which is abnormal by then, is separated from the current
#   state with {{ value:09b_labels_and_drift.drift_auroc_half_life }}. Without forgetting the result is
#   {{ value:09b_labels_and_drift.drift_auroc_all }}. Without drift, twenty daily updates differ from one fit by at
#   most {{ value:09b_labels_and_drift.stream_relative_difference }}.
# - **Limits:** it does not decide when to recalibrate without learning the anomalies. The stream is generated.
# - **See** [notebook 09b](notebooks/09b_labels_and_drift.html).

# %% [markdown]
# ## In every situation {#always}
#
# - Put the distance-to-centre baseline and a random score into every table. For a network, add the untrained network.
# - Set the threshold on held-out normal data. At a nominal false-alarm rate of one in twenty, the training scores of a
#   Gaussian give {{ value:thresholds; Gaussian; training quantile; 0.05; measured rate }}, and conformal p-values give
#   {{ value:thresholds; Gaussian; conformal; 0.05; measured rate }}.
# - Terms are explained in the [glossary](notebooks/glossary.html). The computation of every number is shown in the
#   [report and all notebooks](index.html).
