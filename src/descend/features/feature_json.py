"""Features as JSON and back. Numbers of wide matrices are stored column-wise: 50,000 columns stay small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descend.errors import ModelFileError
from descend.features.encoders import Category, Encoder, Moment, Number
from descend.sources.arrays import column_names

if TYPE_CHECKING:
    from descend.features.features import Features

VERSION = 1


def dump(features: Features) -> dict[str, Any]:
    """A JSON-safe dict; Python writes floats so that they read back exactly."""
    numbers = [(p, e) for p, e in features.encoders if isinstance(e, Number)]
    names = features.input_names
    return {
        "version": VERSION,
        "is_matrix": features.is_matrix,
        "standardize": features.standardize,
        "centred": features.centred,
        "inputs": len(names) if names == column_names(len(names)) else list(names),
        "numbers": {
            "at": [p for p, _ in numbers],
            "mean": [e.fill for _, e in numbers],
            "scale": [e.scale for _, e in numbers],
            "constant": [p for p, e in numbers if not e.has_value],
            "missing": [p for p, e in numbers if e.tells_missing],
        },
        "categories": [
            {"at": p, "levels": list(e.levels), "other": e.has_other, "missing": e.has_missing}
            for p, e in features.encoders
            if isinstance(e, Category)
        ],
        "dates": [
            {
                "at": p,
                "kind": e.kind,
                "mean": e.fill,
                "scale": e.scale,
                "elapsed": e.has_elapsed,
                "cycles": list(e.cycles),
                "missing": e.tells_missing,
            }
            for p, e in features.encoders
            if isinstance(e, Moment)
        ],
        "notes": list(features.notes),
    }


def load(stored: dict[str, Any]) -> dict[str, Any]:
    """The arguments of Features, from what ``dump`` wrote."""
    if stored.get("version") != VERSION:
        raise ModelFileError(
            f"features of version {stored.get('version')!r} cannot be read; this descend reads version "
            f"{VERSION}: "
            "install a newer one"
        )
    try:
        return _load(stored)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ModelFileError(f"the stored features are damaged ({type(error).__name__}: {error})") from None


def _load(stored: dict[str, Any]) -> dict[str, Any]:
    inputs = stored["inputs"]
    names = column_names(inputs) if isinstance(inputs, int) else tuple(inputs)
    standardize = bool(stored["standardize"])
    shifts = standardize and bool(stored.get("centred", True))  # older files do not say it
    found: dict[int, Encoder] = {}
    numbers = stored["numbers"]
    constant, told = set(numbers["constant"]), set(numbers["missing"])
    for p, fill, scale in zip(numbers["at"], numbers["mean"], numbers["scale"], strict=True):
        mean = fill if shifts and p not in constant else 0.0
        found[p] = Number(names[p], mean, scale, fill, p not in constant, p in told)
    for c in stored["categories"]:
        found[c["at"]] = Category(names[c["at"]], tuple(c["levels"]), c["other"], c["missing"])
    for m in stored["dates"]:
        mean = m["mean"] if shifts and m["elapsed"] else 0.0
        found[m["at"]] = Moment(
            names[m["at"]],
            m["kind"],
            mean,
            m["scale"],
            m["mean"],
            m["elapsed"],
            tuple(m["cycles"]),
            m["missing"],
        )
    return {
        "input_names": names,
        "encoders": sorted(found.items()),
        "is_matrix": bool(stored["is_matrix"]),
        "standardize": standardize,
        "centred": bool(stored.get("centred", True)),
        "notes": tuple(stored["notes"]),
    }
