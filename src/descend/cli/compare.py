"""``descend compare``: the three kinds of gradient descent on one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descend.cli import arguments, options, outputs
from descend.cli.command import option, verb
from descend.cli.failures import FailedRunError, InterruptedRunError
from descend.cli.interrupts import Interrupts, StopComparing
from descend.cli.talk import Talk

if TYPE_CHECKING:
    from descend.comparing.comparison import Comparison

DEFAULT_SIZES = "1,32,full"
MOST_SEEDS = 1000


@verb(
    "descend compare sklearn:digits",
    "descend compare adult.parquet --target income --batch-sizes 1,64,full --time 5s",
)
@options.data_argument
@options.selection
@options.objective
@options.network
@option(
    "Training",
    "--batch-sizes",
    metavar="N,…",
    default=DEFAULT_SIZES,
    show_default=True,
    help="Rows in a batch, of each run; full, or more than there are: every row.",
)
@options.stepping("sgd")
@options.limits
@option(
    "Stopping",
    "--target-loss",
    metavar="LOSS",
    help="What counts as done. Default: 1 % of the gap between the first and the best loss.",
)
@option("Other", "--seeds", metavar="N", default="3", show_default=True, help="Runs of each kind.")
@options.running
@option(
    "Output", "-o", "--output", metavar="RUN", help="Where the run (.json) goes. Default: in this folder."
)
@options.page
@options.force
@options.talking
@click.pass_context
def command(ctx: click.Context, /, data: str, **given: Any) -> int:
    """Stochastic, mini-batch and batch gradient descent side by side.

    All get the same rows, the same budget and a learning rate of their own. Prints a table, a verdict and
    what holds of the textbook's claims; writes a page and the run.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])
    sizes = _batch_sizes(given["batch_sizes"])
    settings = arguments.settings(given)
    seeds = _seeds(given["seeds"])
    target_loss = arguments.number(given["target_loss"], "--target-loss")
    arguments.check_page(given["report"], given["no_report"])
    outputs.check_apart(given["output"], given["report"])
    for name in ("output", "report"):
        outputs.check_given(f"--{name}", given[name], given["force"], data)

    from descend.cli.preparing import prepare_rows

    with Interrupts() as interrupts:
        prepared, name = prepare_rows(data, given, settings, talk, needs_memory="compare")
        _places(given, name)
        comparison = _compare(
            talk,
            interrupts,
            prepared,
            settings,
            sizes,
            seeds,
            target_loss,
            name,
            arguments.shown_command(ctx.find_root().obj),
            given["model"],
        )
        interrupts.gentle = True  # what is complete is saved as a whole
        run_path, page = _places(given, name)  # a run beside this one may have taken free names meanwhile
        outputs.save_both(comparison, run_path, page, given["force"])
        _tell(talk, comparison, run_path, page)
    if all(stopped == "diverged" for run in comparison.runs for stopped in run["stopped"]):
        raise FailedRunError(
            "every run diverged: no kind got anywhere; take --learning-rate auto, or a smaller one"
        )
    return 0


def _places(given: dict[str, Any], name: str) -> tuple[Path, Path | None]:
    """Where run and page go; free names where none were given."""
    run = Path(given["output"] or outputs.default_place(name, "-compare.json", given["force"]))
    return run, outputs.page_place(given, name, "-compare.html")


def _batch_sizes(text: str) -> list[int | str]:
    """The sizes that were typed; how they suit the rows is known later."""
    from descend.batches import check_batch_size
    from descend.errors import InputError

    words = [word for word in text.replace(" ", "").split(",") if word]
    try:
        sizes = [check_batch_size(word) for word in words]
    except InputError as error:
        raise InputError(f"--batch-sizes {text[:60]!r}: {error}") from None
    if not sizes or "auto" in sizes:
        raise InputError(f"--batch-sizes is {text[:60]!r}; give sizes to compare, such as {DEFAULT_SIZES}")
    return sizes


def _seeds(text: str) -> int:
    from descend.errors import InputError
    from descend.settings import whole_number

    seeds = whole_number("--seeds", text, at_least=1)
    if seeds > MOST_SEEDS:
        raise InputError(f"--seeds is {seeds}; at most {MOST_SEEDS} runs of each kind are made")
    return seeds


def _compare(
    talk: Talk,
    interrupts: Interrupts,
    prepared: Any,
    settings: Any,
    sizes: list[int | str],
    seeds: int,
    target_loss: float | None,
    name: str,
    command_line: str,
    model: str,
) -> Comparison:
    from descend.cli.live import make_display
    from descend.comparing.comparison import check_batch_sizes, compare_prepared

    rows = check_batch_sizes(sizes, prepared.train.num_rows)
    with make_display(talk, name, rows, prepared.train.num_rows, seeds) as display:

        def follow(*seen: Any) -> None:
            interrupts.raise_lost()
            display.update(*seen)

        interrupts.error = StopComparing
        try:
            return compare_prepared(
                prepared,
                settings,
                sizes,
                seeds,
                target_loss,
                name,
                command_line,
                progress=follow,
                model=model,
                on_measuring=display.measuring,
            )
        except (KeyboardInterrupt, StopComparing):
            raise InterruptedRunError(
                "interrupted; nothing was saved, for kinds that ran for different times cannot be compared. "
                "Run it again; --time 2s or --seeds 1 make it shorter"
            ) from None
        finally:
            interrupts.error = KeyboardInterrupt


def _tell(talk: Talk, comparison: Comparison, run_path: Path, page: Path | None) -> None:
    from descend.report import comparison_table, comparison_text

    record = comparison.record
    talk.result(record, comparison_table, comparison_text)
    talk.note("", "")
    if page is not None:
        talk.note("page", str(page))
    talk.note("run", str(run_path))
    hidden = ("histories", "working_bytes", "sharpness_found", "excursions")
    talk.json(
        {
            "runs": [{k: v for k, v in run.items() if k not in hidden} for run in comparison.runs],
            "first_loss": record["first_loss"],
            "best_loss": record["best_loss"],
            "target_loss": record["target_loss"],
            "verdict": comparison.verdict,
            "claims": comparison.claims,
            "run": str(run_path),
            "report": None if page is None else str(page),
        }
    )
