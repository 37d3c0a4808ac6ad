"""Learning from rows as they come: one epoch over each block, everything else carried on (``stream.py``).

The learning rate comes from the curvature of what has been seen, and of the block at hand where that bends more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from descend.averaging import PolyakAverage, TailAverage
from descend.batches import Visits, check_batch_size, shuffle
from descend.engines.base import Rule, State
from descend.errors import InputError, one_of
from descend.features.class_weights import ClassWeight, class_weights
from descend.learning_rate import Rate
from descend.machine import one_blas_thread
from descend.planning import choose_rate
from descend.runs import ASKED, AVERAGE_ROWS
from descend.settings import Settings
from descend.stream import Rows, Stream, carried_over, copied, in_new_scaling, with_early_rows
from descend.target_objective import find_objective, first_intercept, loss_unit
from descend.types import Dataset, FloatArray, IntArray
from descend.updates import OPTIMIZERS, Optimizer, find_optimizer
from descend.updates.schedules import find_schedule
from descend.watching import BLOW_UP, Callback, Observation

if TYPE_CHECKING:
    from descend.engines.curvature import Curvature
    from descend.models.model import Model

DEFAULT_BATCH_SIZE = 32
ENDLESS_SCHEDULES = ("constant", "inverse-scaling")
"""Schedules that do not have to know where a run ends."""
TYPICAL_LOSS = 0.1
SMALL_PRODUCT = 8192


def add_rows(
    stream: Stream, rows: Rows, settings: Settings, class_weight: ClassWeight, seed: int
) -> tuple[Stream, str | None]:
    """One epoch over ``rows``. Returns the new stream, and what to tell about a block that diverged."""
    from descend.engines.choose import make_engine

    optimizer = _optimizer(settings)
    came = stream
    stream, rows = with_early_rows(stream, rows)
    stream = in_new_scaling(stream, rows, settings)
    target = stream.model.target
    data = encoded(stream.model, rows, stream.num_blocks, seed)
    data = class_weights(class_weight, target, stream.learned.target)(data)
    if data.weights is not None and not data.weights.any():
        raise InputError("class_weight is 0 for every class in y: there is nothing to learn from this block")
    loss, penalty = find_objective(data, target, settings)
    if settings.fit_intercept and not loss.has_bound and not stream.state.parameters.any():
        stream.state.parameters[:, -1] = first_intercept(loss, data, target.num_outputs)
    wanted = check_batch_size(settings.batch_size)
    wanted = DEFAULT_BATCH_SIZE if wanted == "auto" else wanted
    full = wanted == "full" or int(wanted) >= data.num_rows > 1
    data = _relative(stream, data, full)
    curvature = _curvature(stream, data, loss, seed, full)
    visits = curvature.visits
    batch_size = data.num_rows if full else min(int(wanted), visits.num_visits)
    seen = Visits(data.num_rows if full else max(stream.num_rows, visits.num_visits))
    rate = choose_rate(settings, optimizer, batch_size, penalty, replace(curvature, visits=seen))
    by_curvature = settings.learning_rate == "auto" and not optimizer.scale_free
    average = by_curvature and not penalty.l1 if settings.average == "auto" else bool(settings.average)
    kind = PolyakAverage if settings.average == "polyak" else TailAverage
    if type(stream.tail) is not kind:
        stream.tail = kind()
    rule = Rule(
        optimizer=optimizer,
        rate=rate.value,
        schedule=find_schedule(settings.schedule),
        momentum=settings.momentum,
        sum_rows=settings.reduction == "sum",
        fit_intercept=settings.fit_intercept,
        clip=settings.clip or 0.0,
    )
    engine = make_engine(
        data,
        loss,
        penalty,
        weights=visits.weights,
        average_every=max(1, AVERAGE_ROWS // batch_size) if average else 0,
        fit_intercept=settings.fit_intercept,
    )
    order = None if full else shuffle(visits, seed, stream.num_blocks, not settings.shuffle)
    before = copied(stream.state), copy(stream.tail)
    # Looking for BLAS takes a millisecond, and it shares no product as small as these.
    small = data.X.size * target.num_outputs < SMALL_PRODUCT
    with nullcontext() if small else one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        bound = BLOW_UP * max(
            engine.mean_loss(stream.state.parameters),
            engine.mean_loss(np.zeros_like(stream.state.parameters)),
            TYPICAL_LOSS,
        )
        started = time.perf_counter()
        if order is None:
            engine.run(stream.state, rule, None, batch_size)
        else:
            walk(engine, stream.state, stream.tail if average else None, rule, order, batch_size)
        seconds = time.perf_counter() - started
        last_loss = engine.mean_loss(stream.state.parameters)
        trouble = None
        if not last_loss <= bound:
            # Early rows were learnt anew: what they had taught is with the stream that came.
            begun_anew = came.early is not None and came.model.features.names
            stream.state, stream.tail = carried_over(came, stream, settings) if begun_anew else before
            trouble = (
                f"diverged: learning rate {rate.value:.3g} against the bound 2/L = {rate.bound:.3g}; "
                'this block taught nothing. Take learning_rate="auto"'
            )
            last_loss = engine.mean_loss(stream.state.parameters)
        parameters = averaged(stream.state, stream.tail if average or trouble is not None else None)
        final = engine.mean_loss(parameters)
    record(stream, final, last_loss, seconds, batch_size, rate, optimizer, settings, parameters, loss.name)
    return stream, trouble


def check_settings(settings: Settings) -> None:
    """Raises ``InputError`` for a setting that needs all rows, or the end of a run, to be known."""
    _optimizer(settings)
    if settings.schedule not in ENDLESS_SCHEDULES:
        raise InputError(
            f"schedule is {settings.schedule!r}, but partial_fit does not know where the rows end: take "
            f"{' or '.join(map(repr, ENDLESS_SCHEDULES))}"
        )
    if settings.early_stopping:
        raise InputError(
            "early_stopping is True, but partial_fit makes one epoch over the rows that it is given: "
            "set early_stopping=False"
        )


def _optimizer(settings: Settings) -> Optimizer:
    optimizer = find_optimizer("sgd" if settings.optimizer == "auto" else settings.optimizer)
    if optimizer.elementwise:
        return optimizer
    fitting = ["auto", *(o.name for o in OPTIMIZERS.values() if o.elementwise)]
    raise one_of("optimizer for partial_fit, which sees some rows at a time,", optimizer.name, fitting)


# --- the rows --------------------------------------------------------------------------------------


def encoded(model: Model, rows: Rows, num_blocks: int, seed: int) -> Dataset:
    """The block's rows, encoded, in random order: an epoch only permutes what lies near one another."""
    order = np.random.Generator(np.random.PCG64([seed, 1, num_blocks])).permutation(len(rows.y))
    X = model.features.encode(rows.X[order], dtype=model.parameters.dtype)
    y = model.target.encode(rows.y[order])
    return Dataset(X, y, None if rows.weights is None else rows.weights[order])


