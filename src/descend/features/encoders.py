"""One kind of column each: which numbers it becomes, what they are called, and how they are written.

``write`` fills ``out`` (r, width) for an Arrow array of r cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.kinds import PARTS, PERIODS, Kind, as_numbers, as_texts

OTHER, MISSING = "other", "missing"
APART = {OTHER: "all others", MISSING: "no value"}
"""What these are called beside a level of that very name."""


@dataclass(frozen=True, slots=True)
class Number:
    """(x − mean) / scale, missing values filled with ``fill``; then a 0/1 column that tells missing ones.

    A column of one value that is sometimes missing keeps only the second (``has_value`` is False).
    """

    name: str
    mean: float
    scale: float
    fill: float
    has_value: bool = True
    tells_missing: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        told = (f"{self.name} is missing",) if self.tells_missing else ()
        return (self.name, *told) if self.has_value else told

    @property
    def affine(self) -> list[tuple[float, float]]:
        rest = [(0.0, 1.0)] * self.tells_missing
        return [(self.mean, self.scale), *rest] if self.has_value else rest

    def write(self, column: Any, out: NDArray[Any]) -> None:
        values = as_numbers(column, self.name, "number")[:, 0]
        missing = np.isnan(values)
        refuse_infinite(values, self.name)
        if self.has_value:
            out[:, 0] = (np.where(missing, self.fill, values) - self.mean) / self.scale
        if self.tells_missing:
            out[:, -1] = missing


@dataclass(frozen=True, slots=True)
class Category:
    """One 0/1 column a level; rare and unseen levels share ``NAME=other``, nulls have ``NAME=missing``."""

    name: str
    levels: tuple[str, ...]
    has_other: bool
    has_missing: bool

    @property
    def names(self) -> tuple[str, ...]:
        extra = [OTHER] * self.has_other + [MISSING] * self.has_missing
        told = [APART[name] if name in self.levels else name for name in extra]
        return tuple(f"{self.name}={level}" for level in (*self.levels, *told))

    @property
    def affine(self) -> list[tuple[float, float]]:
        return [(0.0, 1.0)] * (len(self.levels) + self.has_other + self.has_missing)

    def places(self, texts: Sequence[str]) -> NDArray[np.intp]:
        """The encoded column of each text, then that of an unknown one, then that of none; −1: all stay 0.

        >>> Category("c", ("a", "b"), has_other=False, has_missing=True).places(["b", "z"]).tolist()
        [1, -1, -1, 2]
        """
        other = len(self.levels) if self.has_other else -1
        missing = len(self.levels) + self.has_other if self.has_missing else other
        found = {level: place for place, level in enumerate(self.levels)}
        return np.array([*(found.get(text, other) for text in texts), other, missing], dtype=np.intp)

    def write(self, column: Any, out: NDArray[Any]) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = as_texts(column, self.name)
        missing = texts.is_null().to_numpy(zero_copy_only=False)
        places = pc.index_in(texts, value_set=pa.array(self.levels, pa.string()), skip_nulls=True)
        codes = places.fill_null(-1).to_numpy(zero_copy_only=False)
        other = len(self.levels) if self.has_other else -1
        codes = np.where(codes < 0, other, codes)
        codes[missing] = len(self.levels) + self.has_other if self.has_missing else other
        out[:] = 0
        known = np.flatnonzero(codes >= 0)
        out[known, codes[known]] = 1


@dataclass(frozen=True, slots=True)
class Moment:
    """A date or time of day: elapsed days, scaled, and sine and cosine of the parts that come round again."""

    name: str
    kind: Kind
    mean: float
    scale: float
    fill: float
    has_elapsed: bool
    cycles: tuple[str, ...]
    tells_missing: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        elapsed = [self.name] * self.has_elapsed
        cycles = [f"{self.name} {part} ({wave})" for part in self.cycles for wave in ("sin", "cos")]
        return tuple(elapsed + cycles + [f"{self.name} is missing"] * self.tells_missing)

    @property
    def affine(self) -> list[tuple[float, float]]:
        rest = [(0.0, 1.0)] * (2 * len(self.cycles) + self.tells_missing)
        return [(self.mean, self.scale)] * self.has_elapsed + rest

    def write(self, column: Any, out: NDArray[Any]) -> None:
        self.write_parts(as_numbers(column, self.name, self.kind), out)

    def write_parts(self, parts: NDArray[np.float64], out: NDArray[Any]) -> None:
        """``write`` from the numbers that ``as_numbers`` makes of the column, (r, number of parts)."""
        missing = np.isnan(parts[:, 0])
        at = 0
        if self.has_elapsed:
            out[:, 0] = (np.where(missing, self.fill, parts[:, 0]) - self.mean) / self.scale
            at = 1
        for part in self.cycles:
            # A missing date sits in the middle of the circle.
            angle = parts[:, PARTS[self.kind].index(part)] * (2.0 * np.pi / PERIODS[part])
            out[:, at] = np.where(missing, 0.0, np.sin(angle))
            out[:, at + 1] = np.where(missing, 0.0, np.cos(angle))
            at += 2
        if self.tells_missing:
            out[:, -1] = missing


Encoder: TypeAlias = Number | Category | Moment


def refuse_infinite(values: NDArray[np.float64], name: str) -> None:
    """Infinity has no place on any scale."""
    infinite = np.isinf(values)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise ColumnError(
            f"column {shorten(name)!r} holds {float(values[row])} in row {row + 1} of its block; finite "
            "numbers "
            "are needed: correct that row, or leave it empty to treat it as missing"
        )
