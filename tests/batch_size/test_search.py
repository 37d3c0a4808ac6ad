"""The search finds the size that its laws make the fastest, and ends whatever happens."""

import time

import pytest
from trainers import LawTrainer

from descend.batch_size.branches import Branch
from descend.batch_size.explain import bound_by, explain
from descend.batch_size.findings import Findings, seconds_of
from descend.batch_size.search import search
from descend.batch_size.timing import StepTimes, grid
from descend.batch_size.trainer import Look


def fastest(trainer):
    """The size of the grid with the least time to the target, and that time."""
    times = {size: trainer.seconds(size) for size in grid(trainer.num_rows)}
    size = min(times, key=times.get)
    return size, times[size]


@pytest.mark.parametrize("critical", [3.0, 60.0, 1000.0, 30_000.0])
@pytest.mark.parametrize("knee", [1.0, 10.0, 500.0])
@pytest.mark.parametrize("first_rate", [0.003, 0.2, 3.0])
def test_the_fastest_size_is_found(critical, knee, first_rate):
    """Whatever knee, critical size and first guess of the rate: the plan takes at most 15 % longer than the best."""
    trainer = LawTrainer(step=knee * 1e-6, critical=critical, first_rate=first_rate)
    found = search(trainer, trainer.target, budget=200.0)
    best = found.best
    assert best is not None
    _, least = fastest(trainer)
    assert trainer.seconds(best.batch_size) <= 1.15 * least
    assert best.rate / trainer.best_rate_at(best.batch_size) == pytest.approx(1.0, abs=0.55)
    assert found.equivalent is not None
    assert found.equivalent[0] <= best.batch_size <= found.equivalent[1]


@pytest.mark.parametrize(
    ("doubt", "updates", "size"),
    [(0.02, (1000, 1000), 512), (0.7, (1000, 1000), 32), (0.02, (850, 1150), 32), (9.0, (500, 1500), 32)],
)
def test_of_sizes_that_cannot_be_told_apart_the_smallest_is_taken(doubt, updates, size):
    """32 rows took 15 % longer than 512: by chance, where a step's times lie apart, or the seeds' updates do."""
    times = StepTimes({32: 1e-5, 512: 1e-4}, {32: (1e-5, (1.0 + doubt) * 1e-5), 512: (1e-4, 1e-4)})
    runs = tuple((1e-5 * more, more) for more in updates)
    found = Findings(LawTrainer(num_rows=512), 0.1, times=times)
    found.branches = [
        Branch(32, 1.0, "reached", 0.0, 0, 1000, 0.1, 0.1, 1.15, runs),
        Branch(512, 1.0, "reached", 0.0, 0, 100, 0.1, 0.1, 1.0, ((1.0, 100), (1.0, 100))),
    ]
    assert found.best is not None
    assert found.best.batch_size == size
    found.branches[0] = Branch(32, 1.0, "reached", 0.0, 0, 1000, 0.1, 0.1, 1.4, runs)
    assert found.best.batch_size == 512


def test_the_interval_of_the_critical_size_holds_the_true_one():
    """The law that is fitted to the branches has the true B_crit within a factor of two."""
    trainer = LawTrainer(critical=500.0)
    law = search(trainer, trainer.target, budget=20.0).steps
    assert law is not None
    assert 250.0 <= law.critical <= 1000.0
    assert law.interval is not None
    assert law.interval[0] <= law.critical <= law.interval[1]


def test_twice_the_same_answer():
    """Where nothing is noisy, the same is measured and answered twice."""
    one, other = (search(LawTrainer(), 0.01, budget=20.0) for _ in range(2))
    assert one.best == other.best
    assert one.equivalent == other.equivalent


def test_every_row_at_once_where_steps_cost_more_than_rows():
    """A step whose own cost is that of a million rows: the full batch is fastest, and the rows are the bound."""
    trainer = LawTrainer(num_rows=5000, step=1e-3, row=1e-9, critical=100_000.0)
    found = search(trainer, trainer.target, budget=20.0)
    assert found.best is not None
    assert found.best.batch_size == 5000
    assert bound_by(found) == "data"
    assert "Every row at once" in explain(found, "sgd")[1]


def test_a_ceiling_is_never_passed():
    """With memory for 64 rows nothing larger is timed or trained, and memory is the bound."""
    trainer = LawTrainer(step=1e-3, critical=10_000.0)
    found = search(trainer, trainer.target, budget=20.0, ceiling=64)
    assert max([*found.times.sizes, *(branch.batch_size for branch in found.branches)]) == 64
    assert bound_by(found) == "memory"


def test_a_size_that_hardly_matters_is_said_to():
    """Steps as many at every size, and as long up to 10⁵ rows: four times more or fewer rows are the same."""
    trainer = LawTrainer(num_rows=10**7, step=1e-3, row=1e-8, critical=1.0)
    found = search(trainer, trainer.target, budget=20.0)
    assert not found.matters
    assert bound_by(found) == "nothing"
    assert "hardly matters" in explain(found, "sgd")[2]


def test_a_target_below_the_floor_cannot_be_told():
    """A loss that stays above the target at every rate: no plan is made up, and the lowest loss is said."""
    trainer = LawTrainer(floor=0.05)
    found = search(trainer, trainer.target, budget=2.0)
    assert found.best is None
    assert found.steps is None
    assert found.equivalent is None
    assert seconds_of(found) is None
    words = explain(found, "sgd")
    assert words[0].startswith("It cannot be told in this budget: no run reached the target, a loss of 0.01")
    assert "0.05" in words[0]


