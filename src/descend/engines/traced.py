"""Formulas in plain arithmetic, such as ``updates/adam.py``, applied to vectors while a kernel is written for LLVM.

A formula that is called with ``Traced`` vectors leaves the instructions behind that work it out, so a loop of our own
has the optimizers' formulas without a second copy of them. Where Numba writes a loop its vectoriser asks before every
row whether arrays overlap, and leaves what does not fill its vectors to single numbers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from descend.engines.fast_math import LARGEST
from descend.engines.vectors import FLAGS, Lanes

ESTIMATED = ("contract", "nsz", "arcp", "ninf")
"""As in ``fast_math.divided``."""


class Traced:
    """A vector whose arithmetic writes instructions."""

    def __init__(self, lanes: Lanes, value: Any) -> None:
        self.lanes, self.value = lanes, value

    def __add__(self, other: Any) -> Traced:
        return self._new(self.lanes.add(self.value, self._value_of(other)))

    def __sub__(self, other: Any) -> Traced:
        return self._new(self.lanes.builder.fsub(self.value, self._value_of(other), flags=FLAGS))

    def __rsub__(self, other: Any) -> Traced:
        return self._new(self._value_of(other)) - self

    def __mul__(self, other: Any) -> Traced:
        return self._new(self.lanes.multiply(self.value, self._value_of(other)))

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Traced:
        """By an estimate for float32, as ``over_root`` in a loop; by more than 3e38 as by 3e38."""
        b, by = self.lanes.builder, self._value_of(other)
        if self.lanes.bytes == 8:
            return self._new(b.fdiv(self.value, by, flags=FLAGS))
        most = self._value_of(LARGEST)
        held = b.select(b.fcmp_ordered(">", by, most), most, by)
        return self._new(b.fdiv(self.value, held, flags=ESTIMATED))

    def sqrt(self) -> Traced:
        """What ``np.sqrt`` asks objects for."""
        kind = self.value.type
        name = f"llvm.sqrt.v{kind.count}{self.lanes.number.intrinsic_name}"
        root = self.lanes.builder.module.declare_intrinsic(name, fnty=ir.FunctionType(kind, [kind]))
        return self._new(self.lanes.builder.call(root, [self.value]))

    def _new(self, value: Any) -> Traced:
        return Traced(self.lanes, value)

    def _value_of(self, other: Any) -> Any:
        if isinstance(other, Traced):
            return other.value
        count = self.value.type.count
        return ir.Constant(self.value.type, [ir.Constant(self.lanes.number, float(other))] * count)
