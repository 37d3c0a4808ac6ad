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
    dt.fit(whole, nn.CrossEntropyLoss(), Tensors(), epochs=6)
    dt.fit(parts, nn.CrossEntropyLoss(), Tensors(), epochs=2, checkpoint=tmp_path)
    again = dt.fit(small(), nn.CrossEntropyLoss(), Tensors(), epochs=2, checkpoint=tmp_path, resume=True)
    assert again.last["epoch"] == 2
    last = small()
    dt.fit(last, nn.CrossEntropyLoss(), Tensors(), epochs=6, checkpoint=tmp_path, resume=True)
    assert torch.equal(state(last), state(whole))


def test_a_checkpoint_is_not_written_over_by_another_run(tmp_path: Path) -> None:
    """A folder that holds a run is refused without ``resume``, and is as it was."""
    dt.fit(small(), nn.CrossEntropyLoss(), Tensors(), epochs=1, checkpoint=tmp_path)
    before = (tmp_path / "run.pt").read_bytes()
    with pytest.raises(InputError, match="holds a run already; pass resume=True"):
        dt.fit(small(), nn.CrossEntropyLoss(), Tensors(), epochs=1, checkpoint=tmp_path)
    assert (tmp_path / "run.pt").read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_checkpoint_is_told(damage: str, tmp_path: Path) -> None:
    """A checkpoint that is cut short, or is something else, is told, and the module is as it was."""
    dt.fit(small(), nn.CrossEntropyLoss(), Tensors(), epochs=1, checkpoint=tmp_path)
    path = tmp_path / "run.pt"
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"hello", "empty": b""}[damage])
    module = small()
    before = state(module)
    with pytest.raises(ModelFileError, match="damaged or is no checkpoint"):
        dt.fit(module, nn.CrossEntropyLoss(), Tensors(), epochs=2, checkpoint=tmp_path, resume=True)
    assert torch.equal(state(module), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 8}, "batch_size 16"),
        ({"seed": 1}, "seed 0"),
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
        "epochs": 1,
        "checkpoint": tmp_path,
    }
    dt.fit(**call)
    with pytest.raises(InputError, match=message):
        dt.fit(**(call | {"epochs": 2, "resume": True} | change))


def test_ctrl_c_in_another_process_leaves_a_checkpoint(tmp_path: Path) -> None:
    """Ctrl-C ends a process behind the step, with a checkpoint that says where it was."""
    program = f"""
import os, signal, torch, descend.torch as dt
def press(seen):
    if seen.updates >= 3:
        os.kill(os.getpid(), signal.SIGINT)
module = torch.nn.Linear(6, 3)
dt.fit(module, torch.nn.CrossEntropyLoss(), (torch.zeros(64, 6), torch.zeros(64, dtype=torch.long)),
       batch_size=32, epochs=10**6, checkpoint={str(tmp_path / "run")!r}, callbacks=[press])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode in (130, -signal.SIGINT), done.stderr
    saved = torch.load(tmp_path / "run" / "run.pt", weights_only=True)
    assert saved["watch"]["place"][0] >= 3
