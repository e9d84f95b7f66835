import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from mmad_utils import GraphFusion
from mmad_utils.datasets import load
from mmad_utils.datasets.paired import drop_parts
from mmad_utils.detector import DetectorError


@pytest.fixture(scope="module")
def data():
    return load("paired_digits")


@pytest.mark.parametrize("n_neighbors", [0, 3])
def test_training_finds_mismatches_that_the_untrained_network_does_not(data, n_neighbors):
    kinds = np.array(data.source["kinds_test"])
    rows = np.isin(kinds, ("normal", "mismatch"))
    areas = [
        roc_auc_score(
            kinds[rows] == "mismatch",
            GraphFusion(n_neighbors=n_neighbors, epochs=epochs, random_state=0)
            .fit(data.X_train)
            .anomaly_score(data.X_test)[rows],
        )
        for epochs in (0, 15)
    ]
    assert areas[1] > 0.9 and areas[1] > areas[0] + 0.2


@pytest.fixture
def small(data):
    train = drop_parts({name: part[:120] for name, part in data.X_train.items()}, 0.2)
    return GraphFusion(n_neighbors=4, epochs=1, random_state=0).fit(train)


def test_neighbours_are_the_nearest_training_samples_that_have_the_part_and_never_the_sample_itself(small):
    bank = torch.tensor(small.bank_)
    codes, there = small.parts(bank)
    linked = small._linked(bank, itself=True)[:, bank.shape[1] :].long().reshape(len(bank), 3, 4).numpy()
    for m in range(3):
        members = np.flatnonzero(there[:, m])
        for i in members[:20]:
            distance = (codes[m][members] - codes[m][i]).norm(dim=1).numpy()
            distance[members == i] = np.inf
            nearest = members[np.argsort(distance)[:4]]
            assert set(linked[i, m]) == set(nearest) and i not in linked[i, m]


def test_messages_are_the_mean_over_neighbours_of_the_mean_over_their_other_parts(small, data):
    X = {name: part[:3] for name, part in data.X_test.items()}
    batch = torch.tensor(small._table(X))
    linked = small._linked(batch)
    neighbours = linked[:, batch.shape[1] :].long().reshape(3, 3, 4)
    codes, _ = small.parts(batch)
    bank, there = small.parts(torch.tensor(small.bank_))
    network = small.network_
    with torch.no_grad():
        found = small.nodes(linked)
        for i in range(3):
            for m in range(3):
                heard = []
                for j in neighbours[i, m]:
                    others = [k for k in range(3) if k != m and there[j, k]]
                    states = [network["nodes"][k](bank[k][j][None])[0] for k in others]
                    heard.append(torch.stack(states).mean(0) if states else torch.zeros(small.hidden).double())
                own = network["own"][m](network["nodes"][m](codes[m][i][None])[0])
                g = own + network["heard"][m](torch.stack(heard).mean(0))
                np.testing.assert_allclose(found[i, m], g / g.norm(), rtol=1e-9, atol=1e-12)


def test_the_score_is_the_mean_disagreement_over_the_links_that_are_there(small, data):
    X = {name: part[:6] for name, part in data.X_test.items()}
    batch = torch.tensor(small._table({**X, "text": [None] * 3 + list(X["text"][3:])}))
    with torch.no_grad():
        g = small.nodes(small._linked(batch)).numpy()
        score = small.batch_score(batch, torch.Generator()).numpy()
    for i in range(6):
        pairs = [(0, 2)] if i < 3 else [(0, 1), (0, 2), (1, 2)]
        assert score[i] == pytest.approx(np.mean([1 - g[i, a] @ g[i, b] for a, b in pairs]))


def test_a_sample_with_one_part_has_no_link_and_a_neutral_score(small, data):
    X = {"image": data.X_test["image"][:5], "text": None, "series": None}
    np.testing.assert_array_equal(small.anomaly_score(X), np.zeros(5))


@pytest.mark.parametrize("parameters", [{"n_neighbors": -1}, {"temperature": 0.0}])
def test_a_wrong_parameter_is_named_with_what_to_give(data, parameters):
    with pytest.raises(DetectorError, match=r"n_neighbors is .* and temperature"):
        GraphFusion(epochs=1, **parameters).fit({name: part[:50] for name, part in data.X_train.items()})
