"""``descend.torch.configure_batch_size``: plans for modules, within memory, and nothing of the caller's changed."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import descend
import descend.torch as dt
from descend.errors import InputError, TrainingError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of fork beside threads
    pytest.mark.usefixtures("own_time"),
]
SECONDS = 6.0


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16.0).astype(np.float32), y


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))


@pytest.fixture(scope="module")
def plan(digits, own_time):
    return dt.configure_batch_size(
        network(), nn.CrossEntropyLoss(), digits, torch.optim.SGD, target_loss=0.4, seconds=SECONDS
    )


def test_a_module_has_a_plan(plan):
    """Every key is there, the target is reached, memory is measured, and it is JSON."""
    record = json.loads(json.dumps(plan.record, allow_nan=False))
    assert record["told"]
    assert record["optimizer"] == "SGD"
    assert record["microbatch"] == record["batch_size"]
    assert record["predicted"]["peak_bytes"] > 10**7
    assert set(record["evidence"]["memory_bytes"]) == set(record["evidence"]["step_seconds"])
    assert "(SGD)" in plan.explain()


def test_a_run_by_the_plan_reaches_the_target(plan, digits):
    """``fit`` with the plan's size and rate comes to the target within three times the steps that were predicted."""
    seen = []
    X, y = torch.from_numpy(digits[0]), torch.from_numpy(digits[1])
    module = network()

    def loss_of_all(observation):
        with torch.no_grad():
            module.eval()
            seen.append(float(nn.functional.cross_entropy(module(X), y)))
            module.train()
        return seen[-1] <= plan.record["target_loss"]

    steps = plan.evidence["steps_to_target"][str(plan.batch_size)]
    epochs = max(1, round(3 * steps * plan.batch_size / len(y)))
    dt.fit(
        module,
        nn.CrossEntropyLoss(),
        digits,
        torch.optim.SGD,
        plan.batch_size,
        learning_rate=plan.learning_rate,
        epochs=epochs,
        callbacks=[loss_of_all],
    )
    assert min(seen) <= 1.1 * plan.record["target_loss"]


def test_nothing_of_the_callers_is_changed(digits):
    """Module, its modes and gradients, random numbers, threads and data are the same to the bit."""
    module = network().eval()
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before = copy.deepcopy(module.state_dict())
    torch.manual_seed(5)
    state, numbers, threads = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    X = digits[0].copy()
    waiting = torch.cuda._lazy_seed_tracker.get_calls()  # what a GPU begins from once somebody uses it
    dt.configure_batch_size(module, nn.CrossEntropyLoss(), (X, digits[1]), target_loss=1.5, seconds=2.0)
    assert torch.cuda._lazy_seed_tracker.get_calls() == waiting
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not module.training
    assert torch.equal(module[0].weight.grad, torch.ones_like(module[0].weight))
    assert torch.equal(state, torch.get_rng_state())
    assert (numbers == np.random.get_state()[1]).all()
    assert threads == torch.get_num_threads()
    assert np.array_equal(X, digits[0])


