"""The page of a comparison: what the template is given."""

from __future__ import annotations

from typing import Any

from descend.report import facts, formatting
from descend.report.curve_axes import AXES
from descend.report.curve_figures import LOSSES, comparison_views
from descend.report.ends import ends_measures, has_ends, walls_text, why_not_tried
from descend.report.ends_figures import ends_figures
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
    if has_ends(run):
        charts |= {name: {"figure": figure} for name, figure in ends_figures(run, shown).items()}
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
        "surface_words": surface_words(run, shown) if "surface" in charts else {},
        "ends": ends_context(run, shown) if has_ends(run) else None,
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


def ends_context(run: Run, shown: list[Series]) -> dict[str, Any]:
    """Table and words about where a network's runs ended."""
    rows = formatting.count(run["valleys"]["rows"])
    return {
        "measures": ends_measures(run, shown),
        "words": (
            f"Medians over the seeds, the range below. Eigenvalues and walls are those of the objective on {rows} "
            "rows; a wall is what the loss on the straight line rises above the higher of its ends."
        ),
        "why_not": why_not_tried(run),
    }


def surface_words(run: Run, shown: list[Series]) -> dict[str, str]:
    """What is said above and below the loss surface."""
    surface = run["surface"]
    if surface.get("through") == "ends":
        return _words_of_ends(run, shown)
    shares = [f"{100 * share:.0f} %" for share in surface.get("explained") or () if share is not None]
    explained = f", with {' and '.join(shares)} of the movement" if len(shares) == 2 else ""
    return {
        "lead": "The loss over the plane in which the runs moved most, and the way each of them took from the "
        "common start, the dot without a colour.",
        "caption": f"The two directions are the principal ones of all paths together{explained}. A path may leave "
        "the plane, so it can seem to cross a line upwards.",
    }


SPANNED = (
    "The plane goes through three of the ends",
    "The plane goes through both ends and along a random direction whose units have the weights' lengths",
    "The plane goes through the end and along two random directions",
)
"""By the number of random directions."""


def _words_of_ends(run: Run, shown: list[Series]) -> dict[str, str]:
    random = int(run["surface"].get("random_directions") or 0)
    others = "; other ends lie off it" if len(shown) > 3 else ""
    walls = walls_text(run, shown) if has_ends(run) else ""
    return {
        "lead": "The loss over the plane through the places where the runs of the first seed ended. The ways from "
        "the common start, the dot without a colour, are seen from above.",
        "caption": f"{SPANNED[min(max(random, 0), 2)]}{others}. The ways begin off the plane, so they seem to cross "
        f"lines. {walls}",
    }


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
            *([formatting.number(path["off"][0], 3)] if path.get("off") else []),
        ]
        for path in surface["paths"]
        if path["x"]
    ]
