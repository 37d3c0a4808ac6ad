"""A batch in parts has the gradient of the whole batch, or is refused."""

import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import descend.torch as dt
from descend.errors import InputError
from descend.torch.criterion import as_criterion
from descend.torch.examine import Examiner
from descend.torch.steps import Pieces, Place, make_step

ROWS = 23
CLASSES = torch.tensor([1.0, 0.2, 3.0, 0.7])
LABELS = torch.arange(ROWS) % 4
IGNORING = torch.where(torch.arange(ROWS) < 9, -100, LABELS)
"""The first parts are ignored altogether."""
SHARES = torch.softmax(torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(3)), 1)
NUMBERS = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(4))

LOSSES: dict[str, tuple[Any, Any]] = {
    "cross entropy": (nn.CrossEntropyLoss(), LABELS),
    "cross entropy, sum": (nn.CrossEntropyLoss(reduction="sum"), LABELS),
    "class weights": (nn.CrossEntropyLoss(weight=CLASSES), LABELS),
    "ignored": (nn.CrossEntropyLoss(), IGNORING),
    "ignored, class weights": (nn.CrossEntropyLoss(weight=CLASSES, ignore_index=2), LABELS),
    "smoothed": (nn.CrossEntropyLoss(weight=CLASSES, label_smoothing=0.1), IGNORING),
    "shares": (nn.CrossEntropyLoss(weight=CLASSES), SHARES),
    "function": (functional.cross_entropy, IGNORING),
    "partial": (functools.partial(functional.cross_entropy, weight=CLASSES, ignore_index=1), LABELS),
    "nll": (nn.NLLLoss(weight=CLASSES), LABELS),
    "squared error": (nn.MSELoss(), NUMBERS),
    "squared error, sum": (functools.partial(functional.mse_loss, reduction="sum"), NUMBERS),
    "huber": (nn.HuberLoss(), NUMBERS),
    "logistic": (nn.BCEWithLogitsLoss(pos_weight=CLASSES), (NUMBERS > 0).float()),
    "kl": (nn.KLDivLoss(reduction="batchmean"), SHARES),
    "rows": (nn.MSELoss(reduction="none"), NUMBERS),
}
UNKNOWN: dict[str, tuple[Any, Any]] = {
    "a lambda that ignores": (lambda output, y: functional.cross_entropy(output, y), IGNORING),
    "rows against one another": (
        lambda output, y: (output @ output.T).logsumexp(1).mean() + functional.mse_loss(output, y),
        NUMBERS,
    ),
    "root": (lambda output, y: functional.mse_loss(output, y).sqrt(), NUMBERS),
}


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 4))


def inputs() -> torch.Tensor:
    return torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(1))


class Keeper(torch.optim.Optimizer):
    """Takes no step; keeps the gradients."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 1.0})
        self.seen: list[torch.Tensor] = []

    def step(self) -> None:  # type: ignore[override]
        self.seen = [p.grad.clone() for group in self.param_groups for p in group["params"]]


def gradients(
    loss: Any, y: torch.Tensor, module: nn.Module | None = None, **settings: Any
) -> tuple[Any, float]:
    """The gradient of the full batch as ``fit`` has it, and the loss in the history."""
    module = module or small()
    keeper = Keeper(module.parameters())
    history = dt.fit(module, loss, (inputs(), y), keeper, "full", epochs=1, **settings)
    return keeper.seen, history.last["loss"]


def own(loss: Any, y: torch.Tensor, rows: list[int] | None = None) -> list[torch.Tensor]:
    """The gradient of the whole batch, by autograd alone."""
    module, X = small(), inputs()
    if rows is not None:
        X, y = X[rows], y[rows]
    value = loss(module(X), y)
    (value if value.dim() == 0 else value.mean()).backward()
    return [p.grad for p in module.parameters()]


def assert_same(one: Any, other: Any) -> None:
    scale = max(float(g.abs().max()) for g in other)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6 * max(1.0, scale))


@pytest.mark.parametrize("microbatch", [1, 4, 7, 22, None])
@pytest.mark.parametrize("name", [*LOSSES, *UNKNOWN])
def test_parts_add_up_to_the_batch(name: str, microbatch: int | None) -> None:
    """The gradient of a batch in parts, the last one ragged, is autograd's of the whole batch; so is the loss."""
    loss, y = (LOSSES | UNKNOWN)[name]
    found, value = gradients(loss, y, microbatch=microbatch)
    assert_same(found, own(loss, y))
    whole = loss(small()(inputs()), y)
    expected = float(whole.detach().mean()) / (ROWS if name.endswith("sum") else 1)
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("microbatch", [5, None])
@pytest.mark.parametrize("name", [n for n in LOSSES if n != "rows"])
def test_a_weight_of_two_counts_like_the_row_twice(name: str, microbatch: int | None) -> None:
    """Whole weights give the gradient of a batch that has each row so many times."""
    loss, y = LOSSES[name]
    weights = torch.arange(ROWS) % 3
    twice = [row for row in range(ROWS) for _ in range(int(weights[row]))]
    found, _ = gradients(loss, y, microbatch=microbatch, weights=weights.float())
    assert_same(found, own(loss, y, twice))


