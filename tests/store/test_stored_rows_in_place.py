"""Rows used where the system keeps them: what is mapped, what is let go, and files that fail under it."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend import machine
from descend.batches import STRIP, neighbours
from descend.errors import SourceError
from descend.store import Store, mapping, open_store
from descend.store.in_place import RowsInPlace
from descend.store.keeping import MAPPED_BYTES, may_map, spare_bytes
from descend.store.layout import LARGE_PAGE, Layout
from descend.store.mapping import can_map, guarded, is_local
from descend.store.preparing import prepare_store
from descend.store.read_ahead import ROOMS
from descend.store.reading import BlockReader
from descend.store.rows import StoredRows
from tests.store.stores import make_store

FEW = 5 * STRIP
"""Rows of a window."""
FOLIO = 2**18
"""What a page may bring with it where files of some hundred kilobytes were written at once."""


def is_possible() -> bool:
    """Whether this system maps a store, and the folder of temporary files lies on a disk of its own."""
    if not mapping._is_supported():
        return False
    descriptor = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        return is_local(descriptor)
    finally:
        os.close(descriptor)


pytestmark = pytest.mark.skipif(not is_possible(), reason="rows are read here, never mapped")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(StoredRows, "in_place_rows", FEW)
    return make_store(tmp_path / "s", num_rows=20_000)


def rows_of(store: Store, monkeypatch: pytest.MonkeyPatch, staying: int = 0) -> Any:
    """The store's rows, of which so many bytes may stay mapped."""
    monkeypatch.setattr("descend.store.preparing.spare_bytes", lambda *_: staying)
    X: Any = prepare_store(store, validation=0.0, stream=True).train.X
    assert isinstance(X.in_place, RowsInPlace)
    return X


def mapped_bytes(X: Any) -> int:
    """How much of the rows counts as memory of this process."""
    first, last = X.in_place.mapping.address, X.in_place.mapping.address + X.in_place.mapping.size
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        place = line.split(" ", 1)[0]
        if "-" in place and not place.endswith(":"):
            low = int(place.split("-")[0], 16)
            counts = first <= low < last
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.parametrize("staying", [0, 200_000, 10**9])
def test_every_row_is_where_it_was_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, staying: int
) -> None:
    """Windows in place hold the loaded rows to the last bit, walked twice, whatever stays mapped between."""
    X = rows_of(store, monkeypatch, staying)
    expected = prepare_store(store, validation=0.0, stream=False).train.X
    for _ in range(2):
        for part, rows in X.windows(37, 19_000):
            assert np.shares_memory(rows, X.in_place.X)
            assert np.array_equal(rows, expected[part])
    assert np.array_equal(np.concatenate([some.copy() for some in X.pieces(5, 5000, 111)]), expected[5:5000])


def test_blocks_lie_in_their_files_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row lies as far behind a large page of memory as behind one of its file: else none could be mapped."""
    store = make_store(tmp_path / "wide", num_rows=20_000, num_columns=64)
    mapping = rows_of(store, monkeypatch).in_place.mapping
    leads = []
    for block in range(store.layout.num_blocks):
        start = store.record(block).parts(store.layout).X.start
        place = mapping.address + block * store.layout.block_rows * store.layout.row_bytes
        assert start % LARGE_PAGE == place % LARGE_PAGE
        leads.append(start)
        assert not any(store.path(block).read_bytes()[:start])
    assert max(leads) > LARGE_PAGE // 2
    assert leads[8] == leads[0] == 0


def test_blocks_that_begin_with_their_rows_are_used_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores of older versions have no holes before their rows: the same windows."""
    with monkeypatch.context() as older:
        older.setattr(Layout, "lead_of", lambda *_: 0)
        older.setattr("descend.store.manifest.VERSION", 2)
        made = make_store(tmp_path / "older", num_rows=20_000)
    again = open_store(made.folder)
    assert {again.record(block).parts(again.layout).X.start for block in range(20)} == {0}
    X = rows_of(again, monkeypatch)
    expected = prepare_store(
        make_store(tmp_path / "newer", num_rows=20_000), stream=False, validation=0.0
    ).train.X
    for part, rows in X.windows():
        assert np.array_equal(rows, expected[part])


