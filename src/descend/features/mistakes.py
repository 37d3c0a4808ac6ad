"""Text among numbers: a mistake in the data that one-hot columns would hide."""

from __future__ import annotations

import re

from descend.errors import ColumnError, shorten
from descend.features.levels import Levels


def refuse_text_among_numbers(name: str, levels: Levels, where: str = "") -> None:
    """Refuse a column of text nearly all of whose cells are numbers, unless the words are levels.

    Words are levels where each comes back often in a column of few values ("0", "1", "2", "3+"), or where
    there are many of them and they are codes that hold digits ("250", "V57"). Else nine numbers in ten mean
    that the column holds numbers, and the rest is a mistake.
    """
    cells = levels.numbers + levels.num_words
    if levels.first_word is None or levels.numbers < 0.9 * cells:
        return
    words = levels.words
    rarest = min(words.values())
    few_values = not levels.overflowed and len(levels.counts) <= 40
    are_levels = few_values and rarest >= max(3.0, 0.005 * cells)
    are_codes = len(words) >= 3 and all(_is_code(word) for word in words)
    if are_levels or (are_codes and levels.num_words >= 0.005 * cells):
        return
    share = min(100.0 * levels.numbers / cells, 99.99)  # a few words among millions are not none
    raise ColumnError(
        f"column {shorten(name)!r} holds numbers in {share:.4g} % of its cells, and text such as "
        f"{shorten(levels.first_word)!r} in row {levels.first_word_row + 1}{where}; correct that text or "
        f"empty the cell to mark it missing{'' if where else ', or leave that column out of training'}"
    )


def numbers_in_disguise(levels: Levels) -> str | None:
    """An example, where nearly all texts are numbers that only a person can read: ``1,234``, ``12 %``."""
    pattern = re.compile(r"\s*[-+]?[$€£¥]?\s*\d[\d,.' ]*\s*(%|[$€£¥]|[A-Za-z]{1,3})?\s*")
    if levels.num_words == 0 or len(levels.words) <= 40:
        return None
    dressed = [word for word in levels.words if pattern.fullmatch(word)]
    return dressed[0] if len(dressed) >= 0.9 * len(levels.words) else None


def _is_code(word: str) -> bool:
    """``V57`` is a code. ``12kg`` and ``1,234`` are numbers badly written."""
    return word.strip()[:1].isalpha() and any(c.isdigit() for c in word)
