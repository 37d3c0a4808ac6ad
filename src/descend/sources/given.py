"""Data, target and weights as a caller gives them together: what one of them leaves unused is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from descend.errors import InputError, shorten
from descend.sources.arrays import array_source
from descend.sources.tables import refuse_lazy, table_source
from descend.types import Source


def named_target(y: Any, target: str | None, weights: Any, weights_called: str) -> str | None:
    """The target's name where rows lie in files, given as ``target`` or as ``y``; arrays beside files are refused.

    >>> named_target("delay", None, "days", "sample_weight")
    'delay'
    """
    for name, value, what in (("y", y, "target, as target"), (weights_called, weights, "weights")):
        if value is not None and not isinstance(value, str):
            raise InputError(
                f"{name} is a {type(value).__name__}, but X is a path: give the name of the column that holds "
                f"the {what}"
            )
    _refuse_both(y, target)
    return target if y is None else y


def rows_in_memory(
    X: Any,
    y: Any,
    *,
    target: str | None,
    weights: Any,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
) -> Source:
    """A source over an array with its ``y``, or over a table with ``y`` or the name of the target's column.

    >>> rows_in_memory([[1.0], [2.0]], [0, 1], target=None, weights=None).column_names
    ('x0',)
    """
    refuse_lazy(X)
    if hasattr(X, "__arrow_c_stream__"):
        _refuse_both(y, target)
        if isinstance(y, str):  # a name, as estimators take it
            y, target = None, y
        return table_source(X, y, weights, target=target, drop=drop, columns=columns, require_target=True)
    unused = {"target": target, "drop": drop or None, "columns": columns}
    for name, value in unused.items():
        if value is not None:
            raise InputError(
                f"{name} is {shorten(str(value))!r}, but X is a {type(X).__name__}, whose columns have no names: "
                f"{'give y' if name == 'target' else 'leave the columns out of X'}"
            )
    if y is None:
        raise InputError("y is missing: give one target a row, or a table and the name of its target column")
    return array_source(X if hasattr(X, "tocsr") else np.asarray(X), np.asarray(y), weights)


def _refuse_both(y: Any, target: str | None) -> None:
    if y is not None and target is not None:
        raise InputError(f"y is given, and target {shorten(str(target))!r} too: give one of them")
