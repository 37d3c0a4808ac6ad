"""The learning curves: one view for each thing that may stand on the x axis and each loss.

A view holds the traces once and two layouts. On logarithmic axes the page draws ``loss - offset``: the gap
to the best loss, which falls in a straight line where a method converges, and never reaches zero in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from descend.report import curve_axes, curves, formatting
from descend.report.curve_axes import AXES, Axis, Line
from descend.report.drawing import Figure, axis, colour, layout, plain
from descend.report.schema import Run
from descend.report.series import Series

LOSSES = (
    ("loss", "Training", "Training loss"),
    ("validation_loss", "Validation", "Validation loss"),
    ("last_loss", "Without averaging", "Training loss of the latest parameters"),
)
_DIGITS = 9


def comparison_views(run: Run, shown: list[Series]) -> dict[str, Figure]:
    """The views of a comparison by ``"seconds loss"`` and so on, where something was recorded for them."""
    views = {}
    for x in AXES:
        for measure, _, title in LOSSES:
            if measure == "last_loss" and not _differs(run):
                continue
            lines = [_line(i, series, x, measure) for i, series in enumerate(shown)]
            training = measure != "validation_loss"
            drawn = [line for line in lines if line is not None]
            if drawn:
                views[f"{x.column} {measure}"] = curve_view(
                    drawn,
                    x,
                    title,
                    offset=run.get("best_loss") if training else None,
                    target=run.get("target_loss") if training else None,
                    top=run.get("first_loss"),
                    marks=measure == "loss",
                    spread=_spread_words(run),
                )
    return views


FIT_LINES = (("loss", "Training loss", "--series-1"), ("validation_loss", "Validation loss", "--series-0"))


def lines_recorded(run: Run) -> list[tuple[str, str, str]]:
    """Column, label and colour of the losses that one training recorded."""
    columns = run["history"]["columns"]
    return [look for look in FIT_LINES if any(value is not None for value in columns.get(look[0]) or ())]


def fit_views(run: Run) -> dict[str, Figure]:
    """The views of one training: training and validation loss together, against each x axis."""
    views = {}
    for x in AXES:
        lines = [
            Line(index, label, hue, "circle", band)
            for index, (measure, label, hue) in enumerate(lines_recorded(run))
            if (band := curves.band([run["history"]], x.column, measure))
        ]
        if lines:
            views[f"{x.column} loss"] = curve_view(lines, x, "Loss", spread=_looks_words(run))
    return views


def _looks_words(run: Run) -> str:
    """What to say of steps on batches that were looked at before an epoch was over: all of its rows cost too much."""
    columns = run["history"]["columns"]
    places = zip(columns["epoch"], columns["rows"], columns["batch_size"], strict=True)
    inside = any(epoch % 1 and size * epoch < rows for epoch, rows, size in places)
    return "Inside an epoch the losses are those of some of the rows." if inside else ""


def _line(index: int, series: Series, x: Axis, measure: str) -> Line | None:
    band = curves.band(series.run["histories"], x.column, measure)
    mark = series.run.get(x.to_target) if series.run.get("target_reached") else None
    return None if band is None else Line(index, series.label, series.colour, series.symbol, band, mark)


def _differs(run: Run) -> bool:
    """Some run averaged its parameters, so that its latest ones have a loss of their own."""
    columns = [history["columns"] for one in run["runs"] for history in one["histories"]]
    return any(c.get("last_loss") and c["last_loss"] != c["loss"] for c in columns)


def _spread_words(run: Run) -> str:
    seeds = max((len(one["histories"]) for one in run["runs"]), default=1)
    return f"Lines: median over {seeds} seeds; bands: their range." if seeds > 1 else "One seed."


def curve_view(
    lines: Sequence[Line],
    x: Axis,
    title: str,
    *,
    offset: float | None = None,
    target: float | None = None,
    top: float | None = None,
    marks: bool = False,
    spread: str = "",
) -> Figure:
    """Traces, the layouts ``log`` and ``linear``, and the words beside them.

    ``offset`` is subtracted on logarithmic axes, ``target`` draws a line, ``top`` is the loss of the start,
    ``marks`` puts a symbol where each line arrived.
    """
    has_target = offset is not None and target is not None and target > offset
    marked = has_target and marks
    gap = (
        f"{title}: height above the best found, {formatting.number(offset)}" if offset is not None else title
    )
    reaches = " A symbol marks where the target was reached, with the range over seeds." if marked else ""
    return {
        "data": [trace for line in lines for trace in _traces(line, target if marked else None)],
        "offset": offset or 0.0,
        "headings": {"log": gap, "linear": title},
        "captions": {
            "log": f"{spread}{reaches} A line begins at its first measurement after the start.".strip(),
            "linear": f"{spread}{reaches}{curve_axes.cut_words(lines)}".strip(),
        },
        "layouts": {
            "log": _layout(
                x,
                curve_axes.log_x(lines, x),
                curve_axes.log_y(lines, offset or 0.0, target),
                target,
                offset or 0.0,
            ),
            "linear": _layout(
                x, curve_axes.linear_x(lines, x), curve_axes.linear_y(lines, offset, top), target, None
            ),
        },
    }


def _traces(line: Line, target: float | None) -> list[Figure]:
    band = line.band
    xs = _short(band.x)
    common: Figure = {"type": "scatter", "name": plain(line.label), "meta": {"run": line.run}, "x": xs}
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    fill = {"fill": "tonexty", "fillcolor": colour(f"{line.colour}-band")}
    stroke = {"color": colour(line.colour), "width": 2}
    traces = []
    if band.low != band.high:
        traces.append(common | edge | {"y": _short(band.low)})
        traces.append(common | edge | fill | {"y": _short(band.high)})
    # A run of one step has one point beyond the start: a line that nobody would see.
    is_line = sum(value > 0 for value in xs) > 1
    middle = {"mode": "lines" if is_line else "lines+markers", "line": stroke, "hovertemplate": "%{y:.4~g}"}
    middle |= {} if is_line else {"marker": {"size": 8, "color": stroke["color"]}}
    traces.append(common | middle | {"y": _short(band.median)})
    if target is not None and line.mark and line.mark["median"] is not None:
        traces.append(common | _mark(line, target))
    return traces


def _mark(line: Line, target: float) -> Figure:
    middle, low, high = (line.mark[name] for name in ("median", "low", "high"))
    low, high = (middle if low is None else low), (middle if high is None else high)
    hue = colour(line.colour)
    return {
        "mode": "markers",
        "x": [middle],
        "y": [target],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [max(high - middle, 0.0)],
            "arrayminus": [max(middle - low, 0.0)],
            "color": hue,
            "thickness": 1.5,
            "width": 4,
        },
        "marker": {
            "symbol": line.symbol,
            "size": 10,
            "color": hue,
            "line": {"color": colour("--paper"), "width": 1.5},
        },
        "hoverinfo": "skip",
        "cliponaxis": False,
    }


def _layout(x: Axis, xaxis: Figure, yaxis: Figure, target: float | None, offset: float | None) -> Figure:
    """One layout; ``offset`` None means linear axes."""
    more: Figure = {}
    height = None if target is None else target - (offset or 0.0)
    if height is not None and height > 0:
        more = {"shapes": [_target_line(height)], "annotations": [_target_label(height, offset is not None)]}
    return layout(
        xaxis=axis(x.title, **xaxis, unifiedhovertitle={"text": f"{x.choice} %{{x}}"}),
        yaxis=axis(**yaxis),
        hovermode="x unified",
        **more,
    )


def _target_line(height: float) -> Figure:
    line = {"color": colour("--soft"), "width": 1, "dash": "4px,3px"}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": height, "y1": height, "line": line}


def _target_label(height: float, log: bool) -> Figure:
    # plotly.js places annotations of a logarithmic axis by exponent, shapes by value.
    y = math.log10(height) if log else height
    return {
        "xref": "paper",
        "x": 0,
        "y": y,
        "text": "target",
        "xanchor": "left",
        "yanchor": "top",
        "xshift": 4,
        "showarrow": False,
        "font": {"size": 11, "color": colour("--soft")},
    }


def _short(values: Sequence[float]) -> list[float]:
    """Nine digits: the gap is a difference of them, and must still have a few."""
    return [float(f"{value:.{_DIGITS}g}") for value in values]
