"""The objective of a module as it is looked at after the runs: heights, the Hessian by autograd, and walks."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from descend.comparing.ends import sample_rows
from descend.comparing.sharpness import Map, Sharpness, product_by_differences, sharpness
from descend.settings import Settings
from descend.torch.criterion import as_criterion
from descend.torch.devices import spread
from descend.torch.module_data import ModuleData, fill, vector_of
from descend.torch.module_runs import ModuleRun, run_module
from descend.torch.nested import count_rows, mapped, moved_to
from descend.torch.steps import unique
from descend.types import FloatArray


class ModuleTerrain:
    """The mean loss on the first rows, dropout off; in float64 where module and loss can be had in it."""

    unit = 1.0

    def __init__(self, data: ModuleData, settings: Settings) -> None:
        self.data, self.settings = data, settings
        self.all_rows = data.train.num_rows
        self.num_rows = sample_rows(self.all_rows, len(data.own_start))
        batch = data.train.fetch(slice(self.num_rows))
        self.batch = tuple(moved_to(part, data.device) for part in batch)
        self._measured = self._made(True)
        try:
            self.height(data.own_start)
        except (RuntimeError, TypeError):
            self._measured = self._made(False)

    def _made(self, double: bool) -> tuple[Any, Any, Any, tuple[Any, ...]]:
        """Module, parameters, loss and rows, in one precision."""
        module, loss, batch = copy.deepcopy(self.data.module), copy.deepcopy(self.data.loss), self.batch
        if double:
            module = module.double()
            loss = loss.double() if isinstance(loss, torch.nn.Module) else loss
            batch = tuple(
                mapped(lambda t: t.double() if t.is_floating_point() else t, part) for part in batch
            )
        module.eval()
        parameters = unique(p for p in module.parameters() if p.requires_grad)
        return module, parameters, as_criterion(loss, self.data.criterion.reduction), batch

    def height(self, parameters: FloatArray) -> float:
        with torch.no_grad():
            return float(self._value(parameters))

    def sharpness(self, parameters: FloatArray, seed: int = 0) -> Sharpness | None:
        if not np.isfinite(parameters).all():
            return None
        try:
            return sharpness(self._hessian(parameters), len(parameters), seed)
        except RuntimeError:  # a layer that autograd does not take a second derivative of
            at = np.asarray(parameters, dtype=np.float64)
            return sharpness(product_by_differences(self._gradient, at), len(at), seed)

    def with_lengths_of(self, direction: FloatArray, at: FloatArray) -> FloatArray:
        made, place = np.zeros(len(at)), 0
        for p in self.data.parameters:
            part = slice(place, place + p.numel())
            place += p.numel()
            if p.dim() > 1:
                own, other = (vector[part].reshape(len(p), -1) for vector in (at, direction))
                lengths = np.linalg.norm(other, axis=1, keepdims=True)
                scaled = other * (np.linalg.norm(own, axis=1, keepdims=True) / np.maximum(lengths, 1e-300))
                made[part] = scaled.ravel()
        return made

    def walker(self, run: ModuleRun, number: int, passes: int) -> ModuleWalker:
        settings = replace(self.settings, seed=self.settings.seed + number)
        return ModuleWalker(self.data, settings, self, run, passes)

    def _value(self, at: FloatArray) -> torch.Tensor:
        module, parameters, criterion, batch = self._measured
        fill(parameters, at)
        value: torch.Tensor = criterion(spread(module)(batch[0]), *batch[1:])
        return value / count_rows(batch[1]) if criterion.reduction == "sum" else value

    def _gradient(self, at: FloatArray) -> FloatArray:
        parameters = self._measured[1]
        found = torch.autograd.grad(self._value(at), parameters, allow_unused=True)
        return _flat(found, parameters)

    def _hessian(self, at: FloatArray) -> Map:
        """Products with vectors: the gradient of (gradient · vector), of a graph that is made once."""
        parameters = self._measured[1]
        with _plain_attention():
            first = torch.autograd.grad(self._value(at), parameters, create_graph=True, allow_unused=True)
        bent = [(i, g) for i, g in enumerate(first) if g is not None and g.requires_grad]
        _see_second(parameters, [g for _, g in bent])

        def product(direction: FloatArray) -> FloatArray:
            if not bent:
                return np.zeros(len(direction))
            parts = torch.from_numpy(np.ascontiguousarray(direction)).split([p.numel() for p in parameters])
            along = [parts[i].view_as(g).to(g) for i, g in bent]
            found = torch.autograd.grad(
                [g for _, g in bent], parameters, along, retain_graph=True, allow_unused=True
            )
            return _flat(found, parameters)

        return product


def _see_second(parameters: Any, gradients: list[Any]) -> None:
    """Raises ``RuntimeError`` where a layer says that it has no second derivative.

    With ``autograd.grad`` it does not come to say so: the way through it is left out, and the rest is taken for all.
    """
    torch.autograd.backward(gradients, [g.detach() for g in gradients], retain_graph=True)
    for p in parameters:
        p.grad = None


def _flat(found: Any, parameters: Any) -> FloatArray:
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
    return vector_of(filled).astype(np.float64)


def _plain_attention() -> Any:
    """Attention written out: its fused kernels have no second derivative."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


@dataclass(frozen=True, slots=True)
class ModuleWalker:
    """The two ways to walk from a place: batch gradient descent as plain steps, and a kind as it was run."""

    data: ModuleData
    settings: Settings
    terrain: ModuleTerrain
    batch: ModuleRun
    passes: int

    def settle(self, start: FloatArray) -> FloatArray:
        """At 1 / sharpness, but no faster than its own run took such steps."""
        rate = self.batch.rate.value
        found = self.terrain.sharpness(start)
        if found is not None and found.value > 0.0:
            steepest = 1.0 / found.value
            is_plain = self.data.optimizer_name == "SGD" and not self.data.momentum
            rate = min(rate, steepest) if is_plain else steepest
        return self._walk(start, True, batch_size="full", learning_rate=rate, schedule="constant")

    def wander(self, start: FloatArray, batch_size: int) -> FloatArray:
        return self._walk(start, False, batch_size=batch_size)

    def _walk(self, start: FloatArray, plain: bool, **changed: Any) -> FloatArray:
        if not np.isfinite(start).all():
            return start
        settings = replace(self.settings, epochs=self.passes, seconds=None, dense=False, **changed)
        initial = start.astype(self.data.own_start.dtype)
        run = run_module(self.data, settings, self.passes, initial=initial, plain=plain)
        if run.stopped == "diverged":
            return np.full_like(start, np.nan)
        return run.model.parameters.astype(np.float64)
