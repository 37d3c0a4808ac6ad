"""Products of rows with vector instructions: what LLVM's own vectoriser does not do for rows of 10 to 100 columns.

Its loops advance by 32 or 64 columns and leave the rest to a scalar loop, which for 20 columns is everything. Here
a row is walked 16 columns at a time, then 8, then 4, then one by one; LLVM makes of 16 lanes what the processor has
(two registers with AVX2, four on ARM). Four rows go together, so that a load of the weights serves four rows.

``X`` (n, d), C-contiguous, float32 or float64; a, b, c, e are row numbers; ``W`` and ``G`` (k, d + 1), of which row
``output`` is meant, the intercept last. Slices are not taken: Numba counts references to each, which costs as much
as a row. Nothing is checked here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

FLAGS = ("reassoc", "contract", "nsz", "arcp")  # as in compiled.FAST_MATH
WIDTHS = (16, 8, 4)
WIDER = (64, 32, *WIDTHS)
INDEX = ir.IntType(64)
LANE = ir.IntType(32)

Values = list[Any]


class Lanes:
    """Writes instructions on ``width`` neighbouring numbers at once; width 1 is a plain number."""

    def __init__(self, builder: Any, number: Any) -> None:
        self.builder, self.number = builder, number
        self.bytes = 4 if isinstance(number, ir.FloatType) else 8

    def load(self, start: Any, j: Any, width: int) -> Any:
        return self.builder.load(self._place(start, j, width), align=self.bytes)

    def store(self, value: Any, start: Any, j: Any, width: int) -> None:
        self.builder.store(value, self._place(start, j, width), align=self.bytes)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=FLAGS)

    def multiply(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=FLAGS)

    def sum_of_products(self, pairs: list[tuple[Any, Any]]) -> Any:
        total = self.multiply(*pairs[0])
        for a, b in pairs[1:]:
            total = self.add(self.multiply(a, b), total)
        return total

    def repeated(self, number: Any, width: int) -> Any:
        if width == 1:
            return number
        nothing = ir.Constant(self._type(width), ir.Undefined)
        return self._shuffled(self.builder.insert_element(nothing, number, LANE(0)), nothing, [0] * width)

    def zeros(self, width: int) -> Any:
        return ir.Constant(self._type(width), [ir.Constant(self.number, 0.0)] * width)

    def halved(self, a: Any) -> Any:
        """The upper half of the lanes added to the lower."""
        return self.add(*self.halves(a))

    def halves(self, a: Any) -> tuple[Any, Any]:
        """The lower half of the lanes, and the upper."""
        n = a.type.count
        return self._shuffled(a, a, list(range(n // 2))), self._shuffled(a, a, list(range(n // 2, n)))

    def narrowed(self, a: Any) -> Any:
        """Float64 lanes as numbers of this kind."""
        return a if self.bytes == 8 else self.builder.fptrunc(a, self._type(_count(a)))

    def widened(self, a: Any) -> Any:
        """Lanes of this kind as float64."""
        if self.bytes == 8:
            return a
        width = _count(a)
        double = ir.DoubleType()
        return self.builder.fpext(a, double if width == 1 else ir.VectorType(double, width))

    def four_sums(self, v: Values) -> Any:
        """Four vectors of four lanes → one vector of their sums."""
        one, two = (
            self.add(
                self._shuffled(v[i], v[i + 1], [0, 4, 2, 6]), self._shuffled(v[i], v[i + 1], [1, 5, 3, 7])
            )
            for i in (0, 2)
        )
        return self.add(self._shuffled(one, two, [0, 1, 4, 5]), self._shuffled(one, two, [2, 3, 6, 7]))

    def slots(self, count: int, width: int) -> Values:
        """Places for sums, zero; LLVM keeps them in registers."""
        kind, zero = self._type(width), self.zeros(width) if width > 1 else ir.Constant(self.number, 0.0)
        places = [cgutils.alloca_once(self.builder, kind) for _ in range(count)]  # type: ignore[no-untyped-call, unused-ignore]
        for place in places:
            self.builder.store(zero, place)
        return places

    def added(self, values: Values) -> Any:
        """The sum of a power of two of values, in pairs."""
        while len(values) > 1:
            values = [self.add(*values[i : i + 2]) for i in range(0, len(values), 2)]
        return values[0]

    def _type(self, width: int) -> Any:
        return self.number if width == 1 else ir.VectorType(self.number, width)

    def _place(self, start: Any, j: Any, width: int) -> Any:
        place = self.builder.gep(start, [j])
        return place if width == 1 else self.builder.bitcast(place, self._type(width).as_pointer())

    def _shuffled(self, a: Any, b: Any, places: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(LANE, len(places)), [LANE(i) for i in places])
        return self.builder.shuffle_vector(a, b, mask)


def _count(a: Any) -> int:
    return int(getattr(a.type, "count", 1))


def walk(lanes: Lanes, d: Any, body: Callable[[Any, int], None], widths: tuple[int, ...] = WIDTHS) -> None:
    """Writes ``body(j, width)`` for pieces that cover columns 0 … d − 1, each once."""
    b = lanes.builder
    most = b.and_(d, INDEX(-widths[0]))
    with cgutils.for_range_slice(b, INDEX(0), most, INDEX(widths[0]), INDEX) as (j, _):
        body(j, widths[0])
    done = most
    for width in widths[1:]:
        bit = b.and_(d, INDEX(width))
        with b.if_then(b.icmp_unsigned("!=", bit, INDEX(0))):
            body(done, width)
        done = b.add(done, bit)
    with cgutils.for_range_slice(b, done, d, INDEX(1), INDEX) as (j, _):
        body(j, 1)


def sums(lanes: Lanes, d: Any, count: int, pairs: Callable[[Any, int], list[tuple[Any, Any]]]) -> Values:
    """``count`` sums over the columns of a product, each left in four lanes; ``pairs(j, width)`` are the factors.

    The accumulators halve their width as the pieces do, so adding up their lanes takes no step of its own.
    """
    b = lanes.builder
    slots = {
        width: [
            cgutils.alloca_once(b, ir.VectorType(lanes.number, width))  # type: ignore[no-untyped-call, unused-ignore]
            for _ in range(count)
        ]
        for width in WIDTHS
    }

    def add(places: Values, j: Any, width: int) -> None:
        for place, (p, q) in zip(places, pairs(j, width), strict=True):
            b.store(lanes.add(lanes.multiply(p, q), b.load(place)), place)

    for place in slots[WIDTHS[0]]:
        b.store(lanes.zeros(WIDTHS[0]), place)
    done = b.and_(d, INDEX(-WIDTHS[0]))
    with cgutils.for_range_slice(b, INDEX(0), done, INDEX(WIDTHS[0]), INDEX) as (j, _):
        add(slots[WIDTHS[0]], j, WIDTHS[0])
    for wider, width in itertools.pairwise(WIDTHS):
        for before, place in zip(slots[wider], slots[width], strict=True):
            b.store(lanes.halved(b.load(before)), place)
        bit = b.and_(d, INDEX(width))
        with b.if_then(b.icmp_unsigned("!=", bit, INDEX(0))):
            add(slots[width], done, width)
        done = b.add(done, bit)
    with cgutils.for_range_slice(b, done, d, INDEX(1), INDEX) as (j, _):
        for place, (p, q) in zip(slots[WIDTHS[-1]], pairs(j, 1), strict=True):
            v = b.load(place)
            one = lanes.add(lanes.multiply(p, q), b.extract_element(v, LANE(0)))
            b.store(b.insert_element(v, one, LANE(0)), place)
    return [b.load(place) for place in slots[WIDTHS[-1]]]


class Call:
    """The arguments of an intrinsic as it is written: pointers to rows, to arrays, and numbers."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.context, self.builder, self.types, self.args = context, builder, signature.args, args

    def start(self, i: int) -> Any:
        """Where the array that is argument ``i`` begins."""
        return self._array(i).data

    def row(self, i: int, number: int) -> Any:
        """Where the row of argument ``i`` begins whose number is argument ``number``."""
        return self.builder.gep(self.start(i), [self.builder.mul(self.index(number), self.columns(i))])

    def columns(self, i: int) -> Any:
        return cgutils.unpack_tuple(self.builder, self._array(i).shape)[1]  # type: ignore[no-untyped-call, unused-ignore]

    def index(self, i: int) -> Any:
        return self.context.cast(self.builder, self.args[i], self.types[i], types.int64)

    def number(self, i: int, like: Any) -> Any:
        return self.context.cast(self.builder, self.args[i], self.types[i], like)

    def lanes(self, i: int) -> Lanes:
        return Lanes(self.builder, self.context.get_value_type(self.types[i].dtype))

    def once(self, name: str, write: Callable[..., None], *values: Any) -> Any:
        """Calls what ``write(lanes, *values)`` writes as a function of its own, which a kernel has once.

        In place it would be compiled again wherever it stands, and be most of a kernel. A call takes two nanoseconds.
        """
        lanes, module = self.lanes(0), self.builder.module
        full_name = f"descend.{name}.{lanes.bytes}"
        function = module.globals.get(full_name)
        if function is None:
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
            function = ir.Function(module, kind, full_name)
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            builder = ir.IRBuilder(function.append_basic_block())
            write(Lanes(builder, lanes.number), *function.args)
            builder.ret_void()
        self.builder.call(function, values)
        return self.context.get_dummy_value()

    def _array(self, i: int) -> Any:
        return self.context.make_array(self.types[i])(self.context, self.builder, self.args[i])


