"""``learning_rate="auto"``: ``fit`` finds the rate of a module's optimizer while it trains."""

import functools
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import Dataset

import descend.torch as dt
from descend.errors import InputError, TrainingError
from descend.history import History
from descend.torch import finding
from descend.torch.rates import Rates, kept_state, put_back_state
from descend.torch.rows import TensorRows
from descend.torch.sample import places, renew_statistics
from descend.torch.snapshots import copied, restore
from descend.torch.steps import Pieces

ROWS = 400


def rows(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes that a line separates but for noise."""
    numbers = torch.Generator().manual_seed(seed)
    X = torch.randn(ROWS, 6, generator=numbers)
    return X, (X[:, :3] + 0.3 * torch.randn(ROWS, 3, generator=numbers)).argmax(1)


def small(*between: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), *between, nn.ReLU(), nn.Linear(16, 3))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().double().flatten() for value in module.state_dict().values()])


def held_out_loss(module: nn.Module) -> float:
    X, y = rows(seed=2)
    module.eval()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(module(X), y))


def found(
    module: nn.Module,
    optimizer: Any = torch.optim.SGD,
    epochs: int | None = 12,
    data: Any = None,
    **settings: Any,
) -> History:
    settings = {"batch_size": 16, "learning_rate": "auto", "device": "cpu"} | settings
    data = rows() if data is None else data
    return dt.fit(module, nn.CrossEntropyLoss(), data, optimizer, epochs=epochs, **settings)


def steep() -> tuple[nn.Module, History]:
    """Squared error of targets so large that steps soon lead to no number."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 1))
    X = torch.randn(ROWS, 6)
    data = X, 1e12 * X[:, :1]
    return module, dt.fit(module, nn.MSELoss(), data, torch.optim.SGD, 16, learning_rate="auto", epochs=6)


class Signs(torch.optim.Optimizer):
    """Steps along the gradient's signs, at a rate that is lower than Adam's."""

    def __init__(self, parameters: Any, lr: float = 1e-4) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad.sign())


class Nameless(Signs):
    """The same, whose rate has to be named."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, lr)


def notes(history: History) -> str:
    return "\n".join(history.notes)


def rungs(history: History) -> list[tuple[float, float | None]]:
    """Rates and losses of the rows that rungs leave, which are at no end of an epoch."""
    told = notes(history).split("from a ladder of ")[1].split()[0]
    inside = [
        (rate, loss)
        for epoch, rate, loss in zip(
            history["epoch"], history["learning_rate"], history["last_loss"], strict=True
        )
        if epoch != int(epoch)
    ]
    return inside[: int(told)]


# --- what is found -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [
        (torch.optim.SGD, [0.01, 0.03, 0.1, 0.3, 1.0]),
        (functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True), [0.001, 0.003, 0.01, 0.03, 0.1]),
        (torch.optim.Adam, [0.0003, 0.001, 0.003, 0.01, 0.03]),
        (torch.optim.Adagrad, [0.003, 0.01, 0.03, 0.1, 0.3]),
    ],
)
def test_the_rate_that_is_found_does_as_well_as_the_best_of_a_grid(
    optimizer: Any, rates: list[float]
) -> None:
    """The mean loss over three orders of the rows is no more than a tenth above that of the best of five rates."""

    def loss_at(rate: float | str) -> float:
        return mean(loss_of(rate, seed) for seed in range(3))

    def loss_of(rate: float | str, seed: int) -> float:
        module = small()
        found(module, optimizer, learning_rate=rate, seed=seed)
        with torch.no_grad():
            return float(nn.functional.cross_entropy(module(rows()[0]), rows()[1]))

    assert loss_at("auto") < 1.1 * min(map(loss_at, rates))


def test_a_ladder_is_training() -> None:
    """All steps count: there are as many as were asked for, and the first of the ladder's rates is the lowest."""
    history = found(small())
    assert history.last["updates"] == 12 * 25
    assert history.last["epoch"] == 12
    tried = [rate for rate, _ in rungs(history)]
    assert tried[0] == pytest.approx(1e-5)
    assert max(tried) > 0.05
    assert "of the run's) in" in notes(history)
    assert held_out_loss(small()) > 2 * history.last["loss"]


