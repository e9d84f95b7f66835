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
# Situations, and for each: what to start with, what it reached in the notebooks of this course beside the cheapest
# thing that could have done the job, and where it failed. Every number is read from the notebooks' own results when
# this page is built. Without another word it is the area under the ROC curve (AUROC), of which chance has one half;
# what follows ± is the standard deviation over splits or seeds; fit times are those of the computer that ran the
# notebooks. They are small data sets, so take the *order* from here and the numbers from your own data.

# %% [markdown]
# {{ contents }}

# %% [markdown]
# ## At a glance {#at-a-glance}
#
# {{ caption:situations }} Where to start. "Beside it" is the ruler (the distance to the centre), the untrained network or
# another simple rival, as named; a dash under "fit": no time was recorded.
#
# | situation | start with | it reached | beside it | fit |
# |---|---|---|---|---|
# | [Photographs, few good ones](#sec-photographs) | PatchCore | {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }} | random weights {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }} | – |
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}| [Textures](#sec-textures) | PatchCore | {{ value:01b_image_detectors.gravel_patchcore_image_auroc }} | random weights {{ value:01b_image_detectors.gravel_random_weights_image_auroc }} | – |{{ end }}
# | [Small images, centred](#sec-centred) | PCA residual | {{ value:autoencoders_digits_9; PCAResidual; AUROC }} | ruler {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }} | {{ value:autoencoders_digits_9; PCAResidual; fit (s) }} |
# | [Small images, moving](#sec-moving) | quarter turns | {{ value:scenes_table; quarter turns; AUROC }} | untrained {{ value:scenes_table; untrained network; AUROC }} | {{ value:scenes_table; quarter turns; fit (s) }} |
# | [Tables, anomalies far out](#sec-far-out) | ruler | {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | Isolation Forest {{ value:isolation_forest_comparison; Isolation Forest; AUROC }} | {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }} |
# | [Tables, broken dependencies](#sec-dependencies) | PCA residual | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} | ruler {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }} | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }} |
# | [Contaminated data](#sec-contaminated) | kNN | {{ value:contamination; 20.0; kNN; training samples }} | plain autoencoder {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }} | – |
# | [A few labelled anomalies](#sec-few-labels) | hybrid | {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }} | without labels {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }} | – |
# | [Parts that do not fit](#sec-mismatch) | early fusion | {{ value:08_fusion.not_mismatch_early_auroc }} | late fusion {{ value:08_fusion.not_mismatch_late_auroc }} | – |
# | [Parts missing](#sec-missing) | early fusion | {{ value:fusion_missing; early; 0.6; visible }} | cross-attention {{ value:fusion_missing; cross-attention; 0.6; visible }} | – |
# | [Pictures and unrelated rows](#sec-unpaired) | one detector each, p-values | pictures {{ value:09_unified_framework.unified_image_splits_auroc }}, rows {{ value:09_unified_framework.unified_tabular_splits_auroc }} | PatchCore {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}, ruler {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | – |
# | [Streams that drift](#sec-drift) | Gaussian that forgets | {{ value:09b_labels_and_drift.drift_auroc_half_life }} | one that does not {{ value:09b_labels_and_drift.drift_auroc_all }} | – |

# %% [markdown]
# ## Pictures {#pictures}
#
# ### Photographs, few good ones {#photographs}
#
# - **Start with** `PatchCore` where parts lie anyhow, with `PaDiM` where each lies in the same place.
# - **It reached** {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }} on {{ name:01_task2_padim.dataset }},
#   which have no fixed orientation (PaDiM
#   {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}){{ if:01b_image_detectors.zipper_padim_image_auroc }}, and PaDiM
#   {{ value:01b_image_detectors.zipper_padim_image_auroc }} on zippers, which have one{{ end }}. PaDiM on random instead
#   of pretrained weights:
#   {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }} on hazelnuts; the distance between pixels:
#   {{ value:01b_image_detectors.hazelnut_pixel_distance_image_auroc }}.
# - {{ if:01b_image_detectors.auroc_mild }}**It failed** on faint defects: PaDiM has {{ value:01b_image_detectors.auroc_mild }}
#   on them.{{ else }}**Not known** is how severe the defects are.{{ end }} With five good
#   hazelnuts to learn from it has {{ value:01b_image_detectors.auroc_with_fewest_images }}.
# - **See** [notebook 01b](notebooks/01b_image_detectors.html).
#
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}
# ### Textures {#textures}
#
# - **Start with** `PatchCore`. One Gaussian for all places is cheaper and near it, because a texture has no places.
# - **It reached** {{ value:01b_image_detectors.brick_patchcore_image_auroc }} on brick,
#   {{ value:01b_image_detectors.gravel_patchcore_image_auroc }} on gravel and
#   {{ value:01b_image_detectors.grass_patchcore_image_auroc }} on grass; the one Gaussian
#   {{ value:01b_image_detectors.brick_global_gaussian_image_auroc }}, {{ value:01b_image_detectors.gravel_global_gaussian_image_auroc }}
#   and {{ value:01b_image_detectors.grass_global_gaussian_image_auroc }}; random weights
#   {{ value:01b_image_detectors.gravel_random_weights_image_auroc }} on gravel.
# - **It failed** to outline what it found in grass: an AUPRO of {{ value:01b_image_detectors.grass_patchcore_aupro }}.
# - **See** [notebook 01b](notebooks/01b_image_detectors.html).
# {{ end }}
#
# ### Small images, centred on a plain ground {#centred}
#
# - **Start with** `PCAResidual`; take an autoencoder only if it beats it on your data.
# - **It reached** {{ value:autoencoders_digits_9; PCAResidual; AUROC }} on handwritten digits, fitted in
#   {{ value:autoencoders_digits_9; PCAResidual; fit (s) }}. The best autoencoder, stacked and denoising, reached
#   {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; AUROC }} in
#   {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; fit (s) }} (untrained
#   {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; untrained }}), the ruler
#   {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }} with nothing to fit.
# - **It failed** nowhere here, but the networks did not get away from it: f-AnoGAN
#   {{ value:f_anogan_table; training; f-AnoGAN; AUC }}, PCA {{ value:f_anogan_table; training; PCA; AUC }} on another digit.
# - **See** notebooks [03c](notebooks/03c_generative_autoencoders.html) and [04b](notebooks/04b_gan_detectors.html).
#
# ### Small images, anywhere on a changing ground {#moving}
#
# - **Start with** `GeometricTransformations`: which way was it turned? Four quarter turns are enough.
# - **It reached** {{ value:scenes_table; quarter turns; AUROC }} on digits on photographs, fitted in
#   {{ value:scenes_table; quarter turns; fit (s) }}; its untrained network
#   {{ value:scenes_table; untrained network; AUROC }}, an autoencoder {{ value:scenes_table; autoencoder; AUROC }}, the ruler
#   {{ value:scenes_table; ‖x‖²; AUROC }}.
# - **It failed** where a turn changes nothing: {{ value:05_self_supervised.symmetric_auroc }} on digits that are their own
#   half turn. Whether turns can be named on held-out *normal* images tells you beforehand.
# - **See** [notebook 05](notebooks/05_self_supervised.html).

