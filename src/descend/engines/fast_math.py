"""The exponential and the logistic function inside float32 loops, without a call of the library.

A call of the library's ``exp`` for every row is half the time of an epoch at 20 to 50 columns, and stops LLVM
from vectorising the loop around it. Numbers of 64 bits get the library's function.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, sqrt
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from descend.engines.compiled import FAST_MATH
from descend.updates.like import like
from descend.updates.over_root import over_root


@intrinsic
def _bitcast(typingctx: Any, bits: Any) -> Any:
    """The float32 whose bits an int32 holds."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), generate


_as_float: Callable[[Any], Any] = cast("Any", _bitcast)


def exponential(x: Any) -> Any:
    """eˣ; inside a kernel and for float32, to a relative error of 6e-8 · (3 + |x|), held within e⁻⁸⁷ and e⁸⁷.

    2 to the whole part of x / ln 2 is written into the exponent's bits, 2 to the rest (−½ … ½) is a minimax
    polynomial of degree 6, in Estrin's order, which waits for fewer products than Horner's.
    """
    return np.exp(x)


@overload(exponential, jit_options={"fastmath": set(FAST_MATH), "error_model": "numpy"})
def _exponential(x: Any) -> Any:
    number = np.float32

    def library(x: Any) -> Any:
        return np.exp(x)

    def polynomial(x: Any) -> Any:
        power = min(max(x * number(1.4426950408889634), number(-126.0)), number(126.0))
        whole = np.floor(power + number(0.5))
        r = power - whole
        r2 = r * r
        low = number(1.0) + number(0.6931472) * r + r2 * (number(0.24022651) + number(0.055504109) * r)
        high = number(0.0096181291) + number(0.0013333558) * r + r2 * number(0.00015403530)
        exponent = np.int32(whole) + np.int32(127)
        return (low + r2 * r2 * high) * _as_float(np.int32(exponent << np.int32(23)))

    return polynomial if x == types.float32 else library


STEPS = 8  # of the table in a unit
EDGE = 18  # beyond it the function is 0 or 1 to float32's rounding
TOP = 2 * EDGE * STEPS
MAGIC = 12582912.0
BITS_OF_MAGIC = 0x4B400000


def _table() -> Any:
    """Cubic polynomials (TOP + 1, 4) through four Chebyshev points around each place of the logistic function."""
    points = 0.5 * np.cos((2 * np.arange(4) + 1) / 8 * np.pi)
    places = np.arange(TOP + 1) / STEPS - EDGE
    values = 1.0 / (1.0 + np.exp(-(places[:, None] + points / STEPS)))
    table = np.linalg.solve(np.vander(points, increasing=True)[None], values[..., None])[..., 0]
    table[[0, -1], 1:] = 0.0
    table[[0, -1], 0] = 0.0, 1.0
    return np.ascontiguousarray(table, dtype=np.float32)


TABLE = _table()


@intrinsic
def _from_table(typingctx: Any, table: Any, x: Any) -> Any:
    """The table's function at ``x``, in the order of operations that waits least.

    Written for LLVM because kernels let sums be reordered: x + m − m became x, whose whole part then went from the
    float's registers and back, and the polynomial a chain of three (42 cycles from a score to the next, 32 now).
    """
    number, whole, four = ir.FloatType(), ir.IntType(32), ir.VectorType(ir.IntType(32), 4)
    exact, fused = ("nsz",), ("nsz", "contract")

    def held(builder: Any, bits: Any, name: str, bound: int) -> Any:
        kind = ir.FunctionType(four, [four, four])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, [bits, ir.Constant(four, [bound] * 4)])

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, args[0]).data
        magic = ir.Constant(number, MAGIC)
        scaled = builder.fmul(args[1], ir.Constant(number, float(STEPS)), flags=exact)
        # Added to 1.5 · 2²³, a number is rounded, and the last bits of the sum are the whole number.
        large = builder.fadd(scaled, magic, flags=exact)
        rest = builder.fsub(scaled, builder.fsub(large, magic, flags=exact), flags=exact)
        # Held between the table's ends as a vector, which takes a cycle each; a number is compared and moved.
        nothing = ir.Constant(ir.VectorType(number, 4), ir.Undefined)
        bits = builder.bitcast(builder.insert_element(nothing, large, whole(0)), four)
        bits = held(builder, bits, "llvm.smax.v4i32", BITS_OF_MAGIC - TOP // 2)
        bits = held(builder, bits, "llvm.smin.v4i32", BITS_OF_MAGIC + TOP // 2)
        place = builder.sub(builder.extract_element(bits, whole(0)), whole(BITS_OF_MAGIC - TOP // 2))
        place = builder.mul(builder.zext(place, ir.IntType(64)), ir.IntType(64)(4))
        a, b, c, e = (
            builder.load(builder.gep(start, [builder.add(place, ir.IntType(64)(i))])) for i in range(4)
        )

        def line(slope: Any, at: Any, height: Any) -> Any:
            return builder.fadd(builder.fmul(slope, at, flags=fused), height, flags=fused)

        square = builder.fmul(rest, rest, flags=exact)
        return line(line(e, rest, c), square, line(b, rest, a))

    return types.float32(table, x), generate


_table_at: Callable[..., Any] = cast("Any", _from_table)


def logistic(x: Any) -> Any:
    """1 / (1 + e⁻ˣ); inside a kernel and for float32 from a table of 5 kB, right to 1.2e-7.

    For steps on single rows, each of which waits for the one before: half as long as a power and a division. Loops
    over many rows had better take ``exponential``, for a table cannot be read eight places at a time. An infinite
    score comes out as nan, as it would an update later: training ends as diverged. Cutting it off first costs
    every step two operations that the next step waits for.
    """
    return 1.0 / (1.0 + np.exp(-x))


@overload(logistic, jit_options={"fastmath": set(FAST_MATH), "error_model": "numpy"})
def _logistic(x: Any) -> Any:
    def library(x: Any) -> Any:
        return 1.0 / (1.0 + np.exp(-x))

    def from_table(x: Any) -> Any:
        return _table_at(TABLE, x)

    return from_table if x == types.float32 else library


def log_beyond_one(x: Any) -> Any:
    """log(1 + x) of x from 0 to 1, float64; of float32, whose own rounding is larger, to 1e-9.

    The series of the area tangent at x / (2 + x), which goes in vector instructions.
    """
    return np.log1p(x)


@overload(log_beyond_one, jit_options={"fastmath": set(FAST_MATH), "error_model": "numpy"})
def _log_beyond_one(x: Any) -> Any:
    def library(x: Any) -> Any:
        return np.log1p(x)

    def series(x: Any) -> Any:
        wide = np.float64(x)
        s = wide / (2.0 + wide)
        q = s * s
        rest = q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15))))
        return 2.0 * s * (1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + rest))))

    return series if x == types.float32 else library


