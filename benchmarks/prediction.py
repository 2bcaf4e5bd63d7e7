"""How long one patient's prediction takes, from the folder to the written label map, in a process that goes on.

    python benchmarks/prediction.py [--checkpoint RUN/model.pt] [--folder PATIENTS] [--device cuda:0] [--repeats N]

`brats-unet predict --no-report` with one network, the starter weights if none is given, on generated patients of
BraTS's shape: as it is, along its three planes all through the brain, and along the axial one alone. In turns with
them, the network pass alone of the architecture of MONAI's zoo bundle for brain tumours (3D SegResNet, 16 filters, 4
channels, random weights, one pass of 240×240×160), and of the study's network on 155 slices. Writes the section
*Prediction* of docs/benchmarks.md, of a given folder *Prediction, a folder of patients*. The whole process is timed by
startup.py.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measuring import Cost, as_glibc_does, in_turns, median, median_ratio, options, publish
from monai.bundle import ConfigWorkflow
from monai.networks.nets import SegResNet
from results_page import generate_phantoms, table

from networks.unet import UNet2D
from workflows.machine.allocation import keep_freed_memory
from workflows.settings.bundle_files import config_files
from workflows.settings.checkpoints import default_checkpoint, settings_beside
from workflows.settings.overrides import parse_overrides

OURS = "ours: folder to label map"
EVERYWHERE, AXIAL = "ours: the same, three planes all through the brain", "ours: the same, axial slices alone"
ZOO, STUDY = "zoo's SegResNet: network pass alone", "study's network: pass alone"
ZOO_KEPT = "zoo's SegResNet, keeping freed memory as ours does"
ZOO_PASS = (240, 240, 160)
SLICES_PER_BATCH = 16
OF_A_FOLDER = ", a folder of patients"


def main() -> None:
    """Time each way in turns, and print a table."""
    parser = options(__doc__, repeats=3)
    parser.add_argument("--checkpoint", type=Path, help="weights; the starter weights if not given")
    parser.add_argument("--folder", type=Path, help="patients; generated ones if not given")
    parser.add_argument("--patients", type=int, default=3, help="to generate, predicted one after another in each turn")
    parser.add_argument("--size", choices=("small", "full"), default="full", help="of the generated volumes")
    parser.add_argument("--zoo-pass", type=int, nargs=3, default=ZOO_PASS, help="voxels of the SegResNet's pass")
    parser.add_argument("--study-slices", type=int, default=155, help="of the study's network's pass")
    parser.add_argument("--setting", nargs="*", default=[], metavar="NAME=VALUE", help="settings of inference.json")
    arguments = parser.parse_args()
    settings = parse_overrides([f"--{setting}" for setting in arguments.setting])
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = arguments.folder or work / "data"
        if not arguments.folder:
            generate_phantoms(folder, arguments.patients, arguments.size)
        given = (folder, arguments.checkpoint or Path(default_checkpoint()), arguments.device, work)
        predict, patients = prediction(*given, settings)
        zoo = zoo_pass(arguments.device, arguments.zoo_pass)
        ways = {
            OURS: predict,
            EVERYWHERE: prediction(*given, {**settings, "look_again_from": 0})[0],
            AXIAL: prediction(*given, {**settings, "input#planes": ["axial"]})[0],
            ZOO: given_back(zoo),
            ZOO_KEPT: zoo,
            STUDY: given_back(study_pass(arguments.device, arguments.study_slices)),
        }
        costs = in_turns(ways, arguments.repeats, arguments.device)
    for way in (OURS, EVERYWHERE, AXIAL):
        costs[way] = [replace(c, wall_s=c.wall_s / patients, cpu_s=c.cpu_s / patients) for c in costs[way]]
    shape = "×".join(map(str, arguments.zoo_pass))
    publish(
        arguments,
        "Prediction" + OF_A_FOLDER * bool(arguments.folder),
        f"python benchmarks/prediction.py{' --folder PATIENTS' * bool(arguments.folder)}",
        rows_of(costs),
        f"{patients} {'generated ' * (not arguments.folder)}patients in one run of the command's evaluator, no report, "
        "no test-time flips; a patient's seconds are the run's divided by that number, reading, resampling, writing "
        "and the tables included. "
        "The default's network answers to axial slices all through the brain, and to coronal and sagittal ones where "
        "those find tumour plausible: the larger a tumour, the more of them. "
        f"{'The weights are the starter weights. ' * (not arguments.checkpoint)}"
        f"The SegResNet's pass is of {shape} voxels, that of the study's network of {arguments.study_slices} slices of "
        "128×128 pixels, both without reading, resampling or writing.",
        "Ours keeps memory that it has freed (`workflows/machine/allocation.py`), which glibc by itself gives back to "
        "the system; it is as much help to a network pass that is not ours.",
    )


def prediction(
    folder: Path, checkpoint: Path, device: torch.device, work: Path, settings: dict[str, Any]
) -> tuple[Callable[[], object], int]:
    """What predicts all patients of a folder anew at every call, and how many they are."""
    keep_freed_memory()  # as the command does
    fixed = {"patient_dir": str(folder), "output_dir": str(work / "out"), "checkpoint": str(checkpoint)}
    named = {**settings_beside(checkpoint), "device": str(device), "report": False, **fixed, **settings}
    workflow = ConfigWorkflow(config_files("inference"), workflow_type="infer", **named)
    workflow.initialize()
    logging.getLogger("workflows").setLevel(logging.WARNING)
    evaluator = workflow.parser.get_parsed_content("evaluator")
    return evaluator.run, len(workflow.parser.get_parsed_content("data"))


def zoo_network() -> SegResNet:
    """The network of models/brats_mri_segmentation in https://github.com/Project-MONAI/model-zoo."""
    return SegResNet(
        blocks_down=[1, 2, 2, 4], blocks_up=[1, 1, 1], init_filters=16, in_channels=4, out_channels=3, dropout_prob=0.2
    )


def zoo_pass(device: torch.device, shape: tuple[int, ...]) -> Callable[[], object]:
    """A pass of the model zoo's network over a volume of four modalities."""
    return passes(zoo_network().to(device).eval(), torch.randn(1, 4, *shape, device=device), batch=1)


def study_pass(device: torch.device, slices: int) -> Callable[[], object]:
    """A pass of the study's network over all slices of a patient."""
    return passes(UNet2D().to(device).eval(), torch.randn(slices, 2, 128, 128, device=device), SLICES_PER_BATCH)


def given_back(run: Callable[[], object]) -> Callable[[], object]:
    """The same where freed memory is given back, as it is without us."""

    def as_by_itself() -> None:
        with as_glibc_does():
            run()

    return as_by_itself


def passes(network: torch.nn.Module, inputs: torch.Tensor, batch: int) -> Callable[[], object]:
    """The network on all inputs, in the type that prediction computes in."""

    @torch.inference_mode()
    def run() -> None:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=inputs.device.type == "cuda"):
            for part in inputs.split(batch):
                network(part)

    return run


def rows_of(costs: dict[str, list[Cost]]) -> str:
    """The table in Markdown."""
    rows = []
    for name, measured in costs.items():
        middle, ratio = median(measured), median_ratio(measured, costs[OURS])
        rows.append([name, f"{middle.wall_s:.2f}", f"{middle.cpu_s:.2f}", f"{ratio.wall_s:.1f}", f"{ratio.cpu_s:.1f}"])
    return table(["per patient", "wall s", "CPU s", "wall: times ours", "CPU: times ours"], rows)


if __name__ == "__main__":
    main()
