"""A constant in the precision of the numbers around it."""

from __future__ import annotations

from typing import Any


def like(number: Any, value: float) -> Any:
    """``value``; inside a kernel in the type of ``number``.

    NumPy keeps float32 when a plain number is added to it; a kernel would go on in float64, which made a step of Adam
    three times as long. ``engines/fast_math.py`` has the kernel's side.
    """
    return value
