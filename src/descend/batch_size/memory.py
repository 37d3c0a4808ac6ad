"""What a step of B rows needs of memory, measured in processes that may die of it; how many rows have room.

    probe a few small sizes       peak of each, in a child with a limit of its own
    bytes = fixed + each · B      from the probes
    the most rows that fit        by that line, then run twice; fewer until they do run

An allocation that fails is an error, but a process that takes more than its group may is killed: so no size is tried
in the caller's own process, and none in a child without a limit on its addresses. A child is a fork: it has the
caller's data and functions without a copy, and whatever it does to them is gone with it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from pathlib import Path
from typing import Any

from descend.machine import STATUS, Room, status_bytes

SAFE_SHARE = 0.85
PROBE_SIZES = (1, 4, 16, 32, 64)
PROBE_SECONDS = 20.0
FEWER = 0.9
CLOSE = 1.12
"""A size that fits is good enough where one so many times larger does not."""
UNTRIED = 0.8
FAR = 4
"""Where so many times the rows that there are would fit by the line, it is believed if running them takes long."""
LEAST_SECONDS = 5.0
"""What running them may take in any case: a process on a busy machine takes a second to begin."""
MOST_TRIES = 8
WORDS = ("out of memory", "not enough memory", "cannot allocate memory", "can't allocate memory", "bad_alloc")
"""What allocators say that raise no error of their own kind."""

Measure = Callable[[int, float], "int | None"]
"""Peak bytes of steps of so many rows; None where they do not fit, or the moment (``time.monotonic``) has come."""


@dataclass(frozen=True, slots=True)
class Line:
    """Peak bytes of a step beyond what is held already: ``fixed`` + ``each`` · rows."""

    fixed: float
    each: float

    def at(self, batch_size: int) -> int:
        return round(self.fixed + self.each * batch_size)

    def most_rows(self, room: float) -> int:
        """Rows for which ``room`` bytes are enough by the line; 0 where not even one fits.

        >>> Line(100.0, 10.0).most_rows(1000.0), Line(100.0, 10.0).most_rows(50.0)
        (90, 0)
        """
        if self.fixed > room:
            return 0
        return sys.maxsize if self.each <= 0.0 else int((room - self.fixed) / self.each)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most rows of a step, and the peaks that were measured; ``rows`` None where nothing could be measured."""

    rows: int | None
    peaks: Mapping[int, int]
    line: Line | None
    room: Room


def can_be_measured() -> bool:
    """Whether this system forks processes and tells their peaks."""
    return hasattr(os, "fork") and STATUS.exists()


def find_ceiling(
    measure: Measure, num_rows: int, room: Room, seconds: float = PROBE_SECONDS, smallest: int = 1
) -> Ceiling:
    """The most rows, up to ``num_rows``, whose steps run within 85 % of the room; ``measure`` as ``peak_of`` does.

    ``rows`` is None where the time ended before anything was measured, 0 where not one row fits.
    """
    if room.bytes <= 0:
        return Ceiling(0, {}, None, room)
    end = time.monotonic() + seconds
    allowed = SAFE_SHARE * room.bytes
    peaks: dict[int, int] = {}
    for size in sorted({min(max(size, smallest), num_rows) for size in PROBE_SIZES}):
        peak = measure(size, end)
        if peak is None:
            break
        peaks[size] = peak
    out_of_time = time.monotonic() >= end
    if not peaks:
        return Ceiling(None if out_of_time else 0, peaks, None, room)
    if out_of_time and len(peaks) < 2:
        return Ceiling(max(peaks), peaks, None, room)  # one point is no line: what ran is known to fit
    line = fit_line(peaks)
    rows, high = min(num_rows, line.most_rows(allowed)), inf
    if line.at(FAR * num_rows) <= allowed:
        half = max(0.5 * (time.monotonic() + end), time.monotonic() + LEAST_SECONDS)
        peak = measure(num_rows, half)  # not every limit is on bytes: some are on sizes
        if peak is not None and peak <= allowed:
            return Ceiling(num_rows, peaks | {num_rows: peak}, fit_line(peaks | {num_rows: peak}), room)
        if peak is None and time.monotonic() >= half:
            return Ceiling(num_rows, peaks, line, room)
        high, rows = float(num_rows), int(FEWER * num_rows)
    low = max((size for size, peak in peaks.items() if peak <= allowed), default=0)
    for number in range(MOST_TRIES):
        if rows <= low or time.monotonic() >= end:
            break
        peak = measure(rows, end)
        if peak is None and time.monotonic() >= end:
            break
        if peak is not None:
            peaks[rows] = peak
            line = fit_line(peaks)
        if peak is not None and peak <= allowed:
            low = rows
            if number == 0 or high <= CLOSE * low:
                return Ceiling(rows, peaks, line, room)
        else:
            high = rows
        if peak is not None and peak > allowed:  # it ran: the line through it knows better
            rows = min(rows - 1, line.most_rows(allowed))
        else:  # a little fewer first, for mostly the line was nearly right; then half way, in ratios
            rows = int(max(1.0, FEWER * high if number == 0 else sqrt(max(low, 1) * high)))
    if time.monotonic() >= end and not isfinite(high):
        low = max(low, int(UNTRIED * rows))  # not run: the line is believed, with something taken off
    return Ceiling(low, peaks, line, room)


