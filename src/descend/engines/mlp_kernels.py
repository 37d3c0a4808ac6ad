"""Compiled loops of networks: losses and gradients of blocks of rows; steps. The twin is ``reference_mlp.py``.

What is done with the rows of a block is in ``mlp_passes.py``, what moves the parameters in ``mlp_updates.py``.
Nothing is allocated inside a step, nothing is checked.
"""

from __future__ import annotations

from math import ceil

from descend.batches import rows_together
from descend.engines import tiles
from descend.engines.base import BEGAN, NEXT_CLOSE, NUM_CLOSED
from descend.engines.compiled import inline, kernel, part
from descend.engines.mlp_ahead import looks_ahead, move_and_look_ahead
from descend.engines.mlp_arguments import (
    BIAS,
    DEPTH,
    WEIGHTS,
    WIDTH,
    Block,
    D,
    Method,
    Moved,
    Net,
    Pace,
    Rows,
    Step,
)
from descend.engines.mlp_passes import (
    BLOCK,
    add_derivatives,
    add_sparse_outer,
    aligned,
    begin_back,
    come_back,
    go_back,
    go_forward,
    go_on,
    new_block,
    place_inner,
    place_rows,
    take_in,
    write_first_scores,
)
from descend.engines.mlp_together import (
    Group,
    begin_group,
    end_group,
    new_group,
    take_changes,
    write_scores_now,
)
from descend.engines.mlp_updates import bias_step, clipped, move_piece, weights_step
from descend.engines.row_kernels import block_loss
from descend.engines.tiny_numbers import flush_tiny, restore
from descend.types import FloatArray, IntArray
from descend.updates import SGD
from descend.updates.schedules import rate_at

inline(rows_together)
PIECE = 1024
"""Numbers of a gradient that exist at once where a step is taken in pieces: little of the near cache, through which
the parameters and both their moments pass."""


@part
def step_on(places: IntArray, n: int, by: int) -> None:
    """Moves n places on."""
    for i in range(n):
        places[i] += by


