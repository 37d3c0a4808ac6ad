"""``fit`` is the loop that anybody would write, with history, budgets and stopping."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import descend.torch as dt
from descend.errors import InputError
from descend.history import COLUMNS, History
from descend.torch.rising import told_of_rise

ROWS = 90


def rows(num_rows: int = ROWS, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes that a line separates but for noise."""
    numbers = torch.Generator().manual_seed(seed)
    X = torch.randn(num_rows, 6, generator=numbers)
    return X, (X[:, :3] + 0.3 * torch.randn(num_rows, 3, generator=numbers)).argmax(1)


def small(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Dropout(dropout), nn.Linear(12, 3))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def by_hand(make: Any, epochs: int, batch_size: int = 16, clip: float | None = None) -> torch.Tensor:
    """The loop of PyTorch's tutorials over the same batches."""
    module, loss = small(), nn.CrossEntropyLoss()
    optimizer = make(module.parameters())
    batches = dt.Batches(*rows(), batch_size=batch_size, seed=0)
    for _ in range(epochs):
        for X, y in batches:
            optimizer.zero_grad()
            loss(module(X), y).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
    return flat(module)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.1}),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (torch.optim.Adam, {"lr": 0.01}),
        (torch.optim.AdamW, {"lr": 0.01, "foreach": True}),
        (torch.optim.RMSprop, {"lr": 0.01}),
        (torch.optim.Adadelta, {}),
    ],
)
def test_fit_is_the_loop_by_hand(optimizer: Any, settings: dict[str, Any]) -> None:
    """Class, partial and instance of an optimizer all end where the loop of PyTorch's tutorials ends."""
    expected = by_hand(functools.partial(optimizer, **settings), 3)
    options = {name: value for name, value in settings.items() if name != "lr"}
    for way in ("class", "partial", "instance"):
        module = small()
        given: Any = optimizer
        rest: dict[str, Any] = {"learning_rate": settings.get("lr"), "optimizer_options": options}
        if way == "partial":
            given, rest = functools.partial(optimizer, **settings), {}
        if way == "instance":
            given, rest = optimizer(module.parameters(), **settings), {}
        dt.fit(module, nn.CrossEntropyLoss(), rows(), given, 16, epochs=3, **rest)
        torch.testing.assert_close(flat(module), expected, rtol=1e-4, atol=1e-6)


def test_clip_bounds_the_gradient() -> None:
    """``clip`` is PyTorch's ``clip_grad_norm_`` before each step."""
    module = small()
    dt.fit(module, nn.CrossEntropyLoss(), rows(), torch.optim.SGD, 16, learning_rate=0.5, epochs=2, clip=0.1)
    expected = by_hand(functools.partial(torch.optim.SGD, lr=0.5), 2, clip=0.1)
    torch.testing.assert_close(flat(module), expected, rtol=1e-4, atol=1e-6)


def test_parameter_groups_have_their_own_rates() -> None:
    """Groups are the optimizer's: a layer of rate 0 does not move, the other does."""
    module = small()
    before = [p.detach().clone() for p in module.parameters()]
    groups = [{"params": module[0].parameters(), "lr": 0.0}, {"params": module[3].parameters()}]
    dt.fit(
        module,
        nn.CrossEntropyLoss(),
        rows(),
        torch.optim.SGD,
        learning_rate=0.1,
        parameter_groups=groups,
        epochs=1,
    )
    moved = [not torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True)]
    assert moved == [False, False, True, True]


