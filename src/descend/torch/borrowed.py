"""A training step that somebody else wrote, as a module with a loss: what other trainers' modules are measured as.

Such a step takes a batch as their loader puts it together, and returns the mean loss over its rows. Of its output
nothing is known, so the "output" here is that loss, and rows are counted beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from descend.batch_size.plan import Plan
from descend.errors import InputError
from descend.torch.rows import DatasetRows

RATE_NAMES = ("lr", "initial_lr", "max_lr", "min_lr")
"""What a group keeps of rates, its own and those of its schedule."""
OF_SCHEDULES = (*RATE_NAMES, "params", "base_momentum", "max_momentum")

OwnStep = Callable[[Any, Any], Any]
"""Takes their module and a batch; returns the mean loss over the batch's rows."""


class StepModule(torch.nn.Module):
    """Their module, whose output is the loss of its own step."""

    def __init__(self, inner: Any, step: OwnStep) -> None:
        super().__init__()
        self.inner = inner
        self._step = step

    def forward(self, X: Mapping[str, Any]) -> torch.Tensor:
        loss = self._step(self.inner, X["batch"])
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            raise InputError(
                f"the training step of {type(self.inner).__name__} returned {_described(loss)}; a tensor with the "
                "mean loss over the batch is needed"
            )
        return loss.reshape(())


class StepRows(DatasetRows):
    """The rows of a map-style dataset, put together by the caller's own ``collate``."""

    def fetch(self, places: torch.Tensor) -> tuple[Any, ...]:
        numbers = places.tolist()
        batch, _ = self._put_together(numbers)
        return {"batch": checked_batch(batch)}, torch.zeros(len(numbers))


def own_loss(output: torch.Tensor, y: Any) -> torch.Tensor:
    """The loss that the step worked out by itself."""
    return output


def checked_batch(batch: Any) -> Any:
    """``batch`` as nested tuples and dicts of tensors; raises ``InputError`` for what cannot be cut by rows."""
    if isinstance(batch, torch.Tensor):
        return batch
    if isinstance(batch, Mapping):
        return {name: checked_batch(value) for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(checked_batch(value) for value in batch)
    raise InputError(
        f"a batch holds {_described(batch)}; tensors, and tuples, lists or dicts of them, can be measured. For "
        "others make the plan beforehand (descend.torch.configure_batch_size) and pass it as plan="
    )


def optimizer_like(made: Any, module: Any) -> Callable[..., Any]:
    """What makes an optimizer as ``made`` is, which was made over ``module``'s parameters, over those of a copy.

    It takes the copy's parameters and ``lr``, the first group's rate; the other groups' keep their ratio to it.
    """
    own = {id(p): place for place, p in enumerate(p for p in module.parameters() if p.requires_grad)}
    first = rate_of(made) or 1.0
    groups = []
    for group in made.param_groups:
        options = {name: value for name, value in group.items() if name not in OF_SCHEDULES}
        places = [own[id(p)] for p in group["params"] if id(p) in own]
        if places:
            groups.append((places, own_rate(group) / first, options))

    def make(parameters: Sequence[Any], lr: float) -> Any:
        return type(made)(
            [
                options | {"params": [parameters[place] for place in places], "lr": lr * share}
                for places, share, options in groups
            ],
            lr=lr,
        )

    make.__name__ = type(made).__name__
    return make


def own_rate(group: Mapping[str, Any]) -> float:
    """A group's rate as it was asked for, and not what a schedule has made of it: the highest of one that rises."""
    for name in ("max_lr", "initial_lr", "lr"):
        if group.get(name) is not None:
            return float(group[name])
    return float("nan")


def rate_of(optimizer: Any) -> float:
    """The first group's."""
    return own_rate(optimizer.param_groups[0])


def parts_of(plan: Plan, num_rows: int, num_devices: int = 1) -> tuple[int, int]:
    """Rows that go through each device at once, and how often for a step: as near to the plan's batch as that can be.

    A plan for every row that was trained on is one for all ``num_rows``. Raises ``InputError`` for fewer rows than
    devices.
    """
    size = num_rows if is_full(plan) else min(plan.batch_size, num_rows)
    if size < num_devices:
        raise InputError(
            f"the plan's batch has {size} rows, and there are {num_devices} devices; each needs one: train on "
            f"{size} or fewer"
        )
    held = plan.microbatch if plan.accumulation > 1 else size
    accumulation = max(1, -(-size // (held * num_devices)))
    return max(1, min(held, round(size / (accumulation * num_devices)))), accumulation


def is_full(plan: Plan) -> bool:
    """Whether the plan's batch holds every row that it was measured with."""
    rows = plan.record.get("data", {}).get("rows")
    return rows is not None and plan.batch_size >= int(rows)


def check_plan(plan: Any) -> Plan | None:
    """Raises ``InputError`` for what is no plan."""
    if plan is not None and not isinstance(plan, Plan):
        raise InputError(
            f"plan is a {type(plan).__name__}; what configure_batch_size returned is needed, or Plan.load(path)"
        )
    return plan


def _described(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
