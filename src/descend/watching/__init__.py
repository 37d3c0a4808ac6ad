"""Everything that looks at a run without being part of it (``watch.py``), and what it goes by."""

from descend.watching.certificate import may_be_left
from descend.watching.flatness import FEWEST_UPDATES
from descend.watching.keepers import Saver, Tuner
from descend.watching.limits import Limits
from descend.watching.losses import Kept, Sample
from descend.watching.observation import Callback, Observation
from descend.watching.observing import BLOW_UP, LOOK_SECONDS
from descend.watching.place import Place
from descend.watching.watch import Watch

__all__ = [
    "BLOW_UP",
    "FEWEST_UPDATES",
    "LOOK_SECONDS",
    "Callback",
    "Kept",
    "Limits",
    "Observation",
    "Place",
    "Sample",
    "Saver",
    "Tuner",
    "Watch",
    "may_be_left",
]
