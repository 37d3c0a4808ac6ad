"""What kind of thing a column holds, and its values as numbers or texts."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.levels import NUMBER

Kind: TypeAlias = Literal["number", "category", "date", "time"]

DAY_SECONDS = 86_400.0
PER_SECOND = {"s": 1e0, "ms": 1e3, "us": 1e6, "ns": 1e9}
PARTS: dict[Kind, tuple[str, ...]] = {
    "number": ("value",),
    "date": ("elapsed", "hour of day", "day of week", "day of year"),
    "time": ("hour of day",),
}
"""The numbers that a column of each kind is turned into, before they are scaled."""
PERIODS = {"hour of day": 24.0, "day of week": 7.0, "day of year": 365.25}
"""Parts that come round again, and after how much."""


def kind_of(dtype: Any) -> Kind | None:
    """The kind of an Arrow type; None for a column of nulls, whose kind is not known yet."""
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(dtype):
        return "category"
    if t.is_null(dtype):
        return None
    if t.is_integer(dtype) or t.is_floating(dtype) or t.is_decimal(dtype) or t.is_duration(dtype):
        return "number"
    if t.is_date(dtype) or t.is_timestamp(dtype):
        return "date"
    return "time" if t.is_time(dtype) else "category"


def as_texts(column: Any, name: str) -> Any:
    """An Arrow array as strings. Whole numbers lose their ``.0``: 1.0 and 1 are one level.

    Numbers come here when a column of codes happens to hold only digits in the data at hand.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = pa.DictionaryArray.from_arrays(column.indices, as_texts(column.dictionary, name))
    try:
        if (
            pa.types.is_floating(column.type)
            and pc.all(pc.equal(pc.floor(column), column), skip_nulls=True).as_py()
        ):
            column = pc.cast(column, pa.int64())
        return pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ColumnError(
            f"column {shorten(name)!r} holds {shorten(str(column.type))}, which is neither numbers nor text; "
            "leave it out of training"
        ) from None


def as_numbers(column: Any, name: str, kind: Kind) -> NDArray[np.float64]:
    """The parts of an Arrow array of this kind, (r, number of parts) float64, nulls as NaN."""
    if kind == "number":
        return _numbers(column, name)[:, None]
    if kind == "time":
        return (_seconds_of_day(column, name) / 3600.0)[:, None]
    return _date_parts(column, name)


def _numbers(column: Any, name: str) -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    try:
        if pa.types.is_duration(column.type):
            # From 104 days on nanoseconds are more than float64 holds exactly: rounded, not refused.
            whole = pc.cast(column, pa.int64())
            column = pc.divide(pc.cast(whole, pa.float64(), safe=False), PER_SECOND[column.type.unit])
        elif kind_of(column.type) != "number" and not pa.types.is_boolean(column.type):
            raise _not("numbers", column, name)
        if pa.types.is_decimal(column.type) or pa.types.is_boolean(column.type):
            column = pc.cast(column, pa.float64(), safe=False)
        values = column.to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _not("numbers", column, name) from None
    return np.asarray(values, dtype=np.float64)


def _seconds_of_day(column: Any, name: str) -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if not pa.types.is_time(column.type):
        raise _not("times of day", column, name)
    nanoseconds = pc.cast(pc.cast(column, pa.time64("ns")), pa.int64())
    return _numbers(nanoseconds, name) / 1e9


def _date_parts(column: Any, name: str) -> NDArray[np.float64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_null(column.type):
        return np.full((len(column), 4), np.nan)
    if not (pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)):
        raise _not("dates", column, name)
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = _local(column)
    # Microseconds reach from year -290,000 to 294,000; nanoseconds only from 1677 to 2262.
    microseconds = pc.cast(pc.cast(column, pa.timestamp("us"), safe=False), pa.int64())
    days = _numbers(microseconds, name) / (DAY_SECONDS * 1e6)
    whole = np.floor(days)
    parts = np.empty((len(days), 4))
    parts[:, 0] = days
    parts[:, 1] = (days - whole) * 24.0
    parts[:, 2] = np.mod(whole + 3.0, 7.0)  # the first day of the epoch, 1970-01-01, was a Thursday
    parts[:, 3] = _numbers(pc.day_of_year(column), name) - 1.0
    return parts


def _local(column: Any) -> Any:
    """The clock on the wall where the time zone is known to this machine, else UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.local_timestamp(column)
    except pa.ArrowException:
        return pc.cast(column, pa.timestamp(column.type.unit))


def _not(what: str, column: Any, name: str) -> ColumnError:
    cells = [v for v in column[:10_000].to_pylist() if v is not None]
    # Of texts among numbers the one that is none is to be corrected.
    example = next(
        (v for v in cells if isinstance(v, str) and not NUMBER.fullmatch(v)), cells[0] if cells else None
    )
    shown = f" ({shorten(str(example))!r})" if example is not None else ""
    return ColumnError(
        f"column {shorten(name)!r} holds {shorten(str(column.type))} values{shown}, but {what} are needed "
        "there; "
        "correct the values or leave the column out of training"
    )
