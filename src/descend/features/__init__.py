"""From columns to numbers: one mergeable pass of statistics, then encoding; it travels with the model."""

from descend.features.features import Features
from descend.features.prepare import Prepared, prepare
from descend.features.statistics import Statistics
from descend.features.target import Target
from descend.features.target_statistics import TargetStatistics

__all__ = ["Features", "Prepared", "Statistics", "Target", "TargetStatistics", "prepare"]
