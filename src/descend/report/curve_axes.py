"""What a curve is drawn against, and how far each axis reaches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from descend.report import curves, formatting
from descend.report.drawing import Figure


@dataclass(frozen=True, slots=True)
class Axis:
    """What may stand on the x axis: a column of the history, its title, and how its values are written."""

    column: str
    choice: str
    title: str
    to_target: str
    show: Callable[[float | None], str]


AXES = (
    Axis("seconds", "Seconds", "Training time", "seconds_to_target", formatting.duration),
    Axis("epoch", "Epochs", "Epochs (passes over the training rows)", "epochs_to_target", formatting.count),
    Axis("rows", "Rows", "Rows used", "rows_to_target", formatting.count),
    Axis("updates", "Updates", "Updates (steps)", "updates_to_target", formatting.count),
)


TICKS: dict[Callable[[float | None], str], Callable[[float | None], str]] = {
    formatting.count: formatting.short_count
}
"""What ticks are written with where that is shorter."""
NARROW = 270.0
"""Pixels of an x axis where the page is 400 wide: figures are made once, whatever they are looked at on."""
LETTER, SPACE = 6.8, 12.0
"""Pixels that a tick's letter takes, and that should be between two texts."""


@dataclass(frozen=True, slots=True)
class Line:
    """One curve with its look; ``run`` is its place in the legend."""

    run: int
    label: str
    colour: str
    symbol: str
    band: curves.Band
    mark: Any = None
    """Where the target was reached on this axis: ``{"median", "low", "high"}`` or None."""


def log_x(lines: Sequence[Line], x: Axis) -> Figure:
    """From the first measurement of any run to the last."""
    positive = [value for line in lines for value in line.band.x if value > 0]
    low, high = min(positive, default=1.0), max(positive, default=10.0)
    low = low / 1.1 if low < high else low / 10  # a decade holds round values to tell
    return (
        {"type": "log", "range": [math.log10(low), math.log10(high * 1.1)]}
        | log_ticks(low, high * 1.1, TICKS.get(x.show, x.show), NARROW)
        | {"tickangle": 0}
    )


def linear_x(lines: Sequence[Line], x: Axis) -> Figure:
    """To the end, or a little beyond the last arrival: more would press the descent to the left."""
    highest = min(_end(lines), _last_arrival(lines) * 1.5) or 1.0
    ticks = curves.even_values(highest)
    return {
        "range": [0, highest * 1.01],
        "tickvals": ticks,
        "ticktext": [x.show(value) for value in ticks],
        "tickangle": 0,
        "hoverformat": ".4~g",
    }


def _end(lines: Sequence[Line]) -> float:
    return max(value for line in lines for value in line.band.x)


def _last_arrival(lines: Sequence[Line]) -> float:
    """Where the last line reached the target; infinite if one of them did not."""
    arrivals = [line.mark["high"] if line.mark else None for line in lines]
    return max((math.inf if arrival is None else arrival for arrival in arrivals), default=math.inf)


def cut_words(lines: Sequence[Line]) -> str:
    """What to say beside a linear axis that leaves out the end of a run."""
    is_cut = _end(lines) > _last_arrival(lines) * 1.5
    return " The axis ends a little after the last run has reached the target." if is_cut else ""


def log_y(lines: Sequence[Line], offset: float, target: float | None) -> Figure:
    """From the start to a little under the target: the run that found the best loss ends at a gap of 0."""
    gaps = [value - offset for line in lines for value in line.band.median]
    positive = [gap for gap in gaps if gap > 0]
    if not positive:
        return {"type": "log", "autorange": True}
    high, low = max(positive) * 1.4, min(positive) / 1.2
    if target is not None and target > offset:
        low = max(low, 0.03 * (target - offset))
    elif offset:
        low = max(low, 1e-4 * high)
    high = max(high, low * 2)
    return {"type": "log", "range": [math.log10(low), math.log10(high)]} | log_ticks(
        low, high, formatting.number
    )


def linear_y(lines: Sequence[Line], best: float | None, top: float | None) -> Figure:
    """From the best loss to the loss of the start: a run that first shoots up leaves the frame."""
    values = [value for line in lines for value in line.band.median]
    low = min(values) if best is None else min(best, *values)
    high = max(values) if top is None else min(max(values), top)
    room = 0.06 * ((high - low) or abs(low) or 1.0)
    return {"range": [low - room, high + room], "nticks": 6}


def log_ticks(
    low: float, high: float, show: Callable[[float | None], str], pixels: float = math.inf
) -> Figure:
    """A few round values on a logarithmic axis, in words; as many as stand apart where it is ``pixels`` long."""
    a_decade = pixels / math.log10(high / low)
    for limit in range(6, 1, -1):
        values = curves.nice_values(low, high, limit=limit)
        texts = [show(value) for value in values]
        if len(values) < 2:
            break
        if all(
            math.log10(b / a) * a_decade >= LETTER * (len(one) + len(other)) / 2 + SPACE
            for (a, b), (one, other) in zip(pairwise(values), pairwise(texts), strict=True)
        ):
            return {"tickvals": values, "ticktext": texts}
    return {"nticks": 5} if len(values) < 2 else {"tickvals": values, "ticktext": texts}
