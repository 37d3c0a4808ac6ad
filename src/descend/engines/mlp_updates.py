"""Updates of networks: from a gradient over all layers to new parameters, by the formulas of ``updates/``."""

from __future__ import annotations

import numpy as np

from descend.engines.compiled import kernel, part
from descend.engines.mlp_arguments import BIAS, WEIGHTS, WIDTH, Method, Moved, Step
from descend.engines.step_kernels import clip_factor
from descend.engines.tiles import use_wide_vectors
from descend.engines.tiny_numbers import flush_tiny, restore
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray
from descend.updates import ADAGRAD, ADAM, ADAMW, MOMENTUM, NESTEROV, RMSPROP, SGD, reach, update


@part
def weights_step(method: Method, rate: float, scale: float, per_row: float, step: int) -> Step:
    """The numbers of ``step`` for weights; penalties count ``per_row`` times.

    With AdamW L2 acts on the weights themselves, not through the gradient's moments.
    """
    ridge, keep, one, two = method.alpha * per_row, 1.0 - rate * method.decay, 1.0, 1.0
    if method.optimizer == ADAMW:
        ridge, keep = 0.0, 1.0 - rate * (method.decay + ridge)
    if method.optimizer in (ADAM, ADAMW):
        one, two = 1.0 - method.numbers[0] ** step, 1.0 - method.numbers[1] ** step
    return Step(rate, scale, ridge, method.l1 * per_row, keep, one, two)


@part
def bias_step(step: Step) -> Step:
    """The same step of intercepts, on which nothing pulls."""
    return Step(step.rate, step.scale, 0.0, 0.0, 1.0, step.one, step.two)


@part
def move_by_gradient(
    optimizer: int,
    parameters: FloatArray,
    first: FloatArray,
    second: FloatArray,
    gradient: FloatArray,
    numbers: FloatArray,
    step: Step,
) -> None:
    """One update from the ``gradient``, left at zero; ``optimizer`` is a constant where this stands."""
    use_wide_vectors()
    number = parameters.dtype.type
    rate, ridge, keep, scale = number(step.rate), number(step.ridge), number(step.keep), number(step.scale)
    beta1, beta2, one, two = number(numbers[0]), number(numbers[1]), number(step.one), number(step.two)
    for j in range(parameters.size):
        g = gradient[j] * scale + ridge * parameters[j]
        parameters[j], first[j], second[j] = update(
            optimizer, keep * parameters[j], g, first[j], second[j], rate, beta1, beta2, one, two
        )
        gradient[j] = 0.0


@part
def move_by(
    optimizer: int,
    p: FloatArray,
    m: FloatArray,
    v: FloatArray,
    gradient: FloatArray,
    numbers: FloatArray,
    step: Step,
) -> None:
    """``move_by_gradient`` with a loop for each optimizer: a question inside the loop keeps it from vectorising."""
    if optimizer in (ADAM, ADAMW):
        move_by_gradient(ADAM, p, m, v, gradient, numbers, step)
    elif optimizer == MOMENTUM:
        move_by_gradient(MOMENTUM, p, m, v, gradient, numbers, step)
    elif optimizer == NESTEROV:
        move_by_gradient(NESTEROV, p, m, v, gradient, numbers, step)
    elif optimizer == ADAGRAD:
        move_by_gradient(ADAGRAD, p, m, v, gradient, numbers, step)
    elif optimizer == RMSPROP:
        move_by_gradient(RMSPROP, p, m, v, gradient, numbers, step)
    else:
        move_by_gradient(SGD, p, m, v, gradient, numbers, step)


@part
def move_piece(
    parameters: FloatArray,
    first: FloatArray,
    second: FloatArray,
    gradient: FloatArray,
    low: int,
    optimizer: int,
    numbers: FloatArray,
    step: Step,
) -> None:
    """One update of the parameters from ``low`` on by their ``gradient``, which is left at zero."""
    number, high = parameters.dtype.type, low + gradient.size
    move_by(optimizer, parameters[low:high], first[low:high], second[low:high], gradient, numbers, step)
    if step.l1 > 0.0:
        for j in range(low, high):
            by = reach(optimizer, step.rate, second[j], numbers[0], step.two) * step.l1
            parameters[j] = shrunk(parameters[j], number(by))


@part
def clipped(scale: float, gradient: FloatArray, numbers: FloatArray) -> float:
    """``scale``, shortened where the gradient times it is longer than asked for."""
    if numbers[2] > 0.0:
        return scale * clip_factor(gradient.reshape(1, gradient.size), scale, numbers[2])
    return scale


@kernel
def take_network_step(
    moved: Moved,
    gradient: FloatArray,
    layers: IntArray,
    method: Method,
    rate: float,
    scale: float,
    per_row: float,
    step: int,
) -> None:
    """One step from ``scale`` times the sum ``gradient`` (P,), which is left at zero, called from Python."""
    before = flush_tiny()
    parameters, first, second = moved
    if not method.fit_intercept:
        for layer in range(layers.shape[0]):
            for j in range(layers[layer, BIAS], layers[layer, BIAS] + layers[layer, WIDTH]):
                gradient[j] = 0.0
    now = weights_step(method, rate, clipped(scale, gradient, method.numbers), per_row, step)
    for layer in range(layers.shape[0]):
        bias, end = layers[layer, BIAS], layers[layer, BIAS] + layers[layer, WIDTH]
        for piece in range(2):  # and not two calls: each would be compiled for itself
            low, high = (layers[layer, WEIGHTS], bias) if piece == 0 else (bias, end)
            numbers = now if piece == 0 else bias_step(now)
            move_piece(
                parameters, first, second, gradient[low:high], low, method.optimizer, method.numbers, numbers
            )
    restore(before)


@kernel
def sum_of_squares(parameters: FloatArray, layers: IntArray) -> float:
    """The sum of all weights' squares, intercepts apart: every look asks, and NumPy took a fifth of its time."""
    total = 0.0
    for layer in range(layers.shape[0]):
        weights = parameters[layers[layer, WEIGHTS] : layers[layer, BIAS]]
        for j in range(weights.size):
            total += np.float64(weights[j]) * np.float64(weights[j])
    return total
