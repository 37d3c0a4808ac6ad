"""These tests need the extra ``torch``."""

import time
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]


class OwnTime:
    """A clock that runs while this process computes, and by what is skipped: other processes do not move it."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return time.process_time() + self.skipped

    def __deepcopy__(self, memo: object) -> "OwnTime":
        return self  # in a module that is copied

    def skip(self, seconds: float) -> None:
        """What a sleep would do."""
        self.skipped += seconds


@pytest.fixture(scope="module")
def own_time() -> Iterator[OwnTime]:
    """Budgets and step times are told by such a clock: what is found does not hang on how busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        clock = OwnTime()
        patch.setattr(time, "perf_counter", clock)
        patch.setattr(time, "monotonic", clock)
        yield clock
