"""The last step: where the certificate's step leads, what is left to gain there, and whether that can be believed.

The estimate ½ g · H⁻¹ g takes the loss for a parabola. Where it is one, the step H⁻¹ g ends near the lowest place and
the estimate made anew there is a small part of the first. Where rows far away from the others bend sharply nearby and
not at all further off, the step lands beside it and the second estimate is as large as the first: twenty rows a
thousand times too large had a tenth of the true gap certified. So an end is certified when the estimate has
shrunk to a quarter behind the step, or when the bound (``engines/gap_bound.py``) says that nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from descend.engines.gap_bound import Place, settle
from descend.engines.lbfgs import Known
from descend.objectives.losses import Loss
from descend.types import Dataset

SHRUNK = 0.25
FAR_BELOW = 0.1
"""An estimate below this share of what is asked for needs no proof that it shrank: rounding may keep it from that."""


class Closing(NamedTuple):
    """What is left to gain at ``place``, or at the parameters as they are where it is None."""

    gap: float
    bound: float | None
    certified: bool
    place: Place | None


def close(
    data: Dataset,
    loss: Loss,
    alpha: float,
    fit_intercept: bool,
    known: Known,
    again: Callable[[Place], float],
    enough: float,
    move: bool,
) -> Closing:
    """Takes the step from the place that is ``known``; ``again`` estimates what is left behind it.

    ``move``: the place behind the step may be taken, if it is lower.
    """
    place = settle(data, loss, alpha, known.point - known.step, fit_intercept)
    if not place.value <= known.value:
        place = settle(data, loss, alpha, known.point, fit_intercept)
        move = False
    left = again(place)
    shrunk = left <= max(SHRUNK * known.gap, FAR_BELOW * enough)
    gained = 0.0 if move else max(0.0, known.value - place.value)
    gap = max(left + gained, 0.0 if move else known.gap)
    bound = None if place.above is None else place.above + gained
    proven = bound is not None and bound <= 2.0 * enough
    certified = proven or (shrunk and gap <= enough)
    return Closing(gap if bound is None else min(gap, bound), bound, certified, place if move else None)
