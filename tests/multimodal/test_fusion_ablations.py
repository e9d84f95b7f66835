"""What the components of the learned fusions contribute, measured after a short training."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmad_utils import CrossAttentionFusion, GraphFusion, SharedLatentFusion
from mmad_utils.datasets import load

NOT_REHEARSED = ("damaged image", "nonsense text", "spiky series", "shifted", "three digits")


@pytest.fixture(scope="module")
def data():
    return load("paired_digits")


def areas(data, detector):
    """AUROC on shifted samples, on three digits, and on all anomalies but mismatches."""
    kinds, scores = np.array(data.source["kinds_test"]), detector.fit(data.X_train).anomaly_score(data.X_test)
    rows = [np.isin(kinds, ("normal", *group)) for group in (["shifted"], ["three digits"], NOT_REHEARSED)]
    return np.array([roc_auc_score(kinds[chosen] != "normal", scores[chosen]) for chosen in rows])


@pytest.fixture(scope="module")
def attention(data):
    return areas(data, CrossAttentionFusion(epochs=15, random_state=0))


def test_the_bounds_of_subsets_are_what_makes_a_part_predictable_from_the_others(data):
    latent, complete_only = (
        areas(data, SharedLatentFusion(epochs=20, subsets=subsets, random_state=0)) for subsets in (True, False)
    )
    assert latent[1] > complete_only[1] + 0.05 and latent[2] > complete_only[2] + 0.02


def test_without_the_contrastive_loss_a_short_training_does_not_find_contradictions(data, attention):
    unaligned = areas(data, CrossAttentionFusion(epochs=15, alignment=0.0, random_state=0))
    assert attention[1] > unaligned[1] + 0.2 and attention[2] > unaligned[2] + 0.05


def test_attention_is_not_ahead_of_a_perceptron_on_the_concatenated_tokens(data, attention):
    concatenated = areas(data, CrossAttentionFusion(epochs=15, attention=False, random_state=0))
    assert attention[2] < concatenated[2] + 0.01


def test_the_edges_between_samples_add_little_to_the_contrastive_space(data):
    graph, contrastive = (
        areas(data, GraphFusion(epochs=20, n_neighbors=neighbors, random_state=0)) for neighbors in (5, 0)
    )
    assert graph[2] < contrastive[2] + 0.05
