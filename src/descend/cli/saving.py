"""``--checkpoint`` and ``--resume``: the folder of a run, and which files a resumed run may replace."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.errors import InputError, shorten
from descend.files import write_atomically

if TYPE_CHECKING:
    from descend.checkpoint import Checkpoint
    from descend.cli.talk import Talk

OUTPUTS = "outputs.json"
"""In the folder: which files the run's command has written, with their checksums."""


def check_saving(given: dict[str, Any]) -> None:
    """Raise now for what cannot be meant."""
    if given["resume"] and given["checkpoint"] is None:
        raise InputError("--resume needs --checkpoint, the folder that it goes on from")
    if given["checkpoint"] == "":
        raise InputError("--checkpoint is empty; give the name of a folder")


@contextmanager
def saved_into(given: dict[str, Any], talk: Talk) -> Iterator[Checkpoint | None]:
    """The run's folder, held until the command ends; None where none is wanted."""
    if given["checkpoint"] is None:
        yield None
        return
    from descend.checkpoint import opened

    with opened(given["checkpoint"], given["resume"]) as checkpoint:
        talk.notes(checkpoint.notes)
        if checkpoint.found is not None:
            found = checkpoint.found
            talk.note(
                "checkpoint", f"a run that was saved after {found.seconds:.3g} s, {found.epochs:.4g} epochs"
            )
        yield checkpoint


def own_outputs(given: dict[str, Any]) -> dict[str, Path]:
    """What this run's command wrote before it was resumed, as long as nobody has changed it since."""
    if not given["resume"]:
        return {}
    try:
        written = json.loads((Path(given["checkpoint"]) / OUTPUTS).read_bytes())
        return {
            option: Path(path) for option, (path, digest) in written.items() if _digest(Path(path)) == digest
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # then --force has to say so


def remember_outputs(checkpoint: Checkpoint | None, **paths: Path | None) -> None:
    """So that the same command with --resume may replace them."""
    if checkpoint is None:
        return
    written = {name: (str(path.resolve()), _digest(path)) for name, path in paths.items() if path is not None}
    write_atomically(checkpoint.folder / OUTPUTS, json.dumps(written), force=True)


def how_to_go_on(checkpoint: Checkpoint | None) -> str:
    """The end of a sentence about a run that was interrupted; empty where nothing was saved."""
    if checkpoint is None or checkpoint.saved is None:
        return ""
    return (
        f"the run as it was after {checkpoint.saved_epochs:.4g} epochs is saved in "
        f"{shorten(str(checkpoint.folder), 200)!r}: run the command again with --resume to go on"
    )


def had_ended(checkpoint: Checkpoint | None, stopped: str) -> bool:
    """Whether the run that was found had nothing left to do."""
    if checkpoint is None or checkpoint.found is None:
        return False
    return checkpoint.saved == checkpoint.found.place and stopped != "interrupted"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
