"""The page docs/experiments.md from the figures in results/: one row per experiment."""

from __future__ import annotations

import json

import numpy as np

from benchmarks.results_page import ROOT
from experiments.differences import (
    BASELINE,
    BASELINE_ON_GPU,
    RESAMPLES,
    Cases,
    after_cleaning,
    cases_of,
    in_words,
    means,
    paired_difference,
    verdict,
)
from experiments.folds import FOLDS, read_folds
from experiments.overlay import load_experiment
from experiments.result_files import ON_GPU, RESULTS, Figures, Results, read_results
from transforms.files import write_whole

PAGE = ROOT / "docs" / "experiments.md"

INTRODUCTION = """\
# Experiments

Every change of the configuration that was measured, kept or not. This page is written by
`python -m experiments table` from the figures in [experiments/results](../experiments/results), one file per
experiment.

## Protocol

Fixed before any tuning. *Real* cases: {cases} BraTS cases, whose ids stand in
[folds.json](../experiments/folds.json), in {folds} folds (shuffled with seed {seed}). An experiment is an
overlay of `train.json` in [experiments/overlays](../experiments/overlays); it is trained on all folds but one
and scored on that one:

- whole volumes on the cases' own grid; Dice and HD95 (mm) of WT, TC and ET by BraTS's definitions and rules for empty
  regions; FP: volume of predicted tumour on axial slices whose reference has none (ml); all are means over the cases;
- the weights after the last epoch are scored, so that nothing is chosen on the fold (the run validates once, at its
  end);
- a budget is counted in epochs, so that scores do not depend on what else the machine does. Cost is CPU minutes per
  fold, training alone. Wall clock is in the files: **the machine, 2 cores, was shared with other work**, so it says
  little;
- each Δ is the mean over the cases of the paired difference to *{baseline}* on the same cases, of the mean Dice of the
  three regions, with the 95 % interval of {resamples} bootstrap resamples of the cases. With so few cases intervals are
  wide: they say what the cases seen support, and nothing of the spread between seeds, for every row is one seed;
- "cleaned": the same predictions with nothing left but the largest connected tumour inside the brain, the
  post-processing that takes away most false alarms (*plain* calls parts of empty slices tumour), so that these do not
  hide what else a change does;
- verdict, from the cleaned predictions: *better* where the interval lies above 0, *worse* where it lies below, else
  *open*; *so far* until all folds are measured, for an interval from three or four cases is too narrow. An experiment
  that cleans on its own is compared uncleaned.

Each row: `BRATS_REAL_DATA=DIR python -m experiments run NAME --folds …`; *nnunet*, which had a GPU:
`python -m experiments.nnunet`.
"""


ABOUT_GPU = """\
The tables below are of trainings on one NVIDIA H200, in bfloat16 (files in experiments/results/gpu), each Δ against
*{baseline}* there; how they shared the GPU, for how long, and what the comparison does not show stands in
[results.md](results.md#beside-nnu-net). *epochs* are each one's own, nnU-Net's of 250 steps. Minutes of GPU are wall
clock of the whole training process, but of nnU-Net without its start-up and preprocessing, and means over the folds of
which they were kept.
"""


def write_page() -> None:
    """Write the page from all figures there are."""
    folds, results, on_gpu = read_folds(), read_results(RESULTS), read_results(ON_GPU)
    text = INTRODUCTION.format(
        cases=sum(map(len, folds)),
        folds=len(folds),
        seed=json.loads(FOLDS.read_text())["seed"],
        baseline=BASELINE,
        resamples=f"{RESAMPLES:,}".replace(",", " "),
    )
    text += sections(results, len(folds))
    if on_gpu:
        about = ABOUT_GPU.format(baseline=BASELINE_ON_GPU)
        text += f"\n{about}" + sections(on_gpu, len(folds), " on a GPU", BASELINE_ON_GPU)
    text += f"\n## What each one changes\n\n{changes(sorted({*results, *on_gpu}))}\n"
    write_whole(PAGE, lambda path: path.write_text(text))


