"""Saved runs in, a page or text out. Imports no engine, so a run opens wherever descend is installed."""

from descend.report.figures import figures
from descend.report.page import render_page, write_page
from descend.report.terminal import (
    comparison_table,
    comparison_text,
    fit_table,
    fit_text,
    plan_table,
    plan_text,
)

__all__ = [
    "comparison_table",
    "comparison_text",
    "figures",
    "fit_table",
    "fit_text",
    "plan_table",
    "plan_text",
    "render_page",
    "write_page",
]
