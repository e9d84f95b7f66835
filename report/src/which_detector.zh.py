# ---
# jupyter:
#   jupytext:
#     formats: ipynb,src//py:percent
#     notebook_metadata_filter: report,-kernelspec
#     text_representation:
#       extension: .py
#       format_name: percent
#   report:
#     language: zh
# ---

# %% [markdown] checked="0a0e103d 3cba2ae6"
# # 什么情形用哪种检测器
#
# 这里列出若干种情形。每种情形说明：先用什么，它在本课程的笔记本里达到了多少，旁边那个最省事的办法又有多少，以及它的短板在哪里。所有数字都在生成本页时读自笔记本自己的结果。没有另作说明的，都是 ROC 曲线下面积（AUROC），随机水平为二分之一；± 之后是对划分或随机种子的标准差；拟合时间来自运行笔记本的那台计算机。这些数据集都不大，值得照搬的是名次，数字请以您自己的数据为准。

# %% [markdown] checked="5fe43e45 5fe43e45"
# {{ contents }}

# %% [markdown] checked="6d853f0e a68435d1"
# ## 一览 {#at-a-glance}
#
# {{ caption:situations }} 从哪里入手。“对照”一栏是尺子（到中心的距离）、未训练的网络或另一个简单的对手，各格注明；“拟合”一栏的短横表示没有记录时间。
#
# | 情形 | 先用 | 达到 | 对照 | 拟合 |
# |---|---|---|---|---|
# | [照片，正品不多](#sec-photographs) | PatchCore | {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }} | 随机权重 {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }} | – |
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}| [纹理](#sec-textures) | PatchCore | {{ value:01b_image_detectors.gravel_patchcore_image_auroc }} | 随机权重 {{ value:01b_image_detectors.gravel_random_weights_image_auroc }} | – |{{ end }}
# | [小图像，内容居中](#sec-centred) | PCA 残差 | {{ value:autoencoders_digits_9; PCAResidual; AUROC }} | 尺子 {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }} | {{ value:autoencoders_digits_9; PCAResidual; fit (s) }} |
# | [小图像，位置不定](#sec-moving) | 直角旋转 | {{ value:scenes_table; quarter turns; AUROC }} | 未训练 {{ value:scenes_table; untrained network; AUROC }} | {{ value:scenes_table; quarter turns; fit (s) }} |
# | [表格，异常离得远](#sec-far-out) | 尺子 | {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | 孤立森林 {{ value:isolation_forest_comparison; Isolation Forest; AUROC }} | {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }} |
# | [表格，依赖关系被打破](#sec-dependencies) | PCA 残差 | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} | 尺子 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }} | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }} |
# | [数据受到污染](#sec-contaminated) | kNN | {{ value:contamination; 20.0; kNN; training samples }} | 普通自编码器 {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }} | – |
# | [少量标注的异常](#sec-few-labels) | 混合检测器 | {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }} | 没有标签 {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }} | – |
# | [各部分错配](#sec-mismatch) | 早期融合 | {{ value:08_fusion.not_mismatch_early_auroc }} | 后期融合 {{ value:08_fusion.not_mismatch_late_auroc }} | – |
# | [部分缺失](#sec-missing) | 早期融合 | {{ value:fusion_missing; early; 0.6; visible }} | 交叉注意力 {{ value:fusion_missing; cross-attention; 0.6; visible }} | – |
# | [互不相干的图片与表格](#sec-unpaired) | 各用各的检测器，p 值 | 图片 {{ value:09_unified_framework.unified_image_splits_auroc }}，行 {{ value:09_unified_framework.unified_tabular_splits_auroc }} | PatchCore {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}，尺子 {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | – |
# | [漂移的数据流](#sec-drift) | 会遗忘的高斯模型 | {{ value:09b_labels_and_drift.drift_auroc_half_life }} | 不遗忘 {{ value:09b_labels_and_drift.drift_auroc_all }} | – |

# %% [markdown] checked="b6594722 56f86339"
# ## 图像 {#pictures}
#
# ### 照片，正品不多 {#photographs}
#
# - **先用** `PatchCore`，如果零件随意摆放；如果每件都摆在同一位置，用 `PaDiM`。
# - **达到**：在{{ name:01_task2_padim.dataset }}上（没有固定的朝向）为 {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}（PaDiM 为 {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}）{{ if:01b_image_detectors.zipper_padim_image_auroc }}；拉链位置固定，PaDiM 为 {{ value:01b_image_detectors.zipper_padim_image_auroc }}{{ end }}。同一个 PaDiM 换上随机权重，在榛子上为 {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }}；像素距离为 {{ value:01b_image_detectors.hazelnut_pixel_distance_image_auroc }}。
# - {{ if:01b_image_detectors.auroc_mild }}**短板**：轻微的缺陷。在这些缺陷上，PaDiM 只有 {{ value:01b_image_detectors.auroc_mild }}。{{ else }}**未知**：缺陷的严重程度。{{ end }}只有五张正品榛子可学时，它为 {{ value:01b_image_detectors.auroc_with_fewest_images }}。
# - **详见**[笔记本 01b](notebooks/01b_image_detectors.html)。
#
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}
# ### 纹理 {#textures}
#
# - **先用** `PatchCore`。所有位置共用一个高斯模型更省，也相去不远，因为纹理本来就没有位置可言。
# - **达到**：砖墙 {{ value:01b_image_detectors.brick_patchcore_image_auroc }}，砾石 {{ value:01b_image_detectors.gravel_patchcore_image_auroc }}，草地 {{ value:01b_image_detectors.grass_patchcore_image_auroc }}；共用的高斯模型依次为 {{ value:01b_image_detectors.brick_global_gaussian_image_auroc }}、{{ value:01b_image_detectors.gravel_global_gaussian_image_auroc }} 和 {{ value:01b_image_detectors.grass_global_gaussian_image_auroc }}；随机权重最多 {{ value:01b_image_detectors.gravel_random_weights_image_auroc }}。
# - **短板**：草地上的异常找得到，轮廓却勾不准，AUPRO 为 {{ value:01b_image_detectors.grass_patchcore_aupro }}。
# - **详见**[笔记本 01b](notebooks/01b_image_detectors.html)。
# {{ end }}
#
# ### 小图像，内容居中，背景干净 {#centred}
#
# - **先用** `PCAResidual`；自编码器在您的数据上胜过它，才值得换。
# - **达到**：手写数字上 {{ value:autoencoders_digits_9; PCAResidual; AUROC }}，拟合 {{ value:autoencoders_digits_9; PCAResidual; fit (s) }}。最好的自编码器是堆叠去噪的，{{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; AUROC }}，{{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; fit (s) }}（未训练为 {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; untrained }}）；尺子为 {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }}，什么也不用拟合。
# - **短板**：这里没有遇到，倒是网络没能甩开它。在另一个数字上，f-AnoGAN 为 {{ value:f_anogan_table; training; f-AnoGAN; AUC }}，PCA 为 {{ value:f_anogan_table; training; PCA; AUC }}。
# - **详见**笔记本 [03c](notebooks/03c_generative_autoencoders.html) 与 [04b](notebooks/04b_gan_detectors.html)。
#
# ### 小图像，位置不定，背景多变 {#moving}
#
# - **先用** `GeometricTransformations`：它被转了多少？四个直角旋转就够了。
# - **达到**：叠在照片上的数字，{{ value:scenes_table; quarter turns; AUROC }}，拟合 {{ value:scenes_table; quarter turns; fit (s) }}；未训练的同一网络为 {{ value:scenes_table; untrained network; AUROC }}，自编码器为 {{ value:scenes_table; autoencoder; AUROC }}，尺子为 {{ value:scenes_table; ‖x‖²; AUROC }}。
# - **短板**：旋转改变不了的内容。转半圈就与自身重合的数字，只有 {{ value:05_self_supervised.symmetric_auroc }}。留出的**正常**图像转了多少能否说对，事先就能告诉您。
# - **详见**[笔记本 05](notebooks/05_self_supervised.html)。

