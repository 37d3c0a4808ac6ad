"""Two files that take turns, so that one of them is whole at any time; written as often as costs little.

When the next writing is due follows from what the last one took: less than ``SHARE`` of the time goes into it. Clocks
that jump have no say: seconds are counted, and which file is the newer one stands inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from descend.errors import DescendError, InputError, OutputError, shorten
from descend.files import remove_temporaries, write_atomically
from descend.locks import hold

SHARE = 0.02
"""Of the time that may go into writing."""
BYTES_A_SECOND, SECONDS_A_FILE = 100e6, 0.02
"""What the first writing is expected to cost."""


class Turns:
    """The two files of a folder. ``seconds``: written so often, whatever it costs; None: as that allows."""

    def __init__(
        self, folder: Path, names: tuple[str, str], newest: str | None, seconds: float | None = None
    ) -> None:
        self.folder, self.names, self.seconds = folder, names, seconds
        self.newest = newest or names[1]
        self.num_written = 0
        self._next = self._spent = 0.0
        self._began = time.perf_counter()

    @property
    def shown(self) -> str:
        return f"'{shorten(str(self.folder), 200)}'"

    def expect(self, num_bytes: int) -> None:
        """Settles when the first writing is due, of about so many bytes."""
        self._wait(SECONDS_A_FILE + num_bytes / BYTES_A_SECOND)

    def is_due(self) -> bool:
        return time.perf_counter() >= self._next

    def write(self, make: Callable[[], bytes], left: str) -> None:
        """Writes what ``make`` gives over the older file.

        Raises ``OutputError`` where that fails; ``left`` says what of the run is whole nevertheless.
        """
        began = time.perf_counter()
        older = self.names[1 - self.names.index(self.newest)]
        try:
            write_atomically(self.folder / older, make(), force=True)
        except DescendError as error:
            raise OutputError(f"checkpoint {self.shown}: {error}; {left}") from error
        self.newest, self.num_written = older, self.num_written + 1
        cost = time.perf_counter() - began
        self._spent += cost
        self._wait(cost)

    def _wait(self, cost: float) -> None:
        """Until one more writing at this cost keeps within the share, of the time since the last and of all of it."""
        now = time.perf_counter()
        if self.seconds is not None:
            self._next = now + self.seconds
        else:
            self._next = max(now + cost / SHARE, self._began + (self._spent + cost) / SHARE)


@contextmanager
def held(folder: str | Path, names: tuple[str, str], resume: bool, how: str) -> Iterator[Path]:
    """Makes and holds the folder of a run; ``how`` a run is gone on with, for the message.

    Raises ``InputError`` where it cannot be, where another process has it, and where a run is there that is not to be
    gone on with.
    """
    place = Path(folder)
    shown = f"'{shorten(str(place), 200)}'"
    is_new = not place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"checkpoint {shown} cannot be made: {error.strerror}; name a folder") from error
    try:
        with hold(place, what="checkpoint"):
            if not resume and any((place / name).exists() for name in names):
                raise InputError(
                    f"checkpoint {shown} holds a run already; {how} to go on with it; to begin anew name another "
                    "folder, or delete this one"
                )
            remove_temporaries(place)
            yield place
    finally:
        if is_new:  # left empty by a call that was refused
            with suppress(OSError):
                place.rmdir()