def only_contiguous(*arrays: Any) -> None:
    """Raises ``TypingError`` for an array of another kind, while the kernel is compiled."""
    for array in arrays:
        if array.layout != "C" or array.dtype not in (types.float32, types.float64):
            raise TypingError(f"lanes work on C-contiguous floats, not on {array}")


@intrinsic
def _four_scores(
    typingctx: Any, X: Any, a: Any, b: Any, c: Any, e: Any, W: Any, output: Any, scores: Any, at: Any
) -> Any:
    """Writes x·w + intercept of four rows to ``scores[output, at : at + 4]``."""
    only_contiguous(X, W, scores)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, d = call.lanes(0), call.columns(0)
        rows, weights = [call.row(0, i) for i in range(1, 5)], call.row(5, 6)

        def pairs(j: Any, width: int) -> list[tuple[Any, Any]]:
            shared = lanes.load(weights, j, width)
            return [(lanes.load(x, j, width), shared) for x in rows]

        intercept = lanes.repeated(lanes.load(weights, d, 1), 4)
        total = lanes.add(lanes.four_sums(sums(lanes, d, 4, pairs)), intercept)
        lanes.store(total, call.row(7, 6), call.index(8), 4)
        return context.get_dummy_value()

    return types.void(X, a, b, c, e, W, output, scores, at), generate


