"""Networks that learn from blocks of rows as they come: one epoch over each, everything else carried on.

As in ``stream.py`` the scaling is that of all rows seen so far: the first layer takes in a change of the columns',
the last one of the target's, and predictions do not jump. The optimizer's moments are kept as they are: they forget
in a thousand steps what was in another scaling.
"""

from __future__ import annotations

import time
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from descend.averaging import PolyakAverage, TailAverage
from descend.batches import Visits, check_batch_size, shuffle
from descend.engines.base import Rule, State
from descend.errors import InputError
from descend.features import Features, Target
from descend.features.class_weights import ClassWeight, class_weights
from descend.features.prepare import Learned
from descend.features.statistics import Statistics
from descend.features.target_statistics import TargetStatistics
from descend.fitting import AVERAGE_ROWS
from descend.history import History
from descend.learning_rate import Rate
from descend.machine import one_blas_thread
from descend.models.mlp import MLPModel
from descend.models.network import aligned_zeros, initialise
from descend.models.scaling import network_parameters_for
from descend.network_fitting import NETWORK_ASKED
from descend.network_recipe import rule_rate
from descend.settings import Settings
from descend.stream import ENOUGH_ROWS, Rows, join
from descend.target_objective import find_objective, first_intercept, loss_unit
from descend.types import Dataset, FloatArray
from descend.updates import find_optimizer
from descend.updates.schedules import find_schedule
from descend.watching import BLOW_UP

DEFAULT_BATCH_SIZE = 32
TYPICAL_LOSS = 0.1


@dataclass(slots=True)
class NetworkStream:
    """What is carried from one block to the next. ``add_rows`` returns a new one: a refused block changes nothing."""

    learned: Learned
    target: Target | None
    """The classes; None for numbers."""
    dtype: Any
    model: MLPModel | None = None
    state: State | None = None
    tail: TailAverage = field(default_factory=TailAverage)
    num_blocks: int = 0
    num_rows: int = 0
    total_weight: float = 0.0
    early: Rows | None = None
    """The first rows, while they are few: their scaling says little, and all are learnt anew with each block."""


def begin(
    names: tuple[str, ...],
    target: Target | None,
    dtype: Any,
    model: MLPModel | None = None,
    learned: Learned | None = None,
) -> NetworkStream:
    """A stream with no rows yet, or one that goes on from ``model`` and what was ``learned`` of its rows."""
    known = deepcopy(learned) if learned is not None else Learned(Statistics(names), TargetStatistics("y"))
    stream = NetworkStream(known, target, dtype, model, num_rows=known.columns.num_rows)
    stream.total_weight = known.columns.total
    if model is not None:
        stream.state = fresh_state(model.parameters)
    return stream


def fresh_state(parameters: FloatArray) -> State:
    """A state of its own at ``parameters``."""
    state = State(aligned_zeros(parameters.size, parameters.dtype))
    state.parameters[:] = parameters
    for name in ("first", "second"):
        setattr(state, name, aligned_zeros(parameters.size, parameters.dtype))
    return state


