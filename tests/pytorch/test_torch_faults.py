"""What goes wrong in a step is one message with step, batch and rows; the module before it is kept."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import descend.torch as dt
from descend.errors import DescendError, TrainingError

ROWS = 100
BATCH = 10


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, 6, generator=numbers), torch.arange(ROWS) % 3


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def after(steps: int) -> torch.Tensor:
    """The module after so many steps, by hand."""
    module, loss, done = small(), nn.CrossEntropyLoss(), 0
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, fused=True)
    batches = dt.Batches(*rows(), batch_size=BATCH, seed=0)
    while True:
        for X, y in batches:
            if done == steps:
                return flat(module)
            optimizer.zero_grad()
            loss(module(X), y).backward()
            optimizer.step()
            done += 1


def faulty(module: Any, loss: Any = None, data: Any = None, **settings: Any) -> TrainingError:
    settings = {"optimizer": torch.optim.SGD, "learning_rate": 0.1, "epochs": 20} | settings
    with pytest.raises(TrainingError) as caught:
        dt.fit(module, loss or nn.CrossEntropyLoss(), data or rows(), batch_size=BATCH, **settings)
    return caught.value


def of_batch(epoch: int, position: int) -> tuple[int, ...]:
    batches = dt.Batches(torch.arange(ROWS), batch_size=BATCH, seed=0)
    batches.set_epoch(epoch)
    return tuple(batches.rows_of(position))


class NanAt(nn.Module):
    """A loss that is not a number at one call."""

    def __init__(self, call: int, value: float = float("nan")) -> None:
        super().__init__()
        self.left, self.value = call, value

    def forward(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        loss = nn.functional.cross_entropy(output, y)
        return loss * self.value if self.left == 0 else loss


@pytest.mark.parametrize(("value", "name"), [(float("nan"), "nan"), (float("inf"), "inf")])
@pytest.mark.parametrize("microbatch", [None, 3])
def test_a_loss_that_is_no_number_is_told_with_its_step(
    value: float, name: str, microbatch: int | None
) -> None:
    """A loss that is nan or infinite at step 100 of 200 is told with step and rows; the module is that of step 99."""
    module = small()
    fault = faulty(module, NanAt(100, value), microbatch=microbatch)
    assert f"step 100 (epoch 10, batch 10 of 10; rows {of_batch(10, 9)[0]}," in str(fault)
    assert f"the loss is {name}. The module has the weights of step 99. The rows hold finite numbers" in str(
        fault
    )
    assert (fault.step, fault.epoch, fault.batch, fault.rows) == (100, 10, 10, of_batch(10, 9))
    torch.testing.assert_close(flat(module), after(99), rtol=1e-4, atol=1e-6)
    history: Any = fault.history
    assert history.stopped == "diverged"
    assert history.last["updates"] == 90


def test_a_nan_in_the_data_is_told_with_its_row() -> None:
    """A row that holds a nan is named."""
    X, y = rows()
    X[42, 3] = float("nan")
    fault = faulty(small(), data=(X, y))
    assert fault.rows == (42,)
    assert "row 42 of the data): the loss is nan, and so are numbers of these rows." in str(fault)


def test_buffers_that_a_nan_went_through_are_put_back() -> None:
    """Batch normalisation has taken the nan into its means: the module goes back to the last whole one."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    X, y = rows()
    X[42, 3] = float("nan")
    fault = faulty(module, data=(X, y))
    assert "The module was put back to that of step 0." in str(fault)
    assert all(bool(torch.isfinite(value).all()) for value in module.state_dict().values())


class RaisesAt(nn.Module):
    def __init__(self, call: int) -> None:
        super().__init__()
        self.layers, self.left = small(), call

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyError("attention mask")
        return self.layers(X)  # type: ignore[no-any-return]


def test_a_module_that_raises_is_told_with_its_step() -> None:
    """A module that raises is told with step, rows and what it said; the module is that of the step before."""
    module = RaisesAt(25)
    module.eval()
    fault = faulty(module)
    assert "step 25 (epoch 3, batch 5 of 10; rows" in str(fault)
    assert "the module raised KeyError: 'attention mask'. The module has the weights of step 24." in str(
        fault
    )
    assert isinstance(fault.__cause__, KeyError)
    assert fault.rows == of_batch(3, 4)
    assert not module.training
    torch.testing.assert_close(flat(module), after(24), rtol=1e-4, atol=1e-6)


