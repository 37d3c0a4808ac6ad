"""The caller's module, loss, optimizer and rows, as a comparison trains them again and again: on a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from descend.batches import Visits, shuffle
from descend.errors import InputError
from descend.torch.batches import Batches
from descend.torch.checks import check_module, copied, float_type, split
from descend.torch.coupling import refuse_coupled
from descend.torch.criterion import as_criterion
from descend.torch.devices import choose_device, spread
from descend.torch.given import as_rows
from descend.torch.modes import random_numbers
from descend.torch.module_trainer import RULE_OPTIMIZERS
from descend.torch.nested import UncutError, moved_to
from descend.torch.optimizers import make_optimizer, of_copy
from descend.torch.rows import DatasetRows, TensorRows
from descend.torch.stepper import LOWEST_RATE
from descend.torch.steps import unique
from descend.torch.trying import FEW, materialise, try_first, writes_into
from descend.types import FloatArray

SHORT = (torch.bfloat16, torch.float16)
"""NumPy has no such numbers, or does not add them up."""


@dataclass(frozen=True, slots=True)
class PlacedRows:
    """Rows of the caller's, in an order that is random: the first ones stand for all."""

    rows: TensorRows | DatasetRows
    places: Any
    """Where each lies in ``rows`` (n,)."""

    @property
    def num_rows(self) -> int:
        return len(self.places)

    @property
    def bytes_of_row(self) -> float:
        size = self.rows.bytes_of_row
        return size if np.isfinite(size) else 0.0

    def fetch(self, numbers: Any) -> tuple[Any, ...]:
        """The rows of these numbers, or of a slice."""
        return self.rows.fetch(torch.from_numpy(np.ascontiguousarray(self.places[numbers])))

    def whole(self) -> tuple[Any, ...]:
        """Every row, without a copy where they are tensors."""
        return (
            self.rows.lying(0, self.num_rows)
            if isinstance(self.rows, TensorRows)
            else self.fetch(slice(None))
        )

    def batches(self, size: int, most: int | None = None, device: Any = None) -> Batches:
        """The rows, or the first ``most`` of them, one after another."""
        some = self.places if most is None else self.places[:most]
        lying = len(some) == self.rows.num_rows and isinstance(self.rows, TensorRows)
        return Batches(self.rows, None, size, shuffle=False, device=device, rows=None if lying else some)


