"""``configure_batch_size`` for tables: rows and settings in, a plan out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batch_size.branches import Branch
from descend.batch_size.explain import bound_by, explain
from descend.batch_size.findings import Findings, seconds_of
from descend.batch_size.noise import measure_noise
from descend.batch_size.plan import FORMAT, VERSION, Plan
from descend.batch_size.search import search
from descend.comparing.compared import describe_data
from descend.comparing.comparison import TARGET_SHARE
from descend.errors import InputError
from descend.fitting import fit
from descend.machine import describe_machine, held_bytes, num_threads, peak_bytes
from descend.networks.fitting import fit_network
from descend.report.formatting import duration
from descend.settings import Settings, finite_number
from descend.table_trainer import TableTrainer
from descend.target_objective import loss_unit
from descend.types import FloatArray, IntArray
from descend.updates import find_optimizer
from descend.watching import Callback, Observation

if TYPE_CHECKING:
    from descend.features import Prepared

BUDGET_SECONDS = 30.0
PILOT_SHARES = {"linear": 0.5, "mlp": 0.25}
"""Of the budget, what the run with nothing set may take; a linear model's is mostly certified long before."""
SHARES = (TARGET_SHARE, 0.05, 0.2)
"""What may be left of the gap between the first and the best loss: the tightest of which runs fit into the budget."""
RUNS_WITHIN = 12.0
ROWS_OF_MICROBATCH = {"linear": 1, "mlp": 8}
"""Whose gradients tell of the noise."""
DEFAULT_OPTIMIZERS = {"linear": "sgd", "mlp": "adam"}

Progress = Callable[[Findings], object]
"""Called with the findings as they grow, several times a second."""


def configure_prepared(
    prepared: Prepared,
    settings: Settings,
    model: str = "linear",
    budget: float | None = None,
    target_loss: float | None = None,
    data_name: str = "X",
    command: str | None = None,
    progress: Progress | None = None,
    pilot_progress: Callable[[Observation], object] | None = None,
    memory_limit: int | None = None,
) -> Plan:
    """Measures for about ``budget`` seconds (30 by default), and says which batch size, with which rate, and why.

    ``pilot_progress`` sees the first run, which has nothing set; ``progress`` all that comes after it.
    Raises ``InputError`` naming a setting that does not go with it, a target that no run can reach or that is
    reached before the first step, or a ``memory_limit`` (bytes, of the process) that runs do not keep to.
    """
    from descend.engines.kernel_cache import bytes_left_by_compiling, seconds_compiling

    target_loss = finite_number("target_loss", target_loss)
    check_memory(held_bytes(), memory_limit, "with the rows in it the process holds")
    began = time.perf_counter()
    budget = BUDGET_SECONDS if budget is None else budget
    settings = with_optimizer(settings, model)
    settings = replace(settings, batch_size="auto", learning_rate="auto").checked()
    trainer = TableTrainer(prepared, settings, model)
    started, compiling = time.perf_counter(), seconds_compiling()  # what loads kernels, once, is not tuning
    first_loss = first_loss_of(trainer, prepared)
    _check_first(first_loss, target_loss)
    seconds = PILOT_SHARES[model] * budget
    held = held_bytes() - bytes_left_by_compiling()
    pilot, best_loss = _pilot(
        prepared, settings, model, seconds, () if pilot_progress is None else (pilot_progress,)
    )
    by_pilot = max(0, held_bytes() - bytes_left_by_compiling() - held)
    target, share = _target(first_loss, best_loss, target_loss, pilot, budget)
    rows_each = ROWS_OF_MICROBATCH[model]
    spent = time.perf_counter() - started - (seconds_compiling() - compiling)
    found = search(trainer, target, max(0.0, budget - spent), settings.seed, on_change=progress)
    check_memory(
        trainer.scales.most_bytes, memory_limit, "runs on these rows, at whatever batch size, come to hold"
    )
    uses_momentum = find_optimizer(settings.optimizer).uses_momentum
    return Plan(
        plan_record(
            found,
            settings.optimizer,
            settings.momentum if uses_momentum else None,
            num_threads(settings.threads),
            time.perf_counter() - began,
            {
                "loss": settings.loss,
                "penalty": settings.penalty or "none",
                "alpha": settings.alpha,
                "standardize": settings.standardize,
                "hidden": list(settings.hidden) if model == "mlp" else None,
                "command": command,
                "budget_seconds": budget,
                "seeds": [settings.seed],
            },
            beside=_beside(found, pilot, model),
            share=share,
            noise={
                "first": noise_at(trainer, trainer.start, rows_each, settings.seed),
                "last": noise_at(trainer, pilot.model.parameters, rows_each, settings.seed),
            },
            # A run that loads its kernels, and no others than its own, holds less than this process.
            peak=max(held, trainer.scales.most_bytes - bytes_left_by_compiling() - by_pilot),
            data=describe_data(prepared, data_name),
            model=model,
            first_loss=first_loss,
            best_loss=best_loss,
        )
    )


