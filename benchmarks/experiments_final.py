"""The section *Final* of docs/results.md: the default configuration against *plain*, cross-validated on real cases."""

from __future__ import annotations

from typing import Any

import numpy as np
from experiments_table import BASELINE, after_cleaning, cases_of, in_words, mean_dice, means, paired_difference
from measuring import table
from results_page import paragraph, replace_section

from transforms.labels import REGIONS

FINAL = "final"

ABOUT = """\
*Real* cases: cross-validation over {cases} cases in {folds} folds, each case scored by a network that was not
trained on it, by the protocol of [experiments.md](experiments.md): no epoch is chosen on the scored cases. *final*
is `train.json` with the post-processing of `inference.json`, one network, no test-time flips; *plain* is the
baseline, as it is and *cleaned* by the same post-processing. Whole volumes at 1 mm, BraTS's rules for empty
regions; FP is the predicted volume on axial slices without tumour. What final changes was chosen on folds 0 to 2,
and its changes of tissue contrast were thought of while looking at errors on fold 1: the figures flatter by that.
Command: `BRATS_REAL_DATA=DIR python benchmarks/experiments.py run plain final`, {date}, {cores} cores that other
programs used too, no GPU."""

Cases = dict[str, dict[str, Any]]


def write_final(results: dict[str, dict[int, dict[str, Any]]], folds: int) -> None:
    """Write the section where both were measured on all folds; leave it as it is where they were not."""
    every = tuple(range(folds))
    if all(set(every) == set(results.get(name, {})) for name in (BASELINE, FINAL)):
        replace_section("Final", section(results[BASELINE], results[FINAL], every))


def section(plain: dict[int, dict[str, Any]], final: dict[int, dict[str, Any]], folds: tuple[int, ...]) -> str:
    plain_cases, final_cases = cases_of(plain, folds), cases_of(final, folds)
    cleaned = after_cleaning(plain_cases)
    first = final[folds[0]]
    about = ABOUT.format(cases=len(final_cases), folds=len(folds), date=first["date"], cores=first["cores"])
    rows = [
        figures("plain", plain_cases, cost(plain)),
        figures("plain, cleaned", cleaned, cost(plain)),
        figures("final", final_cases, cost(final)),
    ]
    columns = ["", "cases", "Dice WT", "TC", "ET", "HD95 mm WT", "TC", "ET", "FP ml", "CPU min of training per fold"]
    text = [paragraph(about), "", table(columns, rows), ""]
    changes = [
        [f"final − {name}", *(difference(final_cases, other, region) for region in (*REGIONS, None))]
        for name, other in (("plain", plain_cases), ("plain, cleaned", cleaned))
    ]
    text += [table(["paired difference of Dice [95 %]", *REGIONS, "mean"], changes), ""]
    by_case = [[case, *(f"{s[region]['dice']:.3f}" for region in REGIONS)] for case, s in sorted(final_cases.items())]
    text += ["Case by case, *final*:", "", table(["case", *(f"Dice {region}" for region in REGIONS)], by_case)]
    return "\n".join(text)


def figures(name: str, cases: Cases, minutes: float) -> list[str]:
    false_ml = np.mean([scores["false_positive_ml"] for scores in cases.values()])
    return [
        *(name, str(len(cases)), *means(cases, "dice", 3), *means(cases, "hd95_mm", 1)),
        *(f"{false_ml:.2f}", f"{minutes:.0f}"),
    ]


def cost(figures: dict[int, dict[str, Any]]) -> float:
    return float(np.mean([fold["training"]["cpu_seconds"] for fold in figures.values()])) / 60


def difference(cases: Cases, baseline: Cases, region: str | None) -> str:
    def dice(scores: dict[str, Any]) -> float:
        return float(scores[region]["dice"]) if region else mean_dice(scores)

    return in_words(paired_difference(cases, baseline, dice))