def _relative(stream: Stream, data: Dataset, full: bool) -> Dataset:
    """Weights relative to the mean of all that were seen, so that weight 2 now is twice a weight 1 of before.

    A block that is one step is a mean of its own, in which a row twice only counts against the other rows.
    """
    weights = np.ones(data.num_rows) if data.weights is None else data.weights
    stream.num_blocks += 1
    stream.num_rows += data.num_rows
    stream.total_weight += float(weights.sum())
    mean = float(weights.mean()) if full else stream.total_weight / stream.num_rows
    plain = data.weights is None and mean == 1.0
    return Dataset(data.X, data.y, None if plain else weights / mean)


def _curvature(stream: Stream, data: Dataset, loss: Any, seed: int, full: bool) -> Curvature:
    """L and L_max of what was seen, or of this block where it bends more; heavy rows split against all rows seen."""
    from descend.engines.by_storage import squared_norms
    from descend.engines.curvature import Curvature, measure_curvature, split_heavy_rows

    measured = measure_curvature(data, loss, seed, split=False)
    norms = squared_norms(data.X)
    if data.weights is not None:
        norms *= data.weights
    before, count = stream.curved_rows, stream.curved_rows + data.num_rows
    share = data.num_rows / count
    stream.curved_rows = count
    stream.mean_norm += share * (float(norms.mean()) - stream.mean_norm)
    visits = Visits(data.num_rows) if full else split_heavy_rows(norms, seed + stream.num_blocks)
    heaviest = float((norms if visits.weights is None else norms * visits.weights).max())
    row = loss.curvature * heaviest
    stream.mean_curvature += share * (measured.mean - stream.mean_curvature)
    stream.row_curvature += share * (row - stream.row_curvature)
    mean = max(measured.mean, stream.mean_curvature) if before else measured.mean
    row = max(row, stream.row_curvature) if before else row
    return Curvature(mean, row, measured.direction, visits)


