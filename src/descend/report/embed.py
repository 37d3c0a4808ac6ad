"""What goes into the page as it is: scripts and the hashes that allow them, data that cannot end a script."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from descend.errors import DescendError


def plotly_js() -> str:
    """The library's own file, out of the installed ``plotly`` package; importing that would be slow."""
    spec = find_spec("plotly")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        file = Path(place) / "package_data" / "plotly.min.js"
        if file.is_file():
            return _checked(file.read_text(encoding="utf-8"), file.name)
    raise DescendError("the page needs plotly.min.js of the package plotly; try: pip install 'plotly>=6.0'")


def asset(name: str) -> str:
    """A text file of the page."""
    text = (files(__package__) / "assets" / name).read_text(encoding="utf-8")
    return _checked(text, name) if name.endswith(".js") else text


def _checked(script: str, name: str) -> str:
    # A browser rewrites CRLF before it hashes. It ends a script at "</script", and after "<!--" elsewhere.
    text = script.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in text.lower() or "<!--" in text:
        raise DescendError(f"{name} cannot stand inside a page; try another version of the package plotly")
    return text


def csp_hash(script: str) -> str:
    """The source expression that allows exactly this script.

    >>> csp_hash("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def data_json(data: Any) -> str:
    r"""JSON that is safe inside ``<script type="application/json">``.

    >>> data_json({"a": "</script>"})
    '{"a":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
