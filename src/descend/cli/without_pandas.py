"""The command line goes without pandas, which PyArrow else imports, where it is installed, to ask what an array is.

No verb takes or makes a table of pandas, and importing it costs every command half a second and 48 MB.
"""

from __future__ import annotations

import sys
from typing import Any


class _NotThere:
    """Stands before all other finders; a name in ``sys.modules`` would say to some that pandas is loaded."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("descend's command line goes without pandas", name="pandas")


def go_without_pandas() -> None:
    """For a process that is the command's own: whoever imports pandas there is told that there is none."""
    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, _NotThere())
