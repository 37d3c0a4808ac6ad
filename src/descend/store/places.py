"""The folder that a store goes into: whether it may, whether it fits, and what is left behind."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from descend import locks
from descend.errors import InputError, OutputError, shorten
from descend.files import check_output
from descend.store import plan as plans
from descend.store.manifest import Manifest
from descend.store.opening import is_store

SPARE_BYTES = 16 * 2**20
"""Left free on a disk: a full one is no place for anybody."""


def prepare_folder(folder: Path, force: bool, append: bool, make: bool = True) -> None:
    """Have a folder that a store may be written into, or only check that there could be one."""
    shown = repr(shorten(str(folder), 200))
    if append and not is_store(folder):
        raise InputError(
            f"output {shown} is no store that rows could be added to; leave --append out to write one"
        )
    if folder.is_dir():
        if is_store(folder):
            if not (force or append or (folder / plans.FOLDER).exists()):  # else it may be this ingest's own
                raise exists_already(folder)
        elif any(p.name not in (plans.FOLDER, locks.NAME) and not _is_part(p) for p in folder.iterdir()):
            raise InputError(
                f"output {shown} is a folder that holds other things; name one that does not exist, or an empty one"
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"output {shown} cannot be written; choose another folder")
        return
    if folder.exists():
        raise InputError(f"output {shown} is a file; give the name of a folder")
    check_output(folder)
    if not make:
        return
    try:
        folder.mkdir()
    except OSError as error:
        raise InputError(f"output {shown} cannot be made: {error.strerror}; choose another place") from error


def exists_already(folder: Path) -> InputError:
    """The message for a store that is there."""
    return InputError(
        f"output {shorten(str(folder), 200)!r} holds a store already; choose another folder, replace it with --force "
        "(force=True), or add to it with --append"
    )


def refuse_full_disk(folder: Path, needed: int, what: str) -> None:
    """OutputError where ``needed`` bytes do not fit the disk."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise OutputError(
            f"{what} needs {needed / 1e6:,.0f} MB and {SPARE_BYTES / 1e6:,.0f} MB to spare, but {free / 1e6:,.0f} MB "
            f"are free in {shorten(str(folder), 200)!r}; free some space, or choose another disk"
        )


def tidy(folder: Path, kept: Manifest | None, keep: bool = False) -> None:
    """Take away blocks that no manifest names and the working folder; ``keep`` leaves what can be gone on with.

    The folder goes last: as long as it is there whoever comes after a kill knows what was going on.
    """
    if keep and plans.can_go_on(folder):
        return
    named = set() if kept is None else {record.file for record in kept.blocks}
    for place in folder.iterdir():
        if _is_part(place) and place.name not in named:
            with suppress(OSError):
                place.unlink()
    plans.remove_work(folder / plans.FOLDER)


def _is_part(path: Path) -> bool:
    """Whether a killed ingest may have left this: a block, one half-written, or a manifest before it was renamed."""
    name = path.name
    is_block = name.startswith("block-") and name.endswith((".bin", ".bin.part"))
    return is_block or (name.startswith(".descend-") and name.endswith(".tmp"))
