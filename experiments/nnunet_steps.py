"""The steps of `experiments.nnunet` that need nnU-Net, each in a process of its own.

nnU-Net's folders come in the environment.

python -m experiments.nnunet_steps prepare
python -m experiments.nnunet_steps fold FOLD --seconds SECONDS --device DEVICE --out PREDICTIONS
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import convert_id_to_dataset_name
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from transforms.files import write_whole

CONFIGURATION = "2d"
PLANS = "nnUNetPlans"
DATASET_NUMBER = 1
TENTHS = 10


def preprocessed(name: str) -> Path:
    """A file of the preprocessed data set."""
    return Path(nnUNet_preprocessed, convert_id_to_dataset_name(DATASET_NUMBER), name)


def prepare(batch_size: int | None) -> None:
    """Fingerprint, plans and preprocessed cases, all by nnU-Net's defaults but for a batch size that is given."""
    extract_fingerprint_dataset(DATASET_NUMBER)
    plan_experiment_dataset(DATASET_NUMBER)
    file = preprocessed(f"{PLANS}.json")
    if batch_size:
        plans = json.loads(file.read_text())
        plans["configurations"][CONFIGURATION]["batch_size"] = batch_size
        file.write_text(json.dumps(plans))
    configuration = PlansManager(str(file)).get_configuration(CONFIGURATION)
    # nnU-Net's own preprocess_dataset also copies the label maps, with a module that Python 3.12 no longer has.
    configuration.preprocessor_class(verbose=False).run(DATASET_NUMBER, CONFIGURATION, PLANS, default_num_processes)


class TimedTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnU-Net is installed in an environment of its own
    """nnU-Net's trainer for a number of seconds instead of a number of epochs.

    The learning rate follows nnU-Net's curve over the share of the seconds that has passed. Nothing is validated on the
    way. What comes before the second step, the start of the workers above all, is not counted as time.
    """

    seconds: float

    def run_training(self) -> None:
        """Train until the time is used up, in place of a number of epochs."""
        self.on_train_start()
        self.dataloader_val._finish()
        self.network.train()
        self.losses = [float(self.train_step(next(self.dataloader_train))["loss"])]
        self.waited_s = 0.0
        cpu, started = cpu_seconds(), time.monotonic()
        while (share := (time.monotonic() - started) / self.seconds) < 1:
            self.lr_scheduler.step(share * self.num_epochs)
            asked = time.monotonic()
            batch = next(self.dataloader_train)
            self.waited_s += time.monotonic() - asked
            self.losses.append(float(self.train_step(batch)["loss"]))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.took_s, self.cpu_s = time.monotonic() - started, cpu_seconds() - cpu
        self.on_train_end()


def cpu_seconds() -> float:
    """Of this process and its workers, those that have ended included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [process.cpu_times() for process in (psutil.Process(), *psutil.Process().children(recursive=True))]
    return float(ended.ru_utime + ended.ru_stime + sum(times.user + times.system for times in running))


@contextmanager
def measured(costs: dict[str, float]) -> Iterator[None]:
    """Add wall clock and CPU time to costs."""
    cpu, started = cpu_seconds(), time.monotonic()
    yield
    for name, spent in (("cpu_seconds", cpu_seconds() - cpu), ("wall_seconds", time.monotonic() - started)):
        costs[name] = round(costs.get(name, 0.0) + spent, 1)


def train(fold: int, seconds: float, device: torch.device) -> TimedTrainer:
    """Train one fold for that many seconds."""
    if device.type == "cuda":  # as nnU-Net's own command does
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = True
    plans = {**json.loads(preprocessed(f"{PLANS}.json").read_text()), "continue_training": False}
    description = json.loads(preprocessed("dataset.json").read_text())
    trainer = TimedTrainer(plans, CONFIGURATION, fold, description, device)
    trainer.seconds = seconds
    trainer.run_training()
    return trainer


def predict(trainer: TimedTrainer, label_maps: Path) -> dict[str, Any]:
    """Write the label maps of the fold's cases, by nnU-Net's numbers; what that cost, and the seconds of each case."""
    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    label_maps.mkdir(exist_ok=True)
    costs: dict[str, Any] = {}
    by_case: dict[str, float] = {}
    for case in trainer.do_split()[1]:
        started = time.monotonic()
        images = trainer.dataset_json["dataset"][case]["images"]
        with measured(costs):
            predictor.predict_from_files_sequential([images], [str(label_maps / case)])
        by_case[case] = round(time.monotonic() - started, 2)
    return {**costs, "seconds_by_case": by_case}


def record(trainer: TimedTrainer, prediction: dict[str, Any]) -> dict[str, Any]:
    """What a fold cost and what it was."""
    configuration, on_gpu = trainer.configuration_manager, trainer.device.type == "cuda"
    iterations = len(trainer.losses)
    return {
        "fold": trainer.fold,
        "epochs": round(iterations / trainer.num_iterations_per_epoch, 1),
        "iterations": iterations,
        "training": {
            "cpu_seconds": round(trainer.cpu_s, 1),
            "wall_seconds": round(trainer.took_s, 1),
            "share_waiting_for_batches": round(trainer.waited_s / trainer.took_s, 3),
        },
        "prediction": prediction,
        "losses": [round(float(np.mean(part)), 4) for part in np.array_split(trainer.losses, TENTHS) if len(part)],
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if on_gpu else None,
        "cores": os.cpu_count(),
        "workers": get_allowed_n_proc_DA(),
        "batch_size": configuration.batch_size,
        "patch_size": [int(edge) for edge in configuration.patch_size],
        "parameters": sum(weights.numel() for weights in trainer.network.parameters()),
        "versions": {name: version(name) for name in ("nnunetv2", "torch")},
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Do the step that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    preparing, folding = steps.add_parser("prepare"), steps.add_parser("fold")
    preparing.add_argument("--batch-size", type=int)
    folding.add_argument("fold", type=int)
    folding.add_argument("--seconds", type=float, required=True)
    folding.add_argument("--device", type=torch.device, required=True)
    folding.add_argument("--label-maps", type=Path, required=True)
    folding.add_argument("--record", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        prepare(arguments.batch_size)
        return
    trainer = train(arguments.fold, arguments.seconds, arguments.device)
    figures = record(trainer, predict(trainer, arguments.label_maps))
    text = json.dumps(figures, indent=2, ensure_ascii=False)
    write_whole(arguments.record, lambda path: path.write_text(text))


if __name__ == "__main__":
    main()
