"""The signal that a file's types turned out wider than its first rows said."""

from descend.errors import SourceError


class TypesWidened(SourceError):  # noqa: N818 - a signal that is caught, not a fault
    """A later row did not fit the types found so far; they were widened, and reading has to begin again."""
