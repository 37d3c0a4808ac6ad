"""Rungs of a ladder, for anything that trains: ever higher rates, until the loss says too high (``ladder.py``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf, isfinite
from typing import Any

MOST_RUNGS = 30
WORSE = 1.3
"""A loss this many times the lowest so far is too high; below 0, one that lost such a share of what it was."""
STRIDE, FALLEN = 8.0, 0.1
"""Until this share of the loss is gone rates are far too low: a rung's is so many times the last one's."""


def climb_rungs(
    run: Callable[[float], float],
    keep: Callable[[], Any],
    put_back: Callable[[Any], object],
    rate: float,
    before: float,
    seconds: float = inf,
) -> tuple[float, float]:
    """The rate of the lowest rung, but no higher than half of the first that is too high twice; and that one.

    ``run(rate)`` takes some steps at a rate and returns the loss then, which was ``before`` at the start; ``keep``
    and ``put_back`` copy what steps change and restore it: it is left where the lowest rung ended. After ``seconds``
    no further rung is tried.
    """
    end = time.perf_counter() + seconds
    lowest, best_rate, edge, failed, rungs = before, rate, inf, False, 0
    good_rate, stride = rate, STRIDE
    best = good = keep()
    for _ in range(MOST_RUNGS):
        if time.perf_counter() > end:
            break
        now = run(rate)
        rungs += 1
        scale = lowest if lowest > 0.0 else max(before - lowest, -lowest)
        if not isfinite(now) or now > lowest + (WORSE - 1.0) * scale:
            put_back(good)
            if failed:
                edge = rate
                break
            failed, stride = True, 2.0
            rate = min(rate, 2.0 * good_rate)
            continue
        failed, good, good_rate = False, keep(), rate
        if now < lowest:
            lowest, best, best_rate = now, good, rate
        stride = 2.0 if lowest < before - FALLEN * abs(before) else stride
        rate *= stride
    put_back(best)
    nothing_learnt = lowest >= before or rungs <= 2
    return min(best_rate, edge / (4.0 if nothing_learnt else 2.0)), edge