@part
def move_layer(
    rows: Rows,
    n: int,
    layers: IntArray,
    layer: int,
    block: Block,
    moved: Moved,
    gradient: FloatArray,
    method: Method,
    step: Step,
    in_pieces: bool,
    intercepts_alone: bool,
) -> None:
    """A layer's step by ``gradient`` (P,), which is left at zero.

    ``in_pieces``: it is zero before, too, and the gradient of n rows exists for some inputs' weights at a time, in
    the near cache. A sparse layer's exists as a whole, for it is made row by row.
    """
    depth, width, d = layers[layer, DEPTH], layers[layer, WIDTH], layers[layer, D]
    weights, bias, sparse = layers[layer, WEIGHTS], layers[layer, BIAS], layer == 0 and rows.starts.size > 0
    X, places, inner, room = rows.X, block.places, block.inner, block.room
    parameters, first, second = moved
    optimizer, numbers = method.optimizer, method.numbers
    if in_pieces and sparse:
        add_sparse_outer(rows, n, layers, block, gradient, 1.0)
    elif in_pieces and layer > 0:
        place_inner(layers, layer, n, block.inner)
    inputs = max(1, PIECE // width) if in_pieces and not sparse else depth
    num_pieces = -(-depth // inputs)
    begin = num_pieces if intercepts_alone else 0
    for piece in range(begin, num_pieces + 1 if method.fit_intercept else num_pieces):
        low, count, now = weights + piece * inputs * width, min(inputs, depth - piece * inputs), step
        at = low
        if piece == num_pieces:
            low, count, now = bias, 1, bias_step(step)
            at = low
            if in_pieces:
                add_derivatives(block, d, n, gradient[at : at + width])
        elif in_pieces and not sparse:
            at = 0
            if layer > 0:
                tiles.add_outer(room, inner, n, count, room, d, gradient, at, width, 1.0, 1.0)
                step_on(inner, n, count)
            else:
                tiles.add_outer(X, places, n, count, room, d, gradient, at, width, 1.0, 1.0)
                step_on(places, n, count)
        some = gradient[at : at + count * width]
        move_piece(parameters, first, second, some, low, optimizer, numbers, now)


@kernel
def add_block_sums(
    rows: Rows,
    order: IntArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    net: Net,
    gradient: FloatArray,
    with_loss: bool,
) -> tuple[float, float]:
    """Adds the gradients of rows order[start:stop] to ``gradient`` (P,) unless that is empty.

    Without an order they are rows start … stop − 1, of which it returns the sums of weighted losses (0 unless
    ``with_loss``) and of weights.
    """
    block = new_block(net.layers, parameters)
    total, total_weight = 0.0, 0.0
    for low in range(start, stop, BLOCK):
        n = min(BLOCK, stop - low)
        place_rows(rows, order, low, n, block)
        go_forward(rows, n, net, parameters, block)
        if with_loss:
            total += block_loss(rows.y, rows.weights, low, low + n, net.loss, net.shape, block.scores)
        for i in range(n):
            total_weight += rows.weights[block.rows[i]] if rows.weights.size else 1.0
        if gradient.size > 0:
            come_back(rows, n, net, parameters, block, gradient)
    return total, total_weight


@part
def is_plain(method: Method) -> bool:
    """Whether steps are the gradient times the rate, and the weights a share of what they were."""
    return method.optimizer == SGD and method.numbers[2] <= 0.0 and method.l1 == 0.0


@part
def take_step(
    rows: Rows,
    order: IntArray,
    start: int,
    stop: int,
    net: Net,
    moved: Moved,
    gradient: FloatArray,
    method: Method,
    rate: float,
    step: int,
    sum_rows: bool,
    block: Block,
    group: Group,
    first: int,
    ahead: bool,
) -> None:
    """One step from the rows order[start:stop]; ``gradient`` (P,) is zero and is left so.

    ``first``: the number of the first of them in ``group``, below zero where there is none. ``ahead``: the first
    layer's scores are there but for the first step, and are left for the next.
    """
    layers, parameters, num_rows = net.layers, moved.parameters, stop - start
    last = layers.shape[0] - 1
    plain, together = is_plain(method), first >= 0
    at_once = plain and num_rows <= BLOCK
    in_pieces = not plain and method.numbers[2] <= 0.0 and num_rows <= BLOCK
    counted = 1 if sum_rows else num_rows
    per_row, keep, factor = num_rows / counted, 1.0, 1.0
    if at_once:
        keep, factor = 1.0 - rate * (method.alpha * per_row + method.decay), -rate / counted
    now = weights_step(method, rate, 1.0 / counted, per_row, step)
    goal, intercepts = parameters if at_once else gradient, method.fit_intercept
    for low in range(start, stop, BLOCK):
        n = min(BLOCK, stop - low)
        place_rows(rows, order, low, n, block)
        if together:
            write_scores_now(first, n, layers, parameters, block, group)
        elif not ahead or start == 0:
            write_first_scores(rows, n, layers, parameters, block)
        go_on(n, net, parameters, block)
        begin_back(rows, n, net, block)
        for layer in range(last, -1, -1):
            if layer > 0:
                go_back(n, net, layer, parameters, block)
            if together and layer == 0:
                take_changes(first, n, layers, parameters, keep, factor, intercepts, block, group)
            elif in_pieces:
                swept = ahead and layer == 0
                move_layer(rows, n, layers, layer, block, moved, gradient, method, now, True, swept)
                if swept:
                    following = order[min(stop, order.size - 1)]
                    move_and_look_ahead(rows, following, layers, block, moved, method, now)
            else:
                take_in(rows, n, layers, layer, block, goal, keep, factor, intercepts)
    if not at_once and not in_pieces:
        now = weights_step(method, rate, clipped(1.0 / counted, gradient, method.numbers), per_row, step)
        for layer in range(last, -1, -1):
            move_layer(rows, num_rows, layers, layer, block, moved, gradient, method, now, False, False)


@kernel
def run_network_steps(
    rows: Rows,
    order: IntArray,
    batch_size: int,
    net: Net,
    moved: Moved,
    average: FloatArray,
    num_averaged: int,
    average_every: int,
    closed: FloatArray,
    windows: IntArray,
    growth: float,
    first_step: int,
    method: Method,
    pace: Pace,
    sum_rows: bool,
) -> tuple[int, int]:
    """Walks ``order`` in batches. Returns steps taken in all and parameters averaged so far.

    ``closed``, ``windows`` and ``growth`` are those of ``base.AverageWindows``; without ``windows`` none closes.
    """
    parameters = moved.parameters
    block, gradient = new_block(net.layers, parameters), aligned(parameters.size, parameters)
    unit = rows_together(batch_size)
    together = unit > batch_size and is_plain(method) and rows.starts.size == 0
    ahead = not together and looks_ahead(rows, batch_size, method)
    group = new_group(unit if together else 0, net.layers, parameters)
    step, start = first_step, 0 * order.size
    begun, end = start, start
    before = flush_tiny()
    while start < order.size:
        if together and start == end:
            begun, end = start, min((start // unit + 1) * unit, order.size)
            if average_every > 0:
                end = min(end, start + (average_every - step % average_every) * batch_size)
            begin_group(rows, order, start, end - start, net.layers, parameters, block, group)
        stop = min(start + batch_size, order.size)
        step += 1
        rate = rate_at(pace.schedule, pace.rate, step, pace.num_steps)
        first = start - begun if together else -1
        take_step(
            rows,
            order,
            start,
            stop,
            net,
            moved,
            gradient,
            method,
            rate,
            step,
            sum_rows,
            block,
            group,
            first,
            ahead,
        )
        if together and stop == end:
            end_group(rows, end - begun, net.layers, parameters, group)
        if average_every > 0 and step % average_every == 0:
            num_averaged += 1
            share = 1.0 / num_averaged
            for j in range(parameters.size):
                average[j] += share * (parameters[j] - average[j])
        if windows.size > 0 and step >= windows[NEXT_CLOSE]:
            for j in range(average.size):
                closed[j], average[j] = average[j], 0.0
            windows[NUM_CLOSED], num_averaged = num_averaged, 0
            windows[NEXT_CLOSE] = windows[BEGAN] + ceil(growth * (step - windows[BEGAN]))
        start = stop
    restore(before)
    return step, num_averaged