@intrinsic
def _four_products(typingctx: Any, X: Any, a: Any, b: Any, c: Any, e: Any, W: Any, out: Any) -> Any:
    """Writes x·w of four rows, output 0, to ``out[:4]``, and to ``out[4:10]`` the products ab, ac, ae, bc, be, ce."""
    only_contiguous(X, W, out)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        lanes, d = call.lanes(0), call.columns(0)
        rows, weights, place = [call.row(0, i) for i in range(1, 5)], call.start(5), call.start(6)

        def pairs(j: Any, width: int) -> list[tuple[Any, Any]]:
            shared = lanes.load(weights, j, width)
            x = [lanes.load(row, j, width) for row in rows]
            return [(one, shared) for one in x] + [(x[p], x[q]) for p in range(4) for q in range(p + 1, 4)]

        found = sums(lanes, d, 10, pairs)
        for start in (0, 4):
            lanes.store(lanes.four_sums(found[start : start + 4]), place, INDEX(start), 4)
        lanes.store(lanes.four_sums(found[8:] + found[8:]), place, INDEX(8), 4)
        return context.get_dummy_value()

    return types.void(X, a, b, c, e, W, out), generate


@intrinsic
def _add_rows(typingctx: Any, G: Any, output: Any, X: Any, rows: Any, at: Any, n: Any, factors: Any) -> Any:
    """Adds factors[output, i] · (x, 1) to ``G[output]`` for the n rows whose numbers (int64) are ``rows[at:]``.

    ``i`` counts from ``at`` on, too.

    Sums of some columns stay in registers while all rows are walked: written back after each row or four, the next
    had waited for them.
    """
    only_contiguous(G, X, factors)

    def write(lanes: Lanes, goal: Any, x: Any, d: Any, rows: Any, n: Any, factors: Any) -> None:
        b = lanes.builder

        def add(slots: Values, j: Any, width: int, first: Any) -> None:
            for number, place in enumerate(slots):
                i = b.add(first, INDEX(number))
                row = b.gep(x, [b.mul(b.load(b.gep(rows, [i])), d)])
                factor = lanes.repeated(lanes.load(factors, i, 1), width)
                product = lanes.multiply(factor, lanes.load(row, j, width))
                b.store(lanes.add(product, b.load(place)), place)

        def body(j: Any, width: int) -> None:
            together = 2 if width > 32 else 4
            slots, whole = lanes.slots(together, width), b.and_(n, INDEX(-together))
            with cgutils.for_range_slice(b, INDEX(0), whole, INDEX(together), INDEX) as (i, _):
                add(slots, j, width, i)
            with cgutils.for_range_slice(b, whole, n, INDEX(1), INDEX) as (i, _):
                add(slots[:1], j, width, i)
            total = lanes.added([b.load(place) for place in slots])
            lanes.store(lanes.add(lanes.load(goal, j, width), total), goal, j, width)

        walk(lanes, d, body, WIDER)
        (slot,) = lanes.slots(1, 1)
        with cgutils.for_range_slice(b, INDEX(0), n, INDEX(1), INDEX) as (i, _):
            b.store(lanes.add(lanes.load(factors, i, 1), b.load(slot)), slot)
        lanes.store(lanes.add(lanes.load(goal, d, 1), b.load(slot)), goal, d, 1)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        first = [call.index(4)]
        places = builder.gep(call.start(3), first), call.index(5), builder.gep(call.row(6, 1), first)
        return call.once("add_rows", write, call.row(0, 1), call.start(2), call.columns(2), *places)

    return types.void(G, output, X, rows, at, n, factors), generate


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
        _write_move(call, call.row(0, 1), [call.row(3, 4)], [2, 5])
        return context.get_dummy_value()

    return types.void(W, output, keep, X, row, factor), generate


