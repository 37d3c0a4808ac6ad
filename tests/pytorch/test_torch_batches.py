"""``Batches``: every row once, in descend's order, to the batch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from descend.batches import WINDOW, Visits, shuffle
from descend.errors import InputError, TrainingError
from descend.torch import Batches


class Squares(Dataset):
    """A map-style dataset that fetches row by row."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, row: int) -> Any:
        return torch.tensor([float(row), float(row) ** 2]), row


class Together(Squares):
    """One that fetches many rows at once, and says how often it was asked."""

    asked = 0

    def __getitems__(self, rows: list[int]) -> list[Any]:
        self.asked += 1
        return [self[row] for row in rows]


def numbers(batches: Batches) -> list[int]:
    return [row for batch in batches for row in batch[-1].tolist()]


@pytest.mark.parametrize("num_rows", [1, 5, 37, 300, WINDOW + 1, 70_000])
def test_an_epoch_has_every_row_once(num_rows: int) -> None:
    """An epoch hands out every row once, X beside its own y, in batches of the size but for the last."""
    X = torch.arange(num_rows)[:, None] * torch.ones(3)
    batches = Batches(X, torch.arange(num_rows), batch_size=32, seed=3)
    seen = list(batches)
    assert all(torch.equal(x[:, 0].long(), y) for x, y in seen)
    rows = [row for _, y in seen for row in y.tolist()]
    assert sorted(rows) == list(range(num_rows))
    assert [len(y) for _, y in seen[:-1]] == [min(32, num_rows)] * (len(batches) - 1)
    if num_rows > 40:
        assert rows != sorted(rows)


def test_the_order_is_that_of_the_rest_of_descend() -> None:
    """Rows come in the order of ``descend.batches.shuffle`` for the same seed and epoch."""
    batches = Batches(torch.arange(300), batch_size=32, seed=7)
    for epoch in (1, 2, 3):
        assert numbers(batches) == shuffle(Visits(300), 7, epoch).tolist()


def test_rows_sorted_by_label_are_mixed() -> None:
    """In 100,000 rows sorted by label every hundred batches of 32 have both labels in equal shares, nearly."""
    y = torch.arange(100_000) // 50_000
    batches = Batches(y, batch_size=32, seed=0)
    labels = torch.cat([rows for (rows,) in batches]).double()
    shares = labels[: len(labels) // 3200 * 3200].reshape(-1, 3200).mean(1)
    assert shares.min() > 0.44
    assert shares.max() < 0.56


def test_order_follows_from_seed_and_epoch_alone() -> None:
    """The same seed and epoch give the same order, another of either gives another."""
    first = Batches(torch.arange(200), batch_size=16, seed=1)
    one, two = numbers(first), numbers(first)
    again = Batches(torch.arange(200), batch_size=50, seed=1)
    again.set_epoch(2)
    assert numbers(again) == two != one
    assert numbers(Batches(torch.arange(200), batch_size=16, seed=2)) != one


def test_without_shuffling_rows_come_as_they_lie() -> None:
    """``shuffle=False`` hands out rows as they lie, without a copy."""
    X = torch.arange(50.0)
    batches = list(Batches(X, batch_size=8, shuffle=False))
    assert torch.equal(torch.cat([rows for (rows,) in batches]), X)
    assert batches[0][0].data_ptr() == X.data_ptr()


def test_the_full_batch_is_not_copied() -> None:
    """``batch_size="full"`` hands out the caller's own tensors."""
    X, y = torch.rand(20, 3), torch.rand(20)
    ((a, b),) = Batches(X, y, batch_size="full", seed=0)
    assert a.data_ptr() == X.data_ptr()
    assert b.data_ptr() == y.data_ptr()


@pytest.mark.parametrize("num_rows", [64, 70])
def test_drop_last_leaves_out_what_is_not_whole(num_rows: int) -> None:
    """``drop_last`` hands out whole batches alone, and ``len`` counts them."""
    batches = Batches(torch.arange(num_rows), batch_size=16, drop_last=True)
    for _ in range(2):
        assert [len(rows) for (rows,) in batches] == [16] * len(batches) == [16] * 4


@pytest.mark.parametrize("stop", [0, 1, 5, 12, 13])
@pytest.mark.parametrize("num_columns", [1, 2000])
def test_a_state_goes_on_behind_the_last_batch(stop: int, num_columns: int) -> None:
    """A state loaded into new batches goes on exactly behind the batch that was the last, in any block of rows."""
    X = torch.arange(200)[:, None].expand(200, num_columns).float()
    whole = Batches(X, torch.arange(200), batch_size=16, seed=5)
    expected = [*numbers(whole), *numbers(whole)]
    first = Batches(X, torch.arange(200), batch_size=16, seed=5)
    iterator = iter(first)
    seen = [row for _ in range(stop) for row in next(iterator)[1].tolist()]
    second = Batches(X, torch.arange(200), batch_size=16, seed=5)
    second.load_state_dict(first.state_dict())
    seen += numbers(second)
    assert seen == expected[: len(seen)]
    assert len(seen) in (200, 400)


def test_a_state_of_other_batches_is_refused() -> None:
    """A state of another batch size is refused with its name."""
    state = Batches(torch.arange(10), batch_size=2).state_dict()
    with pytest.raises(InputError, match=r"batch_size 2, these batches have 5"):
        Batches(torch.arange(10), batch_size=5).load_state_dict(state)


def test_weights_come_third() -> None:
    """Weights are handed out beside their rows."""
    weights = torch.arange(40.0) + 1
    for X, _, w in Batches(torch.arange(40.0), torch.zeros(40), 8, 0, weights=weights):
        assert torch.equal(X + 1, w)


def test_inputs_in_a_tuple_stay_together() -> None:
    """An X of several tensors is cut alike."""
    X = (torch.arange(20.0), torch.arange(20)[:, None])
    for (one, other), y in Batches(X, torch.arange(20), 6, 0):
        assert torch.equal(one.long(), y)
        assert torch.equal(other[:, 0], y)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.bool]
)
def test_rows_keep_type_and_values(dtype: torch.dtype) -> None:
    """Batches have the type and the values of the rows, whatever the type and however they lie."""
    X = (torch.arange(300).reshape(3, 100).T % 2).to(dtype)
    for rows, y in Batches(X, torch.arange(100), 7, 0):
        assert rows.dtype == dtype
        assert torch.equal(rows, X[y])


