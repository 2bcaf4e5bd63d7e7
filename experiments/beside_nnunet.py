"""The section *Beside nnU-Net* of docs/results.md: the outside yardstick and the default, trained on one GPU."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.results_page import paragraph, replace_section, table
from experiments.differences import BASELINE_ON_GPU, Cases, after_cleaning, cases_of, means
from experiments.final import FINAL, difference
from experiments.result_files import Figures, Results

LONGER = "amp_80"

ABOUT = """\
*Real* cases, the same {cases} in the same {folds} folds, on one {gpu} with {cores} cores, {date}. nnU-Net v2 in its
configuration 2d, from the same two modalities and by its own defaults but for a learning rate that falls to zero in
the time given: {given} seconds of training, its {folds} folds side by side. Then *{final}*, {epochs} epochs, and
*{longer}*, the same with {more_epochs}, {at_a_time} trainings side by side: {seconds} seconds and, of the folds whose
cost was kept, {more_seconds}, start-up included; {notes}. The rows stand in
[experiments.md](experiments.md#all-4-folds-on-a-gpu); commands: `python -m experiments.nnunet run FOLDER --seconds
{given}` and `score FOLDER`, `python -m experiments run {longer} {final} --jobs {at_a_time} --results
experiments/results/gpu`, and `python -m experiments table` for this section. Mean Dice WT / TC / ET:"""

NOT_SHOWN = """\
**What this does not show**: how nnU-Net does in the 1000 epochs of 250 steps that it is made for; these were
{epochs:.0f}. Its folds averaged, its 3D configurations and its choice of post-processing were not tried either."""


def write_beside_nnunet(on_gpu: Results, results: Results, folds: int) -> None:
    """Write the section where all three were measured on all folds; leave it as it is where they were not."""
    every = tuple(range(folds))
    if all(set(on_gpu.get(name, {})) == set(every) for name in (BASELINE_ON_GPU, FINAL, LONGER)):
        replace_section("Beside nnU-Net", section(on_gpu, results, every))


def section(on_gpu: Results, results: Results, folds: tuple[int, ...]) -> str:
    """The section of the page that compares with nnU-Net."""
    names = {BASELINE_ON_GPU: "nnU-Net 2d", FINAL: FINAL, LONGER: LONGER}
    cases = {name: cases_of(on_gpu[name], folds) for name in names}
    cleaned = {name: after_cleaning(of) for name, of in cases.items()}
    rows = [[title, in_one(cases[name]), in_one(cleaned[name])] for name, title in names.items()]
    on_cpu = cases_of(results[FINAL], folds)
    changes = [
        [f"{FINAL} − nnU-Net", difference(cases[FINAL], cases[BASELINE_ON_GPU], None)],
        [
            "the same, of both nothing left but the largest tumour",
            difference(cleaned[FINAL], cleaned[BASELINE_ON_GPU], None),
        ],
        [f"{LONGER} − {FINAL}", difference(cases[LONGER], cases[FINAL], None)],
        [f"{FINAL} on the GPU − on a CPU", difference(cases[FINAL], on_cpu, None)],
    ]
    yardstick = on_gpu[BASELINE_ON_GPU][folds[0]]
    return "\n".join(
        [
            *(paragraph(about(on_gpu, len(cases[FINAL]), len(folds))), ""),
            *(table(["", "as it is", "nothing left but the largest tumour"], rows), ""),
            *(table(["paired difference of Dice, mean of the regions", "[95 %]"], changes), ""),
            paragraph(NOT_SHOWN.format(epochs=yardstick["epochs"])),
        ]
    )


def about(on_gpu: Results, cases: int, folds: int) -> str:
    """What a reader has to know about the table."""
    first, longer, yardstick = (next(iter(on_gpu[name].values())) for name in (FINAL, LONGER, BASELINE_ON_GPU))
    notes = [f"fold {n} of *{LONGER}* {fold['note']}" for n, fold in on_gpu[LONGER].items() if "note" in fold]
    if "predicted_on" in longer:
        notes.append(f"the label maps of *{LONGER}* were computed on a {longer['predicted_on'].upper()}")
    return ABOUT.format(
        cases=cases,
        folds=folds,
        gpu=first["device"],
        cores=first["cores"],
        date=first["date"],
        given=f"{yardstick['training']['wall_seconds']:.0f}",
        final=FINAL,
        longer=LONGER,
        epochs=first["epochs"],
        more_epochs=longer["epochs"],
        at_a_time=first["at_a_time"],
        seconds=span(on_gpu[FINAL]),
        more_seconds=span(on_gpu[LONGER]),
        notes="; ".join(["all were scored after the last epoch", *notes]),
    )


def span(figures: Mapping[int, Figures]) -> str:
    """The least and the most seconds of wall clock of a training."""
    seconds = [fold["training"]["wall_seconds"] for fold in figures.values()]
    kept = [each for each in seconds if each is not None]
    return f"{min(kept):.0f} to {max(kept):.0f}"


def in_one(cases: Cases) -> str:
    """Mean Dice of the three regions in one cell."""
    return " / ".join(means(cases, "dice", 3))
