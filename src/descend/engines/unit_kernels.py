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
    scores, out = (
        room[z : z + count],
        room[a : a + count],
    )  # an index that may count from the end is asked each time
    if code == RELU:
        for i in range(scores.size):  # what is no number stays none
            out[i] = number(0.0) if scores[i] < number(0.0) else scores[i]
    elif code == TANH:
        for i in range(scores.size):
            out[i] = tangent(scores[i])
    elif code == LOGISTIC:
        for i in range(scores.size):
            out[i] = number(1.0) / (number(1.0) + exponential(-scores[i]))
    elif code == GELU:
        for i in range(scores.size):
            out[i] = scores[i] * normal_share(scores[i])
    else:
        for i in range(scores.size):
            out[i] = scores[i]


@part
def multiply_slopes(code: int, room: FloatArray, z: int, a: int, d: int, count: int) -> None:
    """Multiplies ``room[d : d + count]`` by the activation's slopes."""
    number = room.dtype.type
    scores, out, goal = room[z : z + count], room[a : a + count], room[d : d + count]
    if code == RELU:
        for i in range(goal.size):
            derivative = goal[i]
            goal[i] = derivative if scores[i] > number(0.0) else number(0.0)
    elif code == TANH:
        for i in range(goal.size):
            goal[i] *= number(1.0) - out[i] * out[i]
    elif code == LOGISTIC:
        for i in range(goal.size):
            goal[i] *= out[i] * (number(1.0) - out[i])
    elif code == GELU:
        for i in range(goal.size):
            x = scores[i]
            density = number(DENSITY) * exponential(number(-0.5) * x * x)
            goal[i] *= normal_share(x) + x * density
