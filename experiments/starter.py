"""Train weights that could be shipped on six real cases, and score them on the eight others.

    BRATS_REAL_DATA=DIR python -m experiments.starter [--out RUN] [--ship] [-- OVERRIDES …]

DIR holds the fourteen cases of folds.json. The six to train on are the ones whose licence allows weights to be shared.
The weights after the last epoch are taken. Writes the scores into docs/results.md; with --ship also model.pt,
config.json and README.md, the model card with the scores, into bundle/models. Takes about a quarter of an hour on two
cores. It is an experiment, since its answer is a score.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.results_page import brats_unet, machine, paragraph, replace_section
from experiments.folds import SECTION
from experiments.runs import PROTOCOL
from transforms.files import write_whole
from transforms.labels import REGIONS, STUDY_MODALITIES
from workflows.data.case import load_entry
from workflows.data.find_cases import find_cases
from workflows.files.json_files import write_json
from workflows.files.run_folder import RUN_CONFIGURATION
from workflows.settings.checkpoints import MODEL_CARD, settings_beside
from workflows.settings.weights import read_weights, write_checkpoint

MODELS = Path(__file__).resolve().parents[1] / "bundle" / "models"
CARD = Path(__file__).with_name("starter_card.md")
LICENSED = tuple(f"BraTS20_Training_{number}" for number in range(130, 136))
HELD_BACK = 8


def main() -> None:
    """Train the starter weights, score them, and write their card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(time.strftime("runs/starter-%Y-%m-%d_%H-%M-%S")))
    parser.add_argument("--ship", action="store_true", help="put weights and card where predict looks for them")
    parser.add_argument("overrides", nargs="*", help="settings to override, after a --")
    arguments = parser.parse_args()
    data, run = os.environ.get("BRATS_REAL_DATA"), arguments.out.resolve()
    if not data:
        sys.exit("error: BRATS_REAL_DATA is unset; name the folder of the real cases.")
    if not (run / "model.pt").is_file():
        train(Path(data).resolve(), run, arguments.overrides)
    weights = ship(run) if arguments.ship else run / "model.pt"
    split, scores = run.with_name(f"{run.name}-split.json"), run / "scores"
    where = ["--dataset-dir", data, "--split", str(split), "--section", SECTION, "--out", str(scores)]
    brats_unet("evaluate", "--checkpoint", str(weights), *where)
    epochs = len(list(csv.DictReader((run / "training.log").open())))
    section = as_markdown(scores, epochs, arguments.overrides)
    replace_section("Weights from six cases", section)
    if arguments.ship:
        replace_section("Scores", section, MODELS / MODEL_CARD)


def train(data: Path, run: Path, overrides: list[str]) -> None:
    """Train on the protocol of the starter weights."""
    split, overlay = run.with_name(f"{run.name}-split.json"), run.with_name(f"{run.name}-overlay.json")
    write_json(six_and_eight(data), split)
    write_json(PROTOCOL, overlay)
    named = ["--dataset-dir", str(data), "--split", str(split), "--out", str(run), "--config", str(overlay)]
    brats_unet("train", *named, *overrides)


def six_and_eight(data: Path) -> dict[str, Any]:
    """The datalist: the cases with an open licence to train on, the others to score."""
    split: dict[str, Any] = {"label_convention": "brats-to-2022", "training": [], SECTION: [], "testing": []}
    for case in find_cases(data).cases:
        entry = load_entry(case, STUDY_MODALITIES, data)
        split["training" if case.id in LICENSED else SECTION].append(entry)
    sizes = len(split["training"]), len(split[SECTION])
    if sizes != (len(LICENSED), HELD_BACK):
        sys.exit(f"error: {data}: {sizes} cases to train and score on; wanted are 6 and 8.")
    return split


def ship(run: Path) -> Path:
    """The weights in 16 bits, half the size, and beside them their card and the settings that belong to them."""
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in read_weights(run / "model.pt").items()
    }
    write_checkpoint(MODELS / "model.pt", weights)
    write_json(settings_beside(run / "model.pt"), MODELS / RUN_CONFIGURATION)
    write_whole(MODELS / MODEL_CARD, lambda path: path.write_text(CARD.read_text()))
    return MODELS / "model.pt"


def as_markdown(scores: Path, epochs: int, overrides: list[str]) -> str:
    """The section's text from the files that the evaluation wrote."""
    rows = list(csv.DictReader((scores / "per_case.csv").open()))
    figures = {(row["case"], row["region"]): row for row in rows}
    cases = list(dict.fromkeys(row["case"] for row in rows))
    columns = [(name, region) for name in ("dice", "hd95_mm") for region in REGIONS]
    titles = [f"{'Dice' if name == 'dice' else 'HD95 mm'} {region}" for name, region in columns]
    table = [f"| case | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    for case in cases:
        cells = [shown(float(figures[case, region][name]), name) for name, region in columns]
        table.append(f"| {case} | {' | '.join(cells)} |")
    means = [sum(float(figures[case, region][name]) for case in cases) / len(cases) for name, region in columns]
    cells = [f"**{shown(mean, name)}**" for mean, (name, _) in zip(means, columns, strict=True)]
    table.append(f"| **mean of {len(cases)}** | {' | '.join(cells)} |")
    about = (
        f"*Real* cases: {len(LICENSED)} to train, {len(cases)} others to score; no epoch was chosen on "
        "these, but what the default configuration is was chosen in a cross-validation that holds them: the figures "
        "flatter by that. Whole volumes at 1 mm, the rules of BraTS 2020, the default post-processing."
    )
    command = " ".join(["python -m experiments.starter", *(["--", *overrides] if overrides else [])])
    measured = (
        f"{epochs} epochs of the default configuration, weights after the last ({machine()}). Command: `{command}`."
    )
    return "\n".join([paragraph(about), "", *table, "", paragraph(f"{by_step(scores)} {measured}")])


def by_step(scores: Path) -> str:
    """Mean Dice after each step of the post-processing, in words."""
    steps = json.loads((scores / "summary.json").read_text())["post_processing"]["after_each_step"]
    means = {
        name: " / ".join(f"{step[f'{region.lower()}_dice']:.3f}" for region in REGIONS) for name, step in steps.items()
    }
    return "Mean Dice " + ", ".join(f"after {name} {of_step}" for name, of_step in means.items()) + "."


def shown(value: float, name: str) -> str:
    """A score as the card shows it."""
    return f"{value:.3f}" if name == "dice" else f"{value:.1f}"


if __name__ == "__main__":
    main()
