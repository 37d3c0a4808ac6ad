"""A saved run to one HTML file that needs no network, and no JavaScript to be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.errors import shorten
from descend.report import embed, formatting
from descend.report.comparison import comparison_context
from descend.report.fit import fit_context
from descend.report.plan import plan_context
from descend.report.schema import Run, check_run

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

PAGES: dict[str, tuple[str, Callable[[Run], dict[str, Any]]]] = {
    "descend.comparison": ("comparison.html.j2", comparison_context),
    "descend.model": ("fit.html.j2", fit_context),
    "descend.plan": ("plan.html.j2", plan_context),
}
_LONGEST_TITLE = 12_000


def render_page(run: dict[str, Any]) -> str:
    """The page of a saved run, a comparison, a fit or a plan.

    Equal runs give equal pages: nothing in it depends on the time or the place of rendering.
    A run of an unknown format or version raises ``InputError``.
    """
    from markupsafe import Markup

    checked = check_run(run)
    template, context = PAGES[checked["format"]]
    words = context(checked)
    scripts = [embed.plotly_js(), embed.asset("report.js")]
    return _environment().get_template(template).render(
        words,
        run=checked,
        title=shorten(checked["data"]["name"], 60),
        styles=Markup(embed.asset("report.css")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=" ".join(embed.csp_hash(script) for script in scripts),
        data=Markup(embed.data_json(words["charts"])),
    )  # fmt: skip


def write_page(run: dict[str, Any], path: str | Path, force: bool = False) -> Path:
    """Write the page; a file that is there already is replaced only with ``force``."""
    from descend.files import write_atomically

    write_atomically(path, render_page(run), force=force)
    return Path(path)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("descend.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(name=_name, prose=_prose, batch_size=formatting.batch_size)
    environment.filters.update(number=formatting.number, count=formatting.count)
    return environment


def _name(text: object, width: int = 60) -> Markup:
    """A name from the data, cut to ``width``; the whole of it on pointing at it."""
    return _cut(str(text), shorten(str(text), width))


def _prose(text: object, width: int = 600) -> Markup:
    return _cut(str(text), formatting.prose(text, width))


def _cut(whole: str, shown: str) -> Markup:
    from markupsafe import Markup, escape

    if not shown.endswith("…") or len(shown) >= len(whole):
        return escape(shown)
    return Markup('<span class="cut" title="{}">{}</span>').format(shorten(whole, _LONGEST_TITLE), shown)
