"""Steps of small batches whose first layers are worked out together: plain gradient descent, dense rows.

A step of plain gradient descent adds to the first layer's weights W products of rows x with derivatives d, times a
number. So what W makes of a row that comes some steps later can be told from W as it is now, the products of the
rows with one another, and the derivatives in between: W (x₁ … x₈) is one product for all rows of a group, each step
adds a few multiples of derivatives to the scores of the next, and W itself moves once, by eight rows. It is read
and written once a group instead of once a step, and that is what a step on a single row consists of. The steps are
the same but for rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from descend.engines import lanes, tiles
from descend.engines.compiled import inline, part
from descend.engines.mlp_arguments import (
    BIAS,
    DEPTH,
    WEIGHTS,
    WIDTH,
    Block,
    D,
    Rows,
    Z,
)
from descend.engines.mlp_passes import aligned, place_rows
from descend.types import FloatArray, IntArray


class Group(NamedTuple):
    """Rows whose first layer, of ``width`` units, is worked out together.

    ``places``: where they begin in ``Rows.X``; ``scores`` (rows · width): those of the weights before the group;
    ``products`` (rows, rows): of rows with one another; ``changes`` (rows · width): what a row that has been visited
    adds to the weights, for an input of 1; ``bias`` (width): the intercepts before the group; ``kept`` (1,): the
    share of themselves that the weights have kept since.
    """

    places: IntArray
    scores: FloatArray
    products: FloatArray
    changes: FloatArray
    bias: FloatArray
    kept: FloatArray


@inline
def new_group(num_rows: int, layers: IntArray, like: FloatArray) -> Group:
    """Room for so many rows."""
    width = layers[0, WIDTH]
    return Group(
        np.empty(num_rows, dtype=np.int64),
        aligned(num_rows * width, like),
        np.empty((num_rows, num_rows), dtype=like.dtype),
        aligned(num_rows * width, like),
        aligned(width, like),
        np.ones(1, dtype=like.dtype),
    )


@part
def begin_group(
    rows: Rows,
    order: IntArray,
    start: int,
    n: int,
    layers: IntArray,
    parameters: FloatArray,
    block: Block,
    group: Group,
) -> None:
    """Works out what the rows order[start : start + n] have to do with the weights and with one another."""
    depth, width, weights, bias = layers[0, DEPTH], layers[0, WIDTH], layers[0, WEIGHTS], layers[0, BIAS]
    place_rows(rows, order, start, n, block)
    tiles.write_products(rows.X, block.places, n, depth, parameters, weights, bias, width, group.scores, 0)
    for i in range(n):
        group.places[i] = block.places[i]
        for j in range(i):
            group.products[j, i] = lanes.score(rows.X, block.rows[i], rows.X, block.rows[j])
    for c in range(width):
        group.bias[c] = parameters[bias + c]
    group.kept[0] = 1.0


@part
def write_scores_now(
    first: int, n: int, layers: IntArray, parameters: FloatArray, block: Block, group: Group
) -> None:
    """Writes the first layer's scores of n of the rows, from ``first`` on, after the steps of those before."""
    width, z, bias = layers[0, WIDTH], layers[0, Z], layers[0, BIAS]
    kept, now = group.kept[0], parameters[bias : bias + width]
    for i in range(first, first + n):
        at = z + (i - first) * width
        goal, scores = block.room[at : at + width], group.scores[i * width : (i + 1) * width]
        for c in range(goal.size):
            goal[c] = kept * (scores[c] - group.bias[c]) + now[c]
        for before in range(first):
            product = group.products[before, i]
            changes = group.changes[before * width : (before + 1) * width]
            for c in range(goal.size):
                goal[c] += product * changes[c]


@part
def take_changes(
    first: int,
    n: int,
    layers: IntArray,
    parameters: FloatArray,
    keep: float,
    factor: float,
    intercepts: bool,
    block: Block,
    group: Group,
) -> None:
    """Takes in the step of n rows from ``first`` on: what they add to the weights, and the intercepts themselves."""
    width, d, bias = layers[0, WIDTH], layers[0, D], layers[0, BIAS]
    number, now = parameters.dtype.type, parameters[bias : bias + width]
    if keep != 1.0:
        group.kept[0] *= number(keep)
        for c in range(first * width):
            group.changes[c] *= number(keep)
    for i in range(n):
        changes = group.changes[(first + i) * width : (first + i + 1) * width]
        derivatives = block.room[d + i * width : d + (i + 1) * width]
        for c in range(changes.size):
            changes[c] = number(factor) * derivatives[c]
            if intercepts:
                now[c] += changes[c]


@part
def end_group(rows: Rows, n: int, layers: IntArray, parameters: FloatArray, group: Group) -> None:
    """The first layer's weights take all n rows' steps."""
    depth, width, weights = layers[0, DEPTH], layers[0, WIDTH], layers[0, WEIGHTS]
    kept, changes = np.float64(group.kept[0]), group.changes
    tiles.add_outer(rows.X, group.places, n, depth, changes, 0, parameters, weights, width, kept, 1.0)
