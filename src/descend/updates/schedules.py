"""Schedules: the learning rate of step t, counted from 1.

To add a schedule: write its formula, add an entry to ``SCHEDULES`` and a line to ``rate_at``.
"""

from __future__ import annotations

from descend.errors import one_of

CONSTANT = 0
INVERSE_SCALING = 1
LINEAR = 2

SCHEDULES = {"constant": CONSTANT, "inverse-scaling": INVERSE_SCALING, "linear": LINEAR}


def find_schedule(name: str) -> int:
    """The code of the schedule called ``name``; raises ``InputError`` when there is none.

    scikit-learn's spelling ``invscaling`` is understood too.
    """
    name = {"invscaling": "inverse-scaling", "inverse_scaling": "inverse-scaling"}.get(name, name)
    if name not in SCHEDULES:
        raise one_of("schedule", name, SCHEDULES)
    return SCHEDULES[name]


def rate_at(code: int, rate: float, step: int, num_steps: int) -> float:
    """The learning rate of ``step`` (1 … num_steps) when the run starts at ``rate``.

    Linear decay ends just above zero: the last step still moves.

    >>> [rate_at(LINEAR, 1.0, step, 4) for step in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    if code == INVERSE_SCALING:
        return float(rate / step**0.25)
    if code == LINEAR:
        return rate * max(0.0, 1.0 - (step - 1) / num_steps)
    return rate


FORMULAS = (rate_at,)
"""What a kernel may call."""
