"""Two files that take turns: how often, over which, and what is left when that fails."""

from pathlib import Path

import pytest

from descend import turns
from descend.errors import OutputError
from descend.turns import Turns

NAMES = ("one", "two")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved by hand."""
    now = [100.0]
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])
    return now


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_the_older_file_is_written_over(tmp_path: Path) -> None:
    """The two files take turns from the one on that is not the newest."""
    files = Turns(tmp_path, NAMES, None)
    seen = []
    for number in range(3):
        files.write(lambda number=number: str(number).encode(), "")  # type: ignore[misc]
        seen.append(content(tmp_path))
    assert seen == [{"one": "0"}, {"one": "0", "two": "1"}, {"one": "2", "two": "1"}]
    Turns(tmp_path, NAMES, "one").write(lambda: b"3", "")
    assert content(tmp_path) == {"one": "2", "two": "3"}


@pytest.mark.parametrize("cost", [0.1, 3.0])
def test_writing_takes_a_fiftieth_of_the_time(clock: list[float], cost: float, tmp_path: Path) -> None:
    """However long it takes to make and write a file, the next is due when that was a fiftieth of the time since."""
    files = Turns(tmp_path, NAMES, None)

    def slowly() -> bytes:
        clock[0] += cost
        return b""

    began, spent = clock[0], 0
    files.expect(0)
    for _ in range(20_000):
        clock[0] += 0.05
        if files.is_due():
            files.write(slowly, "")
            spent += 1
    share = cost * spent / (clock[0] - began)
    assert 0.8 * turns.SHARE < share < 1.001 * turns.SHARE


def test_much_to_write_waits_longer_for_the_first_time(clock: list[float], tmp_path: Path) -> None:
    """Before anything was written, what is expected of the disk says when."""
    waits = []
    for size in (1000, 10**9):
        files, began = Turns(tmp_path, NAMES, None), clock[0]
        files.expect(size)
        while not files.is_due():
            clock[0] += 0.1
        waits.append(clock[0] - began)
    assert waits == [pytest.approx(1.0, abs=0.2), pytest.approx(501.0, abs=0.2)]


def test_seconds_that_were_asked_for_are_kept(clock: list[float], tmp_path: Path) -> None:
    """With a number of seconds the cost has no say."""
    files = Turns(tmp_path, NAMES, None, seconds=7.0)
    files.expect(10**12)
    assert not files.is_due()
    clock[0] += 7.0
    assert files.is_due()
    files.write(lambda: b"", "")
    clock[0] += 6.9
    assert not files.is_due()


def test_a_failure_leaves_the_newer_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing fails both files are as they were, and the next attempt is over the same one."""
    files = Turns(tmp_path, NAMES, None)
    files.write(lambda: b"0", "")
    files.write(lambda: b"1", "")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError, match=r"No space left.*; that is left"):
            files.write(lambda: b"2", "that is left")
    assert content(tmp_path) == {"one": "0", "two": "1"}
    files.write(lambda: b"2", "")
    assert content(tmp_path) == {"one": "2", "two": "1"}
