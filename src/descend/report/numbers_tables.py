"""The numbers behind the curves, for reading without a chart or without JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from descend.report import curves, formatting
from descend.report.curve_axes import AXES, Axis
from descend.report.schema import Run
from descend.report.series import Series

WORDS = (("training", "loss"), ("validation", "validation_loss"))


@dataclass(frozen=True, slots=True)
class NumbersTable:
    """Losses at round places of one x axis.

    ``groups`` are the runs, each with the words of its columns; a row is the place and a text a column.
    """

    title: str
    groups: list[tuple[str, list[str]]]
    rows: list[list[str]]


def comparison_tables(run: Run, shown: list[Series]) -> list[NumbersTable]:
    """One table for each x axis: training and validation loss of every run, medians over its seeds."""
    return _tables([(series.label, series.run["histories"]) for series in shown])


def fit_tables(run: Run) -> list[NumbersTable]:
    """One table for each x axis of a single training."""
    return _tables([("Loss", [run["history"]])])


def _tables(runs: Sequence[tuple[str, Any]]) -> list[NumbersTable]:
    return [table for x in AXES if (table := _table(x, runs))]


def _table(x: Axis, runs: Sequence[tuple[str, Any]]) -> NumbersTable | None:
    groups: list[tuple[str, list[str]]] = []
    columns: list[curves.Band] = []
    for label, histories in runs:
        bands = {word: band for word, key in WORDS if (band := curves.band(histories, x.column, key))}
        if bands:
            groups.append((label, list(bands)))
            columns += bands.values()
    places = _places(columns)
    rows = [[x.show(place)] + [_loss(band, place) for band in columns] for place in places]
    return NumbersTable(x.choice, groups, rows) if rows else None


def _places(bands: Sequence[curves.Band]) -> list[float]:
    positive = [value for band in bands for value in band.x if value > 0]
    if not positive:
        return []
    start = [0.0] if any(band.x[0] == 0 for band in bands) else []
    return start + curves.nice_values(min(positive), max(positive), limit=14) or [max(positive)]


def _loss(band: curves.Band, place: float) -> str:
    """The median at a place; nothing before the first observation, the last value after the end."""
    return formatting.NOTHING if place < band.x[0] else formatting.loss(band.at(place)[0])
