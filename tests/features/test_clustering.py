"""Whether the target changes along a file: the share of its variance between blocks, against chance."""

import numpy as np
import pytest

from descend.features.clustering import Clustering
from descend.features.target_statistics import TargetStatistics

NUM_BLOCKS, ROWS = 40, 250


def measured(y, weights=None, task=None):
    """The clustering of ``y`` in blocks of ``ROWS``."""
    stats, clustering = TargetStatistics("y", task), Clustering()
    for start in range(0, len(y), ROWS):
        rows = slice(start, start + ROWS)
        stats.update(y[rows], None if weights is None else weights[rows])
        clustering.add(stats)
    return clustering


def between(values, weights):
    """The share of the variance of (n, k) numbers that lies between blocks, as a textbook has it."""
    blocks = np.arange(len(values)) // ROWS
    mean = np.average(values, axis=0, weights=weights)
    total = (weights[:, None] * (values - mean) ** 2).sum()
    part = 0.0
    for block in np.unique(blocks):
        here = blocks == block
        part += (
            weights[here].sum()
            * ((np.average(values[here], axis=0, weights=weights[here]) - mean) ** 2).sum()
        )
    return part / total


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_share_of_classes_is_that_of_their_indicators(num_classes, weighted):
    """With classes the share is the variance of their indicators between blocks over that of all rows, by weight."""
    rng = np.random.default_rng(0)
    drift = np.arange(NUM_BLOCKS * ROWS) / (NUM_BLOCKS * ROWS)
    y = (rng.random(len(drift)) * drift * num_classes).astype(int)
    weights = rng.uniform(0.1, 3.0, len(y)) if weighted else np.ones(len(y))
    found = measured(y, weights if weighted else None).share("classification")
    assert found == pytest.approx(between(np.eye(num_classes)[y], weights), rel=1e-9)
    assert found > 0.02


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_share_of_numbers_is_that_of_their_means(outputs, weighted):
    """With numbers the share is the variance between the blocks' means, also far from zero and of several outputs."""
    rng = np.random.default_rng(1)
    y = 1e6 + rng.normal(size=(NUM_BLOCKS * ROWS, outputs)).cumsum(axis=0)
    weights = rng.uniform(0.1, 3.0, len(y)) if weighted else np.ones(len(y))
    target = y[:, 0] if outputs == 1 else y
    found = measured(target, weights if weighted else None, "regression").share("regression")
    assert found == pytest.approx(between(y, weights), rel=1e-6)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_random_order_is_not_plain_and_sorted_order_is(task):
    """Of 50 random orders none is called clustered, and their mean share is what chance says; sorted, all is."""
    rng = np.random.default_rng(2)
    y = (
        rng.integers(3, size=NUM_BLOCKS * ROWS)
        if task == "classification"
        else rng.normal(size=NUM_BLOCKS * ROWS)
    )
    orders = [measured(rng.permutation(y), task=task) for _ in range(50)]
    assert not any(order.is_plain(task) for order in orders)
    shares = [order.share(task) for order in orders]
    assert np.mean(shares) == pytest.approx(orders[0].by_chance, rel=0.15)
    in_order = measured(np.sort(y), task=task)
    assert in_order.is_plain(task)
    assert in_order.share(task) > 0.9


def test_a_slight_drift_of_many_rows_is_plain():
    """A class whose share rises from 35 to 65 % along the file is told from chance."""
    rng = np.random.default_rng(3)
    y = (rng.random(NUM_BLOCKS * ROWS) < np.linspace(0.35, 0.65, NUM_BLOCKS * ROWS)).astype(int)
    assert measured(y).is_plain("classification")


def test_one_block_says_nothing():
    """A file that is read at once has no parts to differ."""
    assert not measured(np.arange(ROWS) % 2).is_plain("classification")
