"""Means over cases, and whether one experiment scores them better than another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.result_files import Figures
from transforms.labels import REGIONS

BASELINE = "plain"
BASELINE_ON_GPU = "nnunet"
"""The experiments that others are compared with."""
RESAMPLES = 10_000

Cases = dict[str, dict[str, Any]]
"""The scores of each case."""


def cases_of(figures: dict[int, Figures], numbers: tuple[int, ...]) -> Cases:
    """The scores of all cases of some folds, by case."""
    return {case: s for number in numbers if number in figures for case, s in figures[number]["cases"].items()}


def after_cleaning(cases: Cases) -> Cases:
    """The scores of the cleaned label maps, by case."""
    return {case: scores["cleaned"] for case, scores in cases.items()}


def means(cases: Cases, figure: str, digits: int) -> list[str]:
    """Mean of a figure over the cases, by region, as text."""
    return [f"{np.mean([scores[region][figure] for scores in cases.values()]):.{digits}f}" for region in REGIONS]


def mean_dice(scores: dict[str, Any]) -> float:
    """Mean over the regions of one case."""
    return float(np.mean([scores[region]["dice"] for region in REGIONS]))


def paired_difference(
    cases: Cases,
    baseline: Cases,
    figure: Callable[[dict[str, Any]], float] = mean_dice,
) -> tuple[float, float, float]:
    """Mean difference of a case's figure over the cases, and the ends of its 95 % bootstrap interval."""
    differences = np.array([figure(scores) - figure(baseline[case]) for case, scores in cases.items()])
    drawn = np.random.default_rng(0).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)


def in_words(difference: tuple[float, float, float]) -> str:
    """A difference and its interval as text."""
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference)


def verdict(difference: tuple[float, float, float] | None) -> str:
    """Whether the interval lies on one side of zero."""
    if difference is None:
        return "baseline"
    _, low, high = difference
    return "better" if low > 0 else "worse" if high < 0 else "open"
