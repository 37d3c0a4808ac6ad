"""What the system does when a mapped page cannot be had any more: a page of zeros and a count, instead of the end.

A file that is cut while it is mapped, and a disk that fails, are told by a signal (SIGBUS), which by default ends the
process. The handler must neither wait nor allocate, and no Python may run in it. So it is a few instructions written
for LLVM: an address inside one of the given ranges gets an anonymous page and counts; any other has the former
handler put back, and the instruction meets that one when it is run again.
"""

from __future__ import annotations

import ctypes
import mmap
import signal
import sys
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir

MOST_RANGES = 64
ADDRESS = 16
"""Where ``si_addr`` stands in Linux's siginfo_t on machines of 64 bits."""
ACTION_BYTES = 256
"""No less than a C library's ``struct sigaction``: the handler, 128 bytes of mask, the flags."""
FLAGS = 4 | 0x08000000
"""SA_SIGINFO: the handler is told the address; SA_ONSTACK."""
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
"""0x10 is MAP_FIXED, which Python does not name."""

ranges = np.zeros((MOST_RANGES, 3), dtype=np.int64)
"""Of each range the first address, the end, and how many of its pages were replaced; the handler reads and counts."""
_former = ctypes.create_string_buffer(ACTION_BYTES)


def install() -> None:
    """Puts the handler in the place of the former one.

    Whoever put one over ours, and takes it away after ``restore``, leaves ours behind: that is no former one, or a
    bus error of others would be handed to and fro for ever.
    """
    there = ctypes.create_string_buffer(ACTION_BYTES)
    _sigaction()(signal.SIGBUS, _action(), there)
    if not _is_ours(there):
        _former.raw = there.raw


def restore() -> None:
    """Puts the former handler back, unless somebody else has put one there."""
    now = ctypes.create_string_buffer(ACTION_BYTES)
    _sigaction()(signal.SIGBUS, None, now)
    if _is_ours(now):
        _sigaction()(signal.SIGBUS, _former, None)


def _is_ours(action: Any) -> bool:
    return int.from_bytes(action.raw[:8], sys.byteorder) == _handler()[0]


@cache
def _action() -> Any:
    handler, mask = _handler()[0].to_bytes(8, sys.byteorder), bytes(128)
    return ctypes.create_string_buffer(handler + mask + FLAGS.to_bytes(4, sys.byteorder), ACTION_BYTES)


@cache
def _sigaction() -> Any:
    function = ctypes.CDLL(None).sigaction
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    return function


@cache
def _handler() -> tuple[int, Any]:
    """The address of the handler, and what keeps its instructions alive."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    library = ctypes.CDLL(None)
    code = str(_code(_address(library.mmap), _address(library.sigaction)))
    module = binding.parse_assembly(code)
    module.verify()
    target = binding.Target.from_default_triple().create_target_machine()
    compiler = binding.create_mcjit_compiler(module, target)
    compiler.finalize_object()
    return compiler.get_function_address("on_bus_error"), compiler


def _address(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def _code(map_address: int, sigaction_address: int) -> ir.Module:
    """The handler: void on_bus_error(int signal, siginfo_t *information, void *context)."""
    i32, i64 = ir.IntType(32), ir.IntType(64)
    words = i64.as_pointer()
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [i32, i64, i64]), "on_bus_error")
    start = ir.IRBuilder(function.append_basic_block("start"))
    loop = ir.IRBuilder(function.append_basic_block("loop"))
    following = ir.IRBuilder(function.append_basic_block("following"))
    ours = ir.IRBuilder(function.append_basic_block("ours"))
    done = ir.IRBuilder(function.append_basic_block("done"))
    others = ir.IRBuilder(function.append_basic_block("others"))
    _, information, _ = function.args
    base = int(ranges.ctypes.data)

    def word(builder: ir.IRBuilder, address: Any) -> Any:
        return builder.inttoptr(address, words)

    place = start.add(information, i64(ADDRESS))
    address = start.load(word(start, place))
    start.branch(loop.block)

    number = loop.phi(i64)
    number.add_incoming(i64(0), start.block)
    low = loop.add(loop.mul(number, i64(24)), i64(base))
    is_behind = loop.icmp_unsigned(">=", address, loop.load(word(loop, low)))
    is_before = loop.icmp_unsigned("<", address, loop.load(word(loop, loop.add(low, i64(8)))))
    loop.cbranch(loop.and_(is_behind, is_before), ours.block, following.block)

    number.add_incoming(following.add(number, i64(1)), following.block)
    is_last = following.icmp_unsigned("==", number, i64(MOST_RANGES - 1))
    following.cbranch(is_last, others.block, loop.block)

    page = ours.and_(address, i64(-mmap.PAGESIZE))
    signature = ir.FunctionType(i64, [i64, i64, i32, i32, i32, i64]).as_pointer()
    given = ours.call(
        ours.inttoptr(i64(map_address), signature),
        [page, i64(mmap.PAGESIZE), i32(mmap.PROT_READ), i32(_ANONYMOUS), i32(-1), i64(0)],
    )
    ours.cbranch(ours.icmp_unsigned("==", given, page), done.block, others.block)

    done.atomic_rmw("add", word(done, done.add(low, i64(16))), i64(1), "seq_cst")
    done.ret_void()

    signature = ir.FunctionType(i32, [i32, i64, i64]).as_pointer()
    former = ctypes.addressof(_former)
    others.call(others.inttoptr(i64(sigaction_address), signature), [i32(signal.SIGBUS), i64(former), i64(0)])
    others.ret_void()
    return module