@pytest.mark.parametrize(
    ("optimizer", "first"),
    [
        (torch.optim.Adam, 1e-3),
        (torch.optim.RMSprop, 1e-3),
        (functools.partial(torch.optim.AdamW, lr=7.0), 1e-3),
        (Signs, 1e-4),
        (Nameless, 1e-5),
    ],
)
def test_steps_as_long_at_any_gradient_begin_at_the_rate_that_is_customary(
    optimizer: Any, first: float
) -> None:
    """At the optimizer's own where that is lower than Adam's; of one that comes with none far below, in strides."""
    history = found(small(), optimizer)
    tried = [rate for rate, _ in rungs(history)]
    assert tried[0] == pytest.approx(first)
    assert tried[1] == pytest.approx((8 if optimizer is Nameless else 2) * first)
    assert held_out_loss(small()) > 2 * history.last["loss"]


def test_a_ladder_of_adam_is_brief() -> None:
    """It ends at the first rung that gains little or is too high, and has begun higher; others are wary."""
    adam, sgd = (notes(found(small(), kind, epochs=40)) for kind in (torch.optim.Adam, torch.optim.SGD))
    steps = [int(told.split(" rungs, ")[1].split()[0]) for told in (adam, sgd)]
    assert steps[0] < 0.8 * steps[1]
    assert "0.14 of the last rung's that gained is taken" in adam


def test_the_rate_of_adam_goes_by_the_root_of_the_batch_size() -> None:
    """Four times the rows take twice the rate of a rung, up to 256; momentum's share has nothing to do with it."""
    adam = Rates(torch.optim.Adam(small().parameters()))
    assert adam.share(64) == pytest.approx(2 * adam.share(16))
    assert adam.share(2**20) == adam.share(256)
    momentum = Rates(torch.optim.SGD(small().parameters(), lr=1.0, momentum=0.9))
    assert momentum.share(64) == momentum.share(16) == pytest.approx(0.1)
    told = [notes(found(small(), torch.optim.Adam, 20, batch_size=size)) for size in (8, 128)]
    assert "0.1 of the last" in told[0]
    assert "0.4 of the last" in told[1]


def test_a_ladder_takes_no_more_than_its_share() -> None:
    """Of a run of 60 steps a ladder takes at most nine, and its rungs are single steps."""
    module = small()
    history = found(module, epochs=3, batch_size=20)
    steps = int(notes(history).split(" rungs, ")[1].split()[0])
    assert steps <= 0.15 * 60
    assert history.last["updates"] == 60


def test_of_a_run_too_short_to_look_the_rate_is_no_less_than_the_optimizers_own() -> None:
    """Two steps are too few for a ladder: those that are left are not taken at the rate that it began with."""
    history = found(small(), torch.optim.Adam, epochs=2, batch_size="full")
    assert history.last["learning_rate"] == 0.001
    assert "no less than the optimizer's own" in notes(history)


def test_rungs_that_go_astray_are_no_error() -> None:
    """A rung whose loss is no number has no loss in the history, and the run goes on from before it."""
    module, history = steep()
    assert None in [loss for _, loss in rungs(history)]
    assert history.stopped == "epochs"
    assert all(loss is None or isfinite(loss) for loss in history["loss"])
    assert torch.isfinite(flat(module)).all()


