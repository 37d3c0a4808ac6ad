"""One training run, put together: prepared data and settings in, a model with its history out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.averaging import TailAverage
from descend.batches import Visits, check_batch_size
from descend.engines.base import Rule, State
from descend.history import History
from descend.learning_rate import Rate, automatic_rate, batch_curvature
from descend.models.linear import LinearModel, initialise
from descend.objectives.losses import Loss, find_loss
from descend.objectives.penalties import Penalty, find_penalty
from descend.settings import Settings, default_batch_size, default_optimizer, most_epochs
from descend.training import train
from descend.types import Dataset, FloatArray
from descend.updates import Optimizer, find_optimizer
from descend.updates.schedules import find_schedule
from descend.watching import Callback, Limits, Watch

if TYPE_CHECKING:
    from descend.engines.curvature import Curvature
    from descend.features import Prepared

AVERAGE_ROWS = 16
"""The average takes in the parameters every 16 rows: at batch size 1 every step would double the step's cost."""


@dataclass(slots=True)
class Run:
    """A finished run."""

    model: LinearModel
    batch_size: int
    batch_size_reason: str
    optimizer: str
    rate: Rate
    history: History
    path: list[FloatArray] = field(default_factory=list)
    """Parameters at each observation, where asked for."""

    @property
    def stopped(self) -> str:
        return self.history.stopped


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do, every ``auto`` resolved."""

    loss: Loss
    penalty: Penalty
    batch_size: int
    batch_size_reason: str
    optimizer: Optimizer
    rate: Rate
    visits: Visits
    average: bool
    curvature: Curvature


def resolve(prepared: Prepared, settings: Settings) -> Plan:
    """Settles every setting that was left to descend; raises ``InputError`` where one does not fit the data."""
    from descend.engines.curvature import measure_curvature

    data = prepared.train
    target = prepared.target
    loss = find_loss(settings.loss, target.task, target.num_outputs)
    penalty = find_penalty(settings.penalty, settings.alpha)
    wanted, reason = settings.batch_size, "as asked"
    if wanted == "auto":
        wanted, reason = default_batch_size(data.num_rows)
    batch_size = data.num_rows if wanted == "full" else int(check_batch_size(wanted, data.num_rows))
    full_batch = batch_size >= data.num_rows
    name = default_optimizer(full_batch) if settings.optimizer == "auto" else settings.optimizer
    optimizer = find_optimizer(name)
    by_curvature = settings.learning_rate == "auto" and not optimizer.scale_free
    curvature = measure_curvature(data, loss, settings.seed, split=by_curvature and not full_batch)
    rate = choose_rate(settings, optimizer, batch_size, penalty, curvature)
    average = by_curvature and not full_batch if settings.average == "auto" else settings.average
    return Plan(loss, penalty, batch_size, reason, optimizer, rate, curvature.visits, average, curvature)


def choose_rate(
    settings: Settings, optimizer: Optimizer, batch_size: int, penalty: Penalty, curvature: Curvature
) -> Rate:
    """The rate asked for, or the automatic one; "sum" takes steps B times as long, so it gets 1/B of the rate."""
    mean, row = curvature.mean + penalty.alpha, curvature.row + penalty.alpha
    num_visits = curvature.visits.num_visits
    if settings.learning_rate != "auto":
        return Rate(float(settings.learning_rate), 2.0 / mean, "as asked")
    rate = automatic_rate(optimizer, batch_size, num_visits, mean, row, settings.momentum)
    if settings.reduction == "sum":
        return replace(rate, value=rate.value / batch_size, bound=rate.bound / batch_size)
    return rate


def fit(
    prepared: Prepared,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    initial: FloatArray | None = None,
    keep_path: bool = False,
    give_up_after: int | None = None,
) -> Run:
    """Trains a linear model.

    ``initial`` (k, d + 1): start there instead of at zero. ``give_up_after`` epochs a run ends that has neither
    ``epochs`` nor stops by itself.
    """
    from descend.engines.linear import LinearEngine

    settings = settings.checked()
    plan = resolve(prepared, settings)
    data = prepared.train
    threads = num_threads(settings.threads)
    engine = LinearEngine(
        data,
        plan.loss,
        plan.penalty,
        weights=plan.visits.weights,
        average_every=max(1, AVERAGE_ROWS // plan.batch_size) if plan.average else 0,
        threads=threads,
    )
    validation = None
    if prepared.validation is not None:
        validation = LinearEngine(prepared.validation, plan.loss, plan.penalty, threads=threads)
    epochs = settings.epochs or give_up_after or most_epochs(data.num_rows)
    rule = Rule(
        optimizer=plan.optimizer,
        rate=plan.rate.value,
        schedule=find_schedule(settings.schedule),
        momentum=settings.momentum,
        num_steps=epochs * -(-plan.visits.num_visits // plan.batch_size),
        sum_rows=settings.reduction == "sum",
        fit_intercept=settings.fit_intercept,
    )
    path: list[FloatArray] = []
    watch = Watch(
        engine,
        rule,
        plan.batch_size,
        plan.visits.num_visits,
        Limits(
            epochs=epochs,
            seconds=settings.seconds,
            tol=settings.tol if settings.epochs is None else None,
            patience=settings.n_iter_no_change,
            early_stopping=settings.early_stopping and validation is not None,
            exact=settings.epochs is not None and not settings.early_stopping,
            dense=settings.dense,
        ),
        validation=validation,
        tail=TailAverage() if plan.average else None,
        unit=loss_unit(prepared),
        callbacks=callbacks,
        snapshot=(lambda parameters: path.append(parameters.copy())) if keep_path else None,
    )
    if initial is None:
        initial = initialise(prepared.target.num_outputs, data.num_columns, data.X.dtype)
    state = State(np.array(initial, dtype=data.X.dtype))
    engine.warm_up(rule, plan.batch_size, state)
    parameters = train(
        engine, state, rule, plan.visits, plan.batch_size, watch, settings.seed, not settings.shuffle
    )
    history = watch.history
    history.notes += slow_or_diverged(prepared, plan, settings, history.stopped)
    model = LinearModel(prepared.features, prepared.target, parameters, plan.loss.name, history=history)
    model.summary = summarise(prepared, plan, settings, history)
    return Run(model, plan.batch_size, plan.batch_size_reason, plan.optimizer.name, plan.rate, history, path)


def loss_unit(prepared: Prepared) -> float:
    """Squared error in the target's units over squared error of the standardised target."""
    target = prepared.target
    return 1.0 if target.task == "classification" else float(np.mean(np.square(target.scale)))


