"""Modules, losses, optimizers and schedules that are not the usual ones."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

import descend.torch as dt
from descend.errors import InputError, TrainingError

ROWS = 60
LOSS = nn.CrossEntropyLoss()


def rows(num_rows: int = ROWS) -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.randn(num_rows, 6, generator=torch.Generator().manual_seed(1))
    return X, X[:, :3].argmax(1)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# --- optimizers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["class", "instance"])
@pytest.mark.parametrize("microbatch", [None, 16])
def test_lbfgs_on_every_row_is_the_loop_by_hand(way: str, microbatch: int | None) -> None:
    """An optimizer that evaluates the loss itself ends where its loop by hand ends, the batch whole or in parts."""
    X, y = rows()
    options: dict[str, Any] = {"line_search_fn": "strong_wolfe", "max_iter": 5}
    module, by_hand = small(), small()
    given: Any = torch.optim.LBFGS
    rest: dict[str, Any] = {"optimizer_options": options}
    if way == "instance":
        given, rest = torch.optim.LBFGS(module.parameters(), **options), {}
    history = dt.fit(module, LOSS, (X, y), given, "full", epochs=4, microbatch=microbatch, **rest)
    optimizer, losses = torch.optim.LBFGS(by_hand.parameters(), **options), []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = LOSS(by_hand(X), y)
        loss.backward()
        return loss

    for _ in range(4):
        losses.append(float(optimizer.step(closure).detach()))
    torch.testing.assert_close(flat(module), flat(by_hand), rtol=1e-3, atol=1e-3)
    assert history.last["loss"] == pytest.approx(losses[-1], rel=1e-2)


def test_a_search_that_meets_a_nan_is_undone() -> None:
    """Where the loss is no number in the middle of a step's search, the module is that of the step before."""
    calls = 0

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return functional.cross_entropy(output, y) * (float("nan") if calls == 30 else 1.0)

    module, before = small(), small()
    with pytest.raises(
        TrainingError, match=r"step 2 .*the loss is nan. The module was put back to that of step 1"
    ):
        dt.fit(module, loss, rows(), torch.optim.LBFGS, "full", learning_rate=0.1, epochs=9)
    dt.fit(before, LOSS, rows(), torch.optim.LBFGS, "full", learning_rate=0.1, epochs=1)
    assert torch.equal(flat(module), flat(before))


@pytest.mark.parametrize("make", [torch.optim.LBFGS, functools.partial(torch.optim.LBFGS, lr=0.1)])
def test_lbfgs_on_batches_is_refused(make: Any) -> None:
    """On batches it is refused before anything is trained, whatever way it is given."""
    with pytest.raises(InputError, match=r'optimizer LBFGS remembers .* pass batch_size="full"'):
        dt.fit(small(), LOSS, rows(), make, epochs=1)


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.SparseAdam])
def test_sparse_gradients_are_trained_on(optimizer: Any) -> None:
    """Embeddings with sparse gradients, which fused kernels refuse, train to where dense ones do."""
    ends = []
    for sparse in (True, False):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Embedding(10, 4, sparse=sparse), nn.Flatten())
        X = torch.randint(0, 10, (ROWS, 1), generator=torch.Generator().manual_seed(1))
        kind = torch.optim.Adam if not sparse and optimizer is torch.optim.SparseAdam else optimizer
        dt.fit(module, nn.MSELoss(), (X, torch.ones(ROWS, 4)), kind, "full", learning_rate=0.1, epochs=1)
        ends.append(flat(module))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.Parameter(torch.randn(6, 3, dtype=torch.complex64))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return (X.to(torch.complex64) @ self.w).abs()


def test_complex_parameters_are_trained() -> None:
    """Complex parameters train as by hand, in parts too, from groups that yield them once; comparing is refused."""
    X, y = rows()
    by_hand = Complex()
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        LOSS(by_hand(X), y).backward()
        optimizer.step()
    for microbatch in (None, 16):
        module = Complex()
        groups = [{"params": module.parameters()}]
        dt.fit(
            module, LOSS, (X, y), torch.optim.Adam, "full", learning_rate=0.01, epochs=3, microbatch=microbatch,
            parameter_groups=groups,
        )  # fmt: skip
        torch.testing.assert_close(module.w, by_hand.w, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="parameter 'w' is of complex64"):
        dt.compare(Complex(), LOSS, (X, y), seeds=1, epochs=1)


