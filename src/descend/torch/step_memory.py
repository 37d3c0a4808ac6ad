"""What steps of a module take of memory, on whatever device it is, and how many rows there is room for.

On the CPU steps are tried in processes of their own with a limit (``batch_size/memory.py``); on a GPU the allocator
tells its peak, on an Apple GPU what its driver has handed out, which shrinks only when it is asked to.
"""

from __future__ import annotations

import time
from math import ceil
from typing import Any

import torch

from descend.batch_size.memory import (
    SAFE_SHARE,
    Ceiling,
    Measure,
    can_be_measured,
    find_ceiling,
    in_children,
    is_about_memory,
)
from descend.errors import InputError
from descend.machine import Room, find_room, status_bytes
from descend.report.formatting import counted
from descend.torch.module_trainer import ModuleTrainer
from descend.torch.sizes import at_once


def measure_memory(trainer: ModuleTrainer, limit: int | None, seconds: float) -> Ceiling:
    """The most rows of a step, measured where it cannot hurt; ``limit``: bytes for the process, or on the GPU."""
    smallest = 1 if trainer.coupled is None else 2
    kind = trainer.device.type
    if kind in ("cuda", "mps"):
        room, measure = _on_gpu(trainer, limit)
        return find_ceiling(measure, trainer.num_rows, room, seconds, smallest)
    room = find_room(limit)
    if kind != "cpu" or not can_be_measured():
        return Ceiling(None, {}, None, room)
    limits = find_ceiling(in_children(_alone(trainer.step), room), trainer.num_rows, room, seconds, smallest)
    if limits.rows is None:  # to train all the same might end this process
        trainer.say_too_short("and more to find what one step takes of memory", seconds)
    return limits


def _alone(step: Any) -> Any:
    """``step`` on one thread: those of the parent are not in a fork."""

    def run(num_rows: int) -> None:
        torch.set_num_threads(1)
        step(num_rows)

    return run


def _on_gpu(trainer: ModuleTrainer, limit: int | None) -> tuple[Room, Measure]:
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
        free, held = (
            int(torch.cuda.mem_get_info(trainer.device)[0]),
            torch.cuda.memory_reserved(trainer.device),
        )
        measure = on_cuda(trainer)
    else:
        torch.mps.empty_cache()
        held = torch.mps.driver_allocated_memory()
        free, measure = max(0, int(torch.mps.recommended_max_memory()) - held), on_mps(trainer)
    room = Room(free, "the GPU's free memory")
    if limit is not None and limit - held < free:
        room = Room(max(0, limit - int(held)), "the limit that was given")
    return room, measure


def on_cuda(trainer: ModuleTrainer) -> Measure:
    """The allocator's peak over two steps; failing allocations and retries count as not fitting."""

    def measure(batch_size: int, end: float) -> int | None:
        if time.monotonic() >= end:
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(trainer.device)
        before = torch.cuda.memory_reserved(trainer.device)
        retries = torch.cuda.memory_stats(trainer.device).get("num_alloc_retries", 0)
        if not _fits(trainer, batch_size, torch.cuda.empty_cache):
            return None
        if torch.cuda.memory_stats(trainer.device).get("num_alloc_retries", 0) > retries:
            return None
        return max(0, int(torch.cuda.max_memory_reserved(trainer.device) - before))

    return measure


def on_mps(trainer: ModuleTrainer) -> Measure:
    """What the driver has handed out after two steps, of which it takes nothing back by itself."""

    def measure(batch_size: int, end: float) -> int | None:
        if time.monotonic() >= end:
            return None
        torch.mps.empty_cache()
        before = int(torch.mps.driver_allocated_memory())
        if not _fits(trainer, batch_size, torch.mps.empty_cache):
            return None
        torch.mps.synchronize()
        return max(0, int(torch.mps.driver_allocated_memory()) - before)

    return measure


