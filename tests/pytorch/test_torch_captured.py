"""Captured steps: what is captured, what is not, and that a replay takes the step. Graphs themselves need a GPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import descend.torch as dt
from descend.errors import InputError
from descend.torch.captured import MOST_GRAPHS, WARM_UP, Captured, why_not
from descend.torch.criterion import as_criterion
from descend.torch.examine import Examiner
from descend.torch.given import as_rows
from descend.torch.steps import Pieces, Place, make_step

ROWS = 70
LOSS = nn.CrossEntropyLoss()
GPU, CPU = torch.device("cuda"), torch.device("cpu")


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(1))
    return X, X[:, :3].argmax(1)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


class Again:
    """Captures as a GPU does: a replay writes loss and gradients where the capture left them."""

    def __init__(self, module: nn.Module, fails: bool = False) -> None:
        self.module, self.fails = module, fails
        self.warmed = self.captured = self.replayed = 0

    def warm_up(self, function: Callable[[], Any]) -> Any:
        self.warmed += 1
        return function()

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.captured += 1
        found = function()
        own = {p: p.grad for p in self.module.parameters()}
        for value in (found, *[gradient for gradient in own.values() if gradient is not None]):
            value.zero_()  # a capture runs nothing

        def replay() -> None:
            self.replayed += 1
            before = {p: p.grad for p in own}
            found.copy_(function())
            for p, gradient in own.items():
                if gradient is not None:
                    gradient.copy_(p.grad)
                p.grad = before[p]  # Python is not played again

        return found, replay


def stepper(module: nn.Module, recorder: Again, notes: list[str]) -> Any:
    """A step whose losses stay tensors, as on a GPU."""
    optimizer, parameters, place = (
        torch.optim.SGD(module.parameters(), lr=0.1),
        tuple(module.parameters()),
        Place(),
    )
    criterion = as_criterion(LOSS)
    return make_step(
        Pieces(
            module,
            criterion,
            optimizer,
            parameters,
            place,
            Examiner(criterion, as_rows(rows())),
            device=GPU,
            wrap=lambda passes: Captured(passes, module, parameters, place, notes, recorder),
        )
    )


def by_hand(epochs: int, change: Callable[[nn.Module, int], None] = lambda module, epoch: None) -> Any:
    module, losses = small(), []
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    batches = dt.Batches(*rows(), batch_size=16, seed=0)
    for epoch in range(epochs):
        change(module, epoch)
        for X, y in batches:
            optimizer.zero_grad()
            loss = LOSS(module(X), y)
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
    return module, losses


def test_replays_take_the_steps_of_the_loop_by_hand() -> None:
    """Whole batches and the smaller last one are captured once each; replays give the same module and losses."""
    module, notes = small(), []
    recorder = Again(module)
    step = stepper(module, recorder, notes)
    batches = dt.Batches(*rows(), batch_size=16, seed=0)
    losses = [step(batch) for _ in range(6) for batch in batches]
    expected, expected_losses = by_hand(6)
    torch.testing.assert_close(flat(module), flat(expected), rtol=1e-5, atol=1e-6)
    assert [float(loss) for loss in losses] == pytest.approx(expected_losses, rel=1e-5)
    assert (recorder.warmed, recorder.captured) == (2 * WARM_UP, 2)
    assert recorder.replayed == len(losses) - 2 * WARM_UP
    assert not notes


def test_what_a_callback_freezes_is_captured_anew() -> None:
    """A layer that is frozen or thawed in the middle is so in the steps behind it."""

    def change(module: Any, epoch: int) -> None:
        module[0].requires_grad_(epoch in (0, 3))

    module, notes = small(), []
    recorder = Again(module)
    step = stepper(module, recorder, notes)
    batches = dt.Batches(*rows(), batch_size=16, seed=0)
    for epoch in range(5):
        change(module, epoch)
        for batch in batches:
            step(batch)
    torch.testing.assert_close(flat(module), flat(by_hand(5, change)[0]), rtol=1e-5, atol=1e-6)
    assert recorder.captured == 2


def test_only_so_many_kinds_of_batches_are_captured() -> None:
    """Batches of ever other sizes are trained on without a graph each."""
    module, notes = small(), []
    recorder = Again(module)
    step = stepper(module, recorder, notes)
    X, y = rows()
    for _ in range(WARM_UP + 2):
        for size in range(2, 10):
            step((X[:size], y[:size]))
    assert recorder.captured == MOST_GRAPHS


def test_what_cannot_be_captured_goes_on_as_it_was() -> None:
    """A step that cannot be captured is taken all the same, with a note, and capturing is not tried again."""
    module, notes = small(), []
    recorder = Again(module, fails=True)
    step = stepper(module, recorder, notes)
    for _ in range(3):
        for batch in dt.Batches(*rows(), batch_size=16, seed=0):
            step(batch)
    module_by_hand = small()
    optimizer = torch.optim.SGD(module_by_hand.parameters(), lr=0.1)
    for _ in range(3):
        for X, y in dt.Batches(*rows(), batch_size=16, seed=0):
            optimizer.zero_grad()
            LOSS(module_by_hand(X), y).backward()
            optimizer.step()
    torch.testing.assert_close(flat(module), flat(module_by_hand), rtol=1e-5, atol=1e-6)
    assert notes == [
        "cuda_graphs: not captured, RuntimeError: operation not permitted when stream is capturing"
    ]
    assert recorder.warmed == WARM_UP


def hooked() -> nn.Module:
    module = small()
    module[2].register_forward_hook(lambda *_: None)
    return module


def hooked_parameter() -> nn.Module:
    module = small()
    module[0].bias.register_hook(lambda gradient: gradient)
    return module


@pytest.mark.parametrize(
    ("module", "optimizer", "data", "device", "microbatch", "reason"),
    [
        (small(), torch.optim.SGD, rows(), CPU, None, "the device is cpu"),
        (small(), torch.optim.SGD, list(zip(*rows(), strict=True)), GPU, None, "batches of a dataset"),
        (small(), torch.optim.SGD, rows(), GPU, 8, "batches go in parts"),
        (small(), torch.optim.LBFGS, rows(), GPU, None, "LBFGS evaluates the loss itself"),
        (hooked(), torch.optim.SGD, rows(), GPU, None, "layer '2' has a hook"),
        (hooked_parameter(), torch.optim.SGD, rows(), GPU, None, "parameter '0.bias' has a hook"),
    ],
)
def test_why_steps_are_not_captured(
    module: Any, optimizer: Any, data: Any, device: Any, microbatch: Any, reason: str
) -> None:
    """Each reason is told; without one there is none."""
    made = optimizer(module.parameters(), lr=0.1)
    assert reason in str(why_not(device, module, made, as_rows(data), microbatch))
    assert why_not(GPU, small(), torch.optim.Adam(small().parameters()), as_rows(rows()), None) is None


def test_on_the_cpu_it_is_a_note() -> None:
    """Asked for where there is no GPU it changes nothing, and says so."""
    plain, asked = small(), small()
    dt.fit(plain, LOSS, rows(), epochs=1, device="cpu")
    history = dt.fit(asked, LOSS, rows(), epochs=1, device="cpu", cuda_graphs=True)
    assert torch.equal(flat(plain), flat(asked))
    assert "cuda_graphs: not captured, the device is cpu" in history.notes
    with pytest.raises(InputError, match="cuda_graphs is 'yes'"):
        dt.fit(small(), LOSS, rows(), epochs=1, cuda_graphs="yes")  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_captured_steps_on_a_gpu_are_the_steps(precision: str) -> None:
    """On a GPU a captured run ends where the other one ends, batch normalisation, clipping and a schedule in it."""
    ends = []
    for captured in (False, True):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        history = dt.fit(
            module,
            LOSS,
            rows(),
            torch.optim.AdamW,
            16,
            epochs=8,
            device="cuda",
            precision=precision,
            clip=1.0,
            schedule="cosine",
            cuda_graphs=captured,
        )
        assert not any("not captured" in note for note in history.notes)
        ends.append(torch.cat([value.flatten().float() for value in module.state_dict().values()]))
    torch.testing.assert_close(*ends, rtol=1e-2, atol=1e-3)
