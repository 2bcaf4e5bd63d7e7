"""The section *Final* of docs/results.md: the default configuration against *plain*, cross-validated on real cases."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.results_page import paragraph, replace_section, table
from experiments.differences import (
    BASELINE,
    Cases,
    after_cleaning,
    cases_of,
    in_words,
    mean_dice,
    means,
    paired_difference,
)
from experiments.result_files import Figures, Results
from transforms.labels import REGIONS

FINAL = "amp_long"
"""The default, in training and prediction."""

ABOUT = """\
*Real* cases: cross-validation over {cases} cases in {folds} folds, each case scored by a network that was not
trained on it, by the protocol of [experiments.md](experiments.md): no epoch is chosen on the scored cases.
*{final}* is `train.json` and `inference.json`: 40 epochs, in bfloat16, one network, no test-time flips; *plain* is
the baseline, as it is and *cleaned*: nothing left but the largest connected tumour inside the brain; {others}.
Whole volumes at 1 mm,
BraTS's rules for empty regions; FP is the predicted volume on axial slices without tumour. What final changes was
chosen on folds 0 to 2, the number of epochs on folds 0 and 1, the changes of tissue contrast were thought of while
looking at errors on fold 1, what slices are computed again on all folds, and the two numbers of
`transforms/decision.py` on all folds and the eight cases of *Weights from six cases*: the figures flatter by that.
Command: `BRATS_REAL_DATA=DIR python -m experiments run {names}`, {date}, {cores}
cores that other programs used too, no GPU."""

OTHERS = {
    "final": "*final* was the default before: 20 epochs in float32, and no post-processing but that of *cleaned*",
    "final_expected_dice": "*final_expected_dice* are its networks with the post-processing of today",
    "final_short": "*final_short* is final with 8 epochs, at about plain's cost",
    "plain_long": "*plain_long* is plain with 28 epochs, in about twenty minutes",
}
"""Experiments that stand beside, once they are measured on all folds."""
ORDER = (BASELINE, "final_short", "plain_long", "final", "final_expected_dice", FINAL)


def write_final(results: Results, folds: int) -> None:
    """Write the section where both were measured on all folds; leave it as it is where they were not."""
    every = tuple(range(folds))
    whole = {name: of for name, of in results.items() if set(of) == set(every)}
    if BASELINE in whole and FINAL in whole:
        replace_section("Final", section(whole, every))


def section(results: Results, folds: tuple[int, ...]) -> str:
    """The section of the page on the final network."""
    others = [name for name in OTHERS if name in results]
    names = sorted([BASELINE, *others, FINAL], key=ORDER.index)
    cases = {name: cases_of(results[name], folds) for name in names}
    cleaned = {f"{name}, cleaned": after_cleaning(cases[name]) for name in names if name.startswith(BASELINE)}
    first, final = results[FINAL][folds[0]], cases[FINAL]
    about = ABOUT.format(
        final=FINAL,
        cases=len(final),
        folds=len(folds),
        others="; ".join(OTHERS[name] for name in others) or "nothing else is compared",
        names=" ".join(names),
        date=first["date"],
        cores=first["cores"],
    )
    shown = {**cases, **cleaned}
    order = sorted(shown, key=lambda name: names.index(name.partition(",")[0]))
    rows = [figures(name, shown[name], cost(results[name.partition(",")[0]])) for name in order]
    columns = ["", "cases", "Dice WT", "TC", "ET", "HD95 mm WT", "TC", "ET", "FP ml", "CPU min of training per fold"]
    text = [paragraph(about), "", table(columns, rows), ""]
    changes = [
        [f"{FINAL} − {name}", *(difference(final, shown[name], region) for region in (*REGIONS, None))]
        for name in order
        if name != FINAL
    ]
    text += [table(["paired difference of Dice [95 %]", *REGIONS, "mean"], changes), ""]
    by_case = [[case, *(f"{s[region]['dice']:.3f}" for region in REGIONS)] for case, s in sorted(final.items())]
    text += [f"Case by case, *{FINAL}*:", "", table(["case", *(f"Dice {region}" for region in REGIONS)], by_case)]
    return "\n".join(text)


def figures(name: str, cases: Cases, minutes: float) -> list[str]:
    """A row of the table: cases, Dice, HD95, false positives and minutes."""
    false_ml = np.mean([scores["false_positive_ml"] for scores in cases.values()])
    return [
        *(name, str(len(cases)), *means(cases, "dice", 3), *means(cases, "hd95_mm", 1)),
        *(f"{false_ml:.2f}", f"{minutes:.0f}"),
    ]


def cost(figures: dict[int, Figures]) -> float:
    """Mean CPU time of a training in minutes."""
    return float(np.mean([fold["training"]["cpu_seconds"] for fold in figures.values()])) / 60


def difference(cases: Cases, baseline: Cases, region: str | None) -> str:
    """Mean paired difference of a region's Dice, or of the mean over regions, with its interval."""

    def dice(scores: dict[str, Any]) -> float:
        return float(scores[region]["dice"]) if region else mean_dice(scores)

    return in_words(paired_difference(cases, baseline, dice))
