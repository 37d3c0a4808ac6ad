"""The axes of a plan's figures, all logarithmic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from descend.report import curves, formatting
from descend.report.drawing import Figure

LEAST_RANGE = 10.0
"""From the bottom of an axis to its top: a curve that is flat looks flat."""
_MOST_TICKS = 7


def size_axis(sizes: Iterable[int]) -> Figure:
    """A logarithmic axis with doublings as ticks."""
    low, high = min(sizes), max(sizes)
    doublings = [2**power for power in range(high.bit_length()) if low <= 2**power <= high]
    stride = max(1, math.ceil(len(doublings) / _MOST_TICKS))
    ticks = doublings[::stride] or [low]
    room = 0.06 * max(math.log10(high / low), 0.5)
    return {
        "type": "log",
        "range": [math.log10(low) - room, math.log10(high) + room],
        "tickvals": ticks,
        "ticktext": [formatting.short_count(size) for size in ticks],
        "tickangle": 0,
    }


def log_axis(values: Iterable[float], show: Callable[[float | None], str]) -> Figure:
    """A logarithmic axis that holds the values, and a decade at least."""
    given = list(values)
    low, high = max(min(given) / 1.3, 1e-300), max(given) * 1.3
    if high < LEAST_RANGE * low:
        room = math.sqrt(LEAST_RANGE * low / high)
        low, high = low / room, high * room
    ticks = curves.nice_values(low, high, limit=6)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [show(value) for value in ticks],
    }