def test_what_is_behind_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room to stay, hardly more than the windows at hand counts as memory at any time, and nothing behind."""
    size = FEW * 256
    monkeypatch.setattr(StoredRows, "in_place_rows", FEW)
    X = rows_of(make_store(tmp_path / "wide", num_rows=40_000, num_columns=64), monkeypatch)
    most = 0
    for part, rows in X.windows():
        rows.sum()
        if part.start % 4096 == 0:  # asking takes as long as ten windows
            most = max(most, mapped_bytes(X))
    assert most <= (ROOMS + 1) * (size + 2 * FOLIO) < X.nbytes // 2
    assert mapped_bytes(X) == 0


def test_what_may_stay_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows stay mapped where there is room for them, and the next walk is a single window."""
    X = rows_of(store, monkeypatch, 10**9)
    assert len(list(X.windows())) > 10
    assert mapped_bytes(X) >= X.nbytes
    assert len(list(X.windows())) == 1
    half = rows_of(store, monkeypatch, X.nbytes // 2)
    assert len(list(half.windows())) > 10
    assert X.nbytes // 4 < mapped_bytes(half) < 3 * X.nbytes // 4


@pytest.mark.parametrize("staying", [0, 10**9])
def test_a_file_that_is_cut_under_its_map_is_an_error_with_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch, staying: int
) -> None:
    """Rows in use when their file is cut read as zeros, no signal ends the process, and the block is named."""
    X = rows_of(store, monkeypatch, staying)
    list(X.windows())

    def walk() -> Iterator[None]:
        for part, rows in X.windows():
            if part.stop > 1024 + 5 * STRIP:
                with store.path(1).open("r+b") as file:
                    file.truncate(5000)
                yield
                assert rows[-1].size == 7
                rows.sum()
            yield

    with pytest.raises(SourceError, match=r"block-00001\.bin.*it has 5,000 bytes instead of"):
        list(walk())
    with pytest.raises(SourceError, match=r"block-00001\.bin.*it has 5,000 bytes instead of"):
        list(X.windows())


def test_a_cut_file_is_noticed_by_whoever_only_walks_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walk that never touches the missing pages itself is told of them when it asks for them."""
    X = rows_of(store, monkeypatch)
    windows = X.windows()
    next(windows)
    os.truncate(store.path(15), 100)
    with pytest.raises(SourceError, match=r"block-00015\.bin"):
        list(windows)


def test_a_bit_that_flips_while_rows_are_in_use_is_told_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file written to behind the window that used it ends the walk with its rows, mapped to stay or not."""
    for staying in (0, 10**9):
        X = rows_of(store, monkeypatch, staying)
        windows = X.windows()
        for part, _ in windows:
            if part.start > 3000:
                break
        before = store.path(0).read_bytes()
        with store.path(0).open("r+b") as file:
            file.seek(70 * 28)
            file.write(bytes([before[70 * 28] ^ 1]))
        os.utime(store.path(0), ns=(time.time_ns(), time.time_ns()))
        with pytest.raises(SourceError, match=r"block-00000\.bin.*rows 64 to 127 do not match"):
            list(windows)
        store.path(0).write_bytes(before)


def test_a_file_that_is_replaced_is_mapped_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in the place of a block is verified and used; the file that was there before is used no more."""
    X = rows_of(store, monkeypatch, 10**9)
    first = np.concatenate([rows.copy() for _, rows in X.windows()])
    whole, lead = store.path(2).read_bytes(), store.record(2).lead
    other = store.folder / "other"
    other.write_bytes(whole)
    with store.path(2).open("r+b") as file:  # the old file, still mapped, becomes nonsense
        file.write(bytes(lead + 20_000))
    other.replace(store.path(2))
    X.blocks.close()  # else the block that was open is gone, and told so
    assert np.array_equal(np.concatenate([rows.copy() for _, rows in X.windows()]), first)
    at = lead + 300
    other.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    other.replace(store.path(2))
    X.blocks.close()
    with pytest.raises(SourceError, match=r"block-00002\.bin.*rows 0 to 63 do not match"):
        list(X.windows())


def test_pages_that_one_store_lost_are_not_blamed_on_another(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is cut under one store ends the walks over that one alone."""
    X = rows_of(store, monkeypatch, 10**9)
    other = rows_of(make_store(tmp_path / "other", num_rows=2000), monkeypatch)
    list(X.windows())
    windows, walk = X.windows(), other.windows()
    (_, rows), _ = next(windows), next(walk)
    os.truncate(store.path(1), 0)
    assert not rows[1024 + 500].any()
    assert sum(len(some) for _, some in walk) > 1000
    with pytest.raises(SourceError, match=r"block-00001\.bin"):
        list(windows)