# %% [markdown] checked="51e86654 e632e115"
# ## 表格 {#tables}
#
# ### 异常无非离得远 {#far-out}
#
# - **先用** `DistanceToCenter`，也就是尺子。够用就到此为止。
# - **达到**：{{ name:02_task4_isolation_forest.dataset }}上 {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }}，拟合 {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }}；孤立森林为 {{ value:isolation_forest_comparison; Isolation Forest; AUROC }}，{{ value:isolation_forest_comparison; Isolation Forest; fit (s) }}；单类支持向量机为 {{ value:isolation_forest_comparison; one-class SVM; AUROC }}。
# - {{ if:03c_generative_autoencoders.autoencoder_easy_untrained + 0.01 > 03c_generative_autoencoders.autoencoder_easy_trained }}**落败者**：网络。{{ else }}**对照**：{{ end }}自编码器训练之后为 {{ value:03c_generative_autoencoders.autoencoder_easy_trained }}，训练之前为 {{ value:03c_generative_autoencoders.autoencoder_easy_untrained }}。
# - **详见**笔记本 [02](notebooks/02_task4_isolation_forest.html) 与 [03c](notebooks/03c_generative_autoencoders.html)。
#
# ### 单看每列都正常，合在一起不可能 {#dependencies}
#
# - **先用** `PCAResidual`；行多列少时，用高斯混合模型。
# - **达到**：两张表上 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; PCA residual; AUROC }}，拟合 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }}；尺子为 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; distance to centre, standardised; AUROC }}；混合模型为 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Gaussian mixture; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Gaussian mixture; AUROC }}。
# - **落败者**：孤立森林，它每一刀只看一列，{{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Isolation Forest; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Isolation Forest; AUROC }}。最好的网络是 ALOCC，在第一张表上为 {{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; AUROC }}，{{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; fit (s) }}；但它训练时练的就是打破依赖关系，考的也是这个。
# - **详见**笔记本 [02](notebooks/02_task4_isolation_forest.html)、[06](notebooks/06_feature_learning.html) 与 [07b](notebooks/07b_adversarial_one_class.html)。

