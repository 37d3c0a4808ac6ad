"""The benchmark of plans: when answers agree."""

import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
plans = import_module("benchmarks.plans")


def test_answers_agree_within_a_factor_of_two_or_in_every_others_set():
    """One set that leaves out another plan's answer is enough to disagree."""
    assert plans.agreement([32, 64, 32], [(32, 32), (64, 64), (32, 32)]) == "within 2 ×"
    assert plans.agreement([16, 64], [(8, 64), (16, 128)]) == "equivalent"
    assert plans.agreement([16, 64], [(8, 64), (32, 128)]) == "no"
    assert plans.agreement([16, 64, 64], [(16, 64), (16, 64), (64, 64)]) == "no"
