"""Batches: an epoch's order is a permutation, a pure function of (seed, epoch), and as good as a shuffle."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from descend.batches import (
    STRETCH,
    STRIP,
    VERY_LARGE,
    WINDOW,
    Visits,
    check_batch_size,
    kind_of,
    order,
    shuffle,
)
from descend.errors import InputError

SEEDS = st.integers(0, 2**32)
GOLDEN = [5, 4, 2, 8, 9, 3, 0, 7, 1, 6]


@given(num_visits=st.integers(0, 10_000), seed=SEEDS, epoch=st.integers(1, 10_000))
@example(num_visits=0, seed=0, epoch=1)
@example(num_visits=1, seed=0, epoch=1)
@example(num_visits=STRIP, seed=0, epoch=1)
@example(num_visits=STRIP + 1, seed=0, epoch=1)
@example(num_visits=WINDOW, seed=0, epoch=1)
@example(num_visits=WINDOW + 1, seed=0, epoch=1)
def test_every_row_comes_once(num_visits, seed, epoch):
    """The order of any number of visits is a permutation."""
    places = order(seed, epoch, num_visits)
    assert places.dtype == np.int32
    np.testing.assert_array_equal(np.sort(places), np.arange(num_visits))


@given(SEEDS, st.integers(1, 1000), st.integers(0, 3000), st.integers(0, 3000))
def test_the_order_is_a_pure_function(seed, epoch, num_visits, other):
    """The order is the same whatever was asked for in between, and does not touch NumPy's own generator."""
    before = np.random.get_state()[1].tolist()
    first = order(seed, epoch, num_visits)
    order(seed + 1, epoch + 1, other)
    np.testing.assert_array_equal(order(seed, epoch, num_visits), first)
    assert np.random.get_state()[1].tolist() == before


def test_golden_order():
    """Seed 0, epoch 1 orders ten rows as it always has: a saved seed keeps its meaning."""
    assert order(0, 1, 10).tolist() == GOLDEN
    assert order(7, 3, 12).tolist() == [0, 7, 8, 3, 5, 4, 9, 1, 11, 2, 6, 10]
    assert order(0, 1, 70)[:8].tolist() == [19, 34, 49, 46, 14, 38, 42, 61]


def test_another_process_gives_the_same_order():
    """The order hangs on nothing of the process, such as its hash seed."""
    code = "from descend.batches import order; print(order(0, 1, 10).tolist())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None)
    assert run.stdout.strip() == str(GOLDEN)


@given(SEEDS, st.integers(1, 1000))
def test_epochs_and_seeds_differ(seed, epoch):
    """Two epochs of a seed, and two seeds of an epoch, have different orders that share few places."""
    one = order(seed, epoch, 1000)
    for another in (order(seed, epoch + 1, 1000), order(seed + 1, epoch, 1000)):
        assert np.mean(one == another) < 0.02


