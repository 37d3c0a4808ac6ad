"""The few rows that say how good weights are while a rate is found: always the same ones, as they came at first."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
import torch

from descend.batch_size.ladder import LOOK_ROWS
from descend.torch.batches import Batches
from descend.torch.criterion import Criterion
from descend.torch.evaluating import evaluate
from descend.torch.modes import modes_kept, numbers_kept, seed_numbers
from descend.torch.nested import are_finite
from descend.torch.rows import DatasetRows, TensorRows, named
from descend.torch.vectors import Vector

RENEWED_ROWS, RENEWED_BATCHES = 2048, 16
"""Rows and batches, at the least, whose statistics batch normalisation has of averaged weights."""


@dataclass(slots=True)
class Kept:
    """Batches that were fetched once: a dataset may make others of the same rows."""

    batches: list[tuple[Any, ...]]

    def set_epoch(self, _epoch: int) -> None:
        """They have one order."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.batches)


class Sample:
    """The loss of some rows at the module's weights, or at others that are put into it meanwhile.

    Dropout is off. Batch normalisation goes by the rows' own statistics: its running ones lag behind the weights by
    tens of steps, and at averaged weights they are of none. Random numbers are the same at each look, and the
    caller's, as buffers are, as they were afterwards.
    """

    def __init__(
        self,
        module: Any,
        call: Callable[[Any], Any],
        criterion: Criterion,
        parameters: Sequence[Any],
        batches: Batches,
    ) -> None:
        self._module, self._call, self._criterion, self._parameters = module, call, criterion, parameters
        self._by_batch = normalising(module)
        self._seed = batches.seed
        with numbers_from(self._seed):
            self._rows: Any = Kept(list(batches))
        self._numbers = [batches.rows_of(at) for at in range(len(batches))]
        self.first = nan
        """The loss at the first look."""
        self._as_trained = False
        self.works = True
        self._others: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def see_buffers(self) -> None:
        """Remembers the buffers that are no running statistics, which averaged weights can be given anew."""
        renewed = {id(buffer) for layer in self._by_batch for buffer in layer.buffers(recurse=False)}
        self._others = {
            name: (buffer, buffer.clone())
            for name, buffer in self._module.named_buffers()
            if id(buffer) not in renewed
        }

    def moved_buffer(self) -> str | None:
        """One of these that has changed since: what it would be at averaged weights is not known."""
        now = dict(self._module.named_buffers())
        moved = (
            name
            for name, (buffer, before) in self._others.items()
            if now.get(name) is not buffer or not before.equal(buffer)
        )
        return next(moved, None)

    def loss(self, weights: Vector | None = None) -> float:
        """The mean loss; of averaged weights where they are given."""
        with swapped(self._parameters, weights):
            return self._evaluated(self._rows)

    def first_look(self) -> str | None:
        """What to note of it: looks are in training mode where in evaluation mode module or loss cannot be had.

        ``works`` is False where that cannot be either; what is wrong is said by the first step.
        """
        troubles = []
        for self._as_trained in (False, True):
            try:
                self.first = self.loss()
            except Exception as error:
                troubles.append(named(error))
            else:
                return (
                    f"looked for in training mode; evaluation mode raised {troubles[0]}" if troubles else None
                )
        self.works = False
        return f"not looked for: a look at some rows raised {troubles[1]}; the optimizer's own"

    def rows_not_finite(self) -> tuple[int, ...]:
        """Numbers of the rows, in the caller's data, that hold a nan or something infinite."""
        bad: list[int] = []
        for numbers, batch in zip(self._numbers, self._rows, strict=True):
            fine = are_finite(batch, len(numbers))
            bad += [row for row, good in zip(numbers, fine, strict=True) if not good]
        return tuple(bad)

    def is_lost(self, batch: tuple[Any, ...]) -> bool:
        """Whether a batch's loss is no number at the weights as they are: then no rate is to blame."""
        return not isfinite(self._evaluated(Kept([batch])))

    def _evaluated(self, batches: Any) -> float:
        with numbers_from(self._seed), buffers_kept(self._by_batch), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the steps themselves warn
            return evaluate(self._module, self._call, self._criterion, batches, self._look)

    def _look(self) -> None:
        if self._as_trained:
            return
        self._module.eval()
        for layer in self._by_batch:
            layer.training = True


def places(source: TensorRows | DatasetRows, rows: Any, seed: int) -> Any:
    """Numbers of the rows to look at, out of ``rows``, or of all; none of weight 0 if there are others."""
    these = np.arange(source.num_rows) if rows is None else np.asarray(rows)
    if isinstance(source, TensorRows) and source.has_weights:
        counts = np.flatnonzero(source.parts[2].cpu().numpy()[these] > 0)
        these = these[counts] if len(counts) else these
    return np.sort(np.random.default_rng([seed, 5]).permutation(these)[:LOOK_ROWS])


def normalising(module: Any) -> list[Any]:
    """The layers that normalise by a batch in training, and by running statistics otherwise; frozen ones do not."""
    kinds = torch.nn.modules.batchnorm._NormBase
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, kinds) and layer.training and layer.running_mean is not None
    ]


def renew_statistics(module: Any, call: Callable[[Any], Any], batches: Any) -> None:
    """Gives batch normalisation the mean statistics of these batches at the weights as they are."""
    layers = normalising(module)
    if not layers:
        return
    before = [layer.momentum for layer in layers]
    with modes_kept(module), numbers_kept(), torch.no_grad():
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        rows = 0
        for number, batch in enumerate(batches):
            rows += batches.batch_size
            call(batch[0])
            if rows >= RENEWED_ROWS and number + 1 >= RENEWED_BATCHES:
                break
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum


@contextmanager
def numbers_from(seed: int) -> Iterator[None]:
    """Random numbers of Python, NumPy and PyTorch from ``seed`` on; the caller's go on afterwards."""
    with numbers_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        seed_numbers(seed)
        yield


@contextmanager
def swapped(parameters: Sequence[Any], weights: Vector | None) -> Iterator[None]:
    """Other weights in the place of the parameters."""
    if weights is None:
        yield
        return
    with torch.no_grad():
        own = [p.detach().clone() for p in parameters]
        fill(parameters, weights)
        try:
            yield
        finally:
            for p, value in zip(parameters, own, strict=True):
                p.copy_(value)


def fill(parameters: Sequence[Any], weights: Vector) -> None:
    """Writes averaged weights into the parameters."""
    with torch.no_grad():
        for p, value in zip(parameters, weights.tensors, strict=True):
            p.copy_(value)


@contextmanager
def buffers_kept(layers: Sequence[Any]) -> Iterator[None]:
    """The running statistics of these layers are as they were, at the end."""
    kept = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
