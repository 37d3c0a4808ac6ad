"""Softmax's curvature times a direction, told column by column: for rows of few columns, with any number of classes.

Scores of 512 rows lie a class after the other below the rows' columns, so that both products, rows with the direction
and what comes of it with the rows, go along them in vector instructions: 6,000 rows of 16 columns and 26 classes take
0.25 ms instead of 0.7.
"""

from __future__ import annotations

import numpy as np

from descend.engines.column_tiles import LENGTH, TILE, add_tile
from descend.engines.compiled import kernel
from descend.engines.logistic_columns import BLOCK, write_scores
from descend.types import FloatArray

MOST_COLUMNS = 32
"""Of wider rows, walking along them is the quicker way."""


@kernel
def add_curvature_of_columns(
    columns: FloatArray, chances: FloatArray, weights: FloatArray, direction: FloatArray, out: FloatArray
) -> None:
    """Adds the curvature of all rows times ``direction`` to float64 ``out``, both (k, d + 1).

    ``columns`` (d, n); ``chances`` (k, n) and ``weights`` (n,), of the same type, are the classes' probabilities and
    the rows' shares of the mean at the place where the curvature is taken.
    """
    d, k, number = columns.shape[0], chances.shape[0], columns.dtype.type
    wide, tall = d + 1 + -(d + 1) % TILE, k + -k % TILE
    room, mean = np.zeros((wide + tall, BLOCK), dtype=columns.dtype), np.empty(BLOCK, dtype=columns.dtype)
    own, products = np.zeros((k, wide), dtype=columns.dtype), np.zeros((wide + tall, wide + tall))
    # Number by number: for an array assigned to a slice Numba compiles the text of an error, which takes 2 s.
    for c in range(k):
        for j in range(d + 1):
            own[c, j] = direction[c, j]
    for low in range(0, columns.shape[1], BLOCK):
        n = min(BLOCK, columns.shape[1] - low)
        for j in range(d):
            for i in range(n):
                room[j, i] = columns[j, low + i]
        room[d, :n] = 1
        mean[:n] = 0
        for c in range(k):
            move, chance = room[wide + c], chances[c][low : low + n]
            write_scores(room, own[c], n, move)
            for i in range(n):
                mean[i] += chance[i] * move[i]
        share = weights[low : low + n]
        for c in range(k):
            move, chance = room[wide + c], chances[c][low : low + n]
            for i in range(n):
                move[i] = chance[i] * share[i] * (move[i] - mean[i])
        padded = n + -n % LENGTH
        room[:, n:padded] = number(0.0)
        for a in range(wide, wide + tall, TILE):
            for b in range(0, wide, TILE):
                add_tile(room, a, b, 0, padded, products)
    for c in range(k):
        for j in range(d + 1):
            out[c, j] += products[wide + c, j]