def test_zeros_in_the_place_of_pages_are_told_though_the_file_is_whole_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was cut and mended while its rows were in use has spoilt what was computed: that is an error."""
    X = rows_of(store, monkeypatch, 10**9)
    list(X.windows())
    whole, status = store.path(1).read_bytes(), store.path(1).stat()
    windows = X.windows()
    _, rows = next(windows)
    os.truncate(store.path(1), 0)
    assert not rows[1024 + 500].any()
    store.path(1).write_bytes(whole)
    os.utime(store.path(1), ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(SourceError, match="changed while it was read"):
        list(windows)
    assert len(list(X.windows())) > 10  # mapped anew, and read from then on as if nothing had been


def test_a_store_that_cannot_be_mapped_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where addresses are few, or blocks do not end with a page, rows are read and the same."""
    assert can_map(store.layout)
    monkeypatch.setattr(mapping, "address_room", lambda: 10**6)
    assert not can_map(store.layout)
    X: Any = prepare_store(store, validation=0.0, stream=True).train.X
    assert X.in_place is None
    expected = prepare_store(store, validation=0.0, stream=False).train.X
    assert np.array_equal(np.concatenate([rows.copy() for _, rows in X.windows()]), expected)
    assert np.array_equal(np.concatenate([some.copy() for some in X.pieces(5, 5000, 111)]), expected[5:5000])
    monkeypatch.undo()
    uneven = make_store(store.folder.parent / "uneven", num_columns=3, block_rows=64)
    assert not can_map(uneven.layout)


def handler() -> bytes:
    """What the system does on a bus error, as the C library tells."""
    action = ctypes.create_string_buffer(256)
    ctypes.CDLL(None).sigaction(signal.SIGBUS, None, action)
    return action.raw[:8]


def test_the_former_handler_is_back_behind_a_walk(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bus errors are descend's as long as somebody walks, and no longer; a handler set meanwhile is left there."""
    before = handler()
    X = rows_of(store, monkeypatch)
    one, other = X.windows(), X.windows()
    next(one)
    next(other)
    assert handler() != before
    one.close()
    assert handler() != before
    other.close()
    assert handler() == before
    with guarded():
        signal.signal(signal.SIGBUS, signal.SIG_IGN)
    assert handler() == (1).to_bytes(8, sys.byteorder)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)


OTHERS = """
import faulthandler, mmap, tempfile
from descend.store.mapping import guarded
faulthandler.enable()
with tempfile.TemporaryFile() as file:
    file.truncate(8192)
    page = mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ)
    with guarded():
        file.truncate(0)
        page[5000]
"""


def test_bus_errors_of_others_stay_theirs() -> None:
    """A bus error outside the store's rows goes to the handler that was there before."""
    done = subprocess.run([sys.executable, "-c", OTHERS], capture_output=True, text=True)
    assert done.returncode == -signal.SIGBUS
    assert "Bus error" in done.stderr


LEFT_BEHIND = """
import faulthandler, mmap, tempfile
from descend.store.mapping import guarded
with guarded():
    faulthandler.enable()
faulthandler.disable()
with tempfile.TemporaryFile() as file:
    file.truncate(8192)
    page = mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ)
    with guarded():
        file.truncate(0)
        page[5000]
"""


def test_a_handler_that_somebody_put_back_is_no_former_one() -> None:
    """A bus error of others ends the process, where somebody has left descend's handler behind, too."""
    done = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGBUS


