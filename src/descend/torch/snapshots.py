"""A module as it was: copies of parameters and buffers, and their way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from descend.torch.modes import put_buffers


@dataclass(slots=True)
class Snapshot:
    """The module as it was, with the row of the history that tells of it."""

    epoch: int
    step: int
    score: float
    row: dict[str, float | None]
    module: dict[str, Any]


def copied(module: Any) -> dict[str, Any]:
    """A copy of the module's parameters and buffers, those left out of its ``state_dict`` too."""
    with torch.no_grad():
        kept = {f"p:{name}": p.detach().clone() for name, p in module.named_parameters()}
        return kept | {f"b:{name}": b.detach().clone() for name, b in module.named_buffers()}


def restore(module: Any, kept: dict[str, Any]) -> None:
    """Puts a copy back, in place: optimizers and compiled modules go on holding the same tensors."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(kept[f"p:{name}"])
            p.grad = None
    put_buffers(module, {name[2:]: value for name, value in kept.items() if name.startswith("b:")})