def test_what_an_optimizer_remembers_is_put_back_whole() -> None:
    """Kept and put back, twice, an optimizer takes the same step as before, tensors and numbers in it alike."""
    X, y = rows()
    module = small()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(X), y).backward()
        optimizer.step()

    step()
    kept, weights = kept_state(optimizer), copied(module)
    ends = []
    for _ in range(3):
        step()
        step()
        ends.append(flat(module))
        put_back_state(optimizer, kept)
        restore(module, weights)
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_losses_that_wait_on_a_device_are_read_at_the_end_of_a_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where losses are read later a rung that ends in no number is taken back all the same."""
    monkeypatch.setattr(Pieces, "on_cpu", property(lambda self: False))
    module, history = steep()
    assert None in [loss for _, loss in rungs(history)]
    assert torch.isfinite(flat(module)).all()
    assert history.last["updates"] == 6 * 25


def test_nothing_named_is_adam_at_the_rate_that_is_found() -> None:
    """``fit(module, loss, data)`` looks for the rate; an optimizer or a rate that is named anywhere has its own."""
    assert "from a ladder" in notes(found(small(), None, 2, learning_rate=None))
    for own in (
        {"optimizer": torch.optim.Adam},
        {"optimizer": None, "learning_rate": 0.01},
        {"optimizer": None, "optimizer_options": {"lr": 0.01}},
        {"optimizer": None, "parameter_groups": lambda module: [{"params": module.parameters(), "lr": 0.01}]},
    ):
        history = found(small(), epochs=1, **({"learning_rate": None} | own))
        assert "ladder" not in notes(history)
        assert history.last["learning_rate"] == (0.001 if own["optimizer"] else 0.01)


def test_a_full_batch_is_looked_for_too() -> None:
    """Batch gradient descent gets a rate at which 40 steps more than halve the loss; SGD's own leaves it as it is."""
    module, own = small(), small()
    found(module, epochs=40, batch_size="full")
    found(own, epochs=40, batch_size="full", learning_rate=None)
    assert held_out_loss(module) < 0.5 * held_out_loss(small())
    assert held_out_loss(own) > 0.9 * held_out_loss(small())


# --- how it is followed and lowered --------------------------------------------------------------


def test_the_rate_falls_where_the_run_is_that_far() -> None:
    """With noisy targets the last epochs have a sixteenth of the rate of the first phase's end."""
    X, y = rows()
    noisy = torch.where(torch.rand(ROWS, generator=torch.Generator().manual_seed(0)) < 0.3, 0, y)
    history = found(small(), epochs=20, data=(X, noisy))
    at = dict(zip(history["epoch"], history["learning_rate"], strict=True))
    assert at[20] == pytest.approx(at[11] / 16)
    assert at[16] == pytest.approx(at[11] / 4)


def test_early_stopping_tries_lower_rates_first() -> None:
    """Where nothing is gained the run goes on from the best at a quarter, twice; the best module is given back."""
    module = small()
    held = rows(seed=2)
    history = found(module, None, None, validation=held, learning_rate=None)
    assert history.stopped == "early_stopping"
    rates = [
        rate for epoch, rate in zip(history["epoch"], history["learning_rate"], strict=True) if epoch > 4
    ]
    assert min(rates) <= max(rates) / 16
    seen = [loss for loss in history["validation_loss"] if loss is not None]
    assert history.last["validation_loss"] == min(seen)
    assert held_out_loss(module) == pytest.approx(min(seen), rel=1e-5)


def test_steps_that_go_astray_later_are_taken_back() -> None:
    """Rows that are a thousand times as large in the eighth epoch alone are no end of the run."""

    class Bursts(Dataset[Any]):
        def __init__(self) -> None:
            (self.X, self.y), self.fetched = rows(), 0

        def __len__(self) -> int:
            return ROWS

        def __getitem__(self, row: int) -> Any:
            self.fetched += 1
            burst = 8 * ROWS < self.fetched < 8 * ROWS + 40
            return (self.X[row] * (1e20 if burst else 1.0)), self.y[row]

    module = small()
    history = found(module, data=Bursts(), epochs=12)
    assert "after steps went astray" in notes(history)
    assert history.last["epoch"] == 12
    assert held_out_loss(module) < 0.5


def test_statistics_of_averaged_weights_are_their_own() -> None:
    """Batch normalisation predicts as well as without its running statistics, by those of all rows at once."""
    module = small(nn.BatchNorm1d(16))
    found(module, epochs=8)
    X, y = rows()
    module.eval()
    running = float(nn.functional.cross_entropy(module(X), y).detach())
    module.train()
    own = float(nn.functional.cross_entropy(module(X), y).detach())
    assert running == pytest.approx(own, rel=0.1)


