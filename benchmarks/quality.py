"""How many minutes of training reach a good segmentation: the overlay quick against a plain one, on real cases.

    BRATS_REAL_DATA=DIR python benchmarks/quality.py [--runs FOLDER] [--ways NAME …] [--fold N]

DIR holds the fourteen cases of experiments/folds.json; one of its folds is scored, the others are trained on: fold 2,
which had no part in the choice of the overlay quick (folds 0 and 1 had). The plain configuration is
experiments/overlays/plain.json: BasicUNet with 16 features, slices 60 to 134 at 128×128, batches of 16, Dice and
cross-entropy, 12 epochs. The aim is 0.95 of the Dice that it ends with. A training's learning rate falls to zero with
its last epoch, so that a short one is good sooner, which is what quick is for: train.json itself is not measured here.
The weights after each epoch are kept with the time since the process was started, reading the patients included, and
are scored afterwards on the whole volumes. One training follows the other, each with the whole machine.
Writes the section *Time to quality* of docs/benchmarks.md. Takes about ten minutes on two cores. It is a benchmark,
since its answer is in minutes, and the one that takes its folds, settings and scores from `experiments`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import options, publish
from results_page import ROOT, table

sys.path.append(str(ROOT))  # for `experiments`, which is not installed

from experiments.folds import SECTION, fold_split
from experiments.overlay import Experiment, load_experiment
from experiments.runs import LABEL_MAPS_ALONE, PROTOCOL
from experiments.scores import score_fold
from transforms.labels import REGIONS
from workflows.files.json_files import write_json
from workflows.settings.bundle_files import config_files

SHARE_OF_PLAIN = 0.95
PLAIN = "plain"
WAYS = {PLAIN: "plain", "ours, quick": "quick"}
"""The experiments whose settings they are."""
MEASURES = ("as it is", "cleaned")

Score = Callable[[Path], dict[str, float]]
"""The Dice of some weights, by the names in `MEASURES`."""


@dataclass(frozen=True)
class Epoch:
    """The weights after one, and the minutes since the process was started."""

    minutes: float
    weights: Path


def main() -> None:
    """Train both ways, score every epoch, and write the section."""
    parser = options(__doc__, repeats=1)
    parser.add_argument(
        "--runs", type=Path, help="keep the runs in this folder, and do not repeat those that are there"
    )
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, help="which to run; plain is always")
    parser.add_argument("--fold", type=int, default=2, choices=range(4), help="which one is scored; 2")
    parser.add_argument("--setting", nargs="*", default=[], metavar="NAME=VALUE", help="of train.json, for all ways")
    arguments = parser.parse_args()
    if not os.environ.get("BRATS_REAL_DATA"):
        sys.exit("error: BRATS_REAL_DATA is unset; name the folder of the real cases.")
    data = Path(os.environ["BRATS_REAL_DATA"]).resolve()
    with tempfile.TemporaryDirectory() as temporary:
        runs = (arguments.runs or Path(temporary)).resolve() / f"fold{arguments.fold}"
        runs.mkdir(parents=True, exist_ok=True)
        split = runs / "split.json"
        write_json(fold_split(arguments.fold, data), split)
        progress = {}
        for way in (way for way in WAYS if way in {PLAIN, *arguments.ways}):
            progress[way] = train(load_experiment(WAYS[way]), runs / WAYS[way], data, split, arguments)
        rows, about = section(progress, arguments.fold, lambda weights: scored(weights, arguments.fold, data))
    publish(arguments, "Time to quality", "make bench-quality", rows, about)


def train(experiment: Experiment, run: Path, data: Path, split: Path, arguments: argparse.Namespace) -> list[Epoch]:
    """One training as a process of its own; its weights after every epoch. What was done with these very settings is
    not repeated.
    """
    overlay, record = (run.with_name(f"{run.name}-{name}.json") for name in ("overlay", "epochs"))
    settings = ["--device", str(arguments.device), *(f"--{setting}" for setting in arguments.setting)]
    asked = {"config": experiment.config, "train": {**experiment.train, **PROTOCOL}, "settings": settings}
    if not record.is_file() or json.loads(record.read_text())["asked"] != asked:
        shutil.rmtree(run, ignore_errors=True)  # of a training with others, or of one that was broken off
        write_json(asked["train"], overlay)
        write_json(experiment.evaluate, run.with_name(f"{run.name}-evaluate.json"))
        command = [sys.executable, "-m", "workflows", "train", "--dataset-dir", data, "--split", split, "--out", run]
        overlays = [f"--config={config}" for config in (*experiment.config, overlay)]
        started = time.time()
        subprocess.run([*map(str, command), *overlays, *settings, keep_all(run)], check=True, cwd=ROOT)
        epochs = [[(file.stat().st_mtime - started) / 60, file.name] for file in kept(run)]
        write_json({"asked": asked, "epochs": epochs}, record)
    return [Epoch(minutes, run / name) for minutes, name in json.loads(record.read_text())["epochs"]]


def keep_all(run: Path) -> str:
    """The setting of train.json with which the weights after every epoch are kept."""
    handlers = json.loads(Path(config_files("train")[0]).read_text())["train"]["handlers"]
    saver = {"_target_": "CheckpointSaver", "save_dir": str(run), "save_dict": {"epoch": "@scored_network"}}
    return f"--train#handlers={json.dumps([*handlers, {**saver, 'save_interval': 1}])}"


def kept(run: Path) -> list[Path]:
    """In the order of their epochs."""
    return sorted(run.glob("epoch_epoch=*.pt"), key=lambda file: int(file.stem.rpartition("=")[2]))


def scored(weights: Path, fold: int, data: Path) -> dict[str, float]:
    """The mean Dice over the fold's whole volumes and the three regions, by `MEASURES`; kept beside the weights."""
    file = weights.with_suffix(".json")
    if not file.is_file():
        label_maps = weights.with_suffix("")
        overrides = json.loads(weights.parent.with_name(f"{weights.parent.name}-evaluate.json").read_text())
        settings = [f"--{name}={value!r}" for name, value in overrides.items()]
        command = ["evaluate", "--checkpoint", weights, "--out", label_maps, "--section", SECTION, LABEL_MAPS_ALONE]
        subprocess.run([sys.executable, "-m", "workflows", *map(str, command), *settings], check=True, cwd=ROOT)
        cases = list(score_fold(fold, data, label_maps).values())
        of = {"as it is": cases, "cleaned": [case["cleaned"] for case in cases]}
        write_json({name: mean_dice(scores) for name, scores in of.items()}, file)
    return dict(json.loads(file.read_text()))


