"""A block of rows at fixed weights: its scores, and its gradient once their derivatives are known.

Both walk the rows, and both ask memory for rows to come while they do: asked for by one of them alone, rows would
come while it runs and memory would rest during the other.

A row is walked 16 columns at a time. What is left is a vector of which some lanes are masked where the processor has
masks, and goes by 8, 4 and 1 columns where it has none. ``X`` and the rest as in ``lanes.py``; ``rows`` (int64) has
the numbers of the block's rows, and further on those of as many rows to come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from descend.engines.prefetch import ask_for
from descend.engines.tiles import WIDE
from descend.engines.vectors import INDEX, LANE, WIDTHS, Call, Lanes, Values, only_contiguous, sums, walk

WIDTH = WIDTHS[0]
TOGETHER = 4
"""Rows that share a load of the weights."""
ASKED = TOGETHER // 2
"""Rows to come that are asked for meanwhile: half of them for their scores' sake, half for their gradient's."""
VECTORS = 4
"""Vectors of columns whose sums over rows are taken at once."""
LINE = 64


class _Rows:
    """Where rows begin whose numbers lie one behind the other."""

    def __init__(self, lanes: Lanes, x: Any, d: Any, numbers: Any) -> None:
        self.lanes, self.x, self.d, self.numbers = lanes, x, d, numbers

    def begin(self, i: Any) -> Any:
        b = self.lanes.builder
        return b.gep(self.x, [b.mul(b.load(b.gep(self.numbers, [i])), self.d)])

    def several(self, first: Any, count: int) -> Values:
        return [self.begin(self.lanes.builder.add(first, INDEX(i))) for i in range(count)]

    def ask(self, starts: Values, j: Any, width: int, asks: Any) -> None:
        """If ``asks``, asks memory for columns j … j + width − 1 of rows that begin at ``starts``."""
        b = self.lanes.builder
        with b.if_then(asks):
            for start in starts:
                place = b.bitcast(b.gep(start, [j]), ir.IntType(8).as_pointer())
                for offset in range(0, width * self.lanes.bytes, LINE):
                    ask_for(b, b.gep(place, [INDEX(offset)]))


def _four_products(
    lanes: Lanes, d: Any, starts: Values, weights: Any, ask: Callable[[Any, int], None]
) -> Any:
    """x·w of four rows in four lanes."""
    b = lanes.builder

    def pairs(j: Any, width: int) -> list[tuple[Any, Any]]:
        if width == WIDTH:
            ask(j, width)
        shared = lanes.load(weights, j, width)
        return [(lanes.load(x, j, width), shared) for x in starts]

    if not WIDE:
        return lanes.four_sums(sums(lanes, d, TOGETHER, pairs))
    slots, whole = lanes.slots(TOGETHER, WIDTH), b.and_(d, INDEX(-WIDTH))

    def add(factors: list[tuple[Any, Any]]) -> None:
        for place, (p, q) in zip(slots, factors, strict=True):
            b.store(lanes.add(lanes.multiply(p, q), b.load(place)), place)

    with cgutils.for_range_slice(b, INDEX(0), whole, INDEX(WIDTH), INDEX) as (j, _):
        add(pairs(j, WIDTH))
    left = b.sub(d, whole)
    with b.if_then(b.icmp_unsigned("!=", left, INDEX(0))):
        ask(whole, WIDTH)
        mask = lanes.first(left, WIDTH)
        shared = lanes.load_masked(weights, whole, mask)
        add([(lanes.load_masked(x, whole, mask), shared) for x in starts])
    return lanes.four_sums_within([b.load(place) for place in slots])


def _soon(call: Call, numbers: Any, i: int) -> tuple[Any, Any]:
    """Where the numbers of rows to come begin, which argument ``i`` says, and whether there are any."""
    first = call.index(i)
    return call.builder.gep(numbers, [first]), call.builder.icmp_unsigned("!=", first, INDEX(0))


@intrinsic
def _write_scores(
    typingctx: Any, X: Any, rows: Any, n: Any, W: Any, output: Any, scores: Any, soon: Any
) -> Any:
    """Writes x·w + intercept of n rows to ``scores[output, :n]``.

    Asks for the first of ``rows[soon:]``; 0: for none.
    """
    only_contiguous(X, W, scores)

    def write(
        lanes: Lanes, x: Any, d: Any, rows: Any, n: Any, weights: Any, scores: Any, soon: Any, asks: Any
    ) -> None:
        b = lanes.builder
        here, there = _Rows(lanes, x, d, rows), _Rows(lanes, x, d, soon)
        intercept = lanes.repeated(lanes.load(weights, d, 1), TOGETHER)
        whole = b.and_(n, INDEX(-TOGETHER))
        with cgutils.for_range_slice(b, INDEX(0), whole, INDEX(TOGETHER), INDEX) as (i, _):
            asked = there.several(b.udiv(i, INDEX(TOGETHER // ASKED)), ASKED)
            found = _four_products(
                lanes,
                d,
                here.several(i, TOGETHER),
                weights,
                lambda j, width: there.ask(asked, j, width, asks),
            )
            lanes.store(lanes.add(found, intercept), scores, i, TOGETHER)
        with cgutils.for_range_slice(b, whole, n, INDEX(1), INDEX) as (i, _):
            asked = there.several(i, 1)
            start = here.begin(i)

            def pairs(j: Any, width: int) -> list[tuple[Any, Any]]:
                there.ask(asked, j, width, asks)
                return [(lanes.load(start, j, width), lanes.load(weights, j, width))]

            (found,) = sums(lanes, d, 1, pairs)
            pair = lanes.halved(found)
            one = lanes.add(b.extract_element(pair, LANE(0)), b.extract_element(pair, LANE(1)))
            lanes.store(lanes.add(one, lanes.load(weights, d, 1)), scores, i, 1)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        numbers = call.start(1)
        places = numbers, call.index(2), call.row(3, 4), call.row(5, 4)
        return call.once(
            f"write_block_scores.{WIDE}",
            write,
            call.start(0),
            call.columns(0),
            *places,
            *_soon(call, numbers, 6),
        )

    return types.void(X, rows, n, W, output, scores, soon), generate


@intrinsic
def _add_rows(
    typingctx: Any,
    G: Any,
    output: Any,
    X: Any,
    rows: Any,
    at: Any,
    n: Any,
    factors: Any,
    soon: Any,
) -> Any:
    """Adds factors[output, i] · (x, 1) to ``G[output]`` for the n rows whose numbers (int64) are ``rows[at:]``.

    ``i`` counts from ``at`` on, too. Asks for half as many rows, ``rows[soon:]``; 0: for none.

    Sums of some columns stay in registers while all rows are walked: written back after each row or four, the next
    had waited for them.
    """
    only_contiguous(G, X, factors)

    def write(
        lanes: Lanes, goal: Any, x: Any, d: Any, rows: Any, n: Any, factors: Any, soon: Any, asks: Any
    ) -> None:
        b = lanes.builder
        here, there = _Rows(lanes, x, d, rows), _Rows(lanes, x, d, soon)

        def add(slots: list[Values], first: Any, load: Callable[[Any], Values]) -> None:
            for number, places in enumerate(slots):
                i = b.add(first, INDEX(number))
                row, factor = here.begin(i), lanes.load(factors, i, 1)
                for place, values in zip(places, load(row), strict=True):
                    width = getattr(values.type, "count", 1)
                    product = lanes.multiply(lanes.repeated(factor, width), values)
                    b.store(lanes.add(product, b.load(place)), place)

        def total(j: Any, widths: list[int], load: Callable[[Any], Values]) -> Values:
            """The sums over rows of columns from j on, in vectors of ``widths``."""
            together = 2 if sum(widths) > 32 else TOGETHER
            slots = [[lanes.slots(1, width)[0] for width in widths] for _ in range(together)]
            whole = b.and_(n, INDEX(-together))
            with cgutils.for_range_slice(b, INDEX(0), whole, INDEX(together), INDEX) as (i, _):
                asked = there.several(b.udiv(i, INDEX(TOGETHER // ASKED)), together // 2)
                there.ask(asked, j, sum(widths), asks)
                add(slots, i, load)
            with cgutils.for_range_slice(b, whole, n, INDEX(1), INDEX) as (i, _):
                add(slots[:1], i, load)
            return [lanes.added([b.load(place) for place in column]) for column in zip(*slots, strict=True)]

        def body(j: Any, width: int) -> None:
            (found,) = total(j, [width], lambda row: [lanes.load(row, j, width)])
            lanes.store(lanes.add(lanes.load(goal, j, width), found), goal, j, width)

        def masked(j: Any, vectors: int) -> None:
            """The last columns, as many vectors of them, the last of which may not be whole."""
            places = [b.add(j, INDEX(v * WIDTH)) for v in range(vectors)]
            mask = lanes.first(b.sub(d, places[-1]), WIDTH)

            def load(row: Any) -> Values:
                return [
                    *(lanes.load(row, place, WIDTH) for place in places[:-1]),
                    lanes.load_masked(row, places[-1], mask),
                ]

            found = total(j, [WIDTH] * vectors, load)
            moved = [lanes.add(one, other) for one, other in zip(load(goal), found, strict=True)]
            for place, value in zip(places[:-1], moved, strict=False):
                lanes.store(value, goal, place, WIDTH)
            lanes.store_masked(moved[-1], goal, places[-1], mask)

        if WIDE:
            most = VECTORS * WIDTH
            whole = b.and_(d, INDEX(-most))
            with cgutils.for_range_slice(b, INDEX(0), whole, INDEX(most), INDEX) as (j, _):
                body(j, most)
            vectors = b.udiv(b.add(b.sub(d, whole), INDEX(WIDTH - 1)), INDEX(WIDTH))
            for count in range(1, VECTORS + 1):
                with b.if_then(b.icmp_unsigned("==", vectors, INDEX(count))):
                    masked(whole, count)
        else:
            walk(lanes, d, body, (64, 32, *WIDTHS))
        (slot,) = lanes.slots(1, 1)
        with cgutils.for_range_slice(b, INDEX(0), n, INDEX(1), INDEX) as (i, _):
            b.store(lanes.add(lanes.load(factors, i, 1), b.load(slot)), slot)
        lanes.store(lanes.add(lanes.load(goal, d, 1), b.load(slot)), goal, d, 1)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        numbers, first = call.start(3), [call.index(4)]
        places = builder.gep(numbers, first), call.index(5), builder.gep(call.row(6, 1), first)
        soon = _soon(call, numbers, 7)
        goal, x, d = call.row(0, 1), call.start(2), call.columns(2)
        return call.once(f"add_block_of_rows.{WIDE}", write, goal, x, d, *places, *soon)

    return types.void(G, output, X, rows, at, n, factors, soon), generate


write_scores: Callable[..., None] = cast("Any", _write_scores)
add_rows: Callable[..., None] = cast("Any", _add_rows)
