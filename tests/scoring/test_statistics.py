"""Statistics of scores, by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.scoring.per_case_csv import COLUMNS
from workflows.scoring.score_list import SCORES
from workflows.scoring.statistics import (
    RESAMPLES,
    count_empty,
    describe,
    interval_in_words,
    mean_interval,
    summarise,
    worst_cases,
)


def row(case: str, region: str = "WT", **figures: Any) -> dict[str, Any]:
    """Zeros, except for `figures`."""
    zeros = {score.name: 0 if score.over_cases == "sum" else 0.0 for score in SCORES}
    named = {"case": case, "region": region, "empty": "no", **zeros, **figures}
    return {name: named[name] for name in COLUMNS}


def test_mean_median_quartiles_and_range_of_five_figures():
    of = describe([0.9, 0.1, 0.5, 0.8, 0.7])  # in order: 0.1 0.5 0.7 0.8 0.9
    assert of["mean"] == pytest.approx(0.6)
    assert of["median"] == 0.7
    assert of["quartiles"] == [0.5, 0.8]
    assert of["range"] == [0.1, 0.9]


def test_quartiles_of_four_figures_lie_between_two():
    assert describe([0.0, 1.0, 2.0, 3.0])["quartiles"] == [0.75, 2.25]


def test_one_case_has_no_interval_and_neither_have_equal_ones():
    assert describe([0.5])["interval"] is None
    assert describe([1.0, 1.0, 1.0])["interval"] is None


def test_the_interval_of_two_cases_reaches_from_one_to_the_other():
    assert mean_interval(np.array([0.25, 0.75])) == [0.25, 0.75]  # a quarter of the resamples each


def test_the_interval_of_many_cases_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    low, high = mean_interval(values)  # type: ignore[misc]  # None is for one case
    half = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert RESAMPLES >= 2000


@pytest.mark.parametrize(("cases", "warned"), [(9, True), (10, False)])
def test_intervals_of_fewer_than_ten_cases_come_with_a_warning(cases: int, warned: bool):
    assert ("narrower than it should be" in interval_in_words(cases, "the mean")) == warned


def test_worst_cases_have_the_lowest_dice_and_of_equal_ones_the_greater_distance():
    rows = [row("A", dice=0.9), row("B", dice=0.0, hd95_mm=10), row("C", dice=0.0, hd95_mm=373), row("D", dice=0.3)]
    assert [worst["case"] for worst in worst_cases(rows)] == ["C", "B", "D"]


def test_cases_touched_by_a_rule_are_counted_by_rule():
    rows = [row("A", empty="both"), row("B", empty="prediction", lesions_missed=1), row("C", lesions_found=2)]
    rows += [row("D", empty="reference", lesions_invented=3), row("E", empty="both"), row("F")]
    counts = {"both_empty": 2, "prediction_empty": 1, "reference_empty": 1, "no_lesion_scored": 3}  # A, E, F
    assert count_empty(rows) == counts


def test_regions_are_kept_apart_and_lesions_are_summed():
    rows = [row("A", dice=0.2, lesions_found=1), row("A", "ET", dice=1.0), row("B", dice=0.4, lesions_found=2)]
    summary = summarise(rows)
    assert list(summary) == ["WT", "ET"]
    assert (summary["WT"]["cases"], summary["ET"]["cases"]) == (2, 1)
    assert summary["WT"]["dice"]["mean"] == pytest.approx(0.3)
    assert (summary["WT"]["lesions_found"], summary["ET"]["lesions_found"]) == (3, 0)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 374)), min_size=1, max_size=12), st.randoms())
def test_the_order_of_the_cases_changes_nothing(scores: list[tuple[float, float]], shuffler: random.Random):
    rows = [row(f"case {n}", dice=dice, hd95_mm=hd95) for n, (dice, hd95) in enumerate(scores)]
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert summarise(shuffled) == summarise(rows)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_figures_lie_in_their_order(values: list[float]):
    of = describe(values)
    (low, high), (first, third) = of["range"], of["quartiles"]
    assert low <= first <= of["median"] <= third <= high
    assert low - 1e-12 <= of["mean"] <= high + 1e-12
    if of["interval"]:
        assert low - 1e-12 <= of["interval"][0] <= of["interval"][1] <= high + 1e-12
