"""Losses: the formula of each, and of its derivative, once.

A loss takes a score (what the linear model computes) and a target, and says how wrong the score is.
The formulas are plain arithmetic, so the same function serves NumPy arrays in the reference engine
and single numbers inside compiled kernels. They never overflow: exponents are never positive.

To add a loss: write its two formulas, add an entry to ``LOSSES``, and one line each to ``value`` and
``derivative``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from descend.errors import InputError, one_of
from descend.types import FloatArray, Task

SQUARED_ERROR = 0
LOG_LOSS = 1
SOFTMAX = 2
HINGE = 3
SQUARED_HINGE = 4
MODIFIED_HUBER = 5
HUBER = 6
EPSILON_INSENSITIVE = 7
QUANTILE = 8
POISSON = 9

Shape: TypeAlias = tuple[float, float]
"""What a formula takes besides score and target: its setting (epsilon, or the quantile), and how far its corners
are rounded. Numbers and no constants, so that kernels are not compiled anew for each."""
PLAIN: Shape = (0.0, 0.0)
SHARPEST = 1e-30
"""Corners rounded over less than this are corners."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What the engines and the learning-rate formula need to know about a loss."""

    name: str
    code: int
    task: Task
    curvature: float
    """The largest second derivative with respect to the score(s); where there is none, what rates go by instead."""
    shape: Shape = PLAIN
    degree: int = 0
    """The loss of scores and targets c times as large is cᵈᵉᵍʳᵉᵉ times the loss (epsilon scaled too)."""
    has_corners: bool = False
    """Its slope jumps: no curvature bounds it, and Newton's steps need the corners rounded."""
    has_bound: bool = True
    """False: its curvature grows without limit (poisson), and ``curvature`` is that of the constant model."""

    @property
    def has_straights(self) -> bool:
        """Whether rows far off bend no more: their curvature says nothing about where they begin to again."""
        return self.code in (HUBER, MODIFIED_HUBER)

    @property
    def is_never_negative(self) -> bool:
        """Whether no row can be below 0, so that the objective is no further from its lowest value than from 0."""
        return self.code != POISSON

    @property
    def kernel_shape(self) -> Shape | None:
        """What kernels get: None for the losses that most people ask for, which then compile without the others."""
        return None if self.code in (LOG_LOSS, SOFTMAX, SQUARED_ERROR) else self.shape

    def rounded(self, width: float) -> Loss:
        """The same loss with corners rounded over ``width``: lower by ½ ``width`` a row and output at the most."""
        return (
            replace(self, shape=(self.shape[0], width), curvature=1.0 / width) if self.has_corners else self
        )


# Losses with corners go by the curvature that they have when rounded over a margin, or a deviation of the
# target, of 1: a step of the automatic rate then moves a score by about its distance to the corner.
LOSSES = {
    "squared_error": Loss("squared_error", SQUARED_ERROR, "regression", curvature=1.0, degree=2),
    "huber": Loss("huber", HUBER, "regression", curvature=1.0, degree=2),
    "epsilon_insensitive": Loss(
        "epsilon_insensitive", EPSILON_INSENSITIVE, "regression", curvature=1.0, degree=1, has_corners=True
    ),
    "quantile": Loss("quantile", QUANTILE, "regression", curvature=1.0, degree=1, has_corners=True),
    "poisson": Loss("poisson", POISSON, "regression", curvature=1.0, has_bound=False),
    "log_loss": Loss("log_loss", LOG_LOSS, "classification", curvature=0.25),
    "hinge": Loss("hinge", HINGE, "classification", curvature=1.0, has_corners=True),
    "squared_hinge": Loss("squared_hinge", SQUARED_HINGE, "classification", curvature=2.0),
    "modified_huber": Loss("modified_huber", MODIFIED_HUBER, "classification", curvature=2.0),
}
# Three classes or more turn log_loss into its softmax form; people ask for it by the same name.
SOFTMAX_LOSS = Loss("log_loss", SOFTMAX, "classification", curvature=0.5)


