"""The caller's optimizer, made or checked, and what moves its rate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from descend.errors import InputError
from descend.torch.rows import named

EXAMPLES = "torch.optim.SGD, torch.optim.AdamW, functools.partial(torch.optim.SGD, momentum=0.9)"


def make_optimizer(
    module: Any,
    optimizer: Any = None,
    learning_rate: float | None = None,
    options: Mapping[str, Any] | None = None,
    groups: Any = None,
    full: bool = False,
) -> Any:
    """An optimizer over the module's parameters.

    ``optimizer``: a class, a callable that takes parameters, or an instance over the module's own; None is Adam.
    ``groups``: parameter groups as PyTorch has them, or a callable of the module that returns them. Where the class
    has a fused kernel it is taken, unless ``options`` say otherwise. ``full``: batches have every row, so a line
    search may be in it.
    """
    own = [p for p in module.parameters() if p.requires_grad]
    if not own:
        raise InputError("the module has no parameters that require a gradient: there is nothing to train")
    optimizer = torch.optim.Adam if optimizer is None else optimizer
    if hasattr(optimizer, "param_groups"):
        return _checked(_checked_instance(optimizer, learning_rate, options, groups), own, full)
    if isinstance(optimizer, type) and not hasattr(optimizer, "step"):
        raise InputError(f"optimizer {optimizer.__name__} is no optimizer class; pass one such as {EXAMPLES}")
    if not callable(optimizer):
        raise InputError(
            f"optimizer is {optimizer!r}; a class, an instance or a callable is needed: {EXAMPLES}"
        )
    settings = dict(options or {})
    if learning_rate is not None:
        is_number = isinstance(learning_rate, (int, float, np.number, torch.Tensor))
        if not is_number or isinstance(learning_rate, bool) or not learning_rate > 0:
            raise InputError(f'learning_rate is {learning_rate!r}; a number above 0 is needed, or "auto"')
        settings["lr"] = learning_rate if isinstance(learning_rate, torch.Tensor) else float(learning_rate)
    given = listed(groups(module) if callable(groups) else groups)
    made = _made(optimizer, own if given is None else given, settings, _may_be_fused(module))
    return _checked(made, own, full)


def listed(groups: Any) -> Any:
    """Parameter groups that can be read again: what yields its parameters once is a list."""
    if groups is None or callable(groups):
        return groups
    if not isinstance(groups, Iterable) or isinstance(groups, (str, Mapping)):
        raise InputError(
            f"parameter_groups is {groups!r}; a list of parameters, or of dicts with params, is needed, or a "
            "callable of the module that returns one"
        )
    return [
        {**group, "params": _several(group.get("params"))} if isinstance(group, Mapping) else group
        for group in groups
    ]


def of_copy(groups: Any, module: Any, copy: Any) -> Any:
    """The caller's parameter groups over the parameters of a copy of their module."""
    groups = listed(groups)
    if groups is None or callable(groups):
        return groups
    twin = {id(p): q for p, q in zip(module.parameters(), copy.parameters(), strict=True)}

    def other(p: Any) -> Any:
        if isinstance(p, tuple):  # a name with it
            return p[0], other(p[1])
        if id(p) not in twin:
            raise InputError(
                "parameter_groups hold a tensor that is none of the module's parameters; take them from "
                "module.parameters(), or pass a callable of the module that returns the groups"
            )
        return twin[id(p)]

    return [
        group | {"params": [other(p) for p in group["params"]]} if isinstance(group, dict) else other(group)
        for group in groups
    ]


def _several(parameters: Any) -> list[Any]:
    return [parameters] if isinstance(parameters, torch.Tensor) else list(parameters or ())


def _may_be_fused(module: Any) -> bool:
    """Fused kernels refuse sparse gradients and complex numbers, and only when the first step is taken."""
    sparse = any(getattr(layer, "sparse", False) is True for layer in module.modules())
    return not sparse and all(p.is_floating_point() for p in module.parameters())


def needs_closure(optimizer: Any) -> bool:
    """Whether a step evaluates the loss by itself, and again: ``step(closure)``, and no step without one."""
    taken = inspect.signature(optimizer.step).parameters.get("closure")
    return taken is not None and taken.default is inspect.Parameter.empty


def _made(optimizer: Any, parameters: Sequence[Any], settings: dict[str, Any], may_be_fused: bool) -> Any:
    chosen = {"fused", "foreach", "capturable", "differentiable"} & set(settings)
    by_pytorch = isinstance(optimizer, type) and optimizer.__module__.startswith("torch.optim")
    if by_pytorch and may_be_fused and not chosen:
        try:
            return optimizer(_copied(parameters), fused=True, **settings)
        except (TypeError, RuntimeError, ValueError):
            pass  # it has no fused kernel, or none for these parameters; or the settings are wrong: said below
    try:
        made = optimizer(parameters, **settings)
    except Exception as error:
        name = getattr(optimizer, "__name__", repr(optimizer))
        told = ", ".join(f"{key}={value!r}" for key, value in settings.items()) or "no settings"
        raise InputError(f"optimizer {name} could not be made with {told}: {named(error)}") from error
    if not hasattr(made, "step") or not hasattr(made, "param_groups"):
        raise InputError(
            f"optimizer returned a {type(made).__name__}, which has no step and param_groups; pass one of {EXAMPLES}"
        )
    return made


def _copied(parameters: Sequence[Any]) -> list[Any]:
    """Groups are filled up by the optimizer that gets them, also by one that then fails."""
    return [dict(group) if isinstance(group, dict) else group for group in parameters]


def _checked_instance(optimizer: Any, learning_rate: Any, options: Any, groups: Any) -> Any:
    for name, value in (
        ("learning_rate", learning_rate),
        ("optimizer_options", options),
        ("parameter_groups", groups),
    ):
        if value is not None:
            raise InputError(
                f"{name} goes with an optimizer class; this optimizer is made already: set it there"
            )
    return optimizer


def _checked(optimizer: Any, own: Sequence[Any], full: bool) -> Any:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not held & {id(p) for p in own}:
        raise InputError(
            "the optimizer holds none of the module's parameters; make it from module.parameters(), or pass its class"
        )
    if isinstance(optimizer, torch.optim.LBFGS) and not full:
        raise InputError(
            "optimizer LBFGS remembers how gradients change, which those of batches do by chance; pass "
            'batch_size="full" to fit, or another optimizer'
        )
    return optimizer


def with_rates(make: Callable[[float], Any]) -> tuple[Any, Callable[[float], None]]:
    """An optimizer made by ``make(rate)``, and what moves its rate.

    Groups that were given a rate of their own keep it, or its ratio to the optimizer's; at rate 0 none moves.
    """
    twice, once = make(2.0), make(1.0)
    moves = [
        (2.0 * one["lr"] - two["lr"], two["lr"] - one["lr"])
        for one, two in zip(once.param_groups, twice.param_groups, strict=True)
    ]

    def set_rate(rate: float) -> None:
        for group, (kept, share) in zip(once.param_groups, moves, strict=True):
            group["lr"] = rate and kept + share * rate

    return once, set_rate


def rate_of(optimizer: Any) -> float:
    """The rate of the first group, as histories have one."""
    return float(optimizer.param_groups[0].get("lr", float("nan")))
