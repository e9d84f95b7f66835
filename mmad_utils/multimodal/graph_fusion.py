"""Fusion on a graph: parts are nodes, and link prediction decides whether two parts belong together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.nn import functional

from mmad_utils import networks
from mmad_utils.detector import DetectorError
from mmad_utils.multimodal.attention_fusion import contrastive_loss
from mmad_utils.multimodal.deep_fusion import DeepFusion

__all__ = ["GraphFusion"]


@dataclass(kw_only=True, eq=False, repr=False)
class GraphFusion(DeepFusion):
    """Message passing over samples and modalities; the score is high if the links of a sample are unlikely.

    Every part (i, m) is a node. Edges join the parts of one sample, and each part with those of the ``n_neighbors``
    training samples that are nearest to it in its own modality, N_m(i). Two rounds of messages (mean aggregation, as
    in GraphSAGE):

        h_im = MLP_m(x_im),    g_im = U h_im + V mean_{j ∈ N_m(i)} mean_{m' ≠ m} h_jm'.

    The second sum follows two edges: from an image to a similar image, and then to the other parts of that sample. A
    link between two parts of a sample has the logit cos(g_im, g_im') / τ. Training separates true links from links
    between parts of different samples of the batch (InfoNCE in both directions). The score is the mean of 1 − cos
    over the links of the sample.

    **The training negatives resemble one kind of test anomaly**: a sample with a part of another sample. The kind
    "mismatch" of ``paired_digits`` is made in this way, and so are the single links of every other cross-modal
    anomaly whose parts are each normal.

    With ``n_neighbors=0`` there are no edges between samples, and the model is a joint latent space with a
    contrastive loss, as in CLIP.

    Parameters
    ----------
    n_neighbors : int, default=5
    latent_dim : int, default=32
    hidden : int, default=64
    temperature : float, default=0.2
    dropout : float, default=0.2, of the input
    other parameters
        Those of ``DeepFusion``.

    Attributes
    ----------
    bank_ : (n, sum of widths + m) float64, the training samples in which neighbours are searched

    Notes
    -----
    The messages are an indexing operation and a mean, so no graph library is needed.

    From the papers: mean aggregation (Hamilton et al.), the symmetric contrastive loss (Radford et al.). Of this
    project: the graph of parts, and 1 − cos as an anomaly score. On ``paired_digits`` the edges between samples
    contribute nothing beyond the spread of seeds: benchmarks/README.md, "Fusion of paired modalities".

    References
    ----------
    W. Hamilton, R. Ying, J. Leskovec (2017), Inductive representation learning on large graphs, NeurIPS: algorithm 1.
    A. Radford et al. (2021), Learning transferable visual models from natural language supervision, ICML.
    """

    n_neighbors: int = 5
    latent_dim: int = 32
    hidden: int = 64
    temperature: float = 0.2
    dropout: float = 0.2
    epochs: int = 60
    batch_size: int = 128
    weight_decay: float = 1e-3

    def build(self, shape):
        """For each modality: a network for its nodes, the two matrices of the second round."""
        m = len(self.widths_)
        if self.n_neighbors < 0 or self.temperature <= 0:
            raise DetectorError(
                f"n_neighbors is {self.n_neighbors!r} and temperature {self.temperature!r}; give n_neighbors >= 0 "
                "and temperature > 0."
            )
        return nn.ModuleDict(
            {
                "nodes": nn.ModuleList(
                    nn.Sequential(nn.Dropout(self.dropout), networks.mlp([d, self.hidden, self.hidden]), nn.ReLU())
                    for d in self.widths_
                ),
                "own": nn.ModuleList(nn.Linear(self.hidden, self.latent_dim) for _ in range(m)),
                "heard": nn.ModuleList(nn.Linear(self.hidden, self.latent_dim, bias=False) for _ in range(m)),
            }
        )

    def optimise(self, data, generator):
        """Find the neighbours of each training sample among the others, then train the network."""
        self.bank_ = data.double().cpu().numpy()
        return super().optimise(self._linked(data, itself=True), generator)

    def _linked(self, batch: Tensor, itself: bool = False) -> Tensor:
        """The batch with the row numbers of its neighbours in the bank, (n, ... + m k)."""
        k = min(self.n_neighbors, len(self.bank_) - 1)
        if k == 0:
            return batch
        (codes, _), (bank, there) = self.parts(batch), self.parts(torch.from_numpy(self.bank_))
        columns = []
        for i, x in enumerate(codes):
            members = np.flatnonzero(there[:, i])
            wanted = min(k + itself, len(members))
            search = NearestNeighbors(n_neighbors=wanted).fit(bank[i].numpy()[members])
            found = members[search.kneighbors(x.cpu().numpy(), return_distance=False)]
            if itself:  # a sample must not be its own neighbour: that would reveal its parts
                rows = np.arange(len(found))[:, None]
                others = np.argsort(found == rows, axis=1, kind="stable")[:, : max(wanted - 1, 1)]
                found = np.take_along_axis(found, others, axis=1)
            columns.append(np.pad(found, ((0, 0), (0, k - found.shape[1])), mode="edge"))
        return torch.cat([batch, torch.from_numpy(np.concatenate(columns, axis=1)).to(batch)], dim=1)

    def nodes(self, linked: Tensor) -> Tensor:
        """g of each part, scaled to length 1, (n, m, latent_dim)."""
        m = len(self.widths_)
        codes, _ = self.parts(linked[:, : sum(self.widths_) + m])
        h = [network(x) for network, x in zip(self.network_["nodes"], codes)]
        g = [own(x) for own, x in zip(self.network_["own"], h)]
        if linked.shape[1] > sum(self.widths_) + m:
            neighbours = linked[:, sum(self.widths_) + m :].long().reshape(len(linked), m, -1)
            bank, there = self.parts(torch.tensor(self.bank_).to(linked))  # aligned: bitwise equal results
            states = torch.stack([network(x) for network, x in zip(self.network_["nodes"], bank)], dim=1)  # (N, m, h)
            for i in range(m):
                others = there.clone()
                others[:, i] = False
                weights = others.to(states) / others.sum(dim=1, keepdim=True).clamp(min=1)
                said = torch.einsum("nmh,nm->nh", states, weights)
                g[i] = g[i] + self.network_["heard"][i](said[neighbours[:, i]].mean(dim=1))
        return functional.normalize(torch.stack(g, dim=1), dim=2)

    def loss(self, batch, generator):
        """InfoNCE over the links; see ``contrastive_loss``."""
        _, present = self.parts(batch[:, : sum(self.widths_) + len(self.widths_)])
        present = self.drop(present, generator)
        return contrastive_loss(self.nodes(batch), present, self.temperature)

    def batch_score(self, batch, generator):
        """Mean of 1 − cos over the links between the present parts; 0 if there is only one part."""
        _, present = self.parts(batch)
        g = self.nodes(self._linked(batch))
        score, links = torch.zeros(len(batch)).to(batch), torch.zeros(len(batch)).to(batch)
        for a, b in combinations(range(len(self.widths_)), 2):
            both = (present[:, a] & present[:, b]).to(batch)
            score = score + both * (1 - (g[:, a] * g[:, b]).sum(dim=1))
            links = links + both
        return score / links.clamp(min=1)