def test_complex_numbers_that_a_nan_went_through_are_put_back() -> None:
    """A gradient that is no number, behind a loss that is one, leaves no nan in complex parameters."""
    module = Complex()
    module.w.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan. The module was put back to that of step 0"):
        dt.fit(module, LOSS, rows(), torch.optim.SGD, 16, learning_rate=0.1, epochs=1)
    assert torch.equal(module.w, Complex().w)


def test_groups_of_the_callers_parameters_train_the_copy() -> None:
    """Where runs are on a copy of the module, its parameters stand in the groups for the caller's."""
    from descend.torch.module_data import ModuleData
    from descend.torch.module_trainer import ModuleTrainer

    module = small()
    before = flat(module).clone()
    for kind in (ModuleTrainer, ModuleData):
        groups = [{"params": module[0].parameters(), "lr": 0.5}, {"params": [module[2].weight]}]
        made = kind(module, LOSS, rows(), torch.optim.SGD, groups=groups)
        for _ in range(2):  # groups that yield their parameters once are read again and again
            held = dt.fitting.make_optimizer(
                made.module, torch.optim.SGD, 0.1, None, made.groups
            ).param_groups
            assert [len(group["params"]) for group in held] == [2, 1]
            assert held[0]["params"][0] is made.module[0].weight
            assert held[1]["params"][0] is made.module[2].weight
    assert torch.equal(flat(module), before)
    with pytest.raises(InputError, match="parameter_groups hold a tensor that is none of the module's"):
        dt.compare(module, LOSS, rows(), parameter_groups=[nn.Linear(1, 1).weight], seeds=1, epochs=1)
    with pytest.raises(InputError, match="parameter_groups is 5; a list"):
        dt.fit(module, LOSS, rows(), parameter_groups=5, epochs=1)


def test_clip_is_of_what_the_optimizer_moves() -> None:
    """Gradients of parameters that no optimizer holds have no part in the norm that is clipped."""
    module = small()
    before = module[2].weight.detach().clone()
    optimizer = torch.optim.SGD([module[2].weight], lr=1.0)
    dt.fit(module, LOSS, rows(), optimizer, "full", epochs=1, clip=0.01)
    assert float((module[2].weight - before).detach().norm()) == pytest.approx(0.01, rel=1e-3)


def test_a_callback_may_thaw_a_layer() -> None:
    """A layer that a callback thaws and gives to the optimizer starts every step from no gradient."""
    module, by_hand = small(), small()
    module[0].requires_grad_(False)
    optimizer = torch.optim.SGD(module[2].parameters(), lr=0.1)

    def thaw(seen: Any) -> None:
        if seen.epoch == 1:
            module[0].requires_grad_(True)
            optimizer.add_param_group({"params": list(module[0].parameters())})

    dt.fit(module, LOSS, rows(), optimizer, 16, epochs=3, callbacks=[thaw])
    own = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    batches = dt.Batches(*rows(), batch_size=16, seed=0)
    for epoch in range(3):
        by_hand[0].requires_grad_(epoch > 0)
        for X, y in batches:
            own.zero_grad()
            LOSS(by_hand(X), y).backward()
            own.step()
    torch.testing.assert_close(flat(module), flat(by_hand), rtol=1e-4, atol=1e-6)


def test_what_an_optimizer_keeps_goes_where_its_parameters_go() -> None:
    """State moves with the parameters and back; step counts only where the optimizer's kernels want them there."""
    from descend.torch.devices import state_moved

    module = small()
    there, home = torch.device("meta"), torch.device("cpu")
    for fused, on_device in ((True, "meta"), (False, "cpu")):
        optimizer = torch.optim.Adam(module.parameters(), fused=fused)
        LOSS(module(rows()[0]), rows()[1]).backward()
        optimizer.step()
        state = optimizer.state[module[0].weight]
        with state_moved(optimizer, there, home):
            assert state["exp_avg"].device == there
            assert state["step"].device.type == on_device
            for p in module.parameters():  # nothing comes back from there
                optimizer.state[p] = {"exp_avg": torch.zeros(1), "step": torch.zeros(())}
        assert optimizer.state[module[0].weight]["exp_avg"].device == home


