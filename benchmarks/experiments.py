"""Which changes of the configuration segment better: named experiments, cross-validated fold by fold on real cases.

    BRATS_REAL_DATA=DIR python benchmarks/experiments.py run NAME … [--folds 0 1 2 3] [--runs FOLDER]
        [--jobs N] [--unscored] [--results FOLDER]
    BRATS_REAL_DATA=DIR python benchmarks/experiments.py rescore [--runs FOLDER]
    BRATS_REAL_DATA=DIR python benchmarks/experiments.py split FOLD FILE
    python benchmarks/experiments.py table
    python benchmarks/experiments.py list

DIR holds the cases that folds.json names. An experiment is benchmarks/experiments/NAME.json. What is finished is
skipped: a fold whose figures stand in docs/experiments, and the training of a fold whose weights are in FOLDER. Where
there is a GPU it is used, by N runs at a time; such figures belong into docs/experiments/gpu (`--results`).
`rescore` scores the label maps in FOLDER again, or for the first time where they came from a machine on which time is
short (`--unscored`). `split` writes the datalist of a fold, for other commands' --split.
`table` writes docs/experiments.md from all figures; `run` and `rescore` do so at their end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from transforms.cleaning import cleaning_steps
from transforms.labels import ENHANCING, REGIONS
from workflows.data.case import load_entry
from workflows.data.find_cases import find_cases
from workflows.data.label_conventions import LABEL_CONVENTIONS
from workflows.files.json_files import write_json
from workflows.messages.errors import BratsError, ConfigurationError, DatasetError
from workflows.scoring.brats_scores import score_case
from workflows.training.train import LAST_EPOCH

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = Path(__file__).with_suffix("")
FOLDS = EXPERIMENTS / "folds.json"
RESULTS = ROOT / "docs" / "experiments"
SECTION = "validation"
"""Where the datalist of a fold holds the fold's cases; nothing is chosen on them, see `PROTOCOL`."""
PROTOCOL = LAST_EPOCH
"""The weights after the last epoch are scored: nothing is chosen on the fold."""
ON_GPU = RESULTS / "gpu"
"""Figures of runs on a GPU, which rounds otherwise: compared among themselves."""
LABEL_MAPS_ALONE = "--handlers=['@loading', '@records', '@reports', '@dataloader', '@background']"
"""An evaluation without the command's own scores: `score_fold` gives those of the protocol."""


@dataclass(frozen=True)
class Experiment:
    """What differs from train.json.

    Attributes:
        change: in words, what differs from the experiment it is based on.
        config: overlays of the bundle that come before its own.
        train: overlay of train.json.
        evaluate: overrides of inference.json.
        weights_of: the experiment whose weights it takes where it differs in the prediction alone.
        averaged_with: experiments whose weights of the same fold answer together with these.
        verdict: what was decided, where the rule of the table is not enough.
        command: what writes its figures, where that is another program.
    """

    name: str
    change: str
    based_on: str | None = None
    config: list[str] = field(default_factory=list)
    train: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    weights_of: str | None = None
    averaged_with: list[str] = field(default_factory=list)
    verdict: str = ""
    command: str = ""


def load_experiment(name: str) -> Experiment:
    """The experiment with the settings of all that it is based on merged in.

    Raises:
        ConfigurationError: if there is none of this name, naming those there are.
    """
    file = EXPERIMENTS / f"{name}.json"
    if name not in names():
        raise ConfigurationError(f"no experiment {name!r}; there are {', '.join(names())}.")
    own = json.loads(file.read_text())
    if not own.get("based_on"):
        return Experiment(name, **own)
    base = load_experiment(own["based_on"])
    merged = {part: {**getattr(base, part), **own.get(part, {})} for part in ("train", "evaluate")}
    same_training = not {"train", "config"} & own.keys()
    weights = own.get("weights_of") or (base.weights_of if same_training else None)
    config = [*base.config, *own.get("config", [])]
    averaged = own.get("averaged_with") or (base.averaged_with if "train" not in own else [])
    return Experiment(name, **{**own, **merged, "config": config, "weights_of": weights, "averaged_with": averaged})


def names() -> list[str]:
    return sorted(file.stem for file in EXPERIMENTS.glob("*.json") if file != FOLDS)


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
        if not (results / f"{experiment.name}-fold{fold}.json").is_file()
    ]
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda pair: run_fold(*pair, data, runs, results, jobs, scored), pending):
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
    write_json(figures, results / f"{experiment.name}-fold{fold}.json")


def label_maps_of(name: str, fold: int, runs: Path) -> Path:
    return runs / f"{name}-fold{fold}" / "evaluation"


def rescore(data: Path, runs: Path, results: Path) -> None:
    """Score again what is left of the runs, as after a change of what is scored."""
    for file in sorted(results.glob("*-fold*.json")):
        figures = json.loads(file.read_text())
        label_maps = label_maps_of(figures["experiment"], figures["fold"], runs)
        if label_maps.is_dir():
            write_json({**figures, "cases": score_fold(figures["fold"], data, label_maps)}, file)


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


def fold_split(fold: int, data: Path) -> dict[str, Any]:
    """The datalist of a fold: its cases under `SECTION`, those of all others to train on."""
    folds = json.loads(FOLDS.read_text())["folds"]
    fold_of = {case: number for number, cases in enumerate(folds) for case in cases}
    found = {case.id: case for case in find_cases(data).cases}
    if missing := sorted(set(fold_of) - set(found)):
        raise DatasetError(f"{data}: has no case {', '.join(missing)}, which {FOLDS.name} names.")
    split: dict[str, Any] = {"label_convention": "brats-to-2022", "training": [], "validation": [], "testing": []}
    for case, number in sorted(fold_of.items()):
        entry = load_entry(found[case], found[case].modalities, data)
        split[SECTION if number == fold else "training"].append(entry)
    return split


