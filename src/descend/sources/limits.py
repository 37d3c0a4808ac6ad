"""How many rows make a block: bounded in rows and in bytes, so memory does not follow the file."""

from __future__ import annotations

MAX_BLOCK_ROWS = 65_536
MAX_BLOCK_BYTES = 8 * 2**20


def block_rows(num_columns: int, bytes_per_value: int = 8) -> int:
    """Rows in a block of ``num_columns`` columns: at least 1, at most 65,536, about 8 MB.

    >>> block_rows(10), block_rows(50_000)
    (65536, 20)
    """
    return max(1, min(MAX_BLOCK_ROWS, MAX_BLOCK_BYTES // max(1, num_columns * bytes_per_value)))