def test_history_has_the_columns_of_all_histories() -> None:
    """History has the columns of every history; rows, epochs, steps and the mean loss of the epoch are right."""
    module, seen = small(), []
    history = dt.fit(
        module, nn.CrossEntropyLoss(), rows(), torch.optim.SGD, 16, epochs=2, learning_rate=0.0001, seed=3
    )
    assert tuple(history.columns) == COLUMNS
    ends = [i for i, epoch in enumerate(history["epoch"]) if epoch in (1.0, 2.0)]
    assert [history["rows"][i] for i in ends] == [ROWS, 2 * ROWS]
    assert [history["updates"][i] for i in ends] == [6, 12]
    assert history.stopped == "epochs"
    start = small()
    seen = [nn.functional.cross_entropy(start(rows()[0]), rows()[1]).item()]
    assert history.last["loss"] == pytest.approx(seen[0], rel=1e-3)
    assert history.last["learning_rate"] == 0.0001
    assert history.last["batch_size"] == 16


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_validation_loss_is_that_of_evaluation_mode(reduction: str) -> None:
    """The validation loss is the mean over its rows, in evaluation mode, whatever the evaluation batch size."""
    module, held = small(dropout=0.5), rows(41, seed=2)
    history = dt.fit(
        module,
        nn.CrossEntropyLoss(reduction=reduction),
        rows(),
        torch.optim.SGD,
        validation=held,
        learning_rate=1e-3,
        epochs=2,
        evaluation_batch_size=7,
    )
    module.eval()
    with torch.no_grad():
        expected = nn.functional.cross_entropy(module(held[0]), held[1]).item()
    assert history.last["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert history["epoch"][0] == 0
    assert history["loss"][0] is None


def test_early_stopping_gives_the_best_module_back() -> None:
    """With nothing set a run ends by validation, and the module is the best that validation saw."""
    X, y = rows(300)
    y = torch.where(
        torch.arange(300) % 4 == 0, torch.arange(300) // 4 % 3, y
    )  # a quarter is noise: it overfits
    module = small()
    history = dt.fit(module, nn.CrossEntropyLoss(), (X, y), learning_rate=0.03)
    assert history.stopped == "early_stopping"
    losses = [value for value in history["validation_loss"] if value is not None]
    assert history.last["validation_loss"] == min(losses)
    order = np.random.Generator(np.random.PCG64([0, 0])).permutation(300)
    held = np.sort(order[:30])
    module.eval()
    with torch.no_grad():
        value = nn.functional.cross_entropy(module(X[held]), y[held]).item()
    assert value == pytest.approx(min(losses), rel=1e-5)


def test_a_module_that_only_gets_worse_is_given_back_as_it_was() -> None:
    """Where no epoch is better than the start, early stopping gives the start back."""
    X, y = rows(300)
    module = small()
    dt.fit(module, nn.CrossEntropyLoss(), (X, y), epochs=20, learning_rate=0.01)
    before = flat(module)
    history = dt.fit(
        module, nn.CrossEntropyLoss(), (X, (y + 1) % 3), epochs=8, early_stopping=True, validation=(X, y)
    )
    assert torch.equal(flat(module), before)
    assert history.last["validation_loss"] == history["validation_loss"][0]


def test_a_time_budget_ends_inside_an_epoch(own_time: Any) -> None:
    """``seconds`` ends a run, inside an epoch where it must, and no step is taken long after."""

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            own_time.skip(0.01)
            return self.layer(X)  # type: ignore[no-any-return]

    history = dt.fit(Slow(), nn.CrossEntropyLoss(), rows(), batch_size=1, seconds=0.2)
    assert history.stopped == "time"
    assert 0 < history.last["updates"] < ROWS
    assert history.last["epoch"] < 1


def test_a_callback_is_told_and_can_end_the_run() -> None:
    """Callbacks get an observation at the end of every epoch; True ends the run."""
    seen: list[Any] = []

    def callback(observation: Any) -> bool:
        seen.append(observation)
        return len([s for s in seen if s.validation_loss is not None]) == 2

    history = dt.fit(
        small(), nn.CrossEntropyLoss(), rows(), epochs=9, callbacks=[callback], validation_fraction=0.2
    )
    assert history.stopped == "interrupted"
    assert history.stopped_by_callback
    assert seen[-1].epoch == 2
    assert seen[-1].rows == 2 * 72


def test_schedules_of_pytorch_and_of_descend() -> None:
    """A scheduler moves the rates after every epoch, or after every step; a name is descend's schedule."""
    per_epoch, per_step, by_name = [
        dt.fit(
            small(),
            nn.CrossEntropyLoss(),
            rows(),
            torch.optim.SGD,
            30,
            learning_rate=0.1,
            epochs=4,
            schedule=schedule,
            schedule_every=every,
        )["learning_rate"]
        for schedule, every in (
            (lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1), "epoch"),
            (lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5), "step"),
            ("linear", "epoch"),
        )
    ]
    assert per_epoch[-4:] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert per_step[-1] == pytest.approx(0.1 * 0.5**12)
    assert by_name[-1] == pytest.approx(0.0)


