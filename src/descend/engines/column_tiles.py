"""Products of columns with one another in register tiles: four columns by four, sixteen sums.

LLVM's vectoriser takes the sixteen sums of a loop for what belongs together and shuffles numbers of four columns into
one register, which takes four times as long: 40,000 rows of 9 columns 385 µs instead of 90. BLAS, made for larger
matrices, takes as long, and works out both halves of what is symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from descend.engines.tiles import VECTOR_BYTES, WIDE, slot
from descend.engines.vectors import INDEX, LANE, Call, Values, only_contiguous

TILE = 4
LENGTH = 16
"""Rows are walked so many at a time; as many as there are, a multiple of it, zeros among them."""
AT_ONCE = TILE if WIDE else TILE // 2
"""Columns that four others are multiplied with at a time: as many sums as there are registers."""


@intrinsic
def _add_tile(typingctx: Any, columns: Any, a: Any, b: Any, start: Any, stop: Any, products: Any) -> Any:
    """Adds the products of columns a … a + 3 with b … b + 3 over rows start … stop − 1 to float64 ``products``."""
    only_contiguous(columns, products)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, exact = call.lanes(0), call.lanes(5)
        length = VECTOR_BYTES // lanes.bytes
        width, room = call.columns(0), call.columns(5)
        first, second, low, high = (call.index(i) for i in (1, 2, 3, 4))

        def begins(number: Any, i: int) -> Any:
            return builder.gep(call.start(0), [builder.mul(builder.add(number, INDEX(i)), width)])

        def total(value: Any) -> Any:
            """The sum of a vector's lanes, float64."""
            while value.type.count > 2:
                value = lanes.halved(value)
            one = lanes.add(builder.extract_element(value, LANE(0)), builder.extract_element(value, LANE(1)))
            return lanes.widened(one)

        def add(others: range) -> None:
            sums = [lanes.slots(len(others), length) for _ in range(TILE)]
            own = [begins(first, i) for i in range(TILE)]
            beside = [begins(second, i) for i in others]
            with cgutils.for_range_slice(builder, low, high, INDEX(length), INDEX) as (row, _):
                shared: Values = [lanes.load(column, row, length) for column in beside]
                for line, column in zip(sums, own, strict=True):
                    numbers = lanes.load(column, row, length)
                    for place, other in zip(line, shared, strict=True):
                        product = lanes.multiply(numbers, other)
                        builder.store(lanes.add(product, builder.load(place)), place)
            for i, line in enumerate(sums):
                for place, j in zip(line, others, strict=True):
                    row = builder.mul(builder.add(first, INDEX(i)), room)
                    at = builder.add(row, builder.add(second, INDEX(j)))
                    there = exact.load(call.start(5), at, 1)
                    exact.store(exact.add(there, total(builder.load(place))), call.start(5), at, 1)

        for begin in range(0, TILE, AT_ONCE):
            add(range(begin, begin + AT_ONCE))
        return context.get_dummy_value()

    return types.void(columns, a, b, start, stop, products), generate


@intrinsic
def _widen(typingctx: Any, numbers: Any, count: Any, column: Any, moments: Any) -> Any:
    """Takes the least and the most of the first ``count`` numbers into rows 2 and 3 of float64 ``moments``.

    Where NaN keeps its meaning LLVM does not make vectors of such a loop, in which one number waits for the other.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, exact = call.lanes(0), call.lanes(3)
        start, count, column, width = call.start(0), call.index(1), call.index(2), call.columns(3)
        length = VECTOR_BYTES // lanes.bytes
        for row, beyond, sign in ((2, float("inf"), "<"), (3, float("-inf"), ">")):

            def further(a: Any, b: Any, sign: str = sign) -> Any:
                return builder.select(builder.fcmp_ordered(sign, a, b), a, b)

            kind = ir.VectorType(lanes.number, length)
            place = slot(builder, kind)
            builder.store(ir.Constant(kind, [ir.Constant(lanes.number, beyond)] * length), place)
            with cgutils.for_range_slice(builder, INDEX(0), count, INDEX(length), INDEX) as (i, _):
                builder.store(further(lanes.load(start, i, length), builder.load(place)), place)
            value = builder.load(place)
            while value.type.count > 1:
                value = further(*lanes.halves(value))
            at = builder.add(builder.mul(INDEX(row), width), column)
            there = exact.load(call.start(3), at, 1)
            most = lanes.widened(builder.extract_element(value, LANE(0)))
            exact.store(further(most, there), call.start(3), at, 1)
        return context.get_dummy_value()

    return types.void(numbers, count, column, moments), generate


add_tile: Callable[..., None] = cast("Any", _add_tile)
widen: Callable[..., None] = cast("Any", _widen)
