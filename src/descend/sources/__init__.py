"""Where rows live: files, folders, bundled sets, arrays and tables, read in bounded blocks.

Nothing heavy is imported until a source that needs it is opened.
"""

from descend.sources.arrays import ArraySource, array_source
from descend.sources.opening import open_source
from descend.sources.tables import TableSource, table_source

__all__ = ["ArraySource", "TableSource", "array_source", "open_source", "table_source"]
