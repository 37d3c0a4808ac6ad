"""Whether the rows of a batch go through a module independently of one another.

Where they do not, as in batch normalisation, a batch in parts is not the batch: its gradient cannot be put together,
and that is said, with the layer's name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from descend.errors import InputError
from descend.torch.modes import device_of, modes_kept, put_buffers, random_state, set_random_state
from descend.torch.nested import count_rows, cut_rows, tensors_of

TOLERANCE = 1e-4
"""Rows alone and among others may differ by so much of the largest number, by rounding."""


def refuse_coupled(module: Any, X: Any, call: Callable[[Any, Any], Any]) -> None:
    """Raises ``InputError`` naming the first layer in which rows of the batch ``X`` depend on one another.

    Layers of batch normalisation are known by their type; others are found by sending ``X`` through whole and in two
    parts, dropout turned off. What the module keeps in buffers is put back. ``call(module, X)`` calls the module.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
            raise _refusal(f"layer {name or 'the module'!r} ({type(layer).__name__}) normalises by the batch")
    rows = count_rows(X)
    if rows < 2:
        return
    halves = slice(0, rows // 2), slice(rows // 2, rows)
    cuts = [cut_rows(X, half, rows) for half in halves]
    with modes_kept(module), Trial(module) as trial:
        whole = trial.outputs(X, call)
        if not _alike(whole, trial.outputs(X, call), slice(0, rows), rows):
            module.eval()  # it draws random numbers of its own, as attention does: in this mode few things do
            whole = trial.outputs(X, call)
            if not _alike(whole, trial.outputs(X, call), slice(0, rows), rows):
                return  # nothing can be told
        for half, cut in zip(halves, cuts, strict=True):
            _compare(whole, trial.outputs(cut, call), half, rows)


def _compare(whole: Seen, part: Seen, half: slice, rows: int) -> None:
    """Raises ``InputError`` where what ``half`` of the rows gave alone is not what they gave among all ``rows``."""
    if len(part) != len(whole):
        return
    if _is_number(whole[-1][2]):  # a loss: it differs anyway, and layers with a row for each are what tells
        pairs = [(one, other) for one, other in zip(whole, part, strict=True) if _by_row(one[2], rows)]
        whole, part = [one for one, _ in pairs], [other for _, other in pairs]
    elif tensors_of(whole[-1][2]) and _alike(whole[-1:], part[-1:], half, rows):
        return
    for (name, kind, output), (_, _, other) in zip(whole, part, strict=True):
        if not _alike([(name, kind, output)], [(name, kind, other)], half, rows):
            raise _refusal(
                f"in layer {name or 'the module'!r} ({kind}) the rows of a batch depend on one another"
            )


def _refusal(what: str) -> InputError:
    return InputError(
        f"microbatch: {what}, so the gradient of a batch cannot be put together from parts; pass microbatch=None, "
        "take a smaller batch_size, or a layer that sees each row alone (GroupNorm, LayerNorm), or freeze it "
        "(layer.eval() in a module that is in training mode)"
    )


Seen = list[tuple[str, str, Any]]


class Trial:
    """The module with dropout off, if wanted; its buffers and random numbers are put back at the end."""

    def __init__(self, module: Any, without_dropout: bool = True) -> None:
        self.module, self.device = module, device_of(module)
        self.buffers = {name: copy.deepcopy(buffer) for name, buffer in module.named_buffers()}
        self.dropouts = [
            layer
            for layer in module.modules()
            if without_dropout and isinstance(layer, nn.modules.dropout._DropoutNd) and layer.training
        ]

    def __enter__(self) -> Trial:
        self.random = random_state(self.device)
        for layer in self.dropouts:
            layer.training = False
        return self

    def __exit__(self, *_: object) -> None:
        set_random_state(self.random, self.device)
        for layer in self.dropouts:
            layer.training = True
        self._put_back()

    def _put_back(self) -> None:
        put_buffers(self.module, self.buffers)

    def outputs(self, X: Any, call: Callable[[Any, Any], Any]) -> Seen:
        """Output of every layer that has no layers of its own, in the order they were called, then the module's."""
        seen: Seen = []

        def note(name: str, kind: str) -> Callable[..., None]:
            return lambda layer, given, output: seen.append((name, kind, output))

        hooks = [
            layer.register_forward_hook(note(name, type(layer).__name__))
            for name, layer in self.module.named_modules()
            if name and next(layer.children(), None) is None
        ]
        try:
            with torch.no_grad():
                output = call(self.module, X)
        finally:
            for hook in hooks:
                hook.remove()
        self._put_back()
        return [*seen, ("", type(self.module).__name__, output)]


def _is_number(output: Any) -> bool:
    return isinstance(output, torch.Tensor) and output.dim() == 0


def _by_row(output: Any, rows: int) -> bool:
    return isinstance(output, torch.Tensor) and output.dim() > 0 and len(output) == rows


def _alike(whole: Seen, part: Seen, half: slice, rows: int) -> bool:
    """Whether outputs of some of the ``rows`` are those among all; an output may have several entries for a row."""
    for (_, _, one), (_, _, other) in zip(whole, part, strict=True):
        leaves, others = tensors_of(one), tensors_of(other)
        if len(leaves) != len(others):
            return False
        for leaf, its in zip(leaves, others, strict=True):
            each = len(leaf) // rows if leaf.dim() and len(leaf) % rows == 0 else 1
            cut = leaf[half.start * each : half.stop * each] if leaf.dim() else leaf
            if cut.shape != its.shape or not _close(cut, its):
                return False
    return True


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if not one.is_floating_point() and not one.is_complex():
        return bool((one == other).all())
    largest = torch.nan_to_num(one).abs().max() if one.numel() else 0.0
    return bool((torch.nan_to_num(one - other).abs() <= TOLERANCE * largest).all())
