"""A run on the disk, to the batch: module, optimizer, schedule, scaler, random numbers, position, history.

Two files in the caller's folder take turns (``turns.py``). Each begins with a line that has the checksum of the rest,
which is read with ``weights_only``: tensors, numbers and texts, nothing that is executed.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descend.errors import InputError, ModelFileError, shorten
from descend.history import History
from descend.torch.batches import Batches
from descend.torch.modes import device_of, random_state, set_random_state
from descend.torch.nested import tensors_of
from descend.torch.rows import named
from descend.torch.scheduling import Schedule
from descend.torch.snapshots import Snapshot, copied, restore
from descend.torch.steps import CHECKPOINT, DATA
from descend.torch.watching import Watch
from descend.turns import Turns, held

NAMES = ("run-1.pt", "run-2.pt")
FORMAT = "descend.torch.run"
VERSION = 1
SAMPLE = 4096
"""Rows whose checksum tells data apart."""


@contextmanager
def opened(folder: str | Path | None, resume: bool) -> Iterator[Path | None]:
    """Makes and holds the folder of a run; None where none is wanted."""
    if folder is None:
        yield None
        return
    with held(folder, NAMES, resume, how="pass resume=True") as place:
        yield place


class Checkpoint:
    """The folder of one run. ``settings``: what it depends on besides, by name; of ``None`` nothing is known."""

    def __init__(
        self,
        folder: Path,
        module: Any,
        optimizer: Any,
        schedule: Schedule,
        scaler: Any,
        batches: Batches,
        settings: dict[str, Any],
        seconds: float | None = None,
        tuner: Any = None,
    ) -> None:
        self.tuner = tuner
        self.folder = folder
        self.module, self.optimizer, self.schedule = module, optimizer, schedule
        self.scaler, self.batches, self.settings = scaler, batches, settings
        self._found, self._serial, self._damaged = _newest(folder)
        newest = None if self._found is None else self._found[0].name
        self._is_readable = False
        self.turns = Turns(folder, NAMES, newest, seconds)
        self.turns.expect(2 * sum(value.nbytes for value in copied(module).values()))

    def save(self, watch: Watch) -> None:
        """Writes where the run is."""
        watch.place.doing = CHECKPOINT
        self._serial += 1
        if not self._is_readable:
            _check_readable(_packed(self._state(watch)))
            self._is_readable = self.tuner is None or self.tuner.is_found  # a schedule may come with the rate
        left = "what was saved before is whole, and resume=True goes on from it"
        # Packed again, so that what that costs is counted: it decides how often there is time for it.
        self.turns.write(
            lambda: _packed(self._state(watch)), left if self._serial > 1 else "nothing was saved yet"
        )
        watch.place.doing = DATA

    def load(self, watch: Watch) -> bool:
        """Goes back to where the run was; False where there is none. Raises ``InputError`` for another's."""
        if self._found is None:
            return False
        path, state = self._found
        shown = f"checkpoint {shorten(str(path), 200)!r}"
        self.batches.load_state_dict(state["batches"])
        for name, value in self.settings.items():
            before = state["settings"].get(name)
            if before is not None and value is not None and before != value:
                raise InputError(
                    f"{shown} is of a run with {name} {before}, this one has {value}; give it the same, or name "
                    "another folder"
                )
        own = copied(self.module)
        if {name: value.shape for name, value in own.items()} != {
            n: v.shape for n, v in state["module"].items()
        }:
            raise InputError(f"{shown} is of a module of other layers; pass the module that it is of")
        self._load_tuner(shown, state.get("rate"))
        self._load_optimizer(shown, state["optimizer_class"], state["optimizer"])
        if self.tuner is not None:
            self.tuner.set_rates()
        restore(self.module, state["module"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        _set_random_states(state["random"], device_of(self.module))
        _put_back(watch, state["watch"])
        watch.history.notes += self._damaged
        return True

    def _load_tuner(self, shown: str, rate: dict[str, Any] | None) -> None:
        if (rate is None) != (self.tuner is None):
            ways = ('is found ("auto")', "is given, or the optimizer's own")
            raise InputError(
                f"{shown} is of a run whose learning_rate {ways[rate is None]}, and in this one it "
                f"{ways[rate is not None]}; give it the same, or name another folder"
            )
        if rate is not None:
            self.tuner.load_state_dict(rate)

    def _load_optimizer(self, shown: str, kind: str, state: dict[str, Any]) -> None:
        own = type(self.optimizer).__qualname__
        try:
            if kind != own:
                raise ValueError(f"that is {kind}, this is {own}")
            self.optimizer.load_state_dict(state)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{shown} is of another optimizer: {error}; pass the optimizer that it is of"
            ) from error

    def _state(self, watch: Watch) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "serial": self._serial,
            "settings": self.settings,
            "module": copied(self.module),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_class": type(self.optimizer).__qualname__,
            "schedule": self.schedule.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "random": _random_states(device_of(self.module)),
            "batches": self.batches.state_dict(),
            "rate": None if self.tuner is None else self.tuner.state_dict(),
            "watch": {
                "place": (watch.place.step, watch.place.epoch, watch.place.batch),
                "seconds": watch.seconds,
                "rows": watch.rows,
                "loss": (watch.loss_sum, watch.loss_rows),
                "first": None if watch.first is None else float(watch.first),
                "history": watch.history.to_json(),
                "flat_since": watch.flat_since,
                "best": _snapshot_state(watch.best),
                "stopped": watch.stopped,
            },
        }


