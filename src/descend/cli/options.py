"""Options that several verbs share, each written once.

Numbers arrive as text: ``arguments`` and ``Settings.checked`` judge them for the command line as for Python,
and their messages say what is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from descend.cli.command import Function, option

Decorator = Callable[[Function], Function]


def together(*decorators: Callable[[Any], Any]) -> Callable[[Function], Function]:
    """Several options as one decorator, in this order in the help."""

    def decorate(function: Function) -> Function:
        for one in reversed(decorators):
            function = one(function)
        return function

    return decorate


data_argument = click.argument("data", metavar="DATA")
model_argument = click.argument("model", metavar="MODEL")
run_argument = click.argument("run", metavar="RUN")

target = option(
    "Data", "--target", metavar="COLUMN",
    help="Column to predict. May be left out where the format has one (sklearn:, .npz).",
)  # fmt: skip

selection = together(
    target,
    option("Data", "--task", metavar="TASK",
           help="classification or regression. Default: told from the target, and said aloud."),
    option("Data", "--drop", metavar="COLUMN,…", multiple=True, help="Columns to leave out."),
    option("Data", "--columns", metavar="COLUMN,…", multiple=True, help="Columns to keep. Default: all."),
    option("Data", "--weights", metavar="COLUMN", help="Column of row weights."),
    option("Data", "--validation", metavar="SHARE|FILE", default="0.1", show_default=True,
           help="Share of the rows to set aside, a file with such rows, or 0 for none."),
    option("Data", "--no-standardize", "standardize", flag_value=False, default=True, is_flag=True,
           help="Take the columns as they are. Default: mean 0, deviation 1."),
)  # fmt: skip

objective = together(
    option("Training", "--model", metavar="KIND", default="linear", help="linear, or mlp: a network."),
    option("Training", "--loss", metavar="LOSS",
           help="log_loss, hinge, squared_hinge, modified_huber; squared_error, huber, epsilon_insensitive, "
                "quantile, poisson. Default: log_loss or squared_error, as fits the task."),
    option("Training", "--epsilon", metavar="NUMBER", default="0.1", show_default=True,
           help="Of huber and epsilon_insensitive, in the target's units."),
    option("Training", "--quantile", metavar="NUMBER", default="0.5", show_default=True,
           help="Of the loss quantile, between 0 and 1."),
    option("Training", "--penalty", metavar="PENALTY", default="l2", show_default=True,
           help="l2, l1, elasticnet or none."),
    option("Training", "--l1-ratio", metavar="NUMBER", default="0.15", show_default=True,
           help="Of elasticnet: the share that is l1."),
    option("Training", "--alpha", metavar="NUMBER", default="1e-4", show_default=True,
           help="Strength of the penalty: mean loss + alpha · (½‖w‖², ‖w‖₁ or their mixture)."),
    option("Training", "--reduction", metavar="HOW", default="mean", show_default=True,
           help="Gradient of a batch: mean or sum over its rows."),
)  # fmt: skip

network = together(
    option("Training", "--hidden", metavar="N,…",
           help="With --model mlp: units of each hidden layer, such as 128,64. Default: 100."),
    option("Training", "--activation", metavar="NAME",
           help="With --model mlp: relu (default), tanh, logistic, gelu or identity."),
    option("Training", "--weight-decay", metavar="NUMBER",
           help="With --model mlp: weights shrink by this times the learning rate in every step. Default: 0."),
)  # fmt: skip


def stepping(optimizer_default: str) -> Decorator[Any]:
    """Optimizer and learning rate; ``fit`` and ``compare`` differ in the default optimizer."""
    return together(
        option("Training", "--optimizer", metavar="NAME", default=optimizer_default, show_default=True,
               help="auto, sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, saga, lbfgs or newton."),
        option("Training", "--learning-rate", metavar="RATE", default="auto", show_default=True,
               help="A number, or auto: from curvature, in closed form; networks: by a rule or a ladder."),
        option("Training", "--schedule", metavar="NAME", default="constant", show_default=True,
               help="Learning rate over time: constant, inverse-scaling, plateau; or, with --epochs, linear, cosine, "
                    "step."),
        option("Training", "--clip", metavar="LENGTH", help="Shorten gradients of a batch to this length."),
        option("Training", "--momentum", metavar="NUMBER", default="0.9", show_default=True,
               help="Of momentum and nesterov, from 0 to below 1."),
    )  # fmt: skip


limits = together(
    option(
        "Stopping", "--epochs", metavar="N", help="Passes over the rows. Default: until nothing is gained."
    ),
    option("Stopping", "--time", metavar="TIME", help="Training time of one run, such as 30s, 5m or 1.5h."),
)

memory_limit = option(
    "Other", "--memory-limit", metavar="BYTES", default="auto", show_default=True,
    help="Memory this process may come to hold, such as 2GB; auto: what its limits and what is free allow.",
)  # fmt: skip

running = together(
    option("Other", "--seed", metavar="N", default="0", show_default=True,
           help="Results repeat exactly for a seed, whatever the threads."),
    option("Other", "--threads", metavar="N", default="auto", show_default=True,
           help="Threads, or auto: one for each core this process may use."),
)  # fmt: skip

page = together(
    option(
        "Output", "--report", metavar="PAGE", help="Where the page (.html) goes. Default: in this folder."
    ),
    option("Output", "--no-report", "no_report", is_flag=True, help="Write no page."),
)

force = option("Output", "--force", is_flag=True, help="Replace files that exist.")

talking = together(
    option(
        "Output", "--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else there."
    ),
    option("Output", "-q", "--quiet", is_flag=True, help="No progress and no notes."),
    option("Output", "-v", "--verbose", is_flag=True, help="More: notes in full, warnings, tracebacks."),
)
