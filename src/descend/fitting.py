"""One training run, put together: prepared data and settings in, a model with its history out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from descend.advice import faster_whole
from descend.batches import shuffle
from descend.checkpoint import Checkpoint
from descend.engines.base import State
from descend.growing import grown, in_words, measure_growth
from descend.identity import identity_of
from descend.machine import num_threads, one_blas_thread
from descend.models.linear import LinearModel, initialise
from descend.planning import Plan, resolve, tolerance
from descend.recipe import WHOLE
from descend.run_notes import certificate_notes, say_what_is_left, slow_or_diverged, start_notes
from descend.runs import AVERAGE_ROWS, Run, average_of, growth_of, limits_of, summarise
from descend.settings import Settings, is_growing, most_epochs
from descend.solving import solved
from descend.target_objective import constant_loss, first_intercept, loss_unit
from descend.trail import Trail
from descend.training import train
from descend.troubles import check_range, troubles
from descend.types import FloatArray
from descend.watching import Callback, Watch

if TYPE_CHECKING:
    from descend.features import Prepared


def fit(
    prepared: Prepared,
    settings: Settings,
    callbacks: Sequence[Callback] = (),
    initial: FloatArray | None = None,
    keep_path: bool = False,
    give_up_after: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Run[LinearModel]:
    """Trains a linear model.

    ``initial`` (k, d + 1): start there instead of at zero. ``give_up_after`` epochs a run ends that has neither
    ``epochs`` nor stops by itself; such a run is one of a comparison, and gets no advice. ``checkpoint``: the run is
    saved there and gone on with; ``InputError`` where that is one of other data or settings.
    """
    from descend.engines.choose import make_engine

    settings = settings.checked()
    data = prepared.train
    if not settings.standardize:
        check_range(prepared)
    if checkpoint is None and initial is None and not keep_path and give_up_after is None:
        run = solved(prepared, settings, callbacks)
        if run is not None:
            return run
    epochs = settings.epochs or give_up_after or most_epochs(data.num_rows)
    plan = resolve(prepared, settings, epochs)
    if checkpoint is not None:
        checkpoint.check(identity_of("linear", prepared, settings, plan.phases, initial))
    threads = num_threads(settings.threads)
    engine = make_engine(
        data,
        plan.loss,
        plan.penalty,
        weights=plan.visits.weights,
        average_every=max(1, AVERAGE_ROWS // plan.batch_size) if plan.average else 0,
        threads=threads,
        preconditioner=plan.preconditioner,
        precondition_steps=plan.precondition_steps,
        mean_curvature=plan.curvature.mean + plan.penalty.alpha,
        fit_intercept=settings.fit_intercept,
        in_order=prepared.in_order or not settings.shuffle,
    )
    outputs = prepared.target.num_outputs
    shares = plan.shares if settings.fit_intercept else None
    validation = None
    if prepared.validation is not None:
        validation = make_engine(prepared.validation, plan.loss, plan.penalty, threads=threads)
    trail = Trail()
    tol = tolerance(settings, data, plan.loss, plan.penalty, plan.untuned)
    constant = None
    if plan.untuned and settings.fit_intercept and tol is not None:
        constant = constant_loss(plan.loss, data, outputs, shares)
    watch = Watch(
        engine,
        plan.visits.num_visits,
        replace(
            limits_of(
                settings,
                epochs,
                held_out=validation is not None,
                mixed=settings.shuffle and not prepared.in_order,
            ),
            tol=tol,
            asked=None if settings.epochs is not None else settings.tol,
            rounding=1e-22 if data.X.dtype == np.float64 else 1e-7,
            certify=plan.untuned,
            never_negative=plan.loss.is_never_negative,
            close=settings.optimizer == "auto",
            by_batches=plan.by_batches,
            constant=constant,
        ),
        validation=validation,
        tail=average_of(settings) if plan.average else None,
        unit=loss_unit(prepared.target, plan.loss.name),
        callbacks=callbacks,
        first_loss=constant if plan.phases[0].rule.by_sample and initial is None else None,
        snapshot=trail.add if keep_path else None,
        fresh=initial is None or not initial.any(),
    )
    if initial is None:
        initial = initialise(outputs, data.num_columns, data.X.dtype)
        if settings.fit_intercept and (plan.untuned or not plan.loss.has_bound):
            initial[:, -1] = first_intercept(plan.loss, data, outputs, shares)
    state = State(np.array(initial, dtype=data.X.dtype))
    if settings.epochs is not None:
        state.most_visits = epochs * plan.visits.num_visits
    engine.know_start(state.parameters)
    engine.warm_up([(phase.rule, phase.batch_size) for phase in plan.phases], state)
    with one_blas_thread():
        if is_growing(settings.batch_size) and plan.batch_size < data.num_rows:
            rows = shuffle(plan.visits, settings.seed, 0)
            phases = plan.phases
            growth = growth_of(checkpoint, lambda: measure_growth(engine, state, phases, rows))
            phases = grown(phases, growth)
            plan = replace(plan, phases=phases, batch_size_reason=in_words(phases, growth))
        parameters = train(
            engine, state, plan.phases, plan.visits, watch, settings.seed, not settings.shuffle, checkpoint
        )
    state.table = None  # SAGA's: what is told of the end may take as much room
    history = watch.history
    if give_up_after is None and _may_be_slow(settings, plan, data.num_rows):
        seconds = history.last["seconds"]  # of training: a kernel's first compilation is no reason to change
        history.advice = faster_whole(engine, data, plan.loss, plan.penalty, len(parameters), seconds)
    with one_blas_thread():
        say_what_is_left(history, watch, plan, parameters)
    if plan.untuned and settings.epochs is None:
        history.notes += certificate_notes(watch, plan)
    history.notes += start_notes(watch)
    history.notes += troubles(prepared, plan.loss, plan.penalty, parameters, settings.standardize)
    if history.stopped != "converged":
        history.notes += slow_or_diverged(prepared, plan, settings, history.stopped)
    model = LinearModel(prepared.features, prepared.target, parameters, plan.loss.name, history=history)
    model.summary = summarise(prepared, plan, settings, history)
    model.summary |= {"gap_estimate": history.gap_estimate, "gap_bound": history.gap_bound}
    return Run(model, plan.batch_size, plan.batch_size_reason, plan.optimizer, plan.rate, history, trail.path)


def _may_be_slow(settings: Settings, plan: Plan, num_rows: int) -> bool:
    """Whether something was set that keeps the run from a method of every row at once."""
    if settings.optimizer != "auto":
        return settings.optimizer not in WHOLE
    return settings.batch_size != "auto" and plan.batch_size < num_rows