def mean_dice(cases: Sequence[dict[str, Any]]) -> float:
    """Mean over cases and regions."""
    return statistics.fmean(case[region]["dice"] for case in cases for region in REGIONS)


def minutes_to(epochs: Sequence[Epoch], dice: float, measure: str, score: Score) -> float | None:
    """Until the first epoch that reaches it; None if none does."""
    return next((epoch.minutes for epoch in epochs if score(epoch.weights)[measure] >= dice), None)


def section(progress: dict[str, list[Epoch]], fold: int, score: Score) -> tuple[str, str]:
    """The table, and what it means."""
    goals = {measure: SHARE_OF_PLAIN * score(progress[PLAIN][-1].weights)[measure] for measure in MEASURES}
    rows = []
    for way, epochs in progress.items():
        row = [way, str(len(epochs)), f"{epochs[-1].minutes:.1f}"]
        for measure, goal in goals.items():
            minutes, plain = (minutes_to(some, goal, measure, score) for some in (epochs, progress[PLAIN]))
            row.append(f"{score(epochs[-1].weights)[measure]:.3f}")
            row.append(f"{minutes:.1f}" if minutes is not None else "not reached")
            row.append(f"{minutes / plain:.2f}" if minutes is not None and plain else "–")
        rows.append(row)
    columns = ["", "epochs", "minutes in all"]
    for measure in MEASURES:
        columns += [f"{measure}: Dice at the end", "minutes to the aim", "of plain's"]
    shown = " and ".join(f"{goal:.3f} {measure}" for measure, goal in goals.items())
    about = (
        f"*Real* cases, by the protocol of [experiments.md](experiments.md): fold {fold} is scored, the others are "
        "trained on; mean Dice of WT, TC and ET on whole volumes. "
        f"The aim is {SHARE_OF_PLAIN} of what the plain configuration (`experiments/overlays/{WAYS[PLAIN]}.json`) "
        f"ends with: {shown}, which is with the largest connected tumour inside the brain alone. Ours as it is has "
        "that already. Minutes are those of the process until the end of the epoch, reading the patients included, "
        "scoring not; the last epoch's hold the one validation of the run. The aim of the project was half of the "
        "plain configuration's minutes."
    )
    return table(columns, rows), about


if __name__ == "__main__":
    main()
