"""``configure_batch_size`` for PyTorch modules: which batch size, with which learning rate, within memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

import torch

from descend.batch_size.findings import Findings
from descend.batch_size.plan import Plan
from descend.batch_size.search import search
from descend.batch_size.trainer import Look
from descend.configuring import BUDGET_SECONDS, PILOT_SHARES, affordable_target, plan_record
from descend.errors import InputError
from descend.settings import finite_number
from descend.torch.checks import check_numbers
from descend.torch.modes import autograd_on, numbers_kept
from descend.torch.module_trainer import ModuleTrainer
from descend.torch.step_memory import measure_memory, set_evaluation, set_parts, with_memory

MEMORY_SHARE, LEAST_FOR_MEMORY = 0.15, 5.0
"""Of the budget, and seconds at the least: a size that kills the run costs all of it."""

ROUNDING = 1e-5
"""A gain below this share of the loss is none: looks at other numbers of rows at once round differently."""


@autograd_on()
@numbers_kept()
def configure_batch_size(
    module: Any,
    loss: Any,
    data: Any,
    optimizer: Any = None,
    *,
    target_loss: float | None = None,
    seconds: float | None = None,
    optimizer_options: Mapping[str, Any] | None = None,
    parameter_groups: Any = None,
    weights: Any = None,
    validation: Any = None,
    reduction: str | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    memory_limit: int | None = None,
    device: Any = "auto",
    seed: int = 0,
    progress: Callable[[Findings], object] | None = None,
) -> Plan:
    """Which batch size, with which learning rate, and why; ``module`` is as it was afterwards, to the bit.

    ``module``, ``loss``, ``data``, ``optimizer`` (a class or a callable of parameters), ``optimizer_options``,
    ``parameter_groups``, ``weights``, ``reduction``, ``collate``, ``device``: as in ``fit``. ``target_loss``: the
    mean loss over ``validation``, or over a tenth of the rows (2,000 at most), that counts as done; without one, what
    is left of the gap between the first loss and the best of a first run in a quarter of the time. ``seconds``:
    about how long it may take, 30 by default. ``memory_limit``: bytes for the process; on a GPU, there.

    A target that is met already is refused at once. Then memory is measured: on the CPU in processes of their own
    with a limit, on a GPU by its allocator; where a dataset's items differ in size, by the longest. Batches of more
    rows than there is room for go in microbatches, whose gradients add up exactly; where layers such as BatchNorm
    couple rows, no such batch is considered.

    Raises ``InputError`` naming what cannot be used, a target that is met before the first step, or that not even a
    single row fits, or that the time is over before anything was trained.
    """
    began = time.perf_counter()
    check_numbers(seconds=seconds)
    target_loss = finite_number("target_loss", target_loss)
    budget = BUDGET_SECONDS if seconds is None else float(seconds)
    trainer = ModuleTrainer(
        module,
        loss,
        data,
        optimizer,
        optimizer_options,
        parameter_groups,
        weights,
        validation,
        reduction,
        device,
        seed,
        budget,
        collate,
    )
    first_loss = trainer.first_loss()
    if not isfinite(first_loss):
        raise InputError(
            "the loss over held-out rows is infinite or no number before the first step: look for nan in the data, "
            "or a logarithm of 0 in the loss"
        )
    if target_loss is not None and first_loss <= target_loss:
        raise InputError(
            f"target_loss {target_loss:g} is met before the first step ({first_loss:.6g} over held-out rows); give "
            "one below that, or leave it out"
        )
    started = time.perf_counter()
    memory_seconds = max(MEMORY_SHARE * budget, LEAST_FOR_MEMORY)
    limits = measure_memory(trainer, memory_limit, memory_seconds)
    set_parts(trainer, limits)
    look_peak = set_evaluation(trainer, limits, memory_seconds)
    # Forks of a large process on a busy machine: what they take beyond their share is not taken off the search.
    trainer.add_time(max(0.0, time.perf_counter() - started - MEMORY_SHARE * budget))
    threads_before = torch.get_num_threads()
    try:
        threads = trainer.choose_threads()
        target, best_loss, share = _target(trainer, first_loss, target_loss, budget)
        found = search(
            trainer,
            target,
            max(0.0, trainer.seconds_left),
            seed,
            ceiling=limits.rows if trainer.coupled else None,
            on_change=progress,
        )
    finally:
        torch.set_num_threads(threads_before)
    record = plan_record(
        found,
        trainer.optimizer_name,
        trainer.options.get("momentum"),
        threads,
        time.perf_counter() - began,
        {"command": None, "budget_seconds": budget, "seeds": [seed]},
        share=share,
        device=str(trainer.device),
        data=describe_rows(trainer),
        model=type(module).__name__,
        first_loss=first_loss,
        best_loss=best_loss,
    )
    return Plan(with_memory(record, trainer, limits, look_peak))


def _target(
    trainer: ModuleTrainer, first_loss: float, asked: float | None, budget: float
) -> tuple[float, float, float | None]:
    """The loss that counts as done, the best of a first run, and the share of the gap where none was asked for."""
    if asked is not None:
        return float(asked), float(asked), None
    seen: list[Look] = []
    seconds = PILOT_SHARES["mlp"] * budget
    end = time.perf_counter() + min(trainer.seconds_left, seconds)

    def look(now: Look) -> bool:
        seen.append(now)
        return time.perf_counter() >= end

    size = min(32, trainer.num_rows)
    trainer.train(size, trainer.first_rate(size), trainer.seed, look)
    best = min((now.loss for now in seen if isfinite(now.loss)), default=first_loss)
    if not best < first_loss - ROUNDING * abs(first_loss):
        raise InputError(
            f"a first run of {seconds:.3g} s gained nothing: the loss was {first_loss:.6g} before it; "
            "give more seconds, or a target_loss"
        )
    target, share = affordable_target(
        first_loss, best, lambda target: next(now.seconds for now in seen if now.loss <= target), budget
    )
    return target, best, share


def describe_rows(trainer: ModuleTrainer) -> dict[str, Any]:
    """What the page says about the data."""
    return {
        "name": "the module's data",
        "rows": trainer.num_rows,
        "validation_rows": trainer.looked_at.num_rows,
        "notes": list(trainer.notes),
    }