LIMITED = """
import resource, torch, json
from torch import nn
import descend.torch as dt
from descend.machine import status_bytes

class Wide(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.first, self.last = nn.Linear(8, 4), nn.Linear(4, 1)
        self.norm = nn.BatchNorm1d(4) if norm else nn.Identity()
    def forward(self, X):
        hidden = self.norm(self.first(X))
        wide = hidden.repeat(1, 50_000) * 1.0001  # 0.8 MB a row, and as much again on the way back
        return self.last(wide.view(len(X), -1, 4).mean(1))

torch._dynamo  # what optimizers load
resource.setrlimit(resource.RLIMIT_AS, (status_bytes("VmSize") + 10**9,) * 2)
torch.manual_seed(0)
X = torch.randn(10_000, 8)
y = X[:, :1] * 2.0
plan = dt.configure_batch_size(Wide(NORM), nn.MSELoss(), (X, y), torch.optim.SGD, seconds=20.0, target_loss=1.0)
print(json.dumps(plan.record))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of addresses")
@pytest.mark.parametrize("norm", [False, True])
def test_a_full_batch_that_needs_ten_gigabytes_never_kills_the_process(norm):
    """Where 1 GB of addresses is left a plan is made within it; larger batches go in microbatches, or are left out.

    Those of a module with BatchNorm are left out, and the layer is named.
    """
    program = LIMITED.replace("NORM", str(norm))
    environment = os.environ | {"PYTHONPATH": str(Path(descend.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    # PyTorch alone asks for 1.5 to 2 GB of addresses: the limit is set when that is loaded.
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout)
    ceiling = record["evidence"]["ceiling"]
    assert 1 <= ceiling < 1200
    assert record["evidence"]["room_bound"] == "ulimit -v"
    assert record["microbatch"] <= ceiling
    assert record["microbatch"] * record["accumulation"] >= record["batch_size"]
    words = " ".join(record["explanation"])
    if norm:
        assert record["batch_size"] <= ceiling
        assert "'norm' (BatchNorm1d)" in words
    else:
        assert "microbatches" in words


def test_a_batch_in_parts_takes_the_step_of_the_whole(digits):
    """The trainer with room for 7 rows ends where one with room for all does, to rounding."""
    from descend.torch.module_trainer import ModuleTrainer

    X, y = digits
    ends = []
    for room in (None, 7):
        module = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        torch.manual_seed(1)
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.1)
        trainer = ModuleTrainer(module, nn.CrossEntropyLoss(), (X, y), torch.optim.SGD)
        trainer.microbatch = room
        trainer.train(64, 0.5, 0, lambda seen: seen.updates >= 26)
        ends.append(torch.cat([p.flatten() for p in trainer.module.parameters()]))
    assert torch.allclose(*ends, atol=1e-5)


def test_a_dataset_that_raises_names_the_row(digits):
    """An item that cannot be read ends it with that row's number, as in ``fit``."""

    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return len(digits[0])

        def __getitem__(self, row):
            if row == 777:
                raise OSError("item 777 cannot be read")
            return torch.from_numpy(digits[0][row]), int(digits[1][row])

    with pytest.raises(TrainingError, match="row 777"):
        dt.configure_batch_size(network(), nn.CrossEntropyLoss(), Broken(), target_loss=0.3, seconds=5.0)


class Slow(nn.Module):
    """Every call takes so many seconds by the clock, and so many a row."""

    def __init__(self, clock, once, each):
        super().__init__()
        self.layer, self.once, self.each = nn.Linear(64, 10), once, each
        self.skip = clock.skip

    def forward(self, X):
        self.skip(self.once + self.each * len(X))
        return self.layer(X)


@pytest.mark.parametrize(("once", "each"), [(3.0, 0.0), (0.0, 0.1)])
def test_one_batch_that_takes_longer_than_the_budget(digits, own_time, once, each):
    """What a pass takes is said, and how many seconds would do; it ends by twice the budget and two passes."""
    before = own_time.skipped
    with pytest.raises(
        InputError, match=r"1 seconds are not enough to train anything: it takes .* give more s"
    ):
        dt.configure_batch_size(
            Slow(own_time, once, each),
            nn.CrossEntropyLoss(),
            digits,
            torch.optim.SGD,
            target_loss=0.5,
            seconds=1.0,
        )
    assert own_time.skipped - before <= 2.0 + 2 * (once + 8 * each)


def test_a_target_that_is_met_is_refused_before_memory_is_measured(digits, monkeypatch):
    """Nothing is forked, timed or trained where nothing is left to do."""
    from descend.torch import configuring

    monkeypatch.setattr(configuring, "measure_memory", None)
    with pytest.raises(InputError, match="target_loss 100 is met before the first step"):
        dt.configure_batch_size(network(), nn.CrossEntropyLoss(), digits, target_loss=100.0, seconds=30.0)


class Uphill(torch.autograd.Function):
    """Its gradient points the wrong way, and is as long as it likes."""

    @staticmethod
    def forward(context, X):
        return X.clone()

    @staticmethod
    def backward(context, gradient):
        return -1e12 * gradient


class Climber(nn.Linear):
    def forward(self, X):
        return Uphill.apply(super().forward(X))


