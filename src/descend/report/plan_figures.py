"""The curves of a plan against the batch size: time to the target, seconds of a step and of a row, steps, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from descend.report import formatting, plan_evidence
from descend.report.drawing import Figure, axis, colour, layout
from descend.report.plan_axes import log_axis, size_axis
from descend.report.plan_sweep import sweep_figure
from descend.report.schema import Run

FEWEST_POINTS = 2
_HALF_STEP = 2**0.25
_LAW_POINTS = 60


def plan_figures(run: Run) -> dict[str, Figure]:
    """The figures that there are numbers for, by name, in the order of the page."""
    drawn = {
        "seconds-to-target": time_figure(run),
        "steps-to-target": steps_figure(run),
        "step-seconds": step_figure(run),
        "row-seconds": row_figure(run),
        "learning-rates": sweep_figure(run),
        "memory": memory_figure(run),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def time_figure(run: Run) -> Figure | None:
    """Seconds to the target: what was measured, what is predicted between, and the sizes that would do as well."""
    seconds = plan_evidence.by_size(run, "seconds_to_target")
    if len(seconds) < FEWEST_POINTS:
        return None
    measured = plan_evidence.by_size(run, "steps_to_target")
    words = {
        size: f"{formatting.counted(size, 'row')}: {formatting.duration(value)}, "
        f"{'measured' if size in measured else 'predicted'}"
        for size, value in seconds.items()
    }
    known = {size: value for size, value in seconds.items() if size in measured}
    data = [_line(seconds, "predicted"), _open_points(seconds, words, "predicted")]
    data.append(_points(known, words, "measured"))
    heights = list(seconds.values())
    predicted = run.get("predicted") or {}
    if run["told"] and (answer := predicted.get("seconds_to_target")) and answer > 0:
        ends = plan_evidence.pair_of(predicted.get("seconds_to_target_interval"))
        data.append(_answer(run["batch_size"], answer, ends))
        heights += [answer, *(ends or ())]
    shapes = [_flat(run), *_ceiling(run)]
    return _figure(data, seconds, heights, "Time to the target", formatting.duration, shapes)


def step_figure(run: Run) -> Figure | None:
    """Seconds of a step, each size with its range, and t(B) = a + b·B where that holds."""
    return _times(run, "A step", lambda size, seconds: seconds)


def row_figure(run: Run) -> Figure | None:
    """Seconds of a row, the same measurements."""
    return _times(run, "A row", lambda size, seconds: seconds / size)


def _times(run: Run, title: str, of: Callable[[float, float], float]) -> Figure | None:
    measured = plan_evidence.by_size(run, "step_seconds")
    if len(measured) < FEWEST_POINTS:
        return None
    seconds = {size: of(size, value) for size, value in measured.items()}
    spread = {
        size: (of(size, low), of(size, high))
        for size, (low, high) in plan_evidence.ranges(run).items()
        if size in seconds
    }
    cliffs = set(run["evidence"].get("cliffs") or ())
    words = {
        size: f"{formatting.counted(size, 'row')}: {formatting.duration(value)}{_between(spread.get(size))}"
        + (", a cliff: a row costs much more than at half the size" if size in cliffs else "")
        for size, value in seconds.items()
    }
    data = [_line(seconds, "measured"), _points(seconds, words, "measured", spread)]
    if at := {size: value for size, value in seconds.items() if size in cliffs}:
        data.append(_points(at, words, "cliff", hue="--series-0", symbol="diamond"))
    fit = plan_evidence.affine(run)
    if fit is not None:
        data.insert(0, _dashed(seconds, lambda size: of(size, fit[0] + fit[1] * size), "a + b·B"))
    return _figure(data, seconds, [*seconds.values(), *(end for pair in spread.values() for end in pair)], title,
                   formatting.duration, shapes=[_chosen(run), *_ceiling(run)])  # fmt: skip


def steps_figure(run: Run) -> Figure | None:
    """Steps to the target: every run that reached it, the best rate of each size, and the law through those."""
    steps = plan_evidence.by_size(run, "steps_to_target")
    if not steps:
        return None
    runs = [one for one in plan_evidence.tried(run) if one.reached and one.updates]
    data: list[Figure] = []
    law = plan_evidence.steps_law(run)
    if law is not None:
        fewest, critical = law
        data.append(_dashed(steps, lambda size: fewest * (1.0 + critical / size), "S_min · (1 + B_crit / B)"))
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "each run",
            "x": [one.batch_size for one in runs],
            "y": [one.updates for one in runs],
            "text": [
                f"{formatting.counted(one.batch_size, 'row')}, rate {formatting.number(one.rate, 3)}: "
                f"{formatting.count(one.updates)} steps"
                for one in runs
            ],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                "symbol": "circle-open",
                "size": 7,
                "color": colour("--soft"),
                "line": {"width": 1.2, "color": colour("--soft")},
            },
        }
    )
    words = {
        size: f"{formatting.counted(size, 'row')}, its best rate: {formatting.count(value)} steps"
        for size, value in steps.items()
    }
    data += [_line(steps, "best rate"), _points(steps, words, "best rate")]
    heights = [*steps.values(), *(float(one.updates) for one in runs if one.updates)]
    return _figure(data, steps, heights, "Steps to the target", formatting.short_count,
                   shapes=[_chosen(run), *_critical(run, steps)])  # fmt: skip


def memory_figure(run: Run) -> Figure | None:
    """Peak memory of each size, and the line that it must stay under; None where no size was measured alone."""
    memory = plan_evidence.by_size(run, "memory_bytes")
    if len(memory) < FEWEST_POINTS or not plan_evidence.memory_is_told(run):
        return None
    limit = run["evidence"].get("room_bytes")
    words = {
        size: f"{formatting.counted(size, 'row')}: {formatting.size(value)}" for size, value in memory.items()
    }
    shapes = [_chosen(run), *_ceiling(run)]
    heights = list(memory.values())
    if limit and limit > 0:
        heights.append(limit)
        shapes.append(_across(limit))
    return _figure([_line(memory, "measured"), _points(memory, words, "measured")], memory, heights,
                   "Peak memory", formatting.size, shapes=shapes)  # fmt: skip


def _figure(
    data: list[Figure],
    sizes: Iterable[int],
    heights: Sequence[float],
    title: str,
    show: Callable[[float | None], str],
    shapes: Sequence[Figure],
) -> Figure:
    return {
        "data": data,
        "layout": layout(
            xaxis=axis("Batch size", **size_axis(sizes)),
            yaxis=axis(title, **log_axis(heights, show)),
            hovermode="closest",
            shapes=list(shapes),
        ),
    }


def _between(ends: tuple[float, float] | None) -> str:
    if ends is None or ends[0] == ends[1]:
        return ""
    return f" ({formatting.duration(ends[0])} to {formatting.duration(ends[1])})"


def _line(values: dict[int, float], name: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": list(values),
        "y": list(values.values()),
        "line": {"color": colour("--series-1"), "width": 2},
        "hoverinfo": "skip",
    }


def _dashed(sizes: Iterable[int], of: Callable[[float], float], name: str) -> Figure:
    low, high = min(sizes), max(sizes)
    xs = [low * (high / low) ** (i / (_LAW_POINTS - 1)) for i in range(_LAW_POINTS)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": xs,
        "y": [of(x) for x in xs],
        "line": {"color": colour("--soft"), "width": 1.5, "dash": "5px,4px"},
        "hoverinfo": "skip",
    }


def _points(
    values: dict[int, float],
    words: dict[int, str],
    name: str,
    spread: dict[int, tuple[float, float]] | None = None,
    hue: str = "--series-1",
    symbol: str = "circle",
    size: int = 8,
) -> Figure:
    trace: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": list(values),
        "y": list(values.values()),
        "text": [words[size] for size in values],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": symbol,
            "size": size,
            "color": colour(hue),
            "line": {"color": colour("--paper"), "width": 1.5},
        },
        "cliponaxis": False,
    }
    if spread:
        ends = {at: spread.get(at, (value, value)) for at, value in values.items()}
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [max(ends[at][1] - value, 0.0) for at, value in values.items()],
            "arrayminus": [max(value - ends[at][0], 0.0) for at, value in values.items()],
            "color": colour(hue),
            "thickness": 1.5,
            "width": 4,
        }
    return trace


def _open_points(values: dict[int, float], words: dict[int, str], name: str) -> Figure:
    trace = _points(values, words, name)
    look = {"symbol": "circle", "size": 7, "color": colour("--paper")}
    return trace | {"marker": look | {"line": {"color": colour("--series-1"), "width": 1.5}}}


def _answer(size: int, seconds: float, ends: tuple[float, float] | None) -> Figure:
    words = {
        size: f"{formatting.counted(size, 'row')}: {formatting.duration(seconds)}{_between(ends)}, the answer"
    }
    spread = None if ends is None else {size: ends}
    return _points({size: seconds}, words, "the answer", spread, "--series-0", "diamond", 13)


def _flat(run: Run) -> Figure:
    """The sizes that would do as well, shaded."""
    low, high = plan_evidence.equivalent(run)
    return {
        "type": "rect",
        "layer": "below",
        "xref": "x",
        "yref": "paper",
        "x0": low / _HALF_STEP,
        "x1": high * _HALF_STEP,
        "y0": 0,
        "y1": 1,
        "fillcolor": colour("--best"),
        "line": {"width": 0},
    }


def _chosen(run: Run) -> Figure:
    return _upright(run["batch_size"], "--series-0", "dot")


def _ceiling(run: Run) -> list[Figure]:
    """Where memory ends, in rows."""
    ceiling = plan_evidence.ceiling(run)
    return [] if ceiling is None else [_upright(ceiling, "--no", "4px,3px")]


def _critical(run: Run, steps: dict[int, float]) -> list[Figure]:
    """The interval of the critical batch size, shaded as far as it lies inside."""
    ends = plan_evidence.pair_of(run["evidence"].get("critical_batch_size_interval"))
    if ends is None or plan_evidence.steps_law(run) is None:
        return []
    low, high = max(ends[0], min(steps) / _HALF_STEP), min(ends[1], max(steps) * _HALF_STEP)
    if low >= high:
        return []
    shape = {"type": "rect", "layer": "below", "xref": "x", "yref": "paper", "x0": low, "x1": high}
    return [shape | {"y0": 0, "y1": 1, "fillcolor": colour("--grid"), "line": {"width": 0}}]


def _upright(x: float, hue: str, dash: str) -> Figure:
    line = {"color": colour(hue), "width": 1.2, "dash": dash}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line}


def _across(y: float) -> Figure:
    line = {"color": colour("--no"), "width": 1.2, "dash": "4px,3px"}
    return {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}
