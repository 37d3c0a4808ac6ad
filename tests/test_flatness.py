"""When a network's phase has gained nothing for long enough."""

import pytest

from descend.watching.flatness import Flatness
from descend.watching.limits import Limits


def epochs_waited(limits, first_epoch=1, epochs_of=lambda updates: 1):
    """Epochs from the last gain on until nothing more is expected."""
    flatness = Flatness()
    for epoch in range(first_epoch, first_epoch + 1000):
        if flatness.is_reached(1.0, 1.0, 10.0, epoch, epochs_of, limits):
            return epoch - first_epoch
    return None


@pytest.mark.parametrize(("patience", "plain", "held_out"), [(1, 1, 2), (5, 5, 8), (10, 10, 16)])
def test_rows_held_out_are_believed_for_longer(patience, plain, held_out):
    """Without rows held out a phase ends after as many epochs as asked for, with them after 1.6 times as many."""
    assert epochs_waited(Limits(epochs=1000, patience=patience)) == plain
    assert epochs_waited(Limits(epochs=1000, patience=patience, early_stopping=True)) == held_out


def test_patience_with_rows_held_out_grows_with_the_run():
    """Late in a run patience is a twenty-fifth of its epochs (24 of 624), and only with rows held out."""
    assert epochs_waited(Limits(epochs=9999, early_stopping=True), first_epoch=600) == 24
    assert epochs_waited(Limits(epochs=9999), first_epoch=600) == 5


def test_a_gain_is_judged_over_enough_updates():
    """Where an epoch has few updates, patience is the epochs that fifty take, with rows held out, too."""
    for early_stopping in (False, True):
        limits = Limits(epochs=1000, early_stopping=early_stopping)
        assert epochs_waited(limits, epochs_of=lambda updates: updates) == 50
