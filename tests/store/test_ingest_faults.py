"""Ingests that are killed, interrupted, run out of disk or meet another: a store is whole or not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ingests import TIGHT, content, files, source_of, tighten

from descend import locks
from descend.errors import DescendError, InputError, OutputError, SourceError
from descend.sources import open_source
from descend.store import block_files, ingest, is_store, open_store, plan, spill
from descend.store import manifest as manifests
from descend.store.ingesting import run
from descend.store.job import Job, Progress
from descend.store.plan import can_go_on


def expected(folder: Path, kind: str = "table") -> dict[str, bytes]:
    """The files of an ingest that nothing disturbed."""
    ingest(source_of(kind), folder)
    return files(folder)


def interrupted_at(kind: str, folder: Path, stage: str, rows: int) -> None:
    """An ingest that is interrupted when so many rows are done."""

    def interrupt(progress: Progress) -> None:
        if progress.stage == stage and progress.rows >= rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(source_of(kind), folder, on_progress=interrupt)


@pytest.mark.parametrize("kind", ["table", "bytes", "sparse"])
def test_an_interrupt_while_writing_is_gone_on_with(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was interrupted between two blocks ends in the same files, and whole blocks are not written anew."""
    tighten(monkeypatch)
    whole = expected(tmp_path / "whole", kind)
    place = tmp_path / "store"
    interrupted_at(kind, place, "writing", 300)
    assert can_go_on(place)
    assert not is_store(place)
    noted = [
        json.loads(line)["file"] for line in (place / ".ingest" / "blocks.jsonl").read_text().splitlines()
    ]
    times = {name: (place / name).stat().st_mtime_ns for name in noted}
    assert len(times) >= 3
    job = Job(source_of(kind), place)
    run(job)
    assert "gone on with" in job.notes[0]
    assert files(place) == whole
    assert all((place / name).stat().st_mtime_ns == time for name, time in times.items())


def test_an_interrupt_while_reading_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before all rows were read there is nothing to go on with, and nothing is left."""
    tighten(monkeypatch)
    interrupted_at("table", tmp_path / "store", "reading", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_is_damaged_meanwhile_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of an ingest that was cut short are verified, and written anew where they are not whole."""
    tighten(monkeypatch)
    whole = expected(tmp_path / "whole")
    place = tmp_path / "store"
    interrupted_at("table", place, "writing", 300)
    block = sorted(place.glob("block-*.bin"))[1]
    data = bytearray(block.read_bytes())
    data[100] ^= 1
    block.write_bytes(data)
    ingest(source_of("table"), place)
    assert files(place) == whole


