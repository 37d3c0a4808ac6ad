"""One pass over a layer's weights that moves them by one row's step, and works out what they make of the next row.

A step on a single row reads all weights of the first layer to score the row, and reads and writes them, with the
optimizer's memories of them, to move them. The next row is known, and a weight that has just been moved is in a
register: it is multiplied there, so nothing but the update goes over the weights.

The pass is written for LLVM, and the formulas are those of ``updates/`` (``traced.py``): where Numba writes the loop,
its vectoriser asks in every row of weights whether arrays overlap. Arrays are C-contiguous, of one float type.
Nothing is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from numba import types
from numba.extending import intrinsic

from descend.engines.tiles import VECTOR_BYTES, loop, pieces
from descend.engines.traced import Traced
from descend.engines.vectors import INDEX, Call, Lanes, only_contiguous
from descend.updates import ADAGRAD, ADAM, MOMENTUM, NESTEROV, RMSPROP, update

VECTORS = (2, 1)
"""Vectors of units that are moved one behind the other: with one alone, roots and divisions overlap less."""
WAYS = (
    ("adam_freely", ADAM, False),
    ("adam", ADAM, True),
    ("momentum", MOMENTUM, True),
    ("nesterov", NESTEROV, True),
    ("adagrad", ADAGRAD, True),
    ("rmsprop", RMSPROP, True),
)
"""Names, codes, and whether something may pull on weights. Without that Adam is done 6 % earlier."""


def _write_pass(code: int, pulled: bool, lanes: Lanes, *values: Any) -> None:
    x, following, derivatives, scores, parameters, first, second, depth, width, *numbers = values
    b, length = lanes.builder, VECTOR_BYTES // lanes.bytes
    scale, keep, ridge, *rest = (Traced(lanes, lanes.repeated(number, length)) for number in numbers)

    def read(start: Any, at: Any) -> Traced:
        return Traced(lanes, lanes.load(start, at, length))

    def write(value: Traced, start: Any, at: Any) -> None:
        lanes.store(value.value, start, at, length)

    def move(row: Any, value: Traced, after: Traced, column: Any, vectors: int) -> None:
        for number in range(vectors):
            unit = b.add(column, INDEX(number * length))
            at = b.add(row, unit)
            weight, m, v = read(parameters, at), read(first, at), read(second, at)
            gradient, kept = value * read(derivatives, unit), weight
            if pulled:
                gradient, kept = gradient + ridge * weight, keep * weight
            moved, *memories = update(code, kept, gradient, m, v, *rest)
            write(moved, parameters, at)
            for start, before, now in zip((first, second), (m, v), memories, strict=True):
                if now is not before:  # what an optimizer has no use for is neither read nor written
                    write(now, start, at)
            write(after * moved + read(scores, unit), scores, unit)

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
    """Moves weights by scale · x dᵀ and what pulls on them; adds to ``Z[Z_at:]`` what they make of the next row.

    The rows x, (depth,), begin at ``place`` and ``following`` in ``X``, the derivatives d, (width,), at ``D_at``. The
    last numbers are ``updates``' own. Adam has to be told by ADAM, and plain gradient descent is none of them.
    """
    only_contiguous(X, D, Z, P, first, second)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        places = ((0, 1), (0, 2), (3, 4), (5, 6), (7, 10), (8, 10), (9, 10))
        starts = [builder.gep(call.start(i), [call.index(at)]) for i, at in places]
        numbers = [call.number(i, call.types[0].dtype) for i in range(14, 22)]
        free = builder.and_(
            builder.fcmp_ordered("==", numbers[1], numbers[1].type(1.0)),
            builder.fcmp_ordered("==", numbers[2], numbers[2].type(0.0)),
        )
        for name, code, pulled in WAYS:
            chosen = builder.icmp_signed("==", call.index(13), INDEX(code))
            if code == ADAM:
                chosen = builder.and_(chosen, builder.not_(free) if pulled else free)
            with builder.if_then(chosen):
                body = partial(_write_pass, code, pulled)
                call.once(f"move_and_score.{name}", body, *starts, call.index(11), call.index(12), *numbers)
        return context.get_dummy_value()

    layer = (X, place, following, D, D_at, Z, Z_at, P, first, second, weights, depth, width)
    return types.void(*layer, optimizer, scale, keep, ridge, rate, beta1, beta2, one, two), generate


move_and_score: Callable[..., None] = cast("Any", _move_and_score)
