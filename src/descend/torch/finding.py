"""What ``fit`` puts ``learning_rate="auto"`` together of."""

from __future__ import annotations

from typing import Any

from descend.torch.assembling import elsewhere, may_be_several
from descend.torch.batches import Batches
from descend.torch.devices import in_precision, spread
from descend.torch.rates import Rates
from descend.torch.sample import Sample, places, renew_statistics
from descend.torch.scheduling import Schedule
from descend.torch.steps import Pieces, unique
from descend.torch.tuning import Length, Tuner
from descend.torch.watching import Watch


def make_tuner(
    rates: Rates,
    schedule: Schedule,
    module: Any,
    pieces: Pieces,
    dtype: Any,
    batches: Batches,
    trained: Any,
    at_once: int,
    watch: Watch,
    length: Length,
) -> Tuner:
    """Who finds the rate of a run over the rows ``trained`` (None: all) of ``batches``.

    ``at_once``: rows that are looked at together. The module is looked at as it is, not compiled: its batches have
    other sizes then.
    """
    rows, device = batches.source, elsewhere(pieces.device)
    plain = in_precision(spread(module) if may_be_several(rows) else module, pieces.device, dtype)
    few = places(rows, trained, batches.seed)
    looked_at = Batches(rows, None, at_once, batches.seed, shuffle=False, device=device, rows=few)
    looked_at.keeps_rows = True  # a module may write into them
    again = Batches(rows, None, batches.batch_size, batches.seed, device=device, rows=trained)
    again.keeps_rows = True

    def renew() -> None:
        again.set_epoch(0)  # an order that no epoch of the run has
        renew_statistics(module, plain, again)

    parameters = unique(p for group in pieces.optimizer.param_groups for p in group["params"])
    sample = Sample(module, plain, pieces.criterion, parameters, looked_at)
    return Tuner(watch, rates, sample, schedule, pieces.scaler, length, renew)
