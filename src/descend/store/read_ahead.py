"""What comes next on other threads, while what is there is used."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

AHEAD = 2
"""Parts that are read at a time. Copying rows out of the system's cache takes twice as long as training on them: one
thread does not keep up."""
ROOMS = AHEAD + 1
"""As many parts live at a time."""
_END: Any = object()


def read_ahead(parts: Iterator[Callable[[], T]]) -> Iterator[T]:
    """What each of ``parts`` gives when it is called, in their order; the next ones are called on threads.

    ``parts`` itself is asked by one thread at a time. The last ``ROOMS`` results are alive: they may share rooms in
    turn.

    >>> list(read_ahead(iter([lambda: 1, lambda: 2])))
    [1, 2]
    """
    first = next(parts, None)
    if first is None:
        return
    threads, asking = _readers(os.getpid()), threading.Lock()
    waiting: deque[Future[T]] = deque()
    promised: deque[Future[T]] = deque()

    def work() -> None:
        with asking:
            result = promised.popleft()
            try:
                part = next(parts, None)
            except BaseException as error:
                result.set_exception(error)
                return
        try:
            result.set_result(_END if part is None else part())
        except BaseException as error:
            result.set_exception(error)

    def promise() -> None:
        result: Future[T] = Future()
        promised.append(result)
        waiting.append(result)
        try:
            threads.submit(work)
        except RuntimeError:  # no thread is to be had, as where addresses are limited: then without one
            work()

    try:
        for _ in range(AHEAD):
            promise()
        found = first()  # here: a single part is not worth the wait
        while found is not _END:
            yield found
            found = waiting.popleft().result()
            promise()
    finally:
        wait(waiting)  # nobody goes on with ``parts`` or fills a room any more


def renewed_in_forks(renew: Callable[[], None]) -> None:
    """Has ``renew`` called in every fork: a lock that a reading thread held at that moment is never free there."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)


@cache
def _readers(process: int) -> ThreadPoolExecutor:
    """The threads of this process: those of its parent are not in a fork."""
    return ThreadPoolExecutor(AHEAD, thread_name_prefix="descend-read")
