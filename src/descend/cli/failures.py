"""What went wrong, as one line on stderr and an exit status."""

from __future__ import annotations

import errno
import io
import os
import re
import sys

import click

from descend.errors import DescendError, InputError, shorten

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
LONGEST = 2000
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What writing to stdout fails with; files that are written name themselves."""


class CarriedError(Exception):
    """An exception that Click would act on itself, carried past it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class InterruptedRunError(Exception):
    """Ctrl-C or a request to end; the message says what was saved and how to go on."""


class FailedRunError(Exception):
    """A run that failed; everything has been said but this one line."""


def status_of(error: BaseException, verbose: bool = False) -> int:
    """Says what happened and returns the exit status for it."""
    if isinstance(error, CarriedError):
        error = error.error
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return _say("interrupted; nothing was written. Run the same command to start again.", INTERRUPTED)
    if isinstance(error, InterruptedRunError):
        return _say(str(error), INTERRUPTED)
    if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno == errno.EPIPE):
        return _pipe_closed()
    if verbose:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.ClickException):
        return _say(f"error: {_usage(error)}", BAD_INPUT)
    if isinstance(error, InputError):
        return _say(f"error: {option_words(str(error))}", BAD_INPUT)
    if isinstance(error, FailedRunError | DescendError):
        return _say(f"error: {option_words(str(error))}", FAILED)
    return _say(f"error: {_unexpected(error)}", FAILED)


def one_line(text: str) -> str:
    r"""A message without line breaks or control characters, however much of the data it quotes.

    >>> one_line("a\nb\x1b[31m")
    'a b\\x1b[31m'
    """
    return shorten(" ".join(text.split()), LONGEST)


def option_words(text: str) -> str:
    """Python's spelling of a setting inside a sentence, as it is typed here; and a limit that begins one.

    >>> option_words('take learning_rate="auto"'), option_words("memory limit 1 MB is too low")
    ('take --learning-rate auto', '--memory-limit 1 MB is too low')
    >>> option_words("divide it by a large constant, or leave it out of training")
    'divide it by a large constant, or leave it out with --drop'
    """
    text = re.sub(r"^memory limit ", "--memory-limit ", text)
    text = re.sub(r"\bleave (it|that column) out of training\b", r"leave \1 out with --drop", text)
    return re.sub(
        r'\b(learning_rate|epochs|batch_size)=("?)(\w+)\2',
        lambda found: f"--{found[1].replace('_', '-')} {found[3]}",
        text.replace(" (force=True)", ""),
    )


def _say(text: str, status: int) -> int:
    print(f"descend: {one_line(text)}", file=sys.stderr, flush=True)
    return status


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".?") + ("?" if error.format_message().endswith("?") else "")
    context = getattr(error, "ctx", None)
    if context is None:
        return message
    return f"{message}{'' if message.endswith('?') else ';'} see {context.command_path} --help"


def _unexpected(error: BaseException) -> str:
    kind = type(error).__name__
    if isinstance(error, MemoryError):
        text = f"memory ran out ({error})" if str(error) else "memory ran out"
        return f"{text}; fewer rows or columns (--columns, --drop) need less"
    if isinstance(error, OSError) and error.filename is None and error.errno in FULL:
        return f"the output could not be written: {error.strerror}; send it to a place that has room"
    if isinstance(error, OSError):
        where = f" {shorten(os.fspath(error.filename), 200)!r}" if isinstance(error.filename, str) else ""
        return f"{kind}{where}: {error.strerror or error}"
    return f"{kind}: {error} (this is a bug in descend; --verbose shows the traceback)"


def _pipe_closed() -> int:
    """Whoever read our output has gone: nothing to say, and nothing more to write at exit either."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = io.StringIO()
    return 141  # what a program that SIGPIPE ends leaves with
