"""``batch_size="auto"`` of ``fit``: what the times of some steps suggest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from descend.batch_size.prior import prior_size
from descend.batch_size.timing import grid, measure_times

TIMING_SECONDS = 0.5
"""What timing steps may take."""
ROUNDS = 2
"""The size goes by the root of what they tell, in powers of two: more rounds make a small job wait for nothing."""


def measured_size(
    module: Any,
    loss: Any,
    rows: Any,
    optimizer: Any,
    options: Mapping[str, Any] | None,
    groups: Any,
    reduction: str | None,
    device: torch.device,
    seed: int,
    notes: list[str],
) -> int:
    """The size that this machine's step times suggest, with a note of it; no run is tried."""
    from descend.torch.module_trainer import ModuleTrainer

    kind = type(optimizer) if hasattr(optimizer, "param_groups") else optimizer
    trainer = ModuleTrainer(module, loss, rows, kind, options, groups, None, None, reduction, device, seed)
    began = time.perf_counter()
    times = measure_times(trainer, timed_sizes(trainer), TIMING_SECONDS, rounds=ROUNDS, most_rounds=ROUNDS)
    size = prior_size(times, trainer.num_rows)
    notes.append(
        f"batch size {size}: from step times alone, measured in {time.perf_counter() - began:.2g} s (knee "
        f"{times.knee:.3g} rows); configure_batch_size measures what it does to the loss"
    )
    return size


def timed_sizes(trainer: Any) -> list[int]:
    """Few sizes that tell the knee."""
    return [size for size in grid(trainer.num_rows, ceiling=512)[::3] if trainer.possible(size)]
