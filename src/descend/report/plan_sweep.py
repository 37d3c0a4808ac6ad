"""The learning rates that were tried: seconds to the target, one line a size; above them the runs that missed it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from descend.report import curves, formatting, plan_evidence
from descend.report.drawing import Figure, axis, colour, layout, plain
from descend.report.plan_axes import log_axis
from descend.report.plan_evidence import OUTCOMES, Tried
from descend.report.schema import Run

HUES = 8
"""Colours of the style sheet from the smallest size to the largest."""
_ROW_SHARE = 0.085
_MOST_TICKS = 5
_SYMBOLS = {
    "slow": "circle",
    "time": "circle-open",
    "stalled": "square",
    "unreliable": "diamond-open",
    "diverged": "x",
}


def size_hues(sizes: Sequence[int]) -> dict[int, str]:
    """A colour for each size, spread over all that there are.

    >>> size_hues([1, 8, 64])
    {1: '--size-0', 8: '--size-4', 64: '--size-7'}
    """
    last = max(len(sizes) - 1, 1)
    return {size: f"--size-{math.floor((HUES - 1) * i / last + 0.5)}" for i, size in enumerate(sizes)}


def sweep_sizes(run: Run) -> list[int]:
    """The sizes at which rates were tried."""
    return sorted({one.batch_size for one in plan_evidence.tried(run)})


def sweep_figure(run: Run) -> Figure | None:
    """Seconds against rate, and a row above for each way to fail; None where nothing was tried."""
    runs = plan_evidence.tried(run)
    if not runs:
        return None
    failures = [name for name in OUTCOMES if any(_failure(one) == name for one in runs)]
    reached = [one for one in runs if one.reached]
    hues = size_hues(sweep_sizes(run))
    data: list[Figure] = []
    for index, (size, hue) in enumerate(hues.items()):
        own = [one for one in runs if one.batch_size == size]
        data += _traces(index, size, hue, own, failures)
    split = 1.0 if not failures else 0.0 if not reached else 1.0 - _ROW_SHARE * len(failures) - 0.03
    more: Figure = {}
    if failures:
        more["yaxis2"] = axis(
            domain=[0.0 if not reached else split + 0.03, 1.0],
            range=[len(failures) - 0.5, -0.5],
            tickvals=list(range(len(failures))),
            ticktext=[OUTCOMES[name] for name in failures],
            ticks="",
            anchor="x",
        )
    if reached:
        seconds = [one.seconds for one in reached if one.seconds]
        more["yaxis"] = axis(
            "Time to the target", domain=[0.0, split], **log_axis(seconds, formatting.duration)
        )
    bottom = "y" if reached else "y2"
    return {
        "data": data,
        "layout": layout(
            xaxis=axis("Learning rate", anchor=bottom, **_rates(runs)), hovermode="closest", **more
        ),
    }


def _failure(one: Tried) -> str:
    """How a run missed the target; an outcome that is not known here counts as one that did not get there."""
    if one.reached:
        return ""
    return one.outcome if one.outcome in _SYMBOLS else "stalled"


def _traces(index: int, size: int, hue: str, own: Sequence[Tried], failures: Sequence[str]) -> list[Figure]:
    label = formatting.counted(size, "row")
    common: Figure = {"type": "scatter", "name": label, "meta": {"run": index}, "cliponaxis": False}
    look = {"color": colour(hue), "line": {"color": colour("--paper"), "width": 1}}
    reached = [one for one in own if one.seconds is not None]
    missed = [one for one in own if not one.reached]
    traces = []
    if reached:
        traces.append(common | _through(reached) | {"line": {"color": colour(hue), "width": 2}})
        traces.append(
            common
            | {
                "mode": "markers",
                "x": [one.rate for one in reached],
                "y": [one.seconds for one in reached],
                "text": [f"{label}, {_words(one)}" for one in reached],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": look | {"size": 8},
            }
        )
    if missed:
        traces.append(
            common
            | {
                "mode": "markers",
                "yaxis": "y2",
                "x": [one.rate for one in missed],
                "y": [failures.index(_failure(one)) for one in missed],
                "text": [f"{label}, {_words(one)}" for one in missed],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": look | {"size": 9, "symbol": [_SYMBOLS[_failure(one)] for one in missed]},
            }
        )
    return traces


def _through(reached: Sequence[Tried]) -> Figure:
    """A line through the median at each rate: the answer is repeated with other seeds."""
    rates = sorted({one.rate for one in reached})
    times = [median(one.seconds for one in reached if one.rate == rate and one.seconds) for rate in rates]
    return {"mode": "lines", "x": rates, "y": times, "hoverinfo": "skip"}


def _words(one: Tried) -> str:
    how = (
        formatting.duration(one.seconds) if one.reached else OUTCOMES.get(one.outcome, plain(one.outcome, 30))
    )
    return f"rate {formatting.number(one.rate, 3)}: {how}"


def _rates(runs: Sequence[Tried]) -> Figure:
    low, high = min(one.rate for one in runs) / 1.4, max(one.rate for one in runs) * 1.4
    ticks = curves.nice_values(low, high, limit=_MOST_TICKS)
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [formatting.number(rate) for rate in ticks],
        "tickangle": 0,
    }
