"""A run goes on from its checkpoint as if it had not been stopped."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import descend.torch as dt
from descend.errors import InputError, ModelFileError
from descend.torch.checkpoint import NAMES, _read
from descend.turns import Turns

ROWS = 70


class Noisy(Dataset):
    """Rows with noise from every source of random numbers."""

    def __init__(self) -> None:
        numbers = torch.Generator().manual_seed(1)
        self.X, self.y = torch.randn(ROWS, 6, generator=numbers), torch.arange(ROWS) % 3

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> Any:
        noise = float(torch.rand(())) + random.random() + float(np.random.rand())
        return self.X[row] + noise, self.y[row]


class Tensors:
    def __new__(cls) -> Any:
        noisy = Noisy()
        return noisy.X, noisy.y


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 3))


def adam(module: nn.Module, **settings: Any) -> Any:
    return dt.fit(module, nn.CrossEntropyLoss(), Tensors(), torch.optim.Adam, **settings)


def state(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten().double() for value in module.state_dict().values()])


class StopAfter(nn.Module):
    """A loss that asks the run to end behind one of its steps, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def forward(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if output.requires_grad:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return nn.functional.cross_entropy(output, y)


SETTINGS: dict[str, dict[str, Any]] = {
    "sgd with momentum": {
        "optimizer": torch.optim.SGD,
        "learning_rate": 0.1,
        "optimizer_options": {"momentum": 0.9},
    },
    "adam, a schedule": {
        "optimizer": torch.optim.Adam,
        "schedule": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40),
        "schedule_every": "step",
    },
    "a schedule of descend": {"schedule": "cosine"},
    "validation": {"validation_fraction": 0.2, "early_stopping": True, "n_iter_no_change": 50},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("stop", [1, 4, 10, 13, 31])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("data", [Tensors, Noisy])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    data: Any, name: str, stop: int, tmp_path: Path
) -> None:
    """Stopped behind any step, inside an epoch or at its end, a run goes on to the same module to the bit."""
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 8, "seed": 3, "device": "cpu"} | SETTINGS[name]
    whole, parts = small(), small()
    random.seed(0)
    np.random.seed(0)
    expected = dt.fit(whole, StopAfter(-1), data(), **settings)
    random.seed(0)
    np.random.seed(0)
    with pytest.raises(KeyboardInterrupt):
        dt.fit(parts, StopAfter(stop), data(), checkpoint=tmp_path / "run", **settings)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(99)
    new = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.4), nn.Linear(12, 3))
    history = dt.fit(new, StopAfter(-1), data(), checkpoint=tmp_path / "run", resume=True, **settings)
    assert torch.equal(state(new), state(whole))
    for column in ("updates", "rows", "epoch", "loss", "validation_loss", "learning_rate"):
        assert history.last[column] == expected.last[column]
    assert history.stopped == expected.stopped
    assert losses_of_epochs(history) == losses_of_epochs(expected)


def losses_of_epochs(history: Any) -> dict[float, float]:
    """The loss at the end of each epoch; looks inside epochs come by the clock."""
    return {e: x for e, x in zip(history["epoch"], history["loss"], strict=True) if e == int(e)}


def test_an_optimizer_that_is_made_already_is_put_back_too(tmp_path: Path) -> None:
    """The state of an optimizer instance is in the checkpoint."""
    ends = []
    for stop in (-1, 5):
        module = small()
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        if stop > 0:
            with pytest.raises(KeyboardInterrupt):
                dt.fit(module, StopAfter(stop), Tensors(), optimizer, epochs=4, checkpoint=tmp_path)
            module = small()
            optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
            dt.fit(module, StopAfter(-1), Tensors(), optimizer, epochs=4, checkpoint=tmp_path, resume=True)
        else:
            dt.fit(module, StopAfter(-1), Tensors(), optimizer, epochs=4)
        ends.append(state(module))
    assert torch.equal(ends[0], ends[1])


def test_a_run_that_has_ended_goes_on_with_more_epochs(tmp_path: Path) -> None:
    """With more epochs a run that has ended goes on from its last step, not from the best that it gave back."""
    whole, parts = small(), small()
    adam(whole, epochs=6)
    adam(parts, epochs=2, checkpoint=tmp_path)
    again = adam(
        small(),
        epochs=2,
        checkpoint=tmp_path,
        resume=True,
    )
    assert again.last["epoch"] == 2
    last = small()
    adam(last, epochs=6, checkpoint=tmp_path, resume=True)
    assert torch.equal(state(last), state(whole))


