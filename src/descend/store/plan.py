"""What an ingest that was cut short left, so that the next one goes on: a plan, runs of rows, and a list of blocks.

All of it lies in ``.ingest`` inside the store's folder. The plan is written when all rows were read and scattered;
from then on nothing of the source is needed. Without a plan an ingest begins again.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from descend.errors import OutputError, SourceError, shorten
from descend.features.features import Features
from descend.features.kinds import Kind
from descend.features.target import Target
from descend.store.block_files import BlockRecord, read_block, write_all
from descend.store.encoding import RecordEncoder
from descend.store.layout import Layout
from descend.store.manifest import Manifest, pack, unpack, write_whole
from descend.store.packing import Packer
from descend.store.records import RecordFormat
from descend.store.spill import Run, Spill, cells_json, restored, storage_error

FOLDER = ".ingest"
PLAN, BLOCKS = "plan.json", "blocks.jsonl"


@dataclass
class Plan:
    """All that the second pass needs besides the runs. ``draft`` is the manifest to be, without its blocks."""

    identity: dict[str, Any]
    draft: Manifest
    kinds: dict[str, Kind]
    texts: dict[str, list[str]]
    labels: list[str] | None
    booleans: bool
    has_weights: bool
    before: int = 0
    """Rows of the store that these follow."""

    @classmethod
    def of(cls, identity: dict[str, Any], draft: Manifest, packer: Packer, before: int = 0) -> Plan:
        return cls(
            identity,
            draft,
            dict(packer.kinds),
            {name: codes.texts for name, codes in packer.texts.items()},
            None if packer.labels is None else packer.labels.texts,
            packer.has_booleans,
            packer.format is not None and packer.format.has_weights,
            before,
        )

    def encoder(self, features: Features, target: Target) -> RecordEncoder:
        return RecordEncoder(
            features,
            target,
            self.kinds,
            self.texts,
            self.labels,
            self.booleans,
            self.draft.layout.dtype,
            self.has_weights,
        )


def write_plan(work: Path, plan: Plan, spill: Spill) -> None:
    """From here on the ingest can be gone on with; the runs are on the disk before."""
    assert spill.form is not None
    spill.sync()
    value = {
        "identity": plan.identity,
        "draft": pack(plan.draft).decode(),
        "kinds": plan.kinds,
        "texts": plan.texts,
        "labels": plan.labels,
        "booleans": plan.booleans,
        "has_weights": plan.has_weights,
        "before": plan.before,
        "format": asdict(spill.form),
        "buckets": spill.buckets,
        "runs": [run.to_json() for run in spill.runs],
        "cells": cells_json(spill.histogram),
    }
    text = json.dumps(value)
    write_whole(work / PLAN, json.dumps({"check": zlib.crc32(text.encode()), "plan": text}).encode())


def read_plan(work: Path) -> Plan | None:
    """The plan of an ingest that was cut short, its runs be there or not; None where there is none that is whole."""
    found = _content(work)
    return None if found is None else found[0]


def read_left(work: Path) -> tuple[Plan, Spill] | None:
    """The plan and the runs of an ingest that was cut short; None where they are not all there."""
    try:
        found = _content(work)
        if found is None:
            return None
        plan, value = found
        form = RecordFormat(**value["format"])
        runs = [Run(**run) for run in value["runs"]]
        if any((work / run.file).stat().st_size != run.starts[-1] for run in runs):
            return None
        return plan, restored(work, form, value["buckets"], runs, value["cells"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _content(work: Path) -> tuple[Plan, dict[str, Any]] | None:
    try:
        outer = json.loads((work / PLAN).read_bytes())
        if zlib.crc32(outer["plan"].encode()) != outer["check"]:
            return None
        value = json.loads(outer["plan"])
        draft = unpack(value["draft"].encode(), work / PLAN, is_draft=True)
        names = ("identity", "kinds", "texts", "labels", "booleans", "has_weights", "before")
        return Plan(draft=draft, **{name: value[name] for name in names}), value
    except (OSError, ValueError, KeyError, TypeError, SourceError):
        return None


def note_block(work: Path, number: int, record: BlockRecord) -> None:
    """Note that a block is whole."""
    line = json.dumps({"number": number, **record.to_json()}) + "\n"
    try:
        with (work / BLOCKS).open("ab", buffering=0) as file:
            write_all(file, memoryview(line.encode()))
    except OSError as error:
        raise storage_error(work / BLOCKS, error) from error


def whole_blocks(folder: Path, work: Path, layout: Layout) -> dict[int, BlockRecord]:
    """Blocks that were noted and are whole still, by their numbers; each is read and verified."""
    found = {}
    with suppress(OSError):
        for line in (work / BLOCKS).read_text().splitlines():
            with suppress(ValueError, KeyError, TypeError, OSError, SourceError, OutputError):
                value: dict[str, Any] = json.loads(line)
                number = int(value.pop("number"))
                record = BlockRecord(**value)
                read_block(folder / record.file, record, layout)
                found[number] = record
    return found


def can_go_on(folder: Path) -> bool:
    """Whether an ingest into this folder was cut short after all rows were read."""
    return (folder / FOLDER / PLAN).is_file()


def remove_work(work: Path) -> None:
    """Take the working folder away, whatever is in it; the plan last, for it tells what was done already."""
    with suppress(OSError):
        for place in work.iterdir():
            if place.name != PLAN:
                with suppress(OSError):
                    place.unlink()
    shutil.rmtree(work, ignore_errors=True)


def differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """What differs between two ingests, in words; nothing where one can go on with the other."""
    told = []
    files_then = {name: rest for name, *rest in then.get("files", [])}
    for name, *rest in now.get("files", []):
        before = files_then.pop(name, None)
        if before is None:
            told.append(f"{_named(name)} was not there")
        elif before != rest:
            told.append(f"{_named(name)} has changed")
    told += [f"{_named(name)} is not there any more" for name in files_then]
    names = sorted({*now, *then} - {"files"})
    told += [f"{name} was {then.get(name)!r}" for name in names if now.get(name) != then.get(name)]
    return told


def _named(path: str) -> str:
    return shorten(Path(path).name)
