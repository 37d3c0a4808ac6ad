"""A number over the root of a square: what Adam and its like divide by."""

from __future__ import annotations

from typing import Any

import numpy as np


def over_root(number: Any, square: Any, epsilon: Any) -> Any:
    """``number`` / (√``square`` + ``epsilon``); inside a kernel and for float32 right to 3e-7.

    A root and a division take the same part of a processor, one after the other, and were half of a step of Adam on
    single rows. ``engines/fast_math.py`` has the kernel's side.

    >>> float(over_root(1.0, 4.0, 2.0))
    0.25
    """
    return number / (np.sqrt(square) + epsilon)
