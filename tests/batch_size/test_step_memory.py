"""Memory of a step: measured where it cannot hurt, and the most rows that there is room for."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import descend
from descend.batch_size import memory
from descend.batch_size.memory import Line, in_children, is_about_memory, peak_of
from descend.batch_size.memory import find_ceiling as find
from descend.machine import Room, find_room

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads peaks from /proc")
MEGA = 2**20


def find_ceiling(step, num_rows, room):
    return find(in_children(step, room), num_rows, room)


def step(batch_size):
    """Half a megabyte for each row, and twenty besides, all of it touched."""
    np.ones(20 * MEGA // 8 + batch_size * MEGA // 16).sum()


def test_the_line_is_what_a_step_allocates():
    """Bytes of each row within a tenth, and the ceiling is where 85 % of the room is full."""
    ceiling = find_ceiling(step, 10**6, Room(400 * MEGA, "a test"))
    assert ceiling.line is not None
    assert ceiling.line.each == pytest.approx(MEGA / 2, rel=0.1)
    assert ceiling.rows == pytest.approx((0.85 * 400 - 20) * 2, rel=0.05)
    assert ceiling.peaks[ceiling.rows] <= 0.85 * 400 * MEGA
    assert max(ceiling.peaks.values()) <= 400 * MEGA


def test_no_more_rows_than_there_are():
    """Where everything fits, the ceiling is every row, and they were run."""
    near = find_ceiling(step, 200, Room(200 * MEGA, "a test"))
    assert near.rows == 200
    assert 200 in near.peaks
    far = find_ceiling(step, 200, Room(4000 * MEGA, "a test"))
    assert far.rows == 200
    assert 200 in far.peaks


def test_a_limit_on_sizes_is_found_where_there_is_room_for_all():
    """Of 500 rows that would need a hundredth of the room no more than 90 run: the answer is one that did."""
    measure, tried = fitting(90)
    ceiling = find(measure, 500, Room(10**13, "a test"))
    assert ceiling.rows in tried
    assert 80 <= ceiling.rows <= 90


def test_a_step_that_grows_faster_than_its_line_is_run_before_it_is_believed():
    """From 100 rows on a step takes three times as much as small probes say: what is given does run and fit."""

    def steep(batch_size):
        np.ones((3 if batch_size > 100 else 1) * batch_size * MEGA // 16).sum()

    room = 400 * MEGA
    ceiling = find_ceiling(steep, 10**6, Room(room, "a test"))
    assert ceiling.rows is not None
    assert ceiling.peaks[ceiling.rows] <= 0.85 * room
    assert ceiling.rows >= 100


def test_not_even_one_row():
    """A single row that does not fit: a ceiling of 0 rows, not an error and not a killed process."""
    assert find_ceiling(step, 1000, Room(5 * MEGA, "a test")).rows == 0


def test_where_time_ends_after_one_probe_that_size_is_the_answer():
    """One point is no line: no more rows are promised than did run; none where none did."""

    def slow(seconds):
        def measure(batch_size, end):
            if batch_size > 1 or seconds > 0.2:
                time.sleep(max(0.0, end - time.monotonic()))
                return None
            return 10 * MEGA

        return measure

    assert find(slow(0.0), 1000, Room(400 * MEGA, "a test"), 0.2).rows == 1
    assert find(slow(1.0), 1000, Room(400 * MEGA, "a test"), 0.2).rows is None


def test_errors_of_the_step_come_out():
    """What is not about memory is the caller's, with its own type and words."""

    def broken(batch_size):
        raise ValueError("shapes differ")

    with pytest.raises(ValueError, match="shapes differ"):
        peak_of(broken, 4, 100 * MEGA, time.monotonic() + 5)


class AskingError(Exception):
    """An error that is pickled, and cannot be made anew from its message."""

    def __init__(self, message, place):
        super().__init__(message)
        self.place = place


def test_an_error_that_cannot_be_sent_comes_out_in_words():
    """An error whose class asks for more than a message is told with its name, and not one about pickling."""

    def step(size):
        raise AskingError("the layer is wrong", place=3)

    with pytest.raises(RuntimeError, match="AskingError: the layer is wrong"):
        peak_of(step, 1, 2**30, time.monotonic() + 10)