# --- schedules and checkpoints -------------------------------------------------------------------


def test_a_scheduler_of_the_optimizer_that_is_passed_is_taken() -> None:
    """A scheduler made already moves the rates of its optimizer; one of another optimizer is refused."""
    module = small()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    history = dt.fit(module, LOSS, rows(), optimizer, epochs=2, schedule=lr_scheduler.StepLR(optimizer, 1))
    assert history.last["learning_rate"] == pytest.approx(0.01)
    other = lr_scheduler.StepLR(torch.optim.SGD(small().parameters(), lr=0.1), 1)
    with pytest.raises(InputError, match="a scheduler of the optimizer instance that is passed"):
        dt.fit(module, LOSS, rows(), optimizer, epochs=1, schedule=other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": lambda optimizer: None}, "schedule returned a NoneType"),
        (
            {"schedule": lr_scheduler.ReduceLROnPlateau, "schedule_every": "step"},
            "looks at the loss of an epoch",
        ),
        ({"callbacks": print}, "callbacks is .*; a list of callables"),
        (
            {"optimizer": lambda parameters: torch.optim.SGD(small().parameters(), lr=1.0)},
            "none of the module's",
        ),
    ],
)
def test_what_would_fail_later_is_refused(settings: dict[str, Any], message: str) -> None:
    """Each is refused before anything is trained."""
    module = small()
    with pytest.raises(InputError, match=message):
        dt.fit(module, LOSS, rows(), epochs=1, **settings)
    assert torch.equal(flat(module), flat(small()))


def test_a_rate_of_numpy_goes_through_a_checkpoint(tmp_path: Path) -> None:
    """Numbers of NumPy among what an optimizer keeps are read again."""
    ends = []
    for epochs in ((4,), (2, 4)):
        module = small()
        for number, last in enumerate(epochs):
            folder = None if len(epochs) == 1 else tmp_path / "run"
            dt.fit(
                module, LOSS, rows(), torch.optim.SGD, epochs=last, checkpoint=folder, resume=number > 0,
                optimizer_options={"lr": np.logspace(-2, -1, 2)[1], "weight_decay": np.float32(0.01)},
            )  # fmt: skip
        ends.append(flat(module))
    assert torch.equal(*ends)


def test_a_checkpoint_that_could_not_be_read_is_told_when_it_is_written(tmp_path: Path) -> None:
    """A scheduler that keeps an object of its own in its state is told at the first writing, not when all is lost."""

    class Own(lr_scheduler.StepLR):
        def state_dict(self) -> dict[str, Any]:
            return super().state_dict() | {"path": tmp_path}

    with pytest.raises(TrainingError, match="what is kept of optimizer or schedule could not be read again"):
        dt.fit(small(), LOSS, rows(), epochs=1, checkpoint=tmp_path / "run", schedule=lambda o: Own(o, 1))


# --- losses --------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """A loss with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(output * self.scale, y)


def test_parameters_of_the_loss_are_trained_and_kept_where_the_optimizer_has_them(tmp_path: Path) -> None:
    """They go through checkpoints with the module's; that an optimizer class leaves them out is a note."""
    ends = []
    for epochs in ((4,), (2, 4)):
        for number, last in enumerate(epochs):
            module, loss = small(), Scaled()
            optimizer = torch.optim.Adam([*module.parameters(), *loss.parameters()], lr=0.05)
            folder = None if len(epochs) == 1 else tmp_path / "run"
            dt.fit(module, loss, rows(), optimizer, epochs=last, checkpoint=folder, resume=number > 0)
        ends.append(float(loss.scale.detach()))
    assert ends[0] == ends[1] != 1.0
    history = dt.fit(small(), Scaled(), rows(), epochs=1)
    assert any(r"its parameters (scale) are not trained" in note for note in history.notes)


def test_a_batch_of_ignored_targets_is_told() -> None:
    """Where every target of a batch is ignored its loss is 0 / 0, and that is said."""
    X, y = rows()
    y = torch.full_like(y, -100)
    y[0] = 1
    with pytest.raises(
        TrainingError, match=r"the loss is nan: every target of the batch is -100, .*\(ignore_index\)"
    ):
        dt.fit(small(), LOSS, (X, y), batch_size=8, epochs=1)