# %% [markdown]
# ## Tables {#tables}
#
# ### Anomalies that are simply far out {#far-out}
#
# - **Start with** `DistanceToCenter`, the ruler. If it is enough, stop here.
# - **It reached** {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} on
#   {{ name:02_task4_isolation_forest.dataset }}, fitted in
#   {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }}; Isolation Forest
#   {{ value:isolation_forest_comparison; Isolation Forest; AUROC }} in
#   {{ value:isolation_forest_comparison; Isolation Forest; fit (s) }}, the one-class SVM
#   {{ value:isolation_forest_comparison; one-class SVM; AUROC }}.
# - {{ if:03c_generative_autoencoders.autoencoder_easy_untrained + 0.01 > 03c_generative_autoencoders.autoencoder_easy_trained }}**What
#   failed** are networks:{{ else }}**Beside it,** {{ end }} an autoencoder has
#   {{ value:03c_generative_autoencoders.autoencoder_easy_trained }} trained and
#   {{ value:03c_generative_autoencoders.autoencoder_easy_untrained }} untrained.
# - **See** notebooks [02](notebooks/02_task4_isolation_forest.html) and [03c](notebooks/03c_generative_autoencoders.html).
#
# ### Columns plausible alone, impossible together {#dependencies}
#
# - **Start with** `PCAResidual`; a Gaussian mixture where the rows are many and the columns few.
# - **It reached** {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; PCA residual; AUROC }} on two tables, fitted in
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }}; the ruler
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }} and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; distance to centre, standardised; AUROC }}; the mixture
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Gaussian mixture; AUROC }} and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Gaussian mixture; AUROC }}.
# - **What failed** is Isolation Forest, whose cuts see one column at a time:
#   {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Isolation Forest; AUROC }} and
#   {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Isolation Forest; AUROC }}. The best network,
#   ALOCC, had {{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; AUROC }} on the first table in
#   {{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; fit (s) }}, but it was trained on broken
#   dependencies, which is what it was tested on.
# - **See** notebooks [02](notebooks/02_task4_isolation_forest.html), [06](notebooks/06_feature_learning.html) and
#   [07b](notebooks/07b_adversarial_one_class.html).

