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
from descend.features import Target
from descend.features.class_weights import ClassWeight, class_weights
from descend.features.first_pass import Learned
from descend.features.statistics import Statistics
from descend.features.target_statistics import TargetStatistics
from descend.history import History
from descend.incremental import averaged, encoded, record, walk
from descend.learning_rate import Rate
from descend.machine import one_blas_thread
from descend.models.mlp import MLPModel
from descend.models.network import aligned_zeros, initialise
from descend.models.scaling import network_parameters_for
from descend.networks.fitting import network_summary
from descend.networks.planning import network_objective
from descend.networks.recipe import rule_rate
from descend.runs import AVERAGE_ROWS
from descend.settings import Settings
from descend.stream import ENOUGH_ROWS, Rows, copied, join, with_block
from descend.target_objective import first_intercept
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
    """The classes, or the labels; None for numbers."""
    dtype: Any
    model: MLPModel | None = None
    state: State | None = None
    tail: TailAverage = field(default_factory=TailAverage)
    num_blocks: int = 0
    num_rows: int = 0
    total_weight: float = 0.0
    early: Rows | None = None
    """The first rows, while they are few: their scaling says little, and all are learnt anew with each block."""
    labels: int = 0
    """How many a row has, each there or not; 0 where it has one of several classes, or numbers."""


def begin(
    names: tuple[str, ...],
    target: Target | None,
    dtype: Any,
    model: MLPModel | None = None,
    learned: Learned | None = None,
    labels: int = 0,
) -> NetworkStream:
    """A stream with no rows yet, or one that goes on from ``model`` and what was ``learned`` of its rows."""
    known = deepcopy(learned) if learned is not None else Learned(Statistics(names), TargetStatistics("y"))
    stream = NetworkStream(known, target, dtype, model, num_rows=known.columns.num_rows, labels=labels)
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

    came = stream
    stream, rows = _with_early_rows(stream, rows)
    stream = _in_new_scaling(stream, rows, settings)
    model, state = stream.model, stream.state
    assert model is not None
    assert state is not None
    data = encoded(model, rows, stream.num_blocks, settings.seed)
    data = class_weights(class_weight, model.target, stream.learned.target)(data)
    if data.weights is not None and not data.weights.any():
        raise InputError("class_weight is 0 for every class in y: there is nothing to learn from this block")
    loss, penalty = network_objective(data, model.target, settings, bool(stream.labels))
    if settings.fit_intercept and not stream.labels and not state.steps and stream.num_blocks == 0:
        last = model.network.parts(state.parameters)[-1][1]
        last[:] = first_intercept(loss, data, model.target.num_outputs)
    data = _relative(stream, data)
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
    order = shuffle(Visits(data.num_rows), settings.seed, stream.num_blocks, not settings.shuffle)
    before, trouble = (copied(state), copy(stream.tail)), None
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
        bound = BLOW_UP * max(engine.mean_loss(state.parameters), TYPICAL_LOSS)
        started = time.perf_counter()
        walk(engine, state, stream.tail if average else None, rule, order, batch_size)
        seconds = time.perf_counter() - started
        last_loss = engine.mean_loss(state.parameters)
        if not last_loss <= bound:
            # Early rows were learnt anew: what they had taught is with the stream that came.
            begun_anew = came.early is not None and came.model is not None
            state, stream.tail = _carried(came, model) if begun_anew else before
            stream.state = state
            trouble = (
                f"diverged: learning rate {rate.value:.3g}; this block taught nothing. "
                'Take learning_rate="auto"'
            )
            last_loss = engine.mean_loss(state.parameters)
        parameters = averaged(state, stream.tail if average or trouble is not None else None)
        final = engine.mean_loss(parameters)
    record(stream, final, last_loss, seconds, batch_size, rate, optimizer, settings, parameters, loss.name)
    model.summary |= network_summary(settings)
    return stream, trouble


def _with_early_rows(stream: NetworkStream, rows: Rows) -> tuple[NetworkStream, Rows]:
    if stream.num_rows >= ENOUGH_ROWS or (stream.model is not None and stream.early is None):
        return stream, rows
    if stream.early is not None:
        rows = join(stream.early, rows)
    start = begin(stream.learned.columns.names, stream.target, stream.dtype, labels=stream.labels)
    start.early = rows if rows.X.shape[0] < ENOUGH_ROWS else None
    if stream.model is not None:
        start.num_blocks = stream.num_blocks
        start.model = replace(stream.model)
    return start, rows


def _in_new_scaling(stream: NetworkStream, rows: Rows, settings: Settings) -> NetworkStream:
    """A copy of the stream that knows the columns and targets of ``rows``, its network in their scaling."""
    learned, features, target = with_block(stream.learned, rows, settings, stream.target)
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
        labels=stream.labels,
    )
    new = replace(stream, learned=learned, model=model, tail=copy(stream.tail))
    if stream.state is None or old is None:
        new.state = fresh_state(initialise(model.network, settings.seed, stream.dtype))
        new.tail = TailAverage()
    else:
        new.state, new.tail = _carried(stream, model)
    assert new.state is not None
    model.parameters = new.state.parameters
    return new


def _carried(stream: NetworkStream, model: MLPModel) -> tuple[State, TailAverage]:
    """What ``stream`` has learnt, in the scaling of ``model``; ``InputError`` where that has another shape."""
    old = stream.model
    assert old is not None
    assert stream.state is not None
    if (old.hidden, old.activation) != (model.hidden, model.activation):
        raise InputError(
            f"hidden_layer_sizes and activation are {model.hidden} and {model.activation!r}, but the network has "
            f"{old.hidden} and {old.activation!r}: leave them, or call fit to begin anew"
        )

    def carried(parameters: FloatArray) -> FloatArray:
        found = network_parameters_for(replace(old, parameters=parameters), model.features, model.target)
        if found is None:
            raise InputError("X has other columns than the network was fitted on: give the same, or call fit")
        return found

    state, tail = copied(stream.state), copy(stream.tail)
    state.parameters[:] = carried(state.parameters)
    if state.num_averaged:
        state.average[:] = carried(state.average)
    if tail.closed is not None and tail.num_closed:
        tail.closed = carried(tail.closed)
    return state, tail


def _relative(stream: NetworkStream, data: Dataset) -> Dataset:
    """Weights relative to the mean of all that were seen."""
    weights = np.ones(data.num_rows) if data.weights is None else data.weights
    stream.num_blocks += 1
    stream.num_rows += data.num_rows
    stream.total_weight += float(weights.sum())
    mean = stream.total_weight / stream.num_rows
    plain = data.weights is None and mean == 1.0
    return Dataset(data.X, data.y, None if plain else weights / mean)
