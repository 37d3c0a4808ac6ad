"""Step times: what is measured, told between sizes, and said of them."""

import time

import pytest
from trainers import LawTrainer

from descend.batch_size.prior import prior_size
from descend.batch_size.steps_law import fit_steps
from descend.batch_size.timing import StepTimes, grid, measure_times


def test_medians_outlive_a_busy_moment():
    """One round in which everything takes a hundred times as long does not move the times."""

    class Busy(LawTrainer):
        calls = 0

        def time_steps(self, batch_size, count):
            self.calls += 1
            slow = 100.0 if 30 < self.calls <= 47 else 1.0
            return slow * super().time_steps(batch_size, count)

    trainer = Busy()
    times = measure_times(trainer, grid(1000), budget=5.0)
    for size, seconds in times.seconds.items():
        assert seconds == pytest.approx(trainer.step + trainer.row * size)
    assert max(high / low for low, high in times.spread.values()) > 50.0


@pytest.mark.parametrize(
    ("step", "limit", "rounds"), [(1e-4, {}, 15), (0.2, {}, 5), (1e-4, {"most_rounds": 7}, 7)]
)
def test_quick_steps_are_timed_more_often(step, limit, rounds):
    """Up to 15 rounds, or a limit, as long as they take little of the time; long steps are timed five times."""
    times = []

    class Slow(LawTrainer):
        def time_steps(self, batch_size, count):
            time.sleep(step * count)
            return super().time_steps(batch_size, count)

    measure_times(Slow(), [1], budget=4.0, on_round=times.append, **limit)
    assert len(times) == rounds


def test_the_knee_is_where_a_step_costs_as_much_as_its_rows():
    """The ratio a / b, within the little that the largest measured size still has of the step's own cost."""
    times = measure_times(LawTrainer(step=1e-4, row=1e-6), grid(100_000), budget=5.0)
    assert times.knee == pytest.approx(100.0, rel=0.01)
    assert times.affine() == pytest.approx((1e-4, 1e-6), rel=1e-6)


def test_a_cliff_is_named_and_spoils_the_line():
    """A row that costs twice as much from 1024 rows on: that size is named, and no affine law is claimed."""
    seconds = {size: (1e-5 + 1e-6 * size) * (2.0 if size >= 1024 else 1.0) for size in grid(10_000)}
    times = StepTimes(seconds)
    assert times.cliffs == [1024]
    assert times.affine() is None


def test_sizes_between_are_told():
    """Between two sizes on a log-log line, beyond the last in proportion to the rows."""
    times = StepTimes({1: 1.0, 4: 4.0, 16: 8.0})
    assert times.at(2) == pytest.approx(2.0)
    assert times.at(8) == pytest.approx(32**0.5)
    assert times.at(64) == pytest.approx(32.0)


@pytest.mark.parametrize(("rows", "ceiling", "expected"), [(20, None, 20), (10**6, None, 32), (10**6, 8, 8)])
def test_the_prior_is_within_the_rows_and_the_ceiling(rows, ceiling, expected):
    """A knee of 5 suggests 32 rows, where there are as many and memory has room for them."""
    assert prior_size(StepTimes({1: 6e-6, 64: 69e-6}), rows, ceiling) == expected


def test_steps_that_do_not_fall_have_a_small_critical_size():
    """As many steps at every size: B_crit lies far below the smallest that was measured."""
    law = fit_steps({32: 1000.0, 256: 1000.0, 2048: 1010.0})
    assert law.critical <= 4.0
    assert law.at(10_000) == pytest.approx(1010.0, rel=0.01)


def test_steps_in_proportion_have_a_large_one():
    """Steps that fall with the size throughout: B_crit lies above the largest that was measured."""
    law = fit_steps({1: 1000.0, 10: 100.0, 100: 10.0})
    assert law.critical >= 800.0
    assert law.at(1) == 1000.0


def test_between_measured_sizes_measurements_count():
    """The law is off where data do not follow it; what was measured is told as it was."""
    measured = {4: 5000.0, 32: 300.0, 256: 200.0}
    law = fit_steps(measured)
    assert all(law.at(size) == steps for size, steps in measured.items())
    assert 200.0 < law.at(90) < 300.0
