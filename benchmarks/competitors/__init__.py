"""The competitors, each in the form that its own documents recommend. One thread each."""

from benchmarks.competitors.bare_read import BareRead
from benchmarks.competitors.base import Competitor
from benchmarks.competitors.jax_scan import Jax
from benchmarks.competitors.loops import NumPy, PyTorch, PyTorchByHand
from benchmarks.competitors.one_row import River, VowpalWabbit
from benchmarks.competitors.ours import Descend, DescendFit
from benchmarks.competitors.scikit_learn import ScikitLearn

COMPETITORS: tuple[type[Competitor], ...] = (
    Descend,
    DescendFit,
    ScikitLearn,
    Jax,
    NumPy,
    PyTorchByHand,
    PyTorch,
    VowpalWabbit,
    River,
    BareRead,
)

LEFT_OUT = {
    "SnapML": "its solvers are coordinate descent, and its one SGD adds noise for privacy: no epoch of this kind",
    "PyTorch torch.compile": "compiling took 38 s for one shape of the step by hand, and took it from 84 to 61 µs",
}
"""What was looked at and does not run here, and why."""

__all__ = ["COMPETITORS", "LEFT_OUT", "Competitor"]
