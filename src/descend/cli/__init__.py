"""The command line: ``descend VERB``. Parses, calls, prints; what is computed is computed elsewhere.

A verb's module is imported when the verb is run, so ``descend --help`` loads nothing but Click.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> int:
    """Carries out one command line; returns the exit status.

    0 done; 1 a run that failed; 2 bad input or usage; 130 interrupted.
    """
    from descend.cli.failures import status_of
    from descend.cli.group import descend

    try:
        status = descend.main(
            list(arguments), prog_name="descend", standalone_mode=False, obj=list(arguments)
        )
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return status_of(error, verbose="--verbose" in arguments or "-v" in arguments)
    return int(status or 0)


def main() -> None:
    """The entry point of the ``descend`` command."""
    import signal

    # Until someone hears it Ctrl-C ends the process without a word: nothing has begun, and importing takes a while.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from descend.cli.process import prepare_process

    prepare_process("--verbose" in sys.argv or "-v" in sys.argv)
    sys.exit(run(sys.argv[1:]))
