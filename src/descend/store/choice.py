"""What a store fixes when it is written: asked for again it is accepted, and anything else is refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from descend.errors import InputError, shorten
from descend.store.opening import Store, is_store, open_store


def store_of(data: Any) -> Store | None:
    """The store that ``data`` is, or is the path of; None for anything else."""
    if isinstance(data, Store):
        return data
    return open_store(data) if isinstance(data, (str, Path)) and is_store(data) else None


def check_choice(
    store: Store,
    *,
    target: str | None = None,
    drop: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    weights: str | None = None,
    standardize: bool = True,
) -> None:
    """Raises ``InputError`` for the first of them that is not as the store was written."""
    stored = store.manifest.selection
    own_target = store.target_statistics.name
    if target is not None and target != own_target:
        raise _other("target", target, own_target, store)
    for name, given in (("drop", drop), ("columns", columns), ("weights", weights)):
        if given and _as_set(given) != _as_set(stored.get(name)):
            raise _other(name, given, stored.get(name), store)
    if standardize is False and store.features.standardize:
        raise InputError(
            f"standardize is False, but {_named(store)} holds standardised columns; leave it out, or train on the "
            "data that was ingested"
        )


def refuse_beside(y: Any, sample_weight: Any) -> None:
    """A store holds its targets and weights; raises ``InputError`` for others beside it."""
    for name, given in (("y", y), ("sample_weight", sample_weight)):
        if given is not None:
            raise InputError(f"{name} is given with a block store, which holds its own; leave {name} out")


def _other(name: str, given: Any, own: Any, store: Store) -> InputError:
    was = f"with {_shown(own)}" if own else "without"
    return InputError(
        f"{name} is {_shown(given)}, but {_named(store)} was ingested {was}; leave it out, or ingest the data again"
    )


def _named(store: Store) -> str:
    return f"store {shorten(store.name)!r}"


def _shown(value: Any) -> str:
    words = [value] if isinstance(value, str) else [str(word) for word in value or ()]
    return shorten(",".join(words) or "nothing", 100)


def _as_set(value: Any) -> set[str]:
    return {value} if isinstance(value, str) else set(value or ())
