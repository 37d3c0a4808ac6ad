"""Ask memory for a row before it is needed: the one processor instruction that Numba does not offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def ask_for(builder: Any, pointer: Any) -> None:
    """Writes the instruction that starts loading the cache line at ``pointer``, (i8*)."""
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
    function = builder.module.declare_intrinsic("llvm.prefetch", fnty=kind)
    # Read (0), keep in all caches (3), data (1).
    builder.call(function, [pointer, number(0), number(3), number(1)])


@intrinsic
def _prefetch(typingctx: Any, X: Any, row: Any, offset: Any) -> Any:
    """Start loading the cache line ``offset`` bytes into ``X[row]``; changes nothing and cannot fail."""
    signature = types.void(X, row, offset)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        integer = context.get_value_type(types.intp)
        row_number = context.cast(builder, args[1], signature.args[1], types.intp)
        byte = context.cast(builder, args[2], signature.args[2], types.intp)
        stride = cgutils.unpack_tuple(builder, array.strides)[0]  # type: ignore[no-untyped-call, unused-ignore]
        start = builder.ptrtoint(array.data, integer)
        address = builder.add(builder.add(start, builder.mul(row_number, stride)), byte)
        pointer = builder.inttoptr(address, ir.IntType(8).as_pointer())
        ask_for(builder, pointer)
        return context.get_dummy_value()

    return signature, generate


prefetch: Callable[[Any, int, int], None] = cast("Any", _prefetch)
"""``prefetch(X, row, offset)`` inside a kernel."""