def test_a_loss_that_diverges_at_every_rate_ends_the_search():
    """At most eight rates are tried at each of four sizes, each four times lower, and that is all."""

    class Diverging(LawTrainer):
        def steps(self, batch_size, rate):
            return float("inf")

    trainer = Diverging()
    found = search(trainer, trainer.target, budget=20.0)
    assert found.best is None
    assert {branch.outcome for branch in found.branches} == {"diverged"}
    assert trainer.runs <= 32


def test_the_budget_ends_it_while_a_run_goes_on():
    """A run whose every look takes 20 ms is cut at the budget, not at its own end."""

    class Slow(LawTrainer):
        def train(self, batch_size, rate, seed, look):
            def slowly(seen):
                time.sleep(0.02)
                return look(seen)

            super().train(batch_size, rate, seed, slowly)

    began = time.perf_counter()
    found = search(Slow(), 0.01, budget=0.5)
    assert time.perf_counter() - began < 1.5
    assert found.seconds < 1.5


def test_one_batch_that_takes_longer_than_the_budget():
    """Where a single step takes the whole budget, one is timed and nothing is trained."""

    class Heavy(LawTrainer):
        def time_steps(self, batch_size, count):
            time.sleep(0.3)
            return super().time_steps(batch_size, count)

    trainer = Heavy()
    began = time.perf_counter()
    found = search(trainer, trainer.target, budget=0.2)
    assert time.perf_counter() - began < 1.5
    assert found.best is None
    assert found.times.sizes == [1]


def test_an_error_of_the_data_is_the_callers():
    """What a data set raises comes out as it is: nothing swallows it, nothing hangs."""

    class Raising(LawTrainer):
        def train(self, batch_size, rate, seed, look):
            raise OSError("item 777 cannot be read")

    with pytest.raises(OSError, match="item 777"):
        search(Raising(), 0.01, budget=1.0)


def test_luck_with_one_seed_is_no_plan():
    """The fastest branch misses the target with other seeds: the next best is taken, and the luck is recorded."""

    class Lucky(LawTrainer):
        def train(self, batch_size, rate, seed, look):
            share = rate / self.best_rate_at(batch_size)
            if share > 0.7 and seed:
                rate = 3.0 * self.best_rate_at(batch_size)
            super().train(batch_size, rate, seed, look)

    trainer = Lucky(row=1e-5)  # long runs: one seed each, and repeats at the end
    found = search(trainer, trainer.target, budget=20.0)
    assert found.best is not None
    assert found.best.rate <= 0.7 * trainer.best_rate_at(found.best.batch_size)
    assert any(branch.outcome == "unreliable" for branch in found.branches)


def test_a_rate_that_is_lost_again_behind_the_target_is_no_plan():
    """A row that comes once an epoch undoes what high rates gained: they reached the target, and are not the plan."""

    class Heavy(LawTrainer):
        def train(self, batch_size, rate, seed, look):
            high = rate > 0.6 * self.best_rate_at(batch_size)

            def struck(seen):
                lost = high and seen.rows > 1.5 * self.num_rows
                return look(Look(seen.seconds, seen.rows, seen.updates, 1e6) if lost else seen)

            super().train(batch_size, rate, seed, struck)

    trainer = Heavy(row=1e-5)
    found = search(trainer, trainer.target, budget=20.0)
    assert found.best is not None
    assert found.best.rate <= 0.6 * trainer.best_rate_at(found.best.batch_size)
    assert any(branch.outcome == "unreliable" for branch in found.branches)


@pytest.mark.parametrize("row", [1e-6, 2.5e-7])
def test_where_the_search_begins_does_not_decide(row):
    """Of two sizes as good, with a worse one between them, the better is found from the side of the other, too."""

    class Bumpy(LawTrainer):
        def steps(self, batch_size, rate):
            return super().steps(batch_size, rate) * {16: 0.92, 32: 1.15, 64: 0.65}.get(batch_size, 1.2)

    trainer = Bumpy(step=8e-6, row=row, critical=60.0)
    found = search(trainer, trainer.target, budget=200.0)
    assert found.best is not None
    assert found.best.batch_size == 64


def test_a_step_is_the_median_seconds_over_the_median_updates():
    """Each run's own step would be another: what looks take is the same for runs of few steps and of many."""
    runs = ((400e-6, 80), (440e-6, 110), (520e-6, 170))
    best = Branch(64, 0.1, "reached", 440e-6, 64 * 110, 110, 0.1, 0.1, 110e-6, runs)
    again = Branch(64, 0.1, "reached", 600e-6, 64 * 200, 200, 0.1, 0.1, 200e-6, ((600e-6, 200),))
    missed = Branch(64, 0.1, "diverged", 9.0, 64, 1, 9.0, 9.0, 1e-6, ((9.0, 1),))
    found = Findings(LawTrainer(), 0.1, times=StepTimes({64: 1e-6}), branches=[best], repeats=[again, missed])
    assert found.longer * found.times.at(64) == pytest.approx(480e-6 / 140)
    assert seconds_of(found) == pytest.approx((480e-6, 400e-6, 600e-6))
