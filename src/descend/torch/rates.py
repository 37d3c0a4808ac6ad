"""The rates of all groups of an optimizer, moved together: each group's own times one factor that is found."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch

from descend.errors import InputError
from descend.torch.nested import mapped
from descend.torch.optimizers import needs_closure

NEEDED_RATE = 1e-3
"""What an optimizer is made with that has no rate of its own."""
SHORT_SIGHTED = 0.2
"""Of the highest rate that lowers the loss in a few steps, where steps do not follow the gradient's length: those of
Adam are as long wherever it is going. What noise lets it bear at 32 rows is a fifth of that, and goes by the root of
their number (``docs/torch.md``)."""
USUAL_SIZE, LARGEST_SIZE = 32, 256
"""The rows of a step that this is for, and those beyond which it rises no further."""
MOMENTA = ("momentum_buffer", "exp_avg")
"""Where optimizers of PyTorch keep the direction in which they were going."""


class Rates:
    """Sets the rates of ``optimizer``'s groups to a factor times what they were when this was made."""

    def __init__(self, optimizer: Any) -> None:
        _refuse(optimizer)
        self.optimizer = optimizer
        self.base = [float(group["lr"]) for group in optimizer.param_groups]
        self._momenta = [group.get("momentum", 0.0) for group in optimizer.param_groups]
        self.is_sgd = isinstance(optimizer, torch.optim.SGD)

    @property
    def highest(self) -> float:
        """The highest of the groups' rates at factor 1."""
        return max(self.base)

    def set(self, factor: float) -> None:
        """Every group's rate is so many times its own."""
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(base * factor)  # compiled and captured steps hold the tensor itself
            else:
                group["lr"] = base * factor

    def without_momentum(self) -> None:
        """Plain steps: a rung is too short to show what momentum makes of a rate."""
        if self.is_sgd:
            for group in self.optimizer.param_groups:
                group["momentum"] = 0.0

    def with_momentum(self) -> None:
        """The caller's own steps again."""
        if self.is_sgd:
            for group, momentum in zip(self.optimizer.param_groups, self._momenta, strict=True):
                group["momentum"] = momentum

    def share(self, batch_size: int = USUAL_SIZE) -> float:
        """What a run's steps take of the rate of a rung: momentum makes 1 / (1 − β) steps of each."""
        if isinstance(self.optimizer, torch.optim.Adagrad):
            return 1.0  # its steps become shorter by themselves
        if not self.follows_gradient:
            return SHORT_SIGHTED * sqrt(min(batch_size, LARGEST_SIZE) / USUAL_SIZE)
        momentum = max(map(float, self._momenta))
        return (1.0 - momentum) / (
            1.0 - max(float(g.get("dampening", 0.0)) for g in self.optimizer.param_groups)
        )

    @property
    def customary(self) -> float | None:
        """Where useful rates begin: at the one that such an optimizer comes with, no higher than Adam's."""
        known = inspect.signature(type(self.optimizer)).parameters.get("lr")
        own = None if known is None else known.default
        return min(float(own), NEEDED_RATE) if isinstance(own, (int, float)) and own > 0.0 else None

    @property
    def follows_gradient(self) -> bool:
        """Whether steps are as long as the gradient is; all others are taken not to be."""
        return isinstance(self.optimizer, (torch.optim.SGD, torch.optim.ASGD))

    @property
    def uses_momentum(self) -> bool:
        return self.follows_gradient and self.share() != 1.0

    @property
    def whom(self) -> str:
        """Whom the share is for."""
        return "plain steps; with momentum" if self.follows_gradient else type(self.optimizer).__name__


def needed_rate(optimizer: Any, options: Mapping[str, Any] | None) -> float | None:
    """A rate to make the optimizer with, where it has no default: any will do."""
    if optimizer is None or hasattr(optimizer, "param_groups") or "lr" in (options or {}):
        return None
    try:
        asked = inspect.signature(optimizer).parameters.get("lr")
    except (TypeError, ValueError):
        return None
    return NEEDED_RATE if asked is not None and asked.default is inspect.Parameter.empty else None


def kept_state(optimizer: Any) -> dict[Any, Any]:
    """A copy of what the optimizer remembers of each parameter."""
    state = getattr(optimizer, "state", {})
    return {p: mapped(torch.Tensor.clone, value, copy.deepcopy) for p, value in state.items()}


def put_back_state(optimizer: Any, kept: Mapping[Any, Any]) -> None:
    """The optimizer remembers what it did when it was kept."""
    state = getattr(optimizer, "state", {})
    state.clear()
    for p, value in kept.items():
        state[p] = mapped(torch.Tensor.clone, value, copy.deepcopy)


def stand_still(optimizer: Any) -> None:
    """Forgets the direction, and not the lengths of gradients: the weights have been put elsewhere."""
    for value in getattr(optimizer, "state", {}).values():
        for name in MOMENTA:
            if isinstance(value, dict) and isinstance(value.get(name), torch.Tensor):
                value[name].zero_()


def _refuse(optimizer: Any) -> None:
    name = type(optimizer).__name__
    if needs_closure(optimizer):
        raise InputError(
            f'learning_rate "auto" does not go with {name}, which looks for the length of a step itself; leave '
            "learning_rate out, or pass a number"
        )
    if isinstance(optimizer, torch.optim.Rprop):
        raise InputError(
            f'learning_rate "auto" does not go with {name}, whose first steps alone have that length; leave '
            "learning_rate out, or pass a number"
        )
    if not all("lr" in group for group in optimizer.param_groups):
        raise InputError(
            f'learning_rate "auto": {name} has no lr in its groups that could be moved; leave it out'
        )
    if not any(float(group["lr"]) > 0.0 for group in optimizer.param_groups):
        raise InputError(
            f'learning_rate "auto": every group of {name} has lr 0, and a found factor leaves it so; give one a rate'
        )
    if hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        raise InputError(
            f'learning_rate "auto": the {name} has a scheduler bound to it, which would go on from its own rates; '
            "pass schedule=, a callable of the optimizer that makes the scheduler, and a new optimizer"
        )


def has_own_rate(optimizer: Any) -> bool:
    """Whether every group has the rate that the optimizer comes with: nobody has named another."""
    own = inspect.signature(type(optimizer)).parameters.get("lr")
    return own is not None and all(group.get("lr") == own.default for group in optimizer.param_groups)