def test_a_checkpoint_is_not_written_over_by_another_run(tmp_path: Path) -> None:
    """A folder that holds a run is refused without ``resume``, and is as it was."""
    dt.fit(small(), nn.CrossEntropyLoss(), Tensors(), epochs=1, checkpoint=tmp_path)
    before = (tmp_path / "run-1.pt").read_bytes()
    with pytest.raises(InputError, match="holds a run already; pass resume=True"):
        dt.fit(small(), nn.CrossEntropyLoss(), Tensors(), epochs=1, checkpoint=tmp_path)
    assert (tmp_path / "run-1.pt").read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_checkpoint_is_told(damage: str, tmp_path: Path) -> None:
    """A checkpoint that is cut short, or is something else, is told, and the module is as it was."""
    adam(small(), epochs=1, checkpoint=tmp_path)
    (path,) = tmp_path.glob("*.pt")
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}[damage])
    module = small()
    before = state(module)
    with pytest.raises(ModelFileError, match="damaged or is no checkpoint"):
        adam(
            module,
            epochs=2,
            checkpoint=tmp_path,
            resume=True,
        )
    assert torch.equal(state(module), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "batch_size 16"),
        ({"seed": 1}, "seed 0"),
        ({"clip": 2.0}, "clip 1.0, this one has 2.0"),
        ({"data": (Noisy().X + 1.0, Noisy().y)}, "data .*, this one has"),
        ({"module": nn.Linear(6, 3)}, "other layers"),
        ({"optimizer": torch.optim.SGD}, "optimizer"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Another module, batch size, seed or optimizer than the checkpoint's is refused with its name."""
    call: dict[str, Any] = {
        "module": small(),
        "loss": nn.CrossEntropyLoss(),
        "data": Tensors(),
        "optimizer": torch.optim.Adam,
        "batch_size": 16,
        "clip": 1.0,
        "epochs": 1,
        "checkpoint": tmp_path,
    }
    dt.fit(**call)
    with pytest.raises(InputError, match=message):
        dt.fit(**(call | {"epochs": 2, "resume": True} | change))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_another_process_leaves_a_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end a process behind the step, with a checkpoint that says where it was."""
    program = f"""
import os, signal, torch, descend.torch as dt
def press(seen):
    if seen.updates >= 3:
        os.kill(os.getpid(), {int(number)})
module = torch.nn.Linear(6, 3)
dt.fit(module, torch.nn.CrossEntropyLoss(), (torch.zeros(64, 6), torch.zeros(64, dtype=torch.long)),
       torch.optim.Adam, batch_size=32, epochs=10**6, checkpoint={str(tmp_path / "run")!r}, callbacks=[press])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode in ((130, -number) if number == signal.SIGINT else (143,)), done.stderr
    saved = max((_read(path) for path in (tmp_path / "run").glob("*.pt")), key=lambda state: state["serial"])
    assert saved["watch"]["place"][0] >= 3


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("name", ["adam, a schedule", "validation"])
@pytest.mark.parametrize("data", [Tensors, Noisy])
def test_a_run_that_is_killed_ends_as_one_that_is_not(
    data: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after every second checkpoint, of which there is one a look, a run ends with the same bits."""
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 6, "seed": 3, "device": "cpu"} | SETTINGS[name]
    monkeypatch.setattr("descend.torch.watching.LOOK_SECONDS", 0.0)
    monkeypatch.setattr("descend.torch.watching.LOOK_SHARE", 0.0)
    monkeypatch.setattr(Turns, "is_due", lambda self: True)
    whole, module, write, count, kills = small(), small(), Turns.write, 0, 0
    random.seed(0)
    np.random.seed(0)
    dt.fit(whole, nn.CrossEntropyLoss(), data(), **settings)

    def write_and_die(self: Turns, *args: Any) -> None:
        nonlocal count
        write(self, *args)
        count += 1
        if count % 2 == 0:
            raise Killed

    monkeypatch.setattr(Turns, "write", write_and_die)
    random.seed(0)
    np.random.seed(0)
    while True:
        try:
            module = small()
            dt.fit(module, nn.CrossEntropyLoss(), data(), checkpoint=tmp_path, resume=True, **settings)
            break
        except Killed:
            kills += 1
    assert kills > 5
    assert torch.equal(state(module), state(whole))


def test_a_damaged_newest_falls_back_to_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any byte changed, or end cut off, of the newest is noticed; the other file leads to the same module."""
    monkeypatch.setattr(Turns, "is_due", lambda self: True)
    whole = small()
    adam(whole, epochs=4)
    adam(small(), epochs=3, checkpoint=tmp_path)
    newest = max(NAMES, key=lambda name: _read(tmp_path / name)["serial"])
    content, rng = (tmp_path / newest).read_bytes(), random.Random(0)
    for _ in range(300):
        place = rng.randrange(len(content))
        damaged = bytearray(content[:place] if rng.random() < 0.3 else content)
        if len(damaged) == len(content):
            damaged[place] ^= rng.randrange(1, 256)
        (tmp_path / newest).write_bytes(damaged)
        with pytest.raises(ModelFileError, match="damaged"):
            _read(tmp_path / newest)
    module = small()
    history = adam(module, epochs=4, checkpoint=tmp_path, resume=True)
    assert "the run goes on from the other one" in " ".join(history.notes)
    assert torch.equal(state(module), state(whole))


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """While a run is saved into a folder another is refused with the number of the process, and leaves it alone."""

    def second(_: Any) -> None:
        with pytest.raises(InputError, match=r"in use by process \d+ \(this one\)"):
            adam(
                small(),
                epochs=1,
                checkpoint=tmp_path,
                resume=True,
            )

    adam(
        small(),
        epochs=1,
        checkpoint=tmp_path,
        callbacks=[second],
    )
    assert [path.suffix for path in tmp_path.iterdir()] == [".pt"]
