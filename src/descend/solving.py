"""Squared error whose products are known: its lowest place is solved for, and certified, without a look at the rows.

Nothing is trained here. The sums of products that the first pass has found (``features/covariance.py``) are the
normal equations; loss, gradient and the bound on what is left to gain follow from them, with all that rounding may
hide counted in. Where that is too much to certify the end, the run goes the way of every other.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from descend.batches import Visits
from descend.engines.gap_bound import bound_beside
from descend.history import History
from descend.learning_rate import Rate
from descend.models.linear import LinearModel
from descend.objectives.losses import Loss
from descend.objectives.penalties import Penalty
from descend.planning import Plan, is_solved_at_once, tolerance
from descend.products import Products
from descend.recipe import finishing_phases
from descend.runs import Run, summarise
from descend.settings import Settings
from descend.target_objective import find_objective, loss_unit
from descend.troubles import troubles
from descend.types import Dataset, FloatArray
from descend.watching import Callback, Observation, may_be_left

if TYPE_CHECKING:
    from descend.features import Prepared

SEEN = 1e-4
"""The share of a loss that rounding may hide without anybody seeing it."""
ROUNDING = {np.dtype(np.float64): 1e-22, np.dtype(np.float32): 1e-7}
"""The share of the first loss that cannot be told from nothing."""


class Answer(NamedTuple):
    """The lowest place: ``parameters`` (k, d + 1) as the model keeps them, and what is left to gain there."""

    parameters: FloatArray
    first: float
    """The objective at weights of 0."""
    value: float
    gap: float
    bound: float
    bend: float
    """What the objective bends at the most."""


def solved(
    prepared: Prepared, settings: Settings, callbacks: Sequence[Callback] = ()
) -> Run[LinearModel] | None:
    """The run of a linear model that is solved; None where it has to be trained."""
    data, known = prepared.train, prepared.train.known
    if known is None or known.num_rows != data.num_rows or known.products.rounding is None:
        return None
    if prepared.target.task != "regression" or prepared.validation is not None:
        return None
    if not is_solved_at_once(settings, data.num_columns):
        return None
    began = time.perf_counter()
    loss, penalty = find_objective(data, prepared.target, settings)
    tol = tolerance(settings, data, loss, penalty, untuned=True)
    answer = _solve(known.products, data, penalty, settings.fit_intercept)
    if answer is None or tol is None:
        return None
    start = known.products.constant_loss if settings.fit_intercept else answer.first
    if answer.bound > may_be_left(tol, start - answer.value, answer.first, ROUNDING[data.X.dtype]):
        return None
    plan = _plan(data, loss, penalty, answer.bend, settings.fit_intercept)
    unit = loss_unit(prepared.target, loss.name)
    history = _history(answer, data.num_rows, unit, time.perf_counter() - began)
    _tell(callbacks, history)
    history.notes += troubles(prepared, loss, penalty, answer.parameters, settings.standardize)
    model = LinearModel(prepared.features, prepared.target, answer.parameters, loss.name, history=history)
    model.summary = summarise(prepared, plan, settings, history)
    model.summary |= {"gap_estimate": history.gap_estimate, "gap_bound": history.gap_bound}
    return Run(model, plan.batch_size, plan.batch_size_reason, plan.optimizer, plan.rate, history)


def _solve(products: Products, data: Dataset, penalty: Penalty, fit_intercept: bool) -> Answer | None:
    """None where the equations cannot be solved, or their rounding hides too much of the loss."""
    n, d, alpha = data.num_rows, data.num_columns, penalty.alpha
    H, goal = products.columns / n, products.targets / n
    H.flat[: (d + 1) * d : d + 2] += alpha
    if not fit_intercept:
        H[d] = H[:, d] = goal[:, d] = 0.0
        H[d, d] = 1.0
    try:
        inverse = np.linalg.inv(H)
    except np.linalg.LinAlgError:
        return None
    exact = goal @ inverse
    exact -= (exact @ H - goal) @ inverse  # what solving has rounded
    parameters = exact.astype(data.X.dtype)
    at = parameters.astype(np.float64)
    bent = at @ H
    gradient = bent - goal
    first = 0.5 * float(products.squares.sum()) / n
    value = first + float(np.vdot(0.5 * bent - goal, at))
    of_value, of_gradient = products.doubt(at, n)
    bend = float(H.trace())
    above = bound_beside(gradient, np.eye(len(at)), alpha, bend)
    if above is None or not of_value <= SEEN * value:
        return None
    bound = (sqrt(above) + of_gradient / sqrt(2.0 * alpha)) ** 2
    gap = min(0.5 * float(np.vdot(gradient, gradient @ inverse)), bound)
    return Answer(parameters, first, value, gap, min(bound, value), bend)


def _plan(data: Dataset, loss: Loss, penalty: Penalty, bend: float, fit_intercept: bool) -> Plan:
    from descend.engines.curvature import Curvature

    direction = np.full(data.num_columns + 1, (data.num_columns + 1) ** -0.5)
    visits = Visits(data.num_rows)
    return Plan(
        loss,
        penalty,
        data.num_rows,
        f"{loss.name} is solved on every row at once",
        "newton",
        Rate(1.0, 2.0 / bend, "from curvature, at every batch size"),
        visits,
        False,
        Curvature(bend, np.inf, direction, visits),
        finishing_phases("newton", fit_intercept, has_corners=False),
    )


def _history(answer: Answer, num_rows: int, unit: float, seconds: float) -> History:
    history = History(
        stopped="converged", rule="certified", gap_estimate=answer.gap * unit, gap_bound=answer.bound * unit
    )
    for step, loss in enumerate((answer.first * unit, answer.value * unit)):
        history.append(
            {
                "seconds": step * seconds,
                "epoch": float(step),
                "rows": step * num_rows,
                "updates": step,
                "loss": loss,
                "last_loss": loss,
                "validation_loss": None,
                "batch_size": num_rows,
                "learning_rate": 1.0,
            }
        )
    return history


def _tell(callbacks: Sequence[Callback], history: History) -> None:
    """What a callback asks for comes too late: the run is over."""
    for place in range(len(history)):
        row = {name: values[place] for name, values in history.columns.items()}
        seconds, rows = float(row["seconds"] or 0.0), int(row["rows"] or 0)
        observation = Observation(
            seconds=seconds,
            epoch=float(place),
            rows=rows,
            updates=place,
            loss=float(row["loss"] or 0.0),
            validation_loss=None,
            rows_per_second=rows / seconds if seconds > 0.0 else 0.0,
            seconds_left=None,
        )
        for callback in callbacks:
            if callback(observation) is True:
                history.stopped_by_callback = True
        if history.stopped_by_callback:
            return
