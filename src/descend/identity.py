"""Which run a checkpoint is of: data, columns, settings and phases, so that one of others is refused by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from descend.errors import InputError, shorten
from descend.machine import cpu_model, package_versions
from descend.recipe import WHOLE, Phase
from descend.settings import Settings
from descend.types import Dataset, FloatArray
from descend.updates.schedules import ENDING, find_schedule

if TYPE_CHECKING:
    from descend.features import Prepared

Identity: TypeAlias = dict[str, Any]
"""JSON: what a run depends on, by name."""
MAY_CHANGE = ("seconds", "threads", "epochs")
"""Settings that a run may be gone on with at other values; of ``epochs`` the phases have a say."""
SAMPLE, SAMPLE_NUMBERS = 4096, 4_000_000
"""The rows that are told apart number by number; they are in random order. All labels are, and all rows' means."""
ENDS = frozenset(find_schedule(name) for name in ENDING)


def identity_of(
    model: str, prepared: Prepared, settings: Settings, phases: Sequence[Phase], initial: FloatArray | None
) -> Identity:
    """What the result of a run follows from."""
    target = prepared.target
    options = {name: value for name, value in asdict(settings).items() if name not in MAY_CHANGE}
    held_out = prepared.validation
    return {
        "model": model,
        "rows": prepared.train.num_rows,
        "validation rows": 0 if held_out is None else held_out.num_rows,
        "target": target.name,
        "classes": [str(label) for label in target.classes],
        "columns": list(prepared.features.names),
        "options": json.loads(json.dumps(options, default=lambda value: value.item())),
        "epochs": settings.epochs,
        "phases": [described(phase) for phase in phases],
        "weights": digest(prepared.train.weights),
        "labels": digest(prepared.train.y),
        "encoding": digest_of_columns(prepared),
        "data": digest_of_rows(prepared.train),
        "validation data": None if held_out is None else digest_of_rows(held_out),
        "first parameters": digest(initial),
        "made with": made_with(),
    }


def made_with() -> dict[str, str]:
    """What the last digits of a run follow from besides: whose arithmetic it is."""
    versions = package_versions()
    return {"processor": cpu_model()} | {
        name: versions.get(name, "none") for name in ("descend", "numpy", "scipy", "numba")
    }


def note_of_makers(there: Identity, here: Identity) -> list[str]:
    """What to say where the first part of a run was computed by other means."""
    before, now = there["made with"], here["made with"]
    others = [f"{name} {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name]]
    if not others:
        return []
    return [
        f"the run was begun with {'; '.join(others)}: it may differ in its last digits from one that was not resumed"
    ]


def refuse_others(there: Identity, here: Identity, epoch: int, shown: str) -> None:
    """Raises ``InputError`` naming the first thing in which two runs differ, with both values.

    ``epoch``: how far the one that is there has come.
    """
    if there["model"] != here["model"]:
        raise _other(shown, "model", there["model"], here["model"])
    _check_size(there, here, shown)
    for name, value in here["options"].items():
        if there["options"].get(name) != value:
            raise _other(shown, name, there["options"].get(name), value)
    for name in ("target", "validation rows", "rows"):
        if there[name] != here[name]:
            raise _other(shown, name, there[name], here[name])
    _check_names("column", there["columns"], here["columns"], shown)
    _check_names("class", there["classes"], here["classes"], shown)
    _check_epochs(there, here, epoch, shown)
    for name in ("weights", "labels", "encoding", "data", "validation data", "first parameters"):
        if there[name] != here[name]:
            raise InputError(
                f"checkpoint {shown} is of a run with other {name}: checksum {there[name]} there, {here[name]} here; "
                "give it the same data, or name another folder"
            )


def described(phase: Phase) -> dict[str, Any]:
    """A phase as JSON, without the rates: they follow from everything else."""
    rule = phase.rule
    ends = rule.schedule in ENDS
    return {
        "name": phase.name,
        "batch_size": phase.batch_size,
        "epochs": phase.epochs,
        "schedule": rule.schedule,
        "num_steps": rule.num_steps if ends else None,
    }


def digest(values: Any) -> str | None:
    """16 digits that tell arrays apart; None of None."""
    if values is None:
        return None
    array = np.ascontiguousarray(values)
    return hashlib.blake2b(array.data.cast("B") if array.size else b"", digest_size=8).hexdigest()


def digest_of_rows(data: Dataset) -> str:
    """The same of the first rows, as numbers: a store may be loaded now and streamed then."""
    few = min(data.num_rows, max(SAMPLE, SAMPLE_NUMBERS // max(1, data.num_columns)))
    X: Any = data.X[slice(few)]
    parts = (X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)) if data.is_sparse else (X,)
    return " ".join(str(digest(part)) for part in parts)


def digest_of_columns(prepared: Prepared) -> str | None:
    """The same of how columns are encoded: their means and deviations are of all rows together."""
    text = json.dumps(prepared.features.to_json(), sort_keys=True)
    return digest(np.frombuffer(text.encode(), np.uint8))


def _check_size(there: Identity, here: Identity, shown: str) -> None:
    """Data of another size come before the settings, of which some follow from it: whether rows are held out."""
    before, now = (one["rows"] + one["validation rows"] for one in (there, here))
    if there["rows"] != here["rows"] and before != now:
        raise InputError(
            f"checkpoint {shown} is of a run on data of {before:,} rows, these are {now:,}; "
            "give it the same data, or name another folder"
        )


def _check_names(kind: str, there: list[str], here: list[str], shown: str) -> None:
    for name in there:
        if name not in here:
            raise InputError(
                f"checkpoint {shown} is of a run with the {kind} {shorten(name)!r}, which is not here; "
                "give it the same data, or name another folder"
            )
    for name in here:
        if name not in there:
            raise InputError(
                f"checkpoint {shown} is of a run without the {kind} {shorten(name)!r}, which is here; "
                "give it the same data, or name another folder"
            )
    if there != here:
        raise InputError(
            f"checkpoint {shown} is of a run with {kind}s in another order; "
            "give it the same data, or name another folder"
        )


def _check_epochs(there: Identity, here: Identity, epoch: int, shown: str) -> None:
    """Another number of epochs is that of the same run only where nothing but its end follows from it."""
    before, now = there["epochs"], here["epochs"]
    same_phases = [p | {"epochs": 0} for p in there["phases"]] == [p | {"epochs": 0} for p in here["phases"]]
    if before == now and same_phases:
        return
    if before is None or now is None:
        raise _other(shown, "epochs", before, now)
    if now < epoch:
        raise InputError(
            f"checkpoint {shown} is in epoch {epoch} already; epochs is {now}, give {epoch} or more"
        )
    shares = [p["epochs"] for p in there["phases"][:-1]] != [p["epochs"] for p in here["phases"][:-1]]
    searches = any(p["name"] in WHOLE for p in here["phases"])
    if not same_phases or shares or searches:
        why = (
            "its line searches end"
            if searches and same_phases
            else "its learning rate falls by shares of them"
        )
        raise InputError(
            f"checkpoint {shown} is of a run with epochs {before}, and {now} are wanted, which would not be the same "
            f"run: {why}; give {before}, or name another folder"
        )


def _other(shown: str, name: str, there: object, here: object) -> InputError:
    return InputError(
        f"checkpoint {shown} is of a run with {name} {_word(there)}, this one has {_word(here)}; "
        "give it the same, or name another folder"
    )


def _word(value: object) -> str:
    if isinstance(value, float) and isfinite(value):
        return f"{value:g}"
    return shorten(value if isinstance(value, str) else json.dumps(value))
