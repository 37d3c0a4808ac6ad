"""Work done on another thread while this one is busy with what came before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
_END = object()


def ahead(items: Iterable[Item], most: int = 2) -> Generator[Item]:
    """The same items, made on a thread of its own: ``most`` of them, the one in the making too, are ahead.

    What it raises is raised here. Leaving early ends the thread with the item that it is at.

    >>> list(ahead(range(3)))
    [0, 1, 2]
    """
    ready: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(most)
    left = threading.Event()

    def work() -> None:
        try:
            source, item = iter(items), None
            while item is not _END and room.acquire() and not left.is_set():
                item = next(source, _END)
                ready.put((item, None))
        except BaseException as error:
            ready.put((_END, error))

    thread = threading.Thread(target=work, name="descend-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            room.release()  # the next is begun while this one is in use
            yield item
            del item
    finally:
        left.set()
        room.release()
        thread.join()
