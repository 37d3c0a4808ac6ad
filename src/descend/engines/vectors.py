"""Vector instructions written for LLVM: what loads, adds and multiplies some neighbouring numbers at once.

``lanes.py`` has products of rows made of them, ``tiles.py`` and ``column_tiles.py`` products of several with several.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError

FLAGS = ("reassoc", "contract", "nsz", "arcp")  # as in compiled.FAST_MATH
WIDTHS = (16, 8, 4)
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

    def first(self, count: Any, width: int) -> Any:
        """A mask of the first ``count`` of ``width`` lanes."""
        kind = ir.VectorType(INDEX, width)
        wide = self._filled(count, kind)
        return self.builder.icmp_unsigned("<", ir.Constant(kind, list(range(width))), wide)

    def load_masked(self, start: Any, j: Any, mask: Any) -> Any:
        """As many numbers as ``mask`` has lanes, of which those outside it are 0 and not read."""
        kind = self._type(mask.type.count)
        place = self._place(start, j, mask.type.count)
        function = self._masked("load", kind, [place.type, LANE, mask.type, kind], kind)
        return self.builder.call(function, [place, LANE(self.bytes), mask, self.zeros(mask.type.count)])

    def store_masked(self, value: Any, start: Any, j: Any, mask: Any) -> None:
        """Writes those numbers that are inside ``mask``."""
        place = self._place(start, j, mask.type.count)
        arguments = [value.type, place.type, LANE, mask.type]
        function = self._masked("store", value.type, arguments, ir.VoidType())
        self.builder.call(function, [value, place, LANE(self.bytes), mask])

    def _masked(self, what: str, kind: Any, arguments: list[Any], result: Any) -> Any:
        name = f"llvm.masked.{what}.v{kind.count}f{8 * self.bytes}.p0"
        function = self.builder.module.globals.get(name)
        return function or ir.Function(self.builder.module, ir.FunctionType(result, arguments), name)

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
        return number if width == 1 else self._filled(number, self._type(width))

    def _filled(self, number: Any, kind: Any) -> Any:
        nothing = ir.Constant(kind, ir.Undefined)
        return self._shuffled(
            self.builder.insert_element(nothing, number, LANE(0)), nothing, [0] * kind.count
        )

    def zeros(self, width: int) -> Any:
        zero = ir.Constant(self.number, 0.0)
        return zero if width == 1 else ir.Constant(self._type(width), [zero] * width)

    def halved(self, a: Any) -> Any:
        """The upper half of the lanes added to the lower."""
        return self.add(*self.halves(a))

    def halves(self, a: Any) -> tuple[Any, Any]:
        """The lower half of the lanes, and the upper."""
        n = a.type.count
        return self._shuffled(a, a, list(range(n // 2))), self._shuffled(a, a, list(range(n // 2, n)))

    def woven(self, a: Any, b: Any) -> tuple[Any, Any]:
        """The lanes of both by turns: those of the lower halves, and those of the upper."""
        n = a.type.count
        places = [place for i in range(n) for place in (i, n + i)]
        return self._shuffled(a, b, places[:n]), self._shuffled(a, b, places[n:])

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

    def four_sums_within(self, v: Values) -> Any:
        """Four vectors → one of four lanes, their sums.

        Fours of lanes are added up side by side before they are halved: half the shuffles of halving each vector.
        """

        def each(a: Any, b: Any, lower: list[int], upper: list[int]) -> Any:
            n = a.type.count
            places = [
                [base + place % 4 + n * (place // 4) for base in range(0, n, 4) for place in four]
                for four in (lower, upper)
            ]
            return self.add(*(self._shuffled(a, b, some) for some in places))

        one, two = (each(v[i], v[i + 1], [0, 4, 1, 5], [2, 6, 3, 7]) for i in (0, 2))
        total = each(one, two, [0, 1, 4, 5], [2, 3, 6, 7])
        while total.type.count > 4:
            total = self.halved(total)
        return total

    def slots(self, count: int, width: int) -> Values:
        """Places for sums, zero; LLVM keeps them in registers."""
        kind, zero = self._type(width), self.zeros(width)
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
    slots = {width: lanes.slots(count, width) for width in WIDTHS}

    def add(places: Values, j: Any, width: int) -> None:
        for place, (p, q) in zip(places, pairs(j, width), strict=True):
            b.store(lanes.add(lanes.multiply(p, q), b.load(place)), place)

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
