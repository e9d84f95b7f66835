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

# %% [markdown] checked="aaa8d38d bc19c052"
# # 什么情形用哪种检测器
#
# 本页列出若干典型情形。对每种情形，给出首选的检测器、它在本课程笔记本中的结果、最简单的替代方法的结果，以及它的局限。所有数字都在生成本页时读自笔记本的结果。没有另作说明的数字是 ROC 曲线下面积（AUROC），随机分数为二分之一。± 之后是对划分或随机种子的标准差。拟合时间来自运行笔记本的计算机。这些数据集都不大，因此检测器的**次序**比数值更有参考价值，数值应在您自己的数据上测量。

# %% [markdown] checked="5fe43e45 5fe43e45"
# {{ contents }}

# %% [markdown] checked="37f55c55 5a1e5d0b"
# ## 一览 {#at-a-glance}
#
# {{ caption:situations }} 首选的检测器。“对照”一栏给出到中心的距离、未训练的网络或另一种简单的替代方法，各格注明；“拟合”一栏的短横表示没有记录时间。
#
# | 情形 | 首选 | AUROC | 对照 | 拟合 |
# |---|---|---|---|---|
# | [零件图像，正品不多](#sec-photographs) | PatchCore | {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }} | 随机权重 {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }} | – |
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}| [纹理](#sec-textures) | PatchCore | {{ value:01b_image_detectors.gravel_patchcore_image_auroc }} | 随机权重 {{ value:01b_image_detectors.gravel_random_weights_image_auroc }} | – |{{ end }}
# | [小图像，内容居中](#sec-centred) | PCA 残差 | {{ value:autoencoders_digits_9; PCAResidual; AUROC }} | 到中心的距离 {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }} | {{ value:autoencoders_digits_9; PCAResidual; fit (s) }} |
# | [小图像，位置不定](#sec-moving) | 直角旋转 | {{ value:scenes_table; quarter turns; AUROC }} | 未训练 {{ value:scenes_table; untrained network; AUROC }} | {{ value:scenes_table; quarter turns; fit (s) }} |
# | [表格，异常离中心远](#sec-far-out) | 到中心的距离 | {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | 孤立森林 {{ value:isolation_forest_comparison; Isolation Forest; AUROC }} | {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }} |
# | [表格，依赖关系被打破](#sec-dependencies) | PCA 残差 | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} | 到中心的距离 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }} | {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }} |
# | [数据受到污染](#sec-contaminated) | kNN | {{ value:contamination; 20.0; kNN; training samples }} | 普通自编码器 {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }} | – |
# | [少量标注的异常](#sec-few-labels) | 混合检测器 | {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }} | 没有标签 {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }} | – |
# | [各部分错配](#sec-mismatch) | 早期融合 | {{ value:08_fusion.not_mismatch_early_auroc }} | 后期融合 {{ value:08_fusion.not_mismatch_late_auroc }} | – |
# | [部分缺失](#sec-missing) | 早期融合 | {{ value:fusion_missing; early; 0.6; visible }} | 交叉注意力 {{ value:fusion_missing; cross-attention; 0.6; visible }} | – |
# | [互不相关的图像与表格行](#sec-unpaired) | 各用一个检测器，p 值 | 图像 {{ value:09_unified_framework.unified_image_splits_auroc }}，行 {{ value:09_unified_framework.unified_tabular_splits_auroc }} | PatchCore {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}，到中心的距离 {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }} | – |
# | [漂移的数据流](#sec-drift) | 带遗忘的高斯模型 | {{ value:09b_labels_and_drift.drift_auroc_half_life }} | 不带遗忘 {{ value:09b_labels_and_drift.drift_auroc_all }} | – |

# %% [markdown] checked="674f3980 39030c1c"
# ## 图像 {#pictures}
#
# ### 零件图像，正品不多 {#photographs}
#
# - **首选**：零件随意摆放时用 `PatchCore`，每个零件位置相同时用 `PaDiM`。
# - **结果**：在{{ name:01_task2_padim.dataset }}上（没有固定的朝向），PatchCore 为 {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}，PaDiM 为 {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}{{ if:01b_image_detectors.zipper_padim_image_auroc }}；拉链位置固定，PaDiM 为 {{ value:01b_image_detectors.zipper_padim_image_auroc }}{{ end }}。采用随机权重而不是预训练权重时，PaDiM 在榛子上为 {{ value:01b_image_detectors.hazelnut_random_weights_image_auroc }}。像素距离为 {{ value:01b_image_detectors.hazelnut_pixel_distance_image_auroc }}。
# - {{ if:01b_image_detectors.auroc_mild }}**局限**：轻微的缺陷，PaDiM 在其上为 {{ value:01b_image_detectors.auroc_mild }}。{{ else }}**未知**：缺陷的严重程度。{{ end }}只用五张正品榛子图像训练时，PaDiM 为 {{ value:01b_image_detectors.auroc_with_fewest_images }}。
# - **详见**[笔记本 01b](notebooks/01b_image_detectors.html)。
#
# {{ if:01b_image_detectors.gravel_patchcore_image_auroc }}
# ### 纹理 {#textures}
#
# - **首选** `PatchCore`。所有位置共用一个高斯模型代价更低，结果相近，因为纹理的位置没有含义。
# - **结果**：PatchCore 在砖墙上为 {{ value:01b_image_detectors.brick_patchcore_image_auroc }}，砾石上为 {{ value:01b_image_detectors.gravel_patchcore_image_auroc }}，草地上为 {{ value:01b_image_detectors.grass_patchcore_image_auroc }}。共用的高斯模型依次为 {{ value:01b_image_detectors.brick_global_gaussian_image_auroc }}、{{ value:01b_image_detectors.gravel_global_gaussian_image_auroc }} 和 {{ value:01b_image_detectors.grass_global_gaussian_image_auroc }}。随机权重在砾石上为 {{ value:01b_image_detectors.gravel_random_weights_image_auroc }}。
# - **局限**：草地上异常的轮廓，AUPRO 为 {{ value:01b_image_detectors.grass_patchcore_aupro }}。
# - **详见**[笔记本 01b](notebooks/01b_image_detectors.html)。
# {{ end }}
#
# ### 小图像，内容居中，背景单一 {#centred}
#
# - **首选** `PCAResidual`。只有自编码器在您的数据上更好时，才采用自编码器。
# - **结果**：在手写数字上，PCA 残差为 {{ value:autoencoders_digits_9; PCAResidual; AUROC }}，拟合用时 {{ value:autoencoders_digits_9; PCAResidual; fit (s) }}。最好的自编码器是堆叠去噪自编码器，为 {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; AUROC }}，用时 {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; fit (s) }}（未训练为 {{ value:autoencoders_digits_9; StackedDenoisingAutoEncoder; untrained }}）。到中心的距离为 {{ value:autoencoders_digits_9; distance to centre ‖x‖²; AUROC }}。
# - **局限**：这里没有发现，但也没有网络明显优于 PCA。在另一个数字上，f-AnoGAN 为 {{ value:f_anogan_table; training; f-AnoGAN; AUC }}，PCA 为 {{ value:f_anogan_table; training; PCA; AUC }}。
# - **详见**笔记本 [03c](notebooks/03c_generative_autoencoders.html) 与 [04b](notebooks/04b_gan_detectors.html)。
#
# ### 小图像，位置不定，背景多变 {#moving}
#
# - **首选** `GeometricTransformations`，它预测图像的旋转。四个直角旋转就足够了。
# - **结果**：在纹理背景上的数字上为 {{ value:scenes_table; quarter turns; AUROC }}，拟合用时 {{ value:scenes_table; quarter turns; fit (s) }}。未训练的网络为 {{ value:scenes_table; untrained network; AUROC }}，自编码器为 {{ value:scenes_table; autoencoder; AUROC }}，像素向量的长度平方为 {{ value:scenes_table; ‖x‖²; AUROC }}。
# - **局限**：旋转不改变其外观的类别。在转半圈后与自身重合的数字上为 {{ value:05_self_supervised.symmetric_auroc }}。在留出的**正常**图像上预测旋转的准确率，可以事先显示这一点。
# - **详见**[笔记本 05](notebooks/05_self_supervised.html)。

# %% [markdown] checked="1548b9ac d8549c4a"
# ## 表格 {#tables}
#
# ### 异常离中心远 {#far-out}
#
# - **首选** `DistanceToCenter`，即到中心的距离基线。如果结果已经足够，就不需要其他检测器。
# - **结果**：在{{ name:02_task4_isolation_forest.dataset }}上，该基线为 {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }}，拟合用时 {{ value:isolation_forest_comparison; distance to centre, standardised; fit (s) }}。孤立森林为 {{ value:isolation_forest_comparison; Isolation Forest; AUROC }}，用时 {{ value:isolation_forest_comparison; Isolation Forest; fit (s) }}；单类支持向量机为 {{ value:isolation_forest_comparison; one-class SVM; AUROC }}。
# - {{ if:03c_generative_autoencoders.autoencoder_easy_untrained + 0.01 > 03c_generative_autoencoders.autoencoder_easy_trained }}**不推荐**：网络。{{ else }}**与网络对照**：{{ end }}自编码器训练之后为 {{ value:03c_generative_autoencoders.autoencoder_easy_trained }}，训练之前为 {{ value:03c_generative_autoencoders.autoencoder_easy_untrained }}。
# - **详见**笔记本 [02](notebooks/02_task4_isolation_forest.html) 与 [03c](notebooks/03c_generative_autoencoders.html)。
#
# ### 各列单独正常，组合不正常 {#dependencies}
#
# - **首选** `PCAResidual`；行多列少时，也可以用高斯混合模型。
# - **结果**：PCA 残差在两张表上为 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; PCA residual; AUROC }}，拟合用时 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; PCA residual; fit (s) }}。到中心的距离为 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; distance to centre, standardised; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; distance to centre, standardised; AUROC }}。混合模型为 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Gaussian mixture; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Gaussian mixture; AUROC }}。
# - **不推荐**：孤立森林，因为它的每次切分只用一列，结果为 {{ value:isolation_forest_hard_comparison; injected/dependency/breast_cancer; Isolation Forest; AUROC }} 和 {{ value:isolation_forest_hard_comparison; injected/dependency/digits/8; Isolation Forest; AUROC }}。最好的网络是 ALOCC，在第一张表上为 {{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; AUROC }}，用时 {{ value:one_class_comparison; injected/dependency/breast_cancer; ALOCC; fit (s) }}。但它的训练内容就是被打破的依赖关系，与测试的内容相同。
# - **详见**笔记本 [02](notebooks/02_task4_isolation_forest.html)、[06b](notebooks/06b_dagmm.html) 与 [07b](notebooks/07b_adversarial_one_class.html)。

# %% [markdown] checked="14883bd0 7cf30345"
# ## 标签 {#labels}
#
# ### 数据没有标签，训练样本中混有异常 {#contaminated}
#
# - **首选**：表格行或小图像用每个样本到**其余**样本的近邻距离（kNN），背景多变的图像用 `E3Outlier`。
# - **结果**：训练用的数字有五分之一是异常，在这些训练样本自身上 kNN 为 {{ value:contamination; 20.0; kNN; training samples }}。孤立森林为 {{ value:contamination; 20.0; Isolation Forest; training samples }}，稳健自编码器为 {{ value:contamination; 20.0; robust AE; training samples }}，训练 50 轮的普通自编码器为 {{ value:contamination; 20.0; plain AE, 50 epochs; training samples }}。在纹理背景上的数字上，异常占一成，E3Outlier 为 {{ value:05_self_supervised.unlabelled_e3_pl_auroc }}，像素向量的长度平方为 {{ value:05_self_supervised.unlabelled_norm_auroc }}，卷积自编码器为 {{ value:05_self_supervised.unlabelled_cae_auroc }}。
# - **不推荐**：训练过久的自编码器。训练 200 轮之后，它记住了这些异常，为 {{ value:contamination; 20.0; plain AE, 200 epochs; training samples }}。
# - **详见**笔记本 [03b](notebooks/03b_robust_autoencoders.html) 与 [05](notebooks/05_self_supervised.html)。
#
# ### 少量标注的异常 {#few-labels}
#
# - **首选** `HybridMultiModalAnomalyDetector`；只有一种模态时，也可以用 `DeepSAD`。
# - **结果**：混合检测器在一个标签时为 {{ value:09b_labels_and_drift.hybrid_1_labels_auroc }}，五个标签时为 {{ value:09b_labels_and_drift.hybrid_5_labels_auroc }}，没有标签时为 {{ value:09b_labels_and_drift.hybrid_0_labels_auroc }}。十个标签时，Deep SAD 在已标注的种类上为 {{ value:sad_labels; known kind; Deep SAD; 10; mean }}，在没有标签的种类上为 {{ value:sad_labels; new kinds; Deep SAD; 10; mean }}；逻辑回归为 {{ value:sad_labels; known kind; logistic regression; 10; mean }} 和 {{ value:sad_labels; new kinds; logistic regression; 10; mean }}。
# - {{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }}**不推荐**：{{ else }}**对照**：{{ end }}在没有样本处不加惩罚项的分类头。只有一个标签、又没有混合检测器的惩罚项时为 {{ value:09b_labels_and_drift.unpenalised_1_labels_auroc }}{{ if:09b_labels_and_drift.hybrid_0_labels_auroc > 09b_labels_and_drift.unpenalised_1_labels_auroc }}，低于没有标签时{{ end }}。
# - **详见**笔记本 [07](notebooks/07_one_class.html) 与 [09b](notebooks/09b_labels_and_drift.html)。

# %% [markdown] checked="8b7f6267 3ff498a9"
# ## 多种模态，以及时间 {#several-modalities}
#
# ### 同一对象的各部分彼此错配 {#mismatch}
#
# - **首选** `EarlyFusion()`，在拼接的潜在编码上拟合一个高斯模型。一秒即可拟合，只用正常样本。
# - **结果**：在错配以外的所有异常上，早期融合为 {{ value:08_fusion.not_mismatch_early_auroc }}，后期融合为 {{ value:08_fusion.not_mismatch_late_auroc }}。在错配上，早期融合为 {{ value:08_fusion.mismatch_early_auroc }}，共享潜在空间为 {{ value:08_fusion.mismatch_latent_auroc }}。
# - **局限**：时间上的错位。早期融合为 {{ value:08_fusion.shifted_early_auroc }}，交叉注意力为 {{ value:08_fusion.shifted_attention_auroc }}。
# - **关于交叉注意力和图**：它们的训练交换样本的各部分，与错配这项测试相同。在错配上它们为 {{ value:08_fusion.mismatch_attention_auroc }} 和 {{ value:08_fusion.mismatch_graph_auroc }}，在其他所有种类上为 {{ value:08_fusion.not_mismatch_attention_auroc }} 和 {{ value:08_fusion.not_mismatch_graph_auroc }}。预期的异常是部分被交换时，可以选用它们。
# - **详见**[笔记本 08](notebooks/08_fusion.html)。
#
# ### 常有部分缺失 {#missing}
#
# - **首选**同上。同时报告任何检测器都不能超过的上限：三成部分缺失时，上限为 {{ value:fusion_missing; ceiling; 0.3; all }}，早期融合为 {{ value:fusion_missing; early; 0.3; all }}。这里不计错配。
# - **结果**：六成部分缺失时，在仍然看得出的异常上，早期融合为 {{ value:fusion_missing; early; 0.6; visible }}，加联合分数的后期融合为 {{ value:fusion_missing; late, max, joint; 0.6; visible }}。
# - **不推荐**：只比较各部分的方法。交叉注意力为 {{ value:fusion_missing; cross-attention; 0.6; visible }}，图为 {{ value:fusion_missing; graph; 0.6; visible }}。
# - **详见**[笔记本 08](notebooks/08_fusion.html)。
#
# ### 来源互不相关的图像与表格行 {#unpaired}
#
# - **首选**：每种模态各自最好的检测器，按留出样本的 p 值把报警排在一起。`MultiModalAnomalyDetector` 提供公共尺度。
# - **结果**：在{{ name:09_unified_framework.image_dataset }}上，统一检测器为 {{ value:09_unified_framework.unified_image_splits_auroc }}，PaDiM 为 {{ value:01b_image_detectors.hazelnut_padim_image_auroc }}，PatchCore 为 {{ value:01b_image_detectors.hazelnut_patchcore_image_auroc }}。在{{ name:09_unified_framework.table_dataset }}上，统一检测器为 {{ value:09_unified_framework.unified_tabular_splits_auroc }}，到中心的距离为 {{ value:isolation_forest_comparison; distance to centre, standardised; AUROC }}。名义误报率为二十分之一时，它在图像上的误报率为 {{ value:unified_alarms; image; mixture, held-out p-values }}；所有样本共用一个高斯模型和一个阈值时为 {{ value:unified_alarms; image; one Gaussian, one threshold }}。
# - **局限**：没有共享知识。新领域只有十张图像时，采用旧领域的潜在空间使 AUROC 改变 {{ value:09b_labels_and_drift.transfer_image_gain }}。用于两种模态的一个 Transformer 在图像上为 {{ value:10_transformer.auroc_residual_trained_image }}，训练之前为 {{ value:10_transformer.auroc_residual_untrained_image }}。
# - **详见**笔记本 [09](notebooks/09_unified_framework.html)、[09b](notebooks/09b_labels_and_drift.html) 与 [10](notebooks/10_transformer.html)。
#
# ### 正常状态会漂移的数据流 {#drift}
#
# - **首选** `GaussianAnomalyScorer(half_life=...)`，每天调用 `partial_fit`。
# - **结果**：把第一天的状态（此时已属异常）与当前状态区分开，带遗忘为 {{ value:09b_labels_and_drift.drift_auroc_half_life }}，不带遗忘为 {{ value:09b_labels_and_drift.drift_auroc_all }}。没有漂移时，二十次逐日更新与一次拟合的相对差别不超过 {{ value:09b_labels_and_drift.stream_relative_difference }}。
# - **局限**：它不能决定何时重新校准而不把异常学进去。这里的数据流是生成的。
# - **详见**[笔记本 09b](notebooks/09b_labels_and_drift.html)。

# %% [markdown] checked="be2065f8 6c6dc9ec"
# ## 在任何情形下 {#always}
#
# - 每张表里都列出到中心的距离基线和随机分数；采用网络时，再加上未训练的网络。
# - 在留出的正常数据上确定阈值。名义误报率为二十分之一时，由高斯模型的训练分数定阈值，误报率为 {{ value:thresholds; Gaussian; training quantile; 0.05; measured rate }}；采用保形 p 值时为 {{ value:thresholds; Gaussian; conformal; 0.05; measured rate }}。
# - 术语见[术语表](notebooks/glossary.html)；每个数字的计算过程见[报告与各笔记本](index.html)。
