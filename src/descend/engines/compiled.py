"""The decorators through which descend meets Numba.

``kernel`` compiles a function of this package when it is first called, and keeps the machine code on disk
(``kernel_cache.py`` says where, and when it is fresh). ``inline`` lets kernels call a formula that is written
elsewhere in plain arithmetic, and leaves the formula what it was: the same function serves NumPy and kernels.
``part`` is a piece of a kernel under a name of its own.

Importing this module imports Numba (about a second), so nothing outside ``engines/`` does it at its top.

Module constants are frozen into a kernel when it is compiled: pass what may change as an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core.registry import CPUDispatcher
from numba.extending import register_jitable

from descend.engines.kernel_cache import KernelCache, quiet
from descend.engines.part_compiler import Part, PartCompiler

__all__ = ["exact_kernel", "inline", "kernel", "part", "quiet"]

P = ParamSpec("P")
R = TypeVar("R")

# Sums may be reordered and multiply-adds contracted. NaN and infinity keep their meaning ("nnan" and "ninf"
# are left out), because divergence is told from them.
FAST_MATH = frozenset({"reassoc", "contract", "nsz", "arcp"})
# Division by zero gives infinity or NaN, as in NumPy: a check for it would keep a loop from being vectorised.
OPTIONS: dict[str, Any] = {"fastmath": set(FAST_MATH), "error_model": "numpy"}

# Nothing here is called from C, and what is put into kernels from nowhere else: doors for that took a tenth of a
# first fit.
KERNEL: dict[str, Any] = {"nogil": True, "no_cfunc_wrapper": True}
INSIDE: dict[str, Any] = {"pipeline_class": PartCompiler, "no_cfunc_wrapper": True}
PART: dict[str, Any] = {
    **INSIDE,
    "nogil": True,
    "forceinline": True,
    "_nrt": False,
    "no_cpython_wrapper": True,
}

_inlined: set[Callable[..., Any]] = set()


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` for each set of argument types it is called with; the GIL is released inside.

    The function stands at the top of its module: one that closes over variables of another function cannot
    be found again on disk, and is refused.

    >>> @kernel
    ... def add(a: float, b: float) -> float:
    ...     return a + b
    >>> add(1.0, 2.0)
    3.0
    """
    if function.__closure__:
        names = ", ".join(function.__code__.co_freevars)
        raise TypeError(
            f"kernel {function.__qualname__!r} closes over {names}; write it at the top of its module "
            "and pass these as arguments"
        )
    dispatcher = numba.njit(**OPTIONS, **KERNEL)(function)
    if hasattr(dispatcher, "_cache"):  # absent under NUMBA_DISABLE_JIT=1, where Numba returns the function
        dispatcher._cache = KernelCache(function)
    return cast("Callable[P, R]", dispatcher)


def exact_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """A ``kernel`` that rounds as NumPy does: nothing is reordered, contracted or multiplied by an inverse."""
    dispatcher = numba.njit(error_model="numpy", **KERNEL)(function)
    if hasattr(dispatcher, "_cache"):
        dispatcher._cache = KernelCache(function)
    return cast("Callable[P, R]", dispatcher)


def inline(function: Callable[P, R]) -> Callable[P, R]:
    """Let kernels call ``function``, and return it unchanged: outside a kernel it is still plain Python.

    Made for formulas of other modules; call it once beside the kernels that use them, ``inline(formula)``.
    A formula that calls another needs both registered. LLVM inlines what is small; Numba's own inlining
    (``inline="always"``) is not used: it works on the source level, and slows compiling.

    >>> def double(x: float) -> float:
    ...     return 2.0 * x
    >>> inline(double) is double
    True
    """
    if function not in _inlined:
        register_jitable(**OPTIONS, **INSIDE)(function)
        _inlined.add(function)
    return function


def part(function: Callable[P, R]) -> Callable[P, R]:
    """A piece of a kernel, written apart to be read apart, and put back in place by LLVM: it costs no call.

    A call passes each array as seven numbers; at batch size 1 that took longer than the arithmetic. And a function
    that several kernels call exists once in each, optimised for its surroundings; which of them runs hangs on which
    kernel was loaded first, so that the first process, which compiles, rounded differently from the next.

    It makes no arrays, and returns none: the kernel owns them all, and inside a part nobody counts their owners
    (``_nrt``). Counting took more than half of a step of Adam on four rows.
    """
    dispatcher = numba.njit(**OPTIONS, **PART)(function)
    if isinstance(dispatcher, CPUDispatcher):  # else NUMBA_DISABLE_JIT=1: then it is the function
        dispatcher.__class__ = Part
    return cast("Callable[P, R]", dispatcher)
