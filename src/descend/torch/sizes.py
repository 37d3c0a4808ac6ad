"""How many rows go through the module together."""

from __future__ import annotations

EVALUATED_ROWS = (256, 4096)
"""Rows that are evaluated at once: those of a batch, but no fewer and no more than these."""


def at_once(rows: int) -> int:
    """Rows that are evaluated together: those that are trained on together, within bounds."""
    least, most = EVALUATED_ROWS
    return min(max(rows, least), most)


def piece_sizes(num_rows: int, batch_size: int, microbatch: int | None) -> list[int]:
    """How many rows go through the module together, every number that an epoch has, the largest first.

    >>> piece_sizes(1000, 64, None), piece_sizes(1000, 64, 48)
    ([64, 40], [48, 40, 16])
    """
    limit = min(microbatch or batch_size, batch_size)
    last = num_rows % batch_size
    sizes = {limit, batch_size % limit, min(limit, last), last % limit}
    return sorted(sizes - {0}, reverse=True)