@intrinsic
def _move_by_four(
    typingctx: Any,
    W: Any,
    output: Any,
    keep: Any,
    X: Any,
    a: Any,
    b: Any,
    c: Any,
    e: Any,
    fa: Any,
    fb: Any,
    fc: Any,
    fe: Any,
) -> Any:
    """``move`` by fa · x of row a + … of four rows."""
    only_contiguous(W, X)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        rows = [call.row(3, i) for i in range(4, 8)]
        _write_move(call, call.row(0, 1), rows, [2, 8, 9, 10, 11])
        return context.get_dummy_value()

    return types.void(W, output, keep, X, a, b, c, e, fa, fb, fc, fe), generate


def _write_move(call: Call, goal: Any, rows: Values, factors: list[int]) -> None:
    """Arguments ``factors`` are what the weights are multiplied by, then each row."""
    lanes, d = call.lanes(0), call.columns(3)
    numbers = [call.number(i, call.types[0].dtype) for i in factors]
    wide = {width: [lanes.repeated(n, width) for n in numbers] for width in (*WIDTHS, 1)}

    def body(j: Any, width: int) -> None:
        there = [lanes.load(start, j, width) for start in (goal, *rows)]
        lanes.store(lanes.sum_of_products(list(zip(wide[width], there, strict=True))), goal, j, width)

    walk(lanes, d, body)


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


four_scores: Callable[..., None] = cast("Any", _four_scores)
four_products: Callable[..., None] = cast("Any", _four_products)
add_rows: Callable[..., None] = cast("Any", _add_rows)
score: Callable[..., Any] = cast("Any", _score)
move: Callable[..., None] = cast("Any", _move)
move_by_four: Callable[..., None] = cast("Any", _move_by_four)
saga_move: Callable[..., None] = cast("Any", _saga_move)
