"""What ``fit`` takes as data beyond a pair of tensors, and what it leaves of the caller's rows."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import descend.torch as dt
from descend.errors import InputError

ROWS = 60
LOSS = nn.CrossEntropyLoss()


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(1))
    return X, X[:, :3].argmax(1)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def trained(data: Any, module: nn.Module | None = None, loss: Any = LOSS, **settings: Any) -> torch.Tensor:
    module = small() if module is None else module
    dt.fit(
        module, loss, data, torch.optim.SGD, **{"batch_size": 8, "epochs": 2, "learning_rate": 0.1} | settings
    )
    return flat(module)


class Mapped(Dataset):
    """Rows as ``make`` gives them."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> Any:
        return self.make(row)


class Inner(nn.Module):
    """Picks its input out of what it is given."""

    def __init__(self, pick: Any) -> None:
        super().__init__()
        self.inner, self.pick = small(), pick

    def forward(self, given: Any) -> Any:
        return self.inner(self.pick(given))


class Graph:
    """A batch of a kind of its own, as libraries of graphs have them."""

    def __init__(self, X: torch.Tensor) -> None:
        self.X = X

    def to(self, device: Any) -> "Graph":
        return Graph(self.X.to(device))


def test_rows_that_hang_on_a_graph_are_data() -> None:
    """An X that requires a gradient, or was computed by a layer, trains as its numbers do, and gets no gradient."""
    X, y = rows()
    expected = trained((X, y))
    own = X.clone().requires_grad_()
    computed = (X.clone().requires_grad_() * 2.0) / 2.0
    assert torch.equal(trained((own, y)), expected)
    assert torch.equal(trained((computed, y)), expected)
    assert own.grad is None


def test_lists_of_numbers_are_arrays() -> None:
    """Targets in a list train as in a tensor."""
    X, y = rows()
    assert torch.equal(trained((X, y.tolist())), trained((X, y)))


def test_texts_beside_tensors_reach_the_module() -> None:
    """A dataset's items may hold texts, as names of files: the module gets them with the tensors."""
    X, y = rows()
    seen: list[str] = []

    def pick(given: Any) -> Any:
        seen.extend(given["name"])
        return given["x"]

    data = Mapped(lambda row: ({"x": X[row], "name": f"{row}.png"}, y[row]))
    assert torch.equal(trained(data, Inner(pick), epochs=1), trained((X, y), epochs=1))
    assert sorted(seen) == sorted(f"{row}.png" for row in range(ROWS))
    in_parts = trained(data, Inner(pick), microbatch=3)
    torch.testing.assert_close(in_parts, trained((X, y)), rtol=1e-4, atol=1e-5)


def test_batches_of_any_kind_reach_the_module_as_they_were_made() -> None:
    """What ``collate`` returns is handed on as it is: a packed sequence, a list of tensors, an object of its own."""
    X, y = rows()
    dataset = Mapped(lambda row: (X[row], y[row]))

    def collate(wrap: Any) -> Any:
        return lambda items: (wrap([x for x, _ in items]), torch.stack([y for _, y in items]))

    expected = trained((X, y), validation_fraction=0.2)
    for wrap, pick in (
        (list, torch.stack),
        (lambda parts: Graph(torch.stack(parts)), lambda batch: batch.X),
        (
            lambda parts: nn.utils.rnn.pack_sequence([part[:, None] for part in parts]),
            lambda packed: nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)[0][:, :, 0],
        ),
    ):
        found = trained(dataset, Inner(pick), collate=collate(wrap), validation_fraction=0.2)
        assert torch.equal(found, expected)


def test_what_cannot_be_cut_by_rows_is_refused_in_parts() -> None:
    """With ``microbatch`` a batch that is no tensors is refused with its type, before anything is trained."""
    X, y = rows()
    collate = lambda items: (Graph(torch.stack([x for x, _ in items])), torch.stack([y for _, y in items]))  # noqa: E731
    module = Inner(lambda batch: batch.X)
    with pytest.raises(
        InputError, match="a batch holds a Graph, which cannot be cut by rows; pass microbatch=None"
    ):
        trained(Mapped(lambda row: (X[row], y[row])), module, collate=collate, microbatch=4)
    assert torch.equal(flat(module), flat(small()))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classes, self.number = nn.Linear(6, 3), nn.Linear(6, 1)

    def forward(self, X: torch.Tensor) -> Any:
        return self.classes(X), self.number(X)


def both(output: Any, y: Any) -> torch.Tensor:
    return functional.cross_entropy(output[0], y[0]) + functional.mse_loss(output[1], y[1])


@pytest.mark.parametrize("microbatch", [1, 3, 7, None])
def test_targets_in_several_parts_are_counted_by_rows(microbatch: int | None) -> None:
    """With two targets a row a batch in parts takes the step of the whole batch, from tensors and from a dataset."""
    X, y = rows()
    targets = (y, X[:, :1])
    expected = trained((X, targets), TwoHeads(), both, batch_size=20)
    for data in ((X, targets), Mapped(lambda row: (X[row], (y[row], X[row, :1])))):
        found = trained(data, TwoHeads(), both, batch_size=20, microbatch=microbatch, reduction="mean")
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_validation_of_targets_in_several_parts_is_the_mean_over_rows() -> None:
    """The validation loss is that over all its rows, whatever batches it is computed in."""
    X, y = rows()
    held = X[:7], (y[:7], X[:7, :1])
    module = TwoHeads()
    history = dt.fit(module, both, (X, (y, X[:, :1])), epochs=1, validation=held, evaluation_batch_size=4)
    with torch.no_grad():
        expected = both(module(held[0]), held[1]).item()
    assert history.last["validation_loss"] == pytest.approx(expected, rel=1e-5)


