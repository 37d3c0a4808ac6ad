"""The table of a comparison: measures down, runs across. Page and terminal take their words from here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from descend.report import formatting
from descend.report.curve_axes import AXES
from descend.report.schema import Run
from descend.report.series import Series


@dataclass(frozen=True, slots=True)
class Cell:
    """One value; ``best`` marks the best of its row."""

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the table: a name and a cell for each run."""

    name: str
    cells: list[Cell]


def measures(run: Run, shown: list[Series]) -> list[tuple[str, list[Measure]]]:
    """The rows of the table in groups."""
    return [
        (
            "Set-up",
            [plain_measure("Batch size", shown, _batch_size), plain_measure("Learning rate", shown, _rate)],
        ),
        (f"To the target loss, {formatting.number(run.get('target_loss'))}", _to_target(shown)),
        (
            "At the end",
            [
                _ranked("Final loss", shown, "final_loss", formatting.loss, min),
                plain_measure("Stopped by", shown, lambda s: Cell(stopped_words(s.run.get("stopped") or ()))),
            ],
        ),
        (
            "Cost",
            [
                _ranked("Rows a second", shown, "rows_per_second", formatting.count, max),
                _ranked("Memory a step needs", shown, "working_bytes", formatting.size, min),
                _ranked("Peak memory of the process", shown, "peak_bytes", formatting.size, None),
            ],
        ),
    ]


def seeds_words(run: Any) -> str:
    """How many seeds arrived: ``3 of 3 seeds``."""
    reached, seeds = run.get("target_reached"), run.get("num_seeds")
    if reached is None or seeds is None:
        return formatting.NOTHING
    return f"{reached} of {formatting.counted(seeds, 'seed')}"


def stopped_words(reasons: Sequence[Any]) -> str:
    """Why the seeds stopped, each reason once.

    >>> stopped_words(["converged", "time", "converged"])
    'converged ×2, time'
    """
    counts = Counter(formatting.prose(reason, 40).replace("_", " ") for reason in reasons)
    several = len(counts) > 1
    words = (f"{reason} ×{n}" if several and n > 1 else reason for reason, n in counts.items())
    return ", ".join(words) or formatting.NOTHING


def _batch_size(series: Series) -> Cell:
    return Cell(formatting.batch_size(series.run["batch_size"]))


def _rate(series: Series) -> Cell:
    return Cell(formatting.number(series.run.get("learning_rate"), 3))


def plain_measure(name: str, shown: list[Series], cell: Callable[[Series], Cell]) -> Measure:
    """A row that names no best."""
    return Measure(name, [cell(series) for series in shown])


def _to_target(shown: list[Series]) -> list[Measure]:
    rows = [plain_measure("Reached it", shown, lambda series: Cell(seeds_words(series.run)))]
    for x in AXES:
        name = "Time" if x.column == "seconds" else x.choice
        best = _best([_median(series, x.to_target) if series.reached else None for series in shown], min)
        cells = []
        for series in shown:
            text, detail = formatting.spread(series.run.get(x.to_target), x.show)
            is_best = best is not None and series.reached and _median(series, x.to_target) == best
            cells.append(Cell(text, detail, is_best))
        rows.append(Measure(name, cells))
    return rows


def _median(series: Series, key: str) -> float | None:
    measure = series.run.get(key)
    return None if measure is None else measure["median"]


def _ranked(
    name: str,
    shown: list[Series],
    key: str,
    show: Callable[[float | None], str],
    choose: Callable[..., float] | None,
) -> Measure:
    values = [series.run.get(key) for series in shown]
    best = _best(values, choose) if choose else None
    return Measure(name, [Cell(show(value), best=best is not None and value == best) for value in values])


def _best(values: Sequence[float | None], choose: Callable[..., float]) -> float | None:
    """The best value, or None where there is no contest: fewer than two values, or all alike."""
    given = [value for value in values if value is not None]
    return choose(given) if len(set(given)) > 1 else None
