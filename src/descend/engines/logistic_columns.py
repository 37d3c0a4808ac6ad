"""Log loss of two classes, told column by column: value, gradient and Hessian in one pass over rows of few columns.

Kernels that walk a row at a time (``row_kernels.py``) have much to do at each row's begin and end: of 3 columns a row
takes 11 ns there, and here 3. Some rows at a time are decoded into columns that stay near, and every loop goes along
them in vector instructions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines.column_tiles import LENGTH, TILE
from descend.engines.columns import add_products
from descend.engines.compiled import kernel, part
from descend.engines.fast_math import exponential, log_beyond_one
from descend.types import FloatArray

BLOCK = 512
"""Rows at a time: 1 + e⁻ˡˢˡ of as many, multiplied together, stays a float64."""
AT_ONCE = 4
MOST_COLUMNS = 24
"""Of rows that lie one after the other; with more, walking along them is the quicker way."""
NO_HESSIAN = np.empty((0, 0))


def goes_by_columns(X: FloatArray, num_columns: int) -> bool:
    """Whether rows ``X`` (n, d) are better walked a column after the other."""
    return bool(X.flags.f_contiguous) or num_columns <= MOST_COLUMNS


@kernel
def add_logistic(
    columns: FloatArray,
    code: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    start: int,
    stop: int,
    parameters: FloatArray,
    with_hessian: bool,
    gradient: FloatArray,
    hessian: FloatArray,
) -> float:
    """The sum of weighted losses of rows start … stop − 1; their gradients and Hessians are added to float64 arrays.

    ``columns`` (d, n) are decoded by ``code`` (``CodedRows``); ``weights`` (n,), or empty for all 1; ``parameters``
    and ``gradient`` (d + 1,), ``hessian`` (m, m) with m a multiple of ``TILE`` from d + 1 on: its upper triangle.
    """
    d, number = columns.shape[0], columns.dtype.type
    wide = d + 1 + -(d + 1) % TILE
    room, scores = np.zeros((wide, BLOCK), dtype=columns.dtype), np.empty(BLOCK, dtype=columns.dtype)
    own, slopes = np.zeros(wide, dtype=columns.dtype), np.empty(BLOCK, dtype=columns.dtype)
    own[: d + 1] = parameters
    goals, total = y.reshape(-1), 0.0
    for low in range(start, stop, BLOCK):
        n = min(BLOCK, stop - low)
        decode(columns, code, low, n, room)
        write_scores(room, own, n, scores)
        each = weights[low : low + n] if weights.size else weights
        total += losses_and_slopes(goals[low : low + n], each, scores, slopes)
        for j in range(d + 1):
            line, along = room[j], number(0.0)
            for i in range(n):
                along += slopes[i] * line[i]
            gradient[j] += along
        if with_hessian:
            bend(each, scores, n, room)
            add_products(room, n + -n % LENGTH, hessian)
    return total


@part
def decode(columns: FloatArray, code: FloatArray, low: int, n: int, room: FloatArray) -> None:
    """Rows low … low + n − 1 into ``room``, a column of ones below them, and zeros up to whole vectors."""
    d = columns.shape[0]
    for j in range(d):
        stored, line = columns[j][low : low + n], room[j]
        centre, factor, shift = code[0, j], code[1, j], code[2, j]
        for i in range(n):
            line[i] = (stored[i] - centre) * factor + shift
    room[d, :n] = 1
    room[: d + 1, n : n + -n % LENGTH] = 0


@part
def write_scores(room: FloatArray, own: FloatArray, n: int, scores: FloatArray) -> None:
    """Overwrites the first n ``scores``; the intercept is the weight of the ones."""
    for j in range(0, own.size, AT_ONCE):
        a, b, c, e = own[j], own[j + 1], own[j + 2], own[j + 3]
        one, two, three, four = room[j], room[j + 1], room[j + 2], room[j + 3]
        for i in range(n):
            some = a * one[i] + b * two[i] + (c * three[i] + e * four[i])
            scores[i] = some if j == 0 else scores[i] + some


@part
def losses_and_slopes(
    goals: FloatArray, weights: FloatArray, scores: FloatArray, slopes: FloatArray
) -> float:
    """The weighted losses added up; scores become e⁻ˡˢˡ."""
    one, zero = scores.dtype.type(1.0), scores.dtype.type(0.0)
    total, product = 0.0, 1.0
    for i in range(goals.size):
        score, goal = scores[i], scores.dtype.type(goals[i])
        power = exponential(-abs(score))
        share = one / (one + power)
        slopes[i] = (share if score > zero else one - share) - goal
        straight = np.float64(max(score, zero) - goal * score)
        if weights.size:
            total += weights[i] * (straight + np.float64(log_beyond_one(power)))
            slopes[i] *= scores.dtype.type(weights[i])
        else:
            total += straight
            product *= 1.0 + np.float64(power)
        scores[i] = power
    return float(total + np.log(product))


@part
def bend(weights: FloatArray, powers: FloatArray, n: int, room: FloatArray) -> None:
    """Multiplies each row by the root of how much its loss bends."""
    number: Any = powers.dtype.type
    for i in range(n):
        root = np.sqrt(powers[i]) / (number(1.0) + powers[i])
        powers[i] = root * np.sqrt(number(weights[i])) if weights.size else root
    for j in range(room.shape[0]):
        line = room[j]
        for i in range(n):
            line[i] *= powers[i]
