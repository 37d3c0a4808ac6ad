"""Statistics of columns and target as JSON and back, to the last bit.

A block store keeps them, and more rows may be added later.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ModelFileError
from descend.features.levels import Levels
from descend.features.moments import Moments
from descend.features.statistics import Statistics
from descend.features.target_statistics import TargetStatistics
from descend.sources.arrays import column_names, numbered

_LEVELS = ("count", "overflowed", "numbers", "num_words", "first_word", "first_word_row")
_TARGET = ("name", "task", "kind", "num_rows", "num_outputs", "overflowed", "are_integers")


def dump_statistics(stats: Statistics) -> dict[str, Any]:
    """A JSON-safe dict of the columns' record, without what is kept of single rows."""
    names = stats.names
    return {
        "names": _short_names(names),
        "is_matrix": stats.is_matrix,
        "is_sparse": bool(stats.row_lengths),
        "total": stats.total,
        "num_rows": stats.num_rows,
        "stored": None if stats.stored is None else stats.stored.name,
        "kinds": {} if stats.is_matrix else dict(stats.kinds),
        "slots": {} if stats.is_matrix else dict(stats.slots),
        "moments": dump_moments(stats.moments),
        "levels": {name: _dump_levels(levels) for name, levels in stats.levels.items()},
    }


def load_statistics(stored: dict[str, Any]) -> Statistics:
    """The record that ``dump_statistics`` wrote."""
    try:
        stats = Statistics(_long_names(stored["names"]))
        moments = load_moments(stored["moments"])
        if stored["is_matrix"]:
            stats.begin_matrix()
        elif stored["is_matrix"] is not None:
            stats.begin_table(stored["kinds"], stored["slots"], len(moments.count))
        stats.moments = moments
        stats.total, stats.num_rows = float(stored["total"]), int(stored["num_rows"])
        stats.stored = None if stored["stored"] is None else np.dtype(stored["stored"])
        stats.row_lengths = [np.empty(0, dtype=np.int64)] if stored["is_sparse"] else []
        stats.levels = {name: _load_levels(levels) for name, levels in stored["levels"].items()}
        return stats
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"the stored statistics are damaged ({type(error).__name__}: {error})") from None


def dump_target_statistics(stats: TargetStatistics) -> dict[str, Any]:
    """A JSON-safe dict of the target's record. Labels keep their types as pairs: keys of JSON are texts."""
    return {
        **{name: getattr(stats, name) for name in _TARGET},
        "num_weighed": stats.num_weighed,
        "counts": [[label, count] for label, count in stats.counts.items()],
        "first_rows": [[label, row] for label, row in stats.first_rows.items()],
        "moments": dump_moments(stats.moments),
    }


def load_target_statistics(stored: dict[str, Any]) -> TargetStatistics:
    """The record that ``dump_target_statistics`` wrote."""
    try:
        stats = TargetStatistics(stored["name"], stored["task"])
        for name in _TARGET:
            setattr(stats, name, stored[name])
        stats.num_weighed = stored.get("num_weighed", stats.num_rows)  # older stores do not say it
        stats.counts = {label: float(count) for label, count in stored["counts"]}
        stats.first_rows = {label: int(row) for label, row in stored["first_rows"]}
        stats.moments = load_moments(stored["moments"])
        return stats
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"the stored target is damaged ({type(error).__name__}: {error})") from None


def dump_moments(moments: Moments) -> dict[str, str]:
    """Each array as base64 of its float64 numbers: infinities and last digits are kept."""
    return {name: _encoded(getattr(moments, name)) for name in Moments.__slots__}


def load_moments(stored: dict[str, str]) -> Moments:
    """The record that ``dump_moments`` wrote."""
    arrays = {name: _decoded(stored[name]) for name in Moments.__slots__}
    if len({len(array) for array in arrays.values()}) != 1:
        raise ValueError("moments of different lengths")
    moments = Moments()
    for name, array in arrays.items():
        setattr(moments, name, array)
    return moments


def _dump_levels(levels: Levels) -> dict[str, Any]:
    found = {name: getattr(levels, name) for name in _LEVELS}
    return {**found, "counts": levels.counts, "words": levels.words}


def _load_levels(stored: dict[str, Any]) -> Levels:
    levels = Levels()
    for name in _LEVELS:
        setattr(levels, name, stored[name])
    levels.counts, levels.words = dict(stored["counts"]), dict(stored["words"])
    return levels


def _short_names(names: tuple[str, ...]) -> list[Any]:
    """Names that are counted as two numbers: 100,000 columns stay small."""
    if names == column_names(len(names)):
        return [-1, len(names)]
    first = int(names[0]) if names and names[0].isdecimal() and names[0].isascii() else -1
    return [first, len(names)] if first >= 0 and names == numbered(first, len(names)) else list(names)


def _long_names(stored: list[Any]) -> tuple[str, ...]:
    if stored and isinstance(stored[0], int):
        first, count = stored
        return column_names(count) if first < 0 else numbered(first, count)
    return tuple(stored)


def _encoded(array: NDArray[np.float64]) -> str:
    return base64.b64encode(array.astype("<f8").tobytes()).decode()


def _decoded(text: str) -> NDArray[np.float64]:
    return np.frombuffer(base64.b64decode(text), dtype="<f8").astype(np.float64)
