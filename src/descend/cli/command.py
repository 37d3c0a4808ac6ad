"""Commands whose help groups the options and ends with examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
SECTIONS = ("Data", "Training", "Stopping", "Output", "Other")


class SectionedOption(click.Option):
    """An option that knows under which heading it stands."""

    def __init__(self, *args: Any, section: str = "Other", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class VerbCommand(click.Command):
    """A command with its options in sections and its examples written as they are typed."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in SECTIONS:
            records = [
                record
                for parameter in self.get_params(ctx)
                if isinstance(parameter, click.Option)
                and getattr(parameter, "section", "Other") == section
                and (record := parameter.get_help_record(ctx)) is not None
            ]
            if records:
                with formatter.section(section):
                    formatter.write_dl(records, col_max=34)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")


def verb(*examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A decorator that makes a function a verb; its docstring is the help."""
    return click.command(cls=VerbCommand, examples=examples)


def option(section: str, *names: str, **kwargs: Any) -> Callable[[Function], Function]:
    """``click.option`` under a heading; what a person typed arrives as text and is checked later, in one place."""
    return click.option(*names, cls=SectionedOption, section=section, **kwargs)
