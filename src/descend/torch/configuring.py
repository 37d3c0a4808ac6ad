"""``configure_batch_size`` for PyTorch modules: which batch size, with which learning rate, within memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from math import ceil, isfinite
from typing import Any

import torch

from descend.batch_size.explain import rows
from descend.batch_size.memory import (
    Ceiling,
    Measure,
    can_be_measured,
    find_ceiling,
    in_children,
    is_about_memory,
)
from descend.batch_size.plan import Plan
from descend.batch_size.search import Findings, search
from descend.batch_size.trainer import Look
from descend.configuring import BUDGET_SECONDS, PILOT_SHARE, affordable_target, plan_record
from descend.errors import InputError
from descend.machine import Room, find_room, status_bytes
from descend.torch.checks import check_numbers
from descend.torch.modes import numbers_kept
from descend.torch.module_trainer import ModuleTrainer

MEMORY_SHARE, LEAST_FOR_MEMORY = 0.15, 5.0
"""Of the budget, and seconds at the least: a size that kills the run costs all of it."""


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
    memory_limit: int | None = None,
    device: Any = "auto",
    seed: int = 0,
    progress: Callable[[Findings], object] | None = None,
) -> Plan:
    """Which batch size, with which learning rate, and why; ``module`` is as it was afterwards, to the bit.

    ``module``, ``loss``, ``data``, ``optimizer`` (a class or a callable of parameters), ``optimizer_options``,
    ``parameter_groups``, ``weights``, ``reduction``, ``device``: as in ``fit``. ``target_loss``: the mean loss over
    ``validation``, or over a tenth of the rows (2,000 at most), that counts as done; without one, what is left of the
    gap between the first loss and the best of a first run in a quarter of the time. ``seconds``: about how long it
    may take, 30 by default. ``memory_limit``: bytes for the whole process.

    Memory is measured first: on the CPU in processes of their own with a limit, on a GPU by its allocator. Batches
    of more rows than there is room for go in microbatches, whose gradients add up exactly; where layers such as
    BatchNorm couple rows, no such batch is considered.

    Raises ``InputError`` naming what cannot be used, a target that is met before the first step, or that not even a
    single row fits.
    """
    began = time.perf_counter()
    check_numbers(seconds=seconds)
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
    )
    limits = measure_memory(trainer, memory_limit, max(MEMORY_SHARE * budget, LEAST_FOR_MEMORY))
    set_parts(trainer, limits)
    trainer.look_at_fewer()
    first_loss = trainer.loss_now()
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
    threads_before = torch.get_num_threads()
    try:
        threads = trainer.choose_threads()
        target, best_loss, share = _target(trainer, first_loss, target_loss, budget)
        found = search(
            trainer,
            target,
            max(0.0, budget - (time.perf_counter() - began)),
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
    return Plan(with_memory(record, trainer, limits))


def measure_memory(trainer: ModuleTrainer, limit: int | None, seconds: float) -> Ceiling:
    """The most rows of a step, measured where it cannot hurt."""
    smallest = 1 if trainer.coupled is None else 2
    if trainer.device.type == "cuda":
        room = Room(int(torch.cuda.mem_get_info(trainer.device)[0]), "the GPU's free memory")
        return find_ceiling(on_cuda(trainer), trainer.num_rows, room, seconds, smallest)
    room = find_room(limit)
    if trainer.device.type != "cpu" or not can_be_measured():
        return Ceiling(None, {}, None, room)

    def step(batch_size: int) -> None:
        torch.set_num_threads(1)  # the threads of the parent are not in a fork
        trainer.step(batch_size)

    return find_ceiling(in_children(step, room), trainer.num_rows, room, seconds, smallest)


def on_cuda(trainer: ModuleTrainer) -> Measure:
    """The allocator's peak over two steps; failing allocations and retries count as not fitting."""

    def measure(batch_size: int, end: float) -> int | None:
        if time.monotonic() >= end:
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(trainer.device)
        before = torch.cuda.memory_reserved(trainer.device)
        retries = torch.cuda.memory_stats(trainer.device).get("num_alloc_retries", 0)
        try:
            for _ in range(2):
                trainer.step(batch_size)
        except RuntimeError as error:
            if not is_about_memory(error):
                raise
            torch.cuda.empty_cache()
            return None
        if torch.cuda.memory_stats(trainer.device).get("num_alloc_retries", 0) > retries:
            return None
        return max(0, int(torch.cuda.max_memory_reserved(trainer.device) - before))

    return measure


def set_parts(trainer: ModuleTrainer, limits: Ceiling) -> None:
    """Has larger batches than there is room for go in microbatches, where they can."""
    if limits.rows is None or limits.rows >= trainer.num_rows:
        return
    if limits.rows == 0:
        raise InputError(
            f"not even one row fits: {limits.room.bytes / 1e6:,.0f} MB are left ({limits.room.bound}); raise the "
            "limit, or take a smaller module"
        )
    trainer.looked_at.batch_size = min(trainer.looked_at.batch_size, limits.rows)
    if trainer.coupled is None:
        trainer.microbatch = limits.rows


def _target(
    trainer: ModuleTrainer, first_loss: float, asked: float | None, budget: float
) -> tuple[float, float, float | None]:
    """The loss that counts as done, the best of a first run, and the share of the gap where none was asked for."""
    if asked is not None:
        return float(asked), float(asked), None
    seen: list[Look] = []
    end = time.perf_counter() + PILOT_SHARE * budget

    def look(now: Look) -> bool:
        seen.append(now)
        return time.perf_counter() >= end

    size = min(32, trainer.num_rows)
    trainer.train(size, trainer.first_rate(size), trainer.seed, look)
    best = min((now.loss for now in seen if isfinite(now.loss)), default=first_loss)
    if not best < first_loss:
        raise InputError(
            f"a first run of {PILOT_SHARE * budget:.3g} s gained nothing: the loss was {first_loss:.6g} before it; "
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


def with_memory(record: dict[str, Any], trainer: ModuleTrainer, limits: Ceiling) -> dict[str, Any]:
    """The plan with microbatches, and what was measured of memory."""
    size = record["batch_size"]
    part = trainer.microbatch if trainer.microbatch is not None and size > trainer.microbatch else size
    record["microbatch"], record["accumulation"] = part, ceil(size / part)
    held = status_bytes("VmRSS") if trainer.device.type == "cpu" else 0
    if limits.line is not None:
        at = {
            int(b): limits.line.at(min(int(b), limits.rows or int(b)))
            for b in record["evidence"]["step_seconds"]
        }
        record["evidence"]["memory_bytes"] = {
            str(b): held + limits.peaks.get(b, bytes_) for b, bytes_ in at.items()
        }
        record["predicted"]["peak_bytes"] = held + limits.peaks.get(part, limits.line.at(part))
        record["evidence"]["ceiling"] = limits.rows
        record["evidence"]["room_bytes"] = held + limits.room.bytes
        record["evidence"]["room_bound"] = limits.room.bound
    if limits.rows is not None and limits.rows < trainer.num_rows:
        record["explanation"].append(_of_memory(size, part, limits, trainer.coupled))
    return record


def _of_memory(size: int, part: int, limits: Ceiling, coupled: str | None) -> str:
    room = f"{rows(limits.rows or 0)} fit into memory ({limits.room.bound})"
    if coupled is not None:
        return f"{room}, and larger batches are left out: {coupled}."
    if part == size:
        return f"{room}; larger batches would go in microbatches, whose gradients add up exactly."
    parts = f"{ceil(size / part)} microbatches of {part:,}"
    return f"{room}, so a batch goes in {parts}, whose gradients add up exactly."