def test_small_orders_are_uniform():
    """Within one window every row is equally likely at every place (chi-square within five deviations)."""
    n, trials = 8, 4000
    counts = np.zeros((n, n))
    for seed in range(trials):
        counts[np.arange(n), order(seed, 1, n)] += 1
    expected = trials / n
    chi_square = np.sum((counts - expected) ** 2 / expected)
    freedom = (n - 1) ** 2
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_a_row_may_land_anywhere():
    """Over seeds the first and last row land in every window, also where there are several and a ragged end."""
    n = 3 * WINDOW + WINDOW // 2 + 5
    windows = {0: set(), n - 1: set(), n // 2: set()}
    for seed in range(100):
        places = order(seed, 1, n)
        for row, seen in windows.items():
            seen.add(int(np.flatnonzero(places == row)[0]) // WINDOW)
    assert all(seen == {0, 1, 2, 3} for seen in windows.values())


def test_each_window_mixes_rows_from_everywhere():
    """The first and last window of an epoch hold rows from all eighths of the data, and about evenly."""
    n = 16 * WINDOW
    shares = np.zeros((2, 8))
    for epoch in range(1, 41):
        places = order(3, epoch, n)
        for i, window in enumerate((places[:WINDOW], places[-WINDOW:])):
            shares[i] += np.bincount(8 * window // n, minlength=8) / WINDOW / 40
    assert abs(shares - 1 / 8).max() < 0.04


def test_neighbours_are_torn_apart():
    """Rows that lie side by side seldom follow each other in an epoch's order."""
    places = order(0, 1, 10 * WINDOW)
    assert np.mean(np.abs(np.diff(places)) == 1) < 0.01


def test_a_batch_is_spread_over_its_window():
    """Batches of 32 rows draw from many strips, not from one."""
    places = order(0, 1, 10 * WINDOW)[: 32 * 100].reshape(100, 32)
    strips = [len(set((batch // STRIP).tolist())) for batch in places]
    assert min(strips) >= 14


@pytest.mark.parametrize("num_visits", [VERY_LARGE, VERY_LARGE + 5, VERY_LARGE + STRETCH + 1029])
def test_stretches_of_very_many_rows_come_one_after_the_other(num_visits):
    """From a million rows on an order is a permutation of stretches that lie in few pieces, anew in each epoch."""
    begun = []
    for epoch in (1, 2):
        places = order(3, epoch, num_visits)
        assert (np.bincount(places, minlength=num_visits) == 1).all()
        whole = places[: num_visits // STRETCH * STRETCH].reshape(-1, STRETCH)
        turned = np.sort(whole, axis=1)
        pieces = (np.diff(turned, axis=1) != 1).sum(axis=1) + 1
        assert pieces.max() <= 6
        assert np.median(pieces) <= 2
        begun.append(turned[:, STRETCH // 2])
        assert (np.abs(np.diff(whole, axis=1)) == 1).mean() < 0.9  # inside they are mixed
    assert np.corrcoef(*begun)[0, 1] < 0.5


def test_shuffle_without_visits_is_the_order():
    """Where every row is visited once, row numbers are places."""
    np.testing.assert_array_equal(shuffle(Visits(50), 4, 2), order(4, 2, 50))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=300), SEEDS)
def test_heavy_rows_come_as_often_as_the_visits_say(copies, seed):
    """A row that the visits hold m times comes m times an epoch, every epoch."""
    rows = np.repeat(np.arange(len(copies)), copies)
    visits = Visits(len(copies), rows, 1 / np.array(copies))
    for epoch in (1, 2):
        shuffled = shuffle(visits, seed, epoch)
        assert np.bincount(shuffled, minlength=len(copies)).tolist() == copies
        np.testing.assert_array_equal(shuffled, rows[order(seed, epoch, len(rows))])


def test_unshuffled_epochs_are_in_the_rows_own_order():
    """With shuffling off every epoch takes the rows as they lie, repeats where the visits have them."""
    assert shuffle(Visits(5), 9, 3, in_order=True).tolist() == [0, 1, 2, 3, 4]
    rows = np.array([0, 1, 1, 2])
    assert shuffle(Visits(3, rows), 9, 3, in_order=True).tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(
    ("given_size", "understood"),
    [
        (1, 1),
        (32, 32),
        ("32", 32),
        (" 32 ", 32),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (100, 100),
        ("full", "full"),
        ("FULL", "full"),
        ("auto", "auto"),
        (" Auto ", "auto"),
    ],
)
def test_batch_sizes_that_are_understood(given_size, understood):
    """Whole numbers, their texts, "full" and "auto" in any case come out as int or word."""
    size = check_batch_size(given_size, 100)
    assert size == understood
    assert type(size) is type(understood)


@pytest.mark.parametrize(
    "refused",
    [0, -4, "0", "-4", "many", "", "1.5", "1e3", 1.0, 32.5, True, False, None, [32], np.float64(2.0),
     float("nan"), "full ish", b"32"],
)  # fmt: skip
def test_batch_sizes_that_are_refused(refused):
    """Anything else is refused, naming the value and what is accepted."""
    with pytest.raises(InputError, match="batch size") as caught:
        check_batch_size(refused, 100)
    assert '"full" or "auto"' in str(caught.value)
    assert str(refused) in str(caught.value)


@pytest.mark.parametrize("size", [101, 10**12, "1000000000000"])
def test_batch_sizes_above_the_rows_are_every_row(size):
    """A batch that is to hold more than the rows holds them all, once their number is known."""
    assert check_batch_size(size, 100) == 100
    assert check_batch_size(size) == int(size)


def test_a_refused_text_cannot_write_to_the_terminal():
    """Escapes in a batch size are shown and not sent."""
    with pytest.raises(InputError, match=r"\\x1b") as caught:
        check_batch_size("\x1b[2J" + "x" * 500)
    assert len(str(caught.value)) < 200


def test_kinds():
    """One row is stochastic, all rows batch, what lies between mini-batch; of one row alone, batch."""
    assert [kind_of(b, 100) for b in (1, 2, 99, 100, 200)] == [
        "stochastic",
        "mini-batch",
        "mini-batch",
        "batch",
        "batch",
    ]
    assert kind_of(1, 1) == "batch"
