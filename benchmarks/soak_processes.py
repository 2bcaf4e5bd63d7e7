"""The real command as processes of one thread, on a small network and small generated cases."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from results_page import ROOT

from workflows.phantom.phantom import generate_dataset

SETTINGS = ("--input#size_px", "64", "--network_def#width", "8", "--slices_per_step", "4", "--device", "cpu")
SETTINGS += ("--early_stop#patience", "1000000", "--config", "axial")


def start(output: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """`brats-unet` with these arguments; what it prints goes to the end of the file."""
    command = [sys.executable, "-m", "workflows", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with output.open("ab") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)


def start_training(data: Path, run: Path, epochs: int, output: Path) -> subprocess.Popen[bytes]:
    """Begin the run, or continue it."""
    options = ("--resume", "--dataset-dir", data, "--out", run)
    return start(output, "train", *options, *SETTINGS, "--max_epochs", epochs)


def finish(process: subprocess.Popen[bytes], output: Path) -> None:
    """Wait for the end; stop here where it is not a good one."""
    if process.wait():
        sys.exit(f"error: status {process.returncode}: {output.read_text()[-2000:]}")


def small_phantoms(folder: Path, cases: int) -> Path:
    """A data folder of cases of 120×120×155 voxels, generated where it does not exist."""
    if not folder.exists():
        generate_dataset(folder, cases=cases, size="small", workers=1)
    return folder
