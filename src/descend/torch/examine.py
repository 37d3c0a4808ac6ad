"""What the first output and its targets tell before the first step: shapes, types and classes that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from descend.errors import InputError
from descend.torch.criterion import BY_CLASS, ELEMENTWISE, Criterion
from descend.torch.rows import TensorRows


class Examiner:
    """Looks at the first output, and remembers how many classes it has."""

    def __init__(self, criterion: Criterion, rows: Any) -> None:
        self.criterion, self.rows = criterion, rows
        self.classes: int | None = None

    def __call__(self, output: Any, y: Any) -> None:
        if isinstance(output, torch.Tensor) and output.dim() > 1:
            self.classes = output.shape[1]
        examine(self.criterion, output, y, self.rows)


def examine(criterion: Criterion, output: Any, y: Any, rows: Any) -> None:
    """Raises ``InputError`` where the loss would fail, or would silently be another one, on this output and ``y``.

    ``rows``: all of them, so that a class out of range is found wherever it is.
    """
    if criterion.kind is not None and not isinstance(output, torch.Tensor):
        raise InputError(
            f"the module returns a {type(output).__name__}, and {criterion.kind.__name__} takes a tensor; pass a "
            f"loss that picks it: lambda output, y: loss({_picked(output)}, y)"
        )
    if not isinstance(output, torch.Tensor) or not isinstance(y, torch.Tensor):
        return
    if criterion.kind in ELEMENTWISE:
        _same_shape(output, y)
    if criterion.kind in BY_CLASS:
        _classes(criterion, output, y, rows)


def _picked(output: Any) -> str:
    if isinstance(output, Mapping) and output:
        return f"output[{next(iter(output))!r}]"
    return "output[0]"


def _same_shape(output: torch.Tensor, y: torch.Tensor) -> None:
    if output.shape != y.shape:
        hint = ""
        if output.numel() == y.numel():
            hint = ": PyTorch would compare every row with every other" if output.dim() != y.dim() else ""
            hint += f"; pass y.reshape({', '.join(map(str, (-1, *output.shape[1:])))})"
        raise InputError(
            f"the module's output has the shape {tuple(output.shape)} and y {tuple(y.shape)} in the first batch; "
            f"this loss needs the same{hint or '; give both the same columns'}"
        )
    if not y.is_floating_point() or (y.dtype == torch.float64 and output.dtype != torch.float64):
        raise InputError(
            f"y has the type {_type(y)} and the module's output {_type(output)}; pass y.to({output.dtype})"
        )


def _classes(criterion: Criterion, output: torch.Tensor, y: torch.Tensor, rows: Any) -> None:
    if y.is_floating_point():
        if y.shape != output.shape:
            raise InputError(
                f"y has the type {_type(y)} and the shape {tuple(y.shape)}; this loss takes numbers of classes, pass "
                f"y.long(), or a share for each class in the shape {tuple(output.shape)} of the output"
            )
        return
    wanted = (len(output), *output.shape[2:])
    if tuple(y.shape) != wanted:
        raise InputError(
            f"y has the shape {tuple(y.shape)} in the first batch; with an output of {tuple(output.shape)} this loss "
            f"needs {wanted}: one number of a class each"
        )
    if y.dtype in (torch.int32, torch.int16, torch.int8, torch.bool):
        raise InputError(
            f"y has the type {_type(y)}; this loss takes numbers of classes in int64: pass y.long()"
        )
    everyone = rows.parts[1] if isinstance(rows, TensorRows) else None
    if (
        everyone is not None
        and (row := first_outside(everyone, output.shape[1], criterion.ignored)) is not None
    ):
        raise InputError(outside(row, everyone[row], output.shape[1]) + ". Nothing was trained")


def first_outside(y: torch.Tensor, classes: int, ignored: int | None) -> int | None:
    """The first row with a class that is none of 0 … classes − 1, or None."""
    beyond = (y < 0) | (y >= classes)
    if ignored is not None:
        beyond &= y != ignored
    found = torch.nonzero(beyond)
    return int(found[0, 0]) if len(found) else None


def outside(row: int, value: torch.Tensor, classes: int) -> str:
    """The sentence for a class that is out of range."""
    shown = f"class {int(value)}" if value.dim() == 0 else f"classes up to {int(value.max())}"
    return (
        f"row {row} has {shown}, and the module's output has {classes} columns: classes are 0 … {classes - 1}; "
        "number the classes from 0, or give the last layer more outputs"
    )


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
