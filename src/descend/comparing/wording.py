"""Figures as an answer says them: two digits, whatever their size."""

from __future__ import annotations

import numpy as np


def seconds_text(seconds: float | None) -> str:
    """A duration with the digits it deserves.

    >>> seconds_text(0.00123), seconds_text(2.0), seconds_text(None)
    ('1.2 ms', '2 s', 'never')
    """
    if seconds is None or not np.isfinite(seconds):
        return "never"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{two_digits(seconds / size)} {unit}"
    return f"{two_digits(seconds * 1e6)} µs"


def two_digits(number: float) -> str:
    """A number with two significant digits, or all of those before the point; no exponents.

    >>> two_digits(0.01234), two_digits(2.0), two_digits(1234.5)
    ('0.012', '2', '1,234')
    """
    return f"{number:,.0f}" if abs(number) >= 99.5 else f"{number:.2g}"


def bytes_text(count: float) -> str:
    """A size in memory.

    >>> bytes_text(1500), bytes_text(2.5e6)
    ('1.5 kB', '2.5 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def percent(share: float) -> str:
    """A share of the gap.

    >>> percent(0.0123), percent(0.00001)
    ('1.2 %', 'under 0.01 %')
    """
    if not np.isfinite(share):
        return "unknown"
    return "under 0.01 %" if abs(share) < 1e-4 else f"{two_digits(100 * share)} %"