def told(source: Any) -> str | None:
    """16 digits that tell tensors apart, by their first rows; None of a dataset, whose rows may be random."""
    parts = getattr(source, "parts", None)
    if parts is None:
        return None
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors_of(parts):
        few = tensor[:SAMPLE].detach().to("cpu").contiguous()
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(few.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _packed(state: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    torch.save(_plain(state), content)
    body = content.getvalue()
    return _first_line(body) + body


def _check_readable(packed: bytes) -> None:
    """Raises ``InputError`` where a run could not go on from what is written."""
    try:
        torch.load(io.BytesIO(packed.split(b"\n", 1)[1]), map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"checkpoint: what is kept of optimizer or schedule could not be read again ({named(error)}); their "
            "state_dict() has to be of tensors, numbers and texts"
        ) from error


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's: ``weights_only`` does not read them, and ``logspace`` makes rates of them."""
    if type(value) is dict:
        return {name: _plain(one) for name, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(one) for one in value)
    return value.item() if isinstance(value, np.generic) else value


def _first_line(body: bytes) -> bytes:
    return f"{FORMAT} {VERSION} {hashlib.sha256(body).hexdigest()}\n".encode()


def _newest(folder: Path) -> tuple[tuple[Path, dict[str, Any]] | None, int, list[str]]:
    """The newer file that is whole, with its number, and what to say of one that is not.

    Raises ``ModelFileError`` where files are there and none of them is whole.
    """
    whole: list[tuple[int, Path, dict[str, Any]]] = []
    damaged: list[ModelFileError] = []
    for name in NAMES:
        if (folder / name).exists():
            try:
                state = _read(folder / name)
                whole.append((state["serial"], folder / name, state))
            except ModelFileError as error:
                damaged.append(error)
    if not whole and damaged:
        raise damaged[0]
    notes = [f"{error}; the run goes on from the other one" for error in damaged]
    if not whole:
        return None, 0, notes
    serial, path, state = max(whole, key=lambda one: one[0])
    return (path, state), serial, notes


def _read(path: Path) -> dict[str, Any]:
    try:
        first, body = path.read_bytes().split(b"\n", 1)
        if first + b"\n" != _first_line(body):
            raise ValueError("the checksum is another")
        state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelFileError(
            f"checkpoint {shorten(str(path), 200)!r} is damaged or is no checkpoint of this version of descend; "
            "delete it to begin anew"
        ) from error
    return state


def _snapshot_state(kept: Snapshot | None) -> dict[str, Any] | None:
    if kept is None:
        return None
    return {
        "epoch": kept.epoch,
        "step": kept.step,
        "score": kept.score,
        "row": kept.row,
        "module": kept.module,
    }


def _put_back(watch: Watch, state: dict[str, Any]) -> None:
    watch.place.step, watch.place.epoch, watch.place.batch = state["place"]
    watch.seconds, watch.rows = state["seconds"], state["rows"]
    watch.loss_sum, watch.loss_rows = state["loss"]
    watch.first = state.get("first")
    watch.flat_since = state.get("flat_since", 0)
    notes = watch.history.notes
    watch.history = History.from_json(state["history"])
    watch.history.notes = notes
    if state["best"] is not None:
        device = next(iter(watch.module.parameters())).device
        kept = dict(state["best"])
        kept["module"] = {name: value.to(device) for name, value in kept["module"].items()}
        watch.best = watch.safe = Snapshot(**kept)
    # Ended by epochs, time or somebody: with more of them it goes on.
    watch.stopped = "early_stopping" if state["stopped"] == "early_stopping" else ""


def _random_states(device: torch.device) -> dict[str, Any]:
    legacy: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, gauss = legacy
    version, numbers, spare = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "python": (version, list(numbers), spare),
    }
    if device.type in ("cuda", "mps"):
        states[device.type] = random_state(device)[1]
    return states


def _set_random_states(states: dict[str, Any], device: torch.device) -> None:
    set_random_state((states["torch"],), torch.device("cpu"))
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, numbers, spare = states["python"]
    random.setstate((version, tuple(numbers), spare))
    if device.type in states:
        set_random_state((states["torch"], states[device.type]), device)
