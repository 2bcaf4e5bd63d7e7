"""How long the study's training takes on one GPU: its exact setting on generated patients, against plain MONAI.

    python benchmarks/study_on_gpu.py [--device cuda:0] [--profile FILE]

The overlay `seed`: the network of 7.76 million parameters, 250 patients to train and 74 to validate, 75 slices of
128×128 pixels, one patient per step, 35 epochs, caching not counted. Writes the section *The study's setting on one
GPU* of docs/benchmarks.md, and without a GPU leaves it as it is, unless `--any-device` is given, for a trial with
`--patients 2 1 --epochs 1 --size-px 32 --width 4`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from cache_cost import generated_cases, many
from ignite.metrics import Loss
from measuring import Cost, cost_of, options, publish
from monai.bundle import ConfigWorkflow
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler
from plain_monai import plain_dataset, plain_trainer, slices_as_batch
from results_page import table
from torch.utils.data import Subset
from training_step import MATRIX_EDGE, SELF_TIME, NetworkAlone, operator_times, profiled

from networks.unet import UNet2D
from transforms.windows import STUDY_WINDOW
from workflows.settings.bundle_files import config_files

TRAINING, VALIDATION, EPOCHS = 250, 74, 35
SLICES = STUDY_WINDOW[1] - STUDY_WINDOW[0]
PROFILED_STEPS, NAMED_OPERATORS = 10, 6
AIM_MINUTES = 3


def main() -> None:
    """Time both trainings, and write the section."""
    parser = options(__doc__, repeats=1)
    parser.add_argument("--any-device", action="store_true", help="measure without a GPU too")
    parser.add_argument("--patients", type=int, nargs=2, default=(TRAINING, VALIDATION))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--plain-epochs", type=int, default=1, help="of the baseline; 35 are reckoned from them")
    parser.add_argument("--cases", type=int, default=8, help="generated patients, which stand for all others")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--width", type=int, default=32, help="channels of the first level")
    parser.add_argument("--profile", type=Path, help="write torch's profile of ten steps here")
    arguments = parser.parse_args()
    if arguments.device.type == "cpu" and not arguments.any_device:
        print("unmeasured: no GPU is at hand, and the page keeps the figures that it has")
        return
    with tempfile.TemporaryDirectory() as folder:
        cases = generated_cases(Path(folder) / "data", arguments.cases)
        training, validation = (many(cases, number) for number in arguments.patients)
        workflow = study(Path(folder), training, validation, arguments)
        trainer = workflow.parser.get_parsed_content("train#trainer")  # fills the cache
        workflow.parser.get_parsed_content("early_stop").set_trainer(trainer)
        ours = cost_of(trainer.run, arguments.device)
        plain_run = plain(cases, arguments)
        baseline = cost_of(plain_run, arguments.device)
        where = profile(trainer, arguments)
    publish_measured(arguments, ours, baseline, where)


def study(work: Path, training: list[Any], validation: list[Any], arguments: argparse.Namespace) -> ConfigWorkflow:
    """The training of `seed`, on these patients."""
    (work / "run").mkdir()
    named = {"dataset_dir": str(work / "data"), "run_dir": str(work / "run"), "input#size_px": arguments.size_px}
    named |= {"device": str(arguments.device), "max_epochs": arguments.epochs, "network_def#width": arguments.width}
    patients = {"train#dataset#data": training, "validate#dataset#data": validation, "cache_dir": str(work / "cache")}
    workflow = ConfigWorkflow(config_files("train", ["seed"]), workflow_type="train", **named, **patients)
    workflow.initialize()
    return workflow


def plain(cases: list[Any], arguments: argparse.Namespace) -> Any:
    """`run` of the baseline with as many validations as epochs."""
    device, network = arguments.device, UNet2D(width=arguments.width)
    cached = plain_dataset(cases, arguments.size_px, STUDY_WINDOW)
    training, validation = (Subset(cached, [i % len(cases) for i in range(n)]) for n in arguments.patients)
    trainer = plain_trainer(training, network, device, arguments.plain_epochs)
    loss = Loss(trainer.loss_function, output_transform=lambda output: (output["pred"], output["label"]))
    evaluator = SupervisedEvaluator(
        device=device,
        val_data_loader=DataLoader(validation, batch_size=1),
        network=network,
        prepare_batch=slices_as_batch,
        key_val_metric={"val_loss": loss},
        decollate=False,
        amp=device.type == "cuda",
        amp_kwargs={"dtype": torch.bfloat16},
    )
    ValidationHandler(interval=1, validator=evaluator).attach(trainer)
    return trainer.run


def profile(trainer: Any, arguments: argparse.Namespace) -> str:
    """Where the time of some more steps goes, in words; torch's whole table into a file on request."""
    device, steps = arguments.device, min(PROFILED_STEPS, len(trainer.data_loader))
    batches = itertools.islice(trainer.data_loader, steps)
    averages = profiled(lambda: [trainer._process_function(trainer, batch) for batch in batches], device)
    if arguments.profile:
        arguments.profile.write_text(averages.table(sort_by=SELF_TIME[device.type], row_limit=30))
    return in_words(operator_times(averages, device), steps, "GPU" if device.type == "cuda" else "CPU")


