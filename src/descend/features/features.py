"""Features: how the columns of a source become the numbers that are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from descend.errors import ColumnError, shorten
from descend.features import feature_json
from descend.features.choose import Notes, choose_encoders
from descend.features.encoders import Encoder, Number
from descend.features.matrix import MatrixEncoder
from descend.features.statistics import Statistics, are_many
from descend.types import Block, is_sparse

if TYPE_CHECKING:
    import pyarrow as pa


class Features:
    """The encoding of a source's columns; it is decided once, on training rows, and travels with the model.

    - ``input_names``: the columns it was made for; ``names``: the d encoded columns.
    - ``mean``, ``scale`` (d,): encoded = (input − mean) / scale; 0 and 1 where it is no plain scaling.
    - ``origin`` (d,): the place among ``input_names`` of the column each encoded column comes from.
    - ``notes``: what was left out or pooled.

    >>> stats = Statistics(("a", "b"))
    >>> stats.update(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> features = Features.from_statistics(stats)
    >>> features.names, features.notes
    (('a',), ('column b left out: the same value in every row',))
    >>> features.encode(np.array([[1.0, 5.0], [2.0, 5.0]]))
    array([[-1.],
           [ 0.]], dtype=float32)
    """

    takes_sparse = False
    """Whether it was learnt from sparse rows, and keeps them so."""

    def __init__(
        self,
        input_names: Sequence[str],
        encoders: Sequence[tuple[int, Encoder]],
        *,
        is_matrix: bool,
        standardize: bool = True,
        centred: bool = True,
        notes: Sequence[str] = (),
    ) -> None:
        self.input_names = tuple(input_names)
        self.encoders = tuple(encoders)
        self.is_matrix = is_matrix
        self.standardize = standardize
        self.centred = centred
        self.notes = tuple(notes)
        names = [e.names for _, e in encoders]
        self.names: tuple[str, ...] = tuple(n for own in names for n in own)
        affine = [pair for _, e in encoders for pair in e.affine]
        self.mean = np.array([m for m, _ in affine], dtype=np.float64)
        self.scale = np.array([s for _, s in affine], dtype=np.float64)
        places = [p for (p, _), own in zip(encoders, names, strict=True) for _ in own]
        self.origin = np.array(places, dtype=np.intp)
        self._matrix: MatrixEncoder | None = None

    @classmethod
    def from_statistics(
        cls, stats: Statistics, standardize: bool = True, keep_constants: bool = False, centre: bool = True
    ) -> Features:
        """Decide the encoding from the statistics of the training rows, or of those seen so far.

        ``centre`` off leaves 0 where it is, as a model without an intercept needs it.
        """
        if stats.row_lengths:
            from descend.features.sparse import SparseFeatures

            return SparseFeatures.learn(stats, standardize)
        notes = Notes()
        encoders = tuple(choose_encoders(stats, standardize, notes, keep_constants, centre))
        if not encoders:
            raise ColumnError(
                "no column is left to learn from: " + ("; ".join(notes.lines()) or "there are no rows")
            )
        return cls(
            stats.names,
            encoders,
            is_matrix=bool(stats.is_matrix),
            standardize=standardize,
            centred=centre,
            notes=notes.lines(),
        )

    @property
    def num_columns(self) -> int:
        """The number of encoded columns, d."""
        return len(self.names)

    @property
    def is_identity(self) -> bool:
        """Whether rows without gaps are encoded as they are."""
        return (
            self.is_matrix
            and not self.standardize
            and len(self.names) == len(self.input_names)
            and not self.tells_missing
        )

    @property
    def is_scaling(self) -> bool:
        """Whether every encoded column of rows without gaps is (input − mean) / scale of one input."""
        return self.is_matrix and not self.takes_sparse and not self.tells_missing

    @property
    def tells_missing(self) -> bool:
        """Whether a column of numbers had gaps, which an indicator column tells."""
        return any(isinstance(e, Number) and e.tells_missing for _, e in self.encoders)

    def encode(
        self,
        columns: pa.RecordBatch | NDArray[Any],
        out: NDArray[Any] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> NDArray[Any]:
        """Rows as numbers, (r, d), into ``out`` where given. Tables go by name, matrices by position."""
        rows = Block(columns).num_rows
        if out is None:
            out = np.empty((rows, self.num_columns), dtype=dtype)
        with np.errstate(over="ignore"):
            if is_sparse(columns):
                raise ColumnError("the model was trained on dense rows; give a dense matrix")
            if isinstance(columns, np.ndarray):
                self._encode_matrix(columns, out)
            else:
                self._encode_table(columns, out)
        return out

    def encode_at(
        self,
        columns: pa.RecordBatch | NDArray[Any],
        out: NDArray[Any],
        places: slice | NDArray[np.integer[Any]],
    ) -> None:
        """Rows as numbers into the rows ``places`` of ``out``; of many floats in one compiled pass."""
        if isinstance(columns, np.ndarray) and are_many(columns):
            at = np.arange(places.start, places.stop) if isinstance(places, slice) else places
            if self._encoder_of(columns).write_at(columns, out, at):
                return
        if isinstance(places, slice):
            self.encode(columns, out=out[places])
        else:
            out[places] = self.encode(columns, dtype=out.dtype)

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe dict; ``from_json`` gives the same encoding to the last bit."""
        return feature_json.dump(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Features:
        """The encoding that ``to_json`` wrote."""
        if stored.get("kind") == "sparse":
            from descend.features.sparse import SparseFeatures

            return SparseFeatures.read(stored)
        return cls(**feature_json.load(stored))

    def _encode_matrix(self, X: NDArray[Any], out: NDArray[Any]) -> None:
        self._encoder_of(X).write(X, out)

    def _encoder_of(self, X: NDArray[Any]) -> MatrixEncoder:
        if X.shape[1] != len(self.input_names):
            raise ColumnError(
                f"the data has {X.shape[1]} columns, but the model was made with {len(self.input_names)}; "
                "give the same columns in the same order"
            )
        if self._matrix is None:
            self._matrix = MatrixEncoder(self.input_names, self.encoders)
        return self._matrix

    def _encode_table(self, batch: pa.RecordBatch, out: NDArray[Any]) -> None:
        present = {name: i for i, name in enumerate(batch.schema.names)}
        lacking = [e.name for _, e in self.encoders if e.name not in present]
        if lacking:
            raise ColumnError(
                f"the data lacks {_listing(lacking)}, which the model needs; it has {_listing(list(present))}"
            )
        at = 0
        for _, encoder in self.encoders:
            width = len(encoder.names)
            encoder.write(batch.column(present[encoder.name]), out[:, at : at + width])
            at += width


def _listing(names: Sequence[str]) -> str:
    shown = ", ".join(repr(shorten(n, 30)) for n in names[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{'column' if len(names) == 1 else 'columns'} {shown}{more}"
