"""A run on the disk, to the batch: module, optimizer, schedule, scaler, random numbers, position, history.

One file in the caller's folder, replaced as a whole. It is read with ``weights_only``: tensors, numbers and texts,
nothing that is executed.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descend.errors import InputError, ModelFileError
from descend.files import write_atomically
from descend.history import History
from descend.torch.batches import Batches
from descend.torch.optimizers import Schedule
from descend.torch.steps import CHECKPOINT, DATA
from descend.torch.watching import Snapshot, Watch, copied, restore

FILE = "run.pt"
FORMAT = "descend.torch.run"
VERSION = 1


class Checkpoint:
    """The folder of one run."""

    def __init__(
        self,
        folder: str | Path,
        module: Any,
        optimizer: Any,
        schedule: Schedule,
        scaler: Any,
        batches: Batches,
    ) -> None:
        self.folder = Path(folder)
        self.module, self.optimizer, self.schedule = module, optimizer, schedule
        self.scaler, self.batches = scaler, batches

    @property
    def path(self) -> Path:
        return self.folder / FILE

    def prepare(self, resume: bool) -> None:
        """Makes the folder; raises ``InputError`` where a run is there that is not to be gone on with."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"checkpoint {str(self.folder)!r} cannot be made: {error.strerror}") from error
        if self.path.exists() and not resume:
            raise InputError(
                f"checkpoint {str(self.folder)!r} holds a run already; pass resume=True to go on, or another folder"
            )

    def save(self, watch: Watch) -> None:
        """Writes where the run is."""
        watch.place.doing = CHECKPOINT
        content = io.BytesIO()
        torch.save(self._state(watch), content)
        write_atomically(self.path, content.getvalue(), force=True)
        watch.place.doing = DATA

    def load(self, watch: Watch) -> bool:
        """Goes back to where the run was; False where there is none. Raises ``InputError`` for another's."""
        if not self.path.exists():
            return False
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ModelFileError(
                f"checkpoint {str(self.path)!r} is damaged or is no checkpoint; delete it to begin anew"
            ) from error
        if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("version") != VERSION:
            raise ModelFileError(f"checkpoint {str(self.path)!r} is not one of this version of descend")
        self.batches.load_state_dict(state["batches"])
        own = copied(self.module)
        if {name: value.shape for name, value in own.items()} != {
            n: v.shape for n, v in state["module"].items()
        }:
            raise InputError(
                f"checkpoint {str(self.path)!r} is of a module of other layers; pass the module that it is of"
            )
        self._load_optimizer(state["optimizer_class"], state["optimizer"])
        restore(self.module, state["module"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        _set_random_states(state["random"])
        _put_back(watch, state["watch"])
        return True

    def _load_optimizer(self, kind: str, state: dict[str, Any]) -> None:
        own = type(self.optimizer).__qualname__
        try:
            if kind != own:
                raise ValueError(f"that is {kind}, this is {own}")
            self.optimizer.load_state_dict(state)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"checkpoint {str(self.path)!r} is of another optimizer: {error}; pass the optimizer that it is of"
            ) from error

    def _state(self, watch: Watch) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "module": copied(self.module),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_class": type(self.optimizer).__qualname__,
            "schedule": self.schedule.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "random": _random_states(),
            "batches": self.batches.state_dict(),
            "watch": {
                "place": (watch.place.step, watch.place.epoch, watch.place.batch),
                "seconds": watch.seconds,
                "rows": watch.rows,
                "loss": (watch.loss_sum, watch.loss_rows),
                "history": watch.history.to_json(),
                "best": _snapshot_state(watch.best),
                "stopped": watch.stopped,
            },
        }


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


def _random_states() -> dict[str, Any]:
    legacy: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, gauss = legacy
    version, numbers, spare = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": (kind, keys.tolist(), position, has_gauss, gauss),
        "python": (version, list(numbers), spare),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    version, numbers, spare = states["python"]
    random.setstate((version, tuple(numbers), spare))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