# --- steps -----------------------------------------------------------------------------------------


def walk(
    engine: Any, state: State, tail: TailAverage | None, rule: Rule, order: IntArray, batch_size: int
) -> None:
    """The epoch, cut where a window of the average closes; ``tail`` None: nothing is averaged."""
    start = 0
    while start < len(order):
        steps = ceil((len(order) - start) / batch_size)
        if tail is not None:
            steps = min(steps, max(1, tail.next_close - state.steps))
        engine.run(state, rule, order[start : start + steps * batch_size], batch_size)
        start += steps * batch_size
        if tail is not None:
            tail.close_if_due(state)


def averaged(state: State, tail: TailAverage | None) -> FloatArray:
    """The average once there is a window of it, else the last parameters."""
    if tail is not None and (tail.closed is not None or isinstance(tail, PolyakAverage)):
        mean = tail.parameters(state)
        if mean is not None:
            return mean
    return state.parameters.copy()


def record(
    stream: Any,
    loss: float,
    last_loss: float,
    seconds: float,
    batch_size: int,
    rate: Rate,
    optimizer: Optimizer,
    settings: Settings,
    parameters: FloatArray,
    loss_name: str,
) -> None:
    """A block's row of the history, and the model of any stream as it is after it, with what was asked and found."""
    model, state = stream.model, stream.state
    target, history = model.target, model.history
    unit = loss_unit(target, loss_name)
    history.append(
        {
            "seconds": seconds + (history.last["seconds"] if len(history) else 0.0),
            "epoch": float(stream.num_blocks),
            "rows": state.visits,
            "updates": state.steps,
            "loss": loss * unit,
            "last_loss": last_loss * unit,
            "validation_loss": None,
            "batch_size": batch_size,
            "learning_rate": rate.value,
        }
    )
    history.stopped = "epochs"
    model.parameters, model.loss = parameters, loss_name
    model.summary = {
        "task": target.task,
        "loss": loss_name,
        "penalty": settings.penalty or "none",
        "alpha": float(settings.alpha),
        "batch_size": batch_size,
        "batch_size_reason": "rows came block by block (partial_fit)",
        "learning_rate": rate.value,
        "learning_rate_reason": rate.reason,
        "optimizer": optimizer.name,
        "schedule": settings.schedule,
        "momentum": settings.momentum if optimizer.uses_momentum else None,
        "average": settings.average,
        "reduction": settings.reduction,
        "seed": settings.seed,
        "rows": stream.num_rows,
        "validation_rows": 0,
        "epochs": float(stream.num_blocks),
        "steps": state.steps,
        "seconds": history.last["seconds"],
        "stopped": history.stopped,
        "gap_estimate": None,
        "asked": {name: getattr(settings, name) for name in ASKED},
    }


def tell_callbacks(stream: Stream, callbacks: Sequence[Callback]) -> None:
    """One observation a block; what the callbacks answer ends nothing, for the block is over."""
    last = stream.model.history.last
    seconds = last["seconds"]
    for callback in callbacks:
        callback(
            Observation(
                seconds=seconds,
                epoch=last["epoch"],
                rows=last["rows"],
                updates=last["updates"],
                loss=last["loss"],
                validation_loss=None,
                rows_per_second=last["rows"] / seconds if seconds > 0 else 0.0,
                seconds_left=None,
            )
        )
