"""Training on batches of the modalities in alternation; the network with the lowest validation loss is kept."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmad_utils.training import TrainingError, epoch_log, train, update

__all__ = ["best_epoch", "fingerprint", "train_alternating"]


def train_alternating(
    network: nn.Module,
    losses: Callable[[str, Tensor, torch.Generator], Mapping[str, Tensor]],
    validation_loss: Callable[[], float] | None,
    data: Mapping[str, Tensor],
    *,
    steps_per_epoch: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    generator: torch.Generator,
    checkpoint=None,
    settings: Mapping[str, Any] | None = None,
    log=None,
    verbose: bool = False,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train by AdamW on random batches of the modalities in alternation.

    Each modality gets ``steps_per_epoch`` updates per epoch.

    Parameters
    ----------
    network : nn.Module
        It is trained in place; afterwards it has the weights of the last epoch.
    losses : callable(name, batch, generator) -> dict of scalars, of which the sum is minimised
    validation_loss : callable() -> float, after each epoch, or None
    data : {name: (n, ...)}
    epochs, batch_size, generator, checkpoint, settings, verbose : see ``training.train``
        The checkpoint holds the last and the best network and the optimiser's state.
    log : path or None
        A text file to which one line per epoch is written.

    Returns
    -------
    network : a clone with the weights of the epoch with the lowest validation loss, or the last epoch without it
    history : list of dict

    Raises
    ------
    TrainingError
        See ``training.train``.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    best = copy.deepcopy(network)
    device = next(network.parameters()).device

    def step(_):
        record: dict[str, float] = {"loss": 0.0}
        for name, samples in data.items():
            drawn = torch.randperm(len(samples), generator=generator)[:batch_size]
            parts = losses(name, samples[drawn].to(device), generator)
            loss = torch.stack([*parts.values()]).sum()
            if not torch.isfinite(loss):
                raise TrainingError(f"the loss of {name!r} is {loss.item()}: lower the learning rate.")
            update(optimizer, loss)
            record["loss"] += loss.item()
            record |= {f"{name} {key}": part.item() for key, part in parts.items()}
        return record

    def keep_the_best(history):
        if validation_loss is not None:
            network.eval()
            history[-1]["validation"] = validation_loss()
            network.train()
        if best_epoch(history) == len(history):
            best.load_state_dict(network.state_dict())
        if write is not None:
            write(history)

    write = None if log is None else epoch_log(log, epochs)
    history = train(
        step,
        (torch.arange(steps_per_epoch),),
        epochs=epochs,
        batch_size=1,
        generator=generator,
        after_epoch=keep_the_best,
        checkpoint=checkpoint,
        stateful={"last": network, "best": best, "optimizer": optimizer},
        settings=settings,
        verbose=verbose,
    )
    return best, history


def best_epoch(history) -> int:
    """Number of epochs at the lowest validation loss; all epochs without a validation loss."""
    losses = [entry["validation"] for entry in history if "validation" in entry]
    return 1 + int(np.argmin(losses)) if losses else len(history)


def fingerprint(*parts: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for part in parts:
        for name in sorted(part):
            digest.update(f"{name} {tuple(part[name].shape)}".encode() + part[name].numpy().tobytes())
    return digest.hexdigest()