# %% [markdown]
# ## Labels {#labels}
#
# ### Nobody sorted the data: anomalies among the training samples {#contaminated}
#
# - **Start with** the distance of each sample to the nearest *other* samples (kNN) to search rows or small images, with
#   `E3Outlier` for images with a changing ground.
# - **It reached** {{ value:contamination; 20.0; kNN; training samples }} on its own training digits, a fifth of them
#   anomalous; Isolation Forest {{ value:contamination; 20.0; Isolation Forest; training samples }}, a robust autoencoder
#   {{ value:contamination; 20.0; robust AE; training samples }}, a plain one after 50 epochs
#   {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }}. E3Outlier reached
#   {{ value:05_self_supervised.unlabelled_e3_pl_auroc }} on digits on photographs, a tenth of them anomalous; the ruler
#   {{ value:05_self_supervised.unlabelled_norm_auroc }}, a convolutional autoencoder
#   {{ value:05_self_supervised.unlabelled_cae_auroc }}.
# - **What failed** is an autoencoder that trains for long: after 200 epochs it has memorised such anomalies and has
#   {{ value:contamination; 20.0; plain AE, 200 epochs; training samples }}.
# - **See** notebooks [03b](notebooks/03b_robust_autoencoders.html) and [05](notebooks/05_self_supervised.html).
#
# ### A few labelled anomalies {#few-labels}
#
# - **Start with** `HybridMultiModalAnomalyDetector`, or `DeepSAD` for one modality.
# - **It reached** {{ value:09b_labels_and_drift.hybrid_1_labels_auroc }} with one label,
#   {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }} with five and
#   {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }} without. With ten, Deep SAD had
#   {{ value:sad_labels; known kind; Deep SAD; 10; mean }} on the labelled kind and
#   {{ value:sad_labels; new kinds; Deep SAD; 10; mean }} on kinds that nobody had labelled; logistic regression
#   {{ value:sad_labels; known kind; logistic regression; 10; mean }} and
#   {{ value:sad_labels; new kinds; logistic regression; 10; mean }}.
# - {{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }}**What
#   failed** is{{ else }}**Beside it** stands{{ end }} a classifier that is free where no sample is: with a single
#   label, and without the hybrid's restraint, it has
#   {{ value:09b_labels_and_drift.unpenalised_1_labels_auroc }}{{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }},
#   less than without labels{{ end }}.
# - **See** notebooks [07](notebooks/07_one_class.html) and [09b](notebooks/09b_labels_and_drift.html).

