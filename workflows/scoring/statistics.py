"""Statistics of the scores of many cases, each with the number of cases behind it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflows.scoring.per_case_csv import EMPTY_MASKS, Row
from workflows.scoring.score_list import IN_SUMMARY

LESION_COUNTS = tuple(score.name for score in IN_SUMMARY if score.unit == "lesions")
CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
MOST_AT_ONCE = 10**6  # figures drawn together: 8 MB
INTERVAL_METHOD = {
    "of": "the mean over cases",
    "confidence": CONFIDENCE,
    "method": "bootstrap over cases, bias-corrected and accelerated (scipy.stats.bootstrap, BCa)",
    "resamples": RESAMPLES,
    "seed": SEED,
    "none_where": "one case, or the same value in all",
}
FEW_CASES = 10
WORST_CASES = 3


def summarise(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """The statistics of each region, by its name: number of cases, `describe` of every score, lesions, empty masks,
    worst cases. The order of the cases changes nothing.
    """
    by_region: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_region[row["region"]].append(row)
    over_cases: dict[str, Callable[[Sequence[float]], Any]] = {"sum": sum, "statistics": describe}
    return {
        region: {
            "cases": len(cases),
            **{score.name: over_cases[score.over_cases]([row[score.name] for row in cases]) for score in IN_SUMMARY},
            "empty": count_empty(cases),
            "worst": worst_cases(cases),
        }
        for region, cases in by_region.items()
    }


def describe(values: Sequence[float]) -> dict[str, Any]:
    """Mean, median, quartiles (linear interpolation, Hyndman and Fan's type 7), extremes and interval of the mean."""
    ordered = np.sort(np.array(values, dtype=float))  # sorted: the interval must not depend on the cases' order
    first, median, third = np.quantile(ordered, (0.25, 0.5, 0.75))
    return {
        "mean": math.fsum(ordered) / len(ordered),
        "median": float(median),
        "quartiles": [float(first), float(third)],
        "range": [float(ordered[0]), float(ordered[-1])],
        "interval": mean_interval(ordered),
    }


def mean_interval(values: NDArray[np.float64]) -> list[float] | None:
    """The 95 % bootstrap interval of the mean, see `INTERVAL_METHOD`.

    Args:
        values: (N,), in an order that does not depend on that of the cases.
    """
    if len(values) < 2 or values.min() == values.max():
        return None
    from scipy.stats import bootstrap

    drawn = bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, MOST_AT_ONCE // len(values)),
        confidence_level=CONFIDENCE,
        method="BCa",
        random_state=np.random.default_rng(SEED),
    )
    low, high = (float(end) for end in drawn.confidence_interval)
    return [low, high] if math.isfinite(low) and math.isfinite(high) else None


def interval_in_words(cases: int, of: str) -> str:
    """What the brackets in the tables hold, with a warning where there are few cases."""
    few = f" Of {cases} cases it is narrower than it should be." if cases < FEW_CASES else ""
    return f"In brackets: 95 % interval of {of}, {INTERVAL_METHOD['method']}.{few}"


def count_empty(rows: Sequence[Row]) -> dict[str, int]:
    """How many cases have their scores from each rule for empty masks, and how many have no lesion to score."""
    counts = {f"{which}_empty": sum(row["empty"] == which for row in rows) for which in EMPTY_MASKS if which != "no"}
    return counts | {"no_lesion_scored": sum(not any(row[name] for name in LESION_COUNTS) for row in rows)}


def worst_cases(rows: Iterable[Row], how_many: int = WORST_CASES) -> list[dict[str, Any]]:
    """The cases of the lowest Dice, worst first; of equal ones those of the greater HD95."""
    ordered = sorted(rows, key=lambda row: (row["dice"], -row["hd95_mm"], row["case"]))
    return [{name: row[name] for name in ("case", "dice", "hd95_mm", "empty")} for row in ordered[:how_many]]
