"""The mean loss over rows that are held out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from descend.torch.batches import Batches
from descend.torch.criterion import Criterion
from descend.torch.modes import modes_kept
from descend.torch.nested import count_rows


def evaluate(
    module: Any,
    call: Callable[[Any], Any],
    criterion: Criterion,
    batches: Batches,
    set_modes: Callable[[], object] | None = None,
) -> float:
    """The mean loss over rows as they lie, without gradients, in evaluation mode or what ``set_modes`` sets.

    Of a loss that is not known it is the mean of the batches' losses, each by its rows.
    """
    total: Any = 0.0
    count: Any = 0.0
    batches.set_epoch(1)
    with modes_kept(module), torch.no_grad():
        (module.eval if set_modes is None else set_modes)()
        for batch in batches:
            y, weights = batch[1], batch[2] if len(batch) == 3 else None
            output = call(batch[0])
            if criterion.adds_up:
                total = total + _wide(criterion.part(output, y, weights, 1.0))
                sums = criterion.reduction == "sum"
                count = count + (_rows(y, weights) if sums else criterion.divisor(y, weights))
            else:
                total = total + _wide(criterion(output, y, weights)) * count_rows(y)
                count = count + count_rows(y)
    return float(total / count) if count else float("nan")


def _rows(y: Any, weights: Any) -> Any:
    return float(count_rows(y)) if weights is None else weights.sum()


def _wide(value: torch.Tensor) -> torch.Tensor:
    """In float64, which Apple's GPUs do not have."""
    return value.float() if value.device.type == "mps" else value.double()