class ModuleData:
    """What is compared. The caller's module is copied; the copy is what trains.

    The first seed starts at the module's own weights. Others start at those that its layers draw anew
    (``reset_parameters``), unless ``same_start``.
    """

    def __init__(
        self,
        module: Any,
        loss: Any,
        data: Any,
        optimizer: Any,
        options: Mapping[str, Any] | None = None,
        groups: Any = None,
        weights: Any = None,
        validation: Any = None,
        validation_fraction: float = 0.0,
        reduction: str | None = None,
        device: Any = "auto",
        seed: int = 0,
        same_start: bool = False,
    ) -> None:
        check_module(module)
        if hasattr(optimizer, "param_groups"):
            raise InputError(
                "optimizer is an instance, which goes with one module; pass its class (and optimizer_options), for "
                "each run starts with a fresh one"
            )
        self.notes: list[str] = []
        self.device = choose_device(device, module, self.notes)
        self.module = copied(module).to(self.device)
        if not self.module.training:
            self.module.train()
        self.loss, self.criterion = loss, as_criterion(loss, reduction)
        rows = as_rows(data, weights, float_type(module))
        materialise(self.module, lambda: self._moved(rows.lying(0, min(FEW, rows.num_rows)))[0])
        self.optimizer, self.groups = optimizer, of_copy(groups, module, self.module)
        self.options = dict(options or {})
        self.own_rate = self.options.pop("lr", None)
        self.make(1.0)  # what is wrong with it is said before anything else
        self.parameters = unique(p for p in self.module.parameters() if p.requires_grad)
        self._refuse_complex()
        held = None if validation is None else as_rows(validation, None, float_type(module), "validation")
        trained, held_out = split(rows.num_rows, held, validation_fraction or None, False, seed)
        order = np.random.Generator(np.random.PCG64([seed, 1])).permutation
        self.train_order = order(rows.num_rows if trained is None else trained)
        """The caller's rows in the order that they are kept in."""
        self.train = placed(rows, self.train_order)
        self.held_out = None
        if held is not None or held_out is not None:
            self.held_out = placed(held or rows, order((held or rows).num_rows if held else held_out))
        self.first_seed, self.same_start = seed, same_start
        self.lowest_rate = LOWEST_RATE
        """Where ladders begin."""
        self.own_start = vector_of(self.parameters)
        self._refuse_coupled()
        if not same_start:
            self._see_what_moves()
        shuffle(Visits(1), seed, 0)  # its kernel is loaded before any clock runs

    def make(self, rate: float, plain: bool = False) -> Any:
        """A fresh optimizer over the copy's parameters; ``plain``: SGD with nothing besides."""
        if plain:
            return torch.optim.SGD([p for p in self.module.parameters() if p.requires_grad], lr=rate)
        return make_optimizer(self.module, self.optimizer, rate, self.options, self.groups)

    @property
    def optimizer_name(self) -> str:
        kind = getattr(self.optimizer, "func", self.optimizer)
        return "Adam" if kind is None else str(getattr(kind, "__name__", kind))

    @property
    def momentum(self) -> float:
        """Of SGD with momentum; 0 of any other."""
        group = self.make(1.0).param_groups[0]
        return float(group.get("momentum", 0.0)) if self.optimizer_name == "SGD" else 0.0

    @property
    def scale_free(self) -> bool:
        """Whether its steps do not follow the gradient's length, so that a rule names the rate."""
        return self.optimizer_name in RULE_OPTIMIZERS

    @property
    def call(self) -> Callable[[Any], Any]:
        return spread(self.module)

    def start(self, seed: int) -> FloatArray:
        """The parameters (P,) that runs of this seed start from."""
        if seed == self.first_seed or self.same_start:
            return self.own_start.copy()
        buffers = {name: value.clone() for name, value in self.module.named_buffers()}
        fill(self.parameters, self.own_start)
        with random_numbers(seed, self.device), torch.no_grad():
            for layer in reversed(
                list(self.module.modules())
            ):  # inner ones first: outer ones may set theirs anew
                for name in ("reset_parameters", "_reset_parameters"):  # the second is that of attention
                    if callable(getattr(layer, name, None)):
                        getattr(layer, name)()
            for name, value in self.module.named_buffers():
                value.copy_(buffers[name])
        return vector_of(self.parameters)

    def _moved(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(moved_to(part, self.device) for part in batch)

    def _refuse_complex(self) -> None:
        for name, p in self.module.named_parameters():
            if p.requires_grad and not p.is_floating_point():
                raise InputError(
                    f"parameter {name!r} is of {str(p.dtype).removeprefix('torch.')}; what is compared and measured "
                    "are real numbers: keep real and imaginary parts as two parameters"
                )

    def _see_what_moves(self) -> None:
        """Notes the parameters that every seed starts with."""
        moved = self.start(self.first_seed + 1) != self.own_start
        kept, place = [], 0
        for name, p in self.module.named_parameters():
            if p.requires_grad:
                if not moved[place : place + p.numel()].any() and p.unique().numel() > 1:
                    kept.append(name)
                place += p.numel()
        if not moved.any():
            self.same_start = True
            self.notes.append("every seed starts at the same weights: no layer has reset_parameters")
        elif kept:
            shown = ", ".join(kept[:3]) + (", …" if len(kept) > 3 else "")
            self.notes.append(f"every seed starts at the same {shown}: no reset_parameters draws them")

    def _refuse_coupled(self) -> None:
        """Kinds can be compared where a batch's gradient is the mean of its rows'. Looks at a first output too."""
        batch = self._moved(self.train.fetch(slice(8)))
        try_first(self.module, self.criterion, batch, self.train.rows)
        if writes_into(self.module, batch[0]):
            raise InputError(
                "the module writes into the rows that it is given, which are used again and again here; have it make "
                "new ones (X = X - mean, and no X -= mean)"
            )
        try:
            refuse_coupled(self.module, batch[0], lambda layers, X: spread(layers)(X))
        except UncutError as error:
            what = str(error).removeprefix("microbatch: ").split("; ")[0]
            raise InputError(f"{what}; have X and y made of tensors with a row each") from None
        except InputError as error:
            what = str(error).removeprefix("microbatch: ").split(", so the gradient")[0]
            raise InputError(
                f"{what}, so each batch size would have an objective of its own, and single rows none; take a layer "
                "that sees each row alone (GroupNorm, LayerNorm), or freeze it (layer.eval() in a module that is in "
                "training mode)"
            ) from None


def placed(rows: TensorRows | DatasetRows, places: Any) -> PlacedRows:
    """Tensors are put in that order once; of a dataset the order is kept."""
    if not isinstance(rows, TensorRows):
        return PlacedRows(rows, np.asarray(places))
    there = torch.from_numpy(np.ascontiguousarray(places)).to(rows.device)
    moved = TensorRows(rows.fetch(there), rows.has_weights)
    return PlacedRows(moved, np.arange(len(places)))


def vector_of(parameters: Any) -> FloatArray:
    """The parameters in one vector (P,), a copy."""
    flat = torch.cat([_dense(p.detach()).flatten() for p in parameters]).cpu()
    return (flat.float() if flat.dtype in SHORT else flat).numpy().copy()  # type: ignore[no-any-return, unused-ignore]


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_dense() if tensor.is_sparse else tensor


def fill(parameters: Any, vector: FloatArray) -> None:
    """Writes a vector (P,) into the parameters."""
    parts = torch.from_numpy(np.ascontiguousarray(vector)).split([p.numel() for p in parameters])
    with torch.no_grad():
        for p, part in zip(parameters, parts, strict=True):
            p.copy_(part.view_as(p))
