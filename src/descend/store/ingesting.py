"""From any source to a block store: every row read once, scattered at random, encoded and written in blocks.

The order of the rows is that of their random keys (``keys.py``): exactly uniform, whatever memory and threads. An
ingest that is cut short goes on with the next block, once all rows were read; before that it begins again.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from descend import locks, machine
from descend.coded_rows import SMALL
from descend.errors import OutputError, SourceError, shorten
from descend.features.features import Features
from descend.features.prepare import FEWEST_CODED
from descend.features.statistics_json import dump_statistics, dump_target_statistics
from descend.features.target import Target
from descend.files import flush_folder
from descend.store import appending
from descend.store import manifest as manifests
from descend.store import plan as plans
from descend.store.block_products import has_products
from descend.store.budget import Budget, budget, reading_bytes
from descend.store.building import Builder
from descend.store.gathering import Gathered, gather
from descend.store.job import Job, Progress
from descend.store.keys import RowKeys
from descend.store.layout import Layout, block_name, rows_of_block
from descend.store.manifest import Manifest
from descend.store.opening import Store, is_store, open_store
from descend.store.places import exists_already, prepare_folder, refuse_full_disk, tidy
from descend.store.plan import Plan
from descend.store.spill import Spill, num_buckets
from descend.types import Source, Task

UNKNOWN_SIZE = 64
"""How many times the memory for rows a source of unknown size is taken to be."""


def ingest(
    source: Source,
    folder: str | os.PathLike[str],
    *,
    task: Task | None = None,
    seed: int = 0,
    memory_limit: int | None = None,
    threads: int | None = None,
    force: bool = False,
    append: bool = False,
    **more: Any,
) -> Store:
    """Write the rows of ``source`` in random order as a block store into ``folder``, and open it.

    ``memory_limit`` in bytes bounds what the process may hold (default: what is free); ``force`` replaces a store
    that is there, at once and when the new one is whole; ``append`` adds the rows to it. Equal sources and seeds give
    equal stores.

    >>> import tempfile
    >>> from descend.sources import array_source
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ingest(array_source([[1.0], [2.0], [3.0]], y=[0, 1, 1]), folder)
    >>> store.num_rows, store.task
    (3, 'classification')
    """
    job = Job(source, Path(folder), task, seed, memory_limit, threads, force, append, **more)
    return run(job)


def run(job: Job) -> Store:
    """Carry out an ingest into a folder that is locked meanwhile, and leave a whole store or nothing new."""
    was_there = job.folder.exists()
    try:
        prepare_folder(job.folder, job.force, job.append)
        with locks.hold(job.folder, what="store"):
            before = _before(job)
            if before is not None and not (job.force or job.append):
                if not _was_written(job, before):
                    raise exists_already(job.folder)
                tidy(job.folder, before)
                job.notes.append("the store was whole already when the ingest was cut short")
                return open_store(job.folder)
            if before is not None and job.append:
                appending.match_columns(job.source, before)
                if _was_added(job, before):
                    tidy(job.folder, before)
                    return open_store(job.folder)
            try:
                finished = _finished(job, before)
            except BaseException as error:
                tidy(job.folder, before, keep=isinstance(error, KeyboardInterrupt))
                raise
            _publish(job, finished, before)
    finally:
        if not was_there:
            with suppress(OSError):  # which is not empty unless the ingest failed
                job.folder.rmdir()
    return open_store(job.folder)


def _before(job: Job) -> Manifest | None:
    """The manifest of the store that is there. One that is damaged names no blocks: ``force`` replaces it."""
    if not is_store(job.folder):
        return None
    if job.force and manifests.is_damaged(job.folder):
        job.notes.append(f"{manifests.NAME} was damaged: that store is replaced as a whole")
        return None
    return open_store(job.folder).manifest


def _finished(job: Job, before: Manifest | None) -> Manifest:
    """The manifest of the whole store; its blocks are written."""
    limit = job.memory_limit or machine.automatic_memory_limit()
    threads = job.threads or machine.usable_cores()
    shares = budget(limit, threads, reading_bytes(job.source))
    found = _left(job, before)
    done = {}
    if found is not None:
        plan, spill = found
        done = plans.whole_blocks(job.folder, job.work, plan.draft.layout)
        job.notes.append(
            f"an ingest that was cut short is gone on with: all rows were read, and {len(done):,} of "
            f"{plan.draft.layout.num_blocks:,} blocks are there"
        )
    else:
        tidy(job.folder, before)
        plan, spill = _scatter(job, before, shares)
    features = Features.from_json(plan.draft.features)
    target = _target(plan.draft)
    _check_space(job.folder, plan.draft.layout, spill, done)
    generation = plan.draft.generation
    layout = plan.draft.layout
    written = plan.before + sum(record.rows for record in done.values())
    kept, head = ((), None)
    if before is not None and job.append:
        kept, head = appending.full_blocks(before), appending.head_of(job.folder, before)

    def note(number: int, record: Any) -> None:
        nonlocal written
        written = min(layout.num_rows, written + record.rows)
        if spill.runs:
            plans.note_block(job.work, number, record)
        job.on_progress(Progress("writing", written, layout.num_rows))

    builder = Builder(
        job.folder,
        layout,
        plan.encoder(features, target),
        lambda n: block_name(n, generation),
        shares.threads,
        note,
    )
    with machine.one_blas_thread():
        blocks = builder.build(spill, shares.share_bytes, done, plan.before, head)
    return replace(plan.draft, blocks=(*kept, *blocks))


def _left(job: Job, before: Manifest | None) -> tuple[Plan, Spill] | None:
    """What an equal ingest left when it was cut short; a note where another one did."""
    found = plans.read_left(job.work)
    if found is None:
        return None
    told = plans.differences(job.identity(before), found[0].identity)
    if told:
        job.notes.append(f"an ingest that was cut short is begun again: {'; '.join(told[:3])}")
        return None
    return found


def _was_written(job: Job, before: Manifest) -> bool:
    """Whether the store that is there is what this ingest wrote before it was cut short behind its last step."""
    found = plans.read_plan(job.work)
    if found is None or found.draft.generation != before.generation:
        return False
    return not plans.differences(job.identity(None), found.identity)


def _was_added(job: Job, before: Manifest) -> bool:
    """Whether these rows are what an append added that was cut short behind its last step."""
    found = plans.read_plan(job.work)
    if found is None or found.draft.generation != before.generation:
        return False
    then = found.identity
    if plans.differences(job.identity(before) | {"after": None}, then | {"after": None}):
        return False
    job.notes.append("these rows were added already when the ingest was cut short")
    return True


def _scatter(job: Job, before: Manifest | None, shares: Budget) -> tuple[Plan, Spill]:
    """The first pass, and all decisions that follow from it."""
    identity = job.identity(before)
    hint: Task | None = getattr(job.source, "task", None) if job.task is None else job.task
    try:
        job.work.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{shorten(str(job.work), 200)!r} cannot be made: {error.strerror}") from error
    gathered = gather(
        job.source,
        hint,
        lambda: RowKeys(job.seed, before.generation + 1 if before is not None and job.append else 0),
        lambda: new_spill(job, shares),
        lambda rows: job.on_progress(Progress("reading", rows)),
    )
    if job.identity(before)["files"] != identity["files"]:
        raise SourceError(f"{job.source.name} changed while it was read; leave its files alone and try again")
    if before is not None and job.append:
        draft = appending.extended(job.source, before, gathered)
        plan = Plan.of(identity, draft, gathered.packer, before.layout.num_rows)
        if not gathered.spill.runs:
            gathered.spill.flush()  # so that there is a plan, which tells rows that were added from those to come
    else:
        draft = _draft(job, gathered, hint, 0 if before is None else before.generation + 1)
        plan = Plan.of(identity, draft, gathered.packer)
    if gathered.spill.runs:
        plans.write_plan(job.work, plan, gathered.spill)
    return plan, gathered.spill


def new_spill(job: Job, shares: Budget) -> Spill:
    """An empty spill; runs of an earlier beginning go."""
    for place in job.work.glob("run-*.bin"):
        place.unlink(missing_ok=True)
    expected = job.expected_bytes or UNKNOWN_SIZE * shares.run_bytes
    return Spill(job.work, shares.run_bytes, num_buckets(expected, shares.share_bytes))


def _draft(job: Job, gathered: Gathered, hint: Task | None, generation: int) -> Manifest:
    """What is decided once all rows were seen: encoding, target, and the shape of the store."""
    columns = gathered.columns
    features = Features.from_statistics(columns)
    target = Target.from_statistics(gathered.target, hint)
    notes = [*getattr(job.source, "notes", ()), *gathered.notes, *features.notes]
    return Manifest(
        _layout(gathered, features, target),
        (),
        name=job.source.name,
        seed=job.seed,
        features=features.to_json(),
        task=target.task,
        task_given=hint,
        columns=dump_statistics(columns),
        target=dump_target_statistics(gathered.target),
        generation=generation,
        notes=tuple(notes),
        selection=job.selection,
    )


def _layout(gathered: Gathered, features: Features, target: Target) -> Layout:
    form = gathered.packer.format
    assert form is not None
    n, d = gathered.spill.num_rows, features.num_columns
    stored = gathered.columns.stored
    small = stored in SMALL and features.is_scaling and n * d >= FEWEST_CODED
    dtype = np.dtype(stored) if small else np.dtype(np.float32)
    outputs = len(target.mean) if target.task == "regression" else 1
    if form.sparse:
        numbers = (gathered.spill.num_bytes - n * form.dtype.itemsize) / (4 + np.dtype(form.number).itemsize)
        row = 8 + (dtype.itemsize + 4) * numbers / n
    else:
        row = d * dtype.itemsize
    rows = rows_of_block(row + 8 * outputs + 8 * form.has_weights)
    products = has_products(d, outputs, dtype, plain=not (form.sparse or form.has_weights))
    return Layout(n, d, dtype, rows, form.has_weights, outputs, form.sparse, products)


def _target(draft: Manifest) -> Target:
    from descend.features.statistics_json import load_target_statistics

    return Target.from_statistics(load_target_statistics(draft.target), draft.task)  # type: ignore[arg-type]


def _check_space(folder: Path, layout: Layout, spill: Spill, done: dict[int, Any]) -> None:
    """Refuse now what would fill the disk later."""
    rows = max(0, spill.num_rows - sum(record.rows for record in done.values()))
    if layout.sparse:
        needed = spill.num_bytes * rows // max(1, spill.num_rows)
    else:
        needed = rows * (layout.row_bytes + 8 * layout.num_outputs + 8 * layout.has_weights)
        needed += 8 * layout.products_size * (-(-rows // layout.block_rows))
    refuse_full_disk(folder, needed, "the store")


def _publish(job: Job, finished: Manifest, before: Manifest | None) -> None:
    """Make the store whole in one step, then take away what it replaces.

    Runs of many gigabytes take a while to go: who ends the ingest meanwhile has a whole store, and none of them.
    """
    flush_folder(job.folder)  # the blocks' names are on the disk before anything names them
    try:
        manifests.write_manifest(job.folder, finished)
    except OutputError:
        tidy(job.folder, before)
        raise
    job.is_published = True
    try:
        tidy(job.folder, finished)
    except KeyboardInterrupt:
        tidy(job.folder, finished)
        raise
