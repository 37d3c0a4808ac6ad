"""A trainer whose laws are known: t(B) = a + b·B, and steps to a target by batch size and rate."""

from collections.abc import Callable
from math import exp, inf, log

from descend.batch_size.trainer import Look


class LawTrainer:
    """Loss falls from 1 as exp(−k / τ); twice the best rate diverges, half of it takes 1.25 times the steps."""

    def __init__(
        self,
        num_rows: int = 100_000,
        step: float = 1e-5,
        row: float = 1e-6,
        fewest: float = 200.0,
        critical: float = 300.0,
        best_rate: float = 1.0,
        first_rate: float = 0.2,
        floor: float = 0.0,
    ) -> None:
        self.num_rows, self.step, self.row = num_rows, step, row
        self.fewest, self.critical, self.floor = fewest, critical, floor
        self.best_rate, self.start_rate = best_rate, first_rate
        self.runs = 0
        self.target = 0.01

    def possible(self, batch_size: int) -> bool:
        return True

    def time_steps(self, batch_size: int, count: int) -> float:
        return count * (self.step + self.row * batch_size)

    def first_rate(self, batch_size: int) -> float:
        return self.start_rate

    def best_rate_at(self, batch_size: int) -> float:
        return self.best_rate / (1.0 + self.critical / batch_size)

    def steps(self, batch_size: int, rate: float) -> float:
        """Steps to the target; infinite from twice the best rate on."""
        share = rate / self.best_rate_at(batch_size)
        if share >= 2.0:
            return inf
        return self.fewest * (1.0 + self.critical / batch_size) * 0.5 * (share + 1.0 / share)

    def seconds(self, batch_size: int) -> float:
        """The least to the target at this size."""
        return self.steps(batch_size, self.best_rate_at(batch_size)) * self.time_steps(batch_size, 1)

    def train(self, batch_size: int, rate: float, seed: int, look: Callable[[Look], bool]) -> None:
        self.runs += 1
        steps = self.steps(batch_size, rate)
        count = 0
        while count < 10**8:
            if steps == inf:
                loss = min(1e300, exp(min(count * 0.1, 600.0)))
            else:
                loss = self.floor + (1.0 - self.floor) * exp(-count / steps * log(1.0 / self.target))
            if look(Look(count * self.time_steps(batch_size, 1), count * batch_size, count, loss)):
                return
            count = max(count + 1, int(count * 1.05))
