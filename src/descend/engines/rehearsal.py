"""What a run is going to call, called once on two rows, so that no clock counts what has to be compiled for it.

Where something has to, another process begins with what follows the steps, losses and a certificate, and this one
with the steps: Numba compiles one kernel at a time in a process, whatever its threads. A lock on each kernel
(``kernel_cache.py``) says who is at it. Where this process comes second it waits and loads; the other goes on to its
next call.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from descend import machine
from descend.batches import order
from descend.engines import kernel_cache
from descend.engines.base import Rule, State
from descend.engines.certificate import estimate_gap, hessian_product
from descend.engines.compiled_apart import start
from descend.objectives.losses import SOFTMAX
from descend.types import FloatArray

Call: TypeAlias = Callable[[], Any]
_IS_FROZEN = getattr(sys, "frozen", False)
"""In an application that brings its Python ``sys.executable`` is the application."""
PATIENCE_SECONDS = 5.0
"""The other process ends with the kernel that it is at, which this one has waited for."""


@dataclass(frozen=True)
class Rehearsal:
    """``engine`` has two rows, and is used for nothing else; ``rules`` are each with a batch size (0: full)."""

    engine: Any
    rules: Sequence[tuple[Rule, int]]
    parameters: FloatArray

    @property
    def _is_certified(self) -> bool:
        return not self.rules[-1][0].optimizer.elementwise

    def steps(self) -> list[Call]:
        """With softmax's curvature behind the first: full batches have to wait for the kernel of looks."""
        steps: list[Call] = [partial(self._step, rule, batch_size) for rule, batch_size in self.rules]
        if self._is_certified and self.engine.loss.code == SOFTMAX:
            steps.insert(1, self._bend)
        return steps

    def looks(self) -> list[Call]:
        """What is asked between steps; the certificate, which takes longest to compile, first."""
        looks: list[Call] = []
        if self._is_certified:
            looks.append(lambda: self.engine.estimate_gap(State(self.parameters.copy()), 1e300))
        # Elsewhere: at the parameters themselves it may be known already.
        looks.append(lambda: self.engine.mean_loss(self.parameters + 1))
        if hasattr(self.engine, "ask_units"):
            looks.append(lambda: self.engine.ask_units(self.parameters))
        return looks

    def _step(self, rule: Rule, batch_size: int) -> None:
        rows = None if batch_size == 0 else order(0, 0, 2)
        self.engine.run(State(self.parameters.copy()), rule, rows, batch_size)

    def _bend(self) -> None:
        engine, downhill = self.engine, np.ones(self.parameters.shape)
        rows = slice(0, engine.num_rows), np.ones(engine.num_rows)
        hessian = hessian_product(engine.data, engine.loss, 1.0, self.parameters, engine.fit_intercept, rows)
        estimate_gap(hessian, downhill, np.copy, engine.fit_intercept)


def rehearse(rehearsal: Rehearsal) -> None:
    """Makes the calls, with another process where that is of use."""
    beside: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        kernel_cache.before_compiling = None
        with suppress(OSError, pickle.PicklingError, TypeError, AttributeError):
            beside.append(_begin_beside(rehearsal))

    if machine.usable_cores() > 1 and not machine.is_short_of_memory and not _IS_FROZEN:
        kernel_cache.before_compiling = begin
    try:
        with np.errstate(all="ignore"):
            for step in rehearsal.steps():
                step()
            for process in beside:
                _wait_for_looks(process)
            for look in rehearsal.looks():
                look()
    finally:
        kernel_cache.before_compiling = None
        for process in beside:
            _end(process)


def _begin_beside(rehearsal: Rehearsal) -> subprocess.Popen[bytes]:
    content = pickle.dumps(rehearsal)
    process = start("descend.engines.rehearsal", "rehearse_beside")
    assert process.stdin is not None
    with suppress(OSError):  # it has ended already
        process.stdin.write(content)
        process.stdin.close()
    process.stdin = None  # else ``communicate`` would flush it
    return process


def _wait_for_looks(process: subprocess.Popen[bytes]) -> None:
    """Until the other process has compiled them, or has ended: half of their parts it has compiled already."""
    assert process.stdout is not None
    with kernel_cache.counted():
        process.stdout.read(1)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.communicate(timeout=PATIENCE_SECONDS)
    except BaseException as error:
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


def rehearse_beside() -> None:
    """In the other process: makes the calls that it reads from its input, and leaves out what is taken already."""
    kernel_cache.waits = False
    rehearsal = pickle.load(sys.stdin.buffer)

    def call_each(calls: list[Call]) -> None:
        for call in calls:
            with suppress(kernel_cache.TakenElsewhereError):
                call()

    with np.errstate(all="ignore"):
        call_each(rehearsal.looks())
        sys.stdout.buffer.write(b"+")
        sys.stdout.buffer.flush()
        call_each(rehearsal.steps()[::-1])