# %% [markdown] checked="c4fc387e d089ff36"
# ## 标签 {#labels}
#
# ### 数据无人整理，训练样本里混有异常 {#contaminated}
#
# - **先用**每个样本到**其余**样本的近邻距离（kNN）排查表格或小图像；背景多变的图像用 `E3Outlier`。
# - **达到**：训练用的数字有五分之一是异常，要它从中找出来，{{ value:contamination; 20.0; kNN; training samples }}；孤立森林为 {{ value:contamination; 20.0; Isolation Forest; training samples }}，稳健自编码器为 {{ value:contamination; 20.0; robust AE; training samples }}，训练 50 轮的普通自编码器为 {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }}。E3Outlier 在叠在照片上的数字上，异常占一成，为 {{ value:05_self_supervised.unlabelled_e3_pl_auroc }}；尺子为 {{ value:05_self_supervised.unlabelled_norm_auroc }}，卷积自编码器为 {{ value:05_self_supervised.unlabelled_cae_auroc }}。
# - **落败者**：训练太久的自编码器。训练 200 轮之后，它记住了这些异常，只有 {{ value:contamination; 20.0; plain AE, 200 epochs; training samples }}。
# - **详见**笔记本 [03b](notebooks/03b_robust_autoencoders.html) 与 [05](notebooks/05_self_supervised.html)。
#
# ### 少量标注的异常 {#few-labels}
#
# - **先用** `HybridMultiModalAnomalyDetector`，只有一种模态时也可以用 `DeepSAD`。
# - **达到**：一个标签 {{ value:09b_labels_and_drift.hybrid_1_labels_auroc }}，五个标签 {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }}，没有标签 {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }}。十个标签时，Deep SAD 在标注过的种类上为 {{ value:sad_labels; known kind; Deep SAD; 10; mean }}，在没有人标注过的种类上为 {{ value:sad_labels; new kinds; Deep SAD; 10; mean }}；逻辑回归为 {{ value:sad_labels; known kind; logistic regression; 10; mean }} 和 {{ value:sad_labels; new kinds; logistic regression; 10; mean }}。
# - {{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }}**短板**：{{ else }}**对照**：{{ end }}在没有样本的地方不受约束的分类器。只有一个标签、又不加混合检测器的约束时为 {{ value:09b_labels_and_drift.unpenalised_1_labels_auroc }}{{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }}，还不如没有标签{{ end }}。
# - **详见**笔记本 [07](notebooks/07_one_class.html) 与 [09b](notebooks/09b_labels_and_drift.html)。

