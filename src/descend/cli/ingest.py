"""``descend ingest``: a block store out of any data."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from descend.cli import arguments, options
from descend.cli.command import option, verb
from descend.cli.failures import InterruptedRunError
from descend.cli.interrupts import Interrupts
from descend.cli.progress import StatusLine
from descend.cli.talk import Talk
from descend.errors import InputError, shorten
from descend.machine import keep_to, return_freed_memory

if TYPE_CHECKING:
    from descend.store import Store
    from descend.store.job import Job, Progress

WRITING_SHARE = 0.4
"""Of the whole time: what is left to do when all rows were read."""


@verb(
    "descend ingest flights-*.csv --target delayed --output flights",
    "descend ingest more.csv --output flights --append",
)
@click.argument("data", metavar="DATA…", nargs=-1, required=True)
@option(
    "Output", "-o", "--output", metavar="STORE", required=True, help="The folder that the store goes into."
)
@options.target
@options.task
@options.columns
@option("Output", "--append", is_flag=True, help="Add the rows to a store that is there.")
@option("Output", "--force", is_flag=True, help="Replace a store that is there, once the new one is whole.")
@option("Other", "--seed", metavar="N", default="0", show_default=True,
        help="The random order of the rows; equal data and seeds give equal stores.")  # fmt: skip
@options.threads
@options.memory_limit
@options.talking
def command(data: tuple[str, ...], **given: Any) -> int:
    """Write a shuffled block store, for data larger than memory.

    Rows are read once, scattered at random, encoded and written as blocks of some megabytes. DATA may be several
    files of one kind and the same columns. A store is trained on like any file: descend fit STORE.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])
    job = _job(data, given, talk)
    started = time.monotonic()
    store = _carry_out(job, talk)
    seconds = time.monotonic() - started
    _tell(talk, job, store, seconds)
    return 0


def _job(data: tuple[str, ...], given: dict[str, Any], talk: Talk) -> Job:
    """What is asked for, checked as far as can be before any row is read."""
    task = arguments.task(given["task"])
    memory, threads = arguments.memory(given["memory_limit"]), arguments.threads(given["threads"])
    if not given["seed"].isdecimal():
        raise InputError(f"--seed is {shorten(given['seed'])!r}; give a whole number from 0 on")
    if given["append"] and given["force"]:
        raise InputError("--append and --force contradict each other; give one of them")
    if not given["output"]:
        raise InputError("--output is empty; give the name of a folder")
    return_freed_memory()
    if memory is not None:
        keep_to(memory)
    if talk.quiet:
        from descend.engines import kernel_cache

        kernel_cache.quiet()
    from descend.sources import open_source
    from descend.store.face import file_job

    choice: dict[str, Any] = {
        "target": given["target"],
        "drop": arguments.names(given["drop"]),
        "columns": arguments.names(given["columns"]) or None,
        "weights": given["weights"],
    }
    return file_job(
        data,
        given["output"],
        choice,
        partial(arguments.with_options, open_source),
        task=task,
        seed=int(given["seed"]),
        memory_limit=memory,
        threads=threads,
        force=given["force"],
        append=given["append"],
    )


def _carry_out(job: Job, talk: Talk) -> Store:
    from descend.store.ingesting import run
    from descend.store.plan import can_go_on

    line = StatusLine(talk)
    show = None if talk.quiet else IngestLine(line, job)

    def follow(progress: Progress) -> None:
        interrupts.raise_lost()  # libraries that are loaded under way may have caught what the signal raised
        if show is not None:
            show(progress)

    job.on_progress = follow
    try:
        with Interrupts() as interrupts:
            return run(job)
    except KeyboardInterrupt:
        line.clear()
        shown = shorten(str(job.folder), 200)
        if job.is_published:
            raise InterruptedRunError(
                f"interrupted; the store was whole by then, and is in {shown}"
            ) from None
        if not can_go_on(job.folder):
            raise
        raise InterruptedRunError(
            f"interrupted; all rows were read, and the blocks so far are kept in {shown}. "
            "Run the same command again to go on"
        ) from None
    finally:
        line.clear()


def _tell(talk: Talk, job: Job, store: Store, seconds: float) -> None:
    from descend.report import formatting

    layout = store.layout
    kind = "sparse" if layout.sparse else layout.dtype.name
    columns, encoded = formatting.count(len(job.source.column_names)), formatting.count(layout.num_columns)
    talk.note("data", f"{shorten(job.source.name)}: {columns} columns, encoded as {encoded} ({kind})")
    talk.note("task", store.target().reason)
    talk.notes((*job.notes, *store.notes))
    talk.note("", "")
    talk.note(
        "store",
        f"{job.folder}: {formatting.count(layout.num_rows)} rows in "
        f"{formatting.counted(layout.num_blocks, 'block')}, {formatting.size(store.num_bytes)}, "
        f"in {formatting.duration(seconds)}",
    )
    talk.json(
        {
            "store": str(job.folder),
            "rows": layout.num_rows,
            "columns": layout.num_columns,
            "blocks": layout.num_blocks,
            "block_rows": layout.block_rows,
            "bytes": store.num_bytes,
            "dtype": layout.dtype.name,
            "sparse": layout.sparse,
            "task": store.task,
            "seconds": seconds,
            "notes": [*job.notes, *store.notes],
        }
    )


class IngestLine:
    """Rows done, and the time that is left, from the bytes of the files that were read."""

    def __init__(self, line: StatusLine, job: Job) -> None:
        self.line, self.name = line, shorten(job.source.name)
        self._bytes = sum(path.stat().st_size for path in job.files)
        self._began = self._stage_began = time.monotonic()
        self._read_before = _bytes_read()
        self._stage = "reading"

    def __call__(self, progress: Progress) -> None:
        from descend.report import formatting

        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._stage_began = progress.stage, now
        done = self._share(progress)
        if now - self._began < 0.3:
            return
        text = f"{progress.stage} {self.name}: {formatting.count(progress.rows)} rows"
        if progress.total:
            text += f" of {formatting.count(progress.total)}"
        left = self._left(done, now)
        if left is not None:
            text += f", {formatting.duration(left)} left"
        self.line.show(text)

    def _share(self, progress: Progress) -> float | None:
        """Which share of this stage is done; None where it cannot be told."""
        if progress.total:
            return progress.rows / progress.total
        read = _bytes_read()
        if read is None or self._read_before is None or not self._bytes:
            return None
        return min(1.0, (read - self._read_before) / self._bytes)

    def _left(self, done: float | None, now: float) -> float | None:
        if not done or now - self._stage_began < 1.0:
            return None
        stage = (now - self._stage_began) / done
        rest = stage * (1.0 - done)
        return rest + stage * WRITING_SHARE / (1.0 - WRITING_SHARE) if self._stage == "reading" else rest


def _bytes_read() -> int | None:
    """Bytes this process has read so far; None where the system does not tell."""
    import psutil

    try:
        return int(psutil.Process().io_counters().read_chars)
    except (AttributeError, psutil.Error, OSError):
        return None
