"""Fusion by attention between the modalities, and the contrastive loss that aligns them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmad_utils import networks
from mmad_utils.detector import DetectorError
from mmad_utils.multimodal.deep_fusion import DeepFusion

__all__ = ["CrossAttentionFusion", "contrastive_loss"]


@dataclass(kw_only=True, eq=False, repr=False)
class CrossAttentionFusion(DeepFusion):
    """Attention between the modalities, trained to separate matching parts from shuffled ones.

    Each part becomes a token: a projection plus a learned vector of its modality. In each layer a token attends to
    the tokens of the *other* modalities and to a summary token, which attends to all. Missing parts are masked. The
    score is computed from the summary token: the logit that the parts do not belong together.

    In the negatives one part of each sample is replaced by that of another sample of the batch. The loss is the
    binary cross-entropy, with equal weight of true and shuffled samples, plus ``alignment`` times the contrastive
    loss of the projections ("align before fuse"). Some shuffled samples match at random. This limits the confidence
    of the predictions, but not the ranking.

    **The training negatives resemble one kind of test anomaly**: a sample with a part of another sample. The kind
    "mismatch" of ``paired_digits`` is made like the negatives, so its AUROC is no evidence for other anomalies.

    Parameters
    ----------
    width : int, default=64
        Width of the tokens; a multiple of ``heads``.
    heads, layers : int, default=4 and 2
    attention : bool, default=True
        False replaces the attention layers by a perceptron on the concatenated tokens, as an ablation.
    n_shuffled : int, default=2
        Number of shuffled versions of each batch.
    alignment : float, default=1.0
    temperature : float, default=0.2, of the contrastive loss
    dropout : float, default=0.2, of the input of the projections and in the layers
    other parameters
        Those of ``DeepFusion``.

    Notes
    -----
    From the papers: attention layers with pre-norm (Vaswani et al., Xiong et al.), shuffled pairs as negatives
    (Arandjelović and Zisserman), the contrastive loss before the fusion (Li et al.). Of this project: attention
    masked to the other modalities, shuffled tokens instead of shuffled inputs, and the logit as an anomaly score. On
    ``paired_digits`` the contrastive loss contributes most, and the attention contributes nothing beyond the spread
    of seeds: benchmarks/README.md, "Fusion of paired modalities".

    References
    ----------
    A. Vaswani et al. (2017), Attention is all you need, NeurIPS.
    R. Xiong et al. (2020), On layer normalization in the transformer architecture, ICML (pre-norm).
    R. Arandjelović, A. Zisserman (2017), Look, listen and learn, ICCV: learning whether two modalities correspond.
    J. Li et al. (2021), Align before fuse, NeurIPS: sections 3.2 and 3.3.
    """

    width: int = 64
    heads: int = 4
    layers: int = 2
    attention: bool = True
    n_shuffled: int = 2
    alignment: float = 1.0
    temperature: float = 0.2
    dropout: float = 0.2
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 3e-3

    def build(self, shape):
        """Projections to tokens, the layers, and the head."""
        if self.width % self.heads or self.n_shuffled < 1 or self.temperature <= 0:
            raise DetectorError(
                f"width {self.width!r}, heads {self.heads!r}, n_shuffled {self.n_shuffled!r}, temperature "
                f"{self.temperature!r}; give a width that is a multiple of heads, n_shuffled of at least 1, and a "
                "temperature above 0."
            )
        projections = (
            nn.Sequential(nn.Dropout(self.dropout), networks.mlp([d, self.width, self.width])) for d in self.widths_
        )
        layers: list[nn.Module] = [
            networks.AttentionLayer(self.width, self.heads, self.dropout) for _ in range(self.layers)
        ]
        if not self.attention:
            layers = [networks.mlp([len(self.widths_) * self.width, 4 * self.width, self.width])]
        return nn.ModuleDict(
            {
                "projections": nn.ModuleList(projections),
                "names": nn.Embedding(len(self.widths_) + 1, self.width),
                "layers": nn.ModuleList(layers),
                "head": nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, 1)),
            }
        )

    def tokens(self, codes: list[Tensor]) -> Tensor:
        """Projections, (n, m, width), before the vectors of the modalities are added."""
        return torch.stack([project(x) for project, x in zip(self.network_["projections"], codes)], dim=1)

    def logit(self, tokens: Tensor, present: Tensor) -> Tensor:
        """(n, m, width) -> logit that the parts do not belong together, (n,)."""
        names = self.network_["names"].weight
        if not self.attention:
            x = self.network_["layers"][0]((tokens * present[..., None]).flatten(1))
            return self.network_["head"](x)[:, 0]
        x = torch.cat([names[0].expand(len(tokens), 1, -1), tokens + names[1:]], dim=1)
        allowed = others_only(present)
        for layer in self.network_["layers"]:
            x = layer(x, allowed)
        return self.network_["head"](x[:, 0])[:, 0]

    def loss(self, batch, generator):
        """Binary cross-entropy of matching and shuffled samples, and the contrastive loss of the projections."""
        codes, present = self.parts(batch)
        present = self.drop(present, generator)
        tokens = self.tokens(codes)
        copies = [shuffled(tokens, present, generator) for _ in range(self.n_shuffled)]
        matching = functional.softplus(self.logit(tokens, present)).mean()
        logits = self.logit(torch.cat([mixed for mixed, _ in copies]), present.repeat(self.n_shuffled, 1))
        foreign = torch.cat([changed for _, changed in copies]).to(logits)
        apart = (functional.softplus(-logits) * foreign).sum() / foreign.sum().clamp(min=1)
        loss = (matching + apart) / 2
        return loss + self.alignment * contrastive_loss(tokens, present, self.temperature) if self.alignment else loss

    def batch_score(self, batch, generator):
        """The logit."""
        codes, present = self.parts(batch)
        return self.logit(self.tokens(codes), present)


def others_only(present: Tensor) -> Tensor:
    """Attention mask of the summary token and m parts: no part attends to itself, and none to a missing part.

    Parameters
    ----------
    present : (n, m) bool

    Returns
    -------
    (n, 1, 1 + m, 1 + m) bool, the same for all heads; the summary, which comes first, attends to all
    """
    allowed = ~torch.eye(present.shape[1] + 1, dtype=torch.bool, device=present.device)
    allowed[0, 0] = True
    return allowed & functional.pad(present, (1, 0), value=True)[:, None, None]


def shuffled(tokens: Tensor, present: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace one part of each sample by that of another sample.

    Parameters
    ----------
    tokens : (n, m, d)
    present : (n, m) bool

    Returns
    -------
    (n, m, d), and whether a sample now has both a replaced part and one of its own, (n,) bool
    """
    n, m = present.shape
    others = (torch.arange(n) + torch.randint(1, max(n, 2), (n,), generator=generator)) % n
    chosen = (torch.rand(n, m, generator=generator).to(present.device) * present).argmax(dim=1)
    exchanged = functional.one_hot(chosen, m).bool() & present & present[others]
    foreign = (
        exchanged.any(dim=1) & (present.sum(dim=1) > 1) & (others.to(chosen.device) != torch.arange(n).to(chosen))
    )
    return torch.where(exchanged[..., None], tokens[others], tokens), foreign


def contrastive_loss(tokens: Tensor, present: Tensor, temperature: float) -> Tensor:
    """InfoNCE between each two modalities, in both directions, over the samples that have both parts.

    The mean of −log softmax_j(cos(t_ia, t_jb) / τ) at j = i, the cross-entropy of finding the matching part of the
    other modality in the batch.

    Parameters
    ----------
    tokens : (n, m, d)
    present : (n, m) bool
    temperature : float > 0, τ

    References
    ----------
    A. van den Oord, Y. Li, O. Vinyals (2018), Representation learning with contrastive predictive coding: equation 4.
    A. Radford et al. (2021), Learning transferable visual models from natural language supervision, ICML.
    """
    directions = functional.normalize(tokens, dim=2)
    losses = [0 * tokens.sum()]
    for a, b in combinations(range(tokens.shape[1]), 2):
        both = present[:, a] & present[:, b]
        if both.sum() > 1:
            logits = directions[both, a] @ directions[both, b].T / temperature
            truth = torch.arange(len(logits), device=logits.device)
            losses += [functional.cross_entropy(logits, truth), functional.cross_entropy(logits.T, truth)]
    return torch.stack(losses).sum() / max(len(losses) - 1, 1)
