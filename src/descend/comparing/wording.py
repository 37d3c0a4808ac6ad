"""Figures of answers that may not be there; all others are worded by ``report/formatting.py``."""

from __future__ import annotations

from math import isfinite

from descend.report import formatting


def time_text(seconds: float) -> str:
    """A duration; an infinite one is of something that never came.

    >>> time_text(0.00123), time_text(float("inf"))
    ('1.23 ms', 'never')
    """
    return formatting.duration(seconds) if isfinite(seconds) else "never"


def percent(share: float) -> str:
    """A share of the gap.

    >>> percent(0.0123), percent(float("nan"))
    ('1.2 %', 'unknown')
    """
    return formatting.share(share) if isfinite(share) else "unknown"
