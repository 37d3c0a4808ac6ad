"""``descend report``: the page again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from descend import history
from descend.cli import options, outputs
from descend.cli.command import option, verb
from descend.cli.talk import Talk
from descend.errors import ModelFileError, shorten


@verb(
    "descend report digits-compare.json",
    "descend report adult.descend --output page.html --force",
)
@options.run_argument
@option(
    "Output",
    "-o",
    "--output",
    metavar="PAGE",
    help="Where the page goes. Default: named after RUN, in this folder.",
)
@options.force
@options.talking
def command(run: str, **given: Any) -> int:
    """The page again, from a saved comparison, plan, history or model.

    RUN is a run (.json) that descend compare wrote, a plan (.json) of descend batch-size, a history (.json)
    saved from Python, or a model that descend fit wrote. Nothing is trained.
    """
    talk = Talk(given["as_json"], given["quiet"], given["verbose"])
    outputs.check_given("--output", given["output"], given["force"], run)
    record = read_record(run)

    from descend.report import write_page
    from descend.report.schema import check_run

    check_run(record)
    page = given["output"] or outputs.default_place(Path(run).stem, ".html", given["force"])
    write_page(record, page, force=given["force"])
    _show(talk, record)
    talk.note("page", str(page))
    talk.json({"report": str(page)})
    return 0


def read_record(path: str) -> dict[str, Any]:
    """What a page is drawn from, out of a run (JSON) or a model file; raises ``ModelFileError`` for others."""
    if not Path(path).exists():
        raise ModelFileError(
            f"run {shorten(path, 200)!r} does not exist; give a run (.json) of `descend compare` or a model"
        )
    if _is_json(path):
        try:
            record = json.loads(Path(path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f"run {shorten(path, 200)!r} is damaged or no run: {shorten(str(error), 100)}; "
                "give a file that `descend compare` or `descend fit` wrote"
            ) from None
        except OSError as error:
            raise ModelFileError(f"run {shorten(path, 200)!r} cannot be read: {error.strerror}") from None
        if not isinstance(record, dict):
            raise ModelFileError(
                f"run {shorten(path, 200)!r} holds no object; give a file that descend wrote"
            )
        if record.get("format") == history.FORMAT:
            from descend.run_record import history_record

            return history_record(history.History.from_json(record), Path(path).stem)
        return record

    from descend.models.loading import load_model
    from descend.run_record import model_record

    return model_record(load_model(path))


def _is_json(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(64).lstrip()[:1] in (b"{", b"[")
    except (OSError, ValueError):
        return False  # loading it as a model tells what is wrong with it


def _show(talk: Talk, record: dict[str, Any]) -> None:
    from descend.report import comparison_table, comparison_text, fit_table, fit_text, plan_table, plan_text

    if record["format"] == "descend.comparison":
        talk.result(record, comparison_table, comparison_text)
    elif record["format"] == "descend.plan":
        talk.result(record, plan_table, plan_text)
    else:
        talk.result(record, fit_table, fit_text)
