"""Hidden units that no row wakes, started anew.

A relu unit whose score is below 0 on every row is 0 for them all: no gradient reaches its weights, and it stays so.
Steps as long as training begins with leave many behind (diamonds: 48 of 64). Their weights are drawn anew, and what
leads on from them is set to 0, so that the network predicts what it did, and has its units again (Sokar et al. 2023,
https://arxiv.org/abs/2302.12902, who do this for units that are merely rarely awake).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from descend.engines.base import State
from descend.models.network import Network, draw_weights
from descend.objectives.activations import activate

LOOKED_AT = 4096
"""Rows that a unit has to sleep through."""
LOOKED_AT_NUMBERS = 2**21
"""Of wide rows fewer, but at least 512."""


def revive(network: Network, state: State, X: Any, seed: int) -> int:
    """Starts dead units anew in ``state``, whose optimizer forgets them; returns how many they were.

    ``X`` (n, d) are training rows, the first of which are looked at. The new weights follow from ``seed`` and the
    number of steps taken.
    """
    if not network.activation.can_die:
        return 0
    count = min(LOOKED_AT, max(512, LOOKED_AT_NUMBERS // network.sizes[0]))
    layers, memories = (
        network.parts(state.parameters),
        [network.parts(m) for m in (state.first, state.second)],
    )
    rng = np.random.Generator(np.random.PCG64([seed, 3, state.steps]))
    inner, found = X[:count], 0
    for number, (weights, bias) in enumerate(layers[:-1]):
        dead = ~(inner @ weights + bias > 0.0).any(axis=0)
        if dead.any():
            weights[:, dead] = draw_weights(network, number, rng)[:, dead]
            for parts in (layers, *memories):
                parts[number][1][dead] = 0.0
                parts[number + 1][0][dead] = 0.0
            for parts in memories:
                parts[number][0][:, dead] = 0.0
            found += int(dead.sum())
        inner = activate(network.activation.code, np.asarray(inner @ weights + bias))
    return found
