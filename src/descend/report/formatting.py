"""Numbers and names as a person reads them. ``None`` is an en dash everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from descend.errors import shorten

NOTHING = "–"
NOT_REACHED = "not reached"


def number(value: float | None, digits: int = 4) -> str:
    """A plain number with ``digits`` significant digits.

    >>> number(0.123456), number(1617), number(0.00001234), number(None)
    ('0.1235', '1,617', '1.234e-5', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def loss(value: float | None) -> str:
    """A loss with four significant digits, zeros kept, so that a column of them lines up.

    >>> loss(0.53), loss(0.31868), loss(float("inf"))
    ('0.5300', '0.3187', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    if not 1e-3 <= abs(value) < 1e4:
        return number(value)
    return f"{value:.{3 - math.floor(math.log10(abs(value)))}f}"


def count(value: float | None) -> str:
    """A number of things.

    >>> count(1617), count(0.25), count(61_000_000)
    ('1,617', '0.25', '61 million')
    """
    if value is None:
        return NOTHING
    if value >= 1e9:
        return f"{number(value / 1e9, 3)} billion"
    if value >= 1e6:
        return f"{number(value / 1e6, 3)} million"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else number(value, 3)


def counted(number: float, noun: str) -> str:
    """A number with what is counted, in the plural but for one.

    >>> counted(1, "row"), counted(12_345, "row")
    ('1 row', '12,345 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short_count(value: float | None) -> str:
    """A number of things, in little room.

    >>> short_count(1617), short_count(2_430_000)
    ('1,617', '2.43M')
    """
    return count(value).replace(" million", "M").replace(" billion", "G")


def duration(seconds: float | None) -> str:
    """A time span with the unit that suits it.

    >>> duration(0.00031), duration(0.0124), duration(2.5), duration(125), duration(3900)
    ('310 µs', '12.4 ms', '2.5 s', '2 min 5 s', '1 h 5 min')
    """
    if seconds is None:
        return NOTHING
    if seconds == 0:
        return "0 s"
    if seconds < 0.9995e-3:
        return f"{number(seconds * 1e6, 3)} µs"
    if seconds < 0.9995:
        return f"{number(seconds * 1e3, 3)} ms"
    if seconds < 99.5:
        return f"{number(seconds, 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def size(num_bytes: float | None) -> str:
    """Memory, in powers of a thousand.

    >>> size(512), size(1_234_000), size(2e9)
    ('512 B', '1.23 MB', '2 GB')
    """
    if num_bytes is None:
        return NOTHING
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= 0.9995 * factor:
            return f"{number(num_bytes / factor, 3)} {unit}"
    return f"{num_bytes:.0f} B"


def share(value: float | None) -> str:
    """A share as per cent, with two digits; next to nothing is not told from nothing.

    >>> share(0.0123), share(0.00001), share(0), share(1.5)
    ('1.2 %', '< 0.01 %', '0 %', '150 %')
    """
    if value is None:
        return NOTHING
    if 0 < abs(value) < 1e-4:
        return "< 0.01 %"
    return f"{number(100 * value, 2 if abs(value) < 0.1 else 3)} %"


def ratio(value: float) -> str:
    """How many times something is, with two digits: as much as timings are worth.

    >>> ratio(12.34), ratio(0.5), ratio(1.004), ratio(float("nan"))
    ('12', '0.5', '1.0', 'unknown')
    """
    text = number(value, 2) if math.isfinite(value) else "unknown"
    return "1.0" if text == "1" else text


def batch_size(value: object) -> str:
    """A batch size as a run names it: rows, or ``full``.

    >>> batch_size(4096), batch_size("full")
    ('4,096', 'full')
    """
    return f"{value:,}" if isinstance(value, int) else shorten(str(value), 12)


def spread(measure: Mapping[str, Any] | None, show: Callable[[float | None], str]) -> tuple[str, str]:
    r"""A median, and the range around it when there is one.

    >>> spread({"median": 2.0, "low": 1.0, "high": 3.0}, duration)
    ('2 s', '1\xa0s – 3\xa0s')
    """
    if measure is None or measure["median"] is None:
        return NOT_REACHED, ""
    # A number stays with its unit where a line breaks.
    low, high = (show(measure[end]).replace(" ", "\u00a0") for end in ("low", "high"))
    return show(measure["median"]), "" if low == high else f"{low} – {high}"


def prose(text: object, width: int = 600) -> str:
    r"""A sentence that may quote the data: one line, control characters made visible, bounded.

    >>> prose("two\nlines")
    'two lines'
    """
    return shorten(" ".join(str(text)[: 4 * width].split()), width)


FORETELLS = 0.5
"""Seconds of training before which its speed is that of its start: an end hours away, of a fit of a second."""


def training_text(seen: Any) -> str:
    """Where training stands, of an ``Observation``.

    >>> from descend.watching import Observation
    >>> training_text(Observation(1.0, 2.5, 250, 250, 0.5, None, 250.0, 125.0))
    'epoch 2.5 · loss 0.5000 · 250 rows/s · at most 2 min 5 s left'
    """
    parts = [f"epoch {short_count(seen.epoch)}", f"loss {loss(seen.loss)}"]
    if seen.validation_loss is not None:
        parts.append(f"validation {loss(seen.validation_loss)}")
    parts.append(f"{short_count(seen.rows_per_second)} rows/s")
    if seen.seconds_left is not None and seen.seconds >= FORETELLS:
        parts.append(f"at most {duration(_whole(seen.seconds_left))} left")
    return " · ".join(parts)


def _whole(seconds: float) -> float:
    return round(seconds) if seconds >= 1 else seconds