def add_rows(
    stream: NetworkStream, rows: Rows, settings: Settings, class_weight: ClassWeight
) -> tuple[NetworkStream, str | None]:
    """One epoch over ``rows``. Returns the new stream, and what to tell about a block that diverged."""
    from descend.engines.mlp import NetworkEngine

    stream, rows = _with_early_rows(stream, rows)
    stream = _in_new_scaling(stream, rows, settings)
    model, state = stream.model, stream.state
    assert model is not None
    assert state is not None
    data = _encode(stream, rows, settings.seed)
    data = class_weights(class_weight, model.target, stream.learned.target)(data)
    if data.weights is not None and not data.weights.any():
        raise InputError("class_weight is 0 for every class in y: there is nothing to learn from this block")
    loss, penalty = find_objective(data, model.target, settings)
    if settings.fit_intercept and not state.steps and stream.num_blocks == 0:
        last = model.network.parts(state.parameters)[-1][1]
        last[:] = first_intercept(loss, data, model.target.num_outputs)
    wanted = check_batch_size(settings.batch_size)
    wanted = DEFAULT_BATCH_SIZE if wanted == "auto" else wanted
    full = wanted == "full" or int(wanted) >= data.num_rows
    batch_size = data.num_rows if full else int(wanted)
    optimizer = find_optimizer("adam" if settings.optimizer == "auto" else settings.optimizer)
    by_itself = settings.learning_rate == "auto"
    rate = rule_rate(optimizer, model.network, batch_size)
    if settings.learning_rate != "auto":
        rate = Rate(float(settings.learning_rate), float("inf"), "as asked")
    average = by_itself and not penalty.l1 if settings.average == "auto" else bool(settings.average)
    kind = PolyakAverage if settings.average == "polyak" else TailAverage
    if type(stream.tail) is not kind:
        stream.tail = kind()
    rule = Rule(
        optimizer=optimizer,
        rate=rate.value / (batch_size if by_itself and settings.reduction == "sum" else 1),
        schedule=find_schedule(settings.schedule),
        momentum=settings.momentum,
        sum_rows=settings.reduction == "sum",
        fit_intercept=settings.fit_intercept,
        clip=settings.clip or 0.0,
    )
    every = max(1, AVERAGE_ROWS // batch_size) if average else 0
    engine = NetworkEngine(
        data, loss, penalty, model.network, average_every=every, weight_decay=settings.weight_decay
    )
    stream.num_blocks += 1
    stream.num_rows += data.num_rows
    order = shuffle(Visits(data.num_rows), settings.seed, stream.num_blocks, not settings.shuffle)
    before, trouble = (state.parameters.copy(), copy(stream.tail)), None
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        bound = BLOW_UP * max(engine.mean_loss(state.parameters), TYPICAL_LOSS)
        started = time.perf_counter()
        _walk(engine, stream, rule, order, batch_size, average)
        seconds = time.perf_counter() - started
        last_loss = engine.mean_loss(state.parameters)
        if not last_loss <= bound:
            stream.state = state = fresh_state(before[0])
            stream.tail = before[1]
            trouble = (
                f"diverged: learning rate {rate.value:.3g}; this block taught nothing. "
                'Take learning_rate="auto"'
            )
            last_loss = engine.mean_loss(state.parameters)
        model.parameters = _result(stream, average and trouble is None)
        final = engine.mean_loss(model.parameters)
    model.loss = loss.name
    _record(stream, final, last_loss, seconds, batch_size, rate, optimizer.name, settings)
    return stream, trouble


def _with_early_rows(stream: NetworkStream, rows: Rows) -> tuple[NetworkStream, Rows]:
    if stream.num_rows >= ENOUGH_ROWS or (stream.model is not None and stream.early is None):
        return stream, rows
    if stream.early is not None:
        rows = join(stream.early, rows)
    start = begin(stream.learned.columns.names, stream.target, stream.dtype)
    start.early = rows if rows.X.shape[0] < ENOUGH_ROWS else None
    if stream.model is not None:
        start.num_blocks = stream.num_blocks
        start.model = replace(stream.model)
    return start, rows


def _in_new_scaling(stream: NetworkStream, rows: Rows, settings: Settings) -> NetworkStream:
    """A copy of the stream that knows the columns and targets of ``rows``, its network in their scaling."""
    names = stream.learned.columns.names
    learned = Learned(Statistics(names), TargetStatistics("y"))
    learned.columns.merge(stream.learned.columns)
    learned.target.merge(stream.learned.target)
    block = Learned(Statistics(names), TargetStatistics("y"))
    block.columns.update(rows.X, rows.weights)
    learned.columns.merge(block.columns)
    learned.columns.forget_rows()
    target = stream.target
    if target is None:
        block.target.update(rows.y, rows.weights)
        learned.target.merge(block.target)
        scaled = settings.standardize and settings.loss != "poisson"
        target = Target.from_statistics(learned.target, "regression", scaled, "y")
    features = Features.from_statistics(learned.columns, settings.standardize, keep_constants=True)
    old = stream.model
    history = old.history if old is not None and stream.num_blocks else History()
    model = MLPModel(
        features,
        target,
        np.empty(0),
        "" if old is None else old.loss,
        history=history,
        hidden=settings.hidden,
        activation=settings.activation,
    )
    new = replace(stream, learned=learned, model=model, tail=copy(stream.tail))
    if stream.state is None or old is None:
        new.state = fresh_state(initialise(model.network, settings.seed, stream.dtype))
        new.tail = TailAverage()
    else:
        new.state = _carried(stream, old, model)
    assert new.state is not None
    model.parameters = new.state.parameters
    return new


def _carried(stream: NetworkStream, old: MLPModel, model: MLPModel) -> State:
    """The state in the new scaling; raises ``InputError`` where the network has another shape."""
    if (old.hidden, old.activation) != (model.hidden, model.activation):
        raise InputError(
            f"hidden_layer_sizes and activation are {model.hidden} and {model.activation!r}, but the network has "
            f"{old.hidden} and {old.activation!r}: leave them, or call fit to begin anew"
        )
    assert stream.state is not None

    def carried(parameters: FloatArray) -> FloatArray:
        found = network_parameters_for(replace(old, parameters=parameters), model.features, model.target)
        if found is None:
            raise InputError("X has other columns than the network was fitted on: give the same, or call fit")
        return found

    state = copy(stream.state)
    for name in ("parameters", "first", "second", "average"):
        setattr(state, name, getattr(stream.state, name).copy())
    state.parameters[:] = carried(state.parameters)
    if state.num_averaged:
        state.average[:] = carried(state.average)
    return state


def _encode(stream: NetworkStream, rows: Rows, seed: int) -> Dataset:
    """The block's rows, encoded, in random order; weights relative to the mean of all that were seen."""
    model = stream.model
    assert model is not None
    order = np.random.Generator(np.random.PCG64([seed, 1, stream.num_blocks])).permutation(len(rows.y))
    X = model.features.encode(rows.X[order], dtype=stream.dtype)
    y = model.target.encode(rows.y[order])
    weights = None if rows.weights is None else rows.weights[order]
    count = len(rows.y)
    stream.total_weight += count if weights is None else float(weights.sum())
    mean = stream.total_weight / (stream.num_rows + count)
    if weights is None and mean == 1.0:
        return Dataset(X, y)
    return Dataset(X, y, (np.ones(count) if weights is None else weights) / mean)


def _walk(engine: Any, stream: NetworkStream, rule: Rule, order: Any, batch_size: int, average: bool) -> None:
    """The epoch, cut where a window of the average closes."""
    state, tail = stream.state, stream.tail
    assert state is not None
    start = 0
    while start < len(order):
        steps = -(-(len(order) - start) // batch_size)
        if average:
            steps = min(steps, max(1, tail.next_close - state.steps))
        engine.run(state, rule, order[start : start + steps * batch_size], batch_size)
        start += steps * batch_size
        if average:
            tail.close_if_due(state)


def _result(stream: NetworkStream, average: bool) -> FloatArray:
    """The average once there is a window of it, else the last parameters."""
    assert stream.state is not None
    if average and (stream.tail.closed is not None or isinstance(stream.tail, PolyakAverage)):
        mean = stream.tail.parameters(stream.state)
        if mean is not None:
            return mean
    return stream.state.parameters.copy()


def _record(
    stream: NetworkStream,
    loss: float,
    last_loss: float,
    seconds: float,
    batch_size: int,
    rate: Rate,
    optimizer: str,
    settings: Settings,
) -> None:
    model, state = stream.model, stream.state
    assert model is not None
    assert state is not None
    unit, history = loss_unit(model.target, model.loss), model.history
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
    model.summary = {
        "task": model.target.task,
        "loss": model.loss,
        "penalty": settings.penalty or "none",
        "alpha": float(settings.alpha),
        "weight_decay": settings.weight_decay,
        "hidden": list(settings.hidden),
        "activation": settings.activation,
        "batch_size": batch_size,
        "batch_size_reason": "rows came block by block (partial_fit)",
        "learning_rate": rate.value,
        "learning_rate_reason": rate.reason,
        "optimizer": optimizer,
        "schedule": settings.schedule,
        "momentum": settings.momentum,
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
        "gap_bound": None,
        "asked": {name: getattr(settings, name) for name in NETWORK_ASKED},
    }