def test_averaged_weights_that_are_left_have_statistics_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where noise makes the averaged weights the better ones, batch normalisation is given statistics at them."""
    renewed = []

    def spied(module: nn.Module, *others: Any) -> None:
        renewed.append(weights(module))
        renew_statistics(module, *others)

    def weights(module: nn.Module) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()

    monkeypatch.setattr(finding, "renew_statistics", spied)
    X, y = rows()
    noisy = torch.where(torch.rand(ROWS, generator=torch.Generator().manual_seed(0)) < 0.3, 0, y)
    module = small(nn.BatchNorm1d(16))
    found(module, data=(X, noisy), schedule=None)
    assert renewed
    assert torch.equal(renewed[-1], weights(module))


def test_statistics_are_renewed_from_many_batches() -> None:
    """At weights that were put into a module its running statistics become the means over the batches."""
    module = small(nn.BatchNorm1d(16))
    with torch.no_grad():
        module[0].weight.mul_(5.0)
    batches = dt.Batches(*rows(), batch_size=40, seed=0)
    renew_statistics(module, module, batches)
    output = module[0](rows()[0]).detach()
    torch.testing.assert_close(module[1].running_mean, output.mean(0))
    assert module[1].momentum == 0.1
    module[1].eval()  # frozen
    before = module[1].running_mean.clone()
    with torch.no_grad():
        module[0].weight.mul_(5.0)
    renew_statistics(module, module, batches)
    assert torch.equal(module[1].running_mean, before)


class Counting(nn.Module):
    """A buffer that steps move, and nobody knows how."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1.0
        return X


def test_no_average_where_a_buffer_of_ones_own_moves() -> None:
    """Of a buffer that moves with the weights an average does not know: none is taken, and a note has its name."""
    assert "buffer '1.seen' moves" in notes(found(small(Counting()), epochs=6))
    assert "buffer" not in notes(found(small(), epochs=6))


def test_looks_leave_no_trace() -> None:
    """A layer that counts its passes in training mode has counted steps alone, those taken back left out."""
    module = small(Counting())
    history = found(module, epochs=6)
    assert 0.5 * history.last["updates"] < float(module[1].seen) <= history.last["updates"]


# --- what it goes with ---------------------------------------------------------------------------


def test_groups_keep_the_ratio_of_their_rates() -> None:
    """One factor multiplies the rates of all groups, of a class and of an instance, rates in tensors too."""
    module = small()
    groups = [{"params": module[0].parameters(), "lr": 0.002}, {"params": module[2].parameters()}]
    found(module, torch.optim.Adam, 3, parameter_groups=groups)
    rate = torch.tensor(0.001)
    instance = torch.optim.Adam(
        [{"params": module[0].parameters(), "lr": 0.002}, {"params": module[2].parameters(), "lr": rate}]
    )
    found(module, instance, 3)
    first, second = (float(group["lr"]) for group in instance.param_groups)
    assert first == pytest.approx(2 * second, rel=1e-5)
    assert second != 0.001
    assert instance.param_groups[1]["lr"] is rate


@pytest.mark.parametrize("ended", ["by itself", "on its ladder", "by a fault"])
def test_momentum_is_the_callers_afterwards(ended: str) -> None:
    """The ladder's steps are plain ones, and however it ends the caller's optimizer has its momentum again."""
    module = small()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.8)
    tried: list[float] = []

    def look(seen: Any) -> bool:
        tried.append(optimizer.param_groups[0]["momentum"])
        if ended == "by a fault":
            raise RuntimeError
        return ended == "on its ladder"

    if ended == "by a fault":
        with pytest.raises(TrainingError):
            found(module, optimizer, callbacks=[look])
    else:
        found(module, optimizer, callbacks=[look])
    assert tried[0] == 0.0
    assert optimizer.param_groups[0]["momentum"] == 0.8