@pytest.mark.parametrize("what", ["plan.json", "run-00000.bin"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_working_folder_is_begun_again_or_refused(
    what: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working folder that was changed gives the same store or an error, never another store."""
    tighten(monkeypatch)
    whole = expected(tmp_path / "whole")
    place = tmp_path / "store"
    interrupted_at("table", place, "writing", 300)
    victim = place / ".ingest" / what
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 64
    if damage == "remove":
        victim.unlink()
    else:
        victim.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    try:
        ingest(source_of("table"), place)
    except DescendError:
        assert what.startswith("run") and not is_store(place)  # noqa: PT018
    else:
        assert files(place) == whole


def test_input_that_changed_since_is_named_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ingest that was cut short is not gone on with after its file has changed: a note names the file."""
    tighten(monkeypatch)
    path = tmp_path / "rows.csv"
    random = np.random.default_rng(0)
    rows = [
        f"{a:.3f},{b}" for a, b in zip(random.normal(size=2000), random.integers(0, 2, 2000), strict=True)
    ]
    path.write_text("\n".join(["a,y", *rows, ""]))
    place = tmp_path / "store"

    def job(**more: Any) -> Job:
        return Job(open_source(path, target="y"), place, files=(path,), **more)

    def interrupt(progress: Progress) -> None:
        if progress.stage == "writing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job(on_progress=interrupt))
    assert can_go_on(place)
    path.write_text("\n".join(["a,y", *rows, "0.5,1", ""]))
    again = job()
    assert run(again).num_rows == 2001
    assert "begun again: " in again.notes[0]
    assert "rows.csv has changed" in again.notes[0]


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import pytest
import ingests
from descend.store import ingest, is_store

patch = pytest.MonkeyPatch()
ingests.tighten(patch, block_rows=256)

def work(place):
    child = os.fork()
    if child == 0:
        ingest(ingests.source_of({kind!r}, 3000), place)
        os._exit(0)
    return child

base = Path({folder!r})
began = time.perf_counter()
os.waitpid(work(base / "whole"), 0)
takes = time.perf_counter() - began
whole = ingests.files(base / "whole")
random.seed(0)
kills = 0
for trial in range(40):
    place = base / f"store{{trial}}"
    for attempt in range(20):
        child = work(place)
        time.sleep(random.uniform(0.02, 1.0) * takes)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            takes *= 0.8  # the first one had a busier machine
            break
        kills += 1
        if is_store(place):
            break
        if attempt == 3:
            os.waitpid(work(place), 0)
            break
    if not is_store(place):
        os.waitpid(work(place), 0)
    found = ingests.files(place)
    if (place / ".ingest").exists() or ".descend.lock" in found:  # killed behind the last step
        found = {{name: data for name, data in found.items() if "/" not in name and name != ".descend.lock"}}
    assert found == whole, (trial, sorted(found), sorted(whole))
    if kills >= {kills}:
        break
print(kills)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["table", "sparse"])
def test_killed_at_any_moment_and_run_again(kind: str, tmp_path: Path) -> None:
    """Ten ingests killed at random moments, each run again until it ends, leave the files of an undisturbed one."""
    code = KILLS.format(tests=str(Path(__file__).parent), kind=kind, folder=str(tmp_path), kills=10)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


@pytest.mark.parametrize("left", ["block-00003.bin", "block-00000.bin.part", ".descend-0123456789ab.tmp"])
def test_what_a_kill_may_leave_is_cleared(left: str, tmp_path: Path) -> None:
    """A folder with nothing but what a killed ingest leaves is ingested into, and then holds the store alone."""
    place = tmp_path / "store"
    place.mkdir()
    (place / left).write_bytes(b"half")
    ingest(source_of("table"), place)
    assert files(place) == expected(tmp_path / "whole")


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_what_was_there(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write finds the disk full: the error says so, an earlier store is as it was, nothing else is left."""
    tighten(monkeypatch)
    place = tmp_path / "store"
    before: dict[str, bytes] = {}
    if force:
        ingest(source_of("numbers"), place)
        before = files(place)
    write = block_files.write_all
    for allowed in (0, 1, 5, 20, 35):
        left = allowed

        def full(file: Any, data: memoryview) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                write(file, data[: len(data) // 2])
                raise OSError(errno.ENOSPC, "No space left on device")
            write(file, data)

        monkeypatch.setattr(block_files, "write_all", full)
        monkeypatch.setattr(spill, "write_all", full)
        with pytest.raises(OutputError, match="the disk is full"):
            ingest(source_of("table"), place, force=force)
        assert (files(place) if place.exists() else {}) == before
    assert place.exists() == force


@pytest.mark.parametrize("name", ["plan.json", "store.json"])
def test_a_disk_that_is_full_in_the_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the plan or the manifest cannot be written, an earlier store stays, and nothing else is left."""
    tighten(monkeypatch)
    place = tmp_path / "store"
    ingest(source_of("numbers"), place)
    before = files(place)
    write = manifests.write_atomically

    def full(path: Path, *words: Any, **more: Any) -> Path:
        if path.name == name:
            raise InputError("output cannot be written: No space left on device")
        return write(path, *words, **more)

    monkeypatch.setattr(manifests, "write_atomically", full)
    with pytest.raises(OutputError, match="No space left"):
        ingest(source_of("table"), place, force=True)
    assert files(place) == before


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    """A file that is gone when it has been read is an error with its name."""
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(200)))
    source = open_source(path, target="y")
    with pytest.raises(SourceError, match=r"rows\.csv' cannot be read any more"):
        ingest(source, tmp_path / "store", files=(path,), on_progress=lambda _: path.unlink(missing_ok=True))
    assert not (tmp_path / "store").exists()


def test_too_little_disk_is_said_before_blocks_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the blocks do not fit, the error has both figures, and nothing is left."""
    from descend.store import places

    usage = type("Usage", (), {"free": 10_000_000})
    monkeypatch.setattr(places.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match=r"needs 0 MB and 17 MB to spare, but 10 MB are free"):
        ingest(source_of("table"), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """Without permission, or below a file, nothing is begun."""
    (tmp_path / "file").write_text("precious")
    for place in (tmp_path / "file", tmp_path / "file" / "store", tmp_path / "none" / "store"):
        with pytest.raises(InputError, match="output"):
            ingest(source_of("table"), place)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    """A folder that holds anything but a store is no place for one."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("precious")
    with pytest.raises(InputError, match="holds other things"):
        ingest(source_of("table"), tmp_path / "letters", force=True)
    assert files(tmp_path / "letters") == {"dear.txt": b"precious"}


def test_a_second_ingest_into_the_same_place_is_refused(tmp_path: Path) -> None:
    """While one holds the folder, another is refused and told the process; the first ends undisturbed."""
    place = tmp_path / "store"
    met = []

    def meet(progress: Progress) -> None:
        if not met:
            met.append(progress)
            with pytest.raises(InputError, match=rf"store .* is in use by process {os.getpid()}"):
                ingest(source_of("table"), place, seed=1)

    ingest(source_of("table"), place, on_progress=meet)
    assert met
    assert files(place) == expected(tmp_path / "alone")


def test_a_store_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With force the old store can be read until the new one is whole, and is gone afterwards."""
    tighten(monkeypatch)
    place = tmp_path / "store"
    old = ingest(source_of("numbers"), place)
    rows = content(old)

    def look(_: Progress) -> None:
        for one, other in zip(content(open_store(place)), rows, strict=True):
            np.testing.assert_array_equal(one, other)

    new = ingest(source_of("table"), place, force=True, on_progress=look)
    names = {record.file for record in new.manifest.blocks}
    assert set(files(place)) == names | {"store.json"}
    assert not names & {record.file for record in old.manifest.blocks}
    fresh = ingest(source_of("table"), tmp_path / "fresh")
    for one, other in zip(content(new), content(fresh), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_store_that_exists_is_kept_without_force(tmp_path: Path) -> None:
    """An ingest into a store is refused unless it may replace it or add to it."""
    place = tmp_path / "store"
    before = expected(place)
    with pytest.raises(InputError, match="holds a store already"):
        ingest(source_of("numbers"), place)
    assert files(place) == before


def test_the_lock_is_gone_afterwards(tmp_path: Path) -> None:
    """After an ingest the folder can be held by others, and holds nothing but the store."""
    place = tmp_path / "store"
    expected(place)
    with locks.hold(place):
        pass
    assert all(name == "store.json" or name.startswith("block-") for name in files(place))


def test_a_damaged_store_is_not_added_to(tmp_path: Path) -> None:
    """Rows are not added to a store whose last block is damaged: it is named, and the rest stays as it is."""
    place = tmp_path / "store"
    store = ingest(source_of("table"), place)
    path = store.path(store.layout.num_blocks - 1)
    path.write_bytes(path.read_bytes()[:-1])
    before = files(place)
    with pytest.raises(SourceError, match=path.name):
        ingest(source_of("table"), place, append=True)
    assert files(place) == before


assert TIGHT.run_bytes < 100_000


def test_an_interrupt_behind_the_last_step_leaves_a_whole_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ends an ingest while what it worked with is taken away has the store, and nothing besides it."""
    tighten(monkeypatch)
    whole = expected(tmp_path / "whole")
    place = tmp_path / "store"
    remove = plan.remove_work

    def interrupt(work: Path) -> None:
        if is_store(place):
            monkeypatch.setattr(plan, "remove_work", remove)
            raise KeyboardInterrupt
        remove(work)

    monkeypatch.setattr(plan, "remove_work", interrupt)
    job = Job(source_of("table"), place)
    with pytest.raises(KeyboardInterrupt):
        run(job)
    assert job.is_published
    assert files(place) == whole
    assert sorted(p.name for p in place.iterdir()) == sorted(whole)


@pytest.mark.parametrize("damage", [b"", b'{"sha256": "', b"\0" * 500])
def test_a_store_without_a_whole_manifest_is_replaced(damage: bytes, tmp_path: Path) -> None:
    """What the message of a damaged store.json asks for, to ingest again with force, gives the whole store."""
    whole = expected(tmp_path / "whole")
    ingest(source_of("bytes"), tmp_path / "store")
    (tmp_path / "store" / "store.json").write_bytes(damage)
    with pytest.raises(SourceError, match="with --force"):
        open_store(tmp_path / "store")
    with pytest.raises(InputError, match="--force"):
        ingest(source_of("table"), tmp_path / "store")
    ingest(source_of("table"), tmp_path / "store", force=True)
    assert files(tmp_path / "store") == whole


def test_a_folder_in_the_making_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training from a store whose ingest was cut short says that, not that its files are of no known kind."""
    tighten(monkeypatch)
    interrupted_at("table", tmp_path / "store", "writing", 300)
    with pytest.raises(SourceError, match="is no block store yet: an ingest into it"):
        open_source(tmp_path / "store")


def test_killed_behind_its_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when the store was whole, the same command tidies up and says so; another one is refused."""
    tighten(monkeypatch)
    place, source = tmp_path / "store", source_of("numbers")
    with monkeypatch.context() as patch:
        patch.setattr("descend.store.ingesting.tidy", lambda *_, **__: None)
        ingest(source, place)
    assert (place / ".ingest").exists()
    with pytest.raises(InputError, match="holds a store already"):
        ingest(source, place, seed=1)
    whole = {name: data for name, data in files(place).items() if "/" not in name}
    job = Job(source_of("numbers"), place)
    run(job)
    assert job.notes == ["the store was whole already when the ingest was cut short"]
    assert files(place) == whole
    with pytest.raises(InputError, match="holds a store already"):
        ingest(source, place)


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


@pytest.mark.parametrize("append", [False, True])
def test_killed_while_it_tidies_up(append: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before any of the removals behind its last step, the same command leaves the store, added to once."""
    tighten(monkeypatch)
    expected(tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "whole") if append else None
    ingest(source_of("table"), tmp_path / "whole", append=append)
    unlink, left = os.unlink, 0

    def killed(path: Any, *words: Any, **more: Any) -> None:
        nonlocal left
        if is_store(place) and (place / ".ingest").exists() and open_store(place).num_rows == rows:
            left -= 1
            if left < 0:
                monkeypatch.setattr(os, "unlink", unlink)
                raise Killed
        unlink(path, *words, **more)

    rows = open_store(tmp_path / "whole").num_rows
    for allowed in range(100):
        place, left = tmp_path / f"store{allowed}", allowed
        shutil.copytree(tmp_path / "first", place) if append else None
        monkeypatch.setattr(os, "unlink", killed)
        try:
            ingest(source_of("table"), place, append=append)
        except Killed:
            ingest(source_of("table"), place, append=append)
        else:
            break
        assert files(place) == files(tmp_path / "whole")
        assert sorted(p.name for p in place.iterdir()) == sorted(files(place))
    assert allowed >= 3


def test_names_of_blocks_are_on_the_disk_before_the_manifest_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is flushed between the last block's renaming and that of ``store.json``."""
    done: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def renamed(self: Path, target: Path) -> Path:
        done.append(Path(target).name)
        return replace(self, target)

    def flushed(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            done.append("flushed")
        fsync(handle)

    monkeypatch.setattr(Path, "replace", renamed)
    monkeypatch.setattr(os, "fsync", flushed)
    ingest(source_of("table"), tmp_path / "store")
    last_block = max(i for i, name in enumerate(done) if name.startswith("block-"))
    assert "flushed" in done[last_block : done.index("store.json")]
    assert done[-1] == "flushed"
