"""How well nnU-Net v2 in its configuration 2d segments the same real cases, trained on a GPU for a given time.

    BRATS_REAL_DATA=DIR python -m experiments.nnunet run FOLDER [--seconds 150] [--device cuda] [--folds 0 1 2 3]
    BRATS_REAL_DATA=DIR python -m experiments.nnunet score FOLDER

An outside yardstick for the experiments, scored as they are, and so one of them: nnU-Net plans, augments, trains and
predicts by its own defaults, region by region as for BraTS, from FLAIR and T1ce, on the folds of folds.json. Two things
differ. Its learning rate falls to zero within `--seconds` instead of 1000 epochs, and its network is not compiled. All
folds are trained at the same time and share the GPU and the cores. `run` needs `pip install nnunetv2` and writes label
maps with BraTS's values, what they cost and the log of each fold to FOLDER/predictions; `score` writes their scores to
results/gpu, anywhere, and `python -m experiments table` the page.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib

from experiments.folds import SECTION, fold_split, read_folds, real_data
from experiments.result_files import ON_GPU, write_fold
from experiments.runs import ROOT, revision
from experiments.scores import class_indices, score_fold
from transforms.labels import ENHANCING, MODALITY_TITLES, NECROTIC_CORE, OEDEMA, REGION_NAMES, REGIONS, STUDY_MODALITIES
from workflows.data.label_conventions import LABEL_CONVENTIONS
from workflows.files.json_files import write_json
from workflows.machine.processes import allowed_processors
from workflows.messages.errors import BratsError, ConfigurationError

NAME = "nnunet"
DATASET = "Dataset001_BraTS"
LABELS = LABEL_CONVENTIONS["brats-to-2022"].classes
"""Class index, from 0 to 3 without a gap as nnU-Net needs, by BraTS's value."""
REGION_CLASSES = (OEDEMA, NECROTIC_CORE, ENHANCING)
"""What is left of each region, from the largest to the smallest, once the smaller ones are painted over it."""
STEPS = "experiments.nnunet_steps"
LOG_LINES = 15