@pytest.mark.parametrize(
    ("schedule", "every", "factor"),
    [
        ("cosine", "epoch", None),
        ("linear", "epoch", None),
        (
            lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0 / (1 + epoch)),
            "epoch",
            1 / 12,
        ),
        (lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.99), "step", 0.99**299),
        ("constant", "epoch", 1.0),
    ],
)
def test_a_schedule_multiplies_the_rate_that_is_found(
    schedule: Any, every: str, factor: float | None
) -> None:
    """At the end the rate is the found one times the schedule's factor, as if that had begun with the run."""
    history = found(small(), schedule=schedule, schedule_every=every)
    first = float(notes(history).split("learning rate ")[1].split(":")[0])
    last = history.last["learning_rate"]
    if factor is None:
        assert last < 0.02 * first
    else:
        assert last == pytest.approx(factor * first, rel=0.01)
    assert "moved" not in notes(history)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": torch.optim.LBFGS, "batch_size": "full"}, "does not go with LBFGS"),
        ({"optimizer": torch.optim.Rprop, "batch_size": "full"}, "does not go with Rprop"),
        (
            {"schedule": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=400)},
            "OneCycleLR begins at a rate of its own",
        ),
        ({"optimizer_options": {"lr": 0.0}}, "every group of SGD has lr 0"),
        (
            {"learning_rate": "automatic"},
            "learning_rate is 'automatic'; a number above 0 is needed, or \"auto\"",
        ),
    ],
)
def test_what_has_no_rate_to_be_found_is_refused(change: dict[str, Any], message: str) -> None:
    """Optimizers and schedules with a length of step of their own are refused by name, before anything is trained."""
    module = small()
    before = flat(module)
    with pytest.raises(InputError, match=message):
        found(module, **change)
    assert torch.equal(flat(module), before)


def test_an_optimizer_with_a_scheduler_bound_to_it_is_refused() -> None:
    """Its scheduler would go on from rates that are no longer there."""
    module = small()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, 3)
    for schedule in (None, scheduler):
        with pytest.raises(InputError, match="has a scheduler bound to it"):
            found(module, optimizer, schedule=schedule)


@pytest.mark.parametrize(
    "settings",
    [
        {"microbatch": 5},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"clip": 1.0},
        {"compile": "auto"},
        {"cuda_graphs": True},
    ],
    ids=str,
)
def test_it_goes_with_the_rest_of_fit(settings: dict[str, Any]) -> None:
    """Batches in parts, half precision, clipping: the loss of rows that no run saw falls below a half."""
    module = small(nn.Dropout(0.1))
    found(module, **settings)
    assert held_out_loss(module) < 0.5 * held_out_loss(small())


def test_batches_in_parts_find_what_whole_ones_do() -> None:
    """A gradient that adds up exactly leads up the same ladder."""
    ladders = [rungs(found(small(), epochs=3, microbatch=microbatch)) for microbatch in (None, 5)]
    assert [rate for rate, _ in ladders[0]] == [rate for rate, _ in ladders[1]]


def test_frozen_layers_stay() -> None:
    """Parameters that need no gradient, and layers in evaluation mode, are as they were."""
    module = small(nn.BatchNorm1d(16))
    module[0].requires_grad_(False)
    module.train()
    module[1].eval()
    before = module[0].weight.clone(), module[1].running_mean.clone()
    found(module, epochs=4)
    assert torch.equal(module[0].weight, before[0])
    assert torch.equal(module[1].running_mean, before[1])


def test_rows_of_weight_0_say_nothing() -> None:
    """Rows that do not count are not looked at: nonsense in them leaves the rate as it is."""
    X, y = rows()
    weights = (torch.arange(ROWS) % 4 > 0).float()
    nonsense = torch.where(weights[:, None] > 0, X, 1e3)
    told = [notes(found(small(), epochs=2, data=(x, y, weights))) for x in (X, nonsense)]
    assert told[0].split(" in ")[0] == told[1].split(" in ")[0]


def test_a_module_that_cannot_be_looked_at_in_evaluation_mode() -> None:
    """A module that returns something else there is looked at in training mode, with a note."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, X: torch.Tensor) -> Any:
            return (self.inner(X), X) if self.training else self.inner(X)

    def loss(output: Any, y: torch.Tensor) -> torch.Tensor:
        scores, _ = output
        return nn.functional.cross_entropy(scores, y)

    module = Heads()
    history = dt.fit(module, loss, rows(), batch_size=16, epochs=8)
    assert "looked for in training mode" in notes(history)
    assert held_out_loss(module.inner) < 0.5


def test_a_seed_repeats_the_run_and_the_callers_numbers_stay() -> None:
    """Two runs end with the same bits, and PyTorch's random numbers of the caller go on as before."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    ends = []
    for _ in range(2):
        module = small(nn.Dropout(0.3))
        torch.manual_seed(7)
        found(module, epochs=4)
        assert torch.equal(torch.rand(3), expected)
        ends.append(flat(module))
    assert torch.equal(ends[0], ends[1])


