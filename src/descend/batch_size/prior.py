"""The batch size before anything is known of the data: from the machine alone.

B = √(knee · 200), where 200 stands for the critical batch size that tables have had; from 16 on, for smaller ones
missed targets now and then, and no more than 2048. It was found before this code was written, on sixteen workloads.
"""

from __future__ import annotations

from math import log2, sqrt

from descend.batch_size.timing import StepTimes

USUAL_CRITICAL = 200
FEWEST, MOST = 16, 2048


def prior_size(times: StepTimes, num_rows: int, ceiling: int | None = None) -> int:
    """A power of two between the machine's knee and what data usually allow.

    >>> prior_size(StepTimes({1: 2e-6, 64: 65e-6}), 10_000), prior_size(StepTimes({1: 1e-3, 64: 1.1e-3}), 10**6)
    (16, 128)
    """
    wanted: int = 2 ** round(log2(sqrt(USUAL_CRITICAL * times.knee)))
    most = min(num_rows, MOST, num_rows if ceiling is None else ceiling)
    return max(1, min(max(wanted, FEWEST), most))
