"""What learning from blocks of rows carries from one block to the next.

The scaling of the columns is that of all rows seen so far, so it changes with every block, and parameters,
averages and the optimizer's memory are expressed anew in it: predictions do not jump.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy, deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.averaging import TailAverage
from descend.engines.base import State
from descend.errors import InputError
from descend.features import Features, Target
from descend.features.class_weights import ClassWeight
from descend.features.first_pass import Learned
from descend.features.sparse import stacked
from descend.features.statistics import Statistics
from descend.features.target_statistics import TargetStatistics
from descend.history import History
from descend.models.linear import LinearModel, initialise
from descend.models.scaling import Scaling, carry, carry_gradient, carry_squares, parameters_for
from descend.objectives.losses import LOSSES
from descend.settings import Settings

ENOUGH_ROWS = 32
"""With fewer rows the scaling says little, and all of them are learnt anew with each block."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A block that was checked: ``X`` (n, d), dense or CSR, ``y`` (n,) or (n, k), weights (n,) above 0 or None."""

    X: Any
    y: NDArray[Any]
    weights: NDArray[np.float64] | None


@dataclass(slots=True)
class Stream:
    """What is carried from one block to the next. ``add_rows`` returns a new one: a refused block changes nothing."""

    learned: Learned
    model: LinearModel
    state: State
    tail: TailAverage = field(default_factory=TailAverage)
    num_blocks: int = 0
    num_rows: int = 0
    total_weight: float = 0.0
    """Of the rows seen: weights are relative to their mean."""
    curved_rows: int = 0
    mean_curvature: float = 0.0
    row_curvature: float = 0.0
    mean_norm: float = 0.0
    """Means over ``curved_rows`` rows: L and L_max of their blocks, and |x|² + 1."""
    early: Rows | None = None
    """The first rows, while they are few; None once they are enough, or where a model was there before."""


def begin(
    names: tuple[str, ...],
    target: Target | None,
    dtype: Any,
    model: LinearModel | None = None,
    learned: Learned | None = None,
    class_weight: ClassWeight = None,
) -> Stream:
    """A stream with no rows yet, or one that goes on from ``model`` and what was ``learned`` of its rows.

    ``target`` has the classes; None for numbers. A model that was loaded has no statistics: its scaling gives
    way to that of the rows to come, its predictions are carried on.
    """
    fresh = Learned(Statistics(names), TargetStatistics("y")) if learned is None else deepcopy(learned)
    num_rows = fresh.columns.num_rows
    early = None
    if model is None:
        early = Rows(np.empty((0, len(names))), np.empty(0), None)
        outputs = 1 if target is None else target.num_outputs
        goal = Target("y", "regression", mean=[0.0], scale=[1.0]) if target is None else target
        features = Features(names, (), is_matrix=True)
        model = LinearModel(features, goal, initialise(outputs, 0, dtype), "")
    stream = Stream(fresh, model, State(model.parameters.copy()), num_rows=num_rows, early=early)
    stream.total_weight = fresh.columns.total
    if isinstance(class_weight, Mapping):
        counts = fresh.target.counts
        stream.total_weight = sum(counts[c] * float(class_weight.get(c, 1.0)) for c in counts)
    return stream


def with_early_rows(stream: Stream, rows: Rows) -> tuple[Stream, Rows]:
    """While rows are few, all of them are learnt anew with each block.

    The scaling of two or three rows says little: a column that happens to be nearly equal in them gets a weight that
    is far too large once its deviation is known, and a loss that saturates takes long to forget it.
    """
    if stream.early is None:
        return stream, rows
    rows = join(stream.early, rows)
    start = begin(stream.learned.columns.names, _no_rows(stream.model.target), stream.model.parameters.dtype)
    start = replace(
        start, num_blocks=stream.num_blocks, early=rows if rows.X.shape[0] < ENOUGH_ROWS else None
    )
    start.model.history = stream.model.history
    return start, rows


def _no_rows(target: Target) -> Target | None:
    return target if target.task == "classification" else None


