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
def training_mode(module: Any) -> Iterator[None]:
    """Training mode; in a module that is in it already, layers that are not are left so: somebody froze them."""
    with modes_kept(module), torch.enable_grad():
        if not module.training:
            module.train()
        yield


@contextmanager
def random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """PyTorch's random numbers from ``seed`` on; the caller's own go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


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