def test_a_schedule_on_plateaus_is_told_the_validation_loss() -> None:
    """The rate falls where the validation loss does not."""
    history = dt.fit(
        small(),
        nn.CrossEntropyLoss(),
        rows(),
        torch.optim.SGD,
        learning_rate=1e-6,
        epochs=12,
        schedule="plateau",
        validation=rows(20, 5),
    )
    assert history.last["learning_rate"] < 1e-6


def test_modes_and_random_numbers_are_put_back() -> None:
    """Modes of all layers, and the caller's random numbers, are as they were."""
    module = small(0.5)
    module.eval()
    module[2].train()
    state = torch.get_rng_state()
    dt.fit(module, nn.CrossEntropyLoss(), rows(), epochs=1, validation_fraction=0.2)
    assert torch.equal(state, torch.get_rng_state())
    assert [layer.training for layer in module] == [False, False, True, False]
    assert not module.training


def test_a_seed_repeats_the_run() -> None:
    """The same seed gives the same module to the bit, dropout and all; another seed gives another."""
    ends = []
    for seed in (1, 1, 2):
        module = small(0.5)
        dt.fit(module, nn.CrossEntropyLoss(), rows(), epochs=2, seed=seed)
        ends.append(flat(module))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_arrays_get_the_type_of_the_module() -> None:
    """Arrays of doubles train a module of floats, and a module of doubles."""
    X, y = (part.numpy() for part in rows())
    for dtype in (torch.float32, torch.float64):
        module = small().to(dtype)
        dt.fit(module, nn.CrossEntropyLoss(), (X.astype(np.float64), y.astype(np.uint8)), epochs=1)
        assert flat(module).dtype == dtype