def check_memory(taken: int, limit: int | None, what: str) -> None:
    """Raises ``InputError`` where more is held than may be: no batch size changes that, for steps take a few rows."""
    if limit is not None and taken > limit:
        raise InputError(
            f"memory limit {limit / 1e6:,.0f} MB is too low: {what} {taken / 1e6:,.0f} MB; give more, or fewer "
            "rows or columns"
        )


def with_optimizer(settings: Settings, model: str) -> Settings:
    """The settings with the optimizer that ``auto`` means; raises ``InputError`` for one without batches."""
    if settings.optimizer == "auto":
        settings = replace(settings, optimizer=DEFAULT_OPTIMIZERS[model])
    if not find_optimizer(settings.optimizer).elementwise:
        raise InputError(
            f"optimizer is {settings.optimizer!r}, which works out its own steps, and no batch size is worked out "
            "for it; take sgd, momentum, nesterov, adagrad, rmsprop, adam or adamw"
        )
    return settings


def _pilot(
    prepared: Prepared, settings: Settings, model: str, seconds: float, callbacks: Sequence[Callback] = ()
) -> tuple[Any, float]:
    """A run with nothing set, and the lowest loss it came to."""
    plain = replace(
        settings,
        optimizer="auto",
        batch_size="auto",
        learning_rate="auto",
        schedule="constant",
        seconds=seconds,
    )
    train = replace(prepared, validation=None)
    if model == "linear":
        run: Any = fit(train, plain, callbacks=callbacks)
        return run, float(run.history.last["loss"])
    run = fit_network(train, plain, callbacks=callbacks)
    return run, min(loss for loss in run.history["loss"] if loss is not None)


def noise_at(
    trainer: TableTrainer, parameters: FloatArray, rows_each: int, seed: int
) -> dict[str, Any] | None:
    """Gradient noise at these parameters, JSON-able."""

    def gradient(rows: IntArray) -> FloatArray:
        return np.asarray(trainer.engine.loss_and_gradient(parameters, rows).gradient / len(rows))

    noise = measure_noise(gradient, trainer.num_rows, rows_each, seed)
    if noise is None:
        return None
    low, high = (end if isfinite(end) else None for end in noise.interval)
    return {"trace": noise.trace, "square": noise.square, "simple": noise.simple, "interval": [low, high]}


def first_loss_of(trainer: TableTrainer, prepared: Prepared) -> float:
    """The objective before the first step, in the target's units."""
    unit = loss_unit(prepared.target, trainer.engine.loss.name)
    return float(trainer.engine.mean_loss(trainer.start)) * unit


def _check_first(first: float, asked: float | None) -> None:
    """What is wrong before the first step is said before any."""
    if not isfinite(first):
        raise InputError(
            f"the loss is {first:g} before the first step; are columns or target so large that their squares "
            "leave the range of float32? Standardise them"
        )
    if asked is not None and asked >= first:
        raise InputError(
            f"target loss {asked:g} is met before the first step ({first:.6g}); give one below that, or leave it out"
        )


def _target(
    first: float, best: float, asked: float | None, pilot: Any, budget: float
) -> tuple[float, float | None]:
    """The loss that counts as done, and the share of the gap that it leaves where it was not asked for."""
    if not isfinite(best) or not best < first:
        raise InputError(
            f"nothing can be gained here: the loss is {first:.6g} before the first step, and {best:.6g} is the "
            "lowest found; are the columns of any use for the target?"
        )
    is_lowest = pilot.history.rule == "certified"
    if asked is not None:
        if is_lowest and asked < best:
            raise InputError(
                f"target loss {asked:g} cannot be reached: {best:.6g} is the lowest that there is with this loss "
                "and penalty; give one above that, or leave it out"
            )
        return asked, None
    return affordable_target(
        first, best, lambda target: seconds_to(pilot, target), inf if is_lowest else budget
    )


