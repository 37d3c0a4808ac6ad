"""Where lines of delimited text end, quotes minded: as PyArrow's lexer has it, compiled.

It stands here because kernels do; ``sources/line_ranges.py`` loads it for text that holds a quote.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from descend.engines.compiled import kernel

LINE_FEED, RETURN, QUOTE = 10, 13, 34
BEGIN, PLAIN, QUOTED, CLOSING = 0, 1, 2, 3
"""At the beginning of a cell, where a quote opens; in plain text, where it is a letter; in quotes; just after a quote
in quotes, which closed them unless another follows."""


@kernel
def last_line_end(text: NDArray[np.uint8], delimiter: int, state: int) -> tuple[int, int]:
    """Just after the last line feed outside quotes, −1 where there is none; and the state after the last letter."""
    last = -1
    for i in range(text.size):
        c = text[i]
        if state == QUOTED:
            if c == QUOTE:
                state = CLOSING
            continue
        if c == QUOTE and state != PLAIN:
            state = QUOTED
        elif c == LINE_FEED:
            state, last = BEGIN, i + 1
        elif c in (RETURN, delimiter):
            state = BEGIN
        else:
            state = PLAIN
    return last, state
