"""Rows that stay in a store: what is read is what was written, and damage is named."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend.batches import STRIP
from descend.errors import SourceError
from descend.store import Store, open_store
from descend.store import rows as stored
from descend.store.preparing import prepare_store
from descend.store.read_ahead import ROOMS, read_ahead
from tests.store.stores import make_store


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a few strips, so that a small store has many."""
    monkeypatch.setattr(stored, "WINDOW_BYTES", 3 * STRIP * 28)


def both(store: Store, **options: Any) -> tuple[Any, Any]:
    """The training rows, loaded and stored."""
    return tuple(prepare_store(store, validation=0.1, stream=s, **options).train.X for s in (False, True))  # type: ignore[return-value]


@pytest.mark.parametrize("small", [False, True])
def test_stored_rows_read_like_an_array(tmp_path: Path, small: bool) -> None:
    """Slices, numbers of rows in any order, masks and all windows give the loaded rows to the last bit."""
    loaded, X = both(make_store(tmp_path / "s", small=small))
    random = np.random.default_rng(1)
    assert X.shape == loaded.shape
    assert X.dtype == loaded.dtype
    for rows in (
        slice(None),
        slice(5, 1999),
        slice(1020, 1030),
        slice(7, 7),
        slice(-3, None),
        slice(10, 2000, 7),
        random.integers(0, len(X), 200),
        random.random(len(X)) < 0.1,
        np.array([-1, 0, 5, 5]),
        np.empty(0, dtype=np.int64),
    ):
        assert np.array_equal(X[rows], loaded[rows])
    assert (
        np.array_equal(np.concatenate([some.copy() for _, some in X.windows(100, 2500)]), X[100:2500])
        or small
    )  # a kernel rounds the last bit of decoded numbers in its own way
    for rows, some in X.windows():
        np.testing.assert_allclose(some, loaded[rows], rtol=1e-6, atol=1e-6)


def test_parts_of_stored_rows_are_stored(tmp_path: Path) -> None:
    """A slice of a slice stays in the store; numbers of rows, and columns, are those of the loaded rows."""
    loaded, X = both(make_store(tmp_path / "s"))
    part = X.part(slice(1000, 2000)).part(slice(30, 900), np.array([4, 1]))
    expected = loaded[1000:2000][30:900][:, [4, 1]]
    assert part.shape == (870, 2)
    assert np.array_equal(part[:], expected)
    assert np.array_equal(np.concatenate([some.copy() for _, some in part.windows()]), expected)
    assert np.array_equal(X.part(np.array([3, 1]), np.array([0])), loaded[[3, 1]][:, [0]])


def test_rows_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """Reading past the last training row is an error, though the store has rows behind it."""
    _, X = both(make_store(tmp_path / "s"))
    with pytest.raises(IndexError):
        X[np.array([len(X)])]


def damage(store: Store, block: int, offset: int) -> Path:
    """Flips one bit of a block's file; its time of writing stays what it was."""
    path = store.path(block)
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return path


def test_a_flipped_bit_is_found_where_it_is_read(tmp_path: Path) -> None:
    """The strip of the flipped bit is refused with file and rows, read alone or with all; others are not."""
    store = make_store(tmp_path / "s")
    damage(store, 1, store.record(1).lead + 200 * 28)
    X: Any = prepare_store(open_store(tmp_path / "s"), stream=True).train.X
    assert len(X[1024 : 1024 + 192]) == 192
    for read in (lambda: X[1224:1225], lambda: X[:], lambda: list(X.windows()), lambda: X[np.array([1230])]):
        with pytest.raises(
            SourceError, match=r"block-00001\.bin.*rows 192 to 255 do not match their checksum"
        ):
            read()


def test_a_strip_that_was_known_is_verified_again_when_its_file_was_written_to(tmp_path: Path) -> None:
    """A block changed between two epochs is noticed in the second."""
    store = make_store(tmp_path / "s")
    _, X = both(store)
    assert len(X[:1500]) == 1500
    path = damage(store, 0, 0)
    os.utime(path, ns=(time.time_ns(), time.time_ns()))
    with pytest.raises(SourceError, match=r"block-00000\.bin.*rows 0 to 63"):
        X[:64]


def test_a_block_that_is_gone_or_cut_is_named(tmp_path: Path) -> None:
    """Files that vanish or get shorter while they are open are told, by name, at the next read."""
    store = make_store(tmp_path / "s")
    _, X = both(store)
    assert len(X[:])
    with store.path(1).open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(SourceError, match=r"block-00001\.bin.*5,000 bytes instead of"):
        X[1100:1200]
    store.path(0).unlink()
    with pytest.raises(SourceError, match=r"block-00000\.bin' is missing"):
        X[:64]


def test_damaged_targets_are_found_at_once(tmp_path: Path) -> None:
    """A flipped bit among the targets is refused before anything is trained."""
    store = make_store(tmp_path / "s")
    damage(store, 2, store.record(2).parts(store.layout).y.start + 9)
    with pytest.raises(SourceError, match=r"block-00002\.bin.*its targets do not match"):
        prepare_store(open_store(tmp_path / "s"), stream=True)


def test_what_is_read_ahead_comes_in_order_and_few_at_a_time() -> None:
    """Parts come in their order, never more than ``ROOMS`` at a time are begun and not done with."""
    alive, most, lock = 0, 0, threading.Lock()

    def part(number: int) -> int:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        time.sleep(0.001 * (number % 3))
        return number

    seen = []
    for number in read_ahead(iter([lambda n=n: part(n) for n in range(40)])):  # type: ignore[misc]
        seen.append(number)
        time.sleep(0.0005)
        with lock:
            alive -= 1
    assert seen == list(range(40))
    assert most <= ROOMS


def test_what_no_thread_reads_ahead_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, the parts come in their order, and nobody waits for ever."""

    class NoThreads(ThreadPoolExecutor):
        def submit(self, *args: Any, **options: Any) -> Any:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr("descend.store.read_ahead._readers", lambda _: NoThreads(1))
    assert list(read_ahead(iter([lambda n=n: n for n in range(5)]))) == [0, 1, 2, 3, 4]  # type: ignore[misc]


def test_what_fails_ahead_fails_in_its_turn() -> None:
    """Parts before the one that fails are handed out, and its error is raised here."""

    def fail() -> int:
        raise SourceError("broken")

    found = read_ahead(iter([lambda: 1, lambda: 2, fail, lambda: 4]))
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(SourceError, match="broken"):
        next(found)
