"""Rows by ranges of their keys: kept in memory while they fit, else in files of the working folder.

Rows come in any number; afterwards those of a range of keys are read together. Each run of rows is sorted by key and
written in one go, so a range lies in one piece in every run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import OutputError, shorten
from descend.store.block_files import write_all
from descend.store.keys import NUM_CELLS, cells_of, first_key
from descend.store.records import RecordFormat, Records, join, parse

MOST_BUCKETS = 1024


@dataclass(frozen=True, slots=True)
class Run:
    """A file of rows by bucket: where each bucket's bytes begin, and the end."""

    file: str
    starts: list[int]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Spill:
    """Takes records, and gives those of a range of cells back, in order of their keys.

    ``room`` bytes of records are kept in memory before they are written; ``buckets`` says into how many ranges a
    file is cut, a power of two.
    """

    def __init__(self, folder: Path, room: int, buckets: int) -> None:
        self.folder, self.room = folder, room
        self.buckets = max(1, min(MOST_BUCKETS, 1 << (buckets - 1).bit_length()))
        self.runs: list[Run] = []
        self.histogram = np.zeros(NUM_CELLS, dtype=np.int64)
        self.form: RecordFormat | None = None
        self.num_bytes = 0
        self._held: list[Records] = []
        self._held_bytes = 0

    @property
    def num_rows(self) -> int:
        return int(self.histogram.sum())

    def add(self, records: Records, form: RecordFormat) -> None:
        """Keep these rows, copied into the order of their keys."""
        self.form = form
        if not len(records):
            return
        keys = records.heads["key"]
        self.histogram += np.bincount(cells_of(keys), minlength=NUM_CELLS)
        self._held.append(records.take(order_of(keys)))
        self._held_bytes += records.nbytes
        self.num_bytes += records.nbytes
        if self._held_bytes >= self.room:
            self.flush()

    def finish(self) -> None:
        """No more rows come; what is held goes to the others where there are any."""
        if self.runs and self._held:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a run."""
        cuts = [self._cuts(records) for records in self._held]
        name = f"run-{len(self.runs):05d}.bin"
        place = self.folder / name
        starts = [0]
        try:
            with place.open("wb", buffering=0) as file:
                for bucket in range(self.buckets):
                    size = 0
                    for records, cut in zip(self._held, cuts, strict=True):
                        rows = slice(int(cut[bucket]), int(cut[bucket + 1]))
                        if rows.start < rows.stop:
                            for piece in records.take(rows).pieces():
                                size += len(piece)
                                write_all(file, piece)
                    starts.append(starts[-1] + size)
        except OSError as error:
            raise storage_error(place, error) from error
        self.runs.append(Run(name, starts))
        self._held, self._held_bytes = [], 0

    def sync(self) -> None:
        """Have the runs on the disk for certain."""
        for run in self.runs:
            place = self.folder / run.file
            try:
                with place.open("r+b") as file:  # some systems flush only what is open for writing
                    os.fsync(file.fileno())
            except OSError as error:
                raise storage_error(place, error) from error

    def shares(self, most_bytes: int) -> list[tuple[int, int]]:
        """Ranges of cells, each of at most so many bytes (a cell at least), that hold all rows in order."""
        row_bytes = self.num_bytes / max(1, self.num_rows)
        most_rows = max(1, int(most_bytes / max(1.0, row_bytes)))
        ends = np.cumsum(self.histogram)
        shares, start = [], 0
        while start < NUM_CELLS:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + most_rows, side="right"))
            stop = min(NUM_CELLS, max(start + 1, stop))
            shares.append((start, stop))
            start = stop
        return shares

    def read(self, start: int, stop: int) -> tuple[Records, NDArray[np.intp]]:
        """The rows of the cells ``start`` … ``stop − 1``, and the order of their keys."""
        assert self.form is not None
        expected = int(self.histogram[start:stop].sum())
        whole = join(self._parts(start, stop), self.form, expected)
        if len(whole) != expected:
            raise OutputError(
                f"the working folder {shorten(str(self.folder), 200)!r} was changed: {len(whole):,} rows instead of "
                f"{expected:,}; begin again with an empty place"
            )
        return whole, order_of(whole.heads["key"])

    def _parts(self, start: int, stop: int) -> Iterator[Records]:
        for records in self._held:
            yield self._between(records, start, stop)
        for run in self.runs:
            yield from self._read_run(run, start, stop)

    def _read_run(self, run: Run, start: int, stop: int) -> Iterator[Records]:
        assert self.form is not None
        width = NUM_CELLS // self.buckets
        first, last = start // width, -(-stop // width)
        place = self.folder / run.file
        try:
            with place.open("rb", buffering=0) as file:
                file.seek(run.starts[first])
                for bucket in range(first, last):
                    data = np.empty(run.starts[bucket + 1] - run.starts[bucket], dtype=np.uint8)
                    if not read_all(file, data):
                        raise OutputError(
                            f"{shorten(str(place), 200)!r} was cut short while it was in use; begin again"
                        )
                    if len(data):
                        records = parse(data, self.form)
                        inside = start <= bucket * width and (bucket + 1) * width <= stop
                        yield records if inside else self._filtered(records, start, stop)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise storage_error(place, error) from error

    def _between(self, records: Records, start: int, stop: int) -> Records:
        """Of rows sorted by key."""
        cells = cells_of(records.heads["key"])
        return records.take(slice(*np.searchsorted(cells, [start, stop]).tolist()))

    def _filtered(self, records: Records, start: int, stop: int) -> Records:
        cells = cells_of(records.heads["key"])
        return records.take(np.flatnonzero((cells >= start) & (cells < stop)))

    def _cuts(self, records: Records) -> NDArray[np.intp]:
        """Where the buckets begin among rows sorted by key."""
        bounds = [first_key(bucket * (NUM_CELLS // self.buckets)) for bucket in range(self.buckets)]
        cuts = np.searchsorted(records.heads["key"], np.array(bounds, dtype=np.uint64))
        return np.append(cuts, len(records))


def order_of(keys: NDArray[np.uint64]) -> NDArray[np.intp]:
    """The places of the keys in ascending order; equal ones, which hardly ever come, as they stand."""
    order = np.argsort(keys)  # four times as fast as a stable one
    ascending = keys[order]
    return np.argsort(keys, kind="stable") if (ascending[1:] == ascending[:-1]).any() else order


def read_all(file: Any, out: NDArray[np.uint8]) -> bool:
    """Fill ``out`` from an unbuffered file; False where it ends before."""
    view = memoryview(out)  # type: ignore[arg-type]
    while len(view):
        count = file.readinto(view)
        if not count:
            return False
        view = view[count:]
    return True


def storage_error(place: Path, error: OSError) -> OutputError:
    """What went wrong on the disk, with the place."""
    import errno

    shown = shorten(str(place), 200)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{shown!r} cannot be written: the disk is full; free some space and run again")
    if error.errno == errno.EFBIG:
        return OutputError(f"{shown!r} cannot be written: files may not be so large here (ulimit -f)")
    return OutputError(f"{shown!r} cannot be written or read: {error.strerror or error}")


def num_buckets(expected_bytes: int, share_bytes: int) -> int:
    """Into how many ranges files are cut, so that a range fits its share.

    >>> num_buckets(4 * 10**9, 64 * 2**20)
    64
    """
    return 1 << max(0, (max(1, -(-expected_bytes // share_bytes)) - 1).bit_length())


def cells_json(histogram: NDArray[np.int64]) -> str:
    """The rows of each cell as text."""
    import base64
    import zlib

    return base64.b64encode(zlib.compress(histogram.astype("<i8").tobytes(), 1)).decode()


def cells_from_json(text: str) -> NDArray[np.int64]:
    """What ``cells_json`` wrote."""
    import base64
    import zlib

    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<i8").astype(np.int64)


def restored(folder: Path, form: RecordFormat, buckets: int, runs: Sequence[Run], cells: str) -> Spill:
    """A spill whose runs were all written."""
    spill = Spill(folder, 0, buckets)
    spill.form, spill.runs, spill.histogram = form, list(runs), cells_from_json(cells)
    spill.num_bytes = sum(run.starts[-1] for run in runs)
    return spill
