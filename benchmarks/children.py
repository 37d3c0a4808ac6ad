"""Work in processes of its own, by fork, so that it can be killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def in_child(work: Callable[[], object]) -> int:
    """The number of a process that does the work and ends."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)
