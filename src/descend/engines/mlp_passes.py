"""A block of rows through the layers of a network and back: scores, derivatives, gradients.

Parts of the kernels in ``mlp_kernels.py``; arguments are those of ``mlp_arguments.py``. Nothing is allocated in a
pass, nothing is checked.
"""

from __future__ import annotations

import numpy as np

from descend.engines import tiles
from descend.engines.compiled import inline, part
from descend.engines.mlp_arguments import BIAS, DEPTH, UNITS, WEIGHTS, WIDTH, A, Block, D, Net, Rows, Z
from descend.engines.row_kernels import write_room_of_derivatives
from descend.engines.unit_kernels import activate_block, multiply_slopes
from descend.types import FloatArray, IntArray

LINE = 64
BLOCK = 64
"""Rows whose hidden layers are kept at once, as many as the room of ``row_kernels`` has."""
ROWS_TO_TURN = 2
"""A layer's weights are turned on the way back where it has fewer units than so many for each row.

Sums over its units, a vector of inputs at a time, then take the place of a sum for each input within a vector, most
of which is filling where units are few: 784-128-10, 32 rows, 1.7 µs on the way back instead of 5.6.
"""


@inline
def aligned(size: int, like: FloatArray) -> FloatArray:
    """Zeros that begin at a line of the cache, as those of ``models/network.py``, inside a kernel."""
    some = np.zeros(size + LINE // like.itemsize, dtype=like.dtype)
    start = -some.ctypes.data % LINE // like.itemsize
    return some[start : start + size]


@inline
def new_block(layers: IntArray, parameters: FloatArray) -> Block:
    """Room for BLOCK rows; it is zero, and what fills up rows stays so."""
    last = layers.shape[0] - 1
    return Block(
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        np.empty(BLOCK, dtype=np.int64),
        aligned(layers[last, D] + BLOCK * layers[last, WIDTH], parameters),
        aligned(largest_turned(layers), parameters),
        np.empty((layers[last, UNITS] + 2, BLOCK), dtype=parameters.dtype),
    )


@part
def largest_turned(layers: IntArray) -> int:
    """Numbers that the weights of any layer but the first take when they are turned (``go_back``)."""
    most = 0
    for layer in range(1, layers.shape[0]):
        most = max(most, (layers[layer, UNITS] + 1) * layers[layer - 1, WIDTH])
    return most


@part
def place_rows(rows: Rows, order: IntArray, start: int, n: int, block: Block) -> None:
    """Overwrites the block's numbers of rows, and where each begins in ``X``."""
    for i in range(n):
        block.rows[i] = order[start + i] if order.size > 0 else start + i
        block.places[i] = block.rows[i] * rows.X.shape[1]


@part
def place_inner(layers: IntArray, layer: int, n: int, inner: IntArray) -> None:
    """Overwrites ``inner`` with where in the block's room the outputs of the layer below begin, row by row."""
    for i in range(n):
        inner[i] = layers[layer - 1, A] + i * layers[layer - 1, WIDTH]


@part
def write_sparse_scores(rows: Rows, n: int, layers: IntArray, parameters: FloatArray, block: Block) -> None:
    """Scores of the first layer from CSR rows: a row of weights for each number that is not zero."""
    width, bias, z, room = layers[0, WIDTH], layers[0, BIAS], layers[0, Z], block.room
    for i in range(n):
        goal = z + i * width
        for c in range(width):
            room[goal + c] = parameters[bias + c]
        for place in range(rows.starts[block.rows[i]], rows.starts[block.rows[i] + 1]):
            value, first = rows.values[place], np.int64(rows.columns[place]) * width
            weights, scores = parameters[first : first + width], room[goal : goal + width]
            for c in range(scores.size):
                scores[c] += value * weights[c]


@part
def add_sparse_outer(
    rows: Rows, n: int, layers: IntArray, block: Block, gradient: FloatArray, factor: float
) -> None:
    """Adds factor · x dᵀ of CSR rows to the first layer's part of ``gradient``."""
    width, d, room = layers[0, WIDTH], layers[0, D], block.room
    number = room.dtype.type
    for i in range(n):
        for place in range(rows.starts[block.rows[i]], rows.starts[block.rows[i] + 1]):
            value, first = number(factor) * rows.values[place], np.int64(rows.columns[place]) * width
            goal, derivatives = gradient[first : first + width], room[d + i * width : d + (i + 1) * width]
            for c in range(goal.size):
                goal[c] += value * derivatives[c]


@part
def write_first_scores(rows: Rows, n: int, layers: IntArray, parameters: FloatArray, block: Block) -> None:
    """Scores of the first layer of n rows."""
    depth, width, z = layers[0, DEPTH], layers[0, WIDTH], layers[0, Z]
    weights, bias = layers[0, WEIGHTS], layers[0, BIAS]
    if rows.starts.size > 0:
        write_sparse_scores(rows, n, layers, parameters, block)
    else:
        tiles.write_products(rows.X, block.places, n, depth, parameters, weights, bias, width, block.room, z)


@part
def go_on(n: int, net: Net, parameters: FloatArray, block: Block) -> None:
    """From the first layer's scores to those of every other, of n rows; ``scores`` are the last's."""
    layers, room = net.layers, block.room
    last = layers.shape[0] - 1
    for layer in range(1, last + 1):
        depth, width, z = layers[layer, DEPTH], layers[layer, WIDTH], layers[layer, Z]
        weights, bias, below = layers[layer, WEIGHTS], layers[layer, BIAS], layer - 1
        activate_block(net.activation, room, layers[below, Z], layers[below, A], n * layers[below, WIDTH])
        place_inner(layers, layer, n, block.inner)
        tiles.write_products(room, block.inner, n, depth, parameters, weights, bias, width, room, z)
    for c in range(layers[last, UNITS]):
        for i in range(n):
            block.scores[c, i] = room[layers[last, Z] + i * layers[last, WIDTH] + c]


@part
def go_forward(rows: Rows, n: int, net: Net, parameters: FloatArray, block: Block) -> None:
    """Writes scores of every layer, and what hidden units make of them, for n rows; ``scores`` are the last's."""
    write_first_scores(rows, n, net.layers, parameters, block)
    go_on(n, net, parameters, block)


@part
def begin_back(rows: Rows, n: int, net: Net, block: Block) -> None:
    """Turns ``scores`` into the last layer's derivatives."""
    write_room_of_derivatives(rows.y, rows.weights, block.rows, n, net.loss, net.shape, block.scores)
    last = net.layers.shape[0] - 1
    for c in range(net.layers[last, UNITS]):
        for i in range(n):
            block.room[net.layers[last, D] + i * net.layers[last, WIDTH] + c] = block.scores[c, i]


@part
def turn_weights(layers: IntArray, layer: int, parameters: FloatArray, turned: FloatArray) -> None:
    """Overwrites ``turned`` with the layer's weights, a row for each unit, and a row of zeros."""
    depth, width, weights = layers[layer, DEPTH], layers[layer, WIDTH], layers[layer, WEIGHTS]
    units, below = layers[layer, UNITS], layers[layer - 1, WIDTH]
    for c in range(units):
        line = turned[c * below : (c + 1) * below]
        for j in range(line.size):
            line[j] = parameters[weights + j * width + c] if j < depth else 0.0
    zeros = turned[units * below : (units + 1) * below]
    for j in range(zeros.size):
        zeros[j] = 0.0


@part
def go_back(n: int, net: Net, layer: int, parameters: FloatArray, block: Block) -> None:
    """Writes the derivatives of the layer below ``layer``."""
    layers, room, below = net.layers, block.room, layer - 1
    depth, width, weights = layers[layer, DEPTH], layers[layer, WIDTH], layers[layer, WEIGHTS]
    units, d, wide, goal = layers[layer, UNITS], layers[layer, D], layers[below, WIDTH], layers[below, D]
    if units < ROWS_TO_TURN * n:
        turn_weights(layers, layer, parameters, block.turned)
        for i in range(n):
            block.inner[i] = d + i * width
        tiles.write_products(room, block.inner, n, units, block.turned, 0, units * wide, wide, room, goal)
    else:
        tiles.write_back(room, d, n, parameters, weights, depth, width, room, goal, wide)
    multiply_slopes(net.activation, room, layers[below, Z], layers[below, A], goal, n * wide)


@part
def add_derivatives(block: Block, d: int, n: int, total: FloatArray) -> None:
    """Adds the derivatives of n rows, which begin at ``d``, to those of a layer's intercepts.

    By slices: with places counted from the room's start the loop was taken one number at a time, which was half of a
    step of Adam on few columns.
    """
    width = total.size
    for i in range(n):
        derivatives = block.room[d + i * width : d + (i + 1) * width]
        for c in range(total.size):
            total[c] += derivatives[c]


@part
def take_in(
    rows: Rows,
    n: int,
    layers: IntArray,
    layer: int,
    block: Block,
    goal: FloatArray,
    keep: float,
    factor: float,
    intercepts: bool,
) -> None:
    """Overwrites a layer's part of ``goal`` with keep · itself + factor · the gradient's sum over n rows.

    With ``goal`` the parameters this is a step of plain gradient descent, and no gradient exists.
    """
    depth, width, d = layers[layer, DEPTH], layers[layer, WIDTH], layers[layer, D]
    weights, bias, room = layers[layer, WEIGHTS], layers[layer, BIAS], block.room
    number = room.dtype.type
    if layer > 0:
        place_inner(layers, layer, n, block.inner)
        tiles.add_outer(room, block.inner, n, depth, room, d, goal, weights, width, keep, factor)
    elif rows.starts.size > 0:
        if keep != 1.0:
            for i in range(weights, bias):
                goal[i] *= number(keep)
        add_sparse_outer(rows, n, layers, block, goal, factor)
    else:
        tiles.add_outer(rows.X, block.places, n, depth, room, d, goal, weights, width, keep, factor)
    if intercepts:
        total = goal[bias : bias + width]
        for i in range(n):
            derivatives = room[d + i * width : d + (i + 1) * width]
            for c in range(total.size):
                total[c] += number(factor) * derivatives[c]


@part
def come_back(
    rows: Rows, n: int, net: Net, parameters: FloatArray, block: Block, gradient: FloatArray
) -> None:
    """From ``scores`` back through every layer: adds the sum over n rows to ``gradient`` (P,)."""
    begin_back(rows, n, net, block)
    for layer in range(net.layers.shape[0] - 1, -1, -1):
        if layer > 0:
            go_back(n, net, layer, parameters, block)
        take_in(rows, n, net.layers, layer, block, gradient, 1.0, 1.0, True)
