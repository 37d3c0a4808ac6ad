"""Coordinate descent on a quadratic with L1: one weight after another to where it is lowest, the others kept.

The curvature is

    diagonal + scale · blocks of H + U M Uᵀ

over f free numbers: H (q, q) is repeated along the diagonal, once for each output, and number i stands at
``place[i]`` among the blocks; U (f, r) is what L-BFGS remembers. Either part may be empty.
"""

from __future__ import annotations

from descend.engines.compiled import inline, kernel
from descend.objectives.penalties import shrunk
from descend.types import FloatArray, IntArray

inline(shrunk)

Curvature = tuple[FloatArray, FloatArray, float, IntArray, FloatArray, FloatArray]
"""``diagonal``, H, ``scale``, ``place``, U, and U M."""

Along = tuple[FloatArray, FloatArray]
"""H · move (blocks · q,) and Uᵀ · move (r,): how far from the start the point is, as the curvature has it."""


@kernel
def descend_by_coordinates(
    curvature: Curvature,
    bends: FloatArray,
    gradient: FloatArray,
    strengths: FloatArray,
    start: FloatArray,
    point: FloatArray,
    along: Along,
    sweeps: int,
    enough: float,
) -> float:
    """Sweeps over ``point`` (f,); returns Σ bend · change² of the last sweep over all, 0 if hardly any was needed.

    ``bends`` (f,) is the curvature along each number alone, ``gradient`` that at ``start``; ``along`` is kept up to
    date. Between two sweeps over all numbers go some over those that are not 0.
    """
    diagonal, H, scale, place, U, UM = curvature
    along_H, along_U = along
    f, q, r = point.size, H.shape[0], U.shape[1]
    everything = True
    changed = 0.0
    whole = 0.0
    for _ in range(sweeps):
        changed = 0.0
        for i in range(f):
            strength = strengths[i]
            if not everything and point[i] == 0.0 and strength > 0.0:
                continue
            slope = gradient[i] + diagonal[i] * (point[i] - start[i])
            if q:
                slope += scale * along_H[place[i]]
            for m in range(r):
                slope += UM[i, m] * along_U[m]
            wanted = shrunk(point[i] - slope / bends[i], strength / bends[i])
            move = wanted - point[i]
            if move == 0.0:
                continue
            point[i] = wanted
            changed += bends[i] * move * move
            if q:
                at = place[i] % q
                first = place[i] - at
                for j in range(q):
                    along_H[first + j] += move * H[at, j]
            for m in range(r):
                along_U[m] += move * U[i, m]
        if everything:
            whole = changed
            if changed <= enough:
                return 0.0
            everything = False
        elif changed <= 0.1 * enough:
            everything = True
    return whole
