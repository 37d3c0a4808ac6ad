"""How a network is trained when nothing is set: rates, and phases that fall from one to the next.

    Adam at rate r           until nothing is gained
    r / 4, from the best     until nothing is gained
    r / 16, from the best    until nothing is gained

with the tail of each phase averaged (``averaging.py``): no length of the run has to be known, as a decay to zero
would want it. ``docs/networks.md`` has what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import Literal

from descend.engines.base import Rule
from descend.learning_rate import Rate
from descend.models.network import Network
from descend.recipe import Phase
from descend.updates import OPTIMIZERS, Optimizer

HIGHEST_RATE = 3e-3
"""Adam's at batch size 32: the rate of letter and kin40k; twice of it cost fashion_mnist a point."""
BASE_SIZE = 32
LARGEST_SIZE = 256
FALL = 0.25
NETWORK_AVERAGE_ROWS = 64
"""The average takes in a network's parameters every 64 rows. Every step's, of 32 rows, say little more than every
other's, and to add them up took a twentieth of a step with 16 columns, an eighth with 8."""
SHARES = (0.6, 0.25, 0.15)
"""Of the epochs, where so many were asked for: what each phase gets."""


def rule_rate(optimizer: Optimizer, network: Network, batch_size: int) -> Rate:
    """The rate of an optimizer whose steps do not follow the gradient's length; ``batch_size`` 0: every row at once.

    A step moves every weight by about the rate, so a unit's score by up to rate · inputs deviations: that is kept
    below 1. Noise falls with the root of the batch size, and the rate may rise with it, up to 256 rows: beyond them
    curvature is what bounds it.

    >>> from descend.objectives.activations import ACTIVATIONS
    >>> wide, narrow = (Network((d, 100, 10), ACTIVATIONS["relu"]) for d in (800, 16))
    >>> adam = OPTIMIZERS["adam"]
    >>> rule_rate(adam, wide, 32).value, rule_rate(adam, narrow, 32).value
    (0.00125, 0.003)
    """
    most_inputs = max(network.sizes[:-1])
    base, why = HIGHEST_RATE, f"{HIGHEST_RATE:g}"
    if 1.0 / most_inputs < base:
        base, why = 1.0 / most_inputs, f"1 / {most_inputs} inputs"
    rows = min(batch_size or LARGEST_SIZE, LARGEST_SIZE)
    share = sqrt(rows / BASE_SIZE) * optimizer.scale_free_rate / OPTIMIZERS["adam"].scale_free_rate
    return Rate(base * share, share / most_inputs, f"a rule: {why}, times √({rows} rows / {BASE_SIZE})")


def falling_phases(rule: Rule, batch_size: int, epochs: int, asked: bool) -> tuple[Phase, ...]:
    """Three phases whose rate falls. ``batch_size`` 0: every row at once. ``asked``: exactly so many epochs."""
    name = rule.optimizer.name
    phases = []
    for number in range(len(SHARES)):
        falling = replace(rule, rate=rule.rate * FALL**number)
        flat: Literal["next", "stop"] = "next" if number + 1 < len(SHARES) else "stop"
        phases.append(
            Phase(name, falling, batch_size, epochs, when_flat=flat, tuned=number == 0 and batch_size > 0)
        )
    if not asked:
        return tuple(phases)
    return tuple(
        replace(phase, epochs=share) for phase, share in zip(phases, shared_out(epochs), strict=True) if share
    )


def shared_out(epochs: int, shares: Sequence[float] = SHARES) -> list[int]:
    """Whole numbers of epochs in about these shares; the first gets what is left over.

    >>> shared_out(20), shared_out(1)
    ([12, 5, 3], [1, 0, 0])
    """
    later = [int(share * epochs) for share in shares[1:]]
    return [epochs - sum(later), *later]
