"""Points for each seed: where the runs of each kind ended, and how sharp it is there."""

from __future__ import annotations

from collections.abc import Callable

from descend.report import formatting
from descend.report.curve_axes import NARROW, log_ticks
from descend.report.drawing import Figure, axis, colour, layout, plain
from descend.report.ends import final_losses, sharpness_values
from descend.report.schema import Run
from descend.report.series import Series

LOGARITHMIC_FROM = 5.0
"""An axis is logarithmic where its highest value is so many times its lowest."""


def ends_figures(run: Run, shown: list[Series]) -> dict[str, Figure]:
    """Figures by name: ``spread`` of the final losses, and ``sharpness``; without those that have no points."""
    seeds = [str(seed) for seed in run["settings"].get("seeds") or ()]
    figures = {
        "spread": _points(shown, seeds, final_losses, "loss"),
        "sharpness": _points(shown, seeds, sharpness_values, "largest eigenvalue"),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _points(
    shown: list[Series], seeds: list[str], values_of: Callable[[Series], list[float | None]], word: str
) -> Figure | None:
    traces, every = [], []
    for index, series in enumerate(shown):
        pairs = [
            (value, seeds[i] if i < len(seeds) else str(i))
            for i, value in enumerate(values_of(series))
            if value is not None
        ]
        every += [value for value, _ in pairs]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(series.label),
                "meta": {"run": index},
                "x": [value for value, _ in pairs],
                "y": [plain(series.label)] * len(pairs),
                "text": [f"{word} {formatting.number(value)}, seed {plain(seed)}" for value, seed in pairs],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {
                    "size": 12,
                    "opacity": 0.8,
                    "color": colour(series.colour),
                    "symbol": series.symbol,
                    "line": {"color": colour("--paper"), "width": 1},
                },
            }
        )
    if not every:
        return None
    low, high = min(every), max(every)
    across: Figure = {"nticks": 5}
    if low > 0 and high > LOGARITHMIC_FROM * low:
        across = {"type": "log", "tickangle": 0} | log_ticks(low / 1.2, high * 1.2, formatting.number, NARROW)
    return {
        "data": traces,
        "layout": layout(
            xaxis=axis("", **across),
            yaxis=axis("", autorange="reversed", showgrid=True, type="category"),
            hovermode="closest",
            margin={"l": 48, "r": 14, "t": 8, "b": 32},
        ),
    }
