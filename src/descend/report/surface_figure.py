"""The loss surface and the paths across it."""

from __future__ import annotations

import math
from typing import Any

from descend.report import curves, formatting
from descend.report.drawing import Figure, axis, colour, layout, plain
from descend.report.schema import Run
from descend.report.series import Series

_SURFACE_SHARE = 1e-3


def surface_figure(run: Run, shown: list[Series]) -> Figure:
    """The loss over the plane of the two principal directions, and the way each run took across it."""
    surface = run["surface"]
    return {
        "data": [_contour(surface)] + [t for path in surface["paths"] for t in _path(path, shown)],
        "layout": layout(
            xaxis=axis("First direction", showgrid=False, range=_ends(surface["x"])),
            yaxis=axis("Second direction", showgrid=False, range=_ends(surface["y"])),
            hovermode="closest",
            margin={"l": 48, "r": 14, "t": 14, "b": 44},
        ),
    }


def _ends(values: list[float]) -> list[float]:
    return [min(values), max(values)]


def _contour(surface: Any) -> Figure:
    """Lines at equal steps in the logarithm of the height over the lowest point: else the basin is a blot."""
    heights = [value for row in surface["loss"] for value in row if value is not None]
    lowest, highest = min(heights, default=0.0), max(heights, default=1.0)
    offset = _SURFACE_SHARE * ((highest - lowest) or 1.0)

    def level(value: float | None) -> float | None:
        return None if value is None else round(math.log10(value - lowest + offset), 5)

    bottom, top = math.log10(offset), math.log10(highest - lowest + offset)
    ticks = [bottom + (top - bottom) * i / 4 for i in range(5)]
    return {
        "type": "contour",
        "x": surface["x"],
        "y": surface["y"],
        "z": [[level(value) for value in row] for row in surface["loss"]],
        "text": [[formatting.number(value) for value in row] for row in surface["loss"]],
        "hovertemplate": "loss %{text}<extra></extra>",
        "autocontour": False,
        "contours": {"start": bottom, "end": top, "size": (top - bottom) / 15 or 1.0, "coloring": "fill"},
        "line": {"width": 0.7, "color": colour("--contour")},
        "colorscale": [[0, colour("--surface-low")], [1, colour("--surface-high")]],
        "colorbar": {
            "title": {"text": "loss", "side": "top"},
            "thickness": 10,
            "outlinewidth": 0,
            "len": 0.9,
            "tickvals": ticks,
            "ticktext": [formatting.number(10**t - offset + lowest, 3) for t in ticks],
        },
    }


def _path(path: Any, shown: list[Series]) -> list[Figure]:
    index = _find(path, shown)
    if index is None or not path["x"]:
        return []
    series = shown[index]
    kept = [i - 1 for i in curves.thin(range(1, len(path["x"]) + 1))]
    xs, ys = ([path[name][int(i)] for i in kept] for name in ("x", "y"))
    common: Figure = {
        "type": "scatter",
        "name": plain(series.label),
        "meta": {"run": index},
        "x": xs,
        "y": ys,
    }
    line = {"mode": "lines", "line": {"color": colour(series.colour), "width": 1.8}, "hoverinfo": "name"}
    halo = {"mode": "lines", "line": {"color": colour("--halo"), "width": 4}, "hoverinfo": "skip"}
    marker = {"size": 10, "line": {"color": colour("--paper"), "width": 1.5}}
    end = {
        "mode": "markers",
        "x": xs[-1:],
        "y": ys[-1:],
        "marker": marker | {"color": colour(series.colour), "symbol": series.symbol},
        "hovertemplate": "%{fullData.name} ends here<extra></extra>",
    }
    start = {
        "mode": "markers",
        "x": xs[:1],
        "y": ys[:1],
        "marker": marker | {"color": colour("--ink"), "symbol": "circle", "size": 9},
        "hovertemplate": "the common start<extra></extra>",
    }
    return [common | part for part in (halo, line, start, end)]


def _find(path: Any, shown: list[Series]) -> int | None:
    for index, series in enumerate(shown):
        if (series.run["kind"], series.run["batch_size"]) == (path["kind"], path["batch_size"]):
            return index
    return None
