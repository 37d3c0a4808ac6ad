"""Every error that descend raises on purpose, as a tree.

    DescendError
    ├── InputError            a call that cannot be carried out; also a ValueError
    │   ├── SourceError       data that cannot be read
    │   │   └── NoRowsError   a table with a header and no rows
    │   ├── ColumnError       columns or values that cannot be used
    │   └── ModelFileError    a model or run file that is damaged or not one
    ├── OutputError           a file that could not be written, though its place looked right; also an OSError
    ├── DivergenceError       training that left the numbers; also an ArithmeticError
    └── TrainingError         a step that the caller's own module, loss or data could not take; also a RuntimeError

A message names what is wrong, the value received, what is accepted, and what to try.
The command line prints it as one line and leaves with status 2 (1 for a run that failed).
"""


class DescendError(Exception):
    """Base of every error that descend raises on purpose."""


class InputError(DescendError, ValueError):
    """A call that cannot be carried out; nothing was trained or written."""


class SourceError(InputError):
    """Data that cannot be read: missing, empty, cut short, or not what its name says."""


class NoRowsError(SourceError):
    """A table that has a header and no rows; ``names`` are its columns. Nothing is learnt from it."""

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


class ColumnError(InputError):
    """A column that is missing, or whose values cannot be used."""


class ModelFileError(InputError):
    """A model or run file that is damaged, or is something else."""


class OutputError(DescendError, OSError):
    """A file that could not be written, though its place looked right: a full disk, a right that was taken away.

    What was there before is there still, and nothing half-written is.
    """


class DivergenceError(DescendError, ArithmeticError):
    """Training left the range of the numbers; raised only where a caller asks for it."""


class TrainingError(DescendError, RuntimeError):
    """A step that the caller's own module, loss, data or optimizer could not take, or whose loss is no number.

    ``step`` counts updates from 1, ``epoch`` from 1, ``batch`` from 1 inside its epoch; ``rows`` are the row numbers
    in the caller's data, of the whole batch or of what is at fault; ``history`` is what was recorded until then.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int = 0,
        epoch: int = 0,
        batch: int = 0,
        rows: tuple[int, ...] = (),
        history: object = None,
    ) -> None:
        super().__init__(message)
        self.step, self.epoch, self.batch, self.rows, self.history = step, epoch, batch, rows, history


def one_of(name: str, value: object, accepted: object) -> InputError:
    """The message for a value outside a closed list.

    >>> print(one_of("loss", "squared", ["squared_error", "log_loss"]))
    loss 'squared' is not known; choose one of: squared_error, log_loss (did you mean 'squared_error'?)
    """
    import difflib

    names = [str(item) for item in accepted]  # type: ignore[attr-defined]
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close and close[0] not in str(value) else ""
    shown = shorten(str(value))
    return InputError(f"{name} {shown!r} is not known; choose one of: {', '.join(names)}{hint}")


def shorten(text: str, width: int = 60) -> str:
    """A user's text, cut to ``width`` characters, control characters made visible.

    >>> shorten("a" * 100, width=10)
    'aaaaaaaaa…'
    """
    visible = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: 4 * width])
    return visible if len(visible) <= width else visible[: width - 1] + "…"
