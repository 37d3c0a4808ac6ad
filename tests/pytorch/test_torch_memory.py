"""Memory of a module's steps: on devices that are not here, of rows that differ in length, and of looks."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

import descend.torch as dt
from descend.batch_size.memory import Ceiling, Room
from descend.errors import InputError, TrainingError
from descend.torch import step_memory
from descend.torch.given import as_rows
from descend.torch.lengths import longest_first
from descend.torch.module_trainer import ModuleTrainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork beside threads
MEGA = 2**20


class Texts(torch.utils.data.Dataset):
    """Rows of 1 to 400 numbers, the longest of them one in a hundred."""

    def __init__(self, num_rows=400):
        generator = np.random.default_rng(0)
        self.lengths = generator.integers(1, 20, size=num_rows)
        self.lengths[::100] = 400
        self.rows = [
            torch.randn(int(n), generator=torch.Generator().manual_seed(i))
            for i, n in enumerate(self.lengths)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        return self.rows[row], self.rows[row].mean()[None]


def padded(items):
    """A batch of items of several lengths, filled up with zeros."""
    return pad_sequence([X for X, _ in items], batch_first=True), torch.stack([y for _, y in items])


class Reads(nn.Module):
    """Takes the mean of a row, and remembers the shapes that it has seen."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen = []

    def forward(self, X):
        self.seen.append(tuple(X.shape))
        return self.layer(X.sum(1, keepdim=True) / X.shape[1])


def test_a_callers_collate_makes_the_batches():
    """Items of several lengths are trained on as their collate puts them together; without one the row is named."""
    module = Reads()
    history = dt.fit(
        module, nn.MSELoss(), Texts(), torch.optim.SGD, 8, collate=padded, epochs=3, learning_rate=0.1
    )
    assert history.last["rows"] == 3 * 400
    assert len({width for _, width in module.seen}) > 2
    with pytest.raises(TrainingError, match="row "):
        dt.fit(Reads(), nn.MSELoss(), Texts(), torch.optim.SGD, 8, epochs=1, learning_rate=0.1)
    X = torch.zeros(8, 3)
    with pytest.raises(InputError, match="collate goes with a dataset"):
        dt.fit(Reads(), nn.MSELoss(), (X, X[:, :1]), torch.optim.SGD, 8, collate=padded, epochs=1)
    with pytest.raises(InputError, match="collate is 'pad'"):
        dt.fit(Reads(), nn.MSELoss(), Texts(), torch.optim.SGD, 8, collate="pad", epochs=1)


def test_the_longest_rows_come_first():
    """Every row of 400 numbers stands before all others; tensors, and items that are all alike, have no order."""
    texts = Texts()
    places, weighed = longest_first(as_rows(texts, collate=padded), None, seed=0, seconds=10.0)
    assert weighed == 400
    assert sorted(places[:4].tolist()) == [0, 100, 200, 300]
    assert np.all(np.diff(texts.lengths[places]) <= 0)
    alike = torch.utils.data.Subset(texts, [0, 100])
    assert longest_first(as_rows(alike, collate=padded), None, 0, 10.0)[0] is None
    assert longest_first(as_rows((torch.zeros(5, 2), torch.zeros(5))), None, 0, 10.0) == (None, 0)
    only = longest_first(as_rows(texts, collate=padded), np.array([1, 2, 100]), 0, 10.0)[0]
    assert only[0] == 100


def test_memory_is_that_of_the_longest_rows():
    """The step that memory is measured on is padded to the longest rows, whatever the first batch in order has."""
    trainer = ModuleTrainer(Reads(), nn.MSELoss(), Texts(), torch.optim.SGD, collate=padded)
    trainer.module.seen.clear()
    trainer.step(3)
    trainer.step(500)
    assert trainer.module.seen == [(3, 400), (500, 400)]
    trainer.module.seen.clear()
    trainer.look_together(20)
    assert trainer.module.seen == [(20, 400)]
    assert any("items differ in size" in note for note in trainer.notes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads peaks from /proc")
def test_looks_at_more_rows_than_fit_are_made_at_fewer(monkeypatch):
    """Where 20 rows fit into a step and 256 do not into a look, 20 are looked at, and the plan says so."""
    trainer = ModuleTrainer(nn.Linear(4, 1), nn.MSELoss(), (torch.zeros(4000, 4), torch.zeros(4000, 1)), None)
    limits = Ceiling(20, {1: MEGA, 20: 20 * MEGA}, None, Room(24 * MEGA, "a test"))
    monkeypatch.setattr(step_memory, "in_children", lambda *_: lambda rows, end: None)
    assert step_memory.set_evaluation(trainer, limits, 1.0) is None
    assert trainer.looked_at.batch_size == 20
    monkeypatch.setattr(step_memory, "in_children", lambda *_: lambda rows, end: rows * MEGA // 20)
    assert step_memory.set_evaluation(trainer, limits, 1.0) == 256 * MEGA // 20
    assert trainer.looked_at.batch_size == 256


@pytest.fixture
def mps(monkeypatch):
    """An Apple GPU of 100 MB whose driver keeps what it has handed out until it is asked."""
    gpu = SimpleNamespace(held=10 * MEGA, most=100 * MEGA, row=MEGA)

    def give_back():
        gpu.held = 10 * MEGA

    fake = SimpleNamespace(
        empty_cache=give_back,
        synchronize=lambda: None,
        driver_allocated_memory=lambda: gpu.held,
        recommended_max_memory=lambda: gpu.most,
    )
    monkeypatch.setattr(torch, "mps", fake)

    def step(batch_size):
        if 10 * MEGA + batch_size * gpu.row > gpu.most:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 90 MB, max allowed: 100 MB)")
        gpu.held = max(gpu.held, 10 * MEGA + batch_size * gpu.row)

    gpu.trainer = SimpleNamespace(device=torch.device("mps"), coupled=None, num_rows=1000, step=step)
    return gpu


def test_on_an_apple_gpu_what_the_driver_has_handed_out_is_measured(mps):
    """Rows of 1 MB on 90 MB that are left: as many as 85 % hold, and its words for no memory are understood."""
    ceiling = step_memory.measure_memory(mps.trainer, None, 5.0)
    assert ceiling.room == Room(90 * MEGA, "the GPU's free memory")
    assert ceiling.peaks[16] == 16 * MEGA
    assert 70 <= ceiling.rows <= 76
    limited = step_memory.measure_memory(mps.trainer, 50 * MEGA, 5.0)
    assert limited.room == Room(40 * MEGA, "the limit that was given")
    assert 30 <= limited.rows <= 34


def test_errors_that_are_not_about_memory_come_out(mps):
    """A step that fails for another reason is no step without room."""

    def broken(batch_size):
        raise RuntimeError("shapes differ")

    mps.trainer.step = broken
    with pytest.raises(RuntimeError, match="shapes differ"):
        step_memory.measure_memory(mps.trainer, None, 5.0)
