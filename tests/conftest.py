"""What all tests share, set before NumPy is imported: results do not hang on the caller's shell."""

import os
import signal

import pytest
from hypothesis import settings

# One thread in BLAS and OpenMP: pytest-xdist already keeps each core busy.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ[name] = "1"
os.environ["NO_COLOR"] = "1"
for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "PYTHONWARNINGS"):
    os.environ.pop(name, None)

# A shell that starts something in the background has it ignore Ctrl-C, and so all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no time limit on one: the first call of a kernel compiles it.
settings.register_profile("descend", deadline=None, derandomize=True)
settings.load_profile("descend")


@pytest.fixture(autouse=True)
def no_memory_limit_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is told little memory says nothing to the next: its process is one with a limit for good."""
    from descend import machine

    monkeypatch.setattr(machine, "is_short_of_memory", False)
