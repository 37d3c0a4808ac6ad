"""How often each level of a column of categories occurs, in one mergeable record."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.features.row_numbers import RowNumbers

MAX_LEVELS = 200_000
"""Beyond this many different texts counting stops: the column names rows, it does not group them."""


class Levels:
    """Weighted counts of the levels of one column.

    ``numbers`` weighs the cells that are numbers, ``num_words`` the others (a thousand in ``words``):
    text among numbers is a mistake that one-hot columns would hide.
    """

    __slots__ = (
        "count",
        "counts",
        "first_word",
        "first_word_row",
        "num_words",
        "numbers",
        "overflowed",
        "words",
    )

    def __init__(self) -> None:
        self.count = 0.0
        self.counts: dict[str, float] = {}
        self.overflowed = False
        self.words: dict[str, float] = {}
        self.numbers = 0.0
        self.num_words = 0.0
        self.first_word: str | None = None
        self.first_word_row = 0

    def update(self, texts: Any, weights: NDArray[np.float64] | None, rows: RowNumbers) -> None:
        """Add the cells of an Arrow string array; nulls are not counted."""
        encoded = texts.dictionary_encode()
        names = encoded.dictionary.to_pylist()
        codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        present = codes >= 0
        sums = np.bincount(
            codes[present],
            weights=None if weights is None else weights[present],
            minlength=len(names),
        )
        numeric = _are_numbers(encoded.dictionary)
        self.count += float(sums.sum())
        self.numbers += float(sums[numeric].sum())
        for name, weight, number in zip(names, sums.tolist(), numeric.tolist(), strict=True):
            self._add(name, float(weight))
            if not number:
                self._add_word(name, float(weight))
        if self.first_word is None and not numeric.all():
            found = np.flatnonzero(present & ~numeric[codes])
            if len(found):
                self.first_word = names[codes[found[0]]]
                self.first_word_row = rows.of(int(found[0]))

    def times(self, factor: float) -> Levels:
        """The record with every weight multiplied."""
        record = Levels()
        record.overflowed = self.overflowed
        record.first_word, record.first_word_row = self.first_word, self.first_word_row
        record.count, record.numbers, record.num_words = (
            factor * weight for weight in (self.count, self.numbers, self.num_words)
        )
        record.counts = {name: factor * weight for name, weight in self.counts.items()}
        record.words = {name: factor * weight for name, weight in self.words.items()}
        return record

    def merge(self, other: Levels) -> None:
        """Add the record of other rows; they come later in the file."""
        self.count += other.count
        self.overflowed = self.overflowed or other.overflowed
        for name, weight in other.counts.items():
            self._add(name, weight)
        self.merge_words(other)

    def merge_words(self, other: Levels) -> None:
        """Add what the record of other rows knows of words and numbers, and nothing else."""
        self.numbers += other.numbers
        self.num_words += other.num_words
        for name, weight in other.words.items():
            self.words[name] = self.words.get(name, 0.0) + weight
        later = self.first_word is not None and self.first_word_row <= other.first_word_row
        if other.first_word is not None and not later:
            self.first_word, self.first_word_row = other.first_word, other.first_word_row

    def _add(self, name: str, weight: float) -> None:
        if self.overflowed:
            return
        self.counts[name] = self.counts.get(name, 0.0) + weight
        if len(self.counts) > MAX_LEVELS:
            self.overflowed = True
            self.counts = {}

    def _add_word(self, name: str, weight: float) -> None:
        self.num_words += weight
        if name in self.words or len(self.words) < 1000:
            self.words[name] = self.words.get(name, 0.0) + weight


def _are_numbers(names: Any) -> NDArray[np.bool_]:
    """Which of these texts a person would read as a number, (len(names),) bool."""
    import pyarrow.compute as pc

    pattern = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
    found: NDArray[np.bool_] = pc.match_substring_regex(names, pattern).to_numpy(zero_copy_only=False)
    return found.astype(bool)
