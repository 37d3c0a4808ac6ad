"""``descend batch-size``: which batch size, with which learning rate, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descend.cli import arguments, options, outputs
from descend.cli.command import option, verb
from descend.cli.failures import InterruptedRunError
from descend.cli.interrupts import Interrupts, StopComparing
from descend.cli.talk import Talk
from descend.errors import InputError

if TYPE_CHECKING:
    from descend.batch_size.plan import Plan


@verb(
    "descend batch-size sklearn:digits",
    "descend batch-size letter.parquet --target lettr --model mlp --time 1m",
)
@options.data_argument
@options.selection
@options.objective
@options.network
@option(
    "Training",
    "--optimizer",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="sgd, momentum, nesterov, adagrad, rmsprop, adam or adamw. auto: sgd; with --model mlp adam.",
)
@option(
    "Training",
    "--momentum",
    metavar="NUMBER",
    default="0.9",
    show_default=True,
    help="Of momentum and nesterov, from 0 to below 1.",
)
@option("Stopping", "--time", metavar="TIME", help="Time to find out, such as 10s or 5m. Default: 30s.")
@option(
    "Stopping",
    "--target-loss",
    metavar="LOSS",
    help="What counts as done. Default: 1 % of the gap between the first and the best loss.",
)  # fmt: skip
@options.running
@option(
    "Output", "-o", "--output", metavar="PLAN", help="Where the plan (.json) goes. Default: in this folder."
)
@options.page
@options.force
@options.talking
@click.pass_context
def command(ctx: click.Context, /, data: str, **given: Any) -> int:
    """Which batch size, with which learning rate, and why.

    Times steps of every size on this machine, trains at some sizes with a rate of their own until the
    target, and says which is fastest, which others would do, and how sure that is.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])
    fixed = {"learning_rate": "auto", "schedule": "constant", "clip": None, "epochs": None}
    settings = arguments.settings(given | fixed)
    target_loss = arguments.number(given["target_loss"], "--target-loss")
    memory_limit = arguments.memory(given["memory_limit"])
    arguments.check_page(given["report"], given["no_report"])
    outputs.check_apart(given["output"], given["report"])
    for name in ("output", "report"):
        outputs.check_given(f"--{name}", given[name], given["force"], data)

    from descend.cli.preparing import prepare_rows
    from descend.configuring import with_optimizer

    try:
        settings = with_optimizer(settings, given["model"])
    except InputError as error:
        raise arguments.in_options(error) from None
    with Interrupts() as interrupts:
        prepared, name = prepare_rows(data, given, settings, talk, needs_memory="batch-size")
        _places(given, name)
        shown = arguments.shown_command(ctx.find_root().obj)
        plan = _configure(
            talk, interrupts, prepared, settings, given["model"], target_loss, memory_limit, name, shown
        )
        interrupts.gentle = True
        plan_path, page = _places(given, name)  # a run beside this one may have taken free names meanwhile
        outputs.save_both(plan, plan_path, page, given["force"])
        _tell(talk, plan, plan_path, page)
    return 0


def _places(given: dict[str, Any], name: str) -> tuple[Path, Path | None]:
    """Where plan and page go; free names where none were given."""
    plan = Path(given["output"] or outputs.default_place(name, "-batch-size.json", given["force"]))
    return plan, outputs.page_place(given, name, "-batch-size.html")


def _configure(
    talk: Talk,
    interrupts: Interrupts,
    prepared: Any,
    settings: Any,
    model: str,
    target_loss: float | None,
    memory_limit: int | None,
    name: str,
    command_line: str,
) -> Plan:
    from descend.cli.live_plan import make_plan_display
    from descend.configuring import BUDGET_SECONDS, configure_prepared

    budget = settings.seconds or BUDGET_SECONDS
    with make_plan_display(talk, name, budget) as display:

        def follow(show: Callable[[Any], None]) -> Callable[[Any], None]:
            def heard(seen: Any) -> None:
                interrupts.raise_lost()
                show(seen)

            return heard

        interrupts.error = StopComparing  # KeyboardInterrupt would end one run and go on with the next
        try:
            return configure_prepared(
                prepared,
                settings,
                model,
                budget,
                target_loss,
                name,
                command_line,
                progress=follow(display.update),
                pilot_progress=follow(display.pilot),
                memory_limit=memory_limit,
            )
        except InputError as error:
            raise arguments.in_options(error) from None
        except (KeyboardInterrupt, StopComparing):
            raise InterruptedRunError(
                "interrupted; nothing was saved. Run it again; --time 10s makes it shorter"
            ) from None
        finally:
            interrupts.error = KeyboardInterrupt


def _tell(talk: Talk, plan: Plan, plan_path: Path, page: Path | None) -> None:
    from descend.report import plan_table, plan_text

    talk.result(plan.record, plan_table, plan_text)
    talk.note("", "")
    if page is not None:
        talk.note("page", str(page))
    talk.note("plan", str(plan_path))
    hidden = ("format", "version", "created", "explanation", "data", "settings", "machine")
    talk.json(
        {name: value for name, value in plan.record.items() if name not in hidden}
        | {"plan": str(plan_path), "report": None if page is None else str(page)}
    )
