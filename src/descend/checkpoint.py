"""A run on the disk while it goes on: resumed, it ends where an uninterrupted one does, to the last bit.

What is kept is all that decides the result: parameters, what optimizer, engine and averages remember, the place in
phases, epoch and order, what the watch goes by, and the history. Random numbers need none: an epoch's order follows
from the seed (``batches.py``).

Two files in the caller's folder take turns (``turns.py``), and one process at a time holds it (``locks.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from descend.engines.base import State
from descend.engines.lbfgs import Known, Memory
from descend.errors import ModelFileError, shorten
from descend.history import History
from descend.identity import Identity, note_of_makers, refuse_others
from descend.model_file import Layout, pack_model, read_model
from descend.packing import Arrays, Packer
from descend.turns import Turns, held
from descend.watching import Kept, Place, Sample, Watch
from descend.watching.certificate import Certificate
from descend.watching.flatness import Flatness, Plateau
from descend.watching.sparing import Sparing

NAMES = ("run-1.checkpoint", "run-2.checkpoint")
LAYOUT = Layout(
    "descend.checkpoint",
    1,
    "checkpoint",
    "a checkpoint that `descend fit --checkpoint` wrote",
    "delete it, and the run goes on from the other one or begins anew",
)
NOT_OF_THE_RUN = frozenset(
    "engine num_visits limits validation tail tuner mend unit callbacks first_loss snapshot history phase "  # noqa: SIM905
    "cuts_windows asked_to_stop saver place returned call_seconds _started".split()
)
"""Fields of a watch that are settings, or have a place of their own in the file."""
OF_THE_STATE = tuple(f.name for f in fields(State) if f.name != "most_visits")
OF_THE_WATCH = tuple(f.name for f in fields(Watch) if f.name not in NOT_OF_THE_RUN)
PACKER = Packer((Kept, Memory, Known, Place, Sample, Sparing, Certificate, Plateau, Flatness))


@dataclass(frozen=True, slots=True)
class Found:
    """A run that a folder holds."""

    name: str
    serial: int
    place: Place
    looked: bool
    """Whether the watch has done with the place: at a limit it has not, for with a higher one the run goes on."""
    seconds: float
    epochs: float
    """Epochs as histories count them: rows visited over rows."""
    identity: Identity
    measured: dict[str, Any]
    run: dict[str, Any]


class Checkpoint:
    """The folder of one run, as ``opened`` gives it."""

    def __init__(self, folder: Path, found: Found | None, notes: list[str]) -> None:
        self.folder, self.found, self.notes = folder, found, notes
        self.identity: Identity | None = None
        self.saved: Place | None = None if found is None else found.place
        """Where the run was when it was last saved."""
        self.saved_epochs = 0.0 if found is None else found.epochs
        self._measured: dict[str, Any] = {} if found is None else found.measured
        self._turns = Turns(folder, NAMES, None if found is None else found.name)

    def check(self, identity: Identity) -> None:
        """Raises ``InputError`` where the folder holds the run of other data or settings, and names what differs."""
        self.identity = identity
        if self.found is not None:
            refuse_others(self.found.identity, identity, self.found.place.epoch, self._turns.shown)

    def once(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a clock said before the first step (JSON), as it was then: it would say something else now."""
        if name not in self._measured:
            self._measured[name] = measure()
        found: dict[str, Any] = self._measured[name]
        return found

    def restore(self, state: State, watch: Watch) -> None:
        """Puts a run back to where the folder's was."""
        assert self.found is not None
        run = self.found.run
        for name, value in run["state"].items():
            _put_back(state, name, value)
        for name, value in run["watch"].items():
            setattr(watch, name, value)
        watch.place = self.found.place
        watch.history = History.from_json(run["history"])
        if self.identity is not None:
            watch.history.notes += note_of_makers(self.found.identity, self.identity)
        watch.engine.recall(run["engine"])
        if watch.tail is not None:
            vars(watch.tail).update(run["tail"])
        if watch.tuner is not None:
            watch.tuner.recall(run["tuner"])

    def is_due(self) -> bool:
        """Whether it is time to save again."""
        return self._turns.is_due()

    def expect(self, state: State) -> None:
        """Settles when the first saving is due, from how much there is to write."""
        arrays = [value for f in fields(state) if isinstance(value := getattr(state, f.name), np.ndarray)]
        self._turns.expect(sum(array.nbytes for array in arrays))

    def save(self, state: State, watch: Watch, looked: bool) -> None:
        """Writes where the run is, over the older of the two files.

        Raises ``OutputError`` where that fails; the newer of them is whole still.
        """
        if self.found is not None and watch.place == self.found.place:
            return  # a run that was over there: nothing is new
        epochs = state.visits / watch.num_visits
        self._turns.write(lambda: self._packed(state, watch, looked, epochs), self._what_is_left())
        self.saved, self.saved_epochs = watch.place, epochs

    def _packed(self, state: State, watch: Watch, looked: bool, epochs: float) -> bytes:
        assert self.identity is not None
        tree, arrays = PACKER.pack(_run_of(state, watch))
        header = {
            "serial": (0 if self.found is None else self.found.serial) + self._turns.num_written + 1,
            "place": PACKER.pack(watch.place)[0],
            "looked": looked,
            "seconds": watch.seconds,
            "epochs": epochs,
            "identity": self.identity,
            "measured": self._measured,
            "run": tree,
        }
        return pack_model(arrays, header, LAYOUT)

    def _what_is_left(self) -> str:
        if self.saved is None:
            return "nothing of this run was saved yet"
        return (
            f"the run as it was after {self.saved_epochs:.4g} epochs is there, and --resume goes on from it"
        )


