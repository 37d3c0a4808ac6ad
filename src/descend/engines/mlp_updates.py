"""Updates of networks: from a gradient over all layers to new parameters, by the formulas of ``updates/``.

``parameters``, ``gradient`` and the optimizer's two memories are vectors (P,); ``layers`` is that of
``mlp_kernels.py``.
"""

from __future__ import annotations

from descend.engines.compiled import kernel, part
from descend.engines.step_kernels import clip_factor
from descend.engines.tiny_numbers import flush_tiny, restore
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray
from descend.updates import ADAGRAD, ADAM, ADAMW, MOMENTUM, NESTEROV, RMSPROP, SGD, reach, update

WIDTH, WEIGHTS, BIAS = 2, 3, 4


@part
def move_by_gradient(
    optimizer: int,
    parameters: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    rate: float,
    numbers: FloatArray,
    ridge: float,
    keep: float,
    scale: float,
    correction1: float,
    correction2: float,
) -> None:
    """One update from ``scale`` · ``gradient``, left at zero; ``optimizer`` is a constant where this stands."""
    number = parameters.dtype.type
    rate_, ridge_, keep_, scale_ = number(rate), number(ridge), number(keep), number(scale)
    beta1, beta2 = number(numbers[0]), number(numbers[1])
    one, two = number(correction1), number(correction2)
    for j in range(parameters.size):
        g = gradient[j] * scale_ + ridge_ * parameters[j]
        parameters[j], first[j], second[j] = update(
            optimizer, keep_ * parameters[j], g, first[j], second[j], rate_, beta1, beta2, one, two
        )
        gradient[j] = 0.0


@part
def move_by(
    optimizer: int,
    p: FloatArray,
    g: FloatArray,
    m: FloatArray,
    v: FloatArray,
    rate: float,
    numbers: FloatArray,
    ridge: float,
    keep: float,
    scale: float,
    one: float,
    two: float,
) -> None:
    """``move_by_gradient`` with a loop for each optimizer: a question inside the loop keeps it from vectorising."""
    if optimizer in (ADAM, ADAMW):
        move_by_gradient(ADAM, p, g, m, v, rate, numbers, ridge, keep, scale, one, two)
    elif optimizer == MOMENTUM:
        move_by_gradient(MOMENTUM, p, g, m, v, rate, numbers, ridge, keep, scale, one, two)
    elif optimizer == NESTEROV:
        move_by_gradient(NESTEROV, p, g, m, v, rate, numbers, ridge, keep, scale, one, two)
    elif optimizer == ADAGRAD:
        move_by_gradient(ADAGRAD, p, g, m, v, rate, numbers, ridge, keep, scale, one, two)
    elif optimizer == RMSPROP:
        move_by_gradient(RMSPROP, p, g, m, v, rate, numbers, ridge, keep, scale, one, two)
    else:
        move_by_gradient(SGD, p, g, m, v, rate, numbers, ridge, keep, scale, one, two)


@part
def update_network(
    parameters: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    layers: IntArray,
    optimizer: int,
    rate: float,
    numbers: FloatArray,
    alpha: float,
    l1: float,
    decay: float,
    scale: float,
    fit_intercept: bool,
    step: int,
) -> None:
    """One step from the sum ``gradient`` (P,), which is left at zero for the next batch."""
    number = parameters.dtype.type
    if not fit_intercept:
        for layer in range(layers.shape[0]):
            for j in range(layers[layer, BIAS], layers[layer, BIAS] + layers[layer, WIDTH]):
                gradient[j] = number(0.0)
    if numbers[2] > 0.0:
        scale *= clip_factor(gradient.reshape(1, gradient.size), scale, numbers[2])
    correction1 = 1.0 - numbers[0] ** step if optimizer in (ADAM, ADAMW) else 1.0
    correction2 = 1.0 - numbers[1] ** step if optimizer in (ADAM, ADAMW) else 1.0
    ridge, keep = alpha, 1.0 - rate * decay
    if optimizer == ADAMW:  # L2 acts on the weights themselves, not through the gradient's moments
        ridge, keep = 0.0, 1.0 - rate * (decay + alpha)
    for layer in range(layers.shape[0]):
        start, bias = layers[layer, WEIGHTS], layers[layer, BIAS]
        for piece in range(2):
            low, high = (start, bias) if piece == 0 else (bias, bias + layers[layer, WIDTH])
            pull, stay = (ridge, keep) if piece == 0 else (0.0, 1.0)
            move_by(
                optimizer,
                parameters[low:high],
                gradient[low:high],
                first[low:high],
                second[low:high],
                rate,
                numbers,
                pull,
                stay,
                scale,
                correction1,
                correction2,
            )
        if l1 > 0.0:
            for j in range(start, bias):
                by = reach(optimizer, rate, second[j], numbers[0], correction2) * l1
                parameters[j] = shrunk(parameters[j], number(by))


@kernel
def take_network_step(
    parameters: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    layers: IntArray,
    optimizer: int,
    rate: float,
    numbers: FloatArray,
    alpha: float,
    l1: float,
    decay: float,
    scale: float,
    fit_intercept: bool,
    step: int,
) -> None:
    """``update_network``, called from Python."""
    before = flush_tiny()
    update_network(
        parameters,
        gradient,
        first,
        second,
        layers,
        optimizer,
        rate,
        numbers,
        alpha,
        l1,
        decay,
        scale,
        fit_intercept,
        step,
    )
    restore(before)
