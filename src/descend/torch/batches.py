"""``Batches``: rows in shuffled batches, in the order that the rest of descend uses.

A DataLoader fetches row by row and stacks. Here a block of some batches is gathered at once, and the batches are
views of it: the gather is one call, and a block small enough stays in cache until its batches are trained on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from descend.batches import WINDOW, Visits, check_batch_size, shuffle
from descend.errors import InputError
from descend.torch.given import as_rows
from descend.torch.nested import mapped, moved_to, tensors_of
from descend.torch.rows import DatasetRows, TensorRows

BLOCK_BYTES = 2**19
"""784 float32 columns at B = 32: 16 µs a batch gathered one by one, 11 at 128 to 512 rows, 16 at 8,192: what is too
large for the near cache, or for malloc to hand out again, costs as much as what is too small."""
SHARE_OF_DEVICE = 0.25
"""Tensors that take no more of the memory free on a GPU are moved there once, and gathered there."""


class Batches:
    """An iterable of batches (X, y), or (X, y, weights): one pass is one epoch, each in an order of its own.

    ``X``, ``y``: tensors or arrays of n rows, or a map-style dataset as ``X`` alone. ``weights`` (n,): handed out as
    the third of each batch. ``batch_size``: rows in a batch, or ``"full"``. ``seed``: the order of epoch e follows
    from (seed, e) alone; epochs count from 1. ``shuffle=False``: rows as they lie. ``drop_last``: leaves out a last
    batch that is not whole. ``device``: where batches are handed out; on a GPU tensors that fit are moved once,
    others are copied out of pinned memory one block ahead.

    A batch may be kept: its memory is never written again. Raises ``InputError`` naming what does not fit.

    >>> batches = Batches(torch.arange(5), batch_size=2, seed=0)
    >>> sorted(number for (rows,) in batches for number in rows.tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        batch_size: int | str = 32,
        seed: int = 0,
        *,
        weights: Any = None,
        shuffle: bool = True,
        drop_last: bool = False,
        device: Any = None,
        rows: Any = None,
    ) -> None:
        if y is not None:
            data: Any = (X, y)
        else:
            data = (X,) if isinstance(X, (torch.Tensor, np.ndarray, dict)) else X
        self.source = as_rows(data, weights, alone=True)
        if rows is not None and len(rows) and not 0 <= min(rows) <= max(rows) < self.source.num_rows:
            raise InputError(
                f"rows go from {min(rows)} to {max(rows)}; there are 0 to {self.source.num_rows - 1}"
            )
        self.num_rows = self.source.num_rows if rows is None else len(rows)
        size = check_batch_size(batch_size, self.num_rows)
        if size == "auto":
            raise InputError('batch_size "auto" is not known here yet; pass a whole number or "full"')
        self.batch_size = self.num_rows if size == "full" else int(size)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InputError(f"seed {seed!r} is not one; a whole number from 0 on is needed")
        self.seed, self.shuffle, self.drop_last = int(seed), bool(shuffle), bool(drop_last)
        self.device = None if device is None else torch.device(device)
        self._visits = Visits(
            self.source.num_rows, _base_order(self.source.num_rows, self.seed, rows, shuffle)
        )
        if self.device is not None and isinstance(self.source, TensorRows) and self._fits_device():
            self.source = self.source.to(self.device)
        self.epoch = 1
        """The epoch that is handed out, or comes next."""
        self.position = 0
        """Batches handed out of it."""
        self._goes_on = True
        self.keeps_rows = False
        """Whether rows that are handed out as they lie are copies too: a module may write into what it is given."""

    def __len__(self) -> int:
        whole, rest = divmod(self.num_rows, self.batch_size)
        return whole if self.drop_last else whole + (rest > 0)

    def set_epoch(self, epoch: int) -> None:
        """The next pass is epoch number ``epoch``, from its first batch."""
        if isinstance(epoch, bool) or not isinstance(epoch, (int, np.integer)) or epoch < 0:
            raise InputError(f"epoch {epoch!r} is not one; a whole number from 0 on is needed")
        self.epoch, self.position, self._goes_on = int(epoch), 0, True

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration is, to the batch."""
        return {"epoch": self.epoch, "position": self.position} | self._identity()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next pass goes on behind the batch that was the last one handed out.

        Raises ``InputError`` where the state is that of other rows, another batch size, seed or order.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise InputError(
                    f"the state is of {name} {state.get(name)!r}, these batches have {value!r}; make them alike"
                )
        self.epoch, self.position, self._goes_on = int(state["epoch"]), int(state["position"]), True
        if self.position >= len(self):
            self.set_epoch(self.epoch + 1)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        if not self._goes_on and self.position:
            self.epoch, self.position = self.epoch + 1, 0
        self._goes_on = False
        return self._handed_out()

    def make_ready(self) -> None:
        """Loads the kernel that orders rows, which takes up to a second once, before a clock runs."""
        if self.shuffle:
            shuffle(Visits(1), self.seed, 0)

    def rows_of(self, position: int) -> list[int]:
        """Row numbers, in the caller's data, of batch number ``position`` (from 0) of this epoch."""
        places = self._order(self.epoch)
        return places[position * self.batch_size : (position + 1) * self.batch_size].tolist()  # type: ignore[no-any-return, unused-ignore]

    def fetch(self, rows: Iterable[int]) -> tuple[Any, ...]:
        """The rows of these numbers, where they lie."""
        places = torch.tensor(list(rows), dtype=torch.int64)
        return self.source.fetch(places.to(getattr(self.source, "device", "cpu")))

    def _handed_out(self) -> Iterator[tuple[Any, ...]]:
        size, per_block = self.batch_size, self._batches_per_block()
        # Blocks begin where they would without a resumption: rows then lie alike in memory, and products round alike.
        first, skipped = divmod(self.position, per_block)
        for block in self._on_device(self._blocks(first * per_block * size, per_block * size)):
            batches = self._cut(block)
            if skipped:
                batches, skipped = islice(batches, skipped, None), 0
            del block  # its memory is written again by the next, if nobody keeps a batch
            for batch in batches:
                self.position += 1
                yield batch
            del batches, batch
        self.epoch, self.position = self.epoch + 1, 0

    def _cut(self, block: tuple[Any, ...]) -> Iterable[tuple[Any, ...]]:
        if isinstance(self.source, DatasetRows):
            return iter((block,))  # it is a batch, of whatever the caller's collate makes
        return zip(*[_cut(part, self.batch_size) for part in block], strict=True)

    def _blocks(self, start: int, step: int) -> Iterator[tuple[Any, ...]]:
        stop = min(self.num_rows, len(self) * self.batch_size)
        if self._lies_in_order():
            for first in range(start, stop, step):
                lying = self.source.lying(first, min(first + step, stop))
                yield tuple(mapped(torch.Tensor.clone, part) for part in lying) if self.keeps_rows else lying
            return
        places = self._order(self.epoch)[:stop]
        if isinstance(self.source, TensorRows):
            places = places.to(self.source.device)
        for first in range(start, stop, step):
            yield self.source.fetch(places[first : first + step])

    def _order(self, epoch: int) -> torch.Tensor:
        return torch.from_numpy(shuffle(self._visits, self.seed, epoch, in_order=not self.shuffle))

    def _lies_in_order(self) -> bool:
        """A batch of every row needs no order, and no copy."""
        return self._visits.rows is None and (not self.shuffle or self.batch_size >= self.num_rows)

    def _batches_per_block(self) -> int:
        if isinstance(self.source, DatasetRows):
            return 1
        return max(1, int(BLOCK_BYTES / max(1.0, self.source.bytes_of_row * self.batch_size)))

    def _on_device(self, blocks: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        if self.device is None or (isinstance(self.source, TensorRows) and self.source.device == self.device):
            return iter(blocks)
        if self.device.type == "cuda":
            return _a_block_ahead(blocks, self.device)
        return (tuple(moved_to(part, self.device) for part in block) for block in blocks)

    def _fits_device(self) -> bool:
        assert self.device is not None
        if self.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.source.num_rows * self.source.bytes_of_row <= SHARE_OF_DEVICE * float(free)

    def _identity(self) -> dict[str, Any]:
        names = ("num_rows", "batch_size", "seed", "shuffle", "drop_last")
        return {name: getattr(self, name) for name in names}


def _base_order(num_rows: int, seed: int, rows: Any, shuffled: bool) -> Any:
    """Rows in the order that epochs permute, or None: as they lie.

    An epoch's order moves strips of neighbours, which is as good as a full permutation where rows lie in random order
    already. A caller's may be sorted by label: they are permuted once, as rows are that descend encodes.
    """
    if not shuffled or num_rows <= WINDOW:
        return None if rows is None else np.asarray(rows, dtype=np.int64)
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(
        num_rows if rows is None else len(rows)
    )
    return order if rows is None else np.asarray(rows, dtype=np.int64)[order]


def _cut(part: Any, size: int) -> Iterable[Any]:
    if isinstance(part, torch.Tensor):
        # Half as long as split: autograd need not know that batches share a block.
        return part.unsafe_split(size)  # type: ignore[no-any-return]
    if isinstance(part, dict):
        cuts = zip(*(_cut(value, size) for value in part.values()), strict=True)
        return (dict(zip(part, values, strict=True)) for values in cuts)
    return zip(*(_cut(one, size) for one in part), strict=True)


def _a_block_ahead(blocks: Iterable[tuple[Any, ...]], device: torch.device) -> Iterator[tuple[Any, ...]]:
    """Blocks on a GPU, each copied out of pinned memory while the one before it is trained on."""
    aside = torch.cuda.Stream(device)
    waiting: tuple[Any, Any] | None = None
    for block in blocks:
        with torch.cuda.stream(aside):
            moved = _on_the_way(block, device)
            copied = aside.record_event()
        if waiting is not None:
            yield _arrived(*waiting, device)
        waiting = moved, copied
    if waiting is not None:
        yield _arrived(*waiting, device)


def _on_the_way(block: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    def move(thing: Any) -> Any:
        pinned = thing.pin_memory() if hasattr(thing, "pin_memory") else thing
        return pinned.to(device, non_blocking=True) if hasattr(pinned, "to") else pinned

    return tuple(mapped(move, part, move) for part in block)


def _arrived(block: tuple[Any, ...], copied: Any, device: torch.device) -> tuple[Any, ...]:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for leaf in tensors_of(block):
        leaf.record_stream(current)
    return block
