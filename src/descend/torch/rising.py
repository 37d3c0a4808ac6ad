"""Whether a loss at a rate of the caller's rose so far that the rate must be too high."""

from __future__ import annotations

from descend.history import History
from descend.watching import BLOW_UP

FEWEST_ROWS = 32
"""The mean over fewer is no measure of the loss at the start: single rows' losses may differ by any factor."""


def told_of_rise(history: History, first: float | None, batch_size: int, num_rows: int) -> str | None:
    """What to note of a loss that ended ``BLOW_UP`` times as high as it began.

    ``first``: of the first batch, before its step. Of small batches whole epochs are compared.
    """
    pairs = zip(history["epoch"], history["loss"], strict=True)
    losses = [loss for epoch, loss in pairs if epoch is not None and epoch == int(epoch) and loss is not None]
    if batch_size >= min(FEWEST_ROWS, num_rows):
        losses = [loss for loss in (first, *losses, history.last["loss"]) if loss is not None]
    if not losses or not losses[-1] > BLOW_UP * losses[0] > 0.0:
        return None
    return (
        f"the loss rose from {losses[0]:.3g} to {losses[-1]:.3g}: the learning rate is too high; take a lower one, "
        'or learning_rate="auto"'
    )
