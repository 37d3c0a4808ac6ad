"""How it is measured, in words that take their numbers from the code."""

from __future__ import annotations

from benchmarks.competitors import Competitor, Jax
from benchmarks.measure import CHECK_EPOCHS, CHECK_ROWS, FEWEST_STEPS, TOLERANCE
from benchmarks.problem import EPOCHS

COMMANDS = """\
```text
python -m benchmarks.linear --data FOLDER       # all of this, and benchmarks/results/linear.json
python -m benchmarks.linear                     # the made-up rows alone
python -m benchmarks.linear --rows 20000x20 --batch-sizes 1 32 --repeats 2 --print-only
```"""


def how() -> str:
    """Markdown."""
    most, fewest = EPOCHS[0][1], EPOCHS[-1][1]
    return f"""\
{COMMANDS}

- An epoch is (the time of m epochs − the time of 1) / (m − 1): what happens once (checking input, copying) cancels.
  m is {most} where the rows are few, {fewest} where they are many, and 30 to 41 for descend's whole fit, in which
  more happens once.
- All run in one process, warmed up. Everybody at every batch size takes a turn, then everybody again, beginning
  elsewhere; medians are shown, the JSON has the range and the processor's time as well. Who has no batch size is
  timed once a round, and the figure stands at all sizes.
- Making the order of the rows is inside the clock for everyone, descend included. The full batch needs no order.
- An epoch of a loop that would take more than {Competitor.patience} s (JAX: {Jax.patience} s), and has more than
  {FEWEST_STEPS} steps, is cut to so many steps and scaled up. scikit-learn, descend and the bare read are never cut.
- Before the clock runs, everyone trains on the first rows, {CHECK_ROWS:,} at most, for {CHECK_EPOCHS} epochs, and the
  final losses must lie within {100 * TOLERANCE:g} % of what training gained: orders differ, so losses do a little.
  The same holds for the final losses of the timed runs where all rows ran. A competitor that skipped work would be
  found. Who trains something else (one class against the rest) is not compared.

The made-up rows have Gaussian columns, and classes drawn from a logistic model or numbers with noise; speed does not
depend on their values. Real tables: adult; kddcup99 (the 10 % training part), normal against attack; letter: columns
standardised, texts one-hot with rare values together. fashion_mnist: pixels from 0 to 1. a9a: its rows twenty times.
news20: TF-IDF, 20 classes. All rows lie in random order, as descend's own preparation leaves them."""
