"""PyArrow's datasets: folders of Parquet and other files, partitioned or not, and tables behind the same face."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from descend.errors import SourceError, shorten
from descend.sources.arrow_files import BUFFER_BYTES
from descend.sources.limits import table_rows
from descend.sources.selection import select
from descend.sources.tables import BatchPart, TableSource, refuse_duplicates, refuse_nested

if TYPE_CHECKING:
    import pyarrow as pa


class DatasetReader:
    """Record batches of a ``pyarrow.dataset.Dataset``; its fragments, and the row groups in them, are its parts."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.schema: pa.Schema = dataset.schema
        self.names: tuple[str, ...] = tuple(dataset.schema.names)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for fragment in self._dataset.get_fragments():
            yield from self._read(fragment, columns)

    def parts(self, columns: Sequence[str]) -> list[BatchPart]:
        """Row groups where fragments have them, else whole fragments."""
        pieces = [
            piece
            for fragment in self._dataset.get_fragments()
            for piece in (
                fragment.split_by_row_group() if hasattr(fragment, "split_by_row_group") else [fragment]
            )
        ]
        return [partial(self._read, piece, columns, use_threads=False) for piece in pieces]

    def notes(self) -> tuple[str, ...]:
        return ()

    def _read(self, fragment: Any, columns: Sequence[str], **options: Any) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        if hasattr(fragment, "split_by_row_group"):
            options["fragment_scan_options"] = _parquet_options()
        try:
            yield from fragment.to_batches(
                schema=self.schema, columns=list(columns), batch_size=table_rows(len(columns)), **options
            )
        except (pa.ArrowException, OSError) as error:
            where = shorten(str(getattr(fragment, "path", "") or "the dataset"))
            raise SourceError(
                f"{where} cannot be read: it is damaged, cut short, gone or something else "
                f"({shorten(str(error), 120)})"
            ) from None


def _parquet_options() -> Any:
    """Row groups are read some pages at a time, whatever their length."""
    from pyarrow.dataset import ParquetFragmentScanOptions

    return ParquetFragmentScanOptions(use_buffered_stream=True, buffer_size=BUFFER_BYTES, pre_buffer=False)


def dataset_source(dataset: Any, name: str = "X", **choice: Any) -> TableSource:
    """A source over a ``pyarrow.dataset.Dataset``; ``choice`` is that of ``open_source``.

    >>> import pyarrow as pa, pyarrow.dataset
    >>> dataset = pa.dataset.dataset(pa.table({"a": [1.0, 2.0], "y": [0, 1]}))
    >>> source = dataset_source(dataset, target="y")
    >>> source.column_names, [block.num_rows for block in source.blocks()]
    (('a',), [2])
    """
    reader = DatasetReader(dataset)
    refuse_duplicates(reader.names, name)
    selection = select(reader.names, name, **choice)
    refuse_nested(reader.schema, selection.features, name)
    return TableSource(reader, name, selection)