def in_words(taken: Mapping[str, float], steps: int, device: str) -> str:
    """The operators that take most of a step, from microseconds by operator."""
    total = sum(taken.values())
    most = sorted(taken, key=lambda name: -taken[name])[:NAMED_OPERATORS]
    shares = ", ".join(f"{name.removeprefix('aten::')} {taken[name] / total:.0%}" for name in most)
    return f"By torch's profiler of {steps} steps the {device} works {total / steps / 1000:.1f} ms in each: {shares}."


def publish_measured(arguments: argparse.Namespace, ours: Cost, baseline: Cost, where: str) -> None:
    """Write the section with the table of both trainings."""
    device = arguments.device
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    alone = NetworkAlone(UNet2D(width=arguments.width).to(device), SLICES, arguments.size_px, dtype)
    edge = MATRIX_EDGE[device.type]
    matrix = torch.randn(edge, edge, device=device, dtype=dtype)
    product = [cost_of(lambda: matrix @ matrix, device).wall_s for _ in range(10)][1:]
    product_rate = 2 * edge**3 / statistics.median(product)
    flops_per_slice = alone.flops() / SLICES
    rows = []
    for name, cost, epochs in (("ours", ours, arguments.epochs), ("plain MONAI", baseline, arguments.plain_epochs)):
        training, validation = arguments.patients
        slices = SLICES * epochs * (training + validation / 3)
        rate = slices / cost.wall_s
        share = f"{rate * flops_per_slice / product_rate:.1%}"
        minutes = cost.wall_s / epochs * EPOCHS / 60
        rows.append([name, f"{minutes:.2f}", f"{cost.wall_s / epochs:.1f}", f"{rate:.0f}", share])
    publish(
        arguments,
        "The study's setting on one GPU",
        "python benchmarks/study_on_gpu.py",
        table(
            ["", f"minutes for {EPOCHS} epochs", "seconds per epoch", "slices/s", "share of the matrix product's rate"],
            rows,
        ),
        f"{arguments.patients[0]} patients to train and {arguments.patients[1]} to validate, {arguments.epochs} epochs "
        f"of ours, {arguments.plain_epochs} of the baseline. The matrix product of {edge}×{edge} in "
        f"{str(dtype).removeprefix('torch.')} reaches {product_rate / 1e12:.2f} TFLOP/s. In slices/s "
        "a validated slice counts as a third of one trained on, as do its operations. The aim is less than "
        f"{AIM_MINUTES} minutes on one H200, caching not counted.",
        where,
    )


if __name__ == "__main__":
    main()
