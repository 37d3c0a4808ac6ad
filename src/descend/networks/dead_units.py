"""Hidden units that no row wakes, started anew.

A relu unit whose score is below 0 on every row is 0 for them all: no gradient reaches its weights, and it stays so.
Steps as long as training begins with leave many behind (diamonds: 48 of 64). Their weights are drawn anew, and what
leads on from them is set to 0, so that the network predicts what it did, and has its units again (Sokar et al. 2023,
https://arxiv.org/abs/2302.12902, who do this for units that are merely rarely awake).

What an optimizer remembers of squared gradients becomes the mean over the units that are awake. From nothing, Adam's
first steps would be √(1 − β₂) / (1 − β₁) = 3 times too long, late in training, when its corrections for the beginning
are gone: units that long steps have killed would die of them once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.engines.base import State
from descend.models.network import Network, draw_weights
from descend.objectives.activations import activate
from descend.types import FloatArray, IntArray

LOOKED_AT = 4096
"""Rows that a unit has to sleep through."""
LOOKED_AT_NUMBERS = 2**21
"""Of wide rows fewer, but at least 512."""
FIRST = 128
"""Rows looked at first, then twice as many, and so on: of 2,675 rows of 784 pixels, decoded at once, most would
not be needed, for most units are awake on one of the first."""
MOST_WAKERS = 16
"""Rows that are remembered: far from the others, they wake several units, look after look. Late in a fit of
california rows 1,166 and 3,806 are the first of 4,096 that wake four of 64 units."""


def revive(
    network: Network,
    state: State,
    X: Any,
    seed: int,
    in_order: bool = False,
    wakers: list[int] | None = None,
) -> int:
    """Starts dead units anew in ``state``, whose optimizer forgets which way they went; returns how many they were.

    ``X`` (n, d) are training rows, the first of which are looked at; ``in_order``: they lie as they came, by label or
    time it may be, and are looked at from end to end. The new weights follow from ``seed`` and the number of steps
    taken. ``wakers``: rows that alone woke a unit at earlier looks, which are asked first; kept up here.
    """
    if not network.activation.can_die or len(network.sizes) < 3:
        return 0
    layers = network.parts(state.parameters)
    asleep = _asleep(network, layers, X, in_order, [] if wakers is None else wakers)
    if not any(dead.any() for dead in asleep):
        return 0
    first, second = network.parts(state.first), network.parts(state.second)
    rng = np.random.Generator(np.random.PCG64([seed, 3, state.steps]))
    found = 0
    for number, asleep_here in enumerate(asleep):
        dead = np.flatnonzero(asleep_here)
        if dead.size:
            layers[number][0][:, dead] = draw_weights(network, number, rng)[:, dead]
            first[number][0][:, dead] = 0.0
            for parts in (layers, first):
                parts[number][1][dead] = 0.0
                parts[number + 1][0][dead] = 0.0
            _take_after_others(second, number, dead, np.flatnonzero(~asleep_here))
            found += dead.size
    return found


def _take_after_others(
    memory: list[tuple[FloatArray, FloatArray]], number: int, dead: IntArray, others: IntArray
) -> None:
    """Units of a layer remember, of each weight that leads to or from them, the mean of those that are awake."""
    weights, bias, onwards = memory[number][0], memory[number][1], memory[number + 1][0]
    if not others.size:
        weights[:], bias[:], onwards[:] = 0.0, 0.0, 0.0
        return
    weights[:, dead] = weights[:, others].mean(axis=1, keepdims=True)
    bias[dead] = bias[others].mean()
    onwards[dead] = onwards[others].mean(axis=0, keepdims=True)


def _asleep(
    network: Network,
    layers: list[tuple[FloatArray, FloatArray]],
    X: Any,
    in_order: bool,
    wakers: list[int],
) -> list[NDArray[np.bool_]]:
    """Which units of each hidden layer these rows of ``X`` leave asleep; no row is read once all are awake.

    Every layer at once: what is started anew in one adds 0 to the scores of the next, as it did when it was dead.
    """
    n = int(X.shape[0])
    count = min(n, LOOKED_AT, max(512, LOOKED_AT_NUMBERS // network.sizes[0]))
    rows = np.arange(count) * n // count if in_order and count < n else None
    asleep = [np.ones(bias.shape, dtype=bool) for _, bias in layers[:-2]]
    last = _LastLayer(*layers[-2])
    # Rows that are at hand cost nothing before they are read.
    at_hand = isinstance(X, np.ndarray) and rows is None and len(layers) == 2
    start, stop = 0, count if at_hand else min(FIRST, count)
    if at_hand:
        last.look_from(X[:stop], wakers)
        start = stop
    while start < stop and (last.num_asleep or any(dead.any() for dead in asleep)):
        some = slice(start, stop)
        start, stop = stop, min(stop + 2 * (stop - start), count)
        inner = X[some if rows is None else rows[some]]
        for (weights, bias), dead in zip(layers[:-2], asleep, strict=True):
            scores = np.asarray(inner @ weights + bias)
            dead &= ~(scores > 0.0).any(axis=0)
            inner = activate(network.activation.code, scores)
        last.look(inner)
    return [*asleep, last.awake == 0]


class _LastLayer:
    """The last hidden layer's units. Nothing comes behind them: none is asked again once it has been awake."""

    def __init__(self, weights: FloatArray, bias: FloatArray) -> None:
        self.weights, self.bias = weights, bias
        self.awake = np.zeros(bias.shape, dtype=np.int32)
        self.num_asleep = bias.size
        self.turned: FloatArray | None = None

    def look_from(self, rows: FloatArray, wakers: list[int]) -> None:
        """At ``rows``, of those that are left asleep by the first at ``wakers`` before all others."""
        self.look(rows[:FIRST])
        if self.num_asleep and wakers:
            self.look(rows[wakers])
        if self.num_asleep:
            before = self.awake.copy()
            self.look(rows)
            found = self.awake[(before == 0) & (self.awake > 0)] - 1
            wakers[:] = list(dict.fromkeys([*found.tolist(), *wakers]))[:MOST_WAKERS]

    def look(self, inputs: Any) -> None:
        """At rows (n, depth), dense or CSR."""
        if hasattr(inputs, "indptr"):
            sleepers = np.flatnonzero(self.awake == 0)
            scores = np.asarray(self.weights[:, sleepers].T @ inputs.T)
            self.awake[sleepers] = ~(scores.max(axis=1) + self.bias[sleepers] <= 0.0)
            self.num_asleep = int((self.awake == 0).sum())
            return
        from descend.engines.awake import find_awake  # compiled: costs a second, which `--help` need not pay

        if self.turned is None:
            self.turned = np.ascontiguousarray(self.weights.T)
        self.num_asleep = self.bias.size - find_awake(inputs, self.turned, self.bias, self.awake)
