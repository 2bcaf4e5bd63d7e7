"""How many minutes of training reach a good segmentation: train.json against a plain configuration, on real cases.

    BRATS_REAL_DATA=DIR python benchmarks/quality.py [--runs FOLDER] [--repeats N]

DIR holds the fourteen cases of baseline.py; 8 are trained on, 2 validate, after every epoch. The plain configuration is
experiments/plain.json: BasicUNet with 16 features, slices 60 to 134 at 128×128, batches of 16, Dice and cross-entropy,
12 epochs. The aim is 0.95 of the validation Dice that it ends with; the time counts from the start of the process, so
that reading the patients is in it. A training's learning rate falls to zero with its last epoch, so that a short one
is good sooner: ours is measured as it stands and with 3 epochs. The runs take turns, each with the whole machine.
Writes the section *Time to quality* of docs/benchmarks.md. Takes about 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baseline import fixed_split
from experiments import load_experiment
from measuring import options, publish, table
from results_page import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from workflows.json_files import write_json

SCORE = "val_mean_region_dice"
SHARE_OF_PLAIN = 0.95
PLAIN = "plain"
WAYS = {"ours": "default", "ours, 3 epochs": "tissue", PLAIN: PLAIN}
"""The experiments whose settings of train.json they are."""


@dataclass(frozen=True)
class Progress:
    """The validation Dice after each epoch, and the minutes since the process was started."""

    minutes: list[float]
    dice: list[float]

    def minutes_to(self, dice: float) -> float | None:
        """Until the first epoch that reaches it; None if none does."""
        reached = (m for m, value in zip(self.minutes, self.dice, strict=True) if value >= dice)
        return next(reached, None)


def main() -> None:
    data = os.environ.get("BRATS_REAL_DATA")
    parser = options(__doc__, repeats=1)
    parser.add_argument("--runs", type=Path, help="keep the runs in this folder")
    parser.add_argument("--setting", nargs="*", default=[], metavar="NAME=VALUE", help="of train.json, for both ways")
    arguments = parser.parse_args()
    if not data:
        sys.exit("error: BRATS_REAL_DATA is unset; name the folder of the real cases.")
    with tempfile.TemporaryDirectory() as temporary:
        runs = arguments.runs or Path(temporary)
        runs.mkdir(parents=True, exist_ok=True)
        split = runs / "split.json"
        write_json(fixed_split(Path(data)), split)
        turns = [
            {way: train(WAYS[way], runs / f"{way}-{turn}", data, split, arguments) for way in WAYS}
            for turn in range(arguments.repeats)
        ]
    publish(arguments, "Time to quality", "make bench-quality", *section(turns))


def train(experiment: str, run: Path, data: str, split: Path, arguments: argparse.Namespace) -> Progress:
    """One training as a process of its own."""
    overlay = run.with_name(f"{run.name}-overlay.json")
    configured = load_experiment(experiment)
    write_json(configured.train, overlay)
    command = [sys.executable, "-m", "workflows", "train", "--dataset-dir", data, "--split", split, "--out", run]
    overlays = [f"--config={config}" for config in (*configured.config, overlay)]
    settings = [f"--{setting}" for setting in arguments.setting]
    started = time.time()
    subprocess.run([*map(str, command), *overlays, "--device", str(arguments.device), *settings], check=True, cwd=ROOT)
    return read_progress(run, started)


def read_progress(run: Path, started: float) -> Progress:
    """What TensorBoard's event file of a run holds.

    Args:
        started: when the process was, in seconds since 1970.
    """
    events = EventAccumulator(str(run), size_guidance={"images": 1, "scalars": 0})
    events.Reload()
    epochs = events.Scalars(SCORE)
    return Progress([(event.wall_time - started) / 60 for event in epochs], [event.value for event in epochs])


def section(turns: list[dict[str, Progress]]) -> tuple[str, str]:
    """The table, and what it means."""
    goals = [SHARE_OF_PLAIN * turn[PLAIN].dice[-1] for turn in turns]
    to_goal = {way: minutes_to_goal([turn[way] for turn in turns], goals) for way in WAYS}
    plain = to_goal[PLAIN]
    rows = []
    for way, minutes in to_goal.items():
        runs = [turn[way] for turn in turns]
        rows.append(
            [
                way,
                f"{minutes:.1f}" if minutes is not None else "not reached",
                f"{minutes / plain:.2f}" if minutes is not None and plain else "–",
                f"{statistics.median(run.minutes[-1] for run in runs):.1f}",
                f"{statistics.median(run.dice[-1] for run in runs):.3f}",
                f"{statistics.median(max(run.dice) for run in runs):.3f}",
            ]
        )
    columns = ["", "minutes to the aim", "of plain's", "minutes in all", "Dice at the end", "best Dice"]
    about = (
        f"*Real* cases: 8 to train, 2 to validate. The aim is {SHARE_OF_PLAIN} of the mean validation Dice of WT, TC "
        f"and ET with which the plain configuration (`benchmarks/experiments/{WAYS[PLAIN]}.json`) ends: "
        f"{statistics.median(goals):.3f}. Ours is `train.json` as it stands, and with 3 epochs "
        f"(`benchmarks/experiments/{WAYS['ours, 3 epochs']}.json`). All validate after every epoch, each "
        "on its own training grid: ours on the axial slices of its cube, the plain one on slices 60 to 134. The aim of "
        "the project was half of the plain configuration's minutes."
    )
    return table(columns, rows), about


def minutes_to_goal(runs: Sequence[Progress], goals: Sequence[float]) -> float | None:
    """The median over the turns; None if a run does not reach its goal."""
    reached = [run.minutes_to(goal) for run, goal in zip(runs, goals, strict=True)]
    found = [minutes for minutes in reached if minutes is not None]
    return statistics.median(found) if len(found) == len(reached) else None


if __name__ == "__main__":
    main()