def score_fold(fold: int, data: Path, label_maps: Path) -> dict[str, Any]:
    """BraTS's scores of the fold's whole volumes and the volume of what was found on slices without tumour.

    `cleaned` has the scores of the same prediction with nothing left but its largest connected tumour inside the brain:
    false alarms on empty slices and far from the tumour, which that mends, otherwise hide what else a change does.
    """
    convention = LABEL_CONVENTIONS["brats-to-2022"]
    scores = {}
    for entry in fold_split(fold, data)[SECTION]:
        case = entry["case"]
        prediction, _ = class_indices(label_maps / case / f"{case}_seg.nii.gz", convention.classes)
        reference, spacing_mm = class_indices(data / entry["label"], convention.classes)
        scores[case] = {
            **scores_of(prediction, reference, spacing_mm),
            "cleaned": scores_of(largest_component(prediction * brain(entry, data)), reference, spacing_mm),
        }
    return scores


def scores_of(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> dict[str, Any]:
    """Of one volume, (H, W, D) class indices."""
    regions = score_case(prediction, reference, spacing_mm)
    figures = ("dice", "hd95_mm", "volume_ml", "reference_ml")
    return {
        **{region: {name: round(float(getattr(regions[region], name)), 4) for name in figures} for region in REGIONS},
        "false_positive_ml": round(false_positive_ml(prediction, reference, spacing_mm), 3),
    }


def brain(entry: Mapping[str, Any], data: Path) -> np.ndarray:
    """(H, W, D), where FLAIR or T1ce has a signal; the real cases' background is zero."""
    images: list[Any] = [nib.load(data / entry[modality]) for modality in ("flair", "t1ce")]
    return np.any([np.asanyarray(image.dataobj) != 0 for image in images], axis=0)


def largest_component(prediction: np.ndarray) -> np.ndarray:
    (step,) = cleaning_steps(largest_component_only=True).values()
    cleaned = step({"label_map": MetaTensor(prediction[None].copy())})["label_map"]
    return np.asarray(cleaned)[0].astype(prediction.dtype)


def class_indices(file: Path, classes: Mapping[int, int]) -> tuple[np.ndarray, tuple[float, ...]]:
    """(H, W, D) class indices, and the voxel's edges in mm."""
    image: Any = nib.load(file)
    values = np.asanyarray(image.dataobj).astype(np.uint8)
    indices = np.zeros(ENHANCING + 2, np.uint8)
    for value, index in classes.items():
        indices[value] = index
    return indices[values], tuple(float(edge) for edge in image.header.get_zooms()[:3])


def false_positive_ml(prediction: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    """Volume of predicted tumour on axial slices whose reference has none; (H, W, D) class indices."""
    tumour_free = ~reference.any(axis=(0, 1))
    return float(np.count_nonzero(prediction[..., tumour_free]) * np.prod(spacing_mm) / 1000)


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
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip()


def real_data() -> Path:
    if not os.environ.get("BRATS_REAL_DATA"):
        raise DatasetError("BRATS_REAL_DATA is unset; name the folder of the real cases.")
    return Path(os.environ["BRATS_REAL_DATA"]).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    run = tasks.add_parser("run", help="train, predict and score what is not done yet")
    run.add_argument("names", nargs="+", metavar="NAME")
    run.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2, 3])
    run.add_argument("--unscored", action="store_true", help="leave the scores to rescore")
    run.add_argument("--jobs", type=int, default=1, metavar="N", help="folds at a time; 1")
    again = tasks.add_parser("rescore", help="score the label maps of earlier runs again")
    for task in (run, again):
        task.add_argument("--runs", type=Path, default=ROOT / "runs" / "experiments", help="where weights go")
        task.add_argument("--results", type=Path, default=RESULTS, help="where figures go")
    split = tasks.add_parser("split", help="write the datalist of a fold")
    split.add_argument("fold", type=int, choices=range(4))
    split.add_argument("file", type=Path)
    tasks.add_parser("table", help="write docs/experiments.md")
    tasks.add_parser("list", help="name the experiments")
    arguments = parser.parse_args()
    if arguments.task == "list":
        print("\n".join(f"{name}: {load_experiment(name).change}" for name in names()))
        return
    if arguments.task == "split":
        write_json(fold_split(arguments.fold, real_data()), arguments.file)
        return
    if arguments.task == "run":
        experiments = [load_experiment(name) for name in arguments.names]
        places = (real_data(), arguments.runs.resolve(), arguments.results)
        run_folds(experiments, arguments.folds, *places, arguments.jobs, not arguments.unscored)
        if arguments.unscored:
            return
    if arguments.task == "rescore":
        rescore(real_data(), arguments.runs.resolve(), arguments.results)
    from experiments_final import write_final  # here, so that a result is kept whatever the page does
    from experiments_gpu import write_beside_nnunet
    from experiments_table import read_results, write_page

    results, folds = read_results(RESULTS), len(json.loads(FOLDS.read_text())["folds"])
    write_page()
    write_final(results, folds)
    write_beside_nnunet(read_results(ON_GPU), results, folds)


if __name__ == "__main__":
    try:
        main()
    except BratsError as error:
        sys.exit(f"error: {error}")
