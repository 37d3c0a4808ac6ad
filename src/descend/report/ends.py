"""Where a network's runs ended, in words and tables: spread, sharpness, and what left where batch stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from descend.report import formatting
from descend.report.measures import Cell, Measure, plain_measure
from descend.report.schema import Run
from descend.report.series import Series

Groups = list[tuple[str, list[Measure]]]
MOST_WALLS = 3
VALLEYS = {True: "another valley", False: "the same valley", None: "cannot be told"}


def has_ends(run: Run) -> bool:
    """Whether the record holds what is measured of the ends of a network's runs."""
    return bool(run.get("valleys"))


def ends_measures(run: Run, shown: list[Series]) -> Groups:
    """Measures down, runs across."""
    valleys = run["valleys"]
    groups = [
        (
            "Over the seeds",
            [
                plain_measure("Final loss", shown, _final_loss),
                plain_measure("Largest eigenvalue there", shown, _sharpness),
                plain_measure("Products it took", shown, _iterations),
            ],
        )
    ]
    if valleys["reason"] or not any(_found(series) for series in shown):
        return groups
    passes = formatting.count(valleys["passes"])
    groups.append(
        (
            f"Started where batch stays, {passes} passes",
            [
                plain_measure("Moved, of that place's length", shown, _over(_shares, "moved")),
                plain_measure("Change of the loss, of the gap", shown, _over(_signed, "change")),
                plain_measure("Wall before where batch stays", shown, _over(_shares, "wall")),
                plain_measure("So it came to", shown, _valley),
            ],
        )
    )
    return groups


def final_losses(series: Series) -> list[float | None]:
    """The last loss of each seed."""
    return [(history["columns"]["loss"] or [None])[-1] for history in series.run["histories"]]


def sharpness_values(series: Series) -> list[float | None]:
    """The largest eigenvalue of the Hessian where each seed ended."""
    return [one.get("value") for one in series.run.get("sharpness_found") or ()]


def why_not_tried(run: Run) -> str:
    """Why nothing is told of starts at the place where batch stays; empty where it is."""
    reason = formatting.prose(run["valleys"]["reason"], 300)
    return f"Whether noise leaves the place where batch stays could not be told: {reason}." if reason else ""


def walls_text(run: Run, shown: list[Series]) -> str:
    """What the loss does on the straight lines between two ends of the first seed; of many the highest walls."""
    labels = {series.run["batch_size"]: series.label for series in shown}
    walls = [w for w in run["valleys"]["walls"] if w.get("height") is not None and len(w["between"]) == 2]
    if not walls:
        return ""
    sentences = []
    for wall in sorted(walls, key=lambda w: -w["height"])[:MOST_WALLS] if len(walls) > MOST_WALLS else walls:
        one, other = (labels.get(size, formatting.batch_size(size)) for size in wall["between"])
        rises = (
            f"a wall of {formatting.share(wall['height'])} of the gap" if wall["height"] > 0 else "no wall"
        )
        sentences.append(f"{one} and {other.lower()}: {rises}")
    which = f", the {len(sentences)} highest of {len(walls)} walls" if len(walls) > len(sentences) else ""
    return f"On the straight lines between the ends{which}: {'; '.join(sentences)}."


def _final_loss(series: Series) -> Cell:
    return _spread([value for value in final_losses(series) if value is not None], formatting.loss)


def _sharpness(series: Series) -> Cell:
    values = [value for value in sharpness_values(series) if value is not None]
    return _spread(values, lambda value: formatting.number(value, 3))


def _iterations(series: Series) -> Cell:
    counts = [one["iterations"] for one in series.run.get("sharpness_found") or ()]
    return Cell(_range(counts, formatting.count)) if counts else Cell(formatting.NOTHING)


def _found(series: Series) -> list[Any]:
    return list((series.run.get("excursions") or {}).get("found") or ())


def _over(show: Callable[[list[float]], str], name: str) -> Callable[[Series], Cell]:
    """A cell of what ``show`` makes of one number of every place."""

    def cell(series: Series) -> Cell:
        found = [one[name] for one in _found(series) if one[name] is not None]
        return Cell(show(found) if found else formatting.NOTHING)

    return cell


def _shares(values: list[float]) -> str:
    return _range(values, formatting.share)


def _signed(values: list[float]) -> str:
    return _range(values, lambda value: ("−" if value < 0 else "+") + formatting.share(abs(value)))


def _valley(series: Series) -> Cell:
    words = [VALLEYS[one.get("left")] for one in _found(series)]
    kinds = list(dict.fromkeys(words))
    several = ", ".join(f"{kind} ×{words.count(kind)}" for kind in kinds)
    return Cell(kinds[0] if len(kinds) == 1 else several or formatting.NOTHING)


def _range(values: Sequence[float], show: Callable[[float], str]) -> str:
    """Lowest and highest, their unit once."""
    low, high = show(min(values)), show(max(values))
    words = low if low == high else f"{low.removesuffix(' %')} to {high}"
    return words.replace(" %", "\u00a0%")  # a number stays with its unit where a line breaks


def _spread(values: list[float], show: Callable[[float | None], str]) -> Cell:
    if not values:
        return Cell(formatting.NOTHING)
    spread = {"median": median(values), "low": min(values), "high": max(values)}
    return Cell(*formatting.spread(spread, show))
