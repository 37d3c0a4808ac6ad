"""The target's cells as one of three kinds of NumPy array: numbers, booleans, texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten


def as_values(target: Any, name: str) -> NDArray[Any]:
    """An array as bool, int64, uint64 or float64, (n,) or (n, k), or as an object array of str, (n,)."""
    is_array = isinstance(target, np.ndarray)
    values: NDArray[Any] = target if is_array else _from_arrow(target, name)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    kind = values.dtype.kind
    if kind in "iu":
        return values.astype(np.uint64 if values.dtype == np.uint64 else np.int64, copy=False)
    if kind == "b":
        return values
    if kind == "f":
        return values.astype(np.float64, copy=False)
    if kind in "UT":
        return values.astype(object)
    if kind == "S":
        return np.char.decode(values, "utf-8", "replace").astype(object)
    if kind == "O":
        return values if not is_array else _from_objects(values, name)
    raise ColumnError(
        f"target {shorten(name)!r} holds {shorten(str(values.dtype))} values; numbers, text or booleans "
        "are needed"
    )


def _from_arrow(target: Any, name: str) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    t = pa.types
    if t.is_dictionary(target.type):
        target = pc.cast(target, target.type.value_type)
    kind = target.type
    try:
        if t.is_decimal(kind):
            target = pc.cast(target, pa.float64())
        elif not (t.is_integer(kind) or t.is_floating(kind) or t.is_boolean(kind)):
            if t.is_temporal(kind) or t.is_nested(kind):
                raise ColumnError(
                    f"target {shorten(name)!r} holds {shorten(str(kind))} values; numbers, text or "
                    "booleans are "
                    "needed: turn it into a number first"
                )
            target = pc.cast(target, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ColumnError(
            f"target {shorten(name)!r} holds {shorten(str(kind))} values, which are no labels"
        ) from None
    values: NDArray[Any] = target.to_numpy(zero_copy_only=False)
    return values


def _from_objects(values: NDArray[Any], name: str) -> NDArray[Any]:
    cells = values.ravel().tolist()
    if all(isinstance(c, str) for c in cells) and values.ndim == 1:
        return values
    for row, cell in enumerate(cells):
        if cell is None:
            raise ColumnError(
                f"target {shorten(name)!r} has no value in row {row // max(1, values[0:1].size) + 1}; "
                "leave out rows without a target"
            )
    if all(isinstance(c, bool | np.bool_) for c in cells):
        return values.astype(bool)
    try:
        if any(isinstance(c, str) for c in cells):
            raise TypeError
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        kinds = sorted({type(c).__name__ for c in cells})
        raise ColumnError(
            f"target {shorten(name)!r} mixes values of types {', '.join(kinds[:4])}; give numbers only, "
            "or text only"
        ) from None
    if all(isinstance(c, int | np.integer) for c in cells):
        return values.astype(np.int64)
    return numbers
