"""Schedules: the learning rate of step t, counted from 1.

To add a schedule: write its formula, add an entry to ``SCHEDULES`` and a line to ``rate_at``.
"""

from __future__ import annotations

from math import cos, pi

from descend.errors import one_of

CONSTANT = 0
INVERSE_SCALING = 1
LINEAR = 2
COSINE = 3
STEP = 4
PLATEAU = 5

SCHEDULES = {
    "constant": CONSTANT,
    "inverse-scaling": INVERSE_SCALING,
    "linear": LINEAR,
    "cosine": COSINE,
    "step": STEP,
    "plateau": PLATEAU,
}
ENDING = ("linear", "cosine", "step")
"""Schedules that have to know where the run ends."""
PLATEAU_EPOCHS = 5
PLATEAU_FACTOR = 0.1
PLATEAU_GAIN = 1e-4
"""After so many epochs in which the loss fell by no more than this share of it, the rate is multiplied by the factor:
``watching/flatness.py`` looks, at ends of epochs, and the formula here leaves the rate as it is."""


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

    Linear decay and cosine end just above zero: the last step still moves. "step" divides by ten after each third.

    >>> [rate_at(LINEAR, 1.0, step, 4) for step in (1, 2, 3, 4)]
    [1.0, 0.75, 0.5, 0.25]
    >>> [round(rate_at(STEP, 1.0, step, 6), 9) for step in (1, 2, 3, 4, 5, 6)]
    [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    """
    if code == INVERSE_SCALING:
        return float(rate / step**0.25)
    if code == LINEAR:
        return rate * max(0.0, 1.0 - (step - 1) / num_steps)
    if code == COSINE:
        return rate * 0.5 * (1.0 + cos(pi * min(1.0, (step - 1) / num_steps)))
    if code == STEP:
        return float(rate * 0.1 ** min(2, 3 * (step - 1) // num_steps))
    return rate


FORMULAS = (rate_at,)
"""What a kernel may call."""
