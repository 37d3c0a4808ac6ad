"""What the process as a whole is set to before a command runs."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from descend.cli.failures import one_line
from descend.cli.interrupts import StopComparing, hear_interrupts
from descend.cli.without_pandas import go_without_pandas
from descend.machine import spare_addresses


def prepare_process(verbose: bool) -> None:
    """Output that any name can be written to, no raw warnings, and a polite request to end heard as Ctrl-C."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if verbose:
            print(f"descend: {category.__name__}: {one_line(str(message))}", file=sys.stderr)

    warnings.showwarning = show
    sys.unraisablehook = _say_unraisable
    hear_interrupts()
    go_without_pandas()
    spare_addresses()


def _nowhere() -> Any:
    """Where output goes whose stream was closed before the process began."""
    return Path(os.devnull).open("w", encoding="utf-8")


def _say_unraisable(lost: Any) -> None:
    """What Python could raise to nobody; an interrupt among it is heard all the same (``interrupts.py``)."""
    if not issubclass(lost.exc_type, (KeyboardInterrupt, StopComparing)):
        sys.__unraisablehook__(lost)