@pytest.mark.parametrize(
    ("wrap", "picked"), [(lambda o: (o, 1), r"output\[0\]"), (lambda o: {"logits": o}, "logits")]
)
def test_an_output_of_several_parts_needs_a_loss_that_picks(wrap: Any, picked: str) -> None:
    """A loss of PyTorch beside a module that returns a tuple or a dict is refused, with the loss that would do."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, X: torch.Tensor) -> Any:
            return wrap(self.inner(X))

    with pytest.raises(
        InputError, match=f"CrossEntropyLoss takes a tensor; pass a loss that picks it: .*{picked}"
    ):
        dt.fit(Wrapped(), LOSS, rows(), epochs=1)


def test_outputs_of_several_entries_a_row_go_in_parts() -> None:
    """A module that returns three entries for each row has them put together in their order, for any loss."""
    X, y = rows()
    many = y[:, None].repeat(1, 3)

    class Flattened(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 3)

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            return self.layer(X.reshape(-1, 2))  # type: ignore[no-any-return]

    def loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(output, y.flatten())

    ends = []
    for microbatch in (None, 4):
        module = Flattened()
        dt.fit(
            module, loss, (X, many), torch.optim.SGD, 10, learning_rate=0.1, epochs=2, microbatch=microbatch
        )
        ends.append(flat(module))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-6)


# --- layers --------------------------------------------------------------------------------------


def test_lazy_layers_get_their_parameters_first() -> None:
    """A module of lazy layers trains to where the same module trains that was called before."""

    def lazy() -> nn.Module:
        return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))

    module, called = lazy(), lazy()
    history = dt.fit(module, LOSS, rows(), batch_size=20, epochs=3, seed=4)
    torch.manual_seed(4)
    called.eval()
    called(rows()[0][:2])
    called.train()
    assert dt.fit(called, LOSS, rows(), batch_size=20, epochs=3, seed=4).last["loss"] == pytest.approx(
        history.last["loss"], rel=1e-5
    )
    assert dt.compare(lazy()[0], nn.MSELoss(), (rows()[0], torch.zeros(ROWS, 8)), seeds=1, epochs=1).runs
    with pytest.raises(InputError, match="the module has lazy layers, and a pass of 2 rows"):
        dt.fit(nn.Sequential(nn.LazyLinear(8), nn.Linear(3, 3)), LOSS, rows(), epochs=1)


def test_a_last_batch_of_one_row_is_refused_where_batches_are_normalised() -> None:
    """Before the first step, with a size that leaves none over; a layer that is frozen does not mind."""
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    with pytest.raises(InputError, match=r"the last batch of 33 has one row, and layer '1' .* such as 17"):
        dt.fit(module, LOSS, rows(33), batch_size=16, epochs=1)
    module[1].eval()
    assert dt.fit(module, LOSS, rows(33), batch_size=16, epochs=1).last["rows"] == 33


class Cumulative(nn.Module):
    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return X.cumsum(0)


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(6, 3), nn.Flatten()

    def forward(self, X: torch.Tensor) -> Any:
        output = self.layer(X)
        return {"logits": self.last(output - output.mean(0))}


def test_rows_that_depend_on_earlier_ones_are_found() -> None:
    """A layer in which only later rows see earlier ones is found, and one whose module returns a dict."""
    with pytest.raises(InputError, match=r"layer '1' \(Cumulative\) the rows of a batch depend"):
        dt.fit(nn.Sequential(nn.Linear(6, 3), Cumulative()), LOSS, rows(), epochs=1, microbatch=4)
    with pytest.raises(InputError, match=r"layer 'last' \(Flatten\) the rows of a batch depend"):
        dt.fit(
            Centred(),
            lambda output, y: functional.cross_entropy(output["logits"], y),
            rows(),
            epochs=1,
            microbatch=4,
            reduction="mean",
        )


def test_attention_over_the_batch_is_found_behind_its_dropout() -> None:
    """Attention that takes the rows of a batch for a sequence is found, with dropout in it and without."""
    for dropout in (0.0, 0.1):
        layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=dropout)
        module = nn.Sequential(nn.Unflatten(1, (1, 6)), layer, nn.Flatten(), nn.Linear(6, 3))
        with pytest.raises(InputError, match=r"the rows of a batch depend on one another"):
            dt.fit(module, LOSS, rows(), epochs=1, microbatch=4)
        assert all(one.training for one in module.modules())


def test_buffers_that_grow_are_put_back() -> None:
    """A buffer that has another shape than in the copy is the copy's again; one that is new stays."""
    from descend.torch.snapshots import copied, restore

    module = nn.Module()
    module.inner = nn.Module()
    module.inner.register_buffer("seen", torch.zeros(2, 3))
    module.inner.register_buffer("late", None)
    kept = copied(module)
    module.inner.seen, module.inner.late = torch.ones(5, 3), torch.ones(1)
    restore(module, kept)
    assert torch.equal(module.inner.seen, torch.zeros(2, 3))
    assert torch.equal(module.inner.late, torch.ones(1))