def test_an_interrupt_right_after_the_fork_ends_the_child_alone(monkeypatch):
    """Ctrl-C before the child listens to nobody ends it there: the caller's work goes on once, not twice."""
    parent = os.getpid()

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "_in_child", interrupted)
    assert peak_of(lambda size: None, 1, 2**30, time.monotonic() + 10) is None
    assert os.getpid() == parent


def test_a_step_that_never_ends_is_ended():
    """A child that hangs is killed when the time is over."""
    began = time.monotonic()
    assert peak_of(lambda size: time.sleep(60), 4, 100 * MEGA, began + 0.5) is None
    assert time.monotonic() - began < 5.0


def test_a_child_that_is_killed_is_no_answer():
    """Whatever ends the child, the caller goes on."""
    assert peak_of(lambda size: os.kill(os.getpid(), 9), 4, 100 * MEGA, time.monotonic() + 5) is None


def test_nothing_of_the_caller_is_changed():
    """Steps in a child leave the caller's arrays as they are."""
    kept = np.zeros(10)

    def writes(batch_size):
        kept[:] = batch_size

    assert peak_of(writes, 4, 100 * MEGA, time.monotonic() + 5) is not None
    assert not kept.any()


@pytest.mark.parametrize(
    ("error", "about"),
    [
        (MemoryError("Unable to allocate 10. GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (ValueError("out of memory"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_errors_about_memory_are_known_by_type_or_words(error, about):
    """Those of NumPy, CUDA, the CPU's allocator and MPS; a ValueError is none, whatever it says."""
    assert is_about_memory(error) is about


def test_the_shells_limit_is_the_room():
    """Under ``ulimit -v`` the room is what it leaves, and its name is said."""
    program = "from descend.machine import *\nr = find_room()\nprint(r.bytes, r.bound)"
    command = f"ulimit -v 4000000; exec {sys.executable} -c '{program}'"
    environment = os.environ | {"PYTHONPATH": str(Path(descend.__file__).parents[1])}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, check=True
    )
    size, bound = done.stdout.split(maxsplit=1)
    assert bound.strip() == "ulimit -v"
    assert 0 < int(size) < 4_096_000_000


def test_a_given_limit_is_for_the_whole_process():
    """What the process holds already is taken off the limit."""
    assert find_room(limit=1).bytes == 0
    assert find_room(limit=2**60).bound != "the limit that was given"


def test_a_line_without_slope_has_no_end():
    """Steps whose memory does not depend on their rows have no ceiling."""
    assert Line(10.0, 0.0).most_rows(100.0) == sys.maxsize


# --- what other tuners are known to get wrong ---------------------------------------------------------


def fitting(most, bytes_of_row=10**6):
    """A measure of a machine on which steps of up to ``most`` rows fit, and the sizes that were tried on it."""
    tried = []

    def measure(batch_size, end):
        tried.append(batch_size)
        return 10**7 + bytes_of_row * batch_size if batch_size <= most else None

    return measure, tried


def test_a_size_that_was_not_tried_is_never_the_answer():
    """Where 5,000 rows fit and the room seems to allow far more, the answer was run, and is no doubling of it."""
    measure, tried = fitting(5000)
    ceiling = find(measure, 8200, Room(10**10, "a test"))
    assert ceiling.rows in tried
    assert 4400 <= ceiling.rows <= 5000


def test_the_search_ends_where_every_row_is_too_many():
    """The whole table does not fit: the search ends after a few sizes, with one that does."""
    measure, tried = fitting(90)
    ceiling = find(measure, 100, Room(120_000_000, "a test"))
    assert ceiling.rows in tried
    assert 80 <= ceiling.rows <= 90
    assert len(tried) < 20


def test_no_more_rows_are_asked_for_than_there_are():
    """A table of 40 rows is not asked for 64."""
    measure, tried = fitting(10**6)
    assert find(measure, 40, Room(10**10, "a test")).rows == 40
    assert max(tried) <= 40


def test_a_step_that_fits_only_at_times_does_not_hang():
    """A machine on which every second try fails: an answer that did fit, after a bounded number of tries."""
    tried = []

    def measure(batch_size, end):
        tried.append(batch_size)
        return 10**6 * batch_size if len(tried) % 2 else None

    ceiling = find(measure, 10**6, Room(10**9, "a test"))
    assert ceiling.rows in tried
    assert len(tried) <= 16
