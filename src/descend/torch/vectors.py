"""A module as ladder, controller and averages see a model: its parameters as one vector that stays where they lie.

``ModuleState`` has what they use of an engine's ``State``. A copy of its parameters holds the buffers as well, so
what is put back is whole: statistics of batch normalisation go astray with the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from descend.torch.snapshots import copied, restore

WIDE = torch.float32
"""Averages of shorter numbers are kept in these: a mean moves by less than their last digit."""


class Vector:
    """Tensors as one vector, for means: it can be copied, set, multiplied and added.

    >>> mean = Vector([torch.zeros(2), torch.zeros(1)])
    >>> mean.take_in([torch.ones(2), torch.ones(1)], 0.5)
    >>> (mean * 2.0 + mean).tensors
    [tensor([1.5000, 1.5000]), tensor([1.5000])]
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self.tensors = list(tensors)

    @classmethod
    def zeros_of(cls, parameters: Sequence[Any]) -> Vector:
        """Zeros in the shapes of these."""
        return cls([torch.zeros_like(p, dtype=_wide(p.dtype), requires_grad=False) for p in parameters])

    def take_in(self, others: Sequence[Any], share: float) -> None:
        """Moves towards ``others`` by a share of the way."""
        with torch.no_grad():
            if all(a.dtype == b.dtype for a, b in zip(self.tensors, others, strict=True)):
                torch._foreach_lerp_(self.tensors, [b.detach() for b in others], share)
                return
            for mine, other in zip(self.tensors, others, strict=True):
                mine.lerp_(other.detach().to(mine.dtype), share)

    def like(self, others: Sequence[torch.Tensor]) -> Vector:
        """Others where its own tensors lie."""
        return Vector([other.to(own.device) for own, other in zip(self.tensors, others, strict=True)])

    def copy(self) -> Vector:
        return Vector([one.clone() for one in self.tensors])

    def astype(self, _dtype: Any) -> Vector:
        """Itself: who puts it into a module rounds it."""
        return self

    def __setitem__(self, _every: slice, value: float) -> None:
        for one in self.tensors:
            one.fill_(value)

    def __mul__(self, factor: float) -> Vector:
        return Vector([one * factor for one in self.tensors])

    def __add__(self, other: Vector) -> Vector:
        return Vector([one + two for one, two in zip(self.tensors, other.tensors, strict=True)])


def _wide(dtype: torch.dtype) -> torch.dtype:
    return WIDE if dtype in (torch.bfloat16, torch.float16) else dtype


class Live:
    """What the module holds now. A copy is of parameters and buffers, and can be put back."""

    dtype = None
    """Means are rounded where they are put into the module."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def copy(self) -> dict[str, Any]:
        return copied(self._module)

    def __setitem__(self, _every: slice, kept: dict[str, Any]) -> None:
        restore(self._module, kept)


class Moments:
    """What the optimizer remembers: after steps that went astray it begins anew."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def __setitem__(self, _every: slice, _zero: float) -> None:
        getattr(self._optimizer, "state", {}).clear()


@dataclass(slots=True)
class ModuleState:
    """Where a module's training stands; ``pace`` times the rate is what its steps take."""

    parameters: Live
    first: Moments
    average: Vector
    visits: int = 0
    steps: int = 0
    pace: float = 1.0
    num_averaged: int = 0
    trained: tuple[Any, ...] = field(default=())
    """The parameters that are averaged."""

    def take_in(self) -> None:
        """Averages in the parameters as they are now."""
        self.num_averaged += 1
        self.average.take_in(self.trained, 1.0 / self.num_averaged)


def state_of(module: Any, optimizer: Any) -> ModuleState:
    """The state of a module that this optimizer trains, before its first step."""
    seen = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    trained = tuple(seen.values())
    return ModuleState(Live(module), Moments(optimizer), Vector.zeros_of(trained), trained=trained)
