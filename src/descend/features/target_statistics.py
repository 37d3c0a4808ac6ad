"""What one pass finds out about the target, in one mergeable record."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.errors import ColumnError, shorten
from descend.features.levels import MAX_LEVELS, NUMBER, Levels
from descend.features.moments import Moments
from descend.features.row_numbers import RowNumbers
from descend.features.target_values import as_values, coded, counted, first_places
from descend.types import Task

MAX_NUMBERS = 10_000
"""Different numbers that are told apart; a target with more is a quantity."""

Label = str | int | float | bool


class TargetStatistics:
    """Weighted counts of the target's values, and moments of its numbers.

    >>> record = TargetStatistics("y")
    >>> record.update(np.array([1, 0, 1]))
    >>> record.counts, record.moments.mean
    ({0: 1.0, 1: 2.0}, array([0.66666667]))
    """

    def __init__(self, name: str, task: Task | None = None) -> None:
        self.name = name
        self.task = task
        """Where it is known: regression does not ask which numbers there are, nor classification for their mean."""
        self.kind: str | None = None
        self.num_rows = 0
        self.num_weighed = 0
        """Rows whose weights are counted: of rows that are held out nothing but their labels is known."""
        self.num_outputs = 1
        self.counts: dict[Label, float] = {}
        self.first_rows: dict[Label, int] = {}
        """Of texts."""
        self.overflowed = False
        self.are_integers = True
        self.moments = Moments()
        self._rows = RowNumbers()

    def place_rows(self, chosen: NDArray[np.intp] | slice, first_row: int) -> None:
        """Say, for messages, which rows the next update holds: ``chosen`` ones of a block."""
        self._rows = RowNumbers(chosen, first_row)

    def update(
        self, target: Any, weights: NDArray[np.float64] | None = None, moments: Moments | None = None
    ) -> None:
        """Add the targets of a block; ``weights`` (r,). Rows of weight 0 must be left out before.

        ``moments``: those of all rows so far, where they have been found out beside the columns'.
        """
        values = as_values(target, self.name)
        if self._rows.first_row is None:
            self._rows = RowNumbers(first_row=self.num_rows)
        if not len(values):
            return
        self._check_kind(values)
        if values.dtype.kind == "f" or (values.dtype.kind in "iu" and self.task != "classification"):
            if moments is not None and self.task == "regression" and np.isfinite(moments.mean).all():
                self.moments = moments
            else:
                self._add_numbers(values, weights)
        counts = self.task != "regression" or self.kind == "text"
        if values.ndim == 1 and counts and not self.overflowed:
            self._add_counts(values, weights)
        self.num_rows += len(values)
        self.num_weighed += len(values)
        self._rows = RowNumbers()

    def merge(self, other: TargetStatistics, weight: float = 1.0) -> None:
        """Add the record of other rows; with ``weight`` 0 only their labels become known."""
        if other.kind is None:
            return
        if self.kind is None:
            self.kind, self.num_outputs = other.kind, other.num_outputs
            self.moments = Moments(len(other.moments.count))
        if weight:
            self.moments.merge(other.moments)
            self.num_weighed += other.num_weighed
        self.overflowed = self.overflowed or other.overflowed
        self.are_integers = self.are_integers and other.are_integers
        for label, count in other.counts.items():
            self.counts[label] = self.counts.get(label, 0.0) + weight * count
            if label in other.first_rows:
                self.first_rows.setdefault(label, other.first_rows[label])
        self.num_rows += other.num_rows

    def levels(self) -> Levels:
        """The labels as levels of text; weights of less than a row each are rows all the same."""
        record = Levels()
        for label, count in self.counts.items():
            text = str(label)
            record.counts[text] = count
            record.count += count
            if NUMBER.fullmatch(text):
                record.numbers += count
                continue
            record.words[text] = count
            record.num_words += count
            if record.first_word is None or self.first_rows[label] < record.first_word_row:
                record.first_word, record.first_word_row = text, self.first_rows[label]
        return record.times(max(1.0, self.num_weighed / record.count)) if record.count else record

    def _check_kind(self, values: NDArray[Any]) -> None:
        kind = {"O": "text", "b": "booleans"}.get(values.dtype.kind, "numbers")
        outputs = 1 if values.ndim == 1 else values.shape[1]
        if self.kind is None:
            self.kind, self.num_outputs = kind, outputs
            self.moments = Moments(outputs)
        if (self.kind, self.num_outputs) != (kind, outputs):
            raise ColumnError(
                f"target {shorten(self.name)!r} holds {self.kind} in some rows or files and {kind} in "
                "others; "
                "give it one type"
            )

    def _add_numbers(self, values: NDArray[Any], weights: NDArray[np.float64] | None) -> None:
        numbers = values.astype(np.float64, copy=False).reshape(len(values), -1)
        wrong = ~np.isfinite(numbers)
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise TargetValueError(self.name, float(numbers[row, column]), self._rows.of(row))
        if values.dtype.kind == "f" and self.task != "regression":
            self.are_integers = self.are_integers and bool((numbers == np.floor(numbers)).all())
        self.moments.update(numbers, weights)

    def _add_counts(self, values: NDArray[Any], weights: NDArray[np.float64] | None) -> None:
        found = counted(values, weights)
        # Few numbers are counted at once: to look at them first is to sort them twice.
        many = self.kind == "numbers" and len(values) > MAX_NUMBERS and found is None
        if many and len(np.unique(values[: 4 * MAX_NUMBERS])) > MAX_NUMBERS:
            self._overflow()  # of a measured target nearly every number differs: they need not all be told apart
            return
        if found is None:
            labels, codes = coded(values)
            sums = np.bincount(codes, weights=weights, minlength=len(labels))
        else:
            labels, sums = found
        for label, count in zip(labels.tolist(), sums.tolist(), strict=True):
            self.counts[label] = self.counts.get(label, 0.0) + float(count)
        if self.kind == "text":
            first = first_places(codes, len(labels))
            for label, row in zip(labels.tolist(), first.tolist(), strict=True):
                self.first_rows.setdefault(label, self._rows.of(row))
        if len(self.counts) > (MAX_LEVELS if self.kind == "text" else MAX_NUMBERS):
            self._overflow()

    def _overflow(self) -> None:
        """There are too many labels for classes; texts are kept, to say which."""
        self.overflowed = True
        if self.kind != "text":
            self.counts, self.first_rows = {}, {}


class TargetValueError(ColumnError):
    """A target that is no finite number; ``row`` counts from 0 over the rows seen."""

    def __init__(self, name: str, value: float, row: int) -> None:
        super().__init__(
            f"target {shorten(name)!r} holds {value} in row {row + 1}; finite numbers are needed: "
            "correct or remove that row"
        )
        self.name, self.value, self.row = name, value, row
