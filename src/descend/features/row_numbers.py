"""Which row of the file a row at hand is: for messages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class RowNumbers:
    """Rows ``chosen`` of a block that begins at ``first_row`` (from 0); None where nobody said.

    >>> RowNumbers(np.array([1, 4]), first_row=100).of(1)
    104
    """

    __slots__ = ("_chosen", "first_row")

    def __init__(self, chosen: NDArray[np.intp] | slice = slice(None), first_row: int | None = None) -> None:
        self._chosen = None if isinstance(chosen, slice) else chosen
        self.first_row = first_row

    def of(self, row: int) -> int:
        """The number of row ``row``, both from 0."""
        return (self.first_row or 0) + (row if self._chosen is None else int(self._chosen[row]))

    def among(self, places: NDArray[np.intp]) -> RowNumbers:
        """The numbers of the rows at ``places``."""
        return RowNumbers(places if self._chosen is None else self._chosen[places], self.first_row)
