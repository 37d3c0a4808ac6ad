"""When a run ends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run ends."""

    epochs: int
    seconds: float | None = None
    tol: float | None = 1e-3
    """Ends when the last quarter of the epochs gained less than a tenth of this share of all that was gained;
    None: never. A tenth, because what is left is several times the last gain where progress is slow."""
    patience: int = 5
    """The least number of epochs that a quarter is taken for."""
    early_stopping: bool = False
    certify: bool = False
    """Ends when the estimated gap is below ``tol`` of what was gained (``engines/certificate.py``)."""
    never_negative: bool = False
    """No objective of this loss is below 0: no more than the objective itself is left to gain."""
    asked: float | None = None
    """``tol`` as it was asked for, where a smaller one is attempted."""
    close: bool = False
    """The certificate's own step may be taken as the last one."""
    by_batches: bool = False
    """An epoch over batches is followed by others."""
    constant: float | None = None
    """The loss of the best constant model, from which gains are counted; None: from where the run began."""
    rounding: float = 1e-7
    """What is left to gain below this share of the first loss cannot be told from rounding."""
    plateau: bool = False
    """The rate falls where the loss does not: the schedule "plateau"."""
    exact: bool = False
    """The caller asked for so many epochs: what they end with is returned, and not the best on the way."""
    dense: bool = False
    """Look often from the first step on, at row counts that grow by ``growth``: for curves."""
    growth: float = 1.1
    thrifty: bool = False
    """Looks cost little beside the steps between them (``sparing.py``): rows lie in random order, and no curve is
    held against another."""

    @property
    def by_sample(self) -> bool:
        """Whether ends of epochs read a sample of the training rows: their loss decides on nothing."""
        return self.thrifty and (self.early_stopping or self.exact) and not (self.certify or self.plateau)