def fit_line(peaks: Mapping[int, int]) -> Line:
    """The line through the peaks, by least squares with sizes as weights: where it is used, many rows count.

    >>> fit_line({1: 110, 10: 200, 100: 1100})
    Line(fixed=100.0, each=10.0)
    """
    if len(peaks) == 1:
        ((_, peak),) = peaks.items()
        return Line(0.0, float(peak))
    total = float(sum(peaks))
    mean_size = sum(size * size for size in peaks) / total
    mean_peak = sum(size * peak for size, peak in peaks.items()) / total
    across = sum(size * (size - mean_size) * (peak - mean_peak) for size, peak in peaks.items())
    each = max(0.0, across / sum(size * (size - mean_size) ** 2 for size in peaks))
    return Line(round(max(0.0, mean_peak - each * mean_size), 6), round(each, 6))


def in_children(step: Callable[[int], object], room: Room) -> Measure:
    """Measures ``step(batch_size)`` by ``peak_of``."""
    return lambda batch_size, end: peak_of(step, batch_size, room.bytes, end)


def peak_of(step: Callable[[int], object], batch_size: int, room: int, end: float) -> int | None:
    """Bytes that two steps take at their peak, in a child; None where they do not fit or ``end`` has come.

    Errors of ``step`` that are not about memory are raised here, as they were there.
    """
    gc.collect()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _in_child(step, batch_size, room, writing)
        finally:
            os._exit(1)  # an interrupt that comes now must not go on with the caller's work a second time
    try:
        os.close(writing)
        answer = _read_until(reading, end)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not answer:
        return None
    kind, value = pickle.loads(answer)  # written by this program's own child
    if kind == "error":
        raise value
    return int(value) if kind == "peak" else None


def _in_child(step: Callable[[int], object], batch_size: int, room: int, writing: int) -> None:
    """Runs the steps and writes what they took; never returns."""
    answer: tuple[str, Any] = ("died", None)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _give_back()
        _limit_addresses(room)
        Path("/proc/self/clear_refs").write_text("5")
        before = status_bytes("VmRSS")
        for _ in range(2):
            step(batch_size)
        answer = ("peak", max(0, status_bytes("VmHWM") - before))
    except BaseException as error:
        answer = ("memory", None) if is_about_memory(error) else ("error", error)
    with suppress(BaseException):
        try:
            text = pickle.dumps(answer)
            pickle.loads(
                text
            )  # errors whose class asks for more than a message are sent, but cannot be taken
        except Exception:
            text = pickle.dumps(("error", RuntimeError(f"{type(answer[1]).__name__}: {answer[1]}")))
        os.write(writing, text)
    os._exit(0)


def _give_back() -> None:
    """Lets the allocator return what it holds and nobody uses: a step would take it without a trace."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _limit_addresses(room: int) -> None:
    """Lets this process ask for ``room`` bytes more, and refuses it the rest."""
    import resource

    most = status_bytes("VmSize") + room
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or most < soft:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _read_until(reading: int, end: float) -> bytes:
    """What a child writes before it ends; nothing where it takes too long."""
    parts: list[bytes] = []
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return b""
        part = os.read(reading, 65_536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def is_about_memory(error: BaseException) -> bool:
    """Whether an error says that memory was wanting: by its type, or, of allocators without one, by its words.

    >>> is_about_memory(MemoryError()), is_about_memory(RuntimeError("CUDA error: out of memory"))
    (True, True)
    >>> is_about_memory(ValueError("shapes differ"))
    False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, (RuntimeError, OSError)) and any(words in text for words in WORDS)