# %% [markdown]
# ## Several modalities, and time {#several-modalities}
#
# ### Parts of one object that do not fit together {#mismatch}
#
# - **Start with** `EarlyFusion()`, one Gaussian for the joined codes; it is fitted in a second, to normal samples only.
# - **It reached** {{ value:08_fusion.not_mismatch_early_auroc }} over all kinds of anomaly but mismatches, late fusion {{ value:08_fusion.not_mismatch_late_auroc }}; on mismatches
#   {{ value:08_fusion.mismatch_early_auroc }}, and the shared latent space {{ value:08_fusion.mismatch_latent_auroc }}.
# - **It failed** on parts shifted in time: {{ value:08_fusion.shifted_early_auroc }}, where cross-attention has {{ value:08_fusion.shifted_attention_auroc }}.
# - **A caveat** for cross-attention and graph: their training exchanges parts of samples and so rehearses mismatches, on
#   which they have {{ value:08_fusion.mismatch_attention_auroc }} and {{ value:08_fusion.mismatch_graph_auroc }}. Over all other kinds they have {{ value:08_fusion.not_mismatch_attention_auroc }} and
#   {{ value:08_fusion.not_mismatch_graph_auroc }}. Take them where exchanged parts are the anomalies that you expect.
# - **See** [notebook 08](notebooks/08_fusion.html).
#
# ### Parts that are often missing {#missing}
#
# - **Start with** the same, and report what no detector could find: with three tenths of the parts missing the ceiling is
#   {{ value:fusion_missing; ceiling; 0.3; all }}, and it has {{ value:fusion_missing; early; 0.3; all }}. Mismatches are left out here.
# - **It reached** {{ value:fusion_missing; early; 0.6; visible }} with six tenths missing, on anomalies that can still be seen; late fusion with a
#   joint score {{ value:fusion_missing; late, max, joint; 0.6; visible }}.
# - **What failed** are methods that only compare parts: cross-attention {{ value:fusion_missing; cross-attention; 0.6; visible }}, the graph
#   {{ value:fusion_missing; graph; 0.6; visible }}.
# - **See** [notebook 08](notebooks/08_fusion.html).
#
# ### Pictures and rows that have nothing to do with each other {#unpaired}
#
# - **Start with** the best detector of each modality, and rank their alarms by held-out p-values;
#   `MultiModalAnomalyDetector` does both.
# - **It reached** {{ value:09_unified_framework.unified_image_splits_auroc }} on
#   {{ name:09_unified_framework.image_dataset }} (PaDiM
#   {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}, PatchCore
#   {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}) and
#   {{ value:09_unified_framework.unified_tabular_splits_auroc }} on {{ name:09_unified_framework.table_dataset }} (ruler
#   {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }}). Promised one false alarm in twenty, it
#   gave {{ value:unified_alarms; image; mixture, held-out p-values }} on pictures, where one Gaussian and one threshold for
#   all gave {{ value:unified_alarms; image; one Gaussian, one threshold }}.
# - **It failed** to share knowledge: the old domain's space adds
#   {{ value:09b_labels_and_drift.transfer_image_gain }} to ten pictures of a new one. One transformer for both has
#   {{ value:10_transformer.auroc_residual_trained_image }} on pictures, {{ value:10_transformer.auroc_residual_untrained_image }}
#   before its training.
# - **See** notebooks [09](notebooks/09_unified_framework.html) and [10](notebooks/10_transformer.html).
#
# ### A stream whose normal state drifts {#drift}
#
# - **Start with** `GaussianAnomalyScorer(half_life=...)` and `partial_fit`, day by day.
# - **It reached** {{ value:09b_labels_and_drift.drift_auroc_half_life }} at telling the first day's state, by now abnormal,
#   from today's; remembering everything, {{ value:09b_labels_and_drift.drift_auroc_all }}. Without drift, twenty daily
#   updates differ from one fit by {{ value:09b_labels_and_drift.stream_relative_difference }} at most.
# - **It failed** to answer when to calibrate anew without learning the anomalies. The stream is a generated one.
# - **See** [notebook 09b](notebooks/09b_labels_and_drift.html).

# %% [markdown]
# ## Whatever you start with {#always}
#
# - Put the ruler, a random score and, for a network, its untrained copy into every table.
# - Set the threshold on held-out normal data. At a promise of one false alarm in twenty, a Gaussian's training scores gave
#   {{ value:thresholds; Gaussian; training quantile; 0.05; measured }}, conformal p-values
#   {{ value:thresholds; Gaussian; conformal; 0.05; measured }}.
# - Words are explained in the [glossary](notebooks/glossary.html), and every number stands where it was computed: the
#   [report and all notebooks](index.html).