def find_loss(
    name: str | None,
    task: Task,
    num_outputs: int,
    epsilon: float = 0.1,
    quantile: float = 0.5,
    scale: float = 1.0,
) -> Loss:
    """The loss called ``name`` (None: the task's own) for a model with ``num_outputs`` scores.

    ``epsilon`` is in the target's units, ``scale`` how many of them make one unit of the scores.

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
        raise InputError(
            f"loss {name!r} is for {LOSSES[name].task}, and the task is {task}; choose one of: {', '.join(fitting)}"
        )
    if name == "log_loss" and num_outputs > 1:
        return SOFTMAX_LOSS
    setting = {"huber": epsilon / scale, "epsilon_insensitive": epsilon / scale, "quantile": quantile}
    loss = LOSSES[name]
    return replace(loss, shape=(setting[name], 0.0)) if name in setting else loss


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


def hinge(score: Any, target: Any, width: Any) -> Any:
    """max(0, 1 − margin), the margin being the score with the sign of the target's class 0 or 1.

    >>> float(hinge(0.25, 1.0, 0.0)), float(hinge(0.25, 0.0, 0.0))
    (0.75, 1.25)
    """
    short = np.maximum(1.0 - (2.0 * target - 1.0) * score, 0.0)
    slope = np.minimum(short / np.maximum(width, SHARPEST), 1.0)
    return slope * short - 0.5 * width * slope * slope


def hinge_derivative(score: Any, target: Any, width: Any) -> Any:
    """−1 or 1 where the margin is short of 1, else 0."""
    sign = 2.0 * target - 1.0
    return -sign * np.minimum(np.maximum(1.0 - sign * score, 0.0) / np.maximum(width, SHARPEST), 1.0)


def squared_hinge(score: Any, target: Any) -> Any:
    """max(0, 1 − margin)², as in scikit-learn without a half."""
    return np.maximum(1.0 - (2.0 * target - 1.0) * score, 0.0) ** 2


def squared_hinge_derivative(score: Any, target: Any) -> Any:
    """∓2 max(0, 1 − margin)."""
    sign = 2.0 * target - 1.0
    return -2.0 * sign * np.maximum(1.0 - sign * score, 0.0)


def modified_huber(score: Any, target: Any) -> Any:
    """max(0, 1 − margin)², and −4 · margin where the margin is below −1 (Zhang 2004).

    >>> float(modified_huber(-3.0, 1.0))
    12.0
    """
    short = np.maximum(1.0 - (2.0 * target - 1.0) * score, 0.0)
    near = np.minimum(short, 2.0)
    return near * near + 4.0 * (short - near)


def modified_huber_derivative(score: Any, target: Any) -> Any:
    """∓2 max(0, 1 − margin), ∓4 at the most."""
    sign = 2.0 * target - 1.0
    return -2.0 * sign * np.minimum(np.maximum(1.0 - sign * score, 0.0), 2.0)


def huber(score: Any, target: Any, epsilon: Any) -> Any:
    """½ r² for an error r up to ``epsilon``, ``epsilon`` · (|r| − ½ ``epsilon``) beyond.

    >>> float(huber(3.0, 1.0, 0.5))
    0.875
    """
    error = np.abs(score - target)
    near = np.minimum(error, epsilon)
    return near * (error - 0.5 * near)


def huber_derivative(score: Any, target: Any, epsilon: Any) -> Any:
    """The error, ``epsilon`` at the most."""
    return np.minimum(np.maximum(score - target, -epsilon), epsilon)


def epsilon_insensitive(score: Any, target: Any, epsilon: Any, width: Any) -> Any:
    """By how much the error passes ``epsilon``.

    >>> float(epsilon_insensitive(3.0, 1.0, 0.5, 0.0))
    1.5
    """
    short = np.maximum(np.abs(score - target) - epsilon, 0.0)
    slope = np.minimum(short / np.maximum(width, SHARPEST), 1.0)
    return slope * short - 0.5 * width * slope * slope


def epsilon_insensitive_derivative(score: Any, target: Any, epsilon: Any, width: Any) -> Any:
    """The error's sign where it passes ``epsilon``, else 0."""
    short = np.maximum(np.abs(score - target) - epsilon, 0.0)
    return np.copysign(np.minimum(short / np.maximum(width, SHARPEST), 1.0), score - target)


