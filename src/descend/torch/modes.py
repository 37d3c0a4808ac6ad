"""What a run changes around it and puts back: training mode, random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def modes_kept(module: Any) -> Iterator[None]:
    """Every layer's training or evaluation mode as it was, at the end."""
    before = [(layer, layer.training) for layer in module.modules()]
    try:
        yield
    finally:
        for layer, training in before:
            layer.training = training


@contextmanager
def autograd_on() -> Iterator[None]:
    """Gradients can be taken, though the caller is in ``no_grad`` or ``inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def training_mode(module: Any) -> Iterator[None]:
    """Training mode; in a module that is in it already, layers that are not are left so: somebody froze them."""
    with modes_kept(module), autograd_on():
        if not module.training:
            module.train()
        yield


def device_of(module: Any) -> torch.device:
    """Where the module's first parameter is; the CPU where it has none."""
    first = next(iter(module.parameters()), None)
    return torch.device("cpu") if first is None else first.device


def random_state(device: torch.device) -> Any:
    """Where PyTorch's random numbers are: the CPU's, and the device's own."""
    if device.type == "cuda":
        return torch.get_rng_state(), torch.cuda.get_rng_state(device)
    if device.type == "mps":
        return torch.get_rng_state(), torch.mps.get_rng_state()
    return (torch.get_rng_state(),)


def set_random_state(state: Any, device: torch.device) -> None:
    """Goes on from there."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state[1])


def seed_numbers(seed: int) -> None:
    """PyTorch's random numbers start from ``seed``, on the CPU and on every device that is in use.

    ``torch.manual_seed`` also leaves word for devices that nobody has used yet, which would begin from a seed that is
    not the caller's; and to note where it was called from takes longer than a small module's step.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


@contextmanager
def random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's random numbers from ``seed`` on; the caller's own go on afterwards as if nothing had been drawn.

    Those of every GPU are kept where there are any: a seed sets them all.
    """
    state = random_state(device)
    others = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        seed_numbers(seed)
        yield
    finally:
        if others is not None:
            torch.cuda.set_rng_state_all(others)
        set_random_state(state, device)


def put_buffers(module: Any, kept: dict[str, Any]) -> None:
    """The module's buffers as they were, in place but where their shape has changed; new ones are left."""
    with torch.no_grad():
        for name, buffer in list(module.named_buffers()):
            if name not in kept:
                continue
            if buffer.shape == kept[name].shape and buffer.dtype == kept[name].dtype:
                buffer.copy_(kept[name])
            else:
                owner, _, own = name.rpartition(".")
                setattr(module.get_submodule(owner), own, kept[name].to(buffer.device, copy=True))


@contextmanager
def numbers_kept() -> Iterator[None]:
    """All random numbers of the caller's go on as before: Python's and NumPy's too, which datasets draw from."""
    own, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)
        torch.set_rng_state(torchs)
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
