"""What the process as a whole is set to before a command runs."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from descend.cli.failures import one_line
from descend.cli.interrupts import hear_interrupts
from descend.machine import spare_addresses


def prepare_process(verbose: bool) -> None:
    """Output that any name can be written to, no raw warnings, and a polite request to end heard as Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if verbose:
            print(f"descend: {category.__name__}: {one_line(str(message))}", file=sys.stderr)

    warnings.showwarning = show
    hear_interrupts()
    spare_addresses()