ROOT_HALF = sqrt(0.5)


def tangent(x: Any) -> Any:
    """The hyperbolic tangent; inside a kernel and for float32 1 − 2 / (e²ˣ + 1), right to 2e-7."""
    return np.tanh(x)


@overload(tangent, jit_options={"fastmath": set(FAST_MATH), "error_model": "numpy"})
def _tangent(x: Any) -> Any:
    number = np.float32

    def library(x: Any) -> Any:
        return np.tanh(x)

    def by_exponential(x: Any) -> Any:
        return number(1.0) - number(2.0) / (exponential(x + x) + number(1.0))

    return by_exponential if x == types.float32 else library


def normal_share(x: Any) -> Any:
    """The share of a normal distribution below x; in a kernel and for float32 to 2e-7.

    Abramowitz and Stegun, 7.1.26.
    """
    return 0.5 + 0.5 * erf(x * ROOT_HALF)


@overload(normal_share, jit_options={"fastmath": set(FAST_MATH), "error_model": "numpy"})
def _normal_share(x: Any) -> Any:
    number = np.float32

    def library(x: Any) -> Any:
        return 0.5 + 0.5 * erf(x * ROOT_HALF)

    def polynomial(x: Any) -> Any:
        y = abs(x) * number(ROOT_HALF)
        t = number(1.0) / (number(1.0) + number(0.3275911) * y)
        rest = number(1.421413741) + t * (number(-1.453152027) + t * number(1.061405429))
        rest = t * (number(0.254829592) + t * (number(-0.284496736) + t * rest))
        outside = number(0.5) * rest * exponential(-y * y)
        return outside if x < number(0.0) else number(1.0) - outside

    return polynomial if x == types.float32 else library


@overload(like, jit_options={"fastmath": set(FAST_MATH), "error_model": "numpy"})
def _like(number: Any, value: Any) -> Any:
    kind = number

    def in_its_type(number: Any, value: Any) -> Any:
        return kind(value)

    return in_its_type


LARGEST = 3e38


def divided(number: Any, by: Any) -> Any:
    """``number`` / ``by``; in a loop over float32, by the processor's estimate of 1 / ``by``, right to 3e-7.

    LLVM takes the estimate and a step of Newton's where it may leave infinite numbers out ("ninf"): ``by`` is none.
    """
    return number / by


@overload(divided, jit_options={"fastmath": {"contract", "nsz", "arcp", "ninf"}, "error_model": "numpy"})
def _divided(number: Any, by: Any) -> Any:
    def estimated(number: Any, by: Any) -> Any:
        return number / by

    return estimated


@overload(over_root, jit_options={"fastmath": set(FAST_MATH), "error_model": "numpy"})
def _over_root(number: Any, square: Any, epsilon: Any) -> Any:
    most = np.float32(LARGEST)

    def library(number: Any, square: Any, epsilon: Any) -> Any:
        return number / (np.sqrt(square) + epsilon)

    def estimated(number: Any, square: Any, epsilon: Any) -> Any:
        # A square that has overflowed: over 3e38 as over infinity next to nothing is left of the number.
        by = np.sqrt(square) + epsilon
        return divided(number, most if by > most else by)

    return estimated if square == types.float32 else library