def test_datasets_and_several_inputs() -> None:
    """A dataset trains as its tensors do; an X in a tuple is a module's several inputs."""
    X, y = rows()
    ends = []

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = small()

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return self.layers(torch.cat([left, right], 1))  # type: ignore[no-any-return]

    class Mapped(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return ROWS

        def __getitem__(self, row: int) -> Any:
            return X[row], y[row]

    for module, data in (
        (small(), (X, y)),
        (small(), TensorDataset(X, y)),
        (small(), Mapped()),
        (Two(), ((X[:, :2], X[:, 2:]), y)),
    ):
        dt.fit(module, nn.CrossEntropyLoss(), data, batch_size=16, epochs=2)
        ends.append(flat(module))
    for other in ends[1:]:
        assert torch.equal(ends[0], other)


def test_parameters_that_are_not_trained_stay() -> None:
    """Parameters without a gradient stay, and are given none."""
    module = small()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    dt.fit(module, nn.CrossEntropyLoss(), rows(), epochs=1)
    assert torch.equal(module[0].weight, before)
    assert module[0].weight.grad is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": nn.Linear}, "module is .*make one of it: Linear"),
        ({"module": nn.ReLU()}, "no parameters that require a gradient"),
        ({"loss": nn.CrossEntropyLoss}, "call it: CrossEntropyLoss()"),
        ({"loss": "log_loss"}, "a callable of"),
        ({"data": (torch.zeros(3, 6), torch.zeros(2))}, "X has 3, y has 2 rows"),
        ({"data": (torch.zeros(0, 6), torch.zeros(0))}, "has no rows"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; a class"),
        ({"optimizer": nn.Linear(1, 1)}, "optimizer"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS"),
        ({"optimizer": torch.optim.SGD(nn.Linear(1, 1).parameters())}, "none of the module's parameters"),
        ({"optimizer_options": {"beta": 1}}, "could not be made with .*beta"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; a number above 0 is needed, or .auto."),
        ({"epochs": 0}, "epochs is 0"),
        ({"microbatch": 1.5}, "microbatch is 1.5"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"validation_fraction": 0.1, "validation": rows(5)}, "pass one of them"),
        ({"early_stopping": True, "validation_fraction": 0.0}, "early_stopping needs rows"),
        ({"schedule": "linear", "epochs": None, "seconds": 1.0}, "where the run ends; pass epochs"),
        ({"schedule": "linaer"}, "did you mean 'linear'"),
        ({"device": "cuda"}, "PyTorch sees no GPU"),
        ({"device": "gpu"}, "device 'gpu' is not known"),
        ({"precision": "half"}, "precision 'half' is not known"),
        ({"compile": "yes"}, "compile is 'yes'"),
        ({"resume": True}, "needs checkpoint"),
        ({"reduction": "average"}, "reduction 'average' is not known"),
    ],
)
def test_a_bad_call_is_refused_before_anything_is_trained(change: dict[str, Any], message: str) -> None:
    """What cannot be carried out is refused with its name, and the module is as it was."""
    if change.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    module = small()
    before = flat(module)
    call = {"module": module, "loss": nn.CrossEntropyLoss(), "data": rows(), "epochs": 1} | change
    with pytest.raises(InputError, match=message):
        dt.fit(**call)
    assert torch.equal(flat(module), before)


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (nn.MSELoss(), torch.zeros(ROWS), r"y.reshape\(-1, 3\)|same columns"),
        (nn.MSELoss(), torch.zeros(ROWS, 3, dtype=torch.float64), r"y.to\(torch.float32\)"),
        (nn.MSELoss(), torch.zeros(ROWS, 3, dtype=torch.int64), r"y.to\(torch.float32\)"),
        (nn.CrossEntropyLoss(), torch.zeros(ROWS), "numbers of classes, pass y.long"),
        (nn.CrossEntropyLoss(), torch.zeros(ROWS, dtype=torch.int32), "pass y.long"),
        (nn.CrossEntropyLoss(), torch.zeros(ROWS, 1, dtype=torch.int64), "one number of a class each"),
        (nn.CrossEntropyLoss(), torch.where(torch.arange(ROWS) == 57, 3, 0), "row 57 has class 3.*0 … 2"),
        (nn.CrossEntropyLoss(), torch.where(torch.arange(ROWS) == 8, -1, 0), "row 8 has class -1"),
    ],
)
def test_targets_that_do_not_fit_the_loss_are_told(loss: Any, y: torch.Tensor, message: str) -> None:
    """Types, shapes and classes that do not fit the loss are told before the first step, with the row."""
    module = small()
    before = flat(module)
    with pytest.raises(InputError, match=message):
        dt.fit(module, loss, (rows()[0], y), epochs=1)
    assert torch.equal(flat(module), before)


def test_one_column_is_not_compared_with_every_row() -> None:
    """An output (B, 1) beside a y (B,), which PyTorch would broadcast to B × B, is refused with what to pass."""
    with pytest.raises(InputError, match=r"compare every row with every other; pass y.reshape\(-1, 1\)"):
        dt.fit(nn.Linear(6, 1), nn.MSELoss(), (rows()[0], torch.zeros(ROWS)), epochs=1)


def test_half_precision_on_the_cpu() -> None:
    """bf16 trains on the CPU; fp16 falls back to float32, and that is noted."""
    losses = []
    for precision in ("float32", "bf16", "fp16"):
        module = small()
        history = dt.fit(
            module,
            nn.CrossEntropyLoss(),
            rows(),
            epochs=3,
            learning_rate=0.01,
            precision=precision,
            device="cpu",
        )
        losses.append(history.last["loss"])
        assert flat(module).dtype == torch.float32
        assert any("fp16" in note for note in history.notes) == (precision == "fp16")
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]
    assert losses[2] == losses[0]


