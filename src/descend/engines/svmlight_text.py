"""svmlight text to numbers, compiled: some 200 MB/s, where scikit-learn's parser makes 7 to 17.

A line is ``label index:value index:value …``; ``qid:`` is skipped, ``#`` begins a comment. It stands here because
kernels do; ``sources/svmlight.py`` loads it when such a file is first opened.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from descend.engines.compiled import kernel, part

BAD_LABEL, BAD_INDEX, BAD_VALUE, NO_COLON, NOT_ASCENDING, NO_LABEL = 1, 2, 3, 4, 5, 6
LINE_FEED, SPACE, TAB, RETURN = 10, 32, 9, 13
HASH, COLON, PLUS, MINUS, DOT, ZERO, NINE = 35, 58, 43, 45, 46, 48, 57
UPPER_E, LOWER_E, LOWER_D, LOWER_I, LOWER_Q = 69, 101, 100, 105, 113
MOST_DIGITS = 2**53
"""Up to here, and with powers of ten up to 22, one multiplication or division rounds correctly (Clinger 1990)."""
POWERS = 10.0 ** np.arange(23)


@part
def token_end(text: NDArray[np.uint8], at: int, stop: int) -> int:
    """Where the number that begins at ``at`` ends: at white space, a colon, a comment."""
    while at < stop:
        c = text[at]
        if c <= SPACE or c in (COLON, HASH):
            break
        at += 1
    return at


@part
def begins_qid(text: NDArray[np.uint8], at: int, stop: int) -> bool:
    """Whether ``qid:`` stands at ``at``."""
    if at + 3 >= stop or text[at] != LOWER_Q:
        return False
    return bool(text[at + 1] == LOWER_I and text[at + 2] == LOWER_D and text[at + 3] == COLON)


@part
def number_at(text: NDArray[np.uint8], start: int, end: int) -> tuple[float, bool]:
    """The number in text[start:end], and whether it is exact: if not, a slower reader has to look."""
    at = start
    negative = False
    if at < end and (text[at] == MINUS or text[at] == PLUS):
        negative = text[at] == MINUS
        at += 1
    digits, power, any_digit, after_dot = np.int64(0), np.int64(0), False, False
    while at < end:
        c = text[at]
        if ZERO <= c <= NINE:
            if digits > MOST_DIGITS // 10 - 1:
                return 0.0, False
            digits = digits * 10 + (np.int64(c) - ZERO)
            any_digit = True
            power -= after_dot
        elif c == DOT and not after_dot:
            after_dot = True
        else:
            break
        at += 1
    if not any_digit:
        return 0.0, False
    if at < end and (text[at] == LOWER_E or text[at] == UPPER_E):
        at += 1
        sign = 1
        if at < end and (text[at] == MINUS or text[at] == PLUS):
            sign = -1 if text[at] == MINUS else 1
            at += 1
        if at == end or end - at > 4:
            return 0.0, False
        exponent = np.int64(0)
        while at < end and ZERO <= text[at] <= NINE:
            exponent = exponent * 10 + (np.int64(text[at]) - ZERO)
            at += 1
        power += sign * exponent
    if at != end or power > 22 or power < -22:
        return 0.0, False
    number = np.float64(digits)
    number = number * POWERS[power] if power >= 0 else number / POWERS[-power]
    return (-number if negative else number), True


@kernel
def parse(
    text: NDArray[np.uint8],
    labels: NDArray[np.float64],
    ends: NDArray[np.int64],
    indices: NDArray[np.int64],
    values: NDArray[np.float64],
    slow: NDArray[np.int64],
    label_optional: bool,
) -> tuple[int, int, int, int, int]:
    """Reads whole lines. Returns rows, numbers, slow numbers, and a mistake (0: none) with its place.

    ``ends[i + 1]`` is how many numbers rows 0 … i hold. ``slow`` (m, 3) tells, of each number that is left to
    Python, where it goes (a label as −1 − row) and its first and last place in the text. A missing label is NaN.
    """
    stop = text.size
    at = rows = count = num_slow = 0
    ends[0] = 0
    while at < stop:
        while at < stop and text[at] <= SPACE:
            at += 1
        if at == stop:
            break
        if text[at] == HASH:
            while at < stop and text[at] != LINE_FEED:
                at += 1
            continue
        end = token_end(text, at, stop)
        if end < stop and text[end] == COLON:
            if not label_optional:
                return rows, count, num_slow, NO_LABEL, at
            labels[rows] = np.nan
        else:
            label, exact = number_at(text, at, end)
            labels[rows] = label
            if not exact:
                if end == at:
                    return rows, count, num_slow, BAD_LABEL, at
                slow[num_slow, 0], slow[num_slow, 1], slow[num_slow, 2] = -1 - rows, at, end
                num_slow += 1
            at = end
        last = -1
        while at < stop and text[at] != LINE_FEED:
            c = text[at]
            if c <= SPACE:
                at += 1
                continue
            if c == HASH:
                while at < stop and text[at] != LINE_FEED:
                    at += 1
                break
            start = at
            if begins_qid(text, at, stop):
                while at < stop and text[at] > SPACE:
                    at += 1
                continue
            index = np.int64(0)
            while at < stop and ZERO <= text[at] <= NINE and at - start < 18:
                index = index * 10 + (np.int64(text[at]) - ZERO)
                at += 1
            if at == start or (at < stop and text[at] > SPACE and text[at] != COLON):
                return rows, count, num_slow, BAD_INDEX, start
            if at == stop or text[at] != COLON:
                return rows, count, num_slow, NO_COLON, start
            if index <= last:
                return rows, count, num_slow, NOT_ASCENDING, start
            last = int(index)
            at += 1
            end = token_end(text, at, stop)
            if end == at or (end < stop and text[end] == COLON):
                return rows, count, num_slow, BAD_VALUE, start
            number, exact = number_at(text, at, end)
            indices[count], values[count] = index, number
            if not exact:
                slow[num_slow, 0], slow[num_slow, 1], slow[num_slow, 2] = count, at, end
                num_slow += 1
            count += 1
            at = end
        rows += 1
        ends[rows] = count
    return rows, count, num_slow, 0, 0


Parsed = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def parse_lines(text: bytes | memoryview, label_optional: bool) -> Parsed | tuple[int, int]:
    """Labels (r,), ``indptr`` (r + 1,), indices as written, values; or a mistake and its place."""
    raw = np.frombuffer(text, dtype=np.uint8)
    most = int(np.count_nonzero(raw == COLON))
    lines = int(np.count_nonzero(raw == LINE_FEED)) + 1
    labels, ends = np.empty(lines), np.empty(lines + 1, dtype=np.int64)
    indices, values = np.empty(most, dtype=np.int64), np.empty(most)
    slow: Any = np.empty((most + lines, 3), dtype=np.int64)
    rows, count, num_slow, mistake, place = parse(raw, labels, ends, indices, values, slow, label_optional)
    if mistake:
        return mistake, place
    for where, start, end in slow[:num_slow].tolist():
        token = bytes(raw[start:end])
        try:
            if b"_" in token:
                raise ValueError
            number = float(token)
        except ValueError:
            return (BAD_LABEL if where < 0 else BAD_VALUE), start
        if where < 0:
            labels[-1 - where] = number
        else:
            values[where] = number
    return labels[:rows], ends[: rows + 1], indices[:count], values[:count]
