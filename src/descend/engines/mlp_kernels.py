"""Compiled loops of networks: scores, losses, gradients of blocks of rows; steps. The twin is ``reference_mlp.py``.

n rows, d columns, k outputs, P numbers in ``parameters`` (``models/network.py`` says where which lies). ``X`` is
(n, d); CSR rows are in ``values``, ``columns``, ``starts``, which are empty otherwise, as ``X`` is then. ``layers``
(L, 8) int64: depth, units, width, weights, bias, and where in ``room`` the layer's scores, outputs and derivatives
are. Nothing is allocated inside a step, nothing is checked.
"""

from __future__ import annotations

import numpy as np

from descend.engines import tiles
from descend.engines.compiled import inline, kernel, part
from descend.engines.mlp_updates import corrections, move_piece, pulls
from descend.engines.row_kernels import block_loss, write_room_of_derivatives
from descend.engines.step_kernels import clip_factor
from descend.engines.tiny_numbers import flush_tiny, restore
from descend.engines.unit_kernels import activate_block, multiply_slopes
from descend.objectives.losses import Shape
from descend.types import FloatArray, IntArray
from descend.updates import SGD
from descend.updates.schedules import rate_at

BLOCK = 64
"""Rows whose hidden layers are kept at once, as many as the room of ``row_kernels`` has."""
PIECE = 4096
"""Numbers of a gradient that exist at once where a step is taken in pieces: 16 kB of the near cache."""
DEPTH, UNITS, WIDTH, WEIGHTS, BIAS, Z, A, D = range(8)


@part
def place_rows(
    X: FloatArray, starts: IntArray, order: IntArray, start: int, n: int, rows: IntArray, places: IntArray
) -> None:
    """Overwrites ``rows`` with numbers of rows, ``places`` with where each begins in ``X``."""
    for i in range(n):
        rows[i] = order[start + i] if order.size > 0 else start + i
        places[i] = rows[i] * X.shape[1]


@part
def write_sparse_scores(
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    rows: IntArray,
    n: int,
    parameters: FloatArray,
    bias: int,
    width: int,
    room: FloatArray,
    z: int,
) -> None:
    """Scores of the first layer from CSR rows: a row of weights for each number that is not zero."""
    for i in range(n):
        goal = z + i * width
        for c in range(width):
            room[goal + c] = parameters[bias + c]
        for place in range(starts[rows[i]], starts[rows[i] + 1]):
            value, first = values[place], np.int64(columns[place]) * width
            weights, scores = parameters[first : first + width], room[goal : goal + width]
            for c in range(scores.size):
                scores[c] += value * weights[c]


@part
def add_sparse_outer(
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    rows: IntArray,
    n: int,
    room: FloatArray,
    d: int,
    width: int,
    gradient: FloatArray,
    factor: float,
) -> None:
    """Adds factor · x dᵀ of CSR rows to the first layer's part of ``gradient``."""
    number = room.dtype.type
    for i in range(n):
        for place in range(starts[rows[i]], starts[rows[i] + 1]):
            value, first = number(factor) * values[place], np.int64(columns[place]) * width
            goal, derivatives = gradient[first : first + width], room[d + i * width : d + (i + 1) * width]
            for c in range(goal.size):
                goal[c] += value * derivatives[c]


@part
def go_forward(
    X: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    rows: IntArray,
    places: IntArray,
    inner: IntArray,
    n: int,
    parameters: FloatArray,
    layers: IntArray,
    activation: int,
    room: FloatArray,
) -> None:
    """Writes scores of every layer, and what hidden units make of them, for n rows."""
    for layer in range(layers.shape[0]):
        width, z = layers[layer, WIDTH], layers[layer, Z]
        weights, bias = layers[layer, WEIGHTS], layers[layer, BIAS]
        if layer > 0:
            place_inner(layers, layer, n, inner)
            tiles.write_products(
                room, inner, n, layers[layer, DEPTH], parameters, weights, bias, width, room, z
            )
        elif starts.size > 0:
            write_sparse_scores(values, columns, starts, rows, n, parameters, bias, width, room, z)
        else:
            tiles.write_products(
                X, places, n, layers[layer, DEPTH], parameters, weights, bias, width, room, z
            )
        if layer + 1 < layers.shape[0]:
            activate_block(activation, room, z, layers[layer, A], n * width)