def affordable_target(
    first: float, best: float, seconds_to: Callable[[float], float], budget: float
) -> tuple[float, float]:
    """The tightest target of which some runs fit into the budget, and the share of the gap that it leaves."""
    for share in SHARES:
        target = best + share * (first - best)
        if seconds_to(target) * RUNS_WITHIN <= budget:
            break
    return target, share


def seconds_to(run: Any, target: float) -> float:
    """Seconds of training after which a run had this loss."""
    for seconds, loss in zip(run.history["seconds"], run.history["loss"], strict=True):
        if loss is not None and loss <= target:
            return float(seconds)
    return float(run.history.last["seconds"])


def _beside(found: Findings, pilot: Any, model: str) -> str:
    """How the default of ``fit`` did, where it was faster than the best found."""
    best = found.best
    seconds = seconds_to(pilot, found.target)
    if best is None or model != "linear" or seconds >= best.seconds:
        return ""
    return f"fit with nothing set ({pilot.optimizer}) was there in {duration(seconds)}"


def plan_record(
    found: Findings,
    optimizer: str,
    momentum: float | None,
    threads: int,
    tuning_seconds: float,
    settings: dict[str, Any],
    *,
    beside: str = "",
    share: float | None = None,
    noise: dict[str, Any] | None = None,
    device: str = "cpu",
    peak: int = 0,
    **more: Any,
) -> dict[str, Any]:
    """The plan as JSON-able data; ``more`` is kept beside it."""
    best, law = found.best, found.steps
    size = found.prior if best is None else best.batch_size
    times, peak = seconds_of(found), peak or peak_bytes()
    explanation = explain(found, optimizer, beside, share)
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": explanation[0],
        "explanation": explanation,
        "batch_size": size,
        "microbatch": size,
        "accumulation": 1,
        "learning_rate": found.prior_rate if best is None else best.rate,
        "optimizer": optimizer,
        "momentum": momentum,
        "threads": threads,
        "device": device,
        "bound_by": bound_by(found),
        "equivalent": list(found.equivalent or (size, size)),
        "matters": found.matters,
        "told": best is not None,
        "target_loss": found.target,
        "target_share": share,
        "predicted": {
            "step_seconds": found.longer * found.times.at(size),
            "peak_bytes": peak,
            "seconds_to_target": None if times is None else times[0],
            "seconds_to_target_interval": None if times is None else [times[1], times[2]],
        },
        "evidence": {
            "step_seconds": {str(b): found.times.seconds[b] for b in found.times.sizes},
            "step_seconds_interval": {str(b): list(found.times.spread[b]) for b in found.times.sizes},
            "affine": found.times.affine(),
            "knee": found.times.knee,
            "cliffs": found.times.cliffs,
            "prior": found.prior,
            "steps_to_target": {str(b): branch.updates for b, branch in sorted(found.best_of_sizes.items())},
            "critical_batch_size": law.critical if law and len(law.measured) > 1 else None,
            "critical_batch_size_interval": list(law.interval) if law and law.interval else None,
            "seconds_to_target": {str(b): seconds for b, seconds in sorted(found.predicted().items())},
            "noise": noise or {"first": None, "last": None},
            "memory_bytes": dict.fromkeys(map(str, found.times.sizes), peak),
            "branches": [_branch(branch) for branch in [*found.branches, *found.repeats]],
        },
        "tuning_seconds": tuning_seconds,
        "settings": {"optimizer": optimizer, "learning_rate": "auto"} | settings,
        "machine": describe_machine(),
        **more,
    }


def _branch(branch: Branch) -> dict[str, Any]:
    return {
        "batch_size": branch.batch_size,
        "learning_rate": branch.rate,
        "num_seeds": branch.num_seeds,
        "outcome": branch.outcome,
        "seconds": branch.seconds,
        "rows": branch.rows,
        "updates": branch.updates,
        "loss": branch.loss if isfinite(branch.loss) else None,
    }
