"""``descend fit``: one model, nothing to tune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from descend.cli import arguments, options, outputs, saving
from descend.cli.command import option, verb
from descend.cli.failures import FailedRunError, InterruptedRunError, option_words
from descend.cli.interrupts import Interrupts
from descend.cli.talk import Talk
from descend.errors import InputError, OutputError

if TYPE_CHECKING:
    from descend.checkpoint import Checkpoint
    from descend.features import Prepared
    from descend.models.linear import LinearModel
    from descend.models.mlp import MLPModel
    from descend.runs import Run
    from descend.settings import Settings
    from descend.watching import Observation


@verb(
    "descend fit adult.parquet --target income --drop fnlwgt --output income.descend",
    "descend fit sklearn:digits --model mlp --hidden 128,64",
)
@options.data_argument
@options.selection
@options.objective
@options.network
@option(
    "Training",
    "--batch-size",
    metavar="N|full|auto|growing",
    default="auto",
    show_default=True,
    help="Rows in a batch: a whole number, full (every row; so is a number above them), auto (a fixed rule, told "
    "aloud), or growing: from 32 on more where the rate would fall, while twice the rows take less than 1.3 times as "
    "long a step.",
)
@options.stepping("auto")
@options.limits
@options.running
@option(
    "Output",
    "-o",
    "--output",
    metavar="MODEL",
    help="Where the model goes. Default: NAME.descend in this folder.",
)
@options.page
@options.saving
@options.force
@options.talking
@click.pass_context
def command(ctx: click.Context, /, data: str, **given: Any) -> int:
    """Train one model, nothing to tune.

    Writes the model as one file and a page about its training. With validation rows training stops when
    they gain nothing more, and the best parameters are kept.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])
    has_validation = arguments.validation(given["validation"]) != (0.0, None)
    settings = arguments.settings(
        given, batch_size=given["batch_size"], early_stopping=has_validation, dense=True, growth=1.5
    )
    arguments.check_growing(settings, given["model"])
    arguments.check_page(given["report"], given["no_report"])
    outputs.check_apart(given["output"], given["report"])
    saving.check_saving(given)
    own = saving.own_outputs(given)
    for name in ("output", "report"):
        may_replace = given["force"] or _is(own.get(name), given[name])
        outputs.check_given(f"--{name}", given[name], may_replace, data)

    from descend.cli.preparing import prepare_rows, selection_of
    from descend.report import write_page
    from descend.run_record import complete_summary

    with Interrupts() as interrupts, saving.saved_into(given, talk) as checkpoint:
        prepared, name = prepare_rows(
            data, given, settings, talk, needs_memory="a network" if given["model"] == "mlp" else None
        )
        _places(given, own, name)
        run = _train(talk, prepared, settings, interrupts, given["model"], checkpoint)
        _explain(talk, run)
        if run.stopped == "diverged":
            raise _failed(talk, run)
        if saving.had_ended(checkpoint, run.stopped):
            talk.note(
                "checkpoint", f"the run had ended already ({run.history.rule}); its model is written again"
            )
        complete_summary(run.model, prepared, settings, name, selection_of(given))
        record = _record(run, arguments.shown_command(ctx.find_root().obj))
        # Looked for again: a run beside this one may have taken the free names meanwhile.
        model_path, page = _places(given, own, name)
        written = ""
        try:
            run.model.save(model_path, force=given["force"] or _is(own.get("output"), model_path))
            saving.remember_outputs(checkpoint, output=model_path)
            written = f"; the model is in {model_path}"
            if page is not None:
                write_page(record, page, force=given["force"] or _is(own.get("report"), page))
                saving.remember_outputs(checkpoint, output=model_path, report=page)
        except (OutputError, InputError) as error:  # the places were right when the run began
            ways = saving.how_to_go_on(checkpoint)
            raise FailedRunError(f"{error}{written}{ways and '; ' + ways}") from error
        except KeyboardInterrupt:
            if not written:
                raise
            raise InterruptedRunError(f"interrupted{written}, but there is no page of it") from None
        _tell(talk, run, record, model_path, page)
    if run.stopped == "interrupted":
        forced = " with --force" if given["output"] and not given["force"] else ""
        ways = saving.how_to_go_on(checkpoint) or f"Run the command again{forced} to train to the end"
        raise InterruptedRunError(
            f"interrupted after {run.history.last['epoch']:.3g} epochs; the model so far is in {model_path} and "
            f"can be used. {ways[0].upper()}{ways[1:]}"
        )
    return 0