def join(one: Rows, other: Rows) -> Rows:
    """The rows of both."""
    if not len(one.y):
        return other
    weights = None
    if one.weights is not None or other.weights is not None:
        weights = np.concatenate(
            [np.ones(len(r.y)) if r.weights is None else r.weights for r in (one, other)]
        )
    y = np.concatenate([one.y, other.y])
    return Rows(stacked([one.X, other.X]), y, weights)


def with_block(
    known: Learned, rows: Rows, settings: Settings, classes: Target | None
) -> tuple[Learned, Features, Target]:
    """What is known of the rows before and of a block's, and the scaling that follows; ``known`` stays as it is.

    ``classes`` is the target where it has classes, None for numbers.
    """
    names = known.columns.names
    learned = Learned(Statistics(names), TargetStatistics("y"))
    learned.columns.merge(known.columns)
    learned.target.merge(known.target)
    block = Learned(Statistics(names), TargetStatistics("y"))
    block.columns.update(rows.X, rows.weights)
    learned.columns.merge(block.columns)
    learned.columns.forget_rows()
    target = classes
    if target is None:
        block.target.update(rows.y, rows.weights)
        learned.target.merge(block.target)
        scaled = settings.standardize and settings.loss != "poisson"
        target = Target.from_statistics(learned.target, "regression", scaled, "y", settings.fit_intercept)
    features = Features.from_statistics(
        learned.columns, settings.standardize, keep_constants=True, centre=settings.fit_intercept
    )
    return learned, features, target


def in_new_scaling(stream: Stream, rows: Rows, settings: Settings) -> Stream:
    """A copy of the stream that knows the columns and targets of ``rows``, everything carried into their scaling."""
    old_target = stream.model.target
    learned, features, target = with_block(stream.learned, rows, settings, _no_rows(old_target))
    new = replace(stream, learned=learned, tail=copy(stream.tail))
    first = not stream.model.features.names
    width = (target.num_outputs, features.num_columns + 1)
    dtype = stream.model.parameters.dtype
    if first:
        new.state = State(np.zeros(width, dtype=dtype))
    elif stream.model.features.names == features.names:
        old_scaling, new_scaling = Scaling.of(stream.model.features, old_target), Scaling.of(features, target)
        new.state, new.tail = _carried(stream, old_scaling, new_scaling, _degree(settings, target))
    else:
        start = parameters_for(stream.model, features, target)
        if start is None:
            raise InputError("X has other columns than the model was fitted on: give the same, or call fit")
        new.state = State(start.astype(dtype))
        new.tail = TailAverage()
    new.model = LinearModel(
        features, target, new.state.parameters, stream.model.loss, history=_history(stream)
    )
    return new


def carried_over(old: Stream, new: Stream, settings: Settings) -> tuple[State, TailAverage]:
    """What ``old`` has learnt, in the scaling of ``new``, which has the same columns."""
    before, after = (Scaling.of(stream.model.features, stream.model.target) for stream in (old, new))
    return _carried(old, before, after, _degree(settings, new.model.target))


def _carried(stream: Stream, old: Scaling, new: Scaling, degree: int) -> tuple[State, TailAverage]:
    state, tail = copied(stream.state), copy(stream.tail)
    state.parameters[:] = carry(state.parameters, old, new)
    state.first[:] = carry_gradient(state.first, old, new, degree)
    state.second[:] = carry_squares(state.second, old, new, degree)
    if state.num_averaged:
        state.average[:] = carry(state.average, old, new)
    if tail.closed is not None:
        tail.closed = carry(tail.closed, old, new) if tail.num_closed else tail.closed
    return state, tail


def _degree(settings: Settings, target: Target) -> int:
    """How the loss grows with its target's scale."""
    default = "squared_error" if target.task == "regression" else "log_loss"
    return LOSSES[settings.loss or default].degree


def copied(state: State) -> State:
    """The same with arrays of its own; optimizers of whole data, which have more, do not come here."""
    new = copy(state)
    for name in ("parameters", "first", "second", "average"):
        setattr(new, name, getattr(state, name).copy())
    return new


def _history(stream: Stream) -> History:
    """The blocks' history, which grows when a block is done; that of a ``fit`` before them is another story."""
    return stream.model.history if stream.num_blocks else History()
