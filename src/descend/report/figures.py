"""The figures of a saved run on their own, for a notebook or for ``plotly.graph_objects.Figure``."""

from __future__ import annotations

import re
from typing import Any

from descend.report import embed
from descend.report.coefficient_figure import coefficient_figure
from descend.report.curve_figures import comparison_views, fit_views
from descend.report.drawing import Figure
from descend.report.ends import has_ends
from descend.report.ends_figures import ends_figures
from descend.report.plan_figures import plan_figures
from descend.report.schema import check_run
from descend.report.series import comparison_series
from descend.report.surface_figure import surface_figure


def figures(run: dict[str, Any]) -> dict[str, Figure]:
    """Figures by name, ``{"data": [...], "layout": {...}}``, in the light colours and with a legend.

    A comparison has ``curves`` (training loss against seconds) and mostly ``surface``, that of networks ``spread``
    and ``sharpness`` of their ends too; a fit has ``curves`` and ``coefficients``; a plan has ``seconds-to-target``,
    ``steps-to-target``, ``step-seconds``, ``row-seconds``, ``learning-rates`` and ``memory``, those that there are
    numbers for.
    """
    checked = check_run(run)
    if checked["format"] == "descend.plan":
        return {name: _resolved(figure, _light_colours()) for name, figure in plan_figures(checked).items()}
    drawn: dict[str, Figure] = {}
    if checked["format"] == "descend.comparison":
        shown = comparison_series(checked)
        views = comparison_views(checked, shown)
        if checked.get("surface"):
            drawn["surface"] = surface_figure(checked, shown)
        if has_ends(checked):
            drawn |= ends_figures(checked, shown)
    else:
        views = fit_views(checked)
        if checked.get("coefficients"):
            drawn["coefficients"] = coefficient_figure(checked["coefficients"])
    view = views.get("seconds loss") or next(iter(views.values()), None)
    curves = {"curves": _logarithmic(view)} if view else {}
    palette = _light_colours()
    return {name: _resolved(figure, palette) for name, figure in (curves | drawn).items()}


def _logarithmic(view: Figure) -> Figure:
    """What the page draws first: the gap to the best loss, both axes logarithmic."""
    data = []
    for trace in view["data"]:
        pairs = [
            (x, max(y - view["offset"], 1e-30)) for x, y in zip(trace["x"], trace["y"], strict=True) if x > 0
        ]
        is_line = "hovertemplate" in trace
        data.append(trace | {"x": [x for x, _ in pairs], "y": [y for _, y in pairs], "showlegend": is_line})
    layout = view["layouts"]["log"]
    more = {
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "margin": layout["margin"] | {"t": 48},
        "yaxis": layout["yaxis"] | {"title": {"text": view["headings"]["log"]}},
    }
    return {"data": data, "layout": layout | more}


def _light_colours() -> dict[str, str]:
    """The colours of the style sheet outside its dark part."""
    light = embed.asset("report.css").split("@media", 1)[0]
    return dict(re.findall(r"(--[\w-]+): ([^;]+);", light))


def _resolved(value: Any, palette: dict[str, str]) -> Any:
    if isinstance(value, str) and (match := re.fullmatch(r"var\((--[\w-]+)\)", value)):
        return palette[match[1]]
    if isinstance(value, dict):
        return {key: _resolved(item, palette) for key, item in value.items()}
    return [_resolved(item, palette) for item in value] if isinstance(value, list) else value