def num_threads(threads: int | str) -> int:
    """The threads to use; ``"auto"``: one for each core this process may use."""
    import os

    if threads != "auto":
        return int(threads)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slow_or_diverged(prepared: Prepared, plan: Plan, settings: Settings, stopped: str) -> list[str]:
    """What to tell about a run that failed, or that an unscaled column slowed down: with the column's name."""
    column, share = plan.curvature.steepest_column
    names = prepared.features.names
    blamed = f"column {names[column]!r}" if column < len(names) else "the intercept"
    sharpness = plan.curvature.mean + plan.penalty.alpha
    if stopped == "diverged":
        full, single = batch_curvature(
            plan.batch_size, plan.visits.num_visits, sharpness, plan.curvature.row + plan.penalty.alpha
        )
        bound = 2.0 / (full + single) if np.isfinite(single) else 2.0 / sharpness
        cause = f"{blamed} has {100 * share:.0f} % of the curvature L = {sharpness:.3g}"
        remedy = "" if settings.standardize else "standardise the columns, or "
        return [
            f"diverged: learning rate {plan.rate.value:.3g} against the bound 2/L = {bound:.3g}; {cause}; "
            f'{remedy}take learning_rate="auto"'
        ]
    flattest = column_scales(prepared.train)
    spread = float(flattest.max() / max(flattest[flattest > 0].min(), 1e-300)) if flattest.any() else 1.0
    if spread > 1e4:
        steepest = names[int(np.argmax(flattest))]
        return [
            f"slow: the columns' scales differ by a factor of {spread:.1g}, and the learning rate "
            f"{plan.rate.value:.3g} is held down by column {steepest!r}; standardise the columns"
        ]
    return []


def column_scales(data: Dataset) -> FloatArray:
    """Root mean square of each column over the first rows, shape (d,)."""
    sample = data.X[:10_000].astype(np.float64)
    return np.asarray(np.sqrt(np.mean(sample * sample, axis=0)))


def summarise(prepared: Prepared, plan: Plan, settings: Settings, history: History) -> dict[str, Any]:
    """Settings and figures of a run, JSON-able: what model file, page and ``--json`` show."""
    last = history.last
    return {
        "task": prepared.target.task,
        "loss": plan.loss.name,
        "penalty": settings.penalty or "none",
        "alpha": plan.penalty.alpha,
        "batch_size": plan.batch_size,
        "batch_size_reason": plan.batch_size_reason,
        "learning_rate": plan.rate.value,
        "learning_rate_reason": plan.rate.reason,
        "optimizer": plan.optimizer.name,
        "schedule": settings.schedule,
        "momentum": settings.momentum if plan.optimizer.uses_momentum else None,
        "average": plan.average,
        "reduction": settings.reduction,
        "seed": settings.seed,
        "rows": prepared.train.num_rows,
        "validation_rows": prepared.validation.num_rows if prepared.validation is not None else 0,
        "epochs": last["epoch"],
        "steps": last["updates"],
        "seconds": last["seconds"],
        "stopped": history.stopped,
    }
