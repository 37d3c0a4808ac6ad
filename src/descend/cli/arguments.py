"""From what was typed to what the library takes; everything here is judged before any data are read."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.errors import InputError, one_of, shorten

if TYPE_CHECKING:
    from descend.settings import Settings

BYTES = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}
MODELS = ("linear", "mlp")
NETWORK = ("hidden", "activation", "weight_decay")
TASKS = ("classification", "regression")
_OPTION_OF = {
    "batch size": "--batch-size", "learning_rate": "--learning-rate", "loss": "--loss", "penalty": "--penalty",
    "alpha": "--alpha", "optimizer": "--optimizer", "schedule": "--schedule", "momentum": "--momentum",
    "reduction": "--reduction", "epochs": "--epochs", "time": "--time", "seed": "--seed",
    "threads": "--threads", "l1_ratio": "--l1-ratio", "epsilon": "--epsilon", "quantile": "--quantile",
    "clip": "--clip", "activation": "--activation", "weight_decay": "--weight-decay",
    "target loss": "--target-loss", "memory limit": "--memory-limit",
}  # fmt: skip


def names(texts: Iterable[str]) -> list[str]:
    """Column names out of ``a,b``; a name with a comma stands in double quotes.

    >>> names(["a,b", '"c,d"'])
    ['a', 'b', 'c,d']
    """
    return [name for row in csv.reader(list(texts)) for name in row if name]


def seconds(text: str | None, name: str = "--time") -> float | None:
    """A time span.

    >>> seconds("30s"), seconds("5m"), seconds("1.5h"), seconds("2")
    (30.0, 300.0, 5400.0, 2.0)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(ms|s|min|m|h|)\s*", text.lower())
    try:
        value = float(found[1]) * UNITS[found[2]] if found else float("nan")
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value <= 0:
        raise InputError(
            f"{name} {shorten(text)!r} is not a time span; give one above 0, such as 30s, 5m or 1.5h"
        )
    return value


def memory(text: str, name: str = "--memory-limit") -> int | None:
    """Bytes of memory; None for ``auto``.

    >>> memory("2GB"), memory("512 MiB"), memory("auto")
    (2000000000, 536870912, None)
    """
    if text.strip().lower() == "auto":
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]i?|)b?\s*", text.lower())
    try:
        value = float(found[1]) * BYTES[found[2]] if found else float("nan")
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value < 1:
        raise InputError(f"{name} is {shorten(text)!r}; give auto, or bytes such as 2GB, 800MB or 512MiB")
    return int(value)


def threads(text: str) -> int | None:
    """A number of threads; None for ``auto``."""
    if text.strip().lower() == "auto":
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise InputError(f"--threads is {shorten(text)!r}; give auto or a whole number from 1 on")
    return int(text)


def validation(text: str) -> tuple[float, str | None]:
    """A share of the rows, or a file of rows.

    >>> validation("0.2"), validation("held_out.csv")
    ((0.2, None), (0.0, 'held_out.csv'))
    """
    try:
        share = float(text)
    except ValueError:
        return 0.0, text
    if not 0 <= share < 1:
        raise InputError(
            f"--validation is {shorten(text)}; give a share of at least 0 and below 1, such as 0.1, "
            "a file, or 0 for none"
        )
    return share, None


def number(text: str | None, name: str) -> float | None:
    """A finite number, or None where the option was not given."""
    from descend.settings import finite_number

    return finite_number(name, text)


def task(text: str | None) -> Any:
    """The task, or None to have it told from the target."""
    if text is not None and text not in TASKS:
        raise one_of("--task", text, TASKS)
    return text


def settings(options: dict[str, Any], **more: Any) -> Settings:
    """Checked settings of a run; errors name the options as they are typed."""
    from descend.settings import Settings

    if options["model"] not in MODELS:
        raise one_of("--model", options["model"], MODELS)
    more |= network(options)
    chosen = {
        name: options[name]
        for name in ("loss", "penalty", "alpha", "l1_ratio", "epsilon", "quantile", "clip", "reduction",
                     "optimizer", "learning_rate", "schedule",
                     "momentum", "epochs", "seed", "threads", "standardize")
    }  # fmt: skip
    time = seconds(options["time"])
    try:
        return Settings(**chosen, seconds=time, **more).checked()
    except InputError as error:
        raise in_options(error) from None


def check_growing(settings: Settings, model: str) -> None:
    """Growing batches need a rate that falls, which is seen before rows are read."""
    from descend.settings import is_growing

    if is_growing(settings.batch_size):
        from descend.growing import check_falls

        try:
            check_falls(settings.schedule, model == "mlp" and settings.learning_rate == "auto")
        except InputError as error:
            raise in_options(error) from None


def network(options: dict[str, Any]) -> dict[str, Any]:
    """What was said of a network's shape; it goes with ``--model mlp`` alone.

    >>> network({"model": "mlp", "hidden": "128,64", "activation": None})
    {'hidden': (128, 64)}
    """
    given = {name: options[name] for name in NETWORK if options.get(name) is not None}
    if given and options["model"] != "mlp":
        name = next(iter(given)).replace("_", "-")
        raise InputError(f"--{name} describes a network: give --model mlp with it, or leave it out")
    if "hidden" in given:
        try:
            given["hidden"] = tuple(int(size) for size in given["hidden"].split(",") if size.strip())
        except ValueError:
            given["hidden"] = (0,)
        if not all(size >= 1 for size in given["hidden"]):
            raise InputError(
                f"--hidden is {shorten(options['hidden'])!r}; whole numbers of units ≥ 1 are needed, such as 128,64"
            )
    return given


def in_options(error: InputError) -> InputError:
    """The same message with a setting's name as its option.

    >>> print(in_options(InputError("learning_rate is -1; a number above 0 is needed")))
    --learning-rate is -1; a number above 0 is needed
    """
    text = str(error)
    for name, option in _OPTION_OF.items():
        if text.startswith(f"{name} "):
            text = option + text[len(name) :]
            break
    return type(error)(text)


def with_options(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls; an error about a column that was named says with which option."""
    from descend.sources.selection import NoTargetError

    try:
        return call(*args, **kwargs)
    except NoTargetError as error:
        raise NoTargetError(f"{error}; give one with --target COLUMN") from None
    except InputError as error:
        text = re.sub(r"^(target|drop|columns|weights) column ", r"--\1: column ", str(error))
        text = re.sub(r"^(target|drop|columns|weights|task) is ", r"--\1 is ", text)
        raise type(error)(text) from None


def check_page(report: str | None, no_report: bool) -> None:
    """The two options about the page must not contradict each other."""
    if report is not None and no_report:
        raise InputError("--report and --no-report contradict each other; give one of them")


def shown_command(arguments: Iterable[str]) -> str:
    """The command line as it could be typed again."""
    import shlex

    return "descend " + shlex.join(arguments)


def same_place(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one file."""
    try:
        return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):
        return False
