"""What a batch's X and y may be: tensors, and tuples, lists and dicts of them; with other things in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from descend.errors import InputError


def are_finite(batch: Any, num_rows: int) -> list[bool]:
    """Of each row of a batch, whether all its numbers are finite; tensors that are not of so many rows tell nothing.

    >>> are_finite((torch.tensor([[1.0, 2.0], [float("nan"), 2.0]]), torch.tensor([0, 1])), 2)
    [True, False]
    """
    fine = torch.ones(num_rows, dtype=torch.bool)
    for leaf in tensors_of(batch):
        if leaf.is_floating_point() and leaf.shape[:1] == (num_rows,):
            fine &= torch.isfinite(leaf).reshape(num_rows, -1).all(1).cpu()
    return fine.tolist()  # type: ignore[no-any-return]


def tensors_of(part: Any) -> list[torch.Tensor]:
    """The tensors in tuples, lists and dicts of them; texts and other things have none.

    >>> [len(leaf) for leaf in tensors_of({"x": (torch.zeros(3), [torch.zeros(2)]), "name": "a.png"})]
    [3, 2]
    """
    if isinstance(part, torch.Tensor):
        return [part]
    if isinstance(part, Mapping):
        return [leaf for value in part.values() for leaf in tensors_of(value)]
    if isinstance(part, (tuple, list)):
        return [leaf for value in part for leaf in tensors_of(value)]
    return []


def mapped(
    change: Callable[[torch.Tensor], Any], part: Any, other: Callable[[Any], Any] = lambda leaf: leaf
) -> Any:
    """``part`` with every tensor in it changed. ``other``: what becomes of things that are neither.

    A packed sequence, a graph and whatever else has a ``to`` of its own is such a thing, though it is a tuple.
    """
    if isinstance(part, torch.Tensor):
        return change(part)
    if hasattr(part, "to"):
        return other(part)
    if isinstance(part, Mapping):
        return {name: mapped(change, value, other) for name, value in part.items()}
    if isinstance(part, tuple):
        values = [mapped(change, value, other) for value in part]
        return type(part)(*values) if hasattr(part, "_fields") else tuple(values)
    if isinstance(part, list):
        return [mapped(change, value, other) for value in part]
    return other(part)


def moved_to(part: Any, device: Any) -> Any:
    """``part`` on ``device``: tensors, and things that can be moved themselves."""
    return mapped(
        lambda leaf: leaf.to(device), part, lambda thing: thing.to(device) if hasattr(thing, "to") else thing
    )


def count_rows(part: Any) -> int:
    """How many rows a batch's y (or X) has; raises ``UncutError`` for what does not tell.

    >>> count_rows(torch.zeros(4)), count_rows((torch.zeros(4, 2), torch.zeros(4))), count_rows([{"boxes": 1}] * 3)
    (4, 4, 3)
    """
    if isinstance(part, Mapping) and part:
        return count_rows(next(iter(part.values())))
    if isinstance(part, tuple) and part:
        return count_rows(part[0])
    if isinstance(part, list) and part and isinstance(part[0], (torch.Tensor, tuple)):
        return count_rows(part[0])  # as torch.utils.data puts pairs together: a list of columns
    if not hasattr(part, "__len__"):
        raise _uncut(f"a {type(part).__name__}")
    return len(part)


class UncutError(InputError):
    """A batch that cannot be cut by rows."""


def cut_rows(part: Any, rows: slice, num_rows: int) -> Any:
    """Some of the ``num_rows`` rows of a batch; raises ``UncutError`` for what cannot be cut into rows.

    >>> cut_rows({"x": torch.arange(3), "name": ["a", "b", "c"]}, slice(2), 3)
    {'x': tensor([0, 1]), 'name': ['a', 'b']}
    """

    def has_rows(leaf: Any) -> bool:
        return isinstance(leaf, torch.Tensor) and leaf.dim() > 0 and len(leaf) == num_rows

    if isinstance(part, torch.Tensor):
        if not has_rows(part):
            shown = "×".join(map(str, part.shape)) or "no dimension"
            raise _uncut(f"a tensor of {shown} beside {num_rows} rows")
        return part[rows]
    if isinstance(part, list) and len(part) == num_rows and not all(map(has_rows, part)):
        return part[rows]  # something for each row: texts, tensors of several lengths
    if hasattr(part, "to") or not isinstance(part, (Mapping, tuple, list)):
        raise _uncut(f"a {type(part).__name__}")
    if isinstance(part, Mapping):
        return {name: cut_rows(value, rows, num_rows) for name, value in part.items()}
    values = [cut_rows(value, rows, num_rows) for value in part]
    if isinstance(part, list):
        return values
    return type(part)(*values) if hasattr(part, "_fields") else tuple(values)


def _uncut(what: str) -> UncutError:
    return UncutError(
        f"microbatch: a batch holds {what}, which cannot be cut by rows; pass microbatch=None, or have X and y made "
        "of tensors with a row each"
    )
