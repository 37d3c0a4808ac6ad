"""What hidden units make of their scores, and the slopes of that, in loops that vectorise.

Flat pieces of one array: scores from ``z`` on, what was made of them from ``a`` on, ``count`` numbers. The plain
formulas are in ``objectives/activations.py``.
"""

from __future__ import annotations

from descend.engines.compiled import part
from descend.engines.fast_math import exponential, normal_share, tangent
from descend.objectives.activations import DENSITY, GELU, LOGISTIC, RELU, TANH
from descend.types import FloatArray


@part
def activate_block(code: int, room: FloatArray, z: int, a: int, count: int) -> None:
    """Overwrites ``room[a : a + count]`` with what the activation makes of ``room[z : z + count]``."""
    number = room.dtype.type
    if code == RELU:
        for i in range(count):
            room[a + i] = number(0.0) if room[z + i] < number(0.0) else room[z + i]  # what is no number stays
    elif code == TANH:
        for i in range(count):
            room[a + i] = tangent(room[z + i])
    elif code == LOGISTIC:
        for i in range(count):
            room[a + i] = number(1.0) / (number(1.0) + exponential(-room[z + i]))
    elif code == GELU:
        for i in range(count):
            room[a + i] = room[z + i] * normal_share(room[z + i])
    else:
        for i in range(count):
            room[a + i] = room[z + i]


@part
def multiply_slopes(code: int, room: FloatArray, z: int, a: int, d: int, count: int) -> None:
    """Multiplies ``room[d : d + count]`` by the activation's slopes."""
    number = room.dtype.type
    if code == RELU:
        for i in range(count):
            room[d + i] = room[d + i] if room[z + i] > number(0.0) else number(0.0)
    elif code == TANH:
        for i in range(count):
            room[d + i] *= number(1.0) - room[a + i] * room[a + i]
    elif code == LOGISTIC:
        for i in range(count):
            room[d + i] *= room[a + i] * (number(1.0) - room[a + i])
    elif code == GELU:
        for i in range(count):
            x = room[z + i]
            density = number(DENSITY) * exponential(number(-0.5) * x * x)
            room[d + i] *= normal_share(x) + x * density