def test_a_budget_of_seconds_holds_the_ladder_and_the_falls(own_time: Any) -> None:
    """Of 10 seconds the ladder takes no more than a fifth, and in the last ones the rate has fallen twice."""
    X, y = rows()
    noisy = torch.where(torch.rand(ROWS, generator=torch.Generator().manual_seed(0)) < 0.3, 0, y)
    history = found(
        small(), epochs=None, seconds=10.0, data=(X, noisy), callbacks=[lambda _: own_time.skip(0.02)]
    )
    assert history.stopped == "time"
    seconds = float(notes(history).split(" steps in ")[1].split()[0])
    assert seconds < 2.0
    rates = list(zip(history["seconds"], history["learning_rate"], strict=True))
    before = [rate for at, rate in rates if at < 6.0][-1]
    assert rates[-1][1] == pytest.approx(before / 16)


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_row_that_is_no_number_is_told_as_ever() -> None:
    """No rate is to blame for a nan in the data: the step raises, with the row."""
    X, y = rows()
    X[17, 2] = float("nan")
    with pytest.raises(TrainingError, match=r"row 17 of the data\): the loss is nan"):
        found(small(), data=(X, y))


def row_ahead() -> int:
    """A row that is looked at while the rate is found, and comes in the last batch of the epoch."""
    X, y = rows()
    last = dt.Batches(X, y, batch_size=16, seed=0).rows_of(24)
    return next(row for row in last if row in places(TensorRows((X, y)), None, 0))


def test_a_nan_among_the_rows_that_are_looked_at_is_told_before_the_first_step() -> None:
    """The row is named although no batch of the ladder holds it, and the module is as it was."""
    (X, y), row = rows(), row_ahead()
    X[row, 2] = float("nan")
    module = small()
    before = flat(module)
    with pytest.raises(TrainingError, match=rf"^before the first step \(row {row} of the data\)") as caught:
        found(module, data=(X, y))
    assert "Correct these rows" in str(caught.value)
    assert "learning rate" not in str(caught.value)
    assert (caught.value.rows, caught.value.step) == ((row,), 0)
    assert torch.equal(flat(module), before)


def test_a_loss_that_bears_nan_in_its_rows_is_trained_on() -> None:
    """Rows that hold a nan are no fault where the loss is a number with them."""

    class Filled(nn.Module):
        def forward(self, X: torch.Tensor) -> torch.Tensor:
            return X.nan_to_num()

    X, y = rows()
    X[::3, 2] = float("nan")
    torch.manual_seed(0)
    history = found(nn.Sequential(Filled(), nn.Linear(6, 3)), data=(X, y))
    assert history.stopped == "epochs"


