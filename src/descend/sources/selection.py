"""Which columns are features, which is the target, which holds weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten

Find = Callable[[str], str | None]
"""From what a person typed to the name of a column, or None."""


class NoTargetError(ColumnError):
    """No column was named to be predicted; how one is named, whoever asked says behind it."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Names of columns by the part they play."""

    features: tuple[str, ...]
    target: str | None = None
    weights: str | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every column that has to be read."""
        return self.features + tuple(n for n in (self.target, self.weights) if n is not None)


def as_names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several, or none, as a tuple.

    >>> as_names("a"), as_names(["a", "b"]), as_names(None)
    (('a',), ('a', 'b'), ())
    """
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(v) for v in value)


def select(
    names: Sequence[str],
    where: str,
    *,
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    weights: str | None = None,
    require_target: bool = True,
    find: Find | None = None,
) -> Selection:
    """Give each column of ``names`` its part; a name that does not exist is refused.

    >>> select(["a", "b", "y"], "table", target="y", drop=["b"])
    Selection(features=('a',), target='y', weights=None)
    """
    look_up = find or exact(names)

    def column(name: str, role: str) -> str:
        found = look_up(name)
        if found is None:
            raise ColumnError(_unknown(name, role, names, where))
        return found

    if target is None and require_target:
        raise NoTargetError(
            f"{where} needs a target: which column is to be predicted? Its columns are {listing(names)}"
        )
    goal = None
    if target is not None:
        goal = column(target, "target") if require_target else look_up(target)
    weight = column(weights, "weights") if weights is not None else None
    if weight is not None and weight == goal:
        raise ColumnError(f"column {shorten(weight)!r} cannot be both target and weights; name two columns")
    dropped = {column(name, "drop") for name in as_names(drop)}
    if goal in dropped:
        raise ColumnError(f"column {shorten(str(goal))!r} is the target and cannot be dropped")
    kept = None if columns is None else {column(name, "columns") for name in as_names(columns)}
    features = tuple(
        n for n in names if n not in (goal, weight) and n not in dropped and (kept is None or n in kept)
    )
    if not features:
        raise ColumnError(f"no feature column of {where} is left; its columns are {listing(names)}")
    return Selection(features, goal, weight)


def exact(names: Sequence[str]) -> Find:
    """Find columns by their very name."""
    known = set(names)
    return lambda name: name if name in known else None


def by_position(names: Sequence[str]) -> Find:
    """Find columns by name, or by position: ``49``, ``-1``.

    >>> by_position(["x0", "x1"])("-1")
    'x1'
    """
    known = set(names)

    def find(name: str) -> str | None:
        if name in known:
            return name
        try:
            return names[int(name)]
        except (ValueError, IndexError):
            return None

    return find


def listing(names: Sequence[str], most: int = 10) -> str:
    """The first names and how many more there are.

    >>> listing(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(shorten(name, 30) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def closest(name: str, names: Sequence[str]) -> str | None:
    """The most similar of ``names``; long lists and long names are not compared in full."""
    few = [n for n in names[:2000] if len(n) <= 200]
    lowered = {n.lower(): n for n in reversed(few)}
    found = difflib.get_close_matches(name[:200].lower(), list(lowered), n=1, cutoff=0.7)
    return lowered[found[0]] if found else None


def check_weights(
    weights: NDArray[np.float64], name: str, first_row: int = 0, places: NDArray[np.intp] | None = None
) -> None:
    """Refuse weights that are negative or not finite; ``places`` are their rows from ``first_row`` on."""
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        row = at if places is None else int(places[at])
        raise ColumnError(
            f"weights column {shorten(name)!r} holds {float(weights[at])} in row {first_row + row + 1}; "
            "weights must be finite numbers of at least 0: correct or drop that row"
        )


def _unknown(name: str, role: str, names: Sequence[str], where: str) -> str:
    close = closest(name, names)
    hint = f" Did you mean {shorten(close)!r}?" if close else ""
    return f"{role} column {shorten(name)!r} is not in {where}.{hint} Its columns are {listing(names)}"
