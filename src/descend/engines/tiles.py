"""Matrix products of a few rows, in register tiles: what a network's step consists of.

A tile is some rows times some vectors of columns, whose sums stay in registers while the shared dimension is walked.
Rows are read where they lie: ``places`` has where in ``A`` each begins, so a batch is never gathered. Matrices of
weights lie inside the flat vector of parameters, ``width`` numbers a row and ``width`` a multiple of 16
(``models/network.py``), so that no column is left over. Sums go over the shared dimension in order,
whatever the number of rows: results do not depend on how a batch is cut into tiles.

Why not BLAS: it wants the rows gathered, writes products to memory before they are added to anything, and packs both
factors anew in every step. ``docs/architecture.md`` has the figures.

Arrays are C-contiguous, of one float type. Nothing is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from descend.engines.vectors import INDEX, LANE, Call, Lanes, Values, only_contiguous

WIDE = bool(binding.get_host_cpu_features().get("avx512f"))
VECTOR_BYTES = 64 if WIDE else 32
SHAPES: tuple[tuple[int, tuple[int, ...]], ...] = (
    ((8, (2, 1)), (4, (4, 2, 1)), (1, (8, 4, 2, 1))) if WIDE else ((4, (2, 1)), (1, (8, 4, 2, 1)))
)
"""Rows of a tile, and vectors of columns: as many sums as there are registers, or nearly."""
DOTS = 4


@intrinsic
def _use_wide_vectors(typingctx: Any) -> Any:
    """Has LLVM's vectoriser use the kernel's widest registers, as the tiles do."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if WIDE:  # llvmlite knows this attribute by no name, so its check is passed by
            set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


def slot(builder: Any, kind: Any) -> Any:
    """A place for one value, which LLVM keeps in a register."""
    return cgutils.alloca_once(builder, kind)  # type: ignore[no-untyped-call, unused-ignore]


def loop(builder: Any, start: Any, stop: Any, step: int) -> Any:
    """A loop as a context, which gives its index, and a second thing, as Numba has it."""
    return cgutils.for_range_slice(builder, start, stop, INDEX(step), INDEX)


def pieces(
    builder: Any, start: Any, stop: Any, sizes: tuple[int, ...], unit: int, body: Callable[[Any, int], None]
) -> None:
    """Writes ``body(at, size)`` for pieces of ``size`` · ``unit`` that cover start … stop, largest first."""
    for size in sizes:
        step = size * unit
        whole = builder.sub(stop, builder.srem(builder.sub(stop, start), INDEX(step)))
        with loop(builder, start, whole, step) as (at, _):
            body(at, size)
        start = whole


def _tiles(
    builder: Any, count: Any, width: Any, unit: int, body: Callable[[Any, int, Any, int], None]
) -> None:
    """Writes ``body(row, rows, column, vectors)`` for tiles that cover ``count`` rows of ``width`` columns."""
    start = INDEX(0)
    for rows, vectors in SHAPES:
        whole = builder.sub(count, builder.srem(count, INDEX(rows)))
        with loop(builder, start, whole, rows) as (row, _):
            pieces(
                builder,
                INDEX(0),
                width,
                vectors,
                unit,
                partial(body, row, rows),
            )
        start = whole


class _Sums:
    """The sums of a tile, in registers."""

    def __init__(self, builder: Any, lanes: Lanes, rows: int, vectors: int) -> None:
        self.builder, self.lanes, self.rows, self.vectors = builder, lanes, rows, vectors
        self.length = VECTOR_BYTES // lanes.bytes
        kind = ir.VectorType(lanes.number, self.length)
        self.slots = [[slot(builder, kind) for _ in range(vectors)] for _ in range(rows)]

    def begin(self, values: Values) -> None:
        for row in self.slots:
            for place, value in zip(row, values, strict=True):
                self.builder.store(value, place)

    def add(self, factors: Values, shared: Values) -> None:
        """Adds factor i times each of the shared vectors to row i."""
        for row, factor in zip(self.slots, factors, strict=True):
            wide = self.lanes.repeated(factor, self.length)
            for place, vector in zip(row, shared, strict=True):
                product = self.lanes.multiply(wide, vector)
                self.builder.store(self.lanes.add(product, self.builder.load(place)), place)

    def each(self) -> Iterator[tuple[int, int, Any]]:
        for i, row in enumerate(self.slots):
            for v, place in enumerate(row):
                yield i, v, self.builder.load(place)