class Logarithm(nn.Module):
    """Of rows that hold more than a thousand it makes a nan."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return X + 0.0 * (1e3 - X).log()


def test_a_batch_of_finite_rows_that_is_nan_whatever_the_rate_blames_no_rate() -> None:
    """A batch whose loss is nan at weights that were good is told with its rows, and no lower rate is advised."""
    X, y = rows()
    row = next(row for row in range(ROWS) if row not in places(TensorRows((X, y)), None, 0))
    X[row, 2] = 1e6
    with pytest.raises(TrainingError, match=r"the loss is nan.* No learning rate is to blame") as caught:
        found(nn.Sequential(Logarithm(), small()), data=(X, y))
    assert row in caught.value.rows


def test_a_loss_of_finite_rows_that_is_nan_before_the_first_step_blames_no_rate() -> None:
    """Where rows that are looked at are finite and their loss is not, the message names no row and no lower rate."""
    X, y = rows()
    X[row_ahead(), 2] = 1e6
    with pytest.raises(
        TrainingError, match="nan before the first step for rows that are looked at"
    ) as caught:
        found(nn.Sequential(Logarithm(), small()), data=(X, y))
    assert "lower learning rate" not in str(caught.value)
    assert caught.value.rows == ()


def test_a_loss_that_is_nan_at_every_rate_is_told_in_one_line() -> None:
    """Where every rung's first step ends in nan the module is as it was, and the message says so once."""

    class Root(nn.Module):
        def forward(self, X: torch.Tensor) -> torch.Tensor:
            return X + (X.detach() - X).abs().sqrt()  # zero, and the way back infinite times zero

    module = small(Root())
    before = flat(module)
    with pytest.raises(
        TrainingError, match="the loss is nan at every learning rate that was tried"
    ) as caught:
        found(module)
    assert str(caught.value).count("\n") == 0
    assert torch.equal(flat(module), before)
    assert caught.value.history.stopped == "diverged"
    assert "lower learning rate" not in str(caught.value)


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 20, 60, 90, 150, 260])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(optimizer: Any, stop: int, tmp_path: Path) -> None:
    """Stopped on its ladder, while the rate is followed, and after it has fallen, it ends with the same bits."""
    whole, parts = small(nn.BatchNorm1d(16), nn.Dropout(0.2)), small(nn.BatchNorm1d(16), nn.Dropout(0.2))
    expected = found(whole, optimizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("descend.torch.watching.LOOK_SECONDS", 0.0)
        patch.setattr("descend.torch.watching.LOOK_SHARE", 0.0)
        found(parts, optimizer, checkpoint=tmp_path, callbacks=[lambda seen: seen.updates >= stop])
    new = small(nn.BatchNorm1d(16), nn.Dropout(0.2))
    history = found(new, optimizer, checkpoint=tmp_path, resume=True)
    assert torch.equal(flat(new), flat(whole))
    for column in ("updates", "epoch", "loss", "learning_rate"):
        assert history.last[column] == expected.last[column]
    told = [note.split(" in ")[0] for note in history.notes if note.startswith("learning rate")]
    assert told == [note.split(" in ")[0] for note in expected.notes if note.startswith("learning rate")]


def test_more_epochs_raise_the_rate_again(tmp_path: Path) -> None:
    """A run of 5 epochs goes on to 20 at the rate that it would have in the sixth of 20."""
    X, y = rows()
    data = X, torch.where(torch.rand(ROWS, generator=torch.Generator().manual_seed(0)) < 0.3, 0, y)
    first = found(small(), epochs=5, data=data, checkpoint=tmp_path)
    more = found(small(), epochs=20, data=data, checkpoint=tmp_path, resume=True)
    at = dict(zip(more["epoch"], more["learning_rate"], strict=True))
    assert at[7] > first.last["learning_rate"]
    assert more.last["epoch"] == 20


def test_a_checkpoint_with_a_rate_of_its_own_is_no_start_for_auto(tmp_path: Path) -> None:
    """How the rate came about is a setting of the run, refused by name where it is another."""
    found(small(), epochs=1, learning_rate=0.1, checkpoint=tmp_path)
    with pytest.raises(InputError, match=r"with learning_rate 0\.1, this one has auto"):
        found(small(), epochs=2, checkpoint=tmp_path, resume=True)
    found(small(), epochs=1, checkpoint=tmp_path / "b")
    with pytest.raises(InputError, match="learning_rate is found"):
        found(small(), epochs=2, learning_rate=None, checkpoint=tmp_path / "b", resume=True)


def test_numbers_of_datasets_are_the_same_with_and_without_looks() -> None:
    """Fetching the rows that are looked at draws none of the random numbers that the run's rows are made with."""

    class Drawn(Dataset[Any]):
        def __len__(self) -> int:
            return ROWS

        def __getitem__(self, row: int) -> Any:
            drawn.append(float(np.random.rand()))
            return rows_once[0][row], rows_once[1][row]

    rows_once, drawn = rows(), []
    np.random.seed(5)
    found(small(), data=Drawn(), epochs=1)
    np.random.seed(5)
    assert drawn[0] != drawn[256]
    assert drawn[256] == float(np.random.rand())
