"""Steps on single rows that look one row ahead: every optimizer but plain gradient descent, dense rows.

The pass that moves the first layer's weights (``sweeps.py``) works out its scores of the next row, too, so weights
are read once a step instead of twice, and no gradient is written anywhere. Sums go in the order of ``tiles.py``: a
run that is cut anywhere gives the same bits.
"""

from __future__ import annotations

from descend.engines import sweeps
from descend.engines.compiled import part
from descend.engines.mlp_arguments import (
    BIAS,
    DEPTH,
    WEIGHTS,
    WIDTH,
    Block,
    D,
    Method,
    Moved,
    Rows,
    Step,
    Z,
)
from descend.types import IntArray
from descend.updates import ADAM, ADAMW


@part
def looks_ahead(rows: Rows, batch_size: int, method: Method) -> bool:
    """Whether the first layer is moved as here: clipping wants whole gradients first, L1 has steps of its own."""
    return batch_size == 1 and rows.starts.size == 0 and method.numbers[2] <= 0.0 and method.l1 == 0.0


@part
def move_and_look_ahead(
    rows: Rows,
    following: int,
    layers: IntArray,
    block: Block,
    moved: Moved,
    method: Method,
    step: Step,
) -> None:
    """The step of the first layer's weights on the block's one row; writes its scores of the row ``following``.

    The intercepts have been moved.
    """
    depth, width, weights, bias = layers[0, DEPTH], layers[0, WIDTH], layers[0, WEIGHTS], layers[0, BIAS]
    z, d, room, numbers = layers[0, Z], layers[0, D], block.room, method.numbers
    parameters, first, second = moved
    for c in range(width):
        room[z + c] = parameters[bias + c]
    optimizer = ADAM if method.optimizer == ADAMW else method.optimizer
    sweeps.move_and_score(
        rows.X,
        block.places[0],
        following * rows.X.shape[1],
        room,
        d,
        room,
        z,
        parameters,
        first,
        second,
        weights,
        depth,
        width,
        optimizer,
        step.scale,
        step.keep,
        step.ridge,
        step.rate,
        numbers[0],
        numbers[1],
        step.one,
        step.two,
    )
