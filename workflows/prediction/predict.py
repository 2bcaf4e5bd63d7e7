"""Prediction: which patients, with which weights, and what is written beside their label maps."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from workflows.data.find_cases import find_cases
from workflows.data.reading import BY_NAMES, Reading
from workflows.files.outputs import check_outputs
from workflows.files.prediction_names import TABLES, files_of_case
from workflows.machine.allocation import keep_freed_memory, spare_collector_the_imports
from workflows.machine.processes import use_allowed_processors
from workflows.messages.errors import ConfigurationError
from workflows.prediction.usable_cases import FAULT, entries_with_faults
from workflows.settings.bundle_files import config_files
from workflows.settings.checkpoints import (
    MODEL_CARD,
    TUNED_SETTINGS,
    check_checkpoint,
    default_checkpoint,
    settings_beside,
)
from workflows.settings.overrides import own_settings, refuse_misspelt, run_workflow

logger = logging.getLogger(__name__)

EVALUATION = "evaluation"
"""The run of `multi_gpu_evaluate.json`, which is `run` among several ranks."""


def predict(variants: Iterable[str], overrides: Mapping[str, Any]) -> None:
    """Run `inference.json`, or with the overlay `evaluate` an evaluation, as `python -m monai.bundle run` would.

    The settings that belong to the checkpoint's network are taken from the run that trained it, and what was tuned for
    it too, unless its answers are averaged with those of `more_checkpoints`, for which it was not tuned.
    """
    from monai.bundle import ConfigParser

    variants = list(variants)
    files = config_files("inference", variants)
    known = ConfigParser.load_config_files(files)
    refuse_misspelt(overrides, known)
    checkpoint = overrides.get("checkpoint") or default_checkpoint()
    check_checkpoint(checkpoint)
    own = own_settings(variants, overrides) | set(TUNED_SETTINGS if overrides.get("more_checkpoints") else ())
    run_id = EVALUATION if EVALUATION in known else "run"
    run_workflow(run_id, files, {"workflow_type": "infer", **settings_beside(checkpoint, own), **overrides})


def begin_prediction(checkpoint: str | Path, more_checkpoints: Sequence[str | Path] = ()) -> None:
    """Look for the weights before any work; raises `ConfigurationError` if there are none."""
    keep_freed_memory()
    use_allowed_processors()
    spare_collector_the_imports()
    for each in (checkpoint, *more_checkpoints):
        check_checkpoint(each)
        card = Path(each).resolve().with_name(MODEL_CARD)
        if card.is_file():
            logger.info(f"starter weights, made from few patients: see {card}; name your own by --checkpoint FILE")
        else:
            logger.info(f"weights {Path(each).resolve()}")
    if more_checkpoints:
        logger.info(f"averaging the class probabilities of {1 + len(more_checkpoints)} checkpoints")


def patients(
    patient_dir: str | Path,
    modalities: Sequence[str],
    output_dir: str | Path | None = None,
    reading: Reading = BY_NAMES,
) -> list[dict[str, Any]]:
    """The cases in a patient's folder, or in a folder of many, as MONAI's transforms take them.

    Returns:
        {"case": id, "image": [one file per modality]} for each; under `FAULT` what is wrong where one cannot be used.
    Raises:
        DatasetError: if none is found.
        ConfigurationError: if what is written to `output_dir` would lie in `patient_dir`, or replace somebody else's.
    """
    if not str(patient_dir):
        raise ConfigurationError("no patient named: give a folder by --patient_dir DIR.")
    found = find_cases(patient_dir, modalities, reading)
    closed = [{"case": folder.name, FAULT: f"{folder}: {reason}"} for folder, reason in found.closed.items()]
    entries = entries_with_faults(found.cases, modalities)
    if output_dir is not None:
        check_predictions([entry["case"] for entry in entries if FAULT not in entry], output_dir, patient_dir)
    return [*entries, *closed]


def check_predictions(cases: Iterable[str], output_dir: str | Path, data_dir: str | Path) -> None:
    """`check_outputs` of everything that the prediction of these cases may write."""
    out = Path(output_dir)
    tables = [out / name for name in TABLES]
    check_outputs([*tables, *(file for case in cases for file in files_of_case(out, case))], [data_dir])


def run(evaluator: Engine, data: Sequence[Any]) -> None:
    """Predict; where every patient is done already, only what is written at the beginning and the end is."""
    if data:
        evaluator.run()
    else:
        for event in (Events.STARTED, Events.COMPLETED):
            evaluator.fire_event(event)