class Writes(nn.Module):
    """Shifts what it is given in place."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        X += 1.0
        return self.inner(X)  # type: ignore[no-any-return]


@pytest.mark.parametrize("settings", [{"batch_size": "full"}, {"shuffle": False}, {"epochs": 1}])
def test_a_module_that_writes_into_its_input_leaves_the_callers_rows(settings: dict[str, Any]) -> None:
    """Rows that train and rows that validate are as they were, though the module shifts its input in place."""
    X, y = rows()
    own, held = X.clone(), X.clone()
    found = trained((own, y), Writes(), validation=(held, y), **settings)
    assert torch.equal(own, X)
    assert torch.equal(held, X)
    assert torch.equal(found, trained((X + 1.0, y), **settings))


def test_a_module_that_writes_into_its_input_is_not_compared() -> None:
    """``compare``, which uses rows again and again, refuses such a module."""
    with pytest.raises(InputError, match="the module writes into the rows that it is given"):
        dt.compare(Writes(), LOSS, rows(), seeds=1, epochs=1)


def test_rows_of_weight_0_do_nothing() -> None:
    """Single rows of weight 0 leave the module as it is, and end no run."""
    X, y = rows()
    weights = torch.ones(ROWS)
    weights[::2] = 0.0
    kept = weights > 0
    history = dt.fit(
        module := small(), LOSS, (X, y), torch.optim.SGD, 1, learning_rate=0.1, weights=weights, epochs=1
    )
    assert history.last["updates"] == ROWS
    by_hand, order = small(), [int(row) for (row,) in dt.Batches(torch.arange(ROWS), batch_size=1, seed=0)]
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for row in order:
        if kept[row]:
            optimizer.zero_grad()
            LOSS(by_hand(X[row : row + 1]), y[row : row + 1]).backward()
            optimizer.step()
    torch.testing.assert_close(flat(module), flat(by_hand), rtol=1e-4, atol=1e-6)


def test_class_weights_go_with_targets_in_bytes() -> None:
    """Targets in uint8 with class weights count, in parts of a batch, as they do whole."""
    X, y = rows()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    found = trained((X, y.to(torch.uint8)), loss=loss, batch_size=20, microbatch=7)
    torch.testing.assert_close(found, trained((X, y), loss=loss, batch_size=20), rtol=1e-4, atol=1e-5)


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        yield rows()[0][0], rows()[1][0]

    def __len__(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Endless(), "is an IterableDataset, of which no row can be picked"),
        (
            DataLoader(TensorDataset(*rows())),
            r"pass its dataset \(loader.dataset, and collate=loader.collate_fn",
        ),
        (rows()[0], r"data is X alone; pass a pair \(X, y\)"),
        ((rows()[0],), "data has X and no y"),
        (TensorDataset(rows()[0]), "data has X and no y"),
        (TensorDataset(*rows(), *rows()), r"data has 4 parts; .* several inputs of a module are one X"),
        ((rows()[0], "label"), "y is a str; a tensor or an array"),
        ((rows()[0], ["a", "b"] * 30), "y has the type <U1; numbers are needed"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "X is no array: .*give every row the same length"),
        ((rows()[0].to_sparse(), rows()[1]), "is sparse or nested; pass its to_dense"),
    ],
)
def test_data_that_is_none_is_refused(data: Any, message: str) -> None:
    """Each refusal comes before anything is trained, with what is needed."""
    with pytest.raises(InputError, match=message):
        dt.fit(small(), LOSS, data, epochs=1)


def test_a_list_of_two_pairs_is_a_dataset_of_two_rows() -> None:
    """Pairs of tensors in a list are rows, be there two of them or twenty."""
    X, y = rows()
    for count in (2, 3, 20):
        history = dt.fit(small(), LOSS, [(X[row], y[row]) for row in range(count)], epochs=1)
        assert history.last["rows"] == count


def test_a_nan_among_validation_rows_is_told_with_its_row() -> None:
    """A validation row that holds a nan is named before anything is trained, instead of a run that keeps nothing."""
    X, y = rows()
    held = X.clone()
    held[3, 2] = float("nan")
    module = small()
    with pytest.raises(
        InputError, match="validation: the loss is nan before the first step: row 3 holds a number"
    ):
        dt.fit(module, LOSS, (X, y), validation=(held, y))
    assert torch.equal(flat(module), flat(small()))


def test_inference_mode_around_it_changes_nothing() -> None:
    """Called in ``inference_mode`` or ``no_grad``, with rows that were made there, it trains all the same."""
    expected = trained(rows(), batch_size="full")
    modules = [small(), small()]
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            assert torch.equal(trained(rows(), modules.pop(), batch_size="full"), expected)
            assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    with torch.inference_mode():
        made_there = small()
    with pytest.raises(InputError, match=r"parameter '0.weight' was made in torch.inference_mode\(\)"):
        trained(rows(), made_there)


def test_float_arrays_of_a_module_in_bf16_are_compared() -> None:
    """A module in bfloat16, of which NumPy knows nothing, is compared as any other."""
    X, y = rows()
    found = dt.compare(
        small().bfloat16(), LOSS, (np.asarray(X), y), batch_sizes=(16, "full"), seeds=1, epochs=2
    )
    assert np.isfinite(found.runs[0]["final_loss"])