def _fits(trainer: ModuleTrainer, batch_size: int, give_back: Any) -> bool:
    """Takes two steps; whether there was memory for them."""
    try:
        for _ in range(2):
            trainer.step(batch_size)
    except RuntimeError as error:
        if not is_about_memory(error):
            raise
        give_back()
        return False
    return True


def set_parts(trainer: ModuleTrainer, limits: Ceiling) -> None:
    """Has larger batches than there is room for go in microbatches, where they can."""
    if limits.rows == 0:
        raise InputError(
            f"not even one row fits: {limits.room.bytes / 1e6:,.0f} MB are left ({limits.room.bound}); raise the "
            "limit, or take a smaller module"
        )
    if limits.rows is not None and limits.rows < trainer.num_rows and trainer.coupled is None:
        trainer.microbatch = limits.rows


def set_evaluation(trainer: ModuleTrainer, limits: Ceiling, seconds: float) -> int | None:
    """Has as many rows looked at together as ``fit`` does, or fewer where those do not fit; their bytes, if measured.

    Where a step of so many rows fits, to look at them does: it takes less.
    """
    wanted = min(at_once(1), trainer.looked_at.num_rows)
    size, peak = wanted, None
    if limits.rows is not None and limits.rows < wanted and trainer.device.type == "cpu":
        look = in_children(_alone(trainer.look_together), limits.room)
        peak = look(wanted, time.monotonic() + seconds)
        if peak is None or peak > SAFE_SHARE * limits.room.bytes:
            size, peak = limits.rows, None
    elif limits.rows is not None:
        size = min(wanted, limits.rows)
    trainer.look_at(trainer.looked_at.num_rows, size)
    return peak


def with_memory(
    record: dict[str, Any], trainer: ModuleTrainer, limits: Ceiling, look_peak: int | None
) -> dict[str, Any]:
    """The plan with microbatches, and what was measured of memory."""
    size, look_rows = record["batch_size"], trainer.looked_at.batch_size
    part = trainer.microbatch if trainer.microbatch is not None and size > trainer.microbatch else size
    record["microbatch"], record["accumulation"] = part, ceil(size / part)
    record["evaluation_batch_size"] = look_rows
    held = status_bytes("VmRSS") if trainer.device.type == "cpu" else 0
    if limits.line is not None:
        at = {
            int(b): limits.line.at(min(int(b), limits.rows or int(b)))
            for b in record["evidence"]["step_seconds"]
        }
        record["evidence"]["memory_bytes"] = {
            str(b): held + limits.peaks.get(b, bytes_) for b, bytes_ in at.items()
        }
        step_peak = limits.peaks.get(part, limits.line.at(part))
        record["predicted"]["peak_bytes"] = held + max(step_peak, look_peak or 0)
    if limits.rows is not None:
        record["evidence"]["ceiling"] = limits.rows
        record["evidence"]["room_bytes"] = held + limits.room.bytes
        record["evidence"]["room_bound"] = limits.room.bound
    if limits.rows is not None and limits.rows < trainer.num_rows:
        record["explanation"].append(_of_memory(size, part, limits, trainer.coupled))
        if look_rows < min(at_once(1), trainer.looked_at.num_rows):
            record["explanation"].append(
                f"Evaluate {counted(look_rows, 'row')} at once (evaluation_batch_size={look_rows}): more do "
                "not fit either."
            )
    return record


def _of_memory(size: int, part: int, limits: Ceiling, coupled: str | None) -> str:
    room = f"{counted(limits.rows or 0, 'row')} fit into memory ({limits.room.bound})"
    if coupled is not None:
        return f"{room}, and larger batches are left out: {coupled}."
    if part == size:
        return f"{room}; larger batches would go in microbatches, whose gradients add up exactly."
    parts = f"{ceil(size / part)} microbatches of {part:,}"
    return f"{room}, so a batch goes in {parts}, whose gradients add up exactly."