def sections(results: Results, folds: int, where: str = "", baseline: str = BASELINE) -> str:
    """A heading and a table for each set of folds that experiments were run on."""
    by_folds: dict[tuple[int, ...], list[str]] = {}
    for name, figures in results.items():
        by_folds.setdefault(tuple(figures), []).append(name)
    ordered = sorted(by_folds.items(), key=lambda item: (-len(item[0]), item[0]))
    return "".join(
        f"\n## {title(numbers, folds)}{where}\n\n{table(names, results, numbers, baseline)}\n"
        for numbers, names in ordered
    )


def title(numbers: tuple[int, ...], folds: int) -> str:
    """Which folds a section is about."""
    if len(numbers) == folds:
        return f"All {folds} folds"
    return f"Fold{'s' * (len(numbers) > 1)} {' and '.join(map(str, numbers))}"


def table(
    names: list[str],
    results: Results,
    numbers: tuple[int, ...],
    compared_with: str = BASELINE,
) -> str:
    """Markdown; the baseline on the same folds stands above, whatever other folds it was run on."""
    columns = ["experiment", "cases", "WT", "TC", "ET", "HD95 WT", "TC", "ET", "FP ml", "Δ Dice [95 %]"]
    columns += ["cleaned: WT", "TC", "ET", "FP ml", "Δ Dice [95 %]", "epochs", "CPU min", "verdict"]
    lines = ["| " + " | ".join(columns) + " |", "| --- |" + " ---: |" * (len(columns) - 2) + " --- |"]
    baseline = cases_of(results.get(compared_with, {}), numbers)
    has_baseline = set(numbers) <= set(results.get(compared_with, {}))
    for name in dict.fromkeys([*([compared_with] if has_baseline else []), *names]):
        figures = {number: results[name][number] for number in numbers}
        cases = cases_of(figures, numbers)
        lines.append(row(name, figures, cases, baseline if has_baseline and name != compared_with else None))
    return "\n".join(lines)


def row(
    name: str,
    figures: dict[int, Figures],
    cases: Cases,
    baseline: Cases | None,
) -> str:
    """A row of the table: scores, cost, and the difference from the baseline."""
    first = next(iter(figures.values()))
    cost = f"(of {first['weights_of']})" if first["weights_of"] else cost_of_training(figures)
    total = sum(map(len, read_folds()))
    cleaned, cleaned_baseline = after_cleaning(cases), after_cleaning(baseline) if baseline else None
    cleans = not first["evaluate"].keys().isdisjoint(("largest_component_only", "brain_only"))
    difference = None
    if baseline and cleaned_baseline:
        compared = (cases, baseline) if cleans else (cleaned, cleaned_baseline)
        difference = paired_difference(*compared)
    decided = verdict(difference) + (" so far" if difference and len(cases) < total else "")
    cells = [name, str(len(cases)), *means(cases, "dice", 3), *means(cases, "hd95_mm", 1)]
    cells += [*outcome(cases, baseline), *means(cleaned, "dice", 3), *outcome(cleaned, cleaned_baseline)]
    return "| " + " | ".join([*cells, str(first["epochs"]), cost, load_experiment(name).verdict or decided]) + " |"


def cost_of_training(figures: dict[int, Figures]) -> str:
    """Mean minutes of CPU per fold, and those on a GPU where there was one."""
    kept = [fold["training"] for fold in figures.values() if fold["training"]["cpu_seconds"] is not None]
    if not kept:
        return "–"
    cpu, wall = (np.mean([cost[f"{clock}_seconds"] for cost in kept]) for clock in ("cpu", "wall"))
    on_gpu = any(fold.get("device", "cpu") != "cpu" for fold in figures.values())
    return f"{cpu / 60:.0f}" + (f" and {wall / 60:.1f} of GPU" if on_gpu else "")


def outcome(cases: Cases, baseline: Cases | None) -> tuple[str, str]:
    """False-positive volume, and the difference to the baseline."""
    change = in_words(paired_difference(cases, baseline)) if baseline else "–"
    return f"{np.mean([scores['false_positive_ml'] for scores in cases.values()]):.2f}", change


def changes(names: list[str]) -> str:
    """The table of what each experiment changes."""
    experiments = [load_experiment(name) for name in names]
    lines = ["| experiment | based on | change |", "| --- | --- | --- |"]
    return "\n".join(
        lines
        + [f"| {e.name} | {e.based_on or ('–' if e.command else 'train.json')} | {e.change} |" for e in experiments]
    )
