"""Numbers too small for a normal float, taken for zero while a network learns.

Moments of weights whose gradient stays zero (silent units, columns that are rare) halve in every few steps until they
are such numbers, and each operation on them then costs a hundred: training kin40k took 7.4 s instead of 1.1. x86 has
a switch for it, one for each thread, which is put back afterwards. Elsewhere nothing is switched: ARM's cores are
about as fast on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

IS_X86 = binding.get_default_triple().startswith(("x86_64", "i386", "i686"))
TINY_IS_ZERO = 0x8040
"""Of MXCSR: results flushed to zero (bit 15), arguments taken for zero (bit 6)."""
WORD = ir.IntType(32)
BYTES = ir.IntType(8).as_pointer()


def _call(builder: Any, name: str, slot: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [BYTES])
    function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call, unused-ignore]
    builder.call(function, [builder.bitcast(slot, BYTES)])


@intrinsic
def _flush_tiny(typingctx: Any) -> Any:
    """Switches it on; returns what ``restore`` takes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not IS_X86:
            return WORD(0)
        slot = cgutils.alloca_once(builder, WORD)  # type: ignore[no-untyped-call, unused-ignore]
        _call(builder, "llvm.x86.sse.stmxcsr", slot)
        before = builder.load(slot)
        builder.store(builder.or_(before, WORD(TINY_IS_ZERO)), slot)
        _call(builder, "llvm.x86.sse.ldmxcsr", slot)
        return before

    return types.int32(), generate


@intrinsic
def _restore(typingctx: Any, word: Any) -> Any:
    """Switches back to what ``flush_tiny`` found."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if IS_X86:
            slot = cgutils.alloca_once(builder, WORD)  # type: ignore[no-untyped-call, unused-ignore]
            builder.store(context.cast(builder, args[0], signature.args[0], types.int32), slot)
            _call(builder, "llvm.x86.sse.ldmxcsr", slot)
        return context.get_dummy_value()

    return types.void(word), generate


flush_tiny: Callable[[], int] = cast("Any", _flush_tiny)
restore: Callable[[int], None] = cast("Any", _restore)
