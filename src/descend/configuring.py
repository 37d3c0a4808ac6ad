"""``configure_batch_size`` for tables: rows and settings in, a plan out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batch_size.explain import bound_by, duration, explain
from descend.batch_size.noise import measure_noise
from descend.batch_size.plan import FORMAT, VERSION, Plan
from descend.batch_size.search import Findings, search, seconds_of
from descend.comparison import TARGET_SHARE, describe_data
from descend.errors import InputError
from descend.fitting import fit, num_threads
from descend.machine import describe_machine, peak_bytes
from descend.network_fitting import fit_network
from descend.settings import Settings
from descend.table_trainer import TableTrainer
from descend.target_objective import loss_unit
from descend.types import FloatArray, IntArray
from descend.updates import find_optimizer
from descend.watching import Callback, Observation

if TYPE_CHECKING:
    from descend.features import Prepared

BUDGET_SECONDS = 30.0
PILOT_SHARE = 0.25
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
) -> Plan:
    """Measures for about ``budget`` seconds (30 by default), and says which batch size, with which rate, and why.

    ``pilot_progress`` sees the first run, which has nothing set; ``progress`` all that comes after it.
    Raises ``InputError`` naming a setting that does not go with it, or a target that no run can reach or that is
    reached before the first step.
    """
    began = time.perf_counter()
    budget = BUDGET_SECONDS if budget is None else budget
    settings = with_optimizer(settings, model)
    settings = replace(settings, batch_size="auto", learning_rate="auto").checked()
    trainer, pilot, best_loss = _pilot(
        prepared, settings, model, PILOT_SHARE * budget, () if pilot_progress is None else (pilot_progress,)
    )
    first_loss = first_loss_of(trainer, prepared)
    target, share = _target(first_loss, best_loss, target_loss, pilot, budget, model)
    rows_each = ROWS_OF_MICROBATCH[model]
    found = search(
        trainer, target, max(0.0, budget - (time.perf_counter() - began)), settings.seed, on_change=progress
    )
    return Plan(
        plan_record(
            found,
            settings,
            tuning_seconds=time.perf_counter() - began,
            threads=num_threads(settings.threads),
            beside=_beside(found, pilot, model),
            more={
                "data": describe_data(prepared, data_name),
                "model": model,
                "first_loss": first_loss,
                "best_loss": best_loss,
                "target_share": share,
                "command": command,
                "budget_seconds": budget,
                "noise": {
                    "first": noise_at(trainer, trainer.start, rows_each, settings.seed),
                    "last": noise_at(trainer, pilot.model.parameters, rows_each, settings.seed),
                },
            },
        )
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
) -> tuple[TableTrainer, Any, float]:
    """The trainer, a run with nothing set, and the lowest loss it came to."""
    plain = replace(settings, optimizer="auto", batch_size="auto", learning_rate="auto", schedule="constant")
    train, trainer = replace(prepared, validation=None), TableTrainer(prepared, settings, model)
    if model == "linear":
        run: Any = fit(train, plain, callbacks=callbacks)
        return trainer, run, float(run.history.last["loss"])
    run = fit_network(train, replace(plain, seconds=seconds), callbacks=callbacks)
    return trainer, run, min(loss for loss in run.history["loss"] if loss is not None)


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


def _target(
    first: float, best: float, asked: float | None, pilot: Any, budget: float, model: str
) -> tuple[float, float | None]:
    """The loss that counts as done, and the share of the gap that it leaves where it was not asked for."""
    if not isfinite(first) or not isfinite(best) or not best < first:
        raise InputError(
            f"nothing can be gained here: the loss is {first:.6g} before the first step, and {best:.6g} is the "
            "lowest found; are the columns of any use for the target?"
        )
    if asked is not None:
        if asked >= first:
            raise InputError(
                f"target loss {asked:g} is met before the first step ({first:.6g}); give one below that, or leave "
                "it out"
            )
        if model == "linear" and asked < best:
            raise InputError(
                f"target loss {asked:g} cannot be reached: {best:.6g} is the lowest that there is with this loss "
                "and penalty; give one above that, or leave it out"
            )
        return asked, None
    for share in SHARES:
        target = best + share * (first - best)
        if model == "linear" or seconds_to(pilot, target) * RUNS_WITHIN <= budget:
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
    settings: Settings,
    tuning_seconds: float,
    threads: int,
    beside: str,
    more: dict[str, Any],
    device: str = "cpu",
) -> dict[str, Any]:
    """The plan as JSON-able data."""
    best, law = found.best, found.steps
    size = found.prior if best is None else best.batch_size
    rate = found.prior_rate if best is None else best.rate
    times = seconds_of(found)
    optimizer = find_optimizer(settings.optimizer)
    explanation = explain(found, settings.optimizer, beside)
    return {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": explanation[0],
        "explanation": explanation,
        "batch_size": size,
        "microbatch": size,
        "accumulation": 1,
        "learning_rate": rate,
        "optimizer": settings.optimizer,
        "momentum": settings.momentum if optimizer.uses_momentum else None,
        "threads": threads,
        "device": device,
        "bound_by": bound_by(found),
        "equivalent": list(found.equivalent or (size, size)),
        "matters": found.matters,
        "told": best is not None,
        "target_loss": found.target,
        "predicted": {
            "step_seconds": found.times.at(size),
            "peak_bytes": peak_bytes(),
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
            "critical_batch_size": None if law is None else law.critical,
            "critical_batch_size_interval": None
            if law is None or law.interval is None
            else list(law.interval),
            "seconds_to_target": {str(b): seconds for b, seconds in sorted(found.predicted().items())},
            "noise": more.pop("noise"),
            "memory_bytes": {str(b): peak_bytes() for b in found.times.sizes},
            "branches": [
                {
                    "batch_size": b.batch_size,
                    "learning_rate": b.rate,
                    "num_seeds": b.num_seeds,
                    "outcome": b.outcome,
                    "seconds": b.seconds,
                    "rows": b.rows,
                    "updates": b.updates,
                    "loss": b.loss if isfinite(b.loss) else None,
                }
                for b in [*found.branches, *found.repeats]
            ],
        },
        "tuning_seconds": tuning_seconds,
        "settings": {
            "loss": settings.loss,
            "penalty": settings.penalty or "none",
            "alpha": settings.alpha,
            "optimizer": settings.optimizer,
            "learning_rate": "auto",
            "standardize": settings.standardize,
            "hidden": list(settings.hidden) if more["model"] == "mlp" else None,
            "command": more.pop("command"),
            "budget_seconds": more.pop("budget_seconds"),
            "seeds": [settings.seed],
        },
        "machine": describe_machine(),
        **more,
    }
