"""Kernels compiled in a process beside this one, which leaves them on the disk: where memory is short.

Compiling leaves 130 to 170 MB with a process that it gives back to nobody, and no later process has them.
"""

from __future__ import annotations

import atexit
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import {function}; {function}()"
_compiler: subprocess.Popen[bytes] | None = None
_owner = os.getpid()
"""The process that the other one listens to: a fork has the same pipes."""


def compiled_apart(function: Callable[..., Any], signature: Any) -> bool:
    """Whether the other process says that it has compiled and kept the kernel ``function`` for these types."""
    global _compiler
    if os.getpid() != _owner:
        return False
    try:
        if _compiler is None:
            _compiler = start("descend.engines.compiled_apart", "serve")
            atexit.register(_end)
        asked, told = _compiler.stdin, _compiler.stdout
        assert asked is not None
        assert told is not None
        pickle.dump((function.__module__, function.__qualname__, signature), asked)
        asked.flush()
        return told.read(1) == b"+"
    except (OSError, ValueError, pickle.PicklingError):  # there is no such process, or it has ended
        return False


def start(module: str, function: str) -> subprocess.Popen[bytes]:
    """Another process of this Python that calls ``function`` of ``module``, and is spoken to over pipes."""
    program = _PROGRAM.format(path=sys.path, module=module, function=function)
    return subprocess.Popen(
        [sys.executable, "-I", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _end() -> None:
    """Nothing more is asked: the other process ends by itself."""
    if _compiler is not None and os.getpid() == _owner:
        with suppress(OSError, ValueError):
            _compiler.communicate()


def serve() -> None:
    """In the other process: compiles what it reads from its input, and says of each whether that went well."""
    read, write = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            module, name, signature = pickle.load(read)
        except (EOFError, KeyboardInterrupt):
            return
        try:
            getattr(import_module(module), name).compile(signature)
            told = b"+"
        except Exception:  # the process that asked compiles it itself, and says what is wrong
            told = b"-"
        write.write(told)
        write.flush()
