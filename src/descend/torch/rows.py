"""The caller's data as rows that can be fetched by number: tensors, arrays, map-style datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from descend.errors import InputError, TrainingError, shorten
from descend.torch.nested import mapped, moved_to, tensors_of

IN_NUMPY = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.bool,
)


class Rows(Protocol):
    """Rows by number. What is fetched is a tuple: X, y and, where there are any, weights; X may be a tuple itself."""

    num_rows: int
    bytes_of_row: float
    has_weights: bool

    def fetch(self, places: torch.Tensor) -> tuple[Any, ...]:
        """A copy of the rows at ``places``, in that order."""
        ...

    def lying(self, start: int, stop: int) -> tuple[Any, ...]:
        """Neighbouring rows, without a copy where that can be."""
        ...


class TensorRows:
    """Tensors of equal length."""

    def __init__(self, parts: Sequence[Any], has_weights: bool = False) -> None:
        self.parts = tuple(parts)
        self.has_weights = has_weights
        leaves = tensors_of(self.parts)
        self.num_rows = len(leaves[0])
        self.bytes_of_row = sum(leaf.nbytes for leaf in leaves) / max(1, self.num_rows)
        self.device = leaves[0].device
        self._gathers = [_gather_of(part) for part in self.parts]

    def fetch(self, places: torch.Tensor) -> tuple[Any, ...]:
        """``places`` are on the rows' own device."""
        return tuple([gather(places) for gather in self._gathers])

    def lying(self, start: int, stop: int) -> tuple[Any, ...]:
        return tuple(mapped(lambda part: part[start:stop], part) for part in self.parts)

    def to(self, device: torch.device) -> TensorRows:
        """The same rows on ``device``."""
        return TensorRows([moved_to(part, device) for part in self.parts], self.has_weights)


class DatasetRows:
    """A map-style dataset: many rows at once where it has ``__getitems__``, else one by one."""

    has_weights = False
    bytes_of_row = float("inf")

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None = None) -> None:
        from torch.utils.data import default_collate

        self.dataset = dataset
        self.collate = collate or default_collate
        self._is_own = collate is not None
        self.num_rows = len(dataset)

    def fetch(self, places: torch.Tensor) -> tuple[Any, ...]:
        batch, items = self._put_together(places.tolist())
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise InputError(
                f"an item of the dataset is a {type(items[0]).__name__}; pairs (x, y), or triples with a weight, "
                "are needed; wrap the dataset in one whose __getitem__ returns them"
            )
        self.has_weights = len(batch) == 3
        # PyTorch's collate makes lists of tuples; the caller's own may mean a list.
        first = tuple(batch[0]) if isinstance(batch[0], list) and not self._is_own else batch[0]
        return (first, *batch[1:])

    def lying(self, start: int, stop: int) -> tuple[Any, ...]:
        return self.fetch(torch.arange(start, stop))

    def _put_together(self, numbers: list[int]) -> tuple[Any, list[Any]]:
        """The batch of these rows as ``collate`` makes it, and the items."""
        try:
            many = getattr(self.dataset, "__getitems__", None)
            items = many(numbers) if many is not None else [self.dataset[number] for number in numbers]
        except Exception as error:
            raise self._broken_item(numbers, error) from error
        try:
            return self.collate(items), items
        except Exception as error:
            raise _odd_item(items, numbers, error) from error

    def item(self, number: int) -> Any:
        """One item as the dataset gives it."""
        try:
            return self.dataset[number]
        except Exception as error:
            raise self._broken_item([number], error) from error

    def _broken_item(self, numbers: list[int], error: Exception) -> TrainingError:
        for number in numbers:
            try:
                self.dataset[number]
            except Exception as own:
                return TrainingError(
                    f"row {number}: the dataset's __getitem__({number}) raised {named(own)}", rows=(number,)
                )
        return TrainingError(f"the dataset raised {named(error)}", rows=tuple(numbers))


def named(error: BaseException) -> str:
    """An error in one line: its type and what it says, cut."""
    text = shorten(" ".join(str(error).split()), width=240)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _gather_of(part: Any) -> Callable[[torch.Tensor], Any]:
    """The function that copies rows of ``part`` out by their places.

    NumPy's does it on one thread. PyTorch's shares even 500 KB among threads: alone on the machine that saves 3 µs a
    batch of 32 × 784 float32, beside another busy process it took 900 µs where this takes 50.
    """
    if not isinstance(part, torch.Tensor):
        return lambda places: mapped(lambda leaf: leaf.index_select(0, places), part)
    if (
        part.device.type != "cpu"
        or part.requires_grad
        or not part.is_contiguous()
        or part.dtype not in IN_NUMPY
    ):
        return lambda places: part.index_select(0, places)
    rows = part.numpy()

    def gather(places: torch.Tensor) -> torch.Tensor:
        taken = np.empty((len(places), *rows.shape[1:]), rows.dtype)
        rows.take(places.numpy(), axis=0, out=taken, mode="clip")  # "raise" would copy by way of a buffer
        return torch.from_numpy(taken)

    return gather


def _odd_item(items: Sequence[Any], numbers: list[int], error: Exception) -> TrainingError:
    """Which item differs from the others of its batch."""
    shapes = [_shape(item) for item in items]
    usual = max(set(shapes), key=shapes.count)
    odd = [place for place, shape in enumerate(shapes) if shape != usual]
    if not odd:
        return TrainingError(
            f"the items of the batch could not be put together: {named(error)}", rows=tuple(numbers)
        )
    row = numbers[odd[0]]
    return TrainingError(
        f"row {row}: the dataset's item is {shapes[odd[0]]}, the others of the batch are {usual}; give every item "
        "one shape (pad, crop or leave out)",
        rows=tuple(numbers[place] for place in odd),
    )


def _shape(item: Any) -> str:
    if isinstance(item, (tuple, list)):
        return "(" + ", ".join(_shape(part) for part in item) + ")"
    shape = getattr(item, "shape", None)
    return type(item).__name__ if shape is None else "×".join(str(size) for size in shape) or "a number"
