"""Work done on another thread while this one is busy with what came before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
_END = object()


def ahead(items: Iterable[Item], most: int = 2) -> Generator[Item]:
    """The same items, made on a thread of its own that is at most ``most`` ahead.

    What it raises is raised here. Leaving early ends the thread with the item that it is at.

    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(most)
    left = threading.Event()

    def put(entry: tuple[Any, BaseException | None]) -> bool:
        while not left.is_set():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:
            put((_END, error))

    thread = threading.Thread(target=work, name="descend-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item
    finally:
        left.set()
        thread.join()