def test_a_batch_may_be_kept() -> None:
    """Batches that are kept do not change while others are handed out."""
    X = torch.rand(500, 40)
    kept = list(Batches(X, torch.arange(500), 8, 0))
    assert all(torch.equal(rows, X[y]) for rows, y in kept)


@pytest.mark.parametrize("kind", [Squares, Together])
def test_datasets_are_fetched_by_row(kind: type[Squares]) -> None:
    """A map-style dataset gives the batches of the same rows in tensors; many rows at once where it can."""
    data = kind(50)
    tensors = Batches(torch.stack([data[i][0] for i in range(50)]), torch.arange(50), 8, 4)
    batches = Batches(data, batch_size=8, seed=4)
    for (X, y), (own_X, own_y) in zip(batches, tensors, strict=True):
        assert torch.equal(X, own_X)
        assert torch.equal(y, own_y)
    if isinstance(data, Together):
        assert data.asked == len(batches)


def test_arrays_and_tensor_datasets() -> None:
    """Arrays and a TensorDataset give the batches of their tensors."""
    X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30)
    of_arrays = list(Batches(X, y, 7, 1))
    of_set = list(
        Batches(TensorDataset(torch.from_numpy(X).float(), torch.from_numpy(y)), batch_size=7, seed=1)
    )
    for one, other in zip(of_arrays, of_set, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert of_arrays[0][0].dtype == torch.float32


def test_an_item_of_another_shape_is_named() -> None:
    """An item whose shape differs is named by its row, with both shapes."""

    class Odd(Squares):
        def __getitem__(self, row: int) -> Any:
            return torch.zeros(4 if row == 17 else 3), row

    with pytest.raises(
        TrainingError, match=r"row 17: the dataset's item is \(4, int\), .* \(3, int\)"
    ) as fault:
        list(Batches(Odd(40), batch_size=8))
    assert fault.value.rows == (17,)


def test_an_item_that_raises_is_named() -> None:
    """A dataset that raises for one row is told with that row and what it said."""

    class Broken(Together):
        def __getitem__(self, row: int) -> Any:
            if row == 23:
                raise OSError("no such file: 23.png")
            return super().__getitem__(row)

    with pytest.raises(TrainingError, match=r"row 23: .*OSError: no such file: 23.png"):
        list(Batches(Broken(40), batch_size=8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((torch.zeros(3, 2), torch.zeros(4)),), "X has 3, y has 4 rows"),
        ((torch.zeros(0, 2), torch.zeros(0)), "has no rows"),
        ((Squares(0),), "has no rows"),
        ((DataLoader(Squares(3)),), "pass its dataset"),
        ((iter([1]),), "map-style dataset"),
        ((np.array(["a"]), np.zeros(1)), "X has the type <U1"),
        ((torch.zeros(3), torch.zeros(3), 0), "batch size 0 is below 1"),
        ((torch.zeros(3), torch.zeros(3), "auto"), 'pass a whole number or "full"'),
        ((torch.zeros(3), torch.zeros(3), 1, -1), "seed -1"),
    ],
)
def test_what_cannot_be_batched_is_refused(arguments: Any, message: str) -> None:
    """What cannot be batched is refused with its name and what is needed."""
    with pytest.raises(InputError, match=message):
        Batches(*arguments)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0, 1.0], "row 1 has -1.0"),
        ([1.0, 1.0, float("nan")], "row 2 has nan"),
        ([0.0, 0.0, 0.0], "0 in every row"),
        ([1.0, 1.0], "weights has 2 rows"),
    ],
)
def test_bad_weights_are_refused(weights: list[float], message: str) -> None:
    """Weights that are no weights are refused with the row."""
    with pytest.raises(InputError, match=message):
        Batches(torch.zeros(3), torch.zeros(3), weights=torch.tensor(weights))


def test_a_dict_of_tensors_is_one_x() -> None:
    """Tensors in a dict come in batches of dicts, with targets or alone."""
    X = {"left": torch.arange(7), "right": torch.zeros(7, 2)}
    for batches in (Batches(X, batch_size=3), Batches(X, torch.arange(7), batch_size=3)):
        seen = [batch[0]["left"].tolist() for batch in batches]
        assert sorted(number for part in seen for number in part) == list(range(7))
        assert [batch[0]["right"].shape for batch in batches] == [(3, 2), (3, 2), (1, 2)]


def test_rows_that_are_not_there_are_refused() -> None:
    """Numbers of rows beyond the last are refused, and not the last row instead."""
    with pytest.raises(InputError, match="rows go from 0 to 7; there are 0 to 4"):
        Batches(torch.arange(5), batch_size=2, rows=[0, 7])