def _vectors(lanes: Lanes, start: Any, at: Any, count: int, length: int) -> Values:
    b = lanes.builder
    return [lanes.load(start, b.add(at, INDEX(v * length)), length) for v in range(count)]


@intrinsic
def _write_products(
    typingctx: Any,
    A: Any,
    places: Any,
    n: Any,
    depth: Any,
    P: Any,
    weights: Any,
    bias: Any,
    width: Any,
    out: Any,
    out_at: Any,
) -> Any:
    """Writes bias + a · weights of n rows to ``out[out_at:]``, a row of ``width`` after another."""
    only_contiguous(A, P, out)

    def write(lanes: Lanes, a: Any, where: Any, p: Any, goal: Any, *numbers: Any) -> None:
        b, length = lanes.builder, VECTOR_BYTES // lanes.bytes
        n, depth, weights, bias, width = numbers

        def tile(row: Any, rows: int, column: Any, vectors: int) -> None:
            sums = _Sums(b, lanes, rows, vectors)
            sums.begin(_vectors(lanes, p, b.add(bias, column), vectors, length))
            starts = [b.gep(a, [b.load(b.gep(where, [b.add(row, INDEX(i))]))]) for i in range(rows)]
            first = b.gep(p, [b.add(weights, column)])
            with loop(b, INDEX(0), depth, 1) as (j, _):
                shared = _vectors(lanes, first, b.mul(j, width), vectors, length)
                sums.add([lanes.load(start, j, 1) for start in starts], shared)
            for i, v, total in sums.each():
                at = b.add(b.mul(b.add(row, INDEX(i)), width), b.add(column, INDEX(v * length)))
                lanes.store(total, goal, at, length)

        _tiles(b, n, width, length, tile)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        arrays = call.start(0), call.start(1), call.start(4), builder.gep(call.start(8), [call.index(9)])
        numbers = (call.index(i) for i in (2, 3, 5, 6, 7))
        return call.once("write_products", write, *arrays, *numbers)

    return types.void(A, places, n, depth, P, weights, bias, width, out, out_at), generate


@intrinsic
def _add_outer(
    typingctx: Any,
    A: Any,
    places: Any,
    n: Any,
    depth: Any,
    D: Any,
    D_at: Any,
    G: Any,
    weights: Any,
    width: Any,
    keep: Any,
    factor: Any,
) -> Any:
    """Overwrites a matrix in ``G`` with keep · itself + factor · Σ over n rows of a, (depth,), times d, (width,)."""
    only_contiguous(A, D, G)

    def write(lanes: Lanes, a: Any, where: Any, d: Any, g: Any, *numbers: Any) -> None:
        b, length = lanes.builder, VECTOR_BYTES // lanes.bytes
        n, depth, weights, width = numbers[:4]
        keep, factor = (lanes.repeated(number, length) for number in numbers[4:])

        def tile(row: Any, rows: int, column: Any, vectors: int) -> None:
            sums = _Sums(b, lanes, rows, vectors)
            sums.begin([lanes.zeros(length)] * vectors)
            with loop(b, INDEX(0), n, 1) as (i, _):
                start = b.gep(a, [b.add(b.load(b.gep(where, [i])), row)])
                shared = _vectors(lanes, d, b.add(b.mul(i, width), column), vectors, length)
                sums.add([lanes.load(start, INDEX(r), 1) for r in range(rows)], shared)
            for r, v, total in sums.each():
                at = b.add(
                    b.add(weights, b.mul(b.add(row, INDEX(r)), width)), b.add(column, INDEX(v * length))
                )
                stay = lanes.multiply(keep, lanes.load(g, at, length))
                lanes.store(lanes.add(lanes.multiply(factor, total), stay), g, at, length)

        _tiles(b, depth, width, length, tile)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        arrays = call.start(0), call.start(1), builder.gep(call.start(4), [call.index(5)]), call.start(6)
        numbers = (call.index(i) for i in (2, 3, 7, 8))
        factors = (call.number(i, call.types[0].dtype) for i in (9, 10))
        return call.once("add_outer", write, *arrays, *numbers, *factors)

    return types.void(A, places, n, depth, D, D_at, G, weights, width, keep, factor), generate