class Stateful(nn.Linear):
    """A module with state that is no tensor."""

    def get_extra_state(self) -> Any:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_a_module_with_state_of_its_own_is_copied() -> None:
    """State that is no tensor is none of what runs put back."""
    from descend.torch.module_trainer import ModuleTrainer

    trainer = ModuleTrainer(Stateful(6, 3), LOSS, rows(), torch.optim.SGD)
    trainer.put_back(trainer.state())


@pytest.mark.parametrize("call", [dt.configure_batch_size, dt.compare])
def test_what_cannot_be_sent_through_is_said_before_anything_is_measured(call: Any) -> None:
    """An X of another type, classes out of range, a module and a loss that raise: each with what to do."""
    X, y = rows()

    class Raises(nn.Linear):
        def forward(self, X: torch.Tensor) -> torch.Tensor:
            raise KeyError("mask")

    def broken(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise ValueError("no loss")

    for module, loss, data, message in (
        (small(), LOSS, (X.double(), y), r"on the first rows. Give X the module's type: X.float\(\)"),
        (small(), LOSS, (X, y + 1), "has class 3, and the module's output has 3 columns"),
        (Raises(6, 3), LOSS, (X, y), "the module raised KeyError: 'mask' on the first rows"),
        (small(), broken, (X, y), "the loss raised ValueError: no loss on the first rows"),
    ):
        with pytest.raises(InputError, match=message):
            call(module, loss, data)


@pytest.mark.usefixtures("own_time")
def test_batches_without_a_loss_lose_and_end_nothing() -> None:
    """Where half of the targets are ignored a plan is made: single rows, which have no loss, are no size for it."""
    X, y = rows()
    y = torch.where(torch.arange(ROWS) % 2 == 0, -100, y)
    plan = dt.configure_batch_size(small(), LOSS, (X, y), target_loss=0.9, seconds=3.0)
    assert plan.batch_size > 1


def test_an_optimizer_of_ones_own_needs_no_base() -> None:
    """Parameters by groups and a step are enough: nothing has to inherit from anything."""

    class Own:
        def __init__(self, parameters: Any, lr: float) -> None:
            self.param_groups = [{"params": list(parameters), "lr": lr}]

        def step(self) -> None:
            with torch.no_grad():
                for p in self.param_groups[0]["params"]:
                    p -= self.param_groups[0]["lr"] * p.grad

    module, plain = small(), small()
    dt.fit(module, LOSS, rows(), Own, learning_rate=0.1, epochs=2)
    dt.fit(plain, LOSS, rows(), torch.optim.SGD, learning_rate=0.1, epochs=2)
    torch.testing.assert_close(flat(module), flat(plain), rtol=1e-5, atol=1e-7)


def test_a_step_that_takes_a_closure_is_given_one() -> None:
    """An optimizer that looks at the loss twice in a step trains on batches, as sharpness-aware ones do."""

    class Twice(torch.optim.SGD):
        def step(self, closure: Any) -> Any:
            loss = closure()
            assert torch.equal(loss, closure())
            torch.optim.SGD.step(self)
            return loss

    module, plain = small(), small()
    dt.fit(module, LOSS, rows(), Twice, 16, learning_rate=0.1, epochs=2)
    dt.fit(plain, LOSS, rows(), torch.optim.SGD, 16, learning_rate=0.1, epochs=2)
    torch.testing.assert_close(flat(module), flat(plain), rtol=1e-5, atol=1e-7)
