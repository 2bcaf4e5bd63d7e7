"""The experiments' runs: train, predict and score fold by fold what is not done yet."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from experiments.folds import SECTION, fold_split
from experiments.overlay import Experiment, load_experiment
from experiments.result_files import read_experiment, read_results, write_fold
from experiments.scores import score_fold
from workflows.files.json_files import write_json
from workflows.messages.errors import ConfigurationError
from workflows.training.train import LAST_EPOCH

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = LAST_EPOCH
"""The weights after the last epoch are scored: nothing is chosen on the fold."""
LABEL_MAPS_ALONE = "--handlers=['@loading', '@records', '@reports', '@dataloader', '@background']"
"""An evaluation without the command's own scores: `score_fold` gives those of the protocol."""


def run_folds(
    experiments: Sequence[Experiment],
    folds: Sequence[int],
    data: Path,
    runs: Path,
    results: Path,
    jobs: int = 1,
    scored: bool = True,
) -> None:
    """Run what is not done yet, `jobs` folds at a time."""
    pending = [
        (experiment, fold)
        for experiment in experiments
        for fold in folds
        if fold not in read_experiment(experiment.name, results)
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda pair: run_fold(pair[0], pair[1], data, runs, results, jobs, scored), pending):
            pass


def run_fold(
    experiment: Experiment,
    fold: int,
    data: Path,
    runs: Path,
    results: Path,
    jobs: int = 1,
    scored: bool = True,
) -> None:
    """Train, predict and score one fold, and write its figures.

    Args:
        jobs: how many such runs share the machine.
        scored: False leaves the cases' scores to `rescore`.
    Raises:
        ConfigurationError: if another program does that, naming its command.
    """
    if experiment.command:
        raise ConfigurationError(f"{experiment.name} is no configuration of ours; run: {experiment.command}")
    run = trained(load_experiment(experiment.weights_of) if experiment.weights_of else experiment, fold, data, runs)
    others = [trained(load_experiment(name), fold, data, runs) for name in experiment.averaged_with]
    label_maps = label_maps_of(experiment.name, fold, runs)
    overrides = [f"--{name}={value!r}" for name, value in experiment.evaluate.items()]
    arguments = ["evaluate", "--out", str(label_maps), "--section", SECTION]
    checkpoints = [f"--checkpoint={of / 'model.pt'}" for of in (run, *others)]
    prediction = measured("-m", "workflows", *arguments, *checkpoints, LABEL_MAPS_ALONE, *overrides)
    epochs = len(list(csv.DictReader((run / "training.log").open())))
    figures = {
        "experiment": experiment.name,
        "fold": fold,
        "cases": score_fold(fold, data, label_maps) if scored else {},
        "epochs": epochs,
        "weights_of": experiment.weights_of,
        "averaged_with": experiment.averaged_with,
        "training": json.loads((run / "cost.json").read_text()),
        "prediction": prediction,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "at_a_time": jobs,
        "cores": os.cpu_count(),
        "shared_machine": True,
        "date": time.strftime("%Y-%m-%d"),
        "revision": revision(),
        "config": experiment.config,
        "train": experiment.train,
        "evaluate": experiment.evaluate,
    }
    write_fold(figures, results)


def label_maps_of(name: str, fold: int, runs: Path) -> Path:
    """The folder of the label maps that a run predicted for evaluation."""
    return runs / f"{name}-fold{fold}" / "evaluation"


def rescore(data: Path, runs: Path, results: Path) -> None:
    """Score again what is left of the runs, as after a change of what is scored."""
    for name, folds in read_results(results).items():
        for fold, figures in folds.items():
            label_maps = label_maps_of(name, fold, runs)
            if label_maps.is_dir():
                write_fold({**figures, "cases": score_fold(fold, data, label_maps)}, results)


def trained(experiment: Experiment, fold: int, data: Path, runs: Path) -> Path:
    """The run folder of an experiment's fold, trained if it is not yet."""
    run = runs / f"{experiment.name}-fold{fold}"
    with _training[run]:
        if not (run / "cost.json").is_file():
            _train(experiment, fold, data, run)
    return run


_training: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
"""By run folder: two experiments may need the same weights at the same time."""


def _train(experiment: Experiment, fold: int, data: Path, run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)  # of a training that was broken off
    split, overlay = run.with_name(f"{run.name}-split.json"), run.with_name(f"{run.name}-overlay.json")
    write_json(fold_split(fold, data), split)
    write_json({**experiment.train, **PROTOCOL}, overlay)
    named = {"--dataset-dir": data, "--split": split, "--out": run}
    overlays = [f"--config={config}" for config in (*experiment.config, overlay)]
    cost = measured("-m", "workflows", "train", *(str(part) for pair in named.items() for part in pair), *overlays)
    write_json(cost, run / "cost.json")


def measured(*arguments: str) -> dict[str, float]:
    """Run Python in the repository's root; seconds of CPU and of wall clock that it took."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)  # of this process alone, whatever runs beside it
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    wall = time.monotonic() - started
    return {"cpu_seconds": round(used.ru_utime + used.ru_stime, 1), "wall_seconds": round(wall, 1)}


def revision() -> str:
    """The commit that is checked out, in short."""
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip()
