"""How many rows make a block: bounded in rows and in bytes, so memory does not follow the file."""

from __future__ import annotations

MAX_BLOCK_ROWS = 65_536
MAX_BLOCK_BYTES = 8 * 2**20
MAX_TABLE_BYTES = 64 * 2**20


def block_rows(num_columns: int, bytes_per_value: int = 8) -> int:
    """Rows in a block of ``num_columns`` columns: at least 1, at most 65,536, about 8 MB.

    >>> block_rows(10), block_rows(50_000)
    (65536, 20)
    """
    return max(1, min(MAX_BLOCK_ROWS, MAX_BLOCK_BYTES // max(1, num_columns * bytes_per_value)))


def table_rows(num_columns: int) -> int:
    """As ``block_rows``, for tables: a thousand rows at least where they fit in 64 MB.

    Each column of a table costs some microseconds a block, however short: wide tables want tall blocks.

    >>> table_rows(10), table_rows(5_000), table_rows(50_000)
    (65536, 1000, 167)
    """
    fitting = MAX_TABLE_BYTES // (8 * max(1, num_columns))
    return max(block_rows(num_columns), min(1000, fitting))
