"""What all figures share: plain dicts of plotly.js, colours named as variables of the style sheet.

plotly.js reads a little HTML in text: names from the data pass through ``plain`` first.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from descend.errors import shorten

Figure: TypeAlias = dict[str, Any]


def plain(text: str, width: int = 40) -> str:
    """A name from the data, cut, that plotly.js shows literally.

    >>> plain("<b>income</b>")
    '&lt;b&gt;income&lt;/b&gt;'
    """
    return shorten(text, width).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def colour(variable: str) -> str:
    """The reference to a variable of the style sheet."""
    return f"var({variable})"


def layout(**more: Any) -> Figure:
    """What every figure shares: no background, no legend (the page has its own), nothing to drag."""
    shared: Figure = {
        "autosize": True,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 48, "r": 14, "t": 14, "b": 44},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": colour("--soft")},
        "hoverlabel": {
            "bgcolor": colour("--paper"),
            "bordercolor": colour("--rule"),
            "font": {"color": colour("--ink"), "size": 12},
            "namelength": -1,
        },
        "showlegend": False,
        "dragmode": False,
    }
    return shared | more


def axis(title: str = "", **more: Any) -> Figure:
    """One axis, quiet, that does not zoom: a page is scrolled with the same gesture."""
    shared: Figure = {
        "title": {"text": title, "standoff": 10},
        "gridcolor": colour("--grid"),
        "linecolor": colour("--rule"),
        "tickcolor": colour("--rule"),
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
    }
    return shared | more