FORKED = """
import os, signal, sys
from descend.store import mapping, open_store, rows
from descend.store.preparing import prepare_store
X = prepare_store(open_store(sys.argv[1]), validation=0.0, stream=True).train.X
for _ in X.windows():
    break
place = X.in_place
locks = place._changing, place._opening, rows._spare.lock
for lock in locks:
    lock.acquire()
if not os.fork():
    signal.alarm(30)
    os._exit(0 if sum(len(some) for _, some in X.windows()) == len(X) and len(X[3:9]) == 6 else 1)
print(os.wait()[1])
"""


def test_a_fork_reads_whatever_threads_of_its_parent_were_doing(store: Store) -> None:
    """Locks that somebody held when the process was forked are free in the fork."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, str(store.folder)], capture_output=True, text=True
    )
    assert done.stdout == "0\n", done.stderr


def test_rows_are_read_where_windows_have_no_room_to_be_mapped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a limit leaves may be less than windows map at a time: reading takes less."""
    assert prepare_store(store, stream=True).train.X.in_place is not None  # type: ignore[attr-defined]
    monkeypatch.setattr("descend.store.keeping.MAPPED_BYTES", 10**15)
    assert prepare_store(store, stream=True).train.X.in_place is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("left", "staying"), [(10**9, 5 * 10**8), (2 * MAPPED_BYTES - 10, MAPPED_BYTES - 10)]
)
def test_what_stays_leaves_room_for_windows(
    store: Store, monkeypatch: pytest.MonkeyPatch, left: int, staying: int
) -> None:
    """Half of what is left stays mapped, but never so much that windows have less than they may take."""
    monkeypatch.setattr("descend.store.keeping._left", lambda *_: left)
    assert may_map(store, 1, None)
    assert spare_bytes(store, 1, None) == staying
    monkeypatch.setattr("descend.store.keeping._left", lambda *_: MAPPED_BYTES - 2)
    assert not may_map(store, 1, None)
    assert spare_bytes(store, 1, None) == MAPPED_BYTES // 2 - 1  # rows are read: what stays are heavy ones


@pytest.mark.parametrize(("limit", "short"), [(10**9, True), (8 * 10**9, False)])
def test_what_streamed_rows_take_counts_before_kernels_are_compiled(
    store: Store, monkeypatch: pytest.MonkeyPatch, limit: int, short: bool
) -> None:
    """Another process compiles where rows that stay mapped leave less of a limit than compiling leaves behind."""
    monkeypatch.setattr(machine, "is_short_of_memory", not short)
    monkeypatch.setattr(machine, "find_room", lambda limit=None: machine.Room(limit or 10**10, "the limit"))
    prepare_store(store, stream=True, memory_limit=limit)
    assert machine.is_short_of_memory == short


@pytest.mark.parametrize("num_columns", [1, 20, 50, 900, 20_000])
@pytest.mark.parametrize("num_rows", [1000, 100_000, 3_000_000])
def test_windows_fit_the_room_for_them(num_columns: int, num_rows: int) -> None:
    """As many windows as live at a time have room, with half as much that comes along; they tear no piece apart."""
    layout = Layout(num_rows, num_columns, np.dtype(np.float32), 1024)
    window = StoredRows(BlockReader(Path(), layout, []), 0, num_rows).in_place_rows
    assert window % neighbours(num_rows) == 0 or window < neighbours(num_rows)
    assert window % STRIP == 0
    assert 1.5 * ROOMS * window * layout.row_bytes <= MAPPED_BYTES


def test_more_mappings_than_the_system_allows_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that are open at a time share the mappings that a process may have; what is over that is read."""
    gc.collect()
    most = 3 * (sum(mapping._files.values()) + 2 * store.layout.num_blocks + 1)
    monkeypatch.setattr(mapping, "_most_mappings", lambda: most)
    data = [prepare_store(store, validation=0.0, stream=True).train for _ in range(3)]
    assert [rows.X.in_place is not None for rows in data] == [True, True, False]  # type: ignore[attr-defined]
    assert np.array_equal(data[0].X[:], data[2].X[:])
    del data
    gc.collect()
    assert rows_of(store, monkeypatch).in_place is not None
