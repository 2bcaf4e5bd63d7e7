"""What each process has to do when one training is shared by several: patients, memory, steps and CPU time.

    python benchmarks/ranks.py [--processes 1 2] [--patients 16 4] [--size-px 128]

Each figure is that of one epoch of the default training with the overlay `multi_gpu_train`, its processes started by
torchrun and talking by Gloo, each on one thread. Writes the section *Several processes* of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cache_cost import generated_cases, many, our_bytes
from measuring import options, publish
from monai.bundle import ConfigWorkflow
from results_page import ROOT, table

from workflows.machine import ranks
from workflows.settings.bundle_files import config_files

FIGURES = {
    "patients": "patients to train on, cached",
    "cached_mb": "their slices in memory, MB",
    "slices": "slices per epoch",
    "steps": "steps per epoch",
    "validated": "patients to validate, cached",
    "cpu_s": "CPU seconds of the epoch, validation included",
}


def main() -> None:
    """Measure each number of processes, and print a table."""
    parser = options(__doc__, repeats=1)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--patients", type=int, nargs=2, default=[16, 4], help="to train on and to validate")
    parser.add_argument("--cases", type=int, default=2, help="generated patients, which stand for all others")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--as-rank", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_rank:
        measure_rank(arguments.as_rank, arguments.size_px)
        return
    with tempfile.TemporaryDirectory() as folder:
        cases = generated_cases(Path(folder) / "data", arguments.cases)
        training, validation = (many(cases, number) for number in arguments.patients)
        lists = {"training": training, "validation": [{**case, "case": f"V{case['case']}"} for case in validation]}
        measured = {n: measure(Path(folder) / str(n), n, lists, arguments.size_px) for n in arguments.processes}
    publish(
        arguments,
        "Several processes",
        command_of(arguments),
        rows_of(measured),
        f"Phantom: {arguments.cases} generated patients of 120×120×155 voxels stand for all; overlay axial. Where "
        "processes differ, the largest figure is shown. Patients, memory, slices and steps divide by the number of "
        "processes. CPU seconds also hold what does not: averaging gradients, waiting for each other, and what the "
        "first process alone writes; how much each of these takes was not measured. One run on a busy machine: read "
        "them as a rough ratio.",
        "The time of an epoch is not given: processes that share two cores cannot show whether it halves where each "
        "has a processor or GPU of its own. They talked by Gloo on CPUs; NCCL on GPUs was not run.",
    )


def command_of(arguments: argparse.Namespace) -> str:
    """The command that repeats this measurement."""
    patients = " ".join(map(str, arguments.patients))
    return f"python benchmarks/ranks.py --patients {patients} --size-px {arguments.size_px}"


def measure(folder: Path, processes: int, lists: Mapping[str, Any], size_px: int) -> list[dict[str, float]]:
    """One epoch by so many processes; what each of them reports."""
    folder.mkdir()
    (folder / "patients.json").write_text(json.dumps(lists))
    launcher = ("-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone")
    command = [sys.executable, *launcher, __file__, "--as-rank", str(folder), "--size-px", str(size_px)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"error: {processes} processes: status {ended.returncode}: {ended.stderr[-2000:]}")
    return [json.loads(file.read_text()) for file in sorted(folder.glob("rank*.json"))]


def measure_rank(folder: Path, size_px: int) -> None:
    """What `torchrun` starts: one epoch of this rank's share."""
    ranks.begin("cpu")
    lists = json.loads((folder / "patients.json").read_text())
    from workflows.data.label_conventions import LABEL_CONVENTIONS

    datalist = {**lists, "testing": [], "label_values": dict(LABEL_CONVENTIONS["brats-to-2022"].classes)}
    (folder / "run").mkdir(exist_ok=True)
    settings = {"run_dir": str(folder / "run"), "input#size_px": size_px, "max_epochs": 1, "device": "cpu"}
    workflow = ConfigWorkflow(config_files("train", ["axial", "multi_gpu_train"]), workflow_type="train", **settings)
    workflow.parser["datalist"] = datalist
    workflow.initialize()
    content = workflow.parser.get_parsed_content
    trainer, cached = content("train#trainer"), content("train#dataset")
    content("early_stop").set_trainer(trainer)
    content("ema").attach(trainer)
    started = time.process_time()
    trainer.run()
    report = {
        "patients": cached.cached_cases,
        "cached_mb": our_bytes(cached) / 1e6,
        "slices": trainer.data_loader.batch_sampler.per_epoch,
        "steps": trainer.state.iteration,
        "validated": content("validate#dataset").cached_cases,
        "cpu_s": time.process_time() - started,
    }
    (folder / f"rank{ranks.rank():03d}.json").write_text(json.dumps(report))


def rows_of(measured: Mapping[int, Sequence[Mapping[str, float]]]) -> str:
    """The table in Markdown."""
    fewest = min(measured)

    def row(name: str, shown: str) -> list[str]:
        most = {number: max(report[name] for report in reports) for number, reports in measured.items()}
        form = "{:.1f}" if name in ("cached_mb", "cpu_s") else "{:.0f}"
        cells = [form.format(value) for value in most.values()]
        return [shown, *cells, *(f"{most[number] / most[fewest]:.2f}" for number in measured if number != fewest)]

    words = [f"{number} process{'es, each' if number > 1 else ''}" for number in measured]
    ratios = [f"{number} / {fewest}" for number in measured if number != fewest]
    return table(["", *words, *ratios], [row(name, shown) for name, shown in FIGURES.items()])


if __name__ == "__main__":
    main()