def test_a_loss_that_diverges_at_every_rate_is_told(digits):
    """With a target nothing is made up; without one it is said that a first run gained nothing."""
    torch.manual_seed(0)
    plan = dt.configure_batch_size(
        Climber(64, 10), nn.CrossEntropyLoss(), digits, torch.optim.SGD, target_loss=0.1, seconds=4.0
    )
    assert not plan.record["told"]
    with pytest.raises(InputError, match="a first run of 1 s gained nothing"):
        dt.configure_batch_size(Climber(64, 10), nn.CrossEntropyLoss(), digits, torch.optim.SGD, seconds=4.0)


def test_twenty_rows_have_a_plan(digits):
    """Two of twenty rows are looked at, and the size is one that there are rows for."""
    torch.manual_seed(0)
    few = digits[0][:20], digits[1][:20]
    plan = dt.configure_batch_size(
        nn.Linear(64, 10), nn.CrossEntropyLoss(), few, torch.optim.SGD, target_loss=0.5, seconds=3.0
    )
    assert 1 <= plan.batch_size <= 18


def test_steps_are_timed_where_runs_start(digits):
    """After a run that left the numbers a step can be timed: the module is back at its start."""
    from descend.torch.module_trainer import ModuleTrainer

    trainer = ModuleTrainer(network(), nn.CrossEntropyLoss(), digits, torch.optim.SGD)
    trainer.train(32, 1e12, 0, lambda seen: seen.updates > 20)
    assert trainer.time_steps(32, 1) > 0.0


def test_threads_that_stand_in_each_others_way_are_not_taken(digits, own_time, monkeypatch):
    """Where all threads take long, one is taken, though trying all of them once used up the share of the time."""
    from descend.torch.module_trainer import ModuleTrainer

    trainer = ModuleTrainer(network(), nn.CrossEntropyLoss(), digits, torch.optim.SGD, budget=4.0)
    before = torch.get_num_threads()
    tried = []

    def time_steps(batch_size, count):
        tried.append(torch.get_num_threads())
        own_time.skip(0.5 if tried[-1] > 1 else 0.0)
        return 0.5 if tried[-1] > 1 else 0.001

    monkeypatch.setattr(trainer, "time_steps", time_steps)
    try:
        torch.set_num_threads(2)
        assert trainer.choose_threads() == 1
        assert torch.get_num_threads() == 1
        assert tried == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_a_target_that_nothing_reaches_is_not_told(digits):
    """A loss of −1 is reached by nothing: within the budget, a size under the name of what it is."""
    plan = dt.configure_batch_size(
        network(), nn.CrossEntropyLoss(), digits, torch.optim.SGD, target_loss=-1.0, seconds=2.0
    )
    assert not plan.record["told"]
    assert plan.explain().startswith("It cannot be told in this budget")
    assert plan.tuning_seconds < 30.0


def test_a_loss_that_is_no_number_is_refused(digits):
    """A loss that is never a number: it is said before anything is trained."""

    def broken(output, y):
        return output.sum() * float("nan")

    with pytest.raises(InputError, match="no number before the first step"):
        dt.configure_batch_size(network(), broken, digits, torch.optim.SGD, seconds=2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_loss": 100.0},
            r"target_loss 100 is met before the first step \(2\.\d+ over held-out rows\)",
        ),
        ({"target_loss": float("nan")}, r"target_loss is 'nan'; a finite number"),
        ({"optimizer": "adam"}, r"optimizer is 'adam'; a class"),
        ({"seconds": -1}, r"seconds is -1; a number above 0"),
        ({"memory_limit": 1000}, r"not even one row fits: 0 MB are left \(the limit that was given\)"),
        ({"device": "cuda"}, r'device "cuda" is not there'),
    ],
)
def test_what_cannot_be_is_refused(digits, options, message):
    """Each refusal names the argument, the value, and what is accepted."""
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=message):
        dt.configure_batch_size(network(), nn.CrossEntropyLoss(), digits, **{"seconds": 2.0} | options)


def test_an_optimizer_that_is_made_already_is_refused(digits):
    """An instance holds one module's parameters and what it has learnt of them."""
    module = network()
    with pytest.raises(InputError, match=r"optimizer is an instance.*pass its class"):
        dt.configure_batch_size(
            module, nn.CrossEntropyLoss(), digits, torch.optim.SGD(module.parameters(), lr=0.1), seconds=2.0
        )