@part
def place_inner(layers: IntArray, layer: int, n: int, inner: IntArray) -> None:
    """Overwrites ``inner`` with where in ``room`` the outputs of the layer below begin, row by row."""
    for i in range(n):
        inner[i] = layers[layer - 1, A] + i * layers[layer - 1, WIDTH]


@part
def go_back(
    layers: IntArray, layer: int, n: int, parameters: FloatArray, activation: int, room: FloatArray
) -> None:
    """Writes the derivatives of the layer below ``layer``."""
    below = layer - 1
    tiles.write_back(
        room,
        layers[layer, D],
        n,
        parameters,
        layers[layer, WEIGHTS],
        layers[layer, DEPTH],
        layers[layer, WIDTH],
        room,
        layers[below, D],
        layers[below, WIDTH],
    )
    count = n * layers[below, WIDTH]
    multiply_slopes(activation, room, layers[below, Z], layers[below, A], layers[below, D], count)


@part
def take_in(
    X: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    rows: IntArray,
    places: IntArray,
    inner: IntArray,
    n: int,
    layers: IntArray,
    layer: int,
    room: FloatArray,
    goal: FloatArray,
    keep: float,
    factor: float,
    intercepts: bool,
) -> None:
    """Overwrites a layer's part of ``goal`` with keep · itself + factor · the gradient's sum over n rows.

    With ``goal`` the parameters this is a step of plain gradient descent, and no gradient exists.
    """
    width, d, weights = layers[layer, WIDTH], layers[layer, D], layers[layer, WEIGHTS]
    bias, number = layers[layer, BIAS], room.dtype.type
    if layer > 0:
        place_inner(layers, layer, n, inner)
        tiles.add_outer(room, inner, n, layers[layer, DEPTH], room, d, goal, weights, width, keep, factor)
    elif starts.size > 0:
        if keep != 1.0:
            for i in range(weights, bias):
                goal[i] *= number(keep)
        add_sparse_outer(values, columns, starts, rows, n, room, d, width, goal, factor)
    else:
        tiles.add_outer(X, places, n, layers[layer, DEPTH], room, d, goal, weights, width, keep, factor)
    if intercepts:
        total = goal[bias : bias + width]
        for i in range(n):
            derivatives = room[d + i * width : d + (i + 1) * width]
            for c in range(total.size):
                total[c] += number(factor) * derivatives[c]


@part
def step_on(places: IntArray, n: int, by: int) -> None:
    """Moves n places on."""
    for i in range(n):
        places[i] += by


