"""The objective that goes with a target as it is scaled: loss, penalty, the best constant model, and units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from descend.errors import InputError
from descend.objectives.losses import LOG_LOSS, LOSSES, POISSON, SOFTMAX, SQUARED_ERROR, Loss, find_loss
from descend.objectives.penalties import Penalty, find_penalty
from descend.settings import Settings
from descend.types import Dataset, FloatArray

if TYPE_CHECKING:
    from descend.features import Target

COUNTED = 2**16
"""Codes counted at a time: whole numbers of all rows would take as much room as the target."""
SAFETY = 4.0
"""Poisson's curvature has no bound: rates go by so many times that of the constant model."""


def find_objective(data: Dataset, target: Target, settings: Settings) -> tuple[Loss, Penalty]:
    """Loss and penalty for the target as it is scaled; raises ``InputError`` where they do not fit it."""
    scale = float(np.sqrt(np.mean(np.square(target.scale)))) if target.task == "regression" else 1.0
    loss = find_loss(
        settings.loss, target.task, target.num_outputs, settings.epsilon, settings.quantile, scale
    )
    penalty = find_penalty(settings.penalty, settings.alpha, settings.l1_ratio, loss.degree, scale)
    if loss.code == POISSON:
        lowest = float(data.y.min() * target.scale[0] + target.mean[0])
        if lowest < 0.0:
            raise InputError(
                f"loss is 'poisson', but the target goes down to {lowest:g}; counts ≥ 0 are needed"
            )
        loss = replace(loss, curvature=SAFETY * float(_mean_counts(data).max()))
    return loss, penalty


def first_intercept(
    loss: Loss, data: Dataset, num_outputs: int, shares: FloatArray | None = None
) -> FloatArray | float:
    """Where training starts: at the best constant model where a formula gives it, else at zero.

    From zero nearly all that log loss gains on a rare class would be the intercept's, and poisson's eˢ bends too much
    between zero and the mean. ``shares``: what ``class_shares`` has found, where it was asked.
    """
    if loss.code == POISSON:
        return np.log(_mean_counts(data))
    if loss.code not in (LOG_LOSS, SOFTMAX):
        return 0.0
    found = class_shares(loss, data, num_outputs) if shares is None else shares
    assert found is not None
    logs = np.log(np.maximum(found, 0.5 / data.num_rows))
    return np.asarray(logs[1:] - logs[:1] if loss.code == LOG_LOSS else logs - logs.mean())


def constant_loss(
    loss: Loss, data: Dataset, num_outputs: int, shares: FloatArray | None = None
) -> float | None:
    """The loss of the best constant model; None where no formula gives it."""
    if loss.code == SQUARED_ERROR:
        if data.known is not None and data.known.num_rows == data.num_rows:
            return data.known.products.constant_loss
        mean = np.average(data.y, axis=0, weights=data.weights)
        return 0.5 * float(np.average(np.square(data.y - mean), axis=0, weights=data.weights).sum())
    shares = class_shares(loss, data, num_outputs) if shares is None else shares
    if shares is None:
        return None
    return -float(np.sum(shares * np.log(np.maximum(shares, np.finfo(float).tiny))))


def class_shares(loss: Loss, data: Dataset, num_outputs: int) -> FloatArray | None:
    """The share of the weight that each class has; None for losses whose best constant they do not tell."""
    if loss.code not in (LOG_LOSS, SOFTMAX):
        return None
    if num_outputs == 1:
        weight = float(data.num_rows if data.weights is None else data.weights.sum())
        ones = data.y[:, 0] == 1
        of_ones = float(np.sum(ones if data.weights is None else data.weights, where=ones))
        return np.array([weight - of_ones, of_ones]) / weight
    sums = np.zeros(max(2, num_outputs))
    for start in range(0, data.num_rows, COUNTED):
        rows = slice(start, start + COUNTED)
        weights = None if data.weights is None else data.weights[rows]
        sums += np.bincount(data.y[rows, 0].astype(np.intp), weights=weights, minlength=len(sums))
    return np.asarray(sums / sums.sum())


def _mean_counts(data: Dataset) -> FloatArray:
    """The mean of each output; of nothing but zeros half a count, for rows to come may hold more."""
    mean = np.average(data.y, axis=0, weights=data.weights)
    return np.where(mean > 0.0, mean, 0.5 / data.num_rows)


def loss_unit(target: Target, loss: str | None = None) -> float:
    """The loss in the target's units over that of the standardised target; squared error's by default."""
    if target.task == "classification":
        return 1.0
    square = float(np.mean(np.square(target.scale)))
    degree = LOSSES[loss or "squared_error"].degree
    return square if degree == 2 else float(square ** (0.5 * degree))
