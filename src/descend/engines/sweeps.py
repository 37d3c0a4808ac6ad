"""One pass over a layer's weights that moves them by one row's step, and works out what they make of the next row.

A step on a single row reads all weights of the first layer to score the row, and reads and writes them, with the
optimizer's memories, to move them. The next row is known, and a weight that has been moved is in a register: so it is
multiplied there, and nothing but the update goes over the weights.

Arrays are C-contiguous, of one float type. Nothing is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from numba import types
from numba.extending import intrinsic

from descend.engines.tiles import VECTOR_BYTES, loop, pieces
from descend.engines.traced import Traced
from descend.engines.vectors import INDEX, Call, Lanes, Values, only_contiguous
from descend.updates import ADAGRAD, ADAM, MOMENTUM, NESTEROV, RMSPROP, update

VECTORS = (4, 1)
"""Vectors of units whose updates stand one behind the other, so that roots and divisions overlap."""
CODES = {"momentum": MOMENTUM, "nesterov": NESTEROV, "adam": ADAM, "adagrad": ADAGRAD, "rmsprop": RMSPROP}


def _write(code: int, lanes: Lanes, *arguments: Any) -> None:
    b, length = lanes.builder, VECTOR_BYTES // lanes.bytes
    x, following, d, z, p, first, second, depth, width, *numbers = arguments
    scale, keep, ridge, rate, beta1, beta2, one, two = (
        Traced(lanes, lanes.repeated(number, length)) for number in numbers
    )

    def read(start: Any, at: Any) -> Traced:
        return Traced(lanes, lanes.load(start, at, length))

    def move(row: Any, value: Traced, after: Any, column: Any, vectors: int) -> None:
        for number in range(vectors):
            unit = b.add(column, INDEX(number * length))
            at = b.add(row, unit)
            weight, m, v = read(p, at), read(first, at), read(second, at)
            gradient = value * read(d, unit) + ridge * weight
            moved, m_now, v_now = update(
                code, keep * weight, gradient, m, v, rate, beta1, beta2, one, two
            )
            lanes.store(moved.value, p, at, length)
            for now, before, goal in ((m_now, m, first), (v_now, v, second)):
                if now is not before:
                    lanes.store(now.value, goal, at, length)
            lanes.store((after * moved + read(z, unit)).value, z, unit, length)

    with loop(b, INDEX(0), depth, 1) as (j, _):
        value, after = (
            Traced(lanes, lanes.repeated(lanes.load(start, j, 1), length)) for start in (x, following)
        )
        pieces(b, INDEX(0), width, VECTORS, length, partial(move, b.mul(j, width), value * scale, after))


@intrinsic
def _move_and_score(
    typingctx: Any,
    X: Any,
    place: Any,
    following: Any,
    D: Any,
    D_at: Any,
    Z: Any,
    Z_at: Any,
    P: Any,
    first: Any,
    second: Any,
    weights: Any,
    depth: Any,
    width: Any,
    optimizer: Any,
    scale: Any,
    keep: Any,
    ridge: Any,
    rate: Any,
    beta1: Any,
    beta2: Any,
    one: Any,
    two: Any,
) -> Any:
    """Moves a matrix of weights by x, (depth,), times d, (width,), and adds the next x times them to ``Z[Z_at:]``."""
    only_contiguous(X, D, Z, P, first, second)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        starts: Values = [
            builder.gep(call.start(i), [call.index(at)])
            for i, at in ((0, 1), (0, 2), (3, 4), (5, 6), (7, 10), (8, 10), (9, 10))
        ]
        numbers = [call.number(i, call.types[0].dtype) for i in range(14, 22)]
        values = *starts, call.index(11), call.index(12), *numbers
        for name, code in CODES.items():
            with builder.if_then(builder.icmp_signed("==", call.index(13), INDEX(code))):
                call.once(f"move_and_score.{name}", partial(_write, code), *values)
        return context.get_dummy_value()

    return (
        types.void(
            X, place, following, D, D_at, Z, Z_at, P, first, second, weights, depth, width,
            optimizer, scale, keep, ridge, rate, beta1, beta2, one, two,
        ),
        generate,
    )


move_and_score: Callable[..., None] = cast("Any", _move_and_score)
