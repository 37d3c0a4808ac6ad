"""``descend ingest``: what is printed, written and refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descend import locks
from descend.cli.arguments import memory
from descend.errors import InputError
from descend.store import is_store, open_store

Command = Callable[..., Any]


def test_a_store_from_a_table(descend: Command, table: Path) -> None:
    """The rows of a file go into a folder; the summary is on stderr, and stdout stays empty."""
    result = descend("ingest", table, "--target", "answer", "--output", "store")
    assert result.status == 0
    assert result.out == ""
    assert "300 rows in 1 block" in result.err
    store = open_store("store")
    assert store.num_rows == 300
    assert (store.name, store.manifest.name) == ("store", "table")
    assert store.manifest.selection["target"] == "answer"


def test_json(descend: Command, table: Path) -> None:
    """With --json stdout is one object that agrees with the store, and --quiet leaves stderr empty."""
    result = descend("ingest", table, "--target", "answer", "-o", "store", "--json", "--quiet")
    assert result.err == ""
    found = result.json
    layout = open_store("store").layout
    assert (found["rows"], found["columns"], found["blocks"]) == (300, layout.num_columns, 1)
    assert (found["store"], found["task"], found["dtype"]) == ("store", "classification", "float32")
    assert found["bytes"] == sum(p.stat().st_size for p in Path("store").glob("block-*.bin"))


def test_several_files_and_options(descend: Command, tmp_path: Path) -> None:
    """Several files are one store; --drop, --columns, --weights, --task and --seed have their effect."""
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        rows = "".join(f"{random.normal()},{random.normal()},{i % 4},{1 + i % 2}\n" for i in range(50))
        (tmp_path / f"{name}.csv").write_text("u,v,y,w\n" + rows)
    words = ["--target", "y", "--weights", "w", "--drop", "v", "--task", "regression", "--seed", "3"]
    assert descend("ingest", "a.csv", "b.csv", "c.csv", *words, "--output", "store").status == 0
    store = open_store("store")
    assert (store.num_rows, store.features.names, store.task) == (150, ("u",), "regression")
    assert (store.layout.has_weights, store.manifest.seed) == (True, 3)
    assert descend("ingest", "?.csv", *words, "--output", "other").status == 0
    assert Path("other/block-00000.bin").read_bytes() == Path("store/block-00000.bin").read_bytes()


def test_force_and_append(descend: Command, table: Path) -> None:
    """A store is kept unless --force replaces it or --append adds to it; append needs no --target."""
    words = ("ingest", table, "--target", "answer", "--output", "store")
    assert descend(*words).status == 0
    again = descend(*words)
    assert again.status == 2
    assert "holds a store already" in again.err
    assert descend("ingest", table, "--output", "store", "--append").status == 0
    assert open_store("store").num_rows == 600
    assert descend(*words, "--force").status == 0
    assert open_store("store").num_rows == 300


REFUSED = {
    "ingest table.csv --target answer": "Missing option '-o' / '--output'",
    "ingest --output store": "Missing argument 'DATA…'",
    "ingest table.csv --output store": "; give one with --target COLUMN",
    "ingest none.csv --target answer --output store": "no file or folder 'none.csv'",
    "ingest table.csv table.csv --target answer -o store": "is given twice",
    "ingest table.csv sklearn:iris -o store": "stands alone",
    "ingest table.csv --target nobody -o store": "--target: column 'nobody'",
    "ingest table.csv --target answer -o table.csv": "is a file; give the name of a folder",
    "ingest folder/rows.csv --target answer -o folder": "is what is read",
    "ingest table.csv --target answer -o none/store": "does not exist",
    "ingest table.csv --target answer -o store --memory-limit much": "--memory-limit is 'much'; give auto, or bytes",
    "ingest table.csv --target answer -o store --memory-limit 30MB": "too small",
    "ingest table.csv --target answer -o store --threads 0": "--threads is '0'",
    "ingest table.csv --target answer -o store --seed x": "--seed is 'x'",
    "ingest table.csv --target answer -o store --task guess": "--task 'guess' is not known",
    "ingest table.csv --target answer -o store --append": "no store",
    "ingest table.csv --target answer -o store --append --force": "contradict each other",
    "ingest table.csv --target answer -o full": "holds other things",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused(line: str, descend: Command, table: Path, tmp_path: Path) -> None:
    """Bad input is status 2 and one line that says what is wrong; nothing is written."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rows.csv").write_bytes(table.read_bytes())
    before = sorted(tmp_path.rglob("*"))
    result = descend(*line.split())
    assert result.status == 2, result.err
    assert REFUSED[line] in result.err
    assert len(result.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_in_use_is_refused_with_the_process(descend: Command, table: Path, tmp_path: Path) -> None:
    """A second ingest into the same folder is refused, naming the process that is at it."""
    (tmp_path / "store").mkdir()
    with locks.hold(tmp_path / "store", what="store"):
        result = descend("ingest", table, "--target", "answer", "--output", "store")
    assert result.status == 2
    assert f"in use by process {os.getpid()}" in result.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of the shell")
def test_files_that_may_not_be_large_enough(table: Path, tmp_path: Path) -> None:
    """Where a file may not grow as large as a block, the error says so, with status 1, and nothing is left."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)); "
        "from descend.cli import run; sys.exit(run(sys.argv[1:]))"
    )
    words = ["ingest", str(table), "--target", "answer", "--output", "store"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr
    assert "files may not be so large here (ulimit -f)" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table.csv"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupts(which: signal.Signals, start: Callable[..., Any], tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end an ingest with status 130 and one line; run again it gives the whole store."""
    random = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", X=random.normal(size=(100_000, 40)), y=random.integers(0, 2, 100_000))
    process = start("ingest", "data.npz", "--output", "store")
    deadline = time.monotonic() + 60
    while not (tmp_path / "store").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(which)
    _, err = process.communicate(timeout=60)
    # Python ends with the signal itself, which shells show as 130 too, where it came inside an exec of text.
    assert process.returncode in (130, -signal.SIGINT), err
    assert err.splitlines()[-1].startswith("descend: interrupted; ")
    assert not is_store(tmp_path / "store")
    again = start("ingest", "data.npz", "--output", "store", "--quiet")
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert open_store(tmp_path / "store").num_rows == 100_000


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_an_interrupt_that_a_library_caught_is_heard(
    descend: Command, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal whose exception was swallowed somewhere ends the ingest all the same."""
    from descend.store.packing import Packer

    pack = Packer.pack

    def swallow(*words: Any) -> Any:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return pack(*words)

    monkeypatch.setattr(Packer, "pack", swallow)
    assert descend("ingest", table, "--target", "answer", "--output", "store").status == 130
    assert not Path("store").exists()


def test_memory_is_read_in_every_spelling() -> None:
    """Decimal and binary units, with and without B and blanks; anything else is refused with what is accepted."""
    assert [memory(t) for t in ("2GB", "2g", "1.5 GiB", "800MB", "64kb", "123", "AUTO")] == [
        2_000_000_000, 2_000_000_000, 1_610_612_736, 800_000_000, 64_000, 123, None,
    ]  # fmt: skip
    for wrong in ("", "much", "-2GB", "0", "2 PB", "1e400GB", "nan"):
        with pytest.raises(InputError, match="--memory-limit is"):
            memory(wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_an_interrupt_of_a_whole_store_says_so(
    descend: Command, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C behind the last step is told as such, not as a run that wrote nothing."""
    from descend.store import ingesting

    def interrupt(*_: Any) -> None:
        if is_store("store"):
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    folder = Path.cwd()
    monkeypatch.setattr(ingesting, "tidy", interrupt)
    result = descend("ingest", table, "--target", "answer", "--output", folder / "store")
    assert result.status == 130
    assert "the store was whole by then" in result.err
    assert open_store(folder / "store").num_rows == 300