# %% [markdown] checked="b91924e2 d79c4960"
# ## 多种模态，以及时间 {#several-modalities}
#
# ### 同一对象的各部分彼此错配 {#mismatch}
#
# - **先用** `EarlyFusion()`，在拼接的编码上拟合一个高斯模型；一秒即可拟合，只用正常样本。
# - **达到**：错配以外的所有异常合计 {{ value:08_fusion.not_mismatch_early_auroc }}，后期融合为 {{ value:08_fusion.not_mismatch_late_auroc }}；错配为 {{ value:08_fusion.mismatch_early_auroc }}，共享潜在空间为 {{ value:08_fusion.mismatch_latent_auroc }}。
# - **短板**：时间上的错位，{{ value:08_fusion.shifted_early_auroc }}，交叉注意力则有 {{ value:08_fusion.shifted_attention_auroc }}。
# - **须注意**：交叉注意力和图在训练中交换样本的各部分，因此预演了错配这项测试；在错配上它们为 {{ value:08_fusion.mismatch_attention_auroc }} 和 {{ value:08_fusion.mismatch_graph_auroc }}，在其他所有种类上合计为 {{ value:08_fusion.not_mismatch_attention_auroc }} 和 {{ value:08_fusion.not_mismatch_graph_auroc }}。预期的异常就是部分被交换时，才选用它们。
# - **详见**[笔记本 08](notebooks/08_fusion.html)。
#
# ### 常有部分缺失 {#missing}
#
# - **先用**同上，并说明任何检测器都找不到的有多少：三成部分缺失时，上限为 {{ value:fusion_missing; ceiling; 0.3; all }}，它为 {{ value:fusion_missing; early; 0.3; all }}。这里不计错配。
# - **达到**：六成缺失，只算仍然看得出的异常，{{ value:fusion_missing; early; 0.6; visible }}；加联合分数的后期融合为 {{ value:fusion_missing; late, max, joint; 0.6; visible }}。
# - **失败的**：只会比较各部分的方法。交叉注意力 {{ value:fusion_missing; cross-attention; 0.6; visible }}，图 {{ value:fusion_missing; graph; 0.6; visible }}。
# - **详见**[笔记本 08](notebooks/08_fusion.html)。
#
# ### 互不相干的图片与表格行 {#unpaired}
#
# - **先用**每种模态各自最好的检测器，再用留出样本的 p 值把报警排在一起；`MultiModalAnomalyDetector` 两件事都做。
# - **达到**：{{ name:09_unified_framework.image_dataset }}上 {{ value:09_unified_framework.unified_image_splits_auroc }}（PaDiM 为 {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}，PatchCore 为 {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}），{{ name:09_unified_framework.table_dataset }}上 {{ value:09_unified_framework.unified_tabular_splits_auroc }}（尺子为 {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }}）。承诺误报二十分之一，它在图片上实得 {{ value:unified_alarms; image; mixture, held-out p-values }}；所有样本共用一个高斯模型和一个阈值，则为 {{ value:unified_alarms; image; one Gaussian, one threshold }}。
# - **短板**：知识没有共享。新领域只有十张图片时，借用旧领域的空间只多出 {{ value:09b_labels_and_drift.transfer_image_gain }}。一个 Transformer 包办两者，在图片上为 {{ value:10_transformer.auroc_residual_trained_image }}，训练之前就有 {{ value:10_transformer.auroc_residual_untrained_image }}。
# - **详见**笔记本 [09](notebooks/09_unified_framework.html) 与 [10](notebooks/10_transformer.html)。
#
# ### 正常状态会漂移的数据流 {#drift}
#
# - **先用** `GaussianAnomalyScorer(half_life=...)`，逐日 `partial_fit`。
# - **达到**：把第一天的状态（如今已属异常）与今天的状态分开，{{ value:09b_labels_and_drift.drift_auroc_half_life }}；什么都记住的为 {{ value:09b_labels_and_drift.drift_auroc_all }}。没有漂移时，二十次逐日更新与一次拟合的相对差别不超过 {{ value:09b_labels_and_drift.stream_relative_difference }}。
# - **短板**：何时重新校准才不会把异常学进去，它没有回答。这里的数据流是生成的。
# - **详见**[笔记本 09b](notebooks/09b_labels_and_drift.html)。

# %% [markdown] checked="cd97b6ef 1dadd266"
# ## 无论从哪里入手 {#always}
#
# - 每张表里都放上尺子和随机分数；用了网络，再放上它未训练的副本。
# - 在留出的正常数据上定阈值。承诺误报二十分之一，高斯模型按训练分数定阈值实得 {{ value:thresholds; Gaussian; training quantile; 0.05; measured }}，按保形 p 值实得 {{ value:thresholds; Gaussian; conformal; 0.05; measured }}。
# - 名词见[术语表](notebooks/glossary.html)；每个数字是怎样算出来的，见[报告与各笔记本](index.html)。
