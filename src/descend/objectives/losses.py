"""Losses: the formula of each, and of its derivative, once.

A loss takes a score (what the linear model computes) and a target, and says how wrong the score is.
The formulas are plain arithmetic, so the same function serves NumPy arrays in the reference engine
and single numbers inside compiled kernels. They never overflow: exponents are never positive.

To add a loss: write its two formulas, add an entry to ``LOSSES``, and one line each to ``value`` and
``derivative``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from descend.errors import one_of
from descend.types import FloatArray, Task

SQUARED_ERROR = 0
LOG_LOSS = 1
SOFTMAX = 2


@dataclass(frozen=True, slots=True)
class Loss:
    """What the engines and the learning-rate formula need to know about a loss."""

    name: str
    code: int
    task: Task
    curvature: float
    """The largest second derivative with respect to the score(s)."""


LOSSES = {
    "squared_error": Loss("squared_error", SQUARED_ERROR, "regression", curvature=1.0),
    "log_loss": Loss("log_loss", LOG_LOSS, "classification", curvature=0.25),
}
# Three classes or more turn log_loss into its softmax form; people ask for it by the same name.
SOFTMAX_LOSS = Loss("log_loss", SOFTMAX, "classification", curvature=0.5)


def find_loss(name: str | None, task: Task, num_outputs: int) -> Loss:
    """The loss called ``name`` (None: the task's own) for a model with ``num_outputs`` scores.

    Raises ``InputError`` when there is no such loss, or it does not fit the task.

    >>> find_loss(None, "classification", num_outputs=1).name
    'log_loss'
    """
    fitting = [loss.name for loss in LOSSES.values() if loss.task == task]
    if name is None:
        name = fitting[0]
    if name not in LOSSES:
        raise one_of("loss", name, list(LOSSES))
    if name not in fitting:
        raise one_of(f"loss for {task}", name, fitting)
    return SOFTMAX_LOSS if name == "log_loss" and num_outputs > 1 else LOSSES[name]


# --- one score, one target -------------------------------------------------------------------------


def squared_error(score: Any, target: Any) -> Any:
    """½ (score − target)².

    >>> squared_error(3.0, 1.0)
    2.0
    """
    return 0.5 * (score - target) ** 2


def squared_error_derivative(score: Any, target: Any) -> Any:
    """Score − target."""
    return score - target


def log_loss(score: Any, target: Any) -> Any:
    """−log of the probability that the score gives to the target 0 or 1: log(1 + eˢ) − target·s.

    >>> round(float(log_loss(0.0, 1.0)), 6)
    0.693147
    """
    return np.maximum(score, 0.0) - target * score + np.log1p(np.exp(-np.abs(score)))


def log_loss_derivative(score: Any, target: Any) -> Any:
    """Sigmoid(score) − target, with one exponential and no branch: ½ ± ½ (1 − e⁻ˡˢˡ) / (1 + e⁻ˡˢˡ)."""
    power = np.exp(-np.abs(score))
    return np.copysign(0.5 * (1.0 - power) / (1.0 + power), score) + 0.5 - target


def value(code: int, score: Any, target: Any) -> Any:
    """The loss with this code."""
    if code == LOG_LOSS:
        return log_loss(score, target)
    return squared_error(score, target)


def derivative(code: int, score: Any, target: Any) -> Any:
    """The derivative, with respect to the score, of the loss with this code."""
    if code == LOG_LOSS:
        return log_loss_derivative(score, target)
    return squared_error_derivative(score, target)


# --- a row of k scores, one class ------------------------------------------------------------------
# Softmax couples the scores of a row. A kernel walks the row without allocating; NumPy takes whole
# arrays of rows. They stand together so that whoever edits one sees the other.


def softmax_value(scores: FloatArray, target: int) -> float:
    """−log softmax(scores)[target] for one row; ``scores`` (k,)."""
    largest = scores.max()
    total = 0.0
    for c in range(scores.shape[0]):
        total += np.exp(scores[c] - largest)
    return np.log(total) + largest - scores[target]  # type: ignore[no-any-return]


def softmax_derivative(scores: FloatArray, target: int) -> None:
    """Overwrites ``scores`` (k,) of one row with softmax(scores) − onehot(target)."""
    largest = scores.max()
    total = 0.0
    for c in range(scores.shape[0]):
        scores[c] = np.exp(scores[c] - largest)
        total += scores[c]
    for c in range(scores.shape[0]):
        scores[c] /= total
    scores[target] -= 1.0


def softmax(scores: FloatArray) -> FloatArray:
    """Probabilities of the k classes for each row of ``scores`` (n, k).

    >>> softmax(np.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(score: Any) -> Any:
    """The probability of class 1: 1 / (1 + e⁻ˢ), exact also where it is tiny."""
    return np.exp(np.minimum(score, 0.0)) / (1.0 + np.exp(-np.abs(score)))


# --- arrays of rows, any loss: what the reference engine and the tests use -------------------------


def row_losses(code: int, scores: FloatArray, y: FloatArray) -> FloatArray:
    """Loss of each row, shape (n,); ``scores`` (n, k), ``y`` as in ``Dataset``."""
    if code == SOFTMAX:
        classes = y[:, 0].astype(np.intp)
        below = scores - scores.max(axis=1, keepdims=True)
        return np.asarray(np.log(np.exp(below).sum(axis=1)) - below[np.arange(len(scores)), classes])
    return np.asarray(np.asarray(value(code, scores, y)).sum(axis=1))


def row_derivatives(code: int, scores: FloatArray, y: FloatArray) -> FloatArray:
    """Derivative of each row's loss with respect to its scores, shape (n, k)."""
    if code == SOFTMAX:
        classes = y[:, 0].astype(np.intp)
        return np.asarray(softmax(scores) - np.eye(scores.shape[1])[classes])
    return np.asarray(derivative(code, scores, y))


def losses_and_derivatives(code: int, scores: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``row_losses`` (n,) and ``row_derivatives`` (n, k) at once; softmax overwrites ``scores`` and saves a power."""
    if code != SOFTMAX:
        return row_losses(code, scores, y), row_derivatives(code, scores, y)
    places = (np.arange(len(scores)), y[:, 0].astype(np.intp))
    scores -= scores.max(axis=1, keepdims=True)
    chosen = scores[places]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1)
    scores /= total[:, None]
    scores[places] -= 1.0
    return np.log(total) - chosen, scores


FORMULAS = (
    squared_error,
    squared_error_derivative,
    log_loss,
    log_loss_derivative,
    value,
    derivative,
    softmax_value,
    softmax_derivative,
)
"""What a kernel may call."""
