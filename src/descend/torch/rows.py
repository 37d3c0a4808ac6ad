"""The caller's data as rows that can be fetched by number: tensors, arrays, map-style datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from descend.errors import InputError, TrainingError, shorten

NAMES = ("X", "y", "weights")
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
        return TensorRows([mapped(lambda t: t.to(device), part) for part in self.parts], self.has_weights)


class DatasetRows:
    """A map-style dataset: many rows at once where it has ``__getitems__``, else one by one."""

    has_weights = False
    bytes_of_row = float("inf")

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None = None) -> None:
        from torch.utils.data import default_collate

        self.dataset = dataset
        self.collate = collate or default_collate
        self.num_rows = len(dataset)

    def fetch(self, places: torch.Tensor) -> tuple[Any, ...]:
        batch, items = self._put_together(places.tolist())
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise InputError(
                f"an item of the dataset is a {type(items[0]).__name__}; pairs (x, y), or triples with a weight, "
                "are needed; wrap the dataset in one whose __getitem__ returns them"
            )
        self.has_weights = len(batch) == 3
        first = tuple(batch[0]) if isinstance(batch[0], list) else batch[0]
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


def as_rows(
    data: Any,
    weights: Any = None,
    dtype: torch.dtype | None = None,
    name: str = "data",
    collate: Callable[[list[Any]], Any] | None = None,
) -> TensorRows | DatasetRows:
    """``data`` as rows: (X, y) or (X, y, weights) of tensors or arrays, or a map-style dataset.

    ``collate`` makes one batch of a list of a dataset's items, as a DataLoader's ``collate_fn`` does.

    Arrays' floats become ``dtype`` and their whole numbers in y 64 bits wide; tensors stay as they are. Raises
    ``InputError`` naming what does not fit.
    """
    from torch.utils.data import DataLoader, TensorDataset

    if isinstance(data, (TensorRows, DatasetRows)) and weights is None:
        return data
    if isinstance(data, DataLoader):
        raise InputError(
            f"{name} is a DataLoader; pass its dataset (loader.dataset): batches are made by descend"
        )
    if type(data) is TensorDataset:
        data = data.tensors
    parts = data.parts if isinstance(data, TensorRows) else data
    if collate is not None and not callable(collate):
        raise InputError(
            f"collate is {collate!r}; a function of a list of items is needed, as a DataLoader's"
        )
    if isinstance(parts, (tuple, list)) and 1 <= len(parts) <= 3 and all(_is_table(part) for part in parts):
        if collate is not None:
            raise InputError(f"collate goes with a dataset of items; {name} is tensors or arrays")
        if weights is not None:
            parts = (*parts[:2], weights)
        return _tensor_rows(parts, dtype, name)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        if weights is not None:
            raise InputError(
                "weights go with tensors or arrays; a dataset's items carry theirs: (x, y, weight)"
            )
        if len(data) == 0:
            raise InputError(f"{name} has no rows; at least one is needed")
        return DatasetRows(data, collate)
    raise InputError(
        f"{name} is a {type(data).__name__}; a pair (X, y) of tensors or arrays, or a map-style dataset with "
        "__len__ and __getitem__, is needed"
    )


def as_validation(data: Any, dtype: torch.dtype | None, collate: Any) -> TensorRows | DatasetRows:
    """Rows to validate on; ``collate`` is the trained rows', and goes with a dataset alone."""
    is_dataset = hasattr(data, "__getitem__") and not isinstance(data, (tuple, list))
    return as_rows(data, None, dtype, "validation", collate if is_dataset else None)


def tensors_of(part: Any) -> list[torch.Tensor]:
    """The tensors in tuples, lists and dicts of them."""
    if isinstance(part, torch.Tensor):
        return [part]
    values = part.values() if isinstance(part, dict) else part
    return [leaf for value in values for leaf in tensors_of(value)]


def mapped(change: Callable[[torch.Tensor], Any], part: Any) -> Any:
    """``part`` with every tensor in it changed."""
    if isinstance(part, torch.Tensor):
        return change(part)
    if isinstance(part, dict):
        return {name: mapped(change, value) for name, value in part.items()}
    return tuple(mapped(change, value) for value in part)


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


def _is_table(part: Any) -> bool:
    if isinstance(part, tuple):
        return bool(part) and all(_is_table(one) for one in part)
    return hasattr(part, "shape") and len(part.shape) >= 1


def _tensor_rows(parts: Sequence[Any], dtype: torch.dtype | None, name: str) -> TensorRows:
    whole = [_tensor(part, NAMES[place], dtype) for place, part in enumerate(parts)]
    counts = [len(leaf) for leaf in tensors_of(whole)]
    if len(set(counts)) > 1:
        said = ", ".join(f"{NAMES[place]} has {len(tensors_of(part)[0])}" for place, part in enumerate(whole))
        raise InputError(f"{name}: {said} rows; every row needs one of each")
    if counts[0] == 0:
        raise InputError(f"{name} has no rows; at least one is needed")
    if len(whole) == 3:
        whole[2] = _checked_weights(whole[2])
    return TensorRows(whole, has_weights=len(whole) == 3)


def _tensor(part: Any, name: str, dtype: torch.dtype | None) -> Any:
    if isinstance(part, torch.Tensor):
        return part
    if isinstance(part, tuple):
        return tuple(_tensor(one, name, dtype) for one in part)
    if hasattr(part, "tocsr"):
        raise InputError(
            f"{name} is a sparse matrix; pass {name}.toarray(), or a dataset that makes rows dense"
        )
    array = np.asarray(part)
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{name} has the type {array.dtype}; numbers are needed: encode texts and dates before"
        )
    if array.dtype.kind in "iu" and (name == "y" or array.dtype.itemsize > 1):
        array = array.astype(np.int64, copy=False)
    tensor = torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
    if array.dtype.kind != "f":
        return tensor
    return tensor.to(torch.get_default_dtype() if dtype is None else dtype)


def _checked_weights(weights: Any) -> torch.Tensor:
    if weights.dim() != 1:
        raise InputError(f"weights have the shape {tuple(weights.shape)}; one number a row is needed")
    weights = weights if weights.is_floating_point() else weights.to(torch.get_default_dtype())
    bad = torch.nonzero(~(torch.isfinite(weights) & (weights >= 0)))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"weights: row {row} has {float(weights[row])}; finite numbers from 0 on are needed")
    if not bool((weights > 0).any()):
        raise InputError("weights are 0 in every row; at least one has to be above 0")
    return weights


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
