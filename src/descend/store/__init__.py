"""Block stores: encoded rows in random order, in files of a fixed number of rows, for data larger than memory.

Nothing heavy is imported until a store is opened or written.
"""

from descend.store.ingesting import ingest
from descend.store.layout import Layout
from descend.store.opening import Store, is_store, open_store
from descend.store.writing import write_store

__all__ = ["Layout", "Store", "ingest", "is_store", "open_store", "write_store"]
