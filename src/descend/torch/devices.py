"""Where and how a module is run: device, precision, compiling. What cannot be had is said, or refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from statistics import median
from typing import Any

import torch

from descend.errors import InputError, one_of
from descend.torch.coupling import Trial
from descend.torch.modes import device_of
from descend.torch.nested import moved_to
from descend.torch.rows import named

THREAD_ROUNDS = 5
PRECISIONS = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: Any, module: Any, notes: list[str]) -> torch.device:
    """The device to train on. ``"auto"``: where the module is, or a GPU where it is on the CPU and there is one.

    Raises ``InputError`` where a device that is asked for is not there.
    """
    home = device_of(module)
    if device is None or device == "auto":
        if home.type != "cpu":
            return home
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        notes.append("device: the CPU, PyTorch sees no GPU")
        return home
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise one_of("device", device, ["auto", "cpu", "cuda", "cuda:1", "mps"]) from None
    if wanted.type == "cuda":
        _check_cuda(wanted)
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError('device "mps" is not there: PyTorch sees no Apple GPU; pass device="auto" or "cpu"')
    return torch.device("cuda", wanted.index or 0) if wanted.type == "cuda" else wanted


def _check_cuda(wanted: torch.device) -> None:
    if not torch.cuda.is_available():
        why = (
            "this PyTorch is built for the CPU"
            if torch.version.cuda is None
            else "no driver or no GPU is found"
        )
        raise InputError(
            f'device "{wanted}" is not there: PyTorch sees no GPU ({why}); pass device="auto" or "cpu"'
        )
    if (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f'device "{wanted}" is not there: PyTorch sees {torch.cuda.device_count()} GPU, numbered from 0'
        )


def faster_threads(seconds: Callable[[], float], allowed: float = inf, at_most: float = inf) -> int:
    """One thread or as many as there are, by the ``seconds`` that something takes; PyTorch is left with those.

    After ``allowed`` seconds each is tried once more at the most, and not even that after ``at_most``: threads that
    stand in each other's way cost more than finding it out.
    """
    most = int(torch.get_num_threads())
    if most == 1:
        return most
    found: dict[int, list[float]] = {1: [], most: []}
    begun = time.perf_counter()
    for threads, times in [*found.items()] * THREAD_ROUNDS:
        taken = time.perf_counter() - begun
        if taken >= at_most or (taken >= allowed and times):
            continue
        torch.set_num_threads(threads)
        times.append(seconds())
    best = min(found, key=lambda threads: median(found[threads])) if found[1] and found[most] else most
    torch.set_num_threads(best)
    return best


@contextmanager
def moved(module: Any, loss: Any, device: torch.device) -> Iterator[None]:
    """Module and loss on ``device``, and back again at the end, or where there is no room for them."""
    home = device_of(module)
    things = [module, loss] if isinstance(loss, torch.nn.Module) else [module]
    if home == device:
        things = things[1:]
    try:
        for thing in things:
            thing.to(device)
        yield
    finally:
        for thing in things:
            thing.to(home)


@contextmanager
def state_moved(optimizer: Any, device: torch.device, home: torch.device) -> Iterator[None]:
    """What an optimizer keeps of each parameter on ``device``, and at ``home`` again at the end.

    An instance is the caller's, who goes on with it.
    """
    move_state(optimizer, device)
    try:
        yield
    finally:
        move_state(optimizer, home)


def move_state(optimizer: Any, device: torch.device) -> None:
    """What an optimizer keeps of each parameter, moved; step counts stay on the CPU where its kernels want that."""
    kept = getattr(optimizer, "state", {})
    for group in optimizer.param_groups:
        on_device = group.get("capturable") or group.get("fused")
        for p in group["params"]:
            state = kept.get(p, {})
            for name, value in state.items():
                if name != "step" or on_device:
                    state[name] = moved_to(value, device)


def choose_precision(precision: str, device: torch.device, notes: list[str]) -> torch.dtype | None:
    """The type that autocast takes, or None: as the module is. What the device cannot do becomes a note."""
    if precision not in PRECISIONS:
        raise one_of("precision", precision, PRECISIONS)
    dtype = PRECISIONS[precision]
    if dtype is torch.float16 and device.type != "cuda":
        notes.append(f"precision: float32 and not fp16, which needs a CUDA GPU; this is {device.type}")
        return None
    if dtype is torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        notes.append("precision: float32 and not bf16, which this GPU does not have")
        return None
    return dtype


def in_precision(function: Callable[..., Any], device: torch.device, dtype: torch.dtype | None) -> Any:
    """``function`` under autocast."""
    return function if dtype is None else torch.autocast(device.type, dtype=dtype)(function)


def choose_call(
    module: Any,
    compile: bool | str,
    device: torch.device,
    dtype: torch.dtype | None,
    tried: Iterable[Any],
    notes: list[str],
) -> Any:
    """How the module is called: itself, or compiled where that works on ``tried``, an X of each size that comes.

    ``dtype``: the precision that it will be called in.
    """
    if compile not in (True, False, "auto"):
        raise InputError(f'compile is {compile!r}; True, False or "auto" is needed')
    if compile == "auto" and device.type != "cuda":
        notes.append(
            "compile: not on the CPU, where compiling takes longer than most runs; True compiles all the same"
        )
    if compile is False or (compile == "auto" and device.type != "cuda"):
        return module
    began = time.perf_counter()
    compiled = torch.compile(module)
    try:
        with Trial(module, without_dropout=False):
            for X in tried:
                output = in_precision(spread(compiled), device, dtype)(X)
                if isinstance(output, torch.Tensor):
                    output.backward(
                        torch.ones_like(output)
                    )  # the way back is compiled when it is first taken
    except Exception as error:
        notes.append(f"compile: not compiled, {named(error)}")
        return module
    notes.append(f"compile: took {time.perf_counter() - began:.1f} s, off the clock")
    return compiled


def spread(call: Callable[..., Any]) -> Callable[[Any], Any]:
    """``call`` on one X, which may be a tuple of a module's inputs."""
    return lambda X: call(*X) if type(X) is tuple else call(X)
