"""From statistics to encoders: what is scaled, split into levels, pooled or dropped, and what is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

import numpy as np

from descend.errors import ColumnError, shorten
from descend.features.encoders import Category, Encoder, Moment, Number
from descend.features.kinds import PARTS, PERIODS, Kind
from descend.features.levels import Levels
from descend.features.mistakes import numbers_in_disguise, refuse_text_among_numbers
from descend.features.statistics import Statistics

MAX_CATEGORIES = 250
"""Levels of one column with 0/1 columns of their own; the rest are pooled."""


class Notes:
    """What was dropped or pooled, gathered by reason."""

    def __init__(self) -> None:
        self._dropped: dict[str, list[str]] = {}
        self._others: list[str] = []

    def drop(self, name: str, reason: str) -> None:
        self._dropped.setdefault(reason, []).append(name)

    def add(self, note: str) -> None:
        self._others.append(note)

    def lines(self) -> tuple[str, ...]:
        told = []
        for reason, names in self._dropped.items():
            shown = ", ".join(shorten(n, 40) for n in names[:8])
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            told.append(f"{'columns' if len(names) > 1 else 'column'} {shown}{more} left out: {reason}")
        return tuple(told + self._others)


def choose_encoders(
    stats: Statistics, standardize: bool, notes: Notes, keep_constants: bool = False, centre: bool = True
) -> Iterator[tuple[int, Encoder]]:
    """The encoders of the columns that are used, each with its place among the inputs.

    ``keep_constants``: a column that has had one value so far is kept, because more rows are to come.
    ``centre`` off: columns are divided and not shifted, for a model without an intercept, and a column of one
    value is kept, for it is one.
    """
    # A level has to occur in some rows. Weights above 1 are rows that came several times; weights below it, such as
    # shares of 1, are rows all the same.
    rows_of_weight = max(1.0, 1.0 / stats.mean_weight)
    means, deviations = stats.moments.mean.tolist(), np.sqrt(stats.moments.variance).tolist()
    constant: list[bool] = _is_constant(stats).tolist()
    keeps_constants = keep_constants or (bool(stats.is_matrix) and not (standardize and centre))
    for place, name in enumerate(stats.names):
        kind = stats.kinds.get(name)
        missing = stats.missing(name)
        if kind is None or missing >= stats.total * (1 - 1e-12):
            notes.drop(name, "no value in any row")
            continue
        # Sums of fractional weights differ in their last digits; a real gap weighs more than that.
        has_gaps = missing > 1e-9 * stats.total
        encoder: Encoder | None
        if kind == "category":
            levels = stats.levels[name] if rows_of_weight == 1.0 else stats.levels[name].times(rows_of_weight)
            encoder = _category(name, levels, stats.total * rows_of_weight, has_gaps, notes)
        elif kind == "number":
            slot = stats.slots[name]
            fill, deviation = means[slot], deviations[slot]
            _refuse_overflow(name, deviation, standardize)
            has_value = not constant[slot] or keeps_constants
            mean, scale = _affine(fill, deviation, standardize and has_value, centre)
            scale = 1.0 if constant[slot] else scale
            encoder = Number(name, mean, scale, fill, has_value, has_gaps)
        else:
            first = stats.slots[name]
            encoder = _moment(
                name, kind, means[first], deviations[first], constant[first:], has_gaps, standardize, centre
            )
        if encoder is None:
            continue
        if encoder.names:
            yield place, encoder
        else:
            notes.drop(name, "the same value in every row")


def _affine(mean: float, deviation: float, standardize: bool, centre: bool) -> tuple[float, float]:
    if not standardize:
        return 0.0, 1.0
    return mean if centre else 0.0, deviation if deviation > 0.0 else 1.0


def _is_constant(stats: Statistics) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """One value only, or a spread that is rounding error (the bound of scikit-learn's StandardScaler)."""
    m = stats.moments
    eps = np.finfo(np.float64).eps
    rows = m.count / stats.mean_weight  # rounding adds up over rows, whatever they weigh
    with np.errstate(over="ignore", invalid="ignore"):
        bound = rows * eps * m.variance + np.square(rows * m.mean * eps)
        return np.asarray((m.minimum >= m.maximum) | (m.variance <= bound))


def _refuse_overflow(name: str, deviation: float, standardize: bool) -> None:
    if standardize and not isfinite(deviation):
        raise ColumnError(
            f"column {shorten(name)!r} holds numbers too large to be scaled (their squares pass 1e308); "
            "divide it by a large constant, or leave it out of training"
        )


def _category(name: str, levels: Levels, total: float, has_gaps: bool, notes: Notes) -> Category | None:
    refuse_text_among_numbers(name, levels)
    distinct = len(levels.counts)
    kept, rare = common_levels(levels, total)
    if levels.overflowed or not kept or (distinct >= 50 and distinct >= 0.9 * levels.count):
        if distinct == 1 and not levels.overflowed:
            kept = list(levels.counts)
        else:
            dressed = numbers_in_disguise(levels)
            notes.drop(
                name,
                "text that is different in nearly every row"
                if dressed is None
                else f"numbers written as text, such as {shorten(dressed)!r} (plain numbers can be used)",
            )
            return None
    if len(kept) + bool(rare) + has_gaps < 2:
        notes.drop(name, "the same value in every row")
        return None
    encoder = Category(name, tuple(sorted(kept)), bool(rare), has_gaps)
    if rare:
        notes.add(
            f"column {shorten(name, 40)}: {len(rare):,} rare {_plural('level', len(rare))} pooled as "
            f"{shorten(encoder.names[len(kept)], 50)!r}"
        )
    return encoder


def common_levels(levels: Levels, total: float) -> tuple[list[str], list[str]]:
    """The levels that get a 0/1 column each, and those that are pooled.

    A level is rare below 0.05 % of the rows or below 10 of them (in short tables below 1 %, at least 2); at
    most 250 are kept. Small enough that nothing worth a weight is lost, large enough that each weight is
    learned from several rows.
    """
    least = max(2.0, min(10.0, 0.01 * total), 0.0005 * total)
    ranked = sorted(levels.counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [name for name, count in ranked[:MAX_CATEGORIES] if count >= least]
    chosen = set(kept)
    return kept, [name for name, _ in ranked if name not in chosen]


def _moment(
    name: str,
    kind: Kind,
    fill: float,
    deviation: float,
    constant: Sequence[bool],
    has_gaps: bool,
    standardize: bool,
    centre: bool,
) -> Moment:
    varying = [part for part, is_constant in zip(PARTS[kind], constant, strict=False) if not is_constant]
    has_elapsed = "elapsed" in varying
    mean, scale = _affine(fill, deviation, standardize and has_elapsed, centre)
    cycles = tuple(part for part in varying if part in PERIODS)
    return Moment(name, kind, mean, scale, fill, has_elapsed, cycles, has_gaps)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
