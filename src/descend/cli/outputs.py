"""Where files go: names that were given are checked before any work, names that were not are found free."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from descend.cli.arguments import same_place
from descend.cli.failures import FailedRunError, InterruptedRunError
from descend.errors import InputError, OutputError, shorten
from descend.files import check_output, free_name

LONGEST_NAME = 80
PAGES = (".html", ".htm")


def check_given(option: str, path: str | None, force: bool, *inputs: str) -> None:
    """Raise now if the file that ``option`` names could not be written later, or would replace an input."""
    if path is None:
        return
    if not path:
        raise InputError(f"{option} is empty; give the name of a file")
    for data in inputs:
        if same_place(path, data):
            raise InputError(f"{option} {shorten(path)!r} is what is read; choose another name")
    check_output(path, force)


def check_apart(output: str | None, report: str | None) -> None:
    """A result and its page must not be one file, nor a result be called a page."""
    if output is None:
        return
    if report is not None and same_place(output, report):
        raise InputError(f"--output and --report are both {shorten(output)!r}; name two files")
    if Path(output).suffix.lower() in PAGES:
        name = shorten(output)
        raise InputError(
            f"--output {name!r} is called a page, and would not be one; for the page: --report {name}"
        )


def default_place(name: str, ending: str, force: bool) -> Path:
    """A file in the working folder named after the data; the next free name unless existing ones may go."""
    path = Path(file_stem(name) + ending)
    path = path if force else free_name(path)
    check_output(path, force)
    return path


def file_stem(name: str) -> str:
    """What the data are called, as a file may be called.

    >>> file_stem("sklearn:digits"), file_stem("../my data"), file_stem("...")
    ('digits', 'my data', 'data')
    """
    name = name.removeprefix("sklearn:")
    name = re.sub(r'[\x00-\x1f\x7f<>:"|?*]', "_", re.split(r"[/\\]", name)[-1])
    return name.strip(" .")[:LONGEST_NAME] or "data"


def save_both(result: Any, place: Path, page: Path | None, force: bool) -> None:
    """Saves a comparison or a plan, then its page; where the page is not made, it is said that the rest is there."""
    result.save(place, force=force)
    if page is None:
        return
    saved = f"{place} is saved, and `descend report {place}` draws the page"
    try:
        result.save_html(page, force=force)
    except (OutputError, InputError) as error:  # the places were right when the work began
        raise FailedRunError(f"{error}; {saved}") from error
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; {saved}") from None


def page_place(given: dict[str, Any], name: str, ending: str) -> Path | None:
    """Where the page goes; None where none is wanted."""
    if given["no_report"]:
        return None
    return Path(given["report"]) if given["report"] else default_place(name, ending, given["force"])
