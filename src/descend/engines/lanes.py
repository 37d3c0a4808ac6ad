"""Products of rows with vector instructions: what LLVM's own vectoriser does not do for rows of 10 to 100 columns.

Its loops advance by 32 or 64 columns and leave the rest to a scalar loop, which for 20 columns is everything. Here
a row is walked 16 columns at a time, then 8, then 4, then one by one; LLVM makes of 16 lanes what the processor has
(two registers with AVX2, four on ARM). Blocks of rows are ``row_blocks.py``'s.

``X`` (n, d), C-contiguous, float32 or float64; ``W`` (k, d + 1), of which row ``output`` is meant, the intercept
last. Slices are not taken: Numba counts references to each, which costs as much
as a row. Nothing is checked here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from numba import types
from numba.extending import intrinsic

from descend.engines.vectors import FLAGS, LANE, WIDTHS, Call, only_contiguous, sums, walk


@intrinsic
def _score(typingctx: Any, X: Any, row: Any, W: Any, output: Any) -> Any:
    """x·w of one row, without the intercept."""
    only_contiguous(X, W)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, d, x, weights = call.lanes(0), call.columns(0), call.row(0, 1), call.row(2, 3)
        (found,) = sums(
            lanes, d, 1, lambda j, width: [(lanes.load(x, j, width), lanes.load(weights, j, width))]
        )
        pair = lanes.halved(found)
        return lanes.add(builder.extract_element(pair, LANE(0)), builder.extract_element(pair, LANE(1)))

    return X.dtype(X, row, W, output), generate


@intrinsic
def _move(typingctx: Any, W: Any, output: Any, keep: Any, X: Any, row: Any, factor: Any) -> Any:
    """Overwrites the weights ``W[output, :d]`` with keep · w + factor · x of one row."""
    only_contiguous(W, X)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, d, goal, x = call.lanes(0), call.columns(3), call.row(0, 1), call.row(3, 4)
        numbers = [call.number(i, call.types[0].dtype) for i in (2, 5)]
        wide = {width: [lanes.repeated(n, width) for n in numbers] for width in (*WIDTHS, 1)}

        def body(j: Any, width: int) -> None:
            there = [lanes.load(start, j, width) for start in (goal, x)]
            lanes.store(lanes.sum_of_products(list(zip(wide[width], there, strict=True))), goal, j, width)

        walk(lanes, d, body)
        return context.get_dummy_value()

    return types.void(W, output, keep, X, row, factor), generate


@intrinsic
def _move_and_look(
    typingctx: Any, W: Any, keep: Any, factor: Any, X: Any, at: Any, near: Any, far: Any
) -> Any:
    """``move`` of output 0 by one row; of two others, the product far · w as moved, and far · near.

    Rows are told by where they begin in X: a kernel that goes on from row to row works that out once for each.
    """
    only_contiguous(W, X)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, d, goal = call.lanes(0), call.columns(3), call.start(0)
        row, one, other = (builder.gep(call.start(3), [call.index(i)]) for i in (4, 5, 6))
        numbers = [call.number(i, call.types[0].dtype) for i in (1, 2)]
        wide = {width: [lanes.repeated(n, width) for n in numbers] for width in (*WIDTHS, 1)}

        def pairs(j: Any, width: int) -> list[tuple[Any, Any]]:
            there = [lanes.load(start, j, width) for start in (goal, row)]
            moved = lanes.sum_of_products(list(zip(wide[width], there, strict=True)))
            lanes.store(moved, goal, j, width)
            shared = lanes.load(other, j, width)
            return [(moved, shared), (lanes.load(one, j, width), shared)]

        found = lanes.four_sums(2 * sums(lanes, d, 2, pairs))
        pair = [builder.extract_element(found, LANE(i)) for i in range(2)]
        return context.make_tuple(builder, signature.return_type, pair)

    both = types.UniTuple(X.dtype, 2)  # type: ignore[no-untyped-call, unused-ignore]
    return both(W, keep, factor, X, at, near, far), generate


@intrinsic
def _saga_move(
    typingctx: Any,
    W: Any,
    M: Any,
    output: Any,
    keep: Any,
    rate: Any,
    X: Any,
    row: Any,
    factor: Any,
    kept: Any,
) -> Any:
    """Weights become keep · w − rate · m − factor · x, and the float64 mean gradient m becomes m + kept · x."""
    only_contiguous(W, M, X)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, exact, d = call.lanes(0), call.lanes(1), call.columns(5)
        weights, mean, x = call.row(0, 2), call.row(1, 2), call.row(5, 6)
        numbers = [call.number(i, W.dtype) for i in (3, 4, 7)]
        share = call.number(8, M.dtype)
        wide = {width: [lanes.repeated(n, width) for n in numbers] for width in (*WIDTHS, 1)}
        wide_share = {width: exact.repeated(share, width) for width in (*WIDTHS, 1)}

        def body(j: Any, width: int) -> None:
            keep, rate, factor = wide[width]
            m, values = exact.load(mean, j, width), lanes.load(x, j, width)
            stay = lanes.multiply(keep, lanes.load(weights, j, width))
            away = lanes.sum_of_products([(rate, lanes.narrowed(m)), (factor, values)])
            lanes.store(builder.fsub(stay, away, flags=FLAGS), weights, j, width)
            moved = exact.multiply(wide_share[width], lanes.widened(values))
            exact.store(exact.add(m, moved), mean, j, width)

        walk(lanes, d, body)
        return context.get_dummy_value()

    return types.void(W, M, output, keep, rate, X, row, factor, kept), generate


score: Callable[..., Any] = cast("Any", _score)
move: Callable[..., None] = cast("Any", _move)
move_and_look: Callable[..., Any] = cast("Any", _move_and_look)
saga_move: Callable[..., None] = cast("Any", _saga_move)