def quantile_loss(score: Any, target: Any, quantile: Any, width: Any) -> Any:
    """``quantile`` times what the score is too low by, 1 − ``quantile`` times what it is too high by.

    >>> round(float(quantile_loss(1.0, 3.0, 0.9, 0.0)), 6)
    1.8
    """
    slope = quantile_derivative(score, target, quantile, width)
    return slope * (score - target) - 0.5 * width * slope * slope


def quantile_derivative(score: Any, target: Any, quantile: Any, width: Any) -> Any:
    """−``quantile`` where the score is too low, 1 − ``quantile`` where it is too high."""
    steep = (score - target) / np.maximum(width, SHARPEST)
    return np.minimum(np.maximum(steep, -quantile), 1.0 - quantile)


def poisson(score: Any, target: Any) -> Any:
    """Half the deviance of the mean eˢ: eˢ − target · s + target · log(target) − target; 0 where eˢ is the target.

    >>> float(poisson(0.0, 1.0)), round(float(poisson(0.0, 3.0)), 6)
    (0.0, 1.295837)
    """
    return np.exp(score) - target * score + target * (np.log(np.maximum(target, SHARPEST)) - 1.0)


def poisson_derivative(score: Any, target: Any) -> Any:
    """eˢ − target."""
    return np.exp(score) - target


def value(code: int, score: Any, target: Any, shape: Shape = PLAIN) -> Any:
    """The loss with this code."""
    if code == LOG_LOSS:
        return log_loss(score, target)
    if code == HINGE:
        return hinge(score, target, shape[1])
    if code == SQUARED_HINGE:
        return squared_hinge(score, target)
    if code == MODIFIED_HUBER:
        return modified_huber(score, target)
    if code == HUBER:
        return huber(score, target, shape[0])
    if code == EPSILON_INSENSITIVE:
        return epsilon_insensitive(score, target, shape[0], shape[1])
    if code == QUANTILE:
        return quantile_loss(score, target, shape[0], shape[1])
    if code == POISSON:
        return poisson(score, target)
    return squared_error(score, target)


def derivative(code: int, score: Any, target: Any, shape: Shape = PLAIN) -> Any:
    """The derivative, with respect to the score, of the loss with this code."""
    if code == LOG_LOSS:
        return log_loss_derivative(score, target)
    if code == HINGE:
        return hinge_derivative(score, target, shape[1])
    if code == SQUARED_HINGE:
        return squared_hinge_derivative(score, target)
    if code == MODIFIED_HUBER:
        return modified_huber_derivative(score, target)
    if code == HUBER:
        return huber_derivative(score, target, shape[0])
    if code == EPSILON_INSENSITIVE:
        return epsilon_insensitive_derivative(score, target, shape[0], shape[1])
    if code == QUANTILE:
        return quantile_derivative(score, target, shape[0], shape[1])
    if code == POISSON:
        return poisson_derivative(score, target)
    return squared_error_derivative(score, target)


def second_derivatives(code: int, scores: FloatArray, y: FloatArray, shape: Shape = PLAIN) -> FloatArray:
    """How sharply each score's loss bends, (n, k), for all but softmax; corners bend where they are rounded."""
    if code == LOG_LOSS:
        power = np.exp(-np.abs(scores))
        return np.asarray(power / np.square(1.0 + power))
    if code == SQUARED_ERROR:
        return np.ones_like(scores)
    if code == POISSON:
        return np.asarray(np.exp(scores))
    slopes = np.asarray(derivative(code, scores, targets_of(y, scores.shape[1]), shape))
    size = np.abs(slopes)
    if code == SQUARED_HINGE:
        return np.asarray(2.0 * (size > 0.0))
    if code == MODIFIED_HUBER:
        return np.asarray(2.0 * ((size > 0.0) & (size < 4.0)))
    if code == HUBER:
        return np.asarray(1.0 * (size < shape[0]))
    width = max(shape[1], SHARPEST)
    if code == QUANTILE:
        return np.asarray(((slopes > -shape[0]) & (slopes < 1.0 - shape[0])) / width)
    return np.asarray(((size > 0.0) & (size < 1.0)) / width)


