"""The last step: where the certificate's step leads, what is left to gain there, and whether that can be believed.

The estimate ½ g · H⁻¹ g takes the loss for a parabola. Where it is one, the step H⁻¹ g ends near the lowest place and
the estimate made anew there is a small part of the first. Where rows far away from the others bend sharply nearby and
not at all further off, the step lands beside it and the second estimate is as large as the first: twenty rows a
thousand times too large had a tenth of the true gap certified. So an end is certified when the estimate has
shrunk to a quarter behind the step and the bound (``engines/gap_bound.py``) is not out of all proportion, or when the
bound itself says that nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from descend.engines.certificate import Estimate
from descend.engines.gap_bound import Place
from descend.engines.lbfgs import Known
from descend.types import FloatArray

SHRUNK = 0.25
SHRUNK_UNBOUNDED = 0.05
"""Without a bound beside it the estimate has to shrink to a twentieth."""
BETWEEN = 4.0
"""The true gap lies between estimate and bound. Their geometric mean has to be below this many times what may be
left: of 10,000 images with 784 columns a fifth of the gap was estimated, and the bound was 500 times that."""
WORTHWHILE = 0.5
"""A further step is taken where the last one left no more than this share of the estimate."""
MOST_STEPS = 4
ROUNDING = 1e-10
HIDDEN = 1e-14
"""The share of a value that sums of float64 may be wrong by: a smaller difference is no gain."""

Settled: TypeAlias = Callable[[FloatArray, tuple[FloatArray, FloatArray] | None], Place]


class Closing(NamedTuple):
    """What is left to gain at ``place``, or at the parameters as they are where it is None."""

    gap: float
    bound: float | None
    certified: bool
    place: Place | None


def close(
    settled: Settled,
    known: Known,
    again: Callable[[Place], Estimate],
    enough: float,
    move: bool,
    rounding: float = ROUNDING,
    tightened: Callable[[Place], Place] | None = None,
) -> Closing:
    """Takes the step from the place that is ``known``; ``again`` estimates what is left behind it.

    ``settled`` gives the place at parameters, or at the end of a step from there. Values that differ by less than
    ``rounding`` tell nothing. ``tightened`` gives the place beside one with a better bound, where it was not sought.

    As long as that pays, further steps follow. ``move``: the last place may be taken, if it is lower.
    """
    start = known
    for _ in range(MOST_STEPS):
        place = settled(known.point, (known.gradient, known.step))
        if place.above is not None and place.above <= place.value <= min(2.0 * enough, known.value):
            left, believed = Estimate(place.above, known.step), True  # no estimate says less
            break
        left = again(place)
        if not _is_lower(place, left, known, rounding):
            place = settled(known.point, None)
            left = again(place)
        believed = _is_believed(known.gap, left.gap, place.above, enough)
        if tightened is not None and not believed and _has_shrunk(known.gap, left.gap, enough):
            tight = tightened(place)  # lower, if anything, so that no more is left there than at the place
            if _is_believed(known.gap, left.gap, tight.above, enough):
                place, believed = tight, True
        if believed or not left.gap <= WORTHWHILE * known.gap:
            break
        known = Known(place.parameters, place.value, place.gradient, left.gap, left.step)
    move = move and _is_lower(place, left, start, rounding)
    gained = 0.0 if move else _gained(start, place, left)
    gap = max(left.gap + gained, 0.0 if move else start.gap)
    bound = None if place.above is None else place.above + gained
    certified = believed and (gap <= enough or (bound is not None and bound <= 2.0 * enough))
    return Closing(gap if bound is None else min(gap, bound), bound, certified, place if move else None)


def _is_lower(place: Place, left: Estimate, known: Known, rounding: float) -> bool:
    """Whether a place is lower than the one before it; by the estimates where rounding hides it in the values."""
    if known.gap <= rounding * abs(known.value):
        return left.gap <= known.gap
    return place.value <= known.value


def _gained(start: Known, place: Place, left: Estimate) -> float:
    """How much lower a place lies than the start; by the estimates where rounding is all that the values tell."""
    gained = start.value - place.value
    if abs(gained) <= HIDDEN * abs(start.value):
        gained = start.gap - left.gap
    return max(0.0, gained)


def _is_believed(before: float, left: float, bound: float | None, enough: float) -> bool:
    """Whether what is ``left`` behind a step is small, and the estimate ``before`` it shrank as on a parabola."""
    if bound is None:
        return left <= min(enough, SHRUNK_UNBOUNDED * max(before, enough))
    if bound <= 2.0 * enough:
        return True
    return _has_shrunk(before, left, enough) and left * bound <= (BETWEEN * enough) ** 2


def _has_shrunk(before: float, left: float, enough: float) -> bool:
    return left <= min(enough, SHRUNK * max(before, enough))