def run(folder: Path, data: Path, arguments: argparse.Namespace) -> None:
    """Prepare the data, train the folds side by side and predict their cases."""
    if importlib.util.find_spec("nnunetv2") is None:
        raise ConfigurationError("nnU-Net is not installed; run: pip install nnunetv2")
    deadline = time.monotonic() + arguments.limit
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder}: is not empty; name a new folder, so that no two runs are mixed.")
    predictions = folder / "predictions"
    predictions.mkdir(parents=True)
    write_dataset(folder, data)
    cores = allowed_processors()
    prepare = start(["prepare", *batch_size(arguments)], predictions / "prepare.log", settings(folder, cores))
    wait_for({"prepare": prepare}, deadline, predictions)
    shared = settings(folder, max(1, cores // len(arguments.folds)))
    processes = {}
    for fold in arguments.folds:
        name = f"{NAME}-fold{fold}"
        options = {"--seconds": arguments.seconds, "--device": arguments.device}
        options |= {"--label-maps": predictions / name, "--record": predictions / f"{name}.json"}
        words = [str(word) for option in options.items() for word in option]
        processes[name] = start(["fold", str(fold), *words], predictions / f"{name}.log", shared)
    try:
        wait_for(processes, deadline, predictions)
    finally:
        convert(predictions)


def convert(predictions: Path) -> None:
    """Label maps with BraTS's values from nnU-Net's own, which are there as soon as a case is predicted."""
    values = {index: value for value, index in LABELS.items()}
    for file in sorted(predictions.glob(f"{NAME}-fold*/*.nii.gz")):
        case = file.name.removesuffix(".nii.gz")
        write_labels(file, predictions / case / f"{case}_seg.nii.gz", values)


def batch_size(arguments: argparse.Namespace) -> list[str]:
    """The option of nnU-Net's steps, where a batch size is given."""
    return ["--batch-size", str(arguments.batch_size)] if arguments.batch_size else []


def settings(folder: Path, processes: int) -> dict[str, str]:
    """The environment through which nnU-Net is told its folders, and how many processes may work at once."""
    folders = {name: str(folder / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    number = str(processes)
    workers = {"nnUNet_n_proc_DA": number, "nnUNet_def_n_proc": number, "OMP_NUM_THREADS": "1"}
    return {**os.environ, **folders, **workers, "nnUNet_compile": "f"}


def write_dataset(folder: Path, data: Path) -> None:
    """nnU-Net's description of the data set, which points to the images where they are, its label maps and folds."""
    raw, preprocessed = folder / "nnUNet_raw" / DATASET, folder / "nnUNet_preprocessed" / DATASET
    for made in (raw / "labelsTr", preprocessed):
        made.mkdir(parents=True, exist_ok=True)
    splits = [fold_split(fold, data) for fold in range(len(read_folds()))]
    files = {}
    for entry in sorted((entry for split in splits for entry in split[SECTION]), key=lambda entry: entry["case"]):
        label = raw / "labelsTr" / f"{entry['case']}.nii.gz"
        write_labels(data / entry["label"], label, LABELS)
        images = [str(data / entry[modality]) for modality in STUDY_MODALITIES]
        files[entry["case"]] = {"images": images, "label": str(label)}
    write_json(description(files), raw / "dataset.json")
    folds = [
        {
            name: [entry["case"] for entry in split[section]]
            for name, section in (("train", "training"), ("val", SECTION))
        }
        for split in splits
    ]
    write_json(folds, preprocessed / "splits_final.json")


def description(files: Mapping[str, Any]) -> dict[str, Any]:
    """nnU-Net's dataset.json: files by case."""
    return {
        "channel_names": {str(i): MODALITY_TITLES[modality] for i, modality in enumerate(STUDY_MODALITIES)},
        "labels": {"background": 0, **{REGION_NAMES[region]: list(classes) for region, classes in REGIONS.items()}},
        "regions_class_order": list(REGION_CLASSES),
        "numTraining": len(files),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIO",
        "dataset": dict(files),
    }


def write_labels(source: Path, target: Path, values: Mapping[int, int]) -> None:
    """Copy a label map with other values: the new one by the old one."""
    labels, _ = class_indices(source, values)
    image: Any = nib.load(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, image.affine), target)


def start(arguments: list[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A step in a process group of its own, so that its workers can be ended with it."""
    with log.open("wb") as file:
        command = [sys.executable, "-m", STEPS, *arguments]
        return subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, process_group=0
        )


def wait_for(processes: Mapping[str, subprocess.Popen[bytes]], deadline: float, logs: Path) -> None:
    """Wait for all and end what is left at the deadline.

    Raises:
        ConfigurationError: naming those that failed or were ended, with the last lines of their logs.
    """
    faults = []
    try:
        for name, process in processes.items():
            try:
                status: int | str = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                status = "too late"
            if status != 0:
                lines = (logs / f"{name}.log").read_text(errors="replace").splitlines()[-LOG_LINES:]
                faults.append("\n  ".join([f"{name} ended with {status}:", *lines]))
    finally:
        for process in processes.values():
            end_group(process)
    if faults:
        raise ConfigurationError("\n".join(faults))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and the workers of one that does not."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def score(folder: Path, data: Path, results: Path) -> None:
    """Write a row for each fold that was predicted."""
    predictions = folder / "predictions"
    files = sorted(predictions.glob(f"{NAME}-fold*.json"))
    if not files:
        raise ConfigurationError(f"{predictions}: no {NAME}-fold*.json; `run` writes them.")
    convert(predictions)  # where `run` was ended before it could
    for file in files:
        cost = json.loads(file.read_text())
        fold = cost["fold"]
        figures = {
            "experiment": NAME,
            "fold": fold,
            "cases": score_fold(fold, data, predictions),
            "weights_of": None,
            "averaged_with": [],
            "revision": revision(),
            "config": [],
            "train": {},
            "evaluate": {},
            **cost,
        }
        print(f"{write_fold(figures, results)}: fold {fold}")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    training = tasks.add_parser("run", help="prepare, train and predict")
    scoring = tasks.add_parser("score", help="write to results/ what the label maps of `run` score")
    for task in (training, scoring):
        task.add_argument("folder", type=Path, help="all that nnU-Net writes goes here; predictions/ is what matters")
    training.add_argument("--seconds", type=float, default=150, help="of training, start-up not counted")
    training.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    training.add_argument("--folds", nargs="+", type=int, choices=range(4), default=[0, 1, 2, 3])
    training.add_argument("--batch-size", type=int, help="instead of the planned one, for trials")
    training.add_argument("--limit", type=float, default=3600, help="seconds after which everything is ended")
    scoring.add_argument("--results", type=Path, default=ON_GPU, help="where figures go")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # which ends the steps too
    if arguments.task == "run":
        run(arguments.folder.resolve(), real_data(), arguments)
    else:
        score(arguments.folder.resolve(), real_data(), arguments.results)


if __name__ == "__main__":
    try:
        main()
    except BratsError as error:
        sys.exit(f"error: {error}")
