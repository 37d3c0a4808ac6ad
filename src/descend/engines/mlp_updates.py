"""Updates of networks: from a gradient over all layers to new parameters, by the formulas of ``updates/``.

``parameters``, ``gradient`` and the optimizer's two memories are vectors (P,); ``layers`` is that of
``mlp_kernels.py``.
"""

from __future__ import annotations

from descend.engines.compiled import kernel, part
from descend.engines.step_kernels import clip_factor
from descend.engines.tiles import use_wide_vectors
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
    use_wide_vectors()
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
def corrections(optimizer: int, numbers: FloatArray, step: int) -> tuple[float, float]:
    """What Adam's two moments are divided by in ``step``; 1 for the others."""
    if optimizer in (ADAM, ADAMW):
        return 1.0 - numbers[0] ** step, 1.0 - numbers[1] ** step
    return 1.0, 1.0


@part
def pulls(optimizer: int, rate: float, alpha: float, decay: float) -> tuple[float, float]:
    """L2's part in the gradient, and what weights are multiplied by.

    With AdamW L2 acts on the weights themselves, not through the gradient's moments.
    """
    if optimizer == ADAMW:
        return 0.0, 1.0 - rate * (decay + alpha)
    return alpha, 1.0 - rate * decay


@part
def move_piece(
    parameters: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    low: int,
    optimizer: int,
    rate: float,
    numbers: FloatArray,
    ridge: float,
    l1: float,
    keep: float,
    scale: float,
    correction1: float,
    correction2: float,
) -> None:
    """One update of the parameters from ``low`` on by their ``gradient``, which is left at zero."""
    number, high = parameters.dtype.type, low + gradient.size
    move_by(
        optimizer,
        parameters[low:high],
        gradient,
        first[low:high],
        second[low:high],
        rate,
        numbers,
        ridge,
        keep,
        scale,
        correction1,
        correction2,
    )
    if l1 > 0.0:
        for j in range(low, high):
            by = reach(optimizer, rate, second[j], numbers[0], correction2) * l1
            parameters[j] = shrunk(parameters[j], number(by))


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
    one, two = corrections(optimizer, numbers, step)
    ridge, keep = pulls(optimizer, rate, alpha, decay)
    for layer in range(layers.shape[0]):
        start, bias = layers[layer, WEIGHTS], layers[layer, BIAS]
        for piece in range(2):
            low, high = (start, bias) if piece == 0 else (bias, bias + layers[layer, WIDTH])
            pull, stay, corner = (ridge, keep, l1) if piece == 0 else (0.0, 1.0, 0.0)
            move_piece(
                parameters, gradient[low:high], first, second, low, optimizer, rate, numbers, pull, corner, stay,
                scale, one, two,
            )  # fmt: skip


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
