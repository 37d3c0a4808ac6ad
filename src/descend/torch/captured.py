"""Forward and backward as a captured CUDA graph: one launch in the place of hundreds, where batches are small.

What is captured is a step without its update: the optimizer runs as ever, so rates, clipping, scaling and schedules
need nothing from the graph. Kernels are played again; Python is not. A module whose Python decides something would go
on as it was when it was captured, which nobody can see from outside: so this is asked for.

The way is that of PyTorch's documentation: some steps on a side stream first, gradients set to None, static inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from descend.torch.nested import mapped, tensors_of
from descend.torch.optimizers import needs_closure
from descend.torch.rows import TensorRows, named
from descend.torch.steps import MODULE, Place, Step

WARM_UP = 3
"""Steps of each kind of batch that are taken before one is captured."""
MOST_GRAPHS = 4
"""Kinds of batches that are captured: each holds memory of its own."""


class Recorder(Protocol):
    """Who captures."""

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """Runs a function as it will be captured, and returns what it does."""
        ...

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Runs it once to capture it: what it returned, which every replay writes anew, and the replay."""
        ...


def why_not(
    device: torch.device, module: Any, optimizer: Any, rows: Any, microbatch: int | None
) -> str | None:
    """Why steps are not captured, or None: they can be tried."""
    if device.type != "cuda":
        return f"the device is {device.type}"
    if not isinstance(rows, TensorRows):
        return "batches of a dataset may have any shape"
    if microbatch is not None:
        return "batches go in parts (microbatch)"
    if needs_closure(optimizer):
        return f"{type(optimizer).__name__} evaluates the loss itself"
    hooked = hook_of(module)
    return None if hooked is None else f"{hooked} has a hook, which replays would leave out"


def hook_of(module: Any) -> str | None:
    """The first layer or parameter that has a hook."""
    for name, layer in module.named_modules():
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if any(getattr(layer, kind, None) for kind in kinds):
            return f"layer {name!r}" if name else "the module"
    for name, p in module.named_parameters():
        if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
            return f"parameter {name!r}"
    return None


@dataclass(frozen=True, slots=True)
class CudaRecorder:
    """CUDA graphs of a device."""

    device: torch.device

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """On a side stream, each waiting for the other."""
        with torch.cuda.device(self.device):
            side, current = torch.cuda.Stream(), torch.cuda.current_stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                found = function()
            current.wait_stream(side)
        return found

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        with torch.cuda.device(self.device):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = function()
        return found, graph.replay


@dataclass(slots=True)
class Graph:
    """A captured pass: where its batch is written to, and where loss and gradients are found."""

    batch: tuple[Any, ...]
    loss: Any
    gradients: list[Any]
    replay: Callable[[], None]


@dataclass(slots=True)
class Captured:
    """A step without its update (``passes``) that is played again for every batch of a kind seen before.

    A kind is the shapes and types of a batch, with what is frozen and which mode each layer is in: a callback may
    change these. What cannot be captured goes on as it was, with a note.
    """

    passes: Step
    module: Any
    parameters: tuple[Any, ...]
    place: Place
    notes: list[str]
    recorder: Recorder
    graphs: dict[Any, Graph] = field(default_factory=dict)
    _seen: dict[Any, int] = field(default_factory=dict)
    _given_up: bool = False

    def __call__(self, batch: tuple[Any, ...]) -> Any:
        if self._given_up:
            return self.passes(batch)
        kind = self._kind(batch)
        graph = self.graphs.get(kind)
        if graph is None:
            seen = self._seen[kind] = self._seen.get(kind, 0) + 1
            if seen <= WARM_UP:
                return self.recorder.warm_up(lambda: self.passes(batch))
            if len(self.graphs) >= MOST_GRAPHS:
                return self.passes(batch)
            graph = self._capture(batch)
            if graph is None:
                return self.passes(batch)
            self.graphs[kind] = graph
        return self._play(graph, batch)

    def _kind(self, batch: tuple[Any, ...]) -> Any:
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in tensors_of(batch))
        frozen = tuple(p.requires_grad for p in self.parameters)
        return shapes, frozen, tuple(layer.training for layer in self.module.modules())

    def _capture(self, batch: tuple[Any, ...]) -> Graph | None:
        static = tuple(mapped(torch.Tensor.clone, part) for part in batch)
        for p in self.parameters:  # those that backward makes then are the graph's own
            p.grad = None
        try:
            loss, replay = self.recorder.record(lambda: self.passes(static))
        except Exception as error:
            self._given_up = True
            for p in self.parameters:
                p.grad = None
            self.notes.append(f"cuda_graphs: not captured, {named(error)}")
            return None
        return Graph(static, loss, [p.grad for p in self.parameters], replay)

    def _play(self, graph: Graph, batch: tuple[Any, ...]) -> Any:
        self.place.doing = MODULE
        for there, given in zip(tensors_of(graph.batch), tensors_of(batch), strict=True):
            there.copy_(given)
        for p, gradient in zip(self.parameters, graph.gradients, strict=True):
            p.grad = gradient
        graph.replay()
        return graph.loss.clone()  # the next replay writes it anew