@intrinsic
def _write_back(
    typingctx: Any,
    D: Any,
    D_at: Any,
    n: Any,
    P: Any,
    weights: Any,
    depth: Any,
    width: Any,
    out: Any,
    out_at: Any,
    out_width: Any,
) -> Any:
    """Writes d · weightsᵀ of n rows to ``out[out_at:]``: ``depth`` numbers a row, rows ``out_width`` apart."""
    only_contiguous(D, P, out)

    def write(lanes: Lanes, d: Any, p: Any, goal: Any, *numbers: Any) -> None:
        b, length = lanes.builder, VECTOR_BYTES // lanes.bytes
        n, depth, width, out_width = numbers

        def total(value: Any) -> Any:
            """A vector halved down to four lanes."""
            while value.type.count > DOTS:
                value = lanes.halved(value)
            return value

        def dots(row: Any, rows: int, j: Any, columns: int) -> None:
            slots = [lanes.slots(columns, length) for _ in range(rows)]
            ds = [b.gep(d, [b.mul(b.add(row, INDEX(i)), width)]) for i in range(rows)]
            ws = [b.gep(p, [b.mul(b.add(j, INDEX(i)), width)]) for i in range(columns)]
            with loop(b, INDEX(0), width, length) as (c, _):
                w = [lanes.load(one, c, length) for one in ws]
                for line, start in zip(slots, ds, strict=True):
                    delta = lanes.load(start, c, length)
                    for place, one in zip(line, w, strict=True):
                        b.store(lanes.add(lanes.multiply(delta, one), b.load(place)), place)
            for i, line in enumerate(slots):
                at = b.add(b.mul(b.add(row, INDEX(i)), out_width), j)
                ends = [total(b.load(place)) for place in line]
                if columns == DOTS:
                    lanes.store(lanes.four_sums(ends), goal, at, DOTS)
                else:
                    pair = lanes.halved(ends[0])
                    one = lanes.add(b.extract_element(pair, LANE(0)), b.extract_element(pair, LANE(1)))
                    lanes.store(one, goal, at, 1)

        start = INDEX(0)
        for rows in (4, 1):
            whole = b.sub(n, b.srem(n, INDEX(rows)))
            with loop(b, start, whole, rows) as (row, _):
                pieces(
                    b,
                    INDEX(0),
                    depth,
                    (DOTS, 1),
                    1,
                    partial(dots, row, rows),
                )
            start = whole

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        arrays = (builder.gep(call.start(i), [call.index(at)]) for i, at in ((0, 1), (3, 4), (7, 8)))
        return call.once("write_back", write, *arrays, *(call.index(i) for i in (2, 5, 6, 9)))

    return types.void(D, D_at, n, P, weights, depth, width, out, out_at, out_width), generate


use_wide_vectors: Callable[[], None] = cast("Any", _use_wide_vectors)
write_products: Callable[..., None] = cast("Any", _write_products)
add_outer: Callable[..., None] = cast("Any", _add_outer)
write_back: Callable[..., None] = cast("Any", _write_back)
