"""The pieces that ``fit`` puts a run together of."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from descend.torch.batches import Batches
from descend.torch.captured import Captured, CudaRecorder, why_not
from descend.torch.criterion import Criterion
from descend.torch.devices import in_precision
from descend.torch.nested import moved_to
from descend.torch.rows import TensorRows
from descend.torch.steps import Pieces, unique


def captured(pieces: Pieces, module: Any, rows: Any, notes: list[str]) -> Pieces:
    """The pieces of a step that is captured, or the same ones with a note of why it is not."""
    reason = why_not(pieces.device, module, pieces.optimizer, rows, pieces.microbatch)
    if reason is not None:
        notes.append(f"cuda_graphs: not captured, {reason}")
        return pieces
    recorder = CudaRecorder(pieces.device)
    return dataclasses.replace(
        pieces, wrap=lambda passes: Captured(passes, module, pieces.parameters, pieces.place, notes, recorder)
    )


def with_gradients(module: Any, optimizer: Any) -> tuple[Any, ...]:
    """Every parameter whose gradient a step starts from nothing: the optimizer's, and the module's others.

    Frozen ones are among them: a callback may thaw them.
    """
    held = [p for group in optimizer.param_groups for p in group["params"]]
    return unique((*held, *module.parameters()))


def with_loss(module: Any, loss: Any, optimizer: Any, notes: list[str]) -> Any:
    """What is kept, put back and written: the module, and a loss whose own parameters the optimizer trains."""
    own = dict(loss.named_parameters()) if isinstance(loss, torch.nn.Module) else {}
    if not own:
        return module
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    left = [name for name, p in own.items() if p.requires_grad and id(p) not in held]
    if left:
        notes.append(
            f"loss: its parameters ({', '.join(left[:3])}) are not trained, for the optimizer has the module's "
            "alone; pass an optimizer instance that has both"
        )
    return torch.nn.ModuleList([module, loss])


def first_rows(batches: Batches, rows: Any, count: int, device: torch.device) -> Any:
    """X of the first ``count`` rows that train, on the device: to try the module on."""
    few = range(batches.source.num_rows) if rows is None else rows
    X = batches.fetch(few[:count])[0]
    return moved_to(X, device)


def may_be_several(rows: Any) -> bool:
    """Whether X can be a tuple of inputs; what a dataset's items are is not known yet."""
    return not isinstance(rows, TensorRows) or isinstance(rows.parts[0], tuple)


def elsewhere(device: torch.device) -> torch.device | None:
    """Where batches are handed out: on the CPU they stay where they are."""
    return None if device.type == "cpu" else device


def in_the_same(criterion: Criterion, device: torch.device, dtype: torch.dtype | None) -> Criterion:
    """The loss under autocast, as the module is."""
    if dtype is None:
        return criterion
    of_rows = criterion.of_rows
    return dataclasses.replace(
        criterion,
        call=in_precision(criterion.call, device, dtype),
        of_rows=None if of_rows is None else in_precision(of_rows, device, dtype),
    )
