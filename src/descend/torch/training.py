"""The loop over the caller's module.

    for epoch in range(num_epochs):
        for X, y in batches:
            output = module(X)
            value = loss(output, y)
            value.backward()
            optimizer.step()

``steps.py`` has the four inner lines, ``batches.py`` shuffles and splits, the watch looks.
"""

from __future__ import annotations

from descend.torch.batches import Batches
from descend.torch.scheduling import Schedule
from descend.torch.steps import DATA, SCHEDULE, Step
from descend.torch.watching import Watch


def train(step: Step, batches: Batches, schedule: Schedule, watch: Watch) -> None:
    """Walks the epochs until the watch has seen enough; goes on inside an epoch where a run was resumed."""
    place = watch.place
    while place.epoch <= watch.epochs and not watch.stopped:
        for batch in batches:
            value = step(batch)
            if schedule.by_step:
                place.doing = SCHEDULE
                schedule.after_step(place.step + 1)
                place.doing = DATA
            if watch.note(value):
                return
        watch.end_epoch()
        place.doing = SCHEDULE
        schedule.after_epoch(watch.score)
        place.doing = DATA
        watch.save_if_due()