def _is(own: Path | None, place: str | Path | None) -> bool:
    """Whether a place is that of a file which the run itself wrote."""
    return own is not None and place is not None and arguments.same_place(own, place)


def _places(given: dict[str, Any], own: dict[str, Path], name: str) -> tuple[Path, Path | None]:
    """Where model and page go: where they were told to, else where the run put them before, else to free names."""
    page = own.get("report") if not given["report"] and not given["no_report"] else None
    model = given["output"] or own.get("output") or outputs.default_place(name, ".descend", given["force"])
    return Path(model), page or outputs.page_place(given, name, "-fit.html")


def _train(
    talk: Talk,
    prepared: Prepared,
    settings: Settings,
    interrupts: Interrupts,
    model: str,
    checkpoint: Checkpoint | None,
) -> Run[LinearModel] | Run[MLPModel]:
    """Trains with a line of progress; the first Ctrl-C ends it at the next look and keeps what was learnt."""
    from descend.cli.progress import StatusLine
    from descend.report.formatting import training_text

    line = StatusLine(talk)
    if talk.is_live:
        line.show("getting ready: learning rate, kernels")

    def follow(seen: Observation) -> bool:
        interrupts.gentle = True
        if seen.updates or talk.is_live:
            line.show(training_text(seen))
        return interrupts.asked

    try:
        if model == "mlp":
            from descend.networks.fitting import fit_network

            return fit_network(prepared, settings, callbacks=[follow], checkpoint=checkpoint)
        if prepared.train.is_in_source:
            from descend.source_fitting import fit_from_source

            return fit_from_source(prepared, settings, callbacks=[follow], checkpoint=checkpoint)
        from descend.fitting import fit

        return fit(prepared, settings, callbacks=[follow], checkpoint=checkpoint)
    except InputError as error:
        raise arguments.in_options(error) from None
    finally:
        line.clear()


def _explain(talk: Talk, run: Run[LinearModel] | Run[MLPModel]) -> None:
    """What was chosen, and why."""
    from descend.report import formatting

    talk.note("batch size", f"{formatting.batch_size(run.batch_size)} ({run.batch_size_reason})")
    talk.note("learning rate", f"{formatting.number(run.rate.value, 3)} ({run.rate.reason})")
    talk.note("optimizer", run.optimizer)
    if run.stopped != "diverged":
        talk.notes([option_words(note) for note in run.history.notes])
        if run.history.advice:
            talk.note("advice", option_words(run.history.advice))


def _record(run: Run[LinearModel] | Run[MLPModel], command_line: str) -> dict[str, Any]:
    """What the page is drawn from."""
    from descend.machine import describe_machine
    from descend.run_record import model_record

    return model_record(run.model, command_line, describe_machine()["load"])


def _tell(
    talk: Talk,
    run: Run[LinearModel] | Run[MLPModel],
    record: dict[str, Any],
    model_path: Path,
    page: Path | None,
) -> None:
    from descend.report import fit_table, fit_text

    talk.result(record, fit_table, fit_text)
    talk.note("", "")
    if page is not None:
        talk.note("page", str(page))
    talk.note("model", str(model_path))
    talk.json(_summary(run) | {"model": str(model_path), "report": None if page is None else str(page)})


def _failed(talk: Talk, run: Run[LinearModel] | Run[MLPModel]) -> FailedRunError:
    """A run that diverged writes nothing, and says which bound it broke and which column is to blame."""
    talk.json(_summary(run))
    reason = run.history.notes[0] if run.history.notes else "diverged: the loss left the range of the numbers"
    return FailedRunError(f"{reason}. No model was written")


def _summary(run: Run[LinearModel] | Run[MLPModel]) -> dict[str, Any]:
    """What ``--json`` prints."""
    from descend.run_record import what_ended

    summary = run.model.summary
    names = ("batch_size", "learning_rate", "optimizer", "epochs", "steps", "rows", "seconds", "stopped")
    return {
        "model": None,
        **{name: summary[name] for name in names},
        "train": summary.get("train"),
        "validation": summary.get("validation"),
        "report": None,
        **what_ended(run.history),
    }