def test_a_stated_reduction_needs_one_pass() -> None:
    """``reduction`` spares the second pass through the module, and the gradient is the same."""
    calls = 0

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += self.training and torch.is_grad_enabled()
            return self.inner(X)  # type: ignore[no-any-return]

    for reduction, scale in (("mean", 1.0), ("sum", float(ROWS))):
        calls = 0

        def loss(output: torch.Tensor, y: torch.Tensor, scale: float = scale) -> torch.Tensor:
            return functional.mse_loss(output, y) * (len(y) if scale > 1 else 1)

        found, _ = gradients(loss, NUMBERS, Counting(), microbatch=6, reduction=reduction)
        assert calls == 4
        assert_same(found, [scale * g for g in own(nn.MSELoss(), NUMBERS)])


def test_dropout_draws_the_same_numbers_twice() -> None:
    """The second pass of a loss that is not known has the first pass's dropout: its gradient is that of the loss."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 50), nn.Dropout(0.5), nn.Linear(50, 4))
    found, _ = gradients(lambda output, y: functional.mse_loss(output, y), NUMBERS, module, microbatch=8)
    known, _ = gradients(nn.MSELoss(), NUMBERS, module, microbatch=8)
    assert_same(found[2:], known[2:])


class BatchMean(nn.Module):
    """Couples rows, and is no layer that anybody knows."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return X - X.mean(0)


def test_batch_normalisation_is_refused_by_name() -> None:
    """Batch normalisation in training mode is refused with the layer's name; nothing is changed."""
    module = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputError, match=r"layer '1' \(BatchNorm1d\) normalises by the batch"):
        gradients(nn.MSELoss(), NUMBERS, module, microbatch=8)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_frozen_batch_normalisation_is_taken() -> None:
    """Batch normalisation that is frozen adds up, and stays frozen."""
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    module.train()
    module[1].eval()
    found, _ = gradients(nn.MSELoss(), NUMBERS, module, microbatch=8)
    whole, _ = gradients(nn.MSELoss(), NUMBERS, module)
    assert_same(found, whole)
    assert not module[1].training
    assert float(module[1].num_batches_tracked) == 0


def test_any_layer_that_couples_rows_is_found() -> None:
    """A layer of the caller's own in which rows depend on one another is refused by its name, dropout beside it."""
    module = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.3), nn.Sequential(BatchMean()), nn.Linear(8, 4))
    with pytest.raises(InputError, match=r"layer '2.0' \(BatchMean\) the rows of a batch depend"):
        gradients(nn.MSELoss(), NUMBERS, module, microbatch=8)


def test_trying_the_module_leaves_no_trace() -> None:
    """Looking for coupled layers changes neither buffers nor random numbers."""
    from descend.torch.coupling import refuse_coupled

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return X

    module = nn.Sequential(Counting(), nn.Dropout(0.5))
    state = torch.get_rng_state()
    refuse_coupled(module, inputs(), lambda layers, X: layers(X))
    assert float(module[0].calls) == 0
    assert torch.equal(state, torch.get_rng_state())
    assert module[1].training


def test_batches_of_many_steps_agree() -> None:
    """Ten steps of Adam in parts end where ten steps on whole batches end."""
    ends = []
    for microbatch in (None, 3):
        module = small()
        dt.fit(
            module, nn.CrossEntropyLoss(), (inputs(), LABELS), batch_size=8, epochs=3, microbatch=microbatch
        )
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=2e-5)


def test_weights_need_a_loss_of_rows() -> None:
    """Weights with a loss that returns one number and is not PyTorch's are refused; a loss of rows is taken."""
    weights = torch.ones(ROWS)
    with pytest.raises(
        InputError, match="weights need a loss for each row, and this one returned one number"
    ):
        gradients(lambda output, y: (output - y).square().mean(), NUMBERS, weights=weights)
    found, _ = gradients(
        lambda output, y: (output - y).square().mean(1), NUMBERS, weights=weights, reduction="none"
    )
    assert_same(found, own(nn.MSELoss(), NUMBERS))


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("microbatch", [None, 6])
@pytest.mark.parametrize("loss", [nn.MSELoss(), UNKNOWN["rows against one another"][0]])
def test_a_scaler_changes_no_step(loss: Any, microbatch: int | None, clip: float | None) -> None:
    """With a scaler of gradients, as fp16 has it, steps are those without: whole, in parts, clipped.

    A step whose gradients overflow is left out, and the scale falls.
    """
    ends = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        module = small()
        optimizer = torch.optim.SGD(module[3].parameters(), lr=0.1)  # the others' gradients stay scaled
        criterion, place = as_criterion(loss), Place()
        step = make_step(
            Pieces(
                module,
                criterion,
                optimizer,
                tuple(module.parameters()),
                place,
                Examiner(criterion, None),
                clip=clip,
                scaler=scaler,
                microbatch=microbatch,
            )
        )
        for _ in range(3):
            step((inputs(), NUMBERS))
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)
    before, scale = ends[1], scaler.get_scale()
    module[3].weight.register_hook(lambda gradient: gradient * float("inf"))
    step((inputs(), NUMBERS))
    assert torch.equal(torch.cat([p.detach().flatten() for p in module.parameters()]), before)
    assert scaler.get_scale() == scale / 2
