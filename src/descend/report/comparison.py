"""The page of a comparison: what the template is given."""

from __future__ import annotations

from typing import Any

from descend.report import facts, formatting
from descend.report.curve_axes import AXES
from descend.report.curve_figures import LOSSES, comparison_views
from descend.report.measures import measures, seeds_words
from descend.report.numbers_tables import comparison_tables
from descend.report.schema import Run
from descend.report.series import Series, comparison_series
from descend.report.surface_figure import surface_figure

KINDS = ("stochastic", "mini-batch", "batch")
ANSWERS = {True: ("yes", "Yes"), False: ("no", "No"), None: ("unknown", "Cannot be told here")}


def comparison_context(run: Run) -> dict[str, Any]:
    """Words, tables and figures of a comparison, for ``comparison.html.j2``."""
    shown = comparison_series(run)
    views = comparison_views(run, shown)
    surface = run.get("surface")
    charts: dict[str, Any] = {"curves": {"views": views}}
    if surface and surface["paths"]:
        charts["surface"] = {"figure": surface_figure(run, shown)}
    return {
        "series": shown,
        "legend": [(series.label, series.colour, series.glyph) for series in shown],
        "glance": [_glance(series) for series in shown],
        "charts": charts,
        "num_seeds": max((len(one["histories"]) for one in run["runs"]), default=0),
        "axes": [
            (x.column, x.choice) for x in AXES if any(view.startswith(f"{x.column} ") for view in views)
        ],
        "losses": [(key, word) for key, word, _ in LOSSES if any(view.endswith(f" {key}") for view in views)],
        "numbers": comparison_tables(run, shown),
        "explained": _explained(surface) if "surface" in charts else "",
        "path_ends": _path_ends(surface, shown) if "surface" in charts else [],
        "measures": measures(run, shown),
        "notes": [(s.label, str(s.run["note"])) for s in shown if s.run.get("note")],
        "claims": claim_groups(run),
        "tally": claim_tally(run),
        "facts": [
            ("Data", facts.data_facts(run)),
            ("Settings", facts.settings_facts(run)),
            ("Machine", facts.machine_facts(run)),
        ],
    }


def _glance(series: Series) -> dict[str, Any]:
    text, detail = formatting.spread(series.run.get("seconds_to_target"), formatting.duration)
    return {
        "time": text,
        "range": detail,
        "seeds": seeds_words(series.run),
        "reached": text != formatting.NOT_REACHED,
    }


def claim_groups(run: Run) -> list[tuple[str, list[dict[str, str]]]]:
    """The claims by the kind they are about, in the order of the textbook."""
    kinds = dict.fromkeys([*KINDS, *(claim["kind"] for claim in run["claims"])])
    groups = []
    for kind in kinds:
        claims = [_claim(claim) for claim in run["claims"] if claim["kind"] == kind]
        if claims:
            groups.append((formatting.prose(kind, 40).capitalize(), claims))
    return groups


def _claim(claim: Any) -> dict[str, str]:
    style, answer = ANSWERS[claim["holds"]]
    return {"style": style, "answer": answer, "claim": claim["claim"], "evidence": claim["evidence"]}


def claim_tally(run: Run) -> str:
    """How many claims hold, as in: of 14 claims 9 hold on this data, 3 do not, 2 cannot be told here."""
    answers = [claim["holds"] for claim in run["claims"]]
    yes, no, unknown = (answers.count(answer) for answer in ANSWERS)
    parts = [f"{yes} hold on this data" if yes != 1 else "1 holds on this data"]
    parts += [f"{no} do not" if no != 1 else "1 does not"] if no else []
    parts += [f"{unknown} cannot be told here"] if unknown else []
    return f"Of {len(answers)} claims {', '.join(parts)}."


def _explained(surface: Any) -> str:
    shares = [f"{100 * share:.0f} %" for share in surface.get("explained") or () if share is not None]
    return f", with {' and '.join(shares)} of the movement" if len(shares) == 2 else ""


def _path_ends(surface: Any, shown: list[Series]) -> list[list[str]]:
    """For each run: name, number of points, and where its path begins and ends, as text."""
    labels = {(s.run["kind"], s.run["batch_size"]): s.label for s in shown}

    def place(path: Any, index: int) -> str:
        return f"({formatting.number(path['x'][index], 3)}, {formatting.number(path['y'][index], 3)})"

    return [
        [
            labels.get((path["kind"], path["batch_size"]), formatting.prose(path["kind"], 20)),
            place(path, 0),
            place(path, -1),
        ]
        for path in surface["paths"]
        if path["x"]
    ]
