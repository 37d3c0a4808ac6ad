"""The list of verbs, and the group that loads one when it is run."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import click

from descend.cli.failures import CarriedError

VERBS = {
    "compare": "Stochastic, mini-batch and batch gradient descent side by side.",
    "fit": "Train one model, nothing to tune.",
    "batch-size": "Which batch size, with which learning rate, and why.",
    "predict": "One row of predictions for each row of data.",
    "evaluate": "Figures of a model on labelled data.",
    "ingest": "Write a shuffled block store, for data larger than memory.",
    "report": "The page again, from a saved comparison, plan, history or model.",
    "machine": "What descend sees of this machine (for bug reports).",
}
"""Each verb with its one line of help; a test holds that the verb's own help begins with it."""

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group whose verbs are modules of this package, imported when asked for by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"descend.cli.{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in VERBS and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, VERBS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"No such command {name!r}.{hint} Commands are {', '.join(VERBS)}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OSError, KeyboardInterrupt) as error:
            raise CarriedError(error) from error  # Click would end the process in a way of its own


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Prints the version and leaves."""
    if not wanted or ctx.resilient_parsing:
        return
    from descend import __version__

    click.echo(f"descend {__version__}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    invoke_without_command=True,
    epilog="Try: descend compare sklearn:digits",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=show_version,
    help="Show the version and leave.",
)  # fmt: skip
@click.pass_context
def descend(ctx: click.Context) -> None:
    """Train linear models by gradient descent, and see what the batch size does.

    DATA is a file (.csv, .tsv, .parquet, .arrow, .feather, .npz, .npy), a folder or quoted glob of such
    files, or sklearn:NAME (digits, breast_cancer, iris, wine, diabetes).
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