@contextmanager
def opened(folder: str | Path, resume: bool) -> Iterator[Checkpoint]:
    """Makes and holds the folder of a run, and reads what is in it.

    Raises ``InputError`` where it cannot be, where another process has it, and where a run is there that is not to be
    gone on with; ``ModelFileError`` where what is there is damaged.
    """
    with held(folder, NAMES, resume, how="take --resume (resume=True)") as place:
        found, notes = find(place)
        yield Checkpoint(place, found, notes)


def find(folder: Path) -> tuple[Found | None, list[str]]:
    """The newest run that is whole, and what to say of one that is not.

    Raises ``ModelFileError`` where files are there and none of them is whole.
    """
    whole: list[Found] = []
    damaged: list[ModelFileError] = []
    for name in NAMES:
        if (folder / name).exists():
            try:
                whole.append(_read(folder / name))
            except ModelFileError as error:
                damaged.append(error)
    if not whole and damaged:
        raise damaged[0]
    newest = max(whole, key=lambda found: found.serial, default=None)
    return newest, [f"{error}; going on from the other one" for error in damaged]


def _read(path: Path) -> Found:
    arrays, header = read_model(path, LAYOUT)
    try:
        own: Arrays = {name: array.copy(order="K") for name, array in arrays.items()}
        run = PACKER.unpack(header["run"], own)
        if (run["state"].keys(), run["watch"].keys()) != (set(OF_THE_STATE), set(OF_THE_WATCH)):
            raise ValueError("a run that remembers other things")
        return Found(
            path.name,
            header["serial"],
            PACKER.unpack(header["place"], {}),
            header["looked"],
            header["seconds"],
            header["epochs"],
            header["identity"],
            header["measured"],
            run,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"checkpoint '{shorten(str(path), 200)}' is not of this version of descend"
        ) from error


def _run_of(state: State, watch: Watch) -> dict[str, Any]:
    """All that decides how the run goes on."""
    return {
        "state": {name: getattr(state, name) for name in OF_THE_STATE},
        "watch": {name: getattr(watch, name) for name in OF_THE_WATCH},
        "history": watch.history.to_json(),
        "engine": watch.engine.kept(),
        "tail": None if watch.tail is None else vars(watch.tail),
        "tuner": None if watch.tuner is None else watch.tuner.kept(),
    }


def _put_back(state: State, name: str, value: Any) -> None:
    """In place where that is possible: a network's numbers lie where its kernels want them."""
    there = getattr(state, name)
    both = isinstance(there, np.ndarray) and isinstance(value, np.ndarray)
    if both and (there.shape, there.dtype, there.strides) == (
        value.shape,
        value.dtype,
        value.strides,
    ):
        there[:] = value
    else:
        setattr(state, name, value)
