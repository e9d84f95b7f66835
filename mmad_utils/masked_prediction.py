"""Hidden tokens, predicted from those in sight: the task for training, and the residual for scoring."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["hidden_loss", "residuals"]

PARTS = 8  # of the tokens, each hidden in turn when a sample is scored


def hidden_loss(
    network: nn.Module, name: str, tokens: Tensor, generator: torch.Generator, share: tuple[float, float]
) -> Tensor:
    """Mean squared error of hidden tokens (He et al. 2022), a scalar.

    Parameters
    ----------
    network : CrossModalTransformer
    name : the modality
    tokens : (n, p, d)
    generator : torch.Generator on the CPU
    share : (low, high) in (0, 1)
        Share of the tokens to hide, drawn for each sample; at least one is hidden and, of several, one in sight.
    """
    n, p = tokens.shape[:2]
    part = share[0] + (share[1] - share[0]) * torch.rand(n, 1, generator=generator)
    counts = (part * p).ceil().clamp(1, max(1, p - 1))
    hide = (torch.rand(n, p, generator=generator).argsort(1) < counts).to(tokens.device)
    _, codes = network(name, tokens, hide)
    return (network.predict[name](codes) - tokens)[hide].square().mean()  # type: ignore[index, operator]


def residuals(network: nn.Module, name: str, tokens: Tensor) -> Tensor:
    """Tokens minus their prediction from other tokens, (n, p, d) to (n, p, d).

    The tokens are divided into at most ``PARTS`` parts, always the same, each hidden in turn. They are scattered,
    so that the neighbours of a hidden place are mostly in sight; up to 8 columns are hidden one by one.
    """
    p = tokens.shape[1]
    result = torch.empty_like(tokens)
    for part in torch.randperm(p, generator=torch.Generator().manual_seed(0)).tensor_split(min(p, PARTS)):
        hide = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        hide[:, part] = True
        _, codes = network(name, tokens, hide)
        result[:, part] = (tokens - network.predict[name](codes))[:, part]  # type: ignore[index, operator]
    return result