@part
def move_layer(
    X: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    rows: IntArray,
    places: IntArray,
    inner: IntArray,
    n: int,
    layers: IntArray,
    layer: int,
    room: FloatArray,
    parameters: FloatArray,
    gradient: FloatArray,
    first: FloatArray,
    second: FloatArray,
    optimizer: int,
    rate: float,
    numbers: FloatArray,
    alpha: float,
    l1: float,
    decay: float,
    scale: float,
    intercepts: bool,
    step: int,
    in_pieces: bool,
) -> None:
    """A layer's step by ``gradient`` (P,), which is left at zero.

    ``in_pieces``: it is zero before, too, and the gradient of n rows exists for some inputs' weights at a time, in
    the near cache. A sparse layer's exists as a whole, for it is made row by row.
    """
    depth, width, d = layers[layer, DEPTH], layers[layer, WIDTH], layers[layer, D]
    weights, bias, sparse = layers[layer, WEIGHTS], layers[layer, BIAS], layer == 0 and starts.size > 0
    one, two = corrections(optimizer, numbers, step)
    ridge, keep = pulls(optimizer, rate, alpha, decay)
    if in_pieces and sparse:
        add_sparse_outer(values, columns, starts, rows, n, room, d, width, gradient, 1.0)
    elif in_pieces and layer > 0:
        place_inner(layers, layer, n, inner)
    inputs = max(1, PIECE // width) if in_pieces and not sparse else depth
    num_pieces = -(-depth // inputs)
    for piece in range(num_pieces + 1 if intercepts else num_pieces):
        start, count = weights + piece * inputs * width, min(inputs, depth - piece * inputs)
        pull, stay, corner, at = ridge, keep, l1, start
        if piece == num_pieces:
            start, count, pull, stay, corner = bias, 1, 0.0, 1.0, 0.0
            at = start
            if in_pieces:
                for i in range(n):
                    for c in range(width):
                        gradient[at + c] += room[d + i * width + c]
        elif in_pieces and not sparse:
            at = 0
            if layer > 0:
                tiles.add_outer(room, inner, n, count, room, d, gradient, at, width, 1.0, 1.0)
                step_on(inner, n, count)
            else:
                tiles.add_outer(X, places, n, count, room, d, gradient, at, width, 1.0, 1.0)
                step_on(places, n, count)
        move_piece(
            parameters, gradient[at : at + count * width], first, second, start, optimizer, rate, numbers, pull,
            corner, stay, scale, one, two,
        )  # fmt: skip


@part
def scores_to_columns(layers: IntArray, n: int, room: FloatArray, scores: FloatArray) -> None:
    """Copies the last layer's scores into ``scores`` (k + 2, BLOCK), a row for each output."""
    last = layers.shape[0] - 1
    for c in range(layers[last, UNITS]):
        for i in range(n):
            scores[c, i] = room[layers[last, Z] + i * layers[last, WIDTH] + c]


@part
def columns_to_derivatives(layers: IntArray, n: int, room: FloatArray, scores: FloatArray) -> None:
    """Copies derivatives in ``scores`` to the last layer's."""
    last = layers.shape[0] - 1
    for c in range(layers[last, UNITS]):
        for i in range(n):
            room[layers[last, D] + i * layers[last, WIDTH] + c] = scores[c, i]


@part
def come_back(
    X: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    y: FloatArray,
    weights: FloatArray,
    rows: IntArray,
    places: IntArray,
    inner: IntArray,
    n: int,
    parameters: FloatArray,
    layers: IntArray,
    activation: int,
    loss: int,
    shape: Shape | None,
    room: FloatArray,
    scores: FloatArray,
    goal: FloatArray,
    keep: float,
    factor: float,
    intercepts: bool,
) -> None:
    """From ``scores`` (k + 2, BLOCK) back through every layer, each of which goes into ``goal`` (``take_in``)."""
    write_room_of_derivatives(y, weights, rows, n, loss, shape, scores)
    columns_to_derivatives(layers, n, room, scores)
    for layer in range(layers.shape[0] - 1, -1, -1):
        if layer > 0:
            go_back(layers, layer, n, parameters, activation, room)
        take_in(
            X, values, columns, starts, rows, places, inner, n, layers, layer, room, goal, keep, factor, intercepts
        )  # fmt: skip


@inline
def room_of(layers: IntArray, parameters: FloatArray) -> FloatArray:
    """Zeros for the scores, outputs and derivatives of a block of rows; what fills up rows stays zero."""
    last = layers.shape[0] - 1
    return np.zeros(layers[last, D] + BLOCK * layers[last, WIDTH], dtype=parameters.dtype)


@kernel
def add_block_sums(
    X: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    layers: IntArray,
    activation: int,
    loss: int,
    shape: Shape | None,
    gradient: FloatArray,
    with_loss: bool,
) -> tuple[float, float]:
    """Adds the gradients of rows order[start:stop] to ``gradient`` (P,) unless that is empty.

    Without an order they are rows start … stop − 1, of which it returns the sums of weighted losses (0 unless
    ``with_loss``) and of weights.
    """
    room = room_of(layers, parameters)
    scores = np.empty((layers[layers.shape[0] - 1, UNITS] + 2, BLOCK), dtype=parameters.dtype)
    rows, places, inner = (
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
    )
    total, total_weight = 0.0, 0.0
    for low in range(start, stop, BLOCK):
        n = min(BLOCK, stop - low)
        place_rows(X, starts, order, low, n, rows, places)
        go_forward(X, values, columns, starts, rows, places, inner, n, parameters, layers, activation, room)
        scores_to_columns(layers, n, room, scores)
        if with_loss:
            total += block_loss(y, weights, low, low + n, loss, shape, scores)
        for i in range(n):
            total_weight += weights[rows[i]] if weights.size else 1.0
        if gradient.size > 0:
            come_back(
                X, values, columns, starts, y, weights, rows, places, inner, n, parameters, layers, activation, loss,
                shape, room, scores, gradient, 1.0, 1.0, True,
            )  # fmt: skip
    return total, total_weight


@kernel
def run_network_steps(
    X: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    y: FloatArray,
    weights: FloatArray,
    order: IntArray,
    batch_size: int,
    parameters: FloatArray,
    first: FloatArray,
    second: FloatArray,
    average: FloatArray,
    num_averaged: int,
    average_every: int,
    first_step: int,
    layers: IntArray,
    activation: int,
    loss: int,
    shape: Shape | None,
    alpha: float,
    l1: float,
    decay: float,
    optimizer: int,
    schedule: int,
    rate: float,
    num_steps: int,
    numbers: FloatArray,
    sum_rows: bool,
    fit_intercept: bool,
) -> tuple[int, int]:
    """Walks ``order`` in batches. Returns steps taken in all and parameters averaged so far."""
    last = layers.shape[0] - 1
    room = room_of(layers, parameters)
    scores = np.empty((layers[last, UNITS] + 2, BLOCK), dtype=parameters.dtype)
    rows, places, inner = (
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
    )
    clipped = numbers[2] > 0.0
    plain = optimizer == SGD and not clipped and l1 == 0.0
    gradient = np.zeros(parameters.size, dtype=parameters.dtype)
    step = first_step
    start = 0 * order.size
    before = flush_tiny()
    while start < order.size:
        stop = min(start + batch_size, order.size)
        step += 1
        now = rate_at(schedule, rate, step, num_steps)
        num_rows = stop - start
        counted = 1 if sum_rows else num_rows
        ridge = alpha * num_rows / counted
        at_once = plain and num_rows <= BLOCK
        in_pieces = not plain and not clipped and num_rows <= BLOCK
        keep, factor = (1.0 - now * (ridge + decay), -now / counted) if at_once else (1.0, 1.0)
        for low in range(start, stop, BLOCK):
            n = min(BLOCK, stop - low)
            place_rows(X, starts, order, low, n, rows, places)
            go_forward(
                X, values, columns, starts, rows, places, inner, n, parameters, layers, activation, room
            )
            scores_to_columns(layers, n, room, scores)
            if in_pieces:
                write_room_of_derivatives(y, weights, rows, n, loss, shape, scores)
                columns_to_derivatives(layers, n, room, scores)
            else:
                come_back(
                    X, values, columns, starts, y, weights, rows, places, inner, n, parameters, layers, activation,
                    loss, shape, room, scores, parameters if at_once else gradient, keep, factor, fit_intercept,
                )  # fmt: skip
        if not at_once:
            scale = 1.0 / counted
            if clipped:
                scale *= clip_factor(gradient.reshape(1, gradient.size), scale, numbers[2])
            for layer in range(last, -1, -1):
                if in_pieces and layer > 0:
                    go_back(layers, layer, num_rows, parameters, activation, room)
                move_layer(
                    X, values, columns, starts, rows, places, inner, num_rows, layers, layer, room, parameters,
                    gradient, first, second, optimizer, now, numbers, ridge, l1 * num_rows / counted, decay, scale,
                    fit_intercept, step, in_pieces,
                )  # fmt: skip
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            share = 1.0 / num_averaged
            for j in range(parameters.size):
                average[j] += share * (parameters[j] - average[j])
        start = stop
    restore(before)
    return step, num_averaged
