"""Squares of 16 × 16 numbers turned in registers: what lies side by side for a row comes to lie so for an output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from numba import types
from numba.extending import intrinsic

from descend.engines.vectors import INDEX, Call, Lanes, only_contiguous

SIDE = 16
STAGES = 4
"""So often each line is shuffled with the one half a square away, until rows are columns."""


@intrinsic
def _turn_square(typingctx: Any, A: Any, a: Any, a_step: Any, B: Any, b: Any, b_step: Any) -> Any:
    """Overwrites B[b + c · b_step + r] with A[a + r · a_step + c] for r and c from 0 to 15; flat places of both."""
    only_contiguous(A, B)

    def write(lanes: Lanes, source: Any, source_step: Any, goal: Any, goal_step: Any) -> None:
        b = lanes.builder
        lines = [lanes.load(source, b.mul(INDEX(r), source_step), SIDE) for r in range(SIDE)]
        for _ in range(STAGES):
            pairs = [lanes.woven(lines[r], lines[r + SIDE // 2]) for r in range(SIDE // 2)]
            lines = [line for pair in pairs for line in pair]
        for c, line in enumerate(lines):
            lanes.store(line, goal, b.mul(INDEX(c), goal_step), SIDE)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call = Call(context, builder, signature, args)
        source, goal = (builder.gep(call.start(i), [call.index(i + 1)]) for i in (0, 3))
        return call.once("turn_square", write, source, call.index(2), goal, call.index(5))

    return types.void(A, a, a_step, B, b, b_step), generate


turn_square: Callable[..., None] = cast("Any", _turn_square)
