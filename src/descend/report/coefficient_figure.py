"""The largest coefficients as bars."""

from __future__ import annotations

from typing import Any

from descend.report import formatting
from descend.report.drawing import Figure, axis, colour, layout, plain

_MAX_TICKS = 6


def coefficient_figure(coefficients: list[Any]) -> Figure:
    """Bars of the largest coefficients. Rows are numbered, not named: two names cut short may be equal."""
    values = [one["value"] or 0.0 for one in coefficients]
    rows = list(range(len(values)))
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "x": values,
                "y": rows,
                "width": 0.62,
                "text": [formatting.number(value, 3) for value in values],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"color": [colour("--series-0" if v < 0 else "--series-1") for v in values]},
            }
        ],
        "layout": layout(
            height=72 + 22 * len(rows),
            xaxis=axis("Coefficient", nticks=_MAX_TICKS, zeroline=True, zerolinecolor=colour("--rule")),
            yaxis=axis(
                autorange="reversed",
                tickvals=rows,
                ticktext=[plain(coefficient_name(one), 24) for one in coefficients],
                showgrid=False,
                ticks="",
            ),
            hovermode="closest",
        ),
    }


def coefficient_name(one: Any) -> str:
    """The column, and the output where a model has several."""
    return str(one["name"]) if one.get("output") is None else f"{one['name']} → {one['output']}"