def safe_curvatures(code: int, scores: FloatArray, y: FloatArray, shape: Shape) -> FloatArray:
    """For losses with corners or straights: how a parabola bends that touches the loss and is nowhere below it.

    Steps by it always lead down (majorise and minimise), also where few rows lie in a corner and the second
    derivative knows of no other. Huber's are the weights of iterated least squares.
    """
    targets = targets_of(y, scores.shape[1])
    width = max(shape[1], SHARPEST)
    if code == HUBER:
        return np.asarray(shape[0] / np.maximum(shape[0], np.abs(scores - targets)))
    if code == MODIFIED_HUBER:
        return np.asarray(2.0 / np.maximum(1.0, -(2.0 * targets - 1.0) * scores))
    if code == HINGE:
        short = 1.0 - (2.0 * targets - 1.0) * scores
        return np.asarray(1.0 / np.maximum(width, np.abs(2.0 * short - width)))
    error = scores - targets
    if code == QUANTILE:
        return np.asarray(1.0 / np.maximum(width, np.abs(2.0 * error - (1.0 - 2.0 * shape[0]) * width)))
    near, far = np.abs(error) - shape[0], np.abs(error) + shape[0]
    one = 1.0 / np.maximum(width, np.abs(2.0 * near - width))
    return np.asarray(one + 1.0 / np.maximum(width, 2.0 * far + width))


def targets_of(y: FloatArray, num_outputs: int) -> FloatArray:
    """The targets of each score (n, k): ``y`` itself, or one class against the rest where ``y`` has codes of more.

    As float64: with small integers NumPy would round losses to the precision of the scores.
    """
    if y.shape[1] < num_outputs:
        y = y == np.arange(num_outputs)
    return np.asarray(y, dtype=np.float64)


# --- a row of k scores, one class ------------------------------------------------------------------
# Softmax couples the scores of a row. A kernel walks the row without allocating; NumPy takes whole
# arrays of rows. They stand together so that whoever edits one sees the other; the derivative that
# kernels take is in ``engines/row_kernels.py``.


def softmax_value(scores: FloatArray, target: int) -> float:
    """−log softmax(scores)[target] for one row; ``scores`` (k,)."""
    largest = scores[0]
    for c in range(1, scores.shape[0]):  # scores.max() would compile ten functions of Numba's
        largest = max(largest, scores[c])
    total = 0.0
    for c in range(scores.shape[0]):
        total += np.exp(scores[c] - largest)
    return np.log(total) + largest - scores[target]  # type: ignore[no-any-return]


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


def row_losses(code: int, scores: FloatArray, y: FloatArray, shape: Shape = PLAIN) -> FloatArray:
    """Loss of each row, shape (n,); ``scores`` (n, k), ``y`` as in ``Dataset``."""
    if code == SOFTMAX:
        classes = y[:, 0].astype(np.intp)
        below = scores - scores.max(axis=1, keepdims=True)
        return np.asarray(np.log(np.exp(below).sum(axis=1)) - below[np.arange(len(scores)), classes])
    return np.asarray(np.asarray(value(code, scores, targets_of(y, scores.shape[1]), shape)).sum(axis=1))


def row_derivatives(code: int, scores: FloatArray, y: FloatArray, shape: Shape = PLAIN) -> FloatArray:
    """Derivative of each row's loss with respect to its scores, shape (n, k)."""
    if code == SOFTMAX:
        classes = y[:, 0].astype(np.intp)
        return np.asarray(softmax(scores) - np.eye(scores.shape[1])[classes])
    return np.asarray(derivative(code, scores, targets_of(y, scores.shape[1]), shape))


def losses_and_derivatives(
    code: int, scores: FloatArray, y: FloatArray, shape: Shape = PLAIN
) -> tuple[FloatArray, FloatArray]:
    """``row_losses`` (n,) and ``row_derivatives`` (n, k) at once; softmax overwrites ``scores`` and saves a power."""
    if code != SOFTMAX:
        return row_losses(code, scores, y, shape), row_derivatives(code, scores, y, shape)
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
    hinge,
    hinge_derivative,
    squared_hinge,
    squared_hinge_derivative,
    modified_huber,
    modified_huber_derivative,
    huber,
    huber_derivative,
    epsilon_insensitive,
    epsilon_insensitive_derivative,
    quantile_derivative,
    quantile_loss,
    poisson,
    poisson_derivative,
    value,
    derivative,
    softmax_value,
)
"""What a kernel may call."""