def test_what_does_not_compile_is_trained_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where compiling fails the module is trained as it is, with the reason in the notes."""

    def broken(module: Any) -> Any:
        def call(X: Any) -> Any:
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    history = dt.fit(small(), nn.CrossEntropyLoss(), rows(), epochs=1, compile=True)
    assert any("not compiled, RuntimeError: no C++ compiler" in note for note in history.notes)
    history = dt.fit(small(), nn.CrossEntropyLoss(), rows(), epochs=1, compile="auto", device="cpu")
    assert any("not on the CPU" in note for note in history.notes)


def test_verbose_says_where_a_run_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """``verbose`` writes progress to stderr and nothing to stdout."""
    dt.fit(small(), nn.CrossEntropyLoss(), rows(), epochs=2, validation_fraction=0.2, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2 · loss" in err
    assert "validation" in err


def test_the_size_auto_is_told_from_step_times() -> None:
    """A power of two within the rows, said in a note with the knee; the module trains with it."""
    module = small()
    history = dt.fit(module, nn.CrossEntropyLoss(), rows(), batch_size="auto", epochs=1)
    note = next(note for note in history.notes if note.startswith("batch size "))
    size = int(note.split()[2].rstrip(":"))
    assert size == history["batch_size"][-1]
    assert "knee" in note
    assert "configure_batch_size" in note


def test_groups_with_a_rate_of_their_own_keep_it():
    """What moves an optimizer's rate leaves a group's own where it is, and at rate 0 nothing moves."""
    from descend.torch.optimizers import with_rates

    one, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    groups = [{"params": one.parameters()}, {"params": other.parameters(), "lr": 0.3}]
    for group in groups:
        group["params"] = list(group["params"])
    made, set_rate = with_rates(lambda rate: torch.optim.SGD([dict(group) for group in groups], lr=rate))
    for rate, wanted in ((0.5, [0.5, 0.3]), (0.01, [0.01, 0.3]), (0.0, [0.0, 0.0])):
        set_rate(rate)
        assert [group["lr"] for group in made.param_groups] == pytest.approx(wanted)


def test_a_module_is_compiled_in_the_precision_that_it_trains_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried before the clock runs is what comes: else the first step, on the clock, compiles again."""
    seen = []

    def compiled(module: Any) -> Any:
        def call(X: torch.Tensor) -> Any:
            seen.append((len(X), torch.is_autocast_enabled("cpu")))
            return module(X)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    dt.fit(small(), nn.CrossEntropyLoss(), rows(), batch_size=40, epochs=1, compile=True, precision="bf16")
    assert seen == [(40, True), (10, True), (40, True), (40, True), (10, True)]


# --- a rate that is too high ---------------------------------------------------------------------


def at_rate(rate: float, epochs: int = 2, **settings: Any) -> History:
    torch.manual_seed(0)
    X = torch.randn(300, 5)
    data = X, (X.sum(1) > 0).long()
    settings = {"device": "cpu", "batch_size": 32} | settings
    return dt.fit(
        nn.Linear(5, 2),
        nn.CrossEntropyLoss(),
        data,
        torch.optim.SGD,
        learning_rate=rate,
        epochs=epochs,
        **settings,
    )


def test_a_loss_that_rose_a_hundredfold_is_noted() -> None:
    """A finite loss that ended far above its first batch's is told from where to where, and a good rate's is not."""
    note = at_rate(1e8).notes[-1]
    assert "the loss rose from 0." in note
    assert "the learning rate is too high" in note
    for rate in (1e-3, 0.1):
        assert not any("rose" in note for note in at_rate(rate).notes)


def test_a_rise_is_noted_the_same_in_a_run_that_was_resumed(tmp_path: Path) -> None:
    """The loss of the first batch goes with the checkpoint."""
    at_rate(1e8, checkpoint=tmp_path, epochs=1)
    assert at_rate(1e8, checkpoint=tmp_path, resume=True).notes[-1] == at_rate(1e8).notes[-1]


@pytest.mark.parametrize(
    ("losses", "first", "batch_size", "noted"),
    [
        ([300.0, 250.0], 1.0, 32, True),
        ([30.0, 99.0], 1.0, 32, False),
        ([300.0, 250.0], 1.0, 1, False),
        ([1.0, 250.0], 1.0, 1, True),
        ([300.0, 250.0], -1.0, 32, False),
        ([300.0, 1.0], 1.0, 32, False),
    ],
)
def test_what_counts_as_a_rise(losses: list[float], first: float, batch_size: int, noted: bool) -> None:
    """A hundred times the first batch's loss, or of few rows the first epoch's; one below zero has no scale."""
    history = History()
    for epoch, loss in enumerate(losses, 1):
        history.append(dict.fromkeys(COLUMNS) | {"epoch": epoch, "loss": loss})
    assert (told_of_rise(history, first, batch_size, 1000) is not None) is noted
