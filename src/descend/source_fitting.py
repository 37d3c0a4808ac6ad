"""One run straight from a source whose rows do not fit into memory: a linear model, with steps of one optimizer.

Methods that come back to each row at random, or need its last gradient, want rows that lie in random order: they are
left to block stores. Plain steps with an average of the last of them end nearly as low (``docs/files.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.batches import VisitsAsRead
from descend.engines.base import Rule, State
from descend.errors import InputError, shorten
from descend.identity import Identity, identity_of
from descend.machine import num_threads, one_blas_thread
from descend.models.linear import LinearModel, initialise
from descend.planning import Plan, choose_rate
from descend.recipe import Phase
from descend.run_notes import say_what_is_left, slow_or_diverged, start_notes
from descend.runs import AVERAGE_ROWS, Run, average_of, limits_of, summarise
from descend.settings import Settings, default_optimizer, most_epochs, settle_batch_size
from descend.target_objective import find_objective, first_intercept, loss_unit
from descend.training import train
from descend.types import FloatArray
from descend.updates import OPTIMIZERS, find_optimizer
from descend.updates.schedules import find_schedule
from descend.watching import Callback, Watch

if TYPE_CHECKING:
    from descend.checkpoint import Checkpoint
    from descend.features import Prepared
    from descend.features.source_rows import SourceRows


def fit_from_source(
    prepared: Prepared,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    initial: FloatArray | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run[LinearModel]:
    """Trains a linear model on ``prepared.train`` that ``is_in_source``; as ``fitting.fit`` but for the optimizers.

    ``optimizer="auto"`` is plain SGD at the rate of the curvature, with an average of the last steps. Raises
    ``InputError`` for one that cannot be had or a checkpoint of another run, ``SourceError`` where files change
    meanwhile.
    """
    from descend.engines.choose import make_engine
    from descend.engines.sourced import SourcedEngine

    settings = settings.checked()
    rows: SourceRows = prepared.train.X  # type: ignore[assignment]
    epochs = settings.epochs or most_epochs(len(rows))
    plan = _plan(prepared, rows, settings, epochs)
    if checkpoint is not None:
        checkpoint.check(_identity(prepared, rows, settings, plan, initial))
    threads = num_threads(settings.threads)
    engine: Any = SourcedEngine(
        rows,
        plan.loss,
        plan.penalty,
        average_every=max(1, AVERAGE_ROWS // plan.batch_size) if plan.average else 0,
        threads=threads,
        fit_intercept=settings.fit_intercept,
    )
    validation = None
    if prepared.validation is not None:
        validation = make_engine(prepared.validation, plan.loss, plan.penalty, threads=threads)
    outputs = prepared.target.num_outputs
    watch = Watch(
        engine,
        plan.visits.num_visits,
        limits_of(settings, epochs, held_out=validation is not None),
        validation=validation,
        tail=average_of(settings) if plan.average else None,
        unit=loss_unit(prepared.target, plan.loss.name),
        callbacks=callbacks,
        fresh=initial is None or not initial.any(),
    )
    if initial is None:
        initial = initialise(outputs, prepared.train.num_columns, rows.dtype)
        if settings.fit_intercept and (settings.optimizer == "auto" or not plan.loss.has_bound):
            initial[:, -1] = first_intercept(plan.loss, rows.sample, outputs)
    state = State(np.array(initial, dtype=rows.dtype))
    engine.warm_up([(phase.rule, phase.batch_size) for phase in plan.phases], state)
    try:
        with one_blas_thread():
            parameters = train(
                engine,
                state,
                plan.phases,
                plan.visits,
                watch,
                settings.seed,
                not settings.shuffle,
                checkpoint,
            )
    finally:
        engine.close()
    history = watch.history
    say_what_is_left(history, watch, plan, parameters)
    history.notes += start_notes(watch)
    if history.stopped == "diverged":
        in_memory = replace(prepared, train=rows.sample)
        history.notes += slow_or_diverged(in_memory, plan, settings, history.stopped)
    model = LinearModel(prepared.features, prepared.target, parameters, plan.loss.name, history=history)
    model.summary = summarise(prepared, plan, settings, history)
    model.summary |= {"gap_estimate": None, "gap_bound": None}
    return Run(model, plan.batch_size, plan.batch_size_reason, plan.optimizer, plan.rate, history)


def _identity(
    prepared: Prepared, rows: SourceRows, settings: Settings, plan: Plan, initial: FloatArray | None
) -> Identity:
    """What the run follows from: the sample stands for the rows, and the order hangs on the size of the windows."""
    identity = identity_of("linear", replace(prepared, train=rows.sample), settings, plan.phases, initial)
    options = identity["options"] | {"rows in a window": rows.window_rows}
    return identity | {"rows": len(rows), "options": options}


def _plan(prepared: Prepared, rows: SourceRows, settings: Settings, epochs: int) -> Plan:
    """Every ``auto`` settled, from the sample and from what is known of all rows."""
    from descend.engines.curvature import measure_curvature

    loss, penalty = find_objective(rows.sample, prepared.target, settings)
    n = len(rows)
    batch_size, reason = settle_batch_size(settings.batch_size, "as asked", n)
    full = batch_size >= n
    name = default_optimizer(full) if settings.optimizer == "auto" else settings.optimizer
    if settings.optimizer == "auto" and not OPTIMIZERS[name].elementwise:
        name = "sgd"
    optimizer = find_optimizer(name)
    _check(rows, settings, name, optimizer.elementwise, batch_size, full)
    visits = VisitsAsRead(n, total=n if full else rows.heaviness.num_visits)
    measured = measure_curvature(rows.sample, loss, settings.seed, split=False)
    curvature = replace(measured, row=np.inf if full else loss.curvature * rows.heaviest, visits=visits)
    rate = choose_rate(settings, optimizer, batch_size, penalty, curvature)
    by_itself = settings.learning_rate == "auto" and not optimizer.scale_free and not full and not penalty.l1
    average = by_itself if settings.average == "auto" else bool(settings.average)
    rule = Rule(
        optimizer=optimizer,
        rate=rate.value,
        schedule=find_schedule(settings.schedule),
        momentum=settings.momentum,
        num_steps=epochs * -(-visits.num_visits // batch_size),
        sum_rows=settings.reduction == "sum",
        fit_intercept=settings.fit_intercept,
        clip=settings.clip or 0.0,
    )
    phase = Phase(name, rule, 0 if full else batch_size, epochs)
    return Plan(loss, penalty, batch_size, reason, name, rate, visits, average, curvature, (phase,))


def _check(
    rows: SourceRows, settings: Settings, name: str, elementwise: bool, batch_size: int, full: bool
) -> None:
    where = f"{shorten(rows.name)} does not fit into memory and is read from its files in every epoch"
    if not elementwise:
        known = ", ".join(o.name for o in OPTIMIZERS.values() if o.elementwise)
        raise InputError(
            f'optimizer {settings.optimizer!r}: {where}, which takes {known} or "auto"; for {name} write a block '
            "store with descend ingest and train from that"
        )
    if not full and batch_size > rows.window_rows:
        raise InputError(
            f'batch size {batch_size:,}: {where}, {rows.window_rows:,} rows at a time; take at most so many, "full", '
            "or a higher memory limit"
        )
