"""What `compare-networks` does with one network, each step in a process of its own: measure, train, score.

Heavy imports are inside the functions: the process that waits needs none of them.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workflows.files.json_files import write_json
from workflows.files.run_folder import MODEL
from workflows.settings.bundle_files import config_files
from workflows.training.train import LAST_EPOCH, train

warnings.filterwarnings("ignore", message="parsing config_file")  # in these processes too, as in the command's own


def measure_steps(variants: Sequence[str], settings: Mapping[str, Any], out: Path) -> None:
    """Do the first steps of the training itself and write what they cost, see `network_costs.StepCosts`."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        train([*variants, "measure_steps"], {**settings, **LAST_EPOCH, "run_dir": str(run)})
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(run / "steps.json", out)


def train_network(
    variants: Sequence[str], settings: Mapping[str, Any], epochs: int, run: Path, cost_file: Path
) -> None:
    """Train for that many epochs; write what the whole process took, once it is done."""
    from workflows.comparing.network_costs import peak_memory

    started = time.monotonic()
    train(variants, {**settings, **LAST_EPOCH, "max_epochs": epochs, "run_dir": str(run)})
    seconds = {"cpu_seconds": time.process_time(), "wall_seconds": time.monotonic() - started}
    write_json({"epochs": epochs, **seconds, **peak_memory()}, cost_file)


def score_network(settings: Mapping[str, Any], run: Path, section: str, out: Path) -> None:
    """Evaluate the weights after the last epoch as `brats-unet evaluate` does, and measure the prediction.

    Args:
        settings: of the training; those that inference knows too are used here.
    """
    from monai.bundle import ConfigParser

    from workflows.evaluation.evaluate_checkpoint import run_evaluation

    known = ConfigParser.load_config_files(config_files("inference", ["evaluate"]))
    shared = {name: value for name, value in settings.items() if name.replace("::", "#").split("#")[0] in known}
    own = {"checkpoint": str(run / MODEL), "output_dir": str(out), "section": section}
    run_evaluation(["measure_prediction"], {**shared, **own, "split_file": str(run / "split.json")})