class Items(Dataset):
    """Rows by number, one of them odd."""

    def __init__(self, row: int, odd: Any) -> None:
        self.X, self.y = rows()
        self.row, self.odd = row, odd

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> Any:
        return (self.X[row], self.y[row]) if row != self.row else self.odd


def test_an_item_of_another_shape_is_told_with_row_and_step() -> None:
    """A dataset's item of another shape is told with its row and the step that needed it."""
    fault = faulty(small(), data=Items(42, (torch.zeros(7), torch.tensor(0))))
    assert fault.rows == (42,)
    assert "row 42: the dataset's item is (7, a number), the others of the batch are (6, a number)" in str(
        fault
    )
    assert f"step {fault.step} (epoch 1, batch {fault.step} of 10" in str(fault)
    assert 42 in of_batch(1, fault.step - 1)


def test_a_class_out_of_range_in_a_dataset_is_told_with_its_row() -> None:
    """A class that is out of range, which tensors tell before the first step, is told with its row in a dataset."""
    fault = faulty(small(), data=Items(42, (torch.zeros(6), torch.tensor(3))))
    assert fault.rows == (42,)
    assert "row 42 has class 3, and the module's output has 3 columns: classes are 0 … 2" in str(fault)


def test_every_fault_is_one_of_descend() -> None:
    """Faults are DescendErrors and RuntimeErrors, in one line."""
    fault = faulty(RaisesAt(1))
    assert isinstance(fault, DescendError)
    assert isinstance(fault, RuntimeError)
    assert "\n" not in str(fault)
    assert "Nothing was trained; the module is as it was." in str(fault)


def test_an_optimizer_that_raises_leaves_a_whole_module() -> None:
    """An update that fails half-way is undone: the module is the last whole copy."""

    class Half(torch.optim.SGD):
        calls = 0

        def step(self, closure: Any = None) -> None:
            type(self).calls += 1
            if self.calls == 15:
                self.param_groups[0]["params"][0].data.add_(1.0)
                raise ArithmeticError("no inverse")
            super().step(closure)

    module = small()
    fault = faulty(module, optimizer=Half)
    assert "the optimizer raised ArithmeticError: no inverse" in str(fault)
    step = int(str(fault).split("put back to that of step ")[1].split(".")[0])
    torch.testing.assert_close(flat(module), after(step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda output, y: nn.functional.cross_entropy(output.detach(), y),
            "computed from the module's output",
        ),
        (lambda output, y: 1.0, "the loss returned a float"),
    ],
)
def test_a_loss_that_cannot_be_trained_on_is_told(loss: Any, message: str) -> None:
    """A loss that does not hang on the module's output is told, and what it has to be."""
    with pytest.raises(DescendError, match=message):
        dt.fit(small(), loss, rows(), epochs=1)


def test_x_of_another_type_is_told() -> None:
    """An X whose type is not the module's is told with what to pass."""
    X, y = rows()
    fault = faulty(small(), data=(X.double(), y))
    assert "Give X the module's type: X.float()." in str(fault)


@pytest.mark.parametrize(
    ("cast", "advice"),
    [
        (lambda module: module.double(), "X.double()"),
        (lambda module: module.bfloat16(), "X.bfloat16()"),
        (
            lambda module: nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 6), nn.Flatten()).double(),
            "X.double()",
        ),
    ],
)
def test_a_module_of_another_type_is_told_with_its_own(cast: Any, advice: str) -> None:
    """A float32 X for a module that is not: the advice is the module's type, which X can be given."""
    fault = faulty(cast(small()), data=rows())
    assert f"Give X the module's type: {advice}." in str(fault)


def test_a_callback_that_raises_is_told() -> None:
    """A callback that raises is told as a callback, behind the step."""

    def callback(seen: Any) -> None:
        raise ZeroDivisionError("mine")

    fault = faulty(small(), callbacks=[callback])
    assert "a callback raised ZeroDivisionError: mine" in str(fault)
    assert fault.epoch == 1


def test_losses_that_wait_on_a_device_are_told_with_their_step() -> None:
    """Losses read together, as on a GPU, give the step of the first that is no number."""
    from descend.torch.steps import NotFiniteError, Place
    from descend.torch.watching import Watch

    module = small()
    watch = Watch(module, torch.optim.SGD(module.parameters()), Place(), ROWS, BATCH, 1)
    watch.start()
    for value in (1.0, 2.0, float("nan"), 3.0):
        watch.note(torch.tensor(value))
    with pytest.raises(NotFiniteError):
        watch.end_epoch()
    assert watch.place.step == 2
    assert watch.place.batch == 2
