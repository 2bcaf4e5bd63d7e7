"""Train the default configuration on real cases, score it on held-back ones, and write docs/results.md's *Baseline*.

    BRATS_REAL_DATA=DIR python -m experiments.baseline [--out RUN] [--config NAME …] [-- OVERRIDES …]

DIR holds the fourteen cases named below in the layouts of BraTS 2020 and 2021. Takes about 15 minutes on two cores.
Where RUN has been trained, it is scored alone. It is an experiment, since its answer is a score.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.results_page import brats_unet, machine, paragraph, replace_section
from transforms.files import write_whole
from transforms.labels import REGIONS, STUDY_MODALITIES
from workflows.data.case import load_entry
from workflows.data.find_cases import find_cases
from workflows.files.run_folder import RUN_CONFIGURATION

TESTING = ("BraTS20_Training_130", "BraTS20_Training_237", "BraTS2021_00003", "BraTS2021_00024")
VALIDATION = ("BraTS20_Training_134", "BraTS2021_00630")
TRAINING_CASES = 8
ARGMAX_ALONE = (
    "--smallest_component_mm3=0",
    "--largest_component_only=False",
    "--smallest_enhancing_mm3=0",
    "--expected_dice=False",
)


def main() -> None:
    """Train, evaluate and report on the real cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(time.strftime("runs/baseline-%Y-%m-%d_%H-%M-%S")))
    parser.add_argument("overrides", nargs="*", help="settings to override, after a --")
    arguments = parser.parse_args()
    data = os.environ.get("BRATS_REAL_DATA")
    if not data:
        sys.exit("error: BRATS_REAL_DATA is unset; name the folder of the real cases.")
    log = arguments.out / "training.log"
    if not log.exists():
        train(arguments.out, data, arguments.overrides)
    minutes = (log.stat().st_mtime - (arguments.out / RUN_CONFIGURATION).stat().st_mtime) / 60
    scores = arguments.out / "baseline"
    brats_unet("evaluate", "--checkpoint", str(arguments.out / "model.pt"), "--out", str(scores), *ARGMAX_ALONE)
    section = as_markdown(scores / "per_case.csv", log, minutes, arguments.overrides)
    print(section)
    replace_section("Baseline", section)


def train(run: Path, data: str, overrides: list[str]) -> None:
    """Train on the fixed split of the real cases."""
    split = run.with_name(f"{run.name}-split.json")
    write_whole(split, lambda path: path.write_text(json.dumps(fixed_split(Path(data)), indent=2)))
    brats_unet("train", "--dataset-dir", data, "--split", str(split), "--out", str(run), *overrides)


def fixed_split(data: Path) -> dict[str, object]:
    """The same cases in the same sections for every run, whatever else lies in the folder."""
    split: dict[str, object] = {"label_convention": "brats-to-2022", "training": [], "validation": [], "testing": []}
    for case in find_cases(data).cases:
        section = "testing" if case.id in TESTING else "validation" if case.id in VALIDATION else "training"
        split[section].append(load_entry(case, STUDY_MODALITIES, data))  # type: ignore[attr-defined]
    sizes = [len(split[section]) for section in ("training", "validation", "testing")]  # type: ignore[arg-type]
    if sizes != [TRAINING_CASES, len(VALIDATION), len(TESTING)]:
        sys.exit(f"error: {data}: {sizes} cases to train, validate and test on; the baseline wants 8, 2 and 4.")
    return split


def as_markdown(per_case: Path, training_log: Path, minutes: float, overrides: list[str]) -> str:
    """The section's text from the files that training and evaluation wrote."""
    rows = list(csv.DictReader(per_case.open()))
    epochs = list(csv.DictReader(training_log.open()))
    dice = {(row["case"], row["region"]): float(row["dice"]) for row in rows}
    cases = list(dict.fromkeys(row["case"] for row in rows))
    table = [f"| case | {' | '.join(REGIONS)} |", "| --- |" + " ---: |" * len(REGIONS)]
    table += [f"| {case} | " + " | ".join(f"{dice[case, region]:.3f}" for region in REGIONS) + " |" for case in cases]
    means = [sum(dice[case, region] for case in cases) / len(cases) for region in REGIONS]
    table.append(f"| **mean of {len(cases)}** | " + " | ".join(f"**{mean:.3f}**" for mean in means) + " |")
    command = " ".join(["python -m experiments.baseline", *(["--", *overrides] if overrides else [])])
    about = (
        f"*Real* cases: {TRAINING_CASES} to train, {len(VALIDATION)} to choose the best epoch, {len(cases)} to test. "
        "Dice on whole volumes at 1 mm, BraTS's rules for empty regions, no post-processing."
    )
    measured = (
        f"{len(epochs)} epochs of the default configuration in {minutes:.0f} minutes of wall clock ({machine()}). "
        f"Command: `{command}`. The aim was 0.82, 0.70 and 0.65. Four cases are few: the figures say that the pipeline "
        "learns, not how it ranks."
    )
    return "\n".join([paragraph(about), "", *table, "", paragraph(measured)])


if __name__ == "__main__":
    main()
