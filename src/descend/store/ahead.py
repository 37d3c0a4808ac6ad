"""The next part of something on another thread, while the one before it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar

from descend.machine import usable_cores

T = TypeVar("T")

_END: Any = object()


def read_ahead(parts: Iterator[T]) -> Iterator[T]:
    """The same parts; each is asked for on a thread as soon as the one before it is handed out.

    So two of them live at a time: ``parts`` may fill two buffers in turn.

    >>> list(read_ahead(iter([1, 2, 3])))
    [1, 2, 3]
    """
    part = next(parts, _END)  # here: a single part is not worth a thread
    while part is not _END:
        following = _readers(os.getpid()).submit(next, parts, _END)
        try:
            yield part
        except BaseException:  # closed in the midst: nobody may go on with ``parts`` any more
            if not following.cancel():
                wait([following])
            raise
        part = following.result()


@cache
def _readers(process: int) -> ThreadPoolExecutor:
    """The threads of this process: those of its parent are not in a fork."""
    return ThreadPoolExecutor(max(2, usable_cores()), thread_name_prefix="descend-read")
